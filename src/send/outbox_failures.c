/*-------------------------------------------------------------------------
 *
 * outbox_failures.c
 *	  Failed messages of the outbox: retrying and discarding them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/privileges.h"
#include "base/settings.h"
#include "base/table_writer.h"
#include "config/queues.h"
#include "send/outbox.h"
#include "send/outbox_failures.h"

PG_FUNCTION_INFO_V1(sqs_outbox_retry);
PG_FUNCTION_INFO_V1(sqs_outbox_discard);

const SqsKeptColumn sqs_kept_columns[SQS_KEPT_COLUMNS] = {
	{ROW_ID, FAILURE_ID},
	{ROW_QUEUE, FAILURE_QUEUE},
	{ROW_BODY, FAILURE_BODY},
	{ROW_ATTRIBUTES, FAILURE_ATTRIBUTES},
	{ROW_GROUP_ID, FAILURE_GROUP_ID},
	{ROW_DEDUPLICATION_ID, FAILURE_DEDUPLICATION_ID},
	{ROW_SYSTEM_ATTRIBUTES, FAILURE_SYSTEM_ATTRIBUTES},
	{ROW_ENQUEUED_AT, FAILURE_ENQUEUED_AT},
	{ROW_ENQUEUED_BY_OID, FAILURE_ENQUEUED_BY_OID},
	{ROW_ENQUEUED_BY, FAILURE_ENQUEUED_BY},
	{ROW_TOKEN, FAILURE_TOKEN},
};

/*
 * May the current role retry or discard a failed message?  values and nulls
 * are the columns of its row in outbox_failures, queues the result of
 * sqs_catalog_queues().  Superusers may, and so may roles with the
 * privileges of the role that enqueued the message, of the owner of its
 * server, or of the owner of its queue, provided that server and queue are
 * still the same ones.
 */
bool
sqs_may_take_outbox_failure(const Datum *values, const bool *nulls, List *queues)
{
	SqsQueueConfig *queue;
	ForeignServer *server;

	if (superuser() ||
		sqs_has_privs_of(DatumGetObjectId(values[FAILURE_ENQUEUED_BY_OID]),
						 TextDatumGetCString(values[FAILURE_ENQUEUED_BY])))
		return true;
	if (nulls[FAILURE_SERVER_OID] || nulls[FAILURE_SERVER])
		return false;
	server = GetForeignServerExtended(DatumGetObjectId(values[FAILURE_SERVER_OID]),
									  FSV_MISSING_OK);
	if (server == NULL ||
		strcmp(server->servername, TextDatumGetCString(values[FAILURE_SERVER])) != 0)
		return false;
	if (has_privs_of_role(GetUserId(), server->owner))
		return true;
	queue = sqs_catalog_find(queues, DatumGetInt32(values[FAILURE_QUEUE_ID]));
	return queue != NULL && queue->server_oid == server->serverid && sqs_owns_queue(queue);
}

/* May the current role see the failed message? */
static bool
may_see(const Datum *values, const bool *nulls)
{
	return sqs_reads_all_data() || sqs_may_take_outbox_failure(values, nulls, sqs_catalog_queues());
}

/*
 * Find a failed message that the current role may see; locks no row.
 * Returns a copy, and its columns in values and nulls.  Raises an ERROR if
 * there is none.  The error is the same if the role may not see it, so that
 * it learns nothing.
 */
static HeapTuple
find_failure(Relation rel, int64 id, Datum *values, bool *nulls)
{
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	ScanKeyInit(&key, FAILURE_ID + 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	scan = systable_beginscan(rel, sqs_index_oid(SQS_INDEX_OUTBOX_FAILURES_PKEY), true,
							  GetActiveSnapshot(), 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		tuple = heap_copytuple(tuple);
		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
	}
	systable_endscan(scan);
	if (!HeapTupleIsValid(tuple) || !may_see(values, nulls))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no failed message with id %lld in the outbox", (long long) id),
				 errhint("The failed messages are listed in sqs_outbox_failures.")));
	return tuple;
}

/*
 * Raise an ERROR if the current role may see the message but not change it.
 */
static void
check_may_take_failure(int64 id, const char *verb, const Datum *values, const bool *nulls)
{
	if (!sqs_may_take_outbox_failure(values, nulls, sqs_catalog_queues()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to %s failed message %lld of the outbox",
						verb, (long long) id),
				 errdetail("Only the role that enqueued the message, and the owners of its queue and of the queue's server, may do that.")));
}

/*
 * Raise an ERROR if the queue of that name is not the one that the message
 * was enqueued to, unless the current role has the privileges of its owner.
 * Otherwise somebody else would receive the message.
 */
void
sqs_check_same_queue(const char *name, int32 queue_id)
{
	SqsQueueConfig *queue = sqs_catalog_queue_by_name(name);

	if (queue != NULL && queue->queue_id != queue_id &&
		!sqs_has_privs_of(queue->bound_owner.oid, queue->bound_owner.name))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue \"%s\" is not the one that the message was meant for", name),
				 errdetail("Another role has registered a queue with this name since.")));
}

/*
 * Delete a failed message.  Raises an ERROR if another transaction has
 * deleted it since it was found.
 */
static void
delete_failure(SqsWriter *writer, HeapTuple tuple, int64 id)
{
	if (sqs_writer_delete(writer, &tuple->t_self, true) != SQS_WRITTEN)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no failed message with id %lld in the outbox", (long long) id),
				 errdetail("Another transaction has just retried or discarded it.")));
}

/*
 * sqs_outbox_retry(id) returns bigint
 *
 * Move a failed message back into the outbox and return its new id.  It
 * keeps its token, so that a receiver recognizes it in case it had been sent
 * after all.
 */
Datum
sqs_outbox_retry(PG_FUNCTION_ARGS)
{
	int64		id = PG_GETARG_INT64(0);
	SqsWriter  *writer;
	HeapTuple	tuple;
	Datum		failure[FAILURE_NATTS];
	bool		failure_nulls[FAILURE_NATTS];
	Datum		values[ROW_NATTS];
	bool		nulls[ROW_NATTS];
	int64		new_id;

	PreventCommandIfReadOnly("sqs_outbox_retry()");
	sqs_require_preloaded();
	writer = sqs_writer_open(SQS_TABLE_OUTBOX_FAILURES);
	tuple = find_failure(sqs_writer_relation(writer), id, failure, failure_nulls);
	check_may_take_failure(id, "retry", failure, failure_nulls);
	sqs_check_same_queue(TextDatumGetCString(failure[FAILURE_QUEUE]),
						 DatumGetInt32(failure[FAILURE_QUEUE_ID]));

	memset(values, 0, sizeof(values));
	memset(nulls, true, sizeof(nulls));
	for (int i = 0; i < SQS_KEPT_COLUMNS; i++)
	{
		values[sqs_kept_columns[i].row] = failure[sqs_kept_columns[i].failure];
		nulls[sqs_kept_columns[i].row] = failure_nulls[sqs_kept_columns[i].failure];
	}

	/* checks the privilege; makes a new id */
	new_id = sqs_outbox_store(TextDatumGetCString(failure[FAILURE_QUEUE]), values, nulls);
	delete_failure(writer, tuple, id);
	sqs_writer_close(writer);
	PG_RETURN_INT64(new_id);
}

/*
 * sqs_outbox_discard(id) returns void
 *
 * Delete a failed message.
 */
Datum
sqs_outbox_discard(PG_FUNCTION_ARGS)
{
	int64		id = PG_GETARG_INT64(0);
	SqsWriter  *writer;
	HeapTuple	tuple;
	Datum		failure[FAILURE_NATTS];
	bool		nulls[FAILURE_NATTS];

	PreventCommandIfReadOnly("sqs_outbox_discard()");
	sqs_require_preloaded();
	writer = sqs_writer_open(SQS_TABLE_OUTBOX_FAILURES);
	tuple = find_failure(sqs_writer_relation(writer), id, failure, nulls);
	check_may_take_failure(id, "discard", failure, nulls);
	delete_failure(writer, tuple, id);
	sqs_writer_close(writer);
	PG_RETURN_VOID();
}
