/*-------------------------------------------------------------------------
 *
 * identity.c
 *	  Where clients get keys: what STS and the metadata services have in
 *	  common, their configuration and their books.
 *
 * STS (sts.c) takes forms at /, and the metadata services (metadata.c) have
 * paths of their own.  Faults are the same as for SQS; a rule's "queue" is
 * compared with the role's ARN, for what is asked of STS.
 *
 * Keys end by the store's clock, which tests can move.  The Expiration that is
 * told with them is by the clock on the wall, as the faults have it, because
 * that is what clients see: so a client whose keys were made to expire does not
 * know it.
 *
 *-------------------------------------------------------------------------
 */
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_LIFE	3600
#define KEYS_TOLD		100		/* the newest */

/* Calls that were granted, by action and by whose they were */
typedef struct Count
{
	struct Count *next;
	Action		action;
	char	   *identity;
	int64_t		n;
} Count;

IdentityConfig identity_config;

static Count *counts;

static void
roles_free(RoleRule *rule)
{
	while (rule != NULL)
	{
		RoleRule   *next = rule->next;

		free(rule->arn);
		free(rule->external_id);
		free(rule->by);
		free(rule);
		rule = next;
	}
}

void
identity_start(void)
{
	identity_config.token_length = 356;
	identity_config.instance_role = xstrdup("sqsd-instance");
}

void
identity_reset(void)
{
	while (counts != NULL)
	{
		Count	   *count = counts;

		counts = count->next;
		free(count->identity);
		free(count);
	}
}

void
identity_stop(void)
{
	identity_reset();
	roles_free(identity_config.roles);
	free(identity_config.web_token);
	free(identity_config.expired_web_token);
	free(identity_config.container_token);
	free(identity_config.instance_role);
	free(identity_config.region);
}

void
identity_count(Action action, const char *identity)
{
	Count	   *count = counts;

	while (count != NULL &&
		   (count->action != action || strcmp(count->identity, identity) != 0))
		count = count->next;
	if (count == NULL)
	{
		count = xcalloc(1, sizeof(Count));
		count->action = action;
		count->identity = xstrdup(identity);
		count->next = counts;
		counts = count;
	}
	count->n++;
}

/* Make keys and enter them into the books; asked_life: in seconds, or 0. */
AccessKey *
identity_issue(Action source, const char *identity, int asked_life)
{
	int			life = identity_config.life > 0 ? identity_config.life :
		asked_life > 0 ? asked_life : DEFAULT_LIFE;

	return sigv4_issue(identity, source, (int64_t) life * 1000, identity_config.token_length);
}

/* A time as AWS tells it */
void
identity_time(StrBuf *sb, time_t when)
{
	struct tm	tm;
	char		text[32];

	gmtime_r(&when, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	sb_puts(sb, text);
}

/* ---- requests ---- */

static bool
is_form(Request *req)
{
	const char *type = http_header(req, "Content-Type");

	return type != NULL &&
		strncmp(type, "application/x-www-form-urlencoded", strlen("application/x-www-form-urlencoded")) == 0;
}

/* The error that a fault rule asks for, in the words of whoever is asked. */
static void
fault_error(Request *req, const FaultRule *rule, bool sts)
{
	const char *code = rule->code ? rule->code : "InternalFailure";
	int			status = rule->status ? rule->status : rule->code ? 400 : 500;
	const char *message = rule->message ? rule->message : "Injected error.";

	(sts ? sts_error : metadata_error) (req, status, code, message);
	if (rule->body != NULL)
	{
		req->reply.len = 0;
		sb_puts(&req->reply, rule->body);
		req->content_type = rule->body[0] == '<' ? "text/html" : "text/plain";
	}
}

/* If the request is for one of us, answer it. */
bool
identity_handle(Request *req, const char *path, const char *method)
{
	FaultPlan  *plan = &req->plan;
	bool		sts = strcmp(path, "/") == 0 && strcmp(method, "POST") == 0 && is_form(req);
	char	   *role = NULL;

	if (!sts && strncmp(path, "/latest/", 8) != 0 && strncmp(path, "/v1/credentials", 15) != 0 &&
		strncmp(path, "/v2/credentials", 15) != 0)
		return false;

	store_run_timers();
	req->status = 200;
	req->content_type = "text/plain";
	req->action = sts ? sts_action(req, &role) : metadata_action(path, method);
	server_stats.calls[req->action]++;
	fault_plan(plan, req->action, role);
	free(role);
	if (plan->has_reply_fault && (plan->reply_kind == FAULT_BLACKHOLE ||
								  plan->reply_kind == FAULT_RESET_BEFORE))
		 /* no work */ ;
	else if (plan->error_rule != NULL)
		fault_error(req, plan->error_rule, sts);
	else if (sts)
		sts_run(req);
	else
		metadata_run(req, path, method);
	http_finish(req);
	plan->error_rule = plan->entry_rule = NULL;
	return true;
}

/* ---- admin calls ---- */

static void
write_books(StrBuf *sb)
{
	int64_t		now = store_now();
	int			told = 0;
	bool		any = false;

	sb_lit(sb, "{\"calls\":{");
	for (int i = ACTION_SQS_COUNT; i < ACTION_UNKNOWN; i++)
		sb_printf(sb, "%s\"%s\":%lld", i > ACTION_SQS_COUNT ? "," : "", action_names[i],
				  (long long) server_stats.calls[i]);
	sb_lit(sb, "},\"granted\":[");
	for (const Count *count = counts; count != NULL; count = count->next)
	{
		sb_printf(sb, "%s{\"action\":\"%s\",\"identity\":", count == counts ? "" : ",",
				  action_names[count->action]);
		sb_json_cstr(sb, count->identity);
		sb_printf(sb, ",\"calls\":%lld}", (long long) count->n);
	}
	sb_lit(sb, "],\"keys\":[");
	for (const AccessKey *key = sigv4_keys(); key != NULL && told < KEYS_TOLD; key = key->next)
	{
		if (key->token == NULL)
			continue;
		sb_puts(sb, any ? ",{\"id\":" : "{\"id\":");
		sb_json_cstr(sb, key->id);
		sb_lit(sb, ",\"identity\":");
		sb_json_cstr(sb, key->identity);
		sb_printf(sb, ",\"source\":\"%s\",\"issued_ms\":%lld,\"expires_ms\":%lld,\"expired\":%s,"
				  "\"uses\":%lld}", action_names[key->source], (long long) key->issued_ms,
				  (long long) key->expires_ms, now >= key->expires_ms ? "true" : "false",
				  (long long) key->uses);
		any = true;
		told++;
	}
	sb_lit(sb, "]}");
}

/* A string member: null takes the setting back, and absence leaves it. */
static bool
set_string(const json_t *in, const char *name, char **setting)
{
	const json_t *value = json_object_get(in, name);

	if (value == NULL)
		return true;
	if (!json_is_string(value) && !json_is_null(value))
		return false;
	free(*setting);
	*setting = json_is_string(value) ? xstrdup(json_string_value(value)) : NULL;
	return true;
}

static bool
set_number(const json_t *in, const char *name, int min, int max, int *setting)
{
	const json_t *value = json_object_get(in, name);

	if (value == NULL)
		return true;
	if (!json_is_integer(value) || json_integer_value(value) < min ||
		json_integer_value(value) > max)
		return false;
	*setting = (int) json_integer_value(value);
	return true;
}

/* [{"arn", "external_id", "by"}, ...] or null */
static bool
set_roles(const json_t *in)
{
	const json_t *list = json_object_get(in, "roles");
	RoleRule   *rules = NULL;
	size_t		i;
	json_t	   *item;

	if (list == NULL)
		return true;
	if (!json_is_array(list) && !json_is_null(list))
		return false;
	json_array_foreach((json_t *) list, i, item)
	{
		RoleRule   *rule = xcalloc(1, sizeof(RoleRule));

		rule->next = rules;
		rules = rule;
		if (!set_string(item, "arn", &rule->arn) || rule->arn == NULL ||
			!set_string(item, "external_id", &rule->external_id) ||
			!set_string(item, "by", &rule->by))
		{
			roles_free(rules);
			return false;
		}
	}
	roles_free(identity_config.roles);
	identity_config.roles = rules;
	return true;
}

void
identity_admin(Request *req, const char *method, const json_t *in)
{
	static const char *const known[] = {
		"life", "token_length", "metadata_age", "web_token", "expired_web_token",
		"container_token", "instance_role", "region", "roles", "revoke", "forget_tokens"
	};
	IdentityConfig *config = &identity_config;
	const char *name;
	json_t	   *ignored;

	if (strcmp(method, "GET") == 0)
	{
		write_books(&req->reply);
		return;
	}
	json_object_foreach((json_t *) in, name, ignored)
	{
		bool		found = false;

		for (size_t i = 0; i < lengthof(known); i++)
			found = found || strcmp(name, known[i]) == 0;
		if (!found)
		{
			admin_problem(req, 400, "unknown member");
			return;
		}
	}
	if (!set_number(in, "life", 0, 86400 * 365, &config->life) ||
		!set_number(in, "token_length", 16, 32768, &config->token_length) ||
		!set_number(in, "metadata_age", 0, 86400 * 365, &config->metadata_age) ||
		!set_string(in, "web_token", &config->web_token) ||
		!set_string(in, "expired_web_token", &config->expired_web_token) ||
		!set_string(in, "container_token", &config->container_token) ||
		!set_string(in, "instance_role", &config->instance_role) ||
		!set_string(in, "region", &config->region) ||
		!set_roles(in))
	{
		admin_problem(req, 400, "a member has the wrong type or is out of range");
		return;
	}
	if (json_is_true(json_object_get(in, "revoke")))
		for (AccessKey *key = sigv4_keys(); key != NULL; key = key->next)
			if (key->token != NULL && key->expires_ms > store_now())
				key->expires_ms = store_now();
	if (json_is_true(json_object_get(in, "forget_tokens")))
		metadata_forget_tokens();
	sb_lit(&req->reply, "{\"ok\":true}");
}
