/*-------------------------------------------------------------------------
 *
 * test_client_keys.c
 *	  The client and its keys: those that are fetched, come later, or end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <poll.h>

#include "aws/fetch.h"
#include "rig.h"
#include "tap.h"

/* Fetch keys and wait for them; false with *error set. */
static bool
fetch(HttpPool *pool, const AwsIdentity *identity, AwsFetchedKeys *keys, AwsError *error)
{
	AwsFetch   *fetch = aws_fetch_start(pool, identity, 10000, error);
	bool		result;

	while (!aws_fetch_done(fetch))
	{
		struct pollfd fd = {http_pool_fd(pool), POLLIN, 0};
		long		timeout = http_pool_timeout(pool);
		long		next = aws_fetch_next(fetch);

		if (timeout < 0 || (next >= 0 && next < timeout))
			timeout = next;
		poll(&fd, 1, timeout < 0 || timeout > 1000 ? 1000 : (int) timeout);
		http_pool_poll(pool);
		aws_fetch_go_on(fetch);
	}
	result = aws_fetch_result(fetch, keys, error);
	aws_fetch_cancel(fetch);
	if (!result)
		printf("# %s: %s\n", error->code, error->message);
	return result;
}

/*
 * A role that is assumed with the keys of another, which is assumed with ours:
 * the server checks all signatures, and takes the last keys until they end.
 */
static void
assumed_roles(const Server *server)
{
	AwsError	error;
	HttpPool   *pool = http_pool_create("unit-test", 0, &error);
	char		region[] = "us-east-1";
	char		source[] = "the test";
	char		key[] = KEY;
	char		secret[] = SECRET;
	char		url[64];
	char		role[] = "arn:aws:iam::123456789012:role/one";
	char		role2[] = "arn:aws:iam::123456789012:role/two";
	char		external_id[] = "a b&c=d+e%20/~";
	char		session[] = "unit.test@x=1,y+z-_";
	AwsIdentity identity = {.kind = AWS_SOURCE_STATIC,.source = source,.access_key_id = key,
		.secret_access_key = secret,.region = region,.sts_endpoint = url,.nroles = 2,
		.roles = {{role, NULL, session, 0, source}, {role2, external_id, session, 900, source}}
	};
	AwsFetchedKeys keys;
	AwsCredentialsProvider *provider;
	SqsClient  *client;

	strlcpy(url, server->url, sizeof(url));
	admin(server, "POST", "identity",
		  "{\"roles\":[{\"arn\":\"arn:aws:iam::123456789012:role/one\",\"by\":\"arn:aws:iam::000000000000:user/" KEY "\"},"
		  "{\"arn\":\"arn:aws:iam::123456789012:role/two\",\"external_id\":\"a b&c=d+e%20/~\","
		  "\"by\":\"arn:aws:sts::123456789012:assumed-role/one/unit.test@x=1,y+z-_\"}]}");
	if (ok(fetch(pool, &identity, &keys, &error), "two roles are assumed"))
	{
		is(keys.arn, "arn:aws:sts::123456789012:assumed-role/two/unit.test@x=1,y+z-_", "the second counts");
		provider = aws_static_credentials(keys.access_key_id, keys.secret_access_key, keys.session_token);
		client = new_client(server->url, provider, NULL);
		receive_ends(client, server->queue, 10000, AWS_ERROR_NONE, NULL, "its keys");
		admin(server, "POST", "identity", "{\"revoke\":true}");
		receive_ends(client, server->queue, 10000, AWS_ERROR_CREDENTIALS, "ExpiredTokenException", "at their end");
		sqs_client_destroy(client);
		aws_credentials_free(provider);
		aws_fetched_keys_wipe(&keys);
	}
	external_id[0] = 'b';
	ok(!fetch(pool, &identity, &keys, &error), "another external id");
	is(error.code, "AccessDenied", "is refused");
	secret[0] = 'x';
	ok(!fetch(pool, &identity, &keys, &error), "another secret");
	is(error.code, "SignatureDoesNotMatch", "does not sign");
	admin(server, "POST", "identity", "{\"roles\":null}");
	http_pool_destroy(pool);
}

void
test_client_keys(void)
{
	Server		server;

	if (!rig_begin())
		return;
	if (ok(start_server(&server, NULL, NULL), "the server starts"))
		assumed_roles(&server);
	stop_server(&server);
	rig_end();
}
