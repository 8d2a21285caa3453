/*-------------------------------------------------------------------------
 *
 * holding.c
 *	  Messages that have failed, and wait for their delay in hand.
 *
 * There are two ways to wait: here, with the lease renewed, or at SQS, invisible
 * for as long.  The latter costs a receive, and when these are used up, SQS moves
 * a message to the dead-letter queue.  On a FIFO queue it costs one for every
 * message behind it as well: they must not be handled before it, and so are given
 * back with it.  So a short delay passes here, if there is room.
 *
 * But if we do not count attempts (max_attempts is not set), the redrive policy of
 * the queue is all that ever ends a message that cannot succeed, and it counts
 * receives.  So then a failure that is the message's own costs one; on a FIFO
 * queue, for the sake of the messages behind it, one in HOLDS_MAX.
 *
 * FIFO queues: the message stays at the head of its group, and nothing of the
 * group is handed out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/queue_stats.h"
#include "base/settings.h"
#include "receive/holding.h"
#include "receive/pace.h"
#include "receive/route_state.h"
#include "receive/waiting.h"

#define HOLD_MAX_S		60
#define HOLD_MIN_MS		100		/* a delay of 0 is not to keep us busy */
#define HOLDS_MAX		20
#define HELD_MIN		10		/* or a quarter of what is wanted in hand */

/* SQS: 12 hours in all since the receive; see lease.c */
#define RECEIVED_MAX_MS	((int64) (SQS_MAX_VISIBILITY - 60) * 1000)

/* How many messages (of FIFO queues, groups) are held for their delay? */
static int
count_held(QueueWorker *qw)
{
	dlist_iter	iter;
	int			n = 0;

	if (!qw->config->fifo)
		return qw->holding.nheld;
	if (qw->holding.next == 0)
		return 0;
	dlist_foreach(iter, &qw->waiting.groups_ready)
		n += dlist_container(MessageGroup, node, iter.cur)->held_until != 0;
	return n;
}

static bool
may_hold(QueueWorker *qw, const Lease *lease, int delay, bool charged)
{
	SqsAim		aim;

	if (charged && qw->config->max_attempts == 0 &&
		(!qw->config->fifo || lease->holds >= HOLDS_MAX))
		return false;
	if (delay > HOLD_MAX_S ||
		qw->now + (int64) delay * 1000 > lease->received_at + RECEIVED_MAX_MS ||
		qw->polling.memory > (size_t) sqs_max_in_flight_memory * 1024 / 2 ||
		(lease->group != NULL && lease->group->failed))
		return false;
	sqs_pace_aim(qw, &aim);
	return count_held(qw) < Max(aim.in_hand / 4, HELD_MIN);
}

bool
sqs_hold(QueueWorker *qw, Lease *lease, int delay, bool charged)
{
	if (!may_hold(qw, lease, delay, charged))
		return false;

	lease->holds++;
	lease->due = qw->now + Max((int64) delay * 1000, HOLD_MIN_MS);
	if (lease->group != NULL)
	{
		MessageGroup *group = lease->group;

		sqs_waiting_put_back(qw, lease);
		group->held_until = lease->due;
		qw->holding.next = qw->holding.next == 0 ? lease->due : Min(qw->holding.next, lease->due);
	}
	else
		sqs_waiting_put_aside(qw, lease, NULL);
	sqs_count(qw->stats, SQS_HELD, 1);
	sqs_wake_at(qw, lease->due);
	return true;
}

/* It may be handed out, unless its route is held meanwhile. */
static void
take_up(QueueWorker *qw, Lease *lease)
{
	if (sqs_route_state(qw, lease->route)->hold != ROUTE_RUNS)
		sqs_route_keep(qw, lease);
	else if (lease->aside)
		sqs_waiting_take_up(qw, lease);
}

/*
 * A group can go on when all of it that was sent to a handler after its head has
 * come back, skipped.
 */
static void
take_up_groups(QueueWorker *qw)
{
	dlist_iter	iter;

	if (qw->holding.next == 0)
		return;
	if (qw->now < qw->holding.next)
	{
		sqs_wake_at(qw, qw->holding.next);
		return;
	}
	qw->holding.next = 0;
	dlist_foreach(iter, &qw->waiting.groups_ready)
	{
		MessageGroup *group = dlist_container(MessageGroup, node, iter.cur);

		if (group->held_until == 0)
			continue;
		if (group->held_until <= qw->now && group->handed == 0)
		{
			group->held_until = 0;
			take_up(qw, dlist_head_element(Lease, node, &group->waiting));
		}
		else
			qw->holding.next = qw->holding.next == 0 ? group->held_until :
				Min(qw->holding.next, group->held_until);
	}
	/* the results that are missing wake us up */
	if (qw->holding.next > qw->now)
		sqs_wake_at(qw, qw->holding.next);
}

void
sqs_holding_turn(QueueWorker *qw)
{
	if (qw->stopping)
		return;
	take_up_groups(qw);
	while (!dlist_is_empty(&qw->holding.list))
	{
		Lease	   *lease = dlist_head_element(Lease, node, &qw->holding.list);

		if (lease->due > qw->now)
		{
			sqs_wake_at(qw, lease->due);
			break;
		}
		take_up(qw, lease);
	}
}
