# SQS delivers a message twice, or does not hear that it was deleted: the
# effect happens once.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $sqs = start_sqs(
	queues => [
		'twice,VisibilityTimeout=3', 'reply,VisibilityTimeout=3', 'both,VisibilityTimeout=3',
		'lossy,VisibilityTimeout=3', 'loose,VisibilityTimeout=3'
	]);
my $node = new_node('main');

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
$fault = $sqs->fault(kind => 'lose_reply', action => 'DeleteMessageBatch', queue => 'lossy', count => 3);
my $fault2 = $sqs->fault(kind => 'reset_before', action => 'DeleteMessageBatch', queue => 'lossy', count => 3, skip => 3);
$sqs->send_messages('lossy', map { "l$_" } 1 .. 40);
$node->safe_psql('postgres', q{SELECT sqs_register_queue('lossy', server => 'aws', handler => 'handle', concurrency => 2)});
once('lossy', 40, 'deletes lost');
is($node->safe_psql('postgres', q{SELECT acked + duplicates >= 40, delete_failures > 0 FROM sqs_stats WHERE queue = 'lossy'}), 't|t',
	'delete failures are counted');
is($sqs->stats('lossy')->{deleted}, 40, "SQS's books: all deleted");

# who does not want it exactly once gets it as often as it comes
$fault = $sqs->fault(kind => 'duplicate', queue => 'loose', count => 1);
$sqs->send_messages('loose', 'x');
$node->safe_psql('postgres', q{SELECT sqs_register_queue('loose', server => 'aws', handler => 'handle',
	exactly_once => false)});
query_is($node, q{SELECT count(*) FROM got WHERE queue = 'loose'}, '2', 'exactly_once => false: handled twice');
$sqs->is_empty('loose');
is($node->safe_psql('postgres', q{SELECT duplicates FROM sqs_stats WHERE queue = 'loose'}), '0', 'and not called duplicates');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM sqs_inbox JOIN sqs_queues USING (queue_id) WHERE name = 'loose'}),
	'0', 'nothing is recorded');

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
check_log($node);
done_testing();
