/*-------------------------------------------------------------------------
 *
 * shmem.c
 *	  Allocating the state that workers, hooks and views share.
 *
 * See shmem.h for who owns what, and slots.c, databases.c and queue_stats.c
 * for the operations.  Code that holds the control lock, anywhere, only reads
 * and changes these tables: it neither waits nor raises an error.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "base/settings.h"
#include "base/shmem.h"

SqsShared  *sqs_shared = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static LWLockPadded *sqs_locks = NULL;

/* For the queues that run, and as many for those that only send. */
static int
stats_entries(void)
{
	return 2 * sqs_max_queues;
}

/* Shared memory that the structures need, in bytes. */
static Size
sqs_shmem_size(void)
{
	Size		size = MAXALIGN(sizeof(SqsShared));

	size = add_size(size, MAXALIGN(mul_size(sqs_max_workers, sizeof(SqsWorkerSlot))));
	size = add_size(size, MAXALIGN(mul_size(sqs_max_databases, sizeof(SqsDatabase))));
	size = add_size(size, MAXALIGN(mul_size(stats_entries(), sizeof(SqsQueueStats))));
	size = add_size(size, mul_size(SQS_ROUTE_ENTRIES, sizeof(SqsRouteStats)));
	return size;
}

/* shmem_request hook. */
static void
sqs_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	RequestAddinShmemSpace(sqs_shmem_size());
	/* the control lock, then one for each slot */
	RequestNamedLWLockTranche("sqsbridge", 1 + sqs_max_workers);
}

/*
 * Was the server shut down in an orderly way before this start?  Recovery, which
 * changes the state in the control file, has not begun yet.
 */
static bool
was_shut_down(void)
{
	bool		crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);
	bool		shut_down = crc_ok && (control->state == DB_SHUTDOWNED ||
									   control->state == DB_SHUTDOWNED_IN_RECOVERY);

	pfree(control);
	return shut_down;
}

/*
 * Initialize the segment, unless an EXEC_BACKEND child attaches to it.  Every
 * atomic and spinlock must be initialized here, because entries are reused
 * and then only written to.
 */
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
		sqs_shared->crashed_before = was_shut_down() ? 0 : GetCurrentTimestamp();
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
		p += MAXALIGN(stats_entries() * sizeof(SqsQueueStats));
		sqs_shared->routes = (SqsRouteStats *) p;

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
		for (int i = 0; i < SQS_ROUTE_ENTRIES; i++)
		{
			pg_atomic_init_u64(&sqs_shared->routes[i].used_at, 0);
			for (int j = 0; j < SQS_NUM_ROUTE_COUNTERS; j++)
				pg_atomic_init_u64(&sqs_shared->routes[i].counters[j], 0);
		}
	}

	LWLockRelease(AddinShmemInitLock);
}

/*
 * Install the hooks that request and initialize shared memory.  From
 * _PG_init().
 */
void
sqs_shmem_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = sqs_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = sqs_shmem_startup;
}

/* Lock that guards the lease table of the queue worker in this slot. */
LWLock *
sqs_slot_lock(int slot)
{
	Assert(slot >= 0 && slot < sqs_shared->nslots);
	return &sqs_locks[1 + slot].lock;
}
