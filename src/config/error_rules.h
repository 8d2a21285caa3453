/*-------------------------------------------------------------------------
 *
 * error_rules.h
 *	  What an error means for the message whose handler raised it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_ERROR_RULES_H
#define SQSBRIDGE_ERROR_RULES_H

/* The last three are never a rule's. */
typedef enum SqsErrorAction
{
	SQS_ACTION_RETRY,			/* later, as the queue's options say */
	SQS_ACTION_RETRY_NOW,		/* a few times at once; then as RETRY */
	SQS_ACTION_PAUSE,			/* nothing is handled for a while */
	SQS_ACTION_DEAD_LETTER,
	SQS_ACTION_DISCARD,
	SQS_ACTION_THROTTLE,		/* too many have failed: as PAUSE */
	SQS_ACTION_LOST,			/* the lease was lost */
	SQS_ACTION_KILLED			/* the handler worker died; as RETRY */
} SqsErrorAction;

typedef struct SqsRule
{
	SqsErrorAction	action;
	int			delay;			/* s; -1: as the queue's options say */
} SqsRule;

typedef struct SqsErrorRules SqsErrorRules;

extern const char *sqs_error_action_name(SqsErrorAction action);

/* rules may be NULL: only those that are built in. */
extern SqsRule sqs_error_rule(const SqsErrorRules *rules, int sqlstate);

#endif							/* SQSBRIDGE_ERROR_RULES_H */
