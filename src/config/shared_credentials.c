/*-------------------------------------------------------------------------
 *
 * shared_credentials.c
 *	  Keys that have to be found or fetched, and are shared by all processes.
 *
 * A provider has a plan (AwsIdentity), made from the options of the server and
 * of the user mapping, the environment and AWS's configuration files.  If keys
 * are in one of these, the provider has them itself, and reads them again once
 * a minute, and when they are refused.  Otherwise they are in shared memory,
 * under an id that is made of the plan, and whoever finds that they are missing
 * or old, and gets the claim, fetches new ones; see "Keys" in src/README.
 *
 * The plan is made anew before each fetch and once a minute, so that changed
 * files are noticed.  If it is another one then, so are the id and the keys.
 *
 * A fetch goes on in sqs_shared_credentials_poll(), which the process calls in
 * its loop.  Calls to AWS that need the keys ask the provider again and again
 * meanwhile, until they are there or the call's own time is over.  Nothing here
 * waits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/ipc.h"

#include "aws/endpoint.h"
#include "aws/fetch.h"
#include "aws/secret.h"
#include "base/settings.h"
#include "base/worker.h"
#include "config/shared_credentials.h"

#define OWN_FETCH_RETRY_MS		10	/* a call asks again for its keys */
#define OTHER_FETCH_RETRY_MS	100
#define REREAD_MS				60000	/* files and environment, if they have
										 * the keys */
#define REREAD_SOON_MS			10000	/* if the keys were refused or
										 * missing, or something is odd */
#define KEEP_MS					1000	/* how often to look whether it is
										 * time to renew */
#define SAME_PLAN_MS			1000	/* a plan is not made again at once */

StaticAssertDecl(sizeof(((SqsCachedKeys *) NULL)->access_key_id) == AWS_ACCESS_KEY_ID_MAX + 1 &&
				 sizeof(((SqsCachedKeys *) NULL)->secret_access_key) == AWS_SECRET_KEY_MAX + 1 &&
				 sizeof(((SqsCachedKeys *) NULL)->session_token) == AWS_SESSION_TOKEN_MAX + 1,
				 "the cache takes any key that is valid");

typedef struct SharedProvider
{
	AwsCredentialsProvider base;	/* must be first */
	dlist_node	node;			/* in providers */
	HttpPool   *pool;
	AwsIdentityOptions options; /* its strings are ours */
	char	   *ca_file;		/* NULL: as the plan says */

	AwsIdentity *identity;		/* the plan; never NULL once it was made */
	int64		planned_at;
	bool		in_doubt;		/* the last look at the files was odd */

	AwsError	error;			/* why it cannot be made any more; class NONE:
								 * it can */

	/* if the plan has the keys itself */
	bool		local;
	uint64		generation;

	/* if they are fetched and shared */
	SqsKeysUser user;
	AwsFetch   *fetch;			/* NULL: none under way */
	int64		keep_at;
} SharedProvider;

static dlist_head providers = DLIST_STATIC_INIT(providers);
static bool resident = false;

/* ---- the plan ---- */

static void
free_options(AwsIdentityOptions *options)
{
	aws_secret_free((char *) options->source);
	aws_secret_free((char *) options->access_key_id);
	aws_secret_free((char *) options->secret_access_key);
	aws_secret_free((char *) options->session_token);
	aws_secret_free((char *) options->profile);
	aws_secret_free((char *) options->web_identity_token_file);
	aws_secret_free((char *) options->role_arn);
	aws_secret_free((char *) options->external_id);
	aws_secret_free((char *) options->role_session_name);
	aws_secret_free((char *) options->region);
	aws_secret_free((char *) options->endpoint);
	aws_secret_free((char *) options->sts_endpoint);
	memset(options, 0, sizeof(*options));
}

/* False if out of memory. */
static bool
copy_text(const char **to, const char *from)
{
	*to = from != NULL ? strdup(from) : NULL;
	return from == NULL || *to != NULL;
}

/*
 * The options as aws/identity.h wants them, in memory that outlives the caller's.
 * False if out of memory; the copies that were made are to be freed.
 */
static bool
make_options(const SqsKeys *keys, AwsIdentityOptions *options)
{
	char		region[64];
	AwsUrl		url;
	const char *why;

	memset(options, 0, sizeof(*options));
	options->duration_seconds = keys->duration_seconds;
	options->use_fips = keys->use_fips;
	options->use_dualstack = keys->use_dualstack;
	options->allow_http = keys->allow_http;

	/* STS needs the region, too */
	if (keys->region != NULL)
		strlcpy(region, keys->region, sizeof(region));
	else if (keys->endpoint == NULL || !aws_url_parse(keys->endpoint, &url, &why) ||
			 !aws_region_of_host(url.host, region, sizeof(region)))
		region[0] = '\0';

	return copy_text(&options->source, keys->source != NULL ? keys->source : "static") &&
		copy_text(&options->access_key_id, keys->access_key_id) &&
		copy_text(&options->secret_access_key, keys->secret_access_key) &&
		copy_text(&options->session_token, keys->session_token) &&
		copy_text(&options->profile, keys->profile) &&
		copy_text(&options->web_identity_token_file, keys->web_identity_token_file) &&
		copy_text(&options->role_arn, keys->role_arn) &&
		copy_text(&options->external_id, keys->external_id) &&
		copy_text(&options->role_session_name, keys->role_session_name) &&
		copy_text(&options->region, region[0] != '\0' ? region : NULL) &&
		copy_text(&options->endpoint, keys->endpoint) &&
		copy_text(&options->sts_endpoint, keys->sts_endpoint);
}

static void
no_memory(AwsError *error)
{
	aws_error_set(error, AWS_ERROR_RESOURCES, "NoResources", "out of memory");
}

/*
 * Make a plan, and the id of its keys.  False, with *error set, if it cannot be
 * made.
 */
static bool
make_plan(const AwsIdentityOptions *wanted, const char *ca_file,
		  AwsIdentity **identity, uint8 *id, AwsError *error)
{
	AwsIdentityOptions options = *wanted;
	const char *why;
	char	   *canonical;
	size_t		len = 0;
	bool		ok;

	/* the validator has checked that, but options can be older than it */
	if (options.sts_endpoint != NULL &&
		!aws_endpoint_is_valid(options.sts_endpoint, options.allow_http, &why))
	{
		aws_error_set(error, AWS_ERROR_CONFIGURATION, "InvalidEndpoint",
					  "sts_endpoint \"%s\" %s", options.sts_endpoint, why);
		return false;
	}
	options.allow_process = sqs_allow_credential_process;
	if (!aws_identity_resolve(&options, identity, error))
	{
		/* the AWS layer does not know how our settings are named */
		if (!sqs_allow_credential_process && strcmp(error->code, "UnsupportedSource") == 0 &&
			strstr(error->message, "credential_process") != NULL)
			strlcat(error->message, "; a superuser can allow it by sqsbridge.allow_credential_process",
					sizeof(error->message));
		return false;
	}

	ok = true;
	if (ca_file != NULL)
	{
		free((*identity)->ca_file);
		(*identity)->ca_file = strdup(ca_file);
		ok = (*identity)->ca_file != NULL;
	}
	canonical = ok ? aws_identity_canonical(*identity, &len) : NULL;
	ok = canonical != NULL && sqs_keys_id(canonical, len, id);
	if (canonical != NULL)
	{
		explicit_bzero(canonical, len);
		free(canonical);
	}
	if (!ok)
	{
		no_memory(error);
		aws_identity_free(*identity);
		*identity = NULL;
	}
	return ok;
}

/* Are these keys the same? */
static bool
same_keys(const AwsIdentity *a, const AwsIdentity *b)
{
	const char *const pairs[][2] = {
		{a->access_key_id, b->access_key_id},
		{a->secret_access_key, b->secret_access_key},
		{a->session_token, b->session_token},
	};

	for (int i = 0; i < (int) lengthof(pairs); i++)
	{
		const char *left = pairs[i][0] != NULL ? pairs[i][0] : "";
		const char *right = pairs[i][1] != NULL ? pairs[i][1] : "";

		if (strcmp(left, right) != 0)
			return false;
	}
	return true;
}

/*
 * Make the plan anew.  If it is another one, the user of the cache becomes
 * another, too.  False, with *error set and the old plan in place, if it cannot
 * be made.
 *
 * Somebody may be writing one of the files just now, so that it is empty, or
 * ends in the middle.  A plan that cannot be made any more, or that has another
 * kind of source, is therefore believed only when it is seen for the second time,
 * REREAD_SOON_MS later; until then we go on with the old one.
 */
static bool
plan_again(SharedProvider *p, AwsError *error)
{
	AwsIdentity *identity = NULL;
	uint8		id[SQS_KEYS_ID_LEN];
	bool		ok;

	p->planned_at = sqs_now_ms();
	ok = make_plan(&p->options, p->ca_file, &identity, id, error);
	/* that says nothing about the files */
	if (!ok && error->class == AWS_ERROR_RESOURCES)
		return false;
	if (p->identity != NULL && !p->in_doubt && p->error.class == AWS_ERROR_NONE &&
		(!ok || identity->kind != p->identity->kind))
	{
		p->in_doubt = true;
		aws_identity_free(identity);
		return true;
	}
	p->in_doubt = false;
	if (!ok)
	{
		p->error = *error;
		return false;
	}
	memset(&p->error, 0, sizeof(p->error));

	if (p->identity == NULL || memcmp(id, p->user.id, sizeof(id)) != 0)
	{
		sqs_keys_release(&p->user);
		memcpy(p->user.id, id, sizeof(id));
		p->user.confined = identity->kind == AWS_SOURCE_STATIC;
	}
	p->local = !aws_identity_needs_fetch(identity);
	if (p->identity == NULL || !same_keys(identity, p->identity))
		p->generation++;
	aws_identity_free(p->identity);
	p->identity = identity;
	return true;
}

/* Is it time to look at files and environment again? */
static bool
plan_is_old(const SharedProvider *p)
{
	return sqs_now_ms() - p->planned_at >=
		(p->in_doubt || p->error.class != AWS_ERROR_NONE ? REREAD_SOON_MS : REREAD_MS);
}

/* ---- keys that the plan has ---- */

static AwsCredentialsStatus
local_get(SharedProvider *p, AwsCredentials *credentials, AwsError *error)
{
	if (plan_is_old(p))
	{
		AwsError	ignored;

		(void) plan_again(p, &ignored);
	}
	if (p->error.class != AWS_ERROR_NONE)
	{
		*error = p->error;
		return AWS_CREDENTIALS_FAILED;
	}
	if (!p->local)
	{
		credentials->retry_ms = 1;	/* from now on they are fetched */
		return AWS_CREDENTIALS_PENDING;
	}
	credentials->access_key_id = p->identity->access_key_id;
	credentials->secret_access_key = p->identity->secret_access_key;
	credentials->session_token = p->identity->session_token;
	credentials->generation = p->generation;
	return aws_credentials_are_valid(credentials, error) ? AWS_CREDENTIALS_OK : AWS_CREDENTIALS_FAILED;
}

static bool
local_reject(SharedProvider *p, uint64 generation)
{
	AwsError	error;

	if (p->generation != generation)
		return true;
	if (sqs_now_ms() - p->planned_at < REREAD_SOON_MS)
		return false;
	return plan_again(p, &error) && (!p->local || p->generation != generation);
}

/* ---- fetching ---- */

/*
 * Store an error.  Here and in go_on(), interrupts wait while a message is
 * written, because a provider raises no error.
 */
static void
fail(SharedProvider *p, const AwsError *error)
{
	SqsCachedError cached;

	memset(&cached, 0, sizeof(cached));
	cached.class = error->class;
	cached.lasting = error->class == AWS_ERROR_CREDENTIALS || error->class == AWS_ERROR_CONFIGURATION;
	strlcpy(cached.code, error->code, sizeof(cached.code));
	strlcpy(cached.message, error->message, sizeof(cached.message));

	/* others have memory and descriptors */
	if (error->class == AWS_ERROR_RESOURCES)
	{
		sqs_keys_cannot(&p->user, &cached);
		return;
	}
	if (sqs_keys_fail(&p->user, &cached) && p->user.failures == 1 &&
		sqs_keys_usable(&p->user.keys))
	{
		HOLD_INTERRUPTS();
		ereport(LOG,
				(errmsg("sqsbridge could not renew the keys from %s, and goes on with the old ones: %s",
						p->identity->source, error->message)));
		RESUME_INTERRUPTS();
	}
}

/* The claim is ours: start a fetch.  It has failed already if p->fetch is NULL. */
static void
start_fetch(SharedProvider *p)
{
	AwsError	error;
	uint64		claim = p->user.claim;

	if (sqs_now_ms() - p->planned_at >= SAME_PLAN_MS)
	{
		if (!plan_again(p, &error))
		{
			fail(p, &error);
			return;
		}
		/* other keys are wanted now: they may be there already */
		if (p->user.claim != claim)
			return;
		if (p->local)
		{
			sqs_keys_give_up(&p->user);
			return;
		}
	}
	p->fetch = aws_fetch_start(p->pool, p->identity, SQS_KEYS_CLAIM_MS, &error);
	if (p->fetch == NULL)
		fail(p, &error);
}

static void
cancel_fetch(SharedProvider *p)
{
	aws_fetch_cancel(p->fetch);
	p->fetch = NULL;
	sqs_keys_give_up(&p->user);
}

static bool
copy_key(char *to, const char *from, size_t size)
{
	return strlcpy(to, from != NULL ? from : "", size) < size;
}

/*
 * Store what the fetch has brought.  False, with *error set, if that is no use;
 * *news: it was.
 */
static bool
store(SharedProvider *p, const AwsFetchedKeys *fetched, bool *news, AwsError *error)
{
	static SqsCachedKeys keys;	/* too large for the stack */
	bool		good = false;

	memset(&keys, 0, sizeof(keys));
	keys.expires = fetched->expires == 0 ? PG_INT64_MAX : fetched->expires - fetched->skew_ms;
	/* instance metadata may be unable to renew them, and AWS accepts them on */
	keys.outlive = p->identity->kind == AWS_SOURCE_INSTANCE_METADATA && p->identity->nroles == 0;
	copy_key(keys.arn, fetched->arn, sizeof(keys.arn));
	if (!copy_key(keys.access_key_id, fetched->access_key_id, sizeof(keys.access_key_id)) ||
		!copy_key(keys.secret_access_key, fetched->secret_access_key, sizeof(keys.secret_access_key)) ||
		!copy_key(keys.session_token, fetched->session_token, sizeof(keys.session_token)) ||
		!copy_key(keys.region, fetched->region, sizeof(keys.region)))
		aws_error_set(error, AWS_ERROR_CREDENTIALS, "InvalidCredentials",
					  "the keys from %s are too long", p->identity->source);
	else if (!keys.outlive && keys.expires - sqs_wall_ms() < SQS_KEYS_LEAST_MS)
		aws_error_set(error, AWS_ERROR_TRANSIENT, "ExpiredCredentials",
					  "the keys from %s have expired, or will within seconds; check the clock of this server",
					  p->identity->source);
	else
	{
		good = true;
		*news = sqs_keys_store(&p->user, &keys) && p->user.failures > 0;
	}
	explicit_bzero(&keys, sizeof(keys));
	return good;
}

/* Let the fetch go on, and take its result. */
static void
go_on(SharedProvider *p)
{
	AwsFetchedKeys fetched;
	AwsError	error;
	bool		good;
	bool		news;

	PG_TRY();
	{
		aws_fetch_go_on(p->fetch);
	}
	PG_CATCH();
	{
		cancel_fetch(p);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (!aws_fetch_done(p->fetch))
		return;

	memset(&fetched, 0, sizeof(fetched));
	news = false;
	good = aws_fetch_result(p->fetch, &fetched, &error) && store(p, &fetched, &news, &error);
	aws_fetched_keys_wipe(&fetched);
	aws_fetch_cancel(p->fetch);
	p->fetch = NULL;
	if (!good)
		fail(p, &error);
	else if (news)
	{
		HOLD_INTERRUPTS();
		ereport(LOG,
				(errmsg("sqsbridge has got keys from %s again", p->identity->source)));
		RESUME_INTERRUPTS();
	}
}

void
sqs_shared_credentials_poll(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &providers)
	{
		SharedProvider *p = dlist_container(SharedProvider, node, iter.cur);

		if (p->fetch != NULL)
			go_on(p);
	}
}

long
sqs_shared_credentials_timeout(void)
{
	long		timeout = -1;
	dlist_iter	iter;

	dlist_foreach(iter, &providers)
	{
		SharedProvider *p = dlist_container(SharedProvider, node, iter.cur);
		long		next = p->fetch != NULL ? aws_fetch_next(p->fetch) : -1;

		if (next >= 0 && (timeout < 0 || next < timeout))
			timeout = next;
	}
	return timeout;
}

/* ---- the provider ---- */

static AwsCredentialsStatus
use(const SqsCachedKeys *keys, AwsCredentials *credentials)
{
	credentials->access_key_id = keys->access_key_id;
	credentials->secret_access_key = keys->secret_access_key;
	credentials->session_token = keys->session_token;
	credentials->generation = keys->generation;
	credentials->region = keys->region;
	return AWS_CREDENTIALS_OK;
}

/*
 * A session that fetches waits for the result, even if it has keys that can
 * still be used: it would not be there to take it.
 */
static AwsCredentialsStatus
shared_get(AwsCredentialsProvider *provider, AwsCredentials *credentials, AwsError *error)
{
	SharedProvider *p = (SharedProvider *) provider;

	memset(credentials, 0, sizeof(*credentials));
	/* keys that do not end would hide for ever that the plan has changed */
	if (!p->local && p->fetch == NULL && plan_is_old(p))
	{
		AwsError	ignored;

		(void) plan_again(p, &ignored);
	}
	/* once more if the plan has changed, and if the fetch failed at once */
	for (int i = 0; i < 3 && p->fetch == NULL; i++)
	{
		if (p->local)
			return local_get(p, credentials, error);
		switch (sqs_keys_get(&p->user, resident))
		{
			case SQS_KEYS_READY:
				return use(&p->user.keys, credentials);
			case SQS_KEYS_WAIT:
				credentials->retry_ms = OTHER_FETCH_RETRY_MS;
				return AWS_CREDENTIALS_PENDING;
			case SQS_KEYS_FAILED:
				aws_error_set(error, p->user.error.class != 0 ?
							  (AwsErrorClass) p->user.error.class : AWS_ERROR_RESOURCES,
							  p->user.error.code, "%s", p->user.error.message);
				return AWS_CREDENTIALS_FAILED;
			case SQS_KEYS_FETCH:
				start_fetch(p);
				break;
		}
	}
	if (resident && sqs_keys_usable(&p->user.keys))
		return use(&p->user.keys, credentials);
	credentials->retry_ms = OWN_FETCH_RETRY_MS;
	return AWS_CREDENTIALS_PENDING;
}

static bool
shared_peek(AwsCredentialsProvider *provider, AwsCredentials *credentials)
{
	SharedProvider *p = (SharedProvider *) provider;

	memset(credentials, 0, sizeof(*credentials));
	if (p->user.keys.generation != 0)
		return use(&p->user.keys, credentials) == AWS_CREDENTIALS_OK;
	credentials->access_key_id = p->identity->access_key_id;
	credentials->secret_access_key = p->identity->secret_access_key;
	credentials->session_token = p->identity->session_token;
	return credentials->secret_access_key != NULL;
}

static bool
shared_reject(AwsCredentialsProvider *provider, uint64 generation)
{
	SharedProvider *p = (SharedProvider *) provider;

	return p->local ? local_reject(p, generation) : sqs_keys_reject(&p->user, generation);
}

static const char *
shared_source(const AwsCredentialsProvider *provider)
{
	return ((const SharedProvider *) provider)->identity->source;
}

static void
shared_free(AwsCredentialsProvider *provider)
{
	SharedProvider *p = (SharedProvider *) provider;

	if (p->fetch != NULL)
		cancel_fetch(p);
	sqs_keys_release(&p->user);
	dlist_delete(&p->node);
	aws_identity_free(p->identity);
	free_options(&p->options);
	free(p->ca_file);
	explicit_bzero(p, sizeof(*p));
	free(p);
}

static const AwsCredentialsMethods shared_methods = {
	shared_get, shared_peek, shared_reject, shared_source, shared_free
};

/* ---- ends of processes and transactions ---- */

static void
cancel_all(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &providers)
	{
		SharedProvider *p = dlist_container(SharedProvider, node, iter.cur);

		/* an ERROR may have come between the claim and the fetch */
		if (p->fetch != NULL || p->user.claim != 0)
			cancel_fetch(p);
	}
}

static void
at_exit(int code, Datum arg)
{
	cancel_all();
}

/* A session that was interrupted does not go on with its fetch. */
static void
at_transaction_end(XactEvent event, void *arg)
{
	if (!resident && (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE ||
					  event == XACT_EVENT_ABORT))
		cancel_all();
}

static void
at_subtransaction_end(SubXactEvent event, SubTransactionId mySubid,
					  SubTransactionId parentSubid, void *arg)
{
	if (!resident && event == SUBXACT_EVENT_ABORT_SUB)
		cancel_all();
}

void
sqs_shared_credentials_stay(void)
{
	resident = true;
}

/* ---- making one ---- */

AwsCredentialsProvider *
sqs_shared_credentials(const SqsKeys *keys, const char *ca_file, HttpPool *pool,
					   AwsError *error)
{
	static bool registered = false;
	SharedProvider *p;

	if (!registered)
	{
		before_shmem_exit(at_exit, (Datum) 0);
		RegisterXactCallback(at_transaction_end, NULL);
		RegisterSubXactCallback(at_subtransaction_end, NULL);
		registered = true;
	}

	p = calloc(1, sizeof(SharedProvider));
	if (p == NULL)
	{
		no_memory(error);
		return NULL;
	}
	p->base.methods = &shared_methods;
	p->pool = pool;
	dlist_push_tail(&providers, &p->node);
	if (!make_options(keys, &p->options) ||
		(ca_file != NULL && (p->ca_file = strdup(ca_file)) == NULL))
	{
		no_memory(error);
		shared_free(&p->base);
		return NULL;
	}
	if (!plan_again(p, error))
	{
		shared_free(&p->base);
		return NULL;
	}
	return &p->base;
}

const AwsIdentity *
sqs_shared_credentials_identity(const AwsCredentialsProvider *provider)
{
	Assert(provider->methods == &shared_methods);
	return ((const SharedProvider *) provider)->identity;
}

/* The keys of a process that stays are renewed although nothing asks for them. */
void
sqs_shared_credentials_keep(AwsCredentialsProvider *provider)
{
	SharedProvider *p = (SharedProvider *) provider;
	AwsCredentials credentials;
	AwsError	error;
	int64		now;

	if (!resident || p->local)
		return;
	now = sqs_now_ms();
	if (now < p->keep_at)
		return;
	p->keep_at = now + KEEP_MS;
	(void) shared_get(provider, &credentials, &error);
}

/* ---- showing ---- */

bool
sqs_shared_credentials_view(const SqsKeys *keys, const char *ca_file,
							SqsCredentialsView *view, AwsError *error)
{
	AwsIdentityOptions options;
	AwsIdentity *identity = NULL;
	uint8		id[SQS_KEYS_ID_LEN];
	bool		ok = make_options(keys, &options);

	memset(view, 0, sizeof(*view));
	if (!ok)
		no_memory(error);
	else
		ok = make_plan(&options, ca_file, &identity, id, error);
	free_options(&options);
	if (!ok)
		return false;
	view->source = pstrdup(identity->source);
	if (identity->nroles > 0)
		view->role_arn = pstrdup(identity->roles[identity->nroles - 1].role_arn);
	else if (identity->role_arn != NULL)
		view->role_arn = pstrdup(identity->role_arn);
	view->fetched = aws_identity_needs_fetch(identity);
	view->shared = view->fetched &&
		sqs_keys_status(id, identity->kind == AWS_SOURCE_STATIC, &view->status);
	aws_identity_free(identity);
	return true;
}
