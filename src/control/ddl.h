/*-------------------------------------------------------------------------
 *
 * ddl.h
 *	  Keeping workers out of the way of DDL on their database or extension.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_DDL_H
#define SQSBRIDGE_DDL_H

extern void sqs_lifecycle_init(void);
extern void sqs_lifecycle_xact_end(void);

#endif							/* SQSBRIDGE_DDL_H */
