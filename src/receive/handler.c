/*-------------------------------------------------------------------------
 *
 * handler.c
 *	  A process that runs a queue's handler: one message, one transaction.
 *
 * Its session is the queue owner's; see handler_session.c.  Messages come
 * through the channel; for each:
 *
 *		start a transaction, arm handler_timeout
 *		if the queue has routes, look for the message's key
 *		insert the message into the inbox		(already there: commit, a duplicate)
 *		call the handler function; fire deferred triggers
 *		fence: the lease has not been lost, no time has run out, the
 *			   owner still has the rights that this session has
 *		commit, asynchronously; report the commit's LSN at once
 *
 * The commit is inside the same error boundary as the call, because
 * serialization failures can occur there.  On an error the whole transaction is
 * aborted; ending.c decides what becomes of the message, and records that in
 * another one.  A message is not reported as done before its transaction has
 * committed, and is not deleted before the queue worker knows that WAL up to its
 * LSN is durable.  So wherever this process dies, the message comes back, and the
 * inbox shows whether it was handled.  After the commit, the result is reported
 * before anything else that could fail.
 *
 * Anything that may take long or run user code comes before the fence; so
 * deferred triggers are fired and cursors closed there, not in the commit.
 *
 * Signals.  SIGINT cancels the current message, as in any backend.  A first
 * SIGTERM means "finish the current message and exit"; it is passed on to the
 * queue worker, which knows whether this is a shutdown (then the message may
 * take sqsbridge.shutdown_timeout) or a pg_terminate_backend() (then it sends a
 * second one).  The second SIGTERM is handled by PostgreSQL's die(), and so is
 * one that comes because the handler has ignored a cancel.
 *
 * Signals and timers can still arrive while a process exits, when the channel is
 * already unmapped.  "attached" says whether it may be used; a before_shmem_exit
 * callback, which runs before the segment is unmapped, clears it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <time.h>

#include "access/xact.h"
#include "commands/trigger.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"

#include "base/compat.h"
#include "base/route_stats.h"
#include "base/sqlstates.h"
#include "base/worker.h"
#include "config/bindings.h"
#include "receive/batch.h"
#include "receive/channel.h"
#include "receive/ending.h"
#include "receive/handler_function.h"
#include "receive/handler_session.h"
#include "receive/inbox.h"
#include "receive/message.h"
#include "receive/run.h"
#include "receive/verdict.h"

/* Memory that malloc() keeps for the next message; SQS allows 1 MiB for a body. */
#define KEPT_MEMORY (8 * 1024 * 1024)

/* must be less than the time until the queue worker sends a second SIGTERM */
#define SAME_SIGTERM_MS 50

static volatile sig_atomic_t attached = false;	/* the channel may be used */
static volatile sig_atomic_t in_loop = false;
static volatile sig_atomic_t overran = false;

/*
 * This process exits.  Signal handlers and timers must not touch the segment
 * from now on, because it will be unmapped.
 */
static void
handler_exits(int code, Datum arg)
{
	attached = false;
	disable_timeout(sqs_session.timeout_id, false);
}

/*
 * Also runs while the process starts and exits; see above for "attached".  Uses
 * only what is safe in a signal handler.
 */
static void
handler_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;
	static int64 first_at = 0;
	struct timespec now;
	int64		now_ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ms = (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;

	/*
	 * The postmaster signals the process and its process group, so a single
	 * SIGTERM from it may arrive twice.
	 */
	if (proc_exit_inprogress || !attached || !in_loop || overran ||
		(sqs_session.term_seen && now_ms >= first_at + SAME_SIGTERM_MS))
		die(SQS_PASS_SIGNAL_ARGS);
	else if (!sqs_session.term_seen)
	{
		sqs_session.term_seen = true;
		first_at = now_ms;
		ShutdownRequestPending = true;
		pg_atomic_write_u32(&sqs_session.channel->shared->term_requested, 1);
		SetLatch(&sqs_session.channel->shared->leader->procLatch);
		SetLatch(MyLatch);
	}
	errno = save_errno;
}

/* Timer: handler_timeout has passed, or CANCEL_GRACE_MS since it last did. */
static void
handler_timed_out(void)
{
	if (proc_exit_inprogress || !attached)
		return;

	/*
	 * A handler can catch query_canceled and go on, but it cannot prevent the
	 * process from being terminated.  The queue worker reports why it was.
	 */
	if (sqs_session.timed_out)
	{
		overran = true;
		pg_atomic_write_u32(&sqs_session.channel->shared->overran, 1);
		kill(MyProcPid, SIGTERM);
		return;
	}
	sqs_session.timed_out = true;
	kill(MyProcPid, SIGINT);
}

/* A message of a batch has come, or the order to run the batch. */
static void
handle_batch_frame(uint32 flags, const char *data, Size len)
{
	uint64		from;
	uint64		to;

	if (flags & SQS_FRAME_BATCH)
	{
		sqs_batch_collect(data, len);
		return;
	}
	if (sqs_batch_range(&from, &to) && (from = sqs_handler_take(from, to)) != 0)
	{
		sqs_set_worker_state(SQS_WORKER_RUNNING);
		pg_atomic_fetch_add_u64(&MySlot->messages, sqs_batch_run(from));
		debug_query_string = NULL;
		if (sqs_handler_finish_current())
			sqs_handler_outlive_cancel();
	}
	sqs_batch_reset();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(sqs_session.message_context);
}

/*
 * Chains (see dispatch.c) of which a message was not handled.  While one is, the
 * channel may have more of its chain, and of other chains of which that is so;
 * but not more of them than it has room for messages.
 */
typedef struct StoppedChain
{
	uint32		chain;			/* 0: unused */
	bool		has_failed;		/* else: the rest of it is to be handed out
								 * again */
} StoppedChain;

static StoppedChain stopped_chains[SQS_CHANNEL_DEPTH];

static const StoppedChain *
find_stopped_chain(uint32 chain)
{
	for (int i = 0; chain != 0 && i < SQS_CHANNEL_DEPTH; i++)
		if (stopped_chains[i].chain == chain)
			return &stopped_chains[i];
	return NULL;
}

static void
stop_chain(uint32 chain, bool has_failed)
{
	static int	next = 0;

	if (chain == 0)
		return;
	stopped_chains[next].chain = chain;
	stopped_chains[next].has_failed = has_failed;
	next = (next + 1) % SQS_CHANNEL_DEPTH;
}

/* A message has come: run it, unless it was taken back, and report. */
static void
handle_frame(const char *data, Size len)
{
	SqsDelivery *delivery;
	SqsTask		task;
	SqsResult	result;
	int64		start;
	bool		canceled;
	const StoppedChain *stopped;
	SqsFrame	frame;

	memcpy(&frame, data, sizeof(frame));
	if (frame.flags & (SQS_FRAME_BATCH | SQS_FRAME_RUN))
	{
		handle_batch_frame(frame.flags, data, len);
		return;
	}

	MemoryContextSwitchTo(sqs_session.message_context);
	delivery = palloc(sizeof(SqsDelivery));
	sqs_frame_decode(data, len, delivery);
	if (sqs_handler_take(frame.seq, frame.seq) == 0)
		return;

	sqs_result_init(&result);
	result.seq = delivery->frame.seq;
	start = sqs_monotonic_us();

	/* FIFO: run nothing of a group after a message that was not handled */
	stopped = find_stopped_chain(delivery->frame.chain);
	if (stopped != NULL)
	{
		result.outcome = stopped->has_failed ? SQS_OUTCOME_SKIPPED : SQS_OUTCOME_NOT_RUN;
		sqs_result_post(&result);
		canceled = sqs_handler_finish_current();
	}
	else
	{
		sqs_set_worker_state(SQS_WORKER_RUNNING);
		task.delivery = delivery;
		if (!sqs_task_begin(&task, &result))
			sqs_handler_run_alone(&task, &result);
		result.micros = (uint32) Min(sqs_monotonic_us() - start, PG_UINT32_MAX);
		sqs_handler_settle(&task, &result);
		canceled = sqs_handler_finish_current();

		sqs_session_clean();
		debug_query_string = NULL;
		switch (result.outcome)
		{
			case SQS_OUTCOME_FAILED:
			case SQS_OUTCOME_LOST:
			case SQS_OUTCOME_STOPPED:
			case SQS_OUTCOME_HELD:
				stop_chain(delivery->frame.chain, true);
				break;
			case SQS_OUTCOME_CANNOT_RUN:
			case SQS_OUTCOME_LOCKED:
			case SQS_OUTCOME_NOT_RUN:
			case SQS_OUTCOME_ALONE:
				stop_chain(delivery->frame.chain, false);
				break;
			case SQS_OUTCOME_DONE:
			case SQS_OUTCOME_DUPLICATE:
			case SQS_OUTCOME_DISCARDED:
			case SQS_OUTCOME_DEAD:
			case SQS_OUTCOME_SKIPPED:
				break;
		}
	}

	if (canceled)
		sqs_handler_outlive_cancel();
	pg_atomic_fetch_add_u64(&MySlot->messages, 1);
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(sqs_session.message_context);
}

/*
 * Attach to the queue worker's channel, and make this process a session of the
 * queue's owner.
 */
static void
start_handler_worker(void)
{
	sqs_session.owner = MySlot->role;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, handler_sigterm);
	BackgroundWorkerUnblockSignals();

	sqs_session.channel = sqs_channel_attach(MySlot->segment);
	if (sqs_session.channel == NULL)
		proc_exit(0);			/* the queue worker is gone */
	sqs_session.timeout_id = RegisterTimeout(USER_TIMEOUT, handler_timed_out);
	attached = true;
	before_shmem_exit(handler_exits, (Datum) 0);

	sqs_session_start(MySlot->dboid, MySlot->queue_id);
	sqs_session.wait_event = sqs_wait_event_new("SqsbridgeHandlerWorker");

	/*
	 * A large body takes a few allocations of its size.  By default, glibc
	 * returns each of them to the kernel after the message, which costs more
	 * than all that is done with the bytes in this process.
	 */
#ifdef __GLIBC__
	(void) mallopt(M_MMAP_THRESHOLD, KEPT_MEMORY / 2);
	(void) mallopt(M_TRIM_THRESHOLD, KEPT_MEMORY);
#endif

	sqs_session.message_context = AllocSetContextCreate(TopMemoryContext, "sqsbridge message",
														ALLOCSET_DEFAULT_SIZES);
	sqs_handler_functions_init();
	sqs_batch_init();
}

/* Entry point of the process. */
void
sqs_handler_worker_main(Datum arg)
{
	bool		reported_idle = false;
	uint64		unannounced = 0;

	sqs_worker_attach(arg);
	start_handler_worker();

	in_loop = true;
	pg_atomic_write_u32(&sqs_session.channel->shared->ready, 1);
	SetLatch(&sqs_session.channel->shared->leader->procLatch);

	for (;;)
	{
		shm_mq_result received;
		Size		len;
		void	   *data;

		QueryCancelPending = false; /* it came too late for its message */
		CHECK_FOR_INTERRUPTS();
		if (ShutdownRequestPending ||
			pg_atomic_read_u32(&sqs_session.channel->shared->abandoned) != 0)
			break;
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (sqs_session_is_over())
			break;				/* the queue worker takes back the rest */

		received = shm_mq_receive(sqs_session.channel->messages, &len, &data, true);
		if (received == SHM_MQ_SUCCESS)
		{
			reported_idle = false;
			handle_frame(data, len);

			/* wake the queue worker for a run of results, not for each */
			if (++unannounced >= SQS_CHANNEL_DEPTH / 4)
			{
				SetLatch(&sqs_session.channel->shared->leader->procLatch);
				unannounced = 0;
			}
			continue;
		}
		if (received == SHM_MQ_DETACHED)
			break;				/* the queue worker is gone */

		/* nothing more to do */
		if (unannounced > 0)
		{
			SetLatch(&sqs_session.channel->shared->leader->procLatch);
			unannounced = 0;
		}
		if (pg_atomic_read_u32(&sqs_session.channel->shared->stop) != 0)
			break;
		if (!reported_idle)
		{
			pgstat_report_stat(false);
			pgstat_report_activity(STATE_IDLE, NULL);
			sqs_set_worker_state(SQS_WORKER_IDLE);
			reported_idle = true;
		}
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					  1000, sqs_session.wait_event) & WL_TIMEOUT)
			pgstat_report_stat(true);
		ResetLatch(MyLatch);
	}

	proc_exit(0);
}
