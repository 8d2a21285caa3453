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

/* Apply the results in the handlers' rings, and note which handlers are ready. */
extern void sqs_results_collect(QueueWorker *qw);

/* Apply the result of a message that a handler had in hand. */
extern void sqs_results_apply(QueueWorker *qw, Lease *lease, const SqsResult *result);

/* A failed attempt could not be recorded in sqs_failures: show that as an error. */
extern void sqs_results_not_recorded(QueueWorker *qw, const char *why);

#endif							/* SQSBRIDGE_RESULTS_H */
