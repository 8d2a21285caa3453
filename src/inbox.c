/*-------------------------------------------------------------------------
 *
 * inbox.c
 *	  The rows that workers write on the extension's behalf: what has been
 *	  handled, and what failed.
 *
 * A handler worker is connected as the queue's owner, who must not be able
 * to write the inbox: a forged row would make a message vanish unhandled.  So
 * rows are written by table_writer.c; the session gains no right by it.
 *
 * An insertion into the inbox is the whole duplicate check: it waits for a
 * concurrent transaction with the same message, and does nothing if the
 * message is there already.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "inbox.h"
#include "table_writer.h"

/* No text of an error is kept beyond this many bytes. */
#define FAILURE_TEXT_MAX	8192

void
sqs_inbox_lock(void)
{
	LockRelationOid(sqs_table_oid(SQS_TABLE_INBOX), RowExclusiveLock);
}

bool
sqs_inbox_insert(int32 queue_id, const char *message_key)
{
	SqsWriter  *writer = sqs_writer_open(SQS_TABLE_INBOX);
	Datum		values[INBOX_NATTS];
	bool		nulls[INBOX_NATTS] = {false};
	bool		inserted;

	values[INBOX_QUEUE_ID] = Int32GetDatum(queue_id);
	values[INBOX_MESSAGE_KEY] = CStringGetTextDatum(message_key);
	values[INBOX_STAMP] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());

	/* only the table's own key says that a message is a duplicate */
	inserted = sqs_writer_insert_new(writer, values, nulls,
									 list_make1_oid(sqs_index_oid(SQS_INDEX_INBOX_PKEY)));
	sqs_writer_close(writer);
	return inserted;
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
sqs_failure_insert(int32 queue_id, const char *queue, Oid owner, SqsSlice message_id,
				   int receive_count, ErrorData *edata, int handler_pid)
{
	SqsWriter  *writer;
	char	   *owner_name = GetUserNameFromId(owner, true);
	Datum		values[FAILED_NATTS];
	bool		nulls[FAILED_NATTS];

	memset(nulls, 0, sizeof(nulls));
	values[FAILED_QUEUE_ID] = Int32GetDatum(queue_id);
	values[FAILED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[FAILED_QUEUE] = CStringGetTextDatum(queue);
	values[FAILED_OWNER_OID] = ObjectIdGetDatum(owner);
	values[FAILED_OWNER] = CStringGetTextDatum(owner_name != NULL ? owner_name : "");
	values[FAILED_MESSAGE_ID] =
		PointerGetDatum(cstring_to_text_with_len(message_id.data, message_id.len));
	values[FAILED_RECEIVE_COUNT] = Int32GetDatum(receive_count);
	values[FAILED_SQLSTATE] = CStringGetTextDatum(unpack_sql_state(edata->sqlerrcode));
	set_text(&values[FAILED_MESSAGE], &nulls[FAILED_MESSAGE], edata->message);
	set_text(&values[FAILED_DETAIL], &nulls[FAILED_DETAIL], edata->detail);
	set_text(&values[FAILED_HINT], &nulls[FAILED_HINT], edata->hint);
	set_text(&values[FAILED_CONTEXT], &nulls[FAILED_CONTEXT], edata->context);
	values[FAILED_HANDLER_PID] = Int32GetDatum(handler_pid);

	writer = sqs_writer_open(SQS_TABLE_FAILURES);
	sqs_writer_insert(writer, values, nulls);
	sqs_writer_close(writer);
}
