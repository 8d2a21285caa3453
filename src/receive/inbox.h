/*-------------------------------------------------------------------------
 *
 * inbox.h
 *	  The rows that workers write on the extension's behalf: what has been
 *	  handled, and what failed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_INBOX_H
#define SQSBRIDGE_INBOX_H

#include "utils/relcache.h"
#include "utils/timestamp.h"

#include "aws/sqs_protocol.h"
#include "base/shmem.h"

/*
 * Take the lock that sqs_inbox_insert() needs, apart from it, so that the wait
 * for somebody's lock on the table can be told from the wait for another
 * transaction with the same message.
 */
extern void sqs_inbox_lock(void);

/*
 * Record in the current transaction that this message is handled.  Waits for
 * a transaction that is just doing the same.  False if the message has been
 * handled before: then its row has got the newer stamp.
 */
extern bool sqs_inbox_insert(int32 queue_id, const char *message_key, TimestampTz stamp);

/*
 * Record a failed attempt in the current transaction.  If the queue has
 * sqsbridge.max_failures of them, some of the oldest are deleted.
 */
extern void sqs_failure_insert(int32 queue_id, const char *queue, Oid owner,
							   SqsSlice message_id, int receive_count,
							   ErrorData *edata, int handler_pid);

/*
 * What is known of a queue's failures without looking: how many there are (-1:
 * not known) and that none of them is older than "from".  Rows that were
 * written or deleted by transactions that failed are miscounted until
 * somebody counts again.
 */
extern int64 sqs_failures_known(SqsQueueStats *stats);
extern TimestampTz sqs_failures_from(SqsQueueStats *stats);
extern void sqs_failures_set_known(SqsQueueStats *stats, int64 known);
extern void sqs_failures_set_unknown(SqsQueueStats *stats);
extern void sqs_failures_deleted(SqsQueueStats *stats, int n, TimestampTz from);
extern void sqs_failures_forget(SqsQueueStats *stats);

/* Count them, from a time on, as far as "most". */
extern int64 sqs_failures_count(Relation rel, Relation index, int32 queue_id,
								TimestampTz from, int64 most);

#endif							/* SQSBRIDGE_INBOX_H */
