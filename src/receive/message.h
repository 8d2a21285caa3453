/*-------------------------------------------------------------------------
 *
 * message.h
 *	  Converting a received message to the SQL value that a handler gets.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_MESSAGE_H
#define SQSBRIDGE_MESSAGE_H

#include "datatype/timestamp.h"

#include "aws/sqs_protocol.h"
#include "config/queues.h"

/*
 * A value of type sqs_message, with this kind of envelopes taken off.
 * *for_nobody: it is S3's test event.
 */
extern Datum sqs_message_datum(const char *queue, const SqsReceivedMessage *message,
							   text *body, int attempt, SqsUnwrap unwrap, bool *for_nobody);

/*
 * A message as it is kept in a table: as SQS has it, with its envelope.  Values
 * that are 0 are NULL.
 */
typedef struct SqsKeptMessage
{
	Datum		message_id;		/* text; never 0 */
	Datum		group_id;		/* text */
	Datum		deduplication_id;	/* text */
	Datum		sequence_number;	/* numeric */
	Datum		body;			/* text */
	Datum		attributes;		/* jsonb */
	Datum		system_attributes;	/* jsonb */
	Datum		envelope;		/* jsonb: what the option unwrap finds */
	Datum		raw;			/* bytea, in place of the four above */
} SqsKeptMessage;

/* Raises no error because of what the message contains. */
extern void sqs_message_keep(const SqsReceivedMessage *message, SqsUnwrap unwrap,
							 SqsKeptMessage *kept);

/* Milliseconds since 1970, as SQS gives times */
extern TimestampTz sqs_message_time(int64 ms);

/* The key of a message in the inbox, palloc'd */
extern char *sqs_message_identity(const SqsReceivedMessage *message);

#endif							/* SQSBRIDGE_MESSAGE_H */
