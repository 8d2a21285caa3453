/*-------------------------------------------------------------------------
 *
 * queue_stats.c
 *	  The statistics and the state of a queue in shared memory.
 *
 * Half of the entries, sqsbridge.max_queues of them, are for queues that run,
 * and having one is what permits a queue to run.  The other half is for queues
 * that only send; when it is full, a new queue takes over the entry that has
 * not been used for the longest time.
 *
 * Entries are never moved, and processes keep pointers to them: a worker for
 * as long as its queue runs, everybody else only for a moment after
 * sqs_stats_get(), which is why an entry used within UNUSED_MS is not taken
 * over.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"

#include "base/errors.h"
#include "base/queue_stats.h"
#include "base/settings.h"

const double sqs_histogram_bounds[SQS_HISTOGRAM_BUCKETS - 1] = {
	1, 2, 5, 10, 20, 50, 100, 200, 500,
	1000, 2000, 5000, 10000, 30000, 60000, 300000
};

/* How long an entry of a queue that does not run must be unused to be reused. */
#define UNUSED_MS		600000

/* How long the transaction that records a failure may take. */
#define FAILURES_LATE_SECS	10

/* How many entries' queues run, or do not.  Under the control lock. */
int
sqs_stats_count(bool runs)
{
	int			n = 0;

	for (int i = 0; i < sqs_shared->nqueues; i++)
	{
		SqsQueueStats *stats = &sqs_shared->queues[i];

		if (OidIsValid(stats->dboid) && stats->runs == runs)
			n++;
	}
	return n;
}

/*
 * The queue does not run any more.  It keeps its entry and its counters if
 * fewer than half of the entries ("senders", counted by the caller) belong to
 * queues that do not run: so there is always an entry left for each queue that
 * may run.  Returns whether the entry was kept.  Exclusive control lock.
 */
bool
sqs_stats_stop_locked(SqsQueueStats *stats, int senders)
{
	stats->runs = false;
	if (senders >= sqs_shared->nqueues / 2)
		stats->dboid = InvalidOid;
	return OidIsValid(stats->dboid);
}

static SqsQueueStats *
stats_lookup(Oid dboid, int32 queue_id)
{
	for (int i = 0; i < sqs_shared->nqueues; i++)
		if (sqs_shared->queues[i].dboid == dboid &&
			sqs_shared->queues[i].queue_id == queue_id)
			return &sqs_shared->queues[i];
	return NULL;
}

static void
stats_reset(SqsQueueStats *stats, TimestampTz now)
{
	for (int j = 0; j < SQS_NUM_COUNTERS; j++)
		pg_atomic_write_u64(&stats->counters[j], 0);
	for (int j = 0; j < SQS_HISTOGRAM_BUCKETS; j++)
		pg_atomic_write_u64(&stats->histogram[j], 0);

	SpinLockAcquire(&stats->mutex);
	stats->handler_max_micros = 0;
	stats->last_receive_at = 0;
	stats->last_success_at = 0;
	memset(&stats->errors, 0, sizeof(SqsErrors));
	stats->outbox.last_success_at = 0;
	stats->outbox.next_attempt_at = 0;
	memset(&stats->outbox.errors, 0, sizeof(SqsErrors));
	stats->reset_at = now;
	SpinLockRelease(&stats->mutex);
}

static void
stats_touch(SqsQueueStats *stats, TimestampTz now)
{
	pg_atomic_write_u64(&stats->used_at, (uint64) now);
}

/* Find the entry of a queue; NULL if it has none. */
SqsQueueStats *
sqs_stats_find(Oid dboid, int32 queue_id)
{
	SqsQueueStats *found;

	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	found = stats_lookup(dboid, queue_id);
	LWLockRelease(sqs_shared->lock);
	return found;
}

/* How many rows the queue has in the table of failures; -1 if not known. */
int64
sqs_failures_known(SqsQueueStats *stats)
{
	uint64		known = pg_atomic_read_u64(&stats->failures_known);

	return known == SQS_FAILURES_UNKNOWN ? -1 : (int64) known;
}

/* None of these rows is older than this. */
TimestampTz
sqs_failures_from(SqsQueueStats *stats)
{
	return (TimestampTz) pg_atomic_read_u64(&stats->failures_from);
}

/*
 * The rows have been counted.  If another process has counted them meanwhile,
 * its number holds, because some may have been added to it since.
 */
void
sqs_failures_set_known(SqsQueueStats *stats, int64 known)
{
	uint64		unknown = SQS_FAILURES_UNKNOWN;

	(void) pg_atomic_compare_exchange_u64(&stats->failures_known, &unknown, (uint64) known);
}

/* The number of rows is not known any more. */
void
sqs_failures_set_unknown(SqsQueueStats *stats)
{
	pg_atomic_write_u64(&stats->failures_known, SQS_FAILURES_UNKNOWN);
}

/* Nothing is known about the rows. */
void
sqs_failures_forget(SqsQueueStats *stats)
{
	pg_atomic_write_u64(&stats->failures_known, SQS_FAILURES_UNKNOWN);
	pg_atomic_write_u64(&stats->failures_from, (uint64) DT_NOBEGIN);
}

/* Add n, which may be negative, unless the number is unknown; not below 0. */
void
sqs_failures_added(SqsQueueStats *stats, int64 n)
{
	uint64		known = pg_atomic_read_u64(&stats->failures_known);

	while (known != SQS_FAILURES_UNKNOWN &&
		   !pg_atomic_compare_exchange_u64(&stats->failures_known, &known,
										   (uint64) Max((int64) known + n, 0)))
		 /* another process changed it: retry with its value */ ;
}

/*
 * n rows were deleted, and none older than "from" is left, except rows of
 * transactions that have not committed yet.  These may take a while, so we
 * remember an earlier time.
 */
void
sqs_failures_deleted(SqsQueueStats *stats, int n, TimestampTz from)
{
	uint64		old = pg_atomic_read_u64(&stats->failures_from);

	if (!TIMESTAMP_NOT_FINITE(from))
		from -= FAILURES_LATE_SECS * USECS_PER_SEC;
	sqs_failures_added(stats, -n);
	while ((TimestampTz) old < from &&
		   !pg_atomic_compare_exchange_u64(&stats->failures_from, &old, (uint64) from))
		 /* retry */ ;
}

/* Give the entry to a queue, with everything reset.  Exclusive control lock. */
static void
stats_make(SqsQueueStats *stats, Oid dboid, int32 queue_id, bool runs, TimestampTz now)
{
	memset(&stats->starts, 0, sizeof(SqsStarts));
	pg_atomic_write_u32(&stats->in_flight, 0);
	pg_atomic_write_u32(&stats->outbox_in_flight, 0);
	pg_atomic_write_u64(&stats->waits_since, 0);
	pg_atomic_write_u64(&stats->handler_settings, 0);
	pg_atomic_write_u64(&stats->last_stamp, 0);
	sqs_failures_forget(stats);
	memset(&stats->outbox, 0, sizeof(stats->outbox));
	stats->owner = InvalidOid;
	stats_reset(stats, now);
	stats->state = SQS_QUEUE_NONE;
	stats->state_since = now;
	stats->queue_id = queue_id;
	stats->runs = runs;
	stats_touch(stats, now);
	stats->dboid = dboid;
}

/*
 * Find an entry for a queue that only sends.  If their half is full, take the
 * one that has not been used for the longest time, provided that no process
 * can still have a pointer to it.  NULL: there is none.  Exclusive control
 * lock.
 */
static SqsQueueStats *
stats_for_sender(TimestampTz now)
{
	SqsQueueStats *oldest = NULL;
	SqsQueueStats *unused = NULL;
	int			senders = 0;

	for (int i = 0; i < sqs_shared->nqueues; i++)
	{
		SqsQueueStats *stats = &sqs_shared->queues[i];

		if (!OidIsValid(stats->dboid))
			unused = unused != NULL ? unused : stats;
		else if (!stats->runs)
		{
			senders++;
			if (oldest == NULL ||
				pg_atomic_read_u64(&stats->used_at) < pg_atomic_read_u64(&oldest->used_at))
				oldest = stats;
		}
	}
	if (senders < sqs_shared->nqueues / 2)
		return unused;
	if (TimestampDifferenceExceeds((TimestampTz) pg_atomic_read_u64(&oldest->used_at), now,
								   UNUSED_MS))
		return oldest;
	return NULL;
}

/*
 * Find or make the entry of a queue, for a process that only counts.
 * Returns NULL if there is no room for one.
 */
SqsQueueStats *
sqs_stats_get(Oid dboid, int32 queue_id)
{
	TimestampTz now = GetCurrentTimestamp();
	SqsQueueStats *found = sqs_stats_find(dboid, queue_id);

	if (found == NULL)
	{
		LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
		/* another process may have made it in the meantime */
		found = stats_lookup(dboid, queue_id);
		if (found == NULL)
		{
			found = stats_for_sender(now);
			if (found != NULL)
				stats_make(found, dboid, queue_id, false, now);
		}
		LWLockRelease(sqs_shared->lock);
	}
	if (found != NULL)
		stats_touch(found, now);
	return found;
}

/*
 * The queue shall run: find or make its entry, within the limits of max_queues
 * and max_queues_per_role.  A queue that already runs can be refused, too: when
 * max_queues_per_role has been lowered, the owner's queues with the greatest
 * database OIDs and queue ids are the ones that stop.
 */
SqsQueueStats *
sqs_stats_run(Oid dboid, int32 queue_id, Oid owner, const char **why)
{
	TimestampTz now = GetCurrentTimestamp();
	SqsQueueStats *found;
	int			others;
	bool		room = true;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	found = stats_lookup(dboid, queue_id);
	if (found == NULL || !found->runs)
		room = sqs_stats_count(true) < sqs_shared->nqueues / 2;
	if (!room)
		*why = "as many queues run as sqsbridge.max_queues allows";
	else if (sqs_max_queues_per_role > 0)
	{
		/* count the owner's queues that precede this one */
		others = 0;
		for (int i = 0; i < sqs_shared->nqueues; i++)
		{
			SqsQueueStats *stats = &sqs_shared->queues[i];

			if (OidIsValid(stats->dboid) && stats->runs && stats->owner == owner &&
				stats != found &&
				(found == NULL || !found->runs || stats->dboid < dboid ||
				 (stats->dboid == dboid && stats->queue_id < queue_id)))
				others++;
		}
		room = others < sqs_max_queues_per_role;
		if (!room)
			*why = "as many queues of its owner run as sqsbridge.max_queues_per_role allows";
	}

	if (!room)
		found = NULL;
	else
	{
		if (found == NULL)
		{
			/* sqs_stats_stop_locked() has made sure that one is free */
			for (int i = 0; i < sqs_shared->nqueues && found == NULL; i++)
				if (!OidIsValid(sqs_shared->queues[i].dboid))
					found = &sqs_shared->queues[i];
			Assert(found != NULL);
			if (found != NULL)
				stats_make(found, dboid, queue_id, true, now);
			else
				*why = "there is no entry for its statistics";
		}
		if (found != NULL)
		{
			found->runs = true;
			SpinLockAcquire(&found->mutex);
			found->owner = owner;
			SpinLockRelease(&found->mutex);
			stats_touch(found, now);
		}
	}
	LWLockRelease(sqs_shared->lock);
	return found;
}

/*
 * A queue is no longer to run.  Returns false if it has lost its entry,
 * which may belong to another queue by now.
 */
bool
sqs_stats_stop(SqsQueueStats *stats)
{
	bool		kept;

	pg_atomic_write_u64(&stats->waits_since, 0);
	if (!stats->runs)
		return true;
	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	kept = sqs_stats_stop_locked(stats, sqs_stats_count(false));
	LWLockRelease(sqs_shared->lock);
	return kept;
}

/* Free the entry of a queue. */
void
sqs_stats_forget(SqsQueueStats *stats)
{
	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	stats->dboid = InvalidOid;
	LWLockRelease(sqs_shared->lock);
}

/* Reset the counters and times of an entry. */
void
sqs_stats_reset_entry(SqsQueueStats *stats)
{
	stats_reset(stats, GetCurrentTimestamp());
}

/* Set the state of a queue.  Returns whether it has changed. */
bool
sqs_stats_set_state(SqsQueueStats *stats, SqsQueueState state)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		changed;

	SpinLockAcquire(&stats->mutex);
	changed = stats->state != state;
	if (changed)
	{
		stats->state = state;
		stats->state_since = now;
	}
	if (state != SQS_QUEUE_BACKING_OFF && state != SQS_QUEUE_PAUSED &&
		state != SQS_QUEUE_THROTTLED)
		stats->next_poll_at = 0;
	SpinLockRelease(&stats->mutex);
	return changed;
}

/* Add an error; returns whether it is to be logged (see errors.c). */
bool
sqs_stats_error(SqsQueueStats *stats, const char *text)
{
	return sqs_errors_add(&stats->errors, &stats->mutex, text, true);
}

/*
 * A problem in its configuration keeps a queue from running.  The first
 * process that finds it logs it.  All processes of the queue share the
 * entry, so a problem is logged once, when it appears or changes.
 */
void
sqs_report_problem(SqsQueueStats *stats, SqsQueueState state, const char *name,
				   const char *problem)
{
	sqs_stats_set_state(stats, state);
	if (sqs_stats_error(stats, problem))
		ereport(LOG,
				(errmsg("sqsbridge cannot work on queue \"%s\": %s", name, problem)));
}

/* The queue works again; the text of the last error is kept for the views. */
void
sqs_stats_clear_error(SqsQueueStats *stats)
{
	SpinLockAcquire(&stats->mutex);
	stats->errors.since = 0;
	stats->errors.consecutive = 0;
	SpinLockRelease(&stats->mutex);
}

/* The name of a state, as sqs_stats shows it. */
const char *
sqs_queue_state_name(SqsQueueState state)
{
	switch (state)
	{
		case SQS_QUEUE_NONE:
			return NULL;
		case SQS_QUEUE_STARTING:
			return "starting";
		case SQS_QUEUE_POLLING:
			return "polling";
		case SQS_QUEUE_BACKING_OFF:
			return "backing off";
		case SQS_QUEUE_PAUSED:
			return "paused";
		case SQS_QUEUE_THROTTLED:
			return "throttled";
		case SQS_QUEUE_NO_WORKER_SLOT:
			return "waiting for worker slot";
		case SQS_QUEUE_NO_ROOM:
			return "waiting for room";
		case SQS_QUEUE_ERROR:
			return "error";
		case SQS_QUEUE_STOPPING:
			return "stopping";
		case SQS_QUEUE_DISABLED:
			return "disabled";
	}
	return NULL;
}
