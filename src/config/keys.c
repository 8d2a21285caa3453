/*-------------------------------------------------------------------------
 *
 * keys.c
 *	  As whom a role uses a server: its AWS keys, or where to get them.
 *
 * Keys are read from the catalogs whenever a client is made, and wiped after
 * that.  No message contains any part of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_user_mapping.h"
#include "foreign/foreign.h"
#include "utils/syscache.h"

#include "config/bindings.h"
#include "config/fdw.h"
#include "config/keys.h"

/* Read the keys of the role's mapping, or of PUBLIC's.  False: no mapping. */
static bool
read_mapping(Oid role, Oid server, SqsKeys *keys)
{
	HeapTuple	tuple;
	Datum		options;
	bool		isnull;

	tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role),
							ObjectIdGetDatum(server));
	if (!HeapTupleIsValid(tuple))
		tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid),
								ObjectIdGetDatum(server));
	if (!HeapTupleIsValid(tuple))
		return false;
	options = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple,
							  Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
		sqs_mapping_keys(options, keys);
	ReleaseSysCache(tuple);
	return true;
}

/* Whose mapping applies to a role, for messages. */
static char *
mapped_role(Oid role, Oid server)
{
	if (!OidIsValid(role) ||
		!SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role),
							   ObjectIdGetDatum(server)))
		return pstrdup("PUBLIC");
	return psprintf("role \"%s\"", sqs_role_name(role));
}

static void
take(char **to, char **from)
{
	if (*to == NULL)
		*to = *from;
	*from = NULL;
}

/* Use the server's options where the mapping says nothing. */
static void
add_server_options(SqsKeys *keys, SqsServerOptions *options)
{
	/* an external id belongs to its role */
	if (keys->role_arn == NULL)
		take(&keys->external_id, &options->external_id);
	take(&keys->role_arn, &options->role_arn);
	if (keys->role_arn != NULL || options->source != NULL)
	{
		take(&keys->role_session_name, &options->role_session_name);
		if (keys->duration_seconds == 0)
			keys->duration_seconds = options->duration_seconds;
	}
	take(&keys->source, &options->source);
	take(&keys->profile, &options->profile);
	take(&keys->web_identity_token_file, &options->web_identity_token_file);
	take(&keys->region, &options->region);
	take(&keys->endpoint, &options->endpoint);
	keys->allow_http = options->allow_http;
	take(&keys->sts_endpoint, &options->sts_endpoint);
	keys->use_fips = options->use_fips;
	keys->use_dualstack = options->use_dualstack;
}

/*
 * Find out as whom a role uses a server, and where that is: with the keys of the
 * user mapping that applies (the role's own, or else PUBLIC's), perhaps to assume
 * a role; or, if the server's option credentials is another than mapping, with
 * keys of the database server itself, which have to be found yet.  Then a
 * mapping decides nothing; see fdw.c.
 *
 * Returns NULL, or a phrase that says why the role cannot use it.  In either case
 * *keys is valid and must be wiped.  Needs a transaction.
 */
char *
sqs_catalog_keys(Oid role, Oid server_oid, SqsKeys *keys)
{
	ForeignServer *found = GetForeignServerExtended(server_oid, FSV_MISSING_OK);
	const char *server;
	SqsServerOptions options;
	bool		has_mapping;
	bool		has_keys;

	memset(keys, 0, sizeof(*keys));

	/* never read the options of another wrapper's user mappings */
	if (found == NULL || !sqs_fdw_is_ours(found->fdwid))
		return pstrdup("its server does not exist");
	server = found->servername;

	has_mapping = read_mapping(role, found->serverid, keys);
	has_keys = keys->access_key_id != NULL && keys->secret_access_key != NULL;
	sqs_server_options(found, &options);
	if (options.source == NULL && !has_keys)
	{
		sqs_wipe_keys(keys);
		return has_mapping ?
			psprintf("the user mapping of %s for server \"%s\" has no keys, and the server's option credentials permits no others",
					 mapped_role(role, found->serverid), server) :
			psprintf("role \"%s\" has no user mapping for server \"%s\", and the server's option credentials permits no other keys",
					 sqs_role_name(role), server);
	}
	if (options.source != NULL &&
		(keys->access_key_id != NULL || keys->secret_access_key != NULL || keys->role_arn != NULL))
	{
		const char *role_arn = keys->role_arn != NULL ? " or a role_arn" : "";

		sqs_wipe_keys(keys);
		keys->source = options.source;
		return psprintf("two identities: the user mapping of %s for server \"%s\" has keys%s, and the server's option credentials is %s; drop one of them",
						mapped_role(role, found->serverid), server, role_arn, options.source);
	}
	add_server_options(keys, &options);
	return NULL;
}

static void
wipe(char **key)
{
	if (*key == NULL)
		return;
	explicit_bzero(*key, strlen(*key));
	pfree(*key);
	*key = NULL;
}

/* Overwrite and free all of it; may be called more than once. */
void
sqs_wipe_keys(SqsKeys *keys)
{
	wipe(&keys->source);
	wipe(&keys->access_key_id);
	wipe(&keys->secret_access_key);
	wipe(&keys->session_token);
	wipe(&keys->profile);
	wipe(&keys->web_identity_token_file);
	wipe(&keys->role_arn);
	wipe(&keys->external_id);
	wipe(&keys->role_session_name);
	wipe(&keys->region);
	wipe(&keys->endpoint);
	wipe(&keys->sts_endpoint);
}
