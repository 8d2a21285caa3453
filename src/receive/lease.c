/*-------------------------------------------------------------------------
 *
 * lease.c
 *	  The table of messages in hand; renewing and releasing leases.
 *
 * A message that is received is invisible to other receivers for its visibility
 * timeout: that is its lease.  It is in this table from the receive until it is
 * handled, released or lost.  When half of its time has passed the lease is
 * renewed, ten to a call, whether the message waits or runs.  The time is
 * counted from when the request was sent that got or renewed the lease, so it
 * ends earlier here than at SQS, never later.
 *
 * A lease is lost when SQS reports that for its entry, or when its time has run
 * out without a successful renewal.  A handler that runs the message is then
 * canceled.  In addition it knows the end of the lease, and looks at the clock
 * before it commits.
 *
 * The length of a lease is what its receive asked for, even if the queue's
 * option has been altered since.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/queue_stats.h"
#include "receive/lease.h"
#include "receive/suspects.h"
#include "receive/marks.h"

/* SQS: 12 hours in all since the receive; less a margin for the clocks. */
#define LEASE_TOTAL_MS		((int64) (SQS_MAX_VISIBILITY - 5) * 1000)

/* A commit takes time, so none begins in the last second, or quarter, of a lease. */
#define FENCE_MARGIN_MS		1000

#define RELEASE_LINGER_MS	5
#define RELEASE_RETRY_MS		100 /* after a lack of descriptors */
#define GROWTH_RETRY_MS		10000
#define SHRINK_AFTER_MS		60000

/*
 * A renewal that fails must leave time for another, however short the lease is:
 * a call may take half of the time left, and the next one is made after an
 * eighth of it.
 */
#define RENEW_CALL_MIN_MS	100
#define RENEW_CALL_MAX_MS	15000
#define RENEW_RETRY_MIN_MS	50
#define RENEW_RETRY_MAX_MS	500

/*
 * Make the shared copy have "size" places, with what is in it.  Readers that
 * have attached to the old one see the leases as they were.
 */
static void
resize_shared(QueueWorker *qw, int size)
{
	Size		bytes = offsetof(SharedLeases, leases) + size * sizeof(SharedLease);
	dsm_segment *segment = sqs_segment_create(bytes);
	SharedLeases *shared = dsm_segment_address(segment);
	dsm_segment *old = qw->table.segment;

	memset(shared, 0, bytes);
	if (old != NULL)
		memcpy(shared->leases, qw->table.shared->leases,
			   Min(size, qw->table.shared->size) * sizeof(SharedLease));
	shared->queue_id = qw->config->queue_id;
	shared->owner = qw->config->owner;
	shared->size = size;
	qw->table.segment = segment;
	qw->table.shared = shared;

	LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
	MySlot->segment = dsm_segment_handle(segment);
	LWLockRelease(sqs_shared->lock);
	if (old != NULL)
		dsm_detach(old);
}

/* One chunk more; an ERROR if there is no memory for it. */
static void
grow(QueueWorker *qw)
{
	Lease	   *chunk;

	/* the shared copy is copied each time, so double it */
	if (qw->table.shared == NULL || qw->table.shared->size < qw->table.size + SQS_LEASE_CHUNK)
		resize_shared(qw, Min(Max(2 * qw->table.size, SQS_LEASE_CHUNK), SQS_MAX_LEASES));

	chunk = MemoryContextAllocZero(qw->context, SQS_LEASE_CHUNK * sizeof(Lease));
	qw->table.chunks[qw->table.size / SQS_LEASE_CHUNK] = chunk;
	for (int i = 0; i < SQS_LEASE_CHUNK; i++)
	{
		chunk[i].place = qw->table.size++;
		dlist_push_tail(&qw->table.free, &chunk[i].node);
	}
}

/*
 * Let the table grow, so that "wanted" messages more have a place, and return
 * how many have one.  If there is no memory, the queue goes on with the places
 * that it has, and tries again ten seconds later.
 */
int
sqs_leases_room(QueueWorker *qw, int wanted)
{
	while (qw->table.size - qw->table.n < wanted && qw->table.size < SQS_MAX_LEASES &&
		   qw->now >= qw->table.next_growth)
	{
		PG_TRY();
		{
			grow(qw);
		}
		PG_CATCH();
		{
			char		reason[SQS_ERROR_TEXT - 64];
			char		text[SQS_ERROR_TEXT];

			sqs_queue_catch(qw, reason, sizeof(reason));
			qw->table.next_growth = qw->now + GROWTH_RETRY_MS;
			snprintf(text, sizeof(text), "no memory for more than %d messages in hand: %s",
					 qw->table.size, reason);
			if (sqs_stats_error(qw->stats, text))
				ereport(LOG,
						(errmsg("sqsbridge queue \"%s\": %s", qw->config->name, text)));
		}
		PG_END_TRY();
	}
	return qw->table.size - qw->table.n;
}

/*
 * A minute after the last message, give back what the table has grown by.
 * Nothing refers to a lease that is free, except a call under way.
 */
void
sqs_leases_shrink(QueueWorker *qw)
{
	if (qw->table.n > 0 || qw->calls_open > 0 || qw->polling.asked > SQS_LEASE_CHUNK ||
		qw->table.size <= SQS_LEASE_CHUNK)
	{
		qw->table.empty_since = qw->now;
		return;
	}
	if (qw->now < qw->table.empty_since + SHRINK_AFTER_MS)
		return;

	resize_shared(qw, SQS_LEASE_CHUNK);
	for (int i = 1; i < qw->table.size / SQS_LEASE_CHUNK; i++)
		pfree(qw->table.chunks[i]);
	qw->table.size = SQS_LEASE_CHUNK;
	dlist_init(&qw->table.free);
	for (int i = 0; i < SQS_LEASE_CHUNK; i++)
		dlist_push_tail(&qw->table.free, &qw->table.chunks[0][i].node);
}

/*
 * Initialize the table and its copy in shared memory.  "events" are called
 * when a lease has been renewed or lost; in the latter case the message must
 * not be used any more.  Raises an ERROR if there is no shared memory for
 * the copy.
 */
void
sqs_leases_init(QueueWorker *qw, const SqsLeaseEvents *events)
{
	qw->table.events = events;
	dlist_init(&qw->table.free);
	dlist_init(&qw->table.renewals);
	dlist_init(&qw->waiting.list);
	dlist_init(&qw->holding.list);
	dlist_init(&qw->ack.committed);
	dlist_init(&qw->ack.deletes);
	dlist_init(&qw->table.releases);
	grow(qw);
}

/* The lease in this place, free or not. */
Lease *
sqs_lease_at(QueueWorker *qw, int place)
{
	Assert(place >= 0 && place < qw->table.size);
	return &qw->table.chunks[place / SQS_LEASE_CHUNK][place % SQS_LEASE_CHUNK];
}

static void
copy_slice(char *dst, size_t size, SqsSlice src)
{
	size_t		n = Min(src.len, size - 1);

	if (src.data != NULL)
		memcpy(dst, src.data, n);
	dst[src.data != NULL ? n : 0] = '\0';
}

/* "handler" is still set in state COMMITTED if this is called in time. */
void
sqs_lease_mirror(QueueWorker *qw, Lease *lease)
{
	SharedLease *shared = &qw->table.shared->leases[lease->place];
	bool		shown = lease->state >= LEASE_WAITING && lease->state <= LEASE_COMMITTED;

	LWLockAcquire(sqs_slot_lock(sqs_my_slot), LW_EXCLUSIVE);
	if (shown && !shared->used)
	{
		copy_slice(shared->message_id, sizeof(shared->message_id), lease->message->message_id);
		copy_slice(shared->group_id, sizeof(shared->group_id), lease->message->group_id);
		shared->receive_count = lease->message->receive_count;
		shared->received_at = sqs_ms_to_timestamp(qw, lease->received_at);
	}
	if (shown)
	{
		shared->state = lease->state;
		if (lease->state != LEASE_COMMITTED || lease->handler != NULL)
			shared->handler_pid = lease->handler != NULL ? lease->handler->pid : 0;
		shared->until = sqs_ms_to_timestamp(qw, lease->until);
	}
	shared->used = shown;
	LWLockRelease(sqs_slot_lock(sqs_my_slot));
}

/*
 * Insert into the renewals, by time.  Searches from the end, where the lease
 * belongs unless the visibility timeout was made shorter.  Of receives that are
 * open at the same time, one that took longer may end after one that was quick,
 * and its messages are due earlier; but a twentieth of the visibility timeout is
 * not worth searching thousands of leases for, so they wait for the last.
 */
static void
insert_renewal(QueueWorker *qw, Lease *lease)
{
	dlist_node *before = qw->table.renewals.head.prev;
	int64		last;

	if (dlist_is_empty(&qw->table.renewals))
	{
		dlist_push_head(&qw->table.renewals, &lease->renewal_node);
		return;
	}
	last = dlist_container(Lease, renewal_node, before)->renew_at;
	if (last > lease->renew_at && last - lease->renew_at <= (int64) qw->visibility * 50)
		lease->renew_at = last;
	while (before != &qw->table.renewals.head &&
		   dlist_container(Lease, renewal_node, before)->renew_at > lease->renew_at)
		before = before->prev;
	if (before == &qw->table.renewals.head)
		dlist_push_head(&qw->table.renewals, &lease->renewal_node);
	else
		dlist_insert_after(before, &lease->renewal_node);
}

/* The lease was requested at the time "from", which is "wall" by the other clock. */
static void
schedule_renewal(QueueWorker *qw, Lease *lease, int64 from, int64 wall, int visibility)
{
	int64		length = (int64) visibility * 1000;
	int64		margin = Min(FENCE_MARGIN_MS, length / 4);

	lease->until = Min(from + length, lease->received_at + LEASE_TOTAL_MS);
	lease->fence.uptime = lease->until - margin;
	lease->fence.wall = wall + (lease->until - from) - margin;
	lease->renew_at = from + (int64) visibility * 500;
	insert_renewal(qw, lease);
}

/*
 * Add a message that was received.  Its lease is in state WAITING, but in no
 * list yet.  Returns NULL if the table is full, which does not happen if no
 * more messages are requested than fit.
 */
Lease *
sqs_lease_add(QueueWorker *qw, Reply *reply, const SqsReceivedMessage *message,
			  int visibility)
{
	Lease	   *lease;
	uint32		generation;
	int			place;
	int64		sent_at;

	if (dlist_is_empty(&qw->table.free))
		return NULL;
	lease = dlist_container(Lease, node, dlist_pop_head_node(&qw->table.free));
	generation = lease->generation + 1;
	place = lease->place;
	memset(lease, 0, sizeof(*lease));
	lease->generation = generation;
	lease->place = place;
	lease->state = LEASE_WAITING;
	lease->reply = reply;
	lease->message = message;
	lease->order = ++qw->table.order;
	lease->is_suspect = sqs_is_suspect(message);
	lease->route = -1;

	/*
	 * A long poll may have been open for a long time before SQS returned the
	 * message, so count from the reply, less a generous round trip.  If this
	 * process was frozen while it waited, the reply may have been there since
	 * then.  (A freeze that ended before the wait would have timed out cannot
	 * be detected.)
	 */
	sent_at = qw->now - Min(sqs_call_elapsed_ms(reply->call), 1000);
	lease->received_at = Max(sent_at, qw->now - (int64) visibility * 250) - qw->overslept;
	reply->leases++;
	qw->table.n++;
	schedule_renewal(qw, lease, lease->received_at,
					 qw->wall - (qw->now - lease->received_at), visibility);
	pg_atomic_write_u32(&qw->stats->in_flight, qw->table.n);
	sqs_lease_mirror(qw, lease);
	return lease;
}

/* Do not renew the lease any more. */
void
sqs_lease_stop_renewing(QueueWorker *qw, Lease *lease)
{
	if (lease->renewal_node.next != NULL)
		dlist_delete(&lease->renewal_node);
	lease->renewal_node.next = lease->renewal_node.prev = NULL;
}

/* The reply is freed with the last of its leases. */
void
sqs_lease_free(QueueWorker *qw, Lease *lease)
{
	Reply	   *reply = lease->reply;

	Assert(lease->state != LEASE_FREE);
	sqs_marks_let_go(qw, lease);
	sqs_suspects_gone(qw, lease);
	sqs_lease_stop_renewing(qw, lease);
	lease->state = LEASE_FREE;
	lease->generation++;
	sqs_lease_mirror(qw, lease);
	dlist_push_head(&qw->table.free, &lease->node);
	qw->table.n--;
	pg_atomic_write_u32(&qw->stats->in_flight, qw->table.n);

	if (--reply->leases == 0)
	{
		qw->polling.memory -= reply->memory;
		sqs_call_free(reply->call);
		pfree(reply);
	}
}

/* It is sent by sqs_leases_flush_releases(). */
void
sqs_lease_release(QueueWorker *qw, Lease *lease, int after)
{
	sqs_suspects_gone(qw, lease);
	sqs_lease_stop_renewing(qw, lease);
	lease->state = LEASE_RELEASING;
	lease->handler = NULL;
	lease->group = NULL;
	/* SQS permits no more than 12 hours in all */
	lease->release_after = (int) Min(after, Max((lease->received_at + LEASE_TOTAL_MS - qw->now) / 1000, 0));
	lease->since = qw->now;
	sqs_lease_mirror(qw, lease);
	dlist_push_tail(&qw->table.releases, &lease->node);
	qw->table.nreleases++;
	sqs_wake_at(qw, qw->now + RELEASE_LINGER_MS);
}

/*
 * Report errors of a ChangeMessageVisibilityBatch: if leases cannot be renewed
 * or messages not be released, the only other symptom would be messages that
 * come again.  That a single lease is lost is not an error of the queue.
 */
static void
note_outcome(QueueWorker *qw, SqsCall *call)
{
	const AwsError *error = sqs_call_error(call);
	const char *action = "ChangeMessageVisibilityBatch";
	const char *code = NULL;
	const char *message = NULL;
	char		text[SQS_ERROR_TEXT];

	if (error != NULL)
	{
		action = aws_error_action(error, action);
		code = error->code;
		message = error->message;
	}
	else
		for (int i = 0; i < sqs_call_nentries(call) && code == NULL; i++)
		{
			const SqsBatchEntry *entry = sqs_call_entry(call, i);

			if (!entry->ok && entry->class != AWS_ERROR_LEASE_LOST)
			{
				code = entry->code;
				message = entry->message;
			}
		}

	if (code == NULL)
	{
		if (qw->polling.failures == 0 && qw->ack.failures == 0 && qw->cannot_run == 0 &&
			!sqs_queue_is_held(qw))
			sqs_stats_clear_error(qw->stats);
		return;
	}
	snprintf(text, sizeof(text), "%s: %s: %s", action, code, message);
	if (sqs_stats_error(qw->stats, text))
		ereport(LOG,
				(errmsg("sqsbridge queue \"%s\": %s", qw->config->name, text)));
}

/*
 * Whether it has succeeded or not, these messages are no longer in hand, unless
 * it was this process that lacked something: then SQS has not been asked yet.
 */
static void
release_done(SqsCall *call, void *arg)
{
	LeaseBatch *batch = arg;
	QueueWorker *qw = batch->qw;
	const AwsError *error = sqs_call_error(call);

	qw->calls_open--;
	sqs_count_call(call, qw->stats);
	note_outcome(qw, call);
	for (int i = 0; i < batch->n; i++)
	{
		Lease	   *lease = batch->leases[i];

		if (error != NULL && error->class == AWS_ERROR_RESOURCES && lease->until > qw->now)
		{
			dlist_push_tail(&qw->table.releases, &lease->node);
			qw->table.nreleases++;
			qw->table.releases_at = qw->now + RELEASE_RETRY_MS;
			sqs_wake_at(qw, qw->table.releases_at);
			continue;
		}
		/* what could not be released becomes visible when its time is up */
		if (error == NULL && sqs_call_entry(call, i)->ok)
			sqs_count(qw->stats, SQS_RELEASED, 1);
		sqs_lease_free(qw, lease);
	}
	sqs_call_free(call);
	pfree(batch);
}

/* qsort comparator: the last received message first. */
static int
later_first(const void *a, const void *b)
{
	const Lease *la = *(Lease *const *) a;
	const Lease *lb = *(Lease *const *) b;

	return la->order > lb->order ? -1 : la->order < lb->order ? 1 : 0;
}

/*
 * Of FIFO queues the last received is released first, so that the order of a
 * message group is preserved.  It does not matter that calls may overtake each
 * other: SQS sends nothing of a message group while any message of it is
 * invisible.
 *
 * There may be thousands of messages, and more calls than this process has
 * descriptors for.  Those that have to wait are sent when others have ended.
 */
void
sqs_leases_flush_releases(QueueWorker *qw, bool all)
{
	Lease	  **sorted;
	int			room = sqs_calls_room(qw) * SQS_MAX_BATCH;
	int			most = qw->config->fifo ? qw->table.nreleases : Min(qw->table.nreleases, room);
	int			n = 0;
	dlist_iter	iter;
	SqsSlice	handles[SQS_MAX_BATCH];
	int			timeouts[SQS_MAX_BATCH];
	Lease	   *oldest;

	if (qw->table.nreleases == 0 || room == 0)
		return;
	if (qw->now < qw->table.releases_at)
	{
		sqs_wake_at(qw, qw->table.releases_at);
		return;
	}
	oldest = dlist_head_element(Lease, node, &qw->table.releases);
	if (!all && qw->table.nreleases < SQS_MAX_BATCH &&
		qw->now < oldest->since + RELEASE_LINGER_MS)
	{
		sqs_wake_at(qw, oldest->since + RELEASE_LINGER_MS);
		return;
	}

	sorted = MemoryContextAlloc(qw->context, most * sizeof(Lease *));
	dlist_foreach(iter, &qw->table.releases)
	{
		if (n == most)
			break;
		sorted[n++] = dlist_container(Lease, node, iter.cur);
	}
	if (qw->config->fifo)
		qsort(sorted, n, sizeof(Lease *), later_first);
	n = Min(n, room);

	for (int first = 0; first < n; first += SQS_MAX_BATCH)
	{
		LeaseBatch *batch = MemoryContextAllocZero(qw->context, sizeof(LeaseBatch));

		batch->qw = qw;
		batch->n = Min(n - first, SQS_MAX_BATCH);
		for (int i = 0; i < batch->n; i++)
		{
			batch->leases[i] = sorted[first + i];
			handles[i] = batch->leases[i]->message->receipt_handle;
			timeouts[i] = batch->leases[i]->release_after;
		}
		sqs_start_change_visibility_batch(qw->client, qw->queue_url, batch->n,
										  handles, timeouts,
										  sqs_is_leaving(qw) ? 1000 : 10000, 3,
										  release_done, batch);
		qw->calls_open++;
		for (int i = 0; i < batch->n; i++)
			dlist_delete(&batch->leases[i]->node);
		qw->table.nreleases -= batch->n;
	}
	pfree(sorted);
}

/* A renewal has ended: each lease is extended, lost, or to be retried soon. */
static void
renew_done(SqsCall *call, void *arg)
{
	LeaseBatch *batch = arg;
	QueueWorker *qw = batch->qw;
	const AwsError *error = sqs_call_error(call);

	qw->calls_open--;
	sqs_count_call(call, qw->stats);
	note_outcome(qw, call);
	for (int i = 0; i < batch->n; i++)
	{
		Lease	   *lease = batch->leases[i];
		const SqsBatchEntry *entry = error == NULL ? sqs_call_entry(call, i) : NULL;

		/* freed, or finished, in the meantime */
		if (lease->generation != batch->generations[i])
			continue;
		if (lease->state > LEASE_COMMITTED)
			continue;

		if (entry != NULL && entry->ok)
		{
			sqs_count(qw->stats, SQS_HEARTBEATS, 1);
			schedule_renewal(qw, lease, batch->sent_at, batch->sent_wall,
							 batch->visibility);
			qw->table.events->renewed(qw, lease);
			sqs_lease_mirror(qw, lease);
		}
		else if (entry != NULL && entry->class == AWS_ERROR_LEASE_LOST)
			qw->table.events->lost(qw, lease);
		else
		{
			/* retry while there is time */
			int64		left = lease->until - qw->now;

			lease->renew_at = qw->now +
				Max(Min(left / 8, RENEW_RETRY_MAX_MS), RENEW_RETRY_MIN_MS);
			insert_renewal(qw, lease);
		}
	}
	sqs_call_free(call);
	pfree(batch);
}

/* Send a batch; "until" is when the first of its leases ends. */
static void
send_renewals(QueueWorker *qw, LeaseBatch *batch, const SqsSlice *handles,
			  const int *timeouts, int64 until)
{
	long		deadline_ms = (long) Min((until - qw->now) / 2, RENEW_CALL_MAX_MS);

	sqs_start_change_visibility_batch(qw->client, qw->queue_url, batch->n,
									  handles, timeouts,
									  Max(deadline_ms, RENEW_CALL_MIN_MS), 2,
									  renew_done, batch);
	qw->calls_open++;
	for (int i = 0; i < batch->n; i++)
		sqs_lease_stop_renewing(qw, batch->leases[i]);	/* until it has ended */
}

/* Renew the leases that are due, and give up those that have ended. */
void
sqs_leases_renew(QueueWorker *qw)
{
	LeaseBatch *batch = NULL;
	SqsSlice	handles[SQS_MAX_BATCH];
	int			timeouts[SQS_MAX_BATCH];
	int64		until = PG_INT64_MAX;
	bool		no_room = false;
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &qw->table.renewals)
	{
		Lease	   *lease = dlist_container(Lease, renewal_node, iter.cur);
		int64		left;

		if (lease->renew_at > qw->now)
		{
			/* fill a batch with what would be due soon */
			if (batch == NULL ||
				lease->renew_at > qw->now + (int64) qw->visibility * 100)
				break;
		}
		if (qw->now >= lease->until)
		{
			/* this may change the list of renewals, so end the loop */
			if (batch == NULL)
				qw->table.events->lost(qw, lease);
			sqs_wake_at(qw, qw->now);
			break;
		}
		left = (lease->received_at + LEASE_TOTAL_MS - qw->now) / 1000;
		if (left < 1)
		{
			lease->renew_at = lease->until;
			continue;
		}

		if (batch == NULL)
		{
			/* the end of a call wakes us up */
			no_room = sqs_calls_room(qw) == 0;
			if (no_room)
				break;
			batch = MemoryContextAllocZero(qw->context, sizeof(LeaseBatch));
			batch->qw = qw;
			batch->sent_at = qw->now;
			batch->sent_wall = qw->wall;
			batch->visibility = Min(qw->visibility, left);
		}
		handles[batch->n] = lease->message->receipt_handle;
		timeouts[batch->n] = batch->visibility;
		batch->generations[batch->n] = lease->generation;
		batch->leases[batch->n++] = lease;
		until = Min(until, lease->until);

		if (batch->n == SQS_MAX_BATCH)
		{
			send_renewals(qw, batch, handles, timeouts, until);
			batch = NULL;
			until = PG_INT64_MAX;
		}
	}
	if (batch != NULL)
		send_renewals(qw, batch, handles, timeouts, until);

	if (!dlist_is_empty(&qw->table.renewals))
	{
		Lease	   *next = dlist_head_element(Lease, renewal_node, &qw->table.renewals);

		sqs_wake_at(qw, no_room ? next->until : Min(next->renew_at, next->until));
	}
}
