/*-------------------------------------------------------------------------
 *
 * profile.c
 *	  The profiles in AWS's two configuration files, as if they were one.
 *
 * The credentials file has sections [name], the config file [profile name],
 * where [default] is the same as [profile default] unless there are both; then
 * the latter counts.  Other sections are no profiles, and are ignored, as in
 * all SDKs.  If both files set a key of a profile, the credentials file's value
 * counts, key by key.  So in the SDKs that merge the files (JavaScript, Rust);
 * botocore uses both keys of one file.  A key without a value is not set.
 *
 * A file that does not exist may be named by its variable, as in all SDKs: that
 * is how files are mounted optionally.  In contrast to the SDKs, a file that is
 * there but cannot be read is an error, since the default would be another
 * identity.  The exception is a default location below a directory that is
 * closed to us, because HOME may be somebody else's after su or sudo.
 *
 * AWS_CONFIG_FILE=/dev/null is a common way of having no such file.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "aws/profile.h"
#include "aws/secret.h"

static bool
out_of_memory(AwsError *error)
{
	aws_error_set(error, AWS_ERROR_RESOURCES, "NoResources", "out of memory");
	return false;
}

/*
 * Set *path to the home directory with something after it, malloc'ed; NULL if
 * there is no home directory.  False, with *error set, if that cannot be found
 * out: without its files, another identity could be chosen.
 */
static bool
below_home(AwsGetenv env, const char *rest, char **path, AwsError *error)
{
	const char *home = env("HOME");
	struct passwd entry;
	struct passwd *found = NULL;
	char		buf[16384];

	*path = NULL;
	if (home == NULL || home[0] == '\0')
	{
		int			rc = getpwuid_r(geteuid(), &entry, buf, sizeof(buf), &found);

		/* these say that there is no such user, see getpwuid_r(3) */
		if (found == NULL && rc != 0 && rc != ENOENT && rc != ESRCH && rc != EBADF && rc != EPERM)
		{
			aws_error_set(error, AWS_ERROR_RESOURCES, "NoResources",
						  "could not look up the home directory: %s", strerror(rc));
			return false;
		}
		if (found == NULL)
			return true;
		home = found->pw_dir;
	}
	if (asprintf(path, "%s/%s", home, rest) >= 0)
		return true;
	*path = NULL;
	return out_of_memory(error);
}

/* Can the file not even be seen? */
static bool
is_out_of_sight(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0;
}

static bool
load_file(AwsProfileFile *file, AwsGetenv env, const char *variable,
		  const char *default_path, AwsError *error)
{
	const char *path = env(variable);
	bool		is_default = path == NULL || path[0] == '\0';
	const char *why = NULL;
	char	   *text;
	size_t		len;
	int			line;

	if (is_default || strncmp(path, "~/", 2) == 0)
	{
		if (!below_home(env, is_default ? default_path : path + 2, &file->path, error))
			return false;
	}
	else if ((file->path = strdup(path)) == NULL)
		return out_of_memory(error);
	if (file->path == NULL || strcmp(file->path, "/dev/null") == 0)
		return true;

	if (!aws_secret_read_file(file->path, AWS_INI_MAX_BYTES, &text, &len, &why))
	{
		if (errno == ENOENT || errno == ENOTDIR ||
			(errno == EACCES && is_default && is_out_of_sight(file->path)))
			return true;
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
			aws_error_set(error, AWS_ERROR_RESOURCES, "NoResources",
						  "could not read file \"%s\": %s", file->path, why);
		else
			aws_error_set(error, AWS_ERROR_CREDENTIALS, "InvalidFile",
						  "could not read file \"%s\"%s%s: %s%s", file->path,
						  is_default ? "" : " of ", is_default ? "" : variable, why,
						  errno == EACCES ? "; the operating system's user of the database server must be able to read it" : "");
		return false;
	}
	if (!aws_ini_parse(&file->ini, text, len, &line, &why))
	{
		if (line == 0)
			return out_of_memory(error);
		aws_error_set(error, AWS_ERROR_CREDENTIALS, "InvalidFile",
					  "line %d of file \"%s\" %s", line, file->path, why);
		return false;
	}
	file->exists = true;
	return true;
}

bool
aws_profiles_load(AwsProfiles *profiles, AwsGetenv env, AwsError *error)
{
	memset(profiles, 0, sizeof(*profiles));
	return load_file(&profiles->credentials, env, "AWS_SHARED_CREDENTIALS_FILE",
					 ".aws/credentials", error) &&
		load_file(&profiles->config, env, "AWS_CONFIG_FILE", ".aws/config", error);
}

void
aws_profiles_free(AwsProfiles *profiles)
{
	free(profiles->credentials.path);
	free(profiles->config.path);
	aws_ini_free(&profiles->credentials.ini);
	aws_ini_free(&profiles->config.ini);
	memset(profiles, 0, sizeof(*profiles));
}

/* As aws_ini_find(), in the config file, for the section "prefix name". */
static const AwsIniEntry *
find_prefixed(const AwsProfiles *profiles, const char *prefix, const char *name,
			  const char *key, const char *subkey)
{
	const AwsIni *ini = &profiles->config.ini;
	size_t		len = strlen(prefix);

	for (int i = ini->nentries - 1; i >= 0; i--)
	{
		const AwsIniEntry *entry = &ini->entries[i];

		if (strncmp(entry->section, prefix, len) == 0 && entry->section[len] == ' ' &&
			strcmp(entry->section + len + 1, name) == 0)
			return aws_ini_find(ini, entry->section, key, subkey);
	}
	return NULL;
}

/* In the config file. */
static const AwsIniEntry *
find_in_config(const AwsProfiles *profiles, const char *profile, const char *key)
{
	if (strcmp(profile, "default") == 0 &&
		find_prefixed(profiles, "profile", profile, NULL, NULL) == NULL)
		return aws_ini_find(&profiles->config.ini, profile, key, NULL);
	return find_prefixed(profiles, "profile", profile, key, NULL);
}

bool
aws_profile_exists(const AwsProfiles *profiles, const char *profile)
{
	return aws_ini_find(&profiles->credentials.ini, profile, NULL, NULL) != NULL ||
		find_in_config(profiles, profile, NULL) != NULL;
}

/* Set *value from an entry, which may be NULL. */
static bool
take(const AwsIniEntry *entry, const char *path, AwsProfileValue *value,
	 AwsError *error)
{
	const char *why = NULL;

	memset(value, 0, sizeof(*value));
	if (entry == NULL || entry->value[0] == '\0')
		return true;
	if (entry->is_continued)
		why = "is followed by a line that is indented deeper, which would continue it";
	for (const char *p = entry->value; *p != '\0'; p++)
	{
		if ((unsigned char) *p < 0x20 || *p == 0x7f)
			why = "contains a control character";
	}
	if (why != NULL)
	{
		aws_error_set(error, AWS_ERROR_CREDENTIALS, "InvalidFile",
					  "line %d of file \"%s\": %s %s", entry->line, path,
					  entry->subkey != NULL ? entry->subkey : entry->key, why);
		return false;
	}
	value->value = entry->value;
	value->path = path;
	value->line = entry->line;
	return true;
}

bool
aws_profile_get(const AwsProfiles *profiles, const char *profile,
				const char *key, AwsProfileValue *value, AwsError *error)
{
	if (!take(aws_ini_find(&profiles->credentials.ini, profile, key, NULL),
			  profiles->credentials.path, value, error))
		return false;
	if (value->value != NULL)
		return true;
	return take(find_in_config(profiles, profile, key), profiles->config.path,
				value, error);
}

bool
aws_profile_service(const AwsProfiles *profiles, const char *services,
					const char *service, const char *key,
					AwsProfileValue *value, AwsError *error)
{
	return take(find_prefixed(profiles, "services", services, service, key),
				profiles->config.path, value, error);
}

bool
aws_profile_has_services(const AwsProfiles *profiles, const char *services)
{
	return find_prefixed(profiles, "services", services, NULL, NULL) != NULL;
}

/* A file, and what became of it. */
static void
describe(const AwsProfileFile *file, const char *name, char *buf, size_t size)
{
	if (file->path == NULL)
		snprintf(buf, size, "in a %s file (there is no home directory)", name);
	else
		snprintf(buf, size, "in \"%s\"%s", file->path,
				 file->exists ? "" : " (which does not exist)");
}

void
aws_profile_missing(const AwsProfiles *profiles, const char *profile,
					char *buf, size_t size)
{
	char		credentials[200];
	char		config[200];
	const char *hint = "";

	describe(&profiles->credentials, "credentials", credentials, sizeof(credentials));
	describe(&profiles->config, "config", config, sizeof(config));
	if (aws_ini_find(&profiles->config.ini, profile, NULL, NULL) != NULL)
		hint = "; the config file has a section of that name, whose heading must be [profile NAME]";
	else
	{
		for (int i = 0; i < profiles->credentials.ini.nentries; i++)
		{
			const char *section = profiles->credentials.ini.entries[i].section;

			if (strncmp(section, "profile ", 8) == 0 && strcmp(section + 8, profile) == 0)
				hint = "; the credentials file has [profile NAME], where it must be [NAME]";
		}
	}
	snprintf(buf, size, "is neither %s nor %s%s", credentials, config, hint);
}
