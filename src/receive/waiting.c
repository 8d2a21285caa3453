/*-------------------------------------------------------------------------
 *
 * waiting.c
 *	  Messages that wait for a handler, and message groups.
 *
 * Standard queues have one list, in the order of receipt.  FIFO queues have one
 * for each message group.  After a failure no message of the group in hand may
 * run; they are released once none of the group is with a handler.  So a group
 * that has failed must be settled whenever its "handed" may have become 0.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "receive/lease.h"
#include "receive/marks.h"
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
	dlist_foreach_modify(iter, &group->waiting)
	{
		dlist_delete(iter.cur);
		dlist_push_tail(&group->tail, iter.cur);
		group->nwaiting--;
		qw->waiting.n--;
	}
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
		dlist_push_tail(&lease->group->waiting, &lease->node);
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
 * Put back a message that was handed out and has not run.  Its lease is in
 * no list.  If its group has failed and this was the last message handed
 * out, the group is settled: then the lease is RELEASING, and the group may
 * be gone.
 */
void
sqs_waiting_put_back(QueueWorker *qw, Lease *lease)
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
 * The number of messages that wait for an earlier message of their group,
 * not for a handler.  SQS delivers nothing more of such a group, so if more
 * messages are requested, they are of other groups.
 */
int
sqs_waiting_blocked(QueueWorker *qw)
{
	dlist_iter	iter;
	int			n = 0;

	if (!qw->config->fifo || qw->waiting.n == 0)
		return 0;
	dlist_foreach(iter, &qw->waiting.groups_ready)
	{
		MessageGroup *group = dlist_container(MessageGroup, node, iter.cur);

		if (group->handed > 0)
			n += group->nwaiting;
	}
	return n;
}

/* Release a lease that waits; it is in its list. */
static void
release_waiting(QueueWorker *qw, Lease *lease)
{
	dlist_delete(&lease->node);
	if (lease->group == NULL || !lease->group->failed)
	{
		qw->waiting.n--;
		if (lease->group != NULL)
			lease->group->nwaiting--;
	}
	sqs_lease_release(qw, lease, 0);
}

/* Release all waiting messages. */
void
sqs_waiting_release(QueueWorker *qw)
{
	for (int i = 0; i < qw->table.size; i++)
	{
		Lease	   *lease = sqs_lease_at(qw, i);

		if (lease->state == LEASE_WAITING)
			release_waiting(qw, lease);
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
			release_waiting(qw, lease);
			given++;
		}
		else if (qw->config->fifo)
			break;
	}
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
		if (group->handed > 0 || group->failed)
			continue;
		given += give_back_list(qw, &group->waiting, group->nwaiting);
		sqs_group_settle(qw, group);
	}
	return given;
}
