--
-- sqs_deliver(): handling a message without SQS
--
CREATE EXTENSION sqsbridge;
CREATE ROLE regress_sqs_app LOGIN;
CREATE ROLE regress_sqs_member LOGIN IN ROLE regress_sqs_app;
CREATE SERVER sqs_local FOREIGN DATA WRAPPER sqsbridge
  OPTIONS (region 'us-east-1', endpoint 'http://127.0.0.1:1');
CREATE USER MAPPING FOR PUBLIC SERVER sqs_local
  OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'SECRETSECRET');
GRANT USAGE ON FOREIGN SERVER sqs_local TO regress_sqs_app;
CREATE SCHEMA regress_sqs_deliver AUTHORIZATION regress_sqs_app;
SET search_path = regress_sqs_deliver, public;
SET ROLE regress_sqs_app;
CREATE TABLE done (n serial, body text, who text DEFAULT current_user);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO done (body) VALUES (m.body);
  IF m.body LIKE 'SQL: %' THEN EXECUTE substr(m.body, 6); END IF;
END $$;
CREATE FUNCTION swallow(m text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE m;
EXCEPTION WHEN OTHERS THEN NULL;
END $$;
CREATE FUNCTION routed(m sqs_message) RETURNS void LANGUAGE sql AS $$ INSERT INTO done (body) VALUES ('routed: ' || m.body) $$;
CREATE FUNCTION show(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE NOTICE '% % % % % % % %', m.queue, m.message_id, m.attributes, m.system_attributes, m.receive_count, m.group_id, m.attempt,
    abs(extract(epoch FROM now() - m.sent_at)) < 3600;
END $$;
SELECT sqs_register_queue('q', 'sqs_local', handler => 'handle', enabled => false);
SELECT sqs_register_queue('shown', 'sqs_local', queue_name => 'q2', handler => 'show', enabled => false);
SELECT sqs_register_queue('send', 'sqs_local', queue_name => 'q3', enabled => false);

-- Outcomes.
SELECT outcome, sqlstate, message FROM sqs_deliver('q', 'hello');
SELECT outcome, sqlstate, message, context IS NOT NULL AS context FROM sqs_deliver('q', 'SQL: SELECT 1/0');
SELECT outcome, sqlstate, message, delay FROM sqs_deliver('q', 'SQL: SELECT sqs_retry(''90 s'', ''later'')');
SELECT outcome, sqlstate, message, delay FROM sqs_deliver('q', 'SQL: SELECT swallow(''SELECT sqs_dead_letter()'')');
SELECT outcome, sqlstate, message, delay FROM sqs_deliver('q', 'SQL: SELECT swallow(''SELECT sqs_discard()'')');
SELECT outcome, sqlstate FROM sqs_deliver('q', 'SQL: DO $x$ BEGIN RAISE SQLSTATE ''40001''; END $x$');
SELECT sqs_set_error_rule('q', '22012', 'dead_letter');
SELECT outcome, sqlstate FROM sqs_deliver('q', 'SQL: SELECT 1/0');
SELECT body, who FROM done ORDER BY n;
SELECT count(*) FROM sqs_failures;
SELECT count(*) FROM sqs_dead_letters;
-- verdicts are for handlers only, also after one
SELECT sqs_discard();
BEGIN;
SELECT outcome FROM sqs_deliver('q', 'rolled back');
ROLLBACK;
SELECT count(*) FROM done WHERE body = 'rolled back';
-- nested: each has its own verdict
SELECT outcome, message FROM sqs_deliver('q', 'SQL: SELECT sqs_deliver(''q'', ''SQL: SELECT sqs_discard(''''inner'''')'')');
SELECT outcome, message FROM sqs_deliver('q', 'SQL: DO $x$ BEGIN PERFORM swallow(''SELECT sqs_retry(NULL, ''''outer'''')''); PERFORM sqs_deliver(''q'', ''inner''); END $x$');
SELECT body FROM done WHERE body LIKE '%inner%' ORDER BY n;
-- a canceled statement is canceled
SET statement_timeout = '100 ms';
SELECT sqs_deliver('q', 'SQL: SELECT pg_sleep(3600)');
RESET statement_timeout;

-- What the handler gets.
SELECT outcome FROM sqs_deliver('shown', 'x', '{"a": "b", "n": 5}', 'g', 'id 1', '{"SenderId": "me"}', 3);
SELECT outcome FROM sqs_deliver('shown', 'x');

-- A message with an id is handled once.
SELECT outcome FROM sqs_deliver('q', 'once', message_id => 'id-1');
SELECT outcome FROM sqs_deliver('q', 'once', message_id => 'id-1');
SELECT outcome FROM sqs_deliver('q', 'SQL: SELECT 1/0', message_id => 'id-2');
SELECT outcome FROM sqs_deliver('q', 'twice', message_id => 'id-2');
SELECT body FROM done WHERE body IN ('once', 'twice') ORDER BY n;

-- Envelopes, routes, business keys.
SELECT sqs_alter_queue('q', unwrap => 'auto', route_by => 'attribute:kind', dedup_key => 'attribute:key');
SELECT sqs_add_route('q', 'special', 'routed');
SELECT outcome, route FROM sqs_deliver('q', '{"Type": "Notification", "MessageId": "x", "TopicArn": "arn:aws:sns:us-east-1:1:t", "Message": "inside"}');
SELECT outcome, route FROM sqs_deliver('q', 'body', '{"kind": "special"}');
SELECT outcome FROM sqs_deliver('q', '{"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "x", "Bucket": "b"}');
SELECT outcome FROM sqs_deliver('q', 'first', '{"key": "1"}', message_id => 'id-3');
SELECT outcome FROM sqs_deliver('q', 'second', '{"key": "1"}', message_id => 'id-4');
SELECT sqs_alter_queue('q', unroutable => v) FROM (VALUES ('fail')) x(v);
SELECT outcome, sqlstate, message FROM sqs_deliver('q', 'x', '{"kind": "unknown"}');
SELECT sqs_alter_queue('q', unroutable => 'dead_letter');
SELECT outcome, sqlstate, message FROM sqs_deliver('q', 'x');
SELECT sqs_alter_queue('q', unroutable => 'discard');
SELECT outcome, sqlstate, message FROM sqs_deliver('q', 'x');
SELECT body FROM done WHERE body IN ('inside', 'routed: body', 'first', 'second', 'x') ORDER BY n;

-- Refused.
SELECT sqs_deliver('nowhere', 'x');
SELECT sqs_deliver('send', 'x');
SELECT sqs_deliver(NULL, 'x');
SELECT sqs_deliver('q', NULL);
SELECT sqs_deliver('q', 'x', '[]');
BEGIN READ ONLY;
SELECT sqs_deliver('q', 'x');
ROLLBACK;
SET ROLE regress_sqs_member;
SELECT sqs_deliver('q', 'x');
RESET ROLE;
SELECT sqs_deliver('q', 'x');

DROP EXTENSION sqsbridge CASCADE;
DROP OWNED BY regress_sqs_app;
DROP ROLE regress_sqs_app, regress_sqs_member;
