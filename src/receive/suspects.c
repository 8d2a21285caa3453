/*-------------------------------------------------------------------------
 *
 * suspects.c
 *	  Messages that may have made the server crash.
 *
 * After a crash, the messages that were in hand come back.  One of them may be
 * the reason: then it makes the server crash again, for ever, and with it all
 * that others do in this cluster.  Any message that was first delivered before
 * the crash, and is delivered again, is a suspect.  Suspects are handed out one at
 * a time, besides other messages, so that the next crash has one culprit; what
 * the handler worker does with it is described in ending.c.  If it finds that the
 * message has been suspected before, it asks to have it alone: then nothing else
 * of the queue is handed out, until nothing runs, and it is its turn.
 *
 * Without a crash this costs nothing but a comparison for each message.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "receive/suspects.h"

/* By so much SQS's clock may be ahead of ours. */
#define CLOCKS_DIFFER_MS	60000

bool
sqs_is_suspect(const SqsReceivedMessage *message)
{
	int64		crashed_ms;

	if (message->receive_count <= 1 || sqs_shared->crashed_before == 0)
		return false;
	crashed_ms = sqs_shared->crashed_before / 1000 +
		(int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000;
	return message->first_received_ms > 0 &&
		message->first_received_ms < crashed_ms + CLOCKS_DIFFER_MS;
}

/* Messages that come before one of its own group are not in its way. */
bool
sqs_suspects_permit(const QueueWorker *qw, const Lease *lease)
{
	const Lease *alone = qw->suspects.alone;

	if (alone == lease)
		return qw->handed == 0;
	if (alone != NULL && (lease->group == NULL || lease->group != alone->group))
		return false;
	return !lease->is_suspect || qw->suspects.handed == NULL;
}

uint32
sqs_suspect_frame_flags(const QueueWorker *qw, const Lease *lease)
{
	return (lease->is_suspect ? SQS_FRAME_SUSPECT : 0) |
		(qw->suspects.alone == lease ? SQS_FRAME_ALONE : 0);
}

void
sqs_suspects_handed(QueueWorker *qw, Lease *lease)
{
	if (lease->is_suspect)
		qw->suspects.handed = lease;
}

void
sqs_suspects_back(QueueWorker *qw, Lease *lease)
{
	if (qw->suspects.handed == lease)
		qw->suspects.handed = NULL;
}

void
sqs_suspects_gone(QueueWorker *qw, Lease *lease)
{
	if (qw->suspects.alone == lease)
		qw->suspects.alone = NULL;
}

/* If another waits for that, it comes first, and this one will ask again. */
void
sqs_suspects_wait_alone(QueueWorker *qw, Lease *lease)
{
	if (qw->suspects.alone == NULL)
		qw->suspects.alone = lease;
}
