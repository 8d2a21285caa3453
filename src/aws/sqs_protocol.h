/*-------------------------------------------------------------------------
 *
 * sqs_protocol.h
 *	  SQS's requests and replies in AWS JSON 1.0: encoding and parsing.
 *
 * Functions from bytes to bytes, without network or clock.  Parsing allocates
 * only the array that received messages are put into.  sqs_request.c encodes
 * and sqs_reply.c parses; what a reply promises, and what it does not, is
 * described there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQS_PROTOCOL_H
#define SQS_PROTOCOL_H

#include "aws/aws_error.h"

/* Limits of SQS, from its service model and its developer guide (2025-08). */
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

/* Bytes that belong to somebody else. */
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

/* More than AWS sends; a message that has more is damaged. */
#define SQS_PARSE_MAX_ATTRIBUTES		32
#define SQS_PARSE_MAX_SYSTEM_ATTRIBUTES 32

typedef struct SqsReceivedMessage
{
	SqsSlice	message_id;
	SqsSlice	receipt_handle;
	SqsSlice	body;
	SqsSlice	body_md5;		/* hex digits, as SQS says; absent: unknown */
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
	 * NULL if nothing is wrong with the message, apart perhaps from its body
	 * (see sqs_message_damage()); otherwise a constant text that says what
	 * is, such as "it has too many attributes".  Its message_id and
	 * receipt_handle are there in any case; the other slices may be absent.
	 */
	const char *damage;
} SqsReceivedMessage;

/*
 * What is wrong with the message, its body included; NULL if it is whole.  The
 * MD5 of a body takes longer than to read it, so it is for whoever uses the body
 * to ask, and not done for each message by the process that receives them all.
 */
extern const char *sqs_message_damage(const SqsReceivedMessage *message);

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

/* What SQS must confirm that it received; "" if MD5 is not available. */
typedef struct SqsDigests
{
	char		body[33];
	char		attributes[33]; /* "": no attributes */
} SqsDigests;

/*
 * The result of one entry of a batch, or of the one message of a SendMessage.
 * The ids are filled in if a message was sent.  If the MD5 that SQS confirms
 * differs from ours, the entry has failed with code "ChecksumMismatch" and
 * class AWS_ERROR_TRANSIENT: the queue now holds a message, but not the one
 * that was meant.
 */
typedef struct SqsBatchEntry
{
	bool		ok;
	bool		sender_fault;
	bool		may_be_done;	/* failed, but may have had its effect */
	AwsErrorClass class;		/* of code, if not ok */
	char		code[96];
	char		message[256];
	char		message_id[101];	/* SQS: at most 100 characters */
	char		sequence_number[41];	/* FIFO: up to 39 digits */
} SqsBatchEntry;

typedef struct SqsQueueAttributes
{
	int			visibility_timeout; /* s; -1: unknown */
	int			maximum_message_size;	/* bytes; -1: unknown */
	int			receive_wait_time;	/* s; -1: unknown */
	int64		approximate_messages;	/* -1: unknown */
	int			retention;		/* s that a message is kept; -1: unknown */
	bool		fifo;
	int			max_receives;	/* of the redrive policy: what has been
								 * received so often goes to the dead-letter
								 * queue next time; 0: there is none; -1:
								 * unknown */
} SqsQueueAttributes;

/*
 * ---- requests: append the body of one to the writer ----
 *
 * Entries of a batch get their positions as ids.  The caller looks at the
 * writer's "failed" at the end: it is set if memory ran out.
 */

struct JsonWriter;

extern void sqs_encode_get_queue_url(struct JsonWriter *writer, const char *queue_name,
									 const char *account);	/* NULL: the caller's */
extern void sqs_encode_get_queue_attributes(struct JsonWriter *writer, const char *queue_url);

/*
 * visibility_timeout: seconds; less than 0 stands for the queue's own.
 * attempt_id: NULL, or for a FIFO queue the ReceiveRequestAttemptId.
 */
extern void sqs_encode_receive(struct JsonWriter *writer, const char *queue_url,
							   int max_messages, int wait_seconds,
							   int visibility_timeout,
							   const char *attempt_id);

/*
 * A ChangeMessageVisibilityBatch (seconds), or a DeleteMessageBatch if
 * visibility_timeouts is NULL.
 */
extern void sqs_encode_handles(struct JsonWriter *writer, const char *queue_url,
							   int nentries, const SqsSlice *receipt_handles,
							   const int *visibility_timeouts);

extern void sqs_encode_send(struct JsonWriter *writer, const char *queue_url,
							const SqsOutgoing *message);
extern void sqs_encode_send_batch(struct JsonWriter *writer, const char *queue_url,
								  int nentries, const SqsOutgoing *const *messages);

/* The digests that SQS has to answer with. */
extern void sqs_outgoing_digests(const SqsOutgoing *message, SqsDigests *digests);

/*
 * Bytes as SQS counts them against its limits: body, and name, type and value
 * of each attribute.
 */
extern size_t sqs_outgoing_size(const SqsOutgoing *message);

/*
 * ---- replies ----
 *
 * All parse in place and change the buffer; slices of the result point into
 * it.  All return false if the buffer does not hold such a reply.
 */

/* The URL is left in *url, NUL-terminated. */
extern bool sqs_parse_queue_url(char *data, size_t len, SqsSlice *url);
extern bool sqs_parse_queue_attributes(char *data, size_t len,
									   SqsQueueAttributes *attributes);

/* *messages is malloc'ed for the caller to free; NULL if there are none. */
extern bool sqs_parse_receive(char *data, size_t len,
							  SqsReceivedMessage **messages, int *nmessages);

/*
 * entries has room for nentries (at most SQS_MAX_BATCH) and is filled in even
 * if this returns false.  An entry that the reply does not mention, or about
 * which it contradicts itself, has failed with code "NoResult" and may have
 * been done.  digests: one per entry if messages were sent; otherwise NULL.
 */
extern bool sqs_parse_batch(char *data, size_t len, int nentries,
							const SqsDigests *digests, SqsBatchEntry *entries);
extern bool sqs_parse_send(char *data, size_t len, const SqsDigests *digests,
						   SqsBatchEntry *entry);

/*
 * Fill *error from an error reply, using what there is of body and headers.
 * query_error and error_type, the values of x-amzn-query-error and
 * x-amzn-errortype, may be NULL or empty.
 */
extern void sqs_parse_error(char *data, size_t len, int http_status,
							const char *query_error, const char *error_type,
							AwsError *error);

#endif							/* SQS_PROTOCOL_H */
