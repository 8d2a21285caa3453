/*-------------------------------------------------------------------------
 *
 * slots.c
 *	  Worker slots: which worker processes exist.
 *
 * A slot is claimed before its process exists, so that two supervisors cannot
 * launch the same worker and max_workers also limits workers still being
 * started.  See shmem.h for who owns a slot when.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/proc.h"

#include "base/databases.h"
#include "base/fair_shares.h"
#include "base/slots.h"
#include "base/wakeup.h"

/*
 * A slot whose worker has not attached after this long is considered free:
 * either the worker died too early to release it, or its supervisor died
 * before launching the worker.
 */
#define SLOT_ATTACH_TIMEOUT_MS	60000

/*
 * Claim a slot for a worker that is about to be launched, and set *generation
 * to the new occupant's.  Returns -1 if no slot is free or, for a handler
 * worker, if the role has as many as it may.
 */
int
sqs_slot_claim(SqsWorkerKind kind, Oid dboid, int32 queue_id, Oid role,
			   dsm_handle segment, uint16 *generation)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		may;
	int			found = -1;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	may = kind != SQS_HANDLER_WORKER || sqs_role_may_have_handler(role);
	for (int i = 0; may && i < sqs_shared->nslots; i++)
	{
		SqsWorkerSlot *slot = &sqs_shared->slots[i];

		if (slot->in_use && slot->proc == NULL &&
			TimestampDifferenceExceeds(slot->launch_time, now,
									   SLOT_ATTACH_TIMEOUT_MS))
			slot->in_use = false;

		if (!slot->in_use)
		{
			slot->in_use = true;
			slot->generation++;
			slot->kind = kind;
			slot->dboid = dboid;
			slot->queue_id = queue_id;
			slot->role = role;
			slot->proc = NULL;
			slot->pid = 0;
			slot->launch_time = now;
			slot->start_time = 0;
			slot->segment = segment;
			pg_atomic_write_u32(&slot->state, SQS_WORKER_STARTING);
			pg_atomic_write_u64(&slot->messages, 0);
			pg_atomic_write_u32(&slot->handlers, 0);
			*generation = slot->generation;
			found = i;
			break;
		}
	}
	LWLockRelease(sqs_shared->lock);

	return found;
}

/*
 * The worker takes possession of its slot.  Returns false if the slot is no
 * longer meant for it or the database is blocked; then it must exit at once.
 */
bool
sqs_slot_attach(int i, uint16 generation)
{
	SqsWorkerSlot *slot = &sqs_shared->slots[i];
	TimestampTz now = GetCurrentTimestamp();
	bool		ok;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	/* after so long a slot counts as free, see sqs_slot_find() */
	ok = slot->in_use && slot->generation == generation && slot->proc == NULL &&
		!TimestampDifferenceExceeds(slot->launch_time, now, SLOT_ATTACH_TIMEOUT_MS);
	if (ok)
	{
		slot->proc = MyProc;
		slot->pid = MyProcPid;
		slot->start_time = now;
		for (int d = 0; d < sqs_shared->ndatabases; d++)
		{
			SqsDatabase *database = &sqs_shared->databases[d];

			if (OidIsValid(slot->dboid) && database->dboid == slot->dboid &&
				database->blockers > 0)
				ok = false;
		}
	}
	LWLockRelease(sqs_shared->lock);

	return ok;
}

/* A handler has exited: a queue that waits for a slot can ask again at once. */
static void
wake_if_starved(TimestampTz now)
{
	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	if (sqs_somebody_waits(now) != 0)
		sqs_wake_database_workers();
	LWLockRelease(sqs_shared->lock);
}

/*
 * Free a slot, and wake everybody who may have waited for it.  Idempotent; it
 * does nothing if the slot has another occupant by now.
 */
void
sqs_slot_release(int i, uint16 generation)
{
	SqsWorkerSlot *slot = &sqs_shared->slots[i];
	bool		freed = false;
	SqsWorkerKind kind = slot->kind;
	Oid			dboid = slot->dboid;
	TimestampTz now = GetCurrentTimestamp();
	SqsDatabase *database;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	if (slot->in_use && slot->generation == generation)
	{
		slot->in_use = false;
		slot->proc = NULL;
		slot->pid = 0;
		slot->segment = DSM_HANDLE_INVALID;
		freed = true;
		database = sqs_database_lookup(dboid);
		if (database != NULL)
			pg_atomic_fetch_add_u64(&database->exits, 1);

		/*
		 * Tell those who wait for a slot that one is free, but only if it was
		 * a handler's.  A queue worker that exits because it gets no handler
		 * frees a slot as well, but the next queue worker would again find no
		 * second slot for its handler, and they would wake each other
		 * forever.
		 */
		if (kind == SQS_HANDLER_WORKER)
			pg_atomic_write_u64(&sqs_shared->handler_left_at, (uint64) now);
	}
	LWLockRelease(sqs_shared->lock);

	if (!freed)
		return;

	/* its supervisor may have to replace it; a blocker may be waiting for it */
	if (kind == SQS_DATABASE_WORKER)
		sqs_wake_launcher();
	else
		sqs_wake_workers(dboid);
	if (kind == SQS_HANDLER_WORKER)
		wake_if_starved(now);
	ConditionVariableBroadcast(&sqs_shared->slots_cv);
}

/* Does the slot still have this occupant? */
bool
sqs_slot_is(int i, uint16 generation)
{
	SqsWorkerSlot *slot = &sqs_shared->slots[i];
	bool		is;

	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	is = slot->in_use && slot->generation == generation;
	LWLockRelease(sqs_shared->lock);
	return is;
}

/*
 * The slot of the worker of this kind for this database and queue; -1 if
 * none.
 */
int
sqs_slot_find(SqsWorkerKind kind, Oid dboid, int32 queue_id)
{
	TimestampTz now = GetCurrentTimestamp();
	int			found = -1;

	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	for (int i = 0; i < sqs_shared->nslots && found < 0; i++)
	{
		SqsWorkerSlot *slot = &sqs_shared->slots[i];

		if (slot->in_use && slot->kind == kind && slot->dboid == dboid &&
			slot->queue_id == queue_id &&
			(slot->proc != NULL ||
			 !TimestampDifferenceExceeds(slot->launch_time, now,
										 SLOT_ATTACH_TIMEOUT_MS)))
			found = i;
	}
	LWLockRelease(sqs_shared->lock);
	return found;
}

/*
 * Is a worker of this kind still starting, in this database or, with
 * InvalidOid, in any?  A worker that takes longer than a minute hangs, and
 * is not counted.
 */
bool
sqs_start_under_way(SqsWorkerKind kind, Oid dboid)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		found = false;

	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	for (int i = 0; i < sqs_shared->nslots && !found; i++)
	{
		SqsWorkerSlot *slot = &sqs_shared->slots[i];

		found = slot->in_use && slot->kind == kind &&
			(slot->dboid == dboid || !OidIsValid(dboid)) &&
			pg_atomic_read_u32(&slot->state) == SQS_WORKER_STARTING &&
			!TimestampDifferenceExceeds(slot->launch_time, now, SLOT_ATTACH_TIMEOUT_MS);
	}
	LWLockRelease(sqs_shared->lock);
	return found;
}

/* The number of slots in use for this database. */
int
sqs_slots_of_database(Oid dboid)
{
	TimestampTz now = GetCurrentTimestamp();
	int			n = 0;

	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	for (int i = 0; i < sqs_shared->nslots; i++)
	{
		SqsWorkerSlot *slot = &sqs_shared->slots[i];

		if (slot->in_use && slot->dboid == dboid &&
			(slot->proc != NULL ||
			 !TimestampDifferenceExceeds(slot->launch_time, now,
										 SLOT_ATTACH_TIMEOUT_MS)))
			n++;
	}
	LWLockRelease(sqs_shared->lock);
	return n;
}

/* SIGTERM to the workers of a kind; queue_id 0 means those of all queues. */
static void
terminate(Oid dboid, SqsWorkerKind kind, int32 queue_id)
{
	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	for (int i = 0; i < sqs_shared->nslots; i++)
	{
		SqsWorkerSlot *slot = &sqs_shared->slots[i];

		/* attached, so the process exists until it has released the slot */
		if (slot->in_use && slot->dboid == dboid && slot->kind == kind &&
			slot->proc != NULL && (queue_id == 0 || slot->queue_id == queue_id))
			kill(slot->pid, SIGTERM);
	}
	LWLockRelease(sqs_shared->lock);
}

/*
 * Send SIGTERM to the supervisors of this database: its database and queue
 * workers.
 */
void
sqs_terminate_workers(Oid dboid)
{
	/* queue workers stop their handler workers, after giving them time */
	terminate(dboid, SQS_DATABASE_WORKER, 0);
	terminate(dboid, SQS_QUEUE_WORKER, 0);
}

/* Send SIGTERM to the queue worker of a queue. */
void
sqs_terminate_queue_worker(Oid dboid, int32 queue_id)
{
	terminate(dboid, SQS_QUEUE_WORKER, queue_id);
}

/* The name of a state, as sqs_stats_workers shows it. */
const char *
sqs_worker_state_name(SqsWorkerState state)
{
	switch (state)
	{
		case SQS_WORKER_STARTING:
			return "starting";
		case SQS_WORKER_IDLE:
			return "idle";
		case SQS_WORKER_RUNNING:
			return "running";
		case SQS_WORKER_STOPPING:
			return "stopping";
	}
	return NULL;
}

/* The name of a kind of worker, as sqs_stats_workers shows it. */
const char *
sqs_worker_kind_name(SqsWorkerKind kind)
{
	switch (kind)
	{
		case SQS_LAUNCHER:
			return "launcher";
		case SQS_DATABASE_WORKER:
			return "database worker";
		case SQS_QUEUE_WORKER:
			return "queue worker";
		case SQS_HANDLER_WORKER:
			return "handler worker";
	}
	return NULL;
}
