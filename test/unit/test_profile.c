/*-------------------------------------------------------------------------
 *
 * test_profile.c
 *	  Profiles in two files, and files that are not what they should be.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "aws/profile.h"
#include "tap.h"

#define SECRET	"wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"

static char dir[64];
static char credentials_path[128];
static char config_path[128];
static bool use_home = false;	/* neither file is named by a variable */
static char home[128];

static const char *
env(const char *name)
{
	if (strcmp(name, "HOME") == 0)
		return home;
	if (use_home)
		return NULL;
	if (strcmp(name, "AWS_SHARED_CREDENTIALS_FILE") == 0)
		return credentials_path;
	if (strcmp(name, "AWS_CONFIG_FILE") == 0)
		return config_path;
	return NULL;
}

static void
write_file(const char *path, const char *text, size_t len)
{
	FILE	   *file = fopen(path, "wb");

	if (file == NULL || fwrite(text, 1, len, file) != len || fclose(file) != 0)
		exit(2);
}

static void
write_files(const char *credentials, const char *config)
{
	(void) unlink(credentials_path);
	(void) unlink(config_path);
	if (credentials != NULL)
		write_file(credentials_path, credentials, strlen(credentials));
	if (config != NULL)
		write_file(config_path, config, strlen(config));
}

static void
values(void)
{
	static const struct
	{
		const char *credentials;
		const char *config;
		const char *profile;
		const char *key;
		const char *value;
		bool		in_config;
		int			line;
		const char *what;
	}			cases[] =
	{
		{"[p]\nk=1\n", "[profile p]\nk=2\n", "p", "k", "1", false, 2, "the credentials file counts"},
		{"[p]\nj=1\n", "[profile p]\nk=2\n", "p", "k", "2", true, 2, "key by key"},
		{"[p]\nk=\n", "[profile p]\nk=2\n", "p", "k", "2", true, 2, "an empty value is none"},
		{"[p]\n", "[p]\nk=2\n", "p", "k", NULL, false, 0, "[p] of the config file is no profile"},
		{"[profile p]\nk=1\n", "[profile p]\n", "p", "k", NULL, false, 0, "nor [profile p] of the other"},
		{NULL, "[default]\nk=1\n", "default", "k", "1", true, 2, "[default]"},
		{NULL, "[profile default]\nk=1\n", "default", "k", "1", true, 2, "[profile default]"},
		{NULL, "[profile default]\nk=1\n[default]\nk=2\nj=3\n", "default", "k", "1", true, 2, "[profile default] before [default]"},
		{NULL, "[profile default]\nk=1\n[default]\nk=2\nj=3\n", "default", "j", NULL, false, 0, "instead of it"},
		{"[default]\nk=1\n", NULL, "default", "k", "1", false, 2, "no config file"},
		{NULL, NULL, "default", "k", NULL, false, 0, "no files"},
		{NULL, "[profile \"p q\"]\nk=1\n", "p q", "k", "1", true, 2, "a name with a blank"},
		{NULL, "[profile p]\nk=1\n[profile p]\nj=2\n", "p", "k", "1", true, 2, "a profile in two parts"},
		{NULL, "[profile p]\nk=1 2\n", "p", "k", "1 2", true, 2, "a value with a blank"},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
	{
		AwsProfiles profiles;
		AwsProfileValue value;
		AwsError	error;

		write_files(cases[i].credentials, cases[i].config);
		if (!ok(aws_profiles_load(&profiles, env, &error), "%s: loaded", cases[i].what))
			printf("# %s\n", error.message);
		ok(aws_profile_get(&profiles, cases[i].profile, cases[i].key, &value, &error), "%s: no error", cases[i].what);
		is(value.value, cases[i].value, "%s: value", cases[i].what);
		is(value.path, cases[i].value == NULL ? NULL : cases[i].in_config ? config_path : credentials_path,
		   "%s: file", cases[i].what);
		is_int(value.line, cases[i].line, "%s: line", cases[i].what);
		aws_profiles_free(&profiles);
	}
}

static void
services(void)
{
	AwsProfiles profiles;
	AwsProfileValue value;
	AwsError	error;

	write_files(NULL, "[services s]\nsqs =\n  endpoint_url = http://q\nsts =\n  endpoint_url = http://t\n[profile p]\nservices = s\n");
	ok(aws_profiles_load(&profiles, env, &error), "a services section");
	ok(aws_profile_service(&profiles, "s", "sts", "endpoint_url", &value, &error), "is read");
	is(value.value, "http://t", "its value");
	is_int(value.line, 5, "its line");
	ok(aws_profile_service(&profiles, "s", "s3", "endpoint_url", &value, &error) && value.value == NULL, "no other");
	ok(aws_profile_has_services(&profiles, "s") && !aws_profile_has_services(&profiles, "p"), "no profile");
	ok(!aws_profile_exists(&profiles, "s") && aws_profile_exists(&profiles, "p"), "nor is it one");
	aws_profiles_free(&profiles);
}

/* Values that could confuse whoever uses them. */
static void
bad_values(void)
{
	static const char *const bad[] = {
		"[default]\nk = " SECRET "\n  " SECRET "\n",
		"[default]\nk = " SECRET "\rx\n",
		"[default]\nk = " SECRET "\x7f\n",
		"[default]\nk = \x01" SECRET "\n",
		"[default]\nk = " SECRET "\tx\n",
	};

	for (size_t i = 0; i < lengthof(bad); i++)
	{
		AwsProfiles profiles;
		AwsProfileValue value;
		AwsError	error;

		write_files(bad[i], NULL);
		ok(aws_profiles_load(&profiles, env, &error), "bad value %zu", i);
		ok(!aws_profile_get(&profiles, "default", "k", &value, &error), "is refused when it is used");
		ok(value.value == NULL && error.class == AWS_ERROR_CREDENTIALS &&
		   strcmp(error.code, "InvalidFile") == 0, "and is an invalid file");
		if (!ok(strstr(error.message, "line 2 of file") != NULL && strstr(error.message, credentials_path) != NULL &&
				strstr(error.message, SECRET) == NULL, "its place is named"))
			printf("# %s\n", error.message);
		aws_profiles_free(&profiles);
	}
}

/* Loading fails with a text that holds this, and the file's name. */
static void
fails_with(const char *text, const char *path, const char *what)
{
	AwsProfiles profiles;
	AwsError	error;

	memset(&error, 0, sizeof(error));
	ok(!aws_profiles_load(&profiles, env, &error), "%s: refused", what);
	is_int(error.class, AWS_ERROR_CREDENTIALS, "%s: class", what);
	is(error.code, "InvalidFile", "%s: code", what);
	if (!ok(strstr(error.message, text) != NULL && strstr(error.message, path) != NULL &&
			strstr(error.message, SECRET) == NULL, "%s: the text names it", what))
		printf("# %s\n", error.message);
	aws_profiles_free(&profiles);
}

/* As root nothing is unreadable, so become somebody else for that. */
static bool
become_nobody(void)
{
	return geteuid() != 0 || seteuid(65534) == 0;
}

static void
become_again(void)
{
	if (getuid() == 0 && seteuid(0) != 0)
		exit(2);
}

static void
bad_files(void)
{
	char	   *large = malloc(AWS_INI_MAX_BYTES + 1);
	AwsProfiles profiles;
	AwsError	error;

	if (large == NULL)
		exit(2);
	write_files("[default]\naws_secret_access_key = " SECRET "\n" SECRET "\n", NULL);
	fails_with("line 3 of file", credentials_path, "a malformed file");
	write_files("[default]\n", "[profile p\nk=" SECRET "\n");
	fails_with("line 1 of file", config_path, "a malformed config file");
	write_files(NULL, NULL);
	write_file(config_path, "[a]\nk=\0", 8);
	fails_with("NUL", config_path, "a NUL byte");

	write_files("[default]\n", NULL);
	if (mkdir(config_path, 0700) != 0)
		exit(2);
	fails_with("not a regular file", config_path, "a directory");
	(void) rmdir(config_path);
	if (mkfifo(config_path, 0600) != 0)
		exit(2);
	alarm(20);
	fails_with("not a regular file", config_path, "a FIFO that nobody writes to");
	alarm(0);
	(void) unlink(config_path);
	if (symlink("/dev/zero", config_path) != 0)
		exit(2);
	fails_with("not a regular file", config_path, "an endless device");
	(void) unlink(config_path);

	memset(large, '\n', AWS_INI_MAX_BYTES + 1);
	write_file(config_path, large, AWS_INI_MAX_BYTES);
	ok(aws_profiles_load(&profiles, env, &error), "the largest file");
	aws_profiles_free(&profiles);
	write_file(config_path, large, AWS_INI_MAX_BYTES + 1);
	fails_with("too large", config_path, "a larger one");
	free(large);

	write_files("[default]\nk=1\n", "[default]\n");
	(void) chmod(config_path, 0);
	if (become_nobody())
	{
		fails_with("Permission denied", config_path, "an unreadable file");
		become_again();
	}
	else
		tap_skip("cannot become another user", "an unreadable file");
	(void) unlink(config_path);
	if (symlink(config_path, config_path) != 0)
		exit(2);
	fails_with("could not read", config_path, "a symbolic link to itself");
	(void) unlink(config_path);
}

/* Where files are if no variable says so, and who may be kept from them. */
static void
at_home(void)
{
	AwsProfiles profiles;
	AwsError	error;
	char		path[192];
	char		saved[128];

	strlcpy(saved, config_path, sizeof(saved));
	use_home = true;
	snprintf(path, sizeof(path), "%s/.aws", home);
	if (mkdir(path, 0700) != 0)
		exit(2);
	snprintf(path, sizeof(path), "%s/.aws/config", home);
	write_file(path, "[default]\nk=1\n", 14);
	ok(aws_profiles_load(&profiles, env, &error) && aws_profile_exists(&profiles, "default"), "a file in HOME");
	is(profiles.config.path, path, "its path");
	ok(!profiles.credentials.exists, "there is no other");
	aws_profiles_free(&profiles);

	/* the directory is not ours */
	if (become_nobody() && faccessat(AT_FDCWD, path, F_OK, AT_EACCESS) != 0)
	{
		ok(aws_profiles_load(&profiles, env, &error) && !profiles.config.exists, "a HOME that is closed has no files");
		aws_profiles_free(&profiles);
		use_home = false;
		strlcpy(config_path, path, sizeof(config_path));
		fails_with("Permission denied", path, "but a variable that names one of them must be right");
		use_home = true;
		become_again();
	}
	else
		tap_skip("cannot become another user", "a HOME that is closed");

	use_home = false;
	strlcpy(config_path, "~/.aws/config", sizeof(config_path));
	ok(aws_profiles_load(&profiles, env, &error) && aws_profile_exists(&profiles, "default"), "a tilde");
	aws_profiles_free(&profiles);
	strlcpy(config_path, "/dev/null", sizeof(config_path));
	ok(aws_profiles_load(&profiles, env, &error) && !profiles.config.exists, "/dev/null is no file");
	aws_profiles_free(&profiles);
	strlcpy(config_path, "/dev/null/x", sizeof(config_path));
	ok(aws_profiles_load(&profiles, env, &error) && !profiles.config.exists, "nor is what is below it");
	aws_profiles_free(&profiles);
	strlcpy(config_path, saved, sizeof(config_path));

	use_home = true;
	home[0] = '\0';
	ok(aws_profiles_load(&profiles, env, &error) || strcmp(error.code, "InvalidFile") == 0, "an empty HOME");
	if (!ok(profiles.config.path == NULL || profiles.config.path[0] == '/', "is that of the user"))
		printf("# %s\n", profiles.config.path);
	aws_profiles_free(&profiles);
	strlcpy(home, dir, sizeof(home));
	use_home = false;

	(void) unlink(path);
	snprintf(path, sizeof(path), "%s/.aws", home);
	(void) rmdir(path);
}

/*
 * HOME is not set, and the list of users cannot be opened.  If that meant that
 * there are no files, another source of keys would be chosen.
 */
static void
no_descriptor(void)
{
	AwsProfiles profiles;
	AwsError	error;
	struct rlimit limit;
	struct rlimit none;
	char		saved[128];
	bool		loaded;

	strlcpy(saved, home, sizeof(saved));
	home[0] = '\0';
	use_home = true;
	getrlimit(RLIMIT_NOFILE, &limit);
	none = limit;
	none.rlim_cur = 0;
	setrlimit(RLIMIT_NOFILE, &none);
	loaded = aws_profiles_load(&profiles, env, &error);
	setrlimit(RLIMIT_NOFILE, &limit);
	ok(!loaded && error.class == AWS_ERROR_RESOURCES, "the home directory cannot be looked up");
	aws_profiles_free(&profiles);
	use_home = false;
	strlcpy(home, saved, sizeof(home));
}

static void
missing(void)
{
	AwsProfiles profiles;
	AwsError	error;
	char		text[512];

	write_files("[profile q]\n", "[p]\n");
	ok(aws_profiles_load(&profiles, env, &error), "profiles with wrong headings");
	aws_profile_missing(&profiles, "p", text, sizeof(text));
	if (!ok(strstr(text, credentials_path) != NULL && strstr(text, config_path) != NULL &&
			strstr(text, "must be [profile NAME]") != NULL, "one in the config file"))
		printf("# %s\n", text);
	aws_profile_missing(&profiles, "q", text, sizeof(text));
	ok(strstr(text, "must be [NAME]") != NULL, "one in the credentials file");
	aws_profile_missing(&profiles, "r", text, sizeof(text));
	ok(strstr(text, "heading") == NULL && strstr(text, "must") == NULL, "one that is nowhere");
	aws_profile_missing(&profiles, "r", text, 10);
	is_int(strlen(text), 9, "in little room");
	aws_profiles_free(&profiles);

	write_files(NULL, NULL);
	ok(aws_profiles_load(&profiles, env, &error), "no files");
	aws_profile_missing(&profiles, "r", text, sizeof(text));
	ok(strstr(text, "which does not exist") != NULL, "and that is said");
	aws_profiles_free(&profiles);
}

void
test_profile(void)
{
	strlcpy(dir, "/tmp/sqsbridge_unit_XXXXXX", sizeof(dir));
	if (mkdtemp(dir) == NULL || chmod(dir, 0755) != 0)
		exit(2);
	strlcpy(home, dir, sizeof(home));
	snprintf(credentials_path, sizeof(credentials_path), "%s/my credentials", dir);
	snprintf(config_path, sizeof(config_path), "%s/config", dir);

	values();
	services();
	bad_values();
	bad_files();
	at_home();
	no_descriptor();
	missing();

	write_files(NULL, NULL);
	(void) rmdir(dir);
}
