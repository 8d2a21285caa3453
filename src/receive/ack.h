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

/* A message's transaction has committed; it may be deleted once lsn is durable. */
extern void sqs_ack_committed(QueueWorker *qw, Lease *lease, XLogRecPtr lsn);

/* Flush WAL if it is time, and queue the durable messages for deletion. */
extern void sqs_ack_flush(QueueWorker *qw);

/*
 * Send deletes: full batches, and the rest when the oldest has waited long enough
 * or "all" is true.
 */
extern void sqs_ack_deletes(QueueWorker *qw, bool all);

#endif							/* SQSBRIDGE_ACK_H */
