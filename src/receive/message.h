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

/* A value of type sqs_message */
extern Datum sqs_message_datum(const char *queue, const SqsReceivedMessage *message);

/* The key of a message in the inbox, palloc'd */
extern char *sqs_message_identity(const SqsReceivedMessage *message);

#endif							/* SQSBRIDGE_MESSAGE_H */
