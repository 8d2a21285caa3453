/*-------------------------------------------------------------------------
 *
 * server.h
 *	  What the parts of sqsd around the store share: requests, replies, API
 *	  errors, faults, signatures and options.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SQSD_SERVER_H
#define SQSD_SERVER_H

#include <jansson.h>

#include "store.h"

#define SQSD_VERSION		"1.0"
#define MAX_REQUEST_BYTES	(64 * 1024 * 1024)

struct MHD_Connection;

/* ---- options (main.c) ---- */

typedef struct Options
{
	const char *listen;
	int			port;
	const char *port_file;
	const char *region;
	const char *account;
	const char *tls_cert;
	const char *tls_key;
	const char *session_token;
	const char *expired_token;
	int			skew_limit;		/* seconds */
	bool		no_cooldown;
	bool		quiet;
} Options;

extern Options options;

/* ---- API errors (api.c) ---- */

typedef enum ErrorCode
{
	ERR_NONE,
	ERR_QUEUE_DOES_NOT_EXIST,
	ERR_INVALID_MESSAGE_CONTENTS,
	ERR_INVALID_PARAMETER_VALUE,
	ERR_MISSING_PARAMETER,
	ERR_INVALID_ATTRIBUTE_NAME,
	ERR_INVALID_ATTRIBUTE_VALUE,
	ERR_EMPTY_BATCH,
	ERR_TOO_MANY_ENTRIES,
	ERR_IDS_NOT_DISTINCT,
	ERR_INVALID_BATCH_ID,
	ERR_BATCH_TOO_LONG,
	ERR_RECEIPT_HANDLE_INVALID,
	ERR_MESSAGE_NOT_INFLIGHT,
	ERR_QUEUE_NAME_EXISTS,
	ERR_QUEUE_DELETED_RECENTLY,
	ERR_PURGE_IN_PROGRESS,
	ERR_OVER_LIMIT,
	ERR_REQUEST_THROTTLED,
	ERR_KMS_THROTTLED,
	ERR_KMS_ACCESS_DENIED,
	ERR_KMS_DISABLED,
	ERR_KMS_INVALID_STATE,
	ERR_KMS_NOT_FOUND,
	ERR_KMS_OPT_IN,
	ERR_KMS_INVALID_KEY_USAGE,
	ERR_INVALID_ADDRESS,
	ERR_INVALID_SECURITY,
	ERR_UNSUPPORTED_OPERATION,
	ERR_ACCESS_DENIED,
	ERR_UNRECOGNIZED_CLIENT,
	ERR_INVALID_SIGNATURE,
	ERR_EXPIRED_TOKEN,
	ERR_MISSING_TOKEN,
	ERR_INCOMPLETE_SIGNATURE,
	ERR_REQUEST_EXPIRED,
	ERR_UNKNOWN_OPERATION,
	ERR_SERIALIZATION,
	ERR_THROTTLING,
	ERR_INTERNAL_FAILURE,
	ERR_SERVICE_UNAVAILABLE,
	ERR_LAST
} ErrorCode;

typedef struct ErrorDef
{
	const char *shape;			/* with its namespace, as in __type */
	const char *query_code;
	int			status;
} ErrorDef;

extern const ErrorDef error_defs[ERR_LAST];

typedef struct ApiError
{
	ErrorCode	code;
	char		message[2048];
} ApiError;

/* Fills in the error and returns false, for "return api_error(...)". */
extern bool api_error(ApiError *error, ErrorCode code, const char *fmt,...) __attribute__((format(printf, 3, 4)));
extern ErrorCode error_by_name(const char *name);

/* ---- faults (fault.c) ---- */

typedef enum FaultKind
{
	FAULT_LATENCY,
	FAULT_ERROR,
	FAULT_RESET_BEFORE,
	FAULT_RESET_AFTER,
	FAULT_TRUNCATE,
	FAULT_GARBAGE,
	FAULT_HUGE,
	FAULT_DUPLICATE,
	FAULT_CLOCK,
	FAULT_ENTRY_FAIL,
	FAULT_BLACKHOLE,
	FAULT_LOSE_REPLY,
	FAULT_BAD_MD5,
	FAULT_FEW,
	FAULT_IDLE_CLOSE,
	FAULT_KIND_COUNT
} FaultKind;

typedef struct FaultRule
{
	struct FaultRule *next;
	int			id;
	FaultKind	kind;
	Action		action;
	bool		any_action;
	char	   *queue;			/* NULL = any */
	char	   *group;			/* entry_fail: entries of this message group; NULL = all */
	int64_t		count;
	int64_t		skip;
	double		probability;
	int64_t		matched;
	int64_t		fired;
	bool		nonempty;		/* do not fire for a receive without messages */
	json_int_t	number;			/* ms, bytes, seconds or every */
	bool		flag;			/* raw, same_reply or sender_fault */
	int			status;
	char	   *code;
	char	   *message;
	char	   *body;
	int64_t		entries;		/* entry_fail: entries counted so far */
} FaultRule;

/*
 * What shall happen to one request.  A rule of a kind is only kept by its id,
 * as a request may wait for longer than the rule lives.
 */
typedef struct FaultPlan
{
	int			reply_rule;		/* ids of rules, 0 for none: of the reply, */
	int			duplicate_rule;
	int			md5_rule;
	FaultKind	reply_kind;
	bool		has_reply_fault;
	bool		duplicate;
	bool		same_reply;
	bool		bad_md5;
	int64_t		few;			/* messages at most; 0: as many as asked for */
	bool		raw;
	int64_t		latency_ms;
	int64_t		bytes;
	int64_t		clock_shift;	/* seconds */
	int64_t		idle_seconds;	/* until the connection is closed; 0: it is kept */
	FaultRule  *error_rule;		/* these two only while the plan is fresh */
	FaultRule  *entry_rule;
} FaultPlan;

extern void fault_plan(FaultPlan *plan, Action action, const char *queue_name);
extern void fault_unfire(FaultPlan *plan);
extern void fault_recheck(FaultPlan *plan);
extern bool fault_entry_fails(FaultPlan *plan, const char *group);
extern bool fault_add(const json_t *spec, int *id, char *problem, size_t size);
extern bool fault_remove(int id);
extern void fault_remove_all(void);
extern void fault_list(StrBuf *sb);

/* ---- requests (http.c) ---- */

typedef enum RequestPhase
{
	PHASE_READING,
	PHASE_POLLING,				/* a long poll, in its queue's waiters */
	PHASE_DELAYED,				/* reply complete, to be sent later */
	PHASE_HELD,					/* never to be answered */
	PHASE_READY,				/* reply complete */
	PHASE_ABORT					/* close the connection without a reply */
} RequestPhase;

typedef struct ReceiveSpec
{
	int			max;
	int			visibility;
	unsigned	system_names;	/* bits by SystemAttribute */
	json_t	   *names;			/* message attribute names, or NULL */
} ReceiveSpec;

typedef struct AccessKey AccessKey;

typedef struct Request
{
	HeapNode	timer;			/* end of a poll or delay; must be first */
	struct MHD_Connection *connection;
	int			fd;
	RequestPhase phase;
	bool		post;
	bool		suspended;
	bool		parked;			/* was suspended at least once */
	bool		watched;		/* fd is in the epoll set for hang-ups */
	StrBuf		body;
	Action		action;
	FaultPlan	plan;
	const AccessKey *caller;	/* who signed it; NULL: nobody that is known */

	/* the reply */
	int			status;
	const char *content_type;
	char		query_error[128];
	StrBuf		reply;

	/* long poll */
	Queue	   *queue;
	ReceiveSpec receive;
	struct Request *wait_prev;
	struct Request *wait_next;

	/* all suspended requests */
	struct Request *susp_prev;
	struct Request *susp_next;
} Request;

typedef struct ServerStats
{
	int64_t		start_ms;
	int64_t		connections_open;
	int64_t		connections_total;
	int64_t		calls[ACTION_UNKNOWN + 1];
	int64_t		errors;
	int64_t		auth_failures;
} ServerStats;

extern ServerStats server_stats;

extern bool http_start(void);
extern void http_loop(void);
extern void http_stop(void);
extern const char *http_header(Request *req, const char *name);
extern void http_finish(Request *req);
extern void http_poll_begin(Request *req, int64_t deadline);
extern bool http_client_gone(const Request *req);
extern time_t http_clock(const FaultPlan *plan);

/* ---- the SQS API (api*.c) ---- */

extern void api_handle(Request *req);
extern void api_poll_timeout(Request *req);
extern void api_poll_leave(Request *req);
extern void api_poll_abandoned(Request *req);
extern void api_serve_polls(void);
extern void api_reply_error(Request *req, const ApiError *error);
extern const char *queue_name_of_url(const char *url);

/* Typed access to request members; absent and null are the same. */
extern bool get_string(const json_t *in, const char *name, const char **value,
					   size_t *len, ApiError *error);
extern bool get_int(const json_t *in, const char *name, int absent, json_int_t *value,
					ApiError *error);
extern bool get_array(const json_t *in, const char *name, json_t **value, ApiError *error);
extern bool get_object(const json_t *in, const char *name, json_t **value, ApiError *error);
extern bool missing_parameter(ApiError *error, const char *name);

/* Batches: the frame which all three have in common. */
typedef bool (*BatchEntry) (Request *req, Queue *queue, const json_t *entry,
							StrBuf *out, ApiError *error);
extern bool batch_check(const json_t *in, const char *what, json_t **entries, ApiError *error);
extern void batch_run(Request *req, Queue *queue, json_t *entries, BatchEntry run);

extern bool api_send(Request *req, Queue *queue, const json_t *in, ApiError *error);
extern bool api_send_batch(Request *req, Queue *queue, const json_t *in, ApiError *error);
extern bool api_receive(Request *req, Queue *queue, const json_t *in, ApiError *error);
extern bool api_delete(Request *req, Queue *queue, const json_t *in, ApiError *error);
extern bool api_delete_batch(Request *req, Queue *queue, const json_t *in, ApiError *error);
extern bool api_change(Request *req, Queue *queue, const json_t *in, ApiError *error);
extern bool api_change_batch(Request *req, Queue *queue, const json_t *in, ApiError *error);
extern bool api_get_url(Request *req, Queue *queue, const json_t *in, ApiError *error);
extern bool api_get_attributes(Request *req, Queue *queue, const json_t *in, ApiError *error);
extern bool api_set_attributes(Request *req, Queue *queue, const json_t *in, ApiError *error);
extern bool api_create(Request *req, Queue *queue, const json_t *in, ApiError *error);
extern bool api_delete_queue(Request *req, Queue *queue, const json_t *in, ApiError *error);
extern bool api_purge(Request *req, Queue *queue, const json_t *in, ApiError *error);
extern bool api_list(Request *req, Queue *queue, const json_t *in, ApiError *error);

extern bool config_set(QueueConfig *config, const char *name, const char *value,
					   bool creating, ApiError *error);
extern bool queue_name_valid(const char *name);
extern void sb_sequence(StrBuf *sb, uint64_t sequence);

/* ---- signatures (sigv4.c) ---- */

struct AccessKey
{
	AccessKey  *next;
	char	   *id;
	char	   *secret;
	char	   *token;			/* NULL: of an option, and for ever */
	char	   *identity;		/* whose it is: an ARN */
	Action		source;			/* by which it was issued */
	int64_t		issued_ms;		/* by the store's clock */
	int64_t		expires_ms;
	int64_t		uses;
	char		cached_date[9]; /* for which signing_key was derived */
	char		cached_service[8];
	unsigned char signing_key[32];
};

extern void sigv4_add_key(const char *id, const char *secret);
extern AccessKey *sigv4_issue(const char *identity, Action source, int64_t life_ms,
							  int token_length);
extern AccessKey *sigv4_keys(void);
extern bool sigv4_check(Request *req, const char *service, ApiError *error);
extern void sigv4_stop(void);

/* ---- identities (identity.c, sts.c, metadata.c) ---- */

/* Which role may be assumed, and how. */
typedef struct RoleRule
{
	struct RoleRule *next;
	char	   *arn;
	char	   *external_id;	/* NULL: none is wanted */
	char	   *by;				/* ARN of who may assume it; NULL: anybody */
} RoleRule;

typedef struct IdentityConfig
{
	int			life;			/* of keys, in seconds; 0: as asked for, or an
								 * hour */
	int			token_length;
	int			metadata_age;	/* so long ago, metadata's keys have expired */
	char	   *web_token;		/* accepted; NULL: any */
	char	   *expired_web_token;
	char	   *container_token;	/* wanted as Authorization; NULL: none */
	char	   *instance_role;	/* NULL: there is none */
	char	   *region;			/* told by metadata; NULL: ours */
	RoleRule   *roles;			/* NULL: any may be assumed */
} IdentityConfig;

extern IdentityConfig identity_config;

extern void identity_start(void);
extern void identity_stop(void);
extern bool identity_handle(Request *req, const char *path, const char *method);
extern void identity_count(Action action, const char *identity);
extern void identity_admin(Request *req, const char *method, const json_t *in);
extern void identity_reset(void);
extern AccessKey *identity_issue(Action source, const char *identity, int asked_life);
extern void identity_time(StrBuf *sb, time_t when);

extern Action sts_action(const Request *req, char **role);
extern void sts_run(Request *req);
extern void sts_error(Request *req, int status, const char *code, const char *message);
extern Action metadata_action(const char *path, const char *method);
extern void metadata_run(Request *req, const char *path, const char *method);
extern void metadata_error(Request *req, int status, const char *code, const char *message);
extern void metadata_forget_tokens(void);

/* ---- admin calls (admin.c) ---- */

extern void admin_handle(Request *req, const char *path, const char *method);
extern void admin_problem(Request *req, int status, const char *text);
extern void admin_argument(Request *req, const char *name, const char **value);

#endif							/* SQSD_SERVER_H */
