/*-------------------------------------------------------------------------
 *
 * relay_tables.c
 *	  The outbox's tables, open for one transaction of the relay.
 *
 * A table or index that somebody has locked is not waited for: answers of SQS
 * are to be taken meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "send/relay_tables.h"

Relation
sqs_relay_open_table(SqsTable table, LOCKMODE mode, const char **locked)
{
	Relation	rel = sqs_table_open_nowait(table, mode);

	if (rel == NULL)
		*locked = sqs_table_name(table);
	return rel;
}

/* Likewise an index: REINDEX locks it, and lets its table be read. */
static Relation
open_index(SqsIndex which, SqsTable table, const char **locked)
{
	Oid			oid = sqs_index_oid(which);

	if (!ConditionalLockRelationOid(oid, AccessShareLock))
	{
		*locked = sqs_table_name(table);
		return NULL;
	}
	return index_open(oid, NoLock);
}

/*
 * The first time, the relay learns which table its rows are of, and what their
 * tuples look like.  When it is another table later, the relay is obsolete.
 */
bool
sqs_relay_open_tables(Relay *relay, OutboxTables *tables, LOCKMODE mode, const char **locked)
{
	memset(tables, 0, sizeof(*tables));
	if ((tables->rows = sqs_relay_open_table(SQS_TABLE_OUTBOX_ROWS, mode, locked)) == NULL ||
		(tables->batches = sqs_relay_open_table(SQS_TABLE_OUTBOX_BATCHES, mode, locked)) == NULL)
		return false;
	if (OidIsValid(relay->rows_oid) && relay->rows_oid != RelationGetRelid(tables->rows))
	{
		/* the extension was created anew: what is in hand is of its past */
		relay->obsolete = true;
		*locked = sqs_table_name(SQS_TABLE_OUTBOX_ROWS);
		return false;
	}
	if ((tables->rows_index = open_index(SQS_INDEX_OUTBOX_ROWS_PKEY,
										 SQS_TABLE_OUTBOX_ROWS, locked)) == NULL ||
		(tables->xid_index = open_index(SQS_INDEX_OUTBOX_BATCHES_PKEY,
										SQS_TABLE_OUTBOX_BATCHES, locked)) == NULL ||
		(tables->order_index = open_index(SQS_INDEX_OUTBOX_BATCHES_ORDER,
										  SQS_TABLE_OUTBOX_BATCHES, locked)) == NULL)
		return false;
	tables->snapshot = GetActiveSnapshot();
	tables->now = GetCurrentTimestamp();

	if (relay->row_desc == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(relay->context);

		relay->row_desc = CreateTupleDescCopy(RelationGetDescr(tables->rows));
		MemoryContextSwitchTo(old);
	}
	relay->rows_oid = RelationGetRelid(tables->rows);
	return true;
}

bool
sqs_relay_open_tables_to_delete(Relay *relay, OutboxTables *tables, bool failures,
								const char **locked)
{
	Relation	failures_rel = NULL;

	if (!sqs_relay_open_tables(relay, tables, RowExclusiveLock, locked))
		return false;
	if (failures &&
		(failures_rel = sqs_relay_open_table(SQS_TABLE_OUTBOX_FAILURES, RowExclusiveLock,
											 locked)) == NULL)
		return false;
	tables->row_writer = sqs_writer_on(tables->rows);
	tables->batch_writer = sqs_writer_on(tables->batches);
	if (failures)
		tables->failures = sqs_writer_on(failures_rel);
	tables->row_slot = table_slot_create(tables->rows, NULL);
	tables->batch_slot = table_slot_create(tables->batches, NULL);
	tables->row_blocks = RelationGetNumberOfBlocks(tables->rows);
	tables->batch_blocks = RelationGetNumberOfBlocks(tables->batches);
	return true;
}

/* Closes what has been opened so far, be it nothing. */
void
sqs_relay_close_tables(OutboxTables *tables)
{
	if (tables->failures != NULL)
	{
		Relation	rel = sqs_writer_relation(tables->failures);

		sqs_writer_close(tables->failures);
		table_close(rel, NoLock);
	}
	if (tables->row_writer != NULL)
	{
		ExecDropSingleTupleTableSlot(tables->row_slot);
		ExecDropSingleTupleTableSlot(tables->batch_slot);
		sqs_writer_close(tables->row_writer);
		sqs_writer_close(tables->batch_writer);
	}
	if (tables->order_index != NULL)
		index_close(tables->order_index, NoLock);
	if (tables->xid_index != NULL)
		index_close(tables->xid_index, NoLock);
	if (tables->rows_index != NULL)
		index_close(tables->rows_index, NoLock);
	if (tables->batches != NULL)
		table_close(tables->batches, NoLock);
	if (tables->rows != NULL)
		table_close(tables->rows, NoLock);
}

char *
sqs_relay_is_locked_text(const char *table)
{
	return psprintf("table %s.%s is locked", SQS_INTERNAL_SCHEMA, table);
}
