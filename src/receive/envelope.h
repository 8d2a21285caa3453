/*-------------------------------------------------------------------------
 *
 * envelope.h
 *	  Messages that other AWS services wrap, and what is inside.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_ENVELOPE_H
#define SQSBRIDGE_ENVELOPE_H

#include "utils/jsonb.h"

#include "config/queues.h"

/* What a handler gets instead of the message's own. */
typedef struct SqsUnwrapped
{
	char	   *body;			/* in the database's encoding */
	Datum		attributes;		/* jsonb; 0: the message's own */
	Datum		envelope;		/* jsonb; 0: there is none */
	bool		test_event;		/* S3's, which is not for handlers */
} SqsUnwrapped;

/*
 * A text in the database's encoding as JSON; NULL if it is none, or none that
 * jsonb can hold.
 */
extern Jsonb *sqs_parse_json(char *text);

/*
 * Take the envelope off.  body is the message's in the database's encoding,
 * and what it is not an envelope of stays as it is.  has_s3_flag says that the
 * message has the attribute by which Amazon's extended clients mark a pointer.
 * Raises no error because of what the body contains.
 */
extern void sqs_unwrap(SqsUnwrap unwrap, char *body, bool has_s3_flag,
					   SqsUnwrapped *unwrapped);

#endif							/* SQSBRIDGE_ENVELOPE_H */
