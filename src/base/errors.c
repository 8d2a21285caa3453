/*-------------------------------------------------------------------------
 *
 * errors.c
 *	  Consecutive errors: the last one, how many, and which have been logged.
 *
 * An outage makes the same calls fail for as long as it lasts.  The views show
 * each failure, but the log gets each kind of error once per series of
 * consecutive errors.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "storage/spin.h"

#include "base/errors.h"

/*
 * The length of the part of an error text that identifies its kind: of
 * "Action: Code: message" that is what precedes the message, which may contain
 * times and ids.
 */
static size_t
significant_length(const char *text)
{
	const char *colon = strstr(text, ": ");

	if (colon != NULL)
		colon = strstr(colon + 2, ": ");
	return colon != NULL ? colon - text : strlen(text);
}

/*
 * Is this the first error of its kind in the series?  Several kinds must be
 * remembered: in an outage polls, deletes and heartbeats fail in turn, each
 * with a text of its own.  Called with the spinlock held.
 */
static bool
is_first_of_its_kind(SqsErrors *errors, uint32 kind)
{
	for (int i = 0; i < Min(errors->nannounced, SQS_ANNOUNCED_ERRORS); i++)
	{
		if (errors->announced[i] == kind)
			return false;
	}
	errors->announced[errors->nannounced++ % SQS_ANNOUNCED_ERRORS] = kind;
	return true;
}

/*
 * Copy a text in the database's encoding into a buffer of this size.  If it is
 * too long, it is truncated after a whole character: such texts become values
 * of views, and PostgreSQL's functions rely on the encoding of a value.
 */
void
sqs_copy_text(char *dst, const char *src, size_t size)
{
	int			len = pg_mbcliplen(src, (int) strlen(src), (int) size - 1);

	memcpy(dst, src, len);
	dst[len] = '\0';
}

/*
 * Add an error to a SqsErrors in shared memory.  "mutex" is the spinlock of
 * the entry that contains it.  The text is truncated to SQS_ERROR_TEXT - 1
 * bytes.  Returns whether the caller should log the error: if "announce" is
 * true, and no error of its kind was announced in this series.
 */
bool
sqs_errors_add(SqsErrors *errors, slock_t *mutex, const char *text, bool announce)
{
	TimestampTz now = GetCurrentTimestamp();
	char		clipped[SQS_ERROR_TEXT];
	uint32		kind;
	bool		news;

	sqs_copy_text(clipped, text, sizeof(clipped));
	kind = hash_bytes((const unsigned char *) clipped, significant_length(clipped));

	SpinLockAcquire(mutex);
	if (errors->since == 0)
	{
		errors->since = now;
		errors->nannounced = 0;
	}
	news = announce && is_first_of_its_kind(errors, kind);
	memcpy(errors->last, clipped, sizeof(clipped));
	errors->last_at = now;
	errors->consecutive++;
	SpinLockRelease(mutex);
	return news;
}
