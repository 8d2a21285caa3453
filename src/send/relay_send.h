/*-------------------------------------------------------------------------
 *
 * relay_send.h
 *	  The requests of the relay: from items in hand to SQS.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RELAY_SEND_H
#define SQSBRIDGE_RELAY_SEND_H

#include "send/relay_state.h"

/* Take over a queue's configuration.  Needs a transaction. */
extern void sqs_relay_configure_queue(Relay *relay, RelayQueue *queue,
									  const SqsQueueConfig *config);

/*
 * The queue is not registered any more: its rows will never be sent.  What is
 * under way may still be confirmed; to be called again when nothing is.
 */
extern void sqs_relay_queue_is_gone(Relay *relay, RelayQueue *queue);

/* Start all requests of the queue that can be started, in an error boundary. */
extern void sqs_relay_send(Relay *relay, RelayQueue *queue, int64 now);

/* May the queue have another request now? */
extern bool sqs_relay_may_start(const Relay *relay, const RelayQueue *queue, int64 now);

/* Give back the client of a queue that has no message under way. */
extern void sqs_relay_disconnect(RelayQueue *queue);

/* Abandon all that is under way, without a word to anybody: this is the end. */
extern void sqs_relay_abandon_requests(RelayQueue *queue);

#endif							/* SQSBRIDGE_RELAY_SEND_H */
