/*-------------------------------------------------------------------------
 *
 * relay_room.c
 *	  Which queue of the relay may read how much.
 *
 * Memory is limited for the process (sqsbridge.max_outbox_memory): an eighth is
 * for batches, the rest for items.  A queue gets no more than it leaves free,
 * so that there is always some left for the next one.  Queues that cannot send
 * now give up what they hold when another is short of memory, and those that
 * may not send at all hold nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/settings.h"
#include "send/relay_room.h"

#define MAX_WAITING			2000	/* rows of a queue that could go now */
#define MAX_BATCHES			8192	/* of a stream, in memory */
#define MIN_BATCHES			16	/* which each stream may have in any case */
#define PUT_DOWN_MS			500 /* pause of a queue that makes room */

/* Could the queue do anything with rows now? */
static bool
can_use_rows(const RelayQueue *queue, int64 now)
{
	if (now < queue->reading.not_before)
		return false;
	if (queue->gone)
		return queue->sender == NULL && now >= queue->recording.not_before;
	return queue->sender != NULL && queue->config->enabled && queue->config->can_send &&
		queue->sender->fifo == queue->config->fifo && now >= queue->sender->paused_until;
}

bool
sqs_relay_may_read(const RelayQueue *queue, int64 now)
{
	return !queue->put_down && can_use_rows(queue, now);
}

/*
 * What is confirmed or refused may still be in hand, because a row or a table
 * is locked.  As long as the queue could do nothing with its rows there is
 * time for that.
 */
bool
sqs_relay_is_to_restart(const RelayQueue *queue, int64 now)
{
	return queue->put_down && (queue->nitems == 0 || can_use_rows(queue, now));
}

/*
 * What waits for a time or for its group is not counted but for its bytes:
 * else a group that fails, or has very much to send, would soon be all there
 * is in memory, and hold up the others.
 */
static bool
wants_more(const RelayQueue *queue)
{
	if (queue->sender == NULL)
		return queue->nrefused < MAX_WAITING;
	return queue->sender->nready < MAX_WAITING;
}

bool
sqs_relay_runs_low(const RelayQueue *queue)
{
	return queue->sender == NULL || queue->sender->nready <= MAX_WAITING / 2;
}

/* Notes in the relay if a queue gets nothing at all for want of memory. */
bool
sqs_relay_has_room(Relay *relay, const RelayQueue *queue)
{
	size_t		limit = (size_t) sqs_max_outbox_memory * 1024 / 8 * 7;

	if (!wants_more(queue))
		return false;
	if (relay->item_bytes < limit && queue->item_bytes < limit - relay->item_bytes)
		return true;
	if (queue->item_bytes == 0)
		relay->out_of_room = true;
	return false;
}

/* A stream gets no more than it leaves free, as queues do. */
int
sqs_relay_max_batches(Relay *relay)
{
	long		room = (long) sqs_max_outbox_memory * 1024 / 8 / (long) sizeof(RelayBatch) -
		hash_get_num_entries(relay->batches);

	return Max(MIN_BATCHES, Min(MAX_BATCHES, room));
}

void
sqs_relay_put_down(Relay *relay, RelayQueue *queue)
{
	SendItem   *send;

	Assert(queue->sender->requests == 0);
	while ((send = sqs_sender_remove(queue->sender)) != NULL)
		sqs_relay_give_up_item(relay, (RelayItem *) send);
	queue->put_down = true;
}

/* Can nothing of the queue be sent now? */
static bool
is_stuck(const RelayQueue *queue, int64 now)
{
	const Sender *sender = queue->sender;

	return sender != NULL && sender->requests == 0 && sender->waiting > 0 &&
		(now < sender->paused_until || sqs_sender_is_held_up(sender));
}

void
sqs_relay_make_room(Relay *relay, int64 now)
{
	RelayQueue *largest = NULL;
	dlist_iter	iter;

	dlist_foreach(iter, &relay->queues)
	{
		RelayQueue *queue = dlist_container(RelayQueue, node, iter.cur);

		if (is_stuck(queue, now) && (largest == NULL || queue->item_bytes > largest->item_bytes))
			largest = queue;
	}
	if (largest == NULL)
		return;

	/* one that only some of its messages hold up pauses as a whole, then */
	if (now >= largest->sender->paused_until)
		largest->sender->paused_until = now + PUT_DOWN_MS;
	sqs_relay_put_down(relay, largest);
}
