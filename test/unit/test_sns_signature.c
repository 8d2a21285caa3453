/*-------------------------------------------------------------------------
 *
 * test_sns_signature.c
 *	  What SNS signs, where its certificates are, and which of them are trusted.
 *
 * The certificates are made here.  What is signed is written out as SNS's
 * documentation has it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <unistd.h>

#include "aws/sns_signature.h"
#include "tap.h"

#define URL "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123.pem"

/* ---- documents ---- */

/* Why it is none, or NULL. */
static const char *
parse(const char *document, AwsSnsMessage *message, char **copy)
{
	const char *why;
	size_t		len = strlen(document);

	*copy = tap_copy(document, len);
	return aws_sns_message_parse(*copy, len, message, &why) ? NULL : why;
}

#define SIGNED "\"SignatureVersion\":\"1\",\"Signature\":\"QUJD\",\"SigningCertURL\":\"" URL "\""
#define SAYS "\"MessageId\":\"i\",\"TopicArn\":\"a\",\"Timestamp\":\"t\",\"Message\":\"m\","

static void
documents(void)
{
	static const struct
	{
		const char *document;
		const char *why;		/* NULL: it is one */
	}			cases[] =
	{
		{"{\"Type\":\"Notification\"," SAYS SIGNED "}", NULL},
		{" {\"Type\":\"Notification\"," SAYS SIGNED ",\"Subject\":null,\"x\":[1,{\"Type\":2}],\"y\":{}} ", NULL},
		{"{\"Type\":\"Notification\"," SAYS SIGNED ",\"Subject\":\"s\",\"UnsubscribeURL\":\"u\"}", NULL},
		{"{\"Type\":\"SubscriptionConfirmation\",\"Token\":\"t\",\"SubscribeURL\":\"u\"," SAYS SIGNED "}", NULL},
		{"{\"Type\":\"UnsubscribeConfirmation\",\"Token\":\"t\",\"SubscribeURL\":\"u\"," SAYS SIGNED "}", NULL},
		{"", "is not a JSON object"},
		{"hello", "is not a JSON object"},
		{"[]", "is not a JSON object"},
		{"{\"Type\":\"Notification\"," SAYS SIGNED, "is not a JSON object"},
		{"{\"Type\":\"Notification\"," SAYS SIGNED "} x", "is not a JSON object"},
		{"{\"Type\":\"Notification\"," SAYS SIGNED ",\"x\":nix}", "is not a JSON object"},
		{"{}", "is not of a type that SNS sends"},
		{"{\"Type\":\"notification\"," SAYS SIGNED "}", "is not of a type that SNS sends"},
		{"{\"Type\":\"Notification\",\"MessageId\":\"i\"," SIGNED "}", "lacks a member that SNS's messages have"},
		{"{\"Type\":\"SubscriptionConfirmation\"," SAYS SIGNED "}", "lacks a member that SNS's messages have"},
		{"{\"Type\":\"Notification\"," SAYS "\"SignatureVersion\":\"1\"}", "has no signature"},
		{"{\"Type\":\"Notification\"," SAYS "\"Signature\":\"QUJD\",\"SigningCertURL\":\"x\"}", "has a signature of an unknown version"},
		{"{\"Type\":\"Notification\"," SAYS "\"Signature\":\"QUJD\",\"SigningCertURL\":\"x\",\"SignatureVersion\":\"3\"}", "has a signature of an unknown version"},
		{"{\"Type\":\"Notification\"," SAYS SIGNED ",\"Message\":\"other\"}", "has a member of SNS's twice"},
		{"{\"Subject\":null,\"Type\":\"Notification\"," SAYS SIGNED ",\"Subject\":\"s\"}", "has a member of SNS's twice"},
		{"{\"Type\":\"Notification\"," SAYS SIGNED ",\"\\u0054ype\":\"Notification\"}", "has a member of SNS's twice"},
		{"{\"Subject\":1,\"Type\":\"Notification\"," SAYS SIGNED "}", "has a member of SNS's that is not a string"},
		{"{\"Subject\":{},\"Type\":\"Notification\"," SAYS SIGNED "}", "has a member of SNS's that is not a string"},
		{"{\"Subject\":", "has a member of SNS's that is not a string"},
		{"{\"Subject\":\"a\\nTimestamp\",\"Type\":\"Notification\"," SAYS SIGNED "}", "has a member of SNS's with a control character"},
		{"{\"Message\":\"a\\u0000\",\"Type\":\"Notification\"}", "has a member of SNS's with a control character"},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		AwsSnsMessage message;
		char	   *copy;

		is(parse(cases[i].document, &message, &copy), cases[i].why, "document %d", (int) i);
		free(copy);
	}
}

/* ---- where certificates are ---- */

static void
places(void)
{
	static const char *const good[] = {
		URL,
		"https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-0123.pem",
		"https://sns.us-gov-west-1.amazonaws.com/a/b.pem",
		"https://sns.eusc-de-east-1.amazonaws.eu/b.pem",
		"HTTPS://SNS.US-EAST-1.amazonaws.com/b.pem",
	};
	static const char *const bad[] = {
		"",
		"http://sns.us-east-1.amazonaws.com/b.pem",
		"https://sns.us-east-1.amazonaws.com:443/b.pem",
		"https://sns.us-east-1.amazonaws.com:8443/b.pem",
		"https://user@sns.us-east-1.amazonaws.com/b.pem",
		"https://sns.us-east-1.amazonaws.com@example.com/b.pem",
		"https://sns.us-east-1.amazonaws.com\\@example.com/b.pem",
		"https://sns.us-east-1.amazonaws.com.example.com/b.pem",
		"https://example.com/sns.us-east-1.amazonaws.com/b.pem",
		"https://xsns.us-east-1.amazonaws.com/b.pem",
		"https://sns.us-east-1.example.com/b.pem",
		"https://sns.us-east-1.amazonaws.com.cn/b.pem",
		"https://sns.cn-north-1.amazonaws.com/b.pem",
		"https://sns.amazonaws.com/b.pem",
		"https://sns..amazonaws.com/b.pem",
		"https://sns.-.amazonaws.com/b.pem",
		"https://sns.a.us-east-1.amazonaws.com/b.pem",
		"https://sns.us_east_1.amazonaws.com/b.pem",
		"https://sns.us-east-1.s3.amazonaws.com/b.pem",
		"https://sns.us-east-1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.amazonaws.com/b.pem",
		"https://sns.us-east-1.amazonaws.com",
		"https://sns.us-east-1.amazonaws.com/",
		"https://sns.us-east-1.amazonaws.com/.pem",
		"https://sns.us-east-1.amazonaws.com/b.pem/",
		"https://sns.us-east-1.amazonaws.com/b.txt",
		"https://sns.us-east-1.amazonaws.com/b.pem?x",
		"https://sns.us-east-1.amazonaws.com/?x=b.pem",
		"https://sns.us-east-1.amazonaws.com/#b.pem",
		"https://sns.us-east-1.amazonaws.com/../b.pem",
		"https://sns.us-east-1.amazonaws.com/%2e%2e/b.pem",
		"https://sns.us-east-1.amazonaws.com/b .pem",
	};
	AwsSnsPlace place;
	const char *why;
	char		longest[1024] = "https://sns.us-east-1.amazonaws.com/";

	for (size_t i = 0; i < lengthof(good); i++)
		ok(aws_sns_place_parse(good[i], &place, &why), "\"%s\" is one of SNS's", good[i]);
	is(place.url, "https://sns.us-east-1.amazonaws.com/b.pem", "its URL");
	is(place.region, "us-east-1", "its region");
	for (size_t i = 0; i < lengthof(bad); i++)
		ok(!aws_sns_place_parse(bad[i], &place, &why) && strncmp(why, "must ", 5) == 0,
		   "\"%s\" is not one of SNS's: it %s", bad[i], why);
	memset(longest + strlen(longest), 'x', 600);
	strcpy(longest + 600, ".pem");
	ok(!aws_sns_place_parse(longest, &place, &why), "nor is a very long one");
}

/* ---- certificates ---- */

typedef struct Cert
{
	X509	   *x509;
	EVP_PKEY   *key;
} Cert;

static EVP_PKEY *
new_key(int bits)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(bits > 0 ? EVP_PKEY_RSA : EVP_PKEY_EC, NULL);
	EVP_PKEY   *key = NULL;

	if (EVP_PKEY_keygen_init(context) != 1 ||
		(bits > 0 ? EVP_PKEY_CTX_set_rsa_keygen_bits(context, bits) :
		 EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1)) != 1 ||
		EVP_PKEY_keygen(context, &key) != 1)
		abort();
	EVP_PKEY_CTX_free(context);
	return key;
}

static void
add_extension(X509 *x509, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	if (extension == NULL || X509_add_ext(x509, extension, -1) != 1)
		abort();
	X509_EXTENSION_free(extension);
}

/*
 * A certificate that is valid from so many days on, for 10 days.  issuer: NULL:
 * itself.  alternative: what "subjectAltName" has, or NULL.
 */
static Cert
new_cert(const char *name, const char *alternative, bool is_authority, EVP_PKEY *key,
		 const Cert *issuer, int from)
{
	static long serial = 1;
	Cert		cert = {X509_new(), key};
	X509_NAME  *subject = X509_get_subject_name(cert.x509);

	X509_set_version(cert.x509, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert.x509), serial++);
	X509_gmtime_adj(X509_getm_notBefore(cert.x509), from * 86400L);
	X509_gmtime_adj(X509_getm_notAfter(cert.x509), (from + 10) * 86400L);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *) name, -1, -1, 0);
	X509_set_issuer_name(cert.x509, issuer != NULL ? X509_get_subject_name(issuer->x509) : subject);
	X509_set_pubkey(cert.x509, key);
	if (is_authority)
		add_extension(cert.x509, NID_basic_constraints, "critical,CA:TRUE");
	if (alternative != NULL)
		add_extension(cert.x509, NID_subject_alt_name, alternative);
	if (X509_sign(cert.x509, issuer != NULL ? issuer->key : key, EVP_sha256()) == 0)
		abort();
	return cert;
}

/* Append the certificate to a text. */
static void
add_pem(char *pem, size_t size, const Cert *cert)
{
	BIO		   *bio = BIO_new(BIO_s_mem());
	char	   *data;
	long		len;
	size_t		had = strlen(pem);

	PEM_write_bio_X509(bio, cert->x509);
	len = BIO_get_mem_data(bio, &data);
	if (had + len >= size)
		abort();
	memcpy(pem + had, data, len);
	pem[had + len] = '\0';
	BIO_free(bio);
}

static void
write_file(const char *path, const Cert *cert)
{
	FILE	   *file = fopen(path, "w");

	if (file == NULL || PEM_write_X509(file, cert->x509) != 1)
		abort();
	fclose(file);
}

/* Read what such a place gives. */
static AwsSnsResult
read_pem(const char *pem, const char *url, const char *ca_file, AwsSnsCertificate **certificate,
		 char *why)
{
	AwsSnsPlace place;
	const char *bad;
	char	   *copy = tap_copy(pem, strlen(pem));
	AwsSnsResult result;

	if (!aws_sns_place_parse(url, &place, &bad))
		abort();
	result = aws_sns_certificate_read(copy, strlen(pem), &place, ca_file, certificate, why);
	free(copy);
	return result;
}

static void
is_read(const char *pem, const char *url, const char *ca_file, AwsSnsResult expected,
		const char *because, const char *what)
{
	AwsSnsCertificate *certificate = NULL;
	char		why[AWS_SNS_WHY_SIZE] = "";

	is_int(read_pem(pem, url, ca_file, &certificate, why), expected, "%s", what);
	ok((certificate != NULL) == (expected == AWS_SNS_GOOD), "%s: a certificate if it is good", what);
	if (because != NULL)
		ok(strstr(why, because) != NULL, "%s: %s", what, why);
	aws_sns_certificate_free(certificate);
}

/* One with the authority of the test, and nothing in between. */
static void
named(const Cert *authority, EVP_PKEY *key, const char *ca_file, const char *name,
	  const char *alternative, const char *url, AwsSnsResult expected)
{
	Cert		cert = new_cert(name, alternative, false, key, authority, -1);
	char		pem[8192] = "";
	char		what[256];

	add_pem(pem, sizeof(pem), &cert);
	snprintf(what, sizeof(what), "CN=%s, %s, of %.40s", name, alternative ? alternative : "no others", url);
	is_read(pem, url, ca_file, expected, NULL, what);
	X509_free(cert.x509);
}

static void
certificates(const Cert *authority, EVP_PKEY *key, const char *ca_file)
{
	EVP_PKEY   *small = new_key(1024);
	EVP_PKEY   *curve = new_key(0);
	Cert		between = new_cert("between", NULL, true, curve, authority, -1);
	Cert		sns = new_cert("sns.amazonaws.com", NULL, false, key, &between, -1);
	Cert		alone = new_cert("sns.amazonaws.com", NULL, false, key, NULL, -1);
	Cert		old = new_cert("sns.amazonaws.com", NULL, false, key, authority, -11);
	Cert		early = new_cert("sns.amazonaws.com", NULL, false, key, authority, 1);
	Cert		weak = new_cert("sns.amazonaws.com", NULL, false, small, authority, -1);
	Cert		other = new_cert("sns.amazonaws.com", NULL, false, curve, authority, -1);
	Cert		forged = new_cert("sns.amazonaws.com", NULL, false, key, &alone, -1);
	char		pem[16384] = "";

	add_pem(pem, sizeof(pem), &sns);
	is_read(pem, URL, ca_file, AWS_SNS_GOOD, NULL, "a certificate without its issuers");
	add_pem(pem, sizeof(pem), &between);
	is_read(pem, URL, ca_file, AWS_SNS_GOOD, NULL, "a certificate with its issuer");
	is_read(pem, URL, NULL, AWS_SNS_UNKNOWN, "is not trusted", "an issuer that nobody knows");
	is_read(pem, URL, "/nonexistent", AWS_SNS_UNKNOWN, "\"/nonexistent\"", "authorities that cannot be read");

	pem[0] = '\0';
	add_pem(pem, sizeof(pem), &alone);
	is_read(pem, URL, ca_file, AWS_SNS_UNKNOWN, "is not trusted", "one that has signed itself");
	pem[0] = '\0';
	add_pem(pem, sizeof(pem), &forged);
	add_pem(pem, sizeof(pem), &alone);
	is_read(pem, URL, ca_file, AWS_SNS_UNKNOWN, "is not trusted", "one signed by one of those");
	pem[0] = '\0';
	add_pem(pem, sizeof(pem), &sns);
	add_pem(pem, sizeof(pem), &alone);
	is_read(pem, URL, ca_file, AWS_SNS_UNKNOWN, "is not trusted", "one with the wrong issuer");

	pem[0] = '\0';
	add_pem(pem, sizeof(pem), &old);
	is_read(pem, URL, ca_file, AWS_SNS_UNKNOWN, "expired", "one that has expired");
	pem[0] = '\0';
	add_pem(pem, sizeof(pem), &early);
	is_read(pem, URL, ca_file, AWS_SNS_UNKNOWN, "not valid yet", "one of tomorrow");
	pem[0] = '\0';
	add_pem(pem, sizeof(pem), &weak);
	is_read(pem, URL, ca_file, AWS_SNS_BAD, "RSA", "a short key");
	pem[0] = '\0';
	add_pem(pem, sizeof(pem), &other);
	is_read(pem, URL, ca_file, AWS_SNS_BAD, "RSA", "another kind of key");

	is_read("", URL, ca_file, AWS_SNS_BAD, "not a certificate", "nothing");
	is_read("<html>", URL, ca_file, AWS_SNS_BAD, "not a certificate", "something else");
	is_read("-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n", URL, ca_file,
			AWS_SNS_BAD, "not a certificate", "garbage");
	is_read("-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\n"
			"DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\n"
			"AAAAAAAAAAAAAAAAAAAAAA==\n-----END CERTIFICATE-----\n", URL, ca_file,
			AWS_SNS_BAD, "not a certificate", "one with a password, which nobody is asked for");

#define CN_URL "https://sns.cn-north-1.amazonaws.com.cn/b.pem"
#define GOV_URL "https://sns.us-gov-east-1.amazonaws.com/b.pem"
#define NEW_URL "https://sns.ap-east-1.amazonaws.com/b.pem"
	named(authority, key, ca_file, "x", "DNS:sns.amazonaws.com", URL, AWS_SNS_GOOD);
	named(authority, key, ca_file, "sns-signing.ap-east-1.amazonaws.com", NULL, NEW_URL, AWS_SNS_GOOD);
	named(authority, key, ca_file, "sns-cn-north-1.amazonaws.com.cn", NULL, CN_URL, AWS_SNS_GOOD);
	named(authority, key, ca_file, "sns-us-gov-west-1.amazonaws.com", NULL, GOV_URL, AWS_SNS_GOOD);
	named(authority, key, ca_file, "sns-us-gov-west-1.amazonaws.com", NULL, URL, AWS_SNS_BAD);
	named(authority, key, ca_file, "sns-signing.ap-east-1.amazonaws.com", NULL, URL, AWS_SNS_BAD);
	named(authority, key, ca_file, "sns.amazonaws.com", NULL, CN_URL, AWS_SNS_BAD);
	named(authority, key, ca_file, "sns.amazonaws.com", "DNS:example.com", URL, AWS_SNS_BAD);
	named(authority, key, ca_file, "sqs.amazonaws.com", NULL, URL, AWS_SNS_BAD);
	named(authority, key, ca_file, "*.amazonaws.com", "DNS:*.amazonaws.com", URL, AWS_SNS_BAD);
	named(authority, key, ca_file, "amazonaws.com", NULL, URL, AWS_SNS_BAD);
	named(authority, key, ca_file, "sns.amazonaws.com.example.com", NULL, URL, AWS_SNS_BAD);

	X509_free(between.x509);
	X509_free(sns.x509);
	X509_free(alone.x509);
	X509_free(old.x509);
	X509_free(early.x509);
	X509_free(weak.x509);
	X509_free(other.x509);
	X509_free(forged.x509);
	EVP_PKEY_free(small);
	EVP_PKEY_free(curve);
}

/* ---- signatures ---- */

/* The signature of a text, in base64. */
static void
sign(EVP_PKEY *key, const EVP_MD *md, const char *text, char *base64, size_t size)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	unsigned char bytes[512];
	size_t		len = sizeof(bytes);

	if (EVP_DigestSignInit(context, NULL, md, NULL, key) != 1 ||
		EVP_DigestSign(context, bytes, &len, (const unsigned char *) text, strlen(text)) != 1 ||
		4 * ((len + 2) / 3) >= size)
		abort();
	EVP_EncodeBlock((unsigned char *) base64, bytes, (int) len);
	EVP_MD_CTX_free(context);
}

/* A document with the signature of a text. */
static void
is_verified(const AwsSnsCertificate *certificate, EVP_PKEY *key, const char *version,
			const char *text, const char *members, AwsSnsResult expected, const char *what)
{
	char		base64[1024] = "!";
	char		document[4096];
	AwsSnsMessage message;
	char		why[AWS_SNS_WHY_SIZE];
	char	   *copy;

	if (key != NULL)
		sign(key, strcmp(version, "1") == 0 ? EVP_sha1() : EVP_sha256(), text, base64, sizeof(base64));
	snprintf(document, sizeof(document),
			 "{%s,\"SignatureVersion\":\"%s\",\"Signature\":\"%s\",\"SigningCertURL\":\"" URL "\","
			 "\"UnsubscribeURL\":\"u\",\"MessageAttributes\":{\"a\":{\"Type\":\"String\",\"Value\":\"v\"}}}",
			 members, version, base64);
	is(parse(document, &message, &copy), NULL, "%s: it is a document of SNS's", what);
	is_int(aws_sns_signature_verify(&message, certificate, why), expected, "%s", what);
	free(copy);
}

static void
signatures(const AwsSnsCertificate *certificate, EVP_PKEY *key)
{
	static const char plain[] =
		"Message\nHello\nMessageId\nid-1\nTimestamp\n2012-05-02T00:54:06.655Z\n"
		"TopicArn\narn:aws:sns:us-east-1:123456789012:t\nType\nNotification\n";
	static const char *const versions[] = {"1", "2"};
	EVP_PKEY   *other = new_key(2048);

#define MEMBERS(type, id, message, time, arn) \
	"\"Type\":\"" type "\",\"MessageId\":\"" id "\",\"Message\":\"" message "\"," \
	"\"Timestamp\":\"" time "\",\"TopicArn\":\"" arn "\""
#define TIME "2012-05-02T00:54:06.655Z"
#define ARN "arn:aws:sns:us-east-1:123456789012:t"
#define PLAIN MEMBERS("Notification", "id-1", "Hello", TIME, ARN)

	for (size_t i = 0; i < lengthof(versions); i++)
	{
		const char *version = versions[i];

		is_verified(certificate, key, version, plain, PLAIN, AWS_SNS_GOOD, "a notification");
		is_verified(certificate, key, version, plain, PLAIN ",\"Subject\":null", AWS_SNS_GOOD,
					"one whose subject is null");
		is_verified(certificate, key, version, plain, PLAIN ",\"Token\":\"t\"", AWS_SNS_GOOD,
					"one with something that is not signed");
		is_verified(certificate, other, version, plain, PLAIN, AWS_SNS_BAD, "the key of another");
		is_verified(certificate, NULL, version, plain, PLAIN, AWS_SNS_BAD, "no base64");
		is_verified(certificate, key, version, plain, PLAIN ",\"Subject\":\"s\"", AWS_SNS_BAD,
					"a subject that was not signed");
		is_verified(certificate, key, version, plain,
					MEMBERS("Notification", "id-2", "Hello", TIME, ARN), AWS_SNS_BAD, "another id");
		is_verified(certificate, key, version, plain,
					MEMBERS("Notification", "id-1", "Hello!", TIME, ARN), AWS_SNS_BAD, "another text");
		is_verified(certificate, key, version, plain,
					MEMBERS("Notification", "id-1", "Hello", "2013" TIME, ARN), AWS_SNS_BAD, "another time");
		is_verified(certificate, key, version, plain,
					MEMBERS("Notification", "id-1", "Hello", TIME, ARN "2"), AWS_SNS_BAD, "another topic");
		is_verified(certificate, key, version, plain,
					MEMBERS("SubscriptionConfirmation", "id-1", "Hello", TIME, ARN)
					",\"Token\":\"t\",\"SubscribeURL\":\"u\"", AWS_SNS_BAD, "another type");
	}
	is_verified(certificate, key, "2",
				"Message\nline 1\nline \"2\"\n\xe2\x82\xac\nMessageId\nid-1\nSubject\nIt's me\nTimestamp\n" TIME
				"\nTopicArn\n" ARN "\nType\nNotification\n",
				MEMBERS("Notification", "id-1", "line 1\\nline \\\"2\\\"\\n\\u20ac", TIME, ARN)
				",\"Subject\":\"It's me\"", AWS_SNS_GOOD, "lines, a subject, an escape");
	is_verified(certificate, key, "1",
				"Message\nHello\nMessageId\nid-1\nSubscribeURL\nhttps://x\nTimestamp\n" TIME
				"\nToken\n4711\nTopicArn\n" ARN "\nType\nSubscriptionConfirmation\n",
				MEMBERS("SubscriptionConfirmation", "id-1", "Hello", TIME, ARN)
				",\"Token\":\"4711\",\"SubscribeURL\":\"https://x\"", AWS_SNS_GOOD,
				"confirmation of a subscription");
	EVP_PKEY_free(other);
}

void
test_sns_signature(void)
{
	char		ca_file[] = "/tmp/sqsbridge-authority-XXXXXX";
	EVP_PKEY   *key = new_key(2048);
	Cert		authority;
	Cert		sns;
	char		pem[8192] = "";
	AwsSnsCertificate *certificate = NULL;
	char		why[AWS_SNS_WHY_SIZE];

	documents();
	places();

	authority = new_cert("authority", NULL, true, new_key(2048), NULL, -1);
	close(mkstemp(ca_file));
	write_file(ca_file, &authority);
	certificates(&authority, key, ca_file);

	sns = new_cert("sns.amazonaws.com", NULL, false, key, &authority, -1);
	add_pem(pem, sizeof(pem), &sns);
	if (is_int(read_pem(pem, URL, ca_file, &certificate, why), AWS_SNS_GOOD, "a good certificate"))
	{
		ok(aws_sns_certificate_is_current(certificate), "it is current");
		signatures(certificate, key);
	}
	aws_sns_certificate_free(certificate);

	unlink(ca_file);
	X509_free(sns.x509);
	X509_free(authority.x509);
	EVP_PKEY_free(authority.key);
	EVP_PKEY_free(key);
}
