/*-------------------------------------------------------------------------
 *
 * fuzz_send.c
 *	  Replies to SendMessage.  Two bits of the first byte choose what the
 *	  reply has to confirm: a body, attributes, both, or nothing where MD5 is
 *	  not to be had.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "aws/sqs_protocol.h"

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
	SqsBatchEntry entry;
	SqsDigests	digests;
	char	   *copy;
	bool		parsed;

	if (size < 1)
		return 0;
	memset(&digests, 0, sizeof(digests));
	if (data[0] & 1)
		strcpy(digests.body, "5d41402abc4b2a76b9719d911017c592");
	if (data[0] & 2)
		strcpy(digests.attributes, "ae7155c6026991b6d54b11589678bf9c");
	copy = fuzz_copy(data + 1, size - 1);
	memset(&entry, 0x55, sizeof(entry));
	parsed = sqs_parse_send(copy, size - 1, &digests, &entry);

	MUST(entry.ok == (entry.class == AWS_ERROR_NONE));
	MUST(entry.ok || entry.may_be_done);
	MUST(!entry.ok || parsed);
	MUST(!parsed || entry.message_id[0] != '\0');
	check_text(entry.code, sizeof(entry.code));
	check_text(entry.message, sizeof(entry.message));
	check_text(entry.message_id, sizeof(entry.message_id));
	check_text(entry.sequence_number, sizeof(entry.sequence_number));
	if ((data[0] & 3) == 0)
		MUST(entry.ok == parsed);
	free(copy);
	return 0;
}
