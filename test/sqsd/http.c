/*-------------------------------------------------------------------------
 *
 * http.c
 *	  The HTTP front: libmicrohttpd driven by our own epoll loop.
 *
 * A request whose reply cannot be given at once (a long poll, a delayed reply
 * or one that will never come) is suspended; it sits in the timer heap if it
 * has an end, and its socket is watched for hang-ups meanwhile, since
 * libmicrohttpd does not look at suspended connections.  http_finish
 * completes a request in any phase: it applies the faults of the reply and
 * lets libmicrohttpd call us once more to queue it.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include "server.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTION_MEMORY (64 * 1024)

static struct MHD_Daemon *http_daemon;
static int	epoll_fd = -1;
static int	signal_fd = -1;
static Heap timers;				/* of suspended requests, by monotonic time */
static Request *suspended;
static char *tls_cert_text;
static char *tls_key_text;

/* Marks in epoll data; anything else is a Request */
static char mhd_mark;
static char signal_mark;

ServerStats server_stats;

const char *
http_header(Request *req, const char *name)
{
	return MHD_lookup_connection_value(req->connection, MHD_HEADER_KIND, name);
}

void
admin_argument(Request *req, const char *name, const char **value)
{
	*value = MHD_lookup_connection_value(req->connection, MHD_GET_ARGUMENT_KIND, name);
}

/* The time as the Date header and the check of signatures see it */
time_t
http_clock(const FaultPlan *plan)
{
	return time(NULL) + (time_t) plan->clock_shift;
}

/* Has the client closed its side? */
bool
http_client_gone(const Request *req)
{
	struct pollfd pfd = {.fd = req->fd,.events = POLLRDHUP};

	return poll(&pfd, 1, 0) > 0 && (pfd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

static void
suspend(Request *req, RequestPhase phase)
{
	struct epoll_event event = {.events = EPOLLRDHUP,.data.ptr = req};

	req->phase = phase;
	if (req->suspended)
		return;
	req->suspended = req->parked = true;
	req->susp_prev = NULL;
	req->susp_next = suspended;
	if (suspended)
		suspended->susp_prev = req;
	suspended = req;
	req->watched = epoll_ctl(epoll_fd, EPOLL_CTL_ADD, req->fd, &event) == 0;
	MHD_suspend_connection(req->connection);
}

static void
unwatch(Request *req)
{
	if (req->watched)
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, req->fd, NULL);
	req->watched = false;
}

/*
 * Turns of the loop that must not wait.  A connection resumed while
 * MHD_run() is on the stack is taken up by the next run only, and answered by
 * the one after; libmicrohttpd's own timeout does not always say so.
 */
static int	eager_turns = 0;

static void
resume(Request *req)
{
	if (!req->suspended)
		return;
	eager_turns = 3;
	req->suspended = false;
	heap_remove(&timers, &req->timer);
	unwatch(req);
	if (req->susp_prev)
		req->susp_prev->susp_next = req->susp_next;
	else
		suspended = req->susp_next;
	if (req->susp_next)
		req->susp_next->susp_prev = req->susp_prev;
	MHD_resume_connection(req->connection);
}

/* Let the request wait until deadline (monotonic milliseconds). */
void
http_poll_begin(Request *req, int64_t deadline)
{
	suspend(req, PHASE_POLLING);
	heap_add(&timers, &req->timer, deadline);
}

/*
 * The request's outcome is settled: the reply is complete, or the phase is
 * PHASE_ABORT.
 */
void
http_finish(Request *req)
{
	const FaultPlan *plan = &req->plan;

	if (req->phase == PHASE_ABORT)
	{
		resume(req);
		return;
	}
	if (plan->has_reply_fault && plan->reply_kind == FAULT_BLACKHOLE)
	{
		heap_remove(&timers, &req->timer);
		suspend(req, PHASE_HELD);
		return;
	}
	if (plan->latency_ms > 0)
	{
		suspend(req, PHASE_DELAYED);
		heap_add(&timers, &req->timer, mono_ms() + plan->latency_ms);
		return;
	}
	req->phase = PHASE_READY;
	resume(req);
}

static void
run_timers(void)
{
	int64_t		now = mono_ms();
	HeapNode   *node;

	while ((node = heap_first(&timers)) != NULL && node->due <= now)
	{
		Request    *req = (Request *) node;

		heap_remove(&timers, node);
		if (req->phase == PHASE_POLLING)
			api_poll_timeout(req);
		else
		{
			req->phase = PHASE_READY;
			resume(req);
		}
	}
}

/*
 * The client of a suspended request has hung up.  A delayed reply stays
 * where it is: its work is done and writing it will fail soon enough.
 */
static void
client_hung_up(Request *req)
{
	if (req->phase == PHASE_POLLING)
		api_poll_abandoned(req);
	else if (req->phase != PHASE_HELD)
	{
		unwatch(req);
		return;
	}
	req->phase = PHASE_ABORT;
	resume(req);
}

/*
 * Close with a TCP reset.  Dissolving the association does this at once,
 * where SO_LINGER would only act after libmicrohttpd's orderly shutdown.
 */
static void
reset_connection(int fd)
{
	struct sockaddr none = {.sa_family = AF_UNSPEC};

	(void) connect(fd, &none, sizeof(none));
}

/* A body that is cut off: a callback which ends with an error */
typedef struct CutBody
{
	char	   *data;
	size_t		len;
} CutBody;

static ssize_t
cut_reader(void *arg, uint64_t pos, char *buf, size_t max)
{
	CutBody    *cut = arg;

	if (pos >= cut->len)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (max > cut->len - pos)
		max = cut->len - pos;
	memcpy(buf, cut->data + pos, max);
	return (ssize_t) max;
}

static void
cut_free(void *arg)
{
	CutBody    *cut = arg;

	free(cut->data);
	free(cut);
}

static struct MHD_Response *
truncated_response(Request *req)
{
	CutBody    *cut;
	uint64_t	full = req->reply.len;

	/* At least one byte must be missing. */
	cut = xcalloc(1, sizeof(CutBody));
	cut->len = (uint64_t) req->plan.bytes < full ? (size_t) req->plan.bytes : full - 1;
	cut->data = req->reply.data;
	memset(&req->reply, 0, sizeof(req->reply));
	return MHD_create_response_from_callback(full, 16 * 1024, cut_reader, cut, cut_free);
}

/* A huge body, made as it is sent: {"pad":"xxxx..."} */
static const char huge_head[] = "{\"pad\":\"";

static ssize_t
huge_reader(void *arg, uint64_t pos, char *buf, size_t max)
{
	uint64_t	size = (uint64_t) (uintptr_t) arg;
	size_t		head = sizeof(huge_head) - 1;
	size_t		count = 0;

	if (max > size - pos)
		max = (size_t) (size - pos);
	for (; count < max && pos < head; count++)
		buf[count] = huge_head[pos++];
	memset(buf + count, 'x', max - count);
	pos += max - count;
	if (pos >= size - 1 && max >= 2)
	{
		buf[max - 1] = '}';
		buf[max - 2] = '"';
	}
	return (ssize_t) max;
}

static void
add_headers(Request *req, struct MHD_Response *response)
{
	static time_t date_time;
	static char date_text[64];
	time_t		now = http_clock(&req->plan);
	unsigned char id[16];
	char		text[37];
	StrBuf		sb = {text, 0, sizeof(text)};

	if (now != date_time)
	{
		struct tm	tm;

		gmtime_r(&now, &tm);
		strftime(date_text, sizeof(date_text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
		date_time = now;
	}
	random_uuid(id);
	sb_uuid(&sb, id);
	text[36] = '\0';
	MHD_add_response_header(response, "x-amzn-RequestId", text);
	MHD_add_response_header(response, "Date", date_text);
	MHD_add_response_header(response, "Content-Type", req->content_type);
	if (req->query_error[0] != '\0')
		MHD_add_response_header(response, "x-amzn-query-error", req->query_error);
}

/* Queue the reply, or do to the connection what a fault demands. */
static enum MHD_Result
send_reply(Request *req)
{
	struct MHD_Response *response;
	enum MHD_Result result;
	FaultKind	fault = req->plan.has_reply_fault ? req->plan.reply_kind : FAULT_KIND_COUNT;

	switch (fault)
	{
		case FAULT_RESET_BEFORE:
		case FAULT_RESET_AFTER:
			reset_connection(req->fd);
			return MHD_NO;
		case FAULT_LOSE_REPLY:
			return MHD_NO;
		case FAULT_GARBAGE:
			if (req->plan.raw)
			{
				static const char noise[] = "\x16\x03\x00\xff\xfe this is not HTTP \x00\x01\r\n\r\n";

				(void) !send(req->fd, noise, sizeof(noise), MSG_NOSIGNAL | MSG_DONTWAIT);
				return MHD_NO;
			}
			req->reply.len = 0;
			sb_lit(&req->reply, "<<<this is [not JSON}}}");
			req->status = 200;
			req->query_error[0] = '\0';
			break;
		default:
			break;
	}

	if (req->status >= 400)
		server_stats.errors++;
	/* An injected error may have an empty body on purpose. */
	if (fault != FAULT_ERROR && req->reply.len == 0)
		sb_lit(&req->reply, "{}");

	if (fault == FAULT_TRUNCATE)
		response = truncated_response(req);
	else if (fault == FAULT_HUGE)
	{
		req->status = 200;
		response = MHD_create_response_from_callback((uint64_t) req->plan.bytes, 32 * 1024,
													 huge_reader,
													 (void *) (uintptr_t) req->plan.bytes, NULL);
	}
	else
	{
		response = MHD_create_response_from_buffer(req->reply.len, req->reply.data,
												   MHD_RESPMEM_MUST_FREE);
		if (response != NULL)
			memset(&req->reply, 0, sizeof(req->reply));
	}
	if (response == NULL)
		return MHD_NO;
	add_headers(req, response);
	if (req->plan.idle_seconds > 0)
		MHD_set_connection_option(req->connection, MHD_CONNECTION_OPTION_TIMEOUT,
								  (unsigned) req->plan.idle_seconds);
	result = MHD_queue_response(req->connection, (unsigned) req->status, response);
	MHD_destroy_response(response);
	return result;
}

/* The request is complete: run it. */
static void
run_request(Request *req, const char *path, const char *method)
{
	if (strncmp(path, "/_sqsd/", 7) == 0)
		admin_handle(req, path, method);
	else if (identity_handle(req, path, method))
		;
	else if (strcmp(method, "POST") == 0)
		api_handle(req);
	else
	{
		ApiError	error;

		req->content_type = "application/x-amz-json-1.0";
		api_error(&error, ERR_UNKNOWN_OPERATION, "This is sqsd, a test server; it takes POST only.");
		api_reply_error(req, &error);
		http_finish(req);
	}
	api_serve_polls();
}

static enum MHD_Result
on_request(void *cls, struct MHD_Connection *connection, const char *path, const char *method,
		   const char *version, const char *upload, size_t *upload_size, void **state)
{
	Request    *req = *state;

	(void) cls;
	(void) version;
	if (req == NULL)
	{
		const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
		const char *length;

		req = xcalloc(1, sizeof(Request));
		req->connection = connection;
		req->fd = info->connect_fd;
		*state = req;
		length = http_header(req, "Content-Length");
		if (length != NULL)
		{
			unsigned long long announced = strtoull(length, NULL, 10);

			/*
			 * Refuse what is too big before it comes, and do not let anybody
			 * make us reserve much with a mere header.
			 */
			if (announced > MAX_REQUEST_BYTES)
				return MHD_NO;
			sb_grow(&req->body, announced < 65536 ? announced + 1 : 65536);
		}
		return MHD_YES;
	}
	switch (req->phase)
	{
		case PHASE_READING:
			if (*upload_size > 0)
			{
				if (req->body.len + *upload_size > MAX_REQUEST_BYTES)
					return MHD_NO;
				sb_append(&req->body, upload, *upload_size);
				*upload_size = 0;
				return MHD_YES;
			}
			run_request(req, path, method);
			return req->parked ? MHD_YES : send_reply(req);
		case PHASE_READY:
			return send_reply(req);
		case PHASE_ABORT:
			return MHD_NO;
		default:
			return MHD_YES;		/* still suspended */
	}
}

static void
on_completed(void *cls, struct MHD_Connection *connection, void **state,
			 enum MHD_RequestTerminationCode code)
{
	Request    *req = *state;

	(void) cls;
	(void) connection;
	(void) code;
	if (req == NULL)
		return;
	heap_remove(&timers, &req->timer);
	json_decref(req->receive.names);
	sb_free(&req->body);
	sb_free(&req->reply);
	free(req);
	*state = NULL;
}

static void
on_connection(void *cls, struct MHD_Connection *connection, void **state,
			  enum MHD_ConnectionNotificationCode code)
{
	(void) cls;
	(void) state;
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
	{
		const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
		int			on = 1;

		setsockopt(info->connect_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		server_stats.connections_open++;
		server_stats.connections_total++;
	}
	else
		server_stats.connections_open--;
}

static char *
read_file(const char *path)
{
	StrBuf		sb = {0};
	FILE	   *file = fopen(path, "r");
	char		buf[4096];
	size_t		len;

	if (file == NULL)
	{
		fprintf(stderr, "sqsd: could not read \"%s\": %s\n", path, strerror(errno));
		return NULL;
	}
	while ((len = fread(buf, 1, sizeof(buf), file)) > 0)
		sb_append(&sb, buf, len);
	fclose(file);
	return sb_cstr(&sb);
}

/* Tell those who started us the port, never showing them half a file. */
static bool
write_port_file(int port)
{
	char		temp[4096];
	FILE	   *file;

	if (options.port_file == NULL)
		return true;
	snprintf(temp, sizeof(temp), "%s.tmp", options.port_file);
	file = fopen(temp, "w");
	if (file == NULL || fprintf(file, "%d\n", port) < 0 || fclose(file) != 0 ||
		rename(temp, options.port_file) != 0)
	{
		fprintf(stderr, "sqsd: could not write \"%s\": %s\n", options.port_file, strerror(errno));
		return false;
	}
	return true;
}

bool
http_start(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t	address_len = sizeof(address);
	unsigned	flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_SUPPRESS_DATE_NO_CLOCK;
	struct MHD_OptionItem tls[] = {
		{MHD_OPTION_END, 0, NULL},
		{MHD_OPTION_END, 0, NULL},
		{MHD_OPTION_END, 0, NULL}
	};
	const union MHD_DaemonInfo *info;
	struct epoll_event event = {.events = EPOLLIN};
	sigset_t	signals;

	server_stats.start_ms = mono_ms();
	address.sin_port = htons((uint16_t) options.port);
	if (inet_pton(AF_INET, options.listen, &address.sin_addr) != 1)
	{
		fprintf(stderr, "sqsd: \"%s\" is not an IPv4 address\n", options.listen);
		return false;
	}
	if (options.tls_cert != NULL)
	{
		tls_cert_text = read_file(options.tls_cert);
		tls_key_text = read_file(options.tls_key);
		if (tls_cert_text == NULL || tls_key_text == NULL)
			return false;
		flags |= MHD_USE_TLS;
		tls[0] = (struct MHD_OptionItem) {MHD_OPTION_HTTPS_MEM_CERT, 0, tls_cert_text};
		tls[1] = (struct MHD_OptionItem) {MHD_OPTION_HTTPS_MEM_KEY, 0, tls_key_text};
	}
	http_daemon = MHD_start_daemon(flags, (uint16_t) options.port, NULL, NULL, on_request, NULL,
								   MHD_OPTION_SOCK_ADDR, (struct sockaddr *) &address,
								   MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
								   MHD_OPTION_NOTIFY_CONNECTION, on_connection, NULL,
								   MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) CONNECTION_MEMORY,
								   MHD_OPTION_CONNECTION_LIMIT, 15000u,
								   MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u,
								   MHD_OPTION_ARRAY, tls,
								   MHD_OPTION_END);
	if (http_daemon == NULL)
	{
		fprintf(stderr, "sqsd: could not listen on %s:%d\n", options.listen, options.port);
		return false;
	}
	info = MHD_get_daemon_info(http_daemon, MHD_DAEMON_INFO_LISTEN_FD);
	if (getsockname(info->listen_fd, (struct sockaddr *) &address, &address_len) != 0)
		return false;

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	event.data.ptr = &mhd_mark;
	info = MHD_get_daemon_info(http_daemon, MHD_DAEMON_INFO_EPOLL_FD);
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, info->epoll_fd, &event);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	event.data.ptr = &signal_mark;
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, signal_fd, &event);

	printf("sqsd: listening on %s://%s:%d\n", options.tls_cert ? "https" : "http",
		   options.listen, ntohs(address.sin_port));
	fflush(stdout);
	return write_port_file(ntohs(address.sin_port));
}

/* How long may epoll_wait sleep? */
static int
next_timeout(void)
{
	int64_t		timeout = store_next_due();
	HeapNode   *node = heap_first(&timers);
	MHD_UNSIGNED_LONG_LONG mhd_timeout;

	if (eager_turns > 0)
	{
		eager_turns--;
		return 0;
	}
	if (node != NULL)
	{
		int64_t		left = node->due - mono_ms();

		if (left < 0)
			left = 0;
		if (timeout < 0 || left < timeout)
			timeout = left;
	}
	if (MHD_get_timeout(http_daemon, &mhd_timeout) == MHD_YES &&
		(timeout < 0 || (int64_t) mhd_timeout < timeout))
		timeout = (int64_t) mhd_timeout;
	return timeout > 60000 || timeout < 0 ? 60000 : (int) timeout;
}

void
http_loop(void)
{
	bool		stopping = false;

	while (!stopping)
	{
		struct epoll_event events[64];
		int			count = epoll_wait(epoll_fd, events, lengthof(events), next_timeout());

		for (int i = 0; i < count; i++)
		{
			void	   *what = events[i].data.ptr;

			if (what == &signal_mark)
				stopping = true;
			else if (what != &mhd_mark)
				client_hung_up(what);
		}
		store_run_timers();
		api_serve_polls();
		run_timers();
		MHD_run(http_daemon);
	}
}

/* libmicrohttpd insists that nothing is suspended when it stops. */
void
http_stop(void)
{
	if (http_daemon != NULL)
	{
		while (suspended != NULL)
		{
			Request    *req = suspended;

			if (req->phase == PHASE_POLLING)
				api_poll_leave(req);
			req->phase = PHASE_ABORT;
			resume(req);
		}
		MHD_run(http_daemon);
		MHD_stop_daemon(http_daemon);
	}
	if (signal_fd >= 0)
		close(signal_fd);
	if (epoll_fd >= 0)
		close(epoll_fd);
	heap_free(&timers);
	free(tls_cert_text);
	free(tls_key_text);
}
