# The outbox: what commits is sent once, in the order of the commits, what does
# not is not; rows that wait, and rows that can never be sent.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

my $sqsd = endpoint_kind() eq 'sqsd';
my $long = $ENV{SQSBRIDGE_LONG};

our $sqs = start_sqs(queues => [ 'out', 'other', 'ord.fifo', 'in', 'in.fifo' ]);
my $node = new_node('main', conf => "max_prepared_transactions = 5\nwal_level = replica\n");

setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (n bigint GENERATED ALWAYS AS IDENTITY, queue text, body text,
  message_id text, group_id text, deduplication_id text, attributes jsonb, system_attributes jsonb);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got (queue, body, message_id, group_id, deduplication_id, attributes, system_attributes)
  SELECT m.queue, m.body, m.message_id, m.group_id, m.deduplication_id, m.attributes,
    m.system_attributes $$;
SELECT sqs_register_queue(q, server => 'aws') FROM unnest(ARRAY['out', 'other']) q;
SELECT sqs_register_queue(q, server => 'aws', handler => 'handle', visibility_timeout => '3 s', wait_time => '1 s')
  FROM unnest(ARRAY['in', 'in.fifo', 'ord.fifo']) q;
EOQ

sub waiting_is
{
	my ($queue, $n, $name, $timeout) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return query_is($node, "SELECT waiting FROM sqs_stats_outbox WHERE queue = '$queue'",
		$n, $name, timeout => $timeout);
}

sub got_is
{
	my ($where, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return query_is($node,
		"SELECT count(*), string_agg(body, ',' ORDER BY n) FROM got WHERE $where",
		$expected, $name);
}

# ---- what commits, and what does not ----

$node->safe_psql('postgres', <<'EOQ');
BEGIN;
INSERT INTO sqs_outbox (queue, body) VALUES ('in', 'rolled back');
ROLLBACK;
BEGIN;
SELECT sqs_enqueue('in', 'before');
SAVEPOINT a;
SELECT sqs_enqueue('in', 'savepoint rolled back');
INSERT INTO sqs_outbox (queue, body) VALUES ('other', 'savepoint rolled back');
ROLLBACK TO a;
SAVEPOINT b;
SELECT sqs_enqueue('in', 'savepoint released');
RELEASE b;
COMMIT;
BEGIN;
SAVEPOINT a;
SELECT sqs_enqueue('in', 'nothing else');
ROLLBACK TO a;
COMMIT;
DO $$
BEGIN
  BEGIN
    PERFORM sqs_enqueue('in', 'block rolled back');
    RAISE EXCEPTION 'no';
  EXCEPTION WHEN raise_exception THEN
    PERFORM sqs_enqueue('in', 'instead');
  END;
END $$;
BEGIN;
SELECT sqs_enqueue('in', 'read only since');
SET TRANSACTION READ ONLY;
COMMIT;
EOQ
got_is("queue = 'in'", '4|before,savepoint released,instead,read only since',
	'what is committed arrives, and nothing else');
query_is($node, 'SELECT (SELECT count(*) FROM sqsbridge_internal.outbox_rows), (SELECT count(*) FROM sqsbridge_internal.outbox_batches)',
	'0|0', 'nothing is left of it');
is( $node->safe_psql('postgres', "SELECT sent FROM sqs_stats_outbox WHERE queue = 'in'"),
	'4', 'sent is counted');

# the extension comes, goes and comes within a transaction
$node->safe_psql('postgres', 'CREATE DATABASE again');
$node->safe_psql('again', <<"EOQ");
BEGIN;
SAVEPOINT a;
CREATE EXTENSION sqsbridge;
CREATE SERVER aws FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '${\ $sqs->endpoint}');
SELECT sqs_register_queue('other', server => 'aws');
SELECT sqs_enqueue('other', 'rolled back with the extension');
ROLLBACK TO a;
CREATE EXTENSION sqsbridge;
CREATE SERVER aws FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '${\ $sqs->endpoint}');
SELECT sqs_register_queue('other', server => 'aws', enabled => false);
SELECT sqs_enqueue('other', 'with the extension');
COMMIT;
EOQ
is( $node->safe_psql('again', 'SELECT (SELECT string_agg(body, \',\') FROM sqs_outbox), (SELECT count(*) FROM sqsbridge_internal.outbox_batches)'),
	'with the extension|1', 'the extension may be created in the transaction, twice');
$node->safe_psql('postgres', 'DROP DATABASE again');

# every field
$node->safe_psql('postgres', <<'EOQ');
INSERT INTO sqs_outbox (queue, body, attributes, group_id, deduplication_id, system_attributes)
VALUES ('in.fifo', E'a\tb\n"\u00e4\u20ac"',
  '{"s": "x", "n": 1.5, "b": {"DataType": "Binary.x", "BinaryValue": "AAH/"}}',
  'g-1', 'd-1', '{"AWSTraceHeader": "Root=1-5759e988-bd862e3fe1be46a994272793"}')
EOQ
query_is($node, "SELECT body = E'a\\tb\\n\"\\u00e4\\u20ac\"', group_id, deduplication_id, attributes,
	system_attributes->>'AWSTraceHeader' FROM got WHERE queue = 'in.fifo'",
	't|g-1|d-1|{"b": {"DataType": "Binary.x", "BinaryValue": "AAH/"}, "n": 1.5, "s": "x"}|'
	  . ($sqsd ? 'Root=1-5759e988-bd862e3fe1be46a994272793' : ''),    # fauxqs drops it
	'every field arrives as it was inserted');

# ---- many rows ----

my $rows = $long ? 1_000_000 : 20_000;
$node->safe_psql('postgres',
	"INSERT INTO sqs_outbox (queue, body) SELECT 'out', 'row ' || i FROM generate_series(1, $rows) i",
	timeout => 600);
waiting_is('out', 0, "$rows rows of one transaction are sent", 600);
if ($sqsd)
{
	is($sqs->stats('out')->{sent}, $rows, "SQS's books say the same");
	cmp_ok($sqs->calls('out', 'SendMessageBatch'), '<=', $rows * 0.11, 'ten to a call');
	is($sqs->stats('other')->{sent}, 0, 'nothing of what was rolled back');
	is( $node->safe_psql('postgres', "SELECT send_calls FROM sqs_stats WHERE queue = 'out'"),
		$sqs->calls('out', 'SendMessageBatch'), 'calls are counted as SQS counts them');
}

my $file = PostgreSQL::Test::Utils::tempdir() . '/copy.txt';
append_to_file($file, join('', map { "in\tcopied $_\n" } 1 .. 1000));
$node->safe_psql('postgres', "\\copy sqs_outbox (queue, body) FROM '$file'");
query_is($node, "SELECT count(*), count(DISTINCT body) FROM got WHERE body LIKE 'copied %'",
	'1000|1000', 'COPY works');

# ---- the order of commits ----

my ($first, $second) = map { $node->background_psql('postgres', on_error_stop => 1) } 1 .. 2;
$first->query_safe("BEGIN; SELECT sqs_enqueue('in.fifo', 'committed last', group_id => 'order')");
$second->query_safe("BEGIN; SELECT sqs_enqueue('in.fifo', 'committed first', group_id => 'order'); COMMIT");
$second->query_safe("BEGIN; SELECT sqs_enqueue('in.fifo', 'committed second', group_id => 'order')");
$first->query_safe("SELECT sqs_enqueue('in.fifo', 'very last', group_id => 'order')");
$second->query_safe('COMMIT');
$first->query_safe('COMMIT');
got_is("group_id = 'order'", '4|committed first,committed second,committed last,very last',
	'the messages of a group arrive in the order of the commits, not of the ids');

# the same with everything in the outbox before anything is sent
$node->safe_psql('postgres', "SELECT sqs_disable_queue('in.fifo')");
query_true($node, "SELECT state = 'disabled' FROM sqs_stats WHERE queue = 'in.fifo'", 'disabled');
$first->query_safe("BEGIN; SELECT sqs_enqueue('in.fifo', 'c', group_id => 'order 2'::text) WHERE false;
	SELECT sqs_enqueue('in.fifo', 'c', group_id => 'order-2')");
$second->query_safe("BEGIN; SELECT sqs_enqueue('in.fifo', 'a', group_id => 'order-2'); COMMIT");
$second->query_safe("BEGIN; SELECT sqs_enqueue('in.fifo', 'b', group_id => 'order-2'); COMMIT");
$first->query_safe('COMMIT');
waiting_is('in.fifo', 3, 'the rows of a disabled queue wait');
query_is($node, "SELECT state FROM sqs_stats_outbox WHERE queue = 'in.fifo'", 'disabled',
	'and the view says why');
$node->restart;
$first->quit;
$second->quit;
is( $node->safe_psql('postgres', "SELECT waiting FROM sqs_stats_outbox WHERE queue = 'in.fifo'"),
	'3', 'across a restart');
$node->safe_psql('postgres', "SELECT sqs_enable_queue('in.fifo')");
got_is("group_id = 'order-2'", '3|a,b,c', 'and go in the order of the commits when it is enabled');

# many writers, each with a sequence of its own per group
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE turn (g int PRIMARY KEY, n int NOT NULL);
INSERT INTO turn SELECT g, 0 FROM generate_series(1, 5) g;
EOQ
my $pgbench = PostgreSQL::Test::Utils::tempdir() . '/order.sql';
append_to_file($pgbench, <<'EOQ');
\set g random(1, 5)
BEGIN;
UPDATE turn SET n = n + 1 WHERE g = :g RETURNING n AS n \gset
SELECT sqs_enqueue('in.fifo', :n::text, group_id => 'turn-' || :g);
COMMIT;
EOQ
my $transactions = $long ? 2000 : 100;
$node->command_ok([ 'pgbench', '-n', '-c', '5', '-t', $transactions, '-f', $pgbench, 'postgres' ],
	'five writers that wait for each other');
query_is($node, "SELECT count(*) FROM got WHERE group_id LIKE 'turn-%'", 5 * $transactions,
	'everything arrives');
is( $node->safe_psql('postgres', "SELECT count(*) FROM (SELECT body::int, lag(body::int) OVER
		(PARTITION BY group_id ORDER BY n) p FROM got WHERE group_id LIKE 'turn-%') x
		WHERE p IS NOT NULL AND body <> p + 1"),
	'0', 'in the order in which the writers had their turns');

# ---- prepared transactions ----

$node->safe_psql('postgres', "BEGIN; SELECT sqs_enqueue('in', 'prepared'); PREPARE TRANSACTION 'p'");
$node->safe_psql('postgres', "BEGIN; SELECT sqs_enqueue('in', 'prepared and rolled back'); PREPARE TRANSACTION 'r'");
$node->safe_psql('postgres', "SELECT sqs_enqueue('in', 'after it')");
got_is("body = 'after it'", '1|after it', 'a prepared transaction does not hold up others');
is( $node->safe_psql('postgres', "SELECT count(*) FROM got WHERE body LIKE 'prepared%'"),
	'0', 'and is not sent');
$node->safe_psql('postgres', "COMMIT PREPARED 'p'");
$node->safe_psql('postgres', "ROLLBACK PREPARED 'r'");
# nothing tells the relay; the next commit makes it look
$node->safe_psql('postgres', "SELECT sqs_enqueue('in', 'next')");
got_is("body LIKE 'prepared%'", '1|prepared', 'it is sent after COMMIT PREPARED');

# ---- time ----

$node->safe_psql('postgres', <<'EOQ');
SELECT sqs_enqueue('in', 'due second', delay => '1500 ms');
SELECT sqs_enqueue('in', 'due first', delay => '1 s');
SELECT sqs_enqueue('in', 'in an hour', deliver_at => now() + interval '1 hour');
SELECT sqs_enqueue('in', 'due in the past', deliver_at => now() - interval '1 hour');
EOQ
is( $node->safe_psql('postgres', "SELECT scheduled >= 1, next_deliver_at IS NOT NULL
		FROM sqs_stats_outbox WHERE queue = 'in'"),
	't|t', 'scheduled messages are shown');
got_is("body LIKE 'due%'", '3|due in the past,due first,due second', 'messages are sent when they are due');
is( $node->safe_psql('postgres', "SELECT count(*) FROM sqs_outbox WHERE body = 'in an hour'"),
	'1', 'and not before');

# ---- the same row twice ----

if ($sqsd)
{
	# the reply is lost: sent again, and recognised
	$sqs->fault(kind => 'lose_reply', action => 'SendMessageBatch', queue => $_, count => 1)
	  foreach ('in', 'in.fifo');
	my $sent = $sqs->stats('in')->{sent};
	$node->safe_psql('postgres', <<'EOQ');
INSERT INTO sqs_outbox (queue, body) SELECT 'in', 'twice ' || i FROM generate_series(1, 5) i;
INSERT INTO sqs_outbox (queue, body, group_id) SELECT 'in.fifo', 'twice ' || i, 'twice' FROM generate_series(1, 5) i;
EOQ
	query_is($node, "SELECT count(*), count(DISTINCT body) FROM got WHERE queue = 'in' AND body LIKE 'twice%'",
		'5|5', 'standard queue: each effect once');
	waiting_is('in', 0, 'all rows confirmed');
	query_is($node, "SELECT string_agg(body, ',' ORDER BY n) FROM got WHERE queue = 'in.fifo' AND body LIKE 'twice%'",
		'twice 1,twice 2,twice 3,twice 4,twice 5', 'FIFO queue: each effect once, in order');
	cmp_ok($sqs->stats('in')->{sent}, '>', $sent + 5, 'SQS did get copies');
	query_true($node, "SELECT duplicates > 0 FROM sqs_stats WHERE queue = 'in'", 'which were recognised');
	cmp_ok($sqs->stats('in.fifo')->{deduplicated}, '>=', 1, 'a FIFO queue recognises them itself');
}

# ten attributes leave no room for the id
$node->safe_psql('postgres', "INSERT INTO sqs_outbox (queue, body, attributes) SELECT 'in', 'ten',
	jsonb_object_agg('a' || i, i) FROM generate_series(1, 10) i");
query_is($node, "SELECT (SELECT count(*) FROM jsonb_object_keys(attributes)) FROM got WHERE body = 'ten'",
	'10', 'ten attributes are sent as they are');
$node->safe_psql('postgres', "INSERT INTO sqs_outbox (queue, body) VALUES ('in', repeat('x', 1024 * 1024))");
query_is($node, 'SELECT length(body) FROM got WHERE length(body) > 1000000', 1024 * 1024,
	'and so is a message of 1 MiB');

# a handler that sends its message on, attributes and all
$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION again(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF m.attributes->>'round' = '2' THEN
    INSERT INTO got (queue, body) VALUES ('again', m.body);
  ELSE
    PERFORM sqs_enqueue(m.queue, m.body, m.attributes || '{"round": "2"}');
  END IF;
END $$;
SELECT sqs_alter_queue('in', handler => 'again');
SELECT sqs_enqueue('in', 'again and again', '{"round": "1"}');
EOQ
query_is($node, "SELECT body FROM got WHERE queue = 'again'", 'again and again',
	'a handler may send its message on');
$node->safe_psql('postgres', "SELECT sqs_alter_queue('in', handler => 'handle')");

# ---- rows that can never be sent ----

$node->safe_psql('postgres', "SELECT sqs_disable_queue('other');
	SELECT sqs_enqueue('other', 'orphan ' || i) FROM generate_series(1, 3) i");
waiting_is('other', 3, 'rows wait');
$node->safe_psql('postgres', "SELECT sqs_unregister_queue('other')");
query_is($node, "SELECT queue, error_code, error_message, string_agg(body, ',' ORDER BY id)
		FROM sqs_outbox_failures GROUP BY 1, 2, 3",
	'other|QueueNotRegistered|the queue is not registered any more|orphan 1,orphan 2,orphan 3',
	'rows of a queue that is unregistered are kept, with the reason');
isnt($node->psql('postgres', 'SELECT sqs_outbox_retry(id) FROM sqs_outbox_failures'),
	0, 'they cannot be sent while it is');
$node->safe_psql('postgres', "SELECT sqs_register_queue('other', server => 'aws');
	SELECT sqs_outbox_retry(id) FROM sqs_outbox_failures WHERE body <> 'orphan 2'");
query_is($node, "SELECT sent FROM sqs_stats_outbox WHERE queue = 'other'", '2', 'and can be after');
is( $node->safe_psql('postgres', 'SELECT body FROM sqs_outbox_failures'),
	'orphan 2', 'what is not asked for stays');

SKIP:
{
	skip 'needs sqsd', 5 unless $sqsd;

	# one message of several is refused by SQS for what it is
	my $rule = $sqs->fault(kind => 'entry_fail', action => 'SendMessageBatch', queue => 'out',
		code => 'InvalidParameterValue', message => 'no', sender_fault => \1, every => 3);
	$node->safe_psql('postgres',
		"INSERT INTO sqs_outbox (queue, body) SELECT 'out', 'refused? ' || i FROM generate_series(1, 9) i");
	query_is($node, "SELECT count(*) FROM sqs_outbox_failures WHERE queue = 'out'
		AND error_code = 'InvalidParameterValue' AND error_message = 'no'",
		'3', 'messages that SQS refuses are moved to sqs_outbox_failures');
	waiting_is('out', 0, 'the others are sent');
	is( $node->safe_psql('postgres', "SELECT sent, failed FROM sqs_stats_outbox WHERE queue = 'out'"),
		'6|3', 'and counted');
	$sqs->clear_faults($rule);
	$node->safe_psql('postgres', "SELECT sqs_outbox_retry(id) FROM sqs_outbox_failures WHERE queue = 'out'");
	query_is($node, "SELECT sent FROM sqs_stats_outbox WHERE queue = 'out'", '9', 'sqs_outbox_retry() brings them back');
	is( $node->safe_psql('postgres', "SELECT count(*) FROM sqs_outbox_failures WHERE queue = 'out'"),
		'0', 'and they are failures no more');
}

# ---- somebody rewrites the tables meanwhile ----

$node->safe_psql('postgres', "SELECT sqs_disable_queue('out')");
$node->safe_psql('postgres', "INSERT INTO sqs_outbox (queue, body) SELECT 'out', 'moved ' || i FROM generate_series(1, 500) i");
waiting_is('out', 500, 'rows are in hand');
query_is($node, "SELECT state FROM sqs_stats_outbox WHERE queue = 'out'", 'disabled', 'and wait');
$node->safe_psql('postgres', 'DELETE FROM sqsbridge_internal.outbox_rows WHERE false');
$node->safe_psql('postgres', "VACUUM FULL $_") foreach ('sqsbridge_internal.outbox_rows', 'sqsbridge_internal.outbox_batches');
SKIP:
{
	skip 'no REPACK', 2 if $node->safe_psql('postgres', 'SHOW server_version_num') < 190000;
	$node->safe_psql('postgres', 'REPACK (CONCURRENTLY) sqsbridge_internal.outbox_rows');
	$node->safe_psql('postgres', 'REPACK sqsbridge_internal.outbox_batches');
	my (undef, undef, $stderr) = $node->psql('postgres', 'REPACK (CONCURRENTLY) sqsbridge_internal.outbox_batches');
	like($stderr, qr/ERROR:  cannot use REPACK \(CONCURRENTLY\) for table "outbox_batches"/, 'what would make copies of all batches is refused');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM sqsbridge_internal.outbox_batches WHERE xmin::text <> xid::text'),
		'0', 'the batches are native');
}
$node->safe_psql('postgres', "SELECT sqs_enable_queue('out')");
waiting_is('out', 0, 'rewritten tables do not confuse the relay');
query_is($node, 'SELECT count(*) FROM sqsbridge_internal.outbox_batches', '1', 'nothing is left but what is scheduled');

# ---- a commit that comes after the end of its queue, and of all others ----

$node->safe_psql('postgres', 'CREATE DATABASE last');
setup_database($node, $sqs, dbname => 'last');
$node->safe_psql('last', "SELECT sqs_register_queue('other', server => 'aws')");
my $late = $node->background_psql('last', on_error_stop => 1);
$late->query_safe("BEGIN; SELECT sqs_enqueue('other', 'too late')");
$node->safe_psql('last', "SELECT sqs_unregister_queue('other')");
$late->query_safe('COMMIT');
$late->quit;
query_is($node, 'SELECT queue, error_code, body FROM sqs_outbox_failures',
	'other|QueueNotRegistered|too late', 'the row is not forgotten', dbname => 'last');
query_is($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'sqsbridge%' AND datname = 'last'",
	'0', 'and its worker leaves again');

# ---- a database whose sessions are read only ----

$node->safe_psql('last', <<'EOQ');
SELECT sqs_register_queue('in', server => 'aws');
ALTER DATABASE last SET default_transaction_read_only = on;
ALTER DATABASE last SET default_transaction_isolation = 'serializable';
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'sqsbridge database worker' AND datname = 'last';
SELECT sqs_enqueue('in', 'from a database that is read only');
EOQ
query_is($node, "SELECT sent, waiting FROM sqs_stats_outbox WHERE queue = 'in'", '1|0',
	'its workers can do their work', dbname => 'last');
$node->safe_psql('postgres', 'DROP DATABASE last');

# ---- a session that replays what happened elsewhere, as a subscription's does

$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE replayed (body text);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.body LIKE '%insert' THEN
    INSERT INTO sqs_outbox (queue, body) VALUES ('out', NEW.body);
  ELSE
    PERFORM sqs_enqueue('out', NEW.body);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT ON replayed FOR EACH ROW EXECUTE FUNCTION tell();
ALTER TABLE replayed ENABLE ALWAYS TRIGGER tell;
EOQ
foreach my $insert ("INSERT INTO sqs_outbox (queue, body) VALUES ('out', 'replayed insert')",
	"COPY sqs_outbox (queue, body) FROM stdin;\nout\treplayed copy\n\\.\n", "INSERT INTO replayed VALUES ('replayed insert')")
{
	my (undef, undef, $stderr) = $node->psql('postgres', "SET session_replication_role = replica; $insert");
	like($stderr, qr/ERROR:  cannot insert into sqs_outbox.*HINT:  Use sqs_enqueue/s, 'what would be lost without a word is refused');
}
$node->safe_psql('postgres', <<'EOQ');
SET session_replication_role = replica;
SELECT count(*) FROM sqs_outbox;
INSERT INTO replayed VALUES ('replayed');
RESET session_replication_role;
DROP TABLE replayed;
DROP FUNCTION tell;
EOQ
waiting_is('out', '0', 'what sqs_enqueue() stores');
is(join(', ', grep { /^replayed/ } map { $_->{body} } @{ $sqs->messages('out') }), 'replayed', 'is sent') if $sqsd;

# ---- as much as one request may have: the ids count, too ----

SKIP:
{
	skip 'needs sqsd', 2 if !$sqsd;
	my $last = $node->safe_psql('postgres', "SELECT COALESCE(last_error_at, '-infinity') FROM sqs_stats_outbox WHERE queue = 'out'");
	my $sent_out = $node->safe_psql('postgres', "SELECT sent FROM sqs_stats_outbox WHERE queue = 'out'");
	$node->safe_psql('postgres', "INSERT INTO sqs_outbox (queue, body) SELECT 'out', repeat('x', 1048576 / n)
		FROM (VALUES (2), (2), (8), (8), (8), (8), (8), (8), (8), (8)) v(n)");
	query_is($node, "SELECT sent - $sent_out, waiting FROM sqs_stats_outbox WHERE queue = 'out'", '10|0', 'large messages are sent');
	is($node->safe_psql('postgres', "SELECT COALESCE(last_error_at, '-infinity') FROM sqs_stats_outbox WHERE queue = 'out'"),
		$last, 'and no request was refused for its size');
}

# ---- somebody throws rows away, and others take their place ----

SKIP:
{
	skip 'needs sqsd', 8 if !$sqsd;
	$sqs->fault(kind => 'error', status => 503, code => 'ServiceUnavailable', action => 'SendMessageBatch', queue => 'out');
	$node->safe_psql('postgres', "SELECT sqs_disable_queue('other');
		VACUUM sqsbridge_internal.outbox_rows, sqsbridge_internal.outbox_batches;
		SELECT sqs_enqueue('out', 'thrown away')");
	waiting_is('out', 1, 'a row is in hand');
	query_is($node, "SELECT state, consecutive_errors > 1 FROM sqs_stats_outbox WHERE queue = 'out'", 'backing off|t', 'and waits');
	my ($row, $batch) = map { $node->safe_psql('postgres', "SELECT ctid FROM $_
		WHERE queue_id = (SELECT queue_id FROM sqs_queues WHERE name = 'out')") }
	  ('sqsbridge_internal.outbox_rows', 'sqsbridge_internal.outbox_batches');
	$node->safe_psql('postgres', "DELETE FROM $_
		WHERE queue_id = (SELECT queue_id FROM sqs_queues WHERE name = 'out')")
	  foreach ('sqsbridge_internal.outbox_rows', 'sqsbridge_internal.outbox_batches');
	poll_until(
		sub {
			$node->safe_psql('postgres', 'VACUUM sqsbridge_internal.outbox_rows, sqsbridge_internal.outbox_batches');
			$node->safe_psql('postgres', "SELECT sqs_enqueue('other', 'in its place')");
			return $node->safe_psql('postgres', "SELECT EXISTS (SELECT FROM sqsbridge_internal.outbox_rows WHERE ctid = '$row')
				AND EXISTS (SELECT FROM sqsbridge_internal.outbox_batches WHERE ctid = '$batch')") eq 't';
		},
		'its place is taken by a row of another queue');
	my $others = $node->safe_psql('postgres', 'SELECT count(*) FROM sqsbridge_internal.outbox_rows');
	my $sent_out = $node->safe_psql('postgres', "SELECT outbox_sent FROM sqs_get_queue_stats()
		WHERE queue_id = (SELECT queue_id FROM sqs_queues WHERE name = 'out')");
	$sqs->clear_faults;
	query_true($node, "SELECT sent > $sent_out FROM sqs_stats_outbox WHERE queue = 'out'",
		'what is in hand is sent');
	$node->safe_psql('postgres', "SELECT sqs_enqueue('out', 'after it')");
	query_true($node, "SELECT sent > $sent_out + 1 FROM sqs_stats_outbox WHERE queue = 'out'",
		'and what comes after it');
	waiting_is('out', 0, 'their rows are deleted');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM sqsbridge_internal.outbox_rows'), $others, 'and no others');
	$node->safe_psql('postgres', "SELECT sqs_enable_queue('other')");
	waiting_is('other', 0, 'which are sent in their turn');
}

# ---- and stops ----

$node->safe_psql('postgres', "BEGIN; SELECT sqs_enqueue('out', 'gone'); DROP EXTENSION sqsbridge CASCADE; COMMIT");
query_is($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'sqsbridge%' AND datname = 'postgres'",
	'0', 'the extension can be dropped in the transaction that enqueues');
$node->stop;
check_log($node,
	qr/ERROR:  queue "other" does not exist/,
	qr/ERROR:  cannot send to queue/,
	qr/ERROR:  canceling autovacuum task$/,
	qr/ERROR:  cannot insert into sqs_outbox while session_replication_role is "replica"/);
$sqs->stop_sqs;
done_testing();
