/*-------------------------------------------------------------------------
 *
 * sns_signature.c
 *	  Has SNS signed this message?
 *
 * SNS signs a text made of some members of its JSON document: Message, MessageId,
 * Subject, Timestamp, TopicArn and Type (and for subscriptions, Token and
 * SubscribeURL), each as a line with its name and a line with its value.  It
 * signs nothing else; in particular, not MessageAttributes.
 *
 * Such a text can be read in one way only if no value but Message has a line
 * break.  Otherwise anybody who may publish to some topic could have SNS sign
 * a Message that goes on like the members of another topic's, and make
 * a document of that.  So such values are refused.  So is a member that is there
 * twice, because then readers differ in which of the two they take.
 *
 * The certificate is trusted for these reasons, all of which are necessary:
 *
 *	- It comes by TLS from SNS's host in a region, which has shown a certificate
 *	  of its own.  The sender chooses the URL, but only among these hosts.
 *	- It is in the name that SNS uses in that region.
 *	- Today is in its time.
 *	- Its issuers, as far as the same file has them, lead to an authority that is
 *	  trusted.  The file need not have any: some of SNS's files have
 *	  nothing but the certificate, and then its origin has to do.  But a
 *	  certificate that has signed itself, or a chain that ends nowhere, is refused.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#ifdef USE_OPENSSL
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#endif

#include "aws/authorities.h"
#include "aws/endpoint.h"
#include "aws/json.h"
#include "aws/sns_signature.h"

#define MIN_KEY_BITS		2048
#define MAX_SIGNATURE		1024	/* bytes, of a key of 8192 bits */
#define MAX_ISSUERS			8

/* ---- the message ---- */

/* Members of the document that matter. */
static const struct
{
	const char *name;
	size_t		offset;
	bool		lines;			/* may have more than one line */
}			members[] =

{
	{"Type", offsetof(AwsSnsMessage, type), false},
	{"MessageId", offsetof(AwsSnsMessage, message_id), false},
	{"TopicArn", offsetof(AwsSnsMessage, topic_arn), false},
	{"Subject", offsetof(AwsSnsMessage, subject), false},
	{"Message", offsetof(AwsSnsMessage, message), true},
	{"Timestamp", offsetof(AwsSnsMessage, timestamp), false},
	{"Token", offsetof(AwsSnsMessage, token), false},
	{"SubscribeURL", offsetof(AwsSnsMessage, subscribe_url), false},
	{"SignatureVersion", offsetof(AwsSnsMessage, signature_version), false},
	{"Signature", offsetof(AwsSnsMessage, signature), false},
	{"SigningCertURL", offsetof(AwsSnsMessage, certificate_url), false},
};

static SqsSlice *
slice_of_member(AwsSnsMessage *message, int member)
{
	return (SqsSlice *) ((char *) message + members[member].offset);
}

static bool
slice_is(SqsSlice slice, const char *text)
{
	return slice.data != NULL && slice.len == strlen(text) &&
		memcmp(slice.data, text, slice.len) == 0;
}

/* Which of the members has the name that was just read?  -1: none */
static int
find_member(const JsonReader *reader)
{
	for (int i = 0; i < (int) lengthof(members); i++)
	{
		if (json_is(reader, members[i].name))
			return i;
	}
	return -1;
}

static bool
is_one_line(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		if ((unsigned char) text[i] < ' ')
			return false;
	}
	return true;
}

/* Read the value of a member. */
static bool
read_member(JsonReader *reader, AwsSnsMessage *message, int member, bool *seen,
			const char **why)
{
	SqsSlice   *slice = slice_of_member(message, member);

	*why = "has a member of SNS's twice";
	if (*seen)
		return false;
	*seen = true;
	switch (json_next(reader))
	{
		case JSON_NULL:
			return true;
		case JSON_STRING:
			break;
		default:
			*why = "has a member of SNS's that is not a string";
			return false;
	}
	*why = "has a member of SNS's with a control character";
	if (members[member].lines ? memchr(reader->text, '\0', reader->len) != NULL :
		!is_one_line(reader->text, reader->len))
		return false;
	slice->data = reader->text;
	slice->len = reader->len;
	return true;
}

/* Read all members. */
static bool
read_document(JsonReader *reader, AwsSnsMessage *message, const char **why)
{
	bool		seen[lengthof(members)] = {false};

	*why = "is not a JSON object";
	if (json_next(reader) != JSON_OBJECT)
		return false;
	while (json_next(reader) == JSON_KEY)
	{
		int			member = find_member(reader);

		if (member >= 0)
		{
			if (!read_member(reader, message, member, &seen[member], why))
				return false;
			*why = "is not a JSON object";
		}
		else if (json_next(reader) == JSON_ERROR || !json_skip(reader))
			return false;
	}
	return reader->token == JSON_OBJECT_END && json_next(reader) == JSON_END;
}

bool
aws_sns_message_parse(char *body, size_t len, AwsSnsMessage *message, const char **why)
{
	JsonReader	reader;

	memset(message, 0, sizeof(*message));
	json_reader_init(&reader, body, len);
	if (!read_document(&reader, message, why))
		return false;

	*why = "is not of a type that SNS sends";
	message->is_notification = slice_is(message->type, "Notification");
	if (!message->is_notification && !slice_is(message->type, "SubscriptionConfirmation") &&
		!slice_is(message->type, "UnsubscribeConfirmation"))
		return false;

	*why = "lacks a member that SNS's messages have";
	if (message->message.data == NULL || message->message_id.data == NULL ||
		message->timestamp.data == NULL || message->topic_arn.data == NULL)
		return false;
	if (!message->is_notification &&
		(message->token.data == NULL || message->subscribe_url.data == NULL))
		return false;

	*why = "has no signature";
	if (message->signature.data == NULL || message->certificate_url.data == NULL)
		return false;
	*why = "has a signature of an unknown version";
	return slice_is(message->signature_version, "1") || slice_is(message->signature_version, "2");
}

/* ---- the certificate's URL ---- */

/*
 * https://sns.REGION.SUFFIX/NAME.pem, where the suffix is that of the region's
 * partition.
 */
bool
aws_sns_place_parse(const char *url, AwsSnsPlace *place, const char **why)
{
	AwsUrl		parsed;
	const char *end;
	char		host[sizeof(parsed.host)];
	size_t		len;
	const char *ignored;

	if (!aws_url_parse(url, &parsed, why))
		return false;
	*why = "must be a URL that begins with https:// and has no port";
	if (!parsed.https || parsed.port != 0)
		return false;

	*why = "must have the name of SNS's host in a region, such as sns.us-east-1.amazonaws.com";
	if (strncmp(parsed.host, "sns.", 4) != 0 || (end = strchr(parsed.host + 4, '.')) == NULL ||
		end - (parsed.host + 4) >= sizeof(place->region))
		return false;
	strlcpy(place->region, parsed.host + 4, end - (parsed.host + 4) + 1);
	if (!aws_region_is_valid(place->region, &ignored))
		return false;
	snprintf(host, sizeof(host), "sns.%s.%s", place->region,
			 aws_partition_of_region(place->region)->suffix);
	if (strcmp(host, parsed.host) != 0)
		return false;

	*why = "must end with the name of a file *.pem";
	len = strlen(parsed.path);
	if (len < sizeof("/.pem") || strcmp(parsed.path + len - 4, ".pem") != 0 ||
		strstr(parsed.path, "..") != NULL ||
		strspn(parsed.path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./") != len)
		return false;
	*why = "must be shorter";
	return snprintf(place->url, sizeof(place->url), "https://%s%s", host, parsed.path) <
		(int) sizeof(place->url);
}

#ifdef USE_OPENSSL

/* ---- the certificate ---- */

struct AwsSnsCertificate
{
	X509	   *x509;
	EVP_PKEY   *key;			/* of it */
};

bool
aws_sns_is_supported(void)
{
	return true;
}

void
aws_sns_certificate_free(AwsSnsCertificate *certificate)
{
	if (certificate == NULL)
		return;
	EVP_PKEY_free(certificate->key);
	X509_free(certificate->x509);
	free(certificate);
}

bool
aws_sns_certificate_is_current(const AwsSnsCertificate *certificate)
{
	/* 0 is an error */
	return X509_cmp_current_time(X509_get0_notBefore(certificate->x509)) < 0 &&
		X509_cmp_current_time(X509_get0_notAfter(certificate->x509)) > 0;
}

/* No certificate is encrypted.  OpenSSL's own function asks at the terminal. */
static int
no_password(char *buf, int size, int rwflag, void *arg)
{
	(void) buf;
	(void) size;
	(void) rwflag;
	(void) arg;
	return -1;
}

/*
 * The first certificate is SNS's, the others are its issuers.  Returns NULL if
 * there is none.
 */
static X509 *
read_certificates(const char *pem, size_t len, STACK_OF(X509) * issuers)
{
	BIO		   *bio = BIO_new_mem_buf(pem, (int) len);
	X509	   *first;
	X509	   *issuer;

	if (bio == NULL)
		return NULL;
	first = PEM_read_bio_X509(bio, NULL, no_password, NULL);
	while (first != NULL && sk_X509_num(issuers) < MAX_ISSUERS &&
		   (issuer = PEM_read_bio_X509(bio, NULL, no_password, NULL)) != NULL)
	{
		if (sk_X509_push(issuers, issuer) <= 0)
			X509_free(issuer);
	}
	BIO_free(bio);
	return first;
}

/*
 * The names that SNS's certificates have: sns.amazonaws.com in the older regions,
 * sns-signing.REGION.amazonaws.com in newer ones, and sns-REGION... in other
 * partitions, with one for both regions of GovCloud.
 */
static bool
has_name_of_sns(X509 *x509, const AwsSnsPlace *place)
{
	const AwsPartition *partition = aws_partition_of_region(place->region);
	char		names[4][256];
	int			n = 0;

	snprintf(names[n++], sizeof(names[0]), "sns.%s", partition->suffix);
	snprintf(names[n++], sizeof(names[0]), "sns-signing.%s.%s", place->region, partition->suffix);
	snprintf(names[n++], sizeof(names[0]), "sns-%s.%s", place->region, partition->suffix);
	if (strcmp(partition->name, "aws-us-gov") == 0)
		snprintf(names[n++], sizeof(names[0]), "sns-us-gov-west-1.%s", partition->suffix);
	for (int i = 0; i < n; i++)
	{
		if (X509_check_host(x509, names[i], 0, X509_CHECK_FLAG_NO_WILDCARDS, NULL) == 1)
			return true;
	}
	return false;
}

/* The system's authorities, which are libcurl's, and others. */
static bool
load_authorities(X509_STORE *store, const char *ca_file, char *why)
{
	AwsSystemAuthorities system = {NULL};

	aws_system_authorities_find(&system);
	if (system.file == NULL && system.directory == NULL)
		(void) X509_STORE_set_default_paths(store);
	if (system.file != NULL)
		(void) X509_STORE_load_locations(store, system.file, NULL);
	if (system.directory != NULL)
		(void) X509_STORE_load_locations(store, NULL, system.directory);
	if (ca_file == NULL || X509_STORE_load_locations(store, ca_file, NULL) == 1)
		return true;
	snprintf(why, AWS_SNS_WHY_SIZE, "the authorities in \"%s\" cannot be read", ca_file);
	return false;
}

/* See the head of this file. */
static bool
is_trusted(X509 *x509, STACK_OF(X509) * issuers, const char *ca_file, char *why)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *chain = X509_STORE_CTX_new();
	bool		trusted = false;
	int			error;

	snprintf(why, AWS_SNS_WHY_SIZE, "out of memory");
	if (store != NULL && chain != NULL && load_authorities(store, ca_file, why) &&
		X509_STORE_CTX_init(chain, store, x509, issuers) == 1)
	{
		trusted = X509_verify_cert(chain) == 1;
		error = X509_STORE_CTX_get_error(chain);
		if (!trusted && sk_X509_num(issuers) == 0 &&
			(error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
			 error == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE))
			trusted = true;
		snprintf(why, AWS_SNS_WHY_SIZE, "the certificate is not trusted: %s",
				 X509_verify_cert_error_string(error));
	}
	X509_STORE_CTX_free(chain);
	X509_STORE_free(store);
	return trusted;
}

static AwsSnsResult
check_certificate(const AwsSnsCertificate *certificate, STACK_OF(X509) * issuers,
				  const AwsSnsPlace *place, const char *ca_file, char *why)
{
	if (!has_name_of_sns(certificate->x509, place))
	{
		snprintf(why, AWS_SNS_WHY_SIZE, "the certificate is not in SNS's name");
		return AWS_SNS_BAD;
	}
	if (certificate->key == NULL || EVP_PKEY_base_id(certificate->key) != EVP_PKEY_RSA ||
		EVP_PKEY_bits(certificate->key) < MIN_KEY_BITS)
	{
		snprintf(why, AWS_SNS_WHY_SIZE, "the certificate has no RSA key of at least %d bits",
				 MIN_KEY_BITS);
		return AWS_SNS_BAD;
	}
	if (!aws_sns_certificate_is_current(certificate))
	{
		snprintf(why, AWS_SNS_WHY_SIZE, "the certificate has expired, or is not valid yet");
		return AWS_SNS_UNKNOWN;
	}
	return is_trusted(certificate->x509, issuers, ca_file, why) ? AWS_SNS_GOOD : AWS_SNS_UNKNOWN;
}

AwsSnsResult
aws_sns_certificate_read(const char *pem, size_t len, const AwsSnsPlace *place,
						 const char *ca_file, AwsSnsCertificate **certificate,
						 char why[AWS_SNS_WHY_SIZE])
{
	AwsSnsCertificate *new = calloc(1, sizeof(AwsSnsCertificate));

	STACK_OF(X509) * issuers = sk_X509_new_null();
	AwsSnsResult result = AWS_SNS_UNKNOWN;

	snprintf(why, AWS_SNS_WHY_SIZE, "out of memory");
	if (new != NULL && issuers != NULL)
	{
		new->x509 = read_certificates(pem, len, issuers);
		if (new->x509 == NULL)
		{
			snprintf(why, AWS_SNS_WHY_SIZE, "what it names is not a certificate");
			result = AWS_SNS_BAD;
		}
		else
		{
			new->key = X509_get_pubkey(new->x509);
			result = check_certificate(new, issuers, place, ca_file, why);
		}
	}
	sk_X509_pop_free(issuers, X509_free);
	ERR_clear_error();
	if (result == AWS_SNS_GOOD)
		*certificate = new;
	else
		aws_sns_certificate_free(new);
	return result;
}

/* ---- the signature ---- */

/* Decode the signature.  Returns its length; 0 if it is none. */
static size_t
decode_signature(SqsSlice base64, unsigned char *bytes)
{
	int			len;

	if (base64.len == 0 || base64.len % 4 != 0 || base64.len / 4 * 3 > MAX_SIGNATURE)
		return 0;
	len = EVP_DecodeBlock(bytes, (const unsigned char *) base64.data, (int) base64.len);
	for (int i = 1; i <= 2 && len > 0 && base64.data[base64.len - i] == '='; i++)
		len--;
	return Max(len, 0);
}

/* Add a member to what was signed. */
static bool
add_member(EVP_MD_CTX *digest, const char *name, SqsSlice value)
{
	if (value.data == NULL)
		return true;
	return EVP_DigestVerifyUpdate(digest, name, strlen(name)) == 1 &&
		EVP_DigestVerifyUpdate(digest, "\n", 1) == 1 &&
		EVP_DigestVerifyUpdate(digest, value.data, value.len) == 1 &&
		EVP_DigestVerifyUpdate(digest, "\n", 1) == 1;
}

/* In the order of the alphabet. */
static bool
add_members(EVP_MD_CTX *digest, const AwsSnsMessage *message)
{
	SqsSlice	none = {NULL, 0};

	return add_member(digest, "Message", message->message) &&
		add_member(digest, "MessageId", message->message_id) &&
		add_member(digest, "Subject", message->is_notification ? message->subject : none) &&
		add_member(digest, "SubscribeURL",
				   message->is_notification ? none : message->subscribe_url) &&
		add_member(digest, "Timestamp", message->timestamp) &&
		add_member(digest, "Token", message->is_notification ? none : message->token) &&
		add_member(digest, "TopicArn", message->topic_arn) &&
		add_member(digest, "Type", message->type);
}

AwsSnsResult
aws_sns_signature_verify(const AwsSnsMessage *message, const AwsSnsCertificate *certificate,
						 char why[AWS_SNS_WHY_SIZE])
{
	bool		sha1 = slice_is(message->signature_version, "1");
	unsigned char signature[MAX_SIGNATURE];
	size_t		len = decode_signature(message->signature, signature);
	EVP_MD_CTX *digest = EVP_MD_CTX_new();
	AwsSnsResult result = AWS_SNS_UNKNOWN;

	if (digest == NULL ||
		EVP_DigestVerifyInit(digest, NULL, sha1 ? EVP_sha1() : EVP_sha256(), NULL,
							 certificate->key) != 1 ||
		!add_members(digest, message))
		snprintf(why, AWS_SNS_WHY_SIZE, "this system's OpenSSL does not verify signatures with %s",
				 sha1 ? "SHA-1; set the topic's SignatureVersion to 2" : "SHA-256");
	else if (len > 0 && EVP_DigestVerifyFinal(digest, signature, len) == 1)
		result = AWS_SNS_GOOD;
	else
	{
		snprintf(why, AWS_SNS_WHY_SIZE, "its signature is not that of its content");
		result = AWS_SNS_BAD;
	}
	EVP_MD_CTX_free(digest);
	ERR_clear_error();
	return result;
}

#else							/* !USE_OPENSSL */

bool
aws_sns_is_supported(void)
{
	return false;
}

AwsSnsResult
aws_sns_certificate_read(const char *pem, size_t len, const AwsSnsPlace *place,
						 const char *ca_file, AwsSnsCertificate **certificate,
						 char why[AWS_SNS_WHY_SIZE])
{
	snprintf(why, AWS_SNS_WHY_SIZE, "this server was built without OpenSSL");
	return AWS_SNS_UNKNOWN;
}

void
aws_sns_certificate_free(AwsSnsCertificate *certificate)
{
}

bool
aws_sns_certificate_is_current(const AwsSnsCertificate *certificate)
{
	return false;
}

AwsSnsResult
aws_sns_signature_verify(const AwsSnsMessage *message, const AwsSnsCertificate *certificate,
						 char why[AWS_SNS_WHY_SIZE])
{
	snprintf(why, AWS_SNS_WHY_SIZE, "this server was built without OpenSSL");
	return AWS_SNS_UNKNOWN;
}

#endif
