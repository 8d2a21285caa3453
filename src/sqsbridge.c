/*-------------------------------------------------------------------------
 *
 * sqsbridge.c
 *	  Loading the library: settings, shared memory, hooks, the launcher.
 *
 * The library has to be in shared_preload_libraries: it owns shared memory
 * and a background worker.  Loaded otherwise (CREATE EXTENSION on a server
 * without it), it defines nothing and every entry point says so.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/resowner.h"

#include "base/compat.h"
#include "base/settings.h"
#include "base/shmem.h"
#include "base/worker.h"
#include "control/ddl.h"
#include "send/outbox.h"

SQS_MODULE_MAGIC;

void		_PG_init(void);

int			sqs_max_workers = 64;
int			sqs_max_queues = 256;
int			sqs_max_databases = 64;
char	   *sqs_databases = NULL;
char	   *sqs_ca_file = NULL;
int			sqs_shutdown_timeout = 5000;
int			sqs_handler_idle_timeout = 60000;
int			sqs_failure_retention = 7 * 24 * 3600;
int			sqs_max_failures = 10000;
int			sqs_max_in_flight_memory = 64 * 1024;
int			sqs_max_queues_per_role = 0;
int			sqs_max_handlers_per_role = 0;
int			sqs_max_outbox_memory = 64 * 1024;

static bool preloaded = false;
static bool wake_pending = false;	/* at commit, if it comes to that */
static bool wake_now = false;	/* committed */
static bool roles_pending = false;	/* the same for sqs_roles_changed() */
static bool roles_now = false;

/*
 * Contexts: what sizes shared memory is fixed at server start; the rest may
 * be changed by a reload.  Nothing here can be set by a session: a role that
 * could choose a CA file or the databases would steer a superuser's process.
 */
static void
define_settings(void)
{
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
	DefineCustomStringVariable("sqsbridge.databases",
							   "Databases in which sqsbridge looks for queues.",
							   "A comma-separated list of names, or * for all.",
							   &sqs_databases,
							   "*",
							   PGC_SIGHUP, GUC_LIST_INPUT, NULL, NULL, NULL);
	DefineCustomStringVariable("sqsbridge.ca_file",
							   "File with the certificates of the authorities that endpoints are verified against.",
							   "PEM format. Empty: AWS_CA_BUNDLE of the server's environment, else the system's.",
							   &sqs_ca_file,
							   "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.shutdown_timeout",
							"Time that running handlers get to finish when the server or their queue stops.",
							"After it they are cancelled, and their messages become visible again.",
							&sqs_shutdown_timeout,
							5000, 0, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.handler_idle_timeout",
							"Time after which an idle handler worker leaves.",
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
							"The newest are kept; how many are not is counted in sqs_stats. 0: none are kept.",
							&sqs_max_failures,
							10000, 0, 100000000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.max_in_flight_memory",
							"Memory that the messages in hand of one queue may take before it stops receiving.",
							NULL,
							&sqs_max_in_flight_memory,
							64 * 1024, 1024, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.max_queues_per_role",
							"Maximum number of queues that one role may register in a database, and that run of its in all databases together.",
							"0: there is no limit but max_queues.",
							&sqs_max_queues_per_role,
							0, 0, 65536,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.max_handlers_per_role",
							"Maximum number of handler workers for the queues of one role, in all databases together.",
							"0: there is no limit but max_workers.",
							&sqs_max_handlers_per_role,
							0, 0, 8192,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("sqsbridge.max_outbox_memory",
							"Memory that the messages of the outbox which are being sent may take, for all queues of a database together.",
							"What is beyond it waits in the table.",
							&sqs_max_outbox_memory,
							64 * 1024, 1024, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);

	MarkGUCPrefixReserved("sqsbridge");
}

void
sqs_require_preloaded(void)
{
	if (!preloaded)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sqsbridge must be loaded by shared_preload_libraries"),
				 errhint("Add sqsbridge to shared_preload_libraries in postgresql.conf and restart the server.")));
}

static void
sqs_xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			sqs_outbox_pre_commit();
			return;
		case XACT_EVENT_COMMIT:
			wake_now = wake_pending;
			wake_pending = false;
			roles_now = roles_pending;
			roles_pending = false;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:

			/*
			 * A prepared change is seen at the next reconciliation after its
			 * COMMIT PREPARED, which has no event of its own.
			 */
			wake_pending = false;
			roles_pending = false;
			break;
		default:
			return;
	}
	sqs_outbox_xact_end(event);
	sqs_lifecycle_xact_end();
}

static void
sqs_subxact_callback(SubXactEvent event, SubTransactionId mySubid,
					 SubTransactionId parentSubid, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		sqs_outbox_subxact_abort();
}

/*
 * Workers are told at the very end of the commit.  In XACT_EVENT_COMMIT the
 * invalidation messages of this transaction have not been sent yet, so a
 * worker that looked then could see its own stale catalog cache, and would
 * have no reason to look again.
 */
static void
sqs_release_callback(ResourceReleasePhase phase, bool isCommit,
					 bool isTopLevel, void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !isCommit || !isTopLevel)
		return;
	if (wake_now)
	{
		wake_now = false;
		sqs_database_changed(MyDatabaseId);
	}
	if (roles_now)
	{
		roles_now = false;
		sqs_roles_changed();
	}
	sqs_outbox_wake();
}

void
sqs_wake_at_commit(void)
{
	wake_pending = true;
	sqs_outbox_config_changed();
}

void
sqs_roles_changed_at_commit(void)
{
	roles_pending = true;
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;

	preloaded = true;
	define_settings();
	sqs_shmem_init();
	sqs_lifecycle_init();
	RegisterXactCallback(sqs_xact_callback, NULL);
	RegisterSubXactCallback(sqs_subxact_callback, NULL);
	RegisterResourceReleaseCallback(sqs_release_callback, NULL);
	sqs_launcher_register();
}
