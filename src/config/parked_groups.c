/*-------------------------------------------------------------------------
 *
 * parked_groups.c
 *	  Which message groups of FIFO queues are parked.
 *
 * There is a row for each such group, written with the dead letter that it was
 * parked for.  Handler workers look for it before they handle a message of a
 * queue with that option, one look into an index.  If it is there, they store the
 * message as parked, in a transaction that has the row locked; so a session that
 * releases the group, and deletes the row, comes before or after.
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
#include "base/table_writer.h"
#include "config/parked_groups.h"

/* Find the row as it is committed now, or written by this transaction. */
static bool
find_group(Relation rel, int32 queue_id, Datum group, ItemPointer tid)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], PARKED_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(queue_id));
	ScanKeyInit(&keys[1], PARKED_GROUP_ID + 1, BTEqualStrategyNumber, F_TEXTEQ, group);
	scan = systable_beginscan(rel, sqs_index_oid(SQS_INDEX_PARKED_GROUPS_PKEY), true,
							  SnapshotSelf, 2, keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		*tid = tuple->t_self;
	systable_endscan(scan);
	return HeapTupleIsValid(tuple);
}

/* Find the row and lock it. */
static bool
lock_group(SqsWriter *writer, int32 queue_id, Datum group, ItemPointer tid)
{
	return find_group(sqs_writer_relation(writer), queue_id, group, tid) &&
		sqs_writer_lock(writer, tid, true) == SQS_WRITTEN;
}

void
sqs_group_park(int32 queue_id, Datum group, int64 dead_letter)
{
	SqsWriter  *writer = sqs_writer_open(SQS_TABLE_PARKED_GROUPS);
	List	   *key = list_make1_oid(sqs_index_oid(SQS_INDEX_PARKED_GROUPS_PKEY));
	Datum		values[PARKED_NATTS];
	bool		nulls[PARKED_NATTS] = {false};

	values[PARKED_QUEUE_ID] = Int32GetDatum(queue_id);
	values[PARKED_GROUP_ID] = group;
	values[PARKED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[PARKED_DEAD_LETTER] = Int64GetDatum(dead_letter);
	nulls[PARKED_DEAD_LETTER] = dead_letter == 0;
	(void) sqs_writer_insert_new(writer, values, nulls, key, false, NULL);
	sqs_writer_close(writer);
}

bool
sqs_group_is_parked(int32 queue_id, Datum group)
{
	Relation	rel = sqs_table_open(SQS_TABLE_PARKED_GROUPS, AccessShareLock);
	ItemPointerData tid;
	bool		found = find_group(rel, queue_id, group, &tid);

	table_close(rel, AccessShareLock);
	return found;
}

bool
sqs_group_lock(int32 queue_id, Datum group)
{
	SqsWriter  *writer = sqs_writer_open(SQS_TABLE_PARKED_GROUPS);
	ItemPointerData tid;
	bool		locked = lock_group(writer, queue_id, group, &tid);

	sqs_writer_close(writer);
	return locked;
}

bool
sqs_group_release(int32 queue_id, Datum group)
{
	SqsWriter  *writer = sqs_writer_open(SQS_TABLE_PARKED_GROUPS);
	ItemPointerData tid;
	bool		locked = lock_group(writer, queue_id, group, &tid);

	if (locked)
		(void) sqs_writer_delete(writer, &tid, true);
	sqs_writer_close(writer);
	return locked;
}

void
sqs_parked_groups_delete(int32 queue_id)
{
	SqsWriter  *writer = sqs_writer_open(SQS_TABLE_PARKED_GROUPS);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, PARKED_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(queue_id));
	scan = systable_beginscan(sqs_writer_relation(writer),
							  sqs_index_oid(SQS_INDEX_PARKED_GROUPS_PKEY), true,
							  GetActiveSnapshot(), 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		(void) sqs_writer_delete(writer, &tuple->t_self, true);
	systable_endscan(scan);
	sqs_writer_close(writer);
}
