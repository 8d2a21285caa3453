/*-------------------------------------------------------------------------
 *
 * handout.c
 *	  Handler workers, message groups, and who gets what next.
 *
 * Standard queues: a message goes to the handler with the least to do.
 * FIFO queues: a message group is with one handler at a time, its messages
 * sent in order; groups run in parallel.  A group's messages in one handler
 * are a chain: when one fails the handler itself skips the rest of the
 * chain, because the next may be in its ring already, and they are released.
 *
 * So that quick handlers never wait for this process, a handler is given
 * about 10 ms of work ahead, by the measured time of a message.  If its
 * current message takes longer than that promised, what waits behind it is
 * taken back and goes to others.
 *
 * Handlers are started when there is work that the running ones cannot take,
 * and leave after sqsbridge.handler_idle_timeout without any.  That one cannot
 * be started, for want of a worker slot or of shared memory, is tried again
 * with a growing delay, while leases are renewed as ever.  A handler may leave
 * by itself at any time between two messages; what it had in hand is put back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"

#include "base/fair_shares.h"
#include "base/queue_stats.h"
#include "base/settings.h"
#include "base/slots.h"
#include "base/wakeup.h"
#include "receive/failures.h"
#include "receive/queue_worker.h"

#define AHEAD_US			10000	/* work given ahead to a handler */
#define STUCK_MS			50	/* then what is behind is taken back */
#define ALIVE_CHECK_MS		50
#define SHARE_CHECK_MS		500 /* whether to give a handler back */
#define TERM_GRACE_MS		100 /* first SIGTERM without a shutdown */
#define START_RETRY_MS		10000	/* without a slot or memory for a handler */
#define CANNOT_RUN_RETRY_MS	300000
#define LOCKED_RETRY_MS		10000
#define CANCEL_GRACE_MS		2000	/* a handler that ignores a cancel is ended */
#define OVERDUE_TIMES		4	/* handler_timeout, */
#define OVERDUE_MS			5000	/* and so long more */
#define MAX_GROUP_ID		128 /* SQS's limit */

void
sqs_handout_init(QueueWorker *qw)
{
	HASHCTL		ctl;

	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(((MessageGroup *) NULL)->id);
	ctl.entrysize = sizeof(MessageGroup);
	ctl.hcxt = qw->context;
	qw->groups = hash_create("sqsbridge message groups", 64, &ctl,
							 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	dlist_init(&qw->groups_ready);
}

/* ---- message groups ---- */

/* The message's group, made if there is none; NULL: out of memory. */
static MessageGroup *
group_of(QueueWorker *qw, const SqsReceivedMessage *message)
{
	char		key[132];
	size_t		len = Min(message->group_id.len, (size_t) MAX_GROUP_ID);
	MessageGroup *group;
	bool		found;

	memset(key, 0, sizeof(key));
	if (len > 0)
		memcpy(key, message->group_id.data, len);
	group = hash_search(qw->groups, key, HASH_ENTER_NULL, &found);
	if (group != NULL && !found)
	{
		dlist_init(&group->waiting);
		dlist_init(&group->tail);
		group->nwaiting = 0;
		group->handed = 0;
		group->failed = false;
		group->handler = NULL;
		dlist_push_tail(&qw->groups_ready, &group->node);
	}
	return group;
}

/* A group without messages is forgotten; a failed one releases its rest. */
static void
group_settle(QueueWorker *qw, MessageGroup *group)
{
	dlist_mutable_iter iter;

	if (group->handed > 0)
		return;
	group->handler = NULL;
	if (group->failed)
	{
		dlist_foreach_modify(iter, &group->tail)
		{
			dlist_delete(iter.cur);
			sqs_lease_release(qw, dlist_container(Lease, node, iter.cur), 0);
		}
		group->failed = false;
	}
	if (group->nwaiting == 0)
	{
		dlist_delete(&group->node);
		hash_search(qw->groups, group->id, HASH_REMOVE, NULL);
	}
}

/* Of this group nothing in hand may run any more. */
static void
group_fail(QueueWorker *qw, MessageGroup *group)
{
	dlist_mutable_iter iter;

	group->failed = true;
	dlist_foreach_modify(iter, &group->waiting)
	{
		dlist_delete(iter.cur);
		dlist_push_tail(&group->tail, iter.cur);
		group->nwaiting--;
		qw->nwaiting--;
	}
}

/* A message that was just received; its lease is in no list yet. */
void
sqs_handout_accept(QueueWorker *qw, Lease *lease)
{
	if (qw->config->fifo)
	{
		lease->group = group_of(qw, lease->message);
		if (lease->group == NULL)
		{
			sqs_lease_release(qw, lease, 0);
			return;
		}
		if (lease->group->failed)
		{
			dlist_push_tail(&lease->group->tail, &lease->node);
			return;
		}
		dlist_push_tail(&lease->group->waiting, &lease->node);
		lease->group->nwaiting++;
	}
	else
		dlist_push_tail(&qw->waiting, &lease->node);
	qw->nwaiting++;
}

/*
 * Into a list of waiting leases, by order of receipt.  From the front: what is
 * put back was received before nearly all that waits.
 */
static void
insert_in_order(dlist_head *list, Lease *lease)
{
	dlist_iter	iter;

	dlist_foreach(iter, list)
	{
		if (dlist_container(Lease, node, iter.cur)->order > lease->order)
		{
			dlist_insert_before(iter.cur, &lease->node);
			return;
		}
	}
	dlist_push_tail(list, &lease->node);
}

/* Back to where it came from. */
static void
put_back(QueueWorker *qw, Lease *lease)
{
	MessageGroup *group = lease->group;

	sqs_marks_not_done(qw, lease);
	lease->state = LEASE_WAITING;
	lease->handler = NULL;
	if (group != NULL)
		group->handed--;
	if (group != NULL && group->failed)
		dlist_push_tail(&group->tail, &lease->node);
	else
	{
		insert_in_order(group != NULL ? &group->waiting : &qw->waiting, lease);
		if (group != NULL)
			group->nwaiting++;
		qw->nwaiting++;
	}
	sqs_lease_mirror(qw, lease);
}

/* ---- what a handler has in hand ---- */

static void
take_off(QueueWorker *qw, Handler *handler, Lease *lease)
{
	Assert(handler->by_seq[lease->seq % SQS_CHANNEL_DEPTH] == lease);
	handler->by_seq[lease->seq % SQS_CHANNEL_DEPTH] = NULL;
	handler->outstanding--;
	qw->handed--;
	if (handler->outstanding == 0)
		handler->idle_since = qw->now;
}

/*
 * Take back what the handler has not begun with.  Returns the seq it is at.
 * Not while a frame is half sent: the shm_mq wants the rest of it.
 */
static uint64
take_back(QueueWorker *qw, Handler *handler)
{
	SqsChannelShared *shared = handler->channel->shared;
	uint64		taken;

	if (handler->sending)
		return handler->last_seq;

	SpinLockAcquire(&shared->mutex);
	taken = shared->taken;
	shared->revoked_to = handler->last_seq;
	SpinLockRelease(&shared->mutex);

	for (uint64 seq = handler->last_seq; seq > taken; seq--)
	{
		Lease	   *lease = handler->by_seq[seq % SQS_CHANNEL_DEPTH];

		if (lease == NULL || lease->seq != seq)
			continue;
		take_off(qw, handler, lease);
		put_back(qw, lease);
	}
	return taken;
}

/*
 * Only to the process that we started: its slot is released before it is gone,
 * and its PID may be another's soon after.
 */
static void
signal_handler(Handler *handler, int signal)
{
	if (sqs_slot_is(handler->ref.slot, handler->ref.generation))
		kill(handler->pid, signal);
}

/*
 * Cancel the message if it is being run.  The handler does not begin its next
 * one as long as "signaling" is set, so the signal cannot hit that.
 */
static bool
cancel_current(Handler *handler, uint64 seq, SqsCancel reason)
{
	SqsChannelShared *shared = handler->channel->shared;
	bool		running;

	SpinLockAcquire(&shared->mutex);
	running = shared->current == seq;
	if (running)
	{
		shared->cancel = reason;
		pg_atomic_write_u32(&shared->signaling, 1);
	}
	SpinLockRelease(&shared->mutex);

	if (running)
	{
		signal_handler(handler, SIGINT);
		pg_write_barrier();
		pg_atomic_write_u32(&shared->signaling, 0);
	}
	return running;
}

static void
tell_lease_end(Lease *lease)
{
	SqsChannelShared *shared = lease->handler->channel->shared;

	SpinLockAcquire(&shared->mutex);
	shared->lease_ends[lease->seq % SQS_CHANNEL_DEPTH] = lease->fence;
	SpinLockRelease(&shared->mutex);
}

void
sqs_handout_lease_renewed(QueueWorker *qw, Lease *lease)
{
	if (lease->state == LEASE_HANDED)
		tell_lease_end(lease);
}

/*
 * The lease is over: what waits is dropped, what runs is canceled and will say
 * how it ended.
 */
void
sqs_handout_lease_lost(QueueWorker *qw, Lease *lease)
{
	MessageGroup *group = lease->group;

	sqs_lease_stop_renewing(qw, lease);
	sqs_marks_lease_lost(qw, lease);

	if (lease->state == LEASE_HANDED)
	{
		/* running: its result says how that ended */
		if (cancel_current(lease->handler, lease->seq, SQS_CANCEL_LEASE_LOST))
		{
			lease->handler->canceled_seq = lease->seq;
			lease->handler->canceled_at = qw->now;
			return;
		}
		/* not begun: taken back.  Or just finished: its result is on the way */
		(void) take_back(qw, lease->handler);
	}

	/* COMMITTED is done and waits for a standby: there is nothing to cancel */
	if (lease->state != LEASE_WAITING)
		return;

	dlist_delete(&lease->node);
	if (group == NULL || !group->failed)
	{
		qw->nwaiting--;
		if (group != NULL)
			group->nwaiting--;
	}
	sqs_count(qw->stats, SQS_LOST, 1);
	sqs_lease_free(qw, lease);
	if (group != NULL)
	{
		group_fail(qw, group);
		group_settle(qw, group);
	}
}

/* ---- results ---- */

static void
count_handler_time(QueueWorker *qw, uint32 micros)
{
	int			bucket = 0;

	while (bucket < SQS_HISTOGRAM_BUCKETS - 1 &&
		   micros > sqs_histogram_bounds[bucket] * 1000)
		bucket++;
	pg_atomic_fetch_add_u64(&qw->stats->histogram[bucket], 1);
	sqs_count(qw->stats, SQS_HANDLER_MICROS, micros);
	if (micros > qw->stats->handler_max_micros)
	{
		SpinLockAcquire(&qw->stats->mutex);
		qw->stats->handler_max_micros = micros;
		SpinLockRelease(&qw->stats->mutex);
	}

	if (qw->mean_us == 0)
		qw->mean_us = Max(micros, 1);
	else
		qw->mean_us += (Max(micros, 1) - qw->mean_us) / 16;
}

/* The message is not going to be handled by us now. */
static void
end_failed(QueueWorker *qw, Lease *lease, int release_after)
{
	if (release_after >= 0)
		sqs_lease_release(qw, lease, release_after);
	else
		sqs_lease_free(qw, lease);	/* its visibility timeout brings it back */
}

/*
 * Failed attempts are shown in sqs_failures.  Those that are not are shown
 * here; the log has the error already.
 */
static void
not_recorded(QueueWorker *qw, const char *why)
{
	char		text[SQS_ERROR_TEXT];

	snprintf(text, sizeof(text), "a failed attempt could not be recorded in sqs_failures: %s", why);
	(void) sqs_stats_error(qw->stats, text);
}

/*
 * A handler is done with a message that it had in hand.
 */
static void
apply_result(QueueWorker *qw, Lease *lease, const SqsResult *result)
{
	MessageGroup *group = lease->group;

	if (result->outcome == SQS_OUTCOME_CANNOT_RUN ||
		result->outcome == SQS_OUTCOME_LOCKED)
	{
		/*
		 * No message's fault: they wait, leased, and nothing is received
		 * until somebody has looked again.  A lock goes away by itself.
		 */
		if (qw->now >= qw->paused_until)
		{
			qw->cannot_run++;
			qw->paused_until = qw->now +
				sqs_backoff_ms(qw->cannot_run, 1000,
							   result->outcome == SQS_OUTCOME_LOCKED ?
							   LOCKED_RETRY_MS : CANNOT_RUN_RETRY_MS);
		}
		sqs_queue_error(qw, SQS_QUEUE_ERROR, result->text);
		put_back(qw, lease);
		return;
	}

	/* while polls are open, what is released would come by one of them */
	if (result->outcome == SQS_OUTCOME_NOT_RUN ||
		(result->outcome == SQS_OUTCOME_STOPPED && qw->npolls > 0))
	{
		put_back(qw, lease);
		return;
	}

	if (group != NULL)
	{
		group->handed--;
		if (result->outcome != SQS_OUTCOME_DONE &&
			result->outcome != SQS_OUTCOME_DUPLICATE)
			group_fail(qw, group);
	}

	switch (result->outcome)
	{
		case SQS_OUTCOME_DONE:
			count_handler_time(qw, result->micros);
			qw->cannot_run = 0;
			sqs_ack_committed(qw, lease, result->lsn);
			break;

		case SQS_OUTCOME_DUPLICATE:
			sqs_count(qw->stats, SQS_DUPLICATES, 1);
			sqs_ack_committed(qw, lease, result->lsn);
			break;

		case SQS_OUTCOME_FAILED:
			count_handler_time(qw, result->micros);
			/* what went wrong is in sqs_failures; last_error is the bridge's own */
			sqs_count(qw->stats, SQS_FAILED, 1);
			if (result->unrecorded)
				not_recorded(qw, result->text);
			end_failed(qw, lease, qw->config->retry_delay);
			break;

		case SQS_OUTCOME_LOST:
			sqs_count(qw->stats, SQS_LOST, 1);
			sqs_lease_free(qw, lease);
			break;

		case SQS_OUTCOME_STOPPED:
			sqs_lease_release(qw, lease, 0);
			break;

		case SQS_OUTCOME_SKIPPED:
			lease->state = LEASE_WAITING;
			lease->handler = NULL;
			dlist_push_tail(&group->tail, &lease->node);
			break;

		case SQS_OUTCOME_CANNOT_RUN:
		case SQS_OUTCOME_LOCKED:
		case SQS_OUTCOME_NOT_RUN:
			break;				/* dealt with above */
	}

	if (group != NULL)
		group_settle(qw, group);
}

/* Take the handlers' results off their rings, and notice those that are ready. */
void
sqs_handout_collect(QueueWorker *qw)
{
	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
	{
		Handler    *handler = &qw->handlers[i];
		SqsChannelShared *shared;
		uint64		read;
		uint64		written;

		if (!handler->used)
			continue;
		shared = handler->channel->shared;
		if (!handler->ready && pg_atomic_read_u32(&shared->ready) != 0)
		{
			handler->ready = true;
			handler->pid = sqs_shared->slots[handler->ref.slot].pid;
			handler->idle_since = qw->now;
			if (qw->start_failures > 0)
			{
				qw->start_failures = 0;
				if (qw->attributes_known && qw->poll_failures == 0 &&
					qw->cannot_run == 0 && !qw->stopping)
					sqs_queue_is_well(qw);
			}
		}

		read = pg_atomic_read_u64(&shared->results_read);
		written = pg_atomic_read_u64(&shared->results_written);
		pg_read_barrier();
		for (; read < written; read++)
		{
			SqsResult	result = shared->results[read % SQS_CHANNEL_DEPTH];
			Lease	   *lease = handler->by_seq[result.seq % SQS_CHANNEL_DEPTH];

			pg_atomic_write_u64(&shared->results_read, read + 1);
			if (lease == NULL || lease->seq != result.seq)
				continue;
			take_off(qw, handler, lease);
			if (result.outcome != SQS_OUTCOME_DONE && result.outcome != SQS_OUTCOME_DUPLICATE)
				sqs_marks_not_done(qw, lease);
			apply_result(qw, lease, &result);
		}
	}
}

/* ---- dispatch ---- */

static int
depth_ahead(QueueWorker *qw)
{
	if (qw->mean_us <= 0)
		return 1;
	return (int) Max(1, Min(AHEAD_US / qw->mean_us, SQS_CHANNEL_DEPTH));
}

/* The lowest seq outstanding bounds what the ring of results can take. */
static bool
has_room(Handler *handler)
{
	return handler->by_seq[(handler->last_seq + 1) % SQS_CHANNEL_DEPTH] == NULL;
}

static bool
can_take(QueueWorker *qw, Handler *handler)
{
	return handler->used && handler->ready && !handler->stopping &&
		!handler->giving_back && !handler->sending && handler->term_seen_at == 0 &&
		handler->outstanding < depth_ahead(qw) && has_room(handler);
}

/* Go on with a frame; false if the handler cannot take more of it now. */
static bool
send_frame(QueueWorker *qw, Handler *handler)
{
	shm_mq_result res = shm_mq_sendv(handler->channel->messages, handler->iov, 2,
									 true, true);

	/* DETACHED: it is dying; supervision takes everything back from it */
	handler->sending = res == SHM_MQ_WOULD_BLOCK;
	return !handler->sending;
}

/* Before the lease leaves its list, because it can fail. */
static void
prepare_frame(QueueWorker *qw, Handler *handler, Lease *lease)
{
	sqs_frame_encode(&handler->frame, handler->last_seq + 1,
					 lease->group != NULL ? lease->group->chain : 0,
					 qw->config->exactly_once ? SQS_FRAME_EXACTLY_ONCE : 0,
					 qw->config->handler_timeout,
					 qw->config->exactly_once ? sqs_marks_stamp(qw, lease) : 0,
					 qw->config->handler, qw->config->bound_handler.owner_oid,
					 lease->message);
}

/* The frame is prepared, and the lease is in no list. */
static void
hand_out(QueueWorker *qw, Handler *handler, Lease *lease)
{
	lease->state = LEASE_HANDED;
	lease->handler = handler;
	lease->seq = ++handler->last_seq;
	handler->by_seq[lease->seq % SQS_CHANNEL_DEPTH] = lease;
	handler->outstanding++;
	qw->handed++;
	qw->nwaiting--;
	sqs_lease_mirror(qw, lease);
	tell_lease_end(lease);

	handler->iov[0].data = handler->frame.data;
	handler->iov[0].len = handler->frame.len;
	handler->iov[1].data = lease->message->body.data;
	handler->iov[1].len = lease->message->body.len;
	(void) send_frame(qw, handler);
}

/* The handler with the least to do among those that can take more. */
static Handler *
least_busy(QueueWorker *qw)
{
	Handler    *best = NULL;

	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
	{
		Handler    *handler = &qw->handlers[i];

		if (can_take(qw, handler) &&
			(best == NULL || handler->outstanding < best->outstanding))
			best = handler;
	}
	return best;
}

/* What other queues compare themselves with (sqs_must_give_back()). */
static void
set_nhandlers(QueueWorker *qw, int n)
{
	qw->nhandlers = n;
	pg_atomic_write_u32(&MySlot->handlers, (uint32) n);
}

/*
 * No handler could be started.  With one or more of them the queue goes on,
 * only slower.
 */
static void
start_failed(QueueWorker *qw, SqsQueueState state, const char *text)
{
	qw->start_failures++;
	qw->next_start = qw->now + sqs_backoff_ms(qw->start_failures, 1000, START_RETRY_MS);
	sqs_wake_at(qw, qw->next_start);
	if (qw->nhandlers == 0)
		sqs_queue_error(qw, state, text);
	else if (state != SQS_QUEUE_NO_WORKER_SLOT)
		(void) sqs_stats_error(qw->stats, text);
}

/*
 * Start one more handler, if that is possible.  Everything that it needs may
 * be short: shared memory, a segment, a slot of ours, one of PostgreSQL's.
 */
static void
start_handler(QueueWorker *qw)
{
	Handler    *handler = NULL;
	const char *why = "out of background worker slots";
	volatile bool may = false;
	volatile bool launched = false;
	volatile bool failed = false;
	char		text[SQS_ERROR_TEXT];

	for (int i = 0; i < SQS_CONCURRENCY_MAX && handler == NULL; i++)
		if (!qw->handlers[i].used)
			handler = &qw->handlers[i];
	if (handler == NULL)
		return;

	memset(handler, 0, sizeof(*handler));
	PG_TRY();
	{
		may = sqs_may_take_handler(qw->config->owner, qw->nhandlers, &why);
		if (may)
		{
			initStringInfo(&handler->frame);
			handler->channel = sqs_channel_create(qw->config->queue_id, qw->config->name);
			launched = sqs_worker_launch(SQS_HANDLER_WORKER, MyDatabaseId, qw->config->queue_id,
										 qw->config->owner,
										 dsm_segment_handle(handler->channel->segment),
										 qw->config->name, &handler->ref) == SQS_LAUNCHED;
		}
	}
	PG_CATCH();
	{
		char		reason[SQS_ERROR_TEXT - 64];

		sqs_queue_catch(qw, reason, sizeof(reason));
		snprintf(text, sizeof(text), "a handler worker could not be started: %s", reason);
		failed = true;
	}
	PG_END_TRY();

	if (launched)
	{
		if (qw->nhandlers == 0)
			sqs_slot_wanted(&qw->stats->waits_since, false);
		handler->used = true;
		handler->idle_since = qw->now;
		set_nhandlers(qw, qw->nhandlers + 1);
		return;
	}

	if (handler->channel != NULL)
		sqs_channel_destroy(handler->channel);
	if (handler->frame.data != NULL)
		pfree(handler->frame.data);
	if (failed)
	{
		start_failed(qw, SQS_QUEUE_ERROR, text);
		return;
	}
	/* another queue of its owner may have been faster */
	may = may && sqs_may_take_handler(qw->config->owner, qw->nhandlers, &why);
	if (may)
		sqs_warn_no_slot();
	start_failed(qw, SQS_QUEUE_NO_WORKER_SLOT, why);
	if (qw->nhandlers > 0)
		return;

	/*
	 * Without a handler this process only keeps a slot from others: were all
	 * slots held by queue workers, no message would ever be handled.  What is
	 * in hand goes back.
	 */
	sqs_slot_wanted(&qw->stats->waits_since, may);
	if (qw->starved || qw->start_failures > 1)
	{
		qw->no_slot = true;
		sqs_wake_at(qw, qw->now);
	}
}

/*
 * A queue that has been out of slots has its first handler before it asks for
 * messages: to receive what cannot be handled brings messages nearer to their
 * dead-letter queue.  True when there is one.
 */
bool
sqs_handout_prepare(QueueWorker *qw)
{
	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
		if (qw->handlers[i].used && qw->handlers[i].ready)
			return true;

	if (qw->nhandlers == 0)
	{
		if (qw->now >= qw->next_start)
			start_handler(qw);
		else
			sqs_wake_at(qw, qw->next_start);
	}
	return false;
}

/*
 * Hand out what waits, to the handlers there are; start another if that is
 * not enough.
 */
void
sqs_handout_dispatch(QueueWorker *qw)
{
	Handler    *handler;

	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
		if (qw->handlers[i].used && qw->handlers[i].sending)
			(void) send_frame(qw, &qw->handlers[i]);

	if (qw->nwaiting == 0 || qw->stopping)
		return;
	if (qw->now < qw->paused_until)
	{
		sqs_wake_at(qw, qw->paused_until);
		return;
	}

	if (!qw->config->fifo)
	{
		while (!dlist_is_empty(&qw->waiting) && (handler = least_busy(qw)) != NULL)
		{
			Lease	   *lease = dlist_head_element(Lease, node, &qw->waiting);

			prepare_frame(qw, handler, lease);
			dlist_delete(&lease->node);
			hand_out(qw, handler, lease);
		}
	}
	else
	{
		dlist_mutable_iter iter;

		dlist_foreach_modify(iter, &qw->groups_ready)
		{
			MessageGroup *group = dlist_container(MessageGroup, node, iter.cur);

			while (group->nwaiting > 0 && !group->failed)
			{
				Lease	   *lease = dlist_head_element(Lease, node, &group->waiting);

				if (group->handed > 0)
					handler = can_take(qw, group->handler) ? group->handler : NULL;
				else
					handler = least_busy(qw);
				if (handler == NULL)
					break;
				if (group->handed == 0)
				{
					group->handler = handler;
					group->chain = ++qw->chains;
					if (group->chain == 0)
						group->chain = ++qw->chains;
				}
				prepare_frame(qw, handler, lease);
				group->handed++;
				group->nwaiting--;
				dlist_delete(&lease->node);
				hand_out(qw, handler, lease);
			}
		}
	}

	if (qw->nwaiting > 0 && qw->nhandlers < qw->config->concurrency)
	{
		if (qw->now >= qw->next_start)
			start_handler(qw);
		else
			sqs_wake_at(qw, qw->next_start);
	}
}

/*
 * Messages that wait for their own group and no handler.  SQS holds the rest
 * of such a group back, so what it would send instead are other groups.
 */
static int
blocked_in_groups(QueueWorker *qw)
{
	dlist_iter	iter;
	int			n = 0;

	if (!qw->config->fifo || qw->nwaiting == 0)
		return 0;
	dlist_foreach(iter, &qw->groups_ready)
	{
		MessageGroup *group = dlist_container(MessageGroup, node, iter.cur);

		if (group->handed > 0)
			n += group->nwaiting;
	}
	return n;
}

/*
 * How many messages more can be started soon: one per free handler, and what
 * the handlers get through in half a second.
 */
int
sqs_handout_capacity(QueueWorker *qw)
{
	double		ahead = 0;

	/* without a handler and without the hope of one, none */
	if (qw->nhandlers == 0 && qw->start_failures > 0 && qw->now < qw->next_start)
		return 0;
	if (qw->mean_us > 0)
		ahead = qw->config->concurrency * 500000.0 / qw->mean_us;
	return qw->config->concurrency + (int) Min(ahead, SQS_MAX_LEASES) -
		(qw->nwaiting - blocked_in_groups(qw)) - qw->handed;
}

/* ---- supervision ---- */

/* The handler died with this message: nobody else can write it down. */
static void
record_death(QueueWorker *qw, Lease *lease, Handler *handler, const char *text)
{
	bool		overran = pg_atomic_read_u32(&handler->channel->shared->overran) != 0;

	PG_TRY();
	{
		ErrorData  *edata;

		sqs_begin();
		edata = palloc0(sizeof(ErrorData));
		edata->sqlerrcode = overran ? ERRCODE_QUERY_CANCELED : ERRCODE_ADMIN_SHUTDOWN;
		edata->message = pstrdup(text);
		if (!overran)
			edata->hint = "The server log says why.";
		sqs_failure_insert(qw->config->queue_id, qw->config->name, qw->config->owner,
						   lease->message->message_id,
						   lease->message->receive_count, edata, handler->pid);
		sqs_commit();
		MemoryContextSwitchTo(qw->context);
	}
	PG_CATCH();
	{
		char		reason[SQS_ERROR_TEXT - 64];

		EmitErrorReport();
		sqs_queue_catch(qw, reason, sizeof(reason));
		not_recorded(qw, reason);
	}
	PG_END_TRY();
}

/*
 * The handler's process is gone, and its results have been collected.  The
 * message that it was at, if any, is charged with it; the rest is put back.
 */
static void
bury(QueueWorker *qw, Handler *handler)
{
	SqsChannelShared *shared = handler->channel->shared;
	uint64		current = shared->current;	/* nobody is left to change it */
	uint64		taken = shared->taken;

	for (uint64 seq = handler->last_seq; seq > 0 && handler->outstanding > 0; seq--)
	{
		Lease	   *lease = handler->by_seq[seq % SQS_CHANNEL_DEPTH];
		SqsResult	result;

		if (lease == NULL || lease->seq != seq)
			continue;
		take_off(qw, handler, lease);
		if (seq > taken || (seq == taken && current == 0))
		{
			put_back(qw, lease);
			continue;
		}
		memset(&result, 0, sizeof(result));
		if (shared->cancel == SQS_CANCEL_SHUTDOWN || qw->stopping)
			result.outcome = SQS_OUTCOME_STOPPED;
		else if (shared->cancel == SQS_CANCEL_LEASE_LOST)
			result.outcome = SQS_OUTCOME_LOST;
		else
		{
			result.outcome = SQS_OUTCOME_FAILED;
			if (pg_atomic_read_u32(&shared->overran) != 0)
				snprintf(result.text, sizeof(result.text),
						 "handler ran longer than its handler_timeout of %d ms and went on when it was canceled",
						 qw->config->handler_timeout);
			else
				snprintf(result.text, sizeof(result.text),
						 "handler worker (PID %d) exited while it handled the message",
						 (int) handler->pid);
			record_death(qw, lease, handler, result.text);
		}
		apply_result(qw, lease, &result);
	}

	if (!handler->ready && !handler->stopping && !qw->stopping)
	{
		qw->start_failures++;
		qw->next_start = qw->now + sqs_backoff_ms(qw->start_failures, 1000, 60000);
		if (qw->nhandlers == 1)
			sqs_queue_error(qw, SQS_QUEUE_ERROR,
							"handler worker could not start; the server log says why");
	}
	sqs_channel_destroy(handler->channel);
	pfree(handler->frame.data);
	handler->used = false;
	set_nhandlers(qw, qw->nhandlers - 1);
}

/*
 * Another queue has no handler at all, and this one has more than any: one
 * of ours leaves when it has finished its message.
 */
static void
give_back(QueueWorker *qw)
{
	Handler    *least = NULL;

	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
	{
		Handler    *handler = &qw->handlers[i];

		if (!handler->used)
			continue;
		if (handler->giving_back || handler->stopping)
			return;				/* on its way */
		if (handler->ready && (least == NULL || handler->outstanding < least->outstanding))
			least = handler;
	}
	if (least == NULL || !sqs_must_give_back(MyDatabaseId, qw->config->queue_id, qw->nhandlers))
		return;
	least->giving_back = true;
	(void) take_back(qw, least);
}

/*
 * A handler ends itself when handler_timeout is over, or is ended soon after.
 * One that is still there long after that does not react to signals.  (Its
 * time begins anew when a serialization failure is retried.)
 */
static void
note_overdue(QueueWorker *qw, Handler *handler, uint64 seq, int64 elapsed_ms)
{
	int64		limit = (int64) qw->config->handler_timeout * OVERDUE_TIMES + OVERDUE_MS;
	char		text[SQS_ERROR_TEXT];

	if (qw->config->handler_timeout <= 0 || handler->overdue_seq == seq)
		return;
	if (elapsed_ms < limit)
	{
		sqs_wake_at(qw, qw->now + limit - elapsed_ms);
		return;
	}
	handler->overdue_seq = seq;
	snprintf(text, sizeof(text),
			 "handler worker (PID %d) does not react: it has been at a message for %d s, its handler_timeout is %d ms",
			 (int) handler->pid, (int) (elapsed_ms / 1000), qw->config->handler_timeout);
	if (sqs_stats_error(qw->stats, text))
		ereport(LOG,
				(errmsg("sqsbridge queue \"%s\": %s", qw->config->name, text)));
}

/*
 * Look after the handlers: those that are gone, slow, or will not be canceled,
 * those that somebody terminates, and those that have nothing to do.
 */
void
sqs_handout_supervise(QueueWorker *qw)
{
	uint64		exits = pg_atomic_read_u64(&qw->database->exits);
	bool		check_alive = exits != qw->exits ||
		qw->now >= qw->last_alive_check + ALIVE_CHECK_MS;
	int64		now_us;
	instr_time	clock;

	if (qw->nhandlers == 0)
		return;
	if (check_alive)
	{
		qw->last_alive_check = qw->now;
		qw->exits = exits;
	}
	if (qw->nhandlers > 1 && !qw->stopping)
	{
		if (qw->now >= qw->last_share_check + SHARE_CHECK_MS)
		{
			qw->last_share_check = qw->now;
			give_back(qw);
		}
		sqs_wake_at(qw, qw->last_share_check + SHARE_CHECK_MS);
	}
	INSTR_TIME_SET_CURRENT(clock);
	now_us = (int64) INSTR_TIME_GET_MICROSEC(clock);

	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
	{
		Handler    *handler = &qw->handlers[i];
		SqsChannelShared *shared;

		if (!handler->used)
			continue;
		shared = handler->channel->shared;

		if (check_alive && !sqs_worker_alive(&handler->ref))
		{
			sqs_handout_collect(qw);	/* what it still had to say */
			bury(qw, handler);
			continue;
		}
		if (!handler->ready)
		{
			sqs_wake_at(qw, qw->now + 100);
			continue;
		}

		if (handler->outstanding > 0)
		{
			int64		since;
			uint64		current;

			SpinLockAcquire(&shared->mutex);
			current = shared->current;
			since = current != 0 ? shared->current_since : now_us;
			SpinLockRelease(&shared->mutex);

			/* a slow message does not hold up those behind it */
			if (handler->outstanding > 1 && !handler->sending)
			{
				if (now_us - since > STUCK_MS * 1000)
					(void) take_back(qw, handler);
				else
					sqs_wake_at(qw, qw->now + STUCK_MS);
			}
			if (current != 0)
				note_overdue(qw, handler, current, (now_us - since) / 1000);
		}

		/* it was told that its lease is lost, and caught that */
		if (handler->canceled_seq != 0)
		{
			Lease	   *lease = handler->by_seq[handler->canceled_seq % SQS_CHANNEL_DEPTH];

			if (lease == NULL || lease->seq != handler->canceled_seq)
				handler->canceled_seq = 0;
			else if (qw->now < handler->canceled_at + CANCEL_GRACE_MS)
				sqs_wake_at(qw, handler->canceled_at + CANCEL_GRACE_MS);
			else if (handler->term_seen_at == 0)
			{
				signal_handler(handler, SIGTERM);	/* it asks for the second */
				sqs_wake_at(qw, qw->now + TERM_GRACE_MS);
			}
		}

		/* somebody's SIGTERM, not ours and not a shutdown: pass it through */
		if (handler->term_seen_at == 0 && pg_atomic_read_u32(&shared->term_requested) != 0)
		{
			handler->term_seen_at = qw->now;
			(void) take_back(qw, handler);
		}
		if (handler->term_seen_at != 0 && !qw->stopping)
		{
			if (qw->now >= handler->term_seen_at + TERM_GRACE_MS)
				signal_handler(handler, SIGTERM);
			sqs_wake_at(qw, qw->now + TERM_GRACE_MS);
		}

		if (handler->outstanding == 0 && !handler->stopping)
		{
			if (handler->giving_back ||
				qw->now >= handler->idle_since + sqs_handler_idle_timeout ||
				qw->nhandlers > qw->config->concurrency)
			{
				handler->stopping = true;
				pg_atomic_write_u32(&shared->stop, 1);
				sqs_wake_slot(handler->ref.slot, handler->ref.generation);
			}
			else
				sqs_wake_at(qw, handler->idle_since + sqs_handler_idle_timeout);
		}
		if (handler->stopping)
			sqs_wake_at(qw, qw->now + ALIVE_CHECK_MS);
	}
}

/* ---- leaving ---- */

/* Take back from the handlers what they have not begun with. */
void
sqs_handout_take_back(QueueWorker *qw)
{
	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
		if (qw->handlers[i].used)
			(void) take_back(qw, &qw->handlers[i]);
}

/* Release everything that does not run. */
void
sqs_handout_release(QueueWorker *qw)
{
	sqs_handout_take_back(qw);

	for (int i = 0; i < SQS_MAX_LEASES; i++)
	{
		Lease	   *lease = &qw->leases[i];

		if (lease->state != LEASE_WAITING)
			continue;
		dlist_delete(&lease->node);
		if (lease->group == NULL || !lease->group->failed)
		{
			qw->nwaiting--;
			if (lease->group != NULL)
				lease->group->nwaiting--;
		}
		sqs_lease_release(qw, lease, 0);
	}
}

/* The time is up: cancel what runs; hard: end its process. */
void
sqs_handout_cancel(QueueWorker *qw, bool hard)
{
	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
	{
		Handler    *handler = &qw->handlers[i];

		if (!handler->used || !handler->ready || handler->outstanding == 0)
			continue;
		if (hard)
			signal_handler(handler, SIGTERM);
		else
			for (int j = 0; j < SQS_CHANNEL_DEPTH; j++)
				if (handler->by_seq[j] != NULL)
					(void) cancel_current(handler, handler->by_seq[j]->seq,
										  SQS_CANCEL_SHUTDOWN);
	}
}

/* Let go of all handlers: a detached channel is their order to leave. */
void
sqs_handout_end(QueueWorker *qw)
{
	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
	{
		Handler    *handler = &qw->handlers[i];

		if (!handler->used)
			continue;
		pg_atomic_write_u32(&handler->channel->shared->stop, 1);
		sqs_channel_destroy(handler->channel);
		handler->used = false;
	}
	set_nhandlers(qw, 0);
}
