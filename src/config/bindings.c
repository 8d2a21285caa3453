/*-------------------------------------------------------------------------
 *
 * bindings.c
 *	  What a queue refers to, and whether it is still what was meant.
 *
 * A queue's owner, server and handler may be dropped, renamed, replaced or
 * given away while workers run.  None of that may be an error here, which would
 * keep all queues of the database from being worked on.  So these functions
 * return the problem as a phrase that completes 'queue "q": ...'; it is
 * shown in sqs_stats and logged.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "base/compat.h"
#include "base/extension.h"
#include "config/bindings.h"

/*
 * The object is another one now, or has another owner.  That may be intended,
 * but to go on without a confirmation would let whoever took over a name, or
 * was given an OID by a restore, use the queue.
 */
#define CONFIRM "; if this is intended, confirm it with sqs_alter_queue()"
#define SUPERUSER_CONFIRMS "; if this is intended, a superuser must confirm it with sqs_alter_queue()"

/* The name of a role, palloc'd; its OID in digits if it does not exist. */
char *
sqs_role_name(Oid role)
{
	char	   *name = GetUserNameFromId(role, true);

	return name != NULL ? name : psprintf("%u", role);
}

bool
sqs_handler_takes_batches(const char *handler)
{
	size_t		len = strlen(handler);
	size_t		args = strlen(SQS_BATCH_HANDLER_ARGS);

	/* a quoted name ends with a quote */
	return len > args && strcmp(handler + len - args, SQS_BATCH_HANDLER_ARGS) == 0;
}

/* A handler with its argument's type, palloc'd. */
static char *
signature(const char *handler)
{
	return psprintf("%s%s", handler, sqs_handler_takes_batches(handler) ? "" : "(sqs_message)");
}

/* Does it return nothing, or verdicts? */
static bool
returns_verdicts(Oid type, bool is_set)
{
	Oid			verdict_type;

	if (type == VOIDOID)
		return !is_set;
	verdict_type = sqs_verdict_type_oid();
	return type == (is_set ? verdict_type : get_array_type(verdict_type));
}

/*
 * Find the function that a handler means: it takes one sqs_message, or an array
 * of them, and the role may execute it.  Returns its OID.  If it cannot be
 * called, returns InvalidOid, and the reason in *why, palloc'd.
 */
Oid
sqs_resolve_handler(const char *handler, Oid role, char **why)
{
	bool		takes_batches = sqs_handler_takes_batches(handler);
	Oid			argument_type = sqs_message_type_oid();
	const char *function = signature(handler);
	char	   *name = pstrdup(handler);
	List	   *names;
	char	   *nspname;
	char	   *proname;
	Oid			nsp;
	HeapTuple	tuple;
	Form_pg_proc form;
	Oid			funcid;
	char		prokind;
	bool		retset;
	Oid			rettype;

	*why = NULL;
	/* a session outlives its role; privileges granted to PUBLIC must not do */
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)))
	{
		*why = psprintf("its owner, the role with OID %u, does not exist", role);
		return InvalidOid;
	}
	if (takes_batches)
	{
		argument_type = get_array_type(argument_type);
		name[strlen(name) - strlen(SQS_BATCH_HANDLER_ARGS)] = '\0';
	}
	if (!SplitIdentifierString(name, '.', &names) || list_length(names) != 2)
	{
		*why = psprintf("\"%s\" is not the name of a function with its schema", handler);
		return InvalidOid;
	}
	nspname = linitial(names);
	proname = lsecond(names);

	nsp = get_namespace_oid(nspname, true);
	if (!OidIsValid(nsp))
	{
		*why = psprintf("schema \"%s\" does not exist", nspname);
		return InvalidOid;
	}
	if (isAnyTempNamespace(nsp))
	{
		*why = psprintf("function %s is temporary, and other sessions cannot call it", function);
		return InvalidOid;
	}

	tuple = SearchSysCache3(PROCNAMEARGSNSP, CStringGetDatum(proname),
							PointerGetDatum(buildoidvector(&argument_type, 1)),
							ObjectIdGetDatum(nsp));
	if (!HeapTupleIsValid(tuple))
	{
		*why = psprintf("function %s does not exist", function);
		return InvalidOid;
	}
	form = (Form_pg_proc) GETSTRUCT(tuple);
	funcid = form->oid;
	prokind = form->prokind;
	retset = form->proretset;
	rettype = form->prorettype;
	ReleaseSysCache(tuple);

	if (prokind != PROKIND_FUNCTION)
		*why = psprintf("%s is %s, not a function", function,
						prokind == PROKIND_PROCEDURE ? "a procedure" :
						prokind == PROKIND_AGGREGATE ? "an aggregate" : "a window function");
	else if (!takes_batches && retset)
		*why = psprintf("function %s returns a set", function);
	else if (takes_batches && !returns_verdicts(rettype, retset))
		*why = psprintf("function %s returns %s%s, not void, SETOF sqs_verdict, or sqs_verdict[]",
						function, retset ? "SETOF " : "", format_type_be(rettype));
	else if (object_aclcheck(NamespaceRelationId, nsp, role, ACL_USAGE) != ACLCHECK_OK)
		*why = psprintf("role \"%s\" has no USAGE privilege on schema \"%s\"",
						sqs_role_name(role), nspname);
	else if (object_aclcheck(ProcedureRelationId, funcid, role, ACL_EXECUTE) != ACLCHECK_OK)
		*why = psprintf("role \"%s\" has no EXECUTE privilege on function %s",
						sqs_role_name(role), function);

	return *why == NULL ? funcid : InvalidOid;
}

/*
 * Is the owner of a queue still the role that was bound?  Returns NULL, or
 * why not, as in SqsQueueConfig.problem.
 */
char *
sqs_role_changed(const SqsBinding *role)
{
	char	   *name = GetUserNameFromId(role->oid, true);

	if (name == NULL)
		return OidIsValid(get_role_oid(role->name, true)) ?
			psprintf("its owner was dropped, and another role \"%s\" has been created" SUPERUSER_CONFIRMS, role->name) :
			psprintf("its owner, role \"%s\", does not exist", role->name);
	if (strcmp(name, role->name) != 0)
		return psprintf("its owner, role \"%s\", is now named \"%s\"" SUPERUSER_CONFIRMS,
						role->name, name);
	return NULL;
}

/* The same for its server. */
char *
sqs_server_changed(const SqsBinding *server)
{
	ForeignServer *bound = GetForeignServerExtended(server->oid, FSV_MISSING_OK);

	if (bound == NULL)
		return GetForeignServerByName(server->name, true) != NULL ?
			psprintf("its server \"%s\" was dropped, and another one with this name has been created" CONFIRM, server->name) :
			psprintf("server \"%s\" does not exist", server->name);
	if (strcmp(bound->servername, server->name) != 0)
		return psprintf("its server \"%s\" is now named \"%s\"" CONFIRM, server->name, bound->servername);
	if (bound->owner != server->owner_oid || strcmp(sqs_role_name(bound->owner), server->owner) != 0)
		return psprintf("its server \"%s\" belonged to role \"%s\", and now belongs to role \"%s\"" CONFIRM,
						server->name, server->owner, sqs_role_name(bound->owner));
	return NULL;
}

/*
 * A function that its owner has dropped and created again is accepted, as is
 * one that was replaced and so has kept its OID: in both cases the same role
 * decides what it does.
 */
Oid
sqs_bound_handler(const SqsBinding *handler, Oid role, char **why)
{
	Oid			found = sqs_resolve_handler(handler->name, role, why);
	HeapTuple	tuple;
	Oid			owner;

	if (!OidIsValid(found))
		return InvalidOid;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(found));
	if (!HeapTupleIsValid(tuple))
	{
		*why = psprintf("function %s does not exist", signature(handler->name));
		return InvalidOid;
	}
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	if (owner == handler->owner_oid && strcmp(sqs_role_name(owner), handler->owner) == 0)
		return found;
	if (found != handler->oid)
		*why = psprintf("function %s was dropped, and role \"%s\" has created another one" CONFIRM,
						signature(handler->name), sqs_role_name(owner));
	else
		*why = psprintf("function %s belonged to role \"%s\", and now belongs to role \"%s\"" CONFIRM,
						signature(handler->name), handler->owner, sqs_role_name(owner));
	return InvalidOid;
}
