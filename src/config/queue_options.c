/*-------------------------------------------------------------------------
 *
 * queue_options.c
 *	  The options of a queue: their ranges, defaults and values.
 *
 * An option is an argument of sqs_register_queue() and sqs_alter_queue(), and a
 * column of the table of queues, by the same name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "aws/endpoint.h"
#include "aws/sns_signature.h"
#include "config/key_source.h"
#include "config/queue_options.h"
#include "config/queues.h"

typedef struct QueueOption
{
	const char *name;			/* of the argument and of the column */
	Oid			type;
	int64		min;			/* intervals: in microseconds */
	int64		max;
	int64		unit;			/* must be a multiple of this; 0: no range */
	const char *legal;			/* completes "must be ..." */
	bool		has_default;	/* can be reset */
	const char *default_value;	/* NULL: null */
	const char *const *words;	/* a text must be one of these; NULL: any */
} QueueOption;

static const char *const dead_letter_words[] = {"none", "table", "queue", NULL};
static const char *const on_dead_letter_words[] = {"skip", "park_group", NULL};
static const char *const unroutable_words[] = {"handler", "fail", "dead_letter", "discard", NULL};

static const QueueOption queue_options[NUM_OPTIONS] = {
	[OPT_SERVER] = {"server", NAMEOID, 0, 0, 0, NULL, false},
	[OPT_HANDLER] = {"handler", TEXTOID, 0, 0, 0, NULL, true},
	[OPT_QUEUE_NAME] = {"queue_name", TEXTOID, 0, 0, 0, NULL, true},
	[OPT_CONCURRENCY] = {"concurrency", INT4OID, 1, SQS_CONCURRENCY_MAX, 1,
	"1 to 64", true, "1"},
	[OPT_BATCH_SIZE] = {"batch_size", INT4OID, 1, 10, 1,
	"1 to 10", true, "10"},
	[OPT_WAIT_TIME] = {"wait_time", INTERVALOID, 0, 20 * USECS_PER_SEC, USECS_PER_SEC,
	"0 to 20 seconds, in whole seconds", true, "20 s"},
	[OPT_VISIBILITY_TIMEOUT] = {"visibility_timeout", INTERVALOID,
		USECS_PER_SEC, 12 * USECS_PER_HOUR, USECS_PER_SEC,
	"1 second to 12 hours, in whole seconds", true},
	[OPT_HANDLER_TIMEOUT] = {"handler_timeout", INTERVALOID, 1000, 12 * USECS_PER_HOUR, 1000,
	"1 millisecond to 12 hours, in whole milliseconds", true},
	[OPT_RETRY_DELAY] = {"retry_delay", INTERVALOID, 0, 12 * USECS_PER_HOUR, USECS_PER_SEC,
	"0 to 12 hours, in whole seconds", true},
	[OPT_EXACTLY_ONCE] = {"exactly_once", BOOLOID, 0, 0, 0, NULL, true, "true"},
	[OPT_DEDUP_RETENTION] = {"dedup_retention", INTERVALOID,
		USECS_PER_MINUTE, 365 * USECS_PER_DAY, 1,
	"1 minute to 365 days, without months and years", true, "1 day"},
	[OPT_GROUP_BATCH_SIZE] = {"group_batch_size", INT4OID, 1, 10, 1,
	"1 to 10", true, "1"},
	[OPT_UNWRAP] = {"unwrap", TEXTOID, 0, 0, 0, NULL, true, "none"},
	[OPT_MAX_ATTEMPTS] = {"max_attempts", INT4OID, 1, 1000, 1,
	"1 to 1000", true},
	[OPT_RETRY_FACTOR] = {"retry_factor", FLOAT8OID, 1, 10, 1,
	"1 to 10", true, "2"},
	[OPT_RETRY_MAX_DELAY] = {"retry_max_delay", INTERVALOID,
		USECS_PER_SEC, 12 * USECS_PER_HOUR, USECS_PER_SEC,
	"1 second to 12 hours, in whole seconds", true, "15 min"},
	[OPT_RETRY_JITTER] = {"retry_jitter", FLOAT8OID, 0, 1, 1,
	"0 to 1", true, "0.2"},
	[OPT_THROTTLE_AFTER] = {"throttle_after", INT4OID, 0, 1000, 1,
	"0 to 1000", true, "20"},
	[OPT_DEAD_LETTER] = {"dead_letter", TEXTOID, 0, 0, 0,
	"none, table, or queue", true, NULL, dead_letter_words},
	[OPT_DEAD_LETTER_QUEUE] = {"dead_letter_queue", TEXTOID, 0, 0, 0, NULL, true},
	[OPT_ON_DEAD_LETTER] = {"on_dead_letter", TEXTOID, 0, 0, 0,
	"skip or park_group", true, "skip", on_dead_letter_words},
	[OPT_ROUTE_BY] = {"route_by", TEXTOID, 0, 0, 0, NULL, true},
	[OPT_UNROUTABLE] = {"unroutable", TEXTOID, 0, 0, 0,
	"handler, fail, dead_letter, or discard", true, NULL, unroutable_words},
	[OPT_DEDUP_KEY] = {"dedup_key", TEXTOID, 0, 0, 0, NULL, true},
	[OPT_HANDLER_BATCH_SIZE] = {"handler_batch_size", INT4OID, 1, 1000, 1,
	"1 to 1000", true, "100"},
	[OPT_HANDLER_BATCH_WAIT] = {"handler_batch_wait", INTERVALOID, 0, 10 * USECS_PER_SEC, 1000,
	"0 to 10 seconds, in whole milliseconds", true, "0"},
	[OPT_VERIFY_SNS] = {"verify_sns", BOOLOID, 0, 0, 0, NULL, true, "false"},
	[OPT_ENABLED] = {"enabled", BOOLOID, 0, 0, 0, NULL, false, "true"},
};

/*
 * Raise an ERROR about the value of an option.  The caller quotes the value
 * if necessary.  "must" completes the sentence 'Option "..."  '.
 */
void
sqs_option_refuse(SqsOptionId id, const char *value, const char *must)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\": %s", queue_options[id].name, value),
			 errdetail("Option \"%s\" %s.", queue_options[id].name, must)));
}

/* Quote the value of an option for sqs_option_refuse(). */
char *
sqs_option_quoted(const char *value)
{
	return psprintf("\"%s\"", value);
}

/* Raise an ERROR if it is none of the values of option "unwrap". */
static void
check_unwrap(char *value)
{
	SqsUnwrap	unwrap;

	if (!sqs_unwrap_by_name(value, &unwrap))
		sqs_option_refuse(OPT_UNWRAP, sqs_option_quoted(value),
						  "must be none, auto, sns, eventbridge, or s3");
}

/* Raise an ERROR if a text is none of its option's words. */
static void
check_word(SqsOptionId id, char *value)
{
	const char *const *word = queue_options[id].words;

	while (*word != NULL && strcmp(*word, value) != 0)
		word++;
	if (*word == NULL)
		sqs_option_refuse(id, sqs_option_quoted(value),
						  psprintf("must be %s", queue_options[id].legal));
}

/* The same for a fraction; NaN is out of every range. */
static void
check_fraction(SqsOptionId id, double value)
{
	const QueueOption *option = &queue_options[id];

	if (!(value >= option->min && value <= option->max))
		sqs_option_refuse(id, DatumGetCString(DirectFunctionCall1(float8out, Float8GetDatum(value))),
						  psprintf("must be %s", option->legal));
}

/* Add to the error of a jsonpath's syntax which option it is about. */
static void
key_source_error_context(void *arg)
{
	errcontext("option \"%s\", which must be attribute:NAME, envelope:KEY, or a jsonpath",
			   (const char *) arg);
}

/* Raise an ERROR unless the value says where a message's key is. */
static void
check_key_source(SqsOptionId id, char *value)
{
	SqsKeySource source;
	const char *why;
	bool		legal;
	ErrorContextCallback callback;

	callback.callback = key_source_error_context;
	callback.arg = unconstify(char *, queue_options[id].name);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	legal = sqs_key_source(value, &source, &why);
	error_context_stack = callback.previous;
	if (!legal)
		sqs_option_refuse(id, sqs_option_quoted(value), why);
}

/* Raise an ERROR if a number or an interval is out of its option's range. */
void
sqs_option_check_range(SqsOptionId id, Datum value)
{
	const QueueOption *option = &queue_options[id];
	int64		number = 0;
	bool		legal = true;

	if (option->unit == 0)
		return;

	if (option->type == FLOAT8OID)
	{
		check_fraction(id, DatumGetFloat8(value));
		return;
	}
	if (option->type == INTERVALOID)
	{
		Interval   *interval = DatumGetIntervalP(value);
		int64		days;

		/* months have no fixed length; an infinite interval has months, too */
		legal = interval->month == 0 &&
			!pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &days) &&
			!pg_add_s64_overflow(days, interval->time, &number);
	}
	else
		number = DatumGetInt32(value);

	if (!legal || number < option->min || number > option->max ||
		number % option->unit != 0)
		sqs_option_refuse(id,
						  option->type == INTERVALOID ?
						  sqs_option_quoted(DatumGetCString(DirectFunctionCall1(interval_out, value))) :
						  psprintf("%d", DatumGetInt32(value)),
						  psprintf("must be %s", option->legal));
}

/*
 * The server decides where requests go, not the queue's URL or ARN.  So one that
 * names another region would lead to a queue that does not exist, or to a
 * different queue of the same name.  If the server's region is not known yet,
 * an ARN is checked when the queue is looked up.
 */
static void
check_place(const char *value, const char *region, const SqsServerOptions *options)
{
	char		server_region[64];

	if (region != NULL &&
		aws_region_of_server(options->region, options->endpoint,
							 server_region, sizeof(server_region)) &&
		strcmp(region, server_region) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\": \"%s\"",
						queue_options[OPT_QUEUE_NAME].name, value),
				 errdetail("Option \"%s\" names a queue in region %s, but its server is in %s.",
						   queue_options[OPT_QUEUE_NAME].name, region, server_region),
				 errhint("Register the queue with a server in region %s.", region)));
}

/* See check_place(). */
static void
check_url_place(const char *value, const SqsServerOptions *options)
{
	AwsUrl		url;
	const char *why;
	char		region[64];
	char		host[300];

	if (!aws_url_parse(value, &url, &why) ||
		sqs_queue_url_fits(value, options->region, options->endpoint))
		return;
	if (aws_region_of_host(url.host, region, sizeof(region)))
		check_place(value, region, options);
	aws_url_host_header(&url, host, sizeof(host));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\": \"%s\"",
					queue_options[OPT_QUEUE_NAME].name, value),
			 options->endpoint != NULL ?
			 errdetail("Option \"%s\" names a queue of host \"%s\", but the server's endpoint is \"%s\".",
					   queue_options[OPT_QUEUE_NAME].name, host, options->endpoint) :
			 errdetail("Option \"%s\" names a queue of host \"%s\", but the server is AWS's in region %s.",
					   queue_options[OPT_QUEUE_NAME].name, host, options->region),
			 errhint("Specify the queue's name or ARN, or use a server with that host as its endpoint.")));
}

/*
 * Raise an ERROR unless the value is the name, the URL or the ARN of a queue that
 * can be at this server.
 */
void
sqs_option_check_queue_name(const char *value, const SqsServerOptions *options)
{
	bool		is_arn = sqs_queue_is_arn(value);
	bool		is_url = !is_arn && strpbrk(value, ":/") != NULL;
	SqsQueueArn arn;
	const char *why;

	if (!(is_arn ? sqs_queue_arn_parse(value, &arn, &why) :
		  is_url ? sqs_queue_url_is_valid(value, options->allow_http, &why) :
		  sqs_queue_name_is_valid(value, &why)))
	{
		/* a URL that may contain a password is not repeated, nor logged */
		if (strchr(value, '@') != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid value for option \"queue_name\""),
					 errdetail("Option \"queue_name\" %s.", why),
					 errhidestmt(true),
					 errhidecontext(true)));
		sqs_option_refuse(OPT_QUEUE_NAME, sqs_option_quoted(value), why);
	}
	if (is_url)
		check_url_place(value, options);
	else if (is_arn)
		check_place(value, arn.region, options);
}

/*
 * Read the options from the arguments of a call, from the second one on.
 * "changes" has NUM_OPTIONS elements.  Raises an ERROR if one is out of
 * range.
 */
void
sqs_options_read(FunctionCallInfo fcinfo, SqsOptionChange *changes)
{
	memset(changes, 0, sizeof(SqsOptionChange) * NUM_OPTIONS);
	for (int id = 0; id < NUM_OPTIONS; id++)
	{
		if (PG_ARGISNULL(id + 1))
			continue;
		changes[id].is_set = true;
		changes[id].value = PG_GETARG_DATUM(id + 1);
		sqs_option_check_range(id, changes[id].value);
		if (queue_options[id].words != NULL)
			check_word(id, TextDatumGetCString(changes[id].value));
		if (id == OPT_UNWRAP)
			check_unwrap(TextDatumGetCString(changes[id].value));
		else if (id == OPT_ROUTE_BY || id == OPT_DEDUP_KEY)
			check_key_source(id, TextDatumGetCString(changes[id].value));
	}
}

static char *
resettable_options(void)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int id = 0; id < NUM_OPTIONS; id++)
	{
		if (queue_options[id].has_default)
			appendStringInfo(&buf, "%s%s", buf.len > 0 ? ", " : "", queue_options[id].name);
	}
	return buf.data;
}

/*
 * Read the argument "reset", the names of the options to set to their
 * defaults.
 */
void
sqs_options_read_resets(ArrayType *array, SqsOptionChange *changes)
{
	ArrayIterator iterator = array_create_iterator(array, 0, NULL);
	Datum		element;
	bool		isnull;

	while (array_iterate(iterator, &element, &isnull))
	{
		char	   *name = isnull ? NULL : TextDatumGetCString(element);
		int			id;

		for (id = 0; id < NUM_OPTIONS; id++)
		{
			if (name != NULL && queue_options[id].has_default &&
				strcmp(queue_options[id].name, name) == 0)
				break;
		}
		if (id == NUM_OPTIONS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid element of \"reset\": %s",
							name != NULL ? sqs_option_quoted(name) : "NULL"),
					 errdetail("Options that can be reset are: %s.", resettable_options())));
		if (changes[id].is_set)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"%s\" is both set and reset", name)));
		changes[id].is_reset = true;
	}
	array_free_iterator(iterator);
}

/* The default of an option, in the column's type; false: it is null. */
static bool
sqs_option_default(SqsOptionId id, Datum *value)
{
	const QueueOption *option = &queue_options[id];

	if (option->default_value == NULL)
		return false;
	switch (option->type)
	{
		case INT4OID:
			*value = DirectFunctionCall1(int4in, CStringGetDatum(option->default_value));
			break;
		case FLOAT8OID:
			*value = DirectFunctionCall1(float8in, CStringGetDatum(option->default_value));
			break;
		case BOOLOID:
			*value = DirectFunctionCall1(boolin, CStringGetDatum(option->default_value));
			break;
		case TEXTOID:
			*value = CStringGetTextDatum(option->default_value);
			break;
		default:
			Assert(option->type == INTERVALOID);
			*value = DirectFunctionCall3(interval_in, CStringGetDatum(option->default_value),
										 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	}
	return true;
}

/* The text of an option that a row has, or NULL. */
static char *
text_option(SqsQueueRow *row, SqsOptionId id)
{
	int			attnum = SPI_fnumber(row->desc, queue_options[id].name);

	return row->nulls[attnum - 1] ? NULL : TextDatumGetCString(row->values[attnum - 1]);
}

static bool
is_null(SqsQueueRow *row, SqsOptionId id)
{
	return row->nulls[SPI_fnumber(row->desc, queue_options[id].name) - 1];
}

/* The option verify_sns is true: raise an ERROR if that cannot work. */
static void
check_verify_sns(const char *unwrap)
{
	if (!aws_sns_is_supported())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("option \"verify_sns\" is not supported by this server"),
				 errdetail("It was built without OpenSSL.")));
	if (unwrap == NULL || (strcmp(unwrap, "sns") != 0 && strcmp(unwrap, "auto") != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"verify_sns\" cannot be true while option \"unwrap\" is \"%s\"",
						unwrap != NULL ? unwrap : "none"),
				 errhint("Set option \"unwrap\" to \"sns\" or \"auto\".")));
}

/* Raise an ERROR if options contradict each other. */
static void
check_together(SqsQueueRow *row)
{
	char	   *dead_letter = text_option(row, OPT_DEAD_LETTER);
	char	   *unroutable = text_option(row, OPT_UNROUTABLE);
	int			exactly_once = SPI_fnumber(row->desc, queue_options[OPT_EXACTLY_ONCE].name);
	int			verify_sns = SPI_fnumber(row->desc, queue_options[OPT_VERIFY_SNS].name);
	char	   *unwrap = text_option(row, OPT_UNWRAP);

	if (dead_letter != NULL && strcmp(dead_letter, "none") == 0 &&
		!is_null(row, OPT_MAX_ATTEMPTS))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"max_attempts\" cannot be set while option \"dead_letter\" is \"none\""),
				 errdetail("After that many attempts a message becomes a dead letter.")));
	if (dead_letter != NULL && strcmp(dead_letter, "queue") == 0 &&
		is_null(row, OPT_DEAD_LETTER_QUEUE))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"dead_letter\" cannot be \"queue\" without option \"dead_letter_queue\""),
				 errhint("Set option \"dead_letter_queue\" to the name of a registered queue.")));
	if (!is_null(row, OPT_DEDUP_KEY) && !DatumGetBool(row->values[exactly_once - 1]))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"dedup_key\" cannot be set while option \"exactly_once\" is false"),
				 errdetail("Keys are recorded with the ids of messages.")));
	if (unroutable != NULL && strcmp(unroutable, "handler") == 0 && is_null(row, OPT_HANDLER))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"unroutable\" cannot be \"handler\" without option \"handler\"")));
	if (unroutable != NULL && strcmp(unroutable, "dead_letter") == 0 &&
		dead_letter != NULL && strcmp(dead_letter, "none") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"unroutable\" cannot be \"dead_letter\" while option \"dead_letter\" is \"none\"")));
	if (DatumGetBool(row->values[verify_sns - 1]))
		check_verify_sns(unwrap);
}

/*
 * Raise an ERROR unless the current role may send to the queue that dead letters
 * are to be sent to, and it is another one.
 */
static void
check_dead_letter_queue(SqsQueueRow *row, const char *value)
{
	const char *name = TextDatumGetCString(row->values[SPI_fnumber(row->desc, "name") - 1]);

	if (strcmp(value, name) == 0)
		sqs_option_refuse(OPT_DEAD_LETTER_QUEUE, sqs_option_quoted(value),
						  "must be another queue than this one");
	(void) sqs_catalog_queue_to_send(value, true);
}

/*
 * Store the options that are plain values (from OPT_CONCURRENCY on); the
 * caller stores the others.  Options that are reset get their defaults, and
 * with "all" also those that are not set.
 */
void
sqs_options_store(SqsQueueRow *row, const SqsOptionChange *changes, bool all)
{
	for (int id = OPT_CONCURRENCY; id < NUM_OPTIONS; id++)
	{
		const char *name = queue_options[id].name;
		Datum		value;

		if (changes[id].is_set)
			sqs_queue_row_set(row, name, changes[id].value);
		else if (!changes[id].is_reset && !all)
			continue;
		else if (sqs_option_default(id, &value))
			sqs_queue_row_set(row, name, value);
		else
			sqs_queue_row_set_null(row, name);
	}
	check_together(row);
	if (changes[OPT_DEAD_LETTER_QUEUE].is_set)
		check_dead_letter_queue(row, TextDatumGetCString(changes[OPT_DEAD_LETTER_QUEUE].value));
}
