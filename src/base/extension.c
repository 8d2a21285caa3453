/*-------------------------------------------------------------------------
 *
 * extension.c
 *	  The extension as it is installed in this database.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/extension.h"

/* Schema and owner of the extension; InvalidOid if it is not installed. */
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

/*
 * The OID of the extension; InvalidOid if it is not installed in this
 * database.
 */
Oid
sqs_extension_oid(void)
{
	return get_extension_oid("sqsbridge", true);
}

/* Likewise, the OID of its schema. */
Oid
sqs_extension_schema(void)
{
	Oid			schema;
	Oid			owner;

	find_extension(&schema, &owner);
	return schema;
}

/* Likewise, the OID of its owner. */
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

/*
 * The OID of a view of the extension.  Raises an ERROR if it does not exist.
 */
Oid
sqs_view_oid(const char *relname)
{
	Oid			schema = sqs_extension_schema();
	Oid			relid = OidIsValid(schema) ? get_relname_relid(relname, schema) : InvalidOid;

	if (!OidIsValid(relid))
		missing_object("view", relname);
	return relid;
}

/* The OID of a type of the extension.  Raises an ERROR if it does not exist. */
static Oid
type_oid(const char *name)
{
	Oid			schema = sqs_extension_schema();
	Oid			type = InvalidOid;

	if (OidIsValid(schema))
		type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
							   CStringGetDatum(name), ObjectIdGetDatum(schema));
	if (!OidIsValid(type))
		missing_object("type", name);
	return type;
}

/* The type of a handler's argument, or of its elements. */
Oid
sqs_message_type_oid(void)
{
	return type_oid("sqs_message");
}

/* The type of what a batch handler may return. */
Oid
sqs_verdict_type_oid(void)
{
	return type_oid("sqs_verdict");
}

/*
 * Where a row that is written now belongs: "cluster/database/extension",
 * palloc'd.  If the value in a row differs, the row was copied: a dump was
 * restored, a database copied, or a cluster upgraded.
 */
char *
sqs_home(void)
{
	return psprintf(UINT64_FORMAT "/%u/%u", GetSystemIdentifier(), MyDatabaseId,
					sqs_extension_oid());
}
