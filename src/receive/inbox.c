/*-------------------------------------------------------------------------
 *
 * inbox.c
 *	  The rows of the inbox: which messages have been handled.
 *
 * A handler worker is connected as the queue's owner, a role that must not be
 * able to write to the inbox, because a forged row would make a message vanish
 * unhandled.  So rows are written by table_writer.c, without any privilege of
 * the session.
 *
 * Inserting into the inbox is the whole duplicate check: it waits for a
 * concurrent transaction with the same message, and inserts nothing if the
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

/*
 * Take the lock that sqs_inbox_insert() needs.  A separate function, so that
 * the caller can distinguish a wait for a lock on the table from a wait for
 * another transaction with the same message.
 */
void
sqs_inbox_lock(void)
{
	LockRelationOid(sqs_table_oid(SQS_TABLE_INBOX), RowExclusiveLock);
}

/*
 * Insert a row; see sqs_inbox_insert().  "key" is the table's own key, "tid" is
 * set to the new row.
 */
static bool
insert(SqsWriter *writer, List *key, int32 queue_id, const char *message_key,
	   TimestampTz stamp, bool likely_new, ItemPointer new_tid)
{
	Datum		values[INBOX_NATTS];
	bool		nulls[INBOX_NATTS] = {false};
	ItemPointerData tid;
	bool		inserted;

	values[INBOX_QUEUE_ID] = Int32GetDatum(queue_id);
	values[INBOX_MESSAGE_KEY] = CStringGetTextDatum(message_key);
	values[INBOX_STAMP] = TimestampTzGetDatum(stamp);

	/*
	 * Only a conflict in the table's own key makes a message a duplicate.
	 *
	 * That a message comes back shows that its last deletion had no effect,
	 * whatever SQS said.  So it now depends on this delivery how long the row
	 * is needed, and it gets this delivery's stamp.  If the row changes in
	 * the meantime, look it up again; if another transaction is just changing
	 * it, leave it.
	 */
	while (!(inserted = sqs_writer_insert_new(writer, values, nulls, key, likely_new,
											  &tid)))
	{
		Datum		old[INBOX_NATTS];
		bool		old_nulls[INBOX_NATTS];

		likely_new = false;
		if (!sqs_writer_read(writer, &tid, old, old_nulls))
			continue;
		if (DatumGetTimestampTz(old[INBOX_STAMP]) >= stamp ||
			sqs_writer_update(writer, &tid, values, nulls, false) != SQS_WRITE_GONE)
			break;
	}
	*new_tid = tid;
	return inserted;
}

/*
 * Record in the current transaction that this message is handled.  Waits for
 * a concurrent transaction that does the same.  Returns false if the message
 * has been handled before; its row then gets the newer stamp.  likely_new: it
 * probably has not.
 */
bool
sqs_inbox_insert(int32 queue_id, const char *message_key, TimestampTz stamp,
				 bool likely_new)
{
	SqsWriter  *writer = sqs_writer_open(SQS_TABLE_INBOX);
	List	   *key = list_make1_oid(sqs_index_oid(SQS_INDEX_INBOX_PKEY));
	ItemPointerData tid;
	bool		inserted = insert(writer, key, queue_id, message_key, stamp, likely_new, &tid);

	sqs_writer_close(writer);
	return inserted;
}

/*
 * Record in the current transaction that a message with this business key is
 * handled.  Waits for a concurrent transaction that does the same.  Returns false
 * if one has been handled before.  That row is left alone: it is about the
 * message that was handled, not about the one that has come now.
 */
bool
sqs_inbox_insert_key(int32 queue_id, const char *key, TimestampTz stamp)
{
	SqsWriter  *writer = sqs_writer_open(SQS_TABLE_INBOX);
	Datum		values[INBOX_NATTS];
	bool		nulls[INBOX_NATTS] = {false};
	bool		inserted;

	values[INBOX_QUEUE_ID] = Int32GetDatum(queue_id);
	values[INBOX_MESSAGE_KEY] = CStringGetTextDatum(key);
	values[INBOX_STAMP] = TimestampTzGetDatum(stamp);
	inserted = sqs_writer_insert_new(writer, values, nulls,
									 list_make1_oid(sqs_index_oid(SQS_INDEX_INBOX_PKEY)),
									 true, NULL);
	sqs_writer_close(writer);
	return inserted;
}

/* Insert messages that are all new; false if that is not possible at once. */
static bool
insert_all(SqsWriter *writer, int32 queue_id, SqsInboxEntry *const *entries, int n)
{
	Datum	   *values = palloc(n * INBOX_NATTS * sizeof(Datum));
	Datum	  **rows = palloc(n * sizeof(Datum *));
	ItemPointerData *tids = palloc(n * sizeof(ItemPointerData));
	bool		nulls[INBOX_NATTS] = {false};

	for (int i = 0; i < n; i++)
	{
		rows[i] = values + i * INBOX_NATTS;
		rows[i][INBOX_QUEUE_ID] = Int32GetDatum(queue_id);
		rows[i][INBOX_MESSAGE_KEY] = CStringGetTextDatum(entries[i]->key);
		rows[i][INBOX_STAMP] = TimestampTzGetDatum(entries[i]->stamp);
	}
	if (!sqs_writer_insert_many(writer, rows, n, nulls, tids))
		return false;
	for (int i = 0; i < n; i++)
		entries[i]->tid = tids[i];
	return true;
}

/*
 * A message that is twice in the batch, because SQS has delivered it twice, is
 * new once, and its row has the newer stamp.
 */
void
sqs_inbox_insert_batch(int32 queue_id, SqsInboxEntry *const *entries, int n, bool all_new)
{
	SqsWriter  *writer = sqs_writer_open(SQS_TABLE_INBOX);
	List	   *key = list_make1_oid(sqs_index_oid(SQS_INDEX_INBOX_PKEY));
	SqsInboxEntry **distinct = palloc(n * sizeof(SqsInboxEntry *));
	int			ndistinct = 0;

	for (int i = 0; i < n; i++)
	{
		SqsInboxEntry *last = ndistinct > 0 ? distinct[ndistinct - 1] : NULL;

		entries[i]->is_new = last == NULL || strcmp(last->key, entries[i]->key) != 0;
		if (entries[i]->is_new)
			distinct[ndistinct++] = entries[i];
		else
			last->stamp = Max(last->stamp, entries[i]->stamp);
	}
	if (!all_new || !insert_all(writer, queue_id, distinct, ndistinct))
	{
		for (int i = 0; i < ndistinct; i++)
			distinct[i]->is_new = insert(writer, key, queue_id, distinct[i]->key,
										 distinct[i]->stamp, all_new, &distinct[i]->tid);
	}
	sqs_writer_close(writer);
}

/* The row is of this transaction, but of an earlier command. */
void
sqs_inbox_delete(ItemPointer tid)
{
	SqsWriter  *writer = sqs_writer_open(SQS_TABLE_INBOX);

	if (sqs_writer_delete(writer, tid, false) != SQS_WRITTEN)
		elog(ERROR, "could not take a message out of the inbox");
	sqs_writer_close(writer);
}
