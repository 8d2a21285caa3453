# How long the inbox remembers: for dedup_retention what is known to be deleted
# from SQS, for as long as SQS may still have it what is not.  And what makes a
# message the same as another.
#
# Time passes by UPDATEs of the internal tables, as a superuser.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $sqs = start_sqs(
	queues => [
		'plain,VisibilityTimeout=60', 'crash,VisibilityTimeout=60', 'outage,VisibilityTimeout=2',
		'long,VisibilityTimeout=60', 'standby,VisibilityTimeout=60', 'locked,VisibilityTimeout=60',
		'index,VisibilityTimeout=60', 'same,VisibilityTimeout=60', 'fair.fifo,VisibilityTimeout=60',
		'poison,VisibilityTimeout=60'
	]);
my $node = new_node('main', init => [ allows_streaming => 1 ], conf => "sqsbridge.max_failures = 20\n");

setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
-- our own sessions do not wait for a standby
ALTER ROLE CURRENT_USER SET synchronous_commit = local;
CREATE TABLE got (queue text, body text, attributes jsonb);
CREATE TABLE gate (queue text PRIMARY KEY);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got VALUES (m.queue, m.body, m.attributes) $$;
CREATE FUNCTION handle_at_length(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  WHILE NOT EXISTS (SELECT FROM gate WHERE queue = m.queue) LOOP
    PERFORM pg_sleep(0.02);
  END LOOP;
  PERFORM handle(m);
END $$;
CREATE FUNCTION refuse(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE 'poison %', m.body;
END $$;
EOQ

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub register
{
	my ($queue, $handler, $more) = @_;
	return sql("SELECT sqs_register_queue('$queue', server => 'aws', handler => '$handler', wait_time => '1 s'" . ($more ? ", $more" : '') . ')');
}

# Rows of a queue in one of the three tables.
sub rows
{
	my ($table, $queue, $columns) = @_;
	return 'SELECT ' . ($columns || 'count(*)') . " FROM sqsbridge_internal.$table JOIN sqs_queues USING (queue_id) WHERE name = '$queue'";
}

# The queue's worker leaves as it should.
sub rest
{
	my ($queue) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sql("SELECT sqs_disable_queue('$queue')");
	return query_is($node, "SELECT count(*) FROM sqs_stats_workers WHERE queue = '$queue'", '0', "$queue: it rests");
}

sub no_queue_worker
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return query_is($node, q{SELECT count(*) FROM sqs_stats_workers WHERE kind <> 'launcher'}, '0', $_[0]);
}

# As if so much time had passed, for everything of a queue that is at rest.
sub time_passes
{
	my ($queue, $interval) = @_;
	sql(<<EOQ);
UPDATE sqsbridge_internal.inbox t SET stamp = stamp - interval '$interval'
	FROM sqs_queues q WHERE q.queue_id = t.queue_id AND q.name = '$queue';
UPDATE sqsbridge_internal.inbox_marks t SET at = at - interval '$interval', low_water = low_water - interval '$interval'
	FROM sqs_queues q WHERE q.queue_id = t.queue_id AND q.name = '$queue';
UPDATE sqsbridge_internal.inbox_doubts t SET from_stamp = from_stamp - interval '$interval',
	to_stamp = to_stamp - interval '$interval', keep_until = keep_until - interval '$interval'
	FROM sqs_queues q WHERE q.queue_id = t.queue_id AND q.name = '$queue';
EOQ
	return;
}

# All marks there are were made so long ago.
sub marks_age
{
	my ($queue, $interval) = @_;
	return sql(<<EOQ);
UPDATE sqsbridge_internal.inbox_marks t SET at = at - interval '$interval'
	FROM sqs_queues q WHERE q.queue_id = t.queue_id AND q.name = '$queue';
EOQ
}

# A new database worker cleans at once, and looks at everything: the row of a
# queue that was unregistered long ago is gone when it is done, that of
# another stays.
my $round = 0;

sub clean
{
	my ($name) = @_;
	$round++;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sql(<<EOQ);
INSERT INTO sqsbridge_internal.inbox VALUES
	(1000000, 'gone $round', now() - interval '14 days 2 hours'), (1000001, 'stays $round', now() - interval '13 days');
SELECT pg_terminate_backend(pid) FROM sqs_stats_workers WHERE kind = 'database worker';
EOQ
	query_is($node, 'SELECT count(*) FILTER (WHERE queue_id = 1000000), count(*) FILTER (WHERE queue_id = 1000001)
		FROM sqsbridge_internal.inbox', "0|$round", "$name: the inbox is cleaned");
	return;
}

sub kill_server
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
	$node->kill9;
	poll_until(sub { !SqsTest::server_processes($node) && !kill(0, $postmaster) }, "$name: the server is killed");
	return;
}

sub effects
{
	my ($queue) = @_;
	return "SELECT count(*), count(DISTINCT body) FROM got WHERE queue = '$queue'";
}

# ---- what is confirmed goes when dedup_retention is over

register('plain', 'handle', q{dedup_retention => '1 h'});
$sqs->fill('plain', 5);
$sqs->is_empty('plain', 'plain: messages are handled and deleted');
query_is($node, rows('inbox', 'plain'), '5', 'plain: they are recorded');
is(sql(rows('inbox_marks', 'plain', 'open')), 't', 'plain: while the worker runs the mark is open');
rest('plain');
is(sql(rows('inbox_marks', 'plain', 'open') . ' ORDER BY low_water DESC LIMIT 1'), 'f', 'plain: when it has left, it is not');
is(sql(rows('inbox_doubts', 'plain')), '0', 'plain: nothing is in doubt');
time_passes('plain', '50 min');
clean('plain, before its time');
is(sql(rows('inbox', 'plain')), '5', 'plain: before dedup_retention is over, they are there');
time_passes('plain', '11 min');
clean('plain');
is(sql(rows('inbox', 'plain')), '0', 'plain: after it they are not');

# ---- a crash before a downtime longer than dedup_retention

my $deletes = $sqs->fault(kind => 'error', status => 503, action => 'DeleteMessageBatch', queue => 'crash');
register('crash', 'handle');
$sqs->fill('crash', 5);
query_is($node, effects('crash'), '5|5', 'crash: messages are handled');
query_true($node, q{(SELECT delete_failures > 0 FROM sqs_stats WHERE queue = 'crash')}, 'crash: they are not deleted');
sql('CHECKPOINT');
kill_server('crash');
$node->append_conf('postgresql.conf', "sqsbridge.databases = 'none'\n");
$node->start;
time_passes('crash', '2 days');
$sqs->clear_faults($deletes);
$sqs->advance(2 * 86400);
my $receives = $sqs->fault(kind => 'error', status => 503, action => 'ReceiveMessage', queue => 'crash');
is(sql(rows('inbox_marks', 'crash', 'open')), 't', 'crash: its mark is open');
$node->append_conf('postgresql.conf', "sqsbridge.databases = '*'\n");
$node->reload;
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'crash'}, 'backing off', 'crash: two days later it begins');
is(sql(rows('inbox_doubts', 'crash', q{count(*), bool_and(keep_until > now() + interval '13 days')})), '1|t',
	'crash: what was in hand is in doubt');
marks_age('crash', '2 days');
clean('crash');
is(sql(rows('inbox', 'crash')), '5', 'crash: its rows are kept');
$sqs->clear_faults($receives);
$sqs->is_empty('crash', 'crash: the messages come back and are deleted');
is(sql(q{SELECT duplicates FROM sqs_stats WHERE queue = 'crash'}), '5', 'crash: they are recognized');
is(sql(effects('crash')), '5|5', 'crash: each had its effect once');
rest('crash');
time_passes('crash', '14 days 2 hours');
clean('crash, two weeks later');
is(sql(rows('inbox', 'crash')), '0', 'crash: two weeks later the rows go');
is(sql(rows('inbox_doubts', 'crash')), '0', 'crash: and so does the doubt');

# ---- deletes fail for longer than dedup_retention

register('outage', 'handle');
$sqs->fill('outage', 3);
$sqs->is_empty('outage', 'outage: before it messages are deleted');
$deletes = $sqs->fault(kind => 'error', status => 503, action => 'DeleteMessageBatch', queue => 'outage');
$sqs->fill('outage', 5, start => 10);
query_is($node, effects('outage'), '8|8', 'outage: messages are handled');
query_true($node, q{(SELECT duplicates >= 5 FROM sqs_stats WHERE queue = 'outage')}, 'outage: they come back');
rest('outage');
query_true($node, '(' . rows('inbox_doubts', 'outage', 'count(*) > 0') . ')', 'outage: they are in doubt');
time_passes('outage', '2 days');
clean('outage');
is(sql(rows('inbox', 'outage')), '5', 'outage: their rows are kept, those of the others are not');
$sqs->clear_faults($deletes);
$sqs->advance(2 * 86400);
sql(q{SELECT sqs_enable_queue('outage')});
$sqs->is_empty('outage', 'outage: after it they are deleted');
is(sql(effects('outage')), '8|8', 'outage: each had its effect once');
rest('outage');
is( sql(rows('inbox', 'outage', q{bool_and(stamp > now() - interval '1 day')})), 't',
	'outage: rows of messages that came back have a new stamp');
time_passes('outage', '14 days 2 hours');
clean('outage, two weeks later');
is(sql(rows('inbox', 'outage')) . sql(rows('inbox_doubts', 'outage')), '00', 'outage: two weeks later nothing is left of it');

# ---- a handler runs for longer than dedup_retention

register('long', 'handle_at_length', q{dedup_retention => '1 min'});
$sqs->fill('long', 1);
query_is($node, q{SELECT status FROM sqs_stats_in_flight WHERE queue = 'long'}, 'running', 'long: a handler runs');
# and it is the mark of this minute
marks_age('long', '1 h');
query_true($node, '(' . rows('inbox_marks', 'long', q{max(at) > now() - interval '1 h'}) . ')', 'long: the mark is brought up to date', timeout => 90);
$deletes = $sqs->fault(kind => 'error', status => 503, action => 'DeleteMessageBatch', queue => 'long');
sql(q{INSERT INTO gate VALUES ('long')});
query_is($node, effects('long'), '1|1', 'long: at last it commits');
marks_age('long', '1 h');
clean('long');
is(sql(rows('inbox', 'long')), '1', 'long: its row is kept');
query_true($node, q{(SELECT delete_failures > 0 FROM sqs_stats WHERE queue = 'long')}, 'long: its message is not deleted');
kill_server('long');
$node->start;
query_true($node, '(' . rows('inbox_doubts', 'long', 'count(*) = 1') . ')', 'long: after a crash it is in doubt');
marks_age('long', '1 h');
clean('long, after a crash');
$sqs->clear_faults($deletes);
$sqs->advance(61);
$sqs->is_empty('long', 'long: the message comes back and is deleted');
is(sql(effects('long')), '1|1', 'long: it had its effect once');

# ---- a synchronous standby is away for longer

register('standby', 'handle');
sql(q{ALTER SYSTEM SET synchronous_standby_names = 'away'});
$node->reload;
# no effect of ours is waited for by others: the message waits, finished
$sqs->fill('standby', 3);
query_is($node, q{SELECT status, count(*) FROM sqs_stats_in_flight WHERE queue = 'standby' GROUP BY 1}, 'finished|3',
	'standby: messages are handled and wait for it');
marks_age('standby', '2 days');
clean('standby');
is(sql(rows('inbox', 'standby')), '3', 'standby: their rows are kept');
$node->restart;
marks_age('standby', '2 days');
clean('standby, after a restart');
is(sql(rows('inbox', 'standby')), '3', 'standby: their rows are kept');
sql('ALTER SYSTEM RESET synchronous_standby_names');
$node->reload;
$sqs->is_empty('standby', 'standby: without it they are deleted');
is(sql(effects('standby')), '3|3', 'standby: each had its effect once');

# ---- the tables are locked: nothing is handed out without a mark; with one, all goes on

my $locker = $node->background_psql('postgres', on_error_stop => 1);
$locker->query_safe('BEGIN; LOCK TABLE sqsbridge_internal.inbox_marks');
register('locked', 'handle');
$sqs->fill('locked', 3);
query_is($node, q{SELECT state, last_error LIKE 'cannot record what is handled: %' FROM sqs_stats WHERE queue = 'locked'}, 'error|t',
	'locked: it cannot begin, and says why');
is($sqs->stats('locked')->{received}, 0, 'locked: nothing is received');
$locker->query_safe('ROLLBACK');
$sqs->is_empty('locked', 'locked: without the lock it begins by itself');
$locker->query_safe('BEGIN; LOCK TABLE sqsbridge_internal.inbox_marks, sqsbridge_internal.inbox_doubts');
$sqs->fill('locked', 3, start => 10);
$sqs->is_empty('locked', 'locked: once it has begun a lock does not stop it');
rest('locked');
$locker->query_safe('ROLLBACK');
$locker->quit;
is(sql(rows('inbox_marks', 'locked', 'open')), 't', 'locked: the mark is still that of the beginning');
sql(q{SELECT sqs_enable_queue('locked')});
query_is($node, rows('inbox_doubts', 'locked'), '1', 'locked: so the next worker doubts');
rest('locked');

# ---- somebody's unique index says nothing about duplicates

register('index', 'handle', 'batch_size => 1, enabled => false');
my $id = sql(q{SELECT queue_id FROM sqs_queues WHERE name = 'index'});
sql("CREATE UNIQUE INDEX mine ON sqsbridge_internal.inbox (queue_id) WHERE queue_id = $id");
sql(q{SELECT sqs_enable_queue('index')});
$sqs->fill('index', 2);
query_is($node, q{SELECT state, last_error LIKE '%unique constraint "mine"%', failed, duplicates FROM sqs_stats WHERE queue = 'index'},
	'error|t|0|0', 'index: which refuses the second, and the queue says so');
is(sql(q{SELECT count(*) FROM sqs_failures WHERE queue = 'index'}), '0', 'index: no message is charged with it');
# the first may still be on its way: it is deleted, whatever the state
poll_until(sub { $sqs->stats('index')->{deleted} > 0 }, 'index: the first is deleted');
query_is($node, q{SELECT status FROM sqs_stats_in_flight WHERE queue = 'index'}, 'waiting', 'index: the other is still in hand');
is($sqs->stats('index')->{deleted}, 1, "index: SQS's books: only the first is deleted");
sql('DROP INDEX sqsbridge_internal.mine');
$sqs->is_empty('index', 'index: without it the other is handled too');
is(sql(effects('index')), '2|2', 'index: both had their effect');

# ---- what makes a message the same as another

my $uuid = '0badcafe-0000-4000-8000-00000000feed';

sub message
{
	my ($body, $token, %attributes) = @_;
	return {
		MessageBody => $body,
		MessageAttributes => {
			(defined $token ? ('sqsbridge-id' => { DataType => 'String', StringValue => $token }) : ()),
			map { $_ => { DataType => 'String', StringValue => "$attributes{$_}" } } keys %attributes
		}
	};
}

my $expected = 0;
my $copies = 0;

# Sends messages, of which so many are new.
sub counts_as_new
{
	my ($new, $name, @messages) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$expected += $new;
	$copies += @messages - $new;
	my @ids = $sqs->send_messages('same', @messages);
	$sqs->is_empty('same', "$name: sent");
	query_is($node, q{SELECT duplicates, in_flight FROM sqs_stats WHERE queue = 'same'}, "$copies|0", "$name: recognized");
	is(sql(q{SELECT count(*) FROM got WHERE queue = 'same'}), $expected, "$name: handled");
	return @ids;
}

register('same', 'handle');
counts_as_new(1, 'the same twice', message('a', $uuid), message('a', $uuid));
counts_as_new(0, 'the id in capitals', message('a', uc $uuid));
counts_as_new(1, 'another body', message('b', $uuid));
counts_as_new(1, 'one more attribute', message('a', $uuid, x => 1));
counts_as_new(1, 'another value', message('a', $uuid, x => 2));
counts_as_new(1, 'another name', message('a', $uuid, y => 2));
counts_as_new(1, 'another type', { MessageBody => 'a', MessageAttributes => {
	'sqsbridge-id' => { DataType => 'String', StringValue => $uuid }, x => { DataType => 'Number', StringValue => '1' } } });
counts_as_new(0, 'two attributes, in no order', message('a', $uuid, x => 1));
counts_as_new(1, 'two attributes', message('a', $uuid, x => 1, y => 2), message('a', $uuid, y => 2, x => 1));
# nothing can be moved from one field to the next
counts_as_new(2, 'the same letters, cut elsewhere', message('a', $uuid, xy => 'z'), message('a', $uuid, x => 'yz'));
counts_as_new(1, 'another id', message('a', '0badcafe-0000-4000-8000-00000000fee0'));
counts_as_new(1, 'ten attributes', map { message('ten', $uuid, map { ("a$_" => $_) } 1 .. 9) } 1 .. 2);
is(sql(q{SELECT count(*) FROM got WHERE queue = 'same' AND attributes ? 'sqsbridge-id'}), '0', 'handlers do not see the id');
counts_as_new(2, 'what is no UUID', map { message('no', 'x' x 36) } 1 .. 2);
is(sql(q{SELECT count(*) FROM got WHERE body = 'no' AND attributes->>'sqsbridge-id' = repeat('x', 36)}), '2', 'which they see');
my ($plain) = counts_as_new(1, 'no id', message('victim', undef));
counts_as_new(1, "an id that is SQS's id of another message", message('victim', $plain));
# announced before: the id of a message that is still to come
my ($victim) = $sqs->send_messages('same', { MessageBody => 'late', DelaySeconds => 900 });
counts_as_new_while_waiting($victim);

sub counts_as_new_while_waiting
{
	my ($token) = @_;
	my $deleted = $sqs->stats('same')->{deleted};
	$sqs->send_messages('same', message('late', $token));
	query_is($node, q{SELECT count(*) FROM got WHERE body = 'late'}, '1', 'an id that SQS will use: handled');
	# the clock would end its lease
	poll_until(sub { $sqs->stats('same')->{deleted} > $deleted }, 'and deleted');
	$sqs->advance(901);
	query_is($node, q{SELECT count(*) FROM got WHERE body = 'late'}, '2', 'and so is the message that has it');
	$sqs->is_empty('same', 'all are deleted');
	$expected += 2;
	return;
}

# whoever sends the same is not the same; another session of a role is
$sqs->set_sender('AROAFIRST:one');
counts_as_new(1, 'from one role', message('sender', $uuid));
$sqs->set_sender('AROAFIRST:two');
counts_as_new(0, 'from another session of the role', message('sender', $uuid));
$sqs->set_sender('AROASECOND:one');
counts_as_new(1, 'from another role', message('sender', $uuid));
$sqs->set_sender('AIDAUSER');
counts_as_new(1, 'from a user', message('sender', $uuid), message('sender', $uuid));

# groups: of two groups the same is not the same
register('fair.fifo', 'handle');
$sqs->send_messages('fair.fifo', map { { %{ message('a', $uuid) }, MessageGroupId => $_->[0], MessageDeduplicationId => $_->[1] } }
	[ 'g1', 'd1' ], [ 'g2', 'd2' ], [ 'g1', 'd3' ]);
$sqs->is_empty('fair.fifo');
is(sql(effects('fair.fifo')), '2|1', 'a message of another group is another message');
query_is($node, q{SELECT duplicates FROM sqs_stats WHERE queue = 'fair.fifo'}, '1', 'one of the same group is not');

# what an outbox has sent is found by what it says
sql(q{SELECT sqs_enqueue('same', 'from the outbox', '{"k": 1}')});
query_is($node, q{SELECT count(*) FROM got WHERE body = 'from the outbox'}, '1', 'a message of an outbox is handled');
like(sql(q{SELECT message_key FROM sqsbridge_internal.inbox WHERE message_key LIKE 'outbox:%' ORDER BY stamp DESC LIMIT 1}),
	qr/^outbox:[0-9a-f-]{36}:[0-9a-f]{64}$/, 'and recorded with a digest');

# ---- a copy of a database that works: what was in hand as it was made may come to it

{
	my $name = 'copied';
	my $tmp = PostgreSQL::Test::Utils::tempdir();
	my $copy = sub { return $node->safe_psql('copy', $_[0]) };
	my $dump = 'pg_dump -h ' . $node->host . ' -p ' . $node->port . " -f $tmp/dump postgres";
	$sqs->create_queue('copied', VisibilityTimeout => '60');
	my $unable = $sqs->fault(kind => 'error', status => 503, action => 'DeleteMessageBatch', queue => 'copied');
	register('copied', 'handle', q{dedup_retention => '1 h'});
	$sqs->fill('copied', 5);
	query_is($node, effects('copied'), '5|5', "$name: messages are handled");
	query_true($node, q{(SELECT delete_failures > 0 FROM sqs_stats WHERE queue = 'copied')}, "$name: they are not deleted");
	is(system($dump), 0, "$name: a dump");
	rest('copied');
	$node->safe_psql('postgres', 'CREATE DATABASE copy');
	is(system('psql -X -q -h ' . $node->host . ' -p ' . $node->port . " -f $tmp/dump copy >/dev/null 2>&1"), 0, "$name: restored");
	is($copy->(rows('inbox_doubts', 'copied')), '0', "$name: nothing is in doubt in the copy");
	$copy->(q{SELECT sqs_adopt_queues('discard')});
	is($copy->(rows('inbox_doubts', 'copied', q{count(*), bool_and(keep_until > now() + interval '13 days')})), '1|t',
		"$name: when it is adopted, what was in hand is");
	$copy->(<<'EOQ');
UPDATE sqsbridge_internal.inbox SET stamp = stamp - interval '2 days';
UPDATE sqsbridge_internal.inbox_marks SET at = at - interval '2 days', low_water = low_water - interval '2 days';
UPDATE sqsbridge_internal.inbox_doubts SET from_stamp = from_stamp - interval '2 days', keep_until = keep_until - interval '2 days';
INSERT INTO sqsbridge_internal.inbox VALUES (1000002, 'gone', now() - interval '15 days');
SELECT pg_terminate_backend(pid) FROM sqs_stats_workers WHERE kind = 'database worker' AND database = current_database();
EOQ
	query_is($node, 'SELECT count(*) FROM sqsbridge_internal.inbox WHERE queue_id = 1000002', '0', "$name: the copy's inbox is cleaned",
		dbname => 'copy');
	is($copy->(rows('inbox', 'copied')), '5', "$name: what may still come is remembered");
	# it does: the original never deleted them
	$sqs->clear_faults($unable);
	$copy->(q{SELECT sqs_enable_queue('copied')});
	$sqs->advance(61);
	$sqs->is_empty('copied', "$name: the messages come to the copy, and are deleted");
	is($copy->(effects('copied')), '5|5', "$name: and not handled again");
	# (a crash would be followed by a second attempt, with warnings)
	$node->safe_psql('postgres', $_) foreach ('DROP DATABASE copy', 'CHECKPOINT');
}

# ---- sqs_failures keeps the newest

sub failures_are_bounded
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	query_is($node, q{SELECT count(*) <= 20 FROM sqs_failures WHERE queue = 'poison'}, 't', "$name: twenty failures at most are kept");
	return;
}

register('poison', 'refuse', q{retry_delay => '0 s', concurrency => 4});
$sqs->fill('poison', 10);
query_true($node, q{(SELECT failed > 100 FROM sqs_stats WHERE queue = 'poison')}, 'poison: attempts fail');
failures_are_bounded('poison');
rest('poison');
is( sql(q{SELECT failed = failures_dropped + (SELECT count(*) FROM sqs_failures WHERE queue = 'poison')
	FROM sqs_stats WHERE queue = 'poison'}), 't', 'poison: what is dropped is counted');
query_is($node, q{SELECT count(*) BETWEEN 16 AND 20 FROM sqs_failures WHERE queue = 'poison'}, 't', 'poison: no more than needed');
is( sql(q{SELECT min(failed_at) > (SELECT state_since FROM sqs_stats WHERE queue = 'poison') - interval '1 min'
	FROM sqs_failures WHERE queue = 'poison'}), 't', 'poison: the newest are kept');
kill_server('poison');
$node->start;
sql(q{SELECT sqs_enable_queue('poison')});
query_true($node, q{(SELECT failed > 50 FROM sqs_stats WHERE queue = 'poison')}, 'poison: after a crash they go on to fail');
failures_are_bounded('poison, after a crash');
$node->append_conf('postgresql.conf', "sqsbridge.max_failures = 5\n");
$node->reload;
query_is($node, q{SELECT count(*) <= 5 FROM sqs_failures WHERE queue = 'poison'}, 't', 'poison: a lower limit takes effect');
$node->append_conf('postgresql.conf', "sqsbridge.max_failures = 0\n");
$node->reload;
my $dropped = sql(q{SELECT failures_dropped FROM sqs_stats WHERE queue = 'poison'});
query_true($node, qq{(SELECT failures_dropped > $dropped + 20 FROM sqs_stats WHERE queue = 'poison')}, 'poison: with 0 all are dropped');
rest('poison');
clean('poison');
query_is($node, q{SELECT count(*) FROM sqs_failures WHERE queue = 'poison'}, '0', 'poison: none is kept');

$node->stop;
check_log(
	$node,
	qr/ERROR:  poison/,
	qr/the database system is (?:starting up|not yet accepting|in recovery)/);
done_testing();
