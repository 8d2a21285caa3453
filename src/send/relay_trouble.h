/*-------------------------------------------------------------------------
 *
 * relay_trouble.h
 *	  What goes wrong in the relay: back-offs, the view, the log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RELAY_TROUBLE_H
#define SQSBRIDGE_RELAY_TROUBLE_H

#include "send/relay_state.h"

#define SQS_RELAY_STATS_RETRY_MS	1000

/*
 * Something of ours could not be done, or can be again: it concerns this
 * queue, or with NULL all those that the trouble is about.  locked: for want
 * of a lock, which is tried again soon; else for an error.
 */
extern void sqs_relay_trouble(Relay *relay, RelayQueue *queue, RelayTrouble *trouble,
							  bool locked, const char *text, int64 now);
extern void sqs_relay_trouble_over(Relay *relay, RelayQueue *queue, RelayTrouble *trouble);

/*
 * A queue cannot be sent to, and why; and nothing is wrong with it any more,
 * if that is so.  announce: the log is to hear of it, if it has not yet.
 */
extern void sqs_relay_queue_error(RelayQueue *queue, const char *text, bool announce);
extern void sqs_relay_queue_well(Relay *relay, RelayQueue *queue);

/* This process has no descriptor left: do with the connections there are. */
extern void sqs_relay_note_shortage(Relay *relay, RelayQueue *queue, const AwsError *error,
									int64 now);

/*
 * In PG_CATCH: recover from the error.  Returns what it says, in the scratch
 * context, which is the current one then.  What is in memory is as it should
 * be, because whoever raises an error has left it so.
 */
extern char *sqs_relay_recover(Relay *relay);

/* An entry for what is to be said about the queue, if there is room for one. */
extern void sqs_relay_find_stats(RelayQueue *queue, int64 now);

/* For the view: the queue's state; and rows that only a person can set going. */
extern void sqs_relay_report_state(Relay *relay, RelayQueue *queue, int64 now);
extern void sqs_relay_report_stranded(Relay *relay);

#endif							/* SQSBRIDGE_RELAY_TROUBLE_H */
