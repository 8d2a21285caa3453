/*-------------------------------------------------------------------------
 *
 * relay.h
 *	  The relay of the outbox: a part of the database worker.
 *
 * relay.c decides and talks to SQS, relay_rows.c reads and deletes rows.
 *
 * Invariants:
 *	 - a row is deleted only after SQS has confirmed its message, or together
 *	   with its entry in outbox_failures;
 *	 - what SQS has confirmed is not sent again because something else fails:
 *	   it stays in memory until its row is deleted.  Only the end of the
 *	   process loses it;
 *	 - memory changes after the commit of the transaction that did the work;
 *	 - nothing is sent before the transaction that enqueued it is durable,
 *	   here and on the synchronous standbys;
 *	 - no transaction is open while a request is waited for;
 *	 - rows that are not confirmed can be thrown away at any time while they
 *	   are not under way, and found again in the tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RELAY_H
#define SQSBRIDGE_RELAY_H

#include "access/htup.h"
#include "access/xlogdefs.h"
#include "lib/ilist.h"
#include "utils/hsearch.h"

#include "base/shmem.h"
#include "config/connect.h"
#include "config/queues.h"
#include "send/outbox.h"
#include "send/sender.h"

/*
 * Something that cannot be done now, be it that a table is locked or that it
 * raises an error: it is tried again by itself, ever less often, while
 * everything else goes on.
 */
typedef struct RelayTrouble
{
	int			failures;		/* in a row; 0: all is well */
	int64		since;			/* ms: the first of them */
	int64		last;			/* ms */
	int64		not_before;		/* ms: the next attempt */
	bool		announced;		/* the text is in the log */
	char		text[256];
} RelayTrouble;

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
	SqsSharedClient *shared;	/* NULL: not connected */
	char	   *url;			/* NULL: not known */
	SqsCall    *url_call;
	bool		url_probe;		/* as RelayRequest.probe */
	SqsQueueStats *stats;		/* may be NULL */
	int64		stats_at;		/* ms: not asked for before */
	Sender	   *sender;			/* NULL: config is, and nothing is under way */
	dlist_head	requests;		/* under way */
	dlist_head	refused;		/* items: to be recorded as failed */
	int			nrefused;
	int64		refused_since;	/* ms: the first of them */
	bool		one_by_one;		/* recording them raised an error */
	int			nconfirmed;		/* items in Relay.confirmed and Relay.held */
	int			nheld;
	int			nitems;			/* rows in hand, finished ones included */
	size_t		item_bytes;
	bool		unloading;		/* its rows were put down, to be read anew */
	int64		stranded;		/* batches that only sqs_adopt_queues() mends */
	int64		told_stranded;	/* how many the view and the log know of */
	int64		idle_since;		/* ms */
	TimestampTz next_due;		/* when STREAM_TIMED may have more */
	BatchStream streams[NUM_STREAMS];
	RelayTrouble reading;		/* its rows */
	RelayTrouble recording;		/* those that failed */
} RelayQueue;

/* What became of a row or batch in a transaction that deletes. */
typedef enum RelayOutcome
{
	RELAY_UNTOUCHED,
	RELAY_DELETED,
	RELAY_GONE,					/* it was not there any more */
	RELAY_BUSY					/* somebody has it locked, or is changing it */
} RelayOutcome;

/* Two queues may have batches of one number, after a restore. */
typedef struct RelayBatchKey
{
	int64		batch_id;
	int64		queue_id;		/* wide: a hash key has no padding */
} RelayBatchKey;

/*
 * A batch that is known: in a stream, or read to its end with rows in hand,
 * or waiting for its record to be deleted.
 */
typedef struct RelayBatch
{
	RelayBatchKey key;			/* hash key: must be first */
	dlist_node	node;
	RelayQueue *queue;
	OutboxPlace place;
	ItemPointerData tid;
	Oid			file;			/* relfilenode that the tid is of */
	XLogRecPtr	durable_at;		/* invalid: it is */
	int64		last_id;		/* rows up to here have been read */
	bool		listed;			/* in its stream */
	bool		given_up;		/* rows of it were: it is to be read anew */
	int			rows;			/* in hand */
	int			settled;		/* of these, in the transaction that deletes */
	RelayOutcome outcome;		/* of that transaction */
} RelayBatch;

/* A row in hand. */
typedef struct RelayItem
{
	SendItem	send;			/* must be first */
	dlist_node	node;			/* in confirmed, held or refused */
	RelayBatch *batch;
	int64		id;
	ItemPointerData tid;
	Oid			file;			/* relfilenode that the tid is of */
	HeapTuple	tuple;			/* NULL: confirmed */
	size_t		bytes;
	bool		may_be_sent;	/* though it failed */
	bool		not_registered; /* refused, because its queue is gone */
	RelayOutcome outcome;
	char	   *error_code;		/* refused, and why; NULL: not by SQS */
	char	   *error_message;
} RelayItem;

typedef struct Relay
{
	MemoryContext context;
	MemoryContext scratch;		/* of one turn or request */
	dlist_head	queues;
	HTAB	   *batches;
	size_t		item_bytes;		/* of all queues */
	dlist_head	confirmed;		/* items: rows to be deleted */
	int			nconfirmed;
	int64		confirmed_since;	/* ms: the first of them */
	dlist_head	held;			/* the same, locked by somebody */
	int			nheld;
	dlist_head	emptied;		/* batches: records to be deleted */
	bool		need_config;	/* a queue has turned up that is not known */
	bool		news;			/* there may be new batches */
	bool		scan;			/* look at all there are */
	int64		scan_not_before;	/* ms */
	int64		standby_at;		/* ms: look again how far it is; 0: not */
	int64		stranded_at;	/* ms: look for rows that nothing leads to */
	int64		stranded_not_before;	/* ms */
	bool		any_stranded;
	bool		out_of_room;	/* rows were not read for want of memory */
	Oid			rows_oid;		/* the table the rows are of */
	bool		obsolete;		/* it is another one by now */
	RelayQueue *current;		/* whose rows are being read */

	/* requests of all queues */
	int			nrequests;
	int			nprobes;		/* of these, of queues that are failing */
	int			max_requests;
	SendBatch	taken;			/* not yet under way */
	RelayQueue *refused;		/* the first that got none in this turn */

	RelayTrouble reading;
	RelayTrouble deleting;
	RelayTrouble holding;		/* somebody holds rows locked */
	RelayTrouble shortage;		/* of descriptors */

	TupleDesc	row_desc;		/* of the items' tuples */

	/* transactions that have been looked at: all that this snapshot sees */
	bool		scanned;
	TransactionId xmax;
	int			nrunning;
	TransactionId *running;
} Relay;

/* ---- relay_rows.c ---- */

/*
 * Each is one short transaction.  They wait for no lock on a table or row,
 * and note in the relay what could not be done.  An ERROR leaves what is in
 * memory as it was, or, when rows are read, as far as they were.
 */

/* Look for committed batches, and read rows into the senders. */
extern void relay_read_rows(Relay *relay, int64 now);

/* Delete what SQS has confirmed. */
extern void relay_delete_confirmed(Relay *relay, int64 now);

/* Move what a queue has refused, or its absence, to the failures. */
extern void relay_record_refused(Relay *relay, RelayQueue *queue, int64 now);

/* Look for rows that nothing leads to. */
extern void relay_find_stranded(Relay *relay, int64 now);

/* Is there something for relay_read_rows() to read, and room for it? */
extern bool relay_wants_rows(Relay *relay, int64 now);

/* Forget the batches of a queue of which no row is in hand: read them anew. */
extern void relay_forget_batches(Relay *relay, RelayQueue *queue);

/* Forget a row in hand, which is in no list any more: it is read anew. */
extern void relay_give_up_item(Relay *relay, RelayItem *item);

/* ---- relay.c ---- */

extern RelayQueue *relay_queue(Relay *relay, int32 queue_id);
extern bool relay_may_read(const RelayQueue *queue, int64 now);
extern bool relay_runs_low(const RelayQueue *queue);
extern bool relay_has_room(Relay *relay, const RelayQueue *queue);
extern void relay_add_item(Relay *relay, RelayQueue *queue, RelayItem *item,
						   uint64 group_key, int64 now);
extern void relay_free_item(Relay *relay, RelayItem *item);
extern void relay_unload(Relay *relay, RelayQueue *queue);
extern int	relay_compare_places(const OutboxPlace *a, const OutboxPlace *b);

/* Was the row confirmed before everything had to be read anew? */
extern bool relay_was_confirmed(Relay *relay, int64 batch_id, int64 id);

/*
 * Something could not be done, or can be again.  Of one queue, or of all that
 * it concerns.
 */
extern void relay_trouble(Relay *relay, RelayQueue *queue, RelayTrouble *trouble,
						  bool locked, const char *text, int64 now);
extern void relay_trouble_over(Relay *relay, RelayQueue *queue, RelayTrouble *trouble);

/* Requests under way at most, of all queues. */
#define SQS_RELAY_REQUESTS	256

/* What the database worker calls. */
extern void sqs_relay_configure(List *queues);
extern bool sqs_relay_turn(bool news, bool scan, bool stopping, long *timeout);
extern bool sqs_relay_needs_config(void);
extern bool sqs_relay_is_idle(void);
extern void sqs_relay_reset(void);

#endif							/* SQSBRIDGE_RELAY_H */
