/*-------------------------------------------------------------------------
 *
 * handler_function.h
 *	  The functions that a handler worker calls.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_HANDLER_FUNCTION_H
#define SQSBRIDGE_HANDLER_FUNCTION_H

#include "fmgr.h"

/* A function as it was found; zeroed at first. */
typedef struct SqsHandlerFunction
{
	MemoryContext context;
	char	   *name;
	Oid			owner;			/* role that it must belong to */
	uint64		found_at;		/* 0: not found, or to be looked up again */
	bool		returns_value;	/* not void */
	FmgrInfo	flinfo;
} SqsHandlerFunction;

/* From now on, be told when a function may have become another. */
extern void sqs_handler_functions_init(void);

/*
 * Look up a function, unless it is known.  Needs a transaction.  Memory is made
 * in a child of "parent".  An error means that it cannot be called.
 */
extern void sqs_handler_function_find(SqsHandlerFunction *function, MemoryContext parent,
									  const char *name, size_t name_len, Oid owner);

/* A call of the function has failed: look it up again before the next. */
extern void sqs_handler_function_forget(SqsHandlerFunction *function);

#endif							/* SQSBRIDGE_HANDLER_FUNCTION_H */
