/*-------------------------------------------------------------------------
 *
 * api_queue.c
 *	  Actions on queues themselves and their attributes.
 *
 *-------------------------------------------------------------------------
 */
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Attributes with an integer value and what they may be */
static const struct IntAttribute
{
	const char *name;
	size_t		offset;
	int			min;
	int			max;
}			int_attributes[] = {
	{"DelaySeconds", offsetof(QueueConfig, delay), 0, 900},
	{"MaximumMessageSize", offsetof(QueueConfig, max_size), 1024, MAX_MESSAGE_BYTES},
	{"MessageRetentionPeriod", offsetof(QueueConfig, retention), 60, 1209600},
	{"ReceiveMessageWaitTimeSeconds", offsetof(QueueConfig, wait), 0, 20},
	{"VisibilityTimeout", offsetof(QueueConfig, visibility), 0, MAX_VISIBILITY},
};

static const char *const text_attributes[TEXT_COUNT] = {
	[TEXT_POLICY] = "Policy",
	[TEXT_REDRIVE_POLICY] = "RedrivePolicy",
	[TEXT_REDRIVE_ALLOW_POLICY] = "RedriveAllowPolicy",
	[TEXT_KMS_KEY] = "KmsMasterKeyId",
	[TEXT_KMS_REUSE] = "KmsDataKeyReusePeriodSeconds",
	[TEXT_SSE] = "SqsManagedSseEnabled",
};

/* Attributes which can only be read */
static const char *const computed_attributes[] = {
	"QueueArn", "CreatedTimestamp", "LastModifiedTimestamp",
	"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible",
	"ApproximateNumberOfMessagesDelayed"
};

bool
queue_name_valid(const char *name)
{
	size_t		len = strlen(name);
	size_t		stem = len;

	if (len < 1 || len > 80)
		return false;
	if (len > 5 && strcmp(name + len - 5, ".fifo") == 0)
		stem = len - 5;
	for (size_t i = 0; i < stem; i++)
		if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
			  (name[i] >= '0' && name[i] <= '9') || name[i] == '-' || name[i] == '_'))
			return false;
	return true;
}

static bool
bad_value(ApiError *error, const char *name)
{
	return api_error(error, ERR_INVALID_ATTRIBUTE_VALUE, "Invalid value for the parameter %s.",
					 name);
}

static bool
parse_bool(const char *value, bool *result)
{
	*result = strcmp(value, "true") == 0;
	return *result || strcmp(value, "false") == 0;
}

static void
set_text(QueueConfig *config, TextAttribute which, const char *value)
{
	free(config->text[which]);
	config->text[which] = *value ? xstrdup(value) : NULL;
}

/* An empty policy takes the dead-letter queue away. */
static bool
set_redrive(QueueConfig *config, const char *value, ApiError *error)
{
	json_t	   *policy;
	const char *arn;
	const char *name;
	json_t	   *count;
	long		number = 0;
	Queue	   *dlq;
	bool		ok = false;

	if (*value == '\0')
	{
		config->max_receive_count = 0;
		set_text(config, TEXT_REDRIVE_POLICY, "");
		return true;
	}
	policy = json_loads(value, 0, NULL);
	arn = json_string_value(json_object_get(policy, "deadLetterTargetArn"));
	count = json_object_get(policy, "maxReceiveCount");
	if (json_is_integer(count))
		number = (long) json_integer_value(count);
	else if (json_is_string(count))
		number = strtol(json_string_value(count), NULL, 10);

	name = arn ? strrchr(arn, ':') : NULL;
	dlq = name ? queue_find(name + 1) : NULL;
	if (arn == NULL || name == NULL)
		api_error(error, ERR_INVALID_PARAMETER_VALUE,
				  "Value %.512s for parameter RedrivePolicy is invalid. Reason: Redrive policy "
				  "does not contain mandatory attribute: deadLetterTargetArn.", value);
	else if (number < 1 || number > 1000)
		api_error(error, ERR_INVALID_PARAMETER_VALUE,
				  "Value %.512s for parameter RedrivePolicy is invalid. Reason: Invalid value "
				  "for maxReceiveCount: it must be between 1 and 1000.", value);
	else if (dlq == NULL)
		api_error(error, ERR_INVALID_PARAMETER_VALUE,
				  "Value %.512s for parameter RedrivePolicy is invalid. Reason: Dead letter "
				  "target does not exist.", value);
	else if (dlq->config.fifo != config->fifo)
		api_error(error, ERR_INVALID_PARAMETER_VALUE,
				  "Value %.512s for parameter RedrivePolicy is invalid. Reason: Dead-letter "
				  "queue must be same type of queue as the source.", value);
	else
	{
		config->max_receive_count = (int) number;
		snprintf(config->dlq_name, sizeof(config->dlq_name), "%s", dlq->name);
		set_text(config, TEXT_REDRIVE_POLICY, value);
		ok = true;
	}
	json_decref(policy);
	return ok;
}

/* Set one attribute from its text form. */
bool
config_set(QueueConfig *config, const char *name, const char *value, bool creating,
		   ApiError *error)
{
	bool		flag;

	for (size_t i = 0; i < lengthof(int_attributes); i++)
	{
		const struct IntAttribute *attr = &int_attributes[i];
		char	   *end;
		long		number;

		if (strcmp(name, attr->name) != 0)
			continue;
		number = strtol(value, &end, 10);
		if (end == value || *end != '\0' || number < attr->min || number > attr->max)
			return bad_value(error, name);
		*(int *) ((char *) config + attr->offset) = (int) number;
		return true;
	}
	if (strcmp(name, "FifoQueue") == 0)
	{
		if (!parse_bool(value, &flag))
			return bad_value(error, name);
		if (!creating || flag != config->fifo)
			return api_error(error, ERR_INVALID_ATTRIBUTE_NAME, "Unknown Attribute FifoQueue.");
		return true;
	}
	if (strcmp(name, "ContentBasedDeduplication") == 0)
	{
		if (!config->fifo)
			return api_error(error, ERR_INVALID_ATTRIBUTE_NAME, "Unknown Attribute %s.", name);
		return parse_bool(value, &config->content_dedup) || bad_value(error, name);
	}
	if (strcmp(name, "DeduplicationScope") == 0 && config->fifo)
	{
		config->dedup_per_group = strcmp(value, "messageGroup") == 0;
		return config->dedup_per_group || strcmp(value, "queue") == 0 || bad_value(error, name);
	}
	if (strcmp(name, "FifoThroughputLimit") == 0 && config->fifo)
	{
		config->limit_per_group = strcmp(value, "perMessageGroupId") == 0;
		return config->limit_per_group || strcmp(value, "perQueue") == 0 || bad_value(error, name);
	}
	if (strcmp(name, "RedrivePolicy") == 0)
		return set_redrive(config, value, error);
	for (int i = 0; i < TEXT_COUNT; i++)
		if (strcmp(name, text_attributes[i]) == 0)
		{
			if ((i == TEXT_SSE && *value && !parse_bool(value, &flag)) ||
				(i == TEXT_KMS_REUSE && *value && (atoi(value) < 60 || atoi(value) > 86400)))
				return bad_value(error, name);
			set_text(config, (TextAttribute) i, value);
			return true;
		}
	return api_error(error, ERR_INVALID_ATTRIBUTE_NAME, "Unknown Attribute %.200s.", name);
}

static bool
config_set_all(QueueConfig *config, json_t *map, bool creating, ApiError *error)
{
	const char *name;
	json_t	   *value;

	json_object_foreach(map, name, value)
	{
		if (!json_is_string(value))
			return api_error(error, ERR_SERIALIZATION, "An attribute's value must be a String");
		if (!config_set(config, name, json_string_value(value), creating, error))
			return false;
	}
	return true;
}

/*
 * The text of an attribute, or false if the queue has none of that name or no
 * value for it.
 */
static bool
attribute_text(const Queue *queue, const char *name, StrBuf *sb)
{
	const QueueConfig *config = &queue->config;

	sb->len = 0;
	for (size_t i = 0; i < lengthof(int_attributes); i++)
		if (strcmp(name, int_attributes[i].name) == 0)
		{
			sb_int(sb, *(const int *) ((const char *) config + int_attributes[i].offset));
			return true;
		}
	for (int i = 0; i < TEXT_COUNT; i++)
		if (strcmp(name, text_attributes[i]) == 0)
		{
			if (i == TEXT_SSE && config->text[i] == NULL)
				sb_puts(sb, config->text[TEXT_KMS_KEY] ? "false" : "true");
			else if (config->text[i] != NULL)
				sb_puts(sb, config->text[i]);
			return sb->len > 0;
		}
	if (strcmp(name, "QueueArn") == 0)
		sb_puts(sb, queue->arn);
	else if (strcmp(name, "CreatedTimestamp") == 0)
		sb_int(sb, queue->created_ms / 1000);
	else if (strcmp(name, "LastModifiedTimestamp") == 0)
		sb_int(sb, queue->modified_ms / 1000);
	else if (strcmp(name, "ApproximateNumberOfMessages") == 0)
		sb_int(sb, queue->counts[MSG_VISIBLE]);
	else if (strcmp(name, "ApproximateNumberOfMessagesNotVisible") == 0)
		sb_int(sb, queue->counts[MSG_IN_FLIGHT]);
	else if (strcmp(name, "ApproximateNumberOfMessagesDelayed") == 0)
		sb_int(sb, queue->counts[MSG_DELAYED]);
	else if (!config->fifo)
		return false;
	else if (strcmp(name, "FifoQueue") == 0)
		sb_puts(sb, "true");
	else if (strcmp(name, "ContentBasedDeduplication") == 0)
		sb_puts(sb, config->content_dedup ? "true" : "false");
	else if (strcmp(name, "DeduplicationScope") == 0)
		sb_puts(sb, config->dedup_per_group ? "messageGroup" : "queue");
	else if (strcmp(name, "FifoThroughputLimit") == 0)
		sb_puts(sb, config->limit_per_group ? "perMessageGroupId" : "perQueue");
	else
		return false;
	return true;
}

static const char *const fifo_attributes[] = {
	"FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"
};

/* All attribute names there are, one after the other; NULL at the end */
static const char *
attribute_name(size_t i)
{
	if (i < lengthof(int_attributes))
		return int_attributes[i].name;
	i -= lengthof(int_attributes);
	if (i < TEXT_COUNT)
		return text_attributes[i];
	i -= TEXT_COUNT;
	if (i < lengthof(computed_attributes))
		return computed_attributes[i];
	i -= lengthof(computed_attributes);
	return i < lengthof(fifo_attributes) ? fifo_attributes[i] : NULL;
}

bool
api_get_attributes(Request *req, Queue *queue, const json_t *in, ApiError *error)
{
	json_t	   *names;
	json_t	   *item;
	size_t		i;
	bool		all = false;
	bool		any = false;
	StrBuf		text = {0};

	if (!get_array(in, "AttributeNames", &names, error))
		return false;
	json_array_foreach(names, i, item)
	{
		const char *name = json_string_value(item);
		const char *known = NULL;

		if (name == NULL)
			return api_error(error, ERR_SERIALIZATION, "An attribute name must be a String");
		if (strcmp(name, "All") == 0)
		{
			all = true;
			continue;
		}
		for (size_t n = 0; (known = attribute_name(n)) != NULL; n++)
			if (strcmp(known, name) == 0)
				break;
		if (known == NULL)
			return api_error(error, ERR_INVALID_ATTRIBUTE_NAME, "Unknown Attribute %.200s.", name);
	}
	for (size_t n = 0; names != NULL && attribute_name(n) != NULL; n++)
	{
		const char *name = attribute_name(n);
		bool		wanted = all;

		json_array_foreach(names, i, item)
			wanted = wanted || strcmp(json_string_value(item), name) == 0;
		if (!wanted || !attribute_text(queue, name, &text))
			continue;
		sb_puts(&req->reply, any ? "," : "{\"Attributes\":{");
		sb_json_cstr(&req->reply, name);
		sb_putc(&req->reply, ':');
		sb_json(&req->reply, text.data, text.len);
		any = true;
	}
	sb_puts(&req->reply, any ? "}}" : "{}");
	sb_free(&text);
	return true;
}

bool
api_set_attributes(Request *req, Queue *queue, const json_t *in, ApiError *error)
{
	json_t	   *map;
	QueueConfig config;

	(void) req;
	if (!get_object(in, "Attributes", &map, error))
		return false;
	if (map == NULL)
		return missing_parameter(error, "Attributes");
	queue_config_copy(&config, &queue->config);
	if (!config_set_all(&config, map, false, error))
	{
		queue_config_free(&config);
		return false;
	}
	queue_config_free(&queue->config);
	queue->config = config;
	queue->modified_ms = store_now();
	return true;
}

static void
write_url(Request *req, StrBuf *sb, const Queue *queue)
{
	const char *host = http_header(req, "Host");
	StrBuf		url = {0};

	sb_puts(&url, options.tls_cert ? "https://" : "http://");
	sb_puts(&url, host ? host : "localhost");
	sb_puts(&url, "/");
	sb_puts(&url, options.account);
	sb_puts(&url, "/");
	sb_puts(&url, queue->name);
	sb_json(sb, url.data, url.len);
	sb_free(&url);
}

static void
reply_url(Request *req, const Queue *queue)
{
	sb_lit(&req->reply, "{\"QueueUrl\":");
	write_url(req, &req->reply, queue);
	sb_putc(&req->reply, '}');
}

bool
api_get_url(Request *req, Queue *queue, const json_t *in, ApiError *error)
{
	const char *name;
	const char *owner;

	if (!get_string(in, "QueueName", &name, NULL, error) ||
		!get_string(in, "QueueOwnerAWSAccountId", &owner, NULL, error))
		return false;
	if (name == NULL)
		return missing_parameter(error, "QueueName");
	queue = queue_find(name);
	if (queue == NULL || strcmp(owner != NULL ? owner : ACCOUNT_ID, options.account) != 0)
		return api_error(error, ERR_QUEUE_DOES_NOT_EXIST, "The specified queue does not exist.");
	queue->stats.calls[ACTION_GET_URL]++;
	reply_url(req, queue);
	return true;
}

bool
api_create(Request *req, Queue *queue, const json_t *in, ApiError *error)
{
	const char *name;
	json_t	   *map;
	QueueConfig config;
	bool		fifo;
	bool		fifo_name;
	size_t		len;

	if (!get_string(in, "QueueName", &name, &len, error) ||
		!get_object(in, "Attributes", &map, error))
		return false;
	if (name == NULL)
		return missing_parameter(error, "QueueName");
	fifo_name = len > 5 && strcmp(name + len - 5, ".fifo") == 0;
	fifo = json_is_string(json_object_get(map, "FifoQueue")) &&
		strcmp(json_string_value(json_object_get(map, "FifoQueue")), "true") == 0;
	if (fifo && (!fifo_name || !queue_name_valid(name)))
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "The name of a FIFO queue can only include alphanumeric characters, "
						 "hyphens, or underscores, must end with .fifo suffix and be 1 to 80 in "
						 "length.");
	if (!fifo && (fifo_name || !queue_name_valid(name)))
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "Can only include alphanumeric characters, hyphens, or underscores. 1 "
						 "to 80 in length");
	if (map != NULL && json_object_get(map, "FifoQueue") != NULL && !fifo)
		return api_error(error, ERR_INVALID_ATTRIBUTE_NAME, "Unknown Attribute FifoQueue.");

	queue_config_init(&config);
	config.fifo = fifo;
	if (!config_set_all(&config, map, true, error))
	{
		queue_config_free(&config);
		return false;
	}

	queue = queue_find(name);
	if (queue != NULL)
	{
		const char *attr;
		json_t	   *value;
		StrBuf		text = {0};
		bool		same = true;

		json_object_foreach(map, attr, value)
		{
			if (same && (!attribute_text(queue, attr, &text) ||
						 strcmp(sb_cstr(&text), json_string_value(value)) != 0))
				same = api_error(error, ERR_QUEUE_NAME_EXISTS,
								 "A queue already exists with the same name and a different "
								 "value for attribute %.200s", attr);
		}
		sb_free(&text);
		queue_config_free(&config);
		if (!same)
			return false;
	}
	else if (!options.no_cooldown && queue_deleted_recently(name))
	{
		queue_config_free(&config);
		return api_error(error, ERR_QUEUE_DELETED_RECENTLY,
						 "You must wait 60 seconds after deleting a queue before you can create "
						 "another with the same name.");
	}
	else
		queue = queue_create(name, &config);
	queue->stats.calls[ACTION_CREATE]++;
	reply_url(req, queue);
	return true;
}

bool
api_delete_queue(Request *req, Queue *queue, const json_t *in, ApiError *error)
{
	(void) in;
	api_error(error, ERR_QUEUE_DOES_NOT_EXIST, "The specified queue does not exist.");
	while (queue->waiters != NULL)
	{
		Request    *poll = queue->waiters;

		api_poll_leave(poll);
		api_reply_error(poll, error);
		http_finish(poll);
	}
	req->queue = NULL;
	queue_delete(queue);
	return true;
}

bool
api_purge(Request *req, Queue *queue, const json_t *in, ApiError *error)
{
	int64_t		now = store_now();

	(void) req;
	(void) in;
	if (!options.no_cooldown && queue->purged_ms != 0 && queue->purged_ms + COOLDOWN_MS > now)
		return api_error(error, ERR_PURGE_IN_PROGRESS,
						 "Only one PurgeQueue operation on %s is allowed every 60 seconds.",
						 queue->name);
	queue->purged_ms = now;
	queue_purge(queue);
	return true;
}

/* The token is the base64 of the last name returned. */
bool
api_list(Request *req, Queue *queue, const json_t *in, ApiError *error)
{
	const char *prefix;
	const char *token;
	size_t		token_len;
	json_int_t	max;
	bool		paged = json_is_integer(json_object_get(in, "MaxResults"));
	json_int_t	count = 0;
	char		after[128] = "";
	const char *last = NULL;

	if (!get_string(in, "QueueNamePrefix", &prefix, NULL, error) ||
		!get_string(in, "NextToken", &token, &token_len, error) ||
		!get_int(in, "MaxResults", 1000, &max, error))
		return false;
	if (max < 1 || max > 1000)
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "Value for parameter MaxResults is invalid. Reason: MaxResults must be "
						 "an integer between 1 and 1000.");
	if (token != NULL)
	{
		ptrdiff_t	len = token_len <= 120 ?
			base64_decode(token, token_len, (unsigned char *) after) : -1;

		if (len < 0)
			return api_error(error, ERR_INVALID_PARAMETER_VALUE,
							 "Invalid or expired next token.");
		after[len] = '\0';
	}

	for (queue = queue_first(); queue != NULL; queue = queue->next)
	{
		if ((prefix && strncmp(queue->name, prefix, strlen(prefix)) != 0) ||
			(token && strcmp(queue->name, after) <= 0))
			continue;
		if (count == max)
			break;
		sb_puts(&req->reply, count++ ? "," : "{\"QueueUrls\":[");
		write_url(req, &req->reply, queue);
		last = queue->name;
	}
	if (count == 0)
	{
		sb_lit(&req->reply, "{}");
		return true;
	}
	sb_putc(&req->reply, ']');
	if (paged && queue != NULL)
	{
		sb_lit(&req->reply, ",\"NextToken\":\"");
		sb_base64(&req->reply, (const unsigned char *) last, strlen(last));
		sb_putc(&req->reply, '"');
	}
	sb_putc(&req->reply, '}');
	return true;
}
