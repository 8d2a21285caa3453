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

/* Make sure that there is a handler that is ready; false if there is none yet. */
extern bool sqs_pool_prepare(QueueWorker *qw);

/*
 * Start one more handler.  If that fails, it is noted in the queue's state or
 * errors, and pool.next_start says when to try again.
 */
extern void sqs_pool_start_handler(QueueWorker *qw);

/* Supervise the handlers. */
extern void sqs_pool_supervise(QueueWorker *qw);

/* Take back from the handlers what they have not begun with. */
extern void sqs_pool_take_back(QueueWorker *qw);

/*
 * The same, and let them begin nothing more, until the queue goes on.
 */
extern void sqs_pool_stop(QueueWorker *qw);
extern void sqs_pool_go_on(QueueWorker *qw);

/* Cancel the messages that run; with "hard", terminate the handlers. */
extern void sqs_pool_cancel(QueueWorker *qw, bool hard);

/* Detach from all handlers, which makes them exit after their current message. */
extern void sqs_pool_end(QueueWorker *qw);

#endif							/* SQSBRIDGE_HANDLER_POOL_H */
