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
 * Record (or, with false, clear) that a supervisor was refused a slot without
 * which a queue or a database cannot work at all.  While one waits, no queue
 * may take a handler beyond its first, and the queue that has the most gives
 * one back.
 */
extern void sqs_slot_wanted(pg_atomic_uint64 *waits_since, bool wanted);

/*
 * May a queue of this owner that has nhandlers handler workers start another?
 * If not, *why is set to a static string.
 */
extern bool sqs_may_take_handler(Oid owner, int nhandlers, const char **why);

/* Must this queue give one of its nhandlers handler workers back? */
extern bool sqs_must_give_back(Oid dboid, int32 queue_id, int nhandlers);

/*
 * When was a supervisor that still waits last refused a first slot?  0: none
 * waits.  And: may this role have another handler, with regard to
 * sqsbridge.max_handlers_per_role?  The caller holds the control lock.
 */
extern TimestampTz sqs_somebody_waits(TimestampTz now);
extern bool sqs_role_may_have_handler(Oid role);

#endif							/* SQSBRIDGE_FAIR_SHARES_H */
