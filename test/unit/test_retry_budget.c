/*-------------------------------------------------------------------------
 *
 * test_retry_budget.c
 *	  A real outage costs few retries, a brown-out gets all it needs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "aws/retry_budget.h"
#include "tap.h"

/* How many retries the budget allows while nothing succeeds. */
static int
retries_in_outage(AwsErrorClass class)
{
	AwsRetryBudget budget;
	int			n = 0;

	aws_retry_budget_init(&budget);
	while (n < 1000 && aws_retry_budget_take(&budget, class) > 0)
		n++;
	return n;
}

/*
 * 10,000 calls, of which every "nth" fails, and its retry succeeds.  How many
 * of those that failed could not be retried?
 */
static int
refused_in_brown_out(int nth)
{
	AwsRetryBudget budget;
	int			refused = 0;

	aws_retry_budget_init(&budget);
	for (int i = 1; i <= 10000; i++)
	{
		int			taken = 0;

		if (i % nth == 0)
		{
			taken = aws_retry_budget_take(&budget, AWS_ERROR_TRANSIENT);
			if (taken == 0)
			{
				refused++;
				continue;
			}
		}
		aws_retry_budget_succeeded(&budget, taken);
	}
	return refused;
}

void
test_retry_budget(void)
{
	AwsRetryBudget budget;
	int			taken;
	int			n;

	is_int(retries_in_outage(AWS_ERROR_TRANSIENT), 10, "an outage costs ten retries");
	is_int(retries_in_outage(AWS_ERROR_THROTTLED), 20, "or twenty, if calls are throttled");
	is_int(retries_in_outage(AWS_ERROR_TIMEOUT), 0, "a deadline that has passed is not tried again");
	is_int(retries_in_outage(AWS_ERROR_CREDENTIALS), 0, "nor what is refused");

	is_int(refused_in_brown_out(100), 0, "if one call in 100 fails, each may be retried");
	is_int(refused_in_brown_out(2), 0, "and so if every other one does, and its retry succeeds");

	aws_retry_budget_init(&budget);
	while (aws_retry_budget_take(&budget, AWS_ERROR_TRANSIENT) > 0)
		;
	for (n = 0; aws_retry_budget_take(&budget, AWS_ERROR_TRANSIENT) == 0; n++)
		aws_retry_budget_succeeded(&budget, 0);
	is_int(n, 10, "after an outage ten successes earn a retry");
	is_int(budget.tokens, 0, "which takes what they have put in");

	aws_retry_budget_init(&budget);
	taken = aws_retry_budget_take(&budget, AWS_ERROR_TRANSIENT);
	aws_retry_budget_succeeded(&budget, taken);
	aws_retry_budget_succeeded(&budget, 0);
	is_int(budget.tokens, AWS_RETRY_TOKENS, "the bucket does not overflow");

	for (n = 1; n <= 30; n++)
	{
		long		most = n < 9 ? 50 << (n - 1) : 20000;
		long		pause = aws_retry_pause(AWS_ERROR_TRANSIENT, n);

		if (pause < 0 || pause > most)
			break;
	}
	is_int(n, 31, "pauses double, up to 20 s");
}
