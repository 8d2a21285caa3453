/*-------------------------------------------------------------------------
 *
 * test_proxies.c
 *	  Which requests go through a proxy, and what of a proxy's or a server's words is
 *	  passed on.
 *
 * The proxies and servers are sockets of ours that answer with a few words.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rig.h"
#include "tap.h"

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

/* A server that quotes what it was sent, in each place that is kept. */
static void
quoted_secrets(const char *id, const char *token)
{
	AwsCredentialsProvider *keys = aws_static_credentials(id, SECRET, token);
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
	is(error != NULL ? error->code : "", "X.**********", "no secret in a code");
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

void
test_proxies(void)
{
	AwsCredentialsProvider *good = aws_static_credentials(KEY, SECRET, NULL);

	proxies(good);
	proxy_headers();
	quoted_secrets(KEY, "tokentoken");
	/* somebody has entered his secret key as the key id */
	quoted_secrets("tokentoken", NULL);
	quoted_proxies(good);
	aws_credentials_free(good);
}
