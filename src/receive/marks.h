/*-------------------------------------------------------------------------
 *
 * marks.h
 *	  Which messages of a queue are finished, for the inbox.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_MARKS_H
#define SQSBRIDGE_MARKS_H

#include "receive/queue_state.h"

/* Make sure that there is an open mark. */
extern bool sqs_marks_begin(QueueWorker *qw);

/* To be called every turn: write the mark once a minute, if it has changed. */
extern void sqs_marks_turn(QueueWorker *qw);

/* The worker exits. */
extern void sqs_marks_end(QueueWorker *qw);

/*
 * A message of a queue with exactly_once is about to be handed out.  Returns its
 * stamp, which it keeps until it is resolved.
 */
extern TimestampTz sqs_marks_stamp(QueueWorker *qw, Lease *lease);

/* The message has not run, or its handler has reported that it was rolled back. */
extern void sqs_marks_not_done(QueueWorker *qw, Lease *lease);

/* The lease is lost, so that a confirmed deletion means nothing. */
extern void sqs_marks_lease_lost(QueueWorker *qw, Lease *lease);

/* SQS has confirmed the deletion. */
extern void sqs_marks_deleted(QueueWorker *qw, Lease *lease);

/* The lease is given up; if the message is still unresolved, it is in doubt. */
extern void sqs_marks_let_go(QueueWorker *qw, Lease *lease);

#endif							/* SQSBRIDGE_MARKS_H */
