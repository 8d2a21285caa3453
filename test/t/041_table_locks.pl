# Maintenance and locks of administrators', and changes that make the tables of the
# extension unfit: what is under way meanwhile is done in the end, once, and no
# worker ends.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsFlow;
use SqsTest;

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};
my $sqs = start_sqs(queues => [ SqsFlow::queues() ]);
my $node = new_node('main');
my $tmp = PostgreSQL::Test::Utils::tempdir();

setup_database($node, $sqs);
my $flow = SqsFlow->new($sqs, $node);
my @tables = $flow->tables;

# ---- maintenance, all the time

{
	my $file = "$tmp/maintenance.sql";
	append_to_file($file, join('', map { my $t = $_; map { "$_ $t;\n" } ('VACUUM FULL', 'REINDEX TABLE', 'VACUUM (FREEZE)',
		'REINDEX TABLE CONCURRENTLY', 'ANALYZE') } @tables));
	append_to_file($file, join('', map { "CLUSTER $_ USING " . (/(\w+)$/)[0] . "_pkey;\n" } grep { !/failures$/ } @tables));
	my $maintenance = IPC::Run::start([ 'pgbench', '-n', '-c', '1', '-t', '1000000', '-f', $file, '-h', $node->host, '-p', $node->port, 'postgres' ],
		'<', \undef, '>', "$file.out", '2>', "$file.err");
	foreach my $i (1 .. ($long ? 100 : 10))
	{
		$flow->more(50);
		seconds_pass($node, 1, "maintenance, part $i");
	}
	$flow->all_is_done('maintenance', timeout => 120);
	ok($maintenance->pumpable, 'maintenance goes on to the end') or diag(slurp_file("$file.err"));
	$maintenance->kill_kill(grace => 10);
	$flow->workers_are_the_same('maintenance');
}

# ---- locks of an administrator's

my $locker = $node->background_psql('postgres', on_error_stop => 1, timeout => 3000);

foreach my $table (@tables)
{
	foreach my $mode ('SHARE', 'ACCESS EXCLUSIVE')
	{
		my $name = "$table is locked in $mode mode";
		# what is under way as it happens: a request whose reply takes its time
		my $requests = $sqs->calls('out', 'SendMessageBatch');
		$flow->more;
		poll_until(sub { $sqs->calls('out', 'SendMessageBatch') > $requests }, "$name: something is under way");
		$locker->query_safe("BEGIN; LOCK TABLE $table IN $mode MODE");
		# an insert into a table that is locked would wait, and so might a view
		$flow->receive_more(10);
		# so long do workers wait for a lock
		sleep(2);
		$locker->query_safe('COMMIT');
		$flow->all_is_done($name);
	}
}
$flow->workers_are_the_same('locks');

# ... while old rows are to be cleared away, which a new database worker does first
$node->safe_psql('postgres', "UPDATE sqsbridge_internal.failures SET failed_at = failed_at - interval '30 days'");
$locker->query_safe("BEGIN; LOCK TABLE sqsbridge_internal.failures, sqsbridge_internal.inbox IN SHARE MODE");
my $cleaner = $node->safe_psql('postgres', "SELECT pid FROM sqs_stats_workers WHERE kind = 'database worker'");
$node->safe_psql('postgres', "SELECT pg_terminate_backend($cleaner)");
query_true($node, "SELECT count(*) = 1 FROM sqs_stats_workers WHERE kind = 'database worker' AND pid <> $cleaner", 'a new database worker');
foreach my $i (1 .. 4)
{
	my $row = 'row ' . ++$flow->{rows}{out};
	my $sent = $sqs->stats('out')->{sent};
	$node->safe_psql('postgres', "SELECT sqs_enqueue('out', '$row')");
	poll_until(sub { $sqs->stats('out')->{sent} > $sent }, "$row is sent while others' tables are locked");
	seconds_pass($node, 2, 'for a while');
}
$locker->query_safe('COMMIT');
$flow->all_is_done('tables of the receiving side were locked for long');
$flow->{workers} = $flow->workers;

# ... and rows
$sqs->clear_faults($flow->{slow});
$sqs->fault(kind => 'latency', ms => 3000, action => 'SendMessageBatch', queue => 'out');
$flow->more(30);
query_is($node, "SELECT in_flight > 0 FROM sqs_stats_outbox WHERE queue = 'out'", 't', 'rows are under way');
$locker->query_safe('BEGIN; DELETE FROM sqsbridge_internal.outbox_rows');
$flow->more(30);
seconds_pass($node, 6, 'rows are deleted, or perhaps not');
poll_until(
	sub {
		my %sent = map { $_->{body} => 1 } @{ $sqs->messages('out') };
		return $sent{"row $flow->{rows}{out}"};
	},
	'other rows are sent meanwhile');
$locker->query_safe('ROLLBACK');
$flow->all_is_done('somebody wanted to delete all rows');
$locker->quit;
$flow->workers_are_the_same('locks');

# ---- where going on is not safe

$node->safe_psql('postgres', 'CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler');

foreach my $case (
	[ 'queues', 'DISABLE TRIGGER USER', 'ENABLE TRIGGER USER' ],
	[ 'outbox_rows', 'ALTER COLUMN token DROP NOT NULL', 'ALTER COLUMN token SET NOT NULL' ],
	[ 'inbox', 'SET ACCESS METHOD heap2', 'SET ACCESS METHOD heap' ])
{
	my ($table, $doing, $undoing) = @$case;
	$node->safe_psql('postgres', "ALTER TABLE sqsbridge_internal.$table $doing");
	my ($rc, undef, $stderr) = $node->psql('postgres', 'SELECT 1');
	is($rc, 0, "$table $doing: the server is there");
	$flow->more(5) if $table eq 'inbox';
	# in a view, or in the error of whoever asks
	poll_until(
		sub {
			my (undef, $out, $stderr) = $node->psql('postgres', <<'EOQ');
SELECT last_error FROM sqs_stats WHERE state = 'error' UNION ALL
SELECT last_error FROM sqs_stats_outbox WHERE state IN ('error', 'backing off') UNION ALL
SELECT last_error FROM sqs_stats_workers WHERE error_since IS NOT NULL
EOQ
			return "$out$stderr" =~ /cannot use table "sqsbridge_internal.$table"/;
		},
		"$table $doing: said to be the reason");
	$node->safe_psql('postgres', "ALTER TABLE sqsbridge_internal.$table $undoing");
	$flow->all_is_done("$table $undoing", timeout => 120);
}

# a column that was added would stay in the way after it was dropped
foreach my $statement ('inbox ADD COLUMN lore int', 'outbox_rows DROP COLUMN system_attributes', 'queues ALTER COLUMN name TYPE name')
{
	my ($rc, undef, $stderr) = $node->psql('postgres', "ALTER TABLE sqsbridge_internal.$statement");
	like($stderr, qr/cannot change the columns of/, "ALTER TABLE $statement is refused");
}
$flow->all_is_done('columns');

$node->stop;
check_log($node, qr/\] 041_table_locks\.pl (?:ERROR:|FATAL:  connection to client lost)/,
	# once, of the supervision, while the table of queues is locked
	qr/ERROR:  canceling statement due to lock timeout/, qr/canceling autovacuum task$/, qr/\] pgbench /, qr/this one is poison/,
	qr/sqsbridge cannot use table/);
unlike(log_text($node), qr/terminated by signal/, 'no process has crashed');
$sqs->stop_sqs;
done_testing();
