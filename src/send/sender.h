/*-------------------------------------------------------------------------
 *
 * sender.h
 *	  Which messages go into which SendMessageBatch, and when.
 *
 * One Sender per queue and purpose: the relay of an outbox has one, and so
 * has each call of sqs_send_batch().  It knows items, their sizes and groups,
 * and what became of them; it knows neither where they come from nor the
 * network.
 *
 * Invariants:
 *	 - an item is waiting or in exactly one batch under way;
 *	 - of a message group at most one item is under way, and the next follows
 *	   only when it is done or refused.  SQS takes the entries of a batch
 *	   independently of each other, so two of one group in a batch could be
 *	   swapped by the failure of the first;
 *	 - without groups, items leave in the order in which they were added, as
 *	   far as failures let them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_SENDER_H
#define SQSBRIDGE_SENDER_H

#include "lib/ilist.h"
#include "utils/hsearch.h"

#include "aws/sqs_client.h"

typedef struct SendGroup SendGroup;

/* First member of what its owner keeps for a message. */
typedef struct SendItem
{
	dlist_node	node;
	SendGroup  *group;			/* FIFO queues only */
	uint32		size;			/* bytes, as SQS counts them */
	int			attempts;		/* that failed, for this entry alone */
	int64		since;			/* ms: waiting since, or not before */
	bool		alone;			/* in a batch of its own */
} SendItem;

typedef struct Sender
{
	MemoryContext context;
	bool		fifo;
	int			max_requests;	/* under way at once */
	int			max_attempts;	/* of an item, or of the queue in a row; 0: no
								 * limit */
	int			linger;			/* ms */
	int64		last_request;	/* ms: when it was begun */
	int			waiting;		/* items not under way */
	int			under_way;		/* items */
	int			requests;		/* batches */
	int			troubled;		/* items that have failed for themselves so
								 * far */

	/* the queue as a whole is failing */
	int			failures;		/* requests in a row */
	int64		paused_until;	/* ms; 0: not */

	dlist_head	ready;			/* standard: items; FIFO: groups */
	int			nready;
	dlist_head	later;			/* the same, with a time to go on */
	int64		later_from;		/* ms: the earliest of these, or earlier */
	HTAB	   *groups;			/* FIFO: by hash of the group id */
} Sender;

typedef enum SendOutcome
{
	SEND_DONE,					/* SQS has it */
	SEND_RETRY,					/* the sender keeps it and will try again */
	SEND_REFUSED				/* never will, or not with max_attempts */
} SendOutcome;

typedef struct SendBatch
{
	int			n;
	SendItem   *items[SQS_MAX_BATCH];
} SendBatch;

/*
 * Tells what became of an item.  Unless it is SEND_RETRY the item is the
 * owner's again.  code and message are of the failure, entry is NULL if the
 * request failed as a whole.
 */
typedef void (*SendItemDone) (SendItem *item, SendOutcome outcome,
							  const SqsBatchEntry *entry, const AwsError *error,
							  void *arg);

extern Sender *sqs_sender_create(MemoryContext context, bool fifo, int max_requests,
								 int max_attempts, int linger);

/* group_key: hash of the group id, on FIFO queues.  An ERROR changes nothing. */
extern void sqs_sender_add(Sender *sender, SendItem *item, uint64 group_key, int64 now);

/*
 * The next batch to be sent now, if there is one.  The caller starts the
 * request, and gives the batch back with the call when that is finished, or
 * with sqs_sender_cannot_prepare() if it could not be started.
 */
extern bool sqs_sender_take(Sender *sender, int64 now, SendBatch *batch);
extern void sqs_sender_finish(Sender *sender, SendBatch *batch, SqsCall *call,
							  int64 now, SendItemDone done, void *arg);

/*
 * Drop items that are not worth sending any more (the owner found that out
 * while loading a batch): as if SQS had refused them, without the callback.
 */
extern void sqs_sender_drop(Sender *sender, SendBatch *batch, int position, int64 now);

/*
 * A batch could not be put together, for an error in this process.  Each of
 * its items is tried alone next, and the one that fails alone waits for
 * itself.
 */
extern void sqs_sender_cannot_prepare(Sender *sender, SendBatch *batch, int64 now);

/* Forget the failures so far: what caused them may have been mended. */
extern void sqs_sender_try_again(Sender *sender);

/* Is there something to wait for before anything can be sent? */
extern bool sqs_sender_is_held_up(const Sender *sender);

/* To end it: any item that waits, NULL when there is none left. */
extern SendItem *sqs_sender_remove(Sender *sender);
extern void sqs_sender_destroy(Sender *sender);

/* When to call sqs_sender_take() again, if nothing else happens; ms, or never. */
extern int64 sqs_sender_next_time(const Sender *sender, int64 now);

/* The queue as a whole has failed: pause, growing with each time. */
extern void sqs_sender_pause(Sender *sender, int64 now);

#endif							/* SQSBRIDGE_SENDER_H */
