/*-------------------------------------------------------------------------
 *
 * wake_at_commit.h
 *	  Waking the workers when a transaction that concerns them has committed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_WAKE_AT_COMMIT_H
#define SQSBRIDGE_WAKE_AT_COMMIT_H

/* Wake the workers of this database if the current transaction commits. */
extern void sqs_wake_at_commit(void);

/* The same for roles and their settings, which concern all databases. */
extern void sqs_roles_changed_at_commit(void);

/* A server, or a user mapping, changes: shared keys may have become useless. */
extern void sqs_servers_changed_at_commit(void);
extern void sqs_mappings_changed_at_commit(void);

/*
 * How often sqs_wake_at_commit() was called in this process.  Code that keeps a
 * copy of some configuration compares it to know whether the current
 * transaction may have changed the original.
 */
extern uint64 sqs_config_changes;

extern void sqs_wake_at_commit_init(void);	/* from _PG_init */

#endif							/* SQSBRIDGE_WAKE_AT_COMMIT_H */
