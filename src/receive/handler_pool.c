/*-------------------------------------------------------------------------
 *
 * handler_pool.c
 *	  The handler workers of a queue: starting, watching and ending them.
 *
 * A handler worker is started when there is work that the running ones cannot
 * take, and is stopped after sqsbridge.handler_idle_timeout without work.  If
 * one cannot be started, for lack of a worker slot or shared memory, that is
 * retried with a growing delay, while leases are still renewed.  A handler may
 * exit by itself at any time between two messages; what it had in hand is put
 * back.  If it exits during a message, that message has failed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"

#include "base/fair_shares.h"
#include "base/queue_stats.h"
#include "base/settings.h"
#include "base/wakeup.h"
#include "config/retry.h"
#include "receive/attempts.h"
#include "receive/failures.h"
#include "receive/handler_pool.h"
#include "receive/in_hand.h"
#include "receive/marks.h"
#include "receive/results.h"
#include "receive/route_state.h"
#include "receive/waiting.h"

#define STUCK_MS			50	/* the messages after the current are taken
								 * back */
#define ALIVE_CHECK_MS		50
#define SHARE_CHECK_MS		500 /* interval of checks for sqs_must_give_back() */
#define TERM_GRACE_MS		100 /* from a first SIGTERM to the second */
#define START_RETRY_MS		10000	/* longest delay when no handler can be
									 * started */
#define CANCEL_GRACE_MS		2000	/* from a cancel to SIGTERM */
#define OVERDUE_TIMES		4	/* a handler is overdue after handler_timeout */
#define OVERDUE_MS			5000	/* times OVERDUE_TIMES, plus OVERDUE_MS */

/* Set the number of handlers, also for other queues (sqs_must_give_back()). */
static void
set_nhandlers(QueueWorker *qw, int n)
{
	qw->pool.n = n;
	pg_atomic_write_u32(&MySlot->handlers, (uint32) n);
}

/* How many messages a handler may have, so that one batch can wait for another. */
static int
channel_depth(QueueWorker *qw)
{
	return qw->config->takes_batches ?
		Max(2 * qw->config->handler_batch_size, SQS_CHANNEL_DEPTH) : SQS_CHANNEL_DEPTH;
}

/*
 * A handler could not be started.  That is the queue's state only if it has none
 * at all; otherwise it goes on, only slower.
 */
static void
start_failed(QueueWorker *qw, SqsQueueState state, const char *text)
{
	qw->pool.start_failures++;
	qw->pool.next_start = qw->now + sqs_backoff_ms(qw->pool.start_failures, 1000, START_RETRY_MS);
	sqs_wake_at(qw, qw->pool.next_start);
	if (qw->pool.n == 0)
		sqs_queue_error(qw, state, text);
	else if (state != SQS_QUEUE_NO_WORKER_SLOT)
		(void) sqs_stats_error(qw->stats, text);
}

/*
 * Anything that a handler needs may be unavailable: shared memory, a DSM segment,
 * one of our worker slots, one of PostgreSQL's.
 */
void
sqs_pool_start_handler(QueueWorker *qw)
{
	Handler    *handler = NULL;
	const char *why = "out of background worker slots";
	volatile bool may = false;
	volatile bool launched = false;
	volatile bool failed = false;
	char		text[SQS_ERROR_TEXT];

	for (int i = 0; i < SQS_CONCURRENCY_MAX && handler == NULL; i++)
		if (!qw->pool.handlers[i].used)
			handler = &qw->pool.handlers[i];
	if (handler == NULL)
		return;

	memset(handler, 0, sizeof(*handler));
	PG_TRY();
	{
		may = sqs_may_take_handler(qw->config->owner, qw->pool.n, &why);
		if (may)
		{
			initStringInfo(&handler->frame);
			handler->by_seq = palloc0(channel_depth(qw) * sizeof(Lease *));
			handler->channel = sqs_channel_create(qw->config->queue_id, qw->config->name,
												  channel_depth(qw));
			launched = sqs_worker_launch(SQS_HANDLER_WORKER, MyDatabaseId, qw->config->queue_id,
										 qw->config->owner,
										 dsm_segment_handle(handler->channel->segment),
										 qw->config->name, &handler->ref) == SQS_LAUNCHED;
		}
	}
	PG_CATCH();
	{
		char		reason[SQS_ERROR_TEXT - 64];

		sqs_queue_catch(qw, reason, sizeof(reason));
		snprintf(text, sizeof(text), "a handler worker could not be started: %s", reason);
		failed = true;
	}
	PG_END_TRY();

	if (launched)
	{
		if (qw->pool.n == 0)
			sqs_slot_wanted(&qw->stats->waits_since, false);
		handler->used = true;
		handler->idle_since = qw->now;
		if (qw->routes.nheld > 0)
			sqs_routes_tell(qw, handler);
		set_nhandlers(qw, qw->pool.n + 1);
		return;
	}

	if (handler->channel != NULL)
		sqs_channel_destroy(handler->channel);
	if (handler->frame.data != NULL)
		pfree(handler->frame.data);
	if (handler->by_seq != NULL)
		pfree(handler->by_seq);
	if (failed)
	{
		start_failed(qw, SQS_QUEUE_ERROR, text);
		return;
	}
	/* another queue of the same owner may have been faster */
	may = may && sqs_may_take_handler(qw->config->owner, qw->pool.n, &why);
	if (may)
		sqs_warn_no_slot();
	start_failed(qw, SQS_QUEUE_NO_WORKER_SLOT, why);
	if (qw->pool.n > 0)
		return;

	/*
	 * Without a handler, this process only occupies a slot: if queue workers
	 * held all slots, no message would ever be handled.  So it exits, and
	 * releases what it has in hand.
	 */
	sqs_slot_wanted(&qw->stats->waits_since, may);
	if (qw->pool.starved || qw->pool.start_failures > 1)
	{
		qw->pool.no_slot = true;
		sqs_wake_at(qw, qw->now);
	}
}

/*
 * Messages that are received but cannot be handled come closer to the
 * dead-letter queue each time.  So a queue that has been out of slots receives
 * nothing before it has its first handler.
 */
bool
sqs_pool_prepare(QueueWorker *qw)
{
	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
		if (qw->pool.handlers[i].used && qw->pool.handlers[i].ready)
			return true;

	if (qw->pool.n == 0)
	{
		if (qw->now >= qw->pool.next_start)
			sqs_pool_start_handler(qw);
		else
			sqs_wake_at(qw, qw->pool.next_start);
	}
	return false;
}

/* The handler died with this message, so we record the failed attempt for it. */
static void
record_death(QueueWorker *qw, Lease *lease, Handler *handler, SqsResult *result)
{
	bool		overran = pg_atomic_read_u32(&handler->channel->shared->overran) != 0;

	PG_TRY();
	{
		ErrorData  *edata;
		SqsAttempts attempts;
		SqsFailure	failure = {0};

		sqs_begin();
		edata = palloc0(sizeof(ErrorData));
		edata->sqlerrcode = overran ? ERRCODE_QUERY_CANCELED : ERRCODE_ADMIN_SHUTDOWN;
		edata->message = pstrdup(result->text);
		if (!overran)
			edata->hint = "The server log says why.";
		memset(&attempts, 0, sizeof(attempts));
		sqs_attempts_failed(qw->config->queue_id, lease->message->message_id,
							lease->message->receive_count, edata->sqlerrcode, true, &attempts);
		failure.queue_id = qw->config->queue_id;
		failure.queue = qw->config->name;
		failure.owner = qw->config->owner;
		failure.message_id = lease->message->message_id;
		failure.receive_count = lease->message->receive_count;
		failure.edata = edata;
		failure.handler_pid = handler->pid;
		failure.attempt = attempts.attempts;
		result->sqlstate = edata->sqlerrcode;
		result->attempt = attempts.attempts;
		result->delay = sqs_retry_delay(qw->config, attempts.attempts,
										pg_prng_uint64(&pg_global_prng_state));
		if (result->delay >= 0)
			failure.retry_at = GetCurrentTimestamp() + result->delay * USECS_PER_SEC;
		failure.action = SQS_ACTION_KILLED;
		sqs_failure_insert(&failure);
		sqs_commit();
		MemoryContextSwitchTo(qw->context);
	}
	PG_CATCH();
	{
		char		reason[SQS_ERROR_TEXT - 64];

		EmitErrorReport();
		sqs_queue_catch(qw, reason, sizeof(reason));
		sqs_results_not_recorded(qw, reason);
		result->delay = qw->config->retry_delay;
	}
	PG_END_TRY();
}

/*
 * The handler's process is gone, and its results have been collected.  If it was
 * running a message, that message has failed; the others are put back.  Of a
 * batch nobody knows which message it was, so they are run again, an eighth of
 * them at a time, until it stands alone.
 */
static void
handler_has_exited(QueueWorker *qw, Handler *handler)
{
	SqsChannelShared *shared = handler->channel->shared;
	uint64		current = shared->current;	/* no lock: the only writer is
											 * gone */
	uint64		taken = shared->taken;
	int			nrunning = 0;

	for (uint64 seq = handler->last_seq; current != 0 && seq >= current; seq--)
		if (seq <= taken && sqs_in_hand_lease(handler, seq) != NULL)
			nrunning++;

	for (uint64 seq = handler->last_seq; seq > 0 && handler->outstanding > 0; seq--)
	{
		Lease	   *lease = sqs_in_hand_lease(handler, seq);
		SqsResult	result;

		if (lease == NULL)
			continue;
		sqs_in_hand_remove(qw, handler, lease);
		if (seq > taken || (seq == taken && current == 0))
		{
			sqs_marks_not_done(qw, lease);
			sqs_waiting_put_back(qw, lease);
			continue;
		}
		memset(&result, 0, sizeof(result));
		result.route = lease->route;
		if (shared->cancel == SQS_CANCEL_SHUTDOWN || qw->stopping)
			result.outcome = SQS_OUTCOME_STOPPED;
		else if (lease->lost)
			result.outcome = SQS_OUTCOME_LOST;
		else if (nrunning > 1)
		{
			lease->batch_limit = (nrunning + SQS_BATCH_PARTS - 1) / SQS_BATCH_PARTS;
			result.outcome = SQS_OUTCOME_NOT_RUN;
		}
		else
		{
			result.outcome = SQS_OUTCOME_FAILED;
			result.action = SQS_ACTION_KILLED;
			result.delay = -1;
			if (pg_atomic_read_u32(&shared->overran) != 0)
				snprintf(result.text, sizeof(result.text),
						 "handler ran longer than its handler_timeout of %d ms and went on when it was canceled",
						 qw->config->handler_timeout);
			else
				snprintf(result.text, sizeof(result.text),
						 "handler worker (PID %d) exited while it handled the message",
						 (int) handler->pid);
			record_death(qw, lease, handler, &result);
		}
		sqs_results_apply(qw, lease, &result);
	}

	if (!handler->ready && !handler->stopping && !qw->stopping)
	{
		qw->pool.start_failures++;
		qw->pool.next_start = qw->now + sqs_backoff_ms(qw->pool.start_failures, 1000, 60000);
		if (qw->pool.n == 1)
			sqs_queue_error(qw, SQS_QUEUE_ERROR,
							"handler worker could not start; the server log says why");
	}
	sqs_channel_destroy(handler->channel);
	pfree(handler->frame.data);
	pfree(handler->by_seq);
	handler->used = false;
	set_nhandlers(qw, qw->pool.n - 1);
}

/*
 * If another queue has no handler at all, and this one has more than any other,
 * let the handler with the fewest messages exit after its current one.
 */
static void
give_back(QueueWorker *qw)
{
	Handler    *least = NULL;

	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
	{
		Handler    *handler = &qw->pool.handlers[i];

		if (!handler->used)
			continue;
		if (handler->giving_back || handler->stopping)
			return;				/* one is about to exit already */
		if (handler->ready && (least == NULL || handler->outstanding < least->outstanding))
			least = handler;
	}
	if (least == NULL || !sqs_must_give_back(MyDatabaseId, qw->config->queue_id, qw->pool.n))
		return;
	least->giving_back = true;
	(void) sqs_in_hand_take_back(qw, least);
}

/*
 * handler_timeout cancels the message or, soon after, terminates the handler.  A
 * handler that is still busy long after that does not react to signals; say so,
 * once per message.  (The time starts again when a serialization failure is
 * retried, hence the generous limit.)
 */
static void
note_overdue(QueueWorker *qw, Handler *handler, uint64 seq, int64 elapsed_ms)
{
	int64		limit = (int64) qw->config->handler_timeout * OVERDUE_TIMES + OVERDUE_MS;
	char		text[SQS_ERROR_TEXT];

	if (qw->config->handler_timeout <= 0 || handler->overdue_seq == seq)
		return;
	if (elapsed_ms < limit)
	{
		sqs_wake_at(qw, qw->now + limit - elapsed_ms);
		return;
	}
	handler->overdue_seq = seq;
	snprintf(text, sizeof(text),
			 "handler worker (PID %d) does not react: it has been at a message for %d s, its handler_timeout is %d ms",
			 (int) handler->pid, (int) (elapsed_ms / 1000), qw->config->handler_timeout);
	if (sqs_stats_error(qw->stats, text))
		ereport(LOG,
				(errmsg("sqsbridge queue \"%s\": %s", qw->config->name, text)));
}

/*
 * A slow message must not hold up those sent after it; and report one that runs
 * for much longer than handler_timeout allows.
 */
static void
watch_current(QueueWorker *qw, Handler *handler, int64 now_us)
{
	SqsChannelShared *shared = handler->channel->shared;
	int64		since;
	uint64		current;
	uint64		current_to;

	handler->age_us = 0;
	if (handler->outstanding == 0)
		return;
	SpinLockAcquire(&shared->mutex);
	current = shared->current;
	current_to = shared->current_to;
	since = current != 0 ? shared->current_since : now_us;
	SpinLockRelease(&shared->mutex);
	handler->age_us = Max(now_us - since, 0);
	if (current != 0)
		handler->age_us /= current_to - current + 1;

	if (handler->outstanding > 1 && !handler->sending &&
		(current == 0 || handler->last_seq > current_to))
	{
		if (now_us - since > STUCK_MS * 1000)
			(void) sqs_in_hand_take_back(qw, handler);
		else
			sqs_wake_at(qw, qw->now + STUCK_MS);
	}
	if (current != 0)
		note_overdue(qw, handler, current, (now_us - since) / 1000);
}

/*
 * A handler whose message was canceled because its lease was lost, and that has
 * ignored the cancel, is terminated after CANCEL_GRACE_MS.
 */
static void
watch_cancel(QueueWorker *qw, Handler *handler)
{
	if (handler->canceled_seq == 0)
		return;
	if (sqs_in_hand_lease(handler, handler->canceled_seq) == NULL)
		handler->canceled_seq = 0;
	else if (qw->now < handler->canceled_at + CANCEL_GRACE_MS)
		sqs_wake_at(qw, handler->canceled_at + CANCEL_GRACE_MS);
	else if (handler->term_seen_at == 0)
	{
		sqs_handler_signal(handler, SIGTERM);	/* watch_sigterm() sends the
												 * second */
		sqs_wake_at(qw, qw->now + TERM_GRACE_MS);
	}
}

/* If a handler got a SIGTERM that is not due to a shutdown, send the second one. */
static void
watch_sigterm(QueueWorker *qw, Handler *handler)
{
	if (handler->term_seen_at == 0 &&
		pg_atomic_read_u32(&handler->channel->shared->term_requested) != 0)
	{
		handler->term_seen_at = qw->now;
		(void) sqs_in_hand_take_back(qw, handler);
	}
	if (handler->term_seen_at != 0 && !qw->stopping)
	{
		if (qw->now >= handler->term_seen_at + TERM_GRACE_MS)
			sqs_handler_signal(handler, SIGTERM);
		sqs_wake_at(qw, qw->now + TERM_GRACE_MS);
	}
}

/* A handler that is idle for too long, or is one too many, is told to exit. */
static void
watch_idleness(QueueWorker *qw, Handler *handler)
{
	if (handler->outstanding == 0 && !handler->stopping)
	{
		if (handler->giving_back ||
			qw->now >= handler->idle_since + sqs_handler_idle_timeout ||
			qw->pool.n > qw->config->concurrency)
		{
			handler->stopping = true;
			pg_atomic_write_u32(&handler->channel->shared->stop, 1);
			sqs_wake_slot(handler->ref.slot, handler->ref.generation);
		}
		else
			sqs_wake_at(qw, handler->idle_since + sqs_handler_idle_timeout);
	}
	if (handler->stopping)
		sqs_wake_at(qw, qw->now + ALIVE_CHECK_MS);
}

/*
 * Supervise the handlers: those that have exited, are slow, ignore a cancel,
 * are being terminated, or have been idle for too long.
 */
void
sqs_pool_supervise(QueueWorker *qw)
{
	uint64		exits = pg_atomic_read_u64(&qw->database->exits);
	bool		check_alive = exits != qw->pool.exits ||
		qw->now >= qw->pool.last_alive_check + ALIVE_CHECK_MS;
	int64		now_us;
	instr_time	clock;

	if (qw->pool.n == 0)
		return;
	if (check_alive)
	{
		qw->pool.last_alive_check = qw->now;
		qw->pool.exits = exits;
	}
	if (qw->pool.n > 1 && !qw->stopping)
	{
		if (qw->now >= qw->pool.last_share_check + SHARE_CHECK_MS)
		{
			qw->pool.last_share_check = qw->now;
			give_back(qw);
		}
		sqs_wake_at(qw, qw->pool.last_share_check + SHARE_CHECK_MS);
	}
	INSTR_TIME_SET_CURRENT(clock);
	now_us = (int64) INSTR_TIME_GET_MICROSEC(clock);

	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
	{
		Handler    *handler = &qw->pool.handlers[i];

		if (!handler->used)
			continue;
		if (check_alive && !sqs_worker_alive(&handler->ref))
		{
			/*
			 * Handlers exit when the postmaster dies, which is not a failure
			 * to be recorded.  Exit, too, as our next wait would.
			 */
			if (!PostmasterIsAlive())
				proc_exit(1);
			sqs_results_collect(qw);	/* its last results */
			handler_has_exited(qw, handler);
			continue;
		}
		if (!handler->ready)
		{
			sqs_wake_at(qw, qw->now + 100);
			continue;
		}
		/* its channel may be too small for what the queue's options are now */
		if (handler->channel->shared->depth < channel_depth(qw))
			handler->giving_back = true;
		watch_current(qw, handler, now_us);
		watch_cancel(qw, handler);
		watch_sigterm(qw, handler);
		watch_idleness(qw, handler);
	}
}

/*
 * The queue stops: take back the messages that the handlers have not started.  Of
 * a batch, they return what they have not started.
 */
void
sqs_pool_stop(QueueWorker *qw)
{
	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
	{
		Handler    *handler = &qw->pool.handlers[i];

		if (!handler->used)
			continue;
		pg_atomic_write_u32(&handler->channel->shared->stopping, 1);
		(void) sqs_in_hand_take_back(qw, handler);
	}
}

/* Take back the messages that the handlers have not started. */
void
sqs_pool_take_back(QueueWorker *qw)
{
	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
		if (qw->pool.handlers[i].used)
			(void) sqs_in_hand_take_back(qw, &qw->pool.handlers[i]);
}

/* The queue goes on before they have ended. */
void
sqs_pool_go_on(QueueWorker *qw)
{
	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
		if (qw->pool.handlers[i].used)
			pg_atomic_write_u32(&qw->pool.handlers[i].channel->shared->stopping, 0);
}

/*
 * Cancel the messages that are running.  With "hard", terminate the
 * handlers.
 */
void
sqs_pool_cancel(QueueWorker *qw, bool hard)
{
	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
	{
		Handler    *handler = &qw->pool.handlers[i];

		if (!handler->used || !handler->ready || handler->outstanding == 0)
			continue;
		if (hard)
			sqs_handler_signal(handler, SIGTERM);
		else
			(void) sqs_in_hand_cancel(handler, 0, SQS_CANCEL_SHUTDOWN);
	}
}

/*
 * Detach from all handlers, which makes them exit after their current
 * message.
 */
void
sqs_pool_end(QueueWorker *qw)
{
	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
	{
		Handler    *handler = &qw->pool.handlers[i];

		if (!handler->used)
			continue;
		pg_atomic_write_u32(&handler->channel->shared->stop, 1);
		sqs_channel_destroy(handler->channel);
		handler->used = false;
	}
	set_nhandlers(qw, 0);
}
