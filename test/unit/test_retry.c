/*-------------------------------------------------------------------------
 *
 * test_retry.c
 *	  The delays between attempts, for options of all kinds.
 *
 *-------------------------------------------------------------------------
 */
#undef FRONTEND
#define UNIT_OF_SERVER_CODE
#include "postgres.h"

#include <limits.h>

#include "tap.h"

#include "../../src/config/retry.c"

#define HALF_DAY	(12 * 3600)

static uint64
next_random(void)
{
	static uint64 state = 42;

	/* splitmix64 */
	uint64		z = (state += UINT64CONST(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static SqsQueueConfig
options(int delay, double factor, int max_delay, double jitter)
{
	SqsQueueConfig config = {0};

	config.retry_delay = delay;
	config.retry_factor = factor;
	config.retry_max_delay = max_delay;
	config.retry_jitter = jitter;
	return config;
}

static void
examples(void)
{
	static const struct
	{
		int			delay;
		double		factor;
		int			max_delay;
		int			n;
		int			expected;
	}			cases[] =
	{
		{-1, 2, 900, 1, -1},
		{-1, 10, 900, 1000, -1},
		{0, 2, 900, 1, 0},
		{0, 10, 900, 1000, 0},
		{5, 2, 900, 1, 5},
		{5, 2, 900, 2, 10},
		{5, 2, 900, 8, 640},
		{5, 2, 900, 9, 900},
		{5, 1, 900, 1000, 5},
		{1, 1.5, 900, 2, 2},
		{1, 1.5, 900, 3, 3},
		{900, 2, 900, 1, 900},
		{3600, 2, 900, 1, 3600},
		{3600, 2, 900, 2, 3600},
		{1, 10, HALF_DAY, INT_MAX, HALF_DAY},
		{HALF_DAY, 10, HALF_DAY, INT_MAX, HALF_DAY},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		SqsQueueConfig config = options(cases[i].delay, cases[i].factor, cases[i].max_delay, 0);

		is_int(sqs_retry_delay(&config, cases[i].n, PG_UINT64_MAX), cases[i].expected,
			   "%d s x %g, at most %d s, failure %d", cases[i].delay, cases[i].factor,
			   cases[i].max_delay, cases[i].n);
	}
}

/* For any options and any random number. */
static void
properties(void)
{
	int			out_of_range = 0;
	int			falling = 0;
	int			outside_jitter = 0;
	int			shortened = 0;

	for (int i = 0; i < 100000; i++)
	{
		int			delay = (int) (next_random() % (HALF_DAY + 1));
		int			max_delay = 1 + (int) (next_random() % HALF_DAY);
		double		factor = 1 + (double) (next_random() % 9001) / 1000;
		double		jitter = (double) (next_random() % 1001) / 1000;
		int			n = 1 + (int) (next_random() % (i % 2 == 0 ? 10 : 1000));
		SqsQueueConfig with = options(delay, factor, max_delay, jitter);
		SqsQueueConfig without = options(delay, factor, max_delay, 0);
		int			exact = sqs_retry_delay(&without, n, next_random());
		int			got = sqs_retry_delay(&with, n, next_random());

		out_of_range += got < 0 || got > HALF_DAY || got > Max(max_delay, delay);
		falling += sqs_retry_delay(&without, n + 1, 0) < exact;
		outside_jitter += got > exact || got < (int) floor((exact - 1) * (1 - jitter));
		shortened += exact < Min(delay, HALF_DAY);
	}
	is_int(out_of_range, 0, "no delay is negative, longer than 12 h, or than both options");
	is_int(falling, 0, "without jitter, no delay is shorter than the one before");
	is_int(outside_jitter, 0, "jitter shortens a delay by its part at most");
	is_int(shortened, 0, "a retry_delay longer than retry_max_delay is kept");
}

/* What has failed together does not come back together. */
static void
spread(void)
{
	SqsQueueConfig config = options(60, 2, 900, 0.5);
	int			per_second[61] = {0};
	int			most = 0;

	for (int i = 0; i < 3000; i++)
		per_second[sqs_retry_delay(&config, 1, next_random())]++;
	for (int i = 0; i <= 60; i++)
		most = Max(most, per_second[i]);
	ok(most < 200, "3,000 messages come back over 30 s, at most %d in one of them", most);
	is_int(per_second[29] + per_second[30], 0, "and none earlier");
}

void
test_retry(void)
{
	examples();
	properties();
	spread();
}
