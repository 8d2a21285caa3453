/*-------------------------------------------------------------------------
 *
 * route_state.c
 *	  Routes whose handler fails again and again.
 *
 * If a table is locked or gone, or a foreign server is down, every message
 * fails.  To go on as usual would use up attempts and receives of all of them,
 * and end in the dead-letter queue.  So a route is held
 *
 *	- when a message has failed by an error for which the rule is "pause",
 *	- when throttle_after messages, different ones, have failed in a row, or
 *	- if the queue has routes, when the function of this one cannot be called.
 *
 * Then nothing of the route is handed out but one message at a time, a probe,
 * after 1 s, doubling up to a minute.  The first that succeeds ends it, and the
 * route goes on at full speed; so does a pause when one fails by an error that
 * does not say "pause".  A queue without routes has one.
 *
 * Such failures do not count as attempts of their messages.  But a single message
 * can also be at fault when its error says "pause": one that needs more memory
 * than there is.  If another message of the route has succeeded since it failed,
 * then it is to blame, and its next failure counts (SQS_FRAME_BLAME).  For this
 * to happen, another one must be tried: probes alternate between those that have
 * been tried, the least recently tried first, and one that has not.
 *
 * What is in hand stays there for a minute.  Then all but KEPT are given back,
 * for consumers that may be better off.  Nothing is received while there is
 * something to try; only if all that is in hand has been tried, and that are less
 * than KEPT, one message more.  So an outage costs each message one receive at
 * most, however long it lasts.
 *
 * FIFO queues: a message group is tried by its first message; the others wait
 * behind it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "base/errors.h"
#include "base/queue_stats.h"
#include "receive/lease.h"
#include "receive/pace.h"
#include "receive/route_state.h"
#include "receive/waiting.h"

#define PROBE_MIN_MS	1000
#define PROBE_MAX_MS	60000
#define KEEP_ALL_MS		60000	/* what is in hand is kept for so long, */
#define KEPT			4		/* then so many messages or groups */
#define GIVEN_BACK_S	30		/* if other routes run: at least, so that they
								 * do not come back at once */

/* Out of memory?  Then this process must not lose its grip on a message. */
static void *
alloc_or_null(QueueWorker *qw, Size size)
{
	return MemoryContextAllocExtended(qw->context, size, MCXT_ALLOC_ZERO | MCXT_ALLOC_NO_OOM);
}

/*
 * The states are made when they are first needed.  If there is no memory for one,
 * the route counts as the queue's handler, whose state is made at the start.
 */
RouteState *
sqs_route_state(QueueWorker *qw, int16 route)
{
	Routes	   *routes = &qw->routes;
	int			n = route + 1;

	if (n >= routes->size)
	{
		RouteState **states = alloc_or_null(qw, (n + 1) * sizeof(RouteState *));

		if (states == NULL)
			return routes->states[0];
		if (routes->size > 0)
		{
			memcpy(states, routes->states, routes->size * sizeof(RouteState *));
			pfree(routes->states);
		}
		routes->states = states;
		routes->size = n + 1;
	}
	if (routes->states[n] == NULL)
	{
		RouteState *state = alloc_or_null(qw, sizeof(RouteState));

		if (state == NULL)
			return routes->states[0];
		state->route = route;
		dlist_init(&state->aside);
		routes->states[n] = state;
	}
	return routes->states[n];
}

/* Raises an error if there is no memory. */
void
sqs_routes_init(QueueWorker *qw)
{
	RouteState *state = MemoryContextAllocZero(qw->context, sizeof(RouteState));

	state->route = -1;
	dlist_init(&state->aside);
	qw->routes.states = MemoryContextAllocZero(qw->context, sizeof(RouteState *));
	qw->routes.states[0] = state;
	qw->routes.size = 1;
}

/* It is to blame if others have succeeded since it failed. */
uint32
sqs_route_frame_flags(QueueWorker *qw, Lease *lease, bool is_probe)
{
	RouteState *route;

	lease->blamed = false;
	if (!lease->tried && !is_probe)
		return 0;
	route = sqs_route_state(qw, lease->route);
	lease->blamed = lease->paused && route->successes > lease->paused_at;
	return (lease->tried ? SQS_FRAME_TRIED : 0) |
		(is_probe ? SQS_FRAME_PROBE : 0) |
		(is_probe && route->hold == ROUTE_THROTTLED ? SQS_FRAME_UNCHARGED : 0) |
		(lease->blamed ? SQS_FRAME_BLAME : 0);
}

/* The route of a group's first message; there is one. */
static RouteState *
route_of_head(QueueWorker *qw, MessageGroup *group)
{
	return sqs_route_state(qw, dlist_head_element(Lease, node, &group->waiting)->route);
}

/* ---- holding a route ---- */

/* Say in sqs_stats that the queue is held, and when the next probe is. */
void
sqs_routes_show(QueueWorker *qw)
{
	RouteState *route = sqs_route_state(qw, -1);
	TimestampTz next_at;

	if (!sqs_queue_is_held(qw) || qw->stopping)
		return;
	(void) sqs_stats_set_state(qw->stats, route->hold == ROUTE_PAUSED ?
							   SQS_QUEUE_PAUSED : SQS_QUEUE_THROTTLED);
	next_at = sqs_ms_to_timestamp(qw, route->next_probe);
	SpinLockAcquire(&qw->stats->mutex);
	qw->stats->next_poll_at = next_at;
	SpinLockRelease(&qw->stats->mutex);
}

/*
 * If the queue has routes, handlers find out which one a message takes.  So tell
 * them which are held; what they get of these nevertheless comes back unrun.
 */
void
sqs_routes_tell(QueueWorker *qw, Handler *handler)
{
	SqsChannelShared *shared = handler->channel->shared;

	SpinLockAcquire(&shared->mutex);
	shared->nheld = 0;
	for (int i = 0; i < qw->routes.size; i++)
	{
		RouteState *route = qw->routes.states[i];

		if (route != NULL && route->hold != ROUTE_RUNS && shared->nheld < SQS_CHANNEL_ROUTES)
			shared->held[shared->nheld++] = route->route;
	}
	SpinLockRelease(&shared->mutex);
}

static void
tell_handlers(QueueWorker *qw)
{
	for (int i = 0; i < SQS_CONCURRENCY_MAX; i++)
		if (qw->pool.handlers[i].used)
			sqs_routes_tell(qw, &qw->pool.handlers[i]);
}

/* A probe, or what has led to the hold, has failed: when is the next one? */
static void
next_probe(QueueWorker *qw, RouteState *route)
{
	route->next_probe = qw->now + sqs_backoff_ms(route->steps, PROBE_MIN_MS, PROBE_MAX_MS);
	sqs_wake_at(qw, route->next_probe);
}

/* Tell why; the errors of handlers are told apart by SQLSTATE. */
static void
report(QueueWorker *qw, RouteState *route, const SqsResult *result)
{
	char		text[SQS_ERROR_TEXT];
	SqsQueueState state = route->hold == ROUTE_PAUSED ? SQS_QUEUE_PAUSED : SQS_QUEUE_THROTTLED;

	if (result->outcome == SQS_OUTCOME_CANNOT_RUN)
		sqs_copy_text(text, result->text, sizeof(text));
	else
		snprintf(text, sizeof(text), "handler: %s: %s", unpack_sql_state(result->sqlstate), result->text);
	if (sqs_queue_is_held(qw) && !qw->stopping)
		sqs_queue_error(qw, state, text);
	else if (sqs_stats_error(qw->stats, text))
		ereport(LOG,
				(errmsg("sqsbridge queue \"%s\": %s", qw->config->name, text)));
	sqs_routes_show(qw);
}

static void
hold_route(QueueWorker *qw, RouteState *route, RouteHold hold, const SqsResult *result)
{
	route->hold = hold;
	route->since = qw->now;
	route->steps = 1;
	route->fresh_next = false;
	qw->routes.nheld++;
	qw->routes.take_back = qw->config->route_by == NULL;
	tell_handlers(qw);
	next_probe(qw, route);
	report(qw, route, result);
}

/* Something has succeeded: go on. */
static void
release_route(QueueWorker *qw, RouteState *route)
{
	dlist_mutable_iter iter;
	dlist_iter	group_iter;

	route->hold = ROUTE_RUNS;
	route->steps = 0;
	qw->routes.nheld--;
	tell_handlers(qw);
	dlist_foreach_modify(iter, &route->aside)
		sqs_waiting_take_up(qw, dlist_container(Lease, node, iter.cur));
	dlist_foreach(group_iter, &qw->waiting.groups_ready)
	{
		MessageGroup *group = dlist_container(MessageGroup, node, group_iter.cur);

		if (group->aside && route_of_head(qw, group)->hold == ROUTE_RUNS)
			group->aside = false;
	}
	if (qw->attributes_known && qw->polling.failures == 0 && qw->cannot_run == 0 &&
		!sqs_queue_is_held(qw) && !qw->stopping)
		sqs_queue_is_well(qw);
	sqs_wake_at(qw, qw->now);
}

void
sqs_route_succeeded(QueueWorker *qw, const Lease *lease)
{
	RouteState *route = sqs_route_state(qw, lease->route);

	route->successes++;
	route->nfailed = 0;
	if (route->hold != ROUTE_RUNS)
		release_route(qw, route);
}

/* Note that the message has failed; true if it is the last of too many. */
static bool
is_one_too_many(QueueWorker *qw, RouteState *route, const Lease *lease)
{
	SqsSlice	id = lease->message->message_id;
	uint32		hash = hash_bytes((const unsigned char *) id.data, (int) id.len);
	int			limit = qw->config->throttle_after;

	if (limit == 0)
		return false;
	for (int i = 0; i < route->nfailed; i++)
		if (route->failed[i] == hash)
			return false;
	if (route->nfailed >= route->failed_size)
	{
		uint32	   *failed = alloc_or_null(qw, (route->nfailed + limit) * sizeof(uint32));

		if (failed == NULL)
			return false;
		if (route->failed != NULL)
		{
			memcpy(failed, route->failed, route->nfailed * sizeof(uint32));
			pfree(route->failed);
		}
		route->failed = failed;
		route->failed_size = route->nfailed + limit;
	}
	route->failed[route->nfailed++] = hash;
	return route->nfailed >= limit;
}

/*
 * A failure that was not charged is the route's.  Of the others, those that count
 * for throttle_after are errors, not verdicts.
 */
void
sqs_route_failed(QueueWorker *qw, Lease *lease, const SqsResult *result)
{
	RouteState *route = sqs_route_state(qw, lease->route);

	lease->tried = true;
	lease->tried_at = qw->now;
	if (result->action == SQS_ACTION_PAUSE)
	{
		lease->paused = true;
		lease->paused_at = route->successes;
		if (route->hold == ROUTE_RUNS)
		{
			hold_route(qw, route, ROUTE_PAUSED, result);
			return;
		}
	}
	else if (result->action != SQS_ACTION_THROTTLE && !result->is_verdict &&
			 is_one_too_many(qw, route, lease) && route->hold == ROUTE_RUNS)
	{
		hold_route(qw, route, ROUTE_THROTTLED, result);
		return;
	}

	if (route->hold == ROUTE_RUNS || !lease->is_probe)
		return;

	/*
	 * If a route is paused, and its message fails in another way, then the
	 * handler does not lack what it lacked.  A verdict says nothing about a
	 * route that is throttled: try the next one.
	 */
	if (route->hold == ROUTE_PAUSED && result->action != SQS_ACTION_PAUSE &&
		result->action != SQS_ACTION_KILLED && !lease->blamed)
		release_route(qw, route);
	else if (!result->is_verdict)
	{
		route->steps++;
		next_probe(qw, route);
		report(qw, route, result);
	}
}

/* The function of a route cannot be called: that is no other route's problem. */
void
sqs_route_broken(QueueWorker *qw, Lease *lease, const SqsResult *result)
{
	RouteState *route = sqs_route_state(qw, lease->route);

	lease->tried_at = qw->now;
	if (route->hold == ROUTE_RUNS)
		hold_route(qw, route, ROUTE_PAUSED, result);
	else if (lease->is_probe)
	{
		route->steps++;
		next_probe(qw, route);
		report(qw, route, result);
	}
}

/*
 * If other routes run, a route that is held must not take all the room in hand.
 */
void
sqs_route_keep(QueueWorker *qw, Lease *lease)
{
	RouteState *route = sqs_route_state(qw, lease->route);
	SqsAim		aim;

	/* it may go on already, if the message was sent back because it was held */
	if (route->hold == ROUTE_RUNS && lease->state != LEASE_WAITING)
	{
		sqs_waiting_put_back(qw, lease);
		return;
	}
	if (lease->group != NULL)
	{
		MessageGroup *group = lease->group;

		if (lease->state != LEASE_WAITING)
			sqs_waiting_put_back(qw, lease);
		if (lease->state == LEASE_WAITING && !group->failed)
			group->aside = true;
		return;
	}
	sqs_pace_aim(qw, &aim);
	if (qw->config->route_by != NULL && route->naside >= Max(aim.in_hand / 4, 10) && !qw->stopping)
	{
		if (lease->state == LEASE_WAITING)
			sqs_waiting_remove(qw, lease);
		sqs_count(qw->stats, SQS_GIVEN_BACK, 1);
		sqs_lease_release(qw, lease,
						  (int) Max((route->next_probe - qw->now + 999) / 1000, GIVEN_BACK_S));
		return;
	}
	sqs_waiting_put_aside(qw, lease, route);
}

/* ---- probes ---- */

/* The first message of the group that was tried least recently; NULL: none. */
static Lease *
tried_head(QueueWorker *qw, RouteState *route)
{
	Lease	   *least = NULL;
	dlist_iter	iter;

	dlist_foreach(iter, &qw->waiting.groups_ready)
	{
		MessageGroup *group = dlist_container(MessageGroup, node, iter.cur);
		Lease	   *head;

		if (!group->aside || group->handed > 0)
			continue;
		head = dlist_head_element(Lease, node, &group->waiting);
		if (route_of_head(qw, group) == route && (least == NULL || head->tried_at < least->tried_at))
			least = head;
	}
	return least;
}

/* Can this group's first message be tried, which has not been? */
static bool
is_fresh(const MessageGroup *group)
{
	return !group->failed && !sqs_group_is_held(group) && group->handed == 0 && group->nwaiting > 0;
}

/* Which route fresh messages have is known only if there is just one. */
static Lease *
fresh_message(QueueWorker *qw)
{
	dlist_iter	iter;

	if (qw->config->route_by != NULL)
		return NULL;
	if (!qw->config->fifo)
		return dlist_is_empty(&qw->waiting.list) ? NULL :
			dlist_head_element(Lease, node, &qw->waiting.list);
	dlist_foreach(iter, &qw->waiting.groups_ready)
	{
		MessageGroup *group = dlist_container(MessageGroup, node, iter.cur);

		if (is_fresh(group))
			return dlist_head_element(Lease, node, &group->waiting);
	}
	return NULL;
}

/* The lease is still in its list; the caller hands it out. */
Lease *
sqs_route_probe(QueueWorker *qw, RouteState *route)
{
	Lease	   *tried;
	Lease	   *fresh;

	if (route->probing)
		return NULL;
	if (qw->now < route->next_probe)
	{
		sqs_wake_at(qw, route->next_probe);
		return NULL;
	}
	fresh = fresh_message(qw);
	if (qw->config->fifo)
		tried = tried_head(qw, route);
	else
		tried = dlist_is_empty(&route->aside) ? NULL : dlist_head_element(Lease, node, &route->aside);
	if (tried == NULL || (fresh != NULL && route->fresh_next))
		return fresh;
	return tried;
}

bool
sqs_route_wants_message(QueueWorker *qw)
{
	int			kept = 0;

	if (fresh_message(qw) != NULL || qw->polling.n > 0)
		return false;
	if (qw->config->fifo)
		kept = (int) hash_get_num_entries(qw->waiting.groups);
	else
		kept = qw->waiting.n + qw->holding.n + qw->handed;
	return kept < KEPT;
}

/* ---- giving back ---- */

/* Of a list, keep so many, and release the others, the last first. */
static int
give_back_rest(QueueWorker *qw, dlist_head *list, int n, int keep)
{
	int			given = 0;

	for (; n > keep; n--)
	{
		Lease	   *lease = dlist_tail_element(Lease, node, list);

		sqs_waiting_remove(qw, lease);
		sqs_lease_release(qw, lease, 0);
		given++;
	}
	return given;
}

/* Likewise, groups: so many that were tried, and that were not. */
static void
give_back_groups(QueueWorker *qw, int tried, int fresh)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &qw->waiting.groups_ready)
	{
		MessageGroup *group = dlist_container(MessageGroup, node, iter.cur);

		if (group->handed > 0 || (!group->aside && !is_fresh(group)))
			continue;
		if ((group->aside ? tried-- : fresh--) > 0)
			continue;
		sqs_group_fail(qw, group);
		sqs_group_settle(qw, group);
	}
}

/*
 * Nothing is given back while polls are open, because SQS would return it by one
 * of them.
 */
void
sqs_routes_turn(QueueWorker *qw)
{
	RouteState *route;
	int			tried = 0;
	int			fresh = 0;

	if (!sqs_queue_is_held(qw) || qw->stopping)
		return;
	route = sqs_route_state(qw, -1);
	if (qw->now < route->since + KEEP_ALL_MS)
	{
		sqs_wake_at(qw, route->since + KEEP_ALL_MS);
		return;
	}
	if (qw->config->fifo)
	{
		dlist_iter	iter;

		dlist_foreach(iter, &qw->waiting.groups_ready)
		{
			MessageGroup *group = dlist_container(MessageGroup, node, iter.cur);

			tried += group->aside;
			fresh += is_fresh(group);
		}
	}
	else
	{
		tried = route->naside;
		fresh = qw->waiting.n;
	}
	if (tried + fresh <= KEPT || qw->polling.n > 0)
		return;

	/* at least one of each kind, if there is */
	tried = Min(tried, fresh > 0 ? KEPT - 1 : KEPT);
	fresh = KEPT - tried;
	if (qw->config->fifo)
		give_back_groups(qw, tried, fresh);
	else
		sqs_count(qw->stats, SQS_GIVEN_BACK,
				  give_back_rest(qw, &qw->waiting.list, qw->waiting.n, fresh) +
				  give_back_rest(qw, &route->aside, route->naside, tried));
}

/* The configuration has changed, perhaps for this reason: try at once. */
void
sqs_routes_try_now(QueueWorker *qw)
{
	for (int i = 0; i < qw->routes.size; i++)
		if (qw->routes.states[i] != NULL && qw->routes.states[i]->hold != ROUTE_RUNS)
			qw->routes.states[i]->next_probe = qw->now;
}
