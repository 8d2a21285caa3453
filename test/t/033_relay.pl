# The relay of the outbox under what people, tables and the operating system
# do to it: nothing that SQS has confirmed is sent again because something else
# fails, nothing fails because something else does, and memory, descriptors and
# work stay bounded.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use SqsTest;

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};
my $many = $long ? 1000 : 300;
my $tables = 'sqsbridge_internal';
my @queues = qw(refusing flows held share copies gone back far near);
# nothing of these is read until they are enabled
my @later = qw(broken lost);

my $sqs = start_sqs(queues => [ @queues, @later, map { ("many$_", "full$_") } 1 .. $many ]);
my $node = new_node('main', conf => "sqsbridge.max_queues = 4096\n");
setup_database($node, $sqs);
$node->safe_psql('postgres', "SELECT sqs_register_queue(q, server => 'aws') FROM unnest('{" . join(',', @queues) . "}'::text[]) q;
	SELECT sqs_register_queue(q, server => 'aws', enabled => false) FROM unnest('{" . join(',', @later) . "}'::text[]) q");

sub enqueue
{
	my ($queue, $prefix, $n) = @_;
	return $node->safe_psql('postgres', "INSERT INTO sqs_outbox (queue, body)
		SELECT '$queue', '$prefix:' || i FROM generate_series(1, $n) i");
}

sub arrived
{
	my ($queue, $prefix) = @_;
	return grep { /^\Q$prefix\E:/ } map { $_->{body} } @{ $sqs->messages($queue) };
}

# All of them, each once.
sub arrived_are
{
	my ($queue, $prefix, $n, $name) = @_;
	my @got = sort { (split /:/, $a)[1] <=> (split /:/, $b)[1] } arrived($queue, $prefix);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join(',', @got), join(',', map { "$prefix:$_" } 1 .. $n), $name);
}

sub stat_is
{
	my ($queue, $columns, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return query_is($node, "SELECT $columns FROM sqs_stats_outbox WHERE queue = '$queue'", $expected, $name, timeout => 120);
}

sub rows_are
{
	my ($queue, $n, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return query_is($node, "SELECT count(*) FROM $tables.outbox_rows WHERE queue = '$queue'", $n, $name, timeout => 120);
}

# A session of a superuser's that holds a lock until it is ended.
sub session
{
	my (@statements) = @_;
	my $session = { in => join('', map { "$_;\n" } 'BEGIN', @statements, q{SELECT 'rea' || 'dy'}), out => '', err => '' };
	$session->{harness} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres') ],
		'<', \$session->{in}, '>', \$session->{out}, '2>', \$session->{err}, IPC::Run::timeout(2 * $PostgreSQL::Test::Utils::timeout_default));
	IPC::Run::pump($session->{harness}) until $session->{out} =~ /ready/ || $session->{err} =~ /ERROR|FATAL/;
	is($session->{err}, '', "@statements");
	return $session;
}

sub end_session
{
	my ($session) = @_;
	$session->{in} .= "ROLLBACK;\n\\q\n";
	IPC::Run::finish($session->{harness});
	return;
}

sub lines_like
{
	my ($pattern) = @_;
	return scalar(() = log_text($node) =~ /LOG:  sqsbridge [^\n]*$pattern/g);
}

sub worker
{
	return $node->safe_psql('postgres', "SELECT pid FROM sqs_stats_workers WHERE kind = 'database worker'");
}

# Bytes that the relay uses for queues and rows, which the log tells on request.
sub relay_memory
{
	my $worker = worker();
	my $offset = -s $node->logfile;
	my $until = time() + 60;
	my $used;

	$node->safe_psql('postgres', "SELECT pg_log_backend_memory_contexts($worker)");
	while (!defined $used)
	{
		die 'no answer of the database worker' if time() > $until;
		usleep(20_000);
		($used) = log_text($node, $offset) =~ /; sqsbridge relay: .* (\d+) used$/m;
	}
	return $used;
}

enqueue($_, 'first', 1) foreach @queues;
rows_are($_, 0, "$_: all is well") foreach @queues;
my $worker = worker();

# ---- a failure that cannot be recorded

my $fault = $sqs->fault(kind => 'entry_fail', action => 'SendMessageBatch', queue => 'refusing',
	code => 'InvalidMessageContents', message => 'no', sender_fault => JSON::PP::true(), every => 15);
my $lock = session("LOCK TABLE $tables.outbox_failures IN ACCESS EXCLUSIVE MODE");
enqueue('refusing', 'm', 30);
rows_are('refusing', 2, 'what is sent is deleted while a failure cannot be recorded');
stat_is('refusing', 'state, waiting, in_flight, last_error', "backing off|2|0|table $tables.outbox_failures is locked", 'and the view says what is wrong');
enqueue($_, 'n', 100) foreach ('refusing', 'flows');
rows_are('flows', 0, 'other queues go on');
query_true($node, "SELECT count(*) <= 10 FROM $tables.outbox_rows WHERE queue = 'refusing'", 'and so does this one');
my $calls = $sqs->calls('refusing', 'SendMessageBatch');
query_true($node, "(SELECT consecutive_errors > 8 FROM sqs_stats_outbox WHERE queue = 'refusing')", 'it is tried again and again');
is($sqs->calls('refusing', 'SendMessageBatch'), $calls, 'without anything being sent');
end_session($lock);
rows_are('refusing', 0, 'the failures are recorded when that is possible');
$sqs->clear_faults($fault);
my @bodies = map { $_->{body} } @{ $sqs->messages('refusing') };
my $failed = $node->safe_psql('postgres', "SELECT count(*) FROM sqs_outbox_failures WHERE queue = 'refusing'");
cmp_ok($failed, '>=', 2, 'some failed');
is(scalar(@bodies) + $failed, 131, 'each message is sent once or recorded once');
is(scalar(keys %{ { map { $_ => 1 } @bodies } }), scalar(@bodies), 'none twice');
stat_is('refusing', 'state, error_since IS NULL', 'idle|t', 'all is well again');
is(lines_like('cannot record failed messages of queue "refusing"'), 1, 'one line in the log');
is(lines_like('can record failed messages of queue "refusing" again'), 1, 'and one when it is over');

# ... and one that the table does not take, among others that it does
$node->safe_psql('postgres', "ALTER TABLE $tables.outbox_failures ADD CONSTRAINT no_seven CHECK (body <> 'c:7')");
$fault = $sqs->fault(kind => 'entry_fail', action => 'SendMessageBatch', queue => 'refusing',
	code => 'InvalidMessageContents', message => 'no', sender_fault => JSON::PP::true());
enqueue('refusing', 'c', 20);
rows_are('refusing', 1, 'a failure that cannot be recorded does not keep others from it');
stat_is('refusing', "state, last_error LIKE '%violates check constraint \"no_seven\"%'", 'backing off|t', 'and the view says why');
$node->safe_psql('postgres', "ALTER TABLE $tables.outbox_failures DROP CONSTRAINT no_seven");
rows_are('refusing', 0, 'it is recorded when it can be');
$sqs->clear_faults($fault);
stat_is('refusing', 'state, error_since IS NULL', 'idle|t', 'all is well again');

# ---- tables that are none of the relay's business

$lock = session("LOCK TABLE $tables.inbox, $tables.failures, $tables.outbox_failures");
enqueue('flows', 'inbox', 50);
rows_are('flows', 0, 'locks on the tables of what is received do not stop the outbox');
arrived_are('flows', 'inbox', 50, 'everything arrives once');
end_session($lock);

# ---- a row that somebody holds

$fault = $sqs->fault(kind => 'error', status => 503, code => 'ServiceUnavailable', action => 'SendMessageBatch', queue => 'held');
enqueue('held', 'm', 20);
$lock = session("SELECT id FROM $tables.outbox_rows WHERE body = 'm:7' FOR UPDATE");
$sqs->clear_faults($fault);
rows_are('held', 1, 'the others are deleted');
stat_is('held', 'state, last_error', "backing off|a row of table $tables.outbox_rows or outbox_batches is locked", 'and the view tells of the one');
enqueue('held', 'n', 20);
rows_are('held', 1, 'later ones are sent and deleted');
end_session($lock);
rows_are('held', 0, 'it is deleted when it can be');
arrived_are('held', $_, 20, "$_: each was sent once") foreach ('m', 'n');
stat_is('held', 'state, error_since IS NULL', 'idle|t', 'all is well again');

# a queue that is disabled and enabled while one of its rows is held
$node->safe_psql('postgres', "SELECT sqs_disable_queue('held')");
enqueue('held', 'p', 1);
$lock = session("SELECT id FROM $tables.outbox_rows WHERE body = 'p:1' FOR UPDATE");
$node->safe_psql('postgres', "SELECT sqs_enable_queue('held')");
poll_until(sub { arrived('held', 'p') == 1 }, 'a row that is held is sent');
$fault = $sqs->fault(kind => 'error', status => 503, code => 'ServiceUnavailable', action => 'SendMessageBatch', queue => 'held');
enqueue('held', 'q', 20);
stat_is('held', "state, waiting, consecutive_errors > 1", 'backing off|21|t', 'others cannot be sent for now');
$node->safe_psql('postgres', "SELECT sqs_disable_queue('held')");
stat_is('held', 'state, waiting', 'disabled|21', 'they are put down');
$sqs->clear_faults($fault);
$node->safe_psql('postgres', "SELECT sqs_enable_queue('held')");
rows_are('held', 1, 'they are taken up again, while the one is still held');
end_session($lock);
rows_are('held', 0, 'which is deleted when it can be');
arrived_are('held', 'p', 1, 'it was sent once');
arrived_are('held', 'q', 20, 'and so were they');

# an update while it is under way: the new version is the one to delete
$fault = $sqs->fault(kind => 'latency', ms => 3000, action => 'SendMessageBatch', queue => 'held');
enqueue('held', 'u', 5);
stat_is('held', 'in_flight', '5', 'rows are under way');
$node->safe_psql('postgres', "UPDATE $tables.outbox_rows SET size = size + 1 WHERE body LIKE 'u:%'");
rows_are('held', 0, 'rows that were changed meanwhile are deleted');
query_is($node, "SELECT count(*) FROM $tables.outbox_batches", '0', 'and so are their batches');
arrived_are('held', 'u', 5, 'each was sent once');
$sqs->clear_faults($fault);

# ---- CREATE INDEX, REINDEX and so on: rows are read and sent, not deleted

$fault = $sqs->fault(kind => 'latency', ms => 1500, action => 'SendMessageBatch', queue => 'share');
enqueue('share', 'm', 300);
$lock = session("LOCK TABLE $tables.outbox_rows IN SHARE MODE");
stat_is('share', 'state, sent, in_flight, waiting, last_error', "backing off|301|0|300|table $tables.outbox_rows is locked", 'what is sent waits for the table');
is(worker(), $worker, 'the worker lives on');
$sqs->clear_faults($fault);
end_session($lock);
rows_are('share', 0, 'and is deleted then');
arrived_are('share', 'm', 300, 'each was sent once');
$node->safe_psql('postgres', "REINDEX TABLE $tables.outbox_rows; VACUUM FULL $tables.outbox_rows");
enqueue('share', 'n', 10);
rows_are('share', 0, 'a rewritten table');

# ---- a queue whose row is gone for a moment, with requests under way

$lock = session("LOCK TABLE $tables.outbox_failures IN ACCESS EXCLUSIVE MODE");
$fault = $sqs->fault(kind => 'entry_fail', action => 'SendMessageBatch', queue => 'back',
	code => 'InvalidMessageContents', message => 'no', sender_fault => JSON::PP::true());
enqueue('back', 'refused', 1);
stat_is('back', 'failed', '1', 'a failure cannot be recorded yet');
$sqs->clear_faults($fault);
$fault = $sqs->fault(kind => 'latency', ms => 10000, action => 'SendMessageBatch', queue => 'back');
# more than fits in hand: the batch is not read to its end
enqueue('back', 'm', 3000);
stat_is('back', 'in_flight > 0', 't', 'messages are under way');
my $back = $node->safe_psql('postgres', "SELECT queue_id FROM sqs_queues WHERE name = 'back'");
$node->safe_psql('postgres', "CREATE TABLE saved AS SELECT * FROM $tables.queues WHERE queue_id = $back;
	DELETE FROM $tables.queues WHERE queue_id = $back;
	SELECT sqs_disable_queue('flows')");
query_is($node, "SELECT count(*) FROM sqs_get_queue_stats() WHERE queue_id = $back", '0', 'the queue is gone');
$node->safe_psql('postgres', "INSERT INTO $tables.queues SELECT * FROM saved; DROP TABLE saved");
end_session($lock);
query_is($node, "SELECT count(*) FROM sqs_get_queue_stats() WHERE queue_id = $back", '1', 'and is there again');
query_is($node, "SELECT error_code, body FROM sqs_outbox_failures WHERE queue = 'back'", 'InvalidMessageContents|refused:1',
	'what SQS has refused is recorded');
$sqs->clear_faults($fault);
rows_are('back', 0, 'the rest is sent');
my %back;
$back{$_}++ foreach arrived('back', 'm');
is(scalar(keys %back) . ', ' . (grep { $_ > 1 } values %back), '3000, 0', 'each message once');
is(worker(), $worker, 'by the same worker');
$node->safe_psql('postgres', "SELECT sqs_enable_queue('flows')");

# ---- a row that cannot be read

SKIP:
{
	skip 'no pg_surgery', 8 if $node->psql('postgres', 'CREATE EXTENSION pg_surgery') != 0;
	enqueue('broken', 'before', 3);
	$node->safe_psql('postgres', q{SELECT sqs_enqueue('broken', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i))});
	my $toast = $node->safe_psql('postgres', "SELECT reltoastrelid::regclass FROM pg_class WHERE oid = '$tables.outbox_rows'::regclass");
	$node->safe_psql('postgres', "SELECT heap_force_kill('$toast'::regclass, ARRAY(SELECT ctid FROM $toast WHERE chunk_seq = 1))");
	$node->safe_psql('postgres', "SELECT sqs_enable_queue('broken')");
	stat_is('broken', "waiting, state, last_error LIKE '%missing chunk%' OR last_error LIKE '%unexpected chunk%'", '1|backing off|t', 'a corrupt row waits, and the view says why');
	arrived_are('broken', 'before', 3, 'those before it are sent');
	enqueue('flows', 'corrupt', 100);
	rows_are('flows', 0, 'other queues go on');
	query_true($node, "(SELECT consecutive_errors > 2 FROM sqs_stats_outbox WHERE queue = 'broken')", 'it is tried again');
	cmp_ok(lines_like('cannot read the outbox of queue "broken"'), '<=', 1, 'with one line in the log');
	is(worker(), $worker, 'the worker is still the same');
	$node->safe_psql('postgres', "DELETE FROM $tables.outbox_rows WHERE queue = 'broken'");
	stat_is('broken', 'waiting, state, error_since IS NULL', '0|idle|t', 'all is well when it is gone');
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
my $before = $node->safe_psql('postgres', $read);
foreach my $i (1 .. 40)
{
	enqueue('flows', "copies$i", 1);
	rows_are('flows', 0, 'a message beside copies') if $i % 10 == 0;
}
query_true($node, "($read) >= $before + 40", 'what is read is counted');
# a look at everything or two may have come by; not one with each message
cmp_ok($node->safe_psql('postgres', $read) - $before, '<', 5 * $copies, 'copies are not read again and again');
is($sqs->counts('copies')->{visible}, 1, 'and not sent');

$node->safe_psql('postgres', "SELECT sqs_enqueue('lost', 'm:' || i) FROM generate_series(1, 5) i; SELECT sqs_enqueue('lost', 'm:6')");
$node->safe_psql('postgres', "DELETE FROM $tables.outbox_batches b USING $tables.queues q WHERE b.queue_id = q.queue_id AND q.name = 'lost'");

# the worker has seen these batches with their rows, and would still send them;
# its successor has not, and looks at all rows
kill 'TERM', $worker;
query_true($node, "(SELECT count(*) = 1 FROM sqs_stats_workers WHERE kind = 'database worker' AND pid <> $worker)", 'a new worker');
$worker = worker();
$node->safe_psql('postgres', "SELECT sqs_enable_queue('lost')");
stat_is('lost', "state, waiting, last_error LIKE 'messages of 2 transactions % sqs_adopt_queues(''send'')'", 'backing off|6|t', 'rows without a batch are found, and the view says what helps');
stat_is('copies', "state, waiting, last_error LIKE 'messages of $copies transactions % sqs_adopt_queues(''send'')'", "backing off|$copies|t", 'copies are, too');
is($node->safe_psql('postgres', "SELECT count(*) FROM sqs_outbox_failures WHERE queue = 'nobody'"), '0', 'copies of an unknown queue do not fail');
like(log_text($node), qr/messages of 10 transactions wait in the outbox for queue 987654, which is not registered/, 'the log tells of them');
is(scalar(arrived('lost', 'm')), 0, 'nothing of it is sent');
$node->safe_psql('postgres', "SELECT sqs_adopt_queues('send')");
stat_is('lost', 'state, waiting, error_since IS NULL', 'idle|0|t', 'what has lost its batches is sent');
arrived_are('lost', 'm', 6, 'once');
stat_is('copies', 'waiting, sent - 1', "0|$copies", 'and so are the copies');
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
	rows_are($queue, 0, "$queue: rows with the number of another's batch are sent");
	arrived_are($queue, 'number', 1, "$queue: once");
	$node->safe_psql('postgres', "SELECT sqs_enable_queue('lost')");
}

# ---- a queue that is unregistered while rows are under way

$fault = $sqs->fault(kind => 'latency', ms => 2000, action => 'SendMessageBatch', queue => 'gone');
enqueue('gone', 'm', 100);
stat_is('gone', 'in_flight > 0', 't', 'rows are under way');
$node->safe_psql('postgres', "SELECT sqs_unregister_queue('gone')");
rows_are('gone', 0, 'its rows are sent or fail');
my $sent = arrived('gone', 'm');
$failed = $node->safe_psql('postgres', "SELECT count(*) FROM sqs_outbox_failures WHERE queue = 'gone'");
is($sent + $failed, 100, 'either, not both');
cmp_ok($sent, '>=', 10, 'what was under way was not thrown away');
$sqs->clear_faults($fault);

# ---- requests: as many as the round trip takes, shared, and bounded by memory

sub in_flight
{
	my ($queue) = @_;
	return $node->safe_psql('postgres', "SELECT in_flight FROM sqs_stats_outbox WHERE queue = '$queue'");
}

$fault = $sqs->fault(kind => 'latency', ms => 1000, action => 'SendMessageBatch', queue => $_) foreach qw(far near);
enqueue('far', 'f', 40_000);
poll_until(sub { in_flight('far') > 1000 }, 'a queue alone: more than 100 requests, while each takes a second', 120);
enqueue('near', 'n', 20_000);
poll_until(sub { my $near = in_flight('near'); $near > 0 && 2 * $near >= in_flight('far') }, 'another queue gets its share', 120);
$sqs->clear_faults;
rows_are($_, 0, "$_: all are sent") foreach qw(far near);
arrived_are('far', 'f', 40_000, 'each once');
arrived_are('near', 'n', 20_000, 'each once');

$node->append_conf('postgresql.conf', "sqsbridge.max_outbox_memory = 1MB\n");
$node->reload;
$fault = $sqs->fault(kind => 'latency', ms => 100, action => 'SendMessageBatch', queue => 'far');
my $sent_before = $sqs->stats('far')->{sent};
my $widest = 0;
enqueue('far', 'g', 1000);
poll_until(sub {
	my $now = in_flight('far');
	$widest = $now if $now > $widest;
	return $sqs->stats('far')->{sent} == $sent_before + 1000;
}, 'with little memory: all are sent', 120);
cmp_ok($widest, '<=', 80, 'with little memory: few requests');
$sqs->clear_faults($fault);

# ---- memory: one limit for all

$node->append_conf('postgresql.conf', "sqsbridge.max_outbox_memory = 4MB\n");
$node->reload;
my $base = private_memory($worker);
$node->safe_psql('postgres', <<EOQ);
SELECT sqs_register_queue('full' || i, server => 'aws', enabled => i > 15) FROM generate_series(1, 30) i;
EOQ
$fault = $sqs->fault(kind => 'error', status => 503, code => 'ServiceUnavailable', action => 'SendMessageBatch', queue => "full$_") foreach 16 .. 30;
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE big AS SELECT string_agg(md5(i::text), '') AS body FROM generate_series(1, 6000) i;
INSERT INTO sqs_outbox (queue, body) SELECT 'full' || i, body FROM big, generate_series(1, 30) i, generate_series(1, 10) j;
EOQ
stat_is("full30", "state, waiting, last_error LIKE '%ServiceUnavailable%'", 'backing off|10|t', 'some queues fail, some are disabled');
my $most = 0;
foreach my $i (1 .. 20)
{
	enqueue('flows', "full$i", 10);
	rows_are('flows', 0, 'and none is in the way of another') if $i % 10 == 0;
	my $now = private_memory($worker);
	$most = $now if $now > $most;
}
cmp_ok($most - $base, '<', 24 * 1024, 'memory is bounded for all together') or diag("$base, $most");
$sqs->clear_faults;
rows_are("full$_", 0, "full$_ is sent when it can be") foreach (16, 30);
$node->safe_psql('postgres', "SELECT sqs_enable_queue('full' || i) FROM generate_series(1, 15) i");
query_is($node, "SELECT count(*) FROM $tables.outbox_rows", '0', 'and the others', timeout => 180);
is($node->safe_psql('postgres', "SELECT count(*) FROM sqs_stats_outbox WHERE queue LIKE 'full%' AND sent <> 10"), '0', 'each row once');

# ---- many queues, an outage, and few descriptors

SKIP:
{
	skip 'no prlimit', 13 if system('prlimit --version >/dev/null 2>&1') != 0;
	# memory does not limit the requests to fewer, nor has the worker idle
	# connections, which would do for all of them
	$node->append_conf('postgresql.conf', "sqsbridge.max_outbox_memory = 64MB\n");
	$node->restart;
	query_true($node, "(SELECT count(*) = 1 FROM sqs_stats_workers WHERE kind = 'database worker')", 'a worker without connections');
	$worker = worker();
	my $memory = relay_memory();
	my $limit = open_files($worker) + 60;
	is(system("prlimit --pid $worker --nofile=$limit:$limit"), 0, 'descriptors are scarce');
	my $blackhole = $sqs->fault(kind => 'blackhole', action => 'SendMessageBatch');
	$node->safe_psql('postgres', "SELECT sqs_register_queue('many' || i, server => 'aws') FROM generate_series(1, $many) i");
	$node->safe_psql('postgres', "INSERT INTO sqs_outbox (queue, body) SELECT 'many' || i, 'm:' || j FROM generate_series(1, $many) i, generate_series(1, 3) j");
	poll_until(sub { (fired($blackhole) || 0) >= 40 }, 'requests that are not answered', 120);
	query_true($node, "(SELECT count(*) > 0 FROM sqs_stats_outbox WHERE queue LIKE 'many%' AND last_error LIKE '%file descriptor%')",
		'the view says that this process has no descriptor left', timeout => 120);
	# it may have opened some between our count and the limit
	cmp_ok(open_files($worker), '<=', $limit + 20, 'no more descriptors than there may be');
	cmp_ok(lines_like('cannot open connections for the outbox'), '==', 1, 'one line in the log');
	query_true($node, "(SELECT count(*) >= 30 FROM sqs_stats_outbox WHERE queue LIKE 'many%' AND consecutive_errors > 1)",
		'queues fail again and again', timeout => 180);
	my %lines;
	$lines{$_}++ foreach log_text($node) =~ /cannot send from the outbox to queue "(many\d+)"/g;
	is(join(' ', grep { $lines{$_} > 1 } sort keys %lines), '', 'no queue has more than one line');
	$sqs->clear_faults($blackhole);
	query_is($node, "SELECT count(*) FROM $tables.outbox_rows", '0', 'everything is sent when it is over', timeout => 300);
	is(worker(), $worker, 'by the same process');
	my $n = 0;
	foreach my $i (1 .. $many)
	{
		$n++ if @{ $sqs->messages("many$i") } == 3;
	}
	is($n, $many, 'each message once');

	# queues that are gone leave nothing behind
	cmp_ok(relay_memory() - $memory, '>', $many * 256, 'the relay has something in memory of each queue');
	$node->safe_psql('postgres', "SELECT sqs_unregister_queue('many' || i) FROM generate_series(1, $many) i");
	poll_until(sub { relay_memory() - $memory < $many * 128 }, 'but not of those that are gone');
}

$node->stop;
check_log($node, qr/terminating background worker "sqsbridge database worker/, qr/canceling autovacuum task$/);
$sqs->stop_sqs;
done_testing();

sub fired
{
	my ($id) = @_;
	return (map { $_->{fired} } grep { $_->{id} == $id } @{ $sqs->faults })[0];
}
