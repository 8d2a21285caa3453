/*-------------------------------------------------------------------------
 *
 * channel.h
 *	  What travels between a queue worker and one handler worker.
 *
 * There is a DSM segment per handler worker, with a shm_mq that carries messages
 * to it, and a block of shared state for everything else.
 *
 * Messages have sequence numbers, 1, 2, 3 ... per channel.  The queue worker
 * may send several in advance, so that a quick handler never waits.  Under the
 * mutex the handler takes one ("current"), and the queue worker takes back those
 * not taken yet ("revoked"), so that it can limit how long a message waits for a
 * slow one that was sent before it.
 *
 * A handler that takes batches gets them in the same way.  It collects messages
 * that have SQS_FRAME_BATCH until a frame with SQS_FRAME_RUN comes, which is no
 * message and has no number.  Then it takes all of them at once, and "current"
 * to "current_to" is the batch.
 *
 * Results come back through a ring in the segment.  It has room for one
 * result per message that can be outstanding, so it is never full.  A result
 * that is there survives the death of the handler that wrote it.
 *
 * A result DONE says "committed", with the LSN up to which WAL must be
 * durable before the message may be deleted; it does not say "durable".
 *
 * The end of each outstanding message's lease is in the segment, too, by two
 * clocks, and is updated when the lease is renewed.  The handler compares it
 * with the time before it commits, so it need not rely on the queue worker.
 *
 * When the queue worker detaches, however it exits, the channel is abandoned:
 * the handler finishes its current message and begins no other, although there
 * may be more in the shm_mq.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_CHANNEL_H
#define SQSBRIDGE_CHANNEL_H

#include "access/xlogdefs.h"
#include "lib/stringinfo.h"
#include "port/atomics.h"
#include "storage/dsm.h"
#include "storage/proc.h"
#include "storage/s_lock.h"
#include "storage/shm_mq.h"
#include "storage/spin.h"

#include "aws/sqs_protocol.h"
#include "config/error_rules.h"

/* Messages outstanding at most, if the handler takes them one by one. */
#define SQS_CHANNEL_DEPTH		32

/* If it takes batches: bytes of bodies in one; into how many parts it is split. */
#define SQS_BATCH_PARTS			8
#define SQS_BATCH_BYTES			((Size) 8 * 1024 * 1024)
#define SQS_RESULT_TEXT			256
#define SQS_CHANNEL_ROUTES		32	/* of those held, the handler knows so
									 * many */

typedef enum SqsOutcome
{
	SQS_OUTCOME_DONE,			/* committed; durable once lsn is */
	SQS_OUTCOME_DUPLICATE,		/* committed earlier; durable once lsn is */
	SQS_OUTCOME_DISCARDED,		/* not to be handled, and that is committed;
								 * durable once lsn is */
	SQS_OUTCOME_DEAD,			/* a dead letter, and that is committed;
								 * durable once lsn is */
	SQS_OUTCOME_FAILED,			/* rolled back and recorded */
	SQS_OUTCOME_LOST,			/* rolled back: the lease was lost */
	SQS_OUTCOME_STOPPED,		/* rolled back for a shutdown */
	SQS_OUTCOME_SKIPPED,		/* not run: an earlier one of its group failed */
	SQS_OUTCOME_CANNOT_RUN,		/* not run: there is no handler to call */
	SQS_OUTCOME_LOCKED,			/* not run: the inbox is locked */
	SQS_OUTCOME_HELD,			/* not run: its route is held */
	SQS_OUTCOME_NOT_RUN,		/* not run, or rolled back for no reason of
								 * its own: to be handed out again */
	SQS_OUTCOME_ALONE			/* not run: to be handed out when nothing else
								 * runs */
} SqsOutcome;

typedef struct SqsResult
{
	uint64		seq;
	SqsOutcome	outcome;
	uint32		micros;			/* the handler's time */
	XLogRecPtr	lsn;
	SqsErrorAction action;		/* FAILED: RETRY, PAUSE, THROTTLE, or KILLED */
	bool		is_verdict;		/* FAILED: the handler has said so */
	int			sqlstate;		/* FAILED: of the error */
	int32		delay;			/* FAILED: s; -1: when the lease ends */
	int32		attempt;		/* FAILED: which one; 0: it does not count */
	int32		route;			/* number of the route; -1: none */
	bool		unroutable;		/* no route was for it */
	bool		unrecorded;		/* FAILED, and no row in sqs_failures says so */
	char		text[SQS_RESULT_TEXT];	/* FAILED, CANNOT_RUN, LOCKED: the
										 * error; if unrecorded, why */
} SqsResult;

/* Does the message come to its end by this, so that it is to be deleted? */
static inline bool
sqs_outcome_is_end(SqsOutcome outcome)
{
	return outcome == SQS_OUTCOME_DONE || outcome == SQS_OUTCOME_DUPLICATE ||
		outcome == SQS_OUTCOME_DISCARDED || outcome == SQS_OUTCOME_DEAD;
}

/* Why the queue worker cancels what the handler runs. */
typedef enum SqsCancel
{
	SQS_CANCEL_NONE,
	SQS_CANCEL_LEASE_LOST,
	SQS_CANCEL_SHUTDOWN
} SqsCancel;

/* In ms.  The lease has ended when either clock has reached its value. */
typedef struct SqsLeaseEnd
{
	int64		uptime;			/* of sqs_now_ms(), which advances in a
								 * suspend */
	int64		wall;			/* of sqs_wall_ms(), corrected after a pause */
} SqsLeaseEnd;

typedef struct SqsChannelShared
{
	/* fixed before the handler starts */
	int32		queue_id;
	PGPROC	   *leader;
	char		queue[96];		/* local name of the queue */

	uint32		depth;			/* messages outstanding at most */

	slock_t		mutex;			/* guards these, and lease_ends */
	uint64		current;		/* seq being handled; 0: none */
	uint64		current_to;		/* the last of its batch; else the same */
	int64		current_since;	/* start of the call, monotonic µs */
	uint64		taken;			/* highest seq taken or skipped over */
	uint64		revoked_to;		/* seqs > taken and <= this are not to be run */
	SqsCancel	cancel;			/* for the current one, or its batch */
	int			nheld;			/* routes that are held: */
	int16		held[SQS_CHANNEL_ROUTES];	/* their numbers, as in SqsResult */

	/*
	 * The queue worker is about to signal the handler because of the current
	 * message.  Set under the mutex, cleared after the kill().  In between,
	 * the handler begins no other message, so that the signal cannot hit that
	 * one.
	 */
	pg_atomic_uint32 signaling;

	pg_atomic_uint32 stop;		/* exit when there is nothing more to do */
	pg_atomic_uint32 stopping;	/* begin no further part of a batch */
	pg_atomic_uint32 abandoned; /* the queue worker is gone: begin no message */
	pg_atomic_uint32 ready;		/* the handler has connected */
	pg_atomic_uint32 retention; /* s that SQS keeps a message; 0: unknown */
	pg_atomic_uint32 term_requested;	/* a first SIGTERM has come */
	pg_atomic_uint32 overran;	/* terminates itself: it ignored its timeout */

	pg_atomic_uint64 results_written;	/* by the handler */
	pg_atomic_uint64 results_read;	/* by the queue worker */
} SqsChannelShared;

typedef struct SqsChannel
{
	dsm_segment *segment;
	SqsChannelShared *shared;
	SqsLeaseEnd *lease_ends;	/* shared, too; by seq, sqs_channel_place() */
	SqsResult  *results;		/* shared, by results_written */
	shm_mq_handle *messages;
} SqsChannel;

/* Where in an array with a place for each message outstanding. */
static inline uint32
sqs_channel_place(const SqsChannel *channel, uint64 n)
{
	return (uint32) (n % channel->shared->depth);
}

/* Flags of a frame; the rest of them is an SqsUnwrap. */
#define SQS_FRAME_EXACTLY_ONCE	0x01
#define SQS_FRAME_TRIED			0x02	/* has failed in this queue worker's
										 * hand */
#define SQS_FRAME_UNCHARGED		0x04	/* a failure does not count */
#define SQS_FRAME_SUSPECT		0x08	/* was in somebody's hand when the
										 * server crashed; the only one that
										 * runs */
#define SQS_FRAME_ALONE			0x10	/* a suspect, and nothing else runs */
#define SQS_FRAME_BATCH			0x20	/* collect it, ... */
#define SQS_FRAME_RUN			0x40	/* ... and run what was collected */
#define SQS_FRAME_PARKS			0x80	/* its message group may be parked */
#define SQS_FRAME_ROUTED		0x100	/* see routing.h */
#define SQS_FRAME_BLAME			0x200	/* an error that pauses the queue is
										 * this message's own */
#define SQS_FRAME_PROBE			0x400	/* to be run although its route is
										 * held */
#define SQS_FRAME_VERIFY_SNS	0x1000	/* only if SNS has signed it */
#define SQS_FRAME_UNWRAP_SHIFT	16

/*
 * A message, and what the handler worker must know to handle it.  This header is
 * followed by attribute headers, then by all strings in order, with the body at
 * the end.  Before the body is the header of a text, aligned, so that the handler
 * worker need not copy it.
 */
typedef struct SqsFrame
{
	uint64		seq;
	uint32		chain;			/* FIFO: see dispatch.c; 0: none */
	uint32		flags;
	int32		handler_timeout;	/* ms; 0: none */
	int32		receive_count;
	int64		sent_ms;
	int64		first_received_ms;
	int64		stamp;			/* of its row in the inbox; 0: it gets none */
	uint64		change;			/* of the configuration; see handling.c */
	Oid			handler_owner;	/* role that the function must belong to */
	uint32		handler_len;
	uint32		message_id_len;
	uint32		receipt_handle_len;
	int32		group_id_len;	/* -1: absent */
	int32		deduplication_id_len;
	int32		sequence_number_len;
	int32		body_md5_len;
	uint32		nattributes;
	uint32		nsystem;
	uint32		body_len;
	int32		damage_len;		/* -1: the message is whole */
} SqsFrame;

typedef struct SqsFrameAttribute
{
	uint32		name_len;
	uint32		type_len;
	uint32		value_len;
	uint32		binary;
} SqsFrameAttribute;

/*
 * The queue worker's end.  Creation raises an error if no shared memory is
 * available, and then leaves nothing behind.
 */
extern SqsChannel *sqs_channel_create(int32 queue_id, const char *queue_name, int depth);
extern void sqs_channel_destroy(SqsChannel *channel);

/* Encode the frame without the body, which need not be copied to be sent. */
extern void sqs_frame_encode(StringInfo buf, uint64 seq, uint32 chain,
							 uint32 flags, int handler_timeout,
							 int64 stamp, uint64 change, const char *handler, Oid handler_owner,
							 const SqsReceivedMessage *message);

/* Encode the frame that says to run what was collected. */
extern void sqs_frame_run(StringInfo buf);

/* The handler worker's end; NULL if the queue worker is gone. */
extern SqsChannel *sqs_channel_attach(dsm_handle handle);

/* Decoded in place: slices point into the frame. */
typedef struct SqsDelivery
{
	SqsFrame	frame;
	SqsSlice	handler;
	SqsSlice	damage;
	text	   *body;			/* of the message */
	SqsReceivedMessage message;
} SqsDelivery;

extern void sqs_frame_decode(const char *data, Size len, SqsDelivery *delivery);

#endif							/* SQSBRIDGE_CHANNEL_H */
