/*-------------------------------------------------------------------------
 *
 * role_settings.c
 *	  A hash of everything a handler worker's session depends on at its start.
 *
 * Like any session, a handler worker takes the settings of its role and
 * database when it starts; a later ALTER ROLE ... SET has no effect on it.  But
 * such a change must take effect for the queue, and a busy handler does not exit
 * by itself.  pg_db_role_setting has no cache that would be invalidated, so the
 * database worker reads it every ten seconds, and at once when it is told of a
 * change (control/ddl.c), and puts a hash into shared memory, with which
 * handler workers compare theirs.
 *
 * Settings in the configuration file are not included, because handler workers
 * read the file themselves at a reload.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_db_role_setting.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "config/queues.h"
#include "config/role_settings.h"

/* A row of pg_db_role_setting that concerns this database. */
typedef struct Setting
{
	Oid			role;			/* InvalidOid: all */
	uint64		hash;
} Setting;

static uint64
hash_more(uint64 hash, const void *data, size_t len)
{
	return hash_combine64(hash, hash_bytes_extended(data, (int) len, 0));
}

/* The rows for this database or for all, as a List of Setting. */
static List *
read_settings(void)
{
	List	   *settings = NIL;
	Relation	rel = table_open(DbRoleSettingRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_db_role_setting form = (Form_pg_db_role_setting) GETSTRUCT(tuple);
		Setting    *setting;
		Datum		config;
		bool		isnull;

		if (OidIsValid(form->setdatabase) && form->setdatabase != MyDatabaseId)
			continue;
		setting = palloc(sizeof(Setting));
		setting->role = form->setrole;
		setting->hash = hash_more(form->setdatabase, &form->setrole, sizeof(Oid));
		config = sqs_getattr(tuple, Anum_pg_db_role_setting_setconfig,
							 RelationGetDescr(rel), &isnull);
		if (!isnull)
		{
			struct varlena *array = PG_DETOAST_DATUM_PACKED(config);

			setting->hash = hash_more(setting->hash, VARDATA_ANY(array),
									  VARSIZE_ANY_EXHDR(array));
		}
		settings = lappend(settings, setting);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return settings;
}

/*
 * For each queue in a List of SqsQueueConfig, in that order, compute a hash
 * that changes when a handler worker started now would behave differently
 * from one started before.  It is never 0.  The result is palloc'd.  Needs a
 * transaction.
 */
uint64 *
sqs_handler_settings(List *queues)
{
	uint64	   *hashes = palloc(sizeof(uint64) * Max(list_length(queues), 1));
	List	   *settings = read_settings();
	ListCell   *lc;

	foreach(lc, queues)
	{
		SqsQueueConfig *queue = lfirst(lc);
		uint64		sum = 0;
		uint64		hash;
		HeapTuple	role;
		ListCell   *ls;

		/* a sum, because the order of the rows means nothing */
		foreach(ls, settings)
		{
			Setting    *setting = lfirst(ls);

			if (!OidIsValid(setting->role) || setting->role == queue->owner)
				sum += setting->hash;
		}
		hash = hash_more(sum, &queue->changed_at, sizeof(queue->changed_at));

		role = SearchSysCache1(AUTHOID, ObjectIdGetDatum(queue->owner));
		if (HeapTupleIsValid(role))
		{
			Form_pg_authid form = (Form_pg_authid) GETSTRUCT(role);
			bool		rights[3];

			rights[0] = form->rolsuper;
			rights[1] = form->rolcanlogin;
			rights[2] = form->rolbypassrls;
			hash = hash_more(hash, rights, sizeof(rights));
			ReleaseSysCache(role);
		}
		hashes[foreach_current_index(lc)] = hash != 0 ? hash : 1;
	}
	return hashes;
}
