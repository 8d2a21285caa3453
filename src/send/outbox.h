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

/*
 * Check a message and store it, to be sent when the current transaction
 * commits.  values and nulls are of a row, with what is of the message filled
 * in; the rest is filled in here.  A token is given where the row is not new.
 * Errors: no such queue, no right to use it, a message that SQS would refuse.
 * Returns the id.
 */
extern int64 sqs_outbox_store(const char *queue, Datum *values, bool *nulls);

extern void sqs_outbox_init(void);	/* from _PG_init */

#endif							/* SQSBRIDGE_OUTBOX_H */
