/*-------------------------------------------------------------------------
 *
 * api_receive.c
 *	  ReceiveMessage with long polls, DeleteMessage(Batch) and
 *	  ChangeMessageVisibility(Batch).
 *
 * A long poll waits in its queue's list of waiters.  Messages are leased only
 * when its reply is written, and only while the client's connection is still
 * open, so that a client which hung up gets nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "server.h"

#include <string.h>

typedef enum SystemAttribute
{
	SYS_SENDER_ID,
	SYS_SENT,
	SYS_RECEIVE_COUNT,
	SYS_FIRST_RECEIVE,
	SYS_SEQUENCE,
	SYS_DEDUP_ID,
	SYS_GROUP_ID,
	SYS_TRACE,
	SYS_DLQ_SOURCE,
	SYS_COUNT
} SystemAttribute;

static const char *const system_names[SYS_COUNT] = {
	"SenderId", "SentTimestamp", "ApproximateReceiveCount",
	"ApproximateFirstReceiveTimestamp", "SequenceNumber",
	"MessageDeduplicationId", "MessageGroupId", "AWSTraceHeader",
	"DeadLetterQueueSourceArn"
};

static bool
parse_system_names(const json_t *in, const char *member, unsigned *bits, ApiError *error)
{
	json_t	   *list;
	json_t	   *item;
	size_t		i;

	if (!get_array(in, member, &list, error))
		return false;
	json_array_foreach(list, i, item)
	{
		const char *name = json_string_value(item);
		int			n;

		if (name == NULL)
			return api_error(error, ERR_SERIALIZATION, "An attribute name must be a String");
		if (strcmp(name, "All") == 0)
		{
			*bits = ~0u;
			continue;
		}
		for (n = 0; n < SYS_COUNT; n++)
			if (strcmp(name, system_names[n]) == 0)
				break;
		if (n < SYS_COUNT)
			*bits |= 1u << n;
		else
			return api_error(error, ERR_INVALID_ATTRIBUTE_NAME, "Unknown Attribute %.200s.", name);
	}
	return true;
}

/* Is the message attribute among those asked for? */
static bool
name_wanted(const json_t *names, const char *name)
{
	size_t		i;
	json_t	   *item;

	json_array_foreach(names, i, item)
	{
		const char *pattern = json_string_value(item);
		size_t		len = json_string_length(item);

		if (pattern == NULL)
			continue;
		if (strcmp(pattern, "All") == 0 || strcmp(pattern, name) == 0)
			return true;
		if (len >= 2 && strcmp(pattern + len - 2, ".*") == 0 &&
			(len == 2 || strncmp(pattern, name, len - 2) == 0))
			return true;
	}
	return false;
}

static void
write_system_attribute(StrBuf *sb, const Message *msg, SystemAttribute which)
{
	switch (which)
	{
		case SYS_SENDER_ID:
			sb_json_cstr(sb, msg->sender);
			break;
		case SYS_SENT:
			sb_putc(sb, '"');
			sb_int(sb, msg->sent_ms);
			sb_putc(sb, '"');
			break;
		case SYS_RECEIVE_COUNT:
			sb_putc(sb, '"');
			sb_int(sb, msg->receive_count);
			sb_putc(sb, '"');
			break;
		case SYS_FIRST_RECEIVE:
			sb_putc(sb, '"');
			sb_int(sb, msg->first_received_ms);
			sb_putc(sb, '"');
			break;
		case SYS_SEQUENCE:
			sb_putc(sb, '"');
			sb_sequence(sb, msg->sequence);
			sb_putc(sb, '"');
			break;
		case SYS_DEDUP_ID:
			sb_json_cstr(sb, msg->dedup_id);
			break;
		case SYS_GROUP_ID:
			sb_json_cstr(sb, msg->group_id);
			break;
		case SYS_TRACE:
			sb_json_cstr(sb, msg->trace);
			break;
		case SYS_DLQ_SOURCE:
			sb_json_cstr(sb, msg->dlq_source);
			break;
		case SYS_COUNT:
			break;
	}
}

static void
write_system_attributes(StrBuf *sb, const Message *msg, unsigned bits)
{
	bool		any = false;

	if (msg->sequence == 0)
		bits &= ~(1u << SYS_SEQUENCE);
	if (msg->dedup_id == NULL)
		bits &= ~(1u << SYS_DEDUP_ID);
	if (msg->group_id == NULL)
		bits &= ~(1u << SYS_GROUP_ID);
	if (msg->trace == NULL)
		bits &= ~(1u << SYS_TRACE);
	if (msg->dlq_source == NULL)
		bits &= ~(1u << SYS_DLQ_SOURCE);
	for (int i = 0; i < SYS_COUNT; i++)
	{
		if (!(bits & 1u << i))
			continue;
		sb_puts(sb, any ? "," : ",\"Attributes\":{");
		sb_json_cstr(sb, system_names[i]);
		sb_putc(sb, ':');
		write_system_attribute(sb, msg, (SystemAttribute) i);
		any = true;
	}
	if (any)
		sb_putc(sb, '}');
}

/* The digest covers what is returned, not what the message has. */
static void
write_message_attributes(StrBuf *sb, const Message *msg, const json_t *names)
{
	const MessageAttr *wanted[MAX_ATTRIBUTES];
	unsigned char digest[16];
	int			count = 0;

	for (int i = 0; i < msg->attrs->count; i++)
		if (name_wanted(names, msg->attrs->attrs[i].name))
			wanted[count++] = &msg->attrs->attrs[i];
	if (count == 0)
		return;
	if (count == msg->attrs->count)
		memcpy(digest, msg->attrs->md5, 16);
	else
		attrs_md5(wanted, count, digest);

	sb_lit(sb, ",\"MD5OfMessageAttributes\":\"");
	sb_hex(sb, digest, 16);
	sb_lit(sb, "\",\"MessageAttributes\":{");
	for (int i = 0; i < count; i++)
	{
		const MessageAttr *attr = wanted[i];

		if (i > 0)
			sb_putc(sb, ',');
		sb_json_cstr(sb, attr->name);
		if (attr->binary)
		{
			sb_lit(sb, ":{\"BinaryValue\":\"");
			sb_base64(sb, (const unsigned char *) attr->value, attr->value_len);
			sb_putc(sb, '"');
		}
		else
		{
			sb_lit(sb, ":{\"StringValue\":");
			sb_json(sb, attr->value, attr->value_len);
		}
		sb_lit(sb, ",\"DataType\":");
		sb_json_cstr(sb, attr->type);
		sb_putc(sb, '}');
	}
	sb_putc(sb, '}');
}

static void
write_message(Request *req, const Message *msg)
{
	StrBuf	   *sb = &req->reply;
	size_t		mark;

	sb_puts(sb, sb->len ? ",{\"MessageId\":\"" : "{\"Messages\":[{\"MessageId\":\"");
	sb_uuid(sb, msg->id);
	sb_lit(sb, "\",\"ReceiptHandle\":\"");
	sb_receipt_handle(sb, msg);
	sb_lit(sb, "\",\"MD5OfBody\":\"");
	mark = sb->len;
	sb_hex(sb, msg->body_md5, 16);
	if (req->plan.bad_md5)
		sb->data[mark] = sb->data[mark] == '0' ? '1' : '0';
	sb_lit(sb, "\",\"Body\":");
	sb_json(sb, msg->body, msg->body_len);
	if (req->receive.system_names != 0)
		write_system_attributes(sb, msg, req->receive.system_names);
	if (msg->attrs != NULL && req->receive.names != NULL)
		write_message_attributes(sb, msg, req->receive.names);
	sb_putc(sb, '}');
}

/*
 * Lease what there is and write the reply; returns the number of messages.
 * Even with duplicates no reply has more messages than were asked for.
 */
static int
receive_now(Request *req)
{
	Message    *messages[MAX_BATCH_ENTRIES];
	int			max = req->plan.few > 0 && req->plan.few < req->receive.max ?
		(int) req->plan.few : req->receive.max;
	bool		twice = req->plan.duplicate && req->plan.same_reply && max > 1;
	int			count;

	req->reply.len = 0;
	count = store_receive(req->queue, twice ? max / 2 : max, req->receive.visibility, messages);
	for (int i = 0; i < count; i++)
	{
		write_message(req, messages[i]);
		if (twice)
		{
			store_lease_again(messages[i], req->receive.visibility);
			write_message(req, messages[i]);
		}
		else if (req->plan.duplicate && !req->plan.same_reply)
			store_leave_visible(messages[i]);
	}
	if (count > 0)
		sb_lit(&req->reply, "]}");
	return count;
}

static void
reply_empty(Request *req)
{
	req->queue->stats.empty_receives++;
	req->reply.len = 0;
	sb_lit(&req->reply, "{}");
	fault_recheck(&req->plan);
	fault_unfire(&req->plan);
}

bool
api_receive(Request *req, Queue *queue, const json_t *in, ApiError *error)
{
	json_int_t	max;
	json_int_t	visibility;
	json_int_t	wait;
	json_t	   *names;
	const char *attempt;

	if (!get_int(in, "MaxNumberOfMessages", 1, &max, error) ||
		!get_int(in, "VisibilityTimeout", queue->config.visibility, &visibility, error) ||
		!get_int(in, "WaitTimeSeconds", queue->config.wait, &wait, error) ||
		!get_array(in, "MessageAttributeNames", &names, error) ||
		!get_string(in, "ReceiveRequestAttemptId", &attempt, NULL, error) ||
		!parse_system_names(in, "AttributeNames", &req->receive.system_names, error) ||
		!parse_system_names(in, "MessageSystemAttributeNames", &req->receive.system_names, error))
		return false;
	if (max < 1 || max > MAX_BATCH_ENTRIES)
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "Value %lld for parameter MaxNumberOfMessages is invalid. Reason: Must "
						 "be between 1 and 10, if provided.", (long long) max);
	if (visibility < 0 || visibility > MAX_VISIBILITY)
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "Value %lld for parameter VisibilityTimeout is invalid. Reason: Must be "
						 "between 0 and 43200, if provided.", (long long) visibility);
	if (wait < 0 || wait > 20)
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "Value %lld for parameter WaitTimeSeconds is invalid. Reason: Must be "
						 ">= 0 and <= 20, if provided.", (long long) wait);
	if (attempt != NULL && !queue->config.fifo)
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "Value %.128s for parameter ReceiveRequestAttemptId is invalid. Reason: "
						 "The request includes a parameter that is not valid for this queue "
						 "type.", attempt);
	if (!queue->config.fifo && wait == 0 && queue->counts[MSG_IN_FLIGHT] >= MAX_IN_FLIGHT)
		return api_error(error, ERR_OVER_LIMIT,
						 "The maximum number of in flight messages is reached.");

	req->receive.max = (int) max;
	req->receive.visibility = (int) visibility;
	req->receive.names = names && json_array_size(names) > 0 ? json_incref(names) : NULL;
	if (receive_now(req) > 0)
		return true;
	if (wait > 0)
	{
		req->wait_next = NULL;
		req->wait_prev = queue->waiters_tail;
		if (queue->waiters_tail)
			queue->waiters_tail->wait_next = req;
		else
			queue->waiters = req;
		queue->waiters_tail = req;
		queue->open_polls++;
		if (queue->open_polls > queue->stats.max_open_polls)
			queue->stats.max_open_polls = queue->open_polls;
		http_poll_begin(req, mono_ms() + wait * 1000);
		return true;
	}
	reply_empty(req);
	return true;
}

/* Take a poll out of its queue's waiters. */
void
api_poll_leave(Request *req)
{
	Queue	   *queue = req->queue;

	if (req->wait_prev)
		req->wait_prev->wait_next = req->wait_next;
	else
		queue->waiters = req->wait_next;
	if (req->wait_next)
		req->wait_next->wait_prev = req->wait_prev;
	else
		queue->waiters_tail = req->wait_prev;
	req->wait_prev = req->wait_next = NULL;
	queue->open_polls--;
}

/* Its client has hung up. */
void
api_poll_abandoned(Request *req)
{
	req->queue->stats.abandoned_polls++;
	api_poll_leave(req);
}

void
api_poll_timeout(Request *req)
{
	api_poll_leave(req);
	reply_empty(req);
	http_finish(req);
}

/* Hand what has become visible to the polls waiting for it. */
void
api_serve_polls(void)
{
	Queue	   *queue;

	while ((queue = queue_next_woken()) != NULL)
	{
		while (queue->waiters != NULL && store_has_ready(queue))
		{
			Request    *req = queue->waiters;

			if (http_client_gone(req))
			{
				api_poll_abandoned(req);
				req->phase = PHASE_ABORT;
				http_finish(req);
				continue;
			}

			fault_recheck(&req->plan);

			/*
			 * There may be nothing after all: the messages went to the
			 * dead-letter queue, or too many are in flight.  Then wait on.
			 */
			if (receive_now(req) == 0)
				break;
			api_poll_leave(req);
			http_finish(req);
		}
	}
}

static bool
handle_result(HandleResult result, const char *handle, int seconds, ApiError *error)
{
	switch (result)
	{
		case HANDLE_OK:
			return true;
		case HANDLE_INVALID:
			return api_error(error, ERR_RECEIPT_HANDLE_INVALID,
							 "The input receipt handle \"%.1024s\" is not a valid receipt "
							 "handle.", handle);
		case HANDLE_EXPIRED:
			return api_error(error, ERR_INVALID_PARAMETER_VALUE,
							 "Value %.1024s for parameter ReceiptHandle is invalid. Reason: The "
							 "receipt handle has expired.", handle);
		case HANDLE_GONE:
			return api_error(error, ERR_INVALID_PARAMETER_VALUE,
							 "Value %.1024s for parameter ReceiptHandle is invalid. Reason: "
							 "Message does not exist or is not available for visibility timeout "
							 "change.", handle);
		case HANDLE_NOT_IN_FLIGHT:
			return api_error(error, ERR_MESSAGE_NOT_INFLIGHT,
							 "The specified message isn't in flight.");
		case HANDLE_BEYOND_LIMIT:
			return api_error(error, ERR_INVALID_PARAMETER_VALUE,
							 "Value %d for parameter VisibilityTimeout is invalid. Reason: Total "
							 "VisibilityTimeout for the message is beyond the limit [43200 "
							 "seconds].", seconds);
	}
	return false;
}

static bool
delete_one(Request *req, Queue *queue, const json_t *in, StrBuf *out, ApiError *error)
{
	const char *handle;
	size_t		len;

	(void) req;
	(void) out;
	if (!get_string(in, "ReceiptHandle", &handle, &len, error))
		return false;
	if (handle == NULL || len == 0)
		return missing_parameter(error, "ReceiptHandle");
	return handle_result(store_delete(queue, handle, len), handle, 0, error);
}

static bool
change_one(Request *req, Queue *queue, const json_t *in, StrBuf *out, ApiError *error)
{
	const char *handle;
	size_t		len;
	json_int_t	seconds;

	(void) req;
	(void) out;
	if (!get_string(in, "ReceiptHandle", &handle, &len, error) ||
		!get_int(in, "VisibilityTimeout", -1, &seconds, error))
		return false;
	if (handle == NULL || len == 0)
		return missing_parameter(error, "ReceiptHandle");
	if (!json_is_integer(json_object_get(in, "VisibilityTimeout")))
		return missing_parameter(error, "VisibilityTimeout");
	if (seconds < 0 || seconds > MAX_VISIBILITY)
		return api_error(error, ERR_INVALID_PARAMETER_VALUE,
						 "Value %lld for parameter VisibilityTimeout is invalid. Reason: Must be "
						 "between 0 and 43200, if provided.", (long long) seconds);
	return handle_result(store_change_visibility(queue, handle, len, (int) seconds),
						 handle, (int) seconds, error);
}

bool
api_delete(Request *req, Queue *queue, const json_t *in, ApiError *error)
{
	return delete_one(req, queue, in, &req->reply, error);
}

bool
api_delete_batch(Request *req, Queue *queue, const json_t *in, ApiError *error)
{
	json_t	   *entries;

	if (!batch_check(in, "DeleteMessageBatchRequestEntry", &entries, error))
		return false;
	batch_run(req, queue, entries, delete_one);
	return true;
}

bool
api_change(Request *req, Queue *queue, const json_t *in, ApiError *error)
{
	return change_one(req, queue, in, &req->reply, error);
}

bool
api_change_batch(Request *req, Queue *queue, const json_t *in, ApiError *error)
{
	json_t	   *entries;

	if (!batch_check(in, "ChangeMessageVisibilityBatchRequestEntry", &entries, error))
		return false;
	batch_run(req, queue, entries, change_one);
	return true;
}
