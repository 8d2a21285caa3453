/*-------------------------------------------------------------------------
 *
 * polling.h
 *	  Finding the queue at SQS, and receiving from it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_POLLING_H
#define SQSBRIDGE_POLLING_H

#include "receive/queue_state.h"

extern void sqs_polling_init(QueueWorker *qw);

/*
 * Open as many receives as are wanted; before that, find out the queue's URL
 * and its visibility timeout, and have an open mark (marks.h).
 */
extern void sqs_polling_turn(QueueWorker *qw);

/* Count the calls that are open: a long poll is shown as soon as it is sent. */
extern void sqs_polling_count(QueueWorker *qw);

/* Polls are not waited for any more.  What they bring is lost to us. */
extern void sqs_polling_abandon(QueueWorker *qw);

#endif							/* SQSBRIDGE_POLLING_H */
