/*-------------------------------------------------------------------------
 *
 * ending.c
 *	  What becomes of a message whose transaction was rolled back.
 *
 * An error, or a verdict of the handler, leads to one of these:
 *
 *	- The transaction is tried again at once, as after a serialization failure.
 *	- The message has failed and will be tried again later.  That is recorded
 *	  (sqs_failures, attempts) in a transaction of its own.  It counts as an
 *	  attempt, unless something else is to blame (route_state.c).
 *	- The message is at its end: discarded, or a dead letter.  That is recorded
 *	  in a transaction, too, which also inserts the message into the inbox, as
 *	  a handler's transaction would have.  It has an LSN like that one, and the
 *	  message is deleted when this is durable.  If the inbox has the message
 *	  already, it ended before, and nothing is recorded again.  So a message has
 *	  one end at most, and a queue with exactly_once off gets no second dead
 *	  letter either.
 *
 * A message whose group is parked ends without having been run.
 *
 * If the transaction cannot be written, for lack of disk space or because
 * a table is locked, the message has failed, and nothing says so but the log and
 * sqs_stats; it will be delivered again.
 *
 * A message may also have made the server crash.  The queue worker says which
 * ones come back after a crash (SQS_FRAME_SUSPECT), and gives them to handlers
 * one at a time.  If no outcome is recorded of the delivery before, such
 * a message gets a durable mark before it runs, and loses it whatever becomes of
 * it.  With one mark, it runs only when nothing else of the queue does.  With two,
 * it does not run any more: it is a dead letter, whatever the queue's options
 * say, for there is nobody else to end it.  So a message can make the server
 * crash three times, and one that has only been there when another did so is not
 * taken for it.
 *
 * The decision is made here, and not in the queue worker, because the error is
 * here, and because to write a body may take long.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/errors.h"
#include "base/sqlstates.h"
#include "base/worker.h"
#include "config/parked_groups.h"
#include "config/retry.h"
#include "receive/dead_letters.h"
#include "receive/ending.h"
#include "receive/failures.h"
#include "receive/handler_session.h"
#include "receive/handling.h"
#include "receive/inbox.h"
#include "receive/message.h"
#include "receive/verify_sns.h"

/* For errors that pass by themselves: tries inside one delivery. */
#define MAX_TRIES	4

/* A message with so many marks is not run again. */
#define MAX_MARKS	2

/* What is to become of a message; see decide(). */
typedef struct Fate
{
	SqsTask    *task;
	const SqsHandling *handling;
	ErrorData  *edata;
	SqsErrorAction action;
	bool		is_verdict;
	int			delay;			/* s; -1: not known yet, or when the lease
								 * ends */
	int			base_delay;		/* s; of the rule; -1: the queue's retry_delay */
	bool		charged;		/* it counts as an attempt */
	const char *reason;			/* DEAD_LETTER: why */
	bool		parked;			/* DEAD_LETTER: not run, its group is parked */
	bool		released;		/* the group is not parked any more */
	bool		is_new;			/* an end: not recorded before */
} Fate;

/* Is a message's group parked? */
typedef struct ParkedGroup
{
	SqsTask    *task;
	bool		is_parked;
} ParkedGroup;

static bool
is_end(const Fate *fate)
{
	return fate->action == SQS_ACTION_DEAD_LETTER || fate->action == SQS_ACTION_DISCARD;
}

/*
 * What was to be recorded about the message could not be: clean up the error.  If
 * the disk is full, say, others would meet the same, so the queue pauses.
 */
static void
not_recorded(SqsResult *result)
{
	ErrorData  *why;

	MemoryContextSwitchTo(sqs_session.message_context);
	why = CopyErrorData();
	result->unrecorded = true;
	result->sqlstate = why->sqlerrcode;
	if (sqs_error_rule(NULL, why->sqlerrcode).action == SQS_ACTION_PAUSE)
		result->action = SQS_ACTION_PAUSE;
	sqs_copy_text(result->text, why->message, sizeof(result->text));
	HOLD_INTERRUPTS();
	EmitErrorReport();
	AbortOutOfAnyTransaction();
	FlushErrorState();
	RESUME_INTERRUPTS();
}

/*
 * Without exactly_once a message has no stamp.  Then its row is kept for as long
 * as SQS can have the message (see clean.c), and any time will do.
 */
bool
sqs_task_insert_into_inbox(SqsTask *task)
{
	SqsDelivery *delivery = task->delivery;
	TimestampTz stamp = delivery->frame.stamp != 0 ? delivery->frame.stamp : GetCurrentTimestamp();

	return sqs_inbox_insert(sqs_session.channel->shared->queue_id,
							sqs_message_identity(&delivery->message), stamp,
							delivery->message.receive_count <= 1);
}

static bool
has_dead_letters(const SqsQueueConfig *config)
{
	return config->dead_letter == NULL || strcmp(config->dead_letter, "none") != 0;
}

/*
 * Has the queue dead letters not only where a rule or a handler asks for them?
 * Then no message that has failed is left to be deleted by SQS unnoticed.
 */
static bool
keeps_expiring(const SqsQueueConfig *config)
{
	return config->dead_letter != NULL ? has_dead_letters(config) : config->max_attempts > 0;
}

/* Has the message failed as often as it may, with this attempt or before? */
static bool
is_spent(const SqsQueueConfig *config, int attempts)
{
	return config->max_attempts > 0 && attempts >= config->max_attempts;
}

/*
 * SQS deletes a message when its time is over, whatever became of it.  If that is
 * before the next attempt, or soon (in a tenth of that time, an hour at most), a
 * message that has failed becomes a dead letter, whether or not the attempt
 * counts: it may be the last one.
 */
static void
look_for_expiry(Fate *fate)
{
	const SqsReceivedMessage *message = &fate->task->delivery->message;
	int64		kept = pg_atomic_read_u32(&sqs_session.channel->shared->retention) * INT64CONST(1000);
	int64		soon = Min(kept / 10, SECS_PER_HOUR * INT64CONST(1000));
	int64		left = message->sent_ms + kept - sqs_wall_ms();
	ErrorData  *edata = fate->edata;
	MemoryContext old;

	if (kept == 0 || message->sent_ms <= 0 || !keeps_expiring(fate->handling->config) ||
		left > Max(soon, fate->delay * INT64CONST(1000)))
		return;
	fate->action = SQS_ACTION_DEAD_LETTER;
	fate->reason = "expiring";
	old = MemoryContextSwitchTo(sqs_session.message_context);
	edata->detail = psprintf("The last error was %s: %s", unpack_sql_state(edata->sqlerrcode),
							 edata->message);
	edata->message = psprintf("message expires: SQS keeps it only until %s",
							  timestamptz_to_str(sqs_message_time(message->sent_ms + kept)));
	edata->sqlerrcode = ERRCODE_SQS_EXPIRING;
	MemoryContextSwitchTo(old);
}

/*
 * An error that says "pause", or any error while the queue is throttled, does not
 * count, and the message is tried again when the route goes on.  It does count if
 * the queue worker says that this message is to blame; or if that was so before.
 */
static void
find_culprit(Fate *fate)
{
	uint32		flags = fate->task->delivery->frame.flags;
	const SqsAttempts *attempts = &fate->task->attempts;

	if (fate->is_verdict)
		return;
	if (fate->action == SQS_ACTION_PAUSE)
	{
		if ((flags & SQS_FRAME_BLAME) != 0 ||
			(attempts->attempts > 0 && attempts->last_sqlstate == fate->edata->sqlerrcode))
			fate->action = SQS_ACTION_RETRY;
		else
			fate->charged = false;
	}
	else if (fate->action == SQS_ACTION_RETRY && (flags & SQS_FRAME_UNCHARGED) != 0)
	{
		fate->action = SQS_ACTION_THROTTLE;
		fate->charged = false;
	}
}

/* Change what is to become of the message by how often it has failed. */
static void
decide(Fate *fate)
{
	SqsTask    *task = fate->task;
	const SqsQueueConfig *config = fate->handling->config;

	find_culprit(fate);
	if (fate->action == SQS_ACTION_RETRY && fate->charged &&
		is_spent(config, task->attempts.attempts + 1))
	{
		fate->action = SQS_ACTION_DEAD_LETTER;
		fate->reason = "max_attempts";
	}
	if (fate->action == SQS_ACTION_DEAD_LETTER && fate->edata->sqlerrcode == ERRCODE_SQS_NOT_SNS &&
		(task->delivery->frame.flags & SQS_FRAME_VERIFY_SNS))
		fate->reason = "verify_sns";
	if (fate->action == SQS_ACTION_DEAD_LETTER && !has_dead_letters(config) &&
		!fate->parked && task->attempts.marks < MAX_MARKS)
		fate->action = SQS_ACTION_RETRY;
	if (fate->action == SQS_ACTION_RETRY && fate->delay < 0)
	{
		SqsQueueConfig options = *config;

		if (fate->base_delay >= 0)
			options.retry_delay = fate->base_delay;
		fate->delay = sqs_retry_delay(&options,
									  Max(task->attempts.attempts + (fate->charged ? 1 : 0), 1),
									  pg_prng_uint64(&pg_global_prng_state));
	}
	if (!is_end(fate))
		look_for_expiry(fate);
}

static Datum
group_of(const SqsTask *task)
{
	SqsSlice	group = task->delivery->message.group_id;

	return PointerGetDatum(cstring_to_text_with_len(group.data, (int) group.len));
}

/* The key of the route that the message has taken, or NULL. */
static const char *
task_route(const SqsTask *task)
{
	return task->routed.route != NULL ? task->routed.route->key : NULL;
}

/* A row of sqs_failures. */
static void
record_failure(const Fate *fate)
{
	SqsTask    *task = fate->task;
	SqsFailure	failure = {0};

	failure.queue_id = fate->handling->config->queue_id;
	failure.queue = sqs_session.channel->shared->queue;
	failure.owner = sqs_session.owner;
	failure.message_id = task->delivery->message.message_id;
	failure.receive_count = task->delivery->message.receive_count;
	failure.edata = fate->edata;
	failure.handler_pid = MyProcPid;
	failure.attempt = fate->charged ? task->attempts.attempts + 1 : 0;
	failure.action = fate->action;
	failure.route = task_route(task);
	if (!is_end(fate) && fate->delay >= 0)
		failure.retry_at = GetCurrentTimestamp() + fate->delay * USECS_PER_SEC;
	sqs_failure_insert(&failure);
}

/*
 * A failure that does not count is one of many.  There is a row for each SQLSTATE
 * and minute, so that a long outage does not fill sqs_failures.  (Each handler
 * worker of the queue knows of its own only.)
 */
static bool
is_news(const Fate *fate)
{
	static struct
	{
		int			sqlstate;
		TimestampTz at;
	}			told[8];
	static int	next = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (fate->is_verdict)
		return true;
	for (int i = 0; i < lengthof(told); i++)
	{
		if (told[i].sqlstate != fate->edata->sqlerrcode || told[i].at == 0)
			continue;
		if (now < told[i].at + USECS_PER_MINUTE && now >= told[i].at)
			return false;
		told[i].at = now;
		return true;
	}
	told[next].sqlstate = fate->edata->sqlerrcode;
	told[next].at = now;
	next = (next + 1) % lengthof(told);
	return true;
}

/* Everything that is to be recorded, in the current transaction, which is ours. */
static void
record_fate(void *arg)
{
	Fate	   *fate = arg;
	SqsTask    *task = fate->task;
	SqsDelivery *delivery = task->delivery;

	if (fate->parked && !sqs_group_lock(fate->handling->config->queue_id, group_of(task)))
	{
		fate->released = true;
		return;
	}
	if (!task->attempts.found)
		sqs_attempts_read(fate->handling->config->queue_id, delivery->message.message_id,
						  &task->attempts);
	decide(fate);
	if (is_end(fate))
	{
		fate->is_new = sqs_task_insert_into_inbox(task);
		if (fate->is_new)
		{
			if (!fate->parked)
				record_failure(fate);
			if (fate->action == SQS_ACTION_DEAD_LETTER)
				sqs_dead_letter_insert(fate->handling->config, delivery, fate->edata,
									   fate->reason,
									   task->attempts.attempts + (fate->charged ? 1 : 0),
									   task_route(task));
		}
		sqs_attempts_remove(&task->attempts);
	}
	else
	{
		if (fate->charged || is_news(fate))
			record_failure(fate);
		sqs_attempts_failed(fate->handling->config->queue_id, delivery->message.message_id,
							delivery->message.receive_count, fate->edata->sqlerrcode,
							fate->charged, &task->attempts);
	}
}

/*
 * Record what becomes of the message, and fill in the result.  An end is
 * recorded only while the lease is ours, like the handler's own transaction.
 */
static void
carry_out(Fate *fate, SqsResult *result)
{
	SqsDelivery *delivery = fate->task->delivery;

	result->outcome = SQS_OUTCOME_FAILED;
	result->action = SQS_ACTION_RETRY;
	result->is_verdict = fate->is_verdict;
	result->sqlstate = fate->edata->sqlerrcode;
	result->delay = -1;
	PG_TRY();
	{
		sqs_session_begin();
		sqs_session_with_lock_timeout(SQS_TABLE_LOCK_TIMEOUT_MS, record_fate, fate);
		PopActiveSnapshot();
		if (fate->released)
		{
			CommitTransactionCommand();
			result->outcome = SQS_OUTCOME_NOT_RUN;
		}
		else if (is_end(fate))
		{
			/* the handler was canceled, but this is not the handler */
			sqs_session.timed_out = false;
			sqs_session_fence(&fate->task->delivery, 1);
			result->lsn = sqs_session_commit(delivery);
			result->outcome = !fate->is_new ? SQS_OUTCOME_DUPLICATE :
				fate->action == SQS_ACTION_DISCARD ? SQS_OUTCOME_DISCARDED : SQS_OUTCOME_DEAD;
		}
		else
		{
			(void) sqs_session_commit(delivery);
			result->action = fate->action;
			result->delay = fate->delay;
			result->attempt = fate->charged ? fate->task->attempts.attempts : 0;
		}
	}
	PG_CATCH();
	{
		not_recorded(result);
		result->outcome = sqs_session_interrupted(SQS_OUTCOME_FAILED);
	}
	PG_END_TRY();
}

/*
 * The configuration; NULL if there is none, and then the result says what
 * becomes of the message.
 */
const SqsHandling *
sqs_task_handling(SqsTask *task, SqsResult *result)
{
	const SqsHandling *volatile handling = NULL;

	PG_TRY();
	{
		handling = sqs_handling(sqs_session.channel->shared->queue_id,
								task->delivery->frame.change);
		if (handling->config == NULL)
		{
			/* unregistered: the queue worker is about to know */
			handling = NULL;
			result->outcome = SQS_OUTCOME_NOT_RUN;
		}
	}
	PG_CATCH();
	{
		not_recorded(result);
		result->delay = -1;
		result->outcome = sqs_session_interrupted(SQS_OUTCOME_FAILED);
	}
	PG_END_TRY();
	return handling;
}

static void
read_attempts(void *arg)
{
	SqsTask    *task = arg;

	sqs_attempts_read(sqs_session.channel->shared->queue_id,
					  task->delivery->message.message_id, &task->attempts);
}

/*
 * Read what is recorded of the message, and call a function, if there is one,
 * that changes it, in a transaction.  If that is not possible, the result has the
 * error, and *attempts is empty.
 */
static bool
look_up(SqsTask *task, void (*change) (void *task), SqsResult *result)
{
	volatile bool done = false;

	PG_TRY();
	{
		if (change != NULL)
		{
			sqs_session_begin();
			sqs_session_with_lock_timeout(SQS_TABLE_LOCK_TIMEOUT_MS, change, task);
			PopActiveSnapshot();
			XLogFlush(sqs_session_commit(task->delivery));
		}
		sqs_session_begin();
		sqs_session_with_lock_timeout(SQS_TABLE_LOCK_TIMEOUT_MS, read_attempts, task);
		sqs_session_end();
		done = true;
	}
	PG_CATCH();
	{
		not_recorded(result);
		result->unrecorded = false;
		memset(&task->attempts, 0, sizeof(task->attempts));
	}
	PG_END_TRY();
	return done;
}

static void
mark(void *arg)
{
	SqsTask    *task = arg;

	sqs_attempts_mark(sqs_session.channel->shared->queue_id,
					  task->delivery->message.message_id, &task->attempts);
}

static void
unmark(void *arg)
{
	SqsTask    *task = arg;

	sqs_attempts_unmark(sqs_session.channel->shared->queue_id,
						task->delivery->message.message_id,
						task->delivery->message.receive_count);
}

/* May the message have made the server crash when it was delivered before? */
static bool
is_suspect(const SqsTask *task)
{
	return (task->delivery->frame.flags & SQS_FRAME_SUSPECT) != 0 &&
		!(task->attempts.found &&
		  task->attempts.last_receive_count >= task->delivery->message.receive_count - 1);
}

/* End a message that is not to be run. */
static void
end_unrun(SqsTask *task, const SqsHandling *handling, ErrorData *edata, const char *reason,
		  SqsResult *result)
{
	Fate		fate = {0};

	fate.task = task;
	fate.handling = handling;
	fate.edata = edata;
	fate.action = SQS_ACTION_DEAD_LETTER;
	fate.reason = reason;
	fate.parked = strcmp(reason, "parked") == 0;
	fate.delay = fate.base_delay = -1;
	carry_out(&fate, result);
}

/*
 * A suspect: mark it, and let it run; or not.  If it cannot be marked, it waits:
 * it must not run without.
 */
static bool
begin_suspect(SqsTask *task, SqsResult *result)
{
	SqsDelivery *delivery = task->delivery;

	if (task->attempts.marks >= MAX_MARKS)
	{
		ErrorData  *edata;
		const SqsHandling *handling = sqs_task_handling(task, result);

		if (handling == NULL)
			return true;
		edata = palloc0(sizeof(ErrorData));
		edata->sqlerrcode = ERRCODE_SQS_KILLED;
		edata->message = "server crashed whenever the message was handled";
		edata->detail = psprintf("It was handled when the server crashed, and %d times again, the last time alone.",
								 task->attempts.marks);
		edata->hint = "The server logs of these times say what crashed.";
		end_unrun(task, handling, edata, "crash", result);
		return true;
	}
	if (task->attempts.marks == MAX_MARKS - 1 && !(delivery->frame.flags & SQS_FRAME_ALONE))
	{
		result->outcome = SQS_OUTCOME_ALONE;
		return true;
	}
	if (!look_up(task, mark, result))
	{
		result->outcome = sqs_session_interrupted(SQS_OUTCOME_LOCKED);
		return true;
	}
	task->is_marked = true;
	return false;
}

static void
look_for_parked_group(void *arg)
{
	ParkedGroup *group = arg;

	group->is_parked = sqs_group_is_parked(sqs_session.channel->shared->queue_id,
										   group_of(group->task));
}

/*
 * If the message's group is parked, store the message with the dead letter for
 * which it is, and return true.  If that is not known, the message is not run.
 */
static bool
park(SqsTask *task, SqsResult *result)
{
	ParkedGroup group = {task, false};
	const SqsHandling *handling;
	ErrorData  *edata;

	PG_TRY();
	{
		sqs_session_begin();
		sqs_session_with_lock_timeout(SQS_TABLE_LOCK_TIMEOUT_MS, look_for_parked_group, &group);
		sqs_session_end();
	}
	PG_CATCH();
	{
		not_recorded(result);
		result->unrecorded = false;
		result->outcome = sqs_session_interrupted(SQS_OUTCOME_CANNOT_RUN);
		return true;
	}
	PG_END_TRY();
	if (!group.is_parked)
		return false;

	handling = sqs_task_handling(task, result);
	if (handling == NULL)
		return true;
	edata = palloc0(sizeof(ErrorData));
	edata->sqlerrcode = ERRCODE_SQS_PARKED;
	edata->message = psprintf("message group \"%s\" is parked", TextDatumGetCString(group_of(task)));
	end_unrun(task, handling, edata, "parked", result);
	return true;
}

/*
 * It may have failed as often as it may and still come back, if its handler
 * worker was killed (then nobody could end it), or if max_attempts was lowered.
 */
static bool
begin(SqsTask *task, SqsResult *result)
{
	SqsDelivery *delivery = task->delivery;
	const SqsHandling *handling;
	ErrorData  *edata;

	memset(&task->attempts, 0, sizeof(task->attempts));
	memset(&task->routed, 0, sizeof(task->routed));
	task->tries = 0;
	task->is_duplicate = false;
	task->is_marked = false;
	task->has_envelope = false;
	task->is_open = false;
	task->routing = NULL;
	if (delivery->frame.flags & SQS_FRAME_ROUTED)
	{
		handling = sqs_task_handling(task, result);
		if (handling == NULL)
		{
			/* what cannot be read is not the message's fault */
			if (result->outcome == SQS_OUTCOME_FAILED)
			{
				result->outcome = SQS_OUTCOME_CANNOT_RUN;
				result->unrecorded = false;
			}
			return true;
		}
		task->routing = handling->routing;
	}
	if ((delivery->frame.flags & SQS_FRAME_PARKS) && delivery->message.group_id.len > 0 &&
		park(task, result))
		return true;
	if (delivery->message.receive_count <= 1 && !(delivery->frame.flags & SQS_FRAME_TRIED))
		return false;

	/* what is not known to have failed is tried */
	if (!look_up(task, NULL, result))
		result->text[0] = '\0';
	if (is_suspect(task))
		return begin_suspect(task, result);
	if (task->attempts.attempts == 0)
		return false;

	handling = sqs_task_handling(task, result);
	if (handling == NULL)
		return true;
	if (!is_spent(handling->config, task->attempts.attempts) || !has_dead_letters(handling->config))
		return false;

	edata = palloc0(sizeof(ErrorData));
	if (task->attempts.last_sqlstate == ERRCODE_ADMIN_SHUTDOWN)
	{
		edata->sqlerrcode = ERRCODE_SQS_KILLED;
		edata->message = "handler worker exited while it handled the message";
	}
	else
	{
		edata->sqlerrcode = task->attempts.last_sqlstate;
		edata->message = "message failed as often as option \"max_attempts\" permits";
	}
	edata->detail = psprintf("It has failed %d times, and option \"max_attempts\" is %d.",
							 task->attempts.attempts, handling->config->max_attempts);
	end_unrun(task, handling, edata, "max_attempts", result);
	return true;
}

/* Is the message not as SQS has it?  Needs a transaction, since hashes do. */
static bool
is_damaged(const SqsDelivery *delivery)
{
	bool		damaged;

	sqs_session_begin();
	damaged = sqs_message_damage(&delivery->message) != NULL;
	sqs_session_end();
	return damaged;
}

/*
 * Has SNS signed the message?  Otherwise it has failed.  A damaged one fails when
 * it is opened.
 */
static bool
is_from_sns(SqsTask *task, SqsResult *result)
{
	SqsDelivery *delivery = task->delivery;
	SqsVerdict	none = {SQS_VERDICT_NONE};
	ErrorData  *volatile edata = NULL;

	if (delivery->damage.data != NULL)
		return true;
	sqs_session.timed_out = false;
	sqs_session.lease_over = false;
	QueryCancelPending = false;

	PG_TRY();
	{
		sqs_verify_sns(&delivery->message, &task->has_envelope);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(sqs_session.message_context);
		edata = CopyErrorData();
		HOLD_INTERRUPTS();
		FlushErrorState();
		QueryCancelPending = false;
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();

	if (edata == NULL ||
		(edata->sqlerrcode == ERRCODE_SQS_NOT_SNS && is_damaged(delivery)))
		return true;
	task->tries = MAX_TRIES;	/* not again at once */
	(void) sqs_task_failed(task, edata, &none, SQS_PHASE_RUN, result);
	return false;
}

bool
sqs_task_begin(SqsTask *task, SqsResult *result)
{
	return begin(task, result) ||
		((task->delivery->frame.flags & SQS_FRAME_VERIFY_SNS) && !is_from_sns(task, result));
}

/*
 * Every outcome that is recorded has cleared the mark.  If this fails, the mark
 * stays, and if the server crashes, the message is suspected once more.
 */
void
sqs_task_end(SqsTask *task, const SqsResult *result)
{
	SqsResult	ignored;

	if (!task->is_marked || sqs_outcome_is_end(result->outcome) ||
		(result->outcome == SQS_OUTCOME_FAILED && !result->unrecorded))
		return;
	(void) look_up(task, unmark, &ignored);
}

/*
 * The error by which the handler's transaction ended, as the verdict has it.
 * Another error that followed is in the detail.
 */
static void
apply_verdict(const SqsVerdict *verdict, ErrorData *edata)
{
	int			sqlstate = sqs_verdict_sqlstate(verdict->kind);

	if (edata->sqlerrcode != sqlstate)
	{
		edata->detail = psprintf("After that, the handler failed: %s", edata->message);
		edata->hint = NULL;
	}
	edata->sqlerrcode = sqlstate;
	edata->message = verdict->reason;
}

static void
set_verdict(Fate *fate, const SqsVerdict *verdict)
{
	fate->action = verdict->kind == SQS_VERDICT_RETRY ? SQS_ACTION_RETRY :
		verdict->kind == SQS_VERDICT_DISCARD ? SQS_ACTION_DISCARD : SQS_ACTION_DEAD_LETTER;
	fate->is_verdict = true;
	fate->delay = verdict->delay;
	fate->charged = verdict->charge;
	fate->reason = "verdict";
}

/* In the handler's transaction; see sqs_task_record_verdict(). */
static void
record_verdict(void *arg)
{
	Fate	   *fate = arg;
	SqsTask    *task = fate->task;

	decide(fate);
	if (is_end(fate))
	{
		/* with exactly_once, it is in the inbox already, or is a duplicate */
		fate->is_new = (task->delivery->frame.flags & SQS_FRAME_EXACTLY_ONCE) ||
			sqs_task_insert_into_inbox(task);
		if (fate->is_new)
		{
			record_failure(fate);
			if (fate->action == SQS_ACTION_DEAD_LETTER)
				sqs_dead_letter_insert(fate->handling->config, task->delivery, fate->edata,
									   fate->reason,
									   task->attempts.attempts + (fate->charged ? 1 : 0),
									   task_route(task));
		}
		sqs_attempts_remove(&task->attempts);
	}
	else
	{
		record_failure(fate);
		sqs_attempts_failed(fate->handling->config->queue_id, task->delivery->message.message_id,
							task->delivery->message.receive_count, fate->edata->sqlerrcode,
							fate->charged, &task->attempts);
	}
}

/*
 * A verdict that the handler has returned for one message of a batch does not
 * undo anything; it is recorded in the same transaction.  What was recorded of the
 * message before has been looked up: nothing is read here, because that could
 * make a serializable transaction fail.
 */
void
sqs_task_record_verdict(SqsTask *task, const SqsHandling *handling, const SqsVerdict *verdict,
						SqsResult *result)
{
	Fate		fate = {0};

	fate.task = task;
	fate.handling = handling;
	fate.edata = palloc0(sizeof(ErrorData));
	fate.edata->sqlerrcode = sqs_verdict_sqlstate(verdict->kind);
	fate.edata->message = verdict->reason;
	fate.base_delay = -1;
	set_verdict(&fate, verdict);
	sqs_session_with_lock_timeout(SQS_TABLE_LOCK_TIMEOUT_MS, record_verdict, &fate);

	result->outcome = !is_end(&fate) ? SQS_OUTCOME_FAILED :
		!fate.is_new ? SQS_OUTCOME_DUPLICATE :
		fate.action == SQS_ACTION_DISCARD ? SQS_OUTCOME_DISCARDED : SQS_OUTCOME_DEAD;
	result->action = fate.action;
	result->delay = fate.delay;
	result->attempt = fate.charged ? task->attempts.attempts : 0;
	result->is_verdict = true;
	result->sqlstate = fate.edata->sqlerrcode;
	sqs_copy_text(result->text, verdict->reason, sizeof(result->text));
}

/* The error is not due to the message, so the message has not failed. */
static void
set_cannot_run(SqsResult *result, const ErrorData *edata)
{
	result->outcome = SQS_OUTCOME_CANNOT_RUN;
	sqs_copy_text(result->text, edata->message, sizeof(result->text));
}

/*
 * Before another try at once: none, then about 20 ms, then about 100.  Whoever
 * was in the way needs some time.  An interrupt ends it, and is dealt with when
 * the next transaction begins.
 */
void
sqs_task_pause_before_try(int tries)
{
	static const int pauses[] = {0, 20, 100};
	int			ms = pauses[Min(tries, (int) lengthof(pauses)) - 1];

	if (ms > 0)
		sqs_session_nap(ms / 2 + (int) pg_prng_uint64_range(&pg_global_prng_state, 0, ms));
}

/* What the error is, and what the rules say about it. */
bool
sqs_task_failed(SqsTask *task, ErrorData *edata, const SqsVerdict *verdict,
				SqsPhase phase, SqsResult *result)
{
	SqsDelivery *delivery = task->delivery;
	Fate		fate = {0};

	result->outcome = sqs_session_interrupted(SQS_OUTCOME_DONE);
	if (result->outcome != SQS_OUTCOME_DONE)
		return true;			/* not the message's fault */
	if (phase == SQS_PHASE_RESOLVE)
	{
		set_cannot_run(result, edata);
		return true;
	}
	if (phase == SQS_PHASE_LOCK && edata->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
	{
		result->outcome = SQS_OUTCOME_LOCKED;
		strlcpy(result->text, "the table of handled messages is locked by another session",
				sizeof(result->text));
		return true;
	}

	fate.task = task;
	fate.edata = edata;
	fate.delay = fate.base_delay = -1;
	fate.charged = true;
	fate.handling = sqs_task_handling(task, result);
	if (fate.handling == NULL)
		return true;

	if (verdict->kind != SQS_VERDICT_NONE && !sqs_session.timed_out)
	{
		apply_verdict(verdict, edata);
		set_verdict(&fate, verdict);
	}
	else
	{
		SqsRule		rule;

		if (sqs_session.timed_out)
		{
			edata->sqlerrcode = ERRCODE_QUERY_CANCELED;
			edata->message = psprintf("handler ran longer than its handler_timeout of %d ms",
									  delivery->frame.handler_timeout);
		}
		rule = sqs_error_rule(fate.handling->rules, edata->sqlerrcode);
		fate.reason = "rule";
		if (task->routed.unroutable && edata->sqlerrcode == ERRCODE_SQS_UNROUTABLE &&
			task->routing->unroutable == SQS_UNROUTABLE_DEAD_LETTER)
		{
			rule.action = SQS_ACTION_DEAD_LETTER;
			fate.reason = "unroutable";
		}
		if (rule.action == SQS_ACTION_RETRY_NOW)
		{
			if (task->tries < MAX_TRIES && !sqs_session.timed_out && !sqs_session.term_seen)
			{
				sqs_session_count(SQS_RETRIED_NOW);
				sqs_task_pause_before_try(task->tries);
				result->outcome = sqs_session_interrupted(SQS_OUTCOME_DONE);
				return result->outcome != SQS_OUTCOME_DONE;
			}
			rule.action = SQS_ACTION_RETRY;
		}
		else if (phase < SQS_PHASE_RUN && edata->sqlerrcode != ERRCODE_QUERY_CANCELED)
		{
			set_cannot_run(result, edata);
			return true;
		}
		fate.action = rule.action;
		fate.base_delay = rule.delay;
	}
	sqs_copy_text(result->text, edata->message, sizeof(result->text));
	carry_out(&fate, result);
	return true;
}
