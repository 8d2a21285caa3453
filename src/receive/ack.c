/*-------------------------------------------------------------------------
 *
 * ack.c
 *	  An acknowledgement never precedes durability.
 *
 * Handler transactions commit asynchronously and report their LSN.  Their
 * messages wait here, still leased, until WAL is flushed up to it.  One
 * XLogFlush() serves all of them: when there are ten, when the first has waited
 * for 20 ms, or when nothing is running that could add to them.  The queue
 * worker flushes, not the handlers, so that one flush serves all handlers of
 * the queue, and so that no finished message waits for a slow one that its
 * handler runs next.
 *
 * If synchronous standbys are configured, they must have flushed it, too.  We
 * do not wait for them, but look at their progress on every turn, while
 * heartbeats go on, however long a standby takes.
 *
 * Then the message is queued for deletion, ten to a call.  AWS bills calls, so
 * it lingers until there are ten (see linger_ms()), but not when the queue has
 * had nothing in hand for 100 ms, or stops.  The reply to a delete proves
 * nothing (SQS reports success for a stale receipt handle); if the message comes
 * back, the inbox recognizes it (unless the queue has exactly_once off).
 *
 * An entry that fails, or a call that fails although one that was sent later
 * has succeeded, is tried again after half a second, then twice as long each
 * time, without an effect on others.  When calls fail and no later one succeeds,
 * deletes of this queue pause, for half a second at first, then twice as long
 * each time, up to 10 s; then a single call tests whether they work again.  So
 * an outage costs the same few calls however many messages wait, and messages
 * gather in full batches meanwhile.  A message whose lease ends in such a pause
 * is given up; it will come back as a duplicate.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"

#include "base/queue_stats.h"
#include "receive/ack.h"
#include "receive/lease.h"
#include "receive/marks.h"

#define FLUSH_MESSAGES		10
#define FLUSH_DELAY_MS		20
#define STANDBY_TICK_MS		10
#define LINGER_MIN_MS		25
#define LINGER_MAX_MS		1000
#define QUIET_MS			100
#define DELETE_RETRY_MS		500
#define DELETE_RETRY_MAX_MS	10000
#define ANNOUNCE_ATTEMPTS	3	/* failures of an entry that are told */

/*
 * How long a message that is durable may wait for others to be deleted with it.
 * At ten messages a second a call is full after a second; with fewer, a longer
 * wait would save little.  The lease is not renewed meanwhile, and if it ended,
 * somebody else would get the message: at most a tenth of its length, and a
 * quarter of what is left of it, which leaves time for the call to be repeated.
 *
 * If the server crashes in this time, the message comes back and is recognized
 * by the inbox.  Without exactly_once it would be handled again, so that it is
 * deleted soon.  And so are messages of FIFO queues, because SQS holds back the
 * rest of the group until then.
 */
static int64
linger_ms(QueueWorker *qw, Lease *lease)
{
	int64		left = lease->until - qw->now;

	if (qw->stopping)
		return 0;
	if (!qw->config->exactly_once || qw->config->fifo)
		return Min(LINGER_MIN_MS, Max(left / 4, 0));
	return Max(Min(Min(LINGER_MAX_MS, (int64) qw->visibility * 100), left / 4), 0);
}

/*
 * The transaction of a message has committed.  The message may be deleted
 * when lsn is durable.
 */
void
sqs_ack_committed(QueueWorker *qw, Lease *lease, XLogRecPtr lsn)
{
	lease->state = LEASE_COMMITTED;
	lease->lsn = lsn;
	lease->since = qw->now;
	sqs_lease_mirror(qw, lease);
	lease->handler = NULL;
	lease->group = NULL;
	dlist_push_tail(&qw->ack.committed, &lease->node);
	qw->ack.ncommitted++;
}

/*
 * Flush WAL if it is time, and queue the messages for deletion whose WAL is
 * flushed, here and on synchronous standbys.
 */
void
sqs_ack_flush(QueueWorker *qw)
{
	XLogRecPtr	last = InvalidXLogRecPtr;
	XLogRecPtr	durable;
	dlist_mutable_iter iter;
	Lease	   *oldest;

	if (qw->ack.ncommitted == 0)
		return;

	oldest = dlist_head_element(Lease, node, &qw->ack.committed);
	if (qw->ack.ncommitted < FLUSH_MESSAGES && qw->handed > 0 && !sqs_is_leaving(qw) &&
		qw->now < oldest->since + FLUSH_DELAY_MS)
	{
		sqs_wake_at(qw, oldest->since + FLUSH_DELAY_MS);
		return;
	}

	/* not in order of LSN: several handlers report */
	dlist_foreach_modify(iter, &qw->ack.committed)
		last = Max(last, dlist_container(Lease, node, iter.cur)->lsn);
	XLogFlush(last);

	durable = sqs_standbys_flushed();
	dlist_foreach_modify(iter, &qw->ack.committed)
	{
		Lease	   *lease = dlist_container(Lease, node, iter.cur);

		if (lease->lsn > durable)
			continue;
		dlist_delete(&lease->node);
		qw->ack.ncommitted--;

		/* out of the lease table before the delete is queued */
		sqs_lease_stop_renewing(qw, lease);
		lease->state = LEASE_DELETING;
		lease->since = qw->now;
		lease->delete_by = qw->now + linger_ms(qw, lease);
		lease->not_before = 0;
		sqs_lease_mirror(qw, lease);
		dlist_push_tail(&qw->ack.deletes, &lease->node);
		qw->ack.ndeletes++;
	}
	if (qw->ack.ncommitted > 0)
		sqs_wake_at(qw, qw->now + STANDBY_TICK_MS);
}

/*
 * A delete call has ended: start, continue or end the pause of all deletes.
 * Returns whether it is alone with its failure, because one that was sent later
 * has succeeded; then the others go on.
 */
static bool
note_delete_call(QueueWorker *qw, const LeaseBatch *batch, const AwsError *error)
{
	bool		alone = error != NULL && qw->ack.succeeded > batch->sent_at;

	if (error == NULL)
		qw->ack.succeeded = Max(qw->ack.succeeded, batch->sent_at);
	/* a call that was sent before the failure proves nothing new */
	if (alone || (qw->ack.failures > 0 && batch->sent_at < qw->ack.failed_at))
		return alone;

	qw->ack.trial = false;
	if (error == NULL)
		qw->ack.failures = 0;
	else
	{
		qw->ack.failures++;
		qw->ack.failed_at = qw->now;
		qw->ack.next = qw->now +
			sqs_backoff_ms(qw->ack.failures, DELETE_RETRY_MS, DELETE_RETRY_MAX_MS);
	}
	return false;
}

/*
 * Can the deletion of a message that has failed be tried again?  Not once the
 * lease has ended: then it comes back and is recognized.
 */
static bool
may_delete_again(QueueWorker *qw, const Lease *lease, AwsErrorClass class)
{
	return class != AWS_ERROR_LEASE_LOST && class != AWS_ERROR_REQUEST &&
		!sqs_is_leaving(qw) && qw->now < lease->until;
}

/*
 * A DeleteMessageBatch has ended.  Entries that failed are retried while their
 * leases last; all others are freed.
 */
static void
delete_done(SqsCall *call, void *arg)
{
	LeaseBatch *batch = arg;
	QueueWorker *qw = batch->qw;
	const AwsError *error = sqs_call_error(call);
	uint64		acked = 0;
	char		text[SQS_ERROR_TEXT] = "";
	int			attempts = 0;
	long		delay = 0;
	bool		alone;
	bool		announce;

	qw->calls_open--;
	sqs_count_call(call, qw->stats);
	alone = note_delete_call(qw, batch, error);
	/* what is tried again, and others are not affected by, is counted only */
	announce = error != NULL && !alone;

	for (int i = 0; i < batch->n; i++)
	{
		Lease	   *lease = batch->leases[i];
		const SqsBatchEntry *entry = error == NULL ? sqs_call_entry(call, i) : NULL;

		if (entry != NULL && entry->ok)
		{
			acked++;
			sqs_marks_deleted(qw, lease);
			sqs_lease_free(qw, lease);
			continue;
		}

		sqs_count(qw->stats, SQS_DELETE_FAILURES, 1);
		if (text[0] == '\0')
			snprintf(text, sizeof(text), "%s: %s: %s",
					 error != NULL ? aws_error_action(error, "DeleteMessageBatch") : "DeleteMessageBatch",
					 error != NULL ? error->code : entry->code,
					 error != NULL ? error->message : entry->message);

		if (!may_delete_again(qw, lease, error != NULL ? error->class : entry->class))
		{
			announce = true;
			sqs_lease_free(qw, lease);
			continue;
		}
		/* one delay for entries with equal attempts, to keep them together */
		if ((error == NULL || alone) && ++lease->attempts != attempts)
		{
			attempts = lease->attempts;
			delay = sqs_backoff_ms(attempts, DELETE_RETRY_MS, DELETE_RETRY_MAX_MS);
		}
		lease->not_before = qw->now + delay;
		lease->delete_by = lease->not_before + LINGER_MIN_MS;
		announce = announce || lease->attempts >= ANNOUNCE_ATTEMPTS;
		dlist_push_tail(&qw->ack.deletes, &lease->node);
		qw->ack.ndeletes++;
	}

	sqs_count(qw->stats, SQS_ACKED, acked);
	if (acked > 0)
	{
		TimestampTz now = GetCurrentTimestamp();

		SpinLockAcquire(&qw->stats->mutex);
		qw->stats->last_success_at = now;
		SpinLockRelease(&qw->stats->mutex);
	}
	if (text[0] != '\0')
	{
		if (announce && sqs_stats_error(qw->stats, text))
			ereport(LOG,
					(errmsg("sqsbridge queue \"%s\": %s", qw->config->name, text)));
	}
	else if (qw->polling.failures == 0 && qw->cannot_run == 0 && !sqs_queue_is_held(qw))
		sqs_stats_clear_error(qw->stats);
	sqs_call_free(call);
	pfree(batch);
}

/*
 * Start a call for the oldest messages whose time has come, of which there is at
 * least one.  Returns how many they are.
 */
static int
start_delete(QueueWorker *qw)
{
	LeaseBatch *batch = MemoryContextAllocZero(qw->context, sizeof(LeaseBatch));
	SqsSlice	handles[SQS_MAX_BATCH];
	int64		lease_left = PG_INT64_MAX;
	dlist_iter	iter;

	batch->qw = qw;
	dlist_foreach(iter, &qw->ack.deletes)
	{
		Lease	   *lease = dlist_container(Lease, node, iter.cur);

		if (lease->not_before > qw->now)
			continue;
		lease_left = Min(lease_left, lease->until - qw->now);
		handles[batch->n] = lease->message->receipt_handle;
		batch->leases[batch->n++] = lease;
		if (batch->n == SQS_MAX_BATCH)
			break;
	}
	batch->sent_at = qw->now;
	sqs_start_delete_batch(qw->client, qw->queue_url, batch->n, handles,
						   sqs_is_leaving(qw) ? 1000 : Max(Min(lease_left, 15000), 2000),
						   3, delete_done, batch);
	qw->calls_open++;
	for (int i = 0; i < batch->n; i++)
		dlist_delete(&batch->leases[i]->node);
	qw->ack.ndeletes -= batch->n;
	return batch->n;
}

/* After a failure, one call at a time, and not before ack.next. */
void
sqs_ack_deletes(QueueWorker *qw, bool all)
{
	dlist_mutable_iter iter;
	int			ready = 0;
	int64		delete_by = PG_INT64_MAX;
	bool		flush;

	if (qw->waiting.n > 0 || qw->handed > 0 || qw->ack.ncommitted > 0)
		qw->ack.quiet_since = 0;
	else if (qw->ack.quiet_since == 0)
		qw->ack.quiet_since = qw->now;
	if (qw->ack.ndeletes == 0)
		return;

	dlist_foreach_modify(iter, &qw->ack.deletes)
	{
		Lease	   *lease = dlist_container(Lease, node, iter.cur);

		/* it will come back, and be recognized */
		if (qw->ack.failures > 0 && lease->until <= qw->now)
		{
			dlist_delete(&lease->node);
			qw->ack.ndeletes--;
			sqs_lease_free(qw, lease);
			continue;
		}
		if (lease->not_before > qw->now)
		{
			sqs_wake_at(qw, lease->not_before);
			continue;
		}
		ready++;
		delete_by = Min(delete_by, lease->delete_by);
	}
	if (qw->ack.quiet_since != 0)
		delete_by = Min(delete_by, qw->ack.quiet_since + QUIET_MS);
	/* after a failure the pause is what they wait for */
	if (qw->stopping || qw->ack.failures > 0)
		delete_by = qw->now;
	flush = all || qw->stopping ||
		(qw->ack.quiet_since != 0 && qw->now >= qw->ack.quiet_since + QUIET_MS);

	if (qw->ack.failures > 0 && !all && ready > 0)
	{
		if (qw->ack.trial)
			return;
		if (qw->now < qw->ack.next)
		{
			sqs_wake_at(qw, qw->ack.next);
			return;
		}
	}

	/* beyond so many calls they wait for one to end, in full batches */
	while ((ready >= SQS_MAX_BATCH ||
			(ready > 0 && (flush || qw->now >= delete_by))) &&
		   (all ? sqs_calls_room(qw) > 0 : qw->calls_open < qw->max_calls))
	{
		ready -= start_delete(qw);
		if (qw->ack.failures > 0 && !all)
		{
			qw->ack.trial = true;
			return;
		}
		/* the oldest are gone; look again at when the others must go */
		delete_by = qw->now + 1;
	}
	if (ready > 0 && qw->calls_open < qw->max_calls)
		sqs_wake_at(qw, delete_by);
}
