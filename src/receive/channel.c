/*-------------------------------------------------------------------------
 *
 * channel.c
 *	  What travels between a queue worker and one handler worker.
 *
 * See channel.h for the protocol.  Frames have length-prefixed fields in the
 * host's byte order, because both ends are the same program on one machine.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/shm_toc.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "base/worker.h"
#include "receive/channel.h"

#define CHANNEL_MAGIC		0x53515342
#define KEY_SHARED			1
#define KEY_MESSAGES		2
#define KEY_LEASE_ENDS		3
#define KEY_RESULTS			4

/* Room for about a batch of small messages; larger ones go through bit by bit. */
#define QUEUE_SIZE_MIN		((Size) 256 * 1024)
#define QUEUE_SIZE_PER_MESSAGE	1024

/*
 * Runs when the queue worker detaches the segment, explicitly or because it
 * exits.  A detached shm_mq alone would not do, because the receiver can still
 * read what is in it.
 */
static void
channel_abandoned(dsm_segment *segment, Datum arg)
{
	SqsChannelShared *shared = (SqsChannelShared *) DatumGetPointer(arg);

	pg_atomic_write_u32(&shared->abandoned, 1);
}

/* Memory comes from TopMemoryContext; see channel.h. */
SqsChannel *
sqs_channel_create(int32 queue_id, const char *queue_name, int depth)
{
	MemoryContext old;
	dsm_segment *segment;
	SqsChannel *channel;
	shm_toc_estimator e;
	shm_toc    *toc;
	Size		size;
	Size		queue_size = Max(QUEUE_SIZE_MIN, depth * QUEUE_SIZE_PER_MESSAGE);
	SqsChannelShared *shared;
	shm_mq	   *mq;

	shm_toc_initialize_estimator(&e);
	shm_toc_estimate_chunk(&e, sizeof(SqsChannelShared));
	shm_toc_estimate_chunk(&e, queue_size);
	shm_toc_estimate_chunk(&e, depth * sizeof(SqsLeaseEnd));
	shm_toc_estimate_chunk(&e, depth * sizeof(SqsResult));
	shm_toc_estimate_keys(&e, 4);
	size = shm_toc_estimate(&e);

	segment = sqs_segment_create(size);
	old = MemoryContextSwitchTo(TopMemoryContext);
	channel = palloc0(sizeof(SqsChannel));
	channel->segment = segment;
	toc = shm_toc_create(CHANNEL_MAGIC, dsm_segment_address(channel->segment), size);

	shared = shm_toc_allocate(toc, sizeof(SqsChannelShared));
	memset(shared, 0, sizeof(*shared));
	shared->queue_id = queue_id;
	shared->depth = depth;
	shared->leader = MyProc;
	strlcpy(shared->queue, queue_name, sizeof(shared->queue));
	SpinLockInit(&shared->mutex);
	pg_atomic_init_u32(&shared->signaling, 0);
	pg_atomic_init_u32(&shared->stop, 0);
	pg_atomic_init_u32(&shared->stopping, 0);
	pg_atomic_init_u32(&shared->abandoned, 0);
	pg_atomic_init_u32(&shared->ready, 0);
	pg_atomic_init_u32(&shared->retention, 0);
	pg_atomic_init_u32(&shared->term_requested, 0);
	pg_atomic_init_u32(&shared->overran, 0);
	pg_atomic_init_u64(&shared->results_written, 0);
	pg_atomic_init_u64(&shared->results_read, 0);
	shm_toc_insert(toc, KEY_SHARED, shared);

	channel->lease_ends = shm_toc_allocate(toc, depth * sizeof(SqsLeaseEnd));
	shm_toc_insert(toc, KEY_LEASE_ENDS, channel->lease_ends);
	channel->results = shm_toc_allocate(toc, depth * sizeof(SqsResult));
	shm_toc_insert(toc, KEY_RESULTS, channel->results);

	mq = shm_mq_create(shm_toc_allocate(toc, queue_size), queue_size);
	shm_mq_set_sender(mq, MyProc);
	shm_toc_insert(toc, KEY_MESSAGES, mq);
	channel->messages = shm_mq_attach(mq, channel->segment, NULL);
	on_dsm_detach(channel->segment, channel_abandoned, PointerGetDatum(shared));
	channel->shared = shared;

	MemoryContextSwitchTo(old);
	return channel;
}

/* Detaching the segment detaches the queue. */
void
sqs_channel_destroy(SqsChannel *channel)
{
	shm_mq_detach(channel->messages);
	dsm_detach(channel->segment);
	pfree(channel);
}

/* Memory comes from TopMemoryContext; the mapping lasts until the process exits. */
SqsChannel *
sqs_channel_attach(dsm_handle handle)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	SqsChannel *channel;
	dsm_segment *segment;
	shm_toc    *toc;
	shm_mq	   *mq;

	segment = dsm_attach(handle);
	if (segment == NULL)
	{
		MemoryContextSwitchTo(old);
		return NULL;			/* the queue worker is gone */
	}
	dsm_pin_mapping(segment);
	toc = shm_toc_attach(CHANNEL_MAGIC, dsm_segment_address(segment));
	if (toc == NULL)
		elog(ERROR, "bad magic number in sqsbridge channel");

	channel = palloc0(sizeof(SqsChannel));
	channel->segment = segment;
	channel->shared = shm_toc_lookup(toc, KEY_SHARED, false);
	channel->lease_ends = shm_toc_lookup(toc, KEY_LEASE_ENDS, false);
	channel->results = shm_toc_lookup(toc, KEY_RESULTS, false);
	mq = shm_toc_lookup(toc, KEY_MESSAGES, false);
	shm_mq_set_receiver(mq, MyProc);
	channel->messages = shm_mq_attach(mq, segment, NULL);

	MemoryContextSwitchTo(old);
	return channel;
}

static inline void
append_slice(StringInfo buf, SqsSlice slice)
{
	if (slice.data != NULL && slice.len > 0)
		appendBinaryStringInfo(buf, slice.data, slice.len);
}

static inline int32
optional_len(SqsSlice slice)
{
	return slice.data == NULL ? -1 : (int32) slice.len;
}

/* Replaces what is in buf.  The layout is SqsFrame's, see channel.h. */
void
sqs_frame_encode(StringInfo buf, uint64 seq, uint32 chain, uint32 flags,
				 int handler_timeout, int64 stamp, uint64 change,
				 const char *handler, Oid handler_owner,
				 const SqsReceivedMessage *message)
{
	SqsFrame	frame;

	memset(&frame, 0, sizeof(frame));
	frame.seq = seq;
	frame.chain = chain;
	frame.flags = flags;
	frame.handler_timeout = handler_timeout;
	frame.receive_count = message->receive_count;
	frame.sent_ms = message->sent_ms;
	frame.first_received_ms = message->first_received_ms;
	frame.stamp = stamp;
	frame.change = change;
	frame.handler_owner = handler_owner;
	frame.handler_len = strlen(handler);
	frame.message_id_len = message->message_id.len;
	frame.receipt_handle_len = message->receipt_handle.len;
	frame.group_id_len = optional_len(message->group_id);
	frame.deduplication_id_len = optional_len(message->deduplication_id);
	frame.sequence_number_len = optional_len(message->sequence_number);
	frame.body_md5_len = optional_len(message->body_md5);
	frame.nattributes = message->nattributes;
	frame.nsystem = message->nsystem;
	frame.body_len = message->body.len;
	frame.damage_len = message->damage == NULL ? -1 : (int32) strlen(message->damage);

	resetStringInfo(buf);
	appendBinaryStringInfo(buf, (char *) &frame, sizeof(frame));
	for (int i = 0; i < message->nattributes; i++)
	{
		const SqsAttribute *attribute = &message->attributes[i];
		SqsFrameAttribute header;

		header.name_len = attribute->name.len;
		header.type_len = attribute->data_type.len;
		header.value_len = attribute->value.len;
		header.binary = attribute->binary;
		appendBinaryStringInfo(buf, (char *) &header, sizeof(header));
	}
	for (int i = 0; i < message->nsystem; i++)
	{
		SqsFrameAttribute header;

		header.name_len = message->system[i].name.len;
		header.type_len = 0;
		header.value_len = message->system[i].value.len;
		header.binary = 0;
		appendBinaryStringInfo(buf, (char *) &header, sizeof(header));
	}

	appendBinaryStringInfo(buf, handler, frame.handler_len);
	append_slice(buf, message->message_id);
	append_slice(buf, message->receipt_handle);
	append_slice(buf, message->group_id);
	append_slice(buf, message->deduplication_id);
	append_slice(buf, message->sequence_number);
	append_slice(buf, message->body_md5);
	for (int i = 0; i < message->nattributes; i++)
	{
		append_slice(buf, message->attributes[i].name);
		append_slice(buf, message->attributes[i].data_type);
		append_slice(buf, message->attributes[i].value);
	}
	for (int i = 0; i < message->nsystem; i++)
	{
		append_slice(buf, message->system[i].name);
		append_slice(buf, message->system[i].value);
	}
	if (message->damage != NULL)
		appendBinaryStringInfo(buf, message->damage, frame.damage_len);

	/* the body comes last, from where it is; with this it is a text */
	appendBinaryStringInfo(buf, "\0\0\0", INTALIGN(buf->len) - buf->len);
	enlargeStringInfo(buf, VARHDRSZ);
	SET_VARSIZE(buf->data + buf->len, VARHDRSZ + message->body.len);
	buf->len += VARHDRSZ;
}

void
sqs_frame_run(StringInfo buf)
{
	SqsFrame	frame;

	memset(&frame, 0, sizeof(frame));
	frame.flags = SQS_FRAME_RUN;
	resetStringInfo(buf);
	appendBinaryStringInfo(buf, (char *) &frame, sizeof(frame));
}

typedef struct Cursor
{
	const char *p;
	const char *end;
} Cursor;

static const char *
take(Cursor *cursor, Size len)
{
	const char *p = cursor->p;

	if ((Size) (cursor->end - cursor->p) < len)
		elog(ERROR, "malformed sqsbridge frame");
	cursor->p += len;
	return p;
}

static SqsSlice
take_slice(Cursor *cursor, int64 len)
{
	SqsSlice	slice = {NULL, 0};

	if (len >= 0)
	{
		slice.data = take(cursor, (Size) len);
		slice.len = (size_t) len;
	}
	return slice;
}

/*
 * An ERROR if the frame does not hold what its header says.  "data" is aligned, as
 * what shm_mq_receive() returns is.
 */
void
sqs_frame_decode(const char *data, Size len, SqsDelivery *delivery)
{
	Cursor		cursor = {data, data + len};
	SqsFrame   *frame = &delivery->frame;
	SqsReceivedMessage *message = &delivery->message;
	SqsFrameAttribute headers[SQS_PARSE_MAX_ATTRIBUTES + SQS_PARSE_MAX_SYSTEM_ATTRIBUTES];

	memcpy(frame, take(&cursor, sizeof(*frame)), sizeof(*frame));
	if (frame->nattributes > SQS_PARSE_MAX_ATTRIBUTES ||
		frame->nsystem > SQS_PARSE_MAX_SYSTEM_ATTRIBUTES)
		elog(ERROR, "malformed sqsbridge frame");
	for (uint32 i = 0; i < frame->nattributes + frame->nsystem; i++)
		memcpy(&headers[i], take(&cursor, sizeof(headers[i])), sizeof(headers[i]));

	message->receive_count = frame->receive_count;
	message->sent_ms = frame->sent_ms;
	message->first_received_ms = frame->first_received_ms;
	delivery->handler = take_slice(&cursor, frame->handler_len);
	message->message_id = take_slice(&cursor, frame->message_id_len);
	message->receipt_handle = take_slice(&cursor, frame->receipt_handle_len);
	message->group_id = take_slice(&cursor, frame->group_id_len);
	message->deduplication_id = take_slice(&cursor, frame->deduplication_id_len);
	message->sequence_number = take_slice(&cursor, frame->sequence_number_len);
	message->body_md5 = take_slice(&cursor, frame->body_md5_len);
	message->nattributes = frame->nattributes;
	for (uint32 i = 0; i < frame->nattributes; i++)
	{
		SqsAttribute *attribute = &message->attributes[i];

		attribute->name = take_slice(&cursor, headers[i].name_len);
		attribute->data_type = take_slice(&cursor, headers[i].type_len);
		attribute->value = take_slice(&cursor, headers[i].value_len);
		attribute->binary = headers[i].binary != 0;
	}
	message->nsystem = frame->nsystem;
	for (uint32 i = 0; i < frame->nsystem; i++)
	{
		SqsFrameAttribute *header = &headers[frame->nattributes + i];

		message->system[i].name = take_slice(&cursor, header->name_len);
		message->system[i].value = take_slice(&cursor, header->value_len);
	}
	delivery->damage = take_slice(&cursor, frame->damage_len);
	(void) take(&cursor, INTALIGN(cursor.p - data) - (cursor.p - data));
	delivery->body = (text *) take(&cursor, VARHDRSZ);
	message->body = take_slice(&cursor, frame->body_len);
	message->damage = NULL;
}
