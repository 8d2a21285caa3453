# The server is killed in the middle of the work: no message is lost and none
# has its effect twice.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;
use Time::HiRes qw(usleep);

need_sqsd();

my $sqs = start_sqs(queues => ['load,VisibilityTimeout=3', 'noop,VisibilityTimeout=3']);
# a slow WAL writer, so that what nobody flushes is lost in a crash
my $node = new_node('main', conf => "wal_writer_delay = 10s\nfsync = off\n");
my $messages = 2000;

setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE ROLE worker LOGIN;
ALTER ROLE worker SET synchronous_commit = off;
GRANT CREATE ON SCHEMA public TO worker;
GRANT USAGE ON FOREIGN SERVER aws TO worker;
SET SESSION AUTHORIZATION worker;
CREATE TABLE got (body text, message_id text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.body, m.message_id);
  PERFORM pg_sleep(0.002);
END $$;
CREATE FUNCTION do_nothing(m sqs_message) RETURNS void LANGUAGE sql AS $$ SELECT $$;
SELECT sqs_register_queue('load', server => 'aws', handler => 'handle', concurrency => 4);
SELECT sqs_register_queue('noop', server => 'aws', handler => 'do_nothing', concurrency => 2);
EOQ

foreach my $round (1 .. 2)
{
	my $first = ($round - 1) * $messages + 1;
	my $gone = $sqs->stats('load')->{deleted};

	$sqs->fill('load', $messages, start => $first);
	$sqs->fill('noop', 100, start => ($round - 1) * 100 + 1);

	# kill it when part of the work is done: all of it at once, so that no
	# worker gets to tidy up
	poll_until(sub { $sqs->stats('load')->{deleted} > $gone + 100 * $round }, "round $round: it works");
	my $pid = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
	# its children notice and leave, handlers perhaps before their queue worker:
	# it must not take that for a failure
	my @queue_workers = split /\n/, $node->safe_psql('postgres', q{SELECT pid FROM sqs_stats_workers WHERE kind = 'queue worker'});
	kill('STOP', @queue_workers);
	$node->kill9;
	poll_until(sub { @{ processes($node) } <= @queue_workers }, "round $round: handlers are gone");
	kill('CONT', @queue_workers);
	poll_until(sub { !@{ processes($node) } }, "round $round: all processes are gone");
	poll_until(sub { !kill(0, $pid) }, "round $round: the postmaster is reaped");

	my $deleted = $sqs->stats('load')->{deleted};
	my $held = $sqs->stats('load');
	note("killed with $deleted deleted, $held->{in_flight} in flight");
	cmp_ok($deleted, '<', $round * $messages, "round $round: it was killed in the middle of the work");

	$node->start;
	is($node->safe_psql('postgres', "SELECT count(*) >= $deleted FROM got"), 't',
		"round $round: what SQS was told to delete is in the table");
	# the books of SQS say which these are
	my %deleted = map { ($_->{id} || $_->{message_id}) => 1 } @{ $sqs->messages('load', 'deleted') };
	my %rows = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', 'SELECT message_id FROM got');
	my @lost = grep { !$rows{$_} } keys %deleted;
	is(scalar(@lost), 0, "round $round: no message is deleted that has no row") or diag("@lost");

	$sqs->is_empty('load', "round $round: after the restart the work goes on by itself", 120);
	$sqs->is_empty('noop', "round $round: so it does where handlers do nothing");
	is( $node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT body) FROM got'),
		join('|', ($round * $messages) x 2), "round $round: each message had its effect once");
}

my $s = $sqs->stats('load');
is("$s->{sent} $s->{deleted}", (2 * $messages) . ' ' . (2 * $messages), "SQS's books: all sent, all deleted");
is( $node->safe_psql('postgres', q{SELECT count(*) FROM sqsbridge_internal.inbox JOIN sqs_queues USING (queue_id) WHERE name = 'noop'}),
	'200', 'messages of handlers that do nothing are recorded too');
is($node->safe_psql('postgres', 'SELECT queue, receive_count, message FROM sqs_failures'), '', 'no failures');

$node->stop;
check_log($node, qr/the database system is (?:starting up|not yet accepting|in recovery)/, qr/terminating connection/);
done_testing();

# Processes of the server's data directory, from /proc.
sub processes
{
	my ($n) = @_;
	my $dir = $n->data_dir;
	my @pids;
	foreach my $entry (glob('/proc/[0-9]*'))
	{
		my $cwd = readlink("$entry/cwd");
		push @pids, substr($entry, 6) if defined $cwd && $cwd eq $dir;
	}
	return \@pids;
}
