/*-------------------------------------------------------------------------
 *
 * credentials.h
 *	  Where keys come from.
 *
 * A provider hands out the keys of the moment.  Today there are two: static
 * keys (a user mapping) and the server's environment.  The rest of the AWS
 * provider chain (web identity, profile, container, instance metadata) adds
 * providers behind the same interface; that they may need HTTP is why get()
 * may answer "not yet" (AWS_CREDENTIALS_PENDING).
 *
 * Keys live in the provider and, for the moment of signing, on the stack of
 * the signer; both are wiped.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_CREDENTIALS_H
#define AWS_CREDENTIALS_H

#include "aws/aws_error.h"

/*
 * The longest that can be used.  AWS's key ids have up to 128 characters, its
 * secrets 40 and its tokens some kilobytes, without a limit that is documented.
 */
#define AWS_ACCESS_KEY_ID_MAX	128
#define AWS_SECRET_KEY_MAX		256
#define AWS_SESSION_TOKEN_MAX	16384

typedef struct AwsCredentials
{
	const char *access_key_id;
	const char *secret_access_key;
	const char *session_token;	/* NULL or "" : none */
} AwsCredentials;

typedef enum AwsCredentialsStatus
{
	AWS_CREDENTIALS_OK,
	AWS_CREDENTIALS_PENDING,	/* being fetched; ask again after the next poll */
	AWS_CREDENTIALS_FAILED		/* *error says why */
} AwsCredentialsStatus;

typedef struct AwsCredentialsProvider AwsCredentialsProvider;

/*
 * Can a key or token be used?  It has to fit, and it goes into HTTP headers.
 * *why completes "must ...", and does not hold the value.
 */
extern bool aws_key_is_valid(const char *value, size_t max, const char **why);

/* Copies the strings.  session_token may be NULL. */
extern AwsCredentialsProvider *aws_static_credentials(const char *access_key_id,
													  const char *secret_access_key,
													  const char *session_token);

/*
 * The default chain: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
 * AWS_SESSION_TOKEN of the process environment, read anew at each get().
 * Where they are absent and the environment configures a provider that is
 * not supported, the error names it.
 */
extern AwsCredentialsProvider *aws_default_credentials(void);

/* Does the environment have keys that can be used?  If not, *error says why. */
extern bool aws_environment_has_keys(AwsError *error);

/* The returned strings are the provider's and valid until the next call. */
extern AwsCredentialsStatus aws_credentials_get(AwsCredentialsProvider *provider,
												AwsCredentials *credentials,
												AwsError *error);

/*
 * Does the provider hand out just these?  No key id at all stands for those
 * of the default chain.
 */
extern bool aws_credentials_are(const AwsCredentialsProvider *provider,
								const AwsCredentials *credentials);

/* The keys were refused: fetch others if there can be others. True if so. */
extern bool aws_credentials_invalidate(AwsCredentialsProvider *provider);

extern const char *aws_credentials_source(const AwsCredentialsProvider *provider);
extern void aws_credentials_free(AwsCredentialsProvider *provider); /* wipes */

#endif							/* AWS_CREDENTIALS_H */
