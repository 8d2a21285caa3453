/*-------------------------------------------------------------------------
 *
 * fault.c
 *	  Rules by which the server misbehaves on purpose.
 *
 * All rules which match a request are gathered into its FaultPlan when it
 * arrives.  Latency and clock shifts add up and go together with anything;
 * of the kinds which replace or spoil the reply the oldest rule wins, and
 * later ones do not fire.
 *
 *-------------------------------------------------------------------------
 */
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NUMBER (INT64_C(1) << 40)

static FaultRule *rules;
static int	last_id;

/* The kinds with the parameters that number and flag stand for */
static const struct
{
	const char *name;
	const char *number;
	json_int_t	number_default;
	const char *flag;
	bool		alters_reply;
}			kinds[FAULT_KIND_COUNT] = {
	[FAULT_LATENCY] = {"latency", "ms", 100, NULL, false},
	[FAULT_ERROR] = {"error", "status", 0, NULL, true},
	[FAULT_RESET_BEFORE] = {"reset_before", NULL, 0, NULL, true},
	[FAULT_RESET_AFTER] = {"reset_after", NULL, 0, NULL, true},
	[FAULT_TRUNCATE] = {"truncate", "bytes", 10, NULL, true},
	[FAULT_GARBAGE] = {"garbage", NULL, 0, "raw", true},
	[FAULT_HUGE] = {"huge", "bytes", 64 * 1024 * 1024, NULL, true},
	[FAULT_DUPLICATE] = {"duplicate", NULL, 0, "same_reply", false},
	[FAULT_CLOCK] = {"clock", "seconds", 0, NULL, false},
	[FAULT_ENTRY_FAIL] = {"entry_fail", "every", 1, "sender_fault", false},
	[FAULT_BLACKHOLE] = {"blackhole", NULL, 0, NULL, true},
	[FAULT_LOSE_REPLY] = {"lose_reply", NULL, 0, NULL, true},
	[FAULT_BAD_MD5] = {"bad_md5", NULL, 0, NULL, false},
	[FAULT_IDLE_CLOSE] = {"idle_close", "seconds", 1, NULL, false},
	[FAULT_FEW] = {"few", "messages", 7, NULL, false},
};

static bool
is_batch(Action action)
{
	return action == ACTION_SEND_BATCH || action == ACTION_DELETE_BATCH ||
		action == ACTION_CHANGE_BATCH;
}

/* Can this kind do anything to this action? */
static bool
kind_applies(FaultKind kind, Action action)
{
	switch (kind)
	{
		case FAULT_DUPLICATE:
		case FAULT_FEW:
			return action == ACTION_RECEIVE;
		case FAULT_BAD_MD5:
			return action == ACTION_RECEIVE || action == ACTION_SEND ||
				action == ACTION_SEND_BATCH;
		case FAULT_ENTRY_FAIL:
			return is_batch(action);
		default:
			return true;
	}
}

static bool
rule_fires(FaultRule *rule, const FaultPlan *plan, Action action, const char *queue_name)
{
	if ((!rule->any_action && rule->action != action) ||
		!kind_applies(rule->kind, action) ||
		(rule->queue != NULL && (queue_name == NULL || strcmp(rule->queue, queue_name) != 0)))
		return false;
	if (kinds[rule->kind].alters_reply && plan->has_reply_fault)
		return false;
	if (rule->matched++ < rule->skip)
		return false;
	if (rule->count >= 0 && rule->fired >= rule->count)
		return false;
	if (rule->probability < 1 && random_double() >= rule->probability)
		return false;
	rule->fired++;
	return true;
}

void
fault_plan(FaultPlan *plan, Action action, const char *queue_name)
{
	memset(plan, 0, sizeof(*plan));
	for (FaultRule *rule = rules; rule != NULL; rule = rule->next)
	{
		if (!rule_fires(rule, plan, action, queue_name))
			continue;
		switch (rule->kind)
		{
			case FAULT_LATENCY:
				plan->latency_ms += rule->number;
				break;
			case FAULT_CLOCK:
				plan->clock_shift += rule->number;
				break;
			case FAULT_DUPLICATE:
				plan->duplicate = true;
				plan->duplicate_rule = rule->id;
				plan->same_reply = rule->flag;
				break;
			case FAULT_IDLE_CLOSE:
				plan->idle_seconds = rule->number;
				break;
			case FAULT_FEW:
				plan->few = rule->number;
				break;
			case FAULT_BAD_MD5:
				plan->bad_md5 = true;
				plan->md5_rule = rule->id;
				break;
			case FAULT_ENTRY_FAIL:
				plan->entry_rule = rule;
				break;
			default:
				plan->has_reply_fault = true;
				plan->reply_kind = rule->kind;
				plan->reply_rule = rule->id;
				plan->bytes = rule->number;
				plan->raw = rule->flag;
				if (rule->kind == FAULT_ERROR)
					plan->error_rule = rule;
				break;
		}
	}
}

/* Rules for non-empty receives have met an empty one. */
void
fault_unfire(FaultPlan *plan)
{
	for (FaultRule *rule = rules; rule != NULL; rule = rule->next)
	{
		if (!rule->nonempty ||
			(rule->id != plan->reply_rule && rule->id != plan->duplicate_rule &&
			 rule->id != plan->md5_rule))
			continue;
		rule->fired--;
		rule->matched--;
		if (rule->id == plan->reply_rule)
			plan->has_reply_fault = false;
	}
}

static bool
rule_lives(int id)
{
	for (FaultRule *rule = rules; rule != NULL; rule = rule->next)
		if (rule->id == id)
			return true;
	return false;
}

/*
 * A long poll is about to get messages: what was to be done to its reply is
 * only done if the rule is still there, so that nothing happens after the end
 * of a fault.
 */
void
fault_recheck(FaultPlan *plan)
{
	if (plan->has_reply_fault && !rule_lives(plan->reply_rule))
		plan->has_reply_fault = false;
	if (plan->duplicate && !rule_lives(plan->duplicate_rule))
		plan->duplicate = false;
	if (plan->bad_md5 && !rule_lives(plan->md5_rule))
		plan->bad_md5 = false;
}

/*
 * Shall the next entry of a batch fail?  Entries are counted over all calls.
 * group: its message group, or NULL.
 */
bool
fault_entry_fails(FaultPlan *plan, const char *group)
{
	FaultRule  *rule = plan->entry_rule;

	if (rule != NULL && rule->group != NULL &&
		(group == NULL || strcmp(rule->group, group) != 0))
		return false;
	return rule != NULL && ++rule->entries % rule->number == 0;
}

static char *
string_member(const json_t *spec, const char *name)
{
	const char *value = json_string_value(json_object_get(spec, name));

	return value ? xstrdup(value) : NULL;
}

static void
rule_free(FaultRule *rule)
{
	free(rule->queue);
	free(rule->group);
	free(rule->code);
	free(rule->message);
	free(rule->body);
	free(rule);
}

static bool
rule_fill(FaultRule *rule, const json_t *spec, char *problem, size_t size)
{
	static const char *const known[] = {
		"kind", "action", "queue", "count", "skip", "probability", "nonempty", "code",
		"message", "body"
	};
	const char *kind = json_string_value(json_object_get(spec, "kind"));
	const char *action = json_string_value(json_object_get(spec, "action"));
	const json_t *value;
	const char *name;
	json_t	   *ignored;
	int			i;

	for (i = 0; i < FAULT_KIND_COUNT; i++)
		if (kind != NULL && strcmp(kind, kinds[i].name) == 0)
			break;
	if (i == FAULT_KIND_COUNT)
	{
		snprintf(problem, size, "unknown fault kind \"%s\"", kind ? kind : "");
		return false;
	}
	rule->kind = (FaultKind) i;

	/* A misspelt parameter must not make a test pass by chance. */
	json_object_foreach((json_t *) spec, name, ignored)
	{
		bool		found = (kinds[i].number && strcmp(name, kinds[i].number) == 0) ||
			(kinds[i].flag && strcmp(name, kinds[i].flag) == 0) ||
			(i == FAULT_ENTRY_FAIL && strcmp(name, "group") == 0);

		for (size_t n = 0; n < lengthof(known); n++)
			found = found || strcmp(name, known[n]) == 0;
		if (!found)
		{
			snprintf(problem, size, "fault kind \"%s\" has no parameter \"%s\"", kind, name);
			return false;
		}
	}

	rule->any_action = action == NULL || strcmp(action, "*") == 0;
	rule->action = rule->any_action ? ACTION_UNKNOWN : action_by_name(action);
	if (!rule->any_action && rule->action == ACTION_UNKNOWN)
	{
		snprintf(problem, size, "unknown action \"%s\"", action);
		return false;
	}

	value = json_object_get(spec, "count");
	rule->count = json_is_integer(value) ? json_integer_value(value) : -1;
	rule->skip = json_integer_value(json_object_get(spec, "skip"));
	value = json_object_get(spec, "probability");
	rule->probability = json_is_number(value) ? json_number_value(value) : 1;
	rule->nonempty = json_is_true(json_object_get(spec, "nonempty"));
	rule->queue = string_member(spec, "queue");
	rule->group = string_member(spec, "group");
	rule->code = string_member(spec, "code");
	rule->message = string_member(spec, "message");
	rule->body = string_member(spec, "body");

	rule->number = kinds[rule->kind].number_default;
	value = kinds[rule->kind].number ? json_object_get(spec, kinds[rule->kind].number) : NULL;
	if (json_is_integer(value))
		rule->number = json_integer_value(value);
	if (kinds[rule->kind].flag)
		rule->flag = json_is_true(json_object_get(spec, kinds[rule->kind].flag));
	if (rule->kind == FAULT_ERROR)
		rule->status = (int) rule->number;
	if ((rule->number < 0 && rule->kind != FAULT_CLOCK) ||
		rule->number > MAX_NUMBER || rule->number < -MAX_NUMBER ||
		(rule->number < 1 && (rule->kind == FAULT_ENTRY_FAIL || rule->kind == FAULT_IDLE_CLOSE)) ||
		(rule->status != 0 && (rule->status < 200 || rule->status > 599)))
	{
		snprintf(problem, size, "parameter \"%s\" is out of range", kinds[rule->kind].number);
		return false;
	}
	return true;
}

bool
fault_add(const json_t *spec, int *id, char *problem, size_t size)
{
	FaultRule  *rule = xcalloc(1, sizeof(FaultRule));
	FaultRule **p = &rules;

	if (!rule_fill(rule, spec, problem, size))
	{
		rule_free(rule);
		return false;
	}
	while (*p != NULL)
		p = &(*p)->next;
	*p = rule;
	rule->id = *id = ++last_id;
	return true;
}

bool
fault_remove(int id)
{
	for (FaultRule **p = &rules; *p != NULL; p = &(*p)->next)
	{
		FaultRule  *rule = *p;

		if (rule->id != id)
			continue;
		*p = rule->next;
		rule_free(rule);
		return true;
	}
	return false;
}

void
fault_remove_all(void)
{
	while (rules != NULL)
		fault_remove(rules->id);
}

void
fault_list(StrBuf *sb)
{
	sb_putc(sb, '[');
	for (FaultRule *rule = rules; rule != NULL; rule = rule->next)
	{
		sb_printf(sb, "%s{\"id\":%d,\"kind\":\"%s\",\"action\":\"%s\",\"queue\":",
				  rule == rules ? "" : ",", rule->id, kinds[rule->kind].name,
				  rule->any_action ? "*" : action_names[rule->action]);
		sb_json_cstr(sb, rule->queue);
		sb_printf(sb, ",\"count\":%lld,\"skip\":%lld,\"probability\":%g,\"matched\":%lld,"
				  "\"fired\":%lld}", (long long) rule->count, (long long) rule->skip,
				  rule->probability, (long long) rule->matched, (long long) rule->fired);
	}
	sb_putc(sb, ']');
}
