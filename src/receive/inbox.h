/*-------------------------------------------------------------------------
 *
 * inbox.h
 *	  The rows of the inbox: which messages have been handled.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_INBOX_H
#define SQSBRIDGE_INBOX_H

#include "storage/itemptr.h"
#include "utils/timestamp.h"

/* Take the lock that sqs_inbox_insert() needs. */
extern void sqs_inbox_lock(void);

/* A message of a batch. */
typedef struct SqsInboxEntry
{
	const char *key;
	TimestampTz stamp;
	int			place;			/* in the batch */
	bool		is_new;			/* it had not been handled, and has a row now */
	ItemPointerData tid;		/* its row, if it is new */
} SqsInboxEntry;

/*
 * The same for a batch, which is sorted by key, then by place; sets is_new and
 * tid of each.  With all_new, it is faster, but a unique_violation if one of them
 * is not new.
 */
extern void sqs_inbox_insert_batch(int32 queue_id, SqsInboxEntry *const *entries, int n,
								   bool all_new);

/* Take back in the same transaction that a message is handled. */
extern void sqs_inbox_delete(ItemPointer tid);

/* Record in the current transaction that this message is handled. */
extern bool sqs_inbox_insert(int32 queue_id, const char *message_key, TimestampTz stamp,
							 bool likely_new);

/* The same for its business key. */
extern bool sqs_inbox_insert_key(int32 queue_id, const char *key, TimestampTz stamp);

#endif							/* SQSBRIDGE_INBOX_H */
