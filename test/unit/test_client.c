/*-------------------------------------------------------------------------
 *
 * test_client.c
 *	  The client against test/sqsd, well and badly behaved.
 *
 * The server is started here and stopped at the end.  Faults are asked of it
 * over its admin calls.  The wait loop is the one that the client's header
 * prescribes: the descriptor, at most the timeout, then poll.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "aws/sqs_client.h"
#include "tap.h"

#define KEY		"AKIDEXAMPLE"
#define SECRET	"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define MB		(1024 * 1024)

typedef struct Server
{
	pid_t		pid;
	int			port;
	char		url[64];
	char		queue[96];
} Server;

static char directory[64];

/* ---- the server ---- */

static bool
start_server(Server *server, const char *cert, const char *key)
{
	const char *program = getenv("SQSD") ? getenv("SQSD") : "../sqsd/sqsd";
	char		port_file[128];
	static int	n = 0;

	snprintf(port_file, sizeof(port_file), "%s/port%d", directory, ++n);
	server->port = 0;
	server->pid = fork();
	if (server->pid == 0)
	{
		/* what it prints is no TAP */
		dup2(STDERR_FILENO, STDOUT_FILENO);
		if (cert != NULL)
			execl(program, program, "--quiet", "--port-file", port_file, "--queue", "q",
				  "--access-key", KEY, "--secret-key", SECRET,
				  "--tls-cert", cert, "--tls-key", key, (char *) NULL);
		else
			execl(program, program, "--quiet", "--port-file", port_file, "--queue", "q",
				  "--queue", "f.fifo", "--access-key", KEY, "--secret-key", SECRET, (char *) NULL);
		_exit(127);
	}
	for (int i = 0; i < 500 && server->port == 0; i++)
	{
		FILE	   *file = fopen(port_file, "r");

		if (file == NULL)
		{
			struct pollfd none = {-1, 0, 0};

			poll(&none, 0, 20);
			continue;
		}
		if (fscanf(file, "%d", &server->port) != 1)
			server->port = 0;
		fclose(file);
	}
	unlink(port_file);
	snprintf(server->url, sizeof(server->url), "%s://127.0.0.1:%d",
			 cert != NULL ? "https" : "http", server->port);
	snprintf(server->queue, sizeof(server->queue), "%s/000000000000/q", server->url);
	return server->port != 0;
}

static void
stop_server(Server *server)
{
	kill(server->pid, SIGTERM);
	waitpid(server->pid, NULL, 0);
}

static int
connect_to(int port)
{
	struct sockaddr_in address;
	int			fd = socket(AF_INET, SOCK_STREAM, 0);

	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_port = htons((uint16_t) port);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
	{
		close(fd);
		return -1;
	}
	return fd;
}

static char reply[16384];		/* to the last admin call */

/* An admin call to a server with TLS: the curl program knows that. */
static int
admin_tls(const Server *server, const char *method, const char *path, const char *body)
{
	char		command[1024];
	FILE	   *curl;
	size_t		got;

	snprintf(command, sizeof(command), "curl -sfk --noproxy '*' -X %s -d '%s' %s/_sqsd/%s",
			 method, body, server->url, path);
	curl = popen(command, "r");
	if (curl == NULL)
		return 0;
	got = fread(reply, 1, sizeof(reply) - 1, curl);
	reply[got] = '\0';
	return pclose(curl) == 0 ? 200 : 0;
}

/* An admin call; its status. */
static int
admin(const Server *server, const char *method, const char *path, const char *body)
{
	char		request[1024];
	int			fd;
	int			len;
	int			got = 0;
	int			n;
	int			status = 0;

	if (strncmp(server->url, "https", 5) == 0)
		return admin_tls(server, method, path, body);
	fd = connect_to(server->port);
	if (fd < 0)
		return 0;
	len = snprintf(request, sizeof(request),
				   "%s /_sqsd/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
				   method, path, (int) strlen(body), body);
	if (write(fd, request, len) == len)
	{
		while (got < (int) sizeof(reply) - 1 &&
			   (n = read(fd, reply + got, sizeof(reply) - 1 - got)) > 0)
			got += n;
		reply[got] = '\0';
		if (sscanf(reply, "HTTP/1.1 %d", &status) != 1)
			status = 0;
	}
	close(fd);
	return status;
}

static void
fault(const Server *server, const char *rule)
{
	if (admin(server, "POST", "fault", rule) != 200)
		printf("# the server did not take the fault %s\n", rule);
}

/*
 * A count of a queue, or of "calls" to the server, from its books; -1 if it is
 * not there.
 */
static int
count(const Server *server, const char *queue, const char *name)
{
	char		key[64];
	const char *p;

	if (admin(server, "GET", "stats", "") != 200)
		return -1;
	snprintf(key, sizeof(key), "\"%s\":", queue);
	if ((p = strstr(reply, key)) == NULL)
		return -1;
	snprintf(key, sizeof(key), "\"%s\":", name);
	if ((p = strstr(p, key)) == NULL)
		return -1;
	return atoi(p + strlen(key));
}

/* Faults off, queue filled with n messages. */
static void
renew(const Server *server, int n)
{
	char		body[128];

	admin(server, "POST", "reset", "{}");
	if (n == 0)
		return;
	snprintf(body, sizeof(body), "{\"queue\":\"q\",\"count\":%d,\"body\":\"message {i}\"}", n);
	admin(server, "POST", "fill", body);
}

/* ---- the client ---- */

static SqsClient *
new_client_of(HttpPool *pool, const char *endpoint, AwsCredentialsProvider *credentials,
			  const char *ca_file)
{
	SqsClientOptions options;
	AwsError	error;
	SqsClient  *client;

	memset(&options, 0, sizeof(options));
	options.region = "us-east-1";
	options.endpoint = endpoint;
	options.user_agent = "sqsbridge-unit-test";
	options.credentials = credentials;
	options.ca_file = ca_file;
	options.pool = pool;
	client = sqs_client_create(&options, &error);
	if (client == NULL)
		printf("# no client: %s\n", error.message);
	return client;
}

static SqsClient *
new_client(const char *endpoint, AwsCredentialsProvider *credentials, const char *ca_file)
{
	return new_client_of(NULL, endpoint, credentials, ca_file);
}

static int64
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

typedef struct Wait
{
	int			completions;
	SqsCall    *call;
} Wait;

static void
done(SqsCall *call, void *arg)
{
	Wait	   *wait = arg;

	wait->completions++;
	wait->call = call;
}

/* Wait as an owner does; false after a minute. */
static bool
run(SqsClient *client, Wait *wait, int completions)
{
	int64		until = now_ms() + 60000;

	while (wait->completions < completions && now_ms() < until)
	{
		struct pollfd fd = {sqs_client_fd(client), POLLIN, 0};
		long		timeout = sqs_client_timeout(client);

		poll(&fd, 1, timeout < 0 || timeout > 1000 ? 1000 : (int) timeout);
		sqs_client_poll(client);
	}
	return wait->completions == completions;
}

/* A finished receive; the caller frees it. */
static SqsCall *
receive(SqsClient *client, const char *queue, int max, int wait_seconds, long deadline)
{
	Wait		wait = {0, NULL};
	SqsCall    *call = sqs_start_receive(client, queue, max, wait_seconds, -1, deadline, done, &wait);

	if (!run(client, &wait, 1) || wait.call != call)
	{
		printf("Bail out! a call does not end\n");
		exit(2);
	}
	return call;
}

/* Receive once and tell how it ended; "" is success. */
static void
receive_ends(SqsClient *client, const char *queue, long deadline,
			 AwsErrorClass class, const char *code, const char *what)
{
	SqsCall    *call = receive(client, queue, 1, 0, deadline);
	const AwsError *error = sqs_call_error(call);

	is(error ? aws_error_class_name(error->class) : "none", aws_error_class_name(class), "%s", what);
	if (code != NULL)
		is(error ? error->code : "", code, "%s: code", what);
	if (error != NULL)
	{
		printf("# %s: %s\n", error->code, error->message);
		ok(strstr(error->message, SECRET) == NULL && error->message[0] != '\0',
		   "%s: a text without a secret", what);
	}
	sqs_call_free(call);
}

/* Calls that nobody frees are freed by their completion. */
static void
free_when_done(SqsCall *call, void *arg)
{
	(void) call;
	++*(int *) arg;
	sqs_call_free(call);
}

static void
good_calls(const Server *server, SqsClient *client)
{
	Wait		wait = {0, NULL};
	SqsCall    *received;
	SqsCall    *call;
	SqsSlice	handles[3];
	int			timeouts[2] = {0, 60};
	SqsCall    *again;

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
		ok(m->damage == NULL && strncmp(m->body.data, "message ", 8) == 0 && m->receive_count == 1 &&
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
	call = sqs_start_get_queue_attributes(client, server->queue, 10000, 3, done, &wait);
	run(client, &wait, 5);
	ok(sqs_call_error(call) == NULL && sqs_call_queue_attributes(call)->visibility_timeout == 30 &&
	   !sqs_call_queue_attributes(call)->fifo, "queue attributes");
	sqs_call_free(call);
	call = sqs_start_get_queue_url(client, "nosuch", 10000, 3, done, &wait);
	run(client, &wait, 6);
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

/* ---- sending ---- */

#define SLICE(s) ((SqsSlice) {(s), sizeof(s) - 1})

/* A finished SendMessage if n is 0, else SendMessageBatch; the caller frees it. */
static SqsCall *
send_messages(SqsClient *client, const char *queue, int n,
			  const SqsOutgoing *const *messages, long deadline, int max_attempts)
{
	Wait		wait = {0, NULL};
	SqsCall    *call = n == 0 ?
		sqs_start_send(client, queue, messages[0], deadline, max_attempts, done, &wait) :
		sqs_start_send_batch(client, queue, n, messages, deadline, max_attempts, done, &wait);

	if (!run(client, &wait, 1) || wait.call != call)
	{
		printf("Bail out! a call does not end\n");
		exit(2);
	}
	return call;
}

static void
sending(const Server *server, SqsClient *client, AwsCredentialsProvider *good_keys)
{
	SqsClient  *other;
	SqsOutgoing message;
	SqsOutgoing others[SQS_MAX_BATCH];
	const SqsOutgoing *messages[SQS_MAX_BATCH];
	char		fifo[128];
	char		bodies[SQS_MAX_BATCH][16];
	char		id[101];
	char	   *big;
	SqsCall    *call;
	SqsCall    *received;
	const SqsReceivedMessage *m;
	uint64		calls;
	int			good = 0;
	int			n = 0;

	/* one, with all that it can have, comes out as it went in */
	renew(server, 0);
	memset(&message, 0, sizeof(message));
	message.body = SLICE("h\xc3\xa9llo\n\"q\" \xf0\x9f\x98\x80");
	message.trace_header = SLICE("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1");
	message.nattributes = 3;
	message.attributes[0] = (SqsAttribute) {SLICE("Img"), SLICE("Binary.png"), SLICE("\x00\x01\xff"), true};
	message.attributes[1] = (SqsAttribute) {SLICE("City"), SLICE("String.de"), SLICE("K\xc3\xb6ln"), false};
	message.attributes[2] = (SqsAttribute) {SLICE("n"), SLICE("Number"), SLICE("-1.5"), false};
	messages[0] = &message;
	call = send_messages(client, server->queue, 0, messages, 10000, 1);
	ok(sqs_call_error(call) == NULL && sqs_call_action(call) == SQS_SEND_MESSAGE && sqs_call_nentries(call) == 1 &&
	   sqs_call_entry(call, 0)->ok && sqs_call_entry(call, 0)->sequence_number[0] == '\0', "send");
	strlcpy(id, sqs_call_entry(call, 0)->message_id, sizeof(id));
	sqs_call_free(call);
	received = receive(client, server->queue, 10, 0, 10000);
	if (is_int(sqs_call_nmessages(received), 1, "the message arrives"))
	{
		m = sqs_call_message(received, 0);
		is(m->damage, NULL, "whole");
		ok(m->body.len == message.body.len && memcmp(m->body.data, message.body.data, m->body.len) == 0, "its body");
		is(m->message_id.data, id, "its id");
		for (int i = 0; i < m->nattributes; i++)
			for (int j = 0; j < message.nattributes; j++)
			{
				const SqsAttribute *a = &m->attributes[i];
				const SqsAttribute *b = &message.attributes[j];

				good += a->binary == b->binary && strcmp(a->name.data, b->name.data) == 0 &&
					strcmp(a->data_type.data, b->data_type.data) == 0 && a->value.len == b->value.len &&
					memcmp(a->value.data, b->value.data, a->value.len) == 0;
			}
		ok(m->nattributes == 3 && good == 3, "its attributes");
		good = 0;
		for (int i = 0; i < m->nsystem; i++)
			good += strcmp(m->system[i].name.data, "AWSTraceHeader") == 0 &&
				strcmp(m->system[i].value.data, message.trace_header.data) == 0;
		is_int(good, 1, "its trace header");
	}
	sqs_call_free(received);

	/* ten, one of them refused */
	renew(server, 0);
	for (int i = 0; i < SQS_MAX_BATCH; i++)
	{
		memset(&others[i], 0, sizeof(others[i]));
		others[i].delay = -1;
		snprintf(bodies[i], sizeof(bodies[i]), "body %d", i);
		others[i].body = (SqsSlice) {bodies[i], strlen(bodies[i])};
		messages[i] = &others[i];
	}
	others[3].body = SLICE("");
	call = send_messages(client, server->queue, SQS_MAX_BATCH, messages, 10000, 1);
	ok(sqs_call_error(call) == NULL && sqs_call_action(call) == SQS_SEND_MESSAGE_BATCH &&
	   sqs_call_nentries(call) == SQS_MAX_BATCH, "send ten, one of them empty");
	good = 0;
	for (int i = 0; sqs_call_error(call) == NULL && i < SQS_MAX_BATCH; i++)
	{
		const SqsBatchEntry *entry = sqs_call_entry(call, i);

		if (i != 3)
			good += entry->ok && entry->message_id[0] != '\0';
		else
			ok(!entry->ok && entry->sender_fault && entry->class == AWS_ERROR_REQUEST && !entry->may_be_done,
			   "which is refused: %s", entry->code);
	}
	is_int(good, 9, "nine are sent");
	is_int(count(server, "q", "sent"), 9, "says the server as well");
	sqs_call_free(call);
	others[3].body = others[2].body;

	/* a FIFO queue: sequence numbers, and the same twice is once */
	renew(server, 0);
	snprintf(fifo, sizeof(fifo), "%s/000000000000/f.fifo", server->url);
	for (int i = 0; i < 2; i++)
	{
		others[i].group_id = SLICE("g");
		others[i].deduplication_id = i == 0 ? SLICE("d0") : SLICE("d1");
	}
	call = send_messages(client, fifo, 2, messages, 10000, 1);
	ok(sqs_call_error(call) == NULL && sqs_call_entry(call, 0)->ok && sqs_call_entry(call, 1)->ok &&
	   strcmp(sqs_call_entry(call, 0)->sequence_number, sqs_call_entry(call, 1)->sequence_number) < 0,
	   "sequence numbers that grow");
	received = send_messages(client, fifo, 0, messages, 10000, 1);
	ok(sqs_call_error(received) == NULL && sqs_call_entry(received, 0)->ok && sqs_call_error(call) == NULL &&
	   strcmp(sqs_call_entry(received, 0)->message_id, sqs_call_entry(call, 0)->message_id) == 0,
	   "sent again, it is the same message");
	sqs_call_free(received);
	sqs_call_free(call);
	is_int(count(server, "f.fifo", "sent"), 2, "and the queue has it once");
	others[0].deduplication_id = (SqsSlice) {NULL, 0};
	call = send_messages(client, fifo, 0, messages, 10000, 3);
	ok(sqs_call_error(call) != NULL && sqs_call_error(call)->class == AWS_ERROR_REQUEST &&
	   !sqs_call_error(call)->may_be_done, "a message that SQS refuses is not tried again");
	sqs_call_free(call);
	others[0].group_id = others[1].group_id = others[1].deduplication_id = (SqsSlice) {NULL, 0};

	/* the largest there are */
	renew(server, 0);
	big = malloc(MB);
	memset(big, 'b', MB);
	others[0].body = (SqsSlice) {big, MB};
	call = send_messages(client, server->queue, 0, messages, 30000, 1);
	ok(sqs_call_error(call) == NULL && sqs_call_entry(call, 0)->ok, "1 MiB");
	sqs_call_free(call);
	others[0].body.len = MB - others[1].body.len + 1;
	call = send_messages(client, server->queue, 2, messages, 30000, 1);
	ok(sqs_call_error(call) != NULL && sqs_call_error(call)->class == AWS_ERROR_REQUEST,
	   "a batch of 1 MiB and a byte is refused");
	sqs_call_free(call);
	others[0].body.len--;
	call = send_messages(client, server->queue, 2, messages, 30000, 1);
	ok(sqs_call_error(call) == NULL && sqs_call_entry(call, 0)->ok && sqs_call_entry(call, 1)->ok,
	   "a batch of 1 MiB");
	sqs_call_free(call);
	free(big);
	others[0].body = (SqsSlice) {bodies[0], strlen(bodies[0])};

	/* failures: what may have been done is told, what is tried again is known */
	renew(server, 0);
	fault(server, "{\"kind\":\"bad_md5\",\"count\":2}");
	call = send_messages(client, server->queue, 0, messages, 10000, 3);
	ok(sqs_call_error(call) == NULL && !sqs_call_entry(call, 0)->ok && sqs_call_entry(call, 0)->may_be_done &&
	   strcmp(sqs_call_entry(call, 0)->code, "ChecksumMismatch") == 0 && sqs_call_entry(call, 0)->message_id[0] != '\0',
	   "another MD5 than ours");
	sqs_call_free(call);
	call = send_messages(client, server->queue, 2, messages, 10000, 3);
	ok(sqs_call_error(call) == NULL && !sqs_call_entry(call, 0)->ok && !sqs_call_entry(call, 1)->ok &&
	   sqs_call_entry(call, 1)->may_be_done && sqs_call_entry(call, 1)->class == AWS_ERROR_TRANSIENT,
	   "the same in a batch");
	sqs_call_free(call);
	is_int(count(server, "q", "sent"), 3, "the client leaves it to its owner to send them again");

	renew(server, 0);
	fault(server, "{\"kind\":\"entry_fail\",\"every\":3,\"code\":\"InternalError\",\"sender_fault\":false}");
	call = send_messages(client, server->queue, SQS_MAX_BATCH, messages, 10000, 1);
	good = 0;
	for (int i = 0; sqs_call_error(call) == NULL && i < SQS_MAX_BATCH; i++)
	{
		const SqsBatchEntry *entry = sqs_call_entry(call, i);

		good += entry->ok;
		n += !entry->ok && !entry->sender_fault && !entry->may_be_done && entry->class == AWS_ERROR_TRANSIENT;
	}
	ok(good == 7 && n == 3, "every third entry fails");
	is_int(count(server, "q", "sent"), 7, "and is not sent");
	sqs_call_free(call);

	renew(server, 0);
	fault(server, "{\"kind\":\"lose_reply\",\"action\":\"SendMessage\"}");
	other = new_client(server->url, good_keys, NULL);
	call = send_messages(other, server->queue, 0, messages, 10000, 1);
	ok(sqs_call_error(call) != NULL && sqs_call_error(call)->class == AWS_ERROR_TRANSIENT &&
	   sqs_call_error(call)->may_be_done, "a lost reply: it may have been sent");
	sqs_call_free(call);
	is_int(count(server, "q", "sent"), 1, "and was");
	sqs_client_destroy(other);
	renew(server, 0);
	fault(server, "{\"kind\":\"error\",\"code\":\"ServiceUnavailable\",\"count\":1}");
	calls = sqs_client_stats(client)->calls[SQS_SEND_MESSAGE_BATCH];
	call = send_messages(client, server->queue, 2, messages, 20000, 3);
	ok(sqs_call_error(call) == NULL && sqs_call_entry(call, 0)->ok && sqs_call_entry(call, 1)->ok,
	   "sent at the second attempt");
	is_int(sqs_client_stats(client)->calls[SQS_SEND_MESSAGE_BATCH] - calls, 2, "of two");
	is_int(count(server, "q", "sent"), 2, "once each");
	sqs_call_free(call);
	renew(server, 0);
	fault(server, "{\"kind\":\"garbage\",\"count\":2}");
	for (int i = 0; i < 3; i += 2)
	{
		call = send_messages(client, server->queue, i, messages, 10000, 1);
		ok(sqs_call_error(call) != NULL && strcmp(sqs_call_error(call)->code, "InvalidReply") == 0 &&
		   sqs_call_error(call)->may_be_done, "garbage: it may have been sent");
		sqs_call_free(call);
	}
	renew(server, 0);
	fault(server, "{\"kind\":\"garbage\",\"count\":1}");
	call = send_messages(client, server->queue, 2, messages, 20000, 2);
	ok(sqs_call_error(call) == NULL && sqs_call_entry(call, 1)->ok, "garbage, then success");
	sqs_call_free(call);
	renew(server, 0);
	fault(server, "{\"kind\":\"error\",\"code\":\"KmsAccessDenied\",\"status\":400,\"message\":\"" SECRET "\"}");
	call = send_messages(client, server->queue, 2, messages, 10000, 3);
	ok(sqs_call_error(call) != NULL && sqs_call_error(call)->class == AWS_ERROR_CONFIGURATION &&
	   strstr(sqs_call_error(call)->message, "wJalr") == NULL, "a key that may not be used, and no secret in the text");
	sqs_call_free(call);
	renew(server, 0);
	fault(server, "{\"kind\":\"entry_fail\",\"code\":\"" SECRET "\",\"message\":\"x" SECRET "\",\"sender_fault\":true}");
	call = send_messages(client, server->queue, 2, messages, 10000, 1);
	ok(sqs_call_error(call) == NULL && !sqs_call_entry(call, 1)->ok &&
	   strstr(sqs_call_entry(call, 1)->message, "wJalr") == NULL && sqs_call_entry(call, 1)->message[0] == 'x' &&
	   strstr(sqs_call_entry(call, 1)->code, "wJalr") == NULL, "nor in those of entries");
	sqs_call_free(call);

	/* abandoned, and destroyed with the client: no completion, no leak */
	renew(server, 0);
	fault(server, "{\"kind\":\"blackhole\"}");
	n = 0;
	call = sqs_start_send(client, server->queue, &others[0], 10000, 1, free_when_done, &n);
	sqs_client_poll(client);
	sqs_call_abandon(call);
	sqs_start_send_batch(client, server->queue, SQS_MAX_BATCH, messages, 10000, 1, free_when_done, &n);
	sqs_client_poll(client);
	is_int(n, 0, "an abandoned call does not complete");
}

/*
 * Connections that are kept alive and then end: while they are idle, which is
 * nothing to anybody, or with a request on them, which is sent once.
 */
static void
kept_connections(const Server *server, AwsCredentialsProvider *good, const char *cert)
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
	ok(now_ms() - before >= 650 && now_ms() - before < 5000, "ends at the deadline");

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
	   sqs_call_message(call, 0)->damage != NULL, "a wrong MD5 damages the message, not the reply");
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

/* A port on which somebody listens who never answers; -1 if there is none. */
static int
listen_somewhere(int *port)
{
	struct sockaddr_in address;
	socklen_t	len = sizeof(address);
	int			listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *) &address, sizeof(address)) < 0 ||
		listen(listener, 16) < 0 ||
		getsockname(listener, (struct sockaddr *) &address, &len) < 0)
		printf("# no port to be had\n");
	*port = ntohs(address.sin_port);
	return listener;
}

/* Which requests go through the proxy that the environment asks for. */
static void
proxies(AwsCredentialsProvider *good)
{
	static const struct
	{
		const char *endpoint;
		const char *no_proxy;
		bool		proxied;
	}			cases[] =
	{
		{"http://127.0.0.1:1", NULL, false},
		{"http://127.0.0.2:1", NULL, false},
		{"http://[::1]:1", NULL, false},
		{"http://localhost:1", NULL, false},
		{"http://sqs.us-east-1.localhost:1", NULL, false},
		{"https://127.0.0.2:1", NULL, false},
		{"https://192.0.2.1", NULL, true},
		{"https://192.0.2.1", "192.0.2.1", false},
		{"https://192.0.2.1", "127.0.0.1,example.com", true},
		{"https://sqs.us-east-1.example.com", ".example.com", false},
		{"https://sqs.us-east-1.example.com", NULL, true},
	};
	static const char *const names[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy"};
	char		proxy[64];
	int			port;
	int			listener = listen_somewhere(&port);

	snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%d", port);
	for (size_t i = 0; i < lengthof(names); i++)
		setenv(names[i], proxy, 1);
	unsetenv("no_proxy");
	for (size_t i = 0; i < lengthof(cases); i++)
	{
		SqsClient  *client = new_client(cases[i].endpoint, good, NULL);
		SqsCall    *call;
		int			fd;

		if (cases[i].no_proxy != NULL)
			setenv("NO_PROXY", cases[i].no_proxy, 1);
		else
			unsetenv("NO_PROXY");
		call = receive(client, "http://127.0.0.1/000000000000/q", 1, 0, 300);
		ok(sqs_call_error(call) != NULL, "%s: there is nobody", cases[i].endpoint);
		sqs_call_free(call);
		fd = accept(listener, NULL, NULL);
		is_int(fd >= 0, cases[i].proxied, "%s, NO_PROXY %s: %s", cases[i].endpoint,
			   cases[i].no_proxy ? cases[i].no_proxy : "unset",
			   cases[i].proxied ? "through the proxy" : "not through the proxy");
		if (fd >= 0)
			close(fd);
		sqs_client_destroy(client);
	}
	for (size_t i = 0; i < lengthof(names); i++)
		unsetenv(names[i]);
	unsetenv("NO_PROXY");
	close(listener);
}

/*
 * Be the server of one connection for a moment: answer the first bytes that
 * come with this text, and close.  *fd is -1 at first.
 */
static void
serve(int listener, int *fd, const char *answer)
{
	struct pollfd waiting = {*fd == -1 ? listener : *fd, POLLIN, 0};
	char		request[4096];

	if (poll(&waiting, 1, 10) <= 0)
		return;
	if (*fd == -1)
		*fd = accept(listener, NULL, NULL);
	else if (*fd >= 0)
	{
		if (read(*fd, request, sizeof(request)) > 0)
			(void) !write(*fd, answer, strlen(answer));
		close(*fd);
		*fd = -2;				/* poll() passes it over, after its time */
	}
}

/* A server that quotes what it was sent, in each place that is kept. */
static void
quoted_secrets(void)
{
	AwsCredentialsProvider *keys = aws_static_credentials(KEY, SECRET, "tokentoken");
	char		url[64];
	int			port;
	int			listener = listen_somewhere(&port);
	int			fd = -1;
	Wait		wait = {0, NULL};
	SqsClient  *client;
	SqsCall    *call;
	const AwsError *error;

	snprintf(url, sizeof(url), "http://127.0.0.1:%d", port);
	client = new_client(url, keys, NULL);
	call = sqs_start_receive(client, "http://127.0.0.1/000000000000/q", 1, 0, -1, 60000, done, &wait);
	while (wait.completions == 0)
	{
		serve(listener, &fd,
			  "HTTP/1.1 403 Forbidden\r\nContent-Length: 48\r\n"
			  "x-amzn-RequestId: id-tokentoken\r\n\r\n"
			  "{\"__type\":\"X.tokentoken\",\"message\":\"tokentoken\"}");
		sqs_client_poll(client);
	}
	error = sqs_call_error(call);
	is(error != NULL ? error->code : "", "X.**********", "no token in a code");
	is(error != NULL ? error->message : "", "**********", "nor in a text");
	is(error != NULL ? error->request_id : "", "id-**********", "nor in a request id");
	sqs_call_free(call);
	sqs_client_destroy(client);
	aws_credentials_free(keys);
	close(listener);
}

/* A proxy's URL may hold a password, and libcurl quotes what it does not take. */
static void
quoted_proxies(AwsCredentialsProvider *good)
{
	static const char *const proxies[] = {
		"http://user:pa/sswordsecret@127.0.0.1:1",
		"http://user:passwordsecret",
		"http://user:passwordsecret@127.0.0.1:99999",
		"gopher://user:passwordsecret@127.0.0.1:1",
	};

	for (size_t i = 0; i < lengthof(proxies); i++)
	{
		SqsClient  *client = new_client("https://192.0.2.1", good, NULL);
		SqsCall    *call;
		const AwsError *error;

		setenv("https_proxy", proxies[i], 1);
		call = receive(client, "http://127.0.0.1/000000000000/q", 1, 0, 3000);
		error = sqs_call_error(call);
		ok(error != NULL && strstr(error->message, "secret") == NULL &&
		   strstr(error->message, "proxy") != NULL,
		   "a proxy that is none is not quoted: %s", error != NULL ? error->message : "no error");
		sqs_call_free(call);
		sqs_client_destroy(client);
	}
	unsetenv("https_proxy");
}

/* Who answers with another success than SQS's may have done what was asked. */
static void
odd_success(AwsCredentialsProvider *good)
{
	static const int statuses[] = {202, 204, 302, 404, 502};

	for (size_t i = 0; i < lengthof(statuses); i++)
	{
		char		url[64];
		char		answer[64];
		int			port;
		int			listener = listen_somewhere(&port);
		int			fd = -1;
		Wait		wait = {0, NULL};
		SqsOutgoing message;
		SqsClient  *client;
		SqsCall    *call;

		memset(&message, 0, sizeof(message));
		message.body.data = "x";
		message.body.len = 1;
		message.delay = -1;
		snprintf(url, sizeof(url), "http://127.0.0.1:%d", port);
		snprintf(answer, sizeof(answer), "HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", statuses[i]);
		client = new_client(url, good, NULL);
		call = sqs_start_send(client, "http://127.0.0.1/000000000000/q", &message, 60000, 1, done, &wait);
		while (wait.completions == 0)
		{
			serve(listener, &fd, answer);
			sqs_client_poll(client);
		}
		ok(sqs_call_error(call) != NULL, "status %d is no success", statuses[i]);
		is_int(sqs_call_error(call) != NULL && sqs_call_error(call)->may_be_done,
			   statuses[i] < 300 || statuses[i] >= 500, "may it have been sent");
		sqs_call_free(call);
		sqs_client_destroy(client);
		close(listener);
	}
}

static void
keep_reply(HttpReply *reply, void *arg)
{
	free(reply->body);
	*(HttpReply *) arg = *reply;
}

/* What a proxy says over plain HTTP is not what SQS says over TLS. */
static void
proxy_headers(void)
{
	static const char *const headers[] = {"Content-Type: text/plain"};
	HttpTarget	target = {"https://192.0.2.1", NULL, false};
	HttpReply	reply;
	AwsError	error;
	HttpPool   *pool = http_pool_create("t", 0, &error);
	char		proxy[64];
	int			port;
	int			listener = listen_somewhere(&port);
	int			fd = -1;

	snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%d", port);
	setenv("https_proxy", proxy, 1);
	memset(&reply, 0, sizeof(reply));
	http_post(pool, &target, headers, 1, "{}", 2, 60000, 1000, keep_reply, &reply);
	while (reply.error.class == AWS_ERROR_NONE && reply.status == 0)
	{
		serve(listener, &fd,
			  "HTTP/1.1 200 Connection established\r\n"
			  "Date: Mon, 01 Jan 2001 00:00:00 GMT\r\n"
			  "x-amzn-RequestId: forged\r\n"
			  "x-amzn-query-error: forged;Sender\r\n"
			  "x-amzn-ErrorType: forged\r\n\r\n");
		http_pool_poll(pool);
	}
	ok(reply.error.class != AWS_ERROR_NONE, "the tunnel ends: %s", reply.error.message);
	ok(reply.date == 0 && reply.request_id[0] == '\0' && reply.query_error[0] == '\0' &&
	   reply.error_type[0] == '\0', "and none of the proxy's headers counts as the server's");
	unsetenv("https_proxy");
	http_pool_destroy(pool);
	close(listener);
}

/*
 * These stand in front of OpenSSL's, to see whether libcurl is told to trust
 * a directory of authorities.
 */
static int	directories = 0;

extern int	X509_STORE_load_path(void *store, const char *path);
extern int	SSL_CTX_load_verify_dir(void *context, const char *path);

int
X509_STORE_load_path(void *store, const char *path)
{
	(void) store;
	(void) path;
	directories++;
	return 1;
}

int
SSL_CTX_load_verify_dir(void *context, const char *path)
{
	(void) context;
	(void) path;
	directories++;
	return 1;
}

/*
 * As above, to leave out the system's file of authorities: none of them has
 * signed our certificates, and reading them, which libcurl does for each
 * connection, takes valgrind longer than there is for connecting.
 */
extern int	X509_STORE_load_file(void *store, const char *path);

int
X509_STORE_load_file(void *store, const char *path)
{
	int			(*original) (void *, const char *) = dlsym(RTLD_NEXT, "X509_STORE_load_file");

	if (strncmp(path, "/etc/", 5) == 0)
		return 1;
	return original(store, path);
}

/* As above, to see when libcurl is given a session, and resumes one. */
static int	sessions = 0;
static int	resumed = 0;
static int	(*keep_session) (void *, void *);

extern int	SSL_set_session(void *ssl, void *session);
extern void SSL_CTX_sess_set_new_cb(void *context, int (*callback) (void *, void *));

static int
count_session(void *ssl, void *session)
{
	sessions++;
	return keep_session(ssl, session);
}

void
SSL_CTX_sess_set_new_cb(void *context, int (*callback) (void *, void *))
{
	void		(*original) (void *, int (*) (void *, void *)) =
		dlsym(RTLD_NEXT, "SSL_CTX_sess_set_new_cb");

	keep_session = callback;
	original(context, count_session);
}

int
SSL_set_session(void *ssl, void *session)
{
	int			(*original) (void *, void *) = dlsym(RTLD_NEXT, "SSL_set_session");

	resumed += session != NULL;
	return original(ssl, session);
}

/* Have a server that never answers, but gives out sessions. */
static pid_t
start_mute_server(int *port, const char *cert, const char *key)
{
	char		address[32];
	int			listener = listen_somewhere(port);
	pid_t		pid;

	close(listener);
	snprintf(address, sizeof(address), "127.0.0.1:%d", *port);
	pid = fork();
	if (pid == 0)
	{
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execlp("openssl", "openssl", "s_server", "-quiet", "-www", "-accept", address,
			   "-cert", cert, "-key", key, (char *) NULL);
		_exit(127);
	}
	for (int i = 0; i < 500; i++)
	{
		struct pollfd none = {-1, 0, 0};
		int			fd = connect_to(*port);

		if (fd >= 0)
		{
			close(fd);
			break;
		}
		poll(&none, 0, 20);
	}
	return pid;
}

/*
 * Requests of one pool side by side: from the second on, their connections
 * resume the session of the first.
 */
static void
resumed_sessions(const char *cert, const char *key)
{
	static const char *const headers[] = {"Content-Type: text/plain"};
	AwsError	error;
	HttpPool   *pool = http_pool_create("t", 0, &error);
	HttpReply	replies[2];
	char		url[64];
	HttpTarget	target = {url, cert, false};
	int			port;
	pid_t		server = start_mute_server(&port, cert, key);
	int64		end;

	snprintf(url, sizeof(url), "https://127.0.0.1:%d", port);
	memset(replies, 0, sizeof(replies));
	sessions = resumed = 0;
	for (int i = 0; i < (int) lengthof(replies); i++)
	{
		http_post(pool, &target, headers, 1, "{}", 2, 60000, 1000, keep_reply, &replies[i]);
		/* that the server serves one connection at a time does not matter */
		for (end = now_ms() + 30000; now_ms() < end && (i == 0 ? sessions : resumed) == 0;)
		{
			struct pollfd fd = {http_pool_fd(pool), POLLIN, 0};

			poll(&fd, 1, 10);
			http_pool_poll(pool);
		}
	}
	ok(resumed > 0, "a connection beside another resumes its session");
	http_pool_destroy(pool);
	kill(server, SIGTERM);
	waitpid(server, NULL, 0);
}

/* Clients of one pool trust different authorities, one after the other. */
static void
shared_authorities(const Server *server, AwsCredentialsProvider *good, const char *cert)
{
	AwsError	error;
	HttpPool   *pool = http_pool_create("t", 0, &error);
	SqsClient  *trusting = new_client_of(pool, server->url, good, cert);
	SqsClient  *other = new_client_of(pool, server->url, good, NULL);

	receive_ends(trusting, server->queue, 10000, AWS_ERROR_NONE, NULL, "a client that trusts");
	receive_ends(other, server->queue, 10000, AWS_ERROR_CONFIGURATION, "Curl60",
				 "one that does not, of the same pool");
	receive_ends(trusting, server->queue, 10000, AWS_ERROR_NONE, NULL, "the first again");
	sqs_client_destroy(trusting);
	sqs_client_destroy(other);
	http_pool_destroy(pool);
}

static void
tls(AwsCredentialsProvider *good)
{
	Server		server;
	SqsClient  *client;
	char		cert[128];
	char		key[128];
	char		command[512];

	snprintf(cert, sizeof(cert), "%s/cert.pem", directory);
	snprintf(key, sizeof(key), "%s/key.pem", directory);
	snprintf(command, sizeof(command),
			 "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 "
			 "-addext subjectAltName=IP:127.0.0.1 -out %s -keyout %s >/dev/null 2>&1", cert, key);
	if (system(command) != 0)
	{
		tap_skip("there is no openssl command", "TLS");
		return;
	}
	if (ok(start_server(&server, cert, key), "a server with TLS"))
	{
		client = new_client(server.url, good, NULL);
		receive_ends(client, server.queue, 10000, AWS_ERROR_CONFIGURATION, "Curl60", "an untrusted certificate");
		is_int(sqs_client_stats(client)->retries, 0, "is not tried again");
		sqs_client_destroy(client);
		ok(directories > 0, "without a file the system's directory of authorities is used");
		directories = 0;
		client = new_client(server.url, good, cert);
		receive_ends(client, server.queue, 10000, AWS_ERROR_NONE, NULL, "a trusted one");
		sqs_client_destroy(client);
		is_int(directories, 0, "with one it is not");
		client = new_client(server.url, good, "/nonexistent/ca.pem");
		receive_ends(client, server.queue, 10000, AWS_ERROR_CONFIGURATION, NULL, "no CA file");
		sqs_client_destroy(client);
		shared_authorities(&server, good, cert);
		kept_connections(&server, good, cert);
		resumed_sessions(cert, key);
	}
	stop_server(&server);
	unlink(cert);
	unlink(key);
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

/* ---- descriptors, and clients that share them ---- */

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
	aws_http_set_fd_hooks(&hooks);
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
	aws_http_set_fd_hooks(&no_hooks);
	renew(server, 0);
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

	strcpy(directory, "/tmp/sqsbridge-unit-XXXXXX");
	if (mkdtemp(directory) == NULL)
	{
		ok(false, "a scratch directory");
		return;
	}
	options(good);
	failing_at_once();
	if (ok(start_server(&server, NULL, NULL), "the server starts"))
	{
		client = new_client(server.url, good, NULL);
		good_calls(&server, client);
		sqs_client_destroy(client);
		client = new_client(server.url, good, NULL);
		sending(&server, client, good);
		sqs_client_destroy(client);
		client = new_client(server.url, good, NULL);
		bad_servers(&server, client, good);
		sqs_client_destroy(client);
		kept_connections(&server, good, NULL);
		lost_receives(&server, good);
		clock_skew(&server, good);
		no_answer(good);
		descriptors(&server, good);
	}
	proxies(good);
	proxy_headers();
	quoted_secrets();
	quoted_proxies(good);
	odd_success(good);
	stop_server(&server);
	tls(good);
	rmdir(directory);
	aws_credentials_free(good);
}
