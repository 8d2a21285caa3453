/*-------------------------------------------------------------------------
 *
 * relay_room.c
 *	  How much each queue of the relay may read.
 *
 * The memory of the process is limited by sqsbridge.max_outbox_memory.  An
 * eighth of it is for batches, the rest for items.  A queue gets no more
 * than it leaves free, so there is always some left for the next one.  A
 * queue that cannot send at the moment gives up its rows when another one is
 * short of memory, and a queue that may not send at all holds none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/settings.h"
#include "config/connect.h"
#include "send/relay_room.h"

#define MAX_WAITING			2000	/* rows of a queue that are ready to go */
#define MAX_BATCHES			8192	/* of a stream, in memory */
#define MIN_BATCHES			16	/* always allowed for each stream */
#define PUT_DOWN_MS			500 /* pause of a queue that makes room */

/*
 * A request under way needs a connection, which takes about 35 kB of this
 * process over HTTP, and more over TLS.  With one request per 128 kB of the
 * setting, which is 512 by default, connections take less than the messages may.
 */
#define REQUEST_KB			128
#define MIN_REQUESTS		8

/* The limit on concurrent requests; with default settings, about 300. */
int
sqs_relay_request_limit(void)
{
	return Min(Max(sqs_max_outbox_memory / REQUEST_KB, MIN_REQUESTS),
			   sqs_shared_clients_room());
}

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

/*
 * May rows of the queue be read now?  Not if the queue cannot send, even if
 * only for the moment.
 */
bool
sqs_relay_may_read(const RelayQueue *queue, int64 now)
{
	return !queue->put_down && can_use_rows(queue, now);
}

/*
 * Is it time for sqs_relay_restart_queue(), after the rows were put down?
 * Rows that are confirmed or refused may still be in hand, because a row or
 * table is locked; there is time for them until the queue can use rows
 * again.
 */
bool
sqs_relay_is_to_restart(const RelayQueue *queue, int64 now)
{
	return queue->put_down && (queue->nitems == 0 || can_use_rows(queue, now));
}

/*
 * Does the queue have too few rows that are ready to go?  Rows that wait for
 * a time or for their message group count toward the memory limit only:
 * otherwise a group that fails, or that has very many messages, would keep
 * the rows of other groups from being read.
 */
static bool
wants_more(const RelayQueue *queue)
{
	if (queue->sender == NULL)
		return queue->nrefused < MAX_WAITING;
	return queue->sender->nready < MAX_WAITING;
}

/*
 * Does the queue have so few rows in hand that reading more is worth a
 * transaction?
 */
bool
sqs_relay_runs_low(const RelayQueue *queue)
{
	return queue->sender == NULL || queue->sender->nready <= MAX_WAITING / 2;
}

/*
 * Is there room for one more row of the queue?  Sets relay->out_of_room if
 * the queue gets no row at all for lack of memory.
 */
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

/*
 * How many batches of one stream may be in memory.  As for rows, a stream
 * gets no more than it leaves free.
 */
int
sqs_relay_max_batches(Relay *relay)
{
	long		room = (long) sqs_max_outbox_memory * 1024 / 8 / (long) sizeof(RelayBatch) -
		hash_get_num_entries(relay->batches);

	return Max(MIN_BATCHES, Min(MAX_BATCHES, room));
}

/*
 * Release the rows in hand of a queue that has no request under way.  They
 * are still in the table, and sqs_relay_restart_queue() has them read again
 * when sqs_relay_is_to_restart() says so.
 */
void
sqs_relay_put_down(Relay *relay, RelayQueue *queue)
{
	SendItem   *send;

	Assert(queue->sender->requests == 0);
	while ((send = sqs_sender_remove(queue->sender)) != NULL)
		sqs_relay_give_up_item(relay, (RelayItem *) send);
	queue->put_down = true;
}

/* Can nothing of the queue be sent at the moment? */
static bool
is_stuck(const RelayQueue *queue, int64 now)
{
	const Sender *sender = queue->sender;

	return sender != NULL && sender->requests == 0 && sender->waiting > 0 &&
		(now < sender->paused_until || sqs_sender_is_held_up(sender));
}

/*
 * A queue is short of memory: put down the rows of the queue that has the
 * most and cannot send any now.  Does nothing if there is no such queue.
 */
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

	/* even if only some of its messages had to wait, it pauses as a whole */
	if (now >= largest->sender->paused_until)
		largest->sender->paused_until = now + PUT_DOWN_MS;
	sqs_relay_put_down(relay, largest);
}
