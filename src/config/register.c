/*-------------------------------------------------------------------------
 *
 * register.c
 *	  SQL functions that change which queues are configured, and how.
 *
 * Every role may call them.  Everything is checked as the calling role: its
 * privileges, the values, what names refer to.  Then the row is written below
 * the executor, where privileges are not checked and triggers do not run.
 *
 * Rows are treated like those of a system catalog: a function works on the
 * newest version of a row, whatever the transaction's isolation level, and a
 * lock on the queue serializes changes of it.  The lock is taken only after
 * the caller has proved the right to change the queue, so that other roles
 * cannot block it.
 *
 * Owner, server and handler are stored by OID and by name; see SqsBinding.
 * sqs_alter_queue() without an option stores what they are now: that is how an
 * administrator confirms a change that has stopped the queue.
 *
 * The functions run with the caller's search path, in which the handler's name
 * is looked up; it is stored with its schema.
 *
 * Nothing here talks to the workers; a change wakes them at commit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "aws/endpoint.h"
#include "base/compat.h"
#include "base/ids.h"
#include "base/settings.h"
#include "base/wake_at_commit.h"
#include "config/database_mark.h"
#include "config/error_rules.h"
#include "config/fdw.h"
#include "config/handler_name.h"
#include "config/parked_groups.h"
#include "config/queue_options.h"
#include "config/queue_row.h"
#include "config/queues.h"
#include "config/routes.h"

PG_FUNCTION_INFO_V1(sqsbridge_check_preloaded);
PG_FUNCTION_INFO_V1(sqs_register_queue);
PG_FUNCTION_INFO_V1(sqs_alter_queue);
PG_FUNCTION_INFO_V1(sqs_unregister_queue);
PG_FUNCTION_INFO_V1(sqs_disable_queue);
PG_FUNCTION_INFO_V1(sqs_enable_queue);

static void
queue_does_not_exist(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("queue \"%s\" does not exist", name),
			 errhint("The registered queues are listed in sqs_queues.")));
}

/*
 * The queue's name in a name, URL or ARN, or with "account" the account in a URL
 * or ARN (NULL: it is a name), which precedes the name.
 */
static const char *
queue_part(const char *queue_name, bool account)
{
	char		separator = sqs_queue_is_arn(queue_name) ? ':' : '/';
	const char *name = strrchr(queue_name, separator);
	const char *start;

	if (name == NULL)
		return account ? NULL : queue_name;
	if (!account)
		return name + 1;
	for (start = name; start > queue_name && start[-1] != separator; start--)
		;
	return pnstrdup(start, name - start);
}

/*
 * Do these two mean the same queue of a server?  URLs and ARNs with different
 * accounts do not; a name could mean the queue of any of them with it.
 */
static bool
is_same_queue(const char *left, const char *right)
{
	const char *left_account = queue_part(left, true);
	const char *right_account = queue_part(right, true);

	return strcmp(queue_part(left, false), queue_part(right, false)) == 0 &&
		(left_account == NULL || right_account == NULL ||
		 strcmp(left_account, right_account) == 0);
}

/*
 * An ERROR if another registered queue with a handler is the same at AWS.
 * queue_id is that of the queue being changed; 0: it is new.
 */
static void
refuse_second_consumer(int32 queue_id, Oid server, const char *queue_name)
{
	ListCell   *lc;

	foreach(lc, sqs_catalog_queues())
	{
		SqsQueueConfig *queue = lfirst(lc);

		if (queue->queue_id != queue_id && sqs_queue_receives(queue) && !queue->is_copy &&
			queue->server_oid == server && is_same_queue(queue->queue_name, queue_name))
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("queue \"%s\" of server \"%s\" already has a handler",
							queue_name, queue->server),
					 errdetail("It is registered as \"%s\".", queue->name),
					 errhint("Two handlers would take each other's messages. To handle more at the same time, increase its \"concurrency\".")));
	}
}

/*
 * An ERROR unless the server is one of ours, has a region, and the queue's owner
 * has USAGE on it.
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
				 errdetail("The host name of its endpoint does not contain one.") : 0,
				 errhint("Run: ALTER SERVER %s OPTIONS (ADD region '...');",
						 quote_identifier(name))));
	return server;
}

/* An ERROR if a handler cannot run as this role; a NOTICE if it is a superuser. */
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
				 errdetail("Anybody who can send to the queue at AWS can call a function that runs as role \"%s\".", name),
				 errhint("Make a role that has only the privileges that the handler needs the owner of the queue.")));
}

/* ---- the functions ---- */

/*
 * An ERROR if registering or altering a queue would exceed the limits per role.
 * Queues registered before a limit was set are kept within it by the database
 * worker.
 */
static void
check_role_limits(Oid owner, bool is_new, const SqsOptionChange *changes)
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

	/* wait for other sessions of the role that are registering a queue */
	LockDatabaseObject(sqs_table_oid(SQS_TABLE_QUEUES), owner, 1, ExclusiveLock);
	PushActiveSnapshot(GetLatestSnapshot());
	foreach(lc, sqs_catalog_queues())
	{
		if (((SqsQueueConfig *) lfirst(lc))->owner == owner)
			queues++;
	}
	PopActiveSnapshot();
	if (queues >= sqs_max_queues_per_role)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("role \"%s\" has %d queues registered, and may not register another",
						GetUserNameFromId(owner, false), queues),
				 errhint("Unregister one that is not needed; the limit is the setting sqsbridge.max_queues_per_role (now %d).",
						 sqs_max_queues_per_role)));
}

Datum
sqsbridge_check_preloaded(PG_FUNCTION_ARGS)
{
	sqs_require_preloaded();
	PG_RETURN_VOID();
}

/*
 * The name is checked by the unique index, after all checks that do not need
 * it; which of two errors is reported when another session commits the same
 * name meanwhile depends on what that session has registered.
 */
Datum
sqs_register_queue(PG_FUNCTION_ARGS)
{
	char	   *name = sqs_queue_argument(fcinfo);
	Oid			owner = GetUserId();
	SqsOptionChange changes[NUM_OPTIONS];
	ForeignServer *server;
	char	   *queue_name = name;
	SqsServerOptions server_options;
	bool		receives;
	const char *why;
	SqsQueueRow row;

	if (!sqs_queue_name_is_valid(name, &why))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid queue name: \"%s\"", name),
				 errdetail("A queue's name %s.", why),
				 errhint("Specify the URL or ARN of a queue at AWS in option \"queue_name\".")));
	PreventCommandIfReadOnly("sqs_register_queue()");

	sqs_options_read(fcinfo, changes);
	if (!changes[OPT_SERVER].is_set)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("option \"server\" must not be null")));
	server = check_server(NameStr(*DatumGetName(changes[OPT_SERVER].value)), owner,
						  &server_options);
	if (changes[OPT_QUEUE_NAME].is_set)
	{
		queue_name = TextDatumGetCString(changes[OPT_QUEUE_NAME].value);
		sqs_option_check_queue_name(queue_name, &server_options);
	}

	receives = changes[OPT_HANDLER].is_set || changes[OPT_ROUTE_BY].is_set;

	PushActiveSnapshot(GetLatestSnapshot());
	check_role_limits(owner, true, changes);
	sqs_queue_row_open(&row);
	if (changes[OPT_HANDLER].is_set)
	{
		Oid			funcid;
		char	   *handler = sqs_find_handler(TextDatumGetCString(changes[OPT_HANDLER].value),
											   owner, &funcid);

		sqs_queue_row_bind_handler(&row, handler, funcid);
	}
	if (receives)
		check_owner(name, owner);
	sqs_queue_row_set_text(&row, "name", name);
	sqs_queue_row_bind_owner(&row, owner);
	sqs_queue_row_bind_server(&row, server);
	sqs_queue_row_set_text(&row, "queue_name", queue_name);
	sqs_options_store(&row, changes, true);
	sqs_queue_row_set(&row, "created_at", TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	sqs_queue_row_set(&row, "changed_at", TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));

	if (sqs_catalog_queue_by_name(name) == NULL && receives)
		refuse_second_consumer(0, server->serverid, queue_name);
	sqs_queue_row_set(&row, "queue_id", Int32GetDatum(sqs_new_queue_id()));
	if (!sqs_writer_insert_new(row.writer, row.values, row.nulls, NIL, false, NULL))
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
 * The owner after a change: the present one, unless a superuser names another.
 * With "bind", if the present one was dropped, it is the role that has its name
 * now; if there is none, a superuser must name another.
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

/* Is everything that the queue refers to still what was meant? */
static bool
is_as_bound(const SqsQueueConfig *queue)
{
	SqsRoutes  *routes = sqs_routes_load(queue->queue_id);
	char	   *why;

	for (int i = 0; i < routes->n; i++)
	{
		if (sqs_route_problem(&routes->routes[i], queue->owner) != NULL)
			return false;
	}
	return sqs_role_changed(&queue->bound_owner) == NULL &&
		sqs_server_changed(&queue->bound_server) == NULL &&
		(queue->handler == NULL ||
		 OidIsValid(sqs_bound_handler(&queue->bound_handler, queue->owner, &why)));
}

/* What sqs_alter_queue() has found that it must store; see there. */
typedef struct QueueAlteration
{
	const SqsQueueConfig *queue;	/* as it was */
	SqsOptionChange changes[NUM_OPTIONS];
	bool		confirm;		/* check everything, and bind it anew */

	Oid			owner;
	ForeignServer *server;		/* NULL: it was dropped, and stays */
	SqsServerOptions server_options;
	bool		bind_server;
	char	   *queue_name;
	char	   *handler;		/* NULL: none */
	Oid			funcid;			/* set if the handler is to be bound */
	bool		bind_handler;
} QueueAlteration;

/* The server after the change, and its options.  Checked if it is to be bound. */
static void
alter_server(QueueAlteration *alter)
{
	const SqsQueueConfig *queue = alter->queue;
	const SqsOptionChange *change = &alter->changes[OPT_SERVER];
	const char *name = queue->server;

	alter->bind_server = alter->confirm || change->is_set || alter->owner != queue->owner;
	alter->server = GetForeignServerExtended(queue->server_oid, FSV_MISSING_OK);
	if (alter->bind_server)
	{
		/* to confirm a renamed server means the server with the stored OID */
		if (change->is_set)
			name = NameStr(*DatumGetName(change->value));
		else if (alter->server != NULL)
			name = alter->server->servername;
		alter->server = check_server(name, alter->owner, &alter->server_options);
	}
	else if (alter->server != NULL && sqs_fdw_is_ours(alter->server->fdwid))
		sqs_server_options(alter->server, &alter->server_options);
}

/* The queue's name at AWS after the change.  Needs the server. */
static void
alter_queue_name(QueueAlteration *alter)
{
	const SqsOptionChange *change = &alter->changes[OPT_QUEUE_NAME];

	if (change->is_set)
		alter->queue_name = TextDatumGetCString(change->value);
	else if (change->is_reset)
		alter->queue_name = alter->queue->name; /* the same as here */
	else
		alter->queue_name = alter->queue->queue_name;
	if (change->is_set || alter->changes[OPT_SERVER].is_set)
		sqs_option_check_queue_name(alter->queue_name, &alter->server_options);
}

/*
 * The handler after the change, and the routes.  Needs the server and the queue's
 * name at AWS, since no other queue may receive from the same queue there.
 */
static void
alter_handler(QueueAlteration *alter)
{
	const SqsQueueConfig *queue = alter->queue;
	const SqsOptionChange *changes = alter->changes;
	bool		bind = alter->confirm || alter->owner != queue->owner;
	bool		routes = changes[OPT_ROUTE_BY].is_set ||
		(queue->route_by != NULL && !changes[OPT_ROUTE_BY].is_reset);

	if (changes[OPT_HANDLER].is_set)
		alter->handler = TextDatumGetCString(changes[OPT_HANDLER].value);
	else if (!changes[OPT_HANDLER].is_reset)
		alter->handler = queue->handler;
	if (bind)
		sqs_routes_bind(queue, alter->owner, alter->confirm ? WARNING : ERROR);
	if (alter->handler == NULL && !routes)
		return;

	alter->bind_handler = alter->handler != NULL && (bind || changes[OPT_HANDLER].is_set);
	if (alter->bind_handler)
		alter->handler = sqs_find_handler(alter->handler, alter->owner, &alter->funcid);
	bind = bind || alter->bind_handler || changes[OPT_ROUTE_BY].is_set;
	if (bind)
		check_owner(queue->name, alter->owner);
	if (bind || changes[OPT_SERVER].is_set ||
		changes[OPT_QUEUE_NAME].is_set || changes[OPT_QUEUE_NAME].is_reset)
		refuse_second_consumer(queue->queue_id,
							   alter->bind_server ? alter->server->serverid : queue->server_oid,
							   alter->queue_name);
}

/*
 * Arguments: the queue, NUM_OPTIONS options (NULL: unchanged), an array of
 * option names to reset, and the new owner.
 *
 * Only what is changed is checked, so that something that has broken does not
 * prevent other changes.  Without any option, everything is checked and, if the
 * queue refers to something that has changed, stored anew.
 */
Datum
sqs_alter_queue(PG_FUNCTION_ARGS)
{
	const int	reset_arg = NUM_OPTIONS + 1;
	const int	owner_arg = NUM_OPTIONS + 2;
	char	   *name = sqs_queue_argument(fcinfo);
	QueueAlteration alter = {0};
	const SqsQueueConfig *queue;
	SqsQueueRow row;

	PreventCommandIfReadOnly("sqs_alter_queue()");
	sqs_options_read(fcinfo, alter.changes);
	if (!PG_ARGISNULL(reset_arg))
		sqs_options_read_resets(PG_GETARG_ARRAYTYPE_P(reset_arg), alter.changes);

	queue = alter.queue = sqs_catalog_queue_to_change(name);
	if (queue->is_copy)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue \"%s\" is a copy of a queue of another database", name),
				 errhint("To use it here, call sqs_adopt_queues() first.")));

	alter.confirm = PG_ARGISNULL(owner_arg);
	for (int id = 0; id < NUM_OPTIONS; id++)
		alter.confirm &= !alter.changes[id].is_set && !alter.changes[id].is_reset;
	if (alter.confirm && is_as_bound(queue))
	{
		/* perhaps only since a moment ago, so do not wait for the next look */
		PopActiveSnapshot();
		sqs_wake_at_commit();
		PG_RETURN_VOID();
	}
	alter.owner = new_owner(fcinfo, owner_arg, queue,
							alter.confirm || alter.changes[OPT_SERVER].is_set ||
							alter.changes[OPT_HANDLER].is_set);
	check_role_limits(alter.owner, alter.owner != queue->owner, alter.changes);
	alter_server(&alter);
	alter_queue_name(&alter);
	alter_handler(&alter);

	sqs_queue_row_open(&row);
	if (!sqs_queue_row_read(&row, queue->queue_id))
		queue_does_not_exist(name);
	/* naming the present owner confirms that it was renamed */
	if (alter.confirm || alter.owner != queue->owner || !PG_ARGISNULL(owner_arg))
		sqs_queue_row_bind_owner(&row, alter.owner);
	if (alter.bind_server)
		sqs_queue_row_bind_server(&row, alter.server);
	if (alter.handler == NULL)
		sqs_queue_row_bind_no_handler(&row);
	else if (alter.bind_handler)
		sqs_queue_row_bind_handler(&row, alter.handler, alter.funcid);
	sqs_queue_row_set_text(&row, "queue_name", alter.queue_name);
	sqs_options_store(&row, alter.changes, false);
	sqs_queue_row_update(&row);
	sqs_queue_row_close(&row);
	PopActiveSnapshot();

	sqs_mark_database_wanted();
	sqs_wake_at_commit();
	PG_RETURN_VOID();
}

/*
 * sqs_unregister_queue(queue) returns void
 *
 * Delete the row of a queue, its error rules and its routes.  Takes effect at
 * commit.
 */
Datum
sqs_unregister_queue(PG_FUNCTION_ARGS)
{
	char	   *name = sqs_queue_argument(fcinfo);
	SqsQueueConfig *queue;
	SqsQueueRow row;

	PreventCommandIfReadOnly("sqs_unregister_queue()");
	queue = sqs_catalog_queue_to_change(name);
	sqs_queue_row_open(&row);
	if (!sqs_queue_row_read(&row, queue->queue_id) ||
		sqs_writer_delete(row.writer, &row.tid, true) != SQS_WRITTEN)
		queue_does_not_exist(name);
	sqs_error_rules_delete(queue->queue_id);
	sqs_routes_delete(queue->queue_id);
	sqs_queue_row_close(&row);
	sqs_parked_groups_delete(queue->queue_id);
	PopActiveSnapshot();

	sqs_wake_at_commit();
	PG_RETURN_VOID();
}

static void
set_enabled(char *name, bool enabled)
{
	SqsQueueConfig *queue = sqs_catalog_queue_to_change(name);

	if (queue->enabled != enabled)
	{
		SqsQueueRow row;

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

/* sqs_disable_queue(queue) returns void */
Datum
sqs_disable_queue(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("sqs_disable_queue()");
	set_enabled(sqs_queue_argument(fcinfo), false);
	PG_RETURN_VOID();
}

/* sqs_enable_queue(queue) returns void */
Datum
sqs_enable_queue(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("sqs_enable_queue()");
	set_enabled(sqs_queue_argument(fcinfo), true);
	PG_RETURN_VOID();
}
