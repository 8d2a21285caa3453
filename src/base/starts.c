/*-------------------------------------------------------------------------
 *
 * starts.c
 *	  When a worker that failed may be started again.
 *
 * The delay is that of sqs_backoff_ms(), from SQS_RESTART_MIN_MS on.  Times are
 * those of the system's clock, because the views show them, so the clock may
 * have been set back in the meantime.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/starts.h"
#include "base/worker.h"

/* A worker that runs for so long has not failed. */
#define HEALTHY_MS			60000

void
sqs_start_begins(SqsStarts *starts, TimestampTz now, long cap_ms)
{
	starts->failures++;
	starts->last = now;
	starts->next = TimestampTzPlusMilliseconds(now, sqs_backoff_ms(starts->failures,
																   SQS_RESTART_MIN_MS, cap_ms));
}

void
sqs_start_had_no_slot(SqsStarts *starts, TimestampTz now)
{
	starts->failures--;
	starts->next = TimestampTzPlusMilliseconds(now, SQS_RESTART_MIN_MS);
}

/*
 * Only while the worker runs: that it was started long ago proves nothing once
 * it is gone, since its successor may have been waiting since then.
 */
void
sqs_start_lasts(SqsStarts *starts, TimestampTz now)
{
	if (TimestampDifferenceExceeds(starts->last, now, HEALTHY_MS))
		starts->failures = 0;
}

/*
 * If the last start is in the future, the system's clock has been set back.
 * There is no wait until it has caught up, which may take hours.
 */
TimestampTz
sqs_start_next(const SqsStarts *starts, TimestampTz now)
{
	return starts->last > now ? now : starts->next;
}
