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

#include "access/htup_details.h"
#include "fmgr.h"
#include "utils/acl.h"
#include "utils/wait_event.h"

/*
 * Since 16 extensions are built with hidden visibility, and PGDLLEXPORT marks
 * the exceptions.  The Makefile does the same for 15, which loads libraries
 * with RTLD_GLOBAL, so that one library's symbol could be taken for another's.
 */
#if PG_VERSION_NUM < 160000
#undef PGDLLEXPORT
#define PGDLLEXPORT		__attribute__((visibility("default")))
#undef PG_FUNCTION_INFO_V1
#define PG_FUNCTION_INFO_V1(funcname) \
extern PGDLLEXPORT Datum funcname(PG_FUNCTION_ARGS); \
extern PGDLLEXPORT const Pg_finfo_record *CppConcat(pg_finfo_,funcname)(void); \
const Pg_finfo_record * \
CppConcat(pg_finfo_,funcname) (void) \
{ \
	static const Pg_finfo_record my_finfo = { 1 }; \
	return &my_finfo; \
} \
extern int no_such_variable
#endif

/* 18 moved this attribute to the front of declarations, and renamed it. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn		pg_attribute_noreturn()
#endif

/* 17 lets extensions name their wait events. */
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

/* 17 added an argument that asks for an immediate flush. */
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

/* 17 lets a resource owner hold a set of wait events, here always none. */
#if PG_VERSION_NUM >= 170000
#define sqs_create_wait_event_set(nevents)	CreateWaitEventSet(NULL, nevents)
#else
#define sqs_create_wait_event_set(nevents)	CreateWaitEventSet(TopMemoryContext, nevents)
#endif

/* 17 has a privilege, and a role, to maintain other roles' tables. */
#if PG_VERSION_NUM >= 170000
#include "catalog/pg_authid.h"
#define sqs_maintains_all(role)	has_privs_of_role(role, ROLE_PG_MAINTAIN)
#else
#define sqs_maintains_all(role)	true
#endif

/* 19 made REPACK of CLUSTER. */
#if PG_VERSION_NUM >= 190000
#define SQS_T_REPACK_STMT		T_RepackStmt
#define SqsRepackStmt			RepackStmt
#define sqs_repacked(statement) \
	((statement)->relation ? (statement)->relation->relation : NULL)
#else
#define SQS_T_REPACK_STMT		T_ClusterStmt
#define SqsRepackStmt			ClusterStmt
#define sqs_repacked(statement)	((statement)->relation)
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

/* 16 took the permissions that are asked for out of the range table. */
#if PG_VERSION_NUM >= 160000
#include "nodes/parsenodes.h"
#define sqs_permission_info			RTEPermissionInfo
#define SQS_CHECK_PERMS_ARGS		List *range_table, List *permissions, bool ereport_on_violation
#define SQS_PASS_CHECK_PERMS_ARGS	range_table, permissions, ereport_on_violation
#else
#define sqs_permission_info			RangeTblEntry
#define SQS_CHECK_PERMS_ARGS		List *permissions, bool ereport_on_violation
#define SQS_PASS_CHECK_PERMS_ARGS	permissions, ereport_on_violation
#endif

/* 16 unified the ownership checks. */
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#if PG_VERSION_NUM >= 160000
#define sqs_database_ownercheck(oid, role)	object_ownercheck(DatabaseRelationId, oid, role)
#define sqs_extension_ownercheck(oid, role) object_ownercheck(ExtensionRelationId, oid, role)
#define sqs_relation_ownercheck(oid, role)	object_ownercheck(RelationRelationId, oid, role)
#else
#define sqs_database_ownercheck(oid, role)	pg_database_ownercheck(oid, role)
#define sqs_extension_ownercheck(oid, role) pg_extension_ownercheck(oid, role)
#define sqs_relation_ownercheck(oid, role)	pg_class_ownercheck(oid, role)
#endif

/* 19 merges and splits partitions. */
#if PG_VERSION_NUM >= 190000
#define sqs_partition_list(cmd) ((cmd)->partlist)
#else
#define sqs_partition_list(cmd) NIL
#endif

/* 18 put name and version into the module's magic block. */
#if PG_VERSION_NUM >= 180000
#define SQS_MODULE_MAGIC	PG_MODULE_MAGIC_EXT(.name = "sqsbridge", .version = SQSBRIDGE_VERSION)
#else
#define SQS_MODULE_MAGIC	PG_MODULE_MAGIC
#endif

/*
 * Index insertion: 16 added summarizing indexes, 18 an argument to the check,
 * 19 turned the booleans into flags.
 */
#if PG_VERSION_NUM >= 190000
#define sqs_insert_index_tuples(rri, estate, flags, slot, arbiters, conflict) \
	ExecInsertIndexTuples(rri, estate, flags, slot, arbiters, conflict)
#else
#define EIIT_IS_UPDATE			(1 << 0)
#define EIIT_NO_DUPE_ERROR		(1 << 1)
#define EIIT_ONLY_SUMMARIZING	(1 << 2)
#if PG_VERSION_NUM >= 160000
#define sqs_insert_index_tuples(rri, estate, flags, slot, arbiters, conflict) \
	ExecInsertIndexTuples(rri, slot, estate, ((flags) & EIIT_IS_UPDATE) != 0, \
						  ((flags) & EIIT_NO_DUPE_ERROR) != 0, conflict, arbiters, \
						  ((flags) & EIIT_ONLY_SUMMARIZING) != 0)
#else
#define sqs_insert_index_tuples(rri, estate, flags, slot, arbiters, conflict) \
	ExecInsertIndexTuples(rri, slot, estate, ((flags) & EIIT_IS_UPDATE) != 0, \
						  ((flags) & EIIT_NO_DUPE_ERROR) != 0, conflict, arbiters)
#endif
#endif

#if PG_VERSION_NUM >= 180000
#define sqs_check_index_constraints(rri, slot, estate, conflict_tid, arbiters) \
	ExecCheckIndexConstraints(rri, slot, estate, conflict_tid, \
							  &(ItemPointerData) {{0xFFFF, 0xFFFF}, 0}, arbiters)
#else
#define sqs_check_index_constraints(rri, slot, estate, conflict_tid, arbiters) \
	ExecCheckIndexConstraints(rri, slot, estate, conflict_tid, arbiters)
#endif

/* 16 tells which indexes an update concerns, 19 passes flags. */
#if PG_VERSION_NUM >= 160000
#define sqs_update_indexes		TU_UpdateIndexes
#define sqs_indexes_need_update(update_indexes) ((update_indexes) != TU_None)
#define sqs_only_summarizing(update_indexes) \
	((update_indexes) == TU_Summarizing ? EIIT_ONLY_SUMMARIZING : 0)
#else
#define sqs_update_indexes		bool
#define sqs_indexes_need_update(update_indexes) (update_indexes)
#define sqs_only_summarizing(update_indexes)	0
#endif
#if PG_VERSION_NUM >= 190000
#define sqs_table_tuple_delete(rel, tid, cid, snapshot, wait, failure) \
	table_tuple_delete(rel, tid, cid, 0, snapshot, InvalidSnapshot, wait, failure)
#define sqs_table_tuple_update(rel, tid, slot, cid, snapshot, wait, failure, lock_mode, indexes) \
	table_tuple_update(rel, tid, slot, cid, 0, snapshot, InvalidSnapshot, wait, failure, \
					   lock_mode, indexes)
#else
#define sqs_table_tuple_delete(rel, tid, cid, snapshot, wait, failure) \
	table_tuple_delete(rel, tid, cid, snapshot, InvalidSnapshot, wait, failure, false)
#define sqs_table_tuple_update(rel, tid, slot, cid, snapshot, wait, failure, lock_mode, indexes) \
	table_tuple_update(rel, tid, slot, cid, snapshot, InvalidSnapshot, wait, failure, \
					   lock_mode, indexes)
#endif

/*
 * heap_getattr() for a user column of a relation's row.  The inline function
 * of 15.20, 17.12 and their contemporaries calls heap_datum_check(), so that a
 * library with it does not load into older minor releases.  What that checks
 * are composite values, whose type may have changed meanwhile; rows of
 * relations are none.  test/lib/late_symbols.txt lists what to keep away from.
 */
static inline Datum
sqs_getattr(HeapTuple tuple, int attnum, TupleDesc desc, bool *isnull)
{
	Assert(attnum > 0 && attnum <= desc->natts);
	if (attnum > HeapTupleHeaderGetNatts(tuple->t_data))
		return getmissingattr(desc, attnum, isnull);
	return fastgetattr(tuple, attnum, desc, isnull);
}

#endif							/* SQSBRIDGE_COMPAT_H */
