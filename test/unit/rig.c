/*-------------------------------------------------------------------------
 *
 * rig.c
 *	  What the tests of the client have in common: servers, admin calls, waiting.
 *
 * The server is test/sqsd.  Faults are requested from it over its admin calls.
 * The wait loop is the one that the client's header prescribes: the descriptor,
 * at most the timeout, then poll.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rig.h"
#include "tap.h"

char		directory[64];

/* A failed test if there is none. */
bool
rig_begin(void)
{
	strcpy(directory, "/tmp/sqsbridge-unit-XXXXXX");
	return mkdtemp(directory) != NULL || ok(false, "a scratch directory");
}

/* It must be empty. */
void
rig_end(void)
{
	rmdir(directory);
}

/* ---- servers ---- */

/* With cert and key (files), it speaks TLS. */
bool
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

void
stop_server(Server *server)
{
	kill(server->pid, SIGTERM);
	waitpid(server->pid, NULL, 0);
}

int
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

/* A port on which somebody listens who never answers; -1 if there is none. */
int
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

/*
 * Be the server of one connection for a moment: answer the first bytes that
 * come with this text, and close.  *fd is -1 at first.
 */
void
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

/* ---- its admin calls ---- */

static char reply[16384];		/* to the last one */

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
int
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

void
fault(const Server *server, const char *rule)
{
	if (admin(server, "POST", "fault", rule) != 200)
		printf("# the server did not take the fault %s\n", rule);
}

/*
 * A count of a queue, or of "calls" to the server, from its books; -1 if it is
 * not there.
 */
int
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
void
renew(const Server *server, int n)
{
	char		body[128];

	admin(server, "POST", "reset", "{}");
	if (n == 0)
		return;
	snprintf(body, sizeof(body), "{\"queue\":\"q\",\"count\":%d,\"body\":\"message {i}\"}", n);
	admin(server, "POST", "fill", body);
}

/* ---- clients ---- */

SqsClient *
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

SqsClient *
new_client(const char *endpoint, AwsCredentialsProvider *credentials, const char *ca_file)
{
	return new_client_of(NULL, endpoint, credentials, ca_file);
}

int64
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void
done(SqsCall *call, void *arg)
{
	Wait	   *wait = arg;

	wait->completions++;
	wait->call = call;
}

/* Wait as an owner does; false after a minute. */
bool
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
SqsCall *
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
void
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
void
free_when_done(SqsCall *call, void *arg)
{
	(void) call;
	++*(int *) arg;
	sqs_call_free(call);
}

void
keep_reply(HttpReply *reply, void *arg)
{
	free(reply->body);
	*(HttpReply *) arg = *reply;
}

/* A finished SendMessage if n is 0, else SendMessageBatch; the caller frees it. */
SqsCall *
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
