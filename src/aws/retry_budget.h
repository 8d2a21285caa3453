/*-------------------------------------------------------------------------
 *
 * retry_budget.h
 *	  How many calls may be tried again: a token bucket over all calls.
 *
 * A single call that fails is best tried again at once.  If everything fails,
 * retries only multiply the calls.  So all calls of a client draw the tokens
 * for their retries from one bucket, which holds 100 of them at first and at
 * most:
 *
 *	- a retry takes 10 tokens, or 5 after the server asked us to slow down;
 *	  without so many tokens there is no retry;
 *	- when the retried call succeeds, it puts back what its last retry took;
 *	- a call that succeeds the first time puts in 1.
 *
 * While everything fails there are thus 10 retries (20 if calls are throttled)
 * and then none.  If one call in 100 fails, 99 others put in 99 for the 10 that
 * its retry takes, and the bucket stays full; it runs dry when more than about
 * one call in ten fails twice.
 *
 * The costs and the rules are those of the AWS SDKs' retry mode "standard"; the
 * bucket is smaller than theirs (500), because what it holds is what an outage
 * costs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_RETRY_BUDGET_H
#define AWS_RETRY_BUDGET_H

#include "aws/aws_error.h"

#define AWS_RETRY_TOKENS	100

typedef struct AwsRetryBudget
{
	int			tokens;
} AwsRetryBudget;

extern void aws_retry_budget_init(AwsRetryBudget *budget);

/*
 * Something has failed with an error of this class.  May it be tried again?
 * Returns the tokens taken for that, or 0: no, because such an error is not
 * transient, or because there are too few tokens.
 */
extern int	aws_retry_budget_take(AwsRetryBudget *budget, AwsErrorClass class);

/*
 * A call has succeeded.  taken: by its last retry; 0: it was not a retry.
 */
extern void aws_retry_budget_succeeded(AwsRetryBudget *budget, int taken);

/*
 * The pause before the retry, in ms, after so many attempts (at least 1): a
 * random part of a time that doubles with each of them ("full jitter"), so that
 * many clients do not come back together.
 */
extern long aws_retry_pause(AwsErrorClass class, int attempts);

#endif							/* AWS_RETRY_BUDGET_H */
