--
-- Copies of a database: nothing runs in them until they are adopted
--
CREATE EXTENSION sqsbridge;
CREATE ROLE regress_sqs_app LOGIN;
CREATE ROLE regress_sqs_other LOGIN;
CREATE SERVER sqs_local FOREIGN DATA WRAPPER sqsbridge
  OPTIONS (region 'us-east-1', endpoint 'http://127.0.0.1:1');
CREATE SERVER sqs_local2 FOREIGN DATA WRAPPER sqsbridge
  OPTIONS (region 'us-east-1', endpoint 'http://127.0.0.1:1');
CREATE USER MAPPING FOR PUBLIC SERVER sqs_local
  OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'SECRETSECRET');
CREATE USER MAPPING FOR PUBLIC SERVER sqs_local2
  OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'SECRETSECRET');
GRANT USAGE ON FOREIGN SERVER sqs_local, sqs_local2 TO regress_sqs_app;
GRANT CREATE ON SCHEMA public TO regress_sqs_app;
SET ROLE regress_sqs_app;
CREATE FUNCTION handle(sqs_message) RETURNS void LANGUAGE sql AS '';
SELECT sqs_register_queue('q1', 'sqs_local', 'handle', queue_name => 'orders', enabled => false);
SELECT sqs_register_queue('q2', 'sqs_local2', 'handle', queue_name => 'orders', enabled => false);
SELECT sqs_enqueue('q1', 'waits') > 0 AS id;
SELECT sqs_enqueue('q1', 'is scheduled', delay => '1 h') > 0 AS id;
SELECT sqs_enqueue('q2', 'of the other') > 0 AS id;
RESET ROLE;

-- The state after a restore: another home, other OIDs, batches of other
-- transactions, and a row without its batch.
UPDATE sqsbridge_internal.queues SET home = '1/2/3',
  server_oid = (SELECT oid FROM pg_foreign_server WHERE srvname = CASE server WHEN 'sqs_local' THEN 'sqs_local2' ELSE 'sqs_local' END);
UPDATE sqsbridge_internal.outbox_batches SET xid = '7';
DELETE FROM sqsbridge_internal.outbox_batches WHERE queue_id = (SELECT queue_id FROM sqs_queues WHERE name = 'q2');
SELECT queue, state, last_error FROM sqs_stats ORDER BY 1;
SELECT queue, state, waiting, scheduled, last_error FROM sqs_stats_outbox ORDER BY 1;

-- No queue works, and only superusers can change them.
SET ROLE regress_sqs_app;
SELECT last_error FROM sqs_stats;
SELECT sqs_send('q1', 'x');
SELECT * FROM sqs_send_batch('q1', ARRAY[sqs_outgoing('x')]);
SELECT sqs_alter_queue('q1');
SELECT sqs_enable_queue('q1');
SELECT sqs_unregister_queue('q1');
SELECT sqs_adopt_queues('send');
-- the outbox accepts rows, which wait
SELECT sqs_enqueue('q1', 'of the copy') > 0 AS id;
RESET ROLE;
SELECT sqs_alter_queue('q1');
SELECT sqs_adopt_queues(NULL);
SELECT sqs_adopt_queues('keep');
BEGIN READ ONLY;
SELECT sqs_adopt_queues('send');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT sqs_adopt_queues('send');
ROLLBACK;
BEGIN;
SELECT sqs_enqueue('q1', 'rolled back') > 0 AS id;
SELECT sqs_adopt_queues('send');
ROLLBACK;

-- After adoption: OIDs are looked up by name, and every row has a batch, in order.
BEGIN;
SELECT sqs_adopt_queues('send');
SELECT queue, state, last_error FROM sqs_stats ORDER BY 1;
SELECT q.name, r.body, b.deliver_at = coalesce(r.deliver_at, '-infinity') AS when, b.xmin::text = b.xid::text AS native
  FROM sqsbridge_internal.outbox_rows r JOIN sqs_queues q USING (queue_id)
    LEFT JOIN sqsbridge_internal.outbox_batches b USING (batch_id, queue_id) ORDER BY r.id;
-- what was enqueued in the copy comes after what was copied
SELECT string_agg(r.body, ', ' ORDER BY b.position)
  FROM sqsbridge_internal.outbox_rows r JOIN sqsbridge_internal.outbox_batches b USING (batch_id, queue_id)
  WHERE r.queue = 'q1' AND r.deliver_at IS NULL;
SELECT sqs_adopt_queues('send');
ROLLBACK;
BEGIN;
SELECT sqs_adopt_queues('discard');
SELECT count(*) FROM sqs_outbox;
SELECT count(*) FROM sqsbridge_internal.outbox_batches WHERE xmin::text <> xid::text;
ROLLBACK;

-- If something is missing or belongs to another role, the queue says so and does not work.
BEGIN;
DROP SERVER sqs_local, sqs_local2 CASCADE;
SELECT sqs_adopt_queues('send');
SELECT queue, state, last_error FROM sqs_stats ORDER BY 1;
ROLLBACK;
BEGIN;
ALTER SERVER sqs_local2 RENAME TO sqs_local3;
ALTER SERVER sqs_local OWNER TO regress_sqs_other;
SELECT sqs_adopt_queues('send');
SELECT queue, state, last_error FROM sqs_stats ORDER BY 1;
ROLLBACK;
BEGIN;
ALTER FUNCTION handle OWNER TO regress_sqs_other;
SELECT sqs_adopt_queues('send');
SELECT queue, state, last_error FROM sqs_stats ORDER BY 1;
-- its owner may confirm the binding
SET LOCAL ROLE regress_sqs_app;
SELECT sqs_alter_queue('q1');
SELECT queue, state, last_error FROM sqs_stats ORDER BY 1;
ROLLBACK;
BEGIN;
ALTER ROLE regress_sqs_app RENAME TO regress_sqs_app2;
SELECT sqs_adopt_queues('send');
SELECT queue, state, last_error FROM sqs_stats ORDER BY 1;
ROLLBACK;

-- A queue can be registered next to a copy that has the same OIDs.
SET ROLE regress_sqs_app;
SELECT sqs_register_queue('new', 'sqs_local', 'handle', queue_name => 'orders', enabled => false);
RESET ROLE;
SELECT queue, state FROM sqs_stats ORDER BY 1;
SELECT sqs_unregister_queue('new');
SELECT sqs_adopt_queues('send');
SELECT sqs_unregister_queue(name) FROM sqs_queues;

DROP EXTENSION sqsbridge CASCADE;
DROP OWNED BY regress_sqs_app, regress_sqs_other;
DROP ROLE regress_sqs_app, regress_sqs_other;
