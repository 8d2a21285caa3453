/*-------------------------------------------------------------------------
 *
 * dead_letter_queue.h
 *	  Dead letters that are sent to another queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_DEAD_LETTER_QUEUE_H
#define SQSBRIDGE_DEAD_LETTER_QUEUE_H

extern void sqs_dead_letter_queue_init(void);	/* from _PG_init */

#endif							/* SQSBRIDGE_DEAD_LETTER_QUEUE_H */
