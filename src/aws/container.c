/*-------------------------------------------------------------------------
 *
 * container.c
 *	  Keys from the agent of a container's host: ECS, EKS Pod Identity.
 *
 * One GET.  Its header Authorization is the token as it is.  A token in a file
 * is read each time, since EKS replaces it.
 *
 * Of the URL only the host is shown: in ECS, its path is all that protects the
 * keys of one task from another.
 *
 * Source: "Container credential provider", AWS SDKs and Tools Reference Guide.
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

#define MAX_TOKEN		FETCH_MAX_TOKEN_FILE

static void
set_where(Fetch *fetch, const char *url)
{
	AwsUrl		parsed;
	char		host[300];
	const char *why;

	/* a query is possible here, though not in what aws_url_parse() accepts */
	if (aws_url_parse(url, &parsed, &why))
	{
		aws_url_host_header(&parsed, host, sizeof(host));
		fetch_set_where(fetch, "container credentials at %s://%s",
						parsed.https ? "https" : "http", host);
	}
	else
		fetch_set_where(fetch, "container credentials");
}

/*
 * The header's value must not have a line's end in it, nor may a file lead to
 * other text in front of our own headers.  A scheme such as "Bearer" may precede
 * the token, so blanks are allowed.
 */
static bool
add_token(Fetch *fetch, char *token, const char *from)
{
	size_t		len = strlen(token);

	while (len > 0 && (token[len - 1] == '\n' || token[len - 1] == '\r' || token[len - 1] == ' '))
		token[--len] = '\0';
	if (len == 0)
	{
		fetch_error(fetch, AWS_ERROR_CREDENTIALS, 0, "InvalidToken",
					"the authorization token in %s is empty", from);
		return false;
	}
	for (const char *p = token; *p != '\0'; p++)
	{
		if (*p < 0x20 || *p >= 0x7f)
		{
			fetch_error(fetch, AWS_ERROR_CREDENTIALS, 0, "InvalidToken",
						"the authorization token in %s must be one line of printable ASCII characters",
						from);
			return false;
		}
	}
	fetch_add_header(&fetch->ask, "Authorization", token);
	return true;
}

static bool
add_token_of_file(Fetch *fetch, const char *path)
{
	char	   *token;
	size_t		len;
	const char *why;
	char		from[256];
	bool		ok;

	if (!aws_secret_read_file(path, MAX_TOKEN, &token, &len, &why))
	{
		fetch_error(fetch, errno == ENOMEM || errno == EMFILE || errno == ENFILE ?
					AWS_ERROR_RESOURCES : AWS_ERROR_CREDENTIALS, 0, "InvalidToken",
					"cannot read the file \"%s\" of the authorization token: %s", path, why);
		return false;
	}
	snprintf(from, sizeof(from), "the file \"%s\"", path);
	ok = add_token(fetch, token, from); /* up to a NUL */
	explicit_bzero(token, len);
	free(token);
	return ok;
}

static bool
container_ask(Fetch *fetch)
{
	const AwsIdentity *identity = fetch->identity;
	FetchRequest *ask = &fetch->ask;

	set_where(fetch, identity->container_url);
	ask->method = HTTP_GET;
	ask->direct = true;
	ask->ca_file = identity->ca_file;
	ask->url = strdup(identity->container_url);
	fetch_add_header(ask, "Accept", "application/json");
	if (identity->container_token_file != NULL)
		return add_token_of_file(fetch, identity->container_token_file);
	if (identity->container_token != NULL)
	{
		char	   *token = strdup(identity->container_token);
		bool		ok;

		if (token == NULL)
			return fetch_no_memory(fetch);
		ok = add_token(fetch, token, "the environment");
		aws_secret_free(token);
		return ok;
	}
	return true;
}

static FetchVerdict
container_take(Fetch *fetch, HttpReply *reply)
{
	AwsKeyReply parts;
	bool		parsed;

	if (reply->error.class != AWS_ERROR_NONE)
		return fetch_no_reply(fetch, reply, NULL);
	parsed = aws_key_reply_parse(reply->body, reply->len, NULL, &parts);
	if (reply->status != 200)
		return fetch_refused(fetch, reply->status, parts.code, parts.message);
	if (!parsed)
		return fetch_garbage(fetch, "it is no JSON object");
	if (parts.access_key_id == NULL && parts.code != NULL)
		return fetch_refused(fetch, 200, parts.code, parts.message);
	return fetch_take_keys(fetch, &parts, AWS_KEYS_TEMPORARY);
}

const FetchSource fetch_container = {
	.connect_ms = 2000,
	.total_ms = 2000,
	.tries = 3,
	.pause_ms = 500,			/* 0.5 s, then 1 s */
	.ask = container_ask,
	.take = container_take,
};
