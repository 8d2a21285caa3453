/*-------------------------------------------------------------------------
 *
 * key_reply.c
 *	  What metadata services, programs and STS send: keys, or why there are
 *	  none.
 *
 * All of them send a few named texts, in objects or elements that are nested
 * differently:
 *
 *	metadata, programs	{"AccessKeyId": ..., "SecretAccessKey": ..., "Token": ...}
 *	their errors		{"Code": ..., "Message": ...}, in either case
 *	STS, JSON			{"AssumeRoleResponse": {"AssumeRoleResult":
 *							{"Credentials": {"AccessKeyId": ...}, ...}}}
 *	STS, XML			<AssumeRoleResponse><AssumeRoleResult><Credentials>...
 *	its errors			{"Error": {"Code": ..., "Message": ...}},
 *						<ErrorResponse><Error><Code>...
 *
 * So a reply is read as a list of paths with texts, and a table says which of
 * them are which parts.  STS documents its XML only; its JSON, which it sends
 * if asked to, is understood because proxies and emulators prefer it.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "aws/credentials.h"
#include "aws/json.h"
#include "aws/key_reply.h"
#include "aws/secret.h"
#include "aws/xml.h"

#define MAX_PATH_LEN	512
#define MAX_EXPIRES_S	INT64CONST(253402300799)	/* the end of 9999 */

typedef struct Collector
{
	AwsKeyReply *reply;
	const char *action;
} Collector;

/* If the path begins with the text, the rest of it. */
static const char *
behind(const char *path, const char *text)
{
	size_t		len = strlen(text);

	return path != NULL && strncmp(path, text, len) == 0 ? path + len : NULL;
}

/* What the path is called in the table; NULL: nothing that is looked for. */
static const char *
part_name(const char *path, const char *action)
{
	const char *tail;

	if (action == NULL)
		return path;
	if ((tail = behind(path, "ErrorResponse/Error/")) != NULL ||
		(tail = behind(path, "Error/")) != NULL)
		return strcmp(tail, "Code") == 0 || strcmp(tail, "Message") == 0 ? tail : NULL;
	/* {action}Response/{action}Result/ */
	tail = behind(behind(behind(behind(path, action), "Response/"), action), "Result/");
	if (tail == NULL || strcmp(tail, "Code") == 0 || strcmp(tail, "Message") == 0)
		return NULL;
	return tail;
}

/* Keep the text if it is one of the parts. */
static void
collect(const char *path, char *text, bool is_number, Collector *collector)
{
	AwsKeyReply *reply = collector->reply;
	const char *name = part_name(path, collector->action);
	const struct
	{
		const char *name;
		const char **part;
	}			parts[] =

	{
		{"AccessKeyId", &reply->access_key_id},
		{"SecretAccessKey", &reply->secret_access_key},
		{"Token", &reply->session_token},
		{"SessionToken", &reply->session_token},
		{"Expiration", &reply->expiration},
		{"AccountId", &reply->account_id},
		{"RoleArn", &reply->arn},
		{"Version", &reply->version},
		{"Code", &reply->code},
		{"code", &reply->code},
		{"Message", &reply->message},
		{"message", &reply->message},
		{"Credentials/AccessKeyId", &reply->access_key_id},
		{"Credentials/SecretAccessKey", &reply->secret_access_key},
		{"Credentials/SessionToken", &reply->session_token},
		{"Credentials/Expiration", &reply->expiration},
		{"AssumedRoleUser/Arn", &reply->arn},
		{"Account", &reply->account_id},
		{"Arn", &reply->arn},
		{"UserId", &reply->user_id},
	};

	if (name == NULL || text[0] == '\0')
		return;
	for (size_t i = 0; i < lengthof(parts); i++)
	{
		if (strcmp(parts[i].name, name) != 0)
			continue;
		if (is_number)
		{
			/* not a part of the reply that will stay as it is */
			char	   *copy;

			if (parts[i].part != &reply->expiration && parts[i].part != &reply->version)
				return;
			copy = reply->numbers[parts[i].part == &reply->version];
			if (strlcpy(copy, text, sizeof(reply->numbers[0])) >= sizeof(reply->numbers[0]))
				return;
			text = copy;
		}
		if (parts[i].part == &reply->expiration)
			reply->expires_is_number = is_number;
		*parts[i].part = text;
		return;
	}
}

static void
xml_leaf(const char *path, char *text, void *arg)
{
	collect(path, text, false, arg);
}

/*
 * The strings and numbers of a JSON object, as aws_xml_leaves() does it.  Arrays
 * are passed over.
 */
static bool
json_leaves(char *data, size_t len, Collector *collector)
{
	JsonReader	reader;
	char		path[MAX_PATH_LEN] = "";
	size_t		path_len[JSON_MAX_DEPTH + 1] = {0};
	char		number[32];

	json_reader_init(&reader, data, len);
	if (json_next(&reader) != JSON_OBJECT)
		return false;
	for (;;)
	{
		size_t		at;
		int			depth;

		switch (json_next(&reader))
		{
			case JSON_END:
				return true;
			case JSON_OBJECT_END:
				continue;
			case JSON_KEY:
				break;
			default:
				return false;
		}

		/* path_len[i]: of the names that lead into the i-th open object */
		depth = reader.depth;
		at = path_len[depth - 1];
		if (at + 1 + reader.len + 1 > sizeof(path) ||
			memchr(reader.text, '/', reader.len) != NULL ||
			memchr(reader.text, '\0', reader.len) != NULL)
		{
			/* no name of a part, nor of what leads to one */
			if (json_next(&reader) == JSON_ERROR || !json_skip(&reader))
				return false;
			continue;
		}
		if (depth > 1)
			path[at++] = '/';
		memcpy(path + at, reader.text, reader.len);
		path[at + reader.len] = '\0';
		at += reader.len;

		switch (json_next(&reader))
		{
			case JSON_ERROR:
				return false;
			case JSON_OBJECT:
				path_len[depth] = at;
				break;
			case JSON_STRING:
				/* a NUL inside makes it another text: none of ours has one */
				if (strlen(reader.text) == reader.len)
					collect(path, reader.text, false, collector);
				break;
			case JSON_NUMBER:
				if (reader.len < sizeof(number))
				{
					memcpy(number, reader.text, reader.len);
					number[reader.len] = '\0';
					collect(path, number, true, collector);
				}
				break;
			default:
				if (!json_skip(&reader))
					return false;
				break;
		}
	}
}

bool
aws_key_reply_parse(char *data, size_t len, const char *action, AwsKeyReply *reply)
{
	Collector	collector = {reply, action};
	size_t		blanks = 0;

	memset(reply, 0, sizeof(*reply));
	if (data == NULL)
		return false;
	while (blanks < len && (data[blanks] == ' ' || data[blanks] == '\t' ||
							data[blanks] == '\n' || data[blanks] == '\r'))
		blanks++;
	if (action != NULL && blanks < len && data[blanks] == '<')
		return aws_xml_leaves(data + blanks, len - blanks, xml_leaf, &collector);
	return json_leaves(data, len, &collector);
}

/* In ms since the epoch. */
static bool
expiration(const AwsKeyReply *reply, int64 *ms)
{
	double		seconds;

	if (!reply->expires_is_number)
	{
		if (!aws_parse_time(reply->expiration, ms))
			return false;
		*ms = Max(*ms, 1);		/* 0 would mean that they never expire */
		return true;
	}
	seconds = strtod(reply->expiration, NULL);
	if (!(seconds > 0 && seconds <= MAX_EXPIRES_S))
		return false;
	*ms = (int64) (seconds * 1000);
	return true;
}

/* False if out of memory. */
static bool
copy(const char *text, char **copied)
{
	return text == NULL || (*copied = strdup(text)) != NULL;
}

/* What goes into messages and views: of a sensible length, and printable. */
static const char *
presentable(const char *text, size_t max)
{
	const char *why;

	return text != NULL && aws_key_is_valid(text, max, &why) ? text : NULL;
}

bool
aws_key_reply_keys(const AwsKeyReply *reply, AwsKeyParts parts,
				   AwsFetchedKeys *keys, const char **why)
{
	const char *ignored;

	memset(keys, 0, sizeof(*keys));
	if (reply->access_key_id == NULL)
		*why = "there is no AccessKeyId in it";
	else if (!aws_key_is_valid(reply->access_key_id, AWS_ACCESS_KEY_ID_MAX, &ignored))
		*why = "its AccessKeyId is not one";
	else if (reply->secret_access_key == NULL)
		*why = "there is no SecretAccessKey in it";
	else if (!aws_key_is_valid(reply->secret_access_key, AWS_SECRET_KEY_MAX, &ignored))
		*why = "its SecretAccessKey is not one";
	else if (reply->session_token == NULL && parts == AWS_KEYS_TEMPORARY)
		*why = "there is no session token in it";
	else if (reply->session_token != NULL &&
			 !aws_key_is_valid(reply->session_token, AWS_SESSION_TOKEN_MAX, &ignored))
		*why = "its session token is not one";
	else if (reply->expiration == NULL && parts == AWS_KEYS_TEMPORARY)
		*why = "there is no Expiration in it";
	else if (reply->expiration != NULL && !expiration(reply, &keys->expires))
		*why = "its Expiration is not a time";
	else if (copy(reply->access_key_id, &keys->access_key_id) &&
			 copy(reply->secret_access_key, &keys->secret_access_key) &&
			 copy(reply->session_token, &keys->session_token) &&
			 copy(presentable(reply->arn, 2048), &keys->arn) &&
			 copy(presentable(reply->account_id, 32), &keys->account_id))
		return true;
	else
		*why = NULL;
	aws_fetched_keys_wipe(keys);
	return false;
}
