/*-------------------------------------------------------------------------
 *
 * outbox.h
 *	  The outbox's tables: what is in them, and who may rely on what.
 *
 * sqs_outbox_rows holds a row per message that has not been sent,
 * sqs_outbox_batches one per transaction and queue (or per message with a
 * time of its own), which says when and in what order their messages go.
 * Both are written below the executor, by nobody but sqsbridge.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_OUTBOX_H
#define SQSBRIDGE_OUTBOX_H

#include "access/xact.h"

#include "outgoing.h"

/* Columns of sqs_outbox_rows, in their order. */
typedef enum OutboxColumn
{
	ROW_BATCH_ID,				/* bigint */
	ROW_ID,						/* bigint */
	ROW_QUEUE_ID,				/* integer */
	ROW_QUEUE,					/* text: the queue's name */
	ROW_TOKEN,					/* uuid */
	ROW_ENQUEUED_AT,			/* timestamptz */
	ROW_ENQUEUED_BY,			/* regrole */
	ROW_DELIVER_AT,				/* timestamptz, or NULL */
	ROW_SIZE,					/* integer: bytes as SQS counts them */
	ROW_BODY,					/* text */
	ROW_ATTRIBUTES,				/* jsonb, or NULL */
	ROW_GROUP_ID,				/* text, or NULL */
	ROW_DEDUPLICATION_ID,		/* text, or NULL */
	ROW_SYSTEM_ATTRIBUTES,		/* jsonb, or NULL */
	ROW_NATTS
} OutboxColumn;

/* Columns of sqs_outbox_batches. */
typedef enum BatchColumn
{
	BATCH_ID,					/* bigint */
	BATCH_XID,					/* xid8: the top-level transaction */
	BATCH_QUEUE_ID,				/* integer */
	BATCH_DELIVER_AT,			/* timestamptz; -infinity: at once */
	BATCH_POSITION,				/* bigint: rises in the order of commits */
	BATCH_NATTS
} BatchColumn;

/* Columns of sqs_outbox_failures. */
typedef enum OutboxFailureColumn
{
	FAILURE_ID,
	FAILURE_QUEUE,
	FAILURE_ERROR_CODE,
	FAILURE_ERROR_MESSAGE,
	FAILURE_FAILED_AT,
	FAILURE_BODY,
	FAILURE_ATTRIBUTES,
	FAILURE_GROUP_ID,
	FAILURE_DEDUPLICATION_ID,
	FAILURE_SYSTEM_ATTRIBUTES,
	FAILURE_ENQUEUED_AT,
	FAILURE_ENQUEUED_BY,
	FAILURE_TOKEN,
	FAILURE_SERVER,				/* name, or NULL: the queue is gone */
	FAILURE_NATTS
} OutboxFailureColumn;

/* What a row keeps when it fails, and when it is retried. */
typedef struct SqsKeptColumn
{
	OutboxColumn row;
	OutboxFailureColumn failure;
} SqsKeptColumn;

#define SQS_KEPT_COLUMNS	10
extern const SqsKeptColumn sqs_kept_columns[SQS_KEPT_COLUMNS];

/*
 * Check a row and turn it into a message, as sqs_outgoing_prepare() does: a
 * row that is inserted, and once more one that is sent.
 */
extern SqsDraftError *sqs_outbox_prepare(const Datum *values, const bool *nulls,
										 bool fifo, SqsOutgoing *message);

/* Transaction callbacks, from sqsbridge.c. */
extern void sqs_outbox_pre_commit(void);
extern void sqs_outbox_xact_end(XactEvent event);
extern void sqs_outbox_subxact_abort(void);
extern void sqs_outbox_config_changed(void);

/* After the commit: tell the relay.  Does nothing if there was no row. */
extern void sqs_outbox_wake(void);

#endif							/* SQSBRIDGE_OUTBOX_H */
