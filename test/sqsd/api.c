/*-------------------------------------------------------------------------
 *
 * api.c
 *	  The AWS JSON 1.0 protocol: dispatch, errors, batches.
 *
 * A request runs through the faults that come before any work, the check of
 * its signature and its action, in this order; a long poll may stop in the
 * middle and is taken up again by api_serve_polls or api_poll_timeout.
 * Every way ends in http_finish, which applies the faults of the reply.
 *
 *-------------------------------------------------------------------------
 */
#include "server.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SQS_SHAPE "com.amazonaws.sqs#"
#define COMMON_SHAPE "com.amazon.coral.service#"
#define LEGACY "AWS.SimpleQueueService."

typedef bool (*ActionHandler) (Request *req, Queue *queue, const json_t *in, ApiError *error);

const char *const action_names[ACTION_UNKNOWN + 1] = {
	[ACTION_SEND] = "SendMessage",
	[ACTION_SEND_BATCH] = "SendMessageBatch",
	[ACTION_RECEIVE] = "ReceiveMessage",
	[ACTION_DELETE] = "DeleteMessage",
	[ACTION_DELETE_BATCH] = "DeleteMessageBatch",
	[ACTION_CHANGE] = "ChangeMessageVisibility",
	[ACTION_CHANGE_BATCH] = "ChangeMessageVisibilityBatch",
	[ACTION_GET_URL] = "GetQueueUrl",
	[ACTION_GET_ATTRIBUTES] = "GetQueueAttributes",
	[ACTION_SET_ATTRIBUTES] = "SetQueueAttributes",
	[ACTION_CREATE] = "CreateQueue",
	[ACTION_DELETE_QUEUE] = "DeleteQueue",
	[ACTION_PURGE] = "PurgeQueue",
	[ACTION_LIST] = "ListQueues",
	[ACTION_ASSUME_ROLE] = "AssumeRole",
	[ACTION_ASSUME_WEB] = "AssumeRoleWithWebIdentity",
	[ACTION_CALLER] = "GetCallerIdentity",
	[ACTION_CONTAINER] = "ContainerCredentials",
	[ACTION_METADATA_TOKEN] = "MetadataToken",
	[ACTION_METADATA_ROLE] = "MetadataRole",
	[ACTION_METADATA_KEYS] = "MetadataKeys",
	[ACTION_METADATA_REGION] = "MetadataRegion",
	[ACTION_UNKNOWN] = "unknown"
};

static const struct
{
	ActionHandler handler;
	bool		has_queue;		/* takes a QueueUrl */
}			actions[ACTION_SQS_COUNT] = {
	[ACTION_SEND] = {api_send, true},
	[ACTION_SEND_BATCH] = {api_send_batch, true},
	[ACTION_RECEIVE] = {api_receive, true},
	[ACTION_DELETE] = {api_delete, true},
	[ACTION_DELETE_BATCH] = {api_delete_batch, true},
	[ACTION_CHANGE] = {api_change, true},
	[ACTION_CHANGE_BATCH] = {api_change_batch, true},
	[ACTION_GET_URL] = {api_get_url, false},
	[ACTION_GET_ATTRIBUTES] = {api_get_attributes, true},
	[ACTION_SET_ATTRIBUTES] = {api_set_attributes, true},
	[ACTION_CREATE] = {api_create, false},
	[ACTION_DELETE_QUEUE] = {api_delete_queue, true},
	[ACTION_PURGE] = {api_purge, true},
	[ACTION_LIST] = {api_list, false},
};

const ErrorDef error_defs[ERR_LAST] = {
	[ERR_NONE] = {"", "", 200},
	[ERR_QUEUE_DOES_NOT_EXIST] = {SQS_SHAPE "QueueDoesNotExist", LEGACY "NonExistentQueue", 400},
	[ERR_INVALID_MESSAGE_CONTENTS] = {SQS_SHAPE "InvalidMessageContents", "InvalidMessageContents", 400},
	[ERR_INVALID_PARAMETER_VALUE] = {COMMON_SHAPE "InvalidParameterValueException", "InvalidParameterValue", 400},
	[ERR_MISSING_PARAMETER] = {COMMON_SHAPE "MissingRequiredParameterException", "MissingParameter", 400},
	[ERR_INVALID_ATTRIBUTE_NAME] = {SQS_SHAPE "InvalidAttributeName", "InvalidAttributeName", 400},
	[ERR_INVALID_ATTRIBUTE_VALUE] = {SQS_SHAPE "InvalidAttributeValue", "InvalidAttributeValue", 400},
	[ERR_EMPTY_BATCH] = {SQS_SHAPE "EmptyBatchRequest", LEGACY "EmptyBatchRequest", 400},
	[ERR_TOO_MANY_ENTRIES] = {SQS_SHAPE "TooManyEntriesInBatchRequest", LEGACY "TooManyEntriesInBatchRequest", 400},
	[ERR_IDS_NOT_DISTINCT] = {SQS_SHAPE "BatchEntryIdsNotDistinct", LEGACY "BatchEntryIdsNotDistinct", 400},
	[ERR_INVALID_BATCH_ID] = {SQS_SHAPE "InvalidBatchEntryId", LEGACY "InvalidBatchEntryId", 400},
	[ERR_BATCH_TOO_LONG] = {SQS_SHAPE "BatchRequestTooLong", LEGACY "BatchRequestTooLong", 400},
	[ERR_RECEIPT_HANDLE_INVALID] = {SQS_SHAPE "ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", 404},
	[ERR_MESSAGE_NOT_INFLIGHT] = {SQS_SHAPE "MessageNotInflight", LEGACY "MessageNotInflight", 400},
	[ERR_QUEUE_NAME_EXISTS] = {SQS_SHAPE "QueueNameExists", "QueueAlreadyExists", 400},
	[ERR_QUEUE_DELETED_RECENTLY] = {SQS_SHAPE "QueueDeletedRecently", LEGACY "QueueDeletedRecently", 400},
	[ERR_PURGE_IN_PROGRESS] = {SQS_SHAPE "PurgeQueueInProgress", LEGACY "PurgeQueueInProgress", 403},
	[ERR_OVER_LIMIT] = {SQS_SHAPE "OverLimit", "OverLimit", 403},
	[ERR_REQUEST_THROTTLED] = {SQS_SHAPE "RequestThrottled", "RequestThrottled", 403},
	[ERR_KMS_THROTTLED] = {SQS_SHAPE "KmsThrottled", "KMS.ThrottlingException", 400},
	[ERR_KMS_ACCESS_DENIED] = {SQS_SHAPE "KmsAccessDenied", "KMS.AccessDeniedException", 400},
	[ERR_KMS_DISABLED] = {SQS_SHAPE "KmsDisabled", "KMS.DisabledException", 400},
	[ERR_KMS_INVALID_STATE] = {SQS_SHAPE "KmsInvalidState", "KMS.InvalidStateException", 400},
	[ERR_KMS_NOT_FOUND] = {SQS_SHAPE "KmsNotFound", "KMS.NotFoundException", 400},
	[ERR_KMS_OPT_IN] = {SQS_SHAPE "KmsOptInRequired", "KMS.OptInRequired", 403},
	[ERR_KMS_INVALID_KEY_USAGE] = {SQS_SHAPE "KmsInvalidKeyUsage", "KMS.InvalidKeyUsageException", 400},
	[ERR_INVALID_ADDRESS] = {SQS_SHAPE "InvalidAddress", "InvalidAddress", 404},
	[ERR_INVALID_SECURITY] = {SQS_SHAPE "InvalidSecurity", "InvalidSecurity", 403},
	[ERR_UNSUPPORTED_OPERATION] = {SQS_SHAPE "UnsupportedOperation", LEGACY "UnsupportedOperation", 400},
	[ERR_ACCESS_DENIED] = {COMMON_SHAPE "AccessDeniedException", "AccessDenied", 403},
	[ERR_UNRECOGNIZED_CLIENT] = {COMMON_SHAPE "UnrecognizedClientException", "InvalidClientTokenId", 403},
	[ERR_INVALID_SIGNATURE] = {COMMON_SHAPE "InvalidSignatureException", "SignatureDoesNotMatch", 403},
	[ERR_EXPIRED_TOKEN] = {COMMON_SHAPE "ExpiredTokenException", "ExpiredToken", 403},
	[ERR_MISSING_TOKEN] = {COMMON_SHAPE "MissingAuthenticationTokenException", "MissingAuthenticationToken", 403},
	[ERR_INCOMPLETE_SIGNATURE] = {COMMON_SHAPE "IncompleteSignatureException", "IncompleteSignature", 400},
	[ERR_REQUEST_EXPIRED] = {COMMON_SHAPE "RequestExpired", "RequestExpired", 400},
	[ERR_UNKNOWN_OPERATION] = {COMMON_SHAPE "UnknownOperationException", "InvalidAction", 404},
	[ERR_SERIALIZATION] = {COMMON_SHAPE "SerializationException", "MalformedInput", 400},
	[ERR_THROTTLING] = {COMMON_SHAPE "ThrottlingException", "Throttling", 400},
	[ERR_INTERNAL_FAILURE] = {COMMON_SHAPE "InternalFailure", "InternalError", 500},
	[ERR_SERVICE_UNAVAILABLE] = {COMMON_SHAPE "ServiceUnavailable", "ServiceUnavailable", 503},
};

bool
api_error(ApiError *error, ErrorCode code, const char *fmt,...)
{
	va_list		ap;

	error->code = code;
	va_start(ap, fmt);
	vsnprintf(error->message, sizeof(error->message), fmt, ap);
	va_end(ap);
	return false;
}

bool
missing_parameter(ApiError *error, const char *name)
{
	return api_error(error, ERR_MISSING_PARAMETER,
					 "The request must contain the parameter %s.", name);
}

/* ACTION_UNKNOWN if there is none with this name */
Action
action_by_name(const char *name)
{
	for (int i = 0; i < ACTION_UNKNOWN; i++)
		if (strcmp(name, action_names[i]) == 0)
			return (Action) i;
	return ACTION_UNKNOWN;
}

/* Find an error by either of its names. */
ErrorCode
error_by_name(const char *name)
{
	for (int i = 1; i < ERR_LAST; i++)
	{
		const char *shape = strchr(error_defs[i].shape, '#') + 1;

		if (strcmp(name, shape) == 0 || strcmp(name, error_defs[i].query_code) == 0)
			return (ErrorCode) i;
	}
	return ERR_NONE;
}

static void
reply_error_named(Request *req, int status, const char *shape, const char *query_code,
				  const char *message)
{
	req->status = status;
	snprintf(req->query_error, sizeof(req->query_error), "%s;%s", query_code,
			 status >= 500 ? "Receiver" : "Sender");
	req->reply.len = 0;
	sb_lit(&req->reply, "{\"__type\":");
	sb_json_cstr(&req->reply, shape);
	if (message != NULL)
	{
		sb_lit(&req->reply, ",\"message\":");
		sb_json_cstr(&req->reply, message);
	}
	sb_putc(&req->reply, '}');
}

void
api_reply_error(Request *req, const ApiError *error)
{
	const ErrorDef *def = &error_defs[error->code];

	reply_error_named(req, def->status, def->shape, def->query_code, error->message);
}

/* The error which a fault rule asks for */
static void
reply_fault_error(Request *req, const FaultRule *rule)
{
	const char *name = rule->code ? rule->code : "InternalFailure";
	ErrorCode	code = error_by_name(name);
	const char *message = rule->message ? rule->message : "Injected error.";
	char		shape[256];

	if (code != ERR_NONE)
		reply_error_named(req, rule->status ? rule->status : error_defs[code].status,
						  error_defs[code].shape, error_defs[code].query_code, message);
	else
	{
		snprintf(shape, sizeof(shape), COMMON_SHAPE "%s", name);
		reply_error_named(req, rule->status ? rule->status : 400, shape, name, message);
	}
	if (rule->body != NULL)
	{
		req->reply.len = 0;
		sb_puts(&req->reply, rule->body);
		req->query_error[0] = '\0';
		req->content_type = rule->body[0] == '<' ? "text/html" : "text/plain";
	}
}

const char *
queue_name_of_url(const char *url)
{
	const char *slash = strrchr(url, '/');

	return slash ? slash + 1 : url;
}

static const json_t *
member(const json_t *in, const char *name)
{
	const json_t *value = json_object_get(in, name);

	return value == NULL || json_is_null(value) ? NULL : value;
}

static bool
wrong_type(ApiError *error, const json_t *value, const char *wanted)
{
	static const char *const names[] = {
		[JSON_OBJECT] = "START_OBJECT",[JSON_ARRAY] = "START_ARRAY",
		[JSON_STRING] = "STRING_VALUE",[JSON_INTEGER] = "NUMBER_VALUE",
		[JSON_REAL] = "NUMBER_VALUE",[JSON_TRUE] = "TRUE_VALUE",
		[JSON_FALSE] = "FALSE_VALUE",[JSON_NULL] = "NULL_VALUE"
	};

	return api_error(error, ERR_SERIALIZATION, "%s can not be converted to %s",
					 names[json_typeof(value)], wanted);
}

bool
get_string(const json_t *in, const char *name, const char **value, size_t *len,
		   ApiError *error)
{
	const json_t *found = member(in, name);

	*value = NULL;
	if (len)
		*len = 0;
	if (found == NULL)
		return true;
	if (!json_is_string(found))
		return wrong_type(error, found, "a String");
	*value = json_string_value(found);
	if (len)
		*len = json_string_length(found);
	return true;
}

bool
get_int(const json_t *in, const char *name, int absent, json_int_t *value, ApiError *error)
{
	const json_t *found = member(in, name);

	*value = absent;
	if (found == NULL)
		return true;
	if (!json_is_integer(found))
		return wrong_type(error, found, "an Integer");
	*value = json_integer_value(found);
	return true;
}

bool
get_array(const json_t *in, const char *name, json_t **value, ApiError *error)
{
	const json_t *found = member(in, name);

	*value = (json_t *) found;
	if (found != NULL && !json_is_array(found))
		return wrong_type(error, found, "a List");
	return true;
}

bool
get_object(const json_t *in, const char *name, json_t **value, ApiError *error)
{
	const json_t *found = member(in, name);

	*value = (json_t *) found;
	if (found != NULL && !json_is_object(found))
		return wrong_type(error, found, "a Map");
	return true;
}

static bool
batch_id_valid(const char *id, size_t len)
{
	if (len < 1 || len > 80)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		char		c = id[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			  (c >= '0' && c <= '9') || c == '-' || c == '_'))
			return false;
	}
	return true;
}

/* Everything for which SQS refuses a whole batch, whatever the action. */
bool
batch_check(const json_t *in, const char *what, json_t **entries, ApiError *error)
{
	const char *ids[MAX_BATCH_ENTRIES];
	size_t		count;
	size_t		i;
	json_t	   *entry;

	if (!get_array(in, "Entries", entries, error))
		return false;
	count = *entries ? json_array_size(*entries) : 0;
	if (count == 0)
		return api_error(error, ERR_EMPTY_BATCH,
						 "There should be at least one %s in the request.", what);
	if (count > MAX_BATCH_ENTRIES)
		return api_error(error, ERR_TOO_MANY_ENTRIES,
						 "Maximum number of entries per request are %d. You have sent %zu.",
						 MAX_BATCH_ENTRIES, count);
	json_array_foreach(*entries, i, entry)
	{
		size_t		len;

		if (!json_is_object(entry))
			return wrong_type(error, entry, "a Structure");
		if (!get_string(entry, "Id", &ids[i], &len, error))
			return false;
		if (ids[i] == NULL)
			return missing_parameter(error, "Id");
		if (!batch_id_valid(ids[i], len))
			return api_error(error, ERR_INVALID_BATCH_ID,
							 "A batch entry id can only contain alphanumeric characters, "
							 "hyphens and underscores. It can be at most 80 letters long.");
		for (size_t j = 0; j < i; j++)
			if (strcmp(ids[i], ids[j]) == 0)
				return api_error(error, ERR_IDS_NOT_DISTINCT, "Id %s repeated.", ids[i]);
	}
	return true;
}

static void
failed_entry(StrBuf *sb, const char *id, bool sender_fault, const char *code,
			 const char *message)
{
	sb_puts(sb, sb->len ? ",{\"Id\":" : "{\"Id\":");
	sb_json_cstr(sb, id);
	sb_puts(sb, sender_fault ? ",\"SenderFault\":true,\"Code\":" : ",\"SenderFault\":false,\"Code\":");
	sb_json_cstr(sb, code);
	sb_lit(sb, ",\"Message\":");
	sb_json_cstr(sb, message);
	sb_putc(sb, '}');
}

/* Run the entries one by one and write the reply. */
void
batch_run(Request *req, Queue *queue, json_t *entries, BatchEntry run)
{
	StrBuf	   *out = &req->reply;
	StrBuf		failed = {0};
	bool		any = false;
	size_t		i;
	json_t	   *entry;

	json_array_foreach(entries, i, entry)
	{
		const char *id = json_string_value(json_object_get(entry, "Id"));
		size_t		mark = out->len;
		ApiError	error;

		if (fault_entry_fails(&req->plan,
							  json_string_value(json_object_get(entry, "MessageGroupId"))))
		{
			const FaultRule *rule = req->plan.entry_rule;
			ErrorCode	known = rule->code ? error_by_name(rule->code) : ERR_NONE;

			failed_entry(&failed, id, rule->flag,
						 known ? error_defs[known].query_code :
						 rule->code ? rule->code : "InternalError",
						 rule->message ? rule->message : "Injected error.");
			continue;
		}
		sb_puts(out, any ? ",{\"Id\":" : "{\"Successful\":[{\"Id\":");
		sb_json_cstr(out, id);
		error.code = ERR_NONE;
		if (run(req, queue, entry, out, &error))
		{
			sb_putc(out, '}');
			any = true;
		}
		else
		{
			out->len = mark;
			failed_entry(&failed, id, true, error_defs[error.code].query_code, error.message);
		}
	}
	if (any)
		sb_putc(out, ']');
	if (failed.len > 0)
	{
		sb_puts(out, any ? ",\"Failed\":[" : "{\"Failed\":[");
		sb_append(out, failed.data, failed.len);
		sb_putc(out, ']');
	}
	sb_putc(out, '}');
	sb_free(&failed);
}

static Action
action_of(const char *target)
{
	if (target == NULL || strncmp(target, "AmazonSQS.", 10) != 0)
		return ACTION_UNKNOWN;
	for (int i = 0; i < ACTION_SQS_COUNT; i++)
		if (strcmp(target + 10, action_names[i]) == 0)
			return (Action) i;
	return ACTION_UNKNOWN;
}

/*
 * The work itself; false with the error set if it was refused.  A request
 * which has become a long poll is left in PHASE_POLLING.
 */
static bool
run_action(Request *req, const json_t *in, const char *queue_name, ApiError *error)
{
	Queue	   *queue = NULL;

	if (req->action == ACTION_UNKNOWN)
		return api_error(error, ERR_UNKNOWN_OPERATION, "The requested operation is not supported.");
	if (!json_is_object(in))
		return api_error(error, ERR_SERIALIZATION, "The request body is not a JSON object.");
	if (actions[req->action].has_queue)
	{
		const char *url;

		if (!get_string(in, "QueueUrl", &url, NULL, error))
			return false;
		if (url == NULL)
			return missing_parameter(error, "QueueUrl");
		queue = queue_find(queue_name);
		if (queue == NULL)
			return api_error(error, ERR_QUEUE_DOES_NOT_EXIST,
							 "The specified queue does not exist.");
		queue->stats.calls[req->action]++;
		req->queue = queue;
	}
	return actions[req->action].handler(req, queue, in, error);
}

void
api_handle(Request *req)
{
	ApiError	error;
	json_t	   *in;
	const char *name = NULL;
	Queue	   *queue;
	FaultPlan  *plan = &req->plan;

	store_run_timers();
	req->status = 200;
	req->content_type = "application/x-amz-json-1.0";
	req->action = action_of(http_header(req, "X-Amz-Target"));
	server_stats.calls[req->action]++;

	in = json_loadb(req->body.data ? req->body.data : "", req->body.len, JSON_ALLOW_NUL, NULL);
	if (in != NULL)
	{
		const json_t *url = json_object_get(in, "QueueUrl");

		if (json_is_string(url))
			name = queue_name_of_url(json_string_value(url));
		else
			name = json_string_value(json_object_get(in, "QueueName"));
	}
	queue = name != NULL ? queue_find(name) : NULL;
	if (queue != NULL && req->action != ACTION_UNKNOWN)
		queue_note_call(queue, req->action);

	error.code = ERR_NONE;
	fault_plan(plan, req->action, name);
	if (plan->has_reply_fault && (plan->reply_kind == FAULT_BLACKHOLE ||
								  plan->reply_kind == FAULT_RESET_BEFORE))
		http_finish(req);
	else if (plan->error_rule != NULL)
	{
		reply_fault_error(req, plan->error_rule);
		http_finish(req);
	}
	else if (!sigv4_check(req, "sqs", &error))
	{
		server_stats.auth_failures++;
		api_reply_error(req, &error);
		http_finish(req);
	}
	else
	{
		if (req->caller != NULL && req->caller->token != NULL)
			identity_count(req->action, req->caller->identity);
		if (!run_action(req, in, name ? name : "", &error))
			api_reply_error(req, &error);
		if (req->phase != PHASE_POLLING)
			http_finish(req);
	}
	plan->error_rule = plan->entry_rule = NULL;
	json_decref(in);
}
