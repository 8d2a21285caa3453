# Handlers that take arrays of messages.
use strict;
use warnings;

use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my @queues = qw(many verdicts asks odd alone array);
my $sqs = start_sqs(
	queues => [
		(map { "$_,VisibilityTimeout=3600" } @queues),
		'wait,VisibilityTimeout=3600', 'ordered.fifo,VisibilityTimeout=3600', 'breaks.fifo,VisibilityTimeout=3600',
		'lost,VisibilityTimeout=5', 'stops,VisibilityTimeout=3600', 'dies,VisibilityTimeout=3600',
		'slow,VisibilityTimeout=3600', 'twice,VisibilityTimeout=3600', 'changes,VisibilityTimeout=3600',
		'routed,VisibilityTimeout=3600', 'routed.fifo,VisibilityTimeout=3600', 'twins,VisibilityTimeout=3600'
	]);
my $node = new_node('main', conf => "max_worker_processes = 48\n");
setup_database($node, $sqs);

# A body is what is to become of the message; "runs" has what was tried, too.
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE done (n bigserial, queue text, message_id text, body text, group_id text,
  xid xid8 DEFAULT pg_current_xact_id(), together int);
CREATE SEQUENCE runs;
CREATE FUNCTION take(msgs sqs_message[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO done (queue, message_id, body, group_id, together)
  SELECT m.queue, m.message_id, m.body, m.group_id, cardinality(msgs) FROM unnest(msgs) WITH ORDINALITY m ORDER BY ordinality $$;
CREATE FUNCTION handle(msgs sqs_message[]) RETURNS SETOF sqs_verdict LANGUAGE plpgsql AS $$
DECLARE m sqs_message;
BEGIN
  PERFORM nextval('runs');
  PERFORM take(msgs);
  FOREACH m IN ARRAY msgs LOOP
    IF m.body LIKE 'fail%' THEN RAISE EXCEPTION 'cannot do %', m.body; END IF;
    IF m.body LIKE 'call %' THEN EXECUTE 'SELECT ' || substr(m.body, 6); END IF;
    IF m.body LIKE 'retry%' THEN RETURN NEXT (m.message_id, 'retry', '1 hour'::interval, m.body)::sqs_verdict; END IF;
    IF m.body LIKE 'once%' AND m.attempt = 1 THEN RETURN NEXT (m.message_id, 'retry', '0'::interval, NULL)::sqs_verdict; END IF;
    IF m.body LIKE 'discard%' THEN RETURN NEXT (m.message_id, 'discard', NULL, NULL)::sqs_verdict; END IF;
  END LOOP;
END $$;
EOQ

sub register
{
	my ($queue, $handler, @options) = @_;
	$node->safe_psql('postgres', "SELECT sqs_register_queue(" . join(', ', "'$queue'", "server => 'aws'", "handler => '$handler'", @options) . ')');
	return;
}

sub done
{
	my ($queue) = @_;
	return "SELECT count(*), count(DISTINCT body) FROM done WHERE queue = '$queue'";
}

# ---- many messages, some of which fail

my $messages = 1000;
my $bad = 7;
$sqs->fill('many', $messages - $bad, body => 'm{i}');
$sqs->send_messages('many', map { "fail$_" } 1 .. $bad);
register('many', 'handle', "concurrency => 2");
my $good = $messages - $bad;
query_is($node, done('many'), "$good|$good", 'all that can be done are done, once');
query_is($node, "SELECT count(*), count(DISTINCT message_id) FROM sqs_failures WHERE queue = 'many'", "$bad|$bad",
	'those that fail have failed, each once');
is( $node->safe_psql('postgres', "SELECT DISTINCT sqlstate, message ~ '^cannot do fail[0-9]+\$' FROM sqs_failures WHERE queue = 'many'"),
	'P0001|t', 'by their own error');
query_is($node, "SELECT failed, acked, discarded, in_flight FROM sqs_stats WHERE queue = 'many'", "$bad|$good|0|0", 'and are counted');
cmp_ok($node->safe_psql('postgres', "SELECT max(together) FROM done WHERE queue = 'many'"), '<=', 100,
	'handler_batch_size is the limit');
cmp_ok($node->safe_psql('postgres', "SELECT max(together) FROM done WHERE queue = 'many'"), '>', 10,
	'a batch has more messages than a receive');
cmp_ok($node->safe_psql('postgres', "SELECT count(DISTINCT xid) FROM done WHERE queue = 'many'"), '<', $messages / 3,
	'there are fewer transactions than messages');
cmp_ok($node->safe_psql('postgres', "SELECT batch_splits FROM sqs_stats WHERE queue = 'many'"), '>', 0, 'batches were split');

# ---- verdicts that it returns

sub failures
{
	my ($queue) = @_;
	return "SELECT sqlstate, message, attempt, action FROM sqs_failures WHERE queue = '$queue' ORDER BY message COLLATE \"C\"";
}

$sqs->send_messages('verdicts', 'm1', 'retry1', 'm2', 'once1', 'discard1', 'm3');
register('verdicts', 'handle');
query_is($node, "SELECT body, count(*) FROM done WHERE queue = 'verdicts' GROUP BY 1 ORDER BY 1",
	"discard1|1\nm1|1\nm2|1\nm3|1\nonce1|2\nretry1|1", 'what it did for all of them is committed');
is($node->safe_psql('postgres', "SELECT count(DISTINCT xid) FROM done WHERE queue = 'verdicts' AND body <> 'once1'"), '1', 'at once');
is( $node->safe_psql('postgres', failures('verdicts')),
	"SQ001|retry1|1|retry\nSQ003|the handler returned discard for the message|1|discard\n"
	  . "SQ001|the handler returned retry for the message|1|retry",
	'verdicts are recorded');
query_is($node, "SELECT acked, failed, discarded FROM sqs_stats WHERE queue = 'verdicts'", '5|2|1', 'and followed');
is($node->safe_psql('postgres', "SELECT batch_splits FROM sqs_stats WHERE queue = 'verdicts'"), '0', 'without splitting the batch');
$sqs->advance(3600);
query_is($node, "SELECT count(*) FROM done WHERE queue = 'verdicts' AND body = 'retry1'", '2', 'a retry comes when its delay is over');

# ---- verdict functions: a retry is for all of the call, the others for a message

my $call = q{call sqs_retry('0', 'not yet', false)};
$sqs->send_messages('asks', 'm1', $call, 'm2');
register('asks', 'handle', "retry_delay => '1 hour'");
query_true($node, "(SELECT count(*) >= 3 FROM sqs_failures WHERE queue = 'asks' AND sqlstate = 'SQ001' AND message = 'not yet' AND attempt IS NULL)",
	'sqs_retry() is for all of the batch');
$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION asks(msgs sqs_message[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE m sqs_message;
BEGIN
  PERFORM take(msgs);
  FOREACH m IN ARRAY msgs LOOP
    IF m.body LIKE 'call%' THEN PERFORM sqs_discard('not needed'); END IF;
    IF m.body LIKE 'dead%' THEN PERFORM sqs_dead_letter('not wanted'); END IF;
  END LOOP;
END $$;
SELECT sqs_alter_queue('asks', handler => 'asks', dead_letter => 'table');
EOQ
$sqs->send_messages('asks', 'dead1', map { "n$_" } 1 .. 30);
query_is($node, "SELECT count(*), count(DISTINCT body) FROM done WHERE queue = 'asks'", '32|32', 'a message is discarded by itself');
query_is($node, "SELECT discarded, dead_letters, acked FROM sqs_stats WHERE queue = 'asks'", '1|1|34', 'and is counted');
is( $node->safe_psql('postgres', "SELECT sqlstate, message FROM sqs_failures WHERE queue = 'asks' AND sqlstate <> 'SQ001' ORDER BY 1"),
	"SQ002|not wanted\nSQ003|not needed", 'with its reason');
is($node->safe_psql('postgres', "SELECT body, reason FROM sqs_dead_letters"), 'dead1|verdict', 'so is a dead letter');

# ---- results that make no sense: an error of the handler

$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION odd(msgs sqs_message[]) RETURNS sqs_verdict[] LANGUAGE plpgsql AS $$
DECLARE v sqs_verdict[];
BEGIN
  PERFORM take(msgs);
  IF msgs[1].body = 'null' THEN RETURN NULL; END IF;
  EXECUTE format('SELECT array_agg(v) FROM (%s) v', msgs[1].body) INTO v USING msgs[1].message_id;
  RETURN v;
END $$;
EOQ
register('odd', 'odd', "handler_batch_size => 1");
$sqs->send_messages('odd', 'null');
$sqs->is_empty('odd', 'no result is no verdict');
is($node->safe_psql('postgres', done('odd')), '1|1', 'the message is done');
foreach my $case (
	[ q{SELECT (NULL, 'retry', NULL, NULL)::sqs_verdict AS v}, 'message_id of a verdict of the handler is null' ],
	[ q{SELECT NULL::sqs_verdict AS v}, 'a verdict of the handler is null' ],
	[ q{SELECT ($1, NULL, NULL, NULL)::sqs_verdict AS v}, 'invalid action in the verdict of the handler for message "ID": null' ],
	[ q{SELECT ($1, 'done', NULL, NULL)::sqs_verdict AS v}, 'invalid action in the verdict of the handler for message "ID": "done"' ],
	[ q{SELECT ($1, 'discard', '1 s', NULL)::sqs_verdict AS v}, 'delay in the verdict of the handler for message "ID", whose action is discard' ],
	[ q{SELECT ($1, 'retry', '-1 s', NULL)::sqs_verdict AS v}, 'invalid delay for message "ID": "-00:00:01"' ],
	[ q{SELECT ($1, 'retry', '13 h', NULL)::sqs_verdict AS v}, 'invalid delay for message "ID": "13:00:00"' ],
	[ q{SELECT ('x', 'retry', NULL, NULL)::sqs_verdict AS v}, 'a verdict of the handler names a message that it was not called with: "x"' ],
	[ q{SELECT ($1, 'retry', NULL, NULL)::sqs_verdict AS v FROM generate_series(1, 2)}, 'the handler returned two verdicts for message "ID"' ])
{
	my ($body, $message) = @$case;
	my ($id) = $sqs->send_messages('odd', $body);
	$message =~ s/ID/$id/;
	query_is($node, "SELECT sqlstate, message FROM sqs_failures WHERE message_id = '$id'", "22023|$message", $message);
}
is($node->safe_psql('postgres', done('odd')), '1|1', 'nothing that it did then is kept');
is($node->safe_psql('postgres', "SELECT count(*) FROM sqsbridge_internal.inbox i JOIN sqs_failures f ON i.message_key = f.message_id WHERE f.queue = 'odd'"),
	'0', 'nor is any such message known as handled');

# ---- FIFO: the order of each group, through failures

sub send_group
{
	my ($queue, $group, @bodies) = @_;
	return $sqs->send_messages($queue,
		map { { MessageBody => $_, MessageGroupId => $group, MessageDeduplicationId => "$group-$_" } } @bodies);
}

$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION ordered(msgs sqs_message[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE m sqs_message;
BEGIN
  PERFORM take(msgs);
  FOREACH m IN ARRAY msgs LOOP
    IF m.body LIKE 'fail%' AND m.attempt = 1 THEN RAISE EXCEPTION 'cannot do %', m.body; END IF;
  END LOOP;
END $$;
EOQ
foreach my $group (1 .. 5)
{
	send_group('ordered.fifo', "g$group",
		map { ($_ == 7 && $group == 2 ? 'fail' : 'm') . "$group." . sprintf('%02d', $_) } 1 .. 20);
}
register('ordered.fifo', 'ordered', "concurrency => 2", "retry_delay => '0'", "handler_batch_size => 50", "handler_batch_wait => '1 s'");
query_is($node, done('ordered.fifo'), '100|100', 'all messages of a FIFO queue are done, once');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT substring(body, '[0-9]+$') < lag(substring(body, '[0-9]+$'))
	OVER (PARTITION BY group_id ORDER BY n) AS wrong FROM done WHERE queue = 'ordered.fifo') s WHERE wrong}),
	'0', 'in the order of their groups');
is($node->safe_psql('postgres', "SELECT failed FROM sqs_stats WHERE queue = 'ordered.fifo'"), '1', 'one of them has failed before');
is( $node->safe_psql('postgres', "SELECT count(DISTINCT group_id) > 1 FROM done WHERE queue = 'ordered.fifo' GROUP BY xid ORDER BY 1 DESC LIMIT 1"),
	't', 'a batch has messages of several groups');

# verdicts must not break it
$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION breaks(msgs sqs_message[]) RETURNS SETOF sqs_verdict LANGUAGE plpgsql AS $$
DECLARE m sqs_message;
BEGIN
  PERFORM take(msgs);
  FOREACH m IN ARRAY msgs LOOP
    IF m.body LIKE 'retry%' AND m.attempt = 1 THEN RETURN NEXT (m.message_id, 'retry', '0'::interval, NULL)::sqs_verdict; END IF;
  END LOOP;
END $$;
EOQ
send_group('breaks.fifo', 'g', 'm1', 'retry2', 'm3');
register('breaks.fifo', 'breaks', "retry_delay => '0'");
query_is($node, "SELECT string_agg(body, ' ' ORDER BY n) FROM done WHERE queue = 'breaks.fifo'", 'm1 retry2 retry2 m3',
	'a verdict that would break the order is followed when the message is alone');
cmp_ok($node->safe_psql('postgres', "SELECT batch_splits FROM sqs_stats WHERE queue = 'breaks.fifo'"), '>', 0, 'after the batch was split');

# ---- waiting for a batch

register('wait', 'handle', "handler_batch_size => 5", "handler_batch_wait => '10 s'");
$sqs->send_messages('wait', map { "m$_" } 1 .. 3);
query_is($node, "SELECT in_flight FROM sqs_stats WHERE queue = 'wait'", '3', 'three messages wait');
is($node->safe_psql('postgres', done('wait')), '0|0', 'for two others');
$sqs->send_messages('wait', 'm4', 'm5');
query_is($node, "SELECT count(*), count(DISTINCT xid) FROM done WHERE queue = 'wait'", '5|1', 'and are handled with them');
$sqs->send_messages('wait', 'late');
query_is($node, done('wait'), '6|6', 'one that waits in vain is handled alone');

# ---- messages that come twice, in a batch and one after the other

$sqs->fault(kind => 'duplicate', queue => 'twice', same_reply => JSON::PP::true(), count => 2);
$sqs->fill('twice', 60, body => 'm{i}');
register('twice', 'handle', "handler_batch_wait => '2 s'");
query_is($node, done('twice'), '60|60', 'messages that are delivered twice are handled once');
$sqs->is_empty('twice');
query_true($node, "(SELECT duplicates > 0 AND acked = 60 + duplicates FROM sqs_stats WHERE queue = 'twice')", 'and known');
query_true($node, "(SELECT count(*) > count(DISTINCT xid) FROM done WHERE queue = 'twice')", 'although they were in one batch with others');

# ---- the lease of one message is lost while the batch runs

$node->safe_psql('postgres', <<'EOQ');
CREATE SEQUENCE lost_runs;
CREATE FUNCTION lose(msgs sqs_message[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM take(msgs);
  IF nextval('lost_runs') = 1 THEN PERFORM pg_sleep(600); END IF;
END $$;
EOQ
$sqs->fault(kind => 'entry_fail', action => 'ChangeMessageVisibilityBatch', queue => 'lost',
	code => 'ReceiptHandleIsInvalid', sender_fault => JSON::PP::true(), every => 5, count => 1);
$sqs->fill('lost', 8, body => 'm{i}');
register('lost', 'lose', "handler_batch_wait => '1 s'", "handler_batch_size => 8");
query_is($node, done('lost'), '8|8', 'the others of the batch are handled without it, and it is when it comes back');
query_is($node, "SELECT lost, failed, acked, in_flight FROM sqs_stats WHERE queue = 'lost'", '1|0|8|0', 'one message was lost');
is($node->safe_psql('postgres', "SELECT string_agg(together::text, ' ' ORDER BY n) FROM done WHERE queue = 'lost'"),
	join(' ', (7) x 7, 1), 'and only that one');

# ---- the queue stops in the middle of a batch, in parts

$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION slow(msgs sqs_message[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM take(msgs);
  IF cardinality(msgs) > 20 THEN RAISE EXCEPTION 'too many'; END IF;
  PERFORM pg_sleep(0.2);
END $$;
EOQ
$sqs->fill('stops', 100, body => 'm{i}');
register('stops', 'slow', "handler_batch_wait => '2 s'");
query_true($node, "(SELECT count(*) > 0 FROM done WHERE queue = 'stops')", 'part of a batch is done');
$node->safe_psql('postgres', "SELECT sqs_disable_queue('stops')");
query_is($node, "SELECT state, in_flight FROM sqs_stats WHERE queue = 'stops'", 'disabled|0', 'the queue stops');
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM done WHERE queue = 'stops'"), '<', 100, 'without the rest of it');
$node->safe_psql('postgres', "SELECT sqs_enable_queue('stops')");
query_is($node, done('stops'), '100|100', 'which is handled afterwards');
is($node->safe_psql('postgres', "SELECT failed FROM sqs_stats WHERE queue = 'stops'"), '0', 'nothing has failed');

# ---- a handler's process that ends with its batch

$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION die(msgs sqs_message[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE m sqs_message;
BEGIN
  PERFORM take(msgs);
  FOREACH m IN ARRAY msgs LOOP
    IF m.body = 'die' THEN PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(0.2);
      PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(60); END IF;
  END LOOP;
END $$;
EOQ
$sqs->fill('dies', 39, body => 'm{i}');
$sqs->send_messages('dies', 'die');
register('dies', 'die', "handler_batch_wait => '2 s'", "handler_batch_size => 40");
query_is($node, done('dies'), '39|39', 'what was in a batch with it is handled');
query_is($node, "SELECT failed, acked FROM sqs_stats WHERE queue = 'dies'", '1|39', 'the message that ends its process is found');
is($node->safe_psql('postgres', "SELECT sqlstate, action FROM sqs_failures WHERE queue = 'dies'"), '57P01|killed', 'and has failed');

# ---- from single messages to batches, and back, under load

$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION single(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO done (queue, message_id, body, together) VALUES (m.queue, m.message_id, m.body, 0) $$;
EOQ
$sqs->fill('changes', 3000, body => 'm{i}');
register('changes', 'single', "concurrency => 3");
foreach my $to ('handle', 'single', 'handle', 'single')
{
	my $at = $node->safe_psql('postgres', "SELECT count(*) FROM done WHERE queue = 'changes'");
	query_true($node, "(SELECT count(*) >= least($at + 300, 3000) FROM done WHERE queue = 'changes')", "some are done before $to");
	$node->safe_psql('postgres', "SELECT sqs_alter_queue('changes', handler => '$to', handler_batch_size => 500)");
}
query_is($node, done('changes'), '3000|3000', 'all are handled once while the handler changes');
query_is($node, "SELECT acked, failed, lost, duplicates FROM sqs_stats WHERE queue = 'changes'", '3000|0|0|0', 'and none of them failed');

# ---- routes, to functions of either kind

$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION by_route(msgs sqs_message[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM take(msgs);
END $$;
EOQ
my @routed = map { { body => qq({"type":"$_->[0]","n":$_->[1]}), group => $_->[1] % 3 } }
  map { my $n = $_; [ (qw(many one other many))[ $n % 4 ], $n ] } 1 .. 80;
foreach my $queue ('routed', 'routed.fifo')
{
	$node->safe_psql('postgres', <<"EOQ");
BEGIN;
SELECT sqs_register_queue('$queue', server => 'aws', route_by => '\$.type', handler => 'take', handler_batch_wait => '2 s');
SELECT sqs_add_route('$queue', 'many', 'by_route');
SELECT sqs_add_route('$queue', 'one', 'single');
COMMIT;
EOQ
	$sqs->send_messages($queue, map { $queue =~ /fifo/
			? { MessageBody => $_->{body}, MessageGroupId => "g$_->{group}", MessageDeduplicationId => $_->{body} }
			: $_->{body} } @routed);
	query_is($node, done($queue), '80|80', "$queue: all messages are handled, once");
	query_is($node, "SELECT key, handled, failed FROM sqs_routes WHERE queue = '$queue' ORDER BY 1", "many|40|0\none|20|0",
		"$queue: by their routes");
	is($node->safe_psql('postgres', "SELECT count(*) FROM done WHERE queue = '$queue' AND (together = 0) <> (body ~ 'one')"), '0',
		"$queue: one by one where the function wants it so");
	cmp_ok($node->safe_psql('postgres', "SELECT max(together) FROM done WHERE queue = '$queue'"), '>', 1, "$queue: or together");
}
is( $node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT (body::jsonb->>'n')::int AS i, lag((body::jsonb->>'n')::int)
	OVER (PARTITION BY (body::jsonb->>'n')::int % 3 ORDER BY n) AS before FROM done WHERE queue = 'routed.fifo') x WHERE i < before}),
	'0', 'the order of a group is kept across routes');

# business keys, in a batch
$node->safe_psql('postgres', "SELECT sqs_alter_queue('routed', dedup_key => '\$.key')");
$sqs->send_messages('routed', map { qq({"type":"many","key":"k) . $_ % 5 . qq(","copy":$_}) } 1 .. 20);
query_is($node, "SELECT count(*), count(DISTINCT body::jsonb->>'key') FROM done WHERE queue = 'routed' AND body ~ 'copy'", '5|5',
	'of messages with the same key, one is handled');
query_is($node, "SELECT duplicates FROM sqs_stats WHERE queue = 'routed'", '15', 'the others are duplicates');

# ---- SQS delivers messages twice, and the handler has the first copy retried

$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION later(msgs sqs_message[]) RETURNS SETOF sqs_verdict LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO done (queue, message_id, body) SELECT m.queue, m.message_id, m.body FROM unnest(msgs) m WHERE m.attempt > 1;
  RETURN QUERY SELECT m.message_id, 'retry', '0'::interval, NULL FROM unnest(msgs) m WHERE m.attempt = 1;
END $$;
EOQ
my $fault = $sqs->fault(kind => 'duplicate', same_reply => JSON::PP::true(), queue => 'twins');
$sqs->fill('twins', 40, body => 'm{i}');
register('twins', 'later', "retry_delay => '0'", 'throttle_after => 0');
query_is($node, done('twins'), '40|40', 'messages that come twice and are retried are done, once');
$sqs->clear_faults($fault);
$sqs->is_empty('twins');

$sqs->books_agree($_, $node, "books of $_", "SELECT message_id, md5(body) FROM done WHERE queue = '$_'")
  foreach qw(many odd ordered.fifo wait twice lost stops dies changes routed.fifo twins);

$node->stop;
check_log(
	$node,
	qr/terminating (?:background worker|connection)/,
	qr/background worker "sqsbridge handler worker" \(PID \d+\) exited with exit code 1/);
done_testing();
