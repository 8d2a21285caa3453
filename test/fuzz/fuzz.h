/*-------------------------------------------------------------------------
 *
 * fuzz.h
 *	  What the fuzz targets share.
 *
 * The targets feed what a hostile peer may send to everything that parses
 * replies, URLs and configuration files, and to the encoding of messages.  The
 * parsers work in place and promise neither to read nor to write beyond the
 * length they are given, so each input is copied to a buffer of exactly that
 * size, where the address sanitizer sees a single byte too many.
 *
 *		make				build all targets with clang and libFuzzer
 *		make run			each for SECONDS=60
 *		make check			only the inputs that are kept, once
 *		make replay			the same without clang, as test/check.sh does
 *
 * A target that is started by hand takes libFuzzer's options:
 *
 *		./build/fuzz_json -max_total_time=600 scratch/json corpus/json grown/json
 *		./build/fuzz_json scratch/json-crash-...	(runs one input again)
 *
 * New inputs go to the first directory (scratch/ is not in the repository).
 * The inputs in corpus/ are written by hand; grown/ has those that "make grow"
 * chose from what was found.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "postgres_fe.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An assertion that is checked in every build. */
#define MUST(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

/* The input in a buffer of exactly its size; the caller frees it. */
static inline char *
fuzz_copy(const uint8_t *data, size_t size)
{
	char	   *copy = malloc(size);

	if (size > 0)
	{
		MUST(copy != NULL);
		memcpy(copy, data, size);
	}
	return copy;
}

/* Read every byte, so that a slice that points elsewhere is found. */
static inline unsigned
fuzz_touch(const char *data, size_t len)
{
	volatile unsigned sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += (unsigned char) data[i];
	return sum;
}

/* Is this a slice of the buffer? */
#define fuzz_inside(data, len, buf, size) \
	((data) >= (buf) && (len) <= (size) && (data) + (len) <= (buf) + (size))

#endif							/* FUZZ_H */
