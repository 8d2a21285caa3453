/*-------------------------------------------------------------------------
 *
 * queue_state.h
 *	  The queue worker's state, shared by the files that make it up.
 *
 *		queue_worker.c	the process, its configuration, the event loop
 *		polling.c		finding the queue, receiving
 *		lease.c			the table of messages in hand; renewing and releasing
 *		waiting.c		what waits, and message groups
 *		dispatch.c		who gets what next
 *		handler_pool.c	starting, watching and ending handler workers
 *		in_hand.c		what a handler has been handed
 *		results.c		what handlers report
 *		ack.c			durability, then deletion
 *		marks.c			what has come to its end, for the inbox
 *
 * Of these each calls those below it only, but for polling.c, which is beside
 * the handlers; lease.c tells what has become of a lease by SqsLeaseEvents.
 *
 * A lease goes through these states:
 *
 *		WAITING	  in a list of waiting leases: the queue's, its group's, or
 *				  the tail of a group that failed
 *		HANDED	  in the place of its seq in Handler.by_seq
 *		COMMITTED in Acks.committed
 *		DELETING  in Acks.deletes, or in the batch of an open call
 *		RELEASING in LeaseTable.releases, or in the batch of an open call
 *
 *		WAITING <-> HANDED -> COMMITTED -> DELETING -> free
 *		   |          |           |                     ^
 *		   +----------+-----------+---> RELEASING ------+
 *
 * A lease that was lost, or is left to run out, is freed from any of them.  It
 * is renewed while WAITING, HANDED or COMMITTED.  The body and everything else
 * about the message stay in the reply they came in, which is freed with the
 * last of its leases.
 *
 * Errors.  Each part of a turn has an error boundary of its own (queue_worker.c), so
 * that one that fails is tried again while the others go on renewing and
 * releasing.  Hence a rule for all these files: what may raise an error
 * (allocations, the start of a call) comes before the lists are changed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_QUEUE_STATE_H
#define SQSBRIDGE_QUEUE_STATE_H

#include "access/xlogdefs.h"
#include "lib/ilist.h"
#include "utils/hsearch.h"

#include "aws/sqs_client.h"
#include "base/shmem.h"
#include "base/worker.h"
#include "config/connect.h"
#include "config/queues.h"
#include "receive/channel.h"

/* Messages in hand at most, whatever the pace; sizes the shared table. */
#define SQS_MAX_LEASES		1024
#define SQS_MAX_POLLS		16

/* SQS's own visibility timeout (s) of a queue that says nothing else. */
#define SQS_DEFAULT_VISIBILITY	30

typedef enum LeaseState
{
	LEASE_FREE,
	LEASE_WAITING,
	LEASE_HANDED,
	LEASE_COMMITTED,
	LEASE_DELETING,
	LEASE_RELEASING
} LeaseState;

typedef struct Reply
{
	SqsCall    *call;			/* owns the memory of its messages */
	int			leases;			/* that point into it */
	size_t		memory;
} Reply;

struct Handler;
struct MessageGroup;
struct QueueWorker;

typedef struct Lease
{
	dlist_node	node;			/* the list its state says */
	dlist_node	renewal_node;	/* LeaseTable.renewals, while renewed */
	LeaseState	state;
	uint32		generation;		/* of this place in the table */
	Reply	   *reply;
	const SqsReceivedMessage *message;
	uint64		order;			/* of receipt */
	int64		received_at;	/* ms, monotonic */
	int64		until;			/* the lease ends */
	SqsLeaseEnd fence;			/* no commit from then on */
	int64		renew_at;
	struct Handler *handler;	/* HANDED */
	uint64		seq;			/* HANDED */
	struct MessageGroup *group;		/* FIFO */
	XLogRecPtr	lsn;			/* COMMITTED */
	int64		since;			/* entered its list */
	int64		not_before;		/* DELETING: not tried again until then */
	int			attempts;		/* DELETING: that failed, for this entry alone */
	int			release_after;	/* RELEASING: s from the call */
	TimestampTz stamp;			/* of its row in the inbox; 0: none, or resolved */
	dlist_node	stamp_node;		/* marks.c: unresolved, while it has a stamp */
	bool		deletion_counts;	/* no sign yet that the lease is lost */
} Lease;

/* What sqs_stats_in_flight shows; guarded by the slot's lock. */
typedef struct SharedLease
{
	bool		used;
	LeaseState	state;			/* WAITING, HANDED or COMMITTED */
	int			handler_pid;
	int			receive_count;
	TimestampTz received_at;
	TimestampTz until;
	char		message_id[104];	/* SQS: up to 100 characters */
	char		group_id[132];	/* SQS: up to 128; empty: none */
} SharedLease;

typedef struct SharedLeases
{
	int32		queue_id;
	Oid			owner;
	SharedLease leases[SQS_MAX_LEASES];
} SharedLeases;

typedef struct MessageGroup
{
	char		id[132];		/* hash key */
	dlist_head	waiting;
	dlist_node	node;			/* Waiting.groups_ready */
	int			nwaiting;
	int			handed;
	bool		failed;			/* run nothing more, release what is left */
	struct Handler *handler;	/* while handed > 0 */
	uint32		chain;
	dlist_head	tail;			/* failed: to be released, any order */
} MessageGroup;

typedef struct Handler
{
	bool		used;
	bool		ready;
	SqsWorkerRef ref;
	SqsChannel *channel;
	pid_t		pid;
	uint64		last_seq;
	int			outstanding;
	Lease	   *by_seq[SQS_CHANNEL_DEPTH];
	bool		stopping;
	bool		giving_back;	/* its slot, after its message */
	int64		idle_since;
	int64		term_seen_at;	/* its first SIGTERM came; 0: none */
	uint64		canceled_seq;	/* whose lease was lost as it ran; 0: none */
	int64		canceled_at;
	uint64		overdue_seq;	/* that it should have been done with; 0: none */
	bool		sending;		/* a frame is half sent */
	StringInfoData frame;
	shm_mq_iovec iov[2];
} Handler;

typedef struct Poll
{
	SqsCall    *call;			/* NULL: free */
	SqsClient  *client;			/* that makes it */
	int			asked;
	int			visibility;		/* s: the lease it asked for */
	int64		started_at;		/* ms */
} Poll;

typedef struct SqsLeaseEvents
{
	void		(*renewed) (struct QueueWorker *qw, Lease *lease);
	void		(*lost) (struct QueueWorker *qw, Lease *lease);
} SqsLeaseEvents;

/* A batch call over leases: who they were when it was sent. */
typedef struct LeaseBatch
{
	struct QueueWorker *qw;
	int			n;
	int64		sent_at;
	int64		sent_wall;
	int			visibility;
	Lease	   *leases[SQS_MAX_BATCH];
	uint32		generations[SQS_MAX_BATCH];
} LeaseBatch;

/* Each of these is written by one file; others read it. */

typedef struct Reload			/* queue_worker.c: reading the configuration again */
{
	uint64		change;			/* SqsDatabase.change that it is of */
	bool		look_again;		/* whatever that says */
	int64		last;
	bool		has_problem;	/* of the configuration's, as it was read last */
	int			failures;
	int64		next;
} Reload;

typedef struct Polling			/* polling.c */
{
	SqsCall    *setup_call;		/* finding the queue, before anything else */
	Poll		polls[SQS_MAX_POLLS];
	int			n;				/* that are open */
	int			asked;			/* messages that they may bring */
	int			width;			/* polls wanted in parallel */
	int			failures;		/* in a row */
	int64		failed_at;		/* the last of them */
	int64		next;			/* not before */
	size_t		memory;			/* of replies in hand; lease.c frees them */
	double		mean_size;		/* bytes of memory per message */
} Polling;

typedef struct LeaseTable		/* lease.c */
{
	const SqsLeaseEvents *events;
	Lease		leases[SQS_MAX_LEASES];
	int			n;
	int			nfree;
	int			free[SQS_MAX_LEASES];
	uint64		order;
	dlist_head	renewals;		/* by renew_at */
	dlist_head	releases;
	int			nreleases;
	dsm_segment *segment;
	SharedLeases *shared;
} LeaseTable;

typedef struct Waiting			/* waiting.c, and dispatch.c takes from it */
{
	dlist_head	list;			/* standard queues */
	int			n;
	HTAB	   *groups;			/* FIFO queues */
	dlist_head	groups_ready;
} Waiting;

typedef struct HandlerPool		/* handler_pool.c */
{
	Handler		handlers[SQS_CONCURRENCY_MAX];
	int			n;
	int			start_failures; /* in a row */
	int64		next_start;		/* not before */
	int64		last_alive_check;
	int64		last_share_check;
	uint64		exits;			/* SqsDatabase.exits then */
	bool		starved;		/* out of slots before: first a handler */
	bool		no_slot;		/* gives its own slot back for want of another */
} HandlerPool;

typedef struct Acks				/* ack.c */
{
	dlist_head	committed;
	int			ncommitted;
	dlist_head	deletes;
	int			ndeletes;
	int			failures;		/* calls that failed in a row */
	int64		failed_at;		/* the last of them */
	int64		next;			/* not before */
	bool		trial;			/* the one call that may end them is open */
} Acks;

typedef struct Stop				/* queue_worker.c: leaving; see begin_stop() */
{
	bool		hurry;			/* open polls were abandoned */
	bool		letting_go;		/* what waits has been released */
	int64		at;				/* handlers are canceled then */
	int64		last_at;		/* nothing is waited for from then on */
	bool		canceled;
} Stop;

typedef struct QueueWorker
{
	MemoryContext context;
	SqsQueueConfig *config;
	SqsDatabase *database;
	SqsQueueStats *stats;
	SqsSharedClient *shared_client;
	SqsClient  *client;			/* the same; for new calls */
	uint64		client_made_from;	/* fingerprint of server, keys, settings */
	char	   *queue_url;
	int			visibility;		/* s: lease asked for */
	bool		attributes_known;
	bool		stopping;

	int64		now;			/* sqs_now_ms() of this turn */
	int64		wall;			/* sqs_wall_ms() of this turn */
	int64		overslept;		/* ms by which the last wait was too long */
	int64		wake_at;		/* earliest thing to do by time */
	int			calls_open;		/* deletes, releases, renewals under way */

	/* what handlers have in hand, and how they get on with it */
	int			handed;
	uint32		chains;			/* of FIFO queues, so far */
	double		mean_us;		/* handler time; 0: not known yet */
	int			cannot_run;		/* the handler cannot be run: times in a row */
	int64		paused_until;	/* for that reason */

	Reload		reload;
	Polling		polling;
	LeaseTable	table;
	Waiting		waiting;
	HandlerPool pool;
	Acks		ack;
	Stop		stop;
} QueueWorker;

static inline void
sqs_wake_at(QueueWorker *qw, int64 at)
{
	if (at < qw->wake_at)
		qw->wake_at = at;
}

/*
 * Is the end of this process near?  While its polls are still open there is
 * time to try things again.
 */
static inline bool
sqs_is_leaving(const QueueWorker *qw)
{
	return qw->stopping && qw->polling.n == 0;
}

extern TimestampTz sqs_ms_to_timestamp(QueueWorker *qw, int64 ms);

/* A new state with its reason; one log line when either changes. */
extern void sqs_queue_error(QueueWorker *qw, SqsQueueState state, const char *text);

/* It is polling, and nothing is wrong any more. */
extern void sqs_queue_is_well(QueueWorker *qw);

/*
 * In a PG_CATCH(): get over the error, whose message is copied to "text".
 */
extern void sqs_queue_catch(QueueWorker *qw, char *text, size_t size);

#endif							/* SQSBRIDGE_QUEUE_STATE_H */
