# Processes are killed at random moments, under load: the postmaster, and each
# kind of worker.  Nothing that was deleted in SQS is missing, nothing has its
# effect twice, and all comes back by itself.  A worker that is asked to leave
# takes nobody with it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsLoad;
use SqsTest;

need_sqsd();

my $rounds = $ENV{SQSBRIDGE_LONG} ? 20 : 3;
my $batch = 1200;
my $seed = $ENV{SQSBRIDGE_SEED} || (time() ^ $$) % 1_000_000;
srand($seed);
note("SQSBRIDGE_SEED=$seed");

my @queues = SqsLoad::queues();
my $sqs = start_sqs(queues => [ map { "$_,VisibilityTimeout=3" } @queues ]);

# A slow WAL writer, so that a crash takes what nobody has flushed.
my $node = new_node('main', conf => <<'EOC');
wal_writer_delay = 10s
restart_after_crash = on
EOC

setup_database($node, $sqs);
my $load = SqsLoad->new($sqs, $node);

# On a slow machine the work may be over before a process is found at it.
sub keep_busy
{
	$load->feed($batch) if $load->deleted == $load->total;
	return;
}

# ---- kill -9 of the postmaster

foreach my $round (1 .. $rounds)
{
	my $name = "round $round";

	$load->feed($batch);
	$load->wait_for_some_work($name);
	my $pid = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
	$node->kill9;
	poll_until(sub { !SqsTest::server_processes($node) && !kill(0, $pid) }, "$name: all processes are gone");
	note("killed with " . $load->deleted . " of " . $load->total . " deleted");
	$node->start;
	$load->all_agree($name);
}
$load->all_done('postmaster killed');

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

my @kinds = ('handler worker', 'queue worker load', 'database worker', 'launcher');

foreach my $round (1 .. $rounds / 3)
{
	foreach my $kind (@kinds)
	{
		my $name = "kill -9 of the $kind, $round";
		my $before = $load->crashes;

		$load->feed($batch);
		my $victim = find_victim($kind, $name);
		$load->wait_for_some_work($name);
		my $pid = $victim->{all}{ $victim->{key} }{pid};
		kill('KILL', $pid);
		poll_until(sub { $load->crashes > $before }, "$name: takes the server down");
		is($load->crashes, $before + 1, "$name: once");
		query_is($node, 'SELECT true', 't', "$name: the server is back");
		$load->all_agree($name);
		poll_until(
			sub {
				my $now = workers();
				!grep { !$now->{$_} } 'launcher', 'database worker', map { "queue worker $_" } @queues;
			},
			"$name: all workers are back");
	}
	$load->all_done("workers killed, $round");
}

# ---- the same, asked to leave

my $crashes = $load->crashes;
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

foreach my $round (1 .. $rounds / 3)
{
	foreach my $kind (@kinds)
	{
		my $name = "SIGTERM for the $kind, $round";

		$load->feed($batch);
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
		$load->all_agree($name);
	}
	$load->all_done("workers terminated, $round");
}
is($load->crashes, $crashes, 'nobody who was asked to leave took the server down');
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $started, 'nor was it restarted');

# ---- in sum

$load->in_order;
foreach my $queue (@queues)
{
	my $s = $sqs->stats($queue);
	is("$s->{sent} $s->{deleted}", "$load->{sent}{$queue} $load->{sent}{$queue}", "SQS's books of $queue: all sent, all deleted");
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
