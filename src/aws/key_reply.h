/*-------------------------------------------------------------------------
 *
 * key_reply.h
 *	  What metadata services, programs and STS send: keys, or why there are
 *	  none.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_KEY_REPLY_H
#define AWS_KEY_REPLY_H

#include "aws/fetched_keys.h"

/*
 * The parts of a reply that are of use.  They are the sender's text as it is,
 * and point into the reply; NULL: not there, or empty.
 */
typedef struct AwsKeyReply
{
	const char *access_key_id;
	const char *secret_access_key;
	const char *session_token;
	const char *expiration;
	bool		expires_is_number;	/* s since the epoch, not ISO 8601 */
	const char *account_id;
	const char *arn;
	const char *user_id;
	const char *code;			/* of an error; "Success" of instance metadata */
	const char *message;
	const char *version;		/* of a program's reply */
	char		numbers[2][32]; /* what is a number points here */
} AwsKeyReply;

/*
 * Parse a reply in place.  action: what STS was asked for, whose replies are
 * XML or JSON; or NULL for the JSON that the others send.  False if it is
 * neither; *reply is usable in any case.
 */
extern bool aws_key_reply_parse(char *data, size_t len, const char *action,
								AwsKeyReply *reply);

/* Which of the parts must be there, beside the key and the secret. */
typedef enum AwsKeyParts
{
	AWS_KEYS_LASTING,			/* none: keys may be for ever */
	AWS_KEYS_TEMPORARY			/* session token and expiration */
} AwsKeyParts;

/*
 * Copy the keys of a reply.  False if some are missing or not usable, with *why
 * a phrase such as "there is no AccessKeyId"; or if out of memory, with *why
 * NULL.  *keys is empty then.
 */
extern bool aws_key_reply_keys(const AwsKeyReply *reply, AwsKeyParts parts,
							   AwsFetchedKeys *keys, const char **why);

#endif							/* AWS_KEY_REPLY_H */
