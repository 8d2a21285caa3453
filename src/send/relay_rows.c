/*-------------------------------------------------------------------------
 *
 * relay_rows.c
 *	  Reading rows of the outbox into the Senders.
 *
 * Batches are read in their order, those with a deliver_at first.  As much
 * of a batch is read as there is room for; RelayBatch.last_id remembers
 * where reading ended.  A row is copied completely, including its TOASTed
 * values, because no transaction is open later, when the message is sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/worker.h"
#include "send/outgoing.h"
#include "send/relay_batches.h"
#include "send/relay_room.h"
#include "send/relay_rows.h"
#include "send/relay_trouble.h"

#define STANDBY_TICK_MS		10

/* The hash of the group id; 0 on standard queues, or if there is none. */
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

/*
 * Make an item for a row.  It is palloc'd in the relay's context, and not
 * yet known to the relay: see sqs_relay_add_item().
 */
static RelayItem *
make_item(Relay *relay, OutboxTables *tables, RelayBatch *batch, HeapTuple tuple)
{
	MemoryContext old = MemoryContextSwitchTo(relay->scratch);
	HeapTuple	flat = tuple;
	RelayItem  *item;
	bool		isnull;

	/* fetch TOASTed values: later there is no transaction */
	if (HeapTupleHasExternal(tuple))
		flat = toast_flatten_tuple(tuple, relay->row_desc);
	MemoryContextSwitchTo(relay->context);
	item = palloc0(sizeof(RelayItem));
	item->batch = batch;
	item->tid = tuple->t_self;
	item->relfilenode = tables->rows->rd_rel->relfilenode;
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

	/* a request's size includes the ids of messages that have room for one */
	if (item->send.size + SQS_ID_BYTES <= SQS_MAX_MESSAGE_BYTES)
		item->send.size += SQS_ID_BYTES;

	/* the message exists twice while a request is under way */
	item->bytes = GetMemoryChunkSpace(item->tuple) + GetMemoryChunkSpace(item) +
		item->send.size;
	return item;
}

/*
 * Continue reading a batch, as far as there is room.  Returns true if it was
 * read to its end.  Rows of other queues are skipped: where rows were
 * restored into a database that was in use, they can have the number of
 * another queue's batch.
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
	while ((room = sqs_relay_has_room(relay, batch->queue)) &&
		   (tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		RelayItem  *item;
		bool		isnull;

		if (DatumGetInt32(sqs_getattr(tuple, ROW_QUEUE_ID + 1, relay->row_desc,
									  &isnull)) != batch->queue->queue_id)
			continue;
		item = make_item(relay, tables, batch, tuple);
		sqs_relay_add_item(relay, batch->queue, item,
						   group_key(relay, batch->queue, item->tuple), now);
		batch->last_id = item->id;
	}
	systable_endscan_ordered(scan);
	return room;
}

/*
 * Read rows of a queue, as far as there is room.  A batch that was read to
 * its end leaves its stream and is then known only through its rows.  If it
 * has none, its record is to be deleted.
 */
static void
load_rows(Relay *relay, OutboxTables *tables, RelayQueue *queue, int64 now)
{
	for (BatchStreamId id = 0; id < NUM_STREAMS; id++)
	{
		BatchStream *stream = &queue->streams[id];

		while (!dlist_is_empty(&stream->batches) && sqs_relay_has_room(relay, queue))
		{
			RelayBatch *batch = dlist_head_element(RelayBatch, node, &stream->batches);

			if (!sqs_relay_is_durable(batch))
			{
				relay->standby_at = now + STANDBY_TICK_MS;
				break;
			}
			if (!load_batch(relay, tables, batch, now))
				return;
			sqs_relay_unlist_batch(stream, batch);
			if (batch->rows == 0)
				dlist_push_tail(&relay->emptied, &batch->node);
		}
	}
}

/*
 * Is there a queue that runs low on rows, has room, and has rows to be read?
 */
bool
sqs_relay_wants_rows(Relay *relay, int64 now)
{
	dlist_iter	iter;
	TimestampTz clock = 0;

	dlist_foreach(iter, &relay->queues)
	{
		const RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);

		/* a transaction is worthwhile for several rows, not for each */
		if (!sqs_relay_may_read(queue, now) || !sqs_relay_has_room(relay, queue) ||
			!sqs_relay_runs_low(queue))
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

/*
 * Find committed batches and read rows, in one short transaction that waits
 * for no lock.  After an ERROR, what was read before it stays in memory, and
 * relay->current is the queue whose rows raised it, or NULL.
 *
 * The cost of a scan, which determines when the next one may take place, is
 * measured without the reading of rows, which have to be read anyway.
 */
void
sqs_relay_read_rows(Relay *relay, int64 now)
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
	if (!sqs_relay_open_tables(relay, &tables, AccessShareLock, &locked))
	{
		sqs_relay_close_tables(&tables);
		sqs_commit();
		MemoryContextSwitchTo(relay->scratch);
		sqs_relay_trouble(relay, NULL, &relay->reading, true,
						  sqs_relay_is_locked_text(locked), now);
		return;
	}

	relay->standby_at = 0;
	relay->out_of_room = false;
	sqs_relay_find_batches(relay, &tables, now);
	took = sqs_now_ms() - now;
	dlist_foreach(iter, &relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);
		int64		start;

		if (queue->next_due <= tables.now)
			queue->streams[STREAM_TIMED].more = true;
		if (!sqs_relay_may_read(queue, now))
			continue;
		relay->current = queue;
		start = scan ? sqs_now_ms() : 0;
		for (BatchStreamId id = 0; id < NUM_STREAMS; id++)
			sqs_relay_refill_stream(relay, &tables, queue, id);
		if (scan)
			took += sqs_now_ms() - start;
		load_rows(relay, &tables, queue, now);
		if (queue->reading.failures > 0)
			sqs_relay_trouble_over(relay, queue, &queue->reading);
	}
	relay->current = NULL;
	sqs_relay_close_tables(&tables);
	sqs_commit();
	MemoryContextSwitchTo(relay->scratch);
	MemoryContextReset(relay->scratch);

	if (scan && !relay->scan)
		relay->scan_not_before = now + took * SQS_RELAY_SCAN_COST;
	if (relay->reading.failures > 0)
		sqs_relay_trouble_over(relay, NULL, &relay->reading);

	/* next time, another queue is the first to use the room */
	if (!dlist_is_empty(&relay->queues))
		dlist_push_tail(&relay->queues, dlist_pop_head_node(&relay->queues));
}
