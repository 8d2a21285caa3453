/*-------------------------------------------------------------------------
 *
 * wakeup.h
 *	  Setting the latch of whoever there is.
 *
 * None of these fails, and none wakes a process that is not there any more: a
 * slot is released before its process is gone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_WAKEUP_H
#define SQSBRIDGE_WAKEUP_H

#include "base/shmem.h"

extern void sqs_wake_launcher(void);

/* All workers of a database. */
extern void sqs_wake_workers(Oid dboid);

/* The worker in a slot, if it is still the same. */
extern void sqs_wake_slot(int slot, uint16 generation);

/* The database workers of all databases.  Under the control lock. */
extern void sqs_wake_database_workers(void);

#endif							/* SQSBRIDGE_WAKEUP_H */
