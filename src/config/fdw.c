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
 * Only a superuser can permit a server to use keys that are the database
 * server's own ("ambient": of its environment, its files, its container, its
 * machine), by the server's option credentials.  Other roles can neither set
 * that option nor change any other option while it is set, because the endpoint
 * determines where session tokens are sent, and that of STS, where the token of
 * a web identity is.  They can drop it.
 *
 * User mappings have no say where such a server is concerned: a role that has
 * USAGE can create, change and drop its own, and so could leave any role of AWS
 * that a mapping would confine it to, or choose another.  So a mapping can name
 * a role to be assumed only if it has the keys to do that with, even if a
 * superuser makes it.
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
#include "aws/identity.h"
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
	{"use_fips_endpoint", ForeignServerRelationId},
	{"use_dualstack_endpoint", ForeignServerRelationId},
	{"credentials", ForeignServerRelationId},
	{"profile", ForeignServerRelationId},
	{"web_identity_token_file", ForeignServerRelationId},
	{"role_arn", ForeignServerRelationId},
	{"external_id", ForeignServerRelationId},
	{"role_session_name", ForeignServerRelationId},
	{"duration_seconds", ForeignServerRelationId},
	{"sts_endpoint", ForeignServerRelationId},
	{"access_key_id", UserMappingRelationId},
	{"secret_access_key", UserMappingRelationId},
	{"session_token", UserMappingRelationId},
	{"role_arn", UserMappingRelationId},
	{"external_id", UserMappingRelationId},
	{"role_session_name", UserMappingRelationId},
	{"duration_seconds", UserMappingRelationId},
};

/* What the option credentials can be, besides mapping; see aws/identity.h. */
static const char *const sources[] = {
	"auto", "environment", "web_identity", "profile", "container", "instance_metadata"
};

/* The options of one object, while they are validated. */
typedef struct Given
{
	Oid			catalog;
	const char *endpoint;
	const char *sts_endpoint;
	const char *credentials;
	bool		allow_http;
	bool		has_id;
	bool		has_secret;
	bool		has_token;
	const char *role_arn;
	const char *external_id;
	const char *role_session_name;
	const char *duration_seconds;
	const char *profile;
	const char *token_file;
} Given;

PG_FUNCTION_INFO_V1(sqsbridge_fdw_validator);

/*
 * Keep the statement out of the log where it may hold keys; the context, too,
 * since it quotes statements that a function executes.
 */
#define hide_statement(hide)	(errhidestmt(hide), errhidecontext(hide))
#define hide_keys(catalog)	hide_statement((catalog) == UserMappingRelationId)

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

/* catalog: InvalidOid for any. */
static const FdwOption *
find_option(const char *name, Oid catalog)
{
	for (size_t i = 0; i < lengthof(fdw_options); i++)
	{
		if (strcmp(fdw_options[i].name, name) == 0 &&
			(!OidIsValid(catalog) || fdw_options[i].catalog == catalog))
			return &fdw_options[i];
	}
	return NULL;
}

/* An option that is unknown, or known elsewhere. */
static void
refuse_option(const char *name, Oid catalog)
{
	const FdwOption *option = find_option(name, InvalidOid);
	char	   *legal = legal_options(catalog);

	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("invalid option \"%s\" for %s of sqsbridge", name, catalog_noun(catalog)),
			 option != NULL ?
			 errdetail("It is an option of %s.", catalog_noun(option->catalog)) : 0,
			 legal[0] != '\0' ?
			 errhint("Valid options of %s are: %s.", catalog_noun(catalog), legal) :
			 errhint("There are no options of %s.", catalog_noun(catalog)),
			 hide_statement(true)));
}

/*
 * A value that is not as it must be; "why" completes "must ...".  The value
 * is quoted where it cannot be a secret.
 */
pg_noreturn static void
refuse_value(Oid catalog, const char *name, const char *value, const char *why)
{
	/* a URL may hold a password, which is one reason to refuse it */
	if (catalog == UserMappingRelationId || strchr(value, '@') != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\"", name),
				 errdetail("Option \"%s\" %s.", name, why),
				 hide_statement(true)));
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
		refuse_value(UserMappingRelationId, name, value, why);
}

/* The value of the option credentials for AwsIdentityOptions; NULL: none such. */
static const char *
find_source(const char *value)
{
	for (size_t i = 0; i < lengthof(sources); i++)
	{
		if (strcmp(value, sources[i]) == 0)
			return sources[i];
	}
	return NULL;
}

/* Does a text have so many characters, all of them letters, digits or these? */
static bool
is_made_of(const char *value, size_t min, size_t max, const char *others)
{
	size_t		len = strlen(value);

	if (len < min || len > max)
		return false;
	for (const char *p = value; *p != '\0'; p++)
	{
		if (!(*p >= 'a' && *p <= 'z') && !(*p >= 'A' && *p <= 'Z') &&
			!(*p >= '0' && *p <= '9') && strchr(others, *p) == NULL)
			return false;
	}
	return true;
}

/* STS's rules (API reference, AssumeRole). */
static bool
role_arn_is_valid(const char *value)
{
	return strncmp(value, "arn:", 4) == 0 && strstr(value, ":role/") != NULL &&
		is_made_of(value, 20, 2048, "_+=,.@-:/");
}

static bool
external_id_is_valid(const char *value)
{
	return is_made_of(value, 2, 1224, "_+=,.@:/-");
}

static bool
session_name_is_valid(const char *value)
{
	return is_made_of(value, 2, 64, "_+=,.@-");
}

static bool
duration_is_valid(const char *value, int *seconds)
{
	size_t		len = strlen(value);

	if (len < 1 || len > 5 || strspn(value, "0123456789") != len)
		return false;
	*seconds = atoi(value);
	return *seconds >= AWS_DURATION_MIN && *seconds <= AWS_DURATION_MAX;
}

/* Check the value of an option by itself, and note it. */
static void
check_option(Given *given, const char *name, const char *value)
{
	const char *why;
	bool		boolean;
	int			seconds;

	if (value[0] == '\0')
		refuse_value(given->catalog, name, value, "must not be empty");

	if (strcmp(name, "region") == 0)
	{
		if (!aws_region_is_valid(value, &why))
			refuse_value(given->catalog, name, value, why);
	}
	else if (strcmp(name, "endpoint") == 0)
		given->endpoint = value;
	else if (strcmp(name, "sts_endpoint") == 0)
		given->sts_endpoint = value;
	else if (strcmp(name, "allow_http") == 0)
	{
		if (!parse_bool(value, &given->allow_http))
			refuse_value(given->catalog, name, value, "must be true or false");
	}
	else if (strcmp(name, "use_fips_endpoint") == 0 || strcmp(name, "use_dualstack_endpoint") == 0)
	{
		if (!parse_bool(value, &boolean))
			refuse_value(given->catalog, name, value, "must be true or false");
	}
	else if (strcmp(name, "credentials") == 0)
	{
		given->credentials = find_source(value);
		if (given->credentials == NULL && strcmp(value, "mapping") != 0)
			refuse_value(given->catalog, name, value,
						 "must be mapping, auto, environment, web_identity, profile, container or instance_metadata");
	}
	else if (strcmp(name, "profile") == 0)
	{
		if (!aws_key_is_valid(value, NAMEDATALEN * 4, &why))
			refuse_value(given->catalog, name, value,
						 "must be the name of a profile: at most 256 printable characters without blanks");
		given->profile = value;
	}
	else if (strcmp(name, "web_identity_token_file") == 0)
	{
		if (value[0] != '/')
			refuse_value(given->catalog, name, value, "must be an absolute path");
		given->token_file = value;
	}
	else if (strcmp(name, "role_arn") == 0)
	{
		if (!role_arn_is_valid(value))
			refuse_value(given->catalog, name, value,
						 "must be the ARN of a role, such as arn:aws:iam::123456789012:role/name");
		given->role_arn = value;
	}
	else if (strcmp(name, "external_id") == 0)
	{
		if (!external_id_is_valid(value))
			refuse_value(given->catalog, name, value,
						 "must be 2 to 1224 letters, digits, and characters of _+=,.@:/-");
		given->external_id = value;
	}
	else if (strcmp(name, "role_session_name") == 0)
	{
		if (!session_name_is_valid(value))
			refuse_value(given->catalog, name, value,
						 "must be 2 to 64 letters, digits, and characters of _+=,.@-");
		given->role_session_name = value;
	}
	else if (strcmp(name, "duration_seconds") == 0)
	{
		if (!duration_is_valid(value, &seconds))
			refuse_value(given->catalog, name, value, "must be a number of seconds from 900 to 43200");
		given->duration_seconds = value;
	}
	else
	{
		check_key(name, value);
		given->has_id |= strcmp(name, "access_key_id") == 0;
		given->has_secret |= strcmp(name, "secret_access_key") == 0;
		given->has_token |= strcmp(name, "session_token") == 0;
	}
}

/* An option makes no sense without another one. */
static void
require(const Given *given, const char *option, bool satisfied, const char *missing, const char *hint)
{
	if (option == NULL || satisfied)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
			 errmsg("option \"%s\" is missing", missing),
			 errdetail("Option \"%s\" requires it.", option),
			 errhint("%s", hint),
			 hide_keys(given->catalog)));
}

/* An option says more about one source of keys. */
static void
require_source(const Given *given, const char *option, const char *source)
{
	if (given->credentials != NULL &&
		(strcmp(given->credentials, source) == 0 || strcmp(given->credentials, "auto") == 0))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("option \"%s\" has no meaning with credentials '%s'", option,
					given->credentials != NULL ? given->credentials : "mapping"),
			 errhint("Set option credentials to %s.", source)));
}

/* What the options of a server must be together, and who may set them. */
static void
check_server(const Given *given)
{
	const char *why;

	if (given->endpoint != NULL &&
		!aws_endpoint_is_valid(given->endpoint, given->allow_http, &why))
		refuse_value(given->catalog, "endpoint", given->endpoint, why);
	if (given->sts_endpoint != NULL &&
		!aws_endpoint_is_valid(given->sts_endpoint, given->allow_http, &why))
		refuse_value(given->catalog, "sts_endpoint", given->sts_endpoint, why);

	/* these are all the options that the server will have */
	if ((given->credentials != NULL || given->sts_endpoint != NULL ||
		 given->profile != NULL || given->token_file != NULL) && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 given->credentials != NULL ?
				 errmsg("permission denied to set the options of a server with credentials '%s'",
						given->credentials) :
				 errmsg("permission denied to set the options of a server with option %s",
						given->sts_endpoint != NULL ? "sts_endpoint" :
						given->profile != NULL ? "profile" : "web_identity_token_file"),
				 given->credentials != NULL ?
				 errdetail("Such a server is used with the keys of the database server itself, so only superusers may set or change its options.") :
				 errdetail("That option decides where keys come from, so only superusers may set or change the options of such a server."),
				 errhint("Ask a superuser, or drop that option: ALTER SERVER ... OPTIONS (DROP %s, ...).",
						 given->credentials != NULL ? "credentials" :
						 given->sts_endpoint != NULL ? "sts_endpoint" :
						 given->profile != NULL ? "profile" : "web_identity_token_file")));

	if (given->profile != NULL)
		require_source(given, "profile", "profile");
	if (given->token_file != NULL)
		require_source(given, "web_identity_token_file", "web_identity");
	require(given, given->token_file != NULL ? "web_identity_token_file" : NULL,
			given->role_arn != NULL, "role_arn", "Name the role that the token stands for.");
	require(given, given->external_id != NULL ? "external_id" :
			given->role_session_name != NULL ? "role_session_name" :
			given->duration_seconds != NULL ? "duration_seconds" : NULL,
			given->role_arn != NULL, "role_arn", "Name the role to assume.");
}

/* The same for a user mapping. */
static void
check_mapping(const Given *given)
{
	if (given->has_id != given->has_secret || (given->has_token && !given->has_id))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("option \"%s\" is missing",
						given->has_id ? "secret_access_key" : "access_key_id"),
				 errdetail("Option \"%s\" requires it.",
						   given->has_id ? "access_key_id" :
						   given->has_secret ? "secret_access_key" : "session_token"),
				 errhint("Give both keys, or none."),
				 hide_keys(given->catalog)));
	require(given, given->external_id != NULL ? "external_id" :
			given->role_session_name != NULL ? "role_session_name" :
			given->duration_seconds != NULL ? "duration_seconds" : NULL,
			given->role_arn != NULL, "role_arn", "Name the role to assume.");
	if (given->role_arn != NULL && !given->has_id)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("option \"access_key_id\" is missing"),
				 errdetail("Option \"role_arn\" of a user mapping requires it: no role may assume what the database server itself may assume."),
				 errhint("Give access_key_id and secret_access_key, too, or let a superuser create a server with that role_arn."),
				 hide_keys(given->catalog)));
}

/*
 * Called by CREATE and ALTER with all the options that the object will have,
 * and the OID of the catalog that it belongs to.
 */
Datum
sqsbridge_fdw_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Given		given = {.catalog = PG_GETARG_OID(1)};
	ListCell   *lc;

	/* pg_upgrade creates servers, and need not preload the library */
	if (!IsBinaryUpgrade)
		sqs_require_preloaded();

	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (find_option(def->defname, given.catalog) == NULL)
			refuse_option(def->defname, given.catalog);
		check_option(&given, def->defname, defGetString(def));
	}

	/* what depends on other options, which may come later in the list */
	if (given.catalog == ForeignServerRelationId)
		check_server(&given);
	else if (given.catalog == UserMappingRelationId)
		check_mapping(&given);

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

/* A boolean option: 0 or 1; -1 if it is not valid. */
static int
read_bool(const char *value)
{
	bool		boolean;

	return parse_bool(value, &boolean) ? boolean : -1;
}

/*
 * Read the options of a server.  Raises no error.  Invalid values of those that
 * have a default are treated as not given; the others are checked by whoever
 * uses them.
 */
void
sqs_server_options(ForeignServer *server, SqsServerOptions *options)
{
	ListCell   *lc;

	memset(options, 0, sizeof(*options));
	options->use_fips = options->use_dualstack = -1;
	foreach(lc, server->options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);
		const char *name = def->defname;
		char	   *value = defGetString(def);

		if (strcmp(name, "region") == 0)
			options->region = pstrdup(value);
		else if (strcmp(name, "endpoint") == 0)
			options->endpoint = pstrdup(value);
		else if (strcmp(name, "allow_http") == 0)
			options->allow_http = read_bool(value) == 1;
		else if (strcmp(name, "use_fips_endpoint") == 0)
			options->use_fips = read_bool(value);
		else if (strcmp(name, "use_dualstack_endpoint") == 0)
			options->use_dualstack = read_bool(value);
		else if (strcmp(name, "credentials") == 0)
			options->source = find_source(value) != NULL ? pstrdup(value) : NULL;
		else if (strcmp(name, "profile") == 0)
			options->profile = pstrdup(value);
		else if (strcmp(name, "web_identity_token_file") == 0)
			options->web_identity_token_file = pstrdup(value);
		else if (strcmp(name, "role_arn") == 0)
			options->role_arn = pstrdup(value);
		else if (strcmp(name, "external_id") == 0)
			options->external_id = pstrdup(value);
		else if (strcmp(name, "role_session_name") == 0)
			options->role_session_name = pstrdup(value);
		else if (strcmp(name, "duration_seconds") == 0 &&
				 !duration_is_valid(value, &options->duration_seconds))
			options->duration_seconds = 0;
		else if (strcmp(name, "sts_endpoint") == 0)
			options->sts_endpoint = pstrdup(value);
	}
}

/*
 * Is the region given, or does the endpoint's host name contain it?  Or may it
 * be found where the keys are?
 */
bool
sqs_server_has_region(const SqsServerOptions *options)
{
	AwsUrl		url;
	char		region[64];
	const char *why;

	if (options->region != NULL || options->source != NULL)
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
	char	   *duration = NULL;

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
			{"role_arn=", &keys->role_arn},
			{"external_id=", &keys->external_id},
			{"role_session_name=", &keys->role_session_name},
			{"duration_seconds=", &duration},
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
	if (duration == NULL || !duration_is_valid(duration, &keys->duration_seconds))
		keys->duration_seconds = 0;

	if ((Pointer) array != DatumGetPointer(umoptions))
	{
		explicit_bzero(array, VARSIZE(array));
		pfree(array);
	}
}
