# Business keys: of messages with the same key, one is handled, whatever fails or
# dies; and only a commit records a key.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $rounds = $ENV{SQSBRIDGE_LONG} ? 10 : 2;
my $sqs = start_sqs(
	queues => [ 'keys,VisibilityTimeout=30', 'gate,VisibilityTimeout=60', 'ends,VisibilityTimeout=30', 'lost,VisibilityTimeout=3600', 'kill,VisibilityTimeout=3' ]);
my $node = new_node('main', conf => "max_worker_processes = 60\nsqsbridge.max_workers = 60\nwal_writer_delay = 10s\nrestart_after_crash = on\n");
setup_database($node, $sqs);

$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (n serial, queue text, message_id text, body text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got (queue, message_id, body) VALUES (m.queue, m.message_id, m.body) $$;
CREATE TABLE gate (verdict text);
CREATE FUNCTION wait_at_gate(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v text;
BEGIN
  PERFORM handle(m);
  IF m.body::jsonb ? 'first' THEN
    LOOP
      SELECT verdict INTO v FROM gate;
      EXIT WHEN FOUND;
      PERFORM pg_sleep(0.02);
    END LOOP;
    IF v = 'fail' THEN RAISE 'no good'; END IF;
  END IF;
END $$;
CREATE FUNCTION run(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM handle(m);
  EXECUTE m.body::jsonb ->> 'sql';
END $$;
CREATE FUNCTION slowly(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM handle(m);
  PERFORM pg_sleep(0.01);
END $$;
SELECT sqs_register_queue('keys', server => 'aws', handler => 'handle', concurrency => 2, dedup_key => '$.id');
EOQ

# One after the other, and how many of them are handled.
sub handled
{
	my ($n, $name, @bodies) = @_;
	my ($first) = $node->safe_psql('postgres', "SELECT count(*) FROM got WHERE queue = 'keys'");
	my ($acked, $duplicates) = split /\|/, $node->safe_psql('postgres', "SELECT acked, duplicates FROM sqs_stats WHERE queue = 'keys'");
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	foreach my $body (@bodies)
	{
		$sqs->send_messages('keys', $body);
		query_is($node, "SELECT acked FROM sqs_stats WHERE queue = 'keys'", ++$acked, "$name: acknowledged");
	}
	is($node->safe_psql('postgres', "SELECT count(*) - $first FROM got WHERE queue = 'keys'"), $n, "$name: $n of " . @bodies . ' handled');
	is($node->safe_psql('postgres', "SELECT duplicates - $duplicates FROM sqs_stats WHERE queue = 'keys'"), @bodies - $n, "$name: the others are duplicates");
	return;
}

# ---- which keys are equal

handled(1, 'the same key', '{"id":"a"}', '{"id":"a"}', '{"id":"a","x":1}');
handled(2, 'another key', '{"id":"b"}', '{"id":"B"}');
handled(1, 'a number and its text', '{"id":4711}', '{"id":"4711"}');
handled(4, 'no key', '{"x":1}', '{"x":1}', 'no JSON', 'no JSON');
handled(4, 'an empty key, null', '{"id":""}', '{"id":""}', '{"id":null}', '{"id":null}');
my $long = 'x' x 256;
handled(3, 'long keys', map { qq({"id":"$_"}) } $long, "${long}1", "${long}2", $long, "${long}1");
handled(1, 'a body of 1 MB', map { '{"id":"large' . ('y' x 900_000) . '"}' } 1 .. 2);

# a key is not an id, nor is it what stands for a long key
{
	my $body = '{"id":"' . ('z' x 300) . '"}';
	handled(1, 'a key that is hashed', $body);
	my $key = $node->safe_psql('postgres', "SELECT message_key FROM sqsbridge_internal.inbox ORDER BY stamp DESC, message_key DESC LIMIT 1");
	like($key, qr/^key-sha256:[0-9a-f]{64}$/, 'only its hash is stored');
	my ($hash) = $key =~ /:(.*)/;
	my ($id) = split /\n/, $node->safe_psql('postgres', "SELECT message_id FROM got LIMIT 1");
	handled(5, 'keys like those of other kinds', map { qq({"id":"$_"}) } $key, "sha256:$hash", $hash, $id, "outbox:$id");
}

# by an attribute; and without the option again
$node->safe_psql('postgres', "SELECT sqs_alter_queue('keys', dedup_key => 'attribute:order')");
handled(2, 'by an attribute', map { +{ MessageBody => '{"id":"a"}', MessageAttributes => { order => { DataType => 'Number', StringValue => "$_" } } } } 1, 2, 1);
$node->safe_psql('postgres', "SELECT sqs_alter_queue('keys', reset => ARRAY['dedup_key'])");
handled(2, 'without the option', '{"id":"a"}', '{"id":"a"}');

# ---- two at the same time: the second waits for the first

$node->safe_psql('postgres', "SELECT sqs_register_queue('gate', server => 'aws', handler => 'wait_at_gate', concurrency => 2, dedup_key => '\$.id')");
foreach my $case ([ 'done', 'first' ], [ 'fail', 'second' ])
{
	my ($verdict, $winner) = @$case;
	my %id;
	$node->safe_psql('postgres', 'TRUNCATE gate');
	($id{first}) = $sqs->send_messages('gate', qq({"id":"$verdict","first":1}));
	query_is($node, "SELECT status FROM sqs_stats_in_flight WHERE message_id = '$id{first}'", 'running', "$verdict: the first runs");
	($id{second}) = $sqs->send_messages('gate', qq({"id":"$verdict"}));
	query_is($node, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%$id{second}%' AND wait_event = 'transactionid'", '1', "$verdict: the second waits");
	$node->safe_psql('postgres', "INSERT INTO gate VALUES ('$verdict')");
	query_is($node, "SELECT message_id FROM got WHERE queue = 'gate' AND body LIKE '%$verdict%'", $id{$winner}, "$verdict: the $winner one is handled");
	query_is($node, "SELECT count(*) FROM sqs_stats_in_flight WHERE message_id = '$id{second}'", '0', "$verdict: both are done with");
	is($node->safe_psql('postgres', "SELECT count(*) FROM got WHERE queue = 'gate' AND body LIKE '%$verdict%'"), '1', "$verdict: and only that");
}
{
	# handler_timeout covers the wait
	$node->safe_psql('postgres', "TRUNCATE gate; SELECT sqs_alter_queue('gate', retry_delay => '0')");
	my ($first) = $sqs->send_messages('gate', '{"id":"timeout","first":1}');
	query_is($node, "SELECT status FROM sqs_stats_in_flight WHERE message_id = '$first'", 'running', 'the first runs');
	$node->safe_psql('postgres', "SELECT sqs_alter_queue('gate', handler_timeout => '200 ms')");
	my ($second) = $sqs->send_messages('gate', '{"id":"timeout"}');
	query_is($node, "SELECT DISTINCT sqlstate FROM sqs_failures WHERE message_id = '$second'", '57014', 'the second gives up after its handler_timeout');
	$node->safe_psql('postgres', "SELECT sqs_alter_queue('gate', reset => ARRAY['handler_timeout']); INSERT INTO gate VALUES ('done')");
	query_is($node, "SELECT count(*) FROM sqs_stats_in_flight WHERE queue = 'gate'", '0', 'both are done with');
	$sqs->is_empty('gate');
	is($node->safe_psql('postgres', "SELECT count(*) FROM got WHERE queue = 'gate' AND body LIKE '%timeout%'"), '1', 'one was handled');
}

# ---- only what is handled is recorded

$node->safe_psql('postgres', "SELECT sqs_register_queue('ends', server => 'aws', handler => 'run', dedup_key => '\$.id', retry_delay => '0', max_attempts => 1)");
foreach my $case ([ 'discarded', 'SELECT sqs_discard()' ], [ 'a dead letter', 'SELECT sqs_dead_letter()' ], [ 'failed', 'SELECT 1/0' ])
{
	my ($name, $sql) = @$case;
	my ($id) = $sqs->send_messages('ends', qq({"id":"$name","sql":"$sql"}));
	query_is($node, "SELECT count(*) FROM sqs_failures WHERE message_id = '$id'", '1', "$name");
	$sqs->is_empty('ends');
	my ($again) = $sqs->send_messages('ends', qq({"id":"$name","sql":"SELECT 1"}));
	query_is($node, "SELECT count(*) FROM got WHERE message_id = '$again'", '1', "$name: its key is free");
}
{
	# a dead letter that is sent again runs, and then its key is taken
	my ($id) = $sqs->send_messages('ends', '{"id":"redriven","sql":"SELECT 1/count(*) FROM gate WHERE verdict = \'mended\'"}');
	query_is($node, "SELECT state FROM sqs_dead_letters WHERE message_id = '$id'", 'dead', 'a dead letter');
	$node->safe_psql('postgres', "INSERT INTO gate VALUES ('mended'); SELECT sqs_redrive(id) FROM sqs_dead_letters WHERE message_id = '$id'");
	query_is($node, "SELECT count(*) FROM got WHERE queue = 'ends' AND body LIKE '%redriven%'", '1', 'is handled when it is redriven');
	my $before = $node->safe_psql('postgres', "SELECT duplicates FROM sqs_stats WHERE queue = 'ends'");
	$sqs->send_messages('ends', '{"id":"redriven","sql":"SELECT 1"}');
	query_is($node, "SELECT duplicates - $before FROM sqs_stats WHERE queue = 'ends'", '1', 'and then its key is known');
}

# ---- a duplicate whose deletion is lost stays one, also when its key is forgotten

$node->safe_psql('postgres', "SELECT sqs_register_queue('lost', server => 'aws', handler => 'handle', dedup_key => '\$.id')");
{
	my ($first) = $sqs->send_messages('lost', '{"id":"l"}');
	query_is($node, "SELECT acked FROM sqs_stats WHERE queue = 'lost'", '1', 'the first is handled');
	my $fault = $sqs->fault(kind => 'error', action => 'DeleteMessageBatch', status => 503, queue => 'lost');
	my ($second) = $sqs->send_messages('lost', '{"id":"l"}');
	query_is($node, "SELECT duplicates FROM sqs_stats WHERE queue = 'lost'", '1', 'the second is a duplicate');
	is($node->safe_psql('postgres', "SELECT count(*) FROM sqsbridge_internal.inbox WHERE message_key = '$second'"), '1', 'and recorded as such');
	$node->safe_psql('postgres', "SELECT sqs_disable_queue('lost')");
	query_is($node, "SELECT count(*) FROM sqs_stats_workers WHERE queue = 'lost'", '0', 'its deletion fails');
	$sqs->clear_faults($fault);
	$node->safe_psql('postgres', "DELETE FROM sqsbridge_internal.inbox WHERE message_key = 'key:l'");
	$sqs->advance(3700);
	$node->safe_psql('postgres', "SELECT sqs_enable_queue('lost')");
	$sqs->is_empty('lost');
	is($node->safe_psql('postgres', "SELECT count(*) FROM got WHERE queue = 'lost'"), '1', 'it is not handled when it comes back');
}

# ---- crashes: each key has its effect once

$node->safe_psql('postgres', <<'EOQ');
CREATE ROLE worker LOGIN;
ALTER ROLE worker SET synchronous_commit = off;
GRANT USAGE ON FOREIGN SERVER aws TO worker;
GRANT ALL ON got, got_n_seq TO worker;
SET ROLE worker;
SELECT sqs_register_queue('kill', server => 'aws', handler => 'slowly', concurrency => 4, dedup_key => '$.id', retry_delay => '0');
EOQ
my $keys = 0;
foreach my $round (1 .. $rounds)
{
	my $before = $node->safe_psql('postgres', "SELECT count(*) FROM got WHERE queue = 'kill'");
	# copies next to each other, and far apart
	my $step = $round % 2 ? 4 : 200;
	for (my $from = 1; $from <= 400; $from += $step)
	{
		$sqs->fill('kill', $step, body => qq({"id":"k{i}","copy":$_}), start => $keys + $from) foreach 1 .. 3;
	}
	$keys += 400;
	query_true($node, "(SELECT count(*) > $before + 20 FROM got WHERE queue = 'kill')", "round $round: some are handled");
	if ($round % 2)
	{
		my $pid = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
		$node->kill9;
		poll_until(sub { !SqsTest::server_processes($node) && !kill(0, $pid) }, "round $round: the server is killed");
		$node->start;
	}
	else
	{
		my $pid = $node->safe_psql('postgres', "SELECT pid FROM sqs_stats_workers WHERE queue = 'kill' AND kind = 'handler worker' AND pid IS NOT NULL LIMIT 1");
		kill 'KILL', $pid if $pid;
		poll_until(sub { $node->poll_query_until('postgres', 'SELECT 1', '1') }, "round $round: the server restarts after a crash");
	}
}
$sqs->is_empty('kill', 'all are deleted in the end', 180);
query_is($node, "SELECT count(*), count(DISTINCT body::jsonb ->> 'id') FROM got WHERE queue = 'kill'", "$keys|$keys", 'each key has its effect once');

$node->stop('fast');
check_log($node, qr/ERROR:  (?:no good|division by zero|the handler called|canceling statement due to user request)|queue "lost".*DeleteMessageBatch|terminated by signal 9|terminating any other|not properly shut down|crash|database system|abnormal|recovery/);
done_testing();
