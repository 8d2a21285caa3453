/*-------------------------------------------------------------------------
 *
 * relay_send.h
 *	  The requests of the relay: sending the items in hand to SQS.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RELAY_SEND_H
#define SQSBRIDGE_RELAY_SEND_H

#include "send/relay_state.h"

/* Take over the configuration of a queue; needs a transaction */
extern void sqs_relay_configure_queue(Relay *relay, RelayQueue *queue,
									  const SqsQueueConfig *config);

/* The queue is not registered any more */
extern void sqs_relay_queue_is_gone(Relay *relay, RelayQueue *queue);

/* Start all requests of the queue that can be started */
extern void sqs_relay_send(Relay *relay, RelayQueue *queue, int64 now);

/* May the queue start another request now? */
extern bool sqs_relay_may_start(const Relay *relay, const RelayQueue *queue, int64 now);

/* Release the client of a queue */
extern void sqs_relay_disconnect(RelayQueue *queue);

/* Abandon all requests of a queue; the relay is not used after that */
extern void sqs_relay_abandon_requests(RelayQueue *queue);

#endif							/* SQSBRIDGE_RELAY_SEND_H */
