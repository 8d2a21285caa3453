/*-------------------------------------------------------------------------
 *
 * connect.c
 *	  From a configured queue to a client of the AWS layer.
 *
 * Queue workers, the relay and sessions that send all get their clients
 * here.  Within a process, queues of one server that use the same keys share a
 * client, and all clients share one set of connections, with one descriptor to
 * wait on: what the process takes from the operating system does not grow with
 * the number of its queues.
 *
 * When something changes that a client was made from, its owners acquire
 * another one, and the old one lives until its last call has ended, so that
 * calls under way are not disturbed.  Owners notice a change by comparing a
 * fingerprint, part of a digest; so they need not keep a copy of the keys.
 *
 * Keys that are fetched belong to the client's provider (shared_credentials.c).
 * They are renewed while the client is used, and nothing of it changes.
 *
 * Each descriptor is announced to fd.c (AcquireExternalFD) before it is opened,
 * which refuses it when too many are in use.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "aws/descriptors.h"
#include "base/compat.h"
#include "base/queue_stats.h"
#include "base/settings.h"
#include "base/worker.h"
#include "config/connect.h"
#include "config/fdw.h"

#define BLIND_WAIT_MS	50		/* longest wait if there is no wait event set */
#define WAIT_SET_RETRY_MS	1000
#define OTHER_FDS		32		/* for the wait event set, libcurl's own, and
								 * those of look-ups */

/* The file of certificate authorities; NULL: the system's. */
const char *
sqs_ca_file_in_use(void)
{
	const char *file = sqs_ca_file[0] != '\0' ? sqs_ca_file : getenv("AWS_CA_BUNDLE");

	return file != NULL && file[0] != '\0' ? file : NULL;
}

/* ---- what a client is made from ---- */

/* Add a text to a fingerprint. */
uint64
sqs_fingerprint_text(uint64 seed, const char *text)
{
	if (text == NULL)
		return hash_combine64(seed, 1);
	return hash_combine64(seed, hash_bytes_extended((const unsigned char *) text,
													strlen(text), 7));
}

/* Add a text to what is hashed; NULL and "" are not the same. */
static void
add_text(StringInfo buf, const char *text)
{
	appendStringInfoChar(buf, text == NULL ? 'n' : 't');
	if (text != NULL)
		appendBinaryStringInfo(buf, text, strlen(text) + 1);
}

/*
 * A digest of the server, the keys and the settings that the client of a queue
 * is made from.  Where the server is comes from *keys, too, and not from *queue,
 * which may have been read earlier: with another endpoint, perhaps, which was
 * not to get these keys.
 */
static void
connection_digest(const SqsQueueConfig *queue, const SqsKeys *keys, uint8 *digest)
{
	StringInfoData buf;
	bool		ok;

	initStringInfo(&buf);
	/* enough for keys, so that no copy of them is left behind by growing */
	enlargeStringInfo(&buf, AWS_ACCESS_KEY_ID_MAX + AWS_SECRET_KEY_MAX + AWS_SESSION_TOKEN_MAX + 1024);
	add_text(&buf, keys->access_key_id);
	add_text(&buf, keys->secret_access_key);
	add_text(&buf, keys->session_token);
	appendStringInfo(&buf, "%u %d %d %d %d ", queue->server_oid, keys->allow_http,
					 keys->use_fips, keys->use_dualstack, keys->duration_seconds);
	add_text(&buf, keys->region);
	add_text(&buf, keys->endpoint);
	add_text(&buf, keys->source);
	add_text(&buf, keys->profile);
	add_text(&buf, keys->web_identity_token_file);
	add_text(&buf, keys->role_arn);
	add_text(&buf, keys->external_id);
	add_text(&buf, keys->role_session_name);
	add_text(&buf, keys->sts_endpoint);
	add_text(&buf, sqs_ca_file_in_use());
	ok = sqs_keys_id(buf.data, buf.len, digest);
	explicit_bzero(buf.data, buf.len);
	pfree(buf.data);
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a SHA-256")));
}

/*
 * A hash of the same.  If it changes, the queue needs another client.
 */
uint64
sqs_connection_fingerprint(const SqsQueueConfig *queue, const SqsKeys *keys)
{
	uint8		digest[SQS_KEYS_ID_LEN];
	uint64		fingerprint;

	connection_digest(queue, keys, digest);
	memcpy(&fingerprint, digest, sizeof(fingerprint));
	return fingerprint;
}

/* ---- making clients ---- */

static const AwsFdHooks fd_hooks = {
	.acquire = AcquireExternalFD,
	.release = ReleaseExternalFD,
};

/* At most this many connections are open. */
static int	shared_connections = 64;

static const char user_agent[] = "sqsbridge/" SQSBRIDGE_VERSION " PostgreSQL/" PG_VERSION;

/* The caller's own; see http_pool_create(). */
HttpPool *
sqs_http_pool_create(int connections, AwsError *error)
{
	aws_set_fd_hooks(&fd_hooks);
	return http_pool_create(user_agent, connections, error);
}

/*
 * Make a client, and the provider of its keys, which the caller frees after it.
 * Returns NULL, with *error filled in, for options that cannot work, and when
 * the process is out of memory or descriptors.
 */
static SqsClient *
make_client(const SqsQueueConfig *queue, const SqsKeys *keys, HttpPool *pool,
			AwsCredentialsProvider **credentials, AwsError *error)
{
	SqsClientOptions options;
	SqsClient  *client;
	const AwsIdentity *identity;

	if (keys->source == NULL && keys->access_key_id == NULL)
	{
		aws_error_set(error, AWS_ERROR_CREDENTIALS, "NoCredentials",
					  "there are no keys for server \"%s\"", queue->server);
		return NULL;
	}
	*credentials = sqs_shared_credentials(keys, sqs_ca_file_in_use(), pool, error);
	if (*credentials == NULL)
		return NULL;

	/*
	 * of a server with keys of its own, files and variables may say where it
	 * is
	 */
	identity = sqs_shared_credentials_identity(*credentials);
	memset(&options, 0, sizeof(options));
	options.region = identity->region;
	options.region_with_keys = identity->metadata_url != NULL;
	options.endpoint = identity->endpoint;
	options.use_fips = identity->use_fips;
	options.use_dualstack = identity->use_dualstack;
	options.allow_http = keys->allow_http;
	options.ca_file = identity->ca_file;
	options.user_agent = user_agent;
	options.pool = pool;
	options.credentials = *credentials;
	client = sqs_client_create(&options, error);
	if (client == NULL)
	{
		aws_credentials_free(*credentials);
		*credentials = NULL;
	}
	return client;
}

/* ---- clients that are shared ---- */

static HttpPool *shared_pool = NULL;
static WaitEventSet *shared_wait_set = NULL;	/* the latch and the pool */
static dlist_head shared_clients = DLIST_STATIC_INIT(shared_clients);

/* Destroy the clients that have neither an owner nor a call under way. */
void
sqs_shared_clients_collect(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &shared_clients)
	{
		SqsSharedClient *shared = dlist_container(SqsSharedClient, node, iter.cur);

		if (shared->owners > 0 || !sqs_client_is_idle(shared->client))
			continue;
		dlist_delete(&shared->node);
		sqs_client_destroy(shared->client);
		aws_credentials_free(shared->credentials);
		pfree(shared);
	}
	if (dlist_is_empty(&shared_clients) && shared_pool != NULL)
	{
		if (shared_wait_set != NULL)
			FreeWaitEventSet(shared_wait_set);
		shared_wait_set = NULL;
		http_pool_destroy(shared_pool);
		shared_pool = NULL;
	}
}

/*
 * Set how many connections this process has open at most; the default is 64.
 * It must not be less than the number of concurrent requests, because a request
 * in excess of it waits in libcurl.  Nor should it be more than
 * sqs_shared_clients_room(): otherwise fd.c refuses a connection to one server
 * because of idle ones to another, which libcurl would close for it.  Must be
 * called before the first sqs_shared_client_acquire().
 */
void
sqs_shared_clients_keep(int connections)
{
	Assert(shared_pool == NULL);
	shared_connections = connections;
}

/* What the shared clients make their requests with; it lives while one does. */
HttpPool *
sqs_shared_clients_pool(void)
{
	return shared_pool;
}

/*
 * How many connections this process may have at once, as far as fd.c is
 * concerned, which lets it have a third of its descriptors for such purposes.
 */
int
sqs_shared_clients_room(void)
{
	int			third = max_safe_fds / 3;

	return Max(third - Min(OTHER_FDS, third / 2), 2);
}

/*
 * The client outlives the caller's memory context and transaction, so all of
 * it is allocated in TopMemoryContext or by the AWS layer's malloc().
 */
SqsSharedClient *
sqs_shared_client_acquire(const SqsQueueConfig *queue, const SqsKeys *keys, AwsError *error)
{
	SqsSharedClient *shared;
	uint8		digest[SQS_KEYS_ID_LEN];
	dlist_iter	iter;

	connection_digest(queue, keys, digest);
	dlist_foreach(iter, &shared_clients)
	{
		shared = dlist_container(SqsSharedClient, node, iter.cur);
		if (memcmp(shared->made_from, digest, sizeof(digest)) == 0)
		{
			shared->owners++;
			return shared;
		}
	}

	if (shared_pool == NULL)
	{
		shared_pool = sqs_http_pool_create(shared_connections, error);
		if (shared_pool == NULL)
			return NULL;
	}
	shared = MemoryContextAllocZero(TopMemoryContext, sizeof(SqsSharedClient));
	memcpy(shared->made_from, digest, sizeof(digest));
	shared->client = make_client(queue, keys, shared_pool, &shared->credentials, error);
	if (shared->client == NULL)
	{
		pfree(shared);
		return NULL;
	}
	shared->owners = 1;
	dlist_push_tail(&shared_clients, &shared->node);
	return shared;
}

/*
 * The client is destroyed later, by sqs_shared_clients_collect(), because this may be
 * called from a completion of one of its own calls.
 */
void
sqs_shared_client_release(SqsSharedClient *shared)
{
	Assert(shared->owners > 0);
	shared->owners--;
}

/*
 * Make the set of events to wait for.  Returns false if that fails for lack of
 * a descriptor; an error would end a worker, so it is caught.
 *
 * A failed CreateWaitEventSet() leaks memory in TopMemoryContext.  Therefore
 * fd.c, whose limit is reached first, is asked before, and after any other
 * failure we wait before we try again.
 */
static bool
make_wait_set(void)
{
	static int64 next_try = 0;
	MemoryContext context = CurrentMemoryContext;
	WaitEventSet *volatile set = NULL;

	if (sqs_now_ms() < next_try || !AcquireExternalFD())
		return false;
	ReleaseExternalFD();

	PG_TRY();
	{
		set = sqs_create_wait_event_set(3);
		AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
		AddWaitEventToSet(set, WL_SOCKET_READABLE, http_pool_fd(shared_pool), NULL, NULL);
		shared_wait_set = set;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
		if (set != NULL)
			FreeWaitEventSet(set);
		next_try = sqs_now_ms() + WAIT_SET_RETRY_MS;
	}
	PG_END_TRY();
	return shared_wait_set != NULL;
}

/*
 * Wait for the latch, for network activity, or for the timeout (ms; -1:
 * none).  Resets the latch.  Raises no error if descriptors are short, and
 * does not process interrupts; the caller must.
 */
void
sqs_shared_clients_wait(long timeout, uint32 wait_event)
{
	long		clients = sqs_shared_clients_timeout();
	WaitEvent	event;

	if (clients >= 0)
		timeout = timeout < 0 ? clients : Min(timeout, clients);
	if (timeout != 0)
	{
		if (shared_pool != NULL && (shared_wait_set != NULL || make_wait_set()))
			(void) WaitEventSetWait(shared_wait_set, timeout, &event, 1, wait_event);
		else
		{
			/* no descriptor for the set, so poll */
			if (shared_pool != NULL)
				timeout = timeout < 0 ? BLIND_WAIT_MS : Min(timeout, BLIND_WAIT_MS);
			(void) WaitLatch(MyLatch,
							 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
							 (timeout >= 0 ? WL_TIMEOUT : 0), timeout, wait_event);
		}
	}
	ResetLatch(MyLatch);
}

/* How long to wait for a client's timer: ms, or -1 if there is none. */
long
sqs_shared_clients_timeout(void)
{
	long		timeout = shared_pool != NULL ? http_pool_timeout(shared_pool) : -1;
	long		fetches = sqs_shared_credentials_timeout();
	dlist_iter	iter;

	if (fetches >= 0 && (timeout < 0 || fetches < timeout))
		timeout = fetches;
	dlist_foreach(iter, &shared_clients)
	{
		SqsSharedClient *shared = dlist_container(SqsSharedClient, node, iter.cur);
		long		next = sqs_client_next(shared->client);

		if (next >= 0 && (timeout < 0 || next < timeout))
			timeout = next;
		/* poll at once, to destroy it and wipe its keys */
		if (shared->owners == 0 && sqs_client_is_idle(shared->client))
			timeout = 0;
	}
	return timeout;
}

/*
 * Process what has arrived.  Calls the completion functions of all calls in
 * this process that have ended, whoever their owner is.
 */
void
sqs_shared_clients_poll(void)
{
	dlist_iter	iter;

	sqs_shared_clients_collect();
	if (shared_pool == NULL)
		return;
	http_pool_poll(shared_pool);
	sqs_shared_credentials_poll();

	/*
	 * completions may add clients, but only sqs_shared_clients_collect()
	 * removes any
	 */
	dlist_foreach(iter, &shared_clients)
	{
		SqsSharedClient *shared = dlist_container(SqsSharedClient, node, iter.cur);

		if (shared->owners > 0)
			sqs_shared_credentials_keep(shared->credentials);
		sqs_client_go_on(shared->client);
	}
}

/*
 * Send the requests of calls that were started since the last poll.  Calls no
 * completion function.
 */
void
sqs_shared_clients_start(void)
{
	if (shared_pool != NULL)
		http_pool_start(shared_pool);
}

/*
 * Wait up to timeout ms for progress on any call, then process what has
 * arrived; that runs the completion functions of calls that have ended.
 */
void
sqs_shared_clients_turn(long timeout, uint32 wait_event)
{
	sqs_shared_clients_wait(timeout, wait_event);
	CHECK_FOR_INTERRUPTS();
	sqs_shared_clients_poll();
}

/* ---- accounts ---- */

static const SqsCounter call_counters[SQS_NUM_ACTIONS] = {
	[SQS_GET_QUEUE_URL] = SQS_CALLS_OTHER,
	[SQS_GET_QUEUE_ATTRIBUTES] = SQS_CALLS_OTHER,
	[SQS_RECEIVE_MESSAGE] = SQS_CALLS_RECEIVE,
	[SQS_DELETE_MESSAGE_BATCH] = SQS_CALLS_DELETE,
	[SQS_CHANGE_MESSAGE_VISIBILITY_BATCH] = SQS_CALLS_VISIBILITY,
	[SQS_SEND_MESSAGE] = SQS_CALLS_SEND,
	[SQS_SEND_MESSAGE_BATCH] = SQS_CALLS_SEND,
};

/*
 * Add what the call has cost since it was last counted to the statistics of
 * a queue.  stats may be NULL.  Must be called at least once before the call
 * is freed or abandoned, and may be called earlier.
 */
void
sqs_count_call(SqsCall *call, SqsQueueStats *stats)
{
	SqsCallUsage usage;

	if (stats == NULL)
		return;
	sqs_call_take_usage(call, &usage);
	sqs_count(stats, call_counters[sqs_call_action(call)], usage.requests);
	sqs_count(stats, SQS_BYTES_SENT, usage.bytes_sent);
	sqs_count(stats, SQS_BYTES_RECEIVED, usage.bytes_received);
}
