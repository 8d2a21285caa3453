/*-------------------------------------------------------------------------
 *
 * outgoing.h
 *	  A message to be sent: from SQL values to what the AWS layer takes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_OUTGOING_H
#define SQSBRIDGE_OUTGOING_H

#include "datatype/timestamp.h"

#include "aws/sqs_protocol.h"
#include "base/id_attribute.h"

/* The members of SQL type sqs_outgoing, in its order; 0 means NULL. */
typedef struct SqsDraft
{
	Datum		body;			/* text */
	Datum		attributes;		/* jsonb */
	Datum		delay;			/* interval */
	Datum		group_id;		/* text */
	Datum		deduplication_id;	/* text */
	Datum		system_attributes;	/* jsonb */
} SqsDraft;

/* What is wrong with a message; all in the current memory context. */
typedef struct SqsDraftError
{
	int			sqlstate;
	const char *code;			/* the error code that SQS would return */
	const char *message;
	const char *detail;			/* or NULL */
	const char *hint;			/* or NULL */
} SqsDraftError;

/* Check a draft and turn it into a message; NULL, or what is wrong with it */
extern SqsDraftError *sqs_outgoing_prepare(const SqsDraft *draft, bool fifo,
										   SqsOutgoing *message);

/* Raise what is wrong as an ERROR */
extern void sqs_draft_error_raise(const SqsDraftError *error, const char *queue);

/* What the id adds to a message's size: the attribute's name, type and value */
#define SQS_ID_BYTES	(sizeof(SQS_ID_ATTRIBUTE) - 1 + sizeof("String") - 1 + 36)

/* Add the attribute sqsbridge-id, if there is room for it */
extern bool sqs_outgoing_add_id(SqsOutgoing *message, const char *id);

#endif							/* SQSBRIDGE_OUTGOING_H */
