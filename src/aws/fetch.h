/*-------------------------------------------------------------------------
 *
 * fetch.h
 *	  Fetching keys as a plan (identity.h) says: from a metadata service, a
 *	  program or STS, and then by assuming roles.
 *
 * A fetch runs over its owner's HttpPool and never waits.  Its owner calls
 * aws_fetch_go_on() after each http_pool_poll(), and when aws_fetch_next() has
 * passed, until aws_fetch_done():
 *
 *		fetch = aws_fetch_start(pool, identity, 10000, &error);
 *		while (!aws_fetch_done(fetch))
 *		{
 *			wait for http_pool_fd(), http_pool_timeout(), aws_fetch_next();
 *			http_pool_poll(pool);
 *			aws_fetch_go_on(fetch);
 *		}
 *		aws_fetch_result(fetch, &keys, &error);
 *		aws_fetch_cancel(fetch);
 *
 * Signing may raise an error if the server is out of memory (sigv4.c), and so
 * may aws_fetch_go_on(), but no other function here.  The owner then cancels
 * the fetch.
 *
 * The classes of errors: AWS_ERROR_CREDENTIALS is for what a person must mend
 * (denied, missing, malformed), AWS_ERROR_CONFIGURATION for TLS and URLs,
 * AWS_ERROR_TRANSIENT, _THROTTLED and _TIMEOUT for what may pass by itself, and
 * AWS_ERROR_CLOCK and AWS_ERROR_RESOURCES for this machine and process.
 * Messages name the source, and hold no secret and no body.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_FETCH_H
#define AWS_FETCH_H

#include "aws/credentials.h"
#include "aws/fetched_keys.h"
#include "aws/http.h"
#include "aws/identity.h"

#define AWS_FETCH_MAX_MS	10000	/* for all of a fetch, whatever is asked
									 * for */

typedef struct AwsFetch AwsFetch;

/*
 * Start a fetch; NULL, with *error set, if out of memory.  The identity is
 * copied.  If its region is NULL and it has a metadata_url, the region is asked
 * of instance metadata, whatever the kind of the identity is.
 */
extern AwsFetch *aws_fetch_start(HttpPool *pool, const AwsIdentity *identity,
								 long deadline_ms, AwsError *error);

/*
 * GetCallerIdentity with keys that are there, which are copied.  Of the identity,
 * only what says where STS is, is used.
 */
extern AwsFetch *aws_whoami_start(HttpPool *pool, const AwsCredentials *keys,
								  const AwsIdentity *where, long deadline_ms,
								  AwsError *error);

/* ms until aws_fetch_go_on() is due; -1: when the pool says so */
extern long aws_fetch_next(const AwsFetch *fetch);
extern void aws_fetch_go_on(AwsFetch *fetch);
extern bool aws_fetch_done(const AwsFetch *fetch);

/*
 * The result of a fetch that is done: the keys, which become the caller's, or
 * false with *error set.  To be called once.
 */
extern bool aws_fetch_result(AwsFetch *fetch, AwsFetchedKeys *keys,
							 AwsError *error);
extern bool aws_whoami_result(AwsFetch *fetch, AwsCaller *caller,
							  AwsError *error);

/* Frees it, done or not; wipes what it holds.  NULL is allowed. */
extern void aws_fetch_cancel(AwsFetch *fetch);

#endif							/* AWS_FETCH_H */
