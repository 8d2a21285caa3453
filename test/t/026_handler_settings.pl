# What a handler's session was made with changes under it: settings, rights,
# keys, the queue itself, the time.  Running handlers are not disturbed, and the
# next message meets the new state.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use SqsTest;

need_sqsd();

my $inbox = 'sqsbridge_internal.inbox';

my $secret = 'secret';
my $sqs = start_sqs(
	args => [
		'--access-key', 'AKIDTEST', '--secret-key', $secret,
		map { ('--queue', $_) } ('settings', 'rights,VisibilityTimeout=60', 'frozen,VisibilityTimeout=3', 'deferred,VisibilityTimeout=60',
			'keys,VisibilityTimeout=60', 'polls,VisibilityTimeout=60', 'locked,VisibilityTimeout=60')
	]);
my $node = new_node('main', conf => "sqsbridge.shutdown_timeout = 1s\n");
my $version = $node->safe_psql('postgres', 'SHOW server_version_num');

setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE ROLE app LOGIN;
CREATE ROLE boss LOGIN SUPERUSER;
GRANT CREATE ON SCHEMA public TO app, boss;
GRANT USAGE ON FOREIGN SERVER aws TO app;
CREATE TABLE got (queue text, body text, who text, receive_count int, pid int);
CREATE TABLE gate (open bool);
INSERT INTO gate VALUES (false);
GRANT ALL ON got, gate TO PUBLIC;
CREATE FUNCTION store(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got VALUES (m.queue, m.body, session_user || ' ' || current_setting('is_superuser'), m.receive_count, pg_backend_pid()) $$;
CREATE FUNCTION gated(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM store(m);
  WHILE NOT (SELECT open FROM gate) LOOP
    PERFORM pg_sleep(0.02);
  END LOOP;
END $$;
EOQ

# (sqsd checks signatures here, and the test's own are none)
sub put_in
{
	my ($queue, @bodies) = @_;
	$sqs->fill($queue, 1, body => $_) foreach @bodies;
	return;
}

sub as
{
	my ($role, $query) = @_;
	return $node->safe_psql('postgres', $query, extra_params => [ '-U', $role ]);
}

sub gate
{
	my ($open) = @_;
	$node->safe_psql('postgres', "UPDATE gate SET open = $open");
	return;
}

sub running
{
	my ($queue, $name) = @_;
	return query_true($node, "SELECT count(*) = 1 FROM sqs_stats_workers WHERE queue = '$queue' AND kind = 'handler worker' AND state = 'running'", $name);
}

sub worker
{
	my ($queue, $kind) = @_;
	return $node->safe_psql('postgres', "SELECT min(pid) FROM sqs_stats_workers WHERE queue = '$queue' AND kind = '$kind'" .
		($kind eq 'handler worker' ? q{ AND state = 'running'} : ''));
}

# ---- settings of the role, of the database, of the server

as('app', q{SELECT sqs_register_queue('settings', server => 'aws', handler => 'store', retry_delay => '1 s', wait_time => '2 s')});
$node->safe_psql('postgres', 'ALTER ROLE app SET default_transaction_read_only = on; ALTER ROLE app SET exit_on_error = on');
$sqs->fill('settings', 3);
query_true($node, q{SELECT failed >= 3 FROM sqs_stats WHERE queue = 'settings'}, 'messages fail because of a setting of the role');
query_is($node, q{SELECT DISTINCT sqlstate || ' ' || message FROM sqs_failures WHERE queue = 'settings'},
	'25006 cannot execute INSERT in a read-only transaction', 'which is recorded, whatever exit_on_error says');
$node->safe_psql('postgres', 'ALTER ROLE app RESET default_transaction_read_only; ALTER ROLE app RESET exit_on_error');
query_is($node, q{SELECT count(*) FROM got WHERE queue = 'settings'}, '3',
	'when it is reset busy handlers are replaced, and the messages handled');
$node->safe_psql('postgres', 'TRUNCATE got');

# whatever the role has, and whatever a message sets, the next one does not see
$node->safe_psql('postgres', <<'EOQ');
ALTER ROLE app SET synchronous_commit = local;
CREATE FUNCTION sets(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, current_setting('synchronous_commit') || ' ' || current_setting('work_mem'));
  SET synchronous_commit = on;
  SET work_mem = '1MB';
END $$;
EOQ
as('app', q{SELECT sqs_alter_queue('settings', handler => 'sets')});
$sqs->fill('settings', 3);
query_is($node, q{SELECT body, count(*) FROM got GROUP BY 1}, 'off 4MB|3', 'handlers see that they commit asynchronously, and nothing that another has set');
$node->safe_psql('postgres', 'ALTER ROLE app RESET synchronous_commit; TRUNCATE got');

# ---- rights

as('boss', q{SELECT sqs_register_queue('rights', server => 'aws', handler => 'gated')});
put_in('rights', 'one', 'two');
running('rights', 'a handler of a superuser runs');
$node->safe_psql('postgres', q{GRANT USAGE ON FOREIGN SERVER aws TO boss; ALTER ROLE boss NOSUPERUSER});
gate('true');
query_is($node, q{SELECT body, who, receive_count FROM got ORDER BY body}, "one|boss off|1\ntwo|boss off|1",
	'it is a superuser no more: what it did as one is rolled back, a new session does it');
is($node->safe_psql('postgres', "SELECT count(*) FROM sqs_failures WHERE queue = 'rights'"), '0', 'and nothing failed');
$sqs->is_empty('rights');

foreach my $case (
	[ 'CONNECT', 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC', 'GRANT CONNECT ON DATABASE postgres TO PUBLIC' ],
	$version < 170000 ? ([ 'LOGIN', 'ALTER ROLE boss NOLOGIN', 'ALTER ROLE boss LOGIN' ]) : ())
{
	my ($what, $take, $give) = @$case;

	$node->safe_psql('postgres', "TRUNCATE got; $take");
	put_in('rights', $what);
	query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'rights'}, 'error', "without $what nothing is handled, and the state says so");
	$node->safe_psql('postgres', $give);
	query_is($node, q{SELECT body FROM got}, $what, "with $what again it is");
}
gate('false');

# ---- the time

# Not even the queue worker is there to say that the lease is over.
$node->safe_psql('postgres', q{TRUNCATE got; SELECT sqs_register_queue('frozen', server => 'aws', handler => 'gated', exactly_once => false)});
put_in('frozen', 'late');
running('frozen', 'a handler runs');
my ($queue_worker, $handler) = (worker('frozen', 'queue worker'), worker('frozen', 'handler worker'));
kill('STOP', $queue_worker, $handler);
poll_until(sub { $sqs->stats('frozen')->{expired_leases} >= 1 }, 'the lease ends while they are frozen');
gate('true');
kill('CONT', $handler);
query_true($node, "SELECT state = 'idle' FROM sqs_stats_workers WHERE pid = $handler", 'the handler goes on and ends');
is($node->safe_psql('postgres', 'SELECT count(*) FROM got'), '0', 'but cannot commit');
kill('CONT', $queue_worker);
$sqs->is_empty('frozen', 'another delivery does the work');
is($node->safe_psql('postgres', 'SELECT count(*) FROM got'), '1', 'once');
is($node->safe_psql('postgres', q{SELECT failed, lost FROM sqs_stats WHERE queue = 'frozen'}), '0|1', 'the first one was lost, and did not fail');

# A handler that is frozen cannot be canceled; at least that is to be seen.
gate('false');
$node->safe_psql('postgres', q{TRUNCATE got; SELECT sqs_alter_queue('frozen', exactly_once => true)});
put_in('frozen', 'stuck');
running('frozen', 'a handler runs again');
$handler = worker('frozen', 'handler worker');
kill('STOP', $handler);
$node->safe_psql('postgres', q{SELECT sqs_alter_queue('frozen', handler_timeout => '50 ms')});
query_true($node, qq{SELECT last_error LIKE 'handler worker (PID $handler) does not react: %' FROM sqs_stats WHERE queue = 'frozen'},
	'a handler that does not react to its timeout is in last_error');
gate('true');
kill('CONT', $handler);
$sqs->is_empty('frozen', 'and afterwards the message is handled');

# deferred constraints and triggers have their turn before the clock is read
$node->safe_psql('postgres', <<'EOQ');
TRUNCATE got;
CREATE TABLE slow (body text);
CREATE FUNCTION slow_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_sleep(3600);
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow_trigger();
CREATE FUNCTION defers(m sqs_message) RETURNS void LANGUAGE sql AS $$ INSERT INTO slow VALUES (m.body) $$;
SELECT sqs_register_queue('deferred', server => 'aws', handler => 'defers', handler_timeout => '1 s');
EOQ
put_in('deferred', 'x');
query_true($node, "SELECT count(*) > 0 FROM sqs_failures WHERE queue = 'deferred' AND message LIKE 'handler ran longer than its handler_timeout%'",
	'handler_timeout ends a deferred trigger');
$node->safe_psql('postgres', q{SELECT sqs_unregister_queue('deferred')});

# ---- keys

gate('false');
$node->safe_psql('postgres', q{SELECT sqs_register_queue('keys', server => 'aws', handler => 'gated', concurrency => 2, wait_time => '2 s')});
put_in('keys', 'running');
running('keys', 'a handler runs as the keys change');
my @before = (worker('keys', 'queue worker'), worker('keys', 'handler worker'));
$node->safe_psql('postgres', q{ALTER USER MAPPING FOR PUBLIC SERVER aws OPTIONS (SET secret_access_key 'wrong')});
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'keys'}, 'backing off', 'SQS refuses the new ones');
$node->safe_psql('postgres', qq{ALTER USER MAPPING FOR PUBLIC SERVER aws OPTIONS (SET secret_access_key '$secret')});
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'keys'}, 'polling', 'and takes the right ones');
# longer than shutdown_timeout
query_true($node, q{SELECT now() - state_since > '2 s' FROM sqs_stats WHERE queue = 'keys'}, 'some time goes by');
is(worker('keys', 'queue worker') . ' ' . worker('keys', 'handler worker'), "@before", 'all workers are those they were');
gate('true');
query_is($node, q{SELECT body, receive_count, pid FROM got}, "running|1|$before[1]", 'and the handler has its effect');
$sqs->is_empty('keys');

# ---- a queue is disabled while a long poll is open

# (so long that it outlasts what is done meanwhile, on a busy machine, too)
$node->safe_psql('postgres', q{TRUNCATE got; SELECT sqs_register_queue('polls', server => 'aws', handler => 'store', wait_time => '20 s')});
poll_until(sub { $sqs->stats('polls')->{open_polls} == 1 }, 'a long poll is open');
$queue_worker = worker('polls', 'queue worker');
$node->safe_psql('postgres', q{SELECT sqs_disable_queue('polls')});
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'polls'}, 'stopping', 'the queue is disabled');
is($sqs->stats('polls')->{open_polls}, 1, 'its poll is left to end');
$node->safe_psql('postgres', q{SELECT sqs_enable_queue('polls')});
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'polls'}, 'polling', 'it is enabled meanwhile: the same worker goes on');
put_in('polls', 'through');
query_is($node, q{SELECT body, receive_count FROM got}, 'through|1', 'with the same poll');
is(worker('polls', 'queue worker'), $queue_worker, 'it is the same worker');
$sqs->is_empty('polls');
poll_until(sub { $sqs->stats('polls')->{open_polls} >= 1 }, 'a long poll is open again');
$node->safe_psql('postgres', q{SELECT sqs_disable_queue('polls')});
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'polls'}, 'stopping', 'the queue is disabled again');
put_in('polls', 'too late');
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'polls'}, 'disabled', 'what the poll brings is released, and all ends');
is($sqs->counts('polls')->{visible}, 1, 'SQS has the message');
is($sqs->stats('polls')->{expired_leases}, 0, 'no lease had to run out for that');
is($node->safe_psql('postgres', q{SELECT count(*) FROM got}), '1', 'and it was not handled');
$node->safe_psql('postgres', q{SELECT sqs_unregister_queue('polls')});

# ---- a lock on the tables that are written

$node->safe_psql('postgres', q{TRUNCATE got; SELECT sqs_register_queue('locked', server => 'aws', handler => 'store', retry_delay => '0 s')});
my $session = open_session($node, "BEGIN; LOCK TABLE $inbox IN SHARE MODE;", 'somebody holds what handlers need');
put_in('locked', 'patient');
query_is($node, q{SELECT state, last_error FROM sqs_stats WHERE queue = 'locked'},
	'error|the table of handled messages is locked by another session', 'the inbox is locked: no message is charged with that');
close_session($session);
query_is($node, q{SELECT body, receive_count FROM got}, 'patient|1', 'and it is handled afterwards');
is($node->safe_psql('postgres', "SELECT count(*) FROM sqs_failures WHERE queue = 'locked'"), '0', 'without a failure');

$node->safe_psql('postgres', q{CREATE FUNCTION fails(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
	SELECT sqs_alter_queue('locked', handler => 'fails')});
$session = open_session($node, "BEGIN; LOCK TABLE sqsbridge_internal.failures IN SHARE MODE;", 'somebody holds what handlers need');
put_in('locked', 'hopeless');
query_true($node, q{SELECT last_error ~ '^a failed attempt could not be recorded in sqs_failures: ' FROM sqs_stats WHERE queue = 'locked'},
	'failed attempts that cannot be recorded show in last_error');
close_session($session);
query_true($node, "SELECT count(*) > 0 FROM sqs_failures WHERE queue = 'locked'", 'they are recorded when they can be');
$node->safe_psql('postgres', q{SELECT sqs_disable_queue('locked')});

# the time that a handler has includes its wait for somebody with the same message
$node->safe_psql('postgres', q{SELECT sqs_unregister_queue('locked');
	SELECT sqs_register_queue('waits', server => 'aws', queue_name => 'locked', handler => 'store',
		handler_timeout => '1 s', retry_delay => '0 s');
	SELECT sqs_disable_queue('waits'); TRUNCATE got});
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'waits'}, 'disabled', 'a queue with a handler_timeout');
put_in('locked', 'waits');
my ($message) = map { $_->{id} } grep { $_->{state} ne 'deleted' } @{ $sqs->messages('locked') };
$session = open_session($node, "BEGIN; INSERT INTO $inbox SELECT queue_id, '$message', now() FROM sqs_queues WHERE name = 'waits';", 'somebody holds what handlers need');
$node->safe_psql('postgres', q{SELECT sqs_enable_queue('waits')});
query_true($node, "SELECT count(*) > 0 FROM sqs_failures WHERE queue = 'waits' AND message LIKE 'handler ran longer than its handler_timeout%'",
	'a wait for another transaction with the same message is part of handler_timeout');
close_session($session);
query_true($node, q{SELECT count(*) = 1 FROM got WHERE body = 'waits'}, 'afterwards it is handled');

# ---- a role that the database sets does not steer workers

$node->safe_psql('postgres', q{CREATE ROLE nobody_; ALTER DATABASE postgres SET role = nobody_;
	TRUNCATE got; SELECT sqs_disable_queue('settings')});
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'settings'}, 'disabled', 'a queue is stopped');
$node->safe_psql('postgres', q{SET ROLE none; SELECT sqs_enable_queue('settings')});
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'settings'}, 'polling', 'and started where a role is set for the database');
$node->safe_psql('postgres', q{SET ROLE none; ALTER DATABASE postgres RESET role});

# ---- a transaction_timeout shorter than it takes to connect

SKIP:
{
	skip 'no transaction_timeout', 1 if $version < 170000;
	# (neither the test nor PostgreSQL's own launcher could have a session now)
	$node->append_conf('postgresql.conf', "transaction_timeout = 1ms\nmax_logical_replication_workers = 0\n");
	$node->restart;
	put_in('settings', 'short');
	$sqs->is_empty('settings', 'a transaction_timeout that no session survives: a message is handled');
}

$node->stop;
unlike(log_text($node), qr/was terminated by signal/, 'no crash');
check_log(
	$node,
	# autovacuum is steered by the role that the database sets
	qr/\[\d+\] WARNING:  skipping "\w+" --- only .* can (?:analyze|vacuum) it$/,
	qr/\[\d+\] WARNING:  permission denied to (?:analyze|vacuum) "\w+", skipping it$/,
	qr/ERROR:  cannot execute INSERT in a read-only transaction/,
	qr/ERROR:  the rights of the queue's owner have changed/,
	qr/ERROR:  the lease of the message ended before/,
	qr/ERROR:  canceling statement due to (?:user request|lock timeout)/,
	qr/ERROR:  handler ran longer/,
	qr/ERROR:  no$/,
	qr/FATAL:  permission denied for database "postgres"/,
	qr/FATAL:  role "boss" is not permitted to log in/,
	qr/FATAL:  terminating connection due to administrator command/,
	qr/background worker "sqsbridge handler worker" \(PID \d+\) exited with exit code 1$/);
done_testing();
