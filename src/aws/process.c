/*-------------------------------------------------------------------------
 *
 * process.c
 *	  A program that prints keys (credential_process).
 *
 * The program runs as the server's user, and whoever may write the file that
 * names it could run anything.  So it is started only if the plan has it, which
 * a setting has to allow.
 *
 * It gets nothing of this process but its environment and working directory:
 * no descriptors, default signals, an empty input.  What it prints to stderr
 * goes nowhere, because it could be a key.  It is in a process group of its
 * own, so that it can be ended together with what it has started; a server
 * that is stopped immediately leaves it behind, with a pipe that nobody reads.
 *
 * Nothing here waits for the program, except that the end of a killed one is
 * awaited for 20 ms; one that takes longer is collected later.
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "aws/descriptors.h"
#include "aws/process.h"

#define MAX_OUTPUT		((size_t) 64 * 1024)
#define REAP_TRIES		20		/* of a millisecond each */

extern char **environ;

struct AwsProcess
{
	pid_t		pid;
	int			fd;				/* what it prints; -1: closed */
	bool		ended;			/* and collected */
	int			status;			/* as waitpid() has it */
	bool		too_large;
	char	   *output;			/* MAX_OUTPUT + 1 bytes */
	size_t		len;
	AwsProcess *next;			/* among the dying */
};

/* Killed, but not collected when that was tried. */
static AwsProcess *dying;

/* ---- the command line ---- */

/*
 * The rules are those of Python's shlex.split(), which AWS's command line tool
 * and botocore use: blanks separate words; in single quotes everything is
 * literal; in double quotes a backslash protects itself and a quote; outside
 * of quotes it protects anything.
 */
char	  **
aws_split_command(const char *command, const char **why)
{
	size_t		len = strlen(command);
	size_t		max_words = len / 2 + 2;
	char	  **words = malloc(max_words * sizeof(char *) + len + 1);
	char	   *out;
	int			nwords = 0;
	bool		in_word = false;
	char		quote = '\0';

	if (words == NULL)
	{
		*why = "out of memory";
		return NULL;
	}
	out = (char *) (words + max_words);
	for (const char *p = command; *p != '\0'; p++)
	{
		if (quote == '\0' && strchr(" \t\r\n", *p) != NULL)
		{
			if (in_word)
				*out++ = '\0';
			in_word = false;
			continue;
		}
		if (!in_word)
			words[nwords++] = out;
		in_word = true;
		if (*p == quote)
			quote = '\0';
		else if (quote == '\0' && (*p == '\'' || *p == '"'))
			quote = *p;
		else if (*p == '\\' && quote != '\'')
		{
			if (p[1] == '\0')
			{
				*why = "it ends with a backslash";
				free(words);
				return NULL;
			}
			if (quote == '"' && p[1] != '"' && p[1] != '\\')
				*out++ = '\\';
			*out++ = *++p;
		}
		else
			*out++ = *p;
	}
	*out = '\0';
	words[nwords] = NULL;
	if (quote != '\0' || nwords == 0 || words[0][0] == '\0')
	{
		*why = quote != '\0' ? "a quote is not closed" : "it names no program";
		free(words);
		return NULL;
	}
	return words;
}

/* ---- its life ---- */

/* True if it has ended.  Without a child to wait for, it has, too. */
static bool
collect(AwsProcess *process)
{
	pid_t		pid;

	if (process->ended)
		return true;
	do
		pid = waitpid(process->pid, &process->status, WNOHANG);
	while (pid < 0 && errno == EINTR);
	process->ended = pid != 0;
	if (pid < 0)
		process->status = 0;
	return process->ended;
}

static void
collect_dying(void)
{
	AwsProcess **link = &dying;

	while (*link != NULL)
	{
		AwsProcess *process = *link;

		if (collect(process))
		{
			*link = process->next;
			free(process);
		}
		else
			link = &process->next;
	}
}

/*
 * Have the child close everything but its standard files.  Those of the server
 * are not all close-on-exec, in older versions.
 */
static bool
close_others(posix_spawn_file_actions_t *actions)
{
	DIR		   *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	bool		ok = dir != NULL;

	while (ok && (entry = readdir(dir)) != NULL)
	{
		int			fd = atoi(entry->d_name);

		if (fd > STDERR_FILENO && fd != dirfd(dir))
			ok = posix_spawn_file_actions_addclose(actions, fd) == 0;
	}
	if (dir != NULL)
		closedir(dir);
	return ok;
}

/* Returns an error of the operating system, or 0. */
static int
spawn(AwsProcess *process, char **words, int output)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t	all;
	sigset_t	none;
	int			rc;

	sigfillset(&all);
	sigemptyset(&none);
	if (posix_spawn_file_actions_init(&actions) != 0)
		return ENOMEM;
	if (posix_spawnattr_init(&attributes) != 0)
	{
		posix_spawn_file_actions_destroy(&actions);
		return ENOMEM;
	}
	if (posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO) != 0 ||
		posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0) != 0 ||
		posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0) != 0 ||
		!close_others(&actions) ||
		posix_spawnattr_setpgroup(&attributes, 0) != 0 ||
		posix_spawnattr_setsigdefault(&attributes, &all) != 0 ||
		posix_spawnattr_setsigmask(&attributes, &none) != 0 ||
		posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF |
								 POSIX_SPAWN_SETSIGMASK) != 0)
		rc = ENOMEM;
	else
		rc = posix_spawnp(&process->pid, words[0], &actions, &attributes, words, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return rc;
}

static void
close_pipe(AwsProcess *process)
{
	if (process->fd < 0)
		return;
	close(process->fd);
	aws_release_fds(1);
	process->fd = -1;
}

/* The arguments may hold secrets, so messages have the program's name only. */
AwsProcess *
aws_process_start(const char *command, AwsError *error)
{
	AwsProcess *process;
	const char *why;
	char	  **words = aws_split_command(command, &why);
	int			fds[2];
	int			rc;

	collect_dying();
	if (words == NULL)
	{
		aws_error_set(error, AWS_ERROR_CREDENTIALS, "InvalidProcess",
					  "the command cannot be used: %s", why);
		return NULL;
	}
	process = calloc(1, sizeof(AwsProcess));
	if (process != NULL)
		process->output = malloc(MAX_OUTPUT + 1);
	if (process == NULL || process->output == NULL)
	{
		free(process);
		free(words);
		aws_error_set(error, AWS_ERROR_RESOURCES, "NoResources", "out of memory");
		return NULL;
	}
	process->fd = -1;
	process->ended = true;		/* there is nothing to kill yet */

	/* both ends of the pipe, and the directory in close_others() */
	if (!aws_acquire_fds(3))
		rc = EMFILE;
	else
	{
		rc = pipe2(fds, O_CLOEXEC) < 0 ? errno : 0;
		if (rc == 0)
		{
			process->fd = fds[0];
			rc = fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0 ? errno : spawn(process, words, fds[1]);
			close(fds[1]);
			aws_release_fds(2);
		}
		else
			aws_release_fds(3);
	}
	if (rc != 0)
	{
		aws_error_set(error, rc == EMFILE || rc == ENFILE || rc == ENOMEM || rc == EAGAIN ?
					  AWS_ERROR_RESOURCES : AWS_ERROR_CREDENTIALS, "InvalidProcess",
					  "cannot run \"%s\": %s", words[0], strerror(rc));
		free(words);
		aws_process_free(process);
		return NULL;
	}
	process->ended = false;
	free(words);
	return process;
}

bool
aws_process_done(AwsProcess *process)
{
	bool		ended = collect(process);

	/* what it has printed before it ended is in the pipe by now */
	while (process->fd >= 0 && !process->too_large)
	{
		ssize_t		n = read(process->fd, process->output + process->len,
							 MAX_OUTPUT + 1 - process->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;				/* somebody else may still have the pipe */
		if (n == 0)
			close_pipe(process);
		process->len += n;
		process->too_large = process->len > MAX_OUTPUT;
	}
	return ended || process->too_large;
}

bool
aws_process_result(AwsProcess *process, AwsKeyReply *reply, AwsError *error)
{
	if (process->too_large)
		aws_error_set(error, AWS_ERROR_CREDENTIALS, "InvalidReply",
					  "the program printed more than %d bytes", (int) MAX_OUTPUT);
	else if (WIFSIGNALED(process->status))
		aws_error_set(error, AWS_ERROR_CREDENTIALS, "ProcessFailed",
					  "the program was ended by signal %d", WTERMSIG(process->status));
	else if (WEXITSTATUS(process->status) != 0)
		aws_error_set(error, AWS_ERROR_CREDENTIALS, "ProcessFailed",
					  "the program ended with status %d", WEXITSTATUS(process->status));
	else if (process->len == 0)
		aws_error_set(error, AWS_ERROR_CREDENTIALS, "InvalidReply",
					  "the program printed nothing");
	else if (!aws_key_reply_parse(process->output, process->len, NULL, reply))
		aws_error_set(error, AWS_ERROR_CREDENTIALS, "InvalidReply",
					  "what the program printed is not a JSON object");
	else if (reply->version == NULL || strcmp(reply->version, "1") != 0)
		aws_error_set(error, AWS_ERROR_CREDENTIALS, "InvalidReply",
					  "what the program printed does not have Version 1");
	else
		return true;
	return false;
}

void
aws_process_free(AwsProcess *process)
{
	struct timespec pause = {0, 1000000};

	if (process == NULL)
		return;
	explicit_bzero(process->output, MAX_OUTPUT + 1);
	free(process->output);
	process->output = NULL;
	close_pipe(process);
	if (!collect(process))
	{
		kill(-process->pid, SIGKILL);
		for (int i = 0; i < REAP_TRIES && !collect(process); i++)
			nanosleep(&pause, NULL);
	}
	if (process->ended)
		free(process);
	else
	{
		process->next = dying;
		dying = process;
	}
}
