/*-------------------------------------------------------------------------
 *
 * test_client.c
 *	  The client against test/sqsd, well and badly behaved.
 *
 * More of it is in test_client_send.c, test_connections.c, test_tls.c and
 * test_proxies.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rig.h"
#include "tap.h"

static void
good_calls(const Server *server, SqsClient *client)
{
	Wait		wait = {0, NULL};
	SqsCall    *received;
	SqsCall    *call;
	SqsSlice	handles[3];
	int			timeouts[2] = {0, 60};
	SqsCall    *again;
	uint64		before;

	renew(server, 3);
	received = receive(client, server->queue, 10, 0, 10000);
	ok(sqs_call_error(received) == NULL && sqs_call_action(received) == SQS_RECEIVE_MESSAGE, "receive");
	if (!is_int(sqs_call_nmessages(received), 3, "three messages"))
	{
		sqs_call_free(received);
		return;
	}
	for (int i = 0; i < 3; i++)
	{
		const SqsReceivedMessage *m = sqs_call_message(received, i);

		handles[i] = m->receipt_handle;
		ok(sqs_message_damage(m) == NULL && strncmp(m->body.data, "message ", 8) == 0 && m->receive_count == 1 &&
		   m->sent_ms > 0, "message %d", i);
	}
	ok(sqs_call_memory(received) > 100 && sqs_call_elapsed_ms(received) >= 0, "its books");

	call = sqs_start_change_visibility_batch(client, server->queue, 2, handles, timeouts, 10000, 3, done, &wait);
	run(client, &wait, 1);
	ok(sqs_call_error(call) == NULL && sqs_call_nentries(call) == 2 &&
	   sqs_call_entry(call, 0)->ok && sqs_call_entry(call, 1)->ok, "change visibility");
	sqs_call_free(call);

	again = receive(client, server->queue, 10, 0, 10000);
	if (is_int(sqs_call_nmessages(again), 1, "the one given back comes again"))
	{
		is_int(sqs_call_message(again, 0)->receive_count, 2, "for the second time");
		handles[0] = sqs_call_message(again, 0)->receipt_handle;
	}

	call = sqs_start_delete_batch(client, server->queue, 3, handles, 10000, 3, done, &wait);
	run(client, &wait, 2);
	ok(sqs_call_error(call) == NULL && sqs_call_nentries(call) == 3 && sqs_call_entry(call, 0)->ok &&
	   sqs_call_entry(call, 1)->ok && sqs_call_entry(call, 2)->ok, "delete");
	sqs_call_free(call);
	sqs_call_free(again);

	handles[0] = (SqsSlice) {"no handle", 9};
	call = sqs_start_delete_batch(client, server->queue, 1, handles, 10000, 3, done, &wait);
	run(client, &wait, 3);
	ok(sqs_call_error(call) == NULL && !sqs_call_entry(call, 0)->ok &&
	   sqs_call_entry(call, 0)->class == AWS_ERROR_LEASE_LOST, "a handle that is none: the entry fails");
	sqs_call_free(call);
	sqs_call_free(received);

	call = sqs_start_get_queue_url(client, "q", 10000, 3, done, &wait);
	run(client, &wait, 4);
	is(sqs_call_error(call) ? NULL : sqs_call_queue_url(call), server->queue, "queue URL");
	sqs_call_free(call);
	call = sqs_start_get_queue_url(client, "arn:aws:sqs:us-east-1:000000000000:q", 10000, 3, done, &wait);
	run(client, &wait, 5);
	is(sqs_call_error(call) ? NULL : sqs_call_queue_url(call), server->queue, "queue URL by ARN");
	sqs_call_free(call);
	call = sqs_start_get_queue_url(client, "arn:aws:sqs:us-east-1:111122223333:q", 10000, 3, done, &wait);
	run(client, &wait, 6);
	ok(sqs_call_error(call) != NULL && sqs_call_error(call)->class == AWS_ERROR_NO_QUEUE, "not of another account");
	sqs_call_free(call);
	before = sqs_client_stats(client)->calls[SQS_GET_QUEUE_URL];
	call = sqs_start_get_queue_url(client, "arn:aws:sqs:eu-west-1:000000000000:q", 10000, 3, done, &wait);
	run(client, &wait, 7);
	ok(sqs_call_error(call) != NULL && strcmp(sqs_call_error(call)->code, "WrongRegion") == 0 &&
	   sqs_client_stats(client)->calls[SQS_GET_QUEUE_URL] == before, "an ARN of another region is not asked for");
	sqs_call_free(call);
	call = sqs_start_get_queue_attributes(client, server->queue, 10000, 3, done, &wait);
	run(client, &wait, 8);
	ok(sqs_call_error(call) == NULL && sqs_call_queue_attributes(call)->visibility_timeout == 30 &&
	   !sqs_call_queue_attributes(call)->fifo, "queue attributes");
	sqs_call_free(call);
	call = sqs_start_get_queue_url(client, "nosuch", 10000, 3, done, &wait);
	run(client, &wait, 9);
	ok(sqs_call_error(call) != NULL && sqs_call_error(call)->class == AWS_ERROR_NO_QUEUE &&
	   sqs_call_error(call)->request_id[0] != '\0', "no such queue, with a request id");
	sqs_call_free(call);

	/* many at once, one abandoned, one long poll destroyed with the client */
	wait.completions = 0;
	for (int i = 0; i < 8; i++)
		sqs_start_get_queue_url(client, "q", 10000, 1, free_when_done, &wait.completions);
	call = sqs_start_receive(client, server->queue, 1, 20, -1, 30000, done, &wait);
	ok(wait.completions == 0, "no completion inside a start function");
	run(client, &wait, 8);
	is_int(wait.completions, 8, "eight calls at once end once each");
	sqs_call_abandon(call);
}

static void
bad_servers(const Server *server, SqsClient *client, AwsCredentialsProvider *good)
{
	AwsCredentialsProvider *bad;
	SqsClient  *other;
	SqsCall    *call;
	Wait		wait = {0, NULL};
	int			listener;
	struct sockaddr_in address;
	socklen_t	len = sizeof(address);
	char		url[64];
	int64		before;
	uint64		calls;
	int			n = 0;

	renew(server, 1);
	bad = aws_static_credentials(KEY, "not-the-secret", NULL);
	other = new_client(server->url, bad, NULL);
	receive_ends(other, server->queue, 10000, AWS_ERROR_CREDENTIALS, NULL, "wrong secret");
	is_int(sqs_client_stats(other)->calls[SQS_RECEIVE_MESSAGE], 1, "which is not tried again");
	sqs_client_destroy(other);
	aws_credentials_free(bad);
	bad = aws_static_credentials("AKIDUNKNOWN", SECRET, NULL);
	other = new_client(server->url, bad, NULL);
	receive_ends(other, server->queue, 10000, AWS_ERROR_CREDENTIALS, NULL, "unknown key");
	sqs_client_destroy(other);
	aws_credentials_free(bad);
	bad = aws_static_credentials(NULL, NULL, NULL);
	other = new_client(server->url, bad, NULL);
	receive_ends(other, server->queue, 10000, AWS_ERROR_CREDENTIALS, "NoCredentials", "no key");
	is_int(sqs_client_stats(other)->calls[SQS_RECEIVE_MESSAGE], 0, "and nothing was sent");
	sqs_client_destroy(other);
	aws_credentials_free(bad);

	/* a port that was free a moment ago */
	listener = socket(AF_INET, SOCK_STREAM, 0);
	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *) &address, sizeof(address)) < 0 ||
		getsockname(listener, (struct sockaddr *) &address, &len) < 0)
		printf("# no port to be had\n");
	snprintf(url, sizeof(url), "http://127.0.0.1:%d", ntohs(address.sin_port));
	other = new_client(url, good, NULL);
	call = receive(other, server->queue, 1, 0, 10000);
	ok(sqs_call_error(call) != NULL && sqs_call_error(call)->class == AWS_ERROR_TRANSIENT &&
	   !sqs_call_error(call)->may_be_done, "connection refused: nothing can have been done");
	sqs_call_free(call);
	call = sqs_start_get_queue_url(other, "q", 10000, 3, done, &wait);
	run(other, &wait, 1);
	ok(sqs_call_error(call) != NULL && sqs_client_stats(other)->retries == 2 &&
	   sqs_client_stats(other)->calls[SQS_GET_QUEUE_URL] == 3, "three attempts");
	sqs_call_free(call);
	for (int i = 0; i < 8; i++)
	{
		wait.completions = 0;
		call = sqs_start_get_queue_url(other, "q", 10000, 3, done, &wait);
		run(other, &wait, 1);
		sqs_call_free(call);
	}
	is_int(sqs_client_stats(other)->retries, 10, "while everything fails, there are ten retries in all");
	sqs_client_destroy(other);
	close(listener);

	fault(server, "{\"kind\":\"blackhole\"}");
	before = now_ms();
	receive_ends(client, server->queue, 700, AWS_ERROR_TIMEOUT, NULL, "a black hole");
	ok(now_ms() - before >= 650, "ends at the deadline, not before");

	/* destroyed while waiting: no completion, no leak */
	other = new_client(server->url, good, NULL);
	sqs_start_receive(other, server->queue, 1, 0, -1, 10000, free_when_done, &n);
	sqs_client_poll(other);
	sqs_client_destroy(other);
	is_int(n, 0, "destroying a client completes nothing");

	renew(server, 1);
	fault(server, "{\"kind\":\"reset_before\",\"count\":-1}");
	receive_ends(client, server->queue, 10000, AWS_ERROR_TRANSIENT, NULL, "reset before");
	renew(server, 1);
	fault(server, "{\"kind\":\"reset_after\",\"count\":-1}");
	receive_ends(client, server->queue, 10000, AWS_ERROR_TRANSIENT, NULL, "reset after");
	renew(server, 1);
	fault(server, "{\"kind\":\"lose_reply\",\"count\":-1}");
	call = receive(client, server->queue, 1, 0, 10000);
	ok(sqs_call_error(call) != NULL && sqs_call_error(call)->class == AWS_ERROR_TRANSIENT &&
	   sqs_call_error(call)->may_be_done, "a lost reply: it may have been done");
	sqs_call_free(call);
	renew(server, 1);
	fault(server, "{\"kind\":\"truncate\",\"bytes\":10}");
	receive_ends(client, server->queue, 10000, AWS_ERROR_TRANSIENT, NULL, "a truncated reply");
	renew(server, 1);
	fault(server, "{\"kind\":\"garbage\"}");
	receive_ends(client, server->queue, 10000, AWS_ERROR_TRANSIENT, "InvalidReply", "garbage");
	renew(server, 1);
	fault(server, "{\"kind\":\"garbage\",\"raw\":true}");
	receive_ends(client, server->queue, 10000, AWS_ERROR_TRANSIENT, NULL, "not even HTTP");
	renew(server, 1);
	fault(server, "{\"kind\":\"error\",\"status\":503,\"body\":\"<html>busy</html>\"}");
	receive_ends(client, server->queue, 10000, AWS_ERROR_TRANSIENT, "Http503", "HTML");
	renew(server, 1);
	fault(server, "{\"kind\":\"error\",\"status\":500,\"body\":\"\"}");
	receive_ends(client, server->queue, 10000, AWS_ERROR_TRANSIENT, NULL, "an error without a body");
	renew(server, 1);
	fault(server, "{\"kind\":\"error\",\"code\":\"OverLimit\"}");
	receive_ends(client, server->queue, 10000, AWS_ERROR_OVER_LIMIT, "OverLimit", "over the limit");

	renew(server, 1);
	fault(server, "{\"kind\":\"huge\",\"bytes\":68157440}");
	receive_ends(client, server->queue, 30000, AWS_ERROR_TRANSIENT, NULL, "a reply of 65 MiB");
	renew(server, 1);
	fault(server, "{\"kind\":\"huge\",\"bytes\":2097152}");
	wait.completions = 0;
	call = sqs_start_get_queue_url(client, "q", 10000, 1, done, &wait);
	run(client, &wait, 1);
	ok(sqs_call_error(call) != NULL, "2 MiB where a few bytes are due");
	sqs_call_free(call);
	renew(server, 1);
	fault(server, "{\"kind\":\"huge\",\"bytes\":2097152}");
	receive_ends(client, server->queue, 30000, AWS_ERROR_NONE, NULL, "2 MiB of unknown members are no error");

	renew(server, 1);
	fault(server, "{\"kind\":\"bad_md5\"}");
	call = receive(client, server->queue, 1, 0, 10000);
	ok(sqs_call_error(call) == NULL && sqs_call_nmessages(call) == 1 &&
	   sqs_message_damage(sqs_call_message(call, 0)) != NULL, "a wrong MD5 damages the message, not the reply");
	sqs_call_free(call);

	/* a transient error is tried again, and the call succeeds */
	renew(server, 0);
	fault(server, "{\"kind\":\"error\",\"code\":\"ServiceUnavailable\",\"count\":2}");
	calls = sqs_client_stats(client)->calls[SQS_GET_QUEUE_URL];
	wait.completions = 0;
	call = sqs_start_get_queue_url(client, "q", 20000, 5, done, &wait);
	run(client, &wait, 1);
	ok(sqs_call_error(call) == NULL, "two errors, then success");
	is_int(sqs_client_stats(client)->calls[SQS_GET_QUEUE_URL] - calls, 3, "at the third attempt");
	sqs_call_free(call);
	renew(server, 1);
	receive_ends(client, server->queue, 10000, AWS_ERROR_NONE, NULL, "and all is well again");
}

/* A reply is lost that messages of a FIFO queue, or of another, were in. */
static void
lost_receives(const Server *server, AwsCredentialsProvider *good)
{
	SqsClient  *client = new_client(server->url, good, NULL);
	SqsCall    *call;
	char		fifo[128];

	snprintf(fifo, sizeof(fifo), "%s/000000000000/f.fifo", server->url);
	renew(server, 0);
	fault(server, "{\"kind\":\"lose_reply\",\"action\":\"ReceiveMessage\",\"count\":1}");
	call = receive(client, fifo, 1, 0, 10000);
	ok(sqs_call_error(call) == NULL, "FIFO: a receive whose reply is lost");
	is_int(sqs_client_stats(client)->calls[SQS_RECEIVE_MESSAGE], 2, "is made again");
	sqs_call_free(call);
	fault(server, "{\"kind\":\"lose_reply\",\"action\":\"ReceiveMessage\",\"count\":-1}");
	receive_ends(client, fifo, 10000, AWS_ERROR_TRANSIENT, NULL, "FIFO: all replies are lost");
	is_int(sqs_client_stats(client)->calls[SQS_RECEIVE_MESSAGE], 4, "once");
	receive_ends(client, server->queue, 10000, AWS_ERROR_TRANSIENT, NULL, "another queue: a reply is lost");
	is_int(sqs_client_stats(client)->calls[SQS_RECEIVE_MESSAGE], 5, "which is for its owner to deal with");
	sqs_client_destroy(client);
	renew(server, 0);
}

static void
clock_skew(const Server *server, AwsCredentialsProvider *good)
{
	static const int shifts[] = {3600, -7200};

	for (size_t i = 0; i < lengthof(shifts); i++)
	{
		SqsClient  *client = new_client(server->url, good, NULL);
		char		rule[64];

		renew(server, 1);
		snprintf(rule, sizeof(rule), "{\"kind\":\"clock\",\"seconds\":%d}", shifts[i]);
		fault(server, rule);
		receive_ends(client, server->queue, 10000, AWS_ERROR_NONE, NULL, "another clock");
		is_int(sqs_client_stats(client)->calls[SQS_RECEIVE_MESSAGE], 2, "took one extra attempt");
		ok(llabs(sqs_client_stats(client)->clock_skew_ms - shifts[i] * 1000LL) < 10000, "the skew is known");
		receive_ends(client, server->queue, 10000, AWS_ERROR_NONE, NULL, "the next call");
		is_int(sqs_client_stats(client)->calls[SQS_RECEIVE_MESSAGE], 3, "needs none");
		sqs_client_destroy(client);
	}
	renew(server, 0);
}

static void
options(AwsCredentialsProvider *good)
{
	static const struct
	{
		const char *region;
		const char *endpoint;
		const char *code;		/* NULL: works */
	}			cases[] =
	{
		{"us-east-1", NULL, NULL},
		{NULL, "https://sqs.eu-west-1.amazonaws.com/", NULL},
		{NULL, NULL, "NoRegion"},
		{NULL, "http://127.0.0.1:1", "NoRegion"},
		{"US", NULL, "InvalidRegion"},
		{"us-east-1", "http://sqs.us-east-1.amazonaws.com", "InvalidEndpoint"},
		{"us-east-1", "http://user@127.0.0.1", "InvalidEndpoint"},
		{"us-east-1", "http://127.0.0.1.evil.com", "InvalidEndpoint"},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		SqsClientOptions o;
		AwsError	error;
		SqsClient  *client;

		memset(&o, 0, sizeof(o));
		memset(&error, 0, sizeof(error));
		o.region = cases[i].region;
		o.endpoint = cases[i].endpoint;
		o.user_agent = "t";
		o.credentials = good;
		client = sqs_client_create(&o, &error);
		is(client != NULL ? NULL : error.code, cases[i].code, "options %zu", i);
		if (client == NULL)
			is_int(error.class, AWS_ERROR_CONFIGURATION, "is a matter of configuration");
		sqs_client_destroy(client);
	}
	sqs_client_destroy(NULL);
}

/* An owner that asks again at once when a call fails. */
typedef struct Again
{
	SqsClient  *client;
	int			completions;
} Again;

static void
start_again(SqsCall *call, void *arg)
{
	Again	   *again = arg;

	sqs_call_free(call);
	if (++again->completions < 100)
		sqs_start_get_queue_url(again->client, "q", 10000, 1, start_again, again);
}

static void
failing_at_once(void)
{
	AwsCredentialsProvider *none = aws_static_credentials(NULL, NULL, NULL);
	Again		again = {new_client("http://127.0.0.1:1", none, NULL), 0};

	sqs_start_get_queue_url(again.client, "q", 10000, 1, start_again, &again);
	is_int(sqs_client_timeout(again.client), 0, "a call that fails at once is due at once");
	sqs_client_poll(again.client);
	is_int(again.completions, 1, "poll() leaves a call that it started for the next time");
	sqs_client_destroy(again.client);
	aws_credentials_free(none);
}

void
test_client(void)
{
	AwsCredentialsProvider *good = aws_static_credentials(KEY, SECRET, NULL);
	Server		server;
	SqsClient  *client;

	if (!rig_begin())
		return;
	options(good);
	failing_at_once();
	if (ok(start_server(&server, NULL, NULL), "the server starts"))
	{
		client = new_client(server.url, good, NULL);
		good_calls(&server, client);
		sqs_client_destroy(client);
		client = new_client(server.url, good, NULL);
		bad_servers(&server, client, good);
		sqs_client_destroy(client);
		lost_receives(&server, good);
		clock_skew(&server, good);
	}
	stop_server(&server);
	rig_end();
	aws_credentials_free(good);
}
