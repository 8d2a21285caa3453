# The handler runs as the queue's owner and nobody else; who may see and do
# what.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $secret = 'hush-very-secret-4711';
my $token = 'hush-session-token-4712';
my $sqs = start_sqs(
	args => [
		'--access-key', 'AKIDOWNER', '--secret-key', $secret, '--session-token', $token,
		map { ('--queue', $_) } ('app', 'clean,VisibilityTimeout=60', 'super', 'other', 'bad')
	]);
my $node = new_node('main', conf => "log_min_messages = debug5\nlog_error_verbosity = verbose\n");
my $endpoint = $sqs->endpoint;

# The keys are set without being logged, as a careful user would.
$node->safe_psql('postgres', <<EOQ);
CREATE EXTENSION sqsbridge;
CREATE SERVER aws FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '$endpoint');
CREATE ROLE app LOGIN;
CREATE ROLE other LOGIN;
CREATE ROLE boss LOGIN SUPERUSER;
CREATE ROLE reader LOGIN IN ROLE pg_read_all_stats;
GRANT CREATE ON SCHEMA public TO app, other;
GRANT USAGE ON FOREIGN SERVER aws TO app;
ALTER ROLE app SET work_mem = '7MB';
ALTER ROLE app SET search_path = app_schema, public;
CREATE SCHEMA app_schema AUTHORIZATION app;
EOQ
{
	local $ENV{PGOPTIONS} = '-c log_min_messages=panic -c log_min_error_statement=panic';
	foreach my $role (qw(app boss))
	{
		$node->safe_psql('postgres', <<EOQ);
CREATE USER MAPPING FOR $role SERVER aws
  OPTIONS (access_key_id 'AKIDOWNER', secret_access_key '$secret', session_token '$token');
EOQ
	}
}

# Who tries what, and what PostgreSQL says.
sub refused
{
	my ($role, $query, $pattern, $name) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $query, extra_params => [ '-U', $role ]);
	$err =~ s/^psql:.*?(ERROR:)/$1/;
	isnt($rc, 0, "$name is refused") or diag($out);
	like($err, $pattern, 'because of that');
	return;
}

sub as
{
	my ($role, $query) = @_;
	return $node->safe_psql('postgres', $query, extra_params => [ '-U', $role ]);
}

# ---- who the handler is

as('app', <<'EOQ');
CREATE TABLE got (body text, what text);
CREATE TABLE rls (owner name DEFAULT current_user, n int);
INSERT INTO rls VALUES ('app', 1), ('other', 2);
ALTER TABLE rls ENABLE ROW LEVEL SECURITY;
ALTER TABLE rls FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON rls USING (owner = current_user);
CREATE FUNCTION who(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  r text;
BEGIN
  r := concat_ws(' ', session_user, current_user, current_setting('is_superuser'));
  INSERT INTO got VALUES ('who', r);
  INSERT INTO got VALUES ('work_mem', current_setting('work_mem'));
  INSERT INTO got VALUES ('search_path', current_setting('search_path'));
  INSERT INTO got SELECT 'rls', string_agg(n::text, ',') FROM rls;
  RESET ROLE;
  INSERT INTO got VALUES ('reset role', current_user);
  RESET SESSION AUTHORIZATION;
  INSERT INTO got VALUES ('reset session', session_user || ' ' || current_user);
  BEGIN
    SET ROLE postgres;
    INSERT INTO got VALUES ('set role', 'allowed');
  EXCEPTION WHEN OTHERS THEN
    INSERT INTO got VALUES ('set role', SQLSTATE);
  END;
  BEGIN
    SET SESSION AUTHORIZATION postgres;
    INSERT INTO got VALUES ('set session', 'allowed');
  EXCEPTION WHEN OTHERS THEN
    INSERT INTO got VALUES ('set session', SQLSTATE);
  END;
  BEGIN
    PERFORM 1 FROM pg_authid;
    INSERT INTO got VALUES ('pg_authid', 'allowed');
  EXCEPTION WHEN OTHERS THEN
    INSERT INTO got VALUES ('pg_authid', SQLSTATE);
  END;
  INSERT INTO got SELECT 'activity', usename FROM pg_stat_activity WHERE pid = pg_backend_pid();
  INSERT INTO got VALUES ('done', '');
END $$;
SELECT sqs_register_queue('app', server => 'aws', handler => 'app_schema.who', wait_time => '1 s');
EOQ
$sqs->fill('app', 1);
query_is($node, q{SELECT count(*) FROM app_schema.got WHERE body = 'done'}, '1', 'a handler of a plain role runs');
is( $node->safe_psql('postgres', q{SELECT body, what FROM app_schema.got WHERE body <> 'done' ORDER BY ctid}), <<'EOR' =~ s/\n$//r,
who|app app off
work_mem|7MB
search_path|app_schema, public
rls|1
reset role|app
reset session|app app
set role|42501
set session|42501
pg_authid|42501
activity|app
EOR
	'as the owner: role settings, row security, and no way up');

# ---- one message does not infect the next

as('app', <<'EOQ');
CREATE TABLE seen (n serial, body text, what text);
CREATE FUNCTION infect(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  state text;
BEGIN
  state := concat_ws(' ', current_setting('work_mem'), current_setting('search_path'),
    coalesce(nullif(current_setting('my.setting', true), ''), 'none'),
    current_setting('statement_timeout'), current_setting('TimeZone') = (SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
    to_regclass('pg_temp.leftover') IS NULL,
    (SELECT count(*) FROM pg_prepared_statements),
    (SELECT count(*) FROM pg_cursors WHERE is_holdable),
    (SELECT count(*) FROM app_seq_usable()));
  INSERT INTO seen (body, what) VALUES (m.body || ' ' || pg_backend_pid(), state);
  IF m.body LIKE 'infect%' THEN
    SET work_mem = '99MB';
    SET search_path = public, app_schema;
    SET my.setting = 'mine';
    SET statement_timeout = '1h';
    SET TimeZone = 'Asia/Tokyo';
    PERFORM pg_advisory_lock(42);
    CREATE TEMP TABLE leftover (x int);
    EXECUTE 'PREPARE statement AS SELECT 1';
    EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT 1';
    PERFORM nextval('app_seq');
  END IF;
  IF m.body LIKE '%fail' THEN RAISE 'failed after infecting'; END IF;
END $$;
CREATE SEQUENCE app_seq;
CREATE FUNCTION app_seq_usable() RETURNS SETOF int LANGUAGE plpgsql AS $$
BEGIN
  PERFORM lastval();
  RETURN NEXT 1;
EXCEPTION WHEN object_not_in_prerequisite_state THEN
  RETURN;
END $$;
SELECT sqs_register_queue('clean', server => 'aws', handler => 'app_schema.infect', wait_time => '1 s');
EOQ
$sqs->fill('clean', 1, body => 'look 1');
query_is($node, 'SELECT count(*) FROM app_schema.seen', '1', 'a first look');
$sqs->fill('clean', 1, body => 'infect');
query_is($node, 'SELECT count(*) FROM app_schema.seen', '2', 'a message leaves all sorts of things behind');
$sqs->fill('clean', 1, body => 'look 2');
query_is($node, 'SELECT count(*) FROM app_schema.seen', '3', 'the next one looks');
$sqs->fill('clean', 1, body => 'infect and fail');
query_is($node, q{SELECT message FROM sqs_failures WHERE queue = 'clean'}, 'failed after infecting', 'one that fails');
$sqs->fill('clean', 1, body => 'look 3');
query_is($node, q{SELECT what FROM app_schema.seen WHERE body LIKE 'look%' ORDER BY n},
	join("\n", ('7MB app_schema, public none 0 t 0 t 0 0 0') x 3), 'and sees nothing of it');
is($node->safe_psql('postgres', q{SELECT count(DISTINCT split_part(body, ' ', -1)) FROM app_schema.seen}), '1',
	'all in one process');
query_is($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}, '0', 'no lock is left');

# ---- a superuser as owner

my (undef, undef, $notice) = $node->psql('postgres', <<'EOQ', extra_params => [ '-U', 'boss' ]);
CREATE TABLE boss_got (body text, who text);
CREATE FUNCTION boss_handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO public.boss_got VALUES (m.body, session_user || ' ' || current_user);
  IF m.body = '1' THEN
    GRANT INSERT ON public.boss_got TO app;
    SET ROLE app;
  END IF;
END $$;
SELECT sqs_register_queue('super', server => 'aws', handler => 'boss_handle', wait_time => '1 s');
EOQ
like($notice, qr/NOTICE:.*rights of a superuser/, 'a superuser as owner: allowed, with a notice');
$sqs->fill('super', 1, start => 1);
query_is($node, q{SELECT count(*) FROM boss_got}, '1', 'its handler runs');
$sqs->fill('super', 1, start => 2);
query_is($node, q{SELECT body, who FROM boss_got ORDER BY 1}, "1|boss boss\n2|boss boss",
	'a role that it sets is not the next message\'s');

# ---- who may see and do what

as('app', q{CREATE FUNCTION fails(m sqs_message) RETURNS void LANGUAGE plpgsql AS
	$$ BEGIN RAISE 'private: %', m.body; END $$;
	SELECT sqs_register_queue('bad', server => 'aws', handler => 'fails', wait_time => '1 s')});
$sqs->fill('bad', 1);
query_is($node, q{SELECT count(*) > 0 FROM sqs_failures WHERE queue = 'bad'}, 't', 'a failure');
as('app', q{CREATE FUNCTION naps(m sqs_message) RETURNS void LANGUAGE plpgsql AS
	$$ BEGIN PERFORM pg_sleep(600); END $$;
	SELECT sqs_alter_queue('app', handler => 'naps')});
$sqs->fill('app', 1);
query_is($node, q{SELECT count(*) FROM sqs_stats_in_flight WHERE queue = 'app'}, '1', 'a running handler');

as('app', q{SELECT sqs_disable_queue('bad')});
is(as('app', q{SELECT count(*) > 0 FROM sqs_failures WHERE queue = 'bad'}), 't', 'the owner sees failures');
is(as('app', q{SELECT count(*) FROM sqs_stats_in_flight WHERE queue = 'app'}), '1', 'and what is in flight');
is(as('reader', q{SELECT count(*) > 0 FROM sqs_failures WHERE queue = 'bad'}), 't', 'so does pg_read_all_stats');
is(as('reader', q{SELECT count(*) FROM sqs_stats_in_flight WHERE queue = 'app'}), '1', 'both');
is(as('other', q{SELECT count(*) FROM sqs_failures}), '0', 'another role sees no failures');
is(as('other', q{SELECT count(*) FROM sqs_stats_in_flight}), '0', 'and nothing in flight');
is(as('other', q{SELECT count(*) FROM sqs_stats}), '4', 'that there are queues it does see');
is(as('other', q{SELECT count(umoptions) FROM pg_user_mappings}), '0', 'no secrets in pg_user_mappings');
refused('other', 'SELECT * FROM pg_user_mapping', qr/permission denied/, 'pg_user_mapping');

# CREATE TRIGGER waits for its lock before it looks at privileges
as('app', q{SELECT sqs_disable_queue('app')});
query_is($node, q{SELECT count(*) FROM sqs_stats_in_flight}, '0', 'the running handler is canceled, and open polls end');

refused('other', q{SELECT sqs_register_queue('other', server => 'aws')}, qr/permission denied for foreign server aws/,
	'registering without USAGE on the server');
refused('other', q{SELECT sqs_alter_queue('app', concurrency => 2)}, qr/must be owner of queue/, 'altering');
refused('other', q{SELECT sqs_disable_queue('app')}, qr/must be owner of queue/, 'disabling');
refused('other', q{SELECT sqs_enable_queue('app')}, qr/must be owner of queue/, 'enabling');
refused('other', q{SELECT sqs_unregister_queue('app')}, qr/must be owner of queue/, 'unregistering');
refused('other', q{SELECT sqs_stats_reset()}, qr/permission denied/, 'resetting statistics');
foreach my $role (qw(other app))
{
	foreach my $table (map { "sqsbridge_internal.$_" } qw(queues routes inbox failures dead_letters outbox_rows outbox_batches outbox_failures))
	{
		refused($role, "DELETE FROM $table", qr/permission denied/, "$role: DELETE FROM $table");
		refused($role, "TRUNCATE $table", qr/permission denied/, "$role: TRUNCATE $table");
		refused($role, "CREATE TRIGGER t BEFORE INSERT ON $table FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
			qr/permission denied/, "$role: a trigger on $table");
	}
	foreach my $view (qw(sqs_queues sqs_routes sqs_failures sqs_dead_letters sqs_outbox_failures))
	{
		refused($role, "DELETE FROM $view", qr/cannot delete from view/, "$role: DELETE FROM $view");
		refused($role, "CREATE TRIGGER t INSTEAD OF INSERT ON $view FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
			qr/permission denied/, "$role: a trigger on $view");
	}
	refused($role, q{INSERT INTO sqsbridge_internal.inbox SELECT queue_id, 'x', now() FROM sqs_queues}, qr/permission denied/,
		"$role: INSERT INTO sqsbridge_internal.inbox");
	refused($role, q{UPDATE sqs_queues SET owner = 'boss'}, qr/cannot update view/, "$role: UPDATE sqs_queues");
	refused($role, q{INSERT INTO sqs_failures (failed_at, queue, queue_owner, message_id) VALUES (now(), 'app', 'app', 'x')},
		qr/cannot insert into view/, "$role: INSERT INTO sqs_failures");
	refused($role, 'SELECT * FROM sqsbridge_internal.inbox', qr/permission denied/, "$role: reading sqsbridge_internal.inbox");
}

# last_error may quote what is only the owner's
as('app', q{SELECT sqs_register_queue('missing', server => 'aws', handler => 'who', wait_time => '1 s')});
query_is($node, q{SELECT last_error IS NOT NULL FROM sqs_stats WHERE queue = 'missing'}, 't', 'a queue that is not there');
is(as('app', q{SELECT last_error ~ 'NonExistentQueue|QueueDoesNotExist' FROM sqs_stats WHERE queue = 'missing'}), 't',
	'its owner sees the error');
is(as('other', q{SELECT count(last_error) FROM sqs_stats}), '0', 'another role does not');

# a handler that is not the owner's to run
$node->safe_psql('postgres', q{CREATE FUNCTION public.guarded(m sqs_message) RETURNS void LANGUAGE sql AS 'SELECT';
	REVOKE ALL ON FUNCTION public.guarded FROM PUBLIC});
refused('app', q{SELECT sqs_register_queue('other', server => 'aws', handler => 'public.guarded')}, qr/permission denied|may execute|invalid value/,
	'a handler without EXECUTE');
refused('app', q{SELECT sqs_alter_queue('bad', handler => 'pg_catalog.pg_sleep')}, qr/does not exist|invalid value/,
	'a handler with another signature');

# ---- secrets

my $views = '';
foreach my $view (qw(sqs_queues sqs_stats sqs_stats_workers sqs_stats_in_flight sqs_failures sqsbridge_internal.inbox pg_stat_activity pg_settings))
{
	$views .= $node->safe_psql('postgres', "SELECT * FROM $view");
}
unlike($views, qr/hush-/, 'no secret in any view');
$node->safe_psql('postgres', q{SELECT sqs_disable_queue(name) FROM sqs_queues});
query_is($node, q{SELECT count(*) FROM sqs_stats_workers WHERE queue IS NOT NULL}, '0', 'all queues stop');
$node->stop;
unlike(slurp_file($node->logfile), qr/hush-/, 'no secret in the server log, not even at debug5');
unlike(slurp_file($node->logfile), qr/Signature=|X-Amz-Security-Token/i, 'nor any header that is made of it');
check_log($node, qr/permission denied/, qr/cannot (delete from|insert into|update) view/, qr/must be owner of queue/, qr/failed after infecting/, qr/private: /,
	qr/canceling statement/, qr/invalid value for option "handler"/, qr/function .* does not exist/);
done_testing();
