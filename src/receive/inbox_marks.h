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

/* SQS keeps no message longer than 14 days; an hour for its clock and ours. */
#define SQS_MESSAGE_LIFE	((int64) 14 * USECS_PER_DAY + USECS_PER_HOUR)

/* The most doubts of one queue; if there are more, they are joined. */
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

/* Read a queue's marks, by low_water, and doubts, by stamps; palloc'd. */
extern int	sqs_marks_read(int32 queue_id, SqsMark **marks);
extern int	sqs_doubts_read(int32 queue_id, SqsDoubt **doubts);

/*
 * Sort doubts, join those that overlap, and if there are more than max, join
 * neighbors until there are not.  *n is updated.
 */
extern void sqs_doubts_join(SqsDoubt *doubts, int *n, int max);

/* Write the newest mark.  False, with nothing written, if the table is locked. */
extern bool sqs_mark_write(int32 queue_id, int64 retention, TimestampTz low_water,
						   bool open);

/* Write doubts.  False, with nothing written, if the table is locked. */
extern bool sqs_doubts_write(int32 queue_id, const SqsDoubt *doubts, int n);

/*
 * A queue worker begins: put in doubt whatever its predecessor left unresolved,
 * and write an open mark.  Sets *last to the stamp that those of the new worker
 * must exceed; it is at least not_before.  False, with nothing written, if a
 * table is locked.
 */
extern bool sqs_inbox_begin(int32 queue_id, int64 retention, TimestampTz not_before,
							TimestampTz *last);

/* The inbox is a copy: put in doubt what is not known to be resolved. */
extern void sqs_inbox_adopt(int32 queue_id);

#endif							/* SQSBRIDGE_INBOX_MARKS_H */
