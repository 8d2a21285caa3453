/*-------------------------------------------------------------------------
 *
 * test_starts.c
 *	  When a worker that failed may be started again.
 *
 * src/base/starts.c is server code that needs next to nothing of the server.
 * Time is a number that the tests set.
 *
 *-------------------------------------------------------------------------
 */
/* the server is compiled without this warning */
#pragma GCC diagnostic ignored "-Wunused-parameter"

#undef FRONTEND
#define UNIT_OF_SERVER_CODE
#include "postgres.h"

#include "base/starts.h"
#include "base/worker.h"
#include "tap.h"

/* without the jitter, so that times can be told in advance */
#define sqs_backoff_ms(failures, base, cap) \
	((failures) > 20 ? (cap) : Min((int64) (base) << ((failures) - 1), (int64) (cap)))
#define TimestampDifferenceExceeds(from, to, ms) \
	((to) - (from) >= (ms) * INT64CONST(1000))

#include "../../src/base/starts.c"

#define MS		INT64CONST(1000)
#define HOUR	(3600000 * MS)

/* Start at "now", and say in how many ms the next start may be. */
static int64
start(SqsStarts *starts, TimestampTz now)
{
	sqs_start_begins(starts, now, SQS_RESTART_MAX_MS);
	return (sqs_start_next(starts, now) - now) / MS;
}

static void
failures(void)
{
	SqsStarts	starts;
	TimestampTz now = 1000 * HOUR;

	memset(&starts, 0, sizeof(starts));
	ok(sqs_start_next(&starts, now) <= now, "the first start is at once");
	is_int(start(&starts, now), 1000, "the second a second later");
	is_int(start(&starts, now += 1000 * MS), 2000, "and twice as much each time");
	is_int(start(&starts, now += 2000 * MS), 4000, "again");
	for (int i = 0; i < 20; i++)
	{
		now = sqs_start_next(&starts, now);
		start(&starts, now);
	}
	is_int((sqs_start_next(&starts, now) - now) / MS, SQS_RESTART_MAX_MS, "up to five minutes");
	sqs_start_lasts(&starts, now + 59000 * MS);
	is_int(start(&starts, now += HOUR), SQS_RESTART_MAX_MS, "a worker that has not lasted for a minute has failed");
	sqs_start_lasts(&starts, now + 60000 * MS);
	is_int(start(&starts, now += HOUR), 1000, "one that has has not");
}

static void
no_slot(void)
{
	SqsStarts	starts;
	TimestampTz now = 1000 * HOUR;

	memset(&starts, 0, sizeof(starts));
	start(&starts, now);
	for (int i = 0; i < 5; i++)
	{
		start(&starts, now += 2000 * MS);
		sqs_start_had_no_slot(&starts, now);
		is_int((sqs_start_next(&starts, now) - now) / MS, 1000, "without a slot it is tried again after a second");
	}
	is_int(start(&starts, now += 2000 * MS), 2000, "which is no failure");
}

/* The system's clock is set back by hours: that must not stop workers for as long. */
static void
clock_set_back(void)
{
	SqsStarts	starts;
	TimestampTz now = 1000 * HOUR;
	TimestampTz before = now - 5 * HOUR;

	memset(&starts, 0, sizeof(starts));
	for (int i = 0; i < 4; i++)
		start(&starts, now += 10000 * MS);
	sqs_start_lasts(&starts, before + 120000 * MS);
	ok(sqs_start_next(&starts, now) > now, "a worker fails, and the next one is delayed");
	ok(sqs_start_next(&starts, before) <= before, "the clock is set back: it may start at once");
	ok(start(&starts, before) <= SQS_RESTART_MAX_MS, "the one after it is delayed by the new clock");
	ok(sqs_start_next(&starts, before + 1) > before + 1, "which counts from now on");
	ok(sqs_start_next(&starts, before + SQS_RESTART_MAX_MS * MS) <= before + SQS_RESTART_MAX_MS * MS, "and ends");
}

void
test_starts(void)
{
	failures();
	no_slot();
	clock_set_back();
}
