/*-------------------------------------------------------------------------
 *
 * resolver_hosts.c
 *	  Sources of keys that are services of the host: what may be asked, and where.
 *
 * A container's agent (ECS, EKS) is given by variables, and asked only if it is
 * near, or by TLS, because the request has a token in it.  Instance metadata has
 * a well-known address.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "aws/endpoint.h"
#include "aws/resolver.h"

#define CONTAINER_HOST		"169.254.170.2"
#define METADATA_URL		"http://169.254.169.254"
#define METADATA_URL_IPV6	"http://[fd00:ec2::254]"

/* Where plain http may carry the token of a container, besides loopback. */
static const char *const container_hosts[] = {
	CONTAINER_HOST,				/* ECS */
	"169.254.170.23",			/* EKS Pod Identity */
	"[fd00:ec2::23]"
};

/* What of a URL comes after scheme, host and port may only be such text. */
static bool
is_url_text(const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
		if ((unsigned char) *p <= 0x20 || (unsigned char) *p >= 0x7f ||
			strchr("@#\\\"<>^`{|}", *p) != NULL)
			return false;
	return true;
}

/* The URL may have a query, unlike others. */
static bool
check_container_url(Resolver *r, const char *url)
{
	size_t		len = strcspn(url, "?");
	char	   *base = strndup(url, len);
	const char *why = "must be a URL without user name, fragment, blanks or control characters";
	AwsUrl		parsed;
	bool		ok;

	if (base == NULL)
		return resolver_no_memory(r);
	ok = is_url_text(url + len) && aws_url_parse(base, &parsed, &why);
	free(base);
	if (!ok)
		return resolver_fail(r, "InvalidConfiguration", "AWS_CONTAINER_CREDENTIALS_FULL_URI %s", why);
	if (parsed.https || aws_host_is_loopback(parsed.host))
		return true;
	for (size_t i = 0; i < lengthof(container_hosts); i++)
	{
		if (strcmp(parsed.host, container_hosts[i]) == 0)
			return true;
	}
	return resolver_fail(r, "InvalidConfiguration", "AWS_CONTAINER_CREDENTIALS_FULL_URI must use https, unless its host is a loopback address, %s, %s or %s",
						 container_hosts[0], container_hosts[1], container_hosts[2]);
}

/*
 * Containers of ECS and EKS.  The path of the URL is as good as a password, so
 * only the variable is named in texts.
 */
bool
resolver_use_container(Resolver *r)
{
	AwsIdentity *identity = r->identity;
	const char *relative = resolver_env(r, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full = resolver_env(r, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
	const char *token_file = resolver_env(r, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
	const char *token = resolver_env(r, "AWS_CONTAINER_AUTHORIZATION_TOKEN");

	identity->kind = AWS_SOURCE_CONTAINER;
	if (relative != NULL)
	{
		if (relative[0] != '/' || !is_url_text(relative))
			return resolver_fail(r, "InvalidConfiguration", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI must begin with a slash and contain no blanks");
		(void) resolver_set(r, &identity->container_url, "http://%s%s", CONTAINER_HOST, relative);
	}
	else if (full == NULL)
		return resolver_fail(r, "NoCredentials", "the database server's environment has neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor AWS_CONTAINER_CREDENTIALS_FULL_URI");
	else if (check_container_url(r, full))
		(void) resolver_set_text(r, &identity->container_url, full);

	/* the file is read each time, the variable cannot change */
	if (token_file != NULL)
		(void) resolver_set_text(r, &identity->container_token_file, token_file);
	else if (token != NULL)
	{
		for (const char *p = token; *p != '\0'; p++)
		{
			if ((unsigned char) *p < 0x20 || (unsigned char) *p >= 0x7f)
				return resolver_fail(r, "InvalidConfiguration", "AWS_CONTAINER_AUTHORIZATION_TOKEN must be printable ASCII characters");
		}
		(void) resolver_set_text(r, &identity->container_token, token);
	}
	return !r->failed &&
		resolver_set(r, &identity->source, "container credentials (%s)",
					 relative != NULL ? "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" :
					 "AWS_CONTAINER_CREDENTIALS_FULL_URI");
}

/* Where instance metadata is; leaves the URL NULL if it is not to be asked. */
bool
resolver_find_metadata(Resolver *r)
{
	char	  **url = &r->identity->metadata_url;
	const char *value;
	const char *what = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
	const char *why;
	AwsUrl		parsed;

	if (resolver_flag(r, "AWS_EC2_METADATA_DISABLED", NULL) == 1 || r->failed)
		return !r->failed;

	if ((value = resolver_env(r, what)) == NULL)
	{
		what = "ec2_metadata_service_endpoint";
		value = resolver_get(r, r->profile, what);
	}
	if (value != NULL)
	{
		if (!aws_url_parse(value, &parsed, &why))
			return resolver_fail(r, "InvalidConfiguration", "%s %s", what, why);
		if (!resolver_set_text(r, url, value))
			return false;
		for (size_t len = strlen(*url); len > 0 && (*url)[len - 1] == '/'; len--)
			(*url)[len - 1] = '\0';
		return true;
	}

	what = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE";
	if ((value = resolver_env(r, what)) == NULL)
	{
		what = "ec2_metadata_service_endpoint_mode";
		value = resolver_get(r, r->profile, what);
	}
	if (value == NULL || pg_strcasecmp(value, "IPv4") == 0)
		return !r->failed && resolver_set_text(r, url, METADATA_URL);
	if (pg_strcasecmp(value, "IPv6") == 0)
		return resolver_set_text(r, url, METADATA_URL_IPV6);
	return resolver_fail(r, "InvalidConfiguration", "%s must be IPv4 or IPv6", what);
}

bool
resolver_use_metadata(Resolver *r)
{
	r->identity->kind = AWS_SOURCE_INSTANCE_METADATA;
	if (!resolver_find_metadata(r))
		return false;
	if (r->identity->metadata_url == NULL)
		return resolver_fail(r, "NoCredentials", "instance metadata is not to be used, because AWS_EC2_METADATA_DISABLED is true");
	return resolver_set(r, &r->identity->source, "instance metadata at %s", r->identity->metadata_url);
}
