/*-------------------------------------------------------------------------
 *
 * relay_settle.h
 *	  Deleting rows of the outbox that are dealt with.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RELAY_SETTLE_H
#define SQSBRIDGE_RELAY_SETTLE_H

#include "send/relay_state.h"

/*
 * Each is one short transaction, which waits for no lock on a table or row,
 * and notes in the relay what could not be done.  An ERROR leaves what is in
 * memory as it was.
 */

/* Delete what SQS has confirmed. */
extern void sqs_relay_delete_confirmed(Relay *relay, int64 now);

/* Move what a queue has refused, or its absence, to the failures. */
extern void sqs_relay_record_refused(Relay *relay, RelayQueue *queue, int64 now);

#endif							/* SQSBRIDGE_RELAY_SETTLE_H */
