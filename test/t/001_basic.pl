# A message becomes a handler's committed transaction and is deleted; what an
# idle queue costs; pausing and changing a queue while it works.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

my $sqsd = endpoint_kind() eq 'sqsd';
# fauxqs still gives a message to a poll whose client has left
sub left
{
	my $c = $main::sqs->counts('orders');
	return $c->{visible} + ($sqsd ? 0 : $c->{in_flight});
}

our $sqs = start_sqs(queues => [ 'orders', 'ticker' ]);
my $node = new_node('main');

setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (body text, queue text, message_id text, receive_count int,
  sent_at timestamptz, receipt_handle text, attributes jsonb, usr name,
  pid int DEFAULT pg_backend_pid());
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got SELECT m.body, m.queue, m.message_id, m.receive_count,
    m.sent_at, m.receipt_handle, m.attributes, session_user $$;
CREATE FUNCTION handle2(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got (body) SELECT 'second ' || m.body $$;
CREATE TABLE gate (open bool);
INSERT INTO gate VALUES (false);
CREATE FUNCTION wait_for_gate(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  WHILE NOT (SELECT open FROM gate) LOOP PERFORM pg_sleep(0.02); END LOOP;
  INSERT INTO got (body) VALUES (m.body);
END $$;
SELECT sqs_register_queue('orders', server => 'aws', handler => 'handle');
EOQ

# 200 messages
my @ids = $sqs->send_messages('orders', map { "message $_" } 1 .. 200);
query_is($node, 'SELECT count(*) FROM got', '200', 'all messages are handled');
query_is($node, 'SELECT acked, received, failed, in_flight FROM sqs_stats',
	'200|200|0|0', 'and counted');
$sqs->is_empty('orders', 'and deleted at SQS');
is( $node->safe_psql('postgres', 'SELECT count(DISTINCT body), min(queue), max(receive_count),
		bool_and(usr = current_user), bool_and(attributes = $${}$$),
		bool_and(sent_at BETWEEN now() - interval $$5 min$$ AND now() + interval $$5 s$$),
		bool_and(receipt_handle <> $$$$) FROM got'),
	'200|orders|1|t|t|t|t', 'each once, with what belongs to it');
is( $node->safe_psql('postgres', 'SELECT message_id FROM got ORDER BY 1'),
	join("\n", sort @ids), "with SQS's message ids");
is( $node->safe_psql('postgres', 'SELECT message_key FROM sqsbridge_internal.inbox ORDER BY 1'),
	join("\n", sort @ids), 'which are in sqsbridge_internal.inbox');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sqs_failures'), '0', 'nothing failed');
is( $node->safe_psql('postgres', 'SELECT state, last_error, consecutive_errors, poll_failures,
		delete_failures, lost, released, duplicates,
		last_receive_at > now() - interval $$1 min$$, last_success_at > now() - interval $$1 min$$,
		handler_time_total > 0, handler_time_max > 0,
		(SELECT sum(n) FROM unnest(handler_time_histogram) n), array_length(handler_time_histogram, 1),
		bytes_received > 200 * 9, bytes_sent > 200 * 9 FROM sqs_stats'),
	'polling||0|0|0|0|0|0|t|t|t|t|200|17|t|t', 'statistics of a healthy queue');

if ($sqsd)
{
	my $s = $sqs->stats('orders');
	is("$s->{sent} $s->{received} $s->{deleted} $s->{redelivered} $s->{expired_leases}",
		'200 200 200 0 0', "SQS's books say the same");
	is($s->{delete_stale} + $s->{delete_unknown}, 0, 'nothing was deleted twice');
	cmp_ok($s->{calls}{DeleteMessageBatch}, '<=', 60, 'deletes are batched');
	# once the answers are there
	query_is($node, 'SELECT delete_calls FROM sqs_stats', $s->{calls}{DeleteMessageBatch}, 'and counted as SQS counts them');
}

# who works
query_is($node, q{SELECT kind, database, queue, role, messages, started_at IS NOT NULL
	FROM sqs_stats_workers ORDER BY array_position('{launcher,database worker,queue worker,handler worker}', kind)},
	"launcher|||||f\ndatabase worker|postgres|||0|t\n"
	  . "queue worker|postgres|orders||200|t\n"
	  . 'handler worker|postgres|orders|' . $node->safe_psql('postgres', 'SELECT current_user') . '|200|t',
	'sqs_stats_workers has a row per process');
is( $node->safe_psql('postgres', q{SELECT count(*), count(a.pid),
	count(a.backend_xmin), count(a.backend_xid), count(a.xact_start)
	FROM sqs_stats_workers w LEFT JOIN pg_stat_activity a USING (pid)}),
	'4|4|0|0|0', 'the workers are in pg_stat_activity and hold no transaction and no snapshot when idle');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE pid IN
	(SELECT pid FROM sqs_stats_workers)}), '0', 'nor any lock');
is( $node->safe_psql('postgres', q{SELECT string_agg(DISTINCT backend_type, ',' ORDER BY backend_type)
	FROM pg_stat_activity WHERE backend_type LIKE 'sqsbridge%'}),
	'sqsbridge database worker,sqsbridge handler worker,sqsbridge launcher,sqsbridge queue worker',
	'by names that say what they are');

$node->safe_psql('postgres', "SELECT sqs_register_queue('ticker', server => 'aws', handler => 'handle',
	wait_time => '1 s')");
if ($sqsd)
{
	# an idle queue has one long poll open, and no more
	poll_until(sub { $sqs->stats('orders')->{open_polls} == 1 },
		'an idle queue comes down to one open poll');
	my $before = ($sqs->call_times('orders', 'ReceiveMessage'))[-1];
	seconds_pass($node, 3, 'three seconds pass');
	is($sqs->stats('orders')->{open_polls}, 1, 'it is still one after 3 s');
	# sooner or later it ends
	my @later = $sqs->call_times('orders', 'ReceiveMessage', $before);
	my @pauses = map { $later[$_] - $later[ $_ - 1 ] } 1 .. $#later;
	is(scalar(grep { $_ < 20_000 - 2 } @pauses), 0, 'and it is a long one') or diag("pauses of @pauses ms");
}

# pause and go on; many times in one transaction and rolled back too
$node->safe_psql('postgres', q{SELECT sqs_alter_queue('orders', wait_time => '1 s')});
$node->safe_psql('postgres', q{BEGIN; SELECT sqs_disable_queue('orders'); ROLLBACK});
$sqs->send_messages('orders', 'after rollback');
query_true($node, q{EXISTS (SELECT FROM got WHERE body = 'after rollback')},
	'a pause that is rolled back is none');
$node->safe_psql('postgres', q{SELECT sqs_disable_queue('orders')});
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'orders'}, 'disabled', 'the queue is paused');
query_is($node, q{SELECT count(*) FROM sqs_stats_workers WHERE queue = 'orders'}, '0',
	'it has no processes');
my $calls = $sqsd ? $sqs->calls('orders', 'ReceiveMessage') : 0;
$sqs->send_messages('orders', 'during pause');
seconds_pass($node, 2, 'two seconds pass');
is(left(), 1, 'a paused queue leaves its messages alone');
is($sqs->calls('orders', 'ReceiveMessage'), $calls, 'and asks for none') if $sqsd;
$node->restart;
seconds_pass($node, 1, 'a second passes');
is(left(), 1, 'also after a restart of the server');
$node->safe_psql('postgres', q{SELECT sqs_unregister_queue('ticker')});
$node->safe_psql('postgres', q{SELECT sqs_enable_queue('orders')});
query_true($node, q{EXISTS (SELECT FROM got WHERE body = 'during pause')}, 'then it goes on');

# change the handler
$node->safe_psql('postgres', q{SELECT sqs_alter_queue('orders', handler => 'handle2')});
query_is($node, q{SELECT handler FROM sqs_queues}, 'public.handle2', 'the handler is changed');
$sqs->send_messages('orders', 'a', 'b');
query_is($node, q{SELECT count(*) FROM got WHERE body IN ('second a', 'second b')}, '2',
	'the new handler gets the messages');

# change the concurrency while it works
$node->safe_psql('postgres', q{SELECT sqs_alter_queue('orders', handler => 'wait_for_gate')});
$sqs->send_messages('orders', map { "gate $_" } 1 .. 8);
query_is($node, q{SELECT count(*) FROM sqs_stats_workers WHERE kind = 'handler worker' AND state = 'running'}, '1',
	'one handler runs');
is( $node->safe_psql('postgres', q{SELECT f.queue, w.kind, w.state, f.receive_count,
	f.lease_until > now(), f.received_at <= now()
	FROM sqs_stats_in_flight f JOIN sqs_stats_workers w ON w.pid = f.handler_pid
	WHERE w.state = 'running'}),
	'orders|handler worker|running|1|t|t', 'which sqs_stats_in_flight shows');
$node->safe_psql('postgres', q{SELECT sqs_alter_queue('orders', concurrency => 4)});
query_is($node, q{SELECT count(*), count(DISTINCT handler_pid) FROM sqs_stats_in_flight
	WHERE handler_pid IS NOT NULL}, '4|4', 'a higher concurrency takes effect at once');
$node->safe_psql('postgres', 'UPDATE gate SET open = true');
query_is($node, q{SELECT count(*), count(DISTINCT body) FROM got WHERE body LIKE 'gate%'}, '8|8',
	'all are handled once');
query_is($node, 'SELECT count(*) FROM sqs_stats_in_flight', '0', 'nothing is in flight then');
$sqs->is_empty('orders');

# lower it again
$node->safe_psql('postgres', q{UPDATE gate SET open = false;
	SELECT sqs_alter_queue('orders', concurrency => 1)});
query_is($node, q{SELECT count(*) <= 1 FROM sqs_stats_workers WHERE kind = 'handler worker'}, 't',
	'a lower concurrency takes effect');
$sqs->send_messages('orders', map { "low $_" } 1 .. 3);
query_is($node, q{SELECT count(*) FROM sqs_stats_workers WHERE kind = 'handler worker' AND state = 'running'}, '1',
	'again one handler runs');
$node->safe_psql('postgres', 'UPDATE gate SET open = true');
query_is($node, q{SELECT count(*) FROM got WHERE body LIKE 'low%'}, '3', 'one after the other');

# unregister
$node->safe_psql('postgres', q{SELECT sqs_unregister_queue('orders')});
query_is($node, q{SELECT string_agg(kind, ',') FROM sqs_stats_workers}, 'launcher',
	'without queues only the launcher is left');
$sqs->send_messages('orders', 'nobody home');
is(left(), 1, 'messages stay at SQS');

$node->stop;
if ($sqsd)
{
	my $s = $sqs->stats('orders');
	is("$s->{redelivered} $s->{expired_leases} $s->{delete_stale} $s->{delete_unknown}", '0 0 0 0',
		'in all this no message was delivered twice');
}
check_log($node);
done_testing();
