/*-------------------------------------------------------------------------
 *
 * error_rules.h
 *	  Error rules: what becomes of a message whose handler has failed with a
 *	  certain SQLSTATE.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_ERROR_RULES_H
#define SQSBRIDGE_ERROR_RULES_H

typedef enum SqsErrorAction
{
	SQS_ACTION_RETRY,			/* later */
	SQS_ACTION_RETRY_NOW,		/* a few times at once, then as retry */
	SQS_ACTION_PAUSE,			/* the route is at fault: it waits */
	SQS_ACTION_DEAD_LETTER,
	SQS_ACTION_DISCARD,

	/* no rule says these; they are in sqs_failures only */
	SQS_ACTION_THROTTLE,		/* too many have failed: as pause */
	SQS_ACTION_LOST,			/* the lease was */
	SQS_ACTION_KILLED			/* the handler's process died */
} SqsErrorAction;

typedef struct SqsRule
{
	SqsErrorAction action;
	int			delay;			/* s; instead of the option retry_delay; -1:
								 * as that says */
} SqsRule;

typedef struct SqsErrorRules SqsErrorRules;

extern const char *sqs_error_action_name(SqsErrorAction action);

/*
 * The rules that apply to a queue besides the built-in ones; NULL: there are
 * none.  Needs a transaction with an active snapshot.
 */
extern SqsErrorRules *sqs_error_rules_load(int32 queue_id);

/* The rule for an error.  "rules" may be NULL: the built-in ones apply. */
extern SqsRule sqs_error_rule(const SqsErrorRules *rules, int sqlstate);

/* Delete the rules of a queue that is removed. */
extern void sqs_error_rules_delete(int32 queue_id);

#endif							/* SQSBRIDGE_ERROR_RULES_H */
