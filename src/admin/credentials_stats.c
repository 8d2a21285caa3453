/*-------------------------------------------------------------------------
 *
 * credentials_stats.c
 *	  What sqs_stats_credentials shows: as whom the servers of this database
 *	  are used, and how the keys for that are.
 *
 * Shared memory knows keys only by an id that tells nothing about them.  So for
 * each server and user mapping we make the same plan as those who use it, and
 * look for its id.  That reads AWS's configuration files, but uses no network.
 *
 * No part of a key that a user has entered is shown, not even of the key id,
 * because users do swap the two.  Of fetched keys, the last four characters of
 * the id are shown, as AWS's own tools do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/privileges.h"
#include "base/settings.h"
#include "config/connect.h"
#include "config/fdw.h"
#include "config/keys.h"
#include "config/queues.h"

PG_FUNCTION_INFO_V1(sqs_get_credentials);

#define COLUMNS		13

/* A user mapping. */
typedef struct Mapping
{
	Oid			server;
	Oid			role;			/* InvalidOid: PUBLIC */
} Mapping;

/* The servers of our wrapper that the current role may see the keys of. */
static List *
list_servers(void)
{
	Relation	rel = table_open(ForeignServerRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	List	   *servers = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_foreign_server form = (Form_pg_foreign_server) GETSTRUCT(tuple);

		if (sqs_fdw_is_ours(form->srvfdw) && sqs_may_see_stats_of(form->srvowner))
			servers = lappend_oid(servers, form->oid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return servers;
}

/* Their user mappings. */
static List *
list_mappings(List *servers)
{
	Relation	rel = table_open(UserMappingRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	List	   *mappings = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_user_mapping form = (Form_pg_user_mapping) GETSTRUCT(tuple);
		Mapping    *mapping;

		if (!list_member_oid(servers, form->umserver))
			continue;
		mapping = palloc(sizeof(Mapping));
		mapping->server = form->umserver;
		mapping->role = form->umuser;
		mappings = lappend(mappings, mapping);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return mappings;
}

static void
put_text(Datum *value, bool *null, const char *text)
{
	*null = text == NULL || text[0] == '\0';
	if (!*null)
		*value = CStringGetTextDatum(text);
}

static void
put_timestamp(Datum *value, bool *null, TimestampTz at)
{
	*null = at == 0;
	*value = TimestampTzGetDatum(at);
}

/*
 * A row: how this role uses the server; InvalidOid: any that has no mapping of
 * its own.
 */
static void
put_row(ReturnSetInfo *rsinfo, const SqsQueueConfig *server, Oid role)
{
	SqsKeys		keys;
	SqsCredentialsView view;
	AwsError	error;
	char	   *problem;
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];

	memset(nulls, true, sizeof(nulls));
	memset(&view, 0, sizeof(view));
	values[0] = CStringGetDatum(pstrdup(server->server));
	values[0] = DirectFunctionCall1(namein, values[0]);
	nulls[0] = false;
	values[1] = ObjectIdGetDatum(role);
	nulls[1] = !OidIsValid(role);

	problem = sqs_catalog_keys(role, server->server_oid, &keys);
	if (problem == NULL && !sqs_shared_credentials_view(&keys, sqs_ca_file_in_use(), &view, &error))
		problem = pstrdup(error.message);
	sqs_wipe_keys(&keys);

	put_text(&values[2], &nulls[2], view.source);
	put_text(&values[3], &nulls[3], view.role_arn);
	put_text(&values[4], &nulls[4],
			 problem != NULL ? "failed" : view.fetched ? view.status.state : "ready");
	nulls[10] = true;
	if (view.shared)
	{
		put_text(&values[5], &nulls[5], view.status.key_id);
		put_timestamp(&values[6], &nulls[6], view.status.expires);
		put_timestamp(&values[7], &nulls[7], view.status.refresh_at);
		put_timestamp(&values[8], &nulls[8], view.status.fetched_at);
		put_timestamp(&values[9], &nulls[9], view.status.stale_since);
		values[10] = Int64GetDatum((int64) view.status.fetches);
		nulls[10] = false;
		put_timestamp(&values[11], &nulls[11], view.status.failed_at);
		put_text(&values[12], &nulls[12], view.status.error);
	}
	if (problem != NULL)
		put_text(&values[12], &nulls[12], problem);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* Behind sqs_stats_credentials. */
Datum
sqs_get_credentials(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	List	   *servers;
	List	   *mappings;
	ListCell   *lc;

	sqs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	servers = list_servers();
	mappings = list_mappings(servers);
	foreach(lc, servers)
	{
		SqsQueueConfig *server = sqs_catalog_server(lfirst_oid(lc));
		SqsServerOptions options;
		bool		for_all = false;
		ListCell   *m;

		sqs_server_options(GetForeignServer(server->server_oid), &options);
		foreach(m, mappings)
		{
			Mapping    *mapping = lfirst(m);

			if (mapping->server != server->server_oid)
				continue;
			CHECK_FOR_INTERRUPTS();
			put_row(rsinfo, server, mapping->role);
			for_all = for_all || !OidIsValid(mapping->role);
		}
		if (options.source != NULL && !for_all)
			put_row(rsinfo, server, InvalidOid);
	}
	return (Datum) 0;
}
