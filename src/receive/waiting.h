/*-------------------------------------------------------------------------
 *
 * waiting.h
 *	  Messages that wait for a handler, and message groups.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_WAITING_H
#define SQSBRIDGE_WAITING_H

#include "receive/queue_state.h"

extern void sqs_waiting_init(QueueWorker *qw);

/* Add a message that was just received. */
extern void sqs_waiting_add(QueueWorker *qw, Lease *lease);

/* Put back a message that was handed out and is to be handed out again. */
extern void sqs_waiting_put_back(QueueWorker *qw, Lease *lease);

/* Put aside a message that was handed out and has failed, or take it up again. */
extern void sqs_waiting_put_aside(QueueWorker *qw, Lease *lease, RouteState *route);
extern void sqs_waiting_take_up(QueueWorker *qw, Lease *lease);

/* Take a message that waits out of its list. */
extern void sqs_waiting_remove(QueueWorker *qw, Lease *lease);

/* Release all waiting messages. */
extern void sqs_waiting_release(QueueWorker *qw);

/* Release messages that will not be handled soon. */
extern int	sqs_waiting_give_back(QueueWorker *qw, int n);

/* How many messages wait for an earlier one of their group. */
extern int	sqs_waiting_blocked(QueueWorker *qw, int *held);

/*
 * After a failure in a group; and after a change of what handlers have of
 * it.
 */
extern void sqs_group_fail(QueueWorker *qw, MessageGroup *group);
extern void sqs_group_settle(QueueWorker *qw, MessageGroup *group);

/* Is nothing of the group handed out for the present? */
static inline bool
sqs_group_is_held(const MessageGroup *group)
{
	return group->held_until != 0 || group->aside;
}

#endif							/* SQSBRIDGE_WAITING_H */
