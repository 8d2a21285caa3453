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

/*
 * As whom a role uses a server: keys, or where to get them.  NULL where not
 * given; palloc'd, and wiped with sqs_wipe_keys().
 */
typedef struct SqsKeys
{
	char	   *source;			/* the server's option credentials; NULL: the
								 * keys of a user mapping, which follow */
	char	   *access_key_id;
	char	   *secret_access_key;
	char	   *session_token;

	/* how to find others, and the role to assume with any */
	char	   *profile;
	char	   *web_identity_token_file;
	char	   *role_arn;
	char	   *external_id;
	char	   *role_session_name;
	int			duration_seconds;	/* 0: not given */

	/* where, read together with the rest: nothing else may decide it */
	char	   *region;
	char	   *endpoint;
	bool		allow_http;
	char	   *sts_endpoint;
	int			use_fips;		/* -1: not given */
	int			use_dualstack;	/* likewise */
} SqsKeys;

/* Options of a server; NULL where not given. */
typedef struct SqsServerOptions
{
	char	   *region;
	char	   *endpoint;
	bool		allow_http;
	char	   *source;			/* credentials; NULL: mapping */
	char	   *profile;
	char	   *web_identity_token_file;
	char	   *role_arn;
	char	   *external_id;
	char	   *role_session_name;
	int			duration_seconds;	/* 0: not given */
	char	   *sts_endpoint;
	int			use_fips;		/* -1: not given */
	int			use_dualstack;
} SqsServerOptions;

/* Is this the foreign-data wrapper that belongs to the extension? */
extern bool sqs_fdw_is_ours(Oid fdwid);

/* Does this server or user mapping belong to that wrapper? */
extern bool sqs_fdw_object_is_ours(Oid catalog, Oid object);

/* Raises no error; invalid values are treated as not given. */
extern void sqs_server_options(ForeignServer *server, SqsServerOptions *options);

/*
 * Is the region given, or does the endpoint's host name contain it?  Or may it
 * be found where the keys are?
 */
extern bool sqs_server_has_region(const SqsServerOptions *options);

/* Read the keys and the role from a user mapping's options, a text array. */
extern void sqs_mapping_keys(Datum umoptions, SqsKeys *keys);

#endif							/* SQSBRIDGE_FDW_H */
