--
-- Dead letters: who sees them, sending them again, discarding them
--
CREATE EXTENSION sqsbridge;
CREATE ROLE regress_sqs_app LOGIN;
CREATE ROLE regress_sqs_member LOGIN IN ROLE regress_sqs_app;
CREATE ROLE regress_sqs_other LOGIN;
CREATE ROLE regress_sqs_monitor LOGIN IN ROLE pg_read_all_stats;
CREATE ROLE regress_sqs_reader LOGIN IN ROLE pg_read_all_data;
CREATE ROLE regress_sqs_writer LOGIN IN ROLE pg_write_all_data;
CREATE SERVER sqs_local FOREIGN DATA WRAPPER sqsbridge
  OPTIONS (region 'us-east-1', endpoint 'http://127.0.0.1:1');
CREATE USER MAPPING FOR PUBLIC SERVER sqs_local
  OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'SECRETSECRET');
GRANT USAGE ON FOREIGN SERVER sqs_local TO regress_sqs_app;

-- SQLSTATE, message, detail and hint of a statement's error.
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
RESET ROLE;
INSERT INTO sqsbridge_internal.dead_letters (queue_id, id, queue, queue_owner_oid, queue_owner, state, message_id, group_id,
    deduplication_id, sequence_number, body, attributes, system_attributes, raw, died_at, attempts, reason, sqlstate, message)
  SELECT COALESCE((SELECT queue_id FROM sqs_queues q WHERE q.name = d.queue), 0), id, d.queue,
         COALESCE((SELECT oid FROM pg_roles WHERE rolname = d.owner), 4294967294), d.owner, state, 'm' || id, d.group_id,
         d.group_id || '-' || id, 100 + id, d.body, d.attributes, d.system_attributes, d.raw, '2020-01-01'::timestamptz + id * interval '1 day',
         3, CASE state WHEN 'parked' THEN 'parked' ELSE 'max_attempts' END, 'P0001', 'why'
  FROM (VALUES
         (1, 'std', 'regress_sqs_app', 'dead', NULL, 'plain', '{}'::jsonb, '{"SenderId": "x"}'::jsonb, NULL::bytea),
         (2, 'std', 'regress_sqs_app', 'dead', NULL, 'with attributes', '{"a": "b", "n": 7, "bin": {"DataType": "Binary.x", "BinaryValue": "AQI="}}',
            '{"SenderId": "x", "AWSTraceHeader": "Root=1-5759e988-bd862e3fe1be46a994272793"}', NULL),
         (3, 'ordered.fifo', 'regress_sqs_app', 'dead', 'g', 'of a group', '{}', '{}', NULL),
         (4, 'ordered.fifo', 'regress_sqs_app', 'parked', 'g', 'of a parked group', '{}', '{}', NULL),
         (5, 'std', 'regress_sqs_app', 'dead', NULL, NULL, NULL, NULL, '\x7b22426f6479223a22ff227d'),
         (6, 'std', 'regress_sqs_other', 'dead', NULL, 'of a queue before', '{}', '{}', NULL),
         (7, 'gone', 'regress_sqs_other', 'dead', NULL, 'of no queue', '{}', '{}', NULL),
         (8, 'std', 'regress_sqs_gone', 'dead', NULL, 'of a role that is gone', '{}', '{}', NULL),
         (9, 'std', 'regress_sqs_app', 'dead', NULL, 'to be discarded', '{}', '{}', NULL))
       d(id, queue, owner, state, group_id, body, attributes, system_attributes, raw);
UPDATE sqsbridge_internal.dead_letters SET queue_id = 1 WHERE id = 6;

-- Who sees what.
SELECT id, queue, queue_owner, state, body IS NOT NULL OR raw IS NOT NULL AS content FROM sqs_dead_letters ORDER BY id;
SET ROLE regress_sqs_app;
SELECT id, body, raw, attributes, system_attributes FROM sqs_dead_letters ORDER BY id;
SET ROLE regress_sqs_member;
SELECT id, body FROM sqs_dead_letters WHERE id < 3 ORDER BY id;
SET ROLE regress_sqs_other;
SELECT id, body FROM sqs_dead_letters ORDER BY id;
SET ROLE regress_sqs_monitor;
SELECT * FROM sqs_dead_letters WHERE id = 2 \gx
SELECT id FROM sqs_dead_letters WHERE body IS NOT NULL OR raw IS NOT NULL OR attributes IS NOT NULL OR
  system_attributes IS NOT NULL OR envelope IS NOT NULL;
SET ROLE regress_sqs_reader;
SELECT id, body FROM sqs_dead_letters ORDER BY id;
SET ROLE regress_sqs_writer;
SELECT id FROM sqs_dead_letters;
SELECT queue, oldest_dead_letter_at = '2020-01-02'::timestamptz AS oldest FROM sqs_stats ORDER BY 1;

-- No role can write the table.
SELECT r.* FROM (VALUES ($$INSERT INTO sqs_dead_letters (id) VALUES (10)$$), ($$UPDATE sqs_dead_letters SET state = 'dead'$$),
  ($$DELETE FROM sqs_dead_letters$$), ($$TRUNCATE sqs_dead_letters$$), ($$DELETE FROM sqsbridge_internal.dead_letters$$)) v(statement),
  refusal(statement) r;
RESET ROLE;
SELECT r.state FROM (VALUES ($$UPDATE sqsbridge_internal.dead_letters SET state = 'alive'$$),
  ($$UPDATE sqsbridge_internal.dead_letters SET state = 'redriven'$$),
  ($$UPDATE sqsbridge_internal.dead_letters SET resolved_at = now()$$)) v(statement), refusal(statement) r;

-- Who may redrive and discard.
SET ROLE regress_sqs_other;
SELECT r.* FROM (VALUES ($$SELECT sqs_redrive(1)$$), ($$SELECT sqs_discard_dead_letter(1)$$), ($$SELECT sqs_redrive(0)$$),
  ($$SELECT sqs_redrive(6)$$), ($$SELECT sqs_redrive(7)$$)) v(statement), refusal(statement) r;
SET ROLE regress_sqs_writer;
SELECT r.* FROM (VALUES ($$SELECT sqs_redrive(1)$$), ($$SELECT sqs_discard_dead_letter(1)$$)) v(statement), refusal(statement) r;
SET ROLE regress_sqs_monitor;
SELECT r.* FROM (VALUES ($$SELECT sqs_redrive(1)$$), ($$SELECT sqs_discard_dead_letter(1)$$)) v(statement), refusal(statement) r;
SET ROLE regress_sqs_reader;
SELECT r.* FROM (VALUES ($$SELECT sqs_redrive(1)$$), ($$SELECT sqs_discard_dead_letter(1)$$)) v(statement), refusal(statement) r;
SET ROLE regress_sqs_app;
SELECT r.* FROM (VALUES ($$SELECT sqs_redrive(8)$$), ($$SELECT sqs_redrive(4)$$), ($$SELECT sqs_redrive(5)$$)) v(statement), refusal(statement) r;
SELECT sqs_redrive(NULL), sqs_discard_dead_letter(NULL);
BEGIN READ ONLY;
SAVEPOINT s;
SELECT sqs_redrive(1);
ROLLBACK TO s;
SELECT sqs_discard_dead_letter(1);
ROLLBACK;

-- Redriving.
BEGIN;
SELECT sqs_redrive(1) > 0 AS id;
SELECT redriven_as = (SELECT id FROM sqs_outbox) AS same FROM sqs_dead_letters WHERE id = 1;
SELECT sqs_redrive(1) IS NULL AS once;
ROLLBACK;
SELECT count(*) FROM sqs_outbox;
SELECT id, sqs_redrive(id) > 0 AS sent FROM sqs_dead_letters WHERE state = 'dead' AND raw IS NULL AND id <> 9 ORDER BY id;
SELECT d.id, o.queue, o.body, o.attributes, o.system_attributes, o.group_id, o.deduplication_id, o.deliver_at, o.enqueued_by
  FROM sqs_outbox o JOIN sqs_dead_letters d ON d.redriven_as = o.id ORDER BY 1;
SELECT id, state, resolved_at IS NOT NULL AS resolved, resolved_by, redriven_as > 0 AS redriven FROM sqs_dead_letters ORDER BY id;
SELECT id, sqs_redrive(id) FROM sqs_dead_letters WHERE state = 'redriven' ORDER BY id;
-- twice in one statement
RESET ROLE;
SELECT sqs_redrive(8) > 0 AS first, sqs_redrive(8) IS NULL AS second;
SELECT count(*) FROM sqs_outbox;

-- Discarding.
SET ROLE regress_sqs_member;
SELECT sqs_discard_dead_letter(id) FROM (VALUES (4), (5), (9), (9), (1)) v(id);
SELECT id, state, resolved_by FROM sqs_dead_letters WHERE state = 'discarded' ORDER BY id;
SELECT sqs_redrive(9);
SELECT count(oldest_dead_letter_at) FROM sqs_stats;
RESET ROLE;

-- A queue that is gone, and one of its name.
SET ROLE regress_sqs_app;
SELECT sqs_unregister_queue('std');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER sqs_local TO regress_sqs_other;
SET ROLE regress_sqs_other;
SELECT r.* FROM (VALUES ($$SELECT sqs_redrive(6)$$)) v(statement), refusal(statement) r;
SELECT sqs_register_queue('std', 'sqs_local', enabled => false);
SELECT sqs_redrive(6) > 0 AS sent;
RESET ROLE;

-- The queue that dead letters are sent to.
REVOKE USAGE ON FOREIGN SERVER sqs_local FROM regress_sqs_other;
SET ROLE regress_sqs_app;
SELECT r.* FROM (VALUES ($$SELECT sqs_register_queue('x', 'sqs_local', dead_letter => 'queue', dead_letter_queue => 'nowhere')$$),
  ($$SELECT sqs_register_queue('x', 'sqs_local', dead_letter => 'queue', dead_letter_queue => 'x')$$),
  ($$SELECT sqs_alter_queue('ordered.fifo', dead_letter => 'queue', dead_letter_queue => 'ordered.fifo')$$)) v(statement), refusal(statement) r;
SELECT sqs_register_queue('x', 'sqs_local', dead_letter => 'queue', dead_letter_queue => 'ordered.fifo', enabled => false);
SELECT dead_letter, dead_letter_queue FROM sqs_queues WHERE name = 'x';
-- it can be altered when that queue is gone
SELECT sqs_unregister_queue('ordered.fifo');
SELECT sqs_alter_queue('x', concurrency => 2);
RESET ROLE;
SET ROLE regress_sqs_other;
SELECT r.* FROM refusal($$SELECT sqs_alter_queue('std', dead_letter => 'queue', dead_letter_queue => 'x')$$) r;
RESET ROLE;

DROP FUNCTION refusal CASCADE;
DROP EXTENSION sqsbridge CASCADE;
DROP ROLE regress_sqs_app, regress_sqs_member, regress_sqs_other, regress_sqs_monitor, regress_sqs_reader, regress_sqs_writer;
