/*-------------------------------------------------------------------------
 *
 * credentials.c
 *	  Where keys come from: static keys, and the server's environment.
 *
 * The environment is the postmaster's, fixed when it starts.  It is read each
 * time keys are needed, which is cheap and leaves no copy of the secret key.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "aws/credentials.h"

struct AwsCredentialsProvider
{
	bool		is_static;
	char	   *access_key_id;
	char	   *secret_access_key;
	char	   *session_token;
};

/* What configures those sources of the AWS provider chain that are not here. */
static const char *const unsupported_sources[] = {
	"AWS_WEB_IDENTITY_TOKEN_FILE",
	"AWS_PROFILE",
	"AWS_SHARED_CREDENTIALS_FILE",
	"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
	"AWS_CONTAINER_CREDENTIALS_FULL_URI",
};

/* NULL for NULL, for "", and if out of memory. */
static char *
copy(const char *s)
{
	return s != NULL && s[0] != '\0' ? strdup(s) : NULL;
}

/* Equal, where NULL is the same as "". */
static bool
same(const char *a, const char *b)
{
	if (a == NULL || a[0] == '\0' || b == NULL || b[0] == '\0')
		return (a == NULL || a[0] == '\0') && (b == NULL || b[0] == '\0');
	return strcmp(a, b) == 0;
}

static void
wipe(char *s)
{
	if (s != NULL)
	{
		explicit_bzero(s, strlen(s));
		free(s);
	}
}

bool
aws_key_is_valid(const char *value, size_t max, const char **why)
{
	if (strlen(value) > max)
	{
		*why = max == AWS_ACCESS_KEY_ID_MAX ? "must be at most 128 characters long" :
			max == AWS_SECRET_KEY_MAX ? "must be at most 256 characters long" :
			"must be at most 16384 characters long";
		return false;
	}
	for (const char *p = value; *p != '\0'; p++)
	{
		if (*p <= 0x20 || *p >= 0x7f)
		{
			*why = "must be printable ASCII characters without blanks";
			return false;
		}
	}
	return true;
}

AwsCredentialsProvider *
aws_static_credentials(const char *access_key_id, const char *secret_access_key,
					   const char *session_token)
{
	AwsCredentialsProvider *provider = calloc(1, sizeof(AwsCredentialsProvider));

	if (provider == NULL)
		return NULL;
	provider->is_static = true;
	provider->access_key_id = copy(access_key_id);
	provider->secret_access_key = copy(secret_access_key);
	provider->session_token = copy(session_token);
	if (!same(provider->access_key_id, access_key_id) ||
		!same(provider->secret_access_key, secret_access_key) ||
		!same(provider->session_token, session_token))
	{
		/* no memory for one of them: the others are not what was asked for */
		aws_credentials_free(provider);
		return NULL;
	}
	return provider;
}

AwsCredentialsProvider *
aws_default_credentials(void)
{
	return calloc(1, sizeof(AwsCredentialsProvider));
}

static const char *
nonempty_env(const char *name)
{
	const char *value = getenv(name);

	return value != NULL && value[0] != '\0' ? value : NULL;
}

/* Wherever keys come from, unusable ones must not go into a request. */
static AwsCredentialsStatus
check_keys(const AwsCredentials *credentials, AwsError *error)
{
	const char *name = NULL;
	const char *why;

	if (!aws_key_is_valid(credentials->access_key_id, AWS_ACCESS_KEY_ID_MAX, &why))
		name = "the access key id";
	else if (!aws_key_is_valid(credentials->secret_access_key, AWS_SECRET_KEY_MAX, &why))
		name = "the secret access key";
	else if (credentials->session_token != NULL &&
			 !aws_key_is_valid(credentials->session_token, AWS_SESSION_TOKEN_MAX, &why))
		name = "the session token";
	if (name == NULL)
		return AWS_CREDENTIALS_OK;
	aws_error_set(error, AWS_ERROR_CREDENTIALS, "InvalidCredentials", "%s %s", name, why);
	return AWS_CREDENTIALS_FAILED;
}

/* The error names what is missing or wrong, and never holds a value. */
AwsCredentialsStatus
aws_credentials_get(AwsCredentialsProvider *provider,
					AwsCredentials *credentials, AwsError *error)
{
	const char *why = NULL;

	if (provider == NULL)
		why = "out of memory";
	else if (provider->is_static)
	{
		credentials->access_key_id = provider->access_key_id;
		credentials->secret_access_key = provider->secret_access_key;
		credentials->session_token = provider->session_token;
		if (credentials->access_key_id == NULL || credentials->secret_access_key == NULL)
			why = "the user mapping has no access_key_id or no secret_access_key";
	}
	else
	{
		credentials->access_key_id = nonempty_env("AWS_ACCESS_KEY_ID");
		credentials->secret_access_key = nonempty_env("AWS_SECRET_ACCESS_KEY");
		credentials->session_token = nonempty_env("AWS_SESSION_TOKEN");
		if (credentials->access_key_id == NULL && credentials->secret_access_key == NULL)
		{
			for (size_t i = 0; i < lengthof(unsupported_sources); i++)
			{
				if (nonempty_env(unsupported_sources[i]) != NULL)
				{
					aws_error_set(error, AWS_ERROR_CREDENTIALS, "NoCredentials",
								  "the database server's environment sets %s, which this version does not support",
								  unsupported_sources[i]);
					return AWS_CREDENTIALS_FAILED;
				}
			}
			why = "the database server's environment has no AWS_ACCESS_KEY_ID";
		}
		else if (credentials->access_key_id == NULL)
			why = "the database server's environment sets AWS_SECRET_ACCESS_KEY but not AWS_ACCESS_KEY_ID";
		else if (credentials->secret_access_key == NULL)
			why = "the database server's environment sets AWS_ACCESS_KEY_ID but not AWS_SECRET_ACCESS_KEY";
	}

	if (why != NULL)
	{
		aws_error_set(error, AWS_ERROR_CREDENTIALS, "NoCredentials", "%s", why);
		return AWS_CREDENTIALS_FAILED;
	}
	return check_keys(credentials, error);
}

bool
aws_environment_has_keys(AwsError *error)
{
	AwsCredentialsProvider environment = {false, NULL, NULL, NULL};
	AwsCredentials credentials;

	return aws_credentials_get(&environment, &credentials, error) == AWS_CREDENTIALS_OK;
}

bool
aws_credentials_are(const AwsCredentialsProvider *provider,
					const AwsCredentials *credentials)
{
	if (provider == NULL)
		return false;
	if (!provider->is_static)
		return credentials->access_key_id == NULL;
	return credentials->access_key_id != NULL &&
		same(provider->access_key_id, credentials->access_key_id) &&
		same(provider->secret_access_key, credentials->secret_access_key) &&
		same(provider->session_token, credentials->session_token);
}

/* Neither source has other keys to offer. */
bool
aws_credentials_invalidate(AwsCredentialsProvider *provider)
{
	(void) provider;
	return false;
}

const char *
aws_credentials_source(const AwsCredentialsProvider *provider)
{
	return provider->is_static ? "user mapping" : "environment";
}

void
aws_credentials_free(AwsCredentialsProvider *provider)
{
	if (provider == NULL)
		return;
	wipe(provider->access_key_id);
	wipe(provider->secret_access_key);
	wipe(provider->session_token);
	free(provider);
}
