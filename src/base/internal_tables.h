/*-------------------------------------------------------------------------
 *
 * internal_tables.h
 *	  The tables of schema sqsbridge_internal: which there are, their columns
 *	  and keys, and how to open them.
 *
 * Only sqsbridge itself, superusers and pg_dump read or write these tables.
 * Users see views over functions that scan them.  Since users may have changed
 * a table, every table is opened by the functions below, which make sure that
 * it still is what this library expects, and otherwise report what is wrong.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_INTERNAL_TABLES_H
#define SQSBRIDGE_INTERNAL_TABLES_H

#include "access/genam.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

#define SQS_INTERNAL_SCHEMA		"sqsbridge_internal"

typedef enum SqsTable
{
	SQS_TABLE_QUEUES,
	SQS_TABLE_ROUTES,
	SQS_TABLE_INBOX,
	SQS_TABLE_INBOX_MARKS,
	SQS_TABLE_INBOX_DOUBTS,
	SQS_TABLE_FAILURES,
	SQS_TABLE_DEAD_LETTERS,
	SQS_TABLE_ATTEMPTS,
	SQS_TABLE_PARKED_GROUPS,
	SQS_TABLE_OUTBOX_ROWS,
	SQS_TABLE_OUTBOX_BATCHES,
	SQS_TABLE_OUTBOX_FAILURES,
	SQS_TABLE_ERROR_RULES,
	SQS_NUM_TABLES
} SqsTable;

/* Indexes that the code relies on; found by their columns, not by name. */
typedef enum SqsIndex
{
	SQS_INDEX_QUEUES_PKEY,		/* (queue_id) */
	SQS_INDEX_QUEUES_NAME,		/* (name), unique */
	SQS_INDEX_ROUTES_PKEY,		/* (queue_id, key) */
	SQS_INDEX_INBOX_PKEY,		/* (queue_id, message_key) */
	SQS_INDEX_INBOX_STAMP,		/* (queue_id, stamp) */
	SQS_INDEX_INBOX_MARKS_PKEY, /* (queue_id, at) */
	SQS_INDEX_INBOX_DOUBTS_PKEY,	/* (queue_id, from_stamp, to_stamp) */
	SQS_INDEX_FAILURES_TIME,	/* (queue_id, failed_at) */
	SQS_INDEX_DEAD_LETTERS_PKEY,	/* (id) */
	SQS_INDEX_DEAD_LETTERS_TIME,	/* (queue_id, resolved_at, died_at) */
	SQS_INDEX_ATTEMPTS_PKEY,	/* (queue_id, message_id) */
	SQS_INDEX_ATTEMPTS_TIME,	/* (queue_id, last_failed_at) */
	SQS_INDEX_PARKED_GROUPS_PKEY,	/* (queue_id, group_id) */
	SQS_INDEX_OUTBOX_ROWS_PKEY, /* (batch_id, id) */
	SQS_INDEX_OUTBOX_BATCHES_PKEY,	/* (xid, batch_id, queue_id) */
	SQS_INDEX_OUTBOX_BATCHES_ORDER, /* (queue_id, deliver_at, position) */
	SQS_INDEX_OUTBOX_FAILURES_PKEY, /* (id) */
	SQS_INDEX_ERROR_RULES_PKEY, /* (queue_id, sqlstate) */
	SQS_NUM_INDEXES
} SqsIndex;

/* Columns, in the order of the tables.  Those of queues: see queue_row.h. */

typedef enum RouteColumn
{
	ROUTE_QUEUE_ID,				/* integer */
	ROUTE_KEY,					/* text */
	ROUTE_NUMBER,				/* smallint */
	ROUTE_HANDLER,				/* text: a function, qualified, */
	ROUTE_HANDLER_OID,			/* oid: its OID, */
	ROUTE_HANDLER_OWNER_OID,	/* oid: its owner, */
	ROUTE_HANDLER_OWNER,		/* text: and that role's name */
	ROUTE_HANDLER_TIMEOUT,		/* interval, or NULL */
	ROUTE_CREATED_AT,			/* timestamptz */
	ROUTE_NATTS
} RouteColumn;

typedef enum InboxColumn
{
	INBOX_QUEUE_ID,				/* integer */
	INBOX_MESSAGE_KEY,			/* text */
	INBOX_STAMP,				/* timestamptz */
	INBOX_NATTS
} InboxColumn;

typedef enum InboxMarkColumn
{
	MARK_QUEUE_ID,				/* integer */
	MARK_AT,					/* timestamptz */
	MARK_LOW_WATER,				/* timestamptz */
	MARK_OPEN,					/* boolean */
	MARK_NATTS
} InboxMarkColumn;

typedef enum InboxDoubtColumn
{
	DOUBT_QUEUE_ID,				/* integer */
	DOUBT_FROM_STAMP,			/* timestamptz */
	DOUBT_TO_STAMP,				/* timestamptz */
	DOUBT_KEEP_UNTIL,			/* timestamptz */
	DOUBT_NATTS
} InboxDoubtColumn;

typedef enum FailureRowColumn
{
	FAILED_QUEUE_ID,			/* integer */
	FAILED_AT,					/* timestamptz */
	FAILED_QUEUE,				/* text: the queue's name */
	FAILED_OWNER_OID,			/* oid: the queue's owner, */
	FAILED_OWNER,				/* text: and its name */
	FAILED_MESSAGE_ID,			/* text */
	FAILED_RECEIVE_COUNT,		/* integer */
	FAILED_SQLSTATE,			/* text */
	FAILED_MESSAGE,				/* text, or NULL, as what follows */
	FAILED_DETAIL,
	FAILED_HINT,
	FAILED_CONTEXT,
	FAILED_HANDLER_PID,			/* integer */
	FAILED_ATTEMPT,				/* integer */
	FAILED_ACTION,				/* text */
	FAILED_RETRY_AT,			/* timestamptz */
	FAILED_ROUTE,				/* text */
	FAILED_NATTS
} FailureRowColumn;

typedef enum DeadLetterColumn
{
	DEAD_QUEUE_ID,				/* integer */
	DEAD_ID,					/* bigint */
	DEAD_QUEUE,					/* text: the queue's name */
	DEAD_OWNER_OID,				/* oid: the queue's owner, */
	DEAD_OWNER,					/* text: and its name */
	DEAD_STATE,					/* text: dead, parked, redriven, discarded */
	DEAD_MESSAGE_ID,			/* text */
	DEAD_GROUP_ID,				/* text, or NULL */
	DEAD_DEDUPLICATION_ID,		/* text, or NULL */
	DEAD_SEQUENCE_NUMBER,		/* numeric, or NULL */
	DEAD_BODY,					/* text; NULL if there is "raw", as the next 3 */
	DEAD_ATTRIBUTES,			/* jsonb */
	DEAD_SYSTEM_ATTRIBUTES,		/* jsonb */
	DEAD_ENVELOPE,				/* jsonb, or NULL */
	DEAD_RAW,					/* bytea, or NULL: the message, if the
								 * database's encoding cannot represent it */
	DEAD_ROUTE,					/* text, or NULL */
	DEAD_SENT_AT,				/* timestamptz, or NULL */
	DEAD_FIRST_RECEIVED_AT,		/* timestamptz, or NULL */
	DEAD_DIED_AT,				/* timestamptz */
	DEAD_RECEIVE_COUNT,			/* integer, or NULL */
	DEAD_ATTEMPTS,				/* integer */
	DEAD_REASON,				/* text */
	DEAD_SQLSTATE,				/* text, or NULL, as what follows */
	DEAD_MESSAGE,
	DEAD_DETAIL,
	DEAD_HINT,
	DEAD_CONTEXT,
	DEAD_HANDLER_PID,			/* integer, or NULL */
	DEAD_RESOLVED_AT,			/* timestamptz; NULL: dead or parked */
	DEAD_RESOLVED_BY_OID,		/* oid, or NULL: a role, */
	DEAD_RESOLVED_BY,			/* text, or NULL: and its name */
	DEAD_REDRIVEN_AS,			/* bigint, or NULL: id in the outbox */
	DEAD_NATTS
} DeadLetterColumn;

typedef enum AttemptColumn
{
	ATTEMPT_QUEUE_ID,			/* integer */
	ATTEMPT_MESSAGE_ID,			/* text */
	ATTEMPT_ATTEMPTS,			/* integer */
	ATTEMPT_LAST_RECEIVE_COUNT, /* integer */
	ATTEMPT_FIRST_FAILED_AT,	/* timestamptz */
	ATTEMPT_LAST_FAILED_AT,		/* timestamptz */
	ATTEMPT_LAST_SQLSTATE,		/* text */
	ATTEMPT_MARKS,				/* integer */
	ATTEMPT_MARKED_AT,			/* timestamptz, or NULL */
	ATTEMPT_NATTS
} AttemptColumn;

typedef enum ParkedGroupColumn
{
	PARKED_QUEUE_ID,			/* integer */
	PARKED_GROUP_ID,			/* text */
	PARKED_AT,					/* timestamptz */
	PARKED_DEAD_LETTER,			/* bigint: id of the dead letter; NULL: it
								 * went to a queue */
	PARKED_NATTS
} ParkedGroupColumn;

typedef enum OutboxColumn
{
	ROW_BATCH_ID,				/* bigint */
	ROW_ID,						/* bigint */
	ROW_QUEUE_ID,				/* integer */
	ROW_QUEUE,					/* text: the queue's name */
	ROW_TOKEN,					/* uuid */
	ROW_ENQUEUED_AT,			/* timestamptz */
	ROW_ENQUEUED_BY_OID,		/* oid: a role, */
	ROW_ENQUEUED_BY,			/* text: and its name */
	ROW_DELIVER_AT,				/* timestamptz, or NULL */
	ROW_SIZE,					/* integer: bytes as SQS counts them */
	ROW_BODY,					/* text */
	ROW_ATTRIBUTES,				/* jsonb, or NULL */
	ROW_GROUP_ID,				/* text, or NULL */
	ROW_DEDUPLICATION_ID,		/* text, or NULL */
	ROW_SYSTEM_ATTRIBUTES,		/* jsonb, or NULL */
	ROW_NATTS
} OutboxColumn;

typedef enum BatchColumn
{
	BATCH_ID,					/* bigint */
	BATCH_XID,					/* xid8: the top-level transaction */
	BATCH_QUEUE_ID,				/* integer */
	BATCH_DELIVER_AT,			/* timestamptz; -infinity: at once */
	BATCH_POSITION,				/* bigint: rises in the order of commits */
	BATCH_NATTS
} BatchColumn;

typedef enum OutboxFailureColumn
{
	FAILURE_ID,					/* bigint */
	FAILURE_QUEUE,				/* text */
	FAILURE_ERROR_CODE,			/* text */
	FAILURE_ERROR_MESSAGE,		/* text */
	FAILURE_FAILED_AT,			/* timestamptz */
	FAILURE_BODY,				/* text */
	FAILURE_ATTRIBUTES,			/* jsonb, or NULL */
	FAILURE_GROUP_ID,			/* text, or NULL */
	FAILURE_DEDUPLICATION_ID,	/* text, or NULL */
	FAILURE_SYSTEM_ATTRIBUTES,	/* jsonb, or NULL */
	FAILURE_ENQUEUED_AT,		/* timestamptz */
	FAILURE_ENQUEUED_BY_OID,	/* oid: a role, */
	FAILURE_ENQUEUED_BY,		/* text: and its name */
	FAILURE_TOKEN,				/* uuid */
	FAILURE_QUEUE_ID,			/* integer */
	FAILURE_SERVER_OID,			/* oid, or NULL: the queue was gone */
	FAILURE_SERVER,				/* text, or NULL: its name */
	FAILURE_NATTS
} OutboxFailureColumn;

typedef enum ErrorRuleColumn
{
	RULE_QUEUE_ID,				/* integer; 0: all queues */
	RULE_SQLSTATE,				/* text */
	RULE_ACTION,				/* text */
	RULE_DELAY,					/* interval, or NULL */
	RULE_NATTS
} ErrorRuleColumn;

/*
 * Open a table that is fit for use.  Raises an ERROR if it is not, or if the
 * extension is not installed; see check_table() for what is checked.
 *
 * sqs_table_open_nowait() returns NULL if the lock is not available at once.
 */
extern Relation sqs_table_open(SqsTable table, LOCKMODE mode);
extern Relation sqs_table_open_nowait(SqsTable table, LOCKMODE mode);

/* OIDs, from a cache; an ERROR if there is no such table or index. */
extern Oid	sqs_table_oid(SqsTable table);
extern Oid	sqs_index_oid(SqsIndex index);

extern const char *sqs_table_name(SqsTable table);

/*
 * Rises when this session learns that some relation was changed.  What was found
 * out about relations may be kept as long as the count, read before, is the same.
 */
extern uint64 sqs_relation_changes(void);

/*
 * What users have put on the internal tables that has no effect (triggers,
 * policies, rules), as a phrase for sqs_stats_workers, palloc'd; NULL if there
 * is nothing.  Needs a transaction.
 */
extern char *sqs_tables_foreign_objects(void);

#endif							/* SQSBRIDGE_INTERNAL_TABLES_H */
