/*-------------------------------------------------------------------------
 *
 * envelope.c
 *	  Messages that other AWS services wrap, and what is inside.
 *
 * SNS, EventBridge and S3 put JSON documents into queues.  A handler mostly
 * wants what is inside, and now and then what is written on the envelope:
 *
 *	SNS			The body is the notification's Message, the attributes are
 *				its MessageAttributes.  With raw delivery there is no envelope,
 *				and the message is passed through.
 *	EventBridge	The body is the event's detail.
 *	S3			The body stays; the envelope has a list of what happened to
 *				which object.  Keys are decoded.  S3's test event, which it
 *				sends when notifications are configured, is for nobody.
 *	S3 pointer	What Amazon's extended clients send in place of a large body.
 *				The body stays, the object is not fetched.
 *
 * SNS may contain one of the others.  A body that is not such a document, or
 * lacks one of the members by which we know it, is not an envelope, and is not
 * an error: anybody who may send to a queue can write anything.  For the same
 * reason nothing in an envelope proves where it comes from; only a policy of the
 * queue does that.
 *
 * Documents are read with PostgreSQL's jsonb functions and, as in message.c,
 * written as text that jsonb_in() reads, since the functions that build jsonb
 * differ between major versions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "receive/envelope.h"

/* ---- reading ---- */

/*
 * The document, or NULL if the text is none that jsonb can hold.  The parser
 * has no way to say so without an error in all versions, and takes no resources
 * but memory, so the error can be caught here.
 */
Jsonb *
sqs_parse_json(char *text)
{
	MemoryContext context = CurrentMemoryContext;
	Jsonb	   *volatile document = NULL;

	PG_TRY();
	{
		document = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	}
	PG_CATCH();
	{
		int			category = ERRCODE_TO_CATEGORY(geterrcode());

		/* bad text; nested too deeply, or too large */
		if (category != ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) &&
			category != ERRCODE_TO_CATEGORY(ERRCODE_PROGRAM_LIMIT_EXCEEDED))
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	return document;
}

/* The same for an object or an array. */
static Jsonb *
parse(char *text)
{
	const char *p = text;

	while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')
		p++;
	return *p == '{' || *p == '[' ? sqs_parse_json(text) : NULL;
}

static JsonbValue *
member(JsonbContainer *object, const char *name)
{
	return JsonContainerIsObject(object) ?
		getKeyJsonValueFromContainer(object, name, strlen(name), NULL) : NULL;
}

/* The object or array in a member; NULL if it is neither. */
static JsonbContainer *
member_container(JsonbContainer *object, const char *name)
{
	JsonbValue *value = member(object, name);

	return value != NULL && value->type == jbvBinary ? value->val.binary.data : NULL;
}

/* A string, palloc'd; NULL if it is none. */
static char *
string_of(const JsonbValue *value)
{
	return value != NULL && value->type == jbvString ?
		pnstrdup(value->val.string.val, value->val.string.len) : NULL;
}

static char *
member_string(JsonbContainer *object, const char *name)
{
	return object == NULL ? NULL : string_of(member(object, name));
}

static bool
member_is(JsonbContainer *object, const char *name, const char *text)
{
	char	   *value = member_string(object, name);

	return value != NULL && strcmp(value, text) == 0;
}

static JsonbContainer *
element(JsonbContainer *array, int i)
{
	JsonbValue *value = getIthJsonbValueFromContainer(array, i);

	return value != NULL && value->type == jbvBinary ? value->val.binary.data : NULL;
}

/* ---- writing ---- */

static void
append_value(StringInfo buf, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			escape_json(buf, string_of(value));
			break;
		case jbvNumeric:
			appendStringInfoString(buf, DatumGetCString(DirectFunctionCall1(numeric_out,
																			NumericGetDatum(value->val.numeric))));
			break;
		case jbvBool:
			appendStringInfoString(buf, value->val.boolean ? "true" : "false");
			break;
		case jbvBinary:
			(void) JsonbToCString(buf, value->val.binary.data, value->val.binary.len);
			break;
		default:
			appendStringInfoString(buf, "null");
	}
}

/* Begin a member of an object. */
static void
append_name(StringInfo buf, const char *name)
{
	if (buf->len > 0 && buf->data[buf->len - 1] != '{')
		appendStringInfoChar(buf, ',');
	escape_json(buf, name);
	appendStringInfoChar(buf, ':');
}

static void
append_text(StringInfo buf, const char *name, const char *text)
{
	append_name(buf, name);
	escape_json(buf, text);
}

/* Copy a member under another name, if it is there. */
static void
append_member(StringInfo buf, const char *name, JsonbContainer *object, const char *from)
{
	JsonbValue *value = object == NULL ? NULL : member(object, from);

	if (value == NULL || value->type == jbvNull)
		return;
	append_name(buf, name);
	append_value(buf, value);
}

static Datum
as_jsonb(StringInfo buf)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(buf->data));
}

/* ---- SNS ---- */

/* A Number's text, if JSON takes it as a number. */
static bool
append_number(StringInfo buf, char *text)
{
	StringInfoData array;

	initStringInfo(&array);
	appendStringInfo(&array, "[%s]", text);
	if (strspn(text, "0123456789+-.eE") != strlen(text) || parse(array.data) == NULL)
		return false;
	appendStringInfoString(buf, text);
	return true;
}

/* SNS's MessageAttributes in the form that message.c gives SQS's. */
static Datum
sns_attributes(JsonbContainer *attributes)
{
	StringInfoData buf;
	JsonbIterator *iterator;
	JsonbValue	value;
	JsonbIteratorToken token;
	char	   *name = NULL;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	iterator = attributes != NULL && JsonContainerIsObject(attributes) ?
		JsonbIteratorInit(attributes) : NULL;
	while (iterator != NULL &&
		   (token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		char	   *type;
		char	   *text;

		if (token == WJB_KEY)
			name = string_of(&value);
		if (token != WJB_VALUE || value.type != jbvBinary ||
			(type = member_string(value.val.binary.data, "Type")) == NULL ||
			(text = member_string(value.val.binary.data, "Value")) == NULL)
			continue;
		append_name(&buf, name);
		if (strcmp(type, "String") == 0)
			escape_json(&buf, text);
		else if (strcmp(type, "Number") != 0 || !append_number(&buf, text))
		{
			appendStringInfoChar(&buf, '{');
			append_text(&buf, "DataType", type);
			append_text(&buf, strcmp(type, "Binary") == 0 ? "BinaryValue" : "StringValue", text);
			appendStringInfoChar(&buf, '}');
		}
	}
	appendStringInfoChar(&buf, '}');
	return as_jsonb(&buf);
}

static bool
is_sns(JsonbContainer *document)
{
	return member_is(document, "Type", "Notification") &&
		member_string(document, "TopicArn") != NULL &&
		member_string(document, "MessageId") != NULL &&
		member_string(document, "Message") != NULL;
}

/* What SNS says about a notification, without the closing brace. */
static void
begin_sns(StringInfo buf, JsonbContainer *document)
{
	appendStringInfoChar(buf, '{');
	append_text(buf, "kind", "sns");
	append_member(buf, "id", document, "MessageId");
	append_member(buf, "topic_arn", document, "TopicArn");
	append_member(buf, "subject", document, "Subject");
	append_member(buf, "time", document, "Timestamp");
	append_member(buf, "sequence_number", document, "SequenceNumber");
}

/* ---- EventBridge ---- */

static bool
is_eventbridge(JsonbContainer *document)
{
	return member_string(document, "detail-type") != NULL &&
		member_string(document, "source") != NULL &&
		member_string(document, "id") != NULL &&
		member_container(document, "detail") != NULL;
}

static void
begin_eventbridge(StringInfo buf, JsonbContainer *document)
{
	static const char *const names[] = {"id", "source", "account", "region", "time", "resources"};

	appendStringInfoChar(buf, '{');
	append_text(buf, "kind", "eventbridge");
	append_member(buf, "detail_type", document, "detail-type");
	for (size_t i = 0; i < lengthof(names); i++)
		append_member(buf, names[i], document, names[i]);
}

/* ---- S3 ---- */

static bool
is_s3_test_event(JsonbContainer *document)
{
	return member_is(document, "Service", "Amazon S3") &&
		member_is(document, "Event", "s3:TestEvent") &&
		member(document, "Records") == NULL;
}

static bool
is_s3(JsonbContainer *document)
{
	JsonbContainer *records = member_container(document, "Records");
	JsonbContainer *first;

	if (records == NULL || !JsonContainerIsArray(records) || JsonContainerSize(records) == 0)
		return false;
	first = element(records, 0);
	return first != NULL && member_is(first, "eventSource", "aws:s3") &&
		member_container(first, "s3") != NULL;
}

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' :
		c >= 'a' && c <= 'f' ? c - 'a' + 10 :
		c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/*
 * Keys of objects are URL-encoded UTF-8, with "+" for a space.  A key that
 * cannot be decoded, or not to a text of this database, stays as it is.
 */
static char *
decode_key(char *key)
{
	char	   *decoded = palloc(strlen(key) + 1);
	char	   *to = decoded;
	bool		ascii = true;

	for (const char *p = key; *p != '\0'; p++)
	{
		int			high = *p == '%' ? hex_digit(p[1]) : -1;
		int			low = high >= 0 ? hex_digit(p[2]) : -1;

		if (*p == '%' && low < 0)
			return key;
		if (low >= 0)
		{
			*to = (char) (high * 16 + low);
			if (*to == '\0')
				return key;
			p += 2;
		}
		else
			*to = *p == '+' ? ' ' : *p;
		ascii = ascii && !IS_HIGHBIT_SET(*to);
		to++;
	}
	*to = '\0';
	if (!ascii && (GetDatabaseEncoding() != PG_UTF8 ||
				   !pg_verify_mbstr(PG_UTF8, decoded, to - decoded, true)))
		return key;
	return decoded;
}

/* Events of S3: what handlers ask for, of each record; the object stays open. */
static void
begin_s3(StringInfo buf, JsonbContainer *document)
{
	JsonbContainer *records = member_container(document, "Records");

	appendStringInfoChar(buf, '{');
	append_text(buf, "kind", "s3");
	append_name(buf, "records");
	appendStringInfoChar(buf, '[');
	for (int i = 0; i < JsonContainerSize(records); i++)
	{
		JsonbContainer *record = element(records, i);
		JsonbContainer *s3 = record == NULL ? NULL : member_container(record, "s3");
		JsonbContainer *bucket = s3 == NULL ? NULL : member_container(s3, "bucket");
		JsonbContainer *object = s3 == NULL ? NULL : member_container(s3, "object");
		char	   *key = member_string(object, "key");

		appendStringInfoString(buf, i > 0 ? ",{" : "{");
		append_member(buf, "event", record, "eventName");
		append_member(buf, "time", record, "eventTime");
		append_member(buf, "region", record, "awsRegion");
		append_member(buf, "bucket", bucket, "name");
		if (key != NULL)
			append_text(buf, "key", decode_key(key));
		append_member(buf, "size", object, "size");
		append_member(buf, "etag", object, "eTag");
		append_member(buf, "version_id", object, "versionId");
		append_member(buf, "sequencer", object, "sequencer");
		appendStringInfoChar(buf, '}');
	}
	appendStringInfoChar(buf, ']');
}

/*
 * The object that a pointer names, or NULL.  The array is what the clients for
 * Java and Python write, under two names of a class; a bare object is known by
 * the message's attribute only.
 */
static JsonbContainer *
s3_pointer(JsonbContainer *document, bool has_s3_flag)
{
	JsonbContainer *pointer = NULL;

	if (JsonContainerIsArray(document) && JsonContainerSize(document) == 2)
	{
		char	   *class = string_of(getIthJsonbValueFromContainer(document, 0));

		if (class != NULL &&
			(strcmp(class, "software.amazon.payloadoffloading.PayloadS3Pointer") == 0 ||
			 strcmp(class, "com.amazon.sqs.javamessaging.MessageS3Pointer") == 0))
			pointer = element(document, 1);
	}
	else if (has_s3_flag)
		pointer = document;
	return pointer != NULL && member_string(pointer, "s3BucketName") != NULL &&
		member_string(pointer, "s3Key") != NULL ? pointer : NULL;
}

static void
begin_s3_pointer(StringInfo buf, JsonbContainer *pointer)
{
	appendStringInfoChar(buf, '{');
	append_text(buf, "kind", "s3_pointer");
	append_member(buf, "bucket", pointer, "s3BucketName");
	append_member(buf, "key", pointer, "s3Key");
}

/* ---- all of them ---- */

/*
 * Describe the event or pointer that a document is, if the option asks for it.
 * Returns what the body is then, or NULL if it stays.  Nothing is written if it
 * is neither.
 */
static char *
unwrap_event(SqsUnwrap unwrap, JsonbContainer *document, bool has_s3_flag,
			 StringInfo buf, bool *test_event)
{
	bool		all = unwrap == SQS_UNWRAP_AUTO;
	JsonbContainer *pointer;

	if ((all || unwrap == SQS_UNWRAP_EVENTBRIDGE) && is_eventbridge(document))
	{
		JsonbValue *detail = member(document, "detail");

		begin_eventbridge(buf, document);
		return JsonbToCString(NULL, detail->val.binary.data, detail->val.binary.len);
	}
	if (all || unwrap == SQS_UNWRAP_S3)
	{
		*test_event = is_s3_test_event(document);
		if (is_s3(document))
			begin_s3(buf, document);
		else if ((pointer = s3_pointer(document, has_s3_flag)) != NULL)
			begin_s3_pointer(buf, pointer);
	}
	return NULL;
}

/*
 * SNS's envelope comes off if the option asks for that, or for what is inside.
 * It is then the whole envelope, or the member "sns" of the inner one.
 */
void
sqs_unwrap(SqsUnwrap unwrap, char *body, bool has_s3_flag, SqsUnwrapped *unwrapped)
{
	StringInfoData envelope;
	Jsonb	   *parsed;
	JsonbContainer *document;
	JsonbContainer *sns = NULL;
	JsonbContainer *attributes = NULL;
	char	   *message = body;
	char	   *inner = NULL;
	bool		nested;

	memset(unwrapped, 0, sizeof(*unwrapped));
	unwrapped->body = body;
	if (unwrap == SQS_UNWRAP_NONE || (parsed = parse(body)) == NULL)
		return;
	document = &parsed->root;
	initStringInfo(&envelope);

	if (is_sns(document))
	{
		sns = document;
		attributes = member_container(sns, "MessageAttributes");
		has_s3_flag = has_s3_flag ||
			(attributes != NULL && (member(attributes, "ExtendedPayloadSize") != NULL ||
									member(attributes, "SQSLargePayloadSize") != NULL));
		message = member_string(sns, "Message");
		parsed = parse(message);
		document = parsed != NULL ? &parsed->root : NULL;
	}
	if (document != NULL)
		inner = unwrap_event(unwrap, document, has_s3_flag, &envelope, &unwrapped->test_event);

	if (sns != NULL && (unwrap == SQS_UNWRAP_AUTO || unwrap == SQS_UNWRAP_SNS ||
						envelope.len > 0 || unwrapped->test_event))
	{
		unwrapped->body = message;
		unwrapped->attributes = sns_attributes(attributes);
		nested = envelope.len > 0;
		if (nested)
			append_name(&envelope, "sns");
		begin_sns(&envelope, sns);
		if (nested)
			appendStringInfoChar(&envelope, '}');
	}
	if (inner != NULL)
		unwrapped->body = inner;
	if (envelope.len > 0)
	{
		appendStringInfoChar(&envelope, '}');
		unwrapped->envelope = as_jsonb(&envelope);
	}
}
