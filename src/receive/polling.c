/*-------------------------------------------------------------------------
 *
 * polling.c
 *	  Finding the queue at SQS, and receiving from it.
 *
 * While the queue is idle one receive is open.  A reply with at least half of
 * what was asked for allows one more in parallel, so that their number doubles
 * in a round trip; one with less takes one away (SQS often returns 7 of 10 with
 * a backlog), and an empty one goes back to one.  How many are opened is a
 * matter of how many messages are wanted (pace.c): a receive is opened when a
 * whole batch of them is.  Only one waits for wait_time, the others for a second
 * at most: so when a burst is over, they soon are, and messages that come later
 * do not arrive one in each.  (They do not ask for a wait of 0: then SQS looks
 * at some of its servers only, and returns nothing although there are messages.)
 *
 * An empty reply that came without waiting is not followed by another receive
 * for half a second.
 *
 * Failures.  A poll that fails while others succeed stops nothing (a "miss"):
 * the next poll is its retry, and tokens for that come from the client's retry
 * budget.  The queue backs off when nothing gets through: when three polls in a
 * row have failed, or one by an error that a retry does not mend, or for whose
 * retry there is no token.  Then there is one poll after 0.5 s to 60 s, for as
 * long as SQS or the network fail.  While misses are all there is, no more
 * polls are open than may still fail before that; so an outage costs two polls
 * more than its back-off, whatever the width.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/queue_stats.h"
#include "base/settings.h"
#include "receive/dispatch.h"
#include "receive/lease.h"
#include "receive/marks.h"
#include "receive/pace.h"
#include "receive/polling.h"
#include "receive/route_state.h"
#include "receive/waiting.h"

#define POLL_BACKOFF_MIN_MS		500
#define POLL_BACKOFF_MAX_MS		60000
#define POLL_MARGIN_MS			10000	/* deadline of a poll, beyond its
										 * wait_time */
#define EMPTY_PAUSE_MS			500 /* from the start of an empty poll to the
									 * next */
#define SETUP_DEADLINE_MS		15000
#define MISSES_IN_A_ROW			3	/* so many are an outage */
#define FURTHER_WAIT_S			1	/* of a poll besides the one that waits
									 * for wait_time */
#define FINISHED_MIN			1024	/* in hand and finished: so many do
										 * not stop receives */
#define SURPLUS_LOOK_MS			1000
#define SURPLUS_PATIENCE_MS		5000	/* handlers may be stuck for a moment */
#define SPARE_RECEIVES			3	/* maxReceiveCount, if one is to be used
									 * up by giving back */
#define SURPLUS_MAX				1000	/* messages given back at a time: 100
										 * calls a second */

/*
 * Can this failure of a poll be passed over?  Yes, if another has succeeded
 * since it was begun, or it may be retried; but not often in a row.
 */
static bool
poll_missed(QueueWorker *qw, const Poll *poll, const AwsError *error)
{
	int			taken;

	qw->polling.misses++;
	if (qw->polling.misses >= MISSES_IN_A_ROW)
		return false;
	taken = aws_retry_budget_take(sqs_client_retry_budget(qw->client), error->class);
	if (taken == 0 && qw->polling.succeeded_at <= poll->started_at)
		return false;
	qw->polling.retry_taken += taken;
	qw->polling.retry_at = qw->now + aws_retry_pause(error->class, qw->polling.misses);
	/* SQS says itself that there are too many calls */
	if (error->class == AWS_ERROR_THROTTLED)
		qw->polling.width = Max(qw->polling.width * 7 / 10, 1);
	sqs_count(qw->stats, SQS_POLL_FAILURES, 1);
	return true;
}

/* A poll has succeeded: that ends the misses. */
static void
end_misses(QueueWorker *qw)
{
	qw->polling.succeeded_at = qw->now;
	if (qw->polling.retry_taken > 0)
		aws_retry_budget_succeeded(sqs_client_retry_budget(qw->client), qw->polling.retry_taken);
	qw->polling.retry_taken = 0;
	qw->polling.misses = 0;
	qw->polling.retry_at = 0;
}

/* A call without which nothing can be received has failed: back off. */
static void
poll_failed(QueueWorker *qw, const char *action, const AwsError *error)
{
	char		text[SQS_ERROR_TEXT];
	long		delay;
	TimestampTz next_at;

	snprintf(text, sizeof(text), "%s: %s: %s%s%s", aws_error_action(error, action),
			 error->code, error->message,
			 error->request_id[0] ? " (request id " : "", error->request_id);
	if (error->request_id[0])
		strlcat(text, ")", sizeof(text));

	sqs_count(qw->stats, SQS_POLL_FAILURES, 1);
	if (qw->stopping)
		return;
	qw->polling.misses = 0;
	qw->polling.retry_at = 0;
	qw->polling.failures++;
	qw->polling.failed_at = qw->now;
	delay = sqs_backoff_ms(qw->polling.failures, POLL_BACKOFF_MIN_MS, POLL_BACKOFF_MAX_MS);
	qw->polling.next = qw->now + delay;
	sqs_queue_error(qw, SQS_QUEUE_BACKING_OFF, text);
	next_at = sqs_ms_to_timestamp(qw, qw->polling.next);
	SpinLockAcquire(&qw->stats->mutex);
	qw->stats->next_poll_at = next_at;
	SpinLockRelease(&qw->stats->mutex);
}

/* Completion function of GetQueueUrl. */
static void
url_done(SqsCall *call, void *arg)
{
	QueueWorker *qw = arg;
	const AwsError *error = sqs_call_error(call);

	qw->polling.setup_call = NULL;
	sqs_count_call(call, qw->stats);
	if (error != NULL)
		poll_failed(qw, "GetQueueUrl", error);
	else
	{
		qw->queue_url = MemoryContextStrdup(qw->context, sqs_call_queue_url(call));
		qw->polling.failures = 0;
	}
	sqs_call_free(call);
}

/*
 * Say so if the queue at AWS may give up on messages before we do.  A message is
 * received more often than it is tried.
 */
static void
compare_limits(QueueWorker *qw, int max_receives)
{
	if (qw->config->max_attempts == 0 || max_receives == 0 ||
		max_receives > 2 * qw->config->max_attempts)
		return;
	ereport(LOG,
			(errmsg("sqsbridge queue \"%s\": SQS may move messages to its own dead-letter queue before they have had %d attempts",
					qw->config->name, qw->config->max_attempts),
			 errdetail("The redrive policy of the queue at AWS has a maxReceiveCount of %d.", max_receives),
			 errhint("Increase it to more than twice the option max_attempts.")));
}

/* The queue's own visibility timeout is known, or may not be read: start polling. */
static void
attributes_done(SqsCall *call, void *arg)
{
	QueueWorker *qw = arg;
	const AwsError *error = sqs_call_error(call);
	int			own = -1;

	qw->polling.setup_call = NULL;
	sqs_count_call(call, qw->stats);
	if (error != NULL)
	{
		/*
		 * permission to receive does not include permission to read
		 * attributes
		 */
		if (error->class != AWS_ERROR_CONFIGURATION)
		{
			poll_failed(qw, "GetQueueAttributes", error);
			sqs_call_free(call);
			return;
		}
		ereport(LOG,
				(errmsg("sqsbridge queue \"%s\" cannot read its attributes: %s: %s",
						qw->config->name, error->code, error->message),
				 errdetail("A visibility timeout of %d s is used unless the queue's option visibility_timeout is set.",
						   SQS_DEFAULT_VISIBILITY)));
	}
	else
	{
		own = sqs_call_queue_attributes(call)->visibility_timeout;
		qw->retention = Max(sqs_call_queue_attributes(call)->retention, 0);
	}

	/*
	 * Every receive specifies the visibility timeout, so that we know it.
	 * With a timeout of 0 s there would be no lease at all, so use at least 1
	 * s.
	 */
	if (qw->config->visibility_timeout > 0)
		qw->visibility = qw->config->visibility_timeout;
	else
		qw->visibility = own >= 0 ? Max(own, 1) : SQS_DEFAULT_VISIBILITY;
	qw->attributes_known = true;
	qw->polling.failures = 0;
	if (error == NULL)
		compare_limits(qw, sqs_call_queue_attributes(call)->max_receives);
	sqs_queue_is_well(qw);
	sqs_call_free(call);
}

/* Find out the queue's URL, then its attributes; one call at a time. */
static void
look_up_queue(QueueWorker *qw)
{
	if (qw->polling.setup_call != NULL)
		return;
	if (qw->now < qw->polling.next)
	{
		sqs_wake_at(qw, qw->polling.next);
		return;
	}
	if (qw->queue_url == NULL && strstr(qw->config->queue_name, "://") != NULL)
		qw->queue_url = MemoryContextStrdup(qw->context, qw->config->queue_name);

	if (qw->queue_url == NULL)
		qw->polling.setup_call = sqs_start_get_queue_url(qw->client, qw->config->queue_name,
														 SETUP_DEADLINE_MS, 1, url_done, qw);
	else
		qw->polling.setup_call = sqs_start_get_queue_attributes(qw->client, qw->queue_url,
																SETUP_DEADLINE_MS, 1,
																attributes_done, qw);
}

/* This process's only one; the argument of a receive's completion is its poll. */
static QueueWorker *the_worker = NULL;

/* A poll has failed: that is a miss, or starts or continues a back-off. */
static void
receive_failed(QueueWorker *qw, const Poll *poll, const AwsError *error)
{
	/*
	 * Several polls that were open when the failures began count as one step
	 * of the back-off.  Polls that were made with other keys, or that end
	 * while this worker is stopping, do not count at all.
	 */
	if (qw->stopping || poll->client != qw->client ||
		(qw->polling.failures > 0 && poll->started_at <= qw->polling.failed_at))
		sqs_count(qw->stats, SQS_POLL_FAILURES, 1);
	else if (qw->polling.failures > 0 || !poll_missed(qw, poll, error))
	{
		poll_failed(qw, "ReceiveMessage", error);
		qw->polling.width = 1;
	}
	/* it may have been deleted and created again with another URL */
	if (error->class == AWS_ERROR_NO_QUEUE &&
		strstr(qw->config->queue_name, "://") == NULL)
		qw->queue_url = NULL;
}

/* A poll has succeeded, with messages or without: that ends misses and back-off. */
static void
receive_succeeded(QueueWorker *qw, const Poll *poll)
{
	TimestampTz received_at;

	end_misses(qw);
	/* a receive from before the failure does not prove that SQS works again */
	if (poll->started_at >= qw->polling.failed_at &&
		(qw->polling.failures > 0 || qw->stats->state != SQS_QUEUE_POLLING))
	{
		qw->polling.failures = 0;
		if (sqs_queue_is_held(qw))
			sqs_routes_show(qw);
		else if (!qw->stopping && qw->paused_until <= qw->now &&
				 (qw->pool.n > 0 || qw->pool.start_failures == 0))
			sqs_queue_is_well(qw);
	}
	received_at = GetCurrentTimestamp();
	SpinLockAcquire(&qw->stats->mutex);
	qw->stats->last_receive_at = received_at;
	SpinLockRelease(&qw->stats->mutex);
}

/*
 * Give the messages of a reply leases, which together own the reply, and with
 * it the call.
 */
static void
add_messages(QueueWorker *qw, SqsCall *call, int visibility)
{
	int			n = sqs_call_nmessages(call);
	Reply	   *reply = MemoryContextAlloc(qw->context, sizeof(Reply));

	reply->call = call;
	reply->leases = 1;			/* ours, until all are in */
	reply->memory = sqs_call_memory(call);
	qw->polling.memory += reply->memory;
	if (qw->polling.mean_size == 0)
		qw->polling.mean_size = (double) reply->memory / n;
	else
		qw->polling.mean_size += ((double) reply->memory / n - qw->polling.mean_size) / 8;

	for (int i = 0; i < n; i++)
	{
		Lease	   *lease = sqs_lease_add(qw, reply, sqs_call_message(call, i), visibility);

		if (lease == NULL)
			break;				/* more than requested: leave them to time out */
		sqs_waiting_add(qw, lease);
	}
	if (--reply->leases == 0)
	{
		qw->polling.memory -= reply->memory;
		sqs_call_free(call);
		pfree(reply);
	}
}

/* Completion function of a poll. */
static void
receive_done(SqsCall *call, void *arg)
{
	QueueWorker *qw = the_worker;
	Poll	   *poll = arg;
	const AwsError *error = sqs_call_error(call);
	int			asked = poll->asked;
	int			n;
	bool		half_full;

	poll->call = NULL;
	qw->polling.n--;
	qw->polling.asked -= asked;
	if (poll->is_long)
		qw->polling.nlong--;
	sqs_count_call(call, qw->stats);

	if (error != NULL)
	{
		receive_failed(qw, poll, error);
		sqs_call_free(call);
		return;
	}

	n = sqs_call_nmessages(call);
	receive_succeeded(qw, poll);
	if (n == 0)
	{
		/* it may not have waited: wait_time is 0, or a proxy answered for SQS */
		qw->polling.width = 1;
		qw->polling.full = false;
		qw->polling.next = Max(qw->polling.next, poll->started_at + EMPTY_PAUSE_MS);
		sqs_call_free(call);
		return;
	}
	half_full = n >= (asked + 1) / 2;
	if (!half_full)
		qw->polling.width = Max(qw->polling.width - 1, 1);
	else if (qw->polling.width < SQS_MAX_POLLS)
		qw->polling.width++;

	/*
	 * There was a backlog, so it did not wait for messages.  SQS often
	 * returns fewer than were asked for, also then.
	 */
	if (half_full && poll->after_full)
		sqs_pace_answered(qw, sqs_call_elapsed_ms(call));
	qw->polling.full = half_full;

	sqs_count(qw->stats, SQS_RECEIVED, n);
	pg_atomic_fetch_add_u64(&MySlot->messages, n);
	add_messages(qw, call, poll->visibility);
}

/* An error if the call cannot be started; then nothing has changed. */
static void
start_poll(QueueWorker *qw, int asked)
{
	Poll	   *poll = qw->polling.polls;
	bool		is_long = qw->polling.nlong == 0;
	int			wait = is_long ? qw->config->wait_time : Min(qw->config->wait_time, FURTHER_WAIT_S);

	while (poll->call != NULL)
		poll++;
	Assert(poll < qw->polling.polls + SQS_MAX_POLLS);
	poll->asked = asked;
	poll->client = qw->client;
	poll->visibility = qw->visibility;
	poll->is_long = is_long;
	poll->after_full = qw->polling.full;
	poll->started_at = qw->now;
	poll->call = sqs_start_receive(qw->client, qw->queue_url, asked, wait, qw->visibility,
								   (long) wait * 1000 + POLL_MARGIN_MS,
								   receive_done, poll);
	qw->polling.n++;
	qw->polling.asked += asked;
	if (is_long)
		qw->polling.nlong++;
}

/*
 * Open as many receives as make sense: within the width, what is wanted in hand,
 * the room in the table of leases, sqsbridge.max_in_flight_memory, and the
 * connections that this process may have.
 */
static void
start_polls(QueueWorker *qw)
{
	SqsAim		aim;
	int			all;
	int			blocked;
	int			finished;
	int			held;
	int64		not_before = Max(Max(qw->polling.next, qw->polling.retry_at), qw->paused_until);
	int			most = Min(qw->polling.width, Min(SQS_MAX_POLLS, qw->max_calls));

	if (qw->now < not_before)
	{
		sqs_wake_at(qw, not_before);
		return;
	}
	if (qw->polling.failures == 0 && qw->polling.misses > 0)
		most = Min(most, MISSES_IN_A_ROW - qw->polling.misses);
	if (!sqs_dispatch_is_possible(qw))
		return;
	if (sqs_queue_is_held(qw))
	{
		if (sqs_route_wants_message(qw) && sqs_leases_room(qw, 1) > 0)
			start_poll(qw, 1);
		return;
	}
	sqs_pace_aim(qw, &aim);
	blocked = sqs_waiting_blocked(qw, &held);
	finished = qw->table.n - qw->waiting.n - qw->holding.n - qw->handed;

	while (qw->polling.n < most && sqs_calls_room(qw) > 0)
	{
		int			n = aim.batch;

		all = qw->waiting.n + qw->handed + qw->polling.asked;

		/*
		 * Without a measured pace, a further poll for less than a batch would
		 * cost more than it is worth.
		 */
		if (!aim.measured)
		{
			n = Min(n, aim.in_hand - (all - blocked));
			if (n <= 0 || (qw->polling.n > 0 && n < aim.batch))
				break;
		}
		else if (all - blocked + n > aim.in_hand || all - held + n > aim.at_most ||
				 qw->polling.asked + n > aim.asked)
			break;

		/*
		 * If messages that are finished pile up, because deletes are slower
		 * than receives, they take the place of others, so that the deletes
		 * catch up.
		 */
		if (all - blocked + n + finished > Max(aim.in_hand + aim.finished, FINISHED_MIN))
			break;
		if (sqs_leases_room(qw, qw->polling.asked + n) < qw->polling.asked + n)
			break;
		if (qw->polling.memory + (qw->polling.asked + n) * qw->polling.mean_size >
			(double) sqs_max_in_flight_memory * 1024 &&
			(qw->table.n > 0 || qw->polling.n > 0))
			break;
		start_poll(qw, n);
	}
}

/*
 * Completion function: may messages be given back?  That takes one of the
 * receives that the queue's redrive policy allows, and what has used them up goes
 * to the dead-letter queue, though it was never handled.
 */
static void
policy_done(SqsCall *call, void *arg)
{
	QueueWorker *qw = arg;
	int			limit;

	qw->polling.policy_call = NULL;
	sqs_count_call(call, qw->stats);
	if (sqs_call_error(call) == NULL)
	{
		limit = sqs_call_queue_attributes(call)->max_receives;
		qw->polling.may_give_back = limit == 0 || limit >= SPARE_RECEIVES;
	}
	sqs_call_free(call);
}

/*
 * More messages wait than the handlers will begin with soon.  Before any is given
 * back, look at the redrive policy, which may have changed.
 */
static void
surplus_begins(QueueWorker *qw)
{
	qw->polling.surplus_since = qw->now;
	qw->polling.may_give_back = false;
	if (qw->polling.policy_call == NULL)
		qw->polling.policy_call = sqs_start_get_queue_attributes(qw->client, qw->queue_url,
																 SETUP_DEADLINE_MS, 3,
																 policy_done, qw);
}

/*
 * If more messages wait than the handlers will begin with soon, and that has
 * been so for a while, give the rest back.  Not while the queue itself keeps
 * them waiting.
 */
static void
give_back_surplus(QueueWorker *qw)
{
	int			held;
	int			waiting = qw->waiting.n - sqs_waiting_blocked(qw, &held);
	int			surplus;

	if (qw->waiting.n == 0 || qw->paused_until > qw->now || sqs_queue_is_held(qw))
	{
		qw->polling.surplus_since = 0;
		return;
	}
	if (qw->now < qw->polling.next_surplus)
	{
		sqs_wake_at(qw, qw->polling.next_surplus);
		return;
	}
	qw->polling.next_surplus = qw->now + SURPLUS_LOOK_MS;
	sqs_wake_at(qw, qw->polling.next_surplus);

	surplus = waiting - sqs_pace_keep(qw);
	if (surplus <= 0)
		qw->polling.surplus_since = 0;
	else if (qw->polling.surplus_since == 0)
		surplus_begins(qw);
	else if (qw->polling.may_give_back &&
			 qw->now >= qw->polling.surplus_since + SURPLUS_PATIENCE_MS)
		(void) sqs_waiting_give_back(qw, Min(surplus, SURPLUS_MAX));
}

/*
 * Abandon all polls.  A message that one of them would have brought stays
 * invisible until its visibility timeout ends.
 */
void
sqs_polling_abandon(QueueWorker *qw)
{
	for (int i = 0; i < SQS_MAX_POLLS; i++)
	{
		if (qw->polling.polls[i].call == NULL)
			continue;
		sqs_count_call(qw->polling.polls[i].call, qw->stats);
		sqs_call_abandon(qw->polling.polls[i].call);
		qw->polling.polls[i].call = NULL;
	}
	qw->polling.n = 0;
	qw->polling.nlong = 0;
	qw->polling.asked = 0;
}

/* Initialize polling, with one receive call at a time. */
void
sqs_polling_init(QueueWorker *qw)
{
	the_worker = qw;
	qw->polling.width = 1;
	qw->visibility = SQS_DEFAULT_VISIBILITY;
}

/*
 * Open receives; before the first one, find out the queue's URL and its
 * visibility timeout, and make sure that there is an open mark (marks.h).
 */
void
sqs_polling_turn(QueueWorker *qw)
{
	if (!qw->attributes_known || qw->queue_url == NULL)
		look_up_queue(qw);
	else if (sqs_marks_begin(qw))
	{
		give_back_surplus(qw);
		start_polls(qw);
	}
}

/*
 * Count the calls of open polls now, rather than up to wait_time later, when
 * they end.
 */
void
sqs_polling_count(QueueWorker *qw)
{
	int			left = qw->polling.n;

	for (int i = 0; left > 0; i++)
	{
		if (qw->polling.polls[i].call == NULL)
			continue;
		sqs_count_call(qw->polling.polls[i].call, qw->stats);
		left--;
	}
}
