/*-------------------------------------------------------------------------
 *
 * queue_row.h
 *	  Writing a row of the table of queues.
 *
 * Rows are written by column name: see queues.c for how they are read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_QUEUE_ROW_H
#define SQSBRIDGE_QUEUE_ROW_H

#include "access/tupdesc.h"
#include "foreign/foreign.h"
#include "storage/itemptr.h"

#include "base/table_writer.h"

/* A row that is being made or changed. */
typedef struct SqsQueueRow
{
	SqsWriter  *writer;
	TupleDesc	desc;
	ItemPointerData tid;		/* of the row that was read */
	Datum	   *values;
	bool	   *nulls;
} SqsQueueRow;

/*
 * Open the table and begin an empty row.  Closing makes what was written
 * visible to the next call in the same command.  Both need the same active
 * snapshot.
 */
extern void sqs_queue_row_open(SqsQueueRow *row);
extern void sqs_queue_row_close(SqsQueueRow *row);

/* Read the version of a row that the active snapshot sees; false: none. */
extern bool sqs_queue_row_read(SqsQueueRow *row, int32 queue_id);

/* Set columns by name; an unknown name is an error. */
extern void sqs_queue_row_set(SqsQueueRow *row, const char *name, Datum value);
extern void sqs_queue_row_set_text(SqsQueueRow *row, const char *name, const char *value);
extern void sqs_queue_row_set_null(SqsQueueRow *row, const char *name);

/*
 * Store what the queue refers to (see SqsBinding), with its present name and
 * owner.  The first also stores the queue's home (see sqs_home()).
 */
extern void sqs_queue_row_bind_owner(SqsQueueRow *row, Oid owner);
extern void sqs_queue_row_bind_server(SqsQueueRow *row, ForeignServer *server);
extern void sqs_queue_row_bind_handler(SqsQueueRow *row, const char *handler, Oid funcid);
extern void sqs_queue_row_bind_no_handler(SqsQueueRow *row);

/* Replace the row that was read; the transaction's time becomes changed_at. */
extern void sqs_queue_row_update(SqsQueueRow *row);

#endif							/* SQSBRIDGE_QUEUE_ROW_H */
