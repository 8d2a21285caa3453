/*-------------------------------------------------------------------------
 *
 * message.h
 *	  A received message as the SQL value that a handler gets.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_MESSAGE_H
#define SQSBRIDGE_MESSAGE_H

#include "aws/sqs_protocol.h"

/*
 * A value of type sqs_message, in the current memory context.  Raises an
 * error for a message that cannot be represented in this database, such as a
 * character its encoding does not have.
 */
extern Datum sqs_message_datum(const char *queue, const SqsReceivedMessage *message);

/*
 * The key of a message in the inbox, palloc'd: SQS's own id or, for a message
 * that an outbox has sent, the id that it has there, which all copies sent of
 * one row share, combined with a digest of the message's contents and sender.
 * ASCII, at most 128 bytes.
 */
extern char *sqs_message_identity(const SqsReceivedMessage *message);

#endif							/* SQSBRIDGE_MESSAGE_H */
