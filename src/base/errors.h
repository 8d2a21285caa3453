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

/* Add an error; returns whether the caller should log it. */
extern bool sqs_errors_add(SqsErrors *errors, slock_t *mutex, const char *text, bool announce);

/* strlcpy() that truncates a text after a whole character. */
extern void sqs_copy_text(char *dst, const char *src, size_t size);

#endif							/* SQSBRIDGE_ERRORS_H */
