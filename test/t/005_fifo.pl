# FIFO queues: order within a message group, groups in parallel.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

my $sqsd = endpoint_kind() eq 'sqsd';
my $sqs = start_sqs(
	queues => [
		'order.fifo,VisibilityTimeout=30', 'head.fifo,VisibilityTimeout=30',
		'meet.fifo,VisibilityTimeout=30'
	]);
my $node = new_node('main');

setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (n serial, queue text, grp text, body text, seq numeric,
  dedup text, receive_count int, pid int DEFAULT pg_backend_pid(),
  started timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got (queue, grp, body, seq, dedup, receive_count)
    VALUES (m.queue, m.group_id, m.body, m.sequence_number, m.deduplication_id, m.receive_count) $$;
SELECT sqs_register_queue('order.fifo', server => 'aws', handler => 'handle', concurrency => 3);
EOQ

# five groups of forty messages each
$sqs->send_messages(
	'order.fifo',
	map {
		my $i = $_;
		map { +{ MessageBody => $i, MessageGroupId => "g$_", MessageDeduplicationId => "$_-$i" } } 1 .. 5
	} 1 .. 40);
query_is($node, 'SELECT count(*) FROM got', '200', 'all messages are handled', timeout => 120);
is( $node->safe_psql('postgres', q{SELECT grp, count(*), string_agg(body, ',' ORDER BY n) =
	(SELECT string_agg(i::text, ',' ORDER BY i) FROM generate_series(1, 40) i)
	FROM got GROUP BY grp ORDER BY grp}),
	join("\n", map { "g$_|40|t" } 1 .. 5), 'in order within each group');
is( $node->safe_psql('postgres', q{SELECT bool_and(ok) FROM (SELECT seq > lag(seq, 1, -1)
	OVER (PARTITION BY grp ORDER BY n) AS ok FROM got) s}), 't', 'which is that of the sequence numbers');
is( $node->safe_psql('postgres', q{SELECT bool_and(dedup = substr(grp, 2) || '-' || body),
	max(receive_count) FROM got}), 't|1', 'each with its deduplication id and at its first delivery');
$sqs->is_empty('order.fifo');
if ($sqsd)
{
	my $s = $sqs->stats('order.fifo');
	is("$s->{sent} $s->{received} $s->{deleted} $s->{expired_leases}", '200 200 200 0',
		"SQS's books say the same");
}

# A failing head: nothing behind it in its group goes first.
$node->safe_psql('postgres', <<'EOQ');
CREATE SEQUENCE attempts;
CREATE TABLE heal (now bool);
INSERT INTO heal VALUES (false);
CREATE FUNCTION fail_head(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF m.group_id = 'bad' AND m.body = '3' THEN
    PERFORM nextval('attempts');
    IF NOT (SELECT now FROM heal) THEN RAISE 'head is bad'; END IF;
  END IF;
  INSERT INTO got (queue, grp, body) VALUES (m.queue, m.group_id, m.body);
END $$;
SELECT sqs_register_queue('head.fifo', server => 'aws', handler => 'fail_head',
  concurrency => 3, retry_delay => '1 s');
EOQ
$sqs->send_messages(
	'head.fifo',
	map {
		my $i = $_;
		map { +{ MessageBody => $i, MessageGroupId => $_, MessageDeduplicationId => "$_-$i" } }
		  qw(bad good1 good2)
	} 1 .. 20);
query_is($node, q{SELECT count(*) FROM got WHERE queue = 'head.fifo' AND grp LIKE 'good%'}, '40',
	'other groups go on while the head of one fails');
query_true($node, '(SELECT last_value FROM attempts) >= 3', 'which is tried again and again');
is( $node->safe_psql('postgres', q{SELECT string_agg(body, ',' ORDER BY n) FROM got WHERE grp = 'bad'}),
	'1,2', 'nothing behind it is handled before it');
is( $node->safe_psql('postgres', q{SELECT DISTINCT queue, sqlstate, message FROM sqs_failures}),
	'head.fifo|P0001|head is bad', 'only the head is recorded as failed');
$node->safe_psql('postgres', 'UPDATE heal SET now = true');
query_is($node, q{SELECT string_agg(body, ',' ORDER BY n) FROM got WHERE grp = 'bad'},
	join(',', 1 .. 20), 'when it succeeds the rest follows, in order', timeout => 90);
is( $node->safe_psql('postgres', q{SELECT grp, string_agg(body, ',' ORDER BY n) FROM got
	WHERE grp LIKE 'good%' GROUP BY 1 ORDER BY 1}),
	join("\n", map { "$_|" . join(',', 1 .. 20) } qw(good1 good2)), 'the others were in order too');
$sqs->is_empty('head.fifo');
# the head has waited for its retries in hand
is($sqs->stats('head.fifo')->{expired_leases}, '0', 'no lease ran out') if $sqsd;

# Groups in parallel: handlers of two groups wait for one another.  Either has
# to see the other's lock, so both must be running at one time.
$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION meet(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  me int := m.group_id;
  give_up timestamptz := clock_timestamp() + interval '1 hour';
BEGIN
  PERFORM pg_advisory_xact_lock(4711, me);
  LOOP
    EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
      AND classid = 4711 AND objid = 3 - me) OR EXISTS (SELECT FROM met WHERE who = 3 - me);
    IF clock_timestamp() > give_up THEN RAISE 'nobody came'; END IF;
    PERFORM pg_sleep(0.01);
  END LOOP;
  -- dblink-free way of telling outside of this transaction: a sequence
  PERFORM nextval('meetings');
  -- the other one may still have to see my lock
  WHILE (SELECT last_value FROM meetings) < 2 AND clock_timestamp() < give_up LOOP
    PERFORM pg_sleep(0.01);
  END LOOP;
  INSERT INTO met VALUES (me);
END $$;
CREATE TABLE met (who int);
CREATE SEQUENCE meetings;
SELECT sqs_register_queue('meet.fifo', server => 'aws', handler => 'meet', concurrency => 2);
EOQ
$sqs->send_messages('meet.fifo',
	map { +{ MessageBody => 'x', MessageGroupId => "$_", MessageDeduplicationId => "$_" } } 1, 2);
query_is($node, 'SELECT who FROM met ORDER BY 1', "1\n2", 'handlers of two groups ran at the same time');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM sqs_failures WHERE queue = 'meet.fifo'}),
	'0', 'without a failure');
$sqs->is_empty('meet.fifo');

# A free handler is not kept from another group by messages that wait in a
# group that is busy.
$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION stuck(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF m.group_id = 'slow' THEN PERFORM pg_sleep(3600); END IF;
  INSERT INTO got (queue, grp, body) VALUES (m.queue, m.group_id, m.body);
END $$;
EOQ
$sqs->create_queue('stuck.fifo', VisibilityTimeout => '30');
$sqs->send_messages('stuck.fifo',
	map { +{ MessageBody => $_, MessageGroupId => $_ > 12 ? 'quick' : 'slow', MessageDeduplicationId => "$_" } } 1 .. 13);
$node->safe_psql('postgres', q{SELECT sqs_register_queue('stuck.fifo', server => 'aws', handler => 'stuck', concurrency => 2)});
query_is($node, q{SELECT body FROM got WHERE queue = 'stuck.fifo'}, '13',
	'a group with many waiting messages does not keep a free handler from another group');
$node->safe_psql('postgres', q{SELECT sqs_unregister_queue('stuck.fifo')});

# A handler that exits right after a failure, with messages of the same group
# in its channel, which it neither runs nor skips: they go back to SQS, and the
# group goes on.  It exits because a message before changed its role's settings;
# the message that fails does so when the database worker has looked at them.
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE changed (group_id text, at timestamptz);
CREATE FUNCTION change_and_fail(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF m.body = '5' THEN
    EXECUTE format('ALTER ROLE %I SET sqs.test = %L', current_user, m.group_id);
    INSERT INTO changed VALUES (m.group_id, clock_timestamp());
  END IF;
  IF m.body = '6' AND m.receive_count = 1 THEN
    LOOP
      PERFORM pg_sleep(0.01);
      PERFORM pg_stat_clear_snapshot();
      EXIT WHEN EXISTS (SELECT FROM pg_stat_activity a, changed c WHERE c.group_id = m.group_id
        AND a.backend_type = 'sqsbridge database worker' AND a.query ~ 'supervising' AND a.state = 'idle'
        AND a.query_start > c.at);
    END LOOP;
    RAISE 'sixth of %', m.group_id;
  END IF;
  INSERT INTO got (queue, grp, body) VALUES (m.queue, m.group_id, m.body);
END $$;
EOQ
$sqs->create_queue('exit.fifo', VisibilityTimeout => '60');
$sqs->send_messages('exit.fifo',
	map { my $g = $_; map { +{ MessageBody => $_, MessageGroupId => "e$g", MessageDeduplicationId => "$g-$_" } } 1 .. 10 } 1 .. 5);
$node->safe_psql('postgres', q{SELECT sqs_register_queue('exit.fifo', server => 'aws', handler => 'change_and_fail', retry_delay => '0 s')});
query_is($node, q{SELECT grp, string_agg(body, ',' ORDER BY n) FROM got WHERE queue = 'exit.fifo' GROUP BY grp HAVING count(*) = 10 ORDER BY grp},
	join("\n", map { "e$_|1,2,3,4,5,6,7,8,9,10" } 1 .. 5),
	'a handler that exits behind a failure: the rest of the group is released and handled, in order');
$node->safe_psql('postgres', q{SELECT sqs_unregister_queue('exit.fifo')});

$node->stop;
check_log($node, qr/head is bad/, qr/sixth of e\d/);
done_testing();
