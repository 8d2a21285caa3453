/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  The settings named sqsbridge.*, and whether the library may use them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_SETTINGS_H
#define SQSBRIDGE_SETTINGS_H

#include "postgres.h"

#define SQSBRIDGE_VERSION	"1.0"

/* GUCs, defined in settings.c */
extern int	sqs_max_workers;
extern int	sqs_max_queues;
extern int	sqs_max_databases;
extern char *sqs_databases;
extern char *sqs_ca_file;
extern int	sqs_shutdown_timeout;	/* ms */
extern int	sqs_handler_idle_timeout;	/* ms */
extern int	sqs_failure_retention;	/* s */
extern int	sqs_max_failures;	/* of a queue */
extern int	sqs_dead_letter_retention;	/* s, from when it was resolved */
extern int	sqs_max_in_flight_memory;	/* kB */
extern int	sqs_max_queues_per_role;	/* 0: no limit, as in the next */
extern int	sqs_max_handlers_per_role;
extern int	sqs_max_outbox_memory;	/* kB */
extern int	sqs_max_credentials;
extern bool sqs_allow_credential_process;

/* Raises an error unless shared_preload_libraries has loaded the library. */
extern void sqs_require_preloaded(void);

extern void sqs_settings_init(void);	/* from _PG_init */

#endif							/* SQSBRIDGE_SETTINGS_H */
