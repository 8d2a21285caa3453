/*-------------------------------------------------------------------------
 *
 * credentials_cache.c
 *	  Temporary keys that all processes of the cluster share.
 *
 * A fixed number of entries (sqsbridge.max_credentials) in the main shared
 * memory.  One lock guards all of them, and is held while an entry is looked
 * at or copied: never during I/O, and nothing below it raises an error.
 *
 * What an entry is, follows from its fields; there is no separate state that
 * could disagree with them:
 *
 *					keys	claim
 *		fetching	no		yes		nobody has any yet
 *		ready		yes		no
 *		refreshing	yes		yes		those that are there are used meanwhile
 *		failed		no		no		"error" is why; nothing is tried before
 *									retry_at
 *
 * The claim is the right to fetch.  It ends after 10 s, whatever the holder
 * does: then anybody may take it.  So a process that is stopped or slow holds
 * the others up for that long at most.  It has a number, and keys are taken
 * unless there are some of a higher one, so that old keys cannot come in the
 * place of newer ones.
 *
 * Who takes the claim and is interrupted gives it up.  A role could do that again
 * and again, in several sessions, so that nobody ever gets keys.  After a few
 * claims in a row that came to nothing, those who have no keys therefore fetch
 * although another process has the claim, until one of them has a result.
 *
 * Times: everything that comes from AWS (when keys expire, and what is
 * computed from that) is by the time of day, corrected by the difference of the
 * clocks.  Everything else is by sqs_now_ms(), which is the same in all
 * processes and never goes back.
 *
 * If there is no entry to be had, a user gets one of its own, outside of shared
 * memory, to which the same rules apply.  It tries again to share whenever it
 * needs new keys.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hmac.h"
#include "common/pg_prng.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "base/credentials_cache.h"
#include "base/settings.h"
#include "base/worker.h"

/* When to renew keys, before they expire. */
#define ADVISORY_MS			300000
#define ADVISORY_JITTER_MS	60000
#define MANDATORY_MS		60000
/* Keys that live for less than this: at a half and at five sixths of it. */
#define SHORT_LIFE_MS		600000
/* Keys with less left than SQS_KEYS_LEAST_MS are not stored, but ... */
#define LEAST_LIFE_MS		SQS_KEYS_LEAST_MS	/* ... those that outlive
												 * their end are kept so long */

/* When to try again. */
#define KEEP_MIN_MS			300000	/* the old keys can be used */
#define KEEP_MAX_MS			600000
#define LASTING_MIN_MS		30000	/* somebody must act */
#define LASTING_MAX_MS		60000
#define RETRY_MIN_MS		1000
#define RETRY_MAX_MS		60000
#define FORCED_PAUSE_MS		10000	/* between refreshes because AWS refused
									 * the keys */
#define CLAIMS_IN_VAIN		3	/* from then on, nobody waits for another */

/* When to wipe. */
#define UNUSED_MS			900000
#define EXPIRED_MS			900000
#define EVICT_MS			300000	/* unused, and the entry is needed */
#define EVICT_FAILED_MS		60000	/* the same, if it has no keys */
#define SWEEP_MS			30000
#define WATCH_MS			90000	/* for so long after a change of servers
									 * and mappings, keys are ... */
#define WATCH_UNUSED_MS		15000	/* ... wiped when unused for this long */

#define TOUCH_MS			1000
#define LOOK_MS				1000	/* while another process fetches */
#define WARN_MS				3600000

struct SqsKeysEntry
{
	bool		in_use;
	bool		confined;		/* see SqsKeysUser */
	uint8		id[SQS_KEYS_ID_LEN];
	pg_atomic_uint64 generation;	/* that of "keys", to be read without the
									 * lock */
	pg_atomic_uint64 used_at;

	uint64		claim;			/* 0: nobody fetches */
	int64		claim_until;
	uint64		keys_claim;		/* with which the keys were fetched */
	int			in_vain;		/* claims in a row without keys or error */

	int64		refresh_at;		/* time of day: from then on residents fetch */
	int64		mandatory_at;	/* likewise: everybody */
	int64		retry_at;		/* do not fetch before */
	bool		retry_if_usable;	/* it holds only while the keys can be
									 * used */
	int64		forced_at;		/* last refresh because AWS refused the keys */
	bool		refused;		/* that is under way */
	int			failures;		/* since the last success */
	TimestampTz stale_since;
	TimestampTz fetched_at;
	TimestampTz failed_at;
	uint64		fetches;
	SqsCachedError error;
	SqsCachedKeys keys;
};

typedef struct SqsKeysShared
{
	LWLock	   *lock;
	uint8		secret[PG_SHA256_DIGEST_LENGTH];	/* of the ids; see
													 * sqs_keys_id() */
	uint64		last_claim;
	pg_atomic_uint64 last_generation;
	pg_atomic_uint64 servers_changed_at;	/* 0: never */
	pg_atomic_uint64 mappings_changed_at;
	int64		swept_at;
	int64		warned_at;		/* that the table is full */
	uint64		unshared;		/* users that had to do without */
	int			n;
	SqsKeysEntry entries[FLEXIBLE_ARRAY_MEMBER];
} SqsKeysShared;

static SqsKeysShared *cache = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* ---- shared memory ---- */

static Size
shmem_size(void)
{
	return add_size(offsetof(SqsKeysShared, entries),
					mul_size(sqs_max_credentials, sizeof(SqsKeysEntry)));
}

static void
init_entry(SqsKeysEntry *entry)
{
	pg_atomic_init_u64(&entry->generation, 0);
	pg_atomic_init_u64(&entry->used_at, 0);
}

/* shmem_request hook. */
static void
request_shmem(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	RequestAddinShmemSpace(shmem_size());
	RequestNamedLWLockTranche("sqsbridge_keys", 1);
}

/*
 * shmem_startup hook.  The secret of the ids is made anew whenever the server
 * starts or restarts after a crash.
 */
static void
start_shmem(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);

	cache = ShmemInitStruct("sqsbridge keys", shmem_size(), &found);
	if (!found)
	{
		memset(cache, 0, shmem_size());
		cache->lock = &GetNamedLWLockTranche("sqsbridge_keys")[0].lock;
		cache->n = sqs_max_credentials;
		if (!pg_strong_random(cache->secret, sizeof(cache->secret)))
			ereport(FATAL,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("sqsbridge could not generate random numbers")));
		pg_atomic_init_u64(&cache->last_generation, 0);
		pg_atomic_init_u64(&cache->servers_changed_at, 0);
		pg_atomic_init_u64(&cache->mappings_changed_at, 0);
		for (int i = 0; i < cache->n; i++)
			init_entry(&cache->entries[i]);
	}

	LWLockRelease(AddinShmemInitLock);
}

/* Install the hooks that request and initialize shared memory. */
void
sqs_keys_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_shmem;
}

bool
sqs_keys_id(const char *text, size_t len, uint8 *id)
{
	pg_hmac_ctx *hmac = pg_hmac_create(PG_SHA256);
	bool		ok;

	ok = hmac != NULL &&
		pg_hmac_init(hmac, cache->secret, sizeof(cache->secret)) >= 0 &&
		pg_hmac_update(hmac, (const uint8 *) text, len) >= 0 &&
		pg_hmac_final(hmac, id, SQS_KEYS_ID_LEN) >= 0;
	if (hmac != NULL)
		pg_hmac_free(hmac);
	return ok;
}

/* ---- entries; the caller holds the lock, unless the entry is its own ---- */

static void
wipe_keys(SqsKeysEntry *entry)
{
	explicit_bzero(&entry->keys, sizeof(entry->keys));
	pg_atomic_write_u64(&entry->generation, 0);
	entry->refused = false;
	entry->stale_since = 0;
}

static void
free_entry(SqsKeysEntry *entry)
{
	wipe_keys(entry);
	explicit_bzero(entry->id, sizeof(entry->id));
	entry->in_use = false;
	entry->claim = 0;
	entry->claim_until = 0;
	entry->keys_claim = 0;
	entry->in_vain = 0;
	entry->refresh_at = entry->mandatory_at = entry->retry_at = entry->forced_at = 0;
	entry->retry_if_usable = false;
	entry->failures = 0;
	entry->fetched_at = entry->failed_at = 0;
	entry->fetches = 0;
	memset(&entry->error, 0, sizeof(entry->error));
	pg_atomic_write_u64(&entry->used_at, 0);
}

static bool
is_claimed(const SqsKeysEntry *entry, int64 now)
{
	return entry->claim != 0 && now < entry->claim_until;
}

static int64
idle_ms(SqsKeysEntry *entry, int64 now)
{
	return now - (int64) pg_atomic_read_u64(&entry->used_at);
}

static SqsKeysEntry *
find_entry(const uint8 *id)
{
	for (int i = 0; i < cache->n; i++)
	{
		SqsKeysEntry *entry = &cache->entries[i];

		if (entry->in_use && memcmp(entry->id, id, SQS_KEYS_ID_LEN) == 0)
			return entry;
	}
	return NULL;
}

/* May another id have this entry? */
static bool
is_evictable(SqsKeysEntry *entry, int64 now)
{
	return !is_claimed(entry, now) &&
		idle_ms(entry, now) >= (entry->keys.generation != 0 ? EVICT_MS : EVICT_FAILED_MS);
}

/*
 * The entry that a new id would get; NULL if all are in use.  Ids that any role
 * can make, by changing its user mapping, get half of the entries at most, so that
 * they do not crowd out those that only superusers can make.
 */
static SqsKeysEntry *
find_room(bool confined, int64 now)
{
	SqsKeysEntry *found = NULL;
	int			nconfined = 0;
	bool		only_confined;

	for (int i = 0; i < cache->n; i++)
		nconfined += cache->entries[i].in_use && cache->entries[i].confined;
	only_confined = confined && nconfined >= cache->n / 2;

	for (int i = 0; i < cache->n; i++)
	{
		SqsKeysEntry *entry = &cache->entries[i];

		if (only_confined && !(entry->in_use && entry->confined))
			continue;
		if (!entry->in_use)
			return entry;
		if (is_evictable(entry, now) &&
			(found == NULL || idle_ms(entry, now) > idle_ms(found, now)))
			found = entry;
	}
	return found;
}

/* An entry for a new id, or NULL. */
static SqsKeysEntry *
new_entry(const SqsKeysUser *user, int64 now)
{
	SqsKeysEntry *found = find_room(user->confined, now);

	if (found == NULL)
		return NULL;
	free_entry(found);
	found->in_use = true;
	found->confined = user->confined;
	memcpy(found->id, user->id, SQS_KEYS_ID_LEN);
	return found;
}

static bool
is_watched(pg_atomic_uint64 *changed_at, int64 now)
{
	int64		at = (int64) pg_atomic_read_u64(changed_at);

	return at != 0 && now - at < WATCH_MS;
}

/*
 * Wipe what is not needed any more.  Any role can change its user mapping, as
 * often as it likes, so that this concerns only keys that come from mappings.
 */
static void
sweep(int64 now)
{
	int64		wall = sqs_wall_ms();
	bool		servers = is_watched(&cache->servers_changed_at, now);
	bool		mappings = is_watched(&cache->mappings_changed_at, now);

	cache->swept_at = now;
	for (int i = 0; i < cache->n; i++)
	{
		SqsKeysEntry *entry = &cache->entries[i];
		bool		watched = servers || (mappings && entry->confined);

		if (!entry->in_use || is_claimed(entry, now))
			continue;
		if (idle_ms(entry, now) >= (watched ? WATCH_UNUSED_MS : UNUSED_MS))
			free_entry(entry);
		else if (entry->keys.generation != 0 && !entry->keys.outlive &&
				 entry->keys.expires < wall - EXPIRED_MS)
			wipe_keys(entry);
	}
}

/* ---- users ---- */

/* Does the entry still belong to the user's id? */
static bool
is_users(const SqsKeysUser *user)
{
	return user->entry != NULL &&
		(user->entry == user->own ||
		 (user->entry->in_use && memcmp(user->entry->id, user->id, SQS_KEYS_ID_LEN) == 0));
}

static bool
has_claim(const SqsKeysUser *user)
{
	return user->claim != 0 && is_users(user) && user->entry->claim == user->claim;
}

static void
free_own(SqsKeysUser *user)
{
	if (user->own == NULL)
		return;
	explicit_bzero(user->own, sizeof(SqsKeysEntry));
	free(user->own);
	if (user->entry == user->own)
		user->entry = NULL;
	user->own = NULL;
}

/*
 * Make sure that the user has an entry: a shared one or, if there is none, its
 * own.  True if the latter is new, and that should be logged.
 */
static bool
find_place(SqsKeysUser *user, int64 now)
{
	SqsKeysEntry *shared;
	bool		warn;

	if (user->entry != user->own && is_users(user))
		return false;
	shared = find_entry(user->id);
	if (shared == NULL)
		shared = new_entry(user, now);
	if (shared != NULL)
	{
		free_own(user);
		user->entry = shared;
		return false;
	}
	if (user->own != NULL)
		return false;

	user->own = calloc(1, sizeof(SqsKeysEntry));
	user->entry = user->own;
	if (user->own == NULL)
		return false;
	init_entry(user->own);
	user->own->in_use = true;
	cache->unshared++;
	warn = cache->warned_at == 0 || now - cache->warned_at >= WARN_MS;
	if (warn)
		cache->warned_at = now;
	return warn;
}

static void
touch(SqsKeysEntry *entry, int64 now)
{
	if (idle_ms(entry, now) >= TOUCH_MS)
		pg_atomic_write_u64(&entry->used_at, (uint64) now);
}

bool
sqs_keys_usable(const SqsCachedKeys *keys)
{
	return keys->generation != 0 && (keys->outlive || sqs_wall_ms() < keys->expires);
}

/*
 * Decide, and copy the keys to the user if it has others.  See the header of
 * this file.
 */
static SqsKeysAnswer
decide(SqsKeysUser *user, bool resident, int64 now)
{
	SqsKeysEntry *entry = user->entry;
	int64		wall = sqs_wall_ms();
	bool		claimed = is_claimed(entry, now);
	bool		usable = sqs_keys_usable(&entry->keys) && !entry->refused;
	int64		due = resident ? entry->refresh_at : entry->mandatory_at;
	bool		take;

	touch(entry, now);
	if (!usable && entry->in_vain >= CLAIMS_IN_VAIN)
		claimed = false;
	/* they may end before that: AWS refuses them, or the time of day was set */
	if (!usable && entry->retry_if_usable)
		entry->retry_at = 0;
	take = (!usable || wall >= due) && !claimed &&
		now >= entry->retry_at && now >= user->not_before;
	if (take)
	{
		/* one that was not ended by its holder */
		if (entry->claim != 0)
			entry->in_vain++;
		entry->claim = user->claim = ++cache->last_claim;
		entry->claim_until = now + SQS_KEYS_CLAIM_MS;
	}
	if (user->keys.generation != entry->keys.generation)
		user->keys = entry->keys;	/* what was there is overwritten */
	user->look_again = now + Min(Max(due - wall, LOOK_MS), MANDATORY_MS);

	if (take)
	{
		/* refused keys are not even used meanwhile */
		if (entry->refused)
			explicit_bzero(&user->keys, sizeof(user->keys));
		return SQS_KEYS_FETCH;
	}
	if (usable)
		return SQS_KEYS_READY;
	if (claimed)
		return SQS_KEYS_WAIT;
	if (now >= user->not_before)
		user->error = entry->error;
	return SQS_KEYS_FAILED;
}

/*
 * Raises no error: a message that is sent is an opportunity for interrupts, and
 * the user may have a claim by then, so they have to wait.
 */
SqsKeysAnswer
sqs_keys_get(SqsKeysUser *user, bool resident)
{
	int64		now = sqs_now_ms();
	SqsKeysAnswer answer = SQS_KEYS_FAILED;
	uint64		unshared;
	bool		warn;

	Assert(user->claim == 0);
	/* generations are unique, so this cannot be another id's */
	if (user->entry != NULL && now < user->look_again && sqs_keys_usable(&user->keys) &&
		pg_atomic_read_u64(&user->entry->generation) == user->keys.generation)
	{
		touch(user->entry, now);
		return SQS_KEYS_READY;
	}

	LWLockAcquire(cache->lock, LW_EXCLUSIVE);
	warn = find_place(user, now);
	unshared = cache->unshared;
	if (user->entry != NULL)
		answer = decide(user, resident, now);
	/* on a standby there is no launcher */
	if (now - cache->swept_at >= SWEEP_MS)
		sweep(now);
	LWLockRelease(cache->lock);

	if (user->entry == NULL)
	{
		memset(&user->error, 0, sizeof(user->error));
		strlcpy(user->error.message, "out of memory", sizeof(user->error.message));
	}
	if (warn)
	{
		HOLD_INTERRUPTS();
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("sqsbridge has no room for more temporary keys, and fetches them for single processes"),
				 errdetail("There are %d places, half of which are for keys of user mappings. Keys could not be shared %llu times since the server was started.",
						   cache->n, (unsigned long long) unshared),
				 errhint("Increase sqsbridge.max_credentials and restart the server.")));
		RESUME_INTERRUPTS();
	}
	return answer;
}

static int64
between(int64 low, int64 high)
{
	return low + (int64) ((high - low) * pg_prng_double(&pg_global_prng_state));
}

bool
sqs_keys_store(SqsKeysUser *user, SqsCachedKeys *keys)
{
	int64		now = sqs_now_ms();
	int64		wall = sqs_wall_ms();
	bool		ours;

	LWLockAcquire(cache->lock, LW_EXCLUSIVE);
	ours = user->claim != 0 && is_users(user) && user->claim > user->entry->keys_claim;
	if (ours)
	{
		SqsKeysEntry *entry = user->entry;
		int64		life = keys->expires - wall;

		keys->generation = pg_atomic_add_fetch_u64(&cache->last_generation, 1);
		entry->keys = *keys;
		pg_atomic_write_u64(&entry->generation, keys->generation);
		user->keys = *keys;
		entry->stale_since = 0;
		if (keys->expires == PG_INT64_MAX)
			entry->refresh_at = entry->mandatory_at = PG_INT64_MAX;
		else if (life <= 0)
		{
			/* the source has nothing better, so they must do */
			entry->refresh_at = entry->mandatory_at = wall + between(KEEP_MIN_MS, KEEP_MAX_MS);
			entry->stale_since = GetCurrentTimestamp();
		}
		else if (life < SHORT_LIFE_MS)
		{
			entry->refresh_at = wall + Max(life / 2, LEAST_LIFE_MS);
			entry->mandatory_at = wall + Max(life - life / 6, LEAST_LIFE_MS);
		}
		else
		{
			entry->refresh_at = keys->expires - ADVISORY_MS - between(0, ADVISORY_JITTER_MS);
			entry->mandatory_at = keys->expires - MANDATORY_MS;
		}
		entry->retry_at = 0;
		entry->retry_if_usable = false;
		entry->refused = false;
		user->failures = entry->failures;
		entry->failures = 0;
		entry->fetched_at = GetCurrentTimestamp();
		entry->failed_at = 0;
		entry->fetches++;
		memset(&entry->error, 0, sizeof(entry->error));
		entry->keys_claim = user->claim;
		entry->in_vain = 0;
		entry->claim = 0;
		user->look_again = now + LOOK_MS;
	}
	LWLockRelease(cache->lock);
	user->claim = 0;
	return ours;
}

bool
sqs_keys_fail(SqsKeysUser *user, const SqsCachedError *error)
{
	int64		now = sqs_now_ms();
	int64		wall = sqs_wall_ms();
	bool		ours;

	LWLockAcquire(cache->lock, LW_EXCLUSIVE);
	ours = has_claim(user);
	if (ours)
	{
		SqsKeysEntry *entry = user->entry;
		int64		window = entry->keys.expires - entry->mandatory_at;
		bool		usable = sqs_keys_usable(&entry->keys);
		int64		pause;

		user->failures = ++entry->failures;
		if (!usable)
			pause = error->lasting ? between(LASTING_MIN_MS, LASTING_MAX_MS) :
				sqs_backoff_ms(entry->failures, RETRY_MIN_MS, RETRY_MAX_MS);
		else if (wall < entry->mandatory_at)
			pause = Min(between(KEEP_MIN_MS, KEEP_MAX_MS), entry->mandatory_at - wall);
		else if (wall < entry->keys.expires)
			pause = Max(between(window / 6, window / 3), RETRY_MIN_MS);
		else
			pause = between(KEEP_MIN_MS, KEEP_MAX_MS);
		entry->retry_at = now + pause;
		entry->retry_if_usable = usable;
		if (entry->keys.generation != 0 && entry->stale_since == 0)
			entry->stale_since = GetCurrentTimestamp();
		entry->refused = false;
		entry->error = *error;
		entry->failed_at = GetCurrentTimestamp();
		entry->in_vain = 0;
		entry->claim = 0;
		user->look_again = 0;
	}
	LWLockRelease(cache->lock);
	user->claim = 0;
	if (!ours)
	{
		user->error = *error;
		user->not_before = now + RETRY_MIN_MS;
	}
	return ours;
}

void
sqs_keys_cannot(SqsKeysUser *user, const SqsCachedError *error)
{
	sqs_keys_give_up(user);
	user->error = *error;
	user->not_before = sqs_now_ms() + RETRY_MIN_MS;
}

void
sqs_keys_give_up(SqsKeysUser *user)
{
	if (user->claim == 0)
		return;
	LWLockAcquire(cache->lock, LW_EXCLUSIVE);
	if (has_claim(user))
	{
		user->entry->claim = 0;
		user->entry->in_vain++;
	}
	LWLockRelease(cache->lock);
	user->claim = 0;
	user->look_again = 0;
}

/*
 * Only the first of those whose call was refused makes the others wait for new
 * keys.  If these are refused, too, the rest is up to the caller: AWS may refuse
 * keys for other reasons than their age.
 */
bool
sqs_keys_reject(SqsKeysUser *user, uint64 generation)
{
	int64		now = sqs_now_ms();
	bool		again = true;

	LWLockAcquire(cache->lock, LW_EXCLUSIVE);
	if (is_users(user) && user->entry->keys.generation == generation && !user->entry->refused)
	{
		SqsKeysEntry *entry = user->entry;

		if (is_claimed(entry, now))
			entry->refused = true;
		else if (entry->forced_at != 0 && now - entry->forced_at < FORCED_PAUSE_MS)
			again = false;
		else
		{
			entry->forced_at = now;
			entry->refused = true;
			entry->retry_at = 0;
		}
	}
	LWLockRelease(cache->lock);
	user->look_again = 0;
	return again;
}

void
sqs_keys_release(SqsKeysUser *user)
{
	sqs_keys_give_up(user);
	free_own(user);
	explicit_bzero(user, sizeof(*user));
}

/* ---- changes of the configuration ---- */

void
sqs_keys_servers_changed(void)
{
	pg_atomic_write_u64(&cache->servers_changed_at, (uint64) sqs_now_ms());
}

void
sqs_keys_mappings_changed(void)
{
	pg_atomic_write_u64(&cache->mappings_changed_at, (uint64) sqs_now_ms());
}

/* The launcher does not run on a standby; there, see sqs_keys_get(). */
void
sqs_keys_sweep(void)
{
	LWLockAcquire(cache->lock, LW_EXCLUSIVE);
	sweep(sqs_now_ms());
	LWLockRelease(cache->lock);
}

/* ---- showing ---- */

static TimestampTz
timestamp_of(int64 wall)
{
	if (wall == PG_INT64_MAX || wall == 0)
		return 0;
	return (wall - (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000) * 1000;
}

/*
 * Of an id without an entry, only the state is set.  Without room for one, those
 * who use it have entries of their own, which nobody else can see.
 */
bool
sqs_keys_status(const uint8 *id, bool confined, SqsKeysStatus *status)
{
	int64		now = sqs_now_ms();
	SqsKeysEntry *entry;

	memset(status, 0, sizeof(*status));
	LWLockAcquire(cache->lock, LW_SHARED);
	entry = find_entry(id);
	if (entry != NULL)
	{
		bool		has = entry->keys.generation != 0;
		bool		claimed = is_claimed(entry, now);
		size_t		len = strlen(entry->keys.access_key_id);

		status->state = claimed ? (has ? "refreshing" : "fetching") :
			sqs_keys_usable(&entry->keys) ? "ready" : has ? "expired" :
			entry->failed_at != 0 ? "failed" : "not used";
		/* of a short one, which is not AWS's, not even these */
		if (len >= 16)
			strlcpy(status->key_id, entry->keys.access_key_id + len - 4, sizeof(status->key_id));
		strlcpy(status->arn, entry->keys.arn, sizeof(status->arn));
		if (has)
		{
			status->expires = timestamp_of(entry->keys.expires);
			status->refresh_at = timestamp_of(entry->refresh_at);
		}
		/* a failure has put it off */
		if (entry->retry_at > now)
			status->refresh_at = Max(status->refresh_at,
									 GetCurrentTimestamp() + (entry->retry_at - now) * 1000);
		status->fetched_at = entry->fetched_at;
		status->stale_since = entry->stale_since;
		status->failed_at = entry->failed_at;
		status->fetches = entry->fetches;
		strlcpy(status->error, entry->error.message, sizeof(status->error));
	}
	else
		status->state = find_room(confined, now) != NULL ? "not used" : "not shared";
	LWLockRelease(cache->lock);
	return entry != NULL;
}
