/*-------------------------------------------------------------------------
 *
 * relay.h
 *	  The relay of the outbox: a part of the database worker.
 *
 * relay.c decides and talks to SQS, relay_rows.c reads and deletes rows.
 *
 * Invariants:
 *	 - a row is deleted only after SQS has confirmed its message, or together
 *	   with its entry in sqs_outbox_failures;
 *	 - nothing is sent before the transaction that enqueued it is durable,
 *	   here and on the synchronous standbys;
 *	 - no transaction is open while a request is waited for;
 *	 - everything in memory can be thrown away at any time, and found again in
 *	   the tables.  What was under way is then sent a second time, with the
 *	   same token.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RELAY_H
#define SQSBRIDGE_RELAY_H

#include "access/htup.h"
#include "access/xlogdefs.h"
#include "lib/ilist.h"
#include "utils/hsearch.h"

#include "catalog.h"
#include "connect.h"
#include "outbox.h"
#include "sender.h"
#include "shmem.h"

/* A place in the order of a queue's batches. */
typedef struct OutboxPlace
{
	TimestampTz deliver_at;
	int64		position;
} OutboxPlace;

/*
 * Batches of a queue that are known and have rows that are not in hand yet,
 * in their order.  Those from "tail" on are not in memory, however visible
 * they are: they are read when there is room.
 */
typedef struct BatchStream
{
	dlist_head	batches;
	int			nbatches;
	OutboxPlace tail;
	bool		more;			/* there may be some from tail on that are due */
} BatchStream;

typedef enum BatchStreamId
{
	STREAM_TIMED,				/* with a time of their own, that has come */
	STREAM_PLAIN,				/* to be sent at commit */
	NUM_STREAMS
} BatchStreamId;

typedef struct RelayQueue
{
	dlist_node	node;
	int32		queue_id;
	SqsQueueConfig *config;		/* NULL: not known yet, or gone */
	MemoryContext config_context;
	bool		gone;			/* not registered any more */
	bool		reconnect;		/* once nothing is under way */
	uint64		place;			/* fingerprint of connection and queue name */
	SqsConnection connection;
	char	   *url;			/* NULL: not known */
	SqsCall    *url_call;
	SqsQueueStats *stats;		/* may be NULL */
	Sender	   *sender;			/* NULL: config is */
	dlist_head	requests;		/* under way */
	int			nitems;			/* rows in hand, finished ones included */
	size_t		item_bytes;
	int64		idle_since;		/* ms */
	TimestampTz next_due;		/* when STREAM_TIMED may have more */
	BatchStream streams[NUM_STREAMS];
} RelayQueue;

/* A batch that is known: in a stream, or read to its end with rows in hand. */
typedef struct RelayBatch
{
	int64		batch_id;		/* hash key: must be first */
	dlist_node	node;
	RelayQueue *queue;
	OutboxPlace place;
	ItemPointerData tid;
	Oid			file;			/* relfilenode that the tid is of */
	XLogRecPtr	durable_at;		/* invalid: it is */
	int64		last_id;		/* rows up to here have been read */
	bool		listed;			/* in its stream */
	int			rows;			/* in hand */
} RelayBatch;

/* A row in hand. */
typedef struct RelayItem
{
	SendItem	send;			/* must be first */
	dlist_node	node;			/* in Relay.finished */
	RelayBatch *batch;
	int64		id;
	ItemPointerData tid;
	Oid			file;			/* relfilenode that the tid is of */
	HeapTuple	tuple;
	size_t		bytes;
	bool		may_be_sent;	/* though it failed */
	char	   *error_code;		/* refused, and why; NULL: sent */
	char	   *error_message;
} RelayItem;

typedef struct Relay
{
	MemoryContext context;
	MemoryContext scratch;		/* of one turn or request */
	dlist_head	queues;
	HTAB	   *batches;
	dlist_head	finished;		/* items: rows to be deleted */
	int			nfinished;
	int64		finished_since; /* ms: the first of them */
	dlist_head	emptied;		/* batches: records to be deleted */
	bool		need_config;	/* a queue has turned up that is not known */
	bool		news;			/* there may be new batches */
	bool		scan;			/* look at all there are */
	int64		retry_at;		/* ms: for a standby or a lock; 0: not */

	TupleDesc	row_desc;		/* of the items' tuples */

	/* transactions that have been looked at: all that this snapshot sees */
	bool		scanned;
	TransactionId xmax;
	int			nrunning;
	TransactionId *running;
} Relay;

/* ---- relay_rows.c ---- */

/*
 * One short transaction: look for committed batches, read rows into the
 * senders, delete what is finished.  Nothing but retry_at changes if somebody
 * has the tables locked.
 */
extern void relay_turn_rows(Relay *relay, int64 now);

/* Is there something for it to read?  For a queue that has room. */
extern bool relay_wants_rows(Relay *relay, int64 now);

/* ---- relay.c ---- */

extern RelayQueue *relay_queue(Relay *relay, int32 queue_id);
extern bool relay_queue_has_room(const RelayQueue *queue);
extern void relay_add_item(Relay *relay, RelayQueue *queue, RelayItem *item,
						   uint64 group_key, int64 now);
extern void relay_free_item(Relay *relay, RelayItem *item);
extern int	relay_compare_places(const OutboxPlace *a, const OutboxPlace *b);

/* What the database worker calls. */
extern void sqs_relay_configure(List *queues);
extern bool sqs_relay_turn(bool news, bool scan, bool stopping, long *timeout);
extern bool sqs_relay_needs_config(void);
extern bool sqs_relay_is_idle(void);
extern int	sqs_relay_fd(void);
extern void sqs_relay_reset(void);

#endif							/* SQSBRIDGE_RELAY_H */
