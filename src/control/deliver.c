/*-------------------------------------------------------------------------
 *
 * deliver.c
 *	  sqs_deliver(): handling a message in a session, without SQS.
 *
 * For tests of handlers, and for repairs.  The message takes the same way as in a
 * handler worker: envelopes are taken off, the route is chosen, the function is
 * called, and its verdict or error is looked up in the rules.  What comes out is
 * returned, not carried out: there is no attempt, failure or dead letter.
 *
 * The handler runs in a subtransaction of the caller's transaction, so its effects
 * are the caller's to commit, and deferred constraints are checked then.
 *
 * The current role must be the queue's owner itself.  To switch to it here would
 * run functions of the owner's in a session of the caller's: deferred triggers of
 * a lesser role with a superuser's rights, and so on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/settings.h"
#include "base/sqlstates.h"
#include "config/error_rules.h"
#include "control/deliver.h"
#include "receive/handler_function.h"
#include "receive/inbox.h"
#include "receive/message.h"
#include "receive/routing.h"
#include "receive/verdict.h"
#include "send/outgoing.h"

PG_FUNCTION_INFO_V1(sqs_deliver);

/* A text as SQS has it, in UTF-8, palloc'd. */
static SqsSlice
utf8_slice(const char *data, int len)
{
	char	   *converted = pg_server_to_any(data, len, PG_UTF8);
	SqsSlice	slice;

	slice.data = converted;
	slice.len = converted == data ? (size_t) len : strlen(converted);
	return slice;
}

static SqsSlice
text_slice(Datum value)
{
	SqsSlice	none = {NULL, 0};
	text	   *t;

	if (value == (Datum) 0)
		return none;
	t = DatumGetTextPP(value);
	return utf8_slice(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
}

/* System attributes: all that are strings. */
static void
set_system_attributes(SqsReceivedMessage *received, Datum attributes)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	name;
	JsonbValue	value;

	if (attributes == (Datum) 0 || !JB_ROOT_IS_OBJECT(DatumGetJsonbP(attributes)))
		return;
	it = JsonbIteratorInit(&DatumGetJsonbP(attributes)->root);
	(void) JsonbIteratorNext(&it, &name, true);
	while ((token = JsonbIteratorNext(&it, &name, true)) == WJB_KEY &&
		   received->nsystem < SQS_PARSE_MAX_SYSTEM_ATTRIBUTES)
	{
		(void) JsonbIteratorNext(&it, &value, true);
		if (value.type != jbvString)
			continue;
		received->system[received->nsystem].name =
			utf8_slice(name.val.string.val, name.val.string.len);
		received->system[received->nsystem].value =
			utf8_slice(value.val.string.val, value.val.string.len);
		received->nsystem++;
	}
}

/* The message as if SQS had sent it.  An ERROR if SQS would not. */
static SqsReceivedMessage *
make_received(const SqsQueueConfig *queue, const SqsDeliverable *message)
{
	SqsReceivedMessage *received = palloc0(sizeof(SqsReceivedMessage));
	SqsDraft	draft = {0};
	SqsOutgoing outgoing;
	SqsDraftError *wrong;

	draft.body = message->body;
	draft.attributes = message->attributes;
	draft.group_id = message->group_id;
	wrong = sqs_outgoing_prepare(&draft, false, &outgoing);
	if (wrong != NULL)
		ereport(ERROR,
				(errcode(wrong->sqlstate),
				 errmsg("cannot deliver to queue \"%s\": %s", queue->name, wrong->message),
				 wrong->detail ? errdetail("%s", wrong->detail) : 0,
				 wrong->hint ? errhint("%s", wrong->hint) : 0));

	received->message_id = text_slice(message->message_id);
	received->receipt_handle.data = "";
	received->body = outgoing.body;
	received->receive_count = message->receive_count;
	received->sent_ms = received->first_received_ms =
		(GetCurrentTimestamp() - sqs_message_time(0)) / 1000;
	received->group_id = outgoing.group_id;
	received->deduplication_id = text_slice(message->deduplication_id);
	if (message->sequence_number != (Datum) 0)
	{
		char	   *number = DatumGetCString(DirectFunctionCall1(numeric_out, message->sequence_number));

		received->sequence_number.data = number;
		received->sequence_number.len = strlen(number);
	}
	received->nattributes = outgoing.nattributes;
	memcpy(received->attributes, outgoing.attributes,
		   outgoing.nattributes * sizeof(SqsAttribute));
	set_system_attributes(received, message->system_attributes);
	return received;
}

static void
check_owner(const SqsQueueConfig *queue)
{
	char	   *changed = sqs_role_changed(&queue->bound_owner);

	if (changed == NULL && GetUserId() == queue->bound_owner.oid)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("must be owner of queue \"%s\"", queue->name),
			 errdetail("The handler is called as the current role."),
			 changed == NULL ?
			 errhint("Run: SET ROLE %s;", quote_identifier(queue->bound_owner.name)) : 0));
}

/* Raise the error for a message that no route is for. */
static void
refuse_unroutable(const char *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_SQS_UNROUTABLE),
			 key != NULL ? errmsg("there is no route for the key of the message") :
			 errmsg("message has no key to choose a route by")));
}

/* The rest of sqs_deliver_message(), in the subtransaction. */
static const char *
call_handler(SqsQueueConfig *queue, const SqsReceivedMessage *received, bool remember,
			 const SqsContent *content, const SqsRouted *routed, const SqsRouting *routing)
{
	LOCAL_FCINFO(fcinfo, 1);
	SqsHandlerFunction function = {0};
	Oid		   *argtypes;
	int			nargs;
	const SqsBinding *handler = routed->route != NULL ? &routed->route->handler :
		&queue->bound_handler;

	if (remember &&
		(!sqs_inbox_insert(queue->queue_id, sqs_message_identity(received),
						   GetCurrentTimestamp(), false) ||
		 (routed->dedup_key != NULL &&
		  !sqs_inbox_insert_key(queue->queue_id,
								sqs_message_business_identity(routed->dedup_key),
								GetCurrentTimestamp()))))
		return "duplicate";
	if (content->for_nobody)
		return "discard";
	if (routed->unroutable && routing->unroutable == SQS_UNROUTABLE_DISCARD)
		return "discard";
	if (routed->unroutable && routing->unroutable != SQS_UNROUTABLE_HANDLER)
		refuse_unroutable(routed->key);

	sqs_handler_function_find(&function, CurrentMemoryContext, handler->name,
							  strlen(handler->name), handler->owner_oid);
	(void) get_func_signature(function.flinfo.fn_oid, &argtypes, &nargs);
	if (nargs != 1 || argtypes[0] != sqs_message_type_oid())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("sqs_deliver() cannot call a handler of batches")));
	InitFunctionCallInfoData(*fcinfo, &function.flinfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = sqs_message_datum(queue->name, received, content,
											  received->receive_count);
	fcinfo->args[0].isnull = false;
	(void) FunctionCallInvoke(fcinfo);
	sqs_verdict_raise();
	return "done";
}

/* What an error or a verdict would lead to. */
static void
look_up_action(const SqsQueueConfig *queue, const SqsVerdict *verdict, const SqsRouting *routing,
			   SqsDelivered *delivered)
{
	if (verdict->kind != SQS_VERDICT_NONE)
	{
		delivered->outcome = verdict->kind == SQS_VERDICT_RETRY ? "retry" :
			verdict->kind == SQS_VERDICT_DISCARD ? "discard" : "dead_letter";
		delivered->delay = verdict->delay;
		delivered->edata->sqlerrcode = sqs_verdict_sqlstate(verdict->kind);
		delivered->edata->message = verdict->reason;
	}
	else if (delivered->edata->sqlerrcode == ERRCODE_SQS_UNROUTABLE && routing != NULL &&
			 routing->unroutable == SQS_UNROUTABLE_DEAD_LETTER)
		delivered->outcome = "dead_letter";
	else
	{
		SqsRule		rule = sqs_error_rule(sqs_error_rules_load(queue->queue_id),
										  delivered->edata->sqlerrcode);

		delivered->outcome = sqs_error_action_name(rule.action);
		delivered->delay = rule.delay;
	}
}

void
sqs_deliver_message(SqsQueueConfig *queue, const SqsDeliverable *message,
					SqsDelivered *delivered)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	SqsReceivedMessage *received;
	SqsRouting *routing;
	SqsRouted	routed = {0};
	SqsContent	content;
	SqsVerdictState outer;
	SqsVerdict	verdict = {0};
	text	   *body;

	memset(delivered, 0, sizeof(*delivered));
	delivered->delay = -1;
	check_owner(queue);
	if (!sqs_queue_receives(queue))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("queue \"%s\" has no handler", queue->name)));
	received = make_received(queue, message);
	routing = sqs_routing_load(queue);
	body = cstring_to_text_with_len(received->body.data, (int) received->body.len);
	sqs_message_open(received, body, queue->unwrap, &content);
	if (routing != NULL && !content.for_nobody)
		sqs_route_message(routing, &content, &routed);
	if (routed.route != NULL)
		delivered->route = routed.route->key;
	else if (queue->handler == NULL &&
			 (routing == NULL || routing->unroutable == SQS_UNROUTABLE_HANDLER))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("queue \"%s\" has no handler", queue->name)));

	sqs_verdict_save(&outer);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		sqs_verdict_begin(context);
		delivered->outcome = call_handler(queue, received, message->remember, &content, &routed, routing);
		sqs_verdict_restore(&outer);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		verdict = sqs_verdict_end();
		sqs_verdict_restore(&outer);
		MemoryContextSwitchTo(context);
		delivered->edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;

		/* it is the caller's statement that was canceled */
		if (delivered->edata->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(delivered->edata);
		look_up_action(queue, &verdict, routing, delivered);
	}
	PG_END_TRY();
}

/* A queue that the current role is going to deliver to. */
static SqsQueueConfig *
find_queue(const char *name)
{
	SqsQueueConfig *queue = sqs_catalog_queue_by_name(name);

	if (queue == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("queue \"%s\" does not exist", name),
				 errhint("The registered queues are listed in sqs_queues.")));
	return queue;
}

static void
put_string(Datum *value, bool *null, const char *string)
{
	*null = string == NULL;
	*value = string == NULL ? (Datum) 0 : CStringGetTextDatum(string);
}

/*
 * sqs_deliver(queue, body, attributes, group_id, message_id, system_attributes,
 * receive_count): a row with the outcome.
 */
Datum
sqs_deliver(PG_FUNCTION_ARGS)
{
	SqsQueueConfig *queue;
	SqsDeliverable message = {0};
	SqsDelivered delivered;
	TupleDesc	desc;
	Datum		values[8];
	bool		nulls[8] = {false};

	queue = find_queue(sqs_queue_argument(fcinfo));
	PreventCommandIfReadOnly("sqs_deliver()");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 8)
		elog(ERROR, "sqs_deliver() does not return the row that this version of sqsbridge expects");
	message.body = PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1);
	message.attributes = PG_ARGISNULL(2) ? (Datum) 0 : PG_GETARG_DATUM(2);
	message.group_id = PG_ARGISNULL(3) ? (Datum) 0 : PG_GETARG_DATUM(3);
	message.message_id = PG_ARGISNULL(4) ? (Datum) 0 : PG_GETARG_DATUM(4);
	message.system_attributes = PG_ARGISNULL(5) ? (Datum) 0 : PG_GETARG_DATUM(5);
	message.receive_count = PG_ARGISNULL(6) ? 1 : PG_GETARG_INT32(6);
	message.remember = message.message_id != (Datum) 0;

	sqs_deliver_message(queue, &message, &delivered);
	put_string(&values[0], &nulls[0], delivered.outcome);
	put_string(&values[1], &nulls[1], delivered.route);
	nulls[7] = true;
	if (delivered.edata == NULL)
		nulls[2] = nulls[3] = nulls[4] = nulls[5] = nulls[6] = true;
	else
	{
		put_string(&values[2], &nulls[2], unpack_sql_state(delivered.edata->sqlerrcode));
		put_string(&values[3], &nulls[3], delivered.edata->message);
		put_string(&values[4], &nulls[4], delivered.edata->detail);
		put_string(&values[5], &nulls[5], delivered.edata->hint);
		put_string(&values[6], &nulls[6], delivered.edata->context);
	}
	if (delivered.delay >= 0)
	{
		Interval   *delay = palloc0(sizeof(Interval));

		delay->time = delivered.delay * USECS_PER_SEC;
		values[7] = IntervalPGetDatum(delay);
		nulls[7] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
