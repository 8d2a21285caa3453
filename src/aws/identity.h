/*-------------------------------------------------------------------------
 *
 * identity.h
 *	  Which keys to use and where to use them, as AWS's SDKs would decide it
 *	  from options, environment variables and configuration files.
 *
 * The result is a plan: one source of keys, the roles to be assumed with them
 * one after the other, and the region and the endpoints.  Making it reads
 * files, but starts no program and uses no network; that is done with the
 * plan, by fetch.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_IDENTITY_H
#define AWS_IDENTITY_H

#include "aws/aws_error.h"

#define AWS_ROLES_MAX		5	/* roles that are assumed one after the other */

/*
 * The longest session that STS grants (12 hours), and the shortest.  For a role
 * that was assumed by another role, STS grants an hour at most.
 */
#define AWS_DURATION_MIN	900
#define AWS_DURATION_MAX	43200

/* The session name of assumed roles, if none is configured. */
#define AWS_DEFAULT_SESSION_NAME	"sqsbridge"

/* What the caller prescribes.  NULL or "" is not given; nothing is kept. */
typedef struct AwsIdentityOptions
{
	/*
	 * "auto" (also if NULL), "environment", "web_identity", "profile",
	 * "container" or "instance_metadata"; or "static" for the three keys
	 * below, in which case neither files nor variables matter, but for
	 * AWS_CA_BUNDLE.
	 */
	const char *source;
	const char *access_key_id;
	const char *secret_access_key;
	const char *session_token;

	const char *profile;
	const char *web_identity_token_file;	/* requires role_arn, which then
											 * is the role of the token */

	/* otherwise role_arn is assumed with whatever was found */
	const char *role_arn;
	const char *external_id;
	const char *role_session_name;
	int			duration_seconds;	/* 0: not given */

	const char *region;
	const char *endpoint;		/* of SQS */
	const char *sts_endpoint;
	bool		allow_http;		/* plain http for the endpoints of files and
								 * variables; the caller checks its own */
	int			use_fips;		/* -1: not given, 0, 1 */
	int			use_dualstack;	/* likewise */

	bool		allow_process;	/* credential_process is allowed */

	const char *(*getenv) (const char *name);	/* NULL: the process's */
} AwsIdentityOptions;

/* How an AwsIdentityOptions with nothing given begins. */
#define AWS_IDENTITY_OPTIONS_INIT	{.use_fips = -1, .use_dualstack = -1}

typedef enum AwsSourceKind
{
	AWS_SOURCE_STATIC,
	AWS_SOURCE_ENVIRONMENT,
	AWS_SOURCE_PROFILE_KEYS,
	AWS_SOURCE_WEB_IDENTITY,
	AWS_SOURCE_PROCESS,
	AWS_SOURCE_CONTAINER,
	AWS_SOURCE_INSTANCE_METADATA
} AwsSourceKind;

typedef struct AwsAssumeRole
{
	char	   *role_arn;
	char	   *external_id;	/* NULL: none */
	char	   *session_name;	/* never NULL */
	int			duration_seconds;	/* 0: STS decides */
	char	   *where;			/* for people: "profile "prod"
								 * (/x/config:12)", "option role_arn" */
} AwsAssumeRole;

typedef struct AwsIdentity
{
	AwsSourceKind kind;
	char	   *source;			/* for people: "profile "prod"
								 * (/root/.aws/config:12)" */

	/* static keys, those of the environment, those of a profile */
	char	   *access_key_id;
	char	   *secret_access_key;
	char	   *session_token;	/* NULL: none */
	int64		expires;		/* seconds since 1970; 0: not known.  What has
								 * expired is an error. */

	/* web identity */
	char	   *token_file;
	char	   *role_arn;
	char	   *session_name;	/* never NULL then */
	int			duration_seconds;	/* 0: STS decides */

	/* process */
	char	   *command;

	/* container */
	char	   *container_url;
	char	   *container_token;	/* one of these or none, for the header
									 * Authorization */
	char	   *container_token_file;

	/*
	 * Instance metadata, without a slash at the end.  Also set if the region
	 * is to be asked there, whatever the source is.  NULL: not to be asked.
	 */
	char	   *metadata_url;
	bool		is_last_resort; /* it is the source because no other is
								 * configured */

	/* in the order in which they are assumed */
	int			nroles;
	AwsAssumeRole roles[AWS_ROLES_MAX];

	/* where */
	char	   *region;			/* NULL: to be asked of instance metadata if
								 * there is a metadata_url, else not known */
	char	   *endpoint;		/* of SQS; NULL: to be made of the region */
	char	   *sts_endpoint;	/* likewise */
	char	   *sts_region;		/* to sign for; NULL: as region */
	char	   *ca_file;		/* AWS_CA_BUNDLE or ca_bundle; NULL: none */
	bool		use_fips;
	bool		use_dualstack;
} AwsIdentity;

/*
 * Returns false with *error set, and *identity NULL, if what is configured
 * cannot work.  The message says what was looked at, with file and line, and
 * what to do; it contains no key.  error->code is one of
 *
 *	NoCredentials			nothing is configured
 *	InvalidCredentials		keys that are incomplete, malformed or expired
 *	InvalidConfiguration	a variable, an option, or a combination of them
 *	InvalidFile				a file that cannot be read or parsed
 *	InvalidProfile			a profile that is missing or makes no sense
 *	UnsupportedSource		SSO, login, MFA, credential_process
 *	NoResources				out of memory or descriptors (AWS_ERROR_RESOURCES)
 */
extern bool aws_identity_resolve(const AwsIdentityOptions *options,
								 AwsIdentity **identity, AwsError *error);

/* A deep copy; NULL if out of memory. */
extern AwsIdentity *aws_identity_copy(const AwsIdentity *identity);

/* Wipes all of it.  NULL is allowed. */
extern void aws_identity_free(AwsIdentity *identity);

/* Does it take the network or a program to get the keys, or the region? */
extern bool aws_identity_needs_fetch(const AwsIdentity *identity);

/* Is STS asked for the keys? */
extern bool aws_identity_uses_sts(const AwsIdentity *identity);

/*
 * Text that is the same for two identities exactly if the same keys come out:
 * source, roles, and where they are fetched.  It contains secrets, and is to be
 * wiped and freed by the caller.  NULL if out of memory.
 */
extern char *aws_identity_canonical(const AwsIdentity *identity, size_t *len);

/* "environment", "profile", "web identity", ...: a constant. */
extern const char *aws_source_kind_name(AwsSourceKind kind);

#endif							/* AWS_IDENTITY_H */
