/*-------------------------------------------------------------------------
 *
 * pace.c
 *	  What is measured of handlers and network, and how much is wanted in hand.
 *
 * Measured:
 *
 *	S	handler time per message: moving average over 16 messages
 *	R	round trip: moving average over 16 receives in a backlog, which SQS
 *		answers at once; 4 ms to 2 s.  While this process has no time to spare,
 *		the least of the last 5 to 10 s counts for each, because the others are
 *		longer by how long replies wait for this process, and if that made us
 *		ask for more, they would wait longer still.  In case it is SQS that is
 *		busy, R is never more than 16 times the least.
 *	P	what the handlers get through, messages/s: the sum over those that are
 *		ready of 1 / max(S, age of its current message).  So P falls as soon as
 *		handlers are stuck, not only when they finish.  But handlers that share
 *		processors with each other, with this process and with the rest of the
 *		machine do not get through what the sum says.  So P is at most twice
 *		what was completed in the best 100 ms of the last 5 s.  Twice, because
 *		it may have been the receives that there were too few of: then what is
 *		completed doubles, and P with it.
 *
 * From these follows how much is wanted in hand.  C is the concurrency:
 *
 *	batch	min(batch_size, P x 1 s), at least 1: never more than a second's work
 *			in one receive
 *	low		C + P x 1.5 R: keeps all handlers busy while a refill is on the way,
 *			even if it takes half as long again as usual
 *	in hand	max(low + batch, P x (T + 1.5 R)) with T = 10 / P, 50 ms to 1 s
 *	asked	of these, P x 1.5 R in open receives, but at least a batch
 *	finished	besides: low + 20, which wait for WAL to be flushed, and then
 *			for a call that deletes ten of them and takes R
 *
 * The first term asks for a whole batch as soon as only "low" is left; so with
 * a backlog there is one receive per ten messages, however slow the handlers
 * are (S = 20 ms, C = 1, R = 20 ms: P = 50, low = 2, in hand = 12).  The second
 * is for quick handlers, of which thousands of messages are on the way (S = 100
 * us, C = 4, R = 20 ms: P = 40,000, in hand = 3,200, of which 1,200 are 60
 * receives of 20 ms at 30,000 messages/s, and the rest waits for a handler for
 * 50 ms at most).  T is at most a second, so what is in hand is never more than
 * the handlers get through in a second and one and a half round trips, apart
 * from one message for each.
 *
 * While S is not known, and if it is more than a second, nothing is received
 * ahead: a message for each handler.
 *
 * A handler that takes batches has a batch where others have a message: C is then
 * the concurrency times handler_batch_size.
 *
 * If P falls, what waits may be more than the handlers begin with soon.  Then
 * what would wait for longer than 5 s, or a quarter of the visibility timeout if
 * that is longer, is surplus: other consumers may have time for it.  The gap
 * between the second that is asked for and the five that are kept is there
 * because a release and another receive cost two calls, and one of the receives
 * that the redrive policy allows.
 *
 * test/unit/test_pace.c has the examples of src/README as its cases.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "receive/pace.h"

#define ROUND_TRIP_FIRST_MS	20.0
#define ROUND_TRIP_MIN_MS	4.0 /* a turn of a busy loop */
#define LEAST_MIN_MS		0.5 /* what takes less is measured as 0 */
#define LEAST_TIMES			16
#define ROUND_TRIP_MAX_MS	2000.0
#define ROUND_TRIP_WINDOW_MS	5000
#define ROUND_TRIPS			1.5
#define REFILL_MIN_S		0.05
#define REFILL_MAX_S		1.0
#define AHEAD_MAX_US		1000000.0	/* handler time up to which anything
										 * is received ahead */
#define KEEP_MIN_S			5.0
#define DONE_WINDOW_MS		100
#define DONE_BOUND			2

/*
 * Messages of FIFO queues are looked for group by group, in every turn of the
 * loop, so there are at most so many.
 */
#define FIFO_MAX			2000

void
sqs_pace_init(QueueWorker *qw)
{
	qw->pace.round_trip = ROUND_TRIP_FIRST_MS;
}

/* A handler took so long for a message. */
void
sqs_pace_handled(QueueWorker *qw, uint32 micros)
{
	if (qw->pace.mean_us == 0)
		qw->pace.mean_us = Max(micros, 1);
	else
		qw->pace.mean_us += (Max(micros, 1) - qw->pace.mean_us) / 16;
}

/*
 * Make the current tenth of a second the latest that is counted.  A turn that
 * takes longer than that has its results counted in one of them, so a process
 * that is short of time is rather thought to be quicker than it is.
 */
static void
advance_window(Pace *pace, int64 now)
{
	int64		window = now / DONE_WINDOW_MS;

	if (window == pace->window)
		return;
	if (window >= pace->window + SQS_PACE_WINDOWS || window < pace->window)
		memset(pace->done, 0, sizeof(pace->done));
	else
		for (int64 w = pace->window + 1; w <= window; w++)
			pace->done[w % SQS_PACE_WINDOWS] = 0;
	pace->window = window;
	pace->most_before = 0;
	for (int i = 0; i < SQS_PACE_WINDOWS; i++)
		pace->most_before = Max(pace->most_before, pace->done[i]);
}

/* A handler is done with a message, whatever became of it. */
void
sqs_pace_done(QueueWorker *qw)
{
	advance_window(&qw->pace, qw->now);
	qw->pace.done[qw->pace.window % SQS_PACE_WINDOWS]++;
}

/* Twice the best rate of the last seconds (messages/s); 0: nothing was done. */
static double
done_bound(QueueWorker *qw)
{
	Pace	   *pace = &qw->pace;

	advance_window(pace, qw->now);
	return (double) Max(pace->most_before, pace->done[pace->window % SQS_PACE_WINDOWS]) *
		(DONE_BOUND * 1000 / DONE_WINDOW_MS);
}

/* A receive that did not have to wait for messages took so long. */
void
sqs_pace_answered(QueueWorker *qw, long ms)
{
	double		measured = Min(Max((double) ms, LEAST_MIN_MS), ROUND_TRIP_MAX_MS);
	double		least;
	double		counts;

	if (qw->now >= qw->pace.window_ends)
	{
		qw->pace.least_before = qw->pace.window_ends > 0 ? qw->pace.least : measured;
		qw->pace.least = measured;
		qw->pace.window_ends = qw->now + ROUND_TRIP_WINDOW_MS;
	}
	qw->pace.least = Min(qw->pace.least, measured);
	least = Min(qw->pace.least, qw->pace.least_before);

	counts = qw->has_time ? measured : least;
	if (qw->pace.mean == 0)
		qw->pace.mean = counts;
	else
		qw->pace.mean += (counts - qw->pace.mean) / 16;
	qw->pace.mean = Max(qw->pace.mean, least);
	qw->pace.round_trip = Max(Min(qw->pace.mean, least * LEAST_TIMES), ROUND_TRIP_MIN_MS);
}

/* The handler has changed: it may be faster or slower. */
void
sqs_pace_forget(QueueWorker *qw)
{
	qw->pace.mean_us = 0;
	qw->pace.per_second = 0;
}

/*
 * Compute P; every turn, after the handlers have been looked at.
 *
 * If no handler is ready, because all have left for want of work, there will be
 * one soon.  Of a message group one message is handled at a time.
 */
void
sqs_pace_turn(QueueWorker *qw)
{
	double		sum = 0;
	double		least_us = qw->pace.mean_us;
	double		bound = done_bound(qw);
	int			n = 0;

	if (qw->pace.mean_us <= 0)
	{
		/* all that is known is how long those that run have taken so far */
		for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
			if (qw->pool.handlers[i].used)
				least_us = Max(least_us, (double) qw->pool.handlers[i].age_us);
		if (least_us <= AHEAD_MAX_US)
			return;
	}
	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
	{
		Handler    *handler = &qw->pool.handlers[i];

		if (!handler->used || !handler->ready || handler->stopping)
			continue;
		n++;
		sum += 1000000 / Max(least_us, (double) handler->age_us);
	}
	if (n == 0)
		sum = 1000000 / least_us;
	else if (qw->config->fifo)
	{
		long		groups = Max(hash_get_num_entries(qw->waiting.groups), 1);

		sum *= (double) Min(groups, n) / n;
	}
	qw->pace.per_second = bound > 0 ? Min(sum, bound) : sum;
}

/* How much is wanted in hand, see above. */
void
sqs_pace_aim(QueueWorker *qw, SqsAim *aim)
{
	double		pace = qw->pace.per_second;
	double		ahead_s = ROUND_TRIPS * qw->pace.round_trip / 1000;
	double		refill_s;
	double		low;
	int			each = qw->config->takes_batches ? qw->config->handler_batch_size : 1;
	int			at_work = qw->config->concurrency * each;
	int			limit = qw->config->fifo ? FIFO_MAX : SQS_MAX_LEASES;

	aim->measured = qw->pace.mean_us > 0 && qw->pace.mean_us <= AHEAD_MAX_US && pace > 0;
	if (!aim->measured)
	{
		aim->batch = qw->config->batch_size;
		aim->in_hand = Min(at_work, limit);
		aim->asked = INT_MAX;
		low = qw->config->concurrency;
	}
	else
	{
		refill_s = Min(Max(10 / pace, REFILL_MIN_S), REFILL_MAX_S);
		aim->batch = (int) Min(Max(ceil(pace), 1), qw->config->batch_size);
		low = at_work + floor(pace * ahead_s);
		aim->in_hand = (int) Min(Max(low + aim->batch, ceil(pace * (refill_s + ahead_s))), limit);
		aim->asked = (int) Min(Max(pace * ahead_s, aim->batch), limit);
	}
	aim->at_most = Min(4 * aim->in_hand, limit);
	aim->finished = (int) Min(low + 2 * SQS_MAX_BATCH, limit);
}

/* How many waiting messages the handlers will begin with soon enough. */
int
sqs_pace_keep(QueueWorker *qw)
{
	double		seconds = Max(KEEP_MIN_S, qw->visibility / 4.0);
	int			each = qw->config->takes_batches ? qw->config->handler_batch_size : 1;

	if (qw->pace.per_second <= 0)
		return INT_MAX;
	return (int) Min(Max(ceil(qw->pace.per_second * seconds), qw->config->concurrency * each), INT_MAX);
}
