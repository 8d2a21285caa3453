/*-------------------------------------------------------------------------
 *
 * ddl.h
 *	  Keeping workers out of the way of DDL on their database or extension.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_DDL_H
#define SQSBRIDGE_DDL_H

extern void sqs_ddl_init(void); /* from _PG_init */

#endif							/* SQSBRIDGE_DDL_H */
