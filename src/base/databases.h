/*-------------------------------------------------------------------------
 *
 * databases.h
 *	  The databases that have work, or that a backend blocks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_DATABASES_H
#define SQSBRIDGE_DATABASES_H

#include "base/shmem.h"

/*
 * sqs_database_find() returns NULL if the database has no entry;
 * sqs_database_get() creates one, and returns NULL if the table is full.  The
 * entry stays the database's as long as it has a worker slot, a blocker or a
 * mark, so a worker may keep the pointer.
 */
extern SqsDatabase *sqs_database_find(Oid dboid);
extern SqsDatabase *sqs_database_get(Oid dboid);
extern void sqs_database_forget(Oid dboid, bool gone);
extern bool sqs_database_block(Oid dboid);
extern void sqs_database_unblock(Oid dboid);
extern void sqs_database_changed(Oid dboid);
extern void sqs_roles_changed(void);
extern void sqs_database_outbox_committed(Oid dboid);

/*
 * A job of the database worker has failed, or succeeded; both return whether
 * that is to be logged.  For the database worker only.
 */
extern bool sqs_job_error(SqsDatabase *database, SqsJob job, const char *text);
extern bool sqs_job_well(SqsDatabase *database, SqsJob job);
extern const char *sqs_job_name(SqsJob job);

/* The entry, or NULL.  The caller holds the control lock. */
extern SqsDatabase *sqs_database_lookup(Oid dboid);

#endif							/* SQSBRIDGE_DATABASES_H */
