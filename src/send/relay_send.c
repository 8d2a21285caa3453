/*-------------------------------------------------------------------------
 *
 * relay_send.c
 *	  The requests of the relay: sending the items in hand to SQS.
 *
 * Queues of one server with the same keys share a client (connect.c).  No
 * transaction is open while the relay waits for a reply.  Replies arrive
 * through send_done(), called from sqs_shared_clients_poll().
 *
 * Sharing requests.  The number of concurrent requests is limited for the
 * process, and a queue gets no more of them than it leaves free; while no
 * other queue has anything to send, it leaves a sixteenth.  Queues that are
 * failing get half of the requests together, so that requests that wait for
 * a timeout cannot take all of them.  The first queue that could not get a
 * request in a turn comes first in the next one.
 *
 * Pace.  How many requests a queue needs follows from how long they take, and
 * from how many this process and SQS can deal with in that time.  So a queue
 * that uses at least half of what it may have gets one more with each success,
 * which doubles their number in a round trip, until one of these is true:
 *
 *	 - This process has no time to spare.  Further requests would not be
 *	   answered any sooner, and other queues would have to wait for longer
 *	   turns.
 *	 - They take half as long again as they did when there were fewer.  Then
 *	   it is the other side that they wait for, and each further one would
 *	   only cost a connection, which over TLS is as much work as some forty
 *	   messages.  Means of 32 are compared, because single ones vary too much,
 *	   and up to 32 requests the question is not worth asking.  It may be the
 *	   network that has become slower: after ten seconds the queue begins
 *	   again with few requests, and sees how long these take.
 *
 * Identification.  A message carries its row's token: as attribute
 * sqsbridge-id if there is room for one more attribute, and on FIFO queues
 * as deduplication id unless it has one.  So a receiver can recognize a
 * message that is sent twice, because the server crashed between SQS's
 * confirmation and the deletion of the row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "aws/digest.h"
#include "base/internal_tables.h"
#include "base/outbox_health.h"
#include "base/queue_stats.h"
#include "base/worker.h"
#include "config/fdw.h"
#include "config/keys.h"
#include "send/outbox.h"
#include "send/outgoing.h"
#include "send/relay_room.h"
#include "send/relay_send.h"
#include "send/relay_trouble.h"

/* Concurrent requests of a queue; the number grows by one with each success. */
#define FIRST_REQUESTS		4
#define ROUND_REPLIES		32
#define BEGIN_AGAIN_MS		10000

/* So much longer they may take, and by so much: a turn of this process. */
#define SLOWER_TIMES		1.5
#define SLOWER_MS			3.0

/* A queue that has all requests to itself may have so many for each free one. */
#define ALONE_SHARE			15

/* Time limits of the calls, and how long a batch that is not full may wait. */
#define SEND_DEADLINE_MS	20000
#define LINGER_MS			5
#define URL_DEADLINE_MS		15000

/* A queue that may not send is reported this often. */
#define CANNOT_SEND_MS		10000

/* A request under way. */
typedef struct RelayRequest
{
	dlist_node	node;			/* in RelayQueue.requests */
	RelayQueue *queue;
	SqsCall    *call;
	bool		probe;			/* the queue was failing when it started */
	SendBatch	batch;
} RelayRequest;

/* The results of a request's entries. */
typedef struct SendReport
{
	Relay	   *relay;
	int			done;			/* entries confirmed */
	const SqsBatchEntry *failed;	/* the retried entry with most attempts */
	const SendItem *failed_item;
} SendReport;

/* ---- configuration ---- */

/*
 * Release the client of a queue.  No request with messages may be under way;
 * a GetQueueUrl call is abandoned.
 */
void
sqs_relay_disconnect(RelayQueue *queue)
{
	Assert(dlist_is_empty(&queue->requests));
	if (queue->url_call != NULL)
	{
		sqs_count_call(queue->url_call, queue->stats);
		sqs_call_abandon(queue->url_call);
		queue->relay->nrequests--;
		queue->relay->nprobes -= queue->url_probe;
	}
	queue->url_call = NULL;
	if (queue->url != NULL)
		pfree(queue->url);
	queue->url = NULL;
	if (queue->shared != NULL)
		sqs_shared_client_release(queue->shared);
	queue->shared = NULL;
}

/*
 * Abandon all requests of the queue and release its client.  The queue
 * cannot be used after that, except for being freed.
 */
void
sqs_relay_abandon_requests(RelayQueue *queue)
{
	dlist_iter	iter;

	if (queue->stats != NULL)
		pg_atomic_write_u32(&queue->stats->outbox_in_flight, 0);
	dlist_foreach(iter, &queue->requests)
		sqs_call_abandon(dlist_container(RelayRequest, node, iter.cur)->call);
	if (queue->url_call != NULL)
		sqs_call_abandon(queue->url_call);
	if (queue->shared != NULL)
		sqs_shared_client_release(queue->shared);
}

/*
 * The queue is not registered any more: its rows are to be recorded as
 * failed.  Requests under way may still be confirmed; call this again when
 * they have ended.
 */
void
sqs_relay_queue_is_gone(Relay *relay, RelayQueue *queue)
{
	SendItem   *item;

	queue->gone = true;
	queue->stats = NULL;
	if (queue->sender != NULL && queue->sender->requests > 0)
		return;
	if (queue->sender != NULL)
	{
		sqs_relay_disconnect(queue);
		while ((item = sqs_sender_remove(queue->sender)) != NULL)
			sqs_relay_fail_not_registered((RelayItem *) item);
		sqs_sender_destroy(queue->sender);
		queue->sender = NULL;
	}
	queue->config = NULL;
	if (queue->config_context != NULL)
		MemoryContextDelete(queue->config_context);
	queue->config_context = NULL;
}

/* Copy what the relay needs of a configuration into this context. */
static SqsQueueConfig *
copy_config(MemoryContext context, const SqsQueueConfig *config)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	SqsQueueConfig *copy = palloc0(sizeof(SqsQueueConfig));

	copy->queue_id = config->queue_id;
	copy->name = pstrdup(config->name);
	copy->owner = config->owner;
	copy->queue_name = pstrdup(config->queue_name);
	copy->server = pstrdup(config->server);
	copy->server_oid = config->server_oid;
	copy->region = config->region != NULL ? pstrdup(config->region) : NULL;
	copy->endpoint = config->endpoint != NULL ? pstrdup(config->endpoint) : NULL;
	copy->allow_http = config->allow_http;
	copy->problem = config->problem != NULL ? pstrdup(config->problem) : NULL;
	copy->enabled = config->enabled;
	copy->fifo = config->fifo;
	copy->group_batch_size = config->group_batch_size;
	copy->is_copy = config->is_copy;
	copy->can_send = config->can_send && !config->is_copy;
	MemoryContextSwitchTo(old);
	return copy;
}

/*
 * Take over the configuration of a queue, which is copied.  Requests under
 * way are finished with the old one; see prepare_queue().  Failures so far
 * are forgotten if the change may have corrected their cause.  Needs a
 * transaction.
 */
void
sqs_relay_configure_queue(Relay *relay, RelayQueue *queue, const SqsQueueConfig *config)
{
	MemoryContext fresh = AllocSetContextCreate(relay->context, "sqsbridge outbox queue",
												ALLOCSET_SMALL_SIZES);
	SqsQueueConfig *copy = copy_config(fresh, config);
	SqsKeys		keys;
	uint64		fingerprint;

	(void) sqs_catalog_keys(config->owner, config->server_oid, &keys);
	fingerprint = sqs_fingerprint_text(sqs_connection_fingerprint(config, &keys), config->queue_name);
	sqs_wipe_keys(&keys);

	if (queue->sender == NULL)
	{
		queue->sender = sqs_sender_create(relay->context, copy->fifo, FIRST_REQUESTS, 0, LINGER_MS);
		queue->reconnect = false;

		/* what was to fail because the queue was gone is read anew */
		if (queue->gone)
			queue->put_down = true;
	}
	else
	{
		/* the batches have other places now */
		if (queue->config->is_copy && !copy->is_copy && queue->sender->requests == 0)
			sqs_relay_put_down(relay, queue);
		if (fingerprint != queue->fingerprint)
			queue->reconnect = true;
		if (fingerprint != queue->fingerprint || !queue->config->can_send ||
			(copy->enabled && !queue->config->enabled))
			sqs_sender_try_again(queue->sender);
	}
	queue->sender->group_batch = copy->group_batch_size;
	queue->fingerprint = fingerprint;
	if (queue->config_context != NULL)
		MemoryContextDelete(queue->config_context);
	queue->config_context = fresh;
	queue->config = copy;
	queue->gone = false;

	/*
	 * Look up the entry for statistics again, because an unused one may have
	 * been given to another queue.
	 */
	if (queue->stats != NULL && !sqs_relay_has_work(queue))
	{
		pg_atomic_write_u32(&queue->stats->outbox_in_flight, 0);
		sqs_outbox_health_set(queue->stats, SQS_OUTBOX_IDLE, 0);
	}
	queue->stats = NULL;
	queue->stats_at = 0;
	sqs_relay_find_stats(queue, 0);
}

/* ---- requests ---- */

/* May the queue start another request now? */
bool
sqs_relay_may_start(const Relay *relay, const RelayQueue *queue, int64 now)
{
	int			mine = queue->sender->requests + (queue->url_call != NULL);
	int			left = relay->max_requests - relay->nrequests;

	if (now < relay->shortage.not_before ||
		mine >= (relay->alone ? left * ALONE_SHARE : left))
		return false;
	return queue->sender->failures == 0 || relay->nprobes < Max(relay->max_requests / 2, 1);
}

/* A request of the queue has succeeded, after so long. */
static void
note_round_trip(RelayPace *pace, long ms)
{
	if (pace->unsettled > 0)
	{
		pace->unsettled--;
		return;
	}
	pace->sum_ms += ms;
	if (++pace->replies < ROUND_REPLIES)
		return;
	/* what takes no measurable time was quick, not unknown */
	pace->mean_ms = Max((double) pace->sum_ms / pace->replies, 0.1);
	pace->least_ms = pace->least_ms == 0 ? pace->mean_ms : Min(pace->least_ms, pace->mean_ms);
	pace->sum_ms = 0;
	pace->replies = 0;
}

/* A request has succeeded: give the queue another one, if that is of use. */
static void
grow(Relay *relay, RelayQueue *queue, int64 now)
{
	Sender	   *sender = queue->sender;
	RelayPace  *pace = &queue->pace;

	/* if not even half of them are needed, more are not */
	if (!relay->waited || 2 * pace->under_way < sender->max_requests || pace->unsettled > 0)
		return;
	if (sender->max_requests >= ROUND_REPLIES)
	{
		if (pace->mean_ms == 0)
			return;
		if (pace->mean_ms > pace->least_ms * SLOWER_TIMES + SLOWER_MS)
		{
			if (pace->longer_since == 0)
				pace->longer_since = now;
			else if (now >= pace->longer_since + BEGIN_AGAIN_MS)
			{
				memset(pace, 0, sizeof(*pace));
				pace->unsettled = sender->requests;
				sender->max_requests = FIRST_REQUESTS;
			}
			return;
		}
		pace->longer_since = 0;
	}
	sender->max_requests = Min(sender->max_requests + 1, relay->request_limit);
}

/* sqs_relay_may_start(); if not, remember the queue: it comes first next time. */
static bool
try_to_start(Relay *relay, RelayQueue *queue, int64 now)
{
	if (sqs_relay_may_start(relay, queue, now))
		return true;
	if (relay->unserved == NULL)
		relay->unserved = queue;
	return false;
}

/* Count a request that has ended. */
static void
request_ends(Relay *relay, bool probe)
{
	relay->nrequests--;
	relay->nprobes -= probe;
}

/* Completion function of GetQueueUrl; arg is the RelayQueue. */
static void
url_done(SqsCall *call, void *arg)
{
	RelayQueue *queue = arg;
	Relay	   *relay = queue->relay;
	const AwsError *error = sqs_call_error(call);
	int64		now = sqs_now_ms();

	queue->url_call = NULL;
	request_ends(relay, queue->url_probe);
	sqs_count_call(call, queue->stats);
	if (error != NULL && error->class == AWS_ERROR_RESOURCES)
		sqs_relay_note_shortage(relay, queue, error, now);
	else if (error != NULL)
	{
		sqs_sender_pause(queue->sender, now);
		sqs_relay_queue_error(queue, psprintf("%s: %s: %s", aws_error_action(error, "GetQueueUrl"),
											  error->code, error->message), true);
	}
	else
		queue->url = MemoryContextStrdup(relay->context, sqs_call_queue_url(call));
	sqs_call_free(call);
}

/* SendItemDone callback: what became of an item; arg is the SendReport. */
static void
item_done(SendItem *send, SendOutcome outcome, const SqsBatchEntry *entry,
		  const AwsError *error, void *arg)
{
	RelayItem  *item = (RelayItem *) send;
	SendReport *report = arg;

	switch (outcome)
	{
		case SEND_DONE:
			sqs_relay_confirm_item(report->relay, item);
			report->done++;
			break;
		case SEND_REFUSED:
			sqs_relay_refuse_item(report->relay, item, entry != NULL ? entry->code : error->code,
								  entry != NULL ? entry->message : error->message);
			break;
		case SEND_RETRY:
			item->may_be_sent = item->may_be_sent ||
				(error != NULL && (error->class == AWS_ERROR_TRANSIENT ||
								   error->class == AWS_ERROR_TIMEOUT));
			if (entry != NULL &&
				(report->failed == NULL || send->attempts > report->failed_item->attempts))
			{
				report->failed = entry;
				report->failed_item = send;
			}
			break;
	}
}

/*
 * Completion function of SendMessageBatch; arg is the RelayRequest.  Records
 * what became of the entries, and what that says about the queue.  It runs
 * outside the error boundaries of the relay: an ERROR resets it.
 */
static void
send_done(SqsCall *call, void *arg)
{
	RelayRequest *request = arg;
	RelayQueue *queue = request->queue;
	Relay	   *relay = queue->relay;
	Sender	   *sender = queue->sender;
	const AwsError *error = sqs_call_error(call);
	int64		now = sqs_now_ms();
	SendReport	report = {.relay = relay};

	dlist_delete(&request->node);
	request_ends(relay, request->probe);
	sqs_count_call(call, queue->stats);
	sender->budget = sqs_client_retry_budget(queue->shared->client);
	sqs_sender_finish(sender, &request->batch, call, now, item_done, &report);
	if (report.done > 0 && queue->stats != NULL)
	{
		sqs_count(queue->stats, SQS_OUTBOX_SENT, report.done);
		sqs_count(queue->stats, SQS_SENT, report.done);
		sqs_outbox_health_sent(queue->stats);
	}
	if (error != NULL && error->class == AWS_ERROR_RESOURCES)
		sqs_relay_note_shortage(relay, queue, error, now);
	else if (error != NULL && sender->misses > 0 && error->class != AWS_ERROR_REQUEST)
	{
		/* it is tried again; SQS may say itself that there are too many */
		if (error->class == AWS_ERROR_THROTTLED)
			sender->max_requests = Max(sender->max_requests * 7 / 10, FIRST_REQUESTS);
	}
	else if (error != NULL || report.failed != NULL)
	{
		bool		paused = sender->paused_until > now;

		if (error != NULL || paused)
			sender->max_requests = FIRST_REQUESTS;

		/* an entry that fails only once is not worth logging */
		if (error != NULL)
			sqs_relay_queue_error(queue, psprintf("%s: %s: %s", aws_error_action(error, "SendMessageBatch"),
												  error->code, error->message), true);
		else
			sqs_relay_queue_error(queue, psprintf("SendMessageBatch: %s: %s", report.failed->code,
												  report.failed->message),
								  paused || report.failed_item->attempts > 1);
	}
	else
	{
		note_round_trip(&queue->pace, sqs_call_elapsed_ms(call));
		grow(relay, queue, now);
		relay->max_requests = Min(relay->max_requests + 1, relay->request_limit);
		sqs_relay_queue_well(relay, queue);
	}

	/* the queue may have been deleted and created with another URL */
	if (error != NULL && error->class == AWS_ERROR_NO_QUEUE && queue->url != NULL)
	{
		pfree(queue->url);
		queue->url = NULL;
	}
	sqs_call_free(call);
	pfree(request);
}

/* The text of a row's token, palloc'd; as uuid_out(), which is slow. */
static char *
token_text(const pg_uuid_t *token)
{
	static const int bytes[] = {4, 2, 2, 2, 6};
	char	   *text = palloc(2 * UUID_LEN + 5);
	char	   *out = text;
	const uint8 *in = token->data;

	for (int i = 0; i < (int) lengthof(bytes); i++)
	{
		if (i > 0)
			*out++ = '-';
		aws_hex(in, bytes[i], out);
		in += bytes[i];
		out += 2 * bytes[i];
	}
	return text;
}

/*
 * Make a message of an item's row.  Returns NULL, or what is wrong with the
 * row.
 */
static SqsDraftError *
prepare_message(Relay *relay, RelayQueue *queue, RelayItem *item, SqsOutgoing *message)
{
	Datum		values[ROW_NATTS];
	bool		nulls[ROW_NATTS];
	SqsDraftError *wrong;
	char	   *token;

	heap_deform_tuple(item->tuple, relay->row_desc, values, nulls);
	wrong = sqs_outbox_prepare(values, nulls, queue->config->fifo, message);
	if (wrong != NULL)
		return wrong;

	token = token_text(DatumGetUUIDP(values[ROW_TOKEN]));
	(void) sqs_outgoing_add_id(message, token);
	if (queue->config->fifo && message->deduplication_id.data == NULL)
	{
		message->deduplication_id.data = token;
		message->deduplication_id.len = strlen(token);
	}
	return NULL;
}

/*
 * Send the batch in relay->taken, without rows that turn out not to be valid
 * messages; these are refused.  After an ERROR, relay->taken holds the items
 * that must be put back.
 */
static void
send_taken(Relay *relay, RelayQueue *queue, int64 now)
{
	SendBatch  *batch = &relay->taken;
	SqsOutgoing *messages = MemoryContextAlloc(relay->scratch,
											   sizeof(SqsOutgoing) * SQS_MAX_BATCH);
	const SqsOutgoing *pointers[SQS_MAX_BATCH];
	RelayRequest *request;
	MemoryContext old = MemoryContextSwitchTo(relay->scratch);

	/* last to first, because dropping an item closes the gap */
	for (int i = batch->n - 1; i >= 0; i--)
	{
		RelayItem  *item = (RelayItem *) batch->items[i];
		SqsDraftError *wrong = prepare_message(relay, queue, item, &messages[i]);

		if (wrong == NULL)
			continue;
		sqs_relay_refuse_item(relay, item, wrong->code,
							  wrong->detail == NULL ? wrong->message :
							  psprintf("%s: %s", wrong->message, wrong->detail));
		sqs_sender_drop(queue->sender, batch, i, now);
		memmove(&messages[i], &messages[i + 1], sizeof(SqsOutgoing) * (batch->n - i));
	}
	if (batch->n > 0)
	{
		for (int i = 0; i < batch->n; i++)
			pointers[i] = &messages[i];
		request = MemoryContextAlloc(relay->context, sizeof(RelayRequest));
		request->queue = queue;
		request->batch = *batch;
		request->probe = queue->sender->failures > 0;
		request->call = sqs_start_send_batch(queue->shared->client, queue->url, batch->n,
											 pointers, SEND_DEADLINE_MS, 1, send_done, request);
		batch->n = 0;
		dlist_push_tail(&queue->requests, &request->node);
		relay->nrequests++;
		relay->nprobes += request->probe;
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(relay->scratch);
}

/*
 * Connect and find the queue's URL, one step per call.  True if requests can
 * be sent.
 */
static bool
is_ready(Relay *relay, RelayQueue *queue, int64 now)
{
	SqsKeys		keys;
	AwsError	error;

	if (queue->reconnect)
		return false;
	if (queue->shared == NULL)
	{
		char	   *no_keys;

		sqs_begin();
		MemoryContextSwitchTo(relay->scratch);
		no_keys = sqs_catalog_keys(queue->config->owner, queue->config->server_oid, &keys);
		if (no_keys == NULL)
			queue->shared = sqs_shared_client_acquire(queue->config, &keys, &error);
		sqs_wipe_keys(&keys);
		sqs_commit();
		MemoryContextSwitchTo(relay->scratch);
		if (queue->shared == NULL)
		{
			if (no_keys == NULL && error.class == AWS_ERROR_RESOURCES)
				sqs_relay_note_shortage(relay, queue, &error, now);
			else
			{
				sqs_sender_pause(queue->sender, now);
				sqs_relay_queue_error(queue, no_keys != NULL ? no_keys : error.message, true);
			}
			return false;
		}
	}
	if (queue->url == NULL && queue->url_call == NULL)
	{
		if (strstr(queue->config->queue_name, "://") != NULL)
			queue->url = MemoryContextStrdup(relay->context, queue->config->queue_name);
		else if (try_to_start(relay, queue, now))
		{
			queue->url_call = sqs_start_get_queue_url(queue->shared->client,
													  queue->config->queue_name,
													  URL_DEADLINE_MS, 1, url_done, queue);
			queue->url_probe = queue->sender->failures > 0;
			relay->nrequests++;
			relay->nprobes += queue->url_probe;
		}
	}
	return queue->url != NULL;
}

/*
 * Do what is possible only while no request is under way: dispose of a queue
 * that is gone, reconnect, change between standard and FIFO, and put down
 * rows that may not be sent.  True if messages may be sent after that.
 */
static bool
prepare_queue(Relay *relay, RelayQueue *queue, int64 now)
{
	Sender	   *sender = queue->sender;

	if (sender->requests == 0)
	{
		if (queue->gone)
		{
			sqs_relay_queue_is_gone(relay, queue);
			return false;
		}
		if (queue->reconnect)
		{
			sqs_relay_disconnect(queue);
			queue->reconnect = false;
			/* the failures were those of the old connection */
			sqs_sender_try_again(sender);
		}
		if (sender->fifo != queue->config->fifo)
		{
			/* the rows in hand were sorted for the other kind of queue */
			sqs_relay_put_down(relay, queue);
			queue->sender = sqs_sender_create(relay->context, queue->config->fifo,
											  FIRST_REQUESTS, 0, LINGER_MS);
			queue->sender->group_batch = queue->config->group_batch_size;
			sqs_sender_destroy(sender);
			return false;
		}
		if (!queue->config->enabled || !queue->config->can_send)
		{
			if (sender->waiting > 0)
				sqs_relay_put_down(relay, queue);
			if (sqs_relay_has_work(queue) && !queue->config->can_send && queue->config->enabled &&
				now >= sender->paused_until)
			{
				/* look again when the configuration has been read again */
				sender->paused_until = now + CANNOT_SEND_MS;
				sqs_relay_queue_error(queue, queue->config->problem, true);
			}
			return false;
		}
	}
	return !queue->gone && sender->waiting > 0 && now >= sender->paused_until &&
		sender->fifo == queue->config->fifo &&
		queue->config->enabled && queue->config->can_send && is_ready(relay, queue, now);
}

/* Start as many requests as the queue may have, without waiting for any. */
static void
send_messages(Relay *relay, RelayQueue *queue, int64 now)
{
	Sender	   *sender;
	bool		converts = GetDatabaseEncoding() != PG_UTF8 && GetDatabaseEncoding() != PG_SQL_ASCII;

	if (!prepare_queue(relay, queue, now))
		return;
	sender = queue->sender;
	while (sqs_sender_next_time(sender, now) <= now && try_to_start(relay, queue, now) &&
		   sqs_sender_take(sender, now, &relay->taken))
	{
		/* looking up the conversion to UTF-8 needs a transaction */
		if (converts && !IsTransactionState())
			sqs_begin();
		send_taken(relay, queue, now);
	}
	queue->pace.under_way = sender->requests;
	if (IsTransactionState())
	{
		sqs_commit();
		MemoryContextSwitchTo(relay->scratch);
	}
}

/*
 * Start all requests of the queue that can be started.  An ERROR is caught
 * here, because it concerns only this queue: its items are put back or it
 * pauses.
 */
void
sqs_relay_send(Relay *relay, RelayQueue *queue, int64 now)
{
	PG_TRY();
	{
		relay->taken.n = 0;
		send_messages(relay, queue, now);
	}
	PG_CATCH();
	{
		char	   *text = sqs_relay_recover(relay);

		if (queue->sender != NULL && relay->taken.n > 0)
			sqs_sender_cannot_prepare(queue->sender, &relay->taken, now);
		else if (queue->sender != NULL)
			sqs_sender_pause(queue->sender, now);
		sqs_relay_queue_error(queue, text, true);
	}
	PG_END_TRY();
}
