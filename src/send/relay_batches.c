/*-------------------------------------------------------------------------
 *
 * relay_batches.c
 *	  Finding the batches of the outbox that are to be sent.
 *
 * Finding what has been committed.  A look at all batches is made at the
 * start, and again now and then as a safety net.  In between, the question is
 * only which transactions the new snapshot sees and the last one did not:
 * those that were running then and are not now, and those that began since.
 * They are looked up by transaction id.  So a row that the relay has deleted
 * is never met again, even while an old snapshot somewhere keeps it from
 * being vacuumed away; a relay that searched a queue from its beginning would
 * grow slower with each message.  The looks at everything do meet the dead,
 * and are spaced so that they take no more than a hundredth of the time.
 *
 * What is known of a queue is kept in memory as far as there is room
 * (relay_room.c); the rest stays where it is, and is read in order, from the
 * place where what is in memory ends.
 *
 * Copies.  A batch that was restored or replicated proves nothing about rows,
 * and its transaction id is of another counter.  It is neither sent from nor
 * deleted (see outbox.h).  Nor are rows found whose batch is missing: nothing
 * leads to them but a look at all rows, which is made once a day.
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
#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/worker.h"
#include "send/outbox.h"
#include "send/relay_batches.h"
#include "send/relay_room.h"

/* How often stranded rows are looked for. */
#define STRANDED_MS			86400000

/* Less than SQS_RELAY_SCAN_COST: a person waits for what is found. */
#define STRANDED_COST		10

/* ---- durability ---- */

/* Up to where WAL must be flushed before what the batch holds is sent. */
static XLogRecPtr
durable_lsn(HeapTuple tuple)
{
	TransactionId xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	XLogRecPtr	end;
	uint32		offset;

	if (!sqs_has_sync_standbys() && !HeapTupleHeaderXminFrozen(tuple->t_data) &&
		TransactionIdIsNormal(xmin))
		return TransactionIdGetCommitLSN(xmin);

	/*
	 * Everything that is written so far.  The commit log may not reach back
	 * to what is frozen, and VACUUM may have frozen what is not durable yet.
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

bool
sqs_relay_is_durable(RelayBatch *batch)
{
	if (batch->durable_lsn == InvalidXLogRecPtr)
		return true;
	XLogFlush(batch->durable_lsn);
	if (batch->durable_lsn > sqs_standbys_flushed())
		return false;
	batch->durable_lsn = InvalidXLogRecPtr;
	return true;
}

/* ---- finding ---- */

static Datum
batch_column(OutboxTables *tables, HeapTuple tuple, BatchColumn column)
{
	bool		isnull;
	Datum		value = sqs_getattr(tuple, column + 1, RelationGetDescr(tables->batches), &isnull);

	if (isnull)
		elog(ERROR, "unexpected null in sqs_outbox_batches");
	return value;
}

/*
 * An entry for a batch that was read, in no list.  NULL if it is known already
 * or is a copy; which of the two, *copy tells.
 */
static RelayBatch *
new_batch(Relay *relay, OutboxTables *tables, HeapTuple tuple, bool *copy)
{
	RelayBatchKey key = {
		.batch_id = DatumGetInt64(batch_column(tables, tuple, BATCH_ID)),
		.queue_id = DatumGetInt32(batch_column(tables, tuple, BATCH_QUEUE_ID))
	};
	TimestampTz deliver_at = DatumGetTimestampTz(batch_column(tables, tuple, BATCH_DELIVER_AT));
	int64		position = DatumGetInt64(batch_column(tables, tuple, BATCH_POSITION));
	RelayQueue *queue;
	RelayBatch *batch;
	XLogRecPtr	durable;
	bool		found;

	*copy = !sqs_batch_is_native(tuple, RelationGetDescr(tables->batches));
	if (*copy)
		return NULL;
	queue = sqs_relay_queue(relay, (int32) key.queue_id);
	durable = durable_lsn(tuple);
	batch = hash_search(relay->batches, &key, HASH_ENTER, &found);
	if (found)
		return NULL;
	memset((char *) batch + sizeof(batch->key), 0, sizeof(RelayBatch) - sizeof(batch->key));
	batch->queue = queue;
	batch->place.deliver_at = deliver_at;
	batch->place.position = position;
	batch->tid = tuple->t_self;
	batch->relfilenode = tables->batches->rd_rel->relfilenode;
	batch->durable_lsn = durable;
	batch->last_id = PG_INT64_MIN;
	return batch;
}

/*
 * A batch that has just become visible: into its stream, if it belongs to the
 * part that is in memory.  Else the stream, or the queue's next_due, knows
 * that there is something to be read later.
 */
static void
found_batch(Relay *relay, OutboxTables *tables, HeapTuple tuple)
{
	bool		copy;
	RelayBatch *batch = new_batch(relay, tables, tuple, &copy);
	RelayQueue *queue;
	BatchStream *stream;

	if (batch == NULL)
		return;
	queue = batch->queue;
	stream = &queue->streams[batch->place.deliver_at == DT_NOBEGIN ? STREAM_PLAIN : STREAM_TIMED];

	if (batch->place.deliver_at > tables->now)
	{
		if (sqs_relay_compare_places(&batch->place, &stream->tail) < 0)
			stream->tail = batch->place;
		queue->next_due = Min(queue->next_due, batch->place.deliver_at);
		sqs_relay_forget_batch(relay, batch);
		return;
	}
	if (sqs_relay_compare_places(&batch->place, &stream->tail) >= 0)
	{
		stream->more = true;
		sqs_relay_forget_batch(relay, batch);
		return;
	}
	sqs_relay_list_batch(stream, batch);
	if (stream->nbatches > sqs_relay_max_batches(relay))
	{
		RelayBatch *last = dlist_tail_element(RelayBatch, node, &stream->batches);

		/* some of its rows are in hand: others have come before it since */
		if (last->rows > 0)
			return;
		stream->tail = last->place;
		stream->more = true;
		sqs_relay_unlist_batch(stream, last);
		sqs_relay_forget_batch(relay, last);
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

/*
 * Batches of the transactions from one to before another.  Both ends matter:
 * copies may have any transaction id, and those beyond would be met each time.
 */
static void
find_by_xid(Relay *relay, OutboxTables *tables, FullTransactionId from, FullTransactionId before)
{
	SysScanDesc scan;
	ScanKeyData keys[2];
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], BATCH_XID + 1, BTGreaterEqualStrategyNumber, F_XID8GE,
				FullTransactionIdGetDatum(from));
	ScanKeyInit(&keys[1], BATCH_XID + 1, BTLessStrategyNumber, F_XID8LT,
				FullTransactionIdGetDatum(before));
	scan = systable_beginscan_ordered(tables->batches, tables->xid_index,
									  tables->snapshot, 2, keys);
	while ((tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
		found_batch(relay, tables, tuple);
	systable_endscan_ordered(scan);
}

/* All queues that have batches: everything of theirs is to be read again. */
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

		CHECK_FOR_INTERRUPTS();
		ScanKeyInit(&key, BATCH_QUEUE_ID + 1, BTGreaterStrategyNumber, F_INT4GT,
					Int32GetDatum(last));
		scan = systable_beginscan_ordered(tables->batches, tables->order_index,
										  tables->snapshot, 1, &key);
		tuple = systable_getnext_ordered(scan, ForwardScanDirection);
		any = tuple != NULL;
		if (any)
		{
			last = DatumGetInt32(batch_column(tables, tuple, BATCH_QUEUE_ID));
			sqs_relay_rewind_queue(sqs_relay_queue(relay, last));
		}
		systable_endscan_ordered(scan);
	}
}

/*
 * Which transactions does this snapshot see that the last one did not?  Those
 * that were running then and are not now, and those that began since.
 */
void
sqs_relay_find_batches(Relay *relay, OutboxTables *tables, int64 now)
{
	Snapshot	snapshot = tables->snapshot;
	int			nrunning = snapshot->xcnt;

	if (relay->running == NULL)
		relay->running = MemoryContextAlloc(relay->context,
											sizeof(TransactionId) * Max(nrunning, 64));

	if (!relay->scanned || (relay->scan && now >= relay->scan_not_before))
	{
		find_queues(relay, tables);
		relay->scan = false;
	}
	else
	{
		for (int i = 0; i < relay->nrunning; i++)
		{
			FullTransactionId xid = full_xid(relay->running[i]);
			FullTransactionId next = xid;

			FullTransactionIdAdvance(&next);
			if (!XidInMVCCSnapshot(relay->running[i], snapshot))
				find_by_xid(relay, tables, xid, next);
		}
		if (snapshot->xmax != relay->xmax)
			find_by_xid(relay, tables, full_xid(relay->xmax), full_xid(snapshot->xmax));
	}

	relay->running = repalloc(relay->running, sizeof(TransactionId) * Max(nrunning, 64));
	memcpy(relay->running, snapshot->xip, sizeof(TransactionId) * nrunning);
	relay->nrunning = nrunning;
	relay->xmax = snapshot->xmax;
	relay->scanned = true;
	relay->news = false;
}

/*
 * Read batches of a queue along the index, and list them.  False if there was
 * no room for more, or what follows is not due: *tail is there then.
 */
static bool
list_batches(Relay *relay, OutboxTables *tables, RelayQueue *queue, BatchStream *stream,
			 int nkeys, ScanKey keys, OutboxPlace *tail)
{
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		copy;

	scan = systable_beginscan_ordered(tables->batches, tables->order_index,
									  tables->snapshot, nkeys, keys);
	while ((tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		RelayBatch *batch;

		CHECK_FOR_INTERRUPTS();
		batch = new_batch(relay, tables, tuple, &copy);
		if (batch == NULL)
		{
			/* how many there are is found out by sqs_relay_find_stranded() */
			if (copy && queue->stranded == 0)
				relay->stranded_at = Min(relay->stranded_at, sqs_now_ms());
			continue;
		}
		if (batch->place.deliver_at > tables->now ||
			stream->nbatches >= sqs_relay_max_batches(relay))
		{
			*tail = batch->place;
			sqs_relay_forget_batch(relay, batch);
			break;
		}
		sqs_relay_list_batch(stream, batch);
	}
	systable_endscan_ordered(scan);
	return tuple == NULL;
}

/* First those of the tail's time, of which there may be very many. */
void
sqs_relay_refill_stream(Relay *relay, OutboxTables *tables, RelayQueue *queue, BatchStreamId id)
{
	BatchStream *stream = &queue->streams[id];
	OutboxPlace tail = {DT_NOEND, PG_INT64_MAX};
	ScanKeyData keys[3];
	bool		at_end;

	if (!stream->more || stream->nbatches > sqs_relay_max_batches(relay) / 2)
		return;

	ScanKeyInit(&keys[0], BATCH_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(queue->queue_id));
	ScanKeyInit(&keys[1], BATCH_DELIVER_AT + 1, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ,
				TimestampTzGetDatum(stream->tail.deliver_at));
	ScanKeyInit(&keys[2], BATCH_POSITION + 1, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(stream->tail.position));
	at_end = list_batches(relay, tables, queue, stream, 3, keys, &tail);
	if (at_end && id == STREAM_TIMED)
	{
		/* all keys anew: a scan may renumber the columns of those it gets */
		ScanKeyInit(&keys[0], BATCH_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ,
					Int32GetDatum(queue->queue_id));
		ScanKeyInit(&keys[1], BATCH_DELIVER_AT + 1, BTGreaterStrategyNumber, F_TIMESTAMPTZ_GT,
					TimestampTzGetDatum(stream->tail.deliver_at));
		at_end = list_batches(relay, tables, queue, stream, 2, keys, &tail);
	}

	/* what an ERROR has kept from being read is still there to be read */
	stream->more = !at_end && tail.deliver_at <= tables->now;
	if (id == STREAM_TIMED)
		queue->next_due = !at_end && !stream->more ? tail.deliver_at : DT_NOEND;
	stream->tail = tail;
}

/* ---- rows that nothing leads to ---- */

static int
compare_int64(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

/*
 * Go through the batches of which there are rows, in their order, beside those
 * of which there is a record.  One that has none, or a copy, is stranded:
 * somebody has deleted the record, or restored something.  O(batches), under
 * one snapshot.
 */
static void
count_stranded(Relay *relay, OutboxTables *tables)
{
	int			nids = 0;
	int			size = 1024;
	int64	   *ids = palloc(sizeof(int64) * size);
	int			next = 0;
	int64		last = PG_INT64_MIN;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		isnull;

	scan = systable_beginscan(tables->batches, InvalidOid, false, tables->snapshot, 0, NULL);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (!sqs_batch_is_native(tuple, RelationGetDescr(tables->batches)))
			continue;
		if (nids == size)
		{
			size *= 2;
			ids = repalloc_huge(ids, sizeof(int64) * size);
		}
		ids[nids++] = DatumGetInt64(batch_column(tables, tuple, BATCH_ID));
	}
	systable_endscan(scan);
	qsort(ids, nids, sizeof(int64), compare_int64);

	while (!ShutdownRequestPending)
	{
		ScanKeyData key;
		int32		queue_id = 0;

		CHECK_FOR_INTERRUPTS();
		ScanKeyInit(&key, ROW_BATCH_ID + 1, BTGreaterStrategyNumber, F_INT8GT,
					Int64GetDatum(last));
		scan = systable_beginscan_ordered(tables->rows, tables->rows_index,
										  tables->snapshot, 1, &key);
		tuple = systable_getnext_ordered(scan, ForwardScanDirection);
		if (tuple != NULL)
		{
			last = DatumGetInt64(sqs_getattr(tuple, ROW_BATCH_ID + 1, relay->row_desc, &isnull));
			queue_id = DatumGetInt32(sqs_getattr(tuple, ROW_QUEUE_ID + 1, relay->row_desc, &isnull));
		}
		systable_endscan_ordered(scan);
		if (tuple == NULL)
			break;
		while (next < nids && ids[next] < last)
			next++;
		if (next == nids || ids[next] != last)
			sqs_relay_queue(relay, queue_id)->stranded++;
	}
	pfree(ids);
}

/* If a table is locked, what was found the last time holds. */
void
sqs_relay_find_stranded(Relay *relay, int64 now)
{
	OutboxTables tables;
	const char *locked = NULL;
	dlist_iter	iter;
	int64		took;

	sqs_begin();
	MemoryContextSwitchTo(relay->scratch);
	if (OidIsValid(sqs_extension_oid()) &&
		sqs_relay_open_tables(relay, &tables, AccessShareLock, &locked))
	{
		dlist_foreach(iter, &relay->queues)
			dlist_container(RelayQueue, node, iter.cur)->stranded = 0;
		count_stranded(relay, &tables);
		sqs_relay_close_tables(&tables);
	}
	else if (locked != NULL)
		sqs_relay_close_tables(&tables);
	sqs_commit();
	MemoryContextSwitchTo(relay->scratch);

	took = sqs_now_ms() - now;
	relay->stranded_at = now + (locked != NULL ? 60000 : STRANDED_MS);
	relay->stranded_not_before = now + took * STRANDED_COST;
}
