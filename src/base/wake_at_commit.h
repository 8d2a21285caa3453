/*-------------------------------------------------------------------------
 *
 * wake_at_commit.h
 *	  Telling the workers what a transaction has changed, once it has committed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_WAKE_AT_COMMIT_H
#define SQSBRIDGE_WAKE_AT_COMMIT_H

/*
 * The configuration of this database changes with the current transaction:
 * at its commit, and only then, the workers are told.
 */
extern void sqs_wake_at_commit(void);

/* The same for roles and their settings, which concern all databases. */
extern void sqs_roles_changed_at_commit(void);

/*
 * How often sqs_wake_at_commit() was called in this process: who has copied
 * something of the configuration knows whether it may have changed in this
 * transaction.
 */
extern uint64 sqs_config_changes;

extern void sqs_wake_at_commit_init(void);	/* from _PG_init */

#endif							/* SQSBRIDGE_WAKE_AT_COMMIT_H */
