/*-------------------------------------------------------------------------
 *
 * queue_options.h
 *	  The options of a queue: their ranges, defaults and values.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_QUEUE_OPTIONS_H
#define SQSBRIDGE_QUEUE_OPTIONS_H

#include "fmgr.h"
#include "utils/array.h"

#include "config/fdw.h"
#include "config/queue_row.h"

/* In the order of the arguments of sqs_register_queue, after the first. */
typedef enum SqsOptionId
{
	OPT_SERVER,
	OPT_HANDLER,
	OPT_QUEUE_NAME,
	OPT_CONCURRENCY,
	OPT_BATCH_SIZE,
	OPT_WAIT_TIME,
	OPT_VISIBILITY_TIMEOUT,
	OPT_HANDLER_TIMEOUT,
	OPT_RETRY_DELAY,
	OPT_EXACTLY_ONCE,
	OPT_DEDUP_RETENTION,
	OPT_GROUP_BATCH_SIZE,
	OPT_UNWRAP,
	OPT_MAX_ATTEMPTS,
	OPT_RETRY_FACTOR,
	OPT_RETRY_MAX_DELAY,
	OPT_RETRY_JITTER,
	OPT_THROTTLE_AFTER,
	OPT_DEAD_LETTER,
	OPT_DEAD_LETTER_QUEUE,
	OPT_ON_DEAD_LETTER,
	OPT_ROUTE_BY,
	OPT_UNROUTABLE,
	OPT_DEDUP_KEY,
	OPT_HANDLER_BATCH_SIZE,
	OPT_HANDLER_BATCH_WAIT,
	OPT_VERIFY_SNS,
	OPT_ENABLED,
	NUM_OPTIONS
} SqsOptionId;

/* What a call requests for an option; neither: leave it unchanged. */
typedef struct SqsOptionChange
{
	bool		is_set;			/* to this value */
	bool		is_reset;		/* to its default */
	Datum		value;
} SqsOptionChange;

/* Read the options from the arguments of a call. */
extern void sqs_options_read(FunctionCallInfo fcinfo, SqsOptionChange *changes);

/* Read the argument "reset": the names of options to be reset to defaults. */
extern void sqs_options_read_resets(ArrayType *array, SqsOptionChange *changes);

/* Store the options that are plain values. */
extern void sqs_options_store(SqsQueueRow *row, const SqsOptionChange *changes, bool all);

/* An ERROR if a number or an interval is out of its option's range. */
extern void sqs_option_check_range(SqsOptionId id, Datum value);

/* An ERROR unless the value is the name or the URL of a queue at AWS. */
extern void sqs_option_check_queue_name(const char *value, const SqsServerOptions *options);

/*
 * Raise an ERROR about an option's value, which is quoted by the caller if need
 * be; "must" completes 'Option "..." '.
 */
extern void sqs_option_refuse(SqsOptionId id, const char *value, const char *must);
extern char *sqs_option_quoted(const char *value);

#endif							/* SQSBRIDGE_QUEUE_OPTIONS_H */
