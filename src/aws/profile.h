/*-------------------------------------------------------------------------
 *
 * profile.h
 *	  The profiles in AWS's two configuration files, as if they were one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_PROFILE_H
#define AWS_PROFILE_H

#include "aws/aws_error.h"
#include "aws/ini.h"

typedef const char *(*AwsGetenv) (const char *name);

typedef struct AwsProfileFile
{
	char	   *path;			/* NULL: there is no home directory */
	bool		exists;
	AwsIni		ini;
} AwsProfileFile;

typedef struct AwsProfiles
{
	AwsProfileFile credentials;
	AwsProfileFile config;
} AwsProfiles;

/* A value and where it was found.  The strings are those of the AwsProfiles. */
typedef struct AwsProfileValue
{
	const char *value;			/* NULL: not set */
	const char *path;
	int			line;
} AwsProfileValue;

/*
 * Read both files.  That a file does not exist is no error; that it cannot be
 * read or parsed is one (InvalidFile, or NoResources).  In any case the
 * profiles are to be freed.
 */
extern bool aws_profiles_load(AwsProfiles *profiles, AwsGetenv env,
							  AwsError *error);

/* Wipes what was read.  The AwsProfiles may be all zeros. */
extern void aws_profiles_free(AwsProfiles *profiles);

extern bool aws_profile_exists(const AwsProfiles *profiles, const char *profile);

/*
 * Look a key of a profile up, or a subkey in a section [services name].  Returns
 * false with *error set if the value is not a single line of text without
 * control characters; the message does not contain the value.
 */
extern bool aws_profile_get(const AwsProfiles *profiles, const char *profile,
							const char *key, AwsProfileValue *value,
							AwsError *error);
extern bool aws_profile_service(const AwsProfiles *profiles, const char *services,
								const char *service, const char *key,
								AwsProfileValue *value, AwsError *error);
extern bool aws_profile_has_services(const AwsProfiles *profiles,
									 const char *services);

/*
 * Why a profile is missing, for people: "is neither in ... nor in ...", with a
 * hint if a section is nearly called so.
 */
extern void aws_profile_missing(const AwsProfiles *profiles, const char *profile,
								char *buf, size_t size);

#endif							/* AWS_PROFILE_H */
