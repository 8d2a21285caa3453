/*-------------------------------------------------------------------------
 *
 * marks.h
 *	  Which messages of a queue have come to their end, for the inbox.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_MARKS_H
#define SQSBRIDGE_MARKS_H

#include "datatype/timestamp.h"

struct QueueWorker;
struct Lease;

/*
 * Is there an open mark?  Nothing may be handed out before there is.  Tries to
 * write one; if that fails, the queue's error says why, and it is tried again
 * later.
 */
extern bool sqs_marks_begin(struct QueueWorker *qw);

/* Once a turn: bring the mark up to date, every minute. */
extern void sqs_marks_turn(struct QueueWorker *qw);

/* The worker leaves. */
extern void sqs_marks_end(struct QueueWorker *qw);

/*
 * A message is about to be handed out, to be recorded in the inbox: its stamp,
 * which it keeps until it is known to be done, or not done.
 */
extern TimestampTz sqs_marks_stamp(struct QueueWorker *qw, struct Lease *lease);

/* It has not run, or its handler says that it was rolled back. */
extern void sqs_marks_not_done(struct QueueWorker *qw, struct Lease *lease);

/* Its lease is lost, so that no deletion counts any more. */
extern void sqs_marks_lease_lost(struct QueueWorker *qw, struct Lease *lease);

/* SQS has confirmed its deletion. */
extern void sqs_marks_deleted(struct QueueWorker *qw, struct Lease *lease);

/* The lease is let go: if it is not known how it ended, it is in doubt. */
extern void sqs_marks_let_go(struct QueueWorker *qw, struct Lease *lease);

#endif							/* SQSBRIDGE_MARKS_H */
