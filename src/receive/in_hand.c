/*-------------------------------------------------------------------------
 *
 * in_hand.c
 *	  What a handler worker has been given, and how it is taken back or canceled.
 *
 * While the queue worker decides, the handler may just be starting or finishing
 * the message in question.  The channel's mutex decides which of them has it
 * (channel.h).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "base/queue_stats.h"
#include "base/slots.h"
#include "receive/in_hand.h"
#include "receive/lease.h"
#include "receive/marks.h"
#include "receive/route_state.h"
#include "receive/suspects.h"
#include "receive/waiting.h"

/*
 * The result of a message was read, so the handler does not have it any
 * more.
 */
void
sqs_in_hand_remove(QueueWorker *qw, Handler *handler, Lease *lease)
{
	uint32		place = sqs_channel_place(handler->channel, lease->seq);

	Assert(handler->by_seq[place] == lease);
	handler->by_seq[place] = NULL;
	handler->outstanding--;
	if (handler->batch_n > 0 && lease->seq >= handler->batch_from)
		handler->batch_n--;
	qw->handed--;
	sqs_suspects_back(qw, lease);
	if (lease->is_probe)
		sqs_route_state(qw, lease->route)->probing = false;
	if (handler->outstanding == 0)
		handler->idle_since = qw->now;
}

/* The lease with this seq; NULL if the handler does not have it any more. */
Lease *
sqs_in_hand_lease(Handler *handler, uint64 seq)
{
	Lease	   *lease = handler->by_seq[sqs_channel_place(handler->channel, seq)];

	return lease != NULL && lease->seq == seq ? lease : NULL;
}

/*
 * Nothing is taken back while a frame is half sent, because the shm_mq must get
 * the rest of it.
 */
uint64
sqs_in_hand_take_back(QueueWorker *qw, Handler *handler)
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
		Lease	   *lease = sqs_in_hand_lease(handler, seq);

		if (lease == NULL)
			continue;
		sqs_in_hand_remove(qw, handler, lease);
		sqs_marks_not_done(qw, lease);
		sqs_waiting_put_back(qw, lease);
	}
	return taken;
}

/*
 * The slot is checked because the process releases it before it exits, and its
 * PID may belong to another process soon after that.
 */
void
sqs_handler_signal(Handler *handler, int signal)
{
	if (sqs_slot_is(handler->ref.slot, handler->ref.generation))
		kill(handler->pid, signal);
}

/*
 * Cancel what the handler runs: whatever it is (seq 0), or only if this message
 * is it, or belongs to its batch.  Returns whether there was something to cancel.
 *
 * If the lease is lost, a batch may go on without the message, so it is marked
 * for the handler by an end of its lease in the past.
 *
 * As long as "signaling" is set the handler does not begin its next message, so
 * the signal cannot hit the wrong one.
 */
bool
sqs_in_hand_cancel(Handler *handler, uint64 seq, SqsCancel reason)
{
	SqsChannelShared *shared = handler->channel->shared;
	SqsLeaseEnd *lease_end = &handler->channel->lease_ends[sqs_channel_place(handler->channel, seq)];
	bool		running;

	SpinLockAcquire(&shared->mutex);
	running = shared->current != 0 &&
		(seq == 0 || (seq >= shared->current && seq <= shared->current_to));
	if (reason == SQS_CANCEL_LEASE_LOST)
		lease_end->uptime = lease_end->wall = 0;
	if (running)
	{
		/* a shutdown is for all of a batch, a lost lease for one */
		if (shared->cancel != SQS_CANCEL_SHUTDOWN)
			shared->cancel = reason;
		pg_atomic_write_u32(&shared->signaling, 1);
	}
	SpinLockRelease(&shared->mutex);

	if (running)
	{
		sqs_handler_signal(handler, SIGINT);
		pg_write_barrier();
		pg_atomic_write_u32(&shared->signaling, 0);
	}
	return running;
}

/* Tell the handler until when it may commit. */
void
sqs_in_hand_tell_lease_end(Lease *lease)
{
	SqsChannel *channel = lease->handler->channel;

	SpinLockAcquire(&channel->shared->mutex);
	channel->lease_ends[sqs_channel_place(channel, lease->seq)] = lease->fence;
	SpinLockRelease(&channel->shared->mutex);
}

/* A lease has been renewed: tell the handler, if one has the message. */
void
sqs_in_hand_lease_renewed(QueueWorker *qw, Lease *lease)
{
	if (lease->state == LEASE_HANDED)
		sqs_in_hand_tell_lease_end(lease);
}

/*
 * The lease has been lost.  A message that waits is dropped.  One that runs is
 * canceled, and its result will say how it ended.
 */
void
sqs_in_hand_lease_lost(QueueWorker *qw, Lease *lease)
{
	MessageGroup *group = lease->group;

	sqs_lease_stop_renewing(qw, lease);
	sqs_marks_lease_lost(qw, lease);

	if (lease->state == LEASE_HANDED)
	{
		Handler    *handler = lease->handler;

		/* running: its result says how that ended */
		lease->lost = true;
		if (sqs_in_hand_cancel(handler, lease->seq, SQS_CANCEL_LEASE_LOST))
		{
			if (handler->canceled_seq == 0 ||
				sqs_in_hand_lease(handler, handler->canceled_seq) == NULL)
			{
				handler->canceled_seq = lease->seq;
				handler->canceled_at = qw->now;
			}
			return;
		}

		/*
		 * Take it back if it has not begun.  It may also have finished just
		 * now; then its result is on the way.
		 */
		(void) sqs_in_hand_take_back(qw, lease->handler);
	}

	/* RELEASING: its group had failed.  COMMITTED: nothing is left to cancel */
	if (lease->state != LEASE_WAITING)
		return;

	sqs_waiting_remove(qw, lease);
	sqs_count(qw->stats, SQS_LOST, 1);
	sqs_lease_free(qw, lease);
	if (group != NULL)
	{
		sqs_group_fail(qw, group);
		sqs_group_settle(qw, group);
	}
}
