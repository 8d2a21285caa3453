/*-------------------------------------------------------------------------
 *
 * extension.h
 *	  The extension as it is installed in this database.
 *
 * All of these need a transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_EXTENSION_H
#define SQSBRIDGE_EXTENSION_H

/* OID of the installed extension in this database, or InvalidOid. */
extern Oid	sqs_extension_oid(void);
extern Oid	sqs_extension_schema(void);
extern Oid	sqs_extension_owner(void);

/* OID of a view of the extension; error if it is not there. */
extern Oid	sqs_view_oid(const char *relname);
extern Oid	sqs_message_type_oid(void);

/*
 * To what a queue's row belongs: "cluster/database/extension", palloc'd.  In
 * a dump that was restored, a database that was copied or a cluster that was
 * upgraded it is another one.
 */
extern char *sqs_home(void);

#endif							/* SQSBRIDGE_EXTENSION_H */
