/*-------------------------------------------------------------------------
 *
 * test_send.c
 *	  Messages that are sent: the text of requests, sizes and digests, and
 *	  what is made of SQS's word for having them.
 *
 * What must never happen here is to believe that SQS has a message which it
 * has not, or has otherwise; and what SQS may have is not to be given up as
 * if it had not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "aws/json.h"
#include "aws/sqs_protocol.h"
#include "tap.h"

#define URL "https://sqs.us-east-1.amazonaws.com/123456789012/q"
#define SLICE(s) {(s), sizeof(s) - 1}
#define TEXT(n, t, v) {SLICE(n), SLICE(t), SLICE(v), false}
#define BYTES(n, t, v) {SLICE(n), SLICE(t), SLICE(v), true}
#define NO_SLICE {NULL, 0}

#define HELLO_MD5 "5d41402abc4b2a76b9719d911017c592"
#define FOO_MD5 "ae7155c6026991b6d54b11589678bf9c"
#define OTHER_MD5 "00000000000000000000000000000000"

static const SqsOutgoing plain = {SLICE("hello"), NO_SLICE, NO_SLICE, NO_SLICE, -1};
static const SqsOutgoing empty_ids = {SLICE("x"), SLICE(""), SLICE(""), SLICE(""), 0};
static const SqsOutgoing everything = {
	SLICE("h\xc3\xa9llo\n\"q\"\\\x01/"), SLICE("g\"1"), SLICE("d\\1"), SLICE("Root=1-5759e988;Sampled=1"), 900,
	5, {
		TEXT("City", "String", "Any \"City\"\t"),
		TEXT("n", "Number", "-1.25e3"),
		BYTES("Img", "Binary.png", "\x00\x01\xff"),
		TEXT("c.x-y_z", "Number.int", "7"),
		TEXT("s", "String.a\"b", "\xe2\x82\xac"),
	}
};
static const SqsOutgoing foo = {
	SLICE("hello"), NO_SLICE, NO_SLICE, NO_SLICE, -1, 1, {TEXT("Foo", "String", "Bar")}
};

#define PLAIN "\"MessageBody\":\"hello\""
#define EMPTY_IDS "\"MessageBody\":\"x\",\"DelaySeconds\":0,\"MessageGroupId\":\"\"," \
	"\"MessageDeduplicationId\":\"\",\"MessageSystemAttributes\":{\"AWSTraceHeader\":" \
	"{\"DataType\":\"String\",\"StringValue\":\"\"}}"
#define EVERYTHING "\"MessageBody\":\"h\xc3\xa9llo\\n\\\"q\\\"\\\\\\u0001/\",\"DelaySeconds\":900," \
	"\"MessageGroupId\":\"g\\\"1\",\"MessageDeduplicationId\":\"d\\\\1\"," \
	"\"MessageSystemAttributes\":{\"AWSTraceHeader\":{\"DataType\":\"String\"," \
	"\"StringValue\":\"Root=1-5759e988;Sampled=1\"}}," \
	"\"MessageAttributes\":{" \
	"\"City\":{\"DataType\":\"String\",\"StringValue\":\"Any \\\"City\\\"\\t\"}," \
	"\"n\":{\"DataType\":\"Number\",\"StringValue\":\"-1.25e3\"}," \
	"\"Img\":{\"DataType\":\"Binary.png\",\"BinaryValue\":\"AAH/\"}," \
	"\"c.x-y_z\":{\"DataType\":\"Number.int\",\"StringValue\":\"7\"}," \
	"\"s\":{\"DataType\":\"String.a\\\"b\",\"StringValue\":\"\xe2\x82\xac\"}}"

static void
requests(void)
{
	static const SqsOutgoing *const three[] = {&plain, &everything, &empty_ids};
	static const struct
	{
		const SqsOutgoing *message;
		const char *text;
		const char *what;
	}			cases[] =
	{
		{&plain, PLAIN, "a body only"},
		{&empty_ids, EMPTY_IDS, "what is empty is not absent, and no delay is a delay of 0"},
		{&everything, EVERYTHING, "all that a message can have"},
	};
	static const SqsOutgoing binaries = {
		SLICE("x"), NO_SLICE, NO_SLICE, NO_SLICE, -1, 4, {
			BYTES("a", "Binary", ""), BYTES("b", "Binary", "\xff"),
			BYTES("c", "Binary", "\xff\xfe"), BYTES("d", "Binary", "\xfb\xff\xbf\x00"),
		}
	};
	const SqsOutgoing *ten[SQS_MAX_BATCH];
	JsonWriter	w;
	char	   *expected;
	const char *p;

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		expected = malloc(2048);
		snprintf(expected, 2048, "{\"QueueUrl\":\"" URL "\",%s}", cases[i].text);
		json_writer_init(&w);
		sqs_encode_send(&w, URL, cases[i].message);
		is(w.data, expected, "SendMessage: %s", cases[i].what);
		ok(!w.failed && w.len == strlen(w.data), "its length");
		json_writer_free(&w);
		free(expected);
	}

	json_writer_init(&w);
	sqs_encode_send_batch(&w, URL, 3, three);
	is(w.data, "{\"QueueUrl\":\"" URL "\",\"Entries\":[{\"Id\":\"0\"," PLAIN "},{\"Id\":\"1\"," EVERYTHING "},"
	   "{\"Id\":\"2\"," EMPTY_IDS "}]}", "SendMessageBatch");
	json_writer_free(&w);

	json_writer_init(&w);
	for (int i = 0; i < SQS_MAX_BATCH; i++)
		ten[i] = &plain;
	sqs_encode_send_batch(&w, URL, SQS_MAX_BATCH, ten);
	p = w.data;
	for (int i = 0; i < SQS_MAX_BATCH && p != NULL; i++)
	{
		char		id[16];

		snprintf(id, sizeof(id), "\"Id\":\"%d\"", i);
		p = strstr(p, id);
	}
	ok(p != NULL, "ten entries are numbered by position");
	json_writer_free(&w);

	json_writer_init(&w);
	sqs_encode_send(&w, URL, &binaries);
	is(w.data, "{\"QueueUrl\":\"" URL "\",\"MessageBody\":\"x\",\"MessageAttributes\":{"
	   "\"a\":{\"DataType\":\"Binary\",\"BinaryValue\":\"\"},\"b\":{\"DataType\":\"Binary\",\"BinaryValue\":\"/w==\"},"
	   "\"c\":{\"DataType\":\"Binary\",\"BinaryValue\":\"//4=\"},\"d\":{\"DataType\":\"Binary\",\"BinaryValue\":\"+/+/AA==\"}}}",
	   "Binary values of 0 to 4 bytes");
	json_writer_free(&w);
}

static void
sizes(void)
{
	static const struct
	{
		const SqsOutgoing *message;
		size_t		size;
		const char *what;
	}			cases[] =
	{
		{&plain, 5, "a body"},
		{&empty_ids, 1, "ids and the trace header are free"},
		{&foo, 5 + 3 + 6 + 3, "name, type and value of an attribute are not"},

		/* bytes of UTF-8, and of what is Binary rather than of its base64 */
		{&everything, 13 + (4 + 6 + 11) + (1 + 6 + 7) + (3 + 10 + 3) + (7 + 10 + 1) + (1 + 10 + 3), "everything"},
	};
	SqsOutgoing big;
	JsonWriter	w;
	SqsDigests	digests;

	for (size_t i = 0; i < lengthof(cases); i++)
		is_int(sqs_outgoing_size(cases[i].message), cases[i].size, "size: %s", cases[i].what);

	/* as large as may be, and all of it to be escaped */
	memset(&big, 0, sizeof(big));
	big.body.data = malloc(SQS_MAX_MESSAGE_BYTES);
	big.body.len = SQS_MAX_MESSAGE_BYTES;
	big.delay = -1;
	memset(unconstify(char *, big.body.data), 'a', big.body.len);
	is_int(sqs_outgoing_size(&big), SQS_MAX_MESSAGE_BYTES, "size: 1 MiB");
	sqs_outgoing_digests(&big, &digests);
	is(digests.body, "7202826a7791073fe2787f0c94603278", "and its MD5");
	memset(unconstify(char *, big.body.data), '\x02', big.body.len);
	json_writer_init(&w);
	sqs_encode_send(&w, URL, &big);
	ok(!w.failed && w.len == strlen("{\"QueueUrl\":\"" URL "\",\"MessageBody\":\"\"}") + 6 * SQS_MAX_MESSAGE_BYTES,
	   "1 MiB of control characters is encoded in full");
	json_writer_free(&w);
	free(unconstify(char *, big.body.data));
}

/*
 * The values are those of AWS's documented algorithm (names in byte order;
 * lengths in 4 bytes; 1 for text, 2 for bytes), computed by another program.
 */
static void
digests(void)
{
	static const SqsOutgoing order = {
		SLICE("h\xc3\xa9llo\n\"q\""), NO_SLICE, NO_SLICE, NO_SLICE, -1, 6, {
			TEXT("ab", "String", "1"), TEXT("a", "String", "2"), TEXT("B", "String", "3"),
			TEXT("a.b", "String", "4"), TEXT("a-b", "String", "5"), TEXT("a_b", "String", "6"),
		}
	};
	static const SqsOutgoing empty = {
		SLICE(""), NO_SLICE, NO_SLICE, NO_SLICE, -1, 1, {BYTES("e", "Binary", "")}
	};
	static const SqsOutgoing utf8 = {
		SLICE("a\0b"), NO_SLICE, NO_SLICE, NO_SLICE, -1, 1,
		{TEXT("n", "String.\xc3\xa9", "h\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")}
	};
	static const SqsOutgoing ids = {
		SLICE("hello"), SLICE("g"), SLICE("d"), SLICE("Root=1"), 5, 3, {
			BYTES("Img", "Binary.png", "\x00\x01\xff"), TEXT("City", "String", "Any City"),
			TEXT("Population", "Number", "1250800"),
		}
	};
	static const struct
	{
		const SqsOutgoing *message;
		const char *body;
		const char *attributes;
		const char *what;
	}			cases[] =
	{
		{&plain, HELLO_MD5, "", "no attributes"},
		{&foo, HELLO_MD5, FOO_MD5, "one attribute"},
		{&ids, HELLO_MD5, "aaf174cba26b4ad89577b8038f1c1659", "ids, delay and trace header do not count"},
		{&order, "73b68c7458b757f2dc27ed0fbeaa1299", "d20b27e2dfd253c3fee9c423fa39c19e", "names in byte order"},
		{&empty, "d41d8cd98f00b204e9800998ecf8427e", "c60911229dbc7c565d8824df5ec1c30e", "nothing in it"},
		{&utf8, "70350f6027bce3713f6b76473084309b", "61f05ad4127d8071a80f440b6eda33b9", "bytes, not characters"},
	};
	SqsOutgoing ten;
	SqsDigests	d;
	char		names[10][3];

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		memset(&d, 'x', sizeof(d));
		sqs_outgoing_digests(cases[i].message, &d);
		is(d.body, cases[i].body, "MD5 of the body: %s", cases[i].what);
		is(d.attributes, cases[i].attributes, "MD5 of the attributes: %s", cases[i].what);
	}

	/* ten of all types, from the last to the first */
	memset(&ten, 0, sizeof(ten));
	ten.body = plain.body;
	for (int i = 9; i >= 0; i--)
	{
		static const char *const types[] = {"String", "String.x", "Number", "Number.int", "Binary", "Binary.gif"};
		SqsAttribute *attribute = &ten.attributes[ten.nattributes++];

		snprintf(names[i], sizeof(names[i]), "a%d", i);
		attribute->name = (SqsSlice) {names[i], 2};
		attribute->data_type = (SqsSlice) {types[i % 6], strlen(types[i % 6])};
		attribute->value = (SqsSlice) {"7", 1};
		attribute->binary = i % 6 >= 4;
	}
	sqs_outgoing_digests(&ten, &d);
	is(d.attributes, "797ac6da282758fbb9f687614e437c26", "MD5 of ten attributes of all types");
}

/* ---- replies ---- */

static const SqsDigests hello_foo = {HELLO_MD5, FOO_MD5};
static const SqsDigests hello = {HELLO_MD5, ""};
static const SqsDigests no_md5 = {"", ""};

static bool
parse_send(const char *text, const SqsDigests *expected, SqsBatchEntry *entry)
{
	char	   *data = tap_copy(text, strlen(text));
	bool		result;

	memset(entry, 0x55, sizeof(*entry));
	result = sqs_parse_send(data, strlen(text), expected, entry);
	free(data);
	return result;
}

static bool
parse_batch(const char *text, int n, const SqsDigests *expected, SqsBatchEntry *entries)
{
	char	   *data = tap_copy(text, strlen(text));
	bool		result;

	memset(entries, 0x55, sizeof(*entries) * n);
	result = sqs_parse_batch(data, strlen(text), n, expected, entries);
	free(data);
	return result;
}

static bool
confirmed(const SqsBatchEntry *entry, const char *message_id, const char *sequence_number)
{
	return entry->ok && entry->class == AWS_ERROR_NONE && !entry->may_be_done &&
		!entry->sender_fault && entry->code[0] == '\0' && entry->message[0] == '\0' &&
		strcmp(entry->message_id, message_id) == 0 &&
		strcmp(entry->sequence_number, sequence_number) == 0;
}

static bool
doubtful(const SqsBatchEntry *entry, const char *code)
{
	return !entry->ok && entry->class == AWS_ERROR_TRANSIENT && entry->may_be_done &&
		!entry->sender_fault && strcmp(entry->code, code) == 0 && entry->message[0] != '\0';
}

#define BODY(md5) "\"MD5OfMessageBody\":\"" md5 "\""
#define ATTR(md5) "\"MD5OfMessageAttributes\":\"" md5 "\""

static void
one_message(void)
{
	static const struct
	{
		const char *members;
		const SqsDigests *digests;
		bool		same;
		const char *what;
	}			cases[] =
	{
		{BODY(HELLO_MD5) "," ATTR(FOO_MD5), &hello_foo, true, "both MD5s agree"},
		{ATTR(FOO_MD5) "," BODY(HELLO_MD5), &hello_foo, true, "in another order"},
		{BODY(HELLO_MD5), &hello, true, "no attributes"},
		{BODY(HELLO_MD5) ",\"MD5OfMessageSystemAttributes\":\"x\"", &hello, true, "system attributes are not compared"},
		{BODY(OTHER_MD5) "," ATTR(FOO_MD5), &hello_foo, false, "another body"},
		{BODY(HELLO_MD5) "," ATTR(OTHER_MD5), &hello_foo, false, "other attributes"},
		{BODY(OTHER_MD5) "," ATTR(OTHER_MD5), &hello_foo, false, "neither"},
		{BODY("5d41402abc4b2a76b9719d911017c59"), &hello, false, "an MD5 that is too short"},
		{BODY("5d41402abc4b2a76b9719d911017c5922"), &hello, false, "an MD5 that is too long"},
		{BODY(""), &hello, false, "an empty MD5"},
		{BODY("5d41402abc4b2a76\\u0000b9719d911017c59"), &hello, false, "an MD5 with a NUL"},
		{"\"New\":null", &hello_foo, true, "no MD5s"},
		{"\"MD5OfMessageBody\":null,\"MD5OfMessageAttributes\":null", &hello_foo, true, "null MD5s"},
		{"\"MD5OfMessageBody\":7,\"MD5OfMessageAttributes\":[]", &hello_foo, true, "MD5s of wrong types"},
		{BODY(HELLO_MD5), &hello_foo, true, "only the body's is told"},
		{ATTR(FOO_MD5), &hello_foo, true, "only that of attributes is told"},
		{ATTR(OTHER_MD5), &hello_foo, false, "only that of attributes, and another"},
		{BODY(OTHER_MD5) "," ATTR(OTHER_MD5), &no_md5, true, "MD5 is not to be had here"},
	};
	static const char *const none[] = {
		"", "{}", "[]", "null", "\"x\"", "{", "{\"MessageId\":\"m\"", "{\"MessageId\":\"m\"}x",
		"{\"MessageId\":null}", "{\"MessageId\":7}", "{\"MessageId\":\"\"}", "{\"MessageId\":[\"m\"]}",
		"{\"MessageId\":\"\\u0000m\"}", "{\"New\":{\"MessageId\":\"m\"}}", "{\"messageid\":\"m\"}",
		"{" BODY(HELLO_MD5) "}", "{\"Successful\":[{\"Id\":\"0\",\"MessageId\":\"m\"}]}",
		"{\"MessageId\":\"m\xff\"}", "<html></html>",
	};
	static const char whole[] = "{\"MessageId\":\"m\"," BODY(HELLO_MD5) "," ATTR(FOO_MD5) ",\"SequenceNumber\":\"7\"}";
	SqsBatchEntry e;
	JsonWriter	w;
	char		long_text[200];
	int			wrong = 0;

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		char		text[512];

		snprintf(text, sizeof(text), "{\"MessageId\":\"m-1\",\"SequenceNumber\":\"18849496460467696128\",%s}",
				 cases[i].members);
		ok(parse_send(text, cases[i].digests, &e) &&
		   (cases[i].same ? confirmed(&e, "m-1", "18849496460467696128") :
			doubtful(&e, "ChecksumMismatch") && strcmp(e.message_id, "m-1") == 0),
		   "SendMessage: %s", cases[i].what);
	}
	for (size_t i = 0; i < lengthof(none); i++)
		ok(!parse_send(none[i], &hello, &e) && doubtful(&e, "NoResult") && e.message_id[0] == '\0',
		   "no reply to SendMessage: %s", none[i]);
	for (size_t i = 0; i < strlen(whole); i++)
	{
		char	   *data = tap_copy(whole, i);

		wrong += sqs_parse_send(data, i, &hello_foo, &e) || e.ok;
		free(data);
	}
	is_int(wrong, 0, "none of its beginnings is a reply");
	ok(parse_send("{\"MessageId\":\"m\\n\xc3\xa9\",\"SequenceNumber\":7}", &hello, &e) &&
	   confirmed(&e, "m ??", ""), "an id is made printable, a number is no sequence number");

	memset(long_text, '5', sizeof(long_text));
	json_writer_init(&w);
	json_raw(&w, "{\"MessageId\":");
	json_string(&w, long_text, sizeof(long_text));
	json_raw(&w, ",\"SequenceNumber\":");
	json_string(&w, long_text, sizeof(long_text));
	json_raw(&w, "}");
	ok(parse_send(w.data, &hello, &e) && e.ok && strlen(e.message_id) == sizeof(e.message_id) - 1 &&
	   strlen(e.sequence_number) == sizeof(e.sequence_number) - 1, "what is too long is clipped");
	json_writer_free(&w);
}

#define SENT(id, members) "{\"Id\":\"" id "\",\"MessageId\":\"m" id "\"," members "}"
#define GOOD(id) SENT(id, BODY(HELLO_MD5) "," ATTR(FOO_MD5))
#define WRONG(id) SENT(id, BODY(OTHER_MD5) "," ATTR(FOO_MD5))
#define REFUSED(id) "{\"Id\":\"" id "\",\"SenderFault\":true,\"Code\":\"InvalidParameterValue\",\"Message\":\"no\"}"
#define BUSY(id) "{\"Id\":\"" id "\",\"SenderFault\":false,\"Code\":\"InternalError\"}"

static void
batches(void)
{
	static const SqsDigests three[] = {{HELLO_MD5, FOO_MD5}, {HELLO_MD5, FOO_MD5}, {HELLO_MD5, FOO_MD5}};
	static const SqsDigests mixed[] = {{HELLO_MD5, FOO_MD5}, {HELLO_MD5, ""}, {"", ""}};
	static const char *const unmentioned[] = {
		"{}", "{\"Successful\":[],\"Failed\":[]}", "{\"Successful\":null}", "{\"Successful\":[{}]}",
		"{\"Successful\":[" GOOD("3") "]}", "{\"Successful\":[" GOOD("10") "]}", "{\"Successful\":[" GOOD("-1") "]}",
		"{\"Successful\":[" GOOD("") "]}", "{\"Successful\":[" GOOD(" 0") "]}", "{\"Successful\":[" GOOD("0x0") "]}",
		"{\"Successful\":[" GOOD("18446744073709551616") "]}", "{\"Successful\":[" GOOD("4294967296") "]}",
		"{\"Successful\":[{\"Id\":0,\"MessageId\":\"m\"}]}", "{\"Successful\":[{\"MessageId\":\"m\"}]}",
		"{\"Failed\":[" REFUSED("3") "]}", "{\"Successful\":" GOOD("0") "}", "{\"New\":[" GOOD("0") "]}",
	};
	static const struct
	{
		const char *reply;
		const char *what;
	}			contradictions[] =
	{
		{"{\"Successful\":[" GOOD("0") "," WRONG("0") "]}", "right, then wrong"},
		{"{\"Successful\":[" WRONG("0") "," GOOD("0") "]}", "wrong, then right"},
		{"{\"Successful\":[" WRONG("0") "," WRONG("0") "]}", "wrong twice"},
		{"{\"Successful\":[" GOOD("0") "],\"Failed\":[" REFUSED("0") "]}", "sent, then refused"},
		{"{\"Failed\":[" REFUSED("0") "],\"Successful\":[" GOOD("0") "]}", "refused, then sent"},
		{"{\"Failed\":[" BUSY("0") "," REFUSED("0") "]}", "failed in two ways"},
		{"{\"Successful\":[" GOOD("0") "],\"Failed\":[" BUSY("0") "],\"Successful\":[" GOOD("0") "," GOOD("0") "]}",
		"sent, failed, and sent again twice"},
		{"{\"Successful\":[" GOOD("0") "," GOOD("0") "],\"Failed\":[" BUSY("00") "]}", "by another spelling"},
	};
	SqsBatchEntry e[SQS_MAX_BATCH];
	SqsDigests	ten[SQS_MAX_BATCH];
	JsonWriter	w;
	int			good = 0;

	ok(parse_batch("{\"Successful\":[" GOOD("2") "," GOOD("0") "," SENT("1", BODY(HELLO_MD5) "," ATTR(FOO_MD5)
					",\"SequenceNumber\":\"18849496460467696128\"") "],\"Failed\":[]}", 3, three, e) &&
	   confirmed(&e[0], "m0", "") && confirmed(&e[1], "m1", "18849496460467696128") && confirmed(&e[2], "m2", ""),
	   "SendMessageBatch: all are sent, each with its own id");

	/* each digest is compared with that of its own entry, not of its place */
	ok(parse_batch("{\"Successful\":[" SENT("2", BODY(OTHER_MD5) "," ATTR(OTHER_MD5)) ","
				   SENT("1", BODY(HELLO_MD5)) "," GOOD("0") "]}", 3, mixed, e) &&
	   confirmed(&e[0], "m0", "") && confirmed(&e[1], "m1", "") && confirmed(&e[2], "m2", ""),
	   "digests by entry, where they are to be had");
	ok(parse_batch("{\"Successful\":[" SENT("0", BODY(HELLO_MD5) "," ATTR(OTHER_MD5)) "," WRONG("1") "," GOOD("2") "]}",
				   3, three, e) &&
	   doubtful(&e[0], "ChecksumMismatch") && strcmp(e[0].message_id, "m0") == 0 &&
	   doubtful(&e[1], "ChecksumMismatch") && strcmp(e[1].message_id, "m1") == 0 && confirmed(&e[2], "m2", ""),
	   "other digests: those entries only");
	ok(parse_batch("{\"Successful\":[" SENT("0", "\"New\":1") "," SENT("1", "\"MD5OfMessageBody\":null") ",{\"Id\":\"2\"}]}",
				   3, three, e) &&
	   confirmed(&e[0], "m0", "") && confirmed(&e[1], "m1", "") && confirmed(&e[2], "", ""),
	   "without digests, or even an id, they count as sent");

	ok(parse_batch("{\"Failed\":[" REFUSED("0") "],\"Successful\":[" GOOD("1") "]}", 3, three, e), "one of each");
	ok(!e[0].ok && e[0].sender_fault && e[0].class == AWS_ERROR_REQUEST && !e[0].may_be_done &&
	   strcmp(e[0].code, "InvalidParameterValue") == 0 && strcmp(e[0].message, "no") == 0 && e[0].message_id[0] == '\0',
	   "refused");
	ok(confirmed(&e[1], "m1", ""), "sent");
	ok(doubtful(&e[2], "NoResult") && e[2].message_id[0] == '\0', "not mentioned");

	ok(parse_batch("{\"Failed\":[" BUSY("0") ",{\"Id\":\"1\"},{\"Id\":\"2\",\"SenderFault\":true,\"Code\":null,\"Message\":null}]}",
				   3, three, e), "failed entries without a text");
	ok(!e[0].ok && e[0].class == AWS_ERROR_TRANSIENT && !e[0].may_be_done && strcmp(e[0].code, "InternalError") == 0 &&
	   strcmp(e[0].message, "SQS gives no reason") == 0, "a code only");
	ok(!e[1].ok && !e[1].sender_fault && e[1].class == AWS_ERROR_TRANSIENT && e[1].code[0] == '\0', "nothing at all: try again");
	ok(!e[2].ok && e[2].sender_fault && e[2].class == AWS_ERROR_UNKNOWN, "our fault, without a code: not known to be the message's");

	for (size_t i = 0; i < lengthof(unmentioned); i++)
		ok(parse_batch(unmentioned[i], 3, three, e) && doubtful(&e[0], "NoResult") && doubtful(&e[1], "NoResult") &&
		   doubtful(&e[2], "NoResult"), "none mentioned: %s", unmentioned[i]);

	ok(parse_batch("{\"Successful\":[" GOOD("0") "," GOOD("0") "],\"Successful\":[" GOOD("0") "]}", 1, three, e) &&
	   confirmed(&e[0], "m0", ""), "the same told three times");
	for (size_t i = 0; i < lengthof(contradictions); i++)
		ok(parse_batch(contradictions[i].reply, 2, three, e) && doubtful(&e[0], "NoResult") &&
		   strstr(e[0].message, "contradicts") != NULL && doubtful(&e[1], "NoResult") &&
		   strstr(e[1].message, "contradicts") == NULL, "contradiction: %s", contradictions[i].what);
	ok(parse_batch("{\"Failed\":[" REFUSED("0") "],\"Successful\":[{\"Id\":\"0\"}]}", 1, NULL, e) &&
	   doubtful(&e[0], "NoResult"), "and of a handle");

	json_writer_init(&w);
	json_raw(&w, "{\"Successful\":[");
	for (int i = SQS_MAX_BATCH - 1; i >= 0; i--)
	{
		char		entry[128];

		ten[i] = hello;
		snprintf(entry, sizeof(entry), "{\"Id\":\"%d\",\"MessageId\":\"m%d\"," BODY(HELLO_MD5) "}%s", i, i, i > 0 ? "," : "");
		json_raw(&w, entry);
	}
	json_raw(&w, "]}");
	if (ok(parse_batch(w.data, SQS_MAX_BATCH, ten, e), "a full batch"))
	{
		for (int i = 0; i < SQS_MAX_BATCH; i++)
			good += e[i].ok && atoi(e[i].message_id + 1) == i;
		is_int(good, SQS_MAX_BATCH, "ten are sent");
	}
	json_writer_free(&w);
}

void
test_send(void)
{
	requests();
	sizes();
	digests();
	one_message();
	batches();
}
