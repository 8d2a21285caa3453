/*-------------------------------------------------------------------------
 *
 * route_state.h
 *	  Routes whose handler fails again and again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_ROUTE_STATE_H
#define SQSBRIDGE_ROUTE_STATE_H

#include "receive/queue_state.h"

extern void sqs_routes_init(QueueWorker *qw);

/* The state of a route; -1: the queue's handler. */
extern RouteState *sqs_route_state(QueueWorker *qw, int16 route);

/* Flags for the frame of a message that is handed out. */
extern uint32 sqs_route_frame_flags(QueueWorker *qw, Lease *lease, bool is_probe);

/* Tell a handler which routes are held; it has just been started. */
extern void sqs_routes_tell(QueueWorker *qw, Handler *handler);

/* A message has been handled. */
extern void sqs_route_succeeded(QueueWorker *qw, const Lease *lease);

/* A message has failed; afterwards its route may be held. */
extern void sqs_route_failed(QueueWorker *qw, Lease *lease, const SqsResult *result);

/* A message was not run, because the function of its route cannot be called. */
extern void sqs_route_broken(QueueWorker *qw, Lease *lease, const SqsResult *result);

/*
 * Keep a message in hand that has failed, or is due, until its route goes on.  If
 * it was handed out, the lease is in no list.
 */
extern void sqs_route_keep(QueueWorker *qw, Lease *lease);

/* Which message is to be tried next, if one is to be now; NULL: none. */
extern Lease *sqs_route_probe(QueueWorker *qw, RouteState *route);

/* While the queue is held: should one message more be received? */
extern bool sqs_route_wants_message(QueueWorker *qw);

/* Give back what is not needed while the queue is held. */
extern void sqs_routes_turn(QueueWorker *qw);

/* The configuration has changed: try a message of each route that is held. */
extern void sqs_routes_try_now(QueueWorker *qw);

/* Polling is well again; say in the state of the queue that it is held. */
extern void sqs_routes_show(QueueWorker *qw);

#endif							/* SQSBRIDGE_ROUTE_STATE_H */
