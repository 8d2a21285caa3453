/*-------------------------------------------------------------------------
 *
 * attempts.c
 *	  How often a message has failed.
 *
 * There is a row per message that has failed and is not done with.  It is
 * written in the transaction that records a failure, and removed in the one that
 * ends the message.  SQS's own count (ApproximateReceiveCount) does not serve:
 * it is approximate, and counts deliveries that were nobody's failure.
 *
 * The key is SQS's id of the message.  A message that somebody sends again gets
 * a new id, and a new count.
 *
 * A message that has not been received before has no row, so none is looked up.
 * Rows are read in transactions of their own, which are READ COMMITTED: a
 * serializable transaction of a handler would have to fail with others that
 * happen to write neighboring rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/table_writer.h"
#include "receive/attempts.h"

static Datum
slice_datum(SqsSlice slice)
{
	return PointerGetDatum(cstring_to_text_with_len(slice.data, slice.len));
}

/* The reverse of unpack_sql_state(). */
static int
pack_sqlstate(const char *text)
{
	return strlen(text) == 5 ? MAKE_SQLSTATE(text[0], text[1], text[2], text[3], text[4]) : 0;
}

static void
copy_row(const Datum *values, SqsAttempts *attempts)
{
	attempts->found = true;
	attempts->attempts = DatumGetInt32(values[ATTEMPT_ATTEMPTS]);
	attempts->last_receive_count = DatumGetInt32(values[ATTEMPT_LAST_RECEIVE_COUNT]);
	attempts->first_failed_at = DatumGetTimestampTz(values[ATTEMPT_FIRST_FAILED_AT]);
	attempts->last_sqlstate = pack_sqlstate(TextDatumGetCString(values[ATTEMPT_LAST_SQLSTATE]));
	attempts->marks = DatumGetInt32(values[ATTEMPT_MARKS]);
}

/* Needs a transaction with an active snapshot, which must be READ COMMITTED. */
void
sqs_attempts_read(int32 queue_id, SqsSlice message_id, SqsAttempts *attempts)
{
	Relation	rel = sqs_table_open(SQS_TABLE_ATTEMPTS, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	memset(attempts, 0, sizeof(SqsAttempts));
	ScanKeyInit(&keys[0], ATTEMPT_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(queue_id));
	ScanKeyInit(&keys[1], ATTEMPT_MESSAGE_ID + 1, BTEqualStrategyNumber, F_TEXTEQ,
				slice_datum(message_id));
	scan = systable_beginscan(rel, sqs_index_oid(SQS_INDEX_ATTEMPTS_PKEY), true,
							  GetActiveSnapshot(), 2, keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Datum		values[ATTEMPT_NATTS];
		bool		nulls[ATTEMPT_NATTS];

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		copy_row(values, attempts);
		attempts->tid = tuple->t_self;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* What is to be changed in the row of a message, or in a new one. */
typedef struct Change
{
	int			attempts;		/* to be added */
	int			receive_count;	/* -1: unchanged */
	int			sqlstate;		/* 0: unchanged */
	int			marks;			/* new value */
} Change;

/*
 * Change the row of a message, or insert one, and return its new values, which
 * has room for ATTEMPT_NATTS.
 */
static void
change_row(int32 queue_id, SqsSlice message_id, bool likely_new, const Change *change,
		   Datum *values)
{
	SqsWriter  *writer = sqs_writer_open(SQS_TABLE_ATTEMPTS);
	List	   *key = list_make1_oid(sqs_index_oid(SQS_INDEX_ATTEMPTS_PKEY));
	TimestampTz now = GetCurrentTimestamp();
	bool		nulls[ATTEMPT_NATTS] = {false};
	ItemPointerData tid;

	values[ATTEMPT_QUEUE_ID] = Int32GetDatum(queue_id);
	values[ATTEMPT_MESSAGE_ID] = slice_datum(message_id);
	values[ATTEMPT_ATTEMPTS] = Int32GetDatum(change->attempts);
	values[ATTEMPT_LAST_RECEIVE_COUNT] = Int32GetDatum(Max(change->receive_count, 0));
	values[ATTEMPT_FIRST_FAILED_AT] = TimestampTzGetDatum(now);
	values[ATTEMPT_LAST_FAILED_AT] = TimestampTzGetDatum(now);
	values[ATTEMPT_LAST_SQLSTATE] = CStringGetTextDatum(unpack_sql_state(change->sqlstate));
	values[ATTEMPT_MARKS] = Int32GetDatum(change->marks);
	values[ATTEMPT_MARKED_AT] = TimestampTzGetDatum(now);
	nulls[ATTEMPT_MARKED_AT] = change->marks == 0;

	while (!sqs_writer_insert_new(writer, values, nulls, key, likely_new, &tid))
	{
		Datum		old[ATTEMPT_NATTS];
		bool		old_nulls[ATTEMPT_NATTS];

		likely_new = false;
		if (!sqs_writer_read(writer, &tid, old, old_nulls))
			continue;
		values[ATTEMPT_ATTEMPTS] = Int32GetDatum(DatumGetInt32(old[ATTEMPT_ATTEMPTS]) +
												 change->attempts);
		values[ATTEMPT_FIRST_FAILED_AT] = old[ATTEMPT_FIRST_FAILED_AT];
		if (change->receive_count < 0)
			values[ATTEMPT_LAST_RECEIVE_COUNT] = old[ATTEMPT_LAST_RECEIVE_COUNT];
		if (change->sqlstate == 0)
			values[ATTEMPT_LAST_SQLSTATE] = old[ATTEMPT_LAST_SQLSTATE];
		if (sqs_writer_update(writer, &tid, values, nulls, true) != SQS_WRITE_GONE)
			break;
	}
	sqs_writer_close(writer);
}

/*
 * In the current transaction, which must be READ COMMITTED; *attempts becomes
 * what is recorded then.  Any mark is cleared, because this is an outcome.
 */
void
sqs_attempts_failed(int32 queue_id, SqsSlice message_id, int receive_count,
					int sqlstate, bool charged, SqsAttempts *attempts)
{
	Datum		values[ATTEMPT_NATTS];
	Change		change = {charged ? 1 : 0, receive_count, sqlstate, 0};

	change_row(queue_id, message_id, !attempts->found, &change, values);
	copy_row(values, attempts);
}

/* In the current transaction, as above; *attempts is what was recorded before. */
void
sqs_attempts_mark(int32 queue_id, SqsSlice message_id, const SqsAttempts *attempts)
{
	Datum		values[ATTEMPT_NATTS];
	Change		change = {0, -1, 0, attempts->marks + 1};

	change_row(queue_id, message_id, !attempts->found, &change, values);
}

/* In the current transaction, as above. */
void
sqs_attempts_unmark(int32 queue_id, SqsSlice message_id, int receive_count)
{
	Datum		values[ATTEMPT_NATTS];
	Change		change = {0, receive_count, 0, 0};

	change_row(queue_id, message_id, false, &change, values);
}

/* In the current transaction.  A row that has gone or changed is left alone. */
void
sqs_attempts_remove(const SqsAttempts *attempts)
{
	SqsWriter  *writer;

	if (!attempts->found)
		return;
	writer = sqs_writer_open(SQS_TABLE_ATTEMPTS);
	(void) sqs_writer_delete(writer, unconstify(ItemPointerData *, &attempts->tid), false);
	sqs_writer_close(writer);
}
