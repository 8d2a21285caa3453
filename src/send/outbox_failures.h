/*-------------------------------------------------------------------------
 *
 * outbox_failures.h
 *	  Messages of the outbox that could not be sent.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_OUTBOX_FAILURES_H
#define SQSBRIDGE_OUTBOX_FAILURES_H

#include "nodes/pg_list.h"

#include "base/internal_tables.h"

/* What a row keeps when it fails, and when it is retried. */
typedef struct SqsKeptColumn
{
	OutboxColumn row;
	OutboxFailureColumn failure;
} SqsKeptColumn;

#define SQS_KEPT_COLUMNS	11
extern const SqsKeptColumn sqs_kept_columns[SQS_KEPT_COLUMNS];

/*
 * May the current role take a failure away, of which these are the columns?
 * For who enqueued the message, and for the owners of the queue and of the
 * server that it had, if these are still what they were.  "queues" are those
 * of sqs_catalog_queues().
 */
extern bool sqs_may_take_outbox_failure(const Datum *values, const bool *nulls, List *queues);

#endif							/* SQSBRIDGE_OUTBOX_FAILURES_H */
