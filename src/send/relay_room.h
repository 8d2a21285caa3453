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

/*
 * May rows of the queue be read now?  Not of one that cannot send them, be it
 * for the moment.
 */
extern bool sqs_relay_may_read(const RelayQueue *queue, int64 now);

/* Is there room for one more row of the queue? */
extern bool sqs_relay_has_room(Relay *relay, const RelayQueue *queue);

/* Has the queue so few rows in hand that reading some is worth a transaction? */
extern bool sqs_relay_runs_low(const RelayQueue *queue);

/* How many batches of one stream may be in memory. */
extern int	sqs_relay_max_batches(Relay *relay);

/*
 * Give up the rows in hand of a queue that has nothing under way: they are in
 * the table, and sqs_relay_restart_queue() has them read anew when
 * sqs_relay_is_to_restart() says so.
 */
extern void sqs_relay_put_down(Relay *relay, RelayQueue *queue);
extern bool sqs_relay_is_to_restart(const RelayQueue *queue, int64 now);

/* Somebody is short of memory: take it from whom it is of least use to. */
extern void sqs_relay_make_room(Relay *relay, int64 now);

#endif							/* SQSBRIDGE_RELAY_ROOM_H */
