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

/*
 * Fair shares: every queue has its first handler before any has its second.
 *
 * A supervisor that is refused a slot without which a queue, or a database,
 * cannot work at all says so, and takes it back when it has got one.
 * While one waits nobody may take a handler beyond its first, and the queue
 * that has the most gives one back.  Nobody may take one, either, that a queue
 * without a handler would then lack.
 */
extern void sqs_slot_wanted(pg_atomic_uint64 *waits_since, bool wanted);

/*
 * May a queue of this owner that has so many handler workers have another?
 * If not, *why says why.
 */
extern bool sqs_may_take_handler(Oid owner, int nhandlers, const char **why);

/* Shall this queue give one of its handler workers back? */
extern bool sqs_must_give_back(Oid dboid, int32 queue_id, int nhandlers);

/*
 * When was somebody last refused a first slot, and has got none since?  0:
 * nobody waits.  And: may this role have another handler?  Both under the
 * control lock.
 */
extern TimestampTz sqs_somebody_waits(TimestampTz now);
extern bool sqs_role_may_have_handler(Oid role);

#endif							/* SQSBRIDGE_FAIR_SHARES_H */
