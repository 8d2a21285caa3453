/*-------------------------------------------------------------------------
 *
 * relay.c
 *	  The relay of the outbox: a part of the database worker.
 *
 * Rows go from the tables into the Sender of their queue (relay_rows.c), from
 * there ten at a time to SQS, and when SQS has confirmed them they are
 * deleted.  All queues of the database are worked on at once by one process;
 * each has its own back-off, Sender and error boundary, so that none waits for
 * another.  Queues of one server with the same keys share a client.
 *
 * Shares.  Memory and requests are limited for the process.  A queue gets no
 * more of either than it leaves free, so that there is always some left for
 * the next one; queues that cannot send now give up what they hold when
 * another is short of memory, and those that may not send at all hold nothing.
 * Queues that are failing have half of the requests together, so that those
 * that wait for a timeout are not all that is under way.
 *
 * Troubles of our own: a table that is locked, a row that cannot be read, no
 * descriptor.  What they concern is tried again after a back-off of its own
 * (RelayTrouble), everything else goes on, sqs_stats_outbox shows them, and the
 * log has a line when they begin and one when they are over.
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

#include "access/htup_details.h"
#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "base/outbox_health.h"
#include "base/queue_stats.h"
#include "base/settings.h"
#include "base/worker.h"
#include "config/fdw.h"
#include "config/keys.h"
#include "send/outgoing.h"
#include "send/relay.h"

#define MAX_REQUESTS		100 /* of a queue, under way */
#define FIRST_REQUESTS		4	/* grows by one with each success */
#define MIN_ALL_REQUESTS	4	/* however short of descriptors we are */
#define SEND_DEADLINE_MS	20000
#define LINGER_MS			5	/* for a batch that is not full, at most */
#define URL_DEADLINE_MS		15000
#define MAX_WAITING			2000	/* rows of a queue in memory that could go now */
#define DELETE_ROWS			250 /* finished rows that are worth a turn, */
#define DELETE_LINGER_MS	5	/* or time after the first of them */
#define DISCONNECT_MS		60000	/* without anything to send */
#define CANNOT_SEND_MS		10000	/* as often as the configuration is read */

/* Troubles of our own. */
#define TROUBLE_MIN_MS		50
#define TROUBLE_MAX_MS		2000	/* what is looked for costs next to nothing */
#define ERROR_MIN_MS		500
#define ERROR_MAX_MS		60000
#define ANNOUNCE_MS			1000	/* a lock that is shorter is nothing to log */
#define SHORTAGE_MS			500
#define SHORTAGE_OVER_MS	60000
#define STATS_RETRY_MS		1000
#define STRANDED_WAIT_MS	60000	/* for a moment without requests, at most */

/* A request under way. */
typedef struct RelayRequest
{
	dlist_node	node;			/* in RelayQueue.requests */
	RelayQueue *queue;
	SqsCall    *call;
	bool		probe;			/* the queue was failing when it began */
	SendBatch	batch;
} RelayRequest;

/* A row that SQS has confirmed and that may still be in the table. */
typedef struct ConfirmedRow
{
	int64		batch_id;
	int64		id;
} ConfirmedRow;

static Relay *the_relay = NULL;

/* what outlives a relay that had to be made anew */
static HTAB *confirmed_rows = NULL;
static Oid	confirmed_rows_oid = InvalidOid;

static void restart_queue(Relay *relay, RelayQueue *queue);

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
	context = AllocSetContextCreate(TopMemoryContext, "sqsbridge relay",
									ALLOCSET_DEFAULT_SIZES);
	relay = MemoryContextAllocZero(context, sizeof(Relay));
	relay->context = context;
	relay->scratch = AllocSetContextCreate(context, "sqsbridge relay scratch",
										   ALLOCSET_DEFAULT_SIZES);
	dlist_init(&relay->queues);
	dlist_init(&relay->confirmed);
	dlist_init(&relay->held);
	dlist_init(&relay->emptied);
	relay->max_requests = SQS_RELAY_REQUESTS;
	relay->stranded_at = sqs_now_ms();
	ctl.keysize = sizeof(RelayBatchKey);
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
	dlist_init(&queue->refused);
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

/* Is there anything of it to be sent, recorded or deleted? */
static bool
has_work(const RelayQueue *queue)
{
	if (queue->nitems > 0 || queue->unloading || queue->stranded > 0)
		return true;
	for (BatchStreamId id = 0; id < NUM_STREAMS; id++)
	{
		if (queue->streams[id].nbatches > 0 || queue->streams[id].more)
			return true;
	}
	return false;
}

/* Could the queue do anything with rows now? */
static bool
can_use_rows(const RelayQueue *queue, int64 now)
{
	if (now < queue->reading.not_before)
		return false;
	if (queue->gone)
		return queue->sender == NULL && now >= queue->recording.not_before;
	return queue->sender != NULL && queue->config->enabled && queue->config->can_send &&
		queue->sender->fifo == queue->config->fifo && now >= queue->sender->paused_until;
}

/*
 * Whether rows of the queue may be read now: not of one that cannot send
 * them, be it for the moment.
 */
bool
relay_may_read(const RelayQueue *queue, int64 now)
{
	return !queue->unloading && can_use_rows(queue, now);
}

/*
 * Is the queue, whose rows were put down, to be read anew?  What is confirmed
 * or refused may still be in hand, because a row or a table is locked.  As
 * long as the queue could do nothing with its rows there is time for that.
 */
static bool
is_to_restart(const RelayQueue *queue, int64 now)
{
	return queue->unloading && (queue->nitems == 0 || can_use_rows(queue, now));
}

/*
 * What waits for a time or for its group is not counted but for its bytes:
 * else a group that fails, or has very much to send, would soon be all there
 * is in memory, and hold up the others.
 */
static bool
wants_more(const RelayQueue *queue)
{
	if (queue->sender == NULL)
		return queue->nrefused < MAX_WAITING;
	return queue->sender->nready < MAX_WAITING;
}

bool
relay_runs_low(const RelayQueue *queue)
{
	return queue->sender == NULL || queue->sender->nready <= MAX_WAITING / 2;
}

bool
relay_has_room(Relay *relay, const RelayQueue *queue)
{
	size_t		limit = (size_t) sqs_max_outbox_memory * 1024 / 8 * 7;

	if (!wants_more(queue))
		return false;
	if (relay->item_bytes < limit && queue->item_bytes < limit - relay->item_bytes)
		return true;
	if (queue->item_bytes == 0)
		relay->out_of_room = true;
	return false;
}

/*
 * Give up the rows in hand of a queue that has nothing under way: they are in
 * the table, and are read anew (restart_queue) when that makes sense.
 */
void
relay_unload(Relay *relay, RelayQueue *queue)
{
	SendItem   *send;

	Assert(queue->sender->requests == 0);
	while ((send = sender_remove(queue->sender)) != NULL)
		relay_give_up_item(relay, (RelayItem *) send);
	queue->unloading = true;
}

/* Can nothing of the queue be sent now? */
static bool
is_stuck(const RelayQueue *queue, int64 now)
{
	const Sender *sender = queue->sender;

	return sender != NULL && sender->requests == 0 && sender->waiting > 0 &&
		(now < sender->paused_until || sender_is_held_up(sender));
}

/* Somebody is short of memory: take it from whom it is of least use to. */
static void
make_room(Relay *relay, int64 now)
{
	RelayQueue *largest = NULL;
	dlist_iter	iter;

	dlist_foreach(iter, &relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);

		if (is_stuck(queue, now) && (largest == NULL || queue->item_bytes > largest->item_bytes))
			largest = queue;
	}
	if (largest == NULL)
		return;
	/* one that only some of its messages hold up pauses as a whole, then */
	if (now >= largest->sender->paused_until)
		largest->sender->paused_until = now + ERROR_MIN_MS;
	relay_unload(relay, largest);
}

static void
disconnect(RelayQueue *queue)
{
	Assert(dlist_is_empty(&queue->requests));
	if (queue->url_call != NULL)
	{
		sqs_count_call(queue->url_call, queue->stats);
		sqs_call_abandon(queue->url_call);
		the_relay->nrequests--;
		the_relay->nprobes -= queue->url_probe;
	}
	queue->url_call = NULL;
	if (queue->url != NULL)
		pfree(queue->url);
	queue->url = NULL;
	if (queue->shared != NULL)
		sqs_shared_client_release(queue->shared);
	queue->shared = NULL;
}

/* ---- errors ---- */

static void
queue_error(RelayQueue *queue, const char *text, bool announce)
{
	if (queue->stats == NULL)
		return;
	if (sqs_outbox_health_error(queue->stats, text, announce))
		ereport(LOG,
				(errmsg("sqsbridge cannot send from the outbox to queue \"%s\": %s",
						queue->config->name, text)));
}

/* Nothing is wrong with the queue any more, if that is so. */
static void
queue_well(Relay *relay, RelayQueue *queue)
{
	if (queue->stats == NULL || queue->sender == NULL || queue->gone ||
		!queue->config->can_send || queue->stranded > 0 ||
		queue->sender->failures > 0 || queue->sender->troubled > 0 ||
		queue->reading.failures > 0 || queue->recording.failures > 0 ||
		relay->reading.failures > 0 ||
		(relay->deleting.failures > 0 && queue->nconfirmed > 0) || queue->nheld > 0)
		return;
	if (sqs_outbox_health_well(queue->stats))
		ereport(LOG,
				(errmsg("sqsbridge sends from the outbox to queue \"%s\" again",
						queue->config->name)));
}

/* What a trouble keeps us from. */
static const char *
trouble_name(Relay *relay, RelayQueue *queue, RelayTrouble *trouble)
{
	if (trouble == &relay->reading)
		return "read the outbox";
	if (trouble == &relay->deleting || trouble == &relay->holding)
		return "delete messages that are sent from the outbox";
	if (trouble == &relay->shortage)
		return "open connections for the outbox";
	if (trouble == &queue->recording)
		return psprintf("record failed messages of queue \"%s\"",
						queue->config != NULL ? queue->config->name : psprintf("%d", queue->queue_id));
	return psprintf("read the outbox of queue \"%s\"",
					queue->config != NULL ? queue->config->name : psprintf("%d", queue->queue_id));
}

static bool
trouble_concerns(Relay *relay, RelayQueue *queue, RelayTrouble *trouble)
{
	if (trouble == &relay->deleting)
		return queue->nconfirmed > 0;
	if (trouble == &relay->holding)
		return queue->nheld > 0;
	return true;
}

void
relay_trouble(Relay *relay, RelayQueue *queue, RelayTrouble *trouble, bool locked,
			  const char *text, int64 now)
{
	dlist_iter	iter;

	if (trouble->failures++ == 0)
		trouble->since = now;
	trouble->last = now;
	if (strcmp(trouble->text, text) != 0)
	{
		strlcpy(trouble->text, text, sizeof(trouble->text));
		/* clipped, it would differ each time */
		if (strlen(text) < sizeof(trouble->text))
			trouble->announced = false;
	}
	trouble->not_before = now + (locked ?
								 sqs_backoff_ms(trouble->failures, TROUBLE_MIN_MS, TROUBLE_MAX_MS) :
								 sqs_backoff_ms(trouble->failures, ERROR_MIN_MS, ERROR_MAX_MS));

	if (queue != NULL && queue->stats != NULL)
		(void) sqs_outbox_health_error(queue->stats, text, false);
	else if (queue == NULL)
	{
		dlist_foreach(iter, &relay->queues)
		{
			RelayQueue *other = dlist_container(RelayQueue, node, iter.cur);

			if (other->stats != NULL && trouble_concerns(relay, other, trouble))
				(void) sqs_outbox_health_error(other->stats, text, false);
		}
	}
	if (!trouble->announced && (!locked || now >= trouble->since + ANNOUNCE_MS))
	{
		trouble->announced = true;
		ereport(LOG,
				(errmsg("sqsbridge cannot %s: %s", trouble_name(relay, queue, trouble), text)));
	}
}

void
relay_trouble_over(Relay *relay, RelayQueue *queue, RelayTrouble *trouble)
{
	dlist_iter	iter;

	if (trouble->failures == 0)
		return;
	if (trouble->announced)
		ereport(LOG,
				(errmsg("sqsbridge can %s again", trouble_name(relay, queue, trouble))));
	memset(trouble, 0, sizeof(*trouble));
	if (queue != NULL)
		queue_well(relay, queue);
	else
	{
		dlist_foreach(iter, &relay->queues)
			queue_well(relay, dlist_container(RelayQueue, node, iter.cur));
	}
}

/*
 * Recover from an error that was caught: what it says, in the scratch context.
 * What is in memory is as it should be; see relay_rows.c.
 */
static char *
recover(Relay *relay)
{
	ErrorData  *edata;
	char	   *text;

	MemoryContextSwitchTo(relay->scratch);
	edata = CopyErrorData();
	HOLD_INTERRUPTS();
	AbortOutOfAnyTransaction();
	FlushErrorState();
	RESUME_INTERRUPTS();
	MemoryContextSwitchTo(relay->scratch);
	sqs_own_resources();
	text = edata->detail != NULL ? psprintf("%s: %s", edata->message, edata->detail) :
		pstrdup(edata->message);
	FreeErrorData(edata);
	return text;
}

/* This process has no descriptor left: do with the connections there are. */
static void
note_shortage(Relay *relay, RelayQueue *queue, const AwsError *error, int64 now)
{
	relay->max_requests = Max(Min(relay->nrequests, relay->max_requests), MIN_ALL_REQUESTS);
	if (queue->stats != NULL)
		(void) sqs_outbox_health_error(queue->stats, error->message, false);
	relay->shortage.last = now;
	relay->shortage.not_before = now + SHORTAGE_MS;
	if (relay->shortage.failures++ > 0)
		return;
	relay->shortage.since = now;
	relay->shortage.announced = true;
	ereport(LOG,
			(errmsg("sqsbridge cannot open connections for the outbox: %s", error->message),
			 errdetail("Messages wait for one of them."),
			 errhint("Increase max_files_per_process, or the operating system's limit of open files.")));
}

/* ---- items ---- */

static void
forget_bytes(Relay *relay, RelayItem *item, size_t bytes)
{
	item->bytes -= bytes;
	item->batch->queue->item_bytes -= bytes;
	relay->item_bytes -= bytes;
}

void
relay_free_item(Relay *relay, RelayItem *item)
{
	RelayQueue *queue = item->batch->queue;

	queue->nitems--;
	forget_bytes(relay, item, item->bytes);
	if (item->tuple != NULL)
		pfree(item->tuple);
	if (item->error_code != NULL)
	{
		pfree(item->error_code);
		pfree(item->error_message);
	}
	pfree(item);
}

/* SQS has it.  What is kept is what it takes to find the row. */
static void
confirm_item(Relay *relay, RelayItem *item)
{
	if (relay->nconfirmed++ == 0)
		relay->confirmed_since = sqs_now_ms();
	item->batch->queue->nconfirmed++;
	dlist_push_tail(&relay->confirmed, &item->node);
	forget_bytes(relay, item, item->bytes - sizeof(RelayItem));
	pfree(item->tuple);
	item->tuple = NULL;
}

static void
list_refused(RelayItem *item)
{
	RelayQueue *queue = item->batch->queue;

	if (queue->nrefused++ == 0)
		queue->refused_since = sqs_now_ms();
	dlist_push_tail(&queue->refused, &item->node);
}

/* SQS does not take it.  An ERROR leaves it as it was. */
static void
refuse_item(Relay *relay, RelayItem *item, const char *error_code, const char *error_message)
{
	RelayQueue *queue = item->batch->queue;
	char	   *message = MemoryContextStrdup(relay->context, error_message);

	item->error_code = MemoryContextStrdup(relay->context, error_code);
	item->error_message = message;
	list_refused(item);
	if (queue->stats != NULL)
		sqs_count(queue->stats, SQS_OUTBOX_FAILED, 1);
}

/* Cannot fail: the item is in no other list. */
static void
fail_not_registered(RelayItem *item)
{
	item->not_registered = true;
	list_refused(item);
}

/* An ERROR leaves the item with the caller, and everything else as it was. */
void
relay_add_item(Relay *relay, RelayQueue *queue, RelayItem *item, uint64 group_key, int64 now)
{
	bool		confirmed = relay_was_confirmed(relay, item->batch->key.batch_id, item->id);

	if (!confirmed && !queue->gone)
		sender_add(queue->sender, &item->send, group_key, now);
	item->batch->rows++;
	queue->nitems++;
	queue->item_bytes += item->bytes;
	relay->item_bytes += item->bytes;
	if (confirmed)
		confirm_item(relay, item);
	else if (queue->gone)
		fail_not_registered(item);
}

/* ---- configuration ---- */

/* An entry for what is to be said about the queue, if there is room for one. */
static void
find_stats(RelayQueue *queue, int64 now)
{
	if (queue->stats != NULL || queue->gone || now < queue->stats_at || !has_work(queue))
		return;
	queue->stats = sqs_stats_get(MyDatabaseId, queue->queue_id);
	queue->stats_at = now + STATS_RETRY_MS;
}

/*
 * The queue is registered no more: its rows will never be sent.  What is under
 * way may still be confirmed.
 */
static void
queue_is_gone(Relay *relay, RelayQueue *queue)
{
	SendItem   *item;

	queue->gone = true;
	queue->stats = NULL;
	if (queue->sender != NULL && queue->sender->requests > 0)
		return;
	if (queue->sender != NULL)
	{
		disconnect(queue);
		while ((item = sender_remove(queue->sender)) != NULL)
			fail_not_registered((RelayItem *) item);
		sender_destroy(queue->sender);
		queue->sender = NULL;
	}
	queue->config = NULL;
	if (queue->config_context != NULL)
		MemoryContextDelete(queue->config_context);
	queue->config_context = NULL;
}

/* Forget a queue that is gone, when nothing of it is left. */
static void
forget_if_done(Relay *relay, RelayQueue *queue)
{
	dlist_iter	iter;

	if (!queue->gone || queue->sender != NULL || has_work(queue) ||
		queue->next_due != DT_NOEND || queue->told_stranded != 0)
		return;
	dlist_foreach(iter, &relay->emptied)
	{
		if (dlist_container(RelayBatch, node, iter.cur)->queue == queue)
			return;
	}
	if (relay->refused == queue)
		relay->refused = NULL;
	dlist_delete(&queue->node);
	pfree(queue);
}

/* Take over a queue's configuration. */
static void
configure_queue(Relay *relay, RelayQueue *queue, const SqsQueueConfig *config)
{
	MemoryContext fresh = AllocSetContextCreate(relay->context, "sqsbridge outbox queue",
												ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(fresh);
	SqsQueueConfig *copy = palloc0(sizeof(SqsQueueConfig));
	SqsKeys		keys;
	uint64		place;

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
	copy->is_copy = config->is_copy;
	copy->can_send = config->can_send && !config->is_copy;

	(void) sqs_catalog_keys(config->owner, config->server_oid, &keys);
	MemoryContextSwitchTo(old);
	place = sqs_fingerprint_text(sqs_connection_fingerprint(config, &keys), config->queue_name);
	sqs_wipe_keys(&keys);

	if (queue->sender == NULL)
	{
		queue->sender = sender_create(relay->context, copy->fifo, FIRST_REQUESTS, 0, LINGER_MS);
		queue->reconnect = false;
	}
	else
	{
		/* what is under way may finish where it is */
		if (place != queue->place)
			queue->reconnect = true;
		if (place != queue->place || !queue->config->can_send ||
			(copy->enabled && !queue->config->enabled))
			sender_try_again(queue->sender);
	}
	queue->place = place;
	if (queue->config_context != NULL)
		MemoryContextDelete(queue->config_context);
	queue->config_context = fresh;
	queue->config = copy;
	queue->gone = false;

	/* an entry that is not asked for is somebody else's after a while */
	if (queue->stats != NULL && !has_work(queue))
	{
		pg_atomic_write_u32(&queue->stats->outbox_in_flight, 0);
		sqs_outbox_health_set(queue->stats, SQS_OUTBOX_IDLE, 0);
	}
	queue->stats = NULL;
	queue->stats_at = 0;
	find_stats(queue, 0);
}

static int
compare_ids(const void *a, const void *b)
{
	int32		left = (*(SqsQueueConfig *const *) a)->queue_id;
	int32		right = (*(SqsQueueConfig *const *) b)->queue_id;

	return (left > right) - (left < right);
}

/*
 * The queues there are.  Needs a transaction.  A queue without rows is none
 * of the relay's business.
 */
void
sqs_relay_configure(List *queues)
{
	Relay	   *relay = get_relay();
	int			n = list_length(queues);
	SqsQueueConfig **sorted = palloc(sizeof(SqsQueueConfig *) * Max(n, 1));
	dlist_mutable_iter iter;

	for (int i = 0; i < n; i++)
		sorted[i] = list_nth(queues, i);
	qsort(sorted, n, sizeof(SqsQueueConfig *), compare_ids);

	dlist_foreach_modify(iter, &relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);
		SqsQueueConfig key = {.queue_id = queue->queue_id};
		SqsQueueConfig *wanted = &key;
		SqsQueueConfig **config = bsearch(&wanted, sorted, n, sizeof(SqsQueueConfig *), compare_ids);

		if (config != NULL)
			configure_queue(relay, queue, *config);
		else
		{
			queue_is_gone(relay, queue);
			forget_if_done(relay, queue);
		}
	}
	relay->need_config = false;
	pfree(sorted);
}

/* ---- requests ---- */

/*
 * May the queue have another request now?  It gets no more of them than it
 * leaves free.
 */
static bool
may_start(const Relay *relay, const RelayQueue *queue, int64 now)
{
	int			mine = queue->sender->requests + (queue->url_call != NULL);

	if (now < relay->shortage.not_before ||
		mine >= relay->max_requests - relay->nrequests)
		return false;
	return queue->sender->failures == 0 || relay->nprobes < Max(relay->max_requests / 2, 1);
}

/* The same; who is refused comes first when there is one to be had. */
static bool
try_to_start(Relay *relay, RelayQueue *queue, int64 now)
{
	if (may_start(relay, queue, now))
		return true;
	if (relay->refused == NULL)
		relay->refused = queue;
	return false;
}

static void
request_ends(Relay *relay, bool probe)
{
	relay->nrequests--;
	relay->nprobes -= probe;
}

static void
url_done(SqsCall *call, void *arg)
{
	RelayQueue *queue = arg;
	const AwsError *error = sqs_call_error(call);
	int64		now = sqs_now_ms();

	queue->url_call = NULL;
	request_ends(the_relay, queue->url_probe);
	sqs_count_call(call, queue->stats);
	if (error != NULL && error->class == AWS_ERROR_RESOURCES)
		note_shortage(the_relay, queue, error, now);
	else if (error != NULL)
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
			confirm_item(the_relay, item);
			report->done++;
			break;
		case SEND_REFUSED:
			refuse_item(the_relay, item, entry != NULL ? entry->code : error->code,
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
	request_ends(the_relay, request->probe);
	sqs_count_call(call, queue->stats);
	sender_finish(sender, &request->batch, call, now, item_done, &report);
	if (report.done > 0 && queue->stats != NULL)
	{
		sqs_count(queue->stats, SQS_OUTBOX_SENT, report.done);
		sqs_count(queue->stats, SQS_SENT, report.done);
		sqs_outbox_health_sent(queue->stats);
	}
	if (error != NULL && error->class == AWS_ERROR_RESOURCES)
		note_shortage(the_relay, queue, error, now);
	else if (error != NULL || report.failed != NULL)
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
		the_relay->max_requests = Min(the_relay->max_requests + 1, SQS_RELAY_REQUESTS);
		queue_well(the_relay, queue);
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

/*
 * Send relay->taken.  After an ERROR it holds what is to be put back.
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

	/* from the last, because those that are dropped close the gap */
	for (int i = batch->n - 1; i >= 0; i--)
	{
		RelayItem  *item = (RelayItem *) batch->items[i];
		SqsDraftError *wrong = prepare_message(relay, queue, item, &messages[i]);

		if (wrong == NULL)
			continue;
		refuse_item(relay, item, wrong->code,
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

/* Connect, find the URL.  True if requests can be sent. */
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
				note_shortage(relay, queue, &error, now);
			else
			{
				sender_pause(queue->sender, now);
				queue_error(queue, no_keys != NULL ? no_keys : error.message, true);
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

static void
send_messages(Relay *relay, RelayQueue *queue, int64 now)
{
	Sender	   *sender = queue->sender;
	bool		converts = GetDatabaseEncoding() != PG_UTF8 && GetDatabaseEncoding() != PG_SQL_ASCII;

	if (sender->requests == 0)
	{
		if (queue->gone)
		{
			queue_is_gone(relay, queue);
			return;
		}
		if (queue->reconnect)
		{
			disconnect(queue);
			queue->reconnect = false;
			/* what has failed since failed where it is not sent to any more */
			sender_try_again(sender);
		}
		if (sender->fifo != queue->config->fifo)
		{
			/* what is in hand was put together for another kind of queue */
			relay_unload(relay, queue);
			queue->sender = sender_create(relay->context, queue->config->fifo,
										  FIRST_REQUESTS, 0, LINGER_MS);
			sender_destroy(sender);
			return;
		}
		if (!queue->config->enabled || !queue->config->can_send)
		{
			if (sender->waiting > 0)
				relay_unload(relay, queue);
			if (has_work(queue) && !queue->config->can_send && queue->config->enabled &&
				now >= sender->paused_until)
			{
				/* looked at again with the next configuration */
				sender->paused_until = now + CANNOT_SEND_MS;
				queue_error(queue, queue->config->problem, true);
			}
			return;
		}
	}
	if (queue->gone || sender->waiting == 0 || now < sender->paused_until ||
		sender->fifo != queue->config->fifo ||
		!queue->config->enabled || !queue->config->can_send || !is_ready(relay, queue, now))
		return;
	while (sender_next_time(sender, now) <= now && try_to_start(relay, queue, now) &&
		   sender_take(sender, now, &relay->taken))
	{
		/* to find the conversion to UTF-8 takes a look at the catalogs */
		if (converts && !IsTransactionState())
			sqs_begin();
		send_taken(relay, queue, now);
	}
	if (IsTransactionState())
	{
		sqs_commit();
		MemoryContextSwitchTo(relay->scratch);
	}
}

/* The same, in an error boundary: another queue's rows are as good as ever. */
static void
try_to_send(Relay *relay, RelayQueue *queue, int64 now)
{
	PG_TRY();
	{
		relay->taken.n = 0;
		send_messages(relay, queue, now);
	}
	PG_CATCH();
	{
		char	   *text = recover(relay);

		if (queue->sender != NULL && relay->taken.n > 0)
			sender_cannot_prepare(queue->sender, &relay->taken, now);
		else if (queue->sender != NULL)
			sender_pause(queue->sender, now);
		queue_error(queue, text, true);
	}
	PG_END_TRY();
}

static void
report_state(Relay *relay, RelayQueue *queue, int64 now)
{
	Sender	   *sender = queue->sender;
	SqsOutboxState state;
	bool		troubled;
	long		next = 0;

	if (queue->stats == NULL)
		return;
	pg_atomic_write_u32(&queue->stats->outbox_in_flight, sender->under_way);
	troubled = queue->reading.failures > 0 || queue->recording.failures > 0 ||
		relay->reading.failures > 0 || queue->nheld > 0 ||
		(relay->deleting.failures > 0 && queue->nconfirmed > 0) ||
		(now < relay->shortage.last + 2 * SHORTAGE_MS && sender->under_way == 0);
	if (!has_work(queue))
		state = SQS_OUTBOX_IDLE;
	else if (!queue->config->enabled && sender->under_way == 0)
		state = SQS_OUTBOX_DISABLED;
	else if (troubled || queue->stranded > 0 || sender->failures > 0 ||
			 sender_is_held_up(sender) ||
			 (!queue->config->can_send && sender->under_way == 0))
		state = SQS_OUTBOX_BACKING_OFF;
	else
		state = SQS_OUTBOX_SENDING;
	if (state == SQS_OUTBOX_BACKING_OFF && !troubled && sender->requests == 0 &&
		queue->url_call == NULL)
	{
		if (sender->waiting > 0)
			next = Max(sender_next_time(sender, now) - now, 0);
		else
			next = Max(sender->paused_until - now, 0);
	}
	sqs_outbox_health_set(queue->stats, state, next);
}

/* ---- the turn ---- */

/* Ms until the queue has something to do, without anything happening. */
static long
queue_timeout(Relay *relay, RelayQueue *queue, int64 now, bool stopping)
{
	long		timeout = 10000;
	Sender	   *sender = queue->sender;

	if (queue->nrefused > 0)
		timeout = Min(timeout, Max(Max(queue->refused_since + DELETE_LINGER_MS,
									   queue->recording.not_before) - now, 0));
	if (stopping)
		return timeout;
	if (is_to_restart(queue, now))
		return 0;
	if (queue->gone || sender == NULL)
		return timeout;

	/* who waits for a request of somebody else's to end is woken by that */
	if (sender->waiting > 0 && queue->config->enabled && queue->config->can_send &&
		queue->url_call == NULL && !queue->reconnect)
	{
		if (may_start(relay, queue, now))
			timeout = Min(timeout, Max(sender_next_time(sender, now) - now, 0));
		else if (now < relay->shortage.not_before)
			timeout = Min(timeout, relay->shortage.not_before - now);
	}
	if (has_work(queue) && sender->waiting == 0)
	{
		if (now < queue->reading.not_before)
			timeout = Min(timeout, queue->reading.not_before - now);
		if (now < sender->paused_until)
			timeout = Min(timeout, sender->paused_until - now);
	}
	if (queue->next_due != DT_NOEND && relay_may_read(queue, now) &&
		relay_has_room(relay, queue) && relay_runs_low(queue))
		timeout = Min(timeout, Max(TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
																   queue->next_due),
								   relay->standby_at - now));
	return timeout;
}

/* Rows that only a person can set going: say so. */
static void
report_stranded(Relay *relay)
{
	dlist_iter	iter;

	relay->any_stranded = false;
	dlist_foreach(iter, &relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);
		const char *text;

		if (queue->stranded == 0)
		{
			if (queue->told_stranded != 0)
				queue_well(relay, queue);
			queue->told_stranded = 0;
			continue;
		}
		relay->any_stranded = true;
		if (queue->gone && queue->told_stranded != queue->stranded)
			ereport(LOG,
					(errmsg("messages of %lld transactions wait in the outbox for queue %d, which is not registered, and have no records in %s.outbox_batches",
							(long long) queue->stranded, queue->queue_id, SQS_INTERNAL_SCHEMA),
					 errhint("A superuser can have them recorded as failed by sqs_adopt_queues('send').")));
		else if (!queue->gone && queue->config == NULL)
		{
			/* it is not known yet */
			relay->stranded_at = sqs_now_ms() + STATS_RETRY_MS;
			continue;
		}
		queue->told_stranded = queue->stranded;

		/* of a copy everything is, and its own problem says so */
		if (queue->gone || queue->config->is_copy)
			continue;
		find_stats(queue, queue->stats_at);
		text = psprintf("%lld transactions' messages were restored, or have lost their records in %s.outbox_batches; a superuser can have them sent by sqs_adopt_queues('send')",
						(long long) queue->stranded, SQS_INTERNAL_SCHEMA);
		queue_error(queue, text, true);
	}
}

typedef enum RelayJob
{
	JOB_READ,
	JOB_DELETE,
	JOB_RECORD,
	JOB_FIND_STRANDED
} RelayJob;

/*
 * Run one of the transactions of relay_rows.c in an error boundary.  Whatever
 * is wrong with one table, or with one queue's rows, only that waits.
 */
static void
try_job(Relay *relay, RelayJob job, RelayQueue *queue, int64 now)
{
	PG_TRY();
	{
		switch (job)
		{
			case JOB_READ:
				relay_read_rows(relay, now);
				break;
			case JOB_DELETE:
				relay_delete_confirmed(relay, now);
				break;
			case JOB_RECORD:
				relay_record_refused(relay, queue, now);
				break;
			case JOB_FIND_STRANDED:
				relay_find_stranded(relay, now);
				report_stranded(relay);
				break;
		}
	}
	PG_CATCH();
	{
		char	   *text = recover(relay);

		switch (job)
		{
			case JOB_READ:
				if (relay->current != NULL)
					relay_trouble(relay, relay->current, &relay->current->reading, false, text, now);
				else
				{
					relay->scan = true;
					relay_trouble(relay, NULL, &relay->reading, false, text, now);
				}
				relay->current = NULL;
				break;
			case JOB_DELETE:
				relay_trouble(relay, NULL, &relay->deleting, false, text, now);
				break;
			case JOB_RECORD:
				queue->one_by_one = true;
				relay_trouble(relay, queue, &queue->recording, false, text, now);
				break;
			case JOB_FIND_STRANDED:
				relay->stranded_at = now + STRANDED_WAIT_MS;
				ereport(LOG,
						(errmsg("sqsbridge cannot look for lost rows of the outbox: %s", text)));
				break;
		}
	}
	PG_END_TRY();
	MemoryContextSwitchTo(relay->scratch);
}

/* Transactions that are due. */
static void
do_jobs(Relay *relay, bool stopping, int64 now)
{
	bool		idle = relay->nrequests == 0;
	bool		held = (relay->nheld > 0 || !dlist_is_empty(&relay->emptied)) &&
		now >= relay->holding.not_before;
	dlist_iter	iter;

	/* what is confirmed comes first: nothing may keep it from being deleted */
	if (now >= relay->deleting.not_before &&
		(held || relay->nconfirmed >= DELETE_ROWS ||
		 (relay->nconfirmed > 0 &&
		  (idle || now >= relay->confirmed_since + DELETE_LINGER_MS))))
		try_job(relay, JOB_DELETE, NULL, now);

	dlist_foreach(iter, &relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);

		if (queue->nrefused > 0 && now >= queue->recording.not_before &&
			(idle || queue->nrefused >= DELETE_ROWS ||
			 now >= queue->refused_since + DELETE_LINGER_MS))
			try_job(relay, JOB_RECORD, queue, now);
		if (is_to_restart(queue, now))
			restart_queue(relay, queue);
	}

	if (!stopping && now >= relay->reading.not_before &&
		(relay->news || !relay->scanned || (relay->scan && now >= relay->scan_not_before) ||
		 (now >= relay->standby_at && relay_wants_rows(relay, now))))
		try_job(relay, JOB_READ, NULL, now);
	if (relay->out_of_room)
		make_room(relay, now);
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
	MemoryContext old = MemoryContextSwitchTo(relay->scratch);
	dlist_iter	iter;
	long		clients;

	sqs_shared_clients_poll();
	relay->news = relay->news || news;
	relay->scan = relay->scan || scan;
	if (scan && relay->any_stranded)
		relay->stranded_at = Min(relay->stranded_at, now);
	do_jobs(relay, stopping, now);
	if (relay->obsolete)
	{
		MemoryContextSwitchTo(old);
		sqs_relay_reset();
		*timeout = 0;
		return false;
	}

	now = sqs_now_ms();
	relay->refused = NULL;
	if (relay->shortage.failures > 0 && now > relay->shortage.last + SHORTAGE_OVER_MS)
		relay_trouble_over(relay, NULL, &relay->shortage);
	dlist_foreach(iter, &relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);

		if (queue->sender == NULL)
			continue;
		find_stats(queue, now);
		if (!stopping)
			try_to_send(relay, queue, now);
		if (queue->sender == NULL)
			continue;
		report_state(relay, queue, now);
		if (queue->nitems > 0)
			queue->idle_since = now;
		else if (queue->shared != NULL && queue->url_call == NULL &&
				 now > queue->idle_since + DISCONNECT_MS)
			disconnect(queue);
	}
	while (relay->refused != NULL && dlist_head_node(&relay->queues) != &relay->refused->node)
		dlist_push_tail(&relay->queues, dlist_pop_head_node(&relay->queues));
	if (!stopping && relay->scanned && now >= relay->reading.not_before)
	{
		int64		due = Max(relay->stranded_at, relay->stranded_not_before);

		if (now >= due &&
			(relay->nrequests == 0 || now >= relay->stranded_at + STRANDED_WAIT_MS))
			try_job(relay, JOB_FIND_STRANDED, NULL, now);
		else if (now < due)
			*timeout = Min(*timeout, due - now);
	}

	dlist_foreach(iter, &relay->queues)
		*timeout = Min(*timeout, queue_timeout(relay, dlist_container(RelayQueue, node, iter.cur),
											   now, stopping));
	*timeout = Min(*timeout, 10000);
	clients = sqs_shared_clients_timeout();
	if (clients >= 0)
		*timeout = Min(*timeout, clients);
	if (relay->nconfirmed > 0)
		*timeout = Min(*timeout, Max(Max(relay->confirmed_since + DELETE_LINGER_MS,
										 relay->deleting.not_before) - now, 0));
	if (relay->nheld > 0 || !dlist_is_empty(&relay->emptied))
		*timeout = Min(*timeout, Max(Max(relay->holding.not_before,
										 relay->deleting.not_before) - now, 0));
	if (!stopping && (relay->news || !relay->scanned || relay_wants_rows(relay, now)))
		*timeout = Min(*timeout, Max(Max(relay->reading.not_before,
										 relay->news ? 0 : relay->standby_at) - now, 0));
	MemoryContextSwitchTo(old);
	MemoryContextReset(relay->scratch);
	return relay->nrequests > 0 || relay->nconfirmed > 0;
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
	if (!the_relay->scanned || the_relay->nrequests > 0)
		return false;
	dlist_foreach(iter, &the_relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);

		if (has_work(queue) || queue->next_due != DT_NOEND)
			return false;
	}
	return true;
}

/* ---- beginning anew ---- */

/* If the extension was created anew, it may give the numbers again. */
static void
forget_rows_of_the_past(const Relay *relay)
{
	if (confirmed_rows == NULL || confirmed_rows_oid == relay->rows_oid)
		return;
	hash_destroy(confirmed_rows);
	confirmed_rows = NULL;
}

bool
relay_was_confirmed(Relay *relay, int64 batch_id, int64 id)
{
	ConfirmedRow row = {batch_id, id};

	forget_rows_of_the_past(relay);
	return confirmed_rows != NULL &&
		hash_search(confirmed_rows, &row, HASH_REMOVE, NULL) != NULL;
}

static void
remember_item(Relay *relay, const RelayItem *item)
{
	ConfirmedRow row = {item->batch->key.batch_id, item->id};

	forget_rows_of_the_past(relay);
	if (confirmed_rows == NULL)
	{
		HASHCTL		ctl;

		ctl.keysize = sizeof(ConfirmedRow);
		ctl.entrysize = sizeof(ConfirmedRow);
		ctl.hcxt = TopMemoryContext;
		confirmed_rows = hash_create("sqsbridge confirmed rows", 256, &ctl,
									 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		confirmed_rows_oid = relay->rows_oid;
	}
	(void) hash_search(confirmed_rows, &row, HASH_ENTER, NULL);
}

static void
remember_items(Relay *relay, dlist_head *items)
{
	dlist_iter	iter;

	dlist_foreach(iter, items)
		remember_item(relay, dlist_container(RelayItem, node, iter.cur));
}

/*
 * Read a queue anew whose rows were put down.  What of them is confirmed, and
 * could not be deleted yet, keeps its batch from being read again as little as
 * it keeps others: it is remembered, met again, and not sent again.  What was
 * refused and could not be recorded yet is sent again, and refused again.
 */
static void
restart_queue(Relay *relay, RelayQueue *queue)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &relay->confirmed)
	{
		RelayItem  *item = dlist_container(RelayItem, node, iter.cur);

		if (item->batch->queue != queue)
			continue;
		remember_item(relay, item);
		dlist_delete(iter.cur);
		relay->nconfirmed--;
		queue->nconfirmed--;
		relay_give_up_item(relay, item);
	}
	dlist_foreach_modify(iter, &relay->held)
	{
		RelayItem  *item = dlist_container(RelayItem, node, iter.cur);

		if (item->batch->queue != queue)
			continue;
		remember_item(relay, item);
		dlist_delete(iter.cur);
		relay->nheld--;
		queue->nheld--;
		queue->nconfirmed--;
		relay_give_up_item(relay, item);
	}
	while (!dlist_is_empty(&queue->refused))
		relay_give_up_item(relay, dlist_container(RelayItem, node,
												  dlist_pop_head_node(&queue->refused)));
	queue->nrefused = 0;
	queue->one_by_one = false;
	memset(&queue->recording, 0, sizeof(queue->recording));
	relay_forget_batches(relay, queue);
	queue->unloading = false;
}

/*
 * Keep in mind which rows are confirmed and not deleted: they are not to be
 * sent again.  If there is no memory for that, it cannot be helped.
 */
static void
remember_confirmed(Relay *relay)
{
	MemoryContext context = CurrentMemoryContext;

	if (relay->obsolete || relay->nconfirmed + relay->nheld == 0)
		return;
	PG_TRY();
	{
		remember_items(relay, &relay->confirmed);
		remember_items(relay, &relay->held);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
}

/*
 * After an error that leaves in doubt what is in memory, or to leave: what is
 * under way is abandoned, and everything read anew.
 */
void
sqs_relay_reset(void)
{
	Relay	   *relay = the_relay;
	dlist_iter	iter;

	if (relay == NULL)
		return;
	the_relay = NULL;
	remember_confirmed(relay);
	dlist_foreach(iter, &relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);
		dlist_iter	request;

		if (queue->stats != NULL)
			pg_atomic_write_u32(&queue->stats->outbox_in_flight, 0);
		dlist_foreach(request, &queue->requests)
			sqs_call_abandon(dlist_container(RelayRequest, node, request.cur)->call);
		if (queue->url_call != NULL)
			sqs_call_abandon(queue->url_call);
		if (queue->shared != NULL)
			sqs_shared_client_release(queue->shared);
	}
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextDelete(relay->context);

	/* nothing is under way: this closes what is open */
	sqs_shared_clients_poll();
}
