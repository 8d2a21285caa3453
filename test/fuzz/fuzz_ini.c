/*-------------------------------------------------------------------------
 *
 * fuzz_ini.c
 *	  AWS's configuration files, and which identity is found in them.
 *
 * The input is the config file; what follows a line of three hyphens is the
 * credentials file.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include <fcntl.h>
#include <unistd.h>

#include "aws/credentials.h"
#include "aws/endpoint.h"
#include "aws/identity.h"
#include "aws/ini.h"

static char config_path[64];
static char credentials_path[64];
static const char *profile;		/* AWS_PROFILE */

static const char *
env(const char *name)
{
	if (strcmp(name, "AWS_CONFIG_FILE") == 0)
		return config_path;
	if (strcmp(name, "AWS_SHARED_CREDENTIALS_FILE") == 0)
		return credentials_path;
	if (strcmp(name, "AWS_PROFILE") == 0)
		return profile;
	return NULL;
}

static void
remove_files(void)
{
	(void) unlink(config_path);
	(void) unlink(credentials_path);
}

static void
write_file(char *path, const uint8_t *data, size_t size)
{
	int			fd;

	if (path[0] == '\0')
	{
		strcpy(path, "/tmp/fuzz_ini_XXXXXX");
		fd = mkstemp(path);
		MUST(fd >= 0 && close(fd) == 0);
		MUST(atexit(remove_files) == 0);
	}
	fd = open(path, O_WRONLY | O_TRUNC);
	MUST(fd >= 0 && write(fd, data, size) == size && close(fd) == 0);
}

static void
touch_entry(const AwsIni *ini, const char *text)
{
	if (text != NULL)
	{
		MUST(text >= ini->text && text + strlen(text) <= ini->text + ini->len);
		MUST(strchr(text, '\n') == NULL);
		(void) fuzz_touch(text, strlen(text));
	}
}

static void
parse(const uint8_t *data, size_t size)
{
	char	   *text = malloc(size + 1);
	AwsIni		ini;
	const char *why = NULL;
	int			line = -1;
	int			before = 0;

	MUST(text != NULL);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	if (!aws_ini_parse(&ini, text, size, &line, &why))
	{
		MUST(why != NULL && line > 0 && line <= (int) size);
		MUST(ini.text == NULL && ini.entries == NULL);
		return;
	}
	for (int i = 0; i < ini.nentries; i++)
	{
		const AwsIniEntry *entry = &ini.entries[i];

		MUST(entry->section[0] != '\0' && entry->line > before);
		MUST(entry->key == NULL || entry->key[0] != '\0');
		MUST(entry->subkey == NULL || (entry->key != NULL && entry->subkey[0] != '\0'));
		touch_entry(&ini, entry->section);
		if (entry->key != NULL)
		{
			touch_entry(&ini, entry->key);
			touch_entry(&ini, entry->subkey);
			touch_entry(&ini, entry->value);
		}
		before = entry->line;
		MUST(i > 100 || aws_ini_find(&ini, entry->section, entry->key, entry->subkey) >= entry);
	}
	aws_ini_free(&ini);
}

/* What is found must be fit for use, and what is not must be explained. */
static void
resolve(const AwsIdentityOptions *options)
{
	AwsIdentity *identity;
	AwsIdentity *copy;
	AwsError	error;
	const char *why;
	char	   *text;
	size_t		len;

	if (!aws_identity_resolve(options, &identity, &error))
	{
		MUST(identity == NULL && error.class == AWS_ERROR_CREDENTIALS);
		MUST(error.code[0] != '\0' && error.message[0] != '\0');
		for (const char *p = error.message; *p != '\0'; p++)
			MUST(*p >= 0x20 && *p < 0x7f);
		return;
	}
	MUST(identity->nroles >= 0 && identity->nroles <= AWS_ROLES_MAX);
	for (int i = 0; i < identity->nroles; i++)
	{
		MUST(strncmp(identity->roles[i].role_arn, "arn:", 4) == 0);
		MUST(identity->roles[i].session_name[0] != '\0' && identity->roles[i].where[0] != '\0');
		MUST(identity->roles[i].duration_seconds == 0 || identity->roles[i].duration_seconds >= AWS_DURATION_MIN);
	}
	switch (identity->kind)
	{
		case AWS_SOURCE_PROFILE_KEYS:
			MUST(aws_key_is_valid(identity->access_key_id, AWS_ACCESS_KEY_ID_MAX, &why));
			MUST(aws_key_is_valid(identity->secret_access_key, AWS_SECRET_KEY_MAX, &why));
			break;
		case AWS_SOURCE_WEB_IDENTITY:
			MUST(identity->token_file[0] != '\0' && strncmp(identity->role_arn, "arn:", 4) == 0);
			break;
		case AWS_SOURCE_PROCESS:
			MUST(options->allow_process && identity->command[0] != '\0');
			break;
		case AWS_SOURCE_INSTANCE_METADATA:
			MUST(identity->metadata_url != NULL);
			break;
		default:
			MUST(false);		/* the environment has nothing else */
	}
	MUST(identity->source[0] != '\0');
	MUST(identity->region != NULL ? aws_region_is_valid(identity->region, &why) : identity->metadata_url != NULL);
	MUST(identity->endpoint == NULL || aws_endpoint_is_valid(identity->endpoint, false, &why));
	MUST(identity->sts_endpoint == NULL || aws_endpoint_is_valid(identity->sts_endpoint, false, &why));

	copy = aws_identity_copy(identity);
	aws_identity_free(identity);
	text = aws_identity_canonical(copy, &len);
	MUST(text != NULL && len > 0);
	free(text);
	aws_identity_free(copy);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *next = memmem(data, size, "\n---\n", 5);
	size_t		first = next != NULL ? next + 1 - data : size;
	size_t		second = next != NULL ? size - first - 4 : 0;
	AwsIdentityOptions options = AWS_IDENTITY_OPTIONS_INIT;

	parse(data, first);
	write_file(config_path, data, first);
	write_file(credentials_path, data + size - second, second);
	options.getenv = env;
	profile = NULL;
	resolve(&options);
	options.source = "profile";
	profile = "p";
	options.allow_process = true;
	resolve(&options);
	return 0;
}
