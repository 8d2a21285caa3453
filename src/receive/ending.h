/*-------------------------------------------------------------------------
 *
 * ending.h
 *	  What becomes of a message whose transaction was rolled back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_ENDING_H
#define SQSBRIDGE_ENDING_H

#include "receive/attempts.h"
#include "receive/channel.h"
#include "receive/routing.h"
#include "receive/handling.h"
#include "receive/verdict.h"

/* A message in the hand of a handler worker. */
typedef struct SqsTask
{
	SqsDelivery *delivery;
	SqsAttempts attempts;		/* what is recorded of it */
	int			tries;			/* transactions begun in this delivery */
	bool		is_duplicate;	/* the inbox has it already */
	bool		is_marked;		/* it may be what made the server crash */
	bool		has_envelope;	/* SNS has signed it, envelope and all */
	const SqsRouting *routing;	/* NULL: the queue does not ask for keys */
	bool		is_open;		/* the following two are known */
	SqsContent	content;
	SqsRouted	routed;
} SqsTask;

/* Where in the transaction an error was raised. */
typedef enum SqsPhase
{
	SQS_PHASE_RESOLVE,			/* the handler */
	SQS_PHASE_LOCK,				/* our tables */
	SQS_PHASE_INBOX,
	SQS_PHASE_RUN
} SqsPhase;

/*
 * Record in the current transaction that this message is done with.  Returns
 * false if that has been recorded before.
 */
extern bool sqs_task_insert_into_inbox(SqsTask *task);

/*
 * Before a message is run: look up what is recorded of it, if that is necessary,
 * and verify its signature, if the queue asks for that.  Returns true if it has
 * been ended here, because it has no attempts left, or has failed.
 */
extern bool sqs_task_begin(SqsTask *task, SqsResult *result);

/* When the result is known: it has not made the server crash. */
extern void sqs_task_end(SqsTask *task, const SqsResult *result);

/*
 * The configuration, read in a transaction of its own if it has changed.  NULL:
 * there is none, or it cannot be read; then the result says what that means.
 */
extern const SqsHandling *sqs_task_handling(SqsTask *task, SqsResult *result);

/* Before a message is run again at once: wait for a short time. */
extern void sqs_task_pause_before_try(int tries);

/*
 * Record in the current transaction, which is the handler's, a verdict that the
 * handler has returned for the message, and fill in the result.
 */
extern void sqs_task_record_verdict(SqsTask *task, const SqsHandling *handling,
									const SqsVerdict *verdict, SqsResult *result);

/*
 * Decide what an error means for the message, record it, and fill in the result.
 * The transaction has been aborted.  Returns false if the message is to be run
 * again at once.
 */
extern bool sqs_task_failed(SqsTask *task, ErrorData *edata, const SqsVerdict *verdict,
							SqsPhase phase, SqsResult *result);

#endif							/* SQSBRIDGE_ENDING_H */
