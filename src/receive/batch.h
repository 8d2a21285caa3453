/*-------------------------------------------------------------------------
 *
 * batch.h
 *	  Running a batch of messages, in a handler worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_BATCH_H
#define SQSBRIDGE_BATCH_H

extern void sqs_batch_init(void);

/* Another message of the batch has come. */
extern void sqs_batch_collect(const char *frame, Size len);

/* Which messages have come; false: none. */
extern bool sqs_batch_range(uint64 *from, uint64 *to);

/* Run those from this one on, and report; returns how many they were. */
extern int	sqs_batch_run(uint64 from);

/* Forget them. */
extern void sqs_batch_reset(void);

#endif							/* SQSBRIDGE_BATCH_H */
