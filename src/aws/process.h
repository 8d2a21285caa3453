/*-------------------------------------------------------------------------
 *
 * process.h
 *	  A program that prints keys (credential_process).
 *
 *-------------------------------------------------------------------------
 */
#ifndef AWS_PROCESS_H
#define AWS_PROCESS_H

#include "aws/aws_error.h"
#include "aws/key_reply.h"

typedef struct AwsProcess AwsProcess;

/*
 * Start the program of a command line, which is split as a shell would, but no
 * shell is involved.  NULL with *error set.
 */
extern AwsProcess *aws_process_start(const char *command, AwsError *error);

/*
 * Read what there is, without waiting.  True when the program has ended or was
 * found to misbehave.
 */
extern bool aws_process_done(AwsProcess *process);

/*
 * What it printed, of a process that is done.  The reply points into the
 * process.  False with *error set.
 */
extern bool aws_process_result(AwsProcess *process, AwsKeyReply *reply,
							   AwsError *error);

/* Kill it and what it has started, if need be; wipe.  NULL is allowed. */
extern void aws_process_free(AwsProcess *process);

/*
 * Split a command line into an array that ends with NULL, in one piece of memory
 * to be freed.  NULL if a quote is not closed, there is no word, or memory ran
 * out; *why says which.
 */
extern char **aws_split_command(const char *command, const char **why);

#endif							/* AWS_PROCESS_H */
