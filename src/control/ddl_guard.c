/*-------------------------------------------------------------------------
 *
 * ddl_guard.c
 *	  Refusing statements by which other roles could make our tables' users wait.
 *
 * Most statements check privileges before they request a lock.  Some request
 * it first: CREATE TRIGGER, CREATE RULE, a foreign key that refers to the table,
 * and whatever makes it a partition or a parent.  LOCK TABLE requires only a
 * privilege to write, and TRUNCATE, where that was granted, waits for its lock
 * before the guard refuses it.  DROP is permitted to the owner of the schema,
 * too, and waits for the lock before it finds that the extension needs the
 * relation.  If a transaction that has written stays open, these statements
 * wait for their strong lock, and every later writer waits for them.  So a role
 * without any privilege on one of our relations could stop its writers.
 *
 * Here such a statement is refused before it requests the lock, if it names a
 * relation of this extension and is run by a role that is neither its owner nor
 * a superuser.  For all other statements this costs a look at the kind of the
 * statement; for these, catalog lookups without a lock.
 *
 * Since PostgreSQL 17 there is MAINTAIN, which is part of GRANT ALL ON ALL
 * TABLES and permits rewriting a table, or requesting a view's strongest lock
 * without any use.  Those statements are refused in the same way, except to
 * members of pg_maintain and to the owner of the database, who have that right
 * on all relations and can use it without naming one.
 *
 * No role may change the columns of our tables and types, not even a superuser.
 * Nor may one reorganize the tables with tools that work in a way which would
 * lose rows: pg_repack collects what is written meanwhile by a trigger, and rows
 * that are written below the executor fire none; REPACK (CONCURRENTLY) inserts
 * rows anew, after which no batch of the outbox is native (see send/outbox.h).
 *
 * A name that cannot be found is left to the statement itself, which has the
 * better error.  A name without a schema may resolve to one of our relations
 * only later, if a relation that precedes it in the search path is dropped in
 * the meantime; so it is refused if any schema in the path has one of ours.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "rewrite/rewriteHandler.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "base/internal_tables.h"
#include "control/ddl_guard.h"

static void
check_relation(Oid relid)
{
	char		relkind;
	Oid			extension;

	/* a system catalog, or nothing */
	if (relid < FirstNormalObjectId)
		return;
	relkind = get_rel_relkind(relid);
	if (relkind == RELKIND_INDEX || relkind == RELKIND_PARTITIONED_INDEX)
		relid = IndexGetRelation(relid, true);
	if (!OidIsValid(relid) || relkind == '\0' || sqs_relation_ownercheck(relid, GetUserId()))
		return;

	extension = getExtensionOfObject(RelationRelationId, relid);
	if (!OidIsValid(extension) || extension != get_extension_oid("sqsbridge", true))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for %s %s",
					get_rel_relkind(relid) == RELKIND_VIEW ? "view" : "table",
					get_rel_name(relid)),
			 errdetail("Only the owner of a relation of extension sqsbridge may lock or drop it, create triggers or rules on it, refer to it by a foreign key, or attach it to another table: whoever writes to it would have to wait."),
			 errhint("To refer to a relation of your own with the same name, qualify its name with the schema.")));
}

/*
 * All relations that the name may mean: without privilege checks, locks or
 * errors.  A database in the name is the present one, or the statement fails.
 */
static List *
find_relations(const RangeVar *name)
{
	List	   *schemas;
	List	   *found = NIL;
	ListCell   *lc;

	if (name == NULL)
		return NIL;
	if (name->schemaname == NULL)
		schemas = fetch_search_path(true);
	else
		schemas = list_make1_oid(get_namespace_oid(name->schemaname, true));
	foreach(lc, schemas)
	{
		Oid			relid = OidIsValid(lfirst_oid(lc)) ?
			get_relname_relid(name->relname, lfirst_oid(lc)) : InvalidOid;

		if (OidIsValid(relid))
			found = lappend_oid(found, relid);
	}
	return found;
}

static void
check_name(const RangeVar *name)
{
	ListCell   *lc;

	foreach(lc, find_relations(name))
		check_relation(lfirst_oid(lc));
}

static void
check_names(List *names)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		if (IsA(lfirst(lc), RangeVar))
			check_name(lfirst(lc));
	}
}

/* What a foreign key refers to, in a Constraint or in those of a ColumnDef. */
static void
check_element(Node *element)
{
	ListCell   *lc;

	if (element == NULL)
		return;
	if (IsA(element, Constraint) &&
		((Constraint *) element)->contype == CONSTR_FOREIGN)
		check_name(((Constraint *) element)->pktable);
	else if (IsA(element, ColumnDef))
	{
		foreach(lc, ((ColumnDef *) element)->constraints)
			check_element(lfirst(lc));
	}
}

static void
check_elements(List *elements)
{
	ListCell   *lc;

	foreach(lc, elements)
		check_element(lfirst(lc));
}

static void check_view(Oid relid);

static bool
check_view_walker(Node *node, void *context)
{
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;

		foreach(lc, query->rtable)
		{
			RangeTblEntry *rte = lfirst(lc);

			/* a view's own entries stand for OLD and NEW, or its privileges */
			if (rte->rtekind != RTE_RELATION || rte->relid == *(Oid *) context)
				continue;
			check_relation(rte->relid);
			check_view(rte->relid);
		}
		return query_tree_walker(query, check_view_walker, context, 0);
	}
	return expression_tree_walker(node, check_view_walker, context);
}

/*
 * LOCK TABLE on a view locks what the view reads.  The right to that is asked
 * of the view's owner, who may have got the right to write to all tables.
 */
static void
check_view(Oid relid)
{
	Relation	view;

	if (relid < FirstNormalObjectId || get_rel_relkind(relid) != RELKIND_VIEW)
		return;
	check_stack_depth();
	view = try_relation_open(relid, AccessShareLock);
	if (view == NULL)
		return;
	(void) check_view_walker((Node *) get_view_query(view), &relid);
	relation_close(view, AccessShareLock);
}

static void
check_lock(const LockStmt *statement)
{
	ListCell   *lc;

	/* what reading and writing take anyway; pg_dump takes the weakest */
	if (statement->mode <= RowExclusiveLock)
		return;
	foreach(lc, statement->relations)
	{
		ListCell   *lc2;

		foreach(lc2, find_relations(lfirst(lc)))
		{
			check_relation(lfirst_oid(lc2));
			check_view(lfirst_oid(lc2));
		}
	}
}

static void
check_create(const CreateStmt *statement)
{
	check_names(statement->inhRelations);
	check_elements(statement->tableElts);
	check_elements(statement->constraints);
}

static void
check_alter(const AlterTableStmt *statement)
{
	ListCell   *lc;

	foreach(lc, statement->cmds)
	{
		AlterTableCmd *cmd = lfirst(lc);

		if (cmd->def == NULL)
			continue;
		if (IsA(cmd->def, PartitionCmd))
		{
			check_name(((PartitionCmd *) cmd->def)->name);
			check_names(sqs_partition_list((PartitionCmd *) cmd->def));
		}
		else
			check_element(cmd->def);
	}
}

/*
 * Is this a relation of the extension?  Of a composite type, which is a relation
 * as well, only the type itself is a member of it.
 */
static bool
is_ours(Oid relid)
{
	Oid			extension = InvalidOid;

	if (relid >= FirstNormalObjectId)
		extension = get_rel_relkind(relid) == RELKIND_COMPOSITE_TYPE ?
			getExtensionOfObject(TypeRelationId, get_rel_type_id(relid)) :
			getExtensionOfObject(RelationRelationId, relid);
	return OidIsValid(extension) && extension == get_extension_oid("sqsbridge", true);
}

/* The first of the relations with this name that is ours, or InvalidOid. */
static Oid
find_ours(const RangeVar *name)
{
	ListCell   *lc;

	foreach(lc, find_relations(name))
	{
		if (is_ours(lfirst_oid(lc)))
			return lfirst_oid(lc);
	}
	return InvalidOid;
}

/* Is this boolean option of a statement on? */
static bool
option_is_on(List *options, const char *name)
{
	bool		on = false;
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst(lc);

		if (strcmp(option->defname, name) == 0)
			on = defGetBoolean(option);
	}
	return on;
}

/*
 * The columns of the extension's tables are its scripts' to change, and so are
 * those of its types.  A column that is added leaves a trace even when it is
 * dropped again, and rows are formed by position.
 */
static void
check_columns(const AlterTableStmt *statement)
{
	Oid			ours;
	ListCell   *lc;

	foreach(lc, statement->cmds)
	{
		switch (((AlterTableCmd *) lfirst(lc))->subtype)
		{
			case AT_AddColumn:
			case AT_DropColumn:
			case AT_AlterColumnType:
				break;
			default:
				continue;
		}
		ours = find_ours(statement->relation);
		if (OidIsValid(ours))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("cannot change the columns of \"%s\", which belongs to extension sqsbridge",
							get_rel_name(ours))));
	}
}

/* The trigger that pg_repack creates on the table that it is to reorganize. */
static void
check_repack_trigger(const CreateTrigStmt *statement)
{
	Oid			ours;

	if (strcmp(statement->trigname, "repack_trigger") != 0)
		return;
	ours = find_ours(statement->relation);
	if (OidIsValid(ours))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot use pg_repack for table \"%s\", which belongs to extension sqsbridge",
						get_rel_name(ours)),
				 errdetail("Its trigger would not fire, and rows that are written meanwhile would be lost."),
				 errhint("Run pg_repack with --exclude-extension=sqsbridge, and VACUUM FULL for this table.")));
}

/* REPACK with these options. */
static void
check_repack(const RangeVar *name, List *options)
{
	Oid			ours;

	if (!option_is_on(options, "concurrently"))
		return;
	ours = find_ours(name);
	if (OidIsValid(ours) && ours == sqs_table_oid(SQS_TABLE_OUTBOX_BATCHES))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot use REPACK (CONCURRENTLY) for table \"%s\", which belongs to extension sqsbridge",
						sqs_table_name(SQS_TABLE_OUTBOX_BATCHES)),
				 errdetail("It would insert the rows anew, and they have to keep the transaction that wrote them."),
				 errhint("Use REPACK without CONCURRENTLY; the table is small, and sqsbridge does not mind its lock.")));
}

static void
check_drop(const DropStmt *statement)
{
	ListCell   *lc;

	switch (statement->removeType)
	{
		case OBJECT_TABLE:
		case OBJECT_VIEW:
		case OBJECT_INDEX:
			foreach(lc, statement->objects)
				check_name(makeRangeVarFromNameList(castNode(List, lfirst(lc))));
			break;
		default:
			break;
	}
}

/* A view is refused anyway, before any lock. */
static void
check_truncate(const TruncateStmt *statement)
{
	ListCell   *lc;

	foreach(lc, statement->relations)
	{
		ListCell   *lc2;

		foreach(lc2, find_relations(lfirst(lc)))
		{
			if (get_rel_relkind(lfirst_oid(lc2)) == RELKIND_RELATION)
				check_relation(lfirst_oid(lc2));
		}
	}
}

/* VACUUM FULL is the one that keeps writers waiting. */
static void
check_vacuum(const VacuumStmt *statement)
{
	ListCell   *lc;

	if (!option_is_on(statement->options, "full"))
		return;
	foreach(lc, statement->rels)
		check_name(((VacuumRelation *) lfirst(lc))->relation);
}

/* Statements that PostgreSQL allows to whoever has MAINTAIN. */
static void
check_maintenance(Node *statement)
{
	if (sqs_maintains_all(GetUserId()) ||
		sqs_database_ownercheck(MyDatabaseId, GetUserId()))
		return;
	switch (nodeTag(statement))
	{
		case T_VacuumStmt:
			check_vacuum((VacuumStmt *) statement);
			break;
		case SQS_T_REPACK_STMT:
			check_name(sqs_repacked((SqsRepackStmt *) statement));
			break;
		case T_ReindexStmt:
			check_name(((ReindexStmt *) statement)->relation);
			break;
		case T_RefreshMatViewStmt:
			check_name(((RefreshMatViewStmt *) statement)->relation);
			break;
		default:
			break;
	}
}

/* Called for every utility statement, so the first switch must be quick. */
void
sqs_ddl_guard(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_LockStmt:
		case T_CreateTrigStmt:
		case T_RuleStmt:
		case T_CreateStmt:
		case T_CreateForeignTableStmt:
		case T_AlterTableStmt:
		case T_AlterObjectDependsStmt:
		case T_DropStmt:
		case T_TruncateStmt:
		case T_VacuumStmt:
		case SQS_T_REPACK_STMT:
		case T_ReindexStmt:
		case T_RefreshMatViewStmt:
			break;
		default:
			return;
	}
	if (IsA(statement, AlterTableStmt) && !creating_extension)
		check_columns((AlterTableStmt *) statement);
	if (IsA(statement, CreateTrigStmt))
		check_repack_trigger((CreateTrigStmt *) statement);
	if (nodeTag(statement) == SQS_T_REPACK_STMT)
		check_repack(sqs_repacked((SqsRepackStmt *) statement),
					 ((SqsRepackStmt *) statement)->params);
	if (superuser())
		return;

	switch (nodeTag(statement))
	{
		case T_LockStmt:
			check_lock((LockStmt *) statement);
			break;
		case T_CreateTrigStmt:
			check_name(((CreateTrigStmt *) statement)->relation);
			check_name(((CreateTrigStmt *) statement)->constrrel);
			break;
		case T_RuleStmt:
			check_name(((RuleStmt *) statement)->relation);
			break;
		case T_CreateStmt:
			check_create((CreateStmt *) statement);
			break;
		case T_CreateForeignTableStmt:
			check_create(&((CreateForeignTableStmt *) statement)->base);
			break;
		case T_AlterTableStmt:
			check_alter((AlterTableStmt *) statement);
			break;
		case T_AlterObjectDependsStmt:
			check_name(((AlterObjectDependsStmt *) statement)->relation);
			break;
		case T_DropStmt:
			check_drop((DropStmt *) statement);
			break;
		case T_TruncateStmt:
			check_truncate((TruncateStmt *) statement);
			break;
		default:
			check_maintenance(statement);
			break;
	}
}
