/*-------------------------------------------------------------------------
 *
 * fair_shares.c
 *	  Every queue has its first handler before any has its second.
 *
 * Nobody divides the slots up.  Whoever is refused one without which a queue, or
 * a database, cannot work at all leaves the time in shared memory; those who
 * have more than they need look at it before they take another, and give one
 * back.  See src/README, "Processes".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/fair_shares.h"
#include "base/settings.h"

/*
 * Whoever waits asks again every ten seconds or so.  What is older was left
 * by a process that is gone.
 */
#define WAIT_EXPIRES_MS		30000

/* Under the control lock. */
bool
sqs_role_may_have_handler(Oid role)
{
	int			n = 0;

	if (sqs_max_handlers_per_role == 0)
		return true;
	for (int i = 0; i < sqs_shared->nslots; i++)
	{
		SqsWorkerSlot *slot = &sqs_shared->slots[i];

		if (slot->in_use && slot->kind == SQS_HANDLER_WORKER && slot->role == role)
			n++;
	}
	return n < sqs_max_handlers_per_role;
}

/*
 * When was somebody last refused a first slot, and has got none since?  0:
 * nobody waits.  Under the control lock.
 */
TimestampTz
sqs_somebody_waits(TimestampTz now)
{
	TimestampTz latest = (TimestampTz) pg_atomic_read_u64(&sqs_shared->launcher_waits_since);

	for (int i = 0; i < sqs_shared->nqueues; i++)
	{
		SqsQueueStats *stats = &sqs_shared->queues[i];

		if (OidIsValid(stats->dboid))
			latest = Max(latest, (TimestampTz) pg_atomic_read_u64(&stats->waits_since));
	}
	return latest == 0 || TimestampDifferenceExceeds(latest, now, WAIT_EXPIRES_MS) ? 0 : latest;
}

void
sqs_slot_wanted(pg_atomic_uint64 *waits_since, bool wanted)
{
	pg_atomic_write_u64(waits_since, wanted ? (uint64) GetCurrentTimestamp() : 0);
}

/*
 * Would all queues that run still get a first handler if one slot more were
 * taken?  A handler that has left for idleness has to come back at once when
 * there is a message, whatever long work others have taken on meanwhile.  What
 * else takes worker processes we do not know: one is counted, PostgreSQL's own
 * launcher of logical replication.
 */
static bool
leaves_room(void)
{
	int			in_use = 0;
	int			queue_workers = 0;
	int			running = 0;
	int			without = 0;

	for (int i = 0; i < sqs_shared->nslots; i++)
	{
		SqsWorkerSlot *slot = &sqs_shared->slots[i];

		if (!slot->in_use)
			continue;
		in_use++;
		if (slot->kind != SQS_QUEUE_WORKER)
			continue;
		queue_workers++;
		if (pg_atomic_read_u32(&slot->handlers) == 0)
			without++;
	}
	for (int i = 0; i < sqs_shared->nqueues; i++)
	{
		if (OidIsValid(sqs_shared->queues[i].dboid) && sqs_shared->queues[i].runs)
			running++;
	}
	/* a queue that has no queue worker yet needs two */
	if (running > queue_workers)
		without += 2 * (running - queue_workers);
	return Min(sqs_shared->nslots, max_worker_processes - 2) - in_use > without;
}

bool
sqs_may_take_handler(Oid owner, int nhandlers, const char **why)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		waits;
	bool		room;
	bool		may;

	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	waits = nhandlers > 0 && sqs_somebody_waits(now) != 0;
	room = nhandlers == 0 || leaves_room();
	may = sqs_role_may_have_handler(owner);
	LWLockRelease(sqs_shared->lock);

	if (waits)
		*why = "another queue waits for its first handler";
	else if (!room)
		*why = "the worker slots that are left are for queues without a handler";
	else if (!may)
		*why = "the queues of its owner have as many handlers as sqsbridge.max_handlers_per_role allows";
	return may && !waits && room;
}

bool
sqs_must_give_back(Oid dboid, int32 queue_id, int nhandlers)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz since;
	bool		give;

	if (nhandlers < 2)
		return false;

	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	since = sqs_somebody_waits(now);
	/* a slot that has become free since has not been asked for yet */
	give = since != 0 && since > (TimestampTz) pg_atomic_read_u64(&sqs_shared->handler_left_at);

	/* not if another queue has more; of equals, the first gives */
	for (int i = 0; give && i < sqs_shared->nslots; i++)
	{
		SqsWorkerSlot *other = &sqs_shared->slots[i];
		int			n = (int) pg_atomic_read_u32(&other->handlers);

		if (!other->in_use || other->kind != SQS_QUEUE_WORKER ||
			pg_atomic_read_u32(&other->state) == SQS_WORKER_STOPPING ||
			(other->dboid == dboid && other->queue_id == queue_id))
			continue;
		if (n > nhandlers ||
			(n == nhandlers && (other->dboid < dboid ||
								(other->dboid == dboid && other->queue_id < queue_id))))
			give = false;
	}
	LWLockRelease(sqs_shared->lock);
	return give;
}
