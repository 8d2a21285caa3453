/*-------------------------------------------------------------------------
 *
 * relay.c
 *	  The relay of the outbox: a part of the database worker.
 *
 * Rows go from the tables (relay_batches.c, relay_rows.c) into the Sender of
 * their queue, from there ten at a time to SQS (relay_send.c), and when SQS
 * has confirmed them they are deleted (relay_settle.c).  All queues of the
 * database are worked on at once by one process; each has its own back-off,
 * Sender and error boundary, so that none waits for another.
 *
 * Here is the turn: which of these is due, each in an error boundary of its
 * own (try_job), and when to come again.
 *
 * What wakes it: a commit with rows (the counter in the database's entry),
 * an answer of SQS, a time: of a row, of a back-off, of a linger.
 *
 * Failures.  A message that SQS refuses because of its contents goes to
 * sqs_outbox_failures, and so do those of a queue that is not registered any
 * more.  Everything else is tried again until it succeeds: a queue that does
 * not exist at AWS, or keys that are refused, are for a person to mend, and
 * nothing is lost meanwhile.
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

#define DELETE_ROWS			250 /* finished rows that are worth a turn, */
#define DELETE_LINGER_MS	5	/* or time after the first of them */
#define DISCONNECT_MS		60000	/* without anything to send */
#define SHORTAGE_OVER_MS	60000
#define STRANDED_WAIT_MS	60000	/* for a moment without requests, at most */

/* The work that takes a transaction. */
typedef enum RelayJob
{
	JOB_READ,
	JOB_DELETE,
	JOB_RECORD,
	JOB_FIND_STRANDED
} RelayJob;

static Relay *the_relay = NULL;

static Relay *
get_relay(void)
{
	if (the_relay == NULL)
		the_relay = sqs_relay_create(SQS_RELAY_REQUESTS);
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

/* A queue without rows is not the relay's concern. */
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

bool
sqs_relay_needs_config(void)
{
	return the_relay != NULL && the_relay->need_config;
}

/* ---- jobs ---- */

/*
 * Run one of the transactions in an error boundary.  Whatever is wrong with one
 * table, or with one queue's rows, only that waits.
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
						(errmsg("sqsbridge cannot look for lost rows of the outbox: %s", text)));
				break;
		}
	}
	PG_END_TRY();
	MemoryContextSwitchTo(relay->scratch);
}

/* All transactions that are due. */
static void
do_jobs(Relay *relay, bool stopping, int64 now)
{
	bool		idle = relay->nrequests == 0;
	bool		held = (relay->nheld > 0 || !dlist_is_empty(&relay->emptied)) &&
		now >= relay->holding.not_before;
	dlist_iter	iter;

	/* what is confirmed comes first: nothing may keep it from being deleted */
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

/* Ms until the queue has something to do, without anything happening. */
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

	/* who waits for a request of somebody else's to end is woken by that */
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

/* Start requests, queue by queue, and tell how the queues are. */
static void
send_all(Relay *relay, bool stopping, int64 now)
{
	dlist_iter	iter;

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

/* Ms until there is something to do, without anything happening. */
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
 * Look for stranded rows, if it is time, and no answer of SQS is waited for:
 * it may take long.  Ms until then.
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

bool
sqs_relay_turn(bool news, bool scan, bool stopping, long *timeout)
{
	Relay	   *relay = get_relay();
	int64		now = sqs_now_ms();
	MemoryContext old = MemoryContextSwitchTo(relay->scratch);

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
	if (!stopping)
		*timeout = Min(*timeout, look_for_stranded(relay, now));
	*timeout = Min(*timeout, relay_timeout(relay, stopping, now));
	MemoryContextSwitchTo(old);
	MemoryContextReset(relay->scratch);
	return relay->nrequests > 0 || relay->nconfirmed > 0;
}

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

	/* nothing is under way: this closes what is open */
	sqs_shared_clients_poll();
}
