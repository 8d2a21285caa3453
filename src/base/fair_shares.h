/*-------------------------------------------------------------------------
 *
 * fair_shares.h
 *	  Every queue has its first handler before any has its second.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_FAIR_SHARES_H
#define SQSBRIDGE_FAIR_SHARES_H

#include "base/shmem.h"

/* Record, or clear, that a supervisor was refused a slot. */
extern void sqs_slot_wanted(pg_atomic_uint64 *waits_since, bool wanted);

/* May a queue start another handler worker? */
extern bool sqs_may_take_handler(Oid owner, int nhandlers, const char **why);

/* Must this queue give one of its nhandlers handler workers back? */
extern bool sqs_must_give_back(Oid dboid, int32 queue_id, int nhandlers);

/*
 * The last request for a first slot, 0 if none; may the role have another
 * handler?
 */
extern TimestampTz sqs_somebody_waits(TimestampTz now);
extern bool sqs_role_may_have_handler(Oid role);

#endif							/* SQSBRIDGE_FAIR_SHARES_H */
