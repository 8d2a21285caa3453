/*-------------------------------------------------------------------------
 *
 * relay_state.h
 *	  What the relay of the outbox has in memory.
 *
 * See relay.c for what the relay does.  Everything here belongs to one
 * process and lives in Relay.context.  An item, batch or queue is in exactly
 * the lists that its declaration names.
 *
 * Terms:
 *
 *	 - A row is "in hand" while the relay has it in memory, and "under way"
 *	   while a request that contains it waits for its reply.
 *	 - A row is "put down" when it is released from memory without having been
 *	   sent.  It is still in the table, and is read again later.
 *	 - A row is "held" if SQS has confirmed it, but somebody has locked it, so
 *	   that it cannot be deleted yet.
 *	 - A batch is "stranded" if it has rows, but no record that was written by
 *	   its own transaction; see outbox.h.  The relay does not send its rows.
 *
 * Invariants:
 *
 *	 - A row is deleted only after SQS has confirmed its message, or together
 *	   with the insertion of its entry in outbox_failures.
 *	 - A message that SQS has confirmed is not sent again because something
 *	   else fails: it stays in memory until its row is deleted.  Only the end
 *	   of the process loses it.
 *	 - Memory changes after the commit of the transaction that did the work.
 *	 - Rows that are neither confirmed nor under way can be put down at any
 *	   time; they are then read again from the tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RELAY_STATE_H
#define SQSBRIDGE_RELAY_STATE_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "access/xlogdefs.h"
#include "lib/ilist.h"
#include "portability/instr_time.h"
#include "utils/hsearch.h"

#include "base/queue_stats.h"
#include "config/connect.h"
#include "config/queues.h"
#include "send/sender.h"

/*
 * Work that is impossible at the moment, because a table is locked or
 * because it raised an error.  It is retried by itself, less and less often,
 * while everything else goes on.
 */
typedef struct RelayTrouble
{
	int			failures;		/* in a row; 0: no trouble */
	int64		since;			/* ms: the first of them */
	int64		last;			/* ms: the last of them */
	int64		not_before;		/* ms: time of the next attempt */
	bool		announced;		/* the text has been logged */
	char		text[256];
} RelayTrouble;

/* A place in the order of a queue's batches. */
typedef struct OutboxPlace
{
	TimestampTz deliver_at;
	int64		position;
} OutboxPlace;

/*
 * The batches of a queue that have rows not read yet, in their order.
 * Batches from "tail" on are not in memory, even if they are visible; they
 * are read when there is room.
 */
typedef struct BatchStream
{
	dlist_head	batches;
	int			nbatches;
	OutboxPlace tail;
	bool		more;			/* there may be due batches from tail on */
} BatchStream;

typedef enum BatchStreamId
{
	STREAM_TIMED,				/* with a deliver_at, which has come */
	STREAM_PLAIN,				/* without one */
	NUM_STREAMS
} BatchStreamId;

/* How long the requests of a queue take; see relay_send.c. */
typedef struct RelayPace
{
	int			unsettled;		/* replies that are not to be counted */
	int			replies;		/* of this round */
	int64		sum_ms;			/* that they took */
	double		mean_ms;		/* of the last round; 0: there was none */
	double		least_ms;		/* the least of these */
	int64		longer_since;	/* ms: requests take too much longer than
								 * that; 0: they do not */
	int			under_way;		/* requests, when the last were started */
} RelayPace;

/*
 * A queue that has or had rows.  It is created when one of its batches is
 * found, and forgotten when it is not registered any more and nothing of it
 * is left.
 */
typedef struct RelayQueue
{
	dlist_node	node;			/* in Relay.queues */
	struct Relay *relay;
	int32		queue_id;
	SqsQueueConfig *config;		/* NULL: not known yet, or not registered */
	MemoryContext config_context;
	bool		gone;			/* not registered any more */
	bool		reconnect;		/* when no request is under way */
	uint64		fingerprint;	/* of connection and queue name */
	SqsSharedClient *shared;	/* NULL: not connected */
	char	   *url;			/* NULL: not known */
	SqsCall    *url_call;		/* GetQueueUrl under way, or NULL */
	bool		url_probe;		/* as RelayRequest.probe */
	SqsQueueStats *stats;		/* may be NULL */
	int64		stats_at;		/* ms: do not look for stats before */
	Sender	   *sender;			/* NULL only if config is, and no request is
								 * under way */
	dlist_head	requests;		/* under way */
	RelayPace	pace;
	dlist_head	refused;		/* items: to be recorded as failed */
	int			nrefused;
	int64		refused_since;	/* ms: the first of them */
	bool		one_by_one;		/* recording them together failed */
	int			nconfirmed;		/* items in Relay.confirmed and Relay.held */
	int			nheld;			/* items in Relay.held */
	int			nitems;			/* rows in hand, including finished ones */
	size_t		item_bytes;
	bool		put_down;		/* its rows were put down, to be read again */
	int64		stranded;		/* batches that need sqs_adopt_queues() */
	int64		told_stranded;	/* how many of them have been reported */
	int64		idle_since;		/* ms: when it last had rows */
	TimestampTz next_due;		/* when STREAM_TIMED may have more */
	BatchStream streams[NUM_STREAMS];
	RelayTrouble reading;		/* trouble with reading its rows */
	RelayTrouble recording;		/* ... with recording refused rows */
} RelayQueue;

/* What a transaction that deletes rows did with a row or batch record. */
typedef enum RelayOutcome
{
	RELAY_UNTOUCHED,
	RELAY_DELETED,
	RELAY_GONE,					/* it did not exist any more */
	RELAY_BUSY					/* locked, or being changed, by somebody */
} RelayOutcome;

/* After a restore, two queues can have batches with the same id. */
typedef struct RelayBatchKey
{
	int64		batch_id;
	int64		queue_id;		/* int64, to have no padding in the key */
} RelayBatchKey;

/*
 * A batch that is known: it is in a stream, or has been read to its end and
 * has rows in hand, or its record is to be deleted.
 */
typedef struct RelayBatch
{
	RelayBatchKey key;			/* hash key: must be first */
	dlist_node	node;			/* in its stream, in Relay.emptied, or in no
								 * list */
	RelayQueue *queue;
	OutboxPlace place;
	ItemPointerData tid;		/* of the record */
	Oid			relfilenode;	/* of the table when tid was read */
	XLogRecPtr	durable_lsn;	/* must be flushed first; invalid: it is */
	int64		last_id;		/* rows up to this id have been read */
	bool		listed;			/* in its stream? */
	bool		given_up;		/* some of its rows must be read again */
	int			rows;			/* rows in hand */
	int			settled;		/* of these, settled in this transaction */
	RelayOutcome outcome;		/* of the deletion of the record */
} RelayBatch;

/* A row in hand. */
typedef struct RelayItem
{
	SendItem	send;			/* must be first */
	dlist_node	node;			/* in confirmed, held or refused */
	RelayBatch *batch;
	int64		id;
	ItemPointerData tid;
	Oid			relfilenode;	/* of the table when tid was read */
	HeapTuple	tuple;			/* NULL: confirmed, so not needed any more */
	size_t		bytes;			/* that it counts toward the memory limit */
	bool		may_be_sent;	/* an attempt failed, but SQS may have it */
	bool		not_registered; /* refused because its queue is gone */
	RelayOutcome outcome;
	char	   *error_code;		/* why it was refused, or NULL */
	char	   *error_message;
} RelayItem;

typedef struct Relay
{
	MemoryContext context;
	MemoryContext scratch;		/* of one turn or request */
	dlist_head	queues;			/* of RelayQueue */
	HTAB	   *batches;		/* of RelayBatch */
	size_t		item_bytes;		/* of all queues */
	dlist_head	confirmed;		/* items whose rows are to be deleted */
	int			nconfirmed;
	int64		confirmed_since;	/* ms: the first of them */
	dlist_head	held;			/* the same, if locked by somebody */
	int			nheld;
	dlist_head	emptied;		/* batches whose records are to be deleted */
	bool		need_config;	/* a queue has no configuration yet */
	bool		news;			/* there may be new batches */
	bool		scan;			/* scan all batches */
	int64		scan_not_before;	/* ms */
	int64		standby_at;		/* ms: when to check the standbys again; 0: no
								 * batch waits for them */
	int64		stranded_at;	/* ms: when to look for stranded rows */
	int64		stranded_not_before;	/* ms */
	bool		any_stranded;
	bool		out_of_room;	/* a queue got no rows for lack of memory */
	Oid			rows_oid;		/* of the table outbox_rows */
	bool		obsolete;		/* that is another table now: reset */
	RelayQueue *current;		/* the queue whose rows are being read */

	/* requests of all queues */
	int			nrequests;		/* under way */
	int			nprobes;		/* of these, of queues that are failing */
	int			max_requests;	/* less than request_limit while there is a
								 * shortage of descriptors */
	int			request_limit;	/* in this turn */
	bool		alone;			/* at most one queue has anything to send */
	SendBatch	taken;			/* being put together, not under way yet */
	RelayQueue *unserved;		/* the first that got none in this turn */

	/* how busy this process is */
	instr_time	turn_began;
	instr_time	turn_ended;		/* the last turn */
	uint64		turn_us;		/* duration of that turn */
	bool		waited;			/* there was time to spare before this turn */

	RelayTrouble reading;
	RelayTrouble deleting;
	RelayTrouble holding;		/* somebody has locked rows */
	RelayTrouble shortage;		/* of descriptors */

	TupleDesc	row_desc;		/* of the items' tuples */

	/* the last snapshot: its transactions have been looked at */
	bool		scanned;
	TransactionId xmax;
	int			nrunning;
	TransactionId *running;
} Relay;

/* Create an empty relay */
extern Relay *sqs_relay_create(void);

/* ---- queues ---- */

/* Get the queue with this id; create it if it is not known */
extern RelayQueue *sqs_relay_queue(Relay *relay, int32 queue_id);

/* Is there anything of the queue to be sent, recorded or deleted? */
extern bool sqs_relay_has_work(const RelayQueue *queue);

/* Forget a queue that is gone, if nothing of it is left */
extern void sqs_relay_forget_queue_if_done(Relay *relay, RelayQueue *queue);

/* ---- batches ---- */

/* Compare two places; the result is as for qsort() */
extern int	sqs_relay_compare_places(const OutboxPlace *a, const OutboxPlace *b);

/* Insert a batch into its stream, at its place, or remove it */
extern void sqs_relay_list_batch(BatchStream *stream, RelayBatch *batch);
extern void sqs_relay_unlist_batch(BatchStream *stream, RelayBatch *batch);

/* Free a batch that is in no list and has no item */
extern void sqs_relay_forget_batch(Relay *relay, RelayBatch *batch);

/* Have all batches of the queue read again */
extern void sqs_relay_rewind_queue(RelayQueue *queue);

/* ---- items ---- */

/* Take over a row that has been read */
extern void sqs_relay_add_item(Relay *relay, RelayQueue *queue, RelayItem *item,
							   uint64 group_key, int64 now);

/* Free an item; the caller updates the batch's count of rows */
extern void sqs_relay_free_item(Relay *relay, RelayItem *item);

/*
 * These take an item that is in no list.  It was confirmed by SQS; it was
 * refused; its queue is not registered any more; it is to be read again from
 * the table.
 */
extern void sqs_relay_confirm_item(Relay *relay, RelayItem *item);
extern void sqs_relay_refuse_item(Relay *relay, RelayItem *item, const char *error_code,
								  const char *error_message);
extern void sqs_relay_fail_not_registered(RelayItem *item);
extern void sqs_relay_give_up_item(Relay *relay, RelayItem *item);

/* ---- starting again ---- */

/* Have a queue whose rows were put down read again */
extern void sqs_relay_restart_queue(Relay *relay, RelayQueue *queue);

/* Remember confirmed rows beyond the end of the relay */
extern void sqs_relay_remember_confirmed(Relay *relay);

#endif							/* SQSBRIDGE_RELAY_STATE_H */
