/*-------------------------------------------------------------------------
 *
 * suspects.h
 *	  Messages that may have made the server crash.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_SUSPECTS_H
#define SQSBRIDGE_SUSPECTS_H

#include "receive/queue_state.h"

/* A message was received: is it one? */
extern bool sqs_is_suspect(const SqsReceivedMessage *message);

/* May a message that waits be handed out now, as far as suspects matter? */
extern bool sqs_suspects_permit(const QueueWorker *qw, const Lease *lease);

/* The flags of its frame. */
extern uint32 sqs_suspect_frame_flags(const QueueWorker *qw, const Lease *lease);

/* A message is handed out; is with a handler no more; is not in hand any more. */
extern void sqs_suspects_handed(QueueWorker *qw, Lease *lease);
extern void sqs_suspects_back(QueueWorker *qw, Lease *lease);
extern void sqs_suspects_gone(QueueWorker *qw, Lease *lease);

/* A handler asks for the message to be handed out when nothing else runs. */
extern void sqs_suspects_wait_alone(QueueWorker *qw, Lease *lease);

#endif							/* SQSBRIDGE_SUSPECTS_H */
