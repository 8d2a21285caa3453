/*-------------------------------------------------------------------------
 *
 * ddl.c
 *	  Keeping workers out of the way of DDL on their database or extension.
 *
 * DROP DATABASE, ALTER DATABASE ... RENAME or SET TABLESPACE and CREATE
 * DATABASE ... TEMPLATE need the database without connections, DROP
 * EXTENSION needs the tables without locks.  So before such a statement runs
 * the backend *blocks* the database: the entry's blocker count forbids new
 * workers, existing ones exit as at a shutdown, and the backend waits for the
 * last one.  The block is lifted when the transaction ends, in either way: after
 * a rollback, or a statement that failed, the workers are started again.
 *
 * A backend counts each database it blocks once, in a list of its own, and
 * unblocks all of them at transaction end or, at the latest, at its exit.  If it
 * is killed, the crash restart resets shared memory.
 *
 * The object access hook catches what the statement does not name (DROP
 * SCHEMA ... CASCADE, DROP OWNED).  If the extension is dropped that way, its
 * tables are locked by then, so the workers are woken at commit, and notice.
 *
 * In addition, the hook for utility statements refuses those by which other
 * roles could make the users of our tables wait (ddl_guard.c), and the object
 * access hook removes the marks of what is dropped, and notices changes of roles
 * and their settings, and of servers and user mappings, so that, for example, a
 * corrected key is tried at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/ipc.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/databases.h"
#include "base/shmem.h"
#include "base/slots.h"
#include "base/wake_at_commit.h"
#include "base/wakeup.h"
#include "config/database_mark.h"
#include "config/fdw.h"
#include "control/ddl.h"
#include "control/ddl_guard.h"

static ProcessUtility_hook_type prev_ProcessUtility = NULL;
static object_access_hook_type prev_object_access = NULL;

static List *blocked = NIL;		/* OIDs, in TopMemoryContext */
static bool exit_callback_registered = false;

static void
unblock_all(void)
{
	ListCell   *lc;

	foreach(lc, blocked)
		sqs_database_unblock(lfirst_oid(lc));
	list_free(blocked);
	blocked = NIL;
	sqs_wake_launcher();
}

static void
unblock_on_exit(int code, Datum arg)
{
	if (blocked != NIL)
		unblock_all();
}

/* Block the database and wait until no worker is left in it. */
static void
block_database(Oid dboid)
{
	MemoryContext oldcontext;
	uint32		wait_event;

	if (!OidIsValid(dboid) || list_member_oid(blocked, dboid))
		return;
	if (!exit_callback_registered)
	{
		before_shmem_exit(unblock_on_exit, (Datum) 0);
		exit_callback_registered = true;
	}

	/* room in the list first: what is blocked must be in it */
	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	blocked = lappend_oid(blocked, dboid);
	MemoryContextSwitchTo(oldcontext);
	if (!sqs_database_block(dboid))
	{
		blocked = list_delete_last(blocked);
		return;					/* table full: it has no workers either */
	}

	wait_event = sqs_wait_event_new("SqsbridgeWorkersStop");
	ConditionVariablePrepareToSleep(&sqs_shared->slots_cv);
	while (sqs_slots_of_database(dboid) > 0)
	{
		sqs_wake_workers(dboid);
		/* the timeout covers a worker that was about to attach */
		(void) ConditionVariableTimedSleep(&sqs_shared->slots_cv, 200, wait_event);
	}
	ConditionVariableCancelSleep();
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (blocked != NIL)
		unblock_all();
}

static bool
names_extension(DropStmt *stmt)
{
	ListCell   *lc;

	if (stmt->removeType != OBJECT_EXTENSION)
		return false;
	foreach(lc, stmt->objects)
	{
		if (strcmp(strVal(lfirst(lc)), "sqsbridge") == 0)
			return true;
	}
	return false;
}

static Oid
template_database(CreatedbStmt *stmt)
{
	const char *template = "template1";
	ListCell   *lc;

	foreach(lc, stmt->options)
	{
		DefElem    *option = (DefElem *) lfirst(lc);

		if (strcmp(option->defname, "template") == 0 &&
			option->arg != NULL && IsA(option->arg, String))
			template = strVal(option->arg);
	}
	return get_database_oid(template, true);
}

static bool
is_template(Oid dboid)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(dboid));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* have_createdb_privilege() is exported by the newest minor releases only. */
static bool
may_create_databases(void)
{
	HeapTuple	tuple;
	bool		result = superuser();

	if (result)
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return result;
}

/*
 * Does the statement give or take USAGE on a server?  Who has it without the
 * right to grant it gets a warning for that, in a loop if he likes.
 */
static bool
changes_privileges(GrantStmt *stmt)
{
	ListCell   *lc;

	if (stmt->objtype != OBJECT_FOREIGN_SERVER)
		return false;
	foreach(lc, stmt->objects)
	{
		Oid			server = get_foreign_server_oid(strVal(lfirst(lc)), true);

		if (OidIsValid(server) &&
			object_aclcheck(ForeignServerRelationId, server, GetUserId(),
							ACL_GRANT_OPTION_FOR(ACL_USAGE)) == ACLCHECK_OK)
			return true;
	}
	return false;
}

/*
 * Block the database that the statement needs free of workers, if any, and wait
 * for them.  The caller has made sure that the current role may do that.
 */
static void
before_utility(Node *parsetree)
{
	switch (nodeTag(parsetree))
	{
		case T_DropdbStmt:
			block_database(get_database_oid(castNode(DropdbStmt, parsetree)->dbname, true));
			break;

		case T_RenameStmt:
			{
				RenameStmt *stmt = castNode(RenameStmt, parsetree);

				if (stmt->renameType == OBJECT_DATABASE)
					block_database(get_database_oid(stmt->subname, true));
				break;
			}

		case T_AlterDatabaseStmt:
			{
				AlterDatabaseStmt *stmt = castNode(AlterDatabaseStmt, parsetree);
				ListCell   *lc;

				foreach(lc, stmt->options)
				{
					if (strcmp(((DefElem *) lfirst(lc))->defname, "tablespace") == 0)
						block_database(get_database_oid(stmt->dbname, true));
				}
				break;
			}

		case T_CreatedbStmt:
			block_database(template_database(castNode(CreatedbStmt, parsetree)));
			break;

		case T_DropStmt:
			if (names_extension(castNode(DropStmt, parsetree)) &&
				OidIsValid(get_extension_oid("sqsbridge", true)))
				block_database(MyDatabaseId);
			break;

			/* there is no hook for a privilege that is granted or revoked */
		case T_GrantStmt:
			if (changes_privileges(castNode(GrantStmt, parsetree)) &&
				OidIsValid(get_extension_oid("sqsbridge", true)))
				sqs_wake_at_commit();
			break;

		default:
			break;
	}
}

/*
 * May the current role stop the workers by this statement?  PostgreSQL checks
 * privileges only after our hook has run, so a role whose statement is going to
 * fail must be recognized here.  All of these statements need ownership.
 */
static bool
may_block(Node *parsetree)
{
	switch (nodeTag(parsetree))
	{
		case T_DropdbStmt:
		case T_AlterDatabaseStmt:
		case T_RenameStmt:
			{
				Oid			dboid = InvalidOid;

				if (IsA(parsetree, DropdbStmt))
					dboid = get_database_oid(((DropdbStmt *) parsetree)->dbname, true);
				else if (IsA(parsetree, AlterDatabaseStmt))
					dboid = get_database_oid(((AlterDatabaseStmt *) parsetree)->dbname, true);
				else if (((RenameStmt *) parsetree)->renameType == OBJECT_DATABASE)
					dboid = get_database_oid(((RenameStmt *) parsetree)->subname, true);
				else
					return true;
				return OidIsValid(dboid) && sqs_database_ownercheck(dboid, GetUserId());
			}
		case T_CreatedbStmt:
			{
				Oid			dboid = template_database((CreatedbStmt *) parsetree);

				/* as createdb() does: to copy takes more than CREATEDB */
				return OidIsValid(dboid) && may_create_databases() &&
					(is_template(dboid) || sqs_database_ownercheck(dboid, GetUserId()));
			}
		case T_DropStmt:
			if (((DropStmt *) parsetree)->removeType == OBJECT_EXTENSION)
			{
				Oid			extension = get_extension_oid("sqsbridge", true);

				return OidIsValid(extension) && sqs_extension_ownercheck(extension, GetUserId());
			}
			return true;
		default:
			return true;
	}
}

/* ProcessUtility hook. */
static void
sqs_ProcessUtility(PlannedStmt *pstmt, const char *queryString,
				   bool readOnlyTree, ProcessUtilityContext context,
				   ParamListInfo params, QueryEnvironment *queryEnv,
				   DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *parsetree = pstmt->utilityStmt;
	bool		updates;

	if (sqs_shared != NULL && IsTransactionState())
	{
		sqs_ddl_guard(parsetree);
		if (!RecoveryInProgress() && may_block(parsetree))
			before_utility(parsetree);
	}
	updates = IsA(parsetree, AlterExtensionStmt) &&
		strcmp(((AlterExtensionStmt *) parsetree)->extname, "sqsbridge") == 0;

	if (prev_ProcessUtility)
		prev_ProcessUtility(pstmt, queryString, readOnlyTree, context,
							params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context,
								params, queryEnv, dest, qc);

	/* a version without marks may have left queues but no mark */
	if (updates && sqs_shared != NULL)
	{
		sqs_mark_database_wanted();
		sqs_wake_at_commit();
	}
}

/* Object access hook; most calls concern objects that do not matter here. */
static void
sqs_object_access(ObjectAccessType access, Oid classId, Oid objectId,
				  int subId, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, classId, objectId, subId, arg);

	/* here, and not before the statement, because a DROP may find nothing */
	if ((access == OAT_POST_CREATE || access == OAT_POST_ALTER || access == OAT_DROP) &&
		(classId == ForeignServerRelationId || classId == UserMappingRelationId))
	{
		if (sqs_fdw_object_is_ours(classId, objectId))
		{
			sqs_wake_at_commit();
			if (classId == ForeignServerRelationId)
				sqs_servers_changed_at_commit();
			else
				sqs_mappings_changed_at_commit();
		}
		return;
	}

	switch (access)
	{
		case OAT_DROP:
			if (classId == ExtensionRelationId &&
				objectId == get_extension_oid("sqsbridge", true))
			{
				sqs_mark_drop(MyDatabaseId, true);
				sqs_wake_at_commit();
			}
			else if (classId == DatabaseRelationId)
				sqs_mark_drop(objectId, false);
			break;

		case OAT_POST_ALTER:
			/* changed settings of a role or database invalidate no cache */
			if (classId == DbRoleSettingRelationId || classId == AuthIdRelationId)
				sqs_roles_changed_at_commit();
			break;

		default:
			break;
	}
}

/* Install the hooks.  Called from _PG_init(). */
void
sqs_ddl_init(void)
{
	prev_ProcessUtility = ProcessUtility_hook;
	ProcessUtility_hook = sqs_ProcessUtility;
	prev_object_access = object_access_hook;
	object_access_hook = sqs_object_access;
	RegisterXactCallback(at_transaction_end, NULL);
}
