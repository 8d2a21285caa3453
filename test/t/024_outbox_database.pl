# The outbox and what happens in its database: tables that are locked, a
# snapshot that is held for long, encodings other than UTF-8.
use strict;
use warnings;

use Encode ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};
our $sqs = start_sqs(queues => [ 'locked', 'locked.fifo', 'steady', 'slow', 'latin', 'latin.fifo', 'ascii' ]);
my $node = new_node('main');

setup_database($node, $sqs);
$node->safe_psql('postgres', "SELECT sqs_register_queue(q, server => 'aws')
	FROM unnest(ARRAY['locked', 'locked.fifo', 'steady', 'slow']) q");

sub stat_is
{
	my ($queue, $columns, $expected, $name, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return query_is($node, "SELECT $columns FROM sqs_stats_outbox WHERE queue = '$queue'",
		$expected, $name, timeout => 180, %o);
}

sub bodies
{
	my ($queue) = @_;
	return map { $_->{body} } @{ $sqs->messages($queue) };
}

my $worker = $node->safe_psql('postgres',
	"SELECT pid, started_at FROM sqs_stats_workers WHERE kind = 'database worker'");

# ---- somebody locks the tables ----

my $locker = $node->background_psql('postgres', on_error_stop => 1);

foreach my $table ('sqsbridge_internal.outbox_rows', 'sqsbridge_internal.outbox_batches')
{
	# rows that are under way as it happens, and rows that come then
	my $fault = $sqs->fault(kind => 'latency', ms => 200, action => 'SendMessageBatch');
	$node->safe_psql('postgres', <<EOQ);
INSERT INTO sqs_outbox (queue, body) SELECT 'locked', '$table ' || i FROM generate_series(1, 2000) i;
INSERT INTO sqs_outbox (queue, body, group_id) SELECT 'locked.fifo', '$table ' || i, '$table' FROM generate_series(1, 20) i;
EOQ
	stat_is('locked', 'in_flight > 0', 't', "$table: requests are under way");
	$locker->query_safe("BEGIN; LOCK TABLE $table");
	# the view would wait for the lock
	query_is($node, 'SELECT sum(outbox_in_flight) FROM sqs_get_queue_stats()', '0',
		"$table: is locked, and SQS's answers are taken nevertheless");
	$locker->query_safe('COMMIT');
	$sqs->clear_faults($fault);
	stat_is($_, 'waiting, failed', '0|0', "$table: $_: is sent when it is free again") foreach ('locked', 'locked.fifo');
	my @seen = grep { /^$table / } bodies('locked');
	my %seen = map { $_ => 1 } @seen;
	is(scalar(keys %seen), 2000, "$table: nothing is lost");
	is(scalar(@seen), 2000, "$table: nothing is sent twice");
	is(join(',', grep { /^$table / } bodies('locked.fifo')), join(',', map { "$table $_" } 1 .. 20),
		"$table: nothing is lost or out of order in a group");
	# the record of a batch goes when the batch has been read to its end, for
	# which the relay backs off from a lock by itself; well before it looks at
	# everything, which it does once a minute
	query_is($node, 'SELECT (SELECT count(*) FROM sqsbridge_internal.outbox_rows), (SELECT count(*) FROM sqsbridge_internal.outbox_batches)',
		'0|0', "$table: nothing is left");
}
unlike(log_text($node), qr/lock timeout/, 'the relay waits for no lock');
is( $node->safe_psql('postgres', "SELECT pid, started_at FROM sqs_stats_workers WHERE kind = 'database worker'"),
	$worker, 'the database worker is still the same');

# ---- a snapshot that is held ----

my $rows = $long ? 500_000 : 30_000;
my $parts = 5;
my $per = 10;
my $script = PostgreSQL::Test::Utils::tempdir() . '/steady.sql';
my @cost;

# What dead rows would cost: the pages of tables and indexes that all together
# have looked at, once the relay has deleted so many rows more.
my $deletes = q{(SELECT n_tup_del FROM pg_stat_all_tables WHERE relid = 'sqsbridge_internal.outbox_rows'::regclass)};
my $deleted = $node->safe_psql('postgres', "SELECT $deletes");

sub pages_read
{
	my ($more, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	query_true($node, "$deletes >= $deleted + $more", $name, timeout => 300);
	return $node->safe_psql('postgres', <<'EOQ');
SELECT sum(heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit) FROM pg_statio_all_tables
WHERE relid IN ('sqsbridge_internal.outbox_rows'::regclass, 'sqsbridge_internal.outbox_batches'::regclass)
EOQ
}

append_to_file($script, join('', map { "SELECT sqs_enqueue('steady', 'x$_');\n" } 1 .. $per));
$locker->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM sqsbridge_internal.outbox_rows');
my $xmin = $node->safe_psql('postgres', "SELECT backend_xmin FROM pg_stat_activity
	WHERE state = 'idle in transaction'");
my $read = pages_read(0, 'before');
foreach my $part (1 .. $parts)
{
	# each SELECT is a transaction
	$node->command_ok([ 'pgbench', '-n', '-c', '4', '-t', $rows / $parts / $per / 4, '-f', $script, 'postgres' ],
		"part $part");
	my $now = pages_read($part * $rows / $parts, "part $part is sent");
	push @cost, $now - $read;
	$read = $now;
}
note("pages: @cost");
is( $node->safe_psql('postgres', "SELECT backend_xmin FROM pg_stat_activity WHERE state = 'idle in transaction'"),
	$xmin, 'the snapshot was there all the time');
stat_is('steady', 'waiting, sent', "0|$rows", 'everything is sent');
is($sqs->stats('steady')->{sent}, $rows, 'once');
cmp_ok($cost[-1], '<', 2 * $cost[0], 'dead rows that cannot be removed do not slow it down');
# ... nor a session that has just begun, and looks for the greatest id there is
my $reads = $node->safe_psql('postgres', <<'EOQ');
BEGIN;
SELECT 1 FROM sqs_enqueue('steady', 'from a new session');
SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid)) FROM pg_index
WHERE indrelid IN ('sqsbridge_internal.outbox_rows'::regclass, 'sqsbridge_internal.outbox_batches'::regclass);
ROLLBACK;
EOQ
cmp_ok((split /\n/, $reads)[-1], '<', 100, 'nor a new session');

# ... which is not the relay's
my $xmin_of = "SELECT backend_xmin IS NULL, backend_xid IS NULL, xact_start IS NULL FROM pg_stat_activity
	WHERE pid = (SELECT pid FROM sqs_stats_workers WHERE kind = 'database worker')";
query_is($node, $xmin_of, 't|t|t', 'the relay has no snapshot while it is idle');
my $fault = $sqs->fault(kind => 'latency', ms => 5000, action => 'SendMessageBatch', queue => 'slow', count => 1);
my $calls = $sqs->calls('slow', 'SendMessageBatch');
$node->safe_psql('postgres', "SELECT sqs_enqueue('slow', 'x')");
poll_until(sub { $sqs->calls('slow', 'SendMessageBatch') > $calls }, 'a request is under way');
query_is($node, "SELECT in_flight, w.xact_start IS NULL AND w.backend_xmin IS NULL FROM sqs_stats_outbox,
	(SELECT a.* FROM pg_stat_activity a JOIN sqs_stats_workers USING (pid) WHERE kind = 'database worker') w
	WHERE queue = 'slow'", '1|t', 'nor while a request is under way');
stat_is('slow', 'waiting', 0, 'it is sent');
$locker->query_safe('COMMIT');
$locker->quit;

# ---- other encodings ----

my $text = "na\x{ef}ve \x{e4}\x{f6}\x{fc}\x{df} \x{a3}\t\"\\";
my $name = "\x{e9}";

$node->safe_psql('postgres', "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
$node->safe_psql('postgres', "CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'");
foreach my $db ('latin', 'ascii')
{
	setup_database($node, $sqs, dbname => $db);
	$node->safe_psql($db, "SELECT sqs_register_queue('$db', server => 'aws')");
}
$node->safe_psql('latin', "SELECT sqs_register_queue('latin.fifo', server => 'aws')");
my $sql = Encode::encode_utf8("INSERT INTO sqs_outbox (queue, body, attributes, group_id) VALUES ");
my $body = Encode::encode_utf8("E'na\x{ef}ve \x{e4}\x{f6}\x{fc}\x{df} \x{a3}\\t\"\\\\'");
my $attributes = Encode::encode_utf8("'{\"a\": \"\x{e9}\"}'");
$node->safe_psql('latin', "SET client_encoding = 'UTF8'; $sql ('latin', $body, $attributes, NULL);
	$sql ('latin', 'plain', NULL, NULL); $sql ('latin.fifo', $body, $attributes, 'g')");
$node->safe_psql('ascii', "$sql ('ascii', $body, $attributes, NULL)");

foreach my $queue ('latin', 'latin.fifo', 'ascii')
{
	my ($db) = $queue =~ /^(\w+)/;
	stat_is($queue, 'waiting, failed', '0|0', "$queue: is sent", dbname => $db);
	my ($got) = $sqs->call('ReceiveMessage',
		{ QueueUrl => $sqs->url($queue), MessageAttributeNames => ['All'], MaxNumberOfMessages => 10 })->{Messages};
	my ($m) = grep { $_->{Body} ne 'plain' } @{ $got || [] };
	is($m->{Body}, $text, "$queue: the body arrives in UTF-8");
	is($m->{MessageAttributes}{a}{StringValue}, $name, "$queue: and so do attributes");
}
my ($result, undef, $stderr) = $node->psql('ascii', "INSERT INTO sqs_outbox (queue, body) VALUES ('ascii', E'\\xe9')");
like($stderr, qr/ERROR:  cannot send to queue "ascii"/, 'what is not UTF-8 is refused as it is inserted');

$node->stop;
check_log($node, qr/ERROR:  canceling autovacuum task$/, qr/ERROR:  cannot send to queue "ascii"/);
$sqs->stop_sqs;
done_testing();
