/*-------------------------------------------------------------------------
 *
 * fuzz_url.c
 *	  URLs, hosts, regions and queue names; a URL that is accepted must mean
 *	  the same to libcurl, or the request would go elsewhere than was checked.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include <curl/curl.h>

#include "aws/endpoint.h"

static void
same_to_curl(const char *url, const AwsUrl *parsed)
{
	CURLU	   *handle = curl_url();
	char	   *host = NULL;
	char	   *user = NULL;
	char	   *port = NULL;

	MUST(handle != NULL);

	/* what libcurl refuses goes nowhere */
	if (curl_url_set(handle, CURLUPART_URL, url, 0) == CURLUE_OK)
	{
		MUST(curl_url_get(handle, CURLUPART_USER, &user, 0) == CURLUE_NO_USER);
		MUST(curl_url_get(handle, CURLUPART_HOST, &host, 0) == CURLUE_OK);

		/* addresses it writes in its own way */
		if (host[0] != '[' && strspn(host, "0123456789.xabcdefABCDEF") != strlen(host))
			MUST(pg_strcasecmp(host, parsed->host) == 0);
		else if (aws_host_is_loopback(parsed->host))
			MUST(strncmp(host, "127.", 4) == 0 || strcmp(host, "[::1]") == 0);
		if (parsed->port != 0)
		{
			MUST(curl_url_get(handle, CURLUPART_PORT, &port, 0) == CURLUE_OK);
			MUST(atoi(port) == parsed->port);
		}
	}
	curl_free(host);
	curl_free(user);
	curl_free(port);
	curl_url_cleanup(handle);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *text = malloc(size + 1);
	const char *why = NULL;
	AwsUrl		parsed;
	SqsQueueArn arn;
	char		small[33];
	char		buf[300];

	MUST(text != NULL);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';

	if (aws_url_parse(text, &parsed, &why))
	{
		MUST(parsed.host[0] != '\0' && parsed.port >= 0 && parsed.port <= 65535);
		MUST(parsed.path >= text && parsed.path <= text + strlen(text));
		MUST(parsed.path[0] == '\0' || parsed.path[0] == '/');
		MUST(strpbrk(text, "@?#\\ \r\n") == NULL);
		aws_url_host_header(&parsed, buf, sizeof(buf));
		(void) aws_region_of_host(parsed.host, small, sizeof(small));
		same_to_curl(text, &parsed);
	}
	else
		MUST(why != NULL);

	/* what needs no permission is https or this machine */
	if (aws_endpoint_is_valid(text, false, &why))
		MUST(parsed.https || aws_host_is_loopback(parsed.host));
	if (sqs_queue_url_is_valid(text, false, &why))
		MUST(sqs_queue_url_is_valid(text, true, &why));
	(void) sqs_queue_name_is_valid(text, &why);
	(void) sqs_queue_url_fits(text, "us-east-1", "https://sqs.us-east-1.amazonaws.com");
	if (sqs_queue_arn_parse(text, &arn, &why))
	{
		MUST(sqs_queue_is_arn(text) && aws_region_is_valid(arn.region, &why));
		MUST(sqs_queue_name_is_valid(arn.name, &why) && strlen(arn.account) == 12);
	}
	if (aws_region_is_valid(text, &why))
	{
		MUST(aws_service_endpoint("sqs", text, false, false, buf, sizeof(buf)));
		MUST(aws_endpoint_is_valid(buf, false, &why));
	}
	if (aws_region_of_host(text, small, sizeof(small)))
		MUST(aws_region_is_valid(small, &why));
	free(text);
	return 0;
}
