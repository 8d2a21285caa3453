# Workers come and go: killed ones come back, and what happens to a database
# happens while they work in it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $sqs = start_sqs(
	queues => [ 'a', 'b', 'sleepy,VisibilityTimeout=600', map { ("d$_") } 1 .. 4 ]);
my $node = new_node('main', init => [ allows_streaming => 1 ], conf => "max_connections = 40\n");
my $functions = <<'EOQ';
CREATE TABLE got (queue text, body text, receive_count int);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count) $$;
CREATE FUNCTION nap(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count);
  IF m.receive_count = 1 THEN PERFORM pg_sleep(3600); END IF;
END $$;
EOQ
my $serial = 0;

sub arrives
{
	my ($n, $db, $queue, $name, $timeout) = @_;
	my $body = 'm' . ++$serial;
	$sqs->send_messages($queue, $body);
	query_is($n, "SELECT count(*) FROM got WHERE body = '$body'", '1', $name,
		dbname => $db, timeout => $timeout || 30);
	return;
}

sub workers
{
	my %pid;
	foreach my $line (split /\n/, $node->safe_psql('postgres',
			q{SELECT kind || coalesce(' ' || queue, ''), pid FROM sqs_stats_workers WHERE database IS NULL OR database = 'postgres'}))
	{
		my ($kind, $pid) = split /\|/, $line;
		$pid{$kind} = $pid;
	}
	return \%pid;
}

setup_database($node, $sqs);
$node->safe_psql('postgres', "$functions;
	SELECT sqs_register_queue(q, server => 'aws', handler => 'handle') FROM unnest('{a,b}'::text[]) q;");
arrives($node, 'postgres', 'a', 'queue a works');
arrives($node, 'postgres', 'b', 'queue b works');

# ---- each kind of worker is terminated, as an administrator would

foreach my $case ([ 'launcher' ], [ 'database worker' ], [ 'queue worker a' ], [ 'handler worker a' ])
{
	my ($victim) = @$case;
	arrives($node, 'postgres', $_, "$_ works before the $victim is terminated") foreach qw(a b);
	my $before = workers();
	is($node->safe_psql('postgres', "SELECT pg_terminate_backend($before->{$victim})"), 't', "$victim: terminated")
	  if $victim ne 'launcher';
	kill('TERM', $before->{$victim}) if $victim eq 'launcher';
	poll_until(sub { (workers()->{$victim} || 0) != $before->{$victim} }, "$victim: gone");
	arrives($node, 'postgres', $_, "$victim: $_ works after") foreach qw(a b);
	poll_until(sub { my $now = workers()->{$victim}; $now && $now != $before->{$victim} },
		"$victim: another one is there");
	my $after = workers();
	is($after->{'queue worker b'}, $before->{'queue worker b'}, "$victim: the worker of the other queue is the same")
	  if $victim =~ / a$/;
	is($after->{'launcher'}, $before->{'launcher'}, "$victim: the launcher is the same") if $victim ne 'launcher';
}

# ---- a running handler is terminated

$node->safe_psql('postgres', q{SELECT sqs_register_queue('sleepy', server => 'aws', handler => 'nap', retry_delay => '0 s')});
$sqs->send_messages('sleepy', 'z');
query_is($node, q{SELECT count(*) FROM sqs_stats_workers WHERE queue = 'sleepy' AND state = 'running' AND kind = 'handler worker'}, '1',
	'a handler sleeps');
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM sqs_stats_workers
	WHERE queue = 'sleepy' AND kind = 'handler worker'});
query_is($node, q{SELECT receive_count FROM sqs_failures WHERE queue = 'sleepy'}, '1',
	'terminated, its failure is recorded');
query_is($node, q{SELECT body, receive_count FROM got WHERE queue = 'sleepy'}, 'z|2', 'its message is delivered again');
$sqs->is_empty('sleepy');

# ---- other databases

$node->safe_psql('postgres', "CREATE DATABASE d$_") foreach 1 .. 2;
foreach my $db ('d1', 'd2')
{
	setup_database($node, $sqs, dbname => $db);
	$node->safe_psql($db, "$functions; SELECT sqs_register_queue('$db', server => 'aws', handler => 'handle')");
	arrives($node, $db, $db, "$db: works");
}

# What has to wait for the workers of a database does not wait for their polls,
# which end half-way, without an answer.
sub ends_polls
{
	my ($db, $queue, $statement, $name) = @_;
	poll_until(sub { $sqs->stats($queue)->{open_polls} >= 1 }, "$name: $queue polls");
	my $abandoned = $sqs->stats($queue)->{abandoned_polls};
	$node->safe_psql($db, $statement);
	return poll_until(sub { $sqs->stats($queue)->{abandoned_polls} > $abandoned }, "$name: the poll is given up");
}

ends_polls('postgres', 'd1', 'CREATE DATABASE copy TEMPLATE d1', 'CREATE DATABASE from one with running queues');
arrives($node, 'd1', 'd1', 'd1: works after it was copied', 40) if $node->safe_psql('copy', q{SELECT sqs_disable_queue('d1')}) eq '';
ends_polls('postgres', 'd1', 'ALTER DATABASE d1 RENAME TO d3', 'ALTER DATABASE RENAME');
arrives($node, 'd3', 'd1', 'd1: works under its new name', 40);

$node->safe_psql('postgres', 'CREATE DATABASE unrelated');
$node->safe_psql('postgres', 'DROP DATABASE unrelated');
unlike(log_text($node), qr/still waiting for backend with PID \d+ to accept ProcSignalBarrier/,
	'no process keeps DROP DATABASE of an unrelated one waiting');
ends_polls('postgres', 'd2', 'DROP DATABASE d2', 'DROP DATABASE with running queues');
poll_until(sub { $sqs->stats('d2')->{open_polls} == 0 }, 'nobody polls for it any more');

# ---- DROP EXTENSION

$node->safe_psql('d3', q{BEGIN; DROP EXTENSION sqsbridge CASCADE; ROLLBACK});
arrives($node, 'd3', 'd1', 'DROP EXTENSION rolled back: the workers come back', 40);
ends_polls('d3', 'd1', 'DROP EXTENSION sqsbridge CASCADE', 'DROP EXTENSION while it works');
query_is($node, q{SELECT count(*) FROM sqs_stats_workers WHERE database = 'd3'}, '0', 'its workers leave');
poll_until(sub { $sqs->stats('d1')->{open_polls} == 0 }, 'so SQS sees');
arrives($node, 'postgres', 'a', 'other databases do not notice');

# ---- a standby

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is( $standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'sqsbridge%'}), '0',
	'no workers on a standby');
arrives($node, 'postgres', 'a', 'the primary works');
$node->wait_for_catchup($standby);
$node->stop;
$standby->promote;
arrives($standby, 'postgres', 'a', 'after its promotion the standby does', 30);
$standby->stop;

# ---- too few worker slots

my $small = new_node('small', conf => "max_worker_processes = 4\n");
setup_database($small, $sqs);
$small->safe_psql('postgres', "$functions;
	SELECT sqs_register_queue(q, server => 'aws', handler => 'handle') FROM unnest('{d1,d2,d3,d4}'::text[]) q;");
query_is($small, q{SELECT count(*) > 0 FROM sqs_stats WHERE state = 'waiting for worker slot'}, 't',
	'out of worker slots: the state says so');
like(slurp_file($small->logfile), qr/WARNING:  sqsbridge is out of background worker slots\n.*HINT:.*max_worker_processes/,
	'so does a warning, with a hint');
$small->safe_psql('postgres', 'SELECT pg_sleep(3)');
my $warnings = () = slurp_file($small->logfile) =~ /out of background worker slots/g;
cmp_ok($warnings, '<=', 2, 'not again and again');
$small->stop;

# ---- not preloaded

$small->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$small->start;
my ($rc, undef, $err) = $small->psql('postgres', 'DROP EXTENSION sqsbridge CASCADE');
($rc, undef, $err) = $small->psql('template1', 'CREATE EXTENSION sqsbridge');
isnt($rc, 0, 'without shared_preload_libraries CREATE EXTENSION is refused');
like($err, qr/must be loaded by shared_preload_libraries.*HINT:.*postgresql\.conf/s, 'with a hint');
$small->stop;

my @terminated = (qr/terminating (?:background worker|connection)/, qr/background worker "sqsbridge .*exited with exit code 1/);
# the standby asks again while the primary is going
check_log($node, @terminated, qr/\[unknown\] FATAL:  the database system is shutting down$/);
check_log($standby, qr/end-of-streaming|no such file|does not exist|could not receive data|could not connect|terminating walreceiver|replication terminated/);
check_log($small, qr/out of background worker slots/, qr/must be loaded by shared_preload_libraries/);
done_testing();
