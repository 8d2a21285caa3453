/*-------------------------------------------------------------------------
 *
 * verify_sns.h
 *	  Messages of queues that take only what SNS has signed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_VERIFY_SNS_H
#define SQSBRIDGE_VERIFY_SNS_H

#include "aws/sqs_protocol.h"

/*
 * Raise an ERROR unless SNS has signed the message: ERRCODE_SQS_NOT_SNS if it has
 * not, another if that cannot be found out.  *is_notification is set if it has
 * an envelope that option unwrap takes off.  Not in a transaction: it may wait for
 * the network.
 */
extern void sqs_verify_sns(const SqsReceivedMessage *message, bool *is_notification);

#endif							/* SQSBRIDGE_VERIFY_SNS_H */
