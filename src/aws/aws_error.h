/*-------------------------------------------------------------------------
 *
 * aws_error.h
 *	  What can go wrong between us and AWS, and what it means for the caller.
 *
 * The class decides what is done about an error; code, message and request
 * id are for people.  An AwsError never holds a secret: texts come from
 * libcurl or from the reply, clipped, control characters replaced, and our
 * own secrets blanked out, because what AWS says about a bad signature may
 * quote the headers of the request.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_ERROR_H
#define AWS_ERROR_H

typedef enum AwsErrorClass
{
	AWS_ERROR_NONE = 0,
	AWS_ERROR_TRANSIENT,		/* network, 5xx, garbage: try again */
	AWS_ERROR_THROTTLED,		/* try again, slower */
	AWS_ERROR_TIMEOUT,			/* our own deadline passed */
	AWS_ERROR_RESOURCES,		/* this process lacks descriptors or memory:
								 * says nothing about the other side */
	AWS_ERROR_CREDENTIALS,		/* refused key, token or signature */
	AWS_ERROR_CLOCK,			/* signature refused for its date */
	AWS_ERROR_NO_QUEUE,			/* no such queue, or no access to it */
	AWS_ERROR_OVER_LIMIT,		/* too many messages in flight */
	AWS_ERROR_LEASE_LOST,		/* receipt handle invalid, expired, not in flight */
	AWS_ERROR_CONFIGURATION,	/* KMS, TLS, URL, permissions: a person must act */
	AWS_ERROR_UNKNOWN,			/* refused, but not known to be for what is in it */
	AWS_ERROR_REQUEST			/* refused for what is in it: never succeeds */
} AwsErrorClass;

/* Whom AWS blames. */
typedef enum AwsFault
{
	AWS_FAULT_UNKNOWN,
	AWS_FAULT_SENDER,
	AWS_FAULT_RECEIVER
} AwsFault;

typedef struct AwsError
{
	AwsErrorClass class;
	int			http_status;	/* 0: no reply */
	bool		may_be_done;	/* the request may have had its effect */
	char		code[96];		/* AWS's shape name, or "CurlNN" / "HttpNNN" */
	char		message[512];
	char		request_id[64];
} AwsError;

/*
 * Class of an error by its two names, either of which may be NULL, whose
 * fault it is, the HTTP status and the message, of which the last may be NULL.
 */
extern AwsErrorClass aws_error_classify(const char *shape, const char *query_code,
										AwsFault fault, int http_status,
										const char *message);
extern const char *aws_error_class_name(AwsErrorClass class);

/* Fill *error from a format; sets no HTTP status. */
extern void aws_error_set(AwsError *error, AwsErrorClass class,
						  const char *code, const char *fmt,...) pg_attribute_printf(4, 5);

/* Make a text from the network fit for a log: printable ASCII, in place. */
extern void aws_text_sanitize(char *text);

/*
 * Blank out a secret in a text from the network.  A text may have been cut
 * off in the middle of it, so that eight characters of its beginning count,
 * and whatever else of it follows them.  secret may be NULL.  One of fewer
 * characters is none: AWS's have forty and more, and what somebody calls "x"
 * for an emulator would blank out half of every text.
 */
extern void aws_text_redact(char *text, const char *secret);

#endif							/* AWS_ERROR_H */
