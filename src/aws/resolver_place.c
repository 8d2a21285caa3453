/*-------------------------------------------------------------------------
 *
 * resolver_place.c
 *	  Where keys are to be used: region, endpoints, and authorities.
 *
 * Each from the option, then the variable, then the profile.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "aws/endpoint.h"
#include "aws/resolver.h"

/* Take a region, unless it is not one. */
static bool
use_region(Resolver *r, const char *region, const char *what)
{
	const char *why;

	if (!aws_region_is_valid(region, &why))
		return resolver_fail(r, "InvalidConfiguration", "%s %s", what, why);

	/* an old way of asking for FIPS endpoints: such a host does not exist */
	if (strncmp(region, "fips-", 5) == 0)
		return resolver_fail(r, "InvalidConfiguration", "%s must be a region such as %s; for its FIPS endpoints, set option use_fips_endpoint or AWS_USE_FIPS_ENDPOINT to true",
							 what, region + 5);
	return resolver_set_text(r, &r->identity->region, region);
}

/* The region in the host name of an endpoint; false if it tells none. */
static bool
region_of_endpoint(const char *endpoint, char *region, size_t size)
{
	AwsUrl		url;
	const char *why;

	return is_given(endpoint) && aws_url_parse(endpoint, &url, &why) &&
		aws_region_of_host(url.host, region, size);
}

/*
 * The endpoint's own region comes before those of the environment: a request
 * that is signed for another one is refused.
 */
static bool
find_region(Resolver *r)
{
	const AwsIdentityOptions *options = r->options;
	const char *value;
	char		region[33];

	if (is_given(options->region))
		return use_region(r, options->region, "option region");
	if (region_of_endpoint(options->endpoint, region, sizeof(region)))
		return use_region(r, region, "the endpoint's region");
	if (r->is_static)
		return true;

	/* JavaScript reads only the first, botocore only the second */
	if ((value = resolver_env(r, "AWS_REGION")) != NULL)
		return use_region(r, value, "AWS_REGION");
	if ((value = resolver_env(r, "AWS_DEFAULT_REGION")) != NULL)
		return use_region(r, value, "AWS_DEFAULT_REGION");
	if ((value = resolver_get(r, r->profile, "region")) != NULL)
		return use_region(r, value, resolver_found_key(r, "region").text);
	if (r->failed)
		return false;
	if (region_of_endpoint(r->identity->endpoint, region, sizeof(region)))
		return use_region(r, region, "the endpoint's region");

	if (r->identity->metadata_url == NULL && !resolver_find_metadata(r))
		return false;
	if (r->identity->metadata_url == NULL)
		return resolver_fail(r, "InvalidConfiguration", "no region is configured: there is no option region, AWS_REGION, AWS_DEFAULT_REGION, or region in profile \"%s\", and AWS_EC2_METADATA_DISABLED is true",
							 r->profile);
	return true;
}

/*
 * The endpoint of a service, as an option, a variable or the profile has it.  The
 * options were checked by the caller.
 */
static bool
find_endpoint(Resolver *r, const char *option, const char *variable,
			  const char *service, char **endpoint)
{
	const char *what = variable;
	const char *value;
	const char *services;
	const char *why;
	ResolverKey key;

	if (is_given(option))
		return resolver_set_text(r, endpoint, option);
	if (r->is_static)
		return true;
	if (resolver_flag(r, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls") == 1 ||
		r->failed)
		return !r->failed;

	if ((value = resolver_env(r, what)) == NULL)
		value = resolver_env(r, what = "AWS_ENDPOINT_URL");
	if (value == NULL && (services = resolver_get(r, r->profile, "services")) != NULL)
	{
		if (!aws_profile_has_services(&r->profiles, services))
			return resolver_fail(r, "InvalidProfile", "profile \"%s\" (%s:%d): there is no section [services %s]",
								 r->profile, r->found.path, r->found.line, services);
		if (!aws_profile_service(&r->profiles, services, service, "endpoint_url",
								 &r->found, r->error))
			return !(r->failed = true);
		value = r->found.value;
		what = "endpoint_url in the profile's services";
	}
	if (value == NULL && (value = resolver_get(r, r->profile, "endpoint_url")) != NULL)
	{
		key = resolver_found_key(r, "endpoint_url");
		what = key.text;
	}
	if (value == NULL)
		return !r->failed;
	if (!aws_endpoint_is_valid(value, r->options->allow_http, &why))
		return resolver_fail(r, "InvalidConfiguration", "%s %s", what, why);
	return resolver_set_text(r, endpoint, value);
}

/*
 * An endpoint that is given is used as it is, so that it must not be wanted in
 * another variety; an error in the SDKs, too.
 */
static bool
check_variety(Resolver *r, bool wanted, const char *variety, const char *variable,
			  const char *option)
{
	const AwsIdentity *identity = r->identity;
	const char *given = identity->endpoint != NULL ? "endpoint" :
		aws_identity_uses_sts(identity) && identity->sts_endpoint != NULL ? "endpoint of STS" : NULL;

	if (!wanted || given == NULL)
		return true;
	return resolver_fail(r, "InvalidConfiguration", "%s is wanted (option %s, %s, or the profile), but the %s is given and used as it is; if that is right, set option %s to false",
						 variety, option, variable, given, option);
}

bool
resolver_find_place(Resolver *r)
{
	const AwsIdentityOptions *options = r->options;
	AwsIdentity *identity = r->identity;
	int			fips = options->use_fips;
	int			dualstack = options->use_dualstack;
	const char *value;
	char		region[33];

	if (fips < 0 && !r->is_static)
		fips = resolver_flag(r, "AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint");
	if (dualstack < 0 && !r->is_static)
		dualstack = resolver_flag(r, "AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint");
	identity->use_fips = fips == 1;
	identity->use_dualstack = dualstack == 1;
	if (r->failed ||
		!find_endpoint(r, options->endpoint, "AWS_ENDPOINT_URL_SQS", "sqs", &identity->endpoint) ||
		!find_endpoint(r, options->sts_endpoint, "AWS_ENDPOINT_URL_STS", "sts", &identity->sts_endpoint) ||
		!find_region(r) ||
		!check_variety(r, identity->use_fips, "a FIPS endpoint", "AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint") ||
		!check_variety(r, identity->use_dualstack, "a dual-stack endpoint", "AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint"))
		return false;
	if (region_of_endpoint(identity->sts_endpoint, region, sizeof(region)) &&
		!resolver_set_text(r, &identity->sts_region, region))
		return false;

	value = resolver_env(r, "AWS_CA_BUNDLE");
	if (value == NULL && !r->is_static)
		value = resolver_get(r, r->profile, "ca_bundle");
	return resolver_set_text(r, &identity->ca_file, value) && !r->failed;
}
