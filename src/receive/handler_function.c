/*-------------------------------------------------------------------------
 *
 * handler_function.c
 *	  The functions that a handler worker calls.
 *
 * What is known of a function is kept from message to message, also if those of
 * other routes are called in between: its language keeps plans in fn_extra.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "config/bindings.h"
#include "receive/handler_function.h"

/* Rises when any function, schema or role changes; never 0. */
static uint64 changes = 1;

static void
invalidated(Datum arg, int cacheid, uint32 hashvalue)
{
	changes++;
}

void
sqs_handler_functions_init(void)
{
	CacheRegisterSyscacheCallback(PROCOID, invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, invalidated, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, invalidated, (Datum) 0);
}

void
sqs_handler_function_find(SqsHandlerFunction *function, MemoryContext parent,
						  const char *name, size_t name_len, Oid owner)
{
	SqsBinding	binding = {0};
	uint64		now = changes;	/* an invalidation from here on counts */
	Oid			funcid;
	char	   *why;
	MemoryContext old;

	if (function->found_at == now && function->owner == owner &&
		strlen(function->name) == name_len && memcmp(function->name, name, name_len) == 0)
		return;

	if (function->context == NULL)
		function->context = AllocSetContextCreate(parent, "sqsbridge handler",
												  ALLOCSET_SMALL_SIZES);
	else
		MemoryContextReset(function->context);
	function->found_at = 0;
	function->owner = owner;
	old = MemoryContextSwitchTo(function->context);
	function->name = pnstrdup(name, name_len);
	MemoryContextSwitchTo(old);

	/* or any role that can create a function of this name could run as ours */
	binding.name = function->name;
	binding.owner_oid = owner;
	binding.owner = GetUserNameFromId(owner, true);
	if (binding.owner == NULL)
		binding.owner = pstrdup("");
	funcid = sqs_bound_handler(&binding, GetUserId(), &why);
	if (!OidIsValid(funcid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION), errmsg("%s", why)));
	fmgr_info_cxt(funcid, &function->flinfo, function->context);
	function->returns_value = get_func_rettype(funcid) != VOIDOID;
	function->found_at = now;
}

/*
 * What the function's language keeps in fn_extra may belong to the call that
 * failed; since 18 an SQL function would continue that call.
 */
void
sqs_handler_function_forget(SqsHandlerFunction *function)
{
	function->found_at = 0;
}
