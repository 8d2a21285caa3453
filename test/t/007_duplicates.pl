# SQS delivers a message twice, or does not hear that it was deleted: the
# effect happens once.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $lease = $ENV{SQSBRIDGE_LONG} ? 20 : 4;
my $many = $ENV{SQSBRIDGE_LONG} ? 500 : 50;
my $sqs = start_sqs(
	queues => [
		'twice,VisibilityTimeout=3', 'reply,VisibilityTimeout=3', 'both,VisibilityTimeout=3',
		'lossy,VisibilityTimeout=3', 'loose,VisibilityTimeout=3', "refused,VisibilityTimeout=$lease",
		'rivals,VisibilityTimeout=60', 'heir,VisibilityTimeout=60', 'hour,VisibilityTimeout=60',
		'stale,VisibilityTimeout=60', 'noop,VisibilityTimeout=60'
	]);
my $node = new_node('main', conf => "max_worker_processes = 100\nsqsbridge.max_workers = 100\n");

setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (queue text, body text, receive_count int);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count) $$;
CREATE FUNCTION handle_slowly(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count);
  PERFORM pg_sleep(0.3);
END $$;
-- the first to come waits for the gate
CREATE TABLE gate (queue text PRIMARY KEY, verdict text);
CREATE SEQUENCE runs;
CREATE FUNCTION handle_first_slowly(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v text;
BEGIN
  IF nextval('runs') = 1 THEN
    LOOP
      SELECT verdict INTO v FROM gate WHERE queue = m.queue;
      EXIT WHEN FOUND;
      PERFORM pg_sleep(0.02);
    END LOOP;
    IF v = 'fail' THEN RAISE 'no good'; END IF;
  END IF;
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count);
END $$;
EOQ

sub once
{
	my ($queue, $count, $name) = @_;
	$sqs->is_empty($queue, "$name: all messages are deleted in the end", 90);
	query_is($node, "SELECT in_flight FROM sqs_stats WHERE queue = '$queue'", '0', "$name: nothing is in hand");
	is( $node->safe_psql('postgres', "SELECT count(*), count(DISTINCT body) FROM got WHERE queue = '$queue'"),
		"$count|$count", "$name: each had its effect once");
	is( $node->safe_psql('postgres', "SELECT count(*) FROM sqs_failures WHERE queue = '$queue'"), '0',
		"$name: there are no failures");
	return;
}

# delivered a second time while the first is under way or just done
my $fault = $sqs->fault(kind => 'duplicate', queue => 'twice');
$sqs->send_messages('twice', map { "t$_" } 1 .. 30);
$node->safe_psql('postgres', q{SELECT sqs_register_queue('twice', server => 'aws', handler => 'handle', concurrency => 3)});
query_is($node, q{SELECT count(DISTINCT body) FROM got WHERE queue = 'twice'}, '30', 'messages are handled though each comes twice');
query_true($node, q{(SELECT duplicates FROM sqs_stats WHERE queue = 'twice') > 0}, 'duplicates are noticed');
$sqs->clear_faults($fault);
once('twice', 30, 'delivered twice');
my $s = $sqs->stats('twice');
cmp_ok($s->{redelivered}, '>', 0, "SQS's books: it did deliver twice");

# twice in one reply
$fault = $sqs->fault(kind => 'duplicate', same_reply => JSON::PP::true(), queue => 'reply', count => 5);
$sqs->send_messages('reply', map { "r$_" } 1 .. 20);
$node->safe_psql('postgres', q{SELECT sqs_register_queue('reply', server => 'aws', handler => 'handle', concurrency => 2)});
query_is($node, q{SELECT count(DISTINCT body) FROM got WHERE queue = 'reply'}, '20', 'the same with two in one reply');
$sqs->clear_faults($fault);
once('reply', 20, 'twice in one reply');

# both copies running at one time, in two handler workers
$fault = $sqs->fault(kind => 'duplicate', queue => 'both', count => 4);
$sqs->send_messages('both', map { "b$_" } 1 .. 4);
$node->safe_psql('postgres', q{SELECT sqs_register_queue('both', server => 'aws', handler => 'handle_slowly',
	concurrency => 4, batch_size => 1)});
query_is($node, q{SELECT count(DISTINCT body) FROM got WHERE queue = 'both'}, '4', 'slow handlers');
$sqs->clear_faults($fault);
once('both', 4, 'two deliveries at one time');

# the delete is lost, or its answer
$node->safe_psql('postgres', q{SELECT sqs_register_queue('lossy', server => 'aws', handler => 'handle', concurrency => 2)});
my $delete_failures = 0;
foreach my $kind ('lose_reply', 'reset_before')
{
	$fault = $sqs->fault(kind => $kind, action => 'DeleteMessageBatch', queue => 'lossy');
	$sqs->send_messages('lossy', map { "$kind $_" } 1 .. 20);
	query_true($node, "(SELECT delete_failures > $delete_failures FROM sqs_stats WHERE queue = 'lossy')",
		"deletes lost, $kind: failures are counted");
	$sqs->clear_faults($fault);
	$sqs->is_empty('lossy', "deletes lost, $kind: in the end they succeed");
	$delete_failures = $node->safe_psql('postgres', q{SELECT delete_failures FROM sqs_stats WHERE queue = 'lossy'});
}
once('lossy', 40, 'deletes lost');
query_is($node, q{SELECT acked + duplicates >= 40 FROM sqs_stats WHERE queue = 'lossy'}, 't',
	'deletes lost: acknowledgements are counted');
is($sqs->stats('lossy')->{deleted}, 40, "SQS's books: all deleted");

# who does not want it exactly once gets it as often as it comes
$fault = $sqs->fault(kind => 'duplicate', queue => 'loose', count => 1);
$sqs->send_messages('loose', 'x');
$node->safe_psql('postgres', q{SELECT sqs_register_queue('loose', server => 'aws', handler => 'handle',
	exactly_once => false)});
query_is($node, q{SELECT count(*) FROM got WHERE queue = 'loose'}, '2', 'exactly_once => false: handled twice');
$sqs->is_empty('loose');
is($node->safe_psql('postgres', q{SELECT duplicates FROM sqs_stats WHERE queue = 'loose'}), '0', 'and not called duplicates');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM sqsbridge_internal.inbox JOIN sqs_queues USING (queue_id) WHERE name = 'loose'}),
	'0', 'nothing is recorded');

# ---- deletes are refused until all leases have ended

$fault = $sqs->fault(kind => 'error', status => 403, code => 'AccessDenied', action => 'DeleteMessageBatch', queue => 'refused');
$sqs->fill('refused', $many);
$node->safe_psql('postgres', q{SELECT sqs_register_queue('refused', server => 'aws', handler => 'handle', concurrency => 2)});
query_is($node, q{SELECT count(*), count(DISTINCT body) FROM got WHERE queue = 'refused'}, "$many|$many",
	'deletes are refused: all messages are handled');
query_is($node, q{SELECT state, acked, error_since IS NOT NULL, consecutive_errors > 0, delete_failures > 0,
	last_error LIKE 'DeleteMessageBatch: AccessDenied%' FROM sqs_stats WHERE queue = 'refused'}, 'polling|0|t|t|t|t',
	'deletes are refused: which is told');
query_true($node, qq{(SELECT duplicates >= $many FROM sqs_stats WHERE queue = 'refused')},
	'deletes are refused: messages come again and are recognised', timeout => 120);
# up to ten seconds, whatever the number of messages; what is open as it begins
# comes on top
pauses_grow(sub { $sqs->call_times('refused', 'DeleteMessageBatch') }, $many / 10, 10,
	'deletes are refused: one call tries for all, ever more seldom');
is($sqs->stats('refused')->{deleted}, 0, "deletes are refused: SQS's books: none is deleted");
my @lines = log_text($node) =~ /LOG:  sqsbridge queue "refused": (DeleteMessageBatch: .*)/g;
is(scalar(@lines), 1, 'deletes are refused: one line in the log') or diag(join "\n", @lines);
$sqs->clear_faults($fault);
once('refused', $many, 'deletes are refused');
# SQS confirms the deletion of a message by a handle from before it came again,
# too; such a confirmation is counted twice, and is in SQS's books
my $stale = $sqs->stats('refused')->{delete_stale};
query_is($node, qq{SELECT acked BETWEEN $many AND $many + $stale, error_since, consecutive_errors FROM sqs_stats WHERE queue = 'refused'}, 't||0',
	'deletes are refused: all are deleted, all is well');

# ---- two handlers have the same message at the same time: one waits for the
# other, and does the work if that fails.  A lock_timeout is for the locks of
# the handler itself.

$node->safe_psql('postgres', q{ALTER DATABASE postgres SET lock_timeout = '50 ms'});
foreach my $case ([ 'rivals', 'good', 1, 0 ], [ 'heir', 'fail', 0, 1 ])
{
	my ($queue, $verdict, $duplicates, $failed) = @$case;
	$node->safe_psql('postgres', q{SELECT setval('runs', 1, false)});
	$fault = $sqs->fault(kind => 'duplicate', queue => $queue, count => 1);
	$sqs->fill($queue, 1);
	$node->safe_psql('postgres', "SELECT sqs_register_queue('$queue', server => 'aws', handler => 'handle_first_slowly',
		concurrency => 2, batch_size => 1)");
	query_is($node, qq{SELECT count(*), count(*) FILTER (WHERE a.wait_event_type = 'Lock')
		FROM pg_stat_activity a JOIN sqs_stats_workers w USING (pid)
		WHERE w.queue = '$queue' AND w.kind = 'handler worker' AND a.xact_start IS NOT NULL}, '2|1',
		"$queue: two handlers have the same message, one of them waits");
	is($sqs->stats($queue)->{received}, 2, "$queue: SQS's books: it was handed out twice");
	$node->safe_psql('postgres', "INSERT INTO gate VALUES ('$queue', '$verdict')");
	query_is($node, qq{SELECT in_flight, failed, acked > 0 FROM sqs_stats WHERE queue = '$queue'}, "0|$failed|t",
		"$queue: both are done with it");
	# if the delivery that failed was the later one, the delete had a stale
	# receipt handle, and the message comes once more
	$sqs->advance(61);
	$sqs->is_empty($queue);
	query_is($node, qq{SELECT in_flight, duplicates BETWEEN $duplicates AND 1 FROM sqs_stats WHERE queue = '$queue'}, '0|t',
		"$queue: duplicates are counted");
	is( $node->safe_psql('postgres', "SELECT count(*) FROM got WHERE queue = '$queue'"), '1',
		"$queue: it has its effect once");
	is($node->safe_psql('postgres', 'SELECT last_value FROM runs'), 1 + $failed, "$queue: the handler ran no more than needed");
	is($sqs->stats($queue)->{deleted}, 1, "$queue: SQS's books: it is deleted");
	is($node->safe_psql('postgres', "SELECT last_error FROM sqs_stats WHERE queue = '$queue'"), '', "$queue: nothing was wrong");
}
$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET lock_timeout');

# ---- again, an hour later

$fault = $sqs->fault(kind => 'error', status => 503, action => 'DeleteMessageBatch', queue => 'hour');
$sqs->fill('hour', 5);
$node->safe_psql('postgres', q{SELECT sqs_register_queue('hour', server => 'aws', handler => 'handle', wait_time => '1 s')});
query_is($node, q{SELECT count(*), count(DISTINCT body) FROM got WHERE queue = 'hour'}, '5|5', 'an hour later: they are handled');
$node->safe_psql('postgres', q{SELECT sqs_disable_queue('hour')});
query_is($node, q{SELECT count(*) FROM sqs_stats_workers WHERE queue = 'hour'}, '0', 'an hour later: the queue rests');
is($sqs->stats('hour')->{deleted}, 0, "an hour later: SQS's books: none is deleted");
$sqs->clear_faults($fault);
$node->safe_psql('postgres', q{UPDATE sqsbridge_internal.inbox i SET stamp = stamp - interval '1 h'
	FROM sqs_queues q WHERE q.queue_id = i.queue_id AND q.name = 'hour'});
$sqs->advance(3600);
$node->safe_psql('postgres', q{SELECT sqs_enable_queue('hour')});
once('hour', 5, 'an hour later');
query_is($node, q{SELECT duplicates, acked FROM sqs_stats WHERE queue = 'hour'}, '5|5',
	'an hour later: they are recognised');

# ---- receipt handles of former deliveries: the delete succeeds, without effect

$node->safe_psql('postgres', q{SELECT setval('runs', 1, false)});
$sqs->fill('stale', 1);
$node->safe_psql('postgres', q{SELECT sqs_register_queue('stale', server => 'aws', handler => 'handle_first_slowly',
	batch_size => 1, concurrency => 2)});
query_is($node, 'SELECT last_value, is_called FROM runs', '1|t', 'stale: the handler runs');
# SQS's clock is ahead of ours: for SQS the lease has ended
$sqs->advance(61);
poll_until(sub { $sqs->stats('stale')->{received} == 2 }, 'stale: meanwhile the message is handed out again');
$node->safe_psql('postgres', q{INSERT INTO gate VALUES ('stale', 'good')});
once('stale', 1, 'stale');
$s = $sqs->stats('stale');
# the stale one may come when the message is gone already
is($s->{deleted} . ' ' . ($s->{delete_stale} + $s->{delete_unknown}) . " $s->{received}", '1 1 2', "stale: SQS's books: a stale handle deleted nothing, the new one did");
query_is($node, q{SELECT acked, duplicates, delete_failures FROM sqs_stats WHERE queue = 'stale'}, '2|1|0',
	'stale: which cannot be told from the answer');

# ---- a duplicate is deleted only when what it duplicates is durable

# The row in the inbox is committed, and in memory only: nobody but the queue
# worker flushes WAL while the WAL writer is stopped.
$node->safe_psql('postgres', q{SELECT sqs_register_queue('noop', server => 'aws', handler => 'handle')});
$sqs->fill('noop', 1);
once('noop', 1, 'noop');
my ($id) = $sqs->send_messages('noop', { MessageBody => 'unseen', DelaySeconds => 900 });
my $wal_writer = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
kill 'STOP', $wal_writer;
# (again, if it has just been flushed by somebody who had something to write)
poll_until(
	sub {
		return $node->safe_psql('postgres', qq{
			SET synchronous_commit = off;
			DELETE FROM sqsbridge_internal.inbox WHERE message_key = '$id';
			INSERT INTO sqsbridge_internal.inbox SELECT queue_id, '$id', now() FROM sqs_queues WHERE name = 'noop';
			SELECT pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn()}) eq 't';
	},
	'noop: a row of the inbox is committed and not durable');
$sqs->advance(901);
$sqs->is_empty('noop', 'noop: the message is deleted');
my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
$node->kill9;
kill 'KILL', $wal_writer;
poll_until(sub { !SqsTest::server_processes($node) && !kill(0, $postmaster) }, 'noop: a crash');
$node->start;
is( $node->safe_psql('postgres', "SELECT count(*) FROM sqsbridge_internal.inbox WHERE message_key = '$id'"), '1',
	'noop: the row has survived it');
is($node->safe_psql('postgres', q{SELECT count(*) FROM got WHERE queue = 'noop'}), '1', 'noop: the handler did not run');

# memory that outlasts a restart: the delete of one message fails for good
$fault = $sqs->fault(kind => 'error', status => 503, code => 'ServiceUnavailable', action => 'DeleteMessageBatch', queue => 'twice');
$node->safe_psql('postgres', 'TRUNCATE got');
$sqs->send_messages('twice', 'again');
query_is($node, q{SELECT count(*) FROM got}, '1', 'handled, but it cannot be deleted');
$node->stop;
$sqs->clear_faults($fault);
$node->start;
once('twice', 1, 'after a restart of the server');
query_true($node, q{(SELECT duplicates FROM sqs_stats WHERE queue = 'twice') >= 1}, 'it was recognised');

$node->stop;
check_log($node, qr/no good/, qr/the database system is (?:starting up|not yet accepting|in recovery)/);
done_testing();
