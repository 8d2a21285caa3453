/*-------------------------------------------------------------------------
 *
 * http.h
 *	  One HTTP transport: libcurl's multi interface behind one descriptor.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_HTTP_H
#define AWS_HTTP_H

#include "aws/aws_error.h"

typedef struct HttpPool HttpPool;
typedef struct HttpRequest HttpRequest;

typedef struct HttpReply
{
	int			status;			/* 0: none, see error */
	char	   *body;			/* malloc'ed; the receiver may take it */
	size_t		len;
	int64		date;			/* of the Date header, epoch s; 0: none */
	char		request_id[64];
	char		query_error[128];
	char		error_type[128];
	bool		sent;			/* the request may have reached the server */
	bool		too_large;		/* more than max_reply bytes */
	AwsError	error;			/* class AWS_ERROR_NONE: there is a reply */
} HttpReply;

/* Where a request goes. */
typedef struct HttpTarget
{
	const char *url;
	const char *ca_file;		/* PEM bundle; NULL: libcurl's default */
	bool		direct;			/* through no proxy, whatever the environment says */
} HttpTarget;

/*
 * How the process counts its descriptors.  acquire is asked before each that
 * is opened, and may refuse; release is told when it is closed.  Both are
 * called from inside libcurl: they must not throw.
 */
typedef struct AwsFdHooks
{
	bool		(*acquire) (void);
	void		(*release) (void);
} AwsFdHooks;

/* Once, before the first pool is made; without it nothing is counted. */
extern void aws_http_set_fd_hooks(const AwsFdHooks *hooks);

typedef void (*HttpDone) (HttpReply *reply, void *arg);

/* connections: that are kept alive, at most; 0: a default. */
extern HttpPool *http_pool_create(const char *user_agent, int connections,
								  AwsError *error);
extern void http_pool_destroy(HttpPool *pool);
extern int	http_pool_fd(const HttpPool *pool);
extern long http_pool_timeout(const HttpPool *pool);	/* ms; -1: none */

/* Do what can be done without waiting; invokes the done functions. */
extern void http_pool_poll(HttpPool *pool);

/*
 * POST.  Headers and body have to stay as they are until the request is done
 * or canceled; the target is copied.  NULL if out of memory.
 */
extern HttpRequest *http_post(HttpPool *pool, const HttpTarget *target,
							  const char *const *headers, int nheaders,
							  const char *body, size_t body_len,
							  long timeout_ms, size_t max_reply,
							  HttpDone done, void *arg);
extern void http_cancel(HttpRequest *request);

#endif							/* AWS_HTTP_H */
