/*-------------------------------------------------------------------------
 *
 * connect.h
 *	  From a configured queue to a client of the AWS layer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_CONNECT_H
#define SQSBRIDGE_CONNECT_H

#include "lib/ilist.h"

#include "aws/sqs_client.h"
#include "base/shmem.h"
#include "config/fdw.h"
#include "config/queues.h"
#include "config/queues.h"

/*
 * A client that the queues of this process share which are on the same server
 * and use the same keys.  Only "client" is of interest to its owners.
 */
typedef struct SqsSharedClient
{
	SqsClient  *client;
	AwsCredentialsProvider *credentials;
	dlist_node	node;
	int			owners;

	/* what it was made from, besides the credentials */
	Oid			server;
	char	   *region;
	char	   *endpoint;
	bool		allow_http;
	char	   *ca_file;
} SqsSharedClient;

/* Of server, keys and settings: another one means another client. */
extern uint64 sqs_connection_fingerprint(const SqsQueueConfig *queue, const SqsKeys *keys);
extern uint64 sqs_fingerprint_text(uint64 seed, const char *text);

/*
 * How many connections this process keeps open, at most; the default is 64.
 * No fewer than it has requests under way for long, or each request beyond
 * them makes a new one.  Before the first client.
 */
extern void sqs_shared_clients_keep(int connections);

/*
 * The client for the queue's server and these keys, as sqs_catalog_keys()
 * found them: one that there is, or a new one.  Each
 * acquire is matched by a release.  No network is involved.  NULL, with
 * *error filled in, for options that cannot work, and (AWS_ERROR_RESOURCES)
 * when the process is short of descriptors or memory, which passes.
 *
 * A release does not end calls that are under way; the client lives until
 * they have ended, be it that their owner abandons them.
 */
extern SqsSharedClient *sqs_shared_client_acquire(const SqsQueueConfig *queue,
										   const SqsKeys *keys, AwsError *error);
extern void sqs_shared_client_release(SqsSharedClient *shared);

/*
 * The turn of a process that uses shared clients: wait for its latch, for
 * something to happen to a call, or for so long (ms; -1: no limit), then poll.
 * The wait resets the latch, raises no error for want of descriptors, and
 * leaves interrupts to its caller.  Completions are invoked from
 * sqs_shared_clients_poll(), of calls of other owners in this process, too.
 */
extern void sqs_shared_clients_wait(long timeout, uint32 wait_event);
extern long sqs_shared_clients_timeout(void);	/* ms; -1: none */
extern void sqs_shared_clients_poll(void);

/*
 * Count what the call has cost since this was last done as this queue's.  To
 * be done before a call is freed or abandoned, and at any time before.
 */
extern void sqs_count_call(SqsCall *call, SqsQueueStats *stats);

#endif							/* SQSBRIDGE_CONNECT_H */
