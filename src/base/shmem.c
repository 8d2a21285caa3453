/*-------------------------------------------------------------------------
 *
 * shmem.c
 *	  State shared between the workers, the hooks and the views.
 *
 * See shmem.h for who owns what.  Nobody who holds the control lock, here or
 * elsewhere, does anything but look at the tables and change them, so it is
 * never held across a wait, and nothing throws meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"

#include "base/settings.h"
#include "base/shmem.h"
#include "receive/inbox.h"

SqsShared  *sqs_shared = NULL;

const double sqs_histogram_bounds[SQS_HISTOGRAM_BUCKETS - 1] = {
	1, 2, 5, 10, 20, 50, 100, 200, 500,
	1000, 2000, 5000, 10000, 30000, 60000, 300000
};

/*
 * A slot whose worker has not attached after this long has none: it died
 * before it could say so, or its supervisor did before it was launched.
 */
#define SLOT_ATTACH_TIMEOUT_MS	60000

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static LWLockPadded *sqs_locks = NULL;

/* For the queues that run, and as many for those that only send. */
static int
stats_entries(void)
{
	return 2 * sqs_max_queues;
}

static Size
sqs_shmem_size(void)
{
	Size		size = MAXALIGN(sizeof(SqsShared));

	size = add_size(size, MAXALIGN(mul_size(sqs_max_workers, sizeof(SqsWorkerSlot))));
	size = add_size(size, MAXALIGN(mul_size(sqs_max_databases, sizeof(SqsDatabase))));
	size = add_size(size, mul_size(stats_entries(), sizeof(SqsQueueStats)));
	return size;
}

static void
sqs_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	RequestAddinShmemSpace(sqs_shmem_size());
	/* the control lock, then one for each slot */
	RequestNamedLWLockTranche("sqsbridge", 1 + sqs_max_workers);
}

static void
sqs_shmem_startup(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);

	sqs_locks = GetNamedLWLockTranche("sqsbridge");
	sqs_shared = ShmemInitStruct("sqsbridge", sqs_shmem_size(), &found);
	if (!found)
	{
		char	   *p = (char *) sqs_shared + MAXALIGN(sizeof(SqsShared));

		memset(sqs_shared, 0, sqs_shmem_size());
		sqs_shared->lock = &sqs_locks[0].lock;
		sqs_shared->nslots = sqs_max_workers;
		sqs_shared->ndatabases = sqs_max_databases;
		sqs_shared->nqueues = stats_entries();
		pg_atomic_init_u64(&sqs_shared->launcher_waits_since, 0);
		pg_atomic_init_u64(&sqs_shared->handler_left_at, 0);
		pg_atomic_init_u64(&sqs_shared->last_id, 0);
		pg_atomic_init_u64(&sqs_shared->last_queue_id, 0);
		pg_atomic_init_u64(&sqs_shared->role_changes, 0);
		ConditionVariableInit(&sqs_shared->slots_cv);

		sqs_shared->slots = (SqsWorkerSlot *) p;
		p += MAXALIGN(sqs_max_workers * sizeof(SqsWorkerSlot));
		sqs_shared->databases = (SqsDatabase *) p;
		p += MAXALIGN(sqs_max_databases * sizeof(SqsDatabase));
		sqs_shared->queues = (SqsQueueStats *) p;

		for (int i = 0; i < sqs_max_workers; i++)
		{
			pg_atomic_init_u32(&sqs_shared->slots[i].state, 0);
			pg_atomic_init_u64(&sqs_shared->slots[i].messages, 0);
			pg_atomic_init_u32(&sqs_shared->slots[i].handlers, 0);
		}
		for (int i = 0; i < sqs_max_databases; i++)
		{
			pg_atomic_init_u64(&sqs_shared->databases[i].change, 0);
			pg_atomic_init_u64(&sqs_shared->databases[i].exits, 0);
			pg_atomic_init_u64(&sqs_shared->databases[i].outbox, 0);
			SpinLockInit(&sqs_shared->databases[i].mutex);
		}
		for (int i = 0; i < sqs_shared->nqueues; i++)
		{
			SqsQueueStats *stats = &sqs_shared->queues[i];

			SpinLockInit(&stats->mutex);
			for (int j = 0; j < SQS_NUM_COUNTERS; j++)
				pg_atomic_init_u64(&stats->counters[j], 0);
			for (int j = 0; j < SQS_HISTOGRAM_BUCKETS; j++)
				pg_atomic_init_u64(&stats->histogram[j], 0);
			pg_atomic_init_u32(&stats->in_flight, 0);
			pg_atomic_init_u32(&stats->outbox_in_flight, 0);
			pg_atomic_init_u64(&stats->used_at, 0);
			pg_atomic_init_u64(&stats->waits_since, 0);
			pg_atomic_init_u64(&stats->handler_settings, 0);
			pg_atomic_init_u64(&stats->last_stamp, 0);
			pg_atomic_init_u64(&stats->failures_known, 0);
			pg_atomic_init_u64(&stats->failures_from, 0);
		}
	}

	LWLockRelease(AddinShmemInitLock);
}

void
sqs_shmem_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = sqs_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = sqs_shmem_startup;
}

LWLock *
sqs_slot_lock(int slot)
{
	Assert(slot >= 0 && slot < sqs_shared->nslots);
	return &sqs_locks[1 + slot].lock;
}

/* ---- slots ---- */

/* Under the control lock. */
static bool
role_may_have_handler(Oid role)
{
	int			n = 0;

	if (sqs_max_handlers_per_role == 0)
		return true;
	for (int i = 0; i < sqs_shared->nslots; i++)
	{
		SqsWorkerSlot *slot = &sqs_shared->slots[i];

		if (slot->in_use && slot->kind == SQS_HANDLER_WORKER && slot->role == role)
			n++;
	}
	return n < sqs_max_handlers_per_role;
}

int
sqs_slot_claim(SqsWorkerKind kind, Oid dboid, int32 queue_id, Oid role,
			   dsm_handle segment, uint16 *generation)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		may;
	int			found = -1;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	may = kind != SQS_HANDLER_WORKER || role_may_have_handler(role);
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
 * The worker takes possession.  False if the slot is no longer meant for it,
 * or if the database is blocked: then it has to leave at once.
 */
bool
sqs_slot_attach(int i, uint16 generation)
{
	SqsWorkerSlot *slot = &sqs_shared->slots[i];
	TimestampTz now = GetCurrentTimestamp();
	bool		ok;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	ok = slot->in_use && slot->generation == generation && slot->proc == NULL;
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

static SqsDatabase *
database_lookup(Oid dboid)
{
	for (int i = 0; i < sqs_shared->ndatabases; i++)
		if (sqs_shared->databases[i].dboid == dboid)
			return &sqs_shared->databases[i];
	return NULL;
}

/*
 * Whoever waits asks again every ten seconds or so.  What is older was left
 * by a process that is gone.
 */
#define WAIT_EXPIRES_MS		30000

/*
 * When was somebody last refused a first slot, and has got none since?  0:
 * nobody waits.  Under the control lock.
 */
static TimestampTz
somebody_waits(TimestampTz now)
{
	TimestampTz latest = (TimestampTz) pg_atomic_read_u64(&sqs_shared->launcher_waits_since);

	for (int i = 0; i < sqs_shared->nqueues; i++)
	{
		SqsQueueStats *stats = &sqs_shared->queues[i];

		if (OidIsValid(stats->dboid))
			latest = Max(latest, (TimestampTz) pg_atomic_read_u64(&stats->waits_since));
	}
	return latest == 0 || TimestampDifferenceExceeds(latest, now, WAIT_EXPIRES_MS) ? 0 : latest;
}

/* Under the control lock. */
static void
wake_database_workers(void)
{
	for (int i = 0; i < sqs_shared->nslots; i++)
	{
		SqsWorkerSlot *slot = &sqs_shared->slots[i];

		if (slot->in_use && slot->kind == SQS_DATABASE_WORKER && slot->proc != NULL)
			SetLatch(&slot->proc->procLatch);
	}
}

/* A handler has left: whose queues wait for a slot may ask again at once. */
static void
wake_starved(TimestampTz now)
{
	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	if (somebody_waits(now) != 0)
		wake_database_workers();
	LWLockRelease(sqs_shared->lock);
}

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
		database = database_lookup(dboid);
		if (database != NULL)
			pg_atomic_fetch_add_u64(&database->exits, 1);

		/*
		 * There is a slot for whoever waits for one.  Only a handler's counts.
		 * A queue worker that leaves for want of a handler frees one too,
		 * which is not enough for the next, and they would go on waking each
		 * other.
		 */
		if (kind == SQS_HANDLER_WORKER)
			pg_atomic_write_u64(&sqs_shared->handler_left_at, (uint64) now);
	}
	LWLockRelease(sqs_shared->lock);

	if (!freed)
		return;

	/* its supervisor may have to replace it, a blocker may wait for it */
	if (kind == SQS_DATABASE_WORKER)
		sqs_wake_launcher();
	else
		sqs_wake_workers(dboid);
	if (kind == SQS_HANDLER_WORKER)
		wake_starved(now);
	ConditionVariableBroadcast(&sqs_shared->slots_cv);
}

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

static void
terminate(Oid dboid, SqsWorkerKind kind, int32 queue_id)
{
	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	for (int i = 0; i < sqs_shared->nslots; i++)
	{
		SqsWorkerSlot *slot = &sqs_shared->slots[i];

		/* attached, so the process is there until it has released the slot */
		if (slot->in_use && slot->dboid == dboid && slot->kind == kind &&
			slot->proc != NULL && (queue_id == 0 || slot->queue_id == queue_id))
			kill(slot->pid, SIGTERM);
	}
	LWLockRelease(sqs_shared->lock);
}

void
sqs_terminate_workers(Oid dboid)
{
	/* handler workers leave with their queue worker, which gives them time */
	terminate(dboid, SQS_DATABASE_WORKER, 0);
	terminate(dboid, SQS_QUEUE_WORKER, 0);
}

void
sqs_terminate_queue_worker(Oid dboid, int32 queue_id)
{
	terminate(dboid, SQS_QUEUE_WORKER, queue_id);
}

/* ---- fair shares ---- */

void
sqs_slot_wanted(pg_atomic_uint64 *waits_since, bool wanted)
{
	pg_atomic_write_u64(waits_since, wanted ? (uint64) GetCurrentTimestamp() : 0);
}

/*
 * Would all queues that run still get a first handler if one slot more were
 * taken?  A handler that has left for idleness has to come back at once when
 * there is a message, whatever long work others have taken on meanwhile.  What
 * else takes worker processes we do not know: one is counted, PostgreSQL's own
 * launcher of logical replication.
 */
static bool
leaves_room(void)
{
	int			in_use = 0;
	int			queue_workers = 0;
	int			running = 0;
	int			without = 0;

	for (int i = 0; i < sqs_shared->nslots; i++)
	{
		SqsWorkerSlot *slot = &sqs_shared->slots[i];

		if (!slot->in_use)
			continue;
		in_use++;
		if (slot->kind != SQS_QUEUE_WORKER)
			continue;
		queue_workers++;
		if (pg_atomic_read_u32(&slot->handlers) == 0)
			without++;
	}
	for (int i = 0; i < sqs_shared->nqueues; i++)
	{
		if (OidIsValid(sqs_shared->queues[i].dboid) && sqs_shared->queues[i].runs)
			running++;
	}
	/* a queue that has no queue worker yet needs two */
	if (running > queue_workers)
		without += 2 * (running - queue_workers);
	return Min(sqs_shared->nslots, max_worker_processes - 2) - in_use > without;
}

bool
sqs_may_take_handler(Oid owner, int nhandlers, const char **why)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		waits;
	bool		room;
	bool		may;

	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	waits = nhandlers > 0 && somebody_waits(now) != 0;
	room = nhandlers == 0 || leaves_room();
	may = role_may_have_handler(owner);
	LWLockRelease(sqs_shared->lock);

	if (waits)
		*why = "another queue waits for its first handler";
	else if (!room)
		*why = "the worker slots that are left are for queues without a handler";
	else if (!may)
		*why = "the queues of its owner have as many handlers as sqsbridge.max_handlers_per_role allows";
	return may && !waits && room;
}

bool
sqs_must_give_back(Oid dboid, int32 queue_id, int nhandlers)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz since;
	bool		give;

	if (nhandlers < 2)
		return false;

	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	since = somebody_waits(now);
	/* a slot that has become free since has not been asked for yet */
	give = since != 0 && since > (TimestampTz) pg_atomic_read_u64(&sqs_shared->handler_left_at);

	/* not if another queue has more; of equals, the first gives */
	for (int i = 0; give && i < sqs_shared->nslots; i++)
	{
		SqsWorkerSlot *other = &sqs_shared->slots[i];
		int			n = (int) pg_atomic_read_u32(&other->handlers);

		if (!other->in_use || other->kind != SQS_QUEUE_WORKER ||
			pg_atomic_read_u32(&other->state) == SQS_WORKER_STOPPING ||
			(other->dboid == dboid && other->queue_id == queue_id))
			continue;
		if (n > nhandlers ||
			(n == nhandlers && (other->dboid < dboid ||
								(other->dboid == dboid && other->queue_id < queue_id))))
			give = false;
	}
	LWLockRelease(sqs_shared->lock);
	return give;
}

/* ---- wake-ups ---- */

void
sqs_wake_launcher(void)
{
	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	if (sqs_shared->launcher != NULL)
		SetLatch(&sqs_shared->launcher->procLatch);
	LWLockRelease(sqs_shared->lock);
}

void
sqs_wake_workers(Oid dboid)
{
	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	for (int i = 0; i < sqs_shared->nslots; i++)
	{
		SqsWorkerSlot *slot = &sqs_shared->slots[i];

		if (slot->in_use && slot->dboid == dboid && slot->proc != NULL)
			SetLatch(&slot->proc->procLatch);
	}
	LWLockRelease(sqs_shared->lock);
}

void
sqs_wake_slot(int i, uint16 generation)
{
	SqsWorkerSlot *slot = &sqs_shared->slots[i];

	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	if (slot->in_use && slot->generation == generation && slot->proc != NULL)
		SetLatch(&slot->proc->procLatch);
	LWLockRelease(sqs_shared->lock);
}

/* ---- databases ---- */

/* Entries that run, or do not.  Under the control lock. */
static int
stats_count(bool runs)
{
	int			n = 0;

	for (int i = 0; i < sqs_shared->nqueues; i++)
	{
		SqsQueueStats *stats = &sqs_shared->queues[i];

		if (OidIsValid(stats->dboid) && stats->runs == runs)
			n++;
	}
	return n;
}

/*
 * The queue does not run any more.  It keeps its entry and its counters if
 * there is room among those that do not run, of which there are "senders":
 * these never have more than half of the entries, so there is always one for
 * each queue that may run.  Returns whether it has kept it.  Under the
 * exclusive lock.
 */
static bool
stats_stop(SqsQueueStats *stats, int senders)
{
	stats->runs = false;
	if (senders >= sqs_shared->nqueues / 2)
		stats->dboid = InvalidOid;
	return OidIsValid(stats->dboid);
}

SqsDatabase *
sqs_database_find(Oid dboid)
{
	SqsDatabase *database;

	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	database = database_lookup(dboid);
	LWLockRelease(sqs_shared->lock);
	return database;
}

/* Under the exclusive lock. */
static SqsDatabase *
database_get(Oid dboid)
{
	SqsDatabase *database = database_lookup(dboid);

	if (database == NULL)
	{
		/* "change" goes on counting: nobody compares it across occupants */
		database = database_lookup(InvalidOid);
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
 * The database has no workers, and is to have none: give its entry back,
 * unless somebody blocks it.  Its queues do not run; if the database is gone,
 * so are they.
 */
void
sqs_database_forget(Oid dboid, bool gone)
{
	SqsDatabase *database;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	database = database_lookup(dboid);
	if (database != NULL && database->blockers == 0)
	{
		int			senders = stats_count(false);

		database->dboid = InvalidOid;
		for (int i = 0; i < sqs_shared->nqueues; i++)
		{
			SqsQueueStats *stats = &sqs_shared->queues[i];

			if (stats->dboid != dboid)
				continue;
			if (gone)
				stats->dboid = InvalidOid;
			else if (stats->runs && stats_stop(stats, senders))
				senders++;
		}
	}
	LWLockRelease(sqs_shared->lock);
}

/*
 * Forbid workers in a database; each call needs a sqs_database_unblock().
 * In one go, because the launcher takes back entries that nobody needs.
 * False if the table is full: then the database has no workers either.
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

void
sqs_database_unblock(Oid dboid)
{
	SqsDatabase *database;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	database = database_lookup(dboid);
	Assert(database != NULL && database->blockers > 0);
	if (database != NULL && database->blockers > 0 && --database->blockers == 0)
	{
		database->starts.next = 0;
		database->starts.failures = 0;
	}
	LWLockRelease(sqs_shared->lock);
}

/*
 * Rows for the outbox have been committed: tell the database worker.  A
 * database with a queue has one, or will have; a new one looks for itself.
 */
void
sqs_outbox_committed(Oid dboid)
{
	SqsDatabase *database;

	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	database = database_lookup(dboid);
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
 * A configuration change of this database has been committed: tell the
 * workers that it has, and the launcher, which sees to it that it gets some
 * if it has its first mark.
 */
void
sqs_database_changed(Oid dboid)
{
	SqsDatabase *database;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	database = database_lookup(dboid);
	if (database != NULL)
	{
		pg_atomic_fetch_add_u64(&database->change, 1);
		/* the change may be the remedy */
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

/* A role or its settings have been changed: handlers may have to start anew. */
void
sqs_roles_changed(void)
{
	pg_atomic_fetch_add_u64(&sqs_shared->role_changes, 1);
	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	wake_database_workers();
	LWLockRelease(sqs_shared->lock);
}

/* ---- statistics ---- */

static SqsQueueStats *
stats_lookup(Oid dboid, int32 queue_id)
{
	for (int i = 0; i < sqs_shared->nqueues; i++)
		if (sqs_shared->queues[i].dboid == dboid &&
			sqs_shared->queues[i].queue_id == queue_id)
			return &sqs_shared->queues[i];
	return NULL;
}

static void
stats_reset(SqsQueueStats *stats, TimestampTz now)
{
	for (int j = 0; j < SQS_NUM_COUNTERS; j++)
		pg_atomic_write_u64(&stats->counters[j], 0);
	for (int j = 0; j < SQS_HISTOGRAM_BUCKETS; j++)
		pg_atomic_write_u64(&stats->histogram[j], 0);

	SpinLockAcquire(&stats->mutex);
	stats->handler_max_micros = 0;
	stats->last_receive_at = 0;
	stats->last_success_at = 0;
	memset(&stats->errors, 0, sizeof(SqsErrors));
	stats->outbox.last_success_at = 0;
	stats->outbox.next_attempt_at = 0;
	memset(&stats->outbox.errors, 0, sizeof(SqsErrors));
	stats->reset_at = now;
	SpinLockRelease(&stats->mutex);
}

/* Unused for so long, an entry of a queue that does not run may be given away. */
#define UNUSED_MS		600000

static void
stats_touch(SqsQueueStats *stats, TimestampTz now)
{
	pg_atomic_write_u64(&stats->used_at, (uint64) now);
}

SqsQueueStats *
sqs_stats_find(Oid dboid, int32 queue_id)
{
	SqsQueueStats *found;

	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	found = stats_lookup(dboid, queue_id);
	LWLockRelease(sqs_shared->lock);
	return found;
}

/* Under the exclusive lock, as the next two. */
static void
stats_make(SqsQueueStats *stats, Oid dboid, int32 queue_id, bool runs, TimestampTz now)
{
	memset(&stats->starts, 0, sizeof(SqsStarts));
	pg_atomic_write_u32(&stats->in_flight, 0);
	pg_atomic_write_u32(&stats->outbox_in_flight, 0);
	pg_atomic_write_u64(&stats->waits_since, 0);
	pg_atomic_write_u64(&stats->handler_settings, 0);
	pg_atomic_write_u64(&stats->last_stamp, 0);
	sqs_failures_forget(stats);
	memset(&stats->outbox, 0, sizeof(stats->outbox));
	stats->owner = InvalidOid;
	stats_reset(stats, now);
	stats->state = SQS_QUEUE_NONE;
	stats->state_since = now;
	stats->queue_id = queue_id;
	stats->runs = runs;
	stats_touch(stats, now);
	stats->dboid = dboid;
}

/*
 * An entry for a queue that only sends.  If as many have one as may, the one
 * that has not been used for longest loses its own, if that is long enough:
 * nobody has a pointer to it any more.
 */
static SqsQueueStats *
stats_for_sender(TimestampTz now)
{
	SqsQueueStats *oldest = NULL;
	SqsQueueStats *unused = NULL;
	int			senders = 0;

	for (int i = 0; i < sqs_shared->nqueues; i++)
	{
		SqsQueueStats *stats = &sqs_shared->queues[i];

		if (!OidIsValid(stats->dboid))
			unused = unused != NULL ? unused : stats;
		else if (!stats->runs)
		{
			senders++;
			if (oldest == NULL ||
				pg_atomic_read_u64(&stats->used_at) < pg_atomic_read_u64(&oldest->used_at))
				oldest = stats;
		}
	}
	if (senders < sqs_shared->nqueues / 2)
		return unused;
	if (TimestampDifferenceExceeds((TimestampTz) pg_atomic_read_u64(&oldest->used_at), now,
								   UNUSED_MS))
		return oldest;
	return NULL;
}

SqsQueueStats *
sqs_stats_get(Oid dboid, int32 queue_id)
{
	TimestampTz now = GetCurrentTimestamp();
	SqsQueueStats *found = sqs_stats_find(dboid, queue_id);

	if (found == NULL)
	{
		LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
		/* another process may have made it meanwhile */
		found = stats_lookup(dboid, queue_id);
		if (found == NULL)
		{
			found = stats_for_sender(now);
			if (found != NULL)
				stats_make(found, dboid, queue_id, false, now);
		}
		LWLockRelease(sqs_shared->lock);
	}
	if (found != NULL)
		stats_touch(found, now);
	return found;
}

SqsQueueStats *
sqs_stats_run(Oid dboid, int32 queue_id, Oid owner, const char **why)
{
	TimestampTz now = GetCurrentTimestamp();
	SqsQueueStats *found;
	int			others;
	bool		room = true;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	found = stats_lookup(dboid, queue_id);
	if (found == NULL || !found->runs)
		room = stats_count(true) < sqs_shared->nqueues / 2;
	if (!room)
		*why = "as many queues run as sqsbridge.max_queues allows";
	else if (sqs_max_queues_per_role > 0)
	{
		/* of those that run too many, the ones that come last are too many */
		others = 0;
		for (int i = 0; i < sqs_shared->nqueues; i++)
		{
			SqsQueueStats *stats = &sqs_shared->queues[i];

			if (OidIsValid(stats->dboid) && stats->runs && stats->owner == owner &&
				stats != found &&
				(found == NULL || !found->runs || stats->dboid < dboid ||
				 (stats->dboid == dboid && stats->queue_id < queue_id)))
				others++;
		}
		room = others < sqs_max_queues_per_role;
		if (!room)
			*why = "as many queues of its owner run as sqsbridge.max_queues_per_role allows";
	}

	if (!room)
		found = NULL;
	else
	{
		if (found == NULL)
		{
			/* there is one: see stats_stop() */
			for (int i = 0; i < sqs_shared->nqueues && found == NULL; i++)
				if (!OidIsValid(sqs_shared->queues[i].dboid))
					found = &sqs_shared->queues[i];
			Assert(found != NULL);
			if (found != NULL)
				stats_make(found, dboid, queue_id, true, now);
			else
				*why = "there is no entry for its statistics";
		}
		if (found != NULL)
		{
			found->runs = true;
			SpinLockAcquire(&found->mutex);
			found->owner = owner;
			SpinLockRelease(&found->mutex);
			stats_touch(found, now);
		}
	}
	LWLockRelease(sqs_shared->lock);
	return found;
}

bool
sqs_stats_stop(SqsQueueStats *stats)
{
	bool		kept;

	pg_atomic_write_u64(&stats->waits_since, 0);
	if (!stats->runs)
		return true;
	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	kept = stats_stop(stats, stats_count(false));
	LWLockRelease(sqs_shared->lock);
	return kept;
}

void
sqs_stats_forget(SqsQueueStats *stats)
{
	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	stats->dboid = InvalidOid;
	LWLockRelease(sqs_shared->lock);
}

void
sqs_stats_reset_entry(SqsQueueStats *stats)
{
	stats_reset(stats, GetCurrentTimestamp());
}

bool
sqs_stats_set_state(SqsQueueStats *stats, SqsQueueState state)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		changed;

	SpinLockAcquire(&stats->mutex);
	changed = stats->state != state;
	if (changed)
	{
		stats->state = state;
		stats->state_since = now;
	}
	if (state != SQS_QUEUE_BACKING_OFF)
		stats->next_poll_at = 0;
	SpinLockRelease(&stats->mutex);
	return changed;
}

/*
 * What of an error text tells it from another: "Action: Code: message" up to
 * the message, which may hold times and ids.
 */
static size_t
significant_length(const char *text)
{
	const char *colon = strstr(text, ": ");

	if (colon != NULL)
		colon = strstr(colon + 2, ": ");
	return colon != NULL ? colon - text : strlen(text);
}

/*
 * Is an error of this kind one for the log?  The first of its kind in a row
 * of errors is: in an outage polls, deletes and heartbeats fail by turns, each
 * with a text of its own.
 */
static bool
is_news(SqsErrors *errors, uint32 kind)
{
	for (int i = 0; i < Min(errors->nannounced, SQS_ANNOUNCED_ERRORS); i++)
	{
		if (errors->announced[i] == kind)
			return false;
	}
	errors->announced[errors->nannounced++ % SQS_ANNOUNCED_ERRORS] = kind;
	return true;
}

/*
 * One more error, of which the log is to hear if "announce" is true.  Returns
 * whether it shall.
 */
static bool
add_error(SqsErrors *errors, slock_t *mutex, const char *text, bool announce)
{
	TimestampTz now = GetCurrentTimestamp();
	char		clipped[SQS_ERROR_TEXT];
	uint32		kind;
	bool		news;

	strlcpy(clipped, text, sizeof(clipped));
	kind = hash_bytes((const unsigned char *) clipped, significant_length(clipped));

	SpinLockAcquire(mutex);
	if (errors->since == 0)
	{
		errors->since = now;
		errors->nannounced = 0;
	}
	news = announce && is_news(errors, kind);
	memcpy(errors->last, clipped, sizeof(clipped));
	errors->last_at = now;
	errors->consecutive++;
	SpinLockRelease(mutex);
	return news;
}

bool
sqs_stats_error(SqsQueueStats *stats, const char *text)
{
	return add_error(&stats->errors, &stats->mutex, text, true);
}

/* Things are well again; the text of the last error stays to be read. */
void
sqs_stats_clear_error(SqsQueueStats *stats)
{
	SpinLockAcquire(&stats->mutex);
	stats->errors.since = 0;
	stats->errors.consecutive = 0;
	SpinLockRelease(&stats->mutex);
}

/* next_attempt_ms: how long it will wait; 0: it does not */
void
sqs_outbox_set_state(SqsQueueStats *stats, SqsOutboxState state, long next_attempt_ms)
{
	SqsOutboxHealth *outbox = &stats->outbox;
	TimestampTz now;

	/* the relay alone writes it, and asks often */
	if (outbox->state == state && (outbox->next_attempt_at != 0) == (next_attempt_ms > 0))
		return;
	now = GetCurrentTimestamp();
	SpinLockAcquire(&stats->mutex);
	if (outbox->state != state)
	{
		outbox->state = state;
		outbox->state_since = now;
	}
	if (next_attempt_ms <= 0)
		outbox->next_attempt_at = 0;
	else if (outbox->next_attempt_at == 0)
		outbox->next_attempt_at =
			TimestampTzPlusMilliseconds(now, next_attempt_ms);
	SpinLockRelease(&stats->mutex);
}

bool
sqs_outbox_error(SqsQueueStats *stats, const char *text, bool announce)
{
	/* another time than before; the relay alone writes it */
	SpinLockAcquire(&stats->mutex);
	stats->outbox.next_attempt_at = 0;
	stats->outbox.relay_failed = false;
	SpinLockRelease(&stats->mutex);
	return add_error(&stats->outbox.errors, &stats->mutex, text, announce);
}

/* SQS has confirmed messages. */
void
sqs_outbox_sent(SqsQueueStats *stats)
{
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&stats->mutex);
	stats->outbox.last_success_at = now;
	SpinLockRelease(&stats->mutex);
}

/*
 * Nothing is wrong any more.  Returns whether the log shall hear of it:
 * whether it heard that something was.
 */
bool
sqs_outbox_well(SqsQueueStats *stats)
{
	SqsOutboxHealth *outbox = &stats->outbox;
	bool		news;

	/* the relay alone writes it, and asks often */
	if (outbox->errors.since == 0)
		return false;
	SpinLockAcquire(&stats->mutex);
	news = outbox->errors.nannounced > 0;
	outbox->errors.since = 0;
	outbox->errors.consecutive = 0;
	outbox->errors.nannounced = 0;
	outbox->next_attempt_at = 0;
	SpinLockRelease(&stats->mutex);
	return news;
}

void
sqs_outbox_relay_failed(Oid dboid, const char *text, long next_attempt_ms)
{
	for (int i = 0; i < sqs_shared->nqueues; i++)
	{
		SqsQueueStats *stats = &sqs_shared->queues[i];

		if (stats->dboid != dboid ||
			(stats->outbox.state != SQS_OUTBOX_SENDING &&
			 stats->outbox.state != SQS_OUTBOX_BACKING_OFF))
			continue;
		(void) sqs_outbox_error(stats, text, false);
		stats->outbox.relay_failed = true;
		sqs_outbox_set_state(stats, SQS_OUTBOX_BACKING_OFF, next_attempt_ms);
	}
}

void
sqs_outbox_relay_well(Oid dboid)
{
	for (int i = 0; i < sqs_shared->nqueues; i++)
	{
		SqsQueueStats *stats = &sqs_shared->queues[i];

		if (stats->dboid != dboid || !stats->outbox.relay_failed)
			continue;
		stats->outbox.relay_failed = false;
		(void) sqs_outbox_well(stats);
	}
}

bool
sqs_job_error(SqsDatabase *database, SqsJob job, const char *text)
{
	return add_error(&database->jobs[job], &database->mutex, text, true);
}

/* Returns whether it was not. */
bool
sqs_job_well(SqsDatabase *database, SqsJob job)
{
	SqsErrors  *errors = &database->jobs[job];

	/* the database worker alone writes it, and asks often */
	if (errors->since == 0)
		return false;
	SpinLockAcquire(&database->mutex);
	errors->since = 0;
	errors->consecutive = 0;
	SpinLockRelease(&database->mutex);
	return true;
}

/* ---- names ---- */

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

const char *
sqs_outbox_state_name(SqsOutboxState state)
{
	switch (state)
	{
		case SQS_OUTBOX_IDLE:
			return "idle";
		case SQS_OUTBOX_SENDING:
			return "sending";
		case SQS_OUTBOX_BACKING_OFF:
			return "backing off";
		case SQS_OUTBOX_DISABLED:
			return "disabled";
	}
	return NULL;
}

const char *
sqs_queue_state_name(SqsQueueState state)
{
	switch (state)
	{
		case SQS_QUEUE_NONE:
			return NULL;
		case SQS_QUEUE_STARTING:
			return "starting";
		case SQS_QUEUE_POLLING:
			return "polling";
		case SQS_QUEUE_BACKING_OFF:
			return "backing off";
		case SQS_QUEUE_NO_WORKER_SLOT:
			return "waiting for worker slot";
		case SQS_QUEUE_NO_ROOM:
			return "waiting for room";
		case SQS_QUEUE_ERROR:
			return "error";
		case SQS_QUEUE_STOPPING:
			return "stopping";
		case SQS_QUEUE_DISABLED:
			return "disabled";
	}
	return NULL;
}

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
