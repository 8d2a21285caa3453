/*-------------------------------------------------------------------------
 *
 * identity.c
 *	  Which keys to use and where to use them.
 *
 * The first source that is configured is the source, and if it cannot work, the
 * error is reported instead of trying the next one.  SDKs go on in some of these
 * cases; a server that quietly uses another identity after a typing error
 * would be worse than one that stops.  Without an explicit choice:
 *
 *	1. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
 *	2. AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN
 *	3. the profile that AWS_PROFILE (or AWS_DEFAULT_PROFILE) names, or the
 *	   profile "default" if it has anything to do with credentials
 *	4. AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or ..._FULL_URI
 *	5. instance metadata, unless AWS_EC2_METADATA_DISABLED is true
 *
 * Within a profile: role_arn with source_profile or credential_source, then
 * web_identity_token_file, static keys, credential_process.  In a profile that
 * is another one's source_profile, static keys come first, as in the AWS CLI.
 *
 * An empty variable, key or option is the same as none.  Everything is read
 * anew each time; nothing is kept here.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include <stdarg.h>
#include <time.h>

#include "aws/credentials.h"
#include "aws/endpoint.h"
#include "aws/identity.h"
#include "aws/profile.h"
#include "aws/secret.h"

#define CONTAINER_HOST		"169.254.170.2"
#define METADATA_URL		"http://169.254.169.254"
#define METADATA_URL_IPV6	"http://[fd00:ec2::254]"

/* Where plain http may carry the token of a container, besides loopback. */
static const char *const container_hosts[] = {
	CONTAINER_HOST,				/* ECS */
	"169.254.170.23",			/* EKS Pod Identity */
	"[fd00:ec2::23]"
};

/* A profile with one of these is about credentials. */
static const char *const credential_keys[] = {
	"aws_access_key_id", "aws_secret_access_key", "role_arn", "credential_source",
	"web_identity_token_file", "credential_process", "sso_session",
	"sso_start_url", "sso_account_id", "login_session"
};

/* The state of one aws_identity_resolve(). */
typedef struct Resolver
{
	const AwsIdentityOptions *options;
	AwsIdentity *identity;
	AwsError   *error;
	bool		failed;			/* *error is set */
	AwsGetenv	getenv;
	bool		is_static;		/* files and variables do not matter, but for
								 * AWS_CA_BUNDLE */
	AwsProfiles profiles;
	const char *profile;		/* the one that applies */
	AwsProfileValue found;		/* by the last get() */
} Resolver;

static bool
is_given(const char *value)
{
	return value != NULL && value[0] != '\0';
}

/* Only the first error counts.  Always returns false. */
static bool fail(Resolver *r, const char *code, const char *fmt, ...) pg_attribute_printf(3, 4);

static bool
fail(Resolver *r, const char *code, const char *fmt, ...)
{
	char		message[sizeof(r->error->message)];
	va_list		args;

	if (r->failed)
		return false;
	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	aws_error_set(r->error, AWS_ERROR_CREDENTIALS, code, "%s", message);
	r->failed = true;
	return false;
}

static bool
out_of_memory(Resolver *r)
{
	if (!r->failed)
		aws_error_set(r->error, AWS_ERROR_RESOURCES, "NoResources", "out of memory");
	r->failed = true;
	return false;
}

/* Set a field of the identity. */
static bool set(Resolver *r, char **field, const char *fmt, ...) pg_attribute_printf(3, 4);

static bool
set(Resolver *r, char **field, const char *fmt, ...)
{
	va_list		args;
	int			rc;

	aws_secret_free(*field);
	va_start(args, fmt);
	rc = vasprintf(field, fmt, args);
	va_end(args);
	if (rc >= 0)
		return true;
	*field = NULL;
	return out_of_memory(r);
}

/* Set it to a text; leave it NULL if that is not given. */
static bool
set_text(Resolver *r, char **field, const char *text)
{
	aws_secret_free(*field);
	*field = NULL;
	/* not by set(), because vasprintf() may leave another copy in memory */
	return !is_given(text) || (*field = strdup(text)) != NULL || out_of_memory(r);
}

static const char *
env(const Resolver *r, const char *name)
{
	const char *value = r->getenv(name);

	return is_given(value) ? value : NULL;
}

/* A key of a profile; NULL if it is not set, or if this failed. */
static const char *
get(Resolver *r, const char *profile, const char *key)
{
	if (!r->failed && aws_profile_get(&r->profiles, profile, key, &r->found, r->error))
		return r->found.value;
	r->failed = true;
	return NULL;
}

/* "true" or "false", in whatever case; what: for the message. */
static bool
parse_flag(Resolver *r, const char *value, const char *what, int *flag)
{
	*flag = pg_strcasecmp(value, "true") == 0;
	return *flag || pg_strcasecmp(value, "false") == 0 ||
		fail(r, "InvalidConfiguration", "%s must be true or false", what);
}

/* What the last get() has found in the profile that applies, for messages. */
typedef struct KeyText
{
	char		text[300];
} KeyText;

static KeyText
found_key(const Resolver *r, const char *key)
{
	KeyText		result;

	snprintf(result.text, sizeof(result.text), "%s of profile \"%.100s\" (%s:%d)", key,
			 r->profile, r->found.path, r->found.line);
	return result;
}

/*
 * A flag from a variable or the profile; -1 if it is not set.  key is NULL if
 * profiles do not have it.
 */
static int
get_flag(Resolver *r, const char *variable, const char *key)
{
	const char *value = env(r, variable);
	int			flag = -1;

	if (value != NULL)
		(void) parse_flag(r, value, variable, &flag);
	else if (key != NULL && (value = get(r, r->profile, key)) != NULL)
		(void) parse_flag(r, value, found_key(r, key).text, &flag);
	return flag;
}

/* ---- sources ---- */

/* Keys that cannot be used must not go into a request. */
static bool
check_keys(Resolver *r, const char *what, const char *id_name,
		   const char *secret_name, const char *token_name)
{
	AwsIdentity *identity = r->identity;
	const char *name = NULL;
	const char *why = NULL;

	if (!aws_key_is_valid(identity->access_key_id, AWS_ACCESS_KEY_ID_MAX, &why))
		name = id_name;
	else if (!aws_key_is_valid(identity->secret_access_key, AWS_SECRET_KEY_MAX, &why))
		name = secret_name;
	else if (identity->session_token != NULL &&
			 !aws_key_is_valid(identity->session_token, AWS_SESSION_TOKEN_MAX, &why))
		name = token_name;
	return name == NULL || fail(r, "InvalidCredentials", "%s of %s %s", name, what, why);
}

/* Keys, which are given, of which the second or third may be missing. */
static bool
use_keys(Resolver *r, AwsSourceKind kind, const char *id, const char *secret,
		 const char *token)
{
	r->identity->kind = kind;
	return set_text(r, &r->identity->access_key_id, id) &&
		set_text(r, &r->identity->secret_access_key, secret) &&
		set_text(r, &r->identity->session_token, token);
}

static bool
use_static(Resolver *r)
{
	const AwsIdentityOptions *options = r->options;

	if (!is_given(options->access_key_id) || !is_given(options->secret_access_key))
		return fail(r, "NoCredentials", "the user mapping has no access_key_id or no secret_access_key");
	return use_keys(r, AWS_SOURCE_STATIC, options->access_key_id,
					options->secret_access_key, options->session_token) &&
		set(r, &r->identity->source, "the user mapping") &&
		check_keys(r, "the user mapping", "access_key_id", "secret_access_key", "session_token");
}

static bool
has_environment_keys(const Resolver *r)
{
	return env(r, "AWS_ACCESS_KEY_ID") != NULL || env(r, "AWS_SECRET_ACCESS_KEY") != NULL;
}

/*
 * AWS_CREDENTIAL_EXPIRATION tells when the keys end.  AWS_SECURITY_TOKEN, the
 * name of AWS_SESSION_TOKEN until 2014, is read by botocore only.
 */
static bool
use_environment(Resolver *r)
{
	const char *id = env(r, "AWS_ACCESS_KEY_ID");
	const char *secret = env(r, "AWS_SECRET_ACCESS_KEY");
	const char *expiration = env(r, "AWS_CREDENTIAL_EXPIRATION");
	int64		ms;

	if (id == NULL && secret == NULL)
		return fail(r, "NoCredentials", "the database server's environment has no AWS_ACCESS_KEY_ID");
	if (id == NULL || secret == NULL)
		return fail(r, "InvalidCredentials", "the database server's environment sets %s but not %s",
					id != NULL ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
					id != NULL ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID");
	if (expiration != NULL)
	{
		if (!aws_parse_time(expiration, &ms))
			return fail(r, "InvalidConfiguration", "AWS_CREDENTIAL_EXPIRATION must be a time such as 2026-01-02T03:04:05Z");
		r->identity->expires = ms / 1000;
		if (r->identity->expires <= (int64) time(NULL))
			return fail(r, "InvalidCredentials", "the keys in the database server's environment expired at %s (AWS_CREDENTIAL_EXPIRATION), and the environment of a running server cannot change; restart it with other keys, or use another source of credentials",
						expiration);
	}
	return use_keys(r, AWS_SOURCE_ENVIRONMENT, id, secret, env(r, "AWS_SESSION_TOKEN")) &&
		set(r, &r->identity->source, "the environment") &&
		check_keys(r, "the environment", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN");
}

/* The form of an ARN; whether there is such a role, STS knows. */
static bool
check_role_arn(Resolver *r, const char *arn, const char *where)
{
	const char *why;

	if (strncmp(arn, "arn:", 4) == 0 && aws_key_is_valid(arn, 2048, &why))
		return true;
	return fail(r, "InvalidConfiguration", "%s: role_arn must be an ARN, such as arn:aws:iam::123456789012:role/name", where);
}

/*
 * A session name of a role is in CloudTrail and in what sqs_whoami() shows, so
 * it is not made of a time or a random number, as that of the SDKs.
 */
static bool
use_web_identity(Resolver *r, const char *token_file, const char *role_arn,
				 const char *session_name, const char *where)
{
	AwsIdentity *identity = r->identity;

	identity->kind = AWS_SOURCE_WEB_IDENTITY;
	return check_role_arn(r, role_arn, where) &&
		set_text(r, &identity->token_file, token_file) &&
		set_text(r, &identity->role_arn, role_arn) &&
		set(r, &identity->session_name, "%s",
			is_given(session_name) ? session_name : AWS_DEFAULT_SESSION_NAME) &&
		set(r, &identity->source, "web identity (%s)", where);
}

static bool
use_environment_web_identity(Resolver *r)
{
	const char *token_file = env(r, "AWS_WEB_IDENTITY_TOKEN_FILE");
	const char *role_arn = env(r, "AWS_ROLE_ARN");

	if (token_file == NULL)
		return fail(r, "NoCredentials", "the database server's environment has no AWS_WEB_IDENTITY_TOKEN_FILE");
	if (role_arn == NULL)
		return fail(r, "InvalidCredentials", "the database server's environment sets AWS_WEB_IDENTITY_TOKEN_FILE but not AWS_ROLE_ARN");
	return use_web_identity(r, token_file, role_arn, env(r, "AWS_ROLE_SESSION_NAME"),
							"AWS_WEB_IDENTITY_TOKEN_FILE");
}

/* What of a URL comes after scheme, host and port may only be such text. */
static bool
is_url_text(const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
		if ((unsigned char) *p <= 0x20 || (unsigned char) *p >= 0x7f ||
			strchr("@#\\\"<>^`{|}", *p) != NULL)
			return false;
	return true;
}

/* The URL may have a query, unlike others. */
static bool
check_container_url(Resolver *r, const char *url)
{
	size_t		len = strcspn(url, "?");
	char	   *base = strndup(url, len);
	const char *why = "must be a URL without user name, fragment, blanks or control characters";
	AwsUrl		parsed;
	bool		ok;

	if (base == NULL)
		return out_of_memory(r);
	ok = is_url_text(url + len) && aws_url_parse(base, &parsed, &why);
	free(base);
	if (!ok)
		return fail(r, "InvalidConfiguration", "AWS_CONTAINER_CREDENTIALS_FULL_URI %s", why);
	if (parsed.https || aws_host_is_loopback(parsed.host))
		return true;
	for (size_t i = 0; i < lengthof(container_hosts); i++)
	{
		if (strcmp(parsed.host, container_hosts[i]) == 0)
			return true;
	}
	return fail(r, "InvalidConfiguration", "AWS_CONTAINER_CREDENTIALS_FULL_URI must use https, unless its host is a loopback address, %s, %s or %s",
				container_hosts[0], container_hosts[1], container_hosts[2]);
}

/*
 * Containers of ECS and EKS.  The path of the URL is as good as a password, so
 * only the variable is named in texts.
 */
static bool
use_container(Resolver *r)
{
	AwsIdentity *identity = r->identity;
	const char *relative = env(r, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full = env(r, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
	const char *token_file = env(r, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	const char *token = env(r, "AWS_CONTAINER_AUTHORIZATION_TOKEN");

	identity->kind = AWS_SOURCE_CONTAINER;
	if (relative != NULL)
	{
		if (relative[0] != '/' || !is_url_text(relative))
			return fail(r, "InvalidConfiguration", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI must begin with a slash and contain no blanks");
		(void) set(r, &identity->container_url, "http://%s%s", CONTAINER_HOST, relative);
	}
	else if (full == NULL)
		return fail(r, "NoCredentials", "the database server's environment has neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor AWS_CONTAINER_CREDENTIALS_FULL_URI");
	else if (check_container_url(r, full))
		(void) set_text(r, &identity->container_url, full);

	/* the file is read each time, the variable cannot change */
	if (token_file != NULL)
		(void) set_text(r, &identity->container_token_file, token_file);
	else if (token != NULL)
	{
		for (const char *p = token; *p != '\0'; p++)
		{
			if ((unsigned char) *p < 0x20 || (unsigned char) *p >= 0x7f)
				return fail(r, "InvalidConfiguration", "AWS_CONTAINER_AUTHORIZATION_TOKEN must be printable ASCII characters");
		}
		(void) set_text(r, &identity->container_token, token);
	}
	return !r->failed &&
		set(r, &identity->source, "container credentials (%s)",
			relative != NULL ? "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" :
			"AWS_CONTAINER_CREDENTIALS_FULL_URI");
}

/* Where instance metadata is; leaves the URL NULL if it is not to be asked. */
static bool
find_metadata(Resolver *r)
{
	char	  **url = &r->identity->metadata_url;
	const char *value;
	const char *what = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
	const char *why;
	AwsUrl		parsed;

	if (get_flag(r, "AWS_EC2_METADATA_DISABLED", NULL) == 1 || r->failed)
		return !r->failed;

	if ((value = env(r, what)) == NULL)
	{
		what = "ec2_metadata_service_endpoint";
		value = get(r, r->profile, what);
	}
	if (value != NULL)
	{
		if (!aws_url_parse(value, &parsed, &why))
			return fail(r, "InvalidConfiguration", "%s %s", what, why);
		if (!set_text(r, url, value))
			return false;
		for (size_t len = strlen(*url); len > 0 && (*url)[len - 1] == '/'; len--)
			(*url)[len - 1] = '\0';
		return true;
	}

	what = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE";
	if ((value = env(r, what)) == NULL)
	{
		what = "ec2_metadata_service_endpoint_mode";
		value = get(r, r->profile, what);
	}
	if (value == NULL || pg_strcasecmp(value, "IPv4") == 0)
		return !r->failed && set_text(r, url, METADATA_URL);
	if (pg_strcasecmp(value, "IPv6") == 0)
		return set_text(r, url, METADATA_URL_IPV6);
	return fail(r, "InvalidConfiguration", "%s must be IPv4 or IPv6", what);
}

static bool
use_metadata(Resolver *r)
{
	r->identity->kind = AWS_SOURCE_INSTANCE_METADATA;
	if (!find_metadata(r))
		return false;
	if (r->identity->metadata_url == NULL)
		return fail(r, "NoCredentials", "instance metadata is not to be used, because AWS_EC2_METADATA_DISABLED is true");
	return set(r, &r->identity->source, "instance metadata at %s", r->identity->metadata_url);
}

/* ---- profiles ---- */

/* The duration of a role's session; 0: not given. */
static int
get_duration(Resolver *r, const char *profile)
{
	const char *value = get(r, profile, "duration_seconds");
	char	   *end;
	long		seconds;

	if (value == NULL)
		return 0;
	seconds = strtol(value, &end, 10);
	if (*end == '\0' && seconds >= AWS_DURATION_MIN && seconds <= AWS_DURATION_MAX)
		return (int) seconds;
	(void) fail(r, "InvalidProfile", "profile \"%s\" (%s:%d): duration_seconds must be an integer from %d to %d",
				profile, r->found.path, r->found.line, AWS_DURATION_MIN, AWS_DURATION_MAX);
	return 0;
}

/* Add a role, which is to be assumed with what comes before it. */
static AwsAssumeRole *
add_role(Resolver *r, const char *role_arn, const char *external_id,
		 const char *session_name, int duration, const char *where)
{
	AwsAssumeRole *role;

	if (r->identity->nroles == AWS_ROLES_MAX)
	{
		(void) fail(r, "InvalidProfile", "%s: more than %d roles would have to be assumed, one after the other",
					where, AWS_ROLES_MAX);
		return NULL;
	}
	role = &r->identity->roles[r->identity->nroles++];
	role->duration_seconds = duration;
	if (!check_role_arn(r, role_arn, where) ||
		!set_text(r, &role->role_arn, role_arn) ||
		!set_text(r, &role->external_id, external_id) ||
		!set(r, &role->session_name, "%s",
			 is_given(session_name) ? session_name : AWS_DEFAULT_SESSION_NAME) ||
		!set_text(r, &role->where, where))
		return NULL;
	return role;
}

static bool
has_static_keys(Resolver *r, const char *profile)
{
	return get(r, profile, "aws_access_key_id") != NULL ||
		get(r, profile, "aws_secret_access_key") != NULL;
}

static bool
use_profile_keys(Resolver *r, const char *profile)
{
	const char *id = get(r, profile, "aws_access_key_id");
	AwsProfileValue where = r->found;
	const char *secret = get(r, profile, "aws_secret_access_key");
	char		what[300];

	if (id == NULL)
		where = r->found;
	snprintf(what, sizeof(what), "profile \"%.100s\" (%s:%d)", profile,
			 where.path != NULL ? where.path : "", where.line);
	if (r->failed)
		return false;
	if (id == NULL || secret == NULL)
		return fail(r, "InvalidCredentials", "%s has %s but not %s", what,
					id != NULL ? "aws_access_key_id" : "aws_secret_access_key",
					id != NULL ? "aws_secret_access_key" : "aws_access_key_id");
	return use_keys(r, AWS_SOURCE_PROFILE_KEYS, id, secret, get(r, profile, "aws_session_token")) &&
		set_text(r, &r->identity->source, what) &&
		check_keys(r, what, "aws_access_key_id", "aws_secret_access_key", "aws_session_token");
}

/* The source that a profile's credential_source names. */
static bool
use_named_source(Resolver *r, const char *name, const char *where)
{
	char		message[sizeof(r->error->message)];

	if (strcmp(name, "Environment") == 0 ? use_environment(r) :
		strcmp(name, "Ec2InstanceMetadata") == 0 ? use_metadata(r) :
		strcmp(name, "EcsContainer") == 0 ? use_container(r) :
		fail(r, "InvalidProfile", "credential_source must be Environment, Ec2InstanceMetadata or EcsContainer"))
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
	const char *command = get(r, profile, "credential_process");
	char		missing[512];

	if (command != NULL)
	{
		if (!r->options->allow_process)
			return fail(r, "UnsupportedSource", "profile \"%s\" (%s:%d) has credential_process, which is a program to be run by the database server, and that is not allowed",
						profile, r->found.path, r->found.line);
		r->identity->kind = AWS_SOURCE_PROCESS;
		return set_text(r, &r->identity->command, command) &&
			set(r, &r->identity->source, "credential_process of profile \"%s\" (%s:%d)",
				profile, r->found.path, r->found.line);
	}
	for (size_t i = 0; i < lengthof(login_keys); i++)
	{
		if (get(r, profile, login_keys[i]) != NULL)
			return fail(r, "UnsupportedSource", "profile \"%s\" (%s:%d) has %s: keys that depend on somebody having logged in are not supported; give the database server a role (instance metadata, container, web identity), or use credential_process = aws configure export-credentials --profile NAME",
						profile, r->found.path, r->found.line, login_keys[i]);
	}
	if (r->failed)
		return false;
	if (!aws_profile_exists(&r->profiles, profile))
	{
		aws_profile_missing(&r->profiles, profile, missing, sizeof(missing));
		return fail(r, "InvalidProfile", "profile \"%s\" %s", profile, missing);
	}
	return fail(r, "InvalidProfile", "profile \"%s\" has no keys, role_arn, web_identity_token_file or credential_process",
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
use_profile(Resolver *r, const char *profile)
{
	const char *visited[AWS_ROLES_MAX + 1];
	int			nvisited = 0;

	for (;;)
	{
		const char *role_arn = get(r, profile, "role_arn");
		AwsProfileValue role_place = r->found;
		const char *source_profile = get(r, profile, "source_profile");
		const char *credential_source = get(r, profile, "credential_source");
		const char *token_file = get(r, profile, "web_identity_token_file");
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
					return fail(r, "InvalidProfile", "%s has web_identity_token_file but not role_arn", where);
				r->identity->duration_seconds = get_duration(r, profile);
				session_name = get(r, profile, "role_session_name");
				if (session_name == NULL)
					session_name = env(r, "AWS_ROLE_SESSION_NAME");
				return !r->failed && use_web_identity(r, token_file, role_arn, session_name, where);
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
			return fail(r, "InvalidProfile", "%s has role_arn with both source_profile and credential_source; it must have one of them", where);
		if (source_profile == NULL && credential_source == NULL)
			return fail(r, "InvalidProfile", "%s has role_arn, but neither source_profile nor credential_source, which say whose keys assume the role", where);
		if (get(r, profile, "mfa_serial") != NULL)
			return fail(r, "UnsupportedSource", "%s has mfa_serial, but a database server cannot enter a code; let it assume a role that does not demand MFA", where);
		if (add_role(r, role_arn, get(r, profile, "external_id"), get(r, profile, "role_session_name"),
					 get_duration(r, profile), where) == NULL || r->failed)
			return false;
		if (credential_source != NULL)
			return use_named_source(r, credential_source, where);

		if (!aws_profile_exists(&r->profiles, source_profile))
		{
			char		missing[512];

			aws_profile_missing(&r->profiles, source_profile, missing, sizeof(missing));
			return fail(r, "InvalidProfile", "%s has source_profile \"%.100s\", which %s",
						where, source_profile, missing);
		}
		if (strcmp(source_profile, profile) == 0 && has_static_keys(r, profile))
			return use_profile_keys(r, profile);
		visited[nvisited++] = profile;
		for (int i = 0; i < nvisited; i++)
		{
			if (strcmp(visited[i], source_profile) == 0)
				return fail(r, "InvalidProfile", "%s has source_profile \"%.100s\", which leads back to it",
							where, source_profile);
		}
		profile = source_profile;
	}
}

static bool
use_profile_with_roles(Resolver *r)
{
	AwsIdentity *identity = r->identity;

	if (!use_profile(r, r->profile))
		return false;
	for (int i = 0, j = identity->nroles - 1; i < j; i++, j--)
	{
		AwsAssumeRole swap = identity->roles[i];

		identity->roles[i] = identity->roles[j];
		identity->roles[j] = swap;
	}
	return true;
}

/* ---- choosing ---- */

static bool
default_has_credentials(Resolver *r)
{
	for (size_t i = 0; i < lengthof(credential_keys); i++)
	{
		if (get(r, r->profile, credential_keys[i]) != NULL)
			return true;
	}
	return false;
}

/* The profile that applies, and whether it was named. */
static bool
choose_profile(Resolver *r, bool *named)
{
	const char *name_of = "option profile";
	char		missing[512];

	*named = true;
	r->profile = r->options->profile;
	if (!is_given(r->profile))
		r->profile = env(r, name_of = "AWS_PROFILE");
	if (!is_given(r->profile))
		r->profile = env(r, name_of = "AWS_DEFAULT_PROFILE");
	if (!is_given(r->profile))
	{
		r->profile = "default";
		*named = false;
	}
	if (!*named || aws_profile_exists(&r->profiles, r->profile))
		return true;
	aws_profile_missing(&r->profiles, r->profile, missing, sizeof(missing));
	return fail(r, "InvalidProfile", "profile \"%.100s\" (%s) %s", r->profile, name_of, missing);
}

/* Options that contradict each other. */
static bool
check_options(Resolver *r, const char *source)
{
	const AwsIdentityOptions *options = r->options;
	bool		is_auto = strcmp(source, "auto") == 0;

	if (is_given(options->profile) && !is_auto && strcmp(source, "profile") != 0)
		return fail(r, "InvalidConfiguration", "option profile has no meaning with credentials '%s'", source);
	if (!is_given(options->web_identity_token_file))
		return true;
	if (!is_auto && strcmp(source, "web_identity") != 0)
		return fail(r, "InvalidConfiguration", "option web_identity_token_file has no meaning with credentials '%s'", source);
	if (is_given(options->profile))
		return fail(r, "InvalidConfiguration", "options profile and web_identity_token_file exclude each other");
	if (!is_given(options->role_arn))
		return fail(r, "InvalidConfiguration", "option web_identity_token_file requires option role_arn");
	return true;
}

static bool
use_auto(Resolver *r, bool profile_is_named)
{
	char		profile[300];

	if (is_given(r->options->profile))
		return use_profile_with_roles(r);
	if (has_environment_keys(r))
		return use_environment(r);
	if (env(r, "AWS_WEB_IDENTITY_TOKEN_FILE") != NULL)
		return use_environment_web_identity(r);
	if (profile_is_named || default_has_credentials(r))
		return use_profile_with_roles(r);
	if (r->failed)
		return false;
	if (env(r, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") != NULL ||
		env(r, "AWS_CONTAINER_CREDENTIALS_FULL_URI") != NULL)
		return use_container(r);
	if (get_flag(r, "AWS_EC2_METADATA_DISABLED", NULL) != 1)
		return use_metadata(r);

	if (aws_profile_exists(&r->profiles, r->profile))
		strlcpy(profile, "has none", sizeof(profile));
	else
		aws_profile_missing(&r->profiles, r->profile, profile, sizeof(profile));
	return fail(r, "NoCredentials", "there are no AWS credentials: the environment has no AWS_ACCESS_KEY_ID, AWS_WEB_IDENTITY_TOKEN_FILE, AWS_PROFILE or AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, AWS_EC2_METADATA_DISABLED is true, and profile \"%s\" %s",
				r->profile, profile);
}

static bool
find_source(Resolver *r)
{
	const AwsIdentityOptions *options = r->options;
	const char *source = is_given(options->source) ? options->source : "auto";
	bool		profile_is_named;

	if (!check_options(r, source))
		return false;
	if (strcmp(source, "static") == 0)
		return use_static(r);
	if (!aws_profiles_load(&r->profiles, r->getenv, r->error))
	{
		r->failed = true;
		return false;
	}
	if (!choose_profile(r, &profile_is_named))
		return false;
	if (is_given(options->web_identity_token_file))
	{
		r->identity->duration_seconds = options->duration_seconds;
		return use_web_identity(r, options->web_identity_token_file, options->role_arn,
								options->role_session_name, "option web_identity_token_file");
	}
	if (strcmp(source, "auto") == 0)
		return use_auto(r, profile_is_named);
	if (strcmp(source, "environment") == 0)
		return use_environment(r);
	if (strcmp(source, "web_identity") == 0)
		return use_environment_web_identity(r);
	if (strcmp(source, "profile") == 0)
		return use_profile_with_roles(r);
	if (strcmp(source, "container") == 0)
		return use_container(r);
	if (strcmp(source, "instance_metadata") == 0)
		return use_metadata(r);
	return fail(r, "InvalidConfiguration", "unknown source of credentials \"%.40s\"", source);
}

/* ---- where ---- */

/* Take a region, unless it is not one. */
static bool
use_region(Resolver *r, const char *region, const char *what)
{
	const char *why;

	if (!aws_region_is_valid(region, &why))
		return fail(r, "InvalidConfiguration", "%s %s", what, why);

	/* an old way of asking for FIPS endpoints: such a host does not exist */
	if (strncmp(region, "fips-", 5) == 0)
		return fail(r, "InvalidConfiguration", "%s must be a region such as %s; for its FIPS endpoints, set option use_fips or AWS_USE_FIPS_ENDPOINT to true",
					what, region + 5);
	return set_text(r, &r->identity->region, region);
}

/* The region in the host name of an endpoint; false if it tells none. */
static bool
region_of_endpoint(const char *endpoint, char *region, size_t size)
{
	AwsUrl		url;
	const char *why;

	return is_given(endpoint) && aws_url_parse(endpoint, &url, &why) &&
		aws_region_of_host(url.host, region, size);
}

/*
 * The endpoint's own region comes before those of the environment: a request
 * that is signed for another one is refused.
 */
static bool
find_region(Resolver *r)
{
	const AwsIdentityOptions *options = r->options;
	const char *value;
	char		region[33];

	if (is_given(options->region))
		return use_region(r, options->region, "option region");
	if (region_of_endpoint(options->endpoint, region, sizeof(region)))
		return use_region(r, region, "the endpoint's region");
	if (r->is_static)
		return true;

	/* JavaScript reads only the first, botocore only the second */
	if ((value = env(r, "AWS_REGION")) != NULL)
		return use_region(r, value, "AWS_REGION");
	if ((value = env(r, "AWS_DEFAULT_REGION")) != NULL)
		return use_region(r, value, "AWS_DEFAULT_REGION");
	if ((value = get(r, r->profile, "region")) != NULL)
		return use_region(r, value, found_key(r, "region").text);
	if (r->failed)
		return false;
	if (region_of_endpoint(r->identity->endpoint, region, sizeof(region)))
		return use_region(r, region, "the endpoint's region");

	if (r->identity->metadata_url == NULL && !find_metadata(r))
		return false;
	if (r->identity->metadata_url == NULL)
		return fail(r, "InvalidConfiguration", "no region is configured: there is no option region, AWS_REGION, AWS_DEFAULT_REGION, or region in profile \"%s\", and AWS_EC2_METADATA_DISABLED is true",
					r->profile);
	return true;
}

/*
 * The endpoint of a service, as an option, a variable or the profile has it.  The
 * options were checked by the caller.
 */
static bool
find_endpoint(Resolver *r, const char *option, const char *variable,
			  const char *service, char **endpoint)
{
	const char *what = variable;
	const char *value;
	const char *services;
	const char *why;
	KeyText		key;

	if (is_given(option))
		return set_text(r, endpoint, option);
	if (r->is_static)
		return true;
	if (get_flag(r, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls") == 1 ||
		r->failed)
		return !r->failed;

	if ((value = env(r, what)) == NULL)
		value = env(r, what = "AWS_ENDPOINT_URL");
	if (value == NULL && (services = get(r, r->profile, "services")) != NULL)
	{
		if (!aws_profile_has_services(&r->profiles, services))
			return fail(r, "InvalidProfile", "profile \"%s\" (%s:%d): there is no section [services %s]",
						r->profile, r->found.path, r->found.line, services);
		if (!aws_profile_service(&r->profiles, services, service, "endpoint_url",
								 &r->found, r->error))
			return !(r->failed = true);
		value = r->found.value;
		what = "endpoint_url in the profile's services";
	}
	if (value == NULL && (value = get(r, r->profile, "endpoint_url")) != NULL)
	{
		key = found_key(r, "endpoint_url");
		what = key.text;
	}
	if (value == NULL)
		return !r->failed;
	if (!aws_endpoint_is_valid(value, r->options->allow_http, &why))
		return fail(r, "InvalidConfiguration", "%s %s", what, why);
	return set_text(r, endpoint, value);
}

static bool
uses_sts(const AwsIdentity *identity)
{
	return identity->nroles > 0 || identity->kind == AWS_SOURCE_WEB_IDENTITY;
}

/*
 * An endpoint that is given is used as it is, so that it must not be wanted in
 * another variety; an error in the SDKs, too.
 */
static bool
check_variety(Resolver *r, bool wanted, const char *variety, const char *variable,
			  const char *option)
{
	const AwsIdentity *identity = r->identity;
	const char *given = identity->endpoint != NULL ? "endpoint" :
		uses_sts(identity) && identity->sts_endpoint != NULL ? "endpoint of STS" : NULL;

	if (!wanted || given == NULL)
		return true;
	return fail(r, "InvalidConfiguration", "%s is wanted (option %s, %s, or the profile), but the %s is given and used as it is; if that is right, set option %s to false",
				variety, option, variable, given, option);
}

static bool
find_place(Resolver *r)
{
	const AwsIdentityOptions *options = r->options;
	AwsIdentity *identity = r->identity;
	int			fips = options->use_fips;
	int			dualstack = options->use_dualstack;
	const char *value;
	char		region[33];

	if (fips < 0 && !r->is_static)
		fips = get_flag(r, "AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint");
	if (dualstack < 0 && !r->is_static)
		dualstack = get_flag(r, "AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint");
	identity->use_fips = fips == 1;
	identity->use_dualstack = dualstack == 1;
	if (r->failed ||
		!find_endpoint(r, options->endpoint, "AWS_ENDPOINT_URL_SQS", "sqs", &identity->endpoint) ||
		!find_endpoint(r, options->sts_endpoint, "AWS_ENDPOINT_URL_STS", "sts", &identity->sts_endpoint) ||
		!find_region(r) ||
		!check_variety(r, identity->use_fips, "a FIPS endpoint", "AWS_USE_FIPS_ENDPOINT", "use_fips") ||
		!check_variety(r, identity->use_dualstack, "a dual-stack endpoint", "AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack"))
		return false;
	if (region_of_endpoint(identity->sts_endpoint, region, sizeof(region)) &&
		!set_text(r, &identity->sts_region, region))
		return false;

	value = env(r, "AWS_CA_BUNDLE");
	if (value == NULL && !r->is_static)
		value = get(r, r->profile, "ca_bundle");
	return set_text(r, &identity->ca_file, value) && !r->failed;
}

/* ---- what others call ---- */

static const char *
process_getenv(const char *name)
{
	return getenv(name);
}

/*
 * What people see becomes a value of views, whose encoding must be right; names
 * of profiles and files may have any bytes.
 */
static void
make_presentable(AwsIdentity *identity)
{
	aws_text_sanitize(identity->source);
	for (int i = 0; i < identity->nroles; i++)
		aws_text_sanitize(identity->roles[i].where);
}

bool
aws_identity_resolve(const AwsIdentityOptions *options, AwsIdentity **identity,
					 AwsError *error)
{
	Resolver	r;

	memset(&r, 0, sizeof(r));
	r.options = options;
	r.error = error;
	r.getenv = options->getenv != NULL ? options->getenv : process_getenv;
	r.is_static = is_given(options->source) && strcmp(options->source, "static") == 0;
	*identity = r.identity = calloc(1, sizeof(AwsIdentity));
	if (r.identity == NULL)
		return out_of_memory(&r);

	if (find_source(&r) && is_given(options->role_arn) &&
		!is_given(options->web_identity_token_file))
		(void) add_role(&r, options->role_arn, options->external_id, options->role_session_name,
						options->duration_seconds, "option role_arn");
	if (!r.failed)
		(void) find_place(&r);
	aws_profiles_free(&r.profiles);
	if (!r.failed)
	{
		make_presentable(r.identity);
		return true;
	}
	aws_identity_free(r.identity);
	*identity = NULL;
	return false;
}

/* Where the strings of an identity are, but those of its roles. */
static const size_t identity_strings[] = {
	offsetof(AwsIdentity, source),
	offsetof(AwsIdentity, access_key_id),
	offsetof(AwsIdentity, secret_access_key),
	offsetof(AwsIdentity, session_token),
	offsetof(AwsIdentity, token_file),
	offsetof(AwsIdentity, role_arn),
	offsetof(AwsIdentity, session_name),
	offsetof(AwsIdentity, command),
	offsetof(AwsIdentity, container_url),
	offsetof(AwsIdentity, container_token),
	offsetof(AwsIdentity, container_token_file),
	offsetof(AwsIdentity, metadata_url),
	offsetof(AwsIdentity, region),
	offsetof(AwsIdentity, endpoint),
	offsetof(AwsIdentity, sts_endpoint),
	offsetof(AwsIdentity, sts_region),
	offsetof(AwsIdentity, ca_file),
};

static const size_t role_strings[] = {
	offsetof(AwsAssumeRole, role_arn),
	offsetof(AwsAssumeRole, external_id),
	offsetof(AwsAssumeRole, session_name),
	offsetof(AwsAssumeRole, where),
};

#define string_at(object, offset)	(*(char **) ((char *) (object) + (offset)))

/* Copy the strings of an object, in place of its pointers. */
static bool
copy_strings(void *object, const size_t *offsets, size_t noffsets)
{
	bool		ok = true;

	for (size_t i = 0; i < noffsets; i++)
	{
		char	  **string = &string_at(object, offsets[i]);

		if (*string == NULL)
			continue;
		*string = strdup(*string);
		ok = ok && *string != NULL;
	}
	return ok;
}

AwsIdentity *
aws_identity_copy(const AwsIdentity *identity)
{
	AwsIdentity *copy = malloc(sizeof(AwsIdentity));
	bool		ok;

	if (copy == NULL)
		return NULL;
	*copy = *identity;
	ok = copy_strings(copy, identity_strings, lengthof(identity_strings));
	for (int i = 0; i < copy->nroles; i++)
		ok = copy_strings(&copy->roles[i], role_strings, lengthof(role_strings)) && ok;
	if (ok)
		return copy;
	aws_identity_free(copy);
	return NULL;
}

void
aws_identity_free(AwsIdentity *identity)
{
	if (identity == NULL)
		return;
	for (size_t i = 0; i < lengthof(identity_strings); i++)
		aws_secret_free(string_at(identity, identity_strings[i]));
	for (int i = 0; i < identity->nroles; i++)
	{
		for (size_t j = 0; j < lengthof(role_strings); j++)
			aws_secret_free(string_at(&identity->roles[i], role_strings[j]));
	}
	free(identity);
}

bool
aws_identity_needs_fetch(const AwsIdentity *identity)
{
	if (identity->nroles > 0 || (identity->region == NULL && identity->metadata_url != NULL))
		return true;
	switch (identity->kind)
	{
		case AWS_SOURCE_STATIC:
		case AWS_SOURCE_ENVIRONMENT:
		case AWS_SOURCE_PROFILE_KEYS:
			return false;
		case AWS_SOURCE_WEB_IDENTITY:
		case AWS_SOURCE_PROCESS:
		case AWS_SOURCE_CONTAINER:
		case AWS_SOURCE_INSTANCE_METADATA:
			break;
	}
	return true;
}

const char *
aws_source_kind_name(AwsSourceKind kind)
{
	switch (kind)
	{
		case AWS_SOURCE_STATIC:
			return "user mapping";
		case AWS_SOURCE_ENVIRONMENT:
			return "environment";
		case AWS_SOURCE_PROFILE_KEYS:
			return "profile";
		case AWS_SOURCE_WEB_IDENTITY:
			return "web identity";
		case AWS_SOURCE_PROCESS:
			return "process";
		case AWS_SOURCE_CONTAINER:
			return "container";
		case AWS_SOURCE_INSTANCE_METADATA:
			return "instance metadata";
	}
	return "invalid";
}

/* ---- canonical text ---- */

/* Text that grows, and leaves no copies behind. */
typedef struct Canonical
{
	char	   *data;
	size_t		len;
	size_t		size;
	bool		failed;
} Canonical;

static void
append(Canonical *text, const char *data, size_t len)
{
	if (text->failed)
		return;
	if (text->len + len > text->size)
	{
		size_t		size = 2 * (text->len + len) + 1024;
		char	   *bigger = malloc(size);

		if (bigger != NULL && text->len > 0)
			memcpy(bigger, text->data, text->len);
		if (text->data != NULL)
			explicit_bzero(text->data, text->len);
		free(text->data);
		text->data = bigger;
		text->size = size;
		text->failed = bigger == NULL;
		if (text->failed)
			return;
	}
	memcpy(text->data + text->len, data, len);
	text->len += len;
}

/* With its length before it, so that no value can look like another field. */
static void
append_field(Canonical *text, const char *value)
{
	char		length[24];

	if (value == NULL)
		strlcpy(length, "-", sizeof(length));
	else
		snprintf(length, sizeof(length), "%zu:", strlen(value));
	append(text, length, strlen(length));
	if (value != NULL)
		append(text, value, strlen(value));
}

static void
append_number(Canonical *text, int64 number)
{
	char		digits[24];

	snprintf(digits, sizeof(digits), INT64_FORMAT, number);
	append_field(text, digits);
}

/*
 * What only people read is not in it, nor where SQS is.  Where STS is only
 * matters if it is asked.
 */
char *
aws_identity_canonical(const AwsIdentity *identity, size_t *len)
{
	Canonical	text = {NULL};
	bool		sts = uses_sts(identity);

	append_number(&text, identity->kind);
	append_field(&text, identity->access_key_id);
	append_field(&text, identity->secret_access_key);
	append_field(&text, identity->session_token);
	append_field(&text, identity->token_file);
	append_field(&text, identity->role_arn);
	append_field(&text, identity->session_name);
	append_number(&text, identity->duration_seconds);
	append_field(&text, identity->command);
	append_field(&text, identity->container_url);
	append_field(&text, identity->container_token);
	append_field(&text, identity->container_token_file);
	append_field(&text, identity->kind == AWS_SOURCE_INSTANCE_METADATA || identity->region == NULL ?
				 identity->metadata_url : NULL);
	append_number(&text, identity->region == NULL); /* is to be fetched, too */
	append_number(&text, identity->nroles);
	for (int i = 0; i < identity->nroles; i++)
	{
		append_field(&text, identity->roles[i].role_arn);
		append_field(&text, identity->roles[i].external_id);
		append_field(&text, identity->roles[i].session_name);
		append_number(&text, identity->roles[i].duration_seconds);
	}
	if (sts)
	{
		append_field(&text, identity->region);
		append_field(&text, identity->sts_endpoint);
		append_field(&text, identity->sts_region);
		append_number(&text, identity->use_fips);
		append_number(&text, identity->use_dualstack);
	}
	append_field(&text, identity->ca_file);

	if (text.failed)
		return NULL;
	*len = text.len;
	return text.data;
}
