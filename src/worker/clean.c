/*-------------------------------------------------------------------------
 *
 * clean.c
 *	  Deletes rows that have been kept long enough: a job of the database
 *	  worker.
 *
 * The caller has an error boundary around it, bounds its time, and has it
 * canceled when the worker is to stop.  An error here must leave nothing
 * behind but an aborted transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog.h"
#include "compat.h"
#include "sqsbridge.h"
#include "worker/clean.h"
#include "worker/worker.h"

#define CLEAN_BATCH				5000

/*
 * Delete what has been kept long enough, in transactions of at most
 * CLEAN_BATCH rows.  Rows of a queue that is configured no more are kept for
 * a day.  Returns true if there may be more.
 */
bool
sqs_clean(void)
{
	char	   *schema;
	char	   *sql;
	uint64		deleted = 0;
	Datum		values[1];
	Oid			types[1] = {INT4OID};

	sqs_begin();
	if (!OidIsValid(sqs_extension_oid()))
	{
		sqs_commit();
		return false;
	}
	schema = (char *) quote_identifier(get_namespace_name(sqs_extension_schema()));

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");

	/*
	 * search_path is pg_catalog, so operators need no qualification.  Queue by
	 * queue along the index on (queue_id, handled_at), so that a large inbox
	 * of which nothing has expired costs a few pages a minute.
	 */
	sql = psprintf("WITH RECURSIVE ids(queue_id) AS ("
				   "(SELECT queue_id FROM %s.sqs_inbox ORDER BY queue_id LIMIT 1) "
				   "UNION ALL "
				   "SELECT (SELECT i.queue_id FROM %s.sqs_inbox i WHERE i.queue_id > ids.queue_id "
				   "ORDER BY i.queue_id LIMIT 1) FROM ids WHERE ids.queue_id IS NOT NULL) "
				   "DELETE FROM %s.sqs_inbox WHERE ctid = ANY (ARRAY("
				   "SELECT x.ctid FROM ids LEFT JOIN %s.sqs_queues q USING (queue_id), "
				   "LATERAL (SELECT i.ctid FROM %s.sqs_inbox i WHERE i.queue_id = ids.queue_id "
				   "AND i.handled_at < now() - COALESCE(q.dedup_retention, '1 day'::interval) "
				   "ORDER BY i.handled_at LIMIT %d) x LIMIT %d))",
				   schema, schema, schema, schema, schema, CLEAN_BATCH, CLEAN_BATCH);
	if (SPI_execute(sql, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not clear sqs_inbox");
	deleted = SPI_processed;

	sql = psprintf("DELETE FROM %s.sqs_failures WHERE ctid = ANY (ARRAY("
				   "SELECT f.ctid FROM %s.sqs_failures f "
				   "WHERE f.failed_at < now() - make_interval(secs => $1) LIMIT %d))",
				   schema, schema, CLEAN_BATCH);
	values[0] = Int32GetDatum(sqs_failure_retention);
	if (SPI_execute_with_args(sql, 1, types, values, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not clear sqs_failures");
	deleted = Max(deleted, SPI_processed);

	SPI_finish();
	sqs_commit();
	return deleted >= CLEAN_BATCH;
}
