/*-------------------------------------------------------------------------
 *
 * http.h
 *	  One HTTP transport: libcurl's multi interface behind one descriptor.
 *
 * A pool belongs to one process.  Nothing here waits; http.c says how it
 * behaves inside a server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_HTTP_H
#define AWS_HTTP_H

#include "aws/aws_error.h"

typedef struct HttpPool HttpPool;
typedef struct HttpRequest HttpRequest;

/*
 * Texts are as the server sent them, cut to size, except that request_id is
 * made printable ASCII.
 */
typedef struct HttpReply
{
	int			status;			/* 0: none, see error */
	char	   *body;			/* malloc'ed, may be NULL; the receiver's to
								 * free */
	size_t		len;
	int64		date;			/* of the Date header, epoch s; 0: none */
	char		request_id[64];
	char		query_error[128];
	char		error_type[128];
	bool		sent;			/* the request may have reached the server */
	bool		too_large;		/* there was more than may be kept of it */
	AwsError	error;			/* class AWS_ERROR_NONE: there is a reply */
} HttpReply;

/* Where a request goes. */
typedef struct HttpTarget
{
	const char *url;
	const char *ca_file;		/* PEM bundle; NULL: libcurl's default */
	bool		direct;			/* no proxy, whatever the environment says */
	long		connect_timeout_ms; /* 0: a default */
	bool		secret;			/* the reply holds secrets: wipe it */
} HttpTarget;

typedef enum HttpMethod
{
	HTTP_POST,
	HTTP_GET,					/* has no body */
	HTTP_PUT
} HttpMethod;

/*
 * Called once for each request that is not canceled, by http_pool_poll() and
 * never from inside libcurl, so it may raise an error.  reply->body is its to
 * free; *reply ends with the call.
 */
typedef void (*HttpDone) (HttpReply *reply, void *arg);

/*
 * connections: how many there are at most.  Idle ones are closed when another is
 * needed, whatever server they lead to.  0: no limit, and some are kept alive.
 * Returns NULL with *error set if that fails.
 */
extern HttpPool *http_pool_create(const char *user_agent, int connections,
								  AwsError *error);

/* Ends all requests without calling their done functions.  NULL is allowed. */
extern void http_pool_destroy(HttpPool *pool);

/* What to wait for: that this is readable, or that so much time has passed. */
extern int	http_pool_fd(const HttpPool *pool);
extern long http_pool_timeout(const HttpPool *pool);	/* ms; -1: none */

/* Do what can be done without waiting; invokes the done functions. */
extern void http_pool_poll(HttpPool *pool);

/* Send new requests at once, rather than at the next http_pool_poll() */
extern void http_pool_start(HttpPool *pool);

/*
 * The body must stay as it is until the request is done or canceled; everything
 * else is copied, and copies of headers are wiped.  max_reply: bytes.  Of a
 * secret reply, what is not handed over is wiped, and the receiver wipes the
 * rest; libcurl's own buffers are out of reach.  Returns NULL if out of memory;
 * otherwise what http_cancel() takes, until the request is done.
 */
extern HttpRequest *http_request(HttpPool *pool, HttpMethod method,
								 const HttpTarget *target,
								 const char *const *headers, int nheaders,
								 const char *body, size_t body_len,
								 long timeout_ms, size_t max_reply,
								 HttpDone done, void *arg);
extern HttpRequest *http_post(HttpPool *pool, const HttpTarget *target,
							  const char *const *headers, int nheaders,
							  const char *body, size_t body_len,
							  long timeout_ms, size_t max_reply,
							  HttpDone done, void *arg);
extern void http_cancel(HttpRequest *request);

#endif							/* AWS_HTTP_H */
