/*-------------------------------------------------------------------------
 *
 * dispatch.h
 *	  Which handler gets which message next.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_DISPATCH_H
#define SQSBRIDGE_DISPATCH_H

#include "receive/queue_state.h"

/*
 * Hand out what waits to the handlers that can take it; start another handler if
 * something still waits.
 */
extern void sqs_dispatch(QueueWorker *qw);

/*
 * How many more messages can be started soon: one per handler, and what the
 * handlers will finish in half a second, less what is in hand.  May be negative.
 */
extern int	sqs_dispatch_capacity(QueueWorker *qw);

#endif							/* SQSBRIDGE_DISPATCH_H */
