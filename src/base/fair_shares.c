/*-------------------------------------------------------------------------
 *
 * fair_shares.c
 *	  Every queue has its first handler before any has its second.
 *
 * There is no central allocator of worker slots.  A supervisor that is refused
 * a slot without which a queue or a database cannot work at all records the
 * time in shared memory.  Queue workers that have more than one handler check
 * for such a time before they take another, and give one back.  See
 * src/README, "Processes".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/fair_shares.h"
#include "base/settings.h"

/*
 * A waiting supervisor asks again, and renews the time, every ten seconds or
 * so.  An older time was left behind by a process that is gone.
 */
#define WAIT_EXPIRES_MS		30000

/*
 * May this role have another handler, with regard to
 * sqsbridge.max_handlers_per_role?  The caller holds the control lock.
 */
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
 * When was a supervisor that is still waiting last refused a slot without
 * which a queue or database cannot work at all?  Returns 0 if none is
 * waiting.  The caller holds the control lock.
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

/*
 * Record, or with "wanted" false clear, that a supervisor was refused a slot
 * without which a queue or a database cannot work at all.  While one is
 * waiting, no queue may take a second or further handler, and the queue that
 * has the most gives one back.
 */
void
sqs_slot_wanted(pg_atomic_uint64 *waits_since, bool wanted)
{
	pg_atomic_write_u64(waits_since, wanted ? (uint64) GetCurrentTimestamp() : 0);
}

/*
 * Could every queue that runs still get its first handler if one more slot
 * were taken?  A queue whose handlers have exited because they were idle needs
 * one at once when a message comes, however long the work is that others have
 * taken on in the meantime.  Other users of max_worker_processes are unknown to us,
 * except for PostgreSQL's own logical replication launcher.  Control lock.
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

/*
 * May a queue of this owner, with nhandlers handler workers, start another?
 * If not, *why is set to a static string.
 */
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

/*
 * Must this queue, with nhandlers handler workers, give one back?  Only the
 * queue with the most handlers must; every queue worker finds that out for
 * itself, by the same rule.
 */
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
	/* if a slot has become free since, the one who waits just has to take it */
	give = since != 0 && since > (TimestampTz) pg_atomic_read_u64(&sqs_shared->handler_left_at);

	/* not if another queue has more; of equals, the first gives one back */
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
