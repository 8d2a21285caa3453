/*-------------------------------------------------------------------------
 *
 * error_rules.c
 *	  Error rules: what becomes of a message whose handler has failed with a
 *	  certain SQLSTATE.
 *
 * A rule is for an SQLSTATE, for a class (its first two characters), or for all
 * errors ("default"); and for one queue or for all of them (queue_id 0).  What is
 * more exact comes first, and among equals the queue's own:
 *
 *		SQLSTATE of the queue, of all; class of the queue, of all;
 *		default of the queue, of all; built-in SQLSTATE, class, default
 *
 * Rules are read once per change of the configuration, by each handler worker,
 * and looked up only when something has failed; there are few, so they are an
 * array.
 *
 * SQLSTATEs of class SQ are verdicts (receive/verdict.h) or made by the bridge:
 * rules would not apply to them, so there may be none, except for SQ101 and SQ106,
 * which are errors of the bridge about a message.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "common/int.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/settings.h"
#include "base/table_writer.h"
#include "base/wake_at_commit.h"
#include "config/error_rules.h"
#include "config/queues.h"

#define DEFAULT_RULE	"default"	/* in the column sqlstate */
#define ALL_QUEUES		0		/* in the column queue_id */
#define RULE_DELAY_MAX	(12 * SECS_PER_HOUR)	/* SQS: 12 hours */
#define RULES_MAX		200		/* of a queue; everybody reads them in the
								 * view */

PG_FUNCTION_INFO_V1(sqs_set_error_rule);
PG_FUNCTION_INFO_V1(sqs_get_error_rules);

/* Lower ones come first. */
typedef enum RuleScope
{
	SCOPE_SQLSTATE,
	SCOPE_CLASS,
	SCOPE_DEFAULT
} RuleScope;

/* Likewise, except that of the last all scopes come after those of the others. */
typedef enum RuleSource
{
	SOURCE_QUEUE,
	SOURCE_ALL_QUEUES,
	SOURCE_BUILT_IN
} RuleSource;

static const char *const source_names[] = {
	[SOURCE_QUEUE] = "queue",
	[SOURCE_ALL_QUEUES] = "all queues",
	[SOURCE_BUILT_IN] = "built-in",
};

typedef struct Entry
{
	const char *text;			/* the SQLSTATE, class, or "default" */
	RuleSource	source;
	SqsRule		rule;
} Entry;

struct SqsErrorRules
{
	int			n;
	Entry		entries[FLEXIBLE_ARRAY_MEMBER];
};

static const Entry built_in[] = {
	{"40001", SOURCE_BUILT_IN, {SQS_ACTION_RETRY_NOW, -1}}, /* serialization_failure */
	{"40P01", SOURCE_BUILT_IN, {SQS_ACTION_RETRY_NOW, -1}}, /* deadlock_detected */
	{"55P03", SOURCE_BUILT_IN, {SQS_ACTION_RETRY_NOW, -1}}, /* lock_not_available */
	{"25006", SOURCE_BUILT_IN, {SQS_ACTION_PAUSE, -1}}, /* read_only_sql_transaction */
	{"57P01", SOURCE_BUILT_IN, {SQS_ACTION_PAUSE, -1}}, /* admin_shutdown */
	{"57P02", SOURCE_BUILT_IN, {SQS_ACTION_PAUSE, -1}}, /* crash_shutdown */
	{"57P03", SOURCE_BUILT_IN, {SQS_ACTION_PAUSE, -1}}, /* cannot_connect_now */
	{"57P04", SOURCE_BUILT_IN, {SQS_ACTION_PAUSE, -1}}, /* database_dropped */
	{"57P05", SOURCE_BUILT_IN, {SQS_ACTION_PAUSE, -1}}, /* idle_session_timeout */
	{"08", SOURCE_BUILT_IN, {SQS_ACTION_PAUSE, -1}},	/* connection exception */
	{"53", SOURCE_BUILT_IN, {SQS_ACTION_PAUSE, -1}},	/* insufficient
														 * resources */
	{"58", SOURCE_BUILT_IN, {SQS_ACTION_PAUSE, -1}},	/* system error */
	{DEFAULT_RULE, SOURCE_BUILT_IN, {SQS_ACTION_RETRY, -1}},
};

static const char *const action_names[] = {
	[SQS_ACTION_RETRY] = "retry",
	[SQS_ACTION_RETRY_NOW] = "retry_now",
	[SQS_ACTION_PAUSE] = "pause",
	[SQS_ACTION_DEAD_LETTER] = "dead_letter",
	[SQS_ACTION_DISCARD] = "discard",
	[SQS_ACTION_THROTTLE] = "throttle",
	[SQS_ACTION_LOST] = "lost",
	[SQS_ACTION_KILLED] = "killed",
};

/* The name of an action, as in sqs_error_rules and sqs_failures. */
const char *
sqs_error_action_name(SqsErrorAction action)
{
	return action_names[action];
}

/* An action that a rule can have; false: there is none of this name. */
static bool
action_by_name(const char *name, SqsErrorAction *action)
{
	for (int i = 0; i <= SQS_ACTION_DISCARD; i++)
	{
		if (strcmp(action_names[i], name) == 0)
		{
			*action = (SqsErrorAction) i;
			return true;
		}
	}
	return false;
}

/* ---- which rule ---- */

static RuleScope
scope_of(const char *text)
{
	switch (strlen(text))
	{
		case 5:
			return SCOPE_SQLSTATE;
		case 2:
			return SCOPE_CLASS;
		default:
			return SCOPE_DEFAULT;
	}
}

/*
 * Is the entry for this SQLSTATE?  If that is shorter, a class or "default", it
 * stands for the errors in it that no rule is more exact about.
 */
static bool
applies(const Entry *entry, const char *sqlstate)
{
	switch (scope_of(entry->text))
	{
		case SCOPE_SQLSTATE:
			return strcmp(entry->text, sqlstate) == 0;
		case SCOPE_CLASS:
			return scope_of(sqlstate) != SCOPE_DEFAULT && strncmp(entry->text, sqlstate, 2) == 0;
		case SCOPE_DEFAULT:
			break;
	}
	return true;
}

/* The lowest comes first. */
static int
rank(const Entry *entry)
{
	int			scope = scope_of(entry->text);

	return entry->source == SOURCE_BUILT_IN ? 100 + scope : 10 * scope + (int) entry->source;
}

static const Entry *
find_entry(const SqsErrorRules *rules, const char *sqlstate)
{
	const Entry *best = NULL;

	for (int i = 0; rules != NULL && i < rules->n; i++)
	{
		const Entry *entry = &rules->entries[i];

		if (applies(entry, sqlstate) && (best == NULL || rank(entry) < rank(best)))
			best = entry;
	}
	for (size_t i = 0; i < lengthof(built_in); i++)
	{
		if (applies(&built_in[i], sqlstate) && (best == NULL || rank(&built_in[i]) < rank(best)))
			best = &built_in[i];
	}
	return best;				/* there is a default */
}

/* Allocates nothing: it is called while an error is dealt with. */
SqsRule
sqs_error_rule(const SqsErrorRules *rules, int sqlstate)
{
	return find_entry(rules, unpack_sql_state(sqlstate))->rule;
}

/* ---- the table ---- */

/* Add an entry, in the current memory context. */
static SqsErrorRules *
add_entry(SqsErrorRules *rules, Entry entry)
{
	int			n = rules != NULL ? rules->n : 0;
	Size		size = offsetof(SqsErrorRules, entries) + (n + 1) * sizeof(Entry);

	rules = rules != NULL ? repalloc(rules, size) : palloc(size);
	rules->entries[n] = entry;
	rules->n = n + 1;
	return rules;
}

static SysScanDesc
scan_rules(Relation rel, int32 queue_id)
{
	ScanKeyData key;

	ScanKeyInit(&key, RULE_QUEUE_ID + 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(queue_id));
	return systable_beginscan(rel, sqs_index_oid(SQS_INDEX_ERROR_RULES_PKEY), true,
							  GetActiveSnapshot(), 1, &key);
}

/* Add what the table has for a queue or for all. */
static SqsErrorRules *
read_rules(Relation rel, SqsErrorRules *rules, int32 queue_id)
{
	SysScanDesc scan = scan_rules(rel, queue_id);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum		values[RULE_NATTS];
		bool		nulls[RULE_NATTS];
		Entry		entry;

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		entry.text = TextDatumGetCString(values[RULE_SQLSTATE]);
		entry.source = queue_id == ALL_QUEUES ? SOURCE_ALL_QUEUES : SOURCE_QUEUE;
		entry.rule.delay = -1;
		if (!nulls[RULE_DELAY])
		{
			Interval   *interval = DatumGetIntervalP(values[RULE_DELAY]);

			/* the table's constraint excludes months and an overflow */
			entry.rule.delay = (int) ((interval->day * USECS_PER_DAY + interval->time) / USECS_PER_SEC);
		}

		/*
		 * a newer version may have stored an action that this one does not
		 * know
		 */
		if (action_by_name(TextDatumGetCString(values[RULE_ACTION]), &entry.rule.action))
			rules = add_entry(rules, entry);
	}
	systable_endscan(scan);
	return rules;
}

SqsErrorRules *
sqs_error_rules_load(int32 queue_id)
{
	Relation	rel = sqs_table_open(SQS_TABLE_ERROR_RULES, AccessShareLock);
	SqsErrorRules *rules = read_rules(rel, NULL, ALL_QUEUES);

	if (queue_id != ALL_QUEUES)
		rules = read_rules(rel, rules, queue_id);
	table_close(rel, AccessShareLock);
	return rules;
}

/*
 * Delete a rule, or with sqlstate NULL all those of the queue.  Returns how many
 * are left.
 */
static int
delete_rules(SqsWriter *writer, int32 queue_id, const char *sqlstate)
{
	Relation	rel = sqs_writer_relation(writer);
	SysScanDesc scan = scan_rules(rel, queue_id);
	HeapTuple	tuple;
	int			left = 0;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		value = sqs_getattr(tuple, RULE_SQLSTATE + 1, RelationGetDescr(rel), &isnull);

		if (sqlstate == NULL || strcmp(TextDatumGetCString(value), sqlstate) == 0)
			(void) sqs_writer_delete(writer, &tuple->t_self, true);
		else
			left++;
	}
	systable_endscan(scan);
	return left;
}

/* The caller has locked the queue, and has an active snapshot. */
void
sqs_error_rules_delete(int32 queue_id)
{
	SqsWriter  *writer = sqs_writer_open(SQS_TABLE_ERROR_RULES);

	(void) delete_rules(writer, queue_id, NULL);
	sqs_writer_close(writer);
}

/* ---- the functions ---- */

static char *
text_argument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* Raise an ERROR if no rule can be for this. */
static void
check_sqlstate(const char *sqlstate)
{
	size_t		len = sqlstate != NULL ? strlen(sqlstate) : 0;

	if (sqlstate == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("sqlstate must not be null")));
	if (strcmp(sqlstate, DEFAULT_RULE) == 0)
		return;
	if ((len != 5 && len != 2) ||
		strspn(sqlstate, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != len)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid sqlstate of an error rule: \"%s\"", sqlstate),
				 errdetail("It must be an SQLSTATE (five digits or upper-case letters), a class of them (the first two), or \"%s\".",
						   DEFAULT_RULE)));
	if (strncmp(sqlstate, "SQ", 2) == 0 &&
		strcmp(sqlstate, "SQ101") != 0 && strcmp(sqlstate, "SQ106") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid sqlstate of an error rule: \"%s\"", sqlstate),
				 errdetail("Of class SQ, there can be rules for SQ101 and SQ106 only: the others are verdicts of handlers, or set by sqsbridge.")));
}

/* Raise an ERROR unless a rule can have this action. */
static SqsErrorAction
check_action(const char *name)
{
	SqsErrorAction action;

	if (!action_by_name(name, &action))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid action of an error rule: \"%s\"", name),
				 errdetail("The action must be retry, retry_now, pause, dead_letter, or discard.")));
	return action;
}

/* Raise an ERROR unless a rule with this action can have this delay. */
static void
check_delay(Interval *delay, SqsErrorAction action)
{
	int64		micros;
	bool		legal;

	if (action != SQS_ACTION_RETRY && action != SQS_ACTION_RETRY_NOW)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an error rule with action \"%s\" has no delay", sqs_error_action_name(action))));

	/* months have no fixed length; an infinite interval has months, too */
	legal = delay->month == 0 &&
		!pg_mul_s64_overflow(delay->day, USECS_PER_DAY, &micros) &&
		!pg_add_s64_overflow(micros, delay->time, &micros) &&
		micros >= 0 && micros <= RULE_DELAY_MAX * USECS_PER_SEC && micros % USECS_PER_SEC == 0;
	if (!legal)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid delay of an error rule: \"%s\"",
						DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(delay)))),
				 errdetail("The delay must be 0 to 12 hours, in whole seconds.")));
}

/*
 * Find the queue that the current role may make rules for, and lock it; NULL
 * stands for all queues.  Pushes a snapshot that sees the newest rules.
 */
static int32
lock_queue(const char *name)
{
	if (name != NULL)
	{
		SqsQueueConfig *queue = sqs_catalog_queue_to_change(name);

		if (queue->is_copy)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("queue \"%s\" is a copy of a queue of another database", name),
					 errhint("To use it here, call sqs_adopt_queues() first.")));
		return queue->queue_id;
	}

	if (!sqs_extension_ownercheck(sqs_extension_oid(), GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser or owner of extension sqsbridge to set an error rule for all queues")));
	LockDatabaseObject(sqs_table_oid(SQS_TABLE_ERROR_RULES), ALL_QUEUES, 0, ExclusiveLock);
	PushActiveSnapshot(GetLatestSnapshot());
	return ALL_QUEUES;
}

/*
 * sqs_set_error_rule(queue, sqlstate, action, delay) returns void
 *
 * queue NULL: for all.  action NULL: there is to be no such rule.
 */
Datum
sqs_set_error_rule(PG_FUNCTION_ARGS)
{
	char	   *name = text_argument(fcinfo, 0);
	char	   *sqlstate = text_argument(fcinfo, 1);
	char	   *action = text_argument(fcinfo, 2);
	SqsWriter  *writer;
	int32		queue_id;
	int			others;

	sqs_require_preloaded();
	PreventCommandIfReadOnly("sqs_set_error_rule()");
	check_sqlstate(sqlstate);
	if (action == NULL && !PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an error rule without an action has no delay")));
	if (action != NULL)
	{
		SqsErrorAction checked = check_action(action);

		if (!PG_ARGISNULL(3))
			check_delay(PG_GETARG_INTERVAL_P(3), checked);
	}

	queue_id = lock_queue(name);
	writer = sqs_writer_open(SQS_TABLE_ERROR_RULES);
	others = delete_rules(writer, queue_id, sqlstate);
	if (action != NULL)
	{
		Datum		values[RULE_NATTS];
		bool		nulls[RULE_NATTS] = {false};

		if (others >= RULES_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("too many error rules"),
					 errdetail("There can be %d for a queue.", RULES_MAX)));
		values[RULE_QUEUE_ID] = Int32GetDatum(queue_id);
		values[RULE_SQLSTATE] = CStringGetTextDatum(sqlstate);
		values[RULE_ACTION] = CStringGetTextDatum(action);
		nulls[RULE_DELAY] = PG_ARGISNULL(3);
		values[RULE_DELAY] = PG_GETARG_DATUM(3);
		sqs_writer_insert(writer, values, nulls);
	}
	sqs_writer_close(writer);
	CommandCounterIncrement();
	PopActiveSnapshot();

	sqs_wake_at_commit();
	PG_RETURN_VOID();
}

/* Return what applies to one SQLSTATE, class, or the rest. */
static void
put_rule(ReturnSetInfo *rsinfo, int32 queue_id, const SqsErrorRules *rules, const char *sqlstate)
{
	const Entry *entry = find_entry(rules, sqlstate);
	Datum		values[5];
	bool		nulls[5] = {false};

	nulls[0] = queue_id == ALL_QUEUES;
	values[0] = Int32GetDatum(queue_id);
	values[1] = CStringGetTextDatum(sqlstate);
	values[2] = CStringGetTextDatum(sqs_error_action_name(entry->rule.action));
	nulls[3] = entry->rule.delay < 0;
	if (!nulls[3])
	{
		Interval   *delay = palloc0(sizeof(Interval));

		delay->time = entry->rule.delay * USECS_PER_SEC;
		values[3] = IntervalPGetDatum(delay);
	}
	values[4] = CStringGetTextDatum(source_names[entry->source]);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* Return what applies to whatever there is a rule about. */
static void
put_rules(ReturnSetInfo *rsinfo, int32 queue_id)
{
	SqsErrorRules *rules = sqs_error_rules_load(queue_id);
	int			n = rules != NULL ? rules->n : 0;

	for (size_t i = 0; i < lengthof(built_in); i++)
		put_rule(rsinfo, queue_id, rules, built_in[i].text);
	for (int i = 0; i < n; i++)
	{
		bool		known = false;

		for (size_t j = 0; j < lengthof(built_in) && !known; j++)
			known = strcmp(built_in[j].text, rules->entries[i].text) == 0;
		for (int j = 0; j < i && !known; j++)
			known = strcmp(rules->entries[j].text, rules->entries[i].text) == 0;
		if (!known)
			put_rule(rsinfo, queue_id, rules, rules->entries[i].text);
	}
}

/* Behind sqs_error_rules: what applies to all queues, and to each one. */
Datum
sqs_get_error_rules(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell   *lc;

	sqs_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	put_rules(rsinfo, ALL_QUEUES);
	foreach(lc, sqs_catalog_queues())
		put_rules(rsinfo, ((SqsQueueConfig *) lfirst(lc))->queue_id);
	return (Datum) 0;
}
