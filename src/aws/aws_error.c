/*-------------------------------------------------------------------------
 *
 * aws_error.c
 *	  What can go wrong between us and AWS, and what it means for the caller.
 *
 * SQS names an error twice: by its shape ("QueueDoesNotExist", in the body's
 * __type) and by the code of the older query protocol
 * ("AWS.SimpleQueueService.NonExistentQueue", in a header and in the entries
 * of batch replies).  The header adds whose fault it is.  One table has
 * both names.  The HTTP status decides only if neither is in the table,
 * because AWS uses 400, 403 and 404 for the same error.
 *
 * AWS_ERROR_REQUEST is the only class that makes senders give up a message.
 * Therefore only codes that are known to be about the content of a message
 * have it.  A code that is not in the table says nothing about the message,
 * whatever the status is.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include <stdarg.h>

#include "aws/aws_error.h"

typedef struct KnownError
{
	const char *code;
	AwsErrorClass class;
} KnownError;

/*
 * Sources:
 *	 [S] the SQS API reference and service model, both names (2025)
 *	 [C] the list of errors common to AWS services (2025)
 *	 [Q] the common errors of SQS's query API (2008 to 2012), still in use
 *	 [R] the retry rules of AWS's SDKs (botocore, JS v3, 2026)
 *	 [O] observed with AWS, but not documented
 */
static const KnownError known_errors[] = {
	/* the queue is not there, or may not be seen [S] */
	{"QueueDoesNotExist", AWS_ERROR_NO_QUEUE},
	{"NonExistentQueue", AWS_ERROR_NO_QUEUE},
	{"QueueDeletedRecently", AWS_ERROR_NO_QUEUE},
	{"InvalidAddress", AWS_ERROR_NO_QUEUE},
	{"InvalidURI", AWS_ERROR_NO_QUEUE}, /* [Q] */

	/* the receipt handle is no longer valid [S] */
	{"ReceiptHandleIsInvalid", AWS_ERROR_LEASE_LOST},
	{"InvalidIdFormat", AWS_ERROR_LEASE_LOST},
	{"MessageNotInflight", AWS_ERROR_LEASE_LOST},

	{"OverLimit", AWS_ERROR_OVER_LIMIT},	/* [S] */

	/* [S] */
	{"RequestThrottled", AWS_ERROR_THROTTLED},
	{"KmsThrottled", AWS_ERROR_THROTTLED},
	{"KMS.ThrottlingException", AWS_ERROR_THROTTLED},
	{"PurgeQueueInProgress", AWS_ERROR_THROTTLED},
	/* [C] [R] */
	{"Throttling", AWS_ERROR_THROTTLED},
	{"ThrottlingException", AWS_ERROR_THROTTLED},
	{"ThrottledException", AWS_ERROR_THROTTLED},
	{"RequestThrottledException", AWS_ERROR_THROTTLED},
	{"TooManyRequestsException", AWS_ERROR_THROTTLED},
	{"ProvisionedThroughputExceededException", AWS_ERROR_THROTTLED},
	{"TransactionInProgressException", AWS_ERROR_THROTTLED},
	{"RequestLimitExceeded", AWS_ERROR_THROTTLED},
	{"BandwidthLimitExceeded", AWS_ERROR_THROTTLED},
	{"LimitExceededException", AWS_ERROR_THROTTLED},
	{"SlowDown", AWS_ERROR_THROTTLED},
	{"PriorRequestNotComplete", AWS_ERROR_THROTTLED},
	{"EC2ThrottledException", AWS_ERROR_THROTTLED},

	/* [C] [Q] [R] */
	{"InternalFailure", AWS_ERROR_TRANSIENT},
	{"InternalError", AWS_ERROR_TRANSIENT},
	{"InternalServerError", AWS_ERROR_TRANSIENT},
	{"ServiceUnavailable", AWS_ERROR_TRANSIENT},
	{"ServiceUnavailableException", AWS_ERROR_TRANSIENT},
	{"RequestTimeout", AWS_ERROR_TRANSIENT},
	{"RequestTimeoutException", AWS_ERROR_TRANSIENT},
	{"RequestAbortedException", AWS_ERROR_TRANSIENT},
	{"MalformedHttpRequestException", AWS_ERROR_TRANSIENT}, /* damaged in transit */

	/* [C] [R] */
	{"RequestExpired", AWS_ERROR_CLOCK},
	{"RequestTimeTooSkewed", AWS_ERROR_CLOCK},
	{"RequestInTheFuture", AWS_ERROR_CLOCK},

	/* [C] */
	{"InvalidSignatureException", AWS_ERROR_CREDENTIALS},
	{"SignatureDoesNotMatch", AWS_ERROR_CREDENTIALS},
	{"IncompleteSignature", AWS_ERROR_CREDENTIALS},
	{"IncompleteSignatureException", AWS_ERROR_CREDENTIALS},
	{"UnrecognizedClientException", AWS_ERROR_CREDENTIALS},
	{"InvalidClientTokenId", AWS_ERROR_CREDENTIALS},
	{"ExpiredTokenException", AWS_ERROR_CREDENTIALS},
	{"ExpiredToken", AWS_ERROR_CREDENTIALS},
	{"MissingAuthenticationToken", AWS_ERROR_CREDENTIALS},
	{"MissingAuthenticationTokenException", AWS_ERROR_CREDENTIALS},
	{"InvalidSecurity", AWS_ERROR_CREDENTIALS}, /* [S] */
	/* [Q] */
	{"AuthFailure", AWS_ERROR_CREDENTIALS},
	{"InvalidAccessKeyId", AWS_ERROR_CREDENTIALS},
	{"InvalidSecurityToken", AWS_ERROR_CREDENTIALS},
	{"MissingClientTokenId", AWS_ERROR_CREDENTIALS},
	{"MissingCredentials", AWS_ERROR_CREDENTIALS},
	{"X509ParseError", AWS_ERROR_CREDENTIALS},
	/* [O] */
	{"InvalidToken", AWS_ERROR_CREDENTIALS},
	{"TokenRefreshRequired", AWS_ERROR_CREDENTIALS},

	/* the account, its rights, its subscription [C] */
	{"AccessDenied", AWS_ERROR_CONFIGURATION},
	{"AccessDeniedException", AWS_ERROR_CONFIGURATION},
	{"NotAuthorized", AWS_ERROR_CONFIGURATION},
	{"OptInRequired", AWS_ERROR_CONFIGURATION},
	/* [Q] */
	{"AccessFailure", AWS_ERROR_CONFIGURATION},
	{"NotAuthorizedToUseVersion", AWS_ERROR_CONFIGURATION},
	/* [O] */
	{"SubscriptionRequiredException", AWS_ERROR_CONFIGURATION},
	{"UnauthorizedOperation", AWS_ERROR_CONFIGURATION},
	{"AccountDisabled", AWS_ERROR_CONFIGURATION},
	{"AccountProblem", AWS_ERROR_CONFIGURATION},
	{"PendingVerification", AWS_ERROR_CONFIGURATION},
	/* the queue's encryption key [S] */
	{"KmsAccessDenied", AWS_ERROR_CONFIGURATION},
	{"KmsDisabled", AWS_ERROR_CONFIGURATION},
	{"KmsInvalidState", AWS_ERROR_CONFIGURATION},
	{"KmsNotFound", AWS_ERROR_CONFIGURATION},
	{"KmsInvalidKeyUsage", AWS_ERROR_CONFIGURATION},
	{"KmsOptInRequired", AWS_ERROR_CONFIGURATION},
	{"KMS.AccessDeniedException", AWS_ERROR_CONFIGURATION},
	{"KMS.DisabledException", AWS_ERROR_CONFIGURATION},
	{"KMS.InvalidStateException", AWS_ERROR_CONFIGURATION},
	{"KMS.NotFoundException", AWS_ERROR_CONFIGURATION},
	{"KMS.InvalidKeyUsageException", AWS_ERROR_CONFIGURATION},
	{"KMS.OptInRequired", AWS_ERROR_CONFIGURATION},
	/* the service does not offer this operation, or not for this queue */
	{"UnsupportedOperation", AWS_ERROR_CONFIGURATION},	/* [S] */
	{"InvalidAction", AWS_ERROR_CONFIGURATION}, /* [C] */
	{"MissingAction", AWS_ERROR_CONFIGURATION},
	{"UnknownOperationException", AWS_ERROR_CONFIGURATION},
	{"NoSuchVersion", AWS_ERROR_CONFIGURATION}, /* [Q] */
	{"MalformedVersion", AWS_ERROR_CONFIGURATION},
	/* about queues and tasks, not about messages [S] */
	{"QueueNameExists", AWS_ERROR_CONFIGURATION},
	{"QueueAlreadyExists", AWS_ERROR_CONFIGURATION},
	{"ResourceNotFoundException", AWS_ERROR_CONFIGURATION},
	{"InvalidAttributeName", AWS_ERROR_CONFIGURATION},
	{"InvalidAttributeValue", AWS_ERROR_CONFIGURATION},

	/*
	 * The request is invalid, which may or may not be due to the message that
	 * is in it.
	 */
	/* [S] */
	{"EmptyBatchRequest", AWS_ERROR_UNKNOWN},
	{"TooManyEntriesInBatchRequest", AWS_ERROR_UNKNOWN},
	{"BatchEntryIdsNotDistinct", AWS_ERROR_UNKNOWN},
	{"InvalidBatchEntryId", AWS_ERROR_UNKNOWN},
	/* [C] */
	{"InvalidParameterCombination", AWS_ERROR_UNKNOWN},
	{"InvalidQueryParameter", AWS_ERROR_UNKNOWN},
	{"MalformedQueryString", AWS_ERROR_UNKNOWN},
	{"ValidationError", AWS_ERROR_UNKNOWN},
	{"ValidationException", AWS_ERROR_UNKNOWN},
	{"SerializationException", AWS_ERROR_UNKNOWN},
	{"MalformedInput", AWS_ERROR_UNKNOWN},
	/* [Q] */
	{"ConflictingQueryParameter", AWS_ERROR_UNKNOWN},
	{"InvalidHttpRequest", AWS_ERROR_UNKNOWN},
	{"InvalidRequest", AWS_ERROR_UNKNOWN},

	/* the content of a message [S] */
	{"InvalidMessageContents", AWS_ERROR_REQUEST},
	{"InvalidParameterValue", AWS_ERROR_REQUEST},
	{"InvalidParameterValueException", AWS_ERROR_REQUEST},
	{"MissingParameter", AWS_ERROR_REQUEST},
	{"MissingRequiredParameterException", AWS_ERROR_REQUEST},
	/* its size, if the request has a single message */
	{"BatchRequestTooLong", AWS_ERROR_REQUEST},
	{"RequestEntityTooLargeException", AWS_ERROR_REQUEST},	/* [C] */
};

/* InvalidParameterValue with one of these means that the lease has ended. */
static const char *const lease_texts[] = {
	"receipt handle has expired",
	"not available for visibility timeout change",
	"Total VisibilityTimeout",
};

/*
 * With the same code, these are not about a message.  SQS quotes parameters in
 * its texts, but no valid parameter of a message has blanks as these do.
 */
static const char *const queue_texts[] = {
	" for parameter QueueUrl is invalid",
	" for parameter QueueName is invalid",
	"must contain the parameter QueueUrl",
	"must contain the parameter QueueName",
};

static bool
contains(const char *text, const char *const *parts, size_t nparts)
{
	for (size_t i = 0; i < nparts; i++)
	{
		if (strstr(text, parts[i]) != NULL)
			return true;
	}
	return false;
}

/* AWS_ERROR_NONE if the table does not have the code, which may be NULL. */
static AwsErrorClass
class_of_code(const char *code)
{
	static const char prefix[] = "AWS.SimpleQueueService.";

	if (code == NULL)
		return AWS_ERROR_NONE;
	if (strncmp(code, prefix, strlen(prefix)) == 0)
		code += strlen(prefix);
	for (size_t i = 0; i < lengthof(known_errors); i++)
	{
		if (strcmp(known_errors[i].code, code) == 0)
			return known_errors[i].class;
	}
	return AWS_ERROR_NONE;
}

/* The class of an error whose names are not in the table. */
static AwsErrorClass
class_of_status(int http_status, AwsFault fault)
{
	if (http_status == 429)
		return AWS_ERROR_THROTTLED;
	if (http_status >= 500 || http_status == 408 || fault == AWS_FAULT_RECEIVER)
		return AWS_ERROR_TRANSIENT;
	if (http_status == 401 || http_status == 403 || http_status == 407)
		return AWS_ERROR_CONFIGURATION;
	if (http_status >= 400 || fault == AWS_FAULT_SENDER)
		return AWS_ERROR_UNKNOWN;
	return AWS_ERROR_TRANSIENT; /* a 200 or 3xx that SQS did not send */
}

/*
 * The names come first.  For AWS_ERROR_REQUEST, which gives up a message, the
 * text, the status and the fault must not contradict them.
 */
AwsErrorClass
aws_error_classify(const char *shape, const char *query_code, AwsFault fault,
				   int http_status, const char *message)
{
	AwsErrorClass class = class_of_code(shape);
	AwsErrorClass other = class_of_code(query_code);

	/* if the names disagree, do not blame the message */
	if (class == AWS_ERROR_NONE || (class == AWS_ERROR_REQUEST && other != AWS_ERROR_NONE))
		class = other;
	if (class == AWS_ERROR_NONE)
		return class_of_status(http_status, fault);

	if (class == AWS_ERROR_REQUEST)
	{
		if (message != NULL && contains(message, lease_texts, lengthof(lease_texts)))
			return AWS_ERROR_LEASE_LOST;
		if (message != NULL && contains(message, queue_texts, lengthof(queue_texts)))
			return AWS_ERROR_CONFIGURATION;
		if (fault == AWS_FAULT_RECEIVER || http_status >= 500)
			return AWS_ERROR_TRANSIENT;
	}
	/* "Signature expired: ..." and "Signature not yet current: ..." */
	if (class == AWS_ERROR_CREDENTIALS && message != NULL &&
		(strstr(message, "Signature expired") != NULL ||
		 strstr(message, "not yet current") != NULL))
		return AWS_ERROR_CLOCK;
	return class;
}

/* As views and logs have it. */
const char *
aws_error_class_name(AwsErrorClass class)
{
	switch (class)
	{
		case AWS_ERROR_NONE:
			return "none";
		case AWS_ERROR_TRANSIENT:
			return "transient";
		case AWS_ERROR_THROTTLED:
			return "throttled";
		case AWS_ERROR_TIMEOUT:
			return "timeout";
		case AWS_ERROR_RESOURCES:
			return "resources";
		case AWS_ERROR_CREDENTIALS:
			return "credentials";
		case AWS_ERROR_CLOCK:
			return "clock";
		case AWS_ERROR_NO_QUEUE:
			return "no queue";
		case AWS_ERROR_OVER_LIMIT:
			return "over limit";
		case AWS_ERROR_LEASE_LOST:
			return "lease lost";
		case AWS_ERROR_CONFIGURATION:
			return "configuration";
		case AWS_ERROR_UNKNOWN:
			return "unknown";
		case AWS_ERROR_REQUEST:
			return "request";
	}
	return "invalid";
}

const char *
aws_error_action(const AwsError *error, const char *action)
{
	return error->no_keys ? "getting keys" : action;
}

void
aws_text_sanitize(char *text)
{
	for (unsigned char *p = (unsigned char *) text; *p != '\0'; p++)
	{
		/* texts go to logs and views: no control characters, only ASCII */
		if (*p < 0x20)
			*p = ' ';
		else if (*p > 0x7e)
			*p = '?';
	}
}

void
aws_text_redact(char *text, const char *secret)
{
	char		begin[8 + 1];

	if (secret == NULL || strlen(secret) < sizeof(begin) - 1)
		return;
	strlcpy(begin, secret, sizeof(begin));
	while ((text = strstr(text, begin)) != NULL)
	{
		for (const char *p = secret; *p != '\0' && *text == *p; p++)
			*text++ = '*';
	}
}

void
aws_error_set(AwsError *error, AwsErrorClass class, const char *code,
			  const char *fmt, ...)
{
	va_list		args;

	memset(error, 0, sizeof(*error));
	error->class = class;
	strlcpy(error->code, code, sizeof(error->code));
	va_start(args, fmt);
	vsnprintf(error->message, sizeof(error->message), fmt, args);
	va_end(args);
	aws_text_sanitize(error->code);
	aws_text_sanitize(error->message);
}
