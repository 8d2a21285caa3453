/*-------------------------------------------------------------------------
 *
 * failures.h
 *	  The rows of sqs_failures.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_FAILURES_H
#define SQSBRIDGE_FAILURES_H

#include "utils/relcache.h"
#include "utils/timestamp.h"

#include "aws/sqs_protocol.h"
#include "config/error_rules.h"

typedef struct SqsFailure
{
	int32		queue_id;
	const char *queue;
	Oid			owner;			/* of the queue */
	SqsSlice	message_id;
	int			receive_count;
	const ErrorData *edata;
	int			handler_pid;
	int			attempt;		/* 0: it does not count */
	SqsErrorAction action;		/* what follows */
	TimestampTz retry_at;		/* 0: not known */
	const char *route;			/* NULL: none */
} SqsFailure;

/*
 * Record a failed attempt in the current transaction, which must have an active
 * snapshot.  If the queue has sqsbridge.max_failures of them, some of the oldest
 * are deleted.
 */
extern void sqs_failure_insert(const SqsFailure *failure);

/* Count a queue's failures from a time on; stop at "most". */
extern int64 sqs_failures_count(Relation rel, Relation index, int32 queue_id,
								TimestampTz from, int64 most);

/* A text of an error, NULL or clipped to what a row has of it. */
extern void sqs_set_error_text(Datum *value, bool *null, const char *text);

#endif							/* SQSBRIDGE_FAILURES_H */
