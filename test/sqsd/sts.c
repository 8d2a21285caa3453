/*-------------------------------------------------------------------------
 *
 * sts.c
 *	  STS: AssumeRole, AssumeRoleWithWebIdentity, GetCallerIdentity.
 *
 * Requests are forms; replies are XML, or JSON if the request accepts that.
 * The texts of the errors follow AWS's.
 *
 *-------------------------------------------------------------------------
 */
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define NAMESPACE "https://sts.amazonaws.com/doc/2011-06-15/"

/* ---- the form ---- */

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
		c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The decoded value of a form's member, to be freed; NULL if it is not there. */
static char *
form_value(const Request *req, const char *name)
{
	const char *p = req->body.data;
	const char *end = p + req->body.len;
	size_t		name_len = strlen(name);

	while (p != NULL && p < end)
	{
		const char *amp = memchr(p, '&', (size_t) (end - p));
		const char *stop = amp ? amp : end;

		if ((size_t) (stop - p) > name_len && memcmp(p, name, name_len) == 0 &&
			p[name_len] == '=')
		{
			char	   *value = xmalloc((size_t) (stop - p));
			char	   *out = value;

			for (p += name_len + 1; p < stop; p++)
			{
				if (*p == '%' && stop - p > 2 && hex_digit(p[1]) >= 0 && hex_digit(p[2]) >= 0)
				{
					*out++ = (char) (hex_digit(p[1]) * 16 + hex_digit(p[2]));
					p += 2;
				}
				else
					*out++ = *p == '+' ? ' ' : *p;
			}
			*out = '\0';
			return value;
		}
		p = stop + 1;
	}
	return NULL;
}

/* What the request is; *role: the role it is about, to be freed. */
Action
sts_action(const Request *req, char **role)
{
	char	   *name = form_value(req, "Action");
	Action		action = ACTION_UNKNOWN;

	for (int i = ACTION_ASSUME_ROLE; i <= ACTION_CALLER; i++)
		if (name != NULL && strcmp(name, action_names[i]) == 0)
			action = (Action) i;
	free(name);
	*role = form_value(req, "RoleArn");
	return action;
}

/* ---- replies ---- */

static bool
wants_json(Request *req)
{
	const char *accept = http_header(req, "Accept");

	return accept != NULL && strstr(accept, "application/json") != NULL;
}

static void
sb_xml(StrBuf *sb, const char *text)
{
	for (; *text != '\0'; text++)
	{
		switch (*text)
		{
			case '<':
				sb_lit(sb, "&lt;");
				break;
			case '>':
				sb_lit(sb, "&gt;");
				break;
			case '&':
				sb_lit(sb, "&amp;");
				break;
			case '"':
				sb_lit(sb, "&quot;");
				break;
			default:
				sb_putc(sb, *text);
		}
	}
}

/*
 * A reply is written by opening and closing objects and giving members; "first"
 * is whether a comma is not due, in JSON.
 */
typedef struct Writer
{
	StrBuf	   *sb;
	bool		json;
	bool		first;
} Writer;

static void
open_object(Writer *w, const char *name)
{
	if (!w->json)
		sb_printf(w->sb, "<%s>", name);
	else
		sb_printf(w->sb, "%s\"%s\":{", w->first ? "" : ",", name);
	w->first = true;
}

static void
close_object(Writer *w, const char *name)
{
	if (!w->json)
		sb_printf(w->sb, "</%s>", name);
	else
		sb_putc(w->sb, '}');
	w->first = false;
}

static void
put(Writer *w, const char *name, const char *value)
{
	if (w->json)
	{
		sb_printf(w->sb, "%s\"%s\":", w->first ? "" : ",", name);
		sb_json_cstr(w->sb, value);
	}
	else
	{
		sb_printf(w->sb, "<%s>", name);
		sb_xml(w->sb, value);
		sb_printf(w->sb, "</%s>", name);
	}
	w->first = false;
}

/* JSON has seconds, XML a text. */
static void
put_time(Writer *w, const char *name, time_t when)
{
	StrBuf		text = {0};

	if (w->json)
		sb_printf(w->sb, "%s\"%s\":%lld", w->first ? "" : ",", name, (long long) when);
	else
	{
		identity_time(&text, when);
		put(w, name, sb_cstr(&text));
		sb_free(&text);
	}
	w->first = false;
}

static Writer
begin(Request *req)
{
	Writer		w = {&req->reply, wants_json(req), true};

	req->reply.len = 0;
	req->content_type = w.json ? "application/json" : "text/xml";
	if (w.json)
		sb_putc(w.sb, '{');
	return w;
}

static void
end(Writer *w)
{
	if (w->json)
		sb_putc(w->sb, '}');
}

static Writer
begin_result(Request *req)
{
	Writer		w = begin(req);
	char		name[64];

	snprintf(name, sizeof(name), "%sResponse", action_names[req->action]);
	if (w.json)
		open_object(&w, name);
	else
		sb_printf(w.sb, "<%s xmlns=\"" NAMESPACE "\">", name);
	snprintf(name, sizeof(name), "%sResult", action_names[req->action]);
	open_object(&w, name);
	return w;
}

static void
end_result(Request *req, Writer *w)
{
	char		name[64];

	snprintf(name, sizeof(name), "%sResult", action_names[req->action]);
	close_object(w, name);
	open_object(w, "ResponseMetadata");
	put(w, "RequestId", "00000000-0000-0000-0000-000000000000");
	close_object(w, "ResponseMetadata");
	snprintf(name, sizeof(name), "%sResponse", action_names[req->action]);
	close_object(w, name);
	end(w);
}

void
sts_error(Request *req, int status, const char *code, const char *message)
{
	Writer		w = begin(req);

	req->status = status;
	if (!w.json)
		sb_lit(w.sb, "<ErrorResponse xmlns=\"" NAMESPACE "\">");
	open_object(&w, "Error");
	put(&w, "Type", status >= 500 ? "Receiver" : "Sender");
	put(&w, "Code", code);
	put(&w, "Message", message);
	close_object(&w, "Error");
	put(&w, "RequestId", "00000000-0000-0000-0000-000000000000");
	if (!w.json)
		sb_lit(w.sb, "</ErrorResponse>");
	end(&w);
}

/* ---- the calls ---- */

static bool
refuse(Request *req, int status, const char *code, const char *message)
{
	sts_error(req, status, code, message);
	return false;
}

static bool
session_name_valid(const char *name)
{
	size_t		len = strlen(name);

	return len >= 2 && len <= 64 &&
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+=,.@-") == len;
}

/* The name of the role of an ARN without its path; NULL if it is none. */
static const char *
role_name(const char *arn)
{
	const char *role = strncmp(arn, "arn:", 4) == 0 ? strstr(arn, ":role/") : NULL;
	const char *slash = role ? strrchr(role, '/') : NULL;

	return slash != NULL && slash[1] != '\0' ? slash + 1 : NULL;
}

/* May the caller assume it, as far as the configuration has rules? */
static bool
role_allowed(const Request *req, const char *arn, const char *external_id)
{
	const char *caller = req->caller ? req->caller->identity : "";

	if (identity_config.roles == NULL)
		return true;
	for (const RoleRule *rule = identity_config.roles; rule != NULL; rule = rule->next)
	{
		if (strcmp(rule->arn, arn) == 0 &&
			(rule->external_id == NULL ||
			 (external_id != NULL && strcmp(rule->external_id, external_id) == 0)) &&
			(rule->by == NULL || strcmp(rule->by, caller) == 0))
			return true;
	}
	return false;
}

static bool
check_web_token(Request *req, const char *token)
{
	const IdentityConfig *config = &identity_config;

	if (token == NULL || *token == '\0')
		return refuse(req, 400, "ValidationError",
					  "1 validation error detected: Value null at 'webIdentityToken' failed to satisfy "
					  "constraint: Member must not be null");
	if (config->expired_web_token != NULL && strcmp(token, config->expired_web_token) == 0)
		return refuse(req, 400, "ExpiredTokenException",
					  "Token expired: current date/time must be before the expiration date/time");
	if (config->web_token != NULL && strcmp(token, config->web_token) != 0)
		return refuse(req, 400, "InvalidIdentityToken",
					  "The web identity token provided could not be validated.");
	return true;
}

static bool
check_duration(Request *req, const char *text, int *duration)
{
	bool		chained = req->caller != NULL && req->caller->token != NULL &&
		strstr(req->caller->identity, ":assumed-role/") != NULL;

	*duration = text ? atoi(text) : 0;
	if (text != NULL && (*duration < 900 || *duration > 43200))
		return refuse(req, 400, "ValidationError",
					  "1 validation error detected: Value at 'durationSeconds' failed to satisfy "
					  "constraint: Member must be between 900 and 43200");
	if (*duration > 3600 && chained && req->action == ACTION_ASSUME_ROLE)
		return refuse(req, 400, "ValidationError",
					  "The requested DurationSeconds exceeds the 1 hour session limit for roles "
					  "assumed by role chaining");
	return true;
}

static void
grant_role(Request *req, const char *arn, const char *session, int duration)
{
	const char *account = arn;
	StrBuf		assumed = {0};
	AccessKey  *key;
	Writer		w;

	for (int i = 0; i < 4 && account != NULL; i++)
		if ((account = strchr(account, ':')) != NULL)
			account++;
	sb_printf(&assumed, "arn:aws:sts::%.*s:assumed-role/%s/%s",
			  account ? (int) strcspn(account, ":") : 0, account ? account : "",
			  role_name(arn), session);
	identity_count(req->action, arn);
	key = identity_issue(req->action, sb_cstr(&assumed), duration);

	w = begin_result(req);
	open_object(&w, "AssumedRoleUser");
	put(&w, "AssumedRoleId", "AROASQSDEXAMPLE000000:session");
	put(&w, "Arn", key->identity);
	close_object(&w, "AssumedRoleUser");
	open_object(&w, "Credentials");
	put(&w, "AccessKeyId", key->id);
	put(&w, "SecretAccessKey", key->secret);
	put(&w, "SessionToken", key->token);
	put_time(&w, "Expiration", http_clock(&req->plan) +
			 (time_t) ((key->expires_ms - key->issued_ms) / 1000));
	close_object(&w, "Credentials");
	end_result(req, &w);
	sb_free(&assumed);
}

static void
run_assume(Request *req)
{
	char	   *arn = form_value(req, "RoleArn");
	char	   *session = form_value(req, "RoleSessionName");
	char	   *external_id = form_value(req, "ExternalId");
	char	   *duration_text = form_value(req, "DurationSeconds");
	char	   *token = form_value(req, "WebIdentityToken");
	const char *caller = req->caller ? req->caller->identity : "anonymous";
	int			duration;

	if (arn == NULL || role_name(arn) == NULL)
		refuse(req, 400, "ValidationError", "Request ARN is invalid");
	else if (session == NULL || !session_name_valid(session))
		refuse(req, 400, "ValidationError",
			   "1 validation error detected: Value at 'roleSessionName' failed to satisfy "
			   "constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*");
	else if (!check_duration(req, duration_text, &duration))
		;
	else if (req->action == ACTION_ASSUME_WEB && !check_web_token(req, token))
		;
	else if (!role_allowed(req, arn, external_id))
	{
		StrBuf		text = {0};

		if (req->action == ACTION_ASSUME_WEB)
			sb_lit(&text, "Not authorized to perform sts:AssumeRoleWithWebIdentity");
		else
			sb_printf(&text, "User: %s is not authorized to perform: sts:AssumeRole on resource: %s",
					  caller, arn);
		refuse(req, 403, "AccessDenied", sb_cstr(&text));
		sb_free(&text);
	}
	else
		grant_role(req, arn, session, duration);
	free(arn);
	free(session);
	free(external_id);
	free(duration_text);
	free(token);
}

static void
run_caller(Request *req)
{
	const char *arn = req->caller ? req->caller->identity : "arn:aws:iam::" ACCOUNT_ID ":root";
	const char *account = strstr(arn, "::");
	char		text[16];
	Writer		w;

	snprintf(text, sizeof(text), "%.12s", account ? account + 2 : ACCOUNT_ID);
	identity_count(ACTION_CALLER, arn);
	w = begin_result(req);
	put(&w, "Arn", arn);
	put(&w, "UserId", "AIDASQSDEXAMPLE000000");
	put(&w, "Account", text);
	end_result(req, &w);
}

void
sts_run(Request *req)
{
	char	   *version = form_value(req, "Version");
	ApiError	error;

	if (req->action == ACTION_UNKNOWN || version == NULL || strcmp(version, "2011-06-15") != 0)
		sts_error(req, 400, "InvalidAction", "Could not find operation for version");
	else if (req->action != ACTION_ASSUME_WEB && !sigv4_check(req, "sts", &error))
	{
		server_stats.auth_failures++;
		sts_error(req, 403, error_defs[error.code].query_code, error.message);
	}
	else if (req->action == ACTION_CALLER)
		run_caller(req);
	else
		run_assume(req);
	free(version);
}
