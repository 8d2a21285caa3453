/*-------------------------------------------------------------------------
 *
 * ini.c
 *	  The syntax of AWS's configuration files.
 *
 * AWS documents the format by examples, and its SDKs differ where files are
 * unusual.  Here, where they disagree:
 *
 *	- "#" and ";" begin a comment at the start of a line, and after a blank.
 *	  So in JavaScript, Go and Rust; for botocore, what follows a value
 *	  belongs to it.  No value that we use has a blank and one of these.
 *
 *	- Quotes are part of a value, and not of a section's name, as everywhere.
 *
 *	- A line that is indented deeper than the key before it belongs to that
 *	  key: as a subkey if the key has no value, else as the rest of its value.
 *	  So in botocore.  In JavaScript any indented line after a key without a
 *	  value is a subkey, and after other keys a key.  Files whose keys are all
 *	  indented alike are the same to both, and to us.
 *
 *	- Sections and keys may occur again; the last one counts, key by key.  So
 *	  in JavaScript and Rust; botocore refuses the file.
 *
 *	- Keys are not case-sensitive (botocore, Go), sections are.
 *
 *	- What is neither a comment nor a section nor "key = value" is an error, as
 *	  in botocore, as is a key before the first section.  JavaScript ignores
 *	  them, which would turn a typing error in role_arn into another identity.
 *
 * The parser works in place: it puts NULs into the text.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "aws/ini.h"

typedef struct IniParser
{
	AwsIni	   *ini;
	int			allocated;
	const char *section;		/* NULL before the first one */
	int			parent;			/* index of the key that lines indented deeper
								 * than it belong to; -1: none */
	size_t		parent_indent;
	const char *why;
} IniParser;

/* Names of sections that consist of one of these and a name. */
static const char *const prefixes[] = {"profile", "services", "sso-session"};

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* The text without blanks at both ends; works in place. */
static char *
trim(char *text)
{
	size_t		len;

	while (is_blank(*text))
		text++;
	len = strlen(text);
	while (len > 0 && is_blank(text[len - 1]))
		len--;
	text[len] = '\0';
	return text;
}

static char *
lower(char *text)
{
	for (char *p = text; *p != '\0'; p++)
		*p = pg_ascii_tolower((unsigned char) *p);
	return text;
}

/* Cut what follows a "#" or ";" that is first or after a blank. */
static void
cut_comment(char *line)
{
	for (char *p = line; *p != '\0'; p++)
	{
		if ((*p == '#' || *p == ';') && (p == line || is_blank(p[-1])))
		{
			*p = '\0';
			return;
		}
	}
}

static bool
add_entry(IniParser *parser, const char *key, const char *subkey,
		  const char *value, int line)
{
	AwsIni	   *ini = parser->ini;
	AwsIniEntry *entry;

	if (ini->nentries == parser->allocated)
	{
		int			more = parser->allocated == 0 ? 32 : 2 * parser->allocated;
		AwsIniEntry *entries = realloc(ini->entries, more * sizeof(AwsIniEntry));

		if (entries == NULL)
		{
			parser->why = "out of memory";
			return false;
		}
		ini->entries = entries;
		parser->allocated = more;
	}
	entry = &ini->entries[ini->nentries++];
	entry->section = parser->section;
	entry->key = key;
	entry->subkey = subkey;
	entry->value = value;
	entry->line = line;
	entry->is_continued = false;
	return true;
}

/* "[name]", "[profile name]", "[ profile 'name' ]": a line that begins so. */
static bool
parse_section(IniParser *parser, char *text, int line)
{
	size_t		len = strlen(text);
	char	   *name;

	if (len < 2 || text[len - 1] != ']')
	{
		parser->why = "begins with [ but does not end with ]";
		return false;
	}
	text[len - 1] = '\0';
	name = trim(text + 1);
	for (size_t i = 0; i < lengthof(prefixes); i++)
	{
		size_t		prefix = strlen(prefixes[i]);
		char	   *rest;

		if (strncmp(name, prefixes[i], prefix) != 0 || !is_blank(name[prefix]))
			continue;
		rest = trim(name + prefix);
		len = strlen(rest);
		if (len >= 2 && (rest[0] == '"' || rest[0] == '\'') && rest[len - 1] == rest[0])
		{
			rest[len - 1] = '\0';
			rest++;
		}
		name[prefix] = ' ';
		memmove(name + prefix + 1, rest, strlen(rest) + 1);
		if (name[prefix + 1] == '\0')
			name = name + prefix + 1;
		break;
	}
	if (name[0] == '\0')
	{
		parser->why = "is a section without a name";
		return false;
	}
	parser->section = name;
	parser->parent = -1;
	return add_entry(parser, NULL, NULL, "", line);
}

/* A line without its end; it is not empty, and ends with a NUL. */
static bool
parse_line(IniParser *parser, char *text, int line)
{
	AwsIniEntry *parent = NULL;
	size_t		indent = 0;
	char	   *equals;
	char	   *key;
	char	   *value;

	while (is_blank(text[indent]))
		indent++;
	cut_comment(text);
	text = trim(text);
	if (text[0] == '\0')
		return true;
	if (text[0] == '[')
		return parse_section(parser, text, line);

	if (parser->section == NULL)
	{
		parser->why = "is before the first [section]";
		return false;
	}
	if (parser->parent >= 0 && indent > parser->parent_indent)
		parent = &parser->ini->entries[parser->parent];
	if (parent != NULL && parent->value[0] != '\0')
	{
		parent->is_continued = true;
		return true;
	}

	equals = strchr(text, '=');
	if (equals == NULL || equals == text)
	{
		parser->why = "is neither [section] nor key = value nor # comment";
		return false;
	}
	*equals = '\0';
	key = lower(trim(text));
	value = trim(equals + 1);
	if (parent != NULL)
		return add_entry(parser, parent->key, key, value, line);
	parser->parent = parser->ini->nentries;
	parser->parent_indent = indent;
	return add_entry(parser, key, NULL, value, line);
}

bool
aws_ini_parse(AwsIni *ini, char *text, size_t len, int *line, const char **why)
{
	IniParser	parser = {.ini = ini, .parent = -1};
	char	   *end = text + len;
	char	   *next;

	memset(ini, 0, sizeof(*ini));
	ini->text = text;
	ini->len = len;

	/* editors of Windows begin UTF-8 so */
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		text += 3;

	*line = 0;
	for (; text < end; text = next)
	{
		char	   *eol = memchr(text, '\n', end - text);

		(*line)++;
		if (eol == NULL)
			eol = end;
		next = eol + 1;
		if (memchr(text, '\0', eol - text) != NULL)
		{
			*why = "has a NUL byte, so this is not a text file, or is one in UTF-16";
			aws_ini_free(ini);
			return false;
		}
		if (eol > text && eol[-1] == '\r')
			eol--;
		*eol = '\0';
		if (!parse_line(&parser, text, *line))
		{
			*why = parser.why;
			if (strcmp(parser.why, "out of memory") == 0)
				*line = 0;
			aws_ini_free(ini);
			return false;
		}
	}
	return true;
}

void
aws_ini_free(AwsIni *ini)
{
	if (ini->text != NULL)
		explicit_bzero(ini->text, ini->len);
	free(ini->text);
	free(ini->entries);
	memset(ini, 0, sizeof(*ini));
}

static bool
same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

const AwsIniEntry *
aws_ini_find(const AwsIni *ini, const char *section, const char *key,
			 const char *subkey)
{
	for (int i = ini->nentries - 1; i >= 0; i--)
	{
		const AwsIniEntry *entry = &ini->entries[i];

		if (strcmp(entry->section, section) == 0 && same(entry->key, key) &&
			same(entry->subkey, subkey))
			return entry;
	}
	return NULL;
}
