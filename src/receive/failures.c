/*-------------------------------------------------------------------------
 *
 * failures.c
 *	  The rows of sqs_failures: the newest failed attempts of each queue.
 *
 * They are written by handler workers, which are connected as the queue's owner,
 * and by queue workers.  Whoever writes one also deletes the oldest if there are
 * more than sqsbridge.max_failures; the number is kept in shared memory
 * (queue_stats.h), so that rows need not be counted each time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/queue_stats.h"
#include "base/settings.h"
#include "base/table_writer.h"
#include "receive/failures.h"

/* Texts of errors are clipped to this many bytes. */
#define FAILURE_TEXT_MAX	8192

/* The most rows that are deleted at once. */
#define DROP_MAX			1000

static SysScanDesc
scan_failures(Relation rel, Relation index, int32 queue_id, TimestampTz from)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], FAILED_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(queue_id));
	ScanKeyInit(&keys[1], FAILED_AT + 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(from));
	return systable_beginscan_ordered(rel, index, GetActiveSnapshot(), 2, keys);
}

/* Count a queue's failures from a time on, but no more than "most". */
int64
sqs_failures_count(Relation rel, Relation index, int32 queue_id, TimestampTz from, int64 most)
{
	SysScanDesc scan = scan_failures(rel, index, queue_id, from);
	int64		n = 0;

	while (n < most && systable_getnext_ordered(scan, ForwardScanDirection) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		n++;
	}
	systable_endscan_ordered(scan);
	return n;
}

/*
 * Count one more failure, and return how many of the oldest the caller has to
 * delete.  They are subtracted at once, so that no other process deletes them as
 * well.  Two percent of the maximum are deleted at a time, so that not every
 * failure needs to delete a row.
 */
static int
failures_to_drop(SqsQueueStats *stats)
{
	uint64		known = pg_atomic_read_u64(&stats->failures_known);

	for (;;)
	{
		uint64		more = known + 1;
		uint64		drop = 0;

		if (known == SQS_FAILURES_UNKNOWN)
			return 0;
		if (more > (uint64) sqs_max_failures)
			drop = Min(more - (sqs_max_failures - sqs_max_failures / 50), DROP_MAX);
		if (pg_atomic_compare_exchange_u64(&stats->failures_known, &known, more - drop))
			return (int) drop;
	}
}

/*
 * Delete n of the oldest, except rows that are locked.  Returns how many were
 * deleted, and corrects the number of failures.
 */
static int
drop_failures(SqsWriter *writer, Relation index, SqsQueueStats *stats, int32 queue_id, int n)
{
	Relation	rel = sqs_writer_relation(writer);
	SysScanDesc scan = scan_failures(rel, index, queue_id, sqs_failures_from(stats));
	TimestampTz last = DT_NOBEGIN;
	int			dropped = 0;
	HeapTuple	tuple;
	bool		isnull;

	while (dropped < n &&
		   (tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (sqs_writer_delete(writer, &tuple->t_self, false) != SQS_WRITTEN)
			continue;
		dropped++;
		last = DatumGetTimestampTz(sqs_getattr(tuple, FAILED_AT + 1,
											   RelationGetDescr(rel), &isnull));
	}
	systable_endscan_ordered(scan);

	/* failures_to_drop() has subtracted n */
	sqs_failures_added(stats, n - dropped);
	sqs_failures_deleted(stats, 0, last);
	return dropped;
}

/* One more row is about to be inserted: delete some if there are too many. */
static void
make_room_for_failure(SqsWriter *writer, SqsQueueStats *stats, int32 queue_id)
{
	Relation	index = index_open(sqs_index_oid(SQS_INDEX_FAILURES_TIME), AccessShareLock);
	int			n;

	/*
	 * Not known after a start of the server.  If there are far too many, it
	 * stays unknown, and the database worker's cleaning deletes them.
	 */
	if (sqs_failures_known(stats) < 0)
	{
		int64		most = (int64) sqs_max_failures + DROP_MAX;
		int64		known = sqs_failures_count(sqs_writer_relation(writer), index, queue_id,
											   sqs_failures_from(stats), most);

		if (known < most)
			sqs_failures_set_known(stats, known);
	}
	n = failures_to_drop(stats);
	if (n > 0)
		sqs_count(stats, SQS_FAILURES_DROPPED,
				  drop_failures(writer, index, stats, queue_id, n));
	index_close(index, AccessShareLock);
}

void
sqs_set_error_text(Datum *value, bool *null, const char *text)
{
	if (text == NULL)
	{
		*null = true;
		return;
	}
	*value = PointerGetDatum(cstring_to_text_with_len(text,
													  pg_mbcliplen(text, strlen(text), FAILURE_TEXT_MAX)));
}

/* Written as whatever role the process has: table_writer.c checks no privilege. */
void
sqs_failure_insert(const SqsFailure *failure)
{
	SqsWriter  *writer;
	SqsQueueStats *stats = sqs_stats_find(MyDatabaseId, failure->queue_id);
	const ErrorData *edata = failure->edata;
	char	   *owner_name = GetUserNameFromId(failure->owner, true);
	Datum		values[FAILED_NATTS];
	bool		nulls[FAILED_NATTS];

	if (sqs_max_failures == 0)
	{
		if (stats != NULL)
			sqs_count(stats, SQS_FAILURES_DROPPED, 1);
		return;
	}

	memset(nulls, 0, sizeof(nulls));
	values[FAILED_QUEUE_ID] = Int32GetDatum(failure->queue_id);
	values[FAILED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[FAILED_QUEUE] = CStringGetTextDatum(failure->queue);
	values[FAILED_OWNER_OID] = ObjectIdGetDatum(failure->owner);
	values[FAILED_OWNER] = CStringGetTextDatum(owner_name != NULL ? owner_name : "");
	values[FAILED_MESSAGE_ID] =
		PointerGetDatum(cstring_to_text_with_len(failure->message_id.data, failure->message_id.len));
	values[FAILED_RECEIVE_COUNT] = Int32GetDatum(failure->receive_count);
	values[FAILED_SQLSTATE] = CStringGetTextDatum(unpack_sql_state(edata->sqlerrcode));
	sqs_set_error_text(&values[FAILED_MESSAGE], &nulls[FAILED_MESSAGE], edata->message);
	sqs_set_error_text(&values[FAILED_DETAIL], &nulls[FAILED_DETAIL], edata->detail);
	sqs_set_error_text(&values[FAILED_HINT], &nulls[FAILED_HINT], edata->hint);
	sqs_set_error_text(&values[FAILED_CONTEXT], &nulls[FAILED_CONTEXT], edata->context);
	values[FAILED_HANDLER_PID] = Int32GetDatum(failure->handler_pid);
	values[FAILED_ATTEMPT] = Int32GetDatum(failure->attempt);
	nulls[FAILED_ATTEMPT] = failure->attempt == 0;
	values[FAILED_ACTION] = CStringGetTextDatum(sqs_error_action_name(failure->action));
	values[FAILED_RETRY_AT] = TimestampTzGetDatum(failure->retry_at);
	nulls[FAILED_RETRY_AT] = failure->retry_at == 0;
	sqs_set_error_text(&values[FAILED_ROUTE], &nulls[FAILED_ROUTE], failure->route);

	writer = sqs_writer_open(SQS_TABLE_FAILURES);
	if (IsolationUsesXactSnapshot())
	{
		/* a handler's transaction: what is read here could make it fail */
		if (stats != NULL && sqs_failures_known(stats) >= 0)
			sqs_failures_added(stats, 1);
	}
	else if (stats != NULL)
		make_room_for_failure(writer, stats, failure->queue_id);
	sqs_writer_insert(writer, values, nulls);
	sqs_writer_close(writer);
}
