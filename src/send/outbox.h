/*-------------------------------------------------------------------------
 *
 * outbox.h
 *	  The outbox's tables: what is in them, and who may rely on what.
 *
 * outbox_rows holds a row per message that has not been sent, outbox_batches
 * one per transaction and queue (or per message with a time of its own), which
 * says when and in what order their messages go.
 *
 * A batch is written by the top-level transaction itself, as the last thing
 * before it commits, so its xmin is its xid: it became visible together with
 * all its rows.  A batch with another xmin is a copy (restored, replicated),
 * which proves nothing about rows; see sqs_adopt_queues().
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_OUTBOX_H
#define SQSBRIDGE_OUTBOX_H

#include "access/htup.h"
#include "access/xact.h"

#include "base/internal_tables.h"
#include "send/outgoing.h"

/* What a row keeps when it fails, and when it is retried. */
typedef struct SqsKeptColumn
{
	OutboxColumn row;
	OutboxFailureColumn failure;
} SqsKeptColumn;

#define SQS_KEPT_COLUMNS	11
extern const SqsKeptColumn sqs_kept_columns[SQS_KEPT_COLUMNS];

/*
 * Check a row and turn it into a message, as sqs_outgoing_prepare() does: a
 * row that is inserted, and once more one that is sent.
 */
extern SqsDraftError *sqs_outbox_prepare(const Datum *values, const bool *nulls,
										 bool fifo, SqsOutgoing *message);

/* Was the batch written by the transaction it says, or is it a copy? */
extern bool sqs_batch_is_native(HeapTuple batch, TupleDesc desc);

/* Has this transaction enqueued anything, whose batches are still to come? */
extern bool sqs_outbox_has_batches(void);

/* Transaction callbacks, from sqsbridge.c. */
extern void sqs_outbox_pre_commit(void);
extern void sqs_outbox_xact_end(XactEvent event);
extern void sqs_outbox_subxact_abort(void);
extern void sqs_outbox_config_changed(void);

/* After the commit: tell the relay.  Does nothing if there was no row. */
extern void sqs_outbox_wake(void);

#endif							/* SQSBRIDGE_OUTBOX_H */
