/*-------------------------------------------------------------------------
 *
 * run.h
 *	  Running a message in a handler worker, or a batch of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RUN_H
#define SQSBRIDGE_RUN_H

#include "portability/instr_time.h"
#include "utils/elog.h"

#include "receive/channel.h"
#include "receive/ending.h"
#include "receive/handler_function.h"
#include "receive/verdict.h"

/*
 * An attempt: "forget" the last one; "begin" a transaction with a snapshot, a time
 * limit, and the function that the message is for; insert into the inbox; open
 * messages; call the function; say that it has "returned"; fence; commit;
 * "committed".
 */
extern void sqs_handler_forget_attempt(void);
extern bool sqs_handler_begin(SqsTask *task, volatile SqsPhase *phase);
extern SqsHandlerFunction *sqs_handler_current_function(void);
extern void sqs_handler_open_message(SqsTask *task);
extern void sqs_handler_limit_time(SqsDelivery *delivery);
extern void sqs_handler_returned(void);
extern void sqs_handler_committed(void);

/* In PG_CATCH(): abort the transaction. */
extern ErrorData *sqs_handler_catch(SqsVerdict *verdict);

/* All attempts for a message that has a transaction to itself. */
extern void sqs_handler_run_alone(SqsTask *task, SqsResult *result);

/* Take these messages from the queue worker; the first that is ours, or 0. */
extern uint64 sqs_handler_take(uint64 from, uint64 to);

/* All results are in the ring; was it to be canceled?  If so, outlive that. */
extern bool sqs_handler_finish_current(void);
extern void sqs_handler_outlive_cancel(void);

/* Results go to the queue worker, which may be asleep. */
extern void sqs_result_init(SqsResult *result);
extern void sqs_result_post(const SqsResult *result);
extern void sqs_handler_settle(SqsTask *task, SqsResult *result);
extern void sqs_results_announce(void);

/* Between the parts of a batch. */
extern void sqs_handler_begin_part(char *activity);
extern bool sqs_handler_must_stop(void);
extern void sqs_handler_outlive_lost_leases(void);

static inline int64
sqs_monotonic_us(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

#endif							/* SQSBRIDGE_RUN_H */
