/*-------------------------------------------------------------------------
 *
 * relay_state.c
 *	  What the relay of the outbox has in memory: queues, batches, items.
 *
 * This file knows neither tables nor requests.  It keeps the counts of a
 * queue's items (nitems, item_bytes, nconfirmed, nheld, nrefused) and of a
 * batch's rows up to date, as items enter and leave.  Only relay_settle.c,
 * which knows what became of a row, moves items between the lists of
 * finished ones.
 *
 * Confirmations outlive the items: when the relay or a queue starts again,
 * the keys of confirmed rows that may still be in the table are remembered.
 * When such a row is read again, it counts as confirmed at once.
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

/* ConfirmedRow entries, for the table confirmed_rows_oid; NULL if none */
static HTAB *confirmed_rows = NULL;
static Oid	confirmed_rows_oid = InvalidOid;

/* Create an empty relay; each turn sets the limit of its requests. */
Relay *
sqs_relay_create(void)
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
	relay->stranded_at = sqs_now_ms();
	ctl.keysize = sizeof(RelayBatchKey);
	ctl.entrysize = sizeof(RelayBatch);
	ctl.hcxt = context;
	relay->batches = hash_create("sqsbridge outbox batches", 256, &ctl,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return relay;
}

/* ---- queues ---- */

/*
 * Get the queue with this id.  If it is not known, it is created without a
 * configuration, and need_config is set.
 */
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

/* Is there anything of the queue to be sent, recorded or deleted? */
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
 * Free a queue that is not registered any more, if nothing refers to it: no
 * item, no batch, no deliver_at to come, and no report about stranded rows.
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

/* Compare two places; negative, 0 or positive. */
int
sqs_relay_compare_places(const OutboxPlace *a, const OutboxPlace *b)
{
	if (a->deliver_at != b->deliver_at)
		return a->deliver_at < b->deliver_at ? -1 : 1;
	if (a->position != b->position)
		return a->position < b->position ? -1 : 1;
	return 0;
}

/* Insert a batch into its stream, at its place. */
void
sqs_relay_list_batch(BatchStream *stream, RelayBatch *batch)
{
	dlist_node *after = NULL;
	dlist_iter	iter;

	/* its place is nearly always at the end */
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

/* Remove a batch from its stream. */
void
sqs_relay_unlist_batch(BatchStream *stream, RelayBatch *batch)
{
	dlist_delete(&batch->node);
	stream->nbatches--;
	batch->listed = false;
}

/* Free a batch that is in no list and has no item. */
void
sqs_relay_forget_batch(Relay *relay, RelayBatch *batch)
{
	hash_search(relay->batches, &batch->key, HASH_REMOVE, NULL);
}

/*
 * Have all batches of the queue read again.  Those that are still in memory
 * are recognized and skipped.
 */
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

/* Forget all batches of a queue that has no rows in hand. */
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

/* ---- confirmed rows ---- */

/*
 * Forget the confirmed rows of an earlier table: if the extension was
 * created again, the new one may use the same ids.
 */
static void
forget_rows_of_the_past(const Relay *relay)
{
	if (confirmed_rows == NULL || confirmed_rows_oid == relay->rows_oid)
		return;
	hash_destroy(confirmed_rows);
	confirmed_rows = NULL;
}

/*
 * Was the row confirmed before?  If so, it is removed from the table of
 * confirmed rows, because it is in hand now.
 */
static bool
was_confirmed(Relay *relay, int64 batch_id, int64 id)
{
	ConfirmedRow row = {batch_id, id};

	forget_rows_of_the_past(relay);
	return confirmed_rows != NULL &&
		hash_search(confirmed_rows, &row, HASH_REMOVE, NULL) != NULL;
}

/* Remember that the row of an item is confirmed. */
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

/* Likewise for a list of items. */
static void
remember_items(Relay *relay, dlist_head *items)
{
	dlist_iter	iter;

	dlist_foreach(iter, items)
		remember_item(relay, dlist_container(RelayItem, node, iter.cur));
}

/*
 * Remember all confirmed rows that are not deleted, beyond the end of the
 * relay, so that they are not sent again.  Nothing can be done if there is
 * no memory for that.
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

/* The item needs less memory. */
static void
forget_bytes(Relay *relay, RelayItem *item, size_t bytes)
{
	item->bytes -= bytes;
	item->batch->queue->item_bytes -= bytes;
	relay->item_bytes -= bytes;
}

/* Free an item.  The caller updates the batch's count of rows. */
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
 * Free an item whose row is to be read again.  Its batch may have been read
 * to its end already, so the record must stay, and the batch is forgotten
 * with its last row in hand.  It is found again when the queue is read
 * again.
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

/* SQS has confirmed the item.  Keep only what is needed to find the row. */
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

/* Put an item on its queue's list of refused ones. */
static void
list_refused(RelayItem *item)
{
	RelayQueue *queue = item->batch->queue;

	if (queue->nrefused++ == 0)
		queue->refused_since = sqs_now_ms();
	dlist_push_tail(&queue->refused, &item->node);
}

/*
 * SQS has refused the item; the texts are copied.  An ERROR (out of memory)
 * leaves the item as it was.
 */
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

/* The item's queue is not registered any more.  Cannot fail. */
void
sqs_relay_fail_not_registered(RelayItem *item)
{
	item->not_registered = true;
	list_refused(item);
}

/*
 * Take over an item for a row that has been read.  It goes to the Sender,
 * unless its row is known to be confirmed or its queue is not registered any
 * more.  group_key is as for sqs_sender_add().  An ERROR leaves the item
 * with the caller, and everything else as it was.
 */
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
 * Have a queue whose rows were put down read again from the beginning.
 *
 * Confirmed rows that could not be deleted yet are remembered as such, so
 * that they are not sent again when they are read again.  Refused rows that
 * could not be recorded yet are sent again, and refused again.
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
