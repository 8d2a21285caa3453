/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  What the four kinds of worker processes share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_WORKER_H
#define SQSBRIDGE_WORKER_H

#include <signal.h>

#include "access/xlogdefs.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"

#include "base/shmem.h"

/* Entry points, by name, for the postmaster. */
extern PGDLLEXPORT void sqs_launcher_main(Datum arg);
extern PGDLLEXPORT void sqs_database_worker_main(Datum arg);
extern PGDLLEXPORT void sqs_queue_worker_main(Datum arg);
extern PGDLLEXPORT void sqs_handler_worker_main(Datum arg);

/* A worker as its supervisor knows it. */
typedef struct SqsWorkerRef
{
	int			slot;			/* -1: none */
	uint16		generation;
	BackgroundWorkerHandle *handle; /* palloc'd; NULL once it has attached */
} SqsWorkerRef;

typedef enum SqsLaunch
{
	SQS_LAUNCHED,
	SQS_LAUNCH_NO_SLOT			/* sqsbridge.max_workers or max_worker_processes */
} SqsLaunch;

extern SqsLaunch sqs_worker_launch(SqsWorkerKind kind, Oid dboid,
								   int32 queue_id, Oid role,
								   dsm_handle segment, const char *label,
								   SqsWorkerRef *ref);

/*
 * Is that worker still there, or on its way?  Cleans up after one that died
 * before it could attach.
 */
extern bool sqs_worker_alive(SqsWorkerRef *ref);

/* WARNING about missing slots, with the formula; once an hour at most. */
extern void sqs_warn_no_slot(void);

/*
 * First thing in each dynamic worker: find and take the slot, and make sure
 * that it is given back however the process ends.  Exits when the slot is
 * not there to be taken.  Signals are still blocked.
 */
extern void sqs_worker_attach(Datum arg);
extern int	sqs_my_slot;
extern uint16 sqs_my_generation;
#define MySlot	(&sqs_shared->slots[sqs_my_slot])

/*
 * SIGTERM in all workers but the handler asks the event loop to stop.  Their
 * own transactions are short, wait for no standby and no longer than
 * lock_timeout for a lock.  SIGINT does nothing: they run nothing that
 * somebody else would have to cancel.
 */
extern void sqs_worker_signals(void);

/*
 * What runs between the two is canceled after so long, and at once when the
 * worker is told to stop.  The second is to be called after an error, too.
 */
extern void sqs_bound_begin(int ms);
extern void sqs_bound_end(void);

/* Short transactions of the workers' own. */
extern void sqs_begin(void);
extern void sqs_commit(void);

/*
 * After an error was caught outside any PL: log it, abort, and be ready for
 * the next cycle.
 */
extern void sqs_recover_from_error(MemoryContext context);

/* Outside transactions too, crypto and DSM want a resource owner. */
extern void sqs_own_resources(void);

/* How far the synchronous standbys have flushed; everything without any. */
extern bool sqs_has_sync_standbys(void);
extern XLogRecPtr sqs_standbys_flushed(void);

/*
 * Two clocks, ms.  The first never goes back, and goes on while the machine
 * is suspended; the second is the time of day, which is what a paused virtual
 * machine sets right when it goes on.
 */
extern int64 sqs_now_ms(void);
extern int64 sqs_wall_ms(void);

/*
 * A worker is about to be launched: the next start is put off as if this one
 * did not last, unless the one before did.  The other takes that back where
 * nothing could be started for want of a slot, which is cheap to ask for again.
 */
#define SQS_RESTART_MIN_MS	1000
#define SQS_RESTART_MAX_MS	300000
extern void sqs_start_begins(SqsStarts *starts, TimestampTz now, long cap_ms);
extern void sqs_start_had_no_slot(SqsStarts *starts, TimestampTz now);

/* base, doubled with each failure after the first, capped, +-13 %. */
extern long sqs_backoff_ms(int failures, long base_ms, long cap_ms);

extern void sqs_set_worker_state(SqsWorkerState state);

/* Does some backend need the database without workers? Then this one leaves. */
extern bool sqs_database_is_blocked(Oid dboid);

#endif							/* SQSBRIDGE_WORKER_H */
