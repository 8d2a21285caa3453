/*-------------------------------------------------------------------------
 *
 * relay_rows.c
 *	  What the relay does with the outbox's tables.
 *
 * Three kinds of short transactions: one reads, one deletes what SQS has
 * confirmed, one per queue records what will never be sent.  They are apart
 * so that one which cannot be done holds up nothing else: a failure that
 * cannot be recorded must not keep confirmed rows from being deleted, or they
 * would be sent again.  None of them waits for a lock on a table or a row.
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
 * What is known of a queue is kept in memory up to MAX_BATCHES, and less if
 * there are many queues; the rest stays where it is, and is read in order,
 * from the place where what is in memory ends.
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
#include "postmaster/interrupt.h"
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

#include "base/compat.h"
#include "base/extension.h"
#include "base/settings.h"
#include "base/table_writer.h"
#include "base/worker.h"
#include "send/outbox_failures.h"
#include "send/relay.h"

#define MAX_BATCHES			8192	/* of a stream, in memory */
#define MIN_BATCHES			16	/* which each stream may have in any case */
#define STANDBY_TICK_MS		10
#define MAX_RECORDED		500 /* refused rows in one transaction */
#define SCAN_COST			100 /* a scan is made after so many times its duration */
#define STRANDED_MS			86400000	/* how often stranded rows are looked for */
#define STRANDED_COST		10	/* as SCAN_COST: a person waits for what it finds */
#define ROW_IS_LOCKED \
	"a row of table " SQS_INTERNAL_SCHEMA ".outbox_rows or outbox_batches is locked"

/* The tables, open for a transaction that reads. */
typedef struct OutboxTables
{
	Relation	rows;
	Relation	rows_index;		/* (batch_id, id) */
	Relation	batches;
	Relation	xid_index;		/* (xid, batch_id, queue_id) */
	Relation	order_index;	/* (queue_id, deliver_at, position) */
	Snapshot	snapshot;
	TimestampTz now;

	/* where rows are deleted */
	SqsWriter  *row_writer;
	SqsWriter  *batch_writer;
	SqsWriter  *failures;		/* NULL: not needed */
	TupleTableSlot *row_slot;
	TupleTableSlot *batch_slot;
	BlockNumber row_blocks;		/* not truncated while they are locked */
	BlockNumber batch_blocks;
} OutboxTables;

/*
 * A table that somebody has locked is not waited for, because answers of SQS
 * are to be taken meanwhile.  NULL then, and *locked says which.
 */
static Relation
open_table(SqsTable table, LOCKMODE mode, const char **locked)
{
	Relation	rel = sqs_table_open_nowait(table, mode);

	if (rel == NULL)
		*locked = sqs_table_name(table);
	return rel;
}

/* Likewise an index: REINDEX locks it, and lets its table be read. */
static Relation
open_index(SqsIndex which, SqsTable table, const char **locked)
{
	Oid			oid = sqs_index_oid(which);

	if (!ConditionalLockRelationOid(oid, AccessShareLock))
	{
		*locked = sqs_table_name(table);
		return NULL;
	}
	return index_open(oid, NoLock);
}

/*
 * Open the tables in this mode.  False, with the name in *locked, if somebody
 * holds a lock that conflicts; the caller ends the transaction, which closes
 * what has been opened.
 */
static bool
open_tables(Relay *relay, OutboxTables *tables, LOCKMODE mode, const char **locked)
{
	memset(tables, 0, sizeof(*tables));
	if ((tables->rows = open_table(SQS_TABLE_OUTBOX_ROWS, mode, locked)) == NULL ||
		(tables->batches = open_table(SQS_TABLE_OUTBOX_BATCHES, mode, locked)) == NULL)
		return false;
	if (OidIsValid(relay->rows_oid) && relay->rows_oid != RelationGetRelid(tables->rows))
	{
		/* the extension was dropped and created: what is in hand is of its past */
		relay->obsolete = true;
		*locked = sqs_table_name(SQS_TABLE_OUTBOX_ROWS);
		return false;
	}
	if ((tables->rows_index = open_index(SQS_INDEX_OUTBOX_ROWS_PKEY,
										 SQS_TABLE_OUTBOX_ROWS, locked)) == NULL ||
		(tables->xid_index = open_index(SQS_INDEX_OUTBOX_BATCHES_PKEY,
										SQS_TABLE_OUTBOX_BATCHES, locked)) == NULL ||
		(tables->order_index = open_index(SQS_INDEX_OUTBOX_BATCHES_ORDER,
										  SQS_TABLE_OUTBOX_BATCHES, locked)) == NULL)
		return false;
	tables->snapshot = GetActiveSnapshot();
	tables->now = GetCurrentTimestamp();

	if (relay->row_desc == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(relay->context);

		relay->row_desc = CreateTupleDescCopy(RelationGetDescr(tables->rows));
		MemoryContextSwitchTo(old);
	}
	relay->rows_oid = RelationGetRelid(tables->rows);
	return true;
}

/* For deletion; with failures, if rows are moved there. */
static bool
open_tables_to_delete(Relay *relay, OutboxTables *tables, bool failures, const char **locked)
{
	Relation	failures_rel = NULL;

	if (!open_tables(relay, tables, RowExclusiveLock, locked))
		return false;
	if (failures &&
		(failures_rel = open_table(SQS_TABLE_OUTBOX_FAILURES, RowExclusiveLock, locked)) == NULL)
		return false;
	tables->row_writer = sqs_writer_on(tables->rows);
	tables->batch_writer = sqs_writer_on(tables->batches);
	if (failures)
		tables->failures = sqs_writer_on(failures_rel);
	tables->row_slot = table_slot_create(tables->rows, NULL);
	tables->batch_slot = table_slot_create(tables->batches, NULL);
	tables->row_blocks = RelationGetNumberOfBlocks(tables->rows);
	tables->batch_blocks = RelationGetNumberOfBlocks(tables->batches);
	return true;
}

/* Locks are kept to the end of the transaction, which is near. */
static void
close_tables(OutboxTables *tables)
{
	if (tables->failures != NULL)
	{
		Relation	rel = sqs_writer_relation(tables->failures);

		sqs_writer_close(tables->failures);
		table_close(rel, NoLock);
	}
	if (tables->row_writer != NULL)
	{
		ExecDropSingleTupleTableSlot(tables->row_slot);
		ExecDropSingleTupleTableSlot(tables->batch_slot);
		sqs_writer_close(tables->row_writer);
		sqs_writer_close(tables->batch_writer);
	}
	if (tables->order_index != NULL)
		index_close(tables->order_index, NoLock);
	if (tables->xid_index != NULL)
		index_close(tables->xid_index, NoLock);
	if (tables->rows_index != NULL)
		index_close(tables->rows_index, NoLock);
	if (tables->batches != NULL)
		table_close(tables->batches, NoLock);
	if (tables->rows != NULL)
		table_close(tables->rows, NoLock);
}

static char *
is_locked_text(const char *table)
{
	return psprintf("table %s.%s is locked", SQS_INTERNAL_SCHEMA, table);
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
	Datum		value = sqs_getattr(tuple, column + 1, RelationGetDescr(tables->batches), &isnull);

	if (isnull)
		elog(ERROR, "unexpected null in sqs_outbox_batches");
	return value;
}

/*
 * NULL if it is known already, or is a copy; which of the two, *copy tells.
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
	queue = relay_queue(relay, (int32) key.queue_id);
	durable = durable_at(tuple);
	batch = hash_search(relay->batches, &key, HASH_ENTER, &found);
	if (found)
		return NULL;
	memset((char *) batch + sizeof(batch->key), 0, sizeof(RelayBatch) - sizeof(batch->key));
	batch->queue = queue;
	batch->place.deliver_at = deliver_at;
	batch->place.position = position;
	batch->tid = tuple->t_self;
	batch->file = tables->batches->rd_rel->relfilenode;
	batch->durable_at = durable;
	batch->last_id = PG_INT64_MIN;
	return batch;
}

/* How many batches of one stream may be in memory. */
static int
max_batches(Relay *relay)
{
	/*
	 * An eighth of the relay's memory is theirs.  A stream gets no more than
	 * it leaves free, so that there is always some left for the next.
	 */
	long		room = (long) sqs_max_outbox_memory * 1024 / 8 / (long) sizeof(RelayBatch) -
		hash_get_num_entries(relay->batches);

	return Max(MIN_BATCHES, Min(MAX_BATCHES, room));
}

static void
forget_batch(Relay *relay, RelayBatch *batch)
{
	hash_search(relay->batches, &batch->key, HASH_REMOVE, NULL);
}

/*
 * The batch may have been read to its end, and has rows again that are not
 * dealt with.  So its record must stay, and when no row of it is in hand it is
 * not known any more: who reads the queue anew finds it then.
 */
void
relay_give_up_item(Relay *relay, RelayItem *item)
{
	RelayBatch *batch = item->batch;

	relay_free_item(relay, item);
	batch->given_up = true;
	if (--batch->rows == 0 && !batch->listed)
		forget_batch(relay, batch);
}

/* Everything of the queue's is to be read again. */
static void
rewind_queue(RelayQueue *queue)
{
	queue->streams[STREAM_PLAIN].tail.deliver_at = DT_NOBEGIN;
	queue->streams[STREAM_PLAIN].tail.position = PG_INT64_MIN;
	queue->streams[STREAM_PLAIN].more = true;
	queue->streams[STREAM_TIMED].tail.deliver_at = DT_NOBEGIN;
	queue->streams[STREAM_TIMED].tail.position = PG_INT64_MAX;
	queue->streams[STREAM_TIMED].more = true;
}

void
relay_forget_batches(Relay *relay, RelayQueue *queue)
{
	Assert(queue->nitems == 0);
	for (BatchStreamId id = 0; id < NUM_STREAMS; id++)
	{
		BatchStream *stream = &queue->streams[id];

		while (!dlist_is_empty(&stream->batches))
		{
			RelayBatch *batch = dlist_head_element(RelayBatch, node, &stream->batches);

			unlist_batch(stream, batch);
			forget_batch(relay, batch);
		}
	}
	rewind_queue(queue);
}

/* A batch that has just become visible. */
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
	if (stream->nbatches > max_batches(relay))
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
			rewind_queue(relay_queue(relay, last));
		}
		systable_endscan_ordered(scan);
	}
}

static void
find_batches(Relay *relay, OutboxTables *tables, int64 now)
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
			/* how many there are is found out by relay_find_stranded() */
			if (copy && queue->stranded == 0)
				relay->stranded_at = Min(relay->stranded_at, sqs_now_ms());
			continue;
		}
		if (batch->place.deliver_at > tables->now ||
			stream->nbatches >= max_batches(relay))
		{
			*tail = batch->place;
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
	OutboxPlace tail = {DT_NOEND, PG_INT64_MAX};
	ScanKeyData keys[3];
	bool		at_end;

	if (!stream->more || stream->nbatches > max_batches(relay) / 2)
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
		/* all anew: the scan before may have renumbered them */
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

/* ---- rows ---- */

/* The hash of the group id, which may be stored compressed. */
static uint64
group_key(Relay *relay, RelayQueue *queue, HeapTuple tuple)
{
	bool		isnull;
	Datum		value;
	text	   *group;
	uint64		key;

	if (queue->config == NULL || !queue->config->fifo)
		return 0;
	value = sqs_getattr(tuple, ROW_GROUP_ID + 1, relay->row_desc, &isnull);
	if (isnull)
		return 0;
	group = DatumGetTextPP(value);
	key = hash_bytes_extended((unsigned char *) VARDATA_ANY(group),
							  VARSIZE_ANY_EXHDR(group), 0);
	if ((Pointer) group != DatumGetPointer(value))
		pfree(group);
	return key;
}

/* A row as an item in hand; the relay knows nothing of it yet. */
static RelayItem *
make_item(Relay *relay, OutboxTables *tables, RelayBatch *batch, HeapTuple tuple)
{
	MemoryContext old = MemoryContextSwitchTo(relay->scratch);
	HeapTuple	flat = tuple;
	RelayItem  *item;
	bool		isnull;

	/* large values are fetched now: later there is no transaction */
	if (HeapTupleHasExternal(tuple))
		flat = toast_flatten_tuple(tuple, relay->row_desc);
	MemoryContextSwitchTo(relay->context);
	item = palloc0(sizeof(RelayItem));
	item->batch = batch;
	item->tid = tuple->t_self;
	item->file = tables->rows->rd_rel->relfilenode;
	item->tuple = MemoryContextAllocExtended(relay->context, HEAPTUPLESIZE + flat->t_len,
											 MCXT_ALLOC_NO_OOM);
	if (item->tuple == NULL)
	{
		pfree(item);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	item->tuple->t_len = flat->t_len;
	item->tuple->t_self = flat->t_self;
	item->tuple->t_tableOid = flat->t_tableOid;
	item->tuple->t_data = (HeapTupleHeader) ((char *) item->tuple + HEAPTUPLESIZE);
	memcpy(item->tuple->t_data, flat->t_data, flat->t_len);
	MemoryContextSwitchTo(old);
	if (flat != tuple)
		pfree(flat);

	item->id = DatumGetInt64(sqs_getattr(item->tuple, ROW_ID + 1, relay->row_desc, &isnull));
	item->send.size = DatumGetInt32(sqs_getattr(item->tuple, ROW_SIZE + 1,
												relay->row_desc, &isnull));

	/* it is there twice while a request is under way */
	item->bytes = GetMemoryChunkSpace(item->tuple) + GetMemoryChunkSpace(item) +
		item->send.size;
	return item;
}

/*
 * Read on in a batch.  True if it was read to its end.  A row says itself to
 * which queue it belongs: where rows were restored into a database that was
 * in use, they may have the number of somebody else's batch.
 */
static bool
load_batch(Relay *relay, OutboxTables *tables, RelayBatch *batch, int64 now)
{
	SysScanDesc scan;
	ScanKeyData keys[2];
	HeapTuple	tuple = NULL;
	bool		room;

	ScanKeyInit(&keys[0], ROW_BATCH_ID + 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(batch->key.batch_id));
	ScanKeyInit(&keys[1], ROW_ID + 1, BTGreaterStrategyNumber, F_INT8GT,
				Int64GetDatum(batch->last_id));
	scan = systable_beginscan_ordered(tables->rows, tables->rows_index,
									  tables->snapshot, 2, keys);
	while ((room = relay_has_room(relay, batch->queue)) &&
		   (tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		RelayItem  *item;
		bool		isnull;

		if (DatumGetInt32(sqs_getattr(tuple, ROW_QUEUE_ID + 1, relay->row_desc,
									  &isnull)) != batch->queue->queue_id)
			continue;
		item = make_item(relay, tables, batch, tuple);
		relay_add_item(relay, batch->queue, item,
					   group_key(relay, batch->queue, item->tuple), now);
		batch->last_id = item->id;
	}
	systable_endscan_ordered(scan);
	return room;
}

static void
load_rows(Relay *relay, OutboxTables *tables, RelayQueue *queue, int64 now)
{
	for (BatchStreamId id = 0; id < NUM_STREAMS; id++)
	{
		BatchStream *stream = &queue->streams[id];

		while (!dlist_is_empty(&stream->batches) && relay_has_room(relay, queue))
		{
			RelayBatch *batch = dlist_head_element(RelayBatch, node, &stream->batches);

			if (!is_durable(batch))
			{
				relay->standby_at = now + STANDBY_TICK_MS;
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

static RelayOutcome
delete_row(OutboxTables *tables, RelayItem *item)
{
	ScanKeyData keys[2];

	if (is_in_place(tables->rows, tables->row_blocks, tables->row_slot, tables->snapshot,
					item->file, &item->tid, ROW_ID, item->id))
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
					batch->file, &batch->tid, BATCH_ID, batch->key.batch_id))
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
 * Delete the rows of at most so many items, together with the batches that
 * have no other.  Nothing in memory changes but what is noted of the outcome.
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

/* The batch record was deleted, or is to be tried again. */
static void
batch_is_done(Relay *relay, RelayBatch *batch)
{
	if (batch->outcome == RELAY_DELETED || batch->outcome == RELAY_GONE)
		forget_batch(relay, batch);
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
	relay_free_item(relay, item);
	if (--batch->rows == 0 && !batch->listed)
	{
		if (batch->given_up)
			forget_batch(relay, batch);
		else
			batch_is_done(relay, batch);
	}
	return true;
}

void
relay_delete_confirmed(Relay *relay, int64 now)
{
	OutboxTables tables;
	const char *locked = NULL;
	dlist_mutable_iter iter;

	/* those that were locked have their turn again */
	if (relay->nheld > 0 && now >= relay->holding.not_before)
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

	sqs_begin();
	MemoryContextSwitchTo(relay->scratch);
	if (!open_tables_to_delete(relay, &tables, false, &locked))
	{
		close_tables(&tables);
		sqs_commit();
		MemoryContextSwitchTo(relay->scratch);
		relay_trouble(relay, NULL, &relay->deleting, true, is_locked_text(locked), now);
		return;
	}
	settle(relay, &tables, &relay->confirmed, relay->nconfirmed);
	dlist_foreach_modify(iter, &relay->emptied)
	{
		RelayBatch *batch = dlist_container(RelayBatch, node, iter.cur);

		batch->outcome = delete_batch(&tables, batch);
	}
	close_tables(&tables);
	sqs_commit();
	MemoryContextSwitchTo(relay->scratch);

	/* from here on nothing can fail */
	dlist_foreach_modify(iter, &relay->emptied)
	{
		RelayBatch *batch = dlist_container(RelayBatch, node, iter.cur);

		if (batch->outcome == RELAY_BUSY)
			continue;
		dlist_delete(iter.cur);
		forget_batch(relay, batch);
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

	relay_trouble_over(relay, NULL, &relay->deleting);
	if (relay->nheld == 0 && dlist_is_empty(&relay->emptied))
		relay_trouble_over(relay, NULL, &relay->holding);
	else if (now >= relay->holding.not_before)
		relay_trouble(relay, NULL, &relay->holding, true, ROW_IS_LOCKED, now);
}

/* ---- failures ---- */

/*
 * Is the queue really not registered, as this snapshot sees it?  False also
 * if that cannot be known because the table is locked.
 */
static bool
is_not_registered(int32 queue_id, const char **locked)
{
	Relation	rel = open_table(SQS_TABLE_QUEUES, AccessShareLock, locked);
	bool		registered;

	if (rel == NULL)
		return false;
	registered = sqs_catalog_queue(queue_id) != NULL;
	table_close(rel, NoLock);
	return !registered;
}

/* All that was to fail goes back to where it came from. */
static void
take_back_refused(Relay *relay, RelayQueue *queue)
{
	while (!dlist_is_empty(&queue->refused))
	{
		RelayItem  *item = dlist_container(RelayItem, node, dlist_pop_head_node(&queue->refused));

		relay_give_up_item(relay, item);
	}
	queue->nrefused = 0;
	queue->unloading = true;
	relay->need_config = true;
}

void
relay_record_refused(Relay *relay, RelayQueue *queue, int64 now)
{
	OutboxTables tables;
	const char *locked = NULL;
	int			limit = queue->one_by_one ? 1 : MAX_RECORDED;
	bool		busy = false;

	sqs_begin();
	MemoryContextSwitchTo(relay->scratch);
	if (!open_tables_to_delete(relay, &tables, true, &locked) ||
		(queue->gone && !is_not_registered(queue->queue_id, &locked)))
	{
		close_tables(&tables);
		sqs_commit();
		MemoryContextSwitchTo(relay->scratch);
		if (locked != NULL)
			relay_trouble(relay, queue, &queue->recording, true, is_locked_text(locked), now);
		else
			take_back_refused(relay, queue);
		return;
	}

	/* after an error the next has its turn, and the bad one is known in the end */
	if (queue->one_by_one)
		dlist_push_tail(&queue->refused, dlist_pop_head_node(&queue->refused));
	settle(relay, &tables, &queue->refused, limit);
	close_tables(&tables);
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
		relay_trouble(relay, queue, &queue->recording, true, ROW_IS_LOCKED, now);
	else if (queue->one_by_one && queue->nrefused > 0)
		queue->recording.not_before = now;
	else
	{
		queue->one_by_one = false;
		relay_trouble_over(relay, queue, &queue->recording);
	}
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
			relay_queue(relay, queue_id)->stranded++;
	}
	pfree(ids);
}

void
relay_find_stranded(Relay *relay, int64 now)
{
	OutboxTables tables;
	const char *locked = NULL;
	dlist_iter	iter;
	int64		took;

	sqs_begin();
	MemoryContextSwitchTo(relay->scratch);
	if (OidIsValid(sqs_extension_oid()) &&
		open_tables(relay, &tables, AccessShareLock, &locked))
	{
		dlist_foreach(iter, &relay->queues)
			dlist_container(RelayQueue, node, iter.cur)->stranded = 0;
		count_stranded(relay, &tables);
		close_tables(&tables);
	}
	else if (locked != NULL)
		close_tables(&tables);
	sqs_commit();
	MemoryContextSwitchTo(relay->scratch);

	took = sqs_now_ms() - now;
	relay->stranded_at = now + (locked != NULL ? 60000 : STRANDED_MS);
	relay->stranded_not_before = now + took * STRANDED_COST;
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

		/* a transaction for some rows is worth it, for each one it is not */
		if (!relay_may_read(queue, now) || !relay_has_room(relay, queue) ||
			!relay_runs_low(queue))
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
relay_read_rows(Relay *relay, int64 now)
{
	OutboxTables tables;
	const char *locked = NULL;
	dlist_iter	iter;
	bool		scan = relay->scan || !relay->scanned;
	int64		took = 0;

	relay->current = NULL;
	sqs_begin();
	MemoryContextSwitchTo(relay->scratch);
	if (!OidIsValid(sqs_extension_oid()))
	{
		relay->scanned = true;
		relay->scan = relay->news = false;
		sqs_commit();
		MemoryContextSwitchTo(relay->scratch);
		return;
	}
	if (!open_tables(relay, &tables, AccessShareLock, &locked))
	{
		close_tables(&tables);
		sqs_commit();
		MemoryContextSwitchTo(relay->scratch);
		relay_trouble(relay, NULL, &relay->reading, true, is_locked_text(locked), now);
		return;
	}

	relay->standby_at = 0;
	relay->out_of_room = false;
	find_batches(relay, &tables, now);
	took = sqs_now_ms() - now;
	dlist_foreach(iter, &relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);
		int64		start;

		if (queue->next_due <= tables.now)
			queue->streams[STREAM_TIMED].more = true;
		if (!relay_may_read(queue, now))
			continue;
		relay->current = queue;
		start = scan ? sqs_now_ms() : 0;
		for (BatchStreamId id = 0; id < NUM_STREAMS; id++)
			refill_stream(relay, &tables, queue, id);
		if (scan)
			took += sqs_now_ms() - start;
		load_rows(relay, &tables, queue, now);
		if (queue->reading.failures > 0)
			relay_trouble_over(relay, queue, &queue->reading);
	}
	relay->current = NULL;
	close_tables(&tables);
	sqs_commit();
	MemoryContextSwitchTo(relay->scratch);
	MemoryContextReset(relay->scratch);

	if (scan && !relay->scan)
		relay->scan_not_before = now + took * SCAN_COST;
	if (relay->reading.failures > 0)
		relay_trouble_over(relay, NULL, &relay->reading);

	/* another one has the first look at what room there is the next time */
	if (!dlist_is_empty(&relay->queues))
		dlist_push_tail(&relay->queues, dlist_pop_head_node(&relay->queues));
}
