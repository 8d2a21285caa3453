/*-------------------------------------------------------------------------
 *
 * handler_name.h
 *	  Finding the function that a caller names as the handler.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_HANDLER_NAME_H
#define SQSBRIDGE_HANDLER_NAME_H

/*
 * Find the function that the caller means by "name", "schema.name" or either
 * with "(sqs_message)", in the caller's search path, and make sure that the
 * queue's owner can call it.  Returns its qualified name, palloc'd, and sets
 * *funcid.  An ERROR if there is no such function.
 */
extern char *sqs_find_handler(const char *given, Oid owner, Oid *funcid);

#endif							/* SQSBRIDGE_HANDLER_NAME_H */
