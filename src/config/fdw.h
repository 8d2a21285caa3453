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

/*
 * Is this server, or this user mapping, one of that wrapper?  For hooks: what
 * the running command has made is found, too.
 */
extern bool sqs_fdw_object_is_ours(Oid catalog, Oid object);

/* Never an error: what cannot be understood counts as not given. */
extern void sqs_server_options(ForeignServer *server, SqsServerOptions *options);

/* Is the region given, or told by the endpoint's host name? */
extern bool sqs_server_has_region(const SqsServerOptions *options);

/* Keys in a user mapping's options, as stored: a text array. */
extern void sqs_mapping_keys(Datum umoptions, SqsKeys *keys);

#endif							/* SQSBRIDGE_FDW_H */
