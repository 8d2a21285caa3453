/*-------------------------------------------------------------------------
 *
 * send.c
 *	  sqs_send() and sqs_send_batch(): sending from the session, at once.
 *
 * A message that is sent here stays sent even if the transaction is rolled
 * back.  For messages that must be sent only if the transaction commits, see
 * outbox.c.
 *
 * All arguments are checked before the network is used.  While waiting for a
 * reply, the session sleeps on its latch and on the clients' descriptor, so
 * it reacts to interrupts as in any other wait.  An interrupt abandons the
 * calls that are under way, which does not block.
 *
 * Connections are kept for the life of the session, one per server and role;
 * they outlive the call, the transaction, and errors.  A connection is
 * replaced when the options or keys that it was made from change.  An
 * abandoned call does not affect the connection that it used.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "base/queue_stats.h"
#include "base/shmem.h"
#include "base/worker.h"
#include "config/connect.h"
#include "config/fdw.h"
#include "config/keys.h"
#include "config/queues.h"
#include "send/outgoing.h"
#include "send/sender.h"

PG_FUNCTION_INFO_V1(sqs_send);
PG_FUNCTION_INFO_V1(sqs_send_batch);

/*
 * Time limit for sqs_send() as a whole, including all calls and attempts.
 * In sqs_send_batch() it applies to each call.
 */
#define DEADLINE_MS		30000
/* The default of AWS's own SDKs. */
#define MAX_ATTEMPTS	3
/* Maximum number of concurrent requests in sqs_send_batch(). */
#define MAX_REQUESTS	16

/* A queue URL that SQS has told us. */
typedef struct KnownQueue
{
	struct KnownQueue *next;
	char	   *url;
	char		name[FLEXIBLE_ARRAY_MEMBER];
} KnownQueue;

/* A connection of the session, for one role and server. */
typedef struct SessionConnection
{
	struct SessionConnection *next;
	Oid			role;
	Oid			server;
	uint64		fingerprint;	/* of what the client was made from */
	SqsSharedClient *shared;	/* NULL: not connected */
	KnownQueue *queues;
} SessionConnection;

static SessionConnection *session_connections = NULL;

/* ---- connections ---- */

/* Forget the queue URLs that were looked up through a connection. */
static void
forget_queues(SessionConnection *session)
{
	while (session->queues != NULL)
	{
		KnownQueue *queue = session->queues;

		session->queues = queue->next;
		pfree(queue->url);
		pfree(queue);
	}
}

/*
 * Return the session's connection for the current role and the queue's
 * server.  A new client is made if there is none yet, or if the server's
 * options or the keys have changed.  The result belongs to the session; do
 * not free it.  Raises an ERROR if the role has no keys or no client can be
 * made from them.
 */
static SessionConnection *
connect_to(const SqsQueueConfig *queue)
{
	SessionConnection *session;
	SqsKeys		keys;
	char	   *problem;
	AwsError	error;
	uint64		fingerprint;

	for (session = session_connections; session != NULL; session = session->next)
	{
		if (session->role == GetUserId() && session->server == queue->server_oid)
			break;
	}
	if (session == NULL)
	{
		session = MemoryContextAllocZero(TopMemoryContext, sizeof(SessionConnection));
		session->role = GetUserId();
		session->server = queue->server_oid;
		session->next = session_connections;
		session_connections = session;
	}

	problem = sqs_catalog_keys(GetUserId(), queue->server_oid, &keys);
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("cannot send to queue \"%s\": %s", queue->name, problem),
				 keys.source != NULL ? 0 :
				 errhint("Run: CREATE USER MAPPING FOR %s SERVER %s OPTIONS (access_key_id '...', secret_access_key '...'); or, as a superuser, to share the keys that the database server itself has: ALTER SERVER %s OPTIONS (ADD credentials 'auto');",
						 quote_identifier(GetUserNameFromId(GetUserId(), false)),
						 quote_identifier(queue->server), quote_identifier(queue->server))));
	fingerprint = sqs_connection_fingerprint(queue, &keys);
	if (session->shared == NULL || session->fingerprint != fingerprint)
	{
		if (session->shared != NULL)
			sqs_shared_client_release(session->shared);
		session->shared = NULL;
		forget_queues(session);
		session->fingerprint = fingerprint;
		session->shared = sqs_shared_client_acquire(queue, &keys, &error);
	}
	sqs_wipe_keys(&keys);
	if (session->shared == NULL)
		ereport(ERROR,
				(errcode(error.class == AWS_ERROR_RESOURCES ? ERRCODE_INSUFFICIENT_RESOURCES :
						 ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot send to queue \"%s\": %s", queue->name, error.message)));
	return session;
}

/* Wait up to timeout ms for progress on any call. */
static void
wait_for_calls(long timeout)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = sqs_wait_event_new("SqsbridgeSend");
	sqs_shared_clients_turn(timeout, wait_event);
}

/* Completion function of a single call; arg is a bool to set. */
static void
call_done(SqsCall *call, void *arg)
{
	*(bool *) arg = true;
}

/*
 * Wait until *done, which call_done() sets, and count the call in stats
 * (which may be NULL).  The caller then owns the finished call.  On an ERROR
 * the call is freed or abandoned here.
 */
static void
wait_for_call(SqsCall *call, const bool *done, SqsQueueStats *stats)
{
	PG_TRY();
	{
		while (!*done)
			wait_for_calls(1000);
		sqs_count_call(call, stats);
	}
	PG_CATCH();
	{
		sqs_count_call(call, stats);
		if (*done)
			sqs_call_free(call);
		else
			sqs_call_abandon(call);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/* ---- errors ---- */

/* The SQLSTATE for an error of a call or of an entry of a batch. */
static int
sqlstate_of(AwsErrorClass class, int http_status, const char *code)
{
	switch (class)
	{
		case AWS_ERROR_THROTTLED:
		case AWS_ERROR_OVER_LIMIT:
			return ERRCODE_CONFIGURATION_LIMIT_EXCEEDED;
		case AWS_ERROR_CREDENTIALS:
		case AWS_ERROR_CLOCK:
			return ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION;
		case AWS_ERROR_NO_QUEUE:
			return ERRCODE_UNDEFINED_OBJECT;
		case AWS_ERROR_RESOURCES:
			return ERRCODE_INSUFFICIENT_RESOURCES;
		case AWS_ERROR_CONFIGURATION:
			return strcmp(code, "WrongRegion") == 0 ?
				ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE : ERRCODE_INSUFFICIENT_PRIVILEGE;
		case AWS_ERROR_UNKNOWN:
			return ERRCODE_FDW_ERROR;
		case AWS_ERROR_REQUEST:
			return ERRCODE_INVALID_PARAMETER_VALUE;
		default:
			if (strcmp(code, "ChecksumMismatch") == 0)
				return ERRCODE_DATA_CORRUPTED;
			return http_status >= 500 ? ERRCODE_SYSTEM_ERROR : ERRCODE_CONNECTION_FAILURE;
	}
}

/* Free a failed call and raise its error. */
static void
raise_call_error(SqsCall *call, const char *queue)
{
	AwsError	error = *sqs_call_error(call);
	bool		sending = sqs_call_action(call) != SQS_GET_QUEUE_URL;
	StringInfoData detail;

	sqs_call_free(call);
	initStringInfo(&detail);
	/* the message says which call for keys has failed */
	appendStringInfo(&detail, "%s: %s",
					 error.no_keys ? "Getting keys" : sending ? "SendMessage" : "GetQueueUrl",
					 error.code);
	if (error.http_status > 0)
		appendStringInfo(&detail, ", HTTP status %d", error.http_status);
	if (error.request_id[0] != '\0')
		appendStringInfo(&detail, ", request id %s", error.request_id);
	appendStringInfoString(&detail,
						   sending && error.may_be_done ?
						   ". The message may have been sent nevertheless." :
						   ". The message has not been sent.");
	ereport(ERROR,
			(errcode(sqlstate_of(error.class, error.http_status, error.code)),
			 errmsg("could not send to queue \"%s\": %s", queue, error.message),
			 errdetail_internal("%s", detail.data),
			 error.class == AWS_ERROR_NO_QUEUE ?
			 errhint("Check that the queue exists at AWS, and that the keys have permission to see it.") : 0));
}

/* ---- the queue's URL ---- */

/*
 * Return the queue's URL: the configured one, one that the session has
 * looked up before, or the answer to a GetQueueUrl call.  The string belongs
 * to the session or to the queue's configuration.  Raises an ERROR if SQS
 * does not return a URL.
 */
static const char *
find_url(SessionConnection *session, const SqsQueueConfig *queue, SqsQueueStats *stats)
{
	KnownQueue *known;
	SqsCall    *call;
	bool		done = false;

	if (strstr(queue->queue_name, "://") != NULL)
		return queue->queue_name;
	for (known = session->queues; known != NULL; known = known->next)
	{
		if (strcmp(known->name, queue->queue_name) == 0)
			return known->url;
	}

	call = sqs_start_get_queue_url(session->shared->client, queue->queue_name,
								   DEADLINE_MS, MAX_ATTEMPTS, call_done, &done);
	wait_for_call(call, &done, stats);
	if (sqs_call_error(call) != NULL)
		raise_call_error(call, queue->name);

	known = MemoryContextAllocZero(TopMemoryContext,
								   offsetof(KnownQueue, name) + strlen(queue->queue_name) + 1);
	strcpy(known->name, queue->queue_name);
	known->url = MemoryContextStrdup(TopMemoryContext, sqs_call_queue_url(call));
	known->next = session->queues;
	session->queues = known;
	sqs_call_free(call);
	return known->url;
}

/*
 * Forget the URL of a queue that SQS reports as missing.  The queue may be
 * deleted and created again at another URL, so the next call looks it up.
 */
static void
forget_url(SessionConnection *session, const char *queue_name)
{
	for (KnownQueue **link = &session->queues; *link != NULL; link = &(*link)->next)
	{
		KnownQueue *known = *link;

		if (strcmp(known->name, queue_name) != 0)
			continue;
		*link = known->next;
		pfree(known->url);
		pfree(known);
		return;
	}
}

/* ---- one message ---- */

/*
 * sqs_send(queue, body, attributes, delay, group_id, deduplication_id,
 * system_attributes) returns text
 *
 * Send one message and return the message id that SQS assigns.  Raises an
 * ERROR if the message, the queue or the keys are not valid, if SQS refuses
 * the message, or if there is no success within MAX_ATTEMPTS attempts or
 * DEADLINE_MS.  The DETAIL of the error says whether the message may have
 * been sent nevertheless.
 */
Datum
sqs_send(PG_FUNCTION_ARGS)
{
	char	   *name = sqs_queue_argument(fcinfo);
	Datum	   *fields[] = {NULL, NULL, NULL, NULL, NULL, NULL};
	SqsDraft	draft;
	SqsOutgoing message;
	SqsDraftError *wrong;
	SqsQueueConfig *queue;
	SqsQueueStats *stats;
	SessionConnection *session;
	const char *url;
	SqsCall    *call;
	SqsBatchEntry entry;
	int64		end;
	bool		done = false;

	fields[0] = &draft.body;
	fields[1] = &draft.attributes;
	fields[2] = &draft.delay;
	fields[3] = &draft.group_id;
	fields[4] = &draft.deduplication_id;
	fields[5] = &draft.system_attributes;
	for (int i = 0; i < (int) lengthof(fields); i++)
		*fields[i] = PG_ARGISNULL(i + 1) ? (Datum) 0 : PG_GETARG_DATUM(i + 1);

	queue = sqs_catalog_queue_to_send(name, false);
	stats = sqs_stats_get(MyDatabaseId, queue->queue_id);
	wrong = sqs_outgoing_prepare(&draft, queue->fifo, &message);
	if (wrong != NULL)
	{
		if (stats != NULL)
			sqs_count(stats, SQS_SEND_FAILURES, 1);
		sqs_draft_error_raise(wrong, name);
	}
	session = connect_to(queue);
	end = sqs_now_ms() + DEADLINE_MS;
	PG_TRY();
	{
		url = find_url(session, queue, stats);
		call = sqs_start_send(session->shared->client, url, &message,
							  Max(end - sqs_now_ms(), 1), MAX_ATTEMPTS, call_done, &done);
		wait_for_call(call, &done, stats);
		if (sqs_call_error(call) != NULL)
		{
			if (sqs_call_error(call)->class == AWS_ERROR_NO_QUEUE)
				forget_url(session, queue->queue_name);
			raise_call_error(call, name);
		}
		entry = *sqs_call_entry(call, 0);
		sqs_call_free(call);
		if (!entry.ok)
			ereport(ERROR,
					(errcode(sqlstate_of(entry.class, 0, entry.code)),
					 errmsg("could not send to queue \"%s\": %s", name, entry.message),
					 entry.may_be_done ?
					 errdetail("A message has been sent nevertheless, with message id %s.",
							   entry.message_id) : 0));
	}
	PG_CATCH();
	{
		if (stats != NULL)
			sqs_count(stats, SQS_SEND_FAILURES, 1);
		PG_RE_THROW();
	}
	PG_END_TRY();

	if (stats != NULL)
		sqs_count(stats, SQS_SENT, 1);
	PG_RETURN_TEXT_P(cstring_to_text(entry.message_id));
}

/* ---- many messages ---- */

/* A message of sqs_send_batch(), and its result. */
typedef struct BatchItem
{
	SendItem	send;			/* must be first */
	SqsOutgoing message;
	bool		finished;
	bool		ok;
	bool		sender_fault;
	bool		may_be_done;	/* some attempt may have sent it */
	char	   *code;
	char	   *text;
	char	   *message_id;
	char	   *sequence_number;	/* or NULL */
} BatchItem;

/* One call of sqs_send_batch(). */
typedef struct BatchRun
{
	Sender	   *sender;
	SqsQueueStats *stats;		/* may be NULL */
	int			unfinished;		/* items without a result */
	AwsError	error;			/* of the last request that failed as a whole */
} BatchRun;

/* A request under way. */
typedef struct BatchCall
{
	dlist_node	node;			/* in run_batches()'s list */
	SqsCall    *call;
	BatchRun   *run;
	SendBatch	batch;
} BatchCall;

/* Give an item its final result, an error.  Copies code and text. */
static void
finish_with_error(BatchItem *item, const char *code, const char *text, bool sender_fault)
{
	item->finished = true;
	item->code = pstrdup(code);
	item->text = item->may_be_done ?
		psprintf("%s (the message may have been sent nevertheless)", text) : pstrdup(text);
	item->sender_fault = sender_fault;
}

/*
 * Give an item the error of the request that it was in, or would have been
 * in.
 */
static void
finish_with_call(BatchItem *item, const AwsError *error, bool sender_fault)
{
	finish_with_error(item, error->code, error->request_id[0] == '\0' ? error->message :
					  psprintf("%s, request id %s", error->message, error->request_id),
					  sender_fault);
}

/*
 * SendItemDone callback: the Sender reports what became of an item of a
 * batch.  "arg" is the BatchRun.  Copies what the result row will need.
 */
static void
item_done(SendItem *send, SendOutcome outcome, const SqsBatchEntry *entry,
		  const AwsError *error, void *arg)
{
	BatchItem  *item = (BatchItem *) send;
	BatchRun   *run = arg;

	/* a later failure does not undo what an earlier attempt may have done */
	if (entry != NULL ? entry->may_be_done : error->may_be_done)
		item->may_be_done = true;
	if (outcome == SEND_RETRY)
		return;
	run->unfinished--;
	if (outcome == SEND_DONE)
	{
		item->finished = true;
		item->ok = true;
		item->message_id = pstrdup(entry->message_id);
		if (entry->sequence_number[0] != '\0')
			item->sequence_number = pstrdup(entry->sequence_number);
		return;
	}
	if (entry != NULL)
	{
		finish_with_error(item, entry->code, entry->message, entry->sender_fault);
		if (entry->may_be_done && entry->message_id[0] != '\0')
			item->message_id = pstrdup(entry->message_id);
	}
	else
		finish_with_call(item, error, error->class == AWS_ERROR_REQUEST);
}

/* Completion function of a SendMessageBatch call; arg is the BatchCall. */
static void
batch_done(SqsCall *call, void *arg)
{
	BatchCall  *request = arg;
	BatchRun   *run = request->run;

	dlist_delete(&request->node);
	if (sqs_call_error(call) != NULL)
		run->error = *sqs_call_error(call);
	sqs_count_call(call, run->stats);
	sqs_sender_finish(run->sender, &request->batch, call, sqs_now_ms(),
					  item_done, run);
	sqs_call_free(call);
	pfree(request);
}

/*
 * Send what the Sender holds.  Returns when every item has its result, or
 * when the queue as a whole has failed MAX_ATTEMPTS times in a row; the
 * items that are left then have no result.  On an ERROR all calls are
 * abandoned.
 */
static pg_noinline void
run_batches(BatchRun *run, SessionConnection *session, const char *url)
{
	SqsClient  *client = session->shared->client;
	dlist_head	under_way;
	dlist_mutable_iter iter;

	dlist_init(&under_way);
	PG_TRY();
	{
		while (run->unfinished > 0 &&
			   (run->sender->failures < MAX_ATTEMPTS || !dlist_is_empty(&under_way)))
		{
			int64		now = sqs_now_ms();
			int64		next;
			SendBatch	batch;

			while (run->sender->failures < MAX_ATTEMPTS &&
				   sqs_sender_take(run->sender, now, &batch))
			{
				BatchCall  *request = palloc(sizeof(BatchCall));
				const SqsOutgoing *messages[SQS_MAX_BATCH];

				for (int i = 0; i < batch.n; i++)
					messages[i] = &((BatchItem *) batch.items[i])->message;
				request->run = run;
				request->batch = batch;
				request->call = sqs_start_send_batch(client, url, batch.n, messages,
													 DEADLINE_MS, 1, batch_done, request);
				dlist_push_tail(&under_way, &request->node);
			}
			next = sqs_sender_next_time(run->sender, now);
			wait_for_calls(next == PG_INT64_MAX ? 1000 :
						   Min(Max(next - now, dlist_is_empty(&under_way) ? 1 : 0), 1000));
		}
	}
	PG_CATCH();
	{
		dlist_foreach_modify(iter, &under_way)
		{
			SqsCall    *call = dlist_container(BatchCall, node, iter.cur)->call;

			sqs_count_call(call, run->stats);
			sqs_call_abandon(call);
		}
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/*
 * Check the messages of the array.  Valid ones are added to the Sender; the
 * others get their error as their result.  Returns an array of *nitems items
 * in the current memory context.
 */
static BatchItem *
prepare_items(ArrayType *array, const SqsQueueConfig *queue, BatchRun *run, int *nitems)
{
	Datum	   *elements;
	bool	   *nulls;
	BatchItem  *items;
	TupleDesc	desc = NULL;
	int64		now = sqs_now_ms();

	deconstruct_array(array, ARR_ELEMTYPE(array), -1, false, TYPALIGN_DOUBLE,
					  &elements, &nulls, nitems);
	items = palloc_extended(sizeof(BatchItem) * Max(*nitems, 1),
							MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < *nitems; i++)
	{
		BatchItem  *item = &items[i];
		HeapTupleHeader record;
		HeapTupleData tuple;
		Datum		values[6];
		bool		isnull[6];
		SqsDraft	draft;
		SqsDraftError *wrong;

		CHECK_FOR_INTERRUPTS();
		if (nulls[i])
		{
			finish_with_error(item, "MissingParameter", "the message must not be null", true);
			continue;
		}

		/*
		 * Not DatumGetHeapTupleHeader(), because older minor releases lack
		 * that function.  It matters only for types that users other than
		 * superusers can alter.
		 */
		record = (HeapTupleHeader) PG_DETOAST_DATUM(elements[i]);
		if (desc == NULL)
		{
			desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(record),
										  HeapTupleHeaderGetTypMod(record));
			if (desc->natts != lengthof(values))
				elog(ERROR, "type sqs_outgoing has %d members, expected %d",
					 desc->natts, (int) lengthof(values));
		}
		tuple.t_len = HeapTupleHeaderGetDatumLength(record);
		ItemPointerSetInvalid(&tuple.t_self);
		tuple.t_tableOid = InvalidOid;
		tuple.t_data = record;
		heap_deform_tuple(&tuple, desc, values, isnull);
		draft.body = isnull[0] ? (Datum) 0 : values[0];
		draft.attributes = isnull[1] ? (Datum) 0 : values[1];
		draft.delay = isnull[2] ? (Datum) 0 : values[2];
		draft.group_id = isnull[3] ? (Datum) 0 : values[3];
		draft.deduplication_id = isnull[4] ? (Datum) 0 : values[4];
		draft.system_attributes = isnull[5] ? (Datum) 0 : values[5];

		wrong = sqs_outgoing_prepare(&draft, queue->fifo, &item->message);
		if (wrong != NULL)
		{
			finish_with_error(item, wrong->code,
							  wrong->detail == NULL ? wrong->message :
							  psprintf("%s: %s", wrong->message, wrong->detail), true);
			continue;
		}
		item->send.size = sqs_outgoing_size(&item->message);
		sqs_sender_add(run->sender, &item->send,
					   queue->fifo ? hash_bytes_extended((const unsigned char *) item->message.group_id.data,
														 item->message.group_id.len, 0) : 0, now);
		run->unfinished++;
	}
	if (desc != NULL)
		ReleaseTupleDesc(desc);
	return items;
}

/*
 * sqs_send_batch(queue, sqs_outgoing[]) returns SETOF record
 *
 * Send the messages of the array.  Returns one row per message, in the order
 * of the array, with its message id or its error.  Raises an ERROR only if
 * nothing has been sent, for example if the queue does not exist or there
 * are no keys.
 */
Datum
sqs_send_batch(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *name = sqs_queue_argument(fcinfo);
	SqsQueueConfig *queue;
	BatchRun	run;
	BatchItem  *items;
	int			nitems;
	uint64		sent = 0;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("messages must not be null")));
	InitMaterializedSRF(fcinfo, 0);

	queue = sqs_catalog_queue_to_send(name, false);
	memset(&run, 0, sizeof(run));
	run.stats = sqs_stats_get(MyDatabaseId, queue->queue_id);
	run.sender = sqs_sender_create(CurrentMemoryContext, queue->fifo, MAX_REQUESTS, MAX_ATTEMPTS, 0);
	items = prepare_items(PG_GETARG_ARRAYTYPE_P(1), queue, &run, &nitems);

	if (run.unfinished > 0)
	{
		SessionConnection *session = connect_to(queue);

		run_batches(&run, session, find_url(session, queue, run.stats));
		if (run.error.class == AWS_ERROR_NO_QUEUE)
			forget_url(session, queue->queue_name);
	}

	for (int i = 0; i < nitems; i++)
	{
		BatchItem  *item = &items[i];
		Datum		values[6];
		bool		isnull[6] = {false, true, true, true, true, true};

		if (!item->finished)	/* the queue as a whole failed */
			finish_with_call(item, &run.error, false);
		sent += item->ok;
		values[0] = Int32GetDatum(i + 1);
		if (item->message_id != NULL)
		{
			values[1] = CStringGetTextDatum(item->message_id);
			isnull[1] = false;
		}
		if (item->sequence_number != NULL)
		{
			values[2] = DirectFunctionCall3(numeric_in, CStringGetDatum(item->sequence_number),
											ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
			isnull[2] = false;
		}
		if (!item->ok)
		{
			values[3] = CStringGetTextDatum(item->code);
			values[4] = CStringGetTextDatum(item->text);
			values[5] = BoolGetDatum(item->sender_fault);
			isnull[3] = isnull[4] = isnull[5] = false;
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
	}
	if (run.stats != NULL)
	{
		sqs_count(run.stats, SQS_SENT, sent);
		sqs_count(run.stats, SQS_SEND_FAILURES, nitems - sent);
	}
	return (Datum) 0;
}
