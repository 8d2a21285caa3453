/*-------------------------------------------------------------------------
 *
 * resolver.h
 *	  How aws_identity_resolve() decides: what its parts share.
 *
 * Only for resolver*.c.  Functions that return bool return false if they have
 * failed, with the error set; what comes after the first error has no effect.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_RESOLVER_H
#define AWS_RESOLVER_H

#include "aws/identity.h"
#include "aws/profile.h"

/* The state of one aws_identity_resolve(). */
typedef struct Resolver
{
	const AwsIdentityOptions *options;
	AwsIdentity *identity;
	AwsError   *error;
	bool		failed;			/* *error is set */
	AwsGetenv	getenv;
	bool		is_static;		/* files and variables do not matter, but for
								 * AWS_CA_BUNDLE */
	AwsProfiles profiles;
	const char *profile;		/* the one that applies */
	AwsProfileValue found;		/* by the last resolver_get() */
} Resolver;

/* What the last resolver_get() has found in the profile that applies, for messages. */
typedef struct ResolverKey
{
	char		text[300];
} ResolverKey;

static inline bool
is_given(const char *value)
{
	return value != NULL && value[0] != '\0';
}

extern bool resolver_fail(Resolver *r, const char *code, const char *fmt, ...) pg_attribute_printf(3, 4);
extern bool resolver_no_memory(Resolver *r);

/* Fields of the identity; what they had is wiped. */
extern bool resolver_set(Resolver *r, char **field, const char *fmt, ...) pg_attribute_printf(3, 4);
extern bool resolver_set_text(Resolver *r, char **field, const char *text);

/* What is configured: NULL if it is not, or is empty. */
extern const char *resolver_env(const Resolver *r, const char *name);
extern const char *resolver_get(Resolver *r, const char *profile, const char *key);
extern int	resolver_flag(Resolver *r, const char *variable, const char *key);
extern ResolverKey resolver_found_key(const Resolver *r, const char *key);

/* resolver.c: keys, and the role of a token */
extern bool resolver_use_environment(Resolver *r);
extern bool resolver_use_keys(Resolver *r, AwsSourceKind kind, const char *id,
							  const char *secret, const char *token);
extern bool resolver_check_keys(Resolver *r, const char *what, const char *id_name,
								const char *secret_name, const char *token_name);
extern bool resolver_use_web_identity(Resolver *r, const char *token_file,
									  const char *role_arn, const char *session_name,
									  const char *where);
extern bool resolver_check_role_arn(Resolver *r, const char *arn, const char *where);

/* resolver_hosts.c */
extern bool resolver_use_container(Resolver *r);
extern bool resolver_use_metadata(Resolver *r);
extern bool resolver_find_metadata(Resolver *r);

/* resolver_profile.c */
extern bool resolver_use_profile(Resolver *r);
extern AwsAssumeRole *resolver_add_role(Resolver *r, const char *role_arn,
										const char *external_id, const char *session_name,
										int duration, const char *where);

/* resolver_place.c */
extern bool resolver_find_place(Resolver *r);

#endif							/* AWS_RESOLVER_H */
