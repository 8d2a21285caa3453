/*-------------------------------------------------------------------------
 *
 * handler_pool.h
 *	  The handler workers of a queue: starting, watching and ending them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_HANDLER_POOL_H
#define SQSBRIDGE_HANDLER_POOL_H

#include "receive/queue_state.h"

/*
 * A queue that has been out of slots has its first handler before it asks for
 * messages.  True when there is one.
 */
extern bool sqs_pool_prepare(QueueWorker *qw);

/* Start one more handler, if that is possible; if not, the state says why. */
extern void sqs_pool_start_handler(QueueWorker *qw);

/*
 * Look after the handlers: those that are gone, slow, or will not be canceled,
 * those that somebody terminates, and those that have nothing to do.
 */
extern void sqs_pool_supervise(QueueWorker *qw);

/* Take back from the handlers what they have not begun with. */
extern void sqs_pool_take_back(QueueWorker *qw);

/* Cancel what runs; hard: end its process. */
extern void sqs_pool_cancel(QueueWorker *qw, bool hard);

/* Let go of all handlers: a detached channel is their order to leave. */
extern void sqs_pool_end(QueueWorker *qw);

#endif							/* SQSBRIDGE_HANDLER_POOL_H */
