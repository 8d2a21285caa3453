/*
 * full_disk.c
 *	  To be preloaded into a PostgreSQL server: lets its disk be full.
 *
 * $FULL_DISK is the beginning of the names of three files.  While there is
 *
 *	NAME-wal		no write to WAL succeeds
 *	NAME-once		the next write to WAL fails, and removes the file
 *	NAME-data		no table or index grows
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* Does the flag exist?  "take" removes it: of several callers one sees it. */
static int
flag(const char *suffix, int take)
{
	const char *prefix = getenv("FULL_DISK");
	char		path[4096];

	if (prefix == NULL)
		return 0;
	snprintf(path, sizeof(path), "%s-%s", prefix, suffix);
	return (take ? unlink(path) : access(path, F_OK)) == 0;
}

static int
is_full(int fd, off_t offset)
{
	int			save_errno = errno;
	char		link[64];
	char		path[4096];
	ssize_t		len;
	struct stat st;
	int			full = 0;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len > 0)
	{
		path[len] = '\0';
		if (strstr(path, "/pg_wal/") != NULL)
			full = flag("wal", 0) || flag("once", 1);
		else if (strstr(path, "/base/") != NULL)
			full = flag("data", 0) && fstat(fd, &st) == 0 && offset >= st.st_size;
	}
	errno = full ? ENOSPC : save_errno;
	return full;
}

/* Where the C library has a name of its own for large files, both are used. */
#define WRITE(name, type) \
ssize_t name(int fd, type data, size_t n, off_t offset); \
ssize_t \
name(int fd, type data, size_t n, off_t offset) \
{ \
	static ssize_t (*next) (int, type, size_t, off_t) = NULL; \
	if (next == NULL) \
		next = dlsym(RTLD_NEXT, #name); \
	return is_full(fd, offset) ? -1 : next(fd, data, n, offset); \
}

#define WRITEV(name) \
ssize_t name(int fd, const struct iovec *data, int n, off_t offset); \
ssize_t \
name(int fd, const struct iovec *data, int n, off_t offset) \
{ \
	static ssize_t (*next) (int, const struct iovec *, int, off_t) = NULL; \
	if (next == NULL) \
		next = dlsym(RTLD_NEXT, #name); \
	return is_full(fd, offset) ? -1 : next(fd, data, n, offset); \
}

#define FALLOCATE(name) \
int name(int fd, off_t offset, off_t len); \
int \
name(int fd, off_t offset, off_t len) \
{ \
	static int (*next) (int, off_t, off_t) = NULL; \
	if (next == NULL) \
		next = dlsym(RTLD_NEXT, #name); \
	return is_full(fd, offset) ? ENOSPC : next(fd, offset, len); \
}

WRITE(pwrite, const void *)
WRITE(pwrite64, const void *)
WRITEV(pwritev)
WRITEV(pwritev64)
FALLOCATE(posix_fallocate)
FALLOCATE(posix_fallocate64)
