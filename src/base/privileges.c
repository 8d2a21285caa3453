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

bool
sqs_has_privs_of(Oid role, const char *name)
{
	char	   *present = GetUserNameFromId(role, true);
	bool		agrees = present != NULL && strcmp(present, name) == 0;

	if (present != NULL)
		pfree(present);
	return agrees && has_privs_of_role(GetUserId(), role);
}

bool
sqs_may_see_stats_of(Oid role)
{
	return (OidIsValid(role) && has_privs_of_role(GetUserId(), role)) ||
		has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
}

bool
sqs_reads_all_data(void)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_DATA);
}
