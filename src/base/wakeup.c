/*-------------------------------------------------------------------------
 *
 * wakeup.c
 *	  Setting the latches of worker processes.
 *
 * A latch is set while the control lock is held, because a slot's worker may
 * exit, and its PGPROC be reused, as soon as the lock is released.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/latch.h"

#include "base/wakeup.h"

/* Wake the launcher. */
void
sqs_wake_launcher(void)
{
	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	if (sqs_shared->launcher != NULL)
		SetLatch(&sqs_shared->launcher->procLatch);
	LWLockRelease(sqs_shared->lock);
}

/*
 * Wake the database workers of all databases.  The caller holds the control
 * lock.
 */
void
sqs_wake_database_workers(void)
{
	for (int i = 0; i < sqs_shared->nslots; i++)
	{
		SqsWorkerSlot *slot = &sqs_shared->slots[i];

		if (slot->in_use && slot->kind == SQS_DATABASE_WORKER && slot->proc != NULL)
			SetLatch(&slot->proc->procLatch);
	}
}

/* Wake all workers of a database.  Takes the control lock. */
void
sqs_wake_workers(Oid dboid)
{
	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	for (int i = 0; i < sqs_shared->nslots; i++)
	{
		SqsWorkerSlot *slot = &sqs_shared->slots[i];

		if (slot->in_use && slot->dboid == dboid && slot->proc != NULL)
			SetLatch(&slot->proc->procLatch);
	}
	LWLockRelease(sqs_shared->lock);
}

/*
 * Wake the worker in a slot, if it is still the same.  Takes the control
 * lock.
 */
void
sqs_wake_slot(int i, uint16 generation)
{
	SqsWorkerSlot *slot = &sqs_shared->slots[i];

	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	if (slot->in_use && slot->generation == generation && slot->proc != NULL)
		SetLatch(&slot->proc->procLatch);
	LWLockRelease(sqs_shared->lock);
}
