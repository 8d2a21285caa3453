/*-------------------------------------------------------------------------
 *
 * aws_error.h
 *	  What can go wrong between us and AWS, and what it means for the caller.
 *
 * The class decides what is done about an error; code, message and request id
 * are for people.  The texts come from libcurl or from the reply.  They are cut
 * to size, reduced to printable ASCII, and cleared of our own secrets before
 * they leave sqs_client.c, because what AWS says about a bad signature may
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
	AWS_ERROR_RESOURCES,		/* this process lacks descriptors or memory;
								 * says nothing about the other side */
	AWS_ERROR_CREDENTIALS,		/* refused key, token or signature */
	AWS_ERROR_CLOCK,			/* signature refused for its date */
	AWS_ERROR_NO_QUEUE,			/* no such queue, or no access to it */
	AWS_ERROR_OVER_LIMIT,		/* too many messages in flight */
	AWS_ERROR_LEASE_LOST,		/* receipt handle invalid, expired, not in
								 * flight */
	AWS_ERROR_CONFIGURATION,	/* KMS, TLS, URL, permissions: a person must
								 * act */
	AWS_ERROR_UNKNOWN,			/* refused, perhaps not because of its content */
	AWS_ERROR_REQUEST			/* refused for its content: will never succeed */
} AwsErrorClass;

/* Who caused the error, according to AWS. */
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
	bool		no_keys;		/* it was not sent, because there were no keys
								 * to sign it with */
	char		code[96];		/* AWS's shape name, or "CurlNN" / "HttpNNN" */
	char		message[512];
	char		request_id[64];
} AwsError;

/*
 * The class of an error.  shape and query_code are its two names; these and
 * the message may be NULL.  http_status: 0 if the error is about an entry of a
 * batch.
 */
extern AwsErrorClass aws_error_classify(const char *shape, const char *query_code,
										AwsFault fault, int http_status,
										const char *message);

/* A constant, such as "throttled". */
extern const char *aws_error_class_name(AwsErrorClass class);

/* What failed: the action of this name, or getting keys for it. */
extern const char *aws_error_action(const AwsError *error, const char *action);

/* Set *error; everything but class, code and message becomes 0. */
extern void aws_error_set(AwsError *error, AwsErrorClass class,
						  const char *code, const char *fmt, ...) pg_attribute_printf(4, 5);

/* Make a text from the network printable ASCII, in place. */
extern void aws_text_sanitize(char *text);

/*
 * Replace a secret in a text from the network with asterisks, in place.  The
 * text may have been cut in the middle of the secret, so the first eight
 * characters are looked for, and replaced with as much of the secret as
 * follows them.  A secret that is NULL or has fewer than eight characters is
 * ignored: AWS's have 40 or more, and an emulator's "x" would remove half of
 * every text.
 */
extern void aws_text_redact(char *text, const char *secret);

#endif							/* AWS_ERROR_H */
