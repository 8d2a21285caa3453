/*-------------------------------------------------------------------------
 *
 * wake_at_commit.c
 *	  Waking the workers when a transaction that concerns them has committed.
 *
 * Workers are woken at the very end of the commit.  In XACT_EVENT_COMMIT the
 * invalidation messages of this transaction have not been sent yet, so a worker
 * woken then could read stale entries of its own catalog cache, and would have
 * no reason to look again.
 *
 * A prepared transaction wakes no worker, because no callback tells us of its
 * COMMIT PREPARED.  What it has changed is noticed when the workers next look,
 * at most 10 s later.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/resowner.h"

#include "base/credentials_cache.h"
#include "base/databases.h"
#include "base/wake_at_commit.h"

/* "pending" is set by the transaction, "committed" by its commit. */
static bool config_pending = false;
static bool config_committed = false;
static bool roles_pending = false;
static bool roles_committed = false;
static bool servers_pending = false;
static bool servers_committed = false;
static bool mappings_pending = false;
static bool mappings_committed = false;

uint64		sqs_config_changes = 0;

static void
at_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			config_committed = config_pending;
			roles_committed = roles_pending;
			servers_committed = servers_pending;
			mappings_committed = mappings_pending;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			break;
		default:
			return;
	}
	config_pending = false;
	roles_pending = false;
	servers_pending = false;
	mappings_pending = false;
}

static void
after_commit(ResourceReleasePhase phase, bool isCommit, bool isTopLevel, void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !isCommit || !isTopLevel)
		return;
	if (config_committed)
	{
		config_committed = false;
		sqs_database_changed(MyDatabaseId);
	}
	if (roles_committed)
	{
		roles_committed = false;
		sqs_roles_changed();
	}
	if (servers_committed)
	{
		servers_committed = false;
		sqs_keys_servers_changed();
	}
	if (mappings_committed)
	{
		mappings_committed = false;
		sqs_keys_mappings_changed();
	}
}

/* Install the callbacks.  Called from _PG_init(). */
void
sqs_wake_at_commit_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterResourceReleaseCallback(after_commit, NULL);
}

/*
 * The current transaction changes the configuration of this database: wake
 * its workers if and when the transaction commits.
 */
void
sqs_wake_at_commit(void)
{
	config_pending = true;
	sqs_config_changes++;
}

/* The same for roles and their settings, which concern all databases. */
void
sqs_roles_changed_at_commit(void)
{
	roles_pending = true;
}

/* A server, or a user mapping, changes: shared keys may have become useless. */
void
sqs_servers_changed_at_commit(void)
{
	servers_pending = true;
}

void
sqs_mappings_changed_at_commit(void)
{
	mappings_pending = true;
}
