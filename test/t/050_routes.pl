# Routes: which function handles which message, what becomes of a message that
# no route is for, and of a route that cannot be used.
use strict;
use warnings;

use List::Util qw(sum);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my @queues = qw(attribute path envelope fail dead discard own busy);
my $sqs = start_sqs(queues => [ (map { "$_,VisibilityTimeout=30" } @queues), 'order.fifo,VisibilityTimeout=30', 'slow,VisibilityTimeout=3' ]);
my $node = new_node('main', conf => "max_worker_processes = 60\nsqsbridge.max_workers = 60\n");
setup_database($node, $sqs);

$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (n serial, who text, message_id text, body text, group_id text);
CREATE FUNCTION note(who text, m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got (who, message_id, body, group_id) VALUES (who, m.message_id, m.body, m.group_id) $$;
CREATE FUNCTION other(m sqs_message) RETURNS void LANGUAGE sql AS $$ SELECT note('other', m) $$;
CREATE FUNCTION paid(m sqs_message) RETURNS void LANGUAGE sql AS $$ SELECT note('paid', m) $$;
CREATE FUNCTION shipped(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM note('shipped', m); END $$;
CREATE FUNCTION broken(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM note('broken', m); RAISE 'broken on purpose'; END $$;
CREATE FUNCTION sleeps(m sqs_message) RETURNS void LANGUAGE sql AS $$ SELECT note('sleeps', m), pg_sleep(3600) $$;
EOQ

sub attributes
{
	my (%values) = @_;
	return { map { $_ => { DataType => 'String', StringValue => $values{$_} } } keys %values };
}

# Messages, and by which function each is to be handled.
sub routed_to
{
	my ($queue, @cases) = @_;
	my @ids = $sqs->send_messages($queue, map { ref $_->[0] ? $_->[0] : { MessageBody => $_->[0] } } @cases);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	foreach my $i (0 .. $#cases)
	{
		my $name = $cases[$i][2] || $cases[$i][0];
		query_is($node, "SELECT who FROM got WHERE message_id = '$ids[$i]'", $cases[$i][1], "$queue: " . substr($name, 0, 80));
	}
	return @ids;
}

sub failures
{
	my ($id) = @_;
	return "SELECT DISTINCT sqlstate, message, detail, action, route FROM sqs_failures WHERE message_id = '$id'";
}

# ---- by an attribute

$node->safe_psql('postgres', <<'EOQ');
SELECT sqs_register_queue('attribute', server => 'aws', handler => 'other', route_by => 'attribute:type', concurrency => 2);
SELECT sqs_add_route('attribute', 'order.paid', 'paid'), sqs_add_route('attribute', '7', 'shipped');
EOQ
routed_to('attribute',
	[ { MessageBody => 'a', MessageAttributes => attributes(type => 'order.paid') }, 'paid', 'a String' ],
	[ { MessageBody => 'b', MessageAttributes => { type => { DataType => 'Number', StringValue => '7' } } }, 'shipped', 'a Number' ],
	[ { MessageBody => 'c', MessageAttributes => { type => { DataType => 'String.kind', StringValue => 'order.paid' } } }, 'paid', 'a custom type' ],
	[ { MessageBody => 'd', MessageAttributes => { type => { DataType => 'Binary', BinaryValue => 'b3JkZXIucGFpZA==' } } }, 'other', 'binary' ],
	[ { MessageBody => 'e', MessageAttributes => attributes(type => 'ORDER.PAID') }, 'other', 'another case' ],
	[ { MessageBody => 'f', MessageAttributes => attributes(type => 'order.paid ') }, 'other', 'a space' ],
	[ { MessageBody => 'g', MessageAttributes => attributes(Type => 'order.paid') }, 'other', 'another attribute' ],
	[ 'order.paid', 'other', 'no attribute' ]);
query_is($node, "SELECT key, handled, failed, dead_letters, handler_time_total > 0 AND handler_time_max <= handler_time_total
		FROM sqs_routes WHERE queue = 'attribute' ORDER BY key",
	"7|1|0|0|t\norder.paid|2|0|0|t", 'the routes are counted');
query_is($node, "SELECT acked, unroutable FROM sqs_stats WHERE queue = 'attribute'", '8|5', 'and what is not routed');
$node->safe_psql('postgres', "SELECT sqs_stats_reset('attribute')");
is($node->safe_psql('postgres', "SELECT sum(handled), sum(handler_time_total) FROM sqs_routes WHERE queue = 'attribute'"), '0|0',
	'counters can be reset');

# ---- by a jsonpath: whatever is in the body

$node->safe_psql('postgres', <<'EOQ');
SELECT sqs_register_queue('path', server => 'aws', handler => 'other', route_by => '$.type');
SELECT sqs_add_route('path', 'paid', 'paid'), sqs_add_route('path', '12.50', 'shipped'), sqs_add_route('path', 'true', 'shipped'),
       sqs_add_route('path', E'\u00e9\u20ac', 'paid'), sqs_add_route('path', repeat('k', 256), 'paid');
EOQ
my $deep = '{"type":"paid","x":' . ('[' x 100_000) . (']' x 100_000) . '}';
routed_to('path',
	[ '{"type":"paid"}', 'paid' ],
	[ ' {"x":[{"type":1}],"type":"paid"}', 'paid' ],
	[ '{"type":12.50}', 'shipped' ],
	[ '{"type":12.5}', 'other', 'a number that is written otherwise' ],
	[ '{"type":true}', 'shipped' ],
	[ "{\"type\":\"\x{e9}\\u20ac\"}", 'paid', 'not ASCII' ],
	[ '{"type":"' . ('k' x 256) . '"}', 'paid', 'a long key' ],
	[ '{"type":"' . ('k' x 257) . '"}', 'other', 'too long a key' ],
	[ '{"type":""}', 'other' ],
	[ '{"type":null}', 'other' ],
	[ '{"type":["paid"]}', 'other' ],
	[ '{"type":{"a":"paid"}}', 'other' ],
	[ '{"other":"paid"}', 'other' ],
	[ '[{"type":"paid"}]', 'paid', 'an array, which a lax path unwraps' ],
	[ '"paid"', 'other' ],
	[ '17', 'other' ],
	[ 'paid', 'other', 'no JSON' ],
	[ '{"type":"paid"', 'other' ],
	[ '{"type":"paid\\u0000"}', 'other' ],
	[ '{"type":"\\ud800"}', 'other' ],
	[ '{"type":1e400000}', 'other' ],
	[ $deep, 'other', 'nested too deeply' ]);
query_is($node, "SELECT failed FROM sqs_stats WHERE queue = 'path'", '0', 'none of them fails');

# a path that cannot be evaluated
foreach my $case (
	[ '$.type ? (@.datetime() < "2020-01-01T00:00:00+00:00".datetime())', '{"type":"2019-01-01"}', 'a time without its zone' ],
	[ '$.a[1 to 3].b', '{"a":7}', 'no array' ],
	[ 'strict $.type', '{"x":1}', 'strict' ],
	[ '$.type / 0', '{"type":1}', 'division by zero' ])
{
	my ($path, $body, $name) = @$case;
	$node->safe_psql('postgres', "SELECT sqs_alter_queue('path', route_by => " . SqsTest::sql_literal($path) . ")");
	routed_to('path', [ $body, 'other', $name ]);
}
$sqs->is_empty('path');

# ---- by the envelope

$node->safe_psql('postgres', <<'EOQ');
SELECT sqs_register_queue('envelope', server => 'aws', handler => 'other', unwrap => 'auto', route_by => 'envelope:detail_type');
SELECT sqs_add_route('envelope', 'Order Paid', 'paid');
EOQ
my $event = '{"version":"0","id":"1","detail-type":"Order Paid","source":"shop","account":"1","time":"2026-01-01T00:00:00Z","region":"r","resources":[],"detail":{"type":"shipped"}}';
routed_to('envelope', [ $event, 'paid', 'detail-type' ], [ '{"detail_type":"Order Paid"}', 'other', 'what is only in the body' ]);
$node->safe_psql('postgres', "SELECT sqs_alter_queue('envelope', route_by => '\$.type'); SELECT sqs_add_route('envelope', 'shipped', 'shipped')");
routed_to('envelope', [ $event, 'shipped', 'the body is the unwrapped one' ]);
my ($test_event) = $sqs->send_messages('envelope', '{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-01-01T00:00:00Z","Bucket":"b"}');
query_is($node, "SELECT discarded, failed FROM sqs_stats WHERE queue = 'envelope'", '1|0', 'a test event is discarded');

# ---- what becomes of a message without a route

$node->safe_psql('postgres', <<'EOQ');
SELECT sqs_register_queue(q, server => 'aws', route_by => '$.type', retry_delay => '0',
                          unroutable => CASE q WHEN 'dead' THEN 'dead_letter' WHEN 'discard' THEN 'discard' END),
       sqs_add_route(q, 'paid', 'paid'), sqs_add_route(q, 'broken', 'broken')
FROM unnest(ARRAY['fail', 'dead', 'discard']) q;
SELECT sqs_alter_queue('dead', max_attempts => 2);
EOQ
{
	my ($id) = $sqs->send_messages('fail', '{"type":"x' . ("\x{e9}" x 150) . '"}');
	query_is($node, failures($id), "SQ101|there is no route for the key of the message|The key is \"x" . ("\xc3\xa9" x 99) . "\".|retry|",
		'fail is the default without a handler');
	query_is($node, "SELECT count(*) > 2 FROM sqs_failures WHERE message_id = '$id'", 't', 'it is tried again');
	$node->safe_psql('postgres', "SELECT sqs_set_error_rule('fail', 'SQ101', 'discard')");
	query_is($node, "SELECT discarded, acked FROM sqs_stats WHERE queue = 'fail'", '1|1', 'an error rule can decide');
	my ($none) = $sqs->send_messages('fail', 'no key');
	query_is($node, failures($none), 'SQ101|message has no key to choose a route by||discard|', 'a message without a key');
	$sqs->is_empty('fail');
}
{
	my ($id) = $sqs->send_messages('dead', '{"type":"y"}');
	query_is($node, "SELECT state, reason, sqlstate, route, attempts, body FROM sqs_dead_letters WHERE message_id = '$id'",
		'dead|unroutable|SQ101||1|{"type":"y"}', 'dead_letter');
	my ($broken) = $sqs->send_messages('dead', '{"type":"broken"}');
	query_is($node, "SELECT state, reason, sqlstate, route, attempts FROM sqs_dead_letters WHERE message_id = '$broken'",
		'dead|max_attempts|P0001|broken|2', 'a dead letter has its route');
	is($node->safe_psql('postgres', failures($broken)),
		"P0001|broken on purpose||dead_letter|broken\nP0001|broken on purpose||retry|broken", 'and so have failures');
	query_is($node, "SELECT key, handled, failed, dead_letters FROM sqs_routes WHERE queue = 'dead' ORDER BY key",
		"broken|0|1|1\npaid|0|0|0", 'both are counted');
	query_is($node, "SELECT acked, dead_letters, unroutable FROM sqs_stats WHERE queue = 'dead'", '2|2|1', 'and acknowledged');
	$sqs->is_empty('dead');
}
{
	my ($id) = $sqs->send_messages('discard', 'anything');
	query_is($node, "SELECT acked, discarded, unroutable, failed FROM sqs_stats WHERE queue = 'discard'", '1|1|1|0', 'discard');
	is($node->safe_psql('postgres', "SELECT count(*) FROM sqsbridge_internal.inbox WHERE message_key = '$id'"), '1', 'it is known to be done with');
	is($node->safe_psql('postgres', failures($id)), '', 'and is no failure');
	$sqs->is_empty('discard');
}

# ---- routes that come and go while messages flow

$node->safe_psql('postgres', <<'EOQ');
SELECT sqs_register_queue('busy', server => 'aws', handler => 'other', route_by => '$.k', concurrency => 3, wait_time => '1 s');
EOQ
my @expected;
foreach my $round (1 .. 5)
{
	$node->safe_psql('postgres', "SELECT sqs_add_route('busy', 'k$round', 'paid')");
	$sqs->send_messages('busy', map { qq({"k":"k$_"}) } map { ($_) x 20 } 1 .. 5);
	query_is($node, "SELECT count(*) FROM got WHERE body LIKE '{\"k\":%'", $round * 100, "round $round: all are handled");
	push @expected, 20 * $round;
	is($node->safe_psql('postgres', "SELECT count(*) FROM got WHERE body LIKE '{\"k\":%' AND who = 'paid'"),
		sum(@expected), "round $round: by the routes that there were");
}
$node->safe_psql('postgres', "SELECT sqs_drop_route('busy', 'k1')");
routed_to('busy', [ '{"k":"k1"}', 'other', 'a route that is gone' ], [ '{"k":"k2"}', 'paid', 'another stays' ]);
# many routes
$node->safe_psql('postgres', "SELECT sqs_add_route('busy', 'many' || i, CASE i % 2 WHEN 0 THEN 'paid' ELSE 'shipped' END) FROM generate_series(1, 996) i");
routed_to('busy', [ '{"k":"many995"}', 'shipped' ], [ '{"k":"many996"}', 'paid' ], [ '{"k":"many997"}', 'other' ]);
$node->safe_psql('postgres', "SELECT sqs_drop_route('busy', key) FROM sqs_routes WHERE queue = 'busy'");

# ---- the function of a route: dropped, renamed, given away

$node->safe_psql('postgres', <<'EOQ');
CREATE ROLE app LOGIN;
CREATE ROLE somebody LOGIN;
GRANT USAGE ON FOREIGN SERVER aws TO app;
GRANT ALL ON got, got_n_seq TO app;
CREATE SCHEMA app AUTHORIZATION app;
GRANT ALL ON SCHEMA app TO somebody;
SET ROLE app;
CREATE FUNCTION app.mine(m public.sqs_message) RETURNS void LANGUAGE sql AS $$ SELECT public.note('mine', m) $$;
SELECT sqs_register_queue('own', server => 'aws', route_by => '$.type', wait_time => '1 s');
CREATE FUNCTION app.second(m public.sqs_message) RETURNS void LANGUAGE sql AS $$ SELECT public.note('second', m) $$;
SELECT sqs_add_route('own', 'mine', 'app.mine'), sqs_add_route('own', 'second', 'app.second');
EOQ
routed_to('own', [ '{"type":"mine"}', 'mine', 'the owner is another role' ]);
$node->safe_psql('postgres', 'ALTER FUNCTION app.mine RENAME TO renamed');
$sqs->send_messages('own', '{"type":"mine","n":2}', map { qq({"type":"second","n":$_}) } 1 .. 10);
query_is($node, "SELECT count(*) FROM got WHERE who = 'second'", '10', 'other routes go on');
query_is($node, "SELECT state, last_error FROM sqs_stats WHERE queue = 'own'", 'polling|function app.mine(sqs_message) does not exist', 'a renamed function');
query_is($node, "SELECT key, problem FROM sqs_routes WHERE queue = 'own' ORDER BY key", "mine|function app.mine(sqs_message) does not exist\nsecond|",
	'the route says so');
routed_to('own', [ '{"type":"second"}', 'second', 'other routes go on later, too' ]);
$node->safe_psql('postgres', 'ALTER FUNCTION app.renamed RENAME TO mine');
query_is($node, "SELECT count(*) FROM got WHERE who = 'mine'", '2', 'it is found again');

$node->safe_psql('postgres', 'DROP FUNCTION app.mine');
$node->safe_psql('postgres', <<'EOQ', extra_params => [ '-U', 'somebody' ]);
CREATE FUNCTION app.mine(m public.sqs_message) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.got (who) VALUES ('stolen'); END $$
EOQ
my ($waiting) = $sqs->send_messages('own', '{"type":"mine"}');
query_true($node, "(SELECT last_error ~ 'was dropped, and role \"somebody\" has created another one' FROM sqs_stats WHERE queue = 'own')",
	'another role\'s function is not called');
is($node->safe_psql('postgres', "SELECT count(*) FROM got WHERE who = 'stolen'"), '0', 'nor was it');
$node->safe_psql('postgres', 'DROP FUNCTION app.mine');
$node->safe_psql('postgres', <<'EOQ', extra_params => [ '-U', 'app' ]);
CREATE FUNCTION app.mine(m public.sqs_message) RETURNS void LANGUAGE sql AS $$ SELECT public.note('mine again', m) $$
EOQ
query_is($node, "SELECT who FROM got WHERE message_id = '$waiting'", 'mine again', 'the owner\'s own is');
$sqs->is_empty('own');

# ---- time: the key is found under handler_timeout, and leases are renewed

$node->safe_psql('postgres', <<'EOQ');
SELECT sqs_register_queue('slow', server => 'aws', handler => 'other', concurrency => 2, wait_time => '1 s', handler_timeout => '1500 ms',
  retry_delay => '1 h', route_by => '$.type ? (@ like_regex "^(a*)(a*)(a*)\\1\\2\\3b$" || @ == "aaa")');
SELECT sqs_add_route('slow', 'paid', 'paid'), sqs_add_route('slow', 'aaa', 'sleeps', '100 ms');
EOQ
{
	# an odd number of a's: it tries each way to divide them
	my ($endless) = $sqs->send_messages('slow', '{"type":"' . ('a' x 1_000_001) . 'b"}');
	query_is($node, failures($endless), '57014|handler ran longer than its handler_timeout of 1500 ms||retry|',
		'a regular expression over 1 MB is canceled');
	my ($quick) = $sqs->send_messages('slow', '{"type":"aaa"}');
	query_is($node, failures($quick), '57014|handler ran longer than its handler_timeout of 100 ms||retry|aaa', 'a route has its own handler_timeout');
	$node->safe_psql('postgres', "SELECT sqs_alter_queue('slow', reset => ARRAY['handler_timeout'])");
	my ($long) = $sqs->send_messages('slow', '{"type":"' . ('a' x 999_001) . 'b"}');
	query_is($node, "SELECT status FROM sqs_stats_in_flight WHERE message_id = '$long'", 'running', 'without a limit it runs on');
	my $renewals = $node->safe_psql('postgres', "SELECT heartbeats FROM sqs_stats WHERE queue = 'slow'");
	query_true($node, "(SELECT heartbeats > $renewals + 2 FROM sqs_stats WHERE queue = 'slow')", 'its lease is renewed meanwhile');
	routed_to('slow', [ '{"type":"b"}', 'other', 'and others are handled' ]);
	is($node->safe_psql('postgres', "SELECT status, receive_count FROM sqs_stats_in_flight WHERE message_id = '$long'"), 'running|1', 'it still runs');
	$node->safe_psql('postgres', "SELECT sqs_unregister_queue('slow')");
}

# ---- FIFO: routes do not change the order of a group

$node->safe_psql('postgres', <<'EOQ');
SELECT sqs_register_queue('order.fifo', server => 'aws', handler => 'other', route_by => 'attribute:r', concurrency => 3);
SELECT sqs_add_route('order.fifo', 'p', 'paid'), sqs_add_route('order.fifo', 's', 'shipped');
EOQ
my $number = 0;
$sqs->send_messages('order.fifo', map {
	my $i = $_;
	map { +{ MessageBody => "$i", MessageGroupId => "g$_", MessageDeduplicationId => "d" . $number++,
			MessageAttributes => attributes(r => ('p', 's', 'x')[ ($i * 7 + $_) % 3 ]) } } 1 .. 4
} 1 .. 30);
query_is($node, "SELECT count(*), count(DISTINCT who) FROM got WHERE group_id IS NOT NULL", '120|3', 'messages of groups go all ways');
is($node->safe_psql('postgres', "SELECT count(*) FROM (SELECT body::int < lag(body::int) OVER (PARTITION BY group_id ORDER BY n) AS wrong FROM got WHERE group_id IS NOT NULL) x WHERE wrong"),
	'0', 'each group in its order');

# ---- a queue without a handler and without routes does not receive

$node->safe_psql('postgres', "SELECT sqs_drop_route('discard', key) FROM sqs_routes WHERE queue = 'discard'");
query_is($node, "SELECT state, last_error FROM sqs_stats WHERE queue = 'discard'",
	'error|it has neither a handler nor a route; add one with sqs_add_route()', 'a queue without anything to call');
query_is($node, "SELECT count(*) FROM sqs_stats_workers WHERE queue = 'discard' AND kind = 'queue worker'", '0', 'is not worked on');
$sqs->send_messages('discard', '{"type":"paid"}');
$node->safe_psql('postgres', "SELECT sqs_add_route('discard', 'paid', 'paid')");
query_is($node, "SELECT acked, discarded FROM sqs_stats WHERE queue = 'discard'", '2|1', 'a route mends that, and nothing was lost');

# ---- the server starts again

$node->restart;
routed_to('attribute', [ { MessageBody => 'after a restart', MessageAttributes => attributes(type => 'order.paid') }, 'paid', 'after a restart' ]);

$node->stop;
check_log($node, qr/ERROR:  (?:broken on purpose|there is no route for the key|message has no key|canceling statement due to user request|queue "own")|function app\.mine|neither a handler nor a route/);
done_testing();
