/*-------------------------------------------------------------------------
 *
 * message.c
 *	  Converting a received message to the SQL value that a handler gets.
 *
 * SQS uses UTF-8.  The text of the value is in the database's encoding; the
 * server's own routines convert and verify it.  An error raised here is
 * recorded as a failure of the message.
 *
 * Attributes are put together as JSON text and converted by jsonb_in(), because
 * the C functions that build jsonb differ between major versions.  Few messages
 * have attributes, so this is fast enough.  But every message has system
 * attributes, which are just strings.  For these, a sorted object is passed to
 * JsonbValueToJsonb().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "common/base64.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "base/extension.h"
#include "base/id_attribute.h"
#include "receive/envelope.h"
#include "receive/message.h"

#define SQS_MESSAGE_NATTS	14

#define BUSINESS_KEY_MAX	256 /* bytes; a longer one is hashed */

/*
 * Convert a slice of a message to a string in the database's encoding,
 * palloc'd.
 */
static char *
slice_to_cstring(SqsSlice slice)
{
	char	   *utf8 = pnstrdup(slice.data != NULL ? slice.data : "", slice.len);

	/* a NUL would be taken for the end of the string */
	if (strlen(utf8) != slice.len)
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("message contains a NUL character")));
	return pg_any_to_server(utf8, slice.len, PG_UTF8);
}

/* Convert a slice to text; the empty text if there is none. */
static Datum
slice_to_text(SqsSlice slice)
{
	char	   *converted;

	if (slice.data == NULL || slice.len == 0)
		return CStringGetTextDatum("");
	converted = pg_any_to_server(slice.data, slice.len, PG_UTF8);
	if (converted == slice.data)
		return PointerGetDatum(cstring_to_text_with_len(slice.data, slice.len));
	return CStringGetTextDatum(converted);
}

/*
 * Append the value of a Number attribute as a JSON number.  SQS accepts
 * spellings that JSON does not, such as "+5", ".5" and "007"; these are
 * normalized.  Returns false, without appending anything, for any other
 * text.
 */
static bool
append_number(StringInfo buf, SqsSlice value)
{
	const char *p = value.data;
	const char *end = p + value.len;
	const char *digits;
	int			nint = 0;
	int			nfrac = 0;
	StringInfoData number;

	initStringInfo(&number);
	if (p < end && (*p == '-' || *p == '+'))
	{
		if (*p == '-')
			appendStringInfoChar(&number, '-');
		p++;
	}
	while (p + 1 < end && p[0] == '0' && p[1] >= '0' && p[1] <= '9')
		p++;
	digits = p;
	while (p < end && *p >= '0' && *p <= '9')
		p++, nint++;
	appendBinaryStringInfo(&number, digits, nint);
	if (nint == 0)
		appendStringInfoChar(&number, '0');
	if (p < end && *p == '.')
	{
		digits = ++p;
		while (p < end && *p >= '0' && *p <= '9')
			p++, nfrac++;
		if (nfrac > 0)
		{
			appendStringInfoChar(&number, '.');
			appendBinaryStringInfo(&number, digits, nfrac);
		}
	}
	if (nint + nfrac == 0)
		return false;
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		int			nexp = 0;

		appendStringInfoChar(&number, 'e');
		p++;
		if (p < end && (*p == '-' || *p == '+'))
			appendStringInfoChar(&number, *p++);
		while (p < end && *p >= '0' && *p <= '9')
			appendStringInfoChar(&number, *p++), nexp++;
		if (nexp == 0 || nexp > 3)	/* SQS: 1e-128 .. 1e+126 */
			return false;
	}
	if (p != end)
		return false;
	appendBinaryStringInfo(buf, number.data, number.len);
	return true;
}

/* Is the slice equal to a string? */
static bool
slice_is(SqsSlice slice, const char *text)
{
	return slice.len == strlen(text) && memcmp(slice.data, text, slice.len) == 0;
}

/* The attribute with the id from an outbox; NULL if there is none. */
static const SqsAttribute *
outbox_id(const SqsReceivedMessage *message)
{
	for (int i = 0; i < message->nattributes; i++)
	{
		const SqsAttribute *attribute = &message->attributes[i];

		if (!slice_is(attribute->name, SQS_ID_ATTRIBUTE))
			continue;

		/* only a UUID can be from an outbox */
		if (attribute->binary || attribute->value.len != 36)
			return NULL;
		for (int j = 0; j < 36; j++)
		{
			bool		dash = j == 8 || j == 13 || j == 18 || j == 23;

			if (dash ? attribute->value.data[j] != '-' :
				strchr("0123456789abcdefABCDEF", attribute->value.data[j]) == NULL ||
				attribute->value.data[j] == '\0')
				return NULL;
		}
		return attribute;
	}
	return NULL;
}

/* ---- key in the inbox ---- */

/* Raise an ERROR for a failed hash. */
static void
hash_failed(pg_cryptohash_ctx *hash)
{
	ereport(ERROR,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg("could not compute SHA-256: %s", pg_cryptohash_error(hash))));
}

/* Start a SHA-256 hash; free it with hash_end(). */
static pg_cryptohash_ctx *
hash_begin(void)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);

	if (hash == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	if (pg_cryptohash_init(hash) < 0)
		hash_failed(hash);
	return hash;
}

/* Add bytes to the hash. */
static void
hash_bytes(pg_cryptohash_ctx *hash, const void *data, size_t len)
{
	if (len > 0 && pg_cryptohash_update(hash, data, len) < 0)
		hash_failed(hash);
}

/*
 * Add a slice with its length first, so that different sequences of slices
 * cannot give the same bytes.
 */
static void
hash_slice(pg_cryptohash_ctx *hash, SqsSlice slice)
{
	uint64		len = pg_hton64((uint64) slice.len);

	hash_bytes(hash, &len, sizeof(len));
	hash_bytes(hash, slice.data, slice.len);
}

/* Append the hash in hexadecimal digits to buf, and free it. */
static void
hash_end(pg_cryptohash_ctx *hash, StringInfo buf)
{
	uint8		digest[PG_SHA256_DIGEST_LENGTH];

	if (pg_cryptohash_final(hash, digest, sizeof(digest)) < 0)
		hash_failed(hash);
	pg_cryptohash_free(hash);
	enlargeStringInfo(buf, 2 * sizeof(digest));
	buf->len += hex_encode((const char *) digest, sizeof(digest), buf->data + buf->len);
	buf->data[buf->len] = '\0';
}

/* Compare two slices bytewise. */
static int
compare_slices(SqsSlice a, SqsSlice b)
{
	size_t		len = Min(a.len, b.len);
	int			cmp = len > 0 ? memcmp(a.data, b.data, len) : 0;

	if (cmp != 0)
		return cmp;
	return a.len < b.len ? -1 : a.len > b.len;
}

/* qsort comparator: name, then type, then value. */
static int
compare_attributes(const void *a, const void *b)
{
	const SqsAttribute *left = *(const SqsAttribute *const *) a;
	const SqsAttribute *right = *(const SqsAttribute *const *) b;
	int			cmp = compare_slices(left->name, right->name);

	if (cmp == 0)
		cmp = compare_slices(left->data_type, right->data_type);
	return cmp != 0 ? cmp : compare_slices(left->value, right->value);
}

/*
 * The AWS principal that sent the message, according to SQS's SenderId.  The
 * part before the colon identifies the user or role, the rest a session.
 */
static SqsSlice
sender_of(const SqsReceivedMessage *message)
{
	SqsSlice	sender = {NULL, 0};

	for (int i = 0; i < message->nsystem; i++)
	{
		const char *colon;

		if (!slice_is(message->system[i].name, "SenderId"))
			continue;
		sender = message->system[i].value;
		colon = sender.len > 0 ? memchr(sender.data, ':', sender.len) : NULL;
		if (colon != NULL)
			sender.len = colon - sender.data;
		break;
	}
	return sender;
}

/*
 * Append a digest of the content of the message and of its sender.  "id" is
 * the attribute to leave out.
 */
static void
append_digest(StringInfo buf, const SqsReceivedMessage *message, const SqsAttribute *id)
{
	const SqsAttribute *sorted[SQS_PARSE_MAX_ATTRIBUTES];
	int			n = 0;
	uint64		count;
	pg_cryptohash_ctx *hash = hash_begin();

	for (int i = 0; i < message->nattributes; i++)
	{
		if (&message->attributes[i] != id)
			sorted[n++] = &message->attributes[i];
	}
	qsort(sorted, n, sizeof(sorted[0]), compare_attributes);

	hash_slice(hash, sender_of(message));
	hash_slice(hash, message->group_id);
	count = pg_hton64((uint64) n);
	hash_bytes(hash, &count, sizeof(count));
	for (int i = 0; i < n; i++)
	{
		hash_slice(hash, sorted[i]->name);
		hash_slice(hash, sorted[i]->data_type);
		hash_slice(hash, sorted[i]->value);
	}
	hash_slice(hash, message->body);
	hash_end(hash, buf);
}

/*
 * The key of a message in the inbox, palloc'd: ASCII, at most 128 bytes.
 *
 * Normally it is SQS's message id.  For a message from an outbox it is the
 * id given there, which all copies of one row share, combined with a digest
 * of the message's content and sender.  Anybody who may send to the queue
 * can write any attribute, so the id alone must not identify a message:
 * otherwise a sender who has seen an id could have later messages dropped,
 * and messages that are forwarded with all their attributes would be lost.
 * A message with the same id and content, from the same principal, is a
 * copy, and it is right to handle only one of them.
 *
 * There are several kinds of keys, which cannot be equal: with prefix
 * "outbox:", with prefix "sha256:" (for an id that is not like SQS's), and
 * plain ids, which have no colon; and business keys, see below.
 */
char *
sqs_message_identity(const SqsReceivedMessage *message)
{
	const SqsAttribute *id = outbox_id(message);
	SqsSlice	own = message->message_id;
	StringInfoData buf;
	bool		plain = own.len > 0 && own.len <= 100;

	initStringInfo(&buf);
	if (id != NULL)
	{
		appendStringInfoString(&buf, "outbox:");
		for (int i = 0; i < id->value.len; i++)
			appendStringInfoChar(&buf, pg_ascii_tolower((unsigned char) id->value.data[i]));
		appendStringInfoChar(&buf, ':');
		append_digest(&buf, message, id);
		return buf.data;
	}

	/* SQS's ids are UUIDs; hash anything else that an endpoint may send */
	for (int i = 0; i < own.len && plain; i++)
		plain = own.data[i] == '-' || own.data[i] == '_' ||
			(own.data[i] >= '0' && own.data[i] <= '9') ||
			(own.data[i] >= 'A' && own.data[i] <= 'Z') ||
			(own.data[i] >= 'a' && own.data[i] <= 'z');
	if (plain)
		appendBinaryStringInfo(&buf, own.data, own.len);
	else
	{
		pg_cryptohash_ctx *hash = hash_begin();

		appendStringInfoString(&buf, "sha256:");
		hash_bytes(hash, own.data, own.len);
		hash_end(hash, &buf);
	}
	return buf.data;
}

/*
 * The same for a business key (option dedup_key), in the database's encoding:
 * with prefix "key:", or, if it is too long for that, "key-sha256:".
 */
char *
sqs_message_business_identity(const char *key)
{
	StringInfoData buf;
	size_t		len = strlen(key);

	initStringInfo(&buf);
	if (len <= BUSINESS_KEY_MAX)
		appendStringInfo(&buf, "key:%s", key);
	else
	{
		pg_cryptohash_ctx *hash = hash_begin();

		appendStringInfoString(&buf, "key-sha256:");
		hash_bytes(hash, key, len);
		hash_end(hash, &buf);
	}
	return buf.data;
}

/* {}, which most messages have as their attributes; it is not to be changed. */
static Datum
empty_jsonb(void)
{
	static Datum empty = (Datum) 0;

	if (empty == (Datum) 0)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		empty = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
		MemoryContextSwitchTo(old);
	}
	return empty;
}

/*
 * The message attributes as jsonb.  The id from an outbox is left out, so
 * that a handler that forwards a message with its attributes does not send
 * another message with the same id.
 */
static Datum
attributes_jsonb(const SqsReceivedMessage *message)
{
	const SqsAttribute *id = outbox_id(message);
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	for (int i = 0; i < message->nattributes; i++)
	{
		const SqsAttribute *attribute = &message->attributes[i];

		if (attribute == id)
			continue;
		if (buf.len > 1)
			appendStringInfoChar(&buf, ',');
		escape_json(&buf, slice_to_cstring(attribute->name));
		appendStringInfoChar(&buf, ':');

		if (slice_is(attribute->data_type, "String"))
			escape_json(&buf, slice_to_cstring(attribute->value));
		else if (slice_is(attribute->data_type, "Number") &&
				 append_number(&buf, attribute->value))
			 /* done */ ;
		else
		{
			appendStringInfoString(&buf, "{\"DataType\":");
			escape_json(&buf, slice_to_cstring(attribute->data_type));
			if (attribute->binary)
			{
				int			len = pg_b64_enc_len(attribute->value.len);
				char	   *encoded = palloc(len + 1);

				/*
				 * void, because the type is uint8 in PostgreSQL 18 and later
				 */
				len = pg_b64_encode((const void *) attribute->value.data,
									attribute->value.len, encoded, len);
				if (len < 0)
					elog(ERROR, "could not encode attribute value");
				encoded[len] = '\0';
				appendStringInfo(&buf, ",\"BinaryValue\":\"%s\"}", encoded);
			}
			else
			{
				appendStringInfoString(&buf, ",\"StringValue\":");
				escape_json(&buf, slice_to_cstring(attribute->value));
				appendStringInfoChar(&buf, '}');
			}
		}
	}
	appendStringInfoChar(&buf, '}');
	return buf.len == 2 ? empty_jsonb() :
		DirectFunctionCall1(jsonb_in, CStringGetDatum(buf.data));
}

/* A slice as a string in jsonb; it may point to the slice. */
static void
slice_to_jsonb_string(SqsSlice slice, JsonbValue *value)
{
	char	   *converted = slice.len == 0 ? "" : pg_any_to_server(slice.data, slice.len, PG_UTF8);

	value->type = jbvString;
	value->val.string.val = converted;
	value->val.string.len = converted == slice.data ? slice.len : strlen(converted);
}

/* The order of keys in jsonb. */
static int
compare_keys(const JsonbValue *a, const JsonbValue *b)
{
	if (a->val.string.len != b->val.string.len)
		return a->val.string.len > b->val.string.len ? 1 : -1;
	return memcmp(a->val.string.val, b->val.string.val, a->val.string.len);
}

/*
 * SQS's system attributes as jsonb.  Of two with the same name, the last one
 * counts, as jsonb_in() has it.
 */
static Datum
system_jsonb(const SqsReceivedMessage *message)
{
	JsonbPair	pairs[SQS_PARSE_MAX_SYSTEM_ATTRIBUTES];
	JsonbValue	object;
	int			n = 0;

	for (int i = 0; i < message->nsystem; i++)
	{
		JsonbPair	pair;
		int			at = n;

		slice_to_jsonb_string(message->system[i].name, &pair.key);
		slice_to_jsonb_string(message->system[i].value, &pair.value);
		pair.order = i;
		while (at > 0 && compare_keys(&pairs[at - 1].key, &pair.key) > 0)
			at--;
		if (at > 0 && compare_keys(&pairs[at - 1].key, &pair.key) == 0)
		{
			pairs[at - 1] = pair;
			continue;
		}
		memmove(&pairs[at + 1], &pairs[at], (n - at) * sizeof(JsonbPair));
		pairs[at] = pair;
		n++;
	}
	object.type = jbvObject;
	object.val.object.nPairs = n;
	object.val.object.pairs = pairs;
	return JsonbPGetDatum(JsonbValueToJsonb(&object));
}

/* Convert milliseconds since 1970. */
TimestampTz
sqs_message_time(int64 ms)
{
	return ms * 1000 -
		((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE)) * USECS_PER_DAY;
}

/* Do Amazon's extended clients say that the body is a pointer to an object? */
static bool
has_s3_flag(const SqsReceivedMessage *message)
{
	for (int i = 0; i < message->nattributes; i++)
	{
		if (slice_is(message->attributes[i].name, "ExtendedPayloadSize") ||
			slice_is(message->attributes[i].name, "SQSLargePayloadSize"))
			return true;
	}
	return false;
}

/*
 * Convert the parts that the option unwrap is about.  "body" is the message's body
 * as a text in UTF-8.  Raises an ERROR if the database's encoding cannot
 * represent them.
 */
void
sqs_message_open(const SqsReceivedMessage *message, text *body, SqsUnwrap unwrap,
				 SqsContent *content)
{
	SqsUnwrapped inner = {NULL};

	if (unwrap != SQS_UNWRAP_NONE)
		sqs_unwrap(unwrap, slice_to_cstring(message->body), has_s3_flag(message), &inner);
	if (inner.body != NULL)
		content->body = CStringGetTextDatum(inner.body);
	else
	{
		char	   *converted = pg_any_to_server(message->body.data, message->body.len, PG_UTF8);

		content->body = converted == message->body.data ? PointerGetDatum(body) :
			CStringGetTextDatum(converted);
	}
	content->attributes = inner.attributes != (Datum) 0 ? inner.attributes :
		attributes_jsonb(message);
	content->envelope = inner.envelope;
	content->for_nobody = inner.test_event;
}

/*
 * Make a value of type sqs_message in the current memory context.  "queue"
 * is the name of the queue in sqs_queues.  Raises an ERROR if the database's
 * encoding cannot represent the message.
 */
Datum
sqs_message_datum(const char *queue, const SqsReceivedMessage *message,
				  const SqsContent *content, int attempt)
{
	static TupleDesc tupdesc = NULL;
	Datum		values[SQS_MESSAGE_NATTS];
	bool		nulls[SQS_MESSAGE_NATTS];

	if (tupdesc == NULL)
	{
		MemoryContext old;
		TupleDesc	found = lookup_rowtype_tupdesc_copy(sqs_message_type_oid(), -1);

		if (found->natts != SQS_MESSAGE_NATTS)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("type \"sqs_message\" does not have the attributes this version of sqsbridge expects"),
					 errhint("Run ALTER EXTENSION sqsbridge UPDATE.")));
		old = MemoryContextSwitchTo(TopMemoryContext);
		tupdesc = CreateTupleDescCopy(found);
		tupdesc->tdtypeid = found->tdtypeid;
		tupdesc->tdtypmod = found->tdtypmod;
		MemoryContextSwitchTo(old);
	}

	memset(nulls, 0, sizeof(nulls));
	values[0] = CStringGetTextDatum(queue);
	values[1] = slice_to_text(message->message_id);
	values[2] = content->body;
	values[3] = content->attributes;
	values[4] = system_jsonb(message);
	values[5] = Int32GetDatum(message->receive_count);
	nulls[5] = message->receive_count <= 0;
	values[6] = TimestampTzGetDatum(sqs_message_time(message->sent_ms));
	nulls[6] = message->sent_ms <= 0;
	values[7] = TimestampTzGetDatum(sqs_message_time(message->first_received_ms));
	nulls[7] = message->first_received_ms <= 0;
	nulls[8] = message->group_id.data == NULL;
	values[8] = nulls[8] ? (Datum) 0 : slice_to_text(message->group_id);
	nulls[9] = message->deduplication_id.data == NULL;
	values[9] = nulls[9] ? (Datum) 0 : slice_to_text(message->deduplication_id);
	nulls[10] = message->sequence_number.data == NULL;
	values[10] = nulls[10] ? (Datum) 0 :
		DirectFunctionCall3(numeric_in,
							CStringGetDatum(slice_to_cstring(message->sequence_number)),
							ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	values[11] = slice_to_text(message->receipt_handle);
	values[12] = Int32GetDatum(attempt);
	values[13] = content->envelope;
	nulls[13] = content->envelope == (Datum) 0;

	return HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls));
}

/* ---- a message that is kept ---- */

/* Can the database's encoding represent this? */
static bool
is_text(SqsSlice slice)
{
	int			encoding = GetDatabaseEncoding();
	int			size = (int) slice.len * MAX_CONVERSION_GROWTH + 1;
	unsigned char *buffer;
	Oid			conversion;
	int			converted;

	if (slice.len == 0)
		return true;
	if (!pg_verify_mbstr(PG_UTF8, slice.data, (int) slice.len, true))
		return false;
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return true;
	conversion = FindDefaultConversionProc(PG_UTF8, encoding);
	if (!OidIsValid(conversion))
		return false;
	buffer = palloc(size);
	converted = pg_do_encoding_conversion_buf(conversion, PG_UTF8, encoding,
											  (unsigned char *) unconstify(char *, slice.data),
											  (int) slice.len, buffer, size, true);
	pfree(buffer);
	return converted == (int) slice.len;
}

static bool
message_is_text(const SqsReceivedMessage *message)
{
	if (!is_text(message->body))
		return false;
	for (int i = 0; i < message->nattributes; i++)
	{
		const SqsAttribute *attribute = &message->attributes[i];

		if (!is_text(attribute->name) || !is_text(attribute->data_type) ||
			(!attribute->binary && !is_text(attribute->value)))
			return false;
	}
	for (int i = 0; i < message->nsystem; i++)
	{
		if (!is_text(message->system[i].name) || !is_text(message->system[i].value))
			return false;
	}
	return true;
}

/* An id, which SQS makes of ASCII characters; anything else becomes "?". */
static Datum
id_text(SqsSlice slice)
{
	char	   *id;

	if (slice.data == NULL)
		return (Datum) 0;
	if (is_text(slice))
		return slice_to_text(slice);
	id = palloc(slice.len + 1);
	for (size_t i = 0; i < slice.len; i++)
		id[i] = slice.data[i] > ' ' && slice.data[i] < 0x7f ? slice.data[i] : '?';
	return PointerGetDatum(cstring_to_text_with_len(id, (int) slice.len));
}

/* SQS's sequence number; NULL if it is none. */
static Datum
sequence_numeric(SqsSlice slice)
{
	if (slice.len == 0 || slice.len > 100)
		return (Datum) 0;
	for (size_t i = 0; i < slice.len; i++)
	{
		if (slice.data[i] < '0' || slice.data[i] > '9')
			return (Datum) 0;
	}
	return DirectFunctionCall3(numeric_in, CStringGetDatum(pnstrdup(slice.data, slice.len)),
							   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
}

/* Append bytes as a JSON string, of whatever encoding they are. */
static void
append_raw_string(StringInfo buf, SqsSlice bytes)
{
	appendStringInfoChar(buf, '"');
	for (size_t i = 0; i < bytes.len; i++)
	{
		unsigned char c = bytes.data[i];

		if (c == '"' || c == '\\')
			appendStringInfoChar(buf, '\\');
		if (c < 0x20)
			appendStringInfo(buf, "\\u%04x", c);
		else
			appendStringInfoChar(buf, c);
	}
	appendStringInfoChar(buf, '"');
}

/* The same with a name before it. */
static void
append_raw_member(StringInfo buf, SqsSlice name, SqsSlice value)
{
	if (buf->data[buf->len - 1] != '{')
		appendStringInfoChar(buf, ',');
	append_raw_string(buf, name);
	appendStringInfoChar(buf, ':');
	append_raw_string(buf, value);
}

static SqsSlice
cstring_slice(const char *text)
{
	SqsSlice	slice = {text, strlen(text)};

	return slice;
}

/* Base64, as a slice. */
static SqsSlice
encoded_slice(SqsSlice bytes)
{
	SqsSlice	slice;
	int			size = pg_b64_enc_len((int) bytes.len) + 1;
	char	   *encoded = palloc(size);
	int			len = pg_b64_encode((const void *) bytes.data, (int) bytes.len, encoded, size);

	if (len < 0)
		elog(ERROR, "could not encode attribute value");
	slice.data = encoded;
	slice.len = len;
	return slice;
}

/*
 * The whole message as JSON, with the names that SQS uses, in the bytes that SQS
 * has sent: UTF-8, if the sender has sent that.
 */
static Datum
raw_message(const SqsReceivedMessage *message)
{
	StringInfoData buf;
	bytea	   *raw;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	append_raw_member(&buf, cstring_slice("Body"), message->body);
	appendStringInfoString(&buf, ",\"MessageAttributes\":{");
	for (int i = 0; i < message->nattributes; i++)
	{
		const SqsAttribute *attribute = &message->attributes[i];

		if (i > 0)
			appendStringInfoChar(&buf, ',');
		append_raw_string(&buf, attribute->name);
		appendStringInfoString(&buf, ":{");
		append_raw_member(&buf, cstring_slice("DataType"), attribute->data_type);
		if (attribute->binary)
			append_raw_member(&buf, cstring_slice("BinaryValue"), encoded_slice(attribute->value));
		else
			append_raw_member(&buf, cstring_slice("StringValue"), attribute->value);
		appendStringInfoChar(&buf, '}');
	}
	appendStringInfoString(&buf, "},\"Attributes\":{");
	for (int i = 0; i < message->nsystem; i++)
		append_raw_member(&buf, message->system[i].name, message->system[i].value);
	appendStringInfoString(&buf, "}}");

	raw = palloc(buf.len + VARHDRSZ);
	SET_VARSIZE(raw, buf.len + VARHDRSZ);
	memcpy(VARDATA(raw), buf.data, buf.len);
	return PointerGetDatum(raw);
}

/*
 * Unlike sqs_message_datum(), this must work for any message: what cannot be kept
 * would be lost.
 */
void
sqs_message_keep(const SqsReceivedMessage *message, SqsUnwrap unwrap, SqsKeptMessage *kept)
{
	SqsUnwrapped inner = {NULL};

	memset(kept, 0, sizeof(*kept));
	kept->message_id = message->message_id.data != NULL ? id_text(message->message_id) :
		CStringGetTextDatum("");
	kept->group_id = id_text(message->group_id);
	kept->deduplication_id = id_text(message->deduplication_id);
	kept->sequence_number = sequence_numeric(message->sequence_number);
	if (!message_is_text(message))
	{
		kept->raw = raw_message(message);
		return;
	}
	kept->body = slice_to_text(message->body);
	kept->attributes = attributes_jsonb(message);
	kept->system_attributes = system_jsonb(message);
	if (unwrap != SQS_UNWRAP_NONE)
		sqs_unwrap(unwrap, slice_to_cstring(message->body), has_s3_flag(message), &inner);
	kept->envelope = inner.envelope;
}
