/*-------------------------------------------------------------------------
 *
 * routes.c
 *	  Which function handles which messages of a queue.
 *
 * A route is a key and a function.  The key is what the queue's option route_by
 * finds in a message.  Functions are bound like the queue's handler (see
 * SqsBinding), and what has happened to one concerns its route only: messages of
 * other routes go on.
 *
 * As in register.c, everything is checked as the calling role, and written below
 * the executor.  The lock on the queue serializes changes of its routes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/table_writer.h"
#include "base/wake_at_commit.h"
#include "config/handler_name.h"
#include "config/queue_options.h"
#include "config/routes.h"

PG_FUNCTION_INFO_V1(sqs_add_route);
PG_FUNCTION_INFO_V1(sqs_drop_route);

/* ---- reading ---- */

static SysScanDesc
begin_scan(Relation rel, int32 queue_id)
{
	ScanKeyData key;

	ScanKeyInit(&key, ROUTE_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(queue_id));
	return systable_beginscan(rel, sqs_index_oid(SQS_INDEX_ROUTES_PKEY), true,
							  GetActiveSnapshot(), 1, &key);
}

void
sqs_route_read(const Datum *values, const bool *nulls, SqsRoute *route)
{
	memset(route, 0, sizeof(*route));
	route->number = DatumGetInt16(values[ROUTE_NUMBER]);
	route->key = TextDatumGetCString(values[ROUTE_KEY]);
	route->handler.oid = DatumGetObjectId(values[ROUTE_HANDLER_OID]);
	route->handler.name = TextDatumGetCString(values[ROUTE_HANDLER]);
	route->handler.owner_oid = DatumGetObjectId(values[ROUTE_HANDLER_OWNER_OID]);
	route->handler.owner = TextDatumGetCString(values[ROUTE_HANDLER_OWNER]);
	if (!nulls[ROUTE_HANDLER_TIMEOUT])
	{
		Interval   *interval = DatumGetIntervalP(values[ROUTE_HANDLER_TIMEOUT]);

		/* the table's constraint excludes months and an overflow */
		route->handler_timeout = (int) ((interval->day * USECS_PER_DAY + interval->time) / 1000);
	}
}

static int
compare_routes(const void *a, const void *b)
{
	return strcmp(((const SqsRoute *) a)->key, ((const SqsRoute *) b)->key);
}

SqsRoutes *
sqs_routes_load(int32 queue_id)
{
	Relation	rel = sqs_table_open(SQS_TABLE_ROUTES, AccessShareLock);
	SysScanDesc scan = begin_scan(rel, queue_id);
	SqsRoutes  *routes = palloc0(sizeof(SqsRoutes));
	int			size = 16;
	HeapTuple	tuple;

	routes->routes = palloc(sizeof(SqsRoute) * size);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum		values[ROUTE_NATTS];
		bool		nulls[ROUTE_NATTS];

		if (routes->n == size)
		{
			size *= 2;
			routes->routes = repalloc(routes->routes, sizeof(SqsRoute) * size);
		}
		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		sqs_route_read(values, nulls, &routes->routes[routes->n++]);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	qsort(routes->routes, routes->n, sizeof(SqsRoute), compare_routes);
	return routes;
}

const SqsRoute *
sqs_route_find(const SqsRoutes *routes, const char *key)
{
	SqsRoute	wanted;

	wanted.key = unconstify(char *, key);
	return bsearch(&wanted, routes->routes, routes->n, sizeof(SqsRoute), compare_routes);
}

char *
sqs_route_problem(const SqsRoute *route, Oid owner)
{
	char	   *why;

	return OidIsValid(sqs_bound_handler(&route->handler, owner, &why)) ? NULL : why;
}

/* ---- changing ---- */

/* Store in a row which function is meant, with its present owner. */
static void
set_handler(Datum *values, const char *handler, Oid funcid)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", funcid);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	values[ROUTE_HANDLER] = CStringGetTextDatum(handler);
	values[ROUTE_HANDLER_OID] = ObjectIdGetDatum(funcid);
	values[ROUTE_HANDLER_OWNER_OID] = ObjectIdGetDatum(owner);
	values[ROUTE_HANDLER_OWNER] = CStringGetTextDatum(GetUserNameFromId(owner, false));
}

/* A row was changed by somebody who had not locked the queue. */
static void
changed_concurrently(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("table \"%s.%s\" was changed concurrently",
					SQS_INTERNAL_SCHEMA, sqs_table_name(SQS_TABLE_ROUTES))));
}

/* What a walk over the routes of a queue does to each of them. */
typedef enum RouteChange
{
	ROUTE_BIND,
	ROUTE_ADOPT,
	ROUTE_DELETE
} RouteChange;

/* See sqs_routes_bind().  Returns whether the row is to be written. */
static bool
bind_route(Datum *values, const bool *nulls, const char *queue, Oid owner, int elevel)
{
	SqsRoute	route;
	Oid			funcid;
	char	   *why;

	sqs_route_read(values, nulls, &route);
	if (sqs_route_problem(&route, owner) == NULL)
		return false;
	funcid = sqs_resolve_handler(route.handler.name, owner, &why);
	if (!OidIsValid(funcid))
	{
		ereport(elevel,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("handler of route \"%s\" of queue \"%s\" cannot be called", route.key, queue),
				 errdetail("The reason is: %s.", why),
				 errhint("Correct this, or remove the route with sqs_drop_route().")));
		return false;
	}
	set_handler(values, route.handler.name, funcid);
	return true;
}

/* Change all routes of a queue; "owner" is whom the functions run as. */
static void
change_routes(RouteChange change, int32 queue_id, const char *queue, Oid owner, int elevel)
{
	SqsWriter  *writer = sqs_writer_open(SQS_TABLE_ROUTES);
	Relation	rel = sqs_writer_relation(writer);
	SysScanDesc scan = begin_scan(rel, queue_id);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum		values[ROUTE_NATTS];
		bool		nulls[ROUTE_NATTS];
		SqsWriteResult result = SQS_WRITTEN;
		char	   *why;

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		if (change == ROUTE_DELETE)
			result = sqs_writer_delete(writer, &tuple->t_self, true);
		else if (change == ROUTE_ADOPT)
		{
			values[ROUTE_HANDLER_OID] =
				ObjectIdGetDatum(sqs_resolve_handler(TextDatumGetCString(values[ROUTE_HANDLER]),
													 owner, &why));
			values[ROUTE_HANDLER_OWNER_OID] =
				ObjectIdGetDatum(get_role_oid(TextDatumGetCString(values[ROUTE_HANDLER_OWNER]),
											  true));
			result = sqs_writer_update(writer, &tuple->t_self, values, nulls, true);
		}
		else if (bind_route(values, nulls, queue, owner, elevel))
			result = sqs_writer_update(writer, &tuple->t_self, values, nulls, true);
		if (result != SQS_WRITTEN)
			changed_concurrently();
	}
	systable_endscan(scan);
	sqs_writer_close(writer);
	CommandCounterIncrement();
}

void
sqs_routes_bind(const SqsQueueConfig *queue, Oid owner, int elevel)
{
	change_routes(ROUTE_BIND, queue->queue_id, queue->name, owner, elevel);
}

void
sqs_routes_adopt(int32 queue_id, Oid owner)
{
	change_routes(ROUTE_ADOPT, queue_id, NULL, owner, 0);
}

void
sqs_routes_delete(int32 queue_id)
{
	change_routes(ROUTE_DELETE, queue_id, NULL, InvalidOid, 0);
}

/* ---- the functions ---- */

/* Get argument 1, a key. */
static char *
key_argument(FunctionCallInfo fcinfo)
{
	char	   *key;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("key of a route must not be null")));
	key = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (*key == '\0' || strlen(key) > SQS_ROUTE_KEY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid key of a route: \"%s\"", key),
				 errdetail("A key must have 1 to %d bytes.", SQS_ROUTE_KEY_MAX)));
	return key;
}

/*
 * Find the queue and lock it, if the current role may change it.  Pushes a
 * snapshot.
 */
static SqsQueueConfig *
queue_to_change(FunctionCallInfo fcinfo)
{
	SqsQueueConfig *queue = sqs_catalog_queue_to_change(sqs_queue_argument(fcinfo));

	if (queue->is_copy)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue \"%s\" is a copy of a queue of another database", queue->name),
				 errhint("To use it here, call sqs_adopt_queues() first.")));
	return queue;
}

/*
 * A number for a new route: one more than the greatest, so that what is known of
 * a route that was dropped is not taken for the new one's; if there is none, the
 * first that is free.
 */
static int
new_number(const SqsRoutes *routes)
{
	bool		used[SQS_ROUTES_MAX + 1] = {false};
	int			greatest = -1;
	int			number = 0;

	for (int i = 0; i < routes->n; i++)
	{
		greatest = Max(greatest, routes->routes[i].number);
		if (routes->routes[i].number <= SQS_ROUTES_MAX)
			used[routes->routes[i].number] = true;
	}
	if (greatest < PG_INT16_MAX)
		return greatest + 1;
	while (used[number])
		number++;
	return number;
}

/*
 * sqs_add_route(queue, key, handler, handler_timeout) returns void
 */
Datum
sqs_add_route(PG_FUNCTION_ARGS)
{
	SqsQueueConfig *queue;
	SqsRoutes  *routes;
	char	   *key;
	char	   *handler;
	Oid			funcid;
	SqsWriter  *writer;
	Datum		values[ROUTE_NATTS];
	bool		nulls[ROUTE_NATTS] = {false};

	PreventCommandIfReadOnly("sqs_add_route()");
	key = key_argument(fcinfo);
	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("handler of a route must not be null")));
	if (!PG_ARGISNULL(3))
		sqs_option_check_range(OPT_HANDLER_TIMEOUT, PG_GETARG_DATUM(3));

	queue = queue_to_change(fcinfo);
	if (queue->route_by == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue \"%s\" does not route messages", queue->name),
				 errhint("Say what the key of a message is: sqs_alter_queue(%s, route_by => ...).",
						 quote_literal_cstr(queue->name))));
	handler = sqs_find_handler(text_to_cstring(PG_GETARG_TEXT_PP(2)), queue->owner, &funcid);
	routes = sqs_routes_load(queue->queue_id);
	if (sqs_route_find(routes, key) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("queue \"%s\" already has a route for key \"%s\"", queue->name, key),
				 errhint("To replace it, call sqs_drop_route() first, in the same transaction.")));
	if (routes->n >= SQS_ROUTES_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("queue \"%s\" has %d routes, and may not have more",
						queue->name, routes->n)));

	writer = sqs_writer_open(SQS_TABLE_ROUTES);
	values[ROUTE_QUEUE_ID] = Int32GetDatum(queue->queue_id);
	values[ROUTE_KEY] = CStringGetTextDatum(key);
	values[ROUTE_NUMBER] = Int16GetDatum(new_number(routes));
	set_handler(values, handler, funcid);
	nulls[ROUTE_HANDLER_TIMEOUT] = PG_ARGISNULL(3);
	values[ROUTE_HANDLER_TIMEOUT] = PG_GETARG_DATUM(3);
	values[ROUTE_CREATED_AT] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	sqs_writer_insert(writer, values, nulls);
	sqs_writer_close(writer);
	CommandCounterIncrement();
	PopActiveSnapshot();

	sqs_wake_at_commit();
	PG_RETURN_VOID();
}

/*
 * sqs_drop_route(queue, key) returns void
 */
Datum
sqs_drop_route(PG_FUNCTION_ARGS)
{
	SqsQueueConfig *queue;
	char	   *key;
	SqsWriter  *writer;
	SysScanDesc scan;
	ScanKeyData keys[2];
	HeapTuple	tuple;

	PreventCommandIfReadOnly("sqs_drop_route()");
	key = key_argument(fcinfo);
	queue = queue_to_change(fcinfo);
	writer = sqs_writer_open(SQS_TABLE_ROUTES);
	ScanKeyInit(&keys[0], ROUTE_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(queue->queue_id));
	ScanKeyInit(&keys[1], ROUTE_KEY + 1, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(key));
	scan = systable_beginscan(sqs_writer_relation(writer), sqs_index_oid(SQS_INDEX_ROUTES_PKEY),
							  true, GetActiveSnapshot(), 2, keys);
	tuple = systable_getnext(scan);
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("queue \"%s\" has no route for key \"%s\"", queue->name, key),
				 errhint("Its routes are listed in sqs_routes.")));
	if (sqs_writer_delete(writer, &tuple->t_self, true) != SQS_WRITTEN)
		changed_concurrently();
	systable_endscan(scan);
	sqs_writer_close(writer);
	CommandCounterIncrement();
	PopActiveSnapshot();

	sqs_wake_at_commit();
	PG_RETURN_VOID();
}
