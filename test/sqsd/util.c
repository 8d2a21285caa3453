/*-------------------------------------------------------------------------
 *
 * util.c
 *	  Small building blocks of sqsd.
 *
 * Everything here is single-threaded: the digest contexts and the random
 * state are shared by all callers without locks.
 *
 *-------------------------------------------------------------------------
 */
#include "util.h"

#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static EVP_MD *md5_algorithm;
static EVP_MD *sha256_algorithm;
static EVP_MD_CTX *digest_ctx;
static uint64_t random_state;

static const char hex_digits[] = "0123456789abcdef";
static const char base64_digits[] =
"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void
out_of_memory(void)
{
	fprintf(stderr, "sqsd: out of memory\n");
	abort();
}

void *
xmalloc(size_t size)
{
	void	   *ptr = malloc(size ? size : 1);

	if (ptr == NULL)
		out_of_memory();
	return ptr;
}

void *
xcalloc(size_t count, size_t size)
{
	void	   *ptr = calloc(count ? count : 1, size ? size : 1);

	if (ptr == NULL)
		out_of_memory();
	return ptr;
}

void *
xrealloc(void *ptr, size_t size)
{
	ptr = realloc(ptr, size ? size : 1);
	if (ptr == NULL)
		out_of_memory();
	return ptr;
}

char *
xstrdup(const char *s)
{
	size_t		len = strlen(s) + 1;

	return memcpy(xmalloc(len), s, len);
}

void
sb_free(StrBuf *sb)
{
	free(sb->data);
	memset(sb, 0, sizeof(*sb));
}

void
sb_grow(StrBuf *sb, size_t extra)
{
	size_t		need = sb->len + extra;
	size_t		cap = sb->cap ? sb->cap : 256;

	if (need <= sb->cap)
		return;
	while (cap < need)
		cap *= 2;
	sb->data = xrealloc(sb->data, cap);
	sb->cap = cap;
}

void
sb_append(StrBuf *sb, const void *data, size_t len)
{
	if (len == 0)
		return;
	sb_grow(sb, len);
	memcpy(sb->data + sb->len, data, len);
	sb->len += len;
}

void
sb_puts(StrBuf *sb, const char *s)
{
	sb_append(sb, s, strlen(s));
}

void
sb_putc(StrBuf *sb, char c)
{
	sb_append(sb, &c, 1);
}

void
sb_printf(StrBuf *sb, const char *fmt,...)
{
	va_list		ap;
	int			len;

	va_start(ap, fmt);
	len = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (len < 0)
		return;
	sb_grow(sb, (size_t) len + 1);
	va_start(ap, fmt);
	vsnprintf(sb->data + sb->len, (size_t) len + 1, fmt, ap);
	va_end(ap);
	sb->len += (size_t) len;
}

void
sb_int(StrBuf *sb, int64_t value)
{
	char		digits[24];
	char	   *p = digits + sizeof(digits);
	uint64_t	rest = value < 0 ? -(uint64_t) value : (uint64_t) value;

	do
	{
		*--p = (char) ('0' + rest % 10);
		rest /= 10;
	} while (rest > 0);
	if (value < 0)
		*--p = '-';
	sb_append(sb, p, (size_t) (digits + sizeof(digits) - p));
}

void
hex_encode(const unsigned char *in, size_t len, char *out)
{
	for (size_t i = 0; i < len; i++)
	{
		*out++ = hex_digits[in[i] >> 4];
		*out++ = hex_digits[in[i] & 15];
	}
}

void
sb_hex(StrBuf *sb, const unsigned char *data, size_t len)
{
	sb_grow(sb, len * 2);
	hex_encode(data, len, sb->data + sb->len);
	sb->len += len * 2;
}

void
sb_base64(StrBuf *sb, const unsigned char *data, size_t len)
{
	char	   *out;

	sb_grow(sb, (len + 2) / 3 * 4);
	out = sb->data + sb->len;
	while (len >= 3)
	{
		*out++ = base64_digits[data[0] >> 2];
		*out++ = base64_digits[(data[0] & 3) << 4 | data[1] >> 4];
		*out++ = base64_digits[(data[1] & 15) << 2 | data[2] >> 6];
		*out++ = base64_digits[data[2] & 63];
		data += 3;
		len -= 3;
	}
	if (len > 0)
	{
		*out++ = base64_digits[data[0] >> 2];
		*out++ = base64_digits[(data[0] & 3) << 4 | (len > 1 ? data[1] >> 4 : 0)];
		*out++ = len > 1 ? base64_digits[(data[1] & 15) << 2] : '=';
		*out++ = '=';
	}
	sb->len = (size_t) (out - sb->data);
}

ptrdiff_t
base64_decode(const char *in, size_t len, unsigned char *out)
{
	static signed char values[256];
	static bool ready = false;
	unsigned char *start = out;
	uint32_t	word = 0;
	int			bits = 0;
	size_t		pad = 0;

	if (!ready)
	{
		memset(values, -1, sizeof(values));
		for (int i = 0; i < 64; i++)
			values[(unsigned char) base64_digits[i]] = (signed char) i;
		ready = true;
	}
	if (len % 4 != 0)
		return -1;
	while (pad < 2 && len > 0 && in[len - 1] == '=')
	{
		len--;
		pad++;
	}
	for (size_t i = 0; i < len; i++)
	{
		int			value = values[(unsigned char) in[i]];

		if (value < 0)
			return -1;
		word = word << 6 | (uint32_t) value;
		bits += 6;
		if (bits >= 8)
		{
			bits -= 8;
			*out++ = (unsigned char) (word >> bits);
		}
	}
	return out - start;
}

/* Is none of these eight bytes a quote, a backslash or a control character? */
static bool
eight_plain(const char *s)
{
	const uint64_t ones = 0x0101010101010101;
	uint64_t	word;
	uint64_t	quote;
	uint64_t	backslash;

	memcpy(&word, s, 8);
	quote = word ^ ones * '"';
	backslash = word ^ ones * '\\';
	return (((word - ones * 0x20) & ~word) | ((quote - ones) & ~quote) |
			((backslash - ones) & ~backslash)) & (ones << 7) ? false : true;
}

/* Append a JSON string with its quotes, making room for the longest at once. */
void
sb_json(StrBuf *sb, const char *s, size_t len)
{
	const char *end = s + len;
	char	   *out;

	sb_grow(sb, len * 6 + 2);
	out = sb->data + sb->len;
	*out++ = '"';
	while (s < end)
	{
		unsigned char c = (unsigned char) *s;

		if (end - s >= 8 && eight_plain(s))
		{
			memcpy(out, s, 8);
			out += 8;
			s += 8;
			continue;
		}
		s++;
		if (c == '"' || c == '\\')
			*out++ = '\\';
		if (c >= 0x20)
		{
			*out++ = (char) c;
			continue;
		}
		*out++ = '\\';
		switch (c)
		{
			case '\n':
				*out++ = 'n';
				break;
			case '\r':
				*out++ = 'r';
				break;
			case '\t':
				*out++ = 't';
				break;
			default:
				memcpy(out, "u00", 3);
				out[3] = hex_digits[c >> 4];
				out[4] = hex_digits[c & 15];
				out += 5;
		}
	}
	*out++ = '"';
	sb->len = (size_t) (out - sb->data);
}

void
sb_json_cstr(StrBuf *sb, const char *s)
{
	if (s == NULL)
		sb_lit(sb, "null");
	else
		sb_json(sb, s, strlen(s));
}

char *
sb_cstr(StrBuf *sb)
{
	sb_grow(sb, 1);
	sb->data[sb->len] = '\0';
	return sb->data;
}

bool
digest_start(void)
{
	md5_algorithm = EVP_MD_fetch(NULL, "MD5", NULL);
	sha256_algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
	digest_ctx = EVP_MD_CTX_new();
	if (getrandom(&random_state, sizeof(random_state), 0) != sizeof(random_state))
		random_state = (uint64_t) time(NULL);
	return md5_algorithm != NULL && sha256_algorithm != NULL && digest_ctx != NULL;
}

void
digest_stop(void)
{
	EVP_MD_CTX_free(digest_ctx);
	EVP_MD_free(md5_algorithm);
	EVP_MD_free(sha256_algorithm);
}

static void
digest(EVP_MD *algorithm, const void *data, size_t len, unsigned char *out)
{
	if (!EVP_DigestInit_ex(digest_ctx, algorithm, NULL) ||
		!EVP_DigestUpdate(digest_ctx, data, len) ||
		!EVP_DigestFinal_ex(digest_ctx, out, NULL))
	{
		fprintf(stderr, "sqsd: digest failed\n");
		abort();
	}
}

void
md5(const void *data, size_t len, unsigned char out[16])
{
	digest(md5_algorithm, data, len, out);
}

void
sha256(const void *data, size_t len, unsigned char out[32])
{
	digest(sha256_algorithm, data, len, out);
}

/* RFC 2104, written out because it spares OpenSSL's set-up costs per call. */
void
hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
			unsigned char out[32])
{
	unsigned char block[64] = {0};
	unsigned char pad[64];
	unsigned char inner[32];

	if (key_len > sizeof(block))
		sha256(key, key_len, block);
	else
		memcpy(block, key, key_len);

	for (int i = 0; i < 64; i++)
		pad[i] = block[i] ^ 0x36;
	if (!EVP_DigestInit_ex(digest_ctx, sha256_algorithm, NULL) ||
		!EVP_DigestUpdate(digest_ctx, pad, sizeof(pad)) ||
		!EVP_DigestUpdate(digest_ctx, data, len) ||
		!EVP_DigestFinal_ex(digest_ctx, inner, NULL))
		abort();
	for (int i = 0; i < 64; i++)
		pad[i] = block[i] ^ 0x5c;
	if (!EVP_DigestInit_ex(digest_ctx, sha256_algorithm, NULL) ||
		!EVP_DigestUpdate(digest_ctx, pad, sizeof(pad)) ||
		!EVP_DigestUpdate(digest_ctx, inner, sizeof(inner)) ||
		!EVP_DigestFinal_ex(digest_ctx, out, NULL))
		abort();
}

/* splitmix64 */
uint64_t
random64(void)
{
	uint64_t	z = (random_state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

double
random_double(void)
{
	return (double) (random64() >> 11) / 9007199254740992.0;
}

void
random_uuid(unsigned char out[16])
{
	uint64_t	a = random64();
	uint64_t	b = random64();

	memcpy(out, &a, 8);
	memcpy(out + 8, &b, 8);
	out[6] = (out[6] & 0x0f) | 0x40;
	out[8] = (out[8] & 0x3f) | 0x80;
}

void
sb_uuid(StrBuf *sb, const unsigned char id[16])
{
	char		text[36];

	hex_encode(id, 4, text);
	text[8] = '-';
	hex_encode(id + 4, 2, text + 9);
	text[13] = '-';
	hex_encode(id + 6, 2, text + 14);
	text[18] = '-';
	hex_encode(id + 8, 2, text + 19);
	text[23] = '-';
	hex_encode(id + 10, 6, text + 24);
	sb_append(sb, text, sizeof(text));
}

uint64_t
hash_bytes(const void *data, size_t len, uint64_t seed)
{
	const unsigned char *p = data;
	uint64_t	hash = UINT64_C(0xcbf29ce484222325) ^ seed;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
	return hash ^ (hash >> 32);
}

int64_t
mono_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void
heap_put(Heap *heap, size_t i, HeapNode *node)
{
	heap->items[i] = node;
	node->pos = i + 1;
}

static void
heap_up(Heap *heap, size_t i)
{
	HeapNode   *node = heap->items[i];

	while (i > 0 && heap->items[(i - 1) / 2]->due > node->due)
	{
		heap_put(heap, i, heap->items[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_put(heap, i, node);
}

static void
heap_down(Heap *heap, size_t i)
{
	HeapNode   *node = heap->items[i];

	for (;;)
	{
		size_t		child = 2 * i + 1;

		if (child >= heap->count)
			break;
		if (child + 1 < heap->count &&
			heap->items[child + 1]->due < heap->items[child]->due)
			child++;
		if (heap->items[child]->due >= node->due)
			break;
		heap_put(heap, i, heap->items[child]);
		i = child;
	}
	heap_put(heap, i, node);
}

void
heap_add(Heap *heap, HeapNode *node, int64_t due)
{
	if (node->pos != 0)
		heap_remove(heap, node);
	if (heap->count == heap->cap)
	{
		heap->cap = heap->cap ? heap->cap * 2 : 64;
		heap->items = xrealloc(heap->items, heap->cap * sizeof(HeapNode *));
	}
	node->due = due;
	heap_put(heap, heap->count++, node);
	heap_up(heap, heap->count - 1);
}

void
heap_remove(Heap *heap, HeapNode *node)
{
	size_t		i;
	HeapNode   *last;

	if (node->pos == 0)
		return;
	i = node->pos - 1;
	node->pos = 0;
	last = heap->items[--heap->count];
	if (last == node)
		return;
	heap_put(heap, i, last);
	heap_up(heap, i);
	heap_down(heap, last->pos - 1);
}

void
heap_free(Heap *heap)
{
	free(heap->items);
	memset(heap, 0, sizeof(*heap));
}
