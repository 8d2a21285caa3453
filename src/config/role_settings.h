/*-------------------------------------------------------------------------
 *
 * role_settings.h
 *	  A hash of everything a handler worker's session depends on at its start.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_ROLE_SETTINGS_H
#define SQSBRIDGE_ROLE_SETTINGS_H

#include "nodes/pg_list.h"

/*
 * For each queue in a List of SqsQueueConfig, in that order: a hash, never 0,
 * that changes when a handler worker started now would behave differently from
 * one started before.  Needs a transaction; palloc'd.
 */
extern uint64 *sqs_handler_settings(List *queues);

#endif							/* SQSBRIDGE_ROLE_SETTINGS_H */
