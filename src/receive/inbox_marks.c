/*-------------------------------------------------------------------------
 *
 * inbox_marks.c
 *	  For how long rows of the inbox are needed: marks and doubts.
 *
 * A row of the inbox may be deleted when its message cannot come back.  It
 * carries a stamp; a mark says up to which stamp everything is finished, and a
 * doubt is an interval of stamps for which that is not known.  src/README, "How
 * long the inbox remembers", has the protocol and the proof.  This file reads
 * and writes the two tables; receive/marks.c decides in the queue worker what to
 * write, and control/clean.c acts upon it.
 *
 * The following is true for every reader of the tables, at any time:
 *
 *	- the mark with the greatest low_water is the newest, whatever the clock
 *	  has done to "at";
 *	- a doubt is written no later than the first mark that passes it, in the
 *	  same transaction or an earlier one;
 *	- a doubt that replaces two others covers both.  Keeping too many rows is
 *	  always safe.
 *
 * Only the queue worker writes marks and doubts of its queue, and only the
 * database worker deletes doubts that are over.  Neither waits for a lock: if a
 * table is locked, it tries again later.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/table_writer.h"
#include "receive/inbox_marks.h"

/*
 * Marks per dedup_retention; a row is deleted at most this fraction of it late.
 */
#define MARKS_PER_RETENTION	8

/* Both tables have the queue in their first column. */
static SysScanDesc
scan_queue(Relation rel, SqsIndex index, int32 queue_id)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(queue_id));
	return systable_beginscan(rel, sqs_index_oid(index), true, GetActiveSnapshot(), 1, &key);
}

/* qsort comparator: by low_water. */
static int
compare_marks(const void *a, const void *b)
{
	const SqsMark *left = a;
	const SqsMark *right = b;

	if (left->low_water != right->low_water)
		return left->low_water < right->low_water ? -1 : 1;
	return left->at < right->at ? -1 : left->at > right->at;
}

/* Read a queue's marks, in the order of low_water.  Returns their number. */
static int
read_marks(Relation rel, int32 queue_id, SqsMark **marks)
{
	SysScanDesc scan = scan_queue(rel, SQS_INDEX_INBOX_MARKS_PKEY, queue_id);
	HeapTuple	tuple;
	int			n = 0;
	int			size = 16;

	*marks = palloc(sizeof(SqsMark) * size);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum		values[MARK_NATTS];
		bool		nulls[MARK_NATTS];
		SqsMark    *mark;

		if (n == size)
			*marks = repalloc(*marks, sizeof(SqsMark) * (size *= 2));
		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		mark = &(*marks)[n++];
		mark->tid = tuple->t_self;
		mark->at = DatumGetTimestampTz(values[MARK_AT]);
		mark->low_water = DatumGetTimestampTz(values[MARK_LOW_WATER]);
		mark->open = DatumGetBool(values[MARK_OPEN]);
	}
	systable_endscan(scan);
	qsort(*marks, n, sizeof(SqsMark), compare_marks);
	return n;
}

static int
compare_doubts(const void *a, const void *b)
{
	const SqsDoubt *left = a;
	const SqsDoubt *right = b;

	if (left->from != right->from)
		return left->from < right->from ? -1 : 1;
	return left->to < right->to ? -1 : left->to > right->to;
}

/* Read doubts, in order; *doubts has room for "more" in addition. */
static int
read_doubts(Relation rel, int32 queue_id, int more, SqsDoubt **doubts)
{
	SysScanDesc scan = scan_queue(rel, SQS_INDEX_INBOX_DOUBTS_PKEY, queue_id);
	HeapTuple	tuple;
	int			n = 0;
	int			size = SQS_MAX_DOUBTS + more;

	*doubts = palloc(sizeof(SqsDoubt) * size);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum		values[DOUBT_NATTS];
		bool		nulls[DOUBT_NATTS];
		SqsDoubt   *doubt;

		if (n + more == size)
			*doubts = repalloc(*doubts, sizeof(SqsDoubt) * (size *= 2));
		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		doubt = &(*doubts)[n++];
		doubt->tid = tuple->t_self;
		doubt->from = DatumGetTimestampTz(values[DOUBT_FROM_STAMP]);
		doubt->to = DatumGetTimestampTz(values[DOUBT_TO_STAMP]);
		doubt->keep_until = DatumGetTimestampTz(values[DOUBT_KEEP_UNTIL]);
	}
	systable_endscan(scan);
	qsort(*doubts, n, sizeof(SqsDoubt), compare_doubts);
	return n;
}

/*
 * Read a queue's marks, in the order of low_water; palloc'd.  Returns their
 * number.
 */
int
sqs_marks_read(int32 queue_id, SqsMark **marks)
{
	Relation	rel = sqs_table_open(SQS_TABLE_INBOX_MARKS, AccessShareLock);
	int			n = read_marks(rel, queue_id, marks);

	table_close(rel, AccessShareLock);
	return n;
}

/*
 * Read a queue's doubts, in the order of stamps; palloc'd.  Returns their
 * number.
 */
int
sqs_doubts_read(int32 queue_id, SqsDoubt **doubts)
{
	Relation	rel = sqs_table_open(SQS_TABLE_INBOX_DOUBTS, AccessShareLock);
	int			n = read_doubts(rel, queue_id, 0, doubts);

	table_close(rel, AccessShareLock);
	return n;
}

/* The i-th takes in the next one, and so is no longer the one in the table. */
static void
join_with_next(SqsDoubt *doubts, int *n, int i)
{
	doubts[i].to = Max(doubts[i].to, doubts[i + 1].to);
	doubts[i].keep_until = Max(doubts[i].keep_until, doubts[i + 1].keep_until);
	ItemPointerSetInvalid(&doubts[i].tid);
	(*n)--;
	memmove(&doubts[i + 1], &doubts[i + 2], sizeof(SqsDoubt) * (*n - i - 1));
}

/*
 * Sort doubts and join those that overlap.  If there are more than max then,
 * also join neighbors.  Updates *n.
 */
void
sqs_doubts_join(SqsDoubt *doubts, int *n, int max)
{
	qsort(doubts, *n, sizeof(SqsDoubt), compare_doubts);
	for (int i = 0; i + 1 < *n;)
	{
		if (doubts[i + 1].from <= doubts[i].to)
			join_with_next(doubts, n, i);
		else
			i++;
	}

	/*
	 * Join the two with the least span, not those with the smallest gap: if
	 * there were a new doubt every minute, the latter would make all of them
	 * one interval that never ends.
	 */
	while (*n > max)
	{
		int			best = 0;

		for (int i = 1; i + 1 < *n; i++)
		{
			if (doubts[i + 1].to - doubts[i].from < doubts[best + 1].to - doubts[best].from)
				best = i;
		}
		join_with_next(doubts, n, best);
	}
}

/* Add doubts to those in the table, joining them if there are too many. */
static void
write_doubts(Relation rel, int32 queue_id, const SqsDoubt *doubts, int n)
{
	SqsWriter  *writer = sqs_writer_on(rel);
	SqsDoubt   *old;
	SqsDoubt   *all;
	int			nold = read_doubts(rel, queue_id, n, &old);
	int			nall = nold + n;

	all = palloc(sizeof(SqsDoubt) * nall);
	memcpy(all, old, sizeof(SqsDoubt) * nold);
	memcpy(all + nold, doubts, sizeof(SqsDoubt) * n);
	for (int i = nold; i < nall; i++)
		ItemPointerSetInvalid(&all[i].tid);
	sqs_doubts_join(all, &nall, SQS_MAX_DOUBTS);

	/* delete those that were joined; one that is locked may stay */
	for (int i = 0; i < nold; i++)
	{
		bool		stays = false;

		for (int j = 0; j < nall && !stays; j++)
			stays = ItemPointerIsValid(&all[j].tid) &&
				ItemPointerEquals(&all[j].tid, &old[i].tid);
		if (!stays)
			(void) sqs_writer_delete(writer, &old[i].tid, false);
	}
	CommandCounterIncrement();
	for (int i = 0; i < nall; i++)
	{
		Datum		values[DOUBT_NATTS];
		bool		nulls[DOUBT_NATTS] = {false};

		if (ItemPointerIsValid(&all[i].tid))
			continue;
		values[DOUBT_QUEUE_ID] = Int32GetDatum(queue_id);
		values[DOUBT_FROM_STAMP] = TimestampTzGetDatum(all[i].from);
		values[DOUBT_TO_STAMP] = TimestampTzGetDatum(all[i].to);
		values[DOUBT_KEEP_UNTIL] = TimestampTzGetDatum(all[i].keep_until);
		sqs_writer_insert(writer, values, nulls);
	}
	sqs_writer_close(writer);
	pfree(all);
	pfree(old);
}

/*
 * Marks are an eighth of the retention apart.  The newest is overwritten as long
 * as it is not further from the one before; if it always were overwritten, no
 * mark would ever become old enough to be used.  Of those that are old enough
 * only the newest is needed; the others are deleted.
 */
static void
write_mark(Relation rel, int32 queue_id, int64 retention, TimestampTz low_water, bool open)
{
	SqsWriter  *writer = sqs_writer_on(rel);
	SqsMark    *marks;
	int			n = read_marks(rel, queue_id, &marks);
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz at = now;
	Datum		values[MARK_NATTS];
	bool		nulls[MARK_NATTS] = {false};
	bool		seen_old = false;
	bool		written = false;

	/* "at" is part of the key, and the clock may have been set back */
	for (int i = 0; i < n; i++)
	{
		if (marks[i].at == at)
		{
			at++;
			i = -1;
		}
	}
	values[MARK_QUEUE_ID] = Int32GetDatum(queue_id);
	values[MARK_AT] = TimestampTzGetDatum(at);
	values[MARK_LOW_WATER] = TimestampTzGetDatum(low_water);
	values[MARK_OPEN] = BoolGetDatum(open);

	if (n >= 2 && now >= marks[n - 2].at &&
		now - marks[n - 2].at < retention / MARKS_PER_RETENTION)
		written = sqs_writer_update(writer, &marks[n - 1].tid, values, nulls, false) == SQS_WRITTEN;
	if (!written)
		sqs_writer_insert(writer, values, nulls);

	for (int i = n - 2; i >= 0; i--)
	{
		if (seen_old || marks[i].at > now)
			(void) sqs_writer_delete(writer, &marks[i].tid, false);
		else if (marks[i].at <= now - retention)
			seen_old = true;
	}
	sqs_writer_close(writer);
	pfree(marks);
}

/*
 * Write the latest mark.  Returns false, with nothing written, if the table
 * is locked.
 */
bool
sqs_mark_write(int32 queue_id, int64 retention, TimestampTz low_water, bool open)
{
	Relation	rel = sqs_table_open_nowait(SQS_TABLE_INBOX_MARKS, RowExclusiveLock);

	if (rel == NULL)
		return false;
	write_mark(rel, queue_id, retention, low_water, open);
	table_close(rel, NoLock);
	return true;
}

/*
 * Write doubts.  Returns false, with nothing written, if the table is
 * locked.
 */
bool
sqs_doubts_write(int32 queue_id, const SqsDoubt *doubts, int n)
{
	Relation	rel;

	if (n == 0)
		return true;
	rel = sqs_table_open_nowait(SQS_TABLE_INBOX_DOUBTS, RowExclusiveLock);
	if (rel == NULL)
		return false;
	write_doubts(rel, queue_id, doubts, n);
	table_close(rel, NoLock);
	return true;
}

/* The greatest stamp of a queue's rows; 0 if it has none. */
static TimestampTz
greatest_stamp(int32 queue_id)
{
	Relation	rel = sqs_table_open(SQS_TABLE_INBOX, AccessShareLock);
	Relation	index = index_open(sqs_index_oid(SQS_INDEX_INBOX_STAMP), AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	TimestampTz stamp = 0;
	bool		isnull;

	ScanKeyInit(&key, INBOX_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(queue_id));
	scan = systable_beginscan_ordered(rel, index, GetActiveSnapshot(), 1, &key);
	tuple = systable_getnext_ordered(scan, BackwardScanDirection);
	if (HeapTupleIsValid(tuple))
		stamp = DatumGetTimestampTz(sqs_getattr(tuple, INBOX_STAMP + 1,
												RelationGetDescr(rel), &isnull));
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return stamp;
}

/*
 * The doubt that begins at the low water of the newest mark, and ends with the
 * greatest stamp that can be in the inbox or in a transaction under way.  *last
 * is raised to that stamp: rows may have stamps of a clock that was ahead of
 * ours.  Without any mark, the doubt begins the life of a message ago; older
 * stamps are in no doubt.
 */
static void
open_doubt(int32 queue_id, const SqsMark *newest, TimestampTz *last, SqsDoubt *doubt)
{
	TimestampTz greatest = greatest_stamp(queue_id);

	*last = Max(*last, greatest);
	if (newest != NULL)
		*last = Max(*last, newest->low_water);
	doubt->from = newest != NULL ? newest->low_water : *last - SQS_MESSAGE_LIFE;
	doubt->to = *last;
	doubt->keep_until = Max(*last, GetCurrentTimestamp()) + SQS_MESSAGE_LIFE;
}

/*
 * A queue worker starts: put in doubt what its predecessor left unresolved,
 * and write an open mark.  Sets *last to a stamp, at least not_before, that
 * all stamps of the new worker must exceed.  Returns false, with nothing
 * written, if a table is locked.
 */
bool
sqs_inbox_begin(int32 queue_id, int64 retention, TimestampTz not_before, TimestampTz *last)
{
	Relation	mark_rel = sqs_table_open_nowait(SQS_TABLE_INBOX_MARKS, RowExclusiveLock);
	Relation	doubt_rel;
	SqsMark    *marks;
	int			n;
	SqsDoubt	doubt;

	if (mark_rel == NULL)
		return false;
	doubt_rel = sqs_table_open_nowait(SQS_TABLE_INBOX_DOUBTS, RowExclusiveLock);
	if (doubt_rel == NULL)
	{
		table_close(mark_rel, NoLock);
		return false;
	}

	n = read_marks(mark_rel, queue_id, &marks);
	*last = Max(GetCurrentTimestamp(), not_before);
	open_doubt(queue_id, n > 0 ? &marks[n - 1] : NULL, last, &doubt);
	if (n > 0 ? marks[n - 1].open : greatest_stamp(queue_id) != 0)
		write_doubts(doubt_rel, queue_id, &doubt, 1);
	write_mark(mark_rel, queue_id, retention, *last + 1, true);
	table_close(doubt_rel, NoLock);
	table_close(mark_rel, NoLock);
	return true;
}

/*
 * The inbox is a copy that is being adopted: put in doubt everything that is
 * not known to be resolved.
 */
void
sqs_inbox_adopt(int32 queue_id)
{
	Relation	rel = sqs_table_open(SQS_TABLE_INBOX_DOUBTS, RowExclusiveLock);
	SqsMark    *marks;
	int			n = sqs_marks_read(queue_id, &marks);
	TimestampTz last = GetCurrentTimestamp();
	SqsDoubt	doubt;

	if (n > 0 || greatest_stamp(queue_id) != 0)
	{
		open_doubt(queue_id, n > 0 ? &marks[n - 1] : NULL, &last, &doubt);
		write_doubts(rel, queue_id, &doubt, 1);
	}
	table_close(rel, NoLock);
}
