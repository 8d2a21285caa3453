/*-------------------------------------------------------------------------
 *
 * store.c
 *	  Messages: sending, leasing, deleting, timing out.
 *
 * Invariants:
 *	- every live message is in its queue's list (in order of arrival), in the
 *	  hash table by serial, and counted in queue->counts[state];
 *	- a message which is in flight or delayed is in the timer heap, a visible
 *	  one is not;
 *	- standard queue: exactly the visible messages are in the ready list;
 *	- FIFO queue: every message is in its group's list in order of arrival, and
 *	  a group is in the ready list if and only if its first message is visible.
 *	  A message in flight (or delayed) withholds itself and all later ones of
 *	  its group, so what may be received is the run of visible messages at the
 *	  head of the group.
 *
 * No operation depends on the length of a queue, save for the logarithm in
 * the timer heap.
 *
 *-------------------------------------------------------------------------
 */
#include "store.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HANDLE_MAGIC	0x31424551	/* makes handles start with "UUVCM" */
#define FIRST_SEQUENCE	UINT64_C(49496460467696128)

typedef struct HandleData
{
	uint32_t	magic;
	uint32_t	queue;
	uint64_t	serial;
	uint32_t	generation;
	uint32_t	filler;
	uint64_t	check;
} HandleData;

static Heap timers;
static Message **by_serial;
static size_t serial_buckets;
static size_t live_count;
static uint64_t last_serial;
static uint64_t last_sequence = FIRST_SEQUENCE;
static uint64_t handle_secret;
static int64_t clock_base_ms;	/* epoch time minus monotonic time */
static char sender[sizeof(((Message *) 0)->sender)] = "AIDAIENQZJOLO23YVJ4VO";
static int64_t clock_shift_ms;
static size_t books_limit = 2000000;

void
store_start(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	clock_base_ms = (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000 - mono_ms();
	handle_secret = random64();
	serial_buckets = 4096;
	by_serial = xcalloc(serial_buckets, sizeof(Message *));
}

void
store_stop(void)
{
	queue_delete_all();
	heap_free(&timers);
	free(by_serial);
	by_serial = NULL;
}

/* The store's clock in epoch milliseconds */
int64_t
store_now(void)
{
	return mono_ms() + clock_base_ms + clock_shift_ms;
}

void
store_advance(int64_t ms)
{
	clock_shift_ms += ms;
	store_run_timers();
}

/* The SenderId of messages to come; false if it is too long. */
bool
store_set_sender(const char *id)
{
	if (strlen(id) >= sizeof(sender))
		return false;
	strcpy(sender, id);
	return true;
}

void
store_set_books_limit(size_t limit)
{
	books_limit = limit;
}

size_t
store_books_limit(void)
{
	return books_limit;
}

void
attrs_free(AttrSet *set)
{
	if (set == NULL)
		return;
	for (int i = 0; i < set->count; i++)
	{
		free(set->attrs[i].name);
		free(set->attrs[i].type);
		free(set->attrs[i].value);
	}
	free(set);
}

static void
put_length(StrBuf *sb, size_t len)
{
	unsigned char bytes[4] = {len >> 24 & 255, len >> 16 & 255, len >> 8 & 255, len & 255};

	sb_append(sb, bytes, 4);
}

/* SQS's digest over attributes, which must be sorted by name */
void
attrs_md5(const MessageAttr *const *attrs, int count, unsigned char out[16])
{
	static StrBuf sb;

	sb.len = 0;
	for (int i = 0; i < count; i++)
	{
		const MessageAttr *attr = attrs[i];

		put_length(&sb, strlen(attr->name));
		sb_puts(&sb, attr->name);
		put_length(&sb, strlen(attr->type));
		sb_puts(&sb, attr->type);
		sb_putc(&sb, attr->binary ? 2 : 1);
		put_length(&sb, attr->value_len);
		sb_append(&sb, attr->value, attr->value_len);
	}
	md5(sb.data ? sb.data : "", sb.len, out);
	sb_free(&sb);
}

/*
 * The table of live messages.  Serials are handed out in sequence, so the low
 * bits spread perfectly.
 */
static void
serial_add(Message *msg)
{
	Message   **bucket;

	if (live_count >= serial_buckets)
	{
		size_t		new_buckets = serial_buckets * 2;
		Message   **table = xcalloc(new_buckets, sizeof(Message *));

		for (size_t i = 0; i < serial_buckets; i++)
		{
			Message    *m = by_serial[i];

			while (m != NULL)
			{
				Message    *following = m->hash_next;

				m->hash_next = table[m->serial & (new_buckets - 1)];
				table[m->serial & (new_buckets - 1)] = m;
				m = following;
			}
		}
		free(by_serial);
		by_serial = table;
		serial_buckets = new_buckets;
	}
	bucket = &by_serial[msg->serial & (serial_buckets - 1)];
	msg->hash_next = *bucket;
	*bucket = msg;
	live_count++;
}

static Message *
serial_find(uint64_t serial)
{
	Message    *msg = by_serial[serial & (serial_buckets - 1)];

	while (msg != NULL && msg->serial != serial)
		msg = msg->hash_next;
	return msg;
}

static void
serial_remove(Message *msg)
{
	Message   **p = &by_serial[msg->serial & (serial_buckets - 1)];

	while (*p != msg)
		p = &(*p)->hash_next;
	*p = msg->hash_next;
	live_count--;
}

/* Standard queues: the list of visible messages */
static void
ready_append(Queue *queue, Message *msg)
{
	msg->link_next = NULL;
	msg->link_prev = queue->ready_tail;
	if (queue->ready_tail != NULL)
		queue->ready_tail->link_next = msg;
	else
		queue->ready_head = msg;
	queue->ready_tail = msg;
}

static void
ready_remove(Queue *queue, Message *msg)
{
	if (msg->link_prev != NULL)
		msg->link_prev->link_next = msg->link_next;
	else
		queue->ready_head = msg->link_next;
	if (msg->link_next != NULL)
		msg->link_next->link_prev = msg->link_prev;
	else
		queue->ready_tail = msg->link_prev;
	msg->link_prev = msg->link_next = NULL;
}

/* Change a message's state and keep all lists and counts in step. */
static void
set_state(Message *msg, MessageState state, int64_t due)
{
	Queue	   *queue = msg->queue;
	MessageState old = msg->state;

	if (msg->group == NULL && old == MSG_VISIBLE && state != MSG_VISIBLE)
		ready_remove(queue, msg);
	queue->counts[old]--;
	queue->counts[state]++;
	msg->state = state;

	if (state == MSG_VISIBLE)
	{
		heap_remove(&timers, &msg->timer);
		if (msg->group == NULL && old != MSG_VISIBLE)
			ready_append(queue, msg);
	}
	else
		heap_add(&timers, &msg->timer, due);

	if (state == MSG_IN_FLIGHT &&
		queue->counts[MSG_IN_FLIGHT] > queue->stats.max_in_flight)
		queue->stats.max_in_flight = queue->counts[MSG_IN_FLIGHT];
	if (msg->group != NULL)
		group_update_ready(queue, msg->group);
	if (state == MSG_VISIBLE)
		queue_wake(queue);
}

/* Put a message which belongs to no queue at the end of this one. */
static void
attach(Queue *queue, Message *msg, int64_t delay_ms)
{
	msg->queue = queue;
	msg->next = NULL;
	msg->prev = queue->last;
	if (queue->last != NULL)
		queue->last->next = msg;
	else
		queue->first = msg;
	queue->last = msg;

	msg->link_prev = msg->link_next = NULL;
	msg->group = NULL;
	msg->state = delay_ms > 0 ? MSG_DELAYED : MSG_VISIBLE;
	queue->counts[msg->state]++;
	if (queue->config.fifo)
	{
		Group	   *group = group_get(queue, msg->group_id);

		msg->group = group;
		msg->link_prev = group->tail;
		if (group->tail != NULL)
			group->tail->link_next = msg;
		else
			group->head = msg;
		group->tail = msg;
		group_update_ready(queue, group);
	}
	else if (msg->state == MSG_VISIBLE)
		ready_append(queue, msg);

	if (delay_ms > 0)
		heap_add(&timers, &msg->timer, store_now() + delay_ms);
	else
		queue_wake(queue);
}

static void
detach(Message *msg)
{
	Queue	   *queue = msg->queue;

	if (msg->prev != NULL)
		msg->prev->next = msg->next;
	else
		queue->first = msg->next;
	if (msg->next != NULL)
		msg->next->prev = msg->prev;
	else
		queue->last = msg->prev;

	heap_remove(&timers, &msg->timer);
	queue->counts[msg->state]--;
	if (msg->group != NULL)
	{
		Group	   *group = msg->group;

		if (msg->link_prev != NULL)
			msg->link_prev->link_next = msg->link_next;
		else
			group->head = msg->link_next;
		if (msg->link_next != NULL)
			msg->link_next->link_prev = msg->link_prev;
		else
			group->tail = msg->link_prev;
		msg->group = NULL;

		/* Deleting what was in flight may set the rest of the group free. */
		group_update_ready(queue, group);
		if (group->ready)
			queue_wake(queue);
		group_drop_if_empty(queue, group);
	}
	else if (msg->state == MSG_VISIBLE)
		ready_remove(queue, msg);
	msg->queue = NULL;
}

/* Remove a message altogether. */
void
store_forget(Message *msg)
{
	detach(msg);
	serial_remove(msg);
	attrs_free(msg->attrs);
	free(msg->group_id);
	free(msg->dedup_id);
	free(msg->trace);
	free(msg->dlq_source);
	free(msg);
}

static size_t
message_bytes(const Message *msg)
{
	return msg->body_len + (msg->attrs ? msg->attrs->bytes : 0);
}

static char *
copy_or_null(const char *s)
{
	return s ? xstrdup(s) : NULL;
}

/*
 * Accept a message; everything about it has been validated.  On a FIFO queue
 * the caller has also provided the deduplication id.
 */
void
store_send(Queue *queue, SendSpec *spec, SendResult *result)
{
	Message    *msg;
	int			delay = spec->delay < 0 ? queue->config.delay : spec->delay;

	md5(spec->body, spec->body_len, result->body_md5);
	result->sequence = 0;

	if (queue->config.fifo)
	{
		DedupEntry *known = dedup_find(queue, spec->group_id, spec->dedup_id);

		delay = queue->config.delay;
		if (known != NULL)
		{
			memcpy(result->id, known->id, 16);
			result->sequence = known->sequence;
			queue->stats.deduplicated++;
			return;
		}
	}

	msg = xmalloc(sizeof(Message) + spec->body_len);
	memset(msg, 0, sizeof(Message));
	msg->serial = ++last_serial;
	msg->sent_ms = store_now();
	random_uuid(msg->id);
	memcpy(msg->body_md5, result->body_md5, 16);
	msg->attrs = spec->attrs;
	spec->attrs = NULL;
	msg->group_id = copy_or_null(spec->group_id);
	msg->dedup_id = copy_or_null(spec->dedup_id);
	msg->trace = copy_or_null(spec->trace);
	strcpy(msg->sender, sender);
	msg->body_len = spec->body_len;
	memcpy(msg->body, spec->body, spec->body_len);
	if (queue->config.fifo)
	{
		last_sequence += 256;
		msg->sequence = last_sequence;
		dedup_add(queue, msg);
	}
	serial_add(msg);
	attach(queue, msg, (int64_t) delay * 1000);

	queue->stats.sent++;
	queue->stats.bytes_in += (int64_t) message_bytes(msg);
	memcpy(result->id, msg->id, 16);
	result->sequence = msg->sequence;
}

/* Forget what is older than the queue's retention period. */
static void
expire_old(Queue *queue, int64_t now)
{
	int64_t		limit = now - (int64_t) queue->config.retention * 1000;

	while (queue->first != NULL && queue->first->sent_ms <= limit)
	{
		queue->stats.retention_expired++;
		store_forget(queue->first);
	}
}

/*
 * Move a message that was received too often to the dead-letter queue; false
 * if there is no such queue.
 */
static bool
dead_letter(Message *msg)
{
	Queue	   *queue = msg->queue;
	Queue	   *dlq;

	if (queue->config.max_receive_count <= 0 ||
		msg->receive_count < (uint32_t) queue->config.max_receive_count)
		return false;
	dlq = queue_find(queue->config.dlq_name);
	if (dlq == NULL || dlq->config.fifo != queue->config.fifo)
		return false;

	detach(msg);
	free(msg->dlq_source);
	msg->dlq_source = xstrdup(queue->arn);
	msg->released = false;
	if (dlq->config.fifo)
	{
		last_sequence += 256;
		msg->sequence = last_sequence;
		msg->sent_ms = store_now();
	}
	queue->stats.dead_lettered++;
	attach(dlq, msg, 0);
	return true;
}

static void
lease(Message *msg, int64_t now, int visibility)
{
	QueueStats *stats = &msg->queue->stats;

	msg->generation++;
	msg->receive_count++;
	msg->released = false;
	msg->lease_ms = now;
	if (msg->receive_count == 1)
	{
		msg->first_received_ms = now;
		stats->first_deliveries++;
	}
	else
		stats->redelivered++;
	stats->received++;
	stats->bytes_out += (int64_t) message_bytes(msg);

	/* With a timeout of 0 the next run of the timers ends the lease. */
	set_state(msg, MSG_IN_FLIGHT, now + (int64_t) visibility * 1000);
}

/*
 * Lease up to max messages.  Returns their number, which is also 0 when the
 * queue has reached its limit of messages in flight (the caller asks
 * queue->counts for that).
 */
int
store_receive(Queue *queue, int max, int visibility, Message **out)
{
	int64_t		now = store_now();
	int64_t		room = MAX_IN_FLIGHT - queue->counts[MSG_IN_FLIGHT];
	int			count = 0;

	store_run_timers();
	expire_old(queue, now);
	if (max > room)
		max = room > 0 ? (int) room : 0;

	if (!queue->config.fifo)
	{
		while (count < max && queue->ready_head != NULL)
		{
			Message    *msg = queue->ready_head;

			if (dead_letter(msg))
				continue;
			lease(msg, now, visibility);
			out[count++] = msg;
		}
		return count;
	}

	while (count < max && queue->ready_groups != NULL)
	{
		Group	   *group = queue->ready_groups;
		Message    *msg = group->head;

		/* Moving the last message away must not free the group under us. */
		group->pinned = true;
		while (msg != NULL && msg->state == MSG_VISIBLE && count < max)
		{
			Message    *following = msg->link_next;

			if (!dead_letter(msg))
			{
				lease(msg, now, visibility);
				out[count++] = msg;
			}
			msg = following;
		}
		group->pinned = false;
		group_update_ready(queue, group);
		group_drop_if_empty(queue, group);
	}
	return count;
}

bool
store_has_ready(const Queue *queue)
{
	return queue->config.fifo ? queue->ready_groups != NULL : queue->ready_head != NULL;
}

/*
 * For faults: hand a delivered message out again although its lease runs.
 * The handle which the client got stays good until the next receive.
 */
void
store_leave_visible(Message *msg)
{
	if (msg->state == MSG_IN_FLIGHT)
		set_state(msg, MSG_VISIBLE, 0);
}

/* For faults: count and lease a message once more for the same reply. */
void
store_lease_again(Message *msg, int visibility)
{
	lease(msg, store_now(), visibility);
}

/* Make visible what has waited long enough. */
void
store_run_timers(void)
{
	int64_t		now;
	HeapNode   *node = heap_first(&timers);

	if (node == NULL)
		return;
	now = store_now();
	while (node != NULL && node->due <= now)
	{
		Message    *msg = (Message *) node;

		if (msg->state == MSG_IN_FLIGHT)
			msg->queue->stats.expired_leases++;
		set_state(msg, MSG_VISIBLE, 0);
		node = heap_first(&timers);
	}
}

/* Milliseconds until store_run_timers() has work, or -1 */
int64_t
store_next_due(void)
{
	HeapNode   *node = heap_first(&timers);
	int64_t		left;

	if (node == NULL)
		return -1;
	left = node->due - store_now();
	return left > 0 ? left : 0;
}

static uint64_t
handle_check(const HandleData *data)
{
	return hash_bytes(data, offsetof(HandleData, check), handle_secret);
}

void
sb_receipt_handle(StrBuf *sb, const Message *msg)
{
	HandleData	data = {0};

	data.magic = HANDLE_MAGIC;
	data.queue = msg->queue->serial;
	data.serial = msg->serial;
	data.generation = msg->generation;
	data.check = handle_check(&data);
	sb_base64(sb, (const unsigned char *) &data, sizeof(data));
}

static bool
handle_parse(const Queue *queue, const char *handle, size_t len, HandleData *data)
{
	unsigned char raw[sizeof(HandleData) + 4];

	if (len != (sizeof(HandleData) + 2) / 3 * 4 ||
		base64_decode(handle, len, raw) != (ptrdiff_t) sizeof(HandleData))
		return false;
	memcpy(data, raw, sizeof(*data));
	return data->magic == HANDLE_MAGIC && data->check == handle_check(data) &&
		data->queue == queue->serial;
}

/*
 * Delete by receipt handle.  A standard queue answers success to a stale
 * handle yet keeps the message; a FIFO queue refuses once the lease is over.
 */
HandleResult
store_delete(Queue *queue, const char *handle, size_t len)
{
	HandleData	data;
	Message    *msg;

	store_run_timers();
	if (!handle_parse(queue, handle, len, &data))
	{
		queue->stats.delete_unknown++;
		return HANDLE_INVALID;
	}
	msg = serial_find(data.serial);
	if (msg == NULL || msg->queue != queue)
	{
		queue->stats.delete_unknown++;
		return HANDLE_OK;
	}
	if (queue->config.fifo && (msg->generation != data.generation ||
							   msg->state != MSG_IN_FLIGHT))
	{
		queue->stats.delete_stale++;
		return HANDLE_EXPIRED;
	}
	if (msg->generation != data.generation)
	{
		queue->stats.delete_stale++;
		return HANDLE_OK;
	}
	queue->stats.deleted++;
	queue_books_add(queue, msg);
	store_forget(msg);

	/* At the limit of messages in flight this makes room for a poll. */
	if (queue->counts[MSG_IN_FLIGHT] == MAX_IN_FLIGHT - 1)
		queue_wake(queue);
	return HANDLE_OK;
}

HandleResult
store_change_visibility(Queue *queue, const char *handle, size_t len, int seconds)
{
	HandleData	data;
	Message    *msg;
	int64_t		now;

	store_run_timers();
	if (!handle_parse(queue, handle, len, &data))
		return HANDLE_INVALID;
	msg = serial_find(data.serial);
	if (msg == NULL || msg->queue != queue || msg->generation != data.generation)
		return HANDLE_GONE;
	if (msg->state != MSG_IN_FLIGHT)
		return msg->released ? HANDLE_NOT_IN_FLIGHT : HANDLE_GONE;
	now = store_now();
	if (now - msg->lease_ms + (int64_t) seconds * 1000 > (int64_t) MAX_VISIBILITY * 1000)
		return HANDLE_BEYOND_LIMIT;

	queue->stats.visibility_changes++;
	if (seconds == 0)
	{
		queue->stats.visibility_zero++;
		msg->released = true;
		set_state(msg, MSG_VISIBLE, 0);
	}
	else
		set_state(msg, MSG_IN_FLIGHT, now + (int64_t) seconds * 1000);
	return HANDLE_OK;
}
