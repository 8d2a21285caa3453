/*-------------------------------------------------------------------------
 *
 * test_fetch.c
 *	  Fetching keys: what is asked, of whom, and what is made of the answers.
 *
 * The servers that are asked are played here, by a few lines in the same loop:
 * each test is a list of requests that must come, in this order, and of what is
 * answered.  So a test sees each request as it was sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres_fe.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "aws/descriptors.h"
#include "aws/fetch.h"
#include "tap.h"

#define ID		"ASIAEXAMPLEKEY000001"
#define SECRET	"secretsecretsecretsecretsecretsecret0001"
#define TOKEN	"tokentokentokentokentoken0001=="
#define ID2		"ASIAEXAMPLEKEY000002"
#define SECRET2	"SECRETSECRETSECRETSECRETSECRETSECRET0002"
#define TOKEN2	"TOKENTOKENTOKENTOKENTOKEN0002=="
#define ROLE	"arn:aws:iam::123456789012:role/bridge"

/* ---- the servers ---- */

typedef enum Manner
{
	ANSWER,
	HANG,						/* never answer */
	CLOSE,						/* the connection instead */
	TRUNCATE,					/* half of the body, and close */
	ENDLESS,					/* blanks as long as they are taken */
	SLOW						/* a byte now and then */
} Manner;

/* A request that must come, "METHOD path", and the answer to it. */
typedef struct Scene
{
	const char *request;
	int			status;
	const char *body;
	Manner		manner;
	const char *header;			/* an additional one */
} Scene;

#define MAX_SCENES	12
#define MAX_CONNS	24

typedef struct Conn
{
	int			fd;				/* -1: free */
	char		in[16384];
	int			len;
	bool		endless;
	bool		slow;
} Conn;

static int	listener = -1;
static int	port;
static char base[64];			/* "http://127.0.0.1:port" */
static Conn conns[MAX_CONNS];
static const Scene *scenes;
static int	nscenes;
static int	nrequests;
static char requests[MAX_SCENES][16384];	/* as they came */
static char directory[64];

static int64
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void
start_listening(void)
{
	struct sockaddr_in address;
	socklen_t	len = sizeof(address);

	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (bind(listener, (struct sockaddr *) &address, len) != 0 || listen(listener, 20) != 0 ||
		getsockname(listener, (struct sockaddr *) &address, &len) != 0)
	{
		printf("Bail out! cannot listen\n");
		exit(2);
	}
	port = ntohs(address.sin_port);
	snprintf(base, sizeof(base), "http://127.0.0.1:%d", port);
	for (int i = 0; i < MAX_CONNS; i++)
		conns[i].fd = -1;
}

static void
close_conn(Conn *conn)
{
	if (conn->fd >= 0)
		close(conn->fd);
	memset(conn, 0, sizeof(*conn));
	conn->fd = -1;
}

static void
answer(Conn *conn)
{
	const Scene *scene = nrequests < nscenes ? &scenes[nrequests] : NULL;
	char		head[512];
	char		date[64];
	time_t		now = time(NULL);
	size_t		len;

	if (nrequests < MAX_SCENES)
		strlcpy(requests[nrequests], conn->in, sizeof(requests[0]));
	nrequests++;
	conn->len = 0;
	if (scene == NULL || strncmp(conn->in, scene->request, strlen(scene->request)) != 0 ||
		conn->in[strlen(scene->request)] != ' ')
	{
		conn->in[strcspn(conn->in, "\r")] = '\0';
		printf("# request %d, \"%s\", should be \"%s\"\n", nrequests, conn->in,
			   scene != NULL ? scene->request : "none");
		nrequests += 1000;		/* no test expects that many */
		close_conn(conn);
		return;
	}
	if (scene->manner == HANG)
		return;
	if (scene->manner == CLOSE)
	{
		close_conn(conn);
		return;
	}
	len = scene->body != NULL ? strlen(scene->body) : 0;
	strftime(date, sizeof(date), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", gmtime(&now));
	len = snprintf(head, sizeof(head), "HTTP/1.1 %d X\r\n%s%sContent-Length: %zu\r\n\r\n",
				   scene->status,
				   scene->header != NULL && strncmp(scene->header, "Date", 4) == 0 ? "" : date,
				   scene->header != NULL ? scene->header : "",
				   scene->manner == ENDLESS ? (size_t) 64 * 1024 * 1024 :
				   scene->manner == SLOW ? (size_t) 1000 : len);
	(void) !write(conn->fd, head, len);
	if (scene->body != NULL && scene->manner != SLOW)
		(void) !write(conn->fd, scene->body, strlen(scene->body) / (scene->manner == TRUNCATE ? 2 : 1));
	conn->endless = scene->manner == ENDLESS;
	conn->slow = scene->manner == SLOW;
	if (scene->manner == TRUNCATE)
		close_conn(conn);
}

/* Is there a whole request? */
static bool
is_whole(const Conn *conn)
{
	const char *end = strstr(conn->in, "\r\n\r\n");
	const char *length = strcasestr(conn->in, "\r\nContent-Length:");

	if (end == NULL)
		return false;
	if (length == NULL || length > end)
		return true;
	return conn->in + conn->len - (end + 4) >= atoi(length + 17);
}

static void
serve(void)
{
	static char blanks[4096];
	int			fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
	{
		Conn	   *conn = conns;

		while (conn->fd >= 0)
			if (++conn == conns + MAX_CONNS)
				abort();
		conn->fd = fd;
	}
	memset(blanks, ' ', sizeof(blanks));
	for (Conn *conn = conns; conn < conns + MAX_CONNS; conn++)
	{
		ssize_t		n;

		if (conn->fd < 0)
			continue;
		if (conn->endless)
			(void) !send(conn->fd, blanks, sizeof(blanks), MSG_NOSIGNAL);
		if (conn->slow)
			(void) !send(conn->fd, blanks, 1, MSG_NOSIGNAL);
		n = read(conn->fd, conn->in + conn->len, sizeof(conn->in) - 1 - conn->len);
		if (n == 0 || (n < 0 && errno != EAGAIN))
		{
			close_conn(conn);
			continue;
		}
		if (n < 0)
			continue;
		conn->len += n;
		conn->in[conn->len] = '\0';
		if (is_whole(conn))
			answer(conn);
	}
}

/* ---- a fetch ---- */

static HttpPool *pool;

static void
expect(const Scene *expected, int n)
{
	scenes = expected;
	nscenes = n;
	nrequests = 0;
	memset(requests, 0, sizeof(requests));
}

#define EXPECT(list) expect(list, lengthof(list))

/* A plan with this base source; the caller sets what it needs. */
static AwsIdentity *
plan(AwsSourceKind kind)
{
	AwsIdentity *identity = calloc(1, sizeof(AwsIdentity));

	identity->kind = kind;
	identity->source = strdup("the test");
	identity->region = strdup("eu-west-1");
	identity->sts_endpoint = strdup(base);
	if (kind == AWS_SOURCE_INSTANCE_METADATA)
		identity->metadata_url = strdup(base);
	return identity;
}

static void
add_role(AwsIdentity *identity, const char *arn, const char *external_id, int duration)
{
	AwsAssumeRole *role = &identity->roles[identity->nroles++];

	role->role_arn = strdup(arn);
	role->external_id = external_id != NULL ? strdup(external_id) : NULL;
	role->session_name = strdup("sess");
	role->duration_seconds = duration;
	role->where = strdup("the test");
}

/* The plan of a container, at a path of our server. */
static AwsIdentity *
container(const char *token, const char *token_file)
{
	AwsIdentity *identity = plan(AWS_SOURCE_CONTAINER);
	char		url[128];

	snprintf(url, sizeof(url), "%s/v2/credentials/0123", base);
	identity->container_url = strdup(url);
	identity->container_token = token != NULL ? strdup(token) : NULL;
	identity->container_token_file = token_file != NULL ? strdup(token_file) : NULL;
	return identity;
}

static AwsError error;
static AwsFetchedKeys keys;
static AwsCaller caller;
static int64 took;				/* ms */
static long patience = 10000;	/* ms, for what is to fail */

/* Wait as an owner does, and serve meanwhile. */
static void
loop(AwsFetch *fetch)
{
	int64		start = now_ms();

	while (!aws_fetch_done(fetch))
	{
		struct pollfd fds[2 + MAX_CONNS];
		int			n = 2;
		long		timeout = http_pool_timeout(pool);
		long		next = aws_fetch_next(fetch);

		if (timeout < 0 || (next >= 0 && next < timeout))
			timeout = next;
		if (timeout < 0 || timeout > 200)
			timeout = 200;
		fds[0] = (struct pollfd) {http_pool_fd(pool), POLLIN, 0};
		fds[1] = (struct pollfd) {listener, POLLIN, 0};
		for (int i = 0; i < MAX_CONNS; i++)
		{
			if (conns[i].endless)
				timeout = 0;
			if (conns[i].fd >= 0)
				fds[n++] = (struct pollfd) {conns[i].fd, POLLIN, 0};
		}
		poll(fds, n, (int) timeout);
		serve();
		http_pool_poll(pool);
		aws_fetch_go_on(fetch);
		if (now_ms() > start + 30000)
		{
			printf("Bail out! a fetch does not end\n");
			exit(2);
		}
	}
	took = now_ms() - start;
}

/* Run the plan, which is freed; true if there are keys. */
static bool
fetch_for(AwsIdentity *identity, long deadline)
{
	AwsFetch   *fetch = aws_fetch_start(pool, identity, deadline, &error);
	bool		result;

	aws_identity_free(identity);
	aws_fetched_keys_wipe(&keys);
	memset(&error, 0, sizeof(error));
	loop(fetch);
	result = aws_fetch_result(fetch, &keys, &error);
	aws_fetch_cancel(fetch);
	if (!result)
		printf("# %s %s: %s\n", aws_error_class_name(error.class), error.code, error.message);
	return result;
}

/* It must fail so, after the scenes that were expected; text: in the message. */
static void
fails(AwsIdentity *identity, AwsErrorClass class, const char *code, const char *text,
	  const char *what)
{
	ok(!fetch_for(identity, patience), "%s: fails", what);
	is(aws_error_class_name(error.class), aws_error_class_name(class), "%s: class", what);
	is(error.code, code, "%s: code", what);
	ok(strstr(error.message, text) != NULL, "%s: \"%s\" in the message", what, text);
	ok(strstr(error.message, SECRET) == NULL && strstr(error.message, TOKEN) == NULL &&
	   strstr(error.message, SECRET2) == NULL && strstr(error.message, TOKEN2) == NULL,
	   "%s: no secret", what);
	is_int(nrequests, nscenes, "%s: requests", what);
}

static void
has_keys(const char *id, const char *secret, const char *token, int64 expires, const char *what)
{
	is(keys.access_key_id, id, "%s: key id", what);
	is(keys.secret_access_key, secret, "%s: secret", what);
	is(keys.session_token, token, "%s: token", what);
	is_int(keys.expires, expires, "%s: expiry", what);
	is_int(nrequests, nscenes, "%s: requests", what);
}

/* A file in the test's directory; returns its path. */
static const char *
file(const char *name, const char *text)
{
	static char path[128];
	FILE	   *f;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	f = fopen(path, "w");
	fputs(text, f);
	fclose(f);
	return path;
}

/* ---- instance metadata ---- */

#define EXPIRES		"2066-11-22T06:00:00Z"
#define EXPIRES_MS	INT64CONST(3057631200000)
#define EXPIRED		"2016-11-22T06:00:00Z"
#define IMDS_KEYS	"{\"Code\":\"Success\",\"LastUpdated\":\"2026-11-22T00:00:00Z\",\"Type\":\"AWS-HMAC\"," \
	"\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"" SECRET "\",\"Token\":\"" TOKEN "\"," \
	"\"Expiration\":\"" EXPIRES "\"}"
#define PUT_TOKEN	"PUT /latest/api/token"
#define GET_ROLES	"GET /latest/meta-data/iam/security-credentials/"
#define GET_REGION	"GET /latest/meta-data/placement/region"

static void
metadata_works(void)
{
	static const Scene all[] = {
		{PUT_TOKEN, 200, "imdstoken1"},
		{GET_ROLES, 200, "my-role\nother"},
		{GET_ROLES "my-role", 200, IMDS_KEYS},
	};
	static const Scene with_region[] = {
		{PUT_TOKEN, 200, "imdstoken1"},
		{GET_REGION, 200, "eu-central-1"},
		{GET_ROLES, 200, "my-role"},
		{GET_ROLES "my-role", 200, IMDS_KEYS},
	};
	static const Scene old_token[] = {
		{PUT_TOKEN, 200, "imdstoken1"},
		{GET_ROLES, 200, "my-role"},
		{GET_ROLES "my-role", 401, ""},
		{PUT_TOKEN, 200, "imdstoken2"},
		{GET_ROLES "my-role", 200, IMDS_KEYS},
	};
	static const Scene expired[] = {
		{PUT_TOKEN, 200, "imdstoken1"},
		{GET_ROLES, 200, "my-role"},
		{GET_ROLES "my-role", 200, "{\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"" SECRET "\","
		"\"Token\":\"" TOKEN "\",\"Expiration\":\"" EXPIRED "\"}"},
	};
	static const Scene shaky[] = {
		{PUT_TOKEN, 503, ""},
		{PUT_TOKEN, 200, NULL, CLOSE},
		{PUT_TOKEN, 200, "imdstoken1"},
		{GET_ROLES, 200, "my-role", TRUNCATE},
		{GET_ROLES, 200, "my-role"},
		{GET_ROLES "my-role", 200, "{\"Code\":\"Success\"}"},
		{GET_ROLES "my-role", 200, IMDS_KEYS},
	};
	AwsIdentity *identity;

	EXPECT(all);
	ok(fetch_for(plan(AWS_SOURCE_INSTANCE_METADATA), 10000), "instance metadata");
	has_keys(ID, SECRET, TOKEN, EXPIRES_MS, "instance metadata");
	is(keys.region, NULL, "no region was asked for");
	is_int(keys.skew_ms, 0, "the clocks agree");
	ok(strstr(requests[0], "\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600\r\n") != NULL &&
	   strstr(requests[0], "\r\nContent-Length: 0\r\n") != NULL, "the token's time is said");
	ok(strstr(requests[0], "Content-Type") == NULL && strstr(requests[0], "Expect") == NULL,
	   "and nothing needless");
	ok(strstr(requests[1], "\r\nX-aws-ec2-metadata-token: imdstoken1\r\n") != NULL &&
	   strstr(requests[2], "\r\nX-aws-ec2-metadata-token: imdstoken1\r\n") != NULL,
	   "the token is shown");

	EXPECT(with_region);
	identity = plan(AWS_SOURCE_INSTANCE_METADATA);
	free(identity->region);
	identity->region = NULL;
	ok(fetch_for(identity, 10000), "with the region");
	has_keys(ID, SECRET, TOKEN, EXPIRES_MS, "with the region");
	is(keys.region, "eu-central-1", "the region");

	/* of another source, whose keys are there */
	expect(with_region, 2);
	identity = plan(AWS_SOURCE_ENVIRONMENT);
	free(identity->region);
	identity->region = NULL;
	identity->metadata_url = strdup(base);
	identity->access_key_id = strdup(ID2);
	identity->secret_access_key = strdup(SECRET2);
	ok(fetch_for(identity, 10000), "the region only");
	has_keys(ID2, SECRET2, NULL, 0, "the region only");
	is(keys.region, "eu-central-1", "the region only: it is told");

	EXPECT(old_token);
	ok(fetch_for(plan(AWS_SOURCE_INSTANCE_METADATA), 10000), "the token is renewed");
	has_keys(ID, SECRET, TOKEN, EXPIRES_MS, "the token is renewed");
	ok(strstr(requests[4], "\r\nX-aws-ec2-metadata-token: imdstoken2\r\n") != NULL, "and used");

	EXPECT(expired);
	ok(fetch_for(plan(AWS_SOURCE_INSTANCE_METADATA), 10000), "keys whose time is over");
	has_keys(ID, SECRET, TOKEN, INT64CONST(1479794400000), "keys whose time is over");

	EXPECT(shaky);
	ok(fetch_for(plan(AWS_SOURCE_INSTANCE_METADATA), 10000), "what fails is tried again");
	has_keys(ID, SECRET, TOKEN, EXPIRES_MS, "what fails is tried again");
}

static void
metadata_fails(void)
{
	static const Scene hang[] = {
		{PUT_TOKEN, 200, NULL, HANG}, {PUT_TOKEN, 200, NULL, HANG}, {PUT_TOKEN, 200, NULL, HANG},
	};
	static const Scene forbidden[] = {{PUT_TOKEN, 403, ""}};
	static const Scene v1[] = {{PUT_TOKEN, 404, "<html>"}};
	static const Scene no_role[] = {{PUT_TOKEN, 200, "t"}, {GET_ROLES, 404, "<html>"}};
	static const Scene empty_role[] = {{PUT_TOKEN, 200, "t"}, {GET_ROLES, 200, "\n"}};
	static const Scene evil_role[] = {
		{PUT_TOKEN, 200, "t"},
		{GET_ROLES, 200, "../../x"}, {GET_ROLES, 200, "a b"}, {GET_ROLES, 200, "x\ty"},
	};
	static const Scene evil_token[] = {
		{PUT_TOKEN, 200, "a b"}, {PUT_TOKEN, 200, ""}, {PUT_TOKEN, 200, "a\001"},
	};
	static const Scene object[] = {
		{PUT_TOKEN, 200, "t"}, {GET_ROLES, 200, "r"},
		{GET_ROLES "r", 200, "{\"Code\":\"AssumeRoleUnauthorizedAccess\",\"Message\":\"EC2 cannot assume the role\"}"},
	};
	static const Scene refused[] = {
		{PUT_TOKEN, 200, "t"}, {GET_ROLES, 401, ""}, {PUT_TOKEN, 200, "t"}, {GET_ROLES, 401, ""},
	};
	static const Scene garbage[] = {
		{PUT_TOKEN, 200, "t"}, {GET_ROLES, 200, "r"},
		{GET_ROLES "r", 200, "<html>garbage</html>"}, {GET_ROLES "r", 200, "{\"Code\":\"Suc"},
		{GET_ROLES "r", 200, "{\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"" SECRET "\"}"},
	};
	static const Scene endless[] = {
		{PUT_TOKEN, 200, "t"}, {GET_ROLES, 200, "r"}, {GET_ROLES "r", 200, "{", ENDLESS},
	};
	static const Scene slow[] = {{PUT_TOKEN, 200, "t", SLOW}};
	AwsIdentity *identity;

	EXPECT(hang);
	fails(plan(AWS_SOURCE_INSTANCE_METADATA), AWS_ERROR_TIMEOUT, "Curl28", "hop limit",
		  "a silent metadata service");
	ok(strncmp(error.message, "instance metadata at http://127.0.0.1:", 38) == 0, "it is named");
	ok(took < 20000, "in time");
	EXPECT(forbidden);
	fails(plan(AWS_SOURCE_INSTANCE_METADATA), AWS_ERROR_CREDENTIALS, "Http403", "switched off",
		  "forbidden");
	EXPECT(v1);
	fails(plan(AWS_SOURCE_INSTANCE_METADATA), AWS_ERROR_CREDENTIALS, "Http404", "version 2",
		  "there is no way back to version 1");
	EXPECT(no_role);
	fails(plan(AWS_SOURCE_INSTANCE_METADATA), AWS_ERROR_CREDENTIALS, "NoInstanceRole", "no IAM role",
		  "no role");
	EXPECT(no_role);
	identity = plan(AWS_SOURCE_INSTANCE_METADATA);
	identity->is_last_resort = true;
	fails(identity, AWS_ERROR_CREDENTIALS, "NoInstanceRole",
		  "(nothing else is configured: the environment has no AWS_ACCESS_KEY_ID, AWS_WEB_IDENTITY_TOKEN_FILE, AWS_PROFILE or AWS_CONTAINER_CREDENTIALS_RELATIVE_URI): the instance has no IAM role",
		  "which is all there is");
	EXPECT(empty_role);
	fails(plan(AWS_SOURCE_INSTANCE_METADATA), AWS_ERROR_CREDENTIALS, "NoInstanceRole", "no IAM role",
		  "an empty list of roles");
	EXPECT(evil_role);
	fails(plan(AWS_SOURCE_INSTANCE_METADATA), AWS_ERROR_TRANSIENT, "InvalidReply", "no name of a role",
		  "a role's name that is a path");
	EXPECT(evil_token);
	fails(plan(AWS_SOURCE_INSTANCE_METADATA), AWS_ERROR_TRANSIENT, "InvalidReply", "no token",
		  "no token");
	EXPECT(object);
	fails(plan(AWS_SOURCE_INSTANCE_METADATA), AWS_ERROR_CREDENTIALS, "AssumeRoleUnauthorizedAccess",
		  "EC2 cannot assume the role", "status 200 with an error");
	EXPECT(refused);
	fails(plan(AWS_SOURCE_INSTANCE_METADATA), AWS_ERROR_CREDENTIALS, "Http401", "401",
		  "no token is good enough");
	EXPECT(garbage);
	fails(plan(AWS_SOURCE_INSTANCE_METADATA), AWS_ERROR_TRANSIENT, "InvalidReply", "no session token",
		  "garbage");
	EXPECT(endless);
	fails(plan(AWS_SOURCE_INSTANCE_METADATA), AWS_ERROR_TRANSIENT, "Curl23", "larger than 65536",
		  "64 MiB");
	EXPECT(slow);
	patience = 1500;
	fails(plan(AWS_SOURCE_INSTANCE_METADATA), AWS_ERROR_TIMEOUT, "Curl28", "instance metadata",
		  "a slow reply");
	patience = 10000;
	ok(strstr(error.message, "hop limit") == NULL, "which has come over all hops");

	EXPECT(v1);
	identity = container(NULL, NULL);
	free(identity->region);
	identity->region = NULL;
	identity->metadata_url = strdup(base);
	fails(identity, AWS_ERROR_CREDENTIALS, "Http404", "no region is configured, and instance metadata at http",
		  "nobody knows the region");

	/* nobody there; and less time than the tries would take */
	expect(NULL, 0);
	identity = plan(AWS_SOURCE_INSTANCE_METADATA);
	free(identity->metadata_url);
	identity->metadata_url = strdup("http://127.0.0.1:1");
	fails(identity, AWS_ERROR_TRANSIENT, "Curl7", "instance metadata at http://127.0.0.1:1",
		  "nobody listens");
	expect(hang, 1);
	ok(!fetch_for(plan(AWS_SOURCE_INSTANCE_METADATA), 1500) && error.class == AWS_ERROR_TIMEOUT,
	   "the caller's deadline");
	is_int(nrequests, 1, "one try");
}

/* ---- containers ---- */

#define CONTAINER_KEYS	"{\"RoleArn\":\"" ROLE "\",\"AccessKeyId\":\"" ID "\"," \
	"\"SecretAccessKey\":\"" SECRET "\",\"Token\":\"" TOKEN "\",\"Expiration\":\"2066-11-22T06:00:00.250Z\"}"

static void
containers(void)
{
#define GET_KEYS "GET /v2/credentials/0123"
	static const Scene good[] = {{GET_KEYS, 200, CONTAINER_KEYS}};
	static const Scene throttled[] = {
		{GET_KEYS, 429, "{\"code\":\"TooManyRequests\"}"}, {GET_KEYS, 500, ""}, {GET_KEYS, 200, CONTAINER_KEYS},
	};
	static const Scene down[] = {{GET_KEYS, 503, ""}, {GET_KEYS, 503, ""}, {GET_KEYS, 503, ""}};
	static const Scene denied[] = {
		{GET_KEYS, 403, "{\"code\":\"AccessDenied\",\"message\":\"token " TOKEN2 " is not valid\\n\"}"},
	};
	static const Scene unknown[] = {
		{"GET /v2/credentials/01234567-89ab", 400, "{\"code\":\"InvalidIdInRequest\",\"message\":\"no id /01234567-89ab\"}"},
	};
	static const Scene expired[] = {
		{GET_KEYS, 200, "{\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"" SECRET "\","
		"\"Token\":\"" TOKEN "\",\"Expiration\":\"" EXPIRED "\"}"},
	};
	static const Scene hang[] = {{GET_KEYS, 200, NULL, HANG}};
	AwsIdentity *identity;
	char		path[128];

	EXPECT(good);
	ok(fetch_for(container(NULL, NULL), 10000), "container");
	has_keys(ID, SECRET, TOKEN, EXPIRES_MS + 250, "container");
	is(keys.arn, ROLE, "its role");
	is(keys.account_id, "123456789012", "its account");
	ok(strstr(requests[0], "\r\nAccept: application/json\r\n") != NULL &&
	   strstr(requests[0], "Authorization") == NULL, "without a token");
	EXPECT(good);
	ok(fetch_for(container("Basic " TOKEN2, NULL), 10000), "container with a token");
	ok(strstr(requests[0], "\r\nAuthorization: Basic " TOKEN2 "\r\n") != NULL, "as it is");
	EXPECT(good);
	ok(fetch_for(container(NULL, file("podtoken", TOKEN2 "\n")), 10000), "with a token in a file");
	ok(strstr(requests[0], "\r\nAuthorization: " TOKEN2 "\r\n") != NULL, "without the line's end");
	EXPECT(throttled);
	ok(fetch_for(container(NULL, NULL), 10000), "what may pass is tried again");
	EXPECT(down);
	fails(container(NULL, NULL), AWS_ERROR_TRANSIENT, "Http503", "container credentials at http://127.0.0.1:",
		  "the agent is down");
	ok(strstr(error.message, "0123:") == NULL && strstr(error.message, "/v2/") == NULL,
	   "the path, which is a secret, is not told");
	EXPECT(denied);
	fails(container(TOKEN2, NULL), AWS_ERROR_CREDENTIALS, "AccessDenied", "is not valid", "denied");
	EXPECT(denied);
	fails(container("Bearer " TOKEN2, NULL), AWS_ERROR_CREDENTIALS, "AccessDenied", "token **********", "denied, without the scheme");
	EXPECT(unknown);
	identity = container(NULL, NULL);
	free(identity->container_url);
	snprintf(path, sizeof(path), "%s/v2/credentials/01234567-89ab", base);
	identity->container_url = strdup(path);
	fails(identity, AWS_ERROR_CREDENTIALS, "InvalidIdInRequest", "no id **************", "its path is not quoted, either");
	EXPECT(expired);
	fails(container(NULL, NULL), AWS_ERROR_TRANSIENT, "ExpiredCredentials", EXPIRED, "expired keys");
	EXPECT(hang);
	patience = 1500;
	fails(container(TOKEN2, NULL), AWS_ERROR_TIMEOUT, "Curl28", "container", "a silent agent");
	patience = 10000;

	expect(NULL, 0);
	fails(container("a\r\nHost: evil", NULL), AWS_ERROR_CREDENTIALS, "InvalidToken", "one line",
		  "a token with another header in it");
	fails(container(NULL, file("podtoken", "a\nb\n")), AWS_ERROR_CREDENTIALS, "InvalidToken",
		  "one line", "a file with two lines");
	fails(container(NULL, file("podtoken", "\n")), AWS_ERROR_CREDENTIALS, "InvalidToken",
		  "is empty", "an empty file");
	fails(container(NULL, "/nonexistent/token"), AWS_ERROR_CREDENTIALS, "InvalidToken",
		  "\"/nonexistent/token\"", "no file");
	fails(container(NULL, directory), AWS_ERROR_CREDENTIALS, "InvalidToken",
		  "not a regular file", "a directory");
	snprintf(path, sizeof(path), "%s/fifo", directory);
	mkfifo(path, 0600);
	fails(container(NULL, path), AWS_ERROR_CREDENTIALS, "InvalidToken",
		  "not a regular file", "a FIFO does not stop us");
	fails(container(NULL, "/dev/zero"), AWS_ERROR_CREDENTIALS, "InvalidToken",
		  "not a regular file", "nor an endless file");
}

/* ---- STS ---- */

#define STS_KEYS(action, id, secret, token) \
	"<" action "Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n <" action "Result>\n" \
	"  <AssumedRoleUser><AssumedRoleId>AROA:sess</AssumedRoleId>" \
	"<Arn>arn:aws:sts::123456789012:assumed-role/bridge/sess</Arn></AssumedRoleUser>\n" \
	"  <Credentials>\n   <AccessKeyId>" id "</AccessKeyId>\n   <SecretAccessKey>" secret "</SecretAccessKey>\n" \
	"   <SessionToken>" token "</SessionToken>\n   <Expiration>" EXPIRES "</Expiration>\n  </Credentials>\n" \
	" </" action "Result>\n <ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata>\n</" action "Response>\n"
#define STS_ERROR(code, message) \
	"<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>" \
	"<Code>" code "</Code><Message>" message "</Message></Error><RequestId>r-2</RequestId></ErrorResponse>"

static const char *web_token_file;

static AwsIdentity *
web_identity(void)
{
	AwsIdentity *identity = plan(AWS_SOURCE_WEB_IDENTITY);

	identity->token_file = strdup(web_token_file);
	identity->role_arn = strdup(ROLE);
	identity->session_name = strdup("sess=1");
	identity->duration_seconds = 900;
	return identity;
}

static AwsIdentity *
static_keys(void)
{
	AwsIdentity *identity = plan(AWS_SOURCE_STATIC);

	identity->access_key_id = strdup("AKIDEXAMPLE");
	identity->secret_access_key = strdup("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
	return identity;
}

static const char *
body_of(int request)
{
	const char *end = strstr(requests[request], "\r\n\r\n");

	return end != NULL ? end + 4 : "";
}

static void
web_identities(void)
{
	static const Scene good[] = {
		{"POST /", 200, STS_KEYS("AssumeRoleWithWebIdentity", ID, SECRET, TOKEN)},
	};
	static const Scene json[] = {
		{"POST /", 200, "{\"AssumeRoleWithWebIdentityResponse\":{\"AssumeRoleWithWebIdentityResult\":{\"Credentials\":"
		"{\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"" SECRET "\",\"SessionToken\":\"" TOKEN "\",\"Expiration\":3.0576312E9}}}}"},
	};
	static const Scene expired[] = {
		{"POST /", 400, STS_ERROR("ExpiredTokenException", "Token expired: current date/time 1 must be before 0")},
	};
	static const Scene idp[] = {
		{"POST /", 400, STS_ERROR("IDPCommunicationError", "no")},
		{"POST /", 200, STS_KEYS("AssumeRoleWithWebIdentity", ID, SECRET, TOKEN)},
	};
	static const Scene denied[] = {
		{"POST /", 403, STS_ERROR("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity; &lt;" TOKEN2 "&gt;")},
	};
	static const Scene other[] = {
		{"POST /", 200, STS_KEYS("AssumeRole", ID, SECRET, TOKEN)},
		{"POST /", 200, STS_KEYS("AssumeRoleWithWebIdentity", "", SECRET, TOKEN)},
	};
	static const Scene hang[] = {{"POST /", 200, NULL, HANG}};

	web_token_file = strdup(file("webtoken", "eyJ0.e30=+/.sig-_\n"));

	EXPECT(good);
	ok(fetch_for(web_identity(), 10000), "web identity");
	has_keys(ID, SECRET, TOKEN, EXPIRES_MS, "web identity");
	is(keys.arn, "arn:aws:sts::123456789012:assumed-role/bridge/sess", "the session's ARN");
	is(keys.account_id, "123456789012", "the account");
	is(body_of(0), "Action=AssumeRoleWithWebIdentity&Version=2011-06-15"
	   "&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fbridge&RoleSessionName=sess%3D1"
	   "&WebIdentityToken=eyJ0.e30%3D%2B%2F.sig-_&DurationSeconds=900", "the form");
	ok(strstr(requests[0], "Authorization") == NULL && strstr(requests[0], "X-Amz") == NULL,
	   "it is not signed");
	ok(strstr(requests[0], "\r\nContent-Type: application/x-www-form-urlencoded\r\n") != NULL, "its type");
	EXPECT(json);
	ok(fetch_for(web_identity(), 10000), "a reply in JSON");
	has_keys(ID, SECRET, TOKEN, EXPIRES_MS, "a reply in JSON");
	EXPECT(idp);
	ok(fetch_for(web_identity(), 10000), "the issuer was not reached at first");
	EXPECT(expired);
	fails(web_identity(), AWS_ERROR_CREDENTIALS, "ExpiredTokenException",
		  "AssumeRoleWithWebIdentity of " ROLE " at http://127.0.0.1:", "an expired token");
	file("webtoken", TOKEN2);
	EXPECT(denied);
	fails(web_identity(), AWS_ERROR_CREDENTIALS, "AccessDenied", "Not authorized", "denied");
	EXPECT(other);
	fails(web_identity(), AWS_ERROR_TRANSIENT, "InvalidReply", "no AccessKeyId", "another reply");
	EXPECT(hang);
	patience = 1500;
	fails(web_identity(), AWS_ERROR_TIMEOUT, "Curl28", "AssumeRoleWithWebIdentity", "STS is silent");
	patience = 10000;

	expect(NULL, 0);
	file("webtoken", "");
	fails(web_identity(), AWS_ERROR_CREDENTIALS, "InvalidToken", "is empty", "an empty token");
	file("webtoken", "a b");
	fails(web_identity(), AWS_ERROR_CREDENTIALS, "InvalidToken", "without blanks", "no token");
	unlink(web_token_file);
	fails(web_identity(), AWS_ERROR_CREDENTIALS, "InvalidToken", web_token_file, "no token's file");
}

/* A token that is replaced in the moment in which it expires. */
static void
web_token_is_replaced(void)
{
	static const Scene expired[] = {
		{"POST /", 400, STS_ERROR("ExpiredTokenException", "Token expired")},
		{"POST /", 200, STS_KEYS("AssumeRoleWithWebIdentity", ID, SECRET, TOKEN)},
	};
	AwsIdentity *identity = web_identity();
	AwsFetch   *fetch;

	file("webtoken", "one");
	EXPECT(expired);
	fetch = aws_fetch_start(pool, identity, 10000, &error);
	aws_identity_free(identity);
	aws_fetch_go_on(fetch);
	file("webtoken", "two");
	loop(fetch);
	ok(aws_fetch_result(fetch, &keys, &error), "the new token is tried");
	aws_fetch_cancel(fetch);
	ok(strstr(body_of(0), "WebIdentityToken=one&") != NULL &&
	   strstr(body_of(1), "WebIdentityToken=two&") != NULL, "once");
}

static void
roles(void)
{
	static const Scene one[] = {{"POST /", 200, STS_KEYS("AssumeRole", ID, SECRET, TOKEN)}};
	static const Scene chain[] = {
		{PUT_TOKEN, 200, "t"}, {GET_ROLES, 200, "r"}, {GET_ROLES "r", 200, IMDS_KEYS},
		{"POST /", 200, STS_KEYS("AssumeRole", ID2, SECRET2, TOKEN2)},
		{"POST /", 200, STS_KEYS("AssumeRole", ID, SECRET, TOKEN)},
	};
	static const Scene denied[] = {
		{"POST /", 403, STS_ERROR("AccessDenied",
								  "User: arn:aws:iam::1:user/u is not authorized to perform: sts:AssumeRole on resource: x")},
	};
	static const Scene quoting[] = {
		{"POST /", 403, STS_ERROR("SignatureDoesNotMatch", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")},
	};
	static const Scene clock[] = {
		{"POST /", 403, STS_ERROR("SignatureDoesNotMatch", "Signature expired: a is now earlier than b"), ANSWER,
		"Date: Sun, 22 Nov 2026 06:00:00 GMT\r\n"},
		{"POST /", 200, STS_KEYS("AssumeRole", ID, SECRET, TOKEN), ANSWER, "Date: Sun, 22 Nov 2026 06:00:00 GMT\r\n"},
	};
	static const Scene throttled[] = {
		{"POST /", 400, STS_ERROR("Throttling", "Rate exceeded")},
		{"POST /", 400, STS_ERROR("Throttling", "Rate exceeded")},
	};
	static const Scene truncated[] = {
		{"POST /", 200, STS_KEYS("AssumeRole", ID, SECRET, TOKEN), TRUNCATE},
		{"POST /", 200, "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>" ID "</AccessKeyId>"},
	};
	AwsIdentity *identity;
	AwsFetch   *fetch;
	char		long_arn[600];

	EXPECT(one);
	identity = static_keys();
	add_role(identity, ROLE, "ext id&", 0);
	ok(fetch_for(identity, 10000), "a role");
	has_keys(ID, SECRET, TOKEN, EXPIRES_MS, "a role");
	is(body_of(0), "Action=AssumeRole&Version=2011-06-15"
	   "&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fbridge&RoleSessionName=sess"
	   "&ExternalId=ext%20id%26", "its form");
	ok(strstr(requests[0], "Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") != NULL &&
	   strstr(requests[0], "/eu-west-1/sts/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=") != NULL,
	   "signed for STS");

	EXPECT(chain);
	identity = plan(AWS_SOURCE_INSTANCE_METADATA);
	identity->sts_region = strdup("us-east-1");
	add_role(identity, ROLE "1", NULL, 3600);
	add_role(identity, ROLE "2", NULL, 0);
	ok(fetch_for(identity, 10000), "two roles on top of instance metadata");
	has_keys(ID, SECRET, TOKEN, EXPIRES_MS, "two roles on top of instance metadata");
	ok(strstr(requests[3], "Credential=" ID "/") != NULL &&
	   strstr(requests[3], "/us-east-1/sts/") != NULL &&
	   strstr(requests[3], "x-amz-security-token: " TOKEN "\r\n") != NULL &&
	   strstr(requests[3], "DurationSeconds=3600") != NULL, "the first with the instance's keys");
	ok(strstr(requests[4], "Credential=" ID2 "/") != NULL &&
	   strstr(requests[4], "x-amz-security-token: " TOKEN2 "\r\n") != NULL,
	   "the second with those of the first");

	EXPECT(denied);
	identity = static_keys();
	add_role(identity, ROLE, NULL, 0);
	fails(identity, AWS_ERROR_CREDENTIALS, "AccessDenied", "AssumeRole of " ROLE, "not my role");
	memset(long_arn, 'x', sizeof(long_arn));
	memcpy(long_arn, ROLE, strlen(ROLE));
	long_arn[sizeof(long_arn) - 1] = '\0';
	EXPECT(denied);
	identity = static_keys();
	add_role(identity, long_arn, NULL, 0);
	fails(identity, AWS_ERROR_CREDENTIALS, "AccessDenied", "user/u is not authorized", "a role with a long name");
	EXPECT(quoting);
	identity = static_keys();
	add_role(identity, ROLE, NULL, 0);
	fails(identity, AWS_ERROR_CREDENTIALS, "SignatureDoesNotMatch", "********", "a wrong secret");
	ok(strstr(error.message, "wJalrXUt") == NULL, "which is not told");
	EXPECT(quoting);
	identity = static_keys();
	free(identity->access_key_id);
	free(identity->secret_access_key);
	identity->access_key_id = strdup("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
	identity->secret_access_key = strdup("AKIDEXAMPLE");
	add_role(identity, ROLE, NULL, 0);
	fails(identity, AWS_ERROR_CREDENTIALS, "SignatureDoesNotMatch", "********", "keys that were swapped");
	EXPECT(throttled);
	identity = static_keys();
	add_role(identity, ROLE, NULL, 0);
	fails(identity, AWS_ERROR_THROTTLED, "Throttling", "Rate exceeded", "too many calls");
	EXPECT(truncated);
	identity = static_keys();
	add_role(identity, ROLE, NULL, 0);
	fails(identity, AWS_ERROR_TRANSIENT, "InvalidReply", "neither the XML", "truncated replies");

	EXPECT(clock);
	identity = static_keys();
	add_role(identity, ROLE, NULL, 0);
	ok(fetch_for(identity, 10000), "our clock is wrong");
	ok(strstr(requests[1], "x-amz-date: 20261122T0600") != NULL ||
	   strstr(requests[1], "x-amz-date: 20261122T0559") != NULL, "AWS's time in the signature");
	ok(llabs(keys.skew_ms - (INT64CONST(1795327200) - (int64) time(NULL)) * 1000) < 10000 ||
	   keys.skew_ms == 0, "the difference is told");
	is_int(nrequests, 2, "it is tried once more");

	/* no endpoint, no region */
	expect(NULL, 0);
	identity = static_keys();
	free(identity->sts_endpoint);
	identity->sts_endpoint = NULL;
	free(identity->region);
	identity->region = NULL;
	add_role(identity, ROLE, NULL, 0);
	fails(identity, AWS_ERROR_CONFIGURATION, "NoRegion", "no region", "no region");

	/* a fetch that nobody wants any more */
	EXPECT(one);
	identity = static_keys();
	add_role(identity, ROLE, NULL, 0);
	fetch = aws_fetch_start(pool, identity, 10000, &error);
	aws_identity_free(identity);
	is_int(aws_fetch_next(fetch), 0, "a fetch wants to begin");
	aws_fetch_go_on(fetch);
	is_int(aws_fetch_next(fetch), -1, "then the pool decides");
	aws_fetch_cancel(fetch);
	aws_fetch_cancel(NULL);

	/* keys that are there already */
	expect(NULL, 0);
	ok(fetch_for(static_keys(), 10000), "nothing to fetch");
	has_keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", NULL, 0, "nothing to fetch");
}

static void
whoami(void)
{
	static const Scene good[] = {
		{"POST /", 200, "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/u</Arn>"
		"<UserId>AIDA</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"},
	};
	static const Scene bad[] = {
		{"POST /", 403, STS_ERROR("InvalidClientTokenId", "The security token included in the request is invalid.")},
	};
	AwsCredentials mine = {ID, SECRET, TOKEN};
	AwsIdentity *where = plan(AWS_SOURCE_STATIC);
	AwsFetch   *fetch;

	EXPECT(good);
	fetch = aws_whoami_start(pool, &mine, where, 10000, &error);
	loop(fetch);
	ok(aws_whoami_result(fetch, &caller, &error), "GetCallerIdentity");
	is(caller.arn, "arn:aws:iam::123456789012:user/u", "ARN");
	is(caller.account, "123456789012", "account");
	is(caller.user_id, "AIDA", "user id");
	is(body_of(0), "Action=GetCallerIdentity&Version=2011-06-15", "its form");
	aws_fetch_cancel(fetch);

	EXPECT(bad);
	fetch = aws_whoami_start(pool, &mine, where, 10000, &error);
	loop(fetch);
	ok(!aws_whoami_result(fetch, &caller, &error), "refused");
	is(error.code, "InvalidClientTokenId", "with a reason");
	is(aws_error_class_name(error.class), "credentials", "about the keys");
	aws_fetch_cancel(fetch);
	aws_identity_free(where);
}

/* ---- programs ---- */

static AwsIdentity *
process(const char *fmt, const char *arg)
{
	AwsIdentity *identity = plan(AWS_SOURCE_PROCESS);
	char		command[512];

	snprintf(command, sizeof(command), fmt, arg);
	identity->command = strdup(command);
	return identity;
}

static int
children(void)
{
	return waitpid(-1, NULL, WNOHANG);
}

static void
programs(void)
{
	const char *script;
	int			fds[2];
	char		path[128];
	char		pid_text[32] = "";
	FILE	   *f;

	expect(NULL, 0);
	script = file("keys.json", "{\"Version\":1,\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"" SECRET "\","
				  "\"SessionToken\":\"" TOKEN "\",\"Expiration\":\"" EXPIRES "\"}");
	ok(fetch_for(process("cat '%s'", script), 10000), "a program");
	has_keys(ID, SECRET, TOKEN, EXPIRES_MS, "a program");
	file("keys.json", "{\"Version\":1,\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"" SECRET "\"}");
	ok(fetch_for(process("cat \"%s\"", script), 10000), "keys for ever");
	has_keys(ID, SECRET, NULL, 0, "keys for ever");

	file("keys.json", "{\"Version\":1,\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"" SECRET "\","
		 "\"SessionToken\":\"" TOKEN "\",\"Expiration\":\"" EXPIRED "\"}");
	fails(process("cat %s", script), AWS_ERROR_CREDENTIALS, "ExpiredCredentials", EXPIRED, "expired keys");
	file("keys.json", "{\"Version\":1,\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"" SECRET "\"}");

	/* no descriptor but the standard ones; the list's own is one more */
	ok(pipe(fds) == 0, "descriptors that are not closed by exec");
	ok(fetch_for(process("sh -c 'test $(ls /proc/self/fd | wc -l) -le 4 && cat %s'", script), 10000),
	   "none of ours is open in it");
	close(fds[0]);
	close(fds[1]);
	is_int(children(), -1, "it is collected");

	fails(process("sh -c 'echo %s; exit 3'", SECRET), AWS_ERROR_CREDENTIALS, "ProcessFailed",
		  "the test: the program ended with status 3", "it fails");
	fails(process("sh -c 'kill -9 $$'%s", ""), AWS_ERROR_CREDENTIALS, "ProcessFailed", "signal 9", "it crashes");
	fails(process("true%s", ""), AWS_ERROR_CREDENTIALS, "InvalidReply", "nothing", "it prints nothing");
	fails(process("echo %s", SECRET), AWS_ERROR_CREDENTIALS, "InvalidReply", "JSON", "it prints garbage");
	fails(process("/nonexistent/program %s", SECRET), AWS_ERROR_CREDENTIALS, "InvalidProcess",
		  "cannot run \"/nonexistent/program\"", "there is none");
	fails(process("echo 'a%s", ""), AWS_ERROR_CREDENTIALS, "InvalidProcess", "quote", "a bad command line");
	fails(process("yes %s", SECRET), AWS_ERROR_CREDENTIALS, "InvalidReply", "more than 65536", "it does not stop printing");
	is_int(children(), -1, "it is killed and collected");
	fails(process("echo '{\"Version\":2,\"AccessKeyId\":\"%s\"}'", ID), AWS_ERROR_CREDENTIALS, "InvalidReply",
		  "Version 1", "another version");
	fails(process("echo '{\"Version\":1,\"AccessKeyId\":\"%s\"}'", ID), AWS_ERROR_CREDENTIALS, "InvalidReply",
		  "no SecretAccessKey", "no secret");

	/* killed with what it has started */
	snprintf(path, sizeof(path), "%s/pid", directory);
	ok(!fetch_for(process("sh -c 'sleep 100 & echo $! >%s; wait'", path), 3000), "it hangs");
	is(aws_error_class_name(error.class), "timeout", "until our patience ends");
	is_int(children(), -1, "it is gone");
	f = fopen(path, "r");
	ok(f != NULL && fgets(pid_text, sizeof(pid_text), f) != NULL, "it had started another");
	if (f != NULL)
		fclose(f);
	for (int i = 0; i < 500 && kill(atoi(pid_text), 0) == 0; i++)
	{
		char		stat[64];
		struct pollfd none = {-1, 0, 0};
		char		state = '?';

		/* an orphan's end is collected by whoever adopts it */
		snprintf(stat, sizeof(stat), "/proc/%d/stat", atoi(pid_text));
		f = fopen(stat, "r");
		if (f != NULL && fscanf(f, "%*d %*s %c", &state) != 1)
			state = '?';
		if (f != NULL)
			fclose(f);
		if (state == 'Z')
			break;
		poll(&none, 0, 20);
		ok(i < 499, "which ends");
	}

	/* what stays behind may have the pipe for longer than we would wait */
	ok(fetch_for(process("sh -c 'sleep 12 & cat %s'", script), 10000),
	   "a program's own background process");
}

/* ---- descriptors ---- */

static int	fds_left = 1000;

static bool
acquire(void)
{
	return fds_left > 0 && fds_left-- > 0;
}

static void
release(void)
{
	fds_left++;
}

/* What is opened is counted, and what may not be opened is no fault of AWS. */
static void
descriptors(void)
{
	int			left = fds_left;

	expect(NULL, 0);
	fds_left = 0;
	fails(process("true%s", ""), AWS_ERROR_RESOURCES, "InvalidProcess", "cannot run \"true\"",
		  "no descriptor for a program");
	is_int(fds_left, 0, "none is given back that was not taken");
	fails(container(NULL, file("podtoken", TOKEN2)), AWS_ERROR_RESOURCES, "InvalidToken",
		  "no file descriptor left", "no descriptor for a file");
	is_int(fds_left, 0, "nor here");
	fds_left = left;
}

void
test_fetch(void)
{
	const AwsFdHooks count = {acquire, release};
	const AwsFdHooks none = {NULL, NULL};
	const char *tmp = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";

	snprintf(directory, sizeof(directory), "%s/fetch.XXXXXX", strlen(tmp) < 40 ? tmp : "/tmp");
	if (mkdtemp(directory) == NULL)
	{
		ok(false, "a directory for files");
		return;
	}
	/* metadata hosts and loopback must not be asked through a proxy */
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	start_listening();
	aws_set_fd_hooks(&count);
	pool = http_pool_create("unit-test", 0, &error);
	metadata_works();
	metadata_fails();
	containers();
	web_identities();
	web_token_is_replaced();
	roles();
	whoami();
	programs();
	descriptors();
	aws_fetched_keys_wipe(&keys);
	http_pool_destroy(pool);
	is_int(fds_left, 1000, "all descriptors are given back");
	aws_set_fd_hooks(&none);
	unsetenv("http_proxy");
	for (int i = 0; i < MAX_CONNS; i++)
		close_conn(&conns[i]);
	close(listener);
	free((char *) web_token_file);
	{
		char		command[128];

		snprintf(command, sizeof(command), "rm -rf '%s'", directory);
		ok(system(command) == 0, "the files are gone");
	}
}
