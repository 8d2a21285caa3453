/*-------------------------------------------------------------------------
 *
 * test_sender.c
 *	  Which messages go into which batch, and when.
 *
 * src/sender.c is server code, but all that it needs of the server are lists,
 * which are inline, and a hash table, for which there is a simple one here
 * that frees what is removed, so that the address sanitizer sees a group used
 * after its end.  Time is a number that the tests advance.
 *
 *-------------------------------------------------------------------------
 */
/* the server is compiled without this warning */
#pragma GCC diagnostic ignored "-Wunused-parameter"

#undef FRONTEND
#define UNIT_OF_SERVER_CODE
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "send/sender.h"
#include "tap.h"
#include "base/worker.h"

/* ---- what the server would provide ---- */

typedef struct Entry
{
	struct Entry *next;
	uint64		key[32];		/* the entry, which begins with its key */
} Entry;

static Entry *entries = NULL;
static int	nentries = 0;

static HTAB *
table_create(const HASHCTL *ctl)
{
	if (ctl->keysize != sizeof(uint64) || ctl->entrysize > sizeof(entries->key))
		abort();
	return (HTAB *) &entries;
}

static void *
table_search(const void *key, HASHACTION action, bool *found)
{
	Entry	  **link = &entries;
	Entry	   *entry;

	while (*link != NULL && (*link)->key[0] != *(const uint64 *) key)
		link = &(*link)->next;
	entry = *link;
	if (found != NULL)
		*found = entry != NULL;
	if (action == HASH_REMOVE)
	{
		if (entry == NULL)
			abort();
		*link = entry->next;
		free(entry);
		nentries--;
		return NULL;
	}
	if (entry == NULL && action == HASH_ENTER)
	{
		entry = malloc(sizeof(Entry));
		if (entry == NULL)
			abort();
		memset(entry, 0x55, sizeof(Entry));
		entry->key[0] = *(const uint64 *) key;
		entry->next = NULL;
		*link = entry;
		nentries++;
	}
	return entry != NULL ? entry->key : NULL;
}

/* A finished call. */
typedef struct Reply
{
	const AwsError *error;
	SqsBatchEntry entries[SQS_MAX_BATCH];
} Reply;

#if PG_VERSION_NUM >= 160000
void
ExceptionalCondition(const char *condition, const char *file, int line)
#else
void
ExceptionalCondition(const char *condition, const char *type, const char *file, int line)
#endif
{
	fprintf(stderr, "%s:%d: %s\n", file, line, condition);
	abort();
}

#define hash_create(name, nelem, ctl, flags)	table_create(ctl)
#define hash_search(table, key, action, found)	table_search(key, action, found)
#define hash_destroy(table)						((void) (table))
#define MemoryContextAllocZero(context, size)	calloc(1, size)
#define pfree(pointer)							free(pointer)
#define sqs_call_error(call)					(((Reply *) (call))->error)
#define sqs_call_entry(call, i)					(&((Reply *) (call))->entries[i])

/* without the jitter, so that times can be told in advance */
#define sqs_backoff_ms(failures, base, cap) \
	((failures) > 20 ? (cap) : Min((int64) (base) << ((failures) - 1), (int64) (cap)))

#include "../../src/send/sender.c"

/* ---- items ---- */

#define MB			(1024 * 1024)
#define MAX_ITEMS	2000

typedef struct Item
{
	SendItem	send;			/* must be first */
	int			number;			/* in order of adding */
	int			group;
	int			tries;
	int			batch;			/* the last one it was in */
	bool		under_way;
	int			ended;			/* how often: 0 or 1 */
	SendOutcome outcome;
} Item;

static Item items[MAX_ITEMS];
static int	nitems;
static int	nbatches;
static int64 now;
static Sender *sender;
static int	retries;			/* told to the callback */
static int	nwrong;				/* what must never be */

static void
begin(bool fifo, int max_requests, int max_attempts, int linger)
{
	memset(items, 0x55, sizeof(items));
	nitems = 0;
	nbatches = 0;
	retries = 0;
	nwrong = 0;
	now = 1000000;
	sender = sqs_sender_create(NULL, fifo, max_requests, max_attempts, linger);
}

static void
end(const char *what)
{
	ok(nentries == 0 && entries == NULL && nwrong == 0, "%s: no group is left", what);
	while (entries != NULL)
		table_search(entries->key, HASH_REMOVE, NULL);
	sqs_sender_destroy(sender);
}

static Item *
add(int group, size_t size)
{
	Item	   *item = &items[nitems];

	item->number = nitems++;
	item->group = group;
	item->tries = 0;
	item->batch = 0;
	item->under_way = false;
	item->ended = 0;
	item->send.size = (uint32) size;
	sqs_sender_add(sender, &item->send, (uint64) group, now);
	return item;
}

static void
item_done(SendItem *send, SendOutcome outcome, const SqsBatchEntry *entry,
		  const AwsError *error, void *arg)
{
	Item	   *item = (Item *) send;

	nwrong += !item->under_way || item->ended > 0 || arg != &items ||
		(error == NULL) == (entry == NULL);
	item->under_way = false;
	item->outcome = outcome;
	if (outcome == SEND_RETRY)
	{
		retries++;
		return;
	}
	item->ended++;

	/* within a group none ends before those added earlier that it was not with */
	for (int i = 0; sender->fifo && i < item->number; i++)
		nwrong += items[i].group == item->group && items[i].ended == 0 &&
			(items[i].batch != item->batch || sender->group_batch == 1);

	/* the owner frees it */
	memset(&item->send, 0x77, sizeof(item->send));
}

static bool
take(SendBatch *batch)
{
	size_t		size = 0;

	memset(batch, 0x55, sizeof(*batch));
	if (!sqs_sender_take(sender, now, batch))
		return false;
	nwrong += batch->n < 1 || batch->n > SQS_MAX_BATCH || sender->requests > sender->max_requests;
	nbatches++;
	for (int i = 0; i < batch->n; i++)
		((Item *) batch->items[i])->batch = nbatches;
	for (int i = 0; i < batch->n; i++)
	{
		Item	   *item = (Item *) batch->items[i];
		int			of_group = 1;

		nwrong += item->under_way || item->ended > 0;
		item->under_way = true;
		item->tries++;
		size += item->send.size;
		nwrong += item->send.alone && batch->n > 1;

		/* of a group one is under way, or some in this batch: */
		for (int j = 0; sender->fifo && j < nitems; j++)
		{
			if (items[j].group != item->group || j == item->number)
				continue;
			if (items[j].batch == nbatches)
			{
				of_group++;
				/* in their order, and none with one that has failed */
				nwrong += (j < item->number) != items[j].under_way || item->send.attempts > 0;
				continue;
			}
			/* the first that have not ended */
			nwrong += items[j].under_way || (j < item->number && items[j].ended == 0);
		}
		nwrong += of_group > sender->group_batch;
	}
	nwrong += batch->n > 1 && size > SQS_MAX_MESSAGE_BYTES;
	return true;
}

/* "3 4 5": what a batch has, or "none". */
static const char *
taken(SendBatch *batch)
{
	static char text[200];

	if (!take(batch))
		return "none";
	text[0] = '\0';
	for (int i = 0; i < batch->n; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%d", i > 0 ? " " : "",
				 ((Item *) batch->items[i])->number);
	return text;
}

static void
finish(SendBatch *batch, Reply *reply)
{
	sqs_sender_finish(sender, batch, (SqsCall *) reply, now, item_done, &items);
	nwrong += batch->n != 0;
}

/* The batch could not be put together. */
static void
fail_to_prepare(SendBatch *batch)
{
	for (int i = 0; i < batch->n; i++)
	{
		((Item *) batch->items[i])->under_way = false;
		((Item *) batch->items[i])->tries--;
	}
	sqs_sender_cannot_prepare(sender, batch, now);
	nwrong += batch->n != 0;
}

static void
drop(SendBatch *batch, int position)
{
	Item	   *item = (Item *) batch->items[position];

	sqs_sender_drop(sender, batch, position, now);
	item->under_way = false;
	item->ended++;
	memset(&item->send, 0x77, sizeof(item->send));
}

/* All are sent but those in the mask, which fail this way. */
static void
entries_fail(SendBatch *batch, int mask, bool sender_fault, AwsErrorClass class, const char *code)
{
	Reply		reply;

	memset(&reply, 0, sizeof(reply));
	for (int i = 0; i < batch->n; i++)
	{
		SqsBatchEntry *entry = &reply.entries[i];

		entry->ok = (mask & (1 << i)) == 0;
		if (entry->ok)
			continue;
		entry->sender_fault = sender_fault;
		entry->class = class;
		strcpy(entry->code, code);
	}
	finish(batch, &reply);
}

static void
succeed(SendBatch *batch)
{
	entries_fail(batch, 0, false, AWS_ERROR_NONE, "");
}

static void
request_fails(SendBatch *batch, AwsErrorClass class)
{
	AwsError	error;
	Reply		reply;

	memset(&error, 0, sizeof(error));
	error.class = class;
	memset(&reply, 0, sizeof(reply));
	reply.error = &error;
	finish(batch, &reply);
}

static bool
is_refused(int i)
{
	return items[i].ended == 1 && items[i].outcome == SEND_REFUSED;
}

static bool
is_sent(int i)
{
	return items[i].ended == 1 && items[i].outcome == SEND_DONE;
}

/* ---- without groups ---- */

static void
order_and_size(void)
{
	SendBatch	a;
	SendBatch	b;
	SendBatch	c;

	begin(false, 2, 0, 100);
	ok(sqs_sender_next_time(sender, now) == PG_INT64_MAX && strcmp(taken(&a), "none") == 0, "nothing to send, nothing to wait for");
	add(0, 5);
	is(taken(&a), "0", "one message leaves at once");
	succeed(&a);
	add(0, 5);
	is(taken(&a), "none", "the next one lingers");
	is_int(sqs_sender_next_time(sender, now), now + 100, "as long as was told");
	now += 99;
	is(taken(&a), "none", "and not less");
	for (int i = 0; i < 8; i++)
		add(0, 5);
	is(taken(&a), "none", "nine are no full batch");
	add(0, 5);
	is_int(sqs_sender_next_time(sender, now), now, "ten are due at once");
	is(taken(&a), "1 2 3 4 5 6 7 8 9 10", "and leave, in order");
	for (int i = 0; i < 25; i++)
		add(0, 5);
	is(taken(&b), "11 12 13 14 15 16 17 18 19 20", "the next ten");
	is(taken(&c), "none", "no more requests than are allowed");
	is_int(sqs_sender_next_time(sender, now), PG_INT64_MAX, "nor is there anything to wait for but a reply");
	succeed(&b);
	is(taken(&b), "21 22 23 24 25 26 27 28 29 30", "a reply makes room");
	succeed(&a);
	is(taken(&a), "none", "the last five linger");
	now += 100;
	is(taken(&a), "31 32 33 34 35", "and leave");
	ok(sender->waiting == 0 && sender->under_way == 15 && sender->requests == 2, "its books");
	succeed(&a);
	succeed(&b);
	ok(sender->under_way == 0 && sender->requests == 0 && retries == 0, "and at the end");
	end("order");

	begin(false, 9, 0, 0);
	add(0, MB / 2);
	add(0, MB / 2);
	add(0, 1);
	add(0, MB);
	add(0, MB);
	add(0, 0);
	is(taken(&a), "0 1", "1 MiB is a full batch");
	is(taken(&b), "2", "a byte more than fits is left for the next");
	is(taken(&c), "3", "the largest message is alone");
	succeed(&c);
	succeed(&a);
	is(taken(&a), "4 5", "with nothing to carry an empty one");
	succeed(&a);
	succeed(&b);
	end("size");
}

static void
failing_entries(void)
{
	SendBatch	a;

	begin(false, 1, 0, 0);
	for (int i = 0; i < 4; i++)
		add(0, 1);
	take(&a);
	entries_fail(&a, 1 << 1, true, AWS_ERROR_REQUEST, "InvalidParameterValue");
	ok(is_sent(0) && is_refused(1) && is_sent(2) && is_sent(3), "what is our fault is refused, alone");
	ok(sender->waiting == 0 && sender->failures == 0 && sender->paused_until == 0, "and is no failure of the queue");

	add(0, 1);
	add(0, 1);
	take(&a);
	entries_fail(&a, 1, false, AWS_ERROR_TRANSIENT, "InternalError");
	ok(items[4].ended == 0 && items[4].outcome == SEND_RETRY && is_sent(5), "what is not is kept");
	is(taken(&a), "none", "for a while");
	is_int(sqs_sender_next_time(sender, now), now + ENTRY_RETRY_MS, "which is told");
	add(0, 1);
	is(taken(&a), "6", "others do not wait for it");
	succeed(&a);
	now += ENTRY_RETRY_MS;
	add(0, 1);
	is(taken(&a), "4 7", "then it goes first");
	entries_fail(&a, 1, true, AWS_ERROR_CONFIGURATION, "KmsAccessDenied");
	ok(items[4].ended == 0, "what a person can mend is kept even if it is our fault");
	is_int(sqs_sender_next_time(sender, now), now + 2 * ENTRY_RETRY_MS, "for longer each time");
	for (int i = 0; i < 40; i++)
	{
		now = sqs_sender_next_time(sender, now);
		if (take(&a))
			entries_fail(&a, 1, false, AWS_ERROR_TRANSIENT, "NoResult");
	}
	is_int(sqs_sender_next_time(sender, now), now + ENTRY_RETRY_MAX_MS, "up to a minute");
	ok(items[4].ended == 0 && items[4].tries > 40, "without a limit of attempts for ever");
	now += ENTRY_RETRY_MAX_MS;
	take(&a);
	succeed(&a);
	ok(is_sent(4), "until it is sent");

	add(0, 1);
	for (int i = 0; i < MAX_MISMATCHES; i++)
	{
		now += ENTRY_RETRY_MAX_MS;
		take(&a);
		entries_fail(&a, 1, false, AWS_ERROR_TRANSIENT, "ChecksumMismatch");
		is_int(items[8].ended, i == MAX_MISMATCHES - 1, "another MD5, the %d. time", i + 1);
	}

	/* what has failed before for another reason */
	add(0, 1);
	for (int i = 0; i < 2 * MAX_MISMATCHES; i++)
	{
		now += ENTRY_RETRY_MAX_MS;
		take(&a);
		entries_fail(&a, 1, false, AWS_ERROR_TRANSIENT,
					 i == MAX_MISMATCHES ? "ChecksumMismatch" : "InternalError");
	}
	is_int(items[9].ended, 0, "one other MD5 among other errors gives up nothing");
	now += ENTRY_RETRY_MAX_MS;
	take(&a);
	succeed(&a);
	end("failing entries");

	begin(false, 1, 3, 0);
	add(0, 1);
	add(0, 1);
	take(&a);
	entries_fail(&a, 3, false, AWS_ERROR_TRANSIENT, "InternalError");
	now += ENTRY_RETRY_MAX_MS;
	take(&a);
	is_int(a.n, 2, "with a limit of attempts both are tried again");
	entries_fail(&a, 1, false, AWS_ERROR_TRANSIENT, "InternalError");
	now += ENTRY_RETRY_MAX_MS;
	take(&a);
	entries_fail(&a, 1, false, AWS_ERROR_TRANSIENT, "InternalError");
	ok(items[0].ended + items[1].ended == 2 && is_refused(0) + is_refused(1) == 1 && retries == 3, "until it is reached");
	add(0, 1);
	take(&a);
	entries_fail(&a, 1, true, AWS_ERROR_CONFIGURATION, "KmsAccessDenied");
	ok(is_refused(2), "who waits for the outcome does not wait for a person");
	end("limited attempts");
}

static void
failing_requests(void)
{
	SendBatch	a;
	SendBatch	b;
	int64		pause = PAUSE_MIN_MS;
	int			good = 0;

	begin(false, 4, 0, 0);
	for (int i = 0; i < 30; i++)
		add(0, 1);
	take(&a);
	take(&b);
	request_fails(&a, AWS_ERROR_TRANSIENT);
	is(taken(&a), "none", "a queue that fails pauses");
	is_int(sqs_sender_next_time(sender, now), PG_INT64_MAX, "until the other request has ended, at least");
	request_fails(&b, AWS_ERROR_TIMEOUT);
	is_int(sender->failures, 1, "requests that fail together fail once");
	is_int(sqs_sender_next_time(sender, now), now + pause, "then for its time");
	for (int i = 0; i < 10; i++)
	{
		now += pause - 1;
		good += strcmp(taken(&a), "none") == 0;
		now++;
		good += take(&a) && a.n == 10;
		good += strcmp(taken(&b), "none") == 0;
		request_fails(&a, AWS_ERROR_THROTTLED);
		pause = Min(2 * pause, PAUSE_MAX_MS);
		good += sqs_sender_next_time(sender, now) == now + pause;
	}
	is_int(good, 40, "one request at a time, pauses that double, up to a minute");
	is_int(pause, PAUSE_MAX_MS, "which they have reached");
	sqs_sender_try_again(sender);
	ok(sqs_sender_next_time(sender, now) <= now && take(&a) && take(&b), "all is tried again when something was mended");
	request_fails(&b, AWS_ERROR_NO_QUEUE);
	succeed(&a);
	ok(sender->failures == 0 && sqs_sender_next_time(sender, now) <= now, "a success ends the pause");
	while (take(&a))
		succeed(&a);
	ok(sender->waiting == 0 && sender->under_way == 0, "all are sent");
	end("failing requests");

	/* a request that SQS refuses is taken apart */
	begin(false, 2, 0, 0);
	for (int i = 0; i < 12; i++)
		add(0, 1);
	take(&a);
	request_fails(&a, AWS_ERROR_REQUEST);
	is_int(sender->failures, 0, "a refused request is no failure of the queue");
	for (int i = 0; i < 10; i++)
	{
		char		one[8];

		snprintf(one, sizeof(one), "%d", i);
		is(taken(&a), one, "its messages leave one by one");
		if (i == 4)
			request_fails(&a, AWS_ERROR_REQUEST);
		else
			succeed(&a);
	}
	is(taken(&a), "10 11", "what comes after them does not");
	succeed(&a);
	for (int i = 0; i < 12; i++)
		good += i == 4 ? is_refused(i) : is_sent(i);
	is_int(good, 52, "and one of them is refused");
	end("refused requests");

	/* one that is refused for a reason that may be in it or not */
	begin(false, 2, 0, 0);
	for (int i = 0; i < 12; i++)
		add(0, 1);
	take(&a);
	request_fails(&a, AWS_ERROR_UNKNOWN);
	is_int(sender->failures, 1, "a reason that is not known may be the queue's: it pauses");
	now += PAUSE_MIN_MS;
	for (int i = good = 0; i < 10; i++)
	{
		char		one[8];

		snprintf(one, sizeof(one), "%d", i);
		good += strcmp(taken(&a), one) == 0;
		if (i == 4)
		{
			request_fails(&a, AWS_ERROR_UNKNOWN);
			now = sqs_sender_next_time(sender, now);
		}
		else
			succeed(&a);
	}
	is_int(good, 10, "or a message's: they leave one by one");
	is(taken(&a), "10 11", "the one that failed alone holds up no other");
	succeed(&a);
	is(taken(&a), "4", "and is tried again in its time");
	for (int i = 0; i < 40; i++)
	{
		request_fails(&a, AWS_ERROR_UNKNOWN);
		now = sqs_sender_next_time(sender, now);
		add(0, 1);
		take(&a);
		if (((Item *) a.items[0])->number == 4)
			continue;
		succeed(&a);
		is_int(sender->failures, 0, "another is sent meanwhile");
		now = sqs_sender_next_time(sender, now);
		take(&a);
	}
	ok(items[4].ended == 0 && items[4].tries > 40, "without end, for nobody knows that it is bad");
	request_fails(&a, AWS_ERROR_UNKNOWN);
	is_int(sqs_sender_next_time(sender, now), now + ENTRY_RETRY_MAX_MS, "once a minute, in the end");
	now += ENTRY_RETRY_MAX_MS;
	take(&a);
	succeed(&a);
	good = 0;
	for (int i = 0; i < 12; i++)
		good += is_sent(i);
	is_int(good, 12, "and all are sent");
	end("requests refused for an unknown reason");

	/* want of descriptors or memory in this process */
	begin(false, 2, 0, 0);
	for (int i = 0; i < 20; i++)
		add(0, 1);
	take(&a);
	take(&b);
	request_fails(&a, AWS_ERROR_RESOURCES);
	ok(sender->failures == 0 && strcmp(taken(&a), "none") == 0, "a shortage of our own is no failure of the queue");
	succeed(&b);
	now += SHORTAGE_PAUSE_MS;
	is(taken(&a), "0 1 2 3 4 5 6 7 8 9", "a moment later it goes on as before");
	succeed(&a);
	end("shortage");

	begin(false, 1, 3, 0);
	for (int i = 0; i < 12; i++)
		add(0, 1);
	for (int i = 0; i < 3; i++)
	{
		now += PAUSE_MAX_MS;
		take(&a);
		request_fails(&a, AWS_ERROR_TRANSIENT);
	}
	for (int i = good = 0; i < 12; i++)
		good += is_refused(i);
	is_int(good, 10, "with a limit of attempts a batch is given back");
	now += PAUSE_MAX_MS;
	is(taken(&a), "10 11", "the others are tried all the same");
	succeed(&a);
	end("failing requests with a limit");
}

/* ---- message groups ---- */

static void
groups(void)
{
	SendBatch	a;
	SendBatch	b;
	int			seen = 0;
	SendItem   *left;

	begin(true, 2, 0, 0);
	add(1, 1);
	add(1, 1);
	add(2, 1);
	add(2, 1);
	add(3, 1);
	is(taken(&a), "0 2 4", "one of each group");
	is(taken(&b), "none", "the others wait for it");
	ok(sender->waiting == 2 && sqs_sender_next_time(sender, now) == PG_INT64_MAX, "for as long as it takes");
	add(4, 1);
	is(taken(&b), "5", "another group does not");
	entries_fail(&a, 1 << 1, false, AWS_ERROR_TRANSIENT, "InternalError");
	succeed(&b);
	is(taken(&a), "1", "a group whose first failed stays where it is");
	succeed(&a);
	now += ENTRY_RETRY_MS;
	is(taken(&a), "2", "and begins again with it");
	entries_fail(&a, 1, true, AWS_ERROR_REQUEST, "InvalidParameterValue");
	ok(is_refused(2), "what is refused");
	is(taken(&a), "3", "does not hold up its group for ever");
	add(2, 1);
	add(1, 1);
	is(taken(&b), "7", "while a message of another group leaves");
	drop(&a, 0);
	ok(a.n == 0 && sender->requests == 1, "dropped: no request is under way");
	is(taken(&a), "6", "the next of its group");
	succeed(&a);
	succeed(&b);
	end("groups");

	begin(true, 3, 0, 0);
	for (int i = 0; i < 30; i++)
		add(i % 3, 1);
	take(&a);
	drop(&a, 1);
	ok(a.n == 2 && ((Item *) a.items[1])->number == 2, "one of three dropped: the others close up");
	request_fails(&a, AWS_ERROR_REQUEST);
	for (int i = 0; i < 3; i++)
	{
		is_int(take(&a) ? a.n : 0, i < 2 ? 1 : 3, "batch %d after a refused request", i);
		succeed(&a);
	}
	while (take(&a))
		succeed(&a);
	ok(sender->waiting == 0 && nwrong == 0, "all of each group, in order");
	end("groups taken apart");

	/* the linger is for what may join */
	begin(true, 2, 0, 100);
	add(1, 1);
	is(taken(&a), "0", "the first of a group leaves at once");
	add(1, 1);
	add(1, 1);
	succeed(&a);
	is_int(sqs_sender_next_time(sender, now), now, "one that nothing can join, and others wait for,");
	is(taken(&a), "1", "does as well");
	add(2, 1);
	is(taken(&b), "none", "one that can be joined by what follows lingers");
	succeed(&a);
	is(taken(&a), "none", "also while nothing waits behind it");
	is_int(sqs_sender_next_time(sender, now), now + 100, "as long as was told");
	add(2, 1);
	is(taken(&a), "3 2", "but no longer than until something does");
	succeed(&a);
	now += 100;
	is(taken(&a), "4", "the last");
	succeed(&a);
	end("lingering groups");

	/* the end with messages left: ready, later, behind others */
	begin(true, 1, 0, 0);
	for (int i = 0; i < 9; i++)
		add(i % 3, 1);
	take(&a);
	entries_fail(&a, 1 << 2, false, AWS_ERROR_TRANSIENT, "InternalError");
	while ((left = sqs_sender_remove(sender)) != NULL)
	{
		Item	   *item = (Item *) left;

		for (int i = 0; i < item->number; i++)
			nwrong += items[i].group == item->group && items[i].ended == 0;
		item->ended++;
		seen++;
	}
	ok(seen == 7 && sender->waiting == 0 && sender->nready == 0, "the rest can be had");
	end("removed");
	begin(false, 1, 0, 0);
	for (int i = 0; i < 5; i++)
		add(0, 1);
	take(&a);
	entries_fail(&a, 3, false, AWS_ERROR_TRANSIENT, "InternalError");
	add(0, 1);
	seen = 0;
	while (sqs_sender_remove(sender) != NULL)
		seen++;
	ok(seen == 3 && sender->waiting == 0 && sender->nready == 0, "without groups as well");
	end("removed without groups");
}

static uint64 random_state;

static int
random_int(int bound)
{
	random_state = random_state * UINT64CONST(6364136223846793005) + UINT64CONST(1442695040888963407);
	return (int) ((random_state >> 33) % bound);
}

/* Several messages of a group in a batch, where that is accepted. */
static void
group_batches(void)
{
	SendBatch	a;
	SendBatch	b;

	begin(true, 2, 0, 100);
	sender->group_batch = 4;
	for (int i = 0; i < 6; i++)
		add(1, 1);
	add(2, 1);
	add(2, 1);
	is(taken(&a), "0 1 2 3 6 7", "so many of a group as may be, in order");
	is(taken(&b), "none", "the others wait for them");
	add(2, 1);
	add(1, 1);
	entries_fail(&a, 1 << 1 | 1 << 3, false, AWS_ERROR_TRANSIENT, "InternalError");
	ok(is_sent(0) && is_sent(2) && is_sent(6) && is_sent(7), "two that fail: those beside them are sent");
	now += 100;
	is(taken(&b), "8", "another group goes on");
	succeed(&b);
	now += ENTRY_RETRY_MS - 100;
	is(taken(&a), "1", "what has failed is sent first, alone,");
	succeed(&a);
	is(taken(&a), "3", "one after the other");
	succeed(&a);
	is(taken(&a), "4 5 9", "before the rest of its group");
	entries_fail(&a, 1, true, AWS_ERROR_REQUEST, "InvalidParameterValue");
	ok(is_refused(4) && is_sent(5) && is_sent(9), "what is refused is no more than that");
	end("several of a group");

	begin(true, 2, 0, 0);
	sender->group_batch = 10;
	for (int i = 0; i < 4; i++)
		add(1, MB / 2);
	for (int i = 0; i < 12; i++)
		add(2, 1);
	is(taken(&a), "0 1", "1 MiB is a full batch");
	is(taken(&b), "4 5 6 7 8 9 10 11 12 13", "and so are ten");
	request_fails(&b, AWS_ERROR_REQUEST);
	is(taken(&b), "4", "of a request that is refused each is sent alone");
	succeed(&b);
	is(taken(&b), "5", "in order");
	request_fails(&a, AWS_ERROR_TRANSIENT);
	succeed(&b);
	now = sqs_sender_next_time(sender, now);
	is(taken(&a), "0 1", "a request that fails is made again");
	succeed(&a);
	while (take(&a))
		succeed(&a);
	ok(sender->waiting == 0 && nwrong == 0, "all of each group, in order");
	end("several of a group, failing");

	/* a full batch does not linger, whatever it is made of */
	begin(true, 2, 0, 100);
	sender->group_batch = 5;
	add(9, 1);
	take(&a);
	for (int i = 0; i < 9; i++)
		add(1 + i % 2, 1);
	is(taken(&b), "none", "nine are no full batch");
	add(2, 1);
	is_int(take(&b) ? b.n : 0, 10, "ten of two groups are");
	succeed(&a);
	succeed(&b);
	end("full of groups");
}

/*
 * Anything may fail in any way at any time.  Whatever comes, each message
 * ends once, groups keep their order, and the time that is told is one at
 * which something can be done.
 */
static void
at_random(bool fifo, int group_batch, int max_attempts, uint32 seed)
{
	SendBatch	under_way[3];
	int			n = 0;
	int			good = 0;
	int			stuck = 0;

	random_state = seed;
	begin(fifo, 3, max_attempts, random_int(2) * 20);
	sender->group_batch = group_batch;
	for (int step = 0; step < 20000; step++)
	{
		int			i = n > 0 ? random_int(n) : 0;

		nwrong += sender->waiting + sender->under_way > nitems || sender->requests != n;
		switch (random_int(8))
		{
			case 0:
			case 1:
				if (nitems < MAX_ITEMS)
					add(1 + random_int(7), random_int(20) == 0 ? MB - random_int(3) : random_int(MB / 8));
				break;
			case 2:
			case 3:
				if (n < 3 && take(&under_way[n]))
					n++;
				break;
			case 4:
				{
					int64		next = sqs_sender_next_time(sender, now);

					if (n == 0 && sender->waiting > 0)
						nwrong += next == PG_INT64_MAX;
					now = next == PG_INT64_MAX || random_int(2) == 0 ? now + random_int(50) : Max(now, next);
					break;
				}
			default:
				if (n == 0)
					break;
				switch (random_int(12))
				{
					case 0:
						request_fails(&under_way[i], random_int(2) ? AWS_ERROR_TRANSIENT : AWS_ERROR_NO_QUEUE);
						break;
					case 1:
						request_fails(&under_way[i], random_int(4) ? AWS_ERROR_REQUEST :
									  random_int(2) ? AWS_ERROR_UNKNOWN : AWS_ERROR_RESOURCES);
						break;
					case 2:
						fail_to_prepare(&under_way[i]);
						break;
					case 3:
						while (under_way[i].n > 0)
							drop(&under_way[i], random_int(under_way[i].n));
						break;
					case 4:
						entries_fail(&under_way[i], random_int(1024), true, AWS_ERROR_REQUEST, "MissingParameter");
						break;
					case 5:
						entries_fail(&under_way[i], random_int(1024), true, AWS_ERROR_CONFIGURATION, "KmsDisabled");
						break;
					case 6:
						entries_fail(&under_way[i], random_int(1024), false, AWS_ERROR_TRANSIENT, "ChecksumMismatch");
						break;
					case 7:
						entries_fail(&under_way[i], random_int(1024), false, AWS_ERROR_TRANSIENT, "NoResult");
						break;
					default:
						succeed(&under_way[i]);
						break;
				}
				under_way[i] = under_way[--n];
				break;
		}
	}

	/* all goes well from now on: does it come to an end? */
	while (stuck < 5 && (n > 0 || sender->waiting > 0))
	{
		stuck++;
		while (n < 3 && take(&under_way[n]))
		{
			n++;
			stuck = 0;
		}
		while (n > 0)
			succeed(&under_way[--n]);
		if (sender->waiting > 0)
		{
			if (sqs_sender_next_time(sender, now) == PG_INT64_MAX)
				break;
			now = Max(now, sqs_sender_next_time(sender, now));
		}
	}
	for (int i = 0; i < nitems; i++)
		good += items[i].ended == 1;
	ok(nwrong == 0, "%s, %d in a batch, at most %d attempts, seed %u: nothing that must not be",
	   fifo ? "groups" : "no groups", group_batch, max_attempts, seed);
	is_int(good, nitems, "and all %d messages end, once", nitems);
	ok(sender->waiting == 0 && sender->under_way == 0 && sender->nready == 0 && sender->requests == 0 &&
	   dlist_is_empty(&sender->later), "and the books agree");
	end("at random");
}

/* A message that this process cannot put together holds up no other. */
static void
unprepared(void)
{
	SendBatch	batch;

	begin(false, 2, 0, 0);
	for (int i = 0; i < 3; i++)
		add(0, 10);
	is(taken(&batch), "0 1 2", "a batch");
	fail_to_prepare(&batch);
	is(taken(&batch), "0", "each of its messages is tried alone");
	succeed(&batch);
	is(taken(&batch), "1", "in order");
	fail_to_prepare(&batch);
	is(taken(&batch), "2", "the bad one waits, and the next goes on");
	succeed(&batch);
	is(taken(&batch), "none", "not at once again");
	now = sqs_sender_next_time(sender, now);
	is(taken(&batch), "1", "later");
	succeed(&batch);
	ok(is_sent(0) && is_sent(1) && is_sent(2) && sender->troubled == 0, "and all end well");
	end("unprepared");

	begin(true, 2, 0, 0);
	add(1, 10);
	add(1, 10);
	add(2, 10);
	is(taken(&batch), "0 2", "one of each group");
	fail_to_prepare(&batch);
	is(taken(&batch), "0", "groups: the same");
	fail_to_prepare(&batch);
	is(taken(&batch), "2", "another group goes on");
	succeed(&batch);
	is(taken(&batch), "none", "the bad one's group waits for it");
	now = sqs_sender_next_time(sender, now);
	is(taken(&batch), "0", "and goes on with it");
	succeed(&batch);
	is(taken(&batch), "1", "in order");
	succeed(&batch);
	end("unprepared groups");
}

/* With a retry budget, requests that fail while others succeed stop nothing. */
static void
misses(void)
{
	AwsRetryBudget budget;
	SendBatch	batches[4];
	SendBatch	batch;

	aws_retry_budget_init(&budget);
	begin(false, 4, 0, 0);
	sender->budget = &budget;
	for (int i = 0; i < 100; i++)
		(void) add(0, 100);
	for (int i = 0; i < 4; i++)
		(void) take(&batches[i]);
	request_fails(&batches[1], AWS_ERROR_TRANSIENT);
	ok(sender->failures == 0 && sender->paused_until == 0, "a miss is not a failure of the queue");
	is(taken(&batch), "none", "while nothing succeeds, no more are under way than may fail");
	succeed(&batches[0]);
	ok(budget.tokens == AWS_RETRY_TOKENS, "what it took from the budget is put back");
	is(taken(&batch), "10 11 12 13 14 15 16 17 18 19", "a success permits all, first what failed");
	ok(take(&batches[0]), "and the next");

	/* three in a row, of four */
	request_fails(&batch, AWS_ERROR_TRANSIENT);
	request_fails(&batches[0], AWS_ERROR_THROTTLED);
	ok(sender->failures == 0 && sender->misses == 2, "two in a row are misses");
	ok(sqs_sender_next_time(sender, now) == PG_INT64_MAX, "two more may fail before that is known");
	request_fails(&batches[2], AWS_ERROR_TRANSIENT);
	ok(sender->failures == 1 && sender->paused_until > now, "the third is a failure of the queue");
	request_fails(&batches[3], AWS_ERROR_TRANSIENT);
	ok(sender->failures == 1, "the fourth was begun before");
	is(taken(&batch), "none", "it pauses");
	now = sender->paused_until;
	is(taken(&batch), "30 31 32 33 34 35 36 37 38 39", "one tests it, with what failed last");
	is(taken(&batches[0]), "none", "at a time");
	request_fails(&batch, AWS_ERROR_TRANSIENT);
	ok(sender->failures == 2, "while the queue is failing there are no misses");
	now = sender->paused_until;
	(void) take(&batch);
	succeed(&batch);
	ok(sender->failures == 0 && budget.tokens == AWS_RETRY_TOKENS, "it is well again");

	/* what a retry does not mend, and an empty budget */
	(void) take(&batch);
	request_fails(&batch, AWS_ERROR_CREDENTIALS);
	ok(sender->failures == 1, "refused keys are a failure of the queue");
	now = sender->paused_until;
	(void) take(&batch);
	succeed(&batch);
	budget.tokens = 4;
	(void) take(&batch);
	request_fails(&batch, AWS_ERROR_TRANSIENT);
	ok(sender->failures == 1 && budget.tokens == 4, "so is a miss without a token");
	now = sender->paused_until;
	(void) take(&batch);
	succeed(&batch);
	budget.tokens = 100;

	/* a lack of resources is no pause that hides what fails in it */
	for (int i = 0; i < 4; i++)
		(void) take(&batches[i]);
	request_fails(&batches[0], AWS_ERROR_RESOURCES);
	for (int i = 1; i < 4; i++)
		request_fails(&batches[i], AWS_ERROR_TRANSIENT);
	now += 60000;
	ok(take(&batch), "it goes on after that");
	succeed(&batch);
	while (take(&batch))
		succeed(&batch);
	ok(sender->waiting == 0, "to the end");
	end("misses");
}

void
test_sender(void)
{
	order_and_size();
	unprepared();
	failing_entries();
	failing_requests();
	misses();
	groups();
	group_batches();
	for (uint32 seed = 1; seed <= 12; seed++)
		at_random(seed % 2 == 0, seed > 8 ? 4 : 1, seed % 4 < 2 ? 0 : 3, seed);
}
