# Batches under faults and kills: calls fail at random, SQS delivers twice and
# refuses requests, handlers are terminated, and the server crashes.  What was
# deleted in SQS had its effect, nothing had it twice, and groups keep their order.
use strict;
use warnings;

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsLoad;
use SqsTest;

need_sqsd();

my $rounds = $ENV{SQSBRIDGE_LONG} ? 10 : 2;
my $batch = 3000;
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

# Some calls fail, some messages are to be tried again, some calls take long.
$SqsLoad::objects = <<'EOQ';
CREATE TABLE got (id bigserial, queue text, message_id text, body text, group_id text, sequence_number numeric, db oid);
CREATE FUNCTION handle(msgs sqs_message[]) RETURNS SETOF sqs_verdict LANGUAGE plpgsql AS $$
DECLARE not_done text[];
BEGIN
  SELECT coalesce(array_agg(m.message_id), '{}') INTO not_done FROM unnest(msgs) m WHERE random() < 0.005;
  INSERT INTO got (queue, message_id, body, group_id, sequence_number, db)
  SELECT m.queue, m.message_id, m.body, m.group_id, m.sequence_number, oid
  FROM unnest(msgs) WITH ORDINALITY m, pg_database
  WHERE datname = current_database() AND m.message_id <> ALL (not_done) ORDER BY ordinality;
  IF random() < 0.05 THEN RAISE EXCEPTION 'by chance'; END IF;
  IF random() < 0.05 THEN RAISE SQLSTATE '40001'; END IF;
  PERFORM pg_sleep(random() * 0.02);
  RETURN QUERY SELECT id, 'retry', interval '0', NULL FROM unnest(not_done) id;
END $$;
EOQ
my $load = SqsLoad->new($sqs, $node);
$node->safe_psql('postgres', "SELECT sqs_alter_queue(name, retry_delay => '0', handler_batch_size => 200) FROM sqs_queues");

# ---- faults

$sqs->fault(kind => 'duplicate', queue => 'load', same_reply => JSON::PP::true(), probability => 0.05);
$sqs->fault(kind => 'error', status => 503, code => 'ServiceUnavailable', probability => 0.01);
$sqs->fault(kind => 'entry_fail', code => 'InternalError', every => 100);
$load->feed($batch);
$load->all_done('faults');

# ---- handlers that are terminated while they work

sub busy_handlers
{
	return split /\n/, $node->safe_psql('postgres',
		q{SELECT pid FROM sqs_stats_workers WHERE kind = 'handler worker' AND state = 'running'});
}
foreach my $round (1 .. $rounds)
{
	$load->feed($batch);
	foreach (1 .. 3)
	{
		my @pids;
		poll_until(sub { @pids = busy_handlers(); $load->feed($batch) if !@pids && $load->deleted == $load->total; @pids },
			"round $round: a handler works");
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($pids[rand @pids])");
	}
	$load->all_done("handlers terminated, round $round");
}

# ---- kill -9 of a handler, and of the postmaster

foreach my $round (1 .. $rounds)
{
	my $name = "handler killed, round $round";
	my $before = $load->crashes;
	my @pids;

	$load->feed($batch);
	poll_until(sub { @pids = busy_handlers(); $load->feed($batch) if !@pids && $load->deleted == $load->total; @pids },
		"$name: it works");
	kill('KILL', $pids[ rand @pids ]);
	poll_until(sub { $load->crashes > $before }, "$name: the server restarts");
	query_is($node, 'SELECT true', 't', "$name: and is back");
	$load->all_agree($name);

	$name = "postmaster killed, round $round";
	$load->feed($batch);
	$load->wait_for_some_work($name);
	my $pid = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
	$node->kill9;
	poll_until(sub { !SqsTest::server_processes($node) && !kill(0, $pid) }, "$name: all processes are gone");
	$node->start;
	$load->all_agree($name);
}
$sqs->clear_faults;
$load->all_done('in the end');
$load->in_order;
is($node->safe_psql('postgres', q{SELECT count(*) > 0 FROM sqs_failures WHERE message = 'by chance'}), 't', 'single messages have failed');

$node->stop;
check_log(
	$node,
	qr/FATAL:  the database system is (?:starting up|not yet accepting|in recovery)/,
	qr/terminating (?:connection|background worker)/,
	qr/background worker "sqsbridge [a-z ]+" \(PID \d+\) was terminated by signal 9: Killed/,
	qr/background worker "sqsbridge handler worker" \(PID \d+\) exited with exit code 1/);
done_testing();
