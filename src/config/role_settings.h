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

/* Hashes of the settings that the handlers of these queues start with. */
extern uint64 *sqs_handler_settings(List *queues);

#endif							/* SQSBRIDGE_ROLE_SETTINGS_H */
