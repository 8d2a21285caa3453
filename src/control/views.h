/*-------------------------------------------------------------------------
 *
 * views.h
 *	  Who may see which rows of the internal tables.
 *
 * The current role, that is.  A role that was recorded counts only while its
 * OID and its name still belong together.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_VIEWS_H
#define SQSBRIDGE_VIEWS_H

/* Does the current role have the privileges of that one? */
extern bool sqs_has_privs_of(Oid role, const char *name);

/* The same, or those of pg_read_all_stats: for statistics and error texts. */
extern bool sqs_may_see_stats_of(Oid role);

/* For rows of outbox_failures, deformed. */
extern bool sqs_may_see_outbox_failure(const Datum *values, const bool *nulls);
extern bool sqs_may_discard_outbox_failure(const Datum *values, const bool *nulls);

#endif							/* SQSBRIDGE_VIEWS_H */
