/*-------------------------------------------------------------------------
 *
 * clean.c
 *	  Deletes rows that have been kept long enough: a job of the database
 *	  worker.
 *
 * The caller has an error boundary around it, bounds its time, and has it
 * canceled when the worker is to stop.  An error here must leave nothing
 * behind but an aborted transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "sqsbridge.h"
#include "table_writer.h"
#include "worker/clean.h"
#include "worker/worker.h"

#define CLEAN_BATCH				5000

/* A table whose rows have a queue and a time, and the index on these. */
typedef struct AgingTable
{
	SqsTable	table;
	SqsIndex	index;
	AttrNumber	queue_id;
	AttrNumber	at;
} AgingTable;

static const AgingTable inbox = {
	SQS_TABLE_INBOX, SQS_INDEX_INBOX_STAMP, INBOX_QUEUE_ID + 1, INBOX_STAMP + 1
};
static const AgingTable failures = {
	SQS_TABLE_FAILURES, SQS_INDEX_FAILURES_TIME, FAILED_QUEUE_ID + 1, FAILED_AT + 1
};

/* When were rows of this queue too old? */
typedef TimestampTz (*OldestToKeep) (int32 queue_id);

static TimestampTz
oldest_in_inbox(int32 queue_id)
{
	SqsQueueConfig *queue = sqs_catalog_queue(queue_id);

	return GetCurrentTimestamp() - (queue != NULL ? queue->dedup_retention : USECS_PER_DAY);
}

static TimestampTz
oldest_failure(int32 queue_id)
{
	return GetCurrentTimestamp() - sqs_failure_retention * USECS_PER_SEC;
}

/* The first queue with rows after this one; false if there is none. */
static bool
next_queue(const AgingTable *aging, Relation rel, Relation index, int32 *queue_id)
{
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	bool		isnull;

	ScanKeyInit(&key, aging->queue_id, BTGreaterStrategyNumber, F_INT4GT,
				Int32GetDatum(*queue_id));
	scan = systable_beginscan_ordered(rel, index, GetActiveSnapshot(), 1, &key);
	tuple = systable_getnext_ordered(scan, ForwardScanDirection);
	if (tuple != NULL)
		*queue_id = DatumGetInt32(heap_getattr(tuple, aging->queue_id,
											   RelationGetDescr(rel), &isnull));
	systable_endscan_ordered(scan);
	return tuple != NULL;
}

/*
 * Delete rows of one table, in a transaction of its own.  Queue by queue along
 * the index, so that a large table of which nothing has expired costs a few
 * pages.  A row that somebody holds locked is left for the next time.  Returns
 * true if there may be more.
 */
static bool
clean_table(const AgingTable *aging, OldestToKeep oldest_to_keep)
{
	SqsWriter  *writer;
	Relation	rel;
	Relation	index;
	int32		queue_id = PG_INT32_MIN;
	int			deleted = 0;

	sqs_begin();
	if (!OidIsValid(sqs_extension_oid()))
	{
		sqs_commit();
		return false;
	}
	writer = sqs_writer_open(aging->table);
	rel = sqs_writer_relation(writer);
	index = index_open(sqs_index_oid(aging->index), AccessShareLock);
	while (deleted < CLEAN_BATCH && next_queue(aging, rel, index, &queue_id))
	{
		SysScanDesc scan;
		ScanKeyData keys[2];
		HeapTuple	tuple;

		ScanKeyInit(&keys[0], aging->queue_id, BTEqualStrategyNumber, F_INT4EQ,
					Int32GetDatum(queue_id));
		ScanKeyInit(&keys[1], aging->at, BTLessStrategyNumber, F_TIMESTAMPTZ_LT,
					TimestampTzGetDatum(oldest_to_keep(queue_id)));
		scan = systable_beginscan_ordered(rel, index, GetActiveSnapshot(), 2, keys);
		while (deleted < CLEAN_BATCH &&
			   (tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
		{
			CHECK_FOR_INTERRUPTS();
			if (sqs_writer_delete(writer, &tuple->t_self, false) == SQS_WRITTEN)
				deleted++;
		}
		systable_endscan_ordered(scan);
	}
	index_close(index, NoLock);
	sqs_writer_close(writer);
	sqs_commit();
	return deleted >= CLEAN_BATCH;
}

bool
sqs_clean(void)
{
	bool		more = clean_table(&inbox, oldest_in_inbox);

	return clean_table(&failures, oldest_failure) || more;
}
