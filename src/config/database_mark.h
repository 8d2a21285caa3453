/*-------------------------------------------------------------------------
 *
 * database_mark.h
 *	  Which databases have work: a mark that the launcher can read.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_DATABASE_MARK_H
#define SQSBRIDGE_DATABASE_MARK_H

#include "nodes/pg_list.h"

/* Mark the database as having work, if the current transaction commits. */
extern void sqs_mark_database_wanted(void);

/*
 * How the database worker ends.  sqs_mark_lock() takes the lock that keeps
 * other transactions from marking this database, or returns false at once if
 * one is about to mark it.  If the worker then finds nothing to do, it removes
 * the mark and commits, which releases the lock.
 */
extern bool sqs_mark_lock(void);
extern void sqs_mark_remove(void);

/* The database, or the extension in it, is being dropped: remove its marks. */
extern void sqs_mark_drop(Oid dboid, bool wait);

/* For the launcher: the OIDs of marked databases, whether they exist or not. */
extern List *sqs_marked_databases(void);

#endif							/* SQSBRIDGE_DATABASE_MARK_H */
