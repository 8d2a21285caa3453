/*-------------------------------------------------------------------------
 *
 * fuzz_json.c
 *	  The JSON reader: any bytes, read to the end and skipped; and what it
 *	  reads, written again, reads the same.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "aws/json.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *buf = fuzz_copy(data, size);
	char	   *again = fuzz_copy(data, size);
	JsonReader	reader;
	JsonReader	second;
	JsonToken	token;
	size_t		n = 0;

	json_reader_init(&reader, buf, size);
	do
	{
		token = json_next(&reader);
		MUST(n++ <= size + 1);
		MUST(reader.depth >= 0 && reader.depth <= JSON_MAX_DEPTH);
		if (token == JSON_KEY || token == JSON_STRING || token == JSON_NUMBER)
			MUST(fuzz_inside(reader.text, reader.len, buf, size));
		if (token == JSON_KEY || token == JSON_STRING)
		{
			JsonWriter	w;

			/* the NUL takes the place of the closing quote, inside the buffer */
			MUST(reader.text + reader.len < buf + size);
			MUST(reader.text[reader.len] == '\0');
			json_writer_init(&w);
			json_string(&w, reader.text, reader.len);
			MUST(!w.failed && w.data[w.len] == '\0');
			json_reader_init(&second, w.data, w.len);
			MUST(json_next(&second) == JSON_STRING);
			MUST(second.len == reader.len &&
				 memcmp(second.text, reader.text, reader.len) == 0);
			MUST(json_next(&second) == JSON_END);
			json_writer_free(&w);
		}
	} while (token != JSON_END && token != JSON_ERROR);
	MUST(json_next(&reader) == token);

	/* skipping it has to come to the same verdict */
	json_reader_init(&second, again, size);
	json_next(&second);
	MUST((json_skip(&second) && json_next(&second) == JSON_END) == (token == JSON_END));

	free(buf);
	free(again);
	return 0;
}
