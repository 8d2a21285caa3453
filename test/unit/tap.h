/*-------------------------------------------------------------------------
 *
 * tap.h
 *	  The few lines of TAP that the unit tests need.
 *
 * Why not a test framework: prove reads TAP, PostgreSQL's own tests print
 * it, and a test that needs nothing but a compiler runs everywhere.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TAP_H
#define TAP_H

#if !defined(FRONTEND) && !defined(UNIT_OF_SERVER_CODE)
#error "the unit tests are programs, not server code"
#endif

/* One test; returns the condition, so that what depends on it can be left. */
extern bool tap_ok(bool condition, const char *file, int line,
				   const char *fmt,...) pg_attribute_printf(4, 5);
extern bool tap_is(const char *got, const char *expected, const char *file,
				   int line, const char *fmt,...) pg_attribute_printf(5, 6);
extern bool tap_is_int(int64 got, int64 expected, const char *file, int line,
					   const char *fmt,...) pg_attribute_printf(5, 6);
extern void tap_skip(const char *why, const char *what);

#define ok(condition, ...) \
	tap_ok((condition), __FILE__, __LINE__, __VA_ARGS__)
#define is(got, expected, ...) \
	tap_is((got), (expected), __FILE__, __LINE__, __VA_ARGS__)
#define is_int(got, expected, ...) \
	tap_is_int((got), (expected), __FILE__, __LINE__, __VA_ARGS__)

/* A copy of exactly this size, so that sanitizers see reads beyond it. */
extern char *tap_copy(const char *data, size_t len);

extern void test_sigv4(void);
extern void test_json(void);
extern void test_protocol(void);
extern void test_send(void);
extern void test_errors(void);
extern void test_endpoint(void);
extern void test_ini(void);
extern void test_profile(void);
extern void test_identity(void);
extern void test_credentials(void);
extern void test_retry_budget(void);
extern void test_client(void);
extern void test_client_send(void);
extern void test_client_keys(void);
extern void test_connections(void);
extern void test_tls(void);
extern void test_proxies(void);
extern void test_fetch(void);
extern void test_key_reply(void);
extern void test_sns_signature(void);
extern void test_sender(void);
extern void test_starts(void);
extern void test_pace(void);
extern void test_retry(void);

#endif							/* TAP_H */
