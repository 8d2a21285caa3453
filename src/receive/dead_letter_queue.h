/*-------------------------------------------------------------------------
 *
 * dead_letter_queue.h
 *	  Dead letters that are sent to another queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_DEAD_LETTER_QUEUE_H
#define SQSBRIDGE_DEAD_LETTER_QUEUE_H

#include "config/queues.h"
#include "receive/message.h"

/*
 * Put a message into the outbox of the queue's dead-letter queue, in the current
 * transaction.  False, without having done anything, if SQS would not accept it
 * there.  An ERROR if there is no such queue, or its owner may not send to it.
 */
extern bool sqs_dead_letter_send(const SqsQueueConfig *config, const SqsKeptMessage *kept,
								 const ErrorData *edata, const char *reason, int attempts);

#endif							/* SQSBRIDGE_DEAD_LETTER_QUEUE_H */
