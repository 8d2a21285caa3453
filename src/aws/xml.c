/*-------------------------------------------------------------------------
 *
 * xml.c
 *	  As much XML as STS sends.
 *
 * Elements, text, the predefined and the numeric entities, an XML declaration.
 * Attributes (STS has xmlns) are passed over, and not checked.  Comments, CDATA
 * and DOCTYPE are refused: STS does not send them, and the less is understood,
 * the less can be misunderstood.  Elements must be closed in order, which is
 * how a truncated reply shows.
 *
 * The reader neither allocates nor recurses.  It writes only over what it has
 * read.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "mb/pg_wchar.h"

#include "aws/xml.h"

#define MAX_PATH_LEN	512
#define MAX_DEPTH		16		/* STS has 4 */

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The length of the name at p; 0 if there is none. */
static size_t
name_length(const char *p, const char *end)
{
	size_t		n = 0;

	while (p + n < end &&
		   ((p[n] >= 'a' && p[n] <= 'z') || (p[n] >= 'A' && p[n] <= 'Z') ||
			p[n] == '_' || p[n] == ':' || (unsigned char) p[n] >= 0x80 ||
			(n > 0 && ((p[n] >= '0' && p[n] <= '9') || p[n] == '-' || p[n] == '.'))))
		n++;
	return n;
}

/*
 * Read an entity, behind its ampersand, and write what it stands for at *out,
 * which takes no more room.  Advances both pointers.
 */
static bool
read_entity(const char **in, const char *end, char **out)
{
	static const struct
	{
		const char *name;
		char		c;
	}			predefined[] =

	{
		{"lt;", '<'}, {"gt;", '>'}, {"amp;", '&'}, {"quot;", '"'}, {"apos;", '\''}
	};
	const char *p = *in;
	pg_wchar	code = 0;
	int			base = 10;
	int			ndigits = 0;

	for (size_t i = 0; i < lengthof(predefined); i++)
	{
		size_t		n = strlen(predefined[i].name);

		if ((size_t) (end - p) >= n && memcmp(p, predefined[i].name, n) == 0)
		{
			*(*out)++ = predefined[i].c;
			*in = p + n;
			return true;
		}
	}

	if (p >= end || *p++ != '#')
		return false;
	if (p < end && *p == 'x')
	{
		base = 16;
		p++;
	}
	for (; p < end && *p != ';'; p++, ndigits++)
	{
		int			digit = *p >= '0' && *p <= '9' ? *p - '0' :
			*p >= 'a' && *p <= 'f' ? *p - 'a' + 10 :
			*p >= 'A' && *p <= 'F' ? *p - 'A' + 10 : 16;

		if (digit >= base || ndigits >= 8)
			return false;
		code = code * base + digit;
	}
	if (p >= end || ndigits == 0 || code == 0 || code > 0x10ffff ||
		(code >= 0xd800 && code <= 0xdfff))
		return false;
	unicode_to_utf8(code, (unsigned char *) *out);
	*out += pg_utf_mblen((unsigned char *) *out);
	*in = p + 1;
	return true;
}

/*
 * Unescape the text in place and terminate it, at "end" at the latest.  NULL if
 * it has a control character or an unknown entity.
 */
static char *
read_text(char *text, char *end)
{
	const char *in;
	char	   *out;

	while (text < end && is_blank(*text))
		text++;
	while (end > text && is_blank(end[-1]))
		end--;
	in = text;
	out = text;
	while (in < end)
	{
		if ((unsigned char) *in < 0x20 && !is_blank(*in))
			return NULL;
		if (*in != '&')
			*out++ = *in++;
		else
		{
			in++;
			if (!read_entity(&in, end, &out))
				return NULL;
		}
	}
	*out = '\0';
	return text;
}

/* The end of a start tag, at its ">"; NULL if there is none. */
static char *
tag_end(char *p, char *end)
{
	char		quote = '\0';

	for (; p < end; p++)
	{
		if (quote != '\0')
		{
			if (*p == quote)
				quote = '\0';
		}
		else if (*p == '"' || *p == '\'')
			quote = *p;
		else if (*p == '>')
			return p;
		else if (*p == '<')
			return NULL;
	}
	return NULL;
}

/*
 * "path" has the names of the open elements; path_len[i] is its length when i of
 * them are open.  "text" is where the innermost one's text begins, or NULL if it
 * has had an element inside.
 */
bool
aws_xml_leaves(char *data, size_t len, XmlLeaf leaf, void *arg)
{
	char	   *p = data;
	char	   *end = data + len;
	char	   *text = NULL;
	char		path[MAX_PATH_LEN];
	size_t		path_len[MAX_DEPTH + 1] = {0};
	int			depth = 0;
	bool		root_seen = false;

	path[0] = '\0';
	for (;;)
	{
		char	   *tag;
		size_t		n;

		/* up to the next tag */
		tag = p < end ? memchr(p, '<', end - p) : NULL;
		if (depth == 0)
		{
			for (; p < (tag != NULL ? tag : end); p++)
				if (!is_blank(*p))
					return false;
		}
		if (tag == NULL)
			return depth == 0 && root_seen;
		p = tag + 1;
		if (p >= end)
			return false;

		if (*p == '?')
		{
			if (depth > 0 || root_seen)
				return false;
			for (p++; p + 1 < end && !(p[0] == '?' && p[1] == '>'); p++)
				;
			if (p + 1 >= end)
				return false;
			p += 2;
		}
		else if (*p == '/')
		{
			size_t		start = depth > 1 ? path_len[depth - 1] + 1 : 0;

			p++;
			n = name_length(p, end);
			if (depth == 0 || n != path_len[depth] - start ||
				memcmp(p, path + start, n) != 0)
				return false;
			for (p += n; p < end && is_blank(*p); p++)
				;
			if (p >= end || *p++ != '>')
				return false;
			if (text != NULL)
			{
				text = read_text(text, tag);
				if (text == NULL)
					return false;
				leaf(path, text, arg);
			}
			text = NULL;
			depth--;
			path[path_len[depth]] = '\0';
		}
		else
		{
			char	   *close;
			size_t		at = path_len[depth];

			n = name_length(p, end);
			close = tag_end(p + n, end);
			if (n == 0 || close == NULL || depth == MAX_DEPTH || (depth == 0 && root_seen) ||
				at + 1 + n + 1 > sizeof(path) ||
				(p + n < close && !is_blank(p[n]) && p[n] != '/'))
				return false;
			root_seen = true;
			if (depth > 0)
				path[at++] = '/';
			memcpy(path + at, p, n);
			path[at + n] = '\0';
			if (close > p + n && close[-1] == '/')
			{
				close[-1] = '\0';
				leaf(path, close - 1, arg);
				path[path_len[depth]] = '\0';
				text = NULL;
			}
			else
			{
				path_len[++depth] = at + n;
				text = close + 1;
			}
			p = close + 1;
		}
	}
}
