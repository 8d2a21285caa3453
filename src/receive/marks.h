/*-------------------------------------------------------------------------
 *
 * marks.h
 *	  Which messages of a queue have come to their end, for the inbox.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_MARKS_H
#define SQSBRIDGE_MARKS_H

#include "receive/queue_state.h"

/*
 * Is there an open mark?  Nothing may be handed out before there is.  Tries to
 * write one; if that fails, the queue's error says why, and it is tried again
 * later.
 */
extern bool sqs_marks_begin(QueueWorker *qw);

/* Once a turn: bring the mark up to date, every minute. */
extern void sqs_marks_turn(QueueWorker *qw);

/* The worker leaves. */
extern void sqs_marks_end(QueueWorker *qw);

/*
 * A message is about to be handed out, to be recorded in the inbox: its stamp,
 * which it keeps until it is known to be done, or not done.
 */
extern TimestampTz sqs_marks_stamp(QueueWorker *qw, Lease *lease);

/* It has not run, or its handler says that it was rolled back. */
extern void sqs_marks_not_done(QueueWorker *qw, Lease *lease);

/* Its lease is lost, so that no deletion counts any more. */
extern void sqs_marks_lease_lost(QueueWorker *qw, Lease *lease);

/* SQS has confirmed its deletion. */
extern void sqs_marks_deleted(QueueWorker *qw, Lease *lease);

/* The lease is let go: if it is not known how it ended, it is in doubt. */
extern void sqs_marks_let_go(QueueWorker *qw, Lease *lease);

#endif							/* SQSBRIDGE_MARKS_H */
