# Processes are killed at random moments while messages become dead letters: each
# message has its effect or is a dead letter, never both, and once; none is lost.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $rounds = $ENV{SQSBRIDGE_LONG} ? 20 : 3;
my $seed = $ENV{SQSBRIDGE_SEED} || (time() ^ $$) % 1_000_000;
srand($seed);
note("SQSBRIDGE_SEED=$seed");

my @queues = ('load', 'careless', 'ordered.fifo', 'parking.fifo');
my $sqs = start_sqs(queues => [ map { "$_,VisibilityTimeout=3" } @queues ]);

# A slow WAL writer, so that a crash takes what nobody has flushed.
my $node = new_node('main', conf => "wal_writer_delay = 10s\nrestart_after_crash = on\n");
setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE ROLE worker LOGIN;
ALTER ROLE worker SET synchronous_commit = off;
GRANT CREATE ON SCHEMA public TO worker;
GRANT USAGE ON FOREIGN SERVER aws TO worker;
SET SESSION AUTHORIZATION worker;
CREATE TABLE got (n bigserial, queue text, message_id text, body text, group_id text, sequence_number numeric);
-- of ten messages, one fails always, one does so once, and one gives up
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got (queue, message_id, body, group_id, sequence_number)
  VALUES (m.queue, m.message_id, m.body, m.group_id, m.sequence_number);
  IF m.body LIKE '%3' OR (m.body LIKE '%5' AND m.attempt = 1) THEN
    RAISE 'bad';
  ELSIF m.body LIKE '%7' THEN
    PERFORM sqs_dead_letter();
  END IF;
END $$;
SELECT sqs_register_queue('load', server => 'aws', handler => 'handle', concurrency => 3, max_attempts => 2, retry_delay => '0');
SELECT sqs_register_queue('careless', server => 'aws', handler => 'handle', max_attempts => 2, retry_delay => '0', exactly_once => false);
SELECT sqs_register_queue('ordered.fifo', server => 'aws', handler => 'handle', concurrency => 2, max_attempts => 2, retry_delay => '0');
SELECT sqs_register_queue('parking.fifo', server => 'aws', handler => 'handle', concurrency => 2, max_attempts => 2, retry_delay => '0',
	on_dead_letter => 'park_group');
EOQ

my %sent = map { $_ => 0 } @queues;
my %batch = (load => 600, careless => 100, 'ordered.fifo' => 100, 'parking.fifo' => 100);

sub feed
{
	foreach my $queue (@queues)
	{
		$sqs->fill($queue, $batch{$queue}, body => "$queue {i}", start => $sent{$queue} + 1, $queue =~ /fifo/ ? (groups => 40) : ());
		$sent{$queue} += $batch{$queue};
	}
	return;
}

sub deleted
{
	my $all = $sqs->stats->{queues};
	my $n = 0;
	$n += $all->{$_}{deleted} foreach @queues;
	return $n;
}

# a dead letter is an end like any other
sub ends
{
	my ($queue) = @_;
	return "SELECT message_id, md5(body) FROM got WHERE queue = '$queue'
		UNION ALL SELECT message_id, md5(body) FROM sqs_dead_letters WHERE queue = '$queue'";
}

sub all_agree
{
	my ($name) = @_;
	foreach my $queue (@queues)
	{
		if ($queue eq 'careless')
		{
			# its messages may have their effects twice, but have one dead letter
			is($node->safe_psql('postgres', "SELECT count(*) - count(DISTINCT message_id) FROM sqs_dead_letters WHERE queue = '$queue'"),
				'0', "$name: $queue: no second dead letter");
			next;
		}
		$sqs->books_agree($queue, $node, "$name: $queue", ends($queue));
	}
	return;
}

foreach my $round (1 .. $rounds)
{
	foreach my $victim ('postmaster', 'handler worker', 'queue worker')
	{
		my $name = "round $round, $victim";
		my $before = deleted();

		feed();
		poll_until(sub { deleted() > $before + rand(200) }, "$name: work is under way");
		my $pid = $victim eq 'postmaster' ? (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0] :
		  $node->safe_psql('postgres', "SELECT pid FROM sqs_stats_workers WHERE kind = '$victim' ORDER BY random() LIMIT 1");
		if ($victim eq 'postmaster')
		{
			$node->kill9;
			poll_until(sub { !SqsTest::server_processes($node) && !kill(0, $pid) }, "$name: all processes are gone");
			$node->start;
		}
		elsif ($pid)
		{
			kill('KILL', $pid);
		}
		query_is($node, 'SELECT true', 't', "$name: the server is back");
		all_agree($name);
	}
}

# ---- in the end

$sqs->is_empty($_, undef, 180) foreach @queues;
all_agree('in the end');
foreach my $queue (grep { $_ ne 'careless' } @queues)
{
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT message_id) FROM (" . ends($queue) . ') x'), "$sent{$queue}|$sent{$queue}",
		"$queue: each message has one end");
}
# (a handler worker that is killed has failed with its message)
query_true($node, "NOT EXISTS (SELECT FROM got WHERE body ~ '[37]\$')", 'what fails has no effect');
is($node->safe_psql('postgres', "SELECT count(*) FROM sqs_dead_letters WHERE queue <> 'parking.fifo' AND body ~ '[12468]\$' AND sqlstate NOT IN ('SQ103', '57P01')"), '0',
	'and what does not is no dead letter');
is($node->safe_psql('postgres', <<'EOQ'), '0', 'parking.fifo: what follows a dead letter in its group is not handled');
SELECT count(*) FROM got g JOIN sqs_dead_letters d USING (queue, group_id)
WHERE queue = 'parking.fifo' AND d.state = 'dead' AND g.sequence_number > d.sequence_number
EOQ
is($node->safe_psql('postgres', <<'EOQ'), '0', 'parking.fifo: a group has one dead letter, the others are parked');
SELECT count(*) FROM (SELECT group_id FROM sqs_dead_letters WHERE queue = 'parking.fifo' AND state = 'dead' GROUP BY 1 HAVING count(*) > 1) x
EOQ
is($node->safe_psql('postgres', <<'EOQ'), '0', 'FIFO: what is handled is handled in order');
SELECT count(*) FROM (SELECT sequence_number < lag(sequence_number) OVER (PARTITION BY queue, group_id ORDER BY n) AS early
	FROM got WHERE queue LIKE '%fifo') x WHERE early
EOQ

$node->stop;
check_log($node, qr/ERROR:  bad/, qr/the handler called sqs_dead_letter/, qr/terminat|crash|killed|exited with exit code|interrupted|immediate/,
	qr/the database system is|recovery/, qr/\] 058_dead_letters_kill\.pl /);
$sqs->stop_sqs;
done_testing();
