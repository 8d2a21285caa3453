/*-------------------------------------------------------------------------
 *
 * ids.c
 *	  Ids of queues and of dead letters, and ids and positions of the outbox.
 *
 * They do not come from sequences: members of pg_write_all_data may set any
 * sequence, and no trigger can guard one.  A sequence set to its end would let
 * no session enqueue, and one set back would lose the order of commits.
 *
 * Instead there is a number in shared memory that only grows: the current
 * time, or one more than the last number, whichever is greater.  It is lost
 * when the server stops, and afterwards the clock may have been set back, or
 * be that of a promoted standby.  So before a process takes its first number,
 * it looks at what waits in its database, and raises the number above that.
 * What has been sent and deleted need not be considered: after that, neither
 * an id nor a position means anything.
 *
 * The look sees rows that are dead or not committed, too.  A number that is
 * greater than it had to be does no harm, but while somebody holds a snapshot,
 * an MVCC scan would have each new session pass everything that has been sent
 * since, to find the last row that waits.
 *
 * As microseconds since 2000, the numbers can be represented exactly in double
 * precision until 2285.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/ids.h"
#include "base/internal_tables.h"
#include "base/shmem.h"

/*
 * The greatest value of a column that an index begins with; 0 if there is no
 * row, visible or not.  Also 0 if the table is locked: a session that sends
 * must not wait because some other table is being rebuilt, and a table that
 * the caller writes is one that it has locked already.
 */
static int64
greatest(SqsTable table, SqsIndex index, bool is_bigint, int column)
{
	Relation	rel = sqs_table_open_nowait(table, AccessShareLock);
	Relation	index_rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	int64		result = 0;
	bool		isnull;

	if (rel == NULL)
		return 0;
	index_rel = index_open(sqs_index_oid(index), AccessShareLock);
	scan = systable_beginscan_ordered(rel, index_rel, SnapshotAny, 0, NULL);
	tuple = systable_getnext_ordered(scan, BackwardScanDirection);
	if (tuple != NULL)
	{
		Datum		value = sqs_getattr(tuple, column + 1, RelationGetDescr(rel), &isnull);

		result = is_bigint ? DatumGetInt64(value) : DatumGetInt32(value);
	}
	systable_endscan_ordered(scan);
	index_close(index_rel, NoLock);
	table_close(rel, NoLock);
	return result;
}

/*
 * The greatest position among all queues' batches that are to be sent at once.
 * The index begins with the queue, so it is one probe per queue.
 */
static int64
greatest_position(void)
{
	Relation	rel = sqs_table_open(SQS_TABLE_OUTBOX_BATCHES, AccessShareLock);
	Relation	index = index_open(sqs_index_oid(SQS_INDEX_OUTBOX_BATCHES_ORDER), AccessShareLock);
	int32		queue_id = PG_INT32_MAX;
	int64		result = 0;
	bool		any = true;

	while (any)
	{
		SysScanDesc scan;
		ScanKeyData keys[2];
		HeapTuple	tuple;
		bool		isnull;

		/* the last queue that precedes the previous round's */
		ScanKeyInit(&keys[0], BATCH_QUEUE_ID + 1, BTLessStrategyNumber, F_INT4LT,
					Int32GetDatum(queue_id));
		scan = systable_beginscan_ordered(rel, index, SnapshotAny, 1, keys);
		tuple = systable_getnext_ordered(scan, BackwardScanDirection);
		any = tuple != NULL;
		if (any)
			queue_id = DatumGetInt32(sqs_getattr(tuple, BATCH_QUEUE_ID + 1,
												 RelationGetDescr(rel), &isnull));
		systable_endscan_ordered(scan);
		if (!any)
			break;

		ScanKeyInit(&keys[0], BATCH_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ,
					Int32GetDatum(queue_id));
		ScanKeyInit(&keys[1], BATCH_DELIVER_AT + 1, BTEqualStrategyNumber, F_TIMESTAMPTZ_EQ,
					TimestampTzGetDatum(DT_NOBEGIN));
		scan = systable_beginscan_ordered(rel, index, SnapshotAny, 2, keys);
		tuple = systable_getnext_ordered(scan, BackwardScanDirection);
		if (tuple != NULL)
			result = Max(result,
						 DatumGetInt64(sqs_getattr(tuple, BATCH_POSITION + 1,
												   RelationGetDescr(rel), &isnull)));
		systable_endscan_ordered(scan);
	}
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return result;
}

/* The next number, at least "least". */
static int64
next_number(pg_atomic_uint64 *last, int64 least)
{
	uint64		old = pg_atomic_read_u64(last);
	uint64		next;

	do
		next = Max((uint64) least, old + 1);
	while (!pg_atomic_compare_exchange_u64(last, &old, next));
	return (int64) next;
}

/*
 * A new id of a message or a batch of the outbox, or a new position of a
 * batch.  It is greater than all that were given out since the server was
 * started, and than all in the tables of this database.  Needs a transaction
 * with an active snapshot.
 */
int64
sqs_new_id(void)
{
	static Oid	looked_at = InvalidOid;
	int64		least = GetCurrentTimestamp();

	/* if the extension was dropped and created again, the OID differs */
	if (looked_at != sqs_table_oid(SQS_TABLE_OUTBOX_BATCHES))
	{
		least = Max(least, greatest_position() + 1);
		least = Max(least, greatest(SQS_TABLE_OUTBOX_ROWS, SQS_INDEX_OUTBOX_ROWS_PKEY,
									true, ROW_BATCH_ID) + 1);
		least = Max(least, greatest(SQS_TABLE_OUTBOX_FAILURES, SQS_INDEX_OUTBOX_FAILURES_PKEY,
									true, FAILURE_ID) + 1);
		looked_at = sqs_table_oid(SQS_TABLE_OUTBOX_BATCHES);
	}
	return next_number(&sqs_shared->last_id, least);
}

/* A new id of a dead letter.  Needs a transaction with an active snapshot. */
int64
sqs_new_dead_letter_id(void)
{
	static Oid	looked_at = InvalidOid;
	int64		least = GetCurrentTimestamp();

	if (looked_at != sqs_table_oid(SQS_TABLE_DEAD_LETTERS))
	{
		least = Max(least, greatest(SQS_TABLE_DEAD_LETTERS, SQS_INDEX_DEAD_LETTERS_PKEY,
									true, DEAD_ID) + 1);
		looked_at = sqs_table_oid(SQS_TABLE_DEAD_LETTERS);
	}
	return next_number(&sqs_shared->last_id, least);
}

/* In seconds since 2000, an integer lasts until 2068. */
int32
sqs_new_queue_id(void)
{
	int64		least = GetCurrentTimestamp() / USECS_PER_SEC;
	int64		id;

	least = Max(least, greatest(SQS_TABLE_QUEUES, SQS_INDEX_QUEUES_PKEY, false, 0) + 1);
	least = Max(least, greatest(SQS_TABLE_INBOX, SQS_INDEX_INBOX_PKEY,
								false, INBOX_QUEUE_ID) + 1);
	least = Max(least, greatest(SQS_TABLE_OUTBOX_BATCHES, SQS_INDEX_OUTBOX_BATCHES_ORDER,
								false, BATCH_QUEUE_ID) + 1);
	least = Max(least, greatest(SQS_TABLE_DEAD_LETTERS, SQS_INDEX_DEAD_LETTERS_TIME,
								false, DEAD_QUEUE_ID) + 1);
	id = next_number(&sqs_shared->last_queue_id, least);
	if (id > PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("there are no more ids for queues")));
	return (int32) id;
}
