/*-------------------------------------------------------------------------
 *
 * clean.c
 *	  Deleting rows that have been kept long enough: a job of the database
 *	  worker.
 *
 * The inbox: rows below the low water of a mark that is dedup_retention old,
 * except those in doubt.  They are deleted as ranges of the index between the
 * doubts, so that rows that stay are not scanned each time.  A row of a queue
 * that is no longer configured is deleted when SQS cannot have its message any
 * more.  A queue that is a copy keeps everything, because its tables may not be
 * complete yet.
 *
 * sqs_failures: rows older than sqsbridge.failure_retention, and the oldest
 * ones of a queue that has more than sqsbridge.max_failures.
 *
 * attempts: rows of messages that SQS cannot have any more.
 *
 * sqs_dead_letters: rows that were redriven or discarded longer ago than
 * sqsbridge.dead_letter_retention.  Nothing else becomes of a dead letter by itself.
 *
 * Deleted rows leave entries in the indexes until VACUUM removes them, which an
 * old snapshot may prevent.  So each scan begins where the previous one has
 * ended; once an hour, and when this process is new, scans begin at the
 * beginning and failures are counted, in case anything was left.
 *
 * The caller has an error boundary, limits the time, and cancels it when the
 * worker is to stop.  An error here must leave nothing behind but an aborted
 * transaction.  A table or row that is locked is left for the next round.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/queue_stats.h"
#include "base/settings.h"
#include "base/shmem.h"
#include "base/table_writer.h"
#include "base/worker.h"
#include "config/queues.h"
#include "control/clean.h"
#include "receive/failures.h"
#include "receive/inbox_marks.h"

#define CLEAN_BATCH				5000	/* rows deleted in a transaction */
#define CLEAN_DEAD_BATCH		100 /* the same, where rows can have 1 MiB */
#define FULL_LOOK_MS			3600000

/* What is remembered about a queue from round to round; lost with the process. */
typedef struct Progress
{
	int32		queue_id;		/* hash key: must be first */
	TimestampTz inbox_from;		/* nothing below it is to be deleted */
	TimestampTz failures_from;	/* the same, where there are no statistics */
	TimestampTz attempts_from;	/* the same, of attempts */
	TimestampTz dead_from;		/* the same, of dead letters */
} Progress;

/* A queue in this round. */
typedef struct Queue
{
	int32		queue_id;
	bool		registered;
	bool		is_copy;
	bool		has_marks;		/* with exactly_once */
	int64		retention;		/* of the inbox */
	Progress   *progress;
	TimestampTz inbox_from;		/* new, if the transaction commits */
} Queue;

/* Where a transaction writes, and what it may still delete. */
typedef struct Cleaning
{
	SqsWriter  *writer;
	Relation	rel;
	Relation	index;
	AttrNumber	queue_id;
	AttrNumber	at;
	int			left;			/* rows */
	int			deleted;		/* of this queue */
	TimestampTz last;			/* time of the last one; else untouched */
} Cleaning;

/*
 * Made anew for each full look.  Also has the queues that are no longer
 * configured but have rows.
 */
static HTAB *progress = NULL;
static TimestampTz next_full_look = 0;

/* The first queue with rows after this one; false if there is none. */
static bool
next_queue(Relation rel, Relation index, int32 *queue_id)
{
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	bool		isnull;

	ScanKeyInit(&key, 1, BTGreaterStrategyNumber, F_INT4GT, Int32GetDatum(*queue_id));
	scan = systable_beginscan_ordered(rel, index, GetActiveSnapshot(), 1, &key);
	tuple = systable_getnext_ordered(scan, ForwardScanDirection);
	if (tuple != NULL)
		*queue_id = DatumGetInt32(sqs_getattr(tuple, 1, RelationGetDescr(rel), &isnull));
	systable_endscan_ordered(scan);
	return tuple != NULL;
}

static Progress *
get_progress(int32 queue_id)
{
	bool		found;
	Progress   *entry = hash_search(progress, &queue_id, HASH_ENTER, &found);

	if (!found)
		entry->inbox_from = entry->failures_from = entry->attempts_from =
			entry->dead_from = DT_NOBEGIN;
	return entry;
}

/* Note the queues that have rows in a table. */
static void
note_queues(SqsTable table, SqsIndex which)
{
	Relation	rel = sqs_table_open_nowait(table, AccessShareLock);
	Relation	index;
	int32		queue_id = PG_INT32_MIN;

	if (rel == NULL)
		return;
	index = index_open(sqs_index_oid(which), AccessShareLock);
	while (next_queue(rel, index, &queue_id))
	{
		CHECK_FOR_INTERRUPTS();
		(void) get_progress(queue_id);
	}
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
}

/* Begin at the beginning, and forget what was counted. */
static void
begin_full_look(void)
{
	HASHCTL		ctl;

	if (progress != NULL)
		hash_destroy(progress);
	progress = NULL;
	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(int32);
	ctl.entrysize = sizeof(Progress);
	progress = hash_create("sqsbridge cleaning", 64, &ctl, HASH_ELEM | HASH_BLOBS);

	note_queues(SQS_TABLE_INBOX, SQS_INDEX_INBOX_STAMP);
	note_queues(SQS_TABLE_INBOX_MARKS, SQS_INDEX_INBOX_MARKS_PKEY);
	note_queues(SQS_TABLE_INBOX_DOUBTS, SQS_INDEX_INBOX_DOUBTS_PKEY);
	note_queues(SQS_TABLE_FAILURES, SQS_INDEX_FAILURES_TIME);
	note_queues(SQS_TABLE_ATTEMPTS, SQS_INDEX_ATTEMPTS_TIME);
	note_queues(SQS_TABLE_DEAD_LETTERS, SQS_INDEX_DEAD_LETTERS_TIME);

	for (int i = 0; i < sqs_shared->nqueues; i++)
	{
		SqsQueueStats *stats = &sqs_shared->queues[i];

		if (stats->dboid == MyDatabaseId)
			sqs_failures_forget(stats);
	}
}

/* The queues there are, in this context; -1: the extension is not installed. */
static int
read_queues(MemoryContext context, bool full, Queue **queues)
{
	List	   *configured;
	ListCell   *lc;
	HASH_SEQ_STATUS status;
	Progress   *entry;
	int			n = 0;

	if (!OidIsValid(sqs_extension_oid()))
		return -1;
	if (full || progress == NULL)
		begin_full_look();
	configured = sqs_catalog_queues();
	foreach(lc, configured)
		(void) get_progress(((SqsQueueConfig *) lfirst(lc))->queue_id);

	*queues = MemoryContextAllocZero(context, sizeof(Queue) *
									 Max(hash_get_num_entries(progress), 1));
	hash_seq_init(&status, progress);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		Queue	   *queue = &(*queues)[n++];

		queue->queue_id = entry->queue_id;
		queue->progress = entry;
		queue->inbox_from = entry->inbox_from;
		foreach(lc, configured)
		{
			SqsQueueConfig *config = lfirst(lc);

			if (config->queue_id != queue->queue_id)
				continue;
			queue->registered = true;
			queue->is_copy = config->is_copy;
			queue->has_marks = config->exactly_once;
			queue->retention = config->dedup_retention;
		}
	}
	return n;
}

/*
 * Open a table for deletion of at most so many rows; false if it is locked.  The
 * tables have the queue in front, and an index on queue and time.
 */
static bool
begin_cleaning(Cleaning *cleaning, SqsTable table, SqsIndex index, AttrNumber at, int most)
{
	cleaning->rel = sqs_table_open_nowait(table, RowExclusiveLock);
	if (cleaning->rel == NULL)
		return false;
	cleaning->writer = sqs_writer_on(cleaning->rel);
	cleaning->index = index_open(sqs_index_oid(index), AccessShareLock);
	cleaning->at = at;
	cleaning->left = most;
	return true;
}

static void
end_cleaning(Cleaning *cleaning)
{
	index_close(cleaning->index, NoLock);
	sqs_writer_close(cleaning->writer);
	table_close(cleaning->rel, NoLock);
}

static bool
may_go_on(const Cleaning *cleaning)
{
	return cleaning->left > 0 && !ShutdownRequestPending;
}

/*
 * Delete the rows of a queue from one time on to before another, at most so
 * many.  A row that somebody holds locked is left.
 */
static void
delete_range(Cleaning *cleaning, int32 queue_id, TimestampTz from, TimestampTz to, int64 most)
{
	SysScanDesc scan;
	ScanKeyData keys[3];
	HeapTuple	tuple;

	if (from >= to || most <= 0)
		return;
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(queue_id));
	ScanKeyInit(&keys[1], cleaning->at, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(from));
	ScanKeyInit(&keys[2], cleaning->at, BTLessStrategyNumber, F_TIMESTAMPTZ_LT,
				TimestampTzGetDatum(to));
	scan = systable_beginscan_ordered(cleaning->rel, cleaning->index, GetActiveSnapshot(),
									  3, keys);
	while (most > 0 && may_go_on(cleaning) &&
		   (tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		if (sqs_writer_delete(cleaning->writer, &tuple->t_self, false) != SQS_WRITTEN)
			continue;
		cleaning->last = DatumGetTimestampTz(sqs_getattr(tuple, cleaning->at,
														 RelationGetDescr(cleaning->rel),
														 &isnull));
		cleaning->deleted++;
		cleaning->left--;
		most--;
	}
	systable_endscan_ordered(scan);
}

/* ---- the inbox ---- */

/*
 * Everything with a lower stamp may go, but for doubts.  DT_NOBEGIN: nothing
 * is known.
 */
static TimestampTz
old_low_water(const Queue *queue, TimestampTz now)
{
	TimestampTz low_water = DT_NOBEGIN;
	SqsMark    *marks;
	int			n;

	if (!queue->registered || !queue->has_marks)
		return now - SQS_MESSAGE_LIFE;
	n = sqs_marks_read(queue->queue_id, &marks);
	for (int i = 0; i < n; i++)
	{
		if (marks[i].at <= now - queue->retention)
			low_water = Max(low_water, marks[i].low_water);
	}
	pfree(marks);
	return low_water;
}

/* Rows of the two small tables that say nothing any more. */
static void
forget_doubts(SqsDoubt *doubts, int n, TimestampTz now)
{
	Relation	rel = sqs_table_open_nowait(SQS_TABLE_INBOX_DOUBTS, RowExclusiveLock);
	SqsWriter  *writer;

	if (rel == NULL)
		return;
	writer = sqs_writer_on(rel);
	for (int i = 0; i < n; i++)
	{
		if (doubts[i].keep_until <= now)
			(void) sqs_writer_delete(writer, &doubts[i].tid, false);
	}
	sqs_writer_close(writer);
	table_close(rel, NoLock);
}

static void
forget_marks(int32 queue_id, TimestampTz before)
{
	Relation	rel = sqs_table_open_nowait(SQS_TABLE_INBOX_MARKS, RowExclusiveLock);
	SqsWriter  *writer;
	SqsMark    *marks;
	int			n;

	if (rel == NULL)
		return;
	writer = sqs_writer_on(rel);
	n = sqs_marks_read(queue_id, &marks);
	for (int i = 0; i < n; i++)
	{
		if (marks[i].at < before)
			(void) sqs_writer_delete(writer, &marks[i].tid, false);
	}
	pfree(marks);
	sqs_writer_close(writer);
	table_close(rel, NoLock);
}

/* Delete a queue's inbox rows between its doubts, and doubts that are over. */
static void
clean_inbox_of(Cleaning *cleaning, Queue *queue)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz low_water = old_low_water(queue, now);
	TimestampTz from = queue->inbox_from;
	SqsDoubt   *doubts;
	int			ndoubts = sqs_doubts_read(queue->queue_id, &doubts);
	int			over = 0;

	for (int i = 0; i < ndoubts; i++)
	{
		/* rows in a doubt that is over were skipped before, so start there */
		if (doubts[i].keep_until <= now)
		{
			over++;
			from = Min(from, doubts[i].from);
		}
	}
	cleaning->last = from;
	for (int i = 0; i < ndoubts && queue->registered && may_go_on(cleaning); i++)
	{
		if (doubts[i].keep_until <= now)
			continue;
		delete_range(cleaning, queue->queue_id, from, Min(doubts[i].from, low_water), CLEAN_BATCH);
		from = Max(from, doubts[i].to + 1);
	}
	if (may_go_on(cleaning))
		delete_range(cleaning, queue->queue_id, from, low_water, CLEAN_BATCH);

	if (!may_go_on(cleaning))
		queue->inbox_from = cleaning->last;
	else
	{
		queue->inbox_from = Max(queue->inbox_from, low_water);
		if (over > 0)
			forget_doubts(doubts, ndoubts, now);
		if (!queue->registered)
			forget_marks(queue->queue_id, now - SQS_MESSAGE_LIFE);
	}
	pfree(doubts);
}

static bool
clean_inbox(Queue *queues, int n)
{
	Cleaning	cleaning;
	bool		more;

	sqs_begin();
	if (!begin_cleaning(&cleaning, SQS_TABLE_INBOX, SQS_INDEX_INBOX_STAMP, INBOX_STAMP + 1,
						CLEAN_BATCH))
	{
		sqs_commit();
		return false;
	}
	for (int i = 0; i < n && may_go_on(&cleaning); i++)
	{
		if (!queues[i].is_copy)
			clean_inbox_of(&cleaning, &queues[i]);
	}
	more = cleaning.left <= 0;
	end_cleaning(&cleaning);
	sqs_commit();

	for (int i = 0; i < n; i++)
		queues[i].progress->inbox_from = queues[i].inbox_from;
	return more;
}

/* ---- failures ---- */

/*
 * What is remembered here holds even if the transaction fails: rows that are
 * still there below failures_from are met by the next full look, which counts
 * anew, too.
 */
static void
clean_failures_of(Cleaning *cleaning, const Queue *queue)
{
	SqsQueueStats *stats = queue->registered ?
		sqs_stats_find(MyDatabaseId, queue->queue_id) : NULL;
	TimestampTz from = stats != NULL ? sqs_failures_from(stats) : queue->progress->failures_from;
	TimestampTz until = GetCurrentTimestamp() - sqs_failure_retention * USECS_PER_SEC;
	int64		known;

	cleaning->last = from;
	cleaning->deleted = 0;
	delete_range(cleaning, queue->queue_id, from, until, CLEAN_BATCH);
	from = may_go_on(cleaning) ? Max(from, until) : cleaning->last;
	queue->progress->failures_from = from;
	if (stats == NULL)
		return;
	sqs_failures_deleted(stats, cleaning->deleted, from);
	if (!may_go_on(cleaning))
		return;

	known = sqs_failures_known(stats);
	if (known < 0)
	{
		known = sqs_failures_count(cleaning->rel, cleaning->index, queue->queue_id, from,
								   (int64) sqs_max_failures + CLEAN_BATCH);
		sqs_failures_set_known(stats, known);
	}
	if (known <= sqs_max_failures)
		return;
	cleaning->last = from;
	cleaning->deleted = 0;
	delete_range(cleaning, queue->queue_id, from, DT_NOEND, known - sqs_max_failures);
	sqs_failures_deleted(stats, cleaning->deleted, cleaning->last);
	sqs_count(stats, SQS_FAILURES_DROPPED, cleaning->deleted);

	/* that many were counted, and there may be more */
	if (known >= (int64) sqs_max_failures + CLEAN_BATCH)
		sqs_failures_set_unknown(stats);
}

static bool
clean_failures(const Queue *queues, int n)
{
	Cleaning	cleaning;
	bool		more;

	sqs_begin();
	if (!begin_cleaning(&cleaning, SQS_TABLE_FAILURES, SQS_INDEX_FAILURES_TIME, FAILED_AT + 1,
						CLEAN_BATCH))
	{
		sqs_commit();
		return false;
	}
	for (int i = 0; i < n && may_go_on(&cleaning); i++)
		clean_failures_of(&cleaning, &queues[i]);
	more = cleaning.left <= 0;
	end_cleaning(&cleaning);
	sqs_commit();
	return more;
}

/* ---- attempts, dead letters ---- */

static bool
clean_attempts(const Queue *queues, int n)
{
	TimestampTz until = GetCurrentTimestamp() - SQS_MESSAGE_LIFE;
	Cleaning	cleaning;
	bool		more;

	sqs_begin();
	if (!begin_cleaning(&cleaning, SQS_TABLE_ATTEMPTS, SQS_INDEX_ATTEMPTS_TIME,
						ATTEMPT_LAST_FAILED_AT + 1, CLEAN_BATCH))
	{
		sqs_commit();
		return false;
	}
	for (int i = 0; i < n && may_go_on(&cleaning); i++)
	{
		Progress   *progress_of = queues[i].progress;

		cleaning.last = progress_of->attempts_from;
		delete_range(&cleaning, queues[i].queue_id, progress_of->attempts_from, until, CLEAN_BATCH);
		progress_of->attempts_from = may_go_on(&cleaning) ?
			Max(progress_of->attempts_from, until) : cleaning.last;
	}
	more = cleaning.left <= 0;
	end_cleaning(&cleaning);
	sqs_commit();
	return more;
}

/* Rows that are not resolved have no time, and no range has them. */
static bool
clean_dead_letters(const Queue *queues, int n)
{
	TimestampTz until = GetCurrentTimestamp() - sqs_dead_letter_retention * USECS_PER_SEC;
	Cleaning	cleaning;
	bool		more;

	sqs_begin();
	if (!begin_cleaning(&cleaning, SQS_TABLE_DEAD_LETTERS, SQS_INDEX_DEAD_LETTERS_TIME,
						DEAD_RESOLVED_AT + 1, CLEAN_DEAD_BATCH))
	{
		sqs_commit();
		return false;
	}
	for (int i = 0; i < n && may_go_on(&cleaning); i++)
	{
		Progress   *progress_of = queues[i].progress;

		cleaning.last = progress_of->dead_from;
		delete_range(&cleaning, queues[i].queue_id, progress_of->dead_from, until, CLEAN_DEAD_BATCH);
		progress_of->dead_from = may_go_on(&cleaning) ?
			Max(progress_of->dead_from, until) : cleaning.last;
	}
	more = cleaning.left <= 0;
	end_cleaning(&cleaning);
	sqs_commit();
	return more;
}

/*
 * Do one round of cleaning, in transactions of its own.  Returns true if
 * there may be more to delete.  May raise an error, and may be canceled.
 */
bool
sqs_clean(void)
{
	MemoryContext context = CurrentMemoryContext;
	bool		full = GetCurrentTimestamp() >= next_full_look;
	Queue	   *queues = NULL;
	int			n;
	bool		more;

	sqs_begin();
	n = read_queues(context, full, &queues);
	sqs_commit();
	MemoryContextSwitchTo(context);
	if (n < 0)
		return false;

	if (full)
		next_full_look = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), FULL_LOOK_MS);

	more = clean_inbox(queues, n);
	MemoryContextSwitchTo(context);
	if (!ShutdownRequestPending)
		more = clean_failures(queues, n) || more;
	MemoryContextSwitchTo(context);
	if (!ShutdownRequestPending)
		more = clean_attempts(queues, n) || more;
	MemoryContextSwitchTo(context);
	if (!ShutdownRequestPending)
		more = clean_dead_letters(queues, n) || more;
	MemoryContextSwitchTo(context);
	return more && !ShutdownRequestPending;
}
