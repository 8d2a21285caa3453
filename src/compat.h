/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Differences between PostgreSQL 15 and 19, in one place.
 *
 * Presents the newest API by macros; no other file tests PG_VERSION_NUM.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_COMPAT_H
#define SQSBRIDGE_COMPAT_H

#include "utils/acl.h"
#include "utils/wait_event.h"

/* 17 gave wait events of extensions names of their own. */
#if PG_VERSION_NUM >= 170000
#define sqs_wait_event_new(name)	WaitEventExtensionNew(name)
#else
#define sqs_wait_event_new(name)	((uint32) PG_WAIT_EXTENSION)
#endif

/* 17 lets a background worker connect as a role that cannot log in. */
#if PG_VERSION_NUM >= 170000
#define SQS_OWNER_NEEDS_LOGIN		false
#define SQS_BYPASS_ROLELOGINCHECK	BGWORKER_BYPASS_ROLELOGINCHECK
#else
#define SQS_OWNER_NEEDS_LOGIN		true
#define SQS_BYPASS_ROLELOGINCHECK	0
#endif

/* 17 added an argument that flushes at once. */
#if PG_VERSION_NUM >= 170000
#define sqs_log_logical_message(prefix, data, len) \
	LogLogicalMessage(prefix, data, len, true, false)
#else
#define sqs_log_logical_message(prefix, data, len) \
	LogLogicalMessage(prefix, data, len, true)
#endif

/* 19 passes more to signal handlers. */
#if PG_VERSION_NUM >= 190000
#define SQS_PASS_SIGNAL_ARGS	postgres_signal_arg, pg_siginfo
#else
#define SQS_PASS_SIGNAL_ARGS	postgres_signal_arg
#endif

/* 17 has a transaction_timeout, which is FATAL. */
#if PG_VERSION_NUM >= 170000
#define SQS_HAS_TRANSACTION_TIMEOUT	true
#else
#define SQS_HAS_TRANSACTION_TIMEOUT	false
#endif

/* 16 unified the ACL checks. */
#if PG_VERSION_NUM < 160000
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_database.h"

static inline AclResult
object_aclcheck(Oid classid, Oid objectid, Oid roleid, AclMode mode)
{
	switch (classid)
	{
		case ForeignServerRelationId:
			return pg_foreign_server_aclcheck(objectid, roleid, mode);
		case ProcedureRelationId:
			return pg_proc_aclcheck(objectid, roleid, mode);
		case DatabaseRelationId:
			return pg_database_aclcheck(objectid, roleid, mode);
		case NamespaceRelationId:
			return pg_namespace_aclcheck(objectid, roleid, mode);
		default:
			elog(ERROR, "no access check for catalog %u", classid);
			return ACLCHECK_NO_PRIV;
	}
}
#endif

/* 16 unified the ownership checks. */
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#if PG_VERSION_NUM >= 160000
#define sqs_database_ownercheck(oid, role)	object_ownercheck(DatabaseRelationId, oid, role)
#define sqs_extension_ownercheck(oid, role) object_ownercheck(ExtensionRelationId, oid, role)
#else
#define sqs_database_ownercheck(oid, role)	pg_database_ownercheck(oid, role)
#define sqs_extension_ownercheck(oid, role) pg_extension_ownercheck(oid, role)
#endif

/* 18 put name and version into the module's magic block. */
#if PG_VERSION_NUM >= 180000
#define SQS_MODULE_MAGIC	PG_MODULE_MAGIC_EXT(.name = "sqsbridge", .version = SQSBRIDGE_VERSION)
#else
#define SQS_MODULE_MAGIC	PG_MODULE_MAGIC
#endif

#endif							/* SQSBRIDGE_COMPAT_H */
