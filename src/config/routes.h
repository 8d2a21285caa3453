/*-------------------------------------------------------------------------
 *
 * routes.h
 *	  Which function handles which messages of a queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_ROUTES_H
#define SQSBRIDGE_ROUTES_H

#include "config/queues.h"

#define SQS_ROUTES_MAX		1000	/* of a queue */
#define SQS_ROUTE_KEY_MAX	256 /* bytes */

typedef struct SqsRoute
{
	int			number;			/* 0 to PG_INT16_MAX; no other route of the
								 * queue has it */
	char	   *key;
	SqsBinding	handler;
	int			handler_timeout;	/* ms; 0: the queue's */
} SqsRoute;

typedef struct SqsRoutes
{
	int			n;
	SqsRoute   *routes;			/* in the order of their keys */
} SqsRoutes;

/*
 * The routes of a queue; never NULL.  Needs a transaction with an active
 * snapshot, as all of these do; memory is the current context's.
 */
extern SqsRoutes *sqs_routes_load(int32 queue_id);

/* The route with this key; NULL if there is none. */
extern const SqsRoute *sqs_route_find(const SqsRoutes *routes, const char *key);

/*
 * Read a row of the table, as RouteColumn says, and find out why the route cannot
 * be used for a queue of this role.  NULL, or a phrase as SqsQueueConfig.problem.
 */
extern void sqs_route_read(const Datum *values, const bool *nulls, SqsRoute *route);
extern char *sqs_route_problem(const SqsRoute *route, Oid owner);

/* For functions that change a queue, and have locked it. */

/*
 * Bind routes that are not what was bound anew, to the functions with their
 * names, which will run as this role.  If one cannot be, a WARNING or an ERROR.
 */
extern void sqs_routes_bind(const SqsQueueConfig *queue, Oid owner, int elevel);

/* The same in a copy: owners keep their names.  No message. */
extern void sqs_routes_adopt(int32 queue_id, Oid owner);

extern void sqs_routes_delete(int32 queue_id);

#endif							/* SQSBRIDGE_ROUTES_H */
