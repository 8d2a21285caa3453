# Processes are killed at random moments, under load: the postmaster, and each
# kind of worker.  Nothing that was deleted in SQS is missing, nothing has its
# effect twice, and all comes back by itself.  A worker that is asked to leave
# takes nobody with it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $rounds = $ENV{SQSBRIDGE_LONG} ? 20 : 3;
my $batch = 1200;
my $seed = $ENV{SQSBRIDGE_SEED} || (time() ^ $$) % 1_000_000;
srand($seed);
note("SQSBRIDGE_SEED=$seed");

my @queues = ('load', 'other', 'ordered.fifo');
my %sent = map { $_ => 0 } @queues;
my $sqs = start_sqs(queues => [ map { "$_,VisibilityTimeout=3" } @queues ]);

# A slow WAL writer, so that a crash takes what nobody has flushed.
my $node = new_node('main', conf => <<'EOC');
wal_writer_delay = 10s
restart_after_crash = on
EOC

setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE ROLE worker LOGIN;
ALTER ROLE worker SET synchronous_commit = off;
GRANT CREATE ON SCHEMA public TO worker;
GRANT USAGE ON FOREIGN SERVER aws TO worker;
SET SESSION AUTHORIZATION worker;
CREATE TABLE got (id bigserial, queue text, message_id text, body text, group_id text, sequence_number numeric);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got (queue, message_id, body, group_id, sequence_number)
  VALUES (m.queue, m.message_id, m.body, m.group_id, m.sequence_number);
  PERFORM pg_sleep(0.002);
END $$;
SELECT sqs_register_queue('load', server => 'aws', handler => 'handle', concurrency => 3);
SELECT sqs_register_queue('other', server => 'aws', handler => 'handle');
SELECT sqs_register_queue('ordered.fifo', server => 'aws', handler => 'handle', concurrency => 2);
EOQ

sub feed
{
	my ($load) = @_;
	my %count = (load => $load, other => int($load / 4), 'ordered.fifo' => int($load / 8));

	foreach my $queue (@queues)
	{
		$sqs->fill($queue, $count{$queue}, body => "$queue {i}", start => $sent{$queue} + 1,
			$queue =~ /fifo/ ? (groups => 7) : ());
		$sent{$queue} += $count{$queue};
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

# On a slow machine the work may be over before a process is found at it.
sub keep_busy
{
	feed($batch) if deleted() == total();
	return;
}

sub total
{
	my $n = 0;
	$n += $sent{$_} foreach @queues;
	return $n;
}

# Some of the work that there is, from nothing to nearly all of it, is done.
sub wait_for_some_work
{
	my ($name) = @_;
	my $done = deleted();
	my $goal = $done + int(rand(0.8) * (total() - $done));
	poll_until(sub { deleted() >= $goal }, "$name: $goal messages are done");
	return;
}

sub all_agree
{
	my ($name) = @_;
	$sqs->books_agree($_, $node, "$name: $_") foreach @queues;
	return;
}

sub all_done
{
	my ($name) = @_;
	$sqs->is_empty($_, "$name: all of $_ is done", 120) foreach @queues;
	all_agree($name);
	is( $node->safe_psql('postgres', 'SELECT queue, count(*), count(DISTINCT body) FROM got GROUP BY 1 ORDER BY 1'),
		join("\n", map { "$_|$sent{$_}|$sent{$_}" } sort @queues),
		"$name: each message had its effect once");
	return;
}

# ---- kill -9 of the postmaster

foreach my $round (1 .. $rounds)
{
	my $name = "round $round";

	feed($batch);
	wait_for_some_work($name);
	my $pid = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
	$node->kill9;
	poll_until(sub { !SqsTest::server_processes($node) && !kill(0, $pid) }, "$name: all processes are gone");
	note("killed with " . deleted() . " of " . total() . " deleted");
	$node->start;
	all_agree($name);
}
all_done('postmaster killed');

# ---- workers

# by kind and, of queue workers, queue
sub workers
{
	my (undef, $out, $err) = try_psql($node, 'postgres', q{SELECT CASE kind WHEN 'queue worker' THEN kind || ' ' || queue
			WHEN 'handler worker' THEN kind || ' ' || pid ELSE kind END, pid, queue
		FROM sqs_stats_workers});
	my %worker;

	return {} if ($err || '') ne '' || !defined $out;
	foreach (split /\n/, $out)
	{
		my ($key, $pid, $queue) = split /\|/;
		$worker{$key} = { pid => $pid, queue => $queue };
	}
	return \%worker;
}

# The victim's key, once it is there; of handler workers one that is busy.
sub find_victim
{
	my ($kind, $name) = @_;
	my $found;

	poll_until(
		sub {
			keep_busy();
			my $now = workers();
			my @keys = grep { $kind ne 'handler worker' ? $_ eq $kind : /^handler worker/ && $now->{$_}{queue} eq 'load' }
			  sort keys %$now;
			# all are at work that should be
			return unless @keys && grep({ /^queue worker/ } keys %$now) == 3 && grep({ /^handler worker/ } keys %$now) >= 4;
			$found = { key => $keys[ rand @keys ], all => $now };
		},
		"$name: there is one, and the others work");
	return $found;
}

sub crashes
{
	my $n = () = log_text($node) =~ /all server processes terminated; reinitializing/g;
	return $n;
}

my @kinds = ('handler worker', 'queue worker load', 'database worker', 'launcher');

foreach my $round (1 .. $rounds / 3)
{
	foreach my $kind (@kinds)
	{
		my $name = "kill -9 of the $kind, $round";
		my $before = crashes();

		feed($batch);
		my $victim = find_victim($kind, $name);
		wait_for_some_work($name);
		my $pid = $victim->{all}{ $victim->{key} }{pid};
		kill('KILL', $pid);
		poll_until(sub { crashes() > $before }, "$name: takes the server down");
		is(crashes(), $before + 1, "$name: once");
		query_is($node, 'SELECT true', 't', "$name: the server is back");
		all_agree($name);
		poll_until(
			sub {
				my $now = workers();
				!grep { !$now->{$_} } 'launcher', 'database worker', map { "queue worker $_" } @queues;
			},
			"$name: all workers are back");
	}
	all_done("workers killed, $round");
}

# ---- the same, asked to leave

my $crashes = crashes();
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

foreach my $round (1 .. $rounds / 3)
{
	foreach my $kind (@kinds)
	{
		my $name = "SIGTERM for the $kind, $round";

		feed($batch);
		my $victim = find_victim($kind, $name);
		my $before = $victim->{all};
		my $pid = $before->{ $victim->{key} }{pid};
		kill('TERM', $pid);
		poll_until(sub { my $now = workers(); %$now && !grep { $_->{pid} == $pid } values %$now }, "$name: it leaves");

		# a queue worker's handlers go with it, nobody else
		my $after;
		poll_until(
			sub {
				keep_busy();
				my $now = workers();
				$after = $now;
				return $kind eq 'handler worker'
				  ? grep({ /^handler worker/ && $now->{$_}{queue} eq 'load' } keys %$now) >= 3
				  : $now->{ $victim->{key} };
			},
			"$name: another one is there");
		my @gone = grep { !$after->{$_} || $after->{$_}{pid} != $before->{$_}{pid} } sort keys %$before;
		my @meant = $victim->{key};
		push @meant, grep { /^handler worker/ && $before->{$_}{queue} eq 'load' } keys %$before
		  if $kind =~ /^queue worker/;
		is(join(', ', @gone), join(', ', sort @meant), "$name: the others are the same");
		all_agree($name);
	}
	all_done("workers terminated, $round");
}
is(crashes(), $crashes, 'nobody who was asked to leave took the server down');
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $started, 'nor was it restarted');

# ---- in sum

is( $node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT sequence_number, lag(sequence_number) OVER (PARTITION BY group_id ORDER BY id) AS before
		FROM got WHERE queue = 'ordered.fifo') x WHERE sequence_number <= before}),
	'0', 'FIFO groups were handled in order through all of this');
foreach my $queue (@queues)
{
	my $s = $sqs->stats($queue);
	is("$s->{sent} $s->{deleted}", "$sent{$queue} $sent{$queue}", "SQS's books of $queue: all sent, all deleted");
}
# the one handler worker that was terminated may have been at a message
is( $node->safe_psql('postgres', q{SELECT count(*) FROM sqs_failures
		WHERE sqlstate <> '57P01'}), '0', 'no failures, save of a message whose handler was terminated');

$node->stop;
check_log(
	$node,
	qr/FATAL:  the database system is (?:starting up|not yet accepting|in recovery)/,
	qr/terminating connection/,
	qr/background worker "sqsbridge [a-z ]+" \(PID \d+\) was terminated by signal 9: Killed/,
	qr/background worker "sqsbridge handler worker" \(PID \d+\) exited with exit code 1/,
	qr/terminating background worker "sqsbridge handler worker/);
done_testing();
