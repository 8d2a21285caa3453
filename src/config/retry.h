/*-------------------------------------------------------------------------
 *
 * retry.h
 *	  How long a message that has failed waits for its next attempt.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RETRY_H
#define SQSBRIDGE_RETRY_H

#include "config/queues.h"

/*
 * The delay (s) after the n-th attempt of a message has failed, n >= 1; -1: until
 * its lease runs out.  "random" is any random number.
 */
extern int	sqs_retry_delay(const SqsQueueConfig *config, int n, uint64 random);

#endif							/* SQSBRIDGE_RETRY_H */
