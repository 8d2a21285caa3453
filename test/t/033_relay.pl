# The relay of the outbox under what people and tables do to it: nothing that SQS
# has confirmed is sent again because something else fails, and nothing fails
# because something else does.  (How much it takes for itself: 042.)
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsOutbox;
use SqsTest;

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};
my $tables = $SqsOutbox::tables;
my @queues = qw(refusing flows held share copies gone back);
# nothing of these is read until they are enabled
my @later = qw(broken lost);

my $sqs = start_sqs(queues => [ @queues, @later ]);
my $node = new_node('main');
my $outbox = SqsOutbox->new($sqs, $node);

setup_database($node, $sqs);
$node->safe_psql('postgres', "SELECT sqs_register_queue(q, server => 'aws') FROM unnest('{" . join(',', @queues) . "}'::text[]) q;
	SELECT sqs_register_queue(q, server => 'aws', enabled => false) FROM unnest('{" . join(',', @later) . "}'::text[]) q");

# A session of a superuser's that holds a lock until it is closed.
sub hold
{
	my ($statement) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return open_session($node, "BEGIN; $statement;", $statement);
}

$outbox->enqueue($_, 'first', 1) foreach @queues;
$outbox->rows_are($_, 0, "$_: all is well") foreach @queues;
my $worker = $outbox->worker;

# ---- a failure that cannot be recorded

my $fault = $sqs->fault(kind => 'entry_fail', action => 'SendMessageBatch', queue => 'refusing',
	code => 'InvalidMessageContents', message => 'no', sender_fault => JSON::PP::true(), every => 15);
my $lock = hold("LOCK TABLE $tables.outbox_failures IN ACCESS EXCLUSIVE MODE");
$outbox->enqueue('refusing', 'm', 30);
$outbox->rows_are('refusing', 2, 'what is sent is deleted while a failure cannot be recorded');
$outbox->stat_is('refusing', 'state, waiting, in_flight, last_error', "backing off|2|0|table $tables.outbox_failures is locked", 'and the view says what is wrong');
$outbox->enqueue($_, 'n', 100) foreach ('refusing', 'flows');
$outbox->rows_are('flows', 0, 'other queues go on');
query_true($node, "SELECT count(*) <= 10 FROM $tables.outbox_rows WHERE queue = 'refusing'", 'and so does this one');
my $calls = $sqs->calls('refusing', 'SendMessageBatch');
query_true($node, "(SELECT consecutive_errors > 8 FROM sqs_stats_outbox WHERE queue = 'refusing')", 'it is tried again and again');
is($sqs->calls('refusing', 'SendMessageBatch'), $calls, 'without anything being sent');
close_session($lock);
$outbox->rows_are('refusing', 0, 'the failures are recorded when that is possible');
$sqs->clear_faults($fault);
my @bodies = map { $_->{body} } @{ $sqs->messages('refusing') };
my $failed = $node->safe_psql('postgres', "SELECT count(*) FROM sqs_outbox_failures WHERE queue = 'refusing'");
cmp_ok($failed, '>=', 2, 'some failed');
is(scalar(@bodies) + $failed, 131, 'each message is sent once or recorded once');
is(scalar(keys %{ { map { $_ => 1 } @bodies } }), scalar(@bodies), 'none twice');
$outbox->stat_is('refusing', 'state, error_since IS NULL', 'idle|t', 'all is well again');
is($outbox->lines_like('cannot record failed messages of queue "refusing"'), 1, 'one line in the log');
is($outbox->lines_like('can record failed messages of queue "refusing" again'), 1, 'and one when it is over');

# ... and one that the table does not take, among others that it does
$node->safe_psql('postgres', "ALTER TABLE $tables.outbox_failures ADD CONSTRAINT no_seven CHECK (body <> 'c:7')");
$fault = $sqs->fault(kind => 'entry_fail', action => 'SendMessageBatch', queue => 'refusing',
	code => 'InvalidMessageContents', message => 'no', sender_fault => JSON::PP::true());
$outbox->enqueue('refusing', 'c', 20);
$outbox->rows_are('refusing', 1, 'a failure that cannot be recorded does not keep others from it');
$outbox->stat_is('refusing', "state, last_error LIKE '%violates check constraint \"no_seven\"%'", 'backing off|t', 'and the view says why');
$node->safe_psql('postgres', "ALTER TABLE $tables.outbox_failures DROP CONSTRAINT no_seven");
$outbox->rows_are('refusing', 0, 'it is recorded when it can be');
$sqs->clear_faults($fault);
$outbox->stat_is('refusing', 'state, error_since IS NULL', 'idle|t', 'all is well again');

# ---- tables that are none of the relay's business

$lock = hold("LOCK TABLE $tables.inbox, $tables.failures, $tables.outbox_failures");
$outbox->enqueue('flows', 'inbox', 50);
$outbox->rows_are('flows', 0, 'locks on the tables of what is received do not stop the outbox');
$outbox->arrived_are('flows', 'inbox', 50, 'everything arrives once');
close_session($lock);

# ---- a row that somebody holds

$fault = $sqs->fault(kind => 'error', status => 503, code => 'ServiceUnavailable', action => 'SendMessageBatch', queue => 'held');
$outbox->enqueue('held', 'm', 20);
$lock = hold("SELECT id FROM $tables.outbox_rows WHERE body = 'm:7' FOR UPDATE");
$sqs->clear_faults($fault);
$outbox->rows_are('held', 1, 'the others are deleted');
$outbox->stat_is('held', 'state, last_error', "backing off|a row of table $tables.outbox_rows or outbox_batches is locked", 'and the view tells of the one');
$outbox->enqueue('held', 'n', 20);
$outbox->rows_are('held', 1, 'later ones are sent and deleted');
close_session($lock);
$outbox->rows_are('held', 0, 'it is deleted when it can be');
$outbox->arrived_are('held', $_, 20, "$_: each was sent once") foreach ('m', 'n');
$outbox->stat_is('held', 'state, error_since IS NULL', 'idle|t', 'all is well again');

# a queue that is disabled and enabled while one of its rows is held
$node->safe_psql('postgres', "SELECT sqs_disable_queue('held')");
$outbox->enqueue('held', 'p', 1);
$lock = hold("SELECT id FROM $tables.outbox_rows WHERE body = 'p:1' FOR UPDATE");
$node->safe_psql('postgres', "SELECT sqs_enable_queue('held')");
poll_until(sub { $outbox->arrived('held', 'p') == 1 }, 'a row that is held is sent');
$fault = $sqs->fault(kind => 'error', status => 503, code => 'ServiceUnavailable', action => 'SendMessageBatch', queue => 'held');
$outbox->enqueue('held', 'q', 20);
$outbox->stat_is('held', "state, waiting, consecutive_errors > 1", 'backing off|21|t', 'others cannot be sent for now');
$node->safe_psql('postgres', "SELECT sqs_disable_queue('held')");
$outbox->stat_is('held', 'state, waiting', 'disabled|21', 'they are put down');
$sqs->clear_faults($fault);
$node->safe_psql('postgres', "SELECT sqs_enable_queue('held')");
$outbox->rows_are('held', 1, 'they are taken up again, while the one is still held');
close_session($lock);
$outbox->rows_are('held', 0, 'which is deleted when it can be');
$outbox->arrived_are('held', 'p', 1, 'it was sent once');
$outbox->arrived_are('held', 'q', 20, 'and so were they');

# an update while it is under way: the new version is the one to delete
$fault = $sqs->fault(kind => 'latency', ms => 3000, action => 'SendMessageBatch', queue => 'held');
$outbox->enqueue('held', 'u', 5);
$outbox->stat_is('held', 'in_flight', '5', 'rows are under way');
$node->safe_psql('postgres', "UPDATE $tables.outbox_rows SET size = size + 1 WHERE body LIKE 'u:%'");
$outbox->rows_are('held', 0, 'rows that were changed meanwhile are deleted');
query_is($node, "SELECT count(*) FROM $tables.outbox_batches", '0', 'and so are their batches');
$outbox->arrived_are('held', 'u', 5, 'each was sent once');
$sqs->clear_faults($fault);

# ---- CREATE INDEX, REINDEX and so on: rows are read and sent, not deleted

$fault = $sqs->fault(kind => 'latency', ms => 1500, action => 'SendMessageBatch', queue => 'share');
$outbox->enqueue('share', 'm', 300);
$lock = hold("LOCK TABLE $tables.outbox_rows IN SHARE MODE");
$outbox->stat_is('share', 'state, sent, in_flight, waiting, last_error', "backing off|301|0|300|table $tables.outbox_rows is locked", 'what is sent waits for the table');
is($outbox->worker, $worker, 'the worker lives on');
$sqs->clear_faults($fault);
close_session($lock);
$outbox->rows_are('share', 0, 'and is deleted then');
$outbox->arrived_are('share', 'm', 300, 'each was sent once');
$node->safe_psql('postgres', "REINDEX TABLE $tables.outbox_rows; VACUUM FULL $tables.outbox_rows");
$outbox->enqueue('share', 'n', 10);
$outbox->rows_are('share', 0, 'a rewritten table');

# ---- a queue whose row is gone for a moment, with requests under way

$lock = hold("LOCK TABLE $tables.outbox_failures IN ACCESS EXCLUSIVE MODE");
$fault = $sqs->fault(kind => 'entry_fail', action => 'SendMessageBatch', queue => 'back',
	code => 'InvalidMessageContents', message => 'no', sender_fault => JSON::PP::true());
$outbox->enqueue('back', 'refused', 1);
$outbox->stat_is('back', 'failed', '1', 'a failure cannot be recorded yet');
$sqs->clear_faults($fault);
$fault = $sqs->fault(kind => 'latency', ms => 10000, action => 'SendMessageBatch', queue => 'back');
# more than fits in hand: the batch is not read to its end
$outbox->enqueue('back', 'm', 3000);
$outbox->stat_is('back', 'in_flight > 0', 't', 'messages are under way');
my $back = $node->safe_psql('postgres', "SELECT queue_id FROM sqs_queues WHERE name = 'back'");
$node->safe_psql('postgres', "CREATE TABLE saved AS SELECT * FROM $tables.queues WHERE queue_id = $back;
	DELETE FROM $tables.queues WHERE queue_id = $back;
	SELECT sqs_disable_queue('flows')");
query_is($node, "SELECT count(*) FROM sqs_get_queue_stats() WHERE queue_id = $back", '0', 'the queue is gone');
$node->safe_psql('postgres', "INSERT INTO $tables.queues SELECT * FROM saved; DROP TABLE saved");
close_session($lock);
query_is($node, "SELECT count(*) FROM sqs_get_queue_stats() WHERE queue_id = $back", '1', 'and is there again');
query_is($node, "SELECT error_code, body FROM sqs_outbox_failures WHERE queue = 'back'", 'InvalidMessageContents|refused:1',
	'what SQS has refused is recorded');
$sqs->clear_faults($fault);
$outbox->rows_are('back', 0, 'the rest is sent');
my %back;
$back{$_}++ foreach $outbox->arrived('back', 'm');
is(scalar(keys %back) . ', ' . (grep { $_ > 1 } values %back), '3000, 0', 'each message once');
is($outbox->worker, $worker, 'by the same worker');
$node->safe_psql('postgres', "SELECT sqs_enable_queue('flows')");

# ---- a row that cannot be read

SKIP:
{
	skip 'no pg_surgery', 8 if $node->psql('postgres', 'CREATE EXTENSION pg_surgery') != 0;
	$outbox->enqueue('broken', 'before', 3);
	$node->safe_psql('postgres', q{SELECT sqs_enqueue('broken', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i))});
	my $toast = $node->safe_psql('postgres', "SELECT reltoastrelid::regclass FROM pg_class WHERE oid = '$tables.outbox_rows'::regclass");
	$node->safe_psql('postgres', "SELECT heap_force_kill('$toast'::regclass, ARRAY(SELECT ctid FROM $toast WHERE chunk_seq = 1))");
	$node->safe_psql('postgres', "SELECT sqs_enable_queue('broken')");
	$outbox->stat_is('broken', "waiting, state, last_error LIKE '%missing chunk%' OR last_error LIKE '%unexpected chunk%'", '1|backing off|t', 'a corrupt row waits, and the view says why');
	$outbox->arrived_are('broken', 'before', 3, 'those before it are sent');
	$outbox->enqueue('flows', 'corrupt', 100);
	$outbox->rows_are('flows', 0, 'other queues go on');
	query_true($node, "(SELECT consecutive_errors > 2 FROM sqs_stats_outbox WHERE queue = 'broken')", 'it is tried again');
	cmp_ok($outbox->lines_like('cannot read the outbox of queue "broken"'), '<=', 1, 'with one line in the log');
	is($outbox->worker, $worker, 'the worker is still the same');
	$node->safe_psql('postgres', "DELETE FROM $tables.outbox_rows WHERE queue = 'broken'");
	$outbox->stat_is('broken', 'waiting, state, error_since IS NULL', '0|idle|t', 'all is well when it is gone');
}

# ---- copies of batches, with transaction ids to come, and rows without any

my $copies = $long ? 180_000 : 10_000;
$node->safe_psql('postgres', <<EOQ);
CREATE TEMP TABLE old AS SELECT * FROM $tables.queues WHERE name = 'copies';
INSERT INTO $tables.outbox_rows (batch_id, id, queue_id, queue, token, enqueued_at, enqueued_by_oid, enqueued_by, size, body)
  SELECT 1000000000 + i, 2000000000 + i, queue_id, name, gen_random_uuid(), now(), 10, 'postgres', 10, 'copy:' || i
  FROM old, generate_series(1, $copies) i;
INSERT INTO $tables.outbox_batches (batch_id, xid, queue_id, deliver_at, position)
  SELECT 1000000000 + i, (pg_current_xact_id()::text::bigint + 100000 + i)::text::xid8, queue_id, '-infinity', i
  FROM old, generate_series(1, $copies) i;
INSERT INTO $tables.outbox_rows (batch_id, id, queue_id, queue, token, enqueued_at, enqueued_by_oid, enqueued_by, size, body)
  SELECT 3000000000 + i, 4000000000 + i, 987654, 'nobody', gen_random_uuid(), now(), 10, 'postgres', 10, 'nobody:' || i
  FROM generate_series(1, 10) i;
INSERT INTO $tables.outbox_batches (batch_id, xid, queue_id, deliver_at, position)
  SELECT 3000000000 + i, (pg_current_xact_id()::text::bigint + 100000 + i)::text::xid8, 987654, '-infinity', i
  FROM generate_series(1, 10) i;
EOQ
my $read = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = '$tables' AND relname = 'outbox_batches'";
my $clock = 'SELECT extract(epoch FROM clock_timestamp())';
my $began = $node->safe_psql('postgres', $clock);
my $before = $node->safe_psql('postgres', $read);
foreach my $i (1 .. 40)
{
	$outbox->enqueue('flows', "copies$i", 1);
	$outbox->rows_are('flows', 0, 'a message beside copies') if $i % 10 == 0;
}
query_true($node, "($read) >= $before + 40", 'what is read is counted');
# a look at everything may have come by every ten seconds; not one with each message
my $reads = $node->safe_psql('postgres', $read) - $before;
my $looks = ($node->safe_psql('postgres', $clock) - $began) / 10 + 3;
cmp_ok($reads, '<', $looks * $copies, 'copies are not read again and again');
is($sqs->counts('copies')->{visible}, 1, 'and not sent');

$node->safe_psql('postgres', "SELECT sqs_enqueue('lost', 'm:' || i) FROM generate_series(1, 5) i; SELECT sqs_enqueue('lost', 'm:6')");
$node->safe_psql('postgres', "DELETE FROM $tables.outbox_batches b USING $tables.queues q WHERE b.queue_id = q.queue_id AND q.name = 'lost'");

# the worker has seen these batches with their rows, and would still send them;
# its successor has not, and looks at all rows
kill 'TERM', $worker;
query_true($node, "(SELECT count(*) = 1 FROM sqs_stats_workers WHERE kind = 'database worker' AND pid <> $worker)", 'a new worker');
$worker = $outbox->worker;
$node->safe_psql('postgres', "SELECT sqs_enable_queue('lost')");
$outbox->stat_is('lost', "state, waiting, last_error LIKE 'messages of 2 transactions % sqs_adopt_queues(''send'')'", 'backing off|6|t', 'rows without a batch are found, and the view says what helps');
$outbox->stat_is('copies', "state, waiting, last_error LIKE 'messages of $copies transactions % sqs_adopt_queues(''send'')'", "backing off|$copies|t", 'copies are, too');
is($node->safe_psql('postgres', "SELECT count(*) FROM sqs_outbox_failures WHERE queue = 'nobody'"), '0', 'copies of an unknown queue do not fail');
like(log_text($node), qr/messages of 10 transactions wait in the outbox for queue 987654, which is not registered/, 'the log tells of them');
is(scalar($outbox->arrived('lost', 'm')), 0, 'nothing of it is sent');
$node->safe_psql('postgres', "SELECT sqs_adopt_queues('send')");
$outbox->stat_is('lost', 'state, waiting, error_since IS NULL', 'idle|0|t', 'what has lost its batches is sent');
$outbox->arrived_are('lost', 'm', 6, 'once');
$outbox->stat_is('copies', 'waiting, sent - 1', "0|$copies", 'and so are the copies');
query_is($node, "SELECT count(*), min(error_code) FROM sqs_outbox_failures WHERE queue = 'nobody'", '10|QueueNotRegistered', 'what nobody has registered fails then');

# rows that were restored into a database in use, with the numbers of others' batches
$node->safe_psql('postgres', "SELECT sqs_disable_queue(q) FROM unnest('{lost,copies,share}'::text[]) q; SELECT sqs_enqueue('lost', 'number:1')");
$node->safe_psql('postgres', <<EOQ);
INSERT INTO $tables.outbox_rows (batch_id, id, queue_id, queue, token, enqueued_at, enqueued_by_oid, enqueued_by, size, body)
  SELECT r.batch_id, r.id + row_number() OVER (), q.queue_id, q.name, gen_random_uuid(), now(), 10, 'postgres', 10, 'number:1'
  FROM $tables.outbox_rows r, $tables.queues q WHERE r.queue = 'lost' AND q.name IN ('copies', 'share');
SELECT sqs_adopt_queues('send');
SELECT sqs_enable_queue(q) FROM unnest('{copies,share}'::text[]) q;
EOQ
foreach my $queue ('copies', 'share', 'lost')
{
	$outbox->rows_are($queue, 0, "$queue: rows with the number of another's batch are sent");
	$outbox->arrived_are($queue, 'number', 1, "$queue: once");
	$node->safe_psql('postgres', "SELECT sqs_enable_queue('lost')");
}

# ---- a queue that is unregistered while rows are under way

$fault = $sqs->fault(kind => 'latency', ms => 2000, action => 'SendMessageBatch', queue => 'gone');
$outbox->enqueue('gone', 'm', 100);
$outbox->stat_is('gone', 'in_flight > 0', 't', 'rows are under way');
$node->safe_psql('postgres', "SELECT sqs_unregister_queue('gone')");
$outbox->rows_are('gone', 0, 'its rows are sent or fail');
my $sent = $outbox->arrived('gone', 'm');
$failed = $node->safe_psql('postgres', "SELECT count(*) FROM sqs_outbox_failures WHERE queue = 'gone'");
is($sent + $failed, 100, 'either, not both');
cmp_ok($sent, '>=', 10, 'what was under way was not thrown away');
$sqs->clear_faults($fault);

$node->stop;
check_log($node, qr/terminating background worker "sqsbridge database worker/, qr/canceling autovacuum task$/);
$sqs->stop_sqs;
done_testing();
