/*-------------------------------------------------------------------------
 *
 * outgoing.c
 *	  Checking a message to be sent, and converting it from SQL values.
 *
 * A message that SQS would refuse because of its content is refused here,
 * before the network is used, so that the error is raised where the message
 * is made.  For the outbox, that is the inserting transaction.  Rules and
 * numbers are those of the SQS API reference for SendMessage (2025-08).
 *
 * Text is converted to UTF-8 by the server's own routines.  SQS accepts
 * U+0009, U+000A, U+000D, U+0020 to U+D7FF, U+E000 to U+FFFD and U+10000 to
 * U+10FFFF; it used to replace anything else silently.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/base64.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "send/outgoing.h"

#define MAX_NUMBER_DIGITS	38

/* Make an error.  The strings are not copied; detail and hint may be NULL. */
static SqsDraftError *
refuse(int sqlstate, const char *code, const char *message, const char *detail,
	   const char *hint)
{
	SqsDraftError *error = palloc(sizeof(SqsDraftError));

	error->sqlstate = sqlstate;
	error->code = code;
	error->message = message;
	error->detail = detail;
	error->hint = hint;
	return error;
}

/* The same, for an invalid value. */
static SqsDraftError *
refuse_value(const char *message, const char *detail, const char *hint)
{
	return refuse(ERRCODE_INVALID_PARAMETER_VALUE, "InvalidParameterValue",
				  message, detail, hint);
}

/* Raise what is wrong with a message for "queue" as an ERROR. */
void
sqs_draft_error_raise(const SqsDraftError *error, const char *queue)
{
	ereport(ERROR,
			(errcode(error->sqlstate),
			 errmsg("cannot send to queue \"%s\": %s", queue, error->message),
			 error->detail ? errdetail("%s", error->detail) : 0,
			 error->hint ? errhint("%s", error->hint) : 0));
}

/* ---- characters ---- */

/*
 * Convert text to UTF-8.  False if that is not possible: a database with
 * encoding SQL_ASCII can hold anything, and does not convert.  The slice
 * refers to the given data or to the current memory context.
 */
static bool
to_utf8(const char *data, int len, SqsSlice *slice)
{
	char	   *converted;

	if (GetDatabaseEncoding() == PG_SQL_ASCII &&
		!pg_verify_mbstr(PG_UTF8, data, len, true))
		return false;
	converted = pg_server_to_any(data, len, PG_UTF8);
	slice->data = converted;
	slice->len = converted == data ? (size_t) len : strlen(converted);
	return true;
}

/*
 * Find the first character that SQS does not accept, and set *position to
 * its number, counted from 1.  Returns the character, or 0 if there is none.
 */
static uint32
illegal_character(SqsSlice text, size_t *position)
{
	const unsigned char *p = (const unsigned char *) text.data;
	const unsigned char *end = p + text.len;
	size_t		n = 0;

	for (; p < end; p += *p < 0x80 ? 1 : pg_utf_mblen(p))
	{
		n++;
		if (*p >= 0x20 && *p != 0xef)
			continue;
		if (*p == '\t' || *p == '\n' || *p == '\r')
			continue;
		if (*p < 0x20 || (p + 2 < end && p[1] == 0xbf && p[2] >= 0xbe))
		{
			*position = n;
			return *p < 0x20 ? *p : (uint32) (0xff00 | (p[2] & 0x3f) | 0xc0);
		}
	}
	return 0;
}

/* "what" is the subject of the error message, for example "the body". */
static SqsDraftError *
check_characters(SqsSlice text, const char *what)
{
	size_t		position;
	uint32		c = illegal_character(text, &position);

	if (c == 0)
		return NULL;
	return refuse(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, "InvalidMessageContents",
				  psprintf("%s contains a character that SQS does not accept", what),
				  psprintf("It is U+%04X, character number %zu. SQS accepts U+0009, U+000A, U+000D, U+0020 to U+D7FF, U+E000 to U+FFFD, and U+10000 to U+10FFFF.",
						   c, position),
				  "Encode data that is not text, for example with encode(..., 'base64'), or send it as a Binary attribute.");
}

/* The error for text that is not UTF-8; "what" is as above. */
static SqsDraftError *
not_utf8(const char *what)
{
	return refuse(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, "InvalidMessageContents",
				  psprintf("%s is not valid UTF-8", what),
				  "The database's encoding is SQL_ASCII, so text is not converted, and SQS accepts only UTF-8.",
				  NULL);
}

/* ---- ids ---- */

/*
 * Check a group id or deduplication id: 1 to 128 ASCII letters, digits, and
 * punctuation characters.  The slice refers to the value.
 */
static SqsDraftError *
prepare_id(Datum value, const char *name, SqsSlice *slice)
{
	text	   *id = DatumGetTextPP(value);

	slice->data = VARDATA_ANY(id);
	slice->len = VARSIZE_ANY_EXHDR(id);
	if (slice->len < 1 || slice->len > SQS_MAX_ID)
		return refuse_value(psprintf("the %s has %zu characters", name, slice->len),
							psprintf("It must have 1 to %d characters.", SQS_MAX_ID), NULL);
	for (size_t i = 0; i < slice->len; i++)
	{
		unsigned char c = (unsigned char) slice->data[i];

		if (c <= ' ' || c >= 0x7f)
			return refuse_value(psprintf("the %s \"%s\" contains an invalid character", name,
										 text_to_cstring(id)),
								"It may contain only ASCII letters, digits, and punctuation characters, without spaces.",
								NULL);
	}
	return NULL;
}

/* ---- attributes ---- */

/* The beginning of a name or type, for an error message. */
static char *
shown(SqsSlice text, int encoding)
{
	int			len = pg_encoding_mbcliplen(encoding, text.data, (int) text.len, 300);
	char	   *clipped = pnstrdup(text.data, len);

	return pg_any_to_server(clipped, len, encoding);
}

/* Does the text begin with the prefix, in whatever case? */
static bool
begins_with(SqsSlice text, const char *prefix)
{
	size_t		len = strlen(prefix);

	return text.len >= len && pg_strncasecmp(text.data, prefix, len) == 0;
}

/* Check the name of an attribute; NULL, or what is wrong with it. */
static SqsDraftError *
check_attribute_name(SqsSlice name)
{
	const char *why = NULL;

	if (name.len < 1 || name.len > SQS_MAX_ATTRIBUTE_NAME)
		why = "must have 1 to 256 characters";
	else if (name.data[0] == '.' || name.data[name.len - 1] == '.')
		why = "must not begin or end with a period";
	else if (begins_with(name, "AWS.") || begins_with(name, "Amazon."))
		why = "must not begin with \"AWS.\" or \"Amazon.\"";
	for (size_t i = 0; i < name.len && why == NULL; i++)
	{
		char		c = name.data[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			  (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.'))
			why = "may contain only ASCII letters, digits, _, -, and periods";
		else if (c == '.' && name.data[i + 1] == '.' && i + 1 < name.len)
			why = "must not have two periods in a row";
	}
	if (why == NULL)
		return NULL;
	return refuse_value(psprintf("invalid attribute name \"%s\"",
								 shown(name, GetDatabaseEncoding())),
						psprintf("The name of an attribute %s.", why), NULL);
}

/*
 * Check the type of an attribute: String, Number or Binary, optionally
 * followed by a period and a label.  "name" is the attribute's name, for the
 * error.
 */
static SqsDraftError *
check_data_type(const char *name, SqsSlice type)
{
	static const char *const kinds[] = {"String", "Number", "Binary"};

	for (size_t i = 0; i < lengthof(kinds); i++)
	{
		if (type.len >= 6 && type.len <= SQS_MAX_DATA_TYPE &&
			memcmp(type.data, kinds[i], 6) == 0 &&
			(type.len == 6 || (type.len > 7 && type.data[6] == '.')))
			return check_characters(type, psprintf("the type of attribute \"%s\"", name));
	}
	return refuse_value(psprintf("invalid type \"%s\" of attribute \"%s\"",
								 shown(type, PG_UTF8), name),
						"A type is String, Number or Binary, optionally followed by a period and a label, and has at most 256 characters.",
						NULL);
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/*
 * Check the value of an attribute of type Number: a decimal number with at
 * most 38 significant digits and a magnitude from 1e-128 to 1e+126, or zero.
 */
static SqsDraftError *
check_number(const char *name, SqsSlice value)
{
	const char *p = value.data;
	const char *end = p + value.len;
	int			digits = 0;
	int			zeros = 0;		/* trailing zeros among the digits */
	int			before = 0;		/* digits before the point, or minus the zeros
								 * behind it */
	bool		any = false;
	bool		point = false;
	int			exponent = 0;

	if (p < end && (*p == '-' || *p == '+'))
		p++;
	for (; p < end && (is_digit(*p) || (*p == '.' && !point)); p++)
	{
		if (*p == '.')
		{
			point = true;
			continue;
		}
		any = true;
		if (*p != '0' || digits > 0)
		{
			digits++;
			zeros = *p == '0' ? zeros + 1 : 0;
			if (!point)
				before++;
		}
		else if (point)
			before--;
	}
	if (any && p < end && (*p == 'e' || *p == 'E'))
	{
		bool		negative = false;

		p++;
		if (p < end && (*p == '-' || *p == '+'))
			negative = *p++ == '-';
		any = p < end;
		for (; p < end && is_digit(*p) && exponent < 10000; p++)
			exponent = exponent * 10 + (*p - '0');
		if (negative)
			exponent = -exponent;
	}
	if (!any || p != end)
		return refuse_value(psprintf("attribute \"%s\" is not a number", name),
							"The value of an attribute of type Number is a decimal number.",
							NULL);
	exponent += before - 1;
	if (digits - zeros > MAX_NUMBER_DIGITS ||
		(digits > 0 && (exponent < -128 || exponent > 126)))
		return refuse_value(psprintf("attribute \"%s\" is out of range for a number", name),
							"SQS accepts at most 38 digits and magnitudes from 1e-128 to 1e+126.",
							"Send it as a string.");
	return NULL;
}

/* Decode the base64 text of a binary attribute. */
static SqsDraftError *
decode_bytes(const char *name, SqsSlice encoded, SqsSlice *value)
{
	int			size = pg_b64_dec_len(encoded.len) + 1;
	char	   *bytes = palloc(size);
	int			len;

	/* void, because the type is uint8 in PostgreSQL 18 and later */
	len = pg_b64_decode(encoded.data, encoded.len, (void *) bytes, size);
	if (len < 0)
		return refuse_value(psprintf("the BinaryValue of attribute \"%s\" is not base64", name),
							NULL,
							"Use encode(..., 'base64') with its line breaks removed.");
	value->data = bytes;
	value->len = len;
	return NULL;
}

static SqsSlice
cstring_slice(const char *text)
{
	SqsSlice	slice = {text, strlen(text)};

	return slice;
}

static SqsDraftError *
malformed_attribute(const char *name)
{
	return refuse_value(psprintf("malformed attribute \"%s\"", name),
						"The value of an attribute is a string, a number, or an object {\"DataType\": ..., \"StringValue\": ...} or {\"DataType\": ..., \"BinaryValue\": ... (base64)}.",
						NULL);
}

/* The text of a JSON string in UTF-8; false if it is not one. */
static bool
jsonb_text(const JsonbValue *value, SqsSlice *slice)
{
	return value->type == jbvString &&
		to_utf8(value->val.string.val, value->val.string.len, slice);
}

/*
 * Read an attribute that is given as an object, {"DataType": ...}.  The
 * iterator is behind the opening brace.  NULL, or what is wrong.
 */
static SqsDraftError *
prepare_object(JsonbIterator **it, const char *name, SqsAttribute *attribute)
{
	JsonbIteratorToken token;
	JsonbValue	v;
	SqsSlice	string = {NULL, 0};
	SqsSlice	binary = {NULL, 0};
	SqsDraftError *error;

	while ((token = JsonbIteratorNext(it, &v, true)) != WJB_END_OBJECT)
	{
		SqsSlice   *slice = NULL;

		Assert(token == WJB_KEY);
		if (v.val.string.len == 8 && memcmp(v.val.string.val, "DataType", 8) == 0)
			slice = &attribute->data_type;
		else if (v.val.string.len == 11 && memcmp(v.val.string.val, "StringValue", 11) == 0)
			slice = &string;
		else if (v.val.string.len == 11 && memcmp(v.val.string.val, "BinaryValue", 11) == 0)
			slice = &binary;
		(void) JsonbIteratorNext(it, &v, true);
		if (slice == NULL || v.type != jbvString)
			return malformed_attribute(name);
		if (!jsonb_text(&v, slice))
			return not_utf8(psprintf("attribute \"%s\"", name));
	}
	if (attribute->data_type.data == NULL)
		return malformed_attribute(name);
	if ((error = check_data_type(name, attribute->data_type)) != NULL)
		return error;

	attribute->binary = attribute->data_type.data[0] == 'B';
	if (attribute->binary ? binary.data == NULL || string.data != NULL :
		string.data == NULL || binary.data != NULL)
		return malformed_attribute(name);
	if (attribute->binary)
		return decode_bytes(name, binary, &attribute->value);
	attribute->value = string;
	if (attribute->data_type.data[0] == 'N')
		return check_number(name, string);
	return NULL;
}

/*
 * Convert message attributes (see doc/reference.md) into
 * message->attributes.  NULL, or what is wrong.  The slices refer to the
 * JSON value or to the current memory context.
 */
static SqsDraftError *
prepare_attributes(Jsonb *attributes, SqsOutgoing *message)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	SqsDraftError *error;

	if (!JB_ROOT_IS_OBJECT(attributes))
		return refuse_value("attributes must be a JSON object", NULL,
							"For example '{\"name\": \"value\", \"count\": 5}'.");
	if (JB_ROOT_COUNT(attributes) > SQS_MAX_ATTRIBUTES)
		return refuse_value(psprintf("the message has %d attributes",
									 (int) JB_ROOT_COUNT(attributes)),
							psprintf("SQS accepts at most %d.", SQS_MAX_ATTRIBUTES), NULL);

	it = JsonbIteratorInit(&attributes->root);
	(void) JsonbIteratorNext(&it, &v, false);
	while ((token = JsonbIteratorNext(&it, &v, false)) == WJB_KEY)
	{
		SqsAttribute *attribute = &message->attributes[message->nattributes];
		char	   *name = pnstrdup(v.val.string.val, v.val.string.len);

		memset(attribute, 0, sizeof(*attribute));
		attribute->name.data = name;
		attribute->name.len = v.val.string.len;
		if ((error = check_attribute_name(attribute->name)) != NULL)
			return error;

		token = JsonbIteratorNext(&it, &v, false);
		if (token == WJB_BEGIN_OBJECT)
			error = prepare_object(&it, name, attribute);
		else if (token != WJB_VALUE)
			error = malformed_attribute(name);
		else if (v.type == jbvString)
		{
			attribute->data_type = cstring_slice("String");
			if (!jsonb_text(&v, &attribute->value))
				error = not_utf8(psprintf("attribute \"%s\"", name));
		}
		else if (v.type == jbvNumeric)
		{
			attribute->data_type = cstring_slice("Number");
			attribute->value = cstring_slice(DatumGetCString(DirectFunctionCall1(numeric_out,
																				 NumericGetDatum(v.val.numeric))));
			error = check_number(name, attribute->value);
		}
		else
			error = malformed_attribute(name);
		if (error != NULL)
			return error;

		if (attribute->value.len == 0)
			return refuse_value(psprintf("attribute \"%s\" is empty", name),
								"SQS does not accept attributes without a value.", NULL);
		if (!attribute->binary &&
			(error = check_characters(attribute->value,
									  psprintf("attribute \"%s\"", name))) != NULL)
			return error;
		message->nattributes++;
	}
	return NULL;
}

/* Convert system attributes.  SQS accepts only AWSTraceHeader. */
static SqsDraftError *
prepare_system_attributes(Jsonb *attributes, SqsOutgoing *message)
{
	JsonbIterator *it;
	JsonbValue	v;

	if (JB_ROOT_IS_OBJECT(attributes) && JB_ROOT_COUNT(attributes) == 0)
		return NULL;
	if (JB_ROOT_IS_OBJECT(attributes) && JB_ROOT_COUNT(attributes) == 1)
	{
		it = JsonbIteratorInit(&attributes->root);
		(void) JsonbIteratorNext(&it, &v, false);
		(void) JsonbIteratorNext(&it, &v, false);
		if (v.val.string.len == 14 && memcmp(v.val.string.val, "AWSTraceHeader", 14) == 0 &&
			JsonbIteratorNext(&it, &v, false) == WJB_VALUE &&
			jsonb_text(&v, &message->trace_header) && message->trace_header.len > 0)
			return check_characters(message->trace_header, "the trace header");
	}
	return refuse_value("malformed system attributes",
						"The only system attribute that can be sent is AWSTraceHeader, a string.",
						"For example '{\"AWSTraceHeader\": \"Root=1-5759e988-bd862e3fe1be46a994272793\"}'.");
}

/* ---- the message ---- */

/* Convert SQS's own delay, which FIFO queues do not have per message. */
static SqsDraftError *
prepare_delay(Datum value, bool fifo, SqsOutgoing *message)
{
	Interval   *interval = DatumGetIntervalP(value);
	int64		usecs = interval->time;

	if (interval->month != 0 || interval->day < 0 || interval->day > 1 ||
		usecs < 0 || usecs > USECS_PER_DAY ||
		(usecs += interval->day * USECS_PER_DAY) > SQS_MAX_DELAY * USECS_PER_SEC ||
		usecs % USECS_PER_SEC != 0)
		return refuse_value(psprintf("invalid delay \"%s\"",
									 DatumGetCString(DirectFunctionCall1(interval_out, value))),
							"A delay is 0 to 15 minutes, in whole seconds.",
							"The outbox can delay a message by any time; see column deliver_at of sqs_outbox.");
	if (fifo && usecs > 0)
		return refuse_value("a message of a FIFO queue cannot have a delay of its own",
							"SQS delays FIFO messages by the queue's attribute DelaySeconds only.",
							"The outbox can delay a message by any time; see column deliver_at of sqs_outbox.");
	if (!fifo)
		message->delay = (int) (usecs / USECS_PER_SEC);
	return NULL;
}

/*
 * Check a draft and turn it into an outgoing message for a queue of this
 * kind.  Returns NULL, or what is wrong with the draft.  The slices of the
 * message refer to the draft's values or to the current memory context.
 */
SqsDraftError *
sqs_outgoing_prepare(const SqsDraft *draft, bool fifo, SqsOutgoing *message)
{
	SqsDraftError *error = NULL;
	text	   *body;
	size_t		size;

	memset(message, 0, offsetof(SqsOutgoing, attributes));
	message->delay = -1;

	if (draft->body == (Datum) 0)
		return refuse(ERRCODE_NULL_VALUE_NOT_ALLOWED, "MissingParameter",
					  "the body must not be null", NULL, NULL);
	body = DatumGetTextPP(draft->body);
	if (VARSIZE_ANY_EXHDR(body) == 0)
		return refuse(ERRCODE_INVALID_PARAMETER_VALUE, "MissingParameter",
					  "the body must not be empty", "SQS accepts messages of 1 byte to 1 MiB.", NULL);
	if (!to_utf8(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body), &message->body))
		return not_utf8("the body");

	if (draft->attributes != (Datum) 0)
		error = prepare_attributes(DatumGetJsonbP(draft->attributes), message);
	if (error == NULL && draft->system_attributes != (Datum) 0)
		error = prepare_system_attributes(DatumGetJsonbP(draft->system_attributes), message);
	if (error == NULL && draft->delay != (Datum) 0)
		error = prepare_delay(draft->delay, fifo, message);
	if (error == NULL && draft->group_id != (Datum) 0)
		error = prepare_id(draft->group_id, "group id", &message->group_id);
	if (error == NULL && draft->deduplication_id != (Datum) 0)
		error = prepare_id(draft->deduplication_id, "deduplication id",
						   &message->deduplication_id);
	if (error != NULL)
		return error;

	size = sqs_outgoing_size(message);
	if (size > SQS_MAX_MESSAGE_BYTES)
		return refuse(ERRCODE_PROGRAM_LIMIT_EXCEEDED, "InvalidParameterValue",
					  psprintf("the message has %zu bytes", size),
					  psprintf("SQS accepts at most %d bytes, including the names, types, and values of attributes.",
							   SQS_MAX_MESSAGE_BYTES),
					  "Store large content elsewhere, and send a reference to it.");
	if (fifo && message->group_id.data == NULL)
		return refuse(ERRCODE_INVALID_PARAMETER_VALUE, "MissingParameter",
					  "a message of a FIFO queue must have a group id",
					  NULL, "Messages of one group are delivered in order. To keep all messages in order, use a single group.");
	if (!fifo && message->deduplication_id.data != NULL)
		return refuse_value("a message of a standard queue cannot have a deduplication id",
							"Only FIFO queues, whose names end in .fifo, deduplicate.", NULL);
	return check_characters(message->body, "the body");
}

/*
 * Add the attribute sqsbridge-id, by which a receiver recognizes a second
 * copy of the message.  "id" is a UUID in text form and must live as long as
 * the message.  False, without a change, if the message has ten attributes,
 * one of that name, or no room for it.
 */
bool
sqs_outgoing_add_id(SqsOutgoing *message, const char *id)
{
	SqsAttribute *attribute = &message->attributes[message->nattributes];

	if (message->nattributes == SQS_MAX_ATTRIBUTES ||
		sqs_outgoing_size(message) + SQS_ID_BYTES > SQS_MAX_MESSAGE_BYTES)
		return false;
	for (int i = 0; i < message->nattributes; i++)
	{
		if (message->attributes[i].name.len == strlen(SQS_ID_ATTRIBUTE) &&
			memcmp(message->attributes[i].name.data, SQS_ID_ATTRIBUTE,
				   strlen(SQS_ID_ATTRIBUTE)) == 0)
			return false;
	}
	memset(attribute, 0, sizeof(*attribute));
	attribute->name = cstring_slice(SQS_ID_ATTRIBUTE);
	attribute->data_type = cstring_slice("String");
	attribute->value = cstring_slice(id);
	message->nattributes++;
	return true;
}
