/*-------------------------------------------------------------------------
 *
 * endpoint.h
 *	  Regions, endpoints and queue URLs: which are valid, and which host to
 *	  call.
 *
 * The *_is_valid functions return false with a constant phrase in *why that
 * completes "... must ...".
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_ENDPOINT_H
#define AWS_ENDPOINT_H

extern bool aws_region_is_valid(const char *region, const char **why);
extern bool aws_endpoint_is_valid(const char *url, bool allow_http, const char **why);
extern bool sqs_queue_name_is_valid(const char *name, const char **why);
extern bool sqs_queue_url_is_valid(const char *url, bool allow_http, const char **why);

typedef struct AwsUrl
{
	bool		https;
	char		host[256];		/* lower case; IPv6 in brackets */
	int			port;			/* 0: the scheme's own */
	const char *path;			/* points into the URL; "" or begins with / */
} AwsUrl;

/* No user info, query or fragment is accepted. */
extern bool aws_url_parse(const char *url, AwsUrl *parsed, const char **why);
extern bool aws_host_is_loopback(const char *host);

/* "host" or "host:port", as the Host header has it. */
extern void aws_url_host_header(const AwsUrl *url, char *buf, size_t size);

/* https://sqs.{region}.{suffix of its partition} */
extern bool aws_sqs_endpoint(const char *region, char *buf, size_t size);

/* The region that a host of SQS belongs to; false if the name doesn't tell. */
extern bool aws_region_of_host(const char *host, char *buf, size_t size);

#endif							/* AWS_ENDPOINT_H */
