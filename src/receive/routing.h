/*-------------------------------------------------------------------------
 *
 * routing.h
 *	  Which route a message takes, and its business key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_ROUTING_H
#define SQSBRIDGE_ROUTING_H

#include "base/shmem.h"
#include "config/key_source.h"
#include "config/routes.h"
#include "receive/handler_function.h"
#include "receive/message.h"

/* What becomes of a message that no route is for. */
typedef enum SqsUnroutable
{
	SQS_UNROUTABLE_HANDLER,		/* it goes to the queue's handler */
	SQS_UNROUTABLE_FAIL,
	SQS_UNROUTABLE_DEAD_LETTER,
	SQS_UNROUTABLE_DISCARD
} SqsUnroutable;

/* What this process keeps for a route. */
typedef struct SqsRouteUse
{
	SqsHandlerFunction function;
	SqsRouteStats *stats;
} SqsRouteUse;

/* The options about keys, in the form in which they are used. */
typedef struct SqsRouting
{
	SqsKeySource *route_by;		/* NULL: there are no routes */
	SqsKeySource *dedup_key;	/* NULL: there are no business keys */
	SqsUnroutable unroutable;
	SqsRoutes  *routes;			/* NULL without route_by */
	SqsRouteUse *uses;			/* of each of them */
} SqsRouting;

/*
 * Read them; NULL if the queue has none of these options.  Needs a transaction
 * with an active snapshot; memory is the current context's.
 */
extern SqsRouting *sqs_routing_load(SqsQueueConfig *config);

/* What they say about a message. */
typedef struct SqsRouted
{
	const SqsRoute *route;		/* NULL: there is none for it */
	SqsRouteUse *use;			/* of the route */
	bool		unroutable;		/* there are routes, and none is for it */
	char	   *key;			/* what route_by has found, or NULL */
	char	   *dedup_key;		/* what dedup_key has found, or NULL */
} SqsRouted;

/*
 * Find the keys in a message, and the route.  Can take long, and be interrupted.
 * Raises no error because of what the message contains.
 */
extern void sqs_route_message(const SqsRouting *routing, const SqsContent *content,
							  SqsRouted *routed);

#endif							/* SQSBRIDGE_ROUTING_H */
