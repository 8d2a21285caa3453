/*-------------------------------------------------------------------------
 *
 * inbox.c
 *	  The rows of the inbox: what has been handled.
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

#include "access/htup_details.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/table_writer.h"
#include "receive/inbox.h"

void
sqs_inbox_lock(void)
{
	LockRelationOid(sqs_table_oid(SQS_TABLE_INBOX), RowExclusiveLock);
}

bool
sqs_inbox_insert(int32 queue_id, const char *message_key, TimestampTz stamp)
{
	SqsWriter  *writer = sqs_writer_open(SQS_TABLE_INBOX);
	Datum		values[INBOX_NATTS];
	bool		nulls[INBOX_NATTS] = {false};
	List	   *key = list_make1_oid(sqs_index_oid(SQS_INDEX_INBOX_PKEY));
	ItemPointerData tid;
	bool		inserted;

	values[INBOX_QUEUE_ID] = Int32GetDatum(queue_id);
	values[INBOX_MESSAGE_KEY] = CStringGetTextDatum(message_key);
	values[INBOX_STAMP] = TimestampTzGetDatum(stamp);

	/*
	 * Only the table's own key says that a message is a duplicate.
	 *
	 * A message that comes back shows that its last deletion did not count,
	 * whatever SQS said.  From now on it depends on this delivery for how long
	 * the row is needed.  A row that changes while we look is looked up again;
	 * one that somebody is just changing is left to him.
	 */
	while (!(inserted = sqs_writer_insert_new(writer, values, nulls, key, &tid)))
	{
		Datum		old[INBOX_NATTS];
		bool		old_nulls[INBOX_NATTS];

		if (!sqs_writer_read(writer, &tid, old, old_nulls))
			continue;
		if (DatumGetTimestampTz(old[INBOX_STAMP]) >= stamp ||
			sqs_writer_update(writer, &tid, values, nulls, false) != SQS_WRITE_GONE)
			break;
	}
	sqs_writer_close(writer);
	return inserted;
}
