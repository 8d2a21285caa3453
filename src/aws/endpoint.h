/*-------------------------------------------------------------------------
 *
 * endpoint.h
 *	  Regions, endpoints and queue URLs: which are valid, and which host to
 *	  call.
 *
 * If one of these with an argument "why" returns false, *why is a constant
 * phrase that begins with "must" and follows the name and value of what was
 * checked.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_ENDPOINT_H
#define AWS_ENDPOINT_H

extern bool aws_region_is_valid(const char *region, const char **why);
extern bool aws_endpoint_is_valid(const char *url, bool allow_http, const char **why);
extern bool sqs_queue_name_is_valid(const char *name, const char **why);
extern bool sqs_queue_url_is_valid(const char *url, bool allow_http, const char **why);

/* The ARN of a queue: arn:partition:sqs:region:account:name */
typedef struct SqsQueueArn
{
	char		region[33];
	char		account[13];
	const char *name;			/* points into the ARN */
} SqsQueueArn;

/* Does the text want to be an ARN?  If so, what does it name? */
extern bool sqs_queue_is_arn(const char *text);
extern bool sqs_queue_arn_parse(const char *text, SqsQueueArn *arn, const char **why);

/*
 * The region that a server's requests go to: that of its endpoint's host if its
 * name tells one, otherwise the given one.  Either may be NULL.  False if it
 * cannot be told.
 */
extern bool aws_region_of_server(const char *region, const char *endpoint,
								 char *buf, size_t size);

/*
 * Is this the URL of a queue at that server?  Its host (and port) must be the
 * endpoint's, or tell the same region.  True if nothing is known of the server.
 */
extern bool sqs_queue_url_fits(const char *url, const char *region,
							   const char *endpoint);

typedef struct AwsUrl
{
	bool		https;
	char		host[256];		/* lower case; IPv6 in brackets */
	int			port;			/* 0: the scheme's own */
	const char *path;			/* points into the URL; "" or begins with "/" */
} AwsUrl;

/* https or http, without user name, query or fragment; see endpoint.c. */
extern bool aws_url_parse(const char *url, AwsUrl *parsed, const char **why);

/* host: as in AwsUrl. */
extern bool aws_host_is_loopback(const char *host);

/* "host" or "host:port", as the Host header has it. */
extern void aws_url_host_header(const AwsUrl *url, char *buf, size_t size);

/* A part of AWS with accounts of its own, and the names of its hosts. */
typedef struct AwsPartition
{
	const char *name;			/* as in ARNs: aws, aws-cn, ... */
	const char *prefix;			/* of its regions */
	const char *suffix;			/* of its hosts */
	const char *dualstack_suffix;
} AwsPartition;

/* The partition of a region; "aws" for an unknown one.  Never NULL. */
extern const AwsPartition *aws_partition_of_region(const char *region);

/*
 * The endpoint of a service, "sqs" or "sts", in a region: for example
 * https://sqs.us-east-1.amazonaws.com.  False if the region is not valid, or the
 * result does not fit.
 */
extern bool aws_service_endpoint(const char *service, const char *region,
								 bool fips, bool dualstack,
								 char *buf, size_t size);

/*
 * The region of a host of SQS or STS, from its name.  False if it cannot be
 * told, or does not fit.
 */
extern bool aws_region_of_host(const char *host, char *buf, size_t size);

#endif							/* AWS_ENDPOINT_H */
