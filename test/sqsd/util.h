/*-------------------------------------------------------------------------
 *
 * util.h
 *	  Small building blocks of sqsd: growable buffers, JSON output, digests,
 *	  base64, random numbers, a binary heap and clocks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSD_UTIL_H
#define SQSD_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))
#define container_of(ptr, type, member) \
	((type *) ((char *) (ptr) - offsetof(type, member)))

/* Memory: all of these end the process when memory runs out. */
extern void *xmalloc(size_t size);
extern void *xcalloc(size_t count, size_t size);
extern void *xrealloc(void *ptr, size_t size);
extern char *xstrdup(const char *s);

/* A growable buffer; data is not zero-terminated unless sb_cstr() is used. */
typedef struct StrBuf
{
	char	   *data;
	size_t		len;
	size_t		cap;
} StrBuf;

extern void sb_free(StrBuf *sb);
extern void sb_grow(StrBuf *sb, size_t extra);
extern void sb_printf(StrBuf *sb, const char *fmt,...) __attribute__((format(printf, 2, 3)));
extern void sb_append(StrBuf *sb, const void *data, size_t len);
extern void sb_puts(StrBuf *sb, const char *s);
extern void sb_putc(StrBuf *sb, char c);
extern void sb_int(StrBuf *sb, int64_t value);
extern void sb_hex(StrBuf *sb, const unsigned char *data, size_t len);
extern void sb_base64(StrBuf *sb, const unsigned char *data, size_t len);
extern void sb_json(StrBuf *sb, const char *s, size_t len);
extern void sb_json_cstr(StrBuf *sb, const char *s);
extern char *sb_cstr(StrBuf *sb);

/* A literal whose length the compiler knows. */
#define sb_lit(sb, literal) sb_append((sb), "" literal, sizeof(literal) - 1)

/* Returns the number of bytes written to out, or -1 for malformed input. */
extern ptrdiff_t base64_decode(const char *in, size_t len, unsigned char *out);

extern void hex_encode(const unsigned char *in, size_t len, char *out);

/* Digests */
extern bool digest_start(void);
extern void digest_stop(void);
extern void md5(const void *data, size_t len, unsigned char out[16]);
extern void sha256(const void *data, size_t len, unsigned char out[32]);
extern void hmac_sha256(const void *key, size_t key_len, const void *data,
						size_t len, unsigned char out[32]);

/* Random numbers: fast, not for secrets. */
extern uint64_t random64(void);
extern double random_double(void);
extern void random_uuid(unsigned char out[16]);
extern void sb_uuid(StrBuf *sb, const unsigned char id[16]);

/* FNV-1a, for the hash tables */
extern uint64_t hash_bytes(const void *data, size_t len, uint64_t seed);

/* Milliseconds of a clock which never goes back */
extern int64_t mono_ms(void);

/*
 * A binary min-heap of nodes embedded in their owners.  pos is the node's
 * place in the heap counted from 1; 0 means that it is in no heap.
 */
typedef struct HeapNode
{
	int64_t		due;
	size_t		pos;
} HeapNode;

typedef struct Heap
{
	HeapNode  **items;
	size_t		count;
	size_t		cap;
} Heap;

extern void heap_add(Heap *heap, HeapNode *node, int64_t due);
extern void heap_remove(Heap *heap, HeapNode *node);
extern void heap_free(Heap *heap);

static inline HeapNode *
heap_first(const Heap *heap)
{
	return heap->count > 0 ? heap->items[0] : NULL;
}

#endif							/* SQSD_UTIL_H */
