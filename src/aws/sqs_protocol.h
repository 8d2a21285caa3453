/*-------------------------------------------------------------------------
 *
 * sqs_protocol.h
 *	  SQS's requests and replies in AWS JSON 1.0: encoding and parsing.
 *
 * Pure functions over bytes: no network, no clock, and in parsing no
 * allocation but of the array that received messages are put into.  A reply is
 * parsed in place; slices of the result point into the reply buffer,
 * unescaped, and are NUL-terminated besides having a length (they may hold NUL
 * bytes themselves only where SQS lets them: Binary attribute values).
 * Parsing never trusts the peer: wrong types, absent and unknown members,
 * nesting and truncation end in an error or are ignored, never in a crash.
 * This is what test/fuzz feeds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQS_PROTOCOL_H
#define SQS_PROTOCOL_H

#include "aws/aws_error.h"

/* AWS limits; source: the SQS service model and developer guide, 2025-08. */
#define SQS_MAX_BATCH			10
#define SQS_MAX_MESSAGE_BYTES	(1024 * 1024)
#define SQS_MAX_ATTRIBUTES		10
#define SQS_MAX_VISIBILITY		43200	/* seconds */
#define SQS_MAX_DELAY			900 /* seconds */
#define SQS_MAX_ID				128 /* message group and deduplication ids */
#define SQS_MAX_ATTRIBUTE_NAME	256
#define SQS_MAX_DATA_TYPE		256

typedef enum SqsAction
{
	SQS_GET_QUEUE_URL,
	SQS_GET_QUEUE_ATTRIBUTES,
	SQS_RECEIVE_MESSAGE,
	SQS_DELETE_MESSAGE_BATCH,
	SQS_CHANGE_MESSAGE_VISIBILITY_BATCH,
	SQS_SEND_MESSAGE,
	SQS_SEND_MESSAGE_BATCH,
	SQS_NUM_ACTIONS
} SqsAction;

extern const char *sqs_action_name(SqsAction action);	/* "ReceiveMessage" */

typedef struct SqsSlice
{
	const char *data;			/* NULL: absent */
	size_t		len;
} SqsSlice;

typedef struct SqsAttribute
{
	SqsSlice	name;
	SqsSlice	data_type;		/* "String", "Number.int", "Binary", ... */
	SqsSlice	value;			/* text, or the decoded bytes if binary */
	bool		binary;
} SqsAttribute;

typedef struct SqsSystemAttribute
{
	SqsSlice	name;			/* "SenderId", "AWSTraceHeader", ... */
	SqsSlice	value;
} SqsSystemAttribute;

/* More than AWS sends; what exceeds it is a parse error of that message. */
#define SQS_PARSE_MAX_ATTRIBUTES		32
#define SQS_PARSE_MAX_SYSTEM_ATTRIBUTES 32

typedef struct SqsReceivedMessage
{
	SqsSlice	message_id;
	SqsSlice	receipt_handle;
	SqsSlice	body;
	int			receive_count;	/* ApproximateReceiveCount; 0 unknown */
	int64		sent_ms;		/* epoch ms; 0 unknown */
	int64		first_received_ms;
	SqsSlice	group_id;
	SqsSlice	deduplication_id;
	SqsSlice	sequence_number;	/* up to 39 digits */
	int			nattributes;
	SqsAttribute attributes[SQS_PARSE_MAX_ATTRIBUTES];
	int			nsystem;		/* all system attributes, the above included */
	SqsSystemAttribute system[SQS_PARSE_MAX_SYSTEM_ATTRIBUTES];

	/*
	 * NULL if the message is whole; else a constant text that says what is
	 * wrong with it (body MD5 differs, attribute MD5 differs, bad base64,
	 * ...).  message_id and receipt_handle are present nevertheless.
	 */
	const char *damage;
} SqsReceivedMessage;

/* A message to be sent.  Texts are UTF-8; slices belong to the caller. */
typedef struct SqsOutgoing
{
	SqsSlice	body;
	SqsSlice	group_id;		/* absent: none */
	SqsSlice	deduplication_id;
	SqsSlice	trace_header;	/* AWSTraceHeader, the one system attribute */
	int			delay;			/* s; -1: the queue's own */
	int			nattributes;
	SqsAttribute attributes[SQS_MAX_ATTRIBUTES];
} SqsOutgoing;

/* What SQS must confirm to have received; "" where MD5 is not to be had. */
typedef struct SqsDigests
{
	char		body[33];
	char		attributes[33]; /* "": no attributes */
} SqsDigests;

/*
 * One entry of a batch, or the one message of a SendMessage.  The ids are
 * filled in where something was sent.  A message that SQS confirms with
 * another MD5 than ours counts as failed with code "ChecksumMismatch", class
 * AWS_ERROR_TRANSIENT: something is in the queue, and it is not what was
 * meant.
 */
typedef struct SqsBatchEntry
{
	bool		ok;
	bool		sender_fault;
	bool		may_be_done;	/* not ok, and yet it may have had its effect */
	AwsErrorClass class;		/* of code, where !ok */
	char		code[96];
	char		message[256];
	char		message_id[101];	/* SQS: at most 100 characters */
	char		sequence_number[41];	/* FIFO: up to 39 digits */
} SqsBatchEntry;

typedef struct SqsQueueAttributes
{
	int			visibility_timeout; /* -1: not told */
	int			maximum_message_size;	/* -1: not told */
	int			receive_wait_time;	/* -1: not told */
	int64		approximate_messages;	/* -1: not told */
	bool		fifo;
	bool		has_redrive_policy;
} SqsQueueAttributes;

/* ---- requests: append the body of one to the writer ---- */

struct JsonWriter;

extern void sqs_encode_get_queue_url(struct JsonWriter *writer, const char *queue_name);
extern void sqs_encode_get_queue_attributes(struct JsonWriter *writer, const char *queue_url);
extern void sqs_encode_receive(struct JsonWriter *writer, const char *queue_url,
							   int max_messages, int wait_seconds,
							   int visibility_timeout,
							   const char *attempt_id);

/* visibility_timeouts == NULL: a DeleteMessageBatch.  Ids are positions. */
extern void sqs_encode_handles(struct JsonWriter *writer, const char *queue_url,
							   int nentries, const SqsSlice *receipt_handles,
							   const int *visibility_timeouts);

extern void sqs_encode_send(struct JsonWriter *writer, const char *queue_url,
							const SqsOutgoing *message);

/* Ids are positions. */
extern void sqs_encode_send_batch(struct JsonWriter *writer, const char *queue_url,
								  int nentries, const SqsOutgoing *const *messages);

/* The digests SQS has to answer with. */
extern void sqs_outgoing_digests(const SqsOutgoing *message, SqsDigests *digests);

/*
 * Bytes as SQS counts them against its limits: body, and name, type and value
 * of each attribute.
 */
extern size_t sqs_outgoing_size(const SqsOutgoing *message);

/* ---- replies; all change the buffer, all return false if it is none ---- */

/* The URL is left in *url, NUL-terminated. */
extern bool sqs_parse_queue_url(char *data, size_t len, SqsSlice *url);
extern bool sqs_parse_queue_attributes(char *data, size_t len,
									   SqsQueueAttributes *attributes);

/* *messages is malloc'ed for the caller to free; NULL if there are none. */
extern bool sqs_parse_receive(char *data, size_t len,
							  SqsReceivedMessage **messages, int *nmessages);

/*
 * Entries that the reply does not mention, or of which it tells different
 * things, fail with code "NoResult" and may have been done nevertheless.
 * Digests are given where messages were sent, else NULL.
 */
extern bool sqs_parse_batch(char *data, size_t len, int nentries,
							const SqsDigests *digests, SqsBatchEntry *entries);
extern bool sqs_parse_send(char *data, size_t len, const SqsDigests *digests,
						   SqsBatchEntry *entry);

/*
 * An error reply, from whatever of body and headers is there.  Headers may be
 * NULL or empty.
 */
extern void sqs_parse_error(char *data, size_t len, int http_status,
							const char *query_error, const char *error_type,
							AwsError *error);

/* Hex MD5s; false if MD5 is not to be had (FIPS). */
extern bool sqs_body_md5(const char *data, size_t len, char hex[33]);
extern bool sqs_attributes_md5(const SqsAttribute *attributes, int nattributes,
							   char hex[33]);

#endif							/* SQS_PROTOCOL_H */
