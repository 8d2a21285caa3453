/*-------------------------------------------------------------------------
 *
 * test_endpoint.c
 *	  Which regions, endpoints, names and queue URLs are accepted.
 *
 * What matters most: credentials and messages go over plain http to this
 * machine only, however a URL is spelled.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include "aws/endpoint.h"
#include "tap.h"

static void
regions(void)
{
	static const char *const good[] = {
		"us-east-1", "eu-central-2", "cn-north-1", "us-gov-west-1", "eusc-de-east-1",
		"us-iso-east-1", "local", "a", "12345678901234567890123456789012"
	};
	static const char *const bad[] = {
		"", "US-EAST-1", "us east 1", "us_east_1", "-us", "us-", "us.east",
		"us-east-1/", "us-east-1\n", "\xc3\xa9", "123456789012345678901234567890123"
	};
	static const struct
	{
		const char *region;
		const char *url;
	}			urls[] =
	{
		{"us-east-1", "https://sqs.us-east-1.amazonaws.com"},
		{"mx-central-1", "https://sqs.mx-central-1.amazonaws.com"},
		{"cn-northwest-1", "https://sqs.cn-northwest-1.amazonaws.com.cn"},
		{"us-gov-west-1", "https://sqs.us-gov-west-1.amazonaws.com"},
		{"eusc-de-east-1", "https://sqs.eusc-de-east-1.amazonaws.eu"},
		{"us-iso-east-1", "https://sqs.us-iso-east-1.c2s.ic.gov"},
		{"us-isob-east-1", "https://sqs.us-isob-east-1.sc2s.sgov.gov"},
		{"us-isof-south-1", "https://sqs.us-isof-south-1.csp.hci.ic.gov"},
		{"eu-isoe-west-1", "https://sqs.eu-isoe-west-1.cloud.adc-e.uk"},
	};
	static const struct
	{
		const char *service;
		const char *region;
		bool		fips;
		bool		dualstack;
		const char *url;
	}			varieties[] =
	{
		{"sts", "us-east-1", false, false, "https://sts.us-east-1.amazonaws.com"},
		{"sqs", "us-east-1", true, false, "https://sqs-fips.us-east-1.amazonaws.com"},
		{"sqs", "us-east-1", false, true, "https://sqs.us-east-1.api.aws"},
		{"sqs", "us-east-1", true, true, "https://sqs-fips.us-east-1.api.aws"},
		{"sts", "us-east-1", true, false, "https://sts-fips.us-east-1.amazonaws.com"},
		{"sqs", "us-gov-west-1", true, false, "https://sqs.us-gov-west-1.amazonaws.com"},
		{"sts", "us-gov-west-1", true, true, "https://sts-fips.us-gov-west-1.api.aws"},
		{"sts", "cn-north-1", false, false, "https://sts.cn-north-1.amazonaws.com.cn"},
		{"sqs", "cn-north-1", false, true, "https://sqs.cn-north-1.api.amazonwebservices.com.cn"},
		{"sqs", "us-iso-east-1", false, true, "https://sqs.us-iso-east-1.api.aws.ic.gov"},
		{"sqs", "us-isob-east-1", true, true, "https://sqs-fips.us-isob-east-1.api.aws.scloud"},
		{"sqs", "us-isof-south-1", false, true, "https://sqs.us-isof-south-1.api.aws.hci.ic.gov"},
		{"sqs", "eu-isoe-west-1", false, true, "https://sqs.eu-isoe-west-1.api.cloud-aws.adc-e.uk"},
		{"sqs", "eusc-de-east-1", false, true, "https://sqs.eusc-de-east-1.api.amazonwebservices.eu"},
	};
	static const struct
	{
		const char *host;
		const char *region;		/* NULL: not to be told */
	}			hosts[] =
	{
		{"sqs.us-east-1.amazonaws.com", "us-east-1"},
		{"sqs.cn-north-1.amazonaws.com.cn", "cn-north-1"},
		{"sqs.us-gov-west-1.amazonaws.com", "us-gov-west-1"},
		{"sqs.eu-west-1.api.aws", "eu-west-1"},
		{"sqs-fips.us-west-2.amazonaws.com", "us-west-2"},
		{"queue.amazonaws.com", "us-east-1"},
		{"eu-west-1.queue.amazonaws.com", "eu-west-1"},
		{"cn-north-1.queue.amazonaws.com.cn", "cn-north-1"},
		{"vpce-0a1b-2c3d.sqs.eu-north-1.vpce.amazonaws.com", "eu-north-1"},
		{"sqs.us-east-1.localhost", "us-east-1"},
		{"vpce-0a1b-2c3d.sqs-fips.us-east-2.vpce.amazonaws.com", "us-east-2"},
		{"sts.eu-west-1.amazonaws.com", "eu-west-1"},
		{"sts-fips.us-west-1.amazonaws.com", "us-west-1"},
		{"sts.amazonaws.com", "us-east-1"},
		{"vpce-0a1b-2c3d.sts.eu-north-1.vpce.amazonaws.com", "eu-north-1"},
		{"localhost", NULL},
		{"127.0.0.1", NULL},
		{"[::1]", NULL},
		{"", NULL},
		{"sqs.", NULL},
		{"sqs..amazonaws.com", NULL},
		{"sqs.us-east-1", NULL},
		{"sqs.amazonaws.com", NULL},
		{"sqs.internal.example.com", NULL},
		{"sqs.my-host.example.com", NULL},
		{"sqs.us-east-x.amazonaws.com", NULL},
		{"sqs.-us-east-1.amazonaws.com", NULL},
		{"elasticmq.example.com", NULL},
		{".queue.amazonaws.com", NULL},
		{"sqs.abcdefghijklmnopqrstuvwxyz-abcdefghijklmn-1.amazonaws.com", NULL},
	};
	const char *why;
	char		buf[300];
	char		region[33];

	for (size_t i = 0; i < lengthof(good); i++)
		ok(aws_region_is_valid(good[i], &why), "region %s", good[i]);
	for (size_t i = 0; i < lengthof(bad); i++)
	{
		ok(!aws_region_is_valid(bad[i], &why) && strncmp(why, "must ", 5) == 0,
		   "bad region %zu", i);
		ok(!aws_service_endpoint("sqs", bad[i], false, false, buf, sizeof(buf)), "which has no endpoint");
	}
	for (size_t i = 0; i < lengthof(urls); i++)
	{
		ok(aws_service_endpoint("sqs", urls[i].region, false, false, buf, sizeof(buf)) && strcmp(buf, urls[i].url) == 0,
		   "endpoint of %s", urls[i].region);
		ok(aws_endpoint_is_valid(buf, false, &why), "which is valid");
		ok(aws_region_of_host(buf + strlen("https://"), region, sizeof(region)) &&
		   strcmp(region, urls[i].region) == 0, "and tells its region");
	}
	ok(!aws_service_endpoint("sqs", "us-east-1", false, false, buf, 20), "a small buffer is an error");
	for (size_t i = 0; i < lengthof(varieties); i++)
	{
		ok(aws_service_endpoint(varieties[i].service, varieties[i].region, varieties[i].fips,
								varieties[i].dualstack, buf, sizeof(buf)) &&
		   strcmp(buf, varieties[i].url) == 0, "%s", varieties[i].url);
		ok(aws_region_of_host(buf + strlen("https://"), region, sizeof(region)) &&
		   strcmp(region, varieties[i].region) == 0, "and its region");
	}
	for (size_t i = 0; i < lengthof(hosts); i++)
	{
		bool		found = aws_region_of_host(hosts[i].host, region, sizeof(region));

		is(found ? region : NULL, hosts[i].region, "region of host \"%s\"", hosts[i].host);
	}
}

static void
names(void)
{
	static const char *const good[] = {
		"q", "Orders_2025-01", "0", "-", "orders.fifo", "_.fifo"
	};
	static const char *const bad[] = {
		"", ".fifo", "a.b", "a.fifo.fifo", "a b", "a/b", "a.FIFO", "fifo.", "\xc3\xa9", "a\n"
	};
	char		name[82];
	const char *why;

	for (size_t i = 0; i < lengthof(good); i++)
		ok(sqs_queue_name_is_valid(good[i], &why), "queue name %s", good[i]);
	for (size_t i = 0; i < lengthof(bad); i++)
		ok(!sqs_queue_name_is_valid(bad[i], &why) && strncmp(why, "must ", 5) == 0,
		   "bad queue name %zu", i);
	memset(name, 'q', 81);
	name[81] = '\0';
	ok(!sqs_queue_name_is_valid(name, &why), "81 characters");
	name[80] = '\0';
	ok(sqs_queue_name_is_valid(name, &why), "80 characters");
	strcpy(name + 75, ".fifo");
	ok(sqs_queue_name_is_valid(name, &why), "80 characters with the suffix");
}

static void
arns(void)
{
	static const struct
	{
		const char *arn;
		const char *region;
		const char *account;
		const char *name;
	}			good[] =
	{
		{"arn:aws:sqs:us-east-1:123456789012:q", "us-east-1", "123456789012", "q"},
		{"arn:aws-cn:sqs:cn-north-1:123456789012:q.fifo", "cn-north-1", "123456789012", "q.fifo"},
		{"arn:aws-us-gov:sqs:us-gov-west-1:123456789012:a-b_c", "us-gov-west-1", "123456789012", "a-b_c"},
		{"arn:aws-iso-b:sqs:us-isob-east-1:123456789012:q", "us-isob-east-1", "123456789012", "q"},
		{"arn:aws:sqs:elasticmq:000000000000:q", "elasticmq", "000000000000", "q"},
	};
	static const char *const bad[] = {
		"", "q", "arn:", "arn:aws:sqs:us-east-1:123456789012", "arn:aws:sqs:us-east-1:123456789012:",
		"arn:aws:sqs:us-east-1:123456789012:q:x", "arn:aws:sqs:us-east-1:123456789012:q/x",
		"arn:aws:sqs:us-east-1:12345678901:q", "arn:aws:sqs:us-east-1:1234567890123:q",
		"arn:aws:sqs:us-east-1:12345678901x:q", "arn:aws:sqs:us-east-1::q", "arn:aws:sqs::123456789012:q",
		"arn:aws:sqs:US-EAST-1:123456789012:q", "arn:aws:sns:us-east-1:123456789012:q",
		"arn:aws:sqsx:us-east-1:123456789012:q", "ARN:aws:sqs:us-east-1:123456789012:q",
		"arn:aws:sqs:us-east-1/x:123456789012:q", "arn:aws:sqs:123456789012345678901234567890123:123456789012:q",
		"arn:aws:sqs:cn-north-1:123456789012:q", "arn:aws-cn:sqs:us-east-1:123456789012:q",
		"arn::sqs:us-east-1:123456789012:q", "arn:aws-us-gov:sqs:us-east-1:123456789012:q",
		"arn:aws:sqs:us-east-1:123456789012:q\n", " arn:aws:sqs:us-east-1:123456789012:q",
		"https://sqs.us-east-1.amazonaws.com/123456789012/q",
	};
	SqsQueueArn arn;
	const char *why;

	for (size_t i = 0; i < lengthof(good); i++)
	{
		ok(sqs_queue_is_arn(good[i].arn) && sqs_queue_arn_parse(good[i].arn, &arn, &why), "%s", good[i].arn);
		ok(strcmp(arn.region, good[i].region) == 0 && strcmp(arn.account, good[i].account) == 0 &&
		   strcmp(arn.name, good[i].name) == 0, "and its parts");
	}
	for (size_t i = 0; i < lengthof(bad); i++)
		ok(!sqs_queue_arn_parse(bad[i], &arn, &why) && strncmp(why, "must ", 5) == 0, "bad ARN %zu", i);
	ok(sqs_queue_is_arn("ARN:x") && !sqs_queue_is_arn("arn") && !sqs_queue_is_arn("q"), "what wants to be one");
}

/* Which queue URLs belong to a server. */
static void
fitting(void)
{
	static const struct
	{
		const char *url;
		const char *region;
		const char *endpoint;
		bool		fits;
	}			cases[] =
	{
		{"https://sqs.us-east-1.amazonaws.com/123456789012/q", "us-east-1", NULL, true},
		{"https://us-east-1.queue.amazonaws.com/123456789012/q", "us-east-1", NULL, true},
		{"https://queue.amazonaws.com/123456789012/q", "us-east-1", NULL, true},
		{"https://sqs.us-east-1.api.aws/123456789012/q", "us-east-1", NULL, true},
		{"https://sqs.us-east-1.amazonaws.com/123456789012/q", "us-east-2", NULL, false},
		{"https://sqs.us-east-1.amazonaws.com/123456789012/q", NULL, NULL, true},
		{"https://example.com/123456789012/q", "us-east-1", NULL, false},
		{"https://example.com/123456789012/q", NULL, NULL, true},
		{"https://sqs.us-east-1.amazonaws.com/1/q", NULL, "https://vpce-1.sqs.us-east-1.vpce.amazonaws.com", true},
		{"https://sqs.us-east-1.amazonaws.com/1/q", "us-east-1", "https://vpce-1.sqs.us-east-2.vpce.amazonaws.com", false},
		{"https://sqs.us-east-1.amazonaws.com/1/q", "us-east-1", "https://proxy.example.com", true},
		{"https://sqs.us-east-1.amazonaws.com/1/q", "us-east-2", "https://proxy.example.com", false},
		{"https://sqs.us-east-1.amazonaws.com/1/q", NULL, "https://proxy.example.com", false},
		{"https://proxy.example.com/1/q", "us-east-2", "https://proxy.example.com", true},
		{"https://PROXY.example.com:443/1/q", "us-east-2", "https://proxy.example.com/", true},
		{"https://proxy.example.com:444/1/q", "us-east-2", "https://proxy.example.com", false},
		{"https://other.example.com/1/q", "us-east-2", "https://proxy.example.com", false},
		{"http://127.0.0.1:4566/1/q", "us-east-2", "http://localhost:4566", true},
		{"http://127.0.0.1:4566/1/q", "us-east-2", "http://localhost:4567", false},
		{"http://sqs.us-east-2.localhost.localstack.cloud:4566/1/q", "us-east-2", "http://localhost:4566", true},
		{"q", "us-east-2", "http://localhost:4566", false},
	};

	for (size_t i = 0; i < lengthof(cases); i++)
		is_int(sqs_queue_url_fits(cases[i].url, cases[i].region, cases[i].endpoint), cases[i].fits,
			   "%s at %s %s", cases[i].url, cases[i].region ? cases[i].region : "-",
			   cases[i].endpoint ? cases[i].endpoint : "-");
}

static void
parsing(void)
{
	static const struct
	{
		const char *url;
		bool		https;
		const char *host;
		int			port;
		const char *path;
		const char *header;
	}			good[] =
	{
		{"https://sqs.us-east-1.amazonaws.com", true, "sqs.us-east-1.amazonaws.com", 0, "", "sqs.us-east-1.amazonaws.com"},
		{"HTTPS://SQS.Example.COM/", true, "sqs.example.com", 0, "/", "sqs.example.com"},
		{"https://h:443/a/b", true, "h", 443, "/a/b", "h"},
		{"https://h:80", true, "h", 80, "", "h:80"},
		{"http://h:80", false, "h", 80, "", "h"},
		{"http://h:443", false, "h", 443, "", "h:443"},
		{"http://127.0.0.1:4566/x", false, "127.0.0.1", 4566, "/x", "127.0.0.1:4566"},
		{"http://[::1]:9324", false, "[::1]", 9324, "", "[::1]:9324"},
		{"https://[2001:DB8::1]", true, "[2001:db8::1]", 0, "", "[2001:db8::1]"},
		{"https://h:65535", true, "h", 65535, "", "h:65535"},
		{"https://my_host", true, "my_host", 0, "", "my_host"},
	};
	static const char *const bad[] = {
		"", "h", "https:", "https://", "https:///a", "//h", "ftp://h", "file:///etc/passwd",
		"https:/h", " https://h", "https://h ", "https://h\n", "https://h/\r\nX: y",
		"https://user@h", "https://user:pw@h", "http://127.0.0.1@evil.com", "https://h?x=1",
		"https://h/#f", "https://h\\@evil.com", "https://h:", "https://h:0", "https://h:65536",
		"https://h:99999999999", "https://h:-1", "https://h:80x", "https://h:8 0",
		"https://.h", "https://-h", "https://h%41", "https://h,i", "https://[::1",
		"https://[]", "https://[x]", "https://[::1]x", "https://[fe80::1%25eth0]",
		"https://h\x7f", "https://h\xc3\xa9", "https://\xd0\xb5vil.com", "https://:443",
	};
	char		url[400];
	char		buf[300];
	AwsUrl		parsed;
	const char *why;

	for (size_t i = 0; i < lengthof(good); i++)
	{
		if (!ok(aws_url_parse(good[i].url, &parsed, &why), "URL %s", good[i].url))
			continue;
		ok(parsed.https == good[i].https && parsed.port == good[i].port &&
		   strcmp(parsed.host, good[i].host) == 0 && strcmp(parsed.path, good[i].path) == 0,
		   "and its parts");
		aws_url_host_header(&parsed, buf, sizeof(buf));
		is(buf, good[i].header, "and its Host header");
	}
	for (size_t i = 0; i < lengthof(bad); i++)
		ok(!aws_url_parse(bad[i], &parsed, &why) && strncmp(why, "must ", 5) == 0,
		   "bad URL %zu", i);

	memset(url, 'h', sizeof(url));
	memcpy(url, "https://", 8);
	url[8 + 256] = '\0';
	ok(!aws_url_parse(url, &parsed, &why), "a host of 256 bytes");
	url[8 + 255] = '\0';
	ok(aws_url_parse(url, &parsed, &why), "a host of 255 bytes");
}

static void
plain_http(void)
{
	static const char *const loopback[] = {
		"localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "127.255.255.255", "[::1]",
		"sqs.us-east-1.localhost"
	};
	static const char *const elsewhere[] = {
		"127.evil.com", "127.0.0.1.evil.com", "localhost.evil.com", "evil-localhost",
		"evillocalhost", "localhost.", "127.0.0.1.", "127.0.0", "127.1", "127", "1127.0.0.1",
		"128.0.0.1", "127.0.0.256", "127.0.0.999", "127.0.0.1000", "127.0.0.1x", "0.0.0.0",
		"10.0.0.1", "169.254.169.254", "[::]", "[::2]", "[::ffff:127.0.0.1]", "2130706433",
		"0x7f.0.0.1", "sqs.us-east-1.amazonaws.com", "127_0_0_1", "127..0.0.1",
	};
	static const char *const with_user[] = {
		"user@localhost", "user@127.0.0.1", "127.0.0.1@evil.com", "localhost:80@evil.com",
		"localhost#@evil.com", "localhost?@evil.com", "localhost\\@evil.com"
	};
	char		url[400];
	const char *why;

	for (size_t i = 0; i < lengthof(loopback); i++)
	{
		snprintf(url, sizeof(url), "http://%s:4566", loopback[i]);
		ok(aws_endpoint_is_valid(url, false, &why), "endpoint %s", url);
		snprintf(url, sizeof(url), "http://%s:4566/000000000000/q", loopback[i]);
		ok(sqs_queue_url_is_valid(url, false, &why), "queue URL %s", url);
	}
	for (size_t i = 0; i < lengthof(elsewhere); i++)
	{
		snprintf(url, sizeof(url), "http://%s", elsewhere[i]);
		ok(!aws_endpoint_is_valid(url, false, &why) && strncmp(why, "must ", 5) == 0,
		   "refused: endpoint %s", url);
		ok(aws_endpoint_is_valid(url, true, &why), "unless http is allowed");
		snprintf(url, sizeof(url), "http://%s/000000000000/q", elsewhere[i]);
		ok(!sqs_queue_url_is_valid(url, false, &why), "refused: queue URL %s", url);
		snprintf(url, sizeof(url), "https://%s/000000000000/q", elsewhere[i]);
		ok(sqs_queue_url_is_valid(url, false, &why), "accepted with https");
	}
	for (size_t i = 0; i < lengthof(with_user); i++)
	{
		snprintf(url, sizeof(url), "http://%s", with_user[i]);
		ok(!aws_endpoint_is_valid(url, true, &why), "refused in any case: %s", url);
		snprintf(url, sizeof(url), "https://%s/000000000000/q", with_user[i]);
		ok(!sqs_queue_url_is_valid(url, true, &why), "refused in any case: %s", url);
	}

	/* names, not addresses: a resolver may send them anywhere */
	ok(!aws_host_is_loopback("127.-0.0.1"), "a label with a hyphen is no number");
	ok(!aws_endpoint_is_valid("http://127.0.-0.1", false, &why), "nor in an endpoint");
	ok(!aws_host_is_loopback("127.-1.0.1"), "nor is a negative one");
	ok(!aws_host_is_loopback(""), "nothing is no loopback host");
}

static void
queue_urls(void)
{
	static const char *const good[] = {
		"https://sqs.us-east-1.amazonaws.com/123456789012/orders",
		"https://sqs.us-east-1.amazonaws.com/123456789012/orders.fifo",
		"https://queue.amazonaws.com/123456789012/q",
		"https://vpce-1.sqs.eu-west-1.vpce.amazonaws.com/123456789012/q",
	};
	static const char *const bad[] = {
		"https://sqs.us-east-1.amazonaws.com", "https://sqs.us-east-1.amazonaws.com/",
		"https://sqs.us-east-1.amazonaws.com/123456789012",
		"https://sqs.us-east-1.amazonaws.com/123456789012/",
		"https://sqs.us-east-1.amazonaws.com/123456789012/a.b",
		"https://sqs.us-east-1.amazonaws.com/123456789012/q?x", "q",
		"arn:aws:sqs:us-east-1:123456789012:q",
	};
	char	   *url = malloc(2000);
	const char *why;

	for (size_t i = 0; i < lengthof(good); i++)
		ok(sqs_queue_url_is_valid(good[i], false, &why), "queue URL %s", good[i]);
	for (size_t i = 0; i < lengthof(bad); i++)
		ok(!sqs_queue_url_is_valid(bad[i], false, &why) && strncmp(why, "must ", 5) == 0,
		   "bad queue URL %s", bad[i]);
	memset(url, 'a', 2000);
	memcpy(url, "https://h/", 10);
	strcpy(url + 1100, "/q");
	ok(!sqs_queue_url_is_valid(url, false, &why), "a URL beyond 1024 bytes");
	ok(!sqs_queue_url_is_valid("https://h//q", false, &why), "a URL without an account");

	ok(!aws_endpoint_is_valid("https://h/path", false, &why), "an endpoint with a path");
	ok(aws_endpoint_is_valid("https://h/", false, &why), "one with a slash");
	free(url);
}

void
test_endpoint(void)
{
	regions();
	names();
	arns();
	fitting();
	parsing();
	plain_http();
	queue_urls();
}
