/*-------------------------------------------------------------------------
 *
 * shmem.h
 *	  State shared between the workers, the hooks and the views.
 *
 * Everything here lives in the main shared memory segment, which three
 * settings size at server start.  After a crash restart it is rebuilt from
 * the catalogs; nothing that must survive is kept here only.
 *
 * Who owns what:
 *
 *	- A worker slot is claimed by the supervisor that launches a worker.  Once
 *	  the worker has attached, the slot belongs to the worker, whose exit
 *	  callback frees it.  The generation distinguishes successive occupants of
 *	  a slot.  Slots are guarded by the control lock; "state", "messages" and
 *	  "handlers" are written only by the occupant, without the lock.
 *	- A database entry exists while the database has work (see
 *	  config/database_mark.c), has workers, or is blocked by a backend.  It is
 *	  guarded by the control lock; the event counters ("change", "exits",
 *	  "outbox") are atomic; "jobs" is written by the database worker and
 *	  guarded by the entry's spinlock.
 *	- The statistics of a queue are written by its one queue worker (or, while
 *	  it has none, by the database worker); the outbox part by the database
 *	  worker; and sessions count what they send.  Any process may read.
 *	  Counters are atomic; texts and times are guarded by the entry's
 *	  spinlock.  Half of the entries, sqsbridge.max_queues of them, are
 *	  reserved for queues that run (enabled, with a handler); the other half
 *	  is for queues that only send, so that the latter never crowd out the
 *	  former.
 *	- The statistics of a route are written by the handlers of its queue.
 *	  Whose an entry is, is guarded by the control lock; the counters are
 *	  atomic.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_SHMEM_H
#define SQSBRIDGE_SHMEM_H

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/dsm.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

typedef enum SqsWorkerKind
{
	SQS_LAUNCHER,
	SQS_DATABASE_WORKER,
	SQS_QUEUE_WORKER,
	SQS_HANDLER_WORKER
} SqsWorkerKind;

/* What a worker says about itself; texts in sqs_worker_state_name(). */
typedef enum SqsWorkerState
{
	SQS_WORKER_STARTING,
	SQS_WORKER_IDLE,
	SQS_WORKER_RUNNING,
	SQS_WORKER_STOPPING
} SqsWorkerState;

typedef struct SqsWorkerSlot
{
	bool		in_use;
	uint16		generation;
	SqsWorkerKind kind;
	Oid			dboid;
	int32		queue_id;		/* 0: not a queue's */
	Oid			role;			/* handler workers: the queue's owner */
	PGPROC	   *proc;			/* NULL until the worker has attached */
	pid_t		pid;
	TimestampTz launch_time;	/* when the slot was claimed */
	TimestampTz start_time;		/* when the worker attached */
	dsm_handle	segment;		/* queue worker: leases; handler: channel */
	pg_atomic_uint32 state;		/* SqsWorkerState */
	pg_atomic_uint64 messages;	/* handled (or received) by this process */
	pg_atomic_uint32 handlers;	/* queue worker: how many handler workers it
								 * has */
} SqsWorkerSlot;

/* The starts of a worker, as its supervisor counts them. */
typedef struct SqsStarts
{
	int			failures;		/* consecutive starts that did not last */
	TimestampTz last;
	TimestampTz next;			/* do not start again before */
} SqsStarts;

/*
 * Upper bounds of the handler time histogram's buckets, in ms; the last bucket
 * takes whatever is longer.
 */
#define SQS_HISTOGRAM_BUCKETS	17
extern const double sqs_histogram_bounds[SQS_HISTOGRAM_BUCKETS - 1];

typedef enum SqsQueueState
{
	SQS_QUEUE_NONE,				/* no worker has reported on it yet */
	SQS_QUEUE_STARTING,
	SQS_QUEUE_POLLING,			/* working normally */
	SQS_QUEUE_BACKING_OFF,		/* SQS refuses or is unreachable; see
								 * last_error */
	SQS_QUEUE_PAUSED,			/* handlers fail for want of something */
	SQS_QUEUE_THROTTLED,		/* too many messages in a row have failed */
	SQS_QUEUE_NO_WORKER_SLOT,	/* out of background worker slots */
	SQS_QUEUE_NO_ROOM,			/* max_queues queues are running already */
	SQS_QUEUE_ERROR,			/* needs an administrator; see last_error */
	SQS_QUEUE_STOPPING,
	SQS_QUEUE_DISABLED
} SqsQueueState;

/*
 * In the order of the columns of sqs_get_queue_stats(), which stats.c fills
 * in two runs: SQS_RECEIVED to SQS_OUTBOX_FAILED, and SQS_CALLS_RECEIVE to
 * SQS_BYTES_SENT.
 */
typedef enum SqsCounter
{
	SQS_RECEIVED,
	SQS_ACKED,
	SQS_FAILED,
	SQS_DUPLICATES,
	SQS_DISCARDED,
	SQS_DEAD_LETTERS,
	SQS_UNROUTABLE,
	SQS_BATCH_SPLITS,
	SQS_RELEASED,
	SQS_LOST,
	SQS_RETRIED,				/* failures that lead to another attempt */
	SQS_RETRIED_NOW,			/* attempts that were made at once */
	SQS_UNCHARGED,				/* failures that are not the message's */
	SQS_HELD,					/* for their delay */
	SQS_GIVEN_BACK,
	SQS_HEARTBEATS,
	SQS_POLL_FAILURES,
	SQS_DELETE_FAILURES,
	SQS_FAILURES_DROPPED,
	SQS_SENT,					/* by the functions and by the relay */
	SQS_SEND_FAILURES,
	SQS_OUTBOX_SENT,
	SQS_OUTBOX_FAILED,
	SQS_CALLS_RECEIVE,
	SQS_CALLS_DELETE,
	SQS_CALLS_VISIBILITY,
	SQS_CALLS_SEND,
	SQS_CALLS_OTHER,
	SQS_BYTES_RECEIVED,
	SQS_BYTES_SENT,
	SQS_HANDLER_MICROS,
	SQS_NUM_COUNTERS
} SqsCounter;

#define SQS_ERROR_TEXT	512
#define SQS_ANNOUNCED_ERRORS	8

typedef enum SqsOutboxState
{
	SQS_OUTBOX_IDLE,			/* nothing to send now */
	SQS_OUTBOX_SENDING,
	SQS_OUTBOX_BACKING_OFF,		/* SQS refuses or is unreachable */
	SQS_OUTBOX_DISABLED			/* the queue is disabled: rows wait */
} SqsOutboxState;

/* Consecutive errors, and the text of the most recent one; see errors.c. */
typedef struct SqsErrors
{
	TimestampTz last_at;
	TimestampTz since;			/* first of the consecutive errors; 0: none
								 * now */
	uint64		consecutive;
	int			nannounced;		/* kinds logged since then, forgotten ones
								 * included */
	uint32		announced[SQS_ANNOUNCED_ERRORS];	/* ring of the kinds
													 * logged */
	char		last[SQS_ERROR_TEXT];
} SqsErrors;

/* How the relay of one queue's outbox rows is doing. */
typedef struct SqsOutboxHealth
{
	SqsOutboxState state;
	TimestampTz state_since;
	TimestampTz last_success_at;
	TimestampTz next_attempt_at;	/* backing off until; 0: not backing off */
	bool		relay_failed;	/* the last error was the relay's, not the
								 * queue's */
	SqsErrors	errors;
} SqsOutboxHealth;

/* What a database worker does; each job fails and is retried independently. */
typedef enum SqsJob
{
	SQS_JOB_SUPERVISION,
	SQS_JOB_CLEANING,
	SQS_JOB_RELAY,
	SQS_NUM_JOBS
} SqsJob;

typedef struct SqsDatabase
{
	Oid			dboid;			/* InvalidOid: entry is free */
	int			blockers;		/* backends that need it free of workers */
	bool		no_room;		/* max_queues keeps one of its queues from
								 * running */
	pg_atomic_uint64 change;	/* counts committed configuration changes */
	pg_atomic_uint64 exits;		/* counts workers that have exited */
	pg_atomic_uint64 outbox;	/* counts commits with rows for the outbox */
	SqsStarts	starts;			/* of its database worker */

	slock_t		mutex;			/* guards what follows */
	SqsErrors	jobs[SQS_NUM_JOBS];
} SqsDatabase;

typedef struct SqsQueueStats
{
	Oid			dboid;			/* InvalidOid: entry is free; control lock */
	int32		queue_id;
	bool		runs;			/* one of the max_queues that run; control
								 * lock */

	pg_atomic_uint64 counters[SQS_NUM_COUNTERS];
	pg_atomic_uint64 histogram[SQS_HISTOGRAM_BUCKETS];
	pg_atomic_uint32 in_flight;
	pg_atomic_uint32 outbox_in_flight;
	pg_atomic_uint64 last_stamp;	/* given to a message; outlives the queue
									 * worker */
	pg_atomic_uint64 failures_known;	/* see queue_stats.h for these two */
	pg_atomic_uint64 failures_from;
	pg_atomic_uint64 used_at;	/* TimestampTz: last lookup by sqs_stats_get()
								 * or _run() */

	/*
	 * TimestampTz: when it was last refused a slot that it cannot work
	 * without; 0: it is not waiting for one.  See fair_shares.c.
	 */
	pg_atomic_uint64 waits_since;

	/*
	 * Hash of the owner's settings, the owner itself and the queue's row, as
	 * the database worker last saw them; 0: not known.  A handler worker that
	 * was started under a different hash exits between two messages.
	 */
	pg_atomic_uint64 handler_settings;

	slock_t		mutex;			/* guards what follows */
	Oid			owner;
	SqsQueueState state;
	TimestampTz state_since;
	uint64		handler_max_micros;
	TimestampTz last_receive_at;	/* last poll that succeeded */
	TimestampTz last_success_at;	/* last message acknowledged */
	TimestampTz next_poll_at;	/* backing off until; 0: not backing off */
	TimestampTz reset_at;
	SqsErrors	errors;
	SqsOutboxHealth outbox;		/* written by the database worker */

	SqsStarts	starts;			/* of its queue worker */
} SqsQueueStats;

/* What a handler has done with a message of a route. */
typedef enum SqsRouteCounter
{
	SQS_ROUTE_HANDLED,
	SQS_ROUTE_FAILED,
	SQS_ROUTE_DEAD,
	SQS_ROUTE_MICROS,
	SQS_ROUTE_MAX_MICROS,		/* of one message; not a sum */
	SQS_NUM_ROUTE_COUNTERS
} SqsRouteCounter;

/* The statistics of a route; see route_stats.c. */
typedef struct SqsRouteStats
{
	Oid			dboid;			/* InvalidOid: entry is free; these three are
								 * guarded by the control lock */
	int32		queue_id;
	uint64		key_hash;
	pg_atomic_uint64 used_at;	/* TimestampTz */
	pg_atomic_uint64 counters[SQS_NUM_ROUTE_COUNTERS];
} SqsRouteStats;

#define SQS_ROUTE_ENTRIES	4096

typedef struct SqsShared
{
	LWLock	   *lock;			/* the control lock */
	pid_t		launcher_pid;
	PGPROC	   *launcher;		/* NULL: not running */
	TimestampTz no_slot_warned; /* last warning that slots are short */
	pg_atomic_uint64 launcher_waits_since;	/* like waits_since in
											 * SqsQueueStats */
	pg_atomic_uint64 handler_left_at;	/* TimestampTz: a handler's slot was
										 * last freed */
	pg_atomic_uint64 last_id;	/* see ids.c */
	pg_atomic_uint64 last_queue_id;
	pg_atomic_uint64 role_changes;	/* counts commits that changed roles or
									 * their settings */
	ConditionVariable slots_cv; /* broadcast when a slot becomes free */
	TimestampTz crashed_before; /* the server, at some time before this one;
								 * 0: it was shut down */
	int			nslots;
	int			ndatabases;
	int			nqueues;		/* entries: 2 * max_queues, see above */
	SqsWorkerSlot *slots;
	SqsDatabase *databases;
	SqsQueueStats *queues;
	SqsRouteStats *routes;		/* SQS_ROUTE_ENTRIES */
} SqsShared;

extern SqsShared *sqs_shared;

extern void sqs_shmem_init(void);	/* from _PG_init */

/* Lock that guards the lease table of the queue worker in this slot. */
extern LWLock *sqs_slot_lock(int slot);

#endif							/* SQSBRIDGE_SHMEM_H */
