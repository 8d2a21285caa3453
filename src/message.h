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
 * What tells a message from others for good: the id that the outbox of its
 * sender gave it, which two copies of one row share, else SQS's own.
 */
extern SqsSlice sqs_message_identity(const SqsReceivedMessage *message);

#endif							/* SQSBRIDGE_MESSAGE_H */
