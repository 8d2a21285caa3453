/*-------------------------------------------------------------------------
 *
 * test_errors.c
 *	  Every error that SQS documents, under both its names, and what is made
 *	  of replies that name none.
 *
 * The class decides what the worker does: a permanent error taken for a
 * transient one is retried for ever, the reverse loses messages.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "aws/aws_error.h"
#include "aws/sqs_protocol.h"
#include "tap.h"

#define Q "AWS.SimpleQueueService."

/* shape name, query code (NULL: the same), HTTP status, class */
static const struct
{
	const char *shape;
	const char *query;
	int			status;
	AwsErrorClass class;
}			codes[] =
{
	{"QueueDoesNotExist", Q "NonExistentQueue", 400, AWS_ERROR_NO_QUEUE},
	{"InvalidMessageContents", NULL, 400, AWS_ERROR_REQUEST},
	{"InvalidParameterValueException", "InvalidParameterValue", 400, AWS_ERROR_REQUEST},
	{"MissingRequiredParameterException", "MissingParameter", 400, AWS_ERROR_REQUEST},
	{"InvalidAttributeName", NULL, 400, AWS_ERROR_REQUEST},
	{"InvalidAttributeValue", NULL, 400, AWS_ERROR_REQUEST},
	{"EmptyBatchRequest", Q "EmptyBatchRequest", 400, AWS_ERROR_REQUEST},
	{"TooManyEntriesInBatchRequest", Q "TooManyEntriesInBatchRequest", 400, AWS_ERROR_REQUEST},
	{"BatchEntryIdsNotDistinct", Q "BatchEntryIdsNotDistinct", 400, AWS_ERROR_REQUEST},
	{"InvalidBatchEntryId", Q "InvalidBatchEntryId", 400, AWS_ERROR_REQUEST},
	{"BatchRequestTooLong", Q "BatchRequestTooLong", 400, AWS_ERROR_REQUEST},
	{"ReceiptHandleIsInvalid", NULL, 404, AWS_ERROR_LEASE_LOST},
	{"InvalidIdFormat", NULL, 400, AWS_ERROR_LEASE_LOST},
	{"MessageNotInflight", Q "MessageNotInflight", 400, AWS_ERROR_LEASE_LOST},
	{"QueueNameExists", "QueueAlreadyExists", 400, AWS_ERROR_REQUEST},
	{"QueueDeletedRecently", Q "QueueDeletedRecently", 400, AWS_ERROR_NO_QUEUE},
	{"PurgeQueueInProgress", Q "PurgeQueueInProgress", 403, AWS_ERROR_THROTTLED},
	{"OverLimit", NULL, 403, AWS_ERROR_OVER_LIMIT},
	{"RequestThrottled", NULL, 403, AWS_ERROR_THROTTLED},
	{"KmsThrottled", "KMS.ThrottlingException", 400, AWS_ERROR_THROTTLED},
	{"KmsAccessDenied", "KMS.AccessDeniedException", 400, AWS_ERROR_CONFIGURATION},
	{"KmsDisabled", "KMS.DisabledException", 400, AWS_ERROR_CONFIGURATION},
	{"KmsInvalidState", "KMS.InvalidStateException", 400, AWS_ERROR_CONFIGURATION},
	{"KmsNotFound", "KMS.NotFoundException", 400, AWS_ERROR_CONFIGURATION},
	{"KmsInvalidKeyUsage", "KMS.InvalidKeyUsageException", 400, AWS_ERROR_CONFIGURATION},
	{"KmsOptInRequired", "KMS.OptInRequired", 403, AWS_ERROR_CONFIGURATION},
	{"InvalidAddress", NULL, 404, AWS_ERROR_NO_QUEUE},
	{"InvalidSecurity", NULL, 403, AWS_ERROR_CREDENTIALS},
	{"ResourceNotFoundException", NULL, 404, AWS_ERROR_REQUEST},
	{"UnsupportedOperation", Q "UnsupportedOperation", 400, AWS_ERROR_REQUEST},

	/* errors common to all services */
	{"AccessDeniedException", "AccessDenied", 400, AWS_ERROR_CONFIGURATION},
	{"AccessDeniedException", "AccessDenied", 403, AWS_ERROR_CONFIGURATION},
	{"UnrecognizedClientException", "InvalidClientTokenId", 403, AWS_ERROR_CREDENTIALS},
	{"InvalidSignatureException", "SignatureDoesNotMatch", 400, AWS_ERROR_CREDENTIALS},
	{"InvalidSignatureException", "SignatureDoesNotMatch", 403, AWS_ERROR_CREDENTIALS},
	{"ExpiredTokenException", "ExpiredToken", 400, AWS_ERROR_CREDENTIALS},
	{"ExpiredTokenException", "ExpiredToken", 403, AWS_ERROR_CREDENTIALS},
	{"MissingAuthenticationTokenException", "MissingAuthenticationToken", 403, AWS_ERROR_CREDENTIALS},
	{"IncompleteSignature", NULL, 400, AWS_ERROR_CREDENTIALS},
	{"AuthFailure", NULL, 401, AWS_ERROR_CREDENTIALS},
	{"RequestExpired", NULL, 400, AWS_ERROR_CLOCK},
	{"RequestTimeTooSkewed", NULL, 403, AWS_ERROR_CLOCK},
	{"RequestInTheFuture", NULL, 403, AWS_ERROR_CLOCK},
	{"OptInRequired", NULL, 403, AWS_ERROR_CONFIGURATION},
	{"UnknownOperationException", "InvalidAction", 404, AWS_ERROR_REQUEST},
	{"SerializationException", NULL, 400, AWS_ERROR_REQUEST},
	{"InternalFailure", "InternalError", 500, AWS_ERROR_TRANSIENT},
	{"ServiceUnavailable", NULL, 503, AWS_ERROR_TRANSIENT},
	{"RequestTimeoutException", "RequestTimeout", 400, AWS_ERROR_TRANSIENT},

	/* throttling, as the SDKs know it */
	{"ThrottlingException", "Throttling", 400, AWS_ERROR_THROTTLED},
	{"ThrottledException", NULL, 400, AWS_ERROR_THROTTLED},
	{"RequestThrottledException", NULL, 400, AWS_ERROR_THROTTLED},
	{"TooManyRequestsException", NULL, 400, AWS_ERROR_THROTTLED},
	{"ProvisionedThroughputExceededException", NULL, 400, AWS_ERROR_THROTTLED},
	{"TransactionInProgressException", NULL, 400, AWS_ERROR_THROTTLED},
	{"RequestLimitExceeded", NULL, 400, AWS_ERROR_THROTTLED},
	{"BandwidthLimitExceeded", NULL, 400, AWS_ERROR_THROTTLED},
	{"LimitExceededException", NULL, 400, AWS_ERROR_THROTTLED},
	{"SlowDown", NULL, 503, AWS_ERROR_THROTTLED},
	{"PriorRequestNotComplete", NULL, 400, AWS_ERROR_THROTTLED},
	{"EC2ThrottledException", NULL, 400, AWS_ERROR_THROTTLED},
};

/* An error reply as the client sees it. */
static void
parse(const char *body, int status, const char *query_error,
	  const char *error_type, AwsError *error)
{
	char	   *data = tap_copy(body, strlen(body));

	sqs_parse_error(data, strlen(body), status, query_error, error_type, error);
	free(data);
}

static void
both_names(void)
{
	for (size_t i = 0; i < lengthof(codes); i++)
	{
		const char *query = codes[i].query ? codes[i].query : codes[i].shape;
		char		body[256];
		char		head[256];
		AwsError	error;

		is(aws_error_class_name(aws_error_classify(codes[i].shape, codes[i].status, NULL)),
		   aws_error_class_name(codes[i].class), "%s (%d)", codes[i].shape, codes[i].status);
		if (codes[i].query != NULL)
			is(aws_error_class_name(aws_error_classify(query, codes[i].status, NULL)),
			   aws_error_class_name(codes[i].class), "%s (%d)", query, codes[i].status);

		/* in a whole reply, and where there is only the header */
		snprintf(body, sizeof(body),
				 "{\"__type\":\"com.amazonaws.sqs#%s\",\"message\":\"m\"}", codes[i].shape);
		snprintf(head, sizeof(head), "%s;Sender", query);
		parse(body, codes[i].status, head, NULL, &error);
		ok(strcmp(error.code, codes[i].shape) == 0 && error.class == codes[i].class &&
		   error.http_status == codes[i].status && strcmp(error.message, "m") == 0,
		   "%s in a reply", codes[i].shape);
		parse("", codes[i].status, head, NULL, &error);
		ok(strcmp(error.code, query) == 0 && error.class == codes[i].class,
		   "%s in the header alone", query);
	}
}

static void
texts(void)
{
	static const char *const lease[] = {
		"Value x for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.",
		"Value x for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for visibility timeout change.",
		"Value 43200 for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for the message is beyond the limit [43200 seconds].",
	};
	static const char *const clock[] = {
		"Signature expired: 20250102T030405Z is now earlier than 20250102T040000Z (20250102T041500Z - 15 min.)",
		"Signature not yet current: 20250102T050000Z is still later than 20250102T041500Z (20250102T040000Z + 15 min.)",
	};
	static const char *const lease_codes[] = {"InvalidParameterValue", "InvalidParameterValueException"};
	static const char *const clock_codes[] = {"InvalidSignatureException", "SignatureDoesNotMatch"};

	for (size_t i = 0; i < lengthof(lease); i++)
		for (size_t j = 0; j < lengthof(lease_codes); j++)
			is_int(aws_error_classify(lease_codes[j], 400, lease[i]), AWS_ERROR_LEASE_LOST,
				   "lease lost, text %zu, %s", i, lease_codes[j]);
	for (size_t i = 0; i < lengthof(clock); i++)
		for (size_t j = 0; j < lengthof(clock_codes); j++)
			is_int(aws_error_classify(clock_codes[j], 403, clock[i]), AWS_ERROR_CLOCK,
				   "clock, text %zu, %s", i, clock_codes[j]);

	is_int(aws_error_classify("InvalidParameterValue", 400, "Value 99999 for parameter VisibilityTimeout is invalid."),
		   AWS_ERROR_REQUEST, "another text of InvalidParameterValue");
	is_int(aws_error_classify("InvalidSignatureException", 403, "The request signature we calculated does not match"),
		   AWS_ERROR_CREDENTIALS, "another text of InvalidSignatureException");
	is_int(aws_error_classify("ServiceUnavailable", 503, "Signature expired"),
		   AWS_ERROR_TRANSIENT, "such a text under another code means nothing");
}

static void
fallbacks(void)
{
	static const struct
	{
		int			status;
		AwsErrorClass class;
	}			statuses[] =
	{
		{0, AWS_ERROR_TRANSIENT}, {200, AWS_ERROR_TRANSIENT}, {204, AWS_ERROR_TRANSIENT},
		{302, AWS_ERROR_TRANSIENT}, {400, AWS_ERROR_REQUEST}, {401, AWS_ERROR_CONFIGURATION},
		{403, AWS_ERROR_CONFIGURATION}, {404, AWS_ERROR_REQUEST}, {407, AWS_ERROR_CONFIGURATION},
		{408, AWS_ERROR_TRANSIENT}, {413, AWS_ERROR_REQUEST}, {429, AWS_ERROR_THROTTLED},
		{500, AWS_ERROR_TRANSIENT}, {502, AWS_ERROR_TRANSIENT}, {503, AWS_ERROR_TRANSIENT},
		{504, AWS_ERROR_TRANSIENT}, {599, AWS_ERROR_TRANSIENT},
	};
	static const char *const bodies[] = {
		"", "{}", "[]", "null", "<html><body>503</body></html>", "{\"__type\":",
		"{\"__type\":7,\"message\":[]}", "{\"__type\":null}", "\xff\xfe",
	};
	AwsError	error;
	static const char long_head[] = "{\"__type\":\"OverLimit\",\"message\":\"";
	char		long_body[2000];
	char		expected[16];

	for (size_t i = 0; i < lengthof(statuses); i++)
	{
		parse("<html>", statuses[i].status, NULL, NULL, &error);
		snprintf(expected, sizeof(expected), "Http%d", statuses[i].status);
		ok(error.class == statuses[i].class && strcmp(error.code, expected) == 0 &&
		   error.message[0] != '\0', "status %d without a code", statuses[i].status);
	}
	for (size_t i = 0; i < lengthof(bodies); i++)
	{
		parse(bodies[i], 503, "", "", &error);
		ok(error.class == AWS_ERROR_TRANSIENT && strcmp(error.code, "Http503") == 0,
		   "a body that names no error, variant %zu", i);
	}

	parse("{\"__type\":\"Foo#Bar\",\"message\":\"cut", 400, NULL, NULL, &error);
	is(error.code, "Bar", "the code of a reply that is cut short behind it");
	parse("{\"__type\":\"com.amazon.coral.service#UnrecognizedClientException\",\"Message\":\"M\"}",
		  400, NULL, NULL, &error);
	ok(error.class == AWS_ERROR_CREDENTIALS && strcmp(error.message, "M") == 0,
	   "another prefix, and Message with a capital");
	parse("{\"__type\":\"QueueDoesNotExist\"}", 400, NULL, NULL, &error);
	is_int(error.class, AWS_ERROR_NO_QUEUE, "no prefix, no message");
	parse("{\"x\":{\"__type\":\"Inner\"},\"__type\":\"OverLimit\",\"y\":[1]}", 403, NULL, NULL, &error);
	is_int(error.class, AWS_ERROR_OVER_LIMIT, "unknown members are ignored");
	parse("", 400, "Query;Sender", "com.amazonaws.sqs#OverLimit:http://internal/", &error);
	is(error.code, "OverLimit", "the type header before the query header, without its URL");
	parse("{\"__type\":\"FromBody\"}", 400, "Query;Sender", "FromType", &error);
	is(error.code, "FromBody", "the body before both");
	parse("", 400, "NoSemicolon", NULL, &error);
	is(error.code, "NoSemicolon", "a query header without its second half");
	sqs_parse_error("", 0, 500, NULL, NULL, &error);
	is_int(error.class, AWS_ERROR_TRANSIENT, "nothing at all");
	is_int(aws_error_classify("BrandNewError", 400, NULL), AWS_ERROR_REQUEST, "an unknown code with 400");
	is_int(aws_error_classify("BrandNewError", 500, NULL), AWS_ERROR_TRANSIENT, "an unknown code with 500");
	is_int(aws_error_classify("QueueDoesNotExistAtAll", 400, NULL), AWS_ERROR_REQUEST, "a code that begins like another");
	is_int(aws_error_classify("", 400, NULL), AWS_ERROR_REQUEST, "an empty code");
	is_int(aws_error_classify("AWS.SimpleQueueService.", 503, NULL), AWS_ERROR_TRANSIENT, "a prefix alone");

	/* what goes to a log is clipped and clean */
	parse("{\"__type\":\"A\\u001b[31mB\",\"message\":\"x\\ny\\u001b\xc3\xa9\\u0000z\"}", 400, NULL, NULL, &error);
	is(error.code, "A [31mB", "a code's control characters");
	is(error.message, "x y ??", "a message's too, up to a NUL");
	parse("", 400, "a\x1b\x80;b", NULL, &error);
	is(error.code, "a ?", "and a header's");
	memset(long_body, 'm', sizeof(long_body));
	memcpy(long_body, long_head, strlen(long_head));
	strcpy(long_body + sizeof(long_body) - 3, "\"}");
	parse(long_body, 403, NULL, NULL, &error);
	ok(error.class == AWS_ERROR_OVER_LIMIT && strlen(error.message) == sizeof(error.message) - 1,
	   "a long message is clipped");

	aws_error_set(&error, AWS_ERROR_REQUEST, "Code", "%s\n%d", "text", 5);
	ok(strcmp(error.message, "text 5") == 0 && strcmp(error.code, "Code") == 0 &&
	   error.http_status == 0 && !error.may_be_done, "an error of our own");
	for (int c = AWS_ERROR_NONE; c <= AWS_ERROR_REQUEST; c++)
		ok(strcmp(aws_error_class_name((AwsErrorClass) c), "unknown") != 0, "class %d has a name", c);
}

static void
redacted(const char *text, const char *secret, const char *expected)
{
	char		copy[64];

	strlcpy(copy, text, sizeof(copy));
	aws_text_redact(copy, secret);
	is(copy, expected, "\"%s\" without \"%s\"", text, secret != NULL ? secret : "");
}

static void
secrets(void)
{
	redacted("token:abcdefghijkl, x", "abcdefghijkl", "token:************, x");
	redacted("abcdefghijklabcdefghijkl", "abcdefghijkl", "************************");
	redacted("cut off: abcdefghi", "abcdefghijkl", "cut off: *********");
	redacted("abcdefghX", "abcdefghijkl", "********X");
	redacted("abcdefg", "abcdefghijkl", "abcdefg");
	redacted("a short one: abc", "abc", "a short one: ***");
	redacted("aaaaaaaaaaaa", "aaaaaaaaaa", "**********aa");
	redacted("nothing", "", "nothing");
	redacted("nothing", NULL, "nothing");
}

void
test_errors(void)
{
	secrets();
	both_names();
	texts();
	fallbacks();
}
