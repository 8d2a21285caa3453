/*-------------------------------------------------------------------------
 *
 * deliver.h
 *	  Handling a message in a session, without SQS.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_DELIVER_H
#define SQSBRIDGE_DELIVER_H

#include "aws/sqs_protocol.h"
#include "config/queues.h"

/* A message as a table or a caller has it; 0 means NULL. */
typedef struct SqsDeliverable
{
	Datum		message_id;		/* text */
	Datum		body;			/* text */
	Datum		attributes;		/* jsonb */
	Datum		system_attributes;	/* jsonb */
	Datum		group_id;		/* text */
	Datum		deduplication_id;	/* text */
	Datum		sequence_number;	/* numeric */
	int			receive_count;
	bool		remember;		/* record it in the inbox */
} SqsDeliverable;

/* What became of it; all in the caller's memory context. */
typedef struct SqsDelivered
{
	const char *outcome;		/* done, duplicate, or the name of an action */
	const char *route;			/* key of its route, or NULL */
	ErrorData  *edata;			/* NULL: there was no error */
	int			delay;			/* s; -1: none given */
} SqsDelivered;

/*
 * Call the handler in a subtransaction, which is rolled back unless the outcome is
 * "done".  Raises an ERROR if the current role is not the queue's owner, if there
 * is no handler to call, or if the statement is canceled.
 */
extern void sqs_deliver_message(SqsQueueConfig *queue, const SqsDeliverable *message,
								SqsDelivered *delivered);

#endif							/* SQSBRIDGE_DELIVER_H */
