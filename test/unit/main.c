/*-------------------------------------------------------------------------
 *
 * main.c
 *	  Runs the unit tests, all or those named as arguments.
 *
 * The AWS layer is compiled as frontend code and linked in, so that it can be
 * tested under sanitizers and valgrind, which a server does not allow.  Code
 * that needs little of the server is included by its test, which provides that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <stdarg.h>

#include "tap.h"

static int	ntests = 0;
static int	nfailed = 0;

static bool
report(bool condition, const char *file, int line, const char *fmt, va_list args)
{
	printf("%sok %d - ", condition ? "" : "not ", ++ntests);
	vprintf(fmt, args);
	printf("\n");
	if (!condition)
	{
		printf("# failed at %s:%d\n", file, line);
		nfailed++;
	}
	fflush(stdout);
	return condition;
}

bool
tap_ok(bool condition, const char *file, int line, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	report(condition, file, line, fmt, args);
	va_end(args);
	return condition;
}

bool
tap_is(const char *got, const char *expected, const char *file, int line,
	   const char *fmt,...)
{
	bool		same = (got == NULL) == (expected == NULL) &&
		(got == NULL || strcmp(got, expected) == 0);
	va_list		args;

	va_start(args, fmt);
	report(same, file, line, fmt, args);
	va_end(args);
	if (!same)
		printf("#      got: %s\n# expected: %s\n", got ? got : "(null)",
			   expected ? expected : "(null)");
	return same;
}

bool
tap_is_int(int64 got, int64 expected, const char *file, int line,
		   const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	report(got == expected, file, line, fmt, args);
	va_end(args);
	if (got != expected)
		printf("#      got: %lld\n# expected: %lld\n", (long long) got,
			   (long long) expected);
	return got == expected;
}

void
tap_skip(const char *why, const char *what)
{
	printf("ok %d - %s # SKIP %s\n", ++ntests, what, why);
}

char *
tap_copy(const char *data, size_t len)
{
	char	   *copy = malloc(len > 0 ? len : 1);

	if (copy == NULL)
		exit(2);
	memcpy(copy, data, len);
	return copy;
}

static const struct
{
	const char *name;
	void		(*run) (void);
}			suites[] =
{
	{"sigv4", test_sigv4},
	{"json", test_json},
	{"protocol", test_protocol},
	{"send", test_send},
	{"errors", test_errors},
	{"endpoint", test_endpoint},
	{"ini", test_ini},
	{"profile", test_profile},
	{"identity", test_identity},
	{"credentials", test_credentials},
	{"retry_budget", test_retry_budget},
	{"key_reply", test_key_reply},
	{"sns_signature", test_sns_signature},
	{"fetch", test_fetch},
	{"client", test_client},
	{"client_send", test_client_send},
	{"client_keys", test_client_keys},
	{"connections", test_connections},
	{"tls", test_tls},
	{"proxies", test_proxies},
	{"sender", test_sender},
	{"starts", test_starts},
	{"pace", test_pace},
	{"retry", test_retry},
};

int
main(int argc, char **argv)
{
	for (size_t i = 0; i < lengthof(suites); i++)
	{
		bool		wanted = argc < 2;

		for (int j = 1; j < argc; j++)
			wanted = wanted || strcmp(argv[j], suites[i].name) == 0;
		if (!wanted)
			continue;
		printf("# %s\n", suites[i].name);
		suites[i].run();
	}
	printf("1..%d\n", ntests);
	if (nfailed > 0)
		printf("# %d of %d failed\n", nfailed, ntests);
	return nfailed > 0 ? 1 : 0;
}
