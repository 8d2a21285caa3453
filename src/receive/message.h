/*-------------------------------------------------------------------------
 *
 * message.h
 *	  Converting a received message to the SQL value that a handler gets.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_MESSAGE_H
#define SQSBRIDGE_MESSAGE_H

#include "aws/sqs_protocol.h"
#include "config/queues.h"

/*
 * A value of type sqs_message, with this kind of envelopes taken off.
 * *for_nobody: it is S3's test event.
 */
extern Datum sqs_message_datum(const char *queue, const SqsReceivedMessage *message,
							   text *body, SqsUnwrap unwrap, bool *for_nobody);

/* The key of a message in the inbox, palloc'd */
extern char *sqs_message_identity(const SqsReceivedMessage *message);

#endif							/* SQSBRIDGE_MESSAGE_H */
