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

/* The columns that are the same in outbox_rows and outbox_failures. */
typedef struct SqsKeptColumn
{
	OutboxColumn row;
	OutboxFailureColumn failure;
} SqsKeptColumn;

#define SQS_KEPT_COLUMNS	11
extern const SqsKeptColumn sqs_kept_columns[SQS_KEPT_COLUMNS];

/* May the current role retry or discard a failed message? */
extern bool sqs_may_take_outbox_failure(const Datum *values, const bool *nulls, List *queues);

/* An ERROR if somebody else has registered another queue by that name since. */
extern void sqs_check_same_queue(const char *name, int32 queue_id);

#endif							/* SQSBRIDGE_OUTBOX_FAILURES_H */
