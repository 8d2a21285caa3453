# Leases under stress: short visibility timeouts with many messages in hand,
# heartbeats that fail, and how much is taken in hand at all.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};
# what a queue has in hand at least when messages seem to be quick, however slow
# the machine is: one for each handler, and a batch
my $many = $long ? 70 : 40;

# visibility timeout in seconds and handlers; a message takes three times that
my %stress = $long ? (v1 => [ 1, 60 ], v2 => [ 2, 60 ], v30 => [ 30, 60 ]) : (v1 => [ 1, 30 ], v2 => [ 2, 30 ]);

my ($pile, $handlers, $seconds) = $long ? (20000, 8, 3) : (300, 4, 0.3);

my @faulty = (
	[ 'status', { kind => 'error', status => 500, code => 'InternalFailure' }, 'is answered with status 500' ],
	[ 'entry', { kind => 'entry_fail', code => 'InternalError' }, 'fails for its entries' ],
	[ 'silent', { kind => 'blackhole' }, 'is not answered' ]);

my $sqs = start_sqs(
	queues => [
		(map { "$_,VisibilityTimeout=" . ($_ eq 'v1' ? 1 : 600) } sort keys %stress),
		(map { ("$_->[0]-once,VisibilityTimeout=2", "$_->[0]-ever,VisibilityTimeout=2") } @faulty),
		'tight,VisibilityTimeout=1', 'pile,VisibilityTimeout=30'
	]);
my $node = new_node('main', conf => <<'EOC');
max_worker_processes = 250
sqsbridge.max_workers = 250
max_connections = 300
EOC

setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (queue text, body text, receive_count int);
CREATE TABLE speed (queue text PRIMARY KEY, seconds float);
CREATE SEQUENCE runs;
-- messages are slow unless they say that they are quick
CREATE FUNCTION work(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM nextval('runs');
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count);
  IF m.body NOT LIKE 'quick%' THEN
    PERFORM pg_sleep(seconds) FROM speed WHERE queue = m.queue;
  END IF;
END $$;
-- slow at the first delivery only
CREATE FUNCTION once(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count);
  IF m.body LIKE 'slow%' AND m.receive_count = 1 THEN PERFORM pg_sleep(3600); END IF;
END $$;
EOQ

sub books
{
	my ($queue) = @_;
	my $s = $sqs->stats($queue);
	return join(' ', map { "$_=$s->{$_}" } qw(received deleted redelivered expired_leases delete_stale));
}

sub good_books
{
	my ($n) = @_;
	return "received=$n deleted=$n redelivered=0 expired_leases=0 delete_stale=0";
}

# Make a queue think that messages are quick, so that it takes many in hand.
sub warm_up
{
	my ($queue, $n) = @_;
	$sqs->fill($queue, $n, body => 'quick {i}');
	$sqs->is_empty($queue, "$queue: $n quick messages");
	query_is($node, "SELECT in_flight FROM sqs_stats WHERE queue = '$queue'", '0', "$queue: nothing is in hand");
	return $n;
}

# ---- handlers that take three times the visibility timeout, many in hand

my $warm = 100;
foreach my $queue (sort keys %stress)
{
	my ($visibility, $concurrency) = @{ $stress{$queue} };
	my $option = $queue eq 'v1' ? '' : ", visibility_timeout => '$visibility s'";
	my $three = 3 * $visibility;
	$node->safe_psql('postgres', qq{INSERT INTO speed VALUES ('$queue', $three);
		SELECT sqs_register_queue('$queue', server => 'aws', handler => 'work', concurrency => $concurrency$option)});
	warm_up($queue, $warm);
	is(books($queue), good_books($warm), "$queue: each was handed out once");
}
foreach my $queue (sort keys %stress)
{
	$sqs->fill($queue, $many, body => 'slow {i}');
	poll_until(sub { $sqs->stats($queue)->{in_flight} == $many }, "$queue: $many slow ones are in hand at once");
}
foreach my $queue (sort keys %stress)
{
	my ($visibility) = @{ $stress{$queue} };
	my $total = $warm + $many;
	$sqs->is_empty($queue, "$queue: handlers of three times its visibility timeout finish", $long ? 900 : 120);
	is(books($queue), good_books($total),
		"$queue: $many messages on a visibility timeout of $visibility s, no lease ran out");
	is( $node->safe_psql('postgres', qq{SELECT count(*), count(DISTINCT body), max(receive_count) FROM got
		WHERE queue = '$queue'}), "$total|$total|1", "$queue: each was handled once, at its first delivery");
	query_is($node, "SELECT lost, failed, duplicates, in_flight FROM sqs_stats WHERE queue = '$queue'", '0|0|0|0',
		"$queue: nothing was lost");
	is($node->safe_psql('postgres', qq{SELECT heartbeats >= $many FROM sqs_stats WHERE queue = '$queue'}), 't',
		"$queue: thanks to heartbeats");
	$node->safe_psql('postgres', "SELECT sqs_unregister_queue('$queue')");
}
my $expected = ($warm + $many) * keys %stress;
is($node->safe_psql('postgres', 'SELECT last_value FROM runs'), $expected, 'no handler ran in vain');

# ---- a big pile of messages: it is looked at in the end

# One message per handler, and what they get through in half a second.  In
# SQS's books, messages that are finished and wait to be deleted come on top:
# what is finished in a second, and less than two rounds of all handlers on a
# slow machine.
my $limit = $handlers + int($handlers * 0.5 / $seconds) + int($handlers / $seconds) + 2 * $handlers;
my $sample = $long ? 400 : $pile;

$node->safe_psql('postgres', qq{INSERT INTO speed VALUES ('pile', $seconds)});
$sqs->fill('pile', $pile, body => 'slow {i}');
$node->safe_psql('postgres', qq{SELECT sqs_register_queue('pile', server => 'aws', handler => 'work',
	concurrency => $handlers)});

# ---- a heartbeat that fails once does no harm

$node->safe_psql('postgres', q{INSERT INTO speed VALUES ('tight', 3)});
foreach my $case (@faulty)
{
	my ($name, $fault, $how) = @$case;
	my $queue = "$name-once";
	$node->safe_psql('postgres', "INSERT INTO speed VALUES ('$queue', 5)");
	$sqs->fault(%$fault, action => 'ChangeMessageVisibilityBatch', queue => $queue, count => 1);
	$node->safe_psql('postgres', "SELECT sqs_register_queue('$queue', server => 'aws', handler => 'work')");
	$sqs->send_messages($queue, 'x');
}
# the same where there is half a second for it
$sqs->fault(
	kind => 'entry_fail',
	code => 'InternalError',
	action => 'ChangeMessageVisibilityBatch',
	queue => 'tight',
	count => 1);
$node->safe_psql('postgres', q{SELECT sqs_register_queue('tight', server => 'aws', handler => 'work')});
$sqs->send_messages('tight', 'x');
foreach my $case ((map { [ "$_->[0]-once", $_->[2] ] } @faulty), [ 'tight', 'fails for its entries, with a visibility timeout of 1 s' ])
{
	my ($queue, $how) = @$case;
	$sqs->is_empty($queue);
	is(books($queue), good_books(1), "$queue: a heartbeat that $how, once: the message is handed out once");
	is( $node->safe_psql('postgres', qq{SELECT g.receive_count, s.lost, s.failed FROM got g, sqs_stats s
		WHERE g.queue = '$queue' AND s.queue = g.queue}), '1|0|0', "$queue: and handled once");
}
my %fired = map { $_->{queue} => $_->{fired} } @{ $sqs->admin('GET', 'fault') };
is(join(' ', map { "$_=$fired{$_}" } sort keys %fired), 'entry-once=1 silent-once=1 status-once=1 tight=1',
	'each of these heartbeats did fail');
$sqs->clear_faults;

# ---- heartbeats that fail for good

foreach my $case (@faulty)
{
	my ($name, $fault) = @$case;
	$node->safe_psql('postgres', "SELECT sqs_register_queue('$name-ever', server => 'aws', handler => 'once')");
	warm_up("$name-ever", 30);
	$sqs->fault(%$fault, action => 'ChangeMessageVisibilityBatch', queue => "$name-ever");
}
foreach my $case (@faulty)
{
	my $queue = "$case->[0]-ever";
	# the others wait behind the slow one, and their leases end with its
	$sqs->send_messages($queue, 'slow', map { "behind $_" } 1 .. 4);
}
foreach my $case (@faulty)
{
	my ($name, undef, $how) = @$case;
	my $queue = "$name-ever";
	query_is($node, qq{SELECT receive_count > 1 FROM got WHERE queue = '$queue' AND body = 'slow'}, 't',
		"$queue: a heartbeat that $how, ever: the handler is cancelled and rolled back, another delivery is handled");
	$sqs->is_empty($queue);
	is( $node->safe_psql('postgres', qq{SELECT count(*), count(DISTINCT body) FROM got
		WHERE queue = '$queue' AND body NOT LIKE 'quick%'}), '5|5', "$queue: once each");
	is( $node->safe_psql('postgres', qq{SELECT lost = 5, failed, duplicates FROM sqs_stats WHERE queue = '$queue'}), 't|0|0',
		"$queue: the losses are counted, and are no failures of the handler");
	is($sqs->stats($queue)->{delete_stale}, 0, "$queue: nothing was deleted without a lease");
	is( $node->safe_psql('postgres', qq{SELECT last_error LIKE 'ChangeMessageVisibilityBatch: %', state FROM sqs_stats
		WHERE queue = '$queue'}), 't|polling', "$queue: last_error says which call failed");
	my $lines = () = log_text($node) =~ /LOG:  sqsbridge queue "$queue": ChangeMessageVisibilityBatch: /g;
	cmp_ok($lines, '>=', 1, "$queue: so does the server log");
	cmp_ok($lines, '<=', 5, "$queue: a few times at most");
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM sqs_failures'), '0', 'no handler failed');
$sqs->clear_faults;

# ---- how much is taken in hand

query_true($node, qq{SELECT count(*) >= $sample FROM got WHERE queue = 'pile'},
	"$sample of $pile messages, $handlers handlers of $seconds s", timeout => 600);
$sqs->is_empty('pile') if $sample == $pile;
my $s = $sqs->stats('pile');
cmp_ok($s->{max_in_flight}, '<=', $limit, "no more than $limit of them were in hand at once");
cmp_ok($s->{max_in_flight}, '>=', $handlers, 'and enough for all handlers');
is("$s->{redelivered} $s->{expired_leases} $s->{visibility_zero}", '0 0 0', 'none was handed out again');
is($node->safe_psql('postgres', q{SELECT count(*) - count(DISTINCT body) FROM got WHERE queue = 'pile'}), '0',
	'none was handled twice');
if ($sample < $pile)
{
	# the rest at another pace, for there would be two hours of it
	$node->safe_psql('postgres', q{UPDATE speed SET seconds = 0 WHERE queue = 'pile'});
	$sqs->is_empty('pile', undef, 600);
}
$s = $sqs->stats('pile');
is("$s->{received} $s->{deleted} $s->{redelivered} $s->{expired_leases}", "$pile $pile 0 0",
	"SQS's books: $pile messages, each handed out and deleted once");
is( $node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT body), max(receive_count) FROM got
	WHERE queue = 'pile'}), "$pile|$pile|1", 'each was handled once');

$node->stop;
check_log($node, qr/canceling statement/);
done_testing();
