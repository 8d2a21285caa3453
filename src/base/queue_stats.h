/*-------------------------------------------------------------------------
 *
 * queue_stats.h
 *	  The statistics and the state of a queue in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_QUEUE_STATS_H
#define SQSBRIDGE_QUEUE_STATS_H

#include "base/shmem.h"

/*
 * sqs_stats_run() is for a queue that shall run: it finds or makes its entry,
 * or returns NULL and sets *why (a static string) if a limit does not permit
 * it.  sqs_stats_stop(): the queue shall not run any more; false if it has
 * lost its entry, which another queue may have by now.
 *
 * sqs_stats_get() is for processes that only count: it finds or makes an
 * entry, or returns NULL if there is no room.  sqs_stats_find() makes none.
 */
extern SqsQueueStats *sqs_stats_run(Oid dboid, int32 queue_id, Oid owner, const char **why);
extern bool sqs_stats_stop(SqsQueueStats *stats);
extern SqsQueueStats *sqs_stats_get(Oid dboid, int32 queue_id);
extern SqsQueueStats *sqs_stats_find(Oid dboid, int32 queue_id);
extern void sqs_stats_forget(SqsQueueStats *stats);
extern void sqs_stats_reset_entry(SqsQueueStats *stats);

static inline void
sqs_count(SqsQueueStats *stats, SqsCounter counter, uint64 n)
{
	if (n > 0)
		pg_atomic_fetch_add_u64(&stats->counters[counter], n);
}

/*
 * sqs_stats_set_state() returns whether the state has changed, and
 * sqs_stats_error() whether the error is to be logged (see errors.c).
 */
extern bool sqs_stats_set_state(SqsQueueStats *stats, SqsQueueState state);
extern bool sqs_stats_error(SqsQueueStats *stats, const char *text);
extern void sqs_stats_clear_error(SqsQueueStats *stats);

/* Log a problem that keeps a queue from running, once. */
extern void sqs_report_problem(SqsQueueStats *stats, SqsQueueState state,
							   const char *name, const char *problem);

/*
 * What is known about a queue's rows in the table of failures without reading
 * it: how many there are (-1: unknown), and that none is older than "from".
 * Rows written or deleted by transactions that then failed make the number
 * wrong until the rows are counted again.
 */
#define SQS_FAILURES_UNKNOWN	PG_UINT64_MAX

extern int64 sqs_failures_known(SqsQueueStats *stats);
extern TimestampTz sqs_failures_from(SqsQueueStats *stats);
extern void sqs_failures_set_known(SqsQueueStats *stats, int64 known);
extern void sqs_failures_set_unknown(SqsQueueStats *stats);
extern void sqs_failures_added(SqsQueueStats *stats, int64 n);
extern void sqs_failures_deleted(SqsQueueStats *stats, int n, TimestampTz from);
extern void sqs_failures_forget(SqsQueueStats *stats);

/* For databases.c, which holds the control lock exclusively; see queue_stats.c. */
extern int	sqs_stats_count(bool runs);
extern bool sqs_stats_stop_locked(SqsQueueStats *stats, int senders);

extern const char *sqs_queue_state_name(SqsQueueState state);

#endif							/* SQSBRIDGE_QUEUE_STATS_H */
