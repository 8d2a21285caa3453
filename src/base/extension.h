/*-------------------------------------------------------------------------
 *
 * extension.h
 *	  The extension as it is installed in this database.
 *
 * The schema of the extension's objects is the user's choice, so they are
 * looked up by way of pg_extension, never in the search path.  All of these
 * need a transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_EXTENSION_H
#define SQSBRIDGE_EXTENSION_H

/* InvalidOid if the extension is not installed in this database. */
extern Oid	sqs_extension_oid(void);
extern Oid	sqs_extension_schema(void);
extern Oid	sqs_extension_owner(void);

/* OID of a view or of a type; an ERROR if it does not exist. */
extern Oid	sqs_view_oid(const char *relname);
extern Oid	sqs_message_type_oid(void);
extern Oid	sqs_verdict_type_oid(void);

/* Where a queue's row is registered: cluster, database, and extension. */
extern char *sqs_home(void);

#endif							/* SQSBRIDGE_EXTENSION_H */
