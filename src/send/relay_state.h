/*-------------------------------------------------------------------------
 *
 * relay_state.h
 *	  What the relay of the outbox has in memory.
 *
 * The relay is a part of the database worker; relay.c says what it does.
 * Everything here is of one process and belongs to Relay.context; an item, a
 * batch and a queue are in exactly the lists that are named with them.
 *
 * Invariants:
 *	 - a row is deleted only after SQS has confirmed its message, or together
 *	   with its entry in outbox_failures;
 *	 - what SQS has confirmed is not sent again because something else fails:
 *	   it stays in memory until its row is deleted.  Only the end of the
 *	   process loses it;
 *	 - memory changes after the commit of the transaction that did the work;
 *	 - rows that are not confirmed can be put down at any time while they are
 *	   not under way, and are found again in the tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RELAY_STATE_H
#define SQSBRIDGE_RELAY_STATE_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "access/xlogdefs.h"
#include "lib/ilist.h"
#include "utils/hsearch.h"

#include "base/queue_stats.h"
#include "config/connect.h"
#include "config/queues.h"
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

/*
 * A queue that has, or had, rows.  It is made when a batch of it is met, and
 * forgotten when it is not registered any more and nothing of it is left.
 */
typedef struct RelayQueue
{
	dlist_node	node;			/* in Relay.queues */
	struct Relay *relay;
	int32		queue_id;
	SqsQueueConfig *config;		/* NULL: not known yet, or gone */
	MemoryContext config_context;
	bool		gone;			/* not registered any more */
	bool		reconnect;		/* once nothing is under way */
	uint64		fingerprint;	/* of connection and queue name */
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
	bool		put_down;		/* its rows were put down, to be read anew */
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
	dlist_node	node;			/* in its stream or in Relay.emptied, or
								 * neither */
	RelayQueue *queue;
	OutboxPlace place;
	ItemPointerData tid;
	Oid			relfilenode;	/* that the tid is of */
	XLogRecPtr	durable_lsn;	/* invalid: it is */
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
	Oid			relfilenode;	/* that the tid is of */
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
	bool		obsolete;		/* it is another one by now: begin anew */
	RelayQueue *current;		/* whose rows are being read */

	/* requests of all queues */
	int			nrequests;
	int			nprobes;		/* of these, of queues that are failing */
	int			max_requests;	/* now: fewer while descriptors are short */
	int			request_limit;	/* when all is well */
	SendBatch	taken;			/* not yet under way */
	RelayQueue *unserved;		/* the first that got none in this turn */

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

/* The relay, with nothing in memory; at most so many requests under way. */
extern Relay *sqs_relay_create(int request_limit);

/* ---- queues ---- */

/* The queue of this id; made if it is not known, and then without a config. */
extern RelayQueue *sqs_relay_queue(Relay *relay, int32 queue_id);

/* Is there anything of it to be sent, recorded or deleted? */
extern bool sqs_relay_has_work(const RelayQueue *queue);

/* Forget a queue that is gone, if nothing of it is left. */
extern void sqs_relay_forget_queue_if_done(Relay *relay, RelayQueue *queue);

/* ---- batches ---- */

/* <0, 0, >0: the first comes before the second, is the same, comes after it. */
extern int	sqs_relay_compare_places(const OutboxPlace *a, const OutboxPlace *b);

/* Put a batch that is to be sent now into its stream, at its place. */
extern void sqs_relay_list_batch(BatchStream *stream, RelayBatch *batch);
extern void sqs_relay_unlist_batch(BatchStream *stream, RelayBatch *batch);

/* Frees a batch that is in no list and has no item. */
extern void sqs_relay_forget_batch(Relay *relay, RelayBatch *batch);

/* Everything of the queue's is to be read from the tables again. */
extern void sqs_relay_rewind_queue(RelayQueue *queue);

/* ---- items ---- */

/*
 * Take over a row that has been read: to the sender, or to what is confirmed
 * or refused, if it is known to be that.  An ERROR leaves the item with the
 * caller, and everything else as it was.
 */
extern void sqs_relay_add_item(Relay *relay, RelayQueue *queue, RelayItem *item,
							   uint64 group_key, int64 now);

/* The batch's count of rows is the caller's business. */
extern void sqs_relay_free_item(Relay *relay, RelayItem *item);

/*
 * These take an item that is in no list.  SQS has it; SQS does not take it
 * (an ERROR leaves it as it was); its queue is gone; it is to be read anew.
 */
extern void sqs_relay_confirm_item(Relay *relay, RelayItem *item);
extern void sqs_relay_refuse_item(Relay *relay, RelayItem *item, const char *error_code,
								  const char *error_message);
extern void sqs_relay_fail_not_registered(RelayItem *item);
extern void sqs_relay_give_up_item(Relay *relay, RelayItem *item);

/* ---- beginning anew ---- */

/* Read a queue anew whose rows were put down. */
extern void sqs_relay_restart_queue(Relay *relay, RelayQueue *queue);

/* Keep in mind, beyond the relay's end, what is confirmed and not deleted. */
extern void sqs_relay_remember_confirmed(Relay *relay);

#endif							/* SQSBRIDGE_RELAY_STATE_H */
