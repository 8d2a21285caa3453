/*-------------------------------------------------------------------------
 *
 * databases.h
 *	  The databases that have work, or that somebody blocks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_DATABASES_H
#define SQSBRIDGE_DATABASES_H

#include "base/shmem.h"

/*
 * Database entries.  sqs_database_get() creates one if need be; NULL if the
 * table is full.  The pointer stays valid while the caller's interest in it
 * is recorded (a slot, a blocker, "wanted").
 */
extern SqsDatabase *sqs_database_find(Oid dboid);
extern SqsDatabase *sqs_database_get(Oid dboid);
extern void sqs_database_forget(Oid dboid, bool gone);
extern bool sqs_database_block(Oid dboid);
extern void sqs_database_unblock(Oid dboid);
extern void sqs_database_changed(Oid dboid);
extern void sqs_roles_changed(void);
extern void sqs_database_outbox_committed(Oid dboid);

/* The same for a job of the database worker. */
extern bool sqs_job_error(SqsDatabase *database, SqsJob job, const char *text);
extern bool sqs_job_well(SqsDatabase *database, SqsJob job);
extern const char *sqs_job_name(SqsJob job);

/* The entry, or NULL.  Under the control lock. */
extern SqsDatabase *sqs_database_lookup(Oid dboid);

#endif							/* SQSBRIDGE_DATABASES_H */
