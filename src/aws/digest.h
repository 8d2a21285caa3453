/*-------------------------------------------------------------------------
 *
 * digest.h
 *	  The MD5s by which SQS confirms what it has got, and hex digits.
 *
 * PostgreSQL's common/cryptohash.h does the work, so all of this follows the
 * OpenSSL (or lack of it) that the server was built with.  In the server that
 * code allocates with palloc: these functions raise ERROR if memory runs out,
 * and return false if OpenSSL refuses MD5, as it does in FIPS mode.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_DIGEST_H
#define AWS_DIGEST_H

#include "aws/sqs_protocol.h"

/* 2 * n lowercase digits and a NUL. */
extern void aws_hex(const uint8 *bytes, size_t n, char *hex);

extern bool sqs_body_md5(const char *data, size_t len, char hex[33]);

/* False also for more attributes than SQS_PARSE_MAX_ATTRIBUTES. */
extern bool sqs_attributes_md5(const SqsAttribute *attributes, int nattributes,
							   char hex[33]);

#endif							/* AWS_DIGEST_H */
