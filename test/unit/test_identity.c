/*-------------------------------------------------------------------------
 *
 * test_identity.c
 *	  Which keys are chosen, and where they are used, for what the environment,
 *	  the files and the options say.
 *
 * Each case gives all of them, and what comes out: a line of text, or a part of
 * the error.  No text may contain a secret, whatever is wrong.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <time.h>
#include <unistd.h>

#include "aws/identity.h"
#include "tap.h"

#define SECRET	"wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
#define ROLE	"arn:aws:iam::123456789012:role/"

#define MAX_VARIABLES	8

static char dir[64];
static char credentials_path[128];
static char config_path[128];
static const char *const *variables;	/* "NAME=value", NULL at the end */

static const char *
env(const char *name)
{
	size_t		len = strlen(name);

	if (strcmp(name, "AWS_SHARED_CREDENTIALS_FILE") == 0)
		return credentials_path;
	if (strcmp(name, "AWS_CONFIG_FILE") == 0)
		return config_path;
	for (const char *const *v = variables; *v != NULL; v++)
	{
		if (strncmp(*v, name, len) == 0 && (*v)[len] == '=')
			return *v + len + 1;
	}
	return NULL;
}

static void
write_file(const char *path, const char *text)
{
	FILE	   *file;

	(void) unlink(path);
	if (text == NULL)
		return;
	file = fopen(path, "w");
	if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
		exit(2);
}

static const char *
nonnull(const char *s)
{
	return s != NULL ? s : "-";
}

/* Keys and roles, in one line; secrets are only told to be right. */
static void
describe_keys(const AwsIdentity *identity, char *buf, size_t size)
{
	switch (identity->kind)
	{
		case AWS_SOURCE_STATIC:
		case AWS_SOURCE_ENVIRONMENT:
		case AWS_SOURCE_PROFILE_KEYS:
			snprintf(buf, size, "%s %s %s %s", aws_source_kind_name(identity->kind), identity->access_key_id,
					 strcmp(identity->secret_access_key, SECRET) == 0 ? "secret" : identity->secret_access_key,
					 nonnull(identity->session_token));
			break;
		case AWS_SOURCE_WEB_IDENTITY:
			snprintf(buf, size, "web identity %s %s %s %d", identity->token_file, identity->role_arn,
					 identity->session_name, identity->duration_seconds);
			break;
		case AWS_SOURCE_PROCESS:
			snprintf(buf, size, "process %s", identity->command);
			break;
		case AWS_SOURCE_CONTAINER:
			snprintf(buf, size, "container %s %s %s", identity->container_url,
					 nonnull(identity->container_token), nonnull(identity->container_token_file));
			break;
		case AWS_SOURCE_INSTANCE_METADATA:
			snprintf(buf, size, "metadata %s", identity->metadata_url);
			break;
	}
	for (int i = 0; i < identity->nroles; i++)
	{
		const AwsAssumeRole *role = &identity->roles[i];

		snprintf(buf + strlen(buf), size - strlen(buf), " > %s %s %s %d", role->role_arn,
				 nonnull(role->external_id), role->session_name, role->duration_seconds);
	}
}

/* Replace the paths of the files by words. */
static void
shorten(char *text)
{
	const char *const paths[] = {config_path, credentials_path};
	const char *const words[] = {"CONFIG", "CREDENTIALS"};
	char	   *p;

	for (size_t i = 0; i < lengthof(paths); i++)
	{
		while ((p = strstr(text, paths[i])) != NULL)
		{
			memcpy(p, words[i], strlen(words[i]));
			memmove(p + strlen(words[i]), p + strlen(paths[i]), strlen(p + strlen(paths[i])) + 1);
		}
	}
}

typedef struct Case
{
	const char *what;
	const char *variables[MAX_VARIABLES];
	const char *credentials;
	const char *config;
	AwsIdentityOptions options; /* 0 for the flags is "not given" here */
	const char *result;			/* the line, or NULL */
	const char *text;			/* a part of the source, or of the error after
								 * its code and a colon */
} Case;

#define KEYS	"AWS_ACCESS_KEY_ID=ENVID", "AWS_SECRET_ACCESS_KEY=" SECRET
#define REGION	"AWS_REGION=eu-west-1"
#define STATIC_KEYS	"aws_access_key_id = FILEID\naws_secret_access_key = " SECRET "\n"
#define METADATA	"metadata http://169.254.169.254"
#define WEB			"AWS_WEB_IDENTITY_TOKEN_FILE=/token", "AWS_ROLE_ARN=" ROLE "web"

static const Case cases[] = {
	/* what becomes a value of a view is ASCII, whatever the database's encoding */
	{"a profile in Latin-1", {"AWS_PROFILE=p", REGION}, NULL, "[profile p]\nrole_arn = " ROLE "r\nsource_profile = caf\xe9\n[profile caf\xe9]\n" STATIC_KEYS,
	{NULL}, "profile FILEID secret - > " ROLE "r - sqsbridge 0", "profile \"caf?\" (CONFIG:5)"},
	{"a role in Latin-1", {"AWS_PROFILE=p", REGION}, NULL, "[profile p]\nrole_arn = " ROLE "caf\xe9\nsource_profile = p\n" STATIC_KEYS,
	{NULL}, NULL, "InvalidConfiguration:profile \"p\" (CONFIG:2): role_arn must be an ARN"},

	/* the environment */
	{"nothing", {NULL}, NULL, NULL, {NULL}, METADATA, "instance metadata at http://169.254.169.254"},
	{"environment", {KEYS}, NULL, NULL, {NULL}, "environment ENVID secret -", "the environment"},
	{"with a token", {KEYS, "AWS_SESSION_TOKEN=T"}, NULL, NULL, {NULL}, "environment ENVID secret T"},
	{"the old name of the token", {KEYS, "AWS_SECURITY_TOKEN=T"}, NULL, NULL, {NULL}, "environment ENVID secret -"},
	{"id alone", {"AWS_ACCESS_KEY_ID=ENVID"}, NULL, NULL, {NULL}, NULL, "InvalidCredentials:sets AWS_ACCESS_KEY_ID but not AWS_SECRET"},
	{"secret alone", {"AWS_SECRET_ACCESS_KEY=" SECRET}, NULL, NULL, {NULL}, NULL, "InvalidCredentials:but not AWS_ACCESS_KEY_ID"},
	{"empty id", {"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=" SECRET}, NULL, NULL, {NULL}, NULL, "InvalidCredentials:but not AWS_ACCESS_KEY_ID"},
	{"both empty", {"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY="}, NULL, NULL, {NULL}, METADATA},
	{"a line break", {"AWS_ACCESS_KEY_ID=ENVID", "AWS_SECRET_ACCESS_KEY=" SECRET "\r\nX: y"}, NULL, NULL, {NULL}, NULL,
	"InvalidCredentials:AWS_SECRET_ACCESS_KEY of the environment must be printable"},
	{"a blank in the token", {KEYS, "AWS_SESSION_TOKEN=" SECRET " "}, NULL, NULL, {NULL}, NULL, "InvalidCredentials:AWS_SESSION_TOKEN of"},
	{"swapped keys", {"AWS_ACCESS_KEY_ID=" SECRET SECRET SECRET SECRET, "AWS_SECRET_ACCESS_KEY=x"}, NULL, NULL, {NULL}, NULL,
	"InvalidCredentials:AWS_ACCESS_KEY_ID of the environment must be at most 128"},
	{"expired", {KEYS, "AWS_CREDENTIAL_EXPIRATION=2020-01-02T03:04:05Z"}, NULL, NULL, {NULL}, NULL, "InvalidCredentials:expired at 2020-01-02T03:04:05Z"},
	{"expires later", {KEYS, "AWS_CREDENTIAL_EXPIRATION=2199-01-02T03:04:05Z"}, NULL, NULL, {NULL}, "environment ENVID secret -"},
	{"expires when?", {KEYS, "AWS_CREDENTIAL_EXPIRATION=tomorrow"}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:AWS_CREDENTIAL_EXPIRATION must be"},

	/* web identity */
	{"web identity", {WEB}, NULL, NULL, {NULL}, "web identity /token " ROLE "web sqsbridge 0", "web identity (AWS_WEB_IDENTITY_TOKEN_FILE)"},
	{"its session", {WEB, "AWS_ROLE_SESSION_NAME=s"}, NULL, NULL, {NULL}, "web identity /token " ROLE "web s 0"},
	{"without role", {"AWS_WEB_IDENTITY_TOKEN_FILE=/token"}, NULL, NULL, {NULL}, NULL, "InvalidCredentials:but not AWS_ROLE_ARN"},
	{"a role that is none", {"AWS_WEB_IDENTITY_TOKEN_FILE=/token", "AWS_ROLE_ARN=web"}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:role_arn must be an ARN"},
	{"a role alone", {"AWS_ROLE_ARN=" ROLE "web"}, NULL, NULL, {NULL}, METADATA},
	{"keys first", {KEYS, WEB}, NULL, NULL, {NULL}, "environment ENVID secret -"},
	{"before the profile default", {WEB}, "[default]\n" STATIC_KEYS, NULL, {NULL}, "web identity /token " ROLE "web sqsbridge 0"},
	{"before a profile", {WEB, "AWS_PROFILE=p"}, "[p]\n" STATIC_KEYS, NULL, {NULL}, "web identity /token " ROLE "web sqsbridge 0"},

	/* which profile */
	{"profile default", {NULL}, "[default]\n" STATIC_KEYS, NULL, {NULL}, "profile FILEID secret -", "profile \"default\" (CREDENTIALS:2)"},
	{"of the config file", {NULL}, NULL, "[default]\n" STATIC_KEYS, {NULL}, "profile FILEID secret -", "profile \"default\" (CONFIG:2)"},
	{"default without keys", {NULL}, NULL, "[default]\nregion = eu-west-1\n", {NULL}, METADATA},
	{"environment first", {KEYS}, "[default]\n" STATIC_KEYS, NULL, {NULL}, "environment ENVID secret -"},
	{"also with AWS_PROFILE", {KEYS, "AWS_PROFILE=p"}, "[p]\n" STATIC_KEYS, NULL, {NULL}, "environment ENVID secret -"},
	{"AWS_PROFILE", {"AWS_PROFILE=p"}, "[default]\n[p]\n" STATIC_KEYS, NULL, {NULL}, "profile FILEID secret -", "profile \"p\" (CREDENTIALS:3)"},
	{"AWS_DEFAULT_PROFILE", {"AWS_DEFAULT_PROFILE=p"}, "[p]\n" STATIC_KEYS, NULL, {NULL}, "profile FILEID secret -"},
	{"AWS_PROFILE first", {"AWS_DEFAULT_PROFILE=q", "AWS_PROFILE=p"}, "[p]\n" STATIC_KEYS, NULL, {NULL}, "profile FILEID secret -"},
	{"option profile first", {KEYS, "AWS_PROFILE=q"}, "[p]\n" STATIC_KEYS, NULL, {.profile = "p"}, "profile FILEID secret -"},
	{"missing profile", {"AWS_PROFILE=p"}, "[q]\n" STATIC_KEYS, "[p]\n", {NULL}, NULL, "InvalidProfile:profile \"p\" (AWS_PROFILE) is neither in \"CREDENTIALS\" nor in \"CONFIG\"; the config file has a section of that name"},
	{"missing of option", {NULL}, NULL, NULL, {.profile = "p"}, NULL, "InvalidProfile:profile \"p\" (option profile) is neither in \"CREDENTIALS\" (which"},
	{"missing though there are keys", {KEYS, "AWS_PROFILE=p"}, NULL, NULL, {NULL}, NULL, "InvalidProfile:profile \"p\" (AWS_PROFILE)"},
	{"profile without keys", {"AWS_PROFILE=p"}, NULL, "[profile p]\nregion = eu-west-1\n", {NULL}, NULL, "InvalidProfile:profile \"p\" has no keys"},
	{"malformed file", {NULL}, "[default]\n" STATIC_KEYS SECRET "\n", NULL, {NULL}, NULL, "InvalidFile:line 4 of file \"CREDENTIALS\""},
	{"malformed though there are keys", {KEYS}, NULL, "x\n", {NULL}, NULL, "InvalidFile:line 1 of file \"CONFIG\""},

	/* keys in a profile */
	{"with a token", {NULL}, "[default]\n" STATIC_KEYS "aws_session_token = T\n", NULL, {NULL}, "profile FILEID secret T"},
	{"id alone", {NULL}, "[default]\naws_access_key_id = FILEID\n", NULL, {NULL}, NULL, "InvalidCredentials:profile \"default\" (CREDENTIALS:2) has aws_access_key_id but not aws_secret"},
	{"secret alone", {NULL}, "[default]\naws_secret_access_key = " SECRET "\n", NULL, {NULL}, NULL, "InvalidCredentials:profile \"default\" (CREDENTIALS:2) has aws_secret_access_key but not aws_access"},
	{"a blank in the secret", {NULL}, "[default]\naws_access_key_id = x\naws_secret_access_key = " SECRET " " SECRET "\n", NULL, {NULL}, NULL, "InvalidCredentials:aws_secret_access_key of profile"},
	{"a secret on two lines", {NULL}, "[default]\naws_access_key_id = x\naws_secret_access_key = " SECRET "\n  " SECRET "\n", NULL, {NULL}, NULL, "InvalidFile:line 3"},
	{"keys and process", {NULL}, "[default]\n" STATIC_KEYS "credential_process = x\n", NULL, {NULL}, "profile FILEID secret -"},
	{"keys and SSO", {NULL}, "[default]\n" STATIC_KEYS "sso_session = x\n", NULL, {NULL}, "profile FILEID secret -"},

	/* roles */
	{"source_profile", {"AWS_PROFILE=p"}, "[base]\n" STATIC_KEYS, "[profile p]\nrole_arn = " ROLE "p\nsource_profile = base\n", {NULL},
	"profile FILEID secret - > " ROLE "p - sqsbridge 0", "profile \"base\" (CREDENTIALS:2)"},
	{"all of a role", {"AWS_PROFILE=p"}, "[base]\n" STATIC_KEYS,
		"[profile p]\nrole_arn = " ROLE "p\nsource_profile = base\nexternal_id = x\nrole_session_name = s\nduration_seconds = 900\n", {NULL},
	"profile FILEID secret - > " ROLE "p x s 900"},
	{"a chain", {"AWS_PROFILE=a"}, NULL,
		"[profile a]\nrole_arn = " ROLE "a\nsource_profile = b\n[profile b]\nrole_arn = " ROLE "b\nsource_profile = c\nexternal_id = x\n[profile c]\n" STATIC_KEYS, {NULL},
	"profile FILEID secret - > " ROLE "b x sqsbridge 0 > " ROLE "a - sqsbridge 0"},
	{"a chain and the option", {"AWS_PROFILE=a"}, NULL,
		"[profile a]\nrole_arn = " ROLE "a\nsource_profile = b\n[profile b]\n" STATIC_KEYS,
		{.role_arn = ROLE "o",.external_id = "y",.role_session_name = "t",.duration_seconds = 1000},
	"profile FILEID secret - > " ROLE "a - sqsbridge 0 > " ROLE "o y t 1000"},
	{"itself with keys", {NULL}, NULL, "[default]\nrole_arn = " ROLE "p\nsource_profile = default\n" STATIC_KEYS, {NULL},
	"profile FILEID secret - > " ROLE "p - sqsbridge 0"},
	{"itself without keys", {NULL}, NULL, "[default]\nrole_arn = " ROLE "p\nsource_profile = default\n", {NULL}, NULL, "InvalidProfile:profile \"default\" (CONFIG:2) has source_profile \"default\", which leads back"},
	{"a loop", {"AWS_PROFILE=a"}, NULL,
		"[profile a]\nrole_arn = " ROLE "a\nsource_profile = b\n[profile b]\nrole_arn = " ROLE "b\nsource_profile = a\n", {NULL},
	NULL, "InvalidProfile:profile \"b\" (CONFIG:5) has source_profile \"a\", which leads back"},
	{"a loop with keys in it", {"AWS_PROFILE=a"}, NULL,
		"[profile a]\nrole_arn = " ROLE "a\nsource_profile = b\n" STATIC_KEYS "[profile b]\nrole_arn = " ROLE "b\nsource_profile = a\n", {NULL},
	NULL, "InvalidProfile:profile \"b\" (CONFIG:7) has source_profile \"a\", which leads back"},
	{"a loop elsewhere", {"AWS_PROFILE=a"}, NULL,
		"[profile a]\nrole_arn = " ROLE "a\nsource_profile = b\n[profile b]\nrole_arn = " ROLE "b\nsource_profile = c\n[profile c]\nrole_arn = " ROLE "c\nsource_profile = b\n", {NULL},
	NULL, "InvalidProfile:profile \"c\" (CONFIG:8) has source_profile \"b\""},
	{"keys first in the second", {"AWS_PROFILE=a"}, NULL,
		"[profile a]\nrole_arn = " ROLE "a\nsource_profile = b\n[profile b]\nrole_arn = " ROLE "b\nsource_profile = c\n" STATIC_KEYS, {NULL},
	"profile FILEID secret - > " ROLE "a - sqsbridge 0"},
	{"the role first in the first", {NULL}, NULL,
		"[default]\nrole_arn = " ROLE "a\ncredential_source = Environment\n" STATIC_KEYS, {NULL},
	NULL, "NoCredentials:profile \"default\" (CONFIG:2): the database server's environment has no AWS_ACCESS_KEY_ID"},
	{"missing source_profile", {NULL}, NULL, "[default]\nrole_arn = " ROLE "p\nsource_profile = x\n", {NULL}, NULL,
	"InvalidProfile:profile \"default\" (CONFIG:2) has source_profile \"x\", which is neither in"},
	{"neither source", {NULL}, NULL, "[default]\nrole_arn = " ROLE "p\n" STATIC_KEYS, {NULL}, NULL, "InvalidProfile:profile \"default\" (CONFIG:2) has role_arn, but neither"},
	{"both sources", {NULL}, NULL, "[default]\nrole_arn = " ROLE "p\nsource_profile = x\ncredential_source = Environment\n", {NULL}, NULL,
	"InvalidProfile:profile \"default\" (CONFIG:2) has role_arn with both"},
	{"MFA", {NULL}, NULL, "[default]\nrole_arn = " ROLE "p\nsource_profile = default\nmfa_serial = x\n" STATIC_KEYS, {NULL}, NULL,
	"UnsupportedSource:profile \"default\" (CONFIG:2) has mfa_serial"},
	{"a bad role", {NULL}, NULL, "[default]\nrole_arn = p\nsource_profile = default\n" STATIC_KEYS, {NULL}, NULL, "InvalidConfiguration:profile \"default\" (CONFIG:2): role_arn must be"},
	{"a short duration", {NULL}, NULL, "[default]\nrole_arn = " ROLE "p\nsource_profile = default\nduration_seconds = 899\n" STATIC_KEYS, {NULL}, NULL,
	"InvalidProfile:profile \"default\" (CONFIG:4): duration_seconds must be"},
	{"no duration", {NULL}, NULL, "[default]\nrole_arn = " ROLE "p\nsource_profile = default\nduration_seconds = 1h\n" STATIC_KEYS, {NULL}, NULL,
	"InvalidProfile:profile \"default\" (CONFIG:4): duration_seconds must be"},
	{"a huge duration", {NULL}, NULL, "[default]\nrole_arn = " ROLE "p\nsource_profile = default\nduration_seconds = 99999999999999999999\n" STATIC_KEYS, {NULL}, NULL,
	"InvalidProfile:profile \"default\" (CONFIG:4): duration_seconds must be"},
	{"five roles", {"AWS_PROFILE=a"}, NULL,
		"[profile a]\nrole_arn = " ROLE "a\nsource_profile = b\n[profile b]\nrole_arn = " ROLE "b\nsource_profile = c\n"
		"[profile c]\nrole_arn = " ROLE "c\nsource_profile = d\n[profile d]\nrole_arn = " ROLE "d\nsource_profile = e\n"
		"[profile e]\nrole_arn = " ROLE "e\nsource_profile = f\n[profile f]\n" STATIC_KEYS, {NULL},
		"profile FILEID secret - > " ROLE "e - sqsbridge 0 > " ROLE "d - sqsbridge 0 > " ROLE "c - sqsbridge 0 > "
	ROLE "b - sqsbridge 0 > " ROLE "a - sqsbridge 0"},
	{"and one more", {"AWS_PROFILE=a"}, NULL,
		"[profile a]\nrole_arn = " ROLE "a\nsource_profile = b\n[profile b]\nrole_arn = " ROLE "b\nsource_profile = c\n"
		"[profile c]\nrole_arn = " ROLE "c\nsource_profile = d\n[profile d]\nrole_arn = " ROLE "d\nsource_profile = e\n"
		"[profile e]\nrole_arn = " ROLE "e\nsource_profile = f\n[profile f]\n" STATIC_KEYS, {.role_arn = ROLE "o"}, NULL,
	"InvalidProfile:option role_arn: more than 5 roles"},

	/* credential_source */
	{"Environment", {KEYS, "AWS_PROFILE=p"}, NULL, "[profile p]\nrole_arn = " ROLE "p\ncredential_source = Environment\n", {.source = "profile"},
	"environment ENVID secret - > " ROLE "p - sqsbridge 0"},
	{"Ec2InstanceMetadata", {NULL}, NULL, "[default]\nrole_arn = " ROLE "p\ncredential_source = Ec2InstanceMetadata\n", {NULL},
	METADATA " > " ROLE "p - sqsbridge 0"},
	{"EcsContainer", {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/x?id=1"}, NULL, "[default]\nrole_arn = " ROLE "p\ncredential_source = EcsContainer\n", {NULL},
	"container http://169.254.170.2/x?id=1 - - > " ROLE "p - sqsbridge 0"},
	{"no container", {NULL}, NULL, "[default]\nrole_arn = " ROLE "p\ncredential_source = EcsContainer\n", {NULL}, NULL,
	"NoCredentials:profile \"default\" (CONFIG:2): the database server's environment has neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"},
	{"a bad container", {"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://x/"}, NULL, "[default]\nrole_arn = " ROLE "p\ncredential_source = EcsContainer\n", {NULL}, NULL,
	"InvalidConfiguration:profile \"default\" (CONFIG:2): AWS_CONTAINER_CREDENTIALS_FULL_URI must use https"},
	{"another", {NULL}, NULL, "[default]\nrole_arn = " ROLE "p\ncredential_source = environment\n", {NULL}, NULL,
	"InvalidProfile:profile \"default\" (CONFIG:2): credential_source must be"},
	{"of a source_profile", {NULL}, NULL, "[default]\nrole_arn = " ROLE "p\nsource_profile = i\n[profile i]\ncredential_source = Ec2InstanceMetadata\n", {NULL},
	METADATA " > " ROLE "p - sqsbridge 0"},

	/* web identity in a profile */
	{"session of the environment", {"AWS_ROLE_SESSION_NAME=env"}, NULL, "[default]\nrole_arn = " ROLE "p\nweb_identity_token_file = /t\n", {NULL},
	"web identity /t " ROLE "p env 0"},
	{"token file", {"AWS_ROLE_SESSION_NAME=env"}, NULL,
		"[default]\nrole_arn = " ROLE "p\nweb_identity_token_file = /t\nrole_session_name = s\nduration_seconds = 3600\n", {NULL},
	"web identity /t " ROLE "p s 3600", "web identity (profile \"default\" (CONFIG:3))"},
	{"without role", {"AWS_ROLE_ARN=" ROLE "x"}, NULL, "[default]\nweb_identity_token_file = /t\n", {NULL}, NULL,
	"InvalidProfile:profile \"default\" (CONFIG:2) has web_identity_token_file but not role_arn"},
	{"before keys", {NULL}, NULL, "[default]\nrole_arn = " ROLE "p\nweb_identity_token_file = /t\n" STATIC_KEYS, {NULL}, "web identity /t " ROLE "p sqsbridge 0"},
	{"but after source_profile", {NULL}, NULL, "[default]\nrole_arn = " ROLE "p\nweb_identity_token_file = /t\nsource_profile = default\n" STATIC_KEYS, {NULL},
	"profile FILEID secret - > " ROLE "p - sqsbridge 0"},
	{"as a source", {"AWS_PROFILE=a"}, NULL, "[profile a]\nrole_arn = " ROLE "a\nsource_profile = w\n[profile w]\nrole_arn = " ROLE "w\nweb_identity_token_file = /t\n", {NULL},
	"web identity /t " ROLE "w sqsbridge 0 > " ROLE "a - sqsbridge 0"},

	/* programs and people */
	{"process", {NULL}, NULL, "[default]\ncredential_process = /x --y \"z\"\n", {.allow_process = true}, "process /x --y \"z\"",
	"credential_process of profile \"default\" (CONFIG:2)"},
	{"not allowed", {NULL}, NULL, "[default]\ncredential_process = x " SECRET "\n", {NULL}, NULL,
	"UnsupportedSource:profile \"default\" (CONFIG:2) has credential_process"},
	{"as a source", {NULL}, NULL, "[default]\nrole_arn = " ROLE "p\nsource_profile = q\n[profile q]\ncredential_process = x\n", {.allow_process = true},
	"process x > " ROLE "p - sqsbridge 0"},
	{"SSO", {NULL}, NULL, "[default]\nsso_session = x\nsso_account_id = 1\n", {NULL}, NULL,
	"UnsupportedSource:profile \"default\" (CONFIG:2) has sso_session: keys that depend on somebody having logged in are not supported; give the database server a role (instance metadata, container, web identity), or use credential_process"},
	{"SSO of old", {NULL}, NULL, "[default]\nsso_start_url = x\n", {NULL}, NULL, "UnsupportedSource:has sso_start_url"},
	{"login", {NULL}, NULL, "[default]\nlogin_session = x\n", {NULL}, NULL, "UnsupportedSource:has login_session"},

	/* containers */
	{"relative", {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/x", "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://evil"}, NULL, NULL, {NULL},
	"container http://169.254.170.2/v2/x - -", "container credentials (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI)"},
	{"not relative", {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=@evil/" SECRET}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:RELATIVE_URI must begin"},
	{"with a user", {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/x@evil/"}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:RELATIVE_URI must begin"},
	{"EKS", {"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://169.254.170.23/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=/t", "AWS_CONTAINER_AUTHORIZATION_TOKEN=x"}, NULL, NULL, {NULL},
	"container http://169.254.170.23/v1/credentials - /t"},
	{"a token", {"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:80/x?y=z", "AWS_CONTAINER_AUTHORIZATION_TOKEN=Basic x"}, NULL, NULL, {NULL},
	"container http://127.0.0.1:80/x?y=z Basic x -"},
	{"a token with a line break", {"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1/", "AWS_CONTAINER_AUTHORIZATION_TOKEN=" SECRET "\nX: y"}, NULL, NULL, {NULL}, NULL,
	"InvalidConfiguration:AWS_CONTAINER_AUTHORIZATION_TOKEN must be"},
	{"https", {"AWS_CONTAINER_CREDENTIALS_FULL_URI=https://example.com/x"}, NULL, NULL, {NULL}, "container https://example.com/x - -"},
	{"IPv6 of EKS", {"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://[fd00:ec2::23]/x"}, NULL, NULL, {NULL}, "container http://[fd00:ec2::23]/x - -"},
	{"localhost", {"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://localhost/x"}, NULL, NULL, {NULL}, "container http://localhost/x - -"},
	{"another host", {"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://10.0.0.1/" SECRET}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:FULL_URI must use https"},
	{"metadata's host", {"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://169.254.169.254/x"}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:FULL_URI must use https"},
	{"a host that begins so", {"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://169.254.170.2.evil.com/x"}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:FULL_URI must use https"},
	{"a user before the host", {"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1@evil.com/x"}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:FULL_URI must be a URL"},
	{"a fragment after a query", {"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1/?a#b"}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:FULL_URI must be a URL"},
	{"no URL", {"AWS_CONTAINER_CREDENTIALS_FULL_URI=" SECRET}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:FULL_URI must be a URL"},
	{"after the profile", {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/x"}, "[default]\n" STATIC_KEYS, NULL, {NULL}, "profile FILEID secret -"},

	/* instance metadata */
	{"IPv6", {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6"}, NULL, NULL, {NULL}, "metadata http://[fd00:ec2::254]"},
	{"IPv6 of the profile", {NULL}, NULL, "[default]\nec2_metadata_service_endpoint_mode = ipv6\n", {NULL}, "metadata http://[fd00:ec2::254]"},
	{"IPv4", {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=ipv4"}, NULL, "[default]\nec2_metadata_service_endpoint_mode = ipv6\n", {NULL}, METADATA},
	{"IPv5", {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=ipv5"}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:MODE must be IPv4 or IPv6"},
	{"endpoint", {"AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:99//"}, NULL, NULL, {NULL}, "metadata http://127.0.0.1:99"},
	{"endpoint of the profile", {NULL}, NULL, "[default]\nec2_metadata_service_endpoint = http://127.0.0.1:98\n", {NULL}, "metadata http://127.0.0.1:98"},
	{"no endpoint", {"AWS_EC2_METADATA_SERVICE_ENDPOINT=127.0.0.1"}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:ENDPOINT must be a URL"},
	{"disabled", {"AWS_EC2_METADATA_DISABLED=True"}, NULL, NULL, {NULL}, NULL, "NoCredentials:there are no AWS credentials"},
	{"not disabled", {"AWS_EC2_METADATA_DISABLED=false"}, NULL, NULL, {NULL}, METADATA},
	{"perhaps disabled", {"AWS_EC2_METADATA_DISABLED=1"}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:AWS_EC2_METADATA_DISABLED must be true or false"},

	/* one source by name */
	{"environment", {WEB, KEYS}, NULL, NULL, {.source = "environment"}, "environment ENVID secret -"},
	{"which is not there", {WEB}, NULL, NULL, {.source = "environment"}, NULL, "NoCredentials:has no AWS_ACCESS_KEY_ID"},
	{"web_identity", {WEB, KEYS}, NULL, NULL, {.source = "web_identity"}, "web identity /token " ROLE "web sqsbridge 0"},
	{"which is not there", {KEYS}, NULL, NULL, {.source = "web_identity"}, NULL, "NoCredentials:AWS_WEB_IDENTITY_TOKEN_FILE"},
	{"profile", {KEYS}, "[default]\n" STATIC_KEYS, NULL, {.source = "profile"}, "profile FILEID secret -"},
	{"which is not there", {KEYS}, NULL, NULL, {.source = "profile"}, NULL, "InvalidProfile:profile \"default\" is neither"},
	{"container", {KEYS, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/x"}, NULL, NULL, {.source = "container"}, "container http://169.254.170.2/x - -"},
	{"which is not there", {KEYS}, NULL, NULL, {.source = "container"}, NULL, "NoCredentials:AWS_CONTAINER"},
	{"instance_metadata", {KEYS}, NULL, NULL, {.source = "instance_metadata"}, METADATA},
	{"which is disabled", {KEYS, "AWS_EC2_METADATA_DISABLED=true"}, NULL, NULL, {.source = "instance_metadata"}, NULL, "NoCredentials:AWS_EC2_METADATA_DISABLED is true"},
	{"auto", {KEYS}, NULL, NULL, {.source = "auto"}, "environment ENVID secret -"},
	{"unknown", {KEYS}, NULL, NULL, {.source = "x"}, NULL, "InvalidConfiguration:unknown source of credentials \"x\""},

	/* options */
	{"role", {KEYS}, NULL, NULL, {.role_arn = ROLE "o"}, "environment ENVID secret - > " ROLE "o - sqsbridge 0"},
	{"role after web identity", {WEB}, NULL, NULL, {.role_arn = ROLE "o"}, "web identity /token " ROLE "web sqsbridge 0 > " ROLE "o - sqsbridge 0"},
	{"token file", {KEYS, WEB}, NULL, NULL, {.role_arn = ROLE "o",.web_identity_token_file = "/o",.role_session_name = "s",.duration_seconds = 901},
	"web identity /o " ROLE "o s 901", "web identity (option web_identity_token_file)"},
	{"token file without role", {WEB}, NULL, NULL, {.web_identity_token_file = "/o"}, NULL, "InvalidConfiguration:requires option role_arn"},
	{"token file and profile", {NULL}, NULL, NULL, {.web_identity_token_file = "/o",.profile = "p",.role_arn = ROLE "o"}, NULL, "InvalidConfiguration:exclude each other"},
	{"token file and environment", {KEYS}, NULL, NULL, {.source = "environment",.web_identity_token_file = "/o",.role_arn = ROLE "o"}, NULL, "InvalidConfiguration:no meaning"},
	{"profile and environment", {KEYS}, NULL, NULL, {.source = "environment",.profile = "p"}, NULL, "InvalidConfiguration:no meaning"},
	{"a role that is none", {KEYS}, NULL, NULL, {.role_arn = "o"}, NULL, "InvalidConfiguration:option role_arn: role_arn must be an ARN"},

	/* a mapping's keys */
	{"static", {KEYS, WEB, "AWS_PROFILE=nosuch"}, "malformed", "malformed", {.source = "static",.access_key_id = "MAPID",.secret_access_key = SECRET},
	"user mapping MAPID secret -", "the user mapping"},
	{"static with a role", {NULL}, NULL, NULL, {.source = "static",.access_key_id = "MAPID",.secret_access_key = SECRET,.session_token = "T",.role_arn = ROLE "o"},
	"user mapping MAPID secret T > " ROLE "o - sqsbridge 0"},
	{"static without keys", {KEYS}, NULL, NULL, {.source = "static",.role_arn = ROLE "o"}, NULL, "NoCredentials:the user mapping has no"},
	{"static with a bad secret", {NULL}, NULL, NULL, {.source = "static",.access_key_id = "MAPID",.secret_access_key = SECRET "\n"}, NULL, "InvalidCredentials:secret_access_key of the user mapping must"},
};

/* Resolve a case: the identity, or the error; the caller frees it. */
static AwsIdentity *
resolve(const Case *c, AwsError *error)
{
	AwsIdentityOptions options = c->options;
	AwsIdentity *identity = (AwsIdentity *) c;

	options.getenv = env;
	options.use_fips = options.use_fips == 0 ? -1 : options.use_fips - 1;
	options.use_dualstack = options.use_dualstack == 0 ? -1 : options.use_dualstack - 1;
	variables = c->variables;
	write_file(credentials_path, c->credentials);
	write_file(config_path, c->config);
	memset(error, 0, sizeof(*error));
	if (!aws_identity_resolve(&options, &identity, error))
		ok(identity == NULL, "%s: no identity", c->what);
	return identity;
}

static void
failed_as(const Case *c, AwsError *error)
{
	const char *text = strchr(c->text, ':') + 1;

	shorten(error->message);
	is_int(error->class, AWS_ERROR_CREDENTIALS, "%s: class", c->what);
	if (!ok(strncmp(error->code, c->text, strlen(error->code)) == 0 && strstr(error->message, text) != NULL,
			"%s: the error is %s", c->what, c->text))
		printf("# got: %s:%s\n", error->code, error->message);
	ok(strstr(error->message, SECRET) == NULL, "%s: there is no secret in it", c->what);
}

static void
keys(void)
{
	for (size_t i = 0; i < lengthof(cases); i++)
	{
		const Case *c = &cases[i];
		AwsError	error;
		AwsIdentity *identity = resolve(c, &error);
		AwsIdentity *copy;
		char		line[2000];
		char		line_of_copy[2000];

		if (identity == NULL)
		{
			if (ok(c->result == NULL, "%s: an error", c->what))
				failed_as(c, &error);
			else
				printf("# %s\n", error.message);
			continue;
		}
		describe_keys(identity, line, sizeof(line));
		is(line, c->result, "%s: keys", c->what);
		if (strcmp(c->what, "nothing") == 0 || strcmp(c->what, "instance_metadata") == 0)
			is_int(identity->is_last_resort, strcmp(c->what, "nothing") == 0, "%s: last resort", c->what);
		shorten(identity->source);
		if (c->text != NULL)
			is(identity->source, c->text, "%s: source", c->what);
		ok(strstr(identity->source, SECRET) == NULL, "%s: no secret in it", c->what);
		copy = aws_identity_copy(identity);
		aws_identity_free(identity);
		describe_keys(copy, line_of_copy, sizeof(line_of_copy));
		is(line_of_copy, line, "%s: a copy", c->what);
		aws_identity_free(copy);
	}
	aws_identity_free(NULL);
}

/* For these, the result is region, endpoint, sts_endpoint, sts_region, flags. */
static const Case places[] = {
	{"AWS_REGION", {KEYS, REGION, "AWS_DEFAULT_REGION=x-1"}, NULL, "[default]\nregion = y-1\n", {NULL}, "eu-west-1 - - -"},
	{"AWS_DEFAULT_REGION", {KEYS, "AWS_DEFAULT_REGION=us-east-2"}, NULL, "[default]\nregion = y-1\n", {NULL}, "us-east-2 - - -"},
	{"profile", {KEYS, "AWS_PROFILE=p"}, NULL, "[default]\nregion = y-1\n[profile p]\nregion = us-west-2", {NULL}, "us-west-2 - - -"},
	{"option", {KEYS, REGION}, NULL, NULL, {.region = "us-east-1"}, "us-east-1 - - -"},
	{"of the option endpoint", {KEYS, REGION}, NULL, NULL, {.endpoint = "https://sqs.us-east-1.amazonaws.com"}, "us-east-1 https://sqs.us-east-1.amazonaws.com - -"},
	{"to be asked for", {KEYS}, NULL, NULL, {NULL}, "- - - - http://169.254.169.254"},
	{"of nowhere", {KEYS, "AWS_EC2_METADATA_DISABLED=true"}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:no region is configured"},
	{"of an endpoint", {KEYS, "AWS_ENDPOINT_URL=https://vpce-1.sqs.eu-north-1.vpce.amazonaws.com"}, NULL, NULL, {NULL},
	"eu-north-1 https://vpce-1.sqs.eu-north-1.vpce.amazonaws.com https://vpce-1.sqs.eu-north-1.vpce.amazonaws.com eu-north-1"},
	{"bad AWS_REGION", {KEYS, "AWS_REGION=EU-WEST-1"}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:AWS_REGION must be"},
	{"a region of old", {KEYS, "AWS_REGION=fips-us-west-2"}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:AWS_REGION must be a region such as us-west-2; for its FIPS"},
	{"bad option", {KEYS}, NULL, NULL, {.region = "a.b"}, NULL, "InvalidConfiguration:option region must be"},
	{"bad in the profile", {KEYS}, NULL, "[default]\nregion = a/b\n", {NULL}, NULL, "InvalidConfiguration:region of profile \"default\" (CONFIG:2) must be"},

	{"AWS_ENDPOINT_URL_SQS", {KEYS, REGION, "AWS_ENDPOINT_URL_SQS=https://q", "AWS_ENDPOINT_URL=https://e"}, NULL, NULL, {NULL}, "eu-west-1 https://q https://e -"},
	{"AWS_ENDPOINT_URL_STS", {KEYS, REGION, "AWS_ENDPOINT_URL_STS=https://sts.us-east-1.amazonaws.com"}, NULL, NULL, {NULL}, "eu-west-1 - https://sts.us-east-1.amazonaws.com us-east-1"},
	{"options first", {KEYS, REGION, "AWS_ENDPOINT_URL=https://e"}, NULL, NULL, {.endpoint = "https://o",.sts_endpoint = "https://s"}, "eu-west-1 https://o https://s -"},
	{"ignored", {KEYS, REGION, "AWS_ENDPOINT_URL=https://e", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true"}, NULL, NULL, {.endpoint = "https://o"}, "eu-west-1 https://o - -"},
	{"ignored by the profile", {KEYS, REGION, "AWS_ENDPOINT_URL=https://e"}, NULL, "[default]\nignore_configured_endpoint_urls = true\n", {NULL}, "eu-west-1 - - -"},
	{"not ignored", {KEYS, REGION, "AWS_ENDPOINT_URL=https://e", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=false"}, NULL, "[default]\nignore_configured_endpoint_urls = true\n", {NULL}, "eu-west-1 https://e https://e -"},
	{"perhaps ignored", {KEYS, REGION, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=yes"}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:AWS_IGNORE_CONFIGURED_ENDPOINT_URLS must be true or false"},
	{"services", {KEYS, REGION}, NULL, "[default]\nservices = s\nendpoint_url = https://p\n[services s]\nsqs =\n  endpoint_url = https://q\n", {NULL}, "eu-west-1 https://q https://p -"},
	{"services of STS", {KEYS, REGION}, NULL, "[default]\nservices = s\n[services s]\nsts =\n  endpoint_url = https://t\n", {NULL}, "eu-west-1 - https://t -"},
	{"variable before services", {KEYS, REGION, "AWS_ENDPOINT_URL=https://e"}, NULL, "[default]\nservices = s\n[services s]\nsqs =\n  endpoint_url = https://q\n", {NULL}, "eu-west-1 https://e https://e -"},
	{"no such services", {KEYS, REGION}, NULL, "[default]\nservices = s\n", {NULL}, NULL, "InvalidProfile:profile \"default\" (CONFIG:2): there is no section [services s]"},
	{"endpoint_url", {KEYS, REGION, "AWS_PROFILE=p"}, NULL, "[default]\nendpoint_url = https://d\n[profile p]\nendpoint_url = https://p\n", {NULL}, "eu-west-1 https://p https://p -"},
	{"plain http", {KEYS, REGION, "AWS_ENDPOINT_URL=http://" SECRET}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:AWS_ENDPOINT_URL must use https"},
	{"plain http that is allowed", {KEYS, REGION, "AWS_ENDPOINT_URL=http://e"}, NULL, NULL, {.allow_http = true}, "eu-west-1 http://e http://e -"},
	{"plain http in this machine", {KEYS, REGION, "AWS_ENDPOINT_URL=http://localhost:4566"}, NULL, NULL, {NULL}, "eu-west-1 http://localhost:4566 http://localhost:4566 -"},
	{"a password", {KEYS, REGION, "AWS_ENDPOINT_URL_STS=https://u:" SECRET "@e"}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:AWS_ENDPOINT_URL_STS must be a URL"},
	{"a bad one in the profile", {KEYS, REGION}, NULL, "[default]\nendpoint_url = e\n", {NULL}, NULL, "InvalidConfiguration:endpoint_url of profile \"default\" (CONFIG:2) must be a URL"},

	{"FIPS", {KEYS, REGION, "AWS_USE_FIPS_ENDPOINT=true"}, NULL, "[default]\nuse_dualstack_endpoint = TRUE\n", {NULL}, "eu-west-1 - - - FIPS dual-stack"},
	{"dual-stack", {KEYS, REGION, "AWS_USE_DUALSTACK_ENDPOINT=true", "AWS_USE_FIPS_ENDPOINT=false"}, NULL, "[default]\nuse_fips_endpoint = true\n", {NULL}, "eu-west-1 - - - dual-stack"},
	{"options first", {KEYS, REGION, "AWS_USE_DUALSTACK_ENDPOINT=true", "AWS_USE_FIPS_ENDPOINT=false"}, NULL, NULL, {.use_fips = 2,.use_dualstack = 1}, "eu-west-1 - - - FIPS"},
	{"perhaps FIPS", {KEYS, REGION, "AWS_USE_FIPS_ENDPOINT=1"}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:AWS_USE_FIPS_ENDPOINT must be true or false"},
	{"perhaps in the profile", {KEYS, REGION}, NULL, "[default]\nuse_fips_endpoint = on\n", {NULL}, NULL, "InvalidConfiguration:use_fips_endpoint of profile \"default\" (CONFIG:2) must be true or false"},
	{"FIPS elsewhere", {KEYS, REGION, "AWS_USE_FIPS_ENDPOINT=true", "AWS_ENDPOINT_URL=https://e"}, NULL, NULL, {NULL}, NULL, "InvalidConfiguration:a FIPS endpoint is wanted (option use_fips_endpoint, AWS_USE_FIPS_ENDPOINT, or the profile), but the endpoint is given"},
	{"dual-stack elsewhere", {KEYS, REGION}, NULL, NULL, {.use_dualstack = 2,.endpoint = "https://e"}, NULL, "InvalidConfiguration:a dual-stack endpoint is wanted"},
	{"FIPS of STS elsewhere", {KEYS, REGION, "AWS_USE_FIPS_ENDPOINT=true", "AWS_ENDPOINT_URL_STS=https://e"}, NULL, NULL, {.role_arn = ROLE "o"}, NULL, "InvalidConfiguration:but the endpoint of STS is given"},
	{"which is not asked", {KEYS, REGION, "AWS_USE_FIPS_ENDPOINT=true", "AWS_ENDPOINT_URL_STS=https://e"}, NULL, NULL, {NULL}, "eu-west-1 - https://e - FIPS"},
	{"given on purpose", {KEYS, REGION, "AWS_USE_FIPS_ENDPOINT=true", "AWS_ENDPOINT_URL=https://e"}, NULL, NULL, {.use_fips = 1}, "eu-west-1 https://e https://e -"},

	{"AWS_CA_BUNDLE", {KEYS, REGION, "AWS_CA_BUNDLE=/a"}, NULL, "[default]\nca_bundle = /b\n", {NULL}, "eu-west-1 - - - ca=/a"},
	{"ca_bundle", {KEYS, REGION}, NULL, "[default]\nca_bundle = /b\n", {NULL}, "eu-west-1 - - - ca=/b"},

	/* what the environment must not do to a mapping's keys */
	{"static", {REGION, "AWS_ENDPOINT_URL=https://e", "AWS_ENDPOINT_URL_STS=https://e"}, NULL, "[default]\nregion = x\nendpoint_url = https://e\nuse_fips_endpoint = true\nca_bundle = /b\n",
	{.source = "static",.access_key_id = "i",.secret_access_key = SECRET}, "- - - -"},
	{"static with FIPS", {"AWS_USE_DUALSTACK_ENDPOINT=true", "AWS_CA_BUNDLE=/a"}, NULL, NULL,
	{.source = "static",.access_key_id = "i",.secret_access_key = SECRET,.region = "us-east-1",.use_fips = 2}, "us-east-1 - - - FIPS ca=/a"},
	{"static without FIPS", {"AWS_USE_FIPS_ENDPOINT=perhaps"}, NULL, NULL,
	{.source = "static",.access_key_id = "i",.secret_access_key = SECRET,.endpoint = "https://e"}, "- https://e - -"},
	{"static with an endpoint", {NULL}, NULL, NULL,
	{.source = "static",.access_key_id = "i",.secret_access_key = SECRET,.endpoint = "https://sqs.us-east-2.amazonaws.com",.sts_endpoint = "https://sts.amazonaws.com"},
	"us-east-2 https://sqs.us-east-2.amazonaws.com https://sts.amazonaws.com us-east-1"},
};

static void
where(void)
{
	for (size_t i = 0; i < lengthof(places); i++)
	{
		const Case *c = &places[i];
		AwsError	error;
		AwsIdentity *identity = resolve(c, &error);
		char		line[600];

		if (identity == NULL)
		{
			if (ok(c->result == NULL, "%s: an error", c->what))
				failed_as(c, &error);
			else
				printf("# %s\n", error.message);
			continue;
		}
		snprintf(line, sizeof(line), "%s %s %s %s%s%s%s%s%s%s", nonnull(identity->region), nonnull(identity->endpoint),
				 nonnull(identity->sts_endpoint), nonnull(identity->sts_region),
				 identity->use_fips ? " FIPS" : "", identity->use_dualstack ? " dual-stack" : "",
				 identity->metadata_url != NULL ? " " : "",
				 identity->metadata_url != NULL ? identity->metadata_url : "",
				 identity->ca_file != NULL ? " ca=" : "", identity->ca_file != NULL ? identity->ca_file : "");
		is(line, c->result, "%s: place", c->what);
		aws_identity_free(identity);
	}
}

static void
expiry(void)
{
	char		variable[60];
	time_t		later = time(NULL) + 3600;
	Case		c = {"expiry", {KEYS, REGION, variable}, NULL, NULL, {NULL}, NULL, NULL};
	AwsError	error;
	AwsIdentity *identity;

	strftime(variable, sizeof(variable), "AWS_CREDENTIAL_EXPIRATION=%Y-%m-%dT%H:%M:%SZ", gmtime(&later));
	identity = resolve(&c, &error);
	if (ok(identity != NULL, "keys that expire in an hour"))
		is_int(identity->expires, later, "are said to do so");
	aws_identity_free(identity);
	c.variables[2] = NULL;
	identity = resolve(&c, &error);
	if (ok(identity != NULL, "keys that do not tell"))
		is_int(identity->expires, 0, "do not");
	aws_identity_free(identity);
}

/* Which differences make other keys. */
static void
canonical(void)
{
	static const char role_p[] = "[default]\nrole_arn = " ROLE "p\nsource_profile = b\n[profile b]\n" STATIC_KEYS;
	static const Case same[] = {
		{"another region", {KEYS, REGION}, NULL, NULL, {NULL}},
		{"of no matter", {KEYS, "AWS_REGION=us-east-1"}, NULL, NULL, {NULL}},
		{"another endpoint", {KEYS, REGION, "AWS_ENDPOINT_URL_SQS=https://e"}, NULL, NULL, {NULL}},
		{"another endpoint of STS", {KEYS, REGION, "AWS_ENDPOINT_URL_STS=https://e"}, NULL, NULL, {NULL}},
	};
	static const Case different[] = {
		{"keys", {KEYS, REGION}, NULL, NULL, {NULL}},
		{"the same of a file", {REGION}, "[default]\naws_access_key_id = ENVID\naws_secret_access_key = " SECRET "\n", NULL, {NULL}},
		{"a token", {KEYS, REGION, "AWS_SESSION_TOKEN=T"}, NULL, NULL, {NULL}},
		{"another secret", {"AWS_ACCESS_KEY_ID=ENVID", "AWS_SECRET_ACCESS_KEY=x", REGION}, NULL, NULL, {NULL}},
		{"another id", {"AWS_ACCESS_KEY_ID=ENVI", "AWS_SECRET_ACCESS_KEY=D" SECRET, REGION}, NULL, NULL, {NULL}},
		{"a region to be fetched", {KEYS}, NULL, NULL, {NULL}},
		{"authorities", {KEYS, REGION, "AWS_CA_BUNDLE=/x"}, NULL, NULL, {NULL}},
		{"web identity", {WEB, REGION}, NULL, NULL, {NULL}},
		{"its session", {WEB, REGION, "AWS_ROLE_SESSION_NAME=x"}, NULL, NULL, {NULL}},
		{"its region", {WEB, "AWS_REGION=us-east-1"}, NULL, NULL, {NULL}},
		{"its STS", {WEB, REGION, "AWS_ENDPOINT_URL_STS=https://x"}, NULL, NULL, {NULL}},
		{"its FIPS", {WEB, REGION, "AWS_USE_FIPS_ENDPOINT=true"}, NULL, NULL, {NULL}},
		{"its role", {"AWS_WEB_IDENTITY_TOKEN_FILE=/token", "AWS_ROLE_ARN=" ROLE "x", REGION}, NULL, NULL, {NULL}},
		{"its file", {"AWS_WEB_IDENTITY_TOKEN_FILE=/x", "AWS_ROLE_ARN=" ROLE "web", REGION}, NULL, NULL, {NULL}},
		{"container", {REGION, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/x"}, NULL, NULL, {NULL}},
		{"its path", {REGION, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/y"}, NULL, NULL, {NULL}},
		{"its token", {REGION, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/x", "AWS_CONTAINER_AUTHORIZATION_TOKEN=a"}, NULL, NULL, {NULL}},
		{"its token's file", {REGION, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/x", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=a"}, NULL, NULL, {NULL}},
		{"metadata", {REGION}, NULL, NULL, {NULL}},
		{"its host", {REGION, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6"}, NULL, NULL, {NULL}},
		{"process", {REGION}, NULL, "[default]\ncredential_process = x\n", {.allow_process = true}},
		{"another program", {REGION}, NULL, "[default]\ncredential_process = y\n", {.allow_process = true}},
		{"role", {REGION}, NULL, role_p, {NULL}},
		{"role on a role", {REGION}, NULL, role_p, {.role_arn = ROLE "o"}},
		{"its external id", {REGION}, NULL, role_p, {.role_arn = ROLE "o",.external_id = "x"}},
		{"its session", {REGION}, NULL, role_p, {.role_arn = ROLE "o",.role_session_name = "x"}},
		{"its duration", {REGION}, NULL, role_p, {.role_arn = ROLE "o",.duration_seconds = 901}},
		{"its STS", {REGION}, NULL, role_p, {.role_arn = ROLE "o",.sts_endpoint = "https://x"}},
		{"mapping", {REGION}, NULL, NULL, {.source = "static",.access_key_id = "ENVID",.secret_access_key = SECRET}},
	};
	char	   *texts[lengthof(different)];
	size_t		lens[lengthof(different)];
	AwsError	error;
	AwsIdentity *identity;

	for (size_t i = 0; i < lengthof(different); i++)
	{
		identity = resolve(&different[i], &error);
		if (!ok(identity != NULL, "%s: resolved", different[i].what))
			printf("# %s\n", error.message);
		texts[i] = aws_identity_canonical(identity, &lens[i]);
		is_int(aws_identity_needs_fetch(identity), identity->nroles > 0 ||
			   (identity->region == NULL && identity->metadata_url != NULL) ||
			   (identity->kind != AWS_SOURCE_STATIC && identity->kind != AWS_SOURCE_ENVIRONMENT &&
				identity->kind != AWS_SOURCE_PROFILE_KEYS), "%s: is it fetched?", different[i].what);
		aws_identity_free(identity);
		for (size_t j = 0; j < i; j++)
			if (lens[i] == lens[j] && memcmp(texts[i], texts[j], lens[i]) == 0)
				ok(false, "%s is not the same as %s", different[i].what, different[j].what);
	}
	for (size_t i = 0; i < lengthof(same); i++)
	{
		size_t		len;
		char	   *text;

		identity = resolve(&same[i], &error);
		text = aws_identity_canonical(identity, &len);
		ok(len == lens[0] && memcmp(text, texts[0], len) == 0, "%s: the same keys", same[i].what);
		free(text);
		aws_identity_free(identity);
	}
	for (size_t i = 0; i < lengthof(different); i++)
		free(texts[i]);
}

/* Without an injected environment, the process's is read. */
static void
own_environment(void)
{
	AwsIdentityOptions options = AWS_IDENTITY_OPTIONS_INIT;
	AwsIdentity *identity;
	AwsError	error;

	setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null", 1);
	setenv("AWS_CONFIG_FILE", "/dev/null", 1);
	setenv("AWS_ACCESS_KEY_ID", "OWNID", 1);
	setenv("AWS_SECRET_ACCESS_KEY", SECRET, 1);
	setenv("AWS_REGION", "eu-west-1", 1);
	if (ok(aws_identity_resolve(&options, &identity, &error), "the process's own environment"))
		is(identity->access_key_id, "OWNID", "its keys");
	aws_identity_free(identity);
	unsetenv("AWS_SHARED_CREDENTIALS_FILE");
	unsetenv("AWS_CONFIG_FILE");
	unsetenv("AWS_ACCESS_KEY_ID");
	unsetenv("AWS_SECRET_ACCESS_KEY");
	unsetenv("AWS_REGION");
}

void
test_identity(void)
{
	strlcpy(dir, "/tmp/sqsbridge_unit_XXXXXX", sizeof(dir));
	if (mkdtemp(dir) == NULL)
		exit(2);
	snprintf(credentials_path, sizeof(credentials_path), "%s/credentials", dir);
	snprintf(config_path, sizeof(config_path), "%s/config", dir);

	keys();
	where();
	expiry();
	canonical();
	own_environment();

	write_file(credentials_path, NULL);
	write_file(config_path, NULL);
	(void) rmdir(dir);
}
