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

/* A message that was just received; its lease is in no list yet. */
extern void sqs_waiting_add(QueueWorker *qw, Lease *lease);

/*
 * A message that was handed out and has not run; its lease is in no list.  If
 * its group has failed and this was the last one handed out, the group is
 * settled: then the lease is RELEASING, and the group may be gone.
 */
extern void sqs_waiting_put_back(QueueWorker *qw, Lease *lease);

/* Release everything that waits. */
extern void sqs_waiting_release(QueueWorker *qw);

/*
 * The number of messages that wait for an earlier message of their group, not
 * for a handler.  SQS sends nothing of such a group, so what it would send in
 * addition are messages of other groups.
 */
extern int	sqs_waiting_blocked(QueueWorker *qw);

/*
 * sqs_group_fail(): no message of this group that waits may run any more.
 * sqs_group_settle(): if none is with a handler, release those that may not
 * run, and free a group without messages.
 */
extern void sqs_group_fail(QueueWorker *qw, MessageGroup *group);
extern void sqs_group_settle(QueueWorker *qw, MessageGroup *group);

#endif							/* SQSBRIDGE_WAITING_H */
