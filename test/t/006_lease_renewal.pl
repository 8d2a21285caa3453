# Leases: handlers that run longer than the visibility timeout.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $sqs = start_sqs(
	queues => [
		'long,VisibilityTimeout=5', 'behind,VisibilityTimeout=5', 'lost,VisibilityTimeout=5',
		'option,VisibilityTimeout=60'
	]);
my $node = new_node('main');

setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (queue text, body text, receive_count int);
CREATE SEQUENCE lost_runs;
CREATE FUNCTION long(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count);
  PERFORM pg_sleep(16);
END $$;
CREATE FUNCTION middling(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF m.body LIKE 'b%' THEN PERFORM pg_advisory_xact_lock_shared(1), pg_sleep(3); END IF;
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count);
END $$;
CREATE FUNCTION lose(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count);
  IF nextval('lost_runs') = 1 THEN PERFORM pg_sleep(600); END IF;
END $$;
SELECT sqs_register_queue('long', server => 'aws', handler => 'long');
SELECT sqs_register_queue('option', server => 'aws', handler => 'long', visibility_timeout => '5 s');
SELECT sqs_register_queue('behind', server => 'aws', handler => 'middling');
EOQ

# A queue whose messages are quick has several in hand, so that some wait when
# slow ones come.
$sqs->fill('behind', 100, body => 'quick {i}');
$sqs->is_empty('behind', 'quick messages');
my $gate = $node->background_psql('postgres', on_error_stop => 1);
$gate->query_safe('SELECT pg_advisory_lock(1)');

# all three at the same time, to save some: what is over first comes first
$sqs->send_messages('long', 'l');
$sqs->send_messages('option', 'o');
$sqs->send_messages('behind', map { "b$_" } 1 .. 5);

# what waits behind a running handler is kept as well
query_is($node, q{SELECT status, count(*) FROM sqs_stats_in_flight WHERE queue = 'behind' GROUP BY 1 ORDER BY 1},
	"running|1\nwaiting|4", 'four messages wait behind one that runs');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
$gate->quit;
$sqs->is_empty('behind');
is( $node->safe_psql('postgres', q{SELECT string_agg(body || '/' || receive_count, ',' ORDER BY body)
	FROM got WHERE queue = 'behind' AND body LIKE 'b%'}), 'b1/1,b2/1,b3/1,b4/1,b5/1', 'messages that wait behind others are handled once');
my $s = $sqs->stats('behind');
is("$s->{received} $s->{deleted} $s->{redelivered} $s->{expired_leases} $s->{delete_stale}", '105 105 0 0 0',
	'and no lease ran out');
calls_apart([ $sqs->call_times('behind', 'ChangeMessageVisibilityBatch') ], 2500,
	'one call renews them all, when half of the visibility timeout has passed');

query_is($node, q{SELECT body, receive_count FROM got WHERE queue = 'long'}, 'l|1',
	'a handler of 16 s on a visibility timeout of 5 s finishes');
$sqs->is_empty('long');
$s = $sqs->stats('long');
is("$s->{received} $s->{deleted} $s->{redelivered} $s->{expired_leases} $s->{delete_stale}", '1 1 0 0 0',
	'its message was handed out once and its lease never ran out');
is($s->{calls}{ChangeMessageVisibility}, undef, 'it is not renewed by other calls');
calls_apart([ $sqs->call_times('long', 'ChangeMessageVisibilityBatch') ], 2500,
	'the lease is not renewed more often than twice in a visibility timeout');
cmp_ok($s->{calls}{ChangeMessageVisibilityBatch}, '>=', 3, 'but renewed it is');
query_is($node, q{SELECT heartbeats = visibility_calls AND heartbeats >= 3, lost FROM sqs_stats
	WHERE queue = 'long'}, 't|0', 'heartbeats are counted');

$sqs->is_empty('option');
$s = $sqs->stats('option');
is( "$s->{received} $s->{deleted} $s->{redelivered} $s->{expired_leases}", '1 1 0 0',
	'the same where the visibility timeout is an option of the queue');
cmp_ok($s->{calls}{ChangeMessageVisibilityBatch}, '>=', 3, 'which then sets the rhythm');

# a lost lease
my $fault = $sqs->fault(
	kind => 'entry_fail',
	action => 'ChangeMessageVisibilityBatch',
	queue => 'lost',
	code => 'ReceiptHandleIsInvalid',
	sender_fault => JSON::PP::true(),
	count => 1);
$node->safe_psql('postgres', q{SELECT sqs_register_queue('lost', server => 'aws', handler => 'lose')});
$sqs->send_messages('lost', 'x');
query_is($node, q{SELECT body, receive_count FROM got WHERE queue = 'lost'}, 'x|2',
	'when its lease is lost a handler is cancelled and rolled back, the next delivery does the work');
is($node->safe_psql('postgres', 'SELECT last_value FROM lost_runs'), '2', 'the handler ran twice');
$sqs->is_empty('lost');
query_is($node, q{SELECT lost, acked, in_flight FROM sqs_stats WHERE queue = 'lost'}, '1|1|0',
	'the loss is counted');

$node->stop;
check_log($node, qr/canceling statement/, qr/lease/);
done_testing();
