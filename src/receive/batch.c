/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  Running a batch of messages, in a handler worker.
 *
 * A function that takes sqs_message[] is called with all messages of a batch, in
 * one transaction:
 *
 *		insert the messages into the inbox, in the order of their keys, so that
 *			transactions with the same messages cannot deadlock; leave out those
 *			that are there already
 *		call the function with the others; fire deferred triggers
 *		do what the verdicts say that it has returned
 *		fence: no lease has been lost, and so on (handler.c)
 *		commit; report its LSN for all of them
 *
 * An error rolls all of that back, and nobody knows which message is to blame.  So
 * the batch is run again in eight parts, each in a transaction of its own, and a
 * part that fails in eight parts again, until the message stands alone: only then
 * has it failed, as if it had never been in a batch.  Eight, because to look for
 * one of n messages then costs running about 1.15 n of them once more; halves would
 * cost 2 n.  The next batches are run in parts, too, in case it was not the only
 * one: first of an eighth of the size, but at least 16; after eight that were
 * successful the size doubles with each.
 *
 * Parts are run in the order in which the messages were given, so that the order
 * of a FIFO queue's message group is kept.  After a message of the group that was
 * not handled nothing of it is run.
 *
 * If the lease of a message is lost while its part runs, the part is rolled back
 * and run again without it.  If this process is to exit, what has not begun is
 * returned to the queue worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "base/errors.h"
#include "base/extension.h"
#include "base/queue_stats.h"
#include "base/sqlstates.h"
#include "config/bindings.h"
#include "receive/attempts.h"
#include "receive/batch.h"
#include "receive/ending.h"
#include "receive/handler_session.h"
#include "receive/inbox.h"
#include "receive/message.h"
#include "receive/routing.h"
#include "receive/run.h"
#include "receive/verdict.h"

/* For errors that pass by themselves: tries inside one delivery. */
#define MAX_TRIES		4

#define SMALLEST_PIECE	16
#define LARGEST_PIECE	1000	/* as handler_batch_size */
#define PIECES_BEFORE_GROWTH	8

/* A message of the batch. */
typedef struct BatchItem
{
	SqsTask		task;
	bool		begun;			/* what is recorded of it has been looked up */
	const SqsRoute *route;		/* NULL: none */
	bool		is_single;		/* not to be run together with others */
	bool		settled;		/* its result is reported */

	/* in this transaction */
	SqsInboxEntry inbox;
	SqsInboxEntry business;		/* its key, if it has one */
	const SqsVerdict *verdict;	/* NULL: done */
	bool		again;			/* a duplicate of one that is not done after
								 * all */
	SqsResult	result;			/* of a verdict */
} BatchItem;

/* Some of them, for functions that get one argument. */
typedef struct Part
{
	BatchItem **items;
	int			n;
} Part;

/* How a transaction with some of them has ended. */
typedef enum PartEnd
{
	PART_SETTLED,				/* all are settled */
	PART_AGAIN,					/* to be run again at once */
	PART_SPLIT					/* to be run again in parts */
} PartEnd;

static SqsSlice handler_of(const BatchItem *item);

static MemoryContext batch_context; /* sqs_session.message_context is a part's */
static BatchItem *items = NULL; /* those that have come */
static int	nitems = 0;
static int	max_items = 0;

/* While a batch is run. */
static const SqsHandling *handling;
static int64 settled_at;		/* us */
static uint32 *failed_chains;	/* message groups of which nothing may run */
static int	nfailed_chains;
static bool some_are_known;		/* in the inbox */
static bool is_over;			/* nothing more is to be run, ... */
static SqsResult over_result;	/* ... and what that means for the rest */

/* How many messages to run at once, after a failure; 0: any number. */
static int	piece_size = 0;
static int	pieces_left;		/* before it grows */

void
sqs_batch_init(void)
{
	batch_context = AllocSetContextCreate(TopMemoryContext, "sqsbridge batch",
										  ALLOCSET_DEFAULT_SIZES);
}

/* The frame is copied, because it is in the shm_mq only until the next comes. */
void
sqs_batch_collect(const char *frame, Size len)
{
	MemoryContext old = MemoryContextSwitchTo(batch_context);
	char	   *copy = palloc(len);
	SqsDelivery *delivery = palloc(sizeof(SqsDelivery));

	memcpy(copy, frame, len);
	sqs_frame_decode(copy, len, delivery);
	if (nitems == max_items)
	{
		max_items = Max(2 * max_items, 64);
		items = items == NULL ? palloc(max_items * sizeof(BatchItem)) :
			repalloc(items, max_items * sizeof(BatchItem));
	}
	memset(&items[nitems], 0, offsetof(BatchItem, result));
	items[nitems++].task.delivery = delivery;
	MemoryContextSwitchTo(old);
}

bool
sqs_batch_range(uint64 *from, uint64 *to)
{
	if (nitems == 0)
		return false;
	*from = items[0].task.delivery->frame.seq;
	*to = items[nitems - 1].task.delivery->frame.seq;
	return true;
}

void
sqs_batch_reset(void)
{
	items = NULL;
	nitems = max_items = 0;
	MemoryContextReset(batch_context);
}

/* ---- results ---- */

/* May messages of this group not be run any more? */
static bool
has_failed(uint32 chain)
{
	for (int i = 0; chain != 0 && i < nfailed_chains; i++)
		if (failed_chains[i] == chain)
			return true;
	return false;
}

/* Report what has become of a message. */
static void
settle(BatchItem *item, SqsResult *result)
{
	uint32		chain = item->task.delivery->frame.chain;

	sqs_handler_settle(&item->task, result);
	item->settled = true;
	if (chain != 0 && !sqs_outcome_is_end(result->outcome) && !has_failed(chain))
		failed_chains[nfailed_chains++] = chain;
}

static void
init_result(SqsResult *result, SqsOutcome outcome)
{
	sqs_result_init(result);
	result->outcome = outcome;
}

/* The time that was spent on each of n messages since the last were settled. */
static uint32
micros_each(int n)
{
	int64		now = sqs_monotonic_us();
	int64		each = (now - settled_at) / n;

	settled_at = now;
	return (uint32) Min(each, PG_UINT32_MAX);
}

/* Nothing more is to be run; this is what becomes of the rest. */
static void
stop_batch(const SqsResult *result)
{
	is_over = true;
	over_result = *result;
	if (result->outcome == SQS_OUTCOME_ALONE)
		over_result.outcome = SQS_OUTCOME_NOT_RUN;
}

/* Is it not run for a reason that may concern the others, too? */
static bool
is_deferred(SqsOutcome outcome)
{
	return outcome == SQS_OUTCOME_STOPPED || outcome == SQS_OUTCOME_NOT_RUN ||
		outcome == SQS_OUTCOME_CANNOT_RUN || outcome == SQS_OUTCOME_LOCKED ||
		outcome == SQS_OUTCOME_ALONE;
}

/* ---- verdicts that the function returns ---- */

/* Add a value of type sqs_verdict to the list. */
static List *
add_verdict(List *verdicts, Datum value, bool isnull)
{
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a verdict of the handler is null")));
	return lappend(verdicts, sqs_verdict_from_datum(value));
}

static List *
verdicts_of_array(Datum array)
{
	ArrayType  *verdicts = DatumGetArrayTypeP(array);
	List	   *list = NIL;
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(verdicts, ARR_ELEMTYPE(verdicts), -1, false, TYPALIGN_DOUBLE,
					  &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
		list = add_verdict(list, elements[i], nulls[i]);
	return list;
}

static List *
verdicts_of_tuplestore(ReturnSetInfo *rsinfo)
{
	List	   *list = NIL;
	TupleTableSlot *slot;

	if (rsinfo->setResult == NULL)
		return NIL;
	slot = MakeSingleTupleTableSlot(sqs_verdict_tupdesc(), &TTSOpsMinimalTuple);
	while (tuplestore_gettupleslot(rsinfo->setResult, true, false, slot))
	{
		slot_getallattrs(slot);
		list = lappend(list, sqs_verdict_from_row(slot->tts_values, slot->tts_isnull));
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(rsinfo->setResult);
	return list;
}

/*
 * Call the function, under the session's statement_timeout, and return its
 * verdicts.  A set may come in either way in which functions return sets.
 */
static List *
call_function(Datum messages)
{
	LOCAL_FCINFO(fcinfo, 1);
	SqsHandlerFunction *handler = sqs_handler_current_function();
	FmgrInfo   *function = &handler->flinfo;
	ReturnSetInfo rsinfo = {T_ReturnSetInfo};
	List	   *verdicts = NIL;

	if (StatementTimeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, StatementTimeout);

	if (function->fn_retset)
	{
		rsinfo.econtext = CreateStandaloneExprContext();
		rsinfo.expectedDesc = sqs_verdict_tupdesc();
		rsinfo.allowedModes = SFRM_ValuePerCall | SFRM_Materialize | SFRM_Materialize_Preferred;
		rsinfo.returnMode = SFRM_ValuePerCall;
	}
	InitFunctionCallInfoData(*fcinfo, function, 1, InvalidOid, NULL,
							 function->fn_retset ? (Node *) &rsinfo : NULL);
	fcinfo->args[0].value = messages;
	fcinfo->args[0].isnull = false;
	for (;;)
	{
		Datum		result;

		fcinfo->isnull = false;
		rsinfo.isDone = ExprSingleResult;
		result = FunctionCallInvoke(fcinfo);
		CHECK_FOR_INTERRUPTS();
		if (!function->fn_retset)
		{
			if (handler->returns_value && !fcinfo->isnull)
				verdicts = verdicts_of_array(result);
			break;
		}
		if (rsinfo.returnMode == SFRM_Materialize)
		{
			verdicts = verdicts_of_tuplestore(&rsinfo);
			break;
		}
		if (rsinfo.isDone == ExprEndResult)
			break;
		verdicts = add_verdict(verdicts, result, fcinfo->isnull);
		if (rsinfo.isDone != ExprMultipleResult)
			break;
	}
	if (rsinfo.econtext != NULL)
		FreeExprContext(rsinfo.econtext, true);
	disable_timeout(STATEMENT_TIMEOUT, false);
	return verdicts;
}

/* The message with this id; an ERROR if there is none. */
static BatchItem *
find_item(BatchItem **part, int n, const char *message_id)
{
	size_t		len = strlen(message_id);

	for (int i = 0; i < n; i++)
	{
		const SqsSlice *id = &part[i]->task.delivery->message.message_id;

		if (id->len == len && memcmp(id->data, message_id, len) == 0)
			return part[i];
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("a verdict of the handler names a message that it was not called with: \"%s\"",
					message_id)));
	return NULL;
}

/* Which message each verdict is about. */
static void
assign_verdicts(BatchItem **part, int n, List *verdicts)
{
	ListCell   *lc;

	foreach(lc, verdicts)
	{
		const SqsVerdict *verdict = lfirst(lc);
		BatchItem  *item = find_item(part, n, verdict->message_id);

		if (item->verdict != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the handler returned two verdicts for message \"%s\"",
							verdict->message_id)));
		item->verdict = verdict;
	}
}

/* An ERROR if a message is done although an earlier one of its group is not. */
static void
check_order(BatchItem **part, int n)
{
	for (int i = 0; i < n; i++)
	{
		uint32		chain = part[i]->task.delivery->frame.chain;

		if (chain == 0 || part[i]->verdict == NULL ||
			part[i]->verdict->kind != SQS_VERDICT_RETRY)
			continue;
		for (int k = i + 1; k < n; k++)
		{
			if (part[k]->task.delivery->frame.chain == chain &&
				(part[k]->verdict == NULL || part[k]->verdict->kind != SQS_VERDICT_RETRY))
				ereport(ERROR,
						(errcode(ERRCODE_SQS_ORDER),
						 errmsg("the verdicts of the handler break the order of message group \"%.*s\"",
								(int) part[k]->task.delivery->message.group_id.len,
								part[k]->task.delivery->message.group_id.data),
						 errdetail("Message \"%.*s\" is to be retried, and a later one of its group, \"%.*s\", is not.",
								   (int) part[i]->task.delivery->message.message_id.len,
								   part[i]->task.delivery->message.message_id.data,
								   (int) part[k]->task.delivery->message.message_id.len,
								   part[k]->task.delivery->message.message_id.data)));
		}
	}
}

/* The messages are done with, except those that are to be retried. */
static void
remove_attempts(void *arg)
{
	Part	   *part = arg;

	for (int i = 0; i < part->n; i++)
	{
		if (part->items[i]->verdict == NULL && !part->items[i]->again)
			sqs_attempts_remove(&part->items[i]->task.attempts);
	}
}

static bool
same_key(const SqsInboxEntry *a, const SqsInboxEntry *b)
{
	return a->key != NULL && b->key != NULL && strcmp(a->key, b->key) == 0;
}

/*
 * Some of the messages have been left out as duplicates of others in this batch.
 * If a verdict has taken the row of such another one out of the inbox, nothing has
 * handled them: they are to come again.  To delete one would delete the message
 * that is to be retried, since it is the same.
 */
static void
find_orphans(BatchItem **part, int n)
{
	for (int i = 0; i < n; i++)
	{
		BatchItem  *item = part[i];

		for (int k = 0; item->task.is_duplicate && !item->again && k < n; k++)
		{
			const BatchItem *other = part[k];

			if (other->verdict == NULL)
				continue;
			item->again = (other->result.outcome == SQS_OUTCOME_FAILED &&
						   same_key(&other->inbox, &item->inbox)) ||
				same_key(&other->business, &item->business);
		}
		if (item->again && item->inbox.key != NULL && item->inbox.is_new)
			sqs_inbox_delete(&item->inbox.tid);
	}
}

/*
 * Record in this transaction what is not done by the inbox: what the verdicts say,
 * and that there is nothing more to remember of the others.  If a message is to
 * come again, take its row out of the inbox.
 */
static void
record_outcomes(BatchItem **items_run, int n)
{
	Part		part = {items_run, n};
	bool		any_verdicts = false;
	bool		any_attempts = false;

	for (int i = 0; i < n; i++)
	{
		any_verdicts |= items_run[i]->verdict != NULL;
		any_attempts |= items_run[i]->task.attempts.found;
	}
	if (!any_verdicts && !any_attempts)
		return;

	if (any_verdicts)
		check_order(items_run, n);
	CommandCounterIncrement();	/* what this transaction did is history */
	PushActiveSnapshot(GetTransactionSnapshot());
	for (int i = 0; any_verdicts && i < n; i++)
	{
		BatchItem  *item = items_run[i];

		if (item->verdict == NULL)
			continue;
		init_result(&item->result, SQS_OUTCOME_FAILED);
		sqs_task_record_verdict(&item->task, handling, item->verdict, &item->result);
		if (item->result.outcome == SQS_OUTCOME_FAILED && item->inbox.key != NULL)
			sqs_inbox_delete(&item->inbox.tid);
		if (item->business.key != NULL)
			sqs_inbox_delete(&item->business.tid);	/* only handled ones are
													 * known by it */
	}
	if (any_verdicts)
		find_orphans(items_run, n);
	if (any_attempts)
		sqs_session_with_lock_timeout(SQS_TABLE_LOCK_TIMEOUT_MS, remove_attempts, &part);
	PopActiveSnapshot();
}

/* ---- a transaction ---- */

/* What sqs_session_with_lock_timeout() passes on. */
typedef struct InboxBatch
{
	SqsInboxEntry **entries;
	int			n;
	bool		all_new;
} InboxBatch;

static int
compare_entries(const void *a, const void *b)
{
	const SqsInboxEntry *left = *(SqsInboxEntry *const *) a;
	const SqsInboxEntry *right = *(SqsInboxEntry *const *) b;
	int			cmp = strcmp(left->key, right->key);

	/* of a message that came twice, the first is handled */
	return cmp != 0 ? cmp : (left->place > right->place) - (left->place < right->place);
}

static void
insert_into_inbox(void *arg)
{
	InboxBatch *batch = arg;

	sqs_inbox_insert_batch(sqs_session.channel->shared->queue_id, batch->entries, batch->n,
						   batch->all_new);
}

static void
lock_inbox(void *arg)
{
	sqs_inbox_lock();
}

/* Insert these, in the order of their keys. */
static void
insert_sorted(SqsInboxEntry **entries, int n, bool all_new)
{
	InboxBatch	batch = {entries, n, all_new};

	qsort(entries, n, sizeof(SqsInboxEntry *), compare_entries);
	sqs_session_with_lock_timeout(0, insert_into_inbox, &batch);
}

/*
 * Insert the messages into the inbox, and move those that are new to the front.
 * Returns how many these are.  A message is not new either if its business key is
 * there already; its own row stays.
 */
static int
leave_out_duplicates(BatchItem **part, int n)
{
	SqsInboxEntry **entries = palloc(n * sizeof(SqsInboxEntry *));
	BatchItem **duplicates = palloc(n * sizeof(BatchItem *));
	bool		all_new = !some_are_known;
	int			nkeys = 0;
	int			nnew = 0;
	int			nduplicates = 0;

	for (int i = 0; i < n; i++)
	{
		SqsInboxEntry *entry = &part[i]->inbox;

		entry->key = sqs_message_identity(&part[i]->task.delivery->message);
		entry->stamp = part[i]->task.delivery->frame.stamp;
		entry->place = i;
		entries[i] = entry;
		all_new &= part[i]->task.delivery->message.receive_count <= 1;
	}
	insert_sorted(entries, n, all_new);

	for (int i = 0; i < n; i++)
	{
		SqsInboxEntry *entry = &part[i]->business;

		if (part[i]->task.routing == NULL || !part[i]->inbox.is_new)
			continue;
		sqs_handler_open_message(&part[i]->task);
		if (part[i]->task.routed.dedup_key == NULL)
			continue;
		entry->key = sqs_message_business_identity(part[i]->task.routed.dedup_key);
		entry->stamp = part[i]->task.delivery->frame.stamp;
		entry->place = i;
		entries[nkeys++] = entry;
	}
	if (nkeys > 0)
		insert_sorted(entries, nkeys, false);

	for (int i = 0; i < n; i++)
	{
		part[i]->task.is_duplicate = !part[i]->inbox.is_new || !part[i]->business.is_new;
		if (part[i]->task.is_duplicate)
			duplicates[nduplicates++] = part[i];
		else
			part[nnew++] = part[i];
	}
	memcpy(part + nnew, duplicates, nduplicates * sizeof(BatchItem *));
	return nnew;
}

/* The argument of the function; *shown is how many messages it has. */
static Datum
make_argument(BatchItem **part, int n, int *shown)
{
	Datum	   *values = palloc(n * sizeof(Datum));

	*shown = 0;
	for (int i = 0; i < n; i++)
	{
		SqsTask    *task = &part[i]->task;

		sqs_handler_open_message(task);
		if (!task->content.for_nobody)
			values[(*shown)++] = sqs_message_datum(sqs_session.channel->shared->queue,
												   &task->delivery->message, &task->content,
												   task->attempts.attempts + 1);
	}
	return PointerGetDatum(construct_array(values, *shown, sqs_message_type_oid(),
										   -1, false, TYPALIGN_DOUBLE));
}

/* The messages, which all have the same route, are to wait until that goes on. */
static void
settle_held(BatchItem **part, int n)
{
	SqsResult	result;

	for (int i = 0; i < n; i++)
	{
		init_result(&result, SQS_OUTCOME_HELD);
		settle(part[i], &result);
	}
}

/*
 * Run the messages in a transaction, and report their results.  Errors are caught
 * by the caller; after the commit none can be raised.
 */
static void
run_transaction(BatchItem **part, int n, volatile SqsPhase *phase)
{
	SqsDelivery **deliveries = palloc(n * sizeof(SqsDelivery *));
	int			nnew = n;
	int			shown;
	XLogRecPtr	lsn;
	uint32		micros;

	for (int i = 0; i < n; i++)
	{
		deliveries[i] = part[i]->task.delivery;
		part[i]->inbox.key = part[i]->business.key = NULL;
		part[i]->inbox.is_new = part[i]->business.is_new = true;
		part[i]->task.is_open = false;	/* that was in the memory of the last
										 * part */
		part[i]->task.is_duplicate = false;
		part[i]->verdict = NULL;
		part[i]->again = false;
	}

	if (!sqs_handler_begin(&part[0]->task, phase))
	{
		settle_held(part, n);
		return;
	}
	if (deliveries[0]->frame.flags & SQS_FRAME_EXACTLY_ONCE)
	{
		*phase = SQS_PHASE_LOCK;
		sqs_session_with_lock_timeout(SQS_TABLE_LOCK_TIMEOUT_MS, lock_inbox, NULL);
		*phase = SQS_PHASE_INBOX;
		nnew = leave_out_duplicates(part, n);
	}

	*phase = SQS_PHASE_RUN;
	sqs_verdict_begin(sqs_session.message_context);
	if (nnew > 0)
	{
		Datum		messages = make_argument(part, nnew, &shown);

		if (shown > 0)
			assign_verdicts(part, nnew, call_function(messages));
	}
	sqs_handler_returned();
	record_outcomes(part, n);
	sqs_session_fence(deliveries, n);
	lsn = sqs_session_commit(deliveries[0]);
	sqs_handler_committed();

	micros = micros_each(n);
	for (int i = 0; i < n; i++)
	{
		SqsResult	result;

		if (part[i]->verdict != NULL)
			result = part[i]->result;
		else
			init_result(&result, part[i]->again ? SQS_OUTCOME_NOT_RUN :
						part[i]->task.is_duplicate ? SQS_OUTCOME_DUPLICATE :
						part[i]->task.content.for_nobody ? SQS_OUTCOME_DISCARDED :
						SQS_OUTCOME_DONE);
		result.micros = micros;
		result.lsn = lsn;
		settle(part[i], &result);
	}
}

static void
batch_error_context(void *arg)
{
	Part	   *part = arg;
	SqsSlice	id = part->items[0]->task.delivery->message.message_id;

	if (part->n == 1)
		errcontext("handler of sqsbridge queue \"%s\", message %.*s",
				   sqs_session.channel->shared->queue, (int) id.len, id.data);
	else
		errcontext("handler of sqsbridge queue \"%s\", batch of %d messages that begins with %.*s",
				   sqs_session.channel->shared->queue, part->n, (int) id.len, id.data);
}

/* Each of the messages has ended by this error. */
static void
fail_each(BatchItem **part, int n, ErrorData *edata, const SqsVerdict *verdict)
{
	uint32		micros = micros_each(n);

	for (int i = 0; i < n; i++)
	{
		SqsResult	result;
		ErrorData	copy = *edata;

		init_result(&result, SQS_OUTCOME_SKIPPED);
		if (!has_failed(part[i]->task.delivery->frame.chain))
		{
			part[i]->task.tries = PG_INT32_MAX; /* not to be run again at once */
			(void) sqs_task_failed(&part[i]->task, &copy, verdict, SQS_PHASE_RUN, &result);
		}
		result.micros = micros;
		settle(part[i], &result);
	}
}

/* What an error in this phase means for the messages. */
static PartEnd
part_failed(BatchItem **part, int n, ErrorData *edata, const SqsVerdict *verdict,
			SqsPhase phase, int attempt)
{
	SqsResult	result;

	init_result(&result, sqs_session_interrupted(SQS_OUTCOME_DONE));
	if (result.outcome == SQS_OUTCOME_LOST)
	{
		/* the lease of one of them: the others can go on */
		sqs_handler_outlive_lost_leases();
		return PART_AGAIN;
	}
	if (result.outcome == SQS_OUTCOME_DONE && phase == SQS_PHASE_INBOX && !some_are_known &&
		edata->sqlerrcode == ERRCODE_UNIQUE_VIOLATION)
	{
		/* some have been handled before, which was not to be expected */
		some_are_known = true;
		return PART_AGAIN;
	}
	if (n > 1 && result.outcome == SQS_OUTCOME_DONE && phase >= SQS_PHASE_INBOX)
	{
		bool		has_verdict = verdict->kind != SQS_VERDICT_NONE && !sqs_session.timed_out;
		SqsErrorAction action = sqs_error_rule(handling->rules,
											   sqs_session.timed_out ? ERRCODE_QUERY_CANCELED :
											   edata->sqlerrcode).action;

		/* a retry, or a pause, is for all of them */
		if (has_verdict ? verdict->kind == SQS_VERDICT_RETRY :
			phase == SQS_PHASE_RUN && action == SQS_ACTION_PAUSE)
		{
			fail_each(part, n, edata, verdict);
			return PART_SETTLED;
		}
		if (!has_verdict && action == SQS_ACTION_RETRY_NOW && attempt < MAX_TRIES &&
			!sqs_session.timed_out)
		{
			sqs_session_count(SQS_RETRIED_NOW);
			sqs_task_pause_before_try(attempt);
			return PART_AGAIN;
		}
		if (phase == SQS_PHASE_RUN || action == SQS_ACTION_RETRY_NOW ||
			edata->sqlerrcode == ERRCODE_QUERY_CANCELED)
			return PART_SPLIT;
	}

	/* what keeps one message from being run keeps all of them */
	if (result.outcome == SQS_OUTCOME_DONE &&
		!sqs_task_failed(&part[0]->task, edata, verdict, phase, &result))
		return PART_AGAIN;
	if (is_deferred(result.outcome))
	{
		stop_batch(&result);
		return PART_AGAIN;
	}
	result.micros = micros_each(1);
	settle(part[0], &result);
	return n > 1 ? PART_AGAIN : PART_SETTLED;
}

/* One attempt to run the messages together. */
static PartEnd
try_part(BatchItem **part, int n, int attempt)
{
	volatile SqsPhase phase = SQS_PHASE_RESOLVE;
	volatile PartEnd end = PART_SETTLED;
	Part		context = {part, n};
	ErrorContextCallback callback;
	ErrorContextCallback *previous = error_context_stack;
	SqsSlice	id = part[0]->task.delivery->message.message_id;

	callback.callback = batch_error_context;
	callback.arg = &context;
	callback.previous = previous;

	sqs_handler_begin_part(psprintf("sqsbridge: %.*s, queue %s, %d messages from %.*s",
									(int) handler_of(part[0]).len, handler_of(part[0]).data,
									sqs_session.channel->shared->queue, n, (int) id.len, id.data));
	for (int i = 0; i < n; i++)
		part[i]->task.tries++;
	sqs_handler_forget_attempt();
	PG_TRY();
	{
		error_context_stack = &callback;
		run_transaction(part, n, &phase);
		error_context_stack = previous;
	}
	PG_CATCH();
	{
		SqsVerdict	verdict;
		ErrorData  *edata;

		error_context_stack = previous;
		edata = sqs_handler_catch(&verdict);
		end = part_failed(part, n, edata, &verdict, phase, attempt);
	}
	PG_END_TRY();

	sqs_session_clean();
	return end;
}

/* ---- the batch ---- */

/* So many messages were run at once, and have committed or not. */
static void
adapt(int n, bool committed)
{
	if (!committed)
	{
		piece_size = Max(SMALLEST_PIECE, n / SQS_BATCH_PARTS);
		pieces_left = PIECES_BEFORE_GROWTH;
	}
	else if (piece_size > 0 && n >= piece_size && --pieces_left <= 0)
	{
		piece_size *= 2;
		if (piece_size > LARGEST_PIECE)
			piece_size = 0;
	}
}

/*
 * Look up what is recorded of a message that has been delivered before.  Returns
 * true if it need not be run.
 */
static bool
begin_item(BatchItem *item, SqsResult *result)
{
	item->begun = true;
	sqs_result_init(result);
	return sqs_task_begin(&item->task, result);
}

/*
 * Those of the messages that can be run.  What becomes of the others is known,
 * and reported.
 */
static int
runnable(BatchItem *from, int n, BatchItem **part)
{
	int			nrunnable = 0;

	for (int i = 0; i < n; i++)
	{
		SqsResult	result;

		if (from[i].settled)
			continue;
		if (is_over)
		{
			result = over_result;
			settle(&from[i], &result);
		}
		else if (has_failed(from[i].task.delivery->frame.chain))
		{
			init_result(&result, SQS_OUTCOME_SKIPPED);
			settle(&from[i], &result);
		}
		else if (sqs_session_lease_has_ended(from[i].task.delivery))
		{
			init_result(&result, SQS_OUTCOME_LOST);
			settle(&from[i], &result);
		}
		else if (!from[i].begun && begin_item(&from[i], &result))
		{
			/* what is to be run later keeps all behind it waiting */
			if (is_deferred(result.outcome))
				stop_batch(&result);
			settle(&from[i], &result);
		}
		else
			part[nrunnable++] = &from[i];
	}
	return nrunnable;
}

/* If this process is to exit, run nothing more. */
static void
check_stop(void)
{
	SqsResult	result;

	if (is_over || !sqs_handler_must_stop())
		return;
	init_result(&result, SQS_OUTCOME_NOT_RUN);
	stop_batch(&result);
}

/*
 * Run these messages until all of them are settled.  If that is not possible
 * together, run each eighth of them in this way.
 */
static void
run_part(BatchItem *from, int n)
{
	BatchItem **part = MemoryContextAlloc(batch_context, n * sizeof(BatchItem *));
	PartEnd		end = PART_AGAIN;
	int			size;

	for (int attempt = 1; end == PART_AGAIN; attempt++)
	{
		int			nrunnable;

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(sqs_session.message_context);
		MemoryContextReset(sqs_session.message_context);
		check_stop();
		nrunnable = runnable(from, n, part);
		if (nrunnable == 0)
			break;
		end = try_part(part, nrunnable, attempt);
		if (nrunnable > 1 && end != PART_AGAIN)
			adapt(nrunnable, end == PART_SETTLED);
	}
	sqs_results_announce();
	pfree(part);
	if (end != PART_SPLIT)
		return;

	sqs_session_count(SQS_BATCH_SPLITS);
	size = (n + SQS_BATCH_PARTS - 1) / SQS_BATCH_PARTS;
	for (int i = 0; i < n; i += size)
		run_part(from + i, Min(size, n - i));
}

/* Run these messages, as many at once as seems right. */
static void
run_pieces(BatchItem *from, int n)
{
	for (int i = 0; i < n;)
	{
		int			piece = piece_size > 0 ? Min(piece_size, n - i) : n - i;

		run_part(from + i, piece);
		i += piece;
	}
}

/* ---- routes ---- */

/* The name of the function that a message is for. */
static SqsSlice
handler_of(const BatchItem *item)
{
	SqsSlice	name = item->task.delivery->handler;

	if (item->route != NULL)
	{
		name.data = item->route->handler.name;
		name.len = strlen(name.data);
	}
	return name;
}

static bool
takes_batches(const BatchItem *item)
{
	SqsSlice	name = handler_of(item);

	return !item->is_single &&
		sqs_handler_takes_batches(pnstrdup(name.data, name.len));
}

/*
 * Find the routes of the messages, in a transaction of our own.  One that takes
 * too long, or is damaged, is not run together with others, and so fails alone.
 */
static void
find_routes(BatchItem *from, int n)
{
	volatile int i = 0;

	while (i < n)
	{
		sqs_handler_forget_attempt();
		PG_TRY();
		{
			sqs_session_begin();
			for (; i < n; i++)
			{
				SqsTask    *task = &from[i].task;

				CHECK_FOR_INTERRUPTS();
				if (task->routing == NULL || from[i].settled)
					continue;
				sqs_handler_limit_time(task->delivery);
				task->is_open = false;
				sqs_handler_open_message(task);
				from[i].route = task->routed.route;
				from[i].is_single = task->content.for_nobody ||
					(task->routed.unroutable &&
					 task->routing->unroutable != SQS_UNROUTABLE_HANDLER);
			}
			sqs_handler_committed();
			sqs_session_end();
		}
		PG_CATCH();
		{
			SqsVerdict	verdict;

			(void) sqs_handler_catch(&verdict);
			from[i++].is_single = true;
		}
		PG_END_TRY();
	}
}

/*
 * How many of the messages go to the function of the first one together.  Without
 * message groups, those that do are moved to the front.
 */
static int
cut_by_route(BatchItem *from, int n)
{
	int			same = 1;

	if (!takes_batches(&from[0]))
		return 1;
	for (int i = 1; i < n; i++)
	{
		if (from[i].route == from[0].route && !from[i].is_single)
		{
			BatchItem	item = from[i];

			memmove(&from[same + 1], &from[same], (i - same) * sizeof(BatchItem));
			from[same++] = item;
		}
		else if (from[0].task.delivery->frame.chain != 0)
			break;
	}
	return same;
}

/* Run a message whose function does not take batches. */
static void
run_single(BatchItem *item)
{
	SqsResult	result;
	BatchItem  *part;

	MemoryContextSwitchTo(sqs_session.message_context);
	MemoryContextReset(sqs_session.message_context);
	check_stop();
	if (runnable(item, 1, &part) == 0)
		return;
	sqs_result_init(&result);
	item->task.is_open = false;
	sqs_handler_run_alone(&item->task, &result);
	if (result.outcome == SQS_OUTCOME_LOST)
		sqs_handler_outlive_lost_leases();
	if (is_deferred(result.outcome))
		stop_batch(&result);
	result.micros = micros_each(1);
	settle(item, &result);
	sqs_session_clean();
}

int
sqs_batch_run(uint64 from)
{
	BatchItem  *first = items;
	int			n = nitems;
	uint64		change = 0;
	SqsResult	result;

	while (n > 0 && first->task.delivery->frame.seq < from)
	{
		first++;
		n--;
	}
	settled_at = sqs_monotonic_us();
	is_over = some_are_known = false;
	failed_chains = MemoryContextAlloc(batch_context, n * sizeof(uint32));
	nfailed_chains = 0;

	/* one configuration for all of them */
	for (int i = 0; i < n; i++)
		change = Max(change, first[i].task.delivery->frame.change);
	for (int i = 0; i < n; i++)
		first[i].task.delivery->frame.change = change;
	MemoryContextSwitchTo(sqs_session.message_context);
	sqs_result_init(&result);
	handling = sqs_task_handling(&first->task, &result);
	if (handling == NULL)
		stop_batch(&result);

	if (!is_over && handling->routing != NULL && handling->routing->route_by != NULL)
	{
		BatchItem **part = palloc(n * sizeof(BatchItem *));

		(void) runnable(first, n, part);	/* looks them up */
		find_routes(first, n);
		for (int i = 0; i < n;)
		{
			int			same = cut_by_route(first + i, n - i);

			if (takes_batches(first + i))
				run_pieces(first + i, same);
			else
				run_single(first + i);
			i += same;
		}
	}
	else
		run_pieces(first, n);
	sqs_results_announce();
	return n;
}
