/*-------------------------------------------------------------------------
 *
 * dead_letters.c
 *	  What people do with dead letters: sending them again, or not; and with
 *	  parked message groups.
 *
 * A row is resolved once: whoever does it holds a lock on the row until the
 * transaction ends, and who has waited for that lock, or comes later, finds that
 * there is nothing to do.  So of two sessions that redrive the same rows, each
 * message is sent by one.
 *
 * Handler workers insert rows (receive/dead_letters.c), and cleaning deletes what
 * was resolved long ago (clean.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/privileges.h"
#include "base/settings.h"
#include "base/table_writer.h"
#include "config/parked_groups.h"
#include "config/queues.h"
#include "control/deliver.h"
#include "send/outbox.h"
#include "send/outbox_failures.h"

PG_FUNCTION_INFO_V1(sqs_redrive);
PG_FUNCTION_INFO_V1(sqs_discard_dead_letter);
PG_FUNCTION_INFO_V1(sqs_release_group);
PG_FUNCTION_INFO_V1(sqs_get_dead_letter_ages);
PG_FUNCTION_INFO_V1(sqs_get_parked_groups);

/* What may be sent with a message, of what SQS has sent with it. */
#define TRACE_HEADER	"AWSTraceHeader"

/* A dead letter that is to be resolved. */
typedef struct DeadLetter
{
	int64		id;
	SqsWriter  *writer;
	ItemPointerData tid;
	Datum		values[DEAD_NATTS];
	bool		nulls[DEAD_NATTS];
} DeadLetter;

/* Does it wait for others of its message group, or they for it? */
static bool
is_parked(const DeadLetter *letter)
{
	return letter->nulls[DEAD_RESOLVED_AT] &&
		(strcmp(TextDatumGetCString(letter->values[DEAD_STATE]), "parked") == 0 ||
		 (!letter->nulls[DEAD_GROUP_ID] &&
		  sqs_group_is_parked(DatumGetInt32(letter->values[DEAD_QUEUE_ID]),
							  letter->values[DEAD_GROUP_ID])));
}

/*
 * Find a dead letter for the current role, and open its table.  An ERROR if there
 * is none, or the role may not resolve it.  If it may not even see it, the error
 * is the same as if there were none.
 */
static void
find_dead_letter(int64 id, const char *verb, DeadLetter *letter)
{
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	bool		may_resolve = false;

	letter->id = id;
	letter->writer = sqs_writer_open(SQS_TABLE_DEAD_LETTERS);
	rel = sqs_writer_relation(letter->writer);
	ScanKeyInit(&key, DEAD_ID + 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	scan = systable_beginscan(rel, sqs_index_oid(SQS_INDEX_DEAD_LETTERS_PKEY), true,
							  GetActiveSnapshot(), 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		tuple = heap_copytuple(tuple);
		letter->tid = tuple->t_self;
		heap_deform_tuple(tuple, RelationGetDescr(rel), letter->values, letter->nulls);
		may_resolve = superuser() ||
			sqs_has_privs_of(DatumGetObjectId(letter->values[DEAD_OWNER_OID]),
							 TextDatumGetCString(letter->values[DEAD_OWNER]));
	}
	systable_endscan(scan);

	if (!HeapTupleIsValid(tuple) ||
		(!may_resolve && !sqs_reads_all_data() && !sqs_may_see_stats_of(InvalidOid)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("there is no dead letter with id %lld", (long long) id),
				 errhint("The dead letters are listed in sqs_dead_letters.")));
	if (!may_resolve)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to %s dead letter %lld", verb, (long long) id),
				 errdetail("Only roles with the privileges of the queue's owner may do that.")));
}

/*
 * Lock the row, so that nobody else resolves it.  Waits for who is doing that.
 * False: it has been resolved.
 */
static bool
lock_dead_letter(DeadLetter *letter)
{
	return letter->nulls[DEAD_RESOLVED_AT] &&
		sqs_writer_lock(letter->writer, &letter->tid, true) == SQS_WRITTEN;
}

/* The row is locked.  redriven_as: 0 if it is not redriven. */
static void
resolve_dead_letter(DeadLetter *letter, const char *state, int64 redriven_as)
{
	letter->values[DEAD_STATE] = CStringGetTextDatum(state);
	letter->values[DEAD_RESOLVED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	letter->values[DEAD_RESOLVED_BY_OID] = ObjectIdGetDatum(GetUserId());
	letter->values[DEAD_RESOLVED_BY] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	letter->values[DEAD_REDRIVEN_AS] = Int64GetDatum(redriven_as);
	letter->nulls[DEAD_RESOLVED_AT] = letter->nulls[DEAD_RESOLVED_BY_OID] = false;
	letter->nulls[DEAD_RESOLVED_BY] = false;
	letter->nulls[DEAD_REDRIVEN_AS] = redriven_as == 0;
	if (sqs_writer_update(letter->writer, &letter->tid, letter->values, letter->nulls,
						  true) != SQS_WRITTEN)
		elog(ERROR, "dead letter %lld was changed although it is locked", (long long) letter->id);
}

/* The system attributes with which the message may be sent; false: none. */
static bool
system_attributes_to_send(Datum received, Datum *value)
{
	Jsonb	   *attributes = DatumGetJsonbP(received);
	JsonbValue *header = JB_ROOT_IS_OBJECT(attributes) ?
		getKeyJsonValueFromContainer(&attributes->root, TRACE_HEADER, strlen(TRACE_HEADER), NULL) : NULL;
	StringInfoData buf;

	if (header == NULL || header->type != jbvString || header->val.string.len == 0)
		return false;
	initStringInfo(&buf);
	appendStringInfoString(&buf, "{\"" TRACE_HEADER "\":");
	escape_json(&buf, pnstrdup(header->val.string.val, header->val.string.len));
	appendStringInfoChar(&buf, '}');
	*value = DirectFunctionCall1(jsonb_in, CStringGetDatum(buf.data));
	return true;
}

/*
 * Put the message into the outbox, as it was received, and return its id there.
 * It gets a deduplication id of its own: by the old one, SQS would take it for a
 * copy of itself if it has not been dead for five minutes.
 */
static int64
send_again(const DeadLetter *letter)
{
	static const struct
	{
		DeadLetterColumn from;
		OutboxColumn to;
	}			columns[] = {
		{DEAD_BODY, ROW_BODY},
		{DEAD_ATTRIBUTES, ROW_ATTRIBUTES},
		{DEAD_GROUP_ID, ROW_GROUP_ID},
	};
	Datum		values[ROW_NATTS] = {0};
	bool		nulls[ROW_NATTS];

	if (letter->nulls[DEAD_BODY])
		ereport(ERROR,
				(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
				 errmsg("dead letter %lld cannot be redriven", (long long) letter->id),
				 errdetail("The encoding of the database cannot represent the message."),
				 errhint("Column \"raw\" of sqs_dead_letters has it in UTF-8. When it has been sent by other means, call sqs_discard_dead_letter().")));

	memset(nulls, true, sizeof(nulls));
	for (size_t i = 0; i < lengthof(columns); i++)
	{
		values[columns[i].to] = letter->values[columns[i].from];
		nulls[columns[i].to] = letter->nulls[columns[i].from];
	}
	if (!letter->nulls[DEAD_SYSTEM_ATTRIBUTES])
		nulls[ROW_SYSTEM_ATTRIBUTES] =
			!system_attributes_to_send(letter->values[DEAD_SYSTEM_ATTRIBUTES],
									   &values[ROW_SYSTEM_ATTRIBUTES]);

	/* checks the privilege to send */
	return sqs_outbox_store(TextDatumGetCString(letter->values[DEAD_QUEUE]), values, nulls);
}

/*
 * sqs_redrive(id) returns bigint: the id in the outbox; NULL if the dead letter
 * was resolved before.
 */
Datum
sqs_redrive(PG_FUNCTION_ARGS)
{
	DeadLetter	letter;
	int64		id = 0;

	PreventCommandIfReadOnly("sqs_redrive()");
	sqs_require_preloaded();
	find_dead_letter(PG_GETARG_INT64(0), "redrive", &letter);
	if (is_parked(&letter))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("dead letter %lld cannot be redriven: its message group is parked",
						(long long) letter.id),
				 errdetail("Sent again, it would come after messages of its group that SQS has already."),
				 errhint("Call sqs_release_group(), which handles the messages of the group in their order.")));
	sqs_check_same_queue(TextDatumGetCString(letter.values[DEAD_QUEUE]),
						 DatumGetInt32(letter.values[DEAD_QUEUE_ID]));
	if (lock_dead_letter(&letter))
	{
		id = send_again(&letter);
		resolve_dead_letter(&letter, "redriven", id);
	}
	sqs_writer_close(letter.writer);
	if (id == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(id);
}

/* sqs_discard_dead_letter(id): false if it was resolved before. */
Datum
sqs_discard_dead_letter(PG_FUNCTION_ARGS)
{
	DeadLetter	letter;
	bool		unresolved;

	PreventCommandIfReadOnly("sqs_discard_dead_letter()");
	sqs_require_preloaded();
	find_dead_letter(PG_GETARG_INT64(0), "discard", &letter);
	unresolved = lock_dead_letter(&letter);
	if (unresolved)
		resolve_dead_letter(&letter, "discarded", 0);
	sqs_writer_close(letter.writer);
	PG_RETURN_BOOL(unresolved);
}

/* The rows of a queue that are not resolved, the oldest first. */
static SysScanDesc
scan_unresolved(Relation rel, Relation index, int32 queue_id)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], DEAD_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(queue_id));
	ScanKeyEntryInitialize(&keys[1], SK_ISNULL | SK_SEARCHNULL, DEAD_RESOLVED_AT + 1,
						   InvalidStrategy, InvalidOid, InvalidOid, InvalidOid, (Datum) 0);
	return systable_beginscan_ordered(rel, index, GetActiveSnapshot(), 2, keys);
}

/* A dead letter of a group, to be handled in order. */
typedef struct GroupMember
{
	int64		id;
	Datum		sequence_number;	/* numeric; 0: none */
} GroupMember;

static int
compare_members(const ListCell *a, const ListCell *b)
{
	const GroupMember *left = lfirst(a);
	const GroupMember *right = lfirst(b);
	int			cmp = 0;

	if (left->sequence_number != (Datum) 0 && right->sequence_number != (Datum) 0)
		cmp = DatumGetInt32(DirectFunctionCall2(numeric_cmp, left->sequence_number,
												right->sequence_number));
	return cmp != 0 ? cmp : (left->id > right->id) - (left->id < right->id);
}

/* Those of a group that are not resolved, in the order of their messages. */
static List *
unresolved_members(int32 queue_id, const char *group)
{
	Relation	rel = sqs_table_open(SQS_TABLE_DEAD_LETTERS, AccessShareLock);
	Relation	index = index_open(sqs_index_oid(SQS_INDEX_DEAD_LETTERS_TIME), AccessShareLock);
	SysScanDesc scan = scan_unresolved(rel, index, queue_id);
	HeapTuple	tuple;
	List	   *members = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection)))
	{
		TupleDesc	desc = RelationGetDescr(rel);
		GroupMember *member;
		bool		isnull;
		Datum		value = sqs_getattr(tuple, DEAD_GROUP_ID + 1, desc, &isnull);

		CHECK_FOR_INTERRUPTS();
		if (isnull || strcmp(TextDatumGetCString(value), group) != 0)
			continue;
		member = palloc0(sizeof(GroupMember));
		member->id = DatumGetInt64(sqs_getattr(tuple, DEAD_ID + 1, desc, &isnull));
		value = sqs_getattr(tuple, DEAD_SEQUENCE_NUMBER + 1, desc, &isnull);
		if (!isnull)
			member->sequence_number = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
		members = lappend(members, member);
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	list_sort(members, compare_members);
	return members;
}

/*
 * Handle a dead letter in this session.  It is resolved if its handler has not
 * failed, or wants it discarded.  The inbox has had it since it died, so it is not
 * recorded there again.
 */
static bool
handle_dead_letter(SqsQueueConfig *queue, int64 id, SqsDelivered *delivered)
{
	DeadLetter	letter;
	SqsDeliverable message = {0};
	bool		handled;

	find_dead_letter(id, "handle", &letter);
	if (!lock_dead_letter(&letter))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("dead letter %lld was resolved concurrently", (long long) id)));
	if (letter.nulls[DEAD_BODY])
		ereport(ERROR,
				(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
				 errmsg("dead letter %lld cannot be handled", (long long) id),
				 errdetail("The encoding of the database cannot represent the message."),
				 errhint("When you have dealt with it by other means, call sqs_discard_dead_letter().")));
	message.message_id = letter.values[DEAD_MESSAGE_ID];
	message.body = letter.values[DEAD_BODY];
	message.attributes = letter.values[DEAD_ATTRIBUTES];
	message.system_attributes = letter.values[DEAD_SYSTEM_ATTRIBUTES];
	message.group_id = letter.values[DEAD_GROUP_ID];
	message.deduplication_id = letter.nulls[DEAD_DEDUPLICATION_ID] ? (Datum) 0 :
		letter.values[DEAD_DEDUPLICATION_ID];
	message.sequence_number = letter.nulls[DEAD_SEQUENCE_NUMBER] ? (Datum) 0 :
		letter.values[DEAD_SEQUENCE_NUMBER];
	message.receive_count = letter.nulls[DEAD_RECEIVE_COUNT] ? 1 :
		DatumGetInt32(letter.values[DEAD_RECEIVE_COUNT]);
	sqs_deliver_message(queue, &message, delivered);

	handled = strcmp(delivered->outcome, "done") == 0;
	if (handled || strcmp(delivered->outcome, "discard") == 0)
		resolve_dead_letter(&letter, handled ? "handled" : "discarded", 0);
	sqs_writer_close(letter.writer);
	return !letter.nulls[DEAD_RESOLVED_AT];
}

/*
 * sqs_release_group(queue, group_id, most): handle the messages of a parked group
 * in their order, in this session and transaction, up to the first that fails.
 * When there is none left, messages of the group that come after the commit are
 * handled by the queue again.
 *
 * The group's row is locked first, so that no message is parked meanwhile.
 */
Datum
sqs_release_group(PG_FUNCTION_ARGS)
{
	char	   *name = sqs_queue_argument(fcinfo);
	int32		most = PG_ARGISNULL(2) ? PG_INT32_MAX : PG_GETARG_INT32(2);
	int32		done = 0;
	int64		failed = 0;
	SqsDelivered delivered = {0};
	SqsQueueConfig *queue;
	TupleDesc	desc;
	char	   *group;
	List	   *members;
	ListCell   *lc;
	Datum		values[5] = {0};
	bool		nulls[5] = {false, false, true, true, true};

	PreventCommandIfReadOnly("sqs_release_group()");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 5)
		elog(ERROR, "sqs_release_group() does not return the row that this version of sqsbridge expects");
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("group_id must not be null")));
	group = text_to_cstring(PG_GETARG_TEXT_PP(1));
	queue = sqs_catalog_queue_by_name(name);
	if (queue == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("queue \"%s\" does not exist", name),
				 errhint("The registered queues are listed in sqs_queues.")));
	if (!superuser() && !sqs_has_privs_of(queue->bound_owner.oid, queue->bound_owner.name))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of queue \"%s\"", name)));
	if (!sqs_group_lock(queue->queue_id, PG_GETARG_DATUM(1)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("message group \"%s\" of queue \"%s\" is not parked", group, name),
				 errhint("The parked groups are listed in sqs_parked_groups.")));

	/* a message that was parked while we waited counts, too */
	PushActiveSnapshot(GetLatestSnapshot());
	members = unresolved_members(queue->queue_id, group);
	PopActiveSnapshot();
	foreach(lc, members)
	{
		const GroupMember *member = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (done >= most)
			break;

		/* what those before it have written is to be seen */
		CommandCounterIncrement();
		PushActiveSnapshot(GetLatestSnapshot());
		if (handle_dead_letter(queue, member->id, &delivered))
			done++;
		else
			failed = member->id;
		PopActiveSnapshot();
		if (failed != 0)
			break;
	}
	if (done == list_length(members))
		(void) sqs_group_release(queue->queue_id, PG_GETARG_DATUM(1));

	values[0] = Int32GetDatum(done);
	values[1] = Int32GetDatum(list_length(members) - done);
	if (failed != 0)
	{
		values[2] = Int64GetDatum(failed);
		values[3] = CStringGetTextDatum(delivered.outcome);
		nulls[2] = nulls[3] = false;
		nulls[4] = delivered.edata == NULL;
		if (delivered.edata != NULL)
			values[4] = CStringGetTextDatum(psprintf("%s: %s",
													 unpack_sql_state(delivered.edata->sqlerrcode),
													 delivered.edata->message));
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/*
 * Behind sqs_stats: the oldest dead letter of each queue that is not resolved,
 * one look into the index for each.  No rows if the table is locked, so that the
 * view does not wait.
 */
Datum
sqs_get_dead_letter_ages(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	rel;
	Relation	index;
	ListCell   *lc;

	sqs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	rel = sqs_table_open_nowait(SQS_TABLE_DEAD_LETTERS, AccessShareLock);
	if (rel == NULL)
		return (Datum) 0;
	index = index_open(sqs_index_oid(SQS_INDEX_DEAD_LETTERS_TIME), AccessShareLock);
	foreach(lc, sqs_catalog_queues())
	{
		SqsQueueConfig *queue = lfirst(lc);
		SysScanDesc scan = scan_unresolved(rel, index, queue->queue_id);
		HeapTuple	tuple = systable_getnext_ordered(scan, ForwardScanDirection);
		Datum		values[2];
		bool		nulls[2] = {false, false};

		if (HeapTupleIsValid(tuple))
		{
			values[0] = Int32GetDatum(queue->queue_id);
			values[1] = sqs_getattr(tuple, DEAD_DIED_AT + 1, RelationGetDescr(rel), &nulls[1]);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
		systable_endscan_ordered(scan);
	}
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return (Datum) 0;
}

/* Behind sqs_parked_groups: the groups of queues whose statistics the role sees. */
Datum
sqs_get_parked_groups(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	List	   *queues;
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;

	sqs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	queues = sqs_catalog_queues();
	rel = sqs_table_open(SQS_TABLE_PARKED_GROUPS, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, GetActiveSnapshot(), 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum		values[PARKED_NATTS];
		bool		nulls[PARKED_NATTS];
		SqsQueueConfig *queue;

		CHECK_FOR_INTERRUPTS();
		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		queue = sqs_catalog_find(queues, DatumGetInt32(values[PARKED_QUEUE_ID]));
		if (queue == NULL || !sqs_may_see_stats_of(queue->is_copy ? InvalidOid : queue->owner))
			continue;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return (Datum) 0;
}
