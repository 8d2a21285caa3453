--
-- The internal tables: changes that are refused or tolerated, and who may write
--
CREATE EXTENSION sqsbridge;
CREATE ROLE regress_sqs_app LOGIN;
CREATE ROLE regress_sqs_writer LOGIN;
GRANT pg_write_all_data, pg_read_all_data TO regress_sqs_writer;
CREATE SERVER sqs_local FOREIGN DATA WRAPPER sqsbridge
  OPTIONS (region 'us-east-1', endpoint 'http://127.0.0.1:1');
CREATE USER MAPPING FOR PUBLIC SERVER sqs_local
  OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'SECRETSECRET');
GRANT USAGE ON FOREIGN SERVER sqs_local TO regress_sqs_app;
SET ROLE regress_sqs_app;
SELECT sqs_register_queue('q', 'sqs_local', enabled => false);
SELECT sqs_enqueue('q', 'x') > 0 AS id;
RESET ROLE;

-- Only superusers can write the tables, whatever has been granted.
GRANT ALL ON SCHEMA sqsbridge_internal TO regress_sqs_writer;
GRANT ALL ON ALL TABLES IN SCHEMA sqsbridge_internal TO regress_sqs_writer;
SET ROLE regress_sqs_writer;
UPDATE sqsbridge_internal.queues SET owner = 'postgres';
DELETE FROM sqsbridge_internal.outbox_rows;
TRUNCATE sqsbridge_internal.outbox_rows, sqsbridge_internal.outbox_batches;
COPY sqsbridge_internal.inbox FROM stdin;
1	x	2020-01-01
\.
MERGE INTO sqsbridge_internal.queues q USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE;
BEGIN;
LOCK TABLE sqsbridge_internal.queues IN SHARE MODE;
ROLLBACK;
RESET ROLE;
REVOKE ALL ON ALL TABLES IN SCHEMA sqsbridge_internal FROM regress_sqs_writer;
REVOKE ALL ON SCHEMA sqsbridge_internal FROM regress_sqs_writer;
BEGIN;
DELETE FROM sqsbridge_internal.outbox_rows;
ROLLBACK;

-- Triggers, rules and policies do not run, and are reported.
CREATE FUNCTION regress_sqs_trigger() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'called as %', current_user; END $$;
CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON sqsbridge_internal.queues
  FOR EACH ROW EXECUTE FUNCTION regress_sqs_trigger();
ALTER TABLE sqsbridge_internal.queues ENABLE ALWAYS TRIGGER t;
CREATE POLICY p ON sqsbridge_internal.outbox_rows USING (false);
ALTER TABLE sqsbridge_internal.outbox_rows ENABLE ROW LEVEL SECURITY;
CREATE RULE r AS ON INSERT TO sqsbridge_internal.outbox_rows DO INSTEAD NOTHING;
SET ROLE regress_sqs_app;
SELECT sqs_alter_queue('q', concurrency => 2);
SELECT sqs_enqueue('q', 'y') > 0 AS id;
SELECT concurrency FROM sqs_queues;
SELECT body FROM sqs_outbox ORDER BY id;
SELECT sqs_get_remark();
RESET ROLE;
SELECT sqs_get_remark();
DROP RULE r ON sqsbridge_internal.outbox_rows;
ALTER TABLE sqsbridge_internal.outbox_rows DISABLE ROW LEVEL SECURITY;
DROP POLICY p ON sqsbridge_internal.outbox_rows;
DROP TRIGGER t ON sqsbridge_internal.queues;
SELECT sqs_get_remark();

-- Indexes and constraints of any kind are enforced.
CREATE INDEX i1 ON sqsbridge_internal.outbox_rows (queue, left(body, 80));
CREATE INDEX i2 ON sqsbridge_internal.outbox_rows (id) WHERE body <> 'z';
CREATE INDEX i3 ON sqsbridge_internal.outbox_rows USING gin (attributes);
ALTER TABLE sqsbridge_internal.outbox_rows ADD CONSTRAINT not_no CHECK (body <> 'no');
SELECT sqs_enqueue('q', 'z', attributes => '{"a": "b"}') > 0 AS id;
\set VERBOSITY terse
SELECT sqs_enqueue('q', 'no');
\set VERBOSITY default
SET enable_seqscan = off;
SELECT count(*) FROM sqsbridge_internal.outbox_rows WHERE queue = 'q' AND left(body, 80) = 'z';
SELECT count(*) FROM sqsbridge_internal.outbox_rows WHERE id > 0 AND body <> 'z';
RESET enable_seqscan;
ALTER TABLE sqsbridge_internal.outbox_rows DROP CONSTRAINT not_no;
DROP INDEX sqsbridge_internal.i1, sqsbridge_internal.i2, sqsbridge_internal.i3;

-- Refused: user-defined functions in expressions, and deferred checks.
CREATE FUNCTION regress_sqs_f(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE INDEX i ON sqsbridge_internal.outbox_rows (regress_sqs_f(body));
SELECT sqs_enqueue('q', 'x') > 0 AS id;
DROP INDEX sqsbridge_internal.i;
CREATE INDEX i ON sqsbridge_internal.outbox_rows (id) WHERE regress_sqs_f(body) <> '';
SELECT sqs_enqueue('q', 'x') > 0 AS id;
DROP INDEX sqsbridge_internal.i;
ALTER TABLE sqsbridge_internal.outbox_rows ADD CONSTRAINT c CHECK (regress_sqs_f(body) <> '');
SELECT sqs_enqueue('q', 'x') > 0 AS id;
ALTER TABLE sqsbridge_internal.outbox_rows DROP CONSTRAINT c;
CREATE DOMAIN regress_sqs_d AS text CHECK (regress_sqs_f(value) <> '');
ALTER TABLE sqsbridge_internal.outbox_rows ADD CONSTRAINT c CHECK (body::regress_sqs_d <> '');
SELECT sqs_enqueue('q', 'x') > 0 AS id;
ALTER TABLE sqsbridge_internal.outbox_rows DROP CONSTRAINT c;
ALTER TABLE sqsbridge_internal.outbox_rows ADD CONSTRAINT c UNIQUE (id, body) DEFERRABLE;
SELECT sqs_enqueue('q', 'x') > 0 AS id;
ALTER TABLE sqsbridge_internal.outbox_rows DROP CONSTRAINT c;

-- Refused: tables that are not as the extension created them.
ALTER TABLE sqsbridge_internal.outbox_rows DISABLE TRIGGER sqsbridge_guard;
SELECT sqs_enqueue('q', 'x') > 0 AS id;
-- as pg_restore --disable-triggers leaves it
ALTER TABLE sqsbridge_internal.outbox_rows ENABLE TRIGGER sqsbridge_guard;
BEGIN;
SELECT sqs_enqueue('q', 'x') > 0 AS id;
ROLLBACK;
ALTER TABLE sqsbridge_internal.outbox_rows ENABLE ALWAYS TRIGGER sqsbridge_guard;
ALTER TABLE sqsbridge_internal.outbox_rows SET UNLOGGED;
SELECT sqs_enqueue('q', 'x') > 0 AS id;
ALTER TABLE sqsbridge_internal.outbox_rows SET LOGGED;
CREATE TABLE regress_sqs_child () INHERITS (sqsbridge_internal.outbox_rows);
SELECT sqs_enqueue('q', 'x') > 0 AS id;
DROP TABLE regress_sqs_child;
CREATE TABLE regress_sqs_parent (body text NOT NULL);
ALTER TABLE sqsbridge_internal.outbox_rows INHERIT regress_sqs_parent;
SELECT sqs_enqueue('q', 'x') > 0 AS id;
ALTER TABLE sqsbridge_internal.outbox_rows NO INHERIT regress_sqs_parent;
DROP TABLE regress_sqs_parent;
ALTER TABLE sqsbridge_internal.outbox_rows OWNER TO regress_sqs_app;
SELECT sqs_enqueue('q', 'x') > 0 AS id;
ALTER TABLE sqsbridge_internal.outbox_rows OWNER TO CURRENT_USER;
-- columns cannot be changed as long as the table belongs to the extension
ALTER TABLE sqsbridge_internal.outbox_rows ADD COLUMN more int;
ALTER TABLE sqsbridge_internal.outbox_rows ALTER COLUMN body SET STORAGE EXTERNAL, DROP COLUMN body;
ALTER TABLE sqsbridge_internal.queues ALTER COLUMN owner TYPE name;
ALTER TYPE sqs_message ALTER ATTRIBUTE receive_count TYPE text;
ALTER TYPE sqs_outgoing ADD ATTRIBUTE more int;
ALTER VIEW sqs_queues RENAME COLUMN owner TO who;
ALTER VIEW sqs_queues RENAME COLUMN who TO owner;
BEGIN;
ALTER EXTENSION sqsbridge DROP TABLE sqsbridge_internal.outbox_rows;
ALTER TABLE sqsbridge_internal.outbox_rows ADD COLUMN more int;
ALTER EXTENSION sqsbridge ADD TABLE sqsbridge_internal.outbox_rows;
SELECT sqs_enqueue('q', 'x') > 0 AS id;
ROLLBACK;
BEGIN;
ALTER TABLE sqsbridge_internal.outbox_rows DROP CONSTRAINT outbox_rows_pkey;
SELECT sqs_enqueue('q', 'x') > 0 AS id;
ROLLBACK;
BEGIN;
ALTER EXTENSION sqsbridge DROP TABLE sqsbridge_internal.queues;
ALTER TABLE sqsbridge_internal.queues ALTER COLUMN owner TYPE name;
ALTER EXTENSION sqsbridge ADD TABLE sqsbridge_internal.queues;
SELECT * FROM sqs_queues;
ROLLBACK;
BEGIN;
ALTER EXTENSION sqsbridge DROP TABLE sqsbridge_internal.queues;
ALTER TABLE sqsbridge_internal.queues ALTER COLUMN created_at TYPE text;
ALTER EXTENSION sqsbridge ADD TABLE sqsbridge_internal.queues;
SELECT * FROM sqs_queues;
ROLLBACK;
SELECT body FROM sqs_outbox ORDER BY id;

-- The default table access method of the session does not matter.
DROP EXTENSION sqsbridge CASCADE;
CREATE ACCESS METHOD regress_sqs_heap TYPE TABLE HANDLER heap_tableam_handler;
SET default_table_access_method = regress_sqs_heap;
CREATE EXTENSION sqsbridge;
RESET default_table_access_method;
SELECT DISTINCT amname FROM pg_class c JOIN pg_am a ON a.oid = c.relam
  WHERE relnamespace = 'sqsbridge_internal'::regnamespace AND relkind = 'r';
DROP EXTENSION sqsbridge;
DROP ACCESS METHOD regress_sqs_heap;

DROP DOMAIN regress_sqs_d;
DROP FUNCTION regress_sqs_f, regress_sqs_trigger;
DROP OWNED BY regress_sqs_app, regress_sqs_writer;
DROP ROLE regress_sqs_app, regress_sqs_writer;
