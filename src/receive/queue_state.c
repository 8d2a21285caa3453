/*-------------------------------------------------------------------------
 *
 * queue_state.c
 *	  States and errors of a queue, for all parts of its queue worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lwlock.h"

#include "base/errors.h"
#include "base/queue_stats.h"
#include "receive/queue_state.h"

/* Convert a time of sqs_now_ms() to a timestamp. */
TimestampTz
sqs_ms_to_timestamp(QueueWorker *qw, int64 ms)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms - qw->now);
}

/* Set the state and its reason; logged when either changes. */
void
sqs_queue_error(QueueWorker *qw, SqsQueueState state, const char *text)
{
	bool		news = sqs_stats_error(qw->stats, text);

	if (sqs_stats_set_state(qw->stats, state) || news)
		ereport(LOG,
				(errmsg("sqsbridge queue \"%s\": %s", qw->config->name, text),
				 errdetail("The queue's state is \"%s\".", sqs_queue_state_name(state))));
}

/* The queue is polled and there is no error any more. */
void
sqs_queue_is_well(QueueWorker *qw)
{
	sqs_stats_clear_error(qw->stats);
	if (sqs_stats_set_state(qw->stats, SQS_QUEUE_POLLING))
		ereport(LOG,
				(errmsg("sqsbridge queue \"%s\" is polling", qw->config->name)));
}

/*
 * In PG_CATCH(): recover from the error, without logging it, and copy its
 * message to "text".
 */
void
sqs_queue_catch(QueueWorker *qw, char *text, size_t size)
{
	ErrorData  *edata;

	MemoryContextSwitchTo(qw->context);
	edata = CopyErrorData();
	sqs_copy_text(text, edata->message, size);
	FreeErrorData(edata);
	HOLD_INTERRUPTS();
	LWLockReleaseAll();
	AbortOutOfAnyTransaction();
	FlushErrorState();
	QueryCancelPending = false;
	RESUME_INTERRUPTS();
	MemoryContextSwitchTo(qw->context);
	sqs_own_resources();
}
