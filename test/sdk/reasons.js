// reasons.js: why sqsbridge decides otherwise than AWS's SDK for JavaScript.
// Each of them is the reason of one case or more; see cases.js.

'use strict';

module.exports = {
	no_next_source: `What is configured is used, or its error is shown.  The SDK goes on to the next source, and
		ends up with the rights of the instance, or with an error that does not say what was wrong.`,
	half_configured: `Half of a configuration is a mistake, not the wish for another source.`,
	malformed_is_an_error: `A line that cannot be read may be the one that matters; the error names file and line.
		The SDK passes over it.`,
	expired_is_an_error: `Keys that have expired are refused by AWS; a server's environment never changes, and the error
		says so.`,
	environment_first: `Keys in the environment come before AWS_PROFILE, as in the SDKs for Java and Go, and in botocore.
		The SDK for JavaScript warns of what it does, and that it may change.`,
	web_identity_first: `A token for web identity comes before profiles, as in the SDK for Go: who runs a pod with a
		service account's role does not want a file in the image to decide.`,
	profile_web_identity_first: `Within a profile, web identity comes before keys, as in botocore.`,
	role_without_source: `A profile with role_arn and nothing to assume it with is an error, rather than a profile
		without the role.`,
	default_profile_variable: `AWS_DEFAULT_PROFILE is read after AWS_PROFILE; botocore and the command line know it.`,
	default_region_variable: `AWS_DEFAULT_REGION is read after AWS_REGION; botocore and the command line know it.`,
	names_the_source: `The error says where the keys should have come from.`,
	no_process: `credential_process runs a program as the server's user, which a superuser's setting has to allow.`,
	more_headings: `Blanks in headings, and in names, can mean nothing else.`,
	case_of_keys: `Upper and lower case make no difference in keys and in words, as in botocore.`,
	container_variables: `The relative URI comes before the full one, as AWS's guide to its SDKs says, and the file of
		the token before the token, as in botocore and the SDK for Rust.`,
	profile_option: `The profile of option profile is the profile for everything.`,
	circle: `A circle is a mistake even if there are keys in it, as in botocore.`,
	one_region: `STS is asked where SQS is, as in botocore; the SDK prefers the region of the profile for STS alone.`,
	five_roles: `More than five roles, one assumed with the other, are taken for a mistake.`,
	no_version_1: `Version 1 of instance metadata is not asked: a proxy that can be fooled gives its keys away.`,
	tls: `Without TLS, messages and tokens go to this machine only, unless the server has option allow_http.`,
	newline_after_token: `The newline that an editor puts at the end of a file is not of the token.`,
	duration_of_web_identity: `duration_seconds of a profile counts for web identity, too, rather than being
		passed over without a word.`,
	disabled_is_disabled: `AWS_EC2_METADATA_DISABLED counts even if instance metadata is asked for by name.`,
	one_way_to_fips: `The old names of regions, such as fips-us-west-2, are refused; the error says how to ask for FIPS.`,
	empty_is_not_set: `An empty variable is one that is not set.`,
	no_path: `An endpoint of SQS has no path: that is where the queue's URL has its own.`,
	mapping_alone: `With keys of a user mapping, the environment of the server neither redirects nor lends: it is
		not the user's.`
};
