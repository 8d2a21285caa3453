/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  The launcher: one process per cluster, which starts the database workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_LAUNCHER_H
#define SQSBRIDGE_LAUNCHER_H

extern void sqs_launcher_register(void);	/* from _PG_init */

/* Does sqsbridge.databases admit a database of this name? */
extern bool sqs_database_admitted(const char *name);

#endif							/* SQSBRIDGE_LAUNCHER_H */
