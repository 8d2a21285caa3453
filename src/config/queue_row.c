/*-------------------------------------------------------------------------
 *
 * queue_row.c
 *	  Writing a row of the table of queues.
 *
 * Rows are written through table_writer.c, because the calling role has no
 * privileges on the table; what it may change must have been checked before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/extension.h"
#include "config/queue_row.h"

/*
 * Rows are written by column name, and a column that a newer version of the
 * extension has added would be left null.  So writing requires exactly the
 * columns known to this version.
 */
#define QUEUE_COLUMNS	41

/* Open the table of queues and begin an empty row. */
void
sqs_queue_row_open(SqsQueueRow *row)
{
	row->writer = sqs_writer_open(SQS_TABLE_QUEUES);
	row->desc = RelationGetDescr(sqs_writer_relation(row->writer));
	if (row->desc->natts != QUEUE_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension sqsbridge in this database has a different version than the library"),
				 errhint("Run ALTER EXTENSION sqsbridge UPDATE, or restart the server if the library was replaced.")));
	row->values = palloc0(sizeof(Datum) * row->desc->natts);
	row->nulls = palloc(sizeof(bool) * row->desc->natts);
	memset(row->nulls, true, sizeof(bool) * row->desc->natts);
}

/* Set a column by name.  Raises an ERROR if there is no such column. */
void
sqs_queue_row_set(SqsQueueRow *row, const char *name, Datum value)
{
	int			attnum = SPI_fnumber(row->desc, name);

	if (attnum <= 0)
		elog(ERROR, "table \"%s\" has no column \"%s\"", sqs_table_name(SQS_TABLE_QUEUES), name);
	row->values[attnum - 1] = value;
	row->nulls[attnum - 1] = false;
}

/* Set a column to a text. */
void
sqs_queue_row_set_text(SqsQueueRow *row, const char *name, const char *value)
{
	sqs_queue_row_set(row, name, CStringGetTextDatum(value));
}

/* Set a column to NULL. */
void
sqs_queue_row_set_null(SqsQueueRow *row, const char *name)
{
	int			attnum = SPI_fnumber(row->desc, name);

	if (attnum <= 0)
		elog(ERROR, "table \"%s\" has no column \"%s\"", sqs_table_name(SQS_TABLE_QUEUES), name);
	row->nulls[attnum - 1] = true;
}

/*
 * Read the version of a row that the active snapshot sees; false if there is
 * none.
 */
bool
sqs_queue_row_read(SqsQueueRow *row, int32 queue_id)
{
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	ScanKeyInit(&key, SPI_fnumber(row->desc, "queue_id"), BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(queue_id));
	scan = systable_beginscan(sqs_writer_relation(row->writer),
							  sqs_index_oid(SQS_INDEX_QUEUES_PKEY), true,
							  GetActiveSnapshot(), 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		tuple = heap_copytuple(tuple);
		row->tid = tuple->t_self;
		heap_deform_tuple(tuple, row->desc, row->values, row->nulls);
	}
	systable_endscan(scan);
	return HeapTupleIsValid(tuple);
}

/*
 * Close the table, and make what was written visible to the next call in the
 * same command.  The active snapshot must be the one of the call that opened
 * it.
 */
void
sqs_queue_row_close(SqsQueueRow *row)
{
	sqs_writer_close(row->writer);
	CommandCounterIncrement();
}

/*
 * Replace the row that was read; the transaction's time becomes changed_at.
 */
void
sqs_queue_row_update(SqsQueueRow *row)
{
	sqs_queue_row_set(row, "changed_at", TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	if (sqs_writer_update(row->writer, &row->tid, row->values, row->nulls, true) != SQS_WRITTEN)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("table \"%s.%s\" was changed concurrently",
						SQS_INTERNAL_SCHEMA, sqs_table_name(SQS_TABLE_QUEUES))));
}

/* ---- what a queue is bound to ---- */

/* Store the owner, by OID and name, and the queue's home. */
void
sqs_queue_row_bind_owner(SqsQueueRow *row, Oid owner)
{
	sqs_queue_row_set(row, "owner_oid", ObjectIdGetDatum(owner));
	sqs_queue_row_set_text(row, "owner", GetUserNameFromId(owner, false));
	sqs_queue_row_set_text(row, "home", sqs_home());
}

/* Store the server and its owner, by OID and name. */
void
sqs_queue_row_bind_server(SqsQueueRow *row, ForeignServer *server)
{
	sqs_queue_row_set(row, "server_oid", ObjectIdGetDatum(server->serverid));
	sqs_queue_row_set_text(row, "server", server->servername);
	sqs_queue_row_set(row, "server_owner_oid", ObjectIdGetDatum(server->owner));
	sqs_queue_row_set_text(row, "server_owner", GetUserNameFromId(server->owner, false));
}

/* Store the handler and its owner, by OID and name. */
void
sqs_queue_row_bind_handler(SqsQueueRow *row, const char *handler, Oid funcid)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", funcid);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	sqs_queue_row_set_text(row, "handler", handler);
	sqs_queue_row_set(row, "handler_oid", ObjectIdGetDatum(funcid));
	sqs_queue_row_set(row, "handler_owner_oid", ObjectIdGetDatum(owner));
	sqs_queue_row_set_text(row, "handler_owner", GetUserNameFromId(owner, false));
}

/* Store that the queue has no handler. */
void
sqs_queue_row_bind_no_handler(SqsQueueRow *row)
{
	sqs_queue_row_set_null(row, "handler");
	sqs_queue_row_set_null(row, "handler_oid");
	sqs_queue_row_set_null(row, "handler_owner_oid");
	sqs_queue_row_set_null(row, "handler_owner");
}
