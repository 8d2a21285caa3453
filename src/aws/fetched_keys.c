/*-------------------------------------------------------------------------
 *
 * fetched_keys.c
 *	  What fetching ends with: keys, or who they belong to.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "aws/fetched_keys.h"
#include "aws/secret.h"

void
aws_fetched_keys_wipe(AwsFetchedKeys *keys)
{
	aws_secret_free(keys->access_key_id);
	aws_secret_free(keys->secret_access_key);
	aws_secret_free(keys->session_token);
	free(keys->arn);
	free(keys->account_id);
	free(keys->region);
	memset(keys, 0, sizeof(*keys));
}
