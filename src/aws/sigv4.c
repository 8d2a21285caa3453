/*-------------------------------------------------------------------------
 *
 * sigv4.c
 *	  AWS Signature Version 4.
 *
 * libcurl's CURLOPT_AWS_SIGV4 is not used: it differs from version to version,
 * signs with the uncorrected local clock, keeps the secret key in a handle, and
 * cannot be tested with AWS's test vectors.
 *
 * PostgreSQL's pg_cryptohash and pg_hmac do the hashing, so this follows the
 * OpenSSL (or lack of it) that the server was built with.  In the server they
 * need a CurrentResourceOwner, and raise ERROR if memory runs out.
 *
 * Source: "Create a signed AWS API request", AWS IAM User Guide.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include <time.h>

#include "common/cryptohash.h"
#include "common/hmac.h"

#include "aws/digest.h"
#include "aws/sigv4.h"

/* These two return false if the hash is not available, or memory ran out. */
static bool
sha256(const void *data, size_t len, uint8 *digest)
{
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
	bool		ok;

	if (ctx == NULL)
		return false;
	ok = pg_cryptohash_init(ctx) >= 0 &&
		pg_cryptohash_update(ctx, data, len) >= 0 &&
		pg_cryptohash_final(ctx, digest, SIGV4_SHA256_LEN) >= 0;
	pg_cryptohash_free(ctx);
	return ok;
}

static bool
hmac(const void *key, size_t key_len, const char *data, uint8 *digest)
{
	pg_hmac_ctx *ctx = pg_hmac_create(PG_SHA256);
	bool		ok;

	if (ctx == NULL)
		return false;
	ok = pg_hmac_init(ctx, key, key_len) >= 0 &&
		pg_hmac_update(ctx, (const uint8 *) data, strlen(data)) >= 0 &&
		pg_hmac_final(ctx, digest, SIGV4_SHA256_LEN) >= 0;
	pg_hmac_free(ctx);
	return ok;
}

void
sigv4_date(int64 epoch_seconds, char *buf)
{
	time_t		t = (time_t) epoch_seconds;
	struct tm	tm;

	gmtime_r(&t, &tm);
	/* a year of five digits does not fit; no server accepts such a date */
	if (strftime(buf, SIGV4_DATE_LEN + 1, "%Y%m%dT%H%M%SZ", &tm) == 0)
		strlcpy(buf, "19700101T000000Z", SIGV4_DATE_LEN + 1);
}

void
sigv4_key_wipe(SigV4Key *cache)
{
	explicit_bzero(cache, sizeof(*cache));
}

/*
 * Have AWS's "signing key" in cache->key.  It is derived from everything here
 * except the access key id, and made anew if any of this has changed.  A digest
 * of the secret key is kept to see that; the secret key itself is not.  False,
 * with nothing left in the cache, if something is too long or hashing fails.
 */
static bool
signing_key(SigV4Key *cache, const char *access_key_id, const char *secret,
			const char *date, const char *region, const char *service)
{
	uint8		digest[SIGV4_SHA256_LEN];
	uint8		a[SIGV4_SHA256_LEN];
	uint8		b[SIGV4_SHA256_LEN];
	char		prefixed[4 + AWS_SECRET_KEY_MAX + 1];
	char		day[9];
	bool		ok;

	if (strlen(secret) > AWS_SECRET_KEY_MAX || strlen(access_key_id) >= sizeof(cache->access_key_id) ||
		strlen(region) >= sizeof(cache->region) ||
		strlen(service) >= sizeof(cache->service))
		return false;
	strlcpy(day, date, sizeof(day));
	if (!sha256(secret, strlen(secret), digest))
		return false;
	if (cache->valid && strcmp(cache->access_key_id, access_key_id) == 0 &&
		memcmp(cache->secret_digest, digest, sizeof(digest)) == 0 &&
		strcmp(cache->date, day) == 0 && strcmp(cache->region, region) == 0 &&
		strcmp(cache->service, service) == 0)
		return true;

	sigv4_key_wipe(cache);
	snprintf(prefixed, sizeof(prefixed), "AWS4%s", secret);
	ok = hmac(prefixed, strlen(prefixed), day, a) &&
		hmac(a, sizeof(a), region, b) &&
		hmac(b, sizeof(b), service, a) &&
		hmac(a, sizeof(a), "aws4_request", cache->key);
	explicit_bzero(prefixed, sizeof(prefixed));
	explicit_bzero(a, sizeof(a));
	explicit_bzero(b, sizeof(b));
	if (!ok)
		return false;
	strlcpy(cache->access_key_id, access_key_id, sizeof(cache->access_key_id));
	memcpy(cache->secret_digest, digest, sizeof(digest));
	strlcpy(cache->date, day, sizeof(cache->date));
	strlcpy(cache->region, region, sizeof(cache->region));
	strlcpy(cache->service, service, sizeof(cache->service));
	cache->valid = true;
	return true;
}

/* A text of bounded size; once something did not fit, it stays "full". */
typedef struct Text
{
	char	   *data;
	size_t		size;
	size_t		len;
	bool		full;
} Text;

static void
put_n(Text *text, const char *s, size_t n)
{
	if (text->len + n + 1 > text->size)
	{
		text->full = true;
		return;
	}
	memcpy(text->data + text->len, s, n);
	text->len += n;
	text->data[text->len] = '\0';
}

static void
put(Text *text, const char *s)
{
	put_n(text, s, strlen(s));
}

/* A header value without blanks around it, and with one for each run inside. */
static void
put_trimmed(Text *text, const char *s)
{
	bool		blank = false;

	while (*s == ' ' || *s == '\t')
		s++;
	for (; *s != '\0'; s++)
	{
		if (*s == ' ' || *s == '\t')
		{
			blank = true;
			continue;
		}
		if (blank)
			put_n(text, " ", 1);
		blank = false;
		put_n(text, s, 1);
	}
}

/*
 * The steps are those of AWS's description: hash the canonical request, make
 * the string to sign of that hash, sign it, and put the header together.
 */
bool
sigv4_authorization(SigV4Key *cache, const char *access_key_id,
					const char *secret_access_key, const char *region,
					const char *service, const char *date, const char *method,
					const char *path, const SigV4Header *headers, int nheaders,
					const void *body, size_t body_len, char *buf, size_t size)
{
	Text		canonical = {NULL, 1024, 0, false};
	Text		out = {buf, size, 0, false};
	char		to_sign[512];
	char		scope[160];
	char		signed_headers[512];
	Text		names = {signed_headers, sizeof(signed_headers), 0, false};
	uint8		digest[SIGV4_SHA256_LEN];
	char		hex[2 * SIGV4_SHA256_LEN + 1];
	bool		ok;

	signed_headers[0] = '\0';
	if (!sha256(body, body_len, digest))
		return false;
	aws_hex(digest, sizeof(digest), hex);

	for (int i = 0; i < nheaders; i++)
		canonical.size += 2 * strlen(headers[i].name) + strlen(headers[i].value) + 3;
	canonical.data = malloc(canonical.size);
	if (canonical.data == NULL)
		return false;
	put(&canonical, method);
	put(&canonical, "\n");
	put(&canonical, path);
	put(&canonical, "\n\n");
	for (int i = 0; i < nheaders; i++)
	{
		put(&canonical, headers[i].name);
		put(&canonical, ":");
		put_trimmed(&canonical, headers[i].value);
		put(&canonical, "\n");
		if (i > 0)
			put(&names, ";");
		put(&names, headers[i].name);
	}
	put(&canonical, "\n");
	put(&canonical, signed_headers);
	put(&canonical, "\n");
	put(&canonical, hex);
	ok = !canonical.full && !names.full &&
		sha256(canonical.data, canonical.len, digest);
	/* a session token is among the headers */
	explicit_bzero(canonical.data, canonical.len);
	free(canonical.data);
	if (!ok)
		return false;
	aws_hex(digest, sizeof(digest), hex);

	snprintf(scope, sizeof(scope), "%.8s/%s/%s/aws4_request", date, region, service);
	snprintf(to_sign, sizeof(to_sign), "AWS4-HMAC-SHA256\n%s\n%s\n%s", date, scope, hex);
	if (!signing_key(cache, access_key_id, secret_access_key, date, region, service) ||
		!hmac(cache->key, sizeof(cache->key), to_sign, digest))
		return false;
	aws_hex(digest, sizeof(digest), hex);

	put(&out, "AWS4-HMAC-SHA256 Credential=");
	put(&out, access_key_id);
	put(&out, "/");
	put(&out, scope);
	put(&out, ", SignedHeaders=");
	put(&out, signed_headers);
	put(&out, ", Signature=");
	put(&out, hex);
	return !out.full;
}
