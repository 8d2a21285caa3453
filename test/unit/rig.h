/*-------------------------------------------------------------------------
 *
 * rig.h
 *	  What the tests of the client have in common: servers, admin calls, waiting.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RIG_H
#define RIG_H

#include "aws/sqs_client.h"

#define KEY		"AKIDEXAMPLE"
#define SECRET	"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define MB		(1024 * 1024)

#define SLICE(s) ((SqsSlice) {(s), sizeof(s) - 1})

/* A scratch directory, from rig_begin() to rig_end() */
extern char directory[64];

extern bool rig_begin(void);
extern void rig_end(void);

/* ---- servers ---- */

/* test/sqsd, with a standard queue and, without TLS, a FIFO queue */
typedef struct Server
{
	pid_t		pid;
	int			port;
	char		url[64];
	char		queue[96];
} Server;

extern bool start_server(Server *server, const char *cert, const char *key);
extern void stop_server(Server *server);
extern int	connect_to(int port);
extern int	listen_somewhere(int *port);
extern void serve(int listener, int *fd, const char *answer);

/* ---- its admin calls ---- */

extern int	admin(const Server *server, const char *method, const char *path,
				  const char *body);	/* returns the status */
extern void fault(const Server *server, const char *rule);
extern int	count(const Server *server, const char *queue, const char *name);
extern void renew(const Server *server, int n);

/* ---- clients ---- */

typedef struct Wait
{
	int			completions;
	SqsCall    *call;
} Wait;

extern SqsClient *new_client_of(HttpPool *pool, const char *endpoint,
								AwsCredentialsProvider *credentials, const char *ca_file);
extern SqsClient *new_client(const char *endpoint, AwsCredentialsProvider *credentials,
							 const char *ca_file);
extern int64 now_ms(void);

/* completion functions; arg is a Wait, an int to increment, and an HttpReply */
extern void done(SqsCall *call, void *arg);
extern void free_when_done(SqsCall *call, void *arg);
extern void keep_reply(HttpReply *reply, void *arg);

extern bool run(SqsClient *client, Wait *wait, int completions);
extern SqsCall *receive(SqsClient *client, const char *queue, int max, int wait_seconds,
						long deadline);
extern void receive_ends(SqsClient *client, const char *queue, long deadline,
						 AwsErrorClass class, const char *code, const char *what);
extern SqsCall *send_messages(SqsClient *client, const char *queue, int n,
							  const SqsOutgoing *const *messages, long deadline,
							  int max_attempts);

/* test_connections.c; over TLS if there is a certificate */
extern void test_kept_connections(const Server *server, AwsCredentialsProvider *good,
								  const char *cert);

#endif							/* RIG_H */
