/*-------------------------------------------------------------------------
 *
 * database_worker.c
 *	  One process per database with work: supervises its queue workers, deletes
 *	  old rows (clean.c), and relays the outbox (send/relay.c).
 *
 * States: starting (finding out whether there is anything to do), idle, running
 * (messages of the outbox are under way), and stopping.  A cycle of supervision
 * reads the configured queues in one short transaction and compares them with
 * the existing queue workers:
 *
 *	- enabled, with a handler, without a problem, no worker: launch one, unless
 *	  it must wait for its back-off, or a limit is reached;
 *	- a problem, but a worker: make it read its configuration again;
 *	- more than its owner's limit permits: terminate its worker;
 *	- anything else: nothing to do.  A queue worker notices by itself that it
 *	  is no longer wanted (by the entry's change counter), and exits.
 *
 * The three jobs fail independently.  Each has an error boundary and a growing
 * back-off of its own (run_job), shows its error in sqs_stats_workers, and
 * neither delays nor resets another; for example, a lock on sqs_failures stops
 * the cleaning and nothing else.  What one passes to another (the queues that
 * supervision reads are the relay's configuration) is kept until the other has
 * taken it.
 *
 * It holds no lock, snapshot or transaction between cycles, and runs no users'
 * code: it reads tables that only superusers can change.
 *
 * If it dies, the queue workers go on, and its successor finds them by slot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup.h"
#include "access/table.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/databases.h"
#include "base/extension.h"
#include "base/fair_shares.h"
#include "base/internal_tables.h"
#include "base/outbox_health.h"
#include "base/queue_stats.h"
#include "base/settings.h"
#include "base/slots.h"
#include "base/starts.h"
#include "base/wakeup.h"
#include "base/worker.h"
#include "config/connect.h"
#include "config/database_mark.h"
#include "config/queues.h"
#include "config/role_settings.h"
#include "control/clean.h"
#include "send/relay.h"

#define RECONCILE_INTERVAL_MS	10000
#define EVENT_INTERVAL_MS		200 /* between supervisions, whatever happens */
#define CLEAN_INTERVAL_MS		60000
#define CLEAN_TIMEOUT_MS		30000	/* of one round of cleaning */
#define SCAN_INTERVAL_MS		60000	/* of the whole outbox: a safety net */

/* The longest back-off of a job that fails. */
static const long job_backoff_max_ms[SQS_NUM_JOBS] = {
	10000,						/* supervision: as often as it is done */
	300000,						/* cleaning */
	60000						/* relay */
};

typedef struct JobState
{
	int			failures;		/* consecutive */
	int64		not_before;		/* ms: backing off until */
} JobState;

/* The counters of events that concern the database, as of some moment. */
typedef struct Events
{
	uint64		change;
	uint64		exits;
	uint64		outbox;
	uint64		roles;
	uint64		freed;			/* SqsShared.handler_left_at; for starved
								 * queues */
} Events;

typedef struct DatabaseWorker
{
	MemoryContext context;		/* reset in each turn */
	SqsDatabase *database;
	JobState	jobs[SQS_NUM_JOBS];

	Events		now;			/* when this turn began */
	Events		supervised;		/* what supervision has seen */
	uint64		tried_change;	/* "change" that it last tried to see */
	uint64		relayed;		/* "outbox" that the relay has seen */
	uint64		own_changes;	/* added to "change" by us in this turn */

	int64		last_supervision;	/* the last attempt; in ms, like the
									 * others */
	int64		last_roles;		/* the last because of changed roles or
								 * settings */
	int64		next_supervision;
	int64		next_look;		/* of look_at_tables() */
	int64		next_clean;
	int64		next_scan;		/* of the outbox */

	MemoryContext queues_context;
	List	   *queues;			/* as of the last supervision */
	bool		extension;		/* it is installed */
	bool		configured;		/* there are queues, or that is not known yet */
	bool		config_news;	/* the relay has not been given "queues" yet */
	bool		news;			/* there may be new rows for the relay */
	bool		under_way;		/* requests of the relay */
	bool		relay_well;		/* that it works has been recorded */
	bool		may_leave;
	bool		starved;		/* a queue of ours waits for a worker slot */
	long		timeout;		/* ms until the next turn, at most */
} DatabaseWorker;

/* ---- jobs ---- */

/* After an error was caught: make this process fit for going on. */
static void
recover(DatabaseWorker *dw)
{
	AbortOutOfAnyTransaction();
	FlushErrorState();
	MemoryContextSwitchTo(dw->context);
	pgstat_report_activity(STATE_IDLE, NULL);
	sqs_own_resources();
}

/*
 * Log the error, unless one of its kind has been logged since the job last
 * succeeded, and delay the job.  A cancel because we are to stop does not count.
 */
static void
job_failed(DatabaseWorker *dw, SqsJob job)
{
	JobState   *state = &dw->jobs[job];
	ErrorData  *edata;
	long		delay;

	MemoryContextSwitchTo(dw->context);
	edata = CopyErrorData();
	HOLD_INTERRUPTS();
	if (!ShutdownRequestPending || edata->sqlerrcode != ERRCODE_QUERY_CANCELED)
	{
		state->failures++;
		delay = sqs_backoff_ms(state->failures, SQS_RESTART_MIN_MS, job_backoff_max_ms[job]);
		state->not_before = sqs_now_ms() + delay;
		if (sqs_job_error(dw->database, job, edata->message))
		{
			errcontext("%s of sqsbridge", sqs_job_name(job));
			EmitErrorReport();
		}
		if (job == SQS_JOB_RELAY)
		{
			sqs_outbox_health_relay_failed(MyDatabaseId, edata->message, delay);
			dw->relay_well = false;
		}
	}
	recover(dw);
	RESUME_INTERRUPTS();
}

/* Run a job in its error boundary.  Returns whether it succeeded. */
static bool
run_job(DatabaseWorker *dw, SqsJob job, void (*work) (DatabaseWorker *dw))
{
	volatile bool well = false;

	PG_TRY();
	{
		work(dw);
		well = true;
	}
	PG_CATCH();
	{
		job_failed(dw, job);
	}
	PG_END_TRY();

	MemoryContextSwitchTo(dw->context);
	if (well)
	{
		dw->jobs[job].failures = 0;
		dw->jobs[job].not_before = 0;
		if (sqs_job_well(dw->database, job))
			ereport(LOG,
					(errmsg("%s of sqsbridge works again", sqs_job_name(job))));
	}
	return well;
}

/* The next turn must not be later than "at". */
static void
wake_at(DatabaseWorker *dw, int64 at)
{
	dw->timeout = Min(dw->timeout, (long) Max(at - sqs_now_ms(), 0));
}

/* Is a job due that should run at "at", or when its back-off ends?  If not, wake then. */
static bool
is_due(DatabaseWorker *dw, SqsJob job, int64 at)
{
	at = Max(at, dw->jobs[job].not_before);
	if (sqs_now_ms() >= at)
		return true;
	wake_at(dw, at);
	return false;
}

/* ---- supervision ---- */

/*
 * Queue workers are notified of changes to queues, servers and user mappings, but
 * not of a role or function that was dropped or a privilege that was revoked.  So
 * make this one read its configuration; it exits when it finds the problem.
 */
static void
look_again(DatabaseWorker *dw, int slot)
{
	SqsWorkerSlot *worker = &sqs_shared->slots[slot];

	if (pg_atomic_read_u32(&worker->state) == SQS_WORKER_STOPPING)
		return;
	pg_atomic_fetch_add_u64(&dw->database->change, 1);
	dw->own_changes++;
	sqs_wake_slot(slot, worker->generation);
}

/*
 * The entry of a queue that shall not run.  It may lose the entry that it had as
 * one that runs; with "make" it gets another one, if there is room.
 */
static SqsQueueStats *
stop_entry(const SqsQueueConfig *queue, bool make)
{
	SqsQueueStats *stats = sqs_stats_find(MyDatabaseId, queue->queue_id);

	if (stats != NULL && !sqs_stats_stop(stats))
		stats = NULL;
	if (stats == NULL && make)
		stats = sqs_stats_get(MyDatabaseId, queue->queue_id);
	return stats;
}

/*
 * A limit keeps the queue from running.  That is reported in its entry, if it has
 * one or can get one as a queue that does not run; otherwise the flag makes the
 * view report it for all queues without an entry.
 */
static void
report_no_room(DatabaseWorker *dw, const SqsQueueConfig *queue, const char *why)
{
	SqsQueueStats *stats = stop_entry(queue, true);

	if (stats != NULL)
	{
		sqs_report_problem(stats, SQS_QUEUE_NO_ROOM, queue->name, why);
		return;
	}
	if (!dw->database->no_room)
		ereport(LOG,
				(errmsg("sqsbridge cannot work on queue \"%s\", and perhaps others: %s",
						queue->name, why)));
	dw->database->no_room = true;
}

/* Supervise again after "ms" at the latest. */
static void
supervise_in(DatabaseWorker *dw, long ms)
{
	dw->next_supervision = Min(dw->next_supervision, sqs_now_ms() + ms);
}

/* Launch the worker of a queue that shall run, and has no problem. */
static void
start_queue(DatabaseWorker *dw, const SqsQueueConfig *queue, SqsQueueStats *stats)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = sqs_start_next(&stats->starts, now);
	bool		starved = stats->state == SQS_QUEUE_NO_WORKER_SLOT;
	SqsWorkerRef ref;

	dw->starved |= starved;

	/* if a handler's slot has become free since, it need not wait */
	if (next > now &&
		!(starved && (TimestampTz) dw->now.freed > stats->starts.last))
	{
		supervise_in(dw, TimestampDifferenceMilliseconds(now, next));
		return;
	}

	/*
	 * A starved queue needs two slots, for its queue worker and for a
	 * handler; the queue worker is "starting" until it has both, and exits if
	 * it cannot get the second.  Start one such queue at a time, or several
	 * could take one slot each.  Waiting for a slot is not a failure, so the
	 * delay stays short.
	 */
	if (starved && sqs_start_under_way(SQS_QUEUE_WORKER, MyDatabaseId))
	{
		supervise_in(dw, SQS_RESTART_MIN_MS);
		return;
	}
	sqs_start_begins(&stats->starts, now,
					 starved ? RECONCILE_INTERVAL_MS : SQS_RESTART_MAX_MS);

	if (sqs_worker_launch(SQS_QUEUE_WORKER, MyDatabaseId, queue->queue_id,
						  InvalidOid, DSM_HANDLE_INVALID, queue->name,
						  &ref) == SQS_LAUNCH_NO_SLOT)
	{
		sqs_slot_wanted(&stats->waits_since, true);
		sqs_stats_set_state(stats, SQS_QUEUE_NO_WORKER_SLOT);
		sqs_stats_error(stats, "out of background worker slots");
		sqs_warn_no_slot();
		sqs_start_had_no_slot(&stats->starts, now);
		dw->starved = true;
		supervise_in(dw, SQS_RESTART_MIN_MS);
	}
	else if (!starved)
		sqs_stats_set_state(stats, SQS_QUEUE_STARTING);
}

/* Compare what shall run with what runs. */
static void
reconcile(DatabaseWorker *dw, const uint64 *settings)
{
	bool		no_room_before = dw->database->no_room;
	bool		no_room = false;
	ListCell   *lc;

	foreach(lc, dw->queues)
	{
		SqsQueueConfig *queue = lfirst(lc);
		bool		wanted = queue->enabled && sqs_queue_receives(queue);
		SqsQueueStats *stats;
		const char *why;
		int			slot;

		slot = sqs_slot_find(SQS_QUEUE_WORKER, MyDatabaseId, queue->queue_id);

		/* a queue that does not run must not occupy an entry of one that runs */
		if (!wanted || queue->problem != NULL)
		{
			if (slot >= 0)
			{
				if (queue->problem != NULL)
					look_again(dw, slot);
				continue;
			}
			stats = stop_entry(queue, wanted);
			if (stats == NULL)
				continue;
			stats->starts.failures = 0;
			SpinLockAcquire(&stats->mutex);
			stats->owner = queue->owner;
			SpinLockRelease(&stats->mutex);
			if (wanted)
				sqs_report_problem(stats, SQS_QUEUE_ERROR, queue->name, queue->problem);
			else
				sqs_stats_set_state(stats, sqs_queue_receives(queue) ?
									SQS_QUEUE_DISABLED : SQS_QUEUE_NONE);
			continue;
		}

		stats = sqs_stats_run(MyDatabaseId, queue->queue_id, queue->owner, &why);
		if (stats == NULL)
		{
			if (slot >= 0)
				sqs_terminate_queue_worker(MyDatabaseId, queue->queue_id);
			else
			{
				dw->database->no_room = no_room_before || no_room;
				report_no_room(dw, queue, why);
				no_room = no_room || sqs_stats_find(MyDatabaseId, queue->queue_id) == NULL;
			}
			continue;
		}
		pg_atomic_write_u64(&stats->handler_settings, settings[foreach_current_index(lc)]);
		if (slot < 0)
			start_queue(dw, queue, stats);
		else
			sqs_start_lasts(&stats->starts, GetCurrentTimestamp());
	}
	dw->database->no_room = no_room;

	/* free the entries of queues that are no longer configured */
	for (int i = 0; i < sqs_shared->nqueues; i++)
	{
		SqsQueueStats *stats = &sqs_shared->queues[i];
		bool		known = false;

		if (stats->dboid != MyDatabaseId)
			continue;
		foreach(lc, dw->queues)
		{
			if (((SqsQueueConfig *) lfirst(lc))->queue_id == stats->queue_id)
				known = true;
		}
		if (!known && sqs_slot_find(SQS_QUEUE_WORKER, MyDatabaseId, stats->queue_id) < 0)
			sqs_stats_forget(stats);
	}
}

/* The job of supervision: read the configuration, and act on it. */
static void
supervise(DatabaseWorker *dw)
{
	MemoryContext fresh = AllocSetContextCreate(dw->context, "sqsbridge queues",
												ALLOCSET_SMALL_SIZES);
	List	   *queues = NIL;
	uint64	   *settings = NULL;
	bool		extension;

	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, "sqsbridge: supervising queue workers");
	sqs_begin();
	MemoryContextSwitchTo(fresh);
	extension = OidIsValid(sqs_extension_oid());
	if (extension)
	{
		queues = sqs_catalog_queues();
		settings = sqs_handler_settings(queues);
	}
	MemoryContextSwitchTo(TopTransactionContext);
	sqs_commit();
	MemoryContextSwitchTo(dw->context);
	pgstat_report_activity(STATE_IDLE, NULL);

	/* kept until the next supervision, also for the relay */
	MemoryContextSetParent(fresh, TopMemoryContext);
	if (dw->queues_context != NULL)
		MemoryContextDelete(dw->queues_context);
	dw->queues_context = fresh;
	dw->queues = queues;
	dw->extension = extension;
	dw->configured = queues != NIL;
	dw->config_news = true;
	/* COMMIT PREPARED does not notify us of new rows */
	dw->news = true;

	dw->next_supervision = sqs_now_ms() + RECONCILE_INTERVAL_MS;
	dw->starved = false;
	reconcile(dw, settings);
	if (dw->now.change != dw->supervised.change)
		dw->next_scan = 0;
	dw->supervised = dw->now;
	dw->supervised.change += dw->own_changes;
}

/*
 * Log, once, that users have put a trigger, a rule or a policy on an internal
 * table, where it has no effect.  This is only a diagnosis, so errors are
 * ignored; code that needs a table that cannot be opened reports that itself.
 */
static void
look_at_tables(DatabaseWorker *dw)
{
	static uint32 reported = 0; /* hash of what was found; 0: nothing */

	if (!dw->extension || sqs_now_ms() < dw->next_look)
		return;
	dw->next_look = sqs_now_ms() + RECONCILE_INTERVAL_MS;

	PG_TRY();
	{
		char	   *found;
		uint32		hash = 0;

		sqs_begin();
		found = sqs_tables_foreign_objects();
		if (found != NULL)
			hash = hash_bytes((unsigned char *) found, strlen(found)) | 1;
		if (hash != 0 && hash != reported)
			ereport(LOG,
					(errmsg("triggers, rules, and policies on the tables of sqsbridge have no effect"),
					 errdetail("These are %s.", found)));
		reported = hash;
		sqs_commit();
		MemoryContextSwitchTo(dw->context);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		recover(dw);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
}

/* ---- cleaning ---- */

static void
clean(DatabaseWorker *dw)
{
	bool		more;

	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, "sqsbridge: deleting old rows");
	sqs_bound_begin(CLEAN_TIMEOUT_MS);
	more = sqs_clean();
	sqs_bound_end();
	pgstat_report_activity(STATE_IDLE, NULL);
	dw->next_clean = sqs_now_ms() + (more ? 0 : CLEAN_INTERVAL_MS);
}

/* ---- the relay ---- */

/* The job of relaying: pass on a new configuration, then one turn of the relay. */
static void
relay(DatabaseWorker *dw)
{
	int64		now = sqs_now_ms();
	bool		scan = now >= dw->next_scan;
	uint64		seen = dw->now.outbox;
	long		timeout = dw->timeout;

	if (dw->config_news)
	{
		if (dw->extension)
		{
			sqs_begin();
			MemoryContextSwitchTo(dw->context);
			sqs_relay_configure(dw->queues);
			MemoryContextSwitchTo(TopTransactionContext);
			sqs_commit();
			MemoryContextSwitchTo(dw->context);
		}
		else
			sqs_relay_reset();
		dw->config_news = false;
	}
	if (!dw->extension)
	{
		dw->under_way = false;
		return;
	}
	dw->under_way = sqs_relay_turn(dw->news || seen != dw->relayed, scan, false, &timeout);
	dw->timeout = Min(dw->timeout, timeout);
	dw->relayed = seen;
	dw->news = false;
	if (scan)
		dw->next_scan = now + SCAN_INTERVAL_MS;
	if (!dw->relay_well)
		sqs_outbox_health_relay_well(MyDatabaseId);
	dw->relay_well = true;
}

/* After an error, do not trust the relay's memory: read everything again. */
static void
reset_relay(DatabaseWorker *dw)
{
	sqs_relay_reset();
	dw->under_way = false;
	dw->config_news = true;
	dw->news = true;
	dw->next_scan = 0;
}

/* ---- stopping ---- */

/*
 * Does the table have neither a row nor one that a transaction is writing?  The
 * lock, which is kept, excludes writers.
 */
static bool
table_is_empty(SqsTable table)
{
	Relation	rel = sqs_table_open_nowait(table, ShareLock);
	SysScanDesc scan;
	Snapshot	snapshot;
	bool		empty;

	if (rel == NULL)
		return false;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	empty = !HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	return empty;
}

/*
 * There seems to be nothing left to do.  Remove the mark, because of which the
 * launcher would start another worker, unless a transaction has written a queue
 * or a row in the meantime, or is writing one.  Sets may_leave.
 */
static void
try_to_remove_mark(DatabaseWorker *dw)
{
	bool		leave;

	sqs_begin();
	leave = sqs_mark_lock();
	if (leave && OidIsValid(sqs_extension_oid()))
		leave = table_is_empty(SQS_TABLE_QUEUES) &&
			table_is_empty(SQS_TABLE_OUTBOX_ROWS) &&
			table_is_empty(SQS_TABLE_OUTBOX_BATCHES);
	if (leave)
		sqs_mark_remove();
	sqs_commit();
	dw->may_leave = leave;
}

/* Let the relay finish the requests that are under way. */
static void
stop_relay(DatabaseWorker *dw)
{
	dw->timeout = 1000;
	dw->under_way = sqs_relay_turn(false, false, true, &dw->timeout);
}

/* ---- the loop ---- */

static void
read_events(SqsDatabase *database, Events *events)
{
	events->change = pg_atomic_read_u64(&database->change);
	events->exits = pg_atomic_read_u64(&database->exits);
	events->outbox = pg_atomic_read_u64(&database->outbox);
	events->roles = pg_atomic_read_u64(&sqs_shared->role_changes);
	events->freed = pg_atomic_read_u64(&sqs_shared->handler_left_at);
}

/*
 * One turn of the loop: run each job that is due.
 *
 * Any role can cause events, for example by ALTER ROLE in a loop.  So only the
 * first one is acted on at once, and those that follow are taken together.  A
 * change of a queue or a server requires a privilege, and is always acted on at
 * once.
 */
static void
turn(DatabaseWorker *dw)
{
	bool		changed = dw->now.change != dw->supervised.change;
	bool		roles = dw->now.roles != dw->supervised.roles;
	bool		events = changed || roles ||
		dw->now.exits != dw->supervised.exits || sqs_relay_needs_config() ||
		(dw->starved && dw->now.freed != dw->supervised.freed);
	int64		due = dw->next_supervision;

	/*
	 * Changes must be read before the relay's turn, or it could send to a
	 * queue that has been disabled.  Changes of roles have a limit of their
	 * own, or an exit shortly before one would delay it, and a setting that
	 * is changed and changed back could go unnoticed.
	 */
	if (changed)
		due = 0;
	else if (roles)
		due = Min(due, dw->last_roles + EVENT_INTERVAL_MS);
	else if (events)
		due = Min(due, dw->last_supervision + EVENT_INTERVAL_MS);
	/* a change may be what ends a failure, so retry at once, but only once */
	if (changed && dw->now.change != dw->tried_change)
		dw->jobs[SQS_JOB_SUPERVISION].not_before = 0;
	dw->tried_change = dw->now.change;
	if (is_due(dw, SQS_JOB_SUPERVISION, due))
	{
		dw->last_supervision = sqs_now_ms();
		if (roles)
			dw->last_roles = dw->last_supervision;
		events = false;
		if (run_job(dw, SQS_JOB_SUPERVISION, supervise))
			look_at_tables(dw);
		else
			dw->next_supervision = 0;	/* as soon as its back-off is over */
	}
	wake_at(dw, Max(events ? due : dw->next_supervision,
					dw->jobs[SQS_JOB_SUPERVISION].not_before));

	/* the other jobs need the configuration */
	if (dw->queues_context == NULL)
		return;
	if (is_due(dw, SQS_JOB_RELAY, 0) && !run_job(dw, SQS_JOB_RELAY, relay))
		reset_relay(dw);
	wake_at(dw, dw->jobs[SQS_JOB_RELAY].not_before > 0 ?
			dw->jobs[SQS_JOB_RELAY].not_before : PG_INT64_MAX);

	/* the relay has found rows of a queue that it does not know yet */
	if (sqs_relay_needs_config())
		wake_at(dw, Max(dw->last_supervision + EVENT_INTERVAL_MS,
						dw->jobs[SQS_JOB_SUPERVISION].not_before));
	sqs_set_worker_state(dw->under_way ? SQS_WORKER_RUNNING : SQS_WORKER_IDLE);

	if (is_due(dw, SQS_JOB_CLEANING, dw->next_clean))
	{
		(void) run_job(dw, SQS_JOB_CLEANING, clean);
		sqs_bound_end();
		wake_at(dw, Max(dw->next_clean, dw->jobs[SQS_JOB_CLEANING].not_before));
	}
}

/*
 * Make this process a session of its database, with settings that neither the
 * database nor a role can change.
 */
static void
start_database_worker(DatabaseWorker *dw)
{
	sqs_worker_signals();
	sqs_worker_connect(MySlot->dboid, InvalidOid, 0);

	/* do not wait for standbys, nor depend on settings of roles */
	SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_OVERRIDE);
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_OVERRIDE);
	SetSessionAuthorization(GetAuthenticatedUserId(), true);
	SetConfigOption("role", "none", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("max_parallel_workers_per_gather", "0", PGC_USERSET, PGC_S_OVERRIDE);

	/* override the settings of the database */
	SetConfigOption("default_transaction_isolation", "read committed",
					PGC_USERSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_read_only", "off", PGC_USERSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_deferrable", "off", PGC_USERSET, PGC_S_OVERRIDE);
	sqs_own_resources();
	sqs_shared_clients_keep(sqs_shared_clients_room());
	sqs_shared_credentials_stay();

	dw->database = sqs_database_get(MyDatabaseId);
	if (dw->database == NULL)
		proc_exit(1);
	dw->context = AllocSetContextCreate(TopMemoryContext, "sqsbridge database worker",
										ALLOCSET_DEFAULT_SIZES);
	dw->configured = true;
}

/*
 * Stop the relay: within sqsbridge.shutdown_timeout, let the calls that are
 * under way end and store their results.
 */
static void
finish_relay(DatabaseWorker *dw, uint32 wait_event)
{
	int64		end = sqs_now_ms() + sqs_shutdown_timeout;

	while (!dw->may_leave && !sqs_relay_is_idle() && sqs_now_ms() < end)
	{
		CHECK_FOR_INTERRUPTS();
		if (!run_job(dw, SQS_JOB_RELAY, stop_relay) || !dw->under_way)
			break;
		sqs_shared_clients_wait(Max(Min(end - sqs_now_ms(), dw->timeout), 0), wait_event);
	}
	sqs_relay_reset();
}

/* Entry point of the process. */
void
sqs_database_worker_main(Datum arg)
{
	static DatabaseWorker worker;
	DatabaseWorker *dw = &worker;
	uint32		wait_event;

	sqs_worker_attach(arg);
	start_database_worker(dw);
	wait_event = sqs_wait_event_new("SqsbridgeDatabaseWorker");

	for (;;)
	{
		Events		seen;

		read_events(dw->database, &dw->now);
		dw->own_changes = 0;
		dw->timeout = RECONCILE_INTERVAL_MS;
		CHECK_FOR_INTERRUPTS();
		if (ShutdownRequestPending || sqs_database_is_blocked(MyDatabaseId))
			break;
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			dw->next_supervision = 0;
		}

		MemoryContextSwitchTo(dw->context);
		MemoryContextReset(dw->context);
		turn(dw);

		if (!dw->configured && dw->jobs[SQS_JOB_RELAY].failures == 0 &&
			sqs_relay_is_idle() && sqs_slots_of_database(MyDatabaseId) <= 1)
		{
			(void) run_job(dw, SQS_JOB_SUPERVISION, try_to_remove_mark);
			if (dw->may_leave)
				break;
		}

		/* a wait for a lock may have reset the latch, so compare the counters */
		read_events(dw->database, &seen);
		if (ShutdownRequestPending || ConfigReloadPending ||
			seen.change != dw->now.change + dw->own_changes ||
			seen.exits != dw->now.exits || seen.outbox != dw->now.outbox ||
			seen.roles != dw->now.roles || (dw->starved && seen.freed != dw->now.freed))
			dw->timeout = 0;
		sqs_shared_clients_wait(Max(dw->timeout, 0), wait_event);
	}

	sqs_set_worker_state(SQS_WORKER_STOPPING);
	finish_relay(dw, wait_event);

	/* this worker exits normally, so its successor may start at once */
	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	dw->database->starts.failures = 0;
	dw->database->starts.next = 0;
	LWLockRelease(sqs_shared->lock);
	proc_exit(0);
}
