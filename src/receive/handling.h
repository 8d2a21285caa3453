/*-------------------------------------------------------------------------
 *
 * handling.h
 *	  What a handler worker knows of its queue's configuration.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_HANDLING_H
#define SQSBRIDGE_HANDLING_H

#include "config/error_rules.h"
#include "config/queues.h"
#include "receive/routing.h"

typedef struct SqsHandling
{
	SqsQueueConfig *config;		/* NULL: the queue is not registered any more */
	SqsErrorRules *rules;		/* NULL: it has none of its own */
	SqsRouting *routing;		/* NULL: it has neither routes nor a dedup_key */
} SqsHandling;

/*
 * The configuration, as new as "change" at least, which comes with a message;
 * valid until the next call.  Not in a transaction.
 */
extern const SqsHandling *sqs_handling(int32 queue_id, uint64 change);

#endif							/* SQSBRIDGE_HANDLING_H */
