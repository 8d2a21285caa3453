/*-------------------------------------------------------------------------
 *
 * fuzz_sns.c
 *	  What claims to be a message of SNS, or, if it begins with a dash, a file with
 *	  a certificate.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "aws/sns_signature.h"

static void
check_slice(SqsSlice slice, bool lines, const char *buf, size_t size)
{
	if (slice.data == NULL)
		return;
	/* a NUL follows */
	MUST(fuzz_inside(slice.data, slice.len + 1, buf, size));
	MUST(strlen(slice.data) == slice.len);
	MUST(lines || strpbrk(slice.data, "\r\n") == NULL);
}

static void
check_place(const char *url)
{
	AwsSnsPlace place;
	AwsSnsPlace again;
	const char *why;

	if (!aws_sns_place_parse(url, &place, &why))
	{
		MUST(strncmp(why, "must ", 5) == 0);
		return;
	}
	MUST(strncmp(place.url, "https://sns.", 12) == 0);
	MUST(strlen(place.region) > 0 && strlen(place.region) < sizeof(place.region));
	MUST(aws_sns_place_parse(place.url, &again, &why) && strcmp(place.url, again.url) == 0);
}

static void
check_certificate(const char *pem, size_t size)
{
	AwsSnsPlace place;
	AwsSnsCertificate *certificate = NULL;
	const char *bad;
	char		why[AWS_SNS_WHY_SIZE];

	MUST(aws_sns_place_parse("https://sns.us-east-1.amazonaws.com/a.pem", &place, &bad));
	if (aws_sns_certificate_read(pem, size, &place, NULL, &certificate, why) != AWS_SNS_GOOD)
		MUST(certificate == NULL && why[0] != '\0');
	aws_sns_certificate_free(certificate);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AwsSnsMessage message;
	const char *why;
	char	   *copy = fuzz_copy(data, size);

	if (size > 0 && copy[0] == '-')
		check_certificate(copy, size);
	else if (aws_sns_message_parse(copy, size, &message, &why))
	{
		check_slice(message.type, false, copy, size);
		check_slice(message.message_id, false, copy, size);
		check_slice(message.topic_arn, false, copy, size);
		check_slice(message.subject, false, copy, size);
		check_slice(message.message, true, copy, size);
		check_slice(message.timestamp, false, copy, size);
		check_slice(message.token, false, copy, size);
		check_slice(message.subscribe_url, false, copy, size);
		check_slice(message.signature_version, false, copy, size);
		check_slice(message.signature, false, copy, size);
		check_slice(message.certificate_url, false, copy, size);
		MUST(message.message.data != NULL && message.signature.data != NULL);
		check_place(message.certificate_url.data);
	}
	else
		MUST(why != NULL && why[0] != '\0');
	free(copy);
	return 0;
}
