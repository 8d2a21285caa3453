/*-------------------------------------------------------------------------
 *
 * ack.h
 *	  An acknowledgement never precedes durability.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_ACK_H
#define SQSBRIDGE_ACK_H

#include "receive/queue_state.h"

/* A message is handled, if its WAL up to lsn is durable. */
extern void sqs_ack_committed(QueueWorker *qw, Lease *lease, XLogRecPtr lsn);

/*
 * Make what is committed durable, if it is time to, and queue for deletion
 * what the standbys have, too.
 */
extern void sqs_ack_flush(QueueWorker *qw);

/* Send the deletes; not "all": full batches, or after a short while. */
extern void sqs_ack_deletes(QueueWorker *qw, bool all);

#endif							/* SQSBRIDGE_ACK_H */
