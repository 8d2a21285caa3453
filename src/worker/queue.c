/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  One process per enabled queue with a handler: polls SQS, holds the
 *	  leases, hands messages out, acknowledges.  It runs no code of users.
 *
 * An event loop over one latch and the AWS client's file descriptor.  No
 * transaction, snapshot or lock is held while it waits; transactions are
 * opened only to read the configuration, at start and after a change.
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
 *	stopping		disabled, dropped, changed, blocked or shut down: no new
 *					receives; running handlers have shutdown_timeout, then
 *					they are cancelled; what is not done is made visible
 *
 * Polling widens and narrows: one receive is open while the queue is idle; a
 * full reply allows one more in parallel, up to what the handlers can take;
 * an empty one goes back to one, and is not followed by another within half a
 * second, should it not have waited.  Nothing SQS or the network do ends this
 * process: a failed poll is repeated after 0.5 s .. 60 s, for ever.
 *
 * If it dies, its handlers see the channel detach and leave after their
 * current message; its leases run out; the messages come back, and those
 * that were committed are recognised by the inbox.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "sqsbridge.h"
#include "worker/queue_worker.h"

#define POLL_BACKOFF_MIN_MS		500
#define POLL_BACKOFF_MAX_MS		60000
#define POLL_MARGIN_MS			10000	/* beyond the wait, the hard deadline */
#define EMPTY_PAUSE_MS			500 /* between polls that bring nothing */
#define SETUP_DEADLINE_MS		15000
#define DEFAULT_VISIBILITY		30	/* SQS's own default, if it won't tell */
#define IDLE_WAKE_MS			10000
#define LOAD_RETRY_MIN_MS		1000
#define LOAD_RETRY_MAX_MS		10000
#define STOP_HARD_MS			500 /* from cancel to SIGTERM */
#define STOP_LAST_MS			1500	/* from cancel to leaving all the same */

TimestampTz
sqs_ms_to_timestamp(QueueWorker *qw, int64 ms)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms - qw->now);
}

/* A new state with its reason; one log line when either changes. */
void
sqs_queue_error(QueueWorker *qw, SqsQueueState state, const char *text)
{
	bool		news = sqs_stats_error(qw->stats, text);

	if (sqs_stats_set_state(qw->stats, state) || news)
		ereport(LOG,
				(errmsg("sqsbridge queue \"%s\": %s", qw->config->name, text),
				 errdetail("The queue's state is \"%s\".", sqs_queue_state_name(state))));
}

static void
queue_is_well(QueueWorker *qw)
{
	sqs_stats_clear_error(qw->stats);
	if (sqs_stats_set_state(qw->stats, SQS_QUEUE_POLLING))
		ereport(LOG,
				(errmsg("sqsbridge queue \"%s\" is polling", qw->config->name)));
}

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
config_unreadable(QueueWorker *qw, MemoryContext fresh)
{
	ErrorData  *edata;

	MemoryContextSwitchTo(fresh);
	edata = CopyErrorData();
	HOLD_INTERRUPTS();
	AbortOutOfAnyTransaction();
	FlushErrorState();
	RESUME_INTERRUPTS();
	MemoryContextSwitchTo(qw->context);
	sqs_own_resources();

	if (qw->load_failures++ == 0)
		ereport(LOG,
				(errmsg("sqsbridge queue \"%s\" cannot read its configuration and goes on with the one it has: %s",
						qw->config->name, edata->message)));
	qw->next_load = qw->now + sqs_backoff_ms(qw->load_failures, LOAD_RETRY_MIN_MS, LOAD_RETRY_MAX_MS);
	MemoryContextDelete(fresh);
}

/*
 * Read the queue's configuration.  This worker has to go if the queue is gone
 * or disabled, or talks to another place than before.
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
	uint64		place;
	static MemoryContext current = NULL;
	bool		first = qw->config == NULL;

	PG_TRY();
	{
		sqs_begin();
		MemoryContextSwitchTo(fresh);
		if (OidIsValid(sqs_extension_oid()))
			loaded = sqs_catalog_queue(MySlot->queue_id);
		if (loaded != NULL && loaded->problem == NULL)
			(void) sqs_catalog_keys(loaded->owner, loaded->server, &keys);
		sqs_commit();
	}
	PG_CATCH();
	{
		sqs_wipe_keys(&keys);
		if (first)
			PG_RE_THROW();		/* the supervisor tries again */
		config_unreadable(qw, fresh);
		return CONFIG_UNREADABLE;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(qw->context);
	config = loaded;
	qw->load_failures = 0;
	qw->next_load = 0;

	if (config == NULL || !config->enabled || config->handler == NULL ||
		config->problem != NULL)
	{
		if (config != NULL && config->problem != NULL && qw->stats != NULL)
		{
			sqs_stats_set_state(qw->stats, SQS_QUEUE_ERROR);
			sqs_stats_error(qw->stats, config->problem);
		}
		sqs_wipe_keys(&keys);
		MemoryContextDelete(fresh);
		return CONFIG_GONE;
	}

	place = sqs_fingerprint_text(sqs_connection_fingerprint(config, &keys),
								 config->queue_name);
	if (!first && (place != qw->keys_fingerprint || config->owner != qw->config->owner))
	{
		sqs_wipe_keys(&keys);
		MemoryContextDelete(fresh);
		return CONFIG_GONE;
	}

	if (first)
	{
		qw->keys_fingerprint = place;
		if (!sqs_connect(&qw->connection, config, &keys, 0, &error))
		{
			qw->config = config;
			sqs_wipe_keys(&keys);
			sqs_queue_error(qw, SQS_QUEUE_ERROR, error.message);
			proc_exit(1);
		}
		qw->client = qw->connection.client;
	}
	sqs_wipe_keys(&keys);

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

/* ---- finding the queue ---- */

static void
setup_failed(QueueWorker *qw, const char *action, const AwsError *error)
{
	char		text[SQS_ERROR_TEXT];
	long		delay;

	snprintf(text, sizeof(text), "%s: %s: %s%s%s", action, error->code, error->message,
			 error->request_id[0] ? " (request id " : "", error->request_id);
	if (error->request_id[0])
		strlcat(text, ")", sizeof(text));

	qw->poll_failures++;
	qw->failed_at = qw->now;
	sqs_count(qw->stats, SQS_POLL_FAILURES, 1);
	delay = sqs_backoff_ms(qw->poll_failures, POLL_BACKOFF_MIN_MS, POLL_BACKOFF_MAX_MS);
	qw->next_poll = qw->now + delay;
	sqs_queue_error(qw, SQS_QUEUE_BACKING_OFF, text);
	SpinLockAcquire(&qw->stats->mutex);
	qw->stats->next_poll_at = sqs_ms_to_timestamp(qw, qw->next_poll);
	SpinLockRelease(&qw->stats->mutex);
}

static void
url_done(SqsCall *call, void *arg)
{
	QueueWorker *qw = arg;
	const AwsError *error = sqs_call_error(call);

	qw->setup_call = NULL;
	if (error != NULL)
		setup_failed(qw, "GetQueueUrl", error);
	else
	{
		qw->queue_url = MemoryContextStrdup(qw->context, sqs_call_queue_url(call));
		qw->poll_failures = 0;
	}
	sqs_call_free(call);
}

static void
attributes_done(SqsCall *call, void *arg)
{
	QueueWorker *qw = arg;
	const AwsError *error = sqs_call_error(call);
	int			own = -1;

	qw->setup_call = NULL;
	if (error != NULL)
	{
		/* the right to receive does not include the right to look */
		if (error->class != AWS_ERROR_CONFIGURATION)
		{
			setup_failed(qw, "GetQueueAttributes", error);
			sqs_call_free(call);
			return;
		}
		ereport(LOG,
				(errmsg("sqsbridge queue \"%s\" cannot read its attributes: %s: %s",
						qw->config->name, error->code, error->message),
				 errdetail("A visibility timeout of %d s is asked for unless the queue's option says otherwise.",
						   DEFAULT_VISIBILITY)));
	}
	else
		own = sqs_call_queue_attributes(call)->visibility_timeout;

	/*
	 * The lease is always asked for in so many words, so that its length is
	 * known.  A queue with a timeout of 0 s lends nothing; it gets 1 s.
	 */
	if (qw->config->visibility_timeout > 0)
		qw->visibility = qw->config->visibility_timeout;
	else
		qw->visibility = own >= 0 ? Max(own, 1) : DEFAULT_VISIBILITY;
	qw->attributes_known = true;
	qw->poll_failures = 0;
	queue_is_well(qw);
	sqs_call_free(call);
}

static void
find_queue(QueueWorker *qw)
{
	if (qw->setup_call != NULL)
		return;
	if (qw->now < qw->next_poll)
	{
		sqs_wake_at(qw, qw->next_poll);
		return;
	}
	if (qw->queue_url == NULL && strstr(qw->config->queue_name, "://") != NULL)
		qw->queue_url = MemoryContextStrdup(qw->context, qw->config->queue_name);

	if (qw->queue_url == NULL)
		qw->setup_call = sqs_start_get_queue_url(qw->client, qw->config->queue_name,
												 SETUP_DEADLINE_MS, 1, url_done, qw);
	else
		qw->setup_call = sqs_start_get_queue_attributes(qw->client, qw->queue_url,
														SETUP_DEADLINE_MS, 1,
														attributes_done, qw);
}

/* ---- polling ---- */

/* The one there is in this process: receives know only their poll. */
static QueueWorker *the_worker = NULL;

static void
receive_done(SqsCall *call, void *arg)
{
	QueueWorker *qw = the_worker;
	Poll	   *poll = arg;
	const AwsError *error = sqs_call_error(call);
	int			asked = poll->asked;
	int			n;
	Reply	   *reply;

	poll->call = NULL;
	qw->npolls--;
	qw->asked -= asked;

	if (error != NULL)
	{
		/*
		 * Several polls that were open when the trouble began are one step
		 * of the back-off, not one each.
		 */
		if (qw->poll_failures > 0 && poll->started_at <= qw->failed_at)
			sqs_count(qw->stats, SQS_POLL_FAILURES, 1);
		else
			setup_failed(qw, "ReceiveMessage", error);
		qw->width = 1;
		/* deleted, or made anew under another URL? */
		if (error->class == AWS_ERROR_NO_QUEUE &&
			strstr(qw->config->queue_name, "://") == NULL)
			qw->queue_url = NULL;
		sqs_call_free(call);
		return;
	}

	n = sqs_call_nmessages(call);
	/* a receive from before the failure does not say that it is over */
	if (poll->started_at >= qw->failed_at &&
		(qw->poll_failures > 0 || qw->stats->state != SQS_QUEUE_POLLING))
	{
		qw->poll_failures = 0;
		if (!qw->stopping && qw->paused_until <= qw->now &&
			(qw->nhandlers > 0 || qw->start_failures == 0))
			queue_is_well(qw);
	}
	SpinLockAcquire(&qw->stats->mutex);
	qw->stats->last_receive_at = GetCurrentTimestamp();
	SpinLockRelease(&qw->stats->mutex);

	if (n == 0)
	{
		/* it need not have waited: with a wait_time of 0, or not SQS's own */
		qw->width = 1;
		qw->next_poll = Max(qw->next_poll, poll->started_at + EMPTY_PAUSE_MS);
		sqs_call_free(call);
		return;
	}
	if (n >= asked && qw->width < SQS_MAX_POLLS)
		qw->width++;

	sqs_count(qw->stats, SQS_RECEIVED, n);
	pg_atomic_fetch_add_u64(&MySlot->messages, n);
	reply = MemoryContextAlloc(qw->context, sizeof(Reply));
	reply->call = call;
	reply->leases = 1;			/* ours, until all are in */
	reply->memory = sqs_call_memory(call);
	qw->memory += reply->memory;
	if (qw->mean_size == 0)
		qw->mean_size = (double) reply->memory / n;
	else
		qw->mean_size += ((double) reply->memory / n - qw->mean_size) / 8;

	for (int i = 0; i < n; i++)
	{
		Lease	   *lease = sqs_lease_add(qw, reply, sqs_call_message(call, i),
										poll->visibility);

		if (lease == NULL)
			break;				/* more than was asked for: left to time out */
		if (qw->stopping)
			sqs_lease_release(qw, lease, 0);
		else
			sqs_handout_accept(qw, lease);
	}
	if (--reply->leases == 0)
	{
		qw->memory -= reply->memory;
		sqs_call_free(call);
		pfree(reply);
	}
}

/* Open as many receives as are wanted. */
static void
start_polls(QueueWorker *qw)
{
	int			want;
	int			room;

	if (qw->stopping)
		return;
	if (qw->now < qw->next_poll || qw->now < qw->paused_until)
	{
		sqs_wake_at(qw, Max(qw->next_poll, qw->paused_until));
		return;
	}

	want = sqs_handout_capacity(qw) - qw->asked;
	room = qw->nfree - qw->asked;
	want = Min(want, room);

	while (qw->npolls < qw->width && want > 0)
	{
		Poll	   *poll = NULL;
		int			n = Min(want, qw->config->batch_size);

		/*
		 * Beyond the first, a poll for less than a batch costs more than it
		 * brings; wait until there is room for a whole one.
		 */
		if (qw->npolls > 0 && n < qw->config->batch_size)
			break;
		if (qw->memory + (qw->asked + n) * qw->mean_size >
			(double) sqs_max_in_flight_memory * 1024 && qw->nleases > 0)
			break;

		for (int i = 0; i < SQS_MAX_POLLS && poll == NULL; i++)
			if (qw->polls[i].call == NULL)
				poll = &qw->polls[i];
		if (poll == NULL)
			break;
		poll->asked = n;
		poll->visibility = qw->visibility;
		poll->started_at = qw->now;
		poll->call = sqs_start_receive(qw->client, qw->queue_url, n,
									   qw->config->wait_time, qw->visibility,
									   (long) qw->config->wait_time * 1000 + POLL_MARGIN_MS,
									   receive_done, poll);
		qw->npolls++;
		qw->asked += n;
		want -= n;
	}
}

/* ---- leaving ---- */

static void
begin_stop(QueueWorker *qw)
{
	qw->stopping = true;
	qw->stop_at = qw->now + sqs_shutdown_timeout;
	sqs_set_worker_state(SQS_WORKER_STOPPING);
	if (!qw->no_slot)
		sqs_stats_set_state(qw->stats, SQS_QUEUE_STOPPING);

	/*
	 * Polls end before anything is released: SQS would hand it to them.  A
	 * message that is on its way in a reply just now is lost to us until its
	 * visibility timeout is over; waiting out the polls would take 20 s.
	 */
	for (int i = 0; i < SQS_MAX_POLLS; i++)
	{
		if (qw->polls[i].call == NULL)
			continue;
		sqs_call_abandon(qw->polls[i].call);
		qw->polls[i].call = NULL;
	}
	qw->npolls = 0;
	qw->asked = 0;
	sqs_handout_stop(qw);
}

/* One turn of leaving; true when there is nothing left to wait for. */
static bool
stop_turn(QueueWorker *qw)
{
	bool		busy = qw->handed > 0 || qw->nreleases > 0 || qw->ndeletes > 0 ||
		qw->calls_open > 0;

	/* a standby that stalls is not waited for: the inbox knows the message */
	if (qw->handed == 0 && qw->ncommitted > 0)
	{
		dlist_mutable_iter iter;

		dlist_foreach_modify(iter, &qw->committed)
		{
			dlist_delete(iter.cur);
			qw->ncommitted--;
			sqs_lease_release(qw, dlist_container(Lease, node, iter.cur), 0);
		}
		busy = true;
	}
	if (!busy)
		return true;

	if (qw->now >= qw->stop_at && !qw->cancelled)
	{
		qw->cancelled = true;
		sqs_handout_cancel(qw, false);
	}
	if (qw->now >= qw->stop_at + STOP_HARD_MS)
		sqs_handout_cancel(qw, true);
	if (qw->now >= qw->stop_at + STOP_LAST_MS)
		return true;
	sqs_wake_at(qw, qw->cancelled ? qw->now + 100 : qw->stop_at);
	return false;
}

/* ---- the process ---- */

/* The next worker for this queue need not wait: this one leaves as it should. */
static void
forget_start(SqsQueueStats *stats)
{
	stats->starts.failures = 0;
	stats->starts.next = 0;
}

void
sqs_queue_worker_main(Datum arg)
{
	QueueWorker *qw;
	SqsDatabase *database;
	uint32		wait_event;
	uint64		change;
	char	   *ca_file;

	sqs_worker_attach(arg);
	sqs_worker_signals();
	BackgroundWorkerInitializeConnectionByOid(MySlot->dboid, InvalidOid, 0);
	wait_event = sqs_wait_event_new("SqsbridgeQueueWorker");
	SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_OVERRIDE);
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_OVERRIDE);
	sqs_own_resources();

	database = sqs_database_get(MyDatabaseId);
	if (database == NULL)
		proc_exit(1);

	the_worker = qw = MemoryContextAllocZero(TopMemoryContext, sizeof(QueueWorker));
	qw->context = AllocSetContextCreate(TopMemoryContext, "sqsbridge queue worker",
										ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(qw->context);
	qw->width = 1;
	qw->visibility = DEFAULT_VISIBILITY;
	qw->now = sqs_now_ms();
	qw->stats = sqs_stats_get(MyDatabaseId, MySlot->queue_id);
	if (qw->stats == NULL)
		proc_exit(1);

	change = pg_atomic_read_u64(&database->change);
	if (load_config(qw) == CONFIG_GONE)
		proc_exit(0);
	/* from now on there are leases to renew meanwhile */
	SetConfigOption("lock_timeout", "200ms", PGC_USERSET, PGC_S_OVERRIDE);
	SpinLockAcquire(&qw->stats->mutex);
	qw->stats->owner = qw->config->owner;
	SpinLockRelease(&qw->stats->mutex);
	sqs_leases_init(qw);
	sqs_handout_init(qw);
	ca_file = pstrdup(sqs_ca_file);
	/* "starting" until it has a handler, if it has been out of slots */
	qw->starved = qw->stats->state == SQS_QUEUE_NO_WORKER_SLOT;
	if (!qw->starved)
		sqs_set_worker_state(SQS_WORKER_RUNNING);

	for (;;)
	{
		long		timeout;
		long		client_timeout;
		int			rc;

		CHECK_FOR_INTERRUPTS();
		qw->now = sqs_now_ms();
		qw->wake_at = qw->now + IDLE_WAKE_MS;

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			/* the client was made with it: the next worker makes another */
			if (strcmp(ca_file, sqs_ca_file) != 0 && !qw->stopping)
				begin_stop(qw);
		}
		if (!qw->stopping)
		{
			uint64		newest = pg_atomic_read_u64(&database->change);
			bool		look_again = qw->cannot_run > 0 && qw->paused_until > 0 &&
				qw->now >= qw->paused_until;

			if (ShutdownRequestPending || qw->no_slot || sqs_database_is_blocked(MyDatabaseId))
				begin_stop(qw);
			else if (qw->now < qw->next_load)
				sqs_wake_at(qw, qw->next_load);
			else if (newest != change || look_again || qw->load_failures > 0)
			{
				ConfigLoad	load = load_config(qw);

				if (load != CONFIG_UNREADABLE)
				{
					change = newest;
					qw->paused_until = 0;
				}
				if (load == CONFIG_GONE)
					begin_stop(qw);
			}
		}

		sqs_client_poll(qw->client);
		sqs_handout_collect(qw);
		sqs_handout_supervise(qw);
		sqs_ack_flush(qw);
		sqs_handout_dispatch(qw);
		sqs_leases_renew(qw);
		sqs_ack_deletes(qw, qw->stopping);
		sqs_leases_flush_releases(qw, qw->stopping);

		if (qw->stopping)
		{
			if (stop_turn(qw))
				break;
		}
		else if (qw->starved)
		{
			if (sqs_handout_prepare(qw))
			{
				qw->starved = false;
				sqs_set_worker_state(SQS_WORKER_RUNNING);
				sqs_wake_at(qw, qw->now);
			}
		}
		else if (!qw->attributes_known || qw->queue_url == NULL)
			find_queue(qw);
		else
			start_polls(qw);

		sqs_count_calls(&qw->connection, qw->stats);

		timeout = (long) Max(qw->wake_at - sqs_now_ms(), 0);
		client_timeout = sqs_client_timeout(qw->client);
		if (client_timeout >= 0)
			timeout = Min(timeout, client_timeout);

		rc = WaitLatchOrSocket(MyLatch,
							   WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							   sqs_client_fd(qw->client), timeout, wait_event);
		if (rc & WL_LATCH_SET)
			ResetLatch(MyLatch);
	}

	sqs_count_calls(&qw->connection, qw->stats);
	sqs_handout_end(qw);
	sqs_disconnect(&qw->connection);
	pg_atomic_write_u32(&qw->stats->in_flight, 0);
	if (!qw->no_slot)
		forget_start(qw->stats);
	proc_exit(0);
}
