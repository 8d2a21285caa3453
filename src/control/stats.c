/*-------------------------------------------------------------------------
 *
 * stats.c
 *	  What sqs_stats, sqs_stats_outbox, sqs_stats_workers and
 *	  sqs_stats_in_flight show of shared memory.
 *
 * Everything is copied from shared memory before rows are made of it, so that no
 * lock is held while memory is allocated.  Counters survive the restart of a
 * worker, but not of the server.
 *
 * Error texts and messages are shown only to roles that have the privileges of
 * the queue's owner or of pg_read_all_stats; everything else is public.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/databases.h"
#include "base/errors.h"
#include "base/outbox_health.h"
#include "base/privileges.h"
#include "base/queue_stats.h"
#include "base/route_stats.h"
#include "base/settings.h"
#include "base/shmem.h"
#include "base/slots.h"
#include "config/queues.h"
#include "control/launcher.h"
#include "receive/queue_state.h"

/* Columns of sqs_get_queue_stats(): two runs of counters, and the others. */
#define QUEUE_STATS_COLUMNS \
	((SQS_OUTBOX_FAILED - SQS_RECEIVED + 1) + (SQS_BYTES_SENT - SQS_CALLS_RECEIVE + 1) + 24)

PG_FUNCTION_INFO_V1(sqs_get_queue_stats);
PG_FUNCTION_INFO_V1(sqs_get_workers);
PG_FUNCTION_INFO_V1(sqs_get_hindrance);
PG_FUNCTION_INFO_V1(sqs_get_in_flight);
PG_FUNCTION_INFO_V1(sqs_stats_reset);

static void
put_timestamp(Datum *value, bool *null, TimestampTz at)
{
	*null = at == 0;
	*value = TimestampTzGetDatum(at);
}

static void
put_string(Datum *value, bool *null, const char *text)
{
	*null = text == NULL;
	if (text != NULL)
		*value = CStringGetTextDatum(text);
}

/* Four columns from n on; the text only for those who may see it. */
static int
put_errors(Datum *values, bool *nulls, int n, const SqsErrors *errors, bool visible)
{
	put_timestamp(&values[n], &nulls[n], errors->last_at), n++;
	put_string(&values[n], &nulls[n],
			   visible && errors->last[0] != '\0' ? errors->last : NULL), n++;
	put_timestamp(&values[n], &nulls[n], errors->since), n++;
	values[n++] = Int64GetDatum(errors->consecutive);
	return n;
}

/*
 * Behind sqs_stats and sqs_stats_outbox: a row for each queue of this database
 * that has an entry in shared memory.
 */
Datum
sqs_get_queue_stats(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	sqs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	if (rsinfo->setDesc->natts != QUEUE_STATS_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sqs_get_queue_stats() has %d columns instead of %d",
						rsinfo->setDesc->natts, QUEUE_STATS_COLUMNS),
				 errhint("Run ALTER EXTENSION sqsbridge UPDATE, or restart the server if the library was replaced.")));

	for (int i = 0; i < sqs_shared->nqueues; i++)
	{
		SqsQueueStats *stats = &sqs_shared->queues[i];
		SqsQueueStats copy;
		uint64		counters[SQS_NUM_COUNTERS];
		Datum		histogram[SQS_HISTOGRAM_BUCKETS];
		Datum		values[QUEUE_STATS_COLUMNS];
		bool		nulls[QUEUE_STATS_COLUMNS];
		int			n = 0;
		bool		visible;

		if (stats->dboid != MyDatabaseId)
			continue;

		SpinLockAcquire(&stats->mutex);
		copy.owner = stats->owner;
		copy.state = stats->state;
		copy.state_since = stats->state_since;
		copy.handler_max_micros = stats->handler_max_micros;
		copy.last_receive_at = stats->last_receive_at;
		copy.last_success_at = stats->last_success_at;
		copy.next_poll_at = stats->next_poll_at;
		copy.reset_at = stats->reset_at;
		copy.errors = stats->errors;
		copy.outbox = stats->outbox;
		SpinLockRelease(&stats->mutex);
		for (int c = 0; c < SQS_NUM_COUNTERS; c++)
			counters[c] = pg_atomic_read_u64(&stats->counters[c]);
		for (int b = 0; b < SQS_HISTOGRAM_BUCKETS; b++)
			histogram[b] = Int64GetDatum((int64) pg_atomic_read_u64(&stats->histogram[b]));

		visible = sqs_may_see_stats_of(copy.owner);
		memset(nulls, 0, sizeof(nulls));
		values[n++] = Int32GetDatum(stats->queue_id);
		put_string(&values[n], &nulls[n], sqs_queue_state_name(copy.state)), n++;
		put_timestamp(&values[n], &nulls[n], copy.state_since), n++;
		for (int c = SQS_RECEIVED; c <= SQS_OUTBOX_FAILED; c++)
			values[n++] = Int64GetDatum(counters[c]);
		values[n++] = Int32GetDatum(pg_atomic_read_u32(&stats->in_flight));
		for (int c = SQS_CALLS_RECEIVE; c <= SQS_BYTES_SENT; c++)
			values[n++] = Int64GetDatum(counters[c]);
		values[n++] = Float8GetDatum(counters[SQS_HANDLER_MICROS] / 1000.0);
		values[n++] = Float8GetDatum(copy.handler_max_micros / 1000.0);
		values[n++] = PointerGetDatum(construct_array(histogram, SQS_HISTOGRAM_BUCKETS,
													  INT8OID, sizeof(int64),
													  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
		put_timestamp(&values[n], &nulls[n], copy.last_receive_at), n++;
		put_timestamp(&values[n], &nulls[n], copy.last_success_at), n++;
		n = put_errors(values, nulls, n, &copy.errors, visible);
		put_timestamp(&values[n], &nulls[n], copy.next_poll_at), n++;
		put_string(&values[n], &nulls[n], sqs_outbox_state_name(copy.outbox.state)), n++;
		put_timestamp(&values[n], &nulls[n], copy.outbox.state_since), n++;
		values[n++] = Int32GetDatum(pg_atomic_read_u32(&stats->outbox_in_flight));
		put_timestamp(&values[n], &nulls[n], copy.outbox.last_success_at), n++;
		n = put_errors(values, nulls, n, &copy.outbox.errors, visible);
		put_timestamp(&values[n], &nulls[n], copy.outbox.next_attempt_at), n++;
		put_timestamp(&values[n], &nulls[n], copy.reset_at), n++;
		Assert(n == QUEUE_STATS_COLUMNS);

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * Of the jobs of a database's worker, the one with an error now, or the last
 * that had one.  The text says which it is.
 */
static void
worst_job(Oid dboid, SqsErrors *worst)
{
	SqsDatabase *database = sqs_database_find(dboid);

	memset(worst, 0, sizeof(SqsErrors));
	for (SqsJob job = 0; database != NULL && job < SQS_NUM_JOBS; job++)
	{
		SqsErrors	errors;

		SpinLockAcquire(&database->mutex);
		errors = database->jobs[job];
		SpinLockRelease(&database->mutex);
		if (errors.last_at == 0 ||
			((worst->since != 0) > (errors.since != 0)) ||
			((worst->since != 0) == (errors.since != 0) && worst->last_at >= errors.last_at))
			continue;
		*worst = errors;
		sqs_copy_text(worst->last, psprintf("%s: %s", sqs_job_name(job), errors.last),
					  sizeof(worst->last));
	}
}

/* Behind sqs_stats_workers: a row for each process, of all databases. */
Datum
sqs_get_workers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		visible = sqs_may_see_stats_of(InvalidOid);
	SqsWorkerSlot *copy;
	pid_t		launcher_pid;

	sqs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);

	copy = palloc(sizeof(SqsWorkerSlot) * sqs_shared->nslots);
	LWLockAcquire(sqs_shared->lock, LW_SHARED);
	memcpy(copy, sqs_shared->slots, sizeof(SqsWorkerSlot) * sqs_shared->nslots);
	launcher_pid = sqs_shared->launcher_pid;
	LWLockRelease(sqs_shared->lock);

	for (int i = -1; i < sqs_shared->nslots; i++)
	{
		Datum		values[12];
		bool		nulls[12];

		memset(nulls, 0, sizeof(nulls));
		nulls[8] = nulls[9] = nulls[10] = nulls[11] = true;
		if (i < 0)
		{
			if (launcher_pid == 0)
				continue;
			values[0] = CStringGetTextDatum("launcher");
			values[1] = Int32GetDatum(launcher_pid);
			nulls[2] = nulls[3] = nulls[4] = nulls[6] = nulls[7] = true;
			values[5] = CStringGetTextDatum("running");
		}
		else
		{
			SqsWorkerSlot *slot = &copy[i];

			if (!slot->in_use)
				continue;
			values[0] = CStringGetTextDatum(sqs_worker_kind_name(slot->kind));
			nulls[1] = slot->pid == 0;
			values[1] = Int32GetDatum(slot->pid);
			values[2] = ObjectIdGetDatum(slot->dboid);
			nulls[3] = slot->queue_id == 0;
			values[3] = Int32GetDatum(slot->queue_id);
			nulls[4] = !OidIsValid(slot->role);
			values[4] = ObjectIdGetDatum(slot->role);
			values[5] = CStringGetTextDatum(sqs_worker_state_name(pg_atomic_read_u32(&slot->state)));
			put_timestamp(&values[6], &nulls[6], slot->start_time);
			values[7] = Int64GetDatum(pg_atomic_read_u64(&slot->messages));
			if (slot->kind == SQS_DATABASE_WORKER)
			{
				SqsErrors	errors;

				worst_job(slot->dboid, &errors);
				nulls[11] = false;
				(void) put_errors(values, nulls, 8, &errors, visible);
			}
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * What keeps queues of this database from running that have no entry to say
 * so themselves: a state, or NULL.
 */
Datum
sqs_get_hindrance(PG_FUNCTION_ARGS)
{
	SqsDatabase *database;

	sqs_require_preloaded();
	if (!sqs_database_admitted(get_database_name(MyDatabaseId)))
		PG_RETURN_TEXT_P(cstring_to_text("not admitted"));
	database = sqs_database_find(MyDatabaseId);
	if (database != NULL && database->no_room)
		PG_RETURN_TEXT_P(cstring_to_text(sqs_queue_state_name(SQS_QUEUE_NO_ROOM)));
	PG_RETURN_NULL();
}

/*
 * The queue worker owns its segment and may leave with it at any time; a
 * segment that cannot be attached any more has no messages.
 */
Datum
sqs_get_in_flight(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	sqs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);

	for (int i = 0; i < sqs_shared->nslots; i++)
	{
		SqsWorkerSlot *slot = &sqs_shared->slots[i];
		dsm_handle	handle = DSM_HANDLE_INVALID;
		dsm_segment *segment = NULL;
		SharedLeases *leases;
		SharedLease *copy;

		/* a worker that needs a larger one replaces its segment */
		do
		{
			dsm_handle	before = handle;

			handle = DSM_HANDLE_INVALID;
			LWLockAcquire(sqs_shared->lock, LW_SHARED);
			if (slot->in_use && slot->kind == SQS_QUEUE_WORKER && slot->dboid == MyDatabaseId)
				handle = slot->segment;
			LWLockRelease(sqs_shared->lock);
			if (handle == before)
				break;
			segment = dsm_attach(handle);
		} while (segment == NULL);
		if (segment == NULL)
			continue;

		leases = dsm_segment_address(segment);
		if (sqs_may_see_stats_of(leases->owner))
		{
			int			size = leases->size;

			copy = palloc(size * sizeof(SharedLease));
			LWLockAcquire(sqs_slot_lock(i), LW_SHARED);
			memcpy(copy, leases->leases, size * sizeof(SharedLease));
			LWLockRelease(sqs_slot_lock(i));

			for (int j = 0; j < size; j++)
			{
				SharedLease *lease = &copy[j];
				Datum		values[8];
				bool		nulls[8];

				if (!lease->used)
					continue;
				memset(nulls, 0, sizeof(nulls));
				values[0] = Int32GetDatum(leases->queue_id);
				values[1] = CStringGetTextDatum(lease->message_id);
				put_string(&values[2], &nulls[2],
						   lease->group_id[0] != '\0' ? lease->group_id : NULL);
				values[3] = Int32GetDatum(lease->receive_count);
				values[4] = CStringGetTextDatum(lease->state == LEASE_HANDED ? "running" :
												lease->state == LEASE_COMMITTED ? "finished" : "waiting");
				nulls[5] = lease->handler_pid == 0;
				values[5] = Int32GetDatum(lease->handler_pid);
				put_timestamp(&values[6], &nulls[6], lease->received_at);
				put_timestamp(&values[7], &nulls[7], lease->until);
				tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
			}
			pfree(copy);
		}
		dsm_detach(segment);
	}
	return (Datum) 0;
}

/* NULL: all queues of this database. */
Datum
sqs_stats_reset(PG_FUNCTION_ARGS)
{
	List	   *queues;
	ListCell   *lc;
	char	   *name = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		found = false;

	sqs_require_preloaded();
	queues = sqs_catalog_queues();
	foreach(lc, queues)
	{
		SqsQueueConfig *queue = lfirst(lc);
		SqsQueueStats *stats;

		if (name != NULL && strcmp(queue->name, name) != 0)
			continue;
		found = true;
		stats = sqs_stats_find(MyDatabaseId, queue->queue_id);
		if (stats != NULL)
			sqs_stats_reset_entry(stats);
		sqs_route_stats_reset(queue->queue_id);
	}
	if (name != NULL && !found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("queue \"%s\" does not exist", name),
				 errhint("The registered queues are listed in sqs_queues.")));
	PG_RETURN_VOID();
}
