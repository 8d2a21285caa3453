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

/* The tables, open for a transaction that reads. */
typedef struct OutboxTables
{
	Relation	rows;
	Relation	rows_index;		/* (batch_id, id) */
	Relation	batches;
	Relation	xid_index;		/* (xid, batch_id, queue_id) */
	Relation	order_index;	/* (queue_id, deliver_at, position) */
	Snapshot	snapshot;
	TimestampTz now;

	/* where rows are deleted */
	SqsWriter  *row_writer;
	SqsWriter  *batch_writer;
	SqsWriter  *failures;		/* NULL: not needed */
	TupleTableSlot *row_slot;
	TupleTableSlot *batch_slot;
	BlockNumber row_blocks;		/* not truncated while they are locked */
	BlockNumber batch_blocks;
} OutboxTables;

/*
 * Open the tables in this mode, in a transaction with an active snapshot.
 * False, with the table's name in *locked, if somebody holds a lock that
 * conflicts.  Either way sqs_relay_close_tables() is to be called; locks are
 * kept to the end of the transaction, which is near.
 */
extern bool sqs_relay_open_tables(Relay *relay, OutboxTables *tables, LOCKMODE mode,
								  const char **locked);

/* The same, to delete rows; with failures, to move them there. */
extern bool sqs_relay_open_tables_to_delete(Relay *relay, OutboxTables *tables, bool failures,
											const char **locked);
extern void sqs_relay_close_tables(OutboxTables *tables);

/* NULL, with its name in *locked, if somebody has it locked. */
extern Relation sqs_relay_open_table(SqsTable table, LOCKMODE mode, const char **locked);

/* "table ... is locked" */
extern char *sqs_relay_is_locked_text(const char *table);

#endif							/* SQSBRIDGE_RELAY_TABLES_H */
