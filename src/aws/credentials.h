/*-------------------------------------------------------------------------
 *
 * credentials.h
 *	  Where keys come from.
 *
 * A provider returns the keys that are valid now.  There are two: static keys
 * (from a user mapping) and the server's environment.  Other sources of the AWS
 * provider chain (web identity, profile, container, instance metadata) would
 * be providers behind the same interface.  Since they need HTTP, a provider may
 * answer that its keys are not there yet (AWS_CREDENTIALS_PENDING).
 *
 * In this layer, a static provider has the only copy of the secret key that
 * lives longer than a signature takes; it is wiped with the provider.  What is derived
 * from it for signing is in SigV4Key (sigv4.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_CREDENTIALS_H
#define AWS_CREDENTIALS_H

#include "aws/aws_error.h"

/*
 * The most characters that are accepted.  Access key ids have up to 128 (IAM
 * API reference).  Secret keys have 40, and session tokens usually less than
 * 4,096; AWS documents no limit for either.
 */
#define AWS_ACCESS_KEY_ID_MAX	128
#define AWS_SECRET_KEY_MAX		256
#define AWS_SESSION_TOKEN_MAX	16384

typedef struct AwsCredentials
{
	const char *access_key_id;
	const char *secret_access_key;
	const char *session_token;	/* NULL or "": none */
} AwsCredentials;

typedef enum AwsCredentialsStatus
{
	AWS_CREDENTIALS_OK,
	AWS_CREDENTIALS_PENDING,	/* being fetched; ask again after the next
								 * poll */
	AWS_CREDENTIALS_FAILED		/* *error says why */
} AwsCredentialsStatus;

typedef struct AwsCredentialsProvider AwsCredentialsProvider;

/*
 * Can this be used as a key or token?  It must not be longer than max, and must
 * be printable ASCII without blanks, because it goes into HTTP headers.  If
 * not, *why is a constant phrase that begins with "must", without the value.
 */
extern bool aws_key_is_valid(const char *value, size_t max, const char **why);

/*
 * Copies the strings; any of them may be NULL, which shows when the keys are
 * asked for.  Both of these return NULL if out of memory.
 */
extern AwsCredentialsProvider *aws_static_credentials(const char *access_key_id,
													  const char *secret_access_key,
													  const char *session_token);

/*
 * Keys from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in
 * the environment of the process, read each time.  If they are absent and the
 * environment configures a source that is not supported, the error names it.
 */
extern AwsCredentialsProvider *aws_default_credentials(void);

/* Does the environment have usable keys?  If not, *error says why. */
extern bool aws_environment_has_keys(AwsError *error);

/*
 * The returned strings are the provider's, and valid until the next call or
 * until it is freed.  *error is set only with AWS_CREDENTIALS_FAILED.  A NULL
 * provider, from running out of memory, fails.
 */
extern AwsCredentialsStatus aws_credentials_get(AwsCredentialsProvider *provider,
												AwsCredentials *credentials,
												AwsError *error);

/*
 * Does the provider return exactly these?  Credentials without a key id stand
 * for those of the environment.  False for a NULL provider.
 */
extern bool aws_credentials_are(const AwsCredentialsProvider *provider,
								const AwsCredentials *credentials);

/*
 * SQS refused the keys.  True if the provider will return others, so that it
 * makes sense to try again.
 */
extern bool aws_credentials_invalidate(AwsCredentialsProvider *provider);

/* "user mapping" or "environment". */
extern const char *aws_credentials_source(const AwsCredentialsProvider *provider);

/* Wipes the keys.  NULL is allowed. */
extern void aws_credentials_free(AwsCredentialsProvider *provider);

#endif							/* AWS_CREDENTIALS_H */
