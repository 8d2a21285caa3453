/*-------------------------------------------------------------------------
 *
 * queues.c
 *	  Reading which queues are configured.
 *
 * Workers read the catalogs in short transactions and copy what they need.
 * Two rules make this code longer than it would otherwise be:
 *
 *	- One bad row must not keep the others from being worked on.  So anything
 *	  that users can break (by dropping a role, server or function, or by
 *	  revoking a privilege) is not an error but a phrase in the queue's
 *	  "problem".  Lookups therefore use the system caches, not the functions
 *	  that raise errors.
 *
 *	- Between the library's installation and ALTER EXTENSION UPDATE, the
 *	  library may be newer or older than the extension's SQL objects.  So the
 *	  table is read by column name, a missing column has its default, and an
 *	  unknown one is ignored.
 *
 * The table is scanned directly, without the executor, so that privileges, row
 * security and the session's search path do not matter.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/internal_tables.h"
#include "base/privileges.h"
#include "base/settings.h"
#include "config/bindings.h"
#include "config/fdw.h"
#include "config/keys.h"
#include "config/queues.h"

/* Raise the ERROR for a queue name that is NULL. */
void
sqs_queue_is_null(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("queue name must not be null")));
}

/*
 * Get argument 0 of an SQL function, the name of a queue, palloc'd.  Raises
 * an ERROR if it is NULL, or if the library is not preloaded.
 */
char *
sqs_queue_argument(FunctionCallInfo fcinfo)
{
	sqs_require_preloaded();
	if (PG_ARGISNULL(0))
		sqs_queue_is_null();
	return text_to_cstring(PG_GETARG_TEXT_PP(0));
}

/* Fill in what is known about the server, and a problem if it is incomplete. */
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

static bool
has_routes(int32 queue_id, bool *takes_batches)
{
	Relation	rel = sqs_table_open(SQS_TABLE_ROUTES, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	bool		result = false;

	ScanKeyInit(&key, ROUTE_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(queue_id));
	scan = systable_beginscan(rel, sqs_index_oid(SQS_INDEX_ROUTES_PKEY), true,
							  GetActiveSnapshot(), 1, &key);
	while (!*takes_batches && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		handler = sqs_getattr(tuple, ROUTE_HANDLER + 1, RelationGetDescr(rel), &isnull);

		result = true;
		*takes_batches = !isnull && sqs_handler_takes_batches(TextDatumGetCString(handler));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

/* Look up what the row refers to: fill in the server, and the problem if any. */
static void
resolve_queue(SqsQueueConfig *queue)
{
	HeapTuple	role;
	bool		can_login;
	ForeignServer *server;

	if (queue->is_copy)
	{
		queue->problem = pstrdup("this is a copy of a queue of another database; to use it here, a superuser must call sqs_adopt_queues()");
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
								  sqs_role_name(queue->owner), queue->server);

	if (queue->problem == NULL)
	{
		SqsKeys		keys;

		queue->problem = sqs_catalog_keys(queue->owner, queue->server_oid, &keys);
		sqs_wipe_keys(&keys);
	}

	queue->can_send = queue->problem == NULL;

	/* the rest is required only for running a handler */
	if (queue->problem != NULL || !sqs_queue_receives(queue))
		return;

	if (SQS_OWNER_NEEDS_LOGIN && !can_login)
		queue->problem = psprintf("its owner, role \"%s\", is not permitted to log in",
								  sqs_role_name(queue->owner));
	else if (object_aclcheck(DatabaseRelationId, MyDatabaseId, queue->owner,
							 ACL_CONNECT) != ACLCHECK_OK)
		queue->problem = psprintf("its owner, role \"%s\", has no CONNECT privilege on the database",
								  sqs_role_name(queue->owner));
	else if (queue->route_by == NULL)
		(void) sqs_bound_handler(&queue->bound_handler, queue->owner, &queue->problem);

	/* if a function is gone, messages of other routes can be handled */
	else if (!has_routes(queue->queue_id, &queue->takes_batches) && queue->handler == NULL)
		queue->problem = pstrdup("it has neither a handler nor a route; add one with sqs_add_route()");
}

/*
 * Read a column by name; false if it is null or does not exist.  An ERROR if a
 * superuser has given it another type.
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
	*value = sqs_getattr(tuple, attnum, desc, &isnull);
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

static double
get_double(HeapTuple tuple, TupleDesc desc, const char *name, double default_value)
{
	Datum		value;

	return get_column(tuple, desc, name, FLOAT8OID, &value) ? DatumGetFloat8(value) : default_value;
}

static bool
get_bool(HeapTuple tuple, TupleDesc desc, const char *name, bool default_value)
{
	Datum		value;

	return get_column(tuple, desc, name, BOOLOID, &value) ? DatumGetBool(value) : default_value;
}

/* An interval, in units of "unit" microseconds. */
static int
get_interval(HeapTuple tuple, TupleDesc desc, const char *name, int64 unit, int default_value)
{
	Datum		value;
	Interval   *interval;

	if (!get_column(tuple, desc, name, INTERVALOID, &value))
		return default_value;
	/* the table's constraints exclude months and an overflow */
	interval = DatumGetIntervalP(value);
	return (int) ((interval->day * USECS_PER_DAY + interval->time) / unit);
}

static Oid
get_oid(HeapTuple tuple, TupleDesc desc, const char *name)
{
	Datum		value;

	return get_column(tuple, desc, name, OIDOID, &value) ? DatumGetObjectId(value) : InvalidOid;
}

/* A text column that is never null. */
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

/* An interval in microseconds, as an int64. */
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

/*
 * The "home" of this database's own queues, see sqs_home().  It changes only if
 * the extension is created anew, and its tables with it.
 */
static const char *
current_home(void)
{
	static char home[64] = "";
	static uint64 known_at;
	uint64		changes = sqs_relation_changes();

	if (home[0] == '\0' || known_at != changes)
	{
		strlcpy(home, sqs_home(), sizeof(home));
		known_at = changes;
	}
	return home;
}

/*
 * Copy the columns that say what the queue is and what it is bound to, without
 * looking up what they refer to.  To send, that is enough.
 */
static SqsQueueConfig *
read_identity(HeapTuple tuple, TupleDesc desc)
{
	SqsQueueConfig *queue = palloc0(sizeof(SqsQueueConfig));

	queue->queue_id = get_int(tuple, desc, "queue_id", 0);
	queue->name = get_name(tuple, desc, "name");
	queue->home = get_name(tuple, desc, "home");
	queue->is_copy = strcmp(queue->home, current_home()) != 0;
	queue->bound_owner.oid = get_oid(tuple, desc, "owner_oid");
	queue->bound_owner.name = get_name(tuple, desc, "owner");
	queue->bound_server.oid = get_oid(tuple, desc, "server_oid");
	queue->bound_server.name = get_name(tuple, desc, "server");
	queue->bound_server.owner_oid = get_oid(tuple, desc, "server_owner_oid");
	queue->bound_server.owner = get_name(tuple, desc, "server_owner");
	queue->queue_name = get_name(tuple, desc, "queue_name");
	queue->owner = queue->bound_owner.oid;
	queue->server = queue->bound_server.name;
	queue->server_oid = queue->bound_server.oid;
	queue->fifo = strlen(queue->queue_name) > 5 &&
		strcmp(queue->queue_name + strlen(queue->queue_name) - 5, ".fifo") == 0;
	return queue;
}

bool
sqs_queue_parks_groups(const SqsQueueConfig *queue)
{
	return queue->fifo && queue->on_dead_letter != NULL &&
		strcmp(queue->on_dead_letter, "park_group") == 0;
}

/* name may be NULL. */
bool
sqs_unwrap_by_name(const char *name, SqsUnwrap *unwrap)
{
	static const char *const names[] = {
		[SQS_UNWRAP_NONE] = "none",
		[SQS_UNWRAP_AUTO] = "auto",
		[SQS_UNWRAP_SNS] = "sns",
		[SQS_UNWRAP_EVENTBRIDGE] = "eventbridge",
		[SQS_UNWRAP_S3] = "s3",
	};

	*unwrap = SQS_UNWRAP_NONE;
	for (size_t i = 0; name != NULL && i < lengthof(names); i++)
	{
		if (strcmp(names[i], name) == 0)
		{
			*unwrap = (SqsUnwrap) i;
			return true;
		}
	}
	return false;
}

/* Copy a row, without looking up what it refers to. */
static SqsQueueConfig *
read_queue(HeapTuple tuple, TupleDesc desc)
{
	SqsQueueConfig *queue = read_identity(tuple, desc);
	Datum		value;

	queue->handler = get_text(tuple, desc, "handler");
	if (queue->handler != NULL)
	{
		queue->bound_handler.oid = get_oid(tuple, desc, "handler_oid");
		queue->bound_handler.name = queue->handler;
		queue->bound_handler.owner_oid = get_oid(tuple, desc, "handler_owner_oid");
		queue->bound_handler.owner = get_name(tuple, desc, "handler_owner");
		queue->takes_batches = sqs_handler_takes_batches(queue->handler);
	}
	queue->enabled = get_bool(tuple, desc, "enabled", true);
	queue->concurrency = get_int(tuple, desc, "concurrency", 1);
	queue->batch_size = get_int(tuple, desc, "batch_size", 10);
	queue->wait_time = get_interval(tuple, desc, "wait_time", USECS_PER_SEC, 20);
	queue->visibility_timeout = get_interval(tuple, desc, "visibility_timeout", USECS_PER_SEC, -1);
	queue->handler_timeout = get_interval(tuple, desc, "handler_timeout", 1000, 0);
	queue->retry_delay = get_interval(tuple, desc, "retry_delay", USECS_PER_SEC, -1);
	queue->exactly_once = get_bool(tuple, desc, "exactly_once", true);
	queue->dedup_retention = get_microseconds(tuple, desc, "dedup_retention", USECS_PER_DAY);
	queue->group_batch_size = get_int(tuple, desc, "group_batch_size", 1);
	(void) sqs_unwrap_by_name(get_text(tuple, desc, "unwrap"), &queue->unwrap);
	queue->max_attempts = get_int(tuple, desc, "max_attempts", 0);
	queue->retry_factor = get_double(tuple, desc, "retry_factor", 2);
	queue->retry_max_delay = get_interval(tuple, desc, "retry_max_delay", USECS_PER_SEC, 900);
	queue->retry_jitter = get_double(tuple, desc, "retry_jitter", 0.2);
	queue->throttle_after = get_int(tuple, desc, "throttle_after", 20);
	queue->dead_letter = get_text(tuple, desc, "dead_letter");
	queue->dead_letter_queue = get_text(tuple, desc, "dead_letter_queue");
	queue->on_dead_letter = get_text(tuple, desc, "on_dead_letter");
	queue->route_by = get_text(tuple, desc, "route_by");
	queue->unroutable = get_text(tuple, desc, "unroutable");
	queue->dedup_key = get_text(tuple, desc, "dedup_key");
	queue->handler_batch_size = get_int(tuple, desc, "handler_batch_size", 100);
	queue->handler_batch_wait = get_interval(tuple, desc, "handler_batch_wait", 1000, 0);
	queue->verify_sns = get_bool(tuple, desc, "verify_sns", false);
	if (get_column(tuple, desc, "changed_at", TIMESTAMPTZOID, &value))
		queue->changed_at = DatumGetTimestampTz(value);
	return queue;
}

static int
compare_queues(const ListCell *a, const ListCell *b)
{
	int32		left = ((SqsQueueConfig *) lfirst(a))->queue_id;
	int32		right = ((SqsQueueConfig *) lfirst(b))->queue_id;

	return (left > right) - (left < right);
}

/* All queues (queue_id 0), or the one with this id; in order of id. */
static List *
read_queues(int32 queue_id)
{
	Relation	rel = sqs_table_open(SQS_TABLE_QUEUES, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	List	   *queues = NIL;
	ListCell   *lc;

	if (queue_id != 0)
		ScanKeyInit(&key, SPI_fnumber(RelationGetDescr(rel), "queue_id"), BTEqualStrategyNumber,
					F_INT4EQ, Int32GetDatum(queue_id));
	scan = systable_beginscan(rel,
							  queue_id != 0 ? sqs_index_oid(SQS_INDEX_QUEUES_PKEY) : InvalidOid,
							  queue_id != 0, GetActiveSnapshot(), queue_id != 0 ? 1 : 0, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		queues = lappend(queues, read_queue(tuple, RelationGetDescr(rel)));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	list_sort(queues, compare_queues);
	foreach(lc, queues)
		resolve_queue(lfirst(lc));
	return queues;
}

/*
 * All configured queues: a List of SqsQueueConfig *, in the order of their
 * ids.
 */
List *
sqs_catalog_queues(void)
{
	return read_queues(0);
}

/* One queue; NULL if there is none. */
SqsQueueConfig *
sqs_catalog_queue(int32 queue_id)
{
	List	   *queues = queue_id > 0 ? read_queues(queue_id) : NIL;

	return queues != NIL ? linitial(queues) : NULL;
}

/*
 * By name, without looking up what it refers to, and with "all" the whole row.
 * NULL: there is none.
 */
static SqsQueueConfig *
read_queue_by_name(const char *name, bool all)
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
		queue = all ? read_queue(tuple, RelationGetDescr(rel)) :
			read_identity(tuple, RelationGetDescr(rel));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return queue;
}

/* The same by name. */
SqsQueueConfig *
sqs_catalog_queue_by_name(const char *name)
{
	SqsQueueConfig *queue = read_queue_by_name(name, true);

	if (queue != NULL)
		resolve_queue(queue);
	return queue;
}

/*
 * Find the queue, make sure that the current role may change it, and lock it
 * against concurrent changes.  Pushes a snapshot that sees the newest version of
 * the queue's row; the caller pops it.
 *
 * If the row is a copy, or the role with the owner's OID has another name now,
 * the owner is not known, and only a superuser may change the queue.
 */
SqsQueueConfig *
sqs_catalog_queue_to_change(const char *name)
{
	SqsQueueConfig *queue = NULL;
	int32		queue_id = 0;

	for (;;)
	{
		PushActiveSnapshot(GetLatestSnapshot());
		queue = sqs_catalog_queue_by_name(name);
		if (queue == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("queue \"%s\" does not exist", name),
					 errhint("The registered queues are listed in sqs_queues.")));
		if (queue->is_copy || sqs_role_changed(&queue->bound_owner) != NULL)
		{
			if (!superuser())
				ereport(ERROR,
						(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						 errmsg("must be superuser to change queue \"%s\"", name),
						 errdetail("The queue's owner is not known: %s.",
								   queue->is_copy ? "the queue is a copy of one of another database" :
								   sqs_role_changed(&queue->bound_owner))));
		}
		else if (!has_privs_of_role(GetUserId(), queue->owner))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("must be owner of queue \"%s\"", name)));

		/* it may have changed while we waited for the lock: look again */
		if (queue->queue_id == queue_id)
			return queue;
		PopActiveSnapshot();
		queue_id = queue->queue_id;
		LockDatabaseObject(sqs_table_oid(SQS_TABLE_QUEUES), queue_id, 0, ExclusiveLock);
	}
}

/*
 * Find a queue that the current role is going to send to.  Raises an ERROR
 * if there is no such queue, or the role has no USAGE on its server.  Unless
 * the message is only to be stored ("store"), also raises an ERROR if
 * nothing can be sent now, because something that the queue refers to has
 * changed or because it is a copy.
 */
SqsQueueConfig *
sqs_catalog_queue_to_send(const char *name, bool store)
{
	SqsQueueConfig *queue = read_queue_by_name(name, false);
	ForeignServer *server;
	AclResult	acl;

	if (queue == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("queue \"%s\" does not exist", name),
				 errhint("The registered queues are listed in sqs_queues.")));

	/* in a copy the OIDs may belong to other objects */
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
				 errhint("To use it here, a superuser must call sqs_adopt_queues().")));
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
 * A configuration without a queue, for calls that concern a server only.  Raises
 * an ERROR if there is none.
 */
SqsQueueConfig *
sqs_catalog_server(Oid server_oid)
{
	ForeignServer *server = GetForeignServer(server_oid);
	SqsQueueConfig *config = palloc0(sizeof(SqsQueueConfig));

	config->server = server->servername;
	set_server(config, server);
	return config;
}

/*
 * The same for a server that the current role is going to use.  Raises an ERROR
 * if there is no such server, or the role has no USAGE on it.
 */
SqsQueueConfig *
sqs_catalog_server_to_use(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, true);
	AclResult	acl;

	if (server == NULL || !sqs_fdw_is_ours(server->fdwid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 server == NULL ? errmsg("server \"%s\" does not exist", name) :
				 errmsg("server \"%s\" is not one of foreign-data wrapper sqsbridge", name)));
	acl = object_aclcheck(ForeignServerRelationId, server->serverid, GetUserId(), ACL_USAGE);
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_FOREIGN_SERVER, server->servername);
	return sqs_catalog_server(server->serverid);
}

/*
 * Find the queue with this id in a list that is sorted by id; NULL if none.
 */
SqsQueueConfig *
sqs_catalog_find(List *queues, int32 queue_id)
{
	int			from = 0;
	int			to = list_length(queues);

	while (from < to)
	{
		int			middle = from + (to - from) / 2;
		SqsQueueConfig *queue = list_nth(queues, middle);

		if (queue->queue_id == queue_id)
			return queue;
		if (queue->queue_id < queue_id)
			from = middle + 1;
		else
			to = middle;
	}
	return NULL;
}

/*
 * Does the current role have the privileges of the owner of the queue, or of
 * its server?  False for a copy.
 */
bool
sqs_owns_queue(const SqsQueueConfig *queue)
{
	return !queue->is_copy &&
		(sqs_has_privs_of(queue->bound_owner.oid, queue->bound_owner.name) ||
		 (sqs_server_changed(&queue->bound_server) == NULL &&
		  sqs_has_privs_of(queue->bound_server.owner_oid, queue->bound_server.owner)));
}
