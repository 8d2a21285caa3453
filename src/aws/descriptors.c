/*-------------------------------------------------------------------------
 *
 * descriptors.c
 *	  How many file descriptors the process may open.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "aws/descriptors.h"

static AwsFdHooks fd_hooks;

void
aws_set_fd_hooks(const AwsFdHooks *hooks)
{
	fd_hooks = *hooks;
}

void
aws_release_fds(int n)
{
	for (int i = 0; i < n && fd_hooks.release != NULL; i++)
		fd_hooks.release();
}

bool
aws_acquire_fds(int n)
{
	for (int i = 0; i < n && fd_hooks.acquire != NULL; i++)
	{
		if (!fd_hooks.acquire())
		{
			aws_release_fds(i);
			return false;
		}
	}
	return true;
}
