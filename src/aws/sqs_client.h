/*-------------------------------------------------------------------------
 *
 * sqs_client.h
 *	  Amazon SQS over HTTPS, asynchronous: the face of the AWS layer.
 *
 * A client belongs to one process and one foreign server.  Calls are started
 * with the sqs_start_* functions and end with exactly one invocation of their
 * completion function, made from sqs_client_poll() and never from inside a
 * libcurl callback, so a completion function may allocate, ereport, start
 * further calls and free the call it was given.
 *
 * The owner of the client waits: on sqs_client_fd() becoming readable, at
 * most sqs_client_timeout() milliseconds, together with whatever else it
 * waits for (a latch); then it calls sqs_client_poll(), which never blocks.
 *
 * This layer knows SQS, signing, credentials and HTTP.  It knows nothing of
 * catalogs, workers, latches or transactions.
 *
 * Invariants:
 *	 - every attempt is signed when it is sent, with the skew-corrected clock;
 *	 - every call ends: by reply, by error, by its deadline, or by
 *	   sqs_call_abandon(); there is no call without a deadline;
 *	 - no secret is kept in a libcurl handle or in an error text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQS_CLIENT_H
#define SQS_CLIENT_H

#include "aws/aws_error.h"
#include "aws/credentials.h"
#include "aws/http.h"
#include "aws/sqs_protocol.h"

typedef struct SqsClient SqsClient;
typedef struct SqsCall SqsCall;

typedef struct SqsClientOptions
{
	const char *region;			/* signing region; NULL: from the endpoint */
	const char *endpoint;		/* base URL; NULL: from region and partition */
	bool		allow_http;		/* plain http to other than loopback hosts */
	const char *ca_file;		/* PEM bundle; NULL: libcurl's default */
	const char *user_agent;		/* "sqsbridge/1.0 ..." */
	int			connections;	/* kept alive, at most; 0: 64.  Of a pool of its
								 * own only */
	HttpPool   *pool;			/* shared with other clients, owned by the
								 * caller; NULL: one of its own */
	AwsCredentialsProvider *credentials;	/* owned by the caller */
} SqsClientOptions;

/* What the client did, attempts included; never reset by the client. */
typedef struct SqsClientStats
{
	uint64		calls[SQS_NUM_ACTIONS]; /* HTTP requests sent, by action */
	uint64		retries;
	uint64		bytes_sent;		/* HTTP bodies */
	uint64		bytes_received;
	int64		clock_skew_ms;	/* server minus local, as corrected for */
} SqsClientStats;

/* What one call has cost, see sqs_call_take_usage(). */
typedef struct SqsCallUsage
{
	uint64		requests;		/* HTTP requests sent */
	uint64		bytes_sent;		/* HTTP bodies */
	uint64		bytes_received;
} SqsCallUsage;

/*
 * Called once when the call has ended.  sqs_call_error() tells how; on
 * success the result accessors below are valid until sqs_call_free().
 */
typedef void (*SqsCallDone) (SqsCall *call, void *arg);

/*
 * Returns NULL and fills *error (class AWS_ERROR_CONFIGURATION) for options
 * that cannot work.  Strings are copied.
 */
extern SqsClient *sqs_client_create(const SqsClientOptions *options,
									AwsError *error);

/* Abandons every call without invoking its completion function. */
extern void sqs_client_destroy(SqsClient *client);

extern int	sqs_client_fd(const SqsClient *client);
extern long sqs_client_timeout(const SqsClient *client);	/* ms; -1 = none */
extern void sqs_client_poll(SqsClient *client);

/*
 * Clients that share a pool are waited for together: on the pool's descriptor
 * and time, and the earliest time of each client; then the pool is polled,
 * and each client goes on.  These are the client's part of that.
 */
extern long sqs_client_next(const SqsClient *client);	/* ms; -1 = none */
extern void sqs_client_go_on(SqsClient *client);

/* No call is under way. */
extern bool sqs_client_is_idle(const SqsClient *client);

extern const SqsClientStats *sqs_client_stats(const SqsClient *client);

/*
 * Starting calls.  deadline_ms is the time from now within which the call
 * must have ended, retries included.  All strings are copied or encoded
 * before the function returns.  max_attempts >= 1; only transient errors and
 * throttling are tried again (full jitter, 50 ms and 1 s base, doubling,
 * at most 20 s and never past the deadline), plus one extra attempt after a
 * clock correction or a credentials refresh.
 */
extern SqsCall *sqs_start_get_queue_url(SqsClient *client,
										const char *queue_name,
										long deadline_ms, int max_attempts,
										SqsCallDone done, void *arg);
extern SqsCall *sqs_start_get_queue_attributes(SqsClient *client,
											   const char *queue_url,
											   long deadline_ms, int max_attempts,
											   SqsCallDone done, void *arg);

/*
 * visibility_timeout < 0: the queue's own.  Not tried again inside the call,
 * but for one case: the messages of a FIFO queue whose reply is lost hold up
 * their groups until their leases end, so such a call is repeated once, with
 * the id by which SQS gives the same messages again, and deadline_ms anew.
 */
extern SqsCall *sqs_start_receive(SqsClient *client, const char *queue_url,
								  int max_messages, int wait_seconds,
								  int visibility_timeout,
								  long deadline_ms,
								  SqsCallDone done, void *arg);

/* 1..10 entries; results are by position, see sqs_call_entry(). */
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
 * Sending.  An attempt whose outcome is not known is made again like any
 * other transient failure, if max_attempts allows it: without a deduplication
 * id the queue may then hold the message twice.  The result is in
 * sqs_call_entry(), in the order of the messages, 1..10 of them.
 */
extern SqsCall *sqs_start_send(SqsClient *client, const char *queue_url,
							   const SqsOutgoing *message,
							   long deadline_ms, int max_attempts,
							   SqsCallDone done, void *arg);
extern SqsCall *sqs_start_send_batch(SqsClient *client, const char *queue_url,
									 int nentries, const SqsOutgoing *const *messages,
									 long deadline_ms, int max_attempts,
									 SqsCallDone done, void *arg);

/* After completion. */
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
 * What the call has cost since this was last asked for, at any time between
 * its start and its end: who shares a client keeps his own account by it.
 */
extern void sqs_call_take_usage(SqsCall *call, SqsCallUsage *usage);

/*
 * Bytes of memory the finished call holds (the reply buffer, mostly), for
 * the owner's accounting: received messages point into it.
 */
extern size_t sqs_call_memory(const SqsCall *call);

/* Free a finished call; everything its accessors returned becomes invalid. */
extern void sqs_call_free(SqsCall *call);

/* End a running call without completion; frees it.  Does not block. */
extern void sqs_call_abandon(SqsCall *call);

#endif							/* SQS_CLIENT_H */
