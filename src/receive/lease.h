/*-------------------------------------------------------------------------
 *
 * lease.h
 *	  The table of messages in hand; renewing and releasing leases.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_LEASE_H
#define SQSBRIDGE_LEASE_H

#include "receive/queue_state.h"

/* Initialize the table and its copy in shared memory. */
extern void sqs_leases_init(QueueWorker *qw, const SqsLeaseEvents *events);

/* The table has places 0 to table.size - 1. */
extern int	sqs_leases_room(QueueWorker *qw, int wanted);
extern void sqs_leases_shrink(QueueWorker *qw);
extern Lease *sqs_lease_at(QueueWorker *qw, int place);

/* Add a message that was received. */
extern Lease *sqs_lease_add(QueueWorker *qw, Reply *reply,
							const SqsReceivedMessage *message,
							int visibility);

/* Free a lease; the caller has taken it off its state's list. */
extern void sqs_lease_free(QueueWorker *qw, Lease *lease);

/*
 * Make the message visible again, "after" seconds from now.  The caller has
 * taken it off its state's list.
 */
extern void sqs_lease_release(QueueWorker *qw, Lease *lease, int after);

/* Do not renew the lease any more. */
extern void sqs_lease_stop_renewing(QueueWorker *qw, Lease *lease);

/* Update the lease's copy in shared memory, for sqs_stats_in_flight. */
extern void sqs_lease_mirror(QueueWorker *qw, Lease *lease);

/* Renew the leases that are due, and give up those that have ended. */
extern void sqs_leases_renew(QueueWorker *qw);

/*
 * Send releases: ten or more at once, fewer after a short while or when "all" is
 * true.
 */
extern void sqs_leases_flush_releases(QueueWorker *qw, bool all);

#endif							/* SQSBRIDGE_LEASE_H */
