/*-------------------------------------------------------------------------
 *
 * sts.c
 *	  Calls to STS: AssumeRoleWithWebIdentity, AssumeRole, GetCallerIdentity.
 *
 * A form is posted, and XML comes back.  The first of the calls is not signed:
 * the token in it is what identifies us.  The others are signed with the keys
 * that the fetch has come to.
 *
 * Kubernetes replaces the file of a token now and then.  So the file is read
 * for each try, and if STS refuses the token and the file has another one by
 * then, that is tried, too.
 *
 * Source: AWS Security Token Service API Reference.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include <sys/time.h>

#include "aws/endpoint.h"
#include "aws/fetch_source.h"
#include "aws/secret.h"

#define MAX_WEB_TOKEN	FETCH_MAX_TOKEN_FILE	/* STS takes 20,000 characters */
#define FORM_TYPE		"application/x-www-form-urlencoded"

static const char *
action_of_step(const Fetch *fetch)
{
	switch (fetch->step)
	{
		case FETCH_STEP_BASE:
			return "AssumeRoleWithWebIdentity";
		case FETCH_STEP_ROLES:
			return "AssumeRole";
		default:
			return "GetCallerIdentity";
	}
}

/* ---- the request ---- */

/* Append text, percent-encoded; ask->body has room for it. */
static void
form_put(FetchRequest *ask, const char *text)
{
	static const char digits[] = "0123456789ABCDEF";

	for (const unsigned char *p = (const unsigned char *) text; *p != '\0'; p++)
	{
		if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
			(*p >= '0' && *p <= '9') || strchr("-_.~", *p) != NULL)
			ask->body[ask->body_len++] = (char) *p;
		else
		{
			ask->body[ask->body_len++] = '%';
			ask->body[ask->body_len++] = digits[*p >> 4];
			ask->body[ask->body_len++] = digits[*p & 15];
		}
	}
}

static void
form_add(FetchRequest *ask, const char *name, const char *value)
{
	if (value == NULL)
		return;
	ask->body[ask->body_len++] = '&';
	form_put(ask, name);
	ask->body[ask->body_len++] = '=';
	form_put(ask, value);
}

static size_t
form_size(const char *value)
{
	return value != NULL ? 3 * strlen(value) : 0;
}

static bool
make_form(Fetch *fetch, const AwsAssumeRole *role)
{
	FetchRequest *ask = &fetch->ask;
	const char *token = fetch->step == FETCH_STEP_BASE ? fetch->sts.token : NULL;
	char		duration[16];

	/* the names and the rest have less than 256 characters */
	ask->body = malloc(256 + form_size(role->role_arn) + form_size(role->session_name) +
					   form_size(role->external_id) + form_size(token));
	if (ask->body == NULL)
		return fetch_no_memory(fetch);
	ask->body_len = sprintf(ask->body, "Action=%s", action_of_step(fetch));
	form_add(ask, "Version", "2011-06-15");
	form_add(ask, "RoleArn", role->role_arn);
	form_add(ask, "RoleSessionName", role->session_name);
	form_add(ask, "ExternalId", role->external_id);
	form_add(ask, "WebIdentityToken", token);
	if (role->duration_seconds > 0)
	{
		snprintf(duration, sizeof(duration), "%d", role->duration_seconds);
		form_add(ask, "DurationSeconds", duration);
	}
	return true;
}

/*
 * Read the file of web identity; the token is the caller's to wipe.  NULL with
 * the error set.
 */
static char *
read_web_token(Fetch *fetch)
{
	const char *path = fetch->identity->token_file;
	char	   *token;
	size_t		len;
	const char *why;

	if (!aws_secret_read_file(path, MAX_WEB_TOKEN, &token, &len, &why))
	{
		fetch_error(fetch, errno == ENOMEM || errno == EMFILE || errno == ENFILE ?
					AWS_ERROR_RESOURCES : AWS_ERROR_CREDENTIALS, 0, "InvalidToken",
					"cannot read the file \"%s\" of the web identity token: %s", path, why);
		return NULL;
	}
	while (len > 0 && (token[len - 1] == '\n' || token[len - 1] == '\r' || token[len - 1] == ' '))
		token[--len] = '\0';
	if (len == 0 || strlen(token) != len || !aws_key_is_valid(token, MAX_WEB_TOKEN, &why))
	{
		fetch_error(fetch, AWS_ERROR_CREDENTIALS, 0, "InvalidToken",
					"the file \"%s\" of the web identity token %s", path,
					len == 0 ? "is empty" : "must hold printable ASCII characters without blanks");
		explicit_bzero(token, len);
		free(token);
		return NULL;
	}
	return token;
}

/* Where STS is, and for which region requests to it are signed. */
static bool
find_endpoint(Fetch *fetch, char *endpoint, size_t size, char *region, size_t region_size)
{
	const AwsIdentity *identity = fetch->identity;
	const char *known = identity->sts_region != NULL ? identity->sts_region :
		identity->region != NULL ? identity->region : fetch->keys.region;
	AwsUrl		url;
	const char *why;

	region[0] = '\0';
	if (known != NULL)
		strlcpy(region, known, region_size);
	if (identity->sts_endpoint != NULL)
	{
		strlcpy(endpoint, identity->sts_endpoint, size);
		if (strlen(identity->sts_endpoint) >= size || !aws_url_parse(endpoint, &url, &why))
		{
			fetch_set_where(fetch, "STS");
			fetch_error(fetch, AWS_ERROR_CONFIGURATION, 0, "InvalidEndpoint",
						"the endpoint of STS is not valid");
			return false;
		}
		if (known == NULL)
			(void) aws_region_of_host(url.host, region, region_size);
	}
	else if (known == NULL ||
			 !aws_service_endpoint("sts", known, identity->use_fips, identity->use_dualstack,
								   endpoint, size))
	{
		fetch_set_where(fetch, "STS");
		fetch_error(fetch, AWS_ERROR_CONFIGURATION, 0, "NoRegion",
					"no region is known, so it is not known which endpoint to call");
		return false;
	}
	return true;
}

static void
add_signed(SigV4Header *headers, int *n, const char *name, const char *value)
{
	headers[*n].name = name;
	headers[*n].value = value;
	(*n)++;
}

/* Add the headers that a signature covers, in their order, and the signature. */
static bool
sign(Fetch *fetch, const char *host, const char *region, const char *path)
{
	FetchRequest *ask = &fetch->ask;
	const AwsFetchedKeys *keys = &fetch->keys;
	SigV4Header headers[4];
	int			n = 0;
	char		date[SIGV4_DATE_LEN + 1];
	char		authorization[1024];
	struct timeval tv;

	if (region[0] == '\0')
	{
		fetch_error(fetch, AWS_ERROR_CONFIGURATION, 0, "NoRegion",
					"no region is known that the request could be signed for");
		return false;
	}
	gettimeofday(&tv, NULL);
	fetch->sts.signed_skew_ms = fetch->skew_ms;
	sigv4_date(tv.tv_sec + fetch->skew_ms / 1000, date);
	add_signed(headers, &n, "content-type", FORM_TYPE);
	add_signed(headers, &n, "host", host);
	add_signed(headers, &n, "x-amz-date", date);
	if (keys->session_token != NULL)
		add_signed(headers, &n, "x-amz-security-token", keys->session_token);
	if (keys->access_key_id == NULL || keys->secret_access_key == NULL ||
		!sigv4_authorization(&fetch->sts.key, keys->access_key_id, keys->secret_access_key,
							 region, "sts", date, "POST", path, headers, n,
							 ask->body, ask->body_len, authorization, sizeof(authorization)))
	{
		fetch_error(fetch, AWS_ERROR_CONFIGURATION, 0, "CannotSign",
					"the request cannot be signed: a key, token or region is missing or too long, SHA-256 is not available, or memory ran out");
		return false;
	}
	for (int i = 0; i < n; i++)
		fetch_add_header(ask, headers[i].name, headers[i].value);
	fetch_add_header(ask, "Authorization", authorization);
	return true;
}

static bool
sts_ask(Fetch *fetch)
{
	const AwsIdentity *identity = fetch->identity;
	FetchRequest *ask = &fetch->ask;
	AwsAssumeRole role = {NULL};
	char		endpoint[1024];
	char		region[33];
	char		host[300];
	AwsUrl		url;
	const char *why;

	if (fetch->step == FETCH_STEP_BASE)
	{
		role.role_arn = identity->role_arn;
		role.session_name = identity->session_name;
		role.duration_seconds = identity->duration_seconds;
	}
	else if (fetch->step == FETCH_STEP_ROLES)
		role = identity->roles[fetch->role];

	if (!find_endpoint(fetch, endpoint, sizeof(endpoint), region, sizeof(region)))
		return false;
	/* an ARN may have 2048 characters; messages need room for the reason */
	if (role.role_arn != NULL)
		fetch_set_where(fetch, "%s of %.160s at %.120s", action_of_step(fetch), role.role_arn, endpoint);
	else
		fetch_set_where(fetch, "%s at %.120s", action_of_step(fetch), endpoint);

	if (fetch->step == FETCH_STEP_BASE)
	{
		aws_secret_free(fetch->sts.token);
		fetch->sts.token = read_web_token(fetch);
		if (fetch->sts.token == NULL)
			return false;
	}
	if (!make_form(fetch, &role))
		return false;

	(void) aws_url_parse(endpoint, &url, &why);
	aws_url_host_header(&url, host, sizeof(host));
	ask->method = HTTP_POST;
	ask->ca_file = identity->ca_file;
	ask->direct = aws_host_is_loopback(url.host);
	if (url.path[0] == '\0')
		strlcat(endpoint, "/", sizeof(endpoint));
	ask->url = strdup(endpoint);
	fetch_add_header(ask, "Expect", NULL);
	if (fetch->step != FETCH_STEP_BASE)
		return sign(fetch, host, region, url.path[0] == '\0' ? "/" : url.path);
	fetch_add_header(ask, "Content-Type", FORM_TYPE);
	return true;
}

/* ---- the reply ---- */

/*
 * The token was refused.  True if the file has another one by now, which the
 * next try will send.
 */
static bool
has_new_web_token(Fetch *fetch)
{
	AwsError	error = fetch->error;
	char	   *token;
	bool		is_new;

	if (fetch->sts.reread)
		return false;
	fetch->sts.reread = true;
	token = read_web_token(fetch);
	fetch->error = error;
	is_new = token != NULL && strcmp(token, fetch->sts.token) != 0;
	aws_secret_free(token);
	return is_new;
}

static FetchVerdict
take_error(Fetch *fetch, int http_status, const char *code, const char *message)
{
	FetchVerdict verdict = fetch_refused(fetch, http_status, code, message);

	if (fetch->error.class == AWS_ERROR_CLOCK && !fetch->sts.clock_corrected &&
		llabs(fetch->skew_ms - fetch->sts.signed_skew_ms) >= 1000)
	{
		fetch->sts.clock_corrected = true;
		return FETCH_NEXT;
	}
	if (fetch->step == FETCH_STEP_BASE && code != NULL &&
		(strcmp(code, "ExpiredTokenException") == 0 || strcmp(code, "ExpiredToken") == 0 ||
		 strcmp(code, "InvalidIdentityToken") == 0 ||
		 strcmp(code, "InvalidIdentityTokenException") == 0) &&
		has_new_web_token(fetch))
		return FETCH_NEXT;
	return verdict;
}

/* Texts for people, who may look at them in a view. */
static FetchVerdict
take_caller(Fetch *fetch, const AwsKeyReply *parts)
{
	AwsCaller  *caller = &fetch->sts.caller;

	if (parts->account_id == NULL || parts->arn == NULL || parts->user_id == NULL)
		return fetch_garbage(fetch, "account, ARN or user id is missing");
	strlcpy(caller->account, parts->account_id, sizeof(caller->account));
	strlcpy(caller->arn, parts->arn, sizeof(caller->arn));
	strlcpy(caller->user_id, parts->user_id, sizeof(caller->user_id));
	aws_text_sanitize(caller->account);
	aws_text_sanitize(caller->arn);
	aws_text_sanitize(caller->user_id);
	return FETCH_DONE;
}

static FetchVerdict
sts_take(Fetch *fetch, HttpReply *reply)
{
	AwsKeyReply parts;
	bool		parsed;

	if (reply->error.class != AWS_ERROR_NONE)
		return fetch_no_reply(fetch, reply, NULL);
	parsed = aws_key_reply_parse(reply->body, reply->len, action_of_step(fetch), &parts);
	if (reply->status != 200)
		return take_error(fetch, reply->status, parts.code, parts.message);
	if (!parsed)
		return fetch_garbage(fetch, "it is neither the XML nor the JSON of STS");
	if (fetch->step == FETCH_STEP_WHOAMI)
		return take_caller(fetch, &parts);
	return fetch_take_keys(fetch, &parts, AWS_KEYS_TEMPORARY);
}

const FetchSource fetch_sts = {
	.connect_ms = 4000,
	.total_ms = 5000,
	.tries = 2,
	.pause_ms = 200,
	.ask = sts_ask,
	.take = sts_take,
};
