/*-------------------------------------------------------------------------
 *
 * fdw.c
 *	  Options of servers and user mappings: where SQS is, and the keys to it.
 *
 * The foreign-data wrapper has a validator but no handler: it is a place for
 * settings that PostgreSQL guards by its own rules.  pg_user_mappings shows the
 * options of a mapping only to roles that may see them, USAGE on a server is
 * the right to use it, and both are granted and dumped as usual.
 *
 * The validator is strict, because a misspelled option that has no effect is
 * hard to find.  Two rules hold for everything here:
 *
 *	- No message contains the value of a user mapping's option, not even that
 *	  of the key id, because users do swap the two keys.  For the same reason
 *	  the statement is not logged with the error: it contains the keys.
 *
 *	- Checks that matter for security are repeated when an option is used,
 *	  because options can be older than the code that checks them.
 *
 * Only a superuser can permit a server to use the keys of the database server's
 * own environment, by the server's option credentials.  Other roles can neither
 * set that option nor change any other option while it is set, because the
 * endpoint determines where session tokens are sent.  They can drop it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "aws/credentials.h"
#include "aws/endpoint.h"
#include "base/compat.h"
#include "base/extension.h"
#include "base/settings.h"
#include "config/fdw.h"

typedef struct FdwOption
{
	const char *name;
	Oid			catalog;		/* where it is legal */
} FdwOption;

static const FdwOption fdw_options[] = {
	{"region", ForeignServerRelationId},
	{"endpoint", ForeignServerRelationId},
	{"allow_http", ForeignServerRelationId},
	{"credentials", ForeignServerRelationId},
	{"access_key_id", UserMappingRelationId},
	{"secret_access_key", UserMappingRelationId},
	{"session_token", UserMappingRelationId},
};

PG_FUNCTION_INFO_V1(sqsbridge_fdw_validator);

/* Keep the statement out of the log where it may hold keys. */
#define hide_keys(catalog)	errhidestmt((catalog) == UserMappingRelationId)

/* What an option of this catalog belongs to, for messages. */
static const char *
catalog_noun(Oid catalog)
{
	switch (catalog)
	{
		case ForeignServerRelationId:
			return "a server";
		case UserMappingRelationId:
			return "a user mapping";
		case ForeignDataWrapperRelationId:
			return "a foreign-data wrapper";
		default:
			return "a foreign table";
	}
}

static char *
legal_options(Oid catalog)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (size_t i = 0; i < lengthof(fdw_options); i++)
	{
		if (fdw_options[i].catalog == catalog)
			appendStringInfo(&buf, "%s%s", buf.len > 0 ? ", " : "", fdw_options[i].name);
	}
	return buf.data;
}

static const FdwOption *
find_option(const char *name)
{
	for (size_t i = 0; i < lengthof(fdw_options); i++)
	{
		if (strcmp(fdw_options[i].name, name) == 0)
			return &fdw_options[i];
	}
	return NULL;
}

/* An option that is unknown, or known elsewhere. */
static void
refuse_option(const char *name, Oid catalog)
{
	const FdwOption *option = find_option(name);
	char	   *legal = legal_options(catalog);

	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("invalid option \"%s\" for %s of sqsbridge", name, catalog_noun(catalog)),
			 option != NULL ?
			 errdetail("It is an option of %s.", catalog_noun(option->catalog)) : 0,
			 legal[0] != '\0' ?
			 errhint("Valid options of %s are: %s.", catalog_noun(catalog), legal) :
			 errhint("There are no options of %s.", catalog_noun(catalog)),
			 errhidestmt(true)));
}

/*
 * A value that is not as it must be; "why" completes "must ...".  The value
 * is quoted where it cannot be a secret.
 */
static void
refuse_value(const char *name, const char *value, const char *why)
{
	bool		secret = find_option(name)->catalog == UserMappingRelationId;

	/* a URL may hold a password, which is one reason to refuse it */
	if (secret || strchr(value, '@') != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\"", name),
				 errdetail("Option \"%s\" %s.", name, why),
				 errhidestmt(true)));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\": \"%s\"", name, value),
			 errdetail("Option \"%s\" %s.", name, why)));
}

/* Keys go into HTTP headers: printable ASCII, no blanks. */
static void
check_key(const char *name, const char *value)
{
	size_t		max = strcmp(name, "session_token") == 0 ? AWS_SESSION_TOKEN_MAX :
		strcmp(name, "access_key_id") == 0 ? AWS_ACCESS_KEY_ID_MAX : AWS_SECRET_KEY_MAX;
	const char *why;

	if (!aws_key_is_valid(value, max, &why))
		refuse_value(name, value, why);
}

/*
 * Called by CREATE and ALTER with all the options that the object will have,
 * and the OID of the catalog that it belongs to.
 */
Datum
sqsbridge_fdw_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	const char *endpoint = NULL;
	bool		allow_http = false;
	bool		ambient = false;
	bool		has_id = false;
	bool		has_secret = false;
	bool		has_token = false;
	const char *why;
	ListCell   *lc;

	/* pg_upgrade creates servers, and need not preload the library */
	if (!IsBinaryUpgrade)
		sqs_require_preloaded();

	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);
		const FdwOption *option = find_option(def->defname);
		const char *value;

		if (option == NULL || option->catalog != catalog)
			refuse_option(def->defname, catalog);

		value = defGetString(def);
		if (value[0] == '\0')
			refuse_value(def->defname, value, "must not be empty");

		if (strcmp(def->defname, "region") == 0)
		{
			if (!aws_region_is_valid(value, &why))
				refuse_value(def->defname, value, why);
		}
		else if (strcmp(def->defname, "endpoint") == 0)
			endpoint = value;
		else if (strcmp(def->defname, "allow_http") == 0)
		{
			if (!parse_bool(value, &allow_http))
				refuse_value(def->defname, value, "must be true or false");
		}
		else if (strcmp(def->defname, "credentials") == 0)
		{
			ambient = strcmp(value, "environment") == 0;
			if (!ambient && strcmp(value, "mapping") != 0)
				refuse_value(def->defname, value, "must be mapping or environment");
		}
		else
		{
			check_key(def->defname, value);
			has_id |= strcmp(def->defname, "access_key_id") == 0;
			has_secret |= strcmp(def->defname, "secret_access_key") == 0;
			has_token |= strcmp(def->defname, "session_token") == 0;
		}
	}

	/* depends on allow_http, which may come later in the list */
	if (endpoint != NULL && !aws_endpoint_is_valid(endpoint, allow_http, &why))
		refuse_value("endpoint", endpoint, why);

	/* these are all the options that the server will have */
	if (ambient && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set the options of a server with credentials 'environment'"),
				 errdetail("Such a server is used with the keys of the database server's environment, so only superusers may set or change its options."),
				 errhint("Ask a superuser, or drop that option: ALTER SERVER ... OPTIONS (DROP credentials, ...).")));

	if (has_id != has_secret || (has_token && !has_id))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("option \"%s\" is missing",
						has_id ? "secret_access_key" : "access_key_id"),
				 errdetail("Option \"%s\" requires it.",
						   has_id ? "access_key_id" :
						   has_secret ? "secret_access_key" : "session_token"),
				 errhint("Give both keys, or none."),
				 hide_keys(catalog)));

	PG_RETURN_VOID();
}

/* Cached OID of our wrapper; InvalidOid: not known, or invalidated. */
static Oid	our_fdw = InvalidOid;

static void
forget_fdw(Datum arg, int cacheid, uint32 hashvalue)
{
	our_fdw = InvalidOid;
}

/*
 * The answer is cached here, because the question is asked for each queue
 * whenever the queues are read, and pg_depend has no system cache.
 */
bool
sqs_fdw_is_ours(Oid fdwid)
{
	static bool registered = false;
	Oid			extension;

	if (OidIsValid(our_fdw) && fdwid == our_fdw)
		return true;
	if (!registered)
		CacheRegisterSyscacheCallback(FOREIGNDATAWRAPPEROID, forget_fdw, (Datum) 0);
	registered = true;

	extension = sqs_extension_oid();
	if (!OidIsValid(extension) ||
		getExtensionOfObject(ForeignDataWrapperRelationId, fdwid) != extension)
		return false;
	our_fdw = fdwid;
	return true;
}

/* Read an OID column of the catalog row of an object; InvalidOid: no such row. */
static Oid
read_reference(Oid catalog, Oid index, AttrNumber key, Oid object, AttrNumber reference)
{
	Relation	rel = table_open(catalog, AccessShareLock);
	SysScanDesc scan;
	ScanKeyData scankey;
	HeapTuple	tuple;
	Oid			result = InvalidOid;

	/* SnapshotSelf, to see a row that the running command has made */
	ScanKeyInit(&scankey, key, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object));
	scan = systable_beginscan(rel, index, true, SnapshotSelf, 1, &scankey);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;

		result = DatumGetObjectId(sqs_getattr(tuple, reference, RelationGetDescr(rel), &isnull));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

/*
 * Does this server or user mapping belong to that wrapper?  For use in
 * hooks: sees an object that the running command has created.
 */
bool
sqs_fdw_object_is_ours(Oid catalog, Oid object)
{
	Oid			server = object;

	if (catalog == UserMappingRelationId)
		server = read_reference(catalog, UserMappingOidIndexId, Anum_pg_user_mapping_oid,
								object, Anum_pg_user_mapping_umserver);
	return sqs_fdw_is_ours(read_reference(ForeignServerRelationId, ForeignServerOidIndexId,
										  Anum_pg_foreign_server_oid, server,
										  Anum_pg_foreign_server_srvfdw));
}

/*
 * Read the options of a server.  Raises no error; invalid values are treated
 * as not given.
 */
void
sqs_server_options(ForeignServer *server, SqsServerOptions *options)
{
	ListCell   *lc;

	memset(options, 0, sizeof(*options));
	foreach(lc, server->options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (strcmp(def->defname, "region") == 0)
			options->region = pstrdup(defGetString(def));
		else if (strcmp(def->defname, "endpoint") == 0)
			options->endpoint = pstrdup(defGetString(def));
		else if (strcmp(def->defname, "allow_http") == 0 &&
				 !parse_bool(defGetString(def), &options->allow_http))
			options->allow_http = false;
		else if (strcmp(def->defname, "credentials") == 0)
			options->ambient = strcmp(defGetString(def), "environment") == 0;
	}
}

/* Is the region given, or does the endpoint's host name contain it? */
bool
sqs_server_has_region(const SqsServerOptions *options)
{
	AwsUrl		url;
	char		region[64];
	const char *why;

	if (options->region != NULL)
		return true;
	return options->endpoint != NULL &&
		aws_url_parse(options->endpoint, &url, &why) &&
		aws_region_of_host(url.host, region, sizeof(region));
}

/*
 * untransformRelOptions() is not used, because it would leave copies of the keys
 * behind in memory.  (The copies in the system caches cannot be wiped.)
 */
void
sqs_mapping_keys(Datum umoptions, SqsKeys *keys)
{
	ArrayType  *array = DatumGetArrayTypeP(umoptions);
	ArrayIterator iterator = array_create_iterator(array, 0, NULL);
	Datum		element;
	bool		isnull;

	memset(keys, 0, sizeof(*keys));
	while (array_iterate(iterator, &element, &isnull))
	{
		const struct
		{
			const char *name;
			char	  **value;
		}			wanted[] = {
			{"access_key_id=", &keys->access_key_id},
			{"secret_access_key=", &keys->secret_access_key},
			{"session_token=", &keys->session_token},
		};
		text	   *option;

		if (isnull)
			continue;
		option = (text *) DatumGetPointer(element);
		for (size_t i = 0; i < lengthof(wanted); i++)
		{
			size_t		len = strlen(wanted[i].name);

			if (VARSIZE_ANY_EXHDR(option) > len && *wanted[i].value == NULL &&
				memcmp(VARDATA_ANY(option), wanted[i].name, len) == 0)
				*wanted[i].value = pnstrdup(VARDATA_ANY(option) + len,
											VARSIZE_ANY_EXHDR(option) - len);
		}
	}
	array_free_iterator(iterator);

	if ((Pointer) array != DatumGetPointer(umoptions))
	{
		explicit_bzero(array, VARSIZE(array));
		pfree(array);
	}
}
