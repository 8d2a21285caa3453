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

/* A provider whose keys come later, and change when they are refused. */
typedef struct TestProvider
{
	AwsCredentialsProvider base;
	int			pending;		/* so many times more; -1: for ever */
	bool		renews;			/* there are others if they are refused */
	bool		bad;			/* unknown keys until then */
	uint64		generation;
	const char *region;
	int			asked;
	int			rejected;
	uint64		rejected_generation;
} TestProvider;

static AwsCredentialsStatus
test_get(AwsCredentialsProvider *provider, AwsCredentials *credentials, AwsError *error)
{
	TestProvider *p = (TestProvider *) provider;

	(void) error;
	p->asked++;
	memset(credentials, 0, sizeof(*credentials));
	credentials->retry_ms = 5;
	if (p->pending != 0)
	{
		if (p->pending > 0)
			p->pending--;
		return AWS_CREDENTIALS_PENDING;
	}
	credentials->access_key_id = p->bad ? "AKIDOLD" : KEY;
	credentials->secret_access_key = SECRET;
	credentials->generation = p->generation;
	credentials->region = p->region;
	return AWS_CREDENTIALS_OK;
}

static bool
test_peek(AwsCredentialsProvider *provider, AwsCredentials *credentials)
{
	(void) provider;
	(void) credentials;
	return false;
}

static bool
test_reject(AwsCredentialsProvider *provider, uint64 generation)
{
	TestProvider *p = (TestProvider *) provider;

	p->rejected++;
	p->rejected_generation = generation;
	if (!p->renews)
		return false;
	p->bad = false;
	p->generation++;
	p->pending = 2;
	return true;
}

static const char *
test_source(const AwsCredentialsProvider *provider)
{
	(void) provider;
	return "a test";
}

static const AwsCredentialsMethods test_methods = {
	test_get, test_peek, test_reject, test_source, NULL
};

/* Keys that are not there yet, or not any more. */
static void
keys_to_come(const Server *server)
{
	TestProvider provider = {{&test_methods}};
	SqsClient  *client = new_client(server->url, &provider.base, NULL);
	SqsClientOptions o;
	AwsError	why;
	SqsCall    *call;

	renew(server, 1);
	provider.pending = 3;
	receive_ends(client, server->queue, 10000, AWS_ERROR_NONE, NULL, "a call waits for its keys");
	is_int(provider.asked, 4, "and asks until they are there");
	provider.pending = -1;
	call = receive(client, server->queue, 1, 0, 200);
	is_int(sqs_call_error(call)->class, AWS_ERROR_TIMEOUT, "but not for longer than it has");
	is(sqs_call_error(call)->code, "NoCredentials", "then the error is that there were none");
	ok(strstr(sqs_call_error(call)->message, "a test") != NULL, "and from where");
	ok(!sqs_call_error(call)->may_be_done, "nothing was sent");
	sqs_call_free(call);

	provider.pending = 0;
	provider.generation = 7;
	provider.bad = provider.renews = true;
	receive_ends(client, server->queue, 10000, AWS_ERROR_NONE, NULL, "keys that are refused, and replaced");
	is_int(provider.rejected, 1, "they are rejected once");
	is_int(provider.rejected_generation, 7, "those that were used");
	provider.bad = true;
	provider.renews = false;
	receive_ends(client, server->queue, 10000, AWS_ERROR_CREDENTIALS, NULL, "keys that are refused for good");
	is_int(provider.rejected, 2, "the provider was asked");
	sqs_client_destroy(client);

	/* a region that comes with the keys */
	memset(&o, 0, sizeof(o));
	o.endpoint = server->url;
	o.user_agent = "sqsbridge-unit-test";
	o.credentials = &provider.base;
	ok(sqs_client_create(&o, &why) == NULL && strcmp(why.code, "NoRegion") == 0, "no region at all");
	o.region_with_keys = true;
	client = sqs_client_create(&o, &why);
	provider.bad = false;
	receive_ends(client, server->queue, 10000, AWS_ERROR_CONFIGURATION, "NoRegion", "none with the keys either");
	provider.region = "us-east-1";
	renew(server, 1);
	receive_ends(client, server->queue, 10000, AWS_ERROR_NONE, NULL, "one that comes with the keys");
	sqs_client_destroy(client);
}

void
test_client_keys(void)
{
	Server		server;

	if (!rig_begin())
		return;
	if (ok(start_server(&server, NULL, NULL), "the server starts"))
	{
		assumed_roles(&server);
		keys_to_come(&server);
	}
	stop_server(&server);
	rig_end();
}
