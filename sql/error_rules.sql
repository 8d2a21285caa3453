--
-- Error rules: which one applies, who may set them, what is refused
--
CREATE EXTENSION sqsbridge;
CREATE ROLE regress_sqs_app LOGIN;
CREATE ROLE regress_sqs_other LOGIN;
CREATE SERVER sqs_local FOREIGN DATA WRAPPER sqsbridge
  OPTIONS (region 'us-east-1', endpoint 'http://127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER sqs_local TO regress_sqs_app;

-- Built-in rules.
SELECT * FROM sqs_error_rules ORDER BY sqlstate;

SET ROLE regress_sqs_app;
SELECT sqs_register_queue('a', 'sqs_local', enabled => false);
SELECT sqs_register_queue('b', 'sqs_local', enabled => false);
RESET ROLE;
SELECT queue, count(*), count(*) FILTER (WHERE source = 'built-in') AS built_in
  FROM sqs_error_rules GROUP BY queue ORDER BY queue;

-- What is more exact comes first, then what is the queue's own.
CREATE VIEW rules AS
  SELECT queue, sqlstate, action, delay, source FROM sqs_error_rules
  WHERE sqlstate IN ('23505', '23', '23503', '40001', 'default');
SELECT sqs_set_error_rule(NULL, 'default', 'retry', '1 s');
SELECT * FROM rules ORDER BY queue, sqlstate;
SELECT sqs_set_error_rule('a', 'default', 'retry', '2 s');
SELECT sqs_set_error_rule(NULL, '23', 'retry', '3 s');
SELECT sqs_set_error_rule('a', '23', 'retry', '4 s');
SELECT sqs_set_error_rule(NULL, '23505', 'discard');
SELECT sqs_set_error_rule('a', '23503', 'dead_letter');
SELECT * FROM rules ORDER BY queue, sqlstate;
SELECT sqs_set_error_rule('a', '23505', 'retry_now', '12 h');
SELECT * FROM rules WHERE sqlstate = '23505' ORDER BY queue;

-- The same again replaces a rule, without an action it is removed.
SELECT sqs_set_error_rule('a', '23505', 'pause');
SELECT * FROM rules WHERE sqlstate = '23505' ORDER BY queue;
SELECT sqs_set_error_rule('a', '23505', NULL);
SELECT sqs_set_error_rule(NULL, 'default', NULL);
SELECT sqs_set_error_rule('b', '23505', NULL);
SELECT * FROM rules WHERE sqlstate IN ('23505', 'default') ORDER BY queue, sqlstate;
SELECT sqs_set_error_rule('b', 'SQ101', 'dead_letter'), sqs_set_error_rule('b', 'SQ106', 'discard'),
       sqs_set_error_rule('b', 'SQ106', 'retry');
SELECT * FROM sqs_error_rules WHERE sqlstate LIKE 'SQ%' ORDER BY queue, sqlstate;

-- A rollback takes them back.
BEGIN;
SELECT sqs_set_error_rule('b', '08', 'retry');
SELECT action, source FROM sqs_error_rules WHERE queue = 'b' AND sqlstate = '08';
ROLLBACK;
SELECT action, source FROM sqs_error_rules WHERE queue = 'b' AND sqlstate = '08';
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT sqs_set_error_rule('b', '08', 'retry');
SELECT sqs_set_error_rule('b', '08', 'discard');
SELECT action, source FROM sqs_error_rules WHERE queue = 'b' AND sqlstate = '08';
COMMIT;

-- Bad values.
SELECT sqs_set_error_rule('nothing', '23505', 'retry');
SELECT sqs_set_error_rule('a', NULL, 'retry');
SELECT sqs_set_error_rule('a', '', 'retry');
SELECT sqs_set_error_rule('a', '2350', 'retry');
SELECT sqs_set_error_rule('a', '23505 ', 'retry');
SELECT sqs_set_error_rule('a', '40p01', 'retry');
SELECT sqs_set_error_rule('a', 'unique_violation', 'retry');
SELECT sqs_set_error_rule('a', 'SQ', 'retry');
SELECT sqs_set_error_rule('a', 'SQ001', 'retry');
SELECT sqs_set_error_rule('a', 'SQ105', 'retry');
SELECT sqs_set_error_rule('a', '23505', 'ignore');
SELECT sqs_set_error_rule('a', '23505', 'throttle');
SELECT sqs_set_error_rule('a', '23505', NULL, '1 s');
SELECT sqs_set_error_rule('a', '23505', 'discard', '1 s');
SELECT sqs_set_error_rule('a', '23505', 'pause', '1 s');
SELECT sqs_set_error_rule('a', '23505', 'retry', '-1 s');
SELECT sqs_set_error_rule('a', '23505', 'retry', '1.5 s');
SELECT sqs_set_error_rule('a', '23505', 'retry', '12:00:01');
SELECT sqs_set_error_rule('a', '23505', 'retry', '1 mon');
SELECT sqs_set_error_rule('a', '23505', 'retry', '2147483647 d');
DO $$
BEGIN
  FOR i IN 1..300 LOOP
    PERFORM sqs_set_error_rule('b', 'X' || lpad(i::text, 4, '0'), 'retry');
  END LOOP;
END $$;
BEGIN READ ONLY;
SELECT sqs_set_error_rule('a', '23505', 'retry');
ROLLBACK;

-- A queue's rules are its owner's, those for all queues the extension's owner's.
SET ROLE regress_sqs_app;
SELECT sqs_set_error_rule('b', '22', 'dead_letter');
SELECT sqs_set_error_rule(NULL, '22', 'dead_letter');
SELECT count(*) FROM sqsbridge_internal.error_rules;
SET ROLE regress_sqs_other;
SELECT sqs_set_error_rule('b', '22', 'retry');
SELECT queue, action, source FROM sqs_error_rules WHERE sqlstate = '22';
RESET ROLE;

-- Constraints enforce the same rules for rows inserted by hand.
\set VERBOSITY terse
INSERT INTO sqsbridge_internal.error_rules VALUES (0, '23x', 'retry', NULL);
INSERT INTO sqsbridge_internal.error_rules VALUES (0, '22', 'killed', NULL);
INSERT INTO sqsbridge_internal.error_rules VALUES (0, '22', 'retry', '13 h');
INSERT INTO sqsbridge_internal.error_rules VALUES (0, '22', NULL, NULL);
INSERT INTO sqsbridge_internal.error_rules VALUES (0, '23505', 'retry', NULL);
\set VERBOSITY default

-- A queue that is removed takes its rules along; those of the others stay.
SELECT sqs_unregister_queue('b');
SELECT sqs_register_queue('b', 'sqs_local', enabled => false);
SELECT DISTINCT source FROM sqs_error_rules WHERE queue = 'b' ORDER BY 1;
SELECT count(DISTINCT queue_id), min(queue_id) FROM sqsbridge_internal.error_rules;
SELECT sqs_unregister_queue('a');
SELECT count(DISTINCT queue_id), min(queue_id) FROM sqsbridge_internal.error_rules;

DROP VIEW rules;
DROP EXTENSION sqsbridge CASCADE;
DROP OWNED BY regress_sqs_app, regress_sqs_other;
DROP ROLE regress_sqs_app, regress_sqs_other;
