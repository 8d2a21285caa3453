/*-------------------------------------------------------------------------
 *
 * sqlstates.h
 *	  SQLSTATEs of our own.
 *
 * Class SQ is not used by PostgreSQL, and not reserved by the standard.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_SQLSTATES_H
#define SQSBRIDGE_SQLSTATES_H

#include "utils/elog.h"

/* Verdicts of handlers. */
#define ERRCODE_SQS_RETRY		MAKE_SQLSTATE('S', 'Q', '0', '0', '1')
#define ERRCODE_SQS_DEAD_LETTER	MAKE_SQLSTATE('S', 'Q', '0', '0', '2')
#define ERRCODE_SQS_DISCARD		MAKE_SQLSTATE('S', 'Q', '0', '0', '3')

/* There is no route for the message. */
#define ERRCODE_SQS_UNROUTABLE	MAKE_SQLSTATE('S', 'Q', '1', '0', '1')

/* Of dead letters: the handler worker or the server died again and again. */
#define ERRCODE_SQS_ORDER			MAKE_SQLSTATE('S', 'Q', '1', '0', '2')
#define ERRCODE_SQS_KILLED		MAKE_SQLSTATE('S', 'Q', '1', '0', '3')

/* Of dead letters: the message's group is parked; SQS is about to delete it. */
#define ERRCODE_SQS_PARKED		MAKE_SQLSTATE('S', 'Q', '1', '0', '4')
#define ERRCODE_SQS_EXPIRING	MAKE_SQLSTATE('S', 'Q', '1', '0', '5')

/* The queue takes only what SNS has signed. */
#define ERRCODE_SQS_NOT_SNS		MAKE_SQLSTATE('S', 'Q', '1', '0', '6')

#endif							/* SQSBRIDGE_SQLSTATES_H */
