/*-------------------------------------------------------------------------
 *
 * queue_stats.h
 *	  What is counted and known of a queue, for the views.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_QUEUE_STATS_H
#define SQSBRIDGE_QUEUE_STATS_H

#include "base/shmem.h"

/*
 * Statistics entries.  sqs_stats_run() is for a queue that shall run: found,
 * or made, or NULL and *why (static, or of a static buffer) if as many run as
 * may, or as many of this owner's.  sqs_stats_get() is for whoever only
 * counts: found, or made, or NULL.  sqs_stats_stop(): it shall not run;
 * false if that has cost it its entry, which may be another queue's by now.
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

/* The first two return true if there is something for the log. */
extern bool sqs_stats_set_state(SqsQueueStats *stats, SqsQueueState state);
extern bool sqs_stats_error(SqsQueueStats *stats, const char *text);
extern void sqs_stats_clear_error(SqsQueueStats *stats);

/*
 * Something that is configured keeps a queue from running.  Whichever process
 * of it meets it first says so in the log: the entry is the same for all, so
 * there is one line when it appears or changes.
 */
extern void sqs_report_problem(SqsQueueStats *stats, SqsQueueState state,
							   const char *name, const char *problem);

/*
 * What is known of a queue's failures without looking: how many there are (-1:
 * not known) and that none of them is older than "from".  Rows that were
 * written or deleted by transactions that failed are miscounted until
 * somebody counts again.
 */
#define SQS_FAILURES_UNKNOWN	PG_UINT64_MAX

extern int64 sqs_failures_known(SqsQueueStats *stats);
extern TimestampTz sqs_failures_from(SqsQueueStats *stats);
extern void sqs_failures_set_known(SqsQueueStats *stats, int64 known);
extern void sqs_failures_set_unknown(SqsQueueStats *stats);
extern void sqs_failures_added(SqsQueueStats *stats, int64 n);
extern void sqs_failures_deleted(SqsQueueStats *stats, int n, TimestampTz from);
extern void sqs_failures_forget(SqsQueueStats *stats);

/*
 * For databases.c, under the exclusive lock: how many entries run (or do not),
 * and sqs_stats_stop() where so many others do not run.
 */
extern int	sqs_stats_count(bool runs);
extern bool sqs_stats_stop_locked(SqsQueueStats *stats, int senders);

extern const char *sqs_queue_state_name(SqsQueueState state);

#endif							/* SQSBRIDGE_QUEUE_STATS_H */
