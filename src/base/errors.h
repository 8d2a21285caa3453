/*-------------------------------------------------------------------------
 *
 * errors.h
 *	  Errors in a row: the last one, how many, and which of them the log has.
 *
 * A SqsErrors is in shared memory; the mutex is the spinlock of the entry that
 * it is part of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_ERRORS_H
#define SQSBRIDGE_ERRORS_H

#include "base/shmem.h"

/*
 * One more error, of which the log is to hear if "announce" is true and none
 * of its kind has been announced in this row of errors.  Returns whether it
 * shall.  The text is clipped to SQS_ERROR_TEXT - 1 bytes.
 */
extern bool sqs_errors_add(SqsErrors *errors, slock_t *mutex, const char *text, bool announce);

#endif							/* SQSBRIDGE_ERRORS_H */
