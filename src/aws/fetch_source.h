/*-------------------------------------------------------------------------
 *
 * fetch_source.h
 *	  What the sources of keys and fetch.c share.
 *
 * A source is asked by HTTP, in one request or several.  It says what to send
 * next (ask) and what the reply means (take); fetch.c sends, repeats what
 * failed, and watches the deadlines.  A program is no such source (process.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_FETCH_SOURCE_H
#define AWS_FETCH_SOURCE_H

#include "aws/http.h"
#include "aws/identity.h"
#include "aws/key_reply.h"
#include "aws/process.h"
#include "aws/sigv4.h"

#define FETCH_MAX_REPLY			((size_t) 64 * 1024)
#define FETCH_MAX_TOKEN_FILE	((size_t) 20 * 1024)
#define FETCH_MAX_HEADERS		6

typedef struct AwsFetch Fetch;	/* as it is called outside of these files */

/* A request that a source wants to have sent; wiped after use. */
typedef struct FetchRequest
{
	HttpMethod	method;
	char	   *url;			/* all of these are malloc'ed */
	char	   *headers[FETCH_MAX_HEADERS];
	int			nheaders;
	char	   *body;			/* NULL: none */
	size_t		body_len;
	const char *ca_file;		/* of the identity */
	bool		direct;			/* no proxy */
	bool		no_memory;		/* one of the above could not be made */
} FetchRequest;

typedef enum FetchVerdict
{
	FETCH_DONE,					/* the step is done */
	FETCH_NEXT,					/* ask again, there is more to ask for */
	FETCH_RETRY,				/* error set: ask again if tries are left */
	FETCH_FAILED				/* error set */
} FetchVerdict;

typedef struct FetchSource
{
	long		connect_ms;		/* limits of each try */
	long		total_ms;
	int			tries;
	long		pause_ms;		/* between tries; the second lasts twice as
								 * long */

	/* Fill fetch->ask; false with the error set. */
	bool		(*ask) (Fetch *fetch);

	/* Look at the reply, whose body may be changed but not kept. */
	FetchVerdict (*take) (Fetch *fetch, HttpReply *reply);
} FetchSource;

extern const FetchSource fetch_metadata;
extern const FetchSource fetch_container;
extern const FetchSource fetch_sts;

typedef enum FetchStep
{
	FETCH_STEP_REGION,			/* of instance metadata */
	FETCH_STEP_BASE,			/* the plan's source */
	FETCH_STEP_ROLES,			/* fetch->role is the one to be assumed */
	FETCH_STEP_WHOAMI,
	FETCH_STEP_END
} FetchStep;

/* What instance metadata has told so far (imds.c). */
typedef struct FetchMetadata
{
	char	   *token;			/* NULL: to be asked for */
	char		role[129];		/* "": to be asked for */
	bool		renewed;		/* the token, after it was refused */
} FetchMetadata;

/* The call to STS that is made (sts.c). */
typedef struct FetchSts
{
	SigV4Key	key;
	char	   *token;			/* of web identity, as last read */
	bool		reread;			/* the token's file, after it was refused */
	bool		clock_corrected;	/* and signed anew */
	int64		signed_skew_ms;
	AwsCaller	caller;
} FetchSts;

struct AwsFetch
{
	HttpPool   *pool;
	AwsIdentity *identity;
	int64		deadline;		/* ms, as all times here */
	FetchStep	step;
	int			role;
	bool		done;
	AwsError	error;
	AwsFetchedKeys keys;		/* as far as the steps have come */
	int64		skew_ms;		/* AWS's clock minus ours */
	char		where[512];		/* what is being asked, for messages */

	/* the request under way */
	const FetchSource *source;
	FetchRequest ask;
	HttpRequest *request;		/* NULL: none */
	HttpReply	reply;			/* to be looked at if "replied" */
	bool		replied;
	int64		sent_at;		/* by the clock on the wall */
	int64		replied_at;
	int			tries;
	int64		go_on_at;
	AwsProcess *process;		/* instead of a request */

	FetchMetadata metadata;
	FetchSts	sts;
};

/* ---- for the sources (fetch.c) ---- */

/* Add "name: value"; a NULL value gives "name:", which libcurl does not send. */
extern void fetch_add_header(FetchRequest *ask, const char *name, const char *value);

/* Set fetch->where, which begins every message. */
extern void fetch_set_where(Fetch *fetch, const char *fmt, ...) pg_attribute_printf(2, 3);

/* Set fetch->error to where it happened and the text, without secrets. */
extern void fetch_error(Fetch *fetch, AwsErrorClass class, int http_status,
						const char *code, const char *fmt, ...) pg_attribute_printf(5, 6);
extern bool fetch_no_memory(Fetch *fetch);

/*
 * There is no reply: set the error to libcurl's.  hint: what is added if the
 * server was silent; may be NULL.
 */
extern FetchVerdict fetch_no_reply(Fetch *fetch, const HttpReply *reply,
								   const char *hint);

/*
 * The reply is an error.  code and message are those of its body, or NULL.  The
 * verdict is FETCH_RETRY for what may pass by itself.
 */
extern FetchVerdict fetch_refused(Fetch *fetch, int http_status,
								  const char *code, const char *message);

/* The reply is not what the source sends; why may be NULL: out of memory. */
extern FetchVerdict fetch_garbage(Fetch *fetch, const char *why);

/* Take the keys of a reply over. */
extern FetchVerdict fetch_take_keys(Fetch *fetch, const AwsKeyReply *reply,
									AwsKeyParts parts);

#endif							/* AWS_FETCH_SOURCE_H */
