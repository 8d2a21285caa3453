/*-------------------------------------------------------------------------
 *
 * main.c
 *	  sqsd, a small local SQS server: options, start and end.
 *
 * This is a TEST TOOL for sqsbridge's tests, demo and benchmarks.  It keeps
 * everything in memory and must never be exposed to a network.
 *
 *-------------------------------------------------------------------------
 */
#include "server.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Options		options = {
	.listen = "127.0.0.1",
	.region = "us-east-1",
	.account = ACCOUNT_ID,
	.skew_limit = 15 * 60,
};

enum
{
	OPT_LISTEN = 256, OPT_PORT, OPT_PORT_FILE, OPT_REGION, OPT_ACCOUNT, OPT_QUEUE, OPT_ACCESS_KEY,
	OPT_SECRET_KEY, OPT_SESSION_TOKEN, OPT_EXPIRED_TOKEN, OPT_SKEW_LIMIT, OPT_TLS_CERT,
	OPT_TLS_KEY, OPT_KEEP_DELETED, OPT_NO_COOLDOWN, OPT_QUIET, OPT_HELP, OPT_VERSION
};

static const struct option long_options[] = {
	{"listen", required_argument, NULL, OPT_LISTEN},
	{"port", required_argument, NULL, OPT_PORT},
	{"port-file", required_argument, NULL, OPT_PORT_FILE},
	{"region", required_argument, NULL, OPT_REGION},
	{"account", required_argument, NULL, OPT_ACCOUNT},
	{"queue", required_argument, NULL, OPT_QUEUE},
	{"access-key", required_argument, NULL, OPT_ACCESS_KEY},
	{"secret-key", required_argument, NULL, OPT_SECRET_KEY},
	{"session-token", required_argument, NULL, OPT_SESSION_TOKEN},
	{"expired-token", required_argument, NULL, OPT_EXPIRED_TOKEN},
	{"skew-limit", required_argument, NULL, OPT_SKEW_LIMIT},
	{"tls-cert", required_argument, NULL, OPT_TLS_CERT},
	{"tls-key", required_argument, NULL, OPT_TLS_KEY},
	{"keep-deleted", required_argument, NULL, OPT_KEEP_DELETED},
	{"no-cooldown", no_argument, NULL, OPT_NO_COOLDOWN},
	{"quiet", no_argument, NULL, OPT_QUIET},
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
	{NULL, 0, NULL, 0}
};

static void
usage(void)
{
	printf("sqsd is a TEST TOOL: a small in-memory SQS server for sqsbridge's tests.\n"
		   "Never use it for real messages and never expose it to a network.\n\n"
		   "Usage:\n  sqsd [OPTION]...\n\n"
		   "Options:\n"
		   "  --listen ADDR          IPv4 address to listen on (default 127.0.0.1)\n"
		   "  --port N               port; 0 (the default) picks a free one\n"
		   "  --port-file FILE       write the port to FILE\n"
		   "  --region NAME          region of ARNs and signatures (default us-east-1)\n"
		   "  --account ID           account of the queues (default " ACCOUNT_ID ", which is\n"
		   "                         that of all callers)\n"
		   "  --queue NAME[,ATTR=VALUE...]\n"
		   "                         create a queue (repeatable); dlq=NAME:COUNT sets the\n"
		   "                         redrive policy\n"
		   "  --access-key ID        access key to verify signatures with (repeatable, each\n"
		   "                         followed by its --secret-key); without one, signatures\n"
		   "                         are not verified\n"
		   "  --secret-key SECRET    secret of the preceding access key\n"
		   "  --session-token TOKEN  session token which requests must carry\n"
		   "  --expired-token TOKEN  session token to refuse as expired\n"
		   "  --skew-limit SECONDS   greatest clock difference accepted (default 900)\n"
		   "  --tls-cert FILE        serve HTTPS with this certificate (PEM)\n"
		   "  --tls-key FILE         and this private key (PEM)\n"
		   "  --keep-deleted N       how many deleted messages per queue stay in the books\n"
		   "                         (default 2000000)\n"
		   "  --no-cooldown          allow to re-create a deleted queue and to purge again\n"
		   "                         within 60 seconds\n"
		   "  --quiet                print nothing but the listening line and errors\n"
		   "  --help, --version\n");
}

static bool
option_error(const char *what, const char *value)
{
	fprintf(stderr, "sqsd: %s: \"%s\"\n", what, value);
	return false;
}

static bool
parse_int(const char *text, long min, long max, long *result)
{
	char	   *end;

	*result = strtol(text, &end, 10);
	if (end == text || *end != '\0' || *result < min || *result > max)
		return option_error("invalid number", text);
	return true;
}

/*
 * One --queue option.  It is read twice: the first pass makes the queues, the
 * second one links them to their dead-letter queues.
 */
static bool
apply_queue_option(const char *text, bool linking)
{
	char	   *copy = xstrdup(text);
	char	   *save = NULL;
	char	   *name = strtok_r(copy, ",", &save);
	QueueConfig config;
	Queue	   *queue = NULL;
	ApiError	error;
	bool		ok = true;
	size_t		len = name ? strlen(name) : 0;

	queue_config_init(&config);
	if (name == NULL || !queue_name_valid(name) || (!linking && queue_find(name) != NULL))
		ok = option_error("invalid or repeated queue name", text);
	else if (linking)
		queue = queue_find(name);
	config.fifo = len > 5 && strcmp(name + len - 5, ".fifo") == 0;

	for (char *item = strtok_r(NULL, ",", &save); ok && item != NULL;
		 item = strtok_r(NULL, ",", &save))
	{
		char	   *value = strchr(item, '=');
		char	   *colon;

		if (value == NULL)
		{
			ok = option_error("missing value in queue option", item);
			break;
		}
		*value++ = '\0';
		if (strcmp(item, "dlq") == 0)
		{
			StrBuf		policy = {0};
			Queue	   *dlq;

			if (!linking)
				continue;
			colon = strchr(value, ':');
			if (colon == NULL)
			{
				ok = option_error("dlq must be NAME:COUNT", value);
				break;
			}
			*colon = '\0';
			dlq = queue_find(value);
			if (dlq == NULL)
			{
				ok = option_error("no such dead-letter queue", value);
				break;
			}
			sb_printf(&policy, "{\"deadLetterTargetArn\":\"%s\",\"maxReceiveCount\":\"%s\"}",
					  dlq->arn, colon + 1);
			if (!config_set(&queue->config, "RedrivePolicy", sb_cstr(&policy), false, &error))
				ok = option_error("invalid dead-letter queue", error.message);
			sb_free(&policy);
		}
		else if (!linking && !config_set(&config, item, value, true, &error))
			ok = option_error(error.message, item);
	}
	if (ok && !linking)
		queue_create(name, &config);
	queue_config_free(&config);
	free(copy);
	return ok;
}

/* Returns -1 to go on, otherwise the exit status. */
static int
parse_options(int argc, char **argv, const char **queues, int *queue_count)
{
	const char *access_key = NULL;
	int			c;
	long		number;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
	{
		switch (c)
		{
			case OPT_LISTEN:
				options.listen = optarg;
				break;
			case OPT_PORT:
				if (!parse_int(optarg, 0, 65535, &number))
					return 2;
				options.port = (int) number;
				break;
			case OPT_PORT_FILE:
				options.port_file = optarg;
				break;
			case OPT_REGION:
				options.region = optarg;
				break;
			case OPT_ACCOUNT:
				options.account = optarg;
				break;
			case OPT_QUEUE:
				queues[(*queue_count)++] = optarg;
				break;
			case OPT_ACCESS_KEY:
				access_key = optarg;
				break;
			case OPT_SECRET_KEY:
				if (access_key == NULL)
				{
					option_error("--secret-key must follow its --access-key", "");
					return 2;
				}
				sigv4_add_key(access_key, optarg);
				access_key = NULL;
				break;
			case OPT_SESSION_TOKEN:
				options.session_token = optarg;
				break;
			case OPT_EXPIRED_TOKEN:
				options.expired_token = optarg;
				break;
			case OPT_SKEW_LIMIT:
				if (!parse_int(optarg, 1, 1000000000, &number))
					return 2;
				options.skew_limit = (int) number;
				break;
			case OPT_TLS_CERT:
				options.tls_cert = optarg;
				break;
			case OPT_TLS_KEY:
				options.tls_key = optarg;
				break;
			case OPT_KEEP_DELETED:
				if (!parse_int(optarg, 0, 1000000000, &number))
					return 2;
				store_set_books_limit((size_t) number);
				break;
			case OPT_NO_COOLDOWN:
				options.no_cooldown = true;
				break;
			case OPT_QUIET:
				options.quiet = true;
				break;
			case OPT_HELP:
				usage();
				return 0;
			case OPT_VERSION:
				printf("sqsd " SQSD_VERSION " (sqsbridge test tool)\n");
				return 0;
			default:
				fprintf(stderr, "Try \"sqsd --help\".\n");
				return 2;
		}
	}
	if (optind < argc)
	{
		option_error("unexpected argument", argv[optind]);
		return 2;
	}
	if (access_key != NULL || (options.tls_cert == NULL) != (options.tls_key == NULL))
	{
		option_error("--access-key needs --secret-key, --tls-cert needs --tls-key", "");
		return 2;
	}
	return -1;
}

int
main(int argc, char **argv)
{
	const char **queues = xcalloc((size_t) argc, sizeof(char *));
	int			queue_count = 0;
	int			status = parse_options(argc, argv, queues, &queue_count);

	if (status < 0)
	{
		status = 0;
		if (!digest_start())
		{
			fprintf(stderr, "sqsd: could not set up MD5 and SHA-256\n");
			status = 1;
		}
		queue_set_place(options.region, options.account);
		store_start();
		identity_start();
		for (int i = 0; i < queue_count * 2 && status == 0; i++)
			if (!apply_queue_option(queues[i % queue_count], i >= queue_count))
				status = 2;
		if (status == 0 && !options.quiet)
			printf("sqsd: this is a test tool, not a message queue: all is kept in memory\n");
		if (status == 0 && http_start())
			http_loop();
		else if (status == 0)
			status = 1;
		http_stop();
		store_stop();
		digest_stop();
	}
	fault_remove_all();
	identity_stop();
	sigv4_stop();
	free(queues);
	return status;
}
