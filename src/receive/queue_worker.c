/*-------------------------------------------------------------------------
 *
 * queue_worker.c
 *	  One process per enabled queue with a handler: polls SQS, holds the
 *	  leases, hands messages out, acknowledges.  It runs no code of users.
 *
 * An event loop over one latch and the AWS clients' file descriptor.  No
 * transaction, snapshot or lock is held while it waits.  It opens transactions
 * only to read the configuration, at start and after a change, and to write
 * down what a handler that died with its message can no longer say.
 *
 * States (sqs_stats.state):
 *
 *	starting		finding out the queue's URL and attributes
 *	polling			at least one receive is open, or handlers are busy
 *	backing off		the last poll failed; the next is at next_poll_at
 *	error			a person has to mend something; looked at again with a
 *					growing delay
 *	waiting for worker slot		no handler worker can be started: this process
 *					gives its own slot back, and its successor begins
 *					with a handler or leaves, too
 *	stopping		disabled, dropped, moved, blocked or shut down: no new
 *					receives; running handlers have shutdown_timeout, then
 *					they are canceled; what is not done is made visible
 *
 * An open poll is not abandoned without need: SQS may answer it anyway, and
 * the message is then nobody's until its visibility timeout is over.  So a
 * queue that is disabled, or moved to another place, stays "stopping" until
 * its polls have ended: wait_time, or 10 s more if SQS does not answer.  What
 * waits or arrives meanwhile is kept, with its lease renewed, because what is
 * released would come by one of the polls; should the queue be enabled again,
 * it is handled.  A shutdown of the server, and a DROP, have no time for that.
 *
 * New keys, or other options of the server that are not about the place, stop
 * nothing: new calls are made with a new client, those that are open end with
 * the one that began them.
 *
 * Polling widens and narrows: one receive is open while the queue is idle; a
 * full reply allows one more in parallel, up to what the handlers can take;
 * an empty one goes back to one, and is not followed by another within half a
 * second, should it not have waited.  Nothing SQS or the network do ends this
 * process: a failed poll is repeated after 0.5 s .. 60 s, without end.  Nor
 * does an error in here: each part of a turn has a boundary of its own, and
 * the others go on.
 *
 * If it dies, its handlers see the channel abandoned and leave after their
 * current message; its leases run out; the messages come back, and those
 * that were committed are recognized by the inbox.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "base/databases.h"
#include "base/extension.h"
#include "base/queue_stats.h"
#include "base/settings.h"
#include "config/fdw.h"
#include "config/keys.h"
#include "receive/ack.h"
#include "receive/dispatch.h"
#include "receive/handler_pool.h"
#include "receive/in_hand.h"
#include "receive/lease.h"
#include "receive/marks.h"
#include "receive/polling.h"
#include "receive/queue_state.h"
#include "receive/results.h"
#include "receive/waiting.h"

#define IDLE_WAKE_MS			10000
#define LOAD_RETRY_MIN_MS		1000
#define LOAD_RETRY_MAX_MS		10000
#define RELENT_MS				1000	/* between looks whether to stop still */
#define STOP_HARD_MS			500 /* from cancel to SIGTERM */
#define STOP_LAST_MS			1500	/* from cancel to leaving in any case */
#define PART_RETRY_MIN_MS		100
#define PART_RETRY_MAX_MS		1000	/* leases have to be renewed */

static const SqsLeaseEvents lease_events = {
	sqs_in_hand_lease_renewed,
	sqs_in_hand_lease_lost
};

/* ---- configuration ---- */

typedef enum ConfigLoad
{
	CONFIG_LOADED,
	CONFIG_GONE,				/* this worker has to go */
	CONFIG_UNREADABLE			/* for now; this worker goes on with the old */
} ConfigLoad;

/*
 * Somebody may hold a lock on what there is to read for long, or the disk be
 * broken.  That must not end a process that has messages in hand.
 */
static void
config_unreadable(QueueWorker *qw, const char *why)
{
	if (qw->reload.failures++ == 0)
		ereport(LOG,
				(errmsg("sqsbridge queue \"%s\" cannot read its configuration and goes on with the one it has: %s",
						qw->config->name, why)));
	qw->reload.next = qw->now + sqs_backoff_ms(qw->reload.failures, LOAD_RETRY_MIN_MS, LOAD_RETRY_MAX_MS);
}

static bool
same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* Is it the same queue at AWS, and are its handlers the same role's? */
static bool
same_place(const SqsQueueConfig *a, const SqsQueueConfig *b)
{
	return a->owner == b->owner && same_text(a->queue_name, b->queue_name) &&
		same_text(a->region, b->region) && same_text(a->endpoint, b->endpoint);
}

/*
 * Have a client for this server and these keys; the one there was ends its
 * open calls by itself.  False if none can be made of them.
 */
static bool
renew_client(QueueWorker *qw, const SqsQueueConfig *config, const SqsKeys *keys,
			 AwsError *error)
{
	uint64		made_from = sqs_connection_fingerprint(config, keys);
	SqsSharedClient *shared;

	if (qw->shared_client != NULL && qw->client_made_from == made_from)
		return true;
	shared = sqs_shared_client_acquire(config, keys, error);
	if (shared == NULL)
		return false;
	if (qw->shared_client != NULL)
		sqs_shared_client_release(qw->shared_client);
	qw->shared_client = shared;
	qw->client = shared->client;
	qw->client_made_from = made_from;
	return true;
}

/*
 * Read the queue's configuration.  This worker has to go if the queue is gone
 * or disabled, or is another place than before.
 */
static ConfigLoad
load_config(QueueWorker *qw)
{
	MemoryContext fresh = AllocSetContextCreate(TopMemoryContext, "sqsbridge queue configuration",
												ALLOCSET_SMALL_SIZES);
	SqsQueueConfig *volatile loaded = NULL;
	SqsQueueConfig *config;
	SqsKeys		keys = {NULL, NULL, NULL};
	AwsError	error;
	bool		have_client;
	static MemoryContext current = NULL;
	bool		first = qw->config == NULL;

	PG_TRY();
	{
		sqs_begin();
		MemoryContextSwitchTo(fresh);
		if (OidIsValid(sqs_extension_oid()))
			loaded = sqs_catalog_queue(MySlot->queue_id);
		if (loaded != NULL && loaded->problem == NULL)
			(void) sqs_catalog_keys(loaded->owner, loaded->server_oid, &keys);
		sqs_commit();
	}
	PG_CATCH();
	{
		char		why[SQS_ERROR_TEXT];

		sqs_wipe_keys(&keys);
		if (first)
			PG_RE_THROW();		/* the supervisor tries again */
		sqs_queue_catch(qw, why, sizeof(why));
		MemoryContextDelete(fresh);
		config_unreadable(qw, why);
		return CONFIG_UNREADABLE;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(qw->context);
	config = loaded;

	if (config == NULL || !config->enabled || config->handler == NULL ||
		config->problem != NULL ||
		(!first && !same_place(config, qw->config)))
	{
		qw->reload.has_problem = config != NULL && config->problem != NULL;
		if (qw->reload.has_problem)
			sqs_report_problem(qw->stats, SQS_QUEUE_ERROR, config->name, config->problem);
		sqs_wipe_keys(&keys);
		MemoryContextDelete(fresh);
		qw->reload.failures = 0;
		qw->reload.next = 0;
		return CONFIG_GONE;
	}

	have_client = renew_client(qw, config, &keys, &error);
	sqs_wipe_keys(&keys);
	if (!have_client)
	{
		if (first)
		{
			qw->config = config;
			sqs_queue_error(qw, SQS_QUEUE_ERROR, error.message);
			proc_exit(1);
		}
		MemoryContextDelete(fresh);
		(void) sqs_stats_error(qw->stats, error.message);
		config_unreadable(qw, error.message);
		return CONFIG_UNREADABLE;
	}
	qw->reload.failures = 0;
	qw->reload.next = 0;
	qw->reload.has_problem = false;

	/* another function has another pace */
	if (!first && strcmp(config->handler, qw->config->handler) != 0)
		qw->mean_us = 0;
	if (qw->attributes_known && config->visibility_timeout > 0)
		qw->visibility = config->visibility_timeout;
	qw->config = config;
	if (current != NULL)
		MemoryContextDelete(current);
	current = fresh;
	return CONFIG_LOADED;
}

/* ---- leaving ---- */

/*
 * Receive nothing any more, give running handlers shutdown_timeout.  Polls end
 * before anything is released, because SQS would hand it to them: by
 * themselves, or at once if this is done in a hurry.
 */
static void
begin_stop(QueueWorker *qw, bool hurry)
{
	if (!qw->stopping)
	{
		qw->stopping = true;
		qw->stop.at = qw->now + sqs_shutdown_timeout;
		sqs_set_worker_state(SQS_WORKER_STOPPING);
		if (!qw->pool.no_slot && !qw->reload.has_problem)
			sqs_stats_set_state(qw->stats, SQS_QUEUE_STOPPING);
		sqs_pool_take_back(qw);
	}
	if (hurry && !qw->stop.hurry)
	{
		qw->stop.hurry = true;
		sqs_polling_abandon(qw);
	}
}

/* The queue was enabled again before all its polls had ended. */
static void
go_on(QueueWorker *qw)
{
	qw->stopping = false;
	qw->stop.canceled = false;
	sqs_set_worker_state(SQS_WORKER_RUNNING);
	if (qw->attributes_known && qw->polling.failures == 0)
		sqs_queue_is_well(qw);
	else
		sqs_stats_set_state(qw->stats, qw->polling.failures > 0 ?
							SQS_QUEUE_BACKING_OFF : SQS_QUEUE_STARTING);
}

/* Release everything that does not run. */
static void
release_all(QueueWorker *qw)
{
	sqs_pool_take_back(qw);
	sqs_waiting_release(qw);
}

/* One turn of leaving; true when there is nothing left to wait for. */
static bool
stop_turn(QueueWorker *qw)
{
	bool		busy;

	if (qw->now >= qw->stop.at && !qw->stop.canceled)
	{
		qw->stop.canceled = true;
		sqs_pool_cancel(qw, false);
	}
	if (qw->now >= qw->stop.at + STOP_HARD_MS)
		sqs_pool_cancel(qw, true);

	if (qw->polling.n > 0)
	{
		/* they have deadlines of their own */
		if (qw->handed > 0)
			sqs_wake_at(qw, qw->stop.canceled ? qw->now + 100 : qw->stop.at);
		return false;
	}
	if (!qw->stop.letting_go)
	{
		qw->stop.letting_go = true;
		qw->stop.last_at = Max(qw->stop.at, qw->now) + STOP_LAST_MS;
		release_all(qw);
		sqs_wake_at(qw, qw->now);
		return false;
	}
	if (qw->waiting.n > 0)
		release_all(qw);		/* put back since then */

	/* a standby that stalls is not waited for: the inbox knows the message */
	if (qw->handed == 0)
	{
		dlist_mutable_iter iter;

		dlist_foreach_modify(iter, &qw->ack.committed)
		{
			dlist_delete(iter.cur);
			qw->ack.ncommitted--;
			sqs_lease_release(qw, dlist_container(Lease, node, iter.cur), 0);
		}
	}
	busy = qw->handed > 0 || qw->table.nreleases > 0 || qw->ack.ndeletes > 0 ||
		qw->calls_open > 0;
	if (!busy || qw->now >= qw->stop.last_at)
		return true;
	sqs_wake_at(qw, qw->stop.canceled ? qw->now + 100 : qw->stop.at);
	sqs_wake_at(qw, qw->stop.last_at);
	return false;
}

/* ---- the process ---- */

/*
 * Settings of the database or of all roles that must not reach a process that
 * is a superuser's and that others wait for.
 */
static void
override_settings(void)
{
	static const char *const settings[][2] = {
		{"role", "none"},
		{"search_path", "pg_catalog, pg_temp"},
		{"synchronous_commit", "off"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_OVERRIDE);
	if (SQS_HAS_TRANSACTION_TIMEOUT)
		SetConfigOption("transaction_timeout", "0", PGC_USERSET, PGC_S_OVERRIDE);
}

/* The next worker for this queue need not wait: nothing failed. */
static void
forget_start(SqsQueueStats *stats)
{
	stats->starts.failures = 0;
	stats->starts.next = 0;
}

/* Take notice of reloads, of changes to the configuration and of stops. */
static void
look_around(QueueWorker *qw)
{
	uint64		newest;

	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		qw->reload.look_again = true;	/* the client was made with some of it */
	}

	if (ShutdownRequestPending || qw->pool.no_slot || sqs_database_is_blocked(MyDatabaseId))
	{
		begin_stop(qw, true);
		return;
	}
	if (qw->stop.letting_go)
		return;
	if (qw->now < qw->reload.next)
	{
		sqs_wake_at(qw, qw->reload.next);
		return;
	}

	newest = pg_atomic_read_u64(&qw->database->change);
	if (qw->stopping)
	{
		/* nobody says when a problem goes away */
		if (qw->now >= qw->reload.last + RELENT_MS)
			qw->reload.look_again = true;
		else
			sqs_wake_at(qw, qw->reload.last + RELENT_MS);
	}
	if (newest != qw->reload.change || qw->reload.look_again || qw->reload.failures > 0 ||
		(qw->cannot_run > 0 && qw->paused_until > 0 && qw->now >= qw->paused_until))
	{
		ConfigLoad	load = load_config(qw);

		qw->reload.last = qw->now;
		if (load == CONFIG_UNREADABLE)
			return;
		qw->reload.change = newest;
		qw->reload.look_again = false;
		qw->paused_until = 0;
		if (load == CONFIG_GONE)
			begin_stop(qw, false);
		else if (qw->stopping && !qw->stop.hurry)
			go_on(qw);
	}
}

static void
call_clients(QueueWorker *qw)
{
	sqs_shared_clients_poll();
}

static void
send_deletes(QueueWorker *qw)
{
	sqs_ack_deletes(qw, sqs_is_leaving(qw));
}

static void
send_releases(QueueWorker *qw)
{
	sqs_leases_flush_releases(qw, sqs_is_leaving(qw));
}

/* What is received next, or first has to be known for that. */
static void
receive(QueueWorker *qw)
{
	if (qw->stopping)
		return;
	if (qw->pool.starved)
	{
		if (sqs_pool_prepare(qw))
		{
			qw->pool.starved = false;
			sqs_set_worker_state(SQS_WORKER_RUNNING);
			sqs_wake_at(qw, qw->now);
		}
	}
	else
		sqs_polling_turn(qw);
	sqs_polling_count(qw);
}

/* A turn, in this order. */
typedef struct Part
{
	void		(*run) (QueueWorker *qw);
	const char *what;
	int			failures;
	int64		next;			/* failed: not before */
} Part;

static Part parts[] = {
	{look_around, "looking for changes"},
	{call_clients, "talking to SQS"},
	{sqs_results_collect, "collecting results"},
	{sqs_pool_supervise, "supervising handlers"},
	{sqs_ack_flush, "making results durable"},
	{sqs_dispatch, "handing messages out"},
	{sqs_leases_renew, "renewing leases"},
	{send_deletes, "deleting messages"},
	{send_releases, "releasing messages"},
	{sqs_marks_turn, "recording what has come to its end"},
	{receive, "receiving messages"},
};

/*
 * Run a part of the turn.  When it fails, the process goes on: leases of
 * messages in hand have to be renewed or released, whatever is wrong.
 */
static void
run_part(QueueWorker *qw, Part *part)
{
	if (qw->now < part->next)
	{
		sqs_wake_at(qw, part->next);
		return;
	}
	PG_TRY();
	{
		part->run(qw);
		part->failures = 0;
	}
	PG_CATCH();
	{
		char		reason[SQS_ERROR_TEXT - 64];
		char		text[SQS_ERROR_TEXT];

		sqs_queue_catch(qw, reason, sizeof(reason));
		part->failures++;
		part->next = qw->now + sqs_backoff_ms(part->failures, PART_RETRY_MIN_MS, PART_RETRY_MAX_MS);
		sqs_wake_at(qw, part->next);
		snprintf(text, sizeof(text), "%s: %s", part->what, reason);
		if (sqs_stats_error(qw->stats, text))
			ereport(LOG,
					(errmsg("sqsbridge queue \"%s\": %s", qw->config->name, text)));
	}
	PG_END_TRY();
}

/* The table of leases is shown in shared memory, of which there may be none. */
static void
make_leases(QueueWorker *qw)
{
	PG_TRY();
	{
		sqs_leases_init(qw, &lease_events);
	}
	PG_CATCH();
	{
		char		reason[SQS_ERROR_TEXT - 64];
		char		text[SQS_ERROR_TEXT];

		sqs_queue_catch(qw, reason, sizeof(reason));
		snprintf(text, sizeof(text), "the queue worker could not start: %s", reason);
		sqs_queue_error(qw, SQS_QUEUE_ERROR, text);
		proc_exit(1);
	}
	PG_END_TRY();
}

/* Leaves the process if there is nothing to do for it. */
static QueueWorker *
begin_work(void)
{
	QueueWorker *qw = MemoryContextAllocZero(TopMemoryContext, sizeof(QueueWorker));

	qw->context = AllocSetContextCreate(TopMemoryContext, "sqsbridge queue worker",
										ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(qw->context);
	sqs_polling_init(qw);
	qw->now = sqs_now_ms();
	qw->wall = sqs_wall_ms();
	qw->database = sqs_database_get(MyDatabaseId);
	qw->stats = sqs_stats_get(MyDatabaseId, MySlot->queue_id);
	if (qw->database == NULL || qw->stats == NULL)
		proc_exit(1);

	qw->reload.change = pg_atomic_read_u64(&qw->database->change);
	if (load_config(qw) == CONFIG_GONE)
		proc_exit(0);
	/* from now on there are leases to renew meanwhile */
	SetConfigOption("lock_timeout", "200ms", PGC_USERSET, PGC_S_OVERRIDE);
	SpinLockAcquire(&qw->stats->mutex);
	qw->stats->owner = qw->config->owner;
	SpinLockRelease(&qw->stats->mutex);
	make_leases(qw);
	sqs_waiting_init(qw);
	/* "starting" until it has a handler, if it has been out of slots */
	qw->pool.starved = qw->stats->state == SQS_QUEUE_NO_WORKER_SLOT;
	if (!qw->pool.starved)
		sqs_set_worker_state(SQS_WORKER_RUNNING);
	return qw;
}

/*
 * Wait for something to do.  A wait that takes much longer than it may, by
 * either clock, says that this process stood still.
 */
static void
wait_for_something(QueueWorker *qw, uint32 wait_event)
{
	int64		now = sqs_now_ms();
	int64		wall = sqs_wall_ms();
	long		timeout = (long) Max(qw->wake_at - now, 0);
	int64		took;

	sqs_shared_clients_wait(timeout, wait_event);
	took = Max(sqs_now_ms() - now, sqs_wall_ms() - wall);
	qw->overslept = Max(took - timeout, 0);
}

/* Entry point of the process: set up, turn after turn, leave. */
void
sqs_queue_worker_main(Datum arg)
{
	QueueWorker *qw;
	uint32		wait_event;

	sqs_worker_attach(arg);
	sqs_worker_signals();
	BackgroundWorkerInitializeConnectionByOid(MySlot->dboid, InvalidOid, 0);
	wait_event = sqs_wait_event_new("SqsbridgeQueueWorker");
	override_settings();
	sqs_own_resources();
	qw = begin_work();

	for (;;)
	{
		/* there is nothing that a user could cancel in here */
		QueryCancelPending = false;
		CHECK_FOR_INTERRUPTS();
		qw->now = sqs_now_ms();
		qw->wall = sqs_wall_ms();
		qw->wake_at = qw->now + IDLE_WAKE_MS;

		for (int i = 0; i < lengthof(parts); i++)
			run_part(qw, &parts[i]);
		if (qw->stopping && stop_turn(qw))
			break;

		wait_for_something(qw, wait_event);
	}

	sqs_marks_end(qw);
	sqs_pool_end(qw);
	sqs_shared_client_release(qw->shared_client);
	pg_atomic_write_u32(&qw->stats->in_flight, 0);
	if (!qw->pool.no_slot)
		forget_start(qw->stats);
	proc_exit(0);
}
