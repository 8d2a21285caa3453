/*-------------------------------------------------------------------------
 *
 * relay_settle.h
 *	  Deleting rows of the outbox that are confirmed or refused.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RELAY_SETTLE_H
#define SQSBRIDGE_RELAY_SETTLE_H

#include "send/relay_state.h"

/* Delete the rows that SQS has confirmed. */
extern void sqs_relay_delete_confirmed(Relay *relay, int64 now);

/* Move the refused rows of a queue to outbox_failures. */
extern void sqs_relay_record_refused(Relay *relay, RelayQueue *queue, int64 now);

#endif							/* SQSBRIDGE_RELAY_SETTLE_H */
