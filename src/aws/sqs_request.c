/*-------------------------------------------------------------------------
 *
 * sqs_request.c
 *	  Encodes SQS's requests in AWS JSON 1.0.
 *
 * Nothing is checked here: that a message keeps SQS's limits is for whoever
 * makes it, and what SQS refuses it refuses by name.  Running out of memory
 * shows in the writer, at the end.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "common/base64.h"

#include "aws/digest.h"
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

void
sqs_encode_get_queue_url(JsonWriter *writer, const char *queue_name, const char *account)
{
	json_raw(writer, "{\"QueueName\":");
	json_string(writer, queue_name, strlen(queue_name));
	if (account != NULL)
	{
		json_raw(writer, ",\"QueueOwnerAWSAccountId\":");
		json_string(writer, account, strlen(account));
	}
	json_raw(writer, "}");
}

static void
encode_slice(JsonWriter *writer, SqsSlice slice)
{
	json_string(writer, slice.data, slice.len);
}

/* The first member of nearly every request; the caller closes the object. */
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

/* The Id of an entry is its position, by which replies are read. */
static void
begin_entry(JsonWriter *writer, int position)
{
	json_raw(writer, position > 0 ? ",{\"Id\":\"" : "{\"Id\":\"");
	json_int(writer, position);
	json_raw(writer, "\",");
}

void
sqs_encode_handles(JsonWriter *writer, const char *queue_url, int nentries,
				   const SqsSlice *receipt_handles, const int *visibility_timeouts)
{
	encode_queue_url(writer, queue_url);
	json_raw(writer, ",\"Entries\":[");
	for (int i = 0; i < nentries; i++)
	{
		begin_entry(writer, i);
		json_raw(writer, "\"ReceiptHandle\":");
		encode_slice(writer, receipt_handles[i]);
		if (visibility_timeouts != NULL)
		{
			json_raw(writer, ",\"VisibilityTimeout\":");
			json_int(writer, visibility_timeouts[i]);
		}
		json_raw(writer, "}");
	}
	json_raw(writer, "]}");
}

/* A Binary value, as base64.  Beside the writer the only memory taken here. */
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

/*
 * The members of a message, without braces.  What the caller left absent (a
 * slice without data, a delay below 0) is left out.
 */
static void
encode_outgoing(JsonWriter *writer, const SqsOutgoing *message)
{
	json_raw(writer, "\"MessageBody\":");
	encode_slice(writer, message->body);
	if (message->delay >= 0)
	{
		json_raw(writer, ",\"DelaySeconds\":");
		json_int(writer, message->delay);
	}
	if (message->group_id.data != NULL)
	{
		json_raw(writer, ",\"MessageGroupId\":");
		encode_slice(writer, message->group_id);
	}
	if (message->deduplication_id.data != NULL)
	{
		json_raw(writer, ",\"MessageDeduplicationId\":");
		encode_slice(writer, message->deduplication_id);
	}
	if (message->trace_header.data != NULL)
	{
		json_raw(writer, ",\"MessageSystemAttributes\":{\"AWSTraceHeader\":"
				 "{\"DataType\":\"String\",\"StringValue\":");
		encode_slice(writer, message->trace_header);
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
			encode_slice(writer, attribute->name);
			json_raw(writer, ":{\"DataType\":");
			encode_slice(writer, attribute->data_type);
			if (attribute->binary)
			{
				json_raw(writer, ",\"BinaryValue\":");
				encode_bytes(writer, attribute->value);
			}
			else
			{
				json_raw(writer, ",\"StringValue\":");
				encode_slice(writer, attribute->value);
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
		begin_entry(writer, i);
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
