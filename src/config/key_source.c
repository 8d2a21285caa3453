/*-------------------------------------------------------------------------
 *
 * key_source.c
 *	  Where in a message a key is: the options route_by and dedup_key.
 *
 * Neither prefix can begin a jsonpath.  A jsonpath may not have variables, as
 * there is nothing that would give them a value.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "config/key_source.h"

#define KEY_SOURCE_MAX		1000	/* bytes */

/* What follows a prefix; NULL if the value does not begin with it. */
static char *
after_prefix(char *value, const char *prefix)
{
	size_t		len = strlen(prefix);

	return strncmp(value, prefix, len) == 0 ? value + len : NULL;
}

/* Has a jsonpath variables?  jsonpath_out() writes them as $"name". */
static bool
has_variables(JsonPath *path)
{
	const char *text = DatumGetCString(DirectFunctionCall1(jsonpath_out,
														   PointerGetDatum(path)));
	bool		in_quotes = false;

	for (const char *p = text; *p != '\0'; p++)
	{
		if (in_quotes && *p == '\\')
			p++;
		else if (*p == '"')
			in_quotes = !in_quotes;
		else if (!in_quotes && p[0] == '$' && p[1] == '"')
			return true;
	}
	return false;
}

/* value stays; the source has pointers into it. */
bool
sqs_key_source(char *value, SqsKeySource *source, const char **why)
{
	char	   *name;

	memset(source, 0, sizeof(*source));
	if (strlen(value) > KEY_SOURCE_MAX)
	{
		*why = "must not have more than 1000 bytes";
		return false;
	}
	if ((name = after_prefix(value, "attribute:")) != NULL)
		source->kind = SQS_KEY_ATTRIBUTE;
	else if ((name = after_prefix(value, "envelope:")) != NULL)
		source->kind = SQS_KEY_ENVELOPE;
	else
	{
		source->kind = SQS_KEY_JSONPATH;
		source->path = DatumGetJsonPathP(DirectFunctionCall1(jsonpath_in,
															 CStringGetDatum(value)));
		*why = "must be a jsonpath without variables";
		return !has_variables(source->path);
	}
	if (*name == '\0')
	{
		*why = "must be attribute:NAME, envelope:KEY, or a jsonpath";
		return false;
	}
	source->name = name;
	return true;
}
