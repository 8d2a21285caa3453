/*-------------------------------------------------------------------------
 *
 * test_credentials.c
 *	  Keys from a user mapping and from the environment.
 *
 * A missing key has to say which one and where: the administrator sees
 * nothing but this text.  No text may show a key.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "aws/credentials.h"
#include "aws/sigv4.h"
#include "tap.h"

#define SECRET "very-secret-value"

static const char *const variables[] = {
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
	"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE",
	"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"
};

static void
clear_environment(void)
{
	for (size_t i = 0; i < lengthof(variables); i++)
		unsetenv(variables[i]);
}

/* get() has to fail with a text that holds this, and no secret. */
static void
fails_with(AwsCredentialsProvider *provider, const char *text, const char *what)
{
	AwsCredentials credentials = {NULL, NULL, NULL};
	AwsError	error;

	memset(&error, 0, sizeof(error));
	is_int(aws_credentials_get(provider, &credentials, &error), AWS_CREDENTIALS_FAILED,
		   "%s: refused", what);
	is_int(error.class, AWS_ERROR_CREDENTIALS, "%s: class", what);
	if (!ok(strstr(error.message, text) != NULL && strstr(error.message, SECRET) == NULL,
			"%s: the text names it", what))
		printf("# %s\n", error.message);
}

static void
static_keys(void)
{
	char		id[] = "AKIDEXAMPLE";
	char		secret[] = SECRET;
	char		token[] = "token";
	AwsCredentialsProvider *provider = aws_static_credentials(id, secret, token);
	AwsCredentials got;
	AwsError	error;

	/* copies: what was passed may go away */
	memset(id, 'x', strlen(id));
	memset(secret, 'x', strlen(secret));
	memset(token, 'x', strlen(token));
	is_int(aws_credentials_get(provider, &got, &error), AWS_CREDENTIALS_OK, "static keys");
	is(got.access_key_id, "AKIDEXAMPLE", "key id");
	is(got.secret_access_key, SECRET, "secret");
	is(got.session_token, "token", "token");
	is(aws_credentials_source(provider), "user mapping", "their source");
	ok(!aws_credentials_invalidate(provider), "there are no others");
	is_int(aws_credentials_get(provider, &got, &error), AWS_CREDENTIALS_OK, "so they stay");
	aws_credentials_free(provider);

	provider = aws_static_credentials("id", SECRET, NULL);
	aws_credentials_get(provider, &got, &error);
	ok(got.session_token == NULL, "no token");
	aws_credentials_free(provider);
	provider = aws_static_credentials("id", SECRET, "");
	aws_credentials_get(provider, &got, &error);
	ok(got.session_token == NULL, "an empty token is none");
	aws_credentials_free(provider);

	provider = aws_static_credentials("id", NULL, NULL);
	fails_with(provider, "secret_access_key", "no secret");
	aws_credentials_free(provider);
	provider = aws_static_credentials("", SECRET, NULL);
	fails_with(provider, "access_key_id", "empty key id");
	aws_credentials_free(provider);

	fails_with(NULL, "out of memory", "no provider");
	aws_credentials_free(NULL);
}

static void
environment(void)
{
	AwsCredentialsProvider *provider = aws_default_credentials();
	AwsCredentials got;
	AwsError	error;

	clear_environment();
	is(aws_credentials_source(provider), "environment", "source of the default chain");
	fails_with(provider, "AWS_ACCESS_KEY_ID", "nothing set");

	setenv("AWS_ACCESS_KEY_ID", "envid", 1);
	fails_with(provider, "not AWS_SECRET_ACCESS_KEY", "the id alone");
	setenv("AWS_SECRET_ACCESS_KEY", SECRET, 1);
	is_int(aws_credentials_get(provider, &got, &error), AWS_CREDENTIALS_OK, "both");
	is(got.access_key_id, "envid", "key id");
	is(got.secret_access_key, SECRET, "secret");
	ok(got.session_token == NULL, "no token");
	setenv("AWS_SESSION_TOKEN", "envtoken", 1);
	aws_credentials_get(provider, &got, &error);
	is(got.session_token, "envtoken", "a token, read anew");
	setenv("AWS_SESSION_TOKEN", "", 1);
	aws_credentials_get(provider, &got, &error);
	ok(got.session_token == NULL, "an empty one is none");
	unsetenv("AWS_ACCESS_KEY_ID");
	fails_with(provider, "not AWS_ACCESS_KEY_ID", "the secret alone");
	setenv("AWS_ACCESS_KEY_ID", "", 1);
	fails_with(provider, "not AWS_ACCESS_KEY_ID", "an empty id");

	clear_environment();
	for (size_t i = 3; i < lengthof(variables); i++)
	{
		setenv(variables[i], SECRET, 1);
		fails_with(provider, variables[i], variables[i]);

		/* keys in the environment come first all the same */
		setenv("AWS_ACCESS_KEY_ID", "envid", 1);
		setenv("AWS_SECRET_ACCESS_KEY", SECRET, 1);
		is_int(aws_credentials_get(provider, &got, &error), AWS_CREDENTIALS_OK,
			   "%s besides keys", variables[i]);
		clear_environment();
	}
	ok(!aws_credentials_invalidate(provider), "there are no others");
	aws_credentials_free(provider);
}

/* What the options of a mapping accept, the signer can use, and no more. */
static void
limits(void)
{
	static char longest[AWS_SESSION_TOKEN_MAX + 2];
	char		id[AWS_ACCESS_KEY_ID_MAX + 2];
	char		secret[AWS_SECRET_KEY_MAX + 2];
	AwsCredentialsProvider *provider;
	AwsCredentials got;
	AwsError	error;
	SigV4Key	key;
	SigV4Header headers[2] = {{"x-amz-date", "20250102T030405Z"}, {"x-amz-security-token", longest}};
	char		authorization[1024];
	const char *why = "";

	memset(id, 'I', sizeof(id));
	memset(secret, 'S', sizeof(secret));
	memset(longest, 'T', sizeof(longest));
	id[AWS_ACCESS_KEY_ID_MAX] = secret[AWS_SECRET_KEY_MAX] = longest[AWS_SESSION_TOKEN_MAX] = '\0';
	provider = aws_static_credentials(id, secret, longest);
	is_int(aws_credentials_get(provider, &got, &error), AWS_CREDENTIALS_OK, "the longest keys");
	memset(&key, 0, sizeof(key));
	ok(sigv4_authorization(&key, got.access_key_id, got.secret_access_key, "us-gov-northeast-10", "sqs",
						   "20250102T030405Z", "POST", "/", headers, 2, "{}", 2,
						   authorization, sizeof(authorization)), "can be signed with");
	sigv4_key_wipe(&key);
	aws_credentials_free(provider);

	id[AWS_ACCESS_KEY_ID_MAX] = 'I';
	id[AWS_ACCESS_KEY_ID_MAX + 1] = '\0';
	provider = aws_static_credentials(id, "s", NULL);
	fails_with(provider, "access key id must be at most 128", "a key id that is longer");
	aws_credentials_free(provider);
	secret[AWS_SECRET_KEY_MAX] = 'S';
	secret[AWS_SECRET_KEY_MAX + 1] = '\0';
	provider = aws_static_credentials("i", secret, NULL);
	fails_with(provider, "secret access key must be at most 256", "a secret that is longer");
	aws_credentials_free(provider);
	longest[AWS_SESSION_TOKEN_MAX] = 'T';
	longest[AWS_SESSION_TOKEN_MAX + 1] = '\0';
	provider = aws_static_credentials("i", "s", longest);
	fails_with(provider, "session token must be at most 16384", "a token that is longer");
	aws_credentials_free(provider);

	setenv("AWS_ACCESS_KEY_ID", "envid", 1);
	setenv("AWS_SECRET_ACCESS_KEY", SECRET "\r\nX-Evil: 1", 1);
	provider = aws_default_credentials();
	fails_with(provider, "secret access key must be printable", "a secret with a line break");
	setenv("AWS_SECRET_ACCESS_KEY", SECRET, 1);
	setenv("AWS_SESSION_TOKEN", "to ken", 1);
	fails_with(provider, "session token must be printable", "a token with a blank");
	clear_environment();
	aws_credentials_free(provider);
	ok(!aws_key_is_valid("\xc3\xa9", 10, &why) && aws_key_is_valid("a/b+c=", 10, &why), "other characters");
}

/* Which credentials a client that is shared was made with. */
static void
identity(void)
{
	AwsCredentialsProvider *provider = aws_static_credentials("id", SECRET, NULL);
	AwsCredentialsProvider *ambient = aws_default_credentials();
	AwsCredentials same = {"id", SECRET, ""};
	AwsCredentials token = {"id", SECRET, "t"};
	AwsCredentials other = {"id", "other", NULL};
	AwsCredentials none = {NULL, NULL, NULL};

	ok(aws_credentials_are(provider, &same), "the same keys");
	ok(!aws_credentials_are(provider, &token) && !aws_credentials_are(provider, &other) &&
	   !aws_credentials_are(provider, &none) && !aws_credentials_are(NULL, &none), "others");
	ok(aws_credentials_are(ambient, &none) && !aws_credentials_are(ambient, &same), "the environment's");
	aws_credentials_free(provider);
	aws_credentials_free(ambient);
}

void
test_credentials(void)
{
	static_keys();
	environment();
	limits();
	identity();
}
