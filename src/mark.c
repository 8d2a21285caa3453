/*-------------------------------------------------------------------------
 *
 * mark.c
 *	  Which databases have work: a mark that the launcher can read.
 *
 * The launcher is connected to no database.  Such a process can read but a
 * few catalogs: pg_database, pg_authid, pg_auth_members, pg_subscription and
 * pg_shseclabel.  So a database with something to do has a row in the last of
 * them, which is as transactional as the queue that it stands for: it is
 * there after a restart, on a standby, after COMMIT PREPARED, and not after a
 * rollback; and nobody has to be told of it for it to be found.
 *
 * The row's class is pg_shseclabel itself, not pg_database.  With that, no
 * view shows it, and neither pg_dump nor CREATE DATABASE ... TEMPLATE nor
 * pg_upgrade copies it.  So a copy of a database has no mark, and no workers,
 * until somebody adopts its queues.
 *
 * It is set with the first queue, and removed by the database worker when it
 * finds neither a queue nor a row of the outbox.  The two must not miss each
 * other: who has written a queue holds the mark's lock in share mode, looks
 * whether the mark is there, and holds the lock until commit; who removes the
 * mark holds it exclusively before he looks for queues.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_shseclabel.h"
#include "commands/seclabel.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/inval.h"

#include "compat.h"
#include "mark.h"

#define MARK_PROVIDER	"sqsbridge"
#define MARK_LABEL		"has work"

static void
mark_address(ObjectAddress *address, Oid dboid)
{
	ObjectAddressSet(*address, SharedSecLabelRelationId, dboid);
}

static void
mark_locktag(LOCKTAG *tag, Oid dboid)
{
	SET_LOCKTAG_OBJECT(*tag, InvalidOid, SharedSecLabelRelationId, dboid, 0);
}

static bool
lock_mark(Oid dboid, LOCKMODE mode, bool wait)
{
	LOCKTAG		tag;

	mark_locktag(&tag, dboid);
	if (LockAcquire(&tag, mode, false, !wait) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	AcceptInvalidationMessages();
	return true;
}

/* As of now: the catalog has no cache, so each look has a new snapshot. */
static bool
is_marked(Oid dboid)
{
	ObjectAddress address;

	mark_address(&address, dboid);
	return GetSecurityLabel(&address, MARK_PROVIDER) != NULL;
}

static void
set_mark(Oid dboid, const char *label)
{
	ObjectAddress address;

	mark_address(&address, dboid);
	SetSecurityLabel(&address, MARK_PROVIDER, label);
}

void
sqs_mark_database_wanted(void)
{
	LOCKTAG		tag;

	(void) lock_mark(MyDatabaseId, ShareLock, true);
	if (is_marked(MyDatabaseId))
		return;

	/*
	 * To go from share to exclusive would be a deadlock of two that do.
	 * Nothing depends on the share lock yet, so it can be given back.
	 */
	mark_locktag(&tag, MyDatabaseId);
	(void) LockRelease(&tag, ShareLock, false);
	(void) lock_mark(MyDatabaseId, ExclusiveLock, true);
	if (!is_marked(MyDatabaseId))
	{
		set_mark(MyDatabaseId, MARK_LABEL);
		/* the next queue of the same statement shall see it */
		CommandCounterIncrement();
	}
}

bool
sqs_mark_lock(void)
{
	return lock_mark(MyDatabaseId, ExclusiveLock, false);
}

void
sqs_mark_remove(void)
{
	set_mark(MyDatabaseId, NULL);
}

void
sqs_mark_drop(Oid dboid)
{
	(void) lock_mark(dboid, ExclusiveLock, true);
	set_mark(dboid, NULL);
}

List *
sqs_marked_databases(void)
{
	List	   *result = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	rel = table_open(SharedSecLabelRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_shseclabel form = (Form_pg_shseclabel) GETSTRUCT(tuple);
		bool		isnull;
		Datum		provider;

		if (form->classoid != SharedSecLabelRelationId)
			continue;
		provider = heap_getattr(tuple, Anum_pg_shseclabel_provider,
								RelationGetDescr(rel), &isnull);
		if (!isnull && strcmp(TextDatumGetCString(provider), MARK_PROVIDER) == 0)
			result = lappend_oid(result, form->objoid);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}
