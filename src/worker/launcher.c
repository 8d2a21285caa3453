/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  One process per cluster that sees to it that databases with work have
 *	  a database worker.
 *
 * It is connected to no database, so it sees shared catalogs only and stands
 * in nobody's way.  Whether a database has queues it cannot know: at start,
 * and after a database was created from a template, it sends a database
 * worker to each connectable one, one at a time; those that find nothing
 * leave again.  From then on a committed configuration change makes the
 * database's entry "wanted".
 *
 * All by level: each turn compares wanted entries with the slots in use.  So
 * it does not matter what was missed, and a new launcher adopts the workers
 * of its predecessor.  A database worker that does not last is launched
 * again after a delay that grows from 1 s to 5 min.
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

#include "compat.h"
#include "sqsbridge.h"
#include "worker/worker.h"

#define RECONCILE_INTERVAL_MS	10000

typedef struct Candidate
{
	Oid			dboid;
	NameData	name;
} Candidate;

void
sqs_launcher_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	/* not on a standby; at promotion, by itself */
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

/* Does sqsbridge.databases admit this name? */
static bool
database_admitted(const char *name)
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

/* All databases that can be connected to, in the current memory context. */
static List *
list_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *result = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	sqs_begin();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (form->datallowconn && !form->datistemplate &&
			form->datconnlimit != -2)	/* invalid: DROP was interrupted */
		{
			MemoryContext old = MemoryContextSwitchTo(context);
			Candidate  *candidate = palloc(sizeof(Candidate));

			candidate->dboid = form->oid;
			candidate->name = form->datname;
			result = lappend(result, candidate);
			MemoryContextSwitchTo(old);
		}
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	sqs_commit();
	MemoryContextSwitchTo(context);

	return result;
}

/* Is a database worker still looking around in its database? */
static bool
visit_under_way(void)
{
	return sqs_start_under_way(SQS_DATABASE_WORKER, InvalidOid);
}

/*
 * Launch a worker for each wanted database that has none.  Returns the time
 * in ms until the next of them may be tried.
 */
static long
reconcile(List *databases)
{
	TimestampTz now = GetCurrentTimestamp();
	long		timeout = RECONCILE_INTERVAL_MS;

	for (int i = 0; i < sqs_shared->ndatabases; i++)
	{
		SqsDatabase *database = &sqs_shared->databases[i];
		SqsWorkerRef ref;
		Oid			dboid;
		bool		wanted;
		TimestampTz next_start;
		ListCell   *lc;
		Candidate  *candidate = NULL;

		LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
		dboid = database->dboid;
		wanted = database->wanted && database->blockers == 0;
		next_start = database->starts.next;
		LWLockRelease(sqs_shared->lock);

		if (!OidIsValid(dboid))
			continue;

		foreach(lc, databases)
		{
			if (((Candidate *) lfirst(lc))->dboid == dboid)
				candidate = lfirst(lc);
		}

		if (!wanted || candidate == NULL || !database_admitted(NameStr(candidate->name)))
		{
			/* nothing to do there any more: give the entry back */
			if (sqs_slots_of_database(dboid) == 0)
			{
				LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
				if (database->dboid == dboid && database->blockers == 0 &&
					(!database->wanted || candidate == NULL))
				{
					database->dboid = InvalidOid;
					for (int q = 0; q < sqs_shared->nqueues; q++)
						if (candidate == NULL && sqs_shared->queues[q].dboid == dboid)
							sqs_shared->queues[q].dboid = InvalidOid;
				}
				LWLockRelease(sqs_shared->lock);
			}
			continue;
		}

		if (sqs_slot_find(SQS_DATABASE_WORKER, dboid, 0) >= 0)
			continue;
		if (next_start > now)
		{
			timeout = Min(timeout, TimestampDifferenceMilliseconds(now, next_start));
			continue;
		}
		if (visit_under_way())
		{
			timeout = Min(timeout, 1000);
			continue;
		}

		LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
		sqs_start_begins(&database->starts, now, SQS_RESTART_MAX_MS);
		LWLockRelease(sqs_shared->lock);

		if (sqs_worker_launch(SQS_DATABASE_WORKER, dboid, 0, InvalidOid,
							  DSM_HANDLE_INVALID, NameStr(candidate->name),
							  &ref) == SQS_LAUNCH_NO_SLOT)
		{
			sqs_warn_no_slot();
			LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
			sqs_start_had_no_slot(&database->starts, now);
			LWLockRelease(sqs_shared->lock);
			timeout = Min(timeout, SQS_RESTART_MIN_MS);
		}
	}

	return timeout;
}

void
sqs_launcher_main(Datum arg)
{
	MemoryContext context;
	List	   *to_visit = NIL;
	uint32		wait_event;

	before_shmem_exit(launcher_exit, (Datum) 0);
	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	sqs_shared->launcher = MyProc;
	sqs_shared->launcher_pid = MyProcPid;
	sqs_shared->rescan = true;
	LWLockRelease(sqs_shared->lock);

	sqs_worker_signals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	wait_event = sqs_wait_event_new("SqsbridgeLauncher");
	sqs_own_resources();

	context = AllocSetContextCreate(TopMemoryContext, "sqsbridge launcher",
									ALLOCSET_DEFAULT_SIZES);

	while (!ShutdownRequestPending)
	{
		List	   *databases;
		long		timeout;

		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		pgstat_report_activity(STATE_RUNNING, NULL);
		databases = list_databases();

		if (sqs_shared->rescan)
		{
			ListCell   *lc;
			MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

			LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
			sqs_shared->rescan = false;
			LWLockRelease(sqs_shared->lock);
			list_free(to_visit);
			to_visit = NIL;
			foreach(lc, databases)
				to_visit = lappend_oid(to_visit, ((Candidate *) lfirst(lc))->dboid);
			MemoryContextSwitchTo(old);
		}

		/* one visit at a time: databases without work cost no entry */
		if (to_visit != NIL && !visit_under_way())
		{
			Oid			dboid = linitial_oid(to_visit);
			SqsDatabase *database = sqs_database_get(dboid);

			to_visit = list_delete_first(to_visit);
			if (database != NULL)
			{
				LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
				if (database->dboid == dboid)
					database->wanted = true;
				LWLockRelease(sqs_shared->lock);
			}
			else
				ereport(WARNING,
						(errmsg("sqsbridge cannot look for queues in more than %d databases at once", sqs_max_databases),
						 errhint("Increase sqsbridge.max_databases and restart the server.")));
		}

		timeout = reconcile(databases);
		if (to_visit != NIL)
			timeout = Min(timeout, 100);
		pgstat_report_activity(STATE_IDLE, NULL);

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 timeout, wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			sqs_shared->rescan = true;
		}
	}

	/* 1: the postmaster starts another, unless it is shutting down */
	proc_exit(1);
}
