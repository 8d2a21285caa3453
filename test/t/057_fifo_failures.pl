# FIFO queues: whatever fails, and however many groups do at the same time,
# messages of a group are handled in the order in which they were sent.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

my $groups = 25;
my $each = 12;
my $sqs = start_sqs(queues => [ map { "$_.fifo,VisibilityTimeout=3600" } 'once', 'often' ]);
my $node = new_node('main');
setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE done (n serial, queue text, group_id text, body int);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO done (queue, group_id, body) VALUES (m.queue, m.group_id, m.body::int);
  IF m.queue = 'once.fifo' AND m.attempt = 1 OR m.queue = 'often.fifo' AND m.attempt <= hashtext(m.message_id) & 3 THEN
    RAISE EXCEPTION 'not yet';
  END IF;
END $$;
EOQ

for my $queue ('once.fifo', 'often.fifo')
{
	for my $concurrency (1, 3)
	{
		$node->safe_psql('postgres', "TRUNCATE done; SELECT sqs_register_queue('$queue', server => 'aws', handler => 'handle', concurrency => $concurrency, retry_delay => '0', throttle_after => 0, enabled => false)");
		$sqs->send_messages($queue,
			map { my $n = $_; map { +{ MessageBody => $n, MessageGroupId => "g$_", MessageDeduplicationId => "$concurrency-$n-$_" } } 1 .. $groups } 1 .. $each);
		$node->safe_psql('postgres', "SELECT sqs_enable_queue('$queue')");
		query_is($node, 'SELECT count(*) FROM done', $groups * $each, "$queue, concurrency $concurrency: all are handled", 120);
		is( $node->safe_psql('postgres', "SELECT count(*) FROM (SELECT body < max(body) OVER (PARTITION BY group_id ORDER BY n) AS late FROM done) d WHERE late"),
			'0', "$queue, concurrency $concurrency: in the order of their groups");
		$sqs->is_empty($queue);
		$node->safe_psql('postgres', "SELECT sqs_unregister_queue('$queue')");
	}
}

$node->stop;
check_log($node);
done_testing();
