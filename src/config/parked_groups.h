/*-------------------------------------------------------------------------
 *
 * parked_groups.h
 *	  Which message groups of FIFO queues are parked.
 *
 * After a dead letter, the messages that follow it in its group are not handled
 * but kept with it, if the queue's option on_dead_letter says so.
 *
 * All of these need a transaction with an active snapshot.  A group is a text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_PARKED_GROUPS_H
#define SQSBRIDGE_PARKED_GROUPS_H

/*
 * Park a group because of this dead letter (0: one that went to a queue), unless
 * it is parked already.
 */
extern void sqs_group_park(int32 queue_id, Datum group, int64 dead_letter);

/* Is the group parked, as the newest committed row has it? */
extern bool sqs_group_is_parked(int32 queue_id, Datum group);

/*
 * Keep it from being released, and messages from being parked, until the end of
 * the transaction.  False: it is not parked.  Waits for transactions that park
 * messages of it, which are to be looked for with a newer snapshot then.
 */
extern bool sqs_group_lock(int32 queue_id, Datum group);

/* Release the group at the end of the transaction.  False: it is not parked. */
extern bool sqs_group_release(int32 queue_id, Datum group);

/* A queue is unregistered. */
extern void sqs_parked_groups_delete(int32 queue_id);

#endif							/* SQSBRIDGE_PARKED_GROUPS_H */
