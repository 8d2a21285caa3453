/*-------------------------------------------------------------------------
 *
 * sigv4.c
 *	  Verification of AWS Signature Version 4 on incoming requests.
 *
 * The texts of the errors follow AWS's, since clients look at them.  Signing
 * keys are derived once per access key, date, region and service and then kept.
 *
 * There are keys of the command line, and keys that were issued (identity.c).
 * The latter have a token and an end.  Without any of the former, only those who
 * use the latter are checked: anybody else may sign with anything, or nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "server.h"

#include <ctype.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define ALGORITHM "AWS4-HMAC-SHA256"

#define MAX_ISSUED 1000			/* remembered; the oldest go first */

static AccessKey *keys;			/* the newest first */
static bool verify_all;			/* there are keys of the command line */
static int	nissued;

static AccessKey *
add_key(const char *id, const char *secret)
{
	AccessKey  *key = xcalloc(1, sizeof(AccessKey));

	key->id = xstrdup(id);
	key->secret = xstrdup(secret);
	key->next = keys;
	keys = key;
	return key;
}

static void
free_key(AccessKey *key)
{
	free(key->id);
	free(key->secret);
	free(key->token);
	free(key->identity);
	free(key);
}

void
sigv4_add_key(const char *id, const char *secret)
{
	AccessKey  *key = add_key(id, secret);
	StrBuf		arn = {0};

	sb_printf(&arn, "arn:aws:iam::" ACCOUNT_ID ":user/%s", id);
	key->identity = sb_cstr(&arn);
	verify_all = true;
}

AccessKey *
sigv4_keys(void)
{
	return keys;
}

/* Random characters of those that tokens and secrets have. */
static void
random_text(char *out, size_t len, const char *alphabet)
{
	size_t		n = strlen(alphabet);

	for (size_t i = 0; i < len; i++)
		out[i] = alphabet[random64() % n];
	out[len] = '\0';
}

/* Forget the oldest issued key; requests that it signed have been answered. */
static void
drop_oldest(void)
{
	AccessKey **oldest = NULL;
	AccessKey  *key;

	for (AccessKey **p = &keys; *p != NULL; p = &(*p)->next)
		if ((*p)->token != NULL)
			oldest = p;
	key = *oldest;
	*oldest = key->next;
	free_key(key);
	nissued--;
}

/* Make a key that is good for a while. */
AccessKey *
sigv4_issue(const char *identity, Action source, int64_t life_ms, int token_length)
{
	static const char upper[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
	static const char base64[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char		id[21] = "ASIA";
	char		secret[41];
	AccessKey  *key;

	if (nissued >= MAX_ISSUED)
		drop_oldest();
	random_text(id + 4, 16, upper);
	random_text(secret, 40, base64);
	key = add_key(id, secret);
	key->token = xmalloc((size_t) token_length + 1);
	random_text(key->token, (size_t) token_length, base64);
	memcpy(key->token + token_length - 2, "==", 2);
	key->identity = xstrdup(identity);
	key->source = source;
	key->issued_ms = store_now();
	key->expires_ms = key->issued_ms + life_ms;
	nissued++;
	return key;
}

void
sigv4_stop(void)
{
	while (keys != NULL)
	{
		AccessKey  *key = keys;

		keys = key->next;
		free_key(key);
	}
}

/* The key with the id that ends at a slash */
static AccessKey *
find_key(const char *id)
{
	size_t		len = strcspn(id, "/");
	AccessKey  *key = keys;

	while (key != NULL && (strncmp(key->id, id, len) != 0 || key->id[len] != '\0'))
		key = key->next;
	return key;
}

/* The region is fixed for the life of the server. */
static void
derive_key(AccessKey *key, const char *date, const char *service)
{
	unsigned char a[32];
	unsigned char b[32];
	StrBuf		secret = {0};

	if (strcmp(key->cached_date, date) == 0 && strcmp(key->cached_service, service) == 0)
		return;
	sb_lit(&secret, "AWS4");
	sb_puts(&secret, key->secret);
	hmac_sha256(secret.data, secret.len, date, strlen(date), a);
	hmac_sha256(a, 32, options.region, strlen(options.region), b);
	hmac_sha256(b, 32, service, strlen(service), a);
	hmac_sha256(a, 32, "aws4_request", 12, key->signing_key);
	sb_free(&secret);
	snprintf(key->cached_date, sizeof(key->cached_date), "%s", date);
	snprintf(key->cached_service, sizeof(key->cached_service), "%s", service);
}

/*
 * Find "name=value" in the comma-separated rest of the Authorization header
 * and copy the value.
 */
static bool
parameter(const char *list, const char *name, char *out, size_t size)
{
	size_t		name_len = strlen(name);

	while (*list != '\0')
	{
		size_t		len;

		while (*list == ' ' || *list == ',')
			list++;
		len = strcspn(list, ",");
		if (len > name_len && strncmp(list, name, name_len) == 0 && list[name_len] == '=')
		{
			len -= name_len + 1;
			if (len >= size)
				return false;
			memcpy(out, list + name_len + 1, len);
			while (len > 0 && out[len - 1] == ' ')
				len--;
			out[len] = '\0';
			return true;
		}
		list += len;
	}
	return false;
}

static bool
parse_date(const char *text, time_t *result)
{
	struct tm	tm = {0};
	char		zone;

	if (strlen(text) != 16 ||
		sscanf(text, "%4d%2d%2dT%2d%2d%2d%c", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
			   &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &zone) != 7 || zone != 'Z')
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	*result = timegm(&tm);
	return true;
}

static void
format_date(time_t when, char out[32])
{
	struct tm	tm;

	gmtime_r(&when, &tm);
	strftime(out, 32, "%Y%m%dT%H%M%SZ", &tm);
}

static bool
is_signed(const char *list, const char *name)
{
	size_t		len = strlen(name);

	for (const char *p = list; (p = strstr(p, name)) != NULL; p += len)
		if ((p == list || p[-1] == ';') && (p[len] == '\0' || p[len] == ';'))
			return true;
	return false;
}

/* Append a header's value trimmed, with runs of blanks made one. */
static void
append_value(StrBuf *sb, const char *value)
{
	bool		blank = false;
	size_t		start = sb->len;

	for (; *value != '\0'; value++)
	{
		if (*value == ' ' || *value == '\t')
		{
			blank = true;
			continue;
		}
		if (blank && sb->len > start)
			sb_putc(sb, ' ');
		blank = false;
		sb_putc(sb, *value);
	}
}

/* The hash of the canonical request, in hex */
static bool
canonical_hash(Request *req, const char *signed_headers, char out[65], ApiError *error)
{
	static StrBuf sb;
	unsigned char digest[32];
	const char *p = signed_headers;
	char		previous[128] = "";

	sb.len = 0;
	sb_lit(&sb, "POST\n/\n\n");
	while (*p != '\0')
	{
		char		name[128];
		size_t		len = strcspn(p, ";");
		const char *value;

		if (len == 0 || len >= sizeof(name))
			return api_error(error, ERR_INCOMPLETE_SIGNATURE, "Malformed SignedHeaders.");
		memcpy(name, p, len);
		name[len] = '\0';
		if (strcmp(previous, name) >= 0)
			return api_error(error, ERR_INCOMPLETE_SIGNATURE,
							 "SignedHeaders are not sorted in alphabetical order.");
		snprintf(previous, sizeof(previous), "%s", name);
		value = http_header(req, name);
		sb_puts(&sb, name);
		sb_putc(&sb, ':');
		append_value(&sb, value ? value : "");
		sb_putc(&sb, '\n');
		p += len;
		if (*p == ';')
			p++;
	}
	sb_putc(&sb, '\n');
	sb_puts(&sb, signed_headers);
	sb_putc(&sb, '\n');
	sha256(req->body.data ? req->body.data : "", req->body.len, digest);
	sb_hex(&sb, digest, 32);
	sha256(sb.data, sb.len, digest);
	hex_encode(digest, 32, out);
	out[64] = '\0';
	sb_free(&sb);
	return true;
}

/* Is the request's date near enough to the server's? */
static bool
check_time(const Request *req, const char *date, time_t signed_at, ApiError *error)
{
	time_t		now = http_clock(&req->plan);
	int			limit = options.skew_limit;
	char		now_text[32];
	char		limit_text[32];

	format_date(now, now_text);
	if (signed_at < now - limit)
	{
		format_date(now - limit, limit_text);
		return api_error(error, ERR_INVALID_SIGNATURE,
						 "Signature expired: %s is now earlier than %s (%s - %d min.)",
						 date, limit_text, now_text, limit / 60);
	}
	if (signed_at > now + limit)
	{
		format_date(now + limit, limit_text);
		return api_error(error, ERR_INVALID_SIGNATURE,
						 "Signature not yet current: %s is still later than %s (%s + %d min.)",
						 date, limit_text, now_text, limit / 60);
	}
	return true;
}

/* The token that belongs to the key: its own, or the options'. */
static bool
check_token(Request *req, const AccessKey *key, const char *signed_headers, ApiError *error)
{
	const char *token = http_header(req, "X-Amz-Security-Token");
	const char *wanted = key->token != NULL ? key->token : options.session_token;

	if (key->token != NULL && token != NULL && strcmp(token, wanted) == 0 &&
		store_now() >= key->expires_ms)
		return api_error(error, ERR_EXPIRED_TOKEN,
						 "The security token included in the request is expired");
	if (token != NULL && options.expired_token != NULL &&
		strcmp(token, options.expired_token) == 0)
		return api_error(error, ERR_EXPIRED_TOKEN,
						 "The security token included in the request is expired");
	if (token == NULL && wanted == NULL)
		return true;
	if (token == NULL || wanted == NULL || strcmp(token, wanted) != 0)
		return api_error(error, ERR_UNRECOGNIZED_CLIENT,
						 "The security token included in the request is invalid.");
	if (!is_signed(signed_headers, "x-amz-security-token"))
		return api_error(error, ERR_INVALID_SIGNATURE,
						 "'X-Amz-Security-Token' must be a 'SignedHeader' in the AWS "
						 "Authorization.");
	return true;
}

/* Sets req->caller.  service: "sqs" or "sts". */
bool
sigv4_check(Request *req, const char *service, ApiError *error)
{
	const char *authorization = http_header(req, "Authorization");
	const char *date = http_header(req, "X-Amz-Date");
	char		credential[256];
	char		signed_headers[1024];
	char		signature[128];
	char	   *scope[5];
	char	   *save = NULL;
	int			parts = 0;
	AccessKey  *key;
	time_t		signed_at;
	char		hash[65];
	char		to_sign[512];
	unsigned char digest[32];
	char		expected[65];

	if (!verify_all)
	{
		const char *credential = authorization ? strstr(authorization, "Credential=") : NULL;

		if (credential == NULL || find_key(credential + strlen("Credential=")) == NULL)
			return true;
	}
	if (authorization == NULL)
		return api_error(error, ERR_MISSING_TOKEN, "Missing Authentication Token");
	if (strncmp(authorization, ALGORITHM " ", strlen(ALGORITHM) + 1) != 0)
		return api_error(error, ERR_INCOMPLETE_SIGNATURE,
						 "Unsupported AWS 'algorithm': the request must use " ALGORITHM ".");
	authorization += strlen(ALGORITHM) + 1;
	if (!parameter(authorization, "Credential", credential, sizeof(credential)))
		return api_error(error, ERR_INCOMPLETE_SIGNATURE,
						 "Authorization header requires 'Credential' parameter.");
	if (!parameter(authorization, "Signature", signature, sizeof(signature)))
		return api_error(error, ERR_INCOMPLETE_SIGNATURE,
						 "Authorization header requires 'Signature' parameter.");
	if (!parameter(authorization, "SignedHeaders", signed_headers, sizeof(signed_headers)))
		return api_error(error, ERR_INCOMPLETE_SIGNATURE,
						 "Authorization header requires 'SignedHeaders' parameter.");
	if (date == NULL)
		return api_error(error, ERR_INCOMPLETE_SIGNATURE,
						 "Authorization header requires existence of either a 'X-Amz-Date' or a "
						 "'Date' header.");
	if (!parse_date(date, &signed_at))
		return api_error(error, ERR_INCOMPLETE_SIGNATURE,
						 "Date must be in ISO-8601 'basic format'. Got '%.64s'. See "
						 "http://en.wikipedia.org/wiki/ISO_8601", date);

	for (char *part = strtok_r(credential, "/", &save); part != NULL && parts < 5;
		 part = strtok_r(NULL, "/", &save))
		scope[parts++] = part;
	if (parts != 5 || strcmp(scope[4], "aws4_request") != 0)
		return api_error(error, ERR_INCOMPLETE_SIGNATURE,
						 "Credential must have exactly 5 slash-delimited elements, e.g. "
						 "keyid/date/region/service/term.");

	key = find_key(scope[0]);
	if (key == NULL)
		return api_error(error, ERR_UNRECOGNIZED_CLIENT,
						 "The security token included in the request is invalid.");
	if (strcmp(scope[2], options.region) != 0)
		return api_error(error, ERR_INVALID_SIGNATURE,
						 "Credential should be scoped to a valid region, not '%s'. ", scope[2]);
	if (strcmp(scope[3], service) != 0)
		return api_error(error, ERR_INVALID_SIGNATURE,
						 "Credential should be scoped to correct service: '%s'. ", service);
	if (strlen(scope[1]) != 8 || strncmp(scope[1], date, 8) != 0)
		return api_error(error, ERR_INVALID_SIGNATURE,
						 "Date in Credential scope does not match YYYYMMDD from ISO-8601 version "
						 "of date from HTTP: '%s' != '%.8s', from '%s'.", scope[1], date, date);
	if (!is_signed(signed_headers, "host"))
		return api_error(error, ERR_INVALID_SIGNATURE,
						 "'Host' or ':authority' must be a 'SignedHeader' in the AWS "
						 "Authorization.");
	if (!is_signed(signed_headers, "x-amz-date"))
		return api_error(error, ERR_INVALID_SIGNATURE,
						 "'X-Amz-Date' must be a 'SignedHeader' in the AWS Authorization.");
	if (!check_time(req, date, signed_at, error) ||
		!check_token(req, key, signed_headers, error) ||
		!canonical_hash(req, signed_headers, hash, error))
		return false;

	derive_key(key, scope[1], service);
	snprintf(to_sign, sizeof(to_sign), ALGORITHM "\n%s\n%s/%s/%s/aws4_request\n%s",
			 date, scope[1], options.region, service, hash);
	hmac_sha256(key->signing_key, 32, to_sign, strlen(to_sign), digest);
	hex_encode(digest, 32, expected);
	if (strlen(signature) != 64 || CRYPTO_memcmp(signature, expected, 64) != 0)
		return api_error(error, ERR_INVALID_SIGNATURE,
						 "The request signature we calculated does not match the signature you "
						 "provided. Check your AWS Secret Access Key and signing method. Consult "
						 "the service documentation for details.");
	key->uses++;
	req->caller = key;
	return true;
}
