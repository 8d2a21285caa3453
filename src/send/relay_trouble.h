/*-------------------------------------------------------------------------
 *
 * relay_trouble.h
 *	  Failures of the relay: back-off, views and log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_RELAY_TROUBLE_H
#define SQSBRIDGE_RELAY_TROUBLE_H

#include "send/relay_state.h"

#define SQS_RELAY_STATS_RETRY_MS	1000

/*
 * Work of the relay has failed, or succeeds again.  "queue" is the queue
 * that it concerns; NULL means all queues that the trouble affects.
 */
extern void sqs_relay_trouble(Relay *relay, RelayQueue *queue, RelayTrouble *trouble,
							  bool locked, const char *text, int64 now);
extern void sqs_relay_trouble_over(Relay *relay, RelayQueue *queue, RelayTrouble *trouble);

/* A queue cannot be sent to, or can be again */
extern void sqs_relay_queue_error(RelayQueue *queue, const char *text, bool announce);
extern void sqs_relay_queue_well(Relay *relay, RelayQueue *queue);

/* This process has no file descriptor left for another connection */
extern void sqs_relay_note_shortage(Relay *relay, RelayQueue *queue, const AwsError *error,
									int64 now);

/* In PG_CATCH: recover from the error and return its text */
extern char *sqs_relay_recover(Relay *relay);

/* Get the entry for the statistics of the queue, if there is room for one */
extern void sqs_relay_find_stats(RelayQueue *queue, int64 now);

/* Report the state of a queue, and stranded rows */
extern void sqs_relay_report_state(Relay *relay, RelayQueue *queue, int64 now);
extern void sqs_relay_report_stranded(Relay *relay);

#endif							/* SQSBRIDGE_RELAY_TROUBLE_H */
