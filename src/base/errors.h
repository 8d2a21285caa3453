/*-------------------------------------------------------------------------
 *
 * errors.h
 *	  Consecutive errors: the last one, how many, and which have been logged.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_ERRORS_H
#define SQSBRIDGE_ERRORS_H

#include "base/shmem.h"

/*
 * Add an error to a SqsErrors in shared memory; "mutex" is the spinlock of the
 * entry that contains it.  Returns whether the caller should log the error:
 * "announce" is true, and none of its kind was announced in this series.  The
 * text is clipped to SQS_ERROR_TEXT - 1 bytes.
 */
extern bool sqs_errors_add(SqsErrors *errors, slock_t *mutex, const char *text, bool announce);

#endif							/* SQSBRIDGE_ERRORS_H */
