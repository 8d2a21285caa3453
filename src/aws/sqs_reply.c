/*-------------------------------------------------------------------------
 *
 * sqs_reply.c
 *	  Reads SQS's replies in AWS JSON 1.0.
 *
 * A reply comes from the network and is not trusted.  Wrong types, absent and
 * unknown members, nesting and truncation end in an error or are passed over,
 * never in a crash; test/fuzz feeds these functions.  What SQS leaves out,
 * sends as null or as an empty array means the same thing here, and members
 * that it adds one day are ignored.  A member that comes twice is not an error;
 * nobody may rely on which of the two counts.
 *
 * Replies are parsed in place.  Slices point into the buffer and are followed
 * by a NUL, but may hold others: JSON has \u0000, and whoever answers may use
 * it where SQS never would.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "aws/digest.h"
#include "aws/json.h"
#include "aws/sqs_protocol.h"

static SqsSlice
current_slice(const JsonReader *reader)
{
	SqsSlice	slice = {reader->text, reader->len};

	return slice;
}

/*
 * Step to the next key of an object; false at its end or at an error, which
 * reader->token tells apart.
 */
static bool
next_key(JsonReader *reader)
{
	return json_next(reader) == JSON_KEY;
}

/* Pass over the value of the current key; false if it is not JSON. */
static bool
skip_value(JsonReader *reader)
{
	(void) json_next(reader);
	return json_skip(reader);
}

/*
 * The value of the current key, if it is a string; any other is passed over,
 * and *slice is left alone.  False if it is not JSON.
 */
static bool
string_value(JsonReader *reader, SqsSlice *slice)
{
	if (json_next(reader) == JSON_STRING)
	{
		*slice = current_slice(reader);
		return true;
	}
	return json_skip(reader);
}

static bool
slice_is(SqsSlice slice, const char *text)
{
	return slice.data != NULL && slice.len == strlen(text) &&
		memcmp(slice.data, text, slice.len) == 0;
}

/* A number of 1 to 18 digits, so that it cannot overflow; no sign. */
static bool
slice_int64(SqsSlice slice, int64 *value)
{
	int64		n = 0;

	if (slice.data == NULL || slice.len < 1 || slice.len > 18)
		return false;
	for (size_t i = 0; i < slice.len; i++)
	{
		if (slice.data[i] < '0' || slice.data[i] > '9')
			return false;
		n = n * 10 + (slice.data[i] - '0');
	}
	*value = n;
	return true;
}

/* Begin a reply, whose top level has to be an object. */
static bool
begin_reply(JsonReader *reader, char *data, size_t len)
{
	json_reader_init(reader, data, len);
	return json_next(reader) == JSON_OBJECT;
}

/* Nothing may follow it. */
static bool
end_reply(JsonReader *reader)
{
	return reader->token == JSON_OBJECT_END && json_next(reader) == JSON_END;
}

bool
sqs_parse_queue_url(char *data, size_t len, SqsSlice *url)
{
	JsonReader	reader;

	url->data = NULL;
	url->len = 0;
	if (!begin_reply(&reader, data, len))
		return false;
	while (next_key(&reader))
	{
		if (json_is(&reader, "QueueUrl"))
		{
			if (!string_value(&reader, url))
				return false;
		}
		else if (!skip_value(&reader))
			return false;
	}
	return end_reply(&reader) && url->data != NULL &&
		strlen(url->data) == url->len;
}

/* maxReceiveCount of a redrive policy, which is JSON in a string. */
static int
redrive_limit(SqsSlice policy)
{
	JsonReader	reader;
	int64		limit = -1;

	if (policy.len == 0)
		return 0;
	json_reader_init(&reader, unconstify(char *, policy.data), policy.len);
	if (json_next(&reader) != JSON_OBJECT)
		return -1;
	while (next_key(&reader))
	{
		bool		ours = json_is(&reader, "maxReceiveCount");
		JsonToken	value = json_next(&reader);

		if (ours && (value == JSON_STRING || value == JSON_NUMBER))
			(void) slice_int64(current_slice(&reader), &limit);
		else if (!json_skip(&reader))
			return -1;
	}
	return limit >= 1 && limit <= PG_INT32_MAX ? (int) limit : -1;
}

/* A value that makes no sense counts as unknown. */
bool
sqs_parse_queue_attributes(char *data, size_t len, SqsQueueAttributes *attributes)
{
	JsonReader	reader;

	memset(attributes, 0, sizeof(*attributes));
	attributes->visibility_timeout = -1;
	attributes->maximum_message_size = -1;
	attributes->receive_wait_time = -1;
	attributes->approximate_messages = -1;
	attributes->retention = -1;

	/* an empty body is SQS's way to answer with no attributes */
	if (len == 0)
		return true;
	if (!begin_reply(&reader, data, len))
		return false;
	while (next_key(&reader))
	{
		bool		ours = json_is(&reader, "Attributes");

		if (json_next(&reader) != JSON_OBJECT || !ours)
		{
			if (!json_skip(&reader))
				return false;
			continue;
		}
		while (next_key(&reader))
		{
			SqsSlice	name = current_slice(&reader);
			SqsSlice	value = {NULL, 0};
			int64		number = 0;
			bool		is_number;

			if (!string_value(&reader, &value))
				return false;
			is_number = slice_int64(value, &number) && number <= PG_INT32_MAX;
			if (slice_is(name, "VisibilityTimeout") && is_number &&
				number <= SQS_MAX_VISIBILITY)
				attributes->visibility_timeout = (int) number;
			else if (slice_is(name, "MaximumMessageSize") && is_number)
				attributes->maximum_message_size = (int) number;
			else if (slice_is(name, "ReceiveMessageWaitTimeSeconds") && is_number)
				attributes->receive_wait_time = (int) number;
			else if (slice_is(name, "ApproximateNumberOfMessages") && is_number)
				attributes->approximate_messages = number;
			else if (slice_is(name, "MessageRetentionPeriod") && is_number)
				attributes->retention = (int) number;
			else if (slice_is(name, "FifoQueue"))
				attributes->fifo = slice_is(value, "true");
			else if (slice_is(name, "RedrivePolicy"))
				attributes->max_receives = redrive_limit(value);
		}
		if (reader.token != JSON_OBJECT_END)
			return false;
	}
	return end_reply(&reader);
}

/*
 * Standard base64 (RFC 4648, section 4), in place; false if it is not.
 *
 * Not pg_b64_decode(): it also takes blanks and what follows the padding
 * ("AA=A"), zeroes its output when it fails, and does not promise to work in
 * place.
 */
static bool
decode_base64(SqsSlice *slice)
{
	const unsigned char *in = (const unsigned char *) slice->data;
	char	   *out = unconstify(char *, slice->data);
	size_t		len = slice->len;
	uint32		bits = 0;
	int			nbits = 0;

	if (len % 4 != 0)
		return false;
	while (len > 0 && in[len - 1] == '=' && slice->len - len < 2)
		len--;
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = in[i];
		uint32		v;

		if (c >= 'A' && c <= 'Z')
			v = c - 'A';
		else if (c >= 'a' && c <= 'z')
			v = c - 'a' + 26;
		else if (c >= '0' && c <= '9')
			v = c - '0' + 52;
		else if (c == '+')
			v = 62;
		else if (c == '/')
			v = 63;
		else
			return false;
		bits = (bits << 6) | v;
		nbits += 6;
		if (nbits >= 8)
		{
			nbits -= 8;
			*out++ = (char) (bits >> nbits);
			bits &= (1u << nbits) - 1;
		}
	}
	*out = '\0';				/* there was a quote, or a character more */
	slice->len = out - slice->data;
	return true;
}

/*
 * Behind the opening brace of MessageAttributes.  An attribute that cannot be
 * used sets message->damage, and still has a name, a type and a value that are
 * not NULL.  False if this is not JSON.
 */
static bool
parse_attributes(JsonReader *reader, SqsReceivedMessage *message)
{
	while (next_key(reader))
	{
		SqsAttribute scratch;
		SqsAttribute *attribute = &scratch;
		SqsSlice	string = {NULL, 0};
		SqsSlice	binary = {NULL, 0};

		if (message->nattributes < SQS_PARSE_MAX_ATTRIBUTES)
			attribute = &message->attributes[message->nattributes++];
		else
			message->damage = "it has too many attributes";
		memset(attribute, 0, sizeof(*attribute));
		attribute->name = current_slice(reader);

		if (json_next(reader) != JSON_OBJECT)
		{
			message->damage = "an attribute is malformed";
			if (!json_skip(reader))
				return false;
			continue;
		}
		while (next_key(reader))
		{
			bool		ok;

			if (json_is(reader, "DataType"))
				ok = string_value(reader, &attribute->data_type);
			else if (json_is(reader, "StringValue"))
				ok = string_value(reader, &string);
			else if (json_is(reader, "BinaryValue"))
				ok = string_value(reader, &binary);
			else
				ok = skip_value(reader);
			if (!ok)
				return false;
		}
		if (reader->token != JSON_OBJECT_END)
			return false;

		attribute->binary = attribute->data_type.len >= 6 &&
			memcmp(attribute->data_type.data, "Binary", 6) == 0;
		attribute->value = attribute->binary ? binary : string;
		if (attribute->data_type.data == NULL || attribute->value.data == NULL)
		{
			message->damage = "an attribute has no type or no value";
			if (attribute->data_type.data == NULL)
				attribute->data_type.data = "";
			if (attribute->value.data == NULL)
				attribute->value.data = "";
		}
		else if (attribute->binary && !decode_base64(&attribute->value))
			message->damage = "a Binary attribute is not base64";
	}
	return reader->token == JSON_OBJECT_END;
}

/*
 * Behind the opening brace of Attributes.  All of them are kept as they are;
 * some are also read.  A number that makes no sense counts as absent.  Times
 * have 13 digits until the year 2286; 15 fit a timestamptz.
 */
static bool
parse_system_attributes(JsonReader *reader, SqsReceivedMessage *message)
{
	while (next_key(reader))
	{
		SqsSlice	name = current_slice(reader);
		SqsSlice	value = {NULL, 0};
		int64		number;

		if (!string_value(reader, &value))
			return false;
		if (value.data == NULL)
			continue;
		if (message->nsystem == SQS_PARSE_MAX_SYSTEM_ATTRIBUTES)
		{
			message->damage = "it has too many system attributes";
			continue;
		}
		message->system[message->nsystem].name = name;
		message->system[message->nsystem++].value = value;

		if (slice_is(name, "ApproximateReceiveCount") && slice_int64(value, &number))
			message->receive_count = (int) Min(number, PG_INT32_MAX);
		else if (slice_is(name, "SentTimestamp") && value.len <= 15 && slice_int64(value, &number))
			message->sent_ms = number;
		else if (slice_is(name, "ApproximateFirstReceiveTimestamp") && value.len <= 15 &&
				 slice_int64(value, &number))
			message->first_received_ms = number;
		else if (slice_is(name, "MessageGroupId"))
			message->group_id = value;
		else if (slice_is(name, "MessageDeduplicationId"))
			message->deduplication_id = value;
		else if (slice_is(name, "SequenceNumber"))
			message->sequence_number = value;
	}
	return reader->token == JSON_OBJECT_END;
}

/*
 * Behind the opening brace of a message.  False if this is not JSON, or has no
 * message id or receipt handle; anything else that is wrong with the message
 * goes to message->damage and leaves its neighbors alone.
 *
 * By the SQS developer guide ("queue and message identifiers") a message id has
 * at most 100 characters and a receipt handle 1,024; other implementations of
 * SQS may have longer handles.
 */
static bool
parse_message(JsonReader *reader, SqsReceivedMessage *message)
{
	SqsSlice	attributes_md5 = {NULL, 0};
	char		hex[33];

	memset(message, 0, offsetof(SqsReceivedMessage, attributes));
	message->nsystem = 0;
	message->damage = NULL;

	while (next_key(reader))
	{
		bool		ok;

		if (json_is(reader, "MessageId"))
			ok = string_value(reader, &message->message_id);
		else if (json_is(reader, "ReceiptHandle"))
			ok = string_value(reader, &message->receipt_handle);
		else if (json_is(reader, "Body"))
			ok = string_value(reader, &message->body);
		else if (json_is(reader, "MD5OfBody"))
			ok = string_value(reader, &message->body_md5);
		else if (json_is(reader, "MD5OfMessageAttributes"))
			ok = string_value(reader, &attributes_md5);
		else if (json_is(reader, "MessageAttributes"))
			ok = json_next(reader) == JSON_OBJECT ?
				parse_attributes(reader, message) : json_skip(reader);
		else if (json_is(reader, "Attributes"))
			ok = json_next(reader) == JSON_OBJECT ?
				parse_system_attributes(reader, message) : json_skip(reader);
		else
			ok = skip_value(reader);
		if (!ok)
			return false;
	}
	if (reader->token != JSON_OBJECT_END)
		return false;

	/* without these the message can be neither handled nor given back */
	if (message->message_id.len < 1 || message->message_id.len > 100 ||
		message->receipt_handle.len < 1 || message->receipt_handle.len > 4096)
		return false;

	if (message->damage == NULL)
	{
		if (message->body.data == NULL)
			message->damage = "it has no body";
		else if (attributes_md5.data != NULL && message->nattributes > 0 &&
				 sqs_attributes_md5(message->attributes, message->nattributes, hex) &&
				 !slice_is(attributes_md5, hex))
			message->damage = "the MD5 of its attributes does not match";
	}
	return true;
}

const char *
sqs_message_damage(const SqsReceivedMessage *message)
{
	char		hex[33];

	if (message->damage == NULL && message->body_md5.data != NULL &&
		sqs_body_md5(message->body.data, message->body.len, hex) &&
		!slice_is(message->body_md5, hex))
		return "the MD5 of its body does not match";
	return message->damage;
}

/*
 * The array has room for SQS_MAX_BATCH messages, the most that one receive can
 * ask for; a reply with more is garbage.
 */
bool
sqs_parse_receive(char *data, size_t len, SqsReceivedMessage **messages, int *nmessages)
{
	JsonReader	reader;
	SqsReceivedMessage *found = NULL;
	int			n = 0;

	*messages = NULL;
	*nmessages = 0;
	if (len == 0)
		return true;
	if (!begin_reply(&reader, data, len))
		return false;
	while (next_key(&reader))
	{
		bool		ours = json_is(&reader, "Messages");

		if (json_next(&reader) != JSON_ARRAY || !ours || found != NULL)
		{
			if (!json_skip(&reader))
				goto garbage;
			continue;
		}
		found = malloc(sizeof(SqsReceivedMessage) * SQS_MAX_BATCH);
		if (found == NULL)
			return false;
		while (json_next(&reader) == JSON_OBJECT)
		{
			if (n == SQS_MAX_BATCH || !parse_message(&reader, &found[n]))
				goto garbage;
			n++;
		}
		if (reader.token != JSON_ARRAY_END)
			goto garbage;
	}
	if (!end_reply(&reader))
		goto garbage;
	if (n == 0)
	{
		free(found);
		found = NULL;
	}
	*messages = found;
	*nmessages = n;
	return true;

garbage:
	free(found);
	return false;
}

/* Copy a text for people: what fits, in printable ASCII. */
static void
copy_clipped(char *dst, size_t size, SqsSlice src)
{
	size_t		n = src.data != NULL ? Min(src.len, size - 1) : 0;

	if (n > 0)
		memcpy(dst, src.data, n);
	dst[n] = '\0';
	aws_text_sanitize(dst);
}

/* What a reply tells of one message that was sent.  Absent: data is NULL. */
typedef struct SentMembers
{
	SqsSlice	message_id;
	SqsSlice	sequence_number;
	SqsSlice	body_md5;
	SqsSlice	attributes_md5;
} SentMembers;

/*
 * If the current key is one of these, read its value and return true; *ok then
 * tells whether that was JSON.
 */
static bool
sent_member(JsonReader *reader, SentMembers *sent, bool *ok)
{
	SqsSlice   *slice;

	if (json_is(reader, "MessageId"))
		slice = &sent->message_id;
	else if (json_is(reader, "SequenceNumber"))
		slice = &sent->sequence_number;
	else if (json_is(reader, "MD5OfMessageBody"))
		slice = &sent->body_md5;
	else if (json_is(reader, "MD5OfMessageAttributes"))
		slice = &sent->attributes_md5;
	else
		return false;
	*ok = string_value(reader, slice);
	return true;
}

/*
 * SQS says that it has the message.  Is it the one that was meant?  A digest
 * that either side lacks cannot tell, and is taken for equal.
 */
static void
confirm_sent(const SentMembers *sent, const SqsDigests *digests, SqsBatchEntry *entry)
{
	bool		same;

	copy_clipped(entry->message_id, sizeof(entry->message_id), sent->message_id);
	copy_clipped(entry->sequence_number, sizeof(entry->sequence_number),
				 sent->sequence_number);

	same = sent->body_md5.data == NULL || digests->body[0] == '\0' ||
		slice_is(sent->body_md5, digests->body);
	if (sent->attributes_md5.data != NULL && digests->attributes[0] != '\0')
		same = same && slice_is(sent->attributes_md5, digests->attributes);
	if (same)
	{
		entry->ok = true;
		entry->class = AWS_ERROR_NONE;
		entry->may_be_done = false;
		entry->code[0] = '\0';
		entry->message[0] = '\0';
		return;
	}
	entry->class = AWS_ERROR_TRANSIENT;
	entry->may_be_done = true;
	strlcpy(entry->code, "ChecksumMismatch", sizeof(entry->code));
	strlcpy(entry->message, "the MD5 that SQS confirms is not that of the message sent",
			sizeof(entry->message));
}

/* Nothing is known of this entry: it may have been done. */
static void
no_result(SqsBatchEntry *entry, const char *why)
{
	memset(entry, 0, sizeof(*entry));
	entry->class = AWS_ERROR_TRANSIENT;
	entry->may_be_done = true;
	strlcpy(entry->code, "NoResult", sizeof(entry->code));
	strlcpy(entry->message, why, sizeof(entry->message));
}

bool
sqs_parse_send(char *data, size_t len, const SqsDigests *digests, SqsBatchEntry *entry)
{
	JsonReader	reader;
	SentMembers sent;

	no_result(entry, "the reply does not name the message");
	memset(&sent, 0, sizeof(sent));
	if (!begin_reply(&reader, data, len))
		return false;
	while (next_key(&reader))
	{
		bool		ok;

		if (!sent_member(&reader, &sent, &ok))
			ok = skip_value(&reader);
		if (!ok)
			return false;
	}

	/* an id that begins with a NUL is none */
	if (!end_reply(&reader) || sent.message_id.len == 0 || sent.message_id.data[0] == '\0')
		return false;
	confirm_sent(&sent, digests, entry);
	return true;
}

/*
 * Behind the opening brace of an entry of Successful or Failed.  *position is
 * -1 if its id is not one of ours; *entry is set otherwise.  False if this is
 * not JSON.
 */
static bool
parse_entry(JsonReader *reader, bool successful, int nentries,
			const SqsDigests *digests, int64 *position, SqsBatchEntry *entry)
{
	SqsSlice	id = {NULL, 0};
	SqsSlice	code = {NULL, 0};
	SqsSlice	message = {NULL, 0};
	SentMembers sent;
	bool		sender_fault = false;

	memset(&sent, 0, sizeof(sent));
	while (next_key(reader))
	{
		bool		ok;

		if (json_is(reader, "Id"))
			ok = string_value(reader, &id);
		else if (json_is(reader, "Code"))
			ok = string_value(reader, &code);
		else if (json_is(reader, "Message"))
			ok = string_value(reader, &message);
		else if (json_is(reader, "SenderFault"))
		{
			sender_fault = json_next(reader) == JSON_TRUE;
			ok = json_skip(reader);
		}
		else if (!sent_member(reader, &sent, &ok))
			ok = skip_value(reader);
		if (!ok)
			return false;
	}
	if (reader->token != JSON_OBJECT_END)
		return false;

	if (!slice_int64(id, position) || *position >= nentries)
	{
		*position = -1;
		return true;
	}
	memset(entry, 0, sizeof(*entry));
	if (successful && digests != NULL)
		confirm_sent(&sent, &digests[*position], entry);
	else if (successful)
		entry->ok = true;
	else
	{
		entry->sender_fault = sender_fault;
		copy_clipped(entry->code, sizeof(entry->code), code);
		copy_clipped(entry->message, sizeof(entry->message), message);
		if (entry->message[0] == '\0')	/* it is optional */
			strlcpy(entry->message, "SQS gives no reason", sizeof(entry->message));
		entry->class = aws_error_classify(entry->code, NULL,
										  sender_fault ? AWS_FAULT_SENDER : AWS_FAULT_RECEIVER,
										  0, entry->message);
	}
	return true;
}

/*
 * Entries are results by their ids, which are positions; what has another id
 * is passed over.
 */
bool
sqs_parse_batch(char *data, size_t len, int nentries, const SqsDigests *digests,
				SqsBatchEntry *entries)
{
	JsonReader	reader;
	bool		mentioned[SQS_MAX_BATCH] = {false};

	Assert(nentries <= SQS_MAX_BATCH);
	for (int i = 0; i < nentries; i++)
		no_result(&entries[i], "the reply does not mention this entry");
	if (!begin_reply(&reader, data, len))
		return false;
	while (next_key(&reader))
	{
		bool		successful = json_is(&reader, "Successful");
		bool		failed = json_is(&reader, "Failed");

		if (json_next(&reader) != JSON_ARRAY || !(successful || failed))
		{
			if (!json_skip(&reader))
				return false;
			continue;
		}
		while (json_next(&reader) == JSON_OBJECT)
		{
			SqsBatchEntry told;
			int64		position;

			if (!parse_entry(&reader, successful, nentries, digests, &position, &told))
				return false;
			if (position < 0)
				continue;

			/*
			 * Twice a success is one.  Of anything else that is told twice
			 * nothing is known: to believe a success might lose a message, to
			 * believe a failure might give up one that was sent.
			 */
			if (!mentioned[position] || (entries[position].ok && told.ok))
				entries[position] = told;
			else
				no_result(&entries[position],
						  "the reply contradicts itself about this entry");
			mentioned[position] = true;
		}
		if (reader.token != JSON_ARRAY_END)
			return false;
	}
	return end_reply(&reader);
}

/* "com.amazonaws.sqs#QueueDoesNotExist:http://..." -> QueueDoesNotExist */
static void
bare_code(char *code)
{
	char	   *hash = strrchr(code, '#');
	char	   *colon;

	if (hash != NULL)
		memmove(code, hash + 1, strlen(hash + 1) + 1);
	if ((colon = strchr(code, ':')) != NULL)
		*colon = '\0';
}

/*
 * SQS names an error in the body's __type, in x-amzn-errortype (error_type) and
 * as "code;Sender" or "code;Receiver" in x-amzn-query-error (query_error).  A
 * proxy or load balancer names none of them.
 */
void
sqs_parse_error(char *data, size_t len, int http_status, const char *query_error,
				const char *error_type, AwsError *error)
{
	JsonReader	reader;
	SqsSlice	type = {NULL, 0};
	SqsSlice	message = {NULL, 0};
	char		query_code[sizeof(error->code)] = "";
	AwsFault	fault = AWS_FAULT_UNKNOWN;

	memset(error, 0, sizeof(*error));
	error->http_status = http_status;

	if (begin_reply(&reader, data, len))
	{
		while (next_key(&reader))
		{
			bool		ok;

			if (json_is(&reader, "__type"))
				ok = string_value(&reader, &type);
			else if (json_is(&reader, "message") || json_is(&reader, "Message"))
				ok = string_value(&reader, &message);
			else
				ok = skip_value(&reader);
			if (!ok)
				break;
		}
		copy_clipped(error->code, sizeof(error->code), type);
		copy_clipped(error->message, sizeof(error->message), message);
		bare_code(error->code);
	}
	if (error->code[0] == '\0' && error_type != NULL && error_type[0] != '\0')
	{
		strlcpy(error->code, error_type, sizeof(error->code));
		aws_text_sanitize(error->code);
		bare_code(error->code);
	}
	if (query_error != NULL)
	{
		const char *blamed = strchr(query_error, ';');

		strlcpy(query_code, query_error, sizeof(query_code));
		aws_text_sanitize(query_code);
		query_code[strcspn(query_code, ";")] = '\0';
		if (blamed != NULL && strcmp(blamed, ";Sender") == 0)
			fault = AWS_FAULT_SENDER;
		else if (blamed != NULL && strcmp(blamed, ";Receiver") == 0)
			fault = AWS_FAULT_RECEIVER;
	}
	if (error->code[0] == '\0')
		strlcpy(error->code, query_code, sizeof(error->code));
	if (error->code[0] == '\0')
		snprintf(error->code, sizeof(error->code), "Http%d", http_status);
	if (error->message[0] == '\0')
		snprintf(error->message, sizeof(error->message),
				 "HTTP status %d without a message", http_status);
	error->class = aws_error_classify(error->code, query_code, fault, http_status,
									  error->message);
}
