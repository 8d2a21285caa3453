/*-------------------------------------------------------------------------
 *
 * relay_state.c
 *	  What the relay of the outbox has in memory: queues, batches, items.
 *
 * Knows neither tables nor requests.  The account of a queue's items (nitems,
 * item_bytes, nconfirmed, nheld, nrefused) and of a batch's (rows) is kept
 * here, where items enter and leave; only relay_settle.c, which knows what has
 * become of a row, moves them between the lists of what is done.
 *
 * What is confirmed outlives the items: when the relay, or a queue, is begun
 * anew, the rows that may still be in the table are remembered by their key,
 * and are confirmed as soon as they are met again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/worker.h"
#include "send/relay_state.h"

/* A row that SQS has confirmed and that may still be in the table. */
typedef struct ConfirmedRow
{
	int64		batch_id;
	int64		id;
} ConfirmedRow;

/* of table confirmed_rows_oid; NULL: none */
static HTAB *confirmed_rows = NULL;
static Oid	confirmed_rows_oid = InvalidOid;

Relay *
sqs_relay_create(int request_limit)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "sqsbridge relay",
												  ALLOCSET_DEFAULT_SIZES);
	Relay	   *relay = MemoryContextAllocZero(context, sizeof(Relay));
	HASHCTL		ctl;

	relay->context = context;
	relay->scratch = AllocSetContextCreate(context, "sqsbridge relay scratch",
										   ALLOCSET_DEFAULT_SIZES);
	dlist_init(&relay->queues);
	dlist_init(&relay->confirmed);
	dlist_init(&relay->held);
	dlist_init(&relay->emptied);
	relay->max_requests = relay->request_limit = request_limit;
	relay->stranded_at = sqs_now_ms();
	ctl.keysize = sizeof(RelayBatchKey);
	ctl.entrysize = sizeof(RelayBatch);
	ctl.hcxt = context;
	relay->batches = hash_create("sqsbridge outbox batches", 256, &ctl,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return relay;
}

/* ---- queues ---- */

RelayQueue *
sqs_relay_queue(Relay *relay, int32 queue_id)
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
	queue->relay = relay;
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

bool
sqs_relay_has_work(const RelayQueue *queue)
{
	if (queue->nitems > 0 || queue->put_down || queue->stranded > 0)
		return true;
	for (BatchStreamId id = 0; id < NUM_STREAMS; id++)
	{
		if (queue->streams[id].nbatches > 0 || queue->streams[id].more)
			return true;
	}
	return false;
}

/*
 * Nothing may lead to it: not an item, not a batch, not a time at which there
 * will be one, nor what the log was told of it.
 */
void
sqs_relay_forget_queue_if_done(Relay *relay, RelayQueue *queue)
{
	dlist_iter	iter;

	if (!queue->gone || queue->sender != NULL || sqs_relay_has_work(queue) ||
		queue->next_due != DT_NOEND || queue->told_stranded != 0)
		return;
	dlist_foreach(iter, &relay->emptied)
	{
		if (dlist_container(RelayBatch, node, iter.cur)->queue == queue)
			return;
	}
	if (relay->unserved == queue)
		relay->unserved = NULL;
	dlist_delete(&queue->node);
	pfree(queue);
}

/* ---- batches ---- */

int
sqs_relay_compare_places(const OutboxPlace *a, const OutboxPlace *b)
{
	if (a->deliver_at != b->deliver_at)
		return a->deliver_at < b->deliver_at ? -1 : 1;
	if (a->position != b->position)
		return a->position < b->position ? -1 : 1;
	return 0;
}

void
sqs_relay_list_batch(BatchStream *stream, RelayBatch *batch)
{
	dlist_node *after = NULL;
	dlist_iter	iter;

	/* nearly always it belongs at the end */
	dlist_reverse_foreach(iter, &stream->batches)
	{
		if (sqs_relay_compare_places(&dlist_container(RelayBatch, node, iter.cur)->place,
									 &batch->place) <= 0)
		{
			after = iter.cur;
			break;
		}
	}
	if (after != NULL)
		dlist_insert_after(after, &batch->node);
	else
		dlist_push_head(&stream->batches, &batch->node);
	stream->nbatches++;
	batch->listed = true;
}

void
sqs_relay_unlist_batch(BatchStream *stream, RelayBatch *batch)
{
	dlist_delete(&batch->node);
	stream->nbatches--;
	batch->listed = false;
}

void
sqs_relay_forget_batch(Relay *relay, RelayBatch *batch)
{
	hash_search(relay->batches, &batch->key, HASH_REMOVE, NULL);
}

void
sqs_relay_rewind_queue(RelayQueue *queue)
{
	queue->streams[STREAM_PLAIN].tail.deliver_at = DT_NOBEGIN;
	queue->streams[STREAM_PLAIN].tail.position = PG_INT64_MIN;
	queue->streams[STREAM_PLAIN].more = true;
	queue->streams[STREAM_TIMED].tail.deliver_at = DT_NOBEGIN;
	queue->streams[STREAM_TIMED].tail.position = PG_INT64_MAX;
	queue->streams[STREAM_TIMED].more = true;
}

/* Forget the batches of a queue of which no row is in hand. */
static void
forget_batches(Relay *relay, RelayQueue *queue)
{
	Assert(queue->nitems == 0);
	for (BatchStreamId id = 0; id < NUM_STREAMS; id++)
	{
		BatchStream *stream = &queue->streams[id];

		while (!dlist_is_empty(&stream->batches))
		{
			RelayBatch *batch = dlist_head_element(RelayBatch, node, &stream->batches);

			sqs_relay_unlist_batch(stream, batch);
			sqs_relay_forget_batch(relay, batch);
		}
	}
	sqs_relay_rewind_queue(queue);
}

/* ---- rows that are confirmed ---- */

/* If the extension was created anew, it may give the same numbers again. */
static void
forget_rows_of_the_past(const Relay *relay)
{
	if (confirmed_rows == NULL || confirmed_rows_oid == relay->rows_oid)
		return;
	hash_destroy(confirmed_rows);
	confirmed_rows = NULL;
}

/* Was the row confirmed before?  It is forgotten, as it is in hand now. */
static bool
was_confirmed(Relay *relay, int64 batch_id, int64 id)
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
 * They are not to be sent again.  If there is no memory for that, it cannot be
 * helped.
 */
void
sqs_relay_remember_confirmed(Relay *relay)
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

/* ---- items ---- */

static void
forget_bytes(Relay *relay, RelayItem *item, size_t bytes)
{
	item->bytes -= bytes;
	item->batch->queue->item_bytes -= bytes;
	relay->item_bytes -= bytes;
}

void
sqs_relay_free_item(Relay *relay, RelayItem *item)
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

/*
 * The batch may have been read to its end, and has rows again that are not
 * dealt with.  So its record must stay, and when no row of it is in hand it is
 * not known any more: who reads the queue anew finds it then.
 */
void
sqs_relay_give_up_item(Relay *relay, RelayItem *item)
{
	RelayBatch *batch = item->batch;

	sqs_relay_free_item(relay, item);
	batch->given_up = true;
	if (--batch->rows == 0 && !batch->listed)
		sqs_relay_forget_batch(relay, batch);
}

/* What is kept is what it takes to find the row. */
void
sqs_relay_confirm_item(Relay *relay, RelayItem *item)
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

void
sqs_relay_refuse_item(Relay *relay, RelayItem *item, const char *error_code,
					  const char *error_message)
{
	RelayQueue *queue = item->batch->queue;
	char	   *message = MemoryContextStrdup(relay->context, error_message);

	item->error_code = MemoryContextStrdup(relay->context, error_code);
	item->error_message = message;
	list_refused(item);
	if (queue->stats != NULL)
		sqs_count(queue->stats, SQS_OUTBOX_FAILED, 1);
}

/* Allocates nothing, so it cannot fail. */
void
sqs_relay_fail_not_registered(RelayItem *item)
{
	item->not_registered = true;
	list_refused(item);
}

void
sqs_relay_add_item(Relay *relay, RelayQueue *queue, RelayItem *item, uint64 group_key, int64 now)
{
	bool		confirmed = was_confirmed(relay, item->batch->key.batch_id, item->id);

	if (!confirmed && !queue->gone)
		sqs_sender_add(queue->sender, &item->send, group_key, now);
	item->batch->rows++;
	queue->nitems++;
	queue->item_bytes += item->bytes;
	relay->item_bytes += item->bytes;
	if (confirmed)
		sqs_relay_confirm_item(relay, item);
	else if (queue->gone)
		sqs_relay_fail_not_registered(item);
}

/*
 * Read a queue anew whose rows were put down.  What of them is confirmed, and
 * could not be deleted yet, keeps its batch from being read again as little as
 * it keeps others: it is remembered, met again, and not sent again.  What was
 * refused and could not be recorded yet is sent again, and refused again.
 */
void
sqs_relay_restart_queue(Relay *relay, RelayQueue *queue)
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
		sqs_relay_give_up_item(relay, item);
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
		sqs_relay_give_up_item(relay, item);
	}
	while (!dlist_is_empty(&queue->refused))
		sqs_relay_give_up_item(relay, dlist_container(RelayItem, node,
													  dlist_pop_head_node(&queue->refused)));
	queue->nrefused = 0;
	queue->one_by_one = false;
	memset(&queue->recording, 0, sizeof(queue->recording));
	forget_batches(relay, queue);
	queue->put_down = false;
}
