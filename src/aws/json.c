/*-------------------------------------------------------------------------
 *
 * json.c
 *	  JSON for AWS: a writer into a growing buffer, a reader that works in
 *	  place.
 *
 * The server's own jsonapi is not used.  In the server it converts strings to
 * the database's encoding and raises an error if that fails, so one odd
 * message would take its nine neighbors down with it.  What SQS sends is UTF-8
 * and stays UTF-8 up to the handler.
 *
 * The reader is strict (RFC 8259): no comments, no trailing commas, no control
 * characters in strings, valid UTF-8, no lone surrogates.  It neither
 * allocates nor recurses, and never writes more than it has read.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "mb/pg_wchar.h"
#include "port/pg_bitutils.h"

#include "aws/json.h"

/* A byte in all eight of a word. */
#define BYTES(c)	(UINT64CONST(0x0101010101010101) * (c))

/* ---- writing ---- */

void
json_writer_init(JsonWriter *writer)
{
	memset(writer, 0, sizeof(*writer));
}

void
json_writer_free(JsonWriter *writer)
{
	free(writer->data);
	memset(writer, 0, sizeof(*writer));
}

/* Make room for "more" bytes and a NUL; false if memory has run out. */
static bool
json_reserve(JsonWriter *writer, size_t more)
{
	size_t		size = writer->size == 0 ? 4096 : writer->size;
	char	   *grown;

	if (writer->failed)
		return false;
	if (writer->len + more + 1 <= writer->size)
		return true;
	while (size < writer->len + more + 1)
		size *= 2;
	grown = realloc(writer->data, size);
	if (grown == NULL)
	{
		writer->failed = true;
		return false;
	}
	writer->data = grown;
	writer->size = size;
	return true;
}

void
json_raw_n(JsonWriter *writer, const char *text, size_t len)
{
	if (!json_reserve(writer, len))
		return;
	memcpy(writer->data + writer->len, text, len);
	writer->len += len;
	writer->data[writer->len] = '\0';
}

void
json_raw(JsonWriter *writer, const char *text)
{
	json_raw_n(writer, text, strlen(text));
}

void
json_int(JsonWriter *writer, int value)
{
	char		buf[16];

	snprintf(buf, sizeof(buf), "%d", value);
	json_raw(writer, buf);
}

/*
 * Only what must be escaped is: text is UTF-8 already, which is not checked
 * here, and SQS takes UTF-8.
 */
void
json_string(JsonWriter *writer, const char *text, size_t len)
{
	char	   *out;

	/* a control character takes six bytes, and the quotes two */
	if (!json_reserve(writer, len * 6 + 2))
		return;
	out = writer->data + writer->len;
	*out++ = '"';
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (c == '"' || c == '\\')
		{
			*out++ = '\\';
			*out++ = (char) c;
		}
		else if (c == '\n' || c == '\r' || c == '\t')
		{
			*out++ = '\\';
			*out++ = c == '\n' ? 'n' : c == '\r' ? 'r' : 't';
		}
		else if (c < 0x20)
		{
			static const char digits[] = "0123456789abcdef";

			memcpy(out, "\\u00", 4);
			out[4] = digits[c >> 4];
			out[5] = digits[c & 15];
			out += 6;
		}
		else
			*out++ = (char) c;
	}
	*out++ = '"';
	*out = '\0';
	writer->len = out - writer->data;
}

/* ---- reading ---- */

void
json_reader_init(JsonReader *reader, char *data, size_t len)
{
	memset(reader, 0, sizeof(*reader));
	reader->p = data;
	reader->end = data + len;
}

static JsonToken
fail(JsonReader *reader)
{
	reader->token = JSON_ERROR;
	return JSON_ERROR;
}

static void
skip_blanks(JsonReader *reader)
{
	while (reader->p < reader->end &&
		   (*reader->p == ' ' || *reader->p == '\t' ||
			*reader->p == '\n' || *reader->p == '\r'))
		reader->p++;
}

/* Four hexadecimal digits; -1 if they are not. */
static int
hex4(const char *p, const char *end)
{
	int			value = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		char		c = p[i];

		value <<= 4;
		if (c >= '0' && c <= '9')
			value |= c - '0';
		else if (c >= 'a' && c <= 'f')
			value |= c - 'a' + 10;
		else if (c >= 'A' && c <= 'F')
			value |= c - 'A' + 10;
		else
			return -1;
	}
	return value;
}

/*
 * Read an escape sequence, behind its backslash, and write what it stands for
 * at *out.  Advances both pointers.
 */
static bool
read_escape(char **in, char *end, char **out)
{
	char	   *p = *in;
	int			code;

	if (p >= end)
		return false;
	switch (*p)
	{
		case '"':
		case '\\':
		case '/':
			code = *p;
			break;
		case 'b':
			code = '\b';
			break;
		case 'f':
			code = '\f';
			break;
		case 'n':
			code = '\n';
			break;
		case 'r':
			code = '\r';
			break;
		case 't':
			code = '\t';
			break;
		case 'u':
			p++;
			code = hex4(p, end);
			if (code < 0 || (code >= 0xdc00 && code <= 0xdfff))
				return false;
			p += 4;
			if (code >= 0xd800 && code <= 0xdbff)
			{
				int			low;

				/* the first half of a surrogate pair */
				if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
					return false;
				low = hex4(p + 2, end);
				if (low < 0xdc00 || low > 0xdfff)
					return false;
				p += 6;
				code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
			}
			unicode_to_utf8(code, (unsigned char *) *out);
			*out += pg_utf_mblen((unsigned char *) *out);
			*in = p;
			return true;
		default:
			return false;
	}
	*(*out)++ = (char) code;
	*in = p + 1;
	return true;
}

/*
 * Which of the eight bytes are more than plain ASCII in a string: a quote, a
 * backslash, a control character, or a part of a longer character.  Their highest
 * bits are set in the result, and no others.  No sum carries into the next byte.
 */
static inline uint64
special_bytes(uint64 word)
{
	uint64		low = word & BYTES(0x7f);

	return (word |
			~((low + BYTES(0x80 - 0x20)) &
			  ((low ^ BYTES('"')) + BYTES(0x7f)) &
			  ((low ^ BYTES('\\')) + BYTES(0x7f)))) & BYTES(0x80);
}

/* The number of bytes before the first of them. */
static inline int
bytes_before(uint64 special)
{
#ifdef WORDS_BIGENDIAN
	return 7 - pg_leftmost_one_pos64(special) / 8;
#else
	return pg_rightmost_one_pos64(special) / 8;
#endif
}

/*
 * Copy plain ASCII to *out, which is at most as far as *in: most of any body.
 * Advances both pointers, to the first byte that is something else, or to less
 * than eight bytes before the end.
 */
static inline void
copy_plain(char **in, const char *end, char **out)
{
	char	   *p = *in;
	char	   *o = *out;
	int			n = 8;

	while (n == 8 && end - p >= 8)
	{
		uint64		word;
		uint64		special;

		memcpy(&word, p, 8);
		special = special_bytes(word);
		if (special != 0)
			n = bytes_before(special);
		/* eight bytes at a time must not reach what has not been read */
		if (n == 8 || p - o >= 8)
			memcpy(o, &word, 8);
		else if (o != p)
			memmove(o, p, n);
		p += n;
		o += n;
	}
	*in = p;
	*out = o;
}

/*
 * Read a string in place, from its opening quote to behind its closing one.
 * No escape is shorter than what it stands for, so "out" never passes p, and
 * there is room for the NUL where the closing quote was.
 */
static bool
read_string(JsonReader *reader)
{
	char	   *p = reader->p + 1;
	char	   *end = reader->end;
	char	   *out = p;

	reader->text = p;
	for (;;)
	{
		unsigned char c;

		copy_plain(&p, end, &out);
		if (p >= end)
			return false;

		c = (unsigned char) *p;
		if (c == '"')
		{
			reader->p = p + 1;
			reader->len = out - reader->text;
			*out = '\0';		/* over the closing quote at the latest */
			return true;
		}
		if (c < 0x20)
			return false;
		if (c == '\\')
		{
			p++;
			if (!read_escape(&p, end, &out))
				return false;
		}
		else if (c < 0x80)
			*out++ = *p++;		/* near the end */
		else
		{
			/* such characters come in runs */
			do
			{
				int			n = pg_utf_mblen((unsigned char *) p);

				if (n > end - p || !pg_utf8_islegal((unsigned char *) p, n))
					return false;
				while (n-- > 0)
					*out++ = *p++;
			} while (p < end && (unsigned char) *p >= 0x80);
		}
	}
}

static bool
read_digits(JsonReader *reader)
{
	char	   *start = reader->p;

	while (reader->p < reader->end && *reader->p >= '0' && *reader->p <= '9')
		reader->p++;
	return reader->p > start;
}

/* A number of any length, which is checked but not converted. */
static bool
read_number(JsonReader *reader)
{
	reader->text = reader->p;
	if (*reader->p == '-')
		reader->p++;
	if (reader->p >= reader->end)
		return false;
	if (*reader->p == '0')
		reader->p++;
	else if (!read_digits(reader))
		return false;
	if (reader->p < reader->end && *reader->p == '.')
	{
		reader->p++;
		if (!read_digits(reader))
			return false;
	}
	if (reader->p < reader->end && (*reader->p == 'e' || *reader->p == 'E'))
	{
		reader->p++;
		if (reader->p < reader->end && (*reader->p == '+' || *reader->p == '-'))
			reader->p++;
		if (!read_digits(reader))
			return false;
	}
	reader->len = reader->p - reader->text;
	return true;
}

static bool
read_word(JsonReader *reader, const char *word)
{
	size_t		len = strlen(word);

	if ((size_t) (reader->end - reader->p) < len || memcmp(reader->p, word, len) != 0)
		return false;
	reader->p += len;
	return true;
}

/* A value has been read, or an object or array closed. */
static JsonToken
value_done(JsonReader *reader, JsonToken token)
{
	if (reader->depth == 0)
		reader->done = true;
	reader->first = false;
	reader->want_value = false;
	reader->token = token;
	return token;
}

/*
 * The state between tokens is small: which containers are open (depth,
 * in_object), whether the innermost is still empty (first), whether a key
 * waits for its value (want_value), and whether the document is complete
 * (done).
 */
JsonToken
json_next(JsonReader *reader)
{
	bool		in_object;

	if (reader->token == JSON_ERROR)
		return JSON_ERROR;
	skip_blanks(reader);
	if (reader->done)
	{
		if (reader->p < reader->end)
			return fail(reader);
		return reader->token = JSON_END;
	}
	if (reader->p >= reader->end)
		return fail(reader);

	/* inside a container and not behind a key: the end of it, a comma, a key */
	in_object = reader->depth > 0 && reader->in_object[reader->depth - 1];
	if (reader->depth > 0 && !reader->want_value)
	{
		char		close = in_object ? '}' : ']';

		if (*reader->p == close)
		{
			reader->p++;
			reader->depth--;
			return value_done(reader, in_object ? JSON_OBJECT_END : JSON_ARRAY_END);
		}
		if (!reader->first)
		{
			if (*reader->p != ',')
				return fail(reader);
			reader->p++;
			skip_blanks(reader);
			if (reader->p >= reader->end)
				return fail(reader);
		}
		if (in_object)
		{
			if (*reader->p != '"' || !read_string(reader))
				return fail(reader);
			skip_blanks(reader);
			if (reader->p >= reader->end || *reader->p != ':')
				return fail(reader);
			reader->p++;
			reader->first = false;
			reader->want_value = true;
			return reader->token = JSON_KEY;
		}
	}

	switch (*reader->p)
	{
		case '{':
		case '[':
			if (reader->depth == JSON_MAX_DEPTH)
				return fail(reader);
			reader->in_object[reader->depth++] = *reader->p == '{';
			reader->first = true;
			reader->want_value = false;
			return reader->token = *reader->p++ == '{' ? JSON_OBJECT : JSON_ARRAY;
		case '"':
			return read_string(reader) ? value_done(reader, JSON_STRING) : fail(reader);
		case 't':
			return read_word(reader, "true") ? value_done(reader, JSON_TRUE) : fail(reader);
		case 'f':
			return read_word(reader, "false") ? value_done(reader, JSON_FALSE) : fail(reader);
		case 'n':
			return read_word(reader, "null") ? value_done(reader, JSON_NULL) : fail(reader);
		default:
			if (*reader->p != '-' && (*reader->p < '0' || *reader->p > '9'))
				return fail(reader);
			return read_number(reader) ? value_done(reader, JSON_NUMBER) : fail(reader);
	}
}

bool
json_skip(JsonReader *reader)
{
	int			depth;

	if (reader->token != JSON_OBJECT && reader->token != JSON_ARRAY)
		return reader->token != JSON_ERROR;
	depth = reader->depth - 1;
	while (reader->depth > depth)
		if (json_next(reader) == JSON_ERROR)
			return false;
	return true;
}

bool
json_is(const JsonReader *reader, const char *text)
{
	return reader->len == strlen(text) && memcmp(reader->text, text, reader->len) == 0;
}
