# Standbys: a synchronous one that stalls holds up deletions and nothing else,
# and one that is promoted goes on where the primary was killed.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $rounds = $ENV{SQSBRIDGE_LONG} ? 10 : 2;
my $batch = 1200;
my $seed = $ENV{SQSBRIDGE_SEED} || (time() ^ $$) % 1_000_000;
srand($seed);
note("SQSBRIDGE_SEED=$seed");

my $sqs = start_sqs(
	queues => [ 'stall,VisibilityTimeout=6', 'known,VisibilityTimeout=600', 'load,VisibilityTimeout=3',
		'ordered.fifo,VisibilityTimeout=3' ]);
my $primary = new_node('node0', init => [ allows_streaming => 1 ], conf => <<'EOC');
wal_sender_timeout = 0
wal_receiver_timeout = 0
wal_retrieve_retry_interval = 100ms
sqsbridge.shutdown_timeout = '1h'
EOC

setup_database($primary, $sqs);
# our own sessions do not wait for a standby; the queues' owner has the default
$primary->safe_psql('postgres', <<'EOQ');
ALTER ROLE CURRENT_USER SET synchronous_commit = local;
CREATE ROLE worker LOGIN;
GRANT CREATE ON SCHEMA public TO worker;
GRANT USAGE ON FOREIGN SERVER aws TO worker;
SET SESSION AUTHORIZATION worker;
CREATE TABLE got (id bigserial, queue text, message_id text, body text, group_id text, sequence_number numeric);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got (queue, message_id, body, group_id, sequence_number)
  VALUES (m.queue, m.message_id, m.body, m.group_id, m.sequence_number) $$;
CREATE FUNCTION slowly(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM handle(m), pg_sleep(0.002);
END $$;
SELECT sqs_register_queue('stall', server => 'aws', handler => 'handle', concurrency => 2);
SELECT sqs_register_queue('known', server => 'aws', handler => 'handle');
SELECT sqs_register_queue('load', server => 'aws', handler => 'slowly', concurrency => 3);
SELECT sqs_register_queue('ordered.fifo', server => 'aws', handler => 'slowly', concurrency => 2);
EOQ

# A synchronous standby for the node, called by this name.
sub add_standby
{
	my ($node, $name) = @_;
	my $standby = PostgreSQL::Test::Cluster->new($name);

	$node->backup($name);
	$standby->init_from_backup($node, $name, has_streaming => 1);
	$standby->start;
	$node->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = '$name'");
	$node->reload;
	query_is($node, 'SELECT application_name, sync_state FROM pg_stat_replication', "$name|sync",
		"$name is a synchronous standby");
	return $standby;
}

sub no_workers
{
	my ($standby, $name) = @_;
	return is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'sqsbridge%'
		UNION ALL SELECT count(*) FROM sqs_stats_workers}), "0\n0", "$name: no workers on a standby");
}

my @nodes = ($primary);
my $standby = add_standby($primary, 'node1');
push @nodes, $standby;

# ---- a synchronous standby stalls

my $stopped;
END { kill('CONT', $stopped) if $stopped }

sub stall_counts
{
	my $s = $sqs->stats('stall');
	return join(' ', @$s{qw(sent received deleted expired_leases)});
}

my $n = 60;
$sqs->send_messages('stall', map { "before $_" } 1 .. $n);
$sqs->is_empty('stall', 'with the standby there, messages are deleted');
is(stall_counts(), "$n $n $n 0", "SQS's books say the same");

# its walreceiver is stopped: connected, but it flushes nothing any more
query_is($standby, q{SELECT status FROM pg_stat_wal_receiver}, 'streaming', 'the standby streams');
$stopped = $standby->safe_psql('postgres', 'SELECT pid FROM pg_stat_wal_receiver');
kill('STOP', $stopped);
$sqs->send_messages('stall', map { "stalled $_" } 1 .. $n);
query_is($primary, q{SELECT count(*) FROM got WHERE body LIKE 'stalled%'}, $n, 'while it stalls handlers go on');
query_is($primary, q{SELECT status, count(*) FROM sqs_stats_in_flight WHERE queue = 'stall' GROUP BY 1}, "finished|$n",
	'what they finish waits');
my $renewed = $sqs->stats('stall')->{visibility_changes};
poll_until(sub { $sqs->stats('stall')->{visibility_changes} >= $renewed + 2 * $n }, 'its leases are renewed, twice');
is(stall_counts(), 2 * $n . ' ' . 2 * $n . " $n 0", 'nothing is deleted, no lease runs out, nothing is handed out again');
is( $primary->safe_psql('postgres', q{SELECT state, last_error IS NULL, heartbeats >= } . 2 * $n . q{ FROM sqs_stats WHERE queue = 'stall'}),
	'polling|t|t', 'the queue is well');
no_workers($standby, 'stalled');

kill('CONT', $stopped);
$stopped = undef;
$sqs->is_empty('stall', 'when the standby goes on, the messages are deleted');
is(stall_counts(), 2 * $n . ' ' . 2 * $n . ' ' . 2 * $n . ' 0', 'each after one delivery');
$primary->wait_for_catchup($standby);
$sqs->books_agree('stall', $standby, 'the standby has what was deleted');

# it is away: no walreceiver at all
$standby->safe_psql('postgres', q{ALTER SYSTEM SET primary_conninfo = ''});
$standby->reload;
query_is($primary, 'SELECT count(*) FROM pg_stat_replication', '0', 'the standby is away');
$sqs->send_messages('stall', map { "away $_" } 1 .. $n);
query_is($primary, q{SELECT status, count(*) FROM sqs_stats_in_flight WHERE queue = 'stall' GROUP BY 1}, "finished|$n",
	'finished messages wait again');

# the server stops meanwhile: it does not wait for the standby
stop_ok($primary, 'a stop does not wait for the standby');
my $c = $sqs->counts('stall');
is("$c->{visible} $c->{in_flight}", "$n 0", 'what the standby has not got is given back');
$primary->start;
query_is($primary, q{SELECT duplicates, in_flight FROM sqs_stats WHERE queue = 'stall'}, "$n|$n",
	'after the start they come back, are known, and wait again');
my $calls = $sqs->calls('stall', 'ChangeMessageVisibilityBatch');
poll_until(sub { $sqs->calls('stall', 'ChangeMessageVisibilityBatch') > $calls }, 'leased');
is($sqs->stats('stall')->{deleted}, 2 * $n, 'nothing is deleted that the standby has not got');
$standby->safe_psql('postgres', q{ALTER SYSTEM RESET primary_conninfo});
$standby->reload;
$sqs->is_empty('stall', 'when it is back they are deleted');
is($primary->safe_psql('postgres', q{SELECT count(*), count(DISTINCT message_id) FROM got WHERE queue = 'stall'}),
	join('|', (3 * $n) x 2), 'each had its effect once');
$primary->wait_for_catchup($standby);
$sqs->books_agree('stall', $standby, 'the standby has what was deleted');

# ---- promoted, with messages that were handled and not deleted

my $fault = $sqs->fault(kind => 'error', action => 'DeleteMessageBatch', queue => 'known',
	status => 503, code => 'ServiceUnavailable');
$sqs->send_messages('known', map { "known $_" } 1 .. $n);
query_is($primary, q{SELECT count(*) FROM got WHERE queue = 'known'}, $n, 'messages are handled');
# (SQS's books do not count calls that a fault answers)
query_true($primary, q{SELECT delete_failures > 0 AND acked = 0 AND last_error LIKE 'DeleteMessageBatch: ServiceUnavailable:%'
	FROM sqs_stats WHERE queue = 'known'}, 'but SQS will not delete them, which the view says');
$primary->wait_for_catchup($standby);

my %sent = (load => 0, 'ordered.fifo' => 0);

foreach my $round (1 .. $rounds)
{
	my $name = "promotion $round";

	# under load
	my $done = $sqs->stats('load')->{deleted};
	foreach my $queue (keys %sent)
	{
		my $count = $queue eq 'load' ? $batch : $batch / 6;
		$sqs->fill($queue, $count, body => "$queue {i}", start => $sent{$queue} + 1,
			$queue =~ /fifo/ ? (groups => 5) : ());
		$sent{$queue} += $count;
	}
	my $goal = $done + 1 + int(rand(0.7 * $batch));
	poll_until(sub { $sqs->stats('load')->{deleted} >= $goal }, "$name: some work is done");
	no_workers($standby, $name);
	$primary->stop('immediate');
	note("stopped with " . $sqs->stats('load')->{deleted} . " of $sent{load} deleted");
	if ($round == 1)
	{
		is($sqs->stats('known')->{deleted}, 0, "$name: of the handled messages none is deleted");
		$sqs->clear_faults($fault);
		$sqs->advance(600);
	}

	$standby->promote;
	$sqs->books_agree($_, $standby, "$name: $_") foreach 'stall', 'known', keys %sent;
	query_is($standby, q{SELECT string_agg(kind || coalesce(' ' || queue, ''), ',' ORDER BY kind, queue) FROM sqs_stats_workers
			WHERE kind <> 'handler worker'},
		'database worker,launcher,' . join(',', map { "queue worker $_" } qw(known load ordered.fifo stall)),
		"$name: the workers start by themselves");
	if ($round == 1)
	{
		$sqs->is_empty('known', "$name: what was handled on the primary is deleted now");
		is( $standby->safe_psql('postgres', q{SELECT duplicates, received FROM sqs_stats WHERE queue = 'known'}),
			"$n|$n", "$name: as the inbox came along");
	}

	$primary = $standby;
	$standby = add_standby($primary, 'node' . ($round + 1));
	push @nodes, $standby;
}

foreach my $queue (sort keys %sent)
{
	$sqs->is_empty($queue, "$queue: all is done in the end", 120);
	$sqs->books_agree($queue, $primary, $queue);
	my $s = $sqs->stats($queue);
	is("$s->{sent} $s->{deleted}", "$sent{$queue} $sent{$queue}", "$queue: all sent, all deleted");
	is( $primary->safe_psql('postgres', "SELECT count(*), count(DISTINCT message_id) FROM got WHERE queue = '$queue'"),
		"$sent{$queue}|$sent{$queue}", "$queue: each message had its effect once");
}
is( $primary->safe_psql('postgres', q{SELECT count(*) FROM (SELECT sequence_number, lag(sequence_number) OVER (PARTITION BY group_id ORDER BY id) AS before
		FROM got WHERE queue = 'ordered.fifo') x WHERE sequence_number <= before}),
	'0', 'FIFO groups were handled in order through all of this');
is($primary->safe_psql('postgres', q{SELECT count(*) FROM got WHERE queue = 'known'}), $n, 'nothing known was handled again');
is($primary->safe_psql('postgres', 'SELECT count(*) FROM sqs_failures'), '0', 'no failures');

$primary->stop;
$standby->stop;
foreach my $node (@nodes)
{
	check_log(
		$node,
		qr/FATAL:  terminating walreceiver process due to administrator command/,
		qr/FATAL:  (?:streaming replication receiver "\w+" )?could not connect to the primary server/,
		qr/FATAL:  could not (?:receive data from|send end-of-streaming message to) /,
		qr/ERROR:  requested starting point .* is ahead of the WAL flush position/,
		qr/FATAL:  the database system is (?:starting up|not yet accepting|shutting down)/);
}
done_testing();
