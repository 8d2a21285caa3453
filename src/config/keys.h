/*-------------------------------------------------------------------------
 *
 * keys.h
 *	  As whom a role uses a server: its AWS keys, or where to get them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_KEYS_H
#define SQSBRIDGE_KEYS_H

#include "config/fdw.h"

/* Find out as whom this role uses the server. */
extern char *sqs_catalog_keys(Oid role, Oid server, SqsKeys *keys);

/* Overwrite and free them; may be called more than once. */
extern void sqs_wipe_keys(SqsKeys *keys);

#endif							/* SQSBRIDGE_KEYS_H */
