/*-------------------------------------------------------------------------
 *
 * outgoing.h
 *	  A message to be sent: from SQL values to what the AWS layer takes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_OUTGOING_H
#define SQSBRIDGE_OUTGOING_H

#include "datatype/timestamp.h"

#include "aws/sqs_protocol.h"

/* The members of type sqs_outgoing, in its order; NULL: not given. */
typedef struct SqsDraft
{
	Datum		body;			/* text */
	Datum		attributes;		/* jsonb */
	Datum		delay;			/* interval */
	Datum		group_id;		/* text */
	Datum		deduplication_id;	/* text */
	Datum		system_attributes;	/* jsonb */
} SqsDraft;

/* What is wrong with a draft; everything in the current memory context. */
typedef struct SqsDraftError
{
	int			sqlstate;
	const char *code;			/* the code SQS would answer with */
	const char *message;
	const char *detail;			/* or NULL */
	const char *hint;			/* or NULL */
} SqsDraftError;

/*
 * Check a draft and turn it into an outgoing message, whose slices are in the
 * current memory context or in the draft's values.  A Datum of 0 stands for
 * NULL.  Returns NULL if it is well, else what is wrong: an empty or illegal
 * body, attributes that are none, too many or too large, a delay out of
 * range, ids that a queue of this kind must have or cannot have.
 */
extern SqsDraftError *sqs_outgoing_prepare(const SqsDraft *draft, bool fifo,
										   SqsOutgoing *message);

/* Raise it as an ERROR. */
extern void sqs_draft_error_raise(const SqsDraftError *error, const char *queue);

/*
 * Add the attribute that tells the message's id, if there is room for it:
 * fewer than ten attributes, and the size limit not reached.  "id" is a
 * UUID in text form and has to live as long as the message.
 */
extern bool sqs_outgoing_add_id(SqsOutgoing *message, const char *id);

#endif							/* SQSBRIDGE_OUTGOING_H */
