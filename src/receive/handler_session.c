/*-------------------------------------------------------------------------
 *
 * handler_session.c
 *	  The session of a handler worker, and what its transactions have in
 *	  common.
 *
 * It connects as the queue's owner: role settings, row-level security and
 * session_user are the owner's, so RESET ROLE gives no other role's rights.
 *
 * Some things about a session are fixed when it starts: the settings of its role
 * and database, and whether it is a superuser's.  When these change, the process
 * exits between two messages, and the queue worker starts another.  The
 * database worker notices changed settings (SqsQueueStats.handler_settings);
 * changed rights are noticed by invalidations of the catalog caches, and are
 * checked when a message begins and again at the fence.
 *
 * The fence looks at the clock, because the queue worker, which watches the
 * lease, may have been frozen together with this process, as in a paused virtual
 * machine.  Anything that may take long or run user code comes before the fence.
 *
 * A transaction that wrote nothing still depends on what it read (for
 * a duplicate: the inbox row), which may be committed and not durable yet.
 * It writes a logical decoding message, so that its LSN is greater than that of
 * anything it can have seen.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "replication/message.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/wait_event.h"

#include "base/compat.h"
#include "base/queue_stats.h"
#include "base/worker.h"
#include "receive/handler_session.h"

/* Catalog caches are reset after so many messages with temporary objects. */
#define TEMP_CLEANS_PER_RESET 1000

SqsHandlerSession sqs_session;

/* What it was started with. */
static SqsQueueStats *stats;	/* NULL: the queue has no entry any more */
static uint64 session_settings;
static bool owner_is_super;
static bool owner_can_login;
static bool owner_bypasses_rls;
static bool rights_recheck = false; /* the rights may have changed */

static void
rights_invalidated(Datum arg, int cacheid, uint32 hashvalue)
{
	rights_recheck = true;
}

/*
 * Remember the rights that the session has started with.  Needs a transaction.
 */
static void
remember_rights(void)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(sqs_session.owner));

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role with OID %u does not exist",
						sqs_session.owner)));
	owner_is_super = ((Form_pg_authid) GETSTRUCT(tuple))->rolsuper;
	owner_can_login = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	owner_bypasses_rls = ((Form_pg_authid) GETSTRUCT(tuple))->rolbypassrls;
	ReleaseSysCache(tuple);
}

/* sqs_session.owner has been set. */
void
sqs_session_start(Oid dboid, int32 queue_id)
{
	/* read the hash before the session reads the settings themselves */
	stats = sqs_stats_find(dboid, queue_id);
	if (stats != NULL)
		session_settings = pg_atomic_read_u64(&stats->handler_settings);
	sqs_worker_connect(dboid, sqs_session.owner, SQS_BYPASS_ROLELOGINCHECK);
	SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_OVERRIDE);

	CacheRegisterSyscacheCallback(AUTHOID, rights_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, rights_invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(DATABASEOID, rights_invalidated, (Datum) 0);
	StartTransactionCommand();
	remember_rights();
	CommitTransactionCommand();
}

/*
 * Would a new session of the owner have different rights, or not be permitted at
 * all?  Then raise an error, and set sqs_session.over.  Privileges that are checked
 * whenever they are needed (EXECUTE, memberships) do not matter here.  Needs a
 * transaction.
 */
void
sqs_session_check_rights(void)
{
	HeapTuple	tuple;
	bool		same = false;

	if (!rights_recheck)
		return;
	rights_recheck = false;		/* an invalidation from here on counts */
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(sqs_session.owner));
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_authid role = (Form_pg_authid) GETSTRUCT(tuple);

		same = role->rolsuper == owner_is_super &&
			role->rolcanlogin == owner_can_login &&
			role->rolbypassrls == owner_bypasses_rls;
		ReleaseSysCache(tuple);
	}
	if (same)
		same = object_aclcheck(DatabaseRelationId, MyDatabaseId, sqs_session.owner,
							   ACL_CONNECT) == ACLCHECK_OK;
	if (!same)
	{
		sqs_session.over = true;
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("the rights of the queue's owner have changed since this session began")));
	}
}

/* Between messages: must a new session take over? */
bool
sqs_session_is_over(void)
{
	return sqs_session.over ||
		(stats != NULL &&
		 pg_atomic_read_u64(&stats->handler_settings) != session_settings);
}

/* The queue worker decides that; it does not know which route a message takes. */
bool
sqs_session_route_is_held(int route)
{
	SqsChannelShared *shared = sqs_session.channel->shared;
	bool		held = false;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->nheld; i++)
		held |= shared->held[i] == route;
	SpinLockRelease(&shared->mutex);
	return held;
}

/*
 * The caller checks for interrupts; what is sent to this process meanwhile sets
 * the latch, too.
 */
void
sqs_session_nap(int ms)
{
	int64		until = sqs_now_ms() + ms;
	int64		now;

	while ((now = sqs_now_ms()) < until && !sqs_session.term_seen && !InterruptPending &&
		   sqs_session_cancel() == SQS_CANCEL_NONE)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (long) (until - now), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

void
sqs_session_count(SqsCounter counter)
{
	if (stats != NULL)
		sqs_count(stats, counter, 1);
}

/* Has the lease of one of these messages ended, by either clock? */
static bool
lease_has_ended(SqsDelivery *const *deliveries, int n)
{
	SqsChannel *channel = sqs_session.channel;
	int64		now = sqs_now_ms();
	int64		wall = sqs_wall_ms();
	bool		ended = false;

	SpinLockAcquire(&channel->shared->mutex);
	for (int i = 0; i < n; i++)
	{
		SqsLeaseEnd *end = &channel->lease_ends[sqs_channel_place(channel, deliveries[i]->frame.seq)];

		ended |= now >= end->uptime || wall >= end->wall;
	}
	SpinLockRelease(&channel->shared->mutex);
	return ended;
}

bool
sqs_session_lease_has_ended(SqsDelivery *delivery)
{
	return lease_has_ended(&delivery, 1);
}

/* Whether, and why, the queue worker wants the current message canceled. */
SqsCancel
sqs_session_cancel(void)
{
	SqsCancel	cancel;

	SpinLockAcquire(&sqs_session.channel->shared->mutex);
	cancel = sqs_session.channel->shared->cancel;
	SpinLockRelease(&sqs_session.channel->shared->mutex);
	return cancel;
}

/*
 * Commit the current transaction asynchronously.  The session has
 * synchronous_commit off, and it is set only if the handler has changed it: when
 * a transaction that has set a variable ends, PostgreSQL 15 looks at all of them.
 */
static void
commit_asynchronously(void)
{
	if (synchronous_commit != SYNCHRONOUS_COMMIT_OFF)
		(void) set_config_option("synchronous_commit", "off",
								 PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
	CommitTransactionCommand();
}

/*
 * Commit the current transaction asynchronously, and return the LSN that
 * must be durable before anyone may rely on what it did or saw.
 */
XLogRecPtr
sqs_session_commit(const SqsDelivery *delivery)
{
	if (XactLastRecEnd == InvalidXLogRecPtr ||
		!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		(void) sqs_log_logical_message("sqsbridge",
									   delivery->message.message_id.data,
									   delivery->message.message_id.len);

	commit_asynchronously();
	return XactLastCommitEnd;
}

/*
 * The last check before the commit: are the leases still ours, and does the
 * session still have the rights that a new one would have?  A handler can catch
 * query_canceled and go on; it cannot get past this.
 */
void
sqs_session_fence(SqsDelivery *const *deliveries, int n)
{
	CHECK_FOR_INTERRUPTS();
	if (sqs_session.timed_out || sqs_session_cancel() != SQS_CANCEL_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("handler continued after it had been canceled")));
	if (lease_has_ended(deliveries, n))
	{
		sqs_session.lease_over = true;
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("the lease of the message ended before its transaction could commit")));
	}
	AcceptInvalidationMessages();
	sqs_session_check_rights();
}

/*
 * Why the transaction could not go on, if that was not due to what it did;
 * otherwise, "otherwise".
 */
SqsOutcome
sqs_session_interrupted(SqsOutcome otherwise)
{
	SqsCancel	cancel = sqs_session_cancel();

	return sqs_session.over ? SQS_OUTCOME_NOT_RUN :
		cancel == SQS_CANCEL_LEASE_LOST || sqs_session.lease_over ? SQS_OUTCOME_LOST :
		cancel == SQS_CANCEL_SHUTDOWN ? SQS_OUTCOME_STOPPED : otherwise;
}

/* Whatever isolation level the role's default is; its rows are ours. */
void
sqs_session_begin(void)
{
	StartTransactionCommand();
	XactIsoLevel = XACT_READ_COMMITTED;
	PushActiveSnapshot(GetTransactionSnapshot());
}

/* End one that has written nothing. */
void
sqs_session_end(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * Call a function that waits for locks, with another lock_timeout than the
 * owner's.
 *
 * The variable is set directly: to go through guc.c would cost more than
 * everything else that is done here for a message, and no code of users runs
 * that could see the difference.
 */
void
sqs_session_with_lock_timeout(int ms, void (*function) (void *arg), void *arg)
{
	int			before = LockTimeout;

	LockTimeout = ms;
	PG_TRY();
	{
		function(arg);
	}
	PG_FINALLY();
	{
		LockTimeout = before;
	}
	PG_END_TRY();
}

/*
 * Between messages: nothing that one of them has left in the session may affect
 * the next.  Does what DISCARD ALL does, except for the plan cache, and for
 * UNLISTEN, because LISTEN is not possible in a background process.
 */
void
sqs_session_clean(void)
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
			commit_asynchronously();
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
