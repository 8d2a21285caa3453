/*-------------------------------------------------------------------------
 *
 * routing.c
 *	  Which route a message takes, and its business key.
 *
 * This is done in the handler worker, under handler_timeout, because a regular
 * expression in a jsonpath can run for seconds over what a stranger has sent,
 * and the queue worker has leases to renew.
 *
 * A key is found or it is not: if there is no such attribute, if the body is no
 * JSON, if the path finds nothing, or an object, or if it cannot be evaluated,
 * then the message has no key.  What becomes of it is up to the options.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/jsonpath.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "receive/envelope.h"
#include "receive/routing.h"

static SqsKeySource *
load_source(char *value)
{
	SqsKeySource *source;
	const char *why;

	if (value == NULL)
		return NULL;
	source = palloc(sizeof(SqsKeySource));
	if (!sqs_key_source(pstrdup(value), source, &why))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("queue has an option with the value \"%s\", which %s", value, why)));
	return source;
}

SqsRouting *
sqs_routing_load(SqsQueueConfig *config)
{
	static const char *const names[] = {
		[SQS_UNROUTABLE_HANDLER] = "handler",
		[SQS_UNROUTABLE_FAIL] = "fail",
		[SQS_UNROUTABLE_DEAD_LETTER] = "dead_letter",
		[SQS_UNROUTABLE_DISCARD] = "discard",
	};
	SqsRouting *routing;

	if (config->route_by == NULL && config->dedup_key == NULL)
		return NULL;
	routing = palloc0(sizeof(SqsRouting));
	routing->dedup_key = load_source(config->dedup_key);
	routing->unroutable = config->handler != NULL ? SQS_UNROUTABLE_HANDLER : SQS_UNROUTABLE_FAIL;
	if (config->route_by != NULL)
	{
		routing->route_by = load_source(config->route_by);
		routing->routes = sqs_routes_load(config->queue_id);
		routing->uses = palloc0(sizeof(SqsRouteUse) * Max(routing->routes->n, 1));
		for (int i = 0; config->unroutable != NULL && i < (int) lengthof(names); i++)
		{
			if (strcmp(names[i], config->unroutable) == 0)
				routing->unroutable = (SqsUnroutable) i;
		}
	}
	return routing;
}

/* A scalar as text, palloc'd; NULL if it is none, or empty. */
static char *
scalar_text(const JsonbValue *value)
{
	if (value == NULL)
		return NULL;
	switch (value->type)
	{
		case jbvString:
			return value->val.string.len == 0 ? NULL :
				pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		default:
			return NULL;
	}
}

/*
 * A member of an object.  An attribute that is neither a String nor a Number is
 * an object (message.c); unless it is binary, its text counts.
 */
static char *
member_text(Datum object, const char *name, bool is_attribute)
{
	JsonbContainer *container;
	JsonbValue *value;

	if (object == (Datum) 0)
		return NULL;
	container = &DatumGetJsonbP(object)->root;
	if (!JsonContainerIsObject(container))
		return NULL;
	value = getKeyJsonValueFromContainer(container, name, strlen(name), NULL);
	if (is_attribute && value != NULL && value->type == jbvBinary)
		value = getKeyJsonValueFromContainer(value->val.binary.data, "StringValue",
											 strlen("StringValue"), NULL);
	return scalar_text(value);
}

/* jsonb_path_query_first(), silently; NULL if nothing is found. */
static Jsonb *
query_first(Jsonb *document, JsonPath *path)
{
	LOCAL_FCINFO(fcinfo, 4);
	Datum		found;

	InitFunctionCallInfoData(*fcinfo, NULL, 4, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(document);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = PointerGetDatum(path);
	fcinfo->args[1].isnull = false;
	fcinfo->args[2].value = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
	fcinfo->args[2].isnull = false;
	fcinfo->args[3].value = BoolGetDatum(true);
	fcinfo->args[3].isnull = false;
	found = jsonb_path_query_first(fcinfo);
	return fcinfo->isnull ? NULL : DatumGetJsonbP(found);
}

/*
 * What the path finds in the document.  Some errors are raised even if it is
 * evaluated silently: times with a time zone, documents nested too deeply.
 * Evaluation takes no resources but memory, so they can be caught here, like
 * those of the parser (sqs_parse_json()).  Others, such as a lack of memory or an
 * interrupt, are not about the message.
 */
static char *
path_text(Jsonb *document, JsonPath *path)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *volatile text = NULL;

	PG_TRY();
	{
		Jsonb	   *found = query_first(document, path);
		JsonbValue	value;

		if (found != NULL && JsonbExtractScalar(&found->root, &value))
			text = scalar_text(&value);
	}
	PG_CATCH();
	{
		int			category = ERRCODE_TO_CATEGORY(geterrcode());

		if (category != ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) &&
			category != ERRCODE_TO_CATEGORY(ERRCODE_PROGRAM_LIMIT_EXCEEDED) &&
			category != ERRCODE_TO_CATEGORY(ERRCODE_FEATURE_NOT_SUPPORTED))
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	return text;
}

/* *document: the body as JSON, once it is known that it is needed. */
static char *
find_key(const SqsKeySource *source, const SqsContent *content, Jsonb **document)
{
	if (source->kind == SQS_KEY_ATTRIBUTE)
		return member_text(content->attributes, source->name, true);
	if (source->kind == SQS_KEY_ENVELOPE)
		return member_text(content->envelope, source->name, false);
	if (*document == NULL)
		*document = sqs_parse_json(TextDatumGetCString(content->body));
	return *document == NULL ? NULL : path_text(*document, source->path);
}

void
sqs_route_message(const SqsRouting *routing, const SqsContent *content, SqsRouted *routed)
{
	Jsonb	   *document = NULL;

	memset(routed, 0, sizeof(*routed));
	if (routing->dedup_key != NULL)
		routed->dedup_key = find_key(routing->dedup_key, content, &document);
	if (routing->route_by == NULL)
		return;
	routed->key = find_key(routing->route_by, content, &document);
	if (routed->key != NULL)
		routed->route = sqs_route_find(routing->routes, routed->key);
	if (routed->route != NULL)
		routed->use = &routing->uses[routed->route - routing->routes->routes];
	else
		routed->unroutable = true;
}
