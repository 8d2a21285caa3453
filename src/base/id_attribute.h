/*-------------------------------------------------------------------------
 *
 * id_attribute.h
 *	  The one thing on which sending and receiving have to agree.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSBRIDGE_ID_ATTRIBUTE_H
#define SQSBRIDGE_ID_ATTRIBUTE_H

/*
 * Name of the message attribute by which a receiving sqsbridge recognizes a
 * message of an outbox that was sent twice.  Its value is a UUID.
 */
#define SQS_ID_ATTRIBUTE	"sqsbridge-id"

#endif							/* SQSBRIDGE_ID_ATTRIBUTE_H */
