/*-------------------------------------------------------------------------
 *
 * credentials.h
 *	  Keys to sign with, and the interface to whatever provides them.
 *
 * A provider has the keys that are valid now.  That of a user mapping is here;
 * those that fetch keys and share them with other processes are built on top of
 * this layer.  Since they need the network, a provider may answer that its keys
 * are not there yet (AWS_CREDENTIALS_PENDING).
 *
 * What is derived from a secret key for signing is in SigV4Key (sigv4.h).
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
	uint64		generation;		/* which of the provider's keys these are */
	const char *region;			/* found where the keys are; NULL or "": none */
	int			retry_ms;		/* AWS_CREDENTIALS_PENDING: when to ask again */
} AwsCredentials;

typedef enum AwsCredentialsStatus
{
	AWS_CREDENTIALS_OK,
	AWS_CREDENTIALS_PENDING,	/* being fetched */
	AWS_CREDENTIALS_FAILED		/* *error says why */
} AwsCredentialsStatus;

typedef struct AwsCredentialsProvider AwsCredentialsProvider;

/* See the functions below.  None of these waits, or raises an error. */
typedef struct AwsCredentialsMethods
{
	AwsCredentialsStatus (*get) (AwsCredentialsProvider *provider,
								 AwsCredentials *credentials, AwsError *error);
	bool		(*peek) (AwsCredentialsProvider *provider, AwsCredentials *credentials);
	bool		(*reject) (AwsCredentialsProvider *provider, uint64 generation);
	const char *(*source) (const AwsCredentialsProvider *provider);
	void		(*free) (AwsCredentialsProvider *provider);
} AwsCredentialsMethods;

/* The first member of each provider. */
struct AwsCredentialsProvider
{
	const AwsCredentialsMethods *methods;
};

/*
 * Can this be used as a key or token?  It must not be longer than max, and must
 * be printable ASCII without blanks, because it goes into HTTP headers.  If
 * not, *why is a constant phrase that begins with "must", without the value.
 */
extern bool aws_key_is_valid(const char *value, size_t max, const char **why);

/* The same for all of them; *error names the one that is not usable. */
extern bool aws_credentials_are_valid(const AwsCredentials *credentials, AwsError *error);

/*
 * A provider of the same keys for ever.  Copies the strings; any of them may be
 * NULL, which shows when the keys are asked for.  NULL if out of memory.
 */
extern AwsCredentialsProvider *aws_static_credentials(const char *access_key_id,
													  const char *secret_access_key,
													  const char *session_token);

/*
 * The returned strings are the provider's, and valid until the next call or
 * until it is freed.  *error is set only with AWS_CREDENTIALS_FAILED.  A NULL
 * provider, from running out of memory, fails.
 */
extern AwsCredentialsStatus aws_credentials_get(AwsCredentialsProvider *provider,
												AwsCredentials *credentials,
												AwsError *error);

/* The keys that it returned last, if it still has them; fetches nothing. */
extern bool aws_credentials_peek(AwsCredentialsProvider *provider,
								 AwsCredentials *credentials);

/*
 * AWS has refused the keys of this generation.  True if the provider has others
 * or is about to get them, so that it makes sense to try again.
 */
extern bool aws_credentials_reject(AwsCredentialsProvider *provider, uint64 generation);

/* Does this code of an error mean that other keys might be accepted? */
extern bool aws_keys_were_refused(const char *code);

/* Where the keys come from, as a phrase: "the user mapping". */
extern const char *aws_credentials_source(const AwsCredentialsProvider *provider);

/* Wipes the keys.  NULL is allowed. */
extern void aws_credentials_free(AwsCredentialsProvider *provider);

#endif							/* AWS_CREDENTIALS_H */
