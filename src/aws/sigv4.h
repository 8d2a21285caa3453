/*-------------------------------------------------------------------------
 *
 * sigv4.h
 *	  AWS Signature Version 4.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_SIGV4_H
#define AWS_SIGV4_H

#include "aws/credentials.h"

#define SIGV4_DATE_LEN		16	/* YYYYMMDDTHHMMSSZ */
#define SIGV4_SHA256_LEN	32

typedef struct SigV4Header
{
	const char *name;			/* lower case */
	const char *value;			/* as it is sent */
} SigV4Header;

/*
 * The signing key of a day, kept between requests.  All zeroes: none yet.
 * sigv4_key_wipe() before it goes out of use.
 */
typedef struct SigV4Key
{
	bool		valid;
	char		access_key_id[AWS_ACCESS_KEY_ID_MAX + 1];
	char		secret_digest[SIGV4_SHA256_LEN];
	char		date[9];
	char		region[33];
	char		service[17];
	uint8		key[SIGV4_SHA256_LEN];
} SigV4Key;

/* Seconds since the epoch as X-Amz-Date; buf has SIGV4_DATE_LEN + 1 bytes. */
extern void sigv4_date(int64 epoch_seconds, char *buf);

/*
 * Write the value of the Authorization header to buf, for a request whose path
 * needs no encoding and that has no query.  headers: all that are signed,
 * sorted by name, host and x-amz-date among them; date: the value of the
 * latter.  False if out of memory, if a hash function fails, or if something
 * does not fit.  buf never holds a secret.
 */
extern bool sigv4_authorization(SigV4Key *cache, const char *access_key_id,
								const char *secret_access_key,
								const char *region, const char *service,
								const char *date, const char *method,
								const char *path,
								const SigV4Header *headers, int nheaders,
								const void *body, size_t body_len,
								char *buf, size_t size);
extern void sigv4_key_wipe(SigV4Key *cache);

#endif							/* AWS_SIGV4_H */
