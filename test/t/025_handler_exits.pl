# Signals, cancels and failures at every moment of a handler worker's life, its
# start and its end above all: no process is brought down by them that should
# not be, and no message suffers.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);
use SqsTest;

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};
my $seed = $ENV{SQSBRIDGE_SEED} || (int(time()) ^ $$) % 1_000_000;
srand($seed);
note("SQSBRIDGE_SEED=$seed");

my $sqs = start_sqs(queues =>
	  [ 'ticker', 'brief,VisibilityTimeout=20', 'canceled,VisibilityTimeout=20', 'litter,VisibilityTimeout=60', 'memory,VisibilityTimeout=2' ]);
my $node = new_node('main',
	conf => "sqsbridge.handler_idle_timeout = 1ms\nmax_locks_per_transaction = 256\ndynamic_shared_memory_type = mmap\n");

setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (queue text, message_id text, body text, receive_count int, pid int);
CREATE FUNCTION store(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got VALUES (m.queue, m.message_id, m.body, m.receive_count, pg_backend_pid()) $$;
SELECT sqs_register_queue('brief', server => 'aws', handler => 'store', concurrency => 8, retry_delay => '0 s');
EOQ

# Processes of the server's whose title contains the text.  They do not live
# long: where the kernel tells the postmaster's children, no others are looked at.
sub pids
{
	my ($title) = @_;
	my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
	my (@all, @pids);

	if (open(my $file, '<', "/proc/$postmaster/task/$postmaster/children"))
	{
		@all = split ' ', <$file> // '';
		close($file);
	}
	foreach my $pid (@all ? @all : SqsTest::server_processes($node))
	{
		open(my $file, '<', "/proc/$pid/cmdline") or next;
		my $line = <$file>;
		close($file);
		push @pids, $pid if defined $line && $line =~ /\Q$title\E/;
	}
	return @pids;
}

sub crashes
{
	my $n = () = log_text($node) =~ /was terminated by signal|all server processes terminated/g;
	return $n;
}

my $queue_worker = q{SELECT pid FROM sqs_stats_workers WHERE kind = 'queue worker' AND queue = };

# ---- SIGTERM at random moments to handlers that come and go

my $sent = 0;

# More messages, so that handlers come, if there are none.
sub keep_busy
{
	my ($n) = @_;
	return if grep { $_ } @{ $sqs->counts('brief') }{qw(visible in_flight)};
	$sqs->fill('brief', $n, body => 'brief {i}', start => $sent + 1);
	$sent += $n;
	return;
}

my $signals = 0;
my $goal = $long ? 3000 : 300;
my $until = time() + ($long ? 10_000 : 1_500);
while ($signals < $goal && time() < $until)
{
	my @handlers = pids('sqsbridge handler worker');
	if (!@handlers)
	{
		keep_busy(4);
		usleep(500);
	}
	foreach my $pid (@handlers)
	{
		usleep(rand(2000));
		# some twice: the second is PostgreSQL's own die()
		$signals += kill('TERM', $pid);
		kill('TERM', $pid) if rand() < 0.2;
	}
}
cmp_ok($signals, '>=', $goal, 'handlers that come and go were sent SIGTERM');
is(crashes(), 0, 'none of them crashed');
$sqs->is_empty('brief', 'all their messages are done');
$sqs->books_agree('brief', $node, 'SIGTERM');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT body) FROM got'), "$sent|$sent",
	'each had its effect once');

# ---- fast stops while handlers leave

$node->append_conf('postgresql.conf', 'sqsbridge.handler_idle_timeout = 50ms');
$node->reload;
foreach my $round (1 .. $long ? 200 : 8)
{
	# they may have come and gone between two looks
	poll_until(sub { keep_busy(24); pids('sqsbridge handler worker') >= 2 }, "stop $round: handlers are there")
	  or last;
	usleep(rand(120_000));
	$node->stop('fast');
	$node->start;
}
is(crashes(), 0, 'fast stops while handlers leave: no crash');
$sqs->is_empty('brief', 'and all messages are done');
$sqs->books_agree('brief', $node, 'fast stops');

# ---- cancels

$node->safe_psql('postgres',
	q{SELECT sqs_register_queue('canceled', server => 'aws', handler => 'store', concurrency => 3, retry_delay => '0 s')});
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'canceled'}, 'polling', 'a queue whose workers are canceled');
my $pid = $node->safe_psql('postgres', "$queue_worker 'canceled'");
my $cancels = $long ? 2000 : 200;
$sqs->fill('canceled', 2000, body => 'c {i}');
$node->safe_psql('postgres', <<"EOQ", timeout => 180);
DO \$\$
BEGIN
  FOR i IN 1 .. $cancels LOOP
    PERFORM pg_cancel_backend(pid) FROM sqs_stats_workers
      WHERE queue = 'canceled' AND kind IN ('queue worker', 'handler worker');
    PERFORM sqs_alter_queue('canceled', batch_size => 1 + i % 10) WHERE i % 20 = 0;
    PERFORM pg_sleep(0.005 * random());
  END LOOP;
END \$\$
EOQ
$sqs->is_empty('canceled', 'all its messages are done');
$sqs->books_agree('canceled', $node, 'canceled');
is($node->safe_psql('postgres', "$queue_worker 'canceled'"), $pid, 'its queue worker is the one it was');
is($node->safe_psql('postgres', q{SELECT count(*) FROM sqs_failures
	WHERE message !~ 'canceling statement due to user request'}), '0', 'what failed was canceled');
is(crashes(), 0, 'no crash');

# ---- what is committed is not recorded as failed

# Cleaning up behind this takes a while; the second SIGTERM ends the process in
# the midst of it.
$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION litters(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1 .. 1000 LOOP
    EXECUTE format('CREATE TEMP TABLE litter%s (i int)', i);
  END LOOP;
  INSERT INTO got VALUES (m.queue, m.message_id, m.body, m.receive_count, pg_backend_pid());
END $$;
SELECT sqs_register_queue('litter', server => 'aws', handler => 'litters');
EOQ
my $offset = -s $node->logfile;
foreach my $round (1 .. 3)
{
	$sqs->send_messages('litter', $round);
	$node->safe_psql('postgres', <<"EOQ", timeout => 120);
DO \$\$
DECLARE
  p int;
BEGIN
  LOOP
    SELECT pid INTO p FROM got WHERE queue = 'litter' AND body = '$round';
    EXIT WHEN FOUND;
    PERFORM pg_sleep(0.001);
  END LOOP;
  PERFORM pg_terminate_backend(p);
  PERFORM pg_sleep(0.06);
  PERFORM pg_terminate_backend(p);
END \$\$
EOQ
	$sqs->is_empty('litter', "message $round, whose process is ended right after its commit, is deleted");
}
like(log_text($node, $offset), qr/FATAL:  terminating background worker "sqsbridge handler worker"/,
	'at least one was ended as it cleaned up');
query_is($node, q{SELECT acked, failed, duplicates FROM sqs_stats WHERE queue = 'litter'}, '3|0|0',
	'none of them failed or came again');

# ---- no shared memory

my $dir = $node->data_dir . '/pg_dynshmem';
$node->safe_psql('postgres', q{SELECT sqs_register_queue('ticker', server => 'aws', handler => 'store', wait_time => '1 s');
	SELECT sqs_register_queue('memory', server => 'aws', handler => 'store', wait_time => '1 s')});
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'memory'}, 'polling', 'a queue polls');
query_is($node, q{SELECT count(*) FROM sqs_stats_workers WHERE kind = 'handler worker'}, '0', 'no handler is there');
$pid = $node->safe_psql('postgres', "$queue_worker 'memory'");
chmod(0500, $dir) or die "chmod: $!";
$sqs->send_messages('memory', 'starved');
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'memory'}, 'error', 'none can be started without shared memory');
like($node->safe_psql('postgres', q{SELECT last_error FROM sqs_stats WHERE queue = 'memory'}),
	qr/^a handler worker could not be started: could not open shared memory segment/, 'last_error says why');
query_true($node, q{SELECT heartbeats >= 4 FROM sqs_stats WHERE queue = 'memory'}, 'the lease is renewed for longer than it was');
chmod(0700, $dir);
query_is($node, q{SELECT body, receive_count FROM got WHERE queue = 'memory'}, 'starved|1',
	'when there is memory again the message is handled, at its first receipt');
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'memory'}, 'polling', 'and the queue polls');
is($node->safe_psql('postgres', "$queue_worker 'memory'"), $pid, 'its queue worker is the one it was');

# nor for the queue worker
$node->safe_psql('postgres', q{SELECT sqs_disable_queue('memory')});
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'memory'}, 'disabled', 'disabled');
chmod(0500, $dir);
$node->safe_psql('postgres', q{SELECT sqs_enable_queue('memory')});
query_true($node, q{SELECT last_error ~ '^the queue worker could not start: could not open shared memory' FROM sqs_stats WHERE queue = 'memory'},
	'the queue worker itself has no shared memory: last_error says so');
chmod(0700, $dir);
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'memory'}, 'polling', 'and it is started when there is');

# ---- a queue worker that leaves in the middle of everything

SKIP:
{
	skip 'needs gdb', 5 if system('gdb --version >/dev/null 2>&1') != 0;
	$sqs->create_queue('orphans', VisibilityTimeout => '10');
	$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE gate (open boolean);
CREATE FUNCTION wait_at_gate(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  WHILE NOT EXISTS (SELECT FROM gate) LOOP
    PERFORM pg_sleep(0.02);
  END LOOP;
  PERFORM store(m);
END $$;
SELECT sqs_register_queue('orphans', server => 'aws', handler => 'wait_at_gate', concurrency => 3, wait_time => '1 s');
EOQ
	my $handlers = q{SELECT string_agg(pid::text, ',' ORDER BY pid) FROM sqs_stats_workers WHERE kind = 'handler worker' AND queue = 'orphans'};
	$sqs->fill('orphans', 10, body => 'orphan {i}');
	query_true($node, q{(SELECT count(*) = 3 FROM sqs_stats_in_flight WHERE queue = 'orphans' AND status = 'running')}, 'handlers are busy');
	my $pids = $node->safe_psql('postgres', $handlers);
	my $worker = $node->safe_psql('postgres', "$queue_worker 'orphans'");
	system("gdb -p $worker -batch -ex 'call (void) proc_exit(1)' >/dev/null 2>&1 </dev/null");
	query_true($node, "COALESCE(($queue_worker 'orphans') <> $worker, false)", 'the queue worker is replaced');
	$node->safe_psql('postgres', 'INSERT INTO gate VALUES (true)');
	query_is($node, "SELECT count(*) FROM sqs_stats_workers WHERE pid IN ($pids)", '0', 'its handlers finish, and leave');
	$sqs->is_empty('orphans', 'all messages are deleted');
	is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT body) FROM got WHERE queue = 'orphans'}), '10|10', 'and handled once');
}

is(crashes(), 0, 'no crash at all');
$node->stop;
check_log(
	$node,
	qr/could not open shared memory segment/,
	# one to be canceled that has just left
	qr/WARNING:  PID \d+ is not a PostgreSQL (?:backend|server) process/,
	qr/canceling statement due to user request/,
	qr/FATAL:  terminating (?:connection|background worker "sqsbridge handler worker") due to administrator command/,
	qr/background worker "sqsbridge (?:handler|queue) worker" \(PID \d+\) exited with exit code 1$/,
	qr/FATAL:  the database system is (?:starting up|not yet accepting|shutting down)/);
done_testing();
