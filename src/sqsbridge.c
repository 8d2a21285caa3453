/*-------------------------------------------------------------------------
 *
 * sqsbridge.c
 *	  Loading the library.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "base/compat.h"
#include "base/credentials_cache.h"
#include "base/settings.h"
#include "base/shmem.h"
#include "base/wake_at_commit.h"
#include "control/ddl.h"
#include "control/dead_letter_queue.h"
#include "control/launcher.h"
#include "send/outbox.h"

SQS_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	/* see settings.c; pg_upgrade runs the server without workers */
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;

	sqs_settings_init();
	sqs_shmem_init();
	sqs_keys_init();
	sqs_wake_at_commit_init();
	sqs_outbox_init();
	sqs_dead_letter_queue_init();
	sqs_ddl_init();
	sqs_launcher_register();
}
