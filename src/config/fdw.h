/*-------------------------------------------------------------------------
 *
 * fdw.h
 *	  Options of servers and user mappings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_FDW_H
#define SQSBRIDGE_FDW_H

#include "foreign/foreign.h"

/* Keys to a server; wiped with sqs_wipe_keys(). */
typedef struct SqsKeys
{
	char	   *access_key_id;	/* of a user mapping; all NULL: none */
	char	   *secret_access_key;
	char	   *session_token;
	bool		ambient;		/* those of the database server's environment */
} SqsKeys;

/* Options of a server; NULL where not given. */
typedef struct SqsServerOptions
{
	char	   *region;
	char	   *endpoint;
	bool		allow_http;
	bool		ambient;		/* credentials 'environment' */
} SqsServerOptions;

/* Is this the foreign-data wrapper that belongs to the extension? */
extern bool sqs_fdw_is_ours(Oid fdwid);

/* Does this server or user mapping belong to that wrapper? */
extern bool sqs_fdw_object_is_ours(Oid catalog, Oid object);

/* Raises no error; invalid values are treated as not given. */
extern void sqs_server_options(ForeignServer *server, SqsServerOptions *options);

/* Is the region given, or does the endpoint's host name contain it? */
extern bool sqs_server_has_region(const SqsServerOptions *options);

/* Read the keys from a user mapping's options, a text array; palloc'd. */
extern void sqs_mapping_keys(Datum umoptions, SqsKeys *keys);

#endif							/* SQSBRIDGE_FDW_H */
