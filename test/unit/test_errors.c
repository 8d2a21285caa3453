/*-------------------------------------------------------------------------
 *
 * test_errors.c
 *	  Every error that SQS documents, under both its names, and what is made
 *	  of replies that name none.
 *
 * The class decides what the worker does: a permanent error taken for a
 * transient one is retried without end, the reverse loses messages.
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
	{"InvalidAttributeName", NULL, 400, AWS_ERROR_CONFIGURATION},
	{"InvalidAttributeValue", NULL, 400, AWS_ERROR_CONFIGURATION},
	{"EmptyBatchRequest", Q "EmptyBatchRequest", 400, AWS_ERROR_UNKNOWN},
	{"TooManyEntriesInBatchRequest", Q "TooManyEntriesInBatchRequest", 400, AWS_ERROR_UNKNOWN},
	{"BatchEntryIdsNotDistinct", Q "BatchEntryIdsNotDistinct", 400, AWS_ERROR_UNKNOWN},
	{"InvalidBatchEntryId", Q "InvalidBatchEntryId", 400, AWS_ERROR_UNKNOWN},
	{"BatchRequestTooLong", Q "BatchRequestTooLong", 400, AWS_ERROR_REQUEST},
	{"ReceiptHandleIsInvalid", NULL, 404, AWS_ERROR_LEASE_LOST},
	{"InvalidIdFormat", NULL, 400, AWS_ERROR_LEASE_LOST},
	{"MessageNotInflight", Q "MessageNotInflight", 400, AWS_ERROR_LEASE_LOST},
	{"QueueNameExists", "QueueAlreadyExists", 400, AWS_ERROR_CONFIGURATION},
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
	{"ResourceNotFoundException", NULL, 404, AWS_ERROR_CONFIGURATION},
	{"UnsupportedOperation", Q "UnsupportedOperation", 400, AWS_ERROR_CONFIGURATION},

	/* errors common to all services, those on AWS's list of them first */
	{"NotAuthorized", NULL, 400, AWS_ERROR_CONFIGURATION},
	{"NotAuthorized", NULL, 401, AWS_ERROR_CONFIGURATION},
	{"InvalidParameterCombination", NULL, 400, AWS_ERROR_UNKNOWN},
	{"InvalidQueryParameter", NULL, 400, AWS_ERROR_UNKNOWN},
	{"MalformedQueryString", NULL, 404, AWS_ERROR_UNKNOWN},
	{"MalformedHttpRequestException", NULL, 400, AWS_ERROR_TRANSIENT},
	{"MissingAction", NULL, 400, AWS_ERROR_CONFIGURATION},
	{"RequestAbortedException", NULL, 400, AWS_ERROR_TRANSIENT},
	{"RequestEntityTooLargeException", NULL, 413, AWS_ERROR_REQUEST},
	{"ValidationException", "ValidationError", 400, AWS_ERROR_UNKNOWN},
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
	{"UnknownOperationException", "InvalidAction", 404, AWS_ERROR_CONFIGURATION},
	{"SerializationException", NULL, 400, AWS_ERROR_UNKNOWN},
	{"MalformedInput", NULL, 400, AWS_ERROR_UNKNOWN},
	{"InternalFailure", "InternalError", 500, AWS_ERROR_TRANSIENT},
	{"ServiceUnavailable", NULL, 503, AWS_ERROR_TRANSIENT},
	{"RequestTimeoutException", "RequestTimeout", 400, AWS_ERROR_TRANSIENT},

	{"InternalServerError", NULL, 500, AWS_ERROR_TRANSIENT},
	{"ServiceUnavailableException", NULL, 503, AWS_ERROR_TRANSIENT},
	{"IncompleteSignatureException", NULL, 400, AWS_ERROR_CREDENTIALS},

	/* the older list of SQS's own */
	{"AccessFailure", NULL, 401, AWS_ERROR_CONFIGURATION},
	{"ConflictingQueryParameter", NULL, 400, AWS_ERROR_UNKNOWN},
	{"InvalidAccessKeyId", NULL, 401, AWS_ERROR_CREDENTIALS},
	{"InvalidHttpRequest", NULL, 400, AWS_ERROR_UNKNOWN},
	{"InvalidRequest", NULL, 400, AWS_ERROR_UNKNOWN},
	{"InvalidSecurityToken", NULL, 400, AWS_ERROR_CREDENTIALS},
	{"InvalidURI", NULL, 400, AWS_ERROR_NO_QUEUE},
	{"MalformedVersion", NULL, 400, AWS_ERROR_CONFIGURATION},
	{"MissingClientTokenId", NULL, 403, AWS_ERROR_CREDENTIALS},
	{"MissingCredentials", NULL, 401, AWS_ERROR_CREDENTIALS},
	{"NoSuchVersion", NULL, 400, AWS_ERROR_CONFIGURATION},
	{"NotAuthorizedToUseVersion", NULL, 401, AWS_ERROR_CONFIGURATION},
	{"X509ParseError", NULL, 400, AWS_ERROR_CREDENTIALS},

	/* on no list, but seen */
	{"SubscriptionRequiredException", NULL, 400, AWS_ERROR_CONFIGURATION},
	{"TokenRefreshRequired", NULL, 400, AWS_ERROR_CREDENTIALS},
	{"InvalidToken", NULL, 400, AWS_ERROR_CREDENTIALS},
	{"AccountDisabled", NULL, 400, AWS_ERROR_CONFIGURATION},
	{"AccountProblem", NULL, 403, AWS_ERROR_CONFIGURATION},
	{"UnauthorizedOperation", NULL, 403, AWS_ERROR_CONFIGURATION},
	{"PendingVerification", NULL, 400, AWS_ERROR_CONFIGURATION},

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

/*
 * What AWS itself has answered, as recorded by the tests of an emulator that
 * are checked against it: status, both names, who is to blame, the text or
 * what is characteristic of it.
 */
static const struct
{
	int			status;
	const char *shape;
	const char *header;
	const char *message;
	AwsErrorClass class;
}			recorded[] =
{
	{400, "QueueDoesNotExist", Q "NonExistentQueue;Sender", "The specified queue does not exist.", AWS_ERROR_NO_QUEUE},
	{400, NULL, Q "NonExistentQueue;Sender", "The specified queue does not exist for this wsdl version.", AWS_ERROR_NO_QUEUE},
	{400, "BatchRequestTooLong", Q "BatchRequestTooLong;Sender",
	"Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes.", AWS_ERROR_REQUEST},
	{400, "TooManyEntriesInBatchRequest", Q "TooManyEntriesInBatchRequest;Sender",
	"Maximum number of entries per request are 10. You have sent 20.", AWS_ERROR_UNKNOWN},
	{400, "InvalidBatchEntryId", Q "InvalidBatchEntryId;Sender",
	"A batch entry id can only contain alphanumeric characters, hyphens and underscores.", AWS_ERROR_UNKNOWN},
	{403, "PurgeQueueInProgress", Q "PurgeQueueInProgress;Sender",
	"Only one PurgeQueue operation on q is allowed every 60 seconds.", AWS_ERROR_THROTTLED},
	{400, "InvalidAttributeName", "InvalidAttributeName;Sender", "Unknown Attribute FifoQueue.", AWS_ERROR_CONFIGURATION},
	{400, "InvalidAttributeValue", "InvalidAttributeValue;Sender",
	"Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.", AWS_ERROR_CONFIGURATION},
	{400, "QueueNameExists", "QueueAlreadyExists;Sender",
	"A queue already exists with the same name and a different value for attribute DelaySeconds", AWS_ERROR_CONFIGURATION},
	{404, "ResourceNotFoundException", "ResourceNotFoundException;Sender", "Task does not exist.", AWS_ERROR_CONFIGURATION},

	/* sending */
	{400, "InvalidParameterValueException", "InvalidParameterValue;Sender",
	"One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes.", AWS_ERROR_REQUEST},
	{400, "InvalidParameterValueException", "InvalidParameterValue;Sender",
	"Message (user) attribute 'ErrorDetails' must contain a non-empty value of type 'String'.", AWS_ERROR_REQUEST},
	{400, "InvalidParameterValueException", "InvalidParameterValue;Sender",
	"The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly", AWS_ERROR_REQUEST},
	{400, "InvalidParameterValueException", "InvalidParameterValue;Sender",
	"Value group 123 for parameter MessageGroupId is invalid. Reason: MessageGroupId can only include alphanumeric and punctuation characters.", AWS_ERROR_REQUEST},
	{400, "InvalidParameterValueException", "InvalidParameterValue;Sender",
	"Value 2 for parameter DelaySeconds is invalid. Reason: The request include parameter that is not valid for this queue type.", AWS_ERROR_REQUEST},
	{400, "InvalidParameterValueException", "InvalidParameterValue;Sender",
	"The request must contain the parameter MessageGroupId.", AWS_ERROR_REQUEST},
	{400, "MissingRequiredParameterException", "MissingParameter;Sender",
	"The request must contain the parameter MessageBody.", AWS_ERROR_REQUEST},

	/* receiving, and what comes after */
	{400, "InvalidParameterValueException", "InvalidParameterValue;Sender",
	"Value 21 for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= 20, if provided.", AWS_ERROR_REQUEST},
	{400, "InvalidParameterValueException", "InvalidParameterValue;Sender",
	"Value AQEB for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.", AWS_ERROR_LEASE_LOST},
	{404, "ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid;Sender",
	"The input receipt handle \"garbage\" is not a valid receipt handle.", AWS_ERROR_LEASE_LOST},
};

static AwsErrorClass
classify(const char *code, int status, const char *message)
{
	return aws_error_classify(code, NULL, AWS_FAULT_UNKNOWN, status, message);
}

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

		is(aws_error_class_name(classify(codes[i].shape, codes[i].status, NULL)),
		   aws_error_class_name(codes[i].class), "%s (%d)", codes[i].shape, codes[i].status);
		if (codes[i].query != NULL)
			is(aws_error_class_name(classify(query, codes[i].status, NULL)),
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
recorded_replies(void)
{
	for (size_t i = 0; i < lengthof(recorded); i++)
	{
		char		body[512];
		char		text[256];
		char	   *quote;
		AwsError	error;

		strlcpy(text, recorded[i].message, sizeof(text));
		while ((quote = strchr(text, '"')) != NULL)
			*quote = '\'';
		snprintf(body, sizeof(body), "{\"__type\":\"com.amazonaws.sqs#%s\",\"message\":\"%s\"}",
				 recorded[i].shape != NULL ? recorded[i].shape : "", text);
		parse(body, recorded[i].status, recorded[i].header, NULL, &error);
		is(aws_error_class_name(error.class), aws_error_class_name(recorded[i].class),
		   "%s: %.40s", recorded[i].header, text);
	}
}

/* What neither the table nor SQS says to be about a message condemns none. */
static void
unknown_codes(void)
{
	static const char *const codes_of_tomorrow[] = {
		"KmsSomethingNew", "NotAuthorised", "invalidparametervalue", "InvalidParameterValueX",
		"com.amazonaws.sqs.InvalidParameterValue", "AWS.SimpleQueueService.Strange", "",
	};
	static const AwsFault faults[] = {AWS_FAULT_UNKNOWN, AWS_FAULT_SENDER, AWS_FAULT_RECEIVER};
	AwsError	error;

	for (size_t i = 0; i < lengthof(codes_of_tomorrow); i++)
	{
		int			condemned = 0;

		for (int status = 0; status < 600; status++)
			for (size_t j = 0; j < lengthof(faults); j++)
				condemned += aws_error_classify(codes_of_tomorrow[i], NULL, faults[j], status,
												"The message is invalid.") == AWS_ERROR_REQUEST;
		is_int(condemned, 0, "code \"%s\" condemns no message, whatever the status", codes_of_tomorrow[i]);
	}

	/* two names: either will do, and both have to agree */
	parse("{\"__type\":\"com.amazonaws.sqs#NameOfTomorrow\"}", 400, "InvalidParameterValue;Sender", NULL, &error);
	ok(error.class == AWS_ERROR_REQUEST && strcmp(error.code, "NameOfTomorrow") == 0, "a new shape under an old code");
	parse("{\"__type\":\"QueueDoesNotExist\"}", 400, "CodeOfTomorrow;Sender", NULL, &error);
	is_int(error.class, AWS_ERROR_NO_QUEUE, "an old shape under a new code");
	parse("{\"__type\":\"InvalidParameterValueException\"}", 400, "KMS.DisabledException;Sender", NULL, &error);
	is_int(error.class, AWS_ERROR_CONFIGURATION, "two that do not agree about the message");
	parse("{\"__type\":\"KmsDisabled\"}", 400, "InvalidParameterValue;Sender", NULL, &error);
	is_int(error.class, AWS_ERROR_CONFIGURATION, "the other way round");

	/* who is to blame */
	parse("{\"__type\":\"InvalidParameterValueException\"}", 400, "InvalidParameterValue;Receiver", NULL, &error);
	is_int(error.class, AWS_ERROR_TRANSIENT, "SQS blames itself");
	parse("{\"__type\":\"InvalidMessageContents\"}", 503, NULL, NULL, &error);
	is_int(error.class, AWS_ERROR_TRANSIENT, "by the status");
	parse("{\"__type\":\"BrandNew\"}", 400, "BrandNew;Receiver", NULL, &error);
	is_int(error.class, AWS_ERROR_TRANSIENT, "for something that we do not know");
	parse("{\"__type\":\"BrandNew\"}", 400, "BrandNew;Sender", NULL, &error);
	is_int(error.class, AWS_ERROR_UNKNOWN, "or us");
	parse("{\"__type\":\"KmsDisabled\"}", 400, "KMS.DisabledException;Receiver", NULL, &error);
	is_int(error.class, AWS_ERROR_CONFIGURATION, "another known code keeps its class");

	/* the queue in the place of the message */
	is_int(classify("InvalidParameterValue", 400, "Value http://x/1/q for parameter QueueUrl is invalid. Reason: no"),
		   AWS_ERROR_CONFIGURATION, "the queue's URL is refused");
	is_int(classify("MissingParameter", 400, "The request must contain the parameter QueueUrl."),
		   AWS_ERROR_CONFIGURATION, "or missed");
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
			is_int(classify(lease_codes[j], 400, lease[i]), AWS_ERROR_LEASE_LOST,
				   "lease lost, text %zu, %s", i, lease_codes[j]);
	for (size_t i = 0; i < lengthof(clock); i++)
		for (size_t j = 0; j < lengthof(clock_codes); j++)
			is_int(classify(clock_codes[j], 403, clock[i]), AWS_ERROR_CLOCK,
				   "clock, text %zu, %s", i, clock_codes[j]);

	is_int(classify("InvalidParameterValue", 400, "Value 99999 for parameter VisibilityTimeout is invalid."),
		   AWS_ERROR_REQUEST, "another text of InvalidParameterValue");
	is_int(classify("InvalidSignatureException", 403, "The request signature we calculated does not match"),
		   AWS_ERROR_CREDENTIALS, "another text of InvalidSignatureException");
	is_int(classify("ServiceUnavailable", 503, "Signature expired"),
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
		{302, AWS_ERROR_TRANSIENT}, {400, AWS_ERROR_UNKNOWN}, {401, AWS_ERROR_CONFIGURATION},
		{403, AWS_ERROR_CONFIGURATION}, {404, AWS_ERROR_UNKNOWN}, {407, AWS_ERROR_CONFIGURATION},
		{408, AWS_ERROR_TRANSIENT}, {413, AWS_ERROR_UNKNOWN}, {429, AWS_ERROR_THROTTLED},
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
	is_int(classify("BrandNewError", 400, NULL), AWS_ERROR_UNKNOWN, "an unknown code with 400");
	is_int(classify("BrandNewError", 500, NULL), AWS_ERROR_TRANSIENT, "an unknown code with 500");
	is_int(classify("QueueDoesNotExistAtAll", 400, NULL), AWS_ERROR_UNKNOWN, "a code that begins like another");
	is_int(classify("", 400, NULL), AWS_ERROR_UNKNOWN, "an empty code");
	is_int(classify("AWS.SimpleQueueService.", 503, NULL), AWS_ERROR_TRANSIENT, "a prefix alone");

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
		ok(strcmp(aws_error_class_name((AwsErrorClass) c), "invalid") != 0, "class %d has a name", c);
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
	redacted("abcdefgh", "abcdefgh", "********");
	redacted("The test request is refused", "test", "The test request is refused");
	redacted("a short one: abc", "abc", "a short one: abc");
	redacted("a a a", "a", "a a a");
	redacted("aaaaaaaaaaaa", "aaaaaaaaaa", "**********aa");
	redacted("nothing", "", "nothing");
	redacted("nothing", NULL, "nothing");
}

void
test_errors(void)
{
	secrets();
	both_names();
	recorded_replies();
	unknown_codes();
	texts();
	fallbacks();
}
