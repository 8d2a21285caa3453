/*-------------------------------------------------------------------------
 *
 * queue_state.h
 *	  The queue worker's state, shared by the files that make it up.
 *
 *		queue_worker.c	the process, its configuration, the event loop
 *		polling.c		finding the queue, receiving
 *		dispatch.c		which handler gets which message next
 *		handler_pool.c	starting, watching and ending handler workers
 *		results.c		what handlers report
 *		ack.c			durability, then deletion
 *		in_hand.c		what a handler has been given
 *		suspects.c		what may have made the server crash
 *		holding.c		what waits for its delay, in hand or at SQS
 *		route_state.c	routes whose handler fails again and again
 *		waiting.c		what waits, and message groups
 *		lease.c			the table of messages in hand; renewing and releasing
 *		pace.c			what is measured, and how much is wanted in hand
 *		marks.c			which messages are finished, for the inbox
 *		queue_state.c	states and errors
 *
 * Each of these calls only those below it; lease.c reports what has become of
 * a lease by SqsLeaseEvents.
 *
 * A lease goes through these states:
 *
 *		WAITING	  in a list of waiting leases: the queue's, its group's, or
 *				  the tail of a group that failed; or put aside: in
 *				  Holding.list, or RouteState.aside (not on FIFO queues,
 *				  where the group has a mark instead)
 *		HANDED	  in Handler.by_seq, by its seq
 *		COMMITTED in Acks.committed
 *		DELETING  in Acks.deletes, or in the batch of an open call
 *		RELEASING in LeaseTable.releases, or in the batch of an open call
 *
 *		WAITING <-> HANDED -> COMMITTED -> DELETING -> free
 *		   |          |           |                     ^
 *		   +----------+-----------+---> RELEASING ------+
 *
 * A lease that was lost, or is left to run out, is freed from any of them.  It
 * is renewed while WAITING, HANDED or COMMITTED.  The body and all other data of
 * the message stay in the reply in which they came, which is freed with the
 * last of its leases.
 *
 * Errors.  Each part of a turn has an error boundary of its own
 * (queue_worker.c), so that a part that fails is retried while the others go on
 * renewing and releasing.  Hence a rule for all these files: whatever may raise
 * an error (allocations, starting a call) comes before lists are changed.
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

/*
 * The table of messages in hand grows by chunks, up to 20,480 messages: what
 * handlers get through in a second when a queue does its best, and a sixth of
 * what SQS lets a queue have in flight.
 */
#define SQS_LEASE_CHUNK		256
#define SQS_LEASE_CHUNKS	80
#define SQS_MAX_LEASES		(SQS_LEASE_CHUNK * SQS_LEASE_CHUNKS)

/* 256 polls of ten messages: 25,600 messages/s if a round trip takes 100 ms */
#define SQS_MAX_POLLS		256

/* SQS's default visibility timeout (s). */
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
	dlist_node	node;			/* in the list that its state implies */
	dlist_node	renewal_node;	/* LeaseTable.renewals, while renewed */
	LeaseState	state;
	int			place;			/* in the table */
	uint32		generation;		/* of this place */
	Reply	   *reply;
	const SqsReceivedMessage *message;
	uint64		order;			/* of receipt */
	int64		received_at;	/* ms, monotonic */
	int64		until;			/* end of the lease */
	SqsLeaseEnd fence;			/* the handler may not commit from then on */
	int64		renew_at;
	bool		is_suspect;		/* see suspects.c */
	struct Handler *handler;	/* HANDED */
	uint64		seq;			/* HANDED */
	struct MessageGroup *group; /* FIFO */
	XLogRecPtr	lsn;			/* COMMITTED */
	int64		since;			/* when it entered its list */
	int64		delete_by;		/* DELETING: waits for others no longer */
	int64		not_before;		/* DELETING: not retried before */
	int			attempts;		/* DELETING: failures of this entry alone */
	int			release_after;	/* RELEASING: visible so long after the call
								 * (s) */
	int			batch_limit;	/* goes into no larger batch; 0: no limit */
	bool		lost;			/* HANDED: while its handler was at it */
	TimestampTz stamp;			/* of its row in the inbox; 0: none, or
								 * resolved */
	dlist_node	stamp_node;		/* marks.c: unresolved, while it has a stamp */
	bool		deletion_counts;	/* no sign yet that the lease is lost */

	/*
	 * for a message that has failed in our hands; see holding.c,
	 * route_state.c
	 */
	bool		tried;
	bool		aside;			/* WAITING: put aside, */
	struct RouteState *aside_of;	/* there; NULL: in Holding.list */
	bool		is_probe;		/* HANDED: of its route, which is held */
	bool		blamed;			/* HANDED: was sent with SQS_FRAME_BLAME */
	bool		paused;			/* has failed and was not blamed, */
	uint64		paused_at;		/* when so many others had succeeded */
	int16		route;			/* -1: none, or not known */
	int			holds;			/* how often it was held for its delay */
	int64		due;			/* in Holding.list: handed out from then on */
	int64		tried_at;		/* ms */
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
	int			size;
	SharedLease leases[FLEXIBLE_ARRAY_MEMBER];
} SharedLeases;

typedef struct MessageGroup
{
	char		id[132];		/* hash key */
	dlist_head	waiting;
	dlist_node	node;			/* Waiting.groups_ready */
	int			nwaiting;
	int			handed;
	bool		failed;			/* run nothing more, release the rest */
	int64		held_until;		/* its first message has failed: not handed
								 * out before; 0: it has not */
	bool		aside;			/* it waits for its route */
	struct Handler *handler;	/* while handed > 0 */
	uint32		chain;			/* see dispatch.c */
	uint64		batch_from;		/* first seq of the batch it is in */
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
	Lease	  **by_seq;			/* as many as the channel is deep */
	uint64		batch_from;		/* first seq of its last batch */
	int			batch_n;		/* outstanding messages of that */
	int			batch_limit;	/* messages that it may have */
	Size		batch_bytes;	/* of their bodies */
	TimestampTz batch_options;	/* SqsQueueConfig.changed_at when it was begun */
	bool		batch_open;		/* it is not told yet to run that */
	bool		stopping;
	bool		giving_back;	/* its slot, once its message is finished */
	int64		idle_since;
	int64		age_us;			/* of its current message, when last looked at */
	int64		term_seen_at;	/* when its first SIGTERM was seen; 0: none */
	uint64		canceled_seq;	/* whose lease was lost while it ran; 0: none */
	int64		canceled_at;
	uint64		overdue_seq;	/* reported by note_overdue(); 0: none */
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
	bool		is_long;		/* waits for the queue's wait_time */
	bool		after_full;		/* Polling.full when it was started */
	int64		started_at;		/* ms */
} Poll;

/* By these lease.c tells the code that holds the message; see in_hand.c. */
typedef struct SqsLeaseEvents
{
	void		(*renewed) (struct QueueWorker *qw, Lease *lease);
	void		(*lost) (struct QueueWorker *qw, Lease *lease);
} SqsLeaseEvents;

/*
 * A batch call over leases.  A lease whose generation is not the same when the
 * call ends has been freed in the meantime.
 */
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

typedef struct Reload			/* queue_worker.c: reading the configuration
								 * again */
{
	uint64		change;			/* SqsDatabase.change when it was last read */
	bool		look_again;		/* read it again even if that is unchanged */
	int64		last;
	bool		has_problem;	/* the configuration has, as last read */
	int			failures;
	int64		next;
} Reload;

typedef struct Polling			/* polling.c */
{
	SqsCall    *setup_call;		/* finding the queue, before anything else */
	Poll		polls[SQS_MAX_POLLS];
	int			n;				/* open polls */
	int			nlong;			/* of these, is_long */
	int			asked;			/* messages that they may bring */
	bool		full;			/* the last reply was, at least half */
	int			width;			/* polls wanted in parallel */
	int			misses;			/* polls that failed in a row, not backing off */
	int			retry_taken;	/* from the retry budget, for these */
	int64		retry_at;		/* after them: not before */
	int64		succeeded_at;	/* the last poll */
	int			failures;		/* steps of the back-off; 0: not backing off */
	int64		failed_at;		/* the last of them */
	int64		next;			/* not before */
	size_t		memory;			/* of replies in hand; lease.c subtracts */
	double		mean_size;		/* bytes of memory per message */
	int64		surplus_since;	/* that more wait than will be handled soon;
								 * 0: no */
	int64		next_surplus;	/* when to look again */
	SqsCall    *policy_call;	/* looks at the redrive policy */
	bool		may_give_back;	/* it permits that */
} Polling;

typedef struct LeaseTable		/* lease.c */
{
	const SqsLeaseEvents *events;
	Lease	   *chunks[SQS_LEASE_CHUNKS];
	int			size;			/* places */
	int			n;				/* of these, in use */
	dlist_head	free;
	int64		empty_since;
	int64		next_growth;	/* after a failure: not before */
	uint64		order;
	dlist_head	renewals;		/* by renew_at */
	dlist_head	releases;
	int			nreleases;
	int64		releases_at;	/* none is sent before: no descriptors */
	dsm_segment *segment;
	SharedLeases *shared;		/* as many places */
} LeaseTable;

typedef struct Suspects			/* suspects.c */
{
	Lease	   *handed;			/* with a handler; NULL: none */
	Lease	   *alone;			/* to be handed out when nothing else is;
								 * NULL: none */
} Suspects;

typedef struct Waiting			/* waiting.c, and dispatch.c takes from it */
{
	dlist_head	list;			/* standard queues */
	int			n;
	HTAB	   *groups;			/* FIFO queues */
	dlist_head	groups_ready;
} Waiting;

typedef struct Holding			/* holding.c */
{
	dlist_head	list;			/* standard queues: by the time due */
	int			n;				/* in it, and in RouteState.aside */
	int			nheld;			/* of these, in it */
	int64		next;			/* when to look at FIFO queues' groups; 0:
								 * none is held */
} Holding;

/* Why a route is held. */
typedef enum RouteHold
{
	ROUTE_RUNS,
	ROUTE_PAUSED,				/* something that its handler needs is missing */
	ROUTE_THROTTLED				/* many messages in a row have failed */
} RouteHold;

/* A queue without routes has one. */
typedef struct RouteState		/* route_state.c */
{
	int16		route;			/* -1: the queue's handler */
	uint64		successes;
	uint32	   *failed;			/* hashes of the ids of messages that have
								 * failed since the last success */
	int			nfailed;
	int			failed_size;	/* room for so many */

	RouteHold	hold;
	int64		since;			/* it is held */
	int			steps;			/* probes that have failed */
	int64		next_probe;		/* not before */
	bool		probing;		/* a handler has one */
	bool		fresh_next;		/* the next one is one that was not tried */
	dlist_head	aside;			/* standard queues: tried, the least recently
								 * first */
	int			naside;
} RouteState;

typedef struct Routes			/* route_state.c */
{
	RouteState **states;		/* by number, plus 1; NULL: nothing is known */
	int			size;
	int			nheld;
	bool		take_back;		/* one was just held: take back what handlers
								 * have not begun */
} Routes;

/* So many tenths of a second pace.c looks back. */
#define SQS_PACE_WINDOWS	50

typedef struct Pace				/* pace.c */
{
	double		mean_us;		/* handler time per message; 0: not known yet */
	double		round_trip;		/* ms */
	double		mean;			/* of receives, ms */
	double		least;			/* in this window, */
	double		least_before;	/* and in the one before */
	int64		window_ends;
	int			done[SQS_PACE_WINDOWS]; /* messages in each tenth of a second,
										 * the latest in window % n */
	int64		window;
	int			most_before;	/* in one of them, before the latest */
	double		per_second;		/* messages that the handlers get through; 0:
								 * not known yet */
} Pace;

typedef struct HandlerPool		/* handler_pool.c */
{
	Handler		handlers[SQS_CONCURRENCY_MAX];
	int			n;
	int			start_failures; /* consecutive */
	int64		next_start;		/* not before */
	int64		last_alive_check;
	int64		last_share_check;
	uint64		exits;			/* SqsDatabase.exits at the last check */
	bool		starved;		/* was out of slots: start a handler before
								 * receiving */
	bool		no_slot;		/* exits, because there is no slot for a
								 * handler */
} HandlerPool;

typedef struct Acks				/* ack.c */
{
	dlist_head	committed;
	int			ncommitted;
	dlist_head	deletes;
	int			ndeletes;
	int64		succeeded;		/* when the last call that succeeded was sent */
	int			failures;		/* consecutive failed calls */
	int64		failed_at;		/* the last of them */
	int64		next;			/* not before */
	bool		trial;			/* the call that tests whether they work is
								 * open */
	int64		quiet_since;	/* that nothing has been in hand; 0: something
								 * is */
} Acks;

typedef struct Stop				/* queue_worker.c: exiting; see begin_stop() */
{
	bool		hurry;			/* open polls are abandoned ... */
	int64		polls_until;	/* ... then */
	bool		letting_go;		/* what waits has been released */
	int64		at;				/* when handlers are canceled */
	int64		last_at;		/* when to exit in any case */
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
	int			retention;		/* s that SQS keeps a message; 0: unknown */
	bool		attributes_known;
	bool		stopping;

	int64		now;			/* sqs_now_ms() of this turn */
	int64		wall;			/* sqs_wall_ms() of this turn */
	int64		overslept;		/* ms by which the last wait was too long */
	bool		has_time;		/* this process waited before this turn */
	int64		wake_at;		/* end of the next wait; see sqs_wake_at() */
	int			calls_open;		/* deletes, releases, renewals under way */

	int			max_calls;		/* that may be open besides polls, and as many
								 * polls */

	int			handed;			/* what handlers have in hand */
	uint32		chains;			/* the last chain's number */
	int			cannot_run;		/* consecutive times that no handler could be
								 * run */
	int64		paused_until;	/* for that reason */

	Reload		reload;
	Polling		polling;
	LeaseTable	table;
	Pace		pace;
	Waiting		waiting;
	Suspects	suspects;
	Holding		holding;
	Routes		routes;
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

/* Is nothing handed out but probes, because the queue's one route is held? */
static inline bool
sqs_queue_is_held(const QueueWorker *qw)
{
	return qw->routes.nheld > 0 && qw->config->route_by == NULL;
}

/*
 * Is this process about to exit?  While its polls are still open there is time
 * to retry things.
 */
static inline bool
sqs_is_leaving(const QueueWorker *qw)
{
	return qw->stopping && qw->polling.n == 0;
}

/*
 * How many calls more may be open now, polls included.  Beyond that they would be
 * refused a descriptor, and fail.  The end of a call makes room for another.
 */
static inline int
sqs_calls_room(const QueueWorker *qw)
{
	return Max(2 * qw->max_calls - qw->polling.n - qw->calls_open, 0);
}

/* A time of sqs_now_ms() as a time of day. */
extern TimestampTz sqs_ms_to_timestamp(QueueWorker *qw, int64 ms);

/* Set the state, with its reason; logged when either changes. */
extern void sqs_queue_error(QueueWorker *qw, SqsQueueState state, const char *text);

/* The queue is polled, and nothing is wrong any more. */
extern void sqs_queue_is_well(QueueWorker *qw);

/* In PG_CATCH(): recover from the error, and copy its message to "text". */
extern void sqs_queue_catch(QueueWorker *qw, char *text, size_t size);

#endif							/* SQSBRIDGE_QUEUE_STATE_H */
