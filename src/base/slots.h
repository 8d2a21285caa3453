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

/*
 * Slots.  Claiming returns -1 when none is free, or the role has as many
 * handlers as it may.  Release is idempotent and
 * does nothing if the slot has another generation by now.
 */
extern int	sqs_slot_claim(SqsWorkerKind kind, Oid dboid, int32 queue_id,
						   Oid role, dsm_handle segment, uint16 *generation);
extern bool sqs_slot_attach(int slot, uint16 generation);
extern void sqs_slot_release(int slot, uint16 generation);
extern bool sqs_slot_is(int slot, uint16 generation);

/*
 * Is a worker of this kind still starting, in this database, or with
 * InvalidOid in any?  Not after a minute: then it hangs.
 */
extern bool sqs_start_under_way(SqsWorkerKind kind, Oid dboid);

/* Slot of a worker of this kind for this database and queue; -1: none. */
extern int	sqs_slot_find(SqsWorkerKind kind, Oid dboid, int32 queue_id);
extern int	sqs_slots_of_database(Oid dboid);

/* SIGTERM to the supervisors of this database: its database and queue workers. */
extern void sqs_terminate_workers(Oid dboid);
extern void sqs_terminate_queue_worker(Oid dboid, int32 queue_id);

extern const char *sqs_worker_state_name(SqsWorkerState state);
extern const char *sqs_worker_kind_name(SqsWorkerKind kind);

#endif							/* SQSBRIDGE_SLOTS_H */
