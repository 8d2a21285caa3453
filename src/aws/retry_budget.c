/*-------------------------------------------------------------------------
 *
 * retry_budget.c
 *	  How many calls may be tried again: a token bucket over all calls.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "common/pg_prng.h"

#include "aws/retry_budget.h"

#define COST_TRANSIENT		10
#define COST_THROTTLED		5

/* the first pause after an error, and the longest, as in the AWS SDKs (2026) */
#define PAUSE_TRANSIENT_MS	50
#define PAUSE_THROTTLED_MS	1000
#define PAUSE_MAX_MS		20000

void
aws_retry_budget_init(AwsRetryBudget *budget)
{
	budget->tokens = AWS_RETRY_TOKENS;
}

int
aws_retry_budget_take(AwsRetryBudget *budget, AwsErrorClass class)
{
	int			cost;

	if (class == AWS_ERROR_TRANSIENT)
		cost = COST_TRANSIENT;
	else if (class == AWS_ERROR_THROTTLED)
		cost = COST_THROTTLED;
	else
		return 0;
	if (budget->tokens < cost)
		return 0;
	budget->tokens -= cost;
	return cost;
}

void
aws_retry_budget_succeeded(AwsRetryBudget *budget, int taken)
{
	budget->tokens = Min(budget->tokens + Max(taken, 1), AWS_RETRY_TOKENS);
}

long
aws_retry_pause(AwsErrorClass class, int attempts)
{
	double		ms = class == AWS_ERROR_THROTTLED ? PAUSE_THROTTLED_MS : PAUSE_TRANSIENT_MS;

	for (int i = 1; i < attempts && ms < PAUSE_MAX_MS; i++)
		ms *= 2;
	return (long) (Min(ms, PAUSE_MAX_MS) * pg_prng_double(&pg_global_prng_state));
}
