/*-------------------------------------------------------------------------
 *
 * verify_sns.c
 *	  Messages of queues that take only what SNS has signed.
 *
 * A message names the certificate that it is signed with, by a URL.  The handler
 * worker gets it, before the message's transaction begins, and keeps it for
 * a day; so it has to wait for the network once in a day.  Meanwhile the queue
 * worker renews the lease, as for a message that takes long to handle.
 *
 * The sender chooses the URL, among those of SNS's hosts.  If there is no
 * certificate there, that is the message's fault.  It is remembered for a while,
 * so that many such messages do not cause many requests; and does not displace
 * a certificate.  If SNS's host cannot be reached, or the certificate is not
 * trusted, that is not the message's fault: an error of class 08 pauses the queue.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/wait_event.h"

#include "aws/sns_signature.h"
#include "base/compat.h"
#include "base/sqlstates.h"
#include "base/worker.h"
#include "config/connect.h"
#include "receive/verify_sns.h"

#define MAX_KEPT		16
#define KEEP_GOOD_MS	(24 * 60 * 60 * 1000)
#define KEEP_BAD_MS		(60 * 1000)
#define KEEP_UNKNOWN_MS	(10 * 1000)

#define FETCH_MS		5000
#define MAX_FILE		((size_t) 64 * 1024)

/* What is known about a URL. */
typedef struct KeptCertificate
{
	char		url[AWS_SNS_URL_SIZE];	/* "": unused */
	AwsSnsResult result;
	AwsSnsCertificate *certificate; /* if it is good; malloc'ed */
	char		why[AWS_SNS_WHY_SIZE];	/* otherwise */
	int64		until;			/* ms */
	int64		used_at;		/* ms */
} KeptCertificate;

static KeptCertificate kept[MAX_KEPT];

/* A request, and its reply. */
typedef struct Fetch
{
	bool		done;
	HttpReply	reply;
} Fetch;

static void
forget(KeptCertificate *entry)
{
	aws_sns_certificate_free(entry->certificate);
	memset(entry, 0, sizeof(*entry));
}

/* What is known about the URL; NULL: nothing that is still true. */
static KeptCertificate *
find_kept(const char *url, int64 now)
{
	for (int i = 0; i < MAX_KEPT; i++)
	{
		KeptCertificate *entry = &kept[i];

		if (strcmp(entry->url, url) != 0)
			continue;
		if (now < entry->until && (entry->result != AWS_SNS_GOOD ||
								   aws_sns_certificate_is_current(entry->certificate)))
			return entry;
		forget(entry);
	}
	return NULL;
}

/*
 * The place for another: one that is free or out of date, or that of the failure
 * or, for a certificate only, of the certificate that has not been needed for
 * longest.  NULL: there is none.
 */
static KeptCertificate *
make_room(AwsSnsResult result, int64 now)
{
	KeptCertificate *oldest = NULL;

	for (int i = 0; i < MAX_KEPT; i++)
	{
		KeptCertificate *entry = &kept[i];

		if (now >= entry->until)
			forget(entry);
		if (entry->url[0] == '\0')
			return entry;
		if (entry->result == AWS_SNS_GOOD && result != AWS_SNS_GOOD)
			continue;
		if (oldest == NULL ||
			(oldest->result == AWS_SNS_GOOD) > (entry->result == AWS_SNS_GOOD) ||
			((oldest->result == AWS_SNS_GOOD) == (entry->result == AWS_SNS_GOOD) &&
			 entry->used_at < oldest->used_at))
			oldest = entry;
	}
	if (oldest != NULL)
		forget(oldest);
	return oldest;
}

/* The certificate, if the result is good, is kept or freed. */
static void
keep(const KeptCertificate *found, int64 now)
{
	KeptCertificate *entry = make_room(found->result, now);

	if (entry == NULL)
		return;
	*entry = *found;
	entry->used_at = now;
	entry->until = now + (found->result == AWS_SNS_GOOD ? KEEP_GOOD_MS :
						  found->result == AWS_SNS_BAD ? KEEP_BAD_MS : KEEP_UNKNOWN_MS);
}

static void
fetch_done(HttpReply *reply, void *arg)
{
	Fetch	   *fetch = arg;

	fetch->reply = *reply;
	fetch->done = true;
}

/* Wait for the reply; the request has a deadline. */
static void
wait_for_reply(HttpPool *pool, Fetch *fetch)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = sqs_wait_event_new("SqsbridgeSnsCertificate");
	http_pool_start(pool);
	while (!fetch->done)
	{
		long		timeout = http_pool_timeout(pool);

		(void) WaitLatchOrSocket(MyLatch,
								 WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								 http_pool_fd(pool), timeout < 0 ? FETCH_MS : timeout, wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		http_pool_poll(pool);
	}
}

/* What the reply says about the URL. */
static void
take_reply(const HttpReply *reply, const AwsSnsPlace *place, KeptCertificate *found)
{
	if (reply->status == 200 && reply->error.class == AWS_ERROR_NONE)
	{
		found->result = aws_sns_certificate_read(reply->body, reply->len, place,
												 sqs_ca_file_in_use(), &found->certificate,
												 found->why);
		return;
	}
	if (reply->status == 403 || reply->status == 404 || reply->status == 410)
	{
		found->result = AWS_SNS_BAD;
		snprintf(found->why, sizeof(found->why), "there is no certificate where it says");
		return;
	}
	found->result = AWS_SNS_UNKNOWN;
	if (reply->error.class != AWS_ERROR_NONE)
	{
		strlcpy(found->why, reply->error.message, sizeof(found->why));
		aws_text_sanitize(found->why);
	}
	else
		snprintf(found->why, sizeof(found->why), "HTTP status %d", reply->status);
}

/* Get the certificate from there. */
static void
fetch_certificate(const AwsSnsPlace *place, KeptCertificate *found)
{
	AwsError	error;
	HttpPool   *pool = sqs_http_pool_create(1, &error);
	HttpTarget	target = {0};
	Fetch		fetch = {0};

	memset(found, 0, sizeof(*found));
	strlcpy(found->url, place->url, sizeof(found->url));
	if (pool == NULL)
	{
		found->result = AWS_SNS_UNKNOWN;
		strlcpy(found->why, error.message, sizeof(found->why));
		return;
	}
	target.url = place->url;
	target.ca_file = sqs_ca_file_in_use();
	PG_TRY();
	{
		if (http_request(pool, HTTP_GET, &target, NULL, 0, NULL, 0, FETCH_MS, MAX_FILE,
						 fetch_done, &fetch) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory")));
		wait_for_reply(pool, &fetch);
		take_reply(&fetch.reply, place, found);
	}
	PG_FINALLY();
	{
		free(fetch.reply.body);
		http_pool_destroy(pool);
	}
	PG_END_TRY();
}

/* The message is not SNS's.  url: of its certificate; NULL: none that matters. */
pg_noreturn static void
refuse(const char *why, const char *url)
{
	ereport(ERROR,
			(errcode(ERRCODE_SQS_NOT_SNS),
			 errmsg("message is not signed by SNS: %s", why),
			 url != NULL ? errdetail("Its certificate is \"%s\".", url) : 0));
}

/* The certificate that a message is signed with. */
static const AwsSnsCertificate *
get_certificate(const AwsSnsMessage *message)
{
	AwsSnsPlace place;
	const char *bad;
	KeptCertificate found;
	const KeptCertificate *entry;
	int64		now = sqs_now_ms();

	if (!aws_sns_place_parse(message->certificate_url.data, &place, &bad))
		refuse(psprintf("its SigningCertURL %s", bad), NULL);
	entry = find_kept(place.url, now);
	if (entry == NULL)
	{
		fetch_certificate(&place, &found);
		keep(&found, sqs_now_ms());
		entry = &found;
	}
	if (entry->result == AWS_SNS_BAD)
		refuse(entry->why, place.url);
	if (entry->result == AWS_SNS_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("could not get the certificate of an SNS message: %s", entry->why),
				 errdetail("The certificate is \"%s\".", place.url)));
	return entry->certificate;
}

void
sqs_verify_sns(const SqsReceivedMessage *message, bool *is_notification)
{
	char	   *body = pnstrdup(message->body.data != NULL ? message->body.data : "",
								message->body.len);
	AwsSnsMessage sns;
	const AwsSnsCertificate *certificate;
	const char *what;
	char		why[AWS_SNS_WHY_SIZE];

	if (!aws_sns_message_parse(body, message->body.len, &sns, &what))
		refuse(psprintf("it %s", what), NULL);
	certificate = get_certificate(&sns);
	switch (aws_sns_signature_verify(&sns, certificate, why))
	{
		case AWS_SNS_GOOD:
			break;
		case AWS_SNS_BAD:
			refuse(why, sns.certificate_url.data);
			break;
		case AWS_SNS_UNKNOWN:
			ereport(ERROR,
					(errcode(ERRCODE_SYSTEM_ERROR),
					 errmsg("could not verify the signature of an SNS message: %s", why)));
	}
	*is_notification = sns.is_notification;
	pfree(body);
}
