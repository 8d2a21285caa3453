/*-------------------------------------------------------------------------
 *
 * queues.h
 *	  Configured queues: the catalog table sqs_queues and what hangs on it.
 *
 * A SqsQueueConfig is a plain copy of everything a worker needs to know
 * about a queue, read in one short transaction and used without any.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_QUEUES_H
#define SQSBRIDGE_QUEUES_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "config/bindings.h"

/* Longest local queue name, in bytes: as long as SQS lets a name be. */
#define SQS_QUEUE_NAME_MAX	80

/* Legal ranges of the options; registration and README quote them. */
#define SQS_CONCURRENCY_MAX		64

typedef struct SqsQueueConfig
{
	int32		queue_id;
	char	   *name;			/* in this database */
	Oid			owner;			/* role the handler runs as */
	char	   *queue_name;		/* at AWS: name, or queue URL */
	char	   *handler;		/* schema-qualified, quoted; NULL: send only */
	bool		enabled;
	int			concurrency;
	int			batch_size;
	int			wait_time;		/* s */
	int			visibility_timeout; /* s; -1: the queue's own */
	int			handler_timeout;	/* ms; 0: none */
	int			retry_delay;	/* s; -1: wait out the visibility timeout */
	bool		exactly_once;
	bool		fifo;			/* by the name's suffix */
	TimestampTz changed_at;		/* the row's last change */

	/* what the row says; "owner" and so on hold the OIDs only */
	SqsBinding	bound_owner;
	SqsBinding	bound_server;
	SqsBinding	bound_handler;
	char	   *home;
	int64		dedup_retention;	/* microseconds */

	/* its server */
	char	   *server;
	Oid			server_oid;
	char	   *region;			/* NULL: from the endpoint */
	char	   *endpoint;		/* NULL: AWS's for the region */
	bool		allow_http;

	/*
	 * NULL, or why the queue cannot be worked on (server dropped, owner
	 * without USAGE on it, role gone, ...): one sentence for people.  Fields
	 * that could not be found are then NULL.
	 */
	char	   *problem;
	bool		is_copy;		/* the row belongs to another database */
	bool		can_send;		/* whatever the problem is, sending has none */
} SqsQueueConfig;

/*
 * All of these need a transaction with an active snapshot, return memory in
 * the caller's context and leave no SPI connection open.
 */

/* All configured queues, as a List of SqsQueueConfig*, in order of id. */
extern List *sqs_catalog_queues(void);

/* One queue; NULL if there is none. */
extern SqsQueueConfig *sqs_catalog_queue(int32 queue_id);

/* The same by name. */
extern SqsQueueConfig *sqs_catalog_queue_by_name(const char *name);

/*
 * A queue to send to, as the current role.  An ERROR if there is no such
 * queue, or the role has no USAGE on its server.  Unless the message is only
 * to be stored: an ERROR too if nothing can be sent, because of what the
 * queue refers to or because it is a copy.
 */
extern SqsQueueConfig *sqs_catalog_queue_to_send(const char *name, bool store);

/* The one with this id in such a list; NULL: none. */
extern SqsQueueConfig *sqs_catalog_find(List *queues, int32 queue_id);

/* Does the current role stand for the owner of the queue, or of its server? */
extern bool sqs_owns_queue(const SqsQueueConfig *queue);

#endif							/* SQSBRIDGE_QUEUES_H */
