/*-------------------------------------------------------------------------
 *
 * outbox.c
 *	  The session's side of the outbox: storing messages, to be sent after
 *	  COMMIT.
 *
 * sqs_outbox is a view; its INSTEAD OF trigger checks each row and stores
 * it.  A table with row-level security would look simpler, but COPY FROM
 * refuses such tables, and the checks would have to be triggers anyway.
 *
 * The roles that insert have no privileges on the tables.  The rows are
 * written below the executor (table_writer.c): no privileges of the session
 * are checked, no user-defined code runs, and no role can store a row that
 * was not checked.
 *
 * The order of commits.  Messages of a group are sent in the order in which
 * their transactions committed.  The ids of the rows do not give that order,
 * because they are assigned earlier.  So each transaction writes a batch
 * record immediately before it commits, with a position that only increases
 * (ids.c).  If transaction B sees the effects of A, or has waited for one of
 * A's locks, then A took its position before B, so A's position is lower.
 * Two transactions that commit concurrently and do not depend on each other
 * can get either order, as for any other observer.  The cost is one narrow
 * row per transaction and queue.
 *
 * A message with a deliver_at in the future is a batch of its own, so that
 * it can be found by its time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_foreign_server.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "base/databases.h"
#include "base/extension.h"
#include "base/ids.h"
#include "base/settings.h"
#include "base/table_writer.h"
#include "base/wake_at_commit.h"
#include "config/queues.h"
#include "send/outbox.h"
#include "send/outgoing.h"

PG_FUNCTION_INFO_V1(sqs_outbox_insert);
PG_FUNCTION_INFO_V1(sqs_enqueue);

/* A queue that a role has enqueued to in this transaction. */
typedef struct EnqueuedQueue
{
	struct EnqueuedQueue *next;
	Oid			role;
	Oid			server;
	int32		queue_id;
	bool		fifo;
	char		name[SQS_QUEUE_NAME_MAX + 1];
} EnqueuedQueue;

/* A batch of this transaction whose record is not yet written. */
typedef struct OpenBatch
{
	struct OpenBatch *next;
	SubTransactionId subid;		/* the subtransaction that it belongs to */
	int32		queue_id;
	int64		batch_id;
	TimestampTz deliver_at;		/* DT_NOBEGIN: at commit */
} OpenBatch;

/* State of a transaction that has enqueued; in TopTransactionContext. */
typedef struct OutboxTransaction
{
	Oid			extension;
	EnqueuedQueue *queues;		/* valid while sqs_config_changes is ... */
	uint64		config_changes; /* ... this */
	OpenBatch  *open;			/* one per queue; newest first */
	OpenBatch  *timed;			/* one per message; newest first */
} OutboxTransaction;

static OutboxTransaction *current = NULL;
static bool wake_relay = false; /* set by a commit, for after_commit() */

/* Set "current", if this is the first message of the transaction. */
static void
begin_transaction(void)
{
	Oid			extension = sqs_extension_oid();

	/* the extension may have been dropped and created in this transaction */
	if (current != NULL && current->extension == extension)
		return;
	sqs_require_preloaded();
	current = MemoryContextAllocZero(TopTransactionContext, sizeof(OutboxTransaction));
	current->extension = extension;
}

/*
 * Look up a queue that the current role is to send to.  Raises an ERROR if
 * the queue does not exist or the role may not send to it.  The privilege is
 * checked each time, as for a table, because it can be revoked during the
 * transaction.  The result is in TopTransactionContext.
 */
static EnqueuedQueue *
find_queue(const char *name)
{
	EnqueuedQueue *queue;
	SqsQueueConfig *config;
	Oid			role = GetUserId();

	/* a queue may have been changed in this transaction */
	if (current->config_changes != sqs_config_changes)
	{
		current->queues = NULL;
		current->config_changes = sqs_config_changes;
	}
	for (queue = current->queues; queue != NULL; queue = queue->next)
	{
		if (queue->role == role && strcmp(queue->name, name) == 0 &&
			SearchSysCacheExists1(FOREIGNSERVEROID, ObjectIdGetDatum(queue->server)) &&
			object_aclcheck(ForeignServerRelationId, queue->server, role,
							ACL_USAGE) == ACLCHECK_OK)
			return queue;
	}
	config = sqs_catalog_queue_to_send(name, true);
	queue = MemoryContextAlloc(TopTransactionContext, sizeof(EnqueuedQueue));
	queue->role = role;
	queue->server = config->server_oid;
	queue->queue_id = config->queue_id;
	queue->fifo = config->fifo;
	strlcpy(queue->name, config->name, sizeof(queue->name));
	queue->next = current->queues;
	current->queues = queue;
	return queue;
}

/*
 * The id of this transaction's batch for the queue, which may be a new one.
 */
static int64
open_batch(int32 queue_id)
{
	OpenBatch  *batch;

	for (batch = current->open; batch != NULL; batch = batch->next)
	{
		if (batch->queue_id == queue_id)
			return batch->batch_id;
	}
	batch = MemoryContextAlloc(TopTransactionContext, sizeof(OpenBatch));
	batch->subid = GetCurrentSubTransactionId();
	batch->queue_id = queue_id;
	batch->batch_id = sqs_new_id();
	batch->deliver_at = DT_NOBEGIN;
	batch->next = current->open;
	current->open = batch;
	return batch->batch_id;
}

/*
 * Add the batch of a message that has a deliver_at.  It has only this
 * message, and has its id.
 */
static void
open_timed_batch(int64 id, int32 queue_id, TimestampTz deliver_at)
{
	OpenBatch  *batch = MemoryContextAlloc(TopTransactionContext, sizeof(OpenBatch));

	batch->subid = GetCurrentSubTransactionId();
	batch->queue_id = queue_id;
	batch->batch_id = id;
	batch->deliver_at = deliver_at;
	batch->next = current->timed;
	current->timed = batch;
}

/*
 * Write the records of a list of batches.  Their order in the list becomes
 * their order of sending, if they have the same deliver_at.
 */
static void
insert_batches(SqsWriter *writer, const OpenBatch *batch)
{
	Datum		values[BATCH_NATTS];
	bool		nulls[BATCH_NATTS] = {false};

	for (; batch != NULL; batch = batch->next)
	{
		CHECK_FOR_INTERRUPTS();
		values[BATCH_ID] = Int64GetDatum(batch->batch_id);
		values[BATCH_XID] = FullTransactionIdGetDatum(GetTopFullTransactionId());
		values[BATCH_QUEUE_ID] = Int32GetDatum(batch->queue_id);
		values[BATCH_DELIVER_AT] = TimestampTzGetDatum(batch->deliver_at);
		values[BATCH_POSITION] = Int64GetDatum(sqs_new_id());
		sqs_writer_insert(writer, values, nulls);
	}
}

/*
 * Was the batch record written by the transaction that it names?  Otherwise
 * it is a copy; see outbox.h.
 */
bool
sqs_batch_is_native(HeapTuple batch, TupleDesc desc)
{
	bool		isnull;
	Datum		xid = sqs_getattr(batch, BATCH_XID + 1, desc, &isnull);

	/* the raw xmin, because freezing does not change it */
	return !isnull &&
		HeapTupleHeaderGetRawXmin(batch->t_data) ==
		XidFromFullTransactionId(DatumGetFullTransactionId(xid));
}

/*
 * A random UUID that identifies the message, so that receivers can recognize
 * it if it is sent twice.  It is palloc'd.
 */
static Datum
new_token(void)
{
	pg_uuid_t  *uuid = palloc(sizeof(pg_uuid_t));

	if (!pg_strong_random(uuid->data, UUID_LEN))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	/* version 4, of the variant of RFC 9562 */
	uuid->data[6] = (uuid->data[6] & 0x0f) | 0x40;
	uuid->data[8] = (uuid->data[8] & 0x3f) | 0x80;
	return UUIDPGetDatum(uuid);
}

/*
 * Turn the columns of a row into a message, for the checks at insertion and
 * again for sending.  Returns NULL, or what is wrong with the row.  The
 * message refers to the row's values and to the current memory context.
 */
SqsDraftError *
sqs_outbox_prepare(const Datum *values, const bool *nulls, bool fifo, SqsOutgoing *message)
{
	SqsDraft	draft;

	draft.body = nulls[ROW_BODY] ? (Datum) 0 : values[ROW_BODY];
	draft.attributes = nulls[ROW_ATTRIBUTES] ? (Datum) 0 : values[ROW_ATTRIBUTES];
	draft.delay = (Datum) 0;
	draft.group_id = nulls[ROW_GROUP_ID] ? (Datum) 0 : values[ROW_GROUP_ID];
	draft.deduplication_id = nulls[ROW_DEDUPLICATION_ID] ? (Datum) 0 : values[ROW_DEDUPLICATION_ID];
	draft.system_attributes = nulls[ROW_SYSTEM_ATTRIBUTES] ? (Datum) 0 : values[ROW_SYSTEM_ATTRIBUTES];
	return sqs_outgoing_prepare(&draft, fifo, message);
}

/*
 * Check a message and store it, to be sent when the current transaction
 * commits.  values and nulls are those of a row of outbox_rows in which the
 * columns of the message are set; the others are set here.  The token is set
 * only if a failed message is stored again; who enqueued it, and when, is
 * kept then, too.  Returns the id of the new row.  Raises an ERROR if the
 * queue does not exist, the role may not use it, or SQS would refuse the
 * message.
 */
int64
sqs_outbox_store(const char *name, Datum *values, bool *nulls)
{
	EnqueuedQueue *queue;
	SqsOutgoing message;
	SqsDraftError *wrong;
	TimestampTz now = GetCurrentTimestamp();
	bool		timed = !nulls[ROW_DELIVER_AT] &&
		DatumGetTimestampTz(values[ROW_DELIVER_AT]) > now;
	SqsWriter  *writer;
	int64		id;

	begin_transaction();

	/*
	 * Open the table, which locks it, before the queue is looked up: the
	 * database worker, which exits when there is neither a queue nor a row,
	 * then knows that there may soon be one.  The table that is written at
	 * commit is locked now, too, so that the commit does not have to wait for
	 * it.
	 */
	writer = sqs_writer_open(SQS_TABLE_OUTBOX_ROWS);
	LockRelationOid(sqs_table_oid(SQS_TABLE_OUTBOX_BATCHES), RowExclusiveLock);
	queue = find_queue(name);

	wrong = sqs_outbox_prepare(values, nulls, queue->fifo, &message);
	if (wrong != NULL)
		sqs_draft_error_raise(wrong, name);
	if (timed && TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(values[ROW_DELIVER_AT])))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("cannot send to queue \"%s\": deliver_at must be finite", name),
				 errhint("Leave it out to send the message at commit.")));

	id = sqs_new_id();
	values[ROW_BATCH_ID] = Int64GetDatum(timed ? id : open_batch(queue->queue_id));
	values[ROW_ID] = Int64GetDatum(id);
	values[ROW_QUEUE_ID] = Int32GetDatum(queue->queue_id);
	values[ROW_QUEUE] = CStringGetTextDatum(queue->name);
	values[ROW_SIZE] = Int32GetDatum((int32) sqs_outgoing_size(&message));
	nulls[ROW_SIZE] = false;
	if (nulls[ROW_TOKEN])
	{
		values[ROW_TOKEN] = new_token();
		values[ROW_ENQUEUED_AT] = TimestampTzGetDatum(now);
		values[ROW_ENQUEUED_BY_OID] = ObjectIdGetDatum(GetUserId());
		values[ROW_ENQUEUED_BY] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	}
	nulls[ROW_BATCH_ID] = nulls[ROW_ID] = nulls[ROW_QUEUE_ID] = nulls[ROW_QUEUE] = false;
	nulls[ROW_TOKEN] = nulls[ROW_ENQUEUED_AT] = false;
	nulls[ROW_ENQUEUED_BY_OID] = nulls[ROW_ENQUEUED_BY] = false;

	sqs_writer_insert(writer, values, nulls);
	sqs_writer_close(writer);

	if (timed)
		open_timed_batch(id, queue->queue_id, DatumGetTimestampTz(values[ROW_DELIVER_AT]));
	return id;
}

/* ---- the view and the function ---- */

static ExecutorCheckPerms_hook_type prev_check_perms = NULL;

/*
 * ExecutorCheckPerms hook: refuse to insert into sqs_outbox while
 * session_replication_role is "replica".  The view's trigger does not fire
 * then, and ENABLE ALWAYS is not possible for triggers of views, so the row
 * would be lost without an error.
 */
static bool
outbox_check_perms(SQS_CHECK_PERMS_ARGS)
{
	ListCell   *lc;

	if (prev_check_perms != NULL && !prev_check_perms(SQS_PASS_CHECK_PERMS_ARGS))
		return false;
	if (SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA)
		return true;
	foreach(lc, permissions)
	{
		sqs_permission_info *info = lfirst(lc);

		if ((info->requiredPerms & ACL_INSERT) != 0 && OidIsValid(info->relid) &&
			get_rel_relkind(info->relid) == RELKIND_VIEW &&
			OidIsValid(sqs_extension_oid()) && info->relid == sqs_view_oid("sqs_outbox"))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("cannot insert into sqs_outbox while session_replication_role is \"replica\""),
					 errdetail("The trigger that stores the row does not fire then."),
					 errhint("Use sqs_enqueue().")));
	}
	return true;
}

/* Get a column of the row by its name in the view. */
static Datum
view_column(HeapTuple tuple, TupleDesc desc, const char *name, bool *isnull)
{
	int			attnum = SPI_fnumber(desc, name);

	if (attnum <= 0)
		elog(ERROR, "view sqs_outbox has no column \"%s\"", name);
	return sqs_getattr(tuple, attnum, desc, isnull);
}

/*
 * INSTEAD OF INSERT trigger of the view sqs_outbox.  Stores the row and
 * returns it with id, enqueued_at and enqueued_by filled in, for RETURNING.
 */
Datum
sqs_outbox_insert(PG_FUNCTION_ARGS)
{
	static const struct
	{
		const char *name;
		OutboxColumn column;
	}			given[] = {
		{"body", ROW_BODY},
		{"attributes", ROW_ATTRIBUTES},
		{"group_id", ROW_GROUP_ID},
		{"deduplication_id", ROW_DEDUPLICATION_ID},
		{"deliver_at", ROW_DELIVER_AT},
		{"system_attributes", ROW_SYSTEM_ATTRIBUTES},
	},			made[] = {
		{"id", ROW_ID},
		{"enqueued_at", ROW_ENQUEUED_AT},
		{"enqueued_by", ROW_ENQUEUED_BY},
	};
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	HeapTuple	tuple;
	Datum		values[ROW_NATTS];
	bool		nulls[ROW_NATTS];
	Datum		queue;
	bool		isnull;
	int			columns[lengthof(made)];
	Datum		made_values[lengthof(made)];
	bool		made_nulls[lengthof(made)];
	NameData	enqueued_by;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_INSTEAD(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function sqs_outbox_insert() can be called only as the trigger of view sqs_outbox")));

	/* in another view, the columns could have other types */
	begin_transaction();
	if (RelationGetRelid(trigger->tg_relation) != sqs_view_oid("sqs_outbox"))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function sqs_outbox_insert() can be called only as the trigger of view sqs_outbox")));

	desc = RelationGetDescr(trigger->tg_relation);
	tuple = trigger->tg_trigtuple;
	memset(values, 0, sizeof(values));
	memset(nulls, true, sizeof(nulls));

	queue = view_column(tuple, desc, "queue", &isnull);
	if (isnull)
		sqs_queue_is_null();
	for (int i = 0; i < (int) lengthof(given); i++)
		values[given[i].column] = view_column(tuple, desc, given[i].name,
											  &nulls[given[i].column]);
	for (int i = 0; i < (int) lengthof(made); i++)
	{
		(void) view_column(tuple, desc, made[i].name, &isnull);
		if (!isnull)
			ereport(ERROR,
					(errcode(ERRCODE_GENERATED_ALWAYS),
					 errmsg("cannot insert a value into column \"%s\" of sqs_outbox", made[i].name),
					 errhint("Leave the column out, or insert NULL.")));
	}

	(void) sqs_outbox_store(TextDatumGetCString(queue), values, nulls);

	/* for RETURNING */
	for (int i = 0; i < (int) lengthof(made); i++)
	{
		columns[i] = SPI_fnumber(desc, made[i].name);
		made_values[i] = values[made[i].column];
		made_nulls[i] = false;
		if (made[i].column == ROW_ENQUEUED_BY)
		{
			namestrcpy(&enqueued_by, TextDatumGetCString(made_values[i]));
			made_values[i] = NameGetDatum(&enqueued_by);
		}
	}
	return PointerGetDatum(heap_modify_tuple_by_cols(tuple, desc, lengthof(made), columns,
													 made_values, made_nulls));
}

/*
 * sqs_enqueue(queue, body, attributes, delay, group_id, deduplication_id,
 * system_attributes, deliver_at) returns bigint
 *
 * INSERT INTO sqs_outbox as a function.  Returns the id of the row.
 */
Datum
sqs_enqueue(PG_FUNCTION_ARGS)
{
	static const struct
	{
		int			argument;
		OutboxColumn column;
	}			given[] = {
		{1, ROW_BODY},
		{2, ROW_ATTRIBUTES},
		{4, ROW_GROUP_ID},
		{5, ROW_DEDUPLICATION_ID},
		{6, ROW_SYSTEM_ATTRIBUTES},
		{7, ROW_DELIVER_AT},
	};
	char	   *queue;
	Datum		values[ROW_NATTS];
	bool		nulls[ROW_NATTS];

	PreventCommandIfReadOnly("sqs_enqueue()");
	if (PG_ARGISNULL(0))
		sqs_queue_is_null();
	queue = text_to_cstring(PG_GETARG_TEXT_PP(0));
	memset(values, 0, sizeof(values));
	memset(nulls, true, sizeof(nulls));
	for (int i = 0; i < (int) lengthof(given); i++)
	{
		nulls[given[i].column] = PG_ARGISNULL(given[i].argument);
		if (!PG_ARGISNULL(given[i].argument))
			values[given[i].column] = PG_GETARG_DATUM(given[i].argument);
	}
	if (!PG_ARGISNULL(3))
	{
		if (!nulls[ROW_DELIVER_AT])
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("cannot send to queue \"%s\": both delay and deliver_at are given", queue),
					 errhint("Give one of them.")));
		values[ROW_DELIVER_AT] =
			DirectFunctionCall2(timestamptz_pl_interval,
								TimestampTzGetDatum(GetCurrentTimestamp()),
								PG_GETARG_DATUM(3));
		nulls[ROW_DELIVER_AT] = false;
	}
	PG_RETURN_INT64(sqs_outbox_store(queue, values, nulls));
}

/* ---- end of transaction ---- */

bool
sqs_outbox_has_batches(void)
{
	return current != NULL && (current->open != NULL || current->timed != NULL);
}

/*
 * Reverse a list of batches in place.  Messages with the same deliver_at are
 * to be sent in the order in which they were enqueued.
 */
static OpenBatch *
reversed(OpenBatch *batch)
{
	OpenBatch  *result = NULL;

	while (batch != NULL)
	{
		OpenBatch  *next = batch->next;

		batch->next = result;
		result = batch;
		batch = next;
	}
	return result;
}

/*
 * Write the batch records, immediately before the commit: see the top of
 * this file for the order of commits, and outbox.h for the meaning of a
 * record's xmin.  A batch may be empty if a savepoint was rolled back; that
 * does no harm.
 */
static void
write_batches(void)
{
	bool		read_only = XactReadOnly;
	SqsWriter  *writer;

	if (current == NULL)
		return;

	if (current->open == NULL && current->timed == NULL)
		return;

	/* the extension may have been dropped */
	if (sqs_extension_oid() != current->extension)
		return;

	/* the transaction may have become read-only after it enqueued */
	XactReadOnly = false;
	PushActiveSnapshot(GetTransactionSnapshot());
	writer = sqs_writer_open(SQS_TABLE_OUTBOX_BATCHES);
	insert_batches(writer, current->open);
	insert_batches(writer, reversed(current->timed));
	sqs_writer_close(writer);
	PopActiveSnapshot();
	XactReadOnly = read_only;
}

/* Transaction callback. */
static void
at_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			write_batches();
			break;
		case XACT_EVENT_COMMIT:
			wake_relay = current != NULL;
			current = NULL;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			wake_relay = false;
			current = NULL;
			break;
		default:
			break;
	}
}

/*
 * A subtransaction ends: its batches go to its parent, or disappear with
 * their rows.  They are the newest ones in the list.
 */
static void
end_batches(OpenBatch **batches, SubTransactionId mySubid, SubTransactionId parentSubid,
			bool commit)
{
	OpenBatch  *batch = *batches;

	for (; batch != NULL && batch->subid == mySubid; batch = batch->next)
		batch->subid = parentSubid;
	if (!commit)
		*batches = batch;
}

/* Subtransaction callback. */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId mySubid,
					  SubTransactionId parentSubid, void *arg)
{
	bool		commit = event == SUBXACT_EVENT_COMMIT_SUB;

	if (current == NULL || (!commit && event != SUBXACT_EVENT_ABORT_SUB))
		return;
	end_batches(&current->open, mySubid, parentSubid, commit);
	end_batches(&current->timed, mySubid, parentSubid, commit);

	/* it may have registered a queue */
	if (!commit)
		current->queues = NULL;
}

/*
 * Wake up the relay, when other sessions can see the rows; see
 * wake_at_commit.c.
 */
static void
after_commit(ResourceReleasePhase phase, bool isCommit, bool isTopLevel, void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !isCommit || !isTopLevel || !wake_relay)
		return;
	wake_relay = false;
	sqs_database_outbox_committed(MyDatabaseId);
}

/* Install the callbacks and the hook.  Called from _PG_init(). */
void
sqs_outbox_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
	RegisterResourceReleaseCallback(after_commit, NULL);
	prev_check_perms = ExecutorCheckPerms_hook;
	ExecutorCheckPerms_hook = outbox_check_perms;
}
