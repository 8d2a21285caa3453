/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  The settings named sqsbridge.*, and whether the library may use them.
 *
 * The library must be in shared_preload_libraries, because it needs shared
 * memory and a background worker.  If it is loaded otherwise (say, by CREATE
 * EXTENSION on a server without it), it defines no setting, and every entry
 * point raises an error that says what is missing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "base/settings.h"

int			sqs_max_workers = 64;
int			sqs_max_queues = 256;
int			sqs_max_databases = 64;
char	   *sqs_databases = NULL;
char	   *sqs_ca_file = NULL;
int			sqs_shutdown_timeout = 5000;
int			sqs_handler_idle_timeout = 60000;
int			sqs_failure_retention = 7 * 24 * 3600;
int			sqs_max_failures = 10000;
int			sqs_dead_letter_retention = 30 * 24 * 3600;
int			sqs_max_in_flight_memory = 64 * 1024;
int			sqs_max_queues_per_role = 0;
int			sqs_max_handlers_per_role = 0;
int			sqs_max_outbox_memory = 64 * 1024;
int			sqs_max_credentials = 64;
bool		sqs_allow_credential_process = false;

static bool preloaded = false;

/*
 * Settings that size shared memory are fixed at server start; the others can
 * be changed by a reload.  None can be set by a session: a role that could
 * choose the CA file or the databases would control processes that run as a
 * superuser.
 */
void
sqs_settings_init(void)
{
	preloaded = true;

	DefineCustomIntVariable("sqsbridge.max_workers",
							"Maximum number of sqsbridge worker processes.",
							"Database, queue and handler workers of all databases together; each also takes one of max_worker_processes.",
							&sqs_max_workers,
							64, 4, 8192,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.max_queues",
							"Maximum number of queues that run, in all databases together.",
							"Queues that are disabled or have no handler do not run.",
							&sqs_max_queues,
							256, 1, 65536,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.max_databases",
							"Maximum number of databases with configured queues.",
							NULL,
							&sqs_max_databases,
							64, 1, 8192,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.max_credentials",
							"Maximum number of temporary AWS keys that processes share.",
							"One for each identity that is used: source of keys and roles assumed. Takes 18 kB each.",
							&sqs_max_credentials,
							64, 8, 1024,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("sqsbridge.databases",
							   "Databases in which sqsbridge looks for queues.",
							   "A comma-separated list of names, or * for all.",
							   &sqs_databases,
							   "*",
							   PGC_SIGHUP, GUC_LIST_INPUT, NULL, NULL, NULL);
	DefineCustomStringVariable("sqsbridge.ca_file",
							   "File with the certificate authorities that endpoints are verified against.",
							   "PEM format. Empty: AWS_CA_BUNDLE of the server's environment, else the system's.",
							   &sqs_ca_file,
							   "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomBoolVariable("sqsbridge.allow_credential_process",
							 "Permits AWS profiles to name a program that is run to get keys.",
							 "The program (credential_process) runs as the server's operating system user.",
							 &sqs_allow_credential_process,
							 false,
							 PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.shutdown_timeout",
							"Time that running handlers get to finish when the server or their queue stops.",
							"After that, they are canceled, and their messages become visible again.",
							&sqs_shutdown_timeout,
							5000, 0, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.handler_idle_timeout",
							"Time after which an idle handler worker exits.",
							NULL,
							&sqs_handler_idle_timeout,
							60000, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.failure_retention",
							"Time for which rows of sqs_failures are kept.",
							NULL,
							&sqs_failure_retention,
							7 * 24 * 3600, 60, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.max_failures",
							"Maximum number of rows of sqs_failures of one queue.",
							"The oldest are deleted first, and counted in sqs_stats.failures_dropped. 0: none are kept.",
							&sqs_max_failures,
							10000, 0, 100000000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.dead_letter_retention",
							"Time for which rows of sqs_dead_letters are kept after they have been redriven or discarded.",
							"Until then, they are kept for any time.",
							&sqs_dead_letter_retention,
							30 * 24 * 3600, 60, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.max_in_flight_memory",
							"Memory that received messages of one queue may take before it stops receiving.",
							NULL,
							&sqs_max_in_flight_memory,
							64 * 1024, 1024, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.max_queues_per_role",
							"Maximum number of queues of one role: registered in a database, and running in all databases together.",
							"0: no limit other than max_queues.",
							&sqs_max_queues_per_role,
							0, 0, 65536,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.max_handlers_per_role",
							"Maximum number of handler workers for the queues of one role, in all databases together.",
							"0: no limit other than max_workers.",
							&sqs_max_handlers_per_role,
							0, 0, 8192,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.max_outbox_memory",
							"Memory that messages of the outbox may take while they are sent, for all queues of a database together.",
							"Further messages wait in the table.",
							&sqs_max_outbox_memory,
							64 * 1024, 1024, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);

	MarkGUCPrefixReserved("sqsbridge");
}

/*
 * Raise an ERROR unless the library was loaded by shared_preload_libraries.
 */
void
sqs_require_preloaded(void)
{
	if (!preloaded)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sqsbridge must be loaded by shared_preload_libraries"),
				 errhint("Add sqsbridge to shared_preload_libraries in postgresql.conf and restart the server.")));
}
