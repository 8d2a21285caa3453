/*-------------------------------------------------------------------------
 *
 * imds.c
 *	  Keys and region from EC2's instance metadata, version 2.
 *
 * Three requests: PUT for a token, GET for the name of the instance's role, GET
 * for its keys; and GET for the region, with the same token.  There is no way
 * back to version 1, which needs no token: whoever can make this server fetch a
 * URL could read its keys there.
 *
 * The keys may have expired: EC2 hands out old ones while it cannot get others,
 * and services then accept them.  What to do about that is the cache's affair.
 *
 * Source: "Use the Instance Metadata Service", Amazon EC2 User Guide.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "aws/endpoint.h"
#include "aws/fetch_source.h"
#include "aws/secret.h"

#define ROLES_PATH		"/latest/meta-data/iam/security-credentials/"
#define REGION_PATH		"/latest/meta-data/placement/region"
#define MAX_TOKEN		1024	/* EC2's have 56 characters */

static bool
metadata_ask(Fetch *fetch)
{
	FetchMetadata *metadata = &fetch->metadata;
	FetchRequest *ask = &fetch->ask;
	const char *base = fetch->identity->metadata_url;
	size_t		size = strlen(base) + strlen(ROLES_PATH) + sizeof(metadata->role);

	/* often it is asked only because a variable has not reached the server */
	fetch_set_where(fetch, fetch->step == FETCH_STEP_REGION ?
					"no region is configured, and instance metadata at %.120s does not tell it%s" :
					"instance metadata at %.120s%s", base,
					fetch->identity->is_last_resort ?
					" (nothing else is configured: the environment has no AWS_ACCESS_KEY_ID, AWS_WEB_IDENTITY_TOKEN_FILE, AWS_PROFILE or AWS_CONTAINER_CREDENTIALS_RELATIVE_URI)" : "");
	ask->direct = true;
	ask->url = malloc(size);
	if (ask->url == NULL)
		return fetch_no_memory(fetch);
	if (metadata->token == NULL)
	{
		ask->method = HTTP_PUT;
		snprintf(ask->url, size, "%s/latest/api/token", base);
		fetch_add_header(ask, "X-aws-ec2-metadata-token-ttl-seconds", "21600");
		fetch_add_header(ask, "Content-Type", NULL);
		fetch_add_header(ask, "Expect", NULL);
		return true;
	}
	ask->method = HTTP_GET;
	if (fetch->step == FETCH_STEP_REGION)
		snprintf(ask->url, size, "%s" REGION_PATH, base);
	else
		snprintf(ask->url, size, "%s" ROLES_PATH "%s", base, metadata->role);
	fetch_add_header(ask, "X-aws-ec2-metadata-token", metadata->token);
	return true;
}

/* The first line of a body, which ends with a NUL, without blanks at its end. */
static char *
first_line(char *body)
{
	size_t		len = strcspn(body, "\r\n");

	while (len > 0 && (body[len - 1] == ' ' || body[len - 1] == '\t'))
		len--;
	body[len] = '\0';
	return body;
}

static FetchVerdict
take_token(Fetch *fetch, char *body)
{
	const char *why;

	first_line(body);
	if (body[0] == '\0' || !aws_key_is_valid(body, MAX_TOKEN, &why))
		return fetch_garbage(fetch, "it is no token");
	fetch->metadata.token = strdup(body);
	return fetch->metadata.token != NULL ? FETCH_NEXT : fetch_garbage(fetch, NULL);
}

static FetchVerdict
take_region(Fetch *fetch, char *body)
{
	const char *why;

	if (!aws_region_is_valid(first_line(body), &why))
		return fetch_garbage(fetch, "it is no region");
	fetch->keys.region = strdup(body);
	return fetch->keys.region != NULL ? FETCH_DONE : fetch_garbage(fetch, NULL);
}

/* IAM's rule for names of roles, which makes them fit into a URL. */
static FetchVerdict
take_role(Fetch *fetch, char *body)
{
	size_t		len = strlen(first_line(body));

	if (len == 0)
	{
		fetch_error(fetch, AWS_ERROR_CREDENTIALS, 200, "NoInstanceRole",
					"the instance has no IAM role");
		return FETCH_FAILED;
	}
	if (len >= sizeof(fetch->metadata.role) ||
		strspn(body, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+=,.@_-") != len)
		return fetch_garbage(fetch, "it is no name of a role");
	strlcpy(fetch->metadata.role, body, sizeof(fetch->metadata.role));
	return FETCH_NEXT;
}

/* The keys, or with the same status an object that says why there are none. */
static FetchVerdict
take_keys(Fetch *fetch, HttpReply *reply)
{
	AwsKeyReply parts;

	if (!aws_key_reply_parse(reply->body, reply->len, NULL, &parts))
		return fetch_garbage(fetch, "it is no JSON object");
	if (parts.code != NULL && strcmp(parts.code, "Success") != 0)
		return fetch_refused(fetch, 200, parts.code, parts.message);
	return fetch_take_keys(fetch, &parts, AWS_KEYS_TEMPORARY);
}

static FetchVerdict
metadata_take(Fetch *fetch, HttpReply *reply)
{
	FetchMetadata *metadata = &fetch->metadata;
	static char empty[1];
	char	   *body = reply->body != NULL ? reply->body : empty;

	if (reply->error.class != AWS_ERROR_NONE)
		return fetch_no_reply(fetch, reply, metadata->token == NULL ?
							  "in a container, the hop limit of the instance's metadata options must be at least 2" :
							  NULL);
	if (reply->status == 401 && metadata->token != NULL && !metadata->renewed)
	{
		/* the token is not accepted, or no longer */
		aws_secret_free(metadata->token);
		metadata->token = NULL;
		metadata->renewed = true;
		return FETCH_NEXT;
	}
	if (reply->status == 403)
	{
		fetch_error(fetch, AWS_ERROR_CREDENTIALS, 403, "Http403",
					"access is forbidden, or switched off in the instance's metadata options");
		return FETCH_FAILED;
	}
	if (reply->status == 404 && metadata->token == NULL)
	{
		fetch_error(fetch, AWS_ERROR_CREDENTIALS, 404, "Http404",
					"there is no instance metadata of version 2");
		return FETCH_FAILED;
	}
	if (reply->status == 404 && fetch->step == FETCH_STEP_BASE)
	{
		fetch_error(fetch, AWS_ERROR_CREDENTIALS, 404, "NoInstanceRole",
					"the instance has no IAM role");
		return FETCH_FAILED;
	}
	if (reply->status != 200)
		return fetch_refused(fetch, reply->status, NULL, NULL);
	if (strlen(body) != reply->len)
		return fetch_garbage(fetch, "there is a NUL in it");
	if (metadata->token == NULL)
		return take_token(fetch, body);
	if (fetch->step == FETCH_STEP_REGION)
		return take_region(fetch, body);
	if (metadata->role[0] == '\0')
		return take_role(fetch, body);
	return take_keys(fetch, reply);
}

/* A second to connect, and another for the reply. */
const FetchSource fetch_metadata = {
	.connect_ms = 1000,
	.total_ms = 2000,
	.tries = 3,
	.pause_ms = 100,
	.ask = metadata_ask,
	.take = metadata_take,
};
