# Handlers that misbehave, and what they need taken away under their feet: one
# bad message, queue or role never touches another.
use strict;
use warnings;

use Digest::MD5 ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};
my $rounds = $long ? 5000 : 200;

my @dropped = qw(role function server mapping owned);
my $sqs = start_sqs(
	queues => [
		'dead', 'other',
		(map { "$_,VisibilityTimeout=600" } @dropped),
		'messy,VisibilityTimeout=600', 'greedy,VisibilityTimeout=600', 'limited,VisibilityTimeout=600',
		'dies,VisibilityTimeout=600,dlq=dead:2', 'loops,VisibilityTimeout=600,dlq=dead:1',
		'deaf,VisibilityTimeout=600,dlq=dead:1', 'lost,VisibilityTimeout=2,dlq=dead:1', 'names'
	]);
my $node = new_node('main', conf => <<'EOC');
max_worker_processes = 64
sqsbridge.handler_idle_timeout = '10min'
temp_buffers = 800kB
EOC
my $endpoint = $sqs->endpoint;

setup_database($node, $sqs);
$node->safe_psql('postgres', <<EOQ);
GRANT USAGE ON FOREIGN SERVER aws TO PUBLIC;
CREATE SERVER aws_dropped FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '$endpoint');
CREATE USER MAPPING FOR PUBLIC SERVER aws_dropped OPTIONS (access_key_id 'AKID1', secret_access_key 'secret');
CREATE SERVER aws_mapping FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '$endpoint');
CREATE USER MAPPING FOR CURRENT_USER SERVER aws_mapping OPTIONS (access_key_id 'AKID2', secret_access_key 'secret');
CREATE ROLE leaver LOGIN;
CREATE ROLE keeper LOGIN;
CREATE SERVER aws_owned FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '$endpoint');
CREATE USER MAPPING FOR keeper SERVER aws_owned OPTIONS (access_key_id 'AKID3', secret_access_key 'secret');
GRANT USAGE ON FOREIGN SERVER aws_owned TO PUBLIC;
EOQ
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (queue text, body text, receive_count int, who name, pid int DEFAULT pg_backend_pid());
GRANT ALL ON got TO PUBLIC;
-- a message "wait" is in the handler until its queue's gate is open
CREATE TABLE gate (queue text);
GRANT SELECT ON gate TO PUBLIC;
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count, session_user);
  WHILE m.body = 'wait' AND NOT EXISTS (SELECT FROM gate WHERE queue = m.queue) LOOP
    PERFORM pg_sleep(0.02);
  END LOOP;
END $$;
CREATE FUNCTION handle_dropped(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count, session_user);
  WHILE m.body = 'wait' AND NOT EXISTS (SELECT FROM gate WHERE queue = m.queue) LOOP
    PERFORM pg_sleep(0.02);
  END LOOP;
END $$;
SELECT sqs_register_queue('other', server => 'aws', handler => 'handle');
EOQ

my $serial = 0;

# The good neighbour: handled once, whatever else goes on.
sub others_go_on
{
	my ($why) = @_;
	my $body = 'other' . ++$serial;
	$sqs->send_messages('other', $body);
	query_is($node, "SELECT count(*) FROM got WHERE body = '$body'", '1', "$why: other queues go on");
	return;
}

sub as
{
	my ($role, $query) = @_;
	return $node->safe_psql('postgres', $query, extra_params => [ '-U', $role ]);
}

sub books
{
	my ($queue) = @_;
	my $s = $sqs->stats($queue);
	return join(' ', map { "$_=$s->{$_}" } qw(deleted expired_leases delete_stale));
}

sub handler_pid
{
	my ($queue) = @_;
	return $node->safe_psql('postgres',
		"SELECT pid FROM sqs_stats_workers WHERE queue = '$queue' AND kind = 'handler worker'");
}

# ---- dropped while in use

# The queue, who registers it, on which server, its handler; what is dropped;
# what the view says then; what mends it.  Of the first two no one tells the
# workers: they come before statements that make workers look around.
my @cases = (
	[
		'role', 'leaver', 'aws', 'handle', 'DROP ROLE leaver', qr/its owner, role "leaver", does not exist/,
		q{SELECT sqs_unregister_queue('role'); SELECT sqs_register_queue('role', server => 'aws', handler => 'handle')}
	],
	[
		'function', 'keeper', 'aws', 'handle_dropped', 'DROP FUNCTION handle_dropped',
		qr/function public\.handle_dropped\(sqs_message\) does not exist/,
		q{CREATE FUNCTION handle_dropped(m sqs_message) RETURNS void LANGUAGE sql AS
			'INSERT INTO got VALUES (m.queue, m.body, m.receive_count, session_user)'}
	],
	[
		'server', undef, 'aws_dropped', 'handle', 'DROP SERVER aws_dropped CASCADE',
		qr/server "aws_dropped" does not exist/,
		"CREATE SERVER aws_dropped FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '$endpoint');
		 CREATE USER MAPPING FOR PUBLIC SERVER aws_dropped OPTIONS (access_key_id 'AKID1', secret_access_key 'secret');
		 SELECT sqs_alter_queue('server')"
	],
	[
		'mapping', undef, 'aws_mapping', 'handle', 'DROP USER MAPPING FOR CURRENT_USER SERVER aws_mapping',
		qr/credentials|AWS_ACCESS_KEY_ID/i,
		q{CREATE USER MAPPING FOR CURRENT_USER SERVER aws_mapping OPTIONS (access_key_id 'AKID2', secret_access_key 'secret')}
	],

	# a user mapping is owned by its role, and a statement need not name it
	[
		'owned', 'keeper', 'aws_owned', 'handle', 'DROP OWNED BY keeper', qr/credentials|AWS_ACCESS_KEY_ID/i,
		q{CREATE USER MAPPING FOR keeper SERVER aws_owned OPTIONS (access_key_id 'AKID3', secret_access_key 'secret')}
	]);

foreach my $case (@cases)
{
	my ($queue, $role, $server, $handler) = @$case;
	my $register = "SELECT sqs_register_queue('$queue', server => '$server', handler => '$handler')";
	$sqs->send_messages($queue, 'wait');
	$role ? as($role, $register) : $node->safe_psql('postgres', $register);
}

sub drop_in_use
{
	my (@these) = @_;

	foreach my $case (@these)
	{
		my ($queue, undef, undef, undef, $drop) = @$case;
		query_is($node, "SELECT count(*) FROM sqs_stats_workers WHERE queue = '$queue' AND kind = 'handler worker' AND state = 'running'",
			'1', "$queue: a handler runs");
		poll_until(sub { $sqs->stats($queue)->{in_flight} == 1 }, "$queue: its message is in flight");
		$node->safe_psql('postgres', "$drop; INSERT INTO gate VALUES ('$queue')");
		others_go_on($drop);
	}
	foreach my $case (@these)
	{
		my ($queue, undef, undef, undef, $drop, $error) = @$case;
		poll_until(
			sub {
				return $node->safe_psql('postgres', "SELECT state || ': ' || last_error FROM sqs_stats
					WHERE queue = '$queue' AND error_since IS NOT NULL") =~ $error;
			},
			"$drop: last_error says so, without another message")
		  or diag($node->safe_psql('postgres', "SELECT state, last_error FROM sqs_stats WHERE queue = '$queue'"));
		query_is($node, "SELECT count(*) FROM sqs_stats_workers WHERE queue = '$queue' AND kind = 'handler worker'", '0',
			"$queue: no handler is left of before");
		$sqs->send_messages($queue, 'next');
	}
	return;
}

drop_in_use(@cases[0 .. 1]);
drop_in_use(@cases[2 .. $#cases]);
others_go_on('with queues that cannot work');
foreach my $case (@cases)
{
	my ($queue, undef, undef, undef, $drop) = @$case;
	is($node->safe_psql('postgres', "SELECT count(*) FROM got WHERE queue = '$queue' AND body = 'next'"), '0',
		"$drop: what comes after it is not handled");
}
foreach my $case (@cases)
{
	my ($queue, undef, undef, undef, $drop, undef, $mend) = @$case;
	$node->safe_psql('postgres', $mend);
}
foreach my $case (@cases)
{
	my ($queue) = @$case;
	query_is($node, "SELECT count(*) FROM got WHERE queue = '$queue' AND body = 'next'", '1', "$queue: mended, it goes on");
	$sqs->is_empty($queue);
	is($node->safe_psql('postgres', "SELECT string_agg(body, ',' ORDER BY body) FROM got WHERE queue = '$queue'"), 'next,wait',
		"$queue: both had their effect, once");
	is(books($queue), 'deleted=2 expired_leases=0 delete_stale=0', "$queue: and were deleted, with no lease run out");
	query_is($node, "SELECT state, error_since FROM sqs_stats WHERE queue = '$queue'", 'polling|', "$queue: all is well");
}

# ---- what a handler leaves behind (the rest is in 004)

$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE seen (n serial, what text, pid int DEFAULT pg_backend_pid());
GRANT ALL ON seen, seen_n_seq TO PUBLIC;
CREATE FUNCTION messy(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO seen (what) VALUES (concat_ws(' ',
    current_setting('default_transaction_isolation'), current_setting('default_transaction_read_only'),
    current_setting('transaction_isolation'), current_setting('lock_timeout'), current_setting('client_min_messages'),
    current_setting('DateStyle') = (SELECT reset_val FROM pg_settings WHERE name = 'DateStyle'),
    coalesce(nullif(current_setting('messy.x', true), ''), 'none'),
    (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
    (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
    (SELECT count(*) FROM pg_proc WHERE pronamespace = pg_my_temp_schema()),
    (SELECT count(*) FROM pg_type WHERE typnamespace = pg_my_temp_schema()),
    (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors WHERE is_holdable),
    (SELECT count(*) FROM pg_listening_channels())));
  IF m.body LIKE 'look%' THEN RETURN; END IF;
  SET default_transaction_isolation = 'serializable';
  SET default_transaction_read_only = on;
  SET lock_timeout = '7s';
  SET client_min_messages = error;
  SET DateStyle = 'SQL, DMY';
  SET messy.x = 'mine';
  PERFORM pg_advisory_lock(1), pg_advisory_lock(1), pg_advisory_lock_shared(2, 3);
  CREATE TEMP TABLE t (x int) ON COMMIT PRESERVE ROWS;
  CREATE TEMP SEQUENCE s;
  CREATE TYPE pg_temp.kind AS ENUM ('a');
  CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
  INSERT INTO t SELECT nextval('s') FROM generate_series(1, 100);
  EXECUTE 'PREPARE p AS SELECT * FROM t';
  EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT * FROM t';
  IF m.body LIKE 'listen%' THEN EXECUTE 'LISTEN messy'; END IF;
  IF m.body LIKE 'fail%' AND m.receive_count = 1 THEN RAISE 'messy failed'; END IF;
END $$;
EOQ
as('keeper', q{SELECT sqs_register_queue('messy', server => 'aws', handler => 'messy', retry_delay => '0 s')});
my $clean = 'read committed off read committed 0 notice t none 0 0 0 0 0 0 0';
$sqs->send_messages('messy', 'first');
query_is($node, 'SELECT count(*) FROM seen', '1', 'a message leaves things behind');
my $pid = handler_pid('messy');
$sqs->fill('messy', $rounds, body => '{i}');
query_is($node, 'SELECT count(*) FROM seen', $rounds + 1, 'as do all that follow');
my $memory = private_memory($pid);
$sqs->fill('messy', $rounds, body => '{i}');
query_is($node, 'SELECT count(*) FROM seen', 2 * $rounds + 1, 'and more');
my $growth = private_memory($pid) - $memory;
cmp_ok($growth, '<', 512, "the second $rounds of them do not make the handler grow ($growth kB)");
$sqs->send_messages('messy', 'fail');
$sqs->is_empty('messy');
$sqs->send_messages('messy', 'look');
$sqs->is_empty('messy');
is($node->safe_psql('postgres', 'SELECT DISTINCT what FROM seen'), $clean, 'none finds anything of the ones before');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT pid), min(pid) FROM seen'), (2 * $rounds + 3) . "|1|$pid",
	'all in one process');
is( $node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
	(SELECT count(*) FROM pg_class WHERE relpersistence = 't')}), '0|0', 'while it is idle it holds no lock and no temporary table');

# LISTEN has no one who would read what comes; PostgreSQL refuses it
$sqs->send_messages('messy', 'listen');
query_is($node, q{SELECT sqlstate, count(*) > 0 FROM sqs_failures WHERE queue = 'messy' AND message ~ 'LISTEN' GROUP BY 1}, '0A000|t',
	'LISTEN is an error, and recorded');
as('keeper', q{SELECT sqs_disable_queue('messy')});

# ---- memory

# What malloc() may keep for the next time, in kB: glibc learns to keep 64 MB.
my $kept = 64 * 1024;

$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION greedy(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  t text;
  j jsonb;
BEGIN
  IF m.body LIKE 'eat%' AND m.receive_count = 1 THEN
    t := repeat(left(m.body, 1), 300 * 1000 * 1000);
    SELECT jsonb_agg(i) INTO j FROM generate_series(1, 1000 * 1000) i;
  END IF;
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count, session_user);
  IF m.body LIKE 'eat fail%' AND m.receive_count = 1 THEN RAISE 'ate too much'; END IF;
END $$;
SELECT sqs_register_queue('greedy', server => 'aws', handler => 'greedy', retry_delay => '0 s');
EOQ
$sqs->send_messages('greedy', 'small');
$sqs->is_empty('greedy');
$pid = handler_pid('greedy');
$memory = private_memory($pid);
my $peak = 0;
foreach my $body ('eat', 'eat fail', 'eat again')
{
	$sqs->send_messages('greedy', $body);
	poll_until(
		sub {
			my $now = private_memory($pid) || 0;
			$peak = $now if $now > $peak;
			return $node->safe_psql('postgres', "SELECT count(*) FROM got WHERE body = '$body'") eq '1';
		},
		"a handler that takes 300 MB: $body");
	$sqs->is_empty('greedy');
	poll_until(sub { private_memory($pid) < $memory + $kept }, 'gives them back');
	note(sprintf('before %d kB, peak %d kB, after %d kB', $memory, $peak, private_memory($pid)));
}
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT pid), min(pid) FROM got WHERE queue = 'greedy'}), "4|1|$pid",
	'all in one process');

SKIP:
{
	skip 'no prlimit', 5 if system('prlimit --version >/dev/null 2>&1') != 0;

	$node->safe_psql('postgres', q{SELECT sqs_register_queue('limited', server => 'aws', handler => 'greedy', retry_delay => '0 s')});
	$sqs->send_messages('limited', 'small');
	$sqs->is_empty('limited');
	$pid = handler_pid('limited');
	open(my $status, '<', "/proc/$pid/status") or die "no handler: $!";
	my ($size) = map { /^VmSize:\s+(\d+)/ } <$status>;
	close($status);
	system('prlimit', '--pid', $pid, '--as=' . ($size + 100 * 1024) * 1024) == 0 or die 'prlimit failed';
	$sqs->send_messages('limited', 'eat', 'modest');
	query_is($node, q{SELECT sqlstate, message, handler_pid, action, attempt FROM sqs_failures WHERE queue = 'limited' ORDER BY failed_at},
		"53200|out of memory|$pid|pause|\n53200|out of memory|$pid|retry|1",
		'a handler that gets no more memory: its message fails, and is to blame when another has succeeded');
	$sqs->is_empty('limited');
	is( $node->safe_psql('postgres', q{SELECT string_agg(body || '/' || receive_count, ',' ORDER BY body), count(DISTINCT pid), min(pid)
		FROM got WHERE queue = 'limited'}), "eat/2,modest/1,small/1|1|$pid",
		'the next ones are handled, by the same process');
	others_go_on('out of memory');
}

# ---- a handler that ends its own process

$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION dies(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count, session_user);
  IF m.body LIKE 'always%' OR m.body LIKE 'once%' AND m.receive_count = 1 THEN
    PERFORM pg_terminate_backend(pg_backend_pid());
    PERFORM pg_sleep(600);
  ELSIF m.body LIKE 'last%' THEN
    PERFORM pg_terminate_backend(pg_backend_pid());
  ELSIF m.body LIKE 'cancel%' AND m.receive_count = 1 THEN
    PERFORM pg_cancel_backend(pg_backend_pid());
  END IF;
END $$;
EOQ
as('keeper', q{SELECT sqs_register_queue('dies', server => 'aws', handler => 'dies', retry_delay => '0 s')});
$sqs->send_messages('dies', 'a', 'once', 'b', 'last', 'c', 'always', 'd', 'cancel', 'e');
query_is($node, q{SELECT string_agg(body || '/' || receive_count, ',' ORDER BY body) FROM got WHERE queue = 'dies' AND body <> 'last'},
	'a/1,b/1,c/1,cancel/2,d/1,e/1,once/2', 'handlers that terminate themselves: all other messages are handled');
query_is($node, q{SELECT string_agg(DISTINCT sqlstate || ' ' || (message ~ 'exited|user request'), ','), count(*) >= 4
	FROM sqs_failures WHERE queue = 'dies'}, '57014 true,57P01 true|t', 'each attempt that failed is recorded');
query_is($node, q{SELECT count(*) FROM got WHERE body = 'last'}, '1', 'one that is done when its process ends is done');
$sqs->is_empty('dies');
is_deeply([ map { $_->{body_md5} } @{ $sqs->messages('dead', 'visible') } ], [ Digest::MD5::md5_hex('always') ],
	'the one that always does it ends in the dead-letter queue');
is($sqs->stats('dies')->{deleted}, 8, 'the rest is deleted');
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'dies'}, 'polling', 'the queue is well');
others_go_on('handlers that terminate themselves');

# it cannot do that to others' processes
my $worker = $node->safe_psql('postgres', q{SELECT pid FROM sqs_stats_workers WHERE queue = 'dies' AND kind = 'queue worker'});
my (undef, undef, $stderr) = $node->psql('postgres', "SELECT pg_terminate_backend($worker)", extra_params => [ '-U', 'keeper' ]);
like($stderr, qr/permission denied|must be a superuser/, 'a plain role cannot terminate the queue worker');

# ---- a handler without end

$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION loops(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count, session_user);
  WHILE m.body LIKE 'loop%' LOOP
    NULL;
  END LOOP;
END $$;
-- being cancelled does not impress this one
CREATE FUNCTION deaf(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count, session_user);
  WHILE m.body LIKE 'loop%' LOOP
    BEGIN
      PERFORM pg_sleep(0.1);
    EXCEPTION WHEN query_canceled THEN
      NULL;
    END;
  END LOOP;
END $$;
SELECT sqs_register_queue('loops', server => 'aws', handler => 'loops', handler_timeout => '1 s', retry_delay => '0 s');
SELECT sqs_register_queue('deaf', server => 'aws', handler => 'deaf', handler_timeout => '1 s', retry_delay => '0 s');
EOQ
$sqs->send_messages($_, 'a', 'loop', 'b', 'c') foreach qw(loops deaf);
query_is($node, q{SELECT string_agg(body, ',' ORDER BY body) FROM got WHERE queue = 'loops'}, 'a,b,c',
	'a handler that loops without end: the others are handled');
query_is($node, q{SELECT sqlstate, message FROM sqs_failures WHERE queue = 'loops'},
	'57014|handler ran longer than its handler_timeout of 1000 ms', 'it is cancelled by handler_timeout');
query_is($node, q{SELECT string_agg(body, ',' ORDER BY body) FROM got WHERE queue = 'deaf'}, 'a,b,c',
	'one that goes on although it is cancelled: the others are handled');
query_is($node, q{SELECT sqlstate, message ~ 'handler_timeout of 1000 ms' FROM sqs_failures WHERE queue = 'deaf'}, '57014|t',
	'it is ended');
foreach my $queue (qw(loops deaf))
{
	$sqs->is_empty($queue);
	is(books($queue), 'deleted=3 expired_leases=0 delete_stale=0', "$queue: they are deleted, the bad one is not");
}

# the same for one whose lease is lost
my $fault = $sqs->fault(
	kind => 'entry_fail',
	action => 'ChangeMessageVisibilityBatch',
	queue => 'lost',
	code => 'ReceiptHandleIsInvalid',
	sender_fault => JSON::PP::true(),
	count => 1);
$node->safe_psql('postgres', q{SELECT sqs_register_queue('lost', server => 'aws', handler => 'deaf')});
$sqs->send_messages('lost', 'loop');
query_is($node, q{SELECT lost FROM sqs_stats WHERE queue = 'lost'}, '1', 'so it is when its lease is lost');
$sqs->send_messages('lost', 'a');
query_is($node, q{SELECT string_agg(body, ',' ORDER BY body) FROM got WHERE queue = 'lost'}, 'a', 'and the queue goes on');
$sqs->is_empty('lost');
others_go_on('handlers without end');

# ---- long names

# What is cut to fit into shared memory is not cut within a character: functions
# that meet half of one read, or write, beyond the end of the text.  The names
# are such that bytes 255 and 256 would be parted.
$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION create_handler(quotes int, accents int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  handler text := format('%I.%I', repeat('"', 62) || 'a', repeat('"', quotes) || repeat(chr(233), accents));
BEGIN
  EXECUTE format('CREATE FUNCTION %s(m public.sqs_message) RETURNS void LANGUAGE sql AS %L', handler,
    'SELECT public.handle(m)');
  RETURN handler;
END $$;
DO $$ BEGIN
  EXECUTE format('CREATE SCHEMA %I', repeat('"', 62) || 'a');
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO keeper', repeat('"', 62) || 'a');
END $$;
SELECT sqs_register_queue('names', server => 'aws', handler => create_handler(53, 5));
EOQ
$sqs->send_messages('names', 'wait');
my $named = q{FROM pg_stat_activity WHERE backend_type = 'sqsbridge handler worker' AND state = 'active' AND query LIKE 'sqsbridge: "%'};
query_is($node, "SELECT count(*) $named", '1', 'a handler with a long name runs');
is($node->safe_psql('postgres', "SELECT convert_to(query, 'UTF8') IS NOT NULL $named"), 't', 'what pg_stat_activity says of it is valid text');
$node->safe_psql('postgres', q{INSERT INTO gate VALUES ('names')});
$sqs->is_empty('names');
my $handler = $node->safe_psql('postgres', q{SELECT create_handler(20, 21)});
as('keeper', qq{SELECT sqs_alter_queue('dies', handler => '$handler')});
$sqs->send_messages('dies', 'first');
query_is($node, q{SELECT count(*) FROM got WHERE queue = 'dies' AND body = 'first'}, '1', 'another one is called');

# its supervisor would report the same with more room, so it has to wait
my $supervisor = $node->background_psql('postgres', on_error_stop => 1);
$supervisor->query_safe('BEGIN; LOCK TABLE sqsbridge_internal.queues');
$node->safe_psql('postgres', "REVOKE EXECUTE ON FUNCTION $handler(sqs_message) FROM PUBLIC");
$sqs->send_messages('dies', 'second');
my $refused = q{FROM sqs_get_queue_stats() WHERE last_error LIKE 'role "keeper" has no EXECUTE%'};
query_is($node, "SELECT count(*) $refused", '1', 'until its owner may not execute it');
is($node->safe_psql('postgres', "SELECT convert_to(last_error, 'UTF8') IS NOT NULL $refused"), 't', 'last_error is valid text');
$supervisor->query_safe('COMMIT');
$supervisor->quit;

# ---- all in all

is($sqs->counts('dead')->{visible}, 4, 'the dead-letter queue has the four bad messages');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT FROM got WHERE queue NOT IN ('messy') GROUP BY queue, body HAVING count(*) > 1) x}),
	'0', 'no message had its effect twice');
is($sqs->stats('other')->{redelivered}, 0, 'the good neighbour noticed nothing');
# no handler is left that it would have to wait for
$node->append_conf('postgresql.conf', "sqsbridge.shutdown_timeout = '1h'");
$node->reload;
stop_ok($node, 'the server stops');
check_log(
	$node, qr/FATAL:  role with OID \d+ does not exist/,    # the next handler of a role that was dropped
	qr/messy failed/, qr/cannot execute LISTEN/, qr/ate too much/, qr/out of memory/,
	qr/terminating background worker "sqsbridge handler worker"/,
	qr/background worker "sqsbridge handler worker" \(PID \d+\) exited with exit code 1/,
	qr/canceling statement due to/, qr/permission denied|must be a superuser to terminate/);
done_testing();
