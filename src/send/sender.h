/*-------------------------------------------------------------------------
 *
 * sender.h
 *	  Which messages go into which SendMessageBatch, and when.
 *
 * There is one Sender per queue in the relay, and one per call of
 * sqs_send_batch().  A Sender knows items, their sizes and message groups,
 * and what became of them.  It does not know where the items come from, and
 * it does no I/O.
 *
 * Invariants:
 *
 *	 - An item is either waiting or in exactly one batch under way.
 *	 - At most one item of a message group is under way.  The next one
 *	   follows when it is done or refused.  (SQS treats the entries of a
 *	   batch independently, so if two of one group were in a batch, a failure
 *	   of the first would swap them.)  With a group_batch above 1, up to
 *	   that number of a group are in one batch.  One that fails is then the
 *	   next to be sent, without others of its group.
 *	 - Without groups, items leave in the order in which they were added,
 *	   except for those that are retried.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_SENDER_H
#define SQSBRIDGE_SENDER_H

#include "lib/ilist.h"
#include "utils/hsearch.h"

#include "aws/retry_budget.h"
#include "aws/sqs_client.h"

typedef struct SendGroup SendGroup;

/* The first member of the struct that the owner keeps for a message. */
typedef struct SendItem
{
	dlist_node	node;
	SendGroup  *group;			/* FIFO queues only */
	uint32		size;			/* bytes, as SQS counts them */
	int			attempts;		/* failures of this item itself */
	int			mismatches;		/* of these: SQS got something else */
	int64		since;			/* ms: waiting since; or not to be sent before */
	bool		alone;			/* send it in a batch of its own */
} SendItem;

typedef struct Sender
{
	MemoryContext context;
	bool		fifo;
	int			max_requests;	/* limit on concurrent requests */
	int			max_attempts;	/* of an item, or of the queue in a row; 0: no
								 * limit */
	int			linger;			/* ms; see sender.c */
	int			group_batch;	/* items of a group in a batch, 1 to 10; can
								 * be changed at any time */
	int64		last_request;	/* ms: start of the last request */
	int			waiting;		/* items not under way */
	int			under_way;		/* items */
	int			requests;		/* batches under way */
	int			troubled;		/* items whose "attempts" is not 0 */

	/* failures of the queue as a whole */
	int			failures;		/* failed requests in a row, without misses */
	int64		paused_until;	/* ms; 0: not paused */

	/* requests that fail while others succeed */
	AwsRetryBudget *budget;		/* NULL: there are no misses; the owner may
								 * change it at any time */
	int			misses;			/* in a row */
	int			retry_taken;	/* from the budget, for these */
	int64		retry_at;		/* ms: after them, not before */

	dlist_head	ready;			/* standard: items; FIFO: groups */
	int			nready;
	dlist_head	later;			/* the same, waiting for their time */
	int64		later_from;		/* ms: a lower bound of these times */
	HTAB	   *groups;			/* FIFO: by hash of the group id */
} Sender;

typedef enum SendOutcome
{
	SEND_DONE,					/* SQS has it */
	SEND_RETRY,					/* the Sender keeps it and will try again */
	SEND_REFUSED				/* it cannot be sent, or max_attempts is
								 * reached */
} SendOutcome;

typedef struct SendBatch
{
	int			n;
	SendItem   *items[SQS_MAX_BATCH];
} SendBatch;

/*
 * Callback of sqs_sender_finish(): what became of an item.  Unless the
 * outcome is SEND_RETRY, the item belongs to its owner again.  "entry" is
 * NULL if the request failed as a whole; otherwise "error" is NULL.
 */
typedef void (*SendItemDone) (SendItem *item, SendOutcome outcome,
							  const SqsBatchEntry *entry, const AwsError *error,
							  void *arg);

extern Sender *sqs_sender_create(MemoryContext context, bool fifo, int max_requests,
								 int max_attempts, int linger);

/* group_key: hash of the message group id; ignored on standard queues */
extern void sqs_sender_add(Sender *sender, SendItem *item, uint64 group_key, int64 now);

/* The next batch to send, and what became of it */
extern bool sqs_sender_take(Sender *sender, int64 now, SendBatch *batch);
extern void sqs_sender_finish(Sender *sender, SendBatch *batch, SqsCall *call,
							  int64 now, SendItemDone done, void *arg);

/* Remove an item from a batch that has been taken and not been sent */
extern void sqs_sender_drop(Sender *sender, SendBatch *batch, int position, int64 now);

/*
 * Return a batch that could not be sent because of an error in this process
 */
extern void sqs_sender_cannot_prepare(Sender *sender, SendBatch *batch, int64 now);

/* Forget all failures so far */
extern void sqs_sender_try_again(Sender *sender);

/* Does every item wait for its time to be retried? */
extern bool sqs_sender_is_held_up(const Sender *sender);

/* Take out any waiting item; NULL if there is none */
extern SendItem *sqs_sender_remove(Sender *sender);
extern void sqs_sender_destroy(Sender *sender);

/* When to call sqs_sender_take() again (ms) */
extern int64 sqs_sender_next_time(const Sender *sender, int64 now);

/* Count a failure of the queue as a whole, and pause */
extern void sqs_sender_pause(Sender *sender, int64 now);

#endif							/* SQSBRIDGE_SENDER_H */
