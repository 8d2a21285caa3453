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

/*
 * Look for committed batches, and read rows: one short transaction, which
 * waits for no lock.  An ERROR leaves what is in memory as far as it was read;
 * Relay.current is the queue whose rows raised it, or NULL.
 */
extern void sqs_relay_read_rows(Relay *relay, int64 now);

/* Is there something for it to read, and room for that? */
extern bool sqs_relay_wants_rows(Relay *relay, int64 now);

#endif							/* SQSBRIDGE_RELAY_ROWS_H */
