/*-------------------------------------------------------------------------
 *
 * fuzz_command.c
 *	  Command lines and times, which are texts in files and replies.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "aws/process.h"
#include "aws/secret.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *text = malloc(size + 1);
	const char *why = NULL;
	char	  **words;
	int64		ms;

	MUST(text != NULL);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	words = aws_split_command(text, &why);
	if (words == NULL)
		MUST(why != NULL);
	else
	{
		size_t		total = 0;
		int			n = 0;

		MUST(words[0] != NULL && words[0][0] != '\0');
		for (; words[n] != NULL; n++)
			total += strlen(words[n]) + 1;
		MUST(total <= strlen(text) + 1);
		free(words);
	}
	if (aws_parse_time(text, &ms))
		MUST(ms >= -86400000 && ms <= INT64CONST(253402387200000) && strlen(text) >= 20);
	free(text);
	return 0;
}
