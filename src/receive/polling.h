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

/* Open receive calls, after the setup that the first one needs. */
extern void sqs_polling_turn(QueueWorker *qw);

/* Count the calls of open polls now, not only when they end, up to wait_time later. */
extern void sqs_polling_count(QueueWorker *qw);

/* Abandon all polls.  Messages that they would bring wait for their timeout. */
extern void sqs_polling_abandon(QueueWorker *qw);

#endif							/* SQSBRIDGE_POLLING_H */
