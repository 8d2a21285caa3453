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

/* Give waiting messages to handlers. */
extern void sqs_dispatch(QueueWorker *qw);

/* How many more messages can be started soon. */
extern int	sqs_dispatch_capacity(QueueWorker *qw);

#endif							/* SQSBRIDGE_DISPATCH_H */
