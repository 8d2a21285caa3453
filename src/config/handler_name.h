/*-------------------------------------------------------------------------
 *
 * handler_name.h
 *	  From what a caller names as handler to a function.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_HANDLER_NAME_H
#define SQSBRIDGE_HANDLER_NAME_H

/*
 * Find the function that the caller means by "name", "schema.name" or either
 * with "(sqs_message)", in the caller's search path, and see that the owner can
 * call it.  Returns its qualified name, palloc'd, and its OID; an ERROR that
 * says how to create it if there is none.
 */
extern char *sqs_find_handler(const char *given, Oid owner, Oid *funcid);

#endif							/* SQSBRIDGE_HANDLER_NAME_H */
