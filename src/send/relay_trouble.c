/*-------------------------------------------------------------------------
 *
 * relay_trouble.c
 *	  Failures of the relay: back-off, views and log.
 *
 * There are two kinds of failures.  Errors of a queue: SQS, the network or
 * the keys prevent sending.  The Sender does the back-off, and this file the
 * reporting.  Troubles of the relay itself: a table is locked, a row cannot
 * be read, there is no file descriptor.  Each has a RelayTrouble with a
 * back-off of its own while everything else goes on.  Both are shown in
 * sqs_stats_outbox, and the log gets one line when they start and one when
 * they are over.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/internal_tables.h"
#include "base/outbox_health.h"
#include "base/worker.h"
#include "send/relay_trouble.h"

/* Back-off for locks, where an attempt costs next to nothing. */
#define TROUBLE_MIN_MS		50
#define TROUBLE_MAX_MS		2000

/* Back-off for errors. */
#define ERROR_MIN_MS		500
#define ERROR_MAX_MS		60000

/* A lock is logged if it lasts for so long. */
#define ANNOUNCE_MS			1000

/* For a shortage of descriptors: pause, and requests that we keep anyway. */
#define SHORTAGE_MS			500
#define MIN_ALL_REQUESTS	4

/*
 * A queue cannot be sent to: show the text in the view.  "announce": log it,
 * too, unless it has been logged.  Does nothing if the queue has no
 * statistics.
 */
void
sqs_relay_queue_error(RelayQueue *queue, const char *text, bool announce)
{
	if (queue->stats == NULL)
		return;
	if (sqs_outbox_health_error(queue->stats, text, announce))
		ereport(LOG,
				(errmsg("sqsbridge cannot send from the outbox to queue \"%s\": %s",
						queue->config->name, text)));
}

/*
 * Something succeeded: if nothing else is wrong with the queue, end its
 * error in the view and in the log.
 */
void
sqs_relay_queue_well(Relay *relay, RelayQueue *queue)
{
	if (queue->stats == NULL || queue->sender == NULL || queue->gone ||
		!queue->config->can_send || queue->stranded > 0 ||
		queue->sender->failures > 0 || queue->sender->troubled > 0 ||
		queue->reading.failures > 0 || queue->recording.failures > 0 ||
		relay->reading.failures > 0 ||
		(relay->deleting.failures > 0 && queue->nconfirmed > 0) || queue->nheld > 0)
		return;
	if (sqs_outbox_health_well(queue->stats))
		ereport(LOG,
				(errmsg("sqsbridge sends from the outbox to queue \"%s\" again",
						queue->config->name)));
}

/* What a trouble prevents, for the log: the part after "cannot". */
static const char *
trouble_name(Relay *relay, RelayQueue *queue, RelayTrouble *trouble)
{
	if (trouble == &relay->reading)
		return "read the outbox";
	if (trouble == &relay->deleting || trouble == &relay->holding)
		return "delete messages that are sent from the outbox";
	if (trouble == &relay->shortage)
		return "open connections for the outbox";
	if (trouble == &queue->recording)
		return psprintf("record failed messages of queue \"%s\"",
						queue->config != NULL ? queue->config->name : psprintf("%d", queue->queue_id));
	return psprintf("read the outbox of queue \"%s\"",
					queue->config != NULL ? queue->config->name : psprintf("%d", queue->queue_id));
}

/* Does a trouble that is not of a single queue affect this one? */
static bool
trouble_concerns(Relay *relay, RelayQueue *queue, RelayTrouble *trouble)
{
	if (trouble == &relay->deleting)
		return queue->nconfirmed > 0;
	if (trouble == &relay->holding)
		return queue->nheld > 0;
	return true;
}

/*
 * Record a failed attempt of work, and set the time of the next one.
 * "queue" is the queue that it concerns; NULL means all queues that are
 * affected.  "locked": it failed because of a lock and is retried soon;
 * otherwise because of an error.  "text" says why.
 *
 * An error is logged at once, a lock if it lasts; neither is logged again
 * while the text is the same.
 */
void
sqs_relay_trouble(Relay *relay, RelayQueue *queue, RelayTrouble *trouble, bool locked,
				  const char *text, int64 now)
{
	dlist_iter	iter;

	if (trouble->failures++ == 0)
		trouble->since = now;
	trouble->last = now;
	if (strcmp(trouble->text, text) != 0)
	{
		strlcpy(trouble->text, text, sizeof(trouble->text));
		/* a text that is cut off would differ each time */
		if (strlen(text) < sizeof(trouble->text))
			trouble->announced = false;
	}
	trouble->not_before = now + (locked ?
								 sqs_backoff_ms(trouble->failures, TROUBLE_MIN_MS, TROUBLE_MAX_MS) :
								 sqs_backoff_ms(trouble->failures, ERROR_MIN_MS, ERROR_MAX_MS));

	if (queue != NULL && queue->stats != NULL)
		(void) sqs_outbox_health_error(queue->stats, text, false);
	else if (queue == NULL)
	{
		dlist_foreach(iter, &relay->queues)
		{
			RelayQueue *other = dlist_container(RelayQueue, node, iter.cur);

			if (other->stats != NULL && trouble_concerns(relay, other, trouble))
				(void) sqs_outbox_health_error(other->stats, text, false);
		}
	}
	if (!trouble->announced && (!locked || now >= trouble->since + ANNOUNCE_MS))
	{
		trouble->announced = true;
		ereport(LOG,
				(errmsg("sqsbridge cannot %s: %s", trouble_name(relay, queue, trouble), text)));
	}
}

/* The work has succeeded.  Does nothing if there was no trouble. */
void
sqs_relay_trouble_over(Relay *relay, RelayQueue *queue, RelayTrouble *trouble)
{
	dlist_iter	iter;

	if (trouble->failures == 0)
		return;
	if (trouble->announced)
		ereport(LOG,
				(errmsg("sqsbridge can %s again", trouble_name(relay, queue, trouble))));
	memset(trouble, 0, sizeof(*trouble));
	if (queue != NULL)
		sqs_relay_queue_well(relay, queue);
	else
	{
		dlist_foreach(iter, &relay->queues)
			sqs_relay_queue_well(relay, dlist_container(RelayQueue, node, iter.cur));
	}
}

/*
 * In PG_CATCH: abort the transaction and return the text of the error, in
 * the scratch context, which is also the current context then.  The relay's
 * memory needs no repair, because all functions that can raise an ERROR
 * leave it consistent.
 */
char *
sqs_relay_recover(Relay *relay)
{
	ErrorData  *edata;
	char	   *text;

	MemoryContextSwitchTo(relay->scratch);
	edata = CopyErrorData();
	HOLD_INTERRUPTS();
	AbortOutOfAnyTransaction();
	FlushErrorState();
	RESUME_INTERRUPTS();
	MemoryContextSwitchTo(relay->scratch);
	sqs_own_resources();
	text = edata->detail != NULL ? psprintf("%s: %s", edata->message, edata->detail) :
		pstrdup(edata->message);
	FreeErrorData(edata);
	return text;
}

/*
 * A request failed for lack of file descriptors: pause all new requests
 * briefly, and limit their number to those that are under way.
 */
void
sqs_relay_note_shortage(Relay *relay, RelayQueue *queue, const AwsError *error, int64 now)
{
	relay->max_requests = Max(Min(relay->nrequests, relay->max_requests), MIN_ALL_REQUESTS);
	if (queue->stats != NULL)
		(void) sqs_outbox_health_error(queue->stats, error->message, false);
	relay->shortage.last = now;
	relay->shortage.not_before = now + SHORTAGE_MS;
	if (relay->shortage.failures++ > 0)
		return;
	relay->shortage.since = now;
	relay->shortage.announced = true;
	ereport(LOG,
			(errmsg("sqsbridge cannot open connections for the outbox: %s", error->message),
			 errdetail("Messages wait until a connection can be opened."),
			 errhint("Increase max_files_per_process, or the operating system's limit of open files.")));
}

/*
 * Get the entry for the statistics of the queue, if it has work and none
 * yet.  There may be no room for one; it is tried again after
 * SQS_RELAY_STATS_RETRY_MS.
 */
void
sqs_relay_find_stats(RelayQueue *queue, int64 now)
{
	if (queue->stats != NULL || queue->gone || now < queue->stats_at || !sqs_relay_has_work(queue))
		return;
	queue->stats = sqs_stats_get(MyDatabaseId, queue->queue_id);
	queue->stats_at = now + SQS_RELAY_STATS_RETRY_MS;
}

/*
 * Show the state of a queue in the view, and the time of the next attempt
 * while it backs off.  That time is not known while a request is under way,
 * or if the trouble is not of the queue itself.
 */
void
sqs_relay_report_state(Relay *relay, RelayQueue *queue, int64 now)
{
	Sender	   *sender = queue->sender;
	SqsOutboxState state;
	bool		troubled;
	long		next = 0;

	if (queue->stats == NULL)
		return;
	pg_atomic_write_u32(&queue->stats->outbox_in_flight, sender->under_way);
	troubled = queue->reading.failures > 0 || queue->recording.failures > 0 ||
		relay->reading.failures > 0 || queue->nheld > 0 ||
		(relay->deleting.failures > 0 && queue->nconfirmed > 0) ||
		(now < relay->shortage.last + 2 * SHORTAGE_MS && sender->under_way == 0);
	if (!sqs_relay_has_work(queue))
		state = SQS_OUTBOX_IDLE;
	else if (!queue->config->enabled && sender->under_way == 0)
		state = SQS_OUTBOX_DISABLED;
	else if (troubled || queue->stranded > 0 || sender->failures > 0 ||
			 sqs_sender_is_held_up(sender) ||
			 (!queue->config->can_send && sender->under_way == 0))
		state = SQS_OUTBOX_BACKING_OFF;
	else
		state = SQS_OUTBOX_SENDING;
	if (state == SQS_OUTBOX_BACKING_OFF && !troubled && sender->requests == 0 &&
		queue->url_call == NULL)
	{
		if (sender->waiting > 0)
			next = Max(sqs_sender_next_time(sender, now) - now, 0);
		else
			next = Max(sender->paused_until - now, 0);
	}
	sqs_outbox_health_set(queue->stats, state, next);
}

/*
 * Report stranded rows, which are not sent until somebody calls
 * sqs_adopt_queues().  Nothing is said about the rows of a copied queue: its
 * configuration has the problem already.
 */
void
sqs_relay_report_stranded(Relay *relay)
{
	dlist_iter	iter;

	relay->any_stranded = false;
	dlist_foreach(iter, &relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);
		const char *text;

		if (queue->stranded == 0)
		{
			if (queue->told_stranded != 0)
				sqs_relay_queue_well(relay, queue);
			queue->told_stranded = 0;
			continue;
		}
		relay->any_stranded = true;
		if (queue->gone && queue->told_stranded != queue->stranded)
			ereport(LOG,
					(errmsg("messages of %lld transactions wait in the outbox for queue %d, which is not registered, and have no records in %s.outbox_batches",
							(long long) queue->stranded, queue->queue_id, SQS_INTERNAL_SCHEMA),
					 errhint("A superuser can have them recorded as failed by calling sqs_adopt_queues('send').")));
		else if (!queue->gone && queue->config == NULL)
		{
			/* its configuration is not known yet */
			relay->stranded_at = sqs_now_ms() + SQS_RELAY_STATS_RETRY_MS;
			continue;
		}
		queue->told_stranded = queue->stranded;

		/* everything of a copy is stranded, and its problem says so */
		if (queue->gone || queue->config->is_copy)
			continue;
		sqs_relay_find_stats(queue, queue->stats_at);
		text = psprintf("messages of %lld transactions were restored, or have lost their records in %s.outbox_batches; a superuser can have them sent by calling sqs_adopt_queues('send')",
						(long long) queue->stranded, SQS_INTERNAL_SCHEMA);
		sqs_relay_queue_error(queue, text, true);
	}
}
