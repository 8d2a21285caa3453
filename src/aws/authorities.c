/*-------------------------------------------------------------------------
 *
 * authorities.c
 *	  Which authorities may have signed the certificate of a server.
 *
 * The system's authorities are usually both in a file and in a directory, and
 * libcurl is built to use both.  Then OpenSSL reads the file for each new
 * connection, which takes 20 ms, and keeps its more than a hundred certificates
 * with the connection.  In the directory, files are named after their contents,
 * and it reads the one that it needs.  So only the directory is used.  If a
 * server is not trusted by it, the connection is made once more with the file
 * alone, and if that succeeds, the pool begins with the file from then on.  A
 * file that is used without a directory is read by libcurl once for all
 * connections, and again after a certain time, for which we give it the age of
 * the file.
 *
 * All of it holds for a proxy that is reached by TLS, too.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include <sys/stat.h>
#include <time.h>

#include "aws/authorities.h"

#define MAX_AGE_AUTHORITIES_S 3600L /* of what was read of a file */
#define LOOK_AT_FILE_MS		1000

void
aws_system_authorities_find(AwsSystemAuthorities *system)
{
	CURL	   *easy = curl_easy_init();
	char	   *file = NULL;
	char	   *directory = NULL;

	if (easy == NULL)
		return;
	curl_easy_getinfo(easy, CURLINFO_CAINFO, &file);
	curl_easy_getinfo(easy, CURLINFO_CAPATH, &directory);
	curl_easy_cleanup(easy);
	system->file = file;
	system->directory = directory;
	system->by_directory = file != NULL && directory != NULL;
}

/* Can the system's be found in two places? */
static bool
has_choice(const AwsSystemAuthorities *system)
{
	return system->file != NULL && system->directory != NULL;
}

void
aws_authorities_init(AwsAuthorities *authorities, AwsSystemAuthorities *system)
{
	memset(authorities, 0, sizeof(*authorities));
	authorities->system = system;
	authorities->by_directory = system->by_directory;
}

void
aws_authorities_free(AwsAuthorities *authorities)
{
	free(authorities->ca_file);
}

bool
aws_authorities_are(const AwsAuthorities *authorities, const char *ca_file)
{
	const char *own = authorities->ca_file;

	if (ca_file != NULL)
		return own != NULL && strcmp(ca_file, own) == 0;
	return own == NULL && authorities->by_directory == authorities->system->by_directory;
}

bool
aws_authorities_change(AwsAuthorities *authorities, const char *ca_file)
{
	char	   *copy = NULL;

	if (ca_file != NULL && (copy = strdup(ca_file)) == NULL)
		return false;
	free(authorities->ca_file);
	authorities->ca_file = copy;
	authorities->by_directory = authorities->system->by_directory;
	authorities->looked_at = 0;
	return true;
}

/*
 * ca_file replaces all of the system's authorities.  A TLS library that has no
 * such directory refuses the option; that is ignored.
 */
bool
aws_authorities_apply(const AwsAuthorities *authorities, CURL *easy)
{
	const AwsSystemAuthorities *system = authorities->system;
	const char *file = authorities->ca_file;
	const char *directory = NULL;

	if (file == NULL)
	{
		if (!has_choice(system))
			return true;		/* as libcurl was built */
		if (authorities->by_directory)
			directory = system->directory;
		else
			file = system->file;
	}
	(void) curl_easy_setopt(easy, CURLOPT_CAPATH, directory);
	(void) curl_easy_setopt(easy, CURLOPT_PROXY_CAPATH, directory);
	(void) curl_easy_setopt(easy, CURLOPT_PROXY_CAINFO, file);
	return curl_easy_setopt(easy, CURLOPT_CAINFO, file) == CURLE_OK;
}

/*
 * What libcurl has read of a file of authorities is good if it read it after the
 * file's last change.  Rounded down, so that a change is never missed; nor is it
 * trusted for ever, because the name may have been given to another, older file.
 */
void
aws_authorities_set_age(AwsAuthorities *authorities, CURL *easy, int64 now)
{
	const char *file = authorities->ca_file;
	struct stat st;
	int64		age = 0;

	if (file == NULL && !authorities->by_directory)
		file = authorities->system->file;
	if (file == NULL || now < authorities->looked_at + LOOK_AT_FILE_MS)
		return;
	authorities->looked_at = now;
	if (stat(file, &st) == 0)
		age = (int64) time(NULL) - (int64) st.st_ctime - 1;
	curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT,
					 Min(Max((long) age, 0), MAX_AGE_AUTHORITIES_S));
}

bool
aws_authorities_use_other(AwsAuthorities *authorities, CURL *easy, int64 now)
{
	if (authorities->ca_file != NULL || !has_choice(authorities->system) ||
		authorities->other_tried)
		return false;
	authorities->other_tried = true;
	authorities->by_directory = !authorities->by_directory;
	authorities->looked_at = 0;
	aws_authorities_set_age(authorities, easy, now);
	return aws_authorities_apply(authorities, easy);
}

void
aws_authorities_trusted(const AwsAuthorities *authorities)
{
	if (authorities->other_tried)
		authorities->system->by_directory = authorities->by_directory;
}
