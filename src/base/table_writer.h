/*-------------------------------------------------------------------------
 *
 * table_writer.h
 *	  Writing internal tables without running users' code.
 *
 * A writer has a table open for some rows: a message's inbox row, the rows of
 * a batch.  Whoever opens one closes it before the transaction ends, unless an
 * error aborts the transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_TABLE_WRITER_H
#define SQSBRIDGE_TABLE_WRITER_H

#include "access/htup.h"
#include "nodes/pg_list.h"

#include "base/internal_tables.h"

typedef struct SqsWriter SqsWriter;

/* What became of a row that was to be locked, deleted or updated. */
typedef enum SqsWriteResult
{
	SQS_WRITTEN,
	SQS_WRITE_GONE,				/* it was deleted or changed before */
	SQS_WRITE_BUSY				/* another transaction has it locked; only if
								 * not "wait" */
} SqsWriteResult;

/*
 * Open a table for writing; needs a transaction with an active snapshot.
 * Memory comes from the current context.  Errors: those of sqs_table_open().
 * The second form takes a relation that sqs_table_open() or its sibling has
 * opened with RowExclusiveLock; closing the writer leaves it open.
 */
extern SqsWriter *sqs_writer_open(SqsTable table);
extern SqsWriter *sqs_writer_on(Relation rel);
extern void sqs_writer_close(SqsWriter *writer);
extern Relation sqs_writer_relation(SqsWriter *writer);

/* Insert a row; an ERROR if it violates a constraint or unique index. */
extern void sqs_writer_insert(SqsWriter *writer, const Datum *values, const bool *nulls);

/*
 * Insert many rows, for less than one by one.  In each unique index, they must be
 * in the order in which all transactions insert, or they may deadlock.  Returns
 * false, and inserts nothing, if that is not possible for this table.
 */
extern bool sqs_writer_insert_many(SqsWriter *writer, Datum *const *rows, int n,
								   const bool *nulls, ItemPointerData *tids);

/*
 * Insert a row, unless one of these unique indexes (OIDs; NIL: any) has its key
 * already: then return false.  Sets *tid (if not NULL) to the row that has the
 * key now.  Waits for a transaction that has inserted the same key and is still
 * running.  A conflict in another unique index is an ERROR.  likely_new says that
 * a conflict is not expected, which saves a look-up if there is none.
 */
extern bool sqs_writer_insert_new(SqsWriter *writer, const Datum *values, const bool *nulls,
								  List *arbiters, bool likely_new,
								  ItemPointer tid);

/* Read a row version, whether or not a snapshot sees it. */
extern bool sqs_writer_read(SqsWriter *writer, ItemPointer tid, Datum *values, bool *nulls);

/*
 * "wait": for a transaction that has the row locked or is changing it.  A row that
 * has been locked is the version that was read, until the transaction ends.
 */
extern SqsWriteResult sqs_writer_lock(SqsWriter *writer, ItemPointer tid, bool wait);
extern SqsWriteResult sqs_writer_delete(SqsWriter *writer, ItemPointer tid, bool wait);
extern SqsWriteResult sqs_writer_update(SqsWriter *writer, ItemPointer tid,
										const Datum *values, const bool *nulls, bool wait);

#endif							/* SQSBRIDGE_TABLE_WRITER_H */
