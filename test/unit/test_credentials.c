/*-------------------------------------------------------------------------
 *
 * test_credentials.c
 *	  Keys from a user mapping, and which keys are usable at all.
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
	is(aws_credentials_source(provider), "the user mapping", "their source");
	is_int(got.generation, 0, "they have no generations");
	ok(!aws_credentials_reject(provider, got.generation), "there are no others");
	ok(aws_credentials_peek(provider, &got) && strcmp(got.secret_access_key, SECRET) == 0,
	   "they can be seen without asking for them");
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

	is_int(aws_credentials_get(NULL, &got, &error), AWS_CREDENTIALS_FAILED, "no provider");
	is_int(error.class, AWS_ERROR_RESOURCES, "that is for lack of memory");
	ok(!aws_credentials_peek(NULL, &got) && !aws_credentials_reject(NULL, 1), "nor has it keys");
	aws_credentials_free(NULL);
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

	provider = aws_static_credentials("id", SECRET "\r\nX-Evil: 1", NULL);
	fails_with(provider, "secret access key must be printable", "a secret with a line break");
	aws_credentials_free(provider);
	provider = aws_static_credentials("id", SECRET, "to ken");
	fails_with(provider, "session token must be printable", "a token with a blank");
	aws_credentials_free(provider);
	ok(!aws_key_is_valid("\xc3\xa9", 10, &why) && aws_key_is_valid("a/b+c=", 10, &why), "other characters");
}

/* Which of AWS's answers new keys can help against. */
static void
refusals(void)
{
	ok(aws_keys_were_refused("ExpiredToken") && aws_keys_were_refused("ExpiredTokenException") &&
	   aws_keys_were_refused("InvalidClientTokenId") &&
	   aws_keys_were_refused("UnrecognizedClientException"), "keys that AWS does not know any more");
	ok(!aws_keys_were_refused("SignatureDoesNotMatch") && !aws_keys_were_refused("AccessDenied") &&
	   !aws_keys_were_refused("RequestExpired") && !aws_keys_were_refused(""), "keys that it does know");
}

void
test_credentials(void)
{
	static_keys();
	limits();
	refusals();
}
