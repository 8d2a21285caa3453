--
-- sqs_alter_queue(), sqs_disable_queue(), sqs_enable_queue(),
-- sqs_unregister_queue()
--
CREATE EXTENSION sqsbridge;
CREATE ROLE regress_sqs_app LOGIN;
CREATE SERVER sqs_local FOREIGN DATA WRAPPER sqsbridge
  OPTIONS (region 'us-east-1', endpoint 'http://127.0.0.1:1');
CREATE SERVER sqs_local2 FOREIGN DATA WRAPPER sqsbridge
  OPTIONS (region 'us-east-1', endpoint 'http://127.0.0.1:2');
CREATE SERVER sqs_open FOREIGN DATA WRAPPER sqsbridge
  OPTIONS (region 'us-east-1', endpoint 'http://sqs.example.com', allow_http 'true');
CREATE USER MAPPING FOR PUBLIC SERVER sqs_open OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'SECRET');
GRANT USAGE ON FOREIGN SERVER sqs_local, sqs_open TO regress_sqs_app;
GRANT CREATE ON SCHEMA public TO regress_sqs_app;
SET ROLE regress_sqs_app;
CREATE FUNCTION handle(sqs_message) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION handle2(sqs_message) RETURNS void LANGUAGE sql AS '';
CREATE VIEW options AS
  SELECT name, server, queue_name, handler, concurrency, batch_size, wait_time, visibility_timeout,
         handler_timeout, retry_delay, exactly_once, dedup_retention, group_batch_size, unwrap,
         max_attempts, retry_factor, retry_max_delay, retry_jitter, throttle_after,
         dead_letter, dead_letter_queue, on_dead_letter, route_by, unroutable, dedup_key,
         handler_batch_size, handler_batch_wait, verify_sns,
         enabled
  FROM sqs_queues;

SELECT sqs_register_queue('orders', 'sqs_local', 'handle', enabled => false);

-- One option leaves the others alone.
SELECT sqs_alter_queue('orders', concurrency => 2);
SELECT sqs_alter_queue('orders', batch_size => 3);
SELECT sqs_alter_queue('orders', wait_time => '4 s');
SELECT sqs_alter_queue('orders', visibility_timeout => '5 min');
SELECT sqs_alter_queue('orders', handler_timeout => '6 ms');
SELECT sqs_alter_queue('orders', retry_delay => '7 s');
SELECT sqs_alter_queue('orders', exactly_once => false);
SELECT sqs_alter_queue('orders', dedup_retention => '8 h');
SELECT sqs_alter_queue('orders', group_batch_size => 8);
SELECT sqs_alter_queue('orders', unwrap => 'sns');
SELECT sqs_alter_queue('orders', max_attempts => 3);
SELECT sqs_alter_queue('orders', retry_factor => 1.5);
SELECT sqs_alter_queue('orders', retry_max_delay => '1 min');
SELECT sqs_alter_queue('orders', retry_jitter => 0.5);
SELECT sqs_alter_queue('orders', throttle_after => 10);
SELECT sqs_alter_queue('orders', dead_letter => 'table');
SELECT sqs_alter_queue('orders', on_dead_letter => 'park_group');
SELECT sqs_alter_queue('orders', unroutable => 'fail');
SELECT sqs_alter_queue('orders', handler_batch_size => 20);
SELECT sqs_alter_queue('orders', handler_batch_wait => '20 ms');
SELECT sqs_alter_queue('orders', verify_sns => true);
SELECT sqs_alter_queue('orders', dead_letter => 'none');
SELECT sqs_alter_queue('orders', dedup_key => 'attribute:order');
SELECT sqs_alter_queue('orders', handler => 'handle2');
SELECT sqs_alter_queue('orders', queue_name => 'orders-9');
SELECT sqs_alter_queue('orders', server => 'sqs_open');
SELECT * FROM options \gx
BEGIN;
SELECT sqs_alter_queue('orders', enabled => true);
SELECT enabled, changed_at = now() AS changed FROM sqs_queues;
ROLLBACK;

-- A call without options changes nothing.
SELECT changed_at AS before FROM sqs_queues \gset
SELECT sqs_alter_queue('orders');
SELECT sqs_alter_queue('orders', reset => '{}');
SELECT changed_at = :'before' AS unchanged FROM sqs_queues;

-- Reset to defaults.
SELECT sqs_alter_queue('orders', reset => ARRAY['visibility_timeout', 'retry_delay']);
SELECT visibility_timeout, handler_timeout, retry_delay FROM options;
SELECT sqs_alter_queue('orders', server => 'sqs_local', reset => ARRAY['handler', 'queue_name', 'concurrency',
  'batch_size', 'wait_time', 'visibility_timeout', 'handler_timeout', 'retry_delay', 'exactly_once', 'dedup_retention',
  'group_batch_size', 'unwrap', 'max_attempts', 'retry_factor', 'retry_max_delay', 'retry_jitter',
  'throttle_after', 'dead_letter', 'dead_letter_queue', 'on_dead_letter', 'route_by', 'unroutable', 'dedup_key',
  'handler_batch_size', 'handler_batch_wait', 'verify_sns']);
SELECT * FROM options \gx
SELECT sqs_alter_queue('orders', unroutable => 'handler');
SELECT sqs_alter_queue('orders', unroutable => 'handler', handler => 'handle');
SELECT sqs_alter_queue('orders', reset => ARRAY['handler']);
SELECT sqs_alter_queue('orders', reset => ARRAY['handler', 'unroutable']);
SELECT sqs_alter_queue('orders', reset => ARRAY['server']);
SELECT sqs_alter_queue('orders', reset => ARRAY['no_such']);
SELECT sqs_alter_queue('orders', reset => ARRAY['handler', NULL]);
SELECT sqs_alter_queue('orders', wait_time => '1 s', reset => ARRAY['wait_time']);

-- The same checks as at registration.
SELECT sqs_alter_queue('orders', batch_size => 11);
SELECT sqs_alter_queue('orders', wait_time => '0.5 s');
SELECT sqs_alter_queue('orders', server => 'nowhere');
SELECT sqs_alter_queue('orders', server => 'sqs_local2');
SELECT sqs_alter_queue('orders', handler => 'nothing');
SELECT sqs_alter_queue('orders', queue_name => 'two words');
SELECT sqs_alter_queue('orders', queue_name => 'http://sqs.example.com/123456789012/q');
SELECT sqs_alter_queue('orders', server => 'sqs_open', queue_name => 'http://sqs.example.com/123456789012/q');
SELECT sqs_alter_queue('orders', server => 'sqs_local');
SELECT sqs_alter_queue('orders', server => 'sqs_local', reset => ARRAY['queue_name']);

-- One handler for a queue.
SELECT sqs_register_queue('copy', 'sqs_local', queue_name => 'orders', enabled => false);
SELECT sqs_alter_queue('orders', handler => 'handle');
SELECT sqs_alter_queue('orders', handler => 'handle2');
SELECT sqs_alter_queue('copy', handler => 'handle');
SELECT sqs_alter_queue('copy', handler => 'handle', queue_name => 'copy');
SELECT sqs_alter_queue('copy', queue_name => 'orders');
SELECT sqs_alter_queue('copy', queue_name => 'arn:aws:sqs:us-east-1:123456789012:orders');
SELECT sqs_alter_queue('copy', queue_name => 'orders', reset => ARRAY['handler']);
SELECT name, queue_name, handler FROM sqs_queues ORDER BY 1;
SELECT sqs_unregister_queue('copy');

-- The queue does not exist.
SELECT sqs_alter_queue(NULL);
SELECT sqs_alter_queue('nothing', concurrency => 2);
SELECT sqs_disable_queue('nothing');
SELECT sqs_enable_queue('nothing');
SELECT sqs_unregister_queue('nothing');
SELECT sqs_unregister_queue(NULL);

-- Disable and enable.
SELECT changed_at AS before FROM sqs_queues \gset
SELECT sqs_disable_queue('orders');
SELECT changed_at = :'before' AS unchanged FROM sqs_queues;
BEGIN;
SELECT sqs_enable_queue('orders');
SELECT enabled, changed_at = now() AS changed FROM sqs_queues;
SELECT sqs_enable_queue('orders');
SELECT sqs_disable_queue('orders');
SELECT enabled FROM sqs_queues;
ROLLBACK;

-- A broken reference does not prevent changes that do not concern it.
RESET ROLE;
REVOKE USAGE ON FOREIGN SERVER sqs_local FROM regress_sqs_app;
DROP FUNCTION handle2;
SET ROLE regress_sqs_app;
SELECT sqs_alter_queue('orders', concurrency => 3);
SELECT sqs_alter_queue('orders', server => 'sqs_local');
SELECT sqs_alter_queue('orders', handler => 'handle2');
RESET ROLE;
DROP SERVER sqs_local;
SET ROLE regress_sqs_app;
SELECT sqs_alter_queue('orders', queue_name => 'orders-2', concurrency => 4);
SELECT sqs_alter_queue('orders', server => 'sqs_local');
SELECT sqs_disable_queue('orders');
SELECT name, server, queue_name, handler, concurrency FROM sqs_queues;

-- A queue that is registered again has a new id.
SELECT queue_id AS before FROM sqs_queues \gset
SELECT sqs_unregister_queue('orders');
SELECT sqs_register_queue('orders', 'sqs_open', enabled => false);
SELECT queue_id > :before AS new_id FROM sqs_queues;

RESET ROLE;

-- The owner that a superuser names is the role that has this name now, even if
-- it is the same role under a new name.
ALTER ROLE regress_sqs_app RENAME TO regress_sqs_app2;
SELECT last_error LIKE '%is now named "regress_sqs_app2"%' AS renamed FROM sqs_stats;
SELECT sqs_alter_queue('orders', owner => 'regress_sqs_app2');
SELECT owner, last_error LIKE '%is now named%' AS renamed FROM sqs_stats;
ALTER ROLE regress_sqs_app2 RENAME TO regress_sqs_app;

DROP VIEW options;
DROP FUNCTION handle;
DROP EXTENSION sqsbridge CASCADE;
REVOKE CREATE ON SCHEMA public FROM regress_sqs_app;
DROP ROLE regress_sqs_app;
