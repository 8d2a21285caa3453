/*-------------------------------------------------------------------------
 *
 * inbox.h
 *	  The rows of the inbox: which messages have been handled.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_INBOX_H
#define SQSBRIDGE_INBOX_H

#include "utils/timestamp.h"

/*
 * Take the lock that sqs_inbox_insert() needs.  A separate function, so that
 * the caller can distinguish a wait for a lock on the table from a wait for
 * another transaction with the same message.
 */
extern void sqs_inbox_lock(void);

/*
 * Record in the current transaction that this message is handled.  Waits for a
 * concurrent transaction that does the same.  Returns false if the message has
 * been handled before; then its row gets the newer stamp.
 */
extern bool sqs_inbox_insert(int32 queue_id, const char *message_key, TimestampTz stamp);

#endif							/* SQSBRIDGE_INBOX_H */
