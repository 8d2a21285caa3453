/*-------------------------------------------------------------------------
 *
 * admin.c
 *	  The calls under /_sqsd/ by which tests steer and watch the server.
 *
 *-------------------------------------------------------------------------
 */
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ADVANCE_SECONDS	(10 * 365 * 86400)
#define MAX_FILL			10000000

static const char *const state_names[] = {
	[MSG_VISIBLE] = "visible",[MSG_IN_FLIGHT] = "in_flight",[MSG_DELAYED] = "delayed"
};

void
admin_problem(Request *req, int status, const char *text)
{
	req->status = status;
	req->reply.len = 0;
	sb_lit(&req->reply, "{\"error\":");
	sb_json_cstr(&req->reply, text);
	sb_putc(&req->reply, '}');
}

/* Copy body to sb with every {i} replaced by the number. */
static void
expand(StrBuf *sb, const char *body, int64_t number)
{
	const char *mark;

	sb->len = 0;
	while ((mark = strstr(body, "{i}")) != NULL)
	{
		sb_append(sb, body, (size_t) (mark - body));
		sb_int(sb, number);
		body = mark + 3;
	}
	sb_puts(sb, body);
}

static void
admin_fill(Request *req, const json_t *in)
{
	const char *name = json_string_value(json_object_get(in, "queue"));
	Queue	   *queue = name ? queue_find(name) : NULL;
	const char *body = json_string_value(json_object_get(in, "body"));
	json_int_t	count = json_integer_value(json_object_get(in, "count"));
	const json_t *value = json_object_get(in, "start");
	json_int_t	start = json_is_integer(value) ? json_integer_value(value) : 1;
	json_int_t	groups;
	StrBuf		text = {0};

	value = json_object_get(in, "groups");
	groups = json_is_integer(value) && json_integer_value(value) > 0 ? json_integer_value(value) : 1;
	if (queue == NULL)
	{
		admin_problem(req, 404, "no such queue");
		return;
	}
	if (count < 0 || count > MAX_FILL || start < -INT32_MAX || start > INT64_MAX / 2)
	{
		admin_problem(req, 400, "count or start is out of range");
		return;
	}
	if (body == NULL || *body == '\0')
		body = "{i}";
	for (json_int_t i = start; i < start + count; i++)
	{
		SendSpec	spec = {0};
		SendResult	result;
		char		group[32];
		char		dedup[40];

		expand(&text, body, i);
		spec.body = text.data;
		spec.body_len = text.len;
		spec.delay = -1;
		if (queue->config.fifo)
		{
			unsigned char id[16];

			random_uuid(id);
			hex_encode(id, 16, dedup);
			dedup[32] = '\0';
			snprintf(group, sizeof(group), "g%lld", (long long) (i % groups));
			spec.group_id = group;
			spec.dedup_id = dedup;
		}
		store_send(queue, &spec, &result);
	}
	sb_free(&text);
	sb_printf(&req->reply, "{\"sent\":%lld}", (long long) count);
}

static void
write_calls(StrBuf *sb, const int64_t *calls)
{
	bool		any = false;

	sb_lit(sb, "\"calls\":{");
	for (int i = 0; i <= ACTION_UNKNOWN; i++)
	{
		if (calls[i] == 0)
			continue;
		sb_printf(sb, "%s\"%s\":%lld", any ? "," : "", action_names[i], (long long) calls[i]);
		any = true;
	}
	sb_putc(sb, '}');
}

static void
write_queue_stats(StrBuf *sb, const Queue *queue)
{
	const QueueStats *stats = &queue->stats;
	const struct
	{
		const char *name;
		int64_t		value;
	}			numbers[] = {
		{"sent", stats->sent},
		{"received", stats->received},
		{"first_deliveries", stats->first_deliveries},
		{"redelivered", stats->redelivered},
		{"deleted", stats->deleted},
		{"delete_stale", stats->delete_stale},
		{"delete_unknown", stats->delete_unknown},
		{"visibility_changes", stats->visibility_changes},
		{"visibility_zero", stats->visibility_zero},
		{"visible", queue->counts[MSG_VISIBLE]},
		{"in_flight", queue->counts[MSG_IN_FLIGHT]},
		{"max_in_flight", stats->max_in_flight},
		{"delayed", queue->counts[MSG_DELAYED]},
		{"dead_lettered", stats->dead_lettered},
		{"expired_leases", stats->expired_leases},
		{"deduplicated", stats->deduplicated},
		{"purged", stats->purged},
		{"retention_expired", stats->retention_expired},
		{"bytes_in", stats->bytes_in},
		{"bytes_out", stats->bytes_out},
		{"empty_receives", stats->empty_receives},
		{"open_polls", queue->open_polls},
		{"max_open_polls", stats->max_open_polls},
		{"abandoned_polls", stats->abandoned_polls},
	};

	sb_putc(sb, '{');
	for (size_t i = 0; i < lengthof(numbers); i++)
		sb_printf(sb, "\"%s\":%lld,", numbers[i].name, (long long) numbers[i].value);
	write_calls(sb, stats->calls);
	sb_putc(sb, '}');
}

static void
admin_stats(Request *req)
{
	StrBuf	   *sb = &req->reply;

	sb_printf(sb, "{\"uptime_ms\":%lld,\"connections\":{\"open\":%lld,\"total\":%lld},",
			  (long long) (mono_ms() - server_stats.start_ms),
			  (long long) server_stats.connections_open,
			  (long long) server_stats.connections_total);
	write_calls(sb, server_stats.calls);
	sb_printf(sb, ",\"errors\":%lld,\"auth_failures\":%lld,\"queues\":{",
			  (long long) server_stats.errors, (long long) server_stats.auth_failures);
	for (Queue *queue = queue_first(); queue != NULL; queue = queue->next)
	{
		if (queue != queue_first())
			sb_putc(sb, ',');
		sb_json_cstr(sb, queue->name);
		sb_putc(sb, ':');
		write_queue_stats(sb, queue);
	}
	sb_lit(sb, "}}");
}

/* When the latest calls of an action came, the oldest first */
static void
admin_calls(Request *req)
{
	const char *name;
	const char *action_name;
	Queue	   *queue;
	Action		action;
	const CallTimes *times;

	admin_argument(req, "queue", &name);
	admin_argument(req, "action", &action_name);
	queue = name ? queue_find(name) : NULL;
	action = action_name ? action_by_name(action_name) : ACTION_UNKNOWN;
	if (queue == NULL || action == ACTION_UNKNOWN)
	{
		admin_problem(req, 404, queue == NULL ? "no such queue" : "no such action");
		return;
	}
	times = queue->call_times[action];

	sb_putc(&req->reply, '[');
	if (times != NULL)
	{
		int64_t		first = times->count > CALL_TIMES_KEPT ? times->count - CALL_TIMES_KEPT : 0;

		for (int64_t i = first; i < times->count; i++)
			sb_printf(&req->reply, "%s%lld", i > first ? "," : "",
					  (long long) times->ms[i % CALL_TIMES_KEPT]);
	}
	sb_putc(&req->reply, ']');
}

/* The first 200 bytes of a text, cut where a character starts */
static size_t
clip(const char *body, size_t len)
{
	if (len <= 200)
		return len;
	len = 200;
	while (len > 0 && ((unsigned char) body[len] & 0xc0) == 0x80)
		len--;
	return len;
}

static void
write_live(StrBuf *sb, const Message *msg, int64_t now)
{
	sb_lit(sb, "{\"id\":\"");
	sb_uuid(sb, msg->id);
	sb_lit(sb, "\",\"body_md5\":\"");
	sb_hex(sb, msg->body_md5, 16);
	sb_lit(sb, "\",\"body\":");
	sb_json(sb, msg->body, clip(msg->body, msg->body_len));
	sb_printf(sb, ",\"state\":\"%s\",\"deliveries\":%u,\"group_id\":",
			  state_names[msg->state], msg->receive_count);
	sb_json_cstr(sb, msg->group_id);
	sb_printf(sb, ",\"sent_ms\":%lld,\"visible_in_ms\":%lld,\"deleted_at_ms\":null}",
			  (long long) msg->sent_ms,
			  msg->state == MSG_VISIBLE ? 0LL : (long long) (msg->timer.due - now));
}

static void
write_deleted(StrBuf *sb, const DeletedMessage *record)
{
	sb_lit(sb, "{\"id\":\"");
	sb_uuid(sb, record->id);
	sb_lit(sb, "\",\"body_md5\":\"");
	sb_hex(sb, record->body_md5, 16);
	sb_printf(sb, "\",\"body\":null,\"state\":\"deleted\",\"deliveries\":%u,\"group_id\":null,"
			  "\"sent_ms\":%lld,\"visible_in_ms\":null,\"deleted_at_ms\":%lld}",
			  record->receive_count, (long long) record->sent_ms, (long long) record->deleted_ms);
}

/* Live messages in order of arrival, then deleted ones in order of deletion */
static void
admin_messages(Request *req)
{
	const char *name;
	const char *limit_text;
	const char *state;
	Queue	   *queue;
	int64_t		limit = INT64_MAX;
	int64_t		written = 0;
	StrBuf	   *sb = &req->reply;
	int64_t		now = store_now();

	admin_argument(req, "queue", &name);
	admin_argument(req, "limit", &limit_text);
	admin_argument(req, "state", &state);
	queue = name ? queue_find(name) : NULL;
	if (queue == NULL)
	{
		admin_problem(req, 404, "no such queue");
		return;
	}
	if (limit_text != NULL)
		limit = atoll(limit_text);

	sb_putc(sb, '[');
	for (Message *msg = queue->first; msg != NULL && written < limit; msg = msg->next)
	{
		if (state != NULL && strcmp(state, state_names[msg->state]) != 0)
			continue;
		if (written++ > 0)
			sb_putc(sb, ',');
		write_live(sb, msg, now);
	}
	if (state == NULL || strcmp(state, "deleted") == 0)
		for (size_t i = 0; i < queue->books_len && written < limit; i++)
		{
			if (written++ > 0)
				sb_putc(sb, ',');
			write_deleted(sb, &queue->books[(queue->books_start + i) % queue->books_len]);
		}
	sb_putc(sb, ']');
}

static void
admin_fault(Request *req, const char *method, const json_t *in)
{
	char		text[256];
	int			id;
	const char *argument;

	if (strcmp(method, "GET") == 0)
		fault_list(&req->reply);
	else if (strcmp(method, "DELETE") == 0)
	{
		admin_argument(req, "id", &argument);
		if (argument == NULL)
			fault_remove_all();
		else if (!fault_remove(atoi(argument)))
		{
			admin_problem(req, 404, "no such fault");
			return;
		}
		sb_lit(&req->reply, "{\"ok\":true}");
	}
	else if (fault_add(in, &id, text, sizeof(text)))
		sb_printf(&req->reply, "{\"id\":%d}", id);
	else
		admin_problem(req, 400, text);
}

static void
admin_reset(Request *req)
{
	queue_reset_all();
	fault_remove_all();
	identity_reset();
	memset(server_stats.calls, 0, sizeof(server_stats.calls));
	server_stats.errors = 0;
	server_stats.auth_failures = 0;
	server_stats.connections_total = server_stats.connections_open;
	sb_lit(&req->reply, "{\"ok\":true}");
}

static void
admin_advance(Request *req, const json_t *in)
{
	double		seconds = json_number_value(json_object_get(in, "seconds"));

	/* The clock only goes forward, as the expiry lists rely on that. */
	if (seconds < 0 || seconds > MAX_ADVANCE_SECONDS)
	{
		admin_problem(req, 400, "seconds is out of range");
		return;
	}
	store_advance((int64_t) (seconds * 1000));
	sb_lit(&req->reply, "{\"ok\":true}");
}

static void
admin_sender(Request *req, const json_t *in)
{
	const char *id = json_string_value(json_object_get(in, "id"));

	if (id == NULL || !store_set_sender(id))
	{
		admin_problem(req, 400, "id must be a string of at most 63 bytes");
		return;
	}
	sb_lit(&req->reply, "{\"ok\":true}");
}

void
admin_handle(Request *req, const char *path, const char *method)
{
	json_t	   *in = NULL;
	const char *call = path + strlen("/_sqsd/");
	bool		post = strcmp(method, "POST") == 0;

	req->status = 200;
	req->content_type = "application/json";
	req->action = ACTION_UNKNOWN;
	store_run_timers();
	if (post && req->body.len > 0)
	{
		in = json_loadb(req->body.data, req->body.len, 0, NULL);
		if (!json_is_object(in))
		{
			json_decref(in);
			admin_problem(req, 400, "the body must be a JSON object");
			http_finish(req);
			return;
		}
	}

	if (strcmp(call, "health") == 0 && !post)
		sb_lit(&req->reply, "{\"ok\":true}");
	else if (strcmp(call, "stats") == 0 && !post)
		admin_stats(req);
	else if (strcmp(call, "calls") == 0 && !post)
		admin_calls(req);
	else if (strcmp(call, "messages") == 0 && !post)
		admin_messages(req);
	else if (strcmp(call, "fault") == 0)
		admin_fault(req, method, in);
	else if (strcmp(call, "fill") == 0 && post)
		admin_fill(req, in);
	else if (strcmp(call, "reset") == 0 && post)
		admin_reset(req);
	else if (strcmp(call, "advance") == 0 && post)
		admin_advance(req, in);
	else if (strcmp(call, "sender") == 0 && post)
		admin_sender(req, in);
	else if (strcmp(call, "identity") == 0)
		identity_admin(req, method, in);
	else
		admin_problem(req, 404, "no such admin call");
	json_decref(in);
	http_finish(req);
}
