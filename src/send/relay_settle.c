/*-------------------------------------------------------------------------
 *
 * relay_settle.c
 *	  Deleting rows of the outbox that are dealt with.
 *
 * Rows that SQS has confirmed are deleted; those that it has refused, and those
 * of queues that are not registered any more, are moved to outbox_failures.
 * That is two kinds of transactions, so that a failure that cannot be recorded
 * does not keep confirmed rows from being deleted: they would be sent again.
 *
 * Nothing but the row that was sent is deleted: the id is compared, because
 * somebody may have deleted it, and another have taken its place.  A row that
 * is locked, or was just changed, is left for later.  A batch's record goes
 * with its last row, if the batch was read to its end and none of its rows was
 * put down.
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
#define ROW_IS_LOCKED \
	"a row of table " SQS_INTERNAL_SCHEMA ".outbox_rows or outbox_batches is locked"

/* ---- deletion ---- */

static RelayOutcome
outcome_of(SqsWriteResult result)
{
	/* changed since the snapshot: the next one tells what it is now */
	return result == SQS_WRITTEN ? RELAY_DELETED : RELAY_BUSY;
}

/*
 * A tuple that is not where it was read: it was updated, or the table was
 * rewritten.  Look for it along the index, among those with these keys for the
 * one with this id.  Perhaps somebody who may has deleted it.
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
 * Is the tuple with this id still there?  Where somebody has deleted it,
 * another may have taken its place, which has not been sent.
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
 * The batch is native, and was read to its end: all the rows that it ever had
 * were visible then, and have been dealt with.
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

/* An item's row into outbox_failures: what rows keep, and why it failed. */
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
 * Delete the rows of at most so many items of a list, together with the
 * batches that have no other, and record them if the tables are open for
 * that.  Nothing in memory changes but what is noted of the outcome.
 */
static void
settle(Relay *relay, OutboxTables *tables, dlist_head *items, int limit)
{
	dlist_iter	iter;

	/* a transaction before this one may have been aborted */
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

/* Its last item is settled.  The record was deleted, or is to be tried again. */
static void
batch_is_done(Relay *relay, RelayBatch *batch)
{
	if (batch->outcome == RELAY_DELETED || batch->outcome == RELAY_GONE)
		sqs_relay_forget_batch(relay, batch);
	else
		dlist_push_tail(&relay->emptied, &batch->node);
}

/*
 * The transaction that settled the item is committed: it leaves the list, in
 * which it is the head.  False if its row could not be deleted.
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

/* What was locked the last time has its turn again. */
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

/* The transaction is committed: take what it has deleted out of memory. */
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

	/* from here on nothing can fail */
	forget_deleted(relay);
	sqs_relay_trouble_over(relay, NULL, &relay->deleting);
	if (relay->nheld == 0 && dlist_is_empty(&relay->emptied))
		sqs_relay_trouble_over(relay, NULL, &relay->holding);
	else if (now >= relay->holding.not_before)
		sqs_relay_trouble(relay, NULL, &relay->holding, true, ROW_IS_LOCKED, now);
}

/* ---- failures ---- */

/*
 * Is the queue really not registered, as this snapshot sees it?  False also
 * if that cannot be known because the table is locked.
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

/* The queue is registered after all: what was to fail is read anew. */
static void
take_back_refused(Relay *relay, RelayQueue *queue)
{
	while (!dlist_is_empty(&queue->refused))
	{
		RelayItem  *item = dlist_container(RelayItem, node, dlist_pop_head_node(&queue->refused));

		sqs_relay_give_up_item(relay, item);
	}
	queue->nrefused = 0;
	queue->put_down = true;
	relay->need_config = true;
}

/*
 * After an error the items have their turns one by one, so that the bad one is
 * known in the end, and keeps none of the others.
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
			take_back_refused(relay, queue);
		return;
	}

	/*
	 * after an error the next has its turn, and the bad one is known in the
	 * end
	 */
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
