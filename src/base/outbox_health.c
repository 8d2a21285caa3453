/*-------------------------------------------------------------------------
 *
 * outbox_health.c
 *	  How the relay of a queue's outbox rows is doing, for the views.
 *
 * Only the relay of the queue's database, in the database worker, calls the
 * functions that write, so these read without the entry's spinlock.  They are
 * called often, hence the early returns when nothing changes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/spin.h"

#include "base/errors.h"
#include "base/outbox_health.h"

/*
 * Set the state of sending.  next_attempt_ms is how long the relay will wait
 * before it tries again; 0 if it does not wait.
 */
void
sqs_outbox_health_set(SqsQueueStats *stats, SqsOutboxState state, long next_attempt_ms)
{
	SqsOutboxHealth *outbox = &stats->outbox;
	TimestampTz now;

	if (outbox->state == state && (outbox->next_attempt_at != 0) == (next_attempt_ms > 0))
		return;
	now = GetCurrentTimestamp();
	SpinLockAcquire(&stats->mutex);
	if (outbox->state != state)
	{
		outbox->state = state;
		outbox->state_since = now;
	}
	if (next_attempt_ms <= 0)
		outbox->next_attempt_at = 0;
	else if (outbox->next_attempt_at == 0)
		outbox->next_attempt_at =
			TimestampTzPlusMilliseconds(now, next_attempt_ms);
	SpinLockRelease(&stats->mutex);
}

/* Add an error; returns whether it is to be logged (see errors.h). */
bool
sqs_outbox_health_error(SqsQueueStats *stats, const char *text, bool announce)
{
	/* the pause that follows this error sets a new time */
	SpinLockAcquire(&stats->mutex);
	stats->outbox.next_attempt_at = 0;
	stats->outbox.relay_failed = false;
	SpinLockRelease(&stats->mutex);
	return sqs_errors_add(&stats->outbox.errors, &stats->mutex, text, announce);
}

/* SQS has confirmed messages. */
void
sqs_outbox_health_sent(SqsQueueStats *stats)
{
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&stats->mutex);
	stats->outbox.last_success_at = now;
	SpinLockRelease(&stats->mutex);
}

/*
 * Nothing is wrong any more.  Returns whether that is to be logged: if an
 * error was.
 */
bool
sqs_outbox_health_well(SqsQueueStats *stats)
{
	SqsOutboxHealth *outbox = &stats->outbox;
	bool		news;

	if (outbox->errors.since == 0)
		return false;
	SpinLockAcquire(&stats->mutex);
	news = outbox->errors.nannounced > 0;
	outbox->errors.since = 0;
	outbox->errors.consecutive = 0;
	outbox->errors.nannounced = 0;
	outbox->next_attempt_at = 0;
	SpinLockRelease(&stats->mutex);
	return news;
}

/*
 * The relay as a whole has failed.  That is shown for every queue that has
 * something to send.
 */
void
sqs_outbox_health_relay_failed(Oid dboid, const char *text, long next_attempt_ms)
{
	for (int i = 0; i < sqs_shared->nqueues; i++)
	{
		SqsQueueStats *stats = &sqs_shared->queues[i];

		if (stats->dboid != dboid ||
			(stats->outbox.state != SQS_OUTBOX_SENDING &&
			 stats->outbox.state != SQS_OUTBOX_BACKING_OFF))
			continue;
		(void) sqs_outbox_health_error(stats, text, false);
		stats->outbox.relay_failed = true;
		sqs_outbox_health_set(stats, SQS_OUTBOX_BACKING_OFF, next_attempt_ms);
	}
}

/* The relay as a whole works again. */
void
sqs_outbox_health_relay_well(Oid dboid)
{
	for (int i = 0; i < sqs_shared->nqueues; i++)
	{
		SqsQueueStats *stats = &sqs_shared->queues[i];

		if (stats->dboid != dboid || !stats->outbox.relay_failed)
			continue;
		stats->outbox.relay_failed = false;
		(void) sqs_outbox_health_well(stats);
	}
}

/* The name of a state, as sqs_stats_outbox shows it. */
const char *
sqs_outbox_state_name(SqsOutboxState state)
{
	switch (state)
	{
		case SQS_OUTBOX_IDLE:
			return "idle";
		case SQS_OUTBOX_SENDING:
			return "sending";
		case SQS_OUTBOX_BACKING_OFF:
			return "backing off";
		case SQS_OUTBOX_DISABLED:
			return "disabled";
	}
	return NULL;
}
