/* sqsbridge--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION sqsbridge" to load this file. \quit

/*
 * Conventions of this script.
 *
 * - Nothing is replaced and nothing is taken over that is there already: no
 *   OR REPLACE, no IF NOT EXISTS.
 * - Names are qualified, operators included, so that no object of anybody
 *   else's can slip in.
 * - Privileges stand beside each CREATE and are explicit even where they are
 *   the default.  What ALTER DEFAULT PRIVILEGES adds to tables is taken back
 *   at the end.
 * - Functions are in C and look names up in no search_path, save that the
 *   ones that take a handler's name read the caller's.
 */

/*
 * The library must have been loaded at server start.  Say so now, rather
 * than at the first use.
 */
CREATE FUNCTION @extschema@.sqsbridge_check_preloaded()
RETURNS void
AS 'MODULE_PATHNAME', 'sqsbridge_check_preloaded'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

SELECT @extschema@.sqsbridge_check_preloaded();

DROP FUNCTION @extschema@.sqsbridge_check_preloaded();


/* ------------------------------------------------------------------------
 * The internal tables
 *
 * What the bridge knows is in a schema that nobody else has USAGE on: who
 * cannot name a table cannot lock it, nor put a trigger on it.  Users see
 * views over functions, which scan the tables and decide what the caller may
 * see; a view over the tables themselves would have LOCK TABLE reach them.
 *
 * Rows are written by the library, below the executor, where no trigger,
 * policy or default has any effect.  Through SQL only superusers can write
 * them, whatever privileges anybody was granted: a guard trigger sees to that.
 * That lets a restore by a superuser pass, and nobody forge a row.
 *
 * To be dumped by whoever could dump the database before, the schema is open
 * for reading to its owner; members of pg_read_all_data can read it anyway.
 * ------------------------------------------------------------------------ */

CREATE SCHEMA sqsbridge_internal;
REVOKE ALL ON SCHEMA sqsbridge_internal FROM PUBLIC;
COMMENT ON SCHEMA sqsbridge_internal IS
'tables of the extension sqsbridge; use its views to read them and its functions to change them';

CREATE FUNCTION sqsbridge_internal.guard()
RETURNS trigger
AS 'MODULE_PATHNAME', 'sqs_guard'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION sqsbridge_internal.guard() FROM PUBLIC;
COMMENT ON FUNCTION sqsbridge_internal.guard() IS
'trigger function that lets only superusers write the tables of the extension';


/* ------------------------------------------------------------------------
 * Where to connect, and as whom
 * ------------------------------------------------------------------------ */

CREATE FUNCTION @extschema@.sqsbridge_fdw_validator(options text[], catalog oid)
RETURNS void
AS 'MODULE_PATHNAME', 'sqsbridge_fdw_validator'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
REVOKE ALL ON FUNCTION @extschema@.sqsbridge_fdw_validator(text[], oid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqsbridge_fdw_validator(text[], oid) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqsbridge_fdw_validator(text[], oid) IS
'checks the options of servers and user mappings of the foreign-data wrapper sqsbridge; PostgreSQL calls it';

CREATE FOREIGN DATA WRAPPER sqsbridge
	NO HANDLER
	VALIDATOR @extschema@.sqsbridge_fdw_validator;
REVOKE ALL ON FOREIGN DATA WRAPPER sqsbridge FROM PUBLIC;
COMMENT ON FOREIGN DATA WRAPPER sqsbridge IS
'Amazon SQS: servers say where it is (options region, endpoint, allow_http, use_fips_endpoint, use_dualstack_endpoint) and whose keys are used (option credentials: mapping, which is the default, auto, environment, web_identity, profile, container, or instance_metadata; with profile, web_identity_token_file, role_arn, external_id, role_session_name, duration_seconds, sts_endpoint); user mappings hold keys (options access_key_id, secret_access_key, session_token) and a role to assume with them (role_arn, external_id, role_session_name, duration_seconds); there are no foreign tables. USAGE on it is the right to create servers, that is, to decide which hosts the database server connects to. USAGE on a server is the right to register queues on it and to send to them, with the keys of the user mapping of the role or of PUBLIC. It is an error if there are none, unless a superuser has set the server''s option credentials: every role with USAGE on the server can then use the keys of the database server itself';


/* ------------------------------------------------------------------------
 * The handler's argument and result
 * ------------------------------------------------------------------------ */

CREATE TYPE @extschema@.sqs_message AS (
	queue text,
	message_id text,
	body text,
	attributes jsonb,
	system_attributes jsonb,
	receive_count integer,
	sent_at timestamp with time zone,
	first_received_at timestamp with time zone,
	group_id text,
	deduplication_id text,
	sequence_number numeric,
	receipt_handle text,
	attempt integer,
	envelope jsonb
);
REVOKE ALL ON TYPE @extschema@.sqs_message FROM PUBLIC;
GRANT USAGE ON TYPE @extschema@.sqs_message TO PUBLIC;
COMMENT ON TYPE @extschema@.sqs_message IS
'a message received from SQS; the one argument of a handler function, which may also be an array of them';
COMMENT ON COLUMN @extschema@.sqs_message.queue IS
'name of the queue in sqs_queues';
COMMENT ON COLUMN @extschema@.sqs_message.message_id IS
'SQS''s id of the message, the same at every delivery';
COMMENT ON COLUMN @extschema@.sqs_message.body IS
'the body, exactly as sent';
COMMENT ON COLUMN @extschema@.sqs_message.attributes IS
'the message attributes, one key each: String as a JSON string, Number as a JSON number, anything else as {"DataType": ..., "BinaryValue" (base64) or "StringValue": ...}; {} if there are none. The attribute sqsbridge-id of messages from an outbox is left out';
COMMENT ON COLUMN @extschema@.sqs_message.system_attributes IS
'attributes that SQS adds, such as SenderId or AWSTraceHeader, one key each; all values are JSON strings';
COMMENT ON COLUMN @extschema@.sqs_message.receive_count IS
'how often SQS has delivered the message, including this time: 1 or more; approximate';
COMMENT ON COLUMN @extschema@.sqs_message.sent_at IS
'when the message was sent, by SQS''s clock';
COMMENT ON COLUMN @extschema@.sqs_message.first_received_at IS
'when the message was delivered for the first time, by SQS''s clock; approximate';
COMMENT ON COLUMN @extschema@.sqs_message.group_id IS
'message group, or NULL if it has none';
COMMENT ON COLUMN @extschema@.sqs_message.deduplication_id IS
'deduplication id, given or computed by SQS; NULL if the queue is not a FIFO queue';
COMMENT ON COLUMN @extschema@.sqs_message.sequence_number IS
'SQS''s sequence number, which rises within a message group; NULL if the queue is not a FIFO queue';
COMMENT ON COLUMN @extschema@.sqs_message.receipt_handle IS
'SQS''s handle of this delivery; sqsbridge itself deletes the message and extends its visibility timeout';
COMMENT ON COLUMN @extschema@.sqs_message.attempt IS
'which attempt to handle the message this is, as this database counts them: 1 at first; failures that were not the message''s fault do not count';
COMMENT ON COLUMN @extschema@.sqs_message.envelope IS
'what was written on the envelope that the option unwrap of the queue has taken off: an object with the key kind (sns, eventbridge, s3, or s3_pointer) and others; NULL if there was none';

CREATE TYPE @extschema@.sqs_verdict AS (
	message_id text,
	action text,
	delay interval,
	reason text
);
REVOKE ALL ON TYPE @extschema@.sqs_verdict FROM PUBLIC;
GRANT USAGE ON TYPE @extschema@.sqs_verdict TO PUBLIC;
COMMENT ON TYPE @extschema@.sqs_verdict IS
'what is to become of a message of a batch; a handler that takes sqs_message[] may return a set or an array of them, and messages that are not mentioned are done';
COMMENT ON COLUMN @extschema@.sqs_verdict.message_id IS
'the message, as in sqs_message';
COMMENT ON COLUMN @extschema@.sqs_verdict.action IS
'retry, dead_letter, or discard';
COMMENT ON COLUMN @extschema@.sqs_verdict.delay IS
'for a retry: when, 0 to 12 hours from now, rounded up to seconds; NULL: as the queue''s options say';
COMMENT ON COLUMN @extschema@.sqs_verdict.reason IS
'message of the row in sqs_failures; may be NULL';


/* ------------------------------------------------------------------------
 * Configured queues
 *
 * What a queue refers to is recorded by OID and name, and where it belongs to
 * somebody with its owner, because neither proves anything alone: a restore
 * into another cluster gives a number to another role, and a name can be
 * taken by who comes next.  No reg* types: pg_upgrade refuses most of them,
 * and a restore fails where a name does not exist.  home says to which
 * database of which cluster the row belongs; in a copy it is another one.
 *
 * The CHECK constraints repeat what the functions check, with better errors,
 * so that a row that was restored or mended by hand is sound too.  Names have
 * the C collation: they are identifiers, and no upgrade of the operating
 * system shall ask for a reindex.
 * ------------------------------------------------------------------------ */

CREATE TABLE sqsbridge_internal.queues (
	queue_id integer NOT NULL,
	name text COLLATE "C" NOT NULL,
	home text COLLATE "C" NOT NULL,
	owner_oid oid NOT NULL,
	owner text COLLATE "C" NOT NULL,
	server_oid oid NOT NULL,
	server text COLLATE "C" NOT NULL,
	server_owner_oid oid NOT NULL,
	server_owner text COLLATE "C" NOT NULL,
	queue_name text COLLATE "C" NOT NULL,
	handler text COLLATE "C",
	handler_oid oid,
	handler_owner_oid oid,
	handler_owner text COLLATE "C",
	concurrency integer NOT NULL,
	batch_size integer NOT NULL,
	wait_time interval NOT NULL,
	visibility_timeout interval,
	handler_timeout interval,
	retry_delay interval,
	exactly_once boolean NOT NULL,
	dedup_retention interval NOT NULL,
	group_batch_size integer NOT NULL,
	unwrap text COLLATE "C" NOT NULL,
	max_attempts integer,
	retry_factor double precision NOT NULL,
	retry_max_delay interval NOT NULL,
	retry_jitter double precision NOT NULL,
	throttle_after integer NOT NULL,
	dead_letter text COLLATE "C",
	dead_letter_queue text COLLATE "C",
	on_dead_letter text COLLATE "C" NOT NULL,
	route_by text COLLATE "C",
	unroutable text COLLATE "C",
	dedup_key text COLLATE "C",
	handler_batch_size integer NOT NULL,
	handler_batch_wait interval NOT NULL,
	verify_sns boolean NOT NULL,
	enabled boolean NOT NULL,
	created_at timestamp with time zone NOT NULL,
	changed_at timestamp with time zone NOT NULL,
	CONSTRAINT queues_pkey PRIMARY KEY (queue_id),
	CONSTRAINT queues_name_key UNIQUE (name),
	CONSTRAINT queues_name_check CHECK (
		pg_catalog.octet_length(name) OPERATOR(pg_catalog.<=) 80 AND
		name OPERATOR(pg_catalog.~) '^[A-Za-z0-9_-]+(\.fifo)?$'::text),
	CONSTRAINT queues_queue_name_check CHECK (
		queue_name OPERATOR(pg_catalog.<>) ''::text),
	CONSTRAINT queues_handler_check CHECK (
		handler IS NULL OR
		(handler OPERATOR(pg_catalog.<>) ''::text AND
		 handler_oid IS NOT NULL AND handler_owner_oid IS NOT NULL AND
		 handler_owner IS NOT NULL)),
	CONSTRAINT queues_concurrency_check CHECK (
		concurrency OPERATOR(pg_catalog.>=) 1 AND
		concurrency OPERATOR(pg_catalog.<=) 64),
	CONSTRAINT queues_batch_size_check CHECK (
		batch_size OPERATOR(pg_catalog.>=) 1 AND
		batch_size OPERATOR(pg_catalog.<=) 10),
	CONSTRAINT queues_wait_time_check CHECK (
		wait_time OPERATOR(pg_catalog.>=) '0'::interval AND
		wait_time OPERATOR(pg_catalog.<=) '20 s'::interval),
	CONSTRAINT queues_visibility_timeout_check CHECK (
		visibility_timeout OPERATOR(pg_catalog.>=) '1 s'::interval AND
		visibility_timeout OPERATOR(pg_catalog.<=) '12 h'::interval),
	CONSTRAINT queues_handler_timeout_check CHECK (
		handler_timeout OPERATOR(pg_catalog.>=) '1 ms'::interval AND
		handler_timeout OPERATOR(pg_catalog.<=) '12 h'::interval),
	CONSTRAINT queues_retry_delay_check CHECK (
		retry_delay OPERATOR(pg_catalog.>=) '0'::interval AND
		retry_delay OPERATOR(pg_catalog.<=) '12 h'::interval),
	CONSTRAINT queues_dedup_retention_check CHECK (
		dedup_retention OPERATOR(pg_catalog.>=) '1 min'::interval AND
		dedup_retention OPERATOR(pg_catalog.<=) '365 d'::interval),
	CONSTRAINT queues_group_batch_size_check CHECK (
		group_batch_size OPERATOR(pg_catalog.>=) 1 AND
		group_batch_size OPERATOR(pg_catalog.<=) 10),
	CONSTRAINT queues_unwrap_check CHECK (
		unwrap OPERATOR(pg_catalog.=) ANY ('{none,auto,sns,eventbridge,s3}'::text[])),
	CONSTRAINT queues_max_attempts_check CHECK (
		max_attempts OPERATOR(pg_catalog.>=) 1 AND
		max_attempts OPERATOR(pg_catalog.<=) 1000),
	CONSTRAINT queues_retry_factor_check CHECK (
		retry_factor OPERATOR(pg_catalog.>=) 1::double precision AND
		retry_factor OPERATOR(pg_catalog.<=) 10::double precision),
	CONSTRAINT queues_retry_max_delay_check CHECK (
		retry_max_delay OPERATOR(pg_catalog.>=) '1 s'::interval AND
		retry_max_delay OPERATOR(pg_catalog.<=) '12 h'::interval),
	CONSTRAINT queues_retry_jitter_check CHECK (
		retry_jitter OPERATOR(pg_catalog.>=) 0::double precision AND
		retry_jitter OPERATOR(pg_catalog.<=) 1::double precision),
	CONSTRAINT queues_throttle_after_check CHECK (
		throttle_after OPERATOR(pg_catalog.>=) 0 AND
		throttle_after OPERATOR(pg_catalog.<=) 1000),
	CONSTRAINT queues_dead_letter_check CHECK (
		dead_letter OPERATOR(pg_catalog.=) ANY ('{none,table,queue}'::text[])),
	CONSTRAINT queues_on_dead_letter_check CHECK (
		on_dead_letter OPERATOR(pg_catalog.=) ANY ('{skip,park_group}'::text[])),
	CONSTRAINT queues_unroutable_check CHECK (
		unroutable OPERATOR(pg_catalog.=) ANY ('{handler,fail,dead_letter,discard}'::text[])),
	CONSTRAINT queues_handler_batch_size_check CHECK (
		handler_batch_size OPERATOR(pg_catalog.>=) 1 AND
		handler_batch_size OPERATOR(pg_catalog.<=) 1000),
	CONSTRAINT queues_handler_batch_wait_check CHECK (
		handler_batch_wait OPERATOR(pg_catalog.>=) '0'::interval AND
		handler_batch_wait OPERATOR(pg_catalog.<=) '10 s'::interval)
) USING heap;

/*
 * Two consumers of one queue would steal each other's messages.  In a copy
 * the number of a server may be that of another, or there is none.
 */
CREATE UNIQUE INDEX queues_consumer_key
	ON sqsbridge_internal.queues (home, server_oid, queue_name)
	WHERE (handler IS NOT NULL OR route_by IS NOT NULL) AND
		  server_oid OPERATOR(pg_catalog.<>) 0::oid;

SELECT pg_catalog.pg_extension_config_dump('sqsbridge_internal.queues', '');

COMMENT ON TABLE sqsbridge_internal.queues IS
'configured queues, one row each; changed only by sqs_register_queue(), sqs_alter_queue(), and so on; read it through the view sqs_queues. Dumped by pg_dump';
COMMENT ON INDEX sqsbridge_internal.queues_pkey IS
'a queue has one id';
COMMENT ON INDEX sqsbridge_internal.queues_name_key IS
'names are unique in a database';
COMMENT ON INDEX sqsbridge_internal.queues_consumer_key IS
'a queue at AWS is received from by at most one queue of a database';
COMMENT ON COLUMN sqsbridge_internal.queues.queue_id IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.name IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.home IS
'where the row belongs: identifier of the cluster, OIDs of the database and of the extension; if it differs from the current ones, this is a copy, for which sqs_adopt_queues() has to be called';
COMMENT ON COLUMN sqsbridge_internal.queues.owner_oid IS
'owner of the queue, by OID and by name: if these do not agree, the queue stops';
COMMENT ON COLUMN sqsbridge_internal.queues.owner IS
'name of that role';
COMMENT ON COLUMN sqsbridge_internal.queues.server_oid IS
'foreign server, by OID and by name: if these do not agree, the queue stops';
COMMENT ON COLUMN sqsbridge_internal.queues.server IS
'name of that server';
COMMENT ON COLUMN sqsbridge_internal.queues.server_owner_oid IS
'owner that the server had when the queue was registered or last confirmed, by OID and by name';
COMMENT ON COLUMN sqsbridge_internal.queues.server_owner IS
'name of that role';
COMMENT ON COLUMN sqsbridge_internal.queues.queue_name IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.handler IS
'function that is called with each message or, if (sqs_message[]) follows, with batches of them, schema-qualified and quoted as necessary; NULL: nothing is received, and the queue is for sending only, unless it has the option route_by';
COMMENT ON COLUMN sqsbridge_internal.queues.handler_oid IS
'that function, by OID';
COMMENT ON COLUMN sqsbridge_internal.queues.handler_owner_oid IS
'owner that the function had when the queue was registered or last confirmed, by OID and by name';
COMMENT ON COLUMN sqsbridge_internal.queues.handler_owner IS
'name of that role';
COMMENT ON COLUMN sqsbridge_internal.queues.concurrency IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.batch_size IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.wait_time IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.visibility_timeout IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.handler_timeout IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.retry_delay IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.exactly_once IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.dedup_retention IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.group_batch_size IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.unwrap IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.max_attempts IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.retry_factor IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.retry_max_delay IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.retry_jitter IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.throttle_after IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.dead_letter IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.dead_letter_queue IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.on_dead_letter IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.route_by IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.unroutable IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.dedup_key IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.handler_batch_size IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.handler_batch_wait IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.verify_sns IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.enabled IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.created_at IS
'as in the view sqs_queues';
COMMENT ON COLUMN sqsbridge_internal.queues.changed_at IS
'as in the view sqs_queues';

/*
 * Like the queue's handler, a route's function is recorded by OID and name,
 * with its owner.
 */
CREATE TABLE sqsbridge_internal.routes (
	queue_id integer NOT NULL,
	key text COLLATE "C" NOT NULL,
	number smallint NOT NULL,
	handler text COLLATE "C" NOT NULL,
	handler_oid oid NOT NULL,
	handler_owner_oid oid NOT NULL,
	handler_owner text COLLATE "C" NOT NULL,
	handler_timeout interval,
	created_at timestamp with time zone NOT NULL,
	CONSTRAINT routes_pkey PRIMARY KEY (queue_id, key),
	CONSTRAINT routes_key_check CHECK (
		key OPERATOR(pg_catalog.<>) ''::text AND
		pg_catalog.octet_length(key) OPERATOR(pg_catalog.<=) 256),
	CONSTRAINT routes_number_check CHECK (
		number OPERATOR(pg_catalog.>=) 0::smallint),
	CONSTRAINT routes_handler_check CHECK (
		handler OPERATOR(pg_catalog.<>) ''::text),
	CONSTRAINT routes_handler_timeout_check CHECK (
		handler_timeout OPERATOR(pg_catalog.>=) '1 ms'::interval AND
		handler_timeout OPERATOR(pg_catalog.<=) '12 h'::interval)
) USING heap;

SELECT pg_catalog.pg_extension_config_dump('sqsbridge_internal.routes', '');

COMMENT ON TABLE sqsbridge_internal.routes IS
'routes of queues, one row each; changed only by sqs_add_route(), sqs_drop_route(), and so on; read it through the view sqs_routes. Dumped by pg_dump';
COMMENT ON INDEX sqsbridge_internal.routes_pkey IS
'a queue has one route for a key';
COMMENT ON COLUMN sqsbridge_internal.routes.queue_id IS
'queue, as in queues';
COMMENT ON COLUMN sqsbridge_internal.routes.key IS
'as in the view sqs_routes';
COMMENT ON COLUMN sqsbridge_internal.routes.number IS
'number of the route, unique for its queue';
COMMENT ON COLUMN sqsbridge_internal.routes.handler IS
'as in the view sqs_routes';
COMMENT ON COLUMN sqsbridge_internal.routes.handler_oid IS
'that function, by OID';
COMMENT ON COLUMN sqsbridge_internal.routes.handler_owner_oid IS
'owner that the function had when the route was added or last confirmed, by OID and by name';
COMMENT ON COLUMN sqsbridge_internal.routes.handler_owner IS
'name of that role';
COMMENT ON COLUMN sqsbridge_internal.routes.handler_timeout IS
'as in the view sqs_routes';
COMMENT ON COLUMN sqsbridge_internal.routes.created_at IS
'as in the view sqs_routes';

CREATE FUNCTION @extschema@.sqs_get_queues(
	OUT queue_id integer,
	OUT name text,
	OUT owner name,
	OUT server name,
	OUT queue_name text,
	OUT handler text,
	OUT concurrency integer,
	OUT batch_size integer,
	OUT wait_time interval,
	OUT visibility_timeout interval,
	OUT handler_timeout interval,
	OUT retry_delay interval,
	OUT exactly_once boolean,
	OUT dedup_retention interval,
	OUT group_batch_size integer,
	OUT unwrap text,
	OUT max_attempts integer,
	OUT retry_factor double precision,
	OUT retry_max_delay interval,
	OUT retry_jitter double precision,
	OUT throttle_after integer,
	OUT dead_letter text,
	OUT dead_letter_queue text,
	OUT on_dead_letter text,
	OUT route_by text,
	OUT unroutable text,
	OUT dedup_key text,
	OUT handler_batch_size integer,
	OUT handler_batch_wait interval,
	OUT verify_sns boolean,
	OUT enabled boolean,
	OUT created_at timestamp with time zone,
	OUT changed_at timestamp with time zone,
	OUT broken boolean,
	OUT problem text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'sqs_get_queues'
LANGUAGE C STRICT STABLE PARALLEL RESTRICTED ROWS 10;
REVOKE ALL ON FUNCTION @extschema@.sqs_get_queues() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_get_queues() TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_get_queues() IS
'configured queues; use the view sqs_queues. broken: something has to be corrected; problem: what, for roles that have the privileges of the queue''s owner or of pg_read_all_stats';

CREATE VIEW @extschema@.sqs_queues AS
SELECT
	q.queue_id,
	q.name,
	q.owner,
	q.server,
	q.queue_name,
	q.handler,
	q.concurrency,
	q.batch_size,
	q.wait_time,
	q.visibility_timeout,
	q.handler_timeout,
	q.retry_delay,
	q.exactly_once,
	q.dedup_retention,
	q.group_batch_size,
	q.unwrap,
	q.max_attempts,
	q.retry_factor,
	q.retry_max_delay,
	q.retry_jitter,
	q.throttle_after,
	q.dead_letter,
	q.dead_letter_queue,
	q.on_dead_letter,
	q.route_by,
	q.unroutable,
	q.dedup_key,
	q.handler_batch_size,
	q.handler_batch_wait,
	q.verify_sns,
	q.enabled,
	q.created_at,
	q.changed_at
FROM @extschema@.sqs_get_queues() q;
REVOKE ALL ON TABLE @extschema@.sqs_queues FROM PUBLIC;
GRANT SELECT ON TABLE @extschema@.sqs_queues TO PUBLIC;
COMMENT ON VIEW @extschema@.sqs_queues IS
'configured queues, one row each; changed only by sqs_register_queue(), sqs_alter_queue(), and so on. Dumped by pg_dump';
COMMENT ON COLUMN @extschema@.sqs_queues.queue_id IS
'id of the queue in this database; never reused';
COMMENT ON COLUMN @extschema@.sqs_queues.name IS
'name of the queue in this database: letters, digits, - and _, optionally followed by .fifo; at most 80 bytes';
COMMENT ON COLUMN @extschema@.sqs_queues.owner IS
'owner of the queue; the handler runs as this role';
COMMENT ON COLUMN @extschema@.sqs_queues.server IS
'foreign server of the foreign-data wrapper sqsbridge, by name';
COMMENT ON COLUMN @extschema@.sqs_queues.queue_name IS
'name of the queue at AWS, or its URL or ARN';
COMMENT ON COLUMN @extschema@.sqs_queues.handler IS
'function that is called with each message or, if (sqs_message[]) follows, with batches of them, schema-qualified and quoted as necessary; NULL: nothing is received, and the queue is for sending only, unless it has the option route_by';
COMMENT ON COLUMN @extschema@.sqs_queues.concurrency IS
'number of handlers that run at the same time: 1 to 64';
COMMENT ON COLUMN @extschema@.sqs_queues.batch_size IS
'maximum number of messages per ReceiveMessage call: 1 to 10';
COMMENT ON COLUMN @extschema@.sqs_queues.wait_time IS
'how long SQS holds a ReceiveMessage call open while there is no message: 0 to 20 s, whole seconds';
COMMENT ON COLUMN @extschema@.sqs_queues.visibility_timeout IS
'lease on a message, requested at its receipt and at each renewal: 1 s to 12 h, whole seconds; NULL: the queue''s own visibility timeout';
COMMENT ON COLUMN @extschema@.sqs_queues.handler_timeout IS
'a handler that runs longer is canceled: 1 ms to 12 h, whole milliseconds; NULL: no limit';
COMMENT ON COLUMN @extschema@.sqs_queues.retry_delay IS
'how long after its failure a message becomes visible again: 0 to 12 h, whole seconds; NULL: when its lease ends';
COMMENT ON COLUMN @extschema@.sqs_queues.exactly_once IS
'whether the ids of messages are recorded in the handler''s transaction, so that a message that SQS delivers again is not handled again';
COMMENT ON COLUMN @extschema@.sqs_queues.dedup_retention IS
'how long the id of a message is kept after SQS has confirmed that the message is deleted: 1 minute to 365 days; until then, it is kept for as long as SQS can have the message';
COMMENT ON COLUMN @extschema@.sqs_queues.group_batch_size IS
'maximum number of messages of one message group per SendMessageBatch call of the outbox: 1 to 10; with more than 1, when SQS refuses one message of a call, those of its group that follow it in the same call overtake it';
COMMENT ON COLUMN @extschema@.sqs_queues.unwrap IS
'which envelopes of other AWS services are taken off messages before the handler gets them: none, auto (all), sns, eventbridge, or s3';
COMMENT ON COLUMN @extschema@.sqs_queues.max_attempts IS
'a message that has failed so often becomes a dead letter: 1 to 1000; NULL: no limit here, SQS''s redrive policy decides';
COMMENT ON COLUMN @extschema@.sqs_queues.retry_factor IS
'by this the delay before a retry grows with each attempt, from retry_delay on: 1 to 10';
COMMENT ON COLUMN @extschema@.sqs_queues.retry_max_delay IS
'the delay before a retry grows up to this: 1 s to 12 h, whole seconds';
COMMENT ON COLUMN @extschema@.sqs_queues.retry_jitter IS
'the delay before a retry is shortened by a random part of at most this share: 0 to 1';
COMMENT ON COLUMN @extschema@.sqs_queues.throttle_after IS
'after so many failures in a row, of different messages, messages are tried one at a time until one succeeds: 1 to 1000; 0: never';
COMMENT ON COLUMN @extschema@.sqs_queues.dead_letter IS
'what becomes of a dead letter: table (a row of sqs_dead_letters), queue (sent to dead_letter_queue), or none (there are no dead letters); NULL: table';
COMMENT ON COLUMN @extschema@.sqs_queues.dead_letter_queue IS
'registered queue that dead letters are sent to';
COMMENT ON COLUMN @extschema@.sqs_queues.on_dead_letter IS
'what becomes of the messages that follow a dead letter in its message group: skip (they are handled), or park_group (they wait in sqs_dead_letters)';
COMMENT ON COLUMN @extschema@.sqs_queues.route_by IS
'what in a message chooses its route: attribute:NAME, envelope:KEY, or a jsonpath over the body; NULL: there are no routes';
COMMENT ON COLUMN @extschema@.sqs_queues.unroutable IS
'what becomes of a message without a route: handler (the queue''s handler gets it), fail, dead_letter, or discard; NULL: handler if the queue has one, else fail';
COMMENT ON COLUMN @extschema@.sqs_queues.dedup_key IS
'what in a message is its key besides its id, so that of messages with equal keys only the first is handled: attribute:NAME, envelope:KEY, or a jsonpath over the body; NULL: there is none';
COMMENT ON COLUMN @extschema@.sqs_queues.handler_batch_size IS
'maximum number of messages per call of a handler that takes an array: 1 to 1000';
COMMENT ON COLUMN @extschema@.sqs_queues.handler_batch_wait IS
'how long a handler that takes an array waits for more messages: 0 to 10 s, whole milliseconds';
COMMENT ON COLUMN @extschema@.sqs_queues.verify_sns IS
'true: only what SNS has signed is handled';
COMMENT ON COLUMN @extschema@.sqs_queues.enabled IS
'false: paused, no message is received, and rows of the outbox wait';
COMMENT ON COLUMN @extschema@.sqs_queues.created_at IS
'when the queue was registered';
COMMENT ON COLUMN @extschema@.sqs_queues.changed_at IS
'when the row was last changed';

/*
 * The functions that change sqs_queues.  Everybody may call them: what it
 * takes is USAGE on the server, to register, and the privileges of the
 * queue's owner for the rest, and they check that themselves.
 *
 * They have no SET search_path: a handler's name is looked up in the search
 * path of the caller, as the caller means it.  Every other name in them is
 * qualified.
 */

CREATE FUNCTION @extschema@.sqs_register_queue(
	queue text,
	server name,
	handler text DEFAULT NULL,
	queue_name text DEFAULT NULL,
	concurrency integer DEFAULT 1,
	batch_size integer DEFAULT 10,
	wait_time interval DEFAULT '20 s'::interval,
	visibility_timeout interval DEFAULT NULL,
	handler_timeout interval DEFAULT NULL,
	retry_delay interval DEFAULT NULL,
	exactly_once boolean DEFAULT true,
	dedup_retention interval DEFAULT '1 day'::interval,
	group_batch_size integer DEFAULT 1,
	unwrap text DEFAULT 'none',
	max_attempts integer DEFAULT NULL,
	retry_factor double precision DEFAULT 2,
	retry_max_delay interval DEFAULT '15 min'::interval,
	retry_jitter double precision DEFAULT 0.2,
	throttle_after integer DEFAULT 20,
	dead_letter text DEFAULT NULL,
	dead_letter_queue text DEFAULT NULL,
	on_dead_letter text DEFAULT 'skip',
	route_by text DEFAULT NULL,
	unroutable text DEFAULT NULL,
	dedup_key text DEFAULT NULL,
	handler_batch_size integer DEFAULT 100,
	handler_batch_wait interval DEFAULT '0'::interval,
	verify_sns boolean DEFAULT false,
	enabled boolean DEFAULT true)
RETURNS void
AS 'MODULE_PATHNAME', 'sqs_register_queue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_register_queue(text, name, text, text, integer, integer, interval, interval, interval, interval, boolean, interval, integer, text, integer, double precision, interval, double precision, integer, text, text, text, text, text, text, integer, interval, boolean, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_register_queue(text, name, text, text, integer, integer, interval, interval, interval, interval, boolean, interval, integer, text, integer, double precision, interval, double precision, integer, text, text, text, text, text, text, integer, interval, boolean, boolean) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_register_queue(text, name, text, text, integer, integer, interval, interval, interval, interval, boolean, interval, integer, text, integer, double precision, interval, double precision, integer, text, text, text, text, text, text, integer, interval, boolean, boolean) IS
'registers an SQS queue, owned by the current role; takes effect at commit. queue: its name here; server: foreign server, on which the role needs USAGE; handler: function that takes one sqs_message, or sqs_message[], NULL to send only; queue_name: name, URL or ARN at AWS, if different; for the other arguments, see the columns of sqs_queues. NULL stands for the default. Errors: the name is in use, the server or handler does not exist or may not be used, a value is out of range';

CREATE FUNCTION @extschema@.sqs_alter_queue(
	queue text,
	server name DEFAULT NULL,
	handler text DEFAULT NULL,
	queue_name text DEFAULT NULL,
	concurrency integer DEFAULT NULL,
	batch_size integer DEFAULT NULL,
	wait_time interval DEFAULT NULL,
	visibility_timeout interval DEFAULT NULL,
	handler_timeout interval DEFAULT NULL,
	retry_delay interval DEFAULT NULL,
	exactly_once boolean DEFAULT NULL,
	dedup_retention interval DEFAULT NULL,
	group_batch_size integer DEFAULT NULL,
	unwrap text DEFAULT NULL,
	max_attempts integer DEFAULT NULL,
	retry_factor double precision DEFAULT NULL,
	retry_max_delay interval DEFAULT NULL,
	retry_jitter double precision DEFAULT NULL,
	throttle_after integer DEFAULT NULL,
	dead_letter text DEFAULT NULL,
	dead_letter_queue text DEFAULT NULL,
	on_dead_letter text DEFAULT NULL,
	route_by text DEFAULT NULL,
	unroutable text DEFAULT NULL,
	dedup_key text DEFAULT NULL,
	handler_batch_size integer DEFAULT NULL,
	handler_batch_wait interval DEFAULT NULL,
	verify_sns boolean DEFAULT NULL,
	enabled boolean DEFAULT NULL,
	reset text[] DEFAULT NULL,
	owner name DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'sqs_alter_queue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_alter_queue(text, name, text, text, integer, integer, interval, interval, interval, interval, boolean, interval, integer, text, integer, double precision, interval, double precision, integer, text, text, text, text, text, text, integer, interval, boolean, boolean, text[], name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_alter_queue(text, name, text, text, integer, integer, interval, interval, interval, interval, boolean, interval, integer, text, integer, double precision, interval, double precision, integer, text, text, text, text, text, text, integer, interval, boolean, boolean, text[], name) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_alter_queue(text, name, text, text, integer, integer, interval, interval, interval, interval, boolean, interval, integer, text, integer, double precision, interval, double precision, integer, text, text, text, text, text, text, integer, interval, boolean, boolean, text[], name) IS
'changes options of a registered queue; takes effect at commit. Options as in sqs_register_queue(); NULL leaves an option unchanged. reset: names of options to set to their defaults, such as ARRAY[''visibility_timeout'']. owner: role that the handler is to run as, for superusers. Without any option, the function confirms the current owner, server, handler, and routes of a queue that has stopped because one of them has changed. Requires the privileges of the queue''s owner, or a superuser if that role has changed. Errors: the queue does not exist, the server or handler does not exist or may not be used, a value is out of range';

CREATE FUNCTION @extschema@.sqs_unregister_queue(queue text)
RETURNS void
AS 'MODULE_PATHNAME', 'sqs_unregister_queue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_unregister_queue(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_unregister_queue(text) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_unregister_queue(text) IS
'removes a queue from the configuration; takes effect at commit. Messages that have been received and not handled are returned to SQS; its routes are removed, too; the queue at AWS and the rows in sqs_failures stay. Requires the privileges of the queue''s owner. Error: the queue does not exist';

CREATE FUNCTION @extschema@.sqs_disable_queue(queue text)
RETURNS void
AS 'MODULE_PATHNAME', 'sqs_disable_queue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_disable_queue(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_disable_queue(text) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_disable_queue(text) IS
'pauses a queue, also across restarts; takes effect at commit: no message is received, rows of the outbox wait, running handlers get sqsbridge.shutdown_timeout to finish. No effect if the queue is paused. Requires the privileges of the queue''s owner. Error: the queue does not exist';

CREATE FUNCTION @extschema@.sqs_enable_queue(queue text)
RETURNS void
AS 'MODULE_PATHNAME', 'sqs_enable_queue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_enable_queue(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_enable_queue(text) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_enable_queue(text) IS
'resumes a paused queue; takes effect at commit. No effect if the queue is not paused. Requires the privileges of the queue''s owner. Error: the queue does not exist';


/* ------------------------------------------------------------------------
 * Error rules
 *
 * No foreign key to queues: it would be a trigger, and none fires when the
 * library writes.  The rules of a queue are deleted with it.
 * ------------------------------------------------------------------------ */

CREATE TABLE sqsbridge_internal.error_rules (
	queue_id integer NOT NULL,
	sqlstate text COLLATE "C" NOT NULL,
	action text COLLATE "C" NOT NULL,
	delay interval,
	CONSTRAINT error_rules_pkey PRIMARY KEY (queue_id, sqlstate),
	CONSTRAINT error_rules_sqlstate_check CHECK (
		sqlstate OPERATOR(pg_catalog.~) '^([0-9A-Z]{2}|[0-9A-Z]{5}|default)$'::text),
	CONSTRAINT error_rules_action_check CHECK (
		action OPERATOR(pg_catalog.=) ANY ('{retry,retry_now,pause,dead_letter,discard}'::text[])),
	CONSTRAINT error_rules_delay_check CHECK (
		delay OPERATOR(pg_catalog.>=) '0'::interval AND
		delay OPERATOR(pg_catalog.<=) '12 h'::interval)
) USING heap;

SELECT pg_catalog.pg_extension_config_dump('sqsbridge_internal.error_rules', '');

COMMENT ON TABLE sqsbridge_internal.error_rules IS
'error rules; changed only by sqs_set_error_rule(); read it through the view sqs_error_rules. Dumped by pg_dump';
COMMENT ON INDEX sqsbridge_internal.error_rules_pkey IS
'a queue has one rule for an SQLSTATE';
COMMENT ON COLUMN sqsbridge_internal.error_rules.queue_id IS
'queue, as in queues; 0: all queues';
COMMENT ON COLUMN sqsbridge_internal.error_rules.sqlstate IS
'as in the view sqs_error_rules';
COMMENT ON COLUMN sqsbridge_internal.error_rules.action IS
'as in the view sqs_error_rules';
COMMENT ON COLUMN sqsbridge_internal.error_rules.delay IS
'as in the view sqs_error_rules';

CREATE FUNCTION @extschema@.sqs_set_error_rule(
	queue text,
	sqlstate text,
	action text,
	delay interval DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'sqs_set_error_rule'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_set_error_rule(text, text, text, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_set_error_rule(text, text, text, interval) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_set_error_rule(text, text, text, interval) IS
'says what becomes of a message whose handler fails with a certain error; takes effect at commit. queue: NULL for all queues, which takes the owner of the extension; otherwise it takes the privileges of the queue''s owner. sqlstate: an SQLSTATE such as 23505, a class such as 23, or default. action: retry, retry_now, pause, dead_letter, or discard, as in sqs_error_rules; NULL removes the rule. delay: with retry and retry_now, to be used instead of the queue''s retry_delay: 0 to 12 hours, whole seconds. Errors: the queue does not exist, a value is not one of these';

CREATE FUNCTION @extschema@.sqs_get_error_rules(
	OUT queue_id integer,
	OUT sqlstate text,
	OUT action text,
	OUT delay interval,
	OUT source text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'sqs_get_error_rules'
LANGUAGE C STRICT STABLE PARALLEL RESTRICTED ROWS 100;
REVOKE ALL ON FUNCTION @extschema@.sqs_get_error_rules() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_get_error_rules() TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_get_error_rules() IS
'error rules that apply; use the view sqs_error_rules';

CREATE VIEW @extschema@.sqs_error_rules AS
SELECT
	q.name AS queue,
	r.sqlstate,
	r.action,
	r.delay,
	r.source
FROM @extschema@.sqs_get_error_rules() r
	LEFT JOIN @extschema@.sqs_queues q
		ON q.queue_id OPERATOR(pg_catalog.=) r.queue_id;
REVOKE ALL ON TABLE @extschema@.sqs_error_rules FROM PUBLIC;
GRANT SELECT ON TABLE @extschema@.sqs_error_rules TO PUBLIC;
COMMENT ON VIEW @extschema@.sqs_error_rules IS
'what becomes of a message whose handler fails, by error: a row for each queue and everything that there is a rule about, built-in rules included, with the rule that applies. Rules for an SQLSTATE come before those for its class, and these before default; a queue''s own come before those for all queues, and both before the built-in ones';
COMMENT ON COLUMN @extschema@.sqs_error_rules.queue IS
'name of the queue; NULL: queues without rules of their own';
COMMENT ON COLUMN @extschema@.sqs_error_rules.sqlstate IS
'an SQLSTATE, a class of them (two characters), or default';
COMMENT ON COLUMN @extschema@.sqs_error_rules.action IS
'retry: the message is handled again later; retry_now: it is handled again at once, up to three times, then as retry; pause: something else is at fault, so nothing is handled until one message succeeds, and the attempt does not count; dead_letter: it becomes a dead letter; discard: it is deleted';
COMMENT ON COLUMN @extschema@.sqs_error_rules.delay IS
'used instead of the queue''s retry_delay; NULL: that is used';
COMMENT ON COLUMN @extschema@.sqs_error_rules.source IS
'which rule this is: that of the queue, one for all queues, or built-in';


/* ------------------------------------------------------------------------
 * Routes
 * ------------------------------------------------------------------------ */

CREATE FUNCTION @extschema@.sqs_add_route(
	queue text,
	key text,
	handler text,
	handler_timeout interval DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'sqs_add_route'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_add_route(text, text, text, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_add_route(text, text, text, interval) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_add_route(text, text, text, interval) IS
'has a function handle the messages with a key; takes effect at commit. queue: a queue with the option route_by, which says what the key of a message is; key: 1 to 256 bytes; handler: function that takes one sqs_message; handler_timeout: 1 ms to 12 h, NULL: the queue''s. Requires the privileges of the queue''s owner, who must be able to execute the function. Errors: the queue or the function does not exist, the queue has no route_by, there is a route for the key, or there are 1,000 routes';

CREATE FUNCTION @extschema@.sqs_drop_route(
	queue text,
	key text)
RETURNS void
AS 'MODULE_PATHNAME', 'sqs_drop_route'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_drop_route(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_drop_route(text, text) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_drop_route(text, text) IS
'removes the route for a key; takes effect at commit. What becomes of messages with this key is then up to the queue''s option unroutable. Requires the privileges of the queue''s owner. Errors: the queue does not exist, or has no such route';

CREATE FUNCTION @extschema@.sqs_get_routes(
	OUT queue_id integer,
	OUT key text,
	OUT handler text,
	OUT handler_timeout interval,
	OUT created_at timestamp with time zone,
	OUT problem text,
	OUT handled bigint,
	OUT failed bigint,
	OUT dead_letters bigint,
	OUT handler_time_total double precision,
	OUT handler_time_max double precision)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'sqs_get_routes'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 10;
REVOKE ALL ON FUNCTION @extschema@.sqs_get_routes() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_get_routes() TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_get_routes() IS
'routes and their statistics; use the view sqs_routes';

CREATE VIEW @extschema@.sqs_routes AS
SELECT
	q.name AS queue,
	r.key,
	r.handler,
	r.handler_timeout,
	r.created_at,
	r.problem,
	r.handled,
	r.failed,
	r.dead_letters,
	r.handler_time_total,
	r.handler_time_max
FROM @extschema@.sqs_get_routes() r
	JOIN @extschema@.sqs_queues q
		ON q.queue_id OPERATOR(pg_catalog.=) r.queue_id;
REVOKE ALL ON TABLE @extschema@.sqs_routes FROM PUBLIC;
GRANT SELECT ON TABLE @extschema@.sqs_routes TO PUBLIC;
COMMENT ON VIEW @extschema@.sqs_routes IS
'which functions handle which messages, one row for each route of a queue; changed only by sqs_add_route(), sqs_drop_route(), and so on. Counters are kept in shared memory, and reset with those of sqs_stats. Routes are dumped by pg_dump';
COMMENT ON COLUMN @extschema@.sqs_routes.queue IS
'name of the queue';
COMMENT ON COLUMN @extschema@.sqs_routes.key IS
'messages in which the queue''s option route_by finds this text take the route; 1 to 256 bytes';
COMMENT ON COLUMN @extschema@.sqs_routes.handler IS
'function that is called for them, schema-qualified and quoted as necessary';
COMMENT ON COLUMN @extschema@.sqs_routes.handler_timeout IS
'a handler that runs longer is canceled: 1 ms to 12 h, whole milliseconds; NULL: as the queue''s option says';
COMMENT ON COLUMN @extschema@.sqs_routes.created_at IS
'when the route was added';
COMMENT ON COLUMN @extschema@.sqs_routes.problem IS
'why messages cannot take the route; NULL: they can. For members of pg_read_all_stats and of the queue''s owner';
COMMENT ON COLUMN @extschema@.sqs_routes.handled IS
'messages that were handled, or discarded by the handler; NULL in this and the following columns: not counted, because too many routes of the cluster are in use';
COMMENT ON COLUMN @extschema@.sqs_routes.failed IS
'attempts that failed';
COMMENT ON COLUMN @extschema@.sqs_routes.dead_letters IS
'messages that have become dead letters';
COMMENT ON COLUMN @extschema@.sqs_routes.handler_time_total IS
'time spent in the handler, in milliseconds; failed attempts included';
COMMENT ON COLUMN @extschema@.sqs_routes.handler_time_max IS
'longest run of the handler, in milliseconds';


/* ------------------------------------------------------------------------
 * Verdicts of handlers
 * ------------------------------------------------------------------------ */

CREATE FUNCTION @extschema@.sqs_retry(
	delay interval DEFAULT NULL,
	reason text DEFAULT NULL,
	charge boolean DEFAULT true)
RETURNS void
AS 'MODULE_PATHNAME', 'sqs_retry'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_retry(interval, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_retry(interval, text, boolean) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_retry(interval, text, boolean) IS
'called by a handler, rolls back what it has done, and has the message handled again after the delay (0 to 12 hours; NULL: as the queue''s retry_delay says). charge: whether this counts as an attempt, of which there are max_attempts. Recorded in sqs_failures with SQLSTATE SQ001 and the reason. Holds even if the handler catches the error. Error: the caller is not a handler';

CREATE FUNCTION @extschema@.sqs_dead_letter(reason text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'sqs_dead_letter'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_dead_letter(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_dead_letter(text) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_dead_letter(text) IS
'called by a handler, rolls back what it has done, and makes the message a dead letter, as the queue''s option dead_letter says: it is not delivered again. Recorded in sqs_failures with SQLSTATE SQ002 and the reason. Holds even if the handler catches the error. Error: the caller is not a handler';

CREATE FUNCTION @extschema@.sqs_discard(reason text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'sqs_discard'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_discard(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_discard(text) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_discard(text) IS
'called by a handler, rolls back what it has done, and deletes the message: it is not delivered again. Recorded in sqs_failures with SQLSTATE SQ003 and the reason. Holds even if the handler catches the error. Error: the caller is not a handler';


/* ------------------------------------------------------------------------
 * What has been handled, and what failed
 * ------------------------------------------------------------------------ */

CREATE TABLE sqsbridge_internal.inbox (
	queue_id integer NOT NULL,
	message_key text COLLATE "C" NOT NULL,
	stamp timestamp with time zone NOT NULL,
	CONSTRAINT inbox_pkey PRIMARY KEY (queue_id, message_key)
) USING heap WITH (
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_threshold = 1000
);

/*
 * For the clearing of old rows.  A BRIN index would be smaller, but rows fill
 * the space of deleted ones: after the first round every block range would
 * span all times.
 */
CREATE INDEX inbox_stamp_idx
	ON sqsbridge_internal.inbox (queue_id, stamp);

CREATE TABLE sqsbridge_internal.inbox_marks (
	queue_id integer NOT NULL,
	at timestamp with time zone NOT NULL,
	low_water timestamp with time zone NOT NULL,
	open boolean NOT NULL,
	CONSTRAINT inbox_marks_pkey PRIMARY KEY (queue_id, at)
) USING heap;

CREATE TABLE sqsbridge_internal.inbox_doubts (
	queue_id integer NOT NULL,
	from_stamp timestamp with time zone NOT NULL,
	to_stamp timestamp with time zone NOT NULL,
	keep_until timestamp with time zone NOT NULL,
	CONSTRAINT inbox_doubts_pkey PRIMARY KEY (queue_id, from_stamp, to_stamp)
) USING heap;

SELECT pg_catalog.pg_extension_config_dump('sqsbridge_internal.inbox', '');
SELECT pg_catalog.pg_extension_config_dump('sqsbridge_internal.inbox_marks', '');
SELECT pg_catalog.pg_extension_config_dump('sqsbridge_internal.inbox_doubts', '');

COMMENT ON TABLE sqsbridge_internal.inbox IS
'messages that have been handled, recorded in the handler''s own transaction: a message found here is acknowledged without being handled again. Dumped by pg_dump';
COMMENT ON INDEX sqsbridge_internal.inbox_pkey IS
'a message of a queue is handled once';
COMMENT ON INDEX sqsbridge_internal.inbox_stamp_idx IS
'finds the rows to be removed';
COMMENT ON COLUMN sqsbridge_internal.inbox.queue_id IS
'queue, as in queues; rows of unregistered queues are removed when SQS can no longer have the message';
COMMENT ON COLUMN sqsbridge_internal.inbox.message_key IS
'what identifies the message: SQS''s id; for a message from an outbox, the id that the outbox gave it, and a digest of its content and sender';
COMMENT ON COLUMN sqsbridge_internal.inbox.stamp IS
'when the message was given to a handler; rises even if the clock is set back';
COMMENT ON TABLE sqsbridge_internal.inbox_marks IS
'up to which stamp all messages are done, at several points in time';
COMMENT ON INDEX sqsbridge_internal.inbox_marks_pkey IS
'finds the rows of a queue';
COMMENT ON COLUMN sqsbridge_internal.inbox_marks.queue_id IS
'queue, as in queues';
COMMENT ON COLUMN sqsbridge_internal.inbox_marks.at IS
'when the mark was made';
COMMENT ON COLUMN sqsbridge_internal.inbox_marks.low_water IS
'all messages with a lower stamp have been handled and deleted from SQS, were returned to SQS, or are in inbox_doubts';
COMMENT ON COLUMN sqsbridge_internal.inbox_marks.open IS
'whether messages were being handled at that time';
COMMENT ON TABLE sqsbridge_internal.inbox_doubts IS
'stamps of messages that may come back although they have been handled, because SQS has not confirmed their deletion';
COMMENT ON INDEX sqsbridge_internal.inbox_doubts_pkey IS
'finds the rows of a queue';
COMMENT ON COLUMN sqsbridge_internal.inbox_doubts.queue_id IS
'queue, as in queues';
COMMENT ON COLUMN sqsbridge_internal.inbox_doubts.from_stamp IS
'first stamp';
COMMENT ON COLUMN sqsbridge_internal.inbox_doubts.to_stamp IS
'last stamp';
COMMENT ON COLUMN sqsbridge_internal.inbox_doubts.keep_until IS
'after this time, SQS cannot have any of these messages';

CREATE TABLE sqsbridge_internal.failures (
	queue_id integer NOT NULL,
	failed_at timestamp with time zone NOT NULL,
	queue text COLLATE "C" NOT NULL,
	queue_owner_oid oid NOT NULL,
	queue_owner text COLLATE "C" NOT NULL,
	message_id text COLLATE "C" NOT NULL,
	receive_count integer,
	sqlstate text,
	message text,
	detail text,
	hint text,
	context text,
	handler_pid integer,
	attempt integer,
	action text,
	retry_at timestamp with time zone,
	route text
) USING heap WITH (
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_threshold = 1000
);

CREATE INDEX failures_time_idx
	ON sqsbridge_internal.failures (queue_id, failed_at);

/*
 * There is no key: one message may fail any number of times.  Without a
 * replica identity, a publication FOR ALL TABLES would make it impossible to
 * delete old rows.
 */
ALTER TABLE sqsbridge_internal.failures REPLICA IDENTITY FULL;

COMMENT ON TABLE sqsbridge_internal.failures IS
'rows of sqs_failures. Not dumped by pg_dump';
COMMENT ON INDEX sqsbridge_internal.failures_time_idx IS
'finds the rows of a queue to be removed';
COMMENT ON COLUMN sqsbridge_internal.failures.queue_id IS
'queue, as in queues';
COMMENT ON COLUMN sqsbridge_internal.failures.failed_at IS
'as in the view sqs_failures';
COMMENT ON COLUMN sqsbridge_internal.failures.queue IS
'as in the view sqs_failures';
COMMENT ON COLUMN sqsbridge_internal.failures.queue_owner_oid IS
'owner that the queue had, by OID and by name';
COMMENT ON COLUMN sqsbridge_internal.failures.queue_owner IS
'name of that role';
COMMENT ON COLUMN sqsbridge_internal.failures.message_id IS
'as in the view sqs_failures';
COMMENT ON COLUMN sqsbridge_internal.failures.receive_count IS
'as in the view sqs_failures';
COMMENT ON COLUMN sqsbridge_internal.failures.sqlstate IS
'as in the view sqs_failures';
COMMENT ON COLUMN sqsbridge_internal.failures.message IS
'as in the view sqs_failures';
COMMENT ON COLUMN sqsbridge_internal.failures.detail IS
'as in the view sqs_failures';
COMMENT ON COLUMN sqsbridge_internal.failures.hint IS
'as in the view sqs_failures';
COMMENT ON COLUMN sqsbridge_internal.failures.context IS
'as in the view sqs_failures';
COMMENT ON COLUMN sqsbridge_internal.failures.handler_pid IS
'as in the view sqs_failures';
COMMENT ON COLUMN sqsbridge_internal.failures.attempt IS
'as in the view sqs_failures';
COMMENT ON COLUMN sqsbridge_internal.failures.action IS
'as in the view sqs_failures';
COMMENT ON COLUMN sqsbridge_internal.failures.retry_at IS
'as in the view sqs_failures';
COMMENT ON COLUMN sqsbridge_internal.failures.route IS
'as in the view sqs_failures';

/*
 * How often a message has failed.  Not in failures, which keeps no more than
 * so many rows, nor for longer than the DBA likes.
 */
CREATE TABLE sqsbridge_internal.attempts (
	queue_id integer NOT NULL,
	message_id text COLLATE "C" NOT NULL,
	attempts integer NOT NULL,
	last_receive_count integer NOT NULL,
	first_failed_at timestamp with time zone NOT NULL,
	last_failed_at timestamp with time zone NOT NULL,
	last_sqlstate text COLLATE "C" NOT NULL,
	marks integer NOT NULL,
	marked_at timestamp with time zone,
	CONSTRAINT attempts_pkey PRIMARY KEY (queue_id, message_id)
) USING heap WITH (
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_threshold = 1000
);

CREATE INDEX attempts_time_idx
	ON sqsbridge_internal.attempts (queue_id, last_failed_at);

COMMENT ON TABLE sqsbridge_internal.attempts IS
'messages that have failed and are to be tried again; removed when a message is done with, or SQS can no longer have it. Not dumped by pg_dump';
COMMENT ON INDEX sqsbridge_internal.attempts_pkey IS
'finds the row of a message';
COMMENT ON INDEX sqsbridge_internal.attempts_time_idx IS
'finds the rows of a queue to be removed';
COMMENT ON COLUMN sqsbridge_internal.attempts.queue_id IS
'queue, as in queues';
COMMENT ON COLUMN sqsbridge_internal.attempts.message_id IS
'SQS''s id of the message';
COMMENT ON COLUMN sqsbridge_internal.attempts.attempts IS
'attempts that have failed and count';
COMMENT ON COLUMN sqsbridge_internal.attempts.last_receive_count IS
'which delivery of the message the last one of all attempts belonged to';
COMMENT ON COLUMN sqsbridge_internal.attempts.first_failed_at IS
'when the first attempt failed';
COMMENT ON COLUMN sqsbridge_internal.attempts.last_failed_at IS
'when the last attempt failed';
COMMENT ON COLUMN sqsbridge_internal.attempts.last_sqlstate IS
'SQLSTATE of its error';
COMMENT ON COLUMN sqsbridge_internal.attempts.marks IS
'how often the message was begun that may have made the server crash, without a result since';
COMMENT ON COLUMN sqsbridge_internal.attempts.marked_at IS
'when it was begun last, or NULL';

CREATE FUNCTION @extschema@.sqs_get_failures(
	OUT failed_at timestamp with time zone,
	OUT queue text,
	OUT queue_owner name,
	OUT message_id text,
	OUT receive_count integer,
	OUT sqlstate text,
	OUT message text,
	OUT detail text,
	OUT hint text,
	OUT context text,
	OUT handler_pid integer,
	OUT attempt integer,
	OUT action text,
	OUT retry_at timestamp with time zone,
	OUT route text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'sqs_get_failures'
LANGUAGE C STRICT STABLE PARALLEL RESTRICTED ROWS 1000;
REVOKE ALL ON FUNCTION @extschema@.sqs_get_failures() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_get_failures() TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_get_failures() IS
'failed attempts that the caller may see; use the view sqs_failures';

CREATE VIEW @extschema@.sqs_failures AS
SELECT
	f.failed_at,
	f.queue,
	f.queue_owner,
	f.message_id,
	f.receive_count,
	f.sqlstate,
	f.message,
	f.detail,
	f.hint,
	f.context,
	f.handler_pid,
	f.attempt,
	f.action,
	f.retry_at,
	f.route
FROM @extschema@.sqs_get_failures() f;
REVOKE ALL ON TABLE @extschema@.sqs_failures FROM PUBLIC;
GRANT SELECT ON TABLE @extschema@.sqs_failures TO PUBLIC;
COMMENT ON VIEW @extschema@.sqs_failures IS
'failed attempts to handle a message, one row each, without the message''s body; kept for sqsbridge.failure_retention, and of each queue the newest sqsbridge.max_failures. A role sees the failures of queues whose owner''s privileges it has; members of pg_read_all_stats see all. Not dumped by pg_dump';
COMMENT ON COLUMN @extschema@.sqs_failures.failed_at IS
'when the attempt failed';
COMMENT ON COLUMN @extschema@.sqs_failures.queue IS
'name that the queue had in sqs_queues';
COMMENT ON COLUMN @extschema@.sqs_failures.queue_owner IS
'owner that the queue had';
COMMENT ON COLUMN @extschema@.sqs_failures.message_id IS
'SQS''s id of the message';
COMMENT ON COLUMN @extschema@.sqs_failures.receive_count IS
'which delivery of the message it was: 1 or more; approximate';
COMMENT ON COLUMN @extschema@.sqs_failures.sqlstate IS
'SQLSTATE of the error, five characters';
COMMENT ON COLUMN @extschema@.sqs_failures.message IS
'the error''s primary message';
COMMENT ON COLUMN @extschema@.sqs_failures.detail IS
'the error''s detail, or NULL';
COMMENT ON COLUMN @extschema@.sqs_failures.hint IS
'the error''s hint, or NULL';
COMMENT ON COLUMN @extschema@.sqs_failures.context IS
'where in the handler the error was raised, innermost line first, or NULL';
COMMENT ON COLUMN @extschema@.sqs_failures.handler_pid IS
'process id of the handler worker';
COMMENT ON COLUMN @extschema@.sqs_failures.attempt IS
'which attempt it was: 1 or more; NULL: it does not count';
COMMENT ON COLUMN @extschema@.sqs_failures.action IS
'what follows for the message: retry, pause, dead_letter, discard, or killed (the handler worker died, so it is tried again)';
COMMENT ON COLUMN @extschema@.sqs_failures.retry_at IS
'when the message is to be tried again at the earliest; NULL: when its lease ends, or never';
COMMENT ON COLUMN @extschema@.sqs_failures.route IS
'route that the message took, or NULL';


/* ------------------------------------------------------------------------
 * Messages that are not handled any more
 * ------------------------------------------------------------------------ */

CREATE TABLE sqsbridge_internal.dead_letters (
	queue_id integer NOT NULL,
	id bigint NOT NULL,
	queue text COLLATE "C" NOT NULL,
	queue_owner_oid oid NOT NULL,
	queue_owner text COLLATE "C" NOT NULL,
	state text COLLATE "C" NOT NULL,
	message_id text COLLATE "C" NOT NULL,
	group_id text COLLATE "C",
	deduplication_id text COLLATE "C",
	sequence_number numeric,
	body text,
	attributes jsonb,
	system_attributes jsonb,
	envelope jsonb,
	raw bytea,
	route text COLLATE "C",
	sent_at timestamp with time zone,
	first_received_at timestamp with time zone,
	died_at timestamp with time zone NOT NULL,
	receive_count integer,
	attempts integer NOT NULL,
	reason text COLLATE "C" NOT NULL,
	sqlstate text,
	message text,
	detail text,
	hint text,
	context text,
	handler_pid integer,
	resolved_at timestamp with time zone,
	resolved_by_oid oid,
	resolved_by text COLLATE "C",
	redriven_as bigint,
	CONSTRAINT dead_letters_pkey PRIMARY KEY (id),
	CONSTRAINT dead_letters_state_check CHECK (
		CASE state
		WHEN 'dead'::text THEN resolved_at IS NULL
		WHEN 'parked'::text THEN resolved_at IS NULL
		WHEN 'redriven'::text THEN resolved_at IS NOT NULL
		WHEN 'discarded'::text THEN resolved_at IS NOT NULL
		WHEN 'handled'::text THEN resolved_at IS NOT NULL
		ELSE false
		END)
) USING heap;

CREATE INDEX dead_letters_time_idx
	ON sqsbridge_internal.dead_letters (queue_id, resolved_at, died_at);

SELECT pg_catalog.pg_extension_config_dump('sqsbridge_internal.dead_letters', '');

COMMENT ON TABLE sqsbridge_internal.dead_letters IS
'rows of sqs_dead_letters. Dumped by pg_dump';
COMMENT ON INDEX sqsbridge_internal.dead_letters_pkey IS
'finds a dead letter';
COMMENT ON INDEX sqsbridge_internal.dead_letters_time_idx IS
'finds the rows of a queue to be removed, and the oldest that nobody has dealt with';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.queue_id IS
'queue, as in queues';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.id IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.queue IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.queue_owner_oid IS
'owner that the queue had, by OID and by name';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.queue_owner IS
'name of that role';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.state IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.message_id IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.group_id IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.deduplication_id IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.sequence_number IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.body IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.attributes IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.system_attributes IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.envelope IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.raw IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.route IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.sent_at IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.first_received_at IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.died_at IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.receive_count IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.attempts IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.reason IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.sqlstate IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.message IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.detail IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.hint IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.context IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.handler_pid IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.resolved_at IS
'as in the view sqs_dead_letters';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.resolved_by_oid IS
'role that redrove or discarded it, by OID and by name';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.resolved_by IS
'name of that role';
COMMENT ON COLUMN sqsbridge_internal.dead_letters.redriven_as IS
'as in the view sqs_dead_letters';

CREATE FUNCTION @extschema@.sqs_get_dead_letters(
	OUT id bigint,
	OUT queue text,
	OUT queue_owner name,
	OUT state text,
	OUT message_id text,
	OUT group_id text,
	OUT deduplication_id text,
	OUT sequence_number numeric,
	OUT body text,
	OUT attributes jsonb,
	OUT system_attributes jsonb,
	OUT envelope jsonb,
	OUT raw bytea,
	OUT route text,
	OUT sent_at timestamp with time zone,
	OUT first_received_at timestamp with time zone,
	OUT died_at timestamp with time zone,
	OUT receive_count integer,
	OUT attempts integer,
	OUT reason text,
	OUT sqlstate text,
	OUT message text,
	OUT detail text,
	OUT hint text,
	OUT context text,
	OUT handler_pid integer,
	OUT resolved_at timestamp with time zone,
	OUT resolved_by name,
	OUT redriven_as bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'sqs_get_dead_letters'
LANGUAGE C STRICT STABLE PARALLEL RESTRICTED ROWS 1000;
REVOKE ALL ON FUNCTION @extschema@.sqs_get_dead_letters() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_get_dead_letters() TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_get_dead_letters() IS
'dead letters that the caller may see; use the view sqs_dead_letters';

CREATE VIEW @extschema@.sqs_dead_letters AS
SELECT
	d.id,
	d.queue,
	d.queue_owner,
	d.state,
	d.message_id,
	d.group_id,
	d.deduplication_id,
	d.sequence_number,
	d.body,
	d.attributes,
	d.system_attributes,
	d.envelope,
	d.raw,
	d.route,
	d.sent_at,
	d.first_received_at,
	d.died_at,
	d.receive_count,
	d.attempts,
	d.reason,
	d.sqlstate,
	d.message,
	d.detail,
	d.hint,
	d.context,
	d.handler_pid,
	d.resolved_at,
	d.resolved_by,
	d.redriven_as
FROM @extschema@.sqs_get_dead_letters() d;
REVOKE ALL ON TABLE @extschema@.sqs_dead_letters FROM PUBLIC;
GRANT SELECT ON TABLE @extschema@.sqs_dead_letters TO PUBLIC;
COMMENT ON VIEW @extschema@.sqs_dead_letters IS
'messages that are not handled any more and that SQS has no longer, one row each; sqs_redrive(id) sends one again, sqs_discard_dead_letter(id) says that nothing is to be done with it. Then a row is kept for sqsbridge.dead_letter_retention, and until then for any time. A role sees the rows of queues whose owner''s privileges it has. Members of pg_read_all_data see all; members of pg_read_all_stats, too, without bodies and attributes. Dumped by pg_dump';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.id IS
'id of the dead letter';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.queue IS
'name of the queue';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.queue_owner IS
'owner that the queue had';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.state IS
'dead; parked: not handled because its message group is parked; redriven, discarded, or handled (by sqs_release_group())';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.message_id IS
'SQS''s id of the message';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.group_id IS
'as in sqs_message';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.deduplication_id IS
'as in sqs_message';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.sequence_number IS
'as in sqs_message';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.body IS
'the body as SQS has delivered it, in its envelope; NULL: see raw';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.attributes IS
'as in sqs_message, of the message as SQS has delivered it; NULL: see raw';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.system_attributes IS
'as in sqs_message; NULL: see raw';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.envelope IS
'as in sqs_message';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.raw IS
'NULL, or, if the encoding of the database cannot represent the message, all of it: JSON in UTF-8, with the members Body, MessageAttributes, and Attributes';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.route IS
'key by which the message was routed, or NULL';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.sent_at IS
'as in sqs_message';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.first_received_at IS
'as in sqs_message';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.died_at IS
'when it became a dead letter';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.receive_count IS
'as in sqs_message';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.attempts IS
'how often handling it has been tried and has failed';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.reason IS
'why: verdict (the handler called sqs_dead_letter()), rule, max_attempts, unroutable, crash, parked, expiring, verify_sns, or damaged';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.sqlstate IS
'SQLSTATE of the last error, five characters, or NULL';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.message IS
'the error''s primary message';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.detail IS
'the error''s detail, or NULL';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.hint IS
'the error''s hint, or NULL';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.context IS
'where in the handler the error was raised, innermost line first, or NULL';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.handler_pid IS
'process id of the handler worker';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.resolved_at IS
'when it was redriven or discarded; NULL: it has not been';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.resolved_by IS
'role that has done that';
COMMENT ON COLUMN @extschema@.sqs_dead_letters.redriven_as IS
'id in sqs_outbox that the message got when it was redriven';

CREATE FUNCTION @extschema@.sqs_redrive(id bigint)
RETURNS bigint
AS 'MODULE_PATHNAME', 'sqs_redrive'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_redrive(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_redrive(bigint) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_redrive(bigint) IS
'puts a row of sqs_dead_letters into sqs_outbox, to be sent to its queue after the transaction has committed, and returns its id there; NULL if it has been redriven or discarded before. It is a new message, with a new id. Requires the privileges of the queue''s owner and USAGE on the queue''s server. Errors: no such row, the message is parked, the queue is not registered, the message cannot be sent as it is';

CREATE FUNCTION @extschema@.sqs_discard_dead_letter(id bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'sqs_discard_dead_letter'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_discard_dead_letter(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_discard_dead_letter(bigint) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_discard_dead_letter(bigint) IS
'notes that nothing is to be done with a row of sqs_dead_letters, so that it is deleted after sqsbridge.dead_letter_retention; false if it has been redriven or discarded before. Requires the privileges of the queue''s owner. Error: no such row';


CREATE TABLE sqsbridge_internal.parked_groups (
	queue_id integer NOT NULL,
	group_id text COLLATE "C" NOT NULL,
	parked_at timestamp with time zone NOT NULL,
	dead_letter bigint,
	CONSTRAINT parked_groups_pkey PRIMARY KEY (queue_id, group_id)
) USING heap;

SELECT pg_catalog.pg_extension_config_dump('sqsbridge_internal.parked_groups', '');

COMMENT ON TABLE sqsbridge_internal.parked_groups IS
'rows of sqs_parked_groups. Dumped by pg_dump';
COMMENT ON INDEX sqsbridge_internal.parked_groups_pkey IS
'finds a message group';
COMMENT ON COLUMN sqsbridge_internal.parked_groups.queue_id IS
'queue, as in queues';
COMMENT ON COLUMN sqsbridge_internal.parked_groups.group_id IS
'as in the view sqs_parked_groups';
COMMENT ON COLUMN sqsbridge_internal.parked_groups.parked_at IS
'as in the view sqs_parked_groups';
COMMENT ON COLUMN sqsbridge_internal.parked_groups.dead_letter IS
'as in the view sqs_parked_groups';

CREATE FUNCTION @extschema@.sqs_get_parked_groups(
	OUT queue_id integer,
	OUT group_id text,
	OUT parked_at timestamp with time zone,
	OUT dead_letter bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'sqs_get_parked_groups'
LANGUAGE C STRICT STABLE PARALLEL RESTRICTED ROWS 10;
REVOKE ALL ON FUNCTION @extschema@.sqs_get_parked_groups() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_get_parked_groups() TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_get_parked_groups() IS
'parked message groups that the caller may see; use the view sqs_parked_groups';

CREATE VIEW @extschema@.sqs_parked_groups AS
SELECT
	q.name AS queue,
	g.group_id,
	g.parked_at,
	g.dead_letter,
	COALESCE(d.messages, 0::bigint) AS messages
FROM @extschema@.sqs_get_parked_groups() g
	JOIN @extschema@.sqs_get_queues() q
		ON q.queue_id OPERATOR(pg_catalog.=) g.queue_id
	LEFT JOIN (
		SELECT l.queue, l.group_id, pg_catalog.count(*) AS messages
		FROM @extschema@.sqs_get_dead_letters() l
		WHERE l.resolved_at IS NULL
		GROUP BY l.queue, l.group_id) d
		ON d.queue OPERATOR(pg_catalog.=) q.name AND
		   d.group_id OPERATOR(pg_catalog.=) g.group_id;
REVOKE ALL ON TABLE @extschema@.sqs_parked_groups FROM PUBLIC;
GRANT SELECT ON TABLE @extschema@.sqs_parked_groups TO PUBLIC;
COMMENT ON VIEW @extschema@.sqs_parked_groups IS
'message groups of FIFO queues with on_dead_letter = park_group that have a dead letter, one row each: messages that follow it are not handled but stored in sqs_dead_letters with the state parked, until sqs_release_group() is called. A role sees the groups of queues whose owner''s privileges it has; members of pg_read_all_stats see all. Dumped by pg_dump';
COMMENT ON COLUMN @extschema@.sqs_parked_groups.queue IS
'name of the queue';
COMMENT ON COLUMN @extschema@.sqs_parked_groups.group_id IS
'message group';
COMMENT ON COLUMN @extschema@.sqs_parked_groups.parked_at IS
'when it was parked';
COMMENT ON COLUMN @extschema@.sqs_parked_groups.dead_letter IS
'id of the dead letter that it was parked for; NULL: that was sent to a queue';
COMMENT ON COLUMN @extschema@.sqs_parked_groups.messages IS
'dead letters of the group that have been neither redriven nor discarded';

CREATE FUNCTION @extschema@.sqs_release_group(
	queue text,
	group_id text,
	most integer DEFAULT NULL,
	OUT handled integer,
	OUT remaining integer,
	OUT failed_id bigint,
	OUT outcome text,
	OUT error text)
RETURNS record
AS 'MODULE_PATHNAME', 'sqs_release_group'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_release_group(text, text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_release_group(text, text, integer) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_release_group(text, text, integer) IS
'handles the messages of a parked group, in their order and in the caller''s transaction, as sqs_deliver() does, up to the first that fails, and "most" of them at most. If none remains, the group is released: messages that come after the commit are handled by the queue. Returns how many were handled or discarded, how many remain, and of the one that failed its id in sqs_dead_letters, what the error would lead to, and the error. The caller must be the queue''s owner, or, if there is nothing to be handled, have its privileges. Errors: the queue does not exist, the group is not parked';

CREATE FUNCTION @extschema@.sqs_deliver(
	queue text,
	body text,
	attributes jsonb DEFAULT NULL,
	group_id text DEFAULT NULL,
	message_id text DEFAULT NULL,
	system_attributes jsonb DEFAULT NULL,
	receive_count integer DEFAULT 1,
	OUT outcome text,
	OUT route text,
	OUT sqlstate text,
	OUT message text,
	OUT detail text,
	OUT hint text,
	OUT context text,
	OUT delay interval)
RETURNS record
AS 'MODULE_PATHNAME', 'sqs_deliver'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_deliver(text, text, jsonb, text, text, jsonb, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_deliver(text, text, jsonb, text, text, jsonb, integer) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_deliver(text, text, jsonb, text, text, jsonb, integer) IS
'has a queue''s handler handle a message in the caller''s transaction, without SQS: for tests and repairs. Envelopes and routes are as for a message that SQS delivers; handler_timeout is not, and deferred constraints are checked at the commit. Arguments as in sqs_message; if message_id is given, the message is recorded as handled, and not handled again. outcome: done; duplicate; or what an error or verdict leads to: retry, retry_now, pause, dead_letter, discard (then the handler has had no effect). route: key of the route, or NULL. The others: the error, and the delay that the verdict or rule says. current_user must be the queue''s owner (SET ROLE). Errors: the queue does not exist, there is no handler to call, SQS would not accept the message';


/* ------------------------------------------------------------------------
 * Sending now
 * ------------------------------------------------------------------------ */

CREATE FUNCTION @extschema@.sqs_send(
	queue text,
	body text,
	attributes jsonb DEFAULT NULL,
	delay interval DEFAULT NULL,
	group_id text DEFAULT NULL,
	deduplication_id text DEFAULT NULL,
	system_attributes jsonb DEFAULT NULL)
RETURNS text
AS 'MODULE_PATHNAME', 'sqs_send'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_send(text, text, jsonb, interval, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_send(text, text, jsonb, interval, text, text, jsonb) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_send(text, text, jsonb, interval, text, text, jsonb) IS
'sends a message now, whatever becomes of the transaction, and returns SQS''s message id. queue: name in sqs_queues, on whose server the role needs USAGE; body: 1 byte to 1 MiB, attributes included; attributes: a JSON object with at most 10 members, each a string, a number, or {"DataType": ..., "StringValue" or "BinaryValue" (base64): ...}; delay: 0 to 15 minutes, whole seconds, not on FIFO queues; group_id: required on FIFO queues; deduplication_id: required on FIFO queues without content-based deduplication; system_attributes: {"AWSTraceHeader": ...}. Ends within 30 s, including up to three attempts, and can be canceled. The error says whether the message may have been sent nevertheless';

CREATE TYPE @extschema@.sqs_outgoing AS (
	body text,
	attributes jsonb,
	delay interval,
	group_id text,
	deduplication_id text,
	system_attributes jsonb
);
REVOKE ALL ON TYPE @extschema@.sqs_outgoing FROM PUBLIC;
GRANT USAGE ON TYPE @extschema@.sqs_outgoing TO PUBLIC;
COMMENT ON TYPE @extschema@.sqs_outgoing IS
'a message for sqs_send_batch(); made by the function sqs_outgoing()';
COMMENT ON COLUMN @extschema@.sqs_outgoing.body IS
'the body: 1 byte to 1 MiB, attributes included';
COMMENT ON COLUMN @extschema@.sqs_outgoing.attributes IS
'message attributes, as in sqs_send()';
COMMENT ON COLUMN @extschema@.sqs_outgoing.delay IS
'0 to 15 minutes, whole seconds; not on FIFO queues; NULL: the queue''s own';
COMMENT ON COLUMN @extschema@.sqs_outgoing.group_id IS
'message group; required on FIFO queues';
COMMENT ON COLUMN @extschema@.sqs_outgoing.deduplication_id IS
'deduplication id; required on FIFO queues without content-based deduplication';
COMMENT ON COLUMN @extschema@.sqs_outgoing.system_attributes IS
'{"AWSTraceHeader": ...} or NULL';

CREATE FUNCTION @extschema@.sqs_outgoing(
	body text,
	attributes jsonb DEFAULT NULL,
	delay interval DEFAULT NULL,
	group_id text DEFAULT NULL,
	deduplication_id text DEFAULT NULL,
	system_attributes jsonb DEFAULT NULL)
RETURNS @extschema@.sqs_outgoing
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ROW(body, attributes, delay, group_id, deduplication_id, system_attributes)::@extschema@.sqs_outgoing;
REVOKE ALL ON FUNCTION @extschema@.sqs_outgoing(text, jsonb, interval, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_outgoing(text, jsonb, interval, text, text, jsonb) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_outgoing(text, jsonb, interval, text, text, jsonb) IS
'makes a message for sqs_send_batch(), for example sqs_send_batch(''queue'', ARRAY[sqs_outgoing(''one''), sqs_outgoing(''two'', delay => ''5 s'')])';

CREATE FUNCTION @extschema@.sqs_send_batch(
	queue text,
	messages @extschema@.sqs_outgoing[],
	OUT ordinal integer,
	OUT message_id text,
	OUT sequence_number numeric,
	OUT error_code text,
	OUT error_message text,
	OUT sender_fault boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'sqs_send_batch'
LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100;
REVOKE ALL ON FUNCTION @extschema@.sqs_send_batch(text, @extschema@.sqs_outgoing[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_send_batch(text, @extschema@.sqs_outgoing[]) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_send_batch(text, @extschema@.sqs_outgoing[]) IS
'sends any number of messages now, whatever becomes of the transaction, in requests of up to 10 messages and 1 MiB, several of them in parallel; messages of one group are sent one after the other. Returns one row per message: ordinal, its position in the array, from 1; message_id; sequence_number, on FIFO queues; for messages that were not sent error_code, error_message, and sender_fault, which is true if another attempt would fail, too. What is not the sender''s fault is tried three times. Errors: the queue does not exist, here or at AWS; no USAGE on its server';


/* ------------------------------------------------------------------------
 * Sending by the commit
 * ------------------------------------------------------------------------ */

CREATE TABLE sqsbridge_internal.outbox_rows (
	batch_id bigint NOT NULL,
	id bigint NOT NULL,
	queue_id integer NOT NULL,
	queue text COLLATE "C" NOT NULL,
	token uuid NOT NULL,
	enqueued_at timestamp with time zone NOT NULL,
	enqueued_by_oid oid NOT NULL,
	enqueued_by text COLLATE "C" NOT NULL,
	deliver_at timestamp with time zone,
	size integer NOT NULL,
	body text NOT NULL,
	attributes jsonb,
	group_id text COLLATE "C",
	deduplication_id text COLLATE "C",
	system_attributes jsonb,
	CONSTRAINT outbox_rows_pkey PRIMARY KEY (batch_id, id)
) USING heap WITH (
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_threshold = 1000
);

CREATE TABLE sqsbridge_internal.outbox_batches (
	batch_id bigint NOT NULL,
	xid xid8 NOT NULL,
	queue_id integer NOT NULL,
	deliver_at timestamp with time zone NOT NULL,
	"position" bigint NOT NULL,
	CONSTRAINT outbox_batches_pkey PRIMARY KEY (xid, batch_id, queue_id)
) USING heap WITH (
	autovacuum_vacuum_scale_factor = 0.05,
	autovacuum_vacuum_threshold = 1000
);

CREATE INDEX outbox_batches_order_idx
	ON sqsbridge_internal.outbox_batches (queue_id, deliver_at, "position");

SELECT pg_catalog.pg_extension_config_dump('sqsbridge_internal.outbox_rows', '');
SELECT pg_catalog.pg_extension_config_dump('sqsbridge_internal.outbox_batches', '');

COMMENT ON TABLE sqsbridge_internal.outbox_rows IS
'rows of sqs_outbox. Dumped by pg_dump';
COMMENT ON INDEX sqsbridge_internal.outbox_rows_pkey IS
'finds the messages of a batch, in the order in which they were enqueued';
COMMENT ON COLUMN sqsbridge_internal.outbox_rows.batch_id IS
'batch, as in outbox_batches';
COMMENT ON COLUMN sqsbridge_internal.outbox_rows.id IS
'id of the message';
COMMENT ON COLUMN sqsbridge_internal.outbox_rows.queue_id IS
'queue, as in queues';
COMMENT ON COLUMN sqsbridge_internal.outbox_rows.queue IS
'name that the queue had';
COMMENT ON COLUMN sqsbridge_internal.outbox_rows.token IS
'sent with the message, so that a second copy is recognized: as its deduplication id if none is given, and as the attribute sqsbridge-id';
COMMENT ON COLUMN sqsbridge_internal.outbox_rows.enqueued_at IS
'when the message was enqueued';
COMMENT ON COLUMN sqsbridge_internal.outbox_rows.enqueued_by_oid IS
'role that enqueued it, by OID and by name';
COMMENT ON COLUMN sqsbridge_internal.outbox_rows.enqueued_by IS
'name of that role';
COMMENT ON COLUMN sqsbridge_internal.outbox_rows.deliver_at IS
'the message is not sent before this time; NULL: at commit';
COMMENT ON COLUMN sqsbridge_internal.outbox_rows.size IS
'size in bytes, as SQS counts: body, and names, types, and values of attributes';
COMMENT ON COLUMN sqsbridge_internal.outbox_rows.body IS
'as in sqs_send()';
COMMENT ON COLUMN sqsbridge_internal.outbox_rows.attributes IS
'as in sqs_send()';
COMMENT ON COLUMN sqsbridge_internal.outbox_rows.group_id IS
'as in sqs_send()';
COMMENT ON COLUMN sqsbridge_internal.outbox_rows.deduplication_id IS
'as in sqs_send(); NULL: the token';
COMMENT ON COLUMN sqsbridge_internal.outbox_rows.system_attributes IS
'as in sqs_send()';

COMMENT ON TABLE sqsbridge_internal.outbox_batches IS
'when and in what order the rows of outbox_rows are sent: one row per transaction and queue, and one per message with a deliver_at. Dumped by pg_dump';
COMMENT ON INDEX sqsbridge_internal.outbox_batches_pkey IS
'finds what a transaction has enqueued';
COMMENT ON INDEX sqsbridge_internal.outbox_batches_order_idx IS
'finds what is to be sent next';
COMMENT ON COLUMN sqsbridge_internal.outbox_batches.batch_id IS
'batch, as in outbox_rows';
COMMENT ON COLUMN sqsbridge_internal.outbox_batches.xid IS
'transaction that made it';
COMMENT ON COLUMN sqsbridge_internal.outbox_batches.queue_id IS
'queue, as in queues';
COMMENT ON COLUMN sqsbridge_internal.outbox_batches.deliver_at IS
'the batch is not sent before this time; -infinity: at commit';
COMMENT ON COLUMN sqsbridge_internal.outbox_batches."position" IS
'order of the commits';

CREATE FUNCTION @extschema@.sqs_get_outbox(
	OUT queue text,
	OUT body text,
	OUT attributes jsonb,
	OUT group_id text,
	OUT deduplication_id text,
	OUT deliver_at timestamp with time zone,
	OUT system_attributes jsonb,
	OUT id bigint,
	OUT enqueued_at timestamp with time zone,
	OUT enqueued_by name)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'sqs_get_outbox'
LANGUAGE C STRICT STABLE PARALLEL RESTRICTED ROWS 1000;
REVOKE ALL ON FUNCTION @extschema@.sqs_get_outbox() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_get_outbox() TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_get_outbox() IS
'messages that wait to be sent and that the caller may see; use the view sqs_outbox';

CREATE VIEW @extschema@.sqs_outbox AS
SELECT
	o.queue,
	o.body,
	o.attributes,
	o.group_id,
	o.deduplication_id,
	o.deliver_at,
	o.system_attributes,
	o.id,
	o.enqueued_at,
	o.enqueued_by
FROM @extschema@.sqs_get_outbox() o;
REVOKE ALL ON TABLE @extschema@.sqs_outbox FROM PUBLIC;
GRANT SELECT, INSERT ON TABLE @extschema@.sqs_outbox TO PUBLIC;

CREATE FUNCTION @extschema@.sqs_outbox_insert()
RETURNS trigger
AS 'MODULE_PATHNAME', 'sqs_outbox_insert'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_outbox_insert() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_outbox_insert() TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_outbox_insert() IS
'trigger function of sqs_outbox: checks and stores a row that is inserted';

CREATE TRIGGER sqs_outbox_insert
	INSTEAD OF INSERT ON @extschema@.sqs_outbox
	FOR EACH ROW EXECUTE FUNCTION @extschema@.sqs_outbox_insert();
COMMENT ON TRIGGER sqs_outbox_insert ON @extschema@.sqs_outbox IS
'checks and stores a row that is inserted';

COMMENT ON VIEW @extschema@.sqs_outbox IS
'transactional outbox: a row inserted here is sent after its transaction has committed, and leaves the outbox when SQS has confirmed it. Only queue and body are required; INSERT ... SELECT and COPY work. A role can insert rows for queues on whose servers it has USAGE. It sees the rows that it enqueued itself, and those of queues if it has the privileges of the owner of the queue or of its server; members of pg_read_all_data see all. Rows cannot be updated or deleted';
COMMENT ON COLUMN @extschema@.sqs_outbox.queue IS
'name of the queue, as in sqs_queues; required';
COMMENT ON COLUMN @extschema@.sqs_outbox.body IS
'the body: 1 byte to 1 MiB, attributes included; required';
COMMENT ON COLUMN @extschema@.sqs_outbox.attributes IS
'message attributes, as in sqs_send(). If there are fewer than 10, sqsbridge adds the attribute sqsbridge-id';
COMMENT ON COLUMN @extschema@.sqs_outbox.group_id IS
'message group; required on FIFO queues. Messages of a group are sent in the order in which their transactions commit';
COMMENT ON COLUMN @extschema@.sqs_outbox.deduplication_id IS
'deduplication id, on FIFO queues; NULL: a unique one';
COMMENT ON COLUMN @extschema@.sqs_outbox.deliver_at IS
'the message is not sent before this time; NULL: at commit';
COMMENT ON COLUMN @extschema@.sqs_outbox.system_attributes IS
'{"AWSTraceHeader": ...} or NULL';
COMMENT ON COLUMN @extschema@.sqs_outbox.id IS
'id of the row; cannot be given';
COMMENT ON COLUMN @extschema@.sqs_outbox.enqueued_at IS
'when the row was inserted; cannot be given';
COMMENT ON COLUMN @extschema@.sqs_outbox.enqueued_by IS
'role that inserted the row; cannot be given';

CREATE FUNCTION @extschema@.sqs_enqueue(
	queue text,
	body text,
	attributes jsonb DEFAULT NULL,
	delay interval DEFAULT NULL,
	group_id text DEFAULT NULL,
	deduplication_id text DEFAULT NULL,
	system_attributes jsonb DEFAULT NULL,
	deliver_at timestamp with time zone DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'sqs_enqueue'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_enqueue(text, text, jsonb, interval, text, text, jsonb, timestamp with time zone) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_enqueue(text, text, jsonb, interval, text, text, jsonb, timestamp with time zone) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_enqueue(text, text, jsonb, interval, text, text, jsonb, timestamp with time zone) IS
'inserts a row into sqs_outbox and returns its id: the message is sent after the transaction has committed. Arguments as in sqs_send(), but the delay can be of any length, also on FIFO queues, and is counted from now; deliver_at says the same as a time';

CREATE TABLE sqsbridge_internal.outbox_failures (
	id bigint NOT NULL,
	queue text COLLATE "C" NOT NULL,
	error_code text NOT NULL,
	error_message text NOT NULL,
	failed_at timestamp with time zone NOT NULL,
	body text NOT NULL,
	attributes jsonb,
	group_id text COLLATE "C",
	deduplication_id text COLLATE "C",
	system_attributes jsonb,
	enqueued_at timestamp with time zone NOT NULL,
	enqueued_by_oid oid NOT NULL,
	enqueued_by text COLLATE "C" NOT NULL,
	token uuid NOT NULL,
	queue_id integer NOT NULL,
	server_oid oid,
	server text COLLATE "C",
	CONSTRAINT outbox_failures_pkey PRIMARY KEY (id)
) USING heap;

SELECT pg_catalog.pg_extension_config_dump('sqsbridge_internal.outbox_failures', '');

COMMENT ON TABLE sqsbridge_internal.outbox_failures IS
'rows of sqs_outbox_failures. Dumped by pg_dump';
COMMENT ON INDEX sqsbridge_internal.outbox_failures_pkey IS
'a message fails once';
COMMENT ON COLUMN sqsbridge_internal.outbox_failures.id IS
'as in the view sqs_outbox_failures';
COMMENT ON COLUMN sqsbridge_internal.outbox_failures.queue IS
'as in the view sqs_outbox_failures';
COMMENT ON COLUMN sqsbridge_internal.outbox_failures.error_code IS
'as in the view sqs_outbox_failures';
COMMENT ON COLUMN sqsbridge_internal.outbox_failures.error_message IS
'as in the view sqs_outbox_failures';
COMMENT ON COLUMN sqsbridge_internal.outbox_failures.failed_at IS
'as in the view sqs_outbox_failures';
COMMENT ON COLUMN sqsbridge_internal.outbox_failures.body IS
'as in the view sqs_outbox_failures';
COMMENT ON COLUMN sqsbridge_internal.outbox_failures.attributes IS
'as in the view sqs_outbox_failures';
COMMENT ON COLUMN sqsbridge_internal.outbox_failures.group_id IS
'as in the view sqs_outbox_failures';
COMMENT ON COLUMN sqsbridge_internal.outbox_failures.deduplication_id IS
'as in the view sqs_outbox_failures';
COMMENT ON COLUMN sqsbridge_internal.outbox_failures.system_attributes IS
'as in the view sqs_outbox_failures';
COMMENT ON COLUMN sqsbridge_internal.outbox_failures.enqueued_at IS
'as in the view sqs_outbox_failures';
COMMENT ON COLUMN sqsbridge_internal.outbox_failures.enqueued_by_oid IS
'role that enqueued it, by OID and by name';
COMMENT ON COLUMN sqsbridge_internal.outbox_failures.enqueued_by IS
'name of that role';
COMMENT ON COLUMN sqsbridge_internal.outbox_failures.token IS
'as in outbox_rows; sqs_outbox_retry() keeps it';
COMMENT ON COLUMN sqsbridge_internal.outbox_failures.queue_id IS
'queue that it was for, as in queues';
COMMENT ON COLUMN sqsbridge_internal.outbox_failures.server_oid IS
'foreign server of the queue, by OID and by name; NULL: the queue was no longer registered';
COMMENT ON COLUMN sqsbridge_internal.outbox_failures.server IS
'name of that server';

CREATE FUNCTION @extschema@.sqs_get_outbox_failures(
	OUT id bigint,
	OUT queue text,
	OUT error_code text,
	OUT error_message text,
	OUT failed_at timestamp with time zone,
	OUT body text,
	OUT attributes jsonb,
	OUT group_id text,
	OUT deduplication_id text,
	OUT system_attributes jsonb,
	OUT enqueued_at timestamp with time zone,
	OUT enqueued_by name,
	OUT server name)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'sqs_get_outbox_failures'
LANGUAGE C STRICT STABLE PARALLEL RESTRICTED ROWS 100;
REVOKE ALL ON FUNCTION @extschema@.sqs_get_outbox_failures() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_get_outbox_failures() TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_get_outbox_failures() IS
'messages of the outbox that cannot be sent and that the caller may see; use the view sqs_outbox_failures';

CREATE VIEW @extschema@.sqs_outbox_failures AS
SELECT
	f.id,
	f.queue,
	f.error_code,
	f.error_message,
	f.failed_at,
	f.body,
	f.attributes,
	f.group_id,
	f.deduplication_id,
	f.system_attributes,
	f.enqueued_at,
	f.enqueued_by,
	f.server
FROM @extschema@.sqs_get_outbox_failures() f;
REVOKE ALL ON TABLE @extschema@.sqs_outbox_failures FROM PUBLIC;
GRANT SELECT ON TABLE @extschema@.sqs_outbox_failures TO PUBLIC;
COMMENT ON VIEW @extschema@.sqs_outbox_failures IS
'messages of the outbox that cannot be sent, one row each; sqs_outbox_retry(id) moves a row back into the outbox, sqs_outbox_discard(id) deletes it. A role sees the rows that it enqueued itself, and those of queues if it has the privileges of the owner of the queue or of its server; members of pg_read_all_data see all. Dumped by pg_dump';
COMMENT ON COLUMN @extschema@.sqs_outbox_failures.id IS
'id that the row had in sqs_outbox';
COMMENT ON COLUMN @extschema@.sqs_outbox_failures.queue IS
'name of the queue';
COMMENT ON COLUMN @extschema@.sqs_outbox_failures.error_code IS
'error code of SQS, or the one that SQS would have returned';
COMMENT ON COLUMN @extschema@.sqs_outbox_failures.error_message IS
'why the message cannot be sent';
COMMENT ON COLUMN @extschema@.sqs_outbox_failures.failed_at IS
'when the message was moved here';
COMMENT ON COLUMN @extschema@.sqs_outbox_failures.body IS
'as in sqs_outbox';
COMMENT ON COLUMN @extschema@.sqs_outbox_failures.attributes IS
'as in sqs_outbox';
COMMENT ON COLUMN @extschema@.sqs_outbox_failures.group_id IS
'as in sqs_outbox';
COMMENT ON COLUMN @extschema@.sqs_outbox_failures.deduplication_id IS
'as in sqs_outbox';
COMMENT ON COLUMN @extschema@.sqs_outbox_failures.system_attributes IS
'as in sqs_outbox';
COMMENT ON COLUMN @extschema@.sqs_outbox_failures.enqueued_at IS
'as in sqs_outbox';
COMMENT ON COLUMN @extschema@.sqs_outbox_failures.enqueued_by IS
'as in sqs_outbox';
COMMENT ON COLUMN @extschema@.sqs_outbox_failures.server IS
'foreign server of the queue; NULL: the queue was no longer registered';

CREATE FUNCTION @extschema@.sqs_outbox_retry(id bigint)
RETURNS bigint
AS 'MODULE_PATHNAME', 'sqs_outbox_retry'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_outbox_retry(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_outbox_retry(bigint) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_outbox_retry(bigint) IS
'moves a row of sqs_outbox_failures back into sqs_outbox, to be sent after the transaction has committed, and returns its new id. Requires USAGE on the queue''s server; for the role that enqueued the message, and roles that have the privileges of the owner of the queue or of its server. Errors: no such row, the queue is not registered, the message cannot be sent as it is';

CREATE FUNCTION @extschema@.sqs_outbox_discard(id bigint)
RETURNS void
AS 'MODULE_PATHNAME', 'sqs_outbox_discard'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_outbox_discard(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_outbox_discard(bigint) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_outbox_discard(bigint) IS
'deletes a row of sqs_outbox_failures; for the role that enqueued the message, and roles that have the privileges of the owner of the queue or of its server. Error: no such row';

CREATE FUNCTION @extschema@.sqs_adopt_queues(waiting text)
RETURNS integer
AS 'MODULE_PATHNAME', 'sqs_adopt_queues'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION @extschema@.sqs_adopt_queues(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_adopt_queues(text) IS
'makes the queues of a copy of a database (a restored dump, CREATE DATABASE ... TEMPLATE, pg_upgrade) work in it, and returns their number; takes effect at commit. Until then, nothing is received and nothing is sent. waiting says what becomes of the messages that wait in the copied outbox: ''send'' sends them, which is right after pg_upgrade or if the original is gone; ''discard'' deletes them, including those inserted since, and disables the queues, which is right if the original still runs and sends them itself. For superusers';


/* ------------------------------------------------------------------------
 * Statistics
 *
 * The functions decide themselves what the caller may see.
 * ------------------------------------------------------------------------ */

CREATE FUNCTION @extschema@.sqs_get_queue_stats(
	OUT queue_id integer,
	OUT state text,
	OUT state_since timestamp with time zone,
	OUT received bigint,
	OUT acked bigint,
	OUT failed bigint,
	OUT duplicates bigint,
	OUT discarded bigint,
	OUT dead_letters bigint,
	OUT unroutable bigint,
	OUT batch_splits bigint,
	OUT released bigint,
	OUT lost bigint,
	OUT retried bigint,
	OUT retried_now bigint,
	OUT uncharged bigint,
	OUT held bigint,
	OUT given_back bigint,
	OUT heartbeats bigint,
	OUT poll_failures bigint,
	OUT delete_failures bigint,
	OUT failures_dropped bigint,
	OUT sent bigint,
	OUT send_failures bigint,
	OUT outbox_sent bigint,
	OUT outbox_failed bigint,
	OUT in_flight integer,
	OUT receive_calls bigint,
	OUT delete_calls bigint,
	OUT visibility_calls bigint,
	OUT send_calls bigint,
	OUT other_calls bigint,
	OUT bytes_received bigint,
	OUT bytes_sent bigint,
	OUT handler_time_total double precision,
	OUT handler_time_max double precision,
	OUT handler_time_histogram bigint[],
	OUT last_receive_at timestamp with time zone,
	OUT last_success_at timestamp with time zone,
	OUT last_error_at timestamp with time zone,
	OUT last_error text,
	OUT error_since timestamp with time zone,
	OUT consecutive_errors bigint,
	OUT next_poll_at timestamp with time zone,
	OUT outbox_state text,
	OUT outbox_state_since timestamp with time zone,
	OUT outbox_in_flight integer,
	OUT outbox_last_success_at timestamp with time zone,
	OUT outbox_last_error_at timestamp with time zone,
	OUT outbox_last_error text,
	OUT outbox_error_since timestamp with time zone,
	OUT outbox_consecutive_errors bigint,
	OUT outbox_next_attempt_at timestamp with time zone,
	OUT stats_reset timestamp with time zone)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'sqs_get_queue_stats'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 10;
REVOKE ALL ON FUNCTION @extschema@.sqs_get_queue_stats() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_get_queue_stats() TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_get_queue_stats() IS
'statistics of the queues of this database; use the views sqs_stats and sqs_stats_outbox';

CREATE FUNCTION @extschema@.sqs_get_workers(
	OUT kind text,
	OUT pid integer,
	OUT datid oid,
	OUT queue_id integer,
	OUT role oid,
	OUT state text,
	OUT started_at timestamp with time zone,
	OUT messages bigint,
	OUT last_error_at timestamp with time zone,
	OUT last_error text,
	OUT error_since timestamp with time zone,
	OUT consecutive_errors bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'sqs_get_workers'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 10;
REVOKE ALL ON FUNCTION @extschema@.sqs_get_workers() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_get_workers() TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_get_workers() IS
'processes of sqsbridge in the whole cluster; use the view sqs_stats_workers';

CREATE FUNCTION @extschema@.sqs_get_hindrance()
RETURNS text
AS 'MODULE_PATHNAME', 'sqs_get_hindrance'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
REVOKE ALL ON FUNCTION @extschema@.sqs_get_hindrance() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_get_hindrance() TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_get_hindrance() IS
'what keeps the queues of this database as a whole from running; use the view sqs_stats';

CREATE FUNCTION @extschema@.sqs_get_in_flight(
	OUT queue_id integer,
	OUT message_id text,
	OUT group_id text,
	OUT receive_count integer,
	OUT status text,
	OUT handler_pid integer,
	OUT received_at timestamp with time zone,
	OUT lease_until timestamp with time zone)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'sqs_get_in_flight'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 100;
REVOKE ALL ON FUNCTION @extschema@.sqs_get_in_flight() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_get_in_flight() TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_get_in_flight() IS
'messages in flight of the queues of this database; use the view sqs_stats_in_flight';

CREATE FUNCTION @extschema@.sqs_stats_reset(queue text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'sqs_stats_reset'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
REVOKE ALL ON FUNCTION @extschema@.sqs_stats_reset(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_stats_reset(text) IS
'resets the counters and times of a queue, or with NULL of all queues of this database, at once; for superusers and roles that they grant EXECUTE to. Error: the queue does not exist';

CREATE FUNCTION @extschema@.sqs_get_dead_letter_ages(
	OUT queue_id integer,
	OUT oldest_at timestamp with time zone)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'sqs_get_dead_letter_ages'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 10;
REVOKE ALL ON FUNCTION @extschema@.sqs_get_dead_letter_ages() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_get_dead_letter_ages() TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_get_dead_letter_ages() IS
'the oldest dead letter of each queue that has been neither redriven nor discarded; use the view sqs_stats';

CREATE VIEW @extschema@.sqs_stats AS
SELECT
	q.name AS queue,
	q.queue_id,
	q.owner,
	CASE
	WHEN q.broken THEN 'error'::text
	WHEN q.enabled AND (q.handler IS NOT NULL OR q.route_by IS NOT NULL) AND
		 @extschema@.sqs_get_hindrance() OPERATOR(pg_catalog.=) 'not admitted'::text
	THEN 'not admitted'::text
	ELSE COALESCE(s.state,
				  CASE
				  WHEN q.handler IS NULL AND q.route_by IS NULL THEN 'send only'::text
				  WHEN NOT q.enabled THEN 'disabled'::text
				  ELSE COALESCE(@extschema@.sqs_get_hindrance(), 'starting'::text)
				  END)
	END AS state,
	s.state_since,
	s.in_flight,
	s.received,
	s.acked,
	s.failed,
	s.duplicates,
	s.discarded,
	s.dead_letters,
	s.unroutable,
	s.batch_splits,
	s.released,
	s.lost,
	s.retried,
	s.retried_now,
	s.uncharged,
	s.held,
	s.given_back,
	s.heartbeats,
	s.poll_failures,
	s.delete_failures,
	s.failures_dropped,
	s.sent,
	s.send_failures,
	s.receive_calls,
	s.delete_calls,
	s.visibility_calls,
	s.send_calls,
	s.other_calls,
	s.bytes_received,
	s.bytes_sent,
	s.handler_time_total,
	s.handler_time_max,
	s.handler_time_histogram,
	s.last_receive_at,
	s.last_success_at,
	s.last_error_at,
	COALESCE(q.problem,
			 CASE
			 WHEN NOT q.enabled OR (q.handler IS NULL AND q.route_by IS NULL) THEN NULL
			 WHEN @extschema@.sqs_get_hindrance() OPERATOR(pg_catalog.=) 'not admitted'::text
			 THEN 'sqsbridge.databases does not name this database'::text
			 WHEN s.queue_id IS NULL AND
				  @extschema@.sqs_get_hindrance() OPERATOR(pg_catalog.=) 'waiting for room'::text
			 THEN 'as many queues run as sqsbridge.max_queues allows'::text
			 END, s.last_error) AS last_error,
	s.error_since,
	s.consecutive_errors,
	s.next_poll_at,
	d.oldest_at AS oldest_dead_letter_at,
	s.stats_reset
FROM @extschema@.sqs_get_queues() q
	LEFT JOIN @extschema@.sqs_get_queue_stats() s
		ON s.queue_id OPERATOR(pg_catalog.=) q.queue_id
	LEFT JOIN @extschema@.sqs_get_dead_letter_ages() d
		ON d.queue_id OPERATOR(pg_catalog.=) q.queue_id;
REVOKE ALL ON TABLE @extschema@.sqs_stats FROM PUBLIC;
GRANT SELECT ON TABLE @extschema@.sqs_stats TO PUBLIC;
COMMENT ON VIEW @extschema@.sqs_stats IS
'state and statistics of the queues of this database, one row per configured queue. Counters are kept in shared memory: they survive the restart of a worker, but not of the server. They are NULL as long as nothing has been counted for the queue';
COMMENT ON COLUMN @extschema@.sqs_stats.queue IS
'name of the queue';
COMMENT ON COLUMN @extschema@.sqs_stats.queue_id IS
'id of the queue, as in sqs_queues';
COMMENT ON COLUMN @extschema@.sqs_stats.owner IS
'owner of the queue';
COMMENT ON COLUMN @extschema@.sqs_stats.state IS
'state of the queue: polling is normal; send only and disabled are as configured; starting and stopping pass; paused and throttled: handlers fail, and one message at a time is tried, until one succeeds; for these, backing off, error, waiting for worker slot, waiting for room, and not admitted, see last_error';
COMMENT ON COLUMN @extschema@.sqs_stats.state_since IS
'when the state last changed';
COMMENT ON COLUMN @extschema@.sqs_stats.in_flight IS
'messages received and neither acknowledged nor returned';
COMMENT ON COLUMN @extschema@.sqs_stats.received IS
'messages received';
COMMENT ON COLUMN @extschema@.sqs_stats.acked IS
'messages deleted from SQS because they have been handled, at this delivery or an earlier one';
COMMENT ON COLUMN @extschema@.sqs_stats.failed IS
'attempts that failed; see sqs_failures';
COMMENT ON COLUMN @extschema@.sqs_stats.duplicates IS
'messages that had been handled before and were not handled again; those that are then deleted count as acked, too';
COMMENT ON COLUMN @extschema@.sqs_stats.dead_letters IS
'messages that have become dead letters';
COMMENT ON COLUMN @extschema@.sqs_stats.discarded IS
'messages that were not to be handled: their handler called sqs_discard(), or they were test events of S3; those that are then deleted count as acked, too';
COMMENT ON COLUMN @extschema@.sqs_stats.dead_letters IS
'messages that were moved to sqs_dead_letters; those that are then deleted count as acked, too';
COMMENT ON COLUMN @extschema@.sqs_stats.unroutable IS
'messages that no route was for; one that fails for that counts each time';
COMMENT ON COLUMN @extschema@.sqs_stats.batch_splits IS
'how often messages of a batch were run again in parts, because the handler had failed with them together';
COMMENT ON COLUMN @extschema@.sqs_stats.released IS
'messages made visible again: not handled, as at a shutdown, or failed with a retry_delay';
COMMENT ON COLUMN @extschema@.sqs_stats.lost IS
'messages whose lease ended before they were done: SQS may have delivered them to somebody else';
COMMENT ON COLUMN @extschema@.sqs_stats.retried IS
'failed attempts after which the message is to be handled again';
COMMENT ON COLUMN @extschema@.sqs_stats.retried_now IS
'attempts that were made at once after one that failed, as by the action retry_now';
COMMENT ON COLUMN @extschema@.sqs_stats.uncharged IS
'failed attempts that do not count for their message: the queue was paused or throttled, or the handler has said so';
COMMENT ON COLUMN @extschema@.sqs_stats.held IS
'how often a message was kept in hand until it was to be handled again, which costs no receive';
COMMENT ON COLUMN @extschema@.sqs_stats.given_back IS
'messages that were made visible again without having been handled, because an earlier one of their message group has failed, or because they would have had to wait for long; each costs a receive';
COMMENT ON COLUMN @extschema@.sqs_stats.heartbeats IS
'renewals of a lease';
COMMENT ON COLUMN @extschema@.sqs_stats.poll_failures IS
'ReceiveMessage calls, and calls that look up the queue, that failed';
COMMENT ON COLUMN @extschema@.sqs_stats.failures_dropped IS
'rows of sqs_failures that were deleted early, the oldest first, or never written, because of sqsbridge.max_failures';
COMMENT ON COLUMN @extschema@.sqs_stats.delete_failures IS
'deletions that failed; they are tried again until the lease ends';
COMMENT ON COLUMN @extschema@.sqs_stats.sent IS
'messages sent, by sqs_send(), by sqs_send_batch() and from the outbox';
COMMENT ON COLUMN @extschema@.sqs_stats.send_failures IS
'messages that sqs_send() and sqs_send_batch() could not send; for the outbox, see sqs_stats_outbox';
COMMENT ON COLUMN @extschema@.sqs_stats.receive_calls IS
'ReceiveMessage calls to SQS';
COMMENT ON COLUMN @extschema@.sqs_stats.delete_calls IS
'DeleteMessageBatch calls to SQS';
COMMENT ON COLUMN @extschema@.sqs_stats.visibility_calls IS
'ChangeMessageVisibilityBatch calls to SQS';
COMMENT ON COLUMN @extschema@.sqs_stats.send_calls IS
'SendMessage and SendMessageBatch calls to SQS';
COMMENT ON COLUMN @extschema@.sqs_stats.other_calls IS
'other calls to SQS, such as GetQueueUrl';
COMMENT ON COLUMN @extschema@.sqs_stats.bytes_received IS
'bytes of SQS''s replies';
COMMENT ON COLUMN @extschema@.sqs_stats.bytes_sent IS
'bytes of the requests to SQS';
COMMENT ON COLUMN @extschema@.sqs_stats.handler_time_total IS
'time spent in handlers, in milliseconds';
COMMENT ON COLUMN @extschema@.sqs_stats.handler_time_max IS
'longest run of a handler, in milliseconds';
COMMENT ON COLUMN @extschema@.sqs_stats.handler_time_histogram IS
'number of handler runs by run time, in 17 buckets: up to 1, 2, 5, 10, 20, 50, 100, 200, 500 ms, 1, 2, 5, 10, 30, 60, 300 s, and longer';
COMMENT ON COLUMN @extschema@.sqs_stats.last_receive_at IS
'when a ReceiveMessage call last succeeded, with or without messages';
COMMENT ON COLUMN @extschema@.sqs_stats.last_success_at IS
'when a message was last acknowledged';
COMMENT ON COLUMN @extschema@.sqs_stats.last_error_at IS
'when sqsbridge last had an error with this queue; errors of handlers are in sqs_failures';
COMMENT ON COLUMN @extschema@.sqs_stats.last_error IS
'text of that error';
COMMENT ON COLUMN @extschema@.sqs_stats.error_since IS
'when the current series of errors began; NULL: there is none';
COMMENT ON COLUMN @extschema@.sqs_stats.consecutive_errors IS
'length of the current series of errors; 0: there is none';
COMMENT ON COLUMN @extschema@.sqs_stats.next_poll_at IS
'when SQS will be called again after errors, or, if the queue is paused or throttled, a message is tried again; NULL: there is no delay';
COMMENT ON COLUMN @extschema@.sqs_stats.oldest_dead_letter_at IS
'when the oldest dead letter that has been neither redriven nor discarded became one; NULL: there is none';
COMMENT ON COLUMN @extschema@.sqs_stats.stats_reset IS
'when counting started';

CREATE FUNCTION @extschema@.sqs_get_outbox_counts(
	OUT queue_id integer,
	OUT waiting bigint,
	OUT oldest_at timestamp with time zone,
	OUT scheduled bigint,
	OUT next_deliver_at timestamp with time zone)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'sqs_get_outbox_counts'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 10;
REVOKE ALL ON FUNCTION @extschema@.sqs_get_outbox_counts() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_get_outbox_counts() TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_get_outbox_counts() IS
'number of messages in the outbox by queue; use the view sqs_stats_outbox';

CREATE VIEW @extschema@.sqs_stats_outbox AS
SELECT
	q.name AS queue,
	q.queue_id,
	CASE
	WHEN q.broken THEN 'error'::text
	WHEN q.enabled AND
		 @extschema@.sqs_get_hindrance() OPERATOR(pg_catalog.=) 'not admitted'::text
	THEN 'not admitted'::text
	WHEN q.enabled THEN COALESCE(s.outbox_state, 'idle'::text)
	ELSE 'disabled'::text
	END AS state,
	s.outbox_state_since AS state_since,
	COALESCE(r.waiting, 0::bigint) AS waiting,
	r.oldest_at,
	COALESCE(r.scheduled, 0::bigint) AS scheduled,
	r.next_deliver_at,
	s.outbox_in_flight AS in_flight,
	s.outbox_sent AS sent,
	s.outbox_failed AS failed,
	s.outbox_last_success_at AS last_success_at,
	s.outbox_last_error_at AS last_error_at,
	COALESCE(q.problem, s.outbox_last_error) AS last_error,
	s.outbox_error_since AS error_since,
	s.outbox_consecutive_errors AS consecutive_errors,
	s.outbox_next_attempt_at AS next_attempt_at
FROM @extschema@.sqs_get_queues() q
	LEFT JOIN @extschema@.sqs_get_queue_stats() s
		ON s.queue_id OPERATOR(pg_catalog.=) q.queue_id
	LEFT JOIN @extschema@.sqs_get_outbox_counts() r
		ON r.queue_id OPERATOR(pg_catalog.=) q.queue_id;
REVOKE ALL ON TABLE @extschema@.sqs_stats_outbox FROM PUBLIC;
GRANT SELECT ON TABLE @extschema@.sqs_stats_outbox TO PUBLIC;
COMMENT ON VIEW @extschema@.sqs_stats_outbox IS
'state and statistics of the outbox, one row per configured queue. The view counts the rows of the outbox, so it takes longer the more there are; counters are kept in shared memory and do not survive a restart of the server';
COMMENT ON COLUMN @extschema@.sqs_stats_outbox.queue IS
'name of the queue';
COMMENT ON COLUMN @extschema@.sqs_stats_outbox.queue_id IS
'id of the queue, as in sqs_queues';
COMMENT ON COLUMN @extschema@.sqs_stats_outbox.state IS
'state of sending: idle, sending, backing off (see last_error), error (see last_error), disabled (as the queue), or not admitted (sqsbridge.databases does not name the database)';
COMMENT ON COLUMN @extschema@.sqs_stats_outbox.state_since IS
'when the state last changed';
COMMENT ON COLUMN @extschema@.sqs_stats_outbox.waiting IS
'messages that are to be sent now and that SQS has not confirmed';
COMMENT ON COLUMN @extschema@.sqs_stats_outbox.oldest_at IS
'when the oldest of them was enqueued; NULL: there are none';
COMMENT ON COLUMN @extschema@.sqs_stats_outbox.scheduled IS
'messages whose deliver_at has not come';
COMMENT ON COLUMN @extschema@.sqs_stats_outbox.next_deliver_at IS
'when the first of them is due';
COMMENT ON COLUMN @extschema@.sqs_stats_outbox.in_flight IS
'messages in requests that SQS has not answered yet';
COMMENT ON COLUMN @extschema@.sqs_stats_outbox.sent IS
'messages of the outbox that SQS has confirmed';
COMMENT ON COLUMN @extschema@.sqs_stats_outbox.failed IS
'messages moved to sqs_outbox_failures';
COMMENT ON COLUMN @extschema@.sqs_stats_outbox.last_success_at IS
'when SQS last confirmed messages';
COMMENT ON COLUMN @extschema@.sqs_stats_outbox.last_error_at IS
'when sending last failed';
COMMENT ON COLUMN @extschema@.sqs_stats_outbox.last_error IS
'text of that error';
COMMENT ON COLUMN @extschema@.sqs_stats_outbox.error_since IS
'when the current series of errors began; NULL: there is none';
COMMENT ON COLUMN @extschema@.sqs_stats_outbox.consecutive_errors IS
'length of the current series of errors; 0: there is none';
COMMENT ON COLUMN @extschema@.sqs_stats_outbox.next_attempt_at IS
'when sending will be tried again after errors; NULL: there is no delay';

CREATE FUNCTION @extschema@.sqs_get_remark()
RETURNS text
AS 'MODULE_PATHNAME', 'sqs_get_remark'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
REVOKE ALL ON FUNCTION @extschema@.sqs_get_remark() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_get_remark() TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_get_remark() IS
'triggers, policies, and rules that somebody has put on the internal tables of this database, where they have no effect; use the view sqs_stats_workers';

CREATE VIEW @extschema@.sqs_stats_workers AS
SELECT
	w.kind,
	w.pid,
	d.datname AS database,
	q.name AS queue,
	w.role::regrole AS role,
	w.state,
	w.started_at,
	w.messages,
	w.last_error_at,
	w.last_error,
	w.error_since,
	w.consecutive_errors,
	CASE
	WHEN w.kind OPERATOR(pg_catalog.=) 'database worker'::text AND
		 d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
	THEN @extschema@.sqs_get_remark()
	END AS remark
FROM @extschema@.sqs_get_workers() w
	LEFT JOIN pg_catalog.pg_database d
		ON d.oid OPERATOR(pg_catalog.=) w.datid
	LEFT JOIN @extschema@.sqs_queues q
		ON q.queue_id OPERATOR(pg_catalog.=) w.queue_id AND
		   d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database();
REVOKE ALL ON TABLE @extschema@.sqs_stats_workers FROM PUBLIC;
GRANT SELECT ON TABLE @extschema@.sqs_stats_workers TO PUBLIC;
COMMENT ON VIEW @extschema@.sqs_stats_workers IS
'processes of sqsbridge in the whole cluster, one row each';
COMMENT ON COLUMN @extschema@.sqs_stats_workers.kind IS
'launcher, database worker, queue worker, or handler worker';
COMMENT ON COLUMN @extschema@.sqs_stats_workers.pid IS
'process id, as in pg_stat_activity';
COMMENT ON COLUMN @extschema@.sqs_stats_workers.database IS
'database that the process works in; NULL: none';
COMMENT ON COLUMN @extschema@.sqs_stats_workers.queue IS
'queue that the process works for; NULL: none, or a queue of another database';
COMMENT ON COLUMN @extschema@.sqs_stats_workers.role IS
'handler workers: role that the process is connected as';
COMMENT ON COLUMN @extschema@.sqs_stats_workers.state IS
'starting, idle, running, or stopping';
COMMENT ON COLUMN @extschema@.sqs_stats_workers.started_at IS
'when the process started';
COMMENT ON COLUMN @extschema@.sqs_stats_workers.messages IS
'messages that this process has received (queue workers) or handled (handler workers)';
COMMENT ON COLUMN @extschema@.sqs_stats_workers.last_error_at IS
'database workers: when one of their jobs last failed; NULL: none has';
COMMENT ON COLUMN @extschema@.sqs_stats_workers.last_error IS
'database workers: which job failed (supervision of the queues, cleaning of old rows, or the relay of the outbox), and how; for members of pg_read_all_stats';
COMMENT ON COLUMN @extschema@.sqs_stats_workers.error_since IS
'database workers: when the current series of errors of that job began; NULL: there is none';
COMMENT ON COLUMN @extschema@.sqs_stats_workers.consecutive_errors IS
'database workers: length of that series; 0: there is none';
COMMENT ON COLUMN @extschema@.sqs_stats_workers.remark IS
'database worker of this database: triggers, policies, and rules that somebody has put on the tables in schema sqsbridge_internal, where they have no effect; for members of pg_read_all_stats';

CREATE FUNCTION @extschema@.sqs_get_credentials(
	OUT server name,
	OUT role oid,
	OUT source text,
	OUT assumed_role text,
	OUT state text,
	OUT key_id text,
	OUT expires_at timestamp with time zone,
	OUT refresh_at timestamp with time zone,
	OUT fetched_at timestamp with time zone,
	OUT stale_since timestamp with time zone,
	OUT fetches bigint,
	OUT last_error_at timestamp with time zone,
	OUT last_error text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'sqs_get_credentials'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 10;
REVOKE ALL ON FUNCTION @extschema@.sqs_get_credentials() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_get_credentials() TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_get_credentials() IS
'as whom the servers of this database are used; use the view sqs_stats_credentials';

CREATE VIEW @extschema@.sqs_stats_credentials AS
SELECT
	c.server,
	c.role::regrole AS role,
	c.source,
	c.assumed_role,
	c.state,
	c.key_id,
	c.expires_at,
	c.refresh_at,
	c.fetched_at,
	c.stale_since,
	c.fetches,
	c.last_error_at,
	c.last_error
FROM @extschema@.sqs_get_credentials() c;
REVOKE ALL ON TABLE @extschema@.sqs_stats_credentials FROM PUBLIC;
GRANT SELECT ON TABLE @extschema@.sqs_stats_credentials TO PUBLIC;
COMMENT ON VIEW @extschema@.sqs_stats_credentials IS
'as whom the servers of this database are used, one row for each user mapping, and one for each server that has keys of the database server; for members of pg_read_all_stats and of the server''s owner';
COMMENT ON COLUMN @extschema@.sqs_stats_credentials.server IS
'server';
COMMENT ON COLUMN @extschema@.sqs_stats_credentials.role IS
'role of the user mapping; NULL: all roles without a mapping of their own';
COMMENT ON COLUMN @extschema@.sqs_stats_credentials.source IS
'where the keys come from, with file and line where they do; NULL: that could not be found out';
COMMENT ON COLUMN @extschema@.sqs_stats_credentials.assumed_role IS
'ARN of the role that is assumed with them; of several, the last one';
COMMENT ON COLUMN @extschema@.sqs_stats_credentials.state IS
'ready; fetching (there are none yet); refreshing (those that are there can be used); not used (no process has needed them lately); not shared (sqsbridge.max_credentials is too small: processes that need them fetch their own); expired; failed';
COMMENT ON COLUMN @extschema@.sqs_stats_credentials.key_id IS
'last four characters of the access key id; NULL: the keys were not fetched, or there are none';
COMMENT ON COLUMN @extschema@.sqs_stats_credentials.expires_at IS
'when the keys expire, by the clock of this server; NULL: never, or not known';
COMMENT ON COLUMN @extschema@.sqs_stats_credentials.refresh_at IS
'when they are to be renewed';
COMMENT ON COLUMN @extschema@.sqs_stats_credentials.fetched_at IS
'when they were fetched';
COMMENT ON COLUMN @extschema@.sqs_stats_credentials.stale_since IS
'since when renewing them has failed, while they are still used; NULL: it has not';
COMMENT ON COLUMN @extschema@.sqs_stats_credentials.fetches IS
'how often they were fetched, by all processes of the cluster together, since they are in shared memory';
COMMENT ON COLUMN @extschema@.sqs_stats_credentials.last_error_at IS
'when fetching them last failed; NULL: it has not since the last success';
COMMENT ON COLUMN @extschema@.sqs_stats_credentials.last_error IS
'why';

CREATE FUNCTION @extschema@.sqs_whoami(
	server name,
	OUT account text,
	OUT arn text,
	OUT user_id text,
	OUT source text)
AS 'MODULE_PATHNAME', 'sqs_whoami'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
REVOKE ALL ON FUNCTION @extschema@.sqs_whoami(name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.sqs_whoami(name) TO PUBLIC;
COMMENT ON FUNCTION @extschema@.sqs_whoami(name) IS
'asks AWS (GetCallerIdentity of STS) as whom the current role uses a server, with the source of the keys; takes up to 30 s, and needs USAGE on the server. Errors: there are no keys, AWS refuses them, or STS cannot be reached';

CREATE VIEW @extschema@.sqs_stats_in_flight AS
SELECT
	q.name AS queue,
	f.message_id,
	f.group_id,
	f.receive_count,
	f.status,
	f.handler_pid,
	f.received_at,
	f.lease_until
FROM @extschema@.sqs_get_in_flight() f
	JOIN @extschema@.sqs_queues q
		ON q.queue_id OPERATOR(pg_catalog.=) f.queue_id;
REVOKE ALL ON TABLE @extschema@.sqs_stats_in_flight FROM PUBLIC;
GRANT SELECT ON TABLE @extschema@.sqs_stats_in_flight TO PUBLIC;
COMMENT ON VIEW @extschema@.sqs_stats_in_flight IS
'messages that the queues of this database have received and that are not done, one row each. A role sees those of queues whose owner''s privileges it has; members of pg_read_all_stats see all';
COMMENT ON COLUMN @extschema@.sqs_stats_in_flight.queue IS
'name of the queue';
COMMENT ON COLUMN @extschema@.sqs_stats_in_flight.message_id IS
'SQS''s id of the message';
COMMENT ON COLUMN @extschema@.sqs_stats_in_flight.group_id IS
'message group, or NULL if it has none';
COMMENT ON COLUMN @extschema@.sqs_stats_in_flight.receive_count IS
'which delivery of the message this is: 1 or more; approximate';
COMMENT ON COLUMN @extschema@.sqs_stats_in_flight.status IS
'waiting (for a handler), running (with a handler, or next in its turn), or finished (committed, and waiting to become durable)';
COMMENT ON COLUMN @extschema@.sqs_stats_in_flight.handler_pid IS
'process id of the handler worker that has the message; NULL: none';
COMMENT ON COLUMN @extschema@.sqs_stats_in_flight.received_at IS
'when the message was received';
COMMENT ON COLUMN @extschema@.sqs_stats_in_flight.lease_until IS
'until when SQS delivers the message to nobody else; extended until the message is done';


/* ------------------------------------------------------------------------
 * The guard
 * ------------------------------------------------------------------------ */

REVOKE ALL ON TABLE sqsbridge_internal.queues FROM PUBLIC;
CREATE TRIGGER sqsbridge_guard
	BEFORE INSERT OR UPDATE OR DELETE ON sqsbridge_internal.queues
	FOR EACH ROW EXECUTE FUNCTION sqsbridge_internal.guard();
CREATE TRIGGER sqsbridge_guard_truncate
	BEFORE TRUNCATE ON sqsbridge_internal.queues
	FOR EACH STATEMENT EXECUTE FUNCTION sqsbridge_internal.guard();
ALTER TABLE sqsbridge_internal.queues ENABLE ALWAYS TRIGGER sqsbridge_guard;
ALTER TABLE sqsbridge_internal.queues ENABLE ALWAYS TRIGGER sqsbridge_guard_truncate;

REVOKE ALL ON TABLE sqsbridge_internal.routes FROM PUBLIC;
CREATE TRIGGER sqsbridge_guard
	BEFORE INSERT OR UPDATE OR DELETE ON sqsbridge_internal.routes
	FOR EACH ROW EXECUTE FUNCTION sqsbridge_internal.guard();
CREATE TRIGGER sqsbridge_guard_truncate
	BEFORE TRUNCATE ON sqsbridge_internal.routes
	FOR EACH STATEMENT EXECUTE FUNCTION sqsbridge_internal.guard();
ALTER TABLE sqsbridge_internal.routes ENABLE ALWAYS TRIGGER sqsbridge_guard;
ALTER TABLE sqsbridge_internal.routes ENABLE ALWAYS TRIGGER sqsbridge_guard_truncate;

REVOKE ALL ON TABLE sqsbridge_internal.inbox FROM PUBLIC;
CREATE TRIGGER sqsbridge_guard
	BEFORE INSERT OR UPDATE OR DELETE ON sqsbridge_internal.inbox
	FOR EACH ROW EXECUTE FUNCTION sqsbridge_internal.guard();
CREATE TRIGGER sqsbridge_guard_truncate
	BEFORE TRUNCATE ON sqsbridge_internal.inbox
	FOR EACH STATEMENT EXECUTE FUNCTION sqsbridge_internal.guard();
ALTER TABLE sqsbridge_internal.inbox ENABLE ALWAYS TRIGGER sqsbridge_guard;
ALTER TABLE sqsbridge_internal.inbox ENABLE ALWAYS TRIGGER sqsbridge_guard_truncate;

REVOKE ALL ON TABLE sqsbridge_internal.inbox_marks FROM PUBLIC;
CREATE TRIGGER sqsbridge_guard
	BEFORE INSERT OR UPDATE OR DELETE ON sqsbridge_internal.inbox_marks
	FOR EACH ROW EXECUTE FUNCTION sqsbridge_internal.guard();
CREATE TRIGGER sqsbridge_guard_truncate
	BEFORE TRUNCATE ON sqsbridge_internal.inbox_marks
	FOR EACH STATEMENT EXECUTE FUNCTION sqsbridge_internal.guard();
ALTER TABLE sqsbridge_internal.inbox_marks ENABLE ALWAYS TRIGGER sqsbridge_guard;
ALTER TABLE sqsbridge_internal.inbox_marks ENABLE ALWAYS TRIGGER sqsbridge_guard_truncate;

REVOKE ALL ON TABLE sqsbridge_internal.inbox_doubts FROM PUBLIC;
CREATE TRIGGER sqsbridge_guard
	BEFORE INSERT OR UPDATE OR DELETE ON sqsbridge_internal.inbox_doubts
	FOR EACH ROW EXECUTE FUNCTION sqsbridge_internal.guard();
CREATE TRIGGER sqsbridge_guard_truncate
	BEFORE TRUNCATE ON sqsbridge_internal.inbox_doubts
	FOR EACH STATEMENT EXECUTE FUNCTION sqsbridge_internal.guard();
ALTER TABLE sqsbridge_internal.inbox_doubts ENABLE ALWAYS TRIGGER sqsbridge_guard;
ALTER TABLE sqsbridge_internal.inbox_doubts ENABLE ALWAYS TRIGGER sqsbridge_guard_truncate;

REVOKE ALL ON TABLE sqsbridge_internal.failures FROM PUBLIC;
CREATE TRIGGER sqsbridge_guard
	BEFORE INSERT OR UPDATE OR DELETE ON sqsbridge_internal.failures
	FOR EACH ROW EXECUTE FUNCTION sqsbridge_internal.guard();
CREATE TRIGGER sqsbridge_guard_truncate
	BEFORE TRUNCATE ON sqsbridge_internal.failures
	FOR EACH STATEMENT EXECUTE FUNCTION sqsbridge_internal.guard();
ALTER TABLE sqsbridge_internal.failures ENABLE ALWAYS TRIGGER sqsbridge_guard;
ALTER TABLE sqsbridge_internal.failures ENABLE ALWAYS TRIGGER sqsbridge_guard_truncate;

REVOKE ALL ON TABLE sqsbridge_internal.dead_letters FROM PUBLIC;
CREATE TRIGGER sqsbridge_guard
	BEFORE INSERT OR UPDATE OR DELETE ON sqsbridge_internal.dead_letters
	FOR EACH ROW EXECUTE FUNCTION sqsbridge_internal.guard();
CREATE TRIGGER sqsbridge_guard_truncate
	BEFORE TRUNCATE ON sqsbridge_internal.dead_letters
	FOR EACH STATEMENT EXECUTE FUNCTION sqsbridge_internal.guard();
ALTER TABLE sqsbridge_internal.dead_letters ENABLE ALWAYS TRIGGER sqsbridge_guard;
ALTER TABLE sqsbridge_internal.dead_letters ENABLE ALWAYS TRIGGER sqsbridge_guard_truncate;

REVOKE ALL ON TABLE sqsbridge_internal.attempts FROM PUBLIC;
CREATE TRIGGER sqsbridge_guard
	BEFORE INSERT OR UPDATE OR DELETE ON sqsbridge_internal.attempts
	FOR EACH ROW EXECUTE FUNCTION sqsbridge_internal.guard();
CREATE TRIGGER sqsbridge_guard_truncate
	BEFORE TRUNCATE ON sqsbridge_internal.attempts
	FOR EACH STATEMENT EXECUTE FUNCTION sqsbridge_internal.guard();
ALTER TABLE sqsbridge_internal.attempts ENABLE ALWAYS TRIGGER sqsbridge_guard;
ALTER TABLE sqsbridge_internal.attempts ENABLE ALWAYS TRIGGER sqsbridge_guard_truncate;

REVOKE ALL ON TABLE sqsbridge_internal.parked_groups FROM PUBLIC;
CREATE TRIGGER sqsbridge_guard
	BEFORE INSERT OR UPDATE OR DELETE ON sqsbridge_internal.parked_groups
	FOR EACH ROW EXECUTE FUNCTION sqsbridge_internal.guard();
CREATE TRIGGER sqsbridge_guard_truncate
	BEFORE TRUNCATE ON sqsbridge_internal.parked_groups
	FOR EACH STATEMENT EXECUTE FUNCTION sqsbridge_internal.guard();
ALTER TABLE sqsbridge_internal.parked_groups ENABLE ALWAYS TRIGGER sqsbridge_guard;
ALTER TABLE sqsbridge_internal.parked_groups ENABLE ALWAYS TRIGGER sqsbridge_guard_truncate;

REVOKE ALL ON TABLE sqsbridge_internal.outbox_rows FROM PUBLIC;
CREATE TRIGGER sqsbridge_guard
	BEFORE INSERT OR UPDATE OR DELETE ON sqsbridge_internal.outbox_rows
	FOR EACH ROW EXECUTE FUNCTION sqsbridge_internal.guard();
CREATE TRIGGER sqsbridge_guard_truncate
	BEFORE TRUNCATE ON sqsbridge_internal.outbox_rows
	FOR EACH STATEMENT EXECUTE FUNCTION sqsbridge_internal.guard();
ALTER TABLE sqsbridge_internal.outbox_rows ENABLE ALWAYS TRIGGER sqsbridge_guard;
ALTER TABLE sqsbridge_internal.outbox_rows ENABLE ALWAYS TRIGGER sqsbridge_guard_truncate;

REVOKE ALL ON TABLE sqsbridge_internal.outbox_batches FROM PUBLIC;
CREATE TRIGGER sqsbridge_guard
	BEFORE INSERT OR UPDATE OR DELETE ON sqsbridge_internal.outbox_batches
	FOR EACH ROW EXECUTE FUNCTION sqsbridge_internal.guard();
CREATE TRIGGER sqsbridge_guard_truncate
	BEFORE TRUNCATE ON sqsbridge_internal.outbox_batches
	FOR EACH STATEMENT EXECUTE FUNCTION sqsbridge_internal.guard();
ALTER TABLE sqsbridge_internal.outbox_batches ENABLE ALWAYS TRIGGER sqsbridge_guard;
ALTER TABLE sqsbridge_internal.outbox_batches ENABLE ALWAYS TRIGGER sqsbridge_guard_truncate;

REVOKE ALL ON TABLE sqsbridge_internal.outbox_failures FROM PUBLIC;
CREATE TRIGGER sqsbridge_guard
	BEFORE INSERT OR UPDATE OR DELETE ON sqsbridge_internal.outbox_failures
	FOR EACH ROW EXECUTE FUNCTION sqsbridge_internal.guard();
CREATE TRIGGER sqsbridge_guard_truncate
	BEFORE TRUNCATE ON sqsbridge_internal.outbox_failures
	FOR EACH STATEMENT EXECUTE FUNCTION sqsbridge_internal.guard();
ALTER TABLE sqsbridge_internal.outbox_failures ENABLE ALWAYS TRIGGER sqsbridge_guard;
ALTER TABLE sqsbridge_internal.outbox_failures ENABLE ALWAYS TRIGGER sqsbridge_guard_truncate;

REVOKE ALL ON TABLE sqsbridge_internal.error_rules FROM PUBLIC;
CREATE TRIGGER sqsbridge_guard
	BEFORE INSERT OR UPDATE OR DELETE ON sqsbridge_internal.error_rules
	FOR EACH ROW EXECUTE FUNCTION sqsbridge_internal.guard();
CREATE TRIGGER sqsbridge_guard_truncate
	BEFORE TRUNCATE ON sqsbridge_internal.error_rules
	FOR EACH STATEMENT EXECUTE FUNCTION sqsbridge_internal.guard();
ALTER TABLE sqsbridge_internal.error_rules ENABLE ALWAYS TRIGGER sqsbridge_guard;
ALTER TABLE sqsbridge_internal.error_rules ENABLE ALWAYS TRIGGER sqsbridge_guard_truncate;


/* ------------------------------------------------------------------------
 * ALTER DEFAULT PRIVILEGES may have given others rights on the schema, tables
 * and views above as they were created.
 * ------------------------------------------------------------------------ */

DO LANGUAGE plpgsql $do$
DECLARE
	object pg_catalog.text;
	grantee pg_catalog.text;
BEGIN
	FOR object, grantee IN
		SELECT DISTINCT
			o.object,
			pg_catalog.quote_ident(a.rolname::pg_catalog.text)
		FROM pg_catalog.pg_extension e
			JOIN pg_catalog.pg_depend d
				ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid AND
				   d.refobjid OPERATOR(pg_catalog.=) e.oid AND
				   d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char"
			JOIN (
				SELECT
					'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid AS classid,
					c.oid AS objid,
					c.relowner AS owner,
					c.relacl AS acl,
					pg_catalog.format('TABLE %I.%I'::pg_catalog.text, n.nspname, c.relname) AS object
				FROM pg_catalog.pg_class c
					JOIN pg_catalog.pg_namespace n
						ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
				UNION ALL
				SELECT
					'pg_catalog.pg_namespace'::pg_catalog.regclass::pg_catalog.oid,
					n.oid,
					n.nspowner,
					n.nspacl,
					pg_catalog.format('SCHEMA %I'::pg_catalog.text, n.nspname)
				FROM pg_catalog.pg_namespace n) o
				ON o.classid OPERATOR(pg_catalog.=) d.classid AND
				   o.objid OPERATOR(pg_catalog.=) d.objid
			CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) x
			JOIN pg_catalog.pg_authid a
				ON a.oid OPERATOR(pg_catalog.=) x.grantee AND
				   a.oid OPERATOR(pg_catalog.<>) o.owner
		WHERE e.extname OPERATOR(pg_catalog.=) 'sqsbridge'::pg_catalog.name
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON %s FROM %s'::pg_catalog.text,
								  object, grantee);
	END LOOP;
END
$do$;

/* Who owns the database dumps it. */
GRANT USAGE ON SCHEMA sqsbridge_internal TO pg_database_owner;
GRANT SELECT ON TABLE sqsbridge_internal.queues TO pg_database_owner;
GRANT SELECT ON TABLE sqsbridge_internal.routes TO pg_database_owner;
GRANT SELECT ON TABLE sqsbridge_internal.inbox TO pg_database_owner;
GRANT SELECT ON TABLE sqsbridge_internal.inbox_marks TO pg_database_owner;
GRANT SELECT ON TABLE sqsbridge_internal.inbox_doubts TO pg_database_owner;
GRANT SELECT ON TABLE sqsbridge_internal.failures TO pg_database_owner;
GRANT SELECT ON TABLE sqsbridge_internal.dead_letters TO pg_database_owner;
GRANT SELECT ON TABLE sqsbridge_internal.attempts TO pg_database_owner;
GRANT SELECT ON TABLE sqsbridge_internal.parked_groups TO pg_database_owner;
GRANT SELECT ON TABLE sqsbridge_internal.outbox_rows TO pg_database_owner;
GRANT SELECT ON TABLE sqsbridge_internal.outbox_batches TO pg_database_owner;
GRANT SELECT ON TABLE sqsbridge_internal.outbox_failures TO pg_database_owner;
GRANT SELECT ON TABLE sqsbridge_internal.error_rules TO pg_database_owner;
