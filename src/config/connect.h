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
#include "config/shared_credentials.h"

/*
 * A client shared by those queues of this process that are on the same server
 * and use the same keys.  Its owners use only the field "client".
 */
typedef struct SqsSharedClient
{
	SqsClient  *client;
	AwsCredentialsProvider *credentials;
	dlist_node	node;
	int			owners;
	uint8		made_from[SQS_KEYS_ID_LEN]; /* digest of the server, the keys
											 * and the settings */
} SqsSharedClient;

/*
 * A hash of the server, the keys and the settings that a client is made from.
 * If a queue's changes, it needs another client.  Where keys are fetched, what
 * comes out does not count, so a refresh changes nothing.
 */
extern uint64 sqs_connection_fingerprint(const SqsQueueConfig *queue, const SqsKeys *keys);
extern uint64 sqs_fingerprint_text(uint64 seed, const char *text);

/* The file of certificate authorities; NULL: the system's. */
extern const char *sqs_ca_file_in_use(void);

/* A pool of the caller's own, for requests that are not SQS's. */
extern HttpPool *sqs_http_pool_create(int connections, AwsError *error);

/* Set how many connections this process has at most, idle ones included. */
extern void sqs_shared_clients_keep(int connections);

/* What the shared clients make their requests with; it lives while one does. */
extern HttpPool *sqs_shared_clients_pool(void);

/* How many connections this process may have at once. */
extern int	sqs_shared_clients_room(void);

/*
 * Get the client for the queue's server and these keys, as sqs_catalog_keys()
 * found them: an existing one, or a new one.  Each acquire needs a release.  No
 * network access is involved.  Returns NULL, with *error filled in, for options
 * that cannot work, and (AWS_ERROR_RESOURCES, a temporary condition) when the
 * process is short of descriptors or memory.
 *
 * A release does not end calls that are under way; the client lives until they
 * have completed or been abandoned.
 */
extern SqsSharedClient *sqs_shared_client_acquire(const SqsQueueConfig *queue,
												  const SqsKeys *keys, AwsError *error);
extern void sqs_shared_client_release(SqsSharedClient *shared);

/*
 * The event loop of a process that uses shared clients waits for its latch, for
 * network activity, or for the timeout (ms; -1: none), and then polls.  The
 * wait resets the latch, raises no error if descriptors are short, and does not
 * process interrupts; the caller must.  sqs_shared_clients_poll() invokes the
 * completions of all calls in this process, whoever their owner is.
 * sqs_shared_clients_start() sends what calls were started since, which otherwise
 * takes another turn of the loop, and invokes no completion.
 */
extern void sqs_shared_clients_wait(long timeout, uint32 wait_event);
extern long sqs_shared_clients_timeout(void);	/* ms; -1: none */
extern void sqs_shared_clients_poll(void);

/* For sessions: wait, process interrupts, and poll. */
extern void sqs_shared_clients_turn(long timeout, uint32 wait_event);
extern void sqs_shared_clients_start(void);

/*
 * Destroy the clients that have neither an owner nor a call, and wipe their keys.
 * sqs_shared_clients_poll() does it, too.
 */
extern void sqs_shared_clients_collect(void);

/* Add what the call has cost to the statistics of a queue. */
extern void sqs_count_call(SqsCall *call, SqsQueueStats *stats);

#endif							/* SQSBRIDGE_CONNECT_H */
