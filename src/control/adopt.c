/*-------------------------------------------------------------------------
 *
 * adopt.c
 *	  sqs_adopt_queues(): making the queues of a copied database work in it.
 *
 * A queue belongs to one database of one cluster (sqs_home()).  In a copy (a
 * restored dump, a database made by CREATE DATABASE ... TEMPLATE, a cluster made
 * by pg_upgrade) nothing is received or sent, because the original may still
 * run, and because a restore may still be under way.  When a superuser decides
 * that the copy is to be used, this is done in one transaction:
 *
 *	- What a queue refers to is looked up by name, because OIDs of the original
 *	  mean nothing here.  If an object is missing, or belongs to a role with
 *	  another name, the queue does not work and reports why.
 *
 *	- A batch of the outbox that was copied as a row, not as a page of the
 *	  table, may have been written before or after its rows, and its
 *	  transaction ID is from another counter.  All such batches are written
 *	  anew, in their order, for the rows that exist.  So are those that were
 *	  made in the copy since, or their messages would go before the copied ones.
 *	  Or the rows are deleted; the caller has to choose, for it cannot be known
 *	  here whether the original sends them, too.
 *
 *	- If the rows are discarded, the queues are also disabled, because the
 *	  original still runs, and a copy that works on the same queues at AWS would
 *	  take its messages.
 *
 *	- Messages that the original had in hand may come back here; their inbox
 *	  rows are kept for as long as SQS keeps a message.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/ids.h"
#include "base/settings.h"
#include "base/wake_at_commit.h"
#include "config/database_mark.h"
#include "config/fdw.h"
#include "config/queue_row.h"
#include "config/queues.h"
#include "config/routes.h"
#include "receive/inbox_marks.h"
#include "send/outbox.h"

PG_FUNCTION_INFO_V1(sqs_adopt_queues);

/*
 * A batch is identified by its number and its queue: rows that were restored
 * into a database in use may have the number of another queue's batch.
 */
typedef struct BatchKey
{
	int64		batch_id;
	int64		queue_id;		/* wide: a hash key has no padding */
} BatchKey;

/* A batch of the outbox that has rows. */
typedef struct CopiedBatch
{
	BatchKey	key;			/* hash key: must be first */
	TimestampTz deliver_at;		/* DT_NOBEGIN: at commit */
	int64		position;		/* PG_INT64_MAX: there is no record of it */
	bool		native;			/* there is a record that is not a copy */
} CopiedBatch;

/*
 * Bind the queue to the objects that have the names it refers to; InvalidOid
 * where there is none.
 */
static void
adopt_queue(const SqsQueueConfig *queue, bool disable)
{
	SqsQueueRow row;
	Oid			owner = get_role_oid(queue->bound_owner.name, true);
	ForeignServer *server = GetForeignServerByName(queue->server, true);

	sqs_queue_row_open(&row);
	if (!sqs_queue_row_read(&row, queue->queue_id))
		elog(ERROR, "queue %d has vanished", queue->queue_id);
	sqs_queue_row_set_text(&row, "home", sqs_home());
	sqs_queue_row_set(&row, "owner_oid", ObjectIdGetDatum(owner));

	/* keep the owners' names: the owners must be the same as in the original */
	if (server != NULL && !sqs_fdw_is_ours(server->fdwid))
		server = NULL;
	sqs_queue_row_set(&row, "server_oid",
					  ObjectIdGetDatum(server != NULL ? server->serverid : InvalidOid));
	sqs_queue_row_set(&row, "server_owner_oid",
					  ObjectIdGetDatum(get_role_oid(queue->bound_server.owner, true)));
	if (queue->handler != NULL)
	{
		char	   *why;

		sqs_queue_row_set(&row, "handler_oid",
						  ObjectIdGetDatum(sqs_resolve_handler(queue->handler, owner, &why)));
		sqs_queue_row_set(&row, "handler_owner_oid",
						  ObjectIdGetDatum(get_role_oid(queue->bound_handler.owner, true)));
	}
	if (disable)
		sqs_queue_row_set(&row, "enabled", BoolGetDatum(false));
	sqs_queue_row_update(&row);
	sqs_queue_row_close(&row);
	sqs_routes_adopt(queue->queue_id, owner);
}

/* Dead letters belong to the roles that have the names of their queues' owners. */
static void
adopt_dead_letters(List *adopted)
{
	SqsWriter  *writer = sqs_writer_open(SQS_TABLE_DEAD_LETTERS);
	Relation	rel = sqs_writer_relation(writer);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, GetActiveSnapshot(), 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum		values[DEAD_NATTS];
		bool		nulls[DEAD_NATTS];
		Oid			owner;

		CHECK_FOR_INTERRUPTS();
		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		if (!list_member_int(adopted, DatumGetInt32(values[DEAD_QUEUE_ID])))
			continue;
		owner = get_role_oid(TextDatumGetCString(values[DEAD_OWNER]), true);
		if (owner == DatumGetObjectId(values[DEAD_OWNER_OID]))
			continue;
		values[DEAD_OWNER_OID] = ObjectIdGetDatum(owner);
		(void) sqs_writer_update(writer, &tuple->t_self, values, nulls, true);
	}
	systable_endscan(scan);
	sqs_writer_close(writer);
}

static CopiedBatch *
get_batch(HTAB *batches, int64 batch_id, int32 queue_id)
{
	BatchKey	key = {batch_id, queue_id};
	bool		found;
	CopiedBatch *batch = hash_search(batches, &key, HASH_ENTER, &found);

	if (!found)
	{
		batch->deliver_at = DT_NOBEGIN;
		batch->position = PG_INT64_MAX;
		batch->native = false;
	}
	return batch;
}

/* Go through all rows, and note their batches. */
static void
read_rows(Relation rel, HTAB *batches)
{
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, GetActiveSnapshot(), 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum		values[ROW_NATTS];
		bool		nulls[ROW_NATTS];
		CopiedBatch *batch;

		CHECK_FOR_INTERRUPTS();
		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		batch = get_batch(batches, DatumGetInt64(values[ROW_BATCH_ID]),
						  DatumGetInt32(values[ROW_QUEUE_ID]));

		/* a message with a time of its own shares its id with its batch */
		if (!nulls[ROW_DELIVER_AT] &&
			DatumGetInt64(values[ROW_ID]) == DatumGetInt64(values[ROW_BATCH_ID]))
			batch->deliver_at = DatumGetTimestampTz(values[ROW_DELIVER_AT]);
	}
	systable_endscan(scan);
}

/*
 * Delete the rows of the queues that were copies, and rows that are copies
 * themselves: a queue that was not may have got some by a restore of the
 * tables' contents.  Returns how many.
 */
static uint64
discard_rows(Relation rel, List *adopted, HTAB *batches)
{
	uint64		deleted = 0;
	SqsWriter  *writer = sqs_writer_on(rel);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, GetActiveSnapshot(), 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum		values[ROW_NATTS];
		bool		nulls[ROW_NATTS];
		int32		queue_id;

		CHECK_FOR_INTERRUPTS();
		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		queue_id = DatumGetInt32(values[ROW_QUEUE_ID]);
		if (!list_member_int(adopted, queue_id) &&
			get_batch(batches, DatumGetInt64(values[ROW_BATCH_ID]), queue_id)->native)
			continue;
		(void) sqs_writer_delete(writer, &tuple->t_self, true);
		deleted++;
	}
	systable_endscan(scan);
	sqs_writer_close(writer);
	return deleted;
}

/*
 * Delete records of batches that are copies, or of the queues that were, and
 * note which are neither.
 */
static void
read_batches(SqsWriter *writer, List *adopted, HTAB *batches)
{
	Relation	rel = sqs_writer_relation(writer);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, GetActiveSnapshot(), 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum		values[BATCH_NATTS];
		bool		nulls[BATCH_NATTS];
		BatchKey	key;
		CopiedBatch *batch;

		CHECK_FOR_INTERRUPTS();
		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		key.batch_id = DatumGetInt64(values[BATCH_ID]);
		key.queue_id = DatumGetInt32(values[BATCH_QUEUE_ID]);
		batch = hash_search(batches, &key, HASH_FIND, NULL);
		if (sqs_batch_is_native(tuple, RelationGetDescr(rel)) &&
			!list_member_int(adopted, (int) key.queue_id))
		{
			if (batch != NULL)
				batch->native = true;
			continue;
		}
		if (batch != NULL)
			batch->position = DatumGetInt64(values[BATCH_POSITION]);
		(void) sqs_writer_delete(writer, &tuple->t_self, true);
	}
	systable_endscan(scan);
}

static int
compare_batches(const void *a, const void *b)
{
	const CopiedBatch *left = *(CopiedBatch *const *) a;
	const CopiedBatch *right = *(CopiedBatch *const *) b;

	if (left->position != right->position)
		return left->position < right->position ? -1 : 1;
	return left->key.batch_id < right->key.batch_id ? -1 :
		left->key.batch_id > right->key.batch_id;
}

/* Records for batches that have none, in the order they had. */
static void
make_batches(SqsWriter *writer, HTAB *batches)
{
	CopiedBatch **missing = palloc(sizeof(CopiedBatch *) * Max(hash_get_num_entries(batches), 1));
	int			nmissing = 0;
	HASH_SEQ_STATUS status;
	CopiedBatch *batch;

	hash_seq_init(&status, batches);
	while ((batch = hash_seq_search(&status)) != NULL)
	{
		if (!batch->native)
			missing[nmissing++] = batch;
	}
	qsort(missing, nmissing, sizeof(CopiedBatch *), compare_batches);
	for (int i = 0; i < nmissing; i++)
	{
		Datum		values[BATCH_NATTS];
		bool		nulls[BATCH_NATTS] = {false};

		CHECK_FOR_INTERRUPTS();
		values[BATCH_ID] = Int64GetDatum(missing[i]->key.batch_id);
		values[BATCH_XID] = FullTransactionIdGetDatum(GetTopFullTransactionId());
		values[BATCH_QUEUE_ID] = Int32GetDatum((int32) missing[i]->key.queue_id);
		values[BATCH_DELIVER_AT] = TimestampTzGetDatum(missing[i]->deliver_at);
		values[BATCH_POSITION] = Int64GetDatum(sqs_new_id());
		sqs_writer_insert(writer, values, nulls);
	}
}

/*
 * Nobody enqueues meanwhile: a batch that were not committed yet would look
 * like one that is missing.
 */
static uint64
adopt_outbox(List *adopted, bool discard)
{
	uint64		deleted = 0;
	Relation	rows = sqs_table_open(SQS_TABLE_OUTBOX_ROWS, ShareRowExclusiveLock);
	Relation	batch_rel = sqs_table_open(SQS_TABLE_OUTBOX_BATCHES, ShareRowExclusiveLock);
	SqsWriter  *writer;
	HASHCTL		ctl;
	HTAB	   *batches;

	PushActiveSnapshot(GetLatestSnapshot());
	writer = sqs_writer_on(batch_rel);
	ctl.keysize = sizeof(BatchKey);
	ctl.entrysize = sizeof(CopiedBatch);
	ctl.hcxt = CurrentMemoryContext;
	batches = hash_create("sqsbridge copied batches", 1024, &ctl,
						  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	read_rows(rows, batches);
	read_batches(writer, adopted, batches);
	if (discard)
		deleted = discard_rows(rows, adopted, batches);
	else
		make_batches(writer, batches);
	hash_destroy(batches);
	sqs_writer_close(writer);
	table_close(batch_rel, NoLock);
	table_close(rows, NoLock);
	PopActiveSnapshot();
	CommandCounterIncrement();
	return deleted;
}

/*
 * The lock serializes calls.  All batches are written by this very transaction,
 * which makes them native (outbox.h).
 */
Datum
sqs_adopt_queues(PG_FUNCTION_ARGS)
{
	char	   *waiting = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		discard = waiting != NULL && strcmp(waiting, "discard") == 0;
	List	   *adopted = NIL;
	uint64		discarded;
	ListCell   *lc;

	sqs_require_preloaded();
	PreventCommandIfReadOnly("sqs_adopt_queues()");
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to adopt queues")));
	if (!discard && (waiting == NULL || strcmp(waiting, "send") != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 waiting != NULL ?
				 errmsg("invalid value for argument \"waiting\": \"%s\"", waiting) :
				 errmsg("argument \"waiting\" must not be null"),
				 errdetail("It must be \"send\" or \"discard\"."),
				 errhint("It says what to do with the messages that wait in the copied outbox: discard them if the original database still runs and sends them itself.")));

	/* a batch must be written by the transaction itself: see outbox.h */
	if (IsSubTransaction())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("sqs_adopt_queues() cannot be called in a subtransaction"),
				 errhint("Call it outside of savepoints and of blocks with an EXCEPTION clause.")));

	if (sqs_outbox_has_batches())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("sqs_adopt_queues() cannot be called in a transaction that has put messages into the outbox"),
				 errhint("Commit first.")));

	LockDatabaseObject(sqs_table_oid(SQS_TABLE_QUEUES), 0, 0, ExclusiveLock);
	PushActiveSnapshot(GetLatestSnapshot());
	foreach(lc, sqs_catalog_queues())
	{
		SqsQueueConfig *queue = lfirst(lc);

		if (!queue->is_copy)
			continue;
		adopt_queue(queue, discard);
		sqs_inbox_adopt(queue->queue_id);
		adopted = lappend_int(adopted, queue->queue_id);
	}
	adopt_dead_letters(adopted);
	PopActiveSnapshot();
	discarded = adopt_outbox(adopted, discard);

	PushActiveSnapshot(GetLatestSnapshot());
	foreach(lc, adopted)
	{
		SqsQueueConfig *queue = sqs_catalog_queue(lfirst_int(lc));

		if (queue != NULL && queue->problem != NULL)
			ereport(WARNING,
					(errmsg("queue \"%s\" is adopted, but cannot work", queue->name),
					 errdetail("The reason is: %s.", queue->problem)));
	}
	PopActiveSnapshot();

	if (discard && (adopted != NIL || discarded > 0))
		ereport(NOTICE,
				(errmsg("discarded %llu messages of the outbox, and disabled %d queues",
						(unsigned long long) discarded, list_length(adopted)),
				 errdetail("The original database may still use the same queues at AWS: both would take messages from the other."),
				 errhint("Give them other servers or queue names with sqs_alter_queue(), and call sqs_enable_queue().")));

	sqs_mark_database_wanted();
	sqs_wake_at_commit();
	PG_RETURN_INT32(list_length(adopted));
}
