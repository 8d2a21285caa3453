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
 * internal_tables.c for which ones are refused.  If there are none, and all
 * indexes are btrees, rows are inserted as into a catalog (CatalogTupleInsert()),
 * without an executor state or a slot, and what the indexes are is remembered
 * until the relation cache is told of a change.  The outbox opens a writer for
 * each row, and to do it all anew would take half as long as to insert the row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/table_writer.h"

#define MAX_KNOWN_INDEXES	4

struct SqsWriter
{
	MemoryContext context;
	Relation	rel;
	bool		close_relation;
	bool		plain;			/* nothing has to be evaluated */
	EState	   *estate;			/* NULL: not needed so far */
	ResultRelInfo *rri;
	TupleTableSlot *slot;		/* NULL: not needed so far */
};

/* The indexes of a table that is plain; see is_plain(). */
typedef struct KnownIndexes
{
	Oid			relid;			/* InvalidOid: nothing is known */
	uint64		changes;		/* sqs_relation_changes() at that time */
	int			n;
	Oid			oids[MAX_KNOWN_INDEXES];
	IndexInfo	infos[MAX_KNOWN_INDEXES];	/* what they point to is not used */
} KnownIndexes;

static KnownIndexes known_indexes[SQS_NUM_TABLES];

/* The executor state, created when it is first needed. */
static EState *
get_estate(SqsWriter *writer)
{
	if (writer->estate == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(writer->context);

		writer->estate = CreateExecutorState();
		MemoryContextSwitchTo(old);
	}
	return writer->estate;
}

/* Likewise, the slot. */
static TupleTableSlot *
get_slot(SqsWriter *writer)
{
	if (writer->slot == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(writer->context);

		writer->slot = table_slot_create(writer->rel, NULL);
		MemoryContextSwitchTo(old);
	}
	return writer->slot;
}

/* Are there only columns to be checked for null, and immediate btrees of columns? */
static bool
is_plain(const ResultRelInfo *rri)
{
	TupleConstr *constr = RelationGetDescr(rri->ri_RelationDesc)->constr;

	if (constr != NULL && constr->num_check > 0)
		return false;
	for (int i = 0; i < rri->ri_NumIndices; i++)
	{
		const IndexInfo *info = rri->ri_IndexRelationInfo[i];

		if (info->ii_Expressions != NIL || info->ii_Predicate != NIL ||
			info->ii_ExclusionOps != NULL ||
			!rri->ri_IndexRelationDescs[i]->rd_index->indimmediate ||
			rri->ri_IndexRelationDescs[i]->rd_rel->relam != BTREE_AM_OID)
			return false;
	}
	return true;
}

/* Remember the indexes of a table, if it is plain and has not many. */
static void
remember_indexes(KnownIndexes *known, const SqsWriter *writer, uint64 changes)
{
	const ResultRelInfo *rri = writer->rri;

	known->relid = InvalidOid;
	if (!writer->plain || rri->ri_NumIndices > MAX_KNOWN_INDEXES)
		return;
	known->n = rri->ri_NumIndices;
	for (int i = 0; i < known->n; i++)
	{
		known->oids[i] = RelationGetRelid(rri->ri_IndexRelationDescs[i]);
		known->infos[i] = *rri->ri_IndexRelationInfo[i];
	}
	known->changes = changes;
	known->relid = RelationGetRelid(writer->rel);
}

/* As ExecOpenIndices(), if the indexes of the table are known. */
static bool
open_known_indexes(const KnownIndexes *known, ResultRelInfo *rri)
{
	if (known->relid != RelationGetRelid(rri->ri_RelationDesc) ||
		known->changes != sqs_relation_changes())
		return false;
	rri->ri_NumIndices = known->n;
	rri->ri_IndexRelationDescs = palloc(known->n * sizeof(Relation));
	rri->ri_IndexRelationInfo = palloc(known->n * sizeof(IndexInfo *));
	for (int i = 0; i < known->n; i++)
	{
		IndexInfo  *info = palloc(sizeof(IndexInfo));

		*info = known->infos[i];
		info->ii_Context = CurrentMemoryContext;
		rri->ri_IndexRelationInfo[i] = info;
		rri->ri_IndexRelationDescs[i] = index_open(known->oids[i], RowExclusiveLock);
	}
	return true;
}

/* "known": where to remember the indexes, or NULL. */
static SqsWriter *
make_writer(Relation rel, KnownIndexes *known, bool close_relation)
{
	SqsWriter  *writer = palloc0(sizeof(SqsWriter));
	uint64		changes;

	writer->context = CurrentMemoryContext;
	writer->rel = rel;
	writer->close_relation = close_relation;

	/*
	 * As in CatalogOpenIndexes().  Without a range table there is no
	 * permission check, and without a TriggerDesc no trigger.
	 */
	writer->rri = makeNode(ResultRelInfo);
	writer->rri->ri_RelationDesc = rel;
	if (known != NULL && open_known_indexes(known, writer->rri))
	{
		writer->plain = true;
		return writer;
	}

	/* a change that is noticed while they are opened makes them unknown */
	changes = sqs_relation_changes();
	ExecOpenIndices(writer->rri, false);
	writer->plain = is_plain(writer->rri);
	if (known != NULL)
		remember_indexes(known, writer, changes);
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
	return make_writer(sqs_table_open(table, RowExclusiveLock), &known_indexes[table], true);
}

/*
 * The same for a relation that sqs_table_open() or sqs_table_open_nowait()
 * has opened with RowExclusiveLock.  Closing the writer leaves it open.
 */
SqsWriter *
sqs_writer_on(Relation rel)
{
	return make_writer(rel, NULL, false);
}

/* Locks on tables are kept to the end of the transaction. */
void
sqs_writer_close(SqsWriter *writer)
{
	if (writer->slot != NULL)
		ExecDropSingleTupleTableSlot(writer->slot);
	if (writer->plain)
	{
		/* the next row's writer will want the locks again */
		for (int i = 0; i < writer->rri->ri_NumIndices; i++)
			index_close(writer->rri->ri_IndexRelationDescs[i], NoLock);
	}
	else
		ExecCloseIndices(writer->rri);
	if (writer->estate != NULL)
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

/* Is there a null where there must be none? */
static bool
has_forbidden_null(TupleDesc desc, const bool *nulls)
{
	for (int i = 0; i < desc->natts; i++)
	{
		if (nulls[i] && TupleDescAttr(desc, i)->attnotnull)
			return true;
	}
	return false;
}

/* Put the values into the slot, and check the table's constraints. */
static void
fill_slot(SqsWriter *writer, const Datum *values, const bool *nulls)
{
	TupleTableSlot *slot = get_slot(writer);
	TupleDesc	desc = RelationGetDescr(writer->rel);

	ExecClearTuple(slot);
	memcpy(slot->tts_values, values, sizeof(Datum) * desc->natts);
	memcpy(slot->tts_isnull, nulls, sizeof(bool) * desc->natts);
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(writer->rel);
	if (desc->constr != NULL &&
		(!writer->plain || has_forbidden_null(desc, nulls)))
		ExecConstraints(writer->rri, slot, get_estate(writer));
}

static void
end_row(SqsWriter *writer)
{
	if (writer->estate != NULL)
		ResetPerTupleExprContext(writer->estate);
	ExecClearTuple(writer->slot);
}

/* Index a row that has just been inserted into a table that is plain. */
static void
index_plain(SqsWriter *writer, const Datum *values, const bool *nulls, ItemPointer tid)
{
	for (int i = 0; i < writer->rri->ri_NumIndices; i++)
	{
		IndexInfo  *info = writer->rri->ri_IndexRelationInfo[i];
		Datum		index_values[INDEX_MAX_KEYS];
		bool		index_nulls[INDEX_MAX_KEYS];

		if (!info->ii_ReadyForInserts)
			continue;
		for (int k = 0; k < info->ii_NumIndexAttrs; k++)
		{
			index_values[k] = values[info->ii_IndexAttrNumbers[k] - 1];
			index_nulls[k] = nulls[info->ii_IndexAttrNumbers[k] - 1];
		}
		(void) index_insert(writer->rri->ri_IndexRelationDescs[i], index_values, index_nulls,
							tid, writer->rel,
							info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, info);
	}
}

/* Insert a row into a table that is plain. */
static void
insert_plain(SqsWriter *writer, const Datum *values, const bool *nulls)
{
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(writer->rel),
										unconstify(Datum *, values), unconstify(bool *, nulls));

	simple_heap_insert(writer->rel, tuple);
	index_plain(writer, values, nulls, &tuple->t_self);
	heap_freetuple(tuple);
}

/* All rows have the same nulls. */
bool
sqs_writer_insert_many(SqsWriter *writer, Datum *const *rows, int n, const bool *nulls,
					   ItemPointerData *tids)
{
	TupleDesc	desc = RelationGetDescr(writer->rel);
	TupleTableSlot **slots;

	if (!writer->plain || has_forbidden_null(desc, nulls))
		return false;
	slots = palloc(n * sizeof(TupleTableSlot *));
	for (int i = 0; i < n; i++)
	{
		slots[i] = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
		memcpy(slots[i]->tts_values, rows[i], desc->natts * sizeof(Datum));
		memcpy(slots[i]->tts_isnull, nulls, desc->natts * sizeof(bool));
		ExecStoreVirtualTuple(slots[i]);
	}
	table_multi_insert(writer->rel, slots, n, GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		tids[i] = slots[i]->tts_tid;
		index_plain(writer, rows[i], nulls, &tids[i]);
		ExecDropSingleTupleTableSlot(slots[i]);
	}
	pfree(slots);
	return true;
}

/* Add what it takes to look for conflicts before a row is inserted. */
static void
prepare_to_look_for_conflicts(ResultRelInfo *rri)
{
	for (int i = 0; i < rri->ri_NumIndices; i++)
	{
		IndexInfo  *info = rri->ri_IndexRelationInfo[i];

		if (info->ii_Unique && info->ii_UniqueOps == NULL && info->ii_ExclusionOps == NULL)
			BuildSpeculativeIndexInfo(rri->ri_IndexRelationDescs[i], info);
	}
}

/*
 * Insert a row.  Raises an ERROR if it violates a constraint or unique
 * index.
 */
void
sqs_writer_insert(SqsWriter *writer, const Datum *values, const bool *nulls)
{
	if (writer->plain && !has_forbidden_null(RelationGetDescr(writer->rel), nulls))
	{
		insert_plain(writer, values, nulls);
		return;
	}
	fill_slot(writer, values, nulls);
	table_tuple_insert(writer->rel, writer->slot, GetCurrentCommandId(true), 0, NULL);
	if (writer->rri->ri_NumIndices > 0)
		list_free(sqs_insert_index_tuples(writer->rri, get_estate(writer), 0, writer->slot, NIL, NULL));
	end_row(writer);
}

/*
 * Index the row in the slot, which has just been inserted speculatively.
 * Returns false, perhaps before all indexes have it, if one of the arbiters may
 * have its key already.  As in ExecInsertIndexTuples(), an arbiter is asked
 * with UNIQUE_CHECK_PARTIAL, which neither waits nor raises an error.
 */
static bool
insert_speculative_index_tuples(SqsWriter *writer, List *arbiters)
{
	ResultRelInfo *rri = writer->rri;

	if (!writer->plain)
	{
		bool		in_conflict = false;

		list_free(sqs_insert_index_tuples(rri, get_estate(writer), EIIT_NO_DUPE_ERROR,
										  writer->slot, arbiters, &in_conflict));
		return !in_conflict;
	}
	for (int i = 0; i < rri->ri_NumIndices; i++)
	{
		Relation	index = rri->ri_IndexRelationDescs[i];
		IndexInfo  *info = rri->ri_IndexRelationInfo[i];
		IndexUniqueCheck check = UNIQUE_CHECK_NO;
		Datum		values[INDEX_MAX_KEYS];
		bool		nulls[INDEX_MAX_KEYS];

		if (!info->ii_ReadyForInserts)
			continue;
		if (info->ii_Unique)
			check = arbiters == NIL || list_member_oid(arbiters, RelationGetRelid(index)) ?
				UNIQUE_CHECK_PARTIAL : UNIQUE_CHECK_YES;
		FormIndexDatum(info, writer->slot, NULL, values, nulls);
		if (!index_insert(index, values, nulls, &writer->slot->tts_tid, writer->rel,
						  check, false, info) &&
			check == UNIQUE_CHECK_PARTIAL)
			return false;
	}
	return true;
}

/*
 * Like INSERT ... ON CONFLICT DO NOTHING, but a committed row that the snapshot
 * of a REPEATABLE READ transaction cannot see counts, too.
 *
 * INSERT looks for a conflict twice: before the row is inserted, so that a
 * conflict leaves no dead row behind, and while it is indexed, which is what
 * makes it safe.  If the key is likely new, the first look is skipped; it would
 * take a third of the time.
 */
bool
sqs_writer_insert_new(SqsWriter *writer, const Datum *values, const bool *nulls,
					  List *arbiters, bool likely_new, ItemPointer tid)
{
	bool		inserted = false;

	if (!writer->plain)
		prepare_to_look_for_conflicts(writer->rri);
	fill_slot(writer, values, nulls);
	for (;;)
	{
		ItemPointerData conflict_tid;
		uint32		token;

		CHECK_FOR_INTERRUPTS();
		if (!likely_new)
		{
			prepare_to_look_for_conflicts(writer->rri);
			if (!sqs_check_index_constraints(writer->rri, writer->slot, get_estate(writer),
											 &conflict_tid, arbiters))
			{
				if (tid != NULL)
					*tid = conflict_tid;
				break;
			}
		}

		/* others that conflict wait for the token, not for our transaction */
		token = SpeculativeInsertionLockAcquire(GetCurrentTransactionId());
		table_tuple_insert_speculative(writer->rel, writer->slot,
									   GetCurrentCommandId(true), 0, NULL, token);
		inserted = insert_speculative_index_tuples(writer, arbiters);
		table_tuple_complete_speculative(writer->rel, writer->slot, token, inserted);
		SpeculativeInsertionLockRelease(GetCurrentTransactionId());
		if (inserted)
		{
			if (tid != NULL)
				*tid = writer->slot->tts_tid;
			break;
		}
		likely_new = false;
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
	TupleTableSlot *slot = get_slot(writer);
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

SqsWriteResult
sqs_writer_lock(SqsWriter *writer, ItemPointer tid, bool wait)
{
	TM_FailureData failure;
	ItemPointerData copy = *tid;
	TM_Result	result;

	result = table_tuple_lock(writer->rel, &copy, GetActiveSnapshot(), get_slot(writer),
							  GetCurrentCommandId(true), LockTupleExclusive,
							  wait ? LockWaitBlock : LockWaitSkip, 0, &failure);
	ExecClearTuple(writer->slot);
	return write_result(result);
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
		SqsWriteResult locked = sqs_writer_lock(writer, tid, false);

		if (locked != SQS_WRITTEN)
			return locked;
	}
	fill_slot(writer, values, nulls);
	result = sqs_table_tuple_update(writer->rel, tid, writer->slot, GetCurrentCommandId(true),
									GetActiveSnapshot(), true, &failure, &lock_mode,
									&update_indexes);
	if (result == TM_Ok && writer->rri->ri_NumIndices > 0 &&
		sqs_indexes_need_update(update_indexes))
		list_free(sqs_insert_index_tuples(writer->rri, get_estate(writer),
										  EIIT_IS_UPDATE |
										  sqs_only_summarizing(update_indexes),
										  writer->slot, NIL, NULL));
	end_row(writer);
	return write_result(result);
}
