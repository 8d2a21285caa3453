/*-------------------------------------------------------------------------
 *
 * json.h
 *	  JSON for AWS: a writer into a growing buffer, a reader that works in
 *	  place.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_JSON_H
#define AWS_JSON_H

/*
 * ---- writing ----
 *
 * Running out of memory sets "failed", after which nothing is written; who
 * uses the text looks at that first.  The writer owns its memory, and a freed
 * one can be used again.
 */

typedef struct JsonWriter
{
	char	   *data;			/* malloc'ed; NUL-terminated */
	size_t		len;
	size_t		size;
	bool		failed;			/* out of memory; sticks */
} JsonWriter;

extern void json_writer_init(JsonWriter *writer);
extern void json_writer_free(JsonWriter *writer);
extern void json_raw(JsonWriter *writer, const char *text);
extern void json_raw_n(JsonWriter *writer, const char *text, size_t len);
extern void json_int(JsonWriter *writer, int value);

/* A quoted string; text has to be UTF-8, and may hold NULs. */
extern void json_string(JsonWriter *writer, const char *text, size_t len);

/* ---- reading ---- */

typedef enum JsonToken
{
	JSON_END,					/* of the document */
	JSON_ERROR,					/* not JSON; sticks */
	JSON_OBJECT,				/* { */
	JSON_ARRAY,					/* [ */
	JSON_OBJECT_END,
	JSON_ARRAY_END,
	JSON_KEY,					/* text, len: the name; its value follows */
	JSON_STRING,				/* text, len */
	JSON_NUMBER,				/* text, len: as it is spelled */
	JSON_TRUE,
	JSON_FALSE,
	JSON_NULL
} JsonToken;

#define JSON_MAX_DEPTH	32		/* SQS's replies have 6 levels at most */

/*
 * A pull reader over a buffer that it may change: strings are unescaped and
 * NUL-terminated where they stand, and stay valid as long as the buffer.  The
 * buffer needs no NUL at its end.  text and len belong to the current token,
 * if that is a key, a string or a number (which has no NUL behind it).
 */
typedef struct JsonReader
{
	char	   *p;
	char	   *end;
	JsonToken	token;
	char	   *text;
	size_t		len;
	int			depth;
	bool		in_object[JSON_MAX_DEPTH];
	bool		first;			/* right behind { or [ */
	bool		want_value;		/* right behind a key */
	bool		done;			/* the top-level value has been read */
} JsonReader;

extern void json_reader_init(JsonReader *reader, char *data, size_t len);
extern JsonToken json_next(JsonReader *reader);

/*
 * Skip the rest of the value whose first token has just been read.  False if
 * it is not JSON.
 */
extern bool json_skip(JsonReader *reader);

/* Is the current string or key this text? */
extern bool json_is(const JsonReader *reader, const char *text);

#endif							/* AWS_JSON_H */
