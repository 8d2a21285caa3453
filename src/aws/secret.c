/*-------------------------------------------------------------------------
 *
 * secret.c
 *	  Memory that held secrets, files that hold them, and when they expire.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "aws/descriptors.h"
#include "aws/secret.h"

void
aws_secret_free(char *secret)
{
	if (secret == NULL)
		return;
	explicit_bzero(secret, strlen(secret));
	free(secret);
}

/* The file may grow while it is read, so it is the reading that is limited. */
static bool
read_all(int fd, size_t max, char *data, size_t *len, const char **why)
{
	*len = 0;
	for (;;)
	{
		ssize_t		n = read(fd, data + *len, max + 1 - *len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
		{
			*why = strerror(errno);
			return false;
		}
		*len += n;
		if (*len > max)
		{
			errno = 0;
			*why = "the file is too large";
			return false;
		}
		if (n == 0)
		{
			data[*len] = '\0';
			return true;
		}
	}
}

bool
aws_secret_read_file(const char *path, size_t max, char **data, size_t *len,
					 const char **why)
{
	struct stat st;
	int			fd;
	bool		ok = false;

	*data = NULL;
	*len = 0;
	if (!aws_acquire_fds(1))
	{
		errno = EMFILE;
		*why = "this process has no file descriptor left";
		return false;
	}
	/* neither wait for the writer of a FIFO nor take over a terminal */
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		*why = strerror(errno);
	else if (fstat(fd, &st) < 0)
		*why = strerror(errno);
	else if (!S_ISREG(st.st_mode))
	{
		errno = 0;
		*why = "it is not a regular file";
	}
	else if ((*data = malloc(max + 1)) == NULL)
	{
		errno = ENOMEM;
		*why = "out of memory";
	}
	else
		ok = read_all(fd, max, *data, len, why);

	if (!ok && *data != NULL)
	{
		explicit_bzero(*data, max + 1);
		free(*data);
		*data = NULL;
	}
	if (fd >= 0)
	{
		int			saved = errno;

		close(fd);
		errno = saved;
	}
	aws_release_fds(1);
	return ok;
}

/* So many digits; -1 if they are not. */
static int
digits(const char **p, int n)
{
	int			value = 0;

	for (int i = 0; i < n; i++, (*p)++)
	{
		if (**p < '0' || **p > '9')
			return -1;
		value = value * 10 + (**p - '0');
	}
	return value;
}

/* Days since 1970-01-01 in the Gregorian calendar. */
static int64
days(int year, int month, int day)
{
	static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
	int			leap_years = year - (month <= 2 ? 1 : 0);

	return (int64) 365 * (year - 1970) + (leap_years / 4 - leap_years / 100 + leap_years / 400) -
		(1969 / 4 - 1969 / 100 + 1969 / 400) + before[month - 1] + day - 1;
}

bool
aws_parse_time(const char *text, int64 *ms)
{
	static const char form[] = "-- ::";
	static const int ndigits[] = {4, 2, 2, 2, 2, 2};
	const char *p = text;
	int			part[6];
	int			fraction = 0;
	int			offset = 0;

	for (int i = 0; i < 6; i++)
	{
		part[i] = digits(&p, ndigits[i]);
		if (part[i] < 0)
			return false;
		if (i < 5 && (i == 2 ? *p != 'T' && *p != 't' && *p != ' ' : *p != form[i]))
			return false;
		if (i < 5)
			p++;
	}
	if (part[0] < 1970 || part[1] < 1 || part[1] > 12 || part[2] < 1 || part[2] > 31 ||
		part[3] > 23 || part[4] > 59 || part[5] > 60)
		return false;

	if (*p == '.')
	{
		int			scale = 100;

		p++;
		if (*p < '0' || *p > '9')
			return false;
		for (; *p >= '0' && *p <= '9'; p++, scale /= 10)
			fraction += (*p - '0') * scale;
	}

	if (*p == 'Z' || *p == 'z')
		p++;
	else if (*p == '+' || *p == '-')
	{
		int			sign = *p++ == '-' ? -1 : 1;
		int			hours = digits(&p, 2);
		int			minutes;

		if (*p == ':')
			p++;
		minutes = digits(&p, 2);
		if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
			return false;
		offset = sign * (hours * 60 + minutes);
	}
	else
		return false;			/* a time of which zone? */
	if (*p != '\0')
		return false;

	*ms = ((days(part[0], part[1], part[2]) * 24 + part[3]) * 60 + part[4] - offset) * 60000 +
		part[5] * 1000 + fraction;
	return true;
}
