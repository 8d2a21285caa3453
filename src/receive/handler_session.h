/*-------------------------------------------------------------------------
 *
 * handler_session.h
 *	  The session of a handler worker, and what its transactions have in
 *	  common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_HANDLER_SESSION_H
#define SQSBRIDGE_HANDLER_SESSION_H

#include <signal.h>

#include "access/xlogdefs.h"
#include "utils/timeout.h"

#include "base/queue_stats.h"
#include "receive/channel.h"

/* How long to wait for a lock on one of the extension's tables. */
#define SQS_TABLE_LOCK_TIMEOUT_MS	2000

typedef struct SqsHandlerSession
{
	SqsChannel *channel;
	Oid			owner;			/* of the queue: whose session this is */
	MemoryContext message_context;	/* reset after each message */
	bool		over;			/* the owner's rights have changed */
	TimeoutId	timeout_id;		/* of handler_timeout */
	uint32		wait_event;

	/* about the current message; handler.c sets and clears them */
	volatile sig_atomic_t timed_out;	/* its handler_timeout has passed */
	volatile sig_atomic_t term_seen;	/* it is the last one */
	bool		lease_over;		/* the fence found the lease at its end */
} SqsHandlerSession;

extern SqsHandlerSession sqs_session;

/*
 * Become a session of sqs_session.owner.  Between messages: must a new session
 * take over, and, if not, clean this one.
 */
extern void sqs_session_start(Oid dboid, int32 queue_id);
extern bool sqs_session_is_over(void);
extern void sqs_session_clean(void);

/* An ERROR if the session has rights that a new one would not have, or lacks some. */
extern void sqs_session_check_rights(void);

/* Whether, and why, the queue worker wants the current message canceled. */
extern SqsCancel sqs_session_cancel(void);

/* The outcome, if the transaction was aborted for a reason of ours. */
extern SqsOutcome sqs_session_interrupted(SqsOutcome otherwise);

/* Is nothing of this route (-1: none) to be run for the present? */
extern bool sqs_session_route_is_held(int route);

/* Wait for so long, or until the current message is canceled or the last one. */
extern void sqs_session_nap(int ms);

/* Count something for the queue. */
extern void sqs_session_count(SqsCounter counter);

/* Has the lease of this message ended? */
extern bool sqs_session_lease_has_ended(SqsDelivery *delivery);

/* The last check before a commit, for all messages of a transaction. */
extern void sqs_session_fence(SqsDelivery *const *deliveries, int n);

/* Commit asynchronously; returns what must be durable. */
extern XLogRecPtr sqs_session_commit(const SqsDelivery *delivery);

/*
 * A transaction of our own, not the handler's: READ COMMITTED, with an active
 * snapshot.
 */
extern void sqs_session_begin(void);
extern void sqs_session_end(void);

/* Call a function under another lock_timeout; 0: none. */
extern void sqs_session_with_lock_timeout(int ms, void (*function) (void *arg), void *arg);

#endif							/* SQSBRIDGE_HANDLER_SESSION_H */
