/*-------------------------------------------------------------------------
 *
 * retry.c
 *	  How long a message that has failed waits for its next attempt.
 *
 *		min(most, retry_delay x retry_factor ^ (n - 1)) x (1 - retry_jitter x r)
 *
 * where n counts the failures, r is a random number below 1, and "most" is
 * retry_max_delay, or retry_delay if that is longer: what somebody has asked for
 * is not cut down by a default.  Rounded up to whole seconds, since that is what
 * SQS takes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "config/retry.h"

int
sqs_retry_delay(const SqsQueueConfig *config, int n, uint64 random)
{
	double		delay = config->retry_delay;
	double		most = Max(config->retry_max_delay, config->retry_delay);
	double		rand = (double) (random >> 11) / (double) (UINT64CONST(1) << 53);

	if (config->retry_delay < 0)
		return -1;
	if (config->retry_delay == 0)
		return 0;

	/* compare logarithms, because the power may be infinite */
	if (log(delay) + (n - 1) * log(config->retry_factor) >= log(most))
		delay = most;
	else
		delay *= pow(config->retry_factor, n - 1);
	return (int) ceil(delay * (1 - config->retry_jitter * rand));
}
