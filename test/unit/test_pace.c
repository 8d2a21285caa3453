/*-------------------------------------------------------------------------
 *
 * test_pace.c
 *	  How much is wanted in hand, for handlers and networks of all speeds.
 *
 * src/receive/pace.c is server code, but all that it needs of the server is the
 * number of entries of a hash table.  The cases are those of the table in
 * src/README ("How much is received").
 *
 *-------------------------------------------------------------------------
 */
/* the server is compiled without this warning */
#pragma GCC diagnostic ignored "-Wunused-parameter"

#undef FRONTEND
#define UNIT_OF_SERVER_CODE
#include "postgres.h"

#include "receive/pace.h"
#include "tap.h"

static long ngroups;

#define hash_get_num_entries(table)	(ngroups)

#include "../../src/receive/pace.c"

static QueueWorker worker;
static SqsQueueConfig config;

/* Handlers that are ready and idle; R is in ms. */
static QueueWorker *
begin(int concurrency, int round_trip)
{
	memset(&worker, 0, sizeof(worker));
	memset(&config, 0, sizeof(config));
	config.batch_size = 10;
	config.concurrency = concurrency;
	worker.config = &config;
	worker.visibility = 30;
	for (int i = 0; i < concurrency; i++)
		worker.pool.handlers[i].used = worker.pool.handlers[i].ready = true;
	sqs_pace_init(&worker);
	sqs_pace_answered(&worker, round_trip);
	return &worker;
}

/* Messages that take so long each; returns the aim. */
static SqsAim
handle(QueueWorker *qw, uint32 micros, int n)
{
	SqsAim		aim;

	for (int i = 0; i < n; i++)
		sqs_pace_handled(qw, micros);
	sqs_pace_turn(qw);
	sqs_pace_aim(qw, &aim);
	return aim;
}

static void
examples(void)
{
	static const struct
	{
		uint32		micros;
		int			concurrency;
		int			round_trip;
		int			per_second;
		int			in_hand;
		int			batch;
	}			cases[] =
	{
		{100, 4, 20, 40000, 3200, 10},
		{100, 4, 100, 40000, 8000, 10},
		{20000, 1, 20, 50, 12, 10},
		{20000, 32, 20, 1600, 128, 10},
		{200000, 1, 20, 5, 6, 5},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		QueueWorker *qw = begin(cases[i].concurrency, cases[i].round_trip);
		SqsAim		aim = handle(qw, cases[i].micros, 1);

		ok(aim.measured, "handlers of %u us", cases[i].micros);
		is_int((int) (qw->pace.per_second + 0.5), cases[i].per_second, "get through so many");
		is_int(aim.in_hand, cases[i].in_hand, "so many are wanted in hand");
		is_int(aim.batch, cases[i].batch, "received so many at a time");
		ok(aim.asked <= aim.in_hand && aim.asked >= aim.batch, "not all of them asked for at once");
	}
}

/* Nothing is received ahead of handlers that are slow, or not known. */
static void
nothing_ahead(void)
{
	QueueWorker *qw = begin(32, 20);
	SqsAim		aim;

	sqs_pace_turn(qw);
	sqs_pace_aim(qw, &aim);
	ok(!aim.measured && aim.in_hand == 32, "before the first message: one for each handler");
	is_int(sqs_pace_keep(qw), INT_MAX, "and nothing is given back");
	aim = handle(qw, 10 * 1000000, 1);
	ok(!aim.measured && aim.in_hand == 32, "handlers of ten seconds: one for each");
	aim = handle(qw, 1000, 1000);
	ok(aim.measured && aim.in_hand > 100, "when they are quick, more");
	sqs_pace_forget(qw);
	sqs_pace_turn(qw);
	sqs_pace_aim(qw, &aim);
	ok(!aim.measured && aim.in_hand == 32, "another handler begins anew");
}

/* Handlers that are stuck lower the pace before they have finished. */
static void
stuck(void)
{
	QueueWorker *qw = begin(4, 20);
	SqsAim		quick = handle(qw, 1000, 100);
	SqsAim		aim;

	for (int i = 0; i < 4; i++)
		qw->pool.handlers[i].age_us = 10 * 1000000;
	sqs_pace_turn(qw);
	sqs_pace_aim(qw, &aim);
	ok(aim.in_hand <= 6 && quick.in_hand > 100, "when all are stuck little is wanted: %d instead of %d",
	   aim.in_hand, quick.in_hand);
	is_int(sqs_pace_keep(qw), 4, "and what waits is given back, but for the next of each");
	qw->pool.handlers[0].age_us = 0;
	sqs_pace_turn(qw);
	ok(qw->pace.per_second > 900, "one that goes on counts alone");
	for (int i = 0; i < 4; i++)
		qw->pool.handlers[i].ready = false;
	sqs_pace_turn(qw);
	ok(qw->pace.per_second > 900, "if all have left, one that will come counts");

	qw = begin(4, 20);
	for (int i = 0; i < 4; i++)
		qw->pool.handlers[i].age_us = 10 * 1000000;
	sqs_pace_turn(qw);
	is_int(sqs_pace_keep(qw), 4, "if the first messages are stuck, what waits is given back");
	sqs_pace_aim(qw, &aim);
	is_int(aim.in_hand, 4, "and no more is wanted");
}

/* So many messages are done now. */
static void
done(QueueWorker *qw, int n)
{
	for (int i = 0; i < n; i++)
		sqs_pace_done(qw);
	sqs_pace_turn(qw);
}

static int
per_second(const QueueWorker *qw)
{
	return (int) (qw->pace.per_second + 0.5);
}

/* What is completed bounds what the handlers are thought to get through. */
static void
completed(void)
{
	QueueWorker *qw = begin(4, 20);
	SqsAim		aim;

	qw->now = 1000000;
	(void) handle(qw, 100, 1);
	is_int(per_second(qw), 40000, "before the first is done, handlers of 100 us say how quick they are");
	done(qw, 1);
	is_int(per_second(qw), 20, "one in a tenth of a second: twice that");
	sqs_pace_aim(qw, &aim);
	is_int(aim.batch, 10, "still a whole batch is asked for");
	ok(aim.in_hand >= 4 + 10 && aim.asked >= 10, "when less than one for each handler is left");
	done(qw, 999);
	is_int(per_second(qw), 20000, "a thousand, before the tenth is over");
	sqs_pace_aim(qw, &aim);
	is_int(aim.in_hand, 1600, "so many are wanted in hand");
	is_int(aim.finished, 4 + 600 + 20, "and so many may be finished");
	qw->now += 99;
	done(qw, 1000);
	is_int(per_second(qw), 40000, "another thousand in the same tenth");
	qw->now += 1;
	done(qw, 10);
	is_int(per_second(qw), 40000, "the best of them counts");
	qw->now += 2450;
	done(qw, 500);
	qw->now += 2350;
	sqs_pace_turn(qw);
	is_int(per_second(qw), 40000, "for five seconds");
	qw->now += 100;
	sqs_pace_turn(qw);
	is_int(per_second(qw), 10000, "then the next best");
	qw->now += 5000;
	sqs_pace_turn(qw);
	is_int(per_second(qw), 40000, "if nothing was done, nothing is known of it");
	done(qw, 50);
	is_int(per_second(qw), 1000, "after that");
	qw->now -= 10000;
	sqs_pace_turn(qw);
	is_int(per_second(qw), 40000, "a clock that was set back begins anew");
	(void) handle(qw, 200000, 1000);
	done(qw, 1);
	is_int(per_second(qw), 20, "slow handlers complete one in a tenth of a second, which is no bound");

	qw = begin(4, 20);
	sqs_pace_turn(qw);
	sqs_pace_aim(qw, &aim);
	ok(aim.finished >= 20, "some may be finished before anything is known");
}

/* So many that those before do not matter. */
static void
answered(QueueWorker *qw, long ms)
{
	for (int i = 0; i < 200; i++)
		sqs_pace_answered(qw, ms);
}

/* With time to spare, the mean of what varies counts, within bounds. */
static void
jitter(void)
{
	QueueWorker *qw = begin(4, 5);

	for (int i = 0; i < 200; i++)
	{
		qw->now += 10;
		sqs_pace_answered(qw, i % 2 == 0 ? 5 : 75);
	}
	is_int((int) qw->pace.round_trip, 5, "without time to spare the least counts");
	qw->has_time = true;
	for (int i = 0; i < 200; i++)
	{
		qw->now += 10;
		sqs_pace_answered(qw, i % 2 == 0 ? 5 : 75);
	}
	ok(qw->pace.round_trip > 35 && qw->pace.round_trip < 45, "with it, the mean: %f", qw->pace.round_trip);
	for (int i = 0; i < 200; i++)
	{
		qw->now += 10;
		sqs_pace_answered(qw, i % 2 == 0 ? 5 : 1000);
	}
	is_int((int) qw->pace.round_trip, 80, "but not more than 16 times the least");
	qw->has_time = false;
	for (int i = 0; i < 200; i++)
		sqs_pace_answered(qw, 1000);
	is_int((int) qw->pace.round_trip, 5, "and the least again when it is busy");
	qw->has_time = true;
	for (int i = 0; i < 200; i++)
	{
		qw->now += 100;
		sqs_pace_answered(qw, 200);
	}
	is_int((int) qw->pace.round_trip, 200, "what the network has become is known after a while");
}

/*
 * While this process has no time to spare, the round trip is the least of the
 * last five to ten seconds.
 */
static void
round_trips(void)
{
	QueueWorker *qw = begin(4, 400);

	answered(qw, 90);
	answered(qw, 3000);
	is_int((int) qw->pace.round_trip, 90, "the least counts");
	qw->now += 5000;
	answered(qw, 200);
	is_int((int) qw->pace.round_trip, 90, "for five seconds more");
	qw->now += 5000;
	answered(qw, 300);
	is_int((int) qw->pace.round_trip, 200, "and is forgotten then");
	qw->now += 5000;
	answered(qw, 0);
	is_int((int) qw->pace.round_trip, 4, "it is never less than a turn of a busy loop");
	qw->now += 10000;
	answered(qw, 60000);
	qw->now += 5000;
	answered(qw, 60000);
	is_int((int) qw->pace.round_trip, 2000, "nor more than two seconds");
}

/* Of a message group one message is handled at a time. */
static void
fifo(void)
{
	QueueWorker *qw = begin(8, 20);

	config.fifo = true;
	ngroups = 2;
	(void) handle(qw, 10000, 1);
	is_int((int) (qw->pace.per_second + 0.5), 200, "two groups keep two of eight handlers busy");
	ngroups = 100;
	sqs_pace_turn(qw);
	is_int((int) (qw->pace.per_second + 0.5), 800, "many keep all of them");
	is_int(handle(begin(64, 2000), 100, 1).in_hand > FIFO_MAX, 1, "of a standard queue there may be more in hand");
	config.fifo = true;
	is_int(handle(&worker, 100, 1).in_hand, FIFO_MAX, "than of a FIFO queue");
}

void
test_pace(void)
{
	examples();
	nothing_ahead();
	stuck();
	completed();
	round_trips();
	jitter();
	fifo();
}
