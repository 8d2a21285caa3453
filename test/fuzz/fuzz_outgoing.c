/*-------------------------------------------------------------------------
 *
 * fuzz_outgoing.c
 *	  Messages to be sent.  What is encoded for SendMessage, given back the
 *	  way ReceiveMessage does, is read as what it was, with the digests that
 *	  were computed for it; and what is not UTF-8 is not a reply.
 *
 * The first byte: number of attributes (low four bits), ASCII only (0x80).
 * Then strings, each behind a byte with its length: body, group, name, type
 * and value of each attribute.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "aws/json.h"
#include "aws/sqs_protocol.h"

static const uint8_t *input;
static size_t left;
static uint8_t mask;

static SqsSlice
take(char *buf)
{
	SqsSlice	slice = {buf, 0};

	if (left > 0)
	{
		slice.len = Min((size_t) input[0], left - 1);
		for (size_t i = 0; i < slice.len; i++)
			buf[i] = (char) (input[i + 1] & mask);
		input += slice.len + 1;
		left -= slice.len + 1;
	}
	return slice;
}

static bool
same(SqsSlice a, SqsSlice b)
{
	return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char strings[2 + 3 * SQS_MAX_ATTRIBUTES][256];
	SqsOutgoing message;
	SqsOutgoing bare;
	const SqsOutgoing *two[2] = {&message, &bare};
	SqsDigests	digests;
	JsonWriter	whole;
	JsonWriter	without;
	JsonWriter	batch;
	JsonWriter	reply;
	SqsReceivedMessage *messages;
	int			nmessages;
	size_t		bytes;
	bool		parsed;

	if (size < 1)
		return 0;
	input = data + 1;
	left = size - 1;
	mask = data[0] & 0x80 ? 0x7f : 0xff;
	memset(&message, 0, sizeof(message));
	message.delay = -1;
	message.body = take(strings[0]);
	message.group_id = take(strings[1]);
	message.nattributes = Min(data[0] & 15, SQS_MAX_ATTRIBUTES);
	bytes = message.body.len;
	for (int i = 0; i < message.nattributes; i++)
	{
		SqsAttribute *attribute = &message.attributes[i];

		attribute->name = take(strings[2 + 3 * i]);
		attribute->data_type = take(strings[3 + 3 * i]);
		attribute->value = take(strings[4 + 3 * i]);
		attribute->binary = attribute->data_type.len >= 6 &&
			memcmp(attribute->data_type.data, "Binary", 6) == 0;
		bytes += attribute->name.len + attribute->data_type.len + attribute->value.len;
	}
	MUST(sqs_outgoing_size(&message) == bytes);
	sqs_outgoing_digests(&message, &digests);
	MUST(strlen(digests.body) == 32);
	MUST(strlen(digests.attributes) == (message.nattributes > 0 ? 32 : 0));

	/* attributes come last: what a message has beyond one without them */
	bare = message;
	bare.nattributes = 0;
	json_writer_init(&whole);
	json_writer_init(&without);
	json_writer_init(&batch);
	json_writer_init(&reply);
	sqs_encode_send(&whole, "u", &message);
	sqs_encode_send(&without, "u", &bare);
	sqs_encode_send_batch(&batch, "u", 2, two);
	MUST(!whole.failed && !without.failed && !batch.failed);
	json_raw(&reply, "{\"Messages\":[{\"MessageId\":\"m\",\"ReceiptHandle\":\"h\",\"MD5OfBody\":\"");
	json_raw(&reply, digests.body);
	if (message.nattributes > 0)
	{
		json_raw(&reply, "\",\"MD5OfMessageAttributes\":\"");
		json_raw(&reply, digests.attributes);
	}
	json_raw(&reply, "\",\"Body\":");
	json_string(&reply, message.body.data, message.body.len);
	json_raw_n(&reply, whole.data + without.len - 1, whole.len - without.len + 1);
	json_raw(&reply, "]}");
	MUST(!reply.failed);

	parsed = sqs_parse_receive(reply.data, reply.len, &messages, &nmessages);
	if (data[0] & 0x80)
		MUST(parsed);
	if (parsed)
	{
		MUST(nmessages == 1 && sqs_message_damage(&messages[0]) == NULL);
		MUST(same(messages[0].body, message.body));
		MUST(messages[0].nattributes == message.nattributes);
		for (int i = 0; i < message.nattributes; i++)
		{
			MUST(same(messages[0].attributes[i].name, message.attributes[i].name));
			MUST(same(messages[0].attributes[i].data_type, message.attributes[i].data_type));
			MUST(same(messages[0].attributes[i].value, message.attributes[i].value));
			MUST(messages[0].attributes[i].binary == message.attributes[i].binary);
		}
		free(messages);

		/* the requests are JSON as well; the group may be no UTF-8 */
		if (data[0] & 0x80)
		{
			JsonReader	reader;

			json_reader_init(&reader, whole.data, whole.len);
			MUST(json_next(&reader) == JSON_OBJECT && json_skip(&reader) &&
				 json_next(&reader) == JSON_END);
			json_reader_init(&reader, batch.data, batch.len);
			MUST(json_next(&reader) == JSON_OBJECT && json_skip(&reader) &&
				 json_next(&reader) == JSON_END);
		}
	}
	json_writer_free(&whole);
	json_writer_free(&without);
	json_writer_free(&batch);
	json_writer_free(&reply);
	return 0;
}
