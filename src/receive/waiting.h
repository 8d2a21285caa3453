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

/* One that was handed out and has not run; it is in no list. */
extern void sqs_waiting_put_back(QueueWorker *qw, Lease *lease);

/* Release everything that waits. */
extern void sqs_waiting_release(QueueWorker *qw);

/*
 * Messages that wait for their own group and no handler.  SQS holds the rest
 * of such a group back, so what it would send instead are other groups.
 */
extern int	sqs_waiting_blocked(QueueWorker *qw);

/*
 * Of this group nothing in hand may run any more; and: if nothing of it runs,
 * release what has to be, and forget a group without messages.
 */
extern void sqs_group_fail(QueueWorker *qw, MessageGroup *group);
extern void sqs_group_settle(QueueWorker *qw, MessageGroup *group);

#endif							/* SQSBRIDGE_WAITING_H */
