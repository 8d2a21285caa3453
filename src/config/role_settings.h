/*-------------------------------------------------------------------------
 *
 * role_settings.h
 *	  A hash of all that a handler worker's session is started under.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_ROLE_SETTINGS_H
#define SQSBRIDGE_ROLE_SETTINGS_H

#include "nodes/pg_list.h"

/*
 * For each queue of a list of SqsQueueConfig, in its order: a hash, never 0,
 * that changes when a handler worker started now would be another than one
 * started before.  Needs a transaction; palloc'd.
 */
extern uint64 *sqs_handler_settings(List *queues);

#endif							/* SQSBRIDGE_ROLE_SETTINGS_H */
