/*-------------------------------------------------------------------------
 *
 * results.h
 *	  What handlers report, and what becomes of their messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RESULTS_H
#define SQSBRIDGE_RESULTS_H

#include "receive/queue_state.h"

/* Take the handlers' results off their rings, and notice those that are ready. */
extern void sqs_results_collect(QueueWorker *qw);

/* A handler is done with a message that it had in hand. */
extern void sqs_results_apply(QueueWorker *qw, Lease *lease, const SqsResult *result);

/* A failed attempt could not be recorded in sqs_failures: show it all the same. */
extern void sqs_results_not_recorded(QueueWorker *qw, const char *why);

#endif							/* SQSBRIDGE_RESULTS_H */
