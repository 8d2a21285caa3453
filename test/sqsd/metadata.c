/*-------------------------------------------------------------------------
 *
 * metadata.c
 *	  The metadata services: EC2's, version 2, and those of ECS and EKS.
 *
 *	/latest/...			EC2
 *	/v2/credentials/...	ECS
 *	/v1/credentials		EKS Pod Identity
 *
 * EC2 hands out the same keys until their end is near; here each request gets
 * new ones, so that a test can tell which came of which.
 *
 *-------------------------------------------------------------------------
 */
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TOKEN_PATH		"/latest/api/token"
#define ROLES_PATH		"/latest/meta-data/iam/security-credentials/"
#define REGION_PATH		"/latest/meta-data/placement/region"
#define MAX_TTL			21600
#define TOKENS			64		/* remembered; the oldest go first */

typedef struct Token
{
	char		text[57];
	int64_t		expires_ms;		/* by the store's clock */
} Token;

static Token tokens[TOKENS];
static int	next_token;

void
metadata_forget_tokens(void)
{
	memset(tokens, 0, sizeof(tokens));
}

Action
metadata_action(const char *path, const char *method)
{
	if (strncmp(path, "/latest/", 8) != 0)
		return ACTION_CONTAINER;
	if (strcmp(path, TOKEN_PATH) == 0 && strcmp(method, "PUT") == 0)
		return ACTION_METADATA_TOKEN;
	if (strcmp(path, REGION_PATH) == 0)
		return ACTION_METADATA_REGION;
	if (strcmp(path, ROLES_PATH) == 0)
		return ACTION_METADATA_ROLE;
	if (strncmp(path, ROLES_PATH, strlen(ROLES_PATH)) == 0)
		return ACTION_METADATA_KEYS;
	return ACTION_UNKNOWN;
}

/* EC2 answers with a page, the others with an object. */
void
metadata_error(Request *req, int status, const char *code, const char *message)
{
	StrBuf	   *sb = &req->reply;

	req->status = status;
	sb->len = 0;
	if (req->action != ACTION_CONTAINER)
	{
		req->content_type = "text/html";
		sb_printf(sb, "<?xml version=\"1.0\"?><html><head><title>%d - %s</title></head></html>",
				  status, code);
		return;
	}
	req->content_type = "application/json";
	sb_lit(sb, "{\"code\":");
	sb_json_cstr(sb, code);
	sb_lit(sb, ",\"message\":");
	sb_json_cstr(sb, message);
	sb_putc(sb, '}');
}

static void
give_token(Request *req)
{
	const char *ttl = http_header(req, "X-aws-ec2-metadata-token-ttl-seconds");
	int			seconds = ttl ? atoi(ttl) : 0;
	Token	   *token = &tokens[next_token];
	unsigned char bytes[28];

	if (seconds < 1 || seconds > MAX_TTL || http_header(req, "X-Forwarded-For") != NULL)
	{
		metadata_error(req, 400, "Bad Request", "");
		return;
	}
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char) random64();
	hex_encode(bytes, sizeof(bytes), token->text);
	token->text[56] = '\0';
	token->expires_ms = store_now() + (int64_t) seconds * 1000;
	next_token = (next_token + 1) % TOKENS;
	sb_puts(&req->reply, token->text);
}

static bool
has_token(Request *req)
{
	const char *text = http_header(req, "X-aws-ec2-metadata-token");

	for (int i = 0; text != NULL && *text != '\0' && i < TOKENS; i++)
		if (strcmp(tokens[i].text, text) == 0)
			return store_now() < tokens[i].expires_ms;
	return false;
}

/* The object that all of them send.  age: how long ago its keys have expired. */
static void
write_keys(Request *req, const AccessKey *key, int age, const char *role_arn)
{
	StrBuf	   *sb = &req->reply;
	time_t		now = http_clock(&req->plan);

	req->content_type = "application/json";
	sb_lit(sb, "{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"LastUpdated\":\"");
	identity_time(sb, now);
	sb_lit(sb, "\",\"AccessKeyId\":");
	sb_json_cstr(sb, key->id);
	sb_lit(sb, ",\"SecretAccessKey\":");
	sb_json_cstr(sb, key->secret);
	sb_lit(sb, ",\"Token\":");
	sb_json_cstr(sb, key->token);
	sb_lit(sb, ",\"Expiration\":\"");
	identity_time(sb, age > 0 ? now - age :
				  now + (time_t) ((key->expires_ms - key->issued_ms) / 1000));
	sb_putc(sb, '"');
	if (role_arn != NULL)
	{
		sb_lit(sb, ",\"AccountId\":\"" ACCOUNT_ID "\",\"RoleArn\":");
		sb_json_cstr(sb, role_arn);
	}
	sb_putc(sb, '}');
}

static void
instance_keys(Request *req, const char *role)
{
	StrBuf		arn = {0};

	if (identity_config.instance_role == NULL || strcmp(role, identity_config.instance_role) != 0)
	{
		metadata_error(req, 404, "Not Found", "");
		return;
	}
	sb_printf(&arn, "arn:aws:sts::" ACCOUNT_ID ":assumed-role/%s/i-0123456789abcdef0", role);
	identity_count(req->action, role);
	write_keys(req, identity_issue(req->action, sb_cstr(&arn), 6 * 3600),
			   identity_config.metadata_age, NULL);
	sb_free(&arn);
}

/* The identity is the path: which task or pod asks. */
static void
container_keys(Request *req, const char *path, const char *method)
{
	const char *wanted = identity_config.container_token;
	const char *token = http_header(req, "Authorization");
	const char *slash = strrchr(path, '/');
	StrBuf		arn = {0};

	if (strcmp(method, "GET") != 0)
	{
		metadata_error(req, 405, "MethodNotAllowed", "Only GET is allowed");
		return;
	}
	if (wanted != NULL && (token == NULL || strcmp(token, wanted) != 0))
	{
		metadata_error(req, token == NULL ? 401 : 403, "AccessDeniedException",
					   "The authorization token is missing or not valid");
		return;
	}
	sb_printf(&arn, "arn:aws:sts::" ACCOUNT_ID ":assumed-role/container/%s", slash + 1);
	identity_count(req->action, path);
	write_keys(req, identity_issue(req->action, sb_cstr(&arn), 6 * 3600), 0,
			   "arn:aws:iam::" ACCOUNT_ID ":role/container");
	sb_free(&arn);
}

void
metadata_run(Request *req, const char *path, const char *method)
{
	switch (req->action)
	{
		case ACTION_CONTAINER:
			container_keys(req, path, method);
			return;
		case ACTION_METADATA_TOKEN:
			give_token(req);
			return;
		default:
			break;
	}
	if (strcmp(method, "GET") != 0)
		metadata_error(req, 405, "Method Not Allowed", "");
	else if (!has_token(req))
		metadata_error(req, 401, "Unauthorized", "");
	else if (req->action == ACTION_METADATA_REGION)
		sb_puts(&req->reply, identity_config.region ? identity_config.region : options.region);
	else if (req->action == ACTION_METADATA_ROLE && identity_config.instance_role != NULL)
		sb_puts(&req->reply, identity_config.instance_role);
	else if (req->action == ACTION_METADATA_KEYS)
		instance_keys(req, path + strlen(ROLES_PATH));
	else
		metadata_error(req, 404, "Not Found", "");
}
