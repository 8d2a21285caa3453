/*-------------------------------------------------------------------------
 *
 * clean.h
 *	  Deleting rows that have been kept long enough.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_CLEAN_H
#define SQSBRIDGE_CLEAN_H

/* Do one round of cleaning; true if there may be more to delete. */
extern bool sqs_clean(void);

#endif							/* SQSBRIDGE_CLEAN_H */
