/*-------------------------------------------------------------------------
 *
 * privileges.c
 *	  What the current role may see.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"

#include "base/privileges.h"

/* Does the current role have the privileges of the recorded role? */
bool
sqs_has_privs_of(Oid role, const char *name)
{
	char	   *present = GetUserNameFromId(role, true);
	bool		agrees = present != NULL && strcmp(present, name) == 0;

	if (present != NULL)
		pfree(present);
	return agrees && has_privs_of_role(GetUserId(), role);
}

/*
 * May the current role see the statistics and error texts of the queues of
 * this role?  InvalidOid stands for the unknown owner of a queue.
 */
bool
sqs_may_see_stats_of(Oid role)
{
	return (OidIsValid(role) && has_privs_of_role(GetUserId(), role)) ||
		has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
}

/*
 * May the current role see all data, like a role that may dump the database?
 */
bool
sqs_reads_all_data(void)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_DATA);
}
