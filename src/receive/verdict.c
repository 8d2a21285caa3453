/*-------------------------------------------------------------------------
 *
 * verdict.c
 *	  What a handler says is to become of its message.
 *
 * A handler ends with a verdict by calling sqs_retry(), sqs_dead_letter() or
 * sqs_discard(), from wherever it is.  These raise an error, so that everything that the handler has
 * done is rolled back, and set a flag of the process.  It is the flag that
 * counts, not the error:
 *
 *	- A handler may catch the error (WHEN OTHERS, a savepoint, another
 *	  language's try).  When it returns, the error is raised again.
 *	- If another error follows, the verdict holds.  So does the first one of
 *	  several.
 *	- An error with such an SQLSTATE that comes from elsewhere, such as a
 *	  foreign server where somebody discards messages, means nothing here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "common/int.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/sqlstates.h"
#include "receive/verdict.h"

#define RETRY_DELAY_MAX		(12 * SECS_PER_HOUR)	/* SQS: 12 hours */

PG_FUNCTION_INFO_V1(sqs_retry);
PG_FUNCTION_INFO_V1(sqs_dead_letter);
PG_FUNCTION_INFO_V1(sqs_discard);

static MemoryContext verdict_context = NULL;	/* NULL: no handler is running */
static SqsVerdict verdict;

void
sqs_verdict_begin(MemoryContext context)
{
	verdict_context = context;
	verdict.kind = SQS_VERDICT_NONE;
}

SqsVerdict
sqs_verdict_end(void)
{
	SqsVerdict	given = verdict;

	if (verdict_context == NULL)
		given.kind = SQS_VERDICT_NONE;
	verdict_context = NULL;
	verdict.kind = SQS_VERDICT_NONE;
	return given;
}

void
sqs_verdict_save(SqsVerdictState *state)
{
	state->context = verdict_context;
	state->verdict = verdict;
}

void
sqs_verdict_restore(const SqsVerdictState *state)
{
	verdict_context = state->context;
	verdict = state->verdict;
}

int
sqs_verdict_sqlstate(SqsVerdictKind kind)
{
	return kind == SQS_VERDICT_RETRY ? ERRCODE_SQS_RETRY :
		kind == SQS_VERDICT_DEAD_LETTER ? ERRCODE_SQS_DEAD_LETTER : ERRCODE_SQS_DISCARD;
}

void
sqs_verdict_raise(void)
{
	if (verdict_context != NULL && verdict.kind != SQS_VERDICT_NONE)
		ereport(ERROR,
				(errcode(sqs_verdict_sqlstate(verdict.kind)),
				 errmsg_internal("%s", verdict.reason)));
}

/* reason may be NULL.  A second verdict has no effect but its error. */
static void
give(const char *function, SqsVerdictKind kind, int delay, bool charge, const text *reason)
{
	if (verdict_context == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s() can only be called by a handler, while it handles a message", function)));
	if (verdict.kind == SQS_VERDICT_NONE)
	{
		MemoryContext old = MemoryContextSwitchTo(verdict_context);

		verdict.reason = reason != NULL ? text_to_cstring(reason) :
			psprintf("the handler called %s()", function);
		MemoryContextSwitchTo(old);
		verdict.delay = delay;
		verdict.charge = charge;
		verdict.kind = kind;
	}
	sqs_verdict_raise();
}

/* A delay in seconds, rounded up.  Raises an ERROR if it is out of range. */
static int
retry_delay(const Interval *interval, const char *where)
{
	int64		micros;
	bool		legal;

	/* months have no fixed length; an infinite interval has months, too */
	legal = interval->month == 0 &&
		!pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &micros) &&
		!pg_add_s64_overflow(micros, interval->time, &micros) &&
		micros >= 0 && micros <= RETRY_DELAY_MAX * USECS_PER_SEC;
	if (!legal)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid delay for %s: \"%s\"", where,
						DatumGetCString(DirectFunctionCall1(interval_out,
															IntervalPGetDatum(interval)))),
				 errdetail("The delay must be 0 to 12 hours.")));
	return (int) ((micros + USECS_PER_SEC - 1) / USECS_PER_SEC);
}

/* ---- verdicts that a batch handler returns ---- */

/* Columns of type sqs_verdict. */
enum
{
	VERDICT_MESSAGE_ID, VERDICT_ACTION, VERDICT_DELAY, VERDICT_REASON, VERDICT_NATTS
};

/* The columns of type sqs_verdict. */
TupleDesc
sqs_verdict_tupdesc(void)
{
	static TupleDesc tupdesc = NULL;

	if (tupdesc == NULL)
	{
		TupleDesc	found = lookup_rowtype_tupdesc_copy(sqs_verdict_type_oid(), -1);
		MemoryContext old;

		if (found->natts != VERDICT_NATTS)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("type \"sqs_verdict\" does not have the attributes this version of sqsbridge expects"),
					 errhint("Run ALTER EXTENSION sqsbridge UPDATE.")));
		old = MemoryContextSwitchTo(TopMemoryContext);
		tupdesc = CreateTupleDescCopy(found);
		MemoryContextSwitchTo(old);
	}
	return tupdesc;
}

SqsVerdict *
sqs_verdict_from_row(const Datum *values, const bool *nulls)
{
	SqsVerdict *given = palloc0(sizeof(SqsVerdict));
	char	   *action;

	if (nulls[VERDICT_MESSAGE_ID])
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("message_id of a verdict of the handler is null")));
	given->message_id = TextDatumGetCString(values[VERDICT_MESSAGE_ID]);
	action = nulls[VERDICT_ACTION] ? NULL : TextDatumGetCString(values[VERDICT_ACTION]);
	if (action != NULL && strcmp(action, "retry") == 0)
		given->kind = SQS_VERDICT_RETRY;
	else if (action != NULL && strcmp(action, "discard") == 0)
		given->kind = SQS_VERDICT_DISCARD;
	else if (action != NULL && strcmp(action, "dead_letter") == 0)
		given->kind = SQS_VERDICT_DEAD_LETTER;
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid action in the verdict of the handler for message \"%s\": %s",
						given->message_id, action == NULL ? "null" : psprintf("\"%s\"", action)),
				 errdetail("The action must be retry, dead_letter, or discard.")));
	given->delay = -1;
	given->charge = true;
	if (!nulls[VERDICT_DELAY])
	{
		if (given->kind != SQS_VERDICT_RETRY)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("delay in the verdict of the handler for message \"%s\", whose action is %s",
							given->message_id, action),
					 errdetail("Only a retry can have a delay.")));
		given->delay = retry_delay(DatumGetIntervalP(values[VERDICT_DELAY]),
								   psprintf("message \"%s\"", given->message_id));
	}
	given->reason = nulls[VERDICT_REASON] ?
		psprintf("the handler returned %s for the message", action) :
		TextDatumGetCString(values[VERDICT_REASON]);
	return given;
}

SqsVerdict *
sqs_verdict_from_datum(Datum value)
{
	/*
	 * as in sqs_send_batch(): DatumGetHeapTupleHeader() came with a minor
	 * release
	 */
	HeapTupleHeader header = (HeapTupleHeader) PG_DETOAST_DATUM(value);
	HeapTupleData tuple;
	Datum		values[VERDICT_NATTS];
	bool		nulls[VERDICT_NATTS];

	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	heap_deform_tuple(&tuple, sqs_verdict_tupdesc(), values, nulls);
	return sqs_verdict_from_row(values, nulls);
}

/* ---- SQL functions ---- */

/*
 * sqs_retry(delay, reason, charge): never returns.  The delay is rounded up to
 * whole seconds; NULL stands for the queue's.
 */
Datum
sqs_retry(PG_FUNCTION_ARGS)
{
	int			delay = -1;

	if (!PG_ARGISNULL(0))
		delay = retry_delay(PG_GETARG_INTERVAL_P(0), "sqs_retry()");
	give("sqs_retry", SQS_VERDICT_RETRY, delay, PG_ARGISNULL(2) || PG_GETARG_BOOL(2),
		 PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1));
	PG_RETURN_VOID();
}

/* sqs_dead_letter(reason): never returns. */
Datum
sqs_dead_letter(PG_FUNCTION_ARGS)
{
	give("sqs_dead_letter", SQS_VERDICT_DEAD_LETTER, -1, true,
		 PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0));
	PG_RETURN_VOID();
}

/* sqs_discard(reason): never returns. */
Datum
sqs_discard(PG_FUNCTION_ARGS)
{
	give("sqs_discard", SQS_VERDICT_DISCARD, -1, true,
		 PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0));
	PG_RETURN_VOID();
}
