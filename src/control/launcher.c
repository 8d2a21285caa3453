/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  One process per cluster, which starts a database worker in each database
 *	  with work.
 *
 * It is not connected to a database, so it sees only shared catalogs, and does
 * not block DDL on a database.  Databases with work have marks
 * (config/database_mark.c), which it reads in each turn: at least every ten
 * seconds, and whenever it is woken.
 *
 * It does not depend on events: each turn compares the databases that have a
 * mark, accept connections and are admitted by sqsbridge.databases with the
 * slots in use.  So it does not matter if a wake-up is missed, and a new
 * launcher adopts the workers of its predecessor.  A database worker that does
 * not last is launched again after a delay that grows from 1 s to 5 min.
 *
 * In each turn it also wipes shared keys that nobody needs any more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

#include "base/compat.h"
#include "base/credentials_cache.h"
#include "base/databases.h"
#include "base/fair_shares.h"
#include "base/settings.h"
#include "base/slots.h"
#include "base/starts.h"
#include "base/worker.h"
#include "config/database_mark.h"
#include "control/launcher.h"

#define RECONCILE_INTERVAL_MS	10000

/* A database, with or without work. */
typedef struct Candidate
{
	Oid			dboid;
	NameData	name;
	bool		connectable;
	bool		marked;
	bool		admitted;		/* by sqsbridge.databases */
} Candidate;

/* Register the launcher as a static background worker. */
void
sqs_launcher_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	/* not on a standby; started by the postmaster at promotion */
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "sqsbridge");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "sqs_launcher_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "sqsbridge launcher");
	snprintf(worker.bgw_type, BGW_MAXLEN, "sqsbridge launcher");
	RegisterBackgroundWorker(&worker);
}

static void
launcher_exit(int code, Datum arg)
{
	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	if (sqs_shared->launcher == MyProc)
	{
		sqs_shared->launcher = NULL;
		sqs_shared->launcher_pid = 0;
	}
	LWLockRelease(sqs_shared->lock);
}

/* Does sqsbridge.databases admit a database of this name? */
bool
sqs_database_admitted(const char *name)
{
	char	   *list = pstrdup(sqs_databases);
	List	   *names;
	ListCell   *lc;
	bool		admitted = false;

	if (strcmp(list, "*") == 0)
		return true;
	if (!SplitGUCList(list, ',', &names))
		return false;
	foreach(lc, names)
	{
		if (strcmp((char *) lfirst(lc), name) == 0 ||
			strcmp((char *) lfirst(lc), "*") == 0)
			admitted = true;
	}
	return admitted;
}

/* All databases, in the current memory context. */
static List *
list_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *result = NIL;
	List	   *marked;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	sqs_begin();
	marked = sqs_marked_databases();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old = MemoryContextSwitchTo(context);
		Candidate  *candidate = palloc(sizeof(Candidate));

		candidate->dboid = form->oid;
		candidate->name = form->datname;
		candidate->connectable = form->datallowconn && !form->datistemplate &&
			form->datconnlimit != -2;	/* invalid: DROP was interrupted */
		candidate->marked = list_member_oid(marked, form->oid);
		candidate->admitted = sqs_database_admitted(NameStr(form->datname));
		result = lappend(result, candidate);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	sqs_commit();
	MemoryContextSwitchTo(context);

	return result;
}

static Candidate *
find_candidate(List *databases, Oid dboid)
{
	ListCell   *lc;

	foreach(lc, databases)
	{
		if (((Candidate *) lfirst(lc))->dboid == dboid)
			return lfirst(lc);
	}
	return NULL;
}

/*
 * Free the entries that are no longer needed, and terminate workers in databases
 * that sqsbridge.databases does not admit any more.
 */
static void
tidy_entries(List *databases)
{
	for (int i = 0; i < sqs_shared->ndatabases; i++)
	{
		Oid			dboid = sqs_shared->databases[i].dboid;
		Candidate  *candidate;
		bool		wanted;

		if (!OidIsValid(dboid))
			continue;
		candidate = find_candidate(databases, dboid);
		wanted = candidate != NULL && candidate->connectable &&
			candidate->marked && candidate->admitted;
		if (candidate != NULL && !candidate->admitted)
			sqs_terminate_workers(dboid);

		if (!wanted && sqs_slots_of_database(dboid) == 0)
			sqs_database_forget(dboid, candidate == NULL);
	}
}

/*
 * Launch a worker for each database that has work but no worker.  Returns the
 * time in ms until the next one may be launched.
 */
static long
reconcile(List *databases)
{
	static bool full = false;	/* that has been logged */
	bool		was_full = full;
	TimestampTz now = GetCurrentTimestamp();
	long		timeout = RECONCILE_INTERVAL_MS;
	bool		refused = false;
	ListCell   *lc;

	tidy_entries(databases);
	full = false;

	foreach(lc, databases)
	{
		Candidate  *candidate = lfirst(lc);
		SqsDatabase *database;
		SqsWorkerRef ref;
		bool		blocked = true;
		bool		running;
		TimestampTz next_start = 0;

		if (!candidate->connectable || !candidate->marked || !candidate->admitted)
			continue;

		database = sqs_database_get(candidate->dboid);
		if (database == NULL)
		{
			if (!was_full && !full)
				ereport(WARNING,
						(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						 errmsg("sqsbridge has work in more than %d databases, and cannot work in database \"%s\"",
								sqs_shared->ndatabases, NameStr(candidate->name)),
						 errhint("Increase sqsbridge.max_databases and restart the server.")));
			full = true;
			continue;
		}

		running = sqs_slot_find(SQS_DATABASE_WORKER, candidate->dboid, 0) >= 0;
		LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
		if (database->dboid == candidate->dboid)
		{
			blocked = database->blockers > 0;
			if (running)
				sqs_start_lasts(&database->starts, now);
			next_start = sqs_start_next(&database->starts, now);
		}
		LWLockRelease(sqs_shared->lock);

		if (blocked || running)
			continue;
		if (next_start > now)
		{
			timeout = Min(timeout, TimestampDifferenceMilliseconds(now, next_start));
			continue;
		}

		LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
		sqs_start_begins(&database->starts, now, SQS_RESTART_MAX_MS);
		LWLockRelease(sqs_shared->lock);

		if (sqs_worker_launch(SQS_DATABASE_WORKER, candidate->dboid, 0, InvalidOid,
							  DSM_HANDLE_INVALID, NameStr(candidate->name),
							  &ref) == SQS_LAUNCH_NO_SLOT)
		{
			sqs_warn_no_slot();
			LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
			sqs_start_had_no_slot(&database->starts, now);
			LWLockRelease(sqs_shared->lock);
			timeout = Min(timeout, SQS_RESTART_MIN_MS);
			refused = true;
		}
	}
	sqs_slot_wanted(&sqs_shared->launcher_waits_since, refused);

	return timeout;
}

/* Entry point of the process. */
void
sqs_launcher_main(Datum arg)
{
	MemoryContext context;
	volatile int failures = 0;
	uint32		wait_event;

	before_shmem_exit(launcher_exit, (Datum) 0);
	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	sqs_shared->launcher = MyProc;
	sqs_shared->launcher_pid = MyProcPid;
	LWLockRelease(sqs_shared->lock);

	sqs_worker_signals();
	sqs_worker_connect(InvalidOid, InvalidOid, 0);
	wait_event = sqs_wait_event_new("SqsbridgeLauncher");
	sqs_own_resources();

	context = AllocSetContextCreate(TopMemoryContext, "sqsbridge launcher",
									ALLOCSET_DEFAULT_SIZES);

	while (!ShutdownRequestPending)
	{
		volatile long timeout = RECONCILE_INTERVAL_MS;

		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		pgstat_report_activity(STATE_RUNNING, NULL);
		sqs_keys_sweep();
		PG_TRY();
		{
			timeout = reconcile(list_databases());
			failures = 0;
		}
		PG_CATCH();
		{
			/* a catalog may be locked; the workers do not depend on us */
			sqs_recover_from_error(context);
			failures++;
			timeout = sqs_backoff_ms(failures, SQS_RESTART_MIN_MS, RECONCILE_INTERVAL_MS);
		}
		PG_END_TRY();
		pgstat_report_activity(STATE_IDLE, NULL);

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 timeout, wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}

	/* 1: the postmaster starts another, unless it is shutting down */
	proc_exit(1);
}
