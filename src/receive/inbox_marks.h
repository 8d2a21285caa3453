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

/* Doubts of one queue that are kept apart. */
#define SQS_MAX_DOUBTS		64

typedef struct SqsMark
{
	ItemPointerData tid;
	TimestampTz at;
	TimestampTz low_water;
	bool		open;
} SqsMark;

/* Stamps, the first and the last. */
typedef struct SqsDoubt
{
	ItemPointerData tid;		/* invalid: not in the table */
	TimestampTz from;
	TimestampTz to;
	TimestampTz keep_until;
} SqsDoubt;

/* Read what there is of a queue, palloc'd; marks in order of low_water. */
extern int	sqs_marks_read(int32 queue_id, SqsMark **marks);
extern int	sqs_doubts_read(int32 queue_id, SqsDoubt **doubts);

/*
 * Make *n doubts, in order, no more than max, by joining neighbors: those
 * that together span the least time.  Overlapping ones become one.
 */
extern void sqs_doubts_join(SqsDoubt *doubts, int *n, int max);

/*
 * Write the mark that is the newest from now on.  False, and nothing is
 * written, if a table is locked at present.
 */
extern bool sqs_mark_write(int32 queue_id, int64 retention, TimestampTz low_water,
						   bool open);

/* Write doubts; the same. */
extern bool sqs_doubts_write(int32 queue_id, const SqsDoubt *doubts, int n);

/*
 * A queue worker begins: whatever its predecessor left unresolved is in doubt
 * from now on, and the newest mark is open.  Returns in *last the stamp that
 * those of the new worker have to exceed; it is at least not_before.  False,
 * and nothing is written, if a table is locked at present.
 */
extern bool sqs_inbox_begin(int32 queue_id, int64 retention, TimestampTz not_before,
							TimestampTz *last);

/* The inbox is a copy: what is not known to be resolved is in doubt. */
extern void sqs_inbox_adopt(int32 queue_id);

#endif							/* SQSBRIDGE_INBOX_MARKS_H */
