# What waits in hand: retries with a short delay, and queues that are paused or
# throttled because their handlers fail.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $sqs = start_sqs(
	queues => [
		'dead', 'dead.fifo', 'ticker',
		'throttle,VisibilityTimeout=60,dlq=dead:3', 'pause,VisibilityTimeout=60,dlq=dead:3',
		'poison,VisibilityTimeout=60', 'alone,VisibilityTimeout=60', 'hold,VisibilityTimeout=60', 'routes,VisibilityTimeout=60', 'crash,VisibilityTimeout=5',
		'head.fifo,VisibilityTimeout=60,dlq=dead.fifo:3', 'far.fifo,VisibilityTimeout=60', 'pause.fifo,VisibilityTimeout=60' ]);
my $node = new_node('main', conf => "restart_after_crash = on\n");
setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (n serial, queue text, message_id text, body text, receive_count int, grp text);
CREATE TABLE broken (queue text PRIMARY KEY, code text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  code text := (SELECT b.code FROM broken b WHERE b.queue = m.queue OR b.queue = m.queue || ' ' || m.body
    OR CASE WHEN b.queue = 'throttle late' AND m.queue = 'throttle' THEN m.body::int > 300 END);
BEGIN
  IF code IS NOT NULL THEN
    RAISE 'broken' USING ERRCODE = code;
  END IF;
  INSERT INTO got (queue, message_id, body, receive_count, grp)
    VALUES (m.queue, m.message_id, m.body, m.receive_count, m.group_id);
END $$;
CREATE FUNCTION tick(m sqs_message) RETURNS void LANGUAGE sql AS 'SELECT';
SELECT sqs_register_queue('ticker', server => 'aws', handler => 'tick', wait_time => '1 s');
EOQ

sub breaks
{
	my ($what, $code) = @_;
	$node->safe_psql('postgres', "INSERT INTO broken VALUES ('$what', '$code')");
	return;
}

sub works
{
	my ($what) = @_;
	$node->safe_psql('postgres', "DELETE FROM broken WHERE queue = '$what'");
	return;
}

sub register
{
	my ($queue, $options) = @_;
	$node->safe_psql('postgres',
		"SELECT sqs_register_queue('$queue', server => 'aws', handler => 'handle', wait_time => '1 s', $options)");
	return;
}

sub send_group
{
	my ($queue, $group, @bodies) = @_;
	return $sqs->send_messages($queue,
		map { +{ MessageBody => $_, MessageGroupId => $group, MessageDeduplicationId => "$group-$_" } } @bodies);
}

# ---- throttle: an outage of what all messages need

# (while it works, it has more messages in hand than it will keep)
breaks('throttle late', 'P0001');
$sqs->fill('throttle', 1000);
register('throttle', q{concurrency => 2, throttle_after => 5, retry_delay => '5 s'});
query_is($node, q{SELECT state, last_error, next_poll_at > state_since FROM sqs_stats WHERE queue = 'throttle'},
	'throttled|handler: P0001: broken|t', 'after some failures in a row, the queue is throttled');
query_true($node, q{(SELECT uncharged FROM sqs_stats WHERE queue = 'throttle') >= 3}, 'it tries one message now and then');
is($node->safe_psql('postgres', q{SELECT count(*) FROM sqs_failures WHERE queue = 'throttle' AND attempt IS NULL
	AND action <> 'throttle'}), '0', 'which does not count');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM sqs_failures WHERE queue = 'throttle' AND attempt IS NOT NULL}), '<=',
	5 + 2 * 32, 'few failures did');
# what is in hand is kept for a minute; then others shall have it
query_is($node, q{SELECT in_flight <= 4, given_back > 0 FROM sqs_stats WHERE queue = 'throttle'}, 't|t',
	'after a minute, it keeps a few messages only', timeout => 150)
  or diag($node->safe_psql('postgres', q{SELECT in_flight, given_back, uncharged FROM sqs_stats WHERE queue = 'throttle'}));
is($node->safe_psql('postgres', q{SELECT state, now() >= state_since + interval '60 s' FROM sqs_stats WHERE queue = 'throttle'}),
	'throttled|t', 'not before');
works('throttle late');
query_is($node, q{SELECT count(DISTINCT body), count(*) FROM got WHERE queue = 'throttle'}, '1000|1000',
	'when one succeeds, the rest follows', timeout => 180);
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'throttle'}, 'polling', 'and the state says so');
is($sqs->counts('dead')->{visible}, 0, 'no message was moved to the dead-letter queue');
cmp_ok($node->safe_psql('postgres', q{SELECT max(receive_count) FROM got WHERE queue = 'throttle'}), '<=', 2,
	'the outage has cost each message one receive at most');
$sqs->is_empty('throttle');
$sqs->books_agree('throttle', $node, 'throttle');

# ---- pause: at the first error of some kinds

breaks('pause', '08006');
$sqs->fill('pause', 30);
register('pause', q{concurrency => 2});
query_is($node, q{SELECT state, last_error, next_poll_at > state_since FROM sqs_stats WHERE queue = 'pause'},
	'paused|handler: 08006: broken|t', 'a lost connection pauses the queue');
query_true($node, q{(SELECT uncharged FROM sqs_stats WHERE queue = 'pause') >= 3}, 'it tries one message now and then');
is($node->safe_psql('postgres', q{SELECT DISTINCT sqlstate, action, attempt FROM sqs_failures WHERE queue = 'pause'}),
	'08006|pause|', 'that counts for none of them');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM sqs_failures WHERE queue = 'pause'}), '<=', 4,
	'and is not recorded again and again');

# the rule is changed while it is paused
$node->safe_psql('postgres', q{SELECT sqs_set_error_rule('pause', '08', 'retry', '1 h')});
query_true($node, q{EXISTS (SELECT FROM sqs_failures WHERE queue = 'pause' AND action = 'retry')}, 'another rule applies at once');
$node->safe_psql('postgres', q{SELECT sqs_set_error_rule('pause', '08', NULL)});
works('pause');
query_true($node, q{(SELECT count(DISTINCT body) FROM got WHERE queue = 'pause') +
	(SELECT count(DISTINCT message_id) FROM sqs_failures WHERE queue = 'pause' AND action = 'retry') >= 30},
	'when the connection is back, it goes on', timeout => 120);
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'pause'}, 'polling', 'and the state says so');
is($node->safe_psql('postgres', q{SELECT max(receive_count) FROM got WHERE queue = 'pause'}), '1',
	'no message was received again');

# ---- who is to blame

# a message that needs too much is not the queue's fault once another has succeeded
register('poison', q{max_attempts => 2, retry_delay => '1 s'});
breaks('poison bad', '53200');
$sqs->send_messages('poison', 'bad', map { "good $_" } 1 .. 10);
query_is($node, q{SELECT body, reason, sqlstate, attempts FROM sqs_dead_letters WHERE queue = 'poison'}, 'bad|max_attempts|53200|2',
	'poison among good messages is charged', timeout => 120);
query_is($node, q{SELECT count(*), count(DISTINCT body), max(receive_count) FROM got WHERE queue = 'poison'}, '10|10|1',
	'which are handled');
$sqs->is_empty('poison');
register('alone', q{max_attempts => 1, retry_delay => '1 s'});
breaks('alone bad', '53200');
$sqs->send_messages('alone', 'bad');
query_true($node, q{(SELECT uncharged FROM sqs_stats WHERE queue = 'alone') >= 3}, 'alone, it is tried again and again');
is($node->safe_psql('postgres', q{SELECT count(*) FROM sqs_dead_letters WHERE queue = 'alone'}), '0', 'and not charged');
works('alone bad');
query_is($node, q{SELECT body, receive_count FROM got WHERE queue = 'alone'}, 'bad|1', 'until it succeeds', timeout => 120);

# ---- a message group waits for its head, in hand

breaks('head.fifo 1', 'P0001');
register('head.fifo', q{retry_delay => '2 s', retry_factor => 1, concurrency => 2});
send_group('head.fifo', 'a', 1 .. 8);
query_true($node, q{(SELECT count(*) FROM sqs_failures WHERE queue = 'head.fifo') >= 4}, 'the head of a group fails some times');
works('head.fifo 1');
query_is($node, q{SELECT string_agg(body, ',' ORDER BY n), max(receive_count) FROM got WHERE queue = 'head.fifo'}, '1,2,3,4,5,6,7,8|1',
	'then the group goes on in order, and none of it has been received again');
is($sqs->counts('dead.fifo')->{visible}, 0, 'nor moved to the dead-letter queue');
query_true($node, q{(SELECT held FROM sqs_stats WHERE queue = 'head.fifo') >= 4}, 'retries in hand are counted');
$sqs->is_empty('head.fifo');

# with max_attempts, the redrive policy is not needed, and receives are saved
$node->safe_psql('postgres', q{SELECT sqs_alter_queue('head.fifo', max_attempts => 30, retry_delay => '0')});
breaks('head.fifo 11', 'P0001');
send_group('head.fifo', 'b', 11 .. 15);
query_is($node, q{SELECT body, attempts, receive_count FROM sqs_dead_letters WHERE queue = 'head.fifo'}, '11|30|1',
	'as many attempts as it may have, in one receive');
query_is($node, q{SELECT string_agg(body, ',' ORDER BY n), max(receive_count) FROM got WHERE queue = 'head.fifo' AND grp = 'b'},
	'12,13,14,15|1', 'and those behind it are received once');

# a long delay is passed at SQS, by the whole group
register('far.fifo', q{retry_delay => '10 min'});
breaks('far.fifo 1', 'P0001');
send_group('far.fifo', 'a', 1 .. 5);
query_is($node, q{SELECT in_flight FROM sqs_stats WHERE queue = 'far.fifo' AND failed > 0}, '0', 'a long delay: the group is given back');
works('far.fifo 1');
$sqs->advance(601);
query_is($node, q{SELECT string_agg(body, ',' ORDER BY n) FROM got WHERE queue = 'far.fifo'}, '1,2,3,4,5', 'and comes again, in order');
is( $node->safe_psql('postgres', q{SELECT given_back + 1 FROM sqs_stats WHERE queue = 'far.fifo'}),
	$node->safe_psql('postgres', q{SELECT sum(receive_count - 1) FROM got WHERE queue = 'far.fifo'}), 'the cost of that is counted');

# FIFO and pause: groups are tried by their first message
breaks('pause.fifo', '57P03');
register('pause.fifo', q{concurrency => 2});
send_group('pause.fifo', $_, 1 .. 6) foreach 'a' .. 'd';
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'pause.fifo'}, 'paused', 'FIFO: paused');
query_true($node, q{(SELECT uncharged FROM sqs_stats WHERE queue = 'pause.fifo') >= 3}, 'FIFO: it tries');
works('pause.fifo');
query_is($node, q{SELECT string_agg(l, ' ' ORDER BY l) FROM (SELECT grp || ':' || string_agg(body, ',' ORDER BY n) || ':' || max(receive_count) AS l
	FROM got WHERE queue = 'pause.fifo' GROUP BY grp) x}, join(' ', map { "$_:1,2,3,4,5,6:1" } 'a' .. 'd'),
	'FIFO: each group goes on in order, at its first receive', timeout => 120);

# ---- routes: one is held, the other goes on

$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION handle_a(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM broken WHERE queue = 'route a') THEN
    RAISE 'a is broken';
  END IF;
  INSERT INTO got (queue, message_id, body, receive_count, grp) VALUES (m.queue, m.message_id, m.body, m.receive_count, 'a');
END $$;
CREATE FUNCTION handle_b(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got (queue, message_id, body, receive_count, grp) VALUES (m.queue, m.message_id, m.body, m.receive_count, 'b') $$;
EOQ
breaks('route a', 'P0001');
$sqs->send_messages('routes', map { (qq({"kind": "a", "n": $_}), qq({"kind": "b", "n": $_})) } 1 .. 50);
$node->safe_psql('postgres', <<'EOQ');
BEGIN;
SELECT sqs_register_queue('routes', server => 'aws', route_by => '$.kind', concurrency => 2, throttle_after => 5, wait_time => '1 s');
SELECT sqs_add_route('routes', 'a', 'handle_a'), sqs_add_route('routes', 'b', 'handle_b');
COMMIT;
EOQ
query_is($node, q{SELECT grp, count(*) FROM got WHERE queue = 'routes' GROUP BY 1}, 'b|50', 'routes: one goes on while the other is held',
	timeout => 120);
query_true($node, q{(SELECT uncharged FROM sqs_stats WHERE queue = 'routes') >= 2}, 'routes: which is tried now and then');
is($node->safe_psql('postgres', q{SELECT state FROM sqs_stats WHERE queue = 'routes'}), 'polling', 'routes: the queue is polled');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM sqs_failures WHERE queue = 'routes' AND attempt > 0}), '<=', 5 + 2 * 32,
	'routes: few failures count');
works('route a');
# what there was no room for comes back, and so does what has failed
query_true($node, q{(SELECT count(*) FROM got WHERE queue = 'routes' AND grp = 'a') > 0}, 'routes: the first success releases it', timeout => 120);
foreach (1 .. 3)
{
	$sqs->advance(61);
	seconds_pass($node, 2, 'routes: time passes');
}
query_is($node, q{SELECT grp, count(*), count(DISTINCT body), max(receive_count) <= 3 FROM got WHERE queue = 'routes' GROUP BY 1 ORDER BY 1},
	"a|50|50|t\nb|50|50|t", 'routes: then its messages are handled', timeout => 120);
$sqs->is_empty('routes');

# so it is if the function of a route is gone
$node->safe_psql('postgres', 'ALTER FUNCTION handle_a RENAME TO handle_x');
$sqs->send_messages('routes', map { (qq({"kind": "a", "n": $_}), qq({"kind": "b", "n": $_})) } 51 .. 55);
query_is($node, q{SELECT grp, count(*) FROM got WHERE queue = 'routes' GROUP BY 1 ORDER BY 1}, "a|50\nb|55",
	'routes: a function that is gone concerns its route only');
query_is($node, q{SELECT state, last_error FROM sqs_stats WHERE queue = 'routes'}, 'polling|function public.handle_a(sqs_message) does not exist',
	'routes: the error says so');
$node->safe_psql('postgres', 'ALTER FUNCTION handle_x RENAME TO handle_a');
query_is($node, q{SELECT grp, count(*) FROM got WHERE queue = 'routes' GROUP BY 1 ORDER BY 1}, "a|55\nb|55",
	'routes: it is found again', timeout => 120);

# ---- stop while messages are held

register('hold', q{retry_delay => '40 s', retry_jitter => 0, max_attempts => 10});
breaks('hold', 'P0001');
my ($id) = $sqs->send_messages('hold', 'x');
query_is($node, q{SELECT held, in_flight FROM sqs_stats WHERE queue = 'hold'}, '1|1', 'a message waits in hand');
works('hold');
$node->safe_psql('postgres', q{SELECT sqs_disable_queue('hold')});
query_is($node, q{SELECT state, in_flight FROM sqs_stats WHERE queue = 'hold'}, 'disabled|0', 'the queue is stopped');
my ($message) = grep { $_->{id} eq $id } @{ $sqs->messages('hold') };
cmp_ok($message->{visible_in_ms}, '>', 0, 'the message is given back with what is left of its delay');
cmp_ok($message->{visible_in_ms}, '<=', 40_000, 'not with more');
$node->safe_psql('postgres', q{SELECT sqs_enable_queue('hold')});
$sqs->advance(41);
query_is($node, q{SELECT body, receive_count FROM got WHERE queue = 'hold'}, 'x|2', 'after that, it is handled');

# ---- a server that crashes while messages are held, paused, and run

register('crash', q{retry_delay => '1 s', max_attempts => 1000, concurrency => 2});
breaks('crash', '08006');
$sqs->fill('crash', 40);
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'crash'}, 'paused', 'a queue is paused');
my $pid = $node->safe_psql('postgres', q{SELECT pid FROM sqs_stats_workers WHERE queue = 'crash' AND kind = 'queue worker'});
kill 'KILL', $pid;
query_true($node, qq{NOT EXISTS (SELECT FROM sqs_stats_workers WHERE pid = $pid)
	AND (SELECT state FROM sqs_stats WHERE queue = 'crash') = 'paused'}, 'its worker is killed: paused again', timeout => 120);
works('crash');
breaks('crash 7', 'P0001');
query_true($node, q{(SELECT count(*) FROM sqs_failures WHERE queue = 'crash' AND attempt > 0) >= 2}, 'a message is retried', timeout => 120);
$pid = $node->safe_psql('postgres', q{SELECT pid FROM sqs_stats_workers WHERE queue = 'crash' AND kind = 'handler worker' LIMIT 1});
works('crash 7');
kill 'KILL', $pid if $pid;
query_is($node, q{SELECT count(*), count(DISTINCT message_id) FROM got WHERE queue = 'crash'}, '40|40', 'nothing is lost, nothing is done twice',
	timeout => 180);
$sqs->is_empty('crash');
$sqs->books_agree('crash', $node, 'crash');

check_log($node, qr/terminated by signal 9/, qr/terminating connection because of crash/, qr/exited with exit code/,
	qr/FATAL:  the database system is (?:in recovery mode|not yet accepting)/);
done_testing();
