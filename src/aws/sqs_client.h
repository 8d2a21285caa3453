/*-------------------------------------------------------------------------
 *
 * sqs_client.h
 *	  Amazon SQS over HTTPS, asynchronous: the interface of the AWS layer.
 *
 * A client belongs to one process and one foreign server.  Calls are started
 * with the sqs_start_* functions.  Each of them ends with exactly one call of
 * its completion function, unless it is abandoned.  Completion functions are
 * called from sqs_client_poll() and sqs_client_go_on(), never from a libcurl
 * callback, so they may allocate memory, raise errors, start calls, and free
 * the call that has ended.
 *
 * The owner of the client waits until sqs_client_fd() is readable, for at most
 * sqs_client_timeout() milliseconds, together with whatever else it waits for
 * (a latch).  Then it calls sqs_client_poll(), which never blocks.
 *
 * This layer knows SQS, signing, credentials and HTTP.  It knows nothing of
 * catalogs, workers, latches or transactions.
 *
 * Invariants:
 *	 - Every attempt is signed when it is sent, with the corrected clock.
 *	 - Every call ends: by a reply, by an error, at its deadline, or by
 *	   sqs_call_abandon().  There is no call without a deadline.
 *	 - libcurl never sees a secret key; it does see what is sent, signatures
 *	   and session tokens included.  No error text has any of these.
 *
 * If memory runs out in the server, the sqs_start_* functions raise ERROR, and
 * so may the functions that go on with calls.  The owner then abandons its
 * calls or destroys the client.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQS_CLIENT_H
#define SQS_CLIENT_H

#include "aws/aws_error.h"
#include "aws/credentials.h"
#include "aws/http.h"
#include "aws/retry_budget.h"
#include "aws/sqs_protocol.h"

typedef struct SqsClient SqsClient;
typedef struct SqsCall SqsCall;

typedef struct SqsClientOptions
{
	const char *region;			/* signing region; NULL: from the endpoint, or
								 * with the keys */
	bool		region_with_keys;	/* the provider may know it, later */
	const char *endpoint;		/* base URL; NULL: from region and partition,
								 * and the next two */
	bool		use_fips;
	bool		use_dualstack;
	bool		allow_http;		/* plain http to other than loopback hosts */
	const char *ca_file;		/* PEM bundle; NULL: libcurl's default */
	const char *user_agent;		/* "sqsbridge/1.0 ..." */
	int			connections;	/* at most, if the pool is the client's own;
								 * 0: no limit */
	HttpPool   *pool;			/* the caller's, shared with other clients;
								 * NULL: the client makes its own */
	AwsCredentialsProvider *credentials;	/* the caller's; must live longer */
} SqsClientOptions;

/* What the client has done since it was created. */
typedef struct SqsClientStats
{
	uint64		calls[SQS_NUM_ACTIONS]; /* HTTP requests sent, by action */
	uint64		retries;
	uint64		bytes_sent;		/* HTTP bodies */
	uint64		bytes_received;
	int64		clock_skew_ms;	/* the correction: server minus local clock */
} SqsClientStats;

/* What one call has used; see sqs_call_take_usage(). */
typedef struct SqsCallUsage
{
	uint64		requests;		/* HTTP requests sent */
	uint64		bytes_sent;		/* HTTP bodies */
	uint64		bytes_received;
} SqsCallUsage;

/*
 * Called once when the call has ended; the call is then the callee's to free.
 * If sqs_call_error() is NULL, the accessors of results are valid until
 * sqs_call_free().
 */
typedef void (*SqsCallDone) (SqsCall *call, void *arg);

/*
 * Returns NULL with *error set, to class AWS_ERROR_CONFIGURATION if the
 * options cannot work or AWS_ERROR_RESOURCES if memory or descriptors run out.
 * Strings are copied.
 */
extern SqsClient *sqs_client_create(const SqsClientOptions *options,
									AwsError *error);

/* Abandons every call.  NULL is allowed. */
extern void sqs_client_destroy(SqsClient *client);

extern int	sqs_client_fd(const SqsClient *client);
extern long sqs_client_timeout(const SqsClient *client);	/* ms; -1 = none */
extern void sqs_client_poll(SqsClient *client);

/*
 * The parts of these that are the client's own, for clients that share a pool:
 * wait for the pool's descriptor, until the pool's or any client's time; then
 * call http_pool_poll(), and sqs_client_go_on() for each client.
 */
extern long sqs_client_next(const SqsClient *client);	/* ms; -1 = none */
extern void sqs_client_go_on(SqsClient *client);

/* No call is under way. */
extern bool sqs_client_is_idle(const SqsClient *client);

extern const SqsClientStats *sqs_client_stats(const SqsClient *client);

/*
 * What the retries of this client's calls are drawn from.  Its owners take from
 * it, too, for what they retry themselves: receives, entries of batches.
 */
extern AwsRetryBudget *sqs_client_retry_budget(SqsClient *client);

/*
 * Starting calls.  deadline_ms is the time from now within which the call
 * ends, including retries.  All strings are copied or encoded before the
 * function returns.  max_attempts is at least 1.  Only transient errors and
 * throttling are tried again, as long as the client's retry budget allows it,
 * after a random pause that is at most 50 ms or 1 s for the first retry,
 * doubles up to 20 s, and does not go past the deadline.  One more attempt is
 * made if the clock was corrected, or if the provider has other keys than those
 * that were refused.  A call waits for keys that are being fetched.
 *
 * None of these returns NULL: what goes wrong is the call's error.
 */

/*
 * Look a queue up by its name, or by its ARN, which may be of another account.
 * An ARN of another region than the client's fails without a request, with
 * "WrongRegion".
 */
extern SqsCall *sqs_start_get_queue_url(SqsClient *client,
										const char *queue,
										long deadline_ms, int max_attempts,
										SqsCallDone done, void *arg);

extern SqsCall *sqs_start_get_queue_attributes(SqsClient *client,
											   const char *queue_url,
											   long deadline_ms, int max_attempts,
											   SqsCallDone done, void *arg);

/*
 * wait_seconds and visibility_timeout are seconds; a visibility_timeout less
 * than 0 stands for the queue's own.  A receive is not retried, with one
 * exception: if the reply from a FIFO queue is lost, the messages in it would
 * block their groups until their visibility timeout ends.  Such a receive is
 * repeated once, with the same ReceiveRequestAttemptId, by which SQS returns
 * the same messages, and with a deadline of its own.
 */
extern SqsCall *sqs_start_receive(SqsClient *client, const char *queue_url,
								  int max_messages, int wait_seconds,
								  int visibility_timeout,
								  long deadline_ms,
								  SqsCallDone done, void *arg);

/*
 * For 1 to SQS_MAX_BATCH messages.  The results, by position, are in
 * sqs_call_entry(), even if all of them failed.
 */
extern SqsCall *sqs_start_delete_batch(SqsClient *client, const char *queue_url,
									   int nentries, const SqsSlice *receipt_handles,
									   long deadline_ms, int max_attempts,
									   SqsCallDone done, void *arg);
extern SqsCall *sqs_start_change_visibility_batch(SqsClient *client,
												  const char *queue_url,
												  int nentries,
												  const SqsSlice *receipt_handles,
												  const int *visibility_timeouts,
												  long deadline_ms, int max_attempts,
												  SqsCallDone done, void *arg);

/*
 * Sending 1 to SQS_MAX_BATCH messages; the results, in the same order, are in
 * sqs_call_entry().  An attempt whose outcome is unknown is retried like any
 * other transient failure, if max_attempts allows it.  Without a deduplication
 * id the queue may then hold the message twice.
 */
extern SqsCall *sqs_start_send(SqsClient *client, const char *queue_url,
							   const SqsOutgoing *message,
							   long deadline_ms, int max_attempts,
							   SqsCallDone done, void *arg);
extern SqsCall *sqs_start_send_batch(SqsClient *client, const char *queue_url,
									 int nentries, const SqsOutgoing *const *messages,
									 long deadline_ms, int max_attempts,
									 SqsCallDone done, void *arg);

/* After completion; results only of the action that has them, on success. */
extern SqsAction sqs_call_action(const SqsCall *call);
extern const AwsError *sqs_call_error(const SqsCall *call); /* NULL = success */
extern const char *sqs_call_queue_url(const SqsCall *call); /* GetQueueUrl */
extern const SqsQueueAttributes *sqs_call_queue_attributes(const SqsCall *call);
extern int	sqs_call_nmessages(const SqsCall *call);
extern const SqsReceivedMessage *sqs_call_message(const SqsCall *call, int i);
extern int	sqs_call_nentries(const SqsCall *call);
extern const SqsBatchEntry *sqs_call_entry(const SqsCall *call, int i);
extern long sqs_call_elapsed_ms(const SqsCall *call);

/*
 * What the call has used since this was last called, which may be at any time.
 * Those who share a client can account for their own calls this way.
 */
extern void sqs_call_take_usage(SqsCall *call, SqsCallUsage *usage);

/*
 * Bytes of memory that the finished call holds, mostly for the reply, which
 * received messages point into.
 */
extern size_t sqs_call_memory(const SqsCall *call);

/* Free a finished call; everything its accessors returned becomes invalid. */
extern void sqs_call_free(SqsCall *call);

/* End a running call without completion, and free it.  Does not block. */
extern void sqs_call_abandon(SqsCall *call);

#endif							/* SQS_CLIENT_H */
