/*
 * segfault.c
 *	  A function that makes the process that calls it, and with it the server,
 *	  crash, as a broken extension does.
 */
#include "postgres.h"

#include "fmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(segfault);

Datum
segfault(PG_FUNCTION_ARGS)
{
	volatile int *nowhere = NULL;

	*nowhere = 1;
	PG_RETURN_VOID();
}
