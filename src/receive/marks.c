/*-------------------------------------------------------------------------
 *
 * marks.c
 *	  Which messages of a queue are finished, for the inbox.
 *
 * This is the queue worker's part of what src/README describes under "How long
 * the inbox remembers".  A message gets a stamp when it is handed out; stamps
 * only grow.  It is unresolved until one of these is known:
 *
 *	- it was not run, or its handler has reported that it was rolled back;
 *	- SQS has confirmed its deletion while we had its lease.  (Without the
 *	  lease a confirmation means nothing: for a stale receipt handle SQS
 *	  reports success, too, and deletes nothing.)
 *
 * A message that is given up before that is in doubt.  The low water is the
 * least unresolved stamp; it is written once a minute, together with the doubts
 * that it has passed.  If that fails, the mark in the table is out of date, and
 * the inbox keeps more than it needs to; that is all.
 *
 * The cost per message is one clock reading and two list operations.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "receive/inbox_marks.h"
#include "receive/marks.h"

#define WRITE_INTERVAL_MS	60000
#define RETRY_MIN_MS		1000
#define RETRY_MAX_MS		60000

/* Static, because a queue worker has one queue. */
static bool mark_is_open = false;	/* messages may be handed out */
static TimestampTz last_stamp = 0;
static TimestampTz written = 0; /* low water of the mark in the table */
static dlist_head unresolved = DLIST_STATIC_INIT(unresolved);	/* leases, by stamp */
static SqsDoubt doubts[SQS_MAX_DOUBTS + 1]; /* not in the table yet */
static int	ndoubts = 0;
static int	failures = 0;		/* consecutive failures to write */
static int64 next_write = 0;	/* ms, monotonic */

/* What to do in a transaction; returns false if a table is locked. */
typedef bool (*MarksAction) (QueueWorker *qw);

/*
 * Run an action in a short transaction of its own.  Returns NULL, or why it
 * failed; next_write says when to retry.  The whole action is repeated, even if
 * part of it was written: to write a doubt twice does no harm.
 */
static const char *
in_transaction(QueueWorker *qw, MarksAction action)
{
	MemoryContext context = CurrentMemoryContext;
	const char *volatile why = NULL;
	static char text[SQS_ERROR_TEXT - 64];	/* there is more before it */

	PG_TRY();
	{
		sqs_begin();
		if (!action(qw))
			why = "a table is locked";
		sqs_commit();
	}
	PG_CATCH();
	{
		sqs_queue_catch(qw, text, sizeof(text));
		why = text;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);

	failures = why == NULL ? 0 : failures + 1;
	next_write = qw->now + (why == NULL ? WRITE_INTERVAL_MS :
							sqs_backoff_ms(failures, RETRY_MIN_MS, RETRY_MAX_MS));
	return why;
}

/*
 * The last stamp of this worker's predecessor is in shared memory, because its
 * handlers may still run, and commit rows with its stamps.  After a restart of
 * the server there are no such handlers.
 */
static bool
begin(QueueWorker *qw)
{
	TimestampTz before = (TimestampTz) pg_atomic_read_u64(&qw->stats->last_stamp);

	return sqs_inbox_begin(qw->config->queue_id, qw->config->dedup_retention,
						   before, &last_stamp);
}

/*
 * Make sure that there is an open mark.  Until then no message may be handed
 * out.  Returns false if it could not be written: the queue's error says
 * why, and a later call tries again.
 */
bool
sqs_marks_begin(QueueWorker *qw)
{
	const char *why;
	char		message[SQS_ERROR_TEXT];

	if (mark_is_open)
		return true;
	if (qw->now < next_write)
	{
		sqs_wake_at(qw, next_write);
		return false;
	}
	why = in_transaction(qw, begin);
	if (why != NULL)
	{
		snprintf(message, sizeof(message), "cannot record what is handled: %s", why);
		sqs_queue_error(qw, SQS_QUEUE_ERROR, message);
		sqs_wake_at(qw, next_write);
		return false;
	}
	mark_is_open = true;
	written = last_stamp + 1;
	return true;
}

/* The least unresolved stamp, or the next one to be given. */
static TimestampTz
low_water(void)
{
	if (dlist_is_empty(&unresolved))
		return last_stamp + 1;
	return dlist_head_element(Lease, stamp_node, &unresolved)->stamp;
}

static bool
write_open_mark(QueueWorker *qw)
{
	return sqs_doubts_write(qw->config->queue_id, doubts, ndoubts) &&
		sqs_mark_write(qw->config->queue_id, qw->config->dedup_retention, low_water(), true);
}

/* Nothing is unresolved, so the next worker need not doubt anything. */
static bool
write_last_mark(QueueWorker *qw)
{
	return sqs_doubts_write(qw->config->queue_id, doubts, ndoubts) &&
		sqs_mark_write(qw->config->queue_id, qw->config->dedup_retention, low_water(), false);
}

/* Write the mark, and the doubts that it passes; log the first failure. */
static void
write_mark(QueueWorker *qw, MarksAction action)
{
	bool		news = failures == 0;
	const char *why = in_transaction(qw, action);

	if (why == NULL)
	{
		written = low_water();
		ndoubts = 0;
	}
	else if (news)
		ereport(LOG,
				(errmsg("sqsbridge queue \"%s\" cannot record which messages are deleted: %s",
						qw->config->name, why),
				 errdetail("The inbox keeps its rows, and this will be retried.")));
}

/* Called every turn: write the mark once a minute, if it has changed. */
void
sqs_marks_turn(QueueWorker *qw)
{
	if (!mark_is_open || qw->now < next_write)
		return;
	next_write = qw->now + WRITE_INTERVAL_MS;
	if (ndoubts > 0 || low_water() != written)
		write_mark(qw, write_open_mark);
}

/* An open mark, which is left if anything is unresolved, makes the next worker doubt it. */
void
sqs_marks_end(QueueWorker *qw)
{
	if (!mark_is_open)
		return;
	if (dlist_is_empty(&unresolved))
		write_mark(qw, write_last_mark);
	else if (ndoubts > 0 || low_water() != written)
		write_mark(qw, write_open_mark);
	mark_is_open = false;
}

/* ---- stamps ---- */

/* Stamps grow, even if the clock is set back. */
TimestampTz
sqs_marks_stamp(QueueWorker *qw, Lease *lease)
{
	Assert(mark_is_open);
	if (lease->stamp != 0)
		return lease->stamp;
	last_stamp = Max(last_stamp + 1, GetCurrentTimestamp());
	pg_atomic_write_u64(&qw->stats->last_stamp, (uint64) last_stamp);
	lease->stamp = last_stamp;
	lease->deletion_counts = true;
	dlist_push_tail(&unresolved, &lease->stamp_node);
	return lease->stamp;
}

/* The message is resolved: it does not hold back the low water any more. */
static void
resolve(Lease *lease)
{
	dlist_delete(&lease->stamp_node);
	lease->stamp = 0;
}

/*
 * A message was not run, or its handler has reported that it was rolled
 * back: it is resolved.
 */
void
sqs_marks_not_done(QueueWorker *qw, Lease *lease)
{
	if (lease->stamp != 0)
		resolve(lease);
}

/*
 * The lease is lost, so a confirmed deletion of the message proves nothing.
 */
void
sqs_marks_lease_lost(QueueWorker *qw, Lease *lease)
{
	lease->deletion_counts = false;
}

/* Reads the clocks anew, because this process may have been frozen in this turn. */
void
sqs_marks_deleted(QueueWorker *qw, Lease *lease)
{
	if (lease->stamp != 0 && lease->deletion_counts &&
		sqs_now_ms() < lease->fence.uptime && sqs_wall_ms() < lease->fence.wall)
		resolve(lease);
}

/*
 * The lease is given up.  If the message is unresolved, it is in doubt now.
 */
void
sqs_marks_let_go(QueueWorker *qw, Lease *lease)
{
	SqsDoubt   *doubt;

	if (lease->stamp == 0)
		return;
	doubt = &doubts[ndoubts++];
	doubt->from = doubt->to = lease->stamp;
	doubt->keep_until = Max(GetCurrentTimestamp(), lease->stamp) + SQS_MESSAGE_LIFE;
	resolve(lease);
	if (ndoubts > SQS_MAX_DOUBTS)
		sqs_doubts_join(doubts, &ndoubts, SQS_MAX_DOUBTS);
}
