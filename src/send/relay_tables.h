/*-------------------------------------------------------------------------
 *
 * relay_tables.h
 *	  The outbox's tables, open for one transaction of the relay.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RELAY_TABLES_H
#define SQSBRIDGE_RELAY_TABLES_H

#include "executor/tuptable.h"
#include "storage/block.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "base/table_writer.h"
#include "send/relay_state.h"

/* The tables, open for one transaction. */
typedef struct OutboxTables
{
	Relation	rows;
	Relation	rows_index;		/* (batch_id, id) */
	Relation	batches;
	Relation	xid_index;		/* (xid, batch_id, queue_id) */
	Relation	order_index;	/* (queue_id, deliver_at, position) */
	Snapshot	snapshot;
	TimestampTz now;

	/* only if opened for deleting rows */
	SqsWriter  *row_writer;
	SqsWriter  *batch_writer;
	SqsWriter  *failures;		/* or NULL */
	TupleTableSlot *row_slot;
	TupleTableSlot *batch_slot;
	BlockNumber row_blocks;		/* cannot shrink: the table is locked */
	BlockNumber batch_blocks;
} OutboxTables;

/* Open the tables and indexes; false if one of them is locked */
extern bool sqs_relay_open_tables(Relay *relay, OutboxTables *tables, LOCKMODE mode,
								  const char **locked);

/* The same, for deleting rows */
extern bool sqs_relay_open_tables_to_delete(Relay *relay, OutboxTables *tables, bool failures,
											const char **locked);
extern void sqs_relay_close_tables(OutboxTables *tables);

/* Open one table; NULL if it is locked */
extern Relation sqs_relay_open_table(SqsTable table, LOCKMODE mode, const char **locked);

/* "table ... is locked" */
extern char *sqs_relay_is_locked_text(const char *table);

#endif							/* SQSBRIDGE_RELAY_TABLES_H */
