/*-------------------------------------------------------------------------
 *
 * outbox_health.h
 *	  How the relay of a queue's outbox rows is doing, for the views.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_OUTBOX_HEALTH_H
#define SQSBRIDGE_OUTBOX_HEALTH_H

#include "base/shmem.h"

/* Set the state of sending. */
extern void sqs_outbox_health_set(SqsQueueStats *stats, SqsOutboxState state,
								  long next_attempt_ms);

/* Add an error; returns whether it is to be logged (see errors.h). */
extern bool sqs_outbox_health_error(SqsQueueStats *stats, const char *text, bool announce);

/* SQS has confirmed messages. */
extern void sqs_outbox_health_sent(SqsQueueStats *stats);

/* Nothing is wrong any more; returns whether that is to be logged. */
extern bool sqs_outbox_health_well(SqsQueueStats *stats);

/*
 * The relay as a whole has failed, which is shown for every queue that has
 * something to send; and: it works again.
 */
extern void sqs_outbox_health_relay_failed(Oid dboid, const char *text, long next_attempt_ms);
extern void sqs_outbox_health_relay_well(Oid dboid);

extern const char *sqs_outbox_state_name(SqsOutboxState state);

#endif							/* SQSBRIDGE_OUTBOX_HEALTH_H */
