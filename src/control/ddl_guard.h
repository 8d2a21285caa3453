/*-------------------------------------------------------------------------
 *
 * ddl_guard.h
 *	  Refusing statements by which other roles could make our tables' users wait.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_DDL_GUARD_H
#define SQSBRIDGE_DDL_GUARD_H

#include "nodes/nodes.h"

/* Raises an error if the statement may not be run.  Needs a transaction. */
extern void sqs_ddl_guard(Node *statement);

#endif							/* SQSBRIDGE_DDL_GUARD_H */
