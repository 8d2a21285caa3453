/*-------------------------------------------------------------------------
 *
 * shared_credentials.h
 *	  Keys that have to be found or fetched, and are shared by all processes.
 *
 * It joins the plan (aws/identity.h), the fetching (aws/fetch.h) and the shared
 * memory (base/credentials_cache.h) to a provider of keys.  connect.c makes
 * these providers and lets their fetches go on.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_SHARED_CREDENTIALS_H
#define SQSBRIDGE_SHARED_CREDENTIALS_H

#include "aws/credentials.h"
#include "aws/http.h"
#include "aws/identity.h"
#include "base/credentials_cache.h"
#include "config/fdw.h"

/*
 * A provider for what sqs_catalog_keys() has found.  It reads files and the
 * environment, but no network access is involved.  ca_file (NULL: as the plan
 * says) is copied; pool must live longer.  Returns NULL with *error set if what
 * is configured cannot work.
 */
extern AwsCredentialsProvider *sqs_shared_credentials(const SqsKeys *keys, const char *ca_file,
													  HttpPool *pool, AwsError *error);

/* What it has found; valid until the keys are next asked for. */
extern const AwsIdentity *sqs_shared_credentials_identity(const AwsCredentialsProvider *provider);

/*
 * This process goes on until it is told to stop, and calls
 * sqs_shared_credentials_poll() all the time.  Such processes renew keys before
 * that is urgent.  In others, fetches end with the transaction.
 */
extern void sqs_shared_credentials_stay(void);

/* The keys of this provider are needed on: renew them in good time. */
extern void sqs_shared_credentials_keep(AwsCredentialsProvider *provider);

/* After http_pool_poll(): go on with fetches.  May raise an error. */
extern void sqs_shared_credentials_poll(void);
extern long sqs_shared_credentials_timeout(void);	/* ms; -1: none */

/*
 * What a view may show: where the keys come from, and how they are.  Returns
 * false with *error set if what is configured cannot work.  source is palloc'd.
 */
typedef struct SqsCredentialsView
{
	char	   *source;
	char	   *role_arn;		/* the last one that is assumed; NULL: none */
	bool		fetched;		/* the keys are not in what was found */
	bool		shared;			/* they are, or were, in shared memory */
	SqsKeysStatus status;		/* if fetched; if not shared, only its state */
} SqsCredentialsView;

extern bool sqs_shared_credentials_view(const SqsKeys *keys, const char *ca_file,
										SqsCredentialsView *view, AwsError *error);

#endif							/* SQSBRIDGE_SHARED_CREDENTIALS_H */
