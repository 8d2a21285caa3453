/*-------------------------------------------------------------------------
 *
 * relay_tables.c
 *	  The outbox's tables, open for one transaction of the relay.
 *
 * The relay does not wait for a table or index that somebody has locked,
 * because it has to process SQS's answers in the meantime.
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

/*
 * Open a table.  Returns NULL, and the table's name in *locked, if somebody
 * holds a conflicting lock.  The lock is kept until the end of the
 * transaction.
 */
Relation
sqs_relay_open_table(SqsTable table, LOCKMODE mode, const char **locked)
{
	Relation	rel = sqs_table_open_nowait(table, mode);

	if (rel == NULL)
		*locked = sqs_table_name(table);
	return rel;
}

/*
 * Likewise for an index of the table.  (REINDEX locks the index, but lets
 * the table be read.)
 */
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
 * Open the tables in this lock mode, and their indexes, in a transaction
 * with an active snapshot.  Returns false, and the table's name in *locked,
 * if somebody holds a conflicting lock.  In either case the caller calls
 * sqs_relay_close_tables(); locks are kept until the end of the transaction.
 *
 * The first call notes the table's OID and row type in the relay.  If the
 * table is another one later, because the extension was created again, the
 * relay is marked as obsolete and the result is false.
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
		/* the extension was created again: forget what is in hand */
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

/*
 * The same, for deleting rows; with "failures", also for inserting them into
 * outbox_failures.
 */
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

/* Close whatever has been opened. */
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

/* Text for RelayTrouble, palloc'd. */
char *
sqs_relay_is_locked_text(const char *table)
{
	return psprintf("table %s.%s is locked", SQS_INTERNAL_SCHEMA, table);
}
