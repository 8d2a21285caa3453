/*-------------------------------------------------------------------------
 *
 * sender.c
 *	  Which messages go into which SendMessageBatch, and when.
 *
 * A batch is full with ten entries or 1 MiB.  A batch that is not full is
 * sent if the last request was started at least "linger" ms ago.  So
 * messages leave at once when they are rare and are combined when they are
 * frequent, and the rate of requests that carry few messages is limited. In a
 * FIFO queue, a batch that no other known message can join does not wait.
 *
 * Failures are handled according to what they concern:
 *
 *	 - The request failed: SQS cannot be reached, is out of order, or refuses
 *	   our keys.  The messages wait and the queue pauses, for 0.5 s at first,
 *	   doubling up to a minute.
 *	 - But with a retry budget, a request that fails while others succeed is a
 *	   miss: its messages are the next to be sent, and nothing pauses, unless
 *	   the failure is not transient, the budget is used up, or it is the third
 *	   in a row.  Until one succeeds, no more requests are under way than may
 *	   still fail before that.
 *	 - The request was refused because of its content.  Each of its messages
 *	   is tried alone, until the bad one is found.
 *	 - The request failed for a reason that may or may not be its content.
 *	   Both of the above apply: the queue pauses, and the messages are tried
 *	   alone.  A message that fails alone gets a retry delay of its own while
 *	   the others go on.  It is never given up, because the failure may not
 *	   be its fault.
 *	 - The request could not be made for lack of resources in this process.
 *	   The Sender pauses briefly and does not count it as a failure of the
 *	   queue.
 *	 - An entry was refused because of its content.  It is returned to its
 *	   owner as refused.
 *	 - An entry failed for another reason.  It is retried after a delay of its
 *	   own, and its message group waits for it.  If all entries of a batch of
 *	   several fail like that, the queue is taken to be failing and pauses.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/worker.h"
#include "send/sender.h"

#define PAUSE_MIN_MS		500
#define PAUSE_MAX_MS		60000
#define ENTRY_RETRY_MS		200
#define ENTRY_RETRY_MAX_MS	60000
#define MISSES_IN_A_ROW		3	/* so many are a failure of the queue */
#define MAX_MISMATCHES		3
#define SHORTAGE_PAUSE_MS	500

struct SendGroup
{
	uint64		key;			/* hash key: must be first */
	dlist_node	node;			/* in ready or later, unless under_way > 0 */
	dlist_head	items;			/* waiting */
	int			under_way;		/* number of items under way */
	int64		since;			/* ms: as in SendItem, of the first item */
	bool		kept;			/* some that were under way are to be retried */
};

/*
 * Create a Sender in the given context.  max_requests limits the concurrent
 * requests, and max_attempts (0: no limit) the attempts per item and the
 * failures of the queue in a row.  linger is in ms.
 */
Sender *
sqs_sender_create(MemoryContext context, bool fifo, int max_requests, int max_attempts,
				  int linger)
{
	Sender	   *sender = MemoryContextAllocZero(context, sizeof(Sender));

	sender->context = context;
	sender->fifo = fifo;
	sender->max_requests = max_requests;
	sender->max_attempts = max_attempts;
	sender->linger = linger;
	sender->group_batch = 1;
	dlist_init(&sender->ready);
	dlist_init(&sender->later);
	sender->later_from = PG_INT64_MAX;
	if (fifo)
	{
		HASHCTL		ctl;

		ctl.keysize = sizeof(uint64);
		ctl.entrysize = sizeof(SendGroup);
		ctl.hcxt = context;
		sender->groups = hash_create("sqsbridge message groups", 256, &ctl,
									 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	return sender;
}

/*
 * Add an item.  It belongs to the Sender until it is reported by
 * SendItemDone, dropped, or removed.  The caller has set item->size.
 * group_key is the hash of the message group id, and is ignored on standard
 * queues.  An ERROR (out of memory) leaves the Sender unchanged.
 */
void
sqs_sender_add(Sender *sender, SendItem *item, uint64 group_key, int64 now)
{
	item->attempts = 0;
	item->mismatches = 0;
	item->alone = false;
	item->since = now;
	item->group = NULL;
	if (sender->fifo)
	{
		bool		found;
		SendGroup  *group = hash_search(sender->groups, &group_key, HASH_ENTER, &found);

		item->group = group;
		if (!found)
		{
			dlist_init(&group->items);
			group->under_way = 0;
			group->since = now;
			group->kept = false;
			dlist_push_tail(&sender->ready, &group->node);
			sender->nready++;
		}
		dlist_push_tail(&group->items, &item->node);
	}
	else
	{
		dlist_push_tail(&sender->ready, &item->node);
		sender->nready++;
	}
	sender->waiting++;
}

/*
 * Move items (or groups) whose time has come to the ready list.  They go to
 * the front, before items that have not been tried yet.  While the queue is
 * failing, they go to the end: otherwise, if many messages fail for reasons
 * of their own, nothing else would be tried.
 */
static void
wake_later(Sender *sender, int64 now)
{
	dlist_mutable_iter iter;

	if (now < sender->later_from)
		return;
	sender->later_from = PG_INT64_MAX;
	dlist_foreach_modify(iter, &sender->later)
	{
		int64	   *since;

		if (sender->fifo)
			since = &dlist_container(SendGroup, node, iter.cur)->since;
		else
			since = &dlist_container(SendItem, node, iter.cur)->since;
		if (*since > now)
		{
			sender->later_from = Min(sender->later_from, *since);
			continue;
		}
		dlist_delete(iter.cur);
		if (sender->failures > 0)
			dlist_push_tail(&sender->ready, iter.cur);
		else
			dlist_push_head(&sender->ready, iter.cur);
		sender->nready++;
	}
}

/*
 * As far as those under way are concerned, may there be another request?  While
 * the queue is failing, one at a time tests it.
 */
static bool
may_request(const Sender *sender)
{
	int			most = sender->max_requests;

	if (sender->failures > 0)
		most = Min(most, 1);
	else if (sender->misses > 0)
		most = Min(most, MISSES_IN_A_ROW - sender->misses);
	return sender->requests < most;
}

/* The item that goes next.  The ready list must not be empty. */
static SendItem *
first_item(const Sender *sender)
{
	dlist_node *node = dlist_head_node(unconstify(dlist_head *, &sender->ready));

	if (sender->fifo)
		return dlist_head_element(SendItem, node,
								  &dlist_container(SendGroup, node, node)->items);
	return dlist_container(SendItem, node, node);
}

/* Is there enough ready for a full batch? */
static bool
have_full_batch(const Sender *sender)
{
	int			n = 0;
	dlist_iter	ready;

	if (sender->nready >= SQS_MAX_BATCH)
		return true;
	if (!sender->fifo || sender->group_batch == 1)
		return false;
	dlist_foreach(ready, unconstify(dlist_head *, &sender->ready))
	{
		SendGroup  *group = dlist_container(SendGroup, node, ready.cur);
		int			of_group = 0;
		dlist_iter	item;

		dlist_foreach(item, &group->items)
		{
			if (++n == SQS_MAX_BATCH)
				return true;
			if (++of_group == sender->group_batch)
				break;
		}
	}
	return false;
}

/*
 * When the next batch is due, as far as that depends on what is ready.  A batch
 * that is not full lingers for what may join it.  But if nothing of a FIFO queue
 * is under way, all of its messages are ready or behind one that is.  If some are
 * behind, to linger would only hold them up.
 */
static int64
batch_is_due(const Sender *sender, int64 now)
{
	if (sender->nready == 0)
		return PG_INT64_MAX;
	if (have_full_batch(sender) ||
		(sender->fifo && sender->under_way == 0 && sender->waiting > sender->nready))
		return now;
	return sender->last_request + sender->linger;
}

/* Put an item into the batch, if there is room for it. */
static bool
add_to_batch(SendBatch *batch, SendItem *item, size_t *size)
{
	if (batch->n == SQS_MAX_BATCH ||
		(batch->n > 0 && (item->alone || batch->items[0]->alone ||
						  *size + item->size > SQS_MAX_MESSAGE_BYTES)))
		return false;
	*size += item->size;
	batch->items[batch->n++] = item;
	return true;
}

/*
 * The first item of the group is in the batch.  Take it off the group, and put
 * as many more into the batch as may be under way at once.  None is put behind
 * an item that has failed before: if that fails again, they would overtake it.
 */
static void
take_group(Sender *sender, SendGroup *group, SendBatch *batch, size_t *size)
{
	SendItem   *item;

	group->kept = false;
	do
	{
		item = dlist_head_element(SendItem, node, &group->items);
		dlist_pop_head_node(&group->items);
		group->under_way++;
	} while (group->under_way < sender->group_batch && item->attempts == 0 &&
			 !dlist_is_empty(&group->items) &&
			 add_to_batch(batch, dlist_head_element(SendItem, node, &group->items), size));
}

/*
 * Take the next batch to be sent now; false if there is none.  The caller
 * sends it and then calls sqs_sender_finish(), or calls
 * sqs_sender_cannot_prepare() if the request cannot be started.
 */
bool
sqs_sender_take(Sender *sender, int64 now, SendBatch *batch)
{
	size_t		size = 0;

	batch->n = 0;
	if (!may_request(sender) || now < Max(sender->paused_until, sender->retry_at))
		return false;
	wake_later(sender, now);
	if (now < batch_is_due(sender, now))
		return false;

	while (sender->nready > 0 && add_to_batch(batch, first_item(sender), &size))
	{
		SendGroup  *group = batch->items[batch->n - 1]->group;

		dlist_pop_head_node(&sender->ready);
		sender->nready--;
		if (group != NULL)
			take_group(sender, group, batch, &size);
	}
	sender->waiting -= batch->n;
	sender->under_way += batch->n;
	sender->requests++;
	sender->last_request = now;
	return true;
}

/*
 * What has come back waits until not_before.  If that is not in the future, it
 * is the next to be sent.
 */
static void
wait_again(Sender *sender, dlist_node *node, int64 not_before, int64 now)
{
	if (not_before > now)
	{
		dlist_push_tail(&sender->later, node);
		sender->later_from = Min(sender->later_from, not_before);
		return;
	}
	dlist_push_head(&sender->ready, node);
	sender->nready++;
}

/* An item of the group has come back.  With the last of them, the group goes on. */
static void
one_is_back(Sender *sender, SendGroup *group, int64 now)
{
	if (--group->under_way > 0)
		return;
	if (group->kept)
		wait_again(sender, &group->node, group->since, now);
	else if (dlist_is_empty(&group->items))
		hash_search(sender->groups, &group->key, HASH_REMOVE, NULL);
	else
	{
		group->since = now;
		dlist_push_tail(&sender->ready, &group->node);
		sender->nready++;
	}
}

/* The item leaves the Sender. */
static void
release_item(Sender *sender, SendItem *item, int64 now)
{
	sender->under_way--;
	if (item->attempts > 0)
		sender->troubled--;
	if (item->group != NULL)
		one_is_back(sender, item->group, now);
}

/*
 * Put an item of a batch back at its place.  If not_before is in the future, it
 * (or its group) waits until then.  The items of a batch are put back from the
 * last to the first, so the last one of a group sets the time of the group.
 */
static void
keep_item(Sender *sender, SendItem *item, int64 not_before, int64 now)
{
	SendGroup  *group = item->group;

	sender->under_way--;
	sender->waiting++;
	item->since = not_before;
	if (group == NULL)
	{
		wait_again(sender, &item->node, not_before, now);
		return;
	}
	dlist_push_head(&group->items, &item->node);
	group->since = not_before;
	group->kept = true;
	one_is_back(sender, group, now);
}

/* Count a failure of the item itself. */
static void
note_trouble(Sender *sender, SendItem *item)
{
	if (item->attempts++ == 0)
		sender->troubled++;
}

/* When an item that has failed by itself is to be tried again. */
static int64
retry_at(const SendItem *item, int64 now)
{
	return now + sqs_backoff_ms(item->attempts, ENTRY_RETRY_MS, ENTRY_RETRY_MAX_MS);
}

/*
 * Return a batch whose request could not be started because of an error in
 * this process.  Its items are tried again one by one; an item that fails
 * even alone waits for its own retry delay.
 */
void
sqs_sender_cannot_prepare(Sender *sender, SendBatch *batch, int64 now)
{
	bool		alone = batch->n == 1;

	sender->requests--;
	for (int i = batch->n - 1; i >= 0; i--)
	{
		SendItem   *item = batch->items[i];

		item->alone = true;
		if (alone)
			note_trouble(sender, item);
		keep_item(sender, item, alone ? retry_at(item, now) : now, now);
	}
	batch->n = 0;
}

/*
 * Remove an item from a batch that has been taken and not been sent, because
 * its owner finds that it cannot be sent.  The item is the owner's again;
 * there is no callback.
 */
void
sqs_sender_drop(Sender *sender, SendBatch *batch, int position, int64 now)
{
	release_item(sender, batch->items[position], now);
	batch->n--;
	memmove(&batch->items[position], &batch->items[position + 1],
			sizeof(SendItem *) * (batch->n - position));
	if (batch->n == 0)
		sender->requests--;
}

/*
 * Count a failure of the queue as a whole, and pause for a time that doubles
 * with each failure in a row.
 */
void
sqs_sender_pause(Sender *sender, int64 now)
{
	/* concurrent requests fail together; count that once */
	if (now < sender->paused_until)
		return;
	sender->failures++;
	sender->paused_until = now + sqs_backoff_ms(sender->failures, PAUSE_MIN_MS, PAUSE_MAX_MS);
}

/* Can this failure of a request be passed over? */
static bool
is_miss(Sender *sender, const AwsError *error, int64 now)
{
	int			taken = 0;

	if (sender->budget == NULL || sender->failures > 0)
		return false;
	if (++sender->misses < MISSES_IN_A_ROW)
		taken = aws_retry_budget_take(sender->budget, error->class);
	if (taken == 0)
	{
		sender->misses = 0;
		sender->retry_at = 0;
		return false;
	}
	sender->retry_taken += taken;
	sender->retry_at = now + aws_retry_pause(error->class, sender->misses);
	return true;
}

/* A request has succeeded. */
static void
queue_is_well(Sender *sender)
{
	sender->failures = 0;
	sender->paused_until = 0;
	sender->misses = 0;
	sender->retry_at = 0;
	if (sender->retry_taken > 0 && sender->budget != NULL)
		aws_retry_budget_succeeded(sender->budget, sender->retry_taken);
	sender->retry_taken = 0;
}

/*
 * Can a refusal with an unknown error code be due to the messages?  A reply
 * without an SQS error code (from a proxy or a wrong endpoint) says nothing
 * about them, except 413, Content Too Large.
 */
static bool
may_be_about_messages(const AwsError *error)
{
	return error->class == AWS_ERROR_UNKNOWN &&
		(strncmp(error->code, "Http", 4) != 0 || error->http_status == 413);
}

/*
 * Did the request succeed, while none of its entries did and none was
 * refused for its content?  Then the queue is failing.  A single entry does
 * not count, because the problem may be its own.
 */
static bool
all_failed(const SendBatch *batch, SqsCall *call)
{
	for (int i = 0; i < batch->n; i++)
	{
		const SqsBatchEntry *entry = sqs_call_entry(call, i);

		if (entry->ok || (entry->sender_fault && entry->class == AWS_ERROR_REQUEST))
			return false;
	}
	return batch->n > 1;
}

/*
 * A request has ended: decide what that means for each item of the batch,
 * call "done" for each of them, and empty the batch.  The call stays the
 * caller's.  See the top of this file for the rules.  With max_attempts, an
 * item is also refused when it, or the queue, has failed that often.
 */
void
sqs_sender_finish(Sender *sender, SendBatch *batch, SqsCall *call, int64 now,
				  SendItemDone done, void *arg)
{
	const AwsError *error = sqs_call_error(call);
	bool		about_messages = error != NULL && error->class == AWS_ERROR_REQUEST;
	bool		perhaps = error != NULL && may_be_about_messages(error);
	bool		give_up = false;

	sender->requests--;
	if (error == NULL)
	{
		/* with a limit of attempts, the caller gives up soon enough */
		if (sender->max_attempts == 0 && all_failed(batch, call))
			sqs_sender_pause(sender, now);
		else
			queue_is_well(sender);
	}
	else if (error->class == AWS_ERROR_RESOURCES && sender->max_attempts == 0)
		sender->paused_until = Max(sender->paused_until, now + SHORTAGE_PAUSE_MS);
	else if (!about_messages && !is_miss(sender, error, now))
	{
		sqs_sender_pause(sender, now);
		give_up = sender->max_attempts > 0 && sender->failures >= sender->max_attempts;
	}

	/* last to first, so that items that are put back keep their order */
	for (int i = batch->n - 1; i >= 0; i--)
	{
		SendItem   *item = batch->items[i];
		const SqsBatchEntry *entry = error == NULL ? sqs_call_entry(call, i) : NULL;
		SendOutcome outcome;

		if (error != NULL)
		{
			if (about_messages)
				outcome = batch->n > 1 ? SEND_RETRY : SEND_REFUSED;
			else
				outcome = give_up ? SEND_REFUSED : SEND_RETRY;
			item->alone = item->alone || about_messages || perhaps;
			if (outcome == SEND_RETRY && perhaps && batch->n == 1)
			{
				note_trouble(sender, item);
				keep_item(sender, item, retry_at(item, now), now);
			}
			else if (outcome == SEND_RETRY)
				keep_item(sender, item, now, now);
		}
		else if (entry->ok)
			outcome = SEND_DONE;
		else
		{
			if (strcmp(entry->code, "ChecksumMismatch") == 0)
				item->mismatches++;
			note_trouble(sender, item);
			if (entry->sender_fault &&
				(entry->class == AWS_ERROR_REQUEST || sender->max_attempts > 0))
				outcome = SEND_REFUSED;
			else if (sender->max_attempts > 0 && item->attempts >= sender->max_attempts)
				outcome = SEND_REFUSED;
			else if (item->mismatches >= MAX_MISMATCHES)
				outcome = SEND_REFUSED;
			else
			{
				outcome = SEND_RETRY;
				keep_item(sender, item, retry_at(item, now), now);
			}
		}
		if (outcome != SEND_RETRY)
			release_item(sender, item, now);
		done(item, outcome, entry, error, arg);
	}
	batch->n = 0;
}

/*
 * Forget all failures so far and end all delays, because the cause may have
 * been corrected.
 */
void
sqs_sender_try_again(Sender *sender)
{
	dlist_iter	iter;

	sender->failures = 0;
	sender->paused_until = 0;
	sender->misses = 0;
	sender->retry_at = 0;
	sender->later_from = 0;
	dlist_foreach(iter, &sender->later)
	{
		if (sender->fifo)
			dlist_container(SendGroup, node, iter.cur)->since = 0;
		else
			dlist_container(SendItem, node, iter.cur)->since = 0;
	}
}

/* Is there something waiting, and all of it for its time to be retried? */
bool
sqs_sender_is_held_up(const Sender *sender)
{
	return sender->waiting > 0 && sender->nready == 0 && sender->under_way == 0;
}

/*
 * Take out any item that is waiting; NULL if there is none.  Used to empty
 * the Sender.
 */
SendItem *
sqs_sender_remove(Sender *sender)
{
	dlist_head *list = sender->nready > 0 ? &sender->ready : &sender->later;
	SendGroup  *group;
	SendItem   *item;

	if (dlist_is_empty(list))
		return NULL;
	sender->waiting--;
	if (!sender->fifo)
	{
		item = dlist_container(SendItem, node, dlist_pop_head_node(list));
		sender->nready -= list == &sender->ready;
		sender->troubled -= item->attempts > 0;
		return item;
	}
	group = dlist_head_element(SendGroup, node, list);
	item = dlist_container(SendItem, node, dlist_pop_head_node(&group->items));
	sender->troubled -= item->attempts > 0;
	if (dlist_is_empty(&group->items))
	{
		dlist_delete(&group->node);
		sender->nready -= list == &sender->ready;
		hash_search(sender->groups, &group->key, HASH_REMOVE, NULL);
	}
	return item;
}

/* Free the Sender.  No item may be left. */
void
sqs_sender_destroy(Sender *sender)
{
	if (sender->groups != NULL)
		hash_destroy(sender->groups);
	pfree(sender);
}

/*
 * When to call sqs_sender_take() again if no request ends and nothing is
 * added before: in ms, or PG_INT64_MAX for never.
 */
int64
sqs_sender_next_time(const Sender *sender, int64 now)
{
	if (!may_request(sender))
		return PG_INT64_MAX;
	return Max(Min(batch_is_due(sender, now), sender->later_from),
			   Max(sender->paused_until, sender->retry_at));
}
