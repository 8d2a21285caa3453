# How much is received follows what is measured: polls and messages in hand
# grow with the round trip and with the pace of the handlers, batches are whole
# however slow the handlers are, and what cannot be handled soon is given back.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $sqs = start_sqs(queues => [ map { "$_,VisibilityTimeout=60" } qw(far partial large whole steady slower undeleted stuck seen groups.fifo changed) ]);
$sqs->create_queue('dead');
$sqs->create_queue('once', VisibilityTimeout => '60', dlq => 'dead:1');
my $node = new_node('main', conf => <<'EOC');
max_worker_processes = 100
sqsbridge.max_workers = 100
EOC

setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (queue text, body text, message_id text);
CREATE TABLE gate (queue text PRIMARY KEY);
-- 'slow' messages take 20 ms, 'steady' ones 0.2 s; 'held' ones wait for the gate to be opened
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, m.body, m.message_id);
  IF m.body LIKE 'slow%' THEN PERFORM pg_sleep(0.02); END IF;
  IF m.body LIKE 'steady%' THEN PERFORM pg_sleep(0.2); END IF;
  WHILE m.body LIKE 'held%' AND NOT EXISTS (SELECT FROM gate WHERE queue = m.queue)
  LOOP
    PERFORM pg_sleep(0.05);
  END LOOP;
END $$;
EOQ

# waits, whatever the message
$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION hold(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, m.body, m.message_id);
  WHILE NOT EXISTS (SELECT FROM gate WHERE queue = m.queue)
  LOOP
    PERFORM pg_sleep(0.05);
  END LOOP;
END $$;
EOQ

sub register
{
	my ($queue, $concurrency) = @_;
	$node->safe_psql('postgres', "SELECT sqs_register_queue('$queue', server => 'aws', handler => 'handle',
		wait_time => '1 s', concurrency => $concurrency)");
	return;
}

# All messages had their effect once, and SQS has none left.
sub done_once
{
	my ($queue, $count, $name) = @_;
	$sqs->is_empty($queue, "$name: all messages are deleted", 180);
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT message_id) FROM got WHERE queue = '$queue'"),
		"$count|$count", "$name: each of $count messages had its effect once");
	is($sqs->books_agree($queue, $node, $name, "SELECT message_id, md5(body) FROM got WHERE queue = '$queue'"),
		$count, "$name: SQS's books say so too");
	query_is($node, "SELECT in_flight, state, consecutive_errors FROM sqs_stats WHERE queue = '$queue'",
		'0|polling|0', "$name: all is well");
	return;
}

# ---- SQS is far away: more polls, and more in hand

# (so far that handlers need not be quick for that, on a busy machine either)
my $count = 5000;
my $far = $sqs->fault(kind => 'latency', ms => 1500, queue => 'far');
$sqs->fill('far', $count);
register('far', 4);
done_once('far', $count, 'far');
my $s = $sqs->stats('far');
# a poll can bring seven messages a second: this many make up for that
cmp_ok($s->{max_open_polls}, '>=', 20, 'far: there are as many polls as it takes');
# and each of them, of which there can be 149, finds nothing at the end
cmp_ok($s->{calls}{ReceiveMessage}, '<=', $count / 10 + 149 + 20, 'far: which bring whole batches');
is($s->{redelivered}, 0, 'far: nothing was handed out twice');
$sqs->clear_faults($far);
# one that waits for wait_time, the others for a second at most
poll_until(sub { $sqs->stats('far')->{open_polls} == 1 }, 'far: it comes down to one poll');

# ---- the same if SQS seldom returns all that is asked for

$far = $sqs->fault(kind => 'latency', ms => 400, action => 'ReceiveMessage', queue => 'partial');
$sqs->fault(kind => 'few', messages => 7, queue => 'partial');
$sqs->fill('partial', 600, body => 'slow {i}');
register('partial', 8);
done_once('partial', 600, 'partial');
# handlers get through 400 messages a second, and a poll brings 17
cmp_ok($sqs->stats('partial')->{max_open_polls}, '>=', 4, 'partial: there are as many polls as it takes');
$sqs->clear_faults;

# ---- large messages: memory is what limits them, also while all of it is on its way

$node->safe_psql('postgres', "ALTER SYSTEM SET sqsbridge.max_in_flight_memory = '1MB'");
$node->reload;
$far = $sqs->fault(kind => 'latency', ms => 200, action => 'ReceiveMessage', queue => 'large');
$sqs->fill('large', 200, body => 'x' x 100_000 . '{i}');
register('large', 4);
done_once('large', 200, 'large');
# a receive of ten brings 1 MB
cmp_ok($sqs->stats('large')->{max_in_flight}, '<=', 20, 'large: no more than memory permits');
$sqs->clear_faults($far);
$node->safe_psql('postgres', 'ALTER SYSTEM RESET sqsbridge.max_in_flight_memory');
$node->reload;

# ---- handlers of 20 ms: whole batches, whenever few are left

$sqs->fill('whole', 30, body => 'slow {i}');
register('whole', 8);
done_once('whole', 30, 'whole: at first');
my $before = $sqs->calls('whole', 'ReceiveMessage');
$sqs->fill('whole', 1000, body => 'slow {i}', start => 100);
poll_until(sub { $sqs->stats('whole')->{visible} == 0 }, 'whole: all are received', 60);
my $receives = $sqs->calls('whole', 'ReceiveMessage') - $before;
cmp_ok($receives, '<=', 120, "whole: handlers that are free are given whole batches ($receives receives for 1000 messages)");
done_once('whole', 1030, 'whole');

# ---- no more in hand than is handled in a second

$sqs->fill('steady', 100, body => 'steady {i}');
register('steady', 4);
my $most = 0;
poll_until(
	sub {
		# what is finished and not deleted yet does not count
		my $n = $node->safe_psql('postgres', q{SELECT count(*) FROM sqs_stats_in_flight WHERE queue = 'steady' AND status <> 'finished'});
		$most = $n if $n > $most;
		return $sqs->stats('steady')->{deleted} == 100;
	},
	'steady: all messages are deleted', 180);
done_once('steady', 100, 'steady');
# 20 a second at most, and one for each handler
cmp_ok($most, '<=', 4 + 20, 'steady: there is a second of work in hand at most');
cmp_ok($most, '>', 4, 'steady: and some of it is received ahead');
$s = $sqs->stats('steady');
is($s->{redelivered}, 0, 'steady: nothing was handed out twice');

# ---- messages that were quick came one by one: that is no reason to expect many

register('slower', 4);
$sqs->fill('slower', 300);
done_once('slower', 300, 'slower: quick ones');
# what was completed then counts for five seconds
my $sent = 300;
my $trickle_ends = time + 7;
while (time < $trickle_ends)
{
	$sqs->fill('slower', 1, start => ++$sent);
	$sqs->is_empty('slower', "slower: message $sent, alone");
}
$sqs->fill('slower', 1000, body => 'held {i}', start => 5000);
query_is($node, "SELECT count(*) FROM pg_stat_activity
	WHERE query LIKE 'sqsbridge: %queue slower, %' AND clock_timestamp() - xact_start > '1 s'",
	'4', 'slower: all handlers are busy with others');
# one for each handler, and a few batches
cmp_ok($sqs->stats('slower')->{in_flight}, '<=', 60, 'slower: of the others few are received ahead');
$node->safe_psql('postgres', "INSERT INTO gate VALUES ('slower')");
done_once('slower', $sent + 1000, 'slower');

# ---- deletes that are slow do not make it hold ever more

my $slow_deletes = $sqs->fault(kind => 'latency', ms => 14_000, action => 'DeleteMessageBatch', queue => 'undeleted');
$sqs->fill('undeleted', 2000, body => 'slow {i}');
register('undeleted', 16);
query_true($node, "(SELECT count(*) >= 1000 FROM got WHERE queue = 'undeleted')", 'undeleted: messages are handled');
poll_until(sub { $sqs->stats('undeleted')->{deleted} > 0 }, 'undeleted: the first are deleted', 60);
$sqs->clear_faults($slow_deletes);
# that is less than what is handled in the meantime
cmp_ok($sqs->stats('undeleted')->{max_in_flight}, '<=', 1024, 'undeleted: meanwhile there were no more than 1024 of them');
done_once('undeleted', 2000, 'undeleted');

# ---- handlers get stuck

# The queue's handlers are quick, and then all of them are stuck; many messages wait.
sub get_stuck
{
	my ($queue, $held, %groups) = @_;
	my $latency = $sqs->fault(kind => 'latency', ms => 500, queue => $queue);
	my @again = map { $_->{ReceiptHandle} } @{ $sqs->call('ReceiveMessage',
		{ QueueUrl => $sqs->url($queue), MaxNumberOfMessages => 10, VisibilityTimeout => 3600 })->{Messages} || [] };
	# they make it believe that messages are quick
	$sqs->fill($queue, 3000, %groups);
	# these are each the only one of its message group
	$sqs->fill($queue, $held, body => 'held {i}', start => 5000, %groups ? (groups => 10_000) : ());
	# what has been received before is the last to come
	my $i = 0;
	$sqs->call('ChangeMessageVisibilityBatch', { QueueUrl => $sqs->url($queue),
		Entries => [ map { { Id => 'e' . $i++, ReceiptHandle => $_, VisibilityTimeout => 0 } } @again ] }) if @again;
	register($queue, 4);
	query_is($node, "SELECT count(*) FROM pg_stat_activity
		WHERE query LIKE 'sqsbridge: %queue $queue, %' AND clock_timestamp() - xact_start > '1 s'",
		'4', "$queue: all handlers are stuck", timeout => 120);
	query_true($node, "(SELECT count(*) > 50 FROM sqs_stats_in_flight WHERE queue = '$queue' AND status = 'waiting')",
		"$queue: while messages wait");
	$sqs->clear_faults($latency);
	return;
}

# To give back a message takes a receive.  Where the redrive policy permits only
# one, it would be a dead letter that was never handled; see below.
get_stuck('once', 1000);
my $waiting = $node->safe_psql('postgres', "SELECT count(*) FROM sqs_stats_in_flight WHERE queue = 'once'");

# what waits is given back, and handled in the end
foreach my $queue ('stuck', 'seen', 'groups.fifo')
{
	my %groups = $queue =~ /fifo/ ? (groups => 200) : ();
	my $held = $queue eq 'seen' ? 150 : 1000;
	$sqs->fill('seen', 10, body => 'held {i}', start => 7000) if $queue eq 'seen';
	get_stuck($queue, $held, %groups);
	my @came = split /\n/, $node->safe_psql('postgres', "SELECT group_id FROM sqs_stats_in_flight
		WHERE queue = '$queue' AND group_id IS NOT NULL GROUP BY 1 ORDER BY min(received_at)");
	query_true($node, "(SELECT released > 0 FROM sqs_stats WHERE queue = '$queue')", "$queue: messages are given back");
	# four that run, and as many for the handlers that will be free next
	my $few = $queue eq 'seen' ? 8 + 10 : 8;
	query_true($node, "(SELECT count(*) <= $few FROM sqs_stats_in_flight WHERE queue = '$queue')", "$queue: all that are too many");
	cmp_ok($sqs->stats($queue)->{visible}, '>', $held / 2, "$queue: where others can receive them");
	if (@came)
	{
		my %early = map { $_ => 1 } @came[ 0 .. $#came / 2 ];
		my @kept = split /\n/, $node->safe_psql('postgres', "SELECT group_id FROM sqs_stats_in_flight
			WHERE queue = '$queue' GROUP BY 1 HAVING bool_and(status = 'waiting')");
		is(join(' ', grep { !$early{$_} } @kept), '', "$queue: those that came first are kept");
	}
	is($sqs->stats($queue)->{redelivered} + 0 <= $sqs->stats($queue)->{visibility_zero}, 1, "$queue: no lease ran out");
	$node->safe_psql('postgres', "INSERT INTO gate VALUES ('$queue')");
	done_once($queue, 3000 + $held + ($queue eq 'seen' ? 10 : 0), $queue);
	is($sqs->stats($queue)->{expired_leases}, 0, "$queue: no lease ran out until the end");
}

# a queue gets another handler, which is stuck from the first message on
my $latency = $sqs->fault(kind => 'latency', ms => 500, queue => 'changed');
$sqs->fill('changed', 6000);
register('changed', 4);
query_true($node, "(SELECT count(*) > 500 FROM got WHERE queue = 'changed')", 'changed: messages are handled');
$node->safe_psql('postgres', "SELECT sqs_alter_queue('changed', handler => 'hold')");
query_true($node, "(SELECT released > 0 FROM sqs_stats WHERE queue = 'changed')", 'changed: what the new handler does not begin with is given back');
$node->safe_psql('postgres', "INSERT INTO gate VALUES ('changed')");
$sqs->clear_faults($latency);
done_once('changed', 6000, 'changed');

# by now it could have been given back long since
query_is($node, "SELECT released, count(*) FROM sqs_stats, sqs_stats_in_flight f WHERE sqs_stats.queue = 'once' AND f.queue = 'once' GROUP BY 1",
	"0|$waiting", 'once: nothing is given back');
$node->safe_psql('postgres', "INSERT INTO gate VALUES ('once')");
done_once('once', 4000, 'once');
is($sqs->stats('once')->{dead_lettered}, 0, 'once: there is no dead letter');

$node->stop;
check_log($node);
done_testing();
