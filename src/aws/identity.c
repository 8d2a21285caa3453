/*-------------------------------------------------------------------------
 *
 * identity.c
 *	  A plan for getting keys: copying it, wiping it, comparing it.
 *
 * See resolver.c for how it is made, and fetch.h for how it is carried out.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "aws/identity.h"
#include "aws/secret.h"

bool
aws_identity_uses_sts(const AwsIdentity *identity)
{
	return identity->nroles > 0 || identity->kind == AWS_SOURCE_WEB_IDENTITY;
}

/* Where the strings of an identity are, but those of its roles. */
static const size_t identity_strings[] = {
	offsetof(AwsIdentity, source),
	offsetof(AwsIdentity, access_key_id),
	offsetof(AwsIdentity, secret_access_key),
	offsetof(AwsIdentity, session_token),
	offsetof(AwsIdentity, token_file),
	offsetof(AwsIdentity, role_arn),
	offsetof(AwsIdentity, session_name),
	offsetof(AwsIdentity, command),
	offsetof(AwsIdentity, container_url),
	offsetof(AwsIdentity, container_token),
	offsetof(AwsIdentity, container_token_file),
	offsetof(AwsIdentity, metadata_url),
	offsetof(AwsIdentity, region),
	offsetof(AwsIdentity, endpoint),
	offsetof(AwsIdentity, sts_endpoint),
	offsetof(AwsIdentity, sts_region),
	offsetof(AwsIdentity, ca_file),
};

static const size_t role_strings[] = {
	offsetof(AwsAssumeRole, role_arn),
	offsetof(AwsAssumeRole, external_id),
	offsetof(AwsAssumeRole, session_name),
	offsetof(AwsAssumeRole, where),
};

#define string_at(object, offset)	(*(char **) ((char *) (object) + (offset)))

/* Copy the strings of an object, in place of its pointers. */
static bool
copy_strings(void *object, const size_t *offsets, size_t noffsets)
{
	bool		ok = true;

	for (size_t i = 0; i < noffsets; i++)
	{
		char	  **string = &string_at(object, offsets[i]);

		if (*string == NULL)
			continue;
		*string = strdup(*string);
		ok = ok && *string != NULL;
	}
	return ok;
}

AwsIdentity *
aws_identity_copy(const AwsIdentity *identity)
{
	AwsIdentity *copy = malloc(sizeof(AwsIdentity));
	bool		ok;

	if (copy == NULL)
		return NULL;
	*copy = *identity;
	ok = copy_strings(copy, identity_strings, lengthof(identity_strings));
	for (int i = 0; i < copy->nroles; i++)
		ok = copy_strings(&copy->roles[i], role_strings, lengthof(role_strings)) && ok;
	if (ok)
		return copy;
	aws_identity_free(copy);
	return NULL;
}

void
aws_identity_free(AwsIdentity *identity)
{
	if (identity == NULL)
		return;
	for (size_t i = 0; i < lengthof(identity_strings); i++)
		aws_secret_free(string_at(identity, identity_strings[i]));
	for (int i = 0; i < identity->nroles; i++)
	{
		for (size_t j = 0; j < lengthof(role_strings); j++)
			aws_secret_free(string_at(&identity->roles[i], role_strings[j]));
	}
	free(identity);
}

bool
aws_identity_needs_fetch(const AwsIdentity *identity)
{
	if (identity->nroles > 0 || (identity->region == NULL && identity->metadata_url != NULL))
		return true;
	switch (identity->kind)
	{
		case AWS_SOURCE_STATIC:
		case AWS_SOURCE_ENVIRONMENT:
		case AWS_SOURCE_PROFILE_KEYS:
			return false;
		case AWS_SOURCE_WEB_IDENTITY:
		case AWS_SOURCE_PROCESS:
		case AWS_SOURCE_CONTAINER:
		case AWS_SOURCE_INSTANCE_METADATA:
			break;
	}
	return true;
}

const char *
aws_source_kind_name(AwsSourceKind kind)
{
	switch (kind)
	{
		case AWS_SOURCE_STATIC:
			return "user mapping";
		case AWS_SOURCE_ENVIRONMENT:
			return "environment";
		case AWS_SOURCE_PROFILE_KEYS:
			return "profile";
		case AWS_SOURCE_WEB_IDENTITY:
			return "web identity";
		case AWS_SOURCE_PROCESS:
			return "process";
		case AWS_SOURCE_CONTAINER:
			return "container";
		case AWS_SOURCE_INSTANCE_METADATA:
			return "instance metadata";
	}
	return "invalid";
}

/* ---- canonical text ---- */

/* Text that grows, and leaves no copies behind. */
typedef struct Canonical
{
	char	   *data;
	size_t		len;
	size_t		size;
	bool		failed;
} Canonical;

static void
append(Canonical *text, const char *data, size_t len)
{
	if (text->failed)
		return;
	if (text->len + len > text->size)
	{
		size_t		size = 2 * (text->len + len) + 1024;
		char	   *bigger = malloc(size);

		if (bigger != NULL && text->len > 0)
			memcpy(bigger, text->data, text->len);
		if (text->data != NULL)
			explicit_bzero(text->data, text->len);
		free(text->data);
		text->data = bigger;
		text->size = size;
		text->failed = bigger == NULL;
		if (text->failed)
			return;
	}
	memcpy(text->data + text->len, data, len);
	text->len += len;
}

/* With its length before it, so that no value can look like another field. */
static void
append_field(Canonical *text, const char *value)
{
	char		length[24];

	if (value == NULL)
		strlcpy(length, "-", sizeof(length));
	else
		snprintf(length, sizeof(length), "%zu:", strlen(value));
	append(text, length, strlen(length));
	if (value != NULL)
		append(text, value, strlen(value));
}

static void
append_number(Canonical *text, int64 number)
{
	char		digits[24];

	snprintf(digits, sizeof(digits), INT64_FORMAT, number);
	append_field(text, digits);
}

/*
 * What only people read is not in it, nor where SQS is.  Where STS is only
 * matters if it is asked.
 */
char *
aws_identity_canonical(const AwsIdentity *identity, size_t *len)
{
	Canonical	text = {NULL};
	bool		sts = aws_identity_uses_sts(identity);

	append_number(&text, identity->kind);
	append_field(&text, identity->access_key_id);
	append_field(&text, identity->secret_access_key);
	append_field(&text, identity->session_token);
	append_field(&text, identity->token_file);
	append_field(&text, identity->role_arn);
	append_field(&text, identity->session_name);
	append_number(&text, identity->duration_seconds);
	append_field(&text, identity->command);
	append_field(&text, identity->container_url);
	append_field(&text, identity->container_token);
	append_field(&text, identity->container_token_file);
	append_field(&text, identity->kind == AWS_SOURCE_INSTANCE_METADATA || identity->region == NULL ?
				 identity->metadata_url : NULL);
	append_number(&text, identity->region == NULL); /* is to be fetched, too */
	append_number(&text, identity->nroles);
	for (int i = 0; i < identity->nroles; i++)
	{
		append_field(&text, identity->roles[i].role_arn);
		append_field(&text, identity->roles[i].external_id);
		append_field(&text, identity->roles[i].session_name);
		append_number(&text, identity->roles[i].duration_seconds);
	}
	if (sts)
	{
		append_field(&text, identity->region);
		append_field(&text, identity->sts_endpoint);
		append_field(&text, identity->sts_region);
		append_number(&text, identity->use_fips);
		append_number(&text, identity->use_dualstack);
	}
	append_field(&text, identity->ca_file);

	if (text.failed)
		return NULL;
	*len = text.len;
	return text.data;
}
