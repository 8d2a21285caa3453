/*-------------------------------------------------------------------------
 *
 * starts.h
 *	  When a worker that failed may be started again.
 *
 * Supervisors keep the starts of each database or queue in an SqsStarts, which
 * begins as zeroes.  They are not told of failures: each start is taken for one
 * that fails, until the worker has lasted for a minute.  One that exits without
 * an error resets "failures" and "next".
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_STARTS_H
#define SQSBRIDGE_STARTS_H

#include "base/shmem.h"

#define SQS_RESTART_MIN_MS	1000
#define SQS_RESTART_MAX_MS	300000

/* A worker is about to be launched; the next one is delayed by cap_ms at most. */
extern void sqs_start_begins(SqsStarts *starts, TimestampTz now, long cap_ms);

/* The worker runs, which resets the delay once it has done so for a minute. */
extern void sqs_start_lasts(SqsStarts *starts, TimestampTz now);

/* There was no slot for it: that is no failure, and asking again is cheap. */
extern void sqs_start_had_no_slot(SqsStarts *starts, TimestampTz now);

/* The earliest time of the next start. */
extern TimestampTz sqs_start_next(const SqsStarts *starts, TimestampTz now);

#endif							/* SQSBRIDGE_STARTS_H */
