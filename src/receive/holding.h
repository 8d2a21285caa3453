/*-------------------------------------------------------------------------
 *
 * holding.h
 *	  Messages that have failed, and wait for their delay in hand.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_HOLDING_H
#define SQSBRIDGE_HOLDING_H

#include "receive/queue_state.h"

/*
 * Keep a message that was handed out and has failed, to be handed out again after
 * so many seconds.  "charged": the failure counts as an attempt.  The lease is in no
 * list.  Returns false if it is not to be kept; then nothing has changed.
 */
extern bool sqs_hold(QueueWorker *qw, Lease *lease, int delay, bool charged);

/* Take up those that are due. */
extern void sqs_holding_turn(QueueWorker *qw);

#endif							/* SQSBRIDGE_HOLDING_H */
