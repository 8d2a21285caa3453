/*-------------------------------------------------------------------------
 *
 * endpoint.c
 *	  Regions, endpoints and queue URLs: which are valid, and which host to
 *	  call.
 *
 * Messages and signatures are sent only where TLS protects them: plain http is
 * accepted only for loopback hosts, unless the caller allows it.  The
 * partitions are those of the AWS endpoint rules (partitions.json of the SDKs,
 * 2026).
 *
 * URLs are not parsed by libcurl's curl_url(): what that accepts varies with
 * its version, and is always more than what is wanted here (user names,
 * fragments, percent-encoded and international host names).  Also, users'
 * sessions check URLs without libcurl being initialized.  What is accepted here
 * libcurl must understand the same way, hence the small set of characters.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include <ctype.h>

#include "aws/endpoint.h"

/* The partitions by prefix of the region; the first that fits counts. */
static const AwsPartition partitions[] =
{
	{"aws-cn", "cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"},
	{"aws-us-gov", "us-gov-", "amazonaws.com", "api.aws"},
	{"aws-iso-b", "us-isob-", "sc2s.sgov.gov", "api.aws.scloud"},
	{"aws-iso-f", "us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"},
	{"aws-iso", "us-iso-", "c2s.ic.gov", "api.aws.ic.gov"},
	{"aws-iso-e", "eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"},
	{"aws-eusc", "eusc-", "amazonaws.eu", "api.amazonwebservices.eu"},
	{"aws", "", "amazonaws.com", "api.aws"}
};

/*
 * The form of a host name's label.  AWS's regions have up to 16 characters;
 * other implementations of SQS have regions of their own.
 */
bool
aws_region_is_valid(const char *region, const char **why)
{
	size_t		len = strlen(region);

	*why = "must be 1 to 32 lowercase letters, digits and hyphens, such as us-east-1";
	if (len < 1 || len > 32 || region[0] == '-' || region[len - 1] == '-')
		return false;
	return strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static bool
is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* CreateQueue in the SQS API reference: up to 80 characters with the suffix. */
bool
sqs_queue_name_is_valid(const char *name, const char **why)
{
	size_t		len = strlen(name);
	size_t		base = len;

	*why = "must be 1 to 80 letters, digits, hyphens and underscores, with .fifo at the end for a FIFO queue";
	if (len < 1 || len > 80)
		return false;
	if (len > 5 && strcmp(name + len - 5, ".fifo") == 0)
		base = len - 5;
	for (size_t i = 0; i < base; i++)
		if (!is_name_char(name[i]))
			return false;
	return true;
}

/*
 * Is this surely a loopback host, as AwsUrl has it?  For these TLS is not
 * needed, so other spellings of an address (127.1, 0x7f000001, [0::1]) are not
 * recognized.
 */
bool
aws_host_is_loopback(const char *host)
{
	size_t		len = strlen(host);
	const char *p = host;

	if (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
		return true;
	if (len > 10 && strcmp(host + len - 10, ".localhost") == 0)
		return true;
	/* 127.0.0.0/8, in full; 127.0.0.1.example.com is a name */
	if (strncmp(host, "127.", 4) != 0)
		return false;
	for (int i = 0; i < 4; i++)
	{
		int			value = 0;
		int			digits = 0;

		for (; *p >= '0' && *p <= '9' && digits < 4; p++, digits++)
			value = value * 10 + (*p - '0');
		if (digits < 1 || digits > 3 || value > 255)
			return false;
		if (*p != (i < 3 ? '.' : '\0'))
			return false;
		p++;
	}
	return true;
}

/*
 * A host of letters, digits, hyphens, periods and underscores, or an IPv6
 * address in brackets; 255 characters at most.  *why is set in any case.
 */
bool
aws_url_parse(const char *url, AwsUrl *parsed, const char **why)
{
	const char *p;
	size_t		len;

	memset(parsed, 0, sizeof(*parsed));
	*why = "must be a URL that begins with https://";
	if (pg_strncasecmp(url, "https://", 8) == 0)
	{
		parsed->https = true;
		p = url + 8;
	}
	else if (pg_strncasecmp(url, "http://", 7) == 0)
		p = url + 7;
	else
		return false;

	*why = "must be a URL without user name, query, fragment, blanks or control characters";
	for (const char *c = url; *c != '\0'; c++)
		if ((unsigned char) *c <= 0x20 || (unsigned char) *c >= 0x7f ||
			strchr("@?#\\\"<>^`{|}", *c) != NULL)
			return false;

	*why = "must have a valid host name";
	if (*p == '[')
	{
		len = strspn(p + 1, "0123456789abcdefABCDEF:.");
		if (len < 2 || p[1 + len] != ']')
			return false;
		len += 2;
	}
	else
		len = strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._");
	if (len < 1 || len >= sizeof(parsed->host) || *p == '.' || *p == '-')
		return false;
	for (size_t i = 0; i < len; i++)
		parsed->host[i] = pg_ascii_tolower((unsigned char) p[i]);
	p += len;

	if (*p == ':')
	{
		long		port = 0;
		int			digits = 0;

		*why = "must have a port from 1 to 65535";
		for (p++; *p >= '0' && *p <= '9' && digits < 6; p++, digits++)
			port = port * 10 + (*p - '0');
		if (port < 1 || port > 65535)
			return false;
		parsed->port = (int) port;
	}
	*why = "must have a path that begins with a slash, or none";
	if (*p != '\0' && *p != '/')
		return false;
	parsed->path = p;
	return true;
}

/* Is the scheme acceptable?  Leaves *why alone if it is. */
static bool
check_http(const AwsUrl *url, bool allow_http, const char **why)
{
	if (url->https || allow_http || aws_host_is_loopback(url->host))
		return true;
	*why = "must use https, unless the host is a loopback address or the server has allow_http 'true'";
	return false;
}

bool
aws_endpoint_is_valid(const char *url, bool allow_http, const char **why)
{
	AwsUrl		parsed;

	if (!aws_url_parse(url, &parsed, why))
		return false;
	if (strcmp(parsed.path, "") != 0 && strcmp(parsed.path, "/") != 0)
	{
		*why = "must not have a path";
		return false;
	}
	return check_http(&parsed, allow_http, why);
}

/*
 * An account and a name at least; emulators put more in front of them.  The
 * URL goes into requests as text, and is not what is called.
 */
bool
sqs_queue_url_is_valid(const char *url, bool allow_http, const char **why)
{
	AwsUrl		parsed;
	const char *name;
	const char *ignored;

	if (!aws_url_parse(url, &parsed, why))
		return false;
	name = strrchr(parsed.path, '/');
	if (name == NULL || name <= parsed.path + 1 || name[-1] == '/' ||
		!sqs_queue_name_is_valid(name + 1, &ignored) || strlen(url) > 1024)
	{
		*why = "must be a queue URL: https://host/account/name";
		return false;
	}
	return check_http(&parsed, allow_http, why);
}

bool
sqs_queue_is_arn(const char *text)
{
	return pg_strncasecmp(text, "arn:", 4) == 0;
}

bool
sqs_queue_arn_parse(const char *text, SqsQueueArn *arn, const char **why)
{
	const char *part[6];		/* arn, partition, sqs, region, account, name */
	size_t		len[6];
	const char *ignored;

	memset(arn, 0, sizeof(*arn));
	*why = "must be the ARN of a queue, such as arn:aws:sqs:us-east-1:123456789012:name";
	for (int i = 0; i < 6; i++)
	{
		part[i] = i == 0 ? text : part[i - 1] + len[i - 1] + 1;
		len[i] = strcspn(part[i], ":");
		if (part[i][len[i]] != (i < 5 ? ':' : '\0'))
			return false;
	}
	if (strncmp(text, "arn:", 4) != 0 || len[2] != 3 || strncmp(part[2], "sqs", 3) != 0 ||
		len[3] >= sizeof(arn->region) || len[4] != sizeof(arn->account) - 1 ||
		strspn(part[4], "0123456789") != len[4] || !sqs_queue_name_is_valid(part[5], &ignored))
		return false;
	memcpy(arn->region, part[3], len[3]);
	memcpy(arn->account, part[4], len[4]);
	arn->name = part[5];
	if (!aws_region_is_valid(arn->region, &ignored))
		return false;
	if (strlen(aws_partition_of_region(arn->region)->name) == len[1] &&
		strncmp(aws_partition_of_region(arn->region)->name, part[1], len[1]) == 0)
		return true;
	*why = "must be an ARN of the partition that its region belongs to, which is aws for most regions";
	return false;
}

void
aws_url_host_header(const AwsUrl *url, char *buf, size_t size)
{
	if (url->port == 0 || url->port == (url->https ? 443 : 80))
		snprintf(buf, size, "%s", url->host);
	else
		snprintf(buf, size, "%s:%d", url->host, url->port);
}

const AwsPartition *
aws_partition_of_region(const char *region)
{
	const AwsPartition *partition = partitions;

	/* the last one fits every region */
	while (strncmp(region, partition->prefix, strlen(partition->prefix)) != 0)
		partition++;
	return partition;
}

/*
 * As in the endpoint rules of the SDKs, which are the same for SQS and STS.  In
 * GovCloud the usual endpoints are FIPS endpoints.
 */
bool
aws_service_endpoint(const char *service, const char *region, bool fips,
					 bool dualstack, char *buf, size_t size)
{
	const AwsPartition *partition;
	const char *why;

	if (!aws_region_is_valid(region, &why))
		return false;
	partition = aws_partition_of_region(region);
	if (!dualstack && strcmp(partition->name, "aws-us-gov") == 0)
		fips = false;
	return snprintf(buf, size, "https://%s%s.%s.%s", service, fips ? "-fips" : "",
					region, dualstack ? partition->dualstack_suffix : partition->suffix) < (int) size;
}

/* Copy the label at p, if a region can be called that and a label follows. */
static bool
region_label(const char *p, char *buf, size_t size)
{
	size_t		len = strcspn(p, ".");
	const char *why;

	if (len == 0 || len >= size || p[len] != '.')
		return false;
	memcpy(buf, p, len);
	buf[len] = '\0';
	/* such as eu-west-1: at least two hyphens, and a digit at the end */
	return aws_region_is_valid(buf, &why) && strchr(buf, '-') != NULL &&
		strchr(strchr(buf, '-') + 1, '-') != NULL &&
		isdigit((unsigned char) buf[len - 1]);
}

bool
aws_region_of_host(const char *host, char *buf, size_t size)
{
	static const char *const services[] = {".sqs.", ".sqs-fips.", ".sts.", ".sts-fips."};
	const char *p;

	/* legacy: queue.amazonaws.com is us-east-1's, and so is STS's global host */
	if (strcmp(host, "queue.amazonaws.com") == 0 || strcmp(host, "sts.amazonaws.com") == 0)
	{
		strlcpy(buf, "us-east-1", size);
		return true;
	}
	for (size_t i = 0; i < lengthof(services); i++)
	{
		if (strncmp(host, services[i] + 1, strlen(services[i] + 1)) == 0)
			return region_label(host + strlen(services[i] + 1), buf, size);
		/* VPC endpoints: vpce-....sqs.{region}.vpce.amazonaws.com */
		if ((p = strstr(host, services[i])) != NULL)
			return region_label(p + strlen(services[i]), buf, size);
	}
	/* legacy: {region}.queue.amazonaws.com */
	if ((p = strstr(host, ".queue.amazonaws.")) != NULL)
		return region_label(host, buf, size);
	return false;
}

bool
aws_region_of_server(const char *region, const char *endpoint, char *buf, size_t size)
{
	AwsUrl		url;
	const char *why;

	if (endpoint != NULL && aws_url_parse(endpoint, &url, &why) &&
		aws_region_of_host(url.host, buf, size))
		return true;
	return region != NULL && strlcpy(buf, region, size) < size;
}

/*
 * A URL is not what is called, so that this is about mistakes, not about where
 * messages could go.  All names of this machine are one host.
 */
bool
sqs_queue_url_fits(const char *url, const char *region, const char *endpoint)
{
	AwsUrl		queue;
	AwsUrl		server;
	const char *why;
	char		queue_region[33];
	char		server_region[33];

	if (!aws_url_parse(url, &queue, &why))
		return false;
	if (endpoint != NULL && aws_url_parse(endpoint, &server, &why) &&
		(queue.port != 0 ? queue.port : queue.https ? 443 : 80) ==
		(server.port != 0 ? server.port : server.https ? 443 : 80) &&
		(strcmp(queue.host, server.host) == 0 ||
		 (aws_host_is_loopback(queue.host) && aws_host_is_loopback(server.host))))
		return true;
	if (endpoint == NULL && region == NULL)
		return true;
	return aws_region_of_host(queue.host, queue_region, sizeof(queue_region)) &&
		aws_region_of_server(region, endpoint, server_region, sizeof(server_region)) &&
		strcmp(queue_region, server_region) == 0;
}
