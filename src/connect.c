/*-------------------------------------------------------------------------
 *
 * connect.c
 *	  From a configured queue to a client of the AWS layer.
 *
 * Queue workers, the relay and sessions that send all make their clients
 * here.  A client is cheap, and is replaced when what it was made from
 * changes; the fingerprint tells, without keeping the keys a second time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "connect.h"
#include "sqsbridge.h"

uint64
sqs_fingerprint_text(uint64 seed, const char *text)
{
	if (text == NULL)
		return hash_combine64(seed, 1);
	return hash_combine64(seed, hash_bytes_extended((const unsigned char *) text,
													strlen(text), 7));
}

uint64
sqs_connection_fingerprint(const SqsQueueConfig *queue, const SqsKeys *keys)
{
	uint64		place = 0;

	place = sqs_fingerprint_text(place, queue->region);
	place = sqs_fingerprint_text(place, queue->endpoint);
	place = sqs_fingerprint_text(place, queue->allow_http ? "1" : "0");
	place = sqs_fingerprint_text(place, keys->access_key_id);
	place = sqs_fingerprint_text(place, keys->secret_access_key);
	place = sqs_fingerprint_text(place, keys->session_token);
	return place;
}

bool
sqs_connect(SqsConnection *connection, const SqsQueueConfig *queue,
			const SqsKeys *keys, int max_connections, AwsError *error)
{
	SqsClientOptions options;

	memset(connection, 0, sizeof(*connection));
	connection->fingerprint = sqs_connection_fingerprint(queue, keys);
	if (keys->access_key_id != NULL)
		connection->credentials = aws_static_credentials(keys->access_key_id,
														 keys->secret_access_key,
														 keys->session_token);
	else
		connection->credentials = aws_default_credentials();

	memset(&options, 0, sizeof(options));
	options.region = queue->region;
	options.endpoint = queue->endpoint;
	options.allow_http = queue->allow_http;
	options.ca_file = sqs_ca_file[0] != '\0' ? sqs_ca_file : getenv("AWS_CA_BUNDLE");
	options.user_agent = "sqsbridge/" SQSBRIDGE_VERSION " PostgreSQL/" PG_VERSION;
	options.connections = max_connections;
	options.credentials = connection->credentials;
	connection->client = sqs_client_create(&options, error);
	if (connection->client == NULL)
	{
		aws_credentials_free(connection->credentials);
		connection->credentials = NULL;
	}
	return connection->client != NULL;
}

void
sqs_count_calls(SqsConnection *connection, SqsQueueStats *stats)
{
	static const SqsCounter counters[SQS_NUM_ACTIONS] = {
		[SQS_GET_QUEUE_URL] = SQS_CALLS_OTHER,
		[SQS_GET_QUEUE_ATTRIBUTES] = SQS_CALLS_OTHER,
		[SQS_RECEIVE_MESSAGE] = SQS_CALLS_RECEIVE,
		[SQS_DELETE_MESSAGE_BATCH] = SQS_CALLS_DELETE,
		[SQS_CHANGE_MESSAGE_VISIBILITY_BATCH] = SQS_CALLS_VISIBILITY,
		[SQS_SEND_MESSAGE] = SQS_CALLS_SEND,
		[SQS_SEND_MESSAGE_BATCH] = SQS_CALLS_SEND,
	};
	const SqsClientStats *now;
	SqsClientStats *seen = &connection->seen;

	if (connection->client == NULL || stats == NULL)
		return;
	now = sqs_client_stats(connection->client);
	for (int action = 0; action < SQS_NUM_ACTIONS; action++)
		sqs_count(stats, counters[action], now->calls[action] - seen->calls[action]);
	sqs_count(stats, SQS_BYTES_SENT, now->bytes_sent - seen->bytes_sent);
	sqs_count(stats, SQS_BYTES_RECEIVED, now->bytes_received - seen->bytes_received);
	*seen = *now;
}

void
sqs_disconnect(SqsConnection *connection)
{
	sqs_client_destroy(connection->client);
	if (connection->credentials != NULL)
		aws_credentials_free(connection->credentials);
	memset(connection, 0, sizeof(*connection));
}
