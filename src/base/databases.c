/*-------------------------------------------------------------------------
 *
 * databases.c
 *	  The databases that have work, or that a backend blocks.
 *
 * An entry is how workers, supervisors and sessions of one database find each
 * other: commits bump its counters and set the workers' latches, and DDL that
 * needs the database free of workers registers itself as a blocker.  The
 * launcher creates an entry when it finds the database's mark, and gives it
 * back when the database has neither work nor workers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/latch.h"
#include "storage/lwlock.h"

#include "base/databases.h"
#include "base/errors.h"
#include "base/queue_stats.h"
#include "base/wakeup.h"

/*
 * Find the entry of a database; NULL if it has none.  The caller holds the
 * control lock.
 */
SqsDatabase *
sqs_database_lookup(Oid dboid)
{
	for (int i = 0; i < sqs_shared->ndatabases; i++)
		if (sqs_shared->databases[i].dboid == dboid)
			return &sqs_shared->databases[i];
	return NULL;
}

/* Find the entry of a database; NULL if it has none. */
SqsDatabase *
sqs_database_find(Oid dboid)
{
	SqsDatabase *database;

	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	database = sqs_database_lookup(dboid);
	LWLockRelease(sqs_shared->lock);
	return database;
}

/* Find or make the entry; NULL: the table is full.  Exclusive control lock. */
static SqsDatabase *
database_get(Oid dboid)
{
	SqsDatabase *database = sqs_database_lookup(dboid);

	if (database == NULL)
	{
		/* "change" goes on counting: nobody compares it across occupants */
		database = sqs_database_lookup(InvalidOid);
		if (database != NULL)
		{
			database->dboid = dboid;
			database->blockers = 0;
			database->no_room = false;
			memset(&database->starts, 0, sizeof(SqsStarts));
			memset(database->jobs, 0, sizeof(database->jobs));
		}
	}
	return database;
}

/* Find or make the entry of a database; NULL if there is no room for one. */
SqsDatabase *
sqs_database_get(Oid dboid)
{
	SqsDatabase *database;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	database = database_get(dboid);
	LWLockRelease(sqs_shared->lock);
	return database;
}

/*
 * The database has no workers and should have none: free its entry, unless
 * it is blocked.  Its queues stop running; if the database itself is gone,
 * their statistics entries are freed, too.
 */
void
sqs_database_forget(Oid dboid, bool gone)
{
	SqsDatabase *database;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	database = sqs_database_lookup(dboid);
	if (database != NULL && database->blockers == 0)
	{
		int			senders = sqs_stats_count(false);

		database->dboid = InvalidOid;
		for (int i = 0; i < sqs_shared->nqueues; i++)
		{
			SqsQueueStats *stats = &sqs_shared->queues[i];

			if (stats->dboid != dboid)
				continue;
			if (gone)
				stats->dboid = InvalidOid;
			else if (stats->runs && sqs_stats_stop_locked(stats, senders))
				senders++;
		}
	}
	LWLockRelease(sqs_shared->lock);
}

/*
 * Forbid workers in a database; each call needs a sqs_database_unblock().
 * The entry is found and blocked under one lock, because the launcher frees
 * entries that are not needed.  Returns false if the table is full; then the
 * database has no workers either.
 */
bool
sqs_database_block(Oid dboid)
{
	SqsDatabase *database;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	database = database_get(dboid);
	if (database != NULL)
		database->blockers++;
	LWLockRelease(sqs_shared->lock);
	return database != NULL;
}

/*
 * End a block.  After the last one, workers are started again without a
 * delay.
 */
void
sqs_database_unblock(Oid dboid)
{
	SqsDatabase *database;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	database = sqs_database_lookup(dboid);
	Assert(database != NULL && database->blockers > 0);
	if (database != NULL && database->blockers > 0 && --database->blockers == 0)
	{
		database->starts.next = 0;
		database->starts.failures = 0;
	}
	LWLockRelease(sqs_shared->lock);
}

/*
 * Rows for the outbox have been committed: tell the database worker.  If there
 * is none, nothing needs to be remembered: a new one reads the outbox anyway.
 */
void
sqs_database_outbox_committed(Oid dboid)
{
	SqsDatabase *database;

	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	database = sqs_database_lookup(dboid);
	if (database != NULL)
	{
		pg_atomic_fetch_add_u64(&database->outbox, 1);
		for (int i = 0; i < sqs_shared->nslots; i++)
		{
			SqsWorkerSlot *slot = &sqs_shared->slots[i];

			if (slot->in_use && slot->kind == SQS_DATABASE_WORKER &&
				slot->dboid == dboid && slot->proc != NULL)
			{
				SetLatch(&slot->proc->procLatch);
				break;
			}
		}
	}
	LWLockRelease(sqs_shared->lock);
}

/*
 * A configuration change of this database has been committed: tell its
 * workers, and the launcher, which starts a database worker if the database
 * had no work before.
 */
void
sqs_database_changed(Oid dboid)
{
	SqsDatabase *database;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	database = sqs_database_lookup(dboid);
	if (database != NULL)
	{
		pg_atomic_fetch_add_u64(&database->change, 1);
		/* the change may have fixed what made starts fail: retry at once */
		database->starts.failures = 0;
		database->starts.next = 0;
		for (int i = 0; i < sqs_shared->nqueues; i++)
			if (sqs_shared->queues[i].dboid == dboid)
				sqs_shared->queues[i].starts.next = 0;
	}
	LWLockRelease(sqs_shared->lock);

	sqs_wake_workers(dboid);
	sqs_wake_launcher();
}

/* A role or its settings have changed: handlers may have to be restarted. */
void
sqs_roles_changed(void)
{
	pg_atomic_fetch_add_u64(&sqs_shared->role_changes, 1);
	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	sqs_wake_database_workers();
	LWLockRelease(sqs_shared->lock);
}

/* A job of the database worker has failed.  Returns whether to log it. */
bool
sqs_job_error(SqsDatabase *database, SqsJob job, const char *text)
{
	return sqs_errors_add(&database->jobs[job], &database->mutex, text, true);
}

/* The job succeeded.  Returns whether it was failing before. */
bool
sqs_job_well(SqsDatabase *database, SqsJob job)
{
	SqsErrors  *errors = &database->jobs[job];

	/* no lock to read: only the database worker, our caller, writes it */
	if (errors->since == 0)
		return false;
	SpinLockAcquire(&database->mutex);
	errors->since = 0;
	errors->consecutive = 0;
	SpinLockRelease(&database->mutex);
	return true;
}

/* The name of a job, as sqs_stats_workers shows it. */
const char *
sqs_job_name(SqsJob job)
{
	switch (job)
	{
		case SQS_JOB_SUPERVISION:
			return "supervision";
		case SQS_JOB_CLEANING:
			return "cleaning";
		case SQS_JOB_RELAY:
			return "relay";
		case SQS_NUM_JOBS:
			break;
	}
	return NULL;
}
