/*-------------------------------------------------------------------------
 *
 * relay.h
 *	  The relay sends the rows of the outbox.  It is a part of the database
 *	  worker.
 *
 * A database worker has one relay, which is created when it is first needed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RELAY_H
#define SQSBRIDGE_RELAY_H

#include "nodes/pg_list.h"

/* Take over the configuration of the queues; needs a transaction */
extern void sqs_relay_configure(List *queues);

/* Do all that is due, without waiting; true while something is under way */
extern bool sqs_relay_turn(bool news, bool scan, bool stopping, long *timeout);

/* Are there rows of a queue whose configuration it does not have? */
extern bool sqs_relay_needs_config(void);

/* Is no row waiting to be sent, now or later? */
extern bool sqs_relay_is_idle(void);

/* Abandon what is under way and forget all but the confirmed rows */
extern void sqs_relay_reset(void);

#endif							/* SQSBRIDGE_RELAY_H */
