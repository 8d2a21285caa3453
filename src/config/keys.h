/*-------------------------------------------------------------------------
 *
 * keys.h
 *	  The keys with which a role uses a server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_KEYS_H
#define SQSBRIDGE_KEYS_H

#include "config/fdw.h"

/*
 * Keys with which this role uses the server: of the mapping that applies (the
 * role's own, else PUBLIC's) or, if there is none and the server's option
 * credentials says so, the environment's.  NULL, or why there are none: one
 * sentence for people, which names the role, the server and the ways out.
 */
extern char *sqs_catalog_keys(Oid role, Oid server, SqsKeys *keys);
extern void sqs_wipe_keys(SqsKeys *keys);

#endif							/* SQSBRIDGE_KEYS_H */
