/*-------------------------------------------------------------------------
 *
 * ids.h
 *	  Ids of queues, and ids and positions of the outbox.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_IDS_H
#define SQSBRIDGE_IDS_H

/*
 * An id of a message or a batch of the outbox, or the position of a batch:
 * greater than any given out before in this cluster, and than any that waits
 * in this database.  Needs a transaction with an active snapshot.
 */
extern int64 sqs_new_id(void);

/*
 * An id for a queue that no queue of this database has had, as far as anything
 * remembers it.  Needs the same.  Where two transactions are given the same,
 * the table's key lets one of them have it.
 */
extern int32 sqs_new_queue_id(void);

#endif							/* SQSBRIDGE_IDS_H */
