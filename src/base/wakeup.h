/*-------------------------------------------------------------------------
 *
 * wakeup.h
 *	  Setting the latches of worker processes.
 *
 * None of these raises an error, and a worker that does not exist is ignored.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_WAKEUP_H
#define SQSBRIDGE_WAKEUP_H

#include "base/shmem.h"

extern void sqs_wake_launcher(void);

/* All workers of a database.  Takes the control lock, as the others do. */
extern void sqs_wake_workers(Oid dboid);

/* The worker in a slot, if it is still the same. */
extern void sqs_wake_slot(int slot, uint16 generation);

/* The database workers of all databases.  The caller holds the control lock. */
extern void sqs_wake_database_workers(void);

#endif							/* SQSBRIDGE_WAKEUP_H */
