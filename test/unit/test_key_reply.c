/*-------------------------------------------------------------------------
 *
 * test_key_reply.c
 *	  What metadata services, programs and STS send, and what else a test may
 *	  know without asking anybody: times, XML, command lines.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "aws/key_reply.h"
#include "aws/process.h"
#include "aws/secret.h"
#include "aws/xml.h"
#include "tap.h"

static char seen[2048];

static void
keep_leaf(const char *path, char *text, void *arg)
{
	(void) arg;
	strlcat(seen, path, sizeof(seen));
	strlcat(seen, "=", sizeof(seen));
	strlcat(seen, text, sizeof(seen));
	strlcat(seen, ";", sizeof(seen));
}

/* Its leaves, or NULL if it is no XML. */
static void
xml(const char *document, const char *leaves)
{
	size_t		len = strlen(document);
	char	   *copy = tap_copy(document, len);
	bool		good;

	seen[0] = '\0';
	good = aws_xml_leaves(copy, len, keep_leaf, NULL);
	if (leaves != NULL)
		is(good ? seen : NULL, leaves, "XML: %s", document);
	else
		ok(!good, "no XML: %s", document);
	free(copy);
}

static void
documents(void)
{
	char		deep[512] = "";

	xml("<a>b</a>", "a=b;");
	xml("<?xml version=\"1.0\"?>\n<a/>\n", "a=;");
	xml("<a><b>c</b><d x='1>2'> e&lt;&amp;&#65;&#x20ac; </d></a>", "a/b=c;a/d=e<&A\xe2\x82\xac;");
	xml("<a><b><c>1</c>text</b><d/><e></e ></a >", "a/b/c=1;a/d=;a/e=;");
	xml("<a b=\"</a>\">&quot;&apos;&gt;</a>", "a=\"'>;");
	xml("<a-1.x:y_z>1</a-1.x:y_z>", "a-1.x:y_z=1;");
	xml("", NULL);
	xml(" ", NULL);
	xml("a", NULL);
	xml("<a>", NULL);
	xml("<a>b</a", NULL);
	xml("<a>b</b>", NULL);
	xml("<a>b</ab>", NULL);
	xml("<ab>b</a>", NULL);
	xml("<a><b></a></b>", NULL);
	xml("<a/><b/>", NULL);
	xml("<a/>x", NULL);
	xml("x<a/>", NULL);
	xml("</a>", NULL);
	xml("<a>&nbsp;</a>", NULL);
	xml("<a>&#0;</a>", NULL);
	xml("<a>&#xd800;</a>", NULL);
	xml("<a>&#x110000;</a>", NULL);
	xml("<a>&#99999999999;</a>", NULL);
	xml("<a>&#;</a>", NULL);
	xml("<a>&lt</a>", NULL);
	xml("<a>\001</a>", NULL);
	xml("<!DOCTYPE a><a/>", NULL);
	xml("<a><!-- b --></a>", NULL);
	xml("<a><![CDATA[b]]></a>", NULL);
	xml("<a><?x?></a>", NULL);
	xml("<?xml", NULL);
	xml("<a b='c></a>", NULL);
	xml("<1/>", NULL);
	xml("<", NULL);
	xml("<a><", NULL);
	for (int i = 0; i < 17; i++)
		strlcat(deep, "<a>", sizeof(deep));
	for (int i = 0; i < 17; i++)
		strlcat(deep, "</a>", sizeof(deep));
	xml(deep, NULL);
}

static void
is_time(const char *text, int64 ms)
{
	int64		got = -1;

	if (!aws_parse_time(text, &got))
		got = -1;
	is_int(got, ms, "time \"%s\"", text);
}

static void
times(void)
{
	is_time("1970-01-01T00:00:00Z", 0);
	is_time("2026-11-22T06:00:00Z", INT64CONST(1795327200000));
	is_time("2024-02-29T23:59:59Z", INT64CONST(1709251199000));
	is_time("2024-03-01T00:00:00Z", INT64CONST(1709251200000));
	is_time("2100-03-01T00:00:00Z", INT64CONST(4107542400000));
	is_time("2026-11-22T06:00:00.25Z", INT64CONST(1795327200250));
	is_time("2026-11-22T06:00:00.123456789Z", INT64CONST(1795327200123));
	is_time("2026-11-22T07:30:00+01:30", INT64CONST(1795327200000));
	is_time("2026-11-21T22:00:00-0800", INT64CONST(1795327200000));
	is_time("9999-12-31T23:59:59Z", INT64CONST(253402300799000));
	is_time("", -1);
	is_time("2026-11-22", -1);
	is_time("2026-11-22T06:00:00", -1);
	is_time("2026-11-22T06:00:00.Z", -1);
	is_time("2026-11-22T06:00:00Zx", -1);
	is_time("2026-13-22T06:00:00Z", -1);
	is_time("2026-00-22T06:00:00Z", -1);
	is_time("2026-11-00T06:00:00Z", -1);
	is_time("2026-11-22T24:00:00Z", -1);
	is_time("1969-12-31T23:59:59Z", -1);
	is_time("2026-11-22T06:00:00+1", -1);
	is_time("1795327200", -1);
}

/* The words with '|' behind each; NULL if it is no command. */
static void
command(const char *line, const char *expected)
{
	const char *why;
	char	  **words = aws_split_command(line, &why);
	char		joined[512] = "";

	for (int i = 0; words != NULL && words[i] != NULL; i++)
	{
		strlcat(joined, words[i], sizeof(joined));
		strlcat(joined, "|", sizeof(joined));
	}
	is(words != NULL ? joined : NULL, expected, "command: %s", line);
	free(words);
}

static void
commands(void)
{
	command("a", "a|");
	command(" /bin/a  b\tc\n", "/bin/a|b|c|");
	command("a 'b c' \"d e\" f\\ g", "a|b c|d e|f g|");
	command("a 'b\\c\"' \"d\\e\\\\ \\\"'\"", "a|b\\c\"|d\\e\\ \"'|");
	command("a '' \"\"b'c'", "a||bc|");
	command("a;b $HOME ~ # c", "a;b|$HOME|~|#|c|");
	command("a|b", "a|b|");
	command("", NULL);
	command("  ", NULL);
	command("''", NULL);
	command("a 'b", NULL);
	command("a \"b\\\"", NULL);
	command("a \\", NULL);
}

static AwsKeyReply reply;
static AwsFetchedKeys keys;
static char *copied;

/*
 * What is made of a reply: "parse" if it is none, the reason why there are no
 * keys in it, or the keys.
 */
static const char *
outcome(const char *text, const char *action, AwsKeyParts parts)
{
	static char result[512];
	const char *why = NULL;

	aws_fetched_keys_wipe(&keys);
	free(copied);
	copied = tap_copy(text, strlen(text));
	if (!aws_key_reply_parse(copied, strlen(text), action, &reply))
		return "parse";
	if (!aws_key_reply_keys(&reply, parts, &keys, &why))
		return why;
	snprintf(result, sizeof(result), "%s %s %s %lld", keys.access_key_id, keys.secret_access_key,
			 keys.session_token ? keys.session_token : "-", (long long) keys.expires);
	return result;
}

static void
replies(void)
{
	is(outcome("{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\",\"Token\":\"T\",\"Expiration\":\"1970-01-01T00:00:01Z\"}",
			   NULL, AWS_KEYS_TEMPORARY), "A S T 1000", "metadata");
	is(outcome("{\"Version\":1,\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\",\"x\":[{\"AccessKeyId\":1}],\"y\":{\"AccessKeyId\":\"B\"}}",
			   NULL, AWS_KEYS_LASTING), "A S - 0", "only the top counts");
	is(reply.version, "1", "a number");
	is(outcome("{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\"}", NULL, AWS_KEYS_TEMPORARY),
	   "there is no session token in it", "no token");
	is(outcome("{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\",\"Token\":\"T\"}", NULL, AWS_KEYS_TEMPORARY),
	   "there is no Expiration in it", "no expiry");
	is(outcome("{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\",\"Token\":\"T\",\"Expiration\":\"1970-01-01T00:00:00Z\"}",
			   NULL, AWS_KEYS_TEMPORARY), "A S T 1", "the epoch is an end, too");
	is(outcome("{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\",\"Token\":\"T\",\"Expiration\":\"soon\"}", NULL, AWS_KEYS_TEMPORARY),
	   "its Expiration is not a time", "no time");
	is(outcome("{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\",\"Token\":\"T\",\"Expiration\":1e300}", NULL, AWS_KEYS_TEMPORARY),
	   "its Expiration is not a time", "beyond time");
	is(outcome("{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\",\"Token\":\"T\",\"Expiration\":-5}", NULL, AWS_KEYS_TEMPORARY),
	   "its Expiration is not a time", "before time");
	is(outcome("{\"AccessKeyId\":\"\",\"SecretAccessKey\":\"S\"}", NULL, AWS_KEYS_LASTING),
	   "there is no AccessKeyId in it", "an empty id");
	is(outcome("{\"AccessKeyId\":7,\"SecretAccessKey\":\"S\"}", NULL, AWS_KEYS_LASTING),
	   "there is no AccessKeyId in it", "a number as id");
	is(outcome("{\"AccessKeyId\":\"A\\r\\nX: y\",\"SecretAccessKey\":\"S\"}", NULL, AWS_KEYS_LASTING),
	   "its AccessKeyId is not one", "a header in the id");
	is(outcome("{\"AccessKeyId\":\"A\\u0000B\",\"SecretAccessKey\":\"S\"}", NULL, AWS_KEYS_LASTING),
	   "there is no AccessKeyId in it", "a NUL in the id");
	is(outcome("{\"AccessKeyId\":\"A\"}", NULL, AWS_KEYS_LASTING), "there is no SecretAccessKey in it", "no secret");
	is(outcome("{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S S\"}", NULL, AWS_KEYS_LASTING),
	   "its SecretAccessKey is not one", "a blank in the secret");
	is(outcome("<AccessKeyId>A</AccessKeyId>", NULL, AWS_KEYS_LASTING), "parse", "XML is for STS");
	is(outcome("[]", NULL, AWS_KEYS_LASTING), "parse", "an array");
	is(outcome("", NULL, AWS_KEYS_LASTING), "parse", "nothing");
	is(outcome("{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\"} x", NULL, AWS_KEYS_LASTING), "parse", "more behind it");

	is(outcome("\n<XResponse><XResult><Credentials><SessionToken>\nT\n</SessionToken><AccessKeyId>A</AccessKeyId>"
			   "<SecretAccessKey>S</SecretAccessKey><Expiration>1970-01-01T00:00:01Z</Expiration></Credentials>"
			   "<AssumedRoleUser><Arn>r</Arn></AssumedRoleUser></XResult></XResponse>",
			   "X", AWS_KEYS_TEMPORARY), "A S T 1000", "STS, XML");
	is(keys.arn, "r", "its role");
	is(outcome("{\"XResponse\":{\"XResult\":{\"Credentials\":{\"SessionToken\":\"T\",\"AccessKeyId\":\"A\","
			   "\"SecretAccessKey\":\"S\",\"Expiration\":1.5}}}}", "X", AWS_KEYS_TEMPORARY), "A S T 1500", "STS, JSON");
	is(outcome("<YResponse><YResult><Credentials><AccessKeyId>A</AccessKeyId></Credentials></YResult></YResponse>",
			   "X", AWS_KEYS_TEMPORARY), "there is no AccessKeyId in it", "of another action");
	(void) outcome("<ErrorResponse><Error><Code>C</Code><Message>M &amp; N</Message></Error></ErrorResponse>",
				   "X", AWS_KEYS_TEMPORARY);
	is(reply.code, "C", "an error's code");
	is(reply.message, "M & N", "and text");
	(void) outcome("{\"Error\":{\"Code\":\"C\",\"Message\":\"M\",\"Type\":\"Sender\"},\"RequestId\":\"1\"}", "X", AWS_KEYS_TEMPORARY);
	is(reply.code, "C", "an error in JSON");
	(void) outcome("{\"code\":\"C\",\"message\":\"M\"}", NULL, AWS_KEYS_TEMPORARY);
	is(reply.message, "M", "an agent's error");
	(void) outcome("<XResponse><XResult><Account>1</Account><Arn>a</Arn><UserId>u</UserId></XResult></XResponse>",
				   "X", AWS_KEYS_TEMPORARY);
	ok(reply.account_id && strcmp(reply.account_id, "1") == 0 && reply.arn && strcmp(reply.arn, "a") == 0 &&
	   reply.user_id && strcmp(reply.user_id, "u") == 0, "a caller");
	aws_fetched_keys_wipe(&keys);
	free(copied);
	copied = NULL;
}

void
test_key_reply(void)
{
	documents();
	times();
	commands();
	replies();
}
