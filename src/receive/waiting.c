/*-------------------------------------------------------------------------
 *
 * waiting.c
 *	  Messages that wait for a handler, and message groups.
 *
 * Standard queues have one list, in the order of receipt.  FIFO queues have one
 * for each message group.  After a failure, a group is either held, and nothing of
 * it is handed out until its first message may be (holding.c, route_state.c); or it
 * has failed: no message of it in hand may run, and they are released once none
 * is with a handler.  So a group that has failed must be settled whenever its
 * "handed" may have become 0.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/queue_stats.h"
#include "receive/lease.h"
#include "receive/waiting.h"

#define MAX_GROUP_ID		128 /* SQS's limit */

/* Initialize the lists of waiting messages. */
void
sqs_waiting_init(QueueWorker *qw)
{
	HASHCTL		ctl;

	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(((MessageGroup *) NULL)->id);
	ctl.entrysize = sizeof(MessageGroup);
	ctl.hcxt = qw->context;
	qw->waiting.groups = hash_create("sqsbridge message groups", 64, &ctl,
									 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	dlist_init(&qw->waiting.groups_ready);
}

/* Find or make the message's group; NULL: out of memory. */
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
	group = hash_search(qw->waiting.groups, key, HASH_ENTER_NULL, &found);
	if (group != NULL && !found)
	{
		dlist_init(&group->waiting);
		dlist_init(&group->tail);
		group->nwaiting = 0;
		group->handed = 0;
		group->failed = false;
		group->held_until = 0;
		group->aside = false;
		group->handler = NULL;
		dlist_push_tail(&qw->waiting.groups_ready, &group->node);
	}
	return group;
}

/*
 * If no message of the group is with a handler, release those that may not
 * run, and free the group if it has no messages.
 */
void
sqs_group_settle(QueueWorker *qw, MessageGroup *group)
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
			sqs_count(qw->stats, SQS_GIVEN_BACK, 1);
		}
		group->failed = false;
	}
	if (group->nwaiting == 0)
	{
		dlist_delete(&group->node);
		hash_search(qw->waiting.groups, group->id, HASH_REMOVE, NULL);
	}
}

/* A message of the group has failed: those that wait may not run any more. */
void
sqs_group_fail(QueueWorker *qw, MessageGroup *group)
{
	dlist_mutable_iter iter;

	group->failed = true;
	group->held_until = 0;
	group->aside = false;
	dlist_foreach_modify(iter, &group->waiting)
	{
		dlist_delete(iter.cur);
		dlist_push_tail(&group->tail, iter.cur);
		group->nwaiting--;
		qw->waiting.n--;
	}
}

/* Is the first number, of digits, the greater one? */
static bool
is_later(SqsSlice a, SqsSlice b)
{
	return a.len != b.len ? a.len > b.len : memcmp(a.data, b.data, a.len) > 0;
}

/*
 * Add a message to its group.  It comes after those that are there, unless SQS
 * has returned one that we had given back before an earlier one that we still
 * hold.  (AWS does not do that, but emulators do.)
 */
static void
insert_by_sequence(MessageGroup *group, Lease *lease)
{
	SqsSlice	number = lease->message->sequence_number;
	dlist_node *before = group->waiting.head.prev;

	while (number.data != NULL && !dlist_is_empty(&group->waiting) &&
		   before != &group->waiting.head &&
		   is_later(dlist_container(Lease, node, before)->message->sequence_number, number))
		before = before->prev;
	if (dlist_is_empty(&group->waiting) || before == &group->waiting.head)
		dlist_push_head(&group->waiting, &lease->node);
	else
		dlist_insert_after(before, &lease->node);
}

/* Add a message that was just received.  Its lease is in no list yet. */
void
sqs_waiting_add(QueueWorker *qw, Lease *lease)
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
		insert_by_sequence(lease->group, lease);
		lease->group->nwaiting++;
	}
	else
		dlist_push_tail(&qw->waiting.list, &lease->node);
	qw->waiting.n++;
}

/*
 * Insert into a list of waiting leases, by order of receipt.  Searches from the
 * front, because what is put back was received before nearly all that waits.
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

/*
 * Put back a message that was handed out and is to be handed out again.  Its
 * lease is in no list.  If its group has failed and this was the last message handed
 * out, the group is settled: then the lease is RELEASING, and the group may
 * be gone.
 */
void
sqs_waiting_put_back(QueueWorker *qw, Lease *lease)
{
	MessageGroup *group = lease->group;

	lease->state = LEASE_WAITING;
	lease->handler = NULL;
	if (group != NULL)
		group->handed--;
	if (group != NULL && group->failed)
		dlist_push_tail(&group->tail, &lease->node);
	else
	{
		insert_in_order(group != NULL ? &group->waiting : &qw->waiting.list, lease);
		if (group != NULL)
			group->nwaiting++;
		qw->waiting.n++;
	}
	sqs_lease_mirror(qw, lease);
	if (group != NULL && group->failed)
		sqs_group_settle(qw, group);
}

/*
 * Put aside a message of a standard queue that was handed out, or that is aside
 * already: in the route's list, at the end; or, with route NULL, among those that
 * are held for their delay, by the time due.
 */
void
sqs_waiting_put_aside(QueueWorker *qw, Lease *lease, RouteState *route)
{
	dlist_node *before = qw->holding.list.head.prev;

	if (lease->state == LEASE_WAITING)
		sqs_waiting_remove(qw, lease);
	lease->state = LEASE_WAITING;
	lease->handler = NULL;
	lease->aside = true;
	lease->aside_of = route;
	qw->holding.n++;
	if (route != NULL)
	{
		dlist_push_tail(&route->aside, &lease->node);
		route->naside++;
	}
	else
	{
		qw->holding.nheld++;
		while (!dlist_is_empty(&qw->holding.list) && before != &qw->holding.list.head &&
			   dlist_container(Lease, node, before)->due > lease->due)
			before = before->prev;
		if (dlist_is_empty(&qw->holding.list) || before == &qw->holding.list.head)
			dlist_push_head(&qw->holding.list, &lease->node);
		else
			dlist_insert_after(before, &lease->node);
	}
	sqs_lease_mirror(qw, lease);
}

/* A message that is aside may be handed out again. */
void
sqs_waiting_take_up(QueueWorker *qw, Lease *lease)
{
	Assert(lease->aside);
	sqs_waiting_remove(qw, lease);
	insert_in_order(&qw->waiting.list, lease);
	qw->waiting.n++;
}

/*
 * The number of messages that wait for an earlier message of their group,
 * not for a handler.  SQS delivers nothing more of such a group, so if more
 * messages are requested, they are of other groups.  *held is how many of these are
 * in groups that are held.
 */
int
sqs_waiting_blocked(QueueWorker *qw, int *held)
{
	dlist_iter	iter;
	int			n = 0;

	*held = 0;
	if (!qw->config->fifo || qw->waiting.n == 0)
		return 0;
	dlist_foreach(iter, &qw->waiting.groups_ready)
	{
		MessageGroup *group = dlist_container(MessageGroup, node, iter.cur);

		if (sqs_group_is_held(group))
			*held += group->nwaiting;
		if (group->handed > 0 || sqs_group_is_held(group))
			n += group->nwaiting;
	}
	return n;
}

/* Take a lease that waits out of its list. */
void
sqs_waiting_remove(QueueWorker *qw, Lease *lease)
{
	dlist_delete(&lease->node);
	if (lease->aside)
	{
		lease->aside = false;
		qw->holding.n--;
		if (lease->aside_of != NULL)
			lease->aside_of->naside--;
		else
			qw->holding.nheld--;
	}
	else if (lease->group == NULL || !lease->group->failed)
	{
		qw->waiting.n--;
		if (lease->group != NULL)
			lease->group->nwaiting--;
	}
}

/* Release a lease that waits; it is in its list. */
static void
release_waiting(QueueWorker *qw, Lease *lease, int after)
{
	sqs_waiting_remove(qw, lease);
	sqs_lease_release(qw, lease, after);
}

/* For how long (s) is this message, which waits, not to be handed out? */
static int
remaining_delay(QueueWorker *qw, Lease *lease)
{
	MessageGroup *group = lease->group;
	int64		due = lease->aside && lease->aside_of == NULL ? lease->due : 0;

	if (group != NULL && group->held_until > 0 && !dlist_is_empty(&group->waiting) &&
		dlist_head_element(Lease, node, &group->waiting) == lease)
		due = group->held_until;
	return due > qw->now ? (int) ((due - qw->now + 999) / 1000) : 0;
}

/* Release all waiting messages, with the delay that each has left. */
void
sqs_waiting_release(QueueWorker *qw)
{
	for (int i = 0; i < qw->table.size; i++)
	{
		Lease	   *lease = sqs_lease_at(qw, i);

		if (lease->state == LEASE_WAITING)
			release_waiting(qw, lease, remaining_delay(qw, lease));
	}
}

/*
 * Of a list, the newest first, without those that have been received before.
 * What is kept of a message group must not come after what is given back, so of
 * a FIFO queue such a message keeps those before it, too.
 */
static int
give_back_list(QueueWorker *qw, dlist_head *list, int n)
{
	dlist_node *node = list->head.prev;
	int			given = 0;

	while (given < n && node != &list->head)
	{
		Lease	   *lease = dlist_container(Lease, node, node);

		node = node->prev;
		if (lease->message->receive_count <= 1)
		{
			release_waiting(qw, lease, 0);
			given++;
		}
		else if (qw->config->fifo)
			break;
	}
	sqs_count(qw->stats, SQS_GIVEN_BACK, given);
	return given;
}

/*
 * Release about n messages that wait, the last received first, and return how
 * many that were.  One that has been received before is kept, because each
 * receive brings a message closer to the dead-letter queue.  Of a FIFO queue,
 * whole groups are given back, those that came last first, but none of which a
 * message is with a handler, since nobody else could receive the rest.
 */
int
sqs_waiting_give_back(QueueWorker *qw, int n)
{
	dlist_node *node = qw->waiting.groups_ready.head.prev;
	int			given = 0;

	if (!qw->config->fifo)
		return give_back_list(qw, &qw->waiting.list, n);

	while (given < n && node != &qw->waiting.groups_ready.head)
	{
		MessageGroup *group = dlist_container(MessageGroup, node, node);

		node = node->prev;
		if (group->handed > 0 || group->failed || sqs_group_is_held(group))
			continue;
		given += give_back_list(qw, &group->waiting, group->nwaiting);
		sqs_group_settle(qw, group);
	}
	return given;
}
