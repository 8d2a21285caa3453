/*-------------------------------------------------------------------------
 *
 * fuzz_keys.c
 *	  Replies with keys.  The first byte says who was asked for what; the rest
 *	  is the reply.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "aws/credentials.h"
#include "aws/key_reply.h"

/* Text of the reply, or a number that was copied. */
static void
check_part(const char *part, const AwsKeyReply *reply, const char *buf, size_t size)
{
	if (part == NULL)
		return;
	MUST(part[0] != '\0');
	for (size_t i = 0; i < lengthof(reply->numbers); i++)
		if (part == reply->numbers[i])
		{
			MUST(memchr(part, '\0', sizeof(reply->numbers[i])) != NULL);
			return;
		}
	MUST(fuzz_inside(part, strlen(part) + 1, buf, size));
}

static void
check_key(const char *key, size_t max)
{
	const char *why;

	MUST(key != NULL && key[0] != '\0' && aws_key_is_valid(key, max, &why));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const actions[] = {
		NULL, "AssumeRole", "AssumeRoleWithWebIdentity", "GetCallerIdentity"
	};
	AwsKeyReply reply;
	AwsFetchedKeys keys;
	const char *why;
	char	   *copy;

	if (size < 1)
		return 0;
	copy = fuzz_copy(data + 1, size - 1);
	(void) aws_key_reply_parse(copy, size - 1, actions[data[0] % lengthof(actions)], &reply);
	check_part(reply.access_key_id, &reply, copy, size - 1);
	check_part(reply.secret_access_key, &reply, copy, size - 1);
	check_part(reply.session_token, &reply, copy, size - 1);
	check_part(reply.expiration, &reply, copy, size - 1);
	check_part(reply.account_id, &reply, copy, size - 1);
	check_part(reply.arn, &reply, copy, size - 1);
	check_part(reply.user_id, &reply, copy, size - 1);
	check_part(reply.code, &reply, copy, size - 1);
	check_part(reply.message, &reply, copy, size - 1);
	check_part(reply.version, &reply, copy, size - 1);

	for (AwsKeyParts parts = AWS_KEYS_LASTING; parts <= AWS_KEYS_TEMPORARY; parts++)
	{
		if (aws_key_reply_keys(&reply, parts, &keys, &why))
		{
			check_key(keys.access_key_id, AWS_ACCESS_KEY_ID_MAX);
			check_key(keys.secret_access_key, AWS_SECRET_KEY_MAX);
			if (parts == AWS_KEYS_TEMPORARY || keys.session_token != NULL)
				check_key(keys.session_token, AWS_SESSION_TOKEN_MAX);
			/* an offset may lead to the day before 1970 */
			MUST(keys.expires >= -86400000);
		}
		else
			MUST(why != NULL && keys.access_key_id == NULL && keys.secret_access_key == NULL &&
				 keys.session_token == NULL);
		aws_fetched_keys_wipe(&keys);
	}
	free(copy);
	return 0;
}
