/*-------------------------------------------------------------------------
 *
 * outbox.h
 *	  The outbox's tables: what is in them, and who may rely on what.
 *
 * outbox_rows has one row per message that has not been sent.
 * outbox_batches has one row per transaction and queue, and one per message
 * with a deliver_at of its own; it says when and in what order the messages
 * are sent.
 *
 * A batch record is written by the top-level transaction itself, immediately
 * before it commits.  So its xmin is the xid that it contains, and it
 * becomes visible together with all rows of the batch.  A record with
 * another xmin is a copy (restored or replicated) and says nothing about
 * which rows exist; see sqs_adopt_queues().
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_OUTBOX_H
#define SQSBRIDGE_OUTBOX_H

#include "access/htup.h"
#include "access/xact.h"

#include "base/internal_tables.h"
#include "send/outgoing.h"

/* Check a row and turn it into a message; NULL, or what is wrong with it */
extern SqsDraftError *sqs_outbox_prepare(const Datum *values, const bool *nulls,
										 bool fifo, SqsOutgoing *message);

/* Was the batch record written by the transaction that it names? */
extern bool sqs_batch_is_native(HeapTuple batch, TupleDesc desc);

/* Will the commit of this transaction write batch records? */
extern bool sqs_outbox_has_batches(void);

/* Check a message and store it in outbox_rows; returns its id */
extern int64 sqs_outbox_store(const char *queue, Datum *values, bool *nulls);

extern void sqs_outbox_init(void);	/* from _PG_init */

#endif							/* SQSBRIDGE_OUTBOX_H */
