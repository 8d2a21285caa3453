/*-------------------------------------------------------------------------
 *
 * results.c
 *	  What handlers report, and what becomes of their messages.
 *
 * This is the only place where a message that was handed out leaves its
 * handler with an outcome; the outcome of one whose handler died is made up in
 * handler_pool.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/queue_stats.h"
#include "receive/ack.h"
#include "receive/holding.h"
#include "receive/in_hand.h"
#include "receive/lease.h"
#include "receive/marks.h"
#include "receive/pace.h"
#include "receive/results.h"
#include "receive/route_state.h"
#include "receive/suspects.h"
#include "receive/waiting.h"

#define CANNOT_RUN_RETRY_MS	300000
#define LOCKED_RETRY_MS		10000

/* Add the run time of a handler to the statistics and to the mean. */
static void
count_handler_time(QueueWorker *qw, uint32 micros)
{
	int			bucket = 0;

	while (bucket < SQS_HISTOGRAM_BUCKETS - 1 &&
		   micros > sqs_histogram_bounds[bucket] * 1000)
		bucket++;
	pg_atomic_fetch_add_u64(&qw->stats->histogram[bucket], 1);
	sqs_count(qw->stats, SQS_HANDLER_MICROS, micros);
	if (micros > qw->stats->handler_max_micros)
	{
		SpinLockAcquire(&qw->stats->mutex);
		qw->stats->handler_max_micros = micros;
		SpinLockRelease(&qw->stats->mutex);
	}
	sqs_pace_handled(qw, micros);
}

/* Only in the view; the error has been logged already. */
void
sqs_results_not_recorded(QueueWorker *qw, const char *why)
{
	char		text[SQS_ERROR_TEXT];

	snprintf(text, sizeof(text), "a failed attempt could not be recorded in sqs_failures: %s", why);
	(void) sqs_stats_error(qw->stats, text);
}

/*
 * A handler could not begin, and no message is to blame: they wait, their leases
 * are renewed, and nothing is received until we have tried again.  A lock will
 * be released; anything else may need an administrator, so wait longer.
 */
static void
pause_queue(QueueWorker *qw, const SqsResult *result)
{
	if (qw->now >= qw->paused_until)
	{
		qw->cannot_run++;
		qw->paused_until = qw->now +
			sqs_backoff_ms(qw->cannot_run, 1000,
						   result->outcome == SQS_OUTCOME_LOCKED ?
						   LOCKED_RETRY_MS : CANNOT_RUN_RETRY_MS);
	}
	sqs_queue_error(qw, SQS_QUEUE_ERROR, result->text);
}

/*
 * A message has failed.  It is tried again by this process, or given up: SQS will
 * deliver it again.  The lease is in no list.
 */
static void
apply_failure(QueueWorker *qw, Lease *lease, const SqsResult *result)
{
	MessageGroup *group = lease->group;
	int			delay = result->unrecorded ? qw->config->retry_delay : result->delay;

	/* what went wrong is in sqs_failures; last_error is the bridge's own */
	sqs_count(qw->stats, SQS_FAILED, 1);
	if (result->unrecorded)
		sqs_results_not_recorded(qw, result->text);
	else if (result->attempt == 0)
		sqs_count(qw->stats, SQS_UNCHARGED, 1);

	sqs_route_failed(qw, lease, result);
	if (result->action == SQS_ACTION_PAUSE || result->action == SQS_ACTION_THROTTLE)
	{
		sqs_route_keep(qw, lease);
		return;
	}
	sqs_count(qw->stats, SQS_RETRIED, 1);
	if (delay >= 0 && sqs_hold(qw, lease, delay, result->attempt > 0 || result->unrecorded))
		return;

	if (group != NULL)
	{
		group->handed--;
		sqs_group_fail(qw, group);
	}
	if (delay >= 0)
		sqs_lease_release(qw, lease, delay);
	else
		sqs_lease_free(qw, lease);
	if (group != NULL)
		sqs_group_settle(qw, group);
}

/*
 * The lease has been taken off the handler, and is in no list.  Afterwards it is
 * in the list of its new state, or free.
 */
void
sqs_results_apply(QueueWorker *qw, Lease *lease, const SqsResult *result)
{
	MessageGroup *group = lease->group;

	if (result->outcome == SQS_OUTCOME_ALONE)
		sqs_suspects_wait_alone(qw, lease);
	else
		sqs_suspects_gone(qw, lease);
	if (result->unroutable && (sqs_outcome_is_end(result->outcome) ||
							   result->outcome == SQS_OUTCOME_FAILED))
		sqs_count(qw->stats, SQS_UNROUTABLE, 1);

	if (result->outcome == SQS_OUTCOME_DONE || result->outcome == SQS_OUTCOME_FAILED ||
		result->outcome == SQS_OUTCOME_HELD)
		lease->route = (int16) result->route;
	if (result->outcome == SQS_OUTCOME_HELD)
	{
		sqs_route_keep(qw, lease);
		return;
	}
	if (result->outcome == SQS_OUTCOME_CANNOT_RUN && result->route >= 0)
	{
		lease->route = (int16) result->route;
		sqs_route_broken(qw, lease, result);
		sqs_route_keep(qw, lease);
		return;
	}
	if (result->outcome == SQS_OUTCOME_CANNOT_RUN ||
		result->outcome == SQS_OUTCOME_LOCKED)
	{
		pause_queue(qw, result);
		sqs_waiting_put_back(qw, lease);
		return;
	}

	/*
	 * while polls are open, SQS would return a released message by one of
	 * them
	 */
	if (result->outcome == SQS_OUTCOME_NOT_RUN || result->outcome == SQS_OUTCOME_ALONE ||
		(result->outcome == SQS_OUTCOME_STOPPED && qw->polling.n > 0))
	{
		sqs_waiting_put_back(qw, lease);
		return;
	}

	if (result->outcome != SQS_OUTCOME_SKIPPED)
		sqs_pace_done(qw);
	if (result->outcome == SQS_OUTCOME_FAILED)
	{
		count_handler_time(qw, result->micros);
		apply_failure(qw, lease, result);
		return;
	}
	/* the message before it in its group is held */
	if (result->outcome == SQS_OUTCOME_SKIPPED && !group->failed)
	{
		sqs_waiting_put_back(qw, lease);
		return;
	}

	if (group != NULL)
	{
		group->handed--;
		if (!sqs_outcome_is_end(result->outcome))
			sqs_group_fail(qw, group);
	}

	switch (result->outcome)
	{
		case SQS_OUTCOME_DONE:
		case SQS_OUTCOME_DISCARDED:
		case SQS_OUTCOME_DEAD:
			count_handler_time(qw, result->micros);
			qw->cannot_run = 0;
			if (result->outcome == SQS_OUTCOME_DONE)
				sqs_route_succeeded(qw, lease);
			if (result->outcome == SQS_OUTCOME_DISCARDED)
				sqs_count(qw->stats, SQS_DISCARDED, 1);
			else if (result->outcome == SQS_OUTCOME_DEAD)
				sqs_count(qw->stats, SQS_DEAD_LETTERS, 1);
			sqs_ack_committed(qw, lease, result->lsn);
			break;

		case SQS_OUTCOME_DUPLICATE:
			sqs_count(qw->stats, SQS_DUPLICATES, 1);
			sqs_ack_committed(qw, lease, result->lsn);
			break;

		case SQS_OUTCOME_LOST:
			sqs_count(qw->stats, SQS_LOST, 1);
			sqs_lease_free(qw, lease);
			break;

		case SQS_OUTCOME_STOPPED:
			sqs_lease_release(qw, lease, 0);
			break;

		case SQS_OUTCOME_SKIPPED:
			lease->state = LEASE_WAITING;
			lease->handler = NULL;
			dlist_push_tail(&group->tail, &lease->node);
			break;

		case SQS_OUTCOME_FAILED:
		case SQS_OUTCOME_HELD:
		case SQS_OUTCOME_CANNOT_RUN:
		case SQS_OUTCOME_LOCKED:
		case SQS_OUTCOME_NOT_RUN:
		case SQS_OUTCOME_ALONE:
			break;				/* dealt with above */
	}

	if (group != NULL)
		sqs_group_settle(qw, group);
}

/* A ring has at most as many results as its channel is deep: this is soon over. */
void
sqs_results_collect(QueueWorker *qw)
{
	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
	{
		Handler    *handler = &qw->pool.handlers[i];
		SqsChannelShared *shared;
		uint64		read;
		uint64		written;

		if (!handler->used)
			continue;
		shared = handler->channel->shared;
		if (!handler->ready && pg_atomic_read_u32(&shared->ready) != 0)
		{
			handler->ready = true;
			handler->pid = sqs_shared->slots[handler->ref.slot].pid;
			handler->idle_since = qw->now;
			if (qw->pool.start_failures > 0)
			{
				qw->pool.start_failures = 0;
				if (qw->attributes_known && qw->polling.failures == 0 &&
					qw->cannot_run == 0 && !sqs_queue_is_held(qw) && !qw->stopping)
					sqs_queue_is_well(qw);
			}
		}

		read = pg_atomic_read_u64(&shared->results_read);
		written = pg_atomic_read_u64(&shared->results_written);
		pg_read_barrier();
		for (; read < written; read++)
		{
			SqsResult	result = handler->channel->results[sqs_channel_place(handler->channel, read)];
			Lease	   *lease = sqs_in_hand_lease(handler, result.seq);

			pg_atomic_write_u64(&shared->results_read, read + 1);
			if (lease == NULL)
				continue;
			sqs_in_hand_remove(qw, handler, lease);
			if (!sqs_outcome_is_end(result.outcome))
				sqs_marks_not_done(qw, lease);
			sqs_results_apply(qw, lease, &result);
		}
	}
}
