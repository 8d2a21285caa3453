/*-------------------------------------------------------------------------
 *
 * route_stats.c
 *	  The statistics of routes in shared memory.
 *
 * They are counted by handler workers.  There are 4,096 entries for the whole
 * cluster, which is 350 kB, so that neither a queue with a thousand routes nor a
 * role with many such queues needs more.  An entry belongs to a route of a queue
 * by the hash of its key, and is in one of the 16 places that follow its hash.  If
 * other routes have them all, the one that has not been used for the longest
 * time loses its place, provided that it has not been used for UNUSED_MS;
 * otherwise the new one is not counted.
 *
 * A process keeps a pointer to an entry, and compares whose it is each time.
 * Should the entry change hands just then, the other route gets one message too
 * many.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lwlock.h"

#include "base/route_stats.h"

#define ROUTE_PLACES	16
#define UNUSED_MS		600000

static uint64
hash_key(int32 queue_id, const char *key)
{
	return hash_bytes_extended((const unsigned char *) key, (int) strlen(key),
							   (uint64) queue_id);
}

static bool
is_entry_of(const SqsRouteStats *entry, int32 queue_id, uint64 key_hash)
{
	return entry->key_hash == key_hash && entry->queue_id == queue_id &&
		entry->dboid == MyDatabaseId;
}

/*
 * The entry of a route, or else the one that it may take, which has another
 * owner or none.  NULL: there is neither.  Under the control lock.
 */
static SqsRouteStats *
find_place(int32 queue_id, uint64 key_hash, TimestampTz now)
{
	SqsRouteStats *best = NULL;

	for (int i = 0; i < ROUTE_PLACES; i++)
	{
		SqsRouteStats *entry = &sqs_shared->routes[(key_hash + i) % SQS_ROUTE_ENTRIES];

		if (is_entry_of(entry, queue_id, key_hash))
			return entry;
		if (best != NULL && !OidIsValid(best->dboid))
			continue;
		if (!OidIsValid(entry->dboid) || best == NULL ||
			pg_atomic_read_u64(&entry->used_at) < pg_atomic_read_u64(&best->used_at))
			best = entry;
	}
	if (OidIsValid(best->dboid) &&
		!TimestampDifferenceExceeds((TimestampTz) pg_atomic_read_u64(&best->used_at), now,
									UNUSED_MS))
		return NULL;
	return best;
}

static void
reset_counters(SqsRouteStats *entry)
{
	for (int c = 0; c < SQS_NUM_ROUTE_COUNTERS; c++)
		pg_atomic_write_u64(&entry->counters[c], 0);
}

void
sqs_route_count(SqsRouteStats **entry, int32 queue_id, const char *key,
				SqsRouteCounter counter, uint64 micros)
{
	uint64		key_hash = hash_key(queue_id, key);
	TimestampTz now = GetCurrentTimestamp();
	uint64		max;

	if (*entry == NULL || !is_entry_of(*entry, queue_id, key_hash))
	{
		LWLockAcquire(sqs_shared->lock, LW_EXCLUSIVE);
		*entry = find_place(queue_id, key_hash, now);
		if (*entry != NULL && !is_entry_of(*entry, queue_id, key_hash))
		{
			reset_counters(*entry);
			(*entry)->dboid = MyDatabaseId;
			(*entry)->queue_id = queue_id;
			(*entry)->key_hash = key_hash;
		}
		if (*entry != NULL)
			pg_atomic_write_u64(&(*entry)->used_at, (uint64) now);
		LWLockRelease(sqs_shared->lock);
	}
	if (*entry == NULL)
		return;

	pg_atomic_write_u64(&(*entry)->used_at, (uint64) now);
	if (counter < SQS_NUM_ROUTE_COUNTERS)
		pg_atomic_fetch_add_u64(&(*entry)->counters[counter], 1);
	pg_atomic_fetch_add_u64(&(*entry)->counters[SQS_ROUTE_MICROS], (int64) micros);
	max = pg_atomic_read_u64(&(*entry)->counters[SQS_ROUTE_MAX_MICROS]);
	while (micros > max &&
		   !pg_atomic_compare_exchange_u64(&(*entry)->counters[SQS_ROUTE_MAX_MICROS], &max, micros))
		 /* another process changed it: compare with its value */ ;
}

bool
sqs_route_counters(int32 queue_id, const char *key, uint64 counters[SQS_NUM_ROUTE_COUNTERS])
{
	uint64		key_hash = hash_key(queue_id, key);
	SqsRouteStats *entry;

	memset(counters, 0, sizeof(uint64) * SQS_NUM_ROUTE_COUNTERS);
	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	entry = find_place(queue_id, key_hash, GetCurrentTimestamp());
	if (entry != NULL && is_entry_of(entry, queue_id, key_hash))
	{
		for (int c = 0; c < SQS_NUM_ROUTE_COUNTERS; c++)
			counters[c] = pg_atomic_read_u64(&entry->counters[c]);
	}
	LWLockRelease(sqs_shared->lock);
	return entry != NULL;
}

void
sqs_route_stats_reset(int32 queue_id)
{
	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	for (int i = 0; i < SQS_ROUTE_ENTRIES; i++)
	{
		SqsRouteStats *entry = &sqs_shared->routes[i];

		if (entry->dboid == MyDatabaseId && entry->queue_id == queue_id)
			reset_counters(entry);
	}
	LWLockRelease(sqs_shared->lock);
}
