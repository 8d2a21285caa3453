/*-------------------------------------------------------------------------
 *
 * views.c
 *	  The functions behind the views of the internal tables: sqs_queues,
 *	  sqs_routes, sqs_failures, sqs_dead_letters, sqs_outbox,
 *	  sqs_outbox_failures; and the counts of rows in sqs_stats_outbox, whose
 *	  other columns are in stats.c.
 *
 * The views are defined by functions, not over tables, and the functions decide
 * which rows the caller may see.  LOCK on a view over a table would also lock
 * the table, with the rights of the view's owner; here it locks only the view.
 *
 * Tables are scanned with the snapshot of the query, so a transaction sees its
 * own rows, and REPEATABLE READ works as usual.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/internal_tables.h"
#include "base/privileges.h"
#include "base/route_stats.h"
#include "base/settings.h"
#include "config/queues.h"
#include "config/routes.h"
#include "send/outbox_failures.h"

PG_FUNCTION_INFO_V1(sqs_get_queues);
PG_FUNCTION_INFO_V1(sqs_get_routes);
PG_FUNCTION_INFO_V1(sqs_get_failures);
PG_FUNCTION_INFO_V1(sqs_get_dead_letters);
PG_FUNCTION_INFO_V1(sqs_get_outbox);
PG_FUNCTION_INFO_V1(sqs_get_outbox_counts);
PG_FUNCTION_INFO_V1(sqs_get_outbox_failures);

/* ---- tables into rows ---- */

/* What is allocated for a row is gone with the next. */
typedef struct TableScan
{
	Relation	rel;
	SysScanDesc scan;
	TupleDesc	desc;
	MemoryContext context;		/* of the function */
	MemoryContext row_context;
} TableScan;

static void
begin_table(TableScan *scan, SqsTable table)
{
	scan->rel = sqs_table_open(table, AccessShareLock);
	scan->desc = RelationGetDescr(scan->rel);
	scan->scan = systable_beginscan(scan->rel, InvalidOid, false, GetActiveSnapshot(), 0, NULL);
	scan->context = CurrentMemoryContext;
	scan->row_context = AllocSetContextCreate(CurrentMemoryContext, "sqsbridge row",
											  ALLOCSET_DEFAULT_SIZES);
}

static bool
next_row(TableScan *scan, Datum *values, bool *nulls)
{
	HeapTuple	tuple;

	CHECK_FOR_INTERRUPTS();
	MemoryContextSwitchTo(scan->row_context);
	MemoryContextReset(scan->row_context);
	tuple = systable_getnext(scan->scan);
	if (!HeapTupleIsValid(tuple))
		return false;
	heap_deform_tuple(tuple, scan->desc, values, nulls);
	return true;
}

static void
end_table(TableScan *scan)
{
	MemoryContextSwitchTo(scan->context);
	MemoryContextDelete(scan->row_context);
	systable_endscan(scan->scan);
	table_close(scan->rel, AccessShareLock);
}

/* A text column that holds the name of a role or server, as a name. */
static Datum
text_to_name(Datum value)
{
	return DirectFunctionCall1(namein, CStringGetDatum(TextDatumGetCString(value)));
}

static void
put(ReturnSetInfo *rsinfo, Datum *values, bool *nulls)
{
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * Return these columns of a table's row, all that the function returns.  A role or server is stored by its name as text, and returned as a name.
 * Allocates in the row's context.
 */
static void
put_columns(ReturnSetInfo *rsinfo, const int *columns, int n, const Datum *row,
			const bool *row_nulls)
{
	TupleDesc	desc = rsinfo->setDesc;
	Datum	   *values = palloc(sizeof(Datum) * n);
	bool	   *nulls = palloc(sizeof(bool) * n);

	if (desc->natts != n)
		elog(ERROR, "the function returns %d columns, not %d", desc->natts, n);
	for (int i = 0; i < n; i++)
	{
		nulls[i] = row_nulls[columns[i]];
		values[i] = row[columns[i]];
		if (!nulls[i] && TupleDescAttr(desc, i)->atttypid == NAMEOID)
			values[i] = text_to_name(values[i]);
	}
	put(rsinfo, values, nulls);
}

/*
 * Columns are taken as they are stored; the text of a problem may name roles
 * and functions, and is for those who may see statistics of the owner.
 */
Datum
sqs_get_queues(PG_FUNCTION_ARGS)
{
	static const char *const columns[] = {
		"queue_id", "name", "owner", "server", "queue_name", "handler", "concurrency",
		"batch_size", "wait_time", "visibility_timeout", "handler_timeout", "retry_delay",
		"exactly_once", "dedup_retention", "group_batch_size", "unwrap",
		"max_attempts", "retry_factor", "retry_max_delay", "retry_jitter", "throttle_after",
		"dead_letter", "dead_letter_queue", "on_dead_letter", "route_by", "unroutable",
		"dedup_key", "handler_batch_size", "handler_batch_wait", "verify_sns", "enabled",
		"created_at", "changed_at"
	};
	enum
	{
		COLUMN_OWNER = 2, COLUMN_SERVER = 3,
		COLUMN_BROKEN = lengthof(columns), COLUMN_PROBLEM, NUM_COLUMNS
	};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TableScan	scan;
	List	   *queues;
	Datum	   *row;
	bool	   *row_nulls;

	sqs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	queues = sqs_catalog_queues();
	begin_table(&scan, SQS_TABLE_QUEUES);
	row = palloc(sizeof(Datum) * scan.desc->natts);
	row_nulls = palloc(sizeof(bool) * scan.desc->natts);
	while (next_row(&scan, row, row_nulls))
	{
		Datum		values[NUM_COLUMNS];
		bool		nulls[NUM_COLUMNS] = {false};
		SqsQueueConfig *queue;

		for (int i = 0; i < (int) lengthof(columns); i++)
		{
			int			attnum = SPI_fnumber(scan.desc, columns[i]);

			if (attnum > 0 &&
				TupleDescAttr(scan.desc, attnum - 1)->atttypid !=
				(i == COLUMN_OWNER || i == COLUMN_SERVER ? TEXTOID :
				 TupleDescAttr(rsinfo->setDesc, i)->atttypid))
				elog(ERROR, "column \"%s\" of table \"%s\" has another type than expected",
					 columns[i], sqs_table_name(SQS_TABLE_QUEUES));
			nulls[i] = attnum <= 0 || row_nulls[attnum - 1];
			values[i] = nulls[i] ? (Datum) 0 : row[attnum - 1];
		}
		queue = sqs_catalog_find(queues, DatumGetInt32(values[0]));
		if (queue == NULL)
			continue;
		values[COLUMN_OWNER] = text_to_name(values[COLUMN_OWNER]);
		values[COLUMN_SERVER] = text_to_name(values[COLUMN_SERVER]);
		values[COLUMN_BROKEN] = BoolGetDatum(queue->problem != NULL);
		nulls[COLUMN_PROBLEM] = queue->problem == NULL ||
			!sqs_may_see_stats_of(queue->is_copy ? InvalidOid : queue->owner);
		values[COLUMN_PROBLEM] = nulls[COLUMN_PROBLEM] ? (Datum) 0 :
			CStringGetTextDatum(queue->problem);
		put(rsinfo, values, nulls);
	}
	end_table(&scan);
	return (Datum) 0;
}

/*
 * Behind sqs_routes.  A queue's own problem is shown by sqs_stats, and not
 * repeated here.
 */
Datum
sqs_get_routes(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TableScan	scan;
	List	   *queues;
	Datum		row[ROUTE_NATTS];
	bool		row_nulls[ROUTE_NATTS];

	sqs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	queues = sqs_catalog_queues();
	begin_table(&scan, SQS_TABLE_ROUTES);
	while (next_row(&scan, row, row_nulls))
	{
		SqsQueueConfig *queue = sqs_catalog_find(queues, DatumGetInt32(row[ROUTE_QUEUE_ID]));
		Datum		values[11];
		bool		nulls[11] = {false};
		uint64		counters[SQS_NUM_ROUTE_COUNTERS];
		bool		counted;
		char	   *problem = NULL;

		if (queue == NULL)
			continue;
		if (!queue->is_copy && sqs_may_see_stats_of(queue->owner))
		{
			SqsRoute	route;

			sqs_route_read(row, row_nulls, &route);
			problem = sqs_route_problem(&route, queue->owner);
		}
		counted = sqs_route_counters(queue->queue_id, TextDatumGetCString(row[ROUTE_KEY]), counters);
		values[0] = row[ROUTE_QUEUE_ID];
		values[1] = row[ROUTE_KEY];
		values[2] = row[ROUTE_HANDLER];
		values[3] = row[ROUTE_HANDLER_TIMEOUT];
		nulls[3] = row_nulls[ROUTE_HANDLER_TIMEOUT];
		values[4] = row[ROUTE_CREATED_AT];
		nulls[5] = problem == NULL;
		values[5] = nulls[5] ? (Datum) 0 : CStringGetTextDatum(problem);
		values[6] = Int64GetDatum(counters[SQS_ROUTE_HANDLED]);
		values[7] = Int64GetDatum(counters[SQS_ROUTE_FAILED]);
		values[8] = Int64GetDatum(counters[SQS_ROUTE_DEAD]);
		values[9] = Float8GetDatum(counters[SQS_ROUTE_MICROS] / 1000.0);
		values[10] = Float8GetDatum(counters[SQS_ROUTE_MAX_MICROS] / 1000.0);
		for (int i = 6; i < 11; i++)
			nulls[i] = !counted;
		put(rsinfo, values, nulls);
	}
	end_table(&scan);
	return (Datum) 0;
}

/* Behind sqs_failures: the failed attempts that the current role may see. */
Datum
sqs_get_failures(PG_FUNCTION_ARGS)
{
	static const int columns[] = {
		FAILED_AT, FAILED_QUEUE, FAILED_OWNER, FAILED_MESSAGE_ID, FAILED_RECEIVE_COUNT,
		FAILED_SQLSTATE, FAILED_MESSAGE, FAILED_DETAIL, FAILED_HINT, FAILED_CONTEXT,
		FAILED_HANDLER_PID, FAILED_ATTEMPT, FAILED_ACTION, FAILED_RETRY_AT, FAILED_ROUTE
	};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		sees_all = sqs_may_see_stats_of(InvalidOid);
	TableScan	scan;
	Datum		row[FAILED_NATTS];
	bool		row_nulls[FAILED_NATTS];

	sqs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	begin_table(&scan, SQS_TABLE_FAILURES);
	while (next_row(&scan, row, row_nulls))
	{
		if (!sees_all &&
			!sqs_has_privs_of(DatumGetObjectId(row[FAILED_OWNER_OID]),
							  TextDatumGetCString(row[FAILED_OWNER])))
			continue;
		put_columns(rsinfo, columns, lengthof(columns), row, row_nulls);
	}
	end_table(&scan);
	return (Datum) 0;
}

/*
 * Behind sqs_dead_letters: what a sender has written is for members of the queue's
 * owner, and for those who can read all tables; the rest also for those who may
 * see all failures.
 */
Datum
sqs_get_dead_letters(PG_FUNCTION_ARGS)
{
	static const int columns[] = {
		DEAD_ID, DEAD_QUEUE, DEAD_OWNER, DEAD_STATE, DEAD_MESSAGE_ID, DEAD_GROUP_ID,
		DEAD_DEDUPLICATION_ID, DEAD_SEQUENCE_NUMBER, DEAD_BODY, DEAD_ATTRIBUTES,
		DEAD_SYSTEM_ATTRIBUTES, DEAD_ENVELOPE, DEAD_RAW, DEAD_ROUTE, DEAD_SENT_AT,
		DEAD_FIRST_RECEIVED_AT, DEAD_DIED_AT, DEAD_RECEIVE_COUNT, DEAD_ATTEMPTS, DEAD_REASON,
		DEAD_SQLSTATE, DEAD_MESSAGE, DEAD_DETAIL, DEAD_HINT, DEAD_CONTEXT, DEAD_HANDLER_PID,
		DEAD_RESOLVED_AT, DEAD_RESOLVED_BY, DEAD_REDRIVEN_AS
	};
	static const int contents[] = {
		DEAD_BODY, DEAD_ATTRIBUTES, DEAD_SYSTEM_ATTRIBUTES, DEAD_ENVELOPE, DEAD_RAW
	};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		reads_all = superuser() || sqs_reads_all_data();
	bool		sees_all = reads_all || sqs_may_see_stats_of(InvalidOid);
	TableScan	scan;
	Datum		row[DEAD_NATTS];
	bool		row_nulls[DEAD_NATTS];

	sqs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	begin_table(&scan, SQS_TABLE_DEAD_LETTERS);
	while (next_row(&scan, row, row_nulls))
	{
		bool		reads = reads_all ||
			sqs_has_privs_of(DatumGetObjectId(row[DEAD_OWNER_OID]),
							 TextDatumGetCString(row[DEAD_OWNER]));

		if (!reads && !sees_all)
			continue;
		for (size_t i = 0; i < lengthof(contents) && !reads; i++)
			row_nulls[contents[i]] = true;
		put_columns(rsinfo, columns, lengthof(columns), row, row_nulls);
	}
	end_table(&scan);
	return (Datum) 0;
}

/* Behind sqs_outbox: the messages that wait, for whoever may see them. */
Datum
sqs_get_outbox(PG_FUNCTION_ARGS)
{
	static const int columns[] = {
		ROW_QUEUE, ROW_BODY, ROW_ATTRIBUTES, ROW_GROUP_ID, ROW_DEDUPLICATION_ID,
		ROW_DELIVER_AT, ROW_SYSTEM_ATTRIBUTES, ROW_ID, ROW_ENQUEUED_AT, ROW_ENQUEUED_BY
	};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		sees_all = sqs_reads_all_data();
	List	   *owned = NIL;
	ListCell   *lc;
	TableScan	scan;
	Datum		row[ROW_NATTS];
	bool		row_nulls[ROW_NATTS];

	sqs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	if (!sees_all)
	{
		foreach(lc, sqs_catalog_queues())
		{
			SqsQueueConfig *queue = lfirst(lc);

			if (sqs_owns_queue(queue))
				owned = lappend_int(owned, queue->queue_id);
		}
	}
	begin_table(&scan, SQS_TABLE_OUTBOX_ROWS);
	while (next_row(&scan, row, row_nulls))
	{
		if (!sees_all && !list_member_int(owned, DatumGetInt32(row[ROW_QUEUE_ID])) &&
			!sqs_has_privs_of(DatumGetObjectId(row[ROW_ENQUEUED_BY_OID]),
							  TextDatumGetCString(row[ROW_ENQUEUED_BY])))
			continue;
		put_columns(rsinfo, columns, lengthof(columns), row, row_nulls);
	}
	end_table(&scan);
	return (Datum) 0;
}

typedef struct OutboxCount
{
	int32		queue_id;
	int64		waiting;
	int64		scheduled;
	TimestampTz oldest;
	TimestampTz next;
} OutboxCount;

/* Behind sqs_stats_outbox: how much waits, a row for each queue. */
Datum
sqs_get_outbox_counts(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz now = GetCurrentTimestamp();
	List	   *counts = NIL;
	OutboxCount *count = NULL;
	ListCell   *lc;
	TableScan	scan;
	Datum		row[ROW_NATTS];
	bool		row_nulls[ROW_NATTS];

	sqs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	begin_table(&scan, SQS_TABLE_OUTBOX_ROWS);
	while (next_row(&scan, row, row_nulls))
	{
		int32		queue_id = DatumGetInt32(row[ROW_QUEUE_ID]);

		/* mostly it is the queue of the row before */
		if (count == NULL || count->queue_id != queue_id)
		{
			count = NULL;
			foreach(lc, counts)
			{
				if (((OutboxCount *) lfirst(lc))->queue_id == queue_id)
					count = lfirst(lc);
			}
			if (count == NULL)
			{
				MemoryContextSwitchTo(scan.context);
				count = palloc0(sizeof(OutboxCount));
				count->queue_id = queue_id;
				count->oldest = count->next = DT_NOEND;
				counts = lappend(counts, count);
				MemoryContextSwitchTo(scan.row_context);
			}
		}
		if (row_nulls[ROW_DELIVER_AT] || DatumGetTimestampTz(row[ROW_DELIVER_AT]) <= now)
		{
			count->waiting++;
			count->oldest = Min(count->oldest, DatumGetTimestampTz(row[ROW_ENQUEUED_AT]));
		}
		else
		{
			count->scheduled++;
			count->next = Min(count->next, DatumGetTimestampTz(row[ROW_DELIVER_AT]));
		}
	}
	end_table(&scan);

	foreach(lc, counts)
	{
		Datum		values[5];
		bool		nulls[5] = {false};

		count = lfirst(lc);
		values[0] = Int32GetDatum(count->queue_id);
		values[1] = Int64GetDatum(count->waiting);
		values[2] = TimestampTzGetDatum(count->oldest);
		nulls[2] = count->waiting == 0;
		values[3] = Int64GetDatum(count->scheduled);
		values[4] = TimestampTzGetDatum(count->next);
		nulls[4] = count->scheduled == 0;
		put(rsinfo, values, nulls);
	}
	return (Datum) 0;
}

/* ---- failures of the outbox ---- */

/* Behind sqs_outbox_failures: what could not be sent, for whoever may see it. */
Datum
sqs_get_outbox_failures(PG_FUNCTION_ARGS)
{
	static const int columns[] = {
		FAILURE_ID, FAILURE_QUEUE, FAILURE_ERROR_CODE, FAILURE_ERROR_MESSAGE, FAILURE_FAILED_AT,
		FAILURE_BODY, FAILURE_ATTRIBUTES, FAILURE_GROUP_ID, FAILURE_DEDUPLICATION_ID,
		FAILURE_SYSTEM_ATTRIBUTES, FAILURE_ENQUEUED_AT, FAILURE_ENQUEUED_BY, FAILURE_SERVER
	};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		sees_all = sqs_reads_all_data();
	List	   *queues = NIL;
	TableScan	scan;
	Datum		row[FAILURE_NATTS];
	bool		row_nulls[FAILURE_NATTS];

	sqs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	if (!sees_all)
		queues = sqs_catalog_queues();
	begin_table(&scan, SQS_TABLE_OUTBOX_FAILURES);
	while (next_row(&scan, row, row_nulls))
	{
		if (!sees_all && !sqs_may_take_outbox_failure(row, row_nulls, queues))
			continue;
		put_columns(rsinfo, columns, lengthof(columns), row, row_nulls);
	}
	end_table(&scan);
	return (Datum) 0;
}
