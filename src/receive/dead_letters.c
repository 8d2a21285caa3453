/*-------------------------------------------------------------------------
 *
 * dead_letters.c
 *	  Keeping messages that are not handled any more: the rows of
 *	  sqs_dead_letters.
 *
 * A row, or one of the outbox if dead letters go to a queue, is written in the
 * transaction that ends the message, together with the row of the inbox, and SQS
 * is told to delete the message when that is durable.
 * So a message is with SQS or has a row here, whatever fails, and not twice.
 *
 * For that reason there must be no message that cannot be stored.  One that the
 * database's encoding cannot represent is stored as the bytes that SQS sent, see
 * sqs_message_keep().
 *
 * Rows are changed only by sqs_redrive() and sqs_discard_dead_letter(), and
 * deleted only after that (control/dead_letters.c, control/clean.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/ids.h"
#include "base/table_writer.h"
#include "config/parked_groups.h"
#include "receive/dead_letters.h"
#include "receive/failures.h"
#include "receive/message.h"

#define YEAR_10000_MS	INT64CONST(253402300800000)

SqsDeadLetterSend sqs_dead_letter_send;

static void
set_value(Datum *values, bool *nulls, DeadLetterColumn column, Datum value)
{
	values[column] = value;
	nulls[column] = value == (Datum) 0;
}

/* What is no time becomes NULL; an endpoint may say anything. */
static void
set_time(Datum *values, bool *nulls, DeadLetterColumn column, int64 ms)
{
	nulls[column] = ms <= 0 || ms >= YEAR_10000_MS;
	values[column] = nulls[column] ? (Datum) 0 : TimestampTzGetDatum(sqs_message_time(ms));
}

/* Written as whatever role the process has: table_writer.c checks no privilege. */
void
sqs_dead_letter_insert(const SqsQueueConfig *config, const SqsDelivery *delivery,
					   const ErrorData *edata, const char *reason, int attempts,
					   const char *route)
{
	const SqsReceivedMessage *message = &delivery->message;
	bool		parked = strcmp(reason, "parked") == 0;
	SqsWriter  *writer;
	SqsKeptMessage kept;
	Datum		values[DEAD_NATTS] = {0};
	bool		nulls[DEAD_NATTS] = {false};

	sqs_message_keep(message, config->unwrap, &kept);
	if (!parked && config->dead_letter != NULL && strcmp(config->dead_letter, "queue") == 0 &&
		sqs_dead_letter_send(config, &kept, edata, reason, attempts))
	{
		if (sqs_queue_parks_groups(config) && kept.group_id != (Datum) 0)
			sqs_group_park(config->queue_id, kept.group_id, 0);
		return;
	}

	writer = sqs_writer_open(SQS_TABLE_DEAD_LETTERS);
	values[DEAD_QUEUE_ID] = Int32GetDatum(config->queue_id);
	values[DEAD_ID] = Int64GetDatum(sqs_new_dead_letter_id());
	values[DEAD_QUEUE] = CStringGetTextDatum(config->name);
	values[DEAD_OWNER_OID] = ObjectIdGetDatum(config->bound_owner.oid);
	values[DEAD_OWNER] = CStringGetTextDatum(config->bound_owner.name);
	values[DEAD_STATE] = CStringGetTextDatum(parked ? "parked" : "dead");
	values[DEAD_MESSAGE_ID] = kept.message_id;
	set_value(values, nulls, DEAD_GROUP_ID, kept.group_id);
	set_value(values, nulls, DEAD_DEDUPLICATION_ID, kept.deduplication_id);
	set_value(values, nulls, DEAD_SEQUENCE_NUMBER, kept.sequence_number);
	set_value(values, nulls, DEAD_BODY, kept.body);
	set_value(values, nulls, DEAD_ATTRIBUTES, kept.attributes);
	set_value(values, nulls, DEAD_SYSTEM_ATTRIBUTES, kept.system_attributes);
	set_value(values, nulls, DEAD_ENVELOPE, kept.envelope);
	set_value(values, nulls, DEAD_RAW, kept.raw);
	set_value(values, nulls, DEAD_ROUTE, route != NULL ? CStringGetTextDatum(route) : (Datum) 0);
	set_time(values, nulls, DEAD_SENT_AT, message->sent_ms);
	set_time(values, nulls, DEAD_FIRST_RECEIVED_AT, message->first_received_ms);
	values[DEAD_DIED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[DEAD_RECEIVE_COUNT] = Int32GetDatum(message->receive_count);
	nulls[DEAD_RECEIVE_COUNT] = message->receive_count <= 0;
	values[DEAD_ATTEMPTS] = Int32GetDatum(attempts);
	values[DEAD_REASON] = CStringGetTextDatum(reason);
	set_value(values, nulls, DEAD_SQLSTATE, edata != NULL ?
			  CStringGetTextDatum(unpack_sql_state(edata->sqlerrcode)) : (Datum) 0);
	sqs_set_error_text(&values[DEAD_MESSAGE], &nulls[DEAD_MESSAGE], edata ? edata->message : NULL);
	sqs_set_error_text(&values[DEAD_DETAIL], &nulls[DEAD_DETAIL], edata ? edata->detail : NULL);
	sqs_set_error_text(&values[DEAD_HINT], &nulls[DEAD_HINT], edata ? edata->hint : NULL);
	sqs_set_error_text(&values[DEAD_CONTEXT], &nulls[DEAD_CONTEXT], edata ? edata->context : NULL);
	values[DEAD_HANDLER_PID] = Int32GetDatum(MyProcPid);
	nulls[DEAD_RESOLVED_AT] = nulls[DEAD_RESOLVED_BY_OID] = nulls[DEAD_RESOLVED_BY] = true;
	nulls[DEAD_REDRIVEN_AS] = true;

	sqs_writer_insert(writer, values, nulls);
	sqs_writer_close(writer);
	if (!parked && sqs_queue_parks_groups(config) && kept.group_id != (Datum) 0)
		sqs_group_park(config->queue_id, kept.group_id, DatumGetInt64(values[DEAD_ID]));
}
