/*-------------------------------------------------------------------------
 *
 * test_sigv4.c
 *	  Signatures against the official test suite's vectors and our own.
 *
 * A wrong signature is refused by AWS with nothing but "does not match", so
 * what is signed is pinned here byte by byte.  Our own vectors were computed
 * by three independent implementations that agree.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "aws/sigv4.h"
#include "tap.h"

#define AKID	"AKIDEXAMPLE"
#define SECRET	"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define BODY	"{\"QueueUrl\":\"https://sqs.us-east-1.amazonaws.com/123456789012/q1\",\"MessageBody\":\"hello\"}"
#define TOKEN	"FwoGZXIvYXdzEXAMPLETOKEN=="

static const SigV4Header vanilla[] = {
	{"host", "example.amazonaws.com"},
	{"x-amz-date", "20150830T123600Z"},
};
static const SigV4Header key_sort[] = {
	{"host", "example.amazonaws.com"},
	{"my-header1", "value1"},
	{"x-amz-date", "20150830T123600Z"},
};
static const SigV4Header value_trim[] = {
	{"host", "example.amazonaws.com"},
	{"my-header1", " value1"},
	{"my-header2", " \"a   b   c\" "},
	{"x-amz-date", "20150830T123600Z"},
};
static const SigV4Header sqs[] = {
	{"content-type", "application/x-amz-json-1.0"},
	{"host", "sqs.us-east-1.amazonaws.com"},
	{"x-amz-date", "20250102T030405Z"},
	{"x-amz-target", "AmazonSQS.SendMessage"},
};
static const SigV4Header sqs_token[] = {
	{"content-type", "application/x-amz-json-1.0"},
	{"host", "sqs.us-east-1.amazonaws.com"},
	{"x-amz-date", "20250102T030405Z"},
	{"x-amz-security-token", TOKEN},
	{"x-amz-target", "AmazonSQS.SendMessage"},
};

/* Is this the signature at the end of the header? */
static void
signature_is(const char *got, const char *expected, const char *what)
{
	const char *p = strstr(got, "Signature=");

	is(p != NULL ? p + strlen("Signature=") : "(none)", expected, "%s", what);
}

static bool
sign_suite(SigV4Key *cache, const char *method, const SigV4Header *headers,
		   int nheaders, char *buf, size_t size)
{
	return sigv4_authorization(cache, AKID, SECRET, "us-east-1", "service",
							   "20150830T123600Z", method, "/", headers,
							   nheaders, "", 0, buf, size);
}

static bool
sign_sqs(SigV4Key *cache, const char *secret, const SigV4Header *headers,
		 int nheaders, char *buf, size_t size)
{
	return sigv4_authorization(cache, AKID, secret, "us-east-1", "sqs",
							   "20250102T030405Z", "POST", "/", headers,
							   nheaders, BODY, strlen(BODY), buf, size);
}

static void
vectors(void)
{
	SigV4Key	cache;
	char		buf[1024];

	memset(&cache, 0, sizeof(cache));
	ok(sign_suite(&cache, "GET", vanilla, 2, buf, sizeof(buf)), "get-vanilla is signed");
	is(buf, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
	   "SignedHeaders=host;x-amz-date, "
	   "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
	   "get-vanilla: the whole header");
	ok(sign_suite(&cache, "POST", key_sort, 3, buf, sizeof(buf)), "post-header-key-sort is signed");
	signature_is(buf, "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
				 "post-header-key-sort");
	ok(sign_suite(&cache, "GET", value_trim, 4, buf, sizeof(buf)), "get-header-value-trim is signed");
	signature_is(buf, "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
				 "get-header-value-trim");

	ok(sign_sqs(&cache, SECRET, sqs, 4, buf, sizeof(buf)), "SendMessage is signed");
	is(buf, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20250102/us-east-1/sqs/aws4_request, "
	   "SignedHeaders=content-type;host;x-amz-date;x-amz-target, "
	   "Signature=d083a6fdc618b5f75b286ff5b6c338ff12d0a973ab3f4fd7907d710f0a5e6b2d",
	   "SendMessage: the whole header");
	ok(sign_sqs(&cache, SECRET, sqs_token, 5, buf, sizeof(buf)), "with a session token");
	is(buf, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20250102/us-east-1/sqs/aws4_request, "
	   "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, "
	   "Signature=f96ea4e39bba2a44646736973f5505be9d206192cab0fd94775ea4967e0cdc72",
	   "with a session token: the whole header");
	ok(strstr(buf, SECRET) == NULL &&
	   strstr(buf, TOKEN) == NULL, "neither secret nor token is in the header");
	sigv4_key_wipe(&cache);
}

/* Of blanks inside a value one is signed, tabs too, none at the ends. */
static void
blanks(void)
{
	static const char *const values[] = {
		"a b", " a b", "a b ", "\ta b\t", "a  b", "a \t b", "  a    b   "
	};
	char		first[1024];
	char		buf[1024];
	SigV4Key	cache;

	memset(&cache, 0, sizeof(cache));
	for (size_t i = 0; i < lengthof(values); i++)
	{
		SigV4Header headers[] = {
			{"host", "h"}, {"x", values[i]}, {"x-amz-date", "20150830T123600Z"}
		};

		if (!sign_suite(&cache, "POST", headers, 3, buf, sizeof(buf)))
			strcpy(buf, "failed");
		if (i == 0)
			strcpy(first, buf);
		else
			is(buf, first, "blanks of a value, variant %zu", i);
	}
}

static void
key_cache(void)
{
	static const char wanted[] = "d083a6fdc618b5f75b286ff5b6c338ff12d0a973ab3f4fd7907d710f0a5e6b2d";
	SigV4Key	cache;
	SigV4Key	before;
	SigV4Key	zero;
	char		buf[1024];
	char		other[1024];

	memset(&cache, 0, sizeof(cache));
	memset(&zero, 0, sizeof(zero));
	ok(!cache.valid, "an empty cache holds no key");
	sign_sqs(&cache, SECRET, sqs, 4, buf, sizeof(buf));
	ok(cache.valid, "signing fills the cache");
	is(cache.date, "20250102", "with the day");
	ok(memcmp(cache.key, "\xa6\xe2\x35\xcd\x9f\xe3\xe4\x62\x2b\x89\xe8\x16\x69\x29\x05\x57"
			  "\x1b\xfc\x3c\xb7\x36\x6f\xdf\xdb\xef\xe3\xf0\xff\x88\x33\xe2\x92", 32) == 0,
	   "and the signing key of the vector");
	before = cache;
	sign_sqs(&cache, SECRET, sqs, 4, buf, sizeof(buf));
	ok(memcmp(&before, &cache, sizeof(cache)) == 0, "the same again leaves the cache alone");
	signature_is(buf, wanted, "and signs from it alike");

	/* a poisoned key shows that the cache is used */
	cache.key[0] ^= 1;
	sign_sqs(&cache, SECRET, sqs, 4, buf, sizeof(buf));
	ok(strstr(buf, wanted) == NULL, "the cached key is the one that signs");

	/* any change makes it anew, and back */
	sign_sqs(&cache, "another secret", sqs, 4, buf, sizeof(buf));
	ok(strstr(buf, wanted) == NULL, "another secret gives another signature");
	sign_sqs(&cache, SECRET, sqs, 4, buf, sizeof(buf));
	signature_is(buf, wanted, "and back");

	sigv4_authorization(&cache, AKID, SECRET, "us-east-1", "sqs", "20250103T030405Z",
						"POST", "/", sqs, 4, BODY, strlen(BODY), other, sizeof(other));
	is(cache.date, "20250103", "the next day makes another key");
	ok(memcmp(before.key, cache.key, 32) != 0, "which differs");
	sign_sqs(&cache, SECRET, sqs, 4, buf, sizeof(buf));
	signature_is(buf, wanted, "and back to the day before");

	sigv4_authorization(&cache, AKID, SECRET, "eu-west-1", "sqs", "20250102T030405Z",
						"POST", "/", sqs, 4, BODY, strlen(BODY), other, sizeof(other));
	ok(memcmp(before.key, cache.key, 32) != 0, "another region makes another key");
	sigv4_authorization(&cache, AKID, SECRET, "us-east-1", "sts", "20250102T030405Z",
						"POST", "/", sqs, 4, BODY, strlen(BODY), other, sizeof(other));
	is(cache.service, "sts", "another service makes another key");
	sigv4_authorization(&cache, "AKIDOTHER", SECRET, "us-east-1", "sqs", "20250102T030405Z",
						"POST", "/", sqs, 4, BODY, strlen(BODY), other, sizeof(other));
	is(cache.access_key_id, "AKIDOTHER", "another key id is noticed");
	sign_sqs(&cache, SECRET, sqs, 4, buf, sizeof(buf));
	signature_is(buf, wanted, "and back to the first");

	sigv4_key_wipe(&cache);
	ok(memcmp(&cache, &zero, sizeof(cache)) == 0, "wiping leaves nothing");
}

static void
limits(void)
{
	SigV4Key	cache;
	char		buf[1024];
	char		small[64];
	char	   *huge = malloc(20001);
	char		long_secret[AWS_SECRET_KEY_MAX + 2];
	char		long_id[130];
	SigV4Header headers[] = {
		{"host", "h"}, {"x-amz-date", "20250102T030405Z"},
		{"x-amz-security-token", huge}
	};

	memset(&cache, 0, sizeof(cache));
	ok(!sign_sqs(&cache, SECRET, sqs, 4, small, sizeof(small)), "a small buffer is an error");
	ok(strlen(small) < sizeof(small), "and holds a terminated text");

	memset(huge, 'x', 20000);
	huge[20000] = '\0';
	ok(sign_sqs(&cache, SECRET, headers, 3, buf, sizeof(buf)), "a token of 20000 bytes");

	memset(long_secret, 's', sizeof(long_secret));
	long_secret[AWS_SECRET_KEY_MAX + 1] = '\0';
	ok(!sign_sqs(&cache, long_secret, sqs, 4, buf, sizeof(buf)), "a secret that is too long is an error");
	long_secret[AWS_SECRET_KEY_MAX] = '\0';
	ok(sign_sqs(&cache, long_secret, sqs, 4, buf, sizeof(buf)), "one byte less is none");

	memset(long_id, 'i', 129);
	long_id[129] = '\0';
	ok(!sigv4_authorization(&cache, long_id, SECRET, "us-east-1", "sqs",
							"20250102T030405Z", "POST", "/", sqs, 4, "", 0,
							buf, sizeof(buf)), "a key id of 129 bytes is an error");
	free(huge);
}

static void
dates(void)
{
	char		buf[SIGV4_DATE_LEN + 1];

	sigv4_date(0, buf);
	is(buf, "19700101T000000Z", "the epoch");
	sigv4_date(INT64CONST(1440938160), buf);
	is(buf, "20150830T123600Z", "the suite's date");
	sigv4_date(INT64CONST(1709164799), buf);
	is(buf, "20240228T235959Z", "the second before a leap day");
	sigv4_date(INT64CONST(1709164800), buf);
	is(buf, "20240229T000000Z", "a leap day");
	sigv4_date(INT64CONST(2147483648), buf);
	is(buf, "20380119T031408Z", "beyond 32 bits");
	sigv4_date(INT64CONST(253402300799), buf);
	is(buf, "99991231T235959Z", "the last second of four digits");

	/* a peer's Date header may lead there */
	memset(buf, 'x', sizeof(buf));
	sigv4_date(INT64CONST(253402300800), buf);
	ok(memchr(buf, '\0', sizeof(buf)) != NULL, "the year 10000 leaves a terminated text");
}

void
test_sigv4(void)
{
	vectors();
	blanks();
	key_cache();
	limits();
	dates();
}
