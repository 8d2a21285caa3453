/*-------------------------------------------------------------------------
 *
 * outbox_health.h
 *	  How the sending of a queue's outbox rows is doing, for the views.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_OUTBOX_HEALTH_H
#define SQSBRIDGE_OUTBOX_HEALTH_H

#include "base/shmem.h"

/*
 * next_attempt_ms: how long the relay will wait before it tries again; 0: it
 * does not wait.  Those that return bool tell whether the log is to hear of it.
 */
extern void sqs_outbox_health_set(SqsQueueStats *stats, SqsOutboxState state,
								 long next_attempt_ms);
extern bool sqs_outbox_health_error(SqsQueueStats *stats, const char *text, bool announce);
extern void sqs_outbox_health_sent(SqsQueueStats *stats);
extern bool sqs_outbox_health_well(SqsQueueStats *stats);

/*
 * The relay as a whole has failed: all queues with something to send say so;
 * and it is well again.
 */
extern void sqs_outbox_health_relay_failed(Oid dboid, const char *text, long next_attempt_ms);
extern void sqs_outbox_health_relay_well(Oid dboid);

extern const char *sqs_outbox_state_name(SqsOutboxState state);

#endif							/* SQSBRIDGE_OUTBOX_HEALTH_H */
