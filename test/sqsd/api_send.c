/*-------------------------------------------------------------------------
 *
 * api_send.c
 *	  SendMessage and SendMessageBatch with all their validation.
 *
 *-------------------------------------------------------------------------
 */
#include "server.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BAD_CONTENTS \
	"Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | " \
	"#x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF."

/*
 * Does the text hold only characters which SQS allows?  It is known to be
 * valid UTF-8, so it suffices to look for control characters and for U+FFFE
 * and U+FFFF, which are EF BF BE and EF BF BF.
 */
static bool
text_legal(const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *) s;

	for (size_t i = 0; i < len; i++)
	{
		if (p[i] < 0x20 && p[i] != '\t' && p[i] != '\n' && p[i] != '\r')
			return false;
		if (p[i] == 0xef && i + 2 < len && p[i + 1] == 0xbf && p[i + 2] >= 0xbe)
			return false;
	}
	return true;
}

/* Group and deduplication ids: 1 to 128 printable ASCII characters, no space */
static bool
id_legal(const char *s, size_t len)
{
	if (len < 1 || len > 128)
		return false;
	for (size_t i = 0; i < len; i++)
		if (s[i] <= ' ' || s[i] > '~')
			return false;
	return true;
}

static bool
attr_name_legal(const char *name)
{
	size_t		len = strlen(name);

	if (len < 1 || len > 256 || name[0] == '.' || name[len - 1] == '.' ||
		strstr(name, "..") != NULL || strncasecmp(name, "aws.", 4) == 0 ||
		strncasecmp(name, "amazon.", 7) == 0)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			  (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'))
			return false;
	}
	return true;
}

/* Is the data type kind itself, or kind with a label? */
static bool
type_is(const char *type, const char *kind)
{
	size_t		len = strlen(kind);

	return strncmp(type, kind, len) == 0 && (type[len] == '\0' || type[len] == '.');
}

/*
 * A decimal number of at most 38 significant digits, -1e-128 .. 1e126; zeros
 * before and behind the others do not count.
 */
static bool
number_legal(const char *s)
{
	int			digits = 0;
	int			zeros = 0;
	bool		any = false;
	bool		significant = false;
	bool		point = false;
	int			exponent = 0;

	if (*s == '+' || *s == '-')
		s++;
	for (; (*s >= '0' && *s <= '9') || (*s == '.' && !point); s++)
	{
		if (*s == '.')
		{
			point = true;
			continue;
		}
		any = true;
		if (*s != '0')
			significant = true;
		if (significant)
			digits++;
		zeros = *s == '0' ? zeros + 1 : 0;
	}
	if (!any)
		return false;
	if (*s == 'e' || *s == 'E')
	{
		char	   *end;

		s++;
		if ((*s < '0' || *s > '9') && *s != '-' && *s != '+')
			return false;
		exponent = (int) strtol(s, &end, 10);
		if (end == s)
			return false;
		s = end;
	}
	return *s == '\0' && digits - (significant ? zeros : 0) <= 38 && exponent >= -128 && exponent <= 126;
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(((const MessageAttr *) a)->name, ((const MessageAttr *) b)->name);
}

static bool
parse_attribute(const char *name, json_t *value, MessageAttr *attr, ApiError *error)
{
	const char *type;
	const char *text;
	const char *binary;
	size_t		type_len;
	size_t		text_len;
	size_t		binary_len;

	if (!json_is_object(value))
		return api_error(error, ERR_SERIALIZATION, "Unexpected value for a message attribute");
	if (!attr_name_legal(name))
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "Message (user) attribute name can only contain upper and lower score "
						 "characters, digits, periods, hyphens and underscores, must not start "
						 "or end with a period, and must not start with AWS. or Amazon.");
	if (!get_string(value, "DataType", &type, &type_len, error) ||
		!get_string(value, "StringValue", &text, &text_len, error) ||
		!get_string(value, "BinaryValue", &binary, &binary_len, error))
		return false;
	if (type == NULL || type_len == 0)
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "The message (user) attribute '%s' must contain a non-empty message "
						 "attribute type.", name);
	if (type_len > 256 || strlen(type) != type_len ||
		!(type_is(type, "String") || type_is(type, "Number") || type_is(type, "Binary")))
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "The message (user) attribute '%s' has an invalid message attribute "
						 "type, the set of supported type prefixes is Binary, Number, and "
						 "String.", name);
	attr->binary = type_is(type, "Binary");
	if ((attr->binary ? binary_len : text_len) == 0)
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "Message (user) attribute '%s' must contain a non-empty value of type "
						 "'%s'.", name, attr->binary ? "Binary" : "String");
	if ((attr->binary ? text : binary) != NULL)
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "Message (user) attribute '%s' has a value of a type which does not "
						 "match its data type.", name);
	if (!attr->binary && !text_legal(text, text_len))
		return api_error(error, ERR_INVALID_PARAMETER_VALUE, BAD_CONTENTS);
	if (type_is(type, "Number") && (strlen(text) != text_len || !number_legal(text)))
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "Can't cast the value of message (user) attribute '%s' to a number.",
						 name);

	if (attr->binary)
	{
		unsigned char *raw = xmalloc(binary_len);
		ptrdiff_t	len = base64_decode(binary, binary_len, raw);

		if (len < 0)
		{
			free(raw);
			return api_error(error, ERR_SERIALIZATION, "Invalid base64 in BinaryValue");
		}
		attr->value = (char *) raw;
		attr->value_len = (size_t) len;
	}
	else
	{
		attr->value = xmalloc(text_len + 1);
		memcpy(attr->value, text, text_len + 1);
		attr->value_len = text_len;
	}
	attr->name = xstrdup(name);
	attr->type = xstrdup(type);
	return true;
}

static bool
parse_attributes(const json_t *in, AttrSet **result, ApiError *error)
{
	json_t	   *map;
	json_t	   *value;
	const char *name;
	AttrSet    *set;
	const MessageAttr *sorted[MAX_ATTRIBUTES];

	*result = NULL;
	if (!get_object(in, "MessageAttributes", &map, error))
		return false;
	if (map == NULL || json_object_size(map) == 0)
		return true;
	if (json_object_size(map) > MAX_ATTRIBUTES)
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "Number of message attributes [%zu] exceeds the allowed maximum [%d].",
						 json_object_size(map), MAX_ATTRIBUTES);
	set = xcalloc(1, sizeof(AttrSet));
	json_object_foreach(map, name, value)
	{
		MessageAttr *attr = &set->attrs[set->count];

		if (!parse_attribute(name, value, attr, error))
		{
			attrs_free(set);
			return false;
		}
		set->count++;
		set->bytes += strlen(attr->name) + strlen(attr->type) + attr->value_len;
	}
	qsort(set->attrs, (size_t) set->count, sizeof(MessageAttr), compare_names);
	for (int i = 0; i < set->count; i++)
		sorted[i] = &set->attrs[i];
	attrs_md5(sorted, set->count, set->md5);
	*result = set;
	return true;
}

static bool
parse_trace(const json_t *in, const char **trace, ApiError *error)
{
	json_t	   *map;
	json_t	   *value;
	const char *name;
	const char *type;

	*trace = NULL;
	if (!get_object(in, "MessageSystemAttributes", &map, error))
		return false;
	if (map == NULL)
		return true;
	json_object_foreach(map, name, value)
	{
		if (strcmp(name, "AWSTraceHeader") != 0)
			return api_error(error, ERR_INVALID_PARAMETER_VALUE,
							 "Message system attribute name '%s' is invalid.", name);
		if (!get_string(value, "DataType", &type, NULL, error) ||
			!get_string(value, "StringValue", trace, NULL, error))
			return false;
		if (type == NULL || strcmp(type, "String") != 0 || *trace == NULL || **trace == '\0')
			return api_error(error, ERR_INVALID_PARAMETER_VALUE,
							 "The message system attribute 'AWSTraceHeader' must contain a "
							 "non-empty value of type 'String'.");
	}
	return true;
}

/*
 * FIFO parameters, which are checked before anything else and, in a batch,
 * for all entries before any is sent.
 */
static bool
check_fifo(Queue *queue, const json_t *in, bool batch, ApiError *error)
{
	const char *group;
	const char *dedup;
	size_t		group_len;
	size_t		dedup_len;

	if (!get_string(in, "MessageGroupId", &group, &group_len, error) ||
		!get_string(in, "MessageDeduplicationId", &dedup, &dedup_len, error))
		return false;
	if (queue->config.fifo)
	{
		if (group == NULL)
			return api_error(error, batch ? ERR_INVALID_PARAMETER_VALUE : ERR_MISSING_PARAMETER,
							 "The request must contain the parameter MessageGroupId.");
		if (dedup == NULL && !queue->config.content_dedup)
			return api_error(error, ERR_INVALID_PARAMETER_VALUE,
							 "The queue should either have ContentBasedDeduplication enabled or "
							 "MessageDeduplicationId provided explicitly");
	}
	else if (dedup != NULL)
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "Value %.128s for parameter MessageDeduplicationId is invalid. Reason: "
						 "The request includes a parameter that is not valid for this queue "
						 "type.", dedup);
	if (group != NULL && !id_legal(group, group_len))
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "Value %.256s for parameter MessageGroupId is invalid. Reason: "
						 "MessageGroupId can only include alphanumeric and punctuation "
						 "characters. 1 to 128 in length.", group);
	if (dedup != NULL && !id_legal(dedup, dedup_len))
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "Value %.256s for parameter MessageDeduplicationId is invalid. Reason: "
						 "MessageDeduplicationId can only include alphanumeric and punctuation "
						 "characters. 1 to 128 in length.", dedup);
	return true;
}

/* Validate and send one message, and write its members without braces. */
static bool
send_one(Request *req, Queue *queue, const json_t *in, bool batch, StrBuf *out,
		 ApiError *error)
{
	SendSpec	spec = {0};
	SendResult	result;
	json_int_t	delay;
	char		content_id[65];
	AttrSet    *attrs = NULL;
	unsigned char attrs_digest[16];
	bool		has_attrs;
	size_t		mark;

	if (!get_string(in, "MessageBody", &spec.body, &spec.body_len, error) ||
		!get_int(in, "DelaySeconds", -1, &delay, error))
		return false;
	if (spec.body == NULL || spec.body_len == 0)
		return missing_parameter(error, "MessageBody");
	if (json_is_integer(json_object_get(in, "DelaySeconds")) && (delay < 0 || delay > 900))
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "Value %lld for parameter DelaySeconds is invalid. Reason: DelaySeconds "
						 "must be >= 0 and <= 900.", (long long) delay);
	if (queue->config.fifo && delay > 0)
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "Value %lld for parameter DelaySeconds is invalid. Reason: The request "
						 "include parameter that is not valid for this queue type.",
						 (long long) delay);
	if (!text_legal(spec.body, spec.body_len))
		return api_error(error, ERR_INVALID_MESSAGE_CONTENTS, BAD_CONTENTS);
	if (!parse_trace(in, &spec.trace, error) ||
		!get_string(in, "MessageGroupId", &spec.group_id, NULL, error) ||
		!get_string(in, "MessageDeduplicationId", &spec.dedup_id, NULL, error) ||
		!parse_attributes(in, &attrs, error))
		return false;
	if (spec.body_len + (attrs ? attrs->bytes : 0) > (size_t) queue->config.max_size)
	{
		attrs_free(attrs);
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "One or more parameters %s. Reason: Message must be shorter than %d "
						 "bytes.", batch ? "cannot be validated" : "are invalid",
						 queue->config.max_size);
	}
	if (queue->config.fifo && spec.dedup_id == NULL)
	{
		unsigned char digest[32];

		sha256(spec.body, spec.body_len, digest);
		hex_encode(digest, 32, content_id);
		content_id[64] = '\0';
		spec.dedup_id = content_id;
	}

	has_attrs = attrs != NULL;
	if (has_attrs)
		memcpy(attrs_digest, attrs->md5, 16);
	spec.delay = (int) delay;
	spec.attrs = attrs;
	store_send(queue, &spec, &result);
	attrs_free(spec.attrs);

	sb_lit(out, "\"MessageId\":\"");
	sb_uuid(out, result.id);
	sb_lit(out, "\",\"MD5OfMessageBody\":\"");
	mark = out->len;
	sb_hex(out, result.body_md5, 16);
	if (req->plan.bad_md5)
		out->data[mark] = out->data[mark] == '0' ? '1' : '0';
	sb_putc(out, '"');
	if (has_attrs)
	{
		sb_lit(out, ",\"MD5OfMessageAttributes\":\"");
		sb_hex(out, attrs_digest, 16);
		sb_putc(out, '"');
	}
	if (spec.trace != NULL)
	{
		MessageAttr attr = {"AWSTraceHeader", "String", (char *) spec.trace, strlen(spec.trace), false};
		const MessageAttr *list[1] = {&attr};
		unsigned char digest[16];

		attrs_md5(list, 1, digest);
		sb_lit(out, ",\"MD5OfMessageSystemAttributes\":\"");
		sb_hex(out, digest, 16);
		sb_putc(out, '"');
	}
	if (queue->config.fifo)
	{
		sb_lit(out, ",\"SequenceNumber\":\"");
		sb_sequence(out, result.sequence);
		sb_putc(out, '"');
	}
	return true;
}

/* AWS's sequence numbers have 20 digits and do not fit into 64 bits. */
void
sb_sequence(StrBuf *sb, uint64_t sequence)
{
	sb_printf(sb, "188%017llu", (unsigned long long) sequence);
}

bool
api_send(Request *req, Queue *queue, const json_t *in, ApiError *error)
{
	if (!check_fifo(queue, in, false, error))
		return false;
	sb_putc(&req->reply, '{');
	if (!send_one(req, queue, in, false, &req->reply, error))
		return false;
	sb_putc(&req->reply, '}');
	return true;
}

static bool
send_entry(Request *req, Queue *queue, const json_t *entry, StrBuf *out, ApiError *error)
{
	sb_putc(out, ',');
	return send_one(req, queue, entry, true, out, error);
}

/*
 * The size of an entry as the limit of the batch counts it, found without
 * building anything.
 */
static size_t
entry_bytes(const json_t *entry)
{
	const json_t *map = json_object_get(entry, "MessageAttributes");
	size_t		bytes = json_string_length(json_object_get(entry, "MessageBody"));
	const char *name;
	json_t	   *value;

	json_object_foreach((json_t *) map, name, value)
	{
		const json_t *binary = json_object_get(value, "BinaryValue");
		size_t		len = json_string_length(binary);

		bytes += strlen(name) + json_string_length(json_object_get(value, "DataType")) +
			json_string_length(json_object_get(value, "StringValue")) + len / 4 * 3;
		if (len >= 4)
			for (const char *p = json_string_value(binary) + len - 1; *p == '='; p--)
				bytes--;
	}
	return bytes;
}

bool
api_send_batch(Request *req, Queue *queue, const json_t *in, ApiError *error)
{
	json_t	   *entries;
	json_t	   *entry;
	size_t		i;
	size_t		total = 0;

	if (!batch_check(in, "SendMessageBatchRequestEntry", &entries, error))
		return false;
	json_array_foreach(entries, i, entry)
	{
		if (!check_fifo(queue, entry, true, error))
			return false;
		total += entry_bytes(entry);
	}
	if (total > MAX_MESSAGE_BYTES)
		return api_error(error, ERR_BATCH_TOO_LONG,
						 "Batch requests cannot be longer than %d bytes. You have sent %zu "
						 "bytes.", MAX_MESSAGE_BYTES, total);
	batch_run(req, queue, entries, send_entry);
	return true;
}
