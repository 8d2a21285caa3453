# Which databases have work is found out from a mark that is as transactional
# as the queues, and by looking again: no event has to be met for it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my @bases = qw(prepared closed first second dropped empty);
my $sqs = start_sqs(queues => [ 'steady', @bases ]);
my $node = new_node('main', conf => "max_prepared_transactions = 5\nautovacuum = off\n");
my $functions = <<'EOQ';
CREATE TABLE got (body text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS 'INSERT INTO got VALUES (m.body)';
EOQ
my $serial = 0;

sub arrives
{
	my ($db, $queue, $name) = @_;
	my $body = 'm' . ++$serial;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$sqs->send_messages($queue, $body);
	query_is($node, "SELECT count(*) FROM got WHERE body = '$body'", '1', $name, dbname => $db);
	return;
}

# Processes of the bridge that are connected to the database.
sub workers_are
{
	my ($db, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	query_is($node, "SELECT count(*) FROM sqs_stats_workers WHERE database = '$db'", $expected, $name);
	return;
}

sub marks
{
	return $node->safe_psql('postgres', <<'EOQ');
SELECT string_agg(DISTINCT COALESCE(d.datname::text, 'none'), ' ')
FROM pg_shseclabel l LEFT JOIN pg_database d ON d.oid = l.objoid WHERE l.provider LIKE 'sqsbridge%'
EOQ
}

# Two turns of the launcher: it looks every ten seconds, and when it is woken,
# as it is by each change of a configuration.
sub launcher_looks
{
	my ($name) = @_;
	foreach (1 .. 2)
	{
		$node->safe_psql('postgres', q{SELECT sqs_disable_queue('steady'); SELECT sqs_enable_queue('steady')});
		arrives('postgres', 'steady', $name);
	}
	return;
}

sub register
{
	my ($queue) = @_;
	return "SELECT sqs_register_queue('$queue', server => 'aws', handler => 'handle');";
}

setup_database($node, $sqs);
is(marks(), '', 'a database without queues has no mark');
$node->safe_psql('postgres', $functions . register('steady'));
arrives('postgres', 'steady', 'the first queue of a database works');
is(marks(), 'postgres', 'it has a mark');

foreach my $db (@bases)
{
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	setup_database($node, $sqs, dbname => $db);
	$node->safe_psql($db, $functions);
}

# ---- transactions

$node->safe_psql('prepared', 'BEGIN;' . register('prepared') . 'ROLLBACK');
is(marks(), 'postgres', 'a registration that is rolled back leaves no mark');
$node->safe_psql('prepared', 'BEGIN;' . register('prepared') . q{PREPARE TRANSACTION 'p'});
launcher_looks('a prepared registration: the launcher looks');
workers_are('prepared', '0', 'and finds nothing to do');
$node->safe_psql('prepared', q{COMMIT PREPARED 'p'});
arrives('prepared', 'prepared', 'the first registration of a database, by COMMIT PREPARED, starts it');

my @sessions = map { $node->background_psql('closed', on_error_stop => 1) } 1 .. 2;
$_->query('SET client_min_messages = warning; BEGIN') foreach @sessions;
$sessions[0]->query_safe(register('closed'));
$sessions[1]->query_safe(q{SET lock_timeout = '10 s'; SELECT sqs_register_queue('also', server => 'aws'); COMMIT});
like(marks(), qr/closed/, 'the second of two first registrations at once does not wait for the first');
$sessions[0]->query_safe('ROLLBACK');
$_->quit foreach @sessions;
like(marks(), qr/closed/, 'and keeps its mark when that is rolled back');
$node->safe_psql('closed', q{SELECT sqs_unregister_queue('also');} . register('closed'));
arrives('closed', 'closed', 'it works');

# ---- a database that cannot be connected to for a while

$node->safe_psql('postgres', q{ALTER DATABASE closed ALLOW_CONNECTIONS false;
	SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'closed'});
workers_are('closed', '0', 'ALLOW_CONNECTIONS false, and all are terminated: no worker is left');
launcher_looks('the launcher looks');
workers_are('closed', '0', 'none is started');
$node->safe_psql('postgres', 'ALTER DATABASE closed ALLOW_CONNECTIONS true');
arrives('closed', 'closed', 'ALLOW_CONNECTIONS true: it works again');

# ---- sqsbridge.databases

$node->safe_psql($_, register($_)) foreach qw(first second);
arrives($_, $_, "$_ works") foreach qw(first second);
$node->append_conf('postgresql.conf', "sqsbridge.databases = 'postgres, first, prepared, closed'");
$node->reload;
workers_are('second', '0', 'a database that is taken off sqsbridge.databases loses its workers');
query_is($node, 'SELECT state, last_error FROM sqs_stats', 'not admitted|sqsbridge.databases does not name this database',
	'and says why', dbname => 'second');
query_is($node, 'SELECT state FROM sqs_stats_outbox', 'not admitted', 'as does its outbox', dbname => 'second');
arrives('first', 'first', 'the others go on');
$node->append_conf('postgresql.conf', "sqsbridge.databases = '*'");
$node->reload;
arrives('second', 'second', 'put back, it works again');

# ---- copies

$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE first');
is(marks(), 'closed first postgres prepared second', 'a copied database has no mark');
launcher_looks('the launcher looks');
workers_are('copy', '0', 'and no worker');
arrives('first', 'first', 'that of which it is a copy works');

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('first') ], 'pg_dump');
$node->command_ok([ 'psql', '-X', '-q', '-f', $dump, '-d', $node->connstr('restored') ], 'and a restore');
unlike(marks(), qr/restored/, 'a restored database has no mark');
launcher_looks('the launcher looks');
workers_are('restored', '0', 'and no worker');

# ---- marks that are not needed any more

$node->safe_psql('empty', register('empty'));
arrives('empty', 'empty', 'a queue works');
my $holder = $node->background_psql('empty', on_error_stop => 1);
$holder->query_safe(q{BEGIN; INSERT INTO sqs_outbox (queue, body) VALUES ('empty', 'x')});
$node->safe_psql('empty', q{SELECT sqs_unregister_queue('empty')});
launcher_looks('its last queue is unregistered, a row for the outbox is not committed');
like(marks(), qr/empty/, 'the mark stays');
$holder->query_safe('COMMIT');
$holder->quit;
query_is($node, q{SELECT error_code FROM sqs_outbox_failures}, 'QueueNotRegistered', 'the row fails', dbname => 'empty');
workers_are('empty', '0', 'with nothing left the worker leaves');
unlike(marks(), qr/empty/, 'and the mark is gone');
$node->safe_psql('empty', register('empty'));
arrives('empty', 'empty', 'registered anew, it works');
$node->safe_psql('empty', 'BEGIN; DROP EXTENSION sqsbridge CASCADE; ROLLBACK');
like(marks(), qr/empty/, 'DROP EXTENSION rolled back: the mark is there');
$node->safe_psql('empty', 'DROP EXTENSION sqsbridge CASCADE');
unlike(marks(), qr/empty/, 'DROP EXTENSION: it is gone');

$node->safe_psql('dropped', register('dropped'));
arrives('dropped', 'dropped', 'a queue works');

# it locks out everybody else, so it must not wait for whoever has set a mark
my $changer = $node->background_psql('dropped', on_error_stop => 0);
$changer->query('SET client_min_messages = warning; BEGIN');
$changer->query(q{SELECT sqs_alter_queue('dropped', concurrency => 2)});
my (undef, undef, $stderr) = $node->psql('postgres', q{SET statement_timeout = '60s'; DROP DATABASE dropped});
like($stderr, qr/database "dropped" is being accessed by other users/,
	'DROP DATABASE while a transaction changes a queue: refused, as ever');
arrives('dropped', 'dropped', 'the queue works');
(undef, undef, $stderr) = $node->psql('postgres', q{SET statement_timeout = '60s'; DROP DATABASE dropped WITH (FORCE)});
is($stderr, '', 'WITH (FORCE) ends that transaction');
eval { $changer->quit };
is(marks(), 'closed first postgres prepared second', 'DROP DATABASE takes the mark along');

# ---- ALTER EXTENSION UPDATE, a restart

$node->stop;
$node->start;
arrives($_->[0], $_->[1], "after a restart $_->[0] works") foreach [qw(postgres steady)], [qw(first first)], [qw(prepared prepared)];
$node->safe_psql('first', q{DELETE FROM pg_shseclabel WHERE provider LIKE 'sqsbridge%' AND objoid = (SELECT oid FROM pg_database WHERE datname = 'first')});
$node->stop;
$node->start;
launcher_looks('without its mark, and after a restart');
workers_are('first', '0', 'a database has no worker');
$node->safe_psql('first', 'ALTER EXTENSION sqsbridge UPDATE');
arrives('first', 'first', 'until its extension is updated');

# ---- signals that are none of the bridge's

my $pids = q{SELECT kind, pid FROM sqs_stats_workers
	WHERE kind <> 'handler worker' AND (database IS NULL OR database = 'postgres') ORDER BY 1, 2};
my $before = $node->safe_psql('postgres', $pids);
is(scalar(() = $before =~ /\n/g), 2, 'a launcher, a database worker and a queue worker');
foreach (1 .. 20)
{
	$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM ($pids) p");
	arrives('postgres', 'steady', 'all are canceled, and a message is handled') if $_ % 10 == 0;
}
is($node->safe_psql('postgres', $pids), $before, 'they are the same processes as before');

# ---- the jobs of a database worker fail alone

$node->safe_psql('postgres', q{SELECT sqs_register_queue('first', server => 'aws')});
my $locker = $node->background_psql('postgres', on_error_stop => 1);
my $health = sub {
	my ($what, $expected, $name, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	# the view would wait for a lock on the queues
	query_is($node, "SELECT $what FROM sqs_get_workers() w JOIN pg_database d ON d.oid = w.datid WHERE kind = 'database worker' AND datname = 'postgres'",
		$expected, $name, timeout => 120, %o);
};
my $worker = $node->safe_psql('postgres', q{SELECT pid FROM sqs_stats_workers WHERE kind = 'database worker' AND database = 'postgres'});
$node->safe_psql('postgres', 'ALTER TABLE sqsbridge_internal.failures RENAME TO away');
# a new worker cleans at once
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
$health->(q{last_error LIKE 'cleaning: %failures%'}, 't', 'there is no table of failures: the view says that the cleaning fails');
$node->safe_psql('postgres', q{INSERT INTO sqs_outbox (queue, body) SELECT 'first', 'sent ' || i FROM generate_series(1, 100) i});
query_is($node, q{SELECT waiting, consecutive_errors FROM sqs_stats_outbox WHERE queue = 'first'}, '0|0',
	'the outbox is sent meanwhile, and knows of no error');
$health->('consecutive_errors > 2', 't', 'the cleaning is tried again');
is(scalar(() = log_text($node) =~ /ERROR:.*failures/g), 1, 'the log has that once');
arrives('postgres', 'steady', 'messages are handled meanwhile');
$node->safe_psql('postgres', 'ALTER TABLE sqsbridge_internal.away RENAME TO failures');
$health->('error_since IS NULL', 't', 'it is well again when the table is there');
$locker->query_safe('BEGIN; LOCK TABLE sqsbridge_internal.queues');
$health->('last_error', 'supervision: canceling statement due to lock timeout', 'the table of queues is locked: the supervision fails');
arrives('postgres', 'steady', 'messages are handled meanwhile');
$locker->query_safe('COMMIT');
$locker->quit;
$health->('error_since IS NULL', 't', 'it is well again when the lock is gone');

# ---- what a database's sessions are set to

my $root = 'SET SESSION AUTHORIZATION postgres; SET ROLE postgres;';
$node->safe_psql('second', q{SELECT sqs_register_queue('first', server => 'aws')});
$worker = $node->safe_psql('postgres', q{SELECT pid FROM sqs_stats_workers WHERE kind = 'database worker' AND database = 'second'});
$node->safe_psql('postgres', "CREATE ROLE nobody_; ALTER DATABASE second SET role = nobody_;
	ALTER DATABASE second SET session_authorization = nobody_; ALTER DATABASE second SET exit_on_error = on;
	SELECT pg_terminate_backend($worker)");
query_is($node, qq{SELECT count(*) FROM sqs_stats_workers WHERE kind = 'database worker' AND database = 'second' AND pid <> $worker}, '1',
	'a database whose sessions get another role: there is a worker');
$node->safe_psql('second', qq{$root INSERT INTO sqs_outbox (queue, body) SELECT 'first', 'more ' || i FROM generate_series(1, 100) i});
query_is($node, qq{$root SELECT waiting FROM sqs_stats_outbox WHERE queue = 'first'}, '0', 'which sends the outbox', dbname => 'second');
# an index is maintained with the rights of whoever writes the table
$node->safe_psql('second', <<"EOQ");
$root
CREATE INDEX ON sqsbridge_internal.outbox_failures (md5(error_code));
REVOKE EXECUTE ON FUNCTION md5(text) FROM PUBLIC;
SELECT sqs_register_queue('empty', server => 'aws', enabled => false);
INSERT INTO sqs_outbox (queue, body) VALUES ('empty', 'x');
SELECT sqs_unregister_queue('empty');
EOQ
query_is($node, qq{$root SELECT error_code FROM sqs_outbox_failures}, 'QueueNotRegistered',
	'and writes what cannot be sent into a table with an index of an administrator', dbname => 'second');
query_is($node, q{SELECT last_error FROM sqs_stats_workers WHERE kind = 'database worker' AND database = 'second'}, '', 'and nothing fails');
# an error is not its end
my $process = q{FROM sqs_get_workers() w JOIN pg_database d ON d.oid = w.datid WHERE kind = 'database worker' AND datname = 'second'};
$worker = $node->safe_psql('postgres', "SELECT w.pid $process");
$locker = $node->background_psql('second', on_error_stop => 1);
$locker->query_safe("$root BEGIN; LOCK TABLE sqsbridge_internal.queues");
query_is($node, "SELECT w.pid, last_error $process", "$worker|supervision: canceling statement due to lock timeout",
	'with exit_on_error the worker outlives an error');
$locker->query_safe('COMMIT');
$locker->quit;
query_is($node, "SELECT w.pid, error_since IS NULL $process", "$worker|t", 'and is well again');

$node->stop;
check_log($node, qr/canceling statement due to (?:lock timeout|user request)/, qr/ERROR:.*failures/,
	qr/database "dropped" is being accessed by other users/,
	# a worker that was about to be replaced when its database was closed
	qr/FATAL:  database "closed" is not currently accepting connections/,
	qr/PID \d+ is not a PostgreSQL backend process/,
	qr/terminating (?:background worker|connection)/, qr/background worker "sqsbridge .*exited with exit code 1/);
done_testing();
