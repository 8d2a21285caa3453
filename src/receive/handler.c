/*-------------------------------------------------------------------------
 *
 * handler.c
 *	  A process that runs a queue's handler: one message, one transaction.
 *
 * It connects as the queue's owner: role settings, row-level security and
 * session_user are the owner's, so RESET ROLE gives no other role's rights.
 * Messages come through the channel; for each:
 *
 *		start a transaction, arm handler_timeout
 *		insert the message into the inbox		(already there: commit, a duplicate)
 *		call the handler function; fire deferred triggers
 *		fence: the lease has not been lost, no time has run out, the
 *			   owner still has the rights that this session has
 *		commit, asynchronously; report the commit's LSN at once
 *
 * The commit is inside the same error boundary as the call, because
 * serialization failures can occur there.  On an error the whole transaction is
 * aborted, and the failure is recorded in another one.  A message is not
 * reported as done before its transaction has committed, and is not deleted
 * before the queue worker knows that WAL up to its LSN is durable.  So wherever
 * this process dies, the message comes back, and the inbox shows whether it was
 * handled.  After the commit, the result is reported before anything else that
 * could fail.
 *
 * The fence looks at the clock, because the queue worker, which watches the
 * lease, may have been frozen together with this process, as in a paused virtual
 * machine.  Anything that may take long or run user code comes before the fence;
 * so deferred triggers are fired and cursors closed there, not in the commit.
 *
 * A transaction that wrote nothing still depends on what it read (for
 * a duplicate: the inbox row), which may be committed and not durable yet.
 * It writes a logical decoding message, so that its LSN is greater than that of
 * anything it can have seen.
 *
 * Some things about a session are fixed when it starts: the settings of its role
 * and database, and whether it is a superuser's.  When these change, this
 * process exits between two messages, and the queue worker starts another.  The
 * database worker notices changed settings (SqsQueueStats.handler_settings);
 * changed rights are noticed by invalidations of the catalog caches, and are
 * checked when a message begins and again at the fence.
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
#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
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

#include "base/compat.h"
#include "base/errors.h"
#include "base/queue_stats.h"
#include "base/worker.h"
#include "config/bindings.h"
#include "receive/channel.h"
#include "receive/failures.h"
#include "receive/inbox.h"
#include "receive/message.h"
#include "receive/verdict.h"

/* serialization_failure and deadlock_detected: tries inside one lease */
#define MAX_TRIES	4

/* The process is terminated if the handler runs so long after its cancel. */
#define CANCEL_GRACE_MS 2000

/* Catalog caches are reset after so many messages with temporary objects. */
#define TEMP_CLEANS_PER_RESET 1000

/* How long to wait for a lock on one of the extension's tables. */
#define TABLE_LOCK_TIMEOUT_MS 2000

/* Memory that malloc() keeps for the next message; SQS allows 1 MiB for a body. */
#define KEPT_MEMORY (8 * 1024 * 1024)

/* must be less than the time until the queue worker sends a second SIGTERM */
#define SAME_SIGTERM_MS 50

static SqsChannel *channel;
static Oid	owner;
static SqsQueueStats *stats;	/* NULL: the queue has no entry any more */
static uint32 wait_event;
static MemoryContext message_context;
static MemoryContext handler_context;

/* What the session was started with; see session_is_over(). */
static uint64 session_settings;
static bool owner_is_super;
static bool owner_can_login;
static bool owner_bypasses_rls;
static bool rights_recheck = false; /* the rights may have changed */
static bool session_over = false;	/* they have changed */

static bool lease_over = false; /* the fence found the lease at its end */

/* The handler function, resolved; again after an invalidation or an error. */
static char *handler_name = NULL;
static Oid	handler_owner = InvalidOid; /* whose function it is */
static FmgrInfo handler_flinfo;
static bool handler_valid = false;

static volatile sig_atomic_t attached = false;	/* "channel" may be used */
static volatile sig_atomic_t in_loop = false;
static volatile sig_atomic_t term_seen = false;
static volatile sig_atomic_t timed_out = false;
static volatile sig_atomic_t overran = false;
static TimeoutId handler_timeout_id;

/* Where in run_message() an error was raised. */
typedef enum Phase
{
	PHASE_RESOLVE,
	PHASE_LOCK,					/* the inbox */
	PHASE_INBOX,
	PHASE_RUN
} Phase;

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
		(term_seen && now_ms >= first_at + SAME_SIGTERM_MS))
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

static void
rights_invalidated(Datum arg, int cacheid, uint32 hashvalue)
{
	rights_recheck = true;
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
 * Look up the handler function; needs a transaction.  An error means that no
 * message can be handled at present, so it is not a failure of this one.
 */
static void
resolve_handler(SqsSlice name, Oid function_owner)
{
	SqsBinding	binding = {0};
	Oid			funcid;
	char	   *why;
	MemoryContext old;

	if (handler_valid && strlen(handler_name) == name.len &&
		memcmp(handler_name, name.data, name.len) == 0 &&
		handler_owner == function_owner)
		return;

	MemoryContextReset(handler_context);
	handler_valid = true;		/* an invalidation from here on counts */
	handler_name = MemoryContextStrdup(handler_context, pnstrdup(name.data, name.len));
	handler_owner = function_owner;

	/* or any role that can create a function of this name could run as ours */
	binding.name = handler_name;
	binding.owner_oid = function_owner;
	binding.owner = GetUserNameFromId(function_owner, true);
	if (binding.owner == NULL)
		binding.owner = pstrdup("");
	funcid = sqs_bound_handler(&binding, GetUserId(), &why);
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

/*
 * Remember the rights that the session has started with.  Needs a transaction.
 */
static void
remember_rights(void)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(owner));

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role with OID %u does not exist", owner)));
	owner_is_super = ((Form_pg_authid) GETSTRUCT(tuple))->rolsuper;
	owner_can_login = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	owner_bypasses_rls = ((Form_pg_authid) GETSTRUCT(tuple))->rolbypassrls;
	ReleaseSysCache(tuple);
}

/*
 * Would a new session of the owner have different rights, or not be permitted at
 * all?  Then raise an error, and set session_over.  Privileges that are checked
 * whenever they are needed (EXECUTE, memberships) do not matter here.  Needs a
 * transaction.
 */
static void
check_rights(void)
{
	HeapTuple	tuple;
	bool		same = false;

	if (!rights_recheck)
		return;
	rights_recheck = false;		/* an invalidation from here on counts */
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(owner));
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_authid role = (Form_pg_authid) GETSTRUCT(tuple);

		same = role->rolsuper == owner_is_super &&
			role->rolcanlogin == owner_can_login &&
			role->rolbypassrls == owner_bypasses_rls;
		ReleaseSysCache(tuple);
	}
	if (same)
		same = object_aclcheck(DatabaseRelationId, MyDatabaseId, owner,
							   ACL_CONNECT) == ACLCHECK_OK;
	if (!same)
	{
		session_over = true;
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("the rights of the queue's owner have changed since this session began")));
	}
}

/* Between messages: must a new session take over? */
static bool
session_is_over(void)
{
	return session_over ||
		(stats != NULL &&
		 pg_atomic_read_u64(&stats->handler_settings) != session_settings);
}

/* Has the lease of the current message ended, by either clock? */
static bool
lease_has_ended(uint64 seq)
{
	SqsLeaseEnd end;

	SpinLockAcquire(&channel->shared->mutex);
	end = channel->shared->lease_ends[seq % SQS_CHANNEL_DEPTH];
	SpinLockRelease(&channel->shared->mutex);
	return sqs_now_ms() >= end.uptime || sqs_wall_ms() >= end.wall;
}

/* Whether, and why, the queue worker wants the current message canceled. */
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

/*
 * The last check before the commit: is the lease still ours, and does the session
 * still have the rights that a new one would have?  A handler can catch
 * query_canceled and go on; it cannot get past this.
 */
static void
fence(SqsDelivery *delivery)
{
	CHECK_FOR_INTERRUPTS();
	if (timed_out || current_cancel() != SQS_CANCEL_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("handler continued after it had been canceled")));
	if (lease_has_ended(delivery->frame.seq))
	{
		lease_over = true;
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("the lease of the message ended before its transaction could commit")));
	}
	AcceptInvalidationMessages();
	check_rights();
}

/*
 * Call a function that waits for locks, with another lock_timeout than the
 * owner's (0: none), and return its result.
 *
 * The variable is set directly: to go through guc.c would cost more than
 * everything else that is done here for a message, and no code of users runs
 * that could see the difference.
 */
static bool
with_lock_timeout(int ms, bool (*function) (SqsDelivery *, ErrorData *),
				  SqsDelivery *delivery, ErrorData *edata)
{
	int			before = LockTimeout;
	volatile bool result = false;

	LockTimeout = ms;
	PG_TRY();
	{
		result = function(delivery, edata);
	}
	PG_FINALLY();
	{
		LockTimeout = before;
	}
	PG_END_TRY();
	return result;
}

static bool
lock_inbox(SqsDelivery *delivery, ErrorData *edata)
{
	sqs_inbox_lock();
	return true;
}

/* Returns false if the message is there already. */
static bool
insert_into_inbox(SqsDelivery *delivery, ErrorData *edata)
{
	return sqs_inbox_insert(channel->shared->queue_id,
							sqs_message_identity(&delivery->message),
							delivery->frame.stamp,
							delivery->message.receive_count <= 1);
}

/*
 * The message has been handled before: it only remains to make that durable.
 * Cancels are held off, since they are meant for the handler.
 */
static void
commit_duplicate(SqsDelivery *delivery, SqsResult *result)
{
	disable_timeout(handler_timeout_id, false);
	HOLD_CANCEL_INTERRUPTS();
	PopActiveSnapshot();
	result->lsn = commit_and_get_lsn(delivery->message.message_id);
	result->outcome = SQS_OUTCOME_DUPLICATE;
	RESUME_CANCEL_INTERRUPTS();
}

/*
 * Call the function with the message, under the session's statement_timeout.
 * Returns false if the message is none for handlers.
 */
static bool
call_handler(SqsDelivery *delivery)
{
	LOCAL_FCINFO(fcinfo, 1);
	MemoryContext old;
	bool		for_nobody;
	const char *damage;

	if (delivery->damage.data != NULL)
		damage = pnstrdup(delivery->damage.data, delivery->damage.len);
	else
		damage = sqs_message_damage(&delivery->message);
	if (damage != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("message is damaged: %s", damage)));

	old = MemoryContextSwitchTo(message_context);
	InitFunctionCallInfoData(*fcinfo, &handler_flinfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = sqs_message_datum(channel->shared->queue, &delivery->message,
											  delivery->body,
											  delivery->frame.flags >> SQS_FRAME_UNWRAP_SHIFT,
											  &for_nobody);
	fcinfo->args[0].isnull = false;
	MemoryContextSwitchTo(old);

	if (for_nobody)
		return false;

	if (StatementTimeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, StatementTimeout);

	(void) FunctionCallInvoke(fcinfo);

	CHECK_FOR_INTERRUPTS();
	disable_timeout(STATEMENT_TIMEOUT, false);
	return true;
}

/*
 * One attempt to handle the message, in a transaction.  Sets the result's outcome
 * and LSN.  Errors are caught by the caller; between the commit and the return
 * none can be raised, nor an interrupt be processed.
 */
static void
run_message(SqsDelivery *delivery, SqsResult *result, volatile Phase *phase)
{
	bool		handled;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	check_rights();

	/* a SET ROLE of the message before must not reach this one */
	if (GetUserId() != owner || GetSessionUserId() != owner)
	{
		SetPGVariable("session_authorization", NIL, false);
		SetPGVariable("role", NIL, false);
	}
	*phase = PHASE_RESOLVE;
	resolve_handler(delivery->handler, delivery->frame.handler_owner);

	/* covers the wait for another transaction with the same message */
	if (delivery->frame.handler_timeout > 0)
		enable_timeout_every(handler_timeout_id,
							 TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
														 delivery->frame.handler_timeout),
							 CANCEL_GRACE_MS);

	if (delivery->frame.flags & SQS_FRAME_EXACTLY_ONCE)
	{
		*phase = PHASE_LOCK;
		(void) with_lock_timeout(TABLE_LOCK_TIMEOUT_MS, lock_inbox, delivery, NULL);

		/*
		 * To wait for a transaction with the same message is nobody's
		 * failure, and no reason to stop the queue: handler_timeout and the
		 * lease limit it, and lock_timeout is for the handler's own locks.
		 */
		*phase = PHASE_INBOX;
		if (!with_lock_timeout(0, insert_into_inbox, delivery, NULL))
		{
			commit_duplicate(delivery, result);
			return;
		}
	}

	*phase = PHASE_RUN;
	sqs_verdict_begin(message_context);
	handled = call_handler(delivery);
	PopActiveSnapshot();

	/*
	 * Do now, under handler_timeout, what the commit would do on behalf of
	 * the handler: deferred constraints and triggers.  Also drop cursors WITH
	 * HOLD, which the commit would run to completion for nothing.
	 */
	AfterTriggerFireDeferred();
	PortalHashTableDeleteAll();

	sqs_verdict_raise();
	(void) sqs_verdict_end();
	fence(delivery);
	result->lsn = commit_and_get_lsn(delivery->message.message_id);
	result->outcome = handled ? SQS_OUTCOME_DONE : SQS_OUTCOME_DISCARDED;
	disable_timeout(handler_timeout_id, false);
}

static bool
insert_failure(SqsDelivery *delivery, ErrorData *edata)
{
	sqs_failure_insert(channel->shared->queue_id, channel->shared->queue, owner,
					   delivery->message.message_id,
					   delivery->message.receive_count, edata, MyProcPid);
	return true;
}

/* Why the transaction could not go on, if that was not due to what it did. */
static SqsOutcome
interrupted_outcome(SqsOutcome otherwise)
{
	SqsCancel	cancel = current_cancel();

	return session_over ? SQS_OUTCOME_NOT_RUN :
		cancel == SQS_CANCEL_LEASE_LOST || lease_over ? SQS_OUTCOME_LOST :
		cancel == SQS_CANCEL_SHUTDOWN ? SQS_OUTCOME_STOPPED : otherwise;
}

/* What was to be recorded about the message could not be: clean up the error. */
static void
not_recorded(SqsResult *result)
{
	ErrorData  *why;

	MemoryContextSwitchTo(message_context);
	why = CopyErrorData();
	result->unrecorded = true;
	sqs_copy_text(result->text, why->message, sizeof(result->text));
	HOLD_INTERRUPTS();
	EmitErrorReport();
	AbortOutOfAnyTransaction();
	FlushErrorState();
	RESUME_INTERRUPTS();
}

/*
 * Record a failure in a transaction of its own.  If this fails, too (out of disk
 * space, or the table is locked), the queue must go on; the queue worker reports
 * it.
 */
static void
record_failure(SqsDelivery *delivery, ErrorData *edata, SqsResult *result)
{
	PG_TRY();
	{
		StartTransactionCommand();

		/* overrides the role's default; we read only rows that we delete */
		XactIsoLevel = XACT_READ_COMMITTED;
		PushActiveSnapshot(GetTransactionSnapshot());
		(void) with_lock_timeout(TABLE_LOCK_TIMEOUT_MS, insert_failure, delivery, edata);
		PopActiveSnapshot();
		(void) commit_and_get_lsn(delivery->message.message_id);
	}
	PG_CATCH();
	{
		not_recorded(result);
	}
	PG_END_TRY();
}

/*
 * End a message whose handler has been rolled back: record that it is done with,
 * and why, in a transaction.  Like a message that has been handled, it may be
 * deleted when that is durable.  If it cannot be recorded, the message has
 * failed.
 */
static void
end_message(SqsDelivery *delivery, ErrorData *edata, SqsResult *result)
{
	bool		exactly_once = (delivery->frame.flags & SQS_FRAME_EXACTLY_ONCE) != 0;
	volatile bool is_new = true;

	result->outcome = SQS_OUTCOME_FAILED;
	PG_TRY();
	{
		StartTransactionCommand();
		XactIsoLevel = XACT_READ_COMMITTED;
		PushActiveSnapshot(GetTransactionSnapshot());
		if (exactly_once)
		{
			(void) with_lock_timeout(TABLE_LOCK_TIMEOUT_MS, lock_inbox, delivery, NULL);
			is_new = with_lock_timeout(TABLE_LOCK_TIMEOUT_MS, insert_into_inbox, delivery, NULL);
		}
		if (is_new)
			(void) with_lock_timeout(TABLE_LOCK_TIMEOUT_MS, insert_failure, delivery, edata);
		PopActiveSnapshot();
		fence(delivery);
		result->lsn = commit_and_get_lsn(delivery->message.message_id);
		result->outcome = is_new ? SQS_OUTCOME_DISCARDED : SQS_OUTCOME_DUPLICATE;
	}
	PG_CATCH();
	{
		not_recorded(result);
		result->outcome = interrupted_outcome(SQS_OUTCOME_FAILED);
	}
	PG_END_TRY();
}

/*
 * The error by which the handler's transaction ended, as the verdict has it.
 * Another error that followed is in the detail.
 */
static void
apply_verdict(const SqsVerdict *verdict, ErrorData *edata)
{
	int			sqlstate = sqs_verdict_sqlstate(verdict->kind);

	if (edata->sqlerrcode != sqlstate)
	{
		edata->detail = psprintf("After that, the handler failed: %s", edata->message);
		edata->hint = NULL;
	}
	edata->sqlerrcode = sqlstate;
	edata->message = verdict->reason;
}

/* The error is not due to the message, so the message has not failed. */
static void
set_cannot_run(SqsResult *result, const ErrorData *edata)
{
	result->outcome = SQS_OUTCOME_CANNOT_RUN;
	sqs_copy_text(result->text, edata->message, sizeof(result->text));
}

/*
 * Decide what an error in this phase means for the message, and fill in the
 * result.  The transaction has been aborted.  Returns false if the attempt
 * should be repeated at once, that is, after a serialization failure or a
 * deadlock.
 */
static bool
settle_error(SqsDelivery *delivery, ErrorData *edata, const SqsVerdict *verdict,
			 Phase phase, int attempt, SqsResult *result)
{
	result->outcome = interrupted_outcome(SQS_OUTCOME_DONE);
	if (result->outcome != SQS_OUTCOME_DONE)
		return true;			/* not the message's fault */
	if (phase == PHASE_RESOLVE)
	{
		set_cannot_run(result, edata);
		return true;
	}
	if (phase == PHASE_LOCK && edata->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
	{
		result->outcome = SQS_OUTCOME_LOCKED;
		strlcpy(result->text, "the table of handled messages is locked by another session",
				sizeof(result->text));
		return true;
	}

	if (verdict->kind != SQS_VERDICT_NONE && !timed_out)
	{
		apply_verdict(verdict, edata);
		if (verdict->kind == SQS_VERDICT_DISCARD)
		{
			end_message(delivery, edata, result);
			return true;
		}
		result->has_delay = verdict->delay >= 0;
		result->delay = verdict->delay;
	}
	else if ((edata->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE ||
			  edata->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED) &&
			 attempt < MAX_TRIES && !timed_out && !term_seen)
		return false;
	else if (phase < PHASE_RUN && edata->sqlerrcode != ERRCODE_QUERY_CANCELED)
	{
		set_cannot_run(result, edata);
		return true;
	}
	else if (timed_out)
	{
		edata->sqlerrcode = ERRCODE_QUERY_CANCELED;
		edata->message = psprintf("handler ran longer than its handler_timeout of %d ms",
								  delivery->frame.handler_timeout);
	}

	result->outcome = SQS_OUTCOME_FAILED;
	sqs_copy_text(result->text, edata->message, sizeof(result->text));
	record_failure(delivery, edata, result);
	return true;
}

/*
 * Handle a message and fill in the result.  Returns false if the attempt should
 * be repeated at once.
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
	lease_over = false;
	QueryCancelPending = false;

	PG_TRY();
	{
		error_context_stack = &callback;
		run_message(delivery, result, &phase);
		error_context_stack = previous;
	}
	PG_CATCH();
	{
		ErrorData  *edata;
		SqsVerdict	verdict = sqs_verdict_end();

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

		/*
		 * What the function's language keeps in fn_extra may belong to the
		 * call that failed; since 18 an SQL function would continue that
		 * call.
		 */
		handler_valid = false;

		final = settle_error(delivery, edata, &verdict, phase, attempt, result);
	}
	PG_END_TRY();

	return final;
}

/*
 * Between messages: nothing that one of them has left in the session may affect
 * the next.  Does what DISCARD ALL does, except for the plan cache, and for
 * UNLISTEN, because LISTEN is not possible in a background process.
 */
static void
clean_session(void)
{
	Oid			temp_namespace;
	Oid			temp_toast_namespace;
	static uint32 temp_cleans = 0;

	disable_all_timeouts(false);
	QueryCancelPending = false;

	/* a cancel that comes now was meant for the previous message */
	HOLD_CANCEL_INTERRUPTS();
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
			 * The catalog caches keep negative entries for the pg_statistic
			 * rows of temporary tables when these are long gone.  That is so
			 * in any session, but this one may see millions of such tables.
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
	RESUME_CANCEL_INTERRUPTS();
}

/*
 * Put the result into the ring, which has room for as many as messages can be
 * outstanding.  Returns whether the queue worker wanted the message canceled.
 */
static bool
post_result(const SqsResult *result)
{
	SqsChannelShared *shared = channel->shared;
	bool		canceled;
	uint64		written = pg_atomic_read_u64(&shared->results_written);

	Assert(written - pg_atomic_read_u64(&shared->results_read) < SQS_CHANNEL_DEPTH);
	shared->results[written % SQS_CHANNEL_DEPTH] = *result;
	pg_write_barrier();
	pg_atomic_write_u64(&shared->results_written, written + 1);

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
	} while (pg_atomic_read_u32(&channel->shared->signaling) != 0);
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

/* A message has come: run it, unless it was taken back, and report. */
static void
handle_frame(const char *data, Size len)
{
	static uint32 failed_chain = 0;
	static uint32 deferred_chain = 0;
	SqsDelivery *delivery;
	SqsResult	result;
	int64		start;
	bool		canceled;

	MemoryContextSwitchTo(message_context);
	delivery = palloc(sizeof(SqsDelivery));
	sqs_frame_decode(data, len, delivery);
	if (!take_message(delivery->frame.seq))
		return;

	memset(&result, 0, offsetof(SqsResult, text));
	result.text[0] = '\0';
	result.seq = delivery->frame.seq;
	start = monotonic_us();

	/* FIFO: run nothing of a group after a message that was not handled */
	if (delivery->frame.chain != 0 &&
		(delivery->frame.chain == failed_chain || delivery->frame.chain == deferred_chain))
	{
		result.outcome = delivery->frame.chain == failed_chain ?
			SQS_OUTCOME_SKIPPED : SQS_OUTCOME_NOT_RUN;
		canceled = post_result(&result);
	}
	else
	{
		char	   *activity = psprintf("sqsbridge: %.*s, queue %s, message %.*s",
										(int) delivery->handler.len, delivery->handler.data,
										channel->shared->queue,
										(int) delivery->message.message_id.len,
										delivery->message.message_id.data);

		debug_query_string = activity;
		pgstat_report_activity(STATE_RUNNING, activity);
		sqs_set_worker_state(SQS_WORKER_RUNNING);

		for (int attempt = 1; !try_message(delivery, attempt, &result); attempt++)
			CHECK_FOR_INTERRUPTS();

		/* it may be committed: report that before anything else that can fail */
		result.micros = (uint32) Min(monotonic_us() - start, PG_UINT32_MAX);
		canceled = post_result(&result);

		clean_session();
		debug_query_string = NULL;
		switch (result.outcome)
		{
			case SQS_OUTCOME_FAILED:
			case SQS_OUTCOME_LOST:
			case SQS_OUTCOME_STOPPED:
				failed_chain = delivery->frame.chain;
				break;
			case SQS_OUTCOME_CANNOT_RUN:
			case SQS_OUTCOME_LOCKED:
			case SQS_OUTCOME_NOT_RUN:
				deferred_chain = delivery->frame.chain;
				break;
			case SQS_OUTCOME_DONE:
			case SQS_OUTCOME_DUPLICATE:
			case SQS_OUTCOME_DISCARDED:
			case SQS_OUTCOME_SKIPPED:
				break;
		}
	}

	if (canceled)
		outlive_cancel();
	pg_atomic_fetch_add_u64(&MySlot->messages, 1);
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(message_context);
}

/*
 * Attach to the queue worker's channel, and make this process a session of the
 * queue's owner.
 */
static void
start_handler_worker(void)
{
	owner = MySlot->role;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, handler_sigterm);
	BackgroundWorkerUnblockSignals();

	channel = sqs_channel_attach(MySlot->segment);
	if (channel == NULL)
		proc_exit(0);			/* the queue worker is gone */
	handler_timeout_id = RegisterTimeout(USER_TIMEOUT, handler_timed_out);
	attached = true;
	before_shmem_exit(handler_exits, (Datum) 0);

	/* read the hash before the session reads the settings themselves */
	stats = sqs_stats_find(MySlot->dboid, MySlot->queue_id);
	if (stats != NULL)
		session_settings = pg_atomic_read_u64(&stats->handler_settings);

	sqs_worker_connect(MySlot->dboid, owner, SQS_BYPASS_ROLELOGINCHECK);
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

	message_context = AllocSetContextCreate(TopMemoryContext, "sqsbridge message",
											ALLOCSET_DEFAULT_SIZES);
	handler_context = AllocSetContextCreate(TopMemoryContext, "sqsbridge handler",
											ALLOCSET_SMALL_SIZES);
	CacheRegisterSyscacheCallback(PROCOID, handler_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, handler_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, handler_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, handler_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, rights_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, rights_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(DATABASEOID, rights_invalidated, (Datum) 0);
	StartTransactionCommand();
	remember_rights();
	CommitTransactionCommand();
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
	pg_atomic_write_u32(&channel->shared->ready, 1);
	SetLatch(&channel->shared->leader->procLatch);

	for (;;)
	{
		shm_mq_result received;
		Size		len;
		void	   *data;

		QueryCancelPending = false; /* it came too late for its message */
		CHECK_FOR_INTERRUPTS();
		if (ShutdownRequestPending ||
			pg_atomic_read_u32(&channel->shared->abandoned) != 0)
			break;
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (session_is_over())
			break;				/* the queue worker takes back the rest */

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
