/*-------------------------------------------------------------------------
 *
 * relay_settle.c
 *	  Deleting rows of the outbox that are confirmed or refused.
 *
 * Rows that SQS has confirmed are deleted.  Rows that it has refused, and
 * rows of queues that are not registered any more, are moved to
 * outbox_failures.  These are separate transactions: if a failure cannot be
 * recorded, confirmed rows must be deleted nevertheless, because otherwise
 * they would be sent again.  Each is short and waits for no lock on a table
 * or row.  What could not be done is noted in the relay.  Memory changes
 * only after the commit, so an ERROR leaves it as it was.
 *
 * A row is deleted only if it has the id of the row that was sent, because
 * somebody may have deleted that one, and another may have taken its place.
 * A row that is locked or has just been changed is left for later.  A batch
 * record is deleted with the last row of the batch, if the batch was read to
 * its end and none of its rows was put down.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/worker.h"
#include "send/outbox_failures.h"
#include "send/relay_settle.h"
#include "send/relay_tables.h"
#include "send/relay_trouble.h"

#define MAX_RECORDED		500 /* refused rows in one transaction */
#define NOT_GONE_WAIT_MS	500
#define ROW_IS_LOCKED \
	"a row of table " SQS_INTERNAL_SCHEMA ".outbox_rows or outbox_batches is locked"

/* ---- deletion ---- */

/* The outcome of a deletion by the table writer. */
static RelayOutcome
outcome_of(SqsWriteResult result)
{
	/* changed since the snapshot was taken: look again with the next one */
	return result == SQS_WRITTEN ? RELAY_DELETED : RELAY_BUSY;
}

/*
 * Delete a tuple that is not where it was read, because it was updated or
 * the table was rewritten.  Scan the index with these keys for the tuple
 * whose "column" is "id".  If there is none, somebody has deleted it.
 */
static RelayOutcome
delete_moved(SqsWriter *writer, Relation index, Snapshot snapshot, int nkeys, ScanKey keys,
			 int column, int64 id)
{
	Relation	rel = sqs_writer_relation(writer);
	SysScanDesc scan = systable_beginscan_ordered(rel, index, snapshot, nkeys, keys);
	HeapTuple	tuple;
	RelayOutcome outcome = RELAY_GONE;

	while ((tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;

		if (DatumGetInt64(sqs_getattr(tuple, column + 1, RelationGetDescr(rel), &isnull)) != id)
			continue;
		outcome = outcome_of(sqs_writer_delete(writer, &tuple->t_self, false));
		break;
	}
	systable_endscan_ordered(scan);
	return outcome;
}

/*
 * Is the tuple with this id still at its place?  If somebody has deleted it,
 * another one may be there, which has not been sent.
 */
static bool
is_in_place(Relation rel, BlockNumber nblocks, TupleTableSlot *slot, Snapshot snapshot,
			Oid relfilenode, ItemPointer tid, int column, int64 id)
{
	bool		isnull;
	bool		is;

	if (relfilenode != rel->rd_rel->relfilenode || ItemPointerGetBlockNumber(tid) >= nblocks ||
		!table_tuple_fetch_row_version(rel, tid, snapshot, slot))
		return false;
	is = DatumGetInt64(slot_getattr(slot, column + 1, &isnull)) == id;
	ExecClearTuple(slot);
	return is;
}

/* Delete the row of an item. */
static RelayOutcome
delete_row(OutboxTables *tables, RelayItem *item)
{
	ScanKeyData keys[2];

	if (is_in_place(tables->rows, tables->row_blocks, tables->row_slot, tables->snapshot,
					item->relfilenode, &item->tid, ROW_ID, item->id))
		return outcome_of(sqs_writer_delete(tables->row_writer, &item->tid, false));
	ScanKeyInit(&keys[0], ROW_BATCH_ID + 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(item->batch->key.batch_id));
	ScanKeyInit(&keys[1], ROW_ID + 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(item->id));
	return delete_moved(tables->row_writer, tables->rows_index, tables->snapshot, 2, keys,
						ROW_ID, item->id);
}

/*
 * Delete a batch record.  The batch is native and was read to its end, so
 * all rows that it ever had were visible then, and have been dealt with.
 */
static RelayOutcome
delete_batch(OutboxTables *tables, RelayBatch *batch)
{
	ScanKeyData keys[3];

	if (is_in_place(tables->batches, tables->batch_blocks, tables->batch_slot, tables->snapshot,
					batch->relfilenode, &batch->tid, BATCH_ID, batch->key.batch_id))
		return outcome_of(sqs_writer_delete(tables->batch_writer, &batch->tid, false));
	ScanKeyInit(&keys[0], BATCH_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(batch->queue->queue_id));
	ScanKeyInit(&keys[1], BATCH_DELIVER_AT + 1, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ,
				TimestampTzGetDatum(batch->place.deliver_at));
	ScanKeyInit(&keys[2], BATCH_POSITION + 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(batch->place.position));
	return delete_moved(tables->batch_writer, tables->order_index, tables->snapshot, 3, keys,
						BATCH_ID, batch->key.batch_id);
}

/* Insert the row of a refused item into outbox_failures. */
static void
insert_failure(Relay *relay, OutboxTables *tables, RelayItem *item)
{
	RelayQueue *queue = item->batch->queue;
	SqsQueueConfig *config = queue->gone ? NULL : queue->config;
	Datum		row[ROW_NATTS];
	bool		row_nulls[ROW_NATTS];
	Datum		values[FAILURE_NATTS];
	bool		nulls[FAILURE_NATTS];
	const char *message;

	heap_deform_tuple(item->tuple, relay->row_desc, row, row_nulls);
	for (int i = 0; i < SQS_KEPT_COLUMNS; i++)
	{
		values[sqs_kept_columns[i].failure] = row[sqs_kept_columns[i].row];
		nulls[sqs_kept_columns[i].failure] = row_nulls[sqs_kept_columns[i].row];
	}
	values[FAILURE_ERROR_CODE] = CStringGetTextDatum(item->not_registered ?
													 "QueueNotRegistered" : item->error_code);
	nulls[FAILURE_ERROR_CODE] = false;
	if (!item->not_registered)
		message = item->error_message;
	else if (item->may_be_sent)
		message = "the queue was unregistered while the message was being sent, and may have it";
	else
		message = "the queue is not registered any more";
	values[FAILURE_ERROR_MESSAGE] = CStringGetTextDatum(message);
	nulls[FAILURE_ERROR_MESSAGE] = false;
	values[FAILURE_FAILED_AT] = TimestampTzGetDatum(tables->now);
	nulls[FAILURE_FAILED_AT] = false;
	values[FAILURE_QUEUE_ID] = Int32GetDatum(queue->queue_id);
	nulls[FAILURE_QUEUE_ID] = false;
	nulls[FAILURE_SERVER_OID] = nulls[FAILURE_SERVER] = config == NULL;
	if (config != NULL)
	{
		values[FAILURE_SERVER_OID] = ObjectIdGetDatum(config->server_oid);
		values[FAILURE_SERVER] = CStringGetTextDatum(config->server);
	}
	sqs_writer_insert(tables->failures, values, nulls);
}

/*
 * Delete the rows of the first "limit" items of a list, together with the
 * records of batches whose last row that is.  If outbox_failures is open,
 * insert the rows there.  In memory, only the outcomes are noted.
 */
static void
settle(Relay *relay, OutboxTables *tables, dlist_head *items, int limit)
{
	dlist_iter	iter;

	/* forget the outcomes of an earlier transaction that was aborted */
	dlist_foreach(iter, items)
	{
		RelayItem  *item = dlist_container(RelayItem, node, iter.cur);

		item->outcome = RELAY_UNTOUCHED;
		item->batch->settled = 0;
		item->batch->outcome = RELAY_UNTOUCHED;
	}
	dlist_foreach(iter, items)
	{
		RelayItem  *item = dlist_container(RelayItem, node, iter.cur);
		RelayBatch *batch = item->batch;

		if (limit-- == 0)
			break;
		CHECK_FOR_INTERRUPTS();
		item->outcome = delete_row(tables, item);
		if (item->outcome == RELAY_DELETED && tables->failures != NULL)
			insert_failure(relay, tables, item);
		if (item->outcome == RELAY_BUSY)
			continue;
		if (++batch->settled == batch->rows && !batch->listed && !batch->given_up)
			batch->outcome = delete_batch(tables, batch);
	}
}

/*
 * The last item of a batch is settled: forget the batch, or keep it so that
 * the deletion of its record is retried.
 */
static void
batch_is_done(Relay *relay, RelayBatch *batch)
{
	if (batch->outcome == RELAY_DELETED || batch->outcome == RELAY_GONE)
		sqs_relay_forget_batch(relay, batch);
	else
		dlist_push_tail(&relay->emptied, &batch->node);
}

/*
 * The transaction that settled an item has committed; the caller has taken
 * the item from its list.  Returns false if the row could not be deleted;
 * otherwise frees the item.
 */
static bool
item_is_settled(Relay *relay, RelayItem *item)
{
	RelayBatch *batch = item->batch;

	if (item->outcome == RELAY_BUSY)
		return false;
	sqs_relay_free_item(relay, item);
	if (--batch->rows == 0 && !batch->listed)
	{
		if (batch->given_up)
			sqs_relay_forget_batch(relay, batch);
		else
			batch_is_done(relay, batch);
	}
	return true;
}

/* Retry the rows that were locked. */
static void
take_up_held(Relay *relay)
{
	while (!dlist_is_empty(&relay->held))
	{
		RelayItem  *item = dlist_container(RelayItem, node, dlist_pop_head_node(&relay->held));

		item->batch->queue->nheld--;
		relay->nheld--;
		relay->nconfirmed++;
		dlist_push_tail(&relay->confirmed, &item->node);
	}
}

/* The transaction has committed: remove from memory what it has deleted. */
static void
forget_deleted(Relay *relay)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &relay->emptied)
	{
		RelayBatch *batch = dlist_container(RelayBatch, node, iter.cur);

		if (batch->outcome == RELAY_BUSY)
			continue;
		dlist_delete(iter.cur);
		sqs_relay_forget_batch(relay, batch);
	}
	for (int n = relay->nconfirmed; n > 0; n--)
	{
		RelayItem  *item = dlist_container(RelayItem, node, dlist_pop_head_node(&relay->confirmed));
		RelayQueue *queue = item->batch->queue;

		relay->nconfirmed--;
		queue->nconfirmed--;
		if (item_is_settled(relay, item))
			continue;
		queue->nconfirmed++;
		queue->nheld++;
		relay->nheld++;
		dlist_push_tail(&relay->held, &item->node);
	}
}

/*
 * Delete the rows that SQS has confirmed, and batch records that have no
 * rows left, in one transaction.  What is locked is kept and retried.
 */
void
sqs_relay_delete_confirmed(Relay *relay, int64 now)
{
	OutboxTables tables;
	const char *locked = NULL;
	dlist_iter	iter;

	if (now >= relay->holding.not_before)
		take_up_held(relay);

	sqs_begin();
	MemoryContextSwitchTo(relay->scratch);
	if (!sqs_relay_open_tables_to_delete(relay, &tables, false, &locked))
	{
		sqs_relay_close_tables(&tables);
		sqs_commit();
		MemoryContextSwitchTo(relay->scratch);
		sqs_relay_trouble(relay, NULL, &relay->deleting, true, sqs_relay_is_locked_text(locked), now);
		return;
	}
	settle(relay, &tables, &relay->confirmed, relay->nconfirmed);
	dlist_foreach(iter, &relay->emptied)
	{
		RelayBatch *batch = dlist_container(RelayBatch, node, iter.cur);

		batch->outcome = delete_batch(&tables, batch);
	}
	sqs_relay_close_tables(&tables);
	sqs_commit();
	MemoryContextSwitchTo(relay->scratch);

	/* nothing can fail after this point */
	forget_deleted(relay);
	sqs_relay_trouble_over(relay, NULL, &relay->deleting);
	if (relay->nheld == 0 && dlist_is_empty(&relay->emptied))
		sqs_relay_trouble_over(relay, NULL, &relay->holding);
	else if (now >= relay->holding.not_before)
		sqs_relay_trouble(relay, NULL, &relay->holding, true, ROW_IS_LOCKED, now);
}

/* ---- failures ---- */

/*
 * Is the queue not registered, according to this snapshot?  False also if
 * the table is locked, with its name in *locked.
 */
static bool
is_not_registered(int32 queue_id, const char **locked)
{
	Relation	rel = sqs_relay_open_table(SQS_TABLE_QUEUES, AccessShareLock, locked);
	bool		registered;

	if (rel == NULL)
		return false;
	registered = sqs_catalog_queue(queue_id) != NULL;
	table_close(rel, NoLock);
	return !registered;
}

/*
 * The queue is registered after all: have its rows read again.  If there still
 * is a sender, SQS has refused them, and they wait until the configuration has
 * been read; what is under way must stay known.
 */
static void
take_back_refused(Relay *relay, RelayQueue *queue, int64 now)
{
	relay->need_config = true;
	if (queue->sender != NULL)
	{
		queue->recording.not_before = now + NOT_GONE_WAIT_MS;
		return;
	}
	while (!dlist_is_empty(&queue->refused))
	{
		RelayItem  *item = dlist_container(RelayItem, node, dlist_pop_head_node(&queue->refused));

		sqs_relay_give_up_item(relay, item);
	}
	queue->nrefused = 0;
	queue->put_down = true;
}

/*
 * Move the refused rows of a queue to outbox_failures, in one transaction.
 * After an error, they are moved one by one, so that a row that cannot be
 * moved does not hold up the others.
 */
void
sqs_relay_record_refused(Relay *relay, RelayQueue *queue, int64 now)
{
	OutboxTables tables;
	const char *locked = NULL;
	int			limit = queue->one_by_one ? 1 : MAX_RECORDED;
	bool		busy = false;

	sqs_begin();
	MemoryContextSwitchTo(relay->scratch);
	if (!sqs_relay_open_tables_to_delete(relay, &tables, true, &locked) ||
		(queue->gone && !is_not_registered(queue->queue_id, &locked)))
	{
		sqs_relay_close_tables(&tables);
		sqs_commit();
		MemoryContextSwitchTo(relay->scratch);
		if (locked != NULL)
			sqs_relay_trouble(relay, queue, &queue->recording, true, sqs_relay_is_locked_text(locked), now);
		else
			take_back_refused(relay, queue, now);
		return;
	}

	/* after an error, try another row first */
	if (queue->one_by_one)
		dlist_push_tail(&queue->refused, dlist_pop_head_node(&queue->refused));
	settle(relay, &tables, &queue->refused, limit);
	sqs_relay_close_tables(&tables);
	sqs_commit();
	MemoryContextSwitchTo(relay->scratch);

	for (int n = Min(limit, queue->nrefused); n > 0; n--)
	{
		RelayItem  *item = dlist_container(RelayItem, node, dlist_pop_head_node(&queue->refused));

		queue->nrefused--;
		if (item_is_settled(relay, item))
			continue;
		busy = true;
		queue->nrefused++;
		dlist_push_tail(&queue->refused, &item->node);
	}
	if (busy)
		sqs_relay_trouble(relay, queue, &queue->recording, true, ROW_IS_LOCKED, now);
	else if (queue->one_by_one && queue->nrefused > 0)
		queue->recording.not_before = now;
	else
	{
		queue->one_by_one = false;
		sqs_relay_trouble_over(relay, queue, &queue->recording);
	}
}
