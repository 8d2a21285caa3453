/*-------------------------------------------------------------------------
 *
 * sender.c
 *	  Which messages go into which SendMessageBatch, and when.
 *
 * A batch is full with ten entries or 1 MiB.  One that is not full is sent
 * nevertheless if the last request was begun "linger" ms ago or more: at low
 * rates messages leave at once, at higher ones they come together, without
 * anybody having tuned anything, and requests with few messages are limited
 * in their number.
 *
 * What a failure means:
 *
 *	- of the request: the queue is out of reach, out of order or refuses our
 *	  keys.  Its messages wait, and the queue pauses, 0.5 s and doubling up to
 *	  a minute.  A request that SQS refuses for what is in it, is taken apart:
 *	  each of its messages is sent alone, until the bad one is known;
 *	- of the request, for a reason that may be in it or not: both.  A message
 *	  that fails alone waits for itself, and the others go on; it is never
 *	  given back for a reason that is not known to be its own;
 *	- of the request, for want of something in this process: it waits a moment,
 *	  and that says nothing about the queue;
 *	- of an entry that is not the sender's fault: the entry is tried again
 *	  after a delay of its own, and its group waits for it.  If that happens
 *	  to all of several entries it is the queue that is failing, and pauses;
 *	- of an entry that is the sender's fault: it is given back.
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
#define MAX_MISMATCHES		3
#define SHORTAGE_PAUSE_MS	500

struct SendGroup
{
	uint64		key;			/* hash key: must be first */
	dlist_node	node;			/* in ready or later, unless busy */
	dlist_head	items;
	bool		busy;			/* its first item is under way */
	int64		since;			/* as in SendItem */
};

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

static void
group_is_ready(Sender *sender, SendGroup *group, int64 since)
{
	group->busy = false;
	group->since = since;
	dlist_push_tail(&sender->ready, &group->node);
	sender->nready++;
}

void
sqs_sender_add(Sender *sender, SendItem *item, uint64 group_key, int64 now)
{
	item->attempts = 0;
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
			group_is_ready(sender, group, now);
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
 * What has waited long enough is ready, ahead of what has not begun.  While
 * the queue is failing it is the other way round: else those that fail for
 * themselves, if there are many, would be all that is ever tried.
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

static SendItem *
first_item(const Sender *sender)
{
	dlist_node *node = dlist_head_node(unconstify(dlist_head *, &sender->ready));

	if (sender->fifo)
		return dlist_head_element(SendItem, node,
								  &dlist_container(SendGroup, node, node)->items);
	return dlist_container(SendItem, node, node);
}

bool
sqs_sender_take(Sender *sender, int64 now, SendBatch *batch)
{
	size_t		size = 0;

	batch->n = 0;
	if (sender->requests >= sender->max_requests || now < sender->paused_until)
		return false;
	wake_later(sender, now);
	if (sender->nready == 0)
		return false;
	if (sender->nready < SQS_MAX_BATCH && now < sender->last_request + sender->linger)
		return false;

	/* while the queue is failing, one request finds out whether it still is */
	if (sender->failures > 0 && sender->requests > 0)
		return false;

	while (batch->n < SQS_MAX_BATCH && sender->nready > 0)
	{
		SendItem   *item = first_item(sender);

		if (batch->n > 0 && (item->alone || batch->items[0]->alone ||
							 size + item->size > SQS_MAX_MESSAGE_BYTES))
			break;
		size += item->size;
		dlist_pop_head_node(&sender->ready);
		sender->nready--;
		if (item->group != NULL)
		{
			item->group->busy = true;
			dlist_delete(&item->node);
		}
		batch->items[batch->n++] = item;
	}
	sender->waiting -= batch->n;
	sender->under_way += batch->n;
	sender->requests++;
	sender->last_request = now;
	return true;
}

/* The item leaves the sender; its group goes on. */
static void
release_item(Sender *sender, SendItem *item, int64 now)
{
	SendGroup  *group = item->group;

	sender->under_way--;
	if (item->attempts > 0)
		sender->troubled--;
	if (group == NULL)
		return;
	if (dlist_is_empty(&group->items))
		hash_search(sender->groups, &group->key, HASH_REMOVE, NULL);
	else
		group_is_ready(sender, group, now);
}

/* Back to where it was; not before a time, if that is to come. */
static void
keep_item(Sender *sender, SendItem *item, int64 not_before, int64 now)
{
	dlist_node *node = &item->node;

	sender->under_way--;
	sender->waiting++;
	item->since = not_before;
	if (item->group != NULL)
	{
		dlist_push_head(&item->group->items, &item->node);
		item->group->busy = false;
		item->group->since = not_before;
		node = &item->group->node;
	}
	if (not_before > now)
	{
		dlist_push_tail(&sender->later, node);
		sender->later_from = Min(sender->later_from, not_before);
	}
	else
	{
		dlist_push_head(&sender->ready, node);
		sender->nready++;
	}
}

/* The item has failed for itself once more. */
static void
note_trouble(Sender *sender, SendItem *item)
{
	if (item->attempts++ == 0)
		sender->troubled++;
}

static int64
retry_at(const SendItem *item, int64 now)
{
	return now + sqs_backoff_ms(item->attempts, ENTRY_RETRY_MS, ENTRY_RETRY_MAX_MS);
}

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

void
sqs_sender_pause(Sender *sender, int64 now)
{
	/* requests that were under way together fail together: that is once */
	if (now < sender->paused_until)
		return;
	sender->failures++;
	sender->paused_until = now + sqs_backoff_ms(sender->failures, PAUSE_MIN_MS, PAUSE_MAX_MS);
}

/*
 * May a refusal that is not known to be about a message be about one?  Who
 * answers without a code of SQS's (a proxy, a wrong endpoint) says nothing
 * about the messages, unless it is that there is too much of them.
 */
static bool
may_be_about_messages(const AwsError *error)
{
	return error->class == AWS_ERROR_UNKNOWN &&
		(strncmp(error->code, "Http", 4) != 0 || error->http_status == 413);
}

/*
 * The request has succeeded, but none of its entries has, and that says
 * nothing about them.  One entry alone may have a trouble of its own.
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
		/* who has a limit of attempts gives up soon enough */
		if (sender->max_attempts == 0 && all_failed(batch, call))
			sqs_sender_pause(sender, now);
		else
		{
			sender->failures = 0;
			sender->paused_until = 0;
		}
	}
	else if (error->class == AWS_ERROR_RESOURCES && sender->max_attempts == 0)
		sender->paused_until = Max(sender->paused_until, now + SHORTAGE_PAUSE_MS);
	else if (!about_messages)
	{
		sqs_sender_pause(sender, now);
		give_up = sender->max_attempts > 0 && sender->failures >= sender->max_attempts;
	}

	/* from the last to the first, so that what is put back keeps its order */
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
			bool		mismatch = strcmp(entry->code, "ChecksumMismatch") == 0;

			note_trouble(sender, item);
			if (entry->sender_fault &&
				(entry->class == AWS_ERROR_REQUEST || sender->max_attempts > 0))
				outcome = SEND_REFUSED;
			else if (sender->max_attempts > 0 && item->attempts >= sender->max_attempts)
				outcome = SEND_REFUSED;
			else if (mismatch && item->attempts >= MAX_MISMATCHES)
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

void
sqs_sender_try_again(Sender *sender)
{
	dlist_iter	iter;

	sender->failures = 0;
	sender->paused_until = 0;
	sender->later_from = 0;
	dlist_foreach(iter, &sender->later)
	{
		if (sender->fifo)
			dlist_container(SendGroup, node, iter.cur)->since = 0;
		else
			dlist_container(SendItem, node, iter.cur)->since = 0;
	}
}

bool
sqs_sender_is_held_up(const Sender *sender)
{
	return sender->waiting > 0 && sender->nready == 0 && sender->under_way == 0;
}

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

void
sqs_sender_destroy(Sender *sender)
{
	if (sender->groups != NULL)
		hash_destroy(sender->groups);
	pfree(sender);
}

int64
sqs_sender_next_time(const Sender *sender, int64 now)
{
	int64		next = PG_INT64_MAX;

	if (sender->requests >= sender->max_requests ||
		(sender->failures > 0 && sender->requests > 0))
		return next;
	if (sender->nready > 0)
		next = sender->nready >= SQS_MAX_BATCH ? now : sender->last_request + sender->linger;
	return Max(Min(next, sender->later_from), sender->paused_until);
}
