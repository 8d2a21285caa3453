# What happens to a message whose handler fails.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $sqs = start_sqs(
	queues => [
		'ticker',
		'slow,VisibilityTimeout=8', 'quick,VisibilityTimeout=3600', 'deferred,VisibilityTimeout=60',
		'serial,VisibilityTimeout=60', 'tired,VisibilityTimeout=3600', 'timeout,VisibilityTimeout=3600',
		'stubborn,VisibilityTimeout=3600', 'dead', 'poison,VisibilityTimeout=3600,dlq=dead:3',
		'gone,VisibilityTimeout=3600', 'wal,VisibilityTimeout=60'
	]);
my $node = new_node('main');

setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (queue text, body text, receive_count int, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE switch (bad bool);
INSERT INTO switch VALUES (true);
CREATE FUNCTION fail(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, 'never to be seen', m.receive_count);
  IF (SELECT bad FROM switch) THEN
    RAISE EXCEPTION 'no good: %', m.body
      USING ERRCODE = 'SQ001', DETAIL = 'the detail', HINT = 'the hint';
  END IF;
  UPDATE got SET body = m.body;
END $$;
CREATE FUNCTION store(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count) $$;
SELECT sqs_register_queue('slow', server => 'aws', handler => 'fail');
EOQ

# ---- an error is recorded, and the message is left to its visibility timeout

my ($id) = $sqs->send_messages('slow', 'one');
query_is($node, 'SELECT count(*) FROM sqs_failures', '1', 'a failure is recorded');
is( $node->safe_psql('postgres', q{SELECT queue, message_id, receive_count, sqlstate, message, detail, hint,
	context LIKE 'PL/pgSQL function %fail(%sqs_message) line 5 at RAISE' || chr(10) ||
		'handler of sqsbridge queue "slow", message ' || message_id,
	queue_owner::text = current_user, failed_at > now() - interval '1 min', handler_pid > 0 FROM sqs_failures}),
	"slow|$id|1|SQ001|no good: one|the detail|the hint|t|t|t|t", 'with all that PostgreSQL says');
is( $node->safe_psql('postgres', 'SELECT count(*) FROM got'), '0', 'its transaction is rolled back');
is( $node->safe_psql('postgres', 'SELECT count(*) FROM sqsbridge_internal.inbox'), '0', 'it does not count as handled');
query_is($node, q{SELECT failed, acked, in_flight, state FROM sqs_stats WHERE queue = 'slow'}, '1|0|0|polling',
	'the failure is counted, the queue is well');
my $c = $sqs->counts('slow');
is("$c->{visible} $c->{in_flight}", '0 1', 'SQS keeps the message back for its visibility timeout');
$node->safe_psql('postgres', 'UPDATE switch SET bad = false');
query_is($node, q{SELECT body, receive_count FROM got}, 'one|2', 'then it is delivered again');
$sqs->is_empty('slow');
is( $node->safe_psql('postgres', q{SELECT g.at - f.failed_at > interval '6 s' FROM got g, sqs_failures f}), 't',
	'after its visibility timeout, not before');
is($sqs->stats('slow')->{visibility_zero}, 0, 'its visibility was not touched');

# ---- retry_delay makes it come back sooner

$node->safe_psql('postgres', q{TRUNCATE got; UPDATE switch SET bad = true;
	SELECT sqs_register_queue('quick', server => 'aws', handler => 'fail', retry_delay => '1 s')});
$sqs->send_messages('quick', 'two {not json');
query_is($node, q{SELECT message FROM sqs_failures WHERE queue = 'quick' LIMIT 1}, 'no good: two {not json',
	'another failure');
$node->safe_psql('postgres', 'UPDATE switch SET bad = false');
query_is($node, 'SELECT body FROM got', 'two {not json', 'with retry_delay the message does not wait for its visibility timeout');
is( $node->safe_psql('postgres', q{SELECT g.at - f.failed_at > interval '0.99 s'
	FROM got g, (SELECT max(failed_at) AS failed_at FROM sqs_failures WHERE queue = 'quick') f}), 't',
	'after that delay');
$sqs->is_empty('quick');

# ---- an error at commit

$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int CONSTRAINT has_parent REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION orphan(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO child VALUES (m.body::int) $$;
SELECT sqs_register_queue('deferred', server => 'aws', handler => 'orphan', retry_delay => '1 s');
EOQ
$sqs->send_messages('deferred', '7');
query_is($node, q{SELECT sqlstate, message FROM sqs_failures WHERE queue = 'deferred' LIMIT 1},
	'23503|insert or update on table "child" violates foreign key constraint "has_parent"',
	'a deferred constraint that fails at commit is a failure like any other');
is($sqs->stats('deferred')->{deleted}, 0, 'the message is not deleted');
$node->safe_psql('postgres', 'INSERT INTO parent VALUES (7)');
query_is($node, 'SELECT id FROM child', '7', 'when its time has come it is handled');
$sqs->is_empty('deferred');

# ---- serialization failures are retried within one delivery

$node->safe_psql('postgres', <<'EOQ');
CREATE SEQUENCE attempts;
CREATE FUNCTION serialize(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF nextval('attempts') <= m.body::int THEN
    RAISE 'try again' USING ERRCODE = '40001';
  END IF;
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count);
END $$;
TRUNCATE got;
SELECT sqs_register_queue('serial', server => 'aws', handler => 'serialize');
EOQ
$sqs->send_messages('serial', '3');
query_is($node, q{SELECT body, receive_count FROM got}, '3|1',
	'three serialization failures are overcome within one delivery');
is($node->safe_psql('postgres', 'SELECT last_value FROM attempts'), '4', 'at the fourth attempt');
is($node->safe_psql('postgres', q{SELECT count(*) FROM sqs_failures WHERE queue = 'serial'}), '0',
	'and are not failures');
$sqs->is_empty('serial');
is($sqs->stats('serial')->{received}, 1, "SQS's books: one delivery");

$node->safe_psql('postgres', q{SELECT setval('attempts', 1, false);
	SELECT sqs_register_queue('tired', server => 'aws', handler => 'serialize', retry_delay => '2 s')});
$sqs->send_messages('tired', '4');
query_is($node, q{SELECT sqlstate, message FROM sqs_failures WHERE queue = 'tired'}, '40001|try again',
	'four of them are a failure');
is($node->safe_psql('postgres', 'SELECT last_value FROM attempts'), '4', 'after the fourth attempt');
query_is($node, q{SELECT body, receive_count FROM got WHERE queue = 'tired'}, '4|2', 'the next delivery does it');
$sqs->is_empty('tired');

# ---- handler_timeout

$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION sleeper(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count);
  IF m.receive_count = 1 THEN PERFORM pg_sleep(3600); END IF;
END $$;
-- catches the cancel, as a clumsy handler might
CREATE FUNCTION stubborn(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF m.receive_count > 1 THEN
    INSERT INTO got VALUES (m.queue, m.body, m.receive_count);
    RETURN;
  END IF;
  BEGIN
    PERFORM pg_sleep(3600);
  EXCEPTION WHEN query_canceled THEN
    NULL;
  END;
  INSERT INTO got VALUES (m.queue, 'committed though cancelled', m.receive_count);
END $$;
TRUNCATE got;
SELECT sqs_register_queue('timeout', server => 'aws', handler => 'sleeper',
  handler_timeout => '500 ms', retry_delay => '1 s');
SELECT sqs_register_queue('stubborn', server => 'aws', handler => 'stubborn',
  handler_timeout => '500 ms', retry_delay => '1 s');
EOQ
$sqs->send_messages('timeout', 'x');
query_is($node, q{SELECT sqlstate FROM sqs_failures WHERE queue = 'timeout'}, '57014',
	'a handler that runs too long is cancelled');
query_is($node, q{SELECT body, receive_count FROM got WHERE queue = 'timeout'}, 'x|2',
	'and its message comes again');
$sqs->send_messages('stubborn', 'y');
query_is($node, q{SELECT count(*) FROM sqs_failures WHERE queue = 'stubborn'}, '1',
	'a handler that ignores being cancelled fails all the same');
query_is($node, q{SELECT body, receive_count FROM got WHERE queue = 'stubborn'}, 'y|2',
	'and does not commit');
is($node->safe_psql('postgres', q{SELECT sqlstate FROM sqs_failures WHERE queue = 'stubborn'}), '57014',
	'with the same SQLSTATE');
$sqs->is_empty('timeout');
$sqs->is_empty('stubborn');

# ---- dead-letter queue

$node->safe_psql('postgres', q{UPDATE switch SET bad = true; TRUNCATE got;
	SELECT sqs_register_queue('poison', server => 'aws', handler => 'fail', retry_delay => '0 s')});
($id) = $sqs->send_messages('poison', 'p');
poll_until(sub { $sqs->counts('dead')->{visible} == 1 }, 'a poison message ends in the dead-letter queue');
is( $node->safe_psql('postgres', q{SELECT string_agg(receive_count::text, ',' ORDER BY failed_at),
	min(message_id) FROM sqs_failures WHERE queue = 'poison'}), "1,2,3|$id", 'after three failures');
$sqs->is_empty('poison');

# ---- the handler function is dropped and comes back

$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION gone(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count) $$;
SELECT sqs_register_queue('gone', server => 'aws', handler => 'gone', wait_time => '1 s');
EOQ
$sqs->send_messages('gone', 'before');
query_is($node, q{SELECT body FROM got WHERE queue = 'gone'}, 'before', 'a queue works');
$sqs->is_empty('gone');
$node->safe_psql('postgres', 'DROP FUNCTION gone');
my $before = $sqs->stats('gone');
$sqs->send_messages('gone', map { "m$_" } 1 .. 5);
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'gone'}, 'error', 'its handler is dropped: state error');
like($node->safe_psql('postgres', q{SELECT last_error FROM sqs_stats WHERE queue = 'gone'}), qr/gone/,
	'last_error says what is missing');
query_is($node, q{SELECT count(*) FROM sqs_stats_workers WHERE queue = 'gone'}, '0', 'its workers end');
# those of the messages that a handler was given at the same time count as errors of their own
backs_off($node, 'gone', 'until then it was not tried again and again', free => 10);
my $ended = $sqs->stats('gone');
cmp_ok($ended->{received} - $before->{received}, '<=', 5, 'nor was a message delivered twice');
is($sqs->counts('gone')->{visible}, 5, 'and all were given back');
$node->safe_psql('postgres', "SELECT sqs_register_queue('ticker', server => 'aws', handler => 'store', wait_time => '1 s')");
seconds_pass($node, 4, 'four seconds pass');
is($sqs->calls('gone', 'ReceiveMessage'), $ended->{calls}{ReceiveMessage}, 'SQS is not asked meanwhile');
$sqs->send_messages('slow', 'other');
query_is($node, q{SELECT count(*) > 0 FROM sqs_failures WHERE message = 'no good: other'}, 't',
	'other queues work on');
$node->safe_psql('postgres', q{CREATE FUNCTION gone(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got VALUES (m.queue, m.body, m.receive_count) $$});
query_is($node, q{SELECT string_agg(body, ',' ORDER BY body) FROM got WHERE queue = 'gone'},
	'before,m1,m2,m3,m4,m5', 'it comes back: the queue goes on by itself', timeout => 90);
$sqs->is_empty('gone');
query_is($node, q{SELECT state, last_error IS NULL OR error_since IS NULL FROM sqs_stats WHERE queue = 'gone'}, 'polling|t', 'and is well');

$node->safe_psql('postgres', 'UPDATE switch SET bad = false');
$sqs->is_empty('slow');
$node->stop;
check_log($node, qr/no good: /, qr/has_parent/, qr/try again/, qr/canceling statement due to/,
	qr/handler was cancelled and returned all the same/, qr/function .*gone.* does not exist/);
done_testing();
