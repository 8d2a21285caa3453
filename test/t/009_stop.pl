# A stop waits for nothing but running handlers, and for those not longer than
# shutdown_timeout; it gives back what is in hand.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

# What a stop could wait for lasts an hour: handlers, leases, and, where it
# should end of itself, shutdown_timeout.
my $hour = 3600;
my $sqs = start_sqs(
	queues => [ "plain,VisibilityTimeout=$hour", "ordered.fifo,VisibilityTimeout=$hour", "burst,VisibilityTimeout=$hour", 'idle' ]);
my $node = new_node('main', conf => "sqsbridge.shutdown_timeout = '${hour}s'\n");

setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (queue text, body text, receive_count int);
CREATE TABLE speed (seconds float);
INSERT INTO speed VALUES (0);
CREATE FUNCTION sleepy(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count);
  PERFORM pg_sleep(seconds) FROM speed;
  PERFORM pg_advisory_xact_lock_shared(1);
EXCEPTION WHEN query_canceled THEN
  RAISE LOG 'handler is canceled';
  RAISE;
END $$;
SELECT sqs_register_queue('idle', server => 'aws', handler => 'sleepy');
EOQ

sub set_shutdown_timeout
{
	my ($seconds) = @_;
	$node->append_conf('postgresql.conf', "sqsbridge.shutdown_timeout = '${seconds}s'");
	$node->reload if defined $node->{_pid};
	return;
}

sub given_back
{
	my ($queue, $total, $name) = @_;
	my $c = $sqs->counts($queue);
	is("$c->{in_flight} $c->{visible}", "0 $total", $name);
	return;
}

# Seconds from one line of the server's log to another, the last of each.
sub between
{
	my @at;
	foreach my $pattern (@_)
	{
		my ($hours, $minutes, $seconds) = log_text($node) =~ /.*^\S+ (\d\d):(\d\d):(\d\d\.\d+) [^\n]*$pattern/ms
		  or die "no line like $pattern in the log";
		push @at, 3600 * $hours + 60 * $minutes + $seconds;
	}
	return $at[1] - $at[0] + ($at[1] < $at[0] ? 24 * 3600 : 0);
}

# ---- an idle long poll

poll_until(sub { $sqs->stats('idle')->{open_polls} == 1 }, 'an idle queue polls');
stop_ok($node, 'a stop during a long poll');
poll_until(sub { $sqs->stats('idle')->{open_polls} == 0 }, 'SQS sees the poll end');
is($sqs->stats('idle')->{empty_receives}, 0, 'which was given up, not waited for');
$node->start;
query_is($node, q{SELECT state FROM sqs_stats}, 'polling', 'it polls again after the start');
poll_until(sub { $sqs->stats('idle')->{open_polls} == 1 }, 'as SQS sees');

# a message that arrives later is received, and not lost to a poll that was left
$sqs->send_messages('idle', 'x');
query_is($node, 'SELECT body, receive_count FROM got', 'x|1', 'and works');
$node->safe_psql('postgres', "TRUNCATE got; UPDATE speed SET seconds = $hour");

# ---- running handlers and messages that wait behind them

$sqs->send_messages('plain', map { "p$_" } 1 .. 12);
$sqs->send_messages(
	'ordered.fifo',
	map {
		my $i = $_;
		map { +{ MessageBody => "$_$i", MessageGroupId => $_, MessageDeduplicationId => "$_$i" } } qw(a b)
	} 1 .. 5);
$node->safe_psql('postgres', q{SELECT sqs_register_queue('plain', server => 'aws', handler => 'sleepy', concurrency => 2);
	SELECT sqs_register_queue('ordered.fifo', server => 'aws', handler => 'sleepy')});
query_is($node, q{SELECT count(*) FROM sqs_stats_workers WHERE kind = 'handler worker' AND state = 'running'}, '3',
	'handlers run');
note($node->safe_psql('postgres', 'SELECT queue, status, count(*) FROM sqs_stats_in_flight GROUP BY 1, 2'));
set_shutdown_timeout(3);
stop_ok($node, 'a stop with handlers that sleep');
cmp_ok(between(qr/received fast shutdown request/, qr/handler is canceled/),
	'>=', 2.99, 'they are given sqsbridge.shutdown_timeout to finish');
given_back('plain', 12, 'unfinished and waiting messages are visible again at once');
given_back('ordered.fifo', 10, 'so they are in a FIFO queue');
is($sqs->stats('plain')->{deleted} + $sqs->stats('ordered.fifo')->{deleted}, 0, 'none is deleted');
is($sqs->stats('plain')->{expired_leases}, 0, 'no lease had to run out for that');

# ---- the same by sqs_disable_queue

$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM got'), '0', 'what was not finished is rolled back');
query_is($node, q{SELECT count(*) FROM sqs_stats_workers WHERE kind = 'handler worker' AND state = 'running'}, '3',
	'handlers run again');
$node->safe_psql('postgres', q{SELECT sqs_disable_queue('plain'); SELECT sqs_disable_queue('ordered.fifo')});
query_is($node, q{SELECT count(*) FROM sqs_stats_workers WHERE queue IN ('plain', 'ordered.fifo')}, '0',
	'disabled queues come to a stop, although their handlers sleep');
given_back('plain', 12, 'their messages are visible again');
given_back('ordered.fifo', 10, 'FIFO too');

# handlers that finish in time have their messages deleted: they go on when the
# session is gone that they wait for, which a stop ends
set_shutdown_timeout($hour);
my $session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{UPDATE speed SET seconds = 0; SELECT sqs_enable_queue('plain')});
query_is($node, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, '2',
	'handlers that are not ready before the stop');
is($sqs->stats('plain')->{deleted}, 0, 'nothing is deleted');
stop_ok($node, 'a stop lets them finish and does not wait longer');
eval { $session->quit };
my $s = $sqs->stats('plain');
cmp_ok($s->{deleted}, '>=', 2, 'what they finished is deleted');
cmp_ok($s->{deleted}, '<', 12, 'nothing else was begun');
is($s->{in_flight}, 0, 'and the rest visible');
$node->append_conf('postgresql.conf', "sqsbridge.databases = ''");
$node->start;
is( $node->safe_psql('postgres', q{SELECT count(*) FROM got WHERE queue = 'plain'}), $s->{deleted},
	'what is deleted is in the table, what is in the table is deleted');

# at the end all is handled once; order survives the giving back
$node->append_conf('postgresql.conf', "sqsbridge.databases = '*'");
$node->reload;
$node->safe_psql('postgres', q{SELECT sqs_enable_queue('ordered.fifo')});
$sqs->is_empty('plain');
$sqs->is_empty('ordered.fifo');
is( $node->safe_psql('postgres', q{SELECT queue, count(*), count(DISTINCT body) FROM got GROUP BY 1 ORDER BY 1}),
	"ordered.fifo|10|10\nplain|12|12", 'in the end each message is handled once');
is( $node->safe_psql('postgres', q{SELECT string_agg(body, ',' ORDER BY ctid) FROM got
	WHERE queue = 'ordered.fifo' GROUP BY left(body, 1) ORDER BY 1}),
	"a1,a2,a3,a4,a5\nb1,b2,b3,b4,b5", 'FIFO groups in order');

# ---- many polls, all of which have found messages

my $far = $sqs->fault(kind => 'latency', ms => 150, action => 'ReceiveMessage', queue => 'burst');
$sqs->fill('burst', 20_000);
$node->safe_psql('postgres', q{SELECT sqs_register_queue('burst', server => 'aws', handler => 'sleepy', concurrency => 4)});
query_true($node, q{(SELECT acked > 2000 FROM sqs_stats WHERE queue = 'burst')}, 'many polls are open');
stop_ok($node, 'a stop in the middle of a backlog');
$s = $sqs->stats('burst');
cmp_ok($s->{visible}, '>', 0, 'some messages are left');
# they were in SQS's replies when the stop began, ten in each
cmp_ok($s->{in_flight}, '<=', 50, 'and those that were on their way are visible again');
is($s->{visible} + $s->{in_flight} + $s->{deleted}, 20_000, 'none is lost');
$sqs->clear_faults($far);
$node->start;
$node->safe_psql('postgres', q{SELECT sqs_unregister_queue('burst')});

# ---- SQS is a black hole

$node->safe_psql('postgres', "UPDATE speed SET seconds = $hour");
$sqs->send_messages('plain', 'hole 1', 'hole 2');
query_is($node, q{SELECT count(*) FROM sqs_stats_workers WHERE kind = 'handler worker' AND state = 'running'}, '2',
	'handlers run');
my $fault = $sqs->fault(kind => 'blackhole');
set_shutdown_timeout(1);
stop_ok($node, 'a stop while SQS answers nothing');
$node->start;
query_is($node, q{SELECT count(*) FROM sqs_stats_workers WHERE kind = 'queue worker'}, '3', 'workers that ask where their queues are');
stop_ok($node, 'even at the start');
$sqs->clear_faults($fault);

# nobody is there at all
set_shutdown_timeout($hour);
$sqs->stop_sqs;
$node->start;
query_is($node, q{SELECT count(*) FROM sqs_stats WHERE state = 'backing off'}, '3', 'SQS is down: backing off');
stop_ok($node, 'a stop while SQS is down');

# ---- immediate stop

$node->start;
query_is($node, q{SELECT count(*) FROM sqs_stats WHERE state = 'backing off'}, '3', 'the workers are there again');
stop_ok($node, 'an immediate stop', 'immediate');
unlike(log_text($node), qr/issuing SIGKILL/, 'for which none of them had to be killed');

check_log($node, qr/canceling statement/, qr/terminating (?:connection|background worker)/);
done_testing();
