/*-------------------------------------------------------------------------
 *
 * bindings.h
 *	  What a queue refers to, and whether it is still what was meant.
 *
 * All of these need a transaction with an active snapshot, and return memory in
 * the caller's context.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_BINDINGS_H
#define SQSBRIDGE_BINDINGS_H

/*
 * Something that a queue refers to, as it was when the queue was registered,
 * changed or confirmed.  After a restore, an OID may belong to another object,
 * and a name can be reused: only both together identify what was meant.
 */
typedef struct SqsBinding
{
	Oid			oid;
	char	   *name;			/* a function's is qualified and quoted */
	Oid			owner_oid;		/* owner_oid and owner are unset for a role */
	char	   *owner;
} SqsBinding;

/*
 * A handler is written "schema.name" if it takes one sqs_message, and
 * "schema.name(sqs_message[])" if it takes an array of them, a batch.
 */
#define SQS_BATCH_HANDLER_ARGS	"(sqs_message[])"

extern bool sqs_handler_takes_batches(const char *handler);

/* The OID of a handler; InvalidOid if it cannot be called. */
extern Oid	sqs_resolve_handler(const char *handler, Oid role, char **why);

/* The same, but it must be the function that was bound, with its owner. */
extern Oid	sqs_bound_handler(const SqsBinding *handler, Oid role, char **why);

/*
 * Is a role, server or function still what was bound?  NULL, or why not, as
 * for SqsQueueConfig.problem.
 */
extern char *sqs_role_changed(const SqsBinding *role);
extern char *sqs_server_changed(const SqsBinding *server);

/* A role's name, palloc'd; its OID in digits if it does not exist. */
extern char *sqs_role_name(Oid role);

#endif							/* SQSBRIDGE_BINDINGS_H */
