/*-------------------------------------------------------------------------
 *
 * attempts.h
 *	  How often a message has failed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_ATTEMPTS_H
#define SQSBRIDGE_ATTEMPTS_H

#include "storage/itemptr.h"
#include "utils/timestamp.h"

#include "aws/sqs_protocol.h"

/* What is recorded of a message; all zero: nothing is. */
typedef struct SqsAttempts
{
	bool		found;
	ItemPointerData tid;		/* its row, if there is one */
	int			attempts;		/* that have failed and count */
	int			last_receive_count;
	TimestampTz first_failed_at;
	int			last_sqlstate;	/* as ErrorData has it */
	int			marks;
} SqsAttempts;

/* Read what is recorded of a message. */
extern void sqs_attempts_read(int32 queue_id, SqsSlice message_id, SqsAttempts *attempts);

/* Record that an attempt has failed; "charged": it counts. */
extern void sqs_attempts_failed(int32 queue_id, SqsSlice message_id, int receive_count,
								int sqlstate, bool charged, SqsAttempts *attempts);

/*
 * Record that a message begins, as it may be the one that made the server crash;
 * or that it has ended without doing so.
 */
extern void sqs_attempts_mark(int32 queue_id, SqsSlice message_id, const SqsAttempts *attempts);
extern void sqs_attempts_unmark(int32 queue_id, SqsSlice message_id, int receive_count);

/* The message is done with: forget it. */
extern void sqs_attempts_remove(const SqsAttempts *attempts);

#endif							/* SQSBRIDGE_ATTEMPTS_H */
