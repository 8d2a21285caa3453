/*-------------------------------------------------------------------------
 *
 * test_ini.c
 *	  The syntax of AWS's configuration files: what is read, and which line is
 *	  blamed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "aws/ini.h"
#include "tap.h"

static bool
parse(AwsIni *ini, const char *text, size_t len, int *line, const char **why)
{
	char	   *copy = malloc(len + 1);

	if (copy == NULL)
		exit(2);
	memcpy(copy, text, len);
	copy[len] = '\0';
	return aws_ini_parse(ini, copy, len, line, why);
}

static void
values(void)
{
	static const struct
	{
		const char *text;
		const char *section;
		const char *key;
		const char *subkey;
		const char *value;		/* NULL: there is none */
		int			line;
		const char *what;
	}			cases[] =
	{
		{"[a]\nk=v", "a", "k", NULL, "v", 2, "no newline at the end"},
		{"[a]\r\nk = v\r\n", "a", "k", NULL, "v", 2, "lines of DOS"},
		{"\xef\xbb\xbf[a]\nk=v\n", "a", "k", NULL, "v", 2, "a byte order mark"},
		{"\n\n# c\n; c\n  # c\n[a]\n\nk=v\n", "a", "k", NULL, "v", 8, "comments and empty lines"},
		{"[a]\n\tk\t=\tv w\t\n", "a", "k", NULL, "v w", 2, "blanks around both"},
		{"[a]\nk = v # c\n", "a", "k", NULL, "v", 2, "a comment after a value"},
		{"[a]\nk = v\t; c\n", "a", "k", NULL, "v", 2, "another one"},
		{"[a]\nk = v#w;x\n", "a", "k", NULL, "v#w;x", 2, "no comment, without a blank"},
		{"[a] # c\nk = v\n", "a", "k", NULL, "v", 2, "a comment after a section"},
		{"[a]\nk = # c\n", "a", "k", NULL, "", 2, "a comment instead of a value"},
		{"[a]\nk = \"v\"\n", "a", "k", NULL, "\"v\"", 2, "quotes are part of a value"},
		{"[a]\nk = v = w=\n", "a", "k", NULL, "v = w=", 2, "more equals signs"},
		{"[a]\nK_x-Y = Vv\n", "a", "k_x-y", NULL, "Vv", 2, "keys in lower case"},
		{"[a]\nk = v\n", "A", "k", NULL, NULL, 0, "sections are case-sensitive"},
		{"[a]\nk = 1\nk = 2\n", "a", "k", NULL, "2", 3, "the last of a key"},
		{"[a]\nk = 1\n[b]\nk = 2\n[a]\nj = 3\n", "a", "k", NULL, "1", 2, "a section that is continued"},
		{"[a]\nk = 1\n[b]\nk = 2\n[a]\nj = 3\n", "a", "j", NULL, "3", 6, "the rest of it"},
		{"[a]\nk = 1\n[a]\nk = 2\n", "a", "k", NULL, "2", 4, "a section that overrides"},
		{"[ a ]\nk=v\n", "a", "k", NULL, "v", 2, "blanks in brackets"},
		{"  [a]\n  k=v\n", "a", "k", NULL, "v", 2, "all of it indented"},
		{"[a b]\nk=v\n", "a b", "k", NULL, "v", 2, "a name with a blank"},
		{"[profile a]\nk=v\n", "profile a", "k", NULL, "v", 2, "a profile"},
		{"[profile \t a ]\nk=v\n", "profile a", "k", NULL, "v", 2, "more blanks"},
		{"[profile \"a b\"]\nk=v\n", "profile a b", "k", NULL, "v", 2, "double quotes"},
		{"[services 'a']\nk=v\n", "services a", "k", NULL, "v", 2, "single quotes"},
		{"[profile 'a\"]\nk=v\n", "profile 'a\"", "k", NULL, "v", 2, "quotes that do not match"},
		{"[profilea]\nk=v\n", "profilea", "k", NULL, "v", 2, "not a profile"},
		{"[profile]\nk=v\n", "profile", "k", NULL, "v", 2, "nor is this"},
		{"[a]\ns =\n  k = v\n  j = w\nx = y\n", "a", "s", "k", "v", 3, "a subkey"},
		{"[a]\ns =\n  k = v\n  j = w\nx = y\n", "a", "s", "j", "w", 4, "the next one"},
		{"[a]\ns =\n  k = v\n  j = w\nx = y\n", "a", "s", NULL, "", 2, "the key that has them"},
		{"[a]\ns =\n  k = v\n  j = w\nx = y\n", "a", "x", NULL, "y", 5, "the key after them"},
		{"[a]\ns =\n  k = v\n  j = w\nx = y\n", "a", "k", NULL, NULL, 0, "a subkey is no key"},
		{"[a]\ns =\n\n  # c\n  k = v\n", "a", "s", "k", "v", 5, "a subkey after an empty line"},
		{"[a]\ns =\nk = v\n", "a", "k", NULL, "v", 3, "a key after an empty one"},
		{"[a]\n  s =\n  k = v\n", "a", "k", NULL, "v", 3, "indented alike"},
		{"[a]\n  s =\n    k = v\n", "a", "s", "k", "v", 3, "indented deeper"},
		{"[a]\n    j = 1\n  k = v\n", "a", "k", NULL, "v", 3, "indented less"},
		{"[a]\ns =\n[b]\n  k = v\n", "b", "k", NULL, "v", 4, "a section ends it"},
		{"[a]\nk = \xc3\xa9\n", "a", "k", NULL, "\xc3\xa9", 2, "other characters"},
		{"", "a", NULL, NULL, NULL, 0, "an empty text"},
		{"\xef\xbb\xbf", "a", NULL, NULL, NULL, 0, "nothing but a mark"},
		{"\r\n \r\n", "a", NULL, NULL, NULL, 0, "empty lines"},
		{"[a]", "a", NULL, NULL, "", 1, "an empty section"},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		AwsIni		ini;
		const AwsIniEntry *entry;
		const char *why = NULL;
		int			line;

		if (!ok(parse(&ini, cases[i].text, strlen(cases[i].text), &line, &why),
				"%s: parsed", cases[i].what))
		{
			printf("# line %d %s\n", line, why);
			continue;
		}
		entry = aws_ini_find(&ini, cases[i].section, cases[i].key, cases[i].subkey);
		is(entry != NULL ? entry->value : NULL, cases[i].value, "%s: value", cases[i].what);
		is_int(entry != NULL ? entry->line : 0, cases[i].line, "%s: line", cases[i].what);
		ok(entry == NULL || !entry->is_continued, "%s: on one line", cases[i].what);
		aws_ini_free(&ini);
	}
}

static void
errors(void)
{
#define TEXT(s)		s, sizeof(s) - 1
	static const struct
	{
		const char *text;
		size_t		len;
		int			line;
		const char *why;
	}			cases[] =
	{
		{TEXT("k = SECRET\n"), 1, "before the first"},
		{TEXT("\n\n k = SECRET\n[a]\n"), 3, "before the first"},
		{TEXT("[a]\nSECRET\n"), 2, "neither"},
		{TEXT("[a]\r\n\r\nSECRET: x\r\n"), 3, "neither"},
		{TEXT("[a]\n= SECRET\n"), 2, "neither"},
		{TEXT("[a]\ns =\n  SECRET\n"), 3, "neither"},
		{TEXT("[a]\ns =\n  = SECRET\n"), 3, "neither"},
		{TEXT("[a\nk = SECRET\n"), 1, "does not end with ]"},
		{TEXT("[a] SECRET\n"), 1, "does not end with ]"},
		{TEXT("["), 1, "does not end with ]"},
		{TEXT("[]\n"), 1, "without a name"},
		{TEXT("[ \t ]\n"), 1, "without a name"},
		{TEXT("[profile ]\n[profile \"\"]\n"), 2, "without a name"},
		{TEXT("[a]\nk = SEC\0RET\n"), 2, "NUL"},
		{TEXT("\0"), 1, "NUL"},
		{TEXT("\xff\xfe[\0a\0]\0\n\0"), 1, "NUL"},
		{TEXT("[a]\nk = SECRET\n[b\n"), 3, "does not end with ]"},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		AwsIni		ini;
		const char *why = "";
		int			line = 0;

		ok(!parse(&ini, cases[i].text, cases[i].len, &line, &why), "malformed text %zu", i);
		is_int(line, cases[i].line, "its line");
		if (!ok(strstr(why, cases[i].why) != NULL && strstr(why, "SECRET") == NULL, "and why"))
			printf("# %s\n", why);
		ok(ini.text == NULL && ini.entries == NULL, "nothing is left of it");
	}
}

static void
continued(void)
{
	AwsIni		ini;
	const char *why;
	int			line;

	ok(parse(&ini, TEXT("[a]\nk = v\n  rest of it\nj = w\n  more = x\n"), &line, &why), "continued values");
	ok(aws_ini_find(&ini, "a", "k", NULL)->is_continued, "are marked");
	ok(aws_ini_find(&ini, "a", "j", NULL)->is_continued, "though they look like keys");
	ok(aws_ini_find(&ini, "a", "more", NULL) == NULL, "which they are not");
	aws_ini_free(&ini);
}

/* Anything of a text that was cut off is either parsed or refused. */
static void
truncated(void)
{
	static const char text[] = "\xef\xbb\xbf[profile \"a b\"] # c\r\nk = v ; c\r\ns =\r\n  k = v\r\n";
	int			nparsed = 0;

	for (size_t len = 0; len < sizeof(text); len++)
	{
		AwsIni		ini;
		const char *why;
		int			line;

		if (parse(&ini, text, len, &line, &why))
			nparsed++;
		aws_ini_free(&ini);
	}
	ok(nparsed > 10, "%d of its beginnings can be parsed", nparsed);
}

/* The largest file, with as many entries as it can hold. */
static void
large(void)
{
	char	   *text = malloc(AWS_INI_MAX_BYTES + 1);
	AwsIni		ini;
	const char *why;
	int			line;

	if (text == NULL)
		exit(2);
	for (size_t i = 0; i < AWS_INI_MAX_BYTES; i += 4)
		memcpy(text + i, i == 0 ? "[a]\n" : "k=v\n", 4);
	text[AWS_INI_MAX_BYTES] = '\0';
	ok(aws_ini_parse(&ini, text, AWS_INI_MAX_BYTES, &line, &why), "a large text");
	is_int(ini.nentries, AWS_INI_MAX_BYTES / 4, "entries");
	is_int(aws_ini_find(&ini, "a", "k", NULL)->line, AWS_INI_MAX_BYTES / 4, "the last one");
	aws_ini_free(&ini);
	aws_ini_free(&ini);
}

void
test_ini(void)
{
	values();
	errors();
	continued();
	truncated();
	large();
}
