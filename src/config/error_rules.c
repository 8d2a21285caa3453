/*-------------------------------------------------------------------------
 *
 * error_rules.c
 *	  What an error means for the message whose handler raised it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "config/error_rules.h"

const char *
sqs_error_action_name(SqsErrorAction action)
{
	static const char *const names[] = {
		[SQS_ACTION_RETRY] = "retry",
		[SQS_ACTION_RETRY_NOW] = "retry_now",
		[SQS_ACTION_PAUSE] = "pause",
		[SQS_ACTION_DEAD_LETTER] = "dead_letter",
		[SQS_ACTION_DISCARD] = "discard",
		[SQS_ACTION_THROTTLE] = "throttle",
		[SQS_ACTION_LOST] = "lost",
		[SQS_ACTION_KILLED] = "killed",
	};

	return names[action];
}

/* serialization_failure and deadlock_detected pass when they are tried again. */
SqsRule
sqs_error_rule(const SqsErrorRules *rules, int sqlstate)
{
	SqsRule		rule = {SQS_ACTION_RETRY, -1};

	if (sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED)
		rule.action = SQS_ACTION_RETRY_NOW;
	return rule;
}
