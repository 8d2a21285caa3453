/*-------------------------------------------------------------------------
 *
 * handler_name.c
 *	  Finding the function that a caller names as the handler.
 *
 * Registration stores the function's qualified name, so that the search path
 * matters only here.  The parser's own lookup is not used, because it would
 * accept a function that needs a cast of its argument.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "parser/scansup.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "base/extension.h"
#include "config/bindings.h"
#include "config/handler_name.h"
#include "config/queue_options.h"

/* Is there a function of this name in one of these schemas? */
static bool
function_name_exists(const char *proname, List *namespaces)
{
	CatCList   *list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(proname));
	bool		found = false;

	for (int i = 0; i < list->n_members; i++)
	{
		HeapTuple	tuple = &list->members[i]->tuple;

		found |= list_member_oid(namespaces, ((Form_pg_proc) GETSTRUCT(tuple))->pronamespace);
	}
	ReleaseSysCacheList(list);
	return found;
}

/*
 * Does this text name the type sqs_message, or with "[]" after it an array of
 * them, in the caller's search path?
 */
static bool
is_message_type(const char *given, bool *is_array)
{
	Oid			message_type = sqs_message_type_oid();
	char	   *name = pstrdup(given);
	char	   *end = name + strlen(name);
	List	   *names;

	while (end > name && scanner_isspace(end[-1]))
		end--;
	*is_array = end - name > 2 && end[-1] == ']' && end[-2] == '[';
	if (*is_array)
		end -= 2;
	*end = '\0';
	if (!SplitIdentifierString(name, '.', &names) || names == NIL ||
		strcmp(llast(names), "sqs_message") != 0)
		return false;
	if (list_length(names) == 1)
		return TypeIsVisible(message_type);
	return list_length(names) == 2 &&
		get_namespace_oid(linitial(names), true) == sqs_extension_schema();
}

/*
 * Split "schema.name(type)", schema and type being optional, into the list of
 * names and the type (NULL: not given).  False if it does not have this form.
 */
static bool
split_handler(const char *given, List **names, char **type)
{
	char	   *name = pstrdup(given);
	bool		in_quotes = false;

	*type = NULL;
	for (char *p = name; *p != '\0'; p++)
	{
		if (*p == '"')
			in_quotes = !in_quotes;
		else if (*p == '(' && !in_quotes)
		{
			char	   *end = p + strlen(p) - 1;

			while (end > p && scanner_isspace(*end))
				end--;
			if (*end != ')')
				return false;
			*end = '\0';
			*p = '\0';
			*type = p + 1;
			break;
		}
	}
	return SplitIdentifierString(name, '.', names) &&
		(list_length(*names) == 1 || list_length(*names) == 2);
}

/* Is there a function of this name, with one argument of this type? */
static bool
function_exists(const char *proname, Oid argument_type, Oid namespace)
{
	return SearchSysCacheExists3(PROCNAMEARGSNSP, CStringGetDatum(proname),
								 PointerGetDatum(buildoidvector(&argument_type, 1)),
								 ObjectIdGetDatum(namespace));
}

/*
 * Find the function that the caller means by "name" or "schema.name", with or
 * without "(sqs_message)" or "(sqs_message[])", in the caller's search path, and
 * make sure that the queue's owner can call it.  If the type is not given, and a
 * schema has both, the one that takes a single message is meant.  Returns the
 * handler as it is stored, palloc'd, and sets *funcid.  Raises an ERROR if there
 * is no such function.
 */
char *
sqs_find_handler(const char *given, Oid owner, Oid *funcid)
{
	Oid			message_type = sqs_message_type_oid();
	Oid			array_type = get_array_type(message_type);
	const char *message_type_name = format_type_be(message_type);
	List	   *names;
	char	   *type;
	bool		is_array = false;
	char	   *proname;
	List	   *namespaces;
	ListCell   *lc;
	char	   *handler = NULL;
	char	   *why;

	if (!split_handler(given, &names, &type))
		sqs_option_refuse(OPT_HANDLER, sqs_option_quoted(given),
						  "must be the name of a function, with or without its schema");
	if (type != NULL && !is_message_type(type, &is_array))
		sqs_option_refuse(OPT_HANDLER, sqs_option_quoted(given),
						  psprintf("must be a function with one argument, of type %s or %s[]",
								   message_type_name, message_type_name));

	proname = llast(names);
	if (list_length(names) == 2)
	{
		Oid			nsp = LookupExplicitNamespace(linitial(names), true);

		if (!OidIsValid(nsp))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_SCHEMA),
					 errmsg("schema \"%s\" does not exist", (char *) linitial(names)),
					 errdetail("Option \"handler\" is %s.", sqs_option_quoted(given))));
		namespaces = list_make1_oid(nsp);
	}
	else
		namespaces = fetch_search_path(false);

	foreach(lc, namespaces)
	{
		/* a temporary schema in the search path is not searched for functions */
		if (list_length(names) == 1 && isAnyTempNamespace(lfirst_oid(lc)))
			continue;
		if (!is_array && function_exists(proname, message_type, lfirst_oid(lc)))
			handler = quote_qualified_identifier(get_namespace_name(lfirst_oid(lc)), proname);
		else if ((is_array || type == NULL) &&
				 function_exists(proname, array_type, lfirst_oid(lc)))
			handler = psprintf("%s" SQS_BATCH_HANDLER_ARGS,
							   quote_qualified_identifier(get_namespace_name(lfirst_oid(lc)), proname));
		else
			continue;
		break;
	}

	if (handler == NULL)
	{
		bool		others = function_name_exists(proname, namespaces);
		const char *name = list_length(names) == 1 ? quote_identifier(proname) :
			quote_qualified_identifier(linitial(names), proname);

		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s(%s%s) does not exist", name, message_type_name,
						is_array ? "[]" : ""),
				 others ?
				 errdetail("Option \"handler\" must be a function with one argument, of type %s or %s[]; there is one of this name with other arguments.",
						   message_type_name, message_type_name) :
				 errdetail("Option \"handler\" must be a function with one argument, of type %s or %s[].",
						   message_type_name, message_type_name),
				 errhint("Create it: CREATE FUNCTION %s(msg %s) RETURNS void LANGUAGE plpgsql AS $$ BEGIN ... END $$;",
						 name, message_type_name)));
	}

	*funcid = sqs_resolve_handler(handler, owner, &why);
	if (!OidIsValid(*funcid))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"handler\": \"%s\"", given),
				 errdetail("It cannot be called: %s.", why),
				 errhint("A handler is a function with one argument, of type %s or %s[], that the queue's owner may execute.",
						 message_type_name, message_type_name)));
	return handler;
}
