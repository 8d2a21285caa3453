/*-------------------------------------------------------------------------
 *
 * table_writer.c
 *	  Writing internal tables without running users' code.
 *
 * Rows are written on behalf of roles that may not write the tables, and by
 * processes that run as a superuser.  So privileges of the session are not
 * checked, and triggers, rules and policies do not apply: adding one would
 * otherwise be a way to become a superuser.  On the other hand a DBA may add
 * an index or a constraint, and it has to hold.  Therefore rows go through the
 * table access method and the executor's index insertion, as those of logical
 * replication do, with the table's triggers taken away.
 *
 * Expressions of indexes and constraints are evaluated here; see
 * internal_tables.c for which ones are refused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/table_writer.h"

struct SqsWriter
{
	Relation	rel;
	bool		close_relation;
	EState	   *estate;
	ResultRelInfo *rri;
	TupleTableSlot *slot;
};

static SqsWriter *
make_writer(Relation rel, bool close_relation)
{
	SqsWriter  *writer = palloc0(sizeof(SqsWriter));

	writer->rel = rel;
	writer->close_relation = close_relation;
	writer->estate = CreateExecutorState();
	writer->rri = makeNode(ResultRelInfo);

	/* range table index 0: there is no range table, and no permission check */
	InitResultRelInfo(writer->rri, rel, 0, NULL, 0);
	writer->rri->ri_TrigDesc = NULL;
	ExecOpenIndices(writer->rri, true);
	writer->slot = table_slot_create(rel, NULL);
	return writer;
}

/*
 * Open a table for writing; needs a transaction with an active snapshot.
 * Memory comes from the current context.  Raises the errors of
 * sqs_table_open().
 */
SqsWriter *
sqs_writer_open(SqsTable table)
{
	return make_writer(sqs_table_open(table, RowExclusiveLock), true);
}

/*
 * The same for a relation that sqs_table_open() or sqs_table_open_nowait()
 * has opened with RowExclusiveLock.  Closing the writer leaves it open.
 */
SqsWriter *
sqs_writer_on(Relation rel)
{
	return make_writer(rel, false);
}

/* Locks are kept to the end of the transaction. */
void
sqs_writer_close(SqsWriter *writer)
{
	ExecDropSingleTupleTableSlot(writer->slot);
	ExecCloseIndices(writer->rri);
	FreeExecutorState(writer->estate);
	if (writer->close_relation)
		table_close(writer->rel, NoLock);
	pfree(writer->rri);
	pfree(writer);
}

/* The table that the writer writes. */
Relation
sqs_writer_relation(SqsWriter *writer)
{
	return writer->rel;
}

/* Put the values into the slot, and check the table's constraints. */
static void
fill_slot(SqsWriter *writer, const Datum *values, const bool *nulls)
{
	TupleTableSlot *slot = writer->slot;
	int			natts = RelationGetDescr(writer->rel)->natts;

	ExecClearTuple(slot);
	memcpy(slot->tts_values, values, sizeof(Datum) * natts);
	memcpy(slot->tts_isnull, nulls, sizeof(bool) * natts);
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(writer->rel);
	if (RelationGetDescr(writer->rel)->constr != NULL)
		ExecConstraints(writer->rri, slot, writer->estate);
}

static void
end_row(SqsWriter *writer)
{
	ResetPerTupleExprContext(writer->estate);
	ExecClearTuple(writer->slot);
}

/*
 * Insert a row.  Raises an ERROR if it violates a constraint or unique
 * index.
 */
void
sqs_writer_insert(SqsWriter *writer, const Datum *values, const bool *nulls)
{
	fill_slot(writer, values, nulls);
	table_tuple_insert(writer->rel, writer->slot, GetCurrentCommandId(true), 0, NULL);
	if (writer->rri->ri_NumIndices > 0)
		list_free(sqs_insert_index_tuples(writer->rri, writer->estate, 0,
										  writer->slot, NIL, NULL));
	end_row(writer);
}

/*
 * Like INSERT ... ON CONFLICT DO NOTHING, but a committed row that the snapshot
 * of a REPEATABLE READ transaction cannot see counts, too.
 */
bool
sqs_writer_insert_new(SqsWriter *writer, const Datum *values, const bool *nulls,
					  List *arbiters, ItemPointer conflict)
{
	bool		inserted = false;

	fill_slot(writer, values, nulls);
	for (;;)
	{
		ItemPointerData conflict_tid;
		bool		in_conflict = false;
		uint32		token;

		CHECK_FOR_INTERRUPTS();
		if (!sqs_check_index_constraints(writer->rri, writer->slot, writer->estate,
										 &conflict_tid, arbiters))
		{
			if (conflict != NULL)
				*conflict = conflict_tid;
			break;
		}

		/* others that conflict wait for the token, not for our transaction */
		token = SpeculativeInsertionLockAcquire(GetCurrentTransactionId());
		table_tuple_insert_speculative(writer->rel, writer->slot,
									   GetCurrentCommandId(true), 0, NULL, token);
		list_free(sqs_insert_index_tuples(writer->rri, writer->estate,
										  EIIT_NO_DUPE_ERROR, writer->slot,
										  arbiters, &in_conflict));
		table_tuple_complete_speculative(writer->rel, writer->slot, token, !in_conflict);
		SpeculativeInsertionLockRelease(GetCurrentTransactionId());
		if (!in_conflict)
		{
			inserted = true;
			break;
		}
	}
	end_row(writer);
	return inserted;
}

/*
 * Read a row version, whether or not a snapshot sees it; false if it does
 * not exist.  Values passed by reference are valid until the next call of
 * the writer.
 */
bool
sqs_writer_read(SqsWriter *writer, ItemPointer tid, Datum *values, bool *nulls)
{
	TupleTableSlot *slot = writer->slot;
	int			natts = RelationGetDescr(writer->rel)->natts;

	if (!table_tuple_fetch_row_version(writer->rel, tid, SnapshotAny, slot))
		return false;
	slot_getallattrs(slot);
	memcpy(values, slot->tts_values, sizeof(Datum) * natts);
	memcpy(nulls, slot->tts_isnull, sizeof(bool) * natts);
	return true;
}

static SqsWriteResult
write_result(TM_Result result)
{
	switch (result)
	{
		case TM_Ok:
			return SQS_WRITTEN;
		case TM_BeingModified:
		case TM_WouldBlock:
			return SQS_WRITE_BUSY;
		case TM_Deleted:
		case TM_Updated:
		case TM_SelfModified:
		case TM_Invisible:
			return SQS_WRITE_GONE;
	}
	elog(ERROR, "unrecognized result of a table access method: %d", result);
	return SQS_WRITE_GONE;
}

/*
 * Delete a row.  "wait" says whether to wait for a transaction that has
 * locked the row or is changing it.
 */
SqsWriteResult
sqs_writer_delete(SqsWriter *writer, ItemPointer tid, bool wait)
{
	TM_FailureData failure;

	return write_result(sqs_table_tuple_delete(writer->rel, tid, GetCurrentCommandId(true),
											   GetActiveSnapshot(), wait, &failure));
}

/*
 * heap_update() does not know how not to wait: a row that somebody else has
 * locked fails an assertion.  So the row is locked first, which can be refused;
 * then there is nobody to be waited for.
 */
SqsWriteResult
sqs_writer_update(SqsWriter *writer, ItemPointer tid, const Datum *values,
				  const bool *nulls, bool wait)
{
	TM_FailureData failure;
	LockTupleMode lock_mode;
	sqs_update_indexes update_indexes;
	TM_Result	result;

	if (!wait)
	{
		ItemPointerData copy = *tid;

		result = table_tuple_lock(writer->rel, &copy, GetActiveSnapshot(), writer->slot,
								  GetCurrentCommandId(true), LockTupleExclusive,
								  LockWaitSkip, 0, &failure);
		ExecClearTuple(writer->slot);
		if (result != TM_Ok)
			return write_result(result);
	}
	fill_slot(writer, values, nulls);
	result = sqs_table_tuple_update(writer->rel, tid, writer->slot, GetCurrentCommandId(true),
									GetActiveSnapshot(), true, &failure, &lock_mode,
									&update_indexes);
	if (result == TM_Ok && writer->rri->ri_NumIndices > 0 &&
		sqs_indexes_need_update(update_indexes))
		list_free(sqs_insert_index_tuples(writer->rri, writer->estate,
										  EIIT_IS_UPDATE |
										  sqs_only_summarizing(update_indexes),
										  writer->slot, NIL, NULL));
	end_row(writer);
	return write_result(result);
}
