/*-------------------------------------------------------------------------
 *
 * internal_tables.c
 *	  Opening the tables of schema sqsbridge_internal.
 *
 * The schema belongs to the extension, and only superusers can change what is
 * in it.  But they do: a DBA adds an index or a trigger, rebuilds a table, or
 * restores one by hand.  Harmless additions are tolerated (table_writer.c fires
 * no trigger and maintains every index).  Where it would not be safe to go on,
 * the table is refused: columns that have other types or may be null, another
 * access method, inheritance, a missing, deferrable or invalid key, a disabled
 * guard trigger, expressions that call users' functions.  Only properties that
 * take ownership of the table to change are among these, so that no other role
 * can stop the bridge.
 *
 * A table is checked once, and again after anything about it has changed: a
 * relcache invalidation discards the result.  OIDs are cached the same way.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/internal_tables.h"
#include "base/settings.h"

#define GUARD_TRIGGER	"sqsbridge_guard"

PG_FUNCTION_INFO_V1(sqs_guard);

typedef struct TableSpec
{
	const char *name;
	int			natts;			/* 0: columns are read by name */
	const Oid  *types;
	uint32		nullable;		/* a bit for each column that may be null */
} TableSpec;

typedef struct IndexSpec
{
	SqsTable	table;
	const char *description;	/* the columns, for messages */
	bool		unique;
	int			nkeys;
	int			keys[3];		/* attribute numbers */
} IndexSpec;

static const Oid route_types[] = {
	INT4OID, TEXTOID, INT2OID, TEXTOID, OIDOID, OIDOID, TEXTOID, INTERVALOID, TIMESTAMPTZOID
};
static const Oid inbox_types[] = {INT4OID, TEXTOID, TIMESTAMPTZOID};
static const Oid mark_types[] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID};
static const Oid doubt_types[] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
static const Oid failure_types[] = {
	INT4OID, TIMESTAMPTZOID, TEXTOID, OIDOID, TEXTOID, TEXTOID, INT4OID, TEXTOID,
	TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, INT4OID, TEXTOID, TIMESTAMPTZOID, TEXTOID
};
static const Oid attempt_types[] = {
	INT4OID, TEXTOID, INT4OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, INT4OID,
	TIMESTAMPTZOID
};
static const Oid dead_letter_types[] = {
	INT4OID, INT8OID, TEXTOID, OIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
	TEXTOID, NUMERICOID, TEXTOID, JSONBOID, JSONBOID, JSONBOID, BYTEAOID, TEXTOID,
	TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID,
	TEXTOID, TEXTOID, TEXTOID, INT4OID, TIMESTAMPTZOID, OIDOID, TEXTOID, INT8OID
};
static const Oid parked_types[] = {INT4OID, TEXTOID, TIMESTAMPTZOID, INT8OID};
static const Oid row_types[] = {
	INT8OID, INT8OID, INT4OID, TEXTOID, UUIDOID, TIMESTAMPTZOID, OIDOID, TEXTOID,
	TIMESTAMPTZOID, INT4OID, TEXTOID, JSONBOID, TEXTOID, TEXTOID, JSONBOID
};
static const Oid batch_types[] = {INT8OID, XID8OID, INT4OID, TIMESTAMPTZOID, INT8OID};
static const Oid outbox_failure_types[] = {
	INT8OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, JSONBOID, TEXTOID,
	TEXTOID, JSONBOID, TIMESTAMPTZOID, OIDOID, TEXTOID, UUIDOID, INT4OID, OIDOID, TEXTOID
};
static const Oid error_rule_types[] = {INT4OID, TEXTOID, TEXTOID, INTERVALOID};

StaticAssertDecl(lengthof(route_types) == ROUTE_NATTS, "columns of routes");
StaticAssertDecl(lengthof(inbox_types) == INBOX_NATTS, "columns of inbox");
StaticAssertDecl(lengthof(mark_types) == MARK_NATTS, "columns of inbox_marks");
StaticAssertDecl(lengthof(doubt_types) == DOUBT_NATTS, "columns of inbox_doubts");
StaticAssertDecl(lengthof(failure_types) == FAILED_NATTS, "columns of failures");
StaticAssertDecl(lengthof(dead_letter_types) == DEAD_NATTS, "columns of dead_letters");
StaticAssertDecl(lengthof(attempt_types) == ATTEMPT_NATTS, "columns of attempts");
StaticAssertDecl(lengthof(parked_types) == PARKED_NATTS, "columns of parked_groups");
StaticAssertDecl(lengthof(row_types) == ROW_NATTS, "columns of outbox_rows");
StaticAssertDecl(lengthof(batch_types) == BATCH_NATTS, "columns of outbox_batches");
StaticAssertDecl(lengthof(outbox_failure_types) == FAILURE_NATTS, "columns of outbox_failures");
StaticAssertDecl(lengthof(error_rule_types) == RULE_NATTS, "columns of error_rules");

#define BIT(column)	((uint32) 1 << (column))

static const TableSpec table_specs[SQS_NUM_TABLES] = {
	[SQS_TABLE_QUEUES] = {"queues", 0, NULL, 0},
	[SQS_TABLE_ROUTES] = {"routes", ROUTE_NATTS, route_types, BIT(ROUTE_HANDLER_TIMEOUT)},
	[SQS_TABLE_INBOX] = {"inbox", INBOX_NATTS, inbox_types, 0},
	[SQS_TABLE_INBOX_MARKS] = {"inbox_marks", MARK_NATTS, mark_types, 0},
	[SQS_TABLE_INBOX_DOUBTS] = {"inbox_doubts", DOUBT_NATTS, doubt_types, 0},
	[SQS_TABLE_FAILURES] = {"failures", FAILED_NATTS, failure_types,
		BIT(FAILED_RECEIVE_COUNT) | BIT(FAILED_SQLSTATE) | BIT(FAILED_MESSAGE) | BIT(FAILED_DETAIL) |
		BIT(FAILED_HINT) | BIT(FAILED_CONTEXT) | BIT(FAILED_HANDLER_PID) | BIT(FAILED_ATTEMPT) |
	BIT(FAILED_ACTION) | BIT(FAILED_RETRY_AT) | BIT(FAILED_ROUTE)},
	[SQS_TABLE_ATTEMPTS] = {"attempts", ATTEMPT_NATTS, attempt_types, BIT(ATTEMPT_MARKED_AT)},
	[SQS_TABLE_DEAD_LETTERS] = {"dead_letters", DEAD_NATTS, dead_letter_types,
		BIT(DEAD_GROUP_ID) | BIT(DEAD_DEDUPLICATION_ID) | BIT(DEAD_SEQUENCE_NUMBER) | BIT(DEAD_BODY) |
		BIT(DEAD_ATTRIBUTES) | BIT(DEAD_SYSTEM_ATTRIBUTES) | BIT(DEAD_ENVELOPE) | BIT(DEAD_RAW) |
		BIT(DEAD_ROUTE) | BIT(DEAD_SENT_AT) | BIT(DEAD_FIRST_RECEIVED_AT) | BIT(DEAD_RECEIVE_COUNT) |
		BIT(DEAD_SQLSTATE) | BIT(DEAD_MESSAGE) | BIT(DEAD_DETAIL) | BIT(DEAD_HINT) | BIT(DEAD_CONTEXT) |
		BIT(DEAD_HANDLER_PID) | BIT(DEAD_RESOLVED_AT) | BIT(DEAD_RESOLVED_BY_OID) |
	BIT(DEAD_RESOLVED_BY) | BIT(DEAD_REDRIVEN_AS)},
	[SQS_TABLE_PARKED_GROUPS] = {"parked_groups", PARKED_NATTS, parked_types,
	BIT(PARKED_DEAD_LETTER)},
	[SQS_TABLE_OUTBOX_ROWS] = {"outbox_rows", ROW_NATTS, row_types,
		BIT(ROW_DELIVER_AT) | BIT(ROW_ATTRIBUTES) | BIT(ROW_GROUP_ID) | BIT(ROW_DEDUPLICATION_ID) |
	BIT(ROW_SYSTEM_ATTRIBUTES)},
	[SQS_TABLE_OUTBOX_BATCHES] = {"outbox_batches", BATCH_NATTS, batch_types, 0},
	[SQS_TABLE_OUTBOX_FAILURES] = {"outbox_failures", FAILURE_NATTS, outbox_failure_types,
		BIT(FAILURE_ATTRIBUTES) | BIT(FAILURE_GROUP_ID) | BIT(FAILURE_DEDUPLICATION_ID) |
	BIT(FAILURE_SYSTEM_ATTRIBUTES) | BIT(FAILURE_SERVER_OID) | BIT(FAILURE_SERVER)},
	[SQS_TABLE_ERROR_RULES] = {"error_rules", RULE_NATTS, error_rule_types, BIT(RULE_DELAY)},
};

static const IndexSpec index_specs[SQS_NUM_INDEXES] = {
	[SQS_INDEX_QUEUES_PKEY] = {SQS_TABLE_QUEUES, "queue_id", true, 1, {1}},
	[SQS_INDEX_QUEUES_NAME] = {SQS_TABLE_QUEUES, "name", true, 1, {2}},
	[SQS_INDEX_ROUTES_PKEY] = {SQS_TABLE_ROUTES, "queue_id, key", true, 2,
	{ROUTE_QUEUE_ID + 1, ROUTE_KEY + 1}},
	[SQS_INDEX_INBOX_PKEY] = {SQS_TABLE_INBOX, "queue_id, message_key", true, 2,
	{INBOX_QUEUE_ID + 1, INBOX_MESSAGE_KEY + 1}},
	[SQS_INDEX_INBOX_STAMP] = {SQS_TABLE_INBOX, "queue_id, stamp", false, 2,
	{INBOX_QUEUE_ID + 1, INBOX_STAMP + 1}},
	[SQS_INDEX_INBOX_MARKS_PKEY] = {SQS_TABLE_INBOX_MARKS, "queue_id, at", true, 2,
	{MARK_QUEUE_ID + 1, MARK_AT + 1}},
	[SQS_INDEX_INBOX_DOUBTS_PKEY] = {SQS_TABLE_INBOX_DOUBTS, "queue_id, from_stamp, to_stamp",
	true, 3, {DOUBT_QUEUE_ID + 1, DOUBT_FROM_STAMP + 1, DOUBT_TO_STAMP + 1}},
	[SQS_INDEX_FAILURES_TIME] = {SQS_TABLE_FAILURES, "queue_id, failed_at", false, 2,
	{FAILED_QUEUE_ID + 1, FAILED_AT + 1}},
	[SQS_INDEX_DEAD_LETTERS_PKEY] = {SQS_TABLE_DEAD_LETTERS, "id", true, 1, {DEAD_ID + 1}},
	[SQS_INDEX_DEAD_LETTERS_TIME] = {SQS_TABLE_DEAD_LETTERS, "queue_id, resolved_at, died_at", false, 3,
	{DEAD_QUEUE_ID + 1, DEAD_RESOLVED_AT + 1, DEAD_DIED_AT + 1}},
	[SQS_INDEX_ATTEMPTS_PKEY] = {SQS_TABLE_ATTEMPTS, "queue_id, message_id", true, 2,
	{ATTEMPT_QUEUE_ID + 1, ATTEMPT_MESSAGE_ID + 1}},
	[SQS_INDEX_ATTEMPTS_TIME] = {SQS_TABLE_ATTEMPTS, "queue_id, last_failed_at", false, 2,
	{ATTEMPT_QUEUE_ID + 1, ATTEMPT_LAST_FAILED_AT + 1}},
	[SQS_INDEX_PARKED_GROUPS_PKEY] = {SQS_TABLE_PARKED_GROUPS, "queue_id, group_id", true, 2,
	{PARKED_QUEUE_ID + 1, PARKED_GROUP_ID + 1}},
	[SQS_INDEX_OUTBOX_ROWS_PKEY] = {SQS_TABLE_OUTBOX_ROWS, "batch_id, id", true, 2,
	{ROW_BATCH_ID + 1, ROW_ID + 1}},
	[SQS_INDEX_OUTBOX_BATCHES_PKEY] = {SQS_TABLE_OUTBOX_BATCHES, "xid, batch_id, queue_id",
	true, 3, {BATCH_XID + 1, BATCH_ID + 1, BATCH_QUEUE_ID + 1}},
	[SQS_INDEX_OUTBOX_BATCHES_ORDER] = {SQS_TABLE_OUTBOX_BATCHES,
		"queue_id, deliver_at, position", false, 3,
	{BATCH_QUEUE_ID + 1, BATCH_DELIVER_AT + 1, BATCH_POSITION + 1}},
	[SQS_INDEX_OUTBOX_FAILURES_PKEY] = {SQS_TABLE_OUTBOX_FAILURES, "id", true, 1,
	{FAILURE_ID + 1}},
	[SQS_INDEX_ERROR_RULES_PKEY] = {SQS_TABLE_ERROR_RULES, "queue_id, sqlstate", true, 2,
	{RULE_QUEUE_ID + 1, RULE_SQLSTATE + 1}},
};

/* Caches; InvalidOid: not known, or invalidated. */
static Oid	table_oids[SQS_NUM_TABLES];
static bool table_is_sound[SQS_NUM_TABLES];
static Oid	index_oids[SQS_NUM_INDEXES];

/*
 * Counts invalidations.  If one arrives during a check, the check may have
 * seen the old state, and its result must not be cached.
 */
static uint64 forgotten = 0;

/* Relcache callback.  relid InvalidOid: everything is invalidated. */
static void
forget(Datum arg, Oid relid)
{
	forgotten++;
	for (int t = 0; t < SQS_NUM_TABLES; t++)
	{
		if (relid != InvalidOid && relid != table_oids[t])
			continue;
		table_oids[t] = InvalidOid;
		table_is_sound[t] = false;
		for (int i = 0; i < SQS_NUM_INDEXES; i++)
		{
			if (index_specs[i].table == t)
				index_oids[i] = InvalidOid;
		}
	}
	for (int i = 0; i < SQS_NUM_INDEXES; i++)
	{
		if (relid == index_oids[i])
			index_oids[i] = InvalidOid;
	}

}

/* From now on, be told of invalidations. */
static void
watch_relations(void)
{
	static bool registered = false;

	if (!registered)
		CacheRegisterRelcacheCallback(forget, (Datum) 0);
	registered = true;
}

uint64
sqs_relation_changes(void)
{
	watch_relations();
	return forgotten;
}

/*
 * Find a table of our schema.  That the schema has the right name proves
 * nothing: where the extension is not installed, any role that may create
 * schemas can create one of that name.  So both must belong to the extension.
 */
static Oid
find_relation(const char *name)
{
	Oid			extension = sqs_extension_oid();
	Oid			schema;
	Oid			relid;

	watch_relations();
	if (!OidIsValid(extension))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"sqsbridge\" is not installed in this database"),
				 errhint("Run CREATE EXTENSION sqsbridge.")));
	schema = get_namespace_oid(SQS_INTERNAL_SCHEMA, true);
	relid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
	if (!OidIsValid(relid) ||
		getExtensionOfObject(NamespaceRelationId, schema) != extension ||
		getExtensionOfObject(RelationRelationId, relid) != extension)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s.%s\" of extension sqsbridge does not exist",
						SQS_INTERNAL_SCHEMA, name),
				 errhint("If the library is newer than the extension, run ALTER EXTENSION sqsbridge UPDATE.")));
	return relid;
}

/* The name of a table, without its schema. */
const char *
sqs_table_name(SqsTable table)
{
	return table_specs[table].name;
}

/* The OID of a table, from a cache.  Raises an ERROR if it does not exist. */
Oid
sqs_table_oid(SqsTable table)
{
	if (!OidIsValid(table_oids[table]))
		table_oids[table] = find_relation(table_specs[table].name);
	return table_oids[table];
}

/* ---- is the table what we expect? ---- */

static void refuse(Relation rel, const char *hint, const char *why, ...) pg_attribute_printf(3, 4);

static void
refuse(Relation rel, const char *hint, const char *why, ...)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, why);
		needed = appendStringInfoVA(&buf, why, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&buf, needed);
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("sqsbridge cannot use table \"%s.%s\": %s",
					SQS_INTERNAL_SCHEMA, RelationGetRelationName(rel), buf.data),
			 errhint("%s", hint)));
}

static bool
is_function_of_users(Oid funcid, void *context)
{
	return funcid >= FirstNormalObjectId;
}

/* Expression walker.  A domain counts, too: its constraints may call anything. */
static bool
calls_function_of_users(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_function_of_users, context))
		return true;
	if (IsA(node, CoerceToDomain) &&
		((CoerceToDomain *) node)->resulttype >= FirstNormalObjectId)
		return true;
	return expression_tree_walker(node, calls_function_of_users, context);
}

static bool
column_calls_function_of_users(Relation index, AttrNumber column)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(INDEXRELID, index->rd_indextuple, column, &isnull);

	return !isnull && calls_function_of_users(stringToNode(TextDatumGetCString(value)), NULL);
}

/*
 * Expressions of indexes are evaluated by every process that writes the table,
 * workers included.  A function in them may belong to a role that is not a
 * superuser, and that role can replace it at any time.
 */
static void
check_indexes(Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		/* as stored: the relation cache has functions in SQL inlined */
		if (column_calls_function_of_users(index, Anum_pg_index_indexprs) ||
			column_calls_function_of_users(index, Anum_pg_index_indpred))
			refuse(rel, "Drop the index, or use built-in functions only.",
				   "index \"%s\" calls a function that is not built in",
				   RelationGetRelationName(index));

		/* a deferred check would be a trigger's job, and triggers do not run */
		if ((index->rd_index->indisunique || index->rd_index->indisexclusion) &&
			!index->rd_index->indimmediate)
			refuse(rel, "Drop the constraint, or make it not deferrable.",
				   "constraint \"%s\" is deferrable", RelationGetRelationName(index));

		/*
		 * The lock is not kept.  A caller that releases the table before its
		 * transaction ends would still hold the index, and lock the table
		 * after it the next time: the wrong order, which can deadlock.
		 */
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
}

static void
check_constraints(Relation rel)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;

	if (constr == NULL)
		return;
	if (constr->has_generated_stored)
		refuse(rel, "Drop the column.", "it has a generated column");
	for (int i = 0; i < constr->num_check; i++)
	{
		if (calls_function_of_users(stringToNode(constr->check[i].ccbin), NULL))
			refuse(rel, "Drop the constraint, or use built-in functions only.",
				   "constraint \"%s\" calls a function that is not built in",
				   constr->check[i].ccname);
	}
}

/*
 * A copy of the table's triggers (or NULL), in the current memory context.  A
 * catalog lookup may rebuild the relation's relcache entry, which frees the
 * original even while the relation is open.
 */
static TriggerDesc *
copy_triggers(Relation rel)
{
	return CopyTriggerDesc(rel->trigdesc);
}

/*
 * Without the guard, any role with privileges on the table could forge rows.
 * Restoring with --disable-triggers leaves it enabled for ordinary sessions
 * only, which is sufficient: it takes a superuser to change
 * session_replication_role.
 */
static void
check_guard(Relation rel)
{
	TriggerDesc *triggers = copy_triggers(rel);

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (strncmp(trigger->tgname, GUARD_TRIGGER, strlen(GUARD_TRIGGER)) == 0 &&
			(trigger->tgtype & TRIGGER_TYPE_ROW) != 0 &&
			getExtensionOfObject(ProcedureRelationId, trigger->tgfoid) == sqs_extension_oid())
		{
			if (trigger->tgenabled == TRIGGER_FIRES_ALWAYS ||
				trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN)
			{
				FreeTriggerDesc(triggers);
				return;
			}
			refuse(rel, psprintf("Run: ALTER TABLE %s.%s ENABLE ALWAYS TRIGGER %s;",
								 SQS_INTERNAL_SCHEMA, RelationGetRelationName(rel),
								 quote_identifier(trigger->tgname)),
				   "its trigger \"%s\" is disabled", trigger->tgname);
		}
	}
	refuse(rel, "Drop the extension and create it again.",
		   "its trigger \"%s\" is missing", GUARD_TRIGGER);
}

static void
check_columns(Relation rel, const TableSpec *spec)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < Max(desc->natts, spec->natts); i++)
	{
		if (i >= desc->natts || i >= spec->natts ||
			TupleDescAttr(desc, i)->attisdropped ||
			TupleDescAttr(desc, i)->atttypid != spec->types[i])
			refuse(rel, "If the library is newer than the extension, run ALTER EXTENSION sqsbridge UPDATE.",
				   "it does not have the columns that this version of sqsbridge expects");

		/* the code reads such a column without a check for null */
		if (!TupleDescAttr(desc, i)->attnotnull && (spec->nullable & BIT(i)) == 0)
			refuse(rel, psprintf("Run: ALTER TABLE %s.%s ALTER COLUMN %s SET NOT NULL;",
								 SQS_INTERNAL_SCHEMA, spec->name,
								 NameStr(TupleDescAttr(desc, i)->attname)),
				   "its column \"%s\" may be null", NameStr(TupleDescAttr(desc, i)->attname));
	}
}

/* Raise an ERROR that says how to mend it if the table is not fit for use. */
static void
check_table(SqsTable table, Relation rel)
{
	const TableSpec *spec = &table_specs[table];

	/* relhassubclass may still be set when the last child is gone */
	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relispartition ||
		has_superclass(RelationGetRelid(rel)) ||
		(rel->rd_rel->relhassubclass &&
		 find_inheritance_children(RelationGetRelid(rel), NoLock) != NIL))
		refuse(rel, "Detach it from its parents and children.",
			   "it is not an ordinary table without parents and children");
	if (!superuser_arg(rel->rd_rel->relowner))
		refuse(rel, "Give it back to a superuser.",
			   "its owner, role \"%s\", is not a superuser",
			   GetUserNameFromId(rel->rd_rel->relowner, false));
	if (rel->rd_rel->relam != HEAP_TABLE_AM_OID)
		refuse(rel, psprintf("Run: ALTER TABLE %s.%s SET ACCESS METHOD heap;",
							 SQS_INTERNAL_SCHEMA, spec->name),
			   "its access method is not heap");
	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		refuse(rel, psprintf("Run: ALTER TABLE %s.%s SET LOGGED;",
							 SQS_INTERNAL_SCHEMA, spec->name),
			   "it is not crash-safe");
	if (spec->natts > 0)
		check_columns(rel, spec);
	check_constraints(rel);
	check_guard(rel);
	check_indexes(rel);
}

/*
 * Is this the index that the spec describes?  It may include more columns,
 * but must begin with these, all of them plain and ascending.
 */
static bool
index_matches(Relation index, const IndexSpec *spec)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisvalid || !form->indisready || !form->indislive ||
		index->rd_rel->relam != BTREE_AM_OID ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL) ||
		form->indnkeyatts < spec->nkeys)
		return false;
	if (spec->unique &&
		(!form->indisunique || !form->indimmediate || form->indnkeyatts != spec->nkeys))
		return false;
	for (int i = 0; i < spec->nkeys; i++)
	{
		Oid			opclass = GetDefaultOpClass(index->rd_opcintype[i], BTREE_AM_OID);

		if (form->indkey.values[i] != spec->keys[i] || index->rd_indoption[i] != 0 ||
			(OidIsValid(index->rd_indcollation[i]) &&
			 index->rd_indcollation[i] != C_COLLATION_OID) ||
			!OidIsValid(opclass) || get_opclass_family(opclass) != index->rd_opfamily[i])
			return false;
	}
	return true;
}

/*
 * The first index that serves, whatever its name.  No lock is kept: a view that
 * is read in a transaction that lasts must keep nobody from maintenance.  The
 * caller has the table open, so that the index cannot be dropped.
 */
Oid
sqs_index_oid(SqsIndex which)
{
	const IndexSpec *spec = &index_specs[which];
	Relation	rel;
	List	   *indexes;
	ListCell   *lc;
	Oid			found = InvalidOid;
	uint64		before;

	if (OidIsValid(index_oids[which]))
		return index_oids[which];

	before = forgotten;
	rel = sqs_table_open(spec->table, AccessShareLock);
	indexes = RelationGetIndexList(rel);
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (!OidIsValid(found) && index_matches(index, spec))
			found = RelationGetRelid(index);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	if (!OidIsValid(found))
		refuse(rel, psprintf("Create it: CREATE %sINDEX ON %s.%s (%s);",
							 spec->unique ? "UNIQUE " : "", SQS_INTERNAL_SCHEMA,
							 RelationGetRelationName(rel), spec->description),
			   "it has no %sindex on (%s)",
			   spec->unique ? "unique, not deferrable " : "", spec->description);
	table_close(rel, AccessShareLock);
	if (forgotten == before)
		index_oids[which] = found;
	return found;
}

static Relation
checked(SqsTable table, Relation rel)
{
	if (!table_is_sound[table])
	{
		uint64		before = forgotten;

		check_table(table, rel);
		table_is_sound[table] = forgotten == before;
	}
	return rel;
}

/*
 * Open a table that is fit for use.  Raises an ERROR if it is not, or if the
 * extension is not installed; see check_table() for what is checked.
 */
Relation
sqs_table_open(SqsTable table, LOCKMODE mode)
{
	return checked(table, table_open(sqs_table_oid(table), mode));
}

/* The same, but returns NULL if the lock is not available at once. */
Relation
sqs_table_open_nowait(SqsTable table, LOCKMODE mode)
{
	if (!ConditionalLockRelationOid(sqs_table_oid(table), mode))
		return NULL;
	return checked(table, table_open(sqs_table_oid(table), NoLock));
}

/* ---- what users have added ---- */

PG_FUNCTION_INFO_V1(sqs_get_remark);

/* Append 'kind "name" on table ...' to a comma-separated list. */
static void
append_object(StringInfo buf, const char *kind, const char *name, const char *table)
{
	appendStringInfo(buf, "%s%s", buf->len > 0 ? ", " : "", kind);
	if (name != NULL)
		appendStringInfo(buf, " \"%s\"", name);
	appendStringInfo(buf, " on table %s.%s", SQS_INTERNAL_SCHEMA, table);
}

static void
append_policies(StringInfo buf, Relation rel)
{
	Relation	policies = table_open(PolicyRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_policy_polrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationGetRelid(rel)));
	scan = systable_beginscan(policies, PolicyPolrelidPolnameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		append_object(buf, "policy", NameStr(((Form_pg_policy) GETSTRUCT(tuple))->polname),
					  RelationGetRelationName(rel));
	systable_endscan(scan);
	table_close(policies, AccessShareLock);
}

/* Tables that are locked are left out, rather than waited for. */
char *
sqs_tables_foreign_objects(void)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int t = 0; t < SQS_NUM_TABLES; t++)
	{
		Relation	rel;
		TriggerDesc *triggers;

		/* not sqs_table_open(): the table need not be fit for use */
		if (!ConditionalLockRelationOid(sqs_table_oid(t), AccessShareLock))
			continue;
		rel = table_open(sqs_table_oid(t), NoLock);
		triggers = copy_triggers(rel);
		for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		{
			Trigger    *trigger = &triggers->triggers[i];

			if (getExtensionOfObject(ProcedureRelationId, trigger->tgfoid) != sqs_extension_oid())
				append_object(&buf, "trigger", trigger->tgname, RelationGetRelationName(rel));
		}
		FreeTriggerDesc(triggers);
		append_policies(&buf, rel);
		if (rel->rd_rules != NULL)
			append_object(&buf, "rules", NULL, RelationGetRelationName(rel));
		table_close(rel, AccessShareLock);
	}
	return buf.len > 0 ? psprintf("without effect: %s", buf.data) : NULL;
}

/* The same for sqs_stats_workers. */
Datum
sqs_get_remark(PG_FUNCTION_ARGS)
{
	char	   *remark;

	sqs_require_preloaded();
	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS) ||
		(remark = sqs_tables_foreign_objects()) == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(remark));
}

/* ---- the guard ---- */

/*
 * The trigger of every internal table, for rows and for TRUNCATE.  Superusers
 * may write the tables, as a restore does; other roles may not, whatever they
 * have been granted.  Our own writes fire no triggers (see table_writer.c).
 */
Datum
sqs_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function sqsbridge_internal.guard() can be called only as a trigger of the tables of extension sqsbridge")));
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("table \"%s\" can be changed only by extension sqsbridge",
						RelationGetRelationName(trigger->tg_relation)),
				 errhint("Use the functions of the extension, such as sqs_alter_queue() and sqs_outbox_discard().")));
	if (TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event))
		return PointerGetDatum(NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
						   trigger->tg_newtuple : trigger->tg_trigtuple);
}
