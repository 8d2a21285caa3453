/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  What the four kinds of worker processes have in common.
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
	BackgroundWorkerHandle *handle; /* palloc'd, or NULL */
} SqsWorkerRef;

typedef enum SqsLaunch
{
	SQS_LAUNCHED,
	SQS_LAUNCH_NO_SLOT			/* sqsbridge.max_workers or
								 * max_worker_processes */
} SqsLaunch;

extern SqsLaunch sqs_worker_launch(SqsWorkerKind kind, Oid dboid,
								   int32 queue_id, Oid role,
								   dsm_handle segment, const char *label,
								   SqsWorkerRef *ref);

/* Is the worker running, or being started? */
extern bool sqs_worker_alive(SqsWorkerRef *ref);

/* Warn that slots are short, and say how many are needed. */
extern void sqs_warn_no_slot(void);

/*
 * To be called first in each dynamic worker, with signals still blocked: take
 * the slot, and make sure that it is released however the process ends.  Exits
 * if the slot cannot be taken.
 */
extern void sqs_worker_attach(Datum arg);
extern int	sqs_my_slot;
extern uint16 sqs_my_generation;
#define MySlot	(&sqs_shared->slots[sqs_my_slot])

/* Install the signal handlers of all workers but the handler workers. */
extern void sqs_worker_signals(void);

/*
 * Make this process a session: of the database (InvalidOid: of none) and, as
 * BackgroundWorkerInitializeConnectionByOid(), of the role, with flags.
 */
extern void sqs_worker_connect(Oid dboid, Oid role, uint32 flags);

/*
 * Whatever runs between these two is canceled after ms, and as soon as the
 * worker is told to stop.  sqs_bound_end() must be called after an error, too.
 */
extern void sqs_bound_begin(int ms);
extern void sqs_bound_end(void);

/* Begin, with an active snapshot, and commit a short transaction. */
extern void sqs_begin(void);
extern void sqs_commit(void);

/* In PG_CATCH: log the error, abort, and go on in this memory context. */
extern void sqs_recover_from_error(MemoryContext context);

/* Make a resource owner that outlives transactions the current one. */
extern void sqs_own_resources(void);

/* Create a DSM segment that outlives transactions. */
extern dsm_segment *sqs_segment_create(Size size);

/*
 * How far the synchronous standbys have flushed; the greatest LSN if none are
 * configured.
 */
extern bool sqs_has_sync_standbys(void);
extern XLogRecPtr sqs_standbys_flushed(void);

/*
 * Two clocks, in ms.  sqs_now_ms() never goes back, and advances while the
 * machine is suspended.  sqs_wall_ms() is the time of day: only it shows for
 * how long a virtual machine was paused, once the guest has corrected it.
 */
extern int64 sqs_now_ms(void);
extern int64 sqs_wall_ms(void);

/* The delay after a number of failures in a row, with a jitter. */
extern long sqs_backoff_ms(int failures, long base_ms, long cap_ms);

extern void sqs_set_worker_state(SqsWorkerState state);

/* Does a backend need the database free of workers?  Then this one exits. */
extern bool sqs_database_is_blocked(Oid dboid);

#endif							/* SQSBRIDGE_WORKER_H */
