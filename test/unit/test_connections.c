/*-------------------------------------------------------------------------
 *
 * test_connections.c
 *	  Connections that are kept, that nobody accepts, and that clients share; and
 *	  the descriptors that they need.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "aws/descriptors.h"
#include "rig.h"
#include "tap.h"

/*
 * Connections that are kept alive and then end: while they are idle, which is
 * nothing to anybody, or with a request on them, which is sent once.
 */
void
test_kept_connections(const Server *server, AwsCredentialsProvider *good, const char *cert)
{
	static const char *const kinds[] = {"reset_before", "reset_after", "lose_reply"};
	SqsClient  *client = new_client(server->url, good, cert);
	SqsOutgoing message;
	const SqsOutgoing *messages[] = {&message};
	SqsCall    *call;
	const AwsError *error;
	char		rule[128];
	int			lost;
	int			sent;

	memset(&message, 0, sizeof(message));
	message.delay = -1;
	message.body = SLICE("x");

	renew(server, 0);
	fault(server, "{\"kind\":\"idle_close\",\"action\":\"SendMessage\"}");
	for (int i = 0; i < 3; i++)
	{
		struct pollfd fd = {sqs_client_fd(client), POLLIN, 0};

		call = send_messages(client, server->queue, 0, messages, 10000, 1);
		ok(sqs_call_error(call) == NULL, "%s: a message is sent", server->url);
		sqs_call_free(call);
		is_int(poll(&fd, 1, 30000), 1, "the server closes the connection");
	}
	is_int(count(server, "calls", "SendMessage"), 3, "one request each");
	is_int(count(server, "q", "sent"), 3, "which has its effect");

	/* more often than libcurl itself would try */
	for (size_t i = 0; i < lengthof(kinds); i++)
	{
		renew(server, 0);
		lost = sent = 0;
		snprintf(rule, sizeof(rule), "{\"kind\":\"%s\",\"action\":\"SendMessage\",\"count\":1}", kinds[i]);
		for (int j = 0; j < 7; j++)
		{
			call = send_messages(client, server->queue, 0, messages, 10000, 1);
			sent += sqs_call_error(call) == NULL;
			sqs_call_free(call);
			fault(server, rule);
			call = send_messages(client, server->queue, 0, messages, 10000, 1);
			error = sqs_call_error(call);
			if (error != NULL && error->class == AWS_ERROR_TRANSIENT && error->may_be_done &&
				strcmp(error->code, "Curl52") == 0)
				lost++;
			else if (error != NULL)
				printf("# %s: %s\n", error->code, error->message);
			sqs_call_free(call);
		}
		is_int(sent, 7, "%s: sent on a new connection", kinds[i]);
		is_int(lost, 7, "%s on a kept one: it may have been sent", kinds[i]);
		is_int(count(server, "calls", "SendMessage"), 14, "one request each");
		is_int(count(server, "q", "sent"), i == 0 ? 7 : 14, "as many messages as had an effect");
	}
	is_int(sqs_client_stats(client)->calls[SQS_SEND_MESSAGE], 3 + 3 * 14, "our books have them all");
	sqs_client_destroy(client);
	renew(server, 0);
}

/* A host that does not answer at all: libcurl gives up long before us. */
static void
no_answer(AwsCredentialsProvider *good)
{
	struct sockaddr_in address;
	socklen_t	len = sizeof(address);
	int			listener = socket(AF_INET, SOCK_STREAM, 0);
	int			fillers[8];
	char		url[64];
	SqsClient  *client;

	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *) &address, sizeof(address)) < 0 || listen(listener, 0) < 0 ||
		getsockname(listener, (struct sockaddr *) &address, &len) < 0)
		printf("# no port to be had\n");
	for (size_t i = 0; i < lengthof(fillers); i++)
	{
		fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void) connect(fillers[i], (struct sockaddr *) &address, sizeof(address));
	}
	snprintf(url, sizeof(url), "http://127.0.0.1:%d", ntohs(address.sin_port));
	client = new_client(url, good, NULL);
	receive_ends(client, "http://127.0.0.1/000000000000/q", 20000, AWS_ERROR_TRANSIENT, NULL,
				 "a connection that is not accepted, before the deadline");
	sqs_client_destroy(client);
	for (size_t i = 0; i < lengthof(fillers); i++)
		close(fillers[i]);
	close(listener);
}

static int	fds_held = 0;
static int	fds_allowed = 0;

static bool
acquire_fd(void)
{
	if (fds_held >= fds_allowed)
		return false;
	fds_held++;
	return true;
}

static void
release_fd(void)
{
	fds_held--;
}

static void
count_completion(SqsCall *call, void *arg)
{
	int		   *counts = arg;
	const AwsError *error = sqs_call_error(call);

	counts[0]++;
	if (error != NULL && error->class == AWS_ERROR_RESOURCES &&
		strcmp(error->code, "NoDescriptors") == 0 && !error->may_be_done)
		counts[1]++;
	else if (error != NULL)
		printf("# %s: %s\n", error->code, error->message);
	sqs_call_free(call);
}

static void
descriptors(const Server *server, AwsCredentialsProvider *good)
{
	static const AwsFdHooks hooks = {acquire_fd, release_fd};
	static const AwsFdHooks no_hooks = {NULL, NULL};
	AwsError	error;
	HttpPool   *pool;
	SqsClient  *clients[8];
	SqsClient  *client;
	SqsCall    *call;
	SqsCallUsage usage;
	Wait		wait = {0, NULL};
	int			counts[2] = {0, 0};
	int			fresh;
	int			with_pool;
	int64		until = now_ms() + 60000;

	renew(server, 0);
	aws_set_fd_hooks(&hooks);
	fds_allowed = 2;
	memset(&error, 0, sizeof(error));
	ok(http_pool_create("t", 0, &error) == NULL && error.class == AWS_ERROR_RESOURCES,
	   "without descriptors there is no pool");
	is_int(fds_held, 0, "and none is kept");

	/* eight clients, of one pool, with three connections between them */
	fds_allowed = 1000;
	pool = http_pool_create("t", 0, &error);
	with_pool = fds_held;
	for (int i = 0; i < 8; i++)
		clients[i] = new_client_of(pool, server->url, good, NULL);
	is_int(fds_held, with_pool, "a client of a pool needs no descriptor");
	ok(sqs_client_is_idle(clients[0]), "a client without calls is idle");
	fds_allowed = with_pool + 3;
	for (int i = 0; i < 8; i++)
		sqs_start_receive(clients[i], server->queue, 1, 1, -1, 20000, count_completion, counts);
	ok(!sqs_client_is_idle(clients[0]), "one with a call is not");
	while (counts[0] < 8 && now_ms() < until)
	{
		struct pollfd fd = {http_pool_fd(pool), POLLIN, 0};
		long		timeout = http_pool_timeout(pool);

		for (int i = 0; i < 8; i++)
		{
			long		next = sqs_client_next(clients[i]);

			if (next >= 0 && (timeout < 0 || next < timeout))
				timeout = next;
		}
		poll(&fd, 1, timeout < 0 || timeout > 1000 ? 1000 : (int) timeout);
		http_pool_poll(pool);
		for (int i = 0; i < 8; i++)
			sqs_client_go_on(clients[i]);
	}
	is_int(counts[0], 8, "eight calls end");
	is_int(counts[1], 5, "five for want of a descriptor, which is nobody's fault");
	ok(sqs_client_is_idle(clients[0]), "the client is idle again");

	/* what is kept open is used again, whoever opened it */
	fresh = fds_held;
	fds_allowed = fresh;
	receive_ends(clients[7], server->queue, 10000, AWS_ERROR_NONE, NULL, "a kept connection serves another client");

	/* its account, in pieces */
	call = sqs_start_receive(clients[0], server->queue, 1, 0, -1, 10000, done, &wait);
	sqs_call_take_usage(call, &usage);
	ok(usage.requests == 1 && usage.bytes_sent > 0 && usage.bytes_received == 0, "a call that has begun");
	run(clients[0], &wait, 1);
	sqs_call_take_usage(call, &usage);
	ok(usage.requests == 0 && usage.bytes_sent == 0 && usage.bytes_received > 0, "a call that has ended");
	sqs_call_free(call);

	/* a client that goes while it has a call takes nothing along */
	sqs_start_receive(clients[0], server->queue, 1, 20, -1, 30000, count_completion, counts);
	sqs_client_destroy(clients[0]);
	receive_ends(clients[1], server->queue, 10000, AWS_ERROR_NONE, NULL, "the others go on");

	/* a name to be looked up takes descriptors, too, for a while */
	fds_allowed = fds_held + 1;
	client = new_client_of(pool, "http://sqs.us-east-1.localhost:1", good, NULL);
	receive_ends(client, server->queue, 10000, AWS_ERROR_RESOURCES, "NoDescriptors", "none to look up a name");
	fds_allowed = 1000;
	fresh = fds_held;
	receive_ends(client, server->queue, 10000, AWS_ERROR_TRANSIENT, NULL, "with some, there is nobody");
	is_int(fds_held, fresh, "and they are given back");
	sqs_client_destroy(client);
	for (int i = 1; i < 8; i++)
		sqs_client_destroy(clients[i]);
	http_pool_destroy(pool);
	is_int(fds_held, 0, "all are given back");
	aws_set_fd_hooks(&no_hooks);
	renew(server, 0);
}

void
test_connections(void)
{
	AwsCredentialsProvider *good = aws_static_credentials(KEY, SECRET, NULL);
	Server		server;

	if (!rig_begin())
		return;
	if (ok(start_server(&server, NULL, NULL), "the server starts"))
	{
		test_kept_connections(&server, good, NULL);
		no_answer(good);
		descriptors(&server, good);
	}
	stop_server(&server);
	rig_end();
	aws_credentials_free(good);
}
