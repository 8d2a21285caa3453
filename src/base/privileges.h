/*-------------------------------------------------------------------------
 *
 * privileges.h
 *	  What the current role may see.
 *
 * A role that was recorded counts only while its OID and its name still belong
 * together.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_PRIVILEGES_H
#define SQSBRIDGE_PRIVILEGES_H

/* Does the current role have the privileges of that one? */
extern bool sqs_has_privs_of(Oid role, const char *name);

/* The same, or those of pg_read_all_stats: for statistics and error texts. */
extern bool sqs_may_see_stats_of(Oid role);

/* May it see all data, as those who dump the database may? */
extern bool sqs_reads_all_data(void);

#endif							/* SQSBRIDGE_PRIVILEGES_H */
