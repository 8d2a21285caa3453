/*
 * shifted_clock.c
 *	  To be preloaded into servers: shifts the time of day for all of them.
 *
 * The file $SHIFTED_CLOCK has the seconds to add, as an integer of 64 bits.  It
 * is mapped, so that a change counts everywhere at once.  Clocks that count from
 * somewhere else, such as CLOCK_MONOTONIC, are not shifted: what waits for a
 * number of seconds waits for as long as ever.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift;

static void open_file(void) __attribute__((constructor));

static void
open_file(void)
{
	const char *path = getenv("SHIFTED_CLOCK");
	int			fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void	   *map;

	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
	if (map != MAP_FAILED)
		shift = map;
	close(fd);
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
	static int	(*next) (clockid_t, struct timespec *) = NULL;
	int			result;

	if (next == NULL)
		next = dlsym(RTLD_NEXT, "clock_gettime");
	result = next(clock, now);
	if (result == 0 && shift != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		now->tv_sec += *shift;
	return result;
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec ts;

	(void) zone;
	if (clock_gettime(CLOCK_REALTIME, &ts) != 0)
		return -1;
	now->tv_sec = ts.tv_sec;
	now->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *when)
{
	struct timespec ts;

	(void) clock_gettime(CLOCK_REALTIME, &ts);
	if (when != NULL)
		*when = ts.tv_sec;
	return ts.tv_sec;
}
