/*-------------------------------------------------------------------------
 *
 * database.c
 *	  One process per database with queues: supervises its queue workers,
 *	  clears away old rows, and relays the outbox (relay.c).
 *
 * States: starting (looking whether there is anything to do here), idle,
 * running (messages of the outbox are under way), and stopping.  A cycle of
 * supervision reads the configured queues in one short transaction and
 * compares them with the queue workers there are:
 *
 *	- enabled, with a handler, without a problem, no worker: launch one,
 *	  unless its back-off has not passed yet;
 *	- a problem, but a worker: have it look at its configuration again;
 *	- anything else: nothing to do.  A queue worker notices by itself that it
 *	  is no longer wanted (the entry's change counter), and leaves.
 *
 * It holds no lock, snapshot or transaction between cycles and runs no code
 * of users: it reads tables that only the extension's owner can touch.
 *
 * If it dies the queue workers go on; its successor adopts them by slot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "catalog.h"
#include "compat.h"
#include "sqsbridge.h"
#include "worker/clean.h"
#include "worker/relay.h"
#include "worker/worker.h"

#define RECONCILE_INTERVAL_MS	10000
#define CLEAN_INTERVAL_MS		60000
#define SCAN_INTERVAL_MS		60000	/* of the whole outbox: a safety net */

static uint64 own_changes = 0;	/* look_again()'s, in this turn of the loop */

/*
 * Record a problem that keeps a queue from running: one log line when it
 * appears or changes.
 */
static void
report_problem(SqsQueueStats *stats, const SqsQueueConfig *queue)
{
	sqs_stats_set_state(stats, SQS_QUEUE_ERROR);
	if (sqs_stats_error(stats, queue->problem))
		ereport(LOG,
				(errmsg("sqsbridge cannot work on queue \"%s\": %s",
						queue->name, queue->problem)));
}

/*
 * A queue worker is told of changes to queues, servers and user mappings, but
 * not of a role or function that is gone or a privilege that was revoked.  It
 * leaves when it has seen the problem for itself.
 */
static void
look_again(int slot)
{
	SqsWorkerSlot *worker = &sqs_shared->slots[slot];
	SqsDatabase *database = sqs_database_find(MyDatabaseId);

	if (database == NULL || pg_atomic_read_u32(&worker->state) == SQS_WORKER_STOPPING)
		return;
	pg_atomic_fetch_add_u64(&database->change, 1);
	own_changes++;
	sqs_wake_slot(slot, worker->generation);
}

/* Launch what is missing; returns ms until the next launch is due. */
static long
reconcile(List *queues)
{
	TimestampTz now = GetCurrentTimestamp();
	long		timeout = RECONCILE_INTERVAL_MS;
	ListCell   *lc;

	foreach(lc, queues)
	{
		SqsQueueConfig *queue = lfirst(lc);
		SqsQueueStats *stats = sqs_stats_get(MyDatabaseId, queue->queue_id);
		SqsWorkerRef ref;
		bool		starved;
		int			slot;

		if (stats == NULL)
		{
			ereport(WARNING,
					(errmsg("sqsbridge has statistics for %d queues only", sqs_max_queues),
					 errhint("Increase sqsbridge.max_queues and restart the server.")));
			continue;
		}

		SpinLockAcquire(&stats->mutex);
		stats->owner = queue->owner;
		SpinLockRelease(&stats->mutex);

		slot = sqs_slot_find(SQS_QUEUE_WORKER, MyDatabaseId, queue->queue_id);
		if (slot >= 0)
		{
			if (queue->problem != NULL)
				look_again(slot);
			continue;
		}

		if (!queue->enabled || queue->handler == NULL)
		{
			sqs_stats_set_state(stats, queue->handler == NULL ?
								SQS_QUEUE_NONE : SQS_QUEUE_DISABLED);
			stats->starts.failures = 0;
			continue;
		}
		if (queue->problem != NULL)
		{
			report_problem(stats, queue);
			continue;
		}
		if (stats->starts.next > now)
		{
			timeout = Min(timeout, TimestampDifferenceMilliseconds(now, stats->starts.next));
			continue;
		}

		/*
		 * A queue that is short of slots needs two, for itself and for a
		 * handler, or leaves again; it is starting until it has both.  One at
		 * a time, lest several take one each.  To wait for a slot is no
		 * failure: the wait stays short.
		 */
		starved = stats->state == SQS_QUEUE_NO_WORKER_SLOT;
		if (starved && sqs_start_under_way(SQS_QUEUE_WORKER, MyDatabaseId))
		{
			timeout = Min(timeout, SQS_RESTART_MIN_MS);
			continue;
		}
		sqs_start_begins(&stats->starts, now,
						 starved ? RECONCILE_INTERVAL_MS : SQS_RESTART_MAX_MS);

		if (sqs_worker_launch(SQS_QUEUE_WORKER, MyDatabaseId, queue->queue_id,
							  InvalidOid, DSM_HANDLE_INVALID, queue->name,
							  &ref) == SQS_LAUNCH_NO_SLOT)
		{
			sqs_stats_set_state(stats, SQS_QUEUE_NO_WORKER_SLOT);
			sqs_stats_error(stats, "out of background worker slots");
			sqs_warn_no_slot();
			sqs_start_had_no_slot(&stats->starts, now);
			timeout = Min(timeout, SQS_RESTART_MIN_MS);
		}
		else if (!starved)
			sqs_stats_set_state(stats, SQS_QUEUE_STARTING);
	}

	/* entries of queues that are configured no more */
	for (int i = 0; i < sqs_shared->nqueues; i++)
	{
		SqsQueueStats *stats = &sqs_shared->queues[i];
		bool		known = false;

		if (stats->dboid != MyDatabaseId)
			continue;
		foreach(lc, queues)
		{
			if (((SqsQueueConfig *) lfirst(lc))->queue_id == stats->queue_id)
				known = true;
		}
		if (!known && sqs_slot_find(SQS_QUEUE_WORKER, MyDatabaseId, stats->queue_id) < 0)
			sqs_stats_forget(stats);
	}

	return timeout;
}

/* Look after the queue workers; returns ms until that is due again. */
static long
supervise(MemoryContext context, TimestampTz *next_clean, bool *configured)
{
	List	   *queues = NIL;
	long		timeout;

	pgstat_report_activity(STATE_RUNNING, "sqsbridge: supervising queue workers");
	sqs_begin();
	MemoryContextSwitchTo(context);
	if (OidIsValid(sqs_extension_oid()))
	{
		queues = sqs_catalog_queues();
		sqs_relay_configure(queues);
	}
	else
		sqs_relay_reset();
	MemoryContextSwitchTo(context);
	MemoryContextSwitchTo(TopTransactionContext);
	sqs_commit();
	MemoryContextSwitchTo(context);

	timeout = reconcile(queues);
	if (GetCurrentTimestamp() >= *next_clean)
	{
		bool		more = sqs_clean();

		MemoryContextSwitchTo(context);
		*next_clean = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  more ? 0 : CLEAN_INTERVAL_MS);
		if (more)
			timeout = 0;
	}
	pgstat_report_activity(STATE_IDLE, NULL);
	*configured = queues != NIL;
	return timeout;
}

/*
 * Nothing is configured: leave, unless a change, or a row of a queue that is
 * gone, was committed since we looked.
 */
static bool
may_leave(SqsDatabase *database, uint64 change, uint64 outbox)
{
	bool		leave = false;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u64(&database->change) == change &&
		pg_atomic_read_u64(&database->outbox) == outbox)
	{
		database->wanted = false;
		database->starts.failures = 0;
		leave = true;
	}
	LWLockRelease(sqs_shared->lock);
	return leave;
}

static void
wait_for_something(long timeout, uint32 wait_event)
{
	if (timeout <= 0)
	{
		ResetLatch(MyLatch);
		return;
	}
	(void) WaitLatchOrSocket(MyLatch,
							 WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 sqs_relay_fd(), timeout, wait_event);
	ResetLatch(MyLatch);
}

/* Let the relay finish the requests that are under way. */
static void
stop_relay(uint32 wait_event)
{
	int64		end = sqs_now_ms() + sqs_shutdown_timeout;

	sqs_set_worker_state(SQS_WORKER_STOPPING);
	while (!sqs_relay_is_idle() && sqs_now_ms() < end)
	{
		long		timeout = end - sqs_now_ms();

		CHECK_FOR_INTERRUPTS();
		if (!sqs_relay_turn(false, false, true, &timeout))
			break;
		wait_for_something(timeout, wait_event);
	}
	sqs_relay_reset();
}

void
sqs_database_worker_main(Datum arg)
{
	MemoryContext context;
	SqsDatabase *database;
	static TimestampTz next_clean = 0;
	static bool configured = true;
	uint32		wait_event;
	volatile int64 next_supervision = 0;
	volatile int64 next_scan = 0;
	volatile uint64 seen_change = 0;
	volatile uint64 seen_exits = 0;
	volatile uint64 seen_outbox = 0;
	volatile int64 not_before = 0;
	volatile int failures = 0;

	sqs_worker_attach(arg);
	sqs_worker_signals();
	BackgroundWorkerInitializeConnectionByOid(MySlot->dboid, InvalidOid, 0);
	wait_event = sqs_wait_event_new("SqsbridgeDatabaseWorker");

	/* never wait for a standby, never be steered by anybody's schema */
	SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_OVERRIDE);
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_OVERRIDE);
	SetConfigOption("max_parallel_workers_per_gather", "0", PGC_USERSET, PGC_S_OVERRIDE);

	/* whatever the database's sessions are set to */
	SetConfigOption("default_transaction_isolation", "read committed",
					PGC_USERSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_read_only", "off", PGC_USERSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_deferrable", "off", PGC_USERSET, PGC_S_OVERRIDE);
	if (SQS_HAS_TRANSACTION_TIMEOUT)
		SetConfigOption("transaction_timeout", "0", PGC_USERSET, PGC_S_OVERRIDE);
	sqs_own_resources();

	database = sqs_database_get(MyDatabaseId);
	if (database == NULL)
		proc_exit(1);
	context = AllocSetContextCreate(TopMemoryContext, "sqsbridge database worker",
									ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		volatile long timeout = RECONCILE_INTERVAL_MS;
		uint64		change = pg_atomic_read_u64(&database->change);
		uint64		exits = pg_atomic_read_u64(&database->exits);
		uint64		outbox = pg_atomic_read_u64(&database->outbox);

		own_changes = 0;
		CHECK_FOR_INTERRUPTS();
		if (ShutdownRequestPending || sqs_database_is_blocked(MyDatabaseId))
			break;
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			next_supervision = 0;
		}

		/* after an error, whatever happens meanwhile */
		if (sqs_now_ms() < not_before)
		{
			wait_for_something(not_before - sqs_now_ms(), wait_event);
			continue;
		}

		MemoryContextSwitchTo(context);
		MemoryContextReset(context);

		PG_TRY();
		{
			int64		now = sqs_now_ms();
			bool		news = outbox != seen_outbox;
			long		wait;

			if (change != seen_change || exits != seen_exits ||
				now >= next_supervision || sqs_relay_needs_config())
			{
				if (change != seen_change)
					next_scan = now;
				next_supervision = now + supervise(context, &next_clean, &configured);
				seen_change = change;
				seen_exits = exits;

				/* COMMIT PREPARED tells nobody */
				news = true;
				sqs_set_worker_state(SQS_WORKER_IDLE);
			}

			wait = Max(next_supervision - sqs_now_ms(), 0);
			if (sqs_relay_turn(news, now >= next_scan, false, &wait))
				sqs_set_worker_state(SQS_WORKER_RUNNING);
			else
				sqs_set_worker_state(SQS_WORKER_IDLE);
			if (now >= next_scan)
				next_scan = now + SCAN_INTERVAL_MS;
			seen_outbox = outbox;
			timeout = sqs_relay_needs_config() ? 0 : wait;
			failures = 0;
		}
		PG_CATCH();
		{
			sqs_relay_reset();
			sqs_recover_from_error(context);
			failures++;
			timeout = 0;
			not_before = sqs_now_ms() +
				sqs_backoff_ms(failures, SQS_RESTART_MIN_MS, RECONCILE_INTERVAL_MS);
			next_supervision = 0;
		}
		PG_END_TRY();

		if (failures == 0 && !configured && sqs_relay_is_idle() &&
			sqs_slots_of_database(MyDatabaseId) <= 1 && may_leave(database, change, outbox))
			break;

		/* what has set the latch may have met a wait of ours for a lock */
		if (ShutdownRequestPending || ConfigReloadPending ||
			pg_atomic_read_u64(&database->change) != change + own_changes ||
			pg_atomic_read_u64(&database->exits) != exits ||
			pg_atomic_read_u64(&database->outbox) != outbox)
			timeout = 0;
		wait_for_something(timeout, wait_event);
	}

	stop_relay(wait_event);

	/* the next one need not wait: this one leaves as it should */
	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	database->starts.failures = 0;
	database->starts.next = 0;
	LWLockRelease(sqs_shared->lock);
	proc_exit(0);
}
