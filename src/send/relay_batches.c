/*-------------------------------------------------------------------------
 *
 * relay_batches.c
 *	  Finding the batches of the outbox that are to be sent.
 *
 * Finding what has been committed.  All batches are scanned at the start,
 * and occasionally after that, as a safety net.  In between, the relay asks
 * which transactions its new snapshot sees and its last one did not: those
 * that were running then and are not now, and those that started since.  It
 * looks up their batches by transaction id.  So it never meets a row that it
 * has deleted, even if an old snapshot somewhere keeps VACUUM from removing
 * it; if the relay read a queue from its beginning each time, it would
 * become slower with each message.  The scans do meet dead rows, and are
 * spaced so that they take at most one hundredth of the time.
 *
 * Batches are kept in memory as far as there is room (relay_room.c).  The
 * rest is read in order, from the place where those in memory end.
 *
 * Copies.  A batch that was restored or replicated says nothing about which
 * rows exist, and its transaction id means nothing here.  It is neither sent
 * from nor deleted (see outbox.h).  Rows without a batch record are not found
 * by any of this; a scan of the rows once a day counts them.
 *
 * Durability.  A transaction that commits asynchronously is visible before
 * it is durable.  The commit log knows up to where WAL has to be flushed for
 * it.  VACUUM freezes batches without waiting for their durability, and the
 * commit log may not reach back to a frozen one, so for these all WAL
 * written so far is flushed.  With synchronous standbys, rows wait until the
 * standbys have flushed everything that was written when the rows were
 * found.  A transaction that waited for the standbys itself is not visible
 * earlier, but one that did not could be lost in a failover.
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

/* Interval between two searches for stranded rows. */
#define STRANDED_MS			86400000

/*
 * Like SQS_RELAY_SCAN_COST; less, because a person may wait for the result.
 */
#define STRANDED_COST		10

/* ---- durability ---- */

/* Up to where WAL must be flushed before rows of the batch are sent. */
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
	 * All WAL that has been written so far; the commit log may not reach back
	 * to a frozen batch.
	 */
	end = GetXLogInsertRecPtr();
	offset = XLogSegmentOffset(end, wal_segment_size);

	/* at the start of a page, it points behind a header not yet written */
	if (offset == SizeOfXLogLongPHD)
		end -= SizeOfXLogLongPHD;
	else if (end % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		end -= SizeOfXLogShortPHD;
	return end;
}

/*
 * Is the batch durable, so that it may be sent?  Flushes WAL if necessary.
 * False while a synchronous standby has not flushed it.
 */
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

/* A column of a batch record, none of which may be null. */
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
 * Make an entry for a batch that has been read; it is in no list yet.
 * Returns NULL if the batch is known already or is a copy; *copy tells
 * which.
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
 * A batch has just become visible.  Put it into its stream, if it belongs to
 * the part of the stream that is in memory.  Otherwise note, in the stream
 * or in the queue's next_due, that there is something to read later.
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

		/* it has rows in hand, and others have come before it since */
		if (last->rows > 0)
			return;
		stream->tail = last->place;
		stream->more = true;
		sqs_relay_unlist_batch(stream, last);
		sqs_relay_forget_batch(relay, last);
	}
}

/*
 * Add the epoch to a transaction id from a snapshot, which is less than half
 * a cycle old.
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
 * Find the batches of transactions "from" to before "before".  Both ends are
 * needed: copies can have any transaction id, and with an open end those
 * beyond it would be found each time.
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

/* Find all queues that have batches, and have all of them read again. */
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
 * Find the batches that have become visible since the last call: those of
 * transactions that this snapshot sees and the last one did not.  If a scan
 * is requested and due, or if this is the first call, have everything read
 * instead.
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
 * Read batches of a queue in the order of the index, and put them into the
 * stream.  Returns true at the end of the scan.  False if there is no more
 * room or the next batch is not due yet; *tail is then its place.
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
			/* sqs_relay_find_stranded() counts them */
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

/*
 * Read batches of a queue from the tail of the stream on, if the stream has
 * few and there are more.  Those with the same deliver_at as the tail are
 * read first, by position, because there can be very many of them; then
 * those with a later deliver_at.
 */
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
		/* initialize all keys again: a scan may change those it gets */
		ScanKeyInit(&keys[0], BATCH_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ,
					Int32GetDatum(queue->queue_id));
		ScanKeyInit(&keys[1], BATCH_DELIVER_AT + 1, BTGreaterStrategyNumber, F_TIMESTAMPTZ_GT,
					TimestampTzGetDatum(stream->tail.deliver_at));
		at_end = list_batches(relay, tables, queue, stream, 2, keys, &tail);
	}

	/* after an ERROR, this is not reached, and they are read again */
	stream->more = !at_end && tail.deliver_at <= tables->now;
	if (id == STREAM_TIMED)
		queue->next_due = !at_end && !stream->more ? tail.deliver_at : DT_NOEND;
	stream->tail = tail;
}

/* ---- stranded rows ---- */

static int
compare_int64(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

/*
 * Count the stranded batches of each queue: those that have rows, but no
 * record or only a copy of one, because somebody has deleted the record or
 * restored something.  Compares the ids of the batches that have rows with
 * the sorted ids of the records.  Takes O(batches), under one snapshot.
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

/*
 * Count the batches whose rows only sqs_adopt_queues() can have sent, in a
 * transaction of its own.  If a table is locked, the last result stays.
 */
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
