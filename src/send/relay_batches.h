/*-------------------------------------------------------------------------
 *
 * relay_batches.h
 *	  Finding the batches of the outbox that are to be sent.
 *
 * All of this is done in a transaction that reads (relay_tables.h), and does
 * not wait for anybody's lock.  An ERROR leaves what is in memory as far as it
 * was read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RELAY_BATCHES_H
#define SQSBRIDGE_RELAY_BATCHES_H

#include "send/relay_tables.h"

/* A look at everything is made after so many times its duration. */
#define SQS_RELAY_SCAN_COST	100

/*
 * Find what has been committed since the last look, or, if that is asked for
 * and due, all there is.
 */
extern void sqs_relay_find_batches(Relay *relay, OutboxTables *tables, int64 now);

/* Read batches of a queue from the stream's tail on, if it has few left. */
extern void sqs_relay_refill_stream(Relay *relay, OutboxTables *tables, RelayQueue *queue,
									BatchStreamId id);

/*
 * May what the batch holds be sent?  Flushes WAL here, if need be; false while
 * synchronous standbys have not.
 */
extern bool sqs_relay_is_durable(RelayBatch *batch);

/* A transaction of its own: count the rows that nothing leads to. */
extern void sqs_relay_find_stranded(Relay *relay, int64 now);

#endif							/* SQSBRIDGE_RELAY_BATCHES_H */
