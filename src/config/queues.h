/*-------------------------------------------------------------------------
 *
 * queues.h
 *	  Reading which queues are configured.
 *
 * A SqsQueueConfig is a plain copy of everything a worker needs to know about
 * a queue.  It is read in a short transaction, and used outside of one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_QUEUES_H
#define SQSBRIDGE_QUEUES_H

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "nodes/pg_list.h"

#include "base/compat.h"
#include "config/bindings.h"

/* Longest local queue name, in bytes: as long as SQS lets a name be. */
#define SQS_QUEUE_NAME_MAX	80

/* Legal ranges of the options; registration and README quote them. */
#define SQS_CONCURRENCY_MAX		64

/* The option "unwrap": which envelopes are taken off messages. */
typedef enum SqsUnwrap
{
	SQS_UNWRAP_NONE,
	SQS_UNWRAP_AUTO,			/* all of these */
	SQS_UNWRAP_SNS,
	SQS_UNWRAP_EVENTBRIDGE,
	SQS_UNWRAP_S3
} SqsUnwrap;

typedef struct SqsQueueConfig
{
	int32		queue_id;
	char	   *name;			/* in this database */
	Oid			owner;			/* role the handler runs as */
	char	   *queue_name;		/* at AWS: name, URL or ARN */
	char	   *handler;		/* see bindings.h; NULL: send only */
	bool		takes_batches;	/* the handler, or that of a route, takes
								 * arrays of messages */
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

	/* what the row refers to; "owner" and "server_oid" repeat the OIDs */
	SqsBinding	bound_owner;
	SqsBinding	bound_server;
	SqsBinding	bound_handler;
	char	   *home;
	int64		dedup_retention;	/* microseconds */
	int			group_batch_size;	/* of a request of the outbox */
	SqsUnwrap	unwrap;

	/* what becomes of a message that fails; texts may be NULL: not set */
	int			max_attempts;	/* 0: any number */
	double		retry_factor;
	int			retry_max_delay;	/* s */
	double		retry_jitter;
	int			throttle_after; /* 0: never */
	char	   *dead_letter;
	char	   *dead_letter_queue;
	char	   *on_dead_letter;

	char	   *route_by;
	char	   *unroutable;
	char	   *dedup_key;
	int			handler_batch_size;
	int			handler_batch_wait; /* ms */
	bool		verify_sns;

	/* its server */
	char	   *server;
	Oid			server_oid;
	char	   *region;			/* NULL: from the endpoint */
	char	   *endpoint;		/* NULL: AWS's for the region */
	bool		allow_http;

	/*
	 * NULL, or a phrase that says why the queue cannot be worked on (server
	 * dropped, owner without USAGE on it, role gone, ...).  Fields that could
	 * not be found out are then NULL.
	 */
	char	   *problem;
	bool		is_copy;		/* the row belongs to another database */
	bool		can_send;		/* a problem, if any, concerns only the
								 * handler */
} SqsQueueConfig;

/* Are messages received, rather than only sent? */
static inline bool
sqs_queue_receives(const SqsQueueConfig *queue)
{
	return queue->handler != NULL || queue->route_by != NULL;
}

/* Are groups parked after a dead letter? */
extern bool sqs_queue_parks_groups(const SqsQueueConfig *queue);

/* False: there is no such value, and *unwrap is SQS_UNWRAP_NONE. */
extern bool sqs_unwrap_by_name(const char *name, SqsUnwrap *unwrap);

/* Get the first argument of an SQL function, the name of a queue */
extern char *sqs_queue_argument(FunctionCallInfo fcinfo);

/* Raise the ERROR for a queue name that is NULL */
pg_noreturn extern void sqs_queue_is_null(void);

/*
 * The following need a transaction with an active snapshot, and return memory in
 * the caller's context.
 */

/* All configured queues, as a List of SqsQueueConfig*, in order of id. */
extern List *sqs_catalog_queues(void);

/* One queue; NULL if there is none. */
extern SqsQueueConfig *sqs_catalog_queue(int32 queue_id);

/* The same by name. */
extern SqsQueueConfig *sqs_catalog_queue_by_name(const char *name);

/*
 * Find and lock a queue that the current role is going to change; pushes a
 * snapshot, which the caller pops.
 */
extern SqsQueueConfig *sqs_catalog_queue_to_change(const char *name);

/* Find a queue that the current role is going to send to. */
extern SqsQueueConfig *sqs_catalog_queue_to_send(const char *name, bool store);

/* A server that the current role is going to use, as if for a queue. */
extern SqsQueueConfig *sqs_catalog_server_to_use(const char *name);

/* The same, by its OID and for whomever; an ERROR if it does not exist. */
extern SqsQueueConfig *sqs_catalog_server(Oid server);

/* The queue with this id in a list that is sorted by id; NULL: none. */
extern SqsQueueConfig *sqs_catalog_find(List *queues, int32 queue_id);

/* Does the current role own the queue, or its server? */
extern bool sqs_owns_queue(const SqsQueueConfig *queue);

#endif							/* SQSBRIDGE_QUEUES_H */
