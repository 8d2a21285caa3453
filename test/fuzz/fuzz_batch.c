/*-------------------------------------------------------------------------
 *
 * fuzz_batch.c
 *	  Replies to DeleteMessageBatch, ChangeMessageVisibilityBatch and
 *	  SendMessageBatch.  The first byte chooses the number of entries asked
 *	  for, and by its highest bit whether they were messages sent.
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
	SqsBatchEntry *entries;
	SqsDigests *digests = NULL;
	char	   *copy;
	int			n;

	if (size < 1)
		return 0;
	n = 1 + (data[0] & 0x7f) % SQS_MAX_BATCH;
	copy = fuzz_copy(data + 1, size - 1);
	entries = malloc(sizeof(SqsBatchEntry) * n);
	MUST(entries != NULL);
	if (data[0] & 0x80)
	{
		digests = calloc(n, sizeof(SqsDigests));
		MUST(digests != NULL);

		/* with attributes, without, and where MD5 is not to be had */
		for (int i = 0; i < n; i++)
		{
			if (i % 3 != 2)
				strcpy(digests[i].body, "5d41402abc4b2a76b9719d911017c592");
			if (i % 3 == 0)
				strcpy(digests[i].attributes, "ae7155c6026991b6d54b11589678bf9c");
		}
	}
	(void) sqs_parse_batch(copy, size - 1, n, digests, entries);

	/* filled, whatever came */
	for (int i = 0; i < n; i++)
	{
		const SqsBatchEntry *entry = &entries[i];

		MUST(entry->ok == (entry->class == AWS_ERROR_NONE));
		MUST(entry->class >= AWS_ERROR_NONE && entry->class <= AWS_ERROR_REQUEST);
		check_text(entry->code, sizeof(entry->code));
		check_text(entry->message, sizeof(entry->message));
		check_text(entry->message_id, sizeof(entry->message_id));
		check_text(entry->sequence_number, sizeof(entry->sequence_number));
		if (entry->ok)
			MUST(!entry->may_be_done && !entry->sender_fault &&
				 entry->code[0] == '\0' && entry->message[0] == '\0');
		if (digests == NULL)
			MUST(entry->message_id[0] == '\0' && entry->sequence_number[0] == '\0');

		/* what SQS names as sent may be there */
		if (entry->message_id[0] != '\0')
			MUST(entry->ok || entry->may_be_done);
	}
	free(entries);
	free(digests);
	free(copy);
	return 0;
}
