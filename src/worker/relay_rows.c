/*-------------------------------------------------------------------------
 *
 * relay_rows.c
 *	  What the relay does with the outbox's tables.
 *
 * Everything happens in one short transaction per turn, under one snapshot.
 *
 * Finding what has been committed.  A look at all batches is made at the
 * start, and again now and then as a safety net.  In between, the question is
 * only which transactions the new snapshot sees and the last one did not:
 * those that were running then and are not now, and those that began since.
 * They are looked up by transaction id.  So a row that the relay has deleted
 * is never met again, even while an old snapshot somewhere keeps it from
 * being vacuumed away; a relay that searched a queue from its beginning would
 * grow slower with each message.
 *
 * What is known of a queue is kept in memory up to MAX_BATCHES; the rest
 * stays where it is, and is read in order, from the place where what is in
 * memory ends.
 *
 * Durability.  A transaction that committed asynchronously is visible before
 * it is durable.  The commit log knows up to where WAL must be flushed for
 * it; where it need not know any more, because VACUUM has frozen the batch
 * (which it does without waiting for anything to be durable), all WAL that is
 * written is flushed.  With synchronous standbys, rows wait until these have
 * flushed everything that was written when the rows were found: a transaction
 * that waited for the standby itself is not visible earlier, but one that did
 * not could be lost with a failover.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "compat.h"
#include "table_writer.h"
#include "worker/relay.h"
#include "worker/worker.h"

#define MAX_BATCHES			8192	/* of a stream, in memory */
#define STANDBY_TICK_MS		10
#define LOCK_RETRY_MS		50

/* The tables, open for a turn. */
typedef struct OutboxTables
{
	Relation	rows;
	Relation	rows_index;		/* (batch_id, id) */
	Relation	batches;
	Relation	xid_index;		/* (xid, batch_id) */
	Relation	order_index;	/* (queue_id, deliver_at, position) */
	SqsWriter  *row_writer;
	SqsWriter  *batch_writer;
	SqsWriter  *failures;		/* NULL: not needed so far */
	TupleTableSlot *row_slot;	/* for deletion */
	TupleTableSlot *batch_slot;
	BlockNumber row_blocks;		/* not truncated while they are locked */
	BlockNumber batch_blocks;
	Snapshot	snapshot;
	TimestampTz now;
} OutboxTables;

/*
 * False if somebody holds a lock that conflicts: the relay does not wait for
 * it, because answers of SQS are to be taken meanwhile.
 */
static bool
open_tables(OutboxTables *tables)
{
	tables->rows = sqs_table_open_nowait(SQS_TABLE_OUTBOX_ROWS, RowExclusiveLock);
	if (tables->rows == NULL)
		return false;
	tables->batches = sqs_table_open_nowait(SQS_TABLE_OUTBOX_BATCHES, RowExclusiveLock);
	if (tables->batches == NULL)
	{
		table_close(tables->rows, NoLock);
		return false;
	}
	tables->rows_index = index_open(sqs_index_oid(SQS_INDEX_OUTBOX_ROWS_PKEY), AccessShareLock);
	tables->xid_index = index_open(sqs_index_oid(SQS_INDEX_OUTBOX_BATCHES_PKEY), AccessShareLock);
	tables->order_index = index_open(sqs_index_oid(SQS_INDEX_OUTBOX_BATCHES_ORDER), AccessShareLock);
	tables->failures = NULL;
	tables->row_writer = sqs_writer_on(tables->rows);
	tables->batch_writer = sqs_writer_on(tables->batches);
	tables->row_slot = table_slot_create(tables->rows, NULL);
	tables->batch_slot = table_slot_create(tables->batches, NULL);
	tables->row_blocks = RelationGetNumberOfBlocks(tables->rows);
	tables->batch_blocks = RelationGetNumberOfBlocks(tables->batches);
	tables->snapshot = GetActiveSnapshot();
	tables->now = GetCurrentTimestamp();
	return true;
}

/* Locks are kept to the end of the transaction, which is near. */
static void
close_tables(OutboxTables *tables)
{
	if (tables->failures != NULL)
		sqs_writer_close(tables->failures);
	ExecDropSingleTupleTableSlot(tables->row_slot);
	ExecDropSingleTupleTableSlot(tables->batch_slot);
	sqs_writer_close(tables->row_writer);
	sqs_writer_close(tables->batch_writer);
	index_close(tables->order_index, NoLock);
	index_close(tables->xid_index, NoLock);
	table_close(tables->batches, NoLock);
	index_close(tables->rows_index, NoLock);
	table_close(tables->rows, NoLock);
}

/* ---- batches ---- */

/* Up to where WAL must be durable before what the batch holds is sent. */
static XLogRecPtr
durable_at(HeapTuple tuple)
{
	TransactionId xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	XLogRecPtr	end;
	uint32		offset;

	if (!sqs_has_sync_standbys() && !HeapTupleHeaderXminFrozen(tuple->t_data) &&
		TransactionIdIsNormal(xmin))
		return TransactionIdGetCommitLSN(xmin);

	/*
	 * Everything that is written so far.  The commit log may not reach back to
	 * what is frozen, and VACUUM may have frozen what is not durable yet.
	 */
	end = GetXLogInsertRecPtr();
	offset = XLogSegmentOffset(end, wal_segment_size);

	/* at the start of a page it points behind a header not yet written */
	if (offset == SizeOfXLogLongPHD)
		end -= SizeOfXLogLongPHD;
	else if (end % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		end -= SizeOfXLogShortPHD;
	return end;
}

static bool
is_durable(RelayBatch *batch)
{
	if (batch->durable_at == InvalidXLogRecPtr)
		return true;
	XLogFlush(batch->durable_at);
	if (batch->durable_at > sqs_standbys_flushed())
		return false;
	batch->durable_at = InvalidXLogRecPtr;
	return true;
}

/* Put a batch that is to be sent now into its stream. */
static void
list_batch(BatchStream *stream, RelayBatch *batch)
{
	dlist_node *after = NULL;
	dlist_iter	iter;

	/* nearly always it belongs at the end */
	dlist_reverse_foreach(iter, &stream->batches)
	{
		if (relay_compare_places(&dlist_container(RelayBatch, node, iter.cur)->place,
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

static void
unlist_batch(BatchStream *stream, RelayBatch *batch)
{
	dlist_delete(&batch->node);
	stream->nbatches--;
	batch->listed = false;
}

static Datum
batch_column(OutboxTables *tables, HeapTuple tuple, BatchColumn column)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, column + 1, RelationGetDescr(tables->batches), &isnull);

	if (isnull)
		elog(ERROR, "unexpected null in sqs_outbox_batches");
	return value;
}

/* NULL if it is known already. */
static RelayBatch *
new_batch(Relay *relay, OutboxTables *tables, HeapTuple tuple)
{
	int64		batch_id = DatumGetInt64(batch_column(tables, tuple, BATCH_ID));
	bool		found;
	RelayBatch *batch = hash_search(relay->batches, &batch_id, HASH_ENTER, &found);

	if (found)
		return NULL;
	batch->queue = relay_queue(relay, DatumGetInt32(batch_column(tables, tuple, BATCH_QUEUE_ID)));
	batch->place.deliver_at = DatumGetTimestampTz(batch_column(tables, tuple, BATCH_DELIVER_AT));
	batch->place.position = DatumGetInt64(batch_column(tables, tuple, BATCH_POSITION));
	batch->tid = tuple->t_self;
	batch->file = tables->batches->rd_rel->relfilenode;
	batch->durable_at = durable_at(tuple);
	batch->last_id = PG_INT64_MIN;
	batch->listed = false;
	batch->rows = 0;
	return batch;
}

static void
forget_batch(Relay *relay, RelayBatch *batch)
{
	hash_search(relay->batches, &batch->batch_id, HASH_REMOVE, NULL);
}

/* A batch that has just become visible. */
static void
found_batch(Relay *relay, OutboxTables *tables, HeapTuple tuple)
{
	RelayBatch *batch = new_batch(relay, tables, tuple);
	RelayQueue *queue;
	BatchStream *stream;

	if (batch == NULL)
		return;
	queue = batch->queue;
	stream = &queue->streams[batch->place.deliver_at == DT_NOBEGIN ? STREAM_PLAIN : STREAM_TIMED];

	if (batch->place.deliver_at > tables->now)
	{
		if (relay_compare_places(&batch->place, &stream->tail) < 0)
			stream->tail = batch->place;
		queue->next_due = Min(queue->next_due, batch->place.deliver_at);
		forget_batch(relay, batch);
		return;
	}
	if (relay_compare_places(&batch->place, &stream->tail) >= 0)
	{
		stream->more = true;
		forget_batch(relay, batch);
		return;
	}
	list_batch(stream, batch);
	if (stream->nbatches > MAX_BATCHES)
	{
		RelayBatch *last = dlist_tail_element(RelayBatch, node, &stream->batches);

		/* some of its rows are in hand: others have come before it since */
		if (last->rows > 0)
			return;
		stream->tail = last->place;
		stream->more = true;
		unlist_batch(stream, last);
		forget_batch(relay, last);
	}
}

/*
 * The epoch of a transaction id from a snapshot, none of which is more than
 * half a cycle old.
 */
static FullTransactionId
full_xid(TransactionId xid)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint32		epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return FullTransactionIdFromEpochAndXid(epoch, xid);
}

/* Batches of one transaction, or of all from it on. */
static void
find_by_xid(Relay *relay, OutboxTables *tables, TransactionId xid, bool and_later)
{
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	ScanKeyInit(&key, BATCH_XID + 1,
				and_later ? BTGreaterEqualStrategyNumber : BTEqualStrategyNumber,
				and_later ? F_XID8GE : F_XID8EQ,
				FullTransactionIdGetDatum(full_xid(xid)));
	scan = systable_beginscan_ordered(tables->batches, tables->xid_index,
									  tables->snapshot, 1, &key);
	while ((tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
		found_batch(relay, tables, tuple);
	systable_endscan_ordered(scan);
}

/* All queues with batches: everything of theirs is to be read again. */
static void
find_queues(Relay *relay, OutboxTables *tables)
{
	int32		last = PG_INT32_MIN;
	bool		any = true;

	while (any)
	{
		SysScanDesc scan;
		ScanKeyData key;
		HeapTuple	tuple;

		ScanKeyInit(&key, BATCH_QUEUE_ID + 1, BTGreaterStrategyNumber, F_INT4GT,
					Int32GetDatum(last));
		scan = systable_beginscan_ordered(tables->batches, tables->order_index,
										  tables->snapshot, 1, &key);
		tuple = systable_getnext_ordered(scan, ForwardScanDirection);
		any = tuple != NULL;
		if (any)
		{
			RelayQueue *queue;

			last = DatumGetInt32(batch_column(tables, tuple, BATCH_QUEUE_ID));
			queue = relay_queue(relay, last);
			queue->streams[STREAM_PLAIN].tail.deliver_at = DT_NOBEGIN;
			queue->streams[STREAM_PLAIN].tail.position = PG_INT64_MIN;
			queue->streams[STREAM_PLAIN].more = true;
			queue->streams[STREAM_TIMED].tail.deliver_at = DT_NOBEGIN;
			queue->streams[STREAM_TIMED].tail.position = PG_INT64_MAX;
			queue->streams[STREAM_TIMED].more = true;
		}
		systable_endscan_ordered(scan);
	}
}

static void
find_batches(Relay *relay, OutboxTables *tables)
{
	Snapshot	snapshot = tables->snapshot;

	if (relay->scan || !relay->scanned)
		find_queues(relay, tables);
	else
	{
		for (int i = 0; i < relay->nrunning; i++)
		{
			if (!XidInMVCCSnapshot(relay->running[i], snapshot))
				find_by_xid(relay, tables, relay->running[i], false);
		}
		if (snapshot->xmax != relay->xmax)
			find_by_xid(relay, tables, relay->xmax, true);
	}

	relay->scanned = true;
	relay->scan = false;
	relay->news = false;
	relay->xmax = snapshot->xmax;
	relay->nrunning = snapshot->xcnt;
	if (relay->running == NULL)
		relay->running = MemoryContextAlloc(relay->context,
											sizeof(TransactionId) * Max(snapshot->xcnt, 64));
	else if (snapshot->xcnt > 64)
		relay->running = repalloc(relay->running, sizeof(TransactionId) * snapshot->xcnt);
	memcpy(relay->running, snapshot->xip, sizeof(TransactionId) * snapshot->xcnt);
}

/*
 * Read batches of a queue along the index, and list them.  False if there was
 * no room for more, or what follows is not due: the tail is there then.
 */
static bool
list_batches(Relay *relay, OutboxTables *tables, RelayQueue *queue, BatchStream *stream,
			 int nkeys, ScanKey keys)
{
	SysScanDesc scan;
	HeapTuple	tuple;

	scan = systable_beginscan_ordered(tables->batches, tables->order_index,
									  tables->snapshot, nkeys, keys);
	while ((tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		RelayBatch *batch = new_batch(relay, tables, tuple);

		if (batch == NULL)
			continue;
		if (batch->place.deliver_at > tables->now || stream->nbatches >= MAX_BATCHES)
		{
			stream->tail = batch->place;
			if (batch->place.deliver_at > tables->now)
				queue->next_due = batch->place.deliver_at;
			else
				stream->more = true;
			forget_batch(relay, batch);
			break;
		}
		list_batch(stream, batch);
	}
	systable_endscan_ordered(scan);
	return tuple == NULL;
}

/*
 * Read batches from the stream's tail on, in their order: first those of the
 * tail's time, of which there may be very many.
 */
static void
refill_stream(Relay *relay, OutboxTables *tables, RelayQueue *queue, BatchStreamId id)
{
	BatchStream *stream = &queue->streams[id];
	ScanKeyData keys[3];
	bool		at_end;

	if (!stream->more || stream->nbatches > MAX_BATCHES / 2)
		return;

	ScanKeyInit(&keys[0], BATCH_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(queue->queue_id));
	ScanKeyInit(&keys[1], BATCH_DELIVER_AT + 1, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ,
				TimestampTzGetDatum(stream->tail.deliver_at));
	ScanKeyInit(&keys[2], BATCH_POSITION + 1, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(stream->tail.position));
	stream->more = false;
	if (id == STREAM_TIMED)
		queue->next_due = DT_NOEND;
	at_end = list_batches(relay, tables, queue, stream, 3, keys);
	if (at_end && id == STREAM_TIMED)
	{
		/* all anew: the scan before may have renumbered them */
		ScanKeyInit(&keys[0], BATCH_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ,
					Int32GetDatum(queue->queue_id));
		ScanKeyInit(&keys[1], BATCH_DELIVER_AT + 1, BTGreaterStrategyNumber, F_TIMESTAMPTZ_GT,
					TimestampTzGetDatum(stream->tail.deliver_at));
		at_end = list_batches(relay, tables, queue, stream, 2, keys);
	}
	if (at_end)
	{
		stream->tail.deliver_at = DT_NOEND;
		stream->tail.position = PG_INT64_MAX;
	}
}

/* ---- rows ---- */

static uint64
group_key(Relay *relay, RelayQueue *queue, HeapTuple tuple)
{
	bool		isnull;
	Datum		group;

	if (queue->config == NULL || !queue->config->fifo)
		return 0;
	group = heap_getattr(tuple, ROW_GROUP_ID + 1, relay->row_desc, &isnull);
	if (isnull)
		return 0;
	return hash_bytes_extended((unsigned char *) VARDATA_ANY(DatumGetPointer(group)),
							   VARSIZE_ANY_EXHDR(DatumGetPointer(group)), 0);
}

/* Read on in a batch.  True if it was read to its end. */
static bool
load_batch(Relay *relay, OutboxTables *tables, RelayBatch *batch, int64 now)
{
	SysScanDesc scan;
	ScanKeyData keys[2];
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], ROW_BATCH_ID + 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(batch->batch_id));
	ScanKeyInit(&keys[1], ROW_ID + 1, BTGreaterStrategyNumber, F_INT8GT,
				Int64GetDatum(batch->last_id));
	scan = systable_beginscan_ordered(tables->rows, tables->rows_index,
									  tables->snapshot, 2, keys);
	while (relay_queue_has_room(batch->queue) &&
		   (tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(relay->context);
		RelayItem  *item = palloc0(sizeof(RelayItem));
		bool		isnull;

		item->batch = batch;
		item->tid = tuple->t_self;
		item->file = tables->rows->rd_rel->relfilenode;

		/* large values are fetched now: later there is no transaction */
		item->tuple = HeapTupleHasExternal(tuple) ?
			toast_flatten_tuple(tuple, relay->row_desc) : heap_copytuple(tuple);
		item->bytes = GetMemoryChunkSpace(item->tuple) + GetMemoryChunkSpace(item);
		MemoryContextSwitchTo(old);
		item->id = DatumGetInt64(heap_getattr(item->tuple, ROW_ID + 1, relay->row_desc, &isnull));
		item->send.size = DatumGetInt32(heap_getattr(item->tuple, ROW_SIZE + 1,
													 relay->row_desc, &isnull));
		batch->last_id = item->id;
		relay_add_item(relay, batch->queue, item,
					   group_key(relay, batch->queue, item->tuple), now);
	}
	systable_endscan_ordered(scan);
	return relay_queue_has_room(batch->queue);
}

static void
load_rows(Relay *relay, OutboxTables *tables, RelayQueue *queue, int64 now)
{
	for (BatchStreamId id = 0; id < NUM_STREAMS; id++)
	{
		BatchStream *stream = &queue->streams[id];

		while (relay_queue_has_room(queue) && !dlist_is_empty(&stream->batches))
		{
			RelayBatch *batch = dlist_head_element(RelayBatch, node, &stream->batches);

			if (!is_durable(batch))
			{
				relay->retry_at = now + STANDBY_TICK_MS;
				break;
			}
			if (!load_batch(relay, tables, batch, now))
				return;
			unlist_batch(stream, batch);
			if (batch->rows == 0)
				dlist_push_tail(&relay->emptied, &batch->node);
		}
	}
}

/* ---- deletion ---- */

/*
 * A tuple that is not where it was read: the table was rewritten since.  Look
 * for it.  Perhaps somebody who may has deleted it.
 */
static void
delete_moved(SqsWriter *writer, Relation index, Snapshot snapshot, int nkeys, ScanKey keys)
{
	SysScanDesc scan = systable_beginscan_ordered(sqs_writer_relation(writer), index,
												  snapshot, nkeys, keys);
	HeapTuple	tuple = systable_getnext_ordered(scan, ForwardScanDirection);

	if (tuple != NULL)
		(void) sqs_writer_delete(writer, &tuple->t_self, true);
	systable_endscan_ordered(scan);
}

/*
 * Is the tuple with this id still there?  Where somebody has deleted it,
 * another may have taken its place, which has not been sent.
 */
static bool
is_in_place(Relation rel, BlockNumber nblocks, TupleTableSlot *slot, Snapshot snapshot,
			Oid file, ItemPointer tid, int column, int64 id)
{
	bool		isnull;
	bool		is;

	if (file != rel->rd_rel->relfilenode || ItemPointerGetBlockNumber(tid) >= nblocks ||
		!table_tuple_fetch_row_version(rel, tid, snapshot, slot))
		return false;
	is = DatumGetInt64(slot_getattr(slot, column + 1, &isnull)) == id;
	ExecClearTuple(slot);
	return is;
}

static void
delete_row(OutboxTables *tables, RelayItem *item)
{
	ScanKeyData keys[2];

	if (is_in_place(tables->rows, tables->row_blocks, tables->row_slot, tables->snapshot,
					item->file, &item->tid, ROW_ID, item->id))
	{
		(void) sqs_writer_delete(tables->row_writer, &item->tid, true);
		return;
	}
	ScanKeyInit(&keys[0], ROW_BATCH_ID + 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(item->batch->batch_id));
	ScanKeyInit(&keys[1], ROW_ID + 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(item->id));
	delete_moved(tables->row_writer, tables->rows_index, tables->snapshot, 2, keys);
}

static void
delete_batch(OutboxTables *tables, RelayBatch *batch)
{
	ScanKeyData keys[3];

	if (is_in_place(tables->batches, tables->batch_blocks, tables->batch_slot, tables->snapshot,
					batch->file, &batch->tid, BATCH_ID, batch->batch_id))
	{
		(void) sqs_writer_delete(tables->batch_writer, &batch->tid, true);
		return;
	}
	ScanKeyInit(&keys[0], BATCH_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(batch->queue->queue_id));
	ScanKeyInit(&keys[1], BATCH_DELIVER_AT + 1, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ,
				TimestampTzGetDatum(batch->place.deliver_at));
	ScanKeyInit(&keys[2], BATCH_POSITION + 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(batch->place.position));
	delete_moved(tables->batch_writer, tables->order_index, tables->snapshot, 3, keys);
}

static void
insert_failure(Relay *relay, OutboxTables *tables, RelayItem *item)
{
	SqsQueueConfig *config = item->batch->queue->config;
	Datum		row[ROW_NATTS];
	bool		row_nulls[ROW_NATTS];
	Datum		values[FAILURE_NATTS];
	bool		nulls[FAILURE_NATTS];

	if (tables->failures == NULL)
		tables->failures = sqs_writer_open(SQS_TABLE_OUTBOX_FAILURES);
	heap_deform_tuple(item->tuple, relay->row_desc, row, row_nulls);
	for (int i = 0; i < SQS_KEPT_COLUMNS; i++)
	{
		values[sqs_kept_columns[i].failure] = row[sqs_kept_columns[i].row];
		nulls[sqs_kept_columns[i].failure] = row_nulls[sqs_kept_columns[i].row];
	}
	values[FAILURE_ERROR_CODE] = CStringGetTextDatum(item->error_code);
	nulls[FAILURE_ERROR_CODE] = false;
	values[FAILURE_ERROR_MESSAGE] = CStringGetTextDatum(item->error_message);
	nulls[FAILURE_ERROR_MESSAGE] = false;
	values[FAILURE_FAILED_AT] = TimestampTzGetDatum(tables->now);
	nulls[FAILURE_FAILED_AT] = false;
	values[FAILURE_QUEUE_ID] = Int32GetDatum(item->batch->queue->queue_id);
	nulls[FAILURE_QUEUE_ID] = false;
	nulls[FAILURE_SERVER_OID] = nulls[FAILURE_SERVER] = config == NULL;
	if (config != NULL)
	{
		values[FAILURE_SERVER_OID] = ObjectIdGetDatum(config->server_oid);
		values[FAILURE_SERVER] = CStringGetTextDatum(config->server);
	}
	sqs_writer_insert(tables->failures, values, nulls);
}

static void
delete_finished(Relay *relay, OutboxTables *tables)
{
	while (!dlist_is_empty(&relay->finished))
	{
		RelayItem  *item = dlist_container(RelayItem, node, dlist_pop_head_node(&relay->finished));
		RelayBatch *batch = item->batch;

		if (item->error_code != NULL)
			insert_failure(relay, tables, item);
		delete_row(tables, item);
		relay_free_item(relay, item);
		if (--batch->rows == 0 && !batch->listed)
			dlist_push_tail(&relay->emptied, &batch->node);
	}
	relay->nfinished = 0;
	while (!dlist_is_empty(&relay->emptied))
	{
		RelayBatch *batch = dlist_container(RelayBatch, node, dlist_pop_head_node(&relay->emptied));

		delete_batch(tables, batch);
		forget_batch(relay, batch);
	}
}

/* ---- a turn ---- */

bool
relay_wants_rows(Relay *relay, int64 now)
{
	dlist_iter	iter;
	TimestampTz clock = 0;

	dlist_foreach(iter, &relay->queues)
	{
		const RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);

		if (!relay_queue_has_room(queue))
			continue;
		for (BatchStreamId id = 0; id < NUM_STREAMS; id++)
		{
			if (queue->streams[id].nbatches > 0 || queue->streams[id].more)
				return true;
		}
		if (queue->next_due != DT_NOEND)
		{
			if (clock == 0)
				clock = GetCurrentTimestamp();
			if (clock >= queue->next_due)
				return true;
		}
	}
	return false;
}

void
relay_turn_rows(Relay *relay, int64 now)
{
	OutboxTables tables;
	dlist_iter	iter;

	sqs_begin();
	MemoryContextSwitchTo(relay->scratch);
	if (!OidIsValid(sqs_extension_oid()))
	{
		relay->scanned = true;
		relay->scan = relay->news = false;
		sqs_commit();
		return;
	}
	if (!open_tables(&tables))
	{
		relay->retry_at = now + LOCK_RETRY_MS;
		sqs_commit();
		return;
	}
	if (relay->row_desc == NULL)
	{
		MemoryContextSwitchTo(relay->context);
		relay->row_desc = CreateTupleDescCopy(RelationGetDescr(tables.rows));
		MemoryContextSwitchTo(relay->scratch);
	}

	relay->retry_at = 0;
	find_batches(relay, &tables);
	dlist_foreach(iter, &relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);

		if (queue->next_due <= tables.now)
			queue->streams[STREAM_TIMED].more = true;
		for (BatchStreamId id = 0; id < NUM_STREAMS; id++)
			refill_stream(relay, &tables, queue, id);
		load_rows(relay, &tables, queue, now);
	}
	delete_finished(relay, &tables);

	close_tables(&tables);
	sqs_commit();
	MemoryContextSwitchTo(relay->scratch);
	MemoryContextReset(relay->scratch);
}
