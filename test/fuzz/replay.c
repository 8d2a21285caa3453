/*-------------------------------------------------------------------------
 *
 * replay.c
 *	  Runs the inputs in the directories named as arguments, each once, for
 *	  compilers without libFuzzer.  TAP: a line per directory.
 *
 * What must not happen ends the process, as it does in a fuzzer.
 *
 *-------------------------------------------------------------------------
 */
#include <dirent.h>

#include "fuzz.h"

#define MAX_BYTES	(1024 * 1024)

int
main(int argc, char **argv)
{
	uint8_t    *data = malloc(MAX_BYTES);

	MUST(data != NULL);
	printf("1..%d\n", argc - 1);
	for (int i = 1; i < argc; i++)
	{
		DIR		   *dir = opendir(argv[i]);
		struct dirent *entry;
		int			n = 0;

		while (dir != NULL && (entry = readdir(dir)) != NULL)
		{
			char		path[1024];
			FILE	   *file;
			size_t		size;

			if (entry->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", argv[i], entry->d_name);
			if ((file = fopen(path, "rb")) == NULL)
				continue;
			size = fread(data, 1, MAX_BYTES, file);
			fclose(file);
			LLVMFuzzerTestOneInput(data, size);
			n++;
		}
		if (dir != NULL)
			closedir(dir);
		printf("%sok %d - %d inputs of %s\n", n > 0 ? "" : "not ", i, n, argv[i]);
		fflush(stdout);
	}
	free(data);
	return 0;
}
