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

#endif							/* SQSBRIDGE_DEAD_LETTERS_H */
