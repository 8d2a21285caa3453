--
-- Servers and user mappings: every option, and every error
--
CREATE EXTENSION sqsbridge;
CREATE ROLE regress_sqs_app;

-- Options are accepted only for the objects that they belong to.
ALTER FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1');
CREATE SERVER sqs_bad FOREIGN DATA WRAPPER sqsbridge OPTIONS (regoin 'us-east-1');
CREATE SERVER sqs_bad FOREIGN DATA WRAPPER sqsbridge OPTIONS (secret_access_key 'SECRET');
CREATE SERVER sqs_bad FOREIGN DATA WRAPPER sqsbridge OPTIONS ("Region" 'us-east-1');
CREATE SERVER sqs_aws FOREIGN DATA WRAPPER sqsbridge;
CREATE USER MAPPING FOR regress_sqs_app SERVER sqs_aws OPTIONS (region 'us-east-1');
CREATE USER MAPPING FOR regress_sqs_app SERVER sqs_aws OPTIONS (password 'SECRET');
CREATE FOREIGN TABLE sqs_table (a int) SERVER sqs_aws OPTIONS (queue 'q');
CREATE FOREIGN TABLE sqs_table (a int OPTIONS (region 'x')) SERVER sqs_aws;

-- Regions.
ALTER SERVER sqs_aws OPTIONS (ADD region '');
ALTER SERVER sqs_aws OPTIONS (ADD region 'US-EAST-1');
ALTER SERVER sqs_aws OPTIONS (ADD region 'us east 1');
ALTER SERVER sqs_aws OPTIONS (ADD region 'evil.example/');
ALTER SERVER sqs_aws OPTIONS (ADD region 'us-east-1');
ALTER SERVER sqs_aws OPTIONS (SET region 'cn-north-1');
ALTER SERVER sqs_aws OPTIONS (DROP region);

-- Endpoints: plain http only with allow_http, or for a loopback address.
ALTER SERVER sqs_aws OPTIONS (ADD endpoint '');
ALTER SERVER sqs_aws OPTIONS (ADD endpoint 'sqs.us-east-1.amazonaws.com');
ALTER SERVER sqs_aws OPTIONS (ADD endpoint 'ftp://sqs.us-east-1.amazonaws.com');
ALTER SERVER sqs_aws OPTIONS (ADD endpoint 'file:///etc/passwd');
ALTER SERVER sqs_aws OPTIONS (ADD endpoint 'https://');
ALTER SERVER sqs_aws OPTIONS (ADD endpoint 'https://host:0');
ALTER SERVER sqs_aws OPTIONS (ADD endpoint 'https://host:65536');
ALTER SERVER sqs_aws OPTIONS (ADD endpoint 'https://host/path');
ALTER SERVER sqs_aws OPTIONS (ADD endpoint 'https://host?query');
ALTER SERVER sqs_aws OPTIONS (ADD endpoint 'https://user:SECRET@host');
ALTER SERVER sqs_aws OPTIONS (ADD endpoint 'http://sqs.example.com');
ALTER SERVER sqs_aws OPTIONS (ADD endpoint 'http://169.254.169.254');
ALTER SERVER sqs_aws OPTIONS (ADD endpoint 'http://localhost.example.com');
ALTER SERVER sqs_aws OPTIONS (ADD endpoint 'http://localhost:4566');
ALTER SERVER sqs_aws OPTIONS (SET endpoint 'http://127.0.0.1:4566');
ALTER SERVER sqs_aws OPTIONS (SET endpoint 'http://[::1]:4566');
ALTER SERVER sqs_aws OPTIONS (SET endpoint 'https://sqs.eu-central-1.amazonaws.com');
ALTER SERVER sqs_aws OPTIONS (SET endpoint 'http://sqs.example.com', ADD allow_http 'off');
ALTER SERVER sqs_aws OPTIONS (SET endpoint 'http://sqs.example.com', ADD allow_http 'true');
ALTER SERVER sqs_aws OPTIONS (DROP allow_http);
ALTER SERVER sqs_aws OPTIONS (SET allow_http 'false');
ALTER SERVER sqs_aws OPTIONS (SET allow_http 'perhaps');
ALTER SERVER sqs_aws OPTIONS (SET allow_http '');
SELECT srvoptions FROM pg_foreign_server WHERE srvname = 'sqs_aws';

-- Only superusers can allow keys of the database server itself.
ALTER SERVER sqs_aws OPTIONS (ADD credentials '');
ALTER SERVER sqs_aws OPTIONS (ADD credentials 'sso');
ALTER SERVER sqs_aws OPTIONS (ADD credentials 'mapping');
CREATE USER MAPPING FOR regress_sqs_app SERVER sqs_aws OPTIONS (credentials 'environment');
ALTER SERVER sqs_aws OWNER TO regress_sqs_app;
SET ROLE regress_sqs_app;
ALTER SERVER sqs_aws OPTIONS (SET credentials 'environment');
RESET ROLE;
ALTER SERVER sqs_aws OPTIONS (SET credentials 'environment');
SET ROLE regress_sqs_app;
ALTER SERVER sqs_aws OPTIONS (ADD region 'us-east-1');
ALTER SERVER sqs_aws OPTIONS (ADD sts_endpoint 'https://sts.example.com');
ALTER SERVER sqs_aws OPTIONS (SET credentials 'mapping', ADD sts_endpoint 'https://sts.example.com');
ALTER SERVER sqs_aws OPTIONS (SET credentials 'profile', ADD profile 'prod');
ALTER SERVER sqs_aws OPTIONS (SET endpoint 'https://sqs.example.com', DROP credentials);
ALTER SERVER sqs_aws OPTIONS (ADD role_arn 'arn:aws:iam::123456789012:role/app', ADD external_id 'x:1',
  ADD role_session_name 'pg', ADD duration_seconds '900', ADD use_fips_endpoint 'on', ADD use_dualstack_endpoint 'off');
RESET ROLE;
SELECT srvoptions FROM pg_foreign_server WHERE srvname = 'sqs_aws';
ALTER SERVER sqs_aws OPTIONS (DROP role_arn);
ALTER SERVER sqs_aws OPTIONS (DROP role_arn, DROP external_id, DROP role_session_name, DROP duration_seconds);

-- Where the keys of the database server come from.
ALTER SERVER sqs_aws OPTIONS (SET allow_http 'false');
ALTER SERVER sqs_aws OPTIONS (ADD profile 'prod');
ALTER SERVER sqs_aws OPTIONS (ADD credentials 'environment', ADD profile 'prod');
ALTER SERVER sqs_aws OPTIONS (ADD credentials 'profile', ADD profile 'a b');
ALTER SERVER sqs_aws OPTIONS (ADD credentials 'profile', ADD profile 'prod');
ALTER SERVER sqs_aws OPTIONS (ADD web_identity_token_file '/token', ADD role_arn 'arn:aws:iam::123456789012:role/app');
ALTER SERVER sqs_aws OPTIONS (SET credentials 'web_identity', DROP profile, ADD web_identity_token_file '/token');
ALTER SERVER sqs_aws OPTIONS (SET credentials 'web_identity', DROP profile,
  ADD web_identity_token_file 'token', ADD role_arn 'arn:aws:iam::123456789012:role/app');
ALTER SERVER sqs_aws OPTIONS (SET credentials 'web_identity', DROP profile,
  ADD web_identity_token_file '/token', ADD role_arn 'arn:aws:iam::123456789012:role/app');
ALTER SERVER sqs_aws OPTIONS (SET role_arn 'app');
ALTER SERVER sqs_aws OPTIONS (SET role_arn 'arn:aws:iam::123456789012:user/app');
ALTER SERVER sqs_aws OPTIONS (ADD external_id 'a b');
ALTER SERVER sqs_aws OPTIONS (ADD role_session_name 'a/b');
ALTER SERVER sqs_aws OPTIONS (ADD duration_seconds '60');
ALTER SERVER sqs_aws OPTIONS (ADD duration_seconds '1e3');
ALTER SERVER sqs_aws OPTIONS (ADD duration_seconds '99999');
ALTER SERVER sqs_aws OPTIONS (ADD sts_endpoint 'http://sts.example.com');
ALTER SERVER sqs_aws OPTIONS (ADD sts_endpoint 'https://sts.example.com/x');
ALTER SERVER sqs_aws OPTIONS (SET use_fips_endpoint 'perhaps');
ALTER SERVER sqs_aws OPTIONS (SET credentials 'container', DROP web_identity_token_file);
ALTER SERVER sqs_aws OPTIONS (SET credentials 'instance_metadata');
ALTER SERVER sqs_aws OPTIONS (SET credentials 'auto', DROP role_arn);
SELECT srvoptions FROM pg_foreign_server WHERE srvname = 'sqs_aws';

-- Keys: both or none.  No message contains a value.
CREATE USER MAPPING FOR regress_sqs_app SERVER sqs_aws OPTIONS (access_key_id 'AKIDEXAMPLE');
CREATE USER MAPPING FOR regress_sqs_app SERVER sqs_aws OPTIONS (secret_access_key 'SECRET');
CREATE USER MAPPING FOR regress_sqs_app SERVER sqs_aws OPTIONS (session_token 'SECRET');
CREATE USER MAPPING FOR regress_sqs_app SERVER sqs_aws
  OPTIONS (access_key_id '', secret_access_key 'SECRET');
CREATE USER MAPPING FOR regress_sqs_app SERVER sqs_aws
  OPTIONS (access_key_id 'AKID EXAMPLE', secret_access_key 'SECRET');
CREATE USER MAPPING FOR regress_sqs_app SERVER sqs_aws
  OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key E'SECRET\n');
CREATE USER MAPPING FOR regress_sqs_app SERVER sqs_aws
  OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key E'SECRET\x7f');
DO $$ BEGIN
  EXECUTE format('CREATE USER MAPPING FOR regress_sqs_app SERVER sqs_aws OPTIONS (access_key_id %L, secret_access_key %L)',
                 'AKIDEXAMPLE', repeat('SECRET', 1000));
EXCEPTION WHEN invalid_parameter_value THEN RAISE NOTICE '%', sqlerrm;
END $$;
CREATE USER MAPPING FOR regress_sqs_app SERVER sqs_aws;
ALTER USER MAPPING FOR regress_sqs_app SERVER sqs_aws OPTIONS (ADD access_key_id 'AKIDEXAMPLE');
ALTER USER MAPPING FOR regress_sqs_app SERVER sqs_aws
  OPTIONS (ADD access_key_id 'AKIDEXAMPLE', ADD secret_access_key 'a/b+c=', ADD session_token 'token==');
ALTER USER MAPPING FOR regress_sqs_app SERVER sqs_aws OPTIONS (DROP secret_access_key);
ALTER USER MAPPING FOR regress_sqs_app SERVER sqs_aws OPTIONS (DROP session_token);
SELECT umoptions FROM pg_user_mappings WHERE srvname = 'sqs_aws';

-- A role to assume: with keys of the same mapping, whoever makes it.
GRANT USAGE ON FOREIGN SERVER sqs_aws TO regress_sqs_app;
ALTER USER MAPPING FOR regress_sqs_app SERVER sqs_aws OPTIONS (ADD external_id 'x1');
ALTER USER MAPPING FOR regress_sqs_app SERVER sqs_aws OPTIONS (ADD role_arn 'SECRET');
SET ROLE regress_sqs_app;
ALTER USER MAPPING FOR regress_sqs_app SERVER sqs_aws
  OPTIONS (ADD role_arn 'arn:aws:iam::123456789012:role/app', ADD external_id 'x1');
ALTER USER MAPPING FOR regress_sqs_app SERVER sqs_aws OPTIONS (DROP access_key_id, DROP secret_access_key);
RESET ROLE;
ALTER USER MAPPING FOR regress_sqs_app SERVER sqs_aws OPTIONS (DROP access_key_id, DROP secret_access_key);
SELECT umoptions FROM pg_user_mappings WHERE srvname = 'sqs_aws';
CREATE USER MAPPING FOR PUBLIC SERVER sqs_aws
  OPTIONS (access_key_id 'AKIDPUBLIC', secret_access_key 'public');

DROP EXTENSION sqsbridge CASCADE;
DROP ROLE regress_sqs_app;
