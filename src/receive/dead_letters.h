/*-------------------------------------------------------------------------
 *
 * dead_letters.h
 *	  The rows of sqs_dead_letters.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_DEAD_LETTERS_H
#define SQSBRIDGE_DEAD_LETTERS_H

#include "config/queues.h"
#include "receive/channel.h"
#include "receive/message.h"

/*
 * Keep a message that is not handled, in the current transaction, which must have
 * an active snapshot: in the queue's dead-letter queue, if it has one and SQS
 * accepts the message there, or in a row.  It is dead, or parked if that is the
 * reason: verdict, rule, max_attempts, unroutable, crash, parked, expiring,
 * verify_sns, or damaged.  edata and route may be NULL.
 */
extern void sqs_dead_letter_insert(const SqsQueueConfig *config, const SqsDelivery *delivery,
								   const ErrorData *edata, const char *reason,
								   int attempts, const char *route);

/*
 * Put a message into the outbox of the queue's dead-letter queue, in the current
 * transaction.  False, without having done anything, if SQS would not accept it
 * there.  An ERROR if there is no such queue, or its owner may not send to it.
 * Set by control/dead_letter_queue.c.
 */
typedef bool (*SqsDeadLetterSend) (const SqsQueueConfig *config, const SqsKeptMessage *kept,
								   const ErrorData *edata, const char *reason, int attempts);

extern SqsDeadLetterSend sqs_dead_letter_send;

#endif							/* SQSBRIDGE_DEAD_LETTERS_H */
