/*-------------------------------------------------------------------------
 *
 * test_client_send.c
 *	  Sending by the client, to test/sqsd and to servers that answer oddly.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <sys/socket.h>
#include <unistd.h>

#include "rig.h"
#include "tap.h"

static void
sending(const Server *server, SqsClient *client, AwsCredentialsProvider *good_keys)
{
	SqsClient  *other;
	SqsOutgoing message;
	SqsOutgoing others[SQS_MAX_BATCH];
	const SqsOutgoing *messages[SQS_MAX_BATCH];
	char		fifo[128];
	char		bodies[SQS_MAX_BATCH][16];
	char		id[101];
	char	   *big;
	SqsCall    *call;
	SqsCall    *received;
	const SqsReceivedMessage *m;
	uint64		calls;
	int			good = 0;
	int			n = 0;

	/* one, with all that it can have, comes out as it went in */
	renew(server, 0);
	memset(&message, 0, sizeof(message));
	message.body = SLICE("h\xc3\xa9llo\n\"q\" \xf0\x9f\x98\x80");
	message.trace_header = SLICE("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1");
	message.nattributes = 3;
	message.attributes[0] = (SqsAttribute) {SLICE("Img"), SLICE("Binary.png"), SLICE("\x00\x01\xff"), true};
	message.attributes[1] = (SqsAttribute) {SLICE("City"), SLICE("String.de"), SLICE("K\xc3\xb6ln"), false};
	message.attributes[2] = (SqsAttribute) {SLICE("n"), SLICE("Number"), SLICE("-1.5"), false};
	messages[0] = &message;
	call = send_messages(client, server->queue, 0, messages, 10000, 1);
	ok(sqs_call_error(call) == NULL && sqs_call_action(call) == SQS_SEND_MESSAGE && sqs_call_nentries(call) == 1 &&
	   sqs_call_entry(call, 0)->ok && sqs_call_entry(call, 0)->sequence_number[0] == '\0', "send");
	strlcpy(id, sqs_call_entry(call, 0)->message_id, sizeof(id));
	sqs_call_free(call);
	received = receive(client, server->queue, 10, 0, 10000);
	if (is_int(sqs_call_nmessages(received), 1, "the message arrives"))
	{
		m = sqs_call_message(received, 0);
		is(sqs_message_damage(m), NULL, "whole");
		ok(m->body.len == message.body.len && memcmp(m->body.data, message.body.data, m->body.len) == 0, "its body");
		is(m->message_id.data, id, "its id");
		for (int i = 0; i < m->nattributes; i++)
			for (int j = 0; j < message.nattributes; j++)
			{
				const SqsAttribute *a = &m->attributes[i];
				const SqsAttribute *b = &message.attributes[j];

				good += a->binary == b->binary && strcmp(a->name.data, b->name.data) == 0 &&
					strcmp(a->data_type.data, b->data_type.data) == 0 && a->value.len == b->value.len &&
					memcmp(a->value.data, b->value.data, a->value.len) == 0;
			}
		ok(m->nattributes == 3 && good == 3, "its attributes");
		good = 0;
		for (int i = 0; i < m->nsystem; i++)
			good += strcmp(m->system[i].name.data, "AWSTraceHeader") == 0 &&
				strcmp(m->system[i].value.data, message.trace_header.data) == 0;
		is_int(good, 1, "its trace header");
	}
	sqs_call_free(received);

	/* ten, one of them refused */
	renew(server, 0);
	for (int i = 0; i < SQS_MAX_BATCH; i++)
	{
		memset(&others[i], 0, sizeof(others[i]));
		others[i].delay = -1;
		snprintf(bodies[i], sizeof(bodies[i]), "body %d", i);
		others[i].body = (SqsSlice) {bodies[i], strlen(bodies[i])};
		messages[i] = &others[i];
	}
	others[3].body = SLICE("");
	call = send_messages(client, server->queue, SQS_MAX_BATCH, messages, 10000, 1);
	ok(sqs_call_error(call) == NULL && sqs_call_action(call) == SQS_SEND_MESSAGE_BATCH &&
	   sqs_call_nentries(call) == SQS_MAX_BATCH, "send ten, one of them empty");
	good = 0;
	for (int i = 0; sqs_call_error(call) == NULL && i < SQS_MAX_BATCH; i++)
	{
		const SqsBatchEntry *entry = sqs_call_entry(call, i);

		if (i != 3)
			good += entry->ok && entry->message_id[0] != '\0';
		else
			ok(!entry->ok && entry->sender_fault && entry->class == AWS_ERROR_REQUEST && !entry->may_be_done,
			   "which is refused: %s", entry->code);
	}
	is_int(good, 9, "nine are sent");
	is_int(count(server, "q", "sent"), 9, "says the server as well");
	sqs_call_free(call);
	others[3].body = others[2].body;

	/* a FIFO queue: sequence numbers, and the same twice is once */
	renew(server, 0);
	snprintf(fifo, sizeof(fifo), "%s/000000000000/f.fifo", server->url);
	for (int i = 0; i < 2; i++)
	{
		others[i].group_id = SLICE("g");
		others[i].deduplication_id = i == 0 ? SLICE("d0") : SLICE("d1");
	}
	call = send_messages(client, fifo, 2, messages, 10000, 1);
	ok(sqs_call_error(call) == NULL && sqs_call_entry(call, 0)->ok && sqs_call_entry(call, 1)->ok &&
	   strcmp(sqs_call_entry(call, 0)->sequence_number, sqs_call_entry(call, 1)->sequence_number) < 0,
	   "sequence numbers that grow");
	received = send_messages(client, fifo, 0, messages, 10000, 1);
	ok(sqs_call_error(received) == NULL && sqs_call_entry(received, 0)->ok && sqs_call_error(call) == NULL &&
	   strcmp(sqs_call_entry(received, 0)->message_id, sqs_call_entry(call, 0)->message_id) == 0,
	   "sent again, it is the same message");
	sqs_call_free(received);
	sqs_call_free(call);
	is_int(count(server, "f.fifo", "sent"), 2, "and the queue has it once");
	others[0].deduplication_id = (SqsSlice) {NULL, 0};
	call = send_messages(client, fifo, 0, messages, 10000, 3);
	ok(sqs_call_error(call) != NULL && sqs_call_error(call)->class == AWS_ERROR_REQUEST &&
	   !sqs_call_error(call)->may_be_done, "a message that SQS refuses is not tried again");
	sqs_call_free(call);
	others[0].group_id = others[1].group_id = others[1].deduplication_id = (SqsSlice) {NULL, 0};

	/* the largest there are */
	renew(server, 0);
	big = malloc(MB);
	memset(big, 'b', MB);
	others[0].body = (SqsSlice) {big, MB};
	call = send_messages(client, server->queue, 0, messages, 30000, 1);
	ok(sqs_call_error(call) == NULL && sqs_call_entry(call, 0)->ok, "1 MiB");
	sqs_call_free(call);
	others[0].body.len = MB - others[1].body.len + 1;
	call = send_messages(client, server->queue, 2, messages, 30000, 1);
	ok(sqs_call_error(call) != NULL && sqs_call_error(call)->class == AWS_ERROR_REQUEST,
	   "a batch of 1 MiB and a byte is refused");
	sqs_call_free(call);
	others[0].body.len--;
	call = send_messages(client, server->queue, 2, messages, 30000, 1);
	ok(sqs_call_error(call) == NULL && sqs_call_entry(call, 0)->ok && sqs_call_entry(call, 1)->ok,
	   "a batch of 1 MiB");
	sqs_call_free(call);
	free(big);
	others[0].body = (SqsSlice) {bodies[0], strlen(bodies[0])};

	/* failures: what may have been done is told, what is tried again is known */
	renew(server, 0);
	fault(server, "{\"kind\":\"bad_md5\",\"count\":2}");
	call = send_messages(client, server->queue, 0, messages, 10000, 3);
	ok(sqs_call_error(call) == NULL && !sqs_call_entry(call, 0)->ok && sqs_call_entry(call, 0)->may_be_done &&
	   strcmp(sqs_call_entry(call, 0)->code, "ChecksumMismatch") == 0 && sqs_call_entry(call, 0)->message_id[0] != '\0',
	   "another MD5 than ours");
	sqs_call_free(call);
	call = send_messages(client, server->queue, 2, messages, 10000, 3);
	ok(sqs_call_error(call) == NULL && !sqs_call_entry(call, 0)->ok && !sqs_call_entry(call, 1)->ok &&
	   sqs_call_entry(call, 1)->may_be_done && sqs_call_entry(call, 1)->class == AWS_ERROR_TRANSIENT,
	   "the same in a batch");
	sqs_call_free(call);
	is_int(count(server, "q", "sent"), 3, "the client leaves it to its owner to send them again");

	renew(server, 0);
	fault(server, "{\"kind\":\"entry_fail\",\"every\":3,\"code\":\"InternalError\",\"sender_fault\":false}");
	call = send_messages(client, server->queue, SQS_MAX_BATCH, messages, 10000, 1);
	good = 0;
	for (int i = 0; sqs_call_error(call) == NULL && i < SQS_MAX_BATCH; i++)
	{
		const SqsBatchEntry *entry = sqs_call_entry(call, i);

		good += entry->ok;
		n += !entry->ok && !entry->sender_fault && !entry->may_be_done && entry->class == AWS_ERROR_TRANSIENT;
	}
	ok(good == 7 && n == 3, "every third entry fails");
	is_int(count(server, "q", "sent"), 7, "and is not sent");
	sqs_call_free(call);

	renew(server, 0);
	fault(server, "{\"kind\":\"lose_reply\",\"action\":\"SendMessage\"}");
	other = new_client(server->url, good_keys, NULL);
	call = send_messages(other, server->queue, 0, messages, 10000, 1);
	ok(sqs_call_error(call) != NULL && sqs_call_error(call)->class == AWS_ERROR_TRANSIENT &&
	   sqs_call_error(call)->may_be_done, "a lost reply: it may have been sent");
	sqs_call_free(call);
	is_int(count(server, "q", "sent"), 1, "and was");
	sqs_client_destroy(other);
	renew(server, 0);
	fault(server, "{\"kind\":\"error\",\"code\":\"ServiceUnavailable\",\"count\":1}");
	calls = sqs_client_stats(client)->calls[SQS_SEND_MESSAGE_BATCH];
	call = send_messages(client, server->queue, 2, messages, 20000, 3);
	ok(sqs_call_error(call) == NULL && sqs_call_entry(call, 0)->ok && sqs_call_entry(call, 1)->ok,
	   "sent at the second attempt");
	is_int(sqs_client_stats(client)->calls[SQS_SEND_MESSAGE_BATCH] - calls, 2, "of two");
	is_int(count(server, "q", "sent"), 2, "once each");
	sqs_call_free(call);
	renew(server, 0);
	fault(server, "{\"kind\":\"garbage\",\"count\":2}");
	for (int i = 0; i < 3; i += 2)
	{
		call = send_messages(client, server->queue, i, messages, 10000, 1);
		ok(sqs_call_error(call) != NULL && strcmp(sqs_call_error(call)->code, "InvalidReply") == 0 &&
		   sqs_call_error(call)->may_be_done, "garbage: it may have been sent");
		sqs_call_free(call);
	}
	renew(server, 0);
	fault(server, "{\"kind\":\"garbage\",\"count\":1}");
	call = send_messages(client, server->queue, 2, messages, 20000, 2);
	ok(sqs_call_error(call) == NULL && sqs_call_entry(call, 1)->ok, "garbage, then success");
	sqs_call_free(call);
	renew(server, 0);
	fault(server, "{\"kind\":\"error\",\"code\":\"KmsAccessDenied\",\"status\":400,\"message\":\"" SECRET "\"}");
	call = send_messages(client, server->queue, 2, messages, 10000, 3);
	ok(sqs_call_error(call) != NULL && sqs_call_error(call)->class == AWS_ERROR_CONFIGURATION &&
	   strstr(sqs_call_error(call)->message, "wJalr") == NULL, "a key that may not be used, and no secret in the text");
	sqs_call_free(call);
	renew(server, 0);
	fault(server, "{\"kind\":\"entry_fail\",\"code\":\"" SECRET "\",\"message\":\"x" SECRET "\",\"sender_fault\":true}");
	call = send_messages(client, server->queue, 2, messages, 10000, 1);
	ok(sqs_call_error(call) == NULL && !sqs_call_entry(call, 1)->ok &&
	   strstr(sqs_call_entry(call, 1)->message, "wJalr") == NULL && sqs_call_entry(call, 1)->message[0] == 'x' &&
	   strstr(sqs_call_entry(call, 1)->code, "wJalr") == NULL, "nor in those of entries");
	sqs_call_free(call);

	/* abandoned, and destroyed with the client: no completion, no leak */
	renew(server, 0);
	fault(server, "{\"kind\":\"blackhole\"}");
	n = 0;
	call = sqs_start_send(client, server->queue, &others[0], 10000, 1, free_when_done, &n);
	sqs_client_poll(client);
	sqs_call_abandon(call);
	sqs_start_send_batch(client, server->queue, SQS_MAX_BATCH, messages, 10000, 1, free_when_done, &n);
	sqs_client_poll(client);
	is_int(n, 0, "an abandoned call does not complete");
}

/* Who answers with another success than SQS's may have done what was asked. */
static void
odd_success(AwsCredentialsProvider *good)
{
	static const int statuses[] = {202, 204, 302, 404, 502};

	for (size_t i = 0; i < lengthof(statuses); i++)
	{
		char		url[64];
		char		answer[64];
		int			port;
		int			listener = listen_somewhere(&port);
		int			fd = -1;
		Wait		wait = {0, NULL};
		SqsOutgoing message;
		SqsClient  *client;
		SqsCall    *call;

		memset(&message, 0, sizeof(message));
		message.body.data = "x";
		message.body.len = 1;
		message.delay = -1;
		snprintf(url, sizeof(url), "http://127.0.0.1:%d", port);
		snprintf(answer, sizeof(answer), "HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", statuses[i]);
		client = new_client(url, good, NULL);
		call = sqs_start_send(client, "http://127.0.0.1/000000000000/q", &message, 60000, 1, done, &wait);
		while (wait.completions == 0)
		{
			serve(listener, &fd, answer);
			sqs_client_poll(client);
		}
		ok(sqs_call_error(call) != NULL, "status %d is no success", statuses[i]);
		is_int(sqs_call_error(call) != NULL && sqs_call_error(call)->may_be_done,
			   statuses[i] < 300 || statuses[i] >= 500, "may it have been sent");
		sqs_call_free(call);
		sqs_client_destroy(client);
		close(listener);
	}
}

void
test_client_send(void)
{
	AwsCredentialsProvider *good = aws_static_credentials(KEY, SECRET, NULL);
	Server		server;
	SqsClient  *client;

	if (!rig_begin())
		return;
	if (ok(start_server(&server, NULL, NULL), "the server starts"))
	{
		client = new_client(server.url, good, NULL);
		sending(&server, client, good);
		sqs_client_destroy(client);
	}
	odd_success(good);
	stop_server(&server);
	rig_end();
	aws_credentials_free(good);
}
