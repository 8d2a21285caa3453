--
-- Sending: everything that needs no network
--
-- Nobody listens at the server's endpoint: what is refused here is refused
-- before the network is used.  Queues are disabled, so that rows of the outbox
-- stay.
--
CREATE EXTENSION sqsbridge;
CREATE ROLE regress_sqs_app LOGIN;
CREATE ROLE regress_sqs_other LOGIN;
CREATE SERVER sqs_local FOREIGN DATA WRAPPER sqsbridge
  OPTIONS (region 'us-east-1', endpoint 'http://127.0.0.1:1');
CREATE USER MAPPING FOR PUBLIC SERVER sqs_local
  OPTIONS (access_key_id 'AKIDPUBLIC', secret_access_key 'SECRET');
GRANT USAGE ON FOREIGN SERVER sqs_local TO regress_sqs_app;

-- SQLSTATE, message, detail and hint of a statement's error, long texts cut.
CREATE FUNCTION refusal(statement text) RETURNS TABLE (state text, message text, detail text)
LANGUAGE plpgsql AS $$
DECLARE
  hint text;
BEGIN
  EXECUTE statement;
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
    detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  detail := concat_ws(' HINT: ', detail, nullif(hint, ''));
  RETURN NEXT;
END $$;

SET ROLE regress_sqs_app;
SELECT sqs_register_queue('std', 'sqs_local', enabled => false);
SELECT sqs_register_queue('ordered.fifo', 'sqs_local', enabled => false);
SELECT sqs_register_queue('url', 'sqs_local', queue_name => 'http://127.0.0.1:1/123456789012/far', enabled => false);
SELECT sqs_register_queue('alias', 'sqs_local', queue_name => 'other.fifo', enabled => false);

--
-- Checks of messages.  Each case is tried with every way to send, and all of
-- them must refuse it with the same error.
--
CREATE TEMP TABLE cases (
  n int GENERATED ALWAYS AS IDENTITY,
  body text, attributes jsonb, delay interval,
  group_id text, deduplication_id text, system_attributes jsonb);

CREATE FUNCTION pg_temp.try(c cases, queue text, label text DEFAULT NULL,
  OUT state text, OUT message text, OUT detail text, OUT same text)
LANGUAGE plpgsql AS $$
DECLARE
  m sqs_outgoing := sqs_outgoing(c.body, c.attributes, c.delay, c.group_id, c.deduplication_id, c.system_attributes);
  e record;
  b record;
BEGIN
  SELECT r.* INTO e FROM refusal(format('SELECT sqs_send(%L, %L, %L, %L, %L, %L, %L)',
    queue, c.body, c.attributes, c.delay, c.group_id, c.deduplication_id, c.system_attributes)) r;
  state := e.state;
  message := regexp_replace(e.message, '(x{60})x+', '\1...');
  detail := e.detail;
  SELECT * INTO STRICT b FROM sqs_send_batch(queue, ARRAY[m]);
  same := concat_ws(', ',
    CASE WHEN e.message = format('cannot send to queue "%s": %s', queue,
                CASE WHEN coalesce(split_part(e.detail, ' HINT: ', 1), '') <> '' AND b.error_message LIKE '%: ' || split_part(e.detail, ' HINT: ', 1)
                THEN left(b.error_message, -length(split_part(e.detail, ' HINT: ', 1)) - 2) ELSE b.error_message END)
              AND b.ordinal = 1 AND b.message_id IS NULL AND b.sequence_number IS NULL AND b.sender_fault
         THEN 'batch: ' || b.error_code ELSE 'batch differs: ' || b::text END,
    CASE WHEN c.delay IS NULL THEN
      CASE WHEN (SELECT r FROM refusal(format('SELECT sqs_enqueue(%L, %L, %L, NULL, %L, %L, %L)',
                  queue, c.body, c.attributes, c.group_id, c.deduplication_id, c.system_attributes)) r) = e
           THEN 'enqueue' ELSE 'enqueue differs' END END,
    CASE WHEN c.delay IS NULL THEN
      CASE WHEN (SELECT r FROM refusal(format('INSERT INTO sqs_outbox (queue, body, attributes, group_id, deduplication_id, system_attributes) VALUES (%L, %L, %L, %L, %L, %L)',
                  queue, c.body, c.attributes, c.group_id, c.deduplication_id, c.system_attributes)) r) = e
           THEN 'outbox' ELSE 'outbox differs' END END);
END $$;

-- Bodies.
INSERT INTO cases (body) VALUES (NULL), (''), (repeat('x', 1048577)), (repeat('ä', 524289));
SELECT t.* FROM cases c, pg_temp.try(c, 'std') t ORDER BY n \gx
TRUNCATE cases;

-- Characters that SQS does not accept: each of them, and at each position.
INSERT INTO cases (body)
  SELECT chr(i) FROM generate_series(1, 31) i WHERE i NOT IN (9, 10, 13)
  UNION ALL VALUES (U&'\FFFE'), (U&'\FFFF');
SELECT DISTINCT state, message, regexp_replace(detail, 'U\+[0-9A-F]{4}', 'U+') AS detail, same
  FROM cases c, pg_temp.try(c, 'std') t \gx
SELECT string_agg(substring(detail FROM 'U\+[0-9A-F]{4}'), ' ' ORDER BY n) FROM cases c, pg_temp.try(c, 'std') t;
TRUNCATE cases;
INSERT INTO cases (body)
  SELECT overlay(repeat('aä€😀', 5) PLACING chr(c) FROM i FOR 1)
  FROM generate_series(1, 20) i, (VALUES (1), (31), (65534), (65535)) v(c);
SELECT count(*), count(*) FILTER (WHERE t.state = '22021'),
       count(*) FILTER (WHERE detail LIKE format('It is U+%s, character number %s.%%',
         upper(lpad(to_hex(ascii(c)), 4, '0')), position(c IN body))) AS right_place
  FROM cases, LATERAL (SELECT substring(body FROM '[\x01\x1f\ufffe\uffff]')) s(c),
    pg_temp.try(cases, 'std') t;
TRUNCATE cases;
-- the same in attributes, types and trace headers
INSERT INTO cases (body, attributes, system_attributes) VALUES
  ('x', jsonb_build_object('a', E'b\x01'), NULL),
  ('x', jsonb_build_object('a', jsonb_build_object('DataType', E'String.\x02', 'StringValue', 'b')), NULL),
  ('x', jsonb_build_object('a', jsonb_build_object('DataType', 'String', 'StringValue', U&'b\FFFF')), NULL),
  ('x', NULL, jsonb_build_object('AWSTraceHeader', E'\x1fRoot'));
SELECT t.* FROM cases c, pg_temp.try(c, 'std') t ORDER BY n \gx
TRUNCATE cases;

-- Values that are not attributes.
INSERT INTO cases (body, attributes) VALUES
  ('x', 'null'), ('x', '[]'), ('x', '"a"'), ('x', '5'), ('x', '["a"]'),
  ('x', '{"a": null}'), ('x', '{"a": true}'), ('x', '{"a": []}'), ('x', '{"a": [1]}'), ('x', '{"a": {}}'),
  ('x', '{"a": ""}'),
  ('x', '{"a": {"DataType": "String"}}'),
  ('x', '{"a": {"StringValue": "b"}}'),
  ('x', '{"a": {"DataType": "String", "StringValue": ""}}'),
  ('x', '{"a": {"DataType": "String", "StringValue": 5}}'),
  ('x', '{"a": {"DataType": "String", "StringValue": {"b": "c"}}}'),
  ('x', '{"a": {"DataType": "String", "StringValue": "b", "BinaryValue": "Yg=="}}'),
  ('x', '{"a": {"DataType": "String", "StringValue": "b", "Other": "c"}}'),
  ('x', '{"a": {"DataType": "String", "BinaryValue": "Yg=="}}'),
  ('x', '{"a": {"DataType": "Binary", "StringValue": "b"}}'),
  ('x', '{"a": {"DataType": "Binary", "BinaryValue": ""}}'),
  ('x', '{"a": {"DataType": "Binary", "BinaryValue": "Yg"}}'),
  ('x', '{"a": {"DataType": "Binary", "BinaryValue": "Y*=="}}'),
  ('x', '{"a": {"DataType": "Number", "StringValue": "b"}}'),
  ('x', '{"a": {"DataType": 1, "StringValue": "b"}}');
SELECT n, attributes::text, state, message, same FROM cases c, pg_temp.try(c, 'std') t ORDER BY n;
SELECT DISTINCT message, detail FROM cases c, pg_temp.try(c, 'std') t ORDER BY 1, 2;
TRUNCATE cases;

-- Their types.
INSERT INTO cases (body, attributes)
  SELECT 'x', jsonb_build_object('a', jsonb_build_object('DataType', t, 'StringValue', '1'))
  FROM (VALUES (''), ('string'), ('Text'), ('String.'), ('Strings'), ('Number.'), ('Boolean'),
               (' String'), ('String.' || repeat('x', 250)), ('x' || repeat('ä', 200))) v(t);
SELECT t.state, t.message, t.detail, t.same FROM cases c, pg_temp.try(c, 'std') t ORDER BY n;
TRUNCATE cases;

-- Their names.
INSERT INTO cases (body, attributes)
  SELECT 'x', jsonb_build_object(name, 'b')
  FROM (VALUES (''), ('.a'), ('a.'), ('.'), ('a..b'), ('a b'), ('ä'), ('a/b'), ('a:b'), (E'a\n'),
               ('AWS.a'), ('aws.a'), ('Amazon.a'), ('AMAZON.a'), (repeat('x', 257)), ('x' || repeat('ä', 400))) v(name);
SELECT t.state, t.message, t.detail, t.same FROM cases c, pg_temp.try(c, 'std') t ORDER BY n;
TRUNCATE cases;

-- Their number, and numbers.
INSERT INTO cases (body, attributes)
  SELECT 'x', jsonb_object_agg('a' || i, i) FROM generate_series(1, 11) i;
INSERT INTO cases (body, attributes)
  SELECT 'x', jsonb_build_object('n', jsonb_build_object('DataType', type, 'StringValue', value))
  FROM (VALUES ('Number', ''), ('Number', '-'), ('Number', '.'), ('Number', '1.2.3'), ('Number', '1e'),
               ('Number', '1e+'), ('Number', ' 1'), ('Number', '1 '), ('Number', '0x10'), ('Number', 'NaN'),
               ('Number', 'Infinity'), ('Number', '1,5'), ('Number.int', 'one'), ('Number', '1e127'),
               ('Number', '1e-129'), ('Number', '123456789012345678901234567890123456789'),
               ('Number', '0.0000123456789012345678901234567890123456789')) v(type, value);
INSERT INTO cases (body, attributes) VALUES ('x', '{"n": 1e127}'), ('x', '{"n": 1.00000000000000000000000000000000000001}');
SELECT attributes #>> '{n}' AS n, t.state, t.message, t.detail, t.same FROM cases c, pg_temp.try(c, 'std') t ORDER BY c.n;
TRUNCATE cases;

-- The size: the body, and names, types and values of attributes.
INSERT INTO cases (body, attributes) VALUES
  (repeat('x', 1048576 - 7), '{"a": "b"}'),
  (repeat('x', 1048576), '{"a": {"DataType": "Binary", "BinaryValue": "YWJj"}}'),
  ('x', jsonb_build_object('a', repeat('x', 1048576)));
SELECT t.state, t.message, t.same FROM cases c, pg_temp.try(c, 'std') t ORDER BY n;
TRUNCATE cases;

-- System attributes.
INSERT INTO cases (body, system_attributes) VALUES
  ('x', '[]'), ('x', 'null'), ('x', '{"AWSTraceHeader": 1}'), ('x', '{"AWSTraceHeader": ""}'),
  ('x', '{"AWSTraceHeader": {}}'), ('x', '{"SenderId": "x"}'), ('x', '{"AWSTraceHeader": "x", "SenderId": "x"}');
SELECT system_attributes, state, message, detail, same FROM cases c, pg_temp.try(c, 'std') t ORDER BY n;
TRUNCATE cases;

-- Delays.
INSERT INTO cases (body, delay) VALUES
  ('x', '-1 s'), ('x', '1.5 s'), ('x', '901 s'), ('x', '1 day'), ('x', '1 month'), ('x', '1 month -30 days'),
  ('x', '-1 day 24:00:01'), ('x', '2562047788:00:54.775807');
SELECT t.* FROM cases c, pg_temp.try(c, 'std') t ORDER BY n;
SELECT t.* FROM cases c, pg_temp.try(c, 'ordered.fifo') t WHERE delay = '-1 s';
TRUNCATE cases;

-- Groups and deduplication ids.
INSERT INTO cases (body, group_id, deduplication_id)
  SELECT 'x', g, d FROM (VALUES ('', NULL), (repeat('x', 129), NULL), ('a b', NULL), ('ä', NULL), (E'a\x7f', NULL),
                                ('g', ''), ('g', repeat('x', 129)), ('g', 'a b'), ('g', 'ä'), ('g', E'a\n')) v(g, d);
SELECT t.* FROM cases c, pg_temp.try(c, 'ordered.fifo') t ORDER BY n;
SELECT count(*), count(*) FILTER (WHERE t.state = '22023') FROM cases c, pg_temp.try(c, 'std') t;
TRUNCATE cases;
INSERT INTO cases (body, delay, group_id, deduplication_id) VALUES
  ('x', NULL, NULL, NULL), ('x', NULL, NULL, 'd'), ('x', '5 s', 'g', NULL);
SELECT t.* FROM cases c, pg_temp.try(c, 'ordered.fifo') t ORDER BY n;
-- the name at AWS matters, not the queue's name here
SELECT t.message FROM cases c, pg_temp.try(c, 'alias') t ORDER BY n;
TRUNCATE cases;
INSERT INTO cases (body, deduplication_id) VALUES ('x', 'd');
SELECT t.* FROM cases c, pg_temp.try(c, 'std') t ORDER BY n;
TRUNCATE cases;

--
-- Queues and arguments
--
SELECT r.* FROM (VALUES
  ($$SELECT sqs_send(NULL, 'x')$$),
  ($$SELECT sqs_send('nosuch', 'x')$$),
  ($$SELECT sqs_send('', 'x')$$),
  ($$SELECT * FROM sqs_send_batch(NULL, '{}')$$),
  ($$SELECT * FROM sqs_send_batch('nosuch', '{}')$$),
  ($$SELECT * FROM sqs_send_batch('std', NULL)$$),
  ($$SELECT sqs_enqueue(NULL, 'x')$$),
  ($$SELECT sqs_enqueue('nosuch', 'x')$$),
  ($$SELECT sqs_enqueue('std', 'x', delay => '5 s', deliver_at => now())$$),
  ($$SELECT sqs_enqueue('std', 'x', deliver_at => 'infinity')$$),
  ($$INSERT INTO sqs_outbox (body) VALUES ('x')$$),
  ($$INSERT INTO sqs_outbox (queue) VALUES ('std')$$),
  ($$INSERT INTO sqs_outbox (queue, body) VALUES ('nosuch', 'x')$$),
  ($$INSERT INTO sqs_outbox (queue, body, deliver_at) VALUES ('std', 'x', 'infinity')$$),
  ($$INSERT INTO sqs_outbox (queue, body, id) VALUES ('std', 'x', 1)$$),
  ($$INSERT INTO sqs_outbox (queue, body, enqueued_at) VALUES ('std', 'x', now())$$),
  ($$INSERT INTO sqs_outbox (queue, body, enqueued_by) VALUES ('std', 'x', 'regress_sqs_other')$$)
  ) v(statement), refusal(statement) r;
SELECT count(*) FROM sqs_outbox;

-- An empty batch, one without a valid message, and one with a null.
SELECT * FROM sqs_send_batch('std', '{}');
SELECT * FROM sqs_send_batch('std', ARRAY[NULL, sqs_outgoing(''), sqs_outgoing(NULL), sqs_outgoing('x', delay => '1 h')]::sqs_outgoing[]);
SELECT * FROM sqs_send_batch('std', ARRAY[ARRAY[sqs_outgoing(''), NULL], ARRAY[sqs_outgoing('x', '[]'), NULL]]);
SELECT count(*), min(ordinal), max(ordinal), count(DISTINCT ordinal), count(DISTINCT error_code)
  FROM sqs_send_batch('std', (SELECT array_agg(sqs_outgoing('')) FROM generate_series(1, 10000)));
SELECT sent, send_failures > 10000 AS failed, send_calls FROM sqs_stats WHERE queue = 'std';

-- A valid message gets as far as the network, where the connection is refused.
\set VERBOSITY sqlstate
SELECT sqs_send('std', 'x');
SELECT sqs_send('url', repeat('ä', 524288));
SELECT * FROM sqs_send_batch('std', ARRAY[sqs_outgoing('x')]);
\set VERBOSITY default
SELECT detail FROM refusal($$SELECT sqs_send('url', 'x')$$);
SELECT ordinal, message_id, sequence_number, error_code, sender_fault
  FROM sqs_send_batch('url', ARRAY[sqs_outgoing(''), sqs_outgoing('x')]);

-- No region, no keys, or no server.
RESET ROLE;
DROP USER MAPPING FOR PUBLIC SERVER sqs_local;
CREATE USER MAPPING FOR regress_sqs_app SERVER sqs_local
  OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'SECRET');
ALTER SERVER sqs_local OPTIONS (DROP region);
SET ROLE regress_sqs_app;
SELECT r.* FROM refusal($$SELECT sqs_send('std', 'x')$$) r;
SELECT r.* FROM refusal($$SELECT sqs_enqueue('std', 'x')$$) r;
RESET ROLE;
ALTER SERVER sqs_local OPTIONS (ADD region 'us-east-1');
ALTER SERVER sqs_local RENAME TO sqs_renamed;
SET ROLE regress_sqs_app;
SELECT r.* FROM refusal($$SELECT sqs_send('std', 'x')$$) r;
-- the outbox keeps it until somebody confirms
BEGIN;
SELECT sqs_enqueue('std', 'x') > 0 AS id;
SELECT state, waiting, last_error FROM sqs_stats_outbox WHERE queue = 'std';
ROLLBACK;
SELECT sqs_alter_queue('std');
SELECT server FROM sqs_queues WHERE name = 'std';
RESET ROLE;
ALTER SERVER sqs_renamed RENAME TO sqs_local;
SELECT sqs_alter_queue(name) FROM sqs_queues;

--
-- Privileges
--
SET ROLE regress_sqs_other;
SELECT r.* FROM (VALUES
  ($$SELECT sqs_send('std', 'x')$$),
  ($$SELECT sqs_send('std', NULL)$$),
  ($$SELECT * FROM sqs_send_batch('std', ARRAY[sqs_outgoing('x')])$$),
  ($$SELECT * FROM sqs_send_batch('std', '{}')$$),
  ($$SELECT sqs_enqueue('std', 'x')$$),
  ($$INSERT INTO sqs_outbox (queue, body) VALUES ('std', 'x')$$)
  ) v(statement), refusal(statement) r;
COPY sqs_outbox (queue, body) FROM stdin;
std	x
\.

-- The tables behind the views are not accessible.
SET ROLE regress_sqs_app;
SELECT r.* FROM (VALUES
  ($$SELECT FROM sqsbridge_internal.outbox_rows$$),
  ($$INSERT INTO sqsbridge_internal.outbox_rows SELECT$$),
  ($$DELETE FROM sqsbridge_internal.outbox_rows$$),
  ($$SELECT FROM sqsbridge_internal.outbox_batches$$),
  ($$INSERT INTO sqsbridge_internal.outbox_batches SELECT$$),
  ($$DELETE FROM sqsbridge_internal.outbox_batches$$),
  ($$LOCK TABLE sqsbridge_internal.outbox_rows$$),
  ($$UPDATE sqs_outbox SET body = 'y'$$),
  ($$DELETE FROM sqs_outbox$$),
  ($$TRUNCATE sqs_outbox_failures$$),
  ($$UPDATE sqs_outbox_failures SET body = 'y'$$),
  ($$INSERT INTO sqs_outbox_failures SELECT$$),
  ($$CREATE TRIGGER t INSTEAD OF INSERT ON sqs_outbox FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()$$),
  ($$CREATE TRIGGER t BEFORE INSERT ON sqsbridge_internal.outbox_rows FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()$$)
  ) v(statement), refusal(statement) r;
-- the trigger function can be called only as a trigger
CREATE TEMP TABLE lure (queue text, body text);
CREATE TRIGGER t BEFORE INSERT ON lure FOR EACH ROW EXECUTE FUNCTION sqs_outbox_insert();
INSERT INTO lure VALUES ('std', 'x');
DROP TABLE lure;
-- of the view sqs_outbox, not of a view with columns of other types
CREATE TEMP VIEW lure AS SELECT 4096::bigint AS queue, 4096::bigint AS body, 4096::bigint AS attributes,
  4096::bigint AS group_id, 4096::bigint AS deduplication_id, 4096::bigint AS deliver_at,
  4096::bigint AS system_attributes, NULL::bigint AS id, NULL::bigint AS enqueued_at, NULL::bigint AS enqueued_by;
CREATE TRIGGER t INSTEAD OF INSERT ON lure FOR EACH ROW EXECUTE FUNCTION sqs_outbox_insert();
INSERT INTO lure (queue) VALUES (4096);
DROP VIEW lure;
SELECT sqs_outbox_insert();
-- none of these attempts has stored a row
SELECT count(*) FROM sqs_outbox;
SELECT queue, waiting, scheduled FROM sqs_stats_outbox ORDER BY queue COLLATE "C";

--
-- The outbox
--
INSERT INTO sqs_outbox (queue, body) VALUES ('std', 'one') RETURNING queue, body, id > 0 AS id, enqueued_at <= clock_timestamp() AS at, enqueued_by;
INSERT INTO sqs_outbox (queue, body, attributes, group_id, deduplication_id, deliver_at, system_attributes)
  VALUES ('ordered.fifo', 'two', '{"a": 1.50}', 'g', 'd', '2100-01-01 00:00+00', '{"AWSTraceHeader": "Root=1"}')
  RETURNING queue, body, attributes, group_id, deduplication_id, deliver_at = '2100-01-01 00:00+00', system_attributes;
INSERT INTO sqs_outbox (queue, body, id, enqueued_at, enqueued_by) VALUES ('std', 'nulls are not given', NULL, NULL, NULL);
INSERT INTO sqs_outbox (queue, body, group_id) SELECT 'ordered.fifo', 'select ' || i, 'g' FROM generate_series(1, 3) i;
COPY sqs_outbox (queue, body, attributes) FROM stdin;
std	copy 1	{"a": "b"}
std	copy 2	\N
\.
-- COPY stores all rows or none
COPY sqs_outbox (queue, body) FROM stdin;
std	copy 3
nosuch	copy 4
\.
-- with session_replication_role = replica, triggers of views do not fire
RESET ROLE;
SET session_replication_role = replica;
SET ROLE regress_sqs_app;
INSERT INTO sqs_outbox (queue, body) VALUES ('std', 'replica');
\copy sqs_outbox (queue, body) FROM /dev/null
SELECT sqs_enqueue('std', 'enqueued') > 0 AS id;
RESET ROLE;
RESET session_replication_role;
SET ROLE regress_sqs_app;
SELECT sqs_enqueue('std', 'as text', attributes => '{"a": {"DataType": "Binary", "BinaryValue": "AAEC"}, "n": {"DataType": "Number.int", "StringValue": "+007"}}') > 0 AS id;
SELECT queue, body, attributes, group_id, deduplication_id, system_attributes, enqueued_by FROM sqs_outbox ORDER BY id;
SELECT count(DISTINCT id) = count(*) AS ids, count(*) FROM sqs_outbox;
SELECT queue, state, waiting, scheduled, next_deliver_at = '2100-01-01 00:00+00' AS next, oldest_at IS NOT NULL AS oldest
  FROM sqs_stats_outbox ORDER BY queue COLLATE "C";

-- delay and deliver_at; more than 15 minutes, and on FIFO queues
BEGIN;
SELECT sqs_enqueue('std', 'in an hour', delay => '1 h') IS NOT NULL AS enqueued;
SELECT sqs_enqueue('ordered.fifo', 'in a year', delay => '1 year', group_id => 'g') IS NOT NULL AS enqueued;
SELECT sqs_enqueue('std', 'then', deliver_at => '2100-01-01 00:00:00.000001+00') IS NOT NULL AS enqueued;
SELECT sqs_enqueue('std', 'long ago', deliver_at => '1999-01-01') IS NOT NULL AS enqueued;
SELECT sqs_enqueue('std', 'ever', deliver_at => '-infinity') IS NOT NULL AS enqueued;
SELECT sqs_enqueue('std', 'nothing', delay => '0') IS NOT NULL AS enqueued;
SELECT body,
       CASE WHEN deliver_at BETWEEN now() + '1 h' AND clock_timestamp() + '1 h' THEN 'in an hour'
            WHEN deliver_at BETWEEN now() + '1 year' AND clock_timestamp() + '1 year' THEN 'in a year'
            WHEN deliver_at = '2100-01-01 00:00:00.000001+00' THEN '2100'
            WHEN deliver_at BETWEEN now() AND clock_timestamp() THEN 'now'
            WHEN deliver_at < now() THEN 'past' END AS deliver_at
  FROM sqs_outbox WHERE enqueued_at >= now() ORDER BY id;
SELECT queue, scheduled FROM sqs_stats_outbox WHERE scheduled > 0 ORDER BY queue COLLATE "C";
ROLLBACK;

-- A rolled-back message is not enqueued; ids have gaps, but are in order.
BEGIN;
INSERT INTO sqs_outbox (queue, body) VALUES ('std', 'rolled back');
SELECT sqs_enqueue('std', 'rolled back', delay => '1 h') > 0 AS id;
ROLLBACK;
BEGIN;
INSERT INTO sqs_outbox (queue, body) VALUES ('std', 'kept 1');
SAVEPOINT s;
INSERT INTO sqs_outbox (queue, body) VALUES ('std', 'rolled back'), ('ordered.fifo', 'no group');
ROLLBACK TO s;
INSERT INTO sqs_outbox (queue, body) VALUES ('std', 'rolled back');
ROLLBACK TO s;
-- the first of its queue in the transaction is rolled back, the second is not
SELECT sqs_enqueue('url', 'rolled back') > 0 AS id;
ROLLBACK TO s;
SELECT sqs_enqueue('url', 'kept 2') > 0 AS id;
RELEASE s;
INSERT INTO sqs_outbox (queue, body) VALUES ('std', 'kept 3');
COMMIT;
SELECT queue, body FROM sqs_outbox WHERE body ~ 'kept|rolled' ORDER BY id;
-- within one transaction, a new queue with the same name
BEGIN;
SELECT sqs_register_queue('brief', 'sqs_local', enabled => false);
SELECT sqs_enqueue('brief', 'of the first') > 0 AS id;
SAVEPOINT s;
SELECT sqs_unregister_queue('brief');
SELECT sqs_enqueue('brief', 'of none');
ROLLBACK TO s;
SELECT sqs_unregister_queue('brief');
SELECT sqs_register_queue('brief', 'sqs_local', queue_name => 'brief.fifo', enabled => false);
SAVEPOINT t;
SELECT sqs_enqueue('brief', 'without group');
ROLLBACK TO t;
ROLLBACK;
-- a batch without rows has no record, any other has one
RESET ROLE;
SELECT count(*) AS before FROM sqsbridge_internal.outbox_batches \gset
BEGIN;
SAVEPOINT s;
SELECT sqs_enqueue('std', 'rolled back', deliver_at => '2200-01-01') > 0 AS id;
SAVEPOINT t;
SELECT sqs_enqueue('std', 'rolled back', deliver_at => '2200-01-02') > 0 AS id;
RELEASE t;
ROLLBACK TO s;
COMMIT;
SELECT count(*) - :before AS batches FROM sqsbridge_internal.outbox_batches;
SELECT count(*) AS rows, count(b) AS batches
  FROM sqsbridge_internal.outbox_rows r LEFT JOIN sqsbridge_internal.outbox_batches b USING (batch_id)
  WHERE body ~ '^kept';
-- revoking USAGE takes effect within the transaction
BEGIN;
SET LOCAL ROLE regress_sqs_app;
SELECT sqs_enqueue('std', 'allowed') > 0 AS id;
RESET ROLE;
REVOKE USAGE ON FOREIGN SERVER sqs_local FROM regress_sqs_app;
SET LOCAL ROLE regress_sqs_app;
SELECT sqs_enqueue('std', 'not allowed');
ROLLBACK;
-- a privilege of one role does not help another
BEGIN;
SELECT sqs_enqueue('std', 'by a superuser') > 0 AS id;
SET LOCAL ROLE regress_sqs_other;
SELECT sqs_enqueue('std', 'by another');
ROLLBACK;

-- Every transaction with rows has a batch per queue, and one per row with a
-- time; no row is without its batch.
SELECT count(*) AS rows_without FROM sqsbridge_internal.outbox_rows r WHERE NOT EXISTS
  (SELECT FROM sqsbridge_internal.outbox_batches b WHERE (b.batch_id, b.queue_id) = (r.batch_id, r.queue_id)
    AND b.deliver_at = coalesce(r.deliver_at, '-infinity'));
SELECT count(DISTINCT batch_id) = (SELECT count(*) FROM sqsbridge_internal.outbox_batches WHERE queue_id IN (SELECT queue_id FROM sqs_queues)) AS batches
  FROM sqsbridge_internal.outbox_rows;
SELECT bool_and(xid IS NOT NULL AND position > 0) AS numbered, count(DISTINCT "position") = count(*) AS distinct_positions FROM sqsbridge_internal.outbox_batches;

-- Large bodies, compressed and out of line, arrive as they were.
CREATE TEMP TABLE large AS
  SELECT i, CASE i WHEN 1 THEN repeat('x', 1048576)
                   ELSE (SELECT string_agg(md5(j::text), '') FROM generate_series(1, 32768) j) END AS body
  FROM generate_series(1, 2) i;
GRANT SELECT ON large TO regress_sqs_app;
SET ROLE regress_sqs_app;
BEGIN;
INSERT INTO sqs_outbox (queue, body) SELECT 'std', body FROM large;
SELECT count(*) FROM sqs_outbox o JOIN large l ON o.body = l.body;
ROLLBACK;
SELECT r.state, r.message FROM refusal($$INSERT INTO sqs_outbox (queue, body) SELECT 'std', body || 'x' FROM large$$) r;

-- Other roles do not see the rows.
SET ROLE regress_sqs_other;
SELECT count(*) FROM sqs_outbox;
SET ROLE regress_sqs_app;

-- Read-only transactions.
BEGIN READ ONLY;
SAVEPOINT s;
SELECT sqs_enqueue('std', 'x');
ROLLBACK TO s;
INSERT INTO sqs_outbox (queue, body) VALUES ('std', 'x');
ROLLBACK TO s;
SELECT sqs_outbox_retry(1);
ROLLBACK;

-- Retrying failed messages.
SELECT sqs_outbox_retry(0);
SELECT sqs_outbox_retry(NULL);
RESET ROLE;
INSERT INTO sqsbridge_internal.outbox_failures (id, queue, error_code, error_message, failed_at, body, enqueued_at, enqueued_by_oid, enqueued_by, token, queue_id, server_oid, server)
  SELECT id, f.queue, 'Code', 'why', now(), body, '2020-01-01', f.enqueued_by::regrole, f.enqueued_by, ('00000000-0000-4000-8000-00000000000' || -id)::uuid,
         COALESCE((SELECT queue_id FROM sqs_queues q WHERE q.name = f.queue), 0), (SELECT oid FROM pg_foreign_server s WHERE s.srvname = f.server), f.server
  FROM (VALUES
         (-1, 'std', 'failed', 'regress_sqs_app', 'sqs_local'),
         (-2, 'gone', 'of no queue', 'regress_sqs_other', NULL),
         (-3, 'ordered.fifo', 'no group', 'regress_sqs_app', 'sqs_local'),
         -- of another queue of that name
         (-4, 'std', 'secret', 'regress_sqs_other', NULL)) f(id, queue, body, enqueued_by, server);
SET ROLE regress_sqs_other;
SELECT id, body FROM sqs_outbox_failures ORDER BY id;
SELECT r.* FROM (VALUES ($$SELECT sqs_outbox_retry(-1)$$), ($$SELECT sqs_outbox_retry(-2)$$), ($$SELECT sqs_outbox_retry(-4)$$)) v(statement), refusal(statement) r;
SET ROLE regress_sqs_app;
SELECT id, body FROM sqs_outbox_failures ORDER BY id;
SELECT r.* FROM (VALUES ($$SELECT sqs_outbox_retry(-3)$$), ($$SELECT sqs_outbox_retry(-4)$$)) v(statement), refusal(statement) r;
BEGIN;
SELECT sqs_outbox_retry(-1) > 0 AS id;
SELECT count(*) FROM sqs_outbox_failures WHERE id = -1;
ROLLBACK;
SELECT sqs_outbox_retry(-1) > 0 AS id;
SELECT sqs_outbox_retry(-1);
SELECT queue, body, enqueued_at = '2020-01-01' AS as_it_was, enqueued_by FROM sqs_outbox WHERE body = 'failed';
RESET ROLE;
SELECT token FROM sqsbridge_internal.outbox_rows WHERE body = 'failed';
-- Discarding failed messages.
BEGIN READ ONLY;
SELECT sqs_outbox_discard(-3);
ROLLBACK;
SET ROLE regress_sqs_other;
SELECT r.* FROM (VALUES ($$SELECT sqs_outbox_discard(-1)$$), ($$SELECT sqs_outbox_discard(-3)$$), ($$SELECT sqs_outbox_discard(0)$$)) v(statement), refusal(statement) r;
SELECT sqs_outbox_discard(-2);
SELECT sqs_outbox_discard(-4);
SELECT sqs_outbox_discard(-4);
-- pg_read_all_data does not permit deleting
RESET ROLE;
GRANT pg_read_all_data TO regress_sqs_other;
SET ROLE regress_sqs_other;
SELECT id FROM sqs_outbox_failures;
SELECT r.* FROM refusal($$SELECT sqs_outbox_discard(-3)$$) r;
SELECT r.* FROM refusal($$SELECT sqs_outbox_retry(-3)$$) r;
RESET ROLE;
REVOKE pg_read_all_data FROM regress_sqs_other;
SELECT id FROM sqs_outbox_failures;

-- Meanwhile another role has registered a queue with the same name.
INSERT INTO sqsbridge_internal.outbox_failures (id, queue, error_code, error_message, failed_at, body, enqueued_at, enqueued_by_oid, enqueued_by, token, queue_id)
  VALUES (-5, 'std', 'Code', 'why', now(), 'of a queue before', now(), 'regress_sqs_other'::regrole, 'regress_sqs_other', '00000000-0000-4000-8000-000000000005', 0);
GRANT USAGE ON FOREIGN SERVER sqs_local TO regress_sqs_other;
SET ROLE regress_sqs_other;
SELECT r.* FROM refusal($$SELECT sqs_outbox_retry(-5)$$) r;
SELECT sqs_outbox_discard(-5);
RESET ROLE;

DROP FUNCTION refusal CASCADE;
DROP EXTENSION sqsbridge CASCADE;
DROP OWNED BY regress_sqs_app, regress_sqs_other;
DROP ROLE regress_sqs_app, regress_sqs_other;
