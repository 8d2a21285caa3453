/*-------------------------------------------------------------------------
 *
 * slots.h
 *	  Worker slots: which worker processes there are.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_SLOTS_H
#define SQSBRIDGE_SLOTS_H

#include "base/shmem.h"

/* All of these take the control lock; the caller must not hold it. */
extern int	sqs_slot_claim(SqsWorkerKind kind, Oid dboid, int32 queue_id,
						   Oid role, dsm_handle segment, uint16 *generation);
extern bool sqs_slot_attach(int slot, uint16 generation);
extern void sqs_slot_release(int slot, uint16 generation);

/* Does the slot still have this occupant? */
extern bool sqs_slot_is(int slot, uint16 generation);

/* Is a worker of this kind still starting? */
extern bool sqs_start_under_way(SqsWorkerKind kind, Oid dboid);

/* Slot of the worker of this kind for this database and queue; -1: none. */
extern int	sqs_slot_find(SqsWorkerKind kind, Oid dboid, int32 queue_id);

/* The number of slots in use for this database. */
extern int	sqs_slots_of_database(Oid dboid);

/* SIGTERM to the supervisors of this database: its database and queue workers. */
extern void sqs_terminate_workers(Oid dboid);
extern void sqs_terminate_queue_worker(Oid dboid, int32 queue_id);

extern const char *sqs_worker_state_name(SqsWorkerState state);
extern const char *sqs_worker_kind_name(SqsWorkerKind kind);

#endif							/* SQSBRIDGE_SLOTS_H */
