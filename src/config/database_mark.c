/*-------------------------------------------------------------------------
 *
 * database_mark.c
 *	  Which databases have work: a mark that the launcher can read.
 *
 * The launcher is not connected to a database.  Such a process can read only a
 * few catalogs: pg_database, pg_authid, pg_auth_members, pg_subscription and
 * pg_shseclabel.  So a database with work has a row in the last of these.  The
 * row is as transactional as the queue for which it was made: it exists after
 * a restart, on a standby and after COMMIT PREPARED, and does not exist after a
 * rollback; and it is found even if no notification of the change arrives.
 *
 * The row's class is pg_shseclabel itself, not pg_database.  Therefore no view
 * shows it, and neither pg_dump nor CREATE DATABASE ... TEMPLATE nor
 * pg_upgrade copies it.  So a copy of a database has no mark, and no workers,
 * until its queues are adopted (sqs_adopt_queues()).
 *
 * The mark is set with the first queue, and removed by the database worker when
 * it finds neither a queue nor a row of the outbox.  The two must not miss each
 * other: a transaction that has written a queue takes the mark's lock in share
 * mode before it looks for a mark, and holds it until commit; the database
 * worker takes the lock in exclusive mode before it looks for queues.
 *
 * Two transactions that register the first queue at the same time do not see
 * each other's mark, and must not wait for each other, because a transaction
 * may stay open, or prepared, for a long time.  So each sets a mark of its own,
 * with its transaction ID in it, and all marks are removed together.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_shseclabel.h"
#include "commands/seclabel.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "config/database_mark.h"

#define MARK_PROVIDER	"sqsbridge/"	/* followed by a transaction ID */
#define MARK_LABEL		"has work"

/* Held to the end of the transaction.  False: not available, and not "wait". */
static bool
lock_mark(Oid dboid, LOCKMODE mode, bool wait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, SharedSecLabelRelationId, dboid, 0);
	if (LockAcquire(&tag, mode, false, !wait) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	AcceptInvalidationMessages();
	return true;
}

static bool
is_mark(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		provider = sqs_getattr(tuple, Anum_pg_shseclabel_provider, desc, &isnull);

	return !isnull && strncmp(TextDatumGetCString(provider), MARK_PROVIDER,
							  strlen(MARK_PROVIDER)) == 0;
}

/*
 * Is the database marked?  If "remove", remove its marks.  pg_shseclabel has no
 * cache; each scan takes a new catalog snapshot.
 */
static bool
look_for_marks(Oid dboid, bool remove)
{
	Relation	rel = table_open(SharedSecLabelRelationId,
								 remove ? RowExclusiveLock : AccessShareLock);
	SysScanDesc scan;
	ScanKeyData keys[2];
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&keys[0], Anum_pg_shseclabel_objoid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(dboid));
	ScanKeyInit(&keys[1], Anum_pg_shseclabel_classoid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(SharedSecLabelRelationId));
	scan = systable_beginscan(rel, SharedSecLabelObjectIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (!is_mark(tuple, RelationGetDescr(rel)))
			continue;
		found = true;
		if (remove)
			CatalogTupleDelete(rel, &tuple->t_self);
	}
	systable_endscan(scan);
	table_close(rel, NoLock);
	return found;
}

/*
 * Mark the database as having work, if the current transaction commits.
 * Must be called by everything that registers, alters, enables or adopts a
 * queue, after its row was written.
 */
void
sqs_mark_database_wanted(void)
{
	ObjectAddress address;

	(void) lock_mark(MyDatabaseId, ShareLock, true);
	if (look_for_marks(MyDatabaseId, false))
		return;
	ObjectAddressSet(address, SharedSecLabelRelationId, MyDatabaseId);
	SetSecurityLabel(&address, psprintf(MARK_PROVIDER "%u", GetTopTransactionId()), MARK_LABEL);
	/* make it visible to the next call in the same statement */
	CommandCounterIncrement();
}

/*
 * Take the lock that keeps other transactions from marking this database.
 * Returns false at once if a transaction is about to mark it.
 */
bool
sqs_mark_lock(void)
{
	return lock_mark(MyDatabaseId, ExclusiveLock, false);
}

/*
 * Remove the mark.  The caller has the lock, and commits, which releases it.
 */
void
sqs_mark_remove(void)
{
	(void) look_for_marks(MyDatabaseId, true);
}

/*
 * The database, or the extension in it, is being dropped: remove its marks.
 * "wait": for transactions that are about to mark it.
 *
 * DROP DATABASE calls this before it looks at who else is in the database, and
 * terminates them if it is told to.  It must not wait for one of them here,
 * while nobody can connect to the database any more.  If such a transaction
 * commits after all, a mark remains for a database that does not exist, which
 * the launcher ignores.
 */
void
sqs_mark_drop(Oid dboid, bool wait)
{
	(void) lock_mark(dboid, ExclusiveLock, wait);
	(void) look_for_marks(dboid, true);
}

/*
 * For the launcher: the OIDs of marked databases, whether they exist or not.
 */
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

		if (form->classoid == SharedSecLabelRelationId &&
			is_mark(tuple, RelationGetDescr(rel)))
			result = list_append_unique_oid(result, form->objoid);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}
