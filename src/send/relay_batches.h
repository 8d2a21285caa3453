/*-------------------------------------------------------------------------
 *
 * relay_batches.h
 *	  Finding the batches of the outbox that are to be sent.
 *
 * All of these functions need a transaction that reads (relay_tables.h),
 * except sqs_relay_find_stranded(), which uses one of its own.  They wait
 * for no lock.  After an ERROR, what was read before it stays in memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RELAY_BATCHES_H
#define SQSBRIDGE_RELAY_BATCHES_H

#include "send/relay_tables.h"

/*
 * The interval between two scans of all batches is at least so many times
 * the duration of a scan.
 */
#define SQS_RELAY_SCAN_COST	100

/* Find what has been committed since the last call */
extern void sqs_relay_find_batches(Relay *relay, OutboxTables *tables, int64 now);

/* Read more batches of a queue into a stream that has few */
extern void sqs_relay_refill_stream(Relay *relay, OutboxTables *tables, RelayQueue *queue,
									BatchStreamId id);

/* Is the batch durable, so that it may be sent? */
extern bool sqs_relay_is_durable(RelayBatch *batch);

/* Count the batches that only sqs_adopt_queues() can mend */
extern void sqs_relay_find_stranded(Relay *relay, int64 now);

#endif							/* SQSBRIDGE_RELAY_BATCHES_H */
