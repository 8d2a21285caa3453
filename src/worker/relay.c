/*-------------------------------------------------------------------------
 *
 * relay.c
 *	  The relay of the outbox: a part of the database worker.
 *
 * Rows go from the tables into the Sender of their queue (relay_rows.c), from
 * there ten at a time to SQS, and when SQS has confirmed them they are
 * deleted.  All queues of the database are worked on at once by one process;
 * each has its own client, back-off and Sender, so that none waits for
 * another.
 *
 * What wakes it: a commit with rows (the counter in the database's entry),
 * an answer of SQS, a time: of a row, of a back-off, of a linger.
 *
 * Messages carry their row's token: as attribute sqsbridge-id, where there is
 * room for one more, and on FIFO queues as deduplication id unless one was
 * given.  So a message that is sent twice, because the server died between
 * SQS's confirmation and the row's deletion, is recognised.
 *
 * Failures.  A message that SQS refuses for what it is goes to
 * sqs_outbox_failures, and so do those of a queue that is registered no more.
 * Everything else is tried again until it succeeds: a queue that does not
 * exist at AWS, or keys that are refused, are for a person to mend, and
 * nothing is lost meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "compat.h"
#include "outgoing.h"
#include "sqsbridge.h"
#include "worker/relay.h"
#include "worker/worker.h"

#define MAX_REQUESTS		100 /* of a queue, under way */
#define FIRST_REQUESTS		4	/* grows by one with each success */
#define SEND_DEADLINE_MS	20000
#define LINGER_MS			5	/* for a batch that is not full, at most */
#define URL_DEADLINE_MS		15000
#define MAX_WAITING			2000	/* rows of a queue in memory that could go now */
#define MAX_ITEM_BYTES		(16 * 1024 * 1024)
#define DELETE_ROWS			250 /* finished rows that are worth a turn, */
#define DELETE_LINGER_MS	5	/* or time after the first of them */
#define DISCONNECT_MS		60000	/* without anything to send */
#define CANNOT_SEND_MS		10000	/* as often as the configuration is read */

/* A request under way. */
typedef struct RelayRequest
{
	dlist_node	node;			/* in RelayQueue.requests */
	RelayQueue *queue;
	SendBatch	batch;
} RelayRequest;

static Relay *the_relay = NULL;
static int	relay_epoll = -1;	/* descriptors of the clients */

/* ---- queues ---- */

int
relay_compare_places(const OutboxPlace *a, const OutboxPlace *b)
{
	if (a->deliver_at != b->deliver_at)
		return a->deliver_at < b->deliver_at ? -1 : 1;
	if (a->position != b->position)
		return a->position < b->position ? -1 : 1;
	return 0;
}

static Relay *
get_relay(void)
{
	MemoryContext context;
	HASHCTL		ctl;
	Relay	   *relay;

	if (the_relay != NULL)
		return the_relay;
	if (relay_epoll < 0)
	{
		relay_epoll = epoll_create1(EPOLL_CLOEXEC);
		if (relay_epoll < 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not create epoll descriptor: %m")));
	}
	context = AllocSetContextCreate(TopMemoryContext, "sqsbridge relay",
									ALLOCSET_DEFAULT_SIZES);
	relay = MemoryContextAllocZero(context, sizeof(Relay));
	relay->context = context;
	relay->scratch = AllocSetContextCreate(context, "sqsbridge relay scratch",
										   ALLOCSET_DEFAULT_SIZES);
	dlist_init(&relay->queues);
	dlist_init(&relay->finished);
	dlist_init(&relay->emptied);
	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(RelayBatch);
	ctl.hcxt = context;
	relay->batches = hash_create("sqsbridge outbox batches", 256, &ctl,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	the_relay = relay;
	return relay;
}

RelayQueue *
relay_queue(Relay *relay, int32 queue_id)
{
	dlist_iter	iter;
	RelayQueue *queue;

	dlist_foreach(iter, &relay->queues)
	{
		queue = dlist_container(RelayQueue, node, iter.cur);
		if (queue->queue_id == queue_id)
			return queue;
	}
	queue = MemoryContextAllocZero(relay->context, sizeof(RelayQueue));
	queue->queue_id = queue_id;
	queue->next_due = DT_NOEND;
	dlist_init(&queue->requests);
	for (BatchStreamId id = 0; id < NUM_STREAMS; id++)
	{
		dlist_init(&queue->streams[id].batches);
		queue->streams[id].tail.deliver_at = DT_NOEND;
		queue->streams[id].tail.position = PG_INT64_MAX;
	}
	queue->idle_since = sqs_now_ms();
	dlist_push_tail(&relay->queues, &queue->node);
	relay->need_config = true;
	return queue;
}

/*
 * What waits for a time or for its group is not counted but for its bytes:
 * else a group that fails, or has very much to send, would soon be all there
 * is in memory, and hold up the others.
 */
bool
relay_queue_has_room(const RelayQueue *queue)
{
	if (queue->sender == NULL)
		return queue->gone && queue->nitems < MAX_WAITING;
	return queue->sender->nready < MAX_WAITING && queue->item_bytes < MAX_ITEM_BYTES;
}

static void
disconnect(RelayQueue *queue)
{
	if (queue->connection.client != NULL)
		(void) epoll_ctl(relay_epoll, EPOLL_CTL_DEL,
						 sqs_client_fd(queue->connection.client), NULL);
	sqs_count_calls(&queue->connection, queue->stats);
	sqs_disconnect(&queue->connection);
	queue->url_call = NULL;
	if (queue->url != NULL)
		pfree(queue->url);
	queue->url = NULL;
}

/* ---- items ---- */

void
relay_free_item(Relay *relay, RelayItem *item)
{
	RelayQueue *queue = item->batch->queue;

	queue->nitems--;
	queue->item_bytes -= item->bytes;
	pfree(item->tuple);
	if (item->error_code != NULL)
	{
		pfree(item->error_code);
		pfree(item->error_message);
	}
	pfree(item);
}

static void
finish_item(RelayItem *item, const char *error_code, const char *error_message)
{
	Relay	   *relay = the_relay;
	RelayQueue *queue = item->batch->queue;

	if (error_code != NULL)
	{
		item->error_code = MemoryContextStrdup(relay->context, error_code);
		item->error_message = MemoryContextStrdup(relay->context, error_message);
		if (queue->stats != NULL)
			sqs_count(queue->stats, SQS_OUTBOX_FAILED, 1);
	}
	else if (queue->stats != NULL)
	{
		sqs_count(queue->stats, SQS_OUTBOX_SENT, 1);
		sqs_count(queue->stats, SQS_SENT, 1);
	}
	if (relay->nfinished++ == 0)
		relay->finished_since = sqs_now_ms();
	dlist_push_tail(&relay->finished, &item->node);
}

static void
fail_not_registered(RelayItem *item)
{
	finish_item(item, "QueueNotRegistered", item->may_be_sent ?
				"the queue was unregistered while the message was being sent, and may have it" :
				"the queue is not registered any more");
}

void
relay_add_item(Relay *relay, RelayQueue *queue, RelayItem *item, uint64 group_key, int64 now)
{
	item->batch->rows++;
	queue->nitems++;
	queue->item_bytes += item->bytes;
	if (queue->gone)
		fail_not_registered(item);
	else
		sender_add(queue->sender, &item->send, group_key, now);
}

/* ---- configuration ---- */

static void
queue_error(RelayQueue *queue, const char *text, bool announce)
{
	if (queue->stats == NULL)
		return;
	if (sqs_outbox_error(queue->stats, text, announce))
		ereport(LOG,
				(errmsg("sqsbridge cannot send from the outbox to queue \"%s\": %s",
						queue->config->name, text)));
}

/* The queue is registered no more: its rows will never be sent. */
static void
queue_is_gone(RelayQueue *queue)
{
	disconnect(queue);
	queue->gone = true;
	queue->stats = NULL;
	queue->config = NULL;
	while (!dlist_is_empty(&queue->requests))
	{
		RelayRequest *request = dlist_container(RelayRequest, node,
												dlist_pop_head_node(&queue->requests));

		for (int i = 0; i < request->batch.n; i++)
			((RelayItem *) request->batch.items[i])->may_be_sent = true;
		sender_put_back(queue->sender, &request->batch, sqs_now_ms());
		pfree(request);
	}
	if (queue->sender != NULL)
	{
		SendItem   *item;

		while ((item = sender_remove(queue->sender)) != NULL)
			fail_not_registered((RelayItem *) item);
		sender_destroy(queue->sender);
		queue->sender = NULL;
	}
}

/*
 * Take over a queue's configuration.  False if what is in hand was put
 * together for another kind of queue.
 */
static bool
configure_queue(Relay *relay, RelayQueue *queue, const SqsQueueConfig *config)
{
	MemoryContext fresh = AllocSetContextCreate(relay->context, "sqsbridge outbox queue",
												ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(fresh);
	SqsQueueConfig *copy = palloc(sizeof(SqsQueueConfig));
	SqsKeys		keys;
	uint64		place;

	*copy = *config;
	copy->name = pstrdup(config->name);
	copy->queue_name = pstrdup(config->queue_name);
	copy->server = pstrdup(config->server);
	copy->handler = NULL;
	copy->region = config->region != NULL ? pstrdup(config->region) : NULL;
	copy->endpoint = config->endpoint != NULL ? pstrdup(config->endpoint) : NULL;
	copy->problem = config->problem != NULL ? pstrdup(config->problem) : NULL;
	MemoryContextSwitchTo(old);

	(void) sqs_catalog_keys(config->owner, config->server, &keys);
	place = sqs_fingerprint_text(sqs_connection_fingerprint(config, &keys), config->queue_name);
	place = sqs_fingerprint_text(place, sqs_ca_file);
	sqs_wipe_keys(&keys);

	/* what is under way may finish where it is */
	if (place != queue->place)
		queue->reconnect = true;
	if (queue->sender != NULL &&
		(place != queue->place || !queue->config->can_send ||
		 (config->enabled && !queue->config->enabled)))
		sender_try_again(queue->sender);
	queue->place = place;

	if (queue->config_context != NULL)
		MemoryContextDelete(queue->config_context);
	queue->config_context = fresh;
	queue->config = copy;
	if (queue->sender != NULL && queue->sender->fifo != copy->fifo)
		return false;
	queue->gone = false;
	queue->stats = sqs_stats_get(MyDatabaseId, queue->queue_id);
	if (queue->sender == NULL)
	{
		queue->sender = sender_create(relay->context, copy->fifo, FIRST_REQUESTS, 0, LINGER_MS);
		queue->reconnect = false;
	}
	return true;
}

/*
 * The queues there are.  Needs a transaction.  A queue without rows is none
 * of the relay's business.
 */
void
sqs_relay_configure(List *queues)
{
	Relay	   *relay = get_relay();
	dlist_iter	iter;

	relay->need_config = false;
	dlist_foreach(iter, &relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);
		ListCell   *lc;
		SqsQueueConfig *config = NULL;

		foreach(lc, queues)
		{
			if (((SqsQueueConfig *) lfirst(lc))->queue_id == queue->queue_id)
				config = lfirst(lc);
		}
		if (config != NULL)
		{
			if (!configure_queue(relay, queue, config))
			{
				sqs_relay_reset();
				return;
			}
		}
		else if (!queue->gone)
			queue_is_gone(queue);
	}
}

/* ---- requests ---- */

static void
url_done(SqsCall *call, void *arg)
{
	RelayQueue *queue = arg;
	const AwsError *error = sqs_call_error(call);
	int64		now = sqs_now_ms();

	queue->url_call = NULL;
	if (error != NULL)
	{
		sender_pause(queue->sender, now);
		queue_error(queue, psprintf("GetQueueUrl: %s: %s", error->code, error->message), true);
	}
	else
		queue->url = MemoryContextStrdup(the_relay->context, sqs_call_queue_url(call));
	sqs_call_free(call);
}

/* What became of a request's entries. */
typedef struct SendReport
{
	int			done;
	const SqsBatchEntry *failed;	/* to be tried again: that which waits longest */
	const SendItem *failed_item;
} SendReport;

static void
item_done(SendItem *send, SendOutcome outcome, const SqsBatchEntry *entry,
		  const AwsError *error, void *arg)
{
	RelayItem  *item = (RelayItem *) send;
	SendReport *report = arg;

	switch (outcome)
	{
		case SEND_DONE:
			finish_item(item, NULL, NULL);
			report->done++;
			break;
		case SEND_REFUSED:
			finish_item(item, entry != NULL ? entry->code : error->code,
						entry != NULL ? entry->message : error->message);
			break;
		case SEND_RETRY:
			if (entry != NULL &&
				(report->failed == NULL || send->attempts > report->failed_item->attempts))
			{
				report->failed = entry;
				report->failed_item = send;
			}
			break;
	}
}

static void
send_done(SqsCall *call, void *arg)
{
	RelayRequest *request = arg;
	RelayQueue *queue = request->queue;
	Sender	   *sender = queue->sender;
	const AwsError *error = sqs_call_error(call);
	int64		now = sqs_now_ms();
	SendReport	report = {0};

	dlist_delete(&request->node);
	sender_finish(sender, &request->batch, call, now, item_done, &report);
	if (report.done > 0 && queue->stats != NULL)
		sqs_outbox_sent(queue->stats);
	if (error != NULL || report.failed != NULL)
	{
		bool		paused = sender->paused_until > now;

		if (error != NULL || paused)
			sender->max_requests = FIRST_REQUESTS;

		/* entries that fail once and succeed then are nothing for the log */
		if (error != NULL)
			queue_error(queue, psprintf("SendMessageBatch: %s: %s", error->code, error->message),
						true);
		else
			queue_error(queue, psprintf("SendMessageBatch: %s: %s", report.failed->code,
										report.failed->message),
						paused || report.failed_item->attempts > 1);
	}
	else
	{
		sender->max_requests = Min(sender->max_requests + 1, MAX_REQUESTS);
		if (sender->troubled == 0 && queue->stats != NULL && sqs_outbox_well(queue->stats))
			ereport(LOG,
					(errmsg("sqsbridge sends from the outbox to queue \"%s\" again",
							queue->config->name)));
	}

	/* deleted, or made anew under another URL? */
	if (error != NULL && error->class == AWS_ERROR_NO_QUEUE && queue->url != NULL)
	{
		pfree(queue->url);
		queue->url = NULL;
	}
	sqs_call_free(call);
	pfree(request);
}

/* Make the row into a message; NULL if it is well, else what is wrong. */
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

	token = DatumGetCString(DirectFunctionCall1(uuid_out, values[ROW_TOKEN]));
	(void) sqs_outgoing_add_id(message, token);
	if (queue->config->fifo && message->deduplication_id.data == NULL)
	{
		message->deduplication_id.data = token;
		message->deduplication_id.len = strlen(token);
	}
	return NULL;
}

static void
send_batch(Relay *relay, RelayQueue *queue, SendBatch *batch, int64 now)
{
	SqsOutgoing *messages = MemoryContextAlloc(relay->scratch,
											   sizeof(SqsOutgoing) * SQS_MAX_BATCH);
	const SqsOutgoing *pointers[SQS_MAX_BATCH];
	RelayRequest *request;
	MemoryContext old = MemoryContextSwitchTo(relay->scratch);

	/* from the last, because those that are dropped close the gap */
	for (int i = batch->n - 1; i >= 0; i--)
	{
		RelayItem  *item = (RelayItem *) batch->items[i];
		SqsDraftError *wrong = prepare_message(relay, queue, item, &messages[i]);

		if (wrong == NULL)
			continue;
		finish_item(item, wrong->code,
					wrong->detail == NULL ? wrong->message :
					psprintf("%s: %s", wrong->message, wrong->detail));
		sender_drop(queue->sender, batch, i, now);
		memmove(&messages[i], &messages[i + 1], sizeof(SqsOutgoing) * (batch->n - i));
	}
	if (batch->n > 0)
	{
		for (int i = 0; i < batch->n; i++)
			pointers[i] = &messages[i];
		request = MemoryContextAlloc(relay->context, sizeof(RelayRequest));
		request->queue = queue;
		request->batch = *batch;
		dlist_push_tail(&queue->requests, &request->node);
		sqs_start_send_batch(queue->connection.client, queue->url, batch->n, pointers,
							 SEND_DEADLINE_MS, 1, send_done, request);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(relay->scratch);
}

/* Connect, find the URL.  True if requests can be sent. */
static bool
is_ready(RelayQueue *queue, int64 now)
{
	SqsKeys		keys;
	AwsError	error;
	struct epoll_event event;
	bool		connected;

	if (queue->reconnect)
		return false;
	if (queue->connection.client == NULL)
	{
		sqs_begin();
		(void) sqs_catalog_keys(queue->config->owner, queue->config->server, &keys);
		connected = sqs_connect(&queue->connection, queue->config, &keys,
								MAX_REQUESTS, &error);
		sqs_wipe_keys(&keys);
		sqs_commit();
		MemoryContextSwitchTo(the_relay->scratch);
		if (!connected)
		{
			sender_pause(queue->sender, now);
			queue_error(queue, error.message, true);
			return false;
		}
		event.events = EPOLLIN;
		event.data.ptr = queue;
		if (epoll_ctl(relay_epoll, EPOLL_CTL_ADD,
					  sqs_client_fd(queue->connection.client), &event) != 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not add descriptor to epoll set: %m")));
	}
	if (queue->url == NULL && queue->url_call == NULL)
	{
		if (strstr(queue->config->queue_name, "://") != NULL)
			queue->url = MemoryContextStrdup(the_relay->context, queue->config->queue_name);
		else
			queue->url_call = sqs_start_get_queue_url(queue->connection.client,
													  queue->config->queue_name,
													  URL_DEADLINE_MS, 1, url_done, queue);
	}
	return queue->url != NULL;
}

static void
send_messages(Relay *relay, RelayQueue *queue, int64 now)
{
	Sender	   *sender = queue->sender;
	SendBatch	batch;
	bool		converts = GetDatabaseEncoding() != PG_UTF8 && GetDatabaseEncoding() != PG_SQL_ASCII;

	if (queue->reconnect && sender->requests == 0)
	{
		disconnect(queue);
		queue->reconnect = false;
		/* what has failed since failed where it is not sent to any more */
		sender_try_again(sender);
	}
	if (sender->waiting == 0 || now < sender->paused_until || !queue->config->enabled)
		return;
	if (!queue->config->can_send)
	{
		/* looked at again with the next configuration */
		sender->paused_until = now + CANNOT_SEND_MS;
		queue_error(queue, queue->config->problem, true);
		return;
	}
	if (!is_ready(queue, now))
		return;
	while (sender_take(sender, now, &batch))
	{
		/* to find the conversion to UTF-8 takes a look at the catalogs */
		if (converts && !IsTransactionState())
			sqs_begin();
		send_batch(relay, queue, &batch, now);
	}
	if (IsTransactionState())
	{
		sqs_commit();
		MemoryContextSwitchTo(relay->scratch);
	}
}

static void
report_state(RelayQueue *queue, int64 now)
{
	Sender	   *sender = queue->sender;
	SqsOutboxState state;
	long		next = 0;

	if (queue->stats == NULL)
		return;
	pg_atomic_write_u32(&queue->stats->outbox_in_flight, sender->under_way);
	if (sender->waiting + sender->under_way == 0)
		state = SQS_OUTBOX_IDLE;
	else if (!queue->config->enabled && sender->under_way == 0)
		state = SQS_OUTBOX_DISABLED;
	else if (sender->failures > 0 || sender_is_held_up(sender) ||
			 (!queue->config->can_send && sender->under_way == 0))
		state = SQS_OUTBOX_BACKING_OFF;
	else
		state = SQS_OUTBOX_SENDING;
	if (state == SQS_OUTBOX_BACKING_OFF && sender->requests == 0 && queue->url_call == NULL)
		next = Max(sender_next_time(sender, now) - now, 0);
	sqs_outbox_set_state(queue->stats, state, next);
}

/* ---- the turn ---- */

/* Ms until the queue has something to do, without anything happening. */
static long
queue_timeout(RelayQueue *queue, int64 now, bool stopping)
{
	long		timeout = 10000;
	long		client;

	if (queue->connection.client != NULL &&
		(client = sqs_client_timeout(queue->connection.client)) >= 0)
		timeout = Min(timeout, client);
	if (queue->sender != NULL && queue->sender->waiting > 0 && !stopping &&
		queue->config->enabled && queue->url_call == NULL && !queue->reconnect)
		timeout = Min(timeout, Max(sender_next_time(queue->sender, now) - now, 0));
	if (queue->next_due != DT_NOEND && relay_queue_has_room(queue))
		timeout = Min(timeout, TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
															   queue->next_due));
	return timeout;
}

/*
 * Do all there is to do.  "news": rows may have been committed since the last
 * turn; "scan": look at everything; "stopping": finish what is under way.
 * Returns true while something is under way, and in *timeout (ms) when to
 * come again at the latest.
 */
bool
sqs_relay_turn(bool news, bool scan, bool stopping, long *timeout)
{
	Relay	   *relay = get_relay();
	int64		now = sqs_now_ms();
	bool		under_way = false;
	MemoryContext old = MemoryContextSwitchTo(relay->scratch);
	dlist_iter	iter;

	dlist_foreach(iter, &relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);

		if (queue->connection.client != NULL)
		{
			sqs_client_poll(queue->connection.client);
			under_way = under_way || queue->sender->requests > 0;
		}
	}

	relay->news = relay->news || news;
	relay->scan = relay->scan || scan;
	if (now >= relay->retry_at &&
		(relay->nfinished >= DELETE_ROWS ||
		 (relay->nfinished > 0 &&
		  (!under_way || now >= relay->finished_since + DELETE_LINGER_MS)) ||
		 (!stopping && (relay->news || relay->scan || !relay->scanned ||
						relay_wants_rows(relay, now)))))
		relay_turn_rows(relay, now);

	now = sqs_now_ms();
	under_way = false;
	dlist_foreach(iter, &relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);

		if (queue->sender != NULL)
		{
			if (!stopping)
				send_messages(relay, queue, now);
			sqs_count_calls(&queue->connection, queue->stats);
			report_state(queue, now);
			under_way = under_way || queue->sender->requests > 0;
			if (queue->nitems > 0)
				queue->idle_since = now;
			else if (queue->connection.client != NULL &&
					 now > queue->idle_since + DISCONNECT_MS)
				disconnect(queue);
		}
		*timeout = Min(*timeout, queue_timeout(queue, now, stopping));
	}
	*timeout = Min(*timeout, 10000);
	if (relay->nfinished > 0)
		*timeout = Min(*timeout, Max(relay->finished_since + DELETE_LINGER_MS - now, 0));
	if (!stopping && (relay->news || relay_wants_rows(relay, now)))
		*timeout = 0;
	if (now < relay->retry_at)
		*timeout = Max(*timeout, relay->retry_at - now);
	MemoryContextSwitchTo(old);
	MemoryContextReset(relay->scratch);
	return under_way || relay->nfinished > 0;
}

bool
sqs_relay_needs_config(void)
{
	return the_relay != NULL && the_relay->need_config;
}

/* No row is known, or waited for. */
bool
sqs_relay_is_idle(void)
{
	dlist_iter	iter;

	if (the_relay == NULL)
		return true;
	if (!the_relay->scanned || the_relay->nfinished > 0)
		return false;
	dlist_foreach(iter, &the_relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);

		if (queue->nitems > 0 || queue->next_due != DT_NOEND)
			return false;
		for (BatchStreamId id = 0; id < NUM_STREAMS; id++)
		{
			if (queue->streams[id].nbatches > 0 || queue->streams[id].more)
				return false;
		}
	}
	return true;
}

/* Readable when a client has something to do. */
int
sqs_relay_fd(void)
{
	(void) get_relay();
	return relay_epoll;
}

/* After an error, or to leave: everything is on disk. */
void
sqs_relay_reset(void)
{
	dlist_iter	iter;

	if (the_relay == NULL)
		return;
	dlist_foreach(iter, &the_relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);

		if (queue->connection.client != NULL)
			(void) epoll_ctl(relay_epoll, EPOLL_CTL_DEL,
							 sqs_client_fd(queue->connection.client), NULL);
		if (queue->stats != NULL)
			pg_atomic_write_u32(&queue->stats->outbox_in_flight, 0);
		sqs_disconnect(&queue->connection);
	}
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextDelete(the_relay->context);
	the_relay = NULL;
}
