/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  The queues, their FIFO groups, deduplication windows and the books of
 *	  deleted messages.
 *
 * Queues are found by name through a hash table and listed in order of their
 * names.  A queue with something new to receive while long polls are open on
 * it is put on the wake list; whoever drives the store empties that list
 * (queue_next_woken) after each request and each run of the timers.
 *
 *-------------------------------------------------------------------------
 */
#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_BUCKETS 1024

/* A name that may not be used again yet */
typedef struct Tombstone
{
	struct Tombstone *next;
	int64_t		until_ms;
	char		name[81];
} Tombstone;

static Queue *buckets[QUEUE_BUCKETS];
static Queue *first_queue;
static Queue *wake_list;
static Tombstone *tombstones;
static uint32_t last_queue_serial;
static char place[80] = "us-east-1:" ACCOUNT_ID;	/* as in ARNs */

void
queue_set_place(const char *region, const char *account)
{
	snprintf(place, sizeof(place), "%s:%s", region, account);
}

static Queue **
bucket_of(const char *name)
{
	return &buckets[hash_bytes(name, strlen(name), 0) % QUEUE_BUCKETS];
}

void
queue_config_init(QueueConfig *config)
{
	memset(config, 0, sizeof(*config));
	config->max_size = MAX_MESSAGE_BYTES;
	config->retention = 345600;
	config->visibility = 30;
}

void
queue_config_copy(QueueConfig *to, const QueueConfig *from)
{
	*to = *from;
	for (int i = 0; i < TEXT_COUNT; i++)
		to->text[i] = from->text[i] ? xstrdup(from->text[i]) : NULL;
}

void
queue_config_free(QueueConfig *config)
{
	for (int i = 0; i < TEXT_COUNT; i++)
	{
		free(config->text[i]);
		config->text[i] = NULL;
	}
}

Queue *
queue_first(void)
{
	return first_queue;
}

Queue *
queue_find(const char *name)
{
	Queue	   *queue = *bucket_of(name);

	while (queue != NULL && strcmp(queue->name, name) != 0)
		queue = queue->hash_next;
	return queue;
}

/* Takes over what config points to. */
Queue *
queue_create(const char *name, QueueConfig *config)
{
	Queue	   *queue = xcalloc(1, sizeof(Queue));
	Queue	  **bucket = bucket_of(name);
	Queue	   *after = NULL;

	snprintf(queue->name, sizeof(queue->name), "%s", name);
	snprintf(queue->arn, sizeof(queue->arn), "arn:aws:sqs:%s:%s", place, name);
	queue->serial = ++last_queue_serial;
	queue->config = *config;
	memset(config, 0, sizeof(*config));
	queue->created_ms = queue->modified_ms = store_now();
	queue->hash_next = *bucket;
	*bucket = queue;

	for (Queue *q = first_queue; q != NULL && strcmp(q->name, name) < 0; q = q->next)
		after = q;
	queue->prev = after;
	queue->next = after ? after->next : first_queue;
	if (after)
		after->next = queue;
	else
		first_queue = queue;
	if (queue->next)
		queue->next->prev = queue;
	return queue;
}

static void
dedup_clear(Queue *queue)
{
	while (queue->dedup_first != NULL)
	{
		DedupEntry *entry = queue->dedup_first;

		queue->dedup_first = entry->next;
		free(entry);
	}
	queue->dedup_last = NULL;
	queue->dedup_count = 0;
	if (queue->dedup != NULL)
		memset(queue->dedup, 0, queue->dedup_buckets * sizeof(DedupEntry *));
}

static void
forget_call_times(Queue *queue)
{
	for (int i = 0; i < ACTION_UNKNOWN; i++)
	{
		free(queue->call_times[i]);
		queue->call_times[i] = NULL;
	}
}

static void
queue_free(Queue *queue)
{
	while (queue->first != NULL)
		store_forget(queue->first);
	dedup_clear(queue);
	forget_call_times(queue);
	free(queue->dedup);
	free(queue->groups);
	free(queue->books);
	queue_config_free(&queue->config);
	free(queue);
}

/* The caller has dealt with the queue's open polls. */
void
queue_delete(Queue *queue)
{
	Queue	  **p = bucket_of(queue->name);
	Tombstone  *stone = xcalloc(1, sizeof(Tombstone));

	stone->until_ms = store_now() + COOLDOWN_MS;
	memcpy(stone->name, queue->name, sizeof(stone->name));
	stone->next = tombstones;
	tombstones = stone;

	while (*p != queue)
		p = &(*p)->hash_next;
	*p = queue->hash_next;
	if (queue->prev)
		queue->prev->next = queue->next;
	else
		first_queue = queue->next;
	if (queue->next)
		queue->next->prev = queue->prev;
	if (queue->wake_queued)
	{
		for (p = &wake_list; *p != queue; p = &(*p)->wake_next)
			;
		*p = queue->wake_next;
	}
	queue_free(queue);
}

bool
queue_deleted_recently(const char *name)
{
	int64_t		now = store_now();
	bool		found = false;

	for (Tombstone **p = &tombstones; *p != NULL;)
	{
		Tombstone  *stone = *p;

		if (stone->until_ms <= now)
		{
			*p = stone->next;
			free(stone);
			continue;
		}
		if (strcmp(stone->name, name) == 0)
			found = true;
		p = &stone->next;
	}
	return found;
}

static void
free_tombstones(void)
{
	while (tombstones != NULL)
	{
		Tombstone  *stone = tombstones;

		tombstones = stone->next;
		free(stone);
	}
}

void
queue_purge(Queue *queue)
{
	while (queue->first != NULL)
	{
		queue->stats.purged++;
		store_forget(queue->first);
	}
}

/* Empty all queues and forget all history; open polls go on waiting. */
void
queue_reset_all(void)
{
	free_tombstones();
	for (Queue *queue = first_queue; queue != NULL; queue = queue->next)
	{
		queue_purge(queue);
		dedup_clear(queue);
		forget_call_times(queue);
		queue->books_len = queue->books_start = 0;
		queue->purged_ms = 0;
		memset(&queue->stats, 0, sizeof(queue->stats));
		queue->stats.max_open_polls = queue->open_polls;
	}
}

void
queue_delete_all(void)
{
	Queue	   *queue = first_queue;

	first_queue = NULL;
	wake_list = NULL;
	memset(buckets, 0, sizeof(buckets));
	while (queue != NULL)
	{
		Queue	   *following = queue->next;

		queue->waiters = NULL;
		queue_free(queue);
		queue = following;
	}
	free_tombstones();
}

/* Note that there is something to receive. */
void
queue_wake(Queue *queue)
{
	if (queue->waiters == NULL || queue->wake_queued)
		return;
	queue->wake_queued = true;
	queue->wake_next = wake_list;
	wake_list = queue;
}

Queue *
queue_next_woken(void)
{
	Queue	   *queue = wake_list;

	if (queue != NULL)
	{
		wake_list = queue->wake_next;
		queue->wake_queued = false;
	}
	return queue;
}

/*
 * Keep a few facts about a message about to be deleted.  Once the limit is
 * reached the oldest record makes room.
 */
void
queue_books_add(Queue *queue, const Message *msg)
{
	size_t		limit = store_books_limit();
	DeletedMessage *record;

	if (limit == 0)
		return;
	if (queue->books_len < limit)
	{
		if (queue->books_len == queue->books_cap)
		{
			queue->books_cap = queue->books_cap ? queue->books_cap * 2 : 256;
			if (queue->books_cap > limit)
				queue->books_cap = limit;
			queue->books = xrealloc(queue->books,
									queue->books_cap * sizeof(DeletedMessage));
		}
		record = &queue->books[queue->books_len++];
	}
	else
	{
		record = &queue->books[queue->books_start];
		queue->books_start = (queue->books_start + 1) % limit;
	}
	memcpy(record->id, msg->id, 16);
	memcpy(record->body_md5, msg->body_md5, 16);
	record->sent_ms = msg->sent_ms;
	record->deleted_ms = store_now();
	record->receive_count = msg->receive_count;
}

/* A call has come. */
void
queue_note_call(Queue *queue, Action action)
{
	CallTimes **times = &queue->call_times[action];

	if (*times == NULL)
		*times = xcalloc(1, sizeof(CallTimes));
	(*times)->ms[(*times)->count++ % CALL_TIMES_KEPT] = mono_ms();
}

/* Find a FIFO group, or make it. */
Group *
group_get(Queue *queue, const char *id)
{
	size_t		len = strlen(id);
	uint64_t	hash = hash_bytes(id, len, 0);
	Group	   *group;

	if (queue->group_count >= queue->group_buckets)
	{
		size_t		count = queue->group_buckets ? queue->group_buckets * 2 : 64;
		Group	  **table = xcalloc(count, sizeof(Group *));

		for (size_t i = 0; i < queue->group_buckets; i++)
		{
			group = queue->groups[i];
			while (group != NULL)
			{
				Group	   *following = group->hash_next;

				group->hash_next = table[group->hash & (count - 1)];
				table[group->hash & (count - 1)] = group;
				group = following;
			}
		}
		free(queue->groups);
		queue->groups = table;
		queue->group_buckets = count;
	}
	group = queue->groups[hash & (queue->group_buckets - 1)];
	while (group != NULL && (group->hash != hash || strcmp(group->id, id) != 0))
		group = group->hash_next;
	if (group == NULL)
	{
		group = xcalloc(1, sizeof(Group) + len + 1);
		memcpy(group->id, id, len + 1);
		group->hash = hash;
		group->hash_next = queue->groups[hash & (queue->group_buckets - 1)];
		queue->groups[hash & (queue->group_buckets - 1)] = group;
		queue->group_count++;
	}
	return group;
}

/* Put the group in the list of ready ones, or take it out, as is due. */
void
group_update_ready(Queue *queue, Group *group)
{
	bool		ready = group->head != NULL && group->head->state == MSG_VISIBLE;

	if (ready == group->ready)
		return;
	group->ready = ready;
	if (ready)
	{
		group->ready_next = NULL;
		group->ready_prev = queue->ready_groups_tail;
		if (queue->ready_groups_tail)
			queue->ready_groups_tail->ready_next = group;
		else
			queue->ready_groups = group;
		queue->ready_groups_tail = group;
	}
	else
	{
		if (group->ready_prev)
			group->ready_prev->ready_next = group->ready_next;
		else
			queue->ready_groups = group->ready_next;
		if (group->ready_next)
			group->ready_next->ready_prev = group->ready_prev;
		else
			queue->ready_groups_tail = group->ready_prev;
	}
}

void
group_drop_if_empty(Queue *queue, Group *group)
{
	Group	  **p = &queue->groups[group->hash & (queue->group_buckets - 1)];

	if (group->head != NULL || group->pinned)
		return;
	while (*p != group)
		p = &(*p)->hash_next;
	*p = group->hash_next;
	queue->group_count--;
	free(group);
}

/*
 * Deduplication: entries all live equally long, so the list by age is also
 * the list by expiry and only its head needs to be looked at.
 */
static void
dedup_expire(Queue *queue)
{
	int64_t		now = store_now();

	while (queue->dedup_first != NULL && queue->dedup_first->expires_ms <= now)
	{
		DedupEntry *entry = queue->dedup_first;
		DedupEntry **p = &queue->dedup[entry->hash & (queue->dedup_buckets - 1)];

		while (*p != entry)
			p = &(*p)->hash_next;
		*p = entry->hash_next;
		queue->dedup_first = entry->next;
		if (queue->dedup_first == NULL)
			queue->dedup_last = NULL;
		queue->dedup_count--;
		free(entry);
	}
}

/* The key holds the group too if the queue's scope is the group. */
static size_t
dedup_key(const Queue *queue, const char *group_id, const char *dedup_id, char key[512])
{
	size_t		len = strlen(dedup_id) + 1;

	memcpy(key, dedup_id, len);
	if (queue->config.dedup_per_group)
	{
		memcpy(key + len, group_id, strlen(group_id));
		len += strlen(group_id);
	}
	return len;
}

DedupEntry *
dedup_find(Queue *queue, const char *group_id, const char *dedup_id)
{
	char		key[512];
	size_t		len = dedup_key(queue, group_id, dedup_id, key);
	uint64_t	hash = hash_bytes(key, len, 0);
	DedupEntry *entry;

	dedup_expire(queue);
	if (queue->dedup_count == 0)
		return NULL;
	entry = queue->dedup[hash & (queue->dedup_buckets - 1)];
	while (entry != NULL && (entry->hash != hash || entry->key_len != len ||
							 memcmp(entry->key, key, len) != 0))
		entry = entry->hash_next;
	return entry;
}

void
dedup_add(Queue *queue, const Message *msg)
{
	char		key[512];
	size_t		len = dedup_key(queue, msg->group_id, msg->dedup_id, key);
	DedupEntry *entry = xcalloc(1, sizeof(DedupEntry) + len);
	DedupEntry **bucket;

	entry->hash = hash_bytes(key, len, 0);
	entry->expires_ms = msg->sent_ms + DEDUP_WINDOW_MS;
	entry->sequence = msg->sequence;
	memcpy(entry->id, msg->id, 16);
	entry->key_len = len;
	memcpy(entry->key, key, len);

	if (queue->dedup_count >= queue->dedup_buckets)
	{
		size_t		count = queue->dedup_buckets ? queue->dedup_buckets * 2 : 256;

		free(queue->dedup);
		queue->dedup = xcalloc(count, sizeof(DedupEntry *));
		queue->dedup_buckets = count;
		for (DedupEntry *e = queue->dedup_first; e != NULL; e = e->next)
		{
			e->hash_next = queue->dedup[e->hash & (count - 1)];
			queue->dedup[e->hash & (count - 1)] = e;
		}
	}
	bucket = &queue->dedup[entry->hash & (queue->dedup_buckets - 1)];
	entry->hash_next = *bucket;
	*bucket = entry;
	if (queue->dedup_last)
		queue->dedup_last->next = entry;
	else
		queue->dedup_first = entry;
	queue->dedup_last = entry;
	queue->dedup_count++;
}
