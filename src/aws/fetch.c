/*-------------------------------------------------------------------------
 *
 * fetch.c
 *	  Fetching keys as a plan says: steps, tries, deadlines.
 *
 * The steps are: the region, if the plan wants to know it from instance
 * metadata; the plan's source; and a call to STS for each role, signed with the
 * keys of the step before.  At any time there is one request under way, or one
 * program running, or a time to go on at.
 *
 * A reply is only kept by its done function, and looked at in
 * aws_fetch_go_on(), so that nothing but that can raise an error.
 *
 * AWS's clock: a Date header was written between the sending of the request and
 * the arrival of the reply.  Only if that cannot be by our clock, there is a
 * difference, and the least that explains it is taken.  It is believed however
 * it came: by the same way came the keys.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include <stdarg.h>
#include <sys/time.h>
#include <time.h>

#include "aws/fetch.h"
#include "aws/fetch_source.h"
#include "aws/secret.h"

#define PROCESS_POLL_MS		20	/* a program's output is looked at so often */
#define SKEW_MAX_MS			((int64) 10 * 365 * 86400 * 1000)	/* beyond it the Date is
																 * nonsense */

static int64
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int64
wall_ms(void)
{
	struct timeval tv;

	gettimeofday(&tv, NULL);
	return (int64) tv.tv_sec * 1000 + tv.tv_usec / 1000;
}

/* ---- what sources use ---- */

void
fetch_add_header(FetchRequest *ask, const char *name, const char *value)
{
	size_t		size = strlen(name) + (value != NULL ? strlen(value) : 0) + 3;
	char	   *line = malloc(size);

	Assert(ask->nheaders < FETCH_MAX_HEADERS);
	if (line == NULL)
	{
		ask->no_memory = true;
		return;
	}
	if (value != NULL)
		snprintf(line, size, "%s: %s", name, value);
	else
		snprintf(line, size, "%s:", name);
	ask->headers[ask->nheaders++] = line;
}

void
fetch_set_where(Fetch *fetch, const char *fmt, ...)
{
	va_list		args;

	va_start(args, fmt);
	vsnprintf(fetch->where, sizeof(fetch->where), fmt, args);
	va_end(args);
}

/* A container's token behind a scheme such as "Bearer" may be quoted without it. */
static void
redact_token(char *text, const char *token)
{
	const char *blank = strrchr(token, ' ');

	aws_text_redact(text, token);
	if (blank != NULL)
		aws_text_redact(text, blank + 1);
}

/*
 * Texts from the network may quote the request.  The tokens of web identity and
 * of the container go out, the other secrets sign or came in.  A key id is the
 * secret key if somebody has swapped them.  The end of a container's URL is as
 * good as a password in ECS.
 */
static void
redact(const Fetch *fetch, char *text)
{
	aws_text_redact(text, fetch->keys.access_key_id);
	aws_text_redact(text, fetch->identity->access_key_id);
	aws_text_redact(text, fetch->keys.secret_access_key);
	aws_text_redact(text, fetch->keys.session_token);
	aws_text_redact(text, fetch->identity->secret_access_key);
	aws_text_redact(text, fetch->identity->session_token);
	if (fetch->identity->container_token != NULL)
		redact_token(text, fetch->identity->container_token);
	if (fetch->identity->container_url != NULL)
		aws_text_redact(text, strrchr(fetch->identity->container_url, '/'));
	aws_text_redact(text, fetch->metadata.token);
	aws_text_redact(text, fetch->sts.token);
	for (int i = 0; i < fetch->ask.nheaders; i++)
	{
		if (fetch->source == &fetch_container &&
			pg_strncasecmp(fetch->ask.headers[i], "Authorization: ", 15) == 0)
			redact_token(text, fetch->ask.headers[i] + 15);
	}
}

void
fetch_error(Fetch *fetch, AwsErrorClass class, int http_status,
			const char *code, const char *fmt, ...)
{
	char		text[sizeof(fetch->error.message)];
	char		bare_code[sizeof(fetch->error.code)];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	strlcpy(bare_code, code, sizeof(bare_code));
	redact(fetch, text);
	redact(fetch, bare_code);
	aws_error_set(&fetch->error, class, bare_code, "%s: %s", fetch->where, text);
	fetch->error.http_status = http_status;
	strlcpy(fetch->error.request_id, fetch->reply.request_id, sizeof(fetch->error.request_id));
	redact(fetch, fetch->error.request_id);
}

bool
fetch_no_memory(Fetch *fetch)
{
	fetch_error(fetch, AWS_ERROR_RESOURCES, 0, "NoResources", "out of memory");
	return false;
}

FetchVerdict
fetch_no_reply(Fetch *fetch, const HttpReply *reply, const char *hint)
{
	const AwsError *error = &reply->error;
	bool		silent = error->class == AWS_ERROR_TIMEOUT && reply->sent &&
		reply->date == 0 && reply->len == 0;

	fetch_error(fetch, error->class, 0, error->code, "%s%s%s", error->message,
				silent && hint != NULL ? "; " : "", silent && hint != NULL ? hint : "");
	/* what is too large now will be so again */
	return (error->class == AWS_ERROR_TRANSIENT || error->class == AWS_ERROR_TIMEOUT) &&
		!reply->too_large ? FETCH_RETRY : FETCH_FAILED;
}

/* The class of a refusal; see fetch.h for which there are. */
static AwsErrorClass
refusal_class(int http_status, const char *code, const char *message)
{
	/* some refuse with 200, which says no more than 400 would */
	AwsErrorClass class = aws_error_classify(code, NULL, AWS_FAULT_UNKNOWN,
											 http_status == 200 ? 400 : http_status, message);

	/* STS could not reach the issuer of the token */
	if (code != NULL && strcmp(code, "IDPCommunicationError") == 0)
		return AWS_ERROR_TRANSIENT;
	switch (class)
	{
		case AWS_ERROR_TRANSIENT:
		case AWS_ERROR_THROTTLED:
		case AWS_ERROR_CLOCK:
			return class;
		default:
			return AWS_ERROR_CREDENTIALS;
	}
}

FetchVerdict
fetch_refused(Fetch *fetch, int http_status, const char *code, const char *message)
{
	AwsErrorClass class = refusal_class(http_status, code, message);
	char		status_code[16];
	char		without[64];

	snprintf(status_code, sizeof(status_code), "Http%d", http_status);
	snprintf(without, sizeof(without), "HTTP status %d without a message", http_status);
	fetch_error(fetch, class, http_status, code != NULL ? code : status_code, "%s",
				message != NULL ? message : without);
	return class == AWS_ERROR_TRANSIENT || class == AWS_ERROR_THROTTLED ?
		FETCH_RETRY : FETCH_FAILED;
}

FetchVerdict
fetch_garbage(Fetch *fetch, const char *why)
{
	if (why == NULL)
	{
		(void) fetch_no_memory(fetch);
		return FETCH_FAILED;
	}
	fetch_error(fetch, AWS_ERROR_TRANSIENT, fetch->reply.status, "InvalidReply",
				"the reply is not what is sent there: %s", why);
	return FETCH_RETRY;
}

/*
 * The keys so far have served their purpose.  What is known about clock and
 * region stays.
 */
static void
take_over(Fetch *fetch, AwsFetchedKeys *keys)
{
	keys->region = fetch->keys.region;
	fetch->keys.region = NULL;
	aws_fetched_keys_wipe(&fetch->keys);
	fetch->keys = *keys;
	memset(keys, 0, sizeof(*keys));
}

/*
 * Set the error if the keys have expired, by AWS's clock as far as it is known.
 * An expired key of instance metadata is still good; see imds.c.
 */
static bool
have_expired(Fetch *fetch, const AwsFetchedKeys *keys, AwsErrorClass class)
{
	time_t		expired = (time_t) (keys->expires / 1000);
	struct tm	tm;
	char		date[32];

	if (keys->expires == 0 || keys->expires > wall_ms() + fetch->skew_ms)
		return false;
	gmtime_r(&expired, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &tm);
	fetch_error(fetch, class, fetch->reply.status, "ExpiredCredentials",
				"it gives keys that expired at %s; is the clock of this machine right?", date);
	return true;
}

FetchVerdict
fetch_take_keys(Fetch *fetch, const AwsKeyReply *reply, AwsKeyParts parts)
{
	AwsFetchedKeys keys;
	const char *why;

	if (!aws_key_reply_keys(reply, parts, &keys, &why))
		return fetch_garbage(fetch, why);
	if (fetch->source != &fetch_metadata &&
		have_expired(fetch, &keys, AWS_ERROR_TRANSIENT))
	{
		aws_fetched_keys_wipe(&keys);
		return FETCH_FAILED;
	}
	take_over(fetch, &keys);
	return FETCH_DONE;
}

/* ---- beginning and end ---- */

static void
wipe_request(FetchRequest *ask)
{
	for (int i = 0; i < ask->nheaders; i++)
		aws_secret_free(ask->headers[i]);
	if (ask->body != NULL)
		explicit_bzero(ask->body, ask->body_len);
	free(ask->body);
	free(ask->url);
	memset(ask, 0, sizeof(*ask));
}

static void
wipe_reply(Fetch *fetch)
{
	if (fetch->reply.body != NULL)
		explicit_bzero(fetch->reply.body, fetch->reply.len);
	free(fetch->reply.body);
	memset(&fetch->reply, 0, sizeof(fetch->reply));
	fetch->replied = false;
}

/* Everything but the result goes. */
static void
finish(Fetch *fetch)
{
	if (fetch->request != NULL)
		http_cancel(fetch->request);
	fetch->request = NULL;
	aws_process_free(fetch->process);
	fetch->process = NULL;
	wipe_reply(fetch);
	wipe_request(&fetch->ask);
	sigv4_key_wipe(&fetch->sts.key);
	aws_secret_free(fetch->sts.token);
	fetch->sts.token = NULL;
	aws_secret_free(fetch->metadata.token);
	fetch->metadata.token = NULL;
	fetch->done = true;
}

static Fetch *
new_fetch(HttpPool *pool, const AwsIdentity *identity, long deadline_ms, AwsError *error)
{
	Fetch	   *fetch = calloc(1, sizeof(Fetch));

	if (fetch != NULL)
		fetch->identity = aws_identity_copy(identity);
	if (fetch == NULL || fetch->identity == NULL)
	{
		free(fetch);
		aws_error_set(error, AWS_ERROR_RESOURCES, "NoResources", "out of memory");
		return NULL;
	}
	fetch->pool = pool;
	fetch->go_on_at = now_ms();
	fetch->deadline = fetch->go_on_at + Min(Max(deadline_ms, 1), AWS_FETCH_MAX_MS);
	return fetch;
}

AwsFetch *
aws_fetch_start(HttpPool *pool, const AwsIdentity *identity, long deadline_ms,
				AwsError *error)
{
	Fetch	   *fetch = new_fetch(pool, identity, deadline_ms, error);

	if (fetch != NULL)
		fetch->step = identity->region == NULL && identity->metadata_url != NULL ?
			FETCH_STEP_REGION : FETCH_STEP_BASE;
	return fetch;
}

static bool
copy(const char *text, char **copied)
{
	return text == NULL || text[0] == '\0' || (*copied = strdup(text)) != NULL;
}

AwsFetch *
aws_whoami_start(HttpPool *pool, const AwsCredentials *keys, const AwsIdentity *where,
				 long deadline_ms, AwsError *error)
{
	Fetch	   *fetch = new_fetch(pool, where, deadline_ms, error);

	if (fetch == NULL)
		return NULL;
	fetch->step = FETCH_STEP_WHOAMI;
	if (!copy(keys->access_key_id, &fetch->keys.access_key_id) ||
		!copy(keys->secret_access_key, &fetch->keys.secret_access_key) ||
		!copy(keys->session_token, &fetch->keys.session_token))
	{
		aws_fetch_cancel(fetch);
		aws_error_set(error, AWS_ERROR_RESOURCES, "NoResources", "out of memory");
		return NULL;
	}
	return fetch;
}

void
aws_fetch_cancel(AwsFetch *fetch)
{
	if (fetch == NULL)
		return;
	finish(fetch);
	aws_fetched_keys_wipe(&fetch->keys);
	aws_identity_free(fetch->identity);
	explicit_bzero(fetch, sizeof(*fetch));
	free(fetch);
}

bool
aws_fetch_done(const AwsFetch *fetch)
{
	return fetch->done;
}

long
aws_fetch_next(const AwsFetch *fetch)
{
	if (fetch->done || fetch->replied)
		return 0;
	if (fetch->request != NULL)
		return -1;
	return (long) Max(fetch->go_on_at - now_ms(), 0);
}

/* The account of arn:aws:sts::123456789012:assumed-role/...; malloc'ed. */
static char *
account_of_arn(const char *arn)
{
	for (int i = 0; i < 4 && arn != NULL; i++)
	{
		arn = strchr(arn, ':');
		if (arn != NULL)
			arn++;
	}
	return arn != NULL && strchr(arn, ':') != NULL && arn[0] != ':' ?
		strndup(arn, strcspn(arn, ":")) : NULL;
}

bool
aws_fetch_result(AwsFetch *fetch, AwsFetchedKeys *keys, AwsError *error)
{
	Assert(fetch->done);
	memset(keys, 0, sizeof(*keys));
	if (fetch->error.class != AWS_ERROR_NONE)
	{
		*error = fetch->error;
		return false;
	}
	*keys = fetch->keys;
	memset(&fetch->keys, 0, sizeof(fetch->keys));
	keys->skew_ms = fetch->skew_ms;
	if (keys->account_id == NULL)
		keys->account_id = account_of_arn(keys->arn);	/* only for people */
	return true;
}

bool
aws_whoami_result(AwsFetch *fetch, AwsCaller *caller, AwsError *error)
{
	Assert(fetch->done);
	*caller = fetch->sts.caller;
	if (fetch->error.class != AWS_ERROR_NONE)
		*error = fetch->error;
	return fetch->error.class == AWS_ERROR_NONE;
}

/* ---- the way ---- */

/* What is asked for now by HTTP; NULL: nothing, or a program. */
static const FetchSource *
source_of_step(const Fetch *fetch)
{
	if (fetch->step == FETCH_STEP_REGION)
		return &fetch_metadata;
	if (fetch->step != FETCH_STEP_BASE)
		return &fetch_sts;
	switch (fetch->identity->kind)
	{
		case AWS_SOURCE_WEB_IDENTITY:
			return &fetch_sts;
		case AWS_SOURCE_CONTAINER:
			return &fetch_container;
		case AWS_SOURCE_INSTANCE_METADATA:
			return &fetch_metadata;
		default:
			return NULL;
	}
}

static void
next_step(Fetch *fetch)
{
	switch (fetch->step)
	{
		case FETCH_STEP_REGION:
			fetch->step = FETCH_STEP_BASE;
			break;
		case FETCH_STEP_BASE:
			fetch->step = FETCH_STEP_ROLES;
			fetch->role = 0;
			break;
		case FETCH_STEP_ROLES:
			fetch->role++;
			break;
		default:
			fetch->step = FETCH_STEP_END;
			break;
	}
	if (fetch->step == FETCH_STEP_ROLES && fetch->role >= fetch->identity->nroles)
		fetch->step = FETCH_STEP_END;
	fetch->tries = 0;
	fetch->sts.clock_corrected = false;
	fetch->go_on_at = now_ms();
	if (fetch->step == FETCH_STEP_END)
		finish(fetch);
}

/* The keys that the plan itself holds. */
static bool
take_plan_keys(Fetch *fetch)
{
	const AwsIdentity *identity = fetch->identity;
	AwsFetchedKeys keys;

	memset(&keys, 0, sizeof(keys));
	if (!copy(identity->access_key_id, &keys.access_key_id) ||
		!copy(identity->secret_access_key, &keys.secret_access_key) ||
		!copy(identity->session_token, &keys.session_token))
	{
		aws_fetched_keys_wipe(&keys);
		return fetch_no_memory(fetch);
	}
	keys.expires = identity->expires * 1000;
	take_over(fetch, &keys);
	return true;
}

/* Start the program, or look after it; take its keys when it has ended. */
static void
go_on_process(Fetch *fetch)
{
	AwsKeyReply reply;
	AwsFetchedKeys keys;
	AwsError	error;
	const char *why;

	fetch_set_where(fetch, "%s", fetch->identity->source);
	if (fetch->process == NULL)
		fetch->process = aws_process_start(fetch->identity->command, &error);
	if (fetch->process == NULL)
	{
		fetch_error(fetch, error.class, 0, error.code, "%s", error.message);
		finish(fetch);
		return;
	}
	if (!aws_process_done(fetch->process))
	{
		if (now_ms() < fetch->deadline)
		{
			fetch->go_on_at = now_ms() + PROCESS_POLL_MS;
			return;
		}
		fetch_error(fetch, AWS_ERROR_TIMEOUT, 0, "Timeout",
					"the program took too long and was stopped");
		finish(fetch);
		return;
	}

	if (!aws_process_result(fetch->process, &reply, &error))
		fetch_error(fetch, error.class, 0, error.code, "%s", error.message);
	else if (aws_key_reply_keys(&reply, AWS_KEYS_LASTING, &keys, &why))
	{
		if (have_expired(fetch, &keys, AWS_ERROR_CREDENTIALS))
			aws_fetched_keys_wipe(&keys);
		else
			take_over(fetch, &keys);
	}
	else if (why == NULL)
		(void) fetch_no_memory(fetch);
	else
		fetch_error(fetch, AWS_ERROR_CREDENTIALS, 0, "InvalidReply",
					"what the program prints is of no use: %s", why);
	aws_process_free(fetch->process);
	fetch->process = NULL;
	if (fetch->error.class != AWS_ERROR_NONE)
		finish(fetch);
	else
		next_step(fetch);
}

/* The HttpDone of every request. */
static void
reply_done(HttpReply *reply, void *arg)
{
	Fetch	   *fetch = arg;

	fetch->request = NULL;
	fetch->reply = *reply;
	fetch->replied = true;
	fetch->replied_at = wall_ms();
}

/* False if there is no time left; keeps the error of an earlier try. */
static bool
in_time(Fetch *fetch)
{
	if (now_ms() < fetch->deadline)
		return true;
	if (fetch->error.class == AWS_ERROR_NONE)
		fetch_error(fetch, AWS_ERROR_TIMEOUT, 0, "Timeout", "the time for fetching keys is over");
	finish(fetch);
	return false;
}

/* Let the source say what to ask for, and send that. */
static void
send_request(Fetch *fetch)
{
	const FetchSource *source = fetch->source;
	FetchRequest *ask = &fetch->ask;
	HttpTarget	target;

	wipe_request(ask);
	wipe_reply(fetch);
	if (!source->ask(fetch))
	{
		finish(fetch);
		return;
	}
	if (!in_time(fetch))
		return;
	memset(&target, 0, sizeof(target));
	target.url = ask->url;
	target.ca_file = ask->ca_file;
	target.direct = ask->direct;
	target.connect_timeout_ms = source->connect_ms;
	target.secret = true;
	fetch->tries++;
	fetch->sent_at = wall_ms();
	if (ask->url != NULL && !ask->no_memory)
		fetch->request = http_request(fetch->pool, ask->method, &target,
									  (const char *const *) ask->headers, ask->nheaders,
									  ask->body != NULL ? ask->body : "", ask->body_len,
									  (long) Min(source->total_ms, fetch->deadline - now_ms()),
									  FETCH_MAX_REPLY, reply_done, fetch);
	if (fetch->request == NULL)
	{
		(void) fetch_no_memory(fetch);
		finish(fetch);
	}
}

/* See the head of this file. */
static void
compare_clocks(Fetch *fetch)
{
	int64		earliest = fetch->reply.date * 1000;
	int64		latest = earliest + 999;
	int64		skew = 0;

	if (fetch->reply.date == 0)
		return;
	if (earliest > fetch->replied_at)
		skew = earliest - fetch->replied_at;
	else if (latest < fetch->sent_at)
		skew = latest - fetch->sent_at;
	if (llabs(skew) <= SKEW_MAX_MS)
		fetch->skew_ms = skew;
}

/* Act on a reply. */
static void
take_reply(Fetch *fetch)
{
	FetchVerdict verdict;

	compare_clocks(fetch);
	memset(&fetch->error, 0, sizeof(fetch->error));
	verdict = fetch->source->take(fetch, &fetch->reply);
	wipe_reply(fetch);
	wipe_request(&fetch->ask);
	switch (verdict)
	{
		case FETCH_DONE:
			next_step(fetch);
			break;
		case FETCH_NEXT:
			fetch->tries = 0;
			fetch->go_on_at = now_ms();
			break;
		case FETCH_RETRY:
			fetch->go_on_at = now_ms() + fetch->source->pause_ms * fetch->tries;
			if (fetch->tries >= fetch->source->tries || fetch->go_on_at >= fetch->deadline)
				finish(fetch);
			break;
		case FETCH_FAILED:
			finish(fetch);
			break;
	}
}

void
aws_fetch_go_on(AwsFetch *fetch)
{
	while (!fetch->done && fetch->request == NULL)
	{
		if (fetch->replied)
			take_reply(fetch);
		else if (now_ms() < fetch->go_on_at)
			return;
		else if (fetch->process != NULL)
			go_on_process(fetch);
		else if (!in_time(fetch))
			return;
		else if ((fetch->source = source_of_step(fetch)) != NULL)
			send_request(fetch);
		else if (fetch->identity->kind == AWS_SOURCE_PROCESS)
			go_on_process(fetch);
		else if (take_plan_keys(fetch))
			next_step(fetch);
		else
			finish(fetch);
	}
}
