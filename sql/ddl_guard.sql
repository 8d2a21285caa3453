-- Statements that request a strong lock before they check privileges are refused
-- before that, on relations of the extension and no others.
SET client_min_messages = warning;
CREATE EXTENSION sqsbridge;
CREATE ROLE regress_sqs_stranger;
CREATE SCHEMA regress_sqs_stranger AUTHORIZATION regress_sqs_stranger;
CREATE TABLE regress_sqs_others (id integer PRIMARY KEY);
GRANT USAGE ON SCHEMA public TO regress_sqs_stranger;
GRANT CREATE ON DATABASE :"DBNAME" TO regress_sqs_stranger;
SET client_min_messages = notice;

-- Return the error of a statement; its effects are rolled back.
CREATE FUNCTION regress_sqs_try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RAISE 'none' USING ERRCODE = 'P9999';
EXCEPTION
	WHEN SQLSTATE 'P9999' THEN
		RETURN 'no error';
	WHEN OTHERS THEN
		RETURN SQLSTATE || ' ' || SQLERRM;
END $$;

SET ROLE regress_sqs_stranger;
SET search_path = regress_sqs_stranger, public;
CREATE TABLE mine (id integer PRIMARY KEY, parent integer);
CREATE TABLE parted (queue text) PARTITION BY LIST (queue);
CREATE VIEW my_view AS SELECT queue FROM sqs_outbox;
CREATE VIEW my_second_view AS SELECT (SELECT max(queue) FROM my_view);

SELECT statement, regress_sqs_try(statement) FROM unnest(ARRAY[
	'CREATE TRIGGER t INSTEAD OF INSERT ON sqs_outbox FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
	'CREATE CONSTRAINT TRIGGER t AFTER INSERT ON mine FROM sqs_outbox FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
	'CREATE RULE r AS ON UPDATE TO sqs_outbox DO INSTEAD NOTHING',
	'CREATE RULE r AS ON UPDATE TO public.sqs_stats DO INSTEAD NOTHING',
	'CREATE TABLE t (id integer REFERENCES sqs_outbox)',
	'CREATE TABLE t (id integer, q text, FOREIGN KEY (q) REFERENCES public.sqs_outbox (queue))',
	'CREATE TEMPORARY TABLE t (id integer REFERENCES sqs_outbox)',
	'ALTER TABLE mine ADD FOREIGN KEY (parent) REFERENCES sqs_outbox (id)',
	'ALTER TABLE mine ADD x integer, ADD COLUMN y bigint REFERENCES sqs_outbox (id)',
	'CREATE TABLE t PARTITION OF sqs_outbox DEFAULT',
	'CREATE TABLE t () INHERITS (sqs_outbox)',
	'CREATE FOREIGN TABLE t PARTITION OF sqs_outbox DEFAULT SERVER nowhere',
	'ALTER TABLE parted ATTACH PARTITION sqs_outbox DEFAULT',
	'ALTER TABLE parted DETACH PARTITION sqs_outbox',
	'LOCK TABLE sqs_outbox IN SHARE MODE',
	'LOCK TABLE mine, sqs_outbox',
	'LOCK TABLE my_view IN SHARE MODE',
	'LOCK TABLE my_second_view',
	'DO $x$ BEGIN LOCK TABLE sqs_outbox; END $x$',
	'CREATE SCHEMA regress_sqs_second CREATE TABLE t (id bigint REFERENCES sqs_outbox (id))',
	'DROP VIEW sqs_outbox',
	'DROP VIEW IF EXISTS mine, public.sqs_stats CASCADE',
	'DROP INDEX sqsbridge_internal.outbox_rows_pkey',
	format('LOCK TABLE %I.public.sqs_outbox', current_database()),
	format('CREATE TRIGGER t INSTEAD OF INSERT ON %I.public.sqs_outbox FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()', current_database()),
	-- it hides ours only until it is dropped
	'CREATE TEMPORARY TABLE sqs_outbox (id integer PRIMARY KEY); LOCK TABLE sqs_outbox'
	]) statement;

-- other relations, weaker locks, and names that do not exist are not affected
SELECT statement, regress_sqs_try(statement) FROM unnest(ARRAY[
	'LOCK TABLE sqs_outbox IN ACCESS SHARE MODE',
	'LOCK TABLE my_view IN ACCESS SHARE MODE',
	'LOCK TABLE mine, parted',
	'LOCK TABLE regress_sqs_others',
	'LOCK TABLE pg_class',
	'LOCK TABLE nowhere',
	'LOCK TABLE nowhere.nothing',
	'CREATE TABLE t (id integer REFERENCES mine)',
	'CREATE TABLE t (id integer REFERENCES regress_sqs_others)',
	'CREATE TABLE t (id integer REFERENCES nothing)',
	'CREATE TABLE t (id integer REFERENCES nowhere.nothing)',
	'CREATE TABLE t (id integer PRIMARY KEY, parent integer REFERENCES t)',
	'CREATE TABLE t PARTITION OF parted DEFAULT',
	'CREATE TEMPORARY TABLE t (id integer PRIMARY KEY) ON COMMIT DROP',
	'CREATE TEMPORARY TABLE sqs_outbox (id integer PRIMARY KEY); CREATE TEMPORARY TABLE t (id integer REFERENCES pg_temp.sqs_outbox); LOCK TABLE pg_temp.sqs_outbox',
	'CREATE TRIGGER t BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
	'ALTER TABLE mine ADD FOREIGN KEY (parent) REFERENCES mine'
	]) statement;

-- in an aborted transaction, the usual error is raised
BEGIN;
SELECT 1 / 0;
LOCK TABLE sqs_outbox;
ROLLBACK;

RESET ROLE;
RESET search_path;

-- superusers may run them
SELECT regress_sqs_try('LOCK TABLE sqs_outbox');
SELECT regress_sqs_try('TRUNCATE sqsbridge_internal.failures');
-- but not use pg_repack, whose trigger does not fire for rows of the extension
SELECT regress_sqs_try('CREATE TRIGGER repack_trigger AFTER INSERT OR DELETE OR UPDATE ON sqsbridge_internal.outbox_rows
  FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()');
SELECT regress_sqs_try('CREATE TRIGGER repack_trigger AFTER INSERT OR DELETE OR UPDATE ON regress_sqs_others
  FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()');

-- TRUNCATE is refused before it waits for its lock, even if it was granted
GRANT USAGE ON SCHEMA sqsbridge_internal TO regress_sqs_stranger;
GRANT ALL ON ALL TABLES IN SCHEMA sqsbridge_internal TO regress_sqs_stranger;
SET ROLE regress_sqs_stranger;
SELECT regress_sqs_try('TRUNCATE sqsbridge_internal.failures');
SELECT regress_sqs_try('TRUNCATE public.sqs_failures');
SELECT regress_sqs_try('TRUNCATE regress_sqs_stranger.mine');
RESET ROLE;

-- without the extension, nothing is refused
SET client_min_messages = warning;
DROP EXTENSION sqsbridge CASCADE;
SET ROLE regress_sqs_stranger;
SET search_path = regress_sqs_stranger;
SELECT public.regress_sqs_try('LOCK TABLE public.regress_sqs_others');
RESET ROLE;
RESET search_path;
DROP SCHEMA regress_sqs_stranger CASCADE;
DROP TABLE regress_sqs_others;
DROP FUNCTION regress_sqs_try(text);
REVOKE USAGE ON SCHEMA public FROM regress_sqs_stranger;
REVOKE CREATE ON DATABASE :"DBNAME" FROM regress_sqs_stranger;
DROP ROLE regress_sqs_stranger;
