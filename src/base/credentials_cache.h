/*-------------------------------------------------------------------------
 *
 * credentials_cache.h
 *	  Temporary keys that all processes of the cluster share.
 *
 * This file knows nothing of AWS: an entry has an id, strings, and times.
 * What the processes do with it, and who owns which field, is in src/README,
 * "Keys".
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_CREDENTIALS_CACHE_H
#define SQSBRIDGE_CREDENTIALS_CACHE_H

#include "utils/timestamp.h"

#define SQS_KEYS_ID_LEN		32

/* The sizes are those that aws/credentials.h permits, plus the NUL. */
typedef struct SqsCachedKeys
{
	uint64		generation;		/* unique in the cluster; 0: there are none */
	int64		expires;		/* by our clock, ms since 1970; PG_INT64_MAX:
								 * never */
	bool		outlive;		/* may be used after that */
	char		access_key_id[129];
	char		secret_access_key[257];
	char		session_token[16385];	/* "": none */
	char		region[33];		/* "": not asked for */
	char		arn[256];		/* of the role that was assumed; "": none */
} SqsCachedKeys;

/* Why there are none, or no newer ones. */
typedef struct SqsCachedError
{
	int			class;
	bool		lasting;		/* somebody must act: do not ask often */
	char		code[96];
	char		message[512];
} SqsCachedError;

typedef enum SqsKeysAnswer
{
	SQS_KEYS_READY,				/* user->keys may be used */
	SQS_KEYS_FETCH,				/* the caller must fetch new ones; user->keys
								 * may be used meanwhile if they are usable */
	SQS_KEYS_WAIT,				/* another process fetches them */
	SQS_KEYS_FAILED				/* user->error says why there are none */
} SqsKeysAnswer;

typedef struct SqsKeysEntry SqsKeysEntry;

/* A user of an entry, in a process; all of it is the user's own. */
typedef struct SqsKeysUser
{
	uint8		id[SQS_KEYS_ID_LEN];
	bool		confined;		/* the id is made of what any role may enter */
	SqsKeysEntry *entry;		/* where it was; NULL: nowhere yet.  It may
								 * have another id by now */
	SqsKeysEntry *own;			/* used instead if there is no room */
	uint64		claim;			/* 0: this user is not fetching */
	int64		look_again;		/* before, the keys are good as they are */
	int64		not_before;		/* do not fetch: this process has failed,
								 * which is its own affair, and so is the
								 * error */
	int			failures;		/* after store and fail: how many, before and
								 * with it */
	SqsCachedKeys keys;
	SqsCachedError error;
} SqsKeysUser;

/* What a view may show of an entry. */
typedef struct SqsKeysStatus
{
	const char *state;
	char		key_id[8];		/* the last four characters of the key id */
	char		arn[256];
	TimestampTz expires;		/* 0: none, never; so in the next three */
	TimestampTz refresh_at;
	TimestampTz fetched_at;
	TimestampTz stale_since;
	TimestampTz failed_at;
	uint64		fetches;
	char		error[512];		/* "": none since the last success */
} SqsKeysStatus;

/* How long a fetch may take before another process begins one. */
#define SQS_KEYS_CLAIM_MS	10000

/*
 * Keys that live for less than this are no use: whatever a source hands out, it
 * is not to be asked more often.
 */
#define SQS_KEYS_LEAST_MS	5000

/*
 * The id under which keys are shared: the same text has the same id until the
 * server is restarted, and an id tells nothing about its text.  False if that
 * cannot be computed (SHA-256 is not available, or memory has run out).
 */
extern bool sqs_keys_id(const char *text, size_t len, uint8 *id);

/*
 * Get keys for user->id.  "resident" is a process that will still be there
 * when a fetch ends, and renews keys in good time; others fetch only what
 * cannot wait.  Not to be called while user->claim is set.
 */
extern SqsKeysAnswer sqs_keys_get(SqsKeysUser *user, bool resident);

/* May these be used now, as far as their time is concerned? */
extern bool sqs_keys_usable(const SqsCachedKeys *keys);

/*
 * The ends of a claim: new keys (their generation is set here), an error, or
 * none of these.  The first two return false if the result came too late: keys,
 * if another process has brought newer ones; an error, if another has the claim,
 * and then it is the user's own for a second.
 */
extern bool sqs_keys_store(SqsKeysUser *user, SqsCachedKeys *keys);
extern bool sqs_keys_fail(SqsKeysUser *user, const SqsCachedError *error);
extern void sqs_keys_give_up(SqsKeysUser *user);

/*
 * The same, for lack of something in this process only: the error is not
 * stored, and this user does not fetch for a second.
 */
extern void sqs_keys_cannot(SqsKeysUser *user, const SqsCachedError *error);

/*
 * The keys of this generation were refused.  True if there are others, or will
 * be soon.
 */
extern bool sqs_keys_reject(SqsKeysUser *user, uint64 generation);

/* Wipes what the user has, and ends its claim. */
extern void sqs_keys_release(SqsKeysUser *user);

/* Servers, or user mappings, have been changed or dropped. */
extern void sqs_keys_servers_changed(void);
extern void sqs_keys_mappings_changed(void);

/* Wipe what is not needed any more; for the launcher. */
extern void sqs_keys_sweep(void);

/* False: there is no entry with this id, and only the state is set. */
extern bool sqs_keys_status(const uint8 *id, bool confined, SqsKeysStatus *status);

extern void sqs_keys_init(void);	/* from _PG_init */

#endif							/* SQSBRIDGE_CREDENTIALS_CACHE_H */
