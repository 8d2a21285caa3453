/*-------------------------------------------------------------------------
 *
 * credentials.c
 *	  Keys to sign with: which are usable, and those of a user mapping.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "aws/credentials.h"
#include "aws/secret.h"

typedef struct StaticProvider
{
	AwsCredentialsProvider base;
	char	   *access_key_id;
	char	   *secret_access_key;
	char	   *session_token;
} StaticProvider;

/* NULL for NULL, for "", and if out of memory. */
static char *
copy(const char *s)
{
	return s != NULL && s[0] != '\0' ? strdup(s) : NULL;
}

static bool
is_given(const char *s)
{
	return s != NULL && s[0] != '\0';
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

bool
aws_credentials_are_valid(const AwsCredentials *credentials, AwsError *error)
{
	const char *name;
	const char *why;

	if (!aws_key_is_valid(credentials->access_key_id, AWS_ACCESS_KEY_ID_MAX, &why))
		name = "the access key id";
	else if (!aws_key_is_valid(credentials->secret_access_key, AWS_SECRET_KEY_MAX, &why))
		name = "the secret access key";
	else if (credentials->session_token != NULL &&
			 !aws_key_is_valid(credentials->session_token, AWS_SESSION_TOKEN_MAX, &why))
		name = "the session token";
	else
		return true;
	aws_error_set(error, AWS_ERROR_CREDENTIALS, "InvalidCredentials", "%s %s", name, why);
	return false;
}

/*
 * Of AWS's codes, those that new keys may help against.  Not that of a wrong
 * signature: the keys that it was made with are known to AWS.
 */
bool
aws_keys_were_refused(const char *code)
{
	static const char *const codes[] = {
		"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired",
		"InvalidToken", "InvalidSecurityToken", "InvalidClientTokenId",
		"UnrecognizedClientException", "InvalidAccessKeyId", "AuthFailure",
	};

	for (size_t i = 0; i < lengthof(codes); i++)
	{
		if (strcmp(code, codes[i]) == 0)
			return true;
	}
	return false;
}

/* ---- static keys ---- */

static bool
static_peek(AwsCredentialsProvider *provider, AwsCredentials *credentials)
{
	StaticProvider *p = (StaticProvider *) provider;

	memset(credentials, 0, sizeof(*credentials));
	credentials->access_key_id = p->access_key_id;
	credentials->secret_access_key = p->secret_access_key;
	credentials->session_token = p->session_token;
	return p->access_key_id != NULL && p->secret_access_key != NULL;
}

/* The error names what is missing or wrong, and never holds a value. */
static AwsCredentialsStatus
static_get(AwsCredentialsProvider *provider, AwsCredentials *credentials, AwsError *error)
{
	if (static_peek(provider, credentials))
		return aws_credentials_are_valid(credentials, error) ?
			AWS_CREDENTIALS_OK : AWS_CREDENTIALS_FAILED;
	aws_error_set(error, AWS_ERROR_CREDENTIALS, "NoCredentials",
				  "the user mapping has no access_key_id or no secret_access_key");
	return AWS_CREDENTIALS_FAILED;
}

static bool
static_reject(AwsCredentialsProvider *provider, uint64 generation)
{
	(void) provider;
	(void) generation;
	return false;
}

static const char *
static_source(const AwsCredentialsProvider *provider)
{
	(void) provider;
	return "the user mapping";
}

static void
static_free(AwsCredentialsProvider *provider)
{
	StaticProvider *p = (StaticProvider *) provider;

	aws_secret_free(p->access_key_id);
	aws_secret_free(p->secret_access_key);
	aws_secret_free(p->session_token);
	free(p);
}

static const AwsCredentialsMethods static_methods = {
	static_get, static_peek, static_reject, static_source, static_free
};

AwsCredentialsProvider *
aws_static_credentials(const char *access_key_id, const char *secret_access_key,
					   const char *session_token)
{
	StaticProvider *p = calloc(1, sizeof(StaticProvider));

	if (p == NULL)
		return NULL;
	p->base.methods = &static_methods;
	p->access_key_id = copy(access_key_id);
	p->secret_access_key = copy(secret_access_key);
	p->session_token = copy(session_token);
	if ((p->access_key_id == NULL && is_given(access_key_id)) ||
		(p->secret_access_key == NULL && is_given(secret_access_key)) ||
		(p->session_token == NULL && is_given(session_token)))
	{
		/* no memory for one of them: the others are not what was asked for */
		static_free(&p->base);
		return NULL;
	}
	return &p->base;
}

/* ---- any provider ---- */

AwsCredentialsStatus
aws_credentials_get(AwsCredentialsProvider *provider,
					AwsCredentials *credentials, AwsError *error)
{
	if (provider != NULL)
		return provider->methods->get(provider, credentials, error);
	aws_error_set(error, AWS_ERROR_RESOURCES, "NoResources", "out of memory");
	return AWS_CREDENTIALS_FAILED;
}

bool
aws_credentials_peek(AwsCredentialsProvider *provider, AwsCredentials *credentials)
{
	return provider != NULL && provider->methods->peek(provider, credentials);
}

bool
aws_credentials_reject(AwsCredentialsProvider *provider, uint64 generation)
{
	return provider != NULL && provider->methods->reject(provider, generation);
}

const char *
aws_credentials_source(const AwsCredentialsProvider *provider)
{
	return provider->methods->source(provider);
}

void
aws_credentials_free(AwsCredentialsProvider *provider)
{
	if (provider != NULL)
		provider->methods->free(provider);
}
