/*-------------------------------------------------------------------------
 *
 * digest.c
 *	  The MD5s by which SQS confirms what it has got, and hex digits.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "common/cryptohash.h"
#include "common/md5.h"

#include "aws/digest.h"

void
aws_hex(const uint8 *bytes, size_t n, char *hex)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++)
	{
		*hex++ = digits[bytes[i] >> 4];
		*hex++ = digits[bytes[i] & 15];
	}
	*hex = '\0';
}

bool
sqs_body_md5(const char *data, size_t len, char hex[33])
{
	const char *why;

	return pg_md5_hash(data, len, hex, &why);
}

/* The length of a string in four bytes, big-endian, and the string. */
static bool
md5_sized(pg_cryptohash_ctx *ctx, SqsSlice slice)
{
	uint8		be[4];

	be[0] = (uint8) (slice.len >> 24);
	be[1] = (uint8) (slice.len >> 16);
	be[2] = (uint8) (slice.len >> 8);
	be[3] = (uint8) slice.len;
	return pg_cryptohash_update(ctx, be, 4) >= 0 &&
		(slice.len == 0 ||
		 pg_cryptohash_update(ctx, (const uint8 *) slice.data, slice.len) >= 0);
}

/* By bytes; the shorter of two that begin alike comes first. */
static int
compare_slices(SqsSlice a, SqsSlice b)
{
	int			cmp = memcmp(a.data, b.data, Min(a.len, b.len));

	return cmp != 0 ? cmp : a.len < b.len ? -1 : a.len > b.len ? 1 : 0;
}

/*
 * As "Calculating the MD5 message digest for message attributes" in the SQS
 * developer guide says: sorted by name, for each attribute its name, its type,
 * a byte that tells text (1) from binary (2), and its value.
 */
bool
sqs_attributes_md5(const SqsAttribute *attributes, int nattributes, char hex[33])
{
	const SqsAttribute *sorted[SQS_PARSE_MAX_ATTRIBUTES];
	pg_cryptohash_ctx *ctx;
	uint8		digest[MD5_DIGEST_LENGTH];
	bool		ok;

	if (nattributes > SQS_PARSE_MAX_ATTRIBUTES)
		return false;
	for (int i = 0; i < nattributes; i++)
	{
		int			j = i;

		for (; j > 0 && compare_slices(sorted[j - 1]->name, attributes[i].name) > 0; j--)
			sorted[j] = sorted[j - 1];
		sorted[j] = &attributes[i];
	}

	ctx = pg_cryptohash_create(PG_MD5);
	if (ctx == NULL)
		return false;
	ok = pg_cryptohash_init(ctx) >= 0;
	for (int i = 0; i < nattributes && ok; i++)
	{
		uint8		kind = sorted[i]->binary ? 2 : 1;

		ok = md5_sized(ctx, sorted[i]->name) &&
			md5_sized(ctx, sorted[i]->data_type) &&
			pg_cryptohash_update(ctx, &kind, 1) >= 0 &&
			md5_sized(ctx, sorted[i]->value);
	}
	ok = ok && pg_cryptohash_final(ctx, digest, sizeof(digest)) >= 0;
	pg_cryptohash_free(ctx);
	if (ok)
		aws_hex(digest, sizeof(digest), hex);
	return ok;
}
