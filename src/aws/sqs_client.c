/*-------------------------------------------------------------------------
 *
 * sqs_client.c
 *	  Amazon SQS over HTTPS, asynchronous: calls, attempts, deadlines.
 *
 * A call is encoded once, and signed anew for each attempt when that is sent.
 * Between attempts it waits in a list of its client until its go_on_at.  Calls
 * under way are in another list, because there can be hundreds of them, and
 * nobody has to look at them until libcurl reports their replies.
 *
 * Everything here is malloc'ed, because calls outlive memory contexts.  Two
 * things can raise an error nevertheless, both when memory runs out in the
 * server: new_call(), before there is a call, and PostgreSQL's hash functions,
 * which sign requests and check the MD5s of replies.  A call that such an error
 * interrupts may never end, so its owner abandons it or destroys the client.
 *
 * Clock skew: the Date header of each reply is compared with the local clock
 * as corrected so far, and if they are five minutes apart or more, the
 * correction is set anew.  (AWS accepts a signature for five minutes in most
 * services.)  A request that was refused for its date is tried once more if
 * the correction is not the one that it was signed with; the reply to another
 * call may have changed it meanwhile.  A Date that came by plain HTTP is
 * believed only from a loopback host.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include <sys/time.h>
#include <time.h>

#include "common/pg_prng.h"

#include "aws/endpoint.h"
#include "aws/http.h"
#include "aws/json.h"
#include "aws/retry_budget.h"
#include "aws/sigv4.h"
#include "aws/sqs_client.h"

/*
 * Bytes of a reply.  Ten messages of a receive have up to 1 MiB together in
 * SQS's count, and up to six times that as JSON; other implementations may
 * allow 1 MiB for each.
 */
#define MAX_RECEIVE_REPLY	((size_t) 64 * 1024 * 1024)
#define MAX_OTHER_REPLY		((size_t) 1024 * 1024)

#define SKEW_LIMIT_S		300
#define SKEW_MAX_S			((int64) 10 * 365 * 86400)	/* beyond it the Date is
														 * nonsense */
#define NHEADERS			8

/*
 * A call is in a list of its client from new_call() until it ends; from then on
 * it belongs to whoever started it.  Until it ends, it either has a request
 * under way or a time to go on at.
 */
struct SqsCall
{
	SqsClient  *client;
	SqsCall    *next;
	SqsCall   **link;			/* what points here in the list; NULL: not in
								 * it */
	SqsAction	action;
	char	   *url;
	char	   *host;
	JsonWriter	body;
	int64		started;
	int64		deadline;
	int64		go_on_at;		/* when to make the next attempt; 0: under way */
	int			attempts;
	int			max_attempts;
	int			retry_taken;	/* from the budget, by the last retry */
	bool		may_be_done;	/* by an attempt before this one */
	uint64		turn;			/* the client's when the call was started */
	int64		skew_ms;		/* correction of the clock it is signed with */
	uint64		generation;		/* of the keys that it is signed with */
	bool		lacks_keys;		/* waits for keys */
	bool		extra_used;		/* the attempt after a clock or key correction */
	bool		may_repeat;		/* a receive that has a
								 * ReceiveRequestAttemptId */
	long		deadline_ms;	/* as given by the caller */
	HttpRequest *request;
	SqsCallUsage usage;			/* since it was last taken */
	char	   *headers[NHEADERS];	/* wiped when freed: a session token */
	SqsCallDone done;
	void	   *arg;
	int			nentries;
	SqsDigests *digests;		/* of the messages sent, one per entry */

	/* the result */
	bool		finished;
	AwsError	error;
	char	   *reply;
	size_t		reply_len;
	SqsReceivedMessage *messages;
	int			nmessages;
	SqsSlice	queue_url;
	SqsQueueAttributes attributes;
	SqsBatchEntry *entries;
	int64		ended;
};

struct SqsClient
{
	HttpPool   *pool;
	HttpPool   *own_pool;		/* NULL: pool is shared */
	char	   *ca_file;
	char	   *endpoint;		/* base URL without a slash at the end; NULL:
								 * the region is not known yet */
	char		region[33];		/* "": not known yet */
	bool		use_fips;
	bool		use_dualstack;
	bool		direct;			/* the endpoint is this machine: use no proxy */
	AwsCredentialsProvider *credentials;
	SigV4Key	key;
	SqsClientStats stats;
	AwsRetryBudget budget;		/* for the retries of all calls */
	SqsCall    *under_way;		/* calls whose go_on_at is 0 */
	SqsCall    *waiting;		/* the others */
	uint64		turn;			/* how often sqs_client_go_on() has run */
};

static int64
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- client ---- */

/*
 * The region is known: make the endpoint of it, unless there is one.  False if
 * out of memory.
 */
static bool
set_endpoint(SqsClient *client)
{
	char		derived[300];
	const char *why;
	AwsUrl		url;

	if (client->endpoint == NULL)
	{
		if (!aws_service_endpoint("sqs", client->region, client->use_fips,
								  client->use_dualstack, derived, sizeof(derived)))
			return false;
		client->endpoint = strdup(derived);
		if (client->endpoint == NULL)
			return false;
	}
	client->direct = aws_url_parse(client->endpoint, &url, &why) && aws_host_is_loopback(url.host);
	return true;
}

/*
 * The endpoint that all calls go to and the region they are signed for follow
 * from one another if only one of them is given.
 */
SqsClient *
sqs_client_create(const SqsClientOptions *options, AwsError *error)
{
	SqsClient  *client = calloc(1, sizeof(SqsClient));
	const char *why;
	AwsUrl		url;
	bool		no_memory = client == NULL;

	if (client == NULL)
	{
		aws_error_set(error, AWS_ERROR_RESOURCES, "NoResources", "out of memory");
		return NULL;
	}
	client->credentials = options->credentials;
	client->use_fips = options->use_fips;
	client->use_dualstack = options->use_dualstack;
	aws_retry_budget_init(&client->budget);

	if (options->endpoint != NULL)
	{
		if (!aws_endpoint_is_valid(options->endpoint, options->allow_http, &why))
		{
			aws_error_set(error, AWS_ERROR_CONFIGURATION, "InvalidEndpoint",
						  "endpoint \"%s\" %s", options->endpoint, why);
			free(client);
			return NULL;
		}
		client->endpoint = strdup(options->endpoint);
		no_memory = client->endpoint == NULL;
	}
	if (options->region != NULL)
	{
		if (!aws_region_is_valid(options->region, &why))
		{
			aws_error_set(error, AWS_ERROR_CONFIGURATION, "InvalidRegion",
						  "region \"%s\" %s", options->region, why);
			sqs_client_destroy(client);
			return NULL;
		}
		strlcpy(client->region, options->region, sizeof(client->region));
	}
	else if (options->endpoint == NULL || !aws_url_parse(options->endpoint, &url, &why) ||
			 !aws_region_of_host(url.host, client->region, sizeof(client->region)))
	{
		client->region[0] = '\0';
		if (!options->region_with_keys)
		{
			aws_error_set(error, AWS_ERROR_CONFIGURATION, "NoRegion",
						  "no region is given, and it cannot be derived from the endpoint");
			sqs_client_destroy(client);
			return NULL;
		}
	}

	if (options->ca_file != NULL && options->ca_file[0] != '\0')
	{
		client->ca_file = strdup(options->ca_file);
		no_memory = no_memory || client->ca_file == NULL;
	}
	if (client->region[0] != '\0' && !no_memory)
		no_memory = !set_endpoint(client);
	if (no_memory)
		aws_error_set(error, AWS_ERROR_RESOURCES, "NoResources", "out of memory");
	else if (options->pool != NULL)
		client->pool = options->pool;
	else
		client->pool = client->own_pool =
			http_pool_create(options->user_agent, options->connections, error);
	if (client->pool == NULL)
	{
		sqs_client_destroy(client);
		return NULL;
	}
	if (client->endpoint != NULL && client->endpoint[strlen(client->endpoint) - 1] == '/')
		client->endpoint[strlen(client->endpoint) - 1] = '\0';
	return client;
}

static void
unlink_call(SqsCall *call)
{
	if (call->link == NULL)
		return;
	*call->link = call->next;
	if (call->next != NULL)
		call->next->link = call->link;
	call->link = NULL;
	call->next = NULL;
}

/* Put the call into the list for its go_on_at. */
static void
link_call(SqsCall *call)
{
	SqsCall   **list = call->go_on_at == 0 ? &call->client->under_way : &call->client->waiting;

	call->next = *list;
	call->link = list;
	if (call->next != NULL)
		call->next->link = &call->next;
	*list = call;
}

/* Set when to go on; 0: a request is under way. */
static void
go_on_at(SqsCall *call, int64 at)
{
	unlink_call(call);
	call->go_on_at = at;
	link_call(call);
}

static void
free_headers(SqsCall *call)
{
	for (int i = 0; i < NHEADERS; i++)
	{
		if (call->headers[i] == NULL)
			continue;
		explicit_bzero(call->headers[i], strlen(call->headers[i]));
		free(call->headers[i]);
		call->headers[i] = NULL;
	}
}

void
sqs_call_free(SqsCall *call)
{
	unlink_call(call);
	free_headers(call);
	json_writer_free(&call->body);
	free(call->url);
	free(call->host);
	free(call->reply);
	free(call->messages);
	free(call->digests);
	free(call->entries);
	free(call);
}

void
sqs_call_abandon(SqsCall *call)
{
	if (call->request != NULL)
		http_cancel(call->request);
	call->request = NULL;
	sqs_call_free(call);
}

void
sqs_client_destroy(SqsClient *client)
{
	if (client == NULL)
		return;
	while (client->under_way != NULL)
		sqs_call_abandon(client->under_way);
	while (client->waiting != NULL)
		sqs_call_abandon(client->waiting);
	http_pool_destroy(client->own_pool);
	sigv4_key_wipe(&client->key);
	free(client->ca_file);
	free(client->endpoint);
	free(client);
}

int
sqs_client_fd(const SqsClient *client)
{
	return http_pool_fd(client->pool);
}

bool
sqs_client_is_idle(const SqsClient *client)
{
	return client->under_way == NULL && client->waiting == NULL;
}

long
sqs_client_next(const SqsClient *client)
{
	long		timeout = -1;
	int64		now = 0;

	for (SqsCall *call = client->waiting; call != NULL; call = call->next)
	{
		long		left;

		if (now == 0)
			now = now_ms();
		left = (long) Max(call->go_on_at - now, 0);
		if (timeout < 0 || left < timeout)
			timeout = left;
	}
	return timeout;
}

long
sqs_client_timeout(const SqsClient *client)
{
	long		timeout = http_pool_timeout(client->pool);
	long		next = sqs_client_next(client);

	return timeout < 0 || (next >= 0 && next < timeout) ? next : timeout;
}

AwsRetryBudget *
sqs_client_retry_budget(SqsClient *client)
{
	return &client->budget;
}

const SqsClientStats *
sqs_client_stats(const SqsClient *client)
{
	return &client->stats;
}

/* ---- attempts ---- */

static void reply_done(HttpReply *reply, void *arg);

/*
 * What the server says goes to logs and views; secrets must not.  Texts from
 * the server may quote the headers of the request, with the session token that
 * was sent, and the key id, which is the secret key if a user has swapped them.
 */
static void
redact(const SqsCall *call, char *text)
{
	static const char name[] = "x-amz-security-token: ";
	AwsCredentials keys;

	for (int i = 0; i < NHEADERS; i++)
	{
		if (call->headers[i] != NULL && strncmp(call->headers[i], name, strlen(name)) == 0)
			aws_text_redact(text, call->headers[i] + strlen(name));
	}
	if (aws_credentials_peek(call->client->credentials, &keys))
	{
		aws_text_redact(text, keys.access_key_id);
		aws_text_redact(text, keys.secret_access_key);
		aws_text_redact(text, keys.session_token);
	}
}

static void
redact_errors(SqsCall *call)
{
	int			n = call->entries == NULL ? 0 : Max(call->nentries, 1);

	if (call->error.class != AWS_ERROR_NONE)
	{
		redact(call, call->error.code);
		redact(call, call->error.message);
		redact(call, call->error.request_id);
	}
	for (int i = 0; i < n; i++)
	{
		if (call->entries[i].ok)
			continue;
		redact(call, call->entries[i].code);
		redact(call, call->entries[i].message);
	}
}

/*
 * The call has ended: hand it to its owner.  The call may be gone when this
 * returns.
 */
static void
finish(SqsCall *call)
{
	redact_errors(call);
	unlink_call(call);
	free_headers(call);
	json_writer_free(&call->body);
	if (call->error.class != AWS_ERROR_NONE)
		call->error.may_be_done = call->may_be_done;
	call->finished = true;
	call->go_on_at = 0;
	call->ended = now_ms();
	call->done(call, call->arg);
}

/* End it at the next poll: no completion runs inside a start function. */
static void
finish_later(SqsCall *call)
{
	call->finished = true;
	go_on_at(call, 1);
}

/* A line of the request, malloc'ed; NULL if out of memory. */
static char *
header(const char *name, const char *value)
{
	size_t		size = strlen(name) + strlen(value) + 3;
	char	   *line = malloc(size);

	if (line != NULL)
		snprintf(line, size, "%s: %s", name, value);
	return line;
}

static void
add_header(SigV4Header *headers, int *n, const char *name, const char *value)
{
	headers[*n].name = name;
	headers[*n].value = value;
	(*n)++;
}

/*
 * The keys are there: find out where the call goes, unless that is known.
 * False, with call->error set, if that cannot be done.
 */
static bool
find_place(SqsCall *call, const AwsCredentials *credentials)
{
	SqsClient  *client = call->client;
	const char *why;
	AwsUrl		url;
	char		host[300];

	if (client->region[0] == '\0')
	{
		if (credentials->region == NULL || !aws_region_is_valid(credentials->region, &why))
		{
			aws_error_set(&call->error, AWS_ERROR_CONFIGURATION, "NoRegion",
						  "no region is given, and %s has none",
						  aws_credentials_source(client->credentials));
			return false;
		}
		strlcpy(client->region, credentials->region, sizeof(client->region));
	}
	if (call->url != NULL)
		return true;
	if (set_endpoint(client))
		call->url = strdup(client->endpoint);
	if (call->url != NULL && aws_url_parse(call->url, &url, &why))
	{
		aws_url_host_header(&url, host, sizeof(host));
		call->host = strdup(host);
	}
	if (call->host != NULL)
		return true;
	aws_error_set(&call->error, AWS_ERROR_RESOURCES, "NoResources", "out of memory");
	return false;
}

/*
 * Sign and send.  False, with call->error set, if that cannot be done.  The
 * signed headers are in the order of their names, as the signature wants them.
 * "Expect:" keeps libcurl from asking the server before it sends a large body.
 */
static bool
send_attempt(SqsCall *call)
{
	SqsClient  *client = call->client;
	AwsCredentials credentials;
	SigV4Header signed_headers[5];
	int			nsigned = 0;
	int			n = 0;
	char		date[SIGV4_DATE_LEN + 1];
	char		target[64];
	char		authorization[1024];
	struct timeval tv;
	AwsCredentialsStatus status;
	HttpTarget	where = {0};
	bool		ok = true;

	free_headers(call);
	memset(&credentials, 0, sizeof(credentials));
	status = aws_credentials_get(client->credentials, &credentials, &call->error);
	call->lacks_keys = status == AWS_CREDENTIALS_PENDING;
	if (status == AWS_CREDENTIALS_PENDING)
	{
		go_on_at(call, now_ms() + Max(credentials.retry_ms, 1));
		return true;
	}
	if (status == AWS_CREDENTIALS_FAILED)
	{
		call->error.no_keys = true;
		return false;
	}
	if (!find_place(call, &credentials))
		return false;
	call->generation = credentials.generation;
	where.url = call->url;
	where.ca_file = client->ca_file;
	where.direct = client->direct;

	gettimeofday(&tv, NULL);
	call->skew_ms = client->stats.clock_skew_ms;
	sigv4_date(tv.tv_sec + call->skew_ms / 1000, date);
	snprintf(target, sizeof(target), "AmazonSQS.%s", sqs_action_name(call->action));

	add_header(signed_headers, &nsigned, "content-type", "application/x-amz-json-1.0");
	add_header(signed_headers, &nsigned, "host", call->host);
	add_header(signed_headers, &nsigned, "x-amz-date", date);
	if (credentials.session_token != NULL && credentials.session_token[0] != '\0')
		add_header(signed_headers, &nsigned, "x-amz-security-token", credentials.session_token);
	add_header(signed_headers, &nsigned, "x-amz-target", target);

	if (!sigv4_authorization(&client->key, credentials.access_key_id,
							 credentials.secret_access_key, client->region, "sqs",
							 date, "POST", "/", signed_headers, nsigned,
							 call->body.data, call->body.len,
							 authorization, sizeof(authorization)))
	{
		aws_error_set(&call->error, AWS_ERROR_CONFIGURATION, "CannotSign",
					  "the request cannot be signed: a key, token or region is too long, SHA-256 is not available, or memory ran out");
		return false;
	}

	for (int i = 0; i < nsigned; i++)
		call->headers[n++] = header(signed_headers[i].name, signed_headers[i].value);
	call->headers[n++] = header("Authorization", authorization);
	call->headers[n++] = strdup("Expect:");
	for (int i = 0; i < n; i++)
		ok = ok && call->headers[i] != NULL;
	explicit_bzero(authorization, sizeof(authorization));

	go_on_at(call, 0);
	call->attempts++;
	if (ok)
		call->request = http_post(client->pool, &where,
								  (const char *const *) call->headers, n,
								  call->body.data, call->body.len,
								  (long) (call->deadline - now_ms()),
								  call->action == SQS_RECEIVE_MESSAGE ?
								  MAX_RECEIVE_REPLY : MAX_OTHER_REPLY,
								  reply_done, call);
	if (call->request == NULL)
	{
		aws_error_set(&call->error, AWS_ERROR_RESOURCES, "NoResources",
					  "the request cannot be sent: out of memory");
		return false;
	}
	client->stats.calls[call->action]++;
	if (call->attempts > 1)
		client->stats.retries++;
	client->stats.bytes_sent += call->body.len;
	call->usage.requests++;
	call->usage.bytes_sent += call->body.len;
	return true;
}

/* If the server's clock differs from ours as corrected, set the correction. */
static void
correct_clock(SqsCall *call, const HttpReply *reply)
{
	SqsClient  *client = call->client;
	struct timeval tv;
	AwsUrl		url;
	const char *why;
	int64		skew;

	if (reply->date == 0 || !aws_url_parse(call->url, &url, &why) ||
		(!url.https && !aws_host_is_loopback(url.host)))
		return;
	gettimeofday(&tv, NULL);
	skew = reply->date - tv.tv_sec;
	if (llabs(skew - client->stats.clock_skew_ms / 1000) < SKEW_LIMIT_S ||
		llabs(skew) > SKEW_MAX_S)
		return;
	client->stats.clock_skew_ms = skew * 1000;
}

/*
 * Parse a reply of status 200 into the call.  False if it is not what SQS
 * sends, or memory ran out.  SQS answers some actions with an empty body.
 */
static bool
parse_reply(SqsCall *call)
{
	static char empty[1];
	char	   *data = call->reply != NULL ? call->reply : empty;
	size_t		len = call->reply_len;

	switch (call->action)
	{
		case SQS_GET_QUEUE_URL:
			return len > 0 && sqs_parse_queue_url(data, len, &call->queue_url);
		case SQS_GET_QUEUE_ATTRIBUTES:
			return sqs_parse_queue_attributes(data, len, &call->attributes);
		case SQS_RECEIVE_MESSAGE:
			return sqs_parse_receive(data, len, &call->messages, &call->nmessages);
		case SQS_DELETE_MESSAGE_BATCH:
		case SQS_CHANGE_MESSAGE_VISIBILITY_BATCH:
		case SQS_SEND_MESSAGE_BATCH:
			call->entries = malloc(sizeof(SqsBatchEntry) * call->nentries);
			return call->entries != NULL && len > 0 &&
				sqs_parse_batch(data, len, call->nentries, call->digests, call->entries);
		case SQS_SEND_MESSAGE:
			call->entries = malloc(sizeof(SqsBatchEntry));
			return call->entries != NULL && len > 0 &&
				sqs_parse_send(data, len, call->digests, call->entries);
		default:
			return false;
	}
}

/*
 * If the call may be tried again, set go_on_at and return true.  corrected: the
 * clock or the keys have changed, which allows one more attempt without a
 * pause.
 */
static bool
schedule_retry(SqsCall *call, bool corrected)
{
	int64		now = now_ms();
	int			taken;

	if (corrected && !call->extra_used)
	{
		call->extra_used = true;
		go_on_at(call, now);
		return now < call->deadline;
	}
	if (call->attempts >= call->max_attempts)
		return false;
	taken = aws_retry_budget_take(&call->client->budget, call->error.class);
	if (taken == 0)
		return false;
	call->retry_taken = taken;
	go_on_at(call, now + aws_retry_pause(call->error.class, call->attempts));
	return call->go_on_at < call->deadline;
}

/*
 * Repeat a receive whose reply was lost, if SQS will give the same messages
 * again.  The deadline starts anew.
 */
static bool
repeat_receive(SqsCall *call, const HttpReply *reply)
{
	if (!call->may_repeat || !reply->sent || reply->too_large ||
		reply->error.class != AWS_ERROR_TRANSIENT)
		return false;
	call->may_repeat = false;
	go_on_at(call, now_ms());
	call->deadline = call->go_on_at + call->deadline_ms;
	return true;
}

/* The HttpDone of every attempt: take the reply, then end or retry the call. */
static void
reply_done(HttpReply *reply, void *arg)
{
	SqsCall    *call = arg;
	SqsClient  *client = call->client;
	bool		corrected = false;

	call->request = NULL;
	client->stats.bytes_received += reply->len;
	call->usage.bytes_received += reply->len;
	free(call->reply);
	call->reply = reply->body;
	call->reply_len = reply->len;

	if (reply->error.class != AWS_ERROR_NONE)
	{
		call->error = reply->error;
		call->error.may_be_done = reply->sent;
	}
	else
	{
		correct_clock(call, reply);
		corrected = client->stats.clock_skew_ms != call->skew_ms;
		if (reply->status == 200)
		{
			if (parse_reply(call))
			{
				memset(&call->error, 0, sizeof(call->error));
				aws_retry_budget_succeeded(&client->budget, call->retry_taken);
				finish(call);
				return;
			}
			aws_error_set(&call->error, AWS_ERROR_TRANSIENT, "InvalidReply",
						  "the reply is not what SQS sends (%zu bytes)", reply->len);
			call->error.http_status = 200;
			call->error.may_be_done = true;
			free(call->messages);
			call->messages = NULL;
			free(call->entries);
			call->entries = NULL;
		}
		else
		{
			static char empty[1];

			sqs_parse_error(call->reply != NULL ? call->reply : empty,
							call->reply_len, reply->status,
							reply->query_error, reply->error_type, &call->error);
			call->error.may_be_done = reply->status < 300 || reply->status >= 500;
		}
		strlcpy(call->error.request_id, reply->request_id, sizeof(call->error.request_id));
	}

	/* a later failure does not undo what this attempt may have done */
	call->may_be_done = call->may_be_done || call->error.may_be_done;

	/* a refused signature may be due to our clock; refused keys may be old */
	if (call->error.class == AWS_ERROR_CREDENTIALS)
		corrected = corrected ||
			(reply->error.class == AWS_ERROR_NONE && aws_keys_were_refused(call->error.code) &&
			 aws_credentials_reject(client->credentials, call->generation));
	else if (call->error.class != AWS_ERROR_CLOCK)
		corrected = false;

	if (!repeat_receive(call, reply) && !schedule_retry(call, corrected))
		finish(call);
}

/*
 * Go on with the calls that are due.  A completion may change the list in any
 * way, so the search starts again after each call.  Calls that are started
 * meanwhile wait for the next turn, so that this ends.
 */
void
sqs_client_go_on(SqsClient *client)
{
	int64		now = now_ms();

	client->turn++;
	for (;;)
	{
		SqsCall    *call = client->waiting;

		while (call != NULL && (call->go_on_at > now || call->turn == client->turn))
			call = call->next;
		if (call == NULL)
			break;
		if (call->finished)
			finish(call);
		else if (now >= call->deadline)
		{
			if (call->lacks_keys)
			{
				aws_error_set(&call->error, AWS_ERROR_TIMEOUT, "NoCredentials",
							  "there were no keys from %s within %ld ms",
							  aws_credentials_source(client->credentials), call->deadline_ms);
				call->error.no_keys = true;
			}
			call->error.class = AWS_ERROR_TIMEOUT;
			finish(call);
		}
		else if (!send_attempt(call))
			finish(call);
	}
}

void
sqs_client_poll(SqsClient *client)
{
	http_pool_poll(client->pool);
	sqs_client_go_on(client);
}

/* ---- starting calls ---- */

/* Raises ERROR if out of memory. */
static SqsCall *
new_call(SqsClient *client, SqsAction action, long deadline_ms, int max_attempts,
		 SqsCallDone done, void *arg)
{
	SqsCall    *call = calloc(1, sizeof(SqsCall));

	if (call == NULL)
	{
#ifdef FRONTEND
		exit(1);
#else
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
#endif
	}
	call->client = client;
	call->action = action;
	call->turn = client->turn;
	call->started = now_ms();
	call->deadline_ms = deadline_ms;
	call->deadline = call->started + deadline_ms;
	call->max_attempts = max_attempts;
	call->done = done;
	call->arg = arg;
	json_writer_init(&call->body);
	link_call(call);
	return call;
}

/* The body has been encoded: make the first attempt. */
static SqsCall *
start_call(SqsCall *call)
{
	if (call->body.failed)
	{
		aws_error_set(&call->error, AWS_ERROR_RESOURCES, "NoResources", "out of memory");
		finish_later(call);
	}
	else if (!send_attempt(call))
		finish_later(call);
	return call;
}

SqsCall *
sqs_start_get_queue_url(SqsClient *client, const char *queue,
						long deadline_ms, int max_attempts,
						SqsCallDone done, void *arg)
{
	SqsCall    *call = new_call(client, SQS_GET_QUEUE_URL, deadline_ms, max_attempts, done, arg);
	SqsQueueArn arn;
	const char *why;

	if (!sqs_queue_arn_parse(queue, &arn, &why))
		sqs_encode_get_queue_url(&call->body, queue, NULL);
	else if (strcmp(arn.region, client->region) == 0)
		sqs_encode_get_queue_url(&call->body, arn.name, arn.account);
	else
	{
		aws_error_set(&call->error, AWS_ERROR_CONFIGURATION, "WrongRegion",
					  "the queue's ARN is of region %s, but its server's is %s",
					  arn.region, client->region);
		finish_later(call);
		return call;
	}
	return start_call(call);
}

SqsCall *
sqs_start_get_queue_attributes(SqsClient *client, const char *queue_url,
							   long deadline_ms, int max_attempts,
							   SqsCallDone done, void *arg)
{
	SqsCall    *call = new_call(client, SQS_GET_QUEUE_ATTRIBUTES, deadline_ms, max_attempts, done, arg);

	sqs_encode_get_queue_attributes(&call->body, queue_url);
	return start_call(call);
}

SqsCall *
sqs_start_receive(SqsClient *client, const char *queue_url, int max_messages,
				  int wait_seconds, int visibility_timeout, long deadline_ms,
				  SqsCallDone done, void *arg)
{
	SqsCall    *call = new_call(client, SQS_RECEIVE_MESSAGE, deadline_ms, 1, done, arg);
	size_t		len = strlen(queue_url);
	char		attempt_id[33];

	call->may_repeat = len > 5 && strcmp(queue_url + len - 5, ".fifo") == 0;
	snprintf(attempt_id, sizeof(attempt_id), "%016llx%016llx",
			 (unsigned long long) pg_prng_uint64(&pg_global_prng_state),
			 (unsigned long long) pg_prng_uint64(&pg_global_prng_state));
	sqs_encode_receive(&call->body, queue_url, max_messages, wait_seconds, visibility_timeout,
					   call->may_repeat ? attempt_id : NULL);
	return start_call(call);
}

/* DeleteMessageBatch if timeouts is NULL, else ChangeMessageVisibilityBatch. */
static SqsCall *
start_handles(SqsClient *client, SqsAction action, const char *queue_url,
			  int nentries, const SqsSlice *receipt_handles, const int *timeouts,
			  long deadline_ms, int max_attempts, SqsCallDone done, void *arg)
{
	SqsCall    *call = new_call(client, action, deadline_ms, max_attempts, done, arg);

	Assert(nentries >= 1 && nentries <= SQS_MAX_BATCH);
	call->nentries = nentries;
	sqs_encode_handles(&call->body, queue_url, nentries, receipt_handles, timeouts);
	return start_call(call);
}

SqsCall *
sqs_start_delete_batch(SqsClient *client, const char *queue_url, int nentries,
					   const SqsSlice *receipt_handles, long deadline_ms,
					   int max_attempts, SqsCallDone done, void *arg)
{
	return start_handles(client, SQS_DELETE_MESSAGE_BATCH, queue_url, nentries,
						 receipt_handles, NULL, deadline_ms, max_attempts, done, arg);
}

SqsCall *
sqs_start_change_visibility_batch(SqsClient *client, const char *queue_url,
								  int nentries, const SqsSlice *receipt_handles,
								  const int *visibility_timeouts,
								  long deadline_ms, int max_attempts,
								  SqsCallDone done, void *arg)
{
	return start_handles(client, SQS_CHANGE_MESSAGE_VISIBILITY_BATCH, queue_url,
						 nentries, receipt_handles, visibility_timeouts,
						 deadline_ms, max_attempts, done, arg);
}

/* The digests are made now, because the messages are the caller's. */
static SqsCall *
start_send(SqsClient *client, SqsAction action, const char *queue_url,
		   int nentries, const SqsOutgoing *const *messages,
		   long deadline_ms, int max_attempts, SqsCallDone done, void *arg)
{
	SqsCall    *call = new_call(client, action, deadline_ms, max_attempts, done, arg);

	Assert(nentries >= 1 && nentries <= SQS_MAX_BATCH);
	call->nentries = nentries;
	call->digests = malloc(sizeof(SqsDigests) * nentries);
	if (call->digests == NULL)
		call->body.failed = true;
	else
	{
		for (int i = 0; i < nentries; i++)
			sqs_outgoing_digests(messages[i], &call->digests[i]);
		if (action == SQS_SEND_MESSAGE)
			sqs_encode_send(&call->body, queue_url, messages[0]);
		else
			sqs_encode_send_batch(&call->body, queue_url, nentries, messages);
	}
	return start_call(call);
}

SqsCall *
sqs_start_send(SqsClient *client, const char *queue_url, const SqsOutgoing *message,
			   long deadline_ms, int max_attempts, SqsCallDone done, void *arg)
{
	return start_send(client, SQS_SEND_MESSAGE, queue_url, 1, &message,
					  deadline_ms, max_attempts, done, arg);
}

SqsCall *
sqs_start_send_batch(SqsClient *client, const char *queue_url, int nentries,
					 const SqsOutgoing *const *messages, long deadline_ms,
					 int max_attempts, SqsCallDone done, void *arg)
{
	return start_send(client, SQS_SEND_MESSAGE_BATCH, queue_url, nentries, messages,
					  deadline_ms, max_attempts, done, arg);
}

/* ---- results ---- */

SqsAction
sqs_call_action(const SqsCall *call)
{
	return call->action;
}

const AwsError *
sqs_call_error(const SqsCall *call)
{
	return call->error.class == AWS_ERROR_NONE ? NULL : &call->error;
}

const char *
sqs_call_queue_url(const SqsCall *call)
{
	return call->queue_url.data;
}

const SqsQueueAttributes *
sqs_call_queue_attributes(const SqsCall *call)
{
	return &call->attributes;
}

int
sqs_call_nmessages(const SqsCall *call)
{
	return call->nmessages;
}

const SqsReceivedMessage *
sqs_call_message(const SqsCall *call, int i)
{
	Assert(i >= 0 && i < call->nmessages);
	return &call->messages[i];
}

int
sqs_call_nentries(const SqsCall *call)
{
	return call->nentries;
}

const SqsBatchEntry *
sqs_call_entry(const SqsCall *call, int i)
{
	Assert(i >= 0 && i < call->nentries);
	return &call->entries[i];
}

long
sqs_call_elapsed_ms(const SqsCall *call)
{
	return (long) (call->ended - call->started);
}

void
sqs_call_take_usage(SqsCall *call, SqsCallUsage *usage)
{
	*usage = call->usage;
	memset(&call->usage, 0, sizeof(call->usage));
}

size_t
sqs_call_memory(const SqsCall *call)
{
	return sizeof(SqsCall) + call->reply_len +
		(call->messages != NULL ? sizeof(SqsReceivedMessage) * SQS_MAX_BATCH : 0);
}
