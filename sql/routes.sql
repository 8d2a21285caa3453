--
-- sqs_add_route(), sqs_drop_route(), sqs_routes, and what happens to the
-- functions of routes
--
CREATE EXTENSION sqsbridge;
CREATE ROLE regress_sqs_app LOGIN;
CREATE ROLE regress_sqs_other LOGIN;
CREATE SERVER sqs_local FOREIGN DATA WRAPPER sqsbridge
  OPTIONS (region 'us-east-1', endpoint 'http://127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER sqs_local TO regress_sqs_app, regress_sqs_other;
CREATE USER MAPPING FOR PUBLIC SERVER sqs_local
  OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'SECRETSECRET');
CREATE SCHEMA routes AUTHORIZATION regress_sqs_app;
GRANT USAGE, CREATE ON SCHEMA routes TO regress_sqs_other;
SET search_path = routes, public;
CREATE VIEW shown AS
  SELECT queue, key, handler, handler_timeout, problem, handled, failed, dead_letters, handler_time_total, handler_time_max
  FROM sqs_routes ORDER BY queue, key COLLATE "C";
GRANT SELECT ON shown TO PUBLIC;

SET ROLE regress_sqs_app;
CREATE FUNCTION handle(sqs_message) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION paid(sqs_message) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION "Shipped"(sqs_message) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION wrong(text) RETURNS void LANGUAGE sql AS '';
SELECT sqs_register_queue('orders', 'sqs_local', route_by => 'attribute:type', enabled => false);
SELECT sqs_register_queue('plain', 'sqs_local', 'handle', queue_name => 'other', enabled => false);

-- Without a handler, a queue needs a route.
SELECT state, last_error FROM sqs_stats WHERE queue = 'orders';
SELECT sqs_add_route('orders', 'paid', 'paid');
SELECT sqs_add_route('orders', 'shipped ''é"', '"Shipped"(sqs_message)', '90 s');
SELECT sqs_add_route('orders', repeat('k', 256), 'routes.paid', handler_timeout => '12 h');
SELECT state, last_error FROM sqs_stats WHERE queue = 'orders';
SELECT left(key, 20) AS key, handler, handler_timeout, problem, handled, failed, dead_letters, handler_time_total, handler_time_max
  FROM shown;
SELECT count(*) FROM sqs_routes WHERE created_at <= now();
SELECT sqs_drop_route('orders', repeat('k', 256));

-- Two queues do not receive from the same queue at AWS.
SELECT sqs_register_queue('again', 'sqs_local', 'handle', queue_name => 'orders', enabled => false);
SELECT sqs_register_queue('again', 'sqs_local', queue_name => 'orders', route_by => '$.type', enabled => false);

-- Errors.
SELECT sqs_add_route(NULL, 'a', 'paid');
SELECT sqs_add_route('orders', NULL, 'paid');
SELECT sqs_add_route('orders', 'a', NULL);
SELECT sqs_add_route('nowhere', 'a', 'paid');
SELECT sqs_add_route('plain', 'a', 'paid');
SELECT sqs_add_route('orders', '', 'paid');
SELECT sqs_add_route('orders', 'paid', 'paid');
SELECT sqs_add_route('orders', 'a', 'wrong');
SELECT sqs_add_route('orders', 'a', 'paid', '0');
SELECT sqs_add_route('orders', 'a', 'paid', '1 month');
SELECT sqs_drop_route('orders', 'a');
SELECT sqs_drop_route('nowhere', 'paid');
DO $$ BEGIN
  PERFORM sqs_add_route('orders', repeat('k', 257), 'paid');
EXCEPTION WHEN invalid_parameter_value THEN
  RAISE NOTICE '%', left(sqlerrm, 30);
END $$;
BEGIN READ ONLY;
SELECT sqs_add_route('orders', 'a', 'paid');
ROLLBACK;
BEGIN READ ONLY;
SELECT sqs_drop_route('orders', 'paid');
ROLLBACK;

-- Replace a route in one transaction; undo with a savepoint.
BEGIN;
SELECT sqs_drop_route('orders', 'paid');
SELECT sqs_add_route('orders', 'paid', 'handle');
SAVEPOINT s;
SELECT sqs_drop_route('orders', 'paid');
ROLLBACK TO s;
SELECT handler FROM shown WHERE key = 'paid';
ROLLBACK;
SELECT handler FROM shown WHERE key = 'paid';

-- How many there may be.
BEGIN;
SELECT count(sqs_add_route('orders', 'k' || i, 'paid')) FROM generate_series(3, 1000) i;
SELECT sqs_add_route('orders', 'one more', 'paid');
ROLLBACK;

-- Numbers are not used again at once.
SELECT sqs_drop_route('orders', 'paid');
SELECT sqs_add_route('orders', 'paid', 'paid');
RESET ROLE;
SELECT key, number FROM sqsbridge_internal.routes ORDER BY number;
UPDATE sqsbridge_internal.routes SET number = 32767 WHERE key = 'paid';
SELECT sqs_add_route('orders', 'first', 'paid');
SELECT number FROM sqsbridge_internal.routes WHERE key = 'first';
SELECT sqs_drop_route('orders', 'first');

-- Privileges.
SET ROLE regress_sqs_other;
SELECT sqs_add_route('orders', 'a', 'routes.paid');
SELECT sqs_drop_route('orders', 'paid');
SELECT queue, key, handler FROM shown;
SELECT 1 FROM sqsbridge_internal.routes;
CREATE FUNCTION private(sqs_message) RETURNS void LANGUAGE sql AS '';
REVOKE EXECUTE ON FUNCTION private FROM PUBLIC;
CREATE FUNCTION theirs(sqs_message) RETURNS void LANGUAGE sql AS '';
SET ROLE regress_sqs_app;
SELECT sqs_add_route('orders', 'a', 'private');
SELECT sqs_add_route('orders', 'theirs', 'theirs');

-- The problem of a route is its own; a function that its owner makes again is accepted.
DROP FUNCTION paid;
SELECT key, problem FROM shown;
SELECT state, last_error FROM sqs_stats WHERE queue = 'orders';
SET ROLE regress_sqs_other;
SELECT key, problem FROM shown;
SET ROLE regress_sqs_app;
CREATE FUNCTION paid(sqs_message) RETURNS void LANGUAGE sql AS '';
SELECT key, problem FROM shown;
ALTER FUNCTION paid RENAME TO paid2;
SELECT problem FROM shown WHERE key = 'paid';
ALTER FUNCTION paid2 RENAME TO paid;
SET ROLE regress_sqs_other;
DROP FUNCTION theirs;
SET ROLE regress_sqs_app;
CREATE FUNCTION theirs(sqs_message) RETURNS void LANGUAGE sql AS '';
SELECT problem FROM shown WHERE key = 'theirs';
-- confirm it, and say which others cannot be
DROP FUNCTION "Shipped";
SELECT sqs_alter_queue('orders');
SELECT key, problem FROM shown;
SELECT sqs_drop_route('orders', E'shipped ''é"');
RESET ROLE;
ALTER FUNCTION paid OWNER TO regress_sqs_other;
SELECT key, problem FROM shown;
REVOKE EXECUTE ON FUNCTION paid FROM PUBLIC;
SELECT sqs_alter_queue('orders', concurrency => 2);
SELECT key, problem FROM shown;
GRANT EXECUTE ON FUNCTION paid TO PUBLIC;
SELECT sqs_alter_queue('orders');
SELECT key, problem FROM shown;

-- The new owner of a queue must be able to run them all.
REVOKE EXECUTE ON FUNCTION theirs FROM PUBLIC;
SELECT sqs_alter_queue('orders', owner => 'regress_sqs_other');
GRANT EXECUTE ON FUNCTION theirs TO regress_sqs_other;
SELECT sqs_alter_queue('orders', owner => 'regress_sqs_other');
SELECT key, problem FROM shown;
SELECT sqs_alter_queue('orders', owner => 'regress_sqs_app');

-- A handler besides, or instead.
SELECT sqs_alter_queue('orders', handler => 'handle');
SELECT sqs_drop_route(queue, key) FROM shown;
SELECT state, last_error FROM sqs_stats WHERE queue = 'orders';
SELECT sqs_alter_queue('orders', reset => ARRAY['handler']);
SELECT state, last_error FROM sqs_stats WHERE queue = 'orders';
SELECT sqs_alter_queue('orders', reset => ARRAY['route_by']);
SELECT state, last_error FROM sqs_stats WHERE queue = 'orders';

-- They go with the queue.
SELECT sqs_alter_queue('orders', route_by => '$.type');
SELECT sqs_add_route('orders', 'paid', 'handle');
SELECT sqs_unregister_queue('orders');
SELECT count(*) FROM sqsbridge_internal.routes;

-- Constraints enforce the same rules for rows inserted by hand.
\set VERBOSITY terse
INSERT INTO sqsbridge_internal.routes VALUES (1, '', 0, 'f', 0, 0, '', NULL, now());
INSERT INTO sqsbridge_internal.routes VALUES (1, repeat('k', 257), 0, 'f', 0, 0, '', NULL, now());
INSERT INTO sqsbridge_internal.routes VALUES (1, 'k', -1, 'f', 0, 0, '', NULL, now());
INSERT INTO sqsbridge_internal.routes VALUES (1, 'k', 0, '', 0, 0, '', NULL, now());
INSERT INTO sqsbridge_internal.routes VALUES (1, 'k', 0, 'f', 0, 0, '', '0', now());
INSERT INTO sqsbridge_internal.routes VALUES (1, 'k', 0, 'f', 0, 0, '', '13 h', now());
\set VERBOSITY default

RESET search_path;
DROP SCHEMA routes CASCADE;
DROP EXTENSION sqsbridge CASCADE;
DROP OWNED BY regress_sqs_app, regress_sqs_other;
DROP ROLE regress_sqs_app, regress_sqs_other;
