--
-- Privileges
--
CREATE EXTENSION sqsbridge;
CREATE ROLE regress_sqs_admin;
CREATE ROLE regress_sqs_app LOGIN;
CREATE ROLE regress_sqs_member LOGIN IN ROLE regress_sqs_app;
CREATE ROLE regress_sqs_other LOGIN;
CREATE ROLE regress_sqs_monitor LOGIN IN ROLE pg_read_all_stats;

-- USAGE on the foreign-data wrapper: the right to say where SQS is.
SET ROLE regress_sqs_admin;
CREATE SERVER sqs_local FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1');
RESET ROLE;
GRANT USAGE ON FOREIGN DATA WRAPPER sqsbridge TO regress_sqs_admin;
SET ROLE regress_sqs_admin;
CREATE SERVER sqs_local FOREIGN DATA WRAPPER sqsbridge
  OPTIONS (region 'us-east-1', endpoint 'http://127.0.0.1:1');
CREATE USER MAPPING FOR regress_sqs_app SERVER sqs_local
  OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'SECRET');
CREATE USER MAPPING FOR PUBLIC SERVER sqs_local
  OPTIONS (access_key_id 'AKIDPUBLIC', secret_access_key 'SECRET');

-- USAGE on the server: the right to register a queue.
SET ROLE regress_sqs_app;
SELECT sqs_register_queue('q', 'sqs_local', enabled => false);
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER sqs_local TO regress_sqs_app;
SET ROLE regress_sqs_app;
SELECT sqs_register_queue('q', 'sqs_local', enabled => false);
SELECT name, owner FROM sqs_queues;

-- Who can see keys.
SELECT usename, umoptions FROM pg_user_mappings WHERE srvname = 'sqs_local' ORDER BY usename = 'public';
SET ROLE regress_sqs_member;
SELECT usename, umoptions FROM pg_user_mappings WHERE srvname = 'sqs_local' ORDER BY usename = 'public';
SET ROLE regress_sqs_other;
SELECT usename, umoptions FROM pg_user_mappings WHERE srvname = 'sqs_local' ORDER BY usename = 'public';
SELECT * FROM pg_user_mapping;

-- Queues of other roles are visible, but cannot be changed.
SELECT name, owner FROM sqs_queues;
SELECT queue, owner, state FROM sqs_stats;
SELECT * FROM sqs_stats_in_flight;
SELECT queue FROM sqs_stats_workers WHERE queue IS NOT NULL;
SELECT sqs_alter_queue('q', concurrency => 2);
SELECT sqs_alter_queue('q');
SELECT sqs_disable_queue('q');
SELECT sqs_enable_queue('q');
SELECT sqs_unregister_queue('q');
SELECT sqs_stats_reset();
SELECT sqs_stats_reset('q');

-- Members of the owner's role, and superusers, may change them.
SET ROLE regress_sqs_member;
SELECT sqs_alter_queue('q', concurrency => 3);
RESET ROLE;
SELECT sqs_alter_queue('q', batch_size => 3);
SELECT name, owner, concurrency, batch_size FROM sqs_queues;

-- No role can write the tables.
SET ROLE regress_sqs_app;
INSERT INTO sqs_queues (name, owner, server, queue_name) VALUES ('x', 'regress_sqs_app', 'x', 'x');
UPDATE sqs_queues SET owner = 'regress_sqs_other';
DELETE FROM sqs_queues;
TRUNCATE sqs_queues;
CREATE TRIGGER t BEFORE INSERT ON sqs_queues FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
BEGIN;
LOCK TABLE sqs_queues IN SHARE MODE;
ROLLBACK;
SELECT * FROM sqsbridge_internal.inbox;
INSERT INTO sqsbridge_internal.inbox VALUES (1, 'x', now());
DELETE FROM sqsbridge_internal.inbox;
CREATE TRIGGER t BEFORE INSERT ON sqsbridge_internal.inbox FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
INSERT INTO sqs_failures (failed_at, queue, queue_owner, message_id) VALUES (now(), 'q', 'regress_sqs_app', 'x');
DELETE FROM sqs_failures;
CREATE TRIGGER t BEFORE INSERT ON sqs_failures FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE POLICY p ON sqs_failures USING (true);
RESET ROLE;

-- Failures are visible to members of the queue's owner and of
-- pg_read_all_stats.
INSERT INTO sqsbridge_internal.failures (queue_id, failed_at, queue, queue_owner_oid, queue_owner, message_id, message)
  VALUES (1, now(), 'q', 'regress_sqs_app'::regrole, 'regress_sqs_app', 'm1', 'of app'),
         (2, now(), 'p', 'regress_sqs_other'::regrole, 'regress_sqs_other', 'm2', 'of other'),
         (3, now(), 'r', 4294967294, 'regress_sqs_gone', 'm3', 'of a role that is gone'),
         -- the number is another role's by now
         (4, now(), 's', 'regress_sqs_app'::regrole, 'regress_sqs_gone', 'm4', 'of a role whose number was given away');
SELECT message FROM sqs_failures ORDER BY message_id;
SET ROLE regress_sqs_app;
SELECT message FROM sqs_failures ORDER BY message_id;
SET ROLE regress_sqs_member;
SELECT message FROM sqs_failures ORDER BY message_id;
SET ROLE regress_sqs_other;
SELECT message FROM sqs_failures ORDER BY message_id;
SET ROLE regress_sqs_monitor;
SELECT message FROM sqs_failures ORDER BY message_id;
SET ROLE regress_sqs_admin;
SELECT message FROM sqs_failures ORDER BY message_id;
RESET ROLE;

-- The handler is called as the owner: it must be allowed to.
CREATE SCHEMA sqs_closed;
CREATE FUNCTION sqs_closed.handle(sqs_message) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION public.sqs_closed(sqs_message) RETURNS void LANGUAGE sql AS '';
REVOKE EXECUTE ON FUNCTION public.sqs_closed(sqs_message) FROM PUBLIC;
SET ROLE regress_sqs_app;
SELECT sqs_register_queue('h', 'sqs_local', 'sqs_closed.handle', enabled => false);
SELECT sqs_register_queue('h', 'sqs_local', 'public.sqs_closed', enabled => false);
RESET ROLE;
-- the owner's privileges matter, not those of the role that alters the queue
SELECT sqs_alter_queue('q', handler => 'sqs_closed.handle');
SELECT sqs_alter_queue('q', handler => 'public.sqs_closed');
GRANT EXECUTE ON FUNCTION public.sqs_closed(sqs_message) TO regress_sqs_app;
SELECT sqs_alter_queue('q', handler => 'public.sqs_closed');

-- Functions of the caller that hide built-in operators or types are not used.
CREATE SCHEMA sqs_evil;
CREATE FUNCTION sqs_evil.yes(text, text) RETURNS boolean LANGUAGE plpgsql AS
  $$ BEGIN RAISE NOTICE 'called as %', current_user; RETURN true; END $$;
CREATE OPERATOR sqs_evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = sqs_evil.yes);
CREATE FUNCTION sqs_evil.now() RETURNS timestamptz LANGUAGE plpgsql AS
  $$ BEGIN RAISE NOTICE 'called as %', current_user; RETURN 'epoch'; END $$;
CREATE TABLE sqs_evil.sqs_queues (LIKE sqs_queues);
GRANT ALL ON SCHEMA sqs_evil TO PUBLIC;
SET ROLE regress_sqs_app;
SET search_path = sqs_evil, pg_catalog;
SELECT public.sqs_alter_queue('q', concurrency => 5);
SELECT public.sqs_disable_queue('q');
SELECT public.sqs_register_queue('e', 'sqs_local', enabled => false);
SELECT public.sqs_unregister_queue('e');
SELECT public.sqs_unregister_queue('nothing');
RESET search_path;
RESET ROLE;
SELECT count(*) FROM sqs_evil.sqs_queues;

-- If the owner is dropped, only superusers can change the queue.
DROP OWNED BY regress_sqs_app;
DROP ROLE regress_sqs_member;
DROP ROLE regress_sqs_app;
SELECT name, owner, broken, problem FROM sqs_get_queues();
SET ROLE regress_sqs_other;
SELECT sqs_unregister_queue('q');
RESET ROLE;
SELECT sqs_alter_queue('q', handler => 'public.sqs_closed');
SELECT sqs_alter_queue('q', concurrency => 6);
-- another role with the same name is not the owner
CREATE ROLE regress_sqs_app LOGIN;
SELECT problem FROM sqs_get_queues();
SET ROLE regress_sqs_app;
SELECT sqs_alter_queue('q');
SELECT sqs_unregister_queue('q');
RESET ROLE;
SELECT sqs_alter_queue('q', owner => 'regress_sqs_other');
GRANT USAGE ON FOREIGN SERVER sqs_local TO regress_sqs_other;
SELECT sqs_alter_queue('q', owner => 'regress_sqs_other', reset => ARRAY['handler']);
SELECT owner, handler, broken FROM sqs_get_queues();
SET ROLE regress_sqs_app;
SELECT sqs_alter_queue('q', owner => 'regress_sqs_app');
SET ROLE regress_sqs_other;
SELECT sqs_alter_queue('q', owner => 'regress_sqs_other');
SELECT sqs_unregister_queue('q');
RESET ROLE;
DROP ROLE regress_sqs_app;

DROP SCHEMA sqs_evil, sqs_closed CASCADE;
DROP FUNCTION public.sqs_closed;
DROP EXTENSION sqsbridge CASCADE;
DROP OWNED BY regress_sqs_other;
DROP ROLE regress_sqs_admin, regress_sqs_other, regress_sqs_monitor;
