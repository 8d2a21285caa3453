/*-------------------------------------------------------------------------
 *
 * run.c
 *	  Running a message in a handler worker, or a batch of them.
 *
 * handler.c says what a transaction consists of, and why.  Here are its parts,
 * those of a message that has a transaction to itself put together; batch.c does
 * that for many.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "base/compat.h"
#include "base/route_stats.h"
#include "base/sqlstates.h"
#include "base/worker.h"
#include "config/bindings.h"
#include "receive/ending.h"
#include "receive/handler_function.h"
#include "receive/handler_session.h"
#include "receive/inbox.h"
#include "receive/message.h"
#include "receive/run.h"
#include "receive/verdict.h"

/* The process is terminated if the handler runs so long after its cancel. */
#define CANCEL_GRACE_MS 2000

/* Bytes of a key that an error quotes. */
#define CLIPPED_KEY 200

/* The queue's handler, and the function that the current message is for. */
static SqsHandlerFunction queue_handler;
static SqsHandlerFunction *function;

static void
handler_error_context(void *arg)
{
	SqsDelivery *delivery = arg;

	errcontext("handler of sqsbridge queue \"%s\", message %.*s",
			   sqs_session.channel->shared->queue,
			   (int) delivery->message.message_id.len,
			   delivery->message.message_id.data);
}

static void
lock_tables(void *arg)
{
	SqsTask    *task = arg;

	if (task->delivery->frame.flags & SQS_FRAME_EXACTLY_ONCE)
		sqs_inbox_lock();
	sqs_attempts_remove(&task->attempts);
}

static void
insert_into_inbox(void *arg)
{
	SqsTask    *task = arg;

	task->is_duplicate = !sqs_task_insert_into_inbox(task);

	/* the message's own row stays even if its business key is there already */
	if (!task->is_duplicate && task->routed.dedup_key != NULL)
		task->is_duplicate =
			!sqs_inbox_insert_key(sqs_session.channel->shared->queue_id,
								  sqs_message_business_identity(task->routed.dedup_key),
								  task->delivery->frame.stamp);
}

/*
 * The message has been handled before: it only remains to make that durable.
 * Cancels are held off, since they are meant for the handler.
 */
static void
commit_duplicate(SqsTask *task, SqsResult *result)
{
	disable_timeout(sqs_session.timeout_id, false);
	HOLD_CANCEL_INTERRUPTS();
	PopActiveSnapshot();
	result->lsn = sqs_session_commit(task->delivery);
	result->outcome = SQS_OUTCOME_DUPLICATE;
	RESUME_CANCEL_INTERRUPTS();
}

/* Look at what is in the message, once.  An ERROR if it is damaged. */
void
sqs_handler_open_message(SqsTask *task)
{
	SqsDelivery *delivery = task->delivery;
	const char *damage;
	MemoryContext old;

	if (task->is_open)
		return;

	if (delivery->damage.data != NULL)
		damage = pnstrdup(delivery->damage.data, delivery->damage.len);
	else
		damage = sqs_message_damage(&delivery->message);
	if (damage != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("message is damaged: %s", damage)));

	old = MemoryContextSwitchTo(sqs_session.message_context);
	sqs_message_open(&delivery->message, delivery->body,
					 delivery->frame.flags >> SQS_FRAME_UNWRAP_SHIFT, &task->content);
	if (task->has_envelope && task->content.envelope == (Datum) 0 && !task->content.for_nobody)
		ereport(ERROR,
				(errcode(ERRCODE_SQS_NOT_SNS),
				 errmsg("message is not as SNS sends it: its envelope cannot be taken off")));
	if (task->routing != NULL && !task->content.for_nobody)
		sqs_route_message(task->routing, &task->content, &task->routed);
	MemoryContextSwitchTo(old);
	task->is_open = true;
}

/* Does no route want the message, and the queue's handler neither? */
static bool
is_unroutable(const SqsTask *task)
{
	return task->routed.unroutable && task->routing->unroutable != SQS_UNROUTABLE_HANDLER;
}

/* Say in pg_stat_activity what is being done. */
static void
report_activity(const SqsDelivery *delivery, const char *name, size_t name_len)
{
	MemoryContext old = MemoryContextSwitchTo(sqs_session.message_context);
	char	   *activity = psprintf("sqsbridge: %.*s, queue %s, message %.*s",
									(int) name_len, name, sqs_session.channel->shared->queue,
									(int) delivery->message.message_id.len,
									delivery->message.message_id.data);

	MemoryContextSwitchTo(old);
	debug_query_string = activity;
	pgstat_report_activity(STATE_RUNNING, activity);
}

/* Find out which function the message is for, if there is one. */
static void
find_function(SqsTask *task)
{
	SqsDelivery *delivery = task->delivery;
	const SqsRoute *route = task->routed.route;

	if (route != NULL)
	{
		function = &task->routed.use->function;
		sqs_handler_function_find(function, GetMemoryChunkContext(unconstify(SqsRouting *, task->routing)),
								  route->handler.name, strlen(route->handler.name),
								  route->handler.owner_oid);
		report_activity(delivery, route->handler.name, strlen(route->handler.name));
		return;
	}
	function = &queue_handler;
	if (is_unroutable(task) || (task->is_open && task->content.for_nobody))
		return;
	if (delivery->handler.len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("queue \"%s\" has no handler", sqs_session.channel->shared->queue)));
	sqs_handler_function_find(function, TopMemoryContext, delivery->handler.data,
							  delivery->handler.len, delivery->frame.handler_owner);
}

/* handler_timeout, from the beginning of this try. */
static void
arm_timeout(SqsDelivery *delivery, TimestampTz start)
{
	if (delivery->frame.handler_timeout > 0)
		enable_timeout_every(sqs_session.timeout_id,
							 TimestampTzPlusMilliseconds(start, delivery->frame.handler_timeout),
							 CANCEL_GRACE_MS);
}

/* From now on, as for a try with this message. */
void
sqs_handler_limit_time(SqsDelivery *delivery)
{
	arm_timeout(delivery, GetCurrentTimestamp());
}

/* There is no route for the message. */
static void
refuse_unroutable(const SqsTask *task)
{
	const char *key = task->routed.key;

	ereport(ERROR,
			(errcode(ERRCODE_SQS_UNROUTABLE),
			 key != NULL ? errmsg("there is no route for the key of the message") :
			 errmsg("message has no key to choose a route by"),
			 key != NULL ?
			 errdetail("The key is \"%s\".",
					   pnstrdup(key, pg_mbcliplen(key, strlen(key), CLIPPED_KEY))) : 0));
}

/* The function that the transaction has been begun for. */
SqsHandlerFunction *
sqs_handler_current_function(void)
{
	return function;
}

/*
 * Call the function with the message, under the session's statement_timeout.
 * Returns false if the message is none for handlers.
 */
static bool
call_handler(SqsTask *task)
{
	LOCAL_FCINFO(fcinfo, 1);
	MemoryContext old;

	sqs_handler_open_message(task);
	if (task->content.for_nobody)
		return false;
	if (is_unroutable(task))
	{
		if (task->routing->unroutable == SQS_UNROUTABLE_DISCARD)
			return false;
		refuse_unroutable(task);
	}

	old = MemoryContextSwitchTo(sqs_session.message_context);
	InitFunctionCallInfoData(*fcinfo, &function->flinfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = sqs_message_datum(sqs_session.channel->shared->queue,
											  &task->delivery->message, &task->content,
											  task->attempts.attempts + 1);
	fcinfo->args[0].isnull = false;
	MemoryContextSwitchTo(old);

	if (StatementTimeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, StatementTimeout);

	(void) FunctionCallInvoke(fcinfo);

	CHECK_FOR_INTERRUPTS();
	disable_timeout(STATEMENT_TIMEOUT, false);
	return true;
}

/* Must the message wait until its route goes on?  See route_state.c. */
static bool
is_held(const SqsTask *task)
{
	return task->routing->route_by != NULL &&
		(task->delivery->frame.flags & SQS_FRAME_PROBE) == 0 &&
		sqs_session_route_is_held(task->routed.route != NULL ? task->routed.route->number : -1);
}

/*
 * Begin the transaction of a message, or of a batch with this message, with a
 * snapshot, a time limit, and the function that the message is for.  Returns
 * false, and there is no transaction, if its route is held.
 */
bool
sqs_handler_begin(SqsTask *task, volatile SqsPhase *phase)
{
	SqsDelivery *delivery = task->delivery;
	TimestampTz start;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	sqs_session_check_rights();

	/* a SET ROLE of the message before must not reach this one */
	if (GetUserId() != sqs_session.owner || GetSessionUserId() != sqs_session.owner)
	{
		SetPGVariable("session_authorization", NIL, false);
		SetPGVariable("role", NIL, false);
	}

	/* covers the wait for another transaction with the same message */
	start = GetCurrentTimestamp();
	arm_timeout(delivery, start);
	if (task->routing != NULL)
	{
		*phase = SQS_PHASE_RUN;
		sqs_handler_open_message(task);
		if (is_held(task))
		{
			disable_timeout(sqs_session.timeout_id, false);
			PopActiveSnapshot();
			CommitTransactionCommand();
			return false;
		}
		if (task->routed.route != NULL && task->routed.route->handler_timeout > 0)
		{
			delivery->frame.handler_timeout = task->routed.route->handler_timeout;
			arm_timeout(delivery, start);
		}
	}
	*phase = SQS_PHASE_RESOLVE;
	find_function(task);
	return true;
}

/*
 * The handler has returned.  Do now, under handler_timeout, what the commit would
 * do on its behalf: deferred constraints and triggers.  Also drop cursors WITH
 * HOLD, which the commit would run to completion for nothing.
 */
void
sqs_handler_returned(void)
{
	PopActiveSnapshot();
	AfterTriggerFireDeferred();
	PortalHashTableDeleteAll();

	sqs_verdict_raise();
	(void) sqs_verdict_end();
}

/* The transaction has committed: its time is not limited any more. */
void
sqs_handler_committed(void)
{
	disable_timeout(sqs_session.timeout_id, false);
}

/*
 * One attempt to handle the message, in a transaction.  Sets the result's outcome
 * and LSN.  Errors are caught by the caller; between the commit and the return
 * none can be raised, nor an interrupt be processed.
 */
static void
run_message(SqsTask *task, SqsResult *result, volatile SqsPhase *phase)
{
	SqsDelivery *delivery = task->delivery;
	bool		handled;

	if (!sqs_handler_begin(task, phase))
	{
		result->outcome = SQS_OUTCOME_HELD;
		return;
	}
	if (function->found_at != 0 && sqs_handler_takes_batches(function->name))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("function %s takes batches of messages, and this is not one",
						function->name)));
	*phase = SQS_PHASE_LOCK;
	sqs_session_with_lock_timeout(SQS_TABLE_LOCK_TIMEOUT_MS, lock_tables, task);
	if (delivery->frame.flags & SQS_FRAME_EXACTLY_ONCE)
	{
		/*
		 * To wait for a transaction with the same message is nobody's
		 * failure, and no reason to stop the queue: handler_timeout and the
		 * lease limit it, and lock_timeout is for the handler's own locks.
		 */
		*phase = SQS_PHASE_INBOX;
		sqs_session_with_lock_timeout(0, insert_into_inbox, task);
		if (task->is_duplicate)
		{
			commit_duplicate(task, result);
			return;
		}
	}

	*phase = SQS_PHASE_RUN;
	sqs_verdict_begin(sqs_session.message_context);
	handled = call_handler(task);
	sqs_handler_returned();
	sqs_session_fence(&task->delivery, 1);
	result->lsn = sqs_session_commit(delivery);
	result->outcome = handled ? SQS_OUTCOME_DONE : SQS_OUTCOME_DISCARDED;
	sqs_handler_committed();
}

/* Before each attempt: nothing of the one before may affect it. */
void
sqs_handler_forget_attempt(void)
{
	function = &queue_handler;
	sqs_session.timed_out = false;
	sqs_session.lease_over = false;
	QueryCancelPending = false;
}

/*
 * In PG_CATCH(): abort the transaction, and return the error, in the message's
 * context, and the verdict that was given.
 */
ErrorData *
sqs_handler_catch(SqsVerdict *verdict)
{
	ErrorData  *edata;

	*verdict = sqs_verdict_end();
	disable_all_timeouts(false);
	MemoryContextSwitchTo(sqs_session.message_context);
	edata = CopyErrorData();
	HOLD_INTERRUPTS();
	AbortOutOfAnyTransaction();
	FlushErrorState();
	QueryCancelPending = false;
	RESUME_INTERRUPTS();
	MemoryContextSwitchTo(sqs_session.message_context);

	sqs_handler_function_forget(function);
	return edata;
}

/*
 * Handle a message and fill in the result.  Returns false if the attempt should
 * be repeated at once.
 */
static bool
try_message(SqsTask *task, SqsResult *result)
{
	volatile SqsPhase phase = SQS_PHASE_RESOLVE;
	volatile bool final = true;
	ErrorContextCallback callback;
	ErrorContextCallback *previous = error_context_stack;

	callback.callback = handler_error_context;
	callback.arg = task->delivery;
	callback.previous = previous;

	task->tries++;
	sqs_handler_forget_attempt();
	PG_TRY();
	{
		error_context_stack = &callback;
		run_message(task, result, &phase);
		error_context_stack = previous;
	}
	PG_CATCH();
	{
		SqsVerdict	verdict;
		ErrorData  *edata;

		error_context_stack = previous;
		edata = sqs_handler_catch(&verdict);
		final = sqs_task_failed(task, edata, &verdict, phase, result);
	}
	PG_END_TRY();

	return final;
}

void
sqs_result_init(SqsResult *result)
{
	memset(result, 0, offsetof(SqsResult, text));
	result->delay = -1;
	result->route = -1;
	result->text[0] = '\0';
}

/*
 * Put the result into the ring, which has room for as many as messages can be
 * outstanding.
 */
void
sqs_result_post(const SqsResult *result)
{
	SqsChannel *channel = sqs_session.channel;
	uint64		written = pg_atomic_read_u64(&channel->shared->results_written);

	Assert(written - pg_atomic_read_u64(&channel->shared->results_read) < channel->shared->depth);
	channel->results[sqs_channel_place(channel, written)] = *result;
	pg_write_barrier();
	pg_atomic_write_u64(&channel->shared->results_written, written + 1);
}

/* Wake the queue worker for results that it may not know of. */
void
sqs_results_announce(void)
{
	SetLatch(&sqs_session.channel->shared->leader->procLatch);
}

/*
 * All results of the message, or of the batch, are in the ring.  Returns whether
 * the queue worker wanted it canceled.
 */
bool
sqs_handler_finish_current(void)
{
	SqsChannelShared *shared = sqs_session.channel->shared;
	bool		canceled;

	SpinLockAcquire(&shared->mutex);
	shared->current = 0;
	canceled = shared->cancel != SQS_CANCEL_NONE;
	SpinLockRelease(&shared->mutex);
	return canceled;
}

/*
 * The queue worker wanted the previous message canceled.  If its signal comes
 * too late, it must not hit the next one: wait until it has been sent, and then
 * once more, since a system call delivers pending signals.
 */
void
sqs_handler_outlive_cancel(void)
{
	do
	{
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1, sqs_session.wait_event);
		QueryCancelPending = false;
		CHECK_FOR_INTERRUPTS();
	} while (pg_atomic_read_u32(&sqs_session.channel->shared->signaling) != 0);
}

/*
 * Take these messages, except those that the queue worker has taken back.  Returns
 * the first that is ours, 0 if none is.
 */
uint64
sqs_handler_take(uint64 from, uint64 to)
{
	SqsChannelShared *shared = sqs_session.channel->shared;
	int64		now = sqs_monotonic_us();
	uint64		mine;

	SpinLockAcquire(&shared->mutex);
	mine = Max(from, shared->revoked_to + 1);
	shared->taken = to;
	if (mine <= to)
	{
		shared->current = mine;
		shared->current_to = to;
		shared->current_since = now;
		shared->cancel = SQS_CANCEL_NONE;
	}
	SpinLockRelease(&shared->mutex);
	return mine <= to ? mine : 0;
}

/* A part of the batch is about to be run. */
void
sqs_handler_begin_part(char *activity)
{
	SqsChannelShared *shared = sqs_session.channel->shared;
	int64		now = sqs_monotonic_us();

	SpinLockAcquire(&shared->mutex);
	shared->current_since = now;
	SpinLockRelease(&shared->mutex);

	debug_query_string = activity;
	pgstat_report_activity(STATE_RUNNING, activity);
}

/*
 * The leases of some messages of the batch have been lost, which has canceled it.
 * The queue worker has marked them, so the others can go on.
 */
void
sqs_handler_outlive_lost_leases(void)
{
	SqsChannelShared *shared = sqs_session.channel->shared;

	sqs_handler_outlive_cancel();
	SpinLockAcquire(&shared->mutex);
	if (shared->cancel == SQS_CANCEL_LEASE_LOST)
		shared->cancel = SQS_CANCEL_NONE;
	SpinLockRelease(&shared->mutex);
}

/* Is the rest of a batch not to be begun? */
bool
sqs_handler_must_stop(void)
{
	SqsChannelShared *shared = sqs_session.channel->shared;

	return ShutdownRequestPending || sqs_session_is_over() ||
		pg_atomic_read_u32(&shared->stopping) != 0 ||
		pg_atomic_read_u32(&shared->abandoned) != 0;
}

/* The statistics of the message's route. */
static void
count_for_route(const SqsTask *task, const SqsResult *result)
{
	SqsRouteCounter counter;

	switch (result->outcome)
	{
		case SQS_OUTCOME_DONE:
		case SQS_OUTCOME_DISCARDED:
			counter = SQS_ROUTE_HANDLED;
			break;
		case SQS_OUTCOME_FAILED:
			counter = SQS_ROUTE_FAILED;
			break;
		case SQS_OUTCOME_DEAD:
			counter = SQS_ROUTE_DEAD;
			break;
		default:
			return;
	}
	sqs_route_count(&task->routed.use->stats, sqs_session.channel->shared->queue_id,
					task->routed.route->key, counter, result->micros);
}

/* Run a message that is not in a batch, and fill in the result. */
void
sqs_handler_run_alone(SqsTask *task, SqsResult *result)
{
	report_activity(task->delivery, task->delivery->handler.data, task->delivery->handler.len);
	while (!try_message(task, result))
		CHECK_FOR_INTERRUPTS();
}

/*
 * Report what has become of a message, before anything else that can fail: it may
 * be committed.
 */
void
sqs_handler_settle(SqsTask *task, SqsResult *result)
{
	sqs_task_end(task, result);
	result->seq = task->delivery->frame.seq;
	result->route = task->routed.route != NULL ? task->routed.route->number : -1;
	result->unroutable = task->routed.unroutable;
	sqs_result_post(result);
	if (task->routed.route != NULL)
		count_for_route(task, result);
}
