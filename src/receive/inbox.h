/*-------------------------------------------------------------------------
 *
 * inbox.h
 *	  The rows of the inbox: what has been handled.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_INBOX_H
#define SQSBRIDGE_INBOX_H

#include "utils/timestamp.h"


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

#endif							/* SQSBRIDGE_INBOX_H */
