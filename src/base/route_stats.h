/*-------------------------------------------------------------------------
 *
 * route_stats.h
 *	  The statistics of routes in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_ROUTE_STATS_H
#define SQSBRIDGE_ROUTE_STATS_H

#include "base/shmem.h"

/*
 * Count what has become of a message.  *entry is the caller's, for this route;
 * NULL at first.  "counter" may be SQS_NUM_ROUTE_COUNTERS: only the time.
 */
extern void sqs_route_count(SqsRouteStats **entry, int32 queue_id, const char *key,
							SqsRouteCounter counter, uint64 micros);

/* Copy a route's counters; zeros if it has none.  False: there is no room. */
extern bool sqs_route_counters(int32 queue_id, const char *key,
							   uint64 counters[SQS_NUM_ROUTE_COUNTERS]);

/* Set the counters of a queue's routes to zero. */
extern void sqs_route_stats_reset(int32 queue_id);

#endif							/* SQSBRIDGE_ROUTE_STATS_H */
