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

/* False: there is no handler, and none can be started at present. */
extern bool sqs_dispatch_is_possible(QueueWorker *qw);

#endif							/* SQSBRIDGE_DISPATCH_H */
