/*-------------------------------------------------------------------------
 *
 * aws_error.c
 *	  What can go wrong between us and AWS, and what it means for the caller.
 *
 * SQS names an error twice: by its shape ("QueueDoesNotExist", in the body's
 * __type) and by the code of the older query protocol
 * ("AWS.SimpleQueueService.NonExistentQueue", in a header and in the entries
 * of batch replies).  One table knows both.  The HTTP status decides only
 * where there is no code: AWS gives 400 and 403 for the same thing.
 *
 * Names: SQS service model and the list of common errors, 2025.
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

static const KnownError known_errors[] = {
	{"QueueDoesNotExist", AWS_ERROR_NO_QUEUE},
	{"NonExistentQueue", AWS_ERROR_NO_QUEUE},
	{"QueueDeletedRecently", AWS_ERROR_NO_QUEUE},
	{"InvalidAddress", AWS_ERROR_NO_QUEUE},

	{"ReceiptHandleIsInvalid", AWS_ERROR_LEASE_LOST},
	{"InvalidIdFormat", AWS_ERROR_LEASE_LOST},
	{"MessageNotInflight", AWS_ERROR_LEASE_LOST},

	{"OverLimit", AWS_ERROR_OVER_LIMIT},

	{"RequestThrottled", AWS_ERROR_THROTTLED},
	{"KmsThrottled", AWS_ERROR_THROTTLED},
	{"KMS.ThrottlingException", AWS_ERROR_THROTTLED},
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
	{"PurgeQueueInProgress", AWS_ERROR_THROTTLED},

	{"InternalFailure", AWS_ERROR_TRANSIENT},
	{"InternalError", AWS_ERROR_TRANSIENT},
	{"InternalServerError", AWS_ERROR_TRANSIENT},
	{"ServiceUnavailable", AWS_ERROR_TRANSIENT},
	{"ServiceUnavailableException", AWS_ERROR_TRANSIENT},
	{"RequestTimeout", AWS_ERROR_TRANSIENT},
	{"RequestTimeoutException", AWS_ERROR_TRANSIENT},

	{"RequestExpired", AWS_ERROR_CLOCK},
	{"RequestTimeTooSkewed", AWS_ERROR_CLOCK},
	{"RequestInTheFuture", AWS_ERROR_CLOCK},

	{"InvalidSignatureException", AWS_ERROR_CREDENTIALS},
	{"SignatureDoesNotMatch", AWS_ERROR_CREDENTIALS},
	{"IncompleteSignature", AWS_ERROR_CREDENTIALS},
	{"IncompleteSignatureException", AWS_ERROR_CREDENTIALS},
	{"AuthFailure", AWS_ERROR_CREDENTIALS},
	{"UnrecognizedClientException", AWS_ERROR_CREDENTIALS},
	{"InvalidClientTokenId", AWS_ERROR_CREDENTIALS},
	{"ExpiredTokenException", AWS_ERROR_CREDENTIALS},
	{"ExpiredToken", AWS_ERROR_CREDENTIALS},
	{"MissingAuthenticationToken", AWS_ERROR_CREDENTIALS},
	{"MissingAuthenticationTokenException", AWS_ERROR_CREDENTIALS},
	{"InvalidSecurity", AWS_ERROR_CREDENTIALS},

	{"AccessDenied", AWS_ERROR_CONFIGURATION},
	{"AccessDeniedException", AWS_ERROR_CONFIGURATION},
	{"OptInRequired", AWS_ERROR_CONFIGURATION},
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

	{"InvalidMessageContents", AWS_ERROR_REQUEST},
	{"InvalidParameterValue", AWS_ERROR_REQUEST},
	{"InvalidParameterValueException", AWS_ERROR_REQUEST},
	{"InvalidParameterCombination", AWS_ERROR_REQUEST},
	{"MissingParameter", AWS_ERROR_REQUEST},
	{"MissingRequiredParameterException", AWS_ERROR_REQUEST},
	{"InvalidAttributeName", AWS_ERROR_REQUEST},
	{"InvalidAttributeValue", AWS_ERROR_REQUEST},
	{"EmptyBatchRequest", AWS_ERROR_REQUEST},
	{"TooManyEntriesInBatchRequest", AWS_ERROR_REQUEST},
	{"BatchEntryIdsNotDistinct", AWS_ERROR_REQUEST},
	{"InvalidBatchEntryId", AWS_ERROR_REQUEST},
	{"BatchRequestTooLong", AWS_ERROR_REQUEST},
	{"QueueNameExists", AWS_ERROR_REQUEST},
	{"QueueAlreadyExists", AWS_ERROR_REQUEST},
	{"ResourceNotFoundException", AWS_ERROR_REQUEST},
	{"UnsupportedOperation", AWS_ERROR_REQUEST},
	{"InvalidAction", AWS_ERROR_REQUEST},
	{"UnknownOperationException", AWS_ERROR_REQUEST},
	{"SerializationException", AWS_ERROR_REQUEST},
	{"ValidationException", AWS_ERROR_REQUEST},
	{"ValidationError", AWS_ERROR_REQUEST},
	{"MalformedInput", AWS_ERROR_REQUEST},
};

/* Texts by which SQS says "no longer yours" under InvalidParameterValue. */
static const char *const lease_texts[] = {
	"receipt handle has expired",
	"not available for visibility timeout change",
	"Total VisibilityTimeout",
};

AwsErrorClass
aws_error_classify(const char *code, int http_status, const char *message)
{
	const char *prefix = "AWS.SimpleQueueService.";

	if (strncmp(code, prefix, strlen(prefix)) == 0)
		code += strlen(prefix);

	for (size_t i = 0; i < lengthof(known_errors); i++)
	{
		AwsErrorClass class = known_errors[i].class;

		if (strcmp(known_errors[i].code, code) != 0)
			continue;
		if (class == AWS_ERROR_REQUEST && message != NULL)
		{
			for (size_t j = 0; j < lengthof(lease_texts); j++)
				if (strstr(message, lease_texts[j]) != NULL)
					return AWS_ERROR_LEASE_LOST;
		}
		/* "Signature expired: ..." and "Signature not yet current: ..." */
		if (class == AWS_ERROR_CREDENTIALS && message != NULL &&
			(strstr(message, "Signature expired") != NULL ||
			 strstr(message, "not yet current") != NULL))
			return AWS_ERROR_CLOCK;
		return class;
	}

	if (http_status == 429)
		return AWS_ERROR_THROTTLED;
	if (http_status >= 500 || http_status == 408 || http_status == 0)
		return AWS_ERROR_TRANSIENT;
	if (http_status == 401 || http_status == 403 || http_status == 407)
		return AWS_ERROR_CONFIGURATION;
	if (http_status >= 400)
		return AWS_ERROR_REQUEST;
	return AWS_ERROR_TRANSIENT; /* a 200 or 3xx that is no reply of SQS's */
}

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
		case AWS_ERROR_REQUEST:
			return "request";
	}
	return "unknown";
}

void
aws_text_sanitise(char *text)
{
	for (unsigned char *p = (unsigned char *) text; *p != '\0'; p++)
	{
		/* texts go to logs and views: ASCII only, nothing that moves a cursor */
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

	if (secret == NULL || secret[0] == '\0')
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
			  const char *fmt,...)
{
	va_list		args;

	memset(error, 0, sizeof(*error));
	error->class = class;
	strlcpy(error->code, code, sizeof(error->code));
	va_start(args, fmt);
	vsnprintf(error->message, sizeof(error->message), fmt, args);
	va_end(args);
	aws_text_sanitise(error->code);
	aws_text_sanitise(error->message);
}
