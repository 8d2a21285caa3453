/*-------------------------------------------------------------------------
 *
 * handler.c
 *	  A process that runs a queue's handler: one message, one transaction.
 *
 * Its session is the queue owner's; see handler_session.c.  Messages come
 * through the channel; for each:
 *
 *		start a transaction, arm handler_timeout
 *		if the queue has routes, look for the message's key
 *		insert the message into the inbox		(already there: commit, a duplicate)
 *		call the handler function; fire deferred triggers
 *		fence: the lease has not been lost, no time has run out, the
 *			   owner still has the rights that this session has
 *		commit, asynchronously; report the commit's LSN at once
 *
 * The commit is inside the same error boundary as the call, because
 * serialization failures can occur there.  On an error the whole transaction is
 * aborted; ending.c decides what becomes of the message, and records that in
 * another one.  A message is not reported as done before its transaction has
 * committed, and is not deleted before the queue worker knows that WAL up to its
 * LSN is durable.  So wherever this process dies, the message comes back, and the
 * inbox shows whether it was handled.  After the commit, the result is reported
 * before anything else that could fail.
 *
 * Anything that may take long or run user code comes before the fence; so
 * deferred triggers are fired and cursors closed there, not in the commit.
 *
 * Signals.  SIGINT cancels the current message, as in any backend.  A first
 * SIGTERM means "finish the current message and exit"; it is passed on to the
 * queue worker, which knows whether this is a shutdown (then the message may
 * take sqsbridge.shutdown_timeout) or a pg_terminate_backend() (then it sends a
 * second one).  The second SIGTERM is handled by PostgreSQL's die(), and so is
 * one that comes because the handler has ignored a cancel.
 *
 * Signals and timers can still arrive while a process exits, when the channel is
 * already unmapped.  "attached" says whether it may be used; a before_shmem_exit
 * callback, which runs before the segment is unmapped, clears it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <time.h>

#include "access/xact.h"
#include "commands/trigger.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"

#include "base/compat.h"
#include "base/route_stats.h"
#include "base/sqlstates.h"
#include "base/worker.h"
#include "config/bindings.h"
#include "receive/batch.h"
#include "receive/channel.h"
#include "receive/ending.h"
#include "receive/handler.h"
#include "receive/handler_function.h"
#include "receive/handler_session.h"
#include "receive/inbox.h"
#include "receive/message.h"
#include "receive/verdict.h"

/* The process is terminated if the handler runs so long after its cancel. */
#define CANCEL_GRACE_MS 2000

/* Memory that malloc() keeps for the next message; SQS allows 1 MiB for a body. */
#define KEPT_MEMORY (8 * 1024 * 1024)

/* Bytes of a key that an error quotes. */
#define CLIPPED_KEY 200

/* must be less than the time until the queue worker sends a second SIGTERM */
#define SAME_SIGTERM_MS 50

static uint32 wait_event;

/* The queue's handler, and the function that the current message is for. */
static SqsHandlerFunction queue_handler;
static SqsHandlerFunction *function;

static volatile sig_atomic_t attached = false;	/* the channel may be used */
static volatile sig_atomic_t in_loop = false;
static volatile sig_atomic_t overran = false;
static TimeoutId handler_timeout_id;

/*
 * This process exits.  Signal handlers and timers must not touch the segment
 * from now on, because it will be unmapped.
 */
static void
handler_exits(int code, Datum arg)
{
	attached = false;
	disable_timeout(handler_timeout_id, false);
}

/*
 * Also runs while the process starts and exits; see above for "attached".  Uses
 * only what is safe in a signal handler.
 */
static void
handler_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;
	static int64 first_at = 0;
	struct timespec now;
	int64		now_ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ms = (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;

	/*
	 * The postmaster signals the process and its process group, so a single
	 * SIGTERM from it may arrive twice.
	 */
	if (proc_exit_inprogress || !attached || !in_loop || overran ||
		(sqs_session.term_seen && now_ms >= first_at + SAME_SIGTERM_MS))
		die(SQS_PASS_SIGNAL_ARGS);
	else if (!sqs_session.term_seen)
	{
		sqs_session.term_seen = true;
		first_at = now_ms;
		ShutdownRequestPending = true;
		pg_atomic_write_u32(&sqs_session.channel->shared->term_requested, 1);
		SetLatch(&sqs_session.channel->shared->leader->procLatch);
		SetLatch(MyLatch);
	}
	errno = save_errno;
}

/* Timer: handler_timeout has passed, or CANCEL_GRACE_MS since it last did. */
static void
handler_timed_out(void)
{
	if (proc_exit_inprogress || !attached)
		return;

	/*
	 * A handler can catch query_canceled and go on, but it cannot prevent the
	 * process from being terminated.  The queue worker reports why it was.
	 */
	if (sqs_session.timed_out)
	{
		overran = true;
		pg_atomic_write_u32(&sqs_session.channel->shared->overran, 1);
		kill(MyProcPid, SIGTERM);
		return;
	}
	sqs_session.timed_out = true;
	kill(MyProcPid, SIGINT);
}

static int64
monotonic_us(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

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
	disable_timeout(handler_timeout_id, false);
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
		enable_timeout_every(handler_timeout_id,
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
			disable_timeout(handler_timeout_id, false);
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
	disable_timeout(handler_timeout_id, false);
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
static void
post_result(const SqsResult *result)
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
static bool
finish_current(void)
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
static void
outlive_cancel(void)
{
	do
	{
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1, wait_event);
		QueryCancelPending = false;
		CHECK_FOR_INTERRUPTS();
	} while (pg_atomic_read_u32(&sqs_session.channel->shared->signaling) != 0);
}

/*
 * Take these messages, except those that the queue worker has taken back.  Returns
 * the first that is ours, 0 if none is.
 */
static uint64
take_messages(uint64 from, uint64 to)
{
	SqsChannelShared *shared = sqs_session.channel->shared;
	int64		now = monotonic_us();
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
	int64		now = monotonic_us();

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

	outlive_cancel();
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
	post_result(result);
	if (task->routed.route != NULL)
		count_for_route(task, result);
}

/* A message of a batch has come, or the order to run the batch. */
static void
handle_batch_frame(uint32 flags, const char *data, Size len)
{
	uint64		from;
	uint64		to;

	if (flags & SQS_FRAME_BATCH)
	{
		sqs_batch_collect(data, len);
		return;
	}
	if (sqs_batch_range(&from, &to) && (from = take_messages(from, to)) != 0)
	{
		sqs_set_worker_state(SQS_WORKER_RUNNING);
		pg_atomic_fetch_add_u64(&MySlot->messages, sqs_batch_run(from));
		debug_query_string = NULL;
		if (finish_current())
			outlive_cancel();
	}
	sqs_batch_reset();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(sqs_session.message_context);
}

/* A message has come: run it, unless it was taken back, and report. */
static void
handle_frame(const char *data, Size len)
{
	static uint32 failed_chain = 0;
	static uint32 deferred_chain = 0;
	SqsDelivery *delivery;
	SqsTask		task;
	SqsResult	result;
	int64		start;
	bool		canceled;
	SqsFrame	frame;

	memcpy(&frame, data, sizeof(frame));
	if (frame.flags & (SQS_FRAME_BATCH | SQS_FRAME_RUN))
	{
		handle_batch_frame(frame.flags, data, len);
		return;
	}

	MemoryContextSwitchTo(sqs_session.message_context);
	delivery = palloc(sizeof(SqsDelivery));
	sqs_frame_decode(data, len, delivery);
	if (take_messages(frame.seq, frame.seq) == 0)
		return;

	sqs_result_init(&result);
	result.seq = delivery->frame.seq;
	start = monotonic_us();

	/* FIFO: run nothing of a group after a message that was not handled */
	if (delivery->frame.chain != 0 &&
		(delivery->frame.chain == failed_chain || delivery->frame.chain == deferred_chain))
	{
		result.outcome = delivery->frame.chain == failed_chain ?
			SQS_OUTCOME_SKIPPED : SQS_OUTCOME_NOT_RUN;
		post_result(&result);
		canceled = finish_current();
	}
	else
	{
		sqs_set_worker_state(SQS_WORKER_RUNNING);
		task.delivery = delivery;
		if (!sqs_task_begin(&task, &result))
			sqs_handler_run_alone(&task, &result);
		result.micros = (uint32) Min(monotonic_us() - start, PG_UINT32_MAX);
		sqs_handler_settle(&task, &result);
		canceled = finish_current();

		sqs_session_clean();
		debug_query_string = NULL;
		switch (result.outcome)
		{
			case SQS_OUTCOME_FAILED:
			case SQS_OUTCOME_LOST:
			case SQS_OUTCOME_STOPPED:
			case SQS_OUTCOME_HELD:
				failed_chain = delivery->frame.chain;
				break;
			case SQS_OUTCOME_CANNOT_RUN:
			case SQS_OUTCOME_LOCKED:
			case SQS_OUTCOME_NOT_RUN:
			case SQS_OUTCOME_ALONE:
				deferred_chain = delivery->frame.chain;
				break;
			case SQS_OUTCOME_DONE:
			case SQS_OUTCOME_DUPLICATE:
			case SQS_OUTCOME_DISCARDED:
			case SQS_OUTCOME_DEAD:
			case SQS_OUTCOME_SKIPPED:
				break;
		}
	}

	if (canceled)
		outlive_cancel();
	pg_atomic_fetch_add_u64(&MySlot->messages, 1);
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(sqs_session.message_context);
}

/*
 * Attach to the queue worker's channel, and make this process a session of the
 * queue's owner.
 */
static void
start_handler_worker(void)
{
	sqs_session.owner = MySlot->role;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, handler_sigterm);
	BackgroundWorkerUnblockSignals();

	sqs_session.channel = sqs_channel_attach(MySlot->segment);
	if (sqs_session.channel == NULL)
		proc_exit(0);			/* the queue worker is gone */
	handler_timeout_id = RegisterTimeout(USER_TIMEOUT, handler_timed_out);
	attached = true;
	before_shmem_exit(handler_exits, (Datum) 0);

	sqs_session_start(MySlot->dboid, MySlot->queue_id);
	wait_event = sqs_wait_event_new("SqsbridgeHandlerWorker");

	/*
	 * A large body takes a few allocations of its size.  By default, glibc
	 * returns each of them to the kernel after the message, which costs more
	 * than all that is done with the bytes in this process.
	 */
#ifdef __GLIBC__
	(void) mallopt(M_MMAP_THRESHOLD, KEPT_MEMORY / 2);
	(void) mallopt(M_TRIM_THRESHOLD, KEPT_MEMORY);
#endif

	sqs_session.message_context = AllocSetContextCreate(TopMemoryContext, "sqsbridge message",
											ALLOCSET_DEFAULT_SIZES);
	sqs_handler_functions_init();
	sqs_batch_init();
}

/* Entry point of the process. */
void
sqs_handler_worker_main(Datum arg)
{
	bool		reported_idle = false;
	uint64		unannounced = 0;

	sqs_worker_attach(arg);
	start_handler_worker();

	in_loop = true;
	pg_atomic_write_u32(&sqs_session.channel->shared->ready, 1);
	SetLatch(&sqs_session.channel->shared->leader->procLatch);

	for (;;)
	{
		shm_mq_result received;
		Size		len;
		void	   *data;

		QueryCancelPending = false; /* it came too late for its message */
		CHECK_FOR_INTERRUPTS();
		if (ShutdownRequestPending ||
			pg_atomic_read_u32(&sqs_session.channel->shared->abandoned) != 0)
			break;
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (sqs_session_is_over())
			break;				/* the queue worker takes back the rest */

		received = shm_mq_receive(sqs_session.channel->messages, &len, &data, true);
		if (received == SHM_MQ_SUCCESS)
		{
			reported_idle = false;
			handle_frame(data, len);

			/* wake the queue worker for a run of results, not for each */
			if (++unannounced >= SQS_CHANNEL_DEPTH / 4)
			{
				SetLatch(&sqs_session.channel->shared->leader->procLatch);
				unannounced = 0;
			}
			continue;
		}
		if (received == SHM_MQ_DETACHED)
			break;				/* the queue worker is gone */

		/* nothing more to do */
		if (unannounced > 0)
		{
			SetLatch(&sqs_session.channel->shared->leader->procLatch);
			unannounced = 0;
		}
		if (pg_atomic_read_u32(&sqs_session.channel->shared->stop) != 0)
			break;
		if (!reported_idle)
		{
			pgstat_report_stat(false);
			pgstat_report_activity(STATE_IDLE, NULL);
			sqs_set_worker_state(SQS_WORKER_IDLE);
			reported_idle = true;
		}
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					  1000, wait_event) & WL_TIMEOUT)
			pgstat_report_stat(true);
		ResetLatch(MyLatch);
	}

	proc_exit(0);
}
