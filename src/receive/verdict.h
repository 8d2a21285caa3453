/*-------------------------------------------------------------------------
 *
 * verdict.h
 *	  What a handler says is to become of its message.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_VERDICT_H
#define SQSBRIDGE_VERDICT_H

#include "access/tupdesc.h"
#include "utils/palloc.h"

typedef enum SqsVerdictKind
{
	SQS_VERDICT_NONE,
	SQS_VERDICT_RETRY,
	SQS_VERDICT_DEAD_LETTER,
	SQS_VERDICT_DISCARD
} SqsVerdictKind;

typedef struct SqsVerdict
{
	SqsVerdictKind kind;
	int			delay;			/* s; -1: not given.  For a retry */
	bool		charge;			/* this counts as an attempt.  For a retry */
	char	   *reason;			/* in the context given at the beginning */
	char	   *message_id;		/* only of one that a batch handler returns */
} SqsVerdict;

/* From now on, until the end, this process may give one verdict. */
extern void sqs_verdict_begin(MemoryContext context);

/* Returns the verdict, if there was one. */
extern SqsVerdict sqs_verdict_end(void);

/*
 * While a handler delivers another message itself (sqs_deliver()), its own verdict
 * is kept here.
 */
typedef struct SqsVerdictState
{
	MemoryContext context;
	SqsVerdict	verdict;
} SqsVerdictState;

extern void sqs_verdict_save(SqsVerdictState *state);
extern void sqs_verdict_restore(const SqsVerdictState *state);

/*
 * Raise the verdict's error again.  It is called when the handler has returned,
 * so that a handler that catches errors cannot get past its own verdict.
 */
extern void sqs_verdict_raise(void);

/*
 * A verdict that a batch handler returns, from the columns of type sqs_verdict or
 * a value of it; an ERROR if it is not valid.  Palloc'd.
 */
extern TupleDesc sqs_verdict_tupdesc(void);
extern SqsVerdict *sqs_verdict_from_row(const Datum *values, const bool *nulls);
extern SqsVerdict *sqs_verdict_from_datum(Datum value);

/* The SQLSTATE of such an error. */
extern int	sqs_verdict_sqlstate(SqsVerdictKind kind);

#endif							/* SQSBRIDGE_VERDICT_H */
