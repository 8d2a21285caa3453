/*-------------------------------------------------------------------------
 *
 * dispatch.h
 *	  Who gets which message next.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_DISPATCH_H
#define SQSBRIDGE_DISPATCH_H

#include "receive/queue_state.h"

/*
 * Hand out what waits, to the handlers there are; start another if that is
 * not enough.
 */
extern void sqs_dispatch(QueueWorker *qw);

/*
 * How many messages more can be started soon: one per free handler, and what
 * the handlers get through in half a second.  May be negative.
 */
extern int	sqs_dispatch_capacity(QueueWorker *qw);

#endif							/* SQSBRIDGE_DISPATCH_H */
