/*-------------------------------------------------------------------------
 *
 * register.c
 *	  SQL functions that change what is configured.
 *
 * Everybody may call them, and nobody else may write sqs_queues.  So each
 * comes in two halves: first everything is checked as the calling role (its
 * privileges, the values, what names refer to), then statements
 * without any function of users in them run as the extension's owner.  An
 * error in between needs no clean-up: the abort of the (sub)transaction puts
 * the role back.
 *
 * The functions run in the caller's search path, because a handler's name is
 * meant the way the caller sees it, and is stored with its schema.  Whatever
 * they run through SPI is qualified to the last operator for that reason.
 *
 * Defaults are the table's column defaults; those in the signatures of the
 * SQL functions only repeat them for the reader.
 *
 * Nothing here talks to the workers.  A change wakes them at commit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "common/int.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/scansup.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "aws/endpoint.h"
#include "catalog.h"
#include "compat.h"
#include "fdw.h"
#include "sqsbridge.h"

PG_FUNCTION_INFO_V1(sqsbridge_check_preloaded);
PG_FUNCTION_INFO_V1(sqs_register_queue);
PG_FUNCTION_INFO_V1(sqs_alter_queue);
PG_FUNCTION_INFO_V1(sqs_unregister_queue);
PG_FUNCTION_INFO_V1(sqs_disable_queue);
PG_FUNCTION_INFO_V1(sqs_enable_queue);

/* In the order of the arguments of sqs_register_queue, after the first. */
typedef enum OptionId
{
	OPT_SERVER,
	OPT_HANDLER,
	OPT_QUEUE_NAME,
	OPT_CONCURRENCY,
	OPT_BATCH_SIZE,
	OPT_WAIT_TIME,
	OPT_VISIBILITY_TIMEOUT,
	OPT_HANDLER_TIMEOUT,
	OPT_RETRY_DELAY,
	OPT_EXACTLY_ONCE,
	OPT_DEDUP_RETENTION,
	OPT_ENABLED,
	NUM_OPTIONS
} OptionId;

typedef struct QueueOption
{
	const char *name;			/* of the argument and of the column */
	Oid			type;
	int64		min;			/* intervals: in microseconds */
	int64		max;
	int64		unit;			/* must be a multiple of this; 0: no range */
	const char *legal;			/* completes "must be ..." */
	bool		has_default;	/* can be reset */
} QueueOption;

static const QueueOption queue_options[NUM_OPTIONS] = {
	[OPT_SERVER] = {"server", NAMEOID, 0, 0, 0, NULL, false},
	[OPT_HANDLER] = {"handler", TEXTOID, 0, 0, 0, NULL, true},
	[OPT_QUEUE_NAME] = {"queue_name", TEXTOID, 0, 0, 0, NULL, true},
	[OPT_CONCURRENCY] = {"concurrency", INT4OID, 1, SQS_CONCURRENCY_MAX, 1,
	"1 to 64", true},
	[OPT_BATCH_SIZE] = {"batch_size", INT4OID, 1, 10, 1,
	"1 to 10", true},
	[OPT_WAIT_TIME] = {"wait_time", INTERVALOID, 0, 20 * USECS_PER_SEC, USECS_PER_SEC,
	"0 to 20 seconds, in whole seconds", true},
	[OPT_VISIBILITY_TIMEOUT] = {"visibility_timeout", INTERVALOID,
		USECS_PER_SEC, 12 * USECS_PER_HOUR, USECS_PER_SEC,
	"1 second to 12 hours, in whole seconds", true},
	[OPT_HANDLER_TIMEOUT] = {"handler_timeout", INTERVALOID, 1000, 12 * USECS_PER_HOUR, 1000,
	"1 millisecond to 12 hours, in whole milliseconds", true},
	[OPT_RETRY_DELAY] = {"retry_delay", INTERVALOID, 0, 12 * USECS_PER_HOUR, USECS_PER_SEC,
	"0 to 12 hours, in whole seconds", true},
	[OPT_EXACTLY_ONCE] = {"exactly_once", BOOLOID, 0, 0, 0, NULL, true},
	[OPT_DEDUP_RETENTION] = {"dedup_retention", INTERVALOID,
		USECS_PER_MINUTE, 365 * USECS_PER_DAY, 1,
	"1 minute to 365 days, without months and years", true},
	[OPT_ENABLED] = {"enabled", BOOLOID, 0, 0, 0, NULL, false},
};

/* What a call asks for an option; neither: leave it. */
typedef struct Change
{
	bool		is_set;			/* to this value */
	bool		is_reset;		/* to its default */
	Datum		value;
} Change;

/* The row as it is. */
typedef struct RegisteredQueue
{
	int32		queue_id;
	Oid			owner;
	char	   *name;
	char	   *server;
	char	   *queue_name;
	char	   *handler;		/* or NULL */
} RegisteredQueue;

/* ---- statements on the table ---- */

static void
begin_spi(void)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

static void
end_spi(void)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

/* The table's qualified name, ready for a statement. */
static char *
queues_table(void)
{
	Oid			schema = get_rel_namespace(sqs_relation_oid("sqs_queues"));

	return quote_qualified_identifier(get_namespace_name(schema), "sqs_queues");
}

/* Run a statement as the extension's owner; returns the number of rows. */
static uint64
run(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	Oid			save_user;
	int			save_context;
	int			result;

	GetUserIdAndSecContext(&save_user, &save_context);
	SetUserIdAndSecContext(sqs_extension_owner(),
						   save_context | SECURITY_LOCAL_USERID_CHANGE);
	result = SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0);
	SetUserIdAndSecContext(save_user, save_context);

	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", sql, SPI_result_code_string(result));
	return SPI_processed;
}

static char *
result_text(int column)
{
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
}

/*
 * Find the queue and make sure that the current role may change it.
 */
static RegisteredQueue *
find_queue(const char *name)
{
	RegisteredQueue *queue;
	Oid			types[1] = {TEXTOID};
	Datum		values[1];
	bool		isnull;

	values[0] = CStringGetTextDatum(name);
	if (run(psprintf("SELECT queue_id, owner, server, queue_name, handler FROM %s "
					 "WHERE name OPERATOR(pg_catalog.=) $1", queues_table()),
			1, types, values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("queue \"%s\" does not exist", name),
				 errhint("The registered queues are in sqs_queues.")));

	queue = palloc0(sizeof(RegisteredQueue));
	queue->queue_id = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0],
												  SPI_tuptable->tupdesc, 1, &isnull));
	queue->owner = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0],
												  SPI_tuptable->tupdesc, 2, &isnull));
	queue->name = pstrdup(name);
	queue->server = result_text(3);
	queue->queue_name = result_text(4);
	queue->handler = result_text(5);

	if (!has_privs_of_role(GetUserId(), queue->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of queue \"%s\"", name)));
	return queue;
}

/*
 * Is the queue of this server consumed under another name already?
 */
static void
refuse_second_consumer(int32 queue_id, const char *server, const char *queue_name)
{
	Oid			types[3] = {NAMEOID, TEXTOID, INT4OID};
	Datum		values[3];

	values[0] = DirectFunctionCall1(namein, CStringGetDatum(server));
	values[1] = CStringGetTextDatum(queue_name);
	values[2] = Int32GetDatum(queue_id);
	if (run(psprintf("SELECT name FROM %s WHERE server OPERATOR(pg_catalog.=) $1 "
					 "AND queue_name OPERATOR(pg_catalog.=) $2 "
					 "AND queue_id OPERATOR(pg_catalog.<>) $3 "
					 "AND handler IS NOT NULL", queues_table()),
			3, types, values, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("queue \"%s\" of server \"%s\" has a handler already",
						queue_name, server),
				 errdetail("It is registered as \"%s\".", result_text(1)),
				 errhint("Two handlers would take each other's messages. To handle more at once, raise its \"concurrency\".")));
}

/* ---- checking values ---- */

static void
refuse_value(OptionId id, const char *value, const char *must)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\": %s", queue_options[id].name, value),
			 errdetail("Option \"%s\" %s.", queue_options[id].name, must)));
}

static char *
quoted(const char *value)
{
	return psprintf("\"%s\"", value);
}

/* Ranges of numbers and intervals. */
static void
check_range(OptionId id, Datum value)
{
	const QueueOption *option = &queue_options[id];
	int64		number = 0;
	bool		legal = true;

	if (option->unit == 0)
		return;

	if (option->type == INTERVALOID)
	{
		Interval   *interval = DatumGetIntervalP(value);
		int64		days;

		/* months have no length; what is infinite has months, too */
		legal = interval->month == 0 &&
			!pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &days) &&
			!pg_add_s64_overflow(days, interval->time, &number);
	}
	else
		number = DatumGetInt32(value);

	if (!legal || number < option->min || number > option->max ||
		number % option->unit != 0)
		refuse_value(id,
					 option->type == INTERVALOID ?
					 quoted(DatumGetCString(DirectFunctionCall1(interval_out, value))) :
					 psprintf("%d", DatumGetInt32(value)),
					 psprintf("must be %s", option->legal));
}

/*
 * The server must be one of ours, complete, and open to the queue's owner.
 */
static void
check_server(const char *name, Oid owner, SqsServerOptions *options)
{
	ForeignServer *server = GetForeignServerByName(name, true);

	if (server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" does not exist", name),
				 errhint("Create it: CREATE SERVER %s FOREIGN DATA WRAPPER sqsbridge OPTIONS (region '...');",
						 quote_identifier(name))));
	if (!sqs_fdw_is_ours(server->fdwid))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" is not one of foreign-data wrapper sqsbridge", name),
				 errdetail("It belongs to foreign-data wrapper \"%s\".",
						   GetForeignDataWrapper(server->fdwid)->fdwname)));
	if (object_aclcheck(ForeignServerRelationId, server->serverid, owner,
						ACL_USAGE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for foreign server %s", name),
				 errdetail("The queue's owner, role \"%s\", needs the USAGE privilege on it.",
						   GetUserNameFromId(owner, false))));

	sqs_server_options(server, options);
	if (!sqs_server_has_region(options))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server \"%s\" has no region", name),
				 options->endpoint != NULL ?
				 errdetail("The host name of its endpoint does not tell the region.") : 0,
				 errhint("Run: ALTER SERVER %s OPTIONS (ADD region '...');",
						 quote_identifier(name))));
}

/* The name or the URL of a queue at AWS. */
static void
check_queue_name(const char *value, const SqsServerOptions *options)
{
	bool		is_url = strpbrk(value, ":/") != NULL;
	const char *why;

	if (!(is_url ? sqs_queue_url_is_valid(value, options->allow_http, &why) :
		  sqs_queue_name_is_valid(value, &why)))
	{
		/* a URL with a password in it is not repeated, not even in the log */
		if (strchr(value, '@') != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid value for option \"queue_name\""),
					 errdetail("Option \"queue_name\" %s.", why),
					 errhidestmt(true)));
		refuse_value(OPT_QUEUE_NAME, quoted(value), why);
	}
}

/* What a queue with a handler asks of the role that it runs as. */
static void
check_owner(const char *queue, Oid owner)
{
	char	   *name = GetUserNameFromId(owner, false);
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(owner));
	bool		can_login = HeapTupleIsValid(tuple) &&
		((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);

	if (SQS_OWNER_NEEDS_LOGIN && !can_login)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("role \"%s\" is not permitted to log in", name),
				 errdetail("The handler of queue \"%s\" runs in a session of its owner.", queue),
				 errhint("Run: ALTER ROLE %s LOGIN;", quote_identifier(name))));
	if (object_aclcheck(DatabaseRelationId, MyDatabaseId, owner, ACL_CONNECT) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for database %s", get_database_name(MyDatabaseId)),
				 errdetail("The handler of queue \"%s\" runs in a session of its owner, role \"%s\", which needs the CONNECT privilege.",
						   queue, name)));
	if (superuser_arg(owner))
		ereport(NOTICE,
				(errmsg("handler of queue \"%s\" will run with the rights of a superuser", queue),
				 errdetail("Whoever may send to the queue at AWS reaches a function that runs as role \"%s\".", name),
				 errhint("Let a role own the queue that has only the privileges the handler needs.")));
}

/* ---- finding the handler ---- */

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

/* Does this text name the type sqs_message, as the caller sees types? */
static bool
is_message_type(const char *given)
{
	Oid			message_type = sqs_message_type_oid();
	List	   *names;

	if (!SplitIdentifierString(pstrdup(given), '.', &names) || names == NIL ||
		strcmp(llast(names), "sqs_message") != 0)
		return false;
	if (list_length(names) == 1)
		return TypeIsVisible(message_type);
	return list_length(names) == 2 &&
		get_namespace_oid(linitial(names), true) == sqs_extension_schema();
}

/*
 * Split "schema.name(type)", schema and type being optional, into the list of
 * names and the type (NULL: not given).  False if it has not this form.
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

/*
 * Find the function that the caller means, see that the owner can call it,
 * and return its full name.
 */
static char *
find_handler(const char *given, Oid owner)
{
	Oid			message_type = sqs_message_type_oid();
	oidvector  *args = buildoidvector(&message_type, 1);
	const char *message_type_name = format_type_be(message_type);
	List	   *names;
	char	   *type;
	char	   *proname;
	List	   *namespaces;
	ListCell   *lc;
	char	   *handler = NULL;
	char	   *why;

	if (!split_handler(given, &names, &type))
		refuse_value(OPT_HANDLER, quoted(given),
					 "must be the name of a function, with or without its schema");
	if (type != NULL && !is_message_type(type))
		refuse_value(OPT_HANDLER, quoted(given),
					 psprintf("must be a function with one argument, of type %s",
							  message_type_name));

	proname = llast(names);
	if (list_length(names) == 2)
	{
		Oid			nsp = LookupExplicitNamespace(linitial(names), true);

		if (!OidIsValid(nsp))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_SCHEMA),
					 errmsg("schema \"%s\" does not exist", (char *) linitial(names)),
					 errdetail("Option \"handler\" is %s.", quoted(given))));
		namespaces = list_make1_oid(nsp);
	}
	else
		namespaces = fetch_search_path(false);

	foreach(lc, namespaces)
	{
		/* a temporary schema in the search path is not searched for functions */
		if (list_length(names) == 1 && isAnyTempNamespace(lfirst_oid(lc)))
			continue;
		if (SearchSysCacheExists3(PROCNAMEARGSNSP, CStringGetDatum(proname),
								  PointerGetDatum(args), ObjectIdGetDatum(lfirst_oid(lc))))
		{
			handler = quote_qualified_identifier(get_namespace_name(lfirst_oid(lc)), proname);
			break;
		}
	}

	if (handler == NULL)
	{
		bool		others = function_name_exists(proname, namespaces);
		const char *name = list_length(names) == 1 ? quote_identifier(proname) :
			quote_qualified_identifier(linitial(names), proname);

		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s(%s) does not exist", name, message_type_name),
				 others ?
				 errdetail("Option \"handler\" must be a function with one argument, of type %s; there is one of this name with other arguments.",
						   message_type_name) :
				 errdetail("Option \"handler\" must be a function with one argument, of type %s.",
						   message_type_name),
				 errhint("Create it: CREATE FUNCTION %s(msg %s) RETURNS void LANGUAGE plpgsql AS $$ BEGIN ... END $$;",
						 name, message_type_name)));
	}

	if (!OidIsValid(sqs_resolve_handler(handler, owner, &why)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"handler\": \"%s\"", given),
				 errdetail("It cannot be called: %s.", why),
				 errhint("A handler is a function with one argument, of type %s, that the queue's owner may execute.",
						 message_type_name)));
	return handler;
}

/* ---- the functions ---- */

static char *
queue_argument(FunctionCallInfo fcinfo)
{
	sqs_require_preloaded();
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("queue name must not be null")));
	return text_to_cstring(PG_GETARG_TEXT_PP(0));
}

/* The options among the arguments, values checked for themselves. */
static void
read_options(FunctionCallInfo fcinfo, Change *changes)
{
	memset(changes, 0, sizeof(Change) * NUM_OPTIONS);
	for (int id = 0; id < NUM_OPTIONS; id++)
	{
		if (PG_ARGISNULL(id + 1))
			continue;
		changes[id].is_set = true;
		changes[id].value = PG_GETARG_DATUM(id + 1);
		check_range(id, changes[id].value);
	}
}

static char *
resettable_options(void)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int id = 0; id < NUM_OPTIONS; id++)
	{
		if (queue_options[id].has_default)
			appendStringInfo(&buf, "%s%s", buf.len > 0 ? ", " : "", queue_options[id].name);
	}
	return buf.data;
}

/* The names of options to put back to their defaults. */
static void
read_resets(ArrayType *array, Change *changes)
{
	ArrayIterator iterator = array_create_iterator(array, 0, NULL);
	Datum		element;
	bool		isnull;

	while (array_iterate(iterator, &element, &isnull))
	{
		char	   *name = isnull ? NULL : TextDatumGetCString(element);
		int			id;

		for (id = 0; id < NUM_OPTIONS; id++)
		{
			if (name != NULL && queue_options[id].has_default &&
				strcmp(queue_options[id].name, name) == 0)
				break;
		}
		if (id == NUM_OPTIONS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid element of \"reset\": %s",
							name != NULL ? quoted(name) : "NULL"),
					 errdetail("Options that can be reset are: %s.", resettable_options())));
		if (changes[id].is_set)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"%s\" is both set and reset", name)));
		changes[id].is_reset = true;
	}
	array_free_iterator(iterator);
}

Datum
sqsbridge_check_preloaded(PG_FUNCTION_ARGS)
{
	sqs_require_preloaded();
	PG_RETURN_VOID();
}

Datum
sqs_register_queue(PG_FUNCTION_ARGS)
{
	char	   *name = queue_argument(fcinfo);
	Oid			owner = GetUserId();
	Change		changes[NUM_OPTIONS];
	char	   *server;
	char	   *queue_name = name;
	SqsServerOptions server_options;
	const char *why;
	StringInfoData columns;
	StringInfoData parameters;
	Oid			types[NUM_OPTIONS + 2];
	Datum		values[NUM_OPTIONS + 2];
	int			nargs = 0;

	if (!sqs_queue_name_is_valid(name, &why))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid queue name: \"%s\"", name),
				 errdetail("A queue's name %s.", why),
				 errhint("The URL of a queue at AWS goes into option \"queue_name\".")));

	read_options(fcinfo, changes);
	if (!changes[OPT_SERVER].is_set)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("option \"server\" must not be null")));
	server = NameStr(*DatumGetName(changes[OPT_SERVER].value));
	check_server(server, owner, &server_options);

	if (changes[OPT_QUEUE_NAME].is_set)
	{
		queue_name = TextDatumGetCString(changes[OPT_QUEUE_NAME].value);
		check_queue_name(queue_name, &server_options);
	}
	changes[OPT_QUEUE_NAME].is_set = true;
	changes[OPT_QUEUE_NAME].value = CStringGetTextDatum(queue_name);

	begin_spi();

	if (changes[OPT_HANDLER].is_set)
	{
		char	   *given = TextDatumGetCString(changes[OPT_HANDLER].value);

		changes[OPT_HANDLER].value = CStringGetTextDatum(find_handler(given, owner));
		check_owner(name, owner);
	}

	/* what is not given gets the column's default */
	initStringInfo(&columns);
	initStringInfo(&parameters);
	appendStringInfoString(&columns, "name, owner");
	appendStringInfoString(&parameters, "$1, $2");
	types[nargs] = TEXTOID;
	values[nargs++] = CStringGetTextDatum(name);
	types[nargs] = REGROLEOID;
	values[nargs++] = ObjectIdGetDatum(owner);
	for (int id = 0; id < NUM_OPTIONS; id++)
	{
		if (!changes[id].is_set)
			continue;
		types[nargs] = queue_options[id].type;
		values[nargs++] = changes[id].value;
		appendStringInfo(&columns, ", %s", queue_options[id].name);
		appendStringInfo(&parameters, ", $%d", nargs);
	}

	if (run(psprintf("INSERT INTO %s (%s) VALUES (%s) ON CONFLICT DO NOTHING",
					 queues_table(), columns.data, parameters.data),
			nargs, types, values, NULL) == 0)
	{
		if (run(psprintf("SELECT name FROM %s WHERE name OPERATOR(pg_catalog.=) $1",
						 queues_table()), 1, types, values, NULL) == 0)
			refuse_second_consumer(0, server, queue_name);

		/*
		 * Under REPEATABLE READ the row in the way may be out of our sight:
		 * then it is not known which of its names it is.
		 */
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("queue \"%s\" is already registered", name),
				 errhint("To change it, use sqs_alter_queue().")));
	}
	end_spi();

	sqs_wake_at_commit();
	PG_RETURN_VOID();
}

Datum
sqs_alter_queue(PG_FUNCTION_ARGS)
{
	char	   *name = queue_argument(fcinfo);
	RegisteredQueue *queue;
	Change		changes[NUM_OPTIONS];
	SqsServerOptions server_options;
	char	   *server;
	char	   *queue_name;
	bool		has_handler;
	StringInfoData sql;
	Oid			types[NUM_OPTIONS + 1];
	Datum		values[NUM_OPTIONS + 1];
	int			nargs = 0;
	bool		any = false;

	read_options(fcinfo, changes);
	if (!PG_ARGISNULL(NUM_OPTIONS + 1))
		read_resets(PG_GETARG_ARRAYTYPE_P(NUM_OPTIONS + 1), changes);

	begin_spi();
	queue = find_queue(name);

	/*
	 * Only what is changed is checked: what has broken since does not stand
	 * in the way of changing something else.
	 */
	if ((changes[OPT_SERVER].is_set || changes[OPT_HANDLER].is_set) &&
		!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(queue->owner)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the owner of queue \"%s\" does not exist any more", name),
				 errhint("Unregister the queue, and register it again as the role that shall own it.")));

	server = queue->server;
	if (changes[OPT_SERVER].is_set)
	{
		server = NameStr(*DatumGetName(changes[OPT_SERVER].value));
		check_server(server, queue->owner, &server_options);
	}
	else
	{
		ForeignServer *current = GetForeignServerByName(server, true);

		memset(&server_options, 0, sizeof(server_options));
		if (current != NULL && sqs_fdw_is_ours(current->fdwid))
			sqs_server_options(current, &server_options);
	}

	queue_name = queue->queue_name;
	if (changes[OPT_QUEUE_NAME].is_set)
		queue_name = TextDatumGetCString(changes[OPT_QUEUE_NAME].value);
	else if (changes[OPT_QUEUE_NAME].is_reset)
	{
		/* the default is not the column's: it is the name here */
		queue_name = name;
		changes[OPT_QUEUE_NAME].is_reset = false;
		changes[OPT_QUEUE_NAME].is_set = true;
		changes[OPT_QUEUE_NAME].value = CStringGetTextDatum(queue_name);
	}
	if (changes[OPT_QUEUE_NAME].is_set || changes[OPT_SERVER].is_set)
		check_queue_name(queue_name, &server_options);

	has_handler = queue->handler != NULL && !changes[OPT_HANDLER].is_reset;
	if (changes[OPT_HANDLER].is_set)
	{
		char	   *given = TextDatumGetCString(changes[OPT_HANDLER].value);

		changes[OPT_HANDLER].value = CStringGetTextDatum(find_handler(given, queue->owner));
		check_owner(name, queue->owner);
		has_handler = true;
	}
	if (has_handler && (changes[OPT_HANDLER].is_set || changes[OPT_SERVER].is_set ||
						changes[OPT_QUEUE_NAME].is_set))
		refuse_second_consumer(queue->queue_id, server, queue_name);

	types[nargs] = INT4OID;
	values[nargs++] = Int32GetDatum(queue->queue_id);
	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s SET changed_at = pg_catalog.now()", queues_table());
	for (int id = 0; id < NUM_OPTIONS; id++)
	{
		if (changes[id].is_reset)
			appendStringInfo(&sql, ", %s = DEFAULT", queue_options[id].name);
		else if (changes[id].is_set)
		{
			types[nargs] = queue_options[id].type;
			values[nargs++] = changes[id].value;
			appendStringInfo(&sql, ", %s = $%d", queue_options[id].name, nargs);
		}
		else
			continue;
		any = true;
	}
	appendStringInfoString(&sql, " WHERE queue_id OPERATOR(pg_catalog.=) $1");

	if (any)
	{
		if (run(sql.data, nargs, types, values, NULL) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("queue \"%s\" has just been unregistered", name)));
		sqs_wake_at_commit();
	}
	end_spi();
	PG_RETURN_VOID();
}

Datum
sqs_unregister_queue(PG_FUNCTION_ARGS)
{
	char	   *name = queue_argument(fcinfo);
	Oid			types[1] = {INT4OID};
	Datum		values[1];

	begin_spi();
	values[0] = Int32GetDatum(find_queue(name)->queue_id);
	run(psprintf("DELETE FROM %s WHERE queue_id OPERATOR(pg_catalog.=) $1", queues_table()),
		1, types, values, NULL);
	end_spi();

	sqs_wake_at_commit();
	PG_RETURN_VOID();
}

static void
set_enabled(char *name, bool enabled)
{
	Oid			types[2] = {INT4OID, BOOLOID};
	Datum		values[2];

	begin_spi();
	values[0] = Int32GetDatum(find_queue(name)->queue_id);
	values[1] = BoolGetDatum(enabled);
	if (run(psprintf("UPDATE %s SET enabled = $2, changed_at = pg_catalog.now() "
					 "WHERE queue_id OPERATOR(pg_catalog.=) $1 "
					 "AND enabled OPERATOR(pg_catalog.<>) $2", queues_table()),
			2, types, values, NULL) > 0)
		sqs_wake_at_commit();
	end_spi();
}

Datum
sqs_disable_queue(PG_FUNCTION_ARGS)
{
	set_enabled(queue_argument(fcinfo), false);
	PG_RETURN_VOID();
}

Datum
sqs_enable_queue(PG_FUNCTION_ARGS)
{
	set_enabled(queue_argument(fcinfo), true);
	PG_RETURN_VOID();
}
