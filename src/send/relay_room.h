/*-------------------------------------------------------------------------
 *
 * relay_room.h
 *	  Which queue of the relay may read how much.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RELAY_ROOM_H
#define SQSBRIDGE_RELAY_ROOM_H

#include "send/relay_state.h"

/* Can the queue send rows now, so that reading some makes sense? */
extern bool sqs_relay_may_read(const RelayQueue *queue, int64 now);

/* Is there room for one more row of the queue? */
extern bool sqs_relay_has_room(Relay *relay, const RelayQueue *queue);

/* Does it have so few rows that reading more is worth a transaction? */
extern bool sqs_relay_runs_low(const RelayQueue *queue);

/* How many batches of one stream may be in memory */
extern int	sqs_relay_max_batches(Relay *relay);

/* Release the rows of a queue, and whether to read them again */
extern void sqs_relay_put_down(Relay *relay, RelayQueue *queue);
extern bool sqs_relay_is_to_restart(const RelayQueue *queue, int64 now);

/* Take memory from the queue that can make the least use of it */
extern void sqs_relay_make_room(Relay *relay, int64 now);

/* Requests that may be under way at once, of all queues. */
extern int	sqs_relay_request_limit(void);

#endif							/* SQSBRIDGE_RELAY_ROOM_H */
