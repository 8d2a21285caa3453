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
#include "utils/relcache.h"

/* Longest local queue name, in bytes: as long as SQS lets a name be. */
#define SQS_QUEUE_NAME_MAX	80

/* Legal ranges of the options; registration and README quote them. */
#define SQS_CONCURRENCY_MAX		64

/*
 * Something that a queue refers to, as it was when the queue was registered,
 * changed or confirmed.  An OID may be given to somebody else by a restore, a
 * name be taken by who comes next: only both together say what was meant.
 */
typedef struct SqsBinding
{
	Oid			oid;
	char	   *name;			/* a function's is qualified and quoted */
	Oid			owner_oid;		/* not of a role */
	char	   *owner;
} SqsBinding;

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

/* Keys to a server; wiped with sqs_wipe_keys(). */
typedef struct SqsKeys
{
	char	   *access_key_id;	/* of a user mapping; all NULL: none */
	char	   *secret_access_key;
	char	   *session_token;
	bool		ambient;		/* those of the database server's environment */
} SqsKeys;

/*
 * All of these need a transaction with an active snapshot, return memory in
 * the caller's context and leave no SPI connection open.
 */

/* OID of the installed extension in this database, or InvalidOid. */
extern Oid	sqs_extension_oid(void);
extern Oid	sqs_extension_schema(void);
extern Oid	sqs_extension_owner(void);

/* OID of a view of the extension; error if it is not there. */
extern Oid	sqs_view_oid(const char *relname);
extern Oid	sqs_message_type_oid(void);

/*
 * To what a queue's row belongs: "cluster/database/extension", palloc'd.  In
 * a dump that was restored, a database that was copied or a cluster that was
 * upgraded it is another one.
 */
extern char *sqs_home(void);

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

/*
 * Keys with which this role uses the server: of the mapping that applies (the
 * role's own, else PUBLIC's) or, if there is none and the server's option
 * credentials says so, the environment's.  NULL, or why there are none: one
 * sentence for people, which names the role, the server and the ways out.
 */
extern char *sqs_catalog_keys(Oid role, Oid server, SqsKeys *keys);
extern void sqs_wipe_keys(SqsKeys *keys);

/*
 * Resolve a handler "schema.name": the function that takes one sqs_message,
 * executable by the role.  InvalidOid and *why (palloc'd) if it cannot be
 * called.
 */
extern Oid	sqs_resolve_handler(const char *handler, Oid role, char **why);

/* The same, but it must be the function that was bound, with its owner. */
extern Oid	sqs_bound_handler(const SqsBinding *handler, Oid role, char **why);

/*
 * Is a role, server or function still what was bound?  NULL, or why not, as
 * for SqsQueueConfig.problem.
 */
extern char *sqs_role_changed(const SqsBinding *role);
extern char *sqs_server_changed(const SqsBinding *server);

#endif							/* SQSBRIDGE_QUEUES_H */
