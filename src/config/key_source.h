/*-------------------------------------------------------------------------
 *
 * key_source.h
 *	  Where in a message a key is: the options route_by and dedup_key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_KEY_SOURCE_H
#define SQSBRIDGE_KEY_SOURCE_H

#include "utils/jsonpath.h"

typedef enum SqsKeySourceKind
{
	SQS_KEY_ATTRIBUTE,			/* attribute:NAME */
	SQS_KEY_ENVELOPE,			/* envelope:KEY, of sqs_message.envelope */
	SQS_KEY_JSONPATH			/* for the body */
} SqsKeySourceKind;

typedef struct SqsKeySource
{
	SqsKeySourceKind kind;
	char	   *name;			/* the NAME or KEY */
	JsonPath   *path;
} SqsKeySource;

/*
 * Read the value of such an option; memory is the current context's.  False if
 * it is none, and then *why completes 'Option "..." '.  An ERROR if it is
 * neither of the first two and no jsonpath.
 */
extern bool sqs_key_source(char *value, SqsKeySource *source, const char **why);

#endif							/* SQSBRIDGE_KEY_SOURCE_H */
