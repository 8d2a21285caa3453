/*-------------------------------------------------------------------------
 *
 * queue_worker.c
 *	  One process per enabled queue with a handler: it polls SQS, renews leases,
 *	  hands messages out and acknowledges them.  It runs no users' code.
 *
 * This is an event loop over a latch and the AWS clients' file descriptor.  No
 * transaction, snapshot or lock is held while it waits.  It opens transactions
 * only to read the configuration, at start and after a change, to write marks
 * (marks.c), and to record the failure of a handler that died.
 *
 * States (sqs_stats.state):
 *
 *	starting		finding out the queue's URL and attributes
 *	polling			at least one receive is open, or handlers are busy
 *	backing off		nothing gets through; the next poll is at next_poll_at
 *	paused, throttled	handlers fail; one message is tried at next_poll_at
 *					(route_state.c)
 *	error			needs an administrator; retried with a growing delay
 *	waiting for worker slot		no handler worker can be started: this process
 *					exits to free its own slot, and its successor starts
 *					a handler before it receives, or exits, too
 *	stopping		disabled, dropped, moved, blocked or shut down: no new
 *					receives; running handlers have shutdown_timeout, then
 *					they are canceled; messages not handled are released
 *
 * An open poll is not abandoned without need: SQS may still answer it, and the
 * message is then lost until its visibility timeout ends.  So a queue that is
 * disabled, or moved to another server, stays "stopping" until its polls have
 * ended: for wait_time, or 10 s more if SQS does not answer.  Messages that wait
 * or arrive in the meantime are kept, and their leases renewed, because one of
 * the polls would return what is released.  If the queue is enabled again, they
 * are handled.  At a shutdown of the server or a DROP there is no time for that,
 * except for a round trip if there is a backlog: then all polls bring messages.
 *
 * New keys, or other options of the server that do not change which queue it
 * is, stop nothing: new calls are made with a new client, and open calls end
 * with the client that began them.
 *
 * No failure of SQS or the network makes this process exit (polling.c).  Nor
 * does an error in this process: each part of a turn has an error boundary of
 * its own, and the others go on.
 *
 * If it dies, its handlers find the channel abandoned and exit after their
 * current message; its leases run out; the messages come back, and the inbox
 * recognizes those that were committed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "portability/instr_time.h"
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
#include "receive/holding.h"
#include "receive/in_hand.h"
#include "receive/lease.h"
#include "receive/marks.h"
#include "receive/pace.h"
#include "receive/polling.h"
#include "receive/queue_state.h"
#include "receive/results.h"
#include "receive/route_state.h"
#include "receive/waiting.h"

#define IDLE_WAKE_MS			10000
#define LOAD_RETRY_MIN_MS		1000
#define LOAD_RETRY_MAX_MS		10000
#define RELENT_MS				1000	/* stopping: how often to check if we
										 * still should */
#define SPARE_SHARE				8	/* it has time to spare if it waits an
									 * eighth as long as it works */
#define STOP_HARD_MS			500 /* from cancel to SIGTERM */
#define STOP_LAST_MS			1500	/* from cancel to exit in any case */
#define POLLS_GRACE_MS			1000	/* for polls that bring messages, at
										 * most */
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
	CONFIG_GONE,				/* this worker must exit */
	CONFIG_UNREADABLE			/* at present; go on with the old one */
} ConfigLoad;

/*
 * The configuration cannot be read: a catalog may be locked, or the disk broken.
 * A process that has messages in hand must not exit for that.
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

/* Is it the same queue at AWS, with the same owner? */
static bool
same_place(const SqsQueueConfig *a, const SqsQueueConfig *b)
{
	return a->owner == b->owner && same_text(a->queue_name, b->queue_name) &&
		same_text(a->region, b->region) && same_text(a->endpoint, b->endpoint);
}

/*
 * Get a client for this server and these keys, unless we have it already.  Open
 * calls of the old client end by themselves.  False, with *error filled in, if
 * there can be none.
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
 * Read the queue's configuration.  This worker must exit if the queue is gone,
 * disabled or unusable, or is a different one at AWS.
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
			PG_RE_THROW();		/* the supervisor starts another worker */
		sqs_queue_catch(qw, why, sizeof(why));
		MemoryContextDelete(fresh);
		config_unreadable(qw, why);
		return CONFIG_UNREADABLE;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(qw->context);
	config = loaded;

	if (config == NULL || !config->enabled || !sqs_queue_receives(config) ||
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
			/* that is in the log; the supervisor tries again, later and later */
			proc_exit(0);
		}
		MemoryContextDelete(fresh);
		(void) sqs_stats_error(qw->stats, error.message);
		config_unreadable(qw, error.message);
		return CONFIG_UNREADABLE;
	}
	qw->reload.failures = 0;
	qw->reload.next = 0;
	qw->reload.has_problem = false;

	/* a new function may be faster or slower */
	if (!first && (config->handler == NULL || qw->config->handler == NULL ||
				   strcmp(config->handler, qw->config->handler) != 0))
		sqs_pace_forget(qw);
	if (qw->attributes_known && config->visibility_timeout > 0)
		qw->visibility = config->visibility_timeout;
	qw->config = config;
	if (current != NULL)
		MemoryContextDelete(current);
	current = fresh;
	return CONFIG_LOADED;
}

/* ---- stopping ---- */

/*
 * Stop receiving, and give running handlers shutdown_timeout.  Polls must end
 * before anything is released, because SQS would return it by one of them.  They
 * end by themselves or, with "hurry", are abandoned; but in a backlog SQS has
 * answered each of them already, and those messages would be lost until their
 * visibility timeout ends, so wait for replies that are on their way.
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
		sqs_pool_stop(qw);
	}
	if (hurry && !qw->stop.hurry)
	{
		qw->stop.hurry = true;
		qw->stop.polls_until = qw->now;
		if (qw->polling.full)
			qw->stop.polls_until += POLLS_GRACE_MS;
	}
}

/* The queue was enabled again before all its polls had ended. */
static void
go_on(QueueWorker *qw)
{
	qw->stopping = false;
	qw->stop.canceled = false;
	sqs_pool_go_on(qw);
	sqs_set_worker_state(SQS_WORKER_RUNNING);
	if (qw->attributes_known && qw->polling.failures == 0)
		sqs_queue_is_well(qw);
	else
		sqs_stats_set_state(qw->stats, qw->polling.failures > 0 ?
							SQS_QUEUE_BACKING_OFF : SQS_QUEUE_STARTING);
}

/* Release every message that does not run. */
static void
release_all(QueueWorker *qw)
{
	sqs_pool_stop(qw);
	sqs_waiting_release(qw);
}

/* One turn of stopping; true when there is nothing left to wait for. */
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

	if (qw->stop.hurry && qw->now >= qw->stop.polls_until)
		sqs_polling_abandon(qw);
	if (qw->polling.n > 0)
	{
		if (qw->stop.hurry)
			sqs_wake_at(qw, qw->stop.polls_until);
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
	if (qw->waiting.n + qw->holding.n > 0)
		release_all(qw);		/* messages that were put back since */

	/* do not wait for a standby that stalls: the inbox recognizes the message */
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
 * Settings of the database or of all roles must not affect a process that runs
 * as a superuser, and for which others wait.
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

	SetSessionAuthorization(GetAuthenticatedUserId(), true);
	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_OVERRIDE);
}

/* This worker exits normally, so its successor may start at once. */
static void
forget_start(SqsQueueStats *stats)
{
	stats->starts.failures = 0;
	stats->starts.next = 0;
}

/* Notice reloads, changes of the configuration and requests to stop. */
static void
look_around(QueueWorker *qw)
{
	uint64		newest;

	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		qw->reload.look_again = true;	/* the client depends on ca_file */
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
		/* nothing notifies us when a problem has been fixed */
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
		sqs_routes_try_now(qw);
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

/* Receive; but if the queue was out of slots, start a handler first. */
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

/* The parts of a turn. */
typedef struct Part
{
	void		(*run) (QueueWorker *qw);
	const char *what;
	int			failures;
	int64		next;			/* after a failure: not before */
} Part;

/* They run in this order. */
static Part parts[] = {
	{look_around, "looking for changes"},
	{call_clients, "talking to SQS"},
	{sqs_results_collect, "collecting results"},
	{sqs_pool_supervise, "supervising handlers"},
	{sqs_pace_turn, "measuring the pace"},
	{sqs_ack_flush, "making results durable"},
	{sqs_holding_turn, "taking up messages that were held"},
	{sqs_routes_turn, "giving back what a route that is held does not need"},
	{sqs_dispatch, "handing messages out"},
	{sqs_leases_renew, "renewing leases"},
	{sqs_leases_shrink, "returning memory"},
	{send_deletes, "deleting messages"},
	{send_releases, "releasing messages"},
	{sqs_marks_turn, "recording which messages are finished"},
	{receive, "receiving messages"},
};

/*
 * Run a part of the turn.  If it fails, the process goes on, because leases of
 * messages in hand must still be renewed or released.
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

/* Make the table of leases; exit if there is no shared memory for its copy. */
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

/* Set up everything.  Exits if the queue is gone, disabled or unusable. */
static QueueWorker *
begin_work(void)
{
	QueueWorker *qw = MemoryContextAllocZero(TopMemoryContext, sizeof(QueueWorker));

	qw->context = AllocSetContextCreate(TopMemoryContext, "sqsbridge queue worker",
										ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(qw->context);
	sqs_polling_init(qw);
	sqs_pace_init(qw);
	sqs_shared_clients_keep(sqs_shared_clients_room());
	sqs_shared_credentials_stay();
	qw->max_calls = Max(sqs_shared_clients_room() / 2, 1);
	qw->now = sqs_now_ms();
	qw->wall = sqs_wall_ms();
	qw->database = sqs_database_get(MyDatabaseId);
	qw->stats = sqs_stats_get(MyDatabaseId, MySlot->queue_id);
	if (qw->database == NULL || qw->stats == NULL)
		proc_exit(1);

	qw->reload.change = pg_atomic_read_u64(&qw->database->change);
	if (load_config(qw) == CONFIG_GONE)
		proc_exit(0);
	/* from now on a wait for a lock delays the renewal of leases */
	SetConfigOption("lock_timeout", "200ms", PGC_USERSET, PGC_S_OVERRIDE);
	SpinLockAcquire(&qw->stats->mutex);
	qw->stats->owner = qw->config->owner;
	SpinLockRelease(&qw->stats->mutex);
	make_leases(qw);
	sqs_waiting_init(qw);
	sqs_routes_init(qw);
	/* "starting" until it has a handler, if it has been out of slots */
	qw->pool.starved = qw->stats->state == SQS_QUEUE_NO_WORKER_SLOT;
	if (!qw->pool.starved)
		sqs_set_worker_state(SQS_WORKER_RUNNING);
	return qw;
}

/* The time since then, which becomes the current time (us). */
static int64
lap(instr_time *since)
{
	instr_time	now;
	instr_time	took;

	INSTR_TIME_SET_CURRENT(now);
	took = now;
	INSTR_TIME_SUBTRACT(took, *since);
	*since = now;
	return (int64) INSTR_TIME_GET_MICROSEC(took);
}

/*
 * Wait for something to do.  If the wait takes longer than its timeout, by either
 * clock, this process was frozen; see sqs_lease_add().
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

/* Entry point of the process. */
void
sqs_queue_worker_main(Datum arg)
{
	QueueWorker *qw;
	uint32		wait_event;
	instr_time	clock;
	int64		worked;

	sqs_worker_attach(arg);
	sqs_worker_signals();
	sqs_worker_connect(MySlot->dboid, InvalidOid, 0);
	wait_event = sqs_wait_event_new("SqsbridgeQueueWorker");
	override_settings();
	sqs_own_resources();
	qw = begin_work();

	INSTR_TIME_SET_CURRENT(clock);
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

		worked = lap(&clock);
		wait_for_something(qw, wait_event);
		qw->has_time = lap(&clock) >= worked / SPARE_SHARE;
	}

	sqs_marks_end(qw);
	sqs_pool_end(qw);
	sqs_shared_client_release(qw->shared_client);
	pg_atomic_write_u32(&qw->stats->in_flight, 0);
	if (!qw->pool.no_slot)
		forget_start(qw->stats);
	proc_exit(0);
}
