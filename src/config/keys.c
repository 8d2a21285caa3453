/*-------------------------------------------------------------------------
 *
 * keys.c
 *	  The AWS keys with which a role uses a server.
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

#include "aws/credentials.h"
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

/*
 * Find the keys with which a role uses a server: those of the user mapping
 * that applies (the role's own, or else PUBLIC's), or, if it has none and
 * the server's option "credentials" permits it, those of the environment.
 * Returns NULL, or a phrase that says why there are none.  In either case
 * *keys is valid and must be wiped.  Needs a transaction.
 */
char *
sqs_catalog_keys(Oid role, Oid server_oid, SqsKeys *keys)
{
	ForeignServer *found = GetForeignServerExtended(server_oid, FSV_MISSING_OK);
	const char *server;
	SqsServerOptions options;
	bool		has_mapping;
	AwsError	error;

	memset(keys, 0, sizeof(*keys));

	/* never read the options of another wrapper's user mappings */
	if (found == NULL || !sqs_fdw_is_ours(found->fdwid))
		return pstrdup("its server does not exist");
	server = found->servername;

	has_mapping = read_mapping(role, found->serverid, keys);
	if (keys->access_key_id != NULL && keys->secret_access_key != NULL)
		return NULL;
	sqs_wipe_keys(keys);

	sqs_server_options(found, &options);
	if (!options.ambient)
		return has_mapping ?
			psprintf("the user mapping of role \"%s\" for server \"%s\" has no keys, and the server's option credentials is not environment",
					 sqs_role_name(role), server) :
			psprintf("role \"%s\" has no user mapping for server \"%s\", and the server's option credentials is not environment",
					 sqs_role_name(role), server);
	keys->ambient = true;
	if (!aws_environment_has_keys(&error))
		return psprintf("role \"%s\" has no keys in a user mapping for server \"%s\", and %s",
						sqs_role_name(role), server, error.message);
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

/* Overwrite and free keys; may be called more than once. */
void
sqs_wipe_keys(SqsKeys *keys)
{
	wipe(&keys->access_key_id);
	wipe(&keys->secret_access_key);
	wipe(&keys->session_token);
}
