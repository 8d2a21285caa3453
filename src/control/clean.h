/*-------------------------------------------------------------------------
 *
 * clean.h
 *	  Deleting rows that have been kept long enough.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_CLEAN_H
#define SQSBRIDGE_CLEAN_H

/*
 * One round, in transactions of its own.  Returns true if there may be more to
 * delete.  May raise an error, and may be canceled.
 */
extern bool sqs_clean(void);

#endif							/* SQSBRIDGE_CLEAN_H */
