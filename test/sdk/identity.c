/*-------------------------------------------------------------------------
 *
 * identity.c
 *	  For comparison with AWS's SDK: decide which keys to use, get them, and
 *	  call SQS with them, as a process of the server does.
 *
 *		identity PORT [OPTION=VALUE ...]
 *
 * The environment and the options are those of the case.  All connections go to
 * PORT on this machine, whatever host they are meant for; the servers there
 * (servers.js) see what has been chosen.  Prints a line of JSON: {} if SQS
 * answered; otherwise what was being done, and the error's code and message.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <poll.h>
#include <curl/curl.h>

#include "aws/fetch.h"
#include "aws/identity.h"
#include "aws/sqs_client.h"

#define DEADLINE_MS		10000

static struct curl_slist *connect_to;

extern CURLMcode __wrap_curl_multi_add_handle(CURLM *multi, CURL *easy);
extern CURLMcode __real_curl_multi_add_handle(CURLM *multi, CURL *easy);

/*
 * The linker puts this before libcurl's function (see the Makefile).  The
 * certificate is for none of AWS's hosts, but it is verified that it is the one
 * of AWS_CA_BUNDLE.
 */
CURLMcode
__wrap_curl_multi_add_handle(CURLM *multi, CURL *easy)
{
	curl_easy_setopt(easy, CURLOPT_CONNECT_TO, connect_to);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	return __real_curl_multi_add_handle(multi, easy);
}

static void
print_string(const char *name, const char *value)
{
	printf("\"%s\": \"", name);
	for (const char *p = value; *p != '\0'; p++)
	{
		if (*p == '"' || *p == '\\')
			printf("\\%c", *p);
		else if ((unsigned char) *p < 0x20)
			printf("\\u%04x", *p);
		else
			putchar(*p);
	}
	putchar('"');
}

static void
fail(const char *doing, const AwsError *error)
{
	putchar('{');
	print_string("doing", doing);
	fputs(", ", stdout);
	print_string("code", error->code);
	fputs(", ", stdout);
	print_string("message", error->message);
	puts("}");
	exit(0);
}

static long
sooner(long a, long b)
{
	return a < 0 ? b : b < 0 ? a : Min(a, b);
}

static void
wait_for(HttpPool *pool, long ms)
{
	struct pollfd fd = {.fd = http_pool_fd(pool),.events = POLLIN};

	poll(&fd, 1, sooner(ms, http_pool_timeout(pool)));
	http_pool_poll(pool);
}

static void
fetch_keys(HttpPool *pool, const AwsIdentity *identity, AwsFetchedKeys *keys)
{
	AwsError	error;
	AwsFetch   *fetch = aws_fetch_start(pool, identity, DEADLINE_MS, &error);

	if (fetch == NULL)
		fail("fetch", &error);
	while (!aws_fetch_done(fetch))
	{
		wait_for(pool, aws_fetch_next(fetch));
		aws_fetch_go_on(fetch);
	}
	if (!aws_fetch_result(fetch, keys, &error))
		fail("fetch", &error);
	aws_fetch_cancel(fetch);
}

static void
call_done(SqsCall *call pg_attribute_unused(), void *arg)
{
	*(bool *) arg = true;
}

/* The queue's URL has to be that of the endpoint, which is where messages go. */
static void
call_sqs(HttpPool *pool, const SqsClientOptions *options, const char *queue, const char *body)
{
	AwsError	error;
	SqsClient  *client = sqs_client_create(options, &error);
	SqsOutgoing message = {.body = {body, strlen(body)},.delay = -1};
	SqsCall    *lookup;
	SqsCall    *call;
	bool		done = false;

	if (client == NULL)
		fail("client", &error);
	lookup = sqs_start_get_queue_url(client, queue, DEADLINE_MS, 1, call_done, &done);
	while (!done)
	{
		wait_for(pool, sqs_client_next(client));
		sqs_client_go_on(client);
	}
	if (sqs_call_error(lookup) != NULL)
		fail("GetQueueUrl", sqs_call_error(lookup));

	done = false;
	call = sqs_start_send(client, sqs_call_queue_url(lookup), &message,
						  DEADLINE_MS, 1, call_done, &done);
	while (!done)
	{
		wait_for(pool, sqs_client_next(client));
		sqs_client_go_on(client);
	}
	if (sqs_call_error(call) != NULL)
		fail("SendMessage", sqs_call_error(call));
	sqs_call_free(call);
	sqs_call_free(lookup);
	sqs_client_destroy(client);
}

static void
set_option(AwsIdentityOptions *options, char *arg)
{
	struct
	{
		const char *name;
		const char **value;
	}			texts[] =
	{
		{"source", &options->source},
		{"access_key_id", &options->access_key_id},
		{"secret_access_key", &options->secret_access_key},
		{"session_token", &options->session_token},
		{"profile", &options->profile},
		{"role_arn", &options->role_arn},
		{"external_id", &options->external_id},
		{"role_session_name", &options->role_session_name},
		{"web_identity_token_file", &options->web_identity_token_file},
		{"region", &options->region},
		{"endpoint", &options->endpoint},
		{"sts_endpoint", &options->sts_endpoint}
	};
	char	   *value = strchr(arg, '=');

	if (value != NULL)
	{
		*value++ = '\0';
		for (int i = 0; i < lengthof(texts); i++)
		{
			if (strcmp(arg, texts[i].name) == 0)
			{
				*texts[i].value = value;
				return;
			}
		}
		if (strcmp(arg, "use_fips") == 0)
			options->use_fips = atoi(value);
		else if (strcmp(arg, "use_dualstack") == 0)
			options->use_dualstack = atoi(value);
		else if (strcmp(arg, "duration_seconds") == 0)
			options->duration_seconds = atoi(value);
		else if (strcmp(arg, "allow_process") == 0)
			options->allow_process = atoi(value) != 0;
		else
			value = NULL;
	}
	if (value == NULL)
	{
		fprintf(stderr, "no such option: %s\n", arg);
		exit(2);
	}
}

int
main(int argc, char **argv)
{
	AwsIdentityOptions options = AWS_IDENTITY_OPTIONS_INIT;
	SqsClientOptions client = {0};
	AwsIdentity *identity;
	AwsFetchedKeys fetched = {0};
	AwsError	error;
	HttpPool   *pool;
	char		to[64];

	if (argc < 2)
	{
		fprintf(stderr, "usage: identity PORT [OPTION=VALUE ...]\n");
		exit(2);
	}
	snprintf(to, sizeof(to), "::127.0.0.1:%s", argv[1]);
	connect_to = curl_slist_append(NULL, to);
	for (int i = 2; i < argc; i++)
		set_option(&options, argv[i]);

	pool = http_pool_create("sqsbridge/test", 0, &error);
	if (pool == NULL)
		fail("pool", &error);
	if (!aws_identity_resolve(&options, &identity, &error))
		fail("resolve", &error);
	if (aws_identity_needs_fetch(identity))
		fetch_keys(pool, identity, &fetched);

	client.region = identity->region ? identity->region : fetched.region;
	client.endpoint = identity->endpoint;
	client.use_fips = identity->use_fips;
	client.use_dualstack = identity->use_dualstack;
	client.ca_file = identity->ca_file;
	client.user_agent = "sqsbridge/test";
	client.pool = pool;
	if (fetched.access_key_id != NULL)
		client.credentials = aws_static_credentials(fetched.access_key_id,
													fetched.secret_access_key,
													fetched.session_token);
	else
		client.credentials = aws_static_credentials(identity->access_key_id,
													identity->secret_access_key,
													identity->session_token);
	call_sqs(pool, &client, "queue-1", "caf\xc3\xa9 \"quoted\" \\ and\na new line");

	aws_credentials_free(client.credentials);
	aws_fetched_keys_wipe(&fetched);
	aws_identity_free(identity);
	http_pool_destroy(pool);
	curl_slist_free_all(connect_to);
	puts("{}");
	return 0;
}
