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
#include "utils/inval.h"
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
	Datum		name_text;		/* the name, as a text */
	Datum		role_name;		/* the role's, as a text */
	uint64		rights_changes; /* the value for which role_name and the
								 * privilege were checked */
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
	Oid			rows;			/* table outbox_rows */
	EnqueuedQueue *queues;		/* valid while sqs_config_changes is ... */
	uint64		config_changes; /* ... this */
	OpenBatch  *open;			/* one per queue; newest first */
	OpenBatch  *timed;			/* one per message; newest first */
} OutboxTransaction;

static OutboxTransaction *current = NULL;

/*
 * Counts changes of what a role's privileges on a server, and its name, depend
 * on.
 */
static uint64 rights_changes = 0;
static bool wake_relay = false; /* set by a commit, for after_commit() */

/* Set "current", if this is the first message of the transaction. */
static void
begin_transaction(void)
{
	Oid			rows = sqs_table_oid(SQS_TABLE_OUTBOX_ROWS);

	/* another OID: the extension was dropped and created in this transaction */
	if (current != NULL && current->rows == rows)
		return;
	sqs_require_preloaded();
	current = MemoryContextAllocZero(TopTransactionContext, sizeof(OutboxTransaction));
	current->rows = rows;
}

/* Syscache callback. */
static void
rights_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	rights_changes++;
}

/* From now on, be told of changes of privileges; the catalogs are acl.c's. */
static void
watch_rights(void)
{
	static bool registered = false;

	if (registered)
		return;
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, rights_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, rights_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, rights_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(DATABASEOID, rights_changed, (Datum) 0);
	registered = true;
}

/* A text in TopTransactionContext. */
static Datum
kept_text(const char *string)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	Datum		text = CStringGetTextDatum(string);

	MemoryContextSwitchTo(old);
	return text;
}

/*
 * May the role still use the queue's server?  It was checked when the queue was
 * first looked up, but can be revoked during the transaction, as for a table.
 */
static bool
may_still_send(EnqueuedQueue *queue)
{
	uint64		changes = rights_changes;

	if (queue->rights_changes == changes)
		return true;
	if (!SearchSysCacheExists1(FOREIGNSERVEROID, ObjectIdGetDatum(queue->server)) ||
		object_aclcheck(ForeignServerRelationId, queue->server, queue->role,
						ACL_USAGE) != ACLCHECK_OK)
		return false;
	queue->role_name = kept_text(GetUserNameFromId(queue->role, false));
	queue->rights_changes = changes;
	return true;
}

/*
 * Look up a queue that the current role is to send to.  Raises an ERROR if
 * the queue does not exist or the role may not send to it.  The result is in
 * TopTransactionContext.
 */
static EnqueuedQueue *
find_queue(const char *name)
{
	EnqueuedQueue *queue;
	SqsQueueConfig *config;
	Oid			role = GetUserId();
	uint64		changes;

	/* a queue may have been changed in this transaction */
	if (current->config_changes != sqs_config_changes)
	{
		current->queues = NULL;
		current->config_changes = sqs_config_changes;
	}
	for (queue = current->queues; queue != NULL; queue = queue->next)
	{
		if (queue->role == role && strcmp(queue->name, name) == 0 && may_still_send(queue))
			return queue;
	}

	/* what changes while we look is looked at again for the next message */
	watch_rights();
	changes = rights_changes;
	config = sqs_catalog_queue_to_send(name, true);
	queue = MemoryContextAlloc(TopTransactionContext, sizeof(EnqueuedQueue));
	queue->role = role;
	queue->server = config->server_oid;
	queue->queue_id = config->queue_id;
	queue->fifo = config->fifo;
	strlcpy(queue->name, config->name, sizeof(queue->name));
	queue->name_text = kept_text(queue->name);
	queue->role_name = kept_text(GetUserNameFromId(role, false));
	queue->rights_changes = changes;
	queue->next = current->queues;
	current->queues = queue;
	return queue;
}

/*
 * Make a batch, to be written at commit.  Its table is locked now, so that the
 * commit does not have to wait for it.
 */
static OpenBatch *
new_batch(int32 queue_id, TimestampTz deliver_at, OpenBatch *next)
{
	OpenBatch  *batch;

	LockRelationOid(sqs_table_oid(SQS_TABLE_OUTBOX_BATCHES), RowExclusiveLock);
	batch = MemoryContextAlloc(TopTransactionContext, sizeof(OpenBatch));
	batch->subid = GetCurrentSubTransactionId();
	batch->queue_id = queue_id;
	batch->batch_id = sqs_new_id();
	batch->deliver_at = deliver_at;
	batch->next = next;
	return batch;
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
	current->open = new_batch(queue_id, DT_NOBEGIN, current->open);
	return current->open->batch_id;
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
 *
 * With OpenSSL 3, a call for random bytes takes about as long as storing a row,
 * however few bytes it is for.  So one call gets those of several tokens.
 */
static Datum
new_token(void)
{
	static uint8 bytes[32][UUID_LEN];
	static int	left = 0;
	pg_uuid_t  *uuid = palloc(sizeof(pg_uuid_t));

	if (left == 0)
	{
		if (!pg_strong_random(bytes, sizeof(bytes)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		left = lengthof(bytes);
	}
	memcpy(uuid->data, bytes[--left], UUID_LEN);
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
	int64		batch_id;
	int64		id;

	begin_transaction();

	/*
	 * Open the table, which locks it, before the queue is looked up: the
	 * database worker, which exits when there is neither a queue nor a row,
	 * then knows that there may soon be one.
	 */
	writer = sqs_writer_open(SQS_TABLE_OUTBOX_ROWS);
	queue = find_queue(name);

	wrong = sqs_outbox_prepare(values, nulls, queue->fifo, &message);
	if (wrong != NULL)
		sqs_draft_error_raise(wrong, name);
	if (timed && TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(values[ROW_DELIVER_AT])))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("cannot send to queue \"%s\": deliver_at must be finite", name),
				 errhint("Leave it out to send the message at commit.")));

	if (timed)
	{
		/* a batch of its own, and with its id */
		current->timed = new_batch(queue->queue_id,
								   DatumGetTimestampTz(values[ROW_DELIVER_AT]), current->timed);
		batch_id = id = current->timed->batch_id;
	}
	else
	{
		batch_id = open_batch(queue->queue_id);
		id = sqs_new_id();
	}
	values[ROW_BATCH_ID] = Int64GetDatum(batch_id);
	values[ROW_ID] = Int64GetDatum(id);
	values[ROW_QUEUE_ID] = Int32GetDatum(queue->queue_id);
	values[ROW_QUEUE] = queue->name_text;
	values[ROW_SIZE] = Int32GetDatum((int32) sqs_outgoing_size(&message));
	nulls[ROW_SIZE] = false;
	if (nulls[ROW_TOKEN])
	{
		values[ROW_TOKEN] = new_token();
		values[ROW_ENQUEUED_AT] = TimestampTzGetDatum(now);
		values[ROW_ENQUEUED_BY_OID] = ObjectIdGetDatum(queue->role);
		values[ROW_ENQUEUED_BY] = queue->role_name;
	}
	nulls[ROW_BATCH_ID] = nulls[ROW_ID] = nulls[ROW_QUEUE_ID] = nulls[ROW_QUEUE] = false;
	nulls[ROW_TOKEN] = nulls[ROW_ENQUEUED_AT] = false;
	nulls[ROW_ENQUEUED_BY_OID] = nulls[ROW_ENQUEUED_BY] = false;

	sqs_writer_insert(writer, values, nulls);
	sqs_writer_close(writer);
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

/* The view's columns that may be given, and those that are made here. */
static const struct
{
	const char *name;
	OutboxColumn column;
}			given_columns[] = {
	{"body", ROW_BODY},
	{"attributes", ROW_ATTRIBUTES},
	{"group_id", ROW_GROUP_ID},
	{"deduplication_id", ROW_DEDUPLICATION_ID},
	{"deliver_at", ROW_DELIVER_AT},
	{"system_attributes", ROW_SYSTEM_ATTRIBUTES},
},			made_columns[] = {
	{"id", ROW_ID},
	{"enqueued_at", ROW_ENQUEUED_AT},
	{"enqueued_by", ROW_ENQUEUED_BY},
};

/*
 * The view and the numbers of its columns.  They cannot change while a statement
 * inserts into the view, so the trigger looks them up once per statement.
 */
typedef struct OutboxView
{
	Oid			relid;
	int			queue;
	int			given[lengthof(given_columns)];
	int			made[lengthof(made_columns)];
} OutboxView;

/* The number of a column of the view. */
static int
view_column(TupleDesc desc, const char *name)
{
	int			attnum = SPI_fnumber(desc, name);

	if (attnum <= 0)
		elog(ERROR, "view sqs_outbox has no column \"%s\"", name);
	return attnum;
}

/*
 * Is this view sqs_outbox?  The answer is kept until this session learns that
 * some relation was changed.
 */
static bool
is_outbox_view(Oid relid)
{
	static Oid	view = InvalidOid;
	static uint64 known_at = 0;
	uint64		changes = sqs_relation_changes();

	if (view == relid && known_at == changes)
		return true;
	view = sqs_view_oid("sqs_outbox");
	known_at = changes;
	return view == relid;
}

/*
 * The view that the trigger was called for, from the trigger's FmgrInfo, which
 * exists for one statement.  Raises an ERROR if it is not sqs_outbox.
 */
static OutboxView *
get_view(FmgrInfo *trigger, Relation rel)
{
	OutboxView *view = trigger->fn_extra;
	TupleDesc	desc = RelationGetDescr(rel);

	if (view != NULL && view->relid == RelationGetRelid(rel))
		return view;

	/* in another view, the columns could have other types */
	if (!is_outbox_view(RelationGetRelid(rel)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function sqs_outbox_insert() can be called only as the trigger of view sqs_outbox")));
	view = MemoryContextAlloc(trigger->fn_mcxt, sizeof(OutboxView));
	view->relid = RelationGetRelid(rel);
	view->queue = view_column(desc, "queue");
	for (int i = 0; i < (int) lengthof(given_columns); i++)
		view->given[i] = view_column(desc, given_columns[i].name);
	for (int i = 0; i < (int) lengthof(made_columns); i++)
		view->made[i] = view_column(desc, made_columns[i].name);
	trigger->fn_extra = view;
	return view;
}

/*
 * INSTEAD OF INSERT trigger of the view sqs_outbox.  Stores the row and
 * returns it with id, enqueued_at and enqueued_by filled in, for RETURNING.
 */
Datum
sqs_outbox_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	OutboxView *view;
	TupleDesc	desc;
	Datum		values[ROW_NATTS];
	bool		nulls[ROW_NATTS];
	Datum	   *returned;
	bool	   *returned_nulls;
	NameData	enqueued_by;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_INSTEAD(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function sqs_outbox_insert() can be called only as the trigger of view sqs_outbox")));

	begin_transaction();
	view = get_view(fcinfo->flinfo, trigger->tg_relation);
	desc = RelationGetDescr(trigger->tg_relation);
	returned = palloc(sizeof(Datum) * desc->natts);
	returned_nulls = palloc(sizeof(bool) * desc->natts);
	slot_getallattrs(trigger->tg_trigslot);
	memcpy(returned, trigger->tg_trigslot->tts_values, sizeof(Datum) * desc->natts);
	memcpy(returned_nulls, trigger->tg_trigslot->tts_isnull, sizeof(bool) * desc->natts);
	memset(values, 0, sizeof(values));
	memset(nulls, true, sizeof(nulls));

	if (returned_nulls[view->queue - 1])
		sqs_queue_is_null();
	for (int i = 0; i < (int) lengthof(given_columns); i++)
	{
		values[given_columns[i].column] = returned[view->given[i] - 1];
		nulls[given_columns[i].column] = returned_nulls[view->given[i] - 1];
	}
	for (int i = 0; i < (int) lengthof(made_columns); i++)
	{
		if (!returned_nulls[view->made[i] - 1])
			ereport(ERROR,
					(errcode(ERRCODE_GENERATED_ALWAYS),
					 errmsg("cannot insert a value into column \"%s\" of sqs_outbox", made_columns[i].name),
					 errhint("Leave the column out, or insert NULL.")));
	}

	(void) sqs_outbox_store(TextDatumGetCString(returned[view->queue - 1]), values, nulls);

	/* for RETURNING */
	for (int i = 0; i < (int) lengthof(made_columns); i++)
	{
		Datum	   *value = &returned[view->made[i] - 1];

		*value = values[made_columns[i].column];
		returned_nulls[view->made[i] - 1] = false;
		if (made_columns[i].column == ROW_ENQUEUED_BY)
		{
			namestrcpy(&enqueued_by, TextDatumGetCString(*value));
			*value = NameGetDatum(&enqueued_by);
		}
	}
	return PointerGetDatum(heap_form_tuple(desc, returned, returned_nulls));
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

	/* this transaction may have dropped the extension */
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(current->rows)))
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
