/*-------------------------------------------------------------------------
 *
 * sqs_protocol.c
 *	  SQS's requests and replies in AWS JSON 1.0: encoding and parsing.
 *
 * See sqs_protocol.h.  What SQS leaves out, sends as null or as an empty
 * array means the same thing here; members it adds one day are ignored.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "common/base64.h"
#include "common/cryptohash.h"
#include "common/md5.h"

#include "aws/json.h"
#include "aws/sqs_protocol.h"

const char *
sqs_action_name(SqsAction action)
{
	static const char *const names[] = {
		"GetQueueUrl", "GetQueueAttributes", "ReceiveMessage",
		"DeleteMessageBatch", "ChangeMessageVisibilityBatch",
		"SendMessage", "SendMessageBatch"
	};

	return names[action];
}

/* ---- requests ---- */

void
sqs_encode_get_queue_url(JsonWriter *writer, const char *queue_name)
{
	json_raw(writer, "{\"QueueName\":");
	json_string(writer, queue_name, strlen(queue_name));
	json_raw(writer, "}");
}

static void
encode_queue_url(JsonWriter *writer, const char *queue_url)
{
	json_raw(writer, "{\"QueueUrl\":");
	json_string(writer, queue_url, strlen(queue_url));
}

void
sqs_encode_get_queue_attributes(JsonWriter *writer, const char *queue_url)
{
	encode_queue_url(writer, queue_url);
	json_raw(writer, ",\"AttributeNames\":[\"All\"]}");
}

void
sqs_encode_receive(JsonWriter *writer, const char *queue_url, int max_messages,
				   int wait_seconds, int visibility_timeout,
				   const char *attempt_id)
{
	encode_queue_url(writer, queue_url);
	if (attempt_id != NULL)
	{
		json_raw(writer, ",\"ReceiveRequestAttemptId\":");
		json_string(writer, attempt_id, strlen(attempt_id));
	}
	json_raw(writer, ",\"MaxNumberOfMessages\":");
	json_int(writer, max_messages);
	json_raw(writer, ",\"WaitTimeSeconds\":");
	json_int(writer, wait_seconds);
	if (visibility_timeout >= 0)
	{
		json_raw(writer, ",\"VisibilityTimeout\":");
		json_int(writer, visibility_timeout);
	}
	json_raw(writer, ",\"MessageAttributeNames\":[\"All\"],"
			 "\"MessageSystemAttributeNames\":[\"All\"]}");
}

void
sqs_encode_handles(JsonWriter *writer, const char *queue_url, int nentries,
				   const SqsSlice *receipt_handles, const int *visibility_timeouts)
{
	encode_queue_url(writer, queue_url);
	json_raw(writer, ",\"Entries\":[");
	for (int i = 0; i < nentries; i++)
	{
		json_raw(writer, i > 0 ? ",{\"Id\":\"" : "{\"Id\":\"");
		json_int(writer, i);
		json_raw(writer, "\",\"ReceiptHandle\":");
		json_string(writer, receipt_handles[i].data, receipt_handles[i].len);
		if (visibility_timeouts != NULL)
		{
			json_raw(writer, ",\"VisibilityTimeout\":");
			json_int(writer, visibility_timeouts[i]);
		}
		json_raw(writer, "}");
	}
	json_raw(writer, "]}");
}

/* A Binary value, as base64. */
static void
encode_bytes(JsonWriter *writer, SqsSlice value)
{
	int			size = pg_b64_enc_len(value.len) + 1;
	char	   *encoded = malloc(size);
	int			len = -1;

	/* void: from 18 on the bytes are uint8 */
	if (encoded != NULL)
		len = pg_b64_encode((const void *) value.data, value.len, encoded, size);
	if (len < 0)
		writer->failed = true;
	else
	{
		json_raw(writer, "\"");
		json_raw_n(writer, encoded, len);
		json_raw(writer, "\"");
	}
	free(encoded);
}

/* The members of a message, without braces. */
static void
encode_outgoing(JsonWriter *writer, const SqsOutgoing *message)
{
	json_raw(writer, "\"MessageBody\":");
	json_string(writer, message->body.data, message->body.len);
	if (message->delay >= 0)
	{
		json_raw(writer, ",\"DelaySeconds\":");
		json_int(writer, message->delay);
	}
	if (message->group_id.data != NULL)
	{
		json_raw(writer, ",\"MessageGroupId\":");
		json_string(writer, message->group_id.data, message->group_id.len);
	}
	if (message->deduplication_id.data != NULL)
	{
		json_raw(writer, ",\"MessageDeduplicationId\":");
		json_string(writer, message->deduplication_id.data, message->deduplication_id.len);
	}
	if (message->trace_header.data != NULL)
	{
		json_raw(writer, ",\"MessageSystemAttributes\":{\"AWSTraceHeader\":"
				 "{\"DataType\":\"String\",\"StringValue\":");
		json_string(writer, message->trace_header.data, message->trace_header.len);
		json_raw(writer, "}}");
	}
	if (message->nattributes > 0)
	{
		json_raw(writer, ",\"MessageAttributes\":{");
		for (int i = 0; i < message->nattributes; i++)
		{
			const SqsAttribute *attribute = &message->attributes[i];

			if (i > 0)
				json_raw(writer, ",");
			json_string(writer, attribute->name.data, attribute->name.len);
			json_raw(writer, ":{\"DataType\":");
			json_string(writer, attribute->data_type.data, attribute->data_type.len);
			if (attribute->binary)
			{
				json_raw(writer, ",\"BinaryValue\":");
				encode_bytes(writer, attribute->value);
			}
			else
			{
				json_raw(writer, ",\"StringValue\":");
				json_string(writer, attribute->value.data, attribute->value.len);
			}
			json_raw(writer, "}");
		}
		json_raw(writer, "}");
	}
}

void
sqs_encode_send(JsonWriter *writer, const char *queue_url, const SqsOutgoing *message)
{
	encode_queue_url(writer, queue_url);
	json_raw(writer, ",");
	encode_outgoing(writer, message);
	json_raw(writer, "}");
}

void
sqs_encode_send_batch(JsonWriter *writer, const char *queue_url, int nentries,
					  const SqsOutgoing *const *messages)
{
	encode_queue_url(writer, queue_url);
	json_raw(writer, ",\"Entries\":[");
	for (int i = 0; i < nentries; i++)
	{
		json_raw(writer, i > 0 ? ",{\"Id\":\"" : "{\"Id\":\"");
		json_int(writer, i);
		json_raw(writer, "\",");
		encode_outgoing(writer, messages[i]);
		json_raw(writer, "}");
	}
	json_raw(writer, "]}");
}

size_t
sqs_outgoing_size(const SqsOutgoing *message)
{
	size_t		size = message->body.len;

	for (int i = 0; i < message->nattributes; i++)
		size += message->attributes[i].name.len +
			message->attributes[i].data_type.len +
			message->attributes[i].value.len;
	return size;
}

void
sqs_outgoing_digests(const SqsOutgoing *message, SqsDigests *digests)
{
	if (!sqs_body_md5(message->body.data, message->body.len, digests->body))
		digests->body[0] = '\0';
	if (message->nattributes == 0 ||
		!sqs_attributes_md5(message->attributes, message->nattributes, digests->attributes))
		digests->attributes[0] = '\0';
}

/* ---- MD5 ---- */

static void
digest_to_hex(const uint8 *digest, char *hex)
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < MD5_DIGEST_LENGTH; i++)
	{
		hex[2 * i] = digits[digest[i] >> 4];
		hex[2 * i + 1] = digits[digest[i] & 15];
	}
	hex[32] = '\0';
}

bool
sqs_body_md5(const char *data, size_t len, char hex[33])
{
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_MD5);
	uint8		digest[MD5_DIGEST_LENGTH];
	bool		ok;

	if (ctx == NULL)
		return false;
	ok = pg_cryptohash_init(ctx) >= 0 &&
		pg_cryptohash_update(ctx, (const uint8 *) data, len) >= 0 &&
		pg_cryptohash_final(ctx, digest, sizeof(digest)) >= 0;
	pg_cryptohash_free(ctx);
	if (ok)
		digest_to_hex(digest, hex);
	return ok;
}

static bool
md5_sized(pg_cryptohash_ctx *ctx, SqsSlice slice)
{
	uint8		be[4];

	be[0] = (uint8) (slice.len >> 24);
	be[1] = (uint8) (slice.len >> 16);
	be[2] = (uint8) (slice.len >> 8);
	be[3] = (uint8) slice.len;
	return pg_cryptohash_update(ctx, be, 4) >= 0 &&
		(slice.len == 0 ||
		 pg_cryptohash_update(ctx, (const uint8 *) slice.data, slice.len) >= 0);
}

static int
compare_slices(SqsSlice a, SqsSlice b)
{
	int			cmp = memcmp(a.data, b.data, Min(a.len, b.len));

	return cmp != 0 ? cmp : a.len < b.len ? -1 : a.len > b.len ? 1 : 0;
}

bool
sqs_attributes_md5(const SqsAttribute *attributes, int nattributes, char hex[33])
{
	const SqsAttribute *sorted[SQS_PARSE_MAX_ATTRIBUTES];
	pg_cryptohash_ctx *ctx;
	uint8		digest[MD5_DIGEST_LENGTH];
	bool		ok;

	if (nattributes > SQS_PARSE_MAX_ATTRIBUTES)
		return false;
	for (int i = 0; i < nattributes; i++)
	{
		int			j = i;

		for (; j > 0 && compare_slices(sorted[j - 1]->name, attributes[i].name) > 0; j--)
			sorted[j] = sorted[j - 1];
		sorted[j] = &attributes[i];
	}

	ctx = pg_cryptohash_create(PG_MD5);
	if (ctx == NULL)
		return false;
	ok = pg_cryptohash_init(ctx) >= 0;
	for (int i = 0; i < nattributes && ok; i++)
	{
		uint8		kind = sorted[i]->binary ? 2 : 1;

		ok = md5_sized(ctx, sorted[i]->name) &&
			md5_sized(ctx, sorted[i]->data_type) &&
			pg_cryptohash_update(ctx, &kind, 1) >= 0 &&
			md5_sized(ctx, sorted[i]->value);
	}
	ok = ok && pg_cryptohash_final(ctx, digest, sizeof(digest)) >= 0;
	pg_cryptohash_free(ctx);
	if (ok)
		digest_to_hex(digest, hex);
	return ok;
}

/* ---- replies ---- */

static SqsSlice
current_slice(const JsonReader *reader)
{
	SqsSlice	slice = {reader->text, reader->len};

	return slice;
}

/* Step to the next key of an object; false at its end or at an error. */
static bool
next_key(JsonReader *reader)
{
	return json_next(reader) == JSON_KEY;
}

/* The value of the current key as a string, if it is one; else skipped. */
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
		else if (json_next(&reader) == JSON_ERROR || !json_skip(&reader))
			return false;
	}
	return end_reply(&reader) && url->data != NULL &&
		strlen(url->data) == url->len;
}

bool
sqs_parse_queue_attributes(char *data, size_t len, SqsQueueAttributes *attributes)
{
	JsonReader	reader;

	memset(attributes, 0, sizeof(*attributes));
	attributes->visibility_timeout = -1;
	attributes->maximum_message_size = -1;
	attributes->receive_wait_time = -1;
	attributes->approximate_messages = -1;

	/* queues without attributes asked for answer with an empty body */
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
#define NAME_IS(s) (name.len == strlen(s) && memcmp(name.data, s, name.len) == 0)
			if (NAME_IS("VisibilityTimeout") && is_number)
				attributes->visibility_timeout = (int) number;
			else if (NAME_IS("MaximumMessageSize") && is_number)
				attributes->maximum_message_size = (int) number;
			else if (NAME_IS("ReceiveMessageWaitTimeSeconds") && is_number)
				attributes->receive_wait_time = (int) number;
			else if (NAME_IS("ApproximateNumberOfMessages") && is_number)
				attributes->approximate_messages = number;
			else if (NAME_IS("FifoQueue"))
				attributes->fifo = value.len == 4;
			else if (NAME_IS("RedrivePolicy"))
				attributes->has_redrive_policy = value.len > 0;
#undef NAME_IS
		}
		if (reader.token != JSON_OBJECT_END)
			return false;
	}
	return end_reply(&reader);
}

/* Standard base64, in place; false if it is not. */
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
				ok = json_next(reader) != JSON_ERROR && json_skip(reader);
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
				attribute->data_type = (SqsSlice) {"", 0};
			if (attribute->value.data == NULL)
				attribute->value = (SqsSlice) {"", 0};
		}
		else if (attribute->binary && !decode_base64(&attribute->value))
			message->damage = "a Binary attribute is not base64";
	}
	return reader->token == JSON_OBJECT_END;
}

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

#define NAME_IS(s) (name.len == strlen(s) && memcmp(name.data, s, name.len) == 0)
		if (NAME_IS("ApproximateReceiveCount") && slice_int64(value, &number))
			message->receive_count = (int) Min(number, PG_INT32_MAX);
		else if (NAME_IS("SentTimestamp") && value.len <= 15 && slice_int64(value, &number))
			message->sent_ms = number;
		else if (NAME_IS("ApproximateFirstReceiveTimestamp") && value.len <= 15 &&
				 slice_int64(value, &number))
			message->first_received_ms = number;
		else if (NAME_IS("MessageGroupId"))
			message->group_id = value;
		else if (NAME_IS("MessageDeduplicationId"))
			message->deduplication_id = value;
		else if (NAME_IS("SequenceNumber"))
			message->sequence_number = value;
#undef NAME_IS
	}
	return reader->token == JSON_OBJECT_END;
}

static bool
slice_is_hex(SqsSlice slice, const char *hex)
{
	return slice.len == 32 && memcmp(slice.data, hex, 32) == 0;
}

/* Behind the opening brace of a message. */
static bool
parse_message(JsonReader *reader, SqsReceivedMessage *message)
{
	SqsSlice	body_md5 = {NULL, 0};
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
			ok = string_value(reader, &body_md5);
		else if (json_is(reader, "MD5OfMessageAttributes"))
			ok = string_value(reader, &attributes_md5);
		else if (json_is(reader, "MessageAttributes"))
			ok = json_next(reader) == JSON_OBJECT ?
				parse_attributes(reader, message) : json_skip(reader);
		else if (json_is(reader, "Attributes"))
			ok = json_next(reader) == JSON_OBJECT ?
				parse_system_attributes(reader, message) : json_skip(reader);
		else
			ok = json_next(reader) != JSON_ERROR && json_skip(reader);
		if (!ok)
			return false;
	}
	if (reader->token != JSON_OBJECT_END)
		return false;

	/* without these it is no message that could be handled or given back */
	if (message->message_id.len < 1 || message->message_id.len > 100 ||
		message->receipt_handle.len < 1 || message->receipt_handle.len > 4096)
		return false;

	if (message->damage == NULL)
	{
		if (message->body.data == NULL)
			message->damage = "it has no body";
		else if (body_md5.data != NULL &&
				 sqs_body_md5(message->body.data, message->body.len, hex) &&
				 !slice_is_hex(body_md5, hex))
			message->damage = "the MD5 of its body does not match";
		else if (attributes_md5.data != NULL && message->nattributes > 0 &&
				 sqs_attributes_md5(message->attributes, message->nattributes, hex) &&
				 !slice_is_hex(attributes_md5, hex))
			message->damage = "the MD5 of its attributes does not match";
	}
	return true;
}

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

static void
copy_clipped(char *dst, size_t size, SqsSlice src)
{
	size_t		n = src.data != NULL ? Min(src.len, size - 1) : 0;

	if (n > 0)
		memcpy(dst, src.data, n);
	dst[n] = '\0';
	aws_text_sanitize(dst);
}

/* What a reply tells of one message that was sent. */
typedef struct SentMembers
{
	SqsSlice	message_id;
	SqsSlice	sequence_number;
	SqsSlice	body_md5;
	SqsSlice	attributes_md5;
} SentMembers;

/* Is the current key one of them?  *ok tells whether its value was JSON. */
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

/* SQS says it has the message: the one we meant? */
static void
confirm_sent(const SentMembers *sent, const SqsDigests *digests, SqsBatchEntry *entry)
{
	bool		same;

	copy_clipped(entry->message_id, sizeof(entry->message_id), sent->message_id);
	copy_clipped(entry->sequence_number, sizeof(entry->sequence_number),
				 sent->sequence_number);

	same = sent->body_md5.data == NULL || digests->body[0] == '\0' ||
		slice_is_hex(sent->body_md5, digests->body);
	if (sent->attributes_md5.data != NULL && digests->attributes[0] != '\0')
		same = same && slice_is_hex(sent->attributes_md5, digests->attributes);
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
			ok = json_next(&reader) != JSON_ERROR && json_skip(&reader);
		if (!ok)
			return false;
	}

	/* an id that begins with a NUL is none */
	if (!end_reply(&reader) || sent.message_id.len == 0 || sent.message_id.data[0] == '\0')
		return false;
	confirm_sent(&sent, digests, entry);
	return true;
}

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
			SqsSlice	id = {NULL, 0};
			SqsSlice	code = {NULL, 0};
			SqsSlice	message = {NULL, 0};
			SentMembers sent;
			SqsBatchEntry told;
			bool		sender_fault = false;
			int64		position;

			memset(&sent, 0, sizeof(sent));
			while (next_key(&reader))
			{
				bool		ok;

				if (json_is(&reader, "Id"))
					ok = string_value(&reader, &id);
				else if (json_is(&reader, "Code"))
					ok = string_value(&reader, &code);
				else if (json_is(&reader, "Message"))
					ok = string_value(&reader, &message);
				else if (json_is(&reader, "SenderFault"))
				{
					sender_fault = json_next(&reader) == JSON_TRUE;
					ok = json_skip(&reader);
				}
				else if (!sent_member(&reader, &sent, &ok))
					ok = json_next(&reader) != JSON_ERROR && json_skip(&reader);
				if (!ok)
					return false;
			}
			if (reader.token != JSON_OBJECT_END)
				return false;
			if (!slice_int64(id, &position) || position >= nentries)
				continue;

			memset(&told, 0, sizeof(told));
			if (successful && digests != NULL)
				confirm_sent(&sent, &digests[position], &told);
			else if (successful)
				told.ok = true;
			else
			{
				told.sender_fault = sender_fault;
				copy_clipped(told.code, sizeof(told.code), code);
				copy_clipped(told.message, sizeof(told.message), message);
				if (told.message[0] == '\0')	/* it is optional */
					strlcpy(told.message, "SQS gives no reason", sizeof(told.message));
				told.class = aws_error_classify(told.code, NULL,
												sender_fault ? AWS_FAULT_SENDER : AWS_FAULT_RECEIVER,
												0, told.message);
			}

			/*
			 * Twice a success is one.  Of anything else told twice nothing is
			 * known: to believe a success might lose a message, to believe a
			 * failure might give up one that was sent.
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
				ok = json_next(&reader) != JSON_ERROR && json_skip(&reader);
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
