/*-------------------------------------------------------------------------
 *
 * in_hand.h
 *	  What a handler worker has been given, and how it is taken back or canceled.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_IN_HAND_H
#define SQSBRIDGE_IN_HAND_H

#include "receive/queue_state.h"

/* The handler does not have the message any more: its result was read. */
extern void sqs_in_hand_remove(QueueWorker *qw, Handler *handler, Lease *lease);

/*
 * Take back and make waiting again what the handler has not begun with.  Returns
 * the highest seq that it keeps.
 */
extern uint64 sqs_in_hand_take_back(QueueWorker *qw, Handler *handler);

/* The message with this number, while the handler has it; else NULL. */
extern Lease *sqs_in_hand_lease(Handler *handler, uint64 seq);

/* Cancel the message, or whatever is run (seq 0); true if it is run. */
extern bool sqs_in_hand_cancel(Handler *handler, uint64 seq, SqsCancel reason);

/* A signal to the handler's process, if that is still there. */
extern void sqs_handler_signal(Handler *handler, int signal);

/* Tell the handler until when it may commit. */
extern void sqs_in_hand_tell_lease_end(Lease *lease);

/* The functions of SqsLeaseEvents. */
extern void sqs_in_hand_lease_renewed(QueueWorker *qw, Lease *lease);
extern void sqs_in_hand_lease_lost(QueueWorker *qw, Lease *lease);

#endif							/* SQSBRIDGE_IN_HAND_H */
