/*-------------------------------------------------------------------------
 *
 * store.h
 *	  Queues and messages of sqsd, held in memory.
 *
 * The store knows nothing of HTTP or JSON.  Its clock can be moved forward
 * (store_advance), so that tests need not wait for timeouts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSD_STORE_H
#define SQSD_STORE_H

#include "util.h"

#define MAX_MESSAGE_BYTES	1048576
#define MAX_BATCH_ENTRIES	10
#define MAX_IN_FLIGHT		120000
#define CALL_TIMES_KEPT		1000
#define MAX_VISIBILITY		43200
#define MAX_ATTRIBUTES		10
#define DEDUP_WINDOW_MS		(300 * 1000)
#define COOLDOWN_MS			(60 * 1000)
#define ACCOUNT_ID			"000000000000"

struct Request;

/*
 * The SQS actions, those of STS, and what is asked of metadata services;
 * ACTION_UNKNOWN comes last.
 */
typedef enum Action
{
	ACTION_SEND,
	ACTION_SEND_BATCH,
	ACTION_RECEIVE,
	ACTION_DELETE,
	ACTION_DELETE_BATCH,
	ACTION_CHANGE,
	ACTION_CHANGE_BATCH,
	ACTION_GET_URL,
	ACTION_GET_ATTRIBUTES,
	ACTION_SET_ATTRIBUTES,
	ACTION_CREATE,
	ACTION_DELETE_QUEUE,
	ACTION_PURGE,
	ACTION_LIST,
	ACTION_SQS_COUNT,			/* none: how many there are so far */
	ACTION_ASSUME_ROLE = ACTION_SQS_COUNT,
	ACTION_ASSUME_WEB,
	ACTION_CALLER,
	ACTION_CONTAINER,
	ACTION_METADATA_TOKEN,
	ACTION_METADATA_ROLE,
	ACTION_METADATA_KEYS,
	ACTION_METADATA_REGION,
	ACTION_UNKNOWN
} Action;

extern const char *const action_names[ACTION_UNKNOWN + 1];
extern Action action_by_name(const char *name);

/* Message attributes, sorted by name */
typedef struct MessageAttr
{
	char	   *name;
	char	   *type;
	char	   *value;
	size_t		value_len;
	bool		binary;
} MessageAttr;

typedef struct AttrSet
{
	int			count;
	size_t		bytes;			/* names, types and values together */
	unsigned char md5[16];
	MessageAttr attrs[MAX_ATTRIBUTES];
} AttrSet;

extern void attrs_free(AttrSet *set);
extern void attrs_md5(const MessageAttr *const *attrs, int count,
					  unsigned char out[16]);

typedef enum MessageState
{
	MSG_VISIBLE,
	MSG_IN_FLIGHT,
	MSG_DELAYED
} MessageState;

typedef struct Message Message;
typedef struct Group Group;
typedef struct Queue Queue;

struct Message
{
	HeapNode	timer;			/* end of lease or of delay; must be first */
	Queue	   *queue;
	Group	   *group;			/* FIFO queues only */
	Message    *prev;			/* all messages of the queue, as sent */
	Message    *next;
	Message    *link_prev;		/* standard: the visible ones; FIFO: the
								 * group's, as sent */
	Message    *link_next;
	Message    *hash_next;
	uint64_t	serial;			/* unique in the process, never reused */
	uint64_t	sequence;		/* FIFO sequence number */
	int64_t		sent_ms;
	int64_t		first_received_ms;
	int64_t		lease_ms;		/* time of the latest receive */
	uint32_t	receive_count;
	uint32_t	generation;		/* goes up with each receive; a handle of an
								 * older generation is stale */
	MessageState state;
	bool		released;		/* visible again because a client said so */
	unsigned char id[16];
	unsigned char body_md5[16];
	AttrSet    *attrs;
	char	   *group_id;
	char	   *dedup_id;
	char	   *trace;
	char	   *dlq_source;		/* ARN of the queue it was moved from */
	char		sender[64];		/* SenderId */
	size_t		body_len;
	char		body[];
};

struct Group
{
	Group	   *hash_next;
	Group	   *ready_prev;
	Group	   *ready_next;
	Message    *head;
	Message    *tail;
	bool		ready;			/* in the queue's list of ready groups */
	bool		pinned;			/* must not be freed though empty */
	uint64_t	hash;
	char		id[];
};

typedef struct DedupEntry DedupEntry;

/* What remains of a deleted message */
typedef struct DeletedMessage
{
	unsigned char id[16];
	unsigned char body_md5[16];
	int64_t		sent_ms;
	int64_t		deleted_ms;
	uint32_t	receive_count;
} DeletedMessage;

/*
 * When the latest calls of an action came (mono_ms), including those that a
 * fault answered: a ring.
 */
typedef struct CallTimes
{
	int64_t		ms[CALL_TIMES_KEPT];
	int64_t		count;			/* of all calls */
} CallTimes;

typedef struct QueueStats
{
	int64_t		sent;
	int64_t		received;
	int64_t		first_deliveries;
	int64_t		redelivered;
	int64_t		deleted;
	int64_t		delete_stale;
	int64_t		delete_unknown;
	int64_t		visibility_changes;
	int64_t		visibility_zero;
	int64_t		max_in_flight;
	int64_t		dead_lettered;
	int64_t		expired_leases;
	int64_t		bytes_in;
	int64_t		bytes_out;
	int64_t		empty_receives;
	int64_t		max_open_polls;
	int64_t		abandoned_polls;
	int64_t		deduplicated;
	int64_t		purged;
	int64_t		retention_expired;
	int64_t		calls[ACTION_UNKNOWN + 1];
} QueueStats;

/* Attributes which are kept as text because nothing here interprets them */
typedef enum TextAttribute
{
	TEXT_POLICY,
	TEXT_REDRIVE_POLICY,
	TEXT_REDRIVE_ALLOW_POLICY,
	TEXT_KMS_KEY,
	TEXT_KMS_REUSE,
	TEXT_SSE,
	TEXT_COUNT
} TextAttribute;

typedef struct QueueConfig
{
	bool		fifo;
	bool		content_dedup;
	bool		dedup_per_group;
	bool		limit_per_group;
	int			delay;
	int			max_size;
	int			retention;
	int			wait;
	int			visibility;
	int			max_receive_count;	/* 0 = no dead-letter queue */
	char		dlq_name[81];
	char	   *text[TEXT_COUNT];
} QueueConfig;

struct Queue
{
	Queue	   *hash_next;
	Queue	   *prev;			/* all queues, by name */
	Queue	   *next;
	Queue	   *wake_next;
	bool		wake_queued;
	char		name[81];
	char		arn[160];
	uint32_t	serial;
	QueueConfig config;
	int64_t		created_ms;
	int64_t		modified_ms;
	int64_t		purged_ms;		/* 0 = never */

	Message    *first;
	Message    *last;
	Message    *ready_head;		/* standard */
	Message    *ready_tail;
	Group	   *ready_groups;	/* FIFO */
	Group	   *ready_groups_tail;
	Group	  **groups;
	size_t		group_buckets;
	size_t		group_count;
	int64_t		counts[3];		/* messages by MessageState */

	DedupEntry **dedup;
	size_t		dedup_buckets;
	size_t		dedup_count;
	DedupEntry *dedup_first;	/* oldest first */
	DedupEntry *dedup_last;

	struct Request *waiters;	/* open long polls, oldest first */
	struct Request *waiters_tail;
	int64_t		open_polls;

	DeletedMessage *books;		/* a ring once it has reached its limit */
	size_t		books_len;
	size_t		books_cap;
	size_t		books_start;

	CallTimes  *call_times[ACTION_UNKNOWN]; /* NULL: no call yet */
	QueueStats	stats;
};

/* queue.c: the queues themselves */
extern void queue_set_place(const char *region, const char *account);
extern Queue *queue_create(const char *name, QueueConfig *config);
extern Queue *queue_find(const char *name);
extern Queue *queue_first(void);
extern void queue_delete(Queue *queue);
extern void queue_purge(Queue *queue);
extern void queue_reset_all(void);
extern void queue_delete_all(void);
extern bool queue_deleted_recently(const char *name);
extern void queue_config_init(QueueConfig *config);
extern void queue_config_copy(QueueConfig *to, const QueueConfig *from);
extern void queue_config_free(QueueConfig *config);
extern void queue_books_add(Queue *queue, const Message *msg);
extern void queue_note_call(Queue *queue, Action action);
extern void queue_wake(Queue *queue);
extern Queue *queue_next_woken(void);

/* FIFO groups and the deduplication window */
extern Group *group_get(Queue *queue, const char *id);
extern void group_drop_if_empty(Queue *queue, Group *group);
extern void group_update_ready(Queue *queue, Group *group);

struct DedupEntry
{
	DedupEntry *hash_next;
	DedupEntry *next;			/* by age */
	uint64_t	hash;
	int64_t		expires_ms;
	uint64_t	sequence;
	unsigned char id[16];
	size_t		key_len;
	char		key[];
};

extern DedupEntry *dedup_find(Queue *queue, const char *group_id,
							  const char *dedup_id);
extern void dedup_add(Queue *queue, const Message *msg);

/* store.c: messages */
typedef struct SendSpec
{
	const char *body;
	size_t		body_len;
	const char *group_id;
	const char *dedup_id;
	const char *trace;
	int			delay;			/* seconds; -1 = the queue's */
	AttrSet    *attrs;			/* the store takes it and sets it to NULL */
} SendSpec;

typedef struct SendResult
{
	unsigned char id[16];
	unsigned char body_md5[16];
	uint64_t	sequence;
} SendResult;

typedef enum HandleResult
{
	HANDLE_OK,
	HANDLE_INVALID,				/* not a receipt handle of this queue */
	HANDLE_EXPIRED,				/* FIFO: too late */
	HANDLE_GONE,				/* no such message, or not ours any more */
	HANDLE_NOT_IN_FLIGHT,
	HANDLE_BEYOND_LIMIT			/* more than 12 hours in total */
} HandleResult;

extern void store_start(void);
extern void store_stop(void);
extern int64_t store_now(void);
extern void store_advance(int64_t ms);
extern bool store_set_sender(const char *sender);
extern void store_run_timers(void);
extern int64_t store_next_due(void);
extern void store_set_books_limit(size_t limit);
extern size_t store_books_limit(void);

extern void store_send(Queue *queue, SendSpec *spec, SendResult *result);
extern int	store_receive(Queue *queue, int max, int visibility, Message **out);
extern bool store_has_ready(const Queue *queue);
extern void store_leave_visible(Message *msg);
extern void store_lease_again(Message *msg, int visibility);
extern HandleResult store_delete(Queue *queue, const char *handle, size_t len);
extern HandleResult store_change_visibility(Queue *queue, const char *handle,
											size_t len, int seconds);
extern void store_forget(Message *msg);
extern void sb_receipt_handle(StrBuf *sb, const Message *msg);

#endif							/* SQSD_STORE_H */
