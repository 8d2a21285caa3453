/*-------------------------------------------------------------------------
 *
 * inbox.c
 *	  The rows that workers write on the extension's behalf: what has been
 *	  handled, and what failed.
 *
 * A handler worker is connected as the queue's owner, who must not be able
 * to write sqs_inbox: a forged row would make a message vanish unhandled.
 * So the rows are inserted below the executor, where no privilege of the
 * session is asked and no trigger, rule or row security policy runs; the
 * owner's session gains no right by it.  It is also the cheapest way.
 *
 * An insertion into the inbox is the whole duplicate check: the unique index
 * waits for a concurrent transaction with the same message and refuses a
 * message that is there already.  The caller's error boundary turns that
 * refusal into "handled before".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "inbox.h"

/* No text of an error is kept beyond this many bytes. */
#define FAILURE_TEXT_MAX	8192

/* OID of sqs_inbox, which is not looked up for each message. */
static Oid	inbox_oid = InvalidOid;

static void
inbox_invalidated(Datum arg, Oid relid)
{
	if (relid == inbox_oid || relid == InvalidOid)
		inbox_oid = InvalidOid;
}

static Oid
find_inbox(void)
{
	static bool registered = false;

	if (!registered)
		CacheRegisterRelcacheCallback(inbox_invalidated, (Datum) 0);
	registered = true;
	if (!OidIsValid(inbox_oid))
		inbox_oid = sqs_relation_oid("sqs_inbox");
	return inbox_oid;
}

static void
insert_row(Oid relid, int natts, Datum *values, bool *nulls)
{
	Relation	rel = table_open(relid, RowExclusiveLock);
	HeapTuple	tuple;

	sqs_check_columns(rel, natts);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
}

void
sqs_inbox_insert(int32 queue_id, SqsSlice message_id)
{
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	values[0] = Int32GetDatum(queue_id);
	values[1] = PointerGetDatum(cstring_to_text_with_len(message_id.data, message_id.len));
	values[2] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	insert_row(find_inbox(), 3, values, nulls);
}

static void
set_text(Datum *value, bool *null, const char *text)
{
	if (text == NULL)
	{
		*null = true;
		return;
	}
	*value = PointerGetDatum(cstring_to_text_with_len(text,
													  pg_mbcliplen(text, strlen(text), FAILURE_TEXT_MAX)));
}

void
sqs_failure_insert(const char *queue, Oid owner, SqsSlice message_id,
				   int receive_count, ErrorData *edata, int handler_pid)
{
	Datum		values[11];
	bool		nulls[11];

	memset(nulls, 0, sizeof(nulls));
	values[0] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[1] = CStringGetTextDatum(queue);
	values[2] = ObjectIdGetDatum(owner);
	values[3] = PointerGetDatum(cstring_to_text_with_len(message_id.data, message_id.len));
	values[4] = Int32GetDatum(receive_count);
	values[5] = CStringGetTextDatum(unpack_sql_state(edata->sqlerrcode));
	set_text(&values[6], &nulls[6], edata->message);
	set_text(&values[7], &nulls[7], edata->detail);
	set_text(&values[8], &nulls[8], edata->hint);
	set_text(&values[9], &nulls[9], edata->context);
	values[10] = Int32GetDatum(handler_pid);
	insert_row(sqs_relation_oid("sqs_failures"), 11, values, nulls);
}
