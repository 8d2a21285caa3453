/*-------------------------------------------------------------------------
 *
 * queues.c
 *	  Reading what is configured: queues, their servers, their keys.
 *
 * Workers read the catalogs in short transactions and copy what they need.
 * Two things matter more here than brevity:
 *
 *	- One bad row must not keep the others from being worked on.  So whatever
 *	  a person can get wrong (a dropped role, server or function, a privilege
 *	  taken away) is no error but a sentence in the row's "problem".  Lookups
 *	  are therefore made in the system caches, not through the functions that
 *	  raise errors.
 *
 *	- The library may be newer, or older, than the extension's SQL objects,
 *	  between its installation and ALTER EXTENSION UPDATE.  So the table is
 *	  read by column name, a missing column has its default, and one that is
 *	  not known here is passed over.
 *
 * The table is scanned directly, without the executor: privileges, row
 * security and the search path of the session have no part in it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "aws/credentials.h"
#include "base/compat.h"
#include "base/internal_tables.h"
#include "config/fdw.h"
#include "config/queues.h"

/*
 * Schema and owner of the extension; InvalidOid where it is not installed.
 */
static void
find_extension(Oid *schema, Oid *owner)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	*schema = InvalidOid;
	*owner = InvalidOid;
	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("sqsbridge"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);

		*schema = form->extnamespace;
		*owner = form->extowner;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

Oid
sqs_extension_oid(void)
{
	return get_extension_oid("sqsbridge", true);
}

Oid
sqs_extension_schema(void)
{
	Oid			schema;
	Oid			owner;

	find_extension(&schema, &owner);
	return schema;
}

Oid
sqs_extension_owner(void)
{
	Oid			schema;
	Oid			owner;

	find_extension(&schema, &owner);
	return owner;
}

static void
missing_object(const char *kind, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("%s \"%s\" of extension sqsbridge does not exist", kind, name),
			 OidIsValid(sqs_extension_oid()) ?
			 errhint("Run ALTER EXTENSION sqsbridge UPDATE.") :
			 errhint("Run CREATE EXTENSION sqsbridge in this database.")));
}

Oid
sqs_view_oid(const char *relname)
{
	Oid			schema = sqs_extension_schema();
	Oid			relid = OidIsValid(schema) ? get_relname_relid(relname, schema) : InvalidOid;

	if (!OidIsValid(relid))
		missing_object("view", relname);
	return relid;
}

Oid
sqs_message_type_oid(void)
{
	Oid			schema = sqs_extension_schema();
	Oid			type = InvalidOid;

	if (OidIsValid(schema))
		type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
							   CStringGetDatum("sqs_message"), ObjectIdGetDatum(schema));
	if (!OidIsValid(type))
		missing_object("type", "sqs_message");
	return type;
}

char *
sqs_home(void)
{
	return psprintf(UINT64_FORMAT "/%u/%u", GetSystemIdentifier(), MyDatabaseId,
					sqs_extension_oid());
}

/*
 * Handlers
 */

static char *
role_name(Oid role)
{
	char	   *name = GetUserNameFromId(role, true);

	return name != NULL ? name : psprintf("%u", role);
}

Oid
sqs_resolve_handler(const char *handler, Oid role, char **why)
{
	Oid			message_type = sqs_message_type_oid();
	List	   *names;
	char	   *nspname;
	char	   *proname;
	Oid			nsp;
	HeapTuple	tuple;
	Form_pg_proc form;
	Oid			funcid;
	char		prokind;
	bool		retset;

	*why = NULL;
	/* a session of the role's goes on without it; its rights must not */
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)))
	{
		*why = psprintf("its owner, the role with OID %u, does not exist", role);
		return InvalidOid;
	}
	if (!SplitIdentifierString(pstrdup(handler), '.', &names) || list_length(names) != 2)
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
		*why = psprintf("function %s is temporary, and other sessions cannot call it", handler);
		return InvalidOid;
	}

	tuple = SearchSysCache3(PROCNAMEARGSNSP, CStringGetDatum(proname),
							PointerGetDatum(buildoidvector(&message_type, 1)),
							ObjectIdGetDatum(nsp));
	if (!HeapTupleIsValid(tuple))
	{
		*why = psprintf("function %s(sqs_message) does not exist", handler);
		return InvalidOid;
	}
	form = (Form_pg_proc) GETSTRUCT(tuple);
	funcid = form->oid;
	prokind = form->prokind;
	retset = form->proretset;
	ReleaseSysCache(tuple);

	if (prokind != PROKIND_FUNCTION)
		*why = psprintf("%s(sqs_message) is %s, not a function", handler,
						prokind == PROKIND_PROCEDURE ? "a procedure" :
						prokind == PROKIND_AGGREGATE ? "an aggregate" : "a window function");
	else if (retset)
		*why = psprintf("function %s(sqs_message) returns a set", handler);
	else if (object_aclcheck(NamespaceRelationId, nsp, role, ACL_USAGE) != ACLCHECK_OK)
		*why = psprintf("role \"%s\" has no USAGE privilege on schema \"%s\"",
						role_name(role), nspname);
	else if (object_aclcheck(ProcedureRelationId, funcid, role, ACL_EXECUTE) != ACLCHECK_OK)
		*why = psprintf("role \"%s\" has no EXECUTE privilege on function %s(sqs_message)",
						role_name(role), handler);

	return *why == NULL ? funcid : InvalidOid;
}

/*
 * What a queue refers to.  Something has become something else, which may be
 * right: a person has to say so.
 */
#define CONFIRM "; if that is as it should be, confirm it with sqs_alter_queue()"
#define SUPERUSER_CONFIRMS "; if that is as it should be, a superuser has to confirm it with sqs_alter_queue()"

char *
sqs_role_changed(const SqsBinding *role)
{
	char	   *name = GetUserNameFromId(role->oid, true);

	if (name == NULL)
		return OidIsValid(get_role_oid(role->name, true)) ?
			psprintf("its owner was dropped, and another role \"%s\" created since" SUPERUSER_CONFIRMS, role->name) :
			psprintf("its owner, role \"%s\", does not exist", role->name);
	if (strcmp(name, role->name) != 0)
		return psprintf("its owner was role \"%s\", and that is named \"%s\" now" SUPERUSER_CONFIRMS,
						role->name, name);
	return NULL;
}

char *
sqs_server_changed(const SqsBinding *server)
{
	ForeignServer *bound = GetForeignServerExtended(server->oid, FSV_MISSING_OK);

	if (bound == NULL)
		return GetForeignServerByName(server->name, true) != NULL ?
			psprintf("its server \"%s\" was dropped and another one created since" CONFIRM, server->name) :
			psprintf("server \"%s\" does not exist", server->name);
	if (strcmp(bound->servername, server->name) != 0)
		return psprintf("its server \"%s\" is named \"%s\" now" CONFIRM, server->name, bound->servername);
	if (bound->owner != server->owner_oid || strcmp(role_name(bound->owner), server->owner) != 0)
		return psprintf("its server \"%s\" belonged to role \"%s\", and belongs to role \"%s\" now" CONFIRM,
						server->name, server->owner, role_name(bound->owner));
	return NULL;
}

/*
 * A function that its owner dropped and created again is as good as one that
 * was replaced, which leaves the OID as it was: the same role decides what it
 * does.
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
		*why = psprintf("function %s(sqs_message) does not exist", handler->name);
		return InvalidOid;
	}
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	if (owner == handler->owner_oid && strcmp(role_name(owner), handler->owner) == 0)
		return found;
	if (found != handler->oid)
		*why = psprintf("function %s(sqs_message) was dropped, and another one created by role \"%s\" since" CONFIRM,
						handler->name, role_name(owner));
	else
		*why = psprintf("function %s(sqs_message) belonged to role \"%s\", and belongs to role \"%s\" now" CONFIRM,
						handler->name, handler->owner, role_name(owner));
	return InvalidOid;
}

/*
 * Queues
 */

static void
set_server(SqsQueueConfig *queue, ForeignServer *server)
{
	SqsServerOptions options;

	sqs_server_options(server, &options);
	queue->server_oid = server->serverid;
	queue->region = options.region;
	queue->endpoint = options.endpoint;
	queue->allow_http = options.allow_http;
	if (!sqs_server_has_region(&options))
		queue->problem = psprintf("server \"%s\" has no region", queue->server);
}

/* Look at what the row refers to: fills in the server, or the problem. */
static void
resolve_queue(SqsQueueConfig *queue)
{
	HeapTuple	role;
	bool		can_login;
	ForeignServer *server;

	if (queue->is_copy)
	{
		queue->problem = pstrdup("this is a copy of a queue of another database; if it shall work here too, a superuser has to call sqs_adopt_queues()");
		return;
	}
	queue->problem = sqs_role_changed(&queue->bound_owner);
	if (queue->problem == NULL)
		queue->problem = sqs_server_changed(&queue->bound_server);
	if (queue->problem != NULL)
		return;

	role = SearchSysCache1(AUTHOID, ObjectIdGetDatum(queue->owner));
	if (!HeapTupleIsValid(role))
		elog(ERROR, "cache lookup failed for role %u", queue->owner);
	can_login = ((Form_pg_authid) GETSTRUCT(role))->rolcanlogin;
	ReleaseSysCache(role);

	server = GetForeignServer(queue->server_oid);
	if (!sqs_fdw_is_ours(server->fdwid))
	{
		queue->problem = psprintf("server \"%s\" is not one of foreign-data wrapper sqsbridge",
								  queue->server);
		return;
	}

	set_server(queue, server);
	if (queue->problem == NULL &&
		object_aclcheck(ForeignServerRelationId, server->serverid, queue->owner,
						ACL_USAGE) != ACLCHECK_OK)
		queue->problem = psprintf("its owner, role \"%s\", has no USAGE privilege on server \"%s\"",
								  role_name(queue->owner), queue->server);

	if (queue->problem == NULL)
	{
		SqsKeys		keys;

		queue->problem = sqs_catalog_keys(queue->owner, queue->server_oid, &keys);
		sqs_wipe_keys(&keys);
	}

	queue->can_send = queue->problem == NULL;

	/* the rest is asked of the role by a handler only */
	if (queue->problem != NULL || queue->handler == NULL)
		return;

	if (SQS_OWNER_NEEDS_LOGIN && !can_login)
		queue->problem = psprintf("its owner, role \"%s\", is not permitted to log in",
								  role_name(queue->owner));
	else if (object_aclcheck(DatabaseRelationId, MyDatabaseId, queue->owner,
							 ACL_CONNECT) != ACLCHECK_OK)
		queue->problem = psprintf("its owner, role \"%s\", has no CONNECT privilege on the database",
								  role_name(queue->owner));
	else
		(void) sqs_bound_handler(&queue->bound_handler, queue->owner, &queue->problem);
}

/*
 * A column by its name; false if it is NULL or not there.  A superuser may
 * have given it another type, and what is read would not be what it seems.
 */
static bool
get_column(HeapTuple tuple, TupleDesc desc, const char *name, Oid type, Datum *value)
{
	int			attnum = SPI_fnumber(desc, name);
	bool		isnull;

	if (attnum <= 0)
		return false;
	if (TupleDescAttr(desc, attnum - 1)->atttypid != type)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sqsbridge cannot use table \"%s.%s\": its column \"%s\" is of type %s, not %s",
						SQS_INTERNAL_SCHEMA, sqs_table_name(SQS_TABLE_QUEUES), name,
						format_type_be(TupleDescAttr(desc, attnum - 1)->atttypid),
						format_type_be(type))));
	*value = heap_getattr(tuple, attnum, desc, &isnull);
	return !isnull;
}

static char *
get_text(HeapTuple tuple, TupleDesc desc, const char *name)
{
	Datum		value;

	return get_column(tuple, desc, name, TEXTOID, &value) ? TextDatumGetCString(value) : NULL;
}

static int
get_int(HeapTuple tuple, TupleDesc desc, const char *name, int default_value)
{
	Datum		value;

	return get_column(tuple, desc, name, INT4OID, &value) ? DatumGetInt32(value) : default_value;
}

static bool
get_bool(HeapTuple tuple, TupleDesc desc, const char *name, bool default_value)
{
	Datum		value;

	return get_column(tuple, desc, name, BOOLOID, &value) ? DatumGetBool(value) : default_value;
}

/* An interval in units of so many microseconds. */
static int
get_interval(HeapTuple tuple, TupleDesc desc, const char *name, int64 unit, int default_value)
{
	Datum		value;
	Interval   *interval;

	if (!get_column(tuple, desc, name, INTERVALOID, &value))
		return default_value;
	/* constraints see to it that there are no months and no overflow */
	interval = DatumGetIntervalP(value);
	return (int) ((interval->day * USECS_PER_DAY + interval->time) / unit);
}

static Oid
get_oid(HeapTuple tuple, TupleDesc desc, const char *name)
{
	Datum		value;

	return get_column(tuple, desc, name, OIDOID, &value) ? DatumGetObjectId(value) : InvalidOid;
}

/* A text that the table says is never NULL. */
static char *
get_name(HeapTuple tuple, TupleDesc desc, const char *name)
{
	char	   *value = get_text(tuple, desc, name);

	if (value == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("column \"%s\" of table \"%s.%s\" is missing or null",
						name, SQS_INTERNAL_SCHEMA, sqs_table_name(SQS_TABLE_QUEUES)),
				 errhint("If the library is newer than the extension, run ALTER EXTENSION sqsbridge UPDATE.")));
	return value;
}

/* Is the row's interval one of microseconds, in an int64? */
static int64
get_microseconds(HeapTuple tuple, TupleDesc desc, const char *name, int64 default_value)
{
	Datum		value;
	Interval   *interval;

	if (!get_column(tuple, desc, name, INTERVALOID, &value))
		return default_value;
	interval = DatumGetIntervalP(value);
	return interval->day * USECS_PER_DAY + interval->time;
}

static SqsQueueConfig *
read_queue(HeapTuple tuple, TupleDesc desc, const char *home)
{
	SqsQueueConfig *queue = palloc0(sizeof(SqsQueueConfig));
	Datum		value;

	queue->queue_id = get_int(tuple, desc, "queue_id", 0);
	queue->name = get_name(tuple, desc, "name");
	queue->home = get_name(tuple, desc, "home");
	queue->is_copy = strcmp(queue->home, home) != 0;
	queue->bound_owner.oid = get_oid(tuple, desc, "owner_oid");
	queue->bound_owner.name = get_name(tuple, desc, "owner");
	queue->bound_server.oid = get_oid(tuple, desc, "server_oid");
	queue->bound_server.name = get_name(tuple, desc, "server");
	queue->bound_server.owner_oid = get_oid(tuple, desc, "server_owner_oid");
	queue->bound_server.owner = get_name(tuple, desc, "server_owner");
	queue->queue_name = get_name(tuple, desc, "queue_name");
	queue->handler = get_text(tuple, desc, "handler");
	if (queue->handler != NULL)
	{
		queue->bound_handler.oid = get_oid(tuple, desc, "handler_oid");
		queue->bound_handler.name = queue->handler;
		queue->bound_handler.owner_oid = get_oid(tuple, desc, "handler_owner_oid");
		queue->bound_handler.owner = get_name(tuple, desc, "handler_owner");
	}
	queue->owner = queue->bound_owner.oid;
	queue->server = queue->bound_server.name;
	queue->server_oid = queue->bound_server.oid;
	queue->enabled = get_bool(tuple, desc, "enabled", true);
	queue->concurrency = get_int(tuple, desc, "concurrency", 1);
	queue->batch_size = get_int(tuple, desc, "batch_size", 10);
	queue->wait_time = get_interval(tuple, desc, "wait_time", USECS_PER_SEC, 20);
	queue->visibility_timeout = get_interval(tuple, desc, "visibility_timeout", USECS_PER_SEC, -1);
	queue->handler_timeout = get_interval(tuple, desc, "handler_timeout", 1000, 0);
	queue->retry_delay = get_interval(tuple, desc, "retry_delay", USECS_PER_SEC, -1);
	queue->exactly_once = get_bool(tuple, desc, "exactly_once", true);
	queue->dedup_retention = get_microseconds(tuple, desc, "dedup_retention", USECS_PER_DAY);
	if (get_column(tuple, desc, "changed_at", TIMESTAMPTZOID, &value))
		queue->changed_at = DatumGetTimestampTz(value);

	queue->fifo = strlen(queue->queue_name) > 5 &&
		strcmp(queue->queue_name + strlen(queue->queue_name) - 5, ".fifo") == 0;
	return queue;
}

static int
compare_queues(const ListCell *a, const ListCell *b)
{
	int32		left = ((SqsQueueConfig *) lfirst(a))->queue_id;
	int32		right = ((SqsQueueConfig *) lfirst(b))->queue_id;

	return (left > right) - (left < right);
}

/* All queues, or the one with this id. */
static List *
read_queues(int32 queue_id)
{
	Relation	rel = sqs_table_open(SQS_TABLE_QUEUES, AccessShareLock);
	const char *home = sqs_home();
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *queues = NIL;
	ListCell   *lc;

	/* the table is small: no index is of use */
	scan = systable_beginscan(rel, InvalidOid, false, GetActiveSnapshot(), 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (queue_id == 0 ||
			get_int(tuple, RelationGetDescr(rel), "queue_id", 0) == queue_id)
			queues = lappend(queues, read_queue(tuple, RelationGetDescr(rel), home));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	list_sort(queues, compare_queues);
	foreach(lc, queues)
		resolve_queue(lfirst(lc));
	return queues;
}

List *
sqs_catalog_queues(void)
{
	return read_queues(0);
}

SqsQueueConfig *
sqs_catalog_queue(int32 queue_id)
{
	List	   *queues = queue_id > 0 ? read_queues(queue_id) : NIL;

	return queues != NIL ? linitial(queues) : NULL;
}

/* By name, without a look at what it refers to; NULL if there is none. */
static SqsQueueConfig *
read_queue_by_name(const char *name)
{
	Relation	rel = sqs_table_open(SQS_TABLE_QUEUES, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	SqsQueueConfig *queue = NULL;

	ScanKeyInit(&key, SPI_fnumber(RelationGetDescr(rel), "name"), BTEqualStrategyNumber,
				F_TEXTEQ, CStringGetTextDatum(name));
	scan = systable_beginscan(rel, sqs_index_oid(SQS_INDEX_QUEUES_NAME), true,
							  GetActiveSnapshot(), 1, &key);
	if (HeapTupleIsValid(tuple = systable_getnext(scan)))
		queue = read_queue(tuple, RelationGetDescr(rel), sqs_home());
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return queue;
}

SqsQueueConfig *
sqs_catalog_queue_by_name(const char *name)
{
	SqsQueueConfig *queue = read_queue_by_name(name);

	if (queue != NULL)
		resolve_queue(queue);
	return queue;
}

SqsQueueConfig *
sqs_catalog_queue_to_send(const char *name, bool store)
{
	SqsQueueConfig *queue = read_queue_by_name(name);
	ForeignServer *server;
	AclResult	acl;

	if (queue == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("queue \"%s\" does not exist", name),
				 errhint("The registered queues are in sqs_queues.")));

	/* in a copy the numbers are of something else */
	server = queue->is_copy ? GetForeignServerByName(queue->server, true) :
		GetForeignServerExtended(queue->server_oid, FSV_MISSING_OK);
	if (server == NULL || !sqs_fdw_is_ours(server->fdwid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("cannot send to queue \"%s\": its server \"%s\" does not exist",
						name, queue->server),
				 errhint("Create the server, or choose another, and call sqs_alter_queue(%s, server => ...).",
						 quote_literal_cstr(name))));
	acl = object_aclcheck(ForeignServerRelationId, server->serverid, GetUserId(), ACL_USAGE);
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_FOREIGN_SERVER, server->servername);
	queue->server_oid = server->serverid;
	if (queue->is_copy && store)
		return queue;
	if (queue->is_copy)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot send to queue \"%s\": it is a copy of a queue of another database", name),
				 errhint("If it shall work here too, a superuser has to call sqs_adopt_queues().")));
	set_server(queue, server);
	if (queue->problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot send to queue \"%s\": %s", name, queue->problem),
				 errhint("Set it: ALTER SERVER %s OPTIONS (ADD region '...');",
						 quote_identifier(queue->server))));
	if (store)
		return queue;
	queue->problem = sqs_server_changed(&queue->bound_server);
	if (queue->problem == NULL)
		queue->problem = sqs_role_changed(&queue->bound_owner);
	if (queue->problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot send to queue \"%s\": %s", name, queue->problem)));
	return queue;
}

/*
 * Keys
 */

/* Read the keys of the role's mapping, or of PUBLIC's.  False: no mapping. */
static bool
read_mapping(Oid role, Oid server, SqsKeys *keys)
{
	HeapTuple	tuple;
	Datum		options;
	bool		isnull;

	tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role),
							ObjectIdGetDatum(server));
	if (!HeapTupleIsValid(tuple))
		tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid),
								ObjectIdGetDatum(server));
	if (!HeapTupleIsValid(tuple))
		return false;
	options = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple,
							  Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
		sqs_mapping_keys(options, keys);
	ReleaseSysCache(tuple);
	return true;
}

char *
sqs_catalog_keys(Oid role, Oid server_oid, SqsKeys *keys)
{
	ForeignServer *found = GetForeignServerExtended(server_oid, FSV_MISSING_OK);
	const char *server;
	SqsServerOptions options;
	bool		has_mapping;
	AwsError	error;

	memset(keys, 0, sizeof(*keys));

	/* the options of another wrapper's mappings are not for us to read */
	if (found == NULL || !sqs_fdw_is_ours(found->fdwid))
		return pstrdup("its server does not exist");
	server = found->servername;

	has_mapping = read_mapping(role, found->serverid, keys);
	if (keys->access_key_id != NULL && keys->secret_access_key != NULL)
		return NULL;
	sqs_wipe_keys(keys);

	sqs_server_options(found, &options);
	if (!options.ambient)
		return has_mapping ?
			psprintf("the user mapping of role \"%s\" for server \"%s\" has no keys, and the server's option credentials is not environment",
					 role_name(role), server) :
			psprintf("role \"%s\" has no user mapping for server \"%s\", and the server's option credentials is not environment",
					 role_name(role), server);
	keys->ambient = true;
	if (!aws_environment_has_keys(&error))
		return psprintf("role \"%s\" has no keys in a user mapping for server \"%s\", and %s",
						role_name(role), server, error.message);
	return NULL;
}

static void
wipe(char **key)
{
	if (*key == NULL)
		return;
	explicit_bzero(*key, strlen(*key));
	pfree(*key);
	*key = NULL;
}

void
sqs_wipe_keys(SqsKeys *keys)
{
	wipe(&keys->access_key_id);
	wipe(&keys->secret_access_key);
	wipe(&keys->session_token);
}
