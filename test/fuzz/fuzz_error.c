/*-------------------------------------------------------------------------
 *
 * fuzz_error.c
 *	  Error replies.  Two bytes are the status; the two headers end with a
 *	  newline each; the rest is the body.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "aws/sqs_protocol.h"

/* The next line, as a header the transport has kept. */
static const uint8_t *
take_line(const uint8_t *data, size_t *size, char *buf, size_t buf_size)
{
	const uint8_t *nl = memchr(data, '\n', *size);
	size_t		len = nl != NULL ? (size_t) (nl - data) : 0;
	size_t		n = Min(len, buf_size - 1);

	memcpy(buf, data, n);
	buf[n] = '\0';
	if (nl == NULL)
		return data;
	*size -= len + 1;
	return nl + 1;
}

static void
check_text(const char *text, size_t size)
{
	MUST(memchr(text, '\0', size) != NULL);
	for (; *text != '\0'; text++)
		MUST(*text >= 0x20 && *text <= 0x7e);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char		query_error[128];
	char		error_type[128];
	char	   *copy;
	AwsError	error;
	int			status;

	if (size < 2)
		return 0;
	status = (data[0] | data[1] << 8) % 600;
	data += 2;
	size -= 2;
	data = take_line(data, &size, query_error, sizeof(query_error));
	data = take_line(data, &size, error_type, sizeof(error_type));
	copy = fuzz_copy(data, size);
	sqs_parse_error(copy, size, status, query_error, error_type, &error);
	MUST(error.class > AWS_ERROR_NONE && error.class <= AWS_ERROR_REQUEST);
	MUST(error.http_status == status);
	MUST(error.message[0] != '\0');
	check_text(error.code, sizeof(error.code));
	check_text(error.message, sizeof(error.message));
	free(copy);
	return 0;
}
