/*-------------------------------------------------------------------------
 *
 * relay.c
 *	  The relay of the outbox, a part of the database worker: its main
 *	  function.
 *
 * The relay reads rows from the tables (relay_batches.c, relay_rows.c) into
 * the Sender of their queue, sends them in batches of up to ten
 * (relay_send.c), and deletes them when SQS has confirmed them
 * (relay_settle.c).  One process serves all queues of the database
 * concurrently.  Each queue has a Sender, a back-off and an error boundary
 * of its own, so no queue waits for another.
 *
 * This file decides what is due in a turn, runs each transaction in an error
 * boundary (try_job), and computes when the next turn is due.  The database
 * worker calls it when rows have been committed, when SQS has answered, and
 * at the time that the last turn asked for.
 *
 * A message that SQS refuses because of its content is moved to
 * outbox_failures, and so are the messages of queues that are no longer
 * registered.  Everything else is retried until it succeeds.  If, for
 * example, the queue does not exist at AWS or the keys are refused, somebody
 * has to correct that; nothing is lost in the meantime.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/worker.h"
#include "config/connect.h"
#include "send/relay.h"
#include "send/relay_batches.h"
#include "send/relay_room.h"
#include "send/relay_rows.h"
#include "send/relay_send.h"
#include "send/relay_settle.h"
#include "send/relay_trouble.h"

/* Finished rows are deleted when there are so many, or after this time. */
#define DELETE_ROWS			250
#define DELETE_LINGER_MS	5

/* The relay has time to spare if it waits an eighth as long as it works. */
#define SPARE_SHARE			8

/* A queue without rows keeps its client for this long. */
#define DISCONNECT_MS		60000

/* A shortage of descriptors is over when it has not recurred for this long. */
#define SHORTAGE_OVER_MS	60000

/* Longest wait for a moment without requests to look for stranded rows. */
#define STRANDED_WAIT_MS	60000

/* Kinds of work that need a transaction. */
typedef enum RelayJob
{
	JOB_READ,
	JOB_DELETE,
	JOB_RECORD,
	JOB_FIND_STRANDED
} RelayJob;

static Relay *the_relay = NULL;

/* The relay of this process, created if there is none. */
static Relay *
get_relay(void)
{
	if (the_relay == NULL)
		the_relay = sqs_relay_create();
	return the_relay;
}

/* ---- configuration ---- */

static int
compare_ids(const void *a, const void *b)
{
	int32		left = (*(SqsQueueConfig *const *) a)->queue_id;
	int32		right = (*(SqsQueueConfig *const *) b)->queue_id;

	return (left > right) - (left < right);
}

/*
 * Take over the configuration of the queues, a list of SqsQueueConfig.  The
 * relay keeps copies of what it needs.  A queue without rows is ignored;
 * when it gets some, sqs_relay_needs_config() asks for this call.  Needs a
 * transaction.  After an ERROR, reset the relay.
 */
void
sqs_relay_configure(List *queues)
{
	Relay	   *relay = get_relay();
	int			n = list_length(queues);
	SqsQueueConfig **sorted = palloc(sizeof(SqsQueueConfig *) * Max(n, 1));
	dlist_mutable_iter iter;

	for (int i = 0; i < n; i++)
		sorted[i] = list_nth(queues, i);
	qsort(sorted, n, sizeof(SqsQueueConfig *), compare_ids);

	dlist_foreach_modify(iter, &relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);
		SqsQueueConfig key = {.queue_id = queue->queue_id};
		SqsQueueConfig *wanted = &key;
		SqsQueueConfig **config = bsearch(&wanted, sorted, n, sizeof(SqsQueueConfig *), compare_ids);

		if (config != NULL)
			sqs_relay_configure_queue(relay, queue, *config);
		else
		{
			sqs_relay_queue_is_gone(relay, queue);
			sqs_relay_forget_queue_if_done(relay, queue);
		}
	}
	relay->need_config = false;
	pfree(sorted);
}

/*
 * Has the relay found rows of a queue whose configuration it does not have?
 */
bool
sqs_relay_needs_config(void)
{
	return the_relay != NULL && the_relay->need_config;
}

/* ---- jobs ---- */

/*
 * Run a transaction in an error boundary.  An error is recorded as the
 * trouble of the queue or the kind of work that it hit, which is retried
 * later; everything else goes on.  "queue" is used by JOB_RECORD only.
 */
static void
try_job(Relay *relay, RelayJob job, RelayQueue *queue, int64 now)
{
	PG_TRY();
	{
		switch (job)
		{
			case JOB_READ:
				sqs_relay_read_rows(relay, now);
				break;
			case JOB_DELETE:
				sqs_relay_delete_confirmed(relay, now);
				break;
			case JOB_RECORD:
				sqs_relay_record_refused(relay, queue, now);
				break;
			case JOB_FIND_STRANDED:
				sqs_relay_find_stranded(relay, now);
				sqs_relay_report_stranded(relay);
				break;
		}
	}
	PG_CATCH();
	{
		char	   *text = sqs_relay_recover(relay);

		switch (job)
		{
			case JOB_READ:
				if (relay->current != NULL)
					sqs_relay_trouble(relay, relay->current, &relay->current->reading, false, text, now);
				else
				{
					relay->scan = true;
					sqs_relay_trouble(relay, NULL, &relay->reading, false, text, now);
				}
				relay->current = NULL;
				break;
			case JOB_DELETE:
				sqs_relay_trouble(relay, NULL, &relay->deleting, false, text, now);
				break;
			case JOB_RECORD:
				queue->one_by_one = true;
				sqs_relay_trouble(relay, queue, &queue->recording, false, text, now);
				break;
			case JOB_FIND_STRANDED:
				relay->stranded_at = now + STRANDED_WAIT_MS;
				ereport(LOG,
						(errmsg("sqsbridge cannot look for stranded rows of the outbox: %s", text)));
				break;
		}
	}
	PG_END_TRY();
	MemoryContextSwitchTo(relay->scratch);
}

/* Is nothing under way, and nothing waiting to be? */
static bool
is_quiet(Relay *relay)
{
	dlist_iter	iter;

	if (relay->nrequests > 0)
		return false;
	dlist_foreach(iter, &relay->queues)
	{
		const RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);

		if (queue->sender != NULL && queue->sender->waiting > 0)
			return false;
	}
	return true;
}

/* Run all transactions that are due. */
static void
do_jobs(Relay *relay, bool stopping, int64 now)
{
	bool		idle = is_quiet(relay);
	bool		held = (relay->nheld > 0 || !dlist_is_empty(&relay->emptied)) &&
		now >= relay->holding.not_before;
	dlist_iter	iter;

	/* confirmed rows first: nothing may keep them from being deleted */
	if (now >= relay->deleting.not_before &&
		(held || relay->nconfirmed >= DELETE_ROWS ||
		 (relay->nconfirmed > 0 &&
		  (idle || now >= relay->confirmed_since + DELETE_LINGER_MS))))
		try_job(relay, JOB_DELETE, NULL, now);

	dlist_foreach(iter, &relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);

		if (queue->nrefused > 0 && now >= queue->recording.not_before &&
			(idle || queue->nrefused >= DELETE_ROWS ||
			 now >= queue->refused_since + DELETE_LINGER_MS))
			try_job(relay, JOB_RECORD, queue, now);
		if (sqs_relay_is_to_restart(queue, now))
			sqs_relay_restart_queue(relay, queue);
	}

	if (!stopping && now >= relay->reading.not_before &&
		(relay->news || !relay->scanned || (relay->scan && now >= relay->scan_not_before) ||
		 (now >= relay->standby_at && sqs_relay_wants_rows(relay, now))))
		try_job(relay, JOB_READ, NULL, now);
	if (relay->out_of_room)
		sqs_relay_make_room(relay, now);
}

/* ---- the turn ---- */

/*
 * Time in ms until the queue has something to do, if nothing happens before.
 */
static long
queue_timeout(Relay *relay, RelayQueue *queue, int64 now, bool stopping)
{
	long		timeout = 10000;
	Sender	   *sender = queue->sender;

	if (queue->nrefused > 0)
		timeout = Min(timeout, Max(Max(queue->refused_since + DELETE_LINGER_MS,
									   queue->recording.not_before) - now, 0));
	if (stopping)
		return timeout;
	if (sqs_relay_is_to_restart(queue, now))
		return 0;
	if (queue->gone || sender == NULL)
		return timeout;

	/* if other queues have all requests, the end of one wakes us up */
	if (sender->waiting > 0 && queue->config->enabled && queue->config->can_send &&
		queue->url_call == NULL && !queue->reconnect)
	{
		if (sqs_relay_may_start(relay, queue, now))
			timeout = Min(timeout, Max(sqs_sender_next_time(sender, now) - now, 0));
		else if (now < relay->shortage.not_before)
			timeout = Min(timeout, relay->shortage.not_before - now);
	}
	if (sqs_relay_has_work(queue) && sender->waiting == 0)
	{
		if (now < queue->reading.not_before)
			timeout = Min(timeout, queue->reading.not_before - now);
		if (now < sender->paused_until)
			timeout = Min(timeout, sender->paused_until - now);
	}
	if (queue->next_due != DT_NOEND && sqs_relay_may_read(queue, now) &&
		sqs_relay_has_room(relay, queue) && sqs_relay_runs_low(queue))
		timeout = Min(timeout, Max(TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
																   queue->next_due),
								   relay->standby_at - now));
	return timeout;
}

/* Start requests, queue by queue, and report the state of each queue. */
static void
send_all(Relay *relay, bool stopping, int64 now)
{
	dlist_iter	iter;
	int			active = 0;

	dlist_foreach(iter, &relay->queues)
	{
		Sender	   *sender = dlist_container(RelayQueue, node, iter.cur)->sender;

		active += sender != NULL && (sender->waiting > 0 || sender->requests > 0);
	}
	relay->alone = active <= 1;
	relay->unserved = NULL;
	if (relay->shortage.failures > 0 && now > relay->shortage.last + SHORTAGE_OVER_MS)
		sqs_relay_trouble_over(relay, NULL, &relay->shortage);
	dlist_foreach(iter, &relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);

		if (queue->sender == NULL)
			continue;
		sqs_relay_find_stats(queue, now);
		if (!stopping)
			sqs_relay_send(relay, queue, now);
		if (queue->sender == NULL)
			continue;
		sqs_relay_report_state(relay, queue, now);
		if (queue->nitems > 0)
			queue->idle_since = now;
		else if (queue->shared != NULL && queue->url_call == NULL &&
				 now > queue->idle_since + DISCONNECT_MS)
			sqs_relay_disconnect(queue);
	}
	while (relay->unserved != NULL && dlist_head_node(&relay->queues) != &relay->unserved->node)
		dlist_push_tail(&relay->queues, dlist_pop_head_node(&relay->queues));
}

/*
 * Time in ms until the relay has something to do, if nothing happens before.
 */
static long
relay_timeout(Relay *relay, bool stopping, int64 now)
{
	long		timeout = 10000;
	long		clients = sqs_shared_clients_timeout();
	dlist_iter	iter;

	dlist_foreach(iter, &relay->queues)
		timeout = Min(timeout, queue_timeout(relay, dlist_container(RelayQueue, node, iter.cur),
											 now, stopping));
	if (clients >= 0)
		timeout = Min(timeout, clients);
	if (relay->nconfirmed > 0)
		timeout = Min(timeout, Max(Max(relay->confirmed_since + DELETE_LINGER_MS,
									   relay->deleting.not_before) - now, 0));
	if (relay->nheld > 0 || !dlist_is_empty(&relay->emptied))
		timeout = Min(timeout, Max(Max(relay->holding.not_before,
									   relay->deleting.not_before) - now, 0));
	if (!stopping && (relay->news || !relay->scanned || sqs_relay_wants_rows(relay, now)))
		timeout = Min(timeout, Max(Max(relay->reading.not_before,
									   relay->news ? 0 : relay->standby_at) - now, 0));
	return timeout;
}

/*
 * Look for stranded rows, if that is due.  It can take long, so it waits for
 * a moment in which no request is under way, but not forever.  Returns the
 * time in ms until it is due.
 */
static long
look_for_stranded(Relay *relay, int64 now)
{
	int64		due = Max(relay->stranded_at, relay->stranded_not_before);

	if (!relay->scanned || now < relay->reading.not_before)
		return 10000;
	if (now < due)
		return Min(due - now, 10000);
	if (relay->nrequests == 0 || now >= relay->stranded_at + STRANDED_WAIT_MS)
		try_job(relay, JOB_FIND_STRANDED, NULL, now);
	return 10000;
}

/*
 * See whether there was time to spare before this turn, and what limits the
 * number of requests now.
 */
static void
begin_turn(Relay *relay)
{
	instr_time	since;
	int			limit;

	INSTR_TIME_SET_CURRENT(relay->turn_began);
	since = relay->turn_began;
	INSTR_TIME_SUBTRACT(since, relay->turn_ended);
	relay->waited = INSTR_TIME_GET_MICROSEC(since) >= relay->turn_us / SPARE_SHARE;
	limit = sqs_relay_request_limit();
	if (limit != relay->request_limit)
		relay->request_limit = relay->max_requests = limit;
}

/* Note how long the turn has taken. */
static void
end_turn(Relay *relay)
{
	instr_time	took;

	INSTR_TIME_SET_CURRENT(relay->turn_ended);
	took = relay->turn_ended;
	INSTR_TIME_SUBTRACT(took, relay->turn_began);
	relay->turn_us = INSTR_TIME_GET_MICROSEC(took);
}

/*
 * Do all that is due, without waiting.
 *
 * "news": rows may have been committed since the last turn.  "scan": look at
 * all batches.  "stopping": finish what is under way and start nothing new.
 * Lowers *timeout (ms) to the time until the next turn is due.  Returns true
 * while requests are under way or confirmed rows are not deleted yet.  After
 * an ERROR, reset the relay.
 */
bool
sqs_relay_turn(bool news, bool scan, bool stopping, long *timeout)
{
	Relay	   *relay = get_relay();
	int64		now = sqs_now_ms();
	MemoryContext old = MemoryContextSwitchTo(relay->scratch);

	begin_turn(relay);
	sqs_shared_clients_poll();
	relay->news = relay->news || news;
	relay->scan = relay->scan || scan;
	if (scan && relay->any_stranded)
		relay->stranded_at = Min(relay->stranded_at, now);
	do_jobs(relay, stopping, now);
	if (relay->obsolete)
	{
		MemoryContextSwitchTo(old);
		sqs_relay_reset();
		*timeout = 0;
		return false;
	}

	now = sqs_now_ms();
	send_all(relay, stopping, now);
	sqs_shared_clients_start();
	if (!stopping)
		*timeout = Min(*timeout, look_for_stranded(relay, now));
	*timeout = Min(*timeout, relay_timeout(relay, stopping, now));
	MemoryContextSwitchTo(old);
	MemoryContextReset(relay->scratch);
	end_turn(relay);
	return relay->nrequests > 0 || relay->nconfirmed > 0;
}

/*
 * Is no row waiting to be sent, now or later?  A relay that has not yet
 * looked at the tables is not idle.
 */
bool
sqs_relay_is_idle(void)
{
	dlist_iter	iter;

	if (the_relay == NULL)
		return true;
	if (!the_relay->scanned || the_relay->nrequests > 0)
		return false;
	dlist_foreach(iter, &the_relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);

		if (sqs_relay_has_work(queue) || queue->next_due != DT_NOEND)
			return false;
	}
	return true;
}

/*
 * Forget everything that is in memory, except which rows SQS has confirmed.
 * Requests under way are abandoned, and the next turn starts with a new
 * relay.  Used after an error that may have left the memory inconsistent,
 * and at exit.
 */
void
sqs_relay_reset(void)
{
	Relay	   *relay = the_relay;
	dlist_iter	iter;

	if (relay == NULL)
		return;
	the_relay = NULL;
	sqs_relay_remember_confirmed(relay);
	dlist_foreach(iter, &relay->queues)
		sqs_relay_abandon_requests(dlist_container(RelayQueue, node, iter.cur));
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextDelete(relay->context);

	/* with nothing under way, this closes the connections */
	sqs_shared_clients_poll();
}
