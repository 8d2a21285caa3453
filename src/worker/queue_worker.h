/*-------------------------------------------------------------------------
 *
 * queue_worker.h
 *	  The queue worker's state, shared by the files that make it up.
 *
 *		queue.c		the process, its configuration, the event loop, polling
 *		lease.c		the table of messages in hand; renewing and releasing
 *		handout.c	handler workers, message groups, who gets what next
 *		ack.c		durability, then deletion
 *
 * A lease goes through these states; each has one owner of the memory and
 * one list it is in:
 *
 *		WAITING -> HANDED -> COMMITTED -> DELETING -> free
 *		   |          |                                ^
 *		   +----------+--------> RELEASING ------------+
 *
 * It is renewed while WAITING, HANDED or COMMITTED.  The body and everything
 * else about the message stay in the reply they came in, which is freed with
 * the last of its leases.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_QUEUE_WORKER_H
#define SQSBRIDGE_QUEUE_WORKER_H

#include "access/xlogdefs.h"
#include "lib/ilist.h"
#include "utils/hsearch.h"

#include "aws/sqs_client.h"
#include "catalog.h"
#include "connect.h"
#include "shmem.h"
#include "worker/channel.h"
#include "worker/worker.h"

/* Messages in hand at most, whatever the pace; sizes the shared table. */
#define SQS_MAX_LEASES		1024
#define SQS_MAX_POLLS		16

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

typedef struct Lease
{
	dlist_node	node;			/* the list its state says */
	dlist_node	renewal_node;	/* QueueWorker.renewals, while renewed */
	LeaseState	state;
	uint32		generation;		/* of this place in the table */
	Reply	   *reply;
	const SqsReceivedMessage *message;
	uint64		order;			/* of receipt */
	int64		received_at;	/* ms, monotonic */
	int64		until;			/* the lease ends */
	int64		renew_at;
	bool		renewing;		/* a renewal is under way */
	struct Handler *handler;	/* HANDED */
	uint64		seq;			/* HANDED */
	struct MessageGroup *group;		/* FIFO */
	XLogRecPtr	lsn;			/* COMMITTED */
	int64		since;			/* entered its list */
	int64		not_before;		/* DELETING: not tried again until then */
	int			attempts;		/* DELETING: that failed, for this entry alone */
	int			release_after;	/* RELEASING: s from the call */
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
	dlist_node	node;			/* QueueWorker.groups_ready */
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
	uint64		cancelled_seq;	/* whose lease was lost as it ran; 0: none */
	int64		cancelled_at;
	bool		sending;		/* a frame is half sent */
	StringInfoData frame;
	shm_mq_iovec iov[2];
} Handler;

typedef struct Poll
{
	SqsCall    *call;			/* NULL: free */
	int			asked;
	int			visibility;		/* s: the lease it asked for */
	int64		started_at;		/* ms */
} Poll;

typedef struct QueueWorker
{
	MemoryContext context;
	SqsQueueConfig *config;
	uint64		keys_fingerprint;
	SqsQueueStats *stats;
	SqsConnection connection;
	SqsClient  *client;			/* connection.client */
	char	   *queue_url;
	int			visibility;		/* s: lease asked for */
	bool		attributes_known;
	SqsCall    *setup_call;

	int64		now;			/* ms, monotonic, of this turn */
	int64		wake_at;		/* earliest thing to do by time */

	/* reading the configuration again */
	int			load_failures;
	int64		next_load;

	/* polling */
	Poll		polls[SQS_MAX_POLLS];
	int			npolls;
	int			asked;			/* messages that open polls may bring */
	int			width;			/* polls wanted in parallel */
	int			poll_failures;
	int64		failed_at;		/* the last of them */
	int64		next_poll;
	size_t		memory;			/* of replies in hand */
	double		mean_size;		/* bytes of memory per message */

	/* leases */
	Lease		leases[SQS_MAX_LEASES];
	int			nleases;
	int			nfree;
	int			free_leases[SQS_MAX_LEASES];
	uint64		order;
	dlist_head	renewals;		/* by renew_at */
	dlist_head	waiting;		/* standard queues */
	int			nwaiting;
	dlist_head	committed;
	int			ncommitted;
	dlist_head	deletes;
	int			ndeletes;
	int			delete_failures;	/* calls that failed in a row */
	int64		delete_failed_at;	/* the last of them */
	int64		next_delete;
	bool		delete_trial;	/* the one call that may end them is open */
	dlist_head	releases;
	int			nreleases;
	int			calls_open;		/* deletes, releases, renewals under way */
	dsm_segment *segment;
	SharedLeases *shared;

	/* handing out */
	Handler		handlers[SQS_CONCURRENCY_MAX];
	int			nhandlers;
	HTAB	   *groups;
	dlist_head	groups_ready;
	uint32		chains;
	double		mean_us;		/* handler time; 0: not known yet */
	int			handed;
	int			start_failures;
	int64		next_start;
	int64		last_alive_check;
	int64		last_share_check;
	bool		starved;		/* out of slots before: first a handler */
	bool		no_slot;		/* gives its own slot back for want of another */

	/* not being able to run the handler */
	int			cannot_run;		/* times in a row */
	int64		paused_until;

	/* leaving */
	bool		stopping;
	int64		stop_at;		/* handlers are cancelled then */
	bool		cancelled;
} QueueWorker;

extern TimestampTz sqs_ms_to_timestamp(QueueWorker *qw, int64 ms);

static inline void
sqs_wake_at(QueueWorker *qw, int64 at)
{
	if (at < qw->wake_at)
		qw->wake_at = at;
}

/* lease.c */
extern void sqs_leases_init(QueueWorker *qw);
extern Lease *sqs_lease_add(QueueWorker *qw, Reply *reply,
							const SqsReceivedMessage *message,
							int visibility);
extern void sqs_lease_free(QueueWorker *qw, Lease *lease);
extern void sqs_lease_stop_renewing(QueueWorker *qw, Lease *lease);
extern void sqs_lease_mirror(QueueWorker *qw, Lease *lease);
extern void sqs_lease_release(QueueWorker *qw, Lease *lease, int after);
extern void sqs_leases_renew(QueueWorker *qw);
extern void sqs_leases_flush_releases(QueueWorker *qw, bool all);

/* A batch call over leases: who they were when it was sent. */
typedef struct LeaseBatch
{
	QueueWorker *qw;
	int			n;
	int64		sent_at;
	int			visibility;
	Lease	   *leases[SQS_MAX_BATCH];
	uint32		generations[SQS_MAX_BATCH];
} LeaseBatch;

/* handout.c */
extern void sqs_handout_init(QueueWorker *qw);
extern void sqs_handout_accept(QueueWorker *qw, Lease *lease);
extern void sqs_handout_collect(QueueWorker *qw);
extern bool sqs_handout_prepare(QueueWorker *qw);
extern void sqs_handout_dispatch(QueueWorker *qw);
extern void sqs_handout_supervise(QueueWorker *qw);
extern void sqs_handout_lease_lost(QueueWorker *qw, Lease *lease);
extern void sqs_handout_stop(QueueWorker *qw);
extern void sqs_handout_cancel(QueueWorker *qw, bool hard);
extern void sqs_handout_end(QueueWorker *qw);
extern int	sqs_handout_capacity(QueueWorker *qw);

/* ack.c */
extern void sqs_ack_committed(QueueWorker *qw, Lease *lease, XLogRecPtr lsn);
extern void sqs_ack_flush(QueueWorker *qw);
extern void sqs_ack_deletes(QueueWorker *qw, bool all);

/* queue.c */
extern void sqs_queue_error(QueueWorker *qw, SqsQueueState state, const char *text);

#endif							/* SQSBRIDGE_QUEUE_WORKER_H */
