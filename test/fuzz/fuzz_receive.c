/*-------------------------------------------------------------------------
 *
 * fuzz_receive.c
 *	  Replies to ReceiveMessage, GetQueueUrl and GetQueueAttributes.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "aws/sqs_protocol.h"

static const char *buf;
static size_t buf_size;

static void
check_slice(SqsSlice slice)
{
	if (slice.data == NULL)
	{
		MUST(slice.len == 0);
		return;
	}
	fuzz_touch(slice.data, slice.len);

	/* of this reply, or a constant empty text where something is missing */
	MUST(slice.len == 0 || fuzz_inside(slice.data, slice.len, buf, buf_size));
}

static void
check_text(SqsSlice slice)
{
	check_slice(slice);
	if (slice.data != NULL)
		MUST(slice.data[slice.len] == '\0');
}

static void
check_message(const SqsReceivedMessage *m)
{
	MUST(m->message_id.len >= 1 && m->message_id.len <= 100);
	MUST(m->receipt_handle.len >= 1);
	MUST(m->damage != NULL || m->body.data != NULL);
	MUST(m->receive_count >= 0 && m->sent_ms >= 0 && m->first_received_ms >= 0);
	MUST(m->nattributes >= 0 && m->nattributes <= SQS_PARSE_MAX_ATTRIBUTES);
	MUST(m->nsystem >= 0 && m->nsystem <= SQS_PARSE_MAX_SYSTEM_ATTRIBUTES);
	check_text(m->message_id);
	check_text(m->receipt_handle);
	check_text(m->body);
	check_text(m->group_id);
	check_text(m->deduplication_id);
	check_text(m->sequence_number);
	check_text(m->body_md5);
	(void) sqs_message_damage(m);
	for (int i = 0; i < m->nattributes; i++)
	{
		const SqsAttribute *a = &m->attributes[i];

		check_text(a->name);
		check_text(a->data_type);
		check_slice(a->value);
		if (!a->binary)
			check_text(a->value);
		MUST(m->damage != NULL || (a->data_type.data != NULL && a->value.data != NULL));
	}
	for (int i = 0; i < m->nsystem; i++)
	{
		check_text(m->system[i].name);
		check_text(m->system[i].value);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *copy = fuzz_copy(data, size);
	SqsReceivedMessage *messages;
	int			nmessages;
	SqsSlice	url;
	SqsQueueAttributes attributes;

	buf = copy;
	buf_size = size;
	if (sqs_parse_receive(copy, size, &messages, &nmessages))
	{
		MUST(nmessages >= 0 && nmessages <= SQS_MAX_BATCH);
		MUST((messages == NULL) == (nmessages == 0));
		for (int i = 0; i < nmessages; i++)
			check_message(&messages[i]);
		free(messages);
	}
	else
		MUST(messages == NULL && nmessages == 0);
	free(copy);

	copy = fuzz_copy(data, size);
	buf = copy;
	if (sqs_parse_queue_url(copy, size, &url))
	{
		MUST(url.data != NULL && strlen(url.data) == url.len);
		check_text(url);
	}
	free(copy);

	copy = fuzz_copy(data, size);
	if (sqs_parse_queue_attributes(copy, size, &attributes))
		MUST(attributes.visibility_timeout >= -1 &&
			 attributes.maximum_message_size >= -1 &&
			 attributes.receive_wait_time >= -1 &&
			 attributes.approximate_messages >= -1);
	free(copy);
	return 0;
}
