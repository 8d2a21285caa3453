/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  What the four kinds of worker processes have in common.
 *
 * The postmaster never restarts a dynamic worker; its supervisor does that, by
 * comparing what should run with what runs.  A supervisor knows a worker by
 * slot and generation; it needs the background worker handle only to notice a
 * worker that died before it had attached to its slot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "access/xact.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "base/compat.h"
#include "base/databases.h"
#include "base/settings.h"
#include "base/slots.h"
#include "base/worker.h"

#define NO_SLOT_WARN_MS 3600000

int			sqs_my_slot = -1;
uint16		sqs_my_generation = 0;

static ResourceOwner worker_resources = NULL;

typedef struct WorkerArg
{
	uint16		generation;
} WorkerArg;

/*
 * Launch a worker.  "role" is for handler workers, "segment" (or
 * DSM_HANDLE_INVALID) is what the worker finds in its slot, "label" becomes
 * part of its name in the log and pg_stat_activity.
 */
SqsLaunch
sqs_worker_launch(SqsWorkerKind kind, Oid dboid, int32 queue_id, Oid role,
				  dsm_handle segment, const char *label, SqsWorkerRef *ref)
{
	static const char *const functions[] = {
		"sqs_launcher_main", "sqs_database_worker_main",
		"sqs_queue_worker_main", "sqs_handler_worker_main"
	};
	BackgroundWorker worker;
	WorkerArg	arg;

	ref->handle = NULL;
	ref->slot = sqs_slot_claim(kind, dboid, queue_id, role, segment, &ref->generation);
	if (ref->slot < 0)
		return SQS_LAUNCH_NO_SLOT;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = Int32GetDatum(ref->slot);
	worker.bgw_notify_pid = MyProcPid;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "sqsbridge");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "%s", functions[kind]);
	snprintf(worker.bgw_type, BGW_MAXLEN, "sqsbridge %s", sqs_worker_kind_name(kind));
	snprintf(worker.bgw_name, BGW_MAXLEN, "sqsbridge %s for %s",
			 sqs_worker_kind_name(kind), label);
	arg.generation = ref->generation;
	memcpy(worker.bgw_extra, &arg, sizeof(arg));

	if (!RegisterDynamicBackgroundWorker(&worker, &ref->handle))
	{
		sqs_slot_release(ref->slot, ref->generation);
		ref->slot = -1;
		return SQS_LAUNCH_NO_SLOT;
	}
	return SQS_LAUNCHED;
}

/*
 * Is the worker running, or being started?  If not, *ref is reset, and the
 * slot of a worker that died before it could attach is released.
 */
bool
sqs_worker_alive(SqsWorkerRef *ref)
{
	if (ref->slot < 0)
		return false;

	if (ref->handle != NULL)
	{
		pid_t		pid;

		if (GetBackgroundWorkerPid(ref->handle, &pid) == BGWH_STOPPED)
			sqs_slot_release(ref->slot, ref->generation);
	}

	if (sqs_slot_is(ref->slot, ref->generation))
		return true;

	if (ref->handle != NULL)
		pfree(ref->handle);
	ref->handle = NULL;
	ref->slot = -1;
	return false;
}

/* All supervisors together warn at most once an hour. */
void
sqs_warn_no_slot(void)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		news;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	news = sqs_shared->no_slot_warned == 0 ||
		TimestampDifferenceExceeds(sqs_shared->no_slot_warned, now, NO_SLOT_WARN_MS);
	if (news)
		sqs_shared->no_slot_warned = now;
	LWLockRelease(sqs_shared->lock);
	if (!news)
		return;

	ereport(WARNING,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("sqsbridge is out of background worker slots"),
			 errhint("It needs 1 + databases with queues + enabled queues + the sum of their concurrency: increase max_worker_processes (now %d) or sqsbridge.max_workers (now %d).",
					 max_worker_processes, sqs_max_workers)));
}

static void
release_slot_on_exit(int code, Datum arg)
{
	sqs_slot_release(sqs_my_slot, sqs_my_generation);
}

/*
 * Take the slot that was claimed for this worker, and make sure that it is
 * released however the process ends.  Must be called first in each dynamic
 * worker, with signals still blocked.  Exits if the slot cannot be taken.
 */
void
sqs_worker_attach(Datum main_arg)
{
	WorkerArg	arg;

	sqs_my_slot = DatumGetInt32(main_arg);
	memcpy(&arg, MyBgworkerEntry->bgw_extra, sizeof(arg));
	sqs_my_generation = arg.generation;

	before_shmem_exit(release_slot_on_exit, (Datum) 0);
	if (!sqs_slot_attach(sqs_my_slot, sqs_my_generation))
		proc_exit(0);
}

static volatile sig_atomic_t cancel_on_stop = false;

static void
worker_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	if (cancel_on_stop)
	{
		QueryCancelPending = true;
		InterruptPending = true;
	}
	SignalHandlerForShutdownRequest(SQS_PASS_SIGNAL_ARGS);
	errno = save_errno;
}

/*
 * With the usual handler pg_cancel_backend() would raise an error wherever the
 * loop checks for interrupts.  The signal cannot be ignored, because
 * lock_timeout and statement_timeout are delivered by it, too.
 */
static void
worker_sigint(SIGNAL_ARGS)
{
	if (get_timeout_indicator(LOCK_TIMEOUT, false) ||
		get_timeout_indicator(STATEMENT_TIMEOUT, false))
		StatementCancelHandler(SQS_PASS_SIGNAL_ARGS);
}

/*
 * Install the signal handlers of all workers but the handler workers.
 * SIGTERM asks the event loop to stop.  Transactions need not be
 * interrupted, because they are short, do not wait for standbys, and wait
 * for a lock no longer than lock_timeout.  SIGINT has no effect, because
 * these processes run nothing that a user would have to cancel.
 */
void
sqs_worker_signals(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, worker_sigterm);
	pqsignal(SIGINT, worker_sigint);
	BackgroundWorkerUnblockSignals();
}

/*
 * exit_on_error and transaction_timeout would end the process, whatever error
 * boundary there is.  They are overridden first, because connecting is a
 * transaction, too, and the timeout may be shorter than it.
 */
void
sqs_worker_connect(Oid dboid, Oid role, uint32 flags)
{
	SetConfigOption("exit_on_error", "off", PGC_USERSET, PGC_S_OVERRIDE);
	if (SQS_HAS_TRANSACTION_TIMEOUT)
		SetConfigOption("transaction_timeout", "0", PGC_USERSET, PGC_S_OVERRIDE);
	BackgroundWorkerInitializeConnectionByOid(dboid, role, flags);
}

/*
 * Whatever runs until sqs_bound_end() is canceled after ms, and as soon as
 * the worker is told to stop.
 */
void
sqs_bound_begin(int ms)
{
	enable_timeout_after(STATEMENT_TIMEOUT, ms);
	cancel_on_stop = true;
	/* the signal may have come before cancel_on_stop was set */
	if (ShutdownRequestPending)
	{
		QueryCancelPending = true;
		InterruptPending = true;
	}
}

/* End what sqs_bound_begin() began; must be called after an error, too. */
void
sqs_bound_end(void)
{
	cancel_on_stop = false;
	disable_timeout(STATEMENT_TIMEOUT, false);
	/* what it was meant for has ended */
	QueryCancelPending = false;
}

/*
 * Make a resource owner that outlives transactions the current one: hashing
 * and DSM need one, also between transactions.
 */
void
sqs_own_resources(void)
{
	if (worker_resources == NULL)
	{
		worker_resources = ResourceOwnerCreate(NULL, "sqsbridge worker");
		/* a lock that a user's transaction holds must not delay a shutdown */
		SetConfigOption("lock_timeout", "2s", PGC_USERSET, PGC_S_OVERRIDE);
	}
	CurrentResourceOwner = worker_resources;
}

/*
 * Create a DSM segment that outlives transactions, with a mapping that lasts
 * until it is detached.  When dsm_create() fails, it leaves a descriptor to the
 * resource owner, so it gets one that is released: an ERROR leaves nothing
 * behind.
 */
dsm_segment *
sqs_segment_create(Size size)
{
	ResourceOwner previous = CurrentResourceOwner;
	ResourceOwner own = ResourceOwnerCreate(NULL, "sqsbridge segment");
	dsm_segment *volatile segment = NULL;

	CurrentResourceOwner = own;
	PG_TRY();
	{
		segment = dsm_create(size, 0);
		dsm_pin_mapping(segment);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = previous;
		ResourceOwnerRelease(own, RESOURCE_RELEASE_BEFORE_LOCKS, false, true);
		ResourceOwnerRelease(own, RESOURCE_RELEASE_LOCKS, false, true);
		ResourceOwnerRelease(own, RESOURCE_RELEASE_AFTER_LOCKS, false, true);
		ResourceOwnerDelete(own);
	}
	PG_END_TRY();
	return segment;
}

/* Begin a short transaction with an active snapshot. */
void
sqs_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/* Commit it. */
void
sqs_commit(void)
{
	if (ActiveSnapshotSet())
		PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(true);
	sqs_own_resources();
}

/*
 * In PG_CATCH: log the error, abort the transaction if there is one, and go
 * on in this memory context.
 */
void
sqs_recover_from_error(MemoryContext context)
{
	MemoryContextSwitchTo(context);
	HOLD_INTERRUPTS();
	EmitErrorReport();
	AbortOutOfAnyTransaction();
	FlushErrorState();
	RESUME_INTERRUPTS();
	MemoryContextSwitchTo(context);
	pgstat_report_activity(STATE_IDLE, NULL);
	sqs_own_resources();
}

/* Are synchronous standbys configured? */
bool
sqs_has_sync_standbys(void)
{
	return max_wal_senders > 0 && SyncRepStandbyNames != NULL &&
		SyncRepStandbyNames[0] != '\0';
}

/*
 * How far the synchronous standbys have flushed; the highest LSN if none are
 * configured.
 */
XLogRecPtr
sqs_standbys_flushed(void)
{
	XLogRecPtr	lsn = PG_UINT64_MAX;

	if (sqs_has_sync_standbys())
	{
		LWLockAcquire(SyncRepLock, LW_SHARED);
		lsn = WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH];
		LWLockRelease(SyncRepLock);
	}
	return lsn;
}

static int64
clock_ms(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * A clock in ms that never goes back, and advances while the machine is
 * suspended.
 */
int64
sqs_now_ms(void)
{
#ifdef CLOCK_BOOTTIME
	return clock_ms(CLOCK_BOOTTIME);
#else
	return clock_ms(CLOCK_MONOTONIC);
#endif
}

/*
 * The time of day in ms.  Only it shows how long a virtual machine was
 * paused, after the guest has corrected it.
 */
int64
sqs_wall_ms(void)
{
	return clock_ms(CLOCK_REALTIME);
}

/*
 * The delay after a number of failures in a row: base_ms, doubled with each
 * failure after the first, at most cap_ms, then varied by up to 13 % either
 * way.
 */
long
sqs_backoff_ms(int failures, long base_ms, long cap_ms)
{
	double		ms = (double) base_ms;

	for (int i = 1; i < failures && ms < cap_ms; i++)
		ms *= 2;
	ms = Min(ms, (double) cap_ms);
	ms *= 0.87 + 0.26 * pg_prng_double(&pg_global_prng_state);
	return (long) Max(ms, 1);
}

/* Set the state of this worker, for sqs_stats_workers. */
void
sqs_set_worker_state(SqsWorkerState state)
{
	pg_atomic_write_u32(&MySlot->state, state);
}

/* Does a backend need the database free of workers?  Then this one exits. */
bool
sqs_database_is_blocked(Oid dboid)
{
	SqsDatabase *database = sqs_database_find(dboid);

	/* an unlocked read will do: the blocker wakes us again until we exit */
	return database != NULL && database->blockers > 0;
}
