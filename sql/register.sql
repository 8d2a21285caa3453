--
-- sqs_register_queue(): every option and every error
--
-- No worker is to start: queues are disabled, and nobody listens at the
-- server's endpoint.
--
CREATE EXTENSION sqsbridge;
CREATE ROLE regress_sqs_app LOGIN;
CREATE SERVER sqs_local FOREIGN DATA WRAPPER sqsbridge
  OPTIONS (region 'us-east-1', endpoint 'http://127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER sqs_local TO regress_sqs_app;
GRANT CREATE ON SCHEMA public TO regress_sqs_app;
CREATE SCHEMA "Sqs Schema" AUTHORIZATION regress_sqs_app;

SET ROLE regress_sqs_app;
CREATE FUNCTION handle(msg sqs_message) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';

-- All defaults, implicit and explicit.
SELECT sqs_register_queue('plain', 'sqs_local', enabled => false);
SELECT sqs_register_queue('nulls', 'sqs_local', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
  NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, false);
SELECT name, owner, server, queue_name, handler, enabled,
       created_at = changed_at AS unchanged
  FROM sqs_queues ORDER BY queue_id;
SELECT count(*), concurrency, batch_size, wait_time, visibility_timeout, handler_timeout,
       retry_delay, exactly_once, dedup_retention, group_batch_size, unwrap,
       max_attempts, retry_factor, retry_max_delay, retry_jitter, throttle_after,
       dead_letter, dead_letter_queue, on_dead_letter, route_by, unroutable, dedup_key,
       handler_batch_size, handler_batch_wait, verify_sns
  FROM sqs_queues GROUP BY 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27 \gx
SELECT sqs_unregister_queue(name) FROM sqs_queues;

-- All options; a queue is enabled by default.
SELECT sqs_register_queue('all', server => 'sqs_local', handler => 'handle',
  queue_name => 'http://127.0.0.1:1/123456789012/other.fifo', concurrency => 64, batch_size => 1,
  wait_time => '0', visibility_timeout => '12 h', handler_timeout => '1 ms', retry_delay => '0',
  exactly_once => false, dedup_retention => '365 d', group_batch_size => 10, unwrap => 'auto',
  max_attempts => 1000, retry_factor => 10, retry_max_delay => '12 h', retry_jitter => 1, throttle_after => 1000,
  dead_letter => 'table', on_dead_letter => 'park_group', unroutable => 'discard',
  handler_batch_size => 1000, handler_batch_wait => '10 s', verify_sns => true,
  enabled => false);
BEGIN;
SELECT sqs_register_queue('min', server => 'sqs_local', handler => 'handle',
  queue_name => 'other', concurrency => 1, batch_size => 10, wait_time => '20 s',
  visibility_timeout => '1 s', handler_timeout => '12 h', retry_delay => '12:00', dedup_retention => '1 min', group_batch_size => 1,
  max_attempts => 1, retry_factor => 1, retry_max_delay => '1 s', retry_jitter => 0, throttle_after => 0,
  dead_letter => 'table', on_dead_letter => 'skip', unroutable => 'handler',
  handler_batch_size => 1, handler_batch_wait => '0', verify_sns => false);
SELECT created_at = now() AS now FROM sqs_queues ORDER BY queue_id;
SELECT name, queue_name, handler, concurrency, batch_size, wait_time, visibility_timeout,
       handler_timeout, retry_delay, exactly_once, dedup_retention, group_batch_size, unwrap,
       max_attempts, retry_factor, retry_max_delay, retry_jitter, throttle_after,
       dead_letter, dead_letter_queue, on_dead_letter, route_by, unroutable, dedup_key,
       handler_batch_size, handler_batch_wait, verify_sns, enabled
  FROM sqs_queues ORDER BY queue_id \gx
ROLLBACK;
SELECT sqs_unregister_queue('all');

-- Names.
SELECT sqs_register_queue(NULL, 'sqs_local', enabled => false);
SELECT sqs_register_queue('', 'sqs_local', enabled => false);
SELECT sqs_register_queue('two words', 'sqs_local', enabled => false);
SELECT sqs_register_queue('a;b', 'sqs_local', enabled => false);
SELECT sqs_register_queue('.fifo', 'sqs_local', enabled => false);
SELECT sqs_register_queue('a.b', 'sqs_local', enabled => false);
SELECT sqs_register_queue('https://sqs.us-east-1.amazonaws.com/123456789012/q', 'sqs_local', enabled => false);
SELECT sqs_register_queue(repeat('x', 81), 'sqs_local', enabled => false);
SELECT sqs_register_queue(repeat('x', 75) || '.fifo', 'sqs_local', enabled => false);
SELECT sqs_register_queue('A-b_9', 'sqs_local', enabled => false);
SELECT sqs_register_queue('a-b_9', 'sqs_local', enabled => false);
SELECT sqs_register_queue('A-b_9', 'sqs_local', enabled => false);
SELECT name, queue_name FROM sqs_queues ORDER BY queue_id;
SELECT sqs_unregister_queue(name) FROM sqs_queues;

-- Names at AWS.
SELECT sqs_register_queue('q', 'sqs_local', queue_name => '', enabled => false);
SELECT sqs_register_queue('q', 'sqs_local', queue_name => 'two words', enabled => false);
SELECT sqs_register_queue('q', 'sqs_local', queue_name => 'https://host', enabled => false);
SELECT sqs_register_queue('q', 'sqs_local', queue_name => 'https://u:SECRET@host/1/q', enabled => false);
SELECT sqs_register_queue('q', 'sqs_local', queue_name => 'http://host/123456789012/q', enabled => false);
SELECT sqs_register_queue('q', 'sqs_local', queue_name => 'file:///etc/passwd', enabled => false);

-- Numbers and times.
SELECT sqs_register_queue('q', 'sqs_local', concurrency => 0);
SELECT sqs_register_queue('q', 'sqs_local', concurrency => 65);
SELECT sqs_register_queue('q', 'sqs_local', batch_size => 0);
SELECT sqs_register_queue('q', 'sqs_local', batch_size => 11);
SELECT sqs_register_queue('q', 'sqs_local', batch_size => -2147483648);
SELECT sqs_register_queue('q', 'sqs_local', wait_time => '-1 s');
SELECT sqs_register_queue('q', 'sqs_local', wait_time => '21 s');
SELECT sqs_register_queue('q', 'sqs_local', wait_time => '1.5 s');
SELECT sqs_register_queue('q', 'sqs_local', visibility_timeout => '0');
SELECT sqs_register_queue('q', 'sqs_local', visibility_timeout => '12:00:01');
SELECT sqs_register_queue('q', 'sqs_local', visibility_timeout => '1.000001 s');
SELECT sqs_register_queue('q', 'sqs_local', visibility_timeout => '1 mon');
SELECT sqs_register_queue('q', 'sqs_local', visibility_timeout => '1 mon -30 days +1 s');
SELECT sqs_register_queue('q', 'sqs_local', handler_timeout => '0');
SELECT sqs_register_queue('q', 'sqs_local', handler_timeout => '1.5 ms');
SELECT sqs_register_queue('q', 'sqs_local', handler_timeout => '1 d');
SELECT sqs_register_queue('q', 'sqs_local', retry_delay => '-1 s');
SELECT sqs_register_queue('q', 'sqs_local', retry_delay => '0.5 s');
SELECT sqs_register_queue('q', 'sqs_local', retry_delay => '43201 s');
SELECT sqs_register_queue('q', 'sqs_local', dedup_retention => '59 s');
SELECT sqs_register_queue('q', 'sqs_local', dedup_retention => '1 year');
SELECT sqs_register_queue('q', 'sqs_local', dedup_retention => '366 d');
SELECT sqs_register_queue('q', 'sqs_local', dedup_retention => '2147483647 d');
SELECT sqs_register_queue('q', 'sqs_local', group_batch_size => 0);
SELECT sqs_register_queue('q', 'sqs_local', group_batch_size => 11);
SELECT sqs_register_queue('q', 'sqs_local', unwrap => '');
SELECT sqs_register_queue('q', 'sqs_local', unwrap => 'SNS');
SELECT sqs_register_queue('q', 'sqs_local', max_attempts => 0);
SELECT sqs_register_queue('q', 'sqs_local', max_attempts => 1001);
SELECT sqs_register_queue('q', 'sqs_local', retry_factor => 0.999);
SELECT sqs_register_queue('q', 'sqs_local', retry_factor => 10.001);
SELECT sqs_register_queue('q', 'sqs_local', retry_factor => 'NaN');
SELECT sqs_register_queue('q', 'sqs_local', retry_max_delay => '0');
SELECT sqs_register_queue('q', 'sqs_local', retry_max_delay => '12:00:01');
SELECT sqs_register_queue('q', 'sqs_local', retry_jitter => -0.1);
SELECT sqs_register_queue('q', 'sqs_local', retry_jitter => 'Infinity');
SELECT sqs_register_queue('q', 'sqs_local', throttle_after => -1);
SELECT sqs_register_queue('q', 'sqs_local', throttle_after => 1001);
SELECT sqs_register_queue('q', 'sqs_local', dead_letter => 'Table');
SELECT sqs_register_queue('q', 'sqs_local', dead_letter => 'none', max_attempts => 3);
SELECT sqs_register_queue('q', 'sqs_local', dead_letter => 'queue');
SELECT sqs_register_queue('q', 'sqs_local', on_dead_letter => 'stop');
SELECT sqs_register_queue('q', 'sqs_local', unroutable => '');
SELECT sqs_register_queue('q', 'sqs_local', dedup_key => 'attribute:order', exactly_once => false);
SELECT sqs_register_queue('q', 'sqs_local', handler_batch_size => 0);
SELECT sqs_register_queue('q', 'sqs_local', handler_batch_size => 1001);
SELECT sqs_register_queue('q', 'sqs_local', handler_batch_wait => '10.001 s');
SELECT sqs_register_queue('q', 'sqs_local', unroutable => 'handler');
SELECT sqs_register_queue('q', 'sqs_local', unroutable => 'dead_letter', dead_letter => 'none');
SELECT sqs_register_queue('q', 'sqs_local', route_by => 'attribute:');
SELECT sqs_register_queue('q', 'sqs_local', dedup_key => 'envelope:');
SELECT sqs_register_queue('q', 'sqs_local', dedup_key => '$.a ? (@ == $b)');
-- how an error of a jsonpath is put depends on the version
\set VERBOSITY sqlstate
SELECT sqs_register_queue('q', 'sqs_local', route_by => '');
SELECT sqs_register_queue('q', 'sqs_local', route_by => 'type');
SELECT sqs_register_queue('q', 'sqs_local', dedup_key => '$.items[*');
SELECT sqs_register_queue('q', 'sqs_local', route_by => '$.type ? (@ like_regex "(")');
SELECT sqs_register_queue('q', 'sqs_local', route_by => 'attribute:' || repeat('x', 991));
\set VERBOSITY default
SELECT sqs_register_queue('q', 'sqs_local', route_by => 'envelope:detail_type',
  dedup_key => '$.a ? (@ == "$b" || @ == "\"$")', enabled => false);
SELECT route_by, dedup_key FROM sqs_queues WHERE name = 'q';
SELECT sqs_unregister_queue('q');
SELECT sqs_register_queue('q', 'sqs_local', wait_time => '1 d -86399 s', enabled => false);
SELECT sqs_unregister_queue('q');

-- Servers.
SELECT sqs_register_queue('q', NULL);
SELECT sqs_register_queue('q', 'nowhere');
SELECT sqs_register_queue('q', '"Nowhere"');
RESET ROLE;
CREATE FOREIGN DATA WRAPPER sqs_other_fdw;
CREATE SERVER sqs_other FOREIGN DATA WRAPPER sqs_other_fdw;
CREATE SERVER sqs_nowhere FOREIGN DATA WRAPPER sqsbridge;
CREATE SERVER "Sqs Proxy" FOREIGN DATA WRAPPER sqsbridge OPTIONS (endpoint 'https://proxy.example.com');
CREATE SERVER sqs_regional FOREIGN DATA WRAPPER sqsbridge OPTIONS (endpoint 'https://sqs.eu-west-1.amazonaws.com');
CREATE SERVER sqs_private FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1');
GRANT USAGE ON FOREIGN SERVER sqs_other, sqs_nowhere, "Sqs Proxy", sqs_regional TO regress_sqs_app;
SET ROLE regress_sqs_app;
SELECT sqs_register_queue('q', 'sqs_other', enabled => false);
-- a URL or ARN of another region is refused, and a URL of another host
SELECT sqs_register_queue('elsewhere', 'sqs_regional', queue_name => 'https://sqs.us-east-1.amazonaws.com/123456789012/elsewhere', enabled => false);
BEGIN;
SELECT sqs_register_queue('here', 'sqs_regional', queue_name => 'https://sqs.eu-west-1.amazonaws.com/123456789012/here', enabled => false);
SAVEPOINT s;
SELECT sqs_alter_queue('here', queue_name => 'https://us-east-1.queue.amazonaws.com/123456789012/here');
ROLLBACK TO s;
SELECT sqs_alter_queue('here', queue_name => 'arn:aws:sqs:eu-west-1:111122223333:here');
SELECT queue_name FROM sqs_queues WHERE name = 'here';
SELECT sqs_alter_queue('here', queue_name => 'arn:aws:sqs:us-east-1:111122223333:here');
ROLLBACK;
SELECT sqs_register_queue('elsewhere', 'sqs_regional', queue_name => 'https://sqs.example.com/123456789012/elsewhere', enabled => false);
SELECT sqs_register_queue('elsewhere', 'sqs_local', queue_name => 'http://127.0.0.1:9/123456789012/elsewhere', enabled => false);
SELECT sqs_register_queue('elsewhere', 'sqs_regional', queue_name => 'arn:aws-cn:sqs:eu-west-1:123456789012:elsewhere', enabled => false);
SELECT sqs_register_queue('elsewhere', 'sqs_regional', queue_name => 'arn:aws:sqs:eu-west-1:123:elsewhere', enabled => false);
SELECT sqs_register_queue('elsewhere', 'sqs_regional', queue_name => 'arn:aws:sns:eu-west-1:123456789012:elsewhere', enabled => false);
SELECT sqs_register_queue('q', 'sqs_nowhere', enabled => false);
SELECT sqs_register_queue('q', 'Sqs Proxy', enabled => false);
SELECT sqs_register_queue('q', 'sqs_private', enabled => false);
SELECT sqs_register_queue('q', 'sqs_regional', enabled => false);
SELECT sqs_unregister_queue('q');

-- Handlers: found as the caller names them, stored by their full name.
CREATE FUNCTION "Sqs Schema"."Handle ""it"""(sqs_message) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION "Sqs Schema".handle(sqs_message) RETURNS void LANGUAGE sql AS '';
SELECT sqs_register_queue('h1', 'sqs_local', 'HANDLE', enabled => false);
SELECT sqs_register_queue('h2', 'sqs_local', 'public.handle', enabled => false);
SELECT sqs_register_queue('h3', 'sqs_local', ' public . handle ( sqs_message ) ', enabled => false);
SELECT sqs_register_queue('h4', 'sqs_local', 'handle(public.sqs_message)', enabled => false);
SELECT sqs_register_queue('h5', 'sqs_local', '"Sqs Schema"."Handle ""it"""', enabled => false);
SET search_path = "Sqs Schema", public;
SELECT sqs_register_queue('h6', 'sqs_local', 'handle', enabled => false);
SET search_path = '';
SELECT public.sqs_register_queue('h7', 'sqs_local', 'handle', enabled => false);
SELECT public.sqs_register_queue('h7', 'sqs_local', 'public.handle(public.sqs_message)', enabled => false);
RESET search_path;
SELECT name, handler FROM sqs_queues ORDER BY queue_id;
SELECT sqs_unregister_queue(name) FROM sqs_queues;

-- Batch handlers: one that takes a single message comes first.
CREATE FUNCTION in_batches(sqs_message[]) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION with_verdicts(VARIADIC sqs_message[]) RETURNS SETOF sqs_verdict LANGUAGE sql AS 'SELECT NULL::sqs_verdict';
CREATE FUNCTION "Sqs Schema"."(sqs_message[])"(sqs_message[]) RETURNS sqs_verdict[] LANGUAGE sql AS 'SELECT NULL::sqs_verdict[]';
CREATE FUNCTION two_ways(sqs_message[]) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION two_ways(sqs_message) RETURNS void LANGUAGE sql AS '';
SELECT sqs_register_queue('b1', 'sqs_local', 'in_batches', enabled => false);
SELECT sqs_register_queue('b2', 'sqs_local', 'public.with_verdicts ( public.sqs_message[] ) ', enabled => false);
SELECT sqs_register_queue('b3', 'sqs_local', '"Sqs Schema"."(sqs_message[])"', enabled => false);
SELECT sqs_register_queue('b4', 'sqs_local', 'two_ways', enabled => false);
SELECT sqs_register_queue('b5', 'sqs_local', 'two_ways(sqs_message[])', enabled => false);
SELECT name, handler FROM sqs_queues ORDER BY queue_id;
-- what is stored can be given again
SELECT sqs_alter_queue(name, handler => handler) FROM sqs_queues;
SELECT count(*) FILTER (WHERE handler ~ '\(sqs_message\[\]\)$') FROM sqs_queues;
SELECT sqs_alter_queue('b5', handler => 'two_ways(sqs_message)');
SELECT handler FROM sqs_queues WHERE name = 'b5';
-- a function of another kind in its place
DROP FUNCTION in_batches(sqs_message[]);
CREATE FUNCTION in_batches(sqs_message[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT sqs_alter_queue('b1');
SELECT sqs_unregister_queue(name) FROM sqs_queues;

-- Functions that cannot be handlers.
CREATE FUNCTION wrong_args(text) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION too_many(sqs_message, int DEFAULT 1) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION returns_set(sqs_message) RETURNS SETOF int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION polymorphic(anyelement) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION many(VARIADIC text[]) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION returns_int(sqs_message[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION returns_ints(sqs_message[]) RETURNS SETOF int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION returns_one(sqs_message[]) RETURNS sqs_verdict LANGUAGE sql AS 'SELECT NULL::sqs_verdict';
CREATE FUNCTION returns_table(sqs_message[]) RETURNS TABLE (message_id text, action text) LANGUAGE sql AS 'SELECT NULL::text, NULL::text';
CREATE PROCEDURE a_procedure(sqs_message) LANGUAGE sql AS '';
CREATE FUNCTION transition(int, sqs_message) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE an_aggregate(sqs_message) (SFUNC = transition, STYPE = int);
CREATE FUNCTION pg_temp.temporary(sqs_message) RETURNS void LANGUAGE sql AS '';
SELECT sqs_register_queue('q', 'sqs_local', '');
SELECT sqs_register_queue('q', 'sqs_local', 'nothing');
SELECT sqs_register_queue('q', 'sqs_local', 'public."No thing"');
SELECT sqs_register_queue('q', 'sqs_local', 'nowhere.handle');
SELECT sqs_register_queue('q', 'sqs_local', 'a.b.c');
SELECT sqs_register_queue('q', 'sqs_local', '"handle');
SELECT sqs_register_queue('q', 'sqs_local', 'handle(');
SELECT sqs_register_queue('q', 'sqs_local', 'handle()');
SELECT sqs_register_queue('q', 'sqs_local', 'handle( )');
SELECT sqs_register_queue('q', 'sqs_local', 'handle(text)');
SELECT sqs_register_queue('q', 'sqs_local', 'handle(sqs_message, int)');
SELECT sqs_register_queue('q', 'sqs_local', 'handle(no_such_type)');
SELECT sqs_register_queue('q', 'sqs_local', 'handle; DROP TABLE x');
SELECT sqs_register_queue('q', 'sqs_local', 'wrong_args');
SELECT sqs_register_queue('q', 'sqs_local', 'too_many');
SELECT sqs_register_queue('q', 'sqs_local', 'returns_set');
SELECT sqs_register_queue('q', 'sqs_local', 'polymorphic');
SELECT sqs_register_queue('q', 'sqs_local', 'many');
SELECT sqs_register_queue('q', 'sqs_local', 'returns_int');
SELECT sqs_register_queue('q', 'sqs_local', 'returns_int(sqs_message)');
SELECT sqs_register_queue('q', 'sqs_local', 'returns_ints');
SELECT sqs_register_queue('q', 'sqs_local', 'returns_one');
SELECT sqs_register_queue('q', 'sqs_local', 'returns_table');
SELECT sqs_register_queue('q', 'sqs_local', 'wrong_args(sqs_message[])');
SELECT sqs_register_queue('q', 'sqs_local', 'handle([])');
SELECT sqs_register_queue('q', 'sqs_local', 'handle(sqs_message[][])');
SELECT sqs_register_queue('q', 'sqs_local', 'a_procedure');
SELECT sqs_register_queue('q', 'sqs_local', 'an_aggregate');
SELECT sqs_register_queue('q', 'sqs_local', 'temporary');
-- (the name of the temporary schema is not always the same)
\set VERBOSITY terse
SELECT sqs_register_queue('q', 'sqs_local', 'pg_temp.temporary');
\set VERBOSITY default

-- One handler for a queue; any number of senders.
SELECT sqs_register_queue('first', 'sqs_local', 'handle', enabled => false);
SELECT sqs_register_queue('second', 'sqs_local', 'handle', queue_name => 'first', enabled => false);
SELECT sqs_register_queue('second', 'sqs_local', queue_name => 'first', enabled => false);
SELECT sqs_register_queue('third', 'sqs_local', queue_name => 'first', enabled => false);
SELECT sqs_unregister_queue(name) FROM sqs_queues;

-- After an error or a rollback, nothing is left.
DO $$
BEGIN
  PERFORM sqs_register_queue('gone', 'sqs_local', enabled => false);
  PERFORM sqs_register_queue('gone', 'sqs_local', enabled => false);
EXCEPTION WHEN duplicate_object THEN
  RAISE NOTICE '% (as %)', sqlerrm, current_user;
END $$;
SELECT count(*) FROM sqs_queues;
BEGIN READ ONLY;
SELECT sqs_register_queue('q', 'sqs_local', enabled => false);
ROLLBACK;

-- The owner: a superuser gets a notice, and a role without LOGIN is refused on
-- versions that require it for workers.
RESET ROLE;
CREATE ROLE regress_sqs_super SUPERUSER LOGIN;
CREATE ROLE regress_sqs_nologin;
GRANT USAGE ON FOREIGN SERVER sqs_local TO regress_sqs_nologin;
SET ROLE regress_sqs_super;
SELECT sqs_register_queue('super', 'sqs_local', enabled => false);
SELECT sqs_alter_queue('super', handler => 'handle');
SELECT sqs_unregister_queue('super');
SELECT sqs_register_queue('super', 'sqs_local', handler => 'handle', enabled => false);
SELECT sqs_unregister_queue('super');
SET ROLE regress_sqs_nologin;
SELECT sqs_register_queue('sender', 'sqs_local', enabled => false);
DO $$
BEGIN
  PERFORM sqs_register_queue('nologin', 'sqs_local', handler => 'handle', enabled => false);
  IF current_setting('server_version_num')::int >= 170000 THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = 'role "regress_sqs_nologin" is not permitted to log in';
  END IF;
EXCEPTION WHEN object_not_in_prerequisite_state THEN
  RAISE NOTICE '%', sqlerrm;
END $$;
SELECT sqs_unregister_queue('sender');
RESET ROLE;

-- Constraints enforce the same rules for rows inserted by hand.
\set VERBOSITY terse
SELECT sqs_register_queue('q', 'sqs_local', enabled => false);
UPDATE sqsbridge_internal.queues SET name = 'two words';
UPDATE sqsbridge_internal.queues SET name = repeat('x', 81);
UPDATE sqsbridge_internal.queues SET queue_name = '';
UPDATE sqsbridge_internal.queues SET handler = '';
UPDATE sqsbridge_internal.queues SET concurrency = 0;
UPDATE sqsbridge_internal.queues SET concurrency = 65;
UPDATE sqsbridge_internal.queues SET batch_size = 0;
UPDATE sqsbridge_internal.queues SET batch_size = 11;
UPDATE sqsbridge_internal.queues SET wait_time = '-1 s';
UPDATE sqsbridge_internal.queues SET wait_time = '21 s';
UPDATE sqsbridge_internal.queues SET visibility_timeout = '0';
UPDATE sqsbridge_internal.queues SET visibility_timeout = '13 h';
UPDATE sqsbridge_internal.queues SET handler_timeout = '0';
UPDATE sqsbridge_internal.queues SET handler_timeout = '13 h';
UPDATE sqsbridge_internal.queues SET retry_delay = '-1 s';
UPDATE sqsbridge_internal.queues SET retry_delay = '13 h';
UPDATE sqsbridge_internal.queues SET dedup_retention = '59 s';
UPDATE sqsbridge_internal.queues SET dedup_retention = '366 d';
UPDATE sqsbridge_internal.queues SET group_batch_size = 0;
UPDATE sqsbridge_internal.queues SET group_batch_size = 11;
UPDATE sqsbridge_internal.queues SET unwrap = 'S3';
UPDATE sqsbridge_internal.queues SET max_attempts = 0;
UPDATE sqsbridge_internal.queues SET retry_factor = 'NaN';
UPDATE sqsbridge_internal.queues SET retry_max_delay = '13 h';
UPDATE sqsbridge_internal.queues SET retry_jitter = 1.1;
UPDATE sqsbridge_internal.queues SET throttle_after = -1;
UPDATE sqsbridge_internal.queues SET dead_letter = 'tables';
UPDATE sqsbridge_internal.queues SET on_dead_letter = '';
UPDATE sqsbridge_internal.queues SET unroutable = 'drop';
UPDATE sqsbridge_internal.queues SET handler_batch_size = 1001;
UPDATE sqsbridge_internal.queues SET handler_batch_wait = '11 s';
\set VERBOSITY default

DROP SCHEMA "Sqs Schema" CASCADE;
DROP AGGREGATE an_aggregate(sqs_message);
DROP FUNCTION handle, wrong_args, too_many, returns_set, polymorphic, many, transition;
DROP FUNCTION in_batches, with_verdicts, returns_int, returns_ints, returns_one, returns_table;
DROP FUNCTION two_ways(sqs_message), two_ways(sqs_message[]);
DROP FUNCTION pg_temp.temporary;
DROP PROCEDURE a_procedure;
DROP SERVER sqs_other;
DROP FOREIGN DATA WRAPPER sqs_other_fdw;
DROP SERVER sqs_local, sqs_nowhere, "Sqs Proxy", sqs_regional, sqs_private;
DROP EXTENSION sqsbridge;
REVOKE CREATE ON SCHEMA public FROM regress_sqs_app;
DROP ROLE regress_sqs_app, regress_sqs_super, regress_sqs_nologin;
