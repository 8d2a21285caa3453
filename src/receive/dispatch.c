/*-------------------------------------------------------------------------
 *
 * dispatch.c
 *	  Which handler gets which message next.
 *
 * Standard queues: a message goes to the handler with the fewest messages.
 * FIFO queues: a message group is with one handler at a time, and its messages
 * are sent in order; groups run in parallel.  The messages of a group that one
 * handler has in succession are a chain: when one fails, the handler itself
 * skips the rest of the chain, because the next may have been sent to it
 * already, and they are released.
 *
 * Of a route that is held (route_state.c), one message at a time is handed out.
 *
 * So that quick handlers never wait for this process, a handler is given about
 * 10 ms of work in advance, according to the average time of a message.  If its
 * current message takes longer than expected, those sent after it are taken
 * back and go to others (handler_pool.c).
 *
 * A handler that takes arrays is given batches: as many messages as wait, up to
 * handler_batch_size, as soon as it is idle, or a full batch ahead if batches take
 * little time.  If fewer wait, they wait for more, up to handler_batch_wait.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "receive/dispatch.h"
#include "receive/handler_pool.h"
#include "receive/in_hand.h"
#include "receive/lease.h"
#include "receive/marks.h"
#include "receive/suspects.h"
#include "receive/route_state.h"
#include "receive/waiting.h"

#define AHEAD_US			10000	/* work given ahead to a handler */
#define BATCH_AHEAD_US		25000	/* length of batches that are given ahead */
#define RETRIED_LIMIT		16	/* messages in a batch that have failed before */

/* How many messages a handler may have, the current one included. */
static int
depth_ahead(QueueWorker *qw)
{
	if (qw->pace.mean_us <= 0)
		return 1;
	return (int) Max(1, Min(AHEAD_US / qw->pace.mean_us, SQS_CHANNEL_DEPTH));
}

/* The ring of results, too, has a place for each seq from the lowest one on. */
static bool
has_room(Handler *handler)
{
	return handler->by_seq[sqs_channel_place(handler->channel, handler->last_seq + 1)] == NULL;
}

/* Can anything be sent to it, one message or a batch? */
static bool
is_open_to(Handler *handler)
{
	return handler->used && handler->ready && !handler->stopping &&
		!handler->giving_back && !handler->sending && handler->term_seen_at == 0 &&
		!handler->batch_open && has_room(handler);
}

/* Can it take a message?  Not while it has batches from before a change. */
static bool
can_take(QueueWorker *qw, Handler *handler)
{
	return is_open_to(handler) &&
		(handler->outstanding == 0 ||
		 (handler->batch_from == 0 && handler->outstanding < depth_ahead(qw)));
}

/* Send (the rest of) the frame; false if the handler cannot take all of it now. */
static bool
send_frame(QueueWorker *qw, Handler *handler)
{
	/* no need to wake the handler before its batch is complete */
	shm_mq_result res = shm_mq_sendv(handler->channel->messages, handler->iov, 2,
									 true, !handler->batch_open);

	/* DETACHED: it is exiting; supervision will take everything back from it */
	handler->sending = res == SHM_MQ_WOULD_BLOCK;
	return !handler->sending;
}

/* May raise an error, so it comes before the lease is taken off its list. */
static void
prepare_frame(QueueWorker *qw, Handler *handler, Lease *lease, bool is_probe)
{
	sqs_frame_encode(&handler->frame, handler->last_seq + 1,
					 lease->group != NULL ? lease->group->chain : 0,
					 (qw->config->exactly_once ? SQS_FRAME_EXACTLY_ONCE : 0) |
					 (handler->batch_open ? SQS_FRAME_BATCH : 0) |
					 (sqs_queue_parks_groups(qw->config) ? SQS_FRAME_PARKS : 0) |
					 (qw->config->route_by != NULL || qw->config->dedup_key != NULL ?
					  SQS_FRAME_ROUTED : 0) |
					 sqs_route_frame_flags(qw, lease, is_probe) |
					 sqs_suspect_frame_flags(qw, lease) |
					 (qw->config->verify_sns ? SQS_FRAME_VERIFY_SNS : 0) |
					 qw->config->unwrap << SQS_FRAME_UNWRAP_SHIFT,
					 qw->config->handler_timeout,
					 qw->config->exactly_once ? sqs_marks_stamp(qw, lease) : 0,
					 qw->reload.change,
					 qw->config->handler != NULL ? qw->config->handler : "",
					 qw->config->bound_handler.owner_oid,
					 lease->message);
}

/* Hand the message over; its frame is prepared, and its lease is in no list. */
static void
hand_out(QueueWorker *qw, Handler *handler, Lease *lease)
{
	if (!handler->batch_open)
		handler->batch_from = 0;
	lease->state = LEASE_HANDED;
	sqs_suspects_handed(qw, lease);
	lease->handler = handler;
	lease->seq = ++handler->last_seq;
	handler->by_seq[sqs_channel_place(handler->channel, lease->seq)] = lease;
	handler->outstanding++;
	qw->handed++;
	lease->is_probe = false;
	sqs_lease_mirror(qw, lease);
	sqs_in_hand_tell_lease_end(lease);

	pg_atomic_write_u32(&handler->channel->shared->retention, qw->retention);

	handler->iov[0].data = handler->frame.data;
	handler->iov[0].len = handler->frame.len;
	handler->iov[1].data = lease->message->body.data;
	handler->iov[1].len = lease->message->body.len;
	(void) send_frame(qw, handler);
}

/* The handler with the fewest messages among those that can take more. */
static Handler *
least_busy(QueueWorker *qw)
{
	Handler    *best = NULL;

	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
	{
		Handler    *handler = &qw->pool.handlers[i];

		if (can_take(qw, handler) &&
			(best == NULL || handler->outstanding < best->outstanding))
			best = handler;
	}
	return best;
}

/* The first message of a group that a handler gets begins a chain. */
static void
begin_chain(QueueWorker *qw, MessageGroup *group, Handler *handler)
{
	if (group->handed > 0)
		return;
	group->handler = handler;
	group->chain = ++qw->chains;
	if (group->chain == 0)
		group->chain = ++qw->chains;
}

/* The message of a standard queue that comes next, or NULL. */
static Lease *
first_permitted(QueueWorker *qw)
{
	dlist_iter	iter;

	dlist_foreach(iter, &qw->waiting.list)
	{
		Lease	   *lease = dlist_container(Lease, node, iter.cur);

		if (sqs_suspects_permit(qw, lease))
			return lease;
	}
	return NULL;
}

/* Give waiting messages to the handlers that take them one by one. */
static void
hand_out_waiting(QueueWorker *qw)
{
	Handler    *handler;

	if (!qw->config->fifo)
	{
		while ((handler = least_busy(qw)) != NULL)
		{
			Lease	   *lease = first_permitted(qw);

			if (lease == NULL)
				break;
			prepare_frame(qw, handler, lease, false);
			sqs_waiting_remove(qw, lease);
			hand_out(qw, handler, lease);
		}
	}
	else
	{
		dlist_mutable_iter iter;

		dlist_foreach_modify(iter, &qw->waiting.groups_ready)
		{
			MessageGroup *group = dlist_container(MessageGroup, node, iter.cur);

			while (group->nwaiting > 0 && !group->failed && !sqs_group_is_held(group))
			{
				Lease	   *lease = dlist_head_element(Lease, node, &group->waiting);

				if (!sqs_suspects_permit(qw, lease))
					break;
				if (group->handed > 0)
					handler = can_take(qw, group->handler) ? group->handler : NULL;
				else
					handler = least_busy(qw);
				if (handler == NULL)
					break;
				begin_chain(qw, group, handler);
				prepare_frame(qw, handler, lease, false);
				sqs_waiting_remove(qw, lease);
				group->handed++;
				hand_out(qw, handler, lease);
			}
		}
	}
}

/* ---- batches ---- */

/*
 * How many messages may be in a batch with this one.  What has failed before may
 * fail again, and should not take many others with it.
 */
static int
limit_of(QueueWorker *qw, const Lease *lease)
{
	int			limit = qw->config->handler_batch_size;

	if (lease->is_suspect)
		return 1;
	if (lease->batch_limit > 0)
		limit = Min(limit, lease->batch_limit);
	return lease->holds > 0 ? Min(limit, RETRIED_LIMIT) : limit;
}

/*
 * May messages of the group be added to the handler's batch?  A group is in one
 * batch at a time, so that nothing of it is on the way when one of them fails.
 */
static bool
may_join(const MessageGroup *group, const Handler *handler)
{
	return group->nwaiting > 0 && !group->failed && !sqs_group_is_held(group) &&
		(group->handed == 0 ||
		 (handler != NULL && group->handler == handler &&
		  group->batch_from == handler->batch_from));
}

/* How many messages could be in a batch now, and when the oldest was received. */
static int
count_ready(QueueWorker *qw, int64 *oldest)
{
	int			n = 0;
	dlist_iter	iter;

	*oldest = qw->now;
	if (!qw->config->fifo)
	{
		if (!dlist_is_empty(&qw->waiting.list))
			*oldest = dlist_head_element(Lease, node, &qw->waiting.list)->received_at;
		return qw->waiting.n;
	}
	dlist_foreach(iter, &qw->waiting.groups_ready)
	{
		MessageGroup *group = dlist_container(MessageGroup, node, iter.cur);

		if (!may_join(group, NULL))
			continue;
		n += group->nwaiting;
		*oldest = Min(*oldest, dlist_head_element(Lease, node, &group->waiting)->received_at);
	}
	return n;
}

/*
 * The message that is to be added next to the handler's batch; NULL if that is as
 * large as it may become.  Of a FIFO queue, all of a group come in succession.
 */
static Lease *
next_of_batch(QueueWorker *qw, Handler *handler)
{
	Lease	   *lease = NULL;
	dlist_iter	iter;

	if (!has_room(handler))
		return NULL;
	if (!qw->config->fifo)
		lease = first_permitted(qw);
	else
		dlist_foreach(iter, &qw->waiting.groups_ready)
	{
		MessageGroup *group = dlist_container(MessageGroup, node, iter.cur);

		if (may_join(group, handler) &&
			sqs_suspects_permit(qw, dlist_head_element(Lease, node, &group->waiting)))
		{
			lease = dlist_head_element(Lease, node, &group->waiting);
			break;
		}
	}
	if (lease == NULL || handler->batch_n == 0)
		return lease;
	return handler->batch_n < handler->batch_limit &&
		handler->batch_limit == limit_of(qw, lease) &&
		handler->batch_bytes + lease->message->body.len <= SQS_BATCH_BYTES ? lease : NULL;
}

/* Begin a batch for the handler. */
static void
begin_batch(QueueWorker *qw, Handler *handler)
{
	handler->batch_from = handler->last_seq + 1;
	handler->batch_n = 0;
	handler->batch_options = qw->config->changed_at;
	handler->batch_open = true;
}

/* Add a message to the handler's batch. */
static void
add_to_batch(QueueWorker *qw, Handler *handler, Lease *lease, bool is_probe)
{
	MessageGroup *group = lease->group;

	if (group != NULL)
	{
		begin_chain(qw, group, handler);
		group->batch_from = handler->batch_from;
	}
	prepare_frame(qw, handler, lease, is_probe);
	if (handler->batch_n == 0)
	{
		handler->batch_limit = is_probe ? 1 : limit_of(qw, lease);
		handler->batch_bytes = 0;
	}
	handler->batch_n++;
	handler->batch_bytes += lease->message->body.len;
	sqs_waiting_remove(qw, lease);
	if (group != NULL)
	{
		group->aside = false;
		group->handed++;
		if (group->nwaiting == 0)
		{
			/* the others come first next time */
			dlist_delete(&group->node);
			dlist_push_tail(&qw->waiting.groups_ready, &group->node);
		}
	}
	hand_out(qw, handler, lease);
}

/*
 * Fill the batch that was begun, as far as the handler can take it now, and when
 * it is complete, let the handler run it.
 */
static void
fill_batch(QueueWorker *qw, Handler *handler)
{
	Lease	   *lease;

	if (!qw->stopping && qw->now >= qw->paused_until && qw->config->takes_batches &&
		!sqs_queue_is_held(qw) && handler->batch_options == qw->config->changed_at)
	{
		while (!handler->sending && (lease = next_of_batch(qw, handler)) != NULL)
			add_to_batch(qw, handler, lease, false);
	}
	if (handler->sending)
		return;
	sqs_frame_run(&handler->frame);
	handler->iov[0].data = handler->frame.data;
	handler->iov[0].len = handler->frame.len;
	handler->iov[1].data = NULL;
	handler->iov[1].len = 0;
	handler->batch_open = false;
	(void) send_frame(qw, handler);
}

/*
 * A handler for a batch: one that has nothing to do or, if the batch is full and
 * batches take little time, one that will soon be done with another.
 */
static Handler *
batch_taker(QueueWorker *qw, bool ahead)
{
	Handler    *best = NULL;

	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
	{
		Handler    *handler = &qw->pool.handlers[i];

		if (!is_open_to(handler))
			continue;
		if (handler->outstanding == 0)
			return handler;
		if (ahead && handler->outstanding == handler->batch_n &&
			(best == NULL || handler->outstanding < best->outstanding))
			best = handler;
	}
	return best;
}

/*
 * Give batches of waiting messages to handlers.  A batch that is not full waits
 * for handler_batch_wait.  Returns whether more handlers would be of use.
 */
static bool
hand_out_batches(QueueWorker *qw)
{
	int			size = qw->config->handler_batch_size;
	int64		wait = Min(qw->config->handler_batch_wait, (int64) qw->visibility * 250);
	bool		quick = qw->pace.mean_us > 0 && qw->pace.mean_us * size <= BATCH_AHEAD_US;
	int64		oldest;
	int			n;

	while ((n = count_ready(qw, &oldest)) > 0)
	{
		Handler    *handler;

		if (n < size && qw->now < oldest + wait)
		{
			sqs_wake_at(qw, oldest + wait);
			return false;
		}
		handler = batch_taker(qw, n >= size && quick);
		if (handler == NULL)
			return n >= size || !quick || qw->pool.n == 0;
		begin_batch(qw, handler);
		if (next_of_batch(qw, handler) == NULL)
		{
			handler->batch_open = false;
			return false;		/* suspects wait for their turn */
		}
		fill_batch(qw, handler);
	}
	return false;
}

/* ---- routes that are held ---- */

/*
 * Of each route that is held, try a message if it is time.  Returns whether one is
 * to be tried, and there is no handler for it.
 */
static bool
hand_out_probes(QueueWorker *qw)
{
	bool		waits = false;

	for (int i = 0; i < qw->routes.size; i++)
	{
		RouteState *route = qw->routes.states[i];
		Lease	   *lease;
		Handler    *handler;

		if (route == NULL || route->hold == ROUTE_RUNS ||
			(lease = sqs_route_probe(qw, route)) == NULL ||
			!sqs_suspects_permit(qw, lease))
			continue;
		handler = qw->config->takes_batches ? batch_taker(qw, false) : least_busy(qw);
		if (handler == NULL)
		{
			waits = true;
			continue;
		}
		if (qw->config->takes_batches)
		{
			begin_batch(qw, handler);
			add_to_batch(qw, handler, lease, true);
		}
		else
		{
			if (lease->group != NULL)
				begin_chain(qw, lease->group, handler);
			prepare_frame(qw, handler, lease, true);
			sqs_waiting_remove(qw, lease);
			if (lease->group != NULL)
			{
				lease->group->aside = false;
				lease->group->handed++;
			}
			hand_out(qw, handler, lease);
		}
		lease->is_probe = true;
		route->probing = true;
		route->fresh_next = !route->fresh_next;
		if (handler->batch_open && !handler->sending)
			fill_batch(qw, handler);
	}
	return waits;
}

/*
 * Give messages to the handlers that can take them, and start another handler if
 * some are left.
 */
void
sqs_dispatch(QueueWorker *qw)
{
	bool		more = false;

	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
	{
		Handler    *handler = &qw->pool.handlers[i];

		if (handler->used && handler->sending)
			(void) send_frame(qw, handler);
		if (handler->used && handler->batch_open && !handler->sending)
			fill_batch(qw, handler);
	}

	if (qw->routes.take_back)
	{
		qw->routes.take_back = false;
		sqs_pool_take_back(qw);
	}
	if (qw->waiting.n + qw->holding.n == 0 || qw->stopping)
		return;
	if (qw->now < qw->paused_until)
	{
		sqs_wake_at(qw, qw->paused_until);
		return;
	}

	if (qw->routes.nheld > 0)
		more = hand_out_probes(qw) && qw->pool.n == 0;
	if (sqs_queue_is_held(qw))
		 /* nothing but probes */ ;
	else if (qw->config->takes_batches)
		more |= hand_out_batches(qw);
	else
	{
		hand_out_waiting(qw);
		more |= qw->waiting.n > 0;
	}
	if (more && qw->pool.n < qw->config->concurrency)
	{
		if (qw->now >= qw->pool.next_start)
			sqs_pool_start_handler(qw);
		else
			sqs_wake_at(qw, qw->pool.next_start);
	}
}

/* False if there is no handler, and none can be started at present. */
bool
sqs_dispatch_is_possible(QueueWorker *qw)
{
	return qw->pool.n > 0 || qw->pool.start_failures == 0 || qw->now >= qw->pool.next_start;
}
