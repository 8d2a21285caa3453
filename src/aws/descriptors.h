/*-------------------------------------------------------------------------
 *
 * descriptors.h
 *	  How many file descriptors the process may open.
 *
 * The number of descriptors is the process's to manage.  Whatever opens one in
 * this layer, libcurl included, acquires it before and releases it when it is
 * closed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_DESCRIPTORS_H
#define AWS_DESCRIPTORS_H

/*
 * How the process counts its descriptors.  acquire is called before each one
 * is opened, and may refuse it; release is called when one is closed.  Both
 * are called from inside libcurl and must not raise errors.
 */
typedef struct AwsFdHooks
{
	bool		(*acquire) (void);
	void		(*release) (void);
} AwsFdHooks;

/* To be called before the first descriptor; otherwise nothing is counted. */
extern void aws_set_fd_hooks(const AwsFdHooks *hooks);

/* All of them or none. */
extern bool aws_acquire_fds(int n);
extern void aws_release_fds(int n);

#endif							/* AWS_DESCRIPTORS_H */
