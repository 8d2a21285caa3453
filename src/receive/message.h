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

/* What a handler is interested in: the message without its envelope. */
typedef struct SqsContent
{
	Datum		body;			/* text */
	Datum		attributes;		/* jsonb */
	Datum		envelope;		/* jsonb; 0: there was none */
	bool		for_nobody;		/* it is S3's test event */
} SqsContent;

/* Take this kind of envelopes off. */
extern void sqs_message_open(const SqsReceivedMessage *message, text *body, SqsUnwrap unwrap,
							 SqsContent *content);

/* A value of type sqs_message. */
extern Datum sqs_message_datum(const char *queue, const SqsReceivedMessage *message,
							   const SqsContent *content, int attempt);

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

/* The key of a message in the inbox, palloc'd, and that of a business key */
extern char *sqs_message_identity(const SqsReceivedMessage *message);
extern char *sqs_message_business_identity(const char *key);

#endif							/* SQSBRIDGE_MESSAGE_H */
