/*-------------------------------------------------------------------------
 *
 * secret.h
 *	  Memory that held secrets, files that hold them, and when they expire.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_SECRET_H
#define AWS_SECRET_H

/* Wipe and free a malloc'ed string.  NULL is allowed. */
extern void aws_secret_free(char *secret);

/*
 * Read a regular file of at most max bytes.  *data is malloc'ed and ends with a
 * NUL that *len does not count.  If this fails, *why says so ("No such file or
 * directory"), as text that is valid until the next call, and errno is 0 unless
 * it was the operating system's answer.
 *
 * Does not wait, unless the file system does: what is not a regular file, such
 * as a FIFO, is refused.  Symbolic links are followed; Kubernetes' tokens are
 * behind some.
 */
extern bool aws_secret_read_file(const char *path, size_t max, char **data,
								 size_t *len, const char **why);

/*
 * Read a time as AWS writes it (2026-01-02T03:04:05Z; with a fraction, and with
 * an offset instead of Z, too) as ms since the epoch.
 */
extern bool aws_parse_time(const char *text, int64 *ms);

#endif							/* AWS_SECRET_H */
