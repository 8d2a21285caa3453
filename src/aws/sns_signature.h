/*-------------------------------------------------------------------------
 *
 * sns_signature.h
 *	  Has SNS signed this message?
 *
 * Nothing here waits or sends.  The caller gets the certificate that a message
 * names, and may keep it.  Errors of OpenSSL do not stay in its queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_SNS_SIGNATURE_H
#define AWS_SNS_SIGNATURE_H

#include "aws/sqs_protocol.h"

/* False if the server was built without OpenSSL; then nothing can be verified. */
extern bool aws_sns_is_supported(void);

/* What SNS has signed, and with what; slices that have no data are absent. */
typedef struct AwsSnsMessage
{
	SqsSlice	type;
	SqsSlice	message_id;
	SqsSlice	topic_arn;
	SqsSlice	subject;
	SqsSlice	message;
	SqsSlice	timestamp;
	SqsSlice	token;
	SqsSlice	subscribe_url;
	SqsSlice	signature_version;
	SqsSlice	signature;
	SqsSlice	certificate_url;	/* a NUL follows */
	bool		is_notification;	/* it is not about a subscription */
} AwsSnsMessage;

/*
 * Read the JSON document that SNS puts into a queue, in place: the slices point
 * into it.  If it is none, *why is a constant phrase that follows "it".
 */
extern bool aws_sns_message_parse(char *body, size_t len, AwsSnsMessage *message,
								  const char **why);

#define AWS_SNS_URL_SIZE	512

/* Where SNS keeps a certificate. */
typedef struct AwsSnsPlace
{
	char		url[AWS_SNS_URL_SIZE];
	char		region[33];
} AwsSnsPlace;

/*
 * Is that where SNS keeps its certificates?  Otherwise *why is a constant phrase
 * that begins with "must".
 */
extern bool aws_sns_place_parse(const char *url, AwsSnsPlace *place, const char **why);

typedef enum AwsSnsResult
{
	AWS_SNS_GOOD,
	AWS_SNS_BAD,				/* a message that SNS has sent is not so */
	AWS_SNS_UNKNOWN				/* may be due to this machine: its
								 * authorities, its clock, its memory */
} AwsSnsResult;

#define AWS_SNS_WHY_SIZE	256

typedef struct AwsSnsCertificate AwsSnsCertificate;

/*
 * Read what has come from there, by TLS.  ca_file: authorities that are
 * trusted besides the system's; NULL: none.  *certificate is set if the result is
 * AWS_SNS_GOOD; otherwise "why" says what is the matter.
 */
extern AwsSnsResult aws_sns_certificate_read(const char *pem, size_t len,
											 const AwsSnsPlace *place, const char *ca_file,
											 AwsSnsCertificate **certificate,
											 char why[AWS_SNS_WHY_SIZE]);
extern void aws_sns_certificate_free(AwsSnsCertificate *certificate);

/* Is today in its time? */
extern bool aws_sns_certificate_is_current(const AwsSnsCertificate *certificate);

/* Has the certificate's owner signed the message? */
extern AwsSnsResult aws_sns_signature_verify(const AwsSnsMessage *message,
											 const AwsSnsCertificate *certificate,
											 char why[AWS_SNS_WHY_SIZE]);

#endif							/* AWS_SNS_SIGNATURE_H */
