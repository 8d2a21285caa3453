/*-------------------------------------------------------------------------
 *
 * relay.h
 *	  The relay of the outbox: a part of the database worker.
 *
 * It has one relay, which is made when it is first needed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RELAY_H
#define SQSBRIDGE_RELAY_H

#include "nodes/pg_list.h"

/* Requests under way at most, of all queues. */
#define SQS_RELAY_REQUESTS	256

/*
 * The queues there are (SqsQueueConfig), of which it takes copies.  Needs a
 * transaction.  An ERROR leaves the relay in doubt: reset it.
 */
extern void sqs_relay_configure(List *queues);

/*
 * Do all there is to do, without waiting.  news: rows may have been committed
 * since the last turn; scan: look at everything; stopping: finish what is under
 * way.  Returns true while something is under way, and lowers *timeout (ms) to
 * when to come again at the latest.  An ERROR leaves the relay in doubt: reset
 * it.
 */
extern bool sqs_relay_turn(bool news, bool scan, bool stopping, long *timeout);

/* Has it met rows of a queue that it does not know? */
extern bool sqs_relay_needs_config(void);

/* No row is known, or waited for. */
extern bool sqs_relay_is_idle(void);

/*
 * After an error that leaves in doubt what is in memory, or to leave: what is
 * under way is abandoned, and everything read anew.
 */
extern void sqs_relay_reset(void);

#endif							/* SQSBRIDGE_RELAY_H */
