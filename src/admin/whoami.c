/*-------------------------------------------------------------------------
 *
 * whoami.c
 *	  sqs_whoami(): as whom a role uses a server.
 *
 * Asks STS (GetCallerIdentity), which answers anybody who can sign.  So it shows
 * whether the keys work, whatever they are permitted to do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "aws/fetch.h"
#include "base/compat.h"
#include "base/settings.h"
#include "base/worker.h"
#include "config/connect.h"
#include "config/keys.h"
#include "config/queues.h"

#define DEADLINE_MS		30000
#define CALL_MS			10000

PG_FUNCTION_INFO_V1(sqs_whoami);

/* Raise the ERROR for what AWS, or a source of keys, has said. */
pg_noreturn static void
raise_error(const char *server, const AwsError *error)
{
	int			sqlstate;

	switch (error->class)
	{
		case AWS_ERROR_CREDENTIALS:
		case AWS_ERROR_CLOCK:
			sqlstate = ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION;
			break;
		case AWS_ERROR_CONFIGURATION:
			sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
			break;
		case AWS_ERROR_THROTTLED:
			sqlstate = ERRCODE_CONFIGURATION_LIMIT_EXCEEDED;
			break;
		case AWS_ERROR_RESOURCES:
			sqlstate = ERRCODE_INSUFFICIENT_RESOURCES;
			break;
		default:
			sqlstate = ERRCODE_CONNECTION_FAILURE;
	}
	ereport(ERROR,
			(errcode(sqlstate),
			 errmsg("could not find out who uses server \"%s\": %s", server, error->message),
			 error->request_id[0] != '\0' ?
			 errdetail("%s, request id %s", error->code, error->request_id) :
			 error->code[0] != '\0' ? errdetail_internal("%s", error->code) : 0));
}

/* Wait for the network, or for ms; then go on with what has arrived. */
static void
wait_for(long ms)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = sqs_wait_event_new("SqsbridgeWhoami");
	sqs_shared_clients_turn(ms, wait_event);
}

/* Wait until there are keys; false with *error set if there will be none. */
static bool
wait_for_keys(AwsCredentialsProvider *provider, int64 end, AwsCredentials *keys, AwsError *error)
{
	for (;;)
	{
		AwsCredentialsStatus status = aws_credentials_get(provider, keys, error);

		if (status != AWS_CREDENTIALS_PENDING)
			return status == AWS_CREDENTIALS_OK;
		if (sqs_now_ms() >= end)
		{
			aws_error_set(error, AWS_ERROR_TIMEOUT, "NoCredentials",
						  "there were no keys from %s within %d ms",
						  aws_credentials_source(provider), DEADLINE_MS);
			return false;
		}
		wait_for(keys->retry_ms);
	}
}

/* Begin to ask STS.  Its region may have been found together with the keys. */
static AwsFetch *
start(AwsCredentialsProvider *provider, const AwsCredentials *keys, AwsError *error)
{
	AwsIdentity *where = aws_identity_copy(sqs_shared_credentials_identity(provider));
	AwsFetch   *fetch = NULL;
	bool		ok = where != NULL;

	if (ok && where->region == NULL && keys->region != NULL && keys->region[0] != '\0')
	{
		where->region = strdup(keys->region);
		ok = where->region != NULL;
	}
	if (ok)
		fetch = aws_whoami_start(sqs_shared_clients_pool(), keys, where, CALL_MS, error);
	else
		aws_error_set(error, AWS_ERROR_RESOURCES, "NoResources", "out of memory");
	aws_identity_free(where);
	return fetch;
}

/* Ask STS.  After an ERROR, *fetch is the caller's to free. */
static bool
ask(AwsCredentialsProvider *provider, const AwsCredentials *keys, AwsFetch *volatile *fetch,
	AwsCaller *caller, AwsError *error)
{
	bool		ok;

	*fetch = start(provider, keys, error);
	if (*fetch == NULL)
		return false;
	while (!aws_fetch_done(*fetch))
	{
		long		next = aws_fetch_next(*fetch);

		wait_for(next < 0 ? 1000 : next);
		aws_fetch_go_on(*fetch);
	}
	ok = aws_whoami_result(*fetch, caller, error);
	aws_fetch_cancel(*fetch);
	*fetch = NULL;
	return ok;
}

/*
 * sqs_whoami(server) returns (account, arn, user_id, source)
 *
 * Raises an ERROR if the current role has no USAGE on the server, if there are
 * no keys, or if STS does not answer or refuses them.
 */
Datum
sqs_whoami(PG_FUNCTION_ARGS)
{
	SqsQueueConfig *config;
	SqsKeys		keys;
	char	   *problem;
	char	   *volatile source = NULL;
	SqsSharedClient *shared;
	AwsFetch   *volatile fetch = NULL;
	AwsCaller	caller;
	AwsError	error;
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {false, false, false, false};

	sqs_require_preloaded();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	config = sqs_catalog_server_to_use(NameStr(*PG_GETARG_NAME(0)));
	problem = config->problem;
	if (problem == NULL)
		problem = sqs_catalog_keys(GetUserId(), config->server_oid, &keys);
	else
		memset(&keys, 0, sizeof(keys));
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("could not find out who uses server \"%s\": %s", config->server, problem)));

	memset(&error, 0, sizeof(error));
	memset(&caller, 0, sizeof(caller));
	shared = sqs_shared_client_acquire(config, &keys, &error);
	sqs_wipe_keys(&keys);
	if (shared == NULL)
		ereport(ERROR,
				(errcode(error.class == AWS_ERROR_RESOURCES ? ERRCODE_INSUFFICIENT_RESOURCES :
						 ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("could not find out who uses server \"%s\": %s", config->server, error.message)));
	PG_TRY();
	{
		AwsCredentials found;
		int64		end = sqs_now_ms() + DEADLINE_MS;
		bool		ok = false;

		for (int attempt = 0; attempt < 2; attempt++)
		{
			ok = wait_for_keys(shared->credentials, end, &found, &error) &&
				ask(shared->credentials, &found, &fetch, &caller, &error);
			if (ok || !aws_keys_were_refused(error.code) ||
				!aws_credentials_reject(shared->credentials, found.generation))
				break;
		}
		if (!ok)
			raise_error(config->server, &error);
		source = pstrdup(aws_credentials_source(shared->credentials));
	}
	PG_FINALLY();
	{
		aws_fetch_cancel(fetch);
		sqs_shared_client_release(shared);
		sqs_shared_clients_collect();
	}
	PG_END_TRY();

	values[0] = CStringGetTextDatum(caller.account);
	values[1] = CStringGetTextDatum(caller.arn);
	values[2] = CStringGetTextDatum(caller.user_id);
	values[3] = CStringGetTextDatum(source);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
