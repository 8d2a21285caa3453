/*-------------------------------------------------------------------------
 *
 * fetched_keys.h
 *	  What fetching ends with: keys, or who they belong to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_FETCHED_KEYS_H
#define AWS_FETCHED_KEYS_H

/* The strings are malloc'ed; aws_fetched_keys_wipe() frees them. */
typedef struct AwsFetchedKeys
{
	char	   *access_key_id;
	char	   *secret_access_key;
	char	   *session_token;	/* NULL: none */
	int64		expires;		/* epoch ms by AWS's clock; 0: never.  What
								 * instance metadata gives may be over */
	int64		skew_ms;		/* AWS's clock minus ours, as far as replies
								 * tell; 0: no difference is known */
	char	   *arn;			/* of the role's session; NULL: not known */
	char	   *account_id;		/* NULL: not known */
	char	   *region;			/* from instance metadata, if the plan asks */
} AwsFetchedKeys;

/* Who keys belong to, as GetCallerIdentity says. */
typedef struct AwsCaller
{
	char		account[64];
	char		arn[2049];
	char		user_id[256];
} AwsCaller;

/* Wipe and free the strings; all fields become 0. */
extern void aws_fetched_keys_wipe(AwsFetchedKeys *keys);

#endif							/* AWS_FETCHED_KEYS_H */
