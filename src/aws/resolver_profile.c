/*-------------------------------------------------------------------------
 *
 * resolver_profile.c
 *	  From a profile to its source of keys, and the roles on the way.
 *
 * Within a profile: role_arn with source_profile or credential_source, then
 * web_identity_token_file, static keys, credential_process.  In a profile that
 * is another one's source_profile, static keys come first, as in the AWS CLI.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "aws/resolver.h"

/* The duration of a role's session; 0: not given. */
static int
get_duration(Resolver *r, const char *profile)
{
	const char *value = resolver_get(r, profile, "duration_seconds");
	char	   *end;
	long		seconds;

	if (value == NULL)
		return 0;
	seconds = strtol(value, &end, 10);
	if (*end == '\0' && seconds >= AWS_DURATION_MIN && seconds <= AWS_DURATION_MAX)
		return (int) seconds;
	(void) resolver_fail(r, "InvalidProfile", "profile \"%s\" (%s:%d): duration_seconds must be an integer from %d to %d",
						 profile, r->found.path, r->found.line, AWS_DURATION_MIN, AWS_DURATION_MAX);
	return 0;
}

/* Add a role, which is to be assumed with what comes before it. */
AwsAssumeRole *
resolver_add_role(Resolver *r, const char *role_arn, const char *external_id,
				  const char *session_name, int duration, const char *where)
{
	AwsAssumeRole *role;

	if (r->identity->nroles == AWS_ROLES_MAX)
	{
		(void) resolver_fail(r, "InvalidProfile", "%s: more than %d roles would have to be assumed, one after the other",
							 where, AWS_ROLES_MAX);
		return NULL;
	}
	role = &r->identity->roles[r->identity->nroles++];
	role->duration_seconds = duration;
	if (!resolver_check_role_arn(r, role_arn, where) ||
		!resolver_set_text(r, &role->role_arn, role_arn) ||
		!resolver_set_text(r, &role->external_id, external_id) ||
		!resolver_set(r, &role->session_name, "%s",
					  is_given(session_name) ? session_name : AWS_DEFAULT_SESSION_NAME) ||
		!resolver_set_text(r, &role->where, where))
		return NULL;
	return role;
}

static bool
has_static_keys(Resolver *r, const char *profile)
{
	return resolver_get(r, profile, "aws_access_key_id") != NULL ||
		resolver_get(r, profile, "aws_secret_access_key") != NULL;
}

static bool
use_profile_keys(Resolver *r, const char *profile)
{
	const char *id = resolver_get(r, profile, "aws_access_key_id");
	AwsProfileValue where = r->found;
	const char *secret = resolver_get(r, profile, "aws_secret_access_key");
	char		what[300];

	if (id == NULL)
		where = r->found;
	snprintf(what, sizeof(what), "profile \"%.100s\" (%s:%d)", profile,
			 where.path != NULL ? where.path : "", where.line);
	if (r->failed)
		return false;
	if (id == NULL || secret == NULL)
		return resolver_fail(r, "InvalidCredentials", "%s has %s but not %s", what,
							 id != NULL ? "aws_access_key_id" : "aws_secret_access_key",
							 id != NULL ? "aws_secret_access_key" : "aws_access_key_id");
	return resolver_use_keys(r, AWS_SOURCE_PROFILE_KEYS, id, secret, resolver_get(r, profile, "aws_session_token")) &&
		resolver_set_text(r, &r->identity->source, what) &&
		resolver_check_keys(r, what, "aws_access_key_id", "aws_secret_access_key", "aws_session_token");
}

/* The source that a profile's credential_source names. */
static bool
use_named_source(Resolver *r, const char *name, const char *where)
{
	char		message[sizeof(r->error->message)];

	if (strcmp(name, "Environment") == 0 ? resolver_use_environment(r) :
		strcmp(name, "Ec2InstanceMetadata") == 0 ? resolver_use_metadata(r) :
		strcmp(name, "EcsContainer") == 0 ? resolver_use_container(r) :
		resolver_fail(r, "InvalidProfile", "credential_source must be Environment, Ec2InstanceMetadata or EcsContainer"))
		return true;

	/* tell who wants it */
	if (r->error->class == AWS_ERROR_CREDENTIALS)
	{
		strlcpy(message, r->error->message, sizeof(message));
		snprintf(r->error->message, sizeof(r->error->message), "%s: %s", where, message);
	}
	return false;
}

/* What takes a person or a program, or is missing; there is nothing else. */
static bool
use_process_or_fail(Resolver *r, const char *profile)
{
	static const char *const login_keys[] = {
		"sso_session", "sso_start_url", "sso_account_id", "sso_role_name", "login_session"
	};
	const char *command = resolver_get(r, profile, "credential_process");
	char		missing[512];

	if (command != NULL)
	{
		if (!r->options->allow_process)
			return resolver_fail(r, "UnsupportedSource", "profile \"%s\" (%s:%d) has credential_process, which is a program to be run by the database server, and that is not allowed",
								 profile, r->found.path, r->found.line);
		r->identity->kind = AWS_SOURCE_PROCESS;
		return resolver_set_text(r, &r->identity->command, command) &&
			resolver_set(r, &r->identity->source, "credential_process of profile \"%s\" (%s:%d)",
						 profile, r->found.path, r->found.line);
	}
	for (size_t i = 0; i < lengthof(login_keys); i++)
	{
		if (resolver_get(r, profile, login_keys[i]) != NULL)
			return resolver_fail(r, "UnsupportedSource", "profile \"%s\" (%s:%d) has %s: keys that depend on somebody having logged in are not supported; give the database server a role (instance metadata, container, web identity), or use credential_process = aws configure export-credentials --profile NAME",
								 profile, r->found.path, r->found.line, login_keys[i]);
	}
	if (r->failed)
		return false;
	if (!aws_profile_exists(&r->profiles, profile))
	{
		aws_profile_missing(&r->profiles, profile, missing, sizeof(missing));
		return resolver_fail(r, "InvalidProfile", "profile \"%s\" %s", profile, missing);
	}
	return resolver_fail(r, "InvalidProfile", "profile \"%s\" has no keys, role_arn, web_identity_token_file or credential_process",
						 profile);
}

/*
 * Follow a profile to its source of keys.  Roles are added in the order of the
 * profiles, the last one to be assumed first; the caller reverses it.
 *
 * A profile may name itself as source_profile if it has keys.  Otherwise a
 * profile that comes again is a loop, even if its keys would end it; so in
 * botocore, but not in JavaScript.
 */
static bool
follow_profile(Resolver *r, const char *profile)
{
	const char *visited[AWS_ROLES_MAX + 1];
	int			nvisited = 0;

	for (;;)
	{
		const char *role_arn = resolver_get(r, profile, "role_arn");
		AwsProfileValue role_place = r->found;
		const char *source_profile = resolver_get(r, profile, "source_profile");
		const char *credential_source = resolver_get(r, profile, "credential_source");
		const char *token_file = resolver_get(r, profile, "web_identity_token_file");
		AwsProfileValue token_place = r->found;
		const char *session_name;
		char		where[300];

		if (r->failed)
			return false;
		if (nvisited > 0 && has_static_keys(r, profile))
			return use_profile_keys(r, profile);

		if (role_arn == NULL || (token_file != NULL && !(source_profile == NULL) == !(credential_source == NULL)))
		{
			/* no role, or the role of the token */
			if (token_file != NULL)
			{
				snprintf(where, sizeof(where), "profile \"%.100s\" (%s:%d)", profile,
						 token_place.path, token_place.line);
				if (role_arn == NULL)
					return resolver_fail(r, "InvalidProfile", "%s has web_identity_token_file but not role_arn", where);
				r->identity->duration_seconds = get_duration(r, profile);
				session_name = resolver_get(r, profile, "role_session_name");
				if (session_name == NULL)
					session_name = resolver_env(r, "AWS_ROLE_SESSION_NAME");
				return !r->failed && resolver_use_web_identity(r, token_file, role_arn, session_name, where);
			}
			if (has_static_keys(r, profile))
				return use_profile_keys(r, profile);
			if (credential_source != NULL)
			{
				/* JavaScript has this in a source_profile only */
				snprintf(where, sizeof(where), "profile \"%.100s\" with credential_source", profile);
				return use_named_source(r, credential_source, where);
			}
			return use_process_or_fail(r, profile);
		}

		snprintf(where, sizeof(where), "profile \"%.100s\" (%s:%d)", profile,
				 role_place.path, role_place.line);
		if (source_profile != NULL && credential_source != NULL)
			return resolver_fail(r, "InvalidProfile", "%s has role_arn with both source_profile and credential_source; it must have one of them", where);
		if (source_profile == NULL && credential_source == NULL)
			return resolver_fail(r, "InvalidProfile", "%s has role_arn, but neither source_profile nor credential_source, which say whose keys assume the role", where);
		if (resolver_get(r, profile, "mfa_serial") != NULL)
			return resolver_fail(r, "UnsupportedSource", "%s has mfa_serial, but a database server cannot enter a code; let it assume a role that does not demand MFA", where);
		if (resolver_add_role(r, role_arn, resolver_get(r, profile, "external_id"), resolver_get(r, profile, "role_session_name"),
							  get_duration(r, profile), where) == NULL || r->failed)
			return false;
		if (credential_source != NULL)
			return use_named_source(r, credential_source, where);

		if (!aws_profile_exists(&r->profiles, source_profile))
		{
			char		missing[512];

			aws_profile_missing(&r->profiles, source_profile, missing, sizeof(missing));
			return resolver_fail(r, "InvalidProfile", "%s has source_profile \"%.100s\", which %s",
								 where, source_profile, missing);
		}
		if (strcmp(source_profile, profile) == 0 && has_static_keys(r, profile))
			return use_profile_keys(r, profile);
		visited[nvisited++] = profile;
		for (int i = 0; i < nvisited; i++)
		{
			if (strcmp(visited[i], source_profile) == 0)
				return resolver_fail(r, "InvalidProfile", "%s has source_profile \"%.100s\", which leads back to it",
									 where, source_profile);
		}
		profile = source_profile;
	}
}

bool
resolver_use_profile(Resolver *r)
{
	AwsIdentity *identity = r->identity;

	if (!follow_profile(r, r->profile))
		return false;
	for (int i = 0, j = identity->nroles - 1; i < j; i++, j--)
	{
		AwsAssumeRole swap = identity->roles[i];

		identity->roles[i] = identity->roles[j];
		identity->roles[j] = swap;
	}
	return true;
}
