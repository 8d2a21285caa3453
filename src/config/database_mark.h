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

/*
 * This database has work, if the current transaction commits.  To be called
 * after the row that says so was written, by whatever registers, alters,
 * enables or adopts a queue.
 */
extern void sqs_mark_database_wanted(void);

/*
 * The database worker's way out.  sqs_mark_lock() takes the lock under which
 * nobody marks this database, or returns false at once if somebody is about
 * to; it is held until the transaction ends.  With it, and having found
 * nothing to do, the mark can be removed.
 */
extern bool sqs_mark_lock(void);
extern void sqs_mark_remove(void);

/* The database, or the extension in it, is being dropped. */
extern void sqs_mark_drop(Oid dboid);

/* For the launcher: the OIDs of marked databases, whether they exist or not. */
extern List *sqs_marked_databases(void);

#endif							/* SQSBRIDGE_DATABASE_MARK_H */
