/*-------------------------------------------------------------------------
 *
 * register.c
 *	  SQL functions that change what is configured.
 *
 * Everybody may call them: everything is checked as the calling role (its
 * privileges, the values, what names refer to).  Then the row is written below
 * the executor, where no privilege is asked and no trigger runs.
 *
 * Rows are treated as those of a catalog are: a function works on the newest
 * version of a row, whatever the transaction's isolation level, and a lock on
 * the queue makes those that change the same queue wait for each other.  The
 * lock is taken only after the caller has shown the right to change the queue.
 *
 * Owner, server and handler are stored by OID and by name; see SqsBinding.
 * sqs_alter_queue() without an option stores what they have become: with it a
 * person confirms a change that has stopped the queue.
 *
 * The functions run in the caller's search path, because a handler's name is
 * meant the way the caller sees it, and is stored with its schema.
 *
 * Nothing here talks to the workers.  A change wakes them at commit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/xact.h"
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
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "aws/endpoint.h"
#include "base/compat.h"
#include "base/extension.h"
#include "base/ids.h"
#include "base/settings.h"
#include "base/wake_at_commit.h"
#include "config/database_mark.h"
#include "config/fdw.h"
#include "config/queue_row.h"
#include "config/queues.h"

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
	const char *default_value;	/* NULL: null */
} QueueOption;

static const QueueOption queue_options[NUM_OPTIONS] = {
	[OPT_SERVER] = {"server", NAMEOID, 0, 0, 0, NULL, false},
	[OPT_HANDLER] = {"handler", TEXTOID, 0, 0, 0, NULL, true},
	[OPT_QUEUE_NAME] = {"queue_name", TEXTOID, 0, 0, 0, NULL, true},
	[OPT_CONCURRENCY] = {"concurrency", INT4OID, 1, SQS_CONCURRENCY_MAX, 1,
	"1 to 64", true, "1"},
	[OPT_BATCH_SIZE] = {"batch_size", INT4OID, 1, 10, 1,
	"1 to 10", true, "10"},
	[OPT_WAIT_TIME] = {"wait_time", INTERVALOID, 0, 20 * USECS_PER_SEC, USECS_PER_SEC,
	"0 to 20 seconds, in whole seconds", true, "20 s"},
	[OPT_VISIBILITY_TIMEOUT] = {"visibility_timeout", INTERVALOID,
		USECS_PER_SEC, 12 * USECS_PER_HOUR, USECS_PER_SEC,
	"1 second to 12 hours, in whole seconds", true},
	[OPT_HANDLER_TIMEOUT] = {"handler_timeout", INTERVALOID, 1000, 12 * USECS_PER_HOUR, 1000,
	"1 millisecond to 12 hours, in whole milliseconds", true},
	[OPT_RETRY_DELAY] = {"retry_delay", INTERVALOID, 0, 12 * USECS_PER_HOUR, USECS_PER_SEC,
	"0 to 12 hours, in whole seconds", true},
	[OPT_EXACTLY_ONCE] = {"exactly_once", BOOLOID, 0, 0, 0, NULL, true, "true"},
	[OPT_DEDUP_RETENTION] = {"dedup_retention", INTERVALOID,
		USECS_PER_MINUTE, 365 * USECS_PER_DAY, 1,
	"1 minute to 365 days, without months and years", true, "1 day"},
	[OPT_ENABLED] = {"enabled", BOOLOID, 0, 0, 0, NULL, false, "true"},
};

/* What a call asks for an option; neither: leave it. */
typedef struct Change
{
	bool		is_set;			/* to this value */
	bool		is_reset;		/* to its default */
	Datum		value;
} Change;

static void
queue_does_not_exist(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("queue \"%s\" does not exist", name),
			 errhint("The registered queues are in sqs_queues.")));
}

/*
 * Find the queue, make sure that the current role may change it, and keep
 * others from changing it before we are done.  Pushes a snapshot in which the
 * queue's row is the newest, to be popped by the caller.
 *
 * A row that says "owner 16384" proves nothing if role 16384 has another name
 * by now, or if the row is a copy: then it takes a superuser.
 */
static SqsQueueConfig *
find_queue(const char *name)
{
	SqsQueueConfig *queue = NULL;
	int32		queue_id = 0;

	for (;;)
	{
		PushActiveSnapshot(GetLatestSnapshot());
		queue = sqs_catalog_queue_by_name(name);
		if (queue == NULL)
			queue_does_not_exist(name);
		if (queue->is_copy || sqs_role_changed(&queue->bound_owner) != NULL)
		{
			if (!superuser())
				ereport(ERROR,
						(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						 errmsg("must be superuser to change queue \"%s\"", name),
						 errdetail("It is not known who else may do so: %s.",
								   queue->is_copy ? "the queue is a copy of one of another database" :
								   sqs_role_changed(&queue->bound_owner))));
		}
		else if (!has_privs_of_role(GetUserId(), queue->owner))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("must be owner of queue \"%s\"", name)));

		/* the first time round we may have waited: look again */
		if (queue->queue_id == queue_id)
			return queue;
		PopActiveSnapshot();
		queue_id = queue->queue_id;
		LockDatabaseObject(sqs_table_oid(SQS_TABLE_QUEUES), queue_id, 0, ExclusiveLock);
	}
}

/*
 * Is the queue of this server consumed under another name already?  A queue's
 * URL ends in its name, so one may be registered by name and once more by URL;
 * with another account in it the URL is of another queue.
 */
static const char *
url_part(const char *queue_name, bool account)
{
	const char *name = strrchr(queue_name, '/');
	const char *start;

	if (name == NULL)
		return account ? NULL : queue_name;
	if (!account)
		return name + 1;
	for (start = name; start > queue_name && start[-1] != '/'; start--)
		;
	return pnstrdup(start, name - start);
}

static bool
is_same_queue(const char *left, const char *right)
{
	const char *left_account = url_part(left, true);
	const char *right_account = url_part(right, true);

	return strcmp(url_part(left, false), url_part(right, false)) == 0 &&
		(left_account == NULL || right_account == NULL ||
		 strcmp(left_account, right_account) == 0);
}

static void
refuse_second_consumer(int32 queue_id, Oid server, const char *queue_name)
{
	ListCell   *lc;

	foreach(lc, sqs_catalog_queues())
	{
		SqsQueueConfig *queue = lfirst(lc);

		if (queue->queue_id != queue_id && queue->handler != NULL && !queue->is_copy &&
			queue->server_oid == server && is_same_queue(queue->queue_name, queue_name))
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("queue \"%s\" of server \"%s\" has a handler already",
							queue_name, queue->server),
					 errdetail("It is registered as \"%s\".", queue->name),
					 errhint("Two handlers would take each other's messages. To handle more at once, raise its \"concurrency\".")));
	}
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
static ForeignServer *
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
	return server;
}

/*
 * The region that requests of the server go to, if it is known: an endpoint of
 * one's own tells none.
 */
static bool
region_of_server(const SqsServerOptions *options, char *buf, size_t size)
{
	AwsUrl		url;
	const char *why;

	if (options->endpoint != NULL)
		return aws_url_parse(options->endpoint, &url, &why) &&
			aws_region_of_host(url.host, buf, size);
	if (options->region == NULL)
		return false;
	strlcpy(buf, options->region, size);
	return true;
}

/*
 * A queue's URL does not decide where requests go, the server does.  One that
 * names another region would lead to a queue that is not there, or to another
 * of the same name.
 */
static void
check_url_region(const char *value, const SqsServerOptions *options)
{
	AwsUrl		url;
	const char *why;
	char		server_region[64];
	char		url_region[64];

	if (aws_url_parse(value, &url, &why) &&
		aws_region_of_host(url.host, url_region, sizeof(url_region)) &&
		region_of_server(options, server_region, sizeof(server_region)) &&
		strcmp(url_region, server_region) != 0)
		refuse_value(OPT_QUEUE_NAME, quoted(value),
					 psprintf("names a queue in region %s, but its server is in %s",
							  url_region, server_region));
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
	if (is_url)
		check_url_region(value, options);
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
 * and return its full name and OID.
 */
static char *
find_handler(const char *given, Oid owner, Oid *funcid)
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

	*funcid = sqs_resolve_handler(handler, owner, &why);
	if (!OidIsValid(*funcid))
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

/*
 * What one role may take.  For a queue that is to be registered, or altered;
 * whatever has been registered before a limit was set is kept within it by
 * the database worker.
 */
static void
check_role_limits(Oid owner, bool is_new, const Change *changes)
{
	int			queues = 0;
	int			concurrency = changes[OPT_CONCURRENCY].is_set ?
		DatumGetInt32(changes[OPT_CONCURRENCY].value) : 1;
	ListCell   *lc;

	if (sqs_max_handlers_per_role > 0 && concurrency > sqs_max_handlers_per_role)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("invalid value for option \"concurrency\": %d", concurrency),
				 errdetail("The queues of one role may have %d handlers together.",
						   sqs_max_handlers_per_role),
				 errhint("The limit is the setting sqsbridge.max_handlers_per_role.")));
	if (!is_new || sqs_max_queues_per_role == 0)
		return;
	foreach(lc, sqs_catalog_queues())
	{
		if (((SqsQueueConfig *) lfirst(lc))->owner == owner)
			queues++;
	}
	if (queues >= sqs_max_queues_per_role)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("role \"%s\" has %d queues registered, and may not register another",
						GetUserNameFromId(owner, false), queues),
				 errhint("Unregister one that is not needed; the limit is the setting sqsbridge.max_queues_per_role (now %d).",
						 sqs_max_queues_per_role)));
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

/* The default of an option, as the column has it; false: null. */
static bool
default_value(OptionId id, Datum *value)
{
	const QueueOption *option = &queue_options[id];

	if (option->default_value == NULL)
		return false;
	switch (option->type)
	{
		case INT4OID:
			*value = DirectFunctionCall1(int4in, CStringGetDatum(option->default_value));
			break;
		case BOOLOID:
			*value = DirectFunctionCall1(boolin, CStringGetDatum(option->default_value));
			break;
		default:
			Assert(option->type == INTERVALOID);
			*value = DirectFunctionCall3(interval_in, CStringGetDatum(option->default_value),
										 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	}
	return true;
}

/* The options that are plain values; the rest is for the callers. */
static void
set_plain_options(SqsQueueRow *row, const Change *changes, bool all)
{
	for (int id = OPT_CONCURRENCY; id < NUM_OPTIONS; id++)
	{
		const char *name = queue_options[id].name;
		Datum		value;

		if (changes[id].is_set)
			sqs_queue_row_set(row, name, changes[id].value);
		else if (!changes[id].is_reset && !all)
			continue;
		else if (default_value(id, &value))
			sqs_queue_row_set(row, name, value);
		else
			sqs_queue_row_set_null(row, name);
	}
}

Datum
sqs_register_queue(PG_FUNCTION_ARGS)
{
	char	   *name = queue_argument(fcinfo);
	Oid			owner = GetUserId();
	Change		changes[NUM_OPTIONS];
	ForeignServer *server;
	char	   *queue_name = name;
	SqsServerOptions server_options;
	const char *why;
	SqsQueueRow	row;

	if (!sqs_queue_name_is_valid(name, &why))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid queue name: \"%s\"", name),
				 errdetail("A queue's name %s.", why),
				 errhint("The URL of a queue at AWS goes into option \"queue_name\".")));
	PreventCommandIfReadOnly("sqs_register_queue()");

	read_options(fcinfo, changes);
	if (!changes[OPT_SERVER].is_set)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("option \"server\" must not be null")));
	server = check_server(NameStr(*DatumGetName(changes[OPT_SERVER].value)), owner,
						  &server_options);
	if (changes[OPT_QUEUE_NAME].is_set)
	{
		queue_name = TextDatumGetCString(changes[OPT_QUEUE_NAME].value);
		check_queue_name(queue_name, &server_options);
	}

	PushActiveSnapshot(GetLatestSnapshot());
	check_role_limits(owner, true, changes);
	sqs_queue_row_open(&row);
	if (changes[OPT_HANDLER].is_set)
	{
		Oid			funcid;
		char	   *handler = find_handler(TextDatumGetCString(changes[OPT_HANDLER].value),
										   owner, &funcid);

		check_owner(name, owner);
		sqs_queue_row_bind_handler(&row, handler, funcid);
	}
	sqs_queue_row_set_text(&row, "name", name);
	sqs_queue_row_bind_owner(&row, owner);
	sqs_queue_row_bind_server(&row, server);
	sqs_queue_row_set_text(&row, "queue_name", queue_name);
	set_plain_options(&row, changes, true);
	sqs_queue_row_set(&row, "created_at", TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	sqs_queue_row_set(&row, "changed_at", TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));

	if (sqs_catalog_queue_by_name(name) == NULL && changes[OPT_HANDLER].is_set)
		refuse_second_consumer(0, server->serverid, queue_name);
	sqs_queue_row_set(&row, "queue_id", Int32GetDatum(sqs_new_queue_id()));
	if (!sqs_writer_insert_new(row.writer, row.values, row.nulls, NIL, NULL))
	{
		PushActiveSnapshot(GetLatestSnapshot());
		if (sqs_catalog_queue_by_name(name) == NULL)
			refuse_second_consumer(0, server->serverid, queue_name);
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("queue \"%s\" is already registered", name),
				 errhint("To change it, use sqs_alter_queue().")));
	}
	sqs_queue_row_close(&row);
	PopActiveSnapshot();

	sqs_mark_database_wanted();
	sqs_wake_at_commit();
	PG_RETURN_VOID();
}

/*
 * The owner after a change: the one there was, unless a superuser names
 * another, as it must where the one there was is gone.  If the owner is to be
 * bound anew, the role that has its name by now.
 */
static Oid
new_owner(FunctionCallInfo fcinfo, int argument, const SqsQueueConfig *queue, bool bind)
{
	if (!PG_ARGISNULL(argument))
	{
		if (!superuser())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("must be superuser to change the owner of queue \"%s\"", queue->name)));
		return get_role_oid(NameStr(*PG_GETARG_NAME(argument)), false);
	}
	if (!bind || GetUserNameFromId(queue->owner, true) != NULL)
		return queue->owner;
	if (!OidIsValid(get_role_oid(queue->bound_owner.name, true)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the owner of queue \"%s\", role \"%s\", does not exist",
						queue->name, queue->bound_owner.name),
				 errhint("As a superuser, name another: sqs_alter_queue(%s, owner => ...).",
						 quote_literal_cstr(queue->name))));
	return get_role_oid(queue->bound_owner.name, false);
}

/* Is everything that the queue refers to still what it was? */
static bool
is_as_bound(const SqsQueueConfig *queue)
{
	char	   *why;

	return sqs_role_changed(&queue->bound_owner) == NULL &&
		sqs_server_changed(&queue->bound_server) == NULL &&
		(queue->handler == NULL ||
		 OidIsValid(sqs_bound_handler(&queue->bound_handler, queue->owner, &why)));
}

Datum
sqs_alter_queue(PG_FUNCTION_ARGS)
{
	char	   *name = queue_argument(fcinfo);
	SqsQueueConfig *queue;
	Change		changes[NUM_OPTIONS];
	SqsServerOptions server_options;
	ForeignServer *server;
	Oid			server_oid;
	Oid			owner;
	char	   *queue_name;
	char	   *handler;
	Oid			funcid = InvalidOid;
	bool		confirm;
	bool		new_server;
	bool		new_handler;
	SqsQueueRow	row;

	PreventCommandIfReadOnly("sqs_alter_queue()");
	read_options(fcinfo, changes);
	if (!PG_ARGISNULL(NUM_OPTIONS + 1))
		read_resets(PG_GETARG_ARRAYTYPE_P(NUM_OPTIONS + 1), changes);

	queue = find_queue(name);
	if (queue->is_copy)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue \"%s\" is a copy of a queue of another database", name),
				 errhint("If it shall work here too, call sqs_adopt_queues() first.")));

	/*
	 * Only what is changed is checked: what has broken since does not stand
	 * in the way of changing something else.  Without any option everything
	 * is, and is bound anew, if something has become something else.
	 */
	confirm = PG_ARGISNULL(NUM_OPTIONS + 2);
	for (int id = 0; id < NUM_OPTIONS; id++)
		confirm &= !changes[id].is_set && !changes[id].is_reset;
	if (confirm && is_as_bound(queue))
	{
		PopActiveSnapshot();
		PG_RETURN_VOID();
	}
	owner = new_owner(fcinfo, NUM_OPTIONS + 2, queue,
					  confirm || changes[OPT_SERVER].is_set || changes[OPT_HANDLER].is_set);
	check_role_limits(owner, owner != queue->owner, changes);
	new_server = confirm || changes[OPT_SERVER].is_set || owner != queue->owner;
	new_handler = confirm || changes[OPT_HANDLER].is_set || owner != queue->owner;

	server_oid = queue->server_oid;
	memset(&server_options, 0, sizeof(server_options));
	if (new_server)
	{
		/* what is confirmed is what the problem says: it has another name */
		server = GetForeignServerExtended(server_oid, FSV_MISSING_OK);
		server = check_server(changes[OPT_SERVER].is_set ?
							  NameStr(*DatumGetName(changes[OPT_SERVER].value)) :
							  server != NULL ? server->servername : queue->server,
							  owner, &server_options);
		server_oid = server->serverid;
	}
	else if ((server = GetForeignServerExtended(server_oid, FSV_MISSING_OK)) != NULL &&
			 sqs_fdw_is_ours(server->fdwid))
		sqs_server_options(server, &server_options);

	queue_name = queue->queue_name;
	if (changes[OPT_QUEUE_NAME].is_set)
		queue_name = TextDatumGetCString(changes[OPT_QUEUE_NAME].value);
	else if (changes[OPT_QUEUE_NAME].is_reset)
		queue_name = name;		/* the default: as it is named here */
	if (changes[OPT_QUEUE_NAME].is_set || changes[OPT_SERVER].is_set)
		check_queue_name(queue_name, &server_options);

	handler = changes[OPT_HANDLER].is_reset ? NULL :
		changes[OPT_HANDLER].is_set ? TextDatumGetCString(changes[OPT_HANDLER].value) :
		queue->handler;
	if (handler != NULL && new_handler)
	{
		handler = find_handler(handler, owner, &funcid);
		check_owner(name, owner);
	}
	if (handler != NULL &&
		(new_handler || changes[OPT_SERVER].is_set || changes[OPT_QUEUE_NAME].is_set ||
		 changes[OPT_QUEUE_NAME].is_reset))
		refuse_second_consumer(queue->queue_id, server_oid, queue_name);

	sqs_queue_row_open(&row);
	if (!sqs_queue_row_read(&row, queue->queue_id))
		queue_does_not_exist(name);
	/* who names the owner means the role of that name, renamed or not */
	if (confirm || owner != queue->owner || !PG_ARGISNULL(NUM_OPTIONS + 2))
		sqs_queue_row_bind_owner(&row, owner);
	if (new_server)
		sqs_queue_row_bind_server(&row, server);
	if (handler == NULL)
		sqs_queue_row_bind_no_handler(&row);
	else if (new_handler)
		sqs_queue_row_bind_handler(&row, handler, funcid);
	sqs_queue_row_set_text(&row, "queue_name", queue_name);
	set_plain_options(&row, changes, false);
	sqs_queue_row_update(&row);
	sqs_queue_row_close(&row);
	PopActiveSnapshot();

	sqs_mark_database_wanted();
	sqs_wake_at_commit();
	PG_RETURN_VOID();
}

Datum
sqs_unregister_queue(PG_FUNCTION_ARGS)
{
	char	   *name = queue_argument(fcinfo);
	SqsQueueConfig *queue;
	SqsQueueRow	row;

	PreventCommandIfReadOnly("sqs_unregister_queue()");
	queue = find_queue(name);
	sqs_queue_row_open(&row);
	if (!sqs_queue_row_read(&row, queue->queue_id) ||
		sqs_writer_delete(row.writer, &row.tid, true) != SQS_WRITTEN)
		queue_does_not_exist(name);
	sqs_queue_row_close(&row);
	PopActiveSnapshot();

	sqs_wake_at_commit();
	PG_RETURN_VOID();
}

static void
set_enabled(char *name, bool enabled)
{
	SqsQueueConfig *queue = find_queue(name);

	if (queue->enabled != enabled)
	{
		SqsQueueRow	row;

		sqs_queue_row_open(&row);
		if (!sqs_queue_row_read(&row, queue->queue_id))
			queue_does_not_exist(name);
		sqs_queue_row_set(&row, "enabled", BoolGetDatum(enabled));
		sqs_queue_row_update(&row);
		sqs_queue_row_close(&row);
		sqs_mark_database_wanted();
		sqs_wake_at_commit();
	}
	PopActiveSnapshot();
}

Datum
sqs_disable_queue(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("sqs_disable_queue()");
	set_enabled(queue_argument(fcinfo), false);
	PG_RETURN_VOID();
}

Datum
sqs_enable_queue(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("sqs_enable_queue()");
	set_enabled(queue_argument(fcinfo), true);
	PG_RETURN_VOID();
}
