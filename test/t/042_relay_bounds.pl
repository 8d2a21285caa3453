# How much the relay of the outbox takes: requests, as many as the round trip
# takes, shared by queues; memory and descriptors, bounded, whatever number of
# queues cannot send.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use SqsOutbox;
use SqsTest;

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};
my $many = $long ? 1000 : 300;
my $tables = $SqsOutbox::tables;
my @queues = qw(flows far near);

my $sqs = start_sqs(queues => [ @queues, map { ("many$_", "full$_") } 1 .. $many ]);
my $node = new_node('main', conf => "sqsbridge.max_queues = 4096\n");
my $outbox = SqsOutbox->new($sqs, $node);

setup_database($node, $sqs);
$node->safe_psql('postgres', "SELECT sqs_register_queue(q, server => 'aws') FROM unnest('{" . join(',', @queues) . "}'::text[]) q");

# Bytes that the relay uses for queues and rows, which the log tells on request.
sub relay_memory
{
	my $worker = $outbox->worker;
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

sub fired
{
	my ($id) = @_;
	return (map { $_->{fired} } grep { $_->{id} == $id } @{ $sqs->faults })[0];
}

$outbox->enqueue($_, 'first', 1) foreach @queues;
$outbox->rows_are($_, 0, "$_: all is well") foreach @queues;
my $worker = $outbox->worker;

# ---- where the server is what limits the rate, further connections are of no use

# Of nearly 300 connections that there may be.  How long requests take also
# depends on what else the machine does, and that may change meanwhile.
my $connections;
foreach my $try (1 .. 4)
{
	my $busy = start_sqs(queues => ['q']);
	$node->safe_psql('postgres', sprintf <<'EOQ', $try, $busy->endpoint);
CREATE SERVER busy%1$d FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '%2$s');
CREATE USER MAPPING FOR PUBLIC SERVER busy%1$d OPTIONS (access_key_id 'AKID', secret_access_key 'SECRET');
SELECT sqs_register_queue('busy%1$d', server => 'busy%1$d', queue_name => 'q');
EOQ
	$outbox->enqueue("busy$try", 'b', 50_000);
	$outbox->rows_are("busy$try", 0, 'a server that answers at once: all are sent');
	is($busy->stats('q')->{sent}, 50_000, 'each once');
	# among them are a few of this test's own
	$connections = $busy->admin('GET', 'stats')->{connections}{total};
	note("$connections connections");
	$busy->stop_sqs;
	last if $connections <= 150;
}
cmp_ok($connections, '<=', 150, 'by fewer than half of all connections');

# ---- requests: as many as the round trip takes, shared, and bounded by memory

sub in_flight
{
	my ($queue) = @_;
	return $node->safe_psql('postgres', "SELECT in_flight FROM sqs_stats_outbox WHERE queue = '$queue'");
}

$sqs->fault(kind => 'latency', ms => 1000, action => 'SendMessageBatch', queue => $_) foreach qw(far near);
$outbox->enqueue('far', 'f', 40_000);
poll_until(sub { in_flight('far') > 1000 }, 'a queue alone: more than 100 requests, while each takes a second', 120);
$outbox->enqueue('near', 'n', 20_000);
poll_until(sub { my $near = in_flight('near'); $near > 0 && 2 * $near >= in_flight('far') }, 'another queue gets its share', 120);
$sqs->clear_faults;
$outbox->rows_are($_, 0, "$_: all are sent") foreach qw(far near);
$outbox->arrived_are('far', 'f', 40_000, 'each once');
$outbox->arrived_are('near', 'n', 20_000, 'each once');

# ---- idle connections to one server are closed for another

my $fault = $sqs->fault(kind => 'latency', ms => 1000, action => 'SendMessageBatch', queue => 'far');
$outbox->enqueue('far', 'h', 10_000);
poll_until(sub { in_flight('far') > 2500 }, 'nearly all connections lead to one server', 120);
$sqs->clear_faults($fault);
$outbox->rows_are('far', 0, 'and are idle');
my $elsewhere = start_sqs(queues => ['q']);
$elsewhere->fault(kind => 'latency', ms => 1000, action => 'SendMessageBatch');
$node->safe_psql('postgres', sprintf <<'EOQ', $elsewhere->endpoint);
CREATE SERVER elsewhere FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '%s');
CREATE USER MAPPING FOR PUBLIC SERVER elsewhere OPTIONS (access_key_id 'AKID', secret_access_key 'SECRET');
SELECT sqs_register_queue('elsewhere', server => 'elsewhere', queue_name => 'q');
EOQ
$outbox->enqueue('elsewhere', 'e', 10_000);
poll_until(sub { in_flight('elsewhere') > 2500 || $outbox->lines_like('cannot open connections for the outbox') > 0 },
	'nearly all lead to another', 120);
is($outbox->lines_like('cannot open connections for the outbox'), 0, 'none was refused');
$elsewhere->clear_faults;
$outbox->rows_are('elsewhere', 0, 'all are sent');
is($elsewhere->stats('q')->{sent}, 10_000, 'each once');
$elsewhere->stop_sqs;

$node->append_conf('postgresql.conf', "sqsbridge.max_outbox_memory = 1MB\n");
$node->reload;
$fault = $sqs->fault(kind => 'latency', ms => 100, action => 'SendMessageBatch', queue => 'far');
my $sent_before = $sqs->stats('far')->{sent};
my $widest = 0;
$outbox->enqueue('far', 'g', 1000);
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
$sqs->fault(kind => 'error', status => 503, code => 'ServiceUnavailable', action => 'SendMessageBatch', queue => "full$_") foreach 16 .. 30;
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE big AS SELECT string_agg(md5(i::text), '') AS body FROM generate_series(1, 6000) i;
INSERT INTO sqs_outbox (queue, body) SELECT 'full' || i, body FROM big, generate_series(1, 30) i, generate_series(1, 10) j;
EOQ
$outbox->stat_is("full30", "state, waiting, last_error LIKE '%ServiceUnavailable%'", 'backing off|10|t', 'some queues fail, some are disabled');
my $most = 0;
foreach my $i (1 .. 20)
{
	$outbox->enqueue('flows', "full$i", 10);
	$outbox->rows_are('flows', 0, 'and none is in the way of another') if $i % 10 == 0;
	my $now = private_memory($worker);
	$most = $now if $now > $most;
}
cmp_ok($most - $base, '<', 24 * 1024, 'memory is bounded for all together') or diag("$base, $most");
$sqs->clear_faults;
$outbox->rows_are("full$_", 0, "full$_ is sent when it can be") foreach (16, 30);
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
	$worker = $outbox->worker;
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
	cmp_ok($outbox->lines_like('cannot open connections for the outbox'), '==', 1, 'one line in the log');
	query_true($node, "(SELECT count(*) >= 30 FROM sqs_stats_outbox WHERE queue LIKE 'many%' AND consecutive_errors > 1)",
		'queues fail again and again', timeout => 180);
	my %lines;
	$lines{$_}++ foreach log_text($node) =~ /cannot send from the outbox to queue "(many\d+)"/g;
	is(join(' ', grep { $lines{$_} > 1 } sort keys %lines), '', 'no queue has more than one line');
	$sqs->clear_faults($blackhole);
	query_is($node, "SELECT count(*) FROM $tables.outbox_rows", '0', 'everything is sent when it is over', timeout => 300);
	is($outbox->worker, $worker, 'by the same process');
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
