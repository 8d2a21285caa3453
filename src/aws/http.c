/*-------------------------------------------------------------------------
 *
 * http.c
 *	  One HTTP transport: libcurl's multi interface behind one descriptor.
 *
 * libcurl's sockets are kept in an epoll set, so that the owner waits for
 * a single descriptor, together with its latch; http_pool_poll() then tells
 * libcurl which sockets are ready.
 *
 * Rules that hold because libcurl runs inside a database server:
 *
 *	- All signals are blocked while libcurl runs.  Its resolver thread inherits
 *	  the mask, so no signal handler of the server ever runs on that thread.
 *	- Its callbacks neither raise errors nor call palloc.  Buffers are
 *	  malloc'ed and limited in size.
 *	- A done function is called when libcurl is not on the stack and the
 *	  request is out of all lists: it may raise an error.
 *	- No waiting for the resolver (QUICK_EXIT), no alarm() (NOSIGNAL), no
 *	  redirects, no protocols other than HTTP and HTTPS, no secret key in its
 *	  handles.
 *	- curl_global_init() at first use, in the process that uses it; never in
 *	  the postmaster, whose children would share its state.  Not with functions
 *	  for memory that wipe what they free: they would be those of all users of
 *	  libcurl in the process, would be ignored if another was first, and the TLS
 *	  library, which has the same contents in its buffers, has its own.
 *
 * The number of descriptors is the process's to manage, so each is acquired
 * (descriptors.h) before it is opened, and released when it is closed.  A
 * request that was refused one fails with AWS_ERROR_RESOURCES, which says
 * nothing about the server that it was meant for.
 *
 * A request leaves this process at most once.  By itself, libcurl sends a
 * request again, even a POST, if a kept-alive connection ends before the first
 * byte of the reply (Curl_retry_request).  That could put a message into a
 * standard queue twice, and callers would neither count such a request nor
 * back off before it.  Here libcurl may do so only as long as nothing of the
 * request has left (see is_repeat()).  Otherwise the request fails as one that
 * may have been done, and the caller decides whether to make it again.
 *
 * A new TLS connection resumes a session of an earlier one, which saves the
 * server's certificate and its verification.  Before 8.12, libcurl keeps
 * sessions with the easy handle unless they are shared, and so a request that is
 * made beside others would not find theirs.  A session is used only with the
 * server, the authorities and the options that it was made with.
 *
 * A request must not fail merely because the server has closed an idle
 * connection, which is normal.  libcurl checks for that before it reuses a
 * connection, but before version 8.0 it considers a TLS connection alive as
 * long as there is something to read, and a TLS server sends close_notify
 * before it closes.  Therefore idle connections are watched here, and what
 * arrived before the end of one is discarded, so that libcurl finds the end
 * (see drain_closed()).
 *
 *-------------------------------------------------------------------------
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include <curl/curl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "aws/authorities.h"
#include "aws/descriptors.h"
#include "aws/http.h"

#define CONNECT_TIMEOUT_MS	4000L
#define MAX_AGE_CONN_S		50L /* servers close idle ones after a minute */
#define MAX_LIFETIME_CONN_S 300L	/* so that DNS changes are followed */
#define MAX_ERROR_REPLY		(64 * 1024) /* bytes of a reply other than 200 */
#define FIRST_BUFFER		4096	/* bytes; doubled as needed */
#define DEFAULT_CONNECTIONS	64	/* kept alive */
#define POOL_FDS			4	/* the epoll set, and what a multi handle
								 * opens */
#define RESOLVER_FDS		2	/* by which libcurl's thread tells that it is
								 * done */
#define MAX_EVENTS			256 /* looked at in one go */

/* The mark of an idle connection in the epoll set: its fd, made negative. */
#define IDLE_FD(fd)			(-1 - (fd))

/*
 * Belongs to its pool from the first http_post() until the pool is destroyed:
 * it is running, or in the finished list, or in the idle list for reuse with
 * its easy handle.
 */
struct HttpRequest
{
	HttpPool   *pool;
	HttpRequest *next;			/* in the idle or the finished list */
	HttpRequest *older;			/* all requests of the pool */
	CURL	   *easy;
	struct curl_slist *headers;
	AwsAuthorities authorities; /* that easy trusts */
	bool		running;
	bool		secret;			/* reply.body is to be wiped */
	int			resolver_fds;	/* acquired, while a name is looked up */
	bool		no_descriptor;	/* one was refused */
	HttpReply	reply;
	size_t		size;			/* of reply.body */
	size_t		max_reply;
	int64		deadline;		/* ms */
	bool		begun;			/* there was a connection to send it on */
	int64		written;		/* bytes_written() at that time */
	bool		lost;			/* the connection ended before the reply */
	bool		no_memory;
	CURLcode	result;
	char		curl_error[CURL_ERROR_SIZE];
	HttpDone	done;
	void	   *arg;
};

struct HttpPool
{
	CURLM	   *multi;
	CURLSH	   *share;			/* TLS sessions, for all requests */
	int			epoll;
	int64		timer_at;		/* ms; -1: none */
	bool		epoll_failed;
	HttpRequest *idle;
	HttpRequest *finished;		/* done, completion not yet called */
	HttpRequest **finished_tail;
	HttpRequest *all;
	char	   *user_agent;
	char		date_text[64];	/* of the last Date header */
	int64		date;			/* the same, as in HttpReply */
	AwsSystemAuthorities system;
};

static const char no_descriptor_text[] =
"this process has no file descriptor left for another connection";

static int64
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Around every call into libcurl; see the head of this file. */
static void
block_signals(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, saved);
}

static void
restore_signals(const sigset_t *saved)
{
	sigprocmask(SIG_SETMASK, saved, NULL);
}

/* What a request was sent with, and what came of it, if nobody took that. */
static void
free_contents(HttpRequest *request)
{
	for (struct curl_slist *line = request->headers; line != NULL; line = line->next)
		explicit_bzero(line->data, strlen(line->data));
	curl_slist_free_all(request->headers);
	request->headers = NULL;
	if (request->secret && request->reply.body != NULL)
		explicit_bzero(request->reply.body, request->size);
	free(request->reply.body);
	request->reply.body = NULL;
}

static void
release_resolver(HttpRequest *request)
{
	aws_release_fds(request->resolver_fds);
	request->resolver_fds = 0;
}

/* ---- requests that libcurl would repeat ---- */

/* Bytes written for the request, including the CONNECT to a proxy. */
static int64
bytes_written(HttpRequest *request)
{
	long		with_headers = 0;
	curl_off_t	body = 0;

	/* older versions count only the first write in REQUEST_SIZE */
	curl_easy_getinfo(request->easy, CURLINFO_REQUEST_SIZE, &with_headers);
	curl_easy_getinfo(request->easy, CURLINFO_SIZE_UPLOAD_T, &body);
	return (int64) with_headers + (int64) body;
}

/* Can the server have received any of the request? */
static bool
has_left(HttpRequest *request)
{
	return request->begun && bytes_written(request) != request->written;
}

/*
 * Called when libcurl takes a step toward sending the request: is it about to
 * send it a second time?  Every callback that such a step can go through asks
 * this, and the first of them ends the request before a name is looked up or a
 * connection is made.
 */
static bool
is_repeat(HttpRequest *request)
{
	if (has_left(request))
		request->lost = true;
	else
		request->begun = false;
	return request->lost;
}

/* ---- callbacks of libcurl: none may raise an error ---- */

/*
 * Open a socket if the hooks allow one more.  A failure for lack of resources
 * is noted, because libcurl cannot say so.
 */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	HttpRequest *request = arg;
	int			fd;

	(void) purpose;
	release_resolver(request);
	if (is_repeat(request))
		return CURL_SOCKET_BAD;
	if (!aws_acquire_fds(1))
	{
		request->no_descriptor = true;
		return CURL_SOCKET_BAD;
	}
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (fd < 0)
	{
		request->no_descriptor = errno == EMFILE || errno == ENFILE ||
			errno == ENOBUFS || errno == ENOMEM;
		aws_release_fds(1);
		return CURL_SOCKET_BAD;
	}
	return fd;
}

/* May be called long after the request for which the socket was opened. */
static int
close_socket(void *arg, curl_socket_t fd)
{
	(void) arg;
	aws_release_fds(1);
	return close(fd);
}

/*
 * A thread is about to look up a name.  If the request is canceled meanwhile,
 * the thread's descriptors stay open for a while without being counted.
 */
static int
resolver_start(void *state, void *reserved, void *arg)
{
	HttpRequest *request = arg;

	(void) state;
	(void) reserved;
	release_resolver(request);
	if (is_repeat(request))
		return 1;
	if (!aws_acquire_fds(RESOLVER_FDS))
	{
		request->no_descriptor = true;
		return 1;
	}
	request->resolver_fds = RESOLVER_FDS;
	return 0;
}

/* libcurl says what it waits for on a socket; the epoll set follows. */
static int
socket_callback(CURL *easy, curl_socket_t fd, int what, void *arg, void *socketp)
{
	HttpPool   *pool = arg;
	struct epoll_event event;

	(void) easy;
	(void) socketp;
	memset(&event, 0, sizeof(event));
	if (what == CURL_POLL_REMOVE)
	{
		/* idle, or about to be closed, which takes it out of the set */
		event.data.fd = IDLE_FD(fd);
		event.events = EPOLLRDHUP | EPOLLONESHOT;
		(void) epoll_ctl(pool->epoll, EPOLL_CTL_MOD, fd, &event);
		return 0;
	}
	event.data.fd = fd;
	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		event.events |= EPOLLIN;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		event.events |= EPOLLOUT;
	if (epoll_ctl(pool->epoll, EPOLL_CTL_MOD, fd, &event) < 0 &&
		epoll_ctl(pool->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		pool->epoll_failed = true;
	return 0;
}

/*
 * The server has closed an idle connection.  What it sent before, usually
 * TLS's close_notify, would hide that from libcurl, which is the one to close
 * the connection.  Since the peer has shut down its side, this reads no more
 * than the socket's buffer holds.
 */
static void
drain_closed(int fd)
{
	char		buf[1024];

	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

/* There is a connection, and the request goes out next. */
static int
prereq_callback(void *arg, char *peer, char *local, int peer_port, int local_port)
{
	HttpRequest *request = arg;

	(void) peer;
	(void) local;
	(void) peer_port;
	(void) local_port;
	if (is_repeat(request))
		return CURL_PREREQFUNC_ABORT;
	request->begun = true;
	request->written = bytes_written(request);
	return CURL_PREREQFUNC_OK;
}

static int
timer_callback(CURLM *multi, long timeout_ms, void *arg)
{
	HttpPool   *pool = arg;

	(void) multi;
	pool->timer_at = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
	return 0;
}

/*
 * Append to the body, within max_reply bytes, or MAX_ERROR_REPLY if the status
 * is not 200.  Returning 0 makes libcurl fail the request.
 */
static size_t
write_callback(char *data, size_t size, size_t nmemb, void *arg)
{
	HttpRequest *request = arg;
	size_t		n = size * nmemb;
	long		status = 0;
	size_t		cap = request->max_reply;

	if (request->reply.len == 0)
		curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status != 0 && status != 200)
		request->max_reply = cap = Min(cap, (size_t) MAX_ERROR_REPLY);

	if (request->reply.len + n > cap)
	{
		request->reply.too_large = true;
		return 0;
	}
	if (request->reply.len + n + 1 > request->size)
	{
		size_t		want = Max(request->size, (size_t) FIRST_BUFFER);
		curl_off_t	announced = -1;
		char	   *grown;

		/* growing may leave a copy behind */
		if (request->secret)
			want = cap + 1;
		else
		{
			/* in general the server says how much it is */
			curl_easy_getinfo(request->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
			if (announced >= (curl_off_t) want && announced <= (curl_off_t) cap)
				want = (size_t) announced + 1;
		}
		while (want < request->reply.len + n + 1)
			want *= 2;
		grown = realloc(request->reply.body, want);
		if (grown == NULL)
		{
			request->no_memory = true;
			return 0;
		}
		request->reply.body = grown;
		request->size = want;
	}
	memcpy(request->reply.body + request->reply.len, data, n);
	request->reply.len += n;
	request->reply.body[request->reply.len] = '\0';
	return n;
}

/*
 * If the header line has this name, copy its value without surrounding blanks,
 * cut to size.  The value is whatever the server sent.
 */
static bool
header_value(const char *line, size_t len, const char *name, char *buf, size_t size)
{
	size_t		name_len = strlen(name);
	size_t		n;

	if (len <= name_len || pg_strncasecmp(line, name, name_len) != 0 ||
		line[name_len] != ':')
		return false;
	line += name_len + 1;
	len -= name_len + 1;
	while (len > 0 && (*line == ' ' || *line == '\t'))
		line++, len--;
	while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == '\n' || line[len - 1] == ' '))
		len--;
	n = Min(len, size - 1);
	memcpy(buf, line, n);
	buf[n] = '\0';
	return true;
}

/*
 * Read a Date header.  It changes once a second, and takes as long to read as
 * all else in a small reply.
 */
static int64
read_date(HttpPool *pool, const char *text)
{
	if (strcmp(text, pool->date_text) != 0)
	{
		time_t		t = curl_getdate(text, NULL);

		pool->date = t > 0 ? (int64) t : 0;
		strlcpy(pool->date_text, text, sizeof(pool->date_text));
	}
	return pool->date;
}

/* Keep the few headers that are of use; all others are ignored. */
static size_t
header_callback(char *data, size_t size, size_t nmemb, void *arg)
{
	HttpRequest *request = arg;
	HttpReply  *reply = &request->reply;
	size_t		len = size * nmemb;
	char		date[64];

	if (len < 5)
		return len;
	switch (data[0])
	{
		case 'x':
		case 'X':
			if (header_value(data, len, "x-amzn-requestid", reply->request_id, sizeof(reply->request_id)) ||
				header_value(data, len, "x-amz-request-id", reply->request_id, sizeof(reply->request_id)))
				aws_text_sanitize(reply->request_id);
			else if (!header_value(data, len, "x-amzn-query-error", reply->query_error, sizeof(reply->query_error)))
				(void) header_value(data, len, "x-amzn-errortype", reply->error_type, sizeof(reply->error_type));
			break;
		case 'd':
		case 'D':
			if (header_value(data, len, "date", date, sizeof(date)))
				reply->date = read_date(request->pool, date);
			break;
		default:
			break;
	}
	return len;
}

/* ---- pool ---- */

/*
 * NULL, with *error set, if libcurl lacks TLS or would block while it looks up
 * a name, or if memory or descriptors run out.
 */
HttpPool *
http_pool_create(const char *user_agent, int connections, AwsError *error)
{
	static bool initialized = false;
	HttpPool   *pool;
	const curl_version_info_data *version;
	sigset_t	saved;

	block_signals(&saved);
	if (!initialized && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
	{
		restore_signals(&saved);
		aws_error_set(error, AWS_ERROR_CONFIGURATION, "CurlInit", "libcurl cannot be initialized");
		return NULL;
	}
	initialized = true;

	version = curl_version_info(CURLVERSION_NOW);
	if ((version->features & CURL_VERSION_ASYNCHDNS) == 0 ||
		(version->features & CURL_VERSION_SSL) == 0)
	{
		restore_signals(&saved);
		aws_error_set(error, AWS_ERROR_CONFIGURATION, "CurlFeatures",
					  "libcurl %s lacks %s", version->version,
					  (version->features & CURL_VERSION_SSL) == 0 ?
					  "TLS" : "an asynchronous resolver");
		return NULL;
	}

	if (!aws_acquire_fds(POOL_FDS))
	{
		restore_signals(&saved);
		aws_error_set(error, AWS_ERROR_RESOURCES, "NoDescriptors", "%s", no_descriptor_text);
		return NULL;
	}
	pool = calloc(1, sizeof(HttpPool));
	if (pool != NULL)
	{
		pool->epoll = epoll_create1(EPOLL_CLOEXEC);
		pool->multi = curl_multi_init();
		pool->share = curl_share_init();
		pool->timer_at = -1;
		pool->finished_tail = &pool->finished;
		pool->user_agent = strdup(user_agent);
	}
	if (pool == NULL || pool->epoll < 0 || pool->multi == NULL || pool->share == NULL ||
		pool->user_agent == NULL ||
		curl_share_setopt(pool->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) != CURLSHE_OK)
	{
		if (pool != NULL)
		{
			if (pool->epoll >= 0)
				close(pool->epoll);
			if (pool->multi != NULL)
				curl_multi_cleanup(pool->multi);
			curl_share_cleanup(pool->share);
			free(pool->user_agent);
			free(pool);
		}
		aws_release_fds(POOL_FDS);
		restore_signals(&saved);
		aws_error_set(error, AWS_ERROR_RESOURCES, "NoResources",
					  "this process is out of memory or file descriptors");
		return NULL;
	}
	aws_system_authorities_find(&pool->system);
	curl_multi_setopt(pool->multi, CURLMOPT_SOCKETFUNCTION, socket_callback);
	curl_multi_setopt(pool->multi, CURLMOPT_SOCKETDATA, pool);
	curl_multi_setopt(pool->multi, CURLMOPT_TIMERFUNCTION, timer_callback);
	curl_multi_setopt(pool->multi, CURLMOPT_TIMERDATA, pool);
	curl_multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS,
					  (long) (connections > 0 ? connections : DEFAULT_CONNECTIONS));
	curl_multi_setopt(pool->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) Max(connections, 0));
	restore_signals(&saved);
	return pool;
}

/* A look-up that is under way is left to its thread, not waited for. */
void
http_pool_destroy(HttpPool *pool)
{
	HttpRequest *request;
	HttpRequest *next;
	sigset_t	saved;

	if (pool == NULL)
		return;
	block_signals(&saved);
	for (request = pool->all; request != NULL; request = next)
	{
		next = request->older;
		if (request->running)
			curl_multi_remove_handle(pool->multi, request->easy);
		curl_easy_cleanup(request->easy);
		release_resolver(request);
		free_contents(request);
		aws_authorities_free(&request->authorities);
		free(request);
	}
	curl_multi_cleanup(pool->multi);
	curl_share_cleanup(pool->share);	/* not before all who use it */
	close(pool->epoll);
	aws_release_fds(POOL_FDS);
	free(pool->user_agent);
	free(pool);
	restore_signals(&saved);
}

int
http_pool_fd(const HttpPool *pool)
{
	return pool->epoll;
}

long
http_pool_timeout(const HttpPool *pool)
{
	int64		left;

	if (pool->finished != NULL)
		return 0;
	if (pool->timer_at < 0)
		return -1;
	left = pool->timer_at - now_ms();
	return left < 0 ? 0 : (long) left;
}

/* ---- requests ---- */

/*
 * What all requests of the handle have in common.  False if its authorities
 * cannot be set.
 */
static bool
set_options(HttpRequest *request)
{
	CURL	   *easy = request->easy;

	curl_easy_setopt(easy, CURLOPT_PRIVATE, request);
	curl_easy_setopt(easy, CURLOPT_SHARE, request->pool->share);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, MAX_AGE_CONN_S);
	curl_easy_setopt(easy, CURLOPT_MAXLIFETIME_CONN, MAX_LIFETIME_CONN_S);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 10L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 5L);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, request->pool->user_agent);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, write_callback);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, header_callback);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, request);
	/* a proxy speaks in the clear, and not for the server */
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, request->curl_error);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, request);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
	curl_easy_setopt(easy, CURLOPT_RESOLVER_START_FUNCTION, resolver_start);
	curl_easy_setopt(easy, CURLOPT_RESOLVER_START_DATA, request);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, prereq_callback);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, request);
	return aws_authorities_apply(&request->authorities, easy);
}

static HttpRequest *
new_request(HttpPool *pool)
{
	HttpRequest *request = calloc(1, sizeof(HttpRequest));

	if (request == NULL)
		return NULL;
	request->easy = curl_easy_init();
	if (request->easy == NULL)
	{
		free(request);
		return NULL;
	}
	request->pool = pool;
	aws_authorities_init(&request->authorities, &pool->system);
	request->older = pool->all;
	pool->all = request;
	set_options(request);
	return request;
}

/*
 * A handle may have been used by a client that trusts other authorities: then
 * set all of its options anew.
 */
static bool
use_authorities(HttpRequest *request, const char *ca_file)
{
	AwsAuthorities *authorities = &request->authorities;

	authorities->other_tried = false;
	if (aws_authorities_are(authorities, ca_file))
		return true;
	if (!aws_authorities_change(authorities, ca_file))
		return false;
	curl_easy_reset(request->easy);
	if (set_options(request))
		return true;

	/* it trusts others than it says: back to what cannot fail */
	(void) aws_authorities_change(authorities, NULL);
	curl_easy_reset(request->easy);
	(void) set_options(request);
	return false;
}

/*
 * If the request failed because its server is not trusted by those of the
 * system's authorities that were asked, start it again with the others.  Nothing
 * of it has been sent.
 */
static bool
try_other_authorities(HttpRequest *request)
{
	if (request->result != CURLE_PEER_FAILED_VERIFICATION || request->begun ||
		!aws_authorities_use_other(&request->authorities, request->easy, now_ms()))
		return false;
	request->curl_error[0] = '\0';
	return curl_easy_setopt(request->easy, CURLOPT_TIMEOUT_MS,
							(long) Max(request->deadline - now_ms(), 1)) == CURLE_OK &&
		curl_multi_add_handle(request->pool->multi, request->easy) == CURLM_OK;
}

/*
 * The handle may have served a request of another method.  libcurl does not
 * copy the body, which is why that must stay.
 */
static bool
set_method(CURL *easy, HttpMethod method, const char *body, size_t body_len)
{
	bool		ok;

	/* this makes it a POST */
	ok = curl_easy_setopt(easy, CURLOPT_POST, 1L) == CURLE_OK &&
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) body_len) == CURLE_OK &&
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body) == CURLE_OK &&
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method == HTTP_PUT ? "PUT" : NULL) == CURLE_OK;
	if (ok && method == HTTP_GET)
		ok = curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L) == CURLE_OK;
	return ok;
}

HttpRequest *
http_post(HttpPool *pool, const HttpTarget *target, const char *const *headers,
		  int nheaders, const char *body, size_t body_len, long timeout_ms,
		  size_t max_reply, HttpDone done, void *arg)
{
	return http_request(pool, HTTP_POST, target, headers, nheaders, body, body_len,
						timeout_ms, max_reply, done, arg);
}

HttpRequest *
http_request(HttpPool *pool, HttpMethod method, const HttpTarget *target,
			 const char *const *headers, int nheaders, const char *body,
			 size_t body_len, long timeout_ms, size_t max_reply,
			 HttpDone done, void *arg)
{
	long		connect_ms = target->connect_timeout_ms > 0 ?
		target->connect_timeout_ms : CONNECT_TIMEOUT_MS;
	HttpRequest *request = pool->idle;
	sigset_t	saved;
	bool		ok;

	block_signals(&saved);
	if (request != NULL)
		pool->idle = request->next;
	else if ((request = new_request(pool)) == NULL)
	{
		restore_signals(&saved);
		return NULL;
	}

	memset(&request->reply, 0, sizeof(request->reply));
	request->next = NULL;
	request->size = 0;
	request->max_reply = max_reply;
	request->deadline = now_ms() + Max(timeout_ms, 1);
	request->begun = false;
	request->lost = false;
	request->no_memory = false;
	request->no_descriptor = false;
	request->secret = target->secret;
	request->curl_error[0] = '\0';
	request->done = done;
	request->arg = arg;
	ok = use_authorities(request, target->ca_file);
	if (strncmp(target->url, "https:", 6) == 0)
		aws_authorities_set_age(&request->authorities, request->easy, now_ms());
	for (int i = 0; i < nheaders && ok; i++)
	{
		struct curl_slist *longer = curl_slist_append(request->headers, headers[i]);

		ok = longer != NULL;
		if (ok)
			request->headers = longer;
	}

	ok = ok &&
		curl_easy_setopt(request->easy, CURLOPT_URL, target->url) == CURLE_OK &&
	/* "" stands for no proxy; NULL for what the environment says */
		curl_easy_setopt(request->easy, CURLOPT_PROXY, target->direct ? "" : NULL) == CURLE_OK &&
		curl_easy_setopt(request->easy, CURLOPT_HTTPHEADER, request->headers) == CURLE_OK &&
		set_method(request->easy, method, body, body_len) &&
		curl_easy_setopt(request->easy, CURLOPT_CONNECTTIMEOUT_MS, connect_ms) == CURLE_OK &&
		curl_easy_setopt(request->easy, CURLOPT_TIMEOUT_MS, Max(timeout_ms, 1)) == CURLE_OK &&
		curl_multi_add_handle(pool->multi, request->easy) == CURLM_OK;
	if (!ok)
	{
		free_contents(request);
		request->next = pool->idle;
		pool->idle = request;
		request = NULL;
	}
	else
		request->running = true;
	restore_signals(&saved);
	return request;
}

/* Drop what belongs to one request, and keep the handle for another. */
static void
recycle(HttpRequest *request)
{
	release_resolver(request);
	free_contents(request);
	request->next = request->pool->idle;
	request->pool->idle = request;
}

/*
 * The done function is not called, not even if the request has ended already.
 */
void
http_cancel(HttpRequest *request)
{
	HttpPool   *pool = request->pool;
	sigset_t	saved;

	block_signals(&saved);
	if (request->running)
	{
		curl_multi_remove_handle(pool->multi, request->easy);
		request->running = false;
	}
	else
	{
		/* finished, and waiting for its completion */
		HttpRequest **link = &pool->finished;

		while (*link != NULL && *link != request)
			link = &(*link)->next;
		if (*link == request)
			*link = request->next;
		pool->finished_tail = &pool->finished;
		while (*pool->finished_tail != NULL)
			pool->finished_tail = &(*pool->finished_tail)->next;
	}
	recycle(request);
	restore_signals(&saved);
}

/*
 * Several of libcurl's codes can stand for the same fault, depending on when
 * libcurl notices it and on its version.  Report one code for each fault,
 * because a repeated error is logged only once for each code.
 */
static int
representative(CURLcode result)
{
	switch (result)
	{
		case CURLE_UNSUPPORTED_PROTOCOL:	/* "Received HTTP/0.9" */
		case CURLE_WEIRD_SERVER_REPLY:
			return CURLE_WEIRD_SERVER_REPLY;
		case CURLE_GOT_NOTHING: /* the connection was closed, */
		case CURLE_SEND_ERROR:	/* or reset */
		case CURLE_RECV_ERROR:
			return CURLE_GOT_NOTHING;
		default:
			return result;
	}
}

/*
 * libcurl's text, or its general one for the result where there is none.  What
 * it says about a proxy's URL that it does not understand ("Unsupported proxy
 * syntax in ...") quotes that URL, which may hold a password.
 */
static const char *
curl_text(const HttpRequest *request)
{
	if (strstr(request->curl_error, "nsupported proxy") != NULL)
		return "the proxy that the environment asks for is not a URL that libcurl supports";
	return request->curl_error[0] ? request->curl_error :
		curl_easy_strerror(request->result);
}

/* Fill reply.error from libcurl's result, which is not CURLE_OK. */
static void
set_curl_error(HttpRequest *request)
{
	HttpReply  *reply = &request->reply;
	AwsErrorClass class = AWS_ERROR_TRANSIENT;
	char		code[32];

	if (request->lost)
		request->result = CURLE_GOT_NOTHING;	/* not how we ended the
												 * repetition */

	/* the last of several addresses may have failed for another reason */
	if (request->no_descriptor && !reply->sent)
	{
		aws_error_set(&reply->error, AWS_ERROR_RESOURCES, "NoDescriptors", "%s",
					  no_descriptor_text);
		return;
	}

	switch (request->result)
	{
		case CURLE_OPERATION_TIMEDOUT:

			/* the connect timeout, unlike our deadline, leaves time to retry */
			if (now_ms() >= request->deadline)
				class = AWS_ERROR_TIMEOUT;
			break;
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_URL_MALFORMAT:
			class = AWS_ERROR_CONFIGURATION;
			break;
		case CURLE_OUT_OF_MEMORY:
			class = AWS_ERROR_RESOURCES;
			break;
		default:
			if (request->no_memory)
				class = AWS_ERROR_RESOURCES;
			break;
	}
	snprintf(code, sizeof(code), "Curl%d", representative(request->result));
	if (reply->too_large)
		aws_error_set(&reply->error, class, code, "the reply is larger than %zu bytes",
					  request->max_reply);
	else if (request->no_memory)
		aws_error_set(&reply->error, class, code, "out of memory for the reply");
	else if (request->result == CURLE_GOT_NOTHING || request->result == CURLE_SEND_ERROR)
		aws_error_set(&reply->error, class, code, "the connection was closed before there was a reply");
	else
		aws_error_set(&reply->error, class, code, "%s", curl_text(request));
}

/* Let libcurl do what its timer says is due, if that is so. */
static void
run_timer(HttpPool *pool)
{
	int			running;

	if ((pool->timer_at < 0 || pool->timer_at > now_ms()) && !pool->epoll_failed)
		return;
	pool->timer_at = -1;
	pool->epoll_failed = false;
	curl_multi_socket_action(pool->multi, CURL_SOCKET_TIMEOUT, 0, &running);
}

/* Move the requests that have ended to the finished list. */
static void
collect_finished(HttpPool *pool)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(pool->multi, &left)) != NULL)
	{
		HttpRequest *request;
		long		status = 0;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &request);
		request->result = message->data.result;
		curl_multi_remove_handle(pool->multi, request->easy);
		if (try_other_authorities(request))
			continue;
		if (request->result == CURLE_OK)
			aws_authorities_trusted(&request->authorities);
		curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
		request->reply.status = request->result == CURLE_OK ? (int) status : 0;
		request->reply.sent = has_left(request);
		if (request->result != CURLE_OK)
			set_curl_error(request);
		request->running = false;
		request->next = NULL;
		*pool->finished_tail = request;
		pool->finished_tail = &request->next;
	}
}

/*
 * libcurl starts new requests when its timer is due, which is at once.  No done
 * function is called here; for a request that fails at once, that is left to
 * the next poll.
 */
void
http_pool_start(HttpPool *pool)
{
	sigset_t	saved;

	block_signals(&saved);
	run_timer(pool);
	collect_finished(pool);
	restore_signals(&saved);
}

/*
 * Does not wait.  Requests that end go to the finished list while signals are
 * blocked; their done functions run after that.  If one of them raises an
 * error, the rest stay in the list for the next call.
 */
void
http_pool_poll(HttpPool *pool)
{
	struct epoll_event events[MAX_EVENTS];
	sigset_t	saved;
	int			running;
	int			n;

	block_signals(&saved);
	n = epoll_wait(pool->epoll, events, lengthof(events), 0);
	/* first, so that no request starts on a connection that has ended */
	for (int i = 0; i < n; i++)
	{
		if (events[i].data.fd < 0)
			drain_closed(IDLE_FD(events[i].data.fd));
	}
	for (int i = 0; i < n; i++)
	{
		int			bits = 0;

		if (events[i].data.fd < 0)
			continue;
		if (events[i].events & (EPOLLIN | EPOLLHUP))
			bits |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			bits |= CURL_CSELECT_OUT;
		if (events[i].events & EPOLLERR)
			bits |= CURL_CSELECT_ERR;
		curl_multi_socket_action(pool->multi, events[i].data.fd, bits, &running);
	}
	run_timer(pool);
	collect_finished(pool);
	restore_signals(&saved);

	/* done functions may raise errors, start requests and cancel others */
	while (pool->finished != NULL)
	{
		HttpRequest *request = pool->finished;
		HttpReply	reply = request->reply;

		pool->finished = request->next;
		if (pool->finished == NULL)
			pool->finished_tail = &pool->finished;
		request->reply.body = NULL;
		recycle(request);
		request->done(&reply, request->arg);
	}
}
