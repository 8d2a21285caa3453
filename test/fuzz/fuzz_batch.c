/*-------------------------------------------------------------------------
 *
 * fuzz_batch.c
 *	  Replies to DeleteMessageBatch and ChangeMessageVisibilityBatch.  The
 *	  first byte chooses the number of entries asked for.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "aws/sqs_protocol.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	SqsBatchEntry *entries;
	char	   *copy;
	int			n;

	if (size < 1)
		return 0;
	n = 1 + data[0] % SQS_MAX_BATCH;
	copy = fuzz_copy(data + 1, size - 1);
	entries = malloc(sizeof(SqsBatchEntry) * n);
	MUST(entries != NULL);
	(void) sqs_parse_batch(copy, size - 1, n, NULL, entries);

	/* filled, whatever came */
	for (int i = 0; i < n; i++)
	{
		MUST(entries[i].ok == (entries[i].class == AWS_ERROR_NONE));
		MUST(memchr(entries[i].code, '\0', sizeof(entries[i].code)) != NULL);
		MUST(memchr(entries[i].message, '\0', sizeof(entries[i].message)) != NULL);
		for (const char *p = entries[i].message; *p != '\0'; p++)
			MUST(*p >= 0x20 && *p <= 0x7e);
	}
	free(entries);
	free(copy);
	return 0;
}
