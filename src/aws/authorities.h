/*-------------------------------------------------------------------------
 *
 * authorities.h
 *	  Which authorities may have signed the certificate of a server.
 *
 * A part of the transport, http.h: one AwsSystemAuthorities for a pool, and one
 * AwsAuthorities for each of its handles.  Nothing here waits or sends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_AUTHORITIES_H
#define AWS_AUTHORITIES_H

#include <curl/curl.h>

/* Those that libcurl uses by default. */
typedef struct AwsSystemAuthorities
{
	const char *file;			/* constants of libcurl; NULL: none */
	const char *directory;
	bool		by_directory;	/* which of them to try first */
} AwsSystemAuthorities;

/* What a handle trusts. */
typedef struct AwsAuthorities
{
	AwsSystemAuthorities *system;
	char	   *ca_file;		/* NULL: the system's */
	bool		by_directory;	/* of the system's, those in the directory,
								 * not those in the file */
	bool		other_tried;	/* the server was not trusted by the others;
								 * each request begins with false */
	int64		looked_at;		/* ms; when the file's age was last set */
} AwsAuthorities;

extern void aws_system_authorities_find(AwsSystemAuthorities *system);

/* The system's. */
extern void aws_authorities_init(AwsAuthorities *authorities, AwsSystemAuthorities *system);
extern void aws_authorities_free(AwsAuthorities *authorities);

/*
 * Are they those of ca_file (NULL: the system's, as they are tried first now)?
 * If not, they can be changed to these, and then have to be applied to a handle
 * that has been reset.  Returns false, and changes nothing, if out of memory.
 */
extern bool aws_authorities_are(const AwsAuthorities *authorities, const char *ca_file);
extern bool aws_authorities_change(AwsAuthorities *authorities, const char *ca_file);

/* Set the handle's options.  False if libcurl refuses one. */
extern bool aws_authorities_apply(const AwsAuthorities *authorities, CURL *easy);

/* To be called before each request by TLS; now: ms, of any clock that goes on. */
extern void aws_authorities_set_age(AwsAuthorities *authorities, CURL *easy, int64 now);

/*
 * The server was not trusted: apply those of the system's that were not asked.
 * False if there are none.
 */
extern bool aws_authorities_use_other(AwsAuthorities *authorities, CURL *easy, int64 now);

/* The server was trusted. */
extern void aws_authorities_trusted(const AwsAuthorities *authorities);

#endif							/* AWS_AUTHORITIES_H */
