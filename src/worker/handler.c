/*-------------------------------------------------------------------------
 *
 * handler.c
 *	  A process that runs a queue's handler: one message, one transaction.
 *
 * It is connected as the queue's owner, from birth: role settings, row level
 * security and session_user are the owner's, and there is nothing to RESET
 * to.  Messages come through the channel; for each:
 *
 *		start a transaction
 *		insert the message id into the inbox	(already there: a duplicate)
 *		call the handler function, under handler_timeout
 *		fence: the lease has not been lost, the time has not run out
 *		commit, asynchronously; report the commit's LSN
 *
 * The commit is inside the same error boundary as the call, because deferred
 * constraints and serialization failures come up there.  On an error the
 * whole transaction is aborted and the failure recorded in another one.
 * Nothing is reported as done before it is committed, and nothing that is
 * reported as done is deleted before the queue worker has seen the WAL up to
 * its LSN made durable.  So wherever this process dies, the message comes
 * back, and the inbox tells whether it was handled.
 *
 * A transaction that wrote nothing depends all the same on what it read (for
 * a duplicate: the inbox row), which may be committed and not durable yet.
 * It writes a logical decoding message, so that its LSN lies behind
 * everything it can have seen.
 *
 * Signals.  SIGINT cancels the current message, as everywhere.  A first
 * SIGTERM means "finish the current message and leave"; it is passed on to
 * the queue worker, which knows whether this is a shutdown (then the message
 * may take sqsbridge.shutdown_timeout) or somebody's pg_terminate_backend()
 * (then it sends a second).  A second SIGTERM is PostgreSQL's die().  So is
 * one that comes because the handler went on after its cancel.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "commands/async.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "postmaster/interrupt.h"
#include "replication/message.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"

#include "catalog.h"
#include "compat.h"
#include "inbox.h"
#include "message.h"
#include "sqsbridge.h"
#include "worker/channel.h"
#include "worker/worker.h"

/* serialization_failure and deadlock_detected: tries inside one lease */
#define MAX_TRIES	4

/* A handler that is still there so long after its cancel is ended. */
#define CANCEL_GRACE_MS 2000

/* Catalog caches are emptied after so many messages with temporary objects. */
#define TEMP_CLEANS_PER_RESET 1000

/* less than the queue worker waits before it sends a second SIGTERM */
#define SAME_SIGTERM_MS 50

static SqsChannel *channel;
static Oid	owner;
static MemoryContext message_context;
static MemoryContext handler_context;

/* The handler function, resolved; again after an invalidation. */
static char *handler_name = NULL;
static FmgrInfo handler_flinfo;
static bool handler_valid = false;

static volatile sig_atomic_t in_loop = false;
static volatile sig_atomic_t term_seen = false;
static volatile sig_atomic_t timed_out = false;
static volatile sig_atomic_t overran = false;
static TimeoutId handler_timeout_id;

/* What the error boundary needs to know about where the error came from. */
typedef enum Phase
{
	PHASE_INBOX,
	PHASE_DUPLICATE,			/* it is in the inbox already */
	PHASE_RESOLVE,
	PHASE_RUN
} Phase;

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
	 * The postmaster signals the process and its process group, so one
	 * SIGTERM of its may arrive as two.
	 */
	if (!in_loop || overran || (term_seen && now_ms >= first_at + SAME_SIGTERM_MS))
		die(SQS_PASS_SIGNAL_ARGS);
	else if (!term_seen)
	{
		term_seen = true;
		first_at = now_ms;
		ShutdownRequestPending = true;
		pg_atomic_write_u32(&channel->shared->term_requested, 1);
		SetLatch(&channel->shared->leader->procLatch);
		SetLatch(MyLatch);
	}
	errno = save_errno;
}

static void
handler_timed_out(void)
{
	/*
	 * A handler can catch query_canceled and go on for ever; nothing gets
	 * past the end of the process.  The queue worker then says why.
	 */
	if (timed_out)
	{
		overran = true;
		pg_atomic_write_u32(&channel->shared->overran, 1);
		kill(MyProcPid, SIGTERM);
		return;
	}
	timed_out = true;
	kill(MyProcPid, SIGINT);
}

static void
handler_invalidated(Datum arg, int cacheid, uint32 hashvalue)
{
	handler_valid = false;
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
			   channel->shared->queue,
			   (int) delivery->message.message_id.len,
			   delivery->message.message_id.data);
}

/*
 * Look the handler up; needs a transaction.  An error here means that no
 * message can be handled at present, so none is charged with it.
 */
static void
resolve_handler(SqsSlice name)
{
	Oid			funcid;
	char	   *why;
	MemoryContext old;

	if (handler_valid && strlen(handler_name) == name.len &&
		memcmp(handler_name, name.data, name.len) == 0)
		return;

	MemoryContextReset(handler_context);
	handler_valid = true;		/* an invalidation from here on counts */
	handler_name = MemoryContextStrdup(handler_context, pnstrdup(name.data, name.len));
	funcid = sqs_resolve_handler(handler_name, GetUserId(), &why);
	if (!OidIsValid(funcid))
	{
		handler_valid = false;
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION), errmsg("%s", why)));
	}
	old = MemoryContextSwitchTo(handler_context);
	fmgr_info_cxt(funcid, &handler_flinfo, handler_context);
	MemoryContextSwitchTo(old);
}

/* Is the current message still ours to commit? */
static SqsCancel
current_cancel(void)
{
	SqsCancel	cancel;

	SpinLockAcquire(&channel->shared->mutex);
	cancel = channel->shared->cancel;
	SpinLockRelease(&channel->shared->mutex);
	return cancel;
}

/*
 * Commit the current transaction asynchronously, and return the LSN that
 * must be durable before anyone may rely on what it did or saw.
 */
static XLogRecPtr
commit_and_get_lsn(SqsSlice message_id)
{
	if (XactLastRecEnd == InvalidXLogRecPtr ||
		!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		(void) sqs_log_logical_message("sqsbridge", message_id.data, message_id.len);

	(void) set_config_option("synchronous_commit", "off",
							 PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	CommitTransactionCommand();
	return XactLastCommitEnd;
}

/* One attempt.  Errors leave through the caller's boundary. */
static XLogRecPtr
run_message(SqsDelivery *delivery, volatile Phase *phase)
{
	LOCAL_FCINFO(fcinfo, 1);
	XLogRecPtr	lsn;
	MemoryContext old;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());

	/* a SET ROLE of the message before must not reach this one */
	if (GetUserId() != owner || GetSessionUserId() != owner)
	{
		SetPGVariable("session_authorization", NIL, false);
		SetPGVariable("role", NIL, false);
	}
	Async_UnlistenAll();

	*phase = PHASE_RESOLVE;
	resolve_handler(delivery->handler);

	*phase = PHASE_INBOX;
	if ((delivery->frame.flags & SQS_FRAME_EXACTLY_ONCE) &&
		!sqs_inbox_insert(channel->shared->queue_id, sqs_message_identity(&delivery->message)))
	{
		*phase = PHASE_DUPLICATE;
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("message was handled before")));
	}

	*phase = PHASE_RUN;
	if (delivery->damage.data != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("message is damaged: %.*s",
						(int) delivery->damage.len, delivery->damage.data)));

	old = MemoryContextSwitchTo(message_context);
	InitFunctionCallInfoData(*fcinfo, &handler_flinfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = sqs_message_datum(channel->shared->queue, &delivery->message);
	fcinfo->args[0].isnull = false;
	MemoryContextSwitchTo(old);

	if (delivery->frame.handler_timeout > 0)
		enable_timeout_every(handler_timeout_id,
							 TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
														 delivery->frame.handler_timeout),
							 CANCEL_GRACE_MS);
	if (StatementTimeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, StatementTimeout);

	(void) FunctionCallInvoke(fcinfo);

	CHECK_FOR_INTERRUPTS();
	disable_timeout(STATEMENT_TIMEOUT, false);

	/*
	 * The fence.  A handler can catch query_canceled and go on; it cannot
	 * get past this.
	 */
	if (timed_out || current_cancel() != SQS_CANCEL_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("handler was cancelled and returned all the same")));

	PopActiveSnapshot();

	/* deferred triggers run in here, still under handler_timeout */
	lsn = commit_and_get_lsn(delivery->message.message_id);
	disable_timeout(handler_timeout_id, false);
	return lsn;
}

/*
 * The message was handled before: wait for that to be durable, no more.
 */
static void
acknowledge_duplicate(SqsDelivery *delivery, SqsResult *result)
{
	PG_TRY();
	{
		StartTransactionCommand();
		result->lsn = commit_and_get_lsn(delivery->message.message_id);
		result->outcome = SQS_OUTCOME_DUPLICATE;
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(message_context);
		edata = CopyErrorData();
		HOLD_INTERRUPTS();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
		result->outcome = SQS_OUTCOME_FAILED;
		strlcpy(result->text, edata->message, sizeof(result->text));
	}
	PG_END_TRY();
}

/*
 * Record a failure in a transaction of its own.  That this fails too (out of
 * disk, say) must not stop the queue.
 */
static void
record_failure(SqsDelivery *delivery, ErrorData *edata)
{
	PG_TRY();
	{
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		sqs_failure_insert(channel->shared->queue_id, channel->shared->queue, owner,
						   delivery->message.message_id,
						   delivery->message.receive_count, edata, MyProcPid);
		PopActiveSnapshot();
		(void) commit_and_get_lsn(delivery->message.message_id);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(message_context);
		HOLD_INTERRUPTS();
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
}

/*
 * Handle a message and say how it ended.  Returns true if the result is
 * final, false if the attempt is worth repeating at once.
 */
static bool
try_message(SqsDelivery *delivery, int attempt, SqsResult *result)
{
	volatile Phase phase = PHASE_RESOLVE;
	volatile bool final = true;
	ErrorContextCallback callback;
	ErrorContextCallback *previous = error_context_stack;

	callback.callback = handler_error_context;
	callback.arg = delivery;
	callback.previous = previous;

	timed_out = false;
	QueryCancelPending = false;

	PG_TRY();
	{
		error_context_stack = &callback;
		result->lsn = run_message(delivery, &phase);
		result->outcome = SQS_OUTCOME_DONE;
		error_context_stack = previous;
	}
	PG_CATCH();
	{
		ErrorData  *edata;
		SqsCancel	cancel;

		disable_all_timeouts(false);
		error_context_stack = previous;
		MemoryContextSwitchTo(message_context);
		edata = CopyErrorData();
		HOLD_INTERRUPTS();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		QueryCancelPending = false;
		RESUME_INTERRUPTS();
		MemoryContextSwitchTo(message_context);

		cancel = current_cancel();
		if (cancel == SQS_CANCEL_LEASE_LOST)
			result->outcome = SQS_OUTCOME_LOST;
		else if (cancel == SQS_CANCEL_SHUTDOWN)
			result->outcome = SQS_OUTCOME_STOPPED;
		else if (phase == PHASE_RESOLVE)
		{
			result->outcome = SQS_OUTCOME_CANNOT_RUN;
			strlcpy(result->text, edata->message, sizeof(result->text));
		}
		else if (phase == PHASE_DUPLICATE)
			acknowledge_duplicate(delivery, result);
		else if ((edata->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE ||
				  edata->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED) &&
				 attempt < MAX_TRIES && !timed_out && !term_seen)
			final = false;
		else
		{
			if (timed_out)
			{
				edata->sqlerrcode = ERRCODE_QUERY_CANCELED;
				edata->message = psprintf("handler ran longer than its handler_timeout of %d ms",
										  delivery->frame.handler_timeout);
			}
			result->outcome = SQS_OUTCOME_FAILED;
			strlcpy(result->text, edata->message, sizeof(result->text));
			record_failure(delivery, edata);
		}
	}
	PG_END_TRY();

	return final;
}

/*
 * Between messages: nothing one of them left in the session may reach the
 * next.  What DISCARD ALL does, less the plan cache.
 */
static void
clean_session(void)
{
	Oid			temp_namespace;
	Oid			temp_toast_namespace;
	static uint32 temp_cleans = 0;

	disable_all_timeouts(false);
	QueryCancelPending = false;

	PG_TRY();
	{
		PortalHashTableDeleteAll();
		ResetAllOptions();
		DropAllPreparedStatements();
		ResetSequenceCaches();
		LockReleaseAll(USER_LOCKMETHOD, true);

		GetTempNamespaceState(&temp_namespace, &temp_toast_namespace);
		if (OidIsValid(temp_namespace))
		{
			StartTransactionCommand();
			PushActiveSnapshot(GetTransactionSnapshot());
			ResetTempTableNamespace();

			/*
			 * The catalog caches remember that there is no pg_statistic row
			 * for a temporary table for as long as they live, much longer
			 * than the table did.  Every session of PostgreSQL's has that;
			 * this one may see millions of such tables.
			 */
			if (++temp_cleans % TEMP_CLEANS_PER_RESET == 0)
				InvalidateSystemCaches();
			PopActiveSnapshot();
			(void) set_config_option("synchronous_commit", "off",
									 PGC_USERSET, PGC_S_SESSION,
									 GUC_ACTION_LOCAL, true, 0, false);
			CommitTransactionCommand();
		}
	}
	PG_CATCH();
	{
		/* a session that cannot be cleaned is not used again */
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		proc_exit(1);
	}
	PG_END_TRY();
}

/* The ring has room: it is as deep as messages can be outstanding. */
static void
post_result(const SqsResult *result)
{
	SqsChannelShared *shared = channel->shared;
	uint64		written = pg_atomic_read_u64(&shared->results_written);

	Assert(written - pg_atomic_read_u64(&shared->results_read) < SQS_CHANNEL_DEPTH);
	shared->results[written % SQS_CHANNEL_DEPTH] = *result;
	pg_write_barrier();
	pg_atomic_write_u64(&shared->results_written, written + 1);

	SpinLockAcquire(&shared->mutex);
	shared->current = 0;
	SpinLockRelease(&shared->mutex);
}

/* Take a message, unless the queue worker has taken it back. */
static bool
take_message(uint64 seq)
{
	SqsChannelShared *shared = channel->shared;
	int64		now = monotonic_us();
	bool		mine;

	SpinLockAcquire(&shared->mutex);
	mine = seq > shared->revoked_to;
	shared->taken = seq;
	if (mine)
	{
		shared->current = seq;
		shared->current_since = now;
		shared->cancel = SQS_CANCEL_NONE;
	}
	SpinLockRelease(&shared->mutex);
	return mine;
}

static void
handle_frame(const char *data, Size len)
{
	static uint32 failed_chain = 0;
	SqsDelivery *delivery;
	SqsResult	result;
	int64		start;

	MemoryContextSwitchTo(message_context);
	delivery = palloc(sizeof(SqsDelivery));
	sqs_frame_decode(data, len, delivery);
	if (!take_message(delivery->frame.seq))
		return;

	memset(&result, 0, offsetof(SqsResult, text));
	result.text[0] = '\0';
	result.seq = delivery->frame.seq;
	start = monotonic_us();

	/* FIFO: nothing of a group is run behind one that failed */
	if (delivery->frame.chain != 0 && delivery->frame.chain == failed_chain)
		result.outcome = SQS_OUTCOME_SKIPPED;
	else
	{
		char		activity[256];

		snprintf(activity, sizeof(activity), "sqsbridge: %.*s, queue %s, message %.*s",
				 (int) delivery->handler.len, delivery->handler.data,
				 channel->shared->queue,
				 (int) delivery->message.message_id.len, delivery->message.message_id.data);
		debug_query_string = activity;
		pgstat_report_activity(STATE_RUNNING, activity);
		sqs_set_worker_state(SQS_WORKER_RUNNING);

		for (int attempt = 1; !try_message(delivery, attempt, &result); attempt++)
			CHECK_FOR_INTERRUPTS();

		clean_session();
		debug_query_string = NULL;
		if (result.outcome != SQS_OUTCOME_DONE &&
			result.outcome != SQS_OUTCOME_DUPLICATE &&
			result.outcome != SQS_OUTCOME_CANNOT_RUN)
			failed_chain = delivery->frame.chain;
	}

	result.micros = (uint32) Min(monotonic_us() - start, PG_UINT32_MAX);
	post_result(&result);
	pg_atomic_fetch_add_u64(&MySlot->messages, 1);
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(message_context);
}

void
sqs_handler_worker_main(Datum arg)
{
	uint32		wait_event;
	bool		reported_idle = false;
	uint64		unannounced = 0;

	sqs_worker_attach(arg);
	owner = MySlot->role;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, handler_sigterm);
	BackgroundWorkerUnblockSignals();

	channel = sqs_channel_attach(MySlot->segment);
	if (channel == NULL)
		proc_exit(0);			/* the queue worker has gone meanwhile */

	BackgroundWorkerInitializeConnectionByOid(MySlot->dboid, owner,
											  SQS_BYPASS_ROLELOGINCHECK);
	wait_event = sqs_wait_event_new("SqsbridgeHandlerWorker");
	handler_timeout_id = RegisterTimeout(USER_TIMEOUT, handler_timed_out);
	if (SQS_HAS_TRANSACTION_TIMEOUT)
		SetConfigOption("transaction_timeout", "0", PGC_USERSET, PGC_S_OVERRIDE);

	message_context = AllocSetContextCreate(TopMemoryContext, "sqsbridge message",
											ALLOCSET_DEFAULT_SIZES);
	handler_context = AllocSetContextCreate(TopMemoryContext, "sqsbridge handler",
											ALLOCSET_SMALL_SIZES);
	CacheRegisterSyscacheCallback(PROCOID, handler_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, handler_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, handler_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, handler_invalidated, (Datum) 0);

	in_loop = true;
	pg_atomic_write_u32(&channel->shared->ready, 1);
	SetLatch(&channel->shared->leader->procLatch);

	for (;;)
	{
		shm_mq_result received;
		Size		len;
		void	   *data;

		QueryCancelPending = false; /* came too late for its message */
		CHECK_FOR_INTERRUPTS();
		if (ShutdownRequestPending)
			break;
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}

		received = shm_mq_receive(channel->messages, &len, &data, true);
		if (received == SHM_MQ_SUCCESS)
		{
			reported_idle = false;
			handle_frame(data, len);

			/* wake the queue worker for a run of results, not for each */
			if (++unannounced >= SQS_CHANNEL_DEPTH / 4)
			{
				SetLatch(&channel->shared->leader->procLatch);
				unannounced = 0;
			}
			continue;
		}
		if (received == SHM_MQ_DETACHED)
			break;				/* the queue worker is gone */

		/* nothing more to do */
		if (unannounced > 0)
		{
			SetLatch(&channel->shared->leader->procLatch);
			unannounced = 0;
		}
		if (pg_atomic_read_u32(&channel->shared->stop) != 0)
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
