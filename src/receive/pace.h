/*-------------------------------------------------------------------------
 *
 * pace.h
 *	  What is measured of handlers and network, and how much is wanted in hand.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_PACE_H
#define SQSBRIDGE_PACE_H

#include "receive/queue_state.h"

/* What the messages in hand should come to. */
typedef struct SqsAim
{
	int			batch;			/* to ask for in one receive */
	int			in_hand;		/* waiting, with handlers, and asked for */
	int			asked;			/* of these, in open receives */
	int			at_most;		/* in hand, including what waits for its
								 * message group */
	int			finished;		/* besides: handled, but not deleted yet */
	bool		measured;		/* else: one message per handler, no more */
} SqsAim;

extern void sqs_pace_init(QueueWorker *qw);

/* A handler took so long for a message. */
extern void sqs_pace_handled(QueueWorker *qw, uint32 micros);

/* A handler is done with a message, whatever became of it. */
extern void sqs_pace_done(QueueWorker *qw);

/* A receive that did not have to wait for messages took so long. */
extern void sqs_pace_answered(QueueWorker *qw, long ms);

/* The handler has changed: it may be faster or slower. */
extern void sqs_pace_forget(QueueWorker *qw);

/* Every turn, after the handlers have been looked at. */
extern void sqs_pace_turn(QueueWorker *qw);

extern void sqs_pace_aim(QueueWorker *qw, SqsAim *aim);

/* How many waiting messages the handlers will begin with soon enough. */
extern int	sqs_pace_keep(QueueWorker *qw);

#endif							/* SQSBRIDGE_PACE_H */
