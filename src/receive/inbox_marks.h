/*-------------------------------------------------------------------------
 *
 * inbox_marks.h
 *	  For how long rows of the inbox are needed: marks and doubts.
 *
 * All of these need a transaction with an active snapshot.  See src/README,
 * "How long the inbox remembers".
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_INBOX_MARKS_H
#define SQSBRIDGE_INBOX_MARKS_H

#include "storage/itemptr.h"
#include "utils/timestamp.h"

/*
 * SQS keeps a message for 14 days at most; the hour is for clock
 * differences.
 */
#define SQS_MESSAGE_LIFE	((int64) 14 * USECS_PER_DAY + USECS_PER_HOUR)

/* Limit on the doubts of one queue; if there are more, they are joined. */
#define SQS_MAX_DOUBTS		64

typedef struct SqsMark
{
	ItemPointerData tid;
	TimestampTz at;
	TimestampTz low_water;
	bool		open;
} SqsMark;

/* An interval of stamps, both ends included. */
typedef struct SqsDoubt
{
	ItemPointerData tid;		/* invalid: not in the table */
	TimestampTz from;
	TimestampTz to;
	TimestampTz keep_until;
} SqsDoubt;

/* Read the marks or doubts of a queue; palloc'd. */
extern int	sqs_marks_read(int32 queue_id, SqsMark **marks);
extern int	sqs_doubts_read(int32 queue_id, SqsDoubt **doubts);

/* Sort doubts, and join them until there are at most max. */
extern void sqs_doubts_join(SqsDoubt *doubts, int *n, int max);

/* Write the newest mark.  False, with nothing written, if the table is locked. */
extern bool sqs_mark_write(int32 queue_id, int64 retention, TimestampTz low_water,
						   bool open);

/* Write doubts.  False, with nothing written, if the table is locked. */
extern bool sqs_doubts_write(int32 queue_id, const SqsDoubt *doubts, int n);

/* Put in doubt what the last queue worker left, and write an open mark. */
extern bool sqs_inbox_begin(int32 queue_id, int64 retention, TimestampTz not_before,
							TimestampTz *last);

/* Put in doubt what is not known to be resolved in a copy. */
extern void sqs_inbox_adopt(int32 queue_id);

#endif							/* SQSBRIDGE_INBOX_MARKS_H */
