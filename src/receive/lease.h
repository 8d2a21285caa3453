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

/*
 * Make the table, and show it in shared memory; an ERROR if there is none.
 * "events" are called when a lease has been renewed, and when it is lost: then
 * whoever has the message has to let go of it.
 */
extern void sqs_leases_init(QueueWorker *qw, const SqsLeaseEvents *events);

/*
 * A message that was received, in state WAITING and in no list.  NULL if the
 * table is full, which asking for no more than fits prevents.
 */
extern Lease *sqs_lease_add(QueueWorker *qw, Reply *reply,
							const SqsReceivedMessage *message,
							int visibility);

/* Let go of a lease; the caller has taken it off its state's list. */
extern void sqs_lease_free(QueueWorker *qw, Lease *lease);

/*
 * Make the message visible again, "after" seconds from now.  The caller has
 * taken it off its state's list.
 */
extern void sqs_lease_release(QueueWorker *qw, Lease *lease, int after);

extern void sqs_lease_stop_renewing(QueueWorker *qw, Lease *lease);

/* Show the lease as it now is in sqs_stats_in_flight. */
extern void sqs_lease_mirror(QueueWorker *qw, Lease *lease);

/* Renew what is due, and give up what has run out. */
extern void sqs_leases_renew(QueueWorker *qw);

/* Send what is to be released; not "all": full batches, or after a short while. */
extern void sqs_leases_flush_releases(QueueWorker *qw, bool all);

#endif							/* SQSBRIDGE_LEASE_H */
