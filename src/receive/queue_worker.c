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
 * that were committed are recognised by the inbox.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "base/databases.h"
#include "base/extension.h"
#include "base/queue_stats.h"
#include "base/settings.h"
#include "config/fdw.h"
#include "config/keys.h"
#include "receive/queue_worker.h"

#define POLL_BACKOFF_MIN_MS		500
#define POLL_BACKOFF_MAX_MS		60000
#define POLL_MARGIN_MS			10000	/* beyond the wait, the hard deadline */
#define EMPTY_PAUSE_MS			500 /* between polls that bring nothing */
#define SETUP_DEADLINE_MS		15000
#define DEFAULT_VISIBILITY		30	/* SQS's own default, if it won't tell */
#define IDLE_WAKE_MS			10000
#define LOAD_RETRY_MIN_MS		1000
#define LOAD_RETRY_MAX_MS		10000
#define RELENT_MS				1000	/* between looks whether to stop still */
#define STOP_HARD_MS			500 /* from cancel to SIGTERM */
#define STOP_LAST_MS			1500	/* from cancel to leaving in any case */
#define PART_RETRY_MIN_MS		100
#define PART_RETRY_MAX_MS		1000	/* leases have to be renewed */

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

void
sqs_queue_is_well(QueueWorker *qw)
{
	sqs_stats_clear_error(qw->stats);
	if (sqs_stats_set_state(qw->stats, SQS_QUEUE_POLLING))
		ereport(LOG,
				(errmsg("sqsbridge queue \"%s\" is polling", qw->config->name)));
}

/*
 * In a PG_CATCH(): get over the error, whose message is copied to "text".
 */
void
sqs_queue_catch(QueueWorker *qw, char *text, size_t size)
{
	ErrorData  *edata;

	MemoryContextSwitchTo(qw->context);
	edata = CopyErrorData();
	strlcpy(text, edata->message, size);
	FreeErrorData(edata);
	HOLD_INTERRUPTS();
	LWLockReleaseAll();
	AbortOutOfAnyTransaction();
	FlushErrorState();
	QueryCancelPending = false;
	RESUME_INTERRUPTS();
	MemoryContextSwitchTo(qw->context);
	sqs_own_resources();
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
config_unreadable(QueueWorker *qw, const char *why)
{
	if (qw->load_failures++ == 0)
		ereport(LOG,
				(errmsg("sqsbridge queue \"%s\" cannot read its configuration and goes on with the one it has: %s",
						qw->config->name, why)));
	qw->next_load = qw->now + sqs_backoff_ms(qw->load_failures, LOAD_RETRY_MIN_MS, LOAD_RETRY_MAX_MS);
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
		qw->has_problem = config != NULL && config->problem != NULL;
		if (qw->has_problem)
		{
			sqs_stats_set_state(qw->stats, SQS_QUEUE_ERROR);
			sqs_stats_error(qw->stats, config->problem);
		}
		sqs_wipe_keys(&keys);
		MemoryContextDelete(fresh);
		qw->load_failures = 0;
		qw->next_load = 0;
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
	qw->load_failures = 0;
	qw->next_load = 0;
	qw->has_problem = false;

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
	TimestampTz next_at;

	snprintf(text, sizeof(text), "%s: %s: %s%s%s", action, error->code, error->message,
			 error->request_id[0] ? " (request id " : "", error->request_id);
	if (error->request_id[0])
		strlcat(text, ")", sizeof(text));

	sqs_count(qw->stats, SQS_POLL_FAILURES, 1);
	if (qw->stopping)
		return;
	qw->poll_failures++;
	qw->failed_at = qw->now;
	delay = sqs_backoff_ms(qw->poll_failures, POLL_BACKOFF_MIN_MS, POLL_BACKOFF_MAX_MS);
	qw->next_poll = qw->now + delay;
	sqs_queue_error(qw, SQS_QUEUE_BACKING_OFF, text);
	next_at = sqs_ms_to_timestamp(qw, qw->next_poll);
	SpinLockAcquire(&qw->stats->mutex);
	qw->stats->next_poll_at = next_at;
	SpinLockRelease(&qw->stats->mutex);
}

static void
url_done(SqsCall *call, void *arg)
{
	QueueWorker *qw = arg;
	const AwsError *error = sqs_call_error(call);

	qw->setup_call = NULL;
	sqs_count_call(call, qw->stats);
	if (error != NULL)
		setup_failed(qw, "GetQueueUrl", error);
	else
	{
		qw->queue_url = MemoryContextStrdup(qw->context, sqs_call_queue_url(call));
		qw->poll_failures = 0;
	}
	sqs_call_free(call);
}

/* The queue's own visibility timeout is known, or will not be told: poll. */
static void
attributes_done(SqsCall *call, void *arg)
{
	QueueWorker *qw = arg;
	const AwsError *error = sqs_call_error(call);
	int			own = -1;

	qw->setup_call = NULL;
	sqs_count_call(call, qw->stats);
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
	 * The length of the lease is named in every receive, so that it is
	 * known.  A queue with a timeout of 0 s lends nothing; it gets 1 s.
	 */
	if (qw->config->visibility_timeout > 0)
		qw->visibility = qw->config->visibility_timeout;
	else
		qw->visibility = own >= 0 ? Max(own, 1) : DEFAULT_VISIBILITY;
	qw->attributes_known = true;
	qw->poll_failures = 0;
	sqs_queue_is_well(qw);
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

/*
 * A poll has ended.  What it brought goes into the table of leases, which own
 * the reply from then on; a failure begins or goes on with a back-off.
 */
static void
receive_done(SqsCall *call, void *arg)
{
	QueueWorker *qw = the_worker;
	Poll	   *poll = arg;
	const AwsError *error = sqs_call_error(call);
	int			asked = poll->asked;
	int			n;
	Reply	   *reply;
	TimestampTz received_at;

	poll->call = NULL;
	qw->npolls--;
	qw->asked -= asked;
	sqs_count_call(call, qw->stats);

	if (error != NULL)
	{
		/*
		 * Several polls that were open when the trouble began are one step
		 * of the back-off, not one each.  Nor does the end of a poll that was
		 * made with other keys, or while this worker leaves, say anything.
		 */
		if (qw->stopping || poll->client != qw->client ||
			(qw->poll_failures > 0 && poll->started_at <= qw->failed_at))
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
			sqs_queue_is_well(qw);
	}
	received_at = GetCurrentTimestamp();
	SpinLockAcquire(&qw->stats->mutex);
	qw->stats->last_receive_at = received_at;
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
		poll->client = qw->client;
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

/* Polls are not waited for any more.  What they bring is lost to us. */
static void
abandon_polls(QueueWorker *qw)
{
	qw->hurry = true;
	for (int i = 0; i < SQS_MAX_POLLS; i++)
	{
		if (qw->polls[i].call == NULL)
			continue;
		sqs_count_call(qw->polls[i].call, qw->stats);
		sqs_call_abandon(qw->polls[i].call);
		qw->polls[i].call = NULL;
	}
	qw->npolls = 0;
	qw->asked = 0;
}

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
		qw->stop_at = qw->now + sqs_shutdown_timeout;
		sqs_set_worker_state(SQS_WORKER_STOPPING);
		if (!qw->no_slot && !qw->has_problem)
			sqs_stats_set_state(qw->stats, SQS_QUEUE_STOPPING);
		sqs_handout_take_back(qw);
	}
	if (hurry && !qw->hurry)
		abandon_polls(qw);
}

/* The queue was enabled again before all its polls had ended. */
static void
go_on(QueueWorker *qw)
{
	qw->stopping = false;
	qw->canceled = false;
	sqs_set_worker_state(SQS_WORKER_RUNNING);
	if (qw->attributes_known && qw->poll_failures == 0)
		sqs_queue_is_well(qw);
	else
		sqs_stats_set_state(qw->stats, qw->poll_failures > 0 ?
							SQS_QUEUE_BACKING_OFF : SQS_QUEUE_STARTING);
}

/* One turn of leaving; true when there is nothing left to wait for. */
static bool
stop_turn(QueueWorker *qw)
{
	bool		busy;

	if (qw->now >= qw->stop_at && !qw->canceled)
	{
		qw->canceled = true;
		sqs_handout_cancel(qw, false);
	}
	if (qw->now >= qw->stop_at + STOP_HARD_MS)
		sqs_handout_cancel(qw, true);

	if (qw->npolls > 0)
	{
		/* they have deadlines of their own */
		if (qw->handed > 0)
			sqs_wake_at(qw, qw->canceled ? qw->now + 100 : qw->stop_at);
		return false;
	}
	if (!qw->letting_go)
	{
		qw->letting_go = true;
		qw->last_at = Max(qw->stop_at, qw->now) + STOP_LAST_MS;
		sqs_handout_release(qw);
		sqs_wake_at(qw, qw->now);
		return false;
	}
	if (qw->nwaiting > 0)
		sqs_handout_release(qw);	/* put back since then */

	/* a standby that stalls is not waited for: the inbox knows the message */
	if (qw->handed == 0)
	{
		dlist_mutable_iter iter;

		dlist_foreach_modify(iter, &qw->committed)
		{
			dlist_delete(iter.cur);
			qw->ncommitted--;
			sqs_lease_release(qw, dlist_container(Lease, node, iter.cur), 0);
		}
	}
	busy = qw->handed > 0 || qw->nreleases > 0 || qw->ndeletes > 0 ||
		qw->calls_open > 0;
	if (!busy || qw->now >= qw->last_at)
		return true;
	sqs_wake_at(qw, qw->canceled ? qw->now + 100 : qw->stop_at);
	sqs_wake_at(qw, qw->last_at);
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
		qw->look_again = true;	/* the client was made with some of it */
	}

	if (ShutdownRequestPending || qw->no_slot || sqs_database_is_blocked(MyDatabaseId))
	{
		begin_stop(qw, true);
		return;
	}
	if (qw->letting_go)
		return;
	if (qw->now < qw->next_load)
	{
		sqs_wake_at(qw, qw->next_load);
		return;
	}

	newest = pg_atomic_read_u64(&qw->database->change);
	if (qw->stopping)
	{
		/* nobody says when a problem goes away */
		if (qw->now >= qw->last_load + RELENT_MS)
			qw->look_again = true;
		else
			sqs_wake_at(qw, qw->last_load + RELENT_MS);
	}
	if (newest != qw->change || qw->look_again || qw->load_failures > 0 ||
		(qw->cannot_run > 0 && qw->paused_until > 0 && qw->now >= qw->paused_until))
	{
		ConfigLoad	load = load_config(qw);

		qw->last_load = qw->now;
		if (load == CONFIG_UNREADABLE)
			return;
		qw->change = newest;
		qw->look_again = false;
		qw->paused_until = 0;
		if (load == CONFIG_GONE)
			begin_stop(qw, false);
		else if (qw->stopping && !qw->hurry)
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
	if (qw->starved)
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
	else if (sqs_marks_begin(qw))
		start_polls(qw);

	/* a long poll is shown as soon as it has been sent */
	for (int i = 0; i < SQS_MAX_POLLS; i++)
		if (qw->polls[i].call != NULL)
			sqs_count_call(qw->polls[i].call, qw->stats);
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
	{sqs_handout_collect, "collecting results"},
	{sqs_handout_supervise, "supervising handlers"},
	{sqs_ack_flush, "making results durable"},
	{sqs_handout_dispatch, "handing messages out"},
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
		sqs_leases_init(qw);
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
	qw->width = 1;
	qw->visibility = DEFAULT_VISIBILITY;
	qw->now = sqs_now_ms();
	qw->wall = sqs_wall_ms();
	qw->database = sqs_database_get(MyDatabaseId);
	qw->stats = sqs_stats_get(MyDatabaseId, MySlot->queue_id);
	if (qw->database == NULL || qw->stats == NULL)
		proc_exit(1);

	qw->change = pg_atomic_read_u64(&qw->database->change);
	if (load_config(qw) == CONFIG_GONE)
		proc_exit(0);
	/* from now on there are leases to renew meanwhile */
	SetConfigOption("lock_timeout", "200ms", PGC_USERSET, PGC_S_OVERRIDE);
	SpinLockAcquire(&qw->stats->mutex);
	qw->stats->owner = qw->config->owner;
	SpinLockRelease(&qw->stats->mutex);
	make_leases(qw);
	sqs_handout_init(qw);
	/* "starting" until it has a handler, if it has been out of slots */
	qw->starved = qw->stats->state == SQS_QUEUE_NO_WORKER_SLOT;
	if (!qw->starved)
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
	the_worker = qw = begin_work();

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
	sqs_handout_end(qw);
	sqs_shared_client_release(qw->shared_client);
	pg_atomic_write_u32(&qw->stats->in_flight, 0);
	if (!qw->no_slot)
		forget_start(qw->stats);
	proc_exit(0);
}
