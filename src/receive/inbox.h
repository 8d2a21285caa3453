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

/* Take the lock that sqs_inbox_insert() needs. */
extern void sqs_inbox_lock(void);

/* Record in the current transaction that this message is handled. */
extern bool sqs_inbox_insert(int32 queue_id, const char *message_key, TimestampTz stamp,
							 bool likely_new);

/* The same for its business key. */
extern bool sqs_inbox_insert_key(int32 queue_id, const char *key, TimestampTz stamp);

#endif							/* SQSBRIDGE_INBOX_H */
