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

#include "aws/sqs_protocol.h"

/*
 * Take the lock that sqs_inbox_insert() needs, apart from it, so that the wait
 * for somebody's lock on the table can be told from the wait for another
 * transaction with the same message.
 */
extern void sqs_inbox_lock(void);

/*
 * Record in the current transaction that this message is handled.  Waits for
 * a transaction that is just doing the same.  False, and nothing is recorded,
 * if the message has been handled before.
 */
extern bool sqs_inbox_insert(int32 queue_id, const char *message_key);

/* Record a failed attempt in the current transaction. */
extern void sqs_failure_insert(int32 queue_id, const char *queue, Oid owner,
							   SqsSlice message_id, int receive_count,
							   ErrorData *edata, int handler_pid);

#endif							/* SQSBRIDGE_INBOX_H */
