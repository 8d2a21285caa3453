/*-------------------------------------------------------------------------
 *
 * ids.h
 *	  Ids of queues and of dead letters, and ids and positions of the outbox.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_IDS_H
#define SQSBRIDGE_IDS_H

/* A new id of a message or batch of the outbox, or position of a batch. */
extern int64 sqs_new_id(void);

extern int64 sqs_new_dead_letter_id(void);

/*
 * A new id for a queue: one that no queue of this database has, and that no row
 * left by a former queue refers to.  Needs the same.  Should two transactions
 * get the same id, the table's primary key lets only one of them use it.
 */
extern int32 sqs_new_queue_id(void);

#endif							/* SQSBRIDGE_IDS_H */
