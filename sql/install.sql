--
-- What CREATE EXTENSION creates, and how
--
CREATE EXTENSION sqsbridge;
SELECT extversion, extrelocatable FROM pg_extension WHERE extname = 'sqsbridge';

-- Every object.  Row and array types are members of their own in newer
-- versions of PostgreSQL.
CREATE VIEW members AS
  SELECT d.classid, d.objid, i.type, i.identity
  FROM pg_extension e
    JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass
                    AND d.refobjid = e.oid AND d.deptype = 'e',
    pg_identify_object(d.classid, d.objid, 0) i
  WHERE e.extname = 'sqsbridge'
    AND NOT EXISTS (SELECT FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
                    WHERE d.classid = 'pg_type'::regclass AND t.oid = d.objid
                      AND (t.typelem <> 0 OR c.relkind <> 'c'));
SELECT type, identity FROM members ORDER BY type, identity COLLATE "C";

-- Every object has a comment, including columns and indexes.
SELECT type, identity FROM members
  WHERE obj_description(objid, (SELECT relname FROM pg_class WHERE oid = classid)) IS NULL
  ORDER BY type, identity COLLATE "C";
SELECT c.relname, a.attname
  FROM members m
    JOIN pg_class c ON c.oid = m.objid
                    OR c.oid = (SELECT typrelid FROM pg_type t WHERE t.oid = m.objid
                                AND m.classid = 'pg_type'::regclass)
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
  WHERE c.relkind <> 'S' AND col_description(c.oid, a.attnum) IS NULL
  ORDER BY 1, 2;
SELECT i.indexrelid::regclass
  FROM members m JOIN pg_index i ON i.indrelid = m.objid
  WHERE m.classid = 'pg_class'::regclass
    AND obj_description(i.indexrelid, 'pg_class') IS NULL;
SELECT polname FROM members m JOIN pg_policy p ON p.polrelid = m.objid
  WHERE obj_description(p.oid, 'pg_policy') IS NULL;

-- Functions that look names up in a search path must have one of their own
-- (a body that was parsed at its creation looks up nothing); none runs with
-- its owner's rights.
SELECT identity FROM members m JOIN pg_proc p ON p.oid = m.objid
  WHERE m.classid = 'pg_proc'::regclass
    AND (prosecdef OR
         prolang <> (SELECT oid FROM pg_language WHERE lanname = 'c') AND
         prosqlbody IS NULL AND
         NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false));

-- Privileges of PUBLIC.  Only PUBLIC and the owner have any.
CREATE VIEW privileges AS
  SELECT m.type, m.identity, a.grantee, a.privilege_type, o.owner
  FROM members m
    LEFT JOIN LATERAL (
      SELECT relacl AS acl, relowner AS owner FROM pg_class WHERE m.classid = 'pg_class'::regclass AND oid = m.objid
      UNION ALL
      SELECT proacl, proowner FROM pg_proc WHERE m.classid = 'pg_proc'::regclass AND oid = m.objid
      UNION ALL
      SELECT typacl, typowner FROM pg_type WHERE m.classid = 'pg_type'::regclass AND oid = m.objid
      UNION ALL
      SELECT fdwacl, fdwowner FROM pg_foreign_data_wrapper WHERE m.classid = 'pg_foreign_data_wrapper'::regclass AND oid = m.objid
    ) o ON true
    LEFT JOIN LATERAL aclexplode(o.acl) a ON true;
SELECT type, identity, string_agg(privilege_type, ',' ORDER BY privilege_type) AS public
  FROM privileges WHERE grantee = 0 GROUP BY type, identity ORDER BY type, identity COLLATE "C";
SELECT type, identity, grantee, privilege_type FROM privileges
  WHERE grantee IS NULL OR grantee NOT IN (0, owner);

-- The library fills in as many columns as its version of the function has.
CREATE FUNCTION sqs_two_columns(OUT a integer, OUT b text) RETURNS SETOF record
  AS '$libdir/sqsbridge', 'sqs_get_queue_stats' LANGUAGE C;
DO $$
BEGIN
  PERFORM * FROM sqs_two_columns();
  RAISE NOTICE 'no error';
EXCEPTION WHEN object_not_in_prerequisite_state THEN
  RAISE NOTICE '%', regexp_replace(sqlerrm, 'of \d+$', 'of so many');
END $$;
DROP FUNCTION sqs_two_columns;

-- What pg_dump dumps: the queues, their ids, and what has been handled.
SELECT c.oid::regclass, t.condition
  FROM pg_extension e, unnest(e.extconfig, e.extcondition) t(oid, condition)
    JOIN pg_class c ON c.oid = t.oid
  WHERE e.extname = 'sqsbridge' ORDER BY c.relname;

-- Old rows can be deleted even where all tables are published.
SELECT c.relname, c.relreplident,
       EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary) AS has_key
  FROM members m JOIN pg_class c ON c.oid = m.objid
  WHERE m.classid = 'pg_class'::regclass AND c.relkind = 'r' ORDER BY 1;

-- The columns that programs rely on.
SELECT relname, string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
  FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0
  WHERE relname IN ('sqs_message', 'sqs_failures', 'sqs_queues')
  GROUP BY 1 ORDER BY 1;

-- The extension cannot be moved to another schema.
CREATE SCHEMA sqs_elsewhere;
ALTER EXTENSION sqsbridge SET SCHEMA sqs_elsewhere;
DROP VIEW privileges, members;
DROP EXTENSION sqsbridge;

-- It can be created in any schema.
CREATE SCHEMA "Odd Schema";
CREATE EXTENSION sqsbridge SCHEMA "Odd Schema";
SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'sqsbridge';
CREATE SERVER sqs_odd FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'eu-west-1');
CREATE USER MAPPING FOR PUBLIC SERVER sqs_odd OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'SECRET');
CREATE FUNCTION sqs_odd_handler(m "Odd Schema".sqs_message) RETURNS void LANGUAGE sql AS '';
SELECT "Odd Schema".sqs_register_queue('odd', 'sqs_odd', enabled => false);
SELECT "Odd Schema".sqs_alter_queue('odd', concurrency => 2);
SELECT "Odd Schema".sqs_alter_queue('odd', handler => 'nowhere');
SELECT name, concurrency FROM "Odd Schema".sqs_queues;
SELECT queue, state FROM "Odd Schema".sqs_stats;
SELECT "Odd Schema".sqs_unregister_queue('odd');

-- Users' objects are dropped only by CASCADE.
DROP EXTENSION sqsbridge;
DROP FUNCTION sqs_odd_handler;
DROP EXTENSION sqsbridge;
DROP USER MAPPING FOR PUBLIC SERVER sqs_odd;
DROP SERVER sqs_odd;
DROP EXTENSION sqsbridge;
DROP SCHEMA "Odd Schema", sqs_elsewhere;

-- Existing objects are not taken over.
CREATE VIEW sqs_failures AS SELECT;
\set VERBOSITY terse
CREATE EXTENSION sqsbridge;
DROP VIEW sqs_failures;
CREATE SCHEMA sqsbridge_internal;
CREATE EXTENSION sqsbridge;
\set VERBOSITY default
DROP SCHEMA sqsbridge_internal;

-- Default privileges do not give access to the tables.
CREATE ROLE regress_sqs_default;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_sqs_default;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_sqs_default;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO regress_sqs_default;
CREATE EXTENSION sqsbridge;
CREATE TABLE sqs_control ();
SELECT DISTINCT relname FROM pg_class, aclexplode(relacl)
  WHERE grantee = 'regress_sqs_default'::regrole;
SELECT nspname FROM pg_namespace, aclexplode(nspacl)
  WHERE grantee = 'regress_sqs_default'::regrole;
DROP TABLE sqs_control;
DROP EXTENSION sqsbridge;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM regress_sqs_default;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM regress_sqs_default;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SCHEMAS FROM regress_sqs_default;
DROP ROLE regress_sqs_default;
