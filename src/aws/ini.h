/*-------------------------------------------------------------------------
 *
 * ini.h
 *	  The syntax of AWS's configuration files, without their meaning.
 *
 *	[section]
 *	key = value
 *	key =
 *		subkey = value
 *
 * Text with an error is refused as a whole: half of a file may name another
 * identity than all of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_INI_H
#define AWS_INI_H

/* The largest file that is read. */
#define AWS_INI_MAX_BYTES	(1024 * 1024)

/* A section (key is NULL) or a value in it.  The strings are the file's. */
typedef struct AwsIniEntry
{
	const char *section;		/* "profile prod": blanks are single, quotes
								 * are removed */
	const char *key;			/* lower case */
	const char *subkey;			/* lower case; NULL: it is the key's own value */
	const char *value;			/* may be empty */
	int			line;			/* from 1 */
	bool		is_continued;	/* more of the value is on the next line, and
								 * not here */
} AwsIniEntry;

typedef struct AwsIni
{
	char	   *text;			/* what was parsed; the entries point into it */
	size_t		len;
	AwsIniEntry *entries;		/* in the order of the file; sections and keys
								 * may occur more than once */
	int			nentries;
} AwsIni;

/*
 * Parse a text, which is malloc'ed, has a NUL at text[len], and becomes the
 * AwsIni's in any case.  If this fails, *line is where, and *why a constant
 * phrase such as "is not a section, ...", or "out of memory" with line 0.
 */
extern bool aws_ini_parse(AwsIni *ini, char *text, size_t len, int *line,
						  const char **why);

/* Wipes the text.  The AwsIni may be all zeros. */
extern void aws_ini_free(AwsIni *ini);

/*
 * The last entry with this section and key (NULL: the section itself) and
 * subkey (NULL: the key's own value), or NULL.
 */
extern const AwsIniEntry *aws_ini_find(const AwsIni *ini, const char *section,
									   const char *key, const char *subkey);

#endif							/* AWS_INI_H */
