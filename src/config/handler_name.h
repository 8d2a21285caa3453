/*-------------------------------------------------------------------------
 *
 * handler_name.h
 *	  Finding the function that a caller names as the handler.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_HANDLER_NAME_H
#define SQSBRIDGE_HANDLER_NAME_H

/* Find the handler that the caller means; ERROR if there is none. */
extern char *sqs_find_handler(const char *given, Oid owner, Oid *funcid);

#endif							/* SQSBRIDGE_HANDLER_NAME_H */
