/*-------------------------------------------------------------------------
 *
 * connect.h
 *	  From a configured queue to a client of the AWS layer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_CONNECT_H
#define SQSBRIDGE_CONNECT_H

#include "aws/sqs_client.h"
#include "catalog.h"
#include "shmem.h"

typedef struct SqsConnection
{
	SqsClient  *client;			/* NULL: not connected */
	AwsCredentialsProvider *credentials;
	uint64		fingerprint;	/* of where it leads and as whom */
	SqsClientStats seen;		/* already counted */
} SqsConnection;

/* Of server and keys: another one means another connection. */
extern uint64 sqs_connection_fingerprint(const SqsQueueConfig *queue, const SqsKeys *keys);
extern uint64 sqs_fingerprint_text(uint64 seed, const char *text);

/*
 * Makes a client for the queue's server with these keys, those of the
 * server's environment if there are none.  No network is involved yet.
 * max_connections: kept alive, 0 for the AWS layer's default.
 * False, with *error filled in, for options that cannot work.
 */
extern bool sqs_connect(SqsConnection *connection, const SqsQueueConfig *queue,
						const SqsKeys *keys, int max_connections, AwsError *error);

/* Count what the client has done since last time as this queue's. */
extern void sqs_count_calls(SqsConnection *connection, SqsQueueStats *stats);

/* Abandons what is under way; wipes the keys. */
extern void sqs_disconnect(SqsConnection *connection);

#endif							/* SQSBRIDGE_CONNECT_H */
