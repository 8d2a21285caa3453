/*-------------------------------------------------------------------------
 *
 * table_writer.h
 *	  Writing internal tables without running anybody's code.
 *
 * A writer opens a table for some rows: a message's inbox row, the rows of a
 * batch.  It ends with the transaction at the latest, and must be closed by
 * the code that opened it unless an ERROR ends that.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_TABLE_WRITER_H
#define SQSBRIDGE_TABLE_WRITER_H

#include "access/htup.h"
#include "nodes/pg_list.h"

#include "base/internal_tables.h"

typedef struct SqsWriter SqsWriter;

/* What became of a row that was to be deleted or updated. */
typedef enum SqsWriteResult
{
	SQS_WRITTEN,
	SQS_WRITE_GONE,				/* it is deleted, or changed, already */
	SQS_WRITE_BUSY				/* somebody holds it locked; without waiting */
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

/* Insert a row; raises what constraints and unique indexes have to say. */
extern void sqs_writer_insert(SqsWriter *writer, const Datum *values, const bool *nulls);

/*
 * Insert a row unless these unique indexes (OIDs; NIL: any) have its key
 * already: then return false.  Waits for a transaction that has inserted the
 * same key and is still running.  Other unique indexes raise an error.
 * *conflict, if wanted, is then the row that has the key.
 */
extern bool sqs_writer_insert_new(SqsWriter *writer, const Datum *values, const bool *nulls,
								  List *arbiters, ItemPointer conflict);

/*
 * Read a row, whether the active snapshot sees it or not; false if it is not
 * there.  What is not passed by value is good until the next call.
 */
extern bool sqs_writer_read(SqsWriter *writer, ItemPointer tid, Datum *values, bool *nulls);

/* Wait: for a transaction that has the row locked or is changing it. */
extern SqsWriteResult sqs_writer_delete(SqsWriter *writer, ItemPointer tid, bool wait);
extern SqsWriteResult sqs_writer_update(SqsWriter *writer, ItemPointer tid,
										const Datum *values, const bool *nulls, bool wait);

#endif							/* SQSBRIDGE_TABLE_WRITER_H */
