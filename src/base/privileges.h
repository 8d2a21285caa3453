/*-------------------------------------------------------------------------
 *
 * privileges.h
 *	  What the current role may see.
 *
 * Rows record a role by OID and name.  A restore may give the OID to another
 * role, and a dropped role's name can be reused, so the recorded role counts
 * only while both still belong together.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_PRIVILEGES_H
#define SQSBRIDGE_PRIVILEGES_H

/* Does the current role have the privileges of the recorded role? */
extern bool sqs_has_privs_of(Oid role, const char *name);

/* May the current role see statistics and errors of this role's queues? */
extern bool sqs_may_see_stats_of(Oid role);

/* May the current role see all data, as one that dumps the database may? */
extern bool sqs_reads_all_data(void);

#endif							/* SQSBRIDGE_PRIVILEGES_H */
