/*-------------------------------------------------------------------------
 *
 * handling.c
 *	  What a handler worker knows of its queue's configuration.
 *
 * What a message needs in any case (the function, the timeout) comes with it.
 * What is needed only if it fails, or on some queues, is read here, when it is
 * first needed after a change.  It is read in a transaction of its own, since
 * the message's may be serializable, or aborted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"

#include "receive/handler_session.h"
#include "receive/handling.h"

/* May raise an error, and then leaves what was known before. */
const SqsHandling *
sqs_handling(int32 queue_id, uint64 change)
{
	static MemoryContext context = NULL;
	static SqsHandling known;
	static uint64 known_change;
	MemoryContext fresh;
	MemoryContext old;
	SqsHandling read;

	if (context != NULL && change <= known_change)
		return &known;

	fresh = AllocSetContextCreate(sqs_session.message_context, "sqsbridge handling",
								  ALLOCSET_SMALL_SIZES);
	sqs_session_begin();
	old = MemoryContextSwitchTo(fresh);
	memset(&read, 0, sizeof(read));
	read.config = sqs_catalog_queue(queue_id);
	read.rules = sqs_error_rules_load(queue_id);
	if (read.config != NULL)
		read.routing = sqs_routing_load(read.config);
	MemoryContextSwitchTo(old);
	sqs_session_end();

	if (context != NULL)
		MemoryContextDelete(context);
	MemoryContextSetParent(fresh, TopMemoryContext);
	context = fresh;
	known = read;
	known_change = change;
	return &known;
}
