/*-------------------------------------------------------------------------
 *
 * dead_letter_queue.c
 *	  Dead letters that are sent to another queue (option dead_letter = queue).
 *
 * The message goes through the outbox, so it is part of the transaction that ends
 * it like a row of sqs_dead_letters, and is sent when that is durable.  It is sent
 * as it was received, and says by attributes of ours why it is there, as far as
 * SQS's limits leave room for that: ten attributes, one of them for the outbox's
 * own, and 1 MiB.
 *
 * Receiving knows nothing of sending, so receive/dead_letters.c calls this
 * through a pointer that is set when the library is loaded.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "aws/sqs_protocol.h"
#include "control/dead_letter_queue.h"
#include "receive/dead_letters.h"
#include "send/outbox.h"

#define PREFIX			"sqsbridge-error-"
#define ERROR_TEXT_MAX	1024

/* An attribute of ours; text NULL: there is nothing to say. */
typedef struct ErrorAttribute
{
	const char *name;
	char	   *text;
} ErrorAttribute;

/* A text that SQS accepts as a value: neither empty, nor too long, nor with control characters. */
static char *
attribute_text(const char *text)
{
	int			len;
	char	   *clipped;

	if (text == NULL || text[0] == '\0')
		return NULL;
	len = pg_mbcliplen(text, strlen(text), ERROR_TEXT_MAX);
	clipped = pnstrdup(text, len);
	for (char *p = clipped; *p != '\0'; p++)
	{
		if ((unsigned char) *p < 0x20 && *p != '\t' && *p != '\n' && *p != '\r')
			*p = ' ';
	}
	return clipped;
}

/* The message's attributes with the first n of ours. */
static Datum
with_error(Datum attributes, const ErrorAttribute *ours, int n)
{
	Jsonb	   *own = DatumGetJsonbP(attributes);
	StringInfoData buf;

	if (n == 0)
		return attributes;
	initStringInfo(&buf);
	(void) JsonbToCString(&buf, &own->root, VARSIZE(own));
	buf.data[--buf.len] = '\0'; /* the closing brace */
	for (int i = 0; i < n; i++)
	{
		if (ours[i].text == NULL)
			continue;
		if (buf.data[buf.len - 1] != '{')
			appendStringInfoChar(&buf, ',');
		escape_json(&buf, ours[i].name);
		appendStringInfoChar(&buf, ':');
		escape_json(&buf, ours[i].text);
	}
	appendStringInfoChar(&buf, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(buf.data));
}

/*
 * The deduplication id is the message's: should it become a dead letter twice,
 * which only somebody's deleting rows of the inbox can bring about, there is still
 * one of it in the queue.
 */
static bool
send_dead_letter(const SqsQueueConfig *config, const SqsKeptMessage *kept,
				 const ErrorData *edata, const char *reason, int attempts)
{
	SqsQueueConfig *target = sqs_catalog_queue_to_send(config->dead_letter_queue, true);
	ErrorAttribute ours[] = {
		{PREFIX "reason", attribute_text(reason)},
		{PREFIX "sqlstate", edata ? pstrdup(unpack_sql_state(edata->sqlerrcode)) : NULL},
		{PREFIX "message", edata ? attribute_text(edata->message) : NULL},
		{PREFIX "queue", attribute_text(config->name)},
		{PREFIX "message-id", attribute_text(TextDatumGetCString(kept->message_id))},
		{PREFIX "attempts", psprintf("%d", attempts)},
	};
	Datum		values[ROW_NATTS] = {0};
	bool		nulls[ROW_NATTS];

	if (kept->body == (Datum) 0)
		return false;
	memset(nulls, true, sizeof(nulls));
	values[ROW_BODY] = kept->body;
	nulls[ROW_BODY] = false;
	values[ROW_GROUP_ID] = kept->group_id;
	nulls[ROW_GROUP_ID] = kept->group_id == (Datum) 0;
	if (target->fifo)
	{
		values[ROW_DEDUPLICATION_ID] = kept->message_id;
		nulls[ROW_DEDUPLICATION_ID] = false;
		if (nulls[ROW_GROUP_ID])
			values[ROW_GROUP_ID] = kept->message_id;
		nulls[ROW_GROUP_ID] = false;
	}

	for (int n = lengthof(ours); n >= 0; n--)
	{
		SqsOutgoing message;

		values[ROW_ATTRIBUTES] = with_error(kept->attributes, ours, n);
		nulls[ROW_ATTRIBUTES] = false;
		if (sqs_outbox_prepare(values, nulls, target->fifo, &message) != NULL ||
			(n > 0 && (message.nattributes >= SQS_MAX_ATTRIBUTES ||
					   sqs_outgoing_size(&message) + SQS_ID_BYTES > SQS_MAX_MESSAGE_BYTES)))
			continue;
		(void) sqs_outbox_store(config->dead_letter_queue, values, nulls);
		return true;
	}
	return false;
}

void
sqs_dead_letter_queue_init(void)
{
	sqs_dead_letter_send = send_dead_letter;
}
