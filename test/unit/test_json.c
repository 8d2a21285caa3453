/*-------------------------------------------------------------------------
 *
 * test_json.c
 *	  The JSON reader's strictness, and the writer's round trip.
 *
 * Each document is read from a buffer of exactly its size, so that under a
 * sanitizer a look beyond the end is seen.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "aws/json.h"
#include "tap.h"

/* Read a whole document; JSON_END or JSON_ERROR. */
static JsonToken
read_all(const char *text, size_t len)
{
	char	   *data = tap_copy(text, len);
	JsonReader	reader;
	JsonToken	token;
	int			n = 0;

	json_reader_init(&reader, data, len);
	do
	{
		token = json_next(&reader);
	} while (token != JSON_END && token != JSON_ERROR && ++n < 100000);
	free(data);
	return token;
}

static void
valid(const char *text)
{
	is_int(read_all(text, strlen(text)), JSON_END, "valid: %s", text);
}

static void
invalid(const char *text, const char *what)
{
	is_int(read_all(text, strlen(text)), JSON_ERROR, "invalid: %s", what);
}

/* A document that is one string: does it read as these bytes? */
static void
string_is(const char *text, const char *expected, size_t len, const char *what)
{
	size_t		text_len = strlen(text);
	char	   *data = tap_copy(text, text_len);
	JsonReader	reader;

	json_reader_init(&reader, data, text_len);
	if (ok(json_next(&reader) == JSON_STRING, "%s: is a string", what))
	{
		ok(reader.len == len && memcmp(reader.text, expected, len) == 0 &&
		   reader.text[len] == '\0', "%s: its bytes, terminated", what);
		is_int(json_next(&reader), JSON_END, "%s: and nothing else", what);
	}
	free(data);
}

/* The reader looks at eight bytes at a time: have everything at every position. */
static void
positions(void)
{
	int			wrong = 0;
	uint32		random = 1;

	for (int c = 0; c < 256; c++)
	{
		if (c == '"' || c == '\\')
			continue;
		for (int at = 1; at <= 24; at++)
		{
			char		text[26] = "\"aaaaaaaaaaaaaaaaaaaaaaaa\"";

			text[at] = (char) c;
			wrong += read_all(text, sizeof(text)) !=
				(c >= 0x20 && c < 0x80 ? JSON_END : JSON_ERROR);
		}
	}
	is_int(wrong, 0, "each byte at each position");

	/* strings of random pieces, and what they stand for */
	wrong = 0;
	for (int i = 0; i < 5000; i++)
	{
		static const char *const pieces[][2] = {
			{"a", "a"}, {"~", "~"}, {" bcdefg", " bcdefg"}, {"0123456789abcdefghi", "0123456789abcdefghi"},
			{"\\\"", "\""}, {"\\\\", "\\"}, {"\\n", "\n"}, {"\\u0041", "A"},
			{"\\u20ac", "\xe2\x82\xac"}, {"\\ud83d\\ude00", "\xf0\x9f\x98\x80"},
			{"\xc3\xa9", "\xc3\xa9"}, {"\x7f", "\x7f"}
		};
		char		text[512] = "\"";
		char		expected[512] = "";
		char	   *data;
		size_t		len;
		JsonReader	reader;

		for (int n = i % 20; n > 0; n--)
		{
			int			piece;

			random = random * 1103515245 + 12345;
			piece = (random >> 16) % lengthof(pieces);
			strcat(text, pieces[piece][0]);
			strcat(expected, pieces[piece][1]);
		}
		strcat(text, "\"");
		len = strlen(text);
		data = tap_copy(text, len);
		json_reader_init(&reader, data, len);
		if (json_next(&reader) != JSON_STRING || reader.len != strlen(expected) ||
			strcmp(reader.text, expected) != 0 || json_next(&reader) != JSON_END)
		{
			wrong++;
			printf("# %s\n", text);
		}
		free(data);
	}
	is_int(wrong, 0, "random strings");
}

static void
strings(void)
{
	string_is("\"\"", "", 0, "empty");
	string_is("\"abc\"", "abc", 3, "plain");
	string_is("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8, "all short escapes");
	string_is("\"a\\nb\\nc\"", "a\nb\nc", 5, "runs between escapes");
	string_is("\"\\u0041\\u00e9\\u20ac\"", "A\xc3\xa9\xe2\x82\xac", 6, "escapes of one to three bytes");
	string_is("\"\\u00E9\\u00e9\"", "\xc3\xa9\xc3\xa9", 4, "hex digits of both cases");
	string_is("\"x\\ud83d\\ude00y\"", "x\xf0\x9f\x98\x80y", 6, "a surrogate pair");
	string_is("\"\\ud800\\udc00\"", "\xf0\x90\x80\x80", 4, "the first surrogate pair");
	string_is("\"\\udbff\\udfff\"", "\xf4\x8f\xbf\xbf", 4, "the last surrogate pair");
	string_is("\"\\u0000\"", "\0", 1, "an escaped NUL");
	string_is("\"\\ud7ff\\ue000\\uffff\"", "\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf", 9, "neighbors of the surrogates");
	string_is("\"h\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", "h\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10, "raw UTF-8");
	string_is("\"\\t\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", "\t\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10, "raw UTF-8, moved");
	string_is("\"\x7f\"", "\x7f", 1, "DEL");

	invalid("\"\\ud800\"", "lone high surrogate");
	invalid("\"\\ud800x\"", "high surrogate and a letter");
	invalid("\"\\ud800\\n\"", "high surrogate and another escape");
	invalid("\"\\ud800\\u0041\"", "high surrogate and an escaped letter");
	invalid("\"\\ud800\\ud800\"", "two high surrogates");
	invalid("\"\\udc00\"", "lone low surrogate");
	invalid("\"\\udc00\\ud800\"", "surrogates in the wrong order");
	invalid("\"\\ud83d\\ude0\"", "half a low surrogate");
	invalid("\"\\u12\"", "short escape");
	invalid("\"\\u12g4\"", "escape with a bad digit");
	invalid("\"\\x41\"", "unknown escape");
	invalid("\"\\\"", "only an escaped quote");
	invalid("\"abc", "no closing quote");
	invalid("\"abc\\", "a backslash at the end");
	invalid("'abc'", "single quotes");

	invalid("\"\x80\"", "lone continuation byte");
	invalid("\"\xc3\"", "two-byte character cut short");
	invalid("\"\xc3(\"", "two-byte character with a bad second byte");
	invalid("\"\xc0\x80\"", "overlong NUL");
	invalid("\"\xc1\xbf\"", "overlong of two bytes");
	invalid("\"\xe0\x9f\xbf\"", "overlong of three bytes");
	invalid("\"\xed\xa0\x80\"", "encoded surrogate");
	invalid("\"\xe2\x82\"", "three-byte character cut short");
	invalid("\"\xf0\x8f\xbf\xbf\"", "overlong of four bytes");
	invalid("\"\xf4\x90\x80\x80\"", "beyond U+10FFFF");
	invalid("\"\xf5\x80\x80\x80\"", "a byte that UTF-8 does not have");
	invalid("\"\xf0\x9f\x98\"", "four-byte character cut short");
	invalid("\"\xf0\x9f\x98", "the same at the end of the buffer");
	invalid("\"\xff\"", "0xff");

	for (int c = 0; c < 0x20; c++)
	{
		char		text[] = {'"', 'a', (char) c, '"'};

		is_int(read_all(text, sizeof(text)), JSON_ERROR, "control character 0x%02x", c);
	}
}

static void
numbers(void)
{
	static const char *const good[] = {
		"0", "-0", "1", "-1", "10", "123456789012345678901234567890",
		"0.5", "-0.5", "1.25", "1e5", "1E5", "1e+5", "1e-5", "0e0", "1.5e10"
	};
	static const char *const bad[] = {
		"-", "+1", "01", "-01", "00", ".5", "1.", "1.e5", "1e", "1e+", "1e-",
		"1.5.5", "0x10", "1a", "NaN", "Infinity", "-Infinity", "--1", "1 2"
	};

	for (size_t i = 0; i < lengthof(good); i++)
	{
		char	   *data = tap_copy(good[i], strlen(good[i]));
		JsonReader	reader;

		json_reader_init(&reader, data, strlen(good[i]));
		ok(json_next(&reader) == JSON_NUMBER && json_is(&reader, good[i]) &&
		   json_next(&reader) == JSON_END, "number %s as it is spelled", good[i]);
		free(data);
	}
	for (size_t i = 0; i < lengthof(bad); i++)
		invalid(bad[i], bad[i]);
}

static void
structure(void)
{
	static const char nul_in[] = "{\"a\":1}\0";
	char		deep[2 * 40 + 1];
	JsonReader	reader;
	char		text[] = " { \"k\" : [ 1 , \"s\" , true , false , null , { } , [ ] ] } ";
	static const JsonToken tokens[] = {
		JSON_OBJECT, JSON_KEY, JSON_ARRAY, JSON_NUMBER, JSON_STRING, JSON_TRUE,
		JSON_FALSE, JSON_NULL, JSON_OBJECT, JSON_OBJECT_END, JSON_ARRAY,
		JSON_ARRAY_END, JSON_ARRAY_END, JSON_OBJECT_END, JSON_END, JSON_END
	};
	char		sticky[] = "{\"a\":]";
	char		skip[] = "{\"a\":{\"x\":[1,{\"y\":[]}],\"z\":\"]}\"},\"b\":7}";

	json_reader_init(&reader, text, strlen(text));
	for (size_t i = 0; i < lengthof(tokens); i++)
		is_int(json_next(&reader), tokens[i], "token %zu of a document", i);

	valid("{}");
	valid("[]");
	valid("null");
	valid("\t\r\n {} \t\r\n");
	valid("{\"a\":{\"b\":{}},\"c\":[[],[]]}");
	valid("{\"\":1,\"\":2}");

	invalid("", "nothing");
	invalid("   ", "blanks only");
	invalid("{", "open brace");
	invalid("[", "open bracket");
	invalid("}", "closing brace");
	invalid("]", "closing bracket");
	invalid("{]", "wrong closing bracket");
	invalid("[}", "wrong closing brace");
	invalid("[1,]", "trailing comma in an array");
	invalid("{\"a\":1,}", "trailing comma in an object");
	invalid("[,1]", "leading comma");
	invalid("[1 2]", "no comma");
	invalid("[1,,2]", "two commas");
	invalid("{\"a\"}", "key without a value");
	invalid("{\"a\":}", "key with a colon only");
	invalid("{\"a\" 1}", "key without a colon");
	invalid("{\"a\"::1}", "two colons");
	invalid("{1:2}", "number as a key");
	invalid("{a:2}", "bare key");
	invalid("{null:2}", "word as a key");
	invalid("{\"a\":1 \"b\":2}", "members without a comma");
	invalid("[\"a\":1]", "colon in an array");
	invalid("{} {}", "second document");
	invalid("{}x", "trailing garbage");
	invalid("1,", "trailing comma behind a document");
	invalid("tru", "word cut short");
	invalid("truex", "word and more");
	invalid("TRUE", "word in capitals");
	invalid("nul", "null cut short");
	invalid("// x\n1", "comment");
	invalid("\xef\xbb\xbf{}", "byte order mark");
	invalid("<html></html>", "HTML");
	is_int(read_all(nul_in, 8), JSON_ERROR, "invalid: a NUL behind the document");

	/* depth: exactly as deep as promised */
	memset(deep, '[', 40);
	memset(deep + JSON_MAX_DEPTH, ']', JSON_MAX_DEPTH);
	is_int(read_all(deep, 2 * JSON_MAX_DEPTH), JSON_END, "arrays %d deep", JSON_MAX_DEPTH);
	memset(deep, '[', JSON_MAX_DEPTH + 1);
	memset(deep + JSON_MAX_DEPTH + 1, ']', JSON_MAX_DEPTH + 1);
	is_int(read_all(deep, 2 * JSON_MAX_DEPTH + 2), JSON_ERROR, "arrays %d deep", JSON_MAX_DEPTH + 1);

	json_reader_init(&reader, sticky, strlen(sticky));
	while (json_next(&reader) != JSON_ERROR)
		;
	ok(json_next(&reader) == JSON_ERROR && !json_skip(&reader), "an error sticks");

	json_reader_init(&reader, skip, strlen(skip));
	json_next(&reader);
	json_next(&reader);
	ok(json_is(&reader, "a") && !json_is(&reader, "") && !json_is(&reader, "ab"), "a key is itself only");
	json_next(&reader);
	ok(json_skip(&reader), "an object is skipped");
	ok(json_next(&reader) == JSON_KEY && json_is(&reader, "b"), "up to the next key");
	ok(json_next(&reader) == JSON_NUMBER && json_skip(&reader), "skipping a number does nothing");
	ok(json_next(&reader) == JSON_OBJECT_END && json_next(&reader) == JSON_END, "to the end");
}

/* No beginning of a document is a document, and none is read beyond. */
static void
truncation(void)
{
	static const char sample[] =
		"{\"Messages\":[{\"MessageId\":\"a-1\",\"Body\":\"h\xc3\xa9\\ud83d\\ude00\\n\","
		"\"n\":-1.5e+3,\"t\":true,\"f\":false,\"z\":null,\"e\":{},\"l\":[]}]}";
	size_t		len = strlen(sample);
	int			wrong = 0;

	is_int(read_all(sample, len), JSON_END, "the sample is valid");
	for (size_t i = 0; i < len; i++)
		wrong += read_all(sample, i) != JSON_ERROR;
	is_int(wrong, 0, "none of its %zu beginnings is", len);
}

static void
writer(void)
{
	JsonWriter	w;
	JsonReader	reader;
	char		all[0x80 + 9];
	char	   *big = malloc(300000);
	size_t		n = 0;

	json_writer_init(&w);
	json_raw(&w, "{\"a\":");
	json_int(&w, -2147483647 - 1);
	json_raw_n(&w, ",\"b\":xxx", 5);
	json_string(&w, "q\"\\\n\r\t\b\x01\x1f/\x7f\xc3\xa9", 13);
	json_raw(&w, "}");
	ok(!w.failed, "writing works");
	is(w.data, "{\"a\":-2147483648,\"b\":\"q\\\"\\\\\\n\\r\\t\\u0008\\u0001\\u001f/\x7f\xc3\xa9\"}",
	   "the text, with as few escapes as JSON allows");
	is_int(w.len, strlen(w.data), "and its length");
	json_writer_free(&w);
	ok(w.data == NULL && w.len == 0, "freed");

	/* round trip of every ASCII character, NUL too, and some UTF-8 */
	for (int c = 0; c < 0x80; c++)
		all[n++] = (char) c;
	memcpy(all + n, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9);
	n += 9;
	json_writer_init(&w);
	json_string(&w, all, n);
	json_reader_init(&reader, w.data, w.len);
	ok(json_next(&reader) == JSON_STRING && reader.len == n &&
	   memcmp(reader.text, all, n) == 0, "round trip of all characters");
	is_int(json_next(&reader), JSON_END, "and nothing else");
	json_writer_free(&w);

	/* growing, at the worst case of six bytes a character */
	memset(big, 1, 300000);
	json_writer_init(&w);
	json_string(&w, big, 300000);
	is_int(w.len, 300000 * 6 + 2, "control characters take six bytes");
	json_reader_init(&reader, w.data, w.len);
	ok(json_next(&reader) == JSON_STRING && reader.len == 300000 &&
	   memcmp(reader.text, big, 300000) == 0, "round trip of a large string");
	json_writer_free(&w);

	json_writer_init(&w);
	json_string(&w, "", 0);
	is(w.data, "\"\"", "an empty string");
	json_writer_free(&w);
	free(big);
}

void
test_json(void)
{
	strings();
	positions();
	numbers();
	structure();
	truncation();
	writer();
}
