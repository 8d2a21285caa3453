/*-------------------------------------------------------------------------
 *
 * test_tls.c
 *	  The client over TLS: whom it trusts, and sessions that are resumed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rig.h"
#include "tap.h"

/*
 * These stand in front of OpenSSL's, to see which authorities libcurl is told to
 * trust, and when it reads them.  None of the system's has signed our
 * certificates, so they are not read, which takes long under valgrind; what is
 * read in their place is for the tests to say.
 */
static int	directories = 0;
static int	files = 0;
static const char *directory_has = NULL;
static const char *system_file_has = NULL;

extern int	X509_STORE_load_file(void *store, const char *path);
extern int	X509_STORE_load_path(void *store, const char *path);
extern int	SSL_CTX_load_verify_dir(void *context, const char *path);

static int
load_file(void *store, const char *path)
{
	int			(*original) (void *, const char *) = dlsym(RTLD_NEXT, "X509_STORE_load_file");

	return original(store, path);
}

int
X509_STORE_load_file(void *store, const char *path)
{
	files++;
	if (strncmp(path, "/etc/", 5) != 0)
		return load_file(store, path);
	return system_file_has == NULL || load_file(store, system_file_has);
}

int
X509_STORE_load_path(void *store, const char *path)
{
	(void) path;
	directories++;
	return directory_has == NULL || load_file(store, directory_has);
}

int
SSL_CTX_load_verify_dir(void *context, const char *path)
{
	(void) context;
	(void) path;
	directories++;
	return 1;
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

/* Receive on a new connection of the client's, as the server closes the old one. */
static void
receive_anew(const Server *server, SqsClient *client, const char *what)
{
	fault(server, "{\"kind\":\"lose_reply\",\"action\":\"ReceiveMessage\",\"count\":1}");
	receive_ends(client, server->queue, 10000, AWS_ERROR_TRANSIENT, "Curl52", "the connection is closed");
	receive_ends(client, server->queue, 10000, AWS_ERROR_NONE, NULL, what);
}

static void
wait_ms(int ms)
{
	struct pollfd none = {-1, 0, 0};

	poll(&none, 0, ms);
}

/*
 * The system's authorities are looked for in the directory, then in the file,
 * which is read once.
 */
static void
system_authorities(const Server *server, AwsCredentialsProvider *good, const char *cert)
{
	SqsClient  *client;

	directories = files = 0;
	directory_has = cert;
	client = new_client(server->url, good, NULL);
	receive_ends(client, server->queue, 10000, AWS_ERROR_NONE, NULL, "an authority of the directory");
	is_int(directories, 1, "is found there");
	is_int(files, 0, "without the file");
	sqs_client_destroy(client);

	directories = files = 0;
	directory_has = NULL;
	system_file_has = cert;
	client = new_client(server->url, good, NULL);
	receive_ends(client, server->queue, 10000, AWS_ERROR_NONE, NULL, "an authority of the file");
	is_int(directories, 1, "is not in the directory");
	is_int(files, 1, "but in the file");
	receive_anew(server, client, "another connection");
	is_int(directories, 1, "does without the directory");
	is_int(files, 1, "and without reading the file again");
	sqs_client_destroy(client);
	system_file_has = NULL;
}

/* A file is read again when it has changed. */
static void
changed_authorities(const Server *server, AwsCredentialsProvider *good, const char *cert)
{
	SqsClient  *client = new_client(server->url, good, cert);

	chmod(cert, 0644);
	wait_ms(2500);				/* what has just changed is not kept */
	files = 0;
	receive_ends(client, server->queue, 10000, AWS_ERROR_NONE, NULL, "a file of authorities");
	receive_anew(server, client, "another connection");
	is_int(files, 1, "is read once");
	chmod(cert, 0600);
	wait_ms(1500);				/* it is looked at once a second */
	receive_anew(server, client, "after it has changed");
	is_int(files, 2, "it is read again");
	sqs_client_destroy(client);
}

void
test_tls(void)
{
	AwsCredentialsProvider *good = aws_static_credentials(KEY, SECRET, NULL);
	Server		server;
	SqsClient  *client;
	char		cert[128];
	char		key[128];
	char		command[512];

	if (!rig_begin())
		return;
	snprintf(cert, sizeof(cert), "%s/cert.pem", directory);
	snprintf(key, sizeof(key), "%s/key.pem", directory);
	snprintf(command, sizeof(command),
			 "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 "
			 "-addext subjectAltName=IP:127.0.0.1 -out %s -keyout %s >/dev/null 2>&1", cert, key);
	if (system(command) != 0)
	{
		tap_skip("there is no openssl command", "TLS");
		rig_end();
		aws_credentials_free(good);
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
		system_authorities(&server, good, cert);
		changed_authorities(&server, good, cert);
		shared_authorities(&server, good, cert);
		test_kept_connections(&server, good, cert);
		resumed_sessions(cert, key);
	}
	stop_server(&server);
	unlink(cert);
	unlink(key);
	rig_end();
	aws_credentials_free(good);
}
