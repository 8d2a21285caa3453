/*-------------------------------------------------------------------------
 *
 * resolver.c
 *	  Which keys to use and where to use them: the choice.
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
#include "aws/resolver.h"
#include "aws/secret.h"

/* A profile with one of these is about credentials. */
static const char *const credential_keys[] = {
	"aws_access_key_id", "aws_secret_access_key", "role_arn", "credential_source",
	"web_identity_token_file", "credential_process", "sso_session",
	"sso_start_url", "sso_account_id", "login_session"
};

/* Only the first error counts.  Always returns false. */
bool
resolver_fail(Resolver *r, const char *code, const char *fmt, ...)
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

bool
resolver_no_memory(Resolver *r)
{
	if (!r->failed)
		aws_error_set(r->error, AWS_ERROR_RESOURCES, "NoResources", "out of memory");
	r->failed = true;
	return false;
}

/* Set a field of the identity. */
bool
resolver_set(Resolver *r, char **field, const char *fmt, ...)
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
	return resolver_no_memory(r);
}

/* Set it to a text; leave it NULL if that is not given. */
bool
resolver_set_text(Resolver *r, char **field, const char *text)
{
	aws_secret_free(*field);
	*field = NULL;

	/*
	 * not by resolver_set(), because vasprintf() may leave another copy in
	 * memory
	 */
	return !is_given(text) || (*field = strdup(text)) != NULL || resolver_no_memory(r);
}

const char *
resolver_env(const Resolver *r, const char *name)
{
	const char *value = r->getenv(name);

	return is_given(value) ? value : NULL;
}

/* A key of a profile; NULL if it is not set, or if this failed. */
const char *
resolver_get(Resolver *r, const char *profile, const char *key)
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
		resolver_fail(r, "InvalidConfiguration", "%s must be true or false", what);
}

ResolverKey
resolver_found_key(const Resolver *r, const char *key)
{
	ResolverKey result;

	snprintf(result.text, sizeof(result.text), "%s of profile \"%.100s\" (%s:%d)", key,
			 r->profile, r->found.path, r->found.line);
	return result;
}

/*
 * A flag from a variable or the profile; -1 if it is not set.  key is NULL if
 * profiles do not have it.
 */
int
resolver_flag(Resolver *r, const char *variable, const char *key)
{
	const char *value = resolver_env(r, variable);
	int			flag = -1;

	if (value != NULL)
		(void) parse_flag(r, value, variable, &flag);
	else if (key != NULL && (value = resolver_get(r, r->profile, key)) != NULL)
		(void) parse_flag(r, value, resolver_found_key(r, key).text, &flag);
	return flag;
}

/* ---- sources ---- */

/* Keys that cannot be used must not go into a request. */
bool
resolver_check_keys(Resolver *r, const char *what, const char *id_name,
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
	return name == NULL || resolver_fail(r, "InvalidCredentials", "%s of %s %s", name, what, why);
}

/* Keys, which are given, of which the second or third may be missing. */
bool
resolver_use_keys(Resolver *r, AwsSourceKind kind, const char *id, const char *secret,
				  const char *token)
{
	r->identity->kind = kind;
	return resolver_set_text(r, &r->identity->access_key_id, id) &&
		resolver_set_text(r, &r->identity->secret_access_key, secret) &&
		resolver_set_text(r, &r->identity->session_token, token);
}

static bool
use_static(Resolver *r)
{
	const AwsIdentityOptions *options = r->options;

	if (!is_given(options->access_key_id) || !is_given(options->secret_access_key))
		return resolver_fail(r, "NoCredentials", "the user mapping has no access_key_id or no secret_access_key");
	return resolver_use_keys(r, AWS_SOURCE_STATIC, options->access_key_id,
							 options->secret_access_key, options->session_token) &&
		resolver_set(r, &r->identity->source, "the user mapping") &&
		resolver_check_keys(r, "the user mapping", "access_key_id", "secret_access_key", "session_token");
}

static bool
has_environment_keys(const Resolver *r)
{
	return resolver_env(r, "AWS_ACCESS_KEY_ID") != NULL || resolver_env(r, "AWS_SECRET_ACCESS_KEY") != NULL;
}

/*
 * AWS_CREDENTIAL_EXPIRATION tells when the keys end.  AWS_SECURITY_TOKEN, the
 * name of AWS_SESSION_TOKEN until 2014, is read by botocore only.
 */
bool
resolver_use_environment(Resolver *r)
{
	const char *id = resolver_env(r, "AWS_ACCESS_KEY_ID");
	const char *secret = resolver_env(r, "AWS_SECRET_ACCESS_KEY");
	const char *expiration = resolver_env(r, "AWS_CREDENTIAL_EXPIRATION");
	int64		ms;

	if (id == NULL && secret == NULL)
		return resolver_fail(r, "NoCredentials", "the database server's environment has no AWS_ACCESS_KEY_ID");
	if (id == NULL || secret == NULL)
		return resolver_fail(r, "InvalidCredentials", "the database server's environment sets %s but not %s",
							 id != NULL ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
							 id != NULL ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID");
	if (expiration != NULL)
	{
		if (!aws_parse_time(expiration, &ms))
			return resolver_fail(r, "InvalidConfiguration", "AWS_CREDENTIAL_EXPIRATION must be a time such as 2026-01-02T03:04:05Z");
		r->identity->expires = ms / 1000;
		if (r->identity->expires <= (int64) time(NULL))
			return resolver_fail(r, "InvalidCredentials", "the keys in the database server's environment expired at %s (AWS_CREDENTIAL_EXPIRATION), and the environment of a running server cannot change; restart it with other keys, or use another source of credentials",
								 expiration);
	}
	return resolver_use_keys(r, AWS_SOURCE_ENVIRONMENT, id, secret, resolver_env(r, "AWS_SESSION_TOKEN")) &&
		resolver_set(r, &r->identity->source, "the environment") &&
		resolver_check_keys(r, "the environment", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN");
}

/* The form of an ARN; whether there is such a role, STS knows. */
bool
resolver_check_role_arn(Resolver *r, const char *arn, const char *where)
{
	const char *why;

	if (strncmp(arn, "arn:", 4) == 0 && aws_key_is_valid(arn, 2048, &why))
		return true;
	return resolver_fail(r, "InvalidConfiguration", "%s: role_arn must be an ARN, such as arn:aws:iam::123456789012:role/name", where);
}

/*
 * A session name of a role is in CloudTrail and in what sqs_whoami() shows, so
 * it is not made of a time or a random number, as that of the SDKs.
 */
bool
resolver_use_web_identity(Resolver *r, const char *token_file, const char *role_arn,
						  const char *session_name, const char *where)
{
	AwsIdentity *identity = r->identity;

	identity->kind = AWS_SOURCE_WEB_IDENTITY;
	return resolver_check_role_arn(r, role_arn, where) &&
		resolver_set_text(r, &identity->token_file, token_file) &&
		resolver_set_text(r, &identity->role_arn, role_arn) &&
		resolver_set(r, &identity->session_name, "%s",
					 is_given(session_name) ? session_name : AWS_DEFAULT_SESSION_NAME) &&
		resolver_set(r, &identity->source, "web identity (%s)", where);
}

static bool
use_environment_web_identity(Resolver *r)
{
	const char *token_file = resolver_env(r, "AWS_WEB_IDENTITY_TOKEN_FILE");
	const char *role_arn = resolver_env(r, "AWS_ROLE_ARN");

	if (token_file == NULL)
		return resolver_fail(r, "NoCredentials", "the database server's environment has no AWS_WEB_IDENTITY_TOKEN_FILE");
	if (role_arn == NULL)
		return resolver_fail(r, "InvalidCredentials", "the database server's environment sets AWS_WEB_IDENTITY_TOKEN_FILE but not AWS_ROLE_ARN");
	return resolver_use_web_identity(r, token_file, role_arn, resolver_env(r, "AWS_ROLE_SESSION_NAME"),
									 "AWS_WEB_IDENTITY_TOKEN_FILE");
}

/* ---- choosing ---- */

static bool
default_has_credentials(Resolver *r)
{
	for (size_t i = 0; i < lengthof(credential_keys); i++)
	{
		if (resolver_get(r, r->profile, credential_keys[i]) != NULL)
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
		r->profile = resolver_env(r, name_of = "AWS_PROFILE");
	if (!is_given(r->profile))
		r->profile = resolver_env(r, name_of = "AWS_DEFAULT_PROFILE");
	if (!is_given(r->profile))
	{
		r->profile = "default";
		*named = false;
	}
	if (!*named || aws_profile_exists(&r->profiles, r->profile))
		return true;
	aws_profile_missing(&r->profiles, r->profile, missing, sizeof(missing));
	return resolver_fail(r, "InvalidProfile", "profile \"%.100s\" (%s) %s", r->profile, name_of, missing);
}

/* Options that contradict each other. */
static bool
check_options(Resolver *r, const char *source)
{
	const AwsIdentityOptions *options = r->options;
	bool		is_auto = strcmp(source, "auto") == 0;

	if (is_given(options->profile) && !is_auto && strcmp(source, "profile") != 0)
		return resolver_fail(r, "InvalidConfiguration", "option profile has no meaning with credentials '%s'", source);
	if (!is_given(options->web_identity_token_file))
		return true;
	if (!is_auto && strcmp(source, "web_identity") != 0)
		return resolver_fail(r, "InvalidConfiguration", "option web_identity_token_file has no meaning with credentials '%s'", source);
	if (is_given(options->profile))
		return resolver_fail(r, "InvalidConfiguration", "options profile and web_identity_token_file exclude each other");
	if (!is_given(options->role_arn))
		return resolver_fail(r, "InvalidConfiguration", "option web_identity_token_file requires option role_arn");
	return true;
}

static bool
use_auto(Resolver *r, bool profile_is_named)
{
	char		profile[300];

	if (is_given(r->options->profile))
		return resolver_use_profile(r);
	if (has_environment_keys(r))
		return resolver_use_environment(r);
	if (resolver_env(r, "AWS_WEB_IDENTITY_TOKEN_FILE") != NULL)
		return use_environment_web_identity(r);
	if (profile_is_named || default_has_credentials(r))
		return resolver_use_profile(r);
	if (r->failed)
		return false;
	if (resolver_env(r, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") != NULL ||
		resolver_env(r, "AWS_CONTAINER_CREDENTIALS_FULL_URI") != NULL)
		return resolver_use_container(r);
	if (resolver_flag(r, "AWS_EC2_METADATA_DISABLED", NULL) != 1)
	{
		r->identity->is_last_resort = true;
		return resolver_use_metadata(r);
	}

	if (aws_profile_exists(&r->profiles, r->profile))
		strlcpy(profile, "has none", sizeof(profile));
	else
		aws_profile_missing(&r->profiles, r->profile, profile, sizeof(profile));
	return resolver_fail(r, "NoCredentials", "there are no AWS credentials: the environment has no AWS_ACCESS_KEY_ID, AWS_WEB_IDENTITY_TOKEN_FILE, AWS_PROFILE or AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, AWS_EC2_METADATA_DISABLED is true, and profile \"%s\" %s",
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
		return resolver_use_web_identity(r, options->web_identity_token_file, options->role_arn,
										 options->role_session_name, "option web_identity_token_file");
	}
	if (strcmp(source, "auto") == 0)
		return use_auto(r, profile_is_named);
	if (strcmp(source, "environment") == 0)
		return resolver_use_environment(r);
	if (strcmp(source, "web_identity") == 0)
		return use_environment_web_identity(r);
	if (strcmp(source, "profile") == 0)
		return resolver_use_profile(r);
	if (strcmp(source, "container") == 0)
		return resolver_use_container(r);
	if (strcmp(source, "instance_metadata") == 0)
		return resolver_use_metadata(r);
	return resolver_fail(r, "InvalidConfiguration", "unknown source of credentials \"%.40s\"", source);
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
		return resolver_no_memory(&r);

	if (find_source(&r) && is_given(options->role_arn) &&
		!is_given(options->web_identity_token_file))
		(void) resolver_add_role(&r, options->role_arn, options->external_id, options->role_session_name,
								 options->duration_seconds, "option role_arn");
	if (!r.failed)
		(void) resolver_find_place(&r);
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
