/*-------------------------------------------------------------------------
 *
 * relay_rows.h
 *	  Reading rows of the outbox into the senders.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RELAY_ROWS_H
#define SQSBRIDGE_RELAY_ROWS_H

#include "send/relay_state.h"

/* Find committed batches and read rows, in one short transaction */
extern void sqs_relay_read_rows(Relay *relay, int64 now);

/* Is there something to read, and room for it? */
extern bool sqs_relay_wants_rows(Relay *relay, int64 now);

#endif							/* SQSBRIDGE_RELAY_ROWS_H */
