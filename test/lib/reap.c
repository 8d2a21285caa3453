/*
 * reap.c
 *	  reap COMMAND...: run it, and be the parent of all that it leaves behind.
 *
 * Orphans go to process 1, which in a container may be one that never waits
 * for them: a killed server stays a zombie then, and the next one does not
 * start, because the process that its lock file names exists.  This one waits
 * for all of them, until the command ends.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile pid_t command;

static void
pass_on(int signo)
{
	int			saved_errno = errno;

	if (command > 0)
		kill(command, signo);
	errno = saved_errno;
}

int
main(int argc, char **argv)
{
	struct sigaction action;
	sigset_t	signals;
	sigset_t	before;
	int			status;
	pid_t		pid;

	if (argc < 2)
		return 2;
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
		perror("reap: prctl");

	/* no signal may come before it is known whom it is for */
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, &before);
	command = fork();
	if (command < 0)
	{
		perror("reap: fork");
		return 1;
	}
	if (command == 0)
	{
		sigprocmask(SIG_SETMASK, &before, NULL);
		execvp(argv[1], argv + 1);
		fprintf(stderr, "reap: %s: %s\n", argv[1], strerror(errno));
		_exit(127);
	}
	memset(&action, 0, sizeof(action));
	action.sa_handler = pass_on;
	sigemptyset(&action.sa_mask);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	/* the terminal sends these to the command, too */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	sigprocmask(SIG_SETMASK, &before, NULL);

	while ((pid = wait(&status)) != command)
	{
		if (pid < 0 && errno != EINTR)
			return 1;
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
