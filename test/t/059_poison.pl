# A message that makes the server crash whenever it is handled: the server
# crashes three times at most, and all other messages are handled once.
use strict;
use warnings;

use File::Basename;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

# A crash is over when the messages that were in hand come back.
my @queues = ('poison,VisibilityTimeout=4', 'poison.fifo,VisibilityTimeout=4', 'innocent,VisibilityTimeout=4');
my $sqs = start_sqs(queues => \@queues);
my $node = new_node('main', conf => 'restart_after_crash = on');
my $library = PostgreSQL::Test::Utils::tempdir() . '/segfault';
eval {
	IPC::Run::run([ 'cc', '-shared', '-fPIC', '-I', $node->config_data('--includedir-server'), '-o', "$library.so",
		dirname(__FILE__) . '/../lib/segfault.c' ], '>', "$library.log", '2>&1');
} or plan skip_all => 'no compiler';
setup_database($node, $sqs);
$node->safe_psql('postgres', <<EOQ);
CREATE TABLE done (queue text, body text);
CREATE FUNCTION segfault() RETURNS void AS '$library', 'segfault' LANGUAGE c;
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
  INSERT INTO done VALUES (m.queue, m.body);
  IF m.body = 'crash' THEN
    PERFORM segfault();
  END IF;
END \$\$;
EOQ

sub crashes
{
	my @lines = slurp_file($node->logfile) =~ /was terminated by signal 11/g;
	return scalar @lines;
}

# The server may just be starting.
sub done_with
{
	my ($queue, $n, $what) = @_;
	poll_until(sub {
			my ($code, $out) = $node->psql('postgres',
				"SELECT (SELECT count(*) FROM done WHERE queue = '$queue') || '/' || (SELECT count(*) FROM sqs_dead_letters WHERE queue = '$queue')");
			return $code == 0 && $out eq "$n/1";
		}, $what, 120);
}

for my $queue ('poison', 'poison.fifo')
{
	my $fifo = $queue =~ /fifo/;
	my $before = crashes();
	my @bodies = map { $_ == 50 ? 'crash' : "$_" } 1 .. 300;

	$node->safe_psql('postgres', "SELECT sqs_register_queue('$queue', server => 'aws', handler => 'handle', concurrency => 4, dead_letter => 'none', enabled => false)");
	$sqs->send_messages($queue,
		map { $fifo ? +{ MessageBody => $bodies[$_], MessageGroupId => 'g' . $_ % 7, MessageDeduplicationId => "d$_" } : $bodies[$_] } 0 .. $#bodies);
	$node->safe_psql('postgres', "SELECT sqs_enable_queue('$queue')");
	done_with($queue, 299, "$queue: all messages but one are handled, and that one is a dead letter");
	is($node->safe_psql('postgres', "SELECT reason, sqlstate, body FROM sqs_dead_letters WHERE queue = '$queue'"), 'crash|SQ103|crash',
		"$queue: the one that makes the server crash, although the queue has no dead letters");
	is($node->safe_psql('postgres', "SELECT count(DISTINCT body) FROM done WHERE queue = '$queue'"), '299', "$queue: none twice");
	my $n = crashes() - $before;
	ok($n >= 1 && $n <= 3, "$queue: after three crashes at most") or diag $n;
	$sqs->is_empty($queue);
	query_is($node, 'SELECT count(*) FROM sqsbridge_internal.attempts', '0', "$queue: nothing is suspected any more");
	$node->safe_psql('postgres', "SELECT sqs_unregister_queue('$queue')");
}

# Who stops the server in a hurry, again and again, does not condemn a message
# that has nothing to do with it.
$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION slow(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO done VALUES (m.queue, m.body);
  IF m.receive_count < 4 THEN
    PERFORM pg_sleep(3600);
  END IF;
END $$;
SELECT sqs_register_queue('innocent', server => 'aws', handler => 'slow');
EOQ
my ($id) = $sqs->send_messages('innocent', 'innocent');
for my $stop (1 .. 3)
{
	query_is($node, "SELECT count(*) FROM sqs_stats_in_flight WHERE message_id = '$id' AND receive_count = $stop AND status = 'running'", '1', "it runs, $stop");
	if ($stop == 2)
	{
		$node->restart;			# fast: an orderly one clears its mark
	}
	else
	{
		$node->stop('immediate');
		$node->start;
	}
}
query_is($node, "SELECT count(*) FROM done WHERE queue = 'innocent'", '1', 'a message that was only there is handled in the end', 60);
is($node->safe_psql('postgres', "SELECT count(*) FROM sqs_dead_letters WHERE queue = 'innocent'"), '0', 'and no dead letter');

$node->stop;
check_log($node, qr/was terminated by signal 11|all server processes terminated|terminating (any other active|connection because of crash)|exited with exit code 2/,
	qr/database system (was|is)|automatic recovery|redo |invalid record length|Failed process was running|issuing SIGQUIT|the database system is in recovery mode/,
	qr/received immediate shutdown request|WARNING:  terminating connection/);
done_testing();
