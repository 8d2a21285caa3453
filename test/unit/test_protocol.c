/*-------------------------------------------------------------------------
 *
 * test_protocol.c
 *	  The text of requests, and what is made of replies, whole and broken.
 *
 * A message whose content is damaged is still a message with a handle: it
 * must not take its neighbors down.  A reply that is none must not pass.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "aws/digest.h"
#include "aws/json.h"
#include "aws/sqs_protocol.h"
#include "tap.h"

#define URL "https://sqs.us-east-1.amazonaws.com/123456789012/q"
#define SLICE(s) {(s), sizeof(s) - 1}

static bool
slice_is(SqsSlice slice, const char *expected)
{
	return slice.data != NULL && slice.len == strlen(expected) &&
		memcmp(slice.data, expected, slice.len) == 0 && slice.data[slice.len] == '\0';
}

/* ---- requests ---- */

static void
requests(void)
{
	static const SqsSlice handles[] = {SLICE("AQEB+/=="), SLICE("h\"2\\")};
	static const int timeouts[] = {0, 43200};
	JsonWriter	w;

#define ENCODES(call, expected, what) \
	json_writer_init(&w); \
	call; \
	is(w.data, expected, "%s", what); \
	json_writer_free(&w)

	ENCODES(sqs_encode_get_queue_url(&w, "q\"1", NULL), "{\"QueueName\":\"q\\\"1\"}", "GetQueueUrl");
	ENCODES(sqs_encode_get_queue_url(&w, "q", "123456789012"),
			"{\"QueueName\":\"q\",\"QueueOwnerAWSAccountId\":\"123456789012\"}", "GetQueueUrl of another account");
	ENCODES(sqs_encode_get_queue_attributes(&w, URL),
			"{\"QueueUrl\":\"" URL "\",\"AttributeNames\":[\"All\"]}", "GetQueueAttributes");
	ENCODES(sqs_encode_receive(&w, URL, 10, 20, -1, NULL),
			"{\"QueueUrl\":\"" URL "\",\"MaxNumberOfMessages\":10,\"WaitTimeSeconds\":20,"
			"\"MessageAttributeNames\":[\"All\"],\"MessageSystemAttributeNames\":[\"All\"]}",
			"ReceiveMessage");
	ENCODES(sqs_encode_receive(&w, URL, 1, 0, 5, "id"),
			"{\"QueueUrl\":\"" URL "\",\"ReceiveRequestAttemptId\":\"id\",\"MaxNumberOfMessages\":1,\"WaitTimeSeconds\":0,\"VisibilityTimeout\":5,"
			"\"MessageAttributeNames\":[\"All\"],\"MessageSystemAttributeNames\":[\"All\"]}", "receive, again");
	ENCODES(sqs_encode_receive(&w, URL, 1, 0, 0, NULL),
			"{\"QueueUrl\":\"" URL "\",\"MaxNumberOfMessages\":1,\"WaitTimeSeconds\":0,"
			"\"VisibilityTimeout\":0,"
			"\"MessageAttributeNames\":[\"All\"],\"MessageSystemAttributeNames\":[\"All\"]}",
			"ReceiveMessage with a timeout");
	ENCODES(sqs_encode_handles(&w, URL, 2, handles, NULL),
			"{\"QueueUrl\":\"" URL "\",\"Entries\":[{\"Id\":\"0\",\"ReceiptHandle\":\"AQEB+/==\"},"
			"{\"Id\":\"1\",\"ReceiptHandle\":\"h\\\"2\\\\\"}]}", "DeleteMessageBatch");
	ENCODES(sqs_encode_handles(&w, URL, 2, handles, timeouts),
			"{\"QueueUrl\":\"" URL "\",\"Entries\":["
			"{\"Id\":\"0\",\"ReceiptHandle\":\"AQEB+/==\",\"VisibilityTimeout\":0},"
			"{\"Id\":\"1\",\"ReceiptHandle\":\"h\\\"2\\\\\",\"VisibilityTimeout\":43200}]}",
			"ChangeMessageVisibilityBatch");
	is(sqs_action_name(SQS_GET_QUEUE_URL), "GetQueueUrl", "action names");
	is(sqs_action_name(SQS_GET_QUEUE_ATTRIBUTES), "GetQueueAttributes", "action names");
	is(sqs_action_name(SQS_RECEIVE_MESSAGE), "ReceiveMessage", "action names");
	is(sqs_action_name(SQS_DELETE_MESSAGE_BATCH), "DeleteMessageBatch", "action names");
	is(sqs_action_name(SQS_CHANGE_MESSAGE_VISIBILITY_BATCH), "ChangeMessageVisibilityBatch", "action names");
	is(sqs_action_name(SQS_SEND_MESSAGE), "SendMessage", "action names");
	is(sqs_action_name(SQS_SEND_MESSAGE_BATCH), "SendMessageBatch", "action names");
}

/* ---- MD5 ---- */

#define TEXT_ATTRIBUTE(n, t, v) {SLICE(n), SLICE(t), SLICE(v), false}

static void
md5(void)
{
	static const SqsAttribute foo[] = {TEXT_ATTRIBUTE("Foo", "String", "Bar")};
	static const SqsAttribute mine[] = {TEXT_ATTRIBUTE("MyAttribute", "String", "foobar")};
	static const SqsAttribute stamp[] = {TEXT_ATTRIBUTE("timestamp", "Number", "1493147359900")};
	static const SqsAttribute three[] = {
		TEXT_ATTRIBUTE("Help.Me", "String", "Me"),
		TEXT_ATTRIBUTE("General", "String", "Kenobi"),
		TEXT_ATTRIBUTE("Hello", "String", "There"),
	};
	static const SqsAttribute trace[] = {
		TEXT_ATTRIBUTE("AWSTraceHeader", "String",
					   "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"),
	};
	static const SqsAttribute worked[] = {
		TEXT_ATTRIBUTE("Population", "Number", "1250800"),
		{SLICE("Img"), SLICE("Binary.png"), SLICE("\x00\x01\xff"), true},
		TEXT_ATTRIBUTE("City", "String", "Any City"),
	};
	static const struct
	{
		const SqsAttribute *attributes;
		int			n;
		const char *md5;
	}			vectors[] =
	{
		{foo, 1, "ae7155c6026991b6d54b11589678bf9c"},
		{mine, 1, "adb59cd4678ea5a855436b949cd07ab6"},
		{stamp, 1, "235c5c510d26fb653d073faed50ae77c"},
		{three, 3, "4c360f3fdafd970e05fae2f149d997f5"},
		{trace, 1, "5ae4d5d7636402d80f4eb6d213245a88"},
		{worked, 3, "aaf174cba26b4ad89577b8038f1c1659"},
	};
	char		hex[33];

	ok(sqs_body_md5("hello", 5, hex), "MD5 is to be had");
	is(hex, "5d41402abc4b2a76b9719d911017c592", "of hello");
	sqs_body_md5("h\xc3\xa9llo\n\"q\"", 10, hex);
	is(hex, "73b68c7458b757f2dc27ed0fbeaa1299", "of UTF-8, a newline and quotes");
	sqs_body_md5("", 0, hex);
	is(hex, "d41d8cd98f00b204e9800998ecf8427e", "of nothing");
	for (size_t i = 0; i < lengthof(vectors); i++)
	{
		ok(sqs_attributes_md5(vectors[i].attributes, vectors[i].n, hex), "of attributes");
		is(hex, vectors[i].md5, "vector %zu", i);
	}
	ok(!sqs_attributes_md5(foo, SQS_PARSE_MAX_ATTRIBUTES + 1, hex), "too many attributes");
}

/* ---- ReceiveMessage ---- */

static char *buffer = NULL;
static SqsReceivedMessage *messages = NULL;
static int	nmessages;

/* The result is valid until the next call. */
static bool
receive_n(const char *text, size_t len)
{
	free(buffer);
	free(messages);
	buffer = tap_copy(text, len);
	return sqs_parse_receive(buffer, len, &messages, &nmessages);
}

static bool
receive(const char *text)
{
	return receive_n(text, strlen(text));
}

#define MESSAGE(more) "{\"Messages\":[{\"MessageId\":\"m1\",\"ReceiptHandle\":\"h1\"" more "}]}"

/* A reply with one message; NULL, failing, if it is not. */
static const SqsReceivedMessage *
one(const char *text, const char *what)
{
	if (!ok(receive(text) && nmessages == 1 && slice_is(messages[0].message_id, "m1") &&
			slice_is(messages[0].receipt_handle, "h1"), "%s: one message", what))
		return NULL;
	return &messages[0];
}

static void
damaged(const char *text, const char *why)
{
	const SqsReceivedMessage *m = one(text, why);

	if (m != NULL)
		is(sqs_message_damage(m), why, "and its damage");
}

static void
whole(const char *text, const char *what)
{
	const SqsReceivedMessage *m = one(text, what);

	if (m != NULL)
		is(sqs_message_damage(m), NULL, "%s: not damaged", what);
}

static const char full[] =
"{\"Messages\":[{\"MessageId\":\"m1\",\"ReceiptHandle\":\"h1\","
"\"MD5OfBody\":\"73b68c7458b757f2dc27ed0fbeaa1299\",\"Body\":\"h\\u00e9llo\\n\\\"q\\\"\","
"\"New\":{\"a\":[1,{}]},"
"\"Attributes\":{\"SenderId\":\"AIDA\",\"SentTimestamp\":\"1735787045123\","
"\"ApproximateReceiveCount\":\"3\",\"ApproximateFirstReceiveTimestamp\":\"1735787045456\","
"\"SequenceNumber\":\"18849496460467696128\",\"MessageGroupId\":\"g\","
"\"MessageDeduplicationId\":\"d\",\"AWSTraceHeader\":\"Root=1\",\"Number\":5},"
"\"MD5OfMessageAttributes\":\"aaf174cba26b4ad89577b8038f1c1659\","
"\"MessageAttributes\":{"
"\"Img\":{\"DataType\":\"Binary.png\",\"BinaryValue\":\"AAH/\"},"
"\"City\":{\"StringValue\":\"Any City\",\"DataType\":\"String\",\"New\":null,\"StringListValues\":[]},"
"\"Population\":{\"DataType\":\"Number\",\"StringValue\":\"1250800\"}}}],\"New\":null}";

static void
whole_messages(void)
{
	const SqsReceivedMessage *m;
	int			wrong = 0;
	static const char *const none[] = {
		"", "{}", "{\"Messages\":null}", "{\"Messages\":[]}", "{\"Messages\":{}}",
		"{\"Messages\":\"x\"}", "{\"New\":[{\"MessageId\":1}]}"
	};

	if ((m = one(full, "a full message")) != NULL)
	{
		is(sqs_message_damage(m), NULL, "not damaged");
		ok(slice_is(m->body, "h\xc3\xa9llo\n\"q\""), "body");
		is_int(m->receive_count, 3, "receive count");
		is_int(m->sent_ms, INT64CONST(1735787045123), "sent");
		is_int(m->first_received_ms, INT64CONST(1735787045456), "first received");
		ok(slice_is(m->sequence_number, "18849496460467696128"), "a sequence number of 20 digits");
		ok(slice_is(m->group_id, "g") && slice_is(m->deduplication_id, "d"), "group and deduplication");
		is_int(m->nsystem, 8, "system attributes; a number is none");
		ok(slice_is(m->system[7].name, "AWSTraceHeader") && slice_is(m->system[7].value, "Root=1"), "the last");
		if (is_int(m->nattributes, 3, "attributes"))
		{
			ok(slice_is(m->attributes[0].name, "Img") && slice_is(m->attributes[0].data_type, "Binary.png") &&
			   m->attributes[0].binary && m->attributes[0].value.len == 3 &&
			   memcmp(m->attributes[0].value.data, "\x00\x01\xff", 3) == 0, "Binary, decoded");
			ok(slice_is(m->attributes[1].name, "City") && !m->attributes[1].binary &&
			   slice_is(m->attributes[1].value, "Any City"), "String");
			ok(slice_is(m->attributes[2].data_type, "Number") &&
			   slice_is(m->attributes[2].value, "1250800"), "Number");
			ok(m->attributes[0].value.data[3] == '\0', "a Binary value is NUL-terminated too");
		}
	}
	for (size_t i = 0; i < strlen(full); i++)
		wrong += i > 0 && receive_n(full, i);
	is_int(wrong, 0, "none of its beginnings is a reply");

	for (size_t i = 0; i < lengthof(none); i++)
		ok(receive(none[i]) && nmessages == 0 && messages == NULL, "no messages: %s", none[i]);

	/* two, in order, the first one damaged */
	ok(receive("{\"Messages\":[{\"MessageId\":\"a\",\"ReceiptHandle\":\"x\"},"
			   "{\"MessageId\":\"b\",\"ReceiptHandle\":\"y\",\"Body\":\"\"}]}") && nmessages == 2 &&
	   messages[0].damage != NULL && messages[1].damage == NULL &&
	   messages[1].body.data != NULL && messages[1].body.len == 0,
	   "a damaged message leaves its neighbor alone");

	whole(MESSAGE(",\"Body\":\"x\",\"Attributes\":null,\"MessageAttributes\":null,\"MD5OfBody\":null,\"MD5OfMessageAttributes\":null"),
		  "null members");
	whole(MESSAGE(",\"Body\":\"x\",\"Attributes\":[],\"MessageAttributes\":[]"), "empty arrays");
	whole(MESSAGE(",\"Body\":\"x\",\"Attributes\":{},\"MessageAttributes\":{}"), "empty objects");
	whole(MESSAGE(",\"Body\":\"x\",\"Attributes\":\"x\",\"MessageAttributes\":7"), "wrong types of containers");
	whole(MESSAGE(",\"Body\":\"x\",\"MessageAttributes\":{},\"MD5OfMessageAttributes\":\"00\""), "an MD5 of no attributes");
	if ((m = one(MESSAGE(",\"Body\":\"x\",\"Attributes\":{\"SentTimestamp\":17,\"ApproximateReceiveCount\":\"x\","
						 "\"ApproximateFirstReceiveTimestamp\":\"-1\",\"MessageGroupId\":{\"a\":1}}"), "odd system attributes")) != NULL)
		ok(m->sent_ms == 0 && m->receive_count == 0 && m->first_received_ms == 0 &&
		   m->group_id.data == NULL, "are unknown");
	if ((m = one(MESSAGE(",\"Body\":\"x\",\"Attributes\":{\"ApproximateReceiveCount\":\"99999999999\","
						 "\"SentTimestamp\":\"99999999999999999999\"}"), "huge numbers")) != NULL)
		ok(m->receive_count == PG_INT32_MAX && m->sent_ms == 0, "are clipped or unknown");
}

static void
many_attributes(void)
{
	JsonWriter	w;
	const SqsReceivedMessage *m;
	char		name[32];

	/* ten of all types, which is what SQS allows */
	json_writer_init(&w);
	json_raw(&w, "{\"Messages\":[{\"MessageId\":\"m1\",\"ReceiptHandle\":\"h1\",\"Body\":\"x\",\"MessageAttributes\":{");
	for (int i = 0; i < 10; i++)
	{
		static const char *const types[] = {"String", "String.x", "Number", "Number.int", "Binary", "Binary.gif"};
		const char *type = types[i % 6];

		snprintf(name, sizeof(name), "%s\"a%d\":{\"DataType\":\"", i > 0 ? "," : "", i);
		json_raw(&w, name);
		json_raw(&w, type);
		json_raw(&w, type[0] == 'B' ? "\",\"BinaryValue\":\"AP8=\"}" : "\",\"StringValue\":\"7\"}");
	}
	json_raw(&w, "}}]}");
	if ((m = one(w.data, "ten attributes")) != NULL)
	{
		int			good = 0;

		for (int i = 0; i < m->nattributes; i++)
			good += m->attributes[i].binary ?
				m->attributes[i].value.len == 2 && memcmp(m->attributes[i].value.data, "\0\xff", 2) == 0 :
				slice_is(m->attributes[i].value, "7");
		ok(m->nattributes == 10 && good == 10 && sqs_message_damage(m) == NULL, "all of them read");
	}
	json_writer_free(&w);

	json_writer_init(&w);
	json_raw(&w, "{\"Messages\":[{\"MessageId\":\"m1\",\"ReceiptHandle\":\"h1\",\"Body\":\"x\",\"MessageAttributes\":{");
	for (int i = 0; i <= SQS_PARSE_MAX_ATTRIBUTES; i++)
	{
		snprintf(name, sizeof(name), "%s\"a%d\":", i > 0 ? "," : "", i);
		json_raw(&w, name);
		json_raw(&w, "{\"DataType\":\"String\",\"StringValue\":\"7\"}");
	}
	json_raw(&w, "}}]}");
	damaged(w.data, "it has too many attributes");
	json_writer_free(&w);

	json_writer_init(&w);
	json_raw(&w, "{\"Messages\":[{\"MessageId\":\"m1\",\"ReceiptHandle\":\"h1\",\"Body\":\"x\",\"Attributes\":{");
	for (int i = 0; i < SQS_PARSE_MAX_SYSTEM_ATTRIBUTES; i++)
	{
		snprintf(name, sizeof(name), "\"a%d\":\"x\",", i);
		json_raw(&w, name);
	}
	json_raw(&w, "\"MessageGroupId\":\"g\"}}]}");
	if ((m = one(w.data, "too many system attributes")) != NULL)
	{
		is_int(m->nsystem, SQS_PARSE_MAX_SYSTEM_ATTRIBUTES, "as many as fit");
		ok(m->damage != NULL || slice_is(m->group_id, "g"), "the group is known, or the message damaged");
	}
	json_writer_free(&w);
}

static void
damage(void)
{
	static const char *const garbage[] = {
		"null", "[]", "\"x\"", "7", "{", "{\"Messages\":[", "{\"Messages\":[1]}",
		"{\"Messages\":[null]}", "{\"Messages\":[[]]}", "{\"Messages\":[{}]}",
		"{\"Messages\":[{\"ReceiptHandle\":\"h\",\"Body\":\"x\"}]}",
		"{\"Messages\":[{\"MessageId\":\"m\",\"Body\":\"x\"}]}",
		"{\"Messages\":[{\"MessageId\":null,\"ReceiptHandle\":\"h\",\"Body\":\"x\"}]}",
		"{\"Messages\":[{\"MessageId\":7,\"ReceiptHandle\":\"h\",\"Body\":\"x\"}]}",
		"{\"Messages\":[{\"MessageId\":\"\",\"ReceiptHandle\":\"h\",\"Body\":\"x\"}]}",
		"{\"Messages\":[{\"MessageId\":\"m\",\"ReceiptHandle\":\"\",\"Body\":\"x\"}]}",
		"{\"Messages\":[]} x", "{}{}", "<html></html>", " ", "{\"Messages\":[],}",
		MESSAGE(",\"Body\":\"\xff\""), MESSAGE(",\"Body\":\"\\ud800\""),
	};
	JsonWriter	w;
	char		long_id[102];

	damaged(MESSAGE(""), "it has no body");
	damaged(MESSAGE(",\"Body\":null"), "it has no body");
	damaged(MESSAGE(",\"Body\":7"), "it has no body");
	damaged(MESSAGE(",\"Body\":{\"a\":[]}"), "it has no body");
	damaged(MESSAGE(",\"Body\":\"x\",\"MD5OfBody\":\"5d41402abc4b2a76b9719d911017c592\""), "the MD5 of its body does not match");
	damaged(MESSAGE(",\"Body\":\"hello\",\"MD5OfBody\":\"5d41402a\""), "the MD5 of its body does not match");
	damaged(MESSAGE(",\"Body\":\"hello\",\"MD5OfBody\":\"\""), "the MD5 of its body does not match");
	whole(MESSAGE(",\"MD5OfBody\":\"5d41402abc4b2a76b9719d911017c592\",\"Body\":\"hello\""), "the MD5 before the body");

	/* whether a NUL will do is for the reader of the body to say */
	if (one(MESSAGE(",\"Body\":\"a\\u0000b\""), "a NUL in a body") != NULL)
		ok(messages[0].body.len == 3 && memcmp(messages[0].body.data, "a\0b", 4) == 0, "cuts nothing off");
	damaged(MESSAGE(",\"Body\":\"x\",\"MD5OfMessageAttributes\":\"5d41402abc4b2a76b9719d911017c592\","
					"\"MessageAttributes\":{\"Foo\":{\"DataType\":\"String\",\"StringValue\":\"Bar\"}}"),
			"the MD5 of its attributes does not match");
	whole(MESSAGE(",\"Body\":\"x\",\"MD5OfMessageAttributes\":\"ae7155c6026991b6d54b11589678bf9c\","
				  "\"MessageAttributes\":{\"Foo\":{\"DataType\":\"String\",\"StringValue\":\"Bar\"}}"),
		  "the right MD5 of attributes");

#define ATTRIBUTE(value) MESSAGE(",\"Body\":\"x\",\"MessageAttributes\":{\"a\":" value "}")
#define BINARY(value) ATTRIBUTE("{\"DataType\":\"Binary\",\"BinaryValue\":\"" value "\"}")
	damaged(ATTRIBUTE("7"), "an attribute is malformed");
	damaged(ATTRIBUTE("null"), "an attribute is malformed");
	damaged(ATTRIBUTE("[{}]"), "an attribute is malformed");
	damaged(ATTRIBUTE("{}"), "an attribute has no type or no value");
	damaged(ATTRIBUTE("{\"DataType\":\"String\"}"), "an attribute has no type or no value");
	damaged(ATTRIBUTE("{\"StringValue\":\"x\"}"), "an attribute has no type or no value");
	damaged(ATTRIBUTE("{\"DataType\":\"String\",\"BinaryValue\":\"AA==\"}"), "an attribute has no type or no value");
	damaged(ATTRIBUTE("{\"DataType\":\"Binary\",\"StringValue\":\"AA==\"}"), "an attribute has no type or no value");
	damaged(ATTRIBUTE("{\"DataType\":7,\"StringValue\":[]}"), "an attribute has no type or no value");
	damaged(BINARY("A"), "a Binary attribute is not base64");
	damaged(BINARY("AA"), "a Binary attribute is not base64");
	damaged(BINARY("AAA"), "a Binary attribute is not base64");
	damaged(BINARY("A==="), "a Binary attribute is not base64");
	damaged(BINARY("===="), "a Binary attribute is not base64");
	damaged(BINARY("AA=A"), "a Binary attribute is not base64");
	damaged(BINARY("AA-_"), "a Binary attribute is not base64");
	damaged(BINARY("AA A"), "a Binary attribute is not base64");
	damaged(BINARY("AAA\\u0000"), "a Binary attribute is not base64");
	whole(BINARY(""), "an empty Binary");
	whole(BINARY("AA=="), "one byte");
	whole(BINARY("AAA="), "two bytes");
	whole(BINARY("+/+/"), "three bytes");

	for (size_t i = 0; i < lengthof(garbage); i++)
		ok(!receive(garbage[i]) && messages == NULL && nmessages == 0, "garbage %zu", i);

	memset(long_id, 'i', 101);
	long_id[101] = '\0';
	for (int len = 101; len >= 100; len--)
	{
		json_writer_init(&w);
		json_raw(&w, "{\"Messages\":[{\"ReceiptHandle\":\"h\",\"Body\":\"x\",\"MessageId\":");
		json_string(&w, long_id, len);
		json_raw(&w, "}]}");
		is_int(receive(w.data), len == 100, "a message id of %d bytes", len);
		json_writer_free(&w);
	}
	for (int n = 10; n <= 11; n++)
	{
		json_writer_init(&w);
		json_raw(&w, "{\"Messages\":[");
		for (int i = 0; i < n; i++)
			json_raw(&w, &",{\"MessageId\":\"m\",\"ReceiptHandle\":\"h\",\"Body\":\"x\"}"[i == 0]);
		json_raw(&w, "]}");
		is_int(receive(w.data) ? nmessages : -1, n == 10 ? 10 : -1, "%d messages", n);
		json_writer_free(&w);
	}
	receive("");
	free(buffer);
	buffer = NULL;
}

/* ---- the other replies ---- */

static bool
parse_url(const char *text, const char *expected)
{
	char	   *data = tap_copy(text, strlen(text));
	SqsSlice	url;
	bool		result = sqs_parse_queue_url(data, strlen(text), &url);

	result = result && (expected == NULL || slice_is(url, expected));
	free(data);
	return result;
}

static bool
parse_attributes(const char *text, SqsQueueAttributes *attributes)
{
	char	   *data = tap_copy(text, strlen(text));
	bool		result = sqs_parse_queue_attributes(data, strlen(text), attributes);

	free(data);
	return result;
}

static void
queue_replies(void)
{
	static const char *const bad_urls[] = {
		"", "{}", "[]", "{\"QueueUrl\":null}", "{\"QueueUrl\":7}", "{\"QueueUrl\":[]}",
		"{\"QueueUrl\":\"x\"", "{\"QueueUrl\":\"a\\u0000b\"}", "{\"queueUrl\":\"x\"}", "\"x\""
	};
	static const char *const empty[] = {
		"", "{}", "{\"Attributes\":null}", "{\"Attributes\":[]}", "{\"Attributes\":{}}",
		"{\"Attributes\":{\"VisibilityTimeout\":30,\"MaximumMessageSize\":\"-1\","
		"\"ReceiveMessageWaitTimeSeconds\":\"x\",\"ApproximateNumberOfMessages\":null,"
		"\"FifoQueue\":false,\"RedrivePolicy\":\"\",\"New\":{}}}",
		"{\"Attributes\":{\"VisibilityTimeout\":\"99999999999\"}}",
		"{\"Attributes\":{\"VisibilityTimeout\":\"43201\",\"FifoQueue\":\"fals\"}}",
	};
	static const char *const bad[] = {"[]", "null", "{\"Attributes\":{", "{\"Attributes\":{}}x", "<"};
	static const struct
	{
		const char *text;		/* as it is in JSON */
		int			limit;
	}			policies[] = {
		{"", 0},
		{"{\\\"deadLetterTargetArn\\\":\\\"arn:x\\\",\\\"maxReceiveCount\\\":\\\"1\\\"}", 1},
		{"{\\\"maxReceiveCount\\\":1000,\\\"x\\\":[1,{}]}", 1000},
		{"{}", -1}, {"{", -1}, {"3", -1}, {"x", -1},
		{"{\\\"maxReceiveCount\\\":0}", -1}, {"{\\\"maxReceiveCount\\\":-3}", -1},
		{"{\\\"maxReceiveCount\\\":{\\\"maxReceiveCount\\\":3}}", -1},
		{"{\\\"maxReceiveCount\\\":99999999999}", -1},
	};
	SqsQueueAttributes a;

	ok(parse_url("{\"QueueUrl\":\"" URL "\"}", URL), "a queue URL");
	ok(parse_url("{\"New\":{\"QueueUrl\":\"x\"},\"QueueUrl\":\"https:\\/\\/h\\/1\\/q\",\"x\":1}", "https://h/1/q"),
	   "escaped, among unknown members");
	for (size_t i = 0; i < lengthof(bad_urls); i++)
		ok(!parse_url(bad_urls[i], NULL), "no queue URL: %s", bad_urls[i]);

	ok(parse_attributes("{\"Attributes\":{\"VisibilityTimeout\":\"30\",\"MaximumMessageSize\":\"1048576\","
						"\"ReceiveMessageWaitTimeSeconds\":\"20\",\"ApproximateNumberOfMessages\":\"12\","
						"\"MessageRetentionPeriod\":\"345600\","
						"\"FifoQueue\":\"true\",\"RedrivePolicy\":\"{\\\"maxReceiveCount\\\":3}\",\"New\":\"x\"}}", &a) &&
	   a.visibility_timeout == 30 && a.maximum_message_size == 1048576 && a.receive_wait_time == 20 &&
	   a.approximate_messages == 12 && a.retention == 345600 && a.fifo && a.max_receives == 3, "queue attributes");
	for (size_t i = 0; i < lengthof(policies); i++)
	{
		char		reply[200];

		snprintf(reply, sizeof(reply), "{\"Attributes\":{\"RedrivePolicy\":\"%s\",\"FifoQueue\":\"true\"}}", policies[i].text);
		ok(parse_attributes(reply, &a) && a.max_receives == policies[i].limit && a.fifo,
		   "redrive policy %s: %d", policies[i].text, policies[i].limit);
	}
	for (size_t i = 0; i < lengthof(empty); i++)
		ok(parse_attributes(empty[i], &a) && a.visibility_timeout == -1 && a.maximum_message_size == -1 &&
		   a.receive_wait_time == -1 && a.approximate_messages == -1 && a.retention == -1 && !a.fifo && a.max_receives == 0,
		   "nothing told, variant %zu", i);
	for (size_t i = 0; i < lengthof(bad); i++)
		ok(!parse_attributes(bad[i], &a), "no queue attributes: %s", bad[i]);
	ok(parse_attributes("{\"Attributes\":{\"FifoQueue\":\"false\"}}", &a) && !a.fifo, "no FIFO queue");
}

static bool
parse_batch(const char *text, int n, SqsBatchEntry *entries)
{
	char	   *data = tap_copy(text, strlen(text));
	bool		result = sqs_parse_batch(data, strlen(text), n, NULL, entries);

	free(data);
	return result;
}

static void
batches(void)
{
	static const char *const unmentioned[] = {
		"{}", "{\"Successful\":[],\"Failed\":[]}", "{\"Successful\":null,\"Failed\":null}",
		"{\"Successful\":[{}]}", "{\"Successful\":[{\"Id\":0}]}", "{\"Successful\":[{\"Id\":\"3\"}]}",
		"{\"Successful\":[{\"Id\":\"-1\"}]}", "{\"Successful\":[{\"Id\":\"x\"}]}",
		"{\"Successful\":[{\"Id\":\"99999999999999999999\"}]}", "{\"Successful\":[{\"Id\":\"\"}]}",
		"{\"Failed\":[{\"Id\":\"7\"}]}", "{\"Successful\":{\"Id\":\"0\"}}", "{\"New\":[{\"Id\":\"0\"}]}",
	};
	static const char *const bad[] = {
		"", "[]", "null", "{\"Successful\":[", "{\"Successful\":[1]}", "{\"Successful\":[{\"Id\":\"0\"}]}x",
		"{\"Failed\":[[]]}", "{\"Failed\":[{\"Id\":\"0\"",
	};
	SqsBatchEntry e[3];

	ok(parse_batch("{\"Successful\":[{\"Id\":\"2\",\"New\":[]},{\"Id\":\"0\"},{\"Id\":\"1\"}],\"Failed\":[]}", 3, e) &&
	   e[0].ok && e[1].ok && e[2].ok && e[0].class == AWS_ERROR_NONE && e[0].code[0] == '\0', "all succeed, in any order");
	ok(parse_batch("{\"Failed\":[{\"Id\":\"1\",\"SenderFault\":true,\"Code\":\"ReceiptHandleIsInvalid\",\"Message\":\"m\\n\"}],"
				   "\"Successful\":[{\"Id\":\"0\"}]}", 3, e), "one of each");
	ok(e[0].ok, "the good one");
	ok(!e[1].ok && e[1].sender_fault && e[1].class == AWS_ERROR_LEASE_LOST &&
	   strcmp(e[1].code, "ReceiptHandleIsInvalid") == 0 && strcmp(e[1].message, "m ") == 0, "the bad one");
	ok(!e[2].ok && e[2].class == AWS_ERROR_TRANSIENT && strcmp(e[2].code, "NoResult") == 0 &&
	   e[2].message[0] != '\0', "the missing one");

	ok(parse_batch("{\"Failed\":[{\"Id\":\"0\",\"Code\":\"InternalError\",\"SenderFault\":false},"
				   "{\"Id\":\"1\"},{\"Id\":\"2\",\"SenderFault\":true,\"Code\":null,\"Message\":null}]}", 3, e),
	   "failed entries without a message");
	ok(!e[0].ok && e[0].class == AWS_ERROR_TRANSIENT && strcmp(e[0].message, "SQS gives no reason") == 0, "a code only");
	ok(!e[1].ok && !e[1].sender_fault && e[1].class == AWS_ERROR_TRANSIENT, "neither code nor blame: try again");
	ok(!e[2].ok && e[2].class == AWS_ERROR_UNKNOWN, "our fault, without a code: not known to be the message's");
	ok(parse_batch("{\"Failed\":[{\"Id\":\"0\",\"Code\":\"InvalidParameterValue\",\"SenderFault\":true,"
				   "\"Message\":\"Reason: The receipt handle has expired.\"}]}", 1, e) &&
	   e[0].class == AWS_ERROR_LEASE_LOST, "a lost lease by its text");
	ok(parse_batch("{\"Failed\":[{\"Id\":\"0\",\"SenderFault\":{\"a\":1},\"Code\":[1],\"Message\":{}}]}", 1, e) &&
	   !e[0].ok && !e[0].sender_fault && e[0].code[0] == '\0', "wrong types in an entry");

	for (size_t i = 0; i < lengthof(unmentioned); i++)
		ok(parse_batch(unmentioned[i], 3, e) && !e[0].ok && !e[1].ok && !e[2].ok &&
		   strcmp(e[0].code, "NoResult") == 0, "none mentioned: %s", unmentioned[i]);
	for (size_t i = 0; i < lengthof(bad); i++)
		ok(!parse_batch(bad[i], 3, e), "no batch reply: %s", bad[i]);
}

void
test_protocol(void)
{
	requests();
	md5();
	whole_messages();
	many_attributes();
	damage();
	queue_replies();
	batches();
}
