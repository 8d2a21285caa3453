# Every queue gets its first handler before any gets its second, whoever came
# first; queues that do not run take no room from those that do; and what one
# role may take can be limited.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my @small = map { "small$_" } 1 .. 3;
my @roles = map { "role$_" } 1 .. 3;
my $sqs = start_sqs(queues => [ 'greedy', 'ticker', 'other', @small, @roles ]);

# 9 processes: a database worker, five queue workers at most, three handlers
my $node = new_node('main', conf => <<'EOC');
sqsbridge.max_workers = 9
sqsbridge.max_queues = 5
sqsbridge.handler_idle_timeout = 1s
EOC
my $functions = <<'EOQ';
CREATE TABLE got (queue text, body text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS $$ INSERT INTO got VALUES (m.queue, m.body) $$;
CREATE FUNCTION nap(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(0.5); INSERT INTO got VALUES (m.queue, m.body); END $$;
EOQ

sub handled
{
	my ($queue, $count, $name, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	query_is($node, "SELECT count(*) >= $count FROM got WHERE queue = '$queue'", 't', $name, timeout => 120, %o);
	return;
}

sub state_is
{
	my ($queue, $columns, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	query_is($node, "SELECT $columns FROM sqs_stats WHERE queue = '$queue'", $expected, $name, timeout => 120);
	return;
}

setup_database($node, $sqs);
$node->safe_psql('postgres', $functions);

# ---- the one that is first takes all there is, until others come

my $messages = 20_000;
$sqs->fill('greedy', $messages);
$node->safe_psql('postgres', q{SELECT sqs_register_queue('greedy', server => 'aws', handler => 'nap', concurrency => 64, wait_time => '1 s')});
query_is($node, q{SELECT count(*) FROM sqs_stats_workers}, '10', 'a queue with much to do takes all slots');
foreach my $queue (@small)
{
	$sqs->send_messages($queue, map { "m$_" } 1 .. 3);
	$node->safe_psql('postgres', "SELECT sqs_register_queue('$queue', server => 'aws', handler => 'handle', concurrency => 4, wait_time => '1 s')");
}
handled($_, 3, "$_ comes later, and is worked on") foreach @small;
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM got WHERE queue = 'greedy'}), '<', $messages - 100,
	'while the first has much to do');

$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('postgres', join(';', map { "SELECT sqs_disable_queue('$_')" } @small[ 1, 2 ]));
setup_database($node, $sqs, dbname => 'other');
$node->safe_psql('other', "$functions SELECT sqs_register_queue('other', server => 'aws', handler => 'handle', wait_time => '1 s')");
$sqs->send_messages('other', 'm1');
handled('other', 1, 'so is one of another database', dbname => 'other');
my $failures = $node->safe_psql('postgres', 'SELECT count(*) FROM sqs_failures');
is($failures, '0', 'nobody was canceled for it');
$node->safe_psql('postgres', q{SELECT sqs_unregister_queue('greedy')});
$node->safe_psql('postgres', join(';', map { "SELECT sqs_unregister_queue('$_')" } @small));
$node->safe_psql('other', q{SELECT sqs_unregister_queue('other')});
query_is($node, q{SELECT count(*) FROM sqs_stats_workers}, '1', 'all leave');

# ---- max_queues is for those that run

$node->append_conf('postgresql.conf', "sqsbridge.max_queues = 2\nsqsbridge.max_workers = 30\nmax_worker_processes = 40");
$node->restart;
$node->safe_psql('postgres', <<'EOQ');
SELECT sqs_register_queue('off' || i, server => 'aws', handler => 'handle', enabled => false) FROM generate_series(1, 5) i;
SELECT sqs_register_queue('out' || i, server => 'aws', queue_name => 'ticker') FROM generate_series(1, 5) i;
SELECT sqs_send('out' || i, 'x') FROM generate_series(1, 5) i;
INSERT INTO sqs_outbox (queue, body) SELECT 'out' || i, 'y' FROM generate_series(1, 5) i;
EOQ
query_is($node, 'SELECT count(*) FROM sqs_outbox', '0', 'five queues send, with statistics for two');
$node->safe_psql('postgres', "SELECT sqs_register_queue('$_', server => 'aws', handler => 'handle', wait_time => '1 s')") foreach @small;
state_is($_, 'state', 'polling', "five more are disabled: $_ runs") foreach @small[ 0, 1 ];
state_is($small[2], 'state, last_error', 'waiting for room|as many queues run as sqsbridge.max_queues allows', 'one too many says so');
$sqs->send_messages($_, 'again') foreach @small[ 0, 1 ];
query_is($node, "SELECT count(*) FROM got WHERE queue = '$_' AND body = 'again'", '1', "$_ works") foreach @small[ 0, 1 ];
$node->safe_psql('postgres', "SELECT sqs_alter_queue('off1', batch_size => $_)") foreach 1 .. 5;
$sqs->send_messages($small[0], 'more');
query_is($node, "SELECT count(*) FROM got WHERE body = 'more'", '1', 'time passes');
is(scalar(() = log_text($node) =~ /cannot work on queue "$small[2]"/g), 1, 'the log has it once, however often it is looked at');
$node->safe_psql('postgres', "SELECT sqs_disable_queue('$small[0]')");
state_is($small[2], 'state', 'polling', 'another is disabled: there is room');
is($node->safe_psql('postgres', "SELECT state FROM sqs_stats WHERE queue = '$small[0]'"), 'disabled', 'which shows as disabled');
$node->safe_psql('postgres', 'SELECT sqs_unregister_queue(name) FROM sqs_queues');
query_is($node, q{SELECT count(*) FROM sqs_stats_workers}, '1', 'all leave');

# ---- what one role may take

$node->append_conf('postgresql.conf', "sqsbridge.max_queues = 20\nsqsbridge.max_queues_per_role = 2\nsqsbridge.max_handlers_per_role = 3");
$node->restart;
$node->safe_psql('postgres', <<'EOQ');
CREATE ROLE app LOGIN;
CREATE ROLE web LOGIN;
GRANT USAGE ON FOREIGN SERVER aws TO app, web;
GRANT ALL ON got TO app, web;
SET ROLE app;
SELECT sqs_register_queue('role1', server => 'aws', handler => 'nap', concurrency => 3);
SELECT sqs_register_queue('role2', server => 'aws', handler => 'nap', concurrency => 3);
EOQ
my (undef, undef, $stderr) = $node->psql('postgres', q{SET ROLE app; SELECT sqs_register_queue('role3', server => 'aws')});
like($stderr, qr/ERROR:  role "app" has 2 queues registered.*\nHINT:.*sqsbridge\.max_queues_per_role/, 'one queue too many is refused');
# ... nor are there two at the same time, each of which would be the last
$node->safe_psql('postgres', q{SELECT sqs_unregister_queue('role2')});
my $other = $node->background_psql('postgres');
$other->query_safe(q{BEGIN; SET ROLE app; SELECT sqs_register_queue('role4', server => 'aws')});
(undef, undef, $stderr) = $node->psql('postgres', q{SET ROLE app; SET lock_timeout = '1s'; SELECT sqs_register_queue('role2', server => 'aws')});
like($stderr, qr/ERROR:  canceling statement due to lock timeout/, 'a second one waits for the first');
$other->query_safe('ROLLBACK');
$other->quit;
$node->safe_psql('postgres', q{SET ROLE app; SELECT sqs_register_queue('role2', server => 'aws', handler => 'nap', concurrency => 3)});
(undef, undef, $stderr) = $node->psql('postgres', q{SELECT sqs_alter_queue('role1', concurrency => 4)});
like($stderr, qr/ERROR:  invalid value for option "concurrency": 4\nDETAIL:.*\nHINT:.*sqsbridge\.max_handlers_per_role/, 'so is a concurrency');
$node->safe_psql('postgres', q{SET ROLE web; SELECT sqs_register_queue('role3', server => 'aws', handler => 'nap', concurrency => 2)});
$sqs->fill($_, 40) foreach @roles;
my $most = 0;
poll_until(
	sub {
		my $n = $node->safe_psql('postgres', q{SELECT count(*) FROM sqs_stats_workers WHERE role = 'app'::regrole});
		$most = $n if $n > $most;
		return $node->safe_psql('postgres', q{SELECT count(*) FROM got WHERE queue LIKE 'role%'}) >= 120;
	},
	'all of their messages are handled', 180);
is($most, 3, 'by no more handlers of a role than it may have');

$node->append_conf('postgresql.conf', 'sqsbridge.max_queues_per_role = 1');
$node->reload;
state_is('role2', 'state, last_error', 'waiting for room|as many queues of its owner run as sqsbridge.max_queues_per_role allows',
	'with the limit lowered a queue has to stop, and says why');
state_is($_, 'state', 'polling', "$_ runs") foreach qw(role1 role3);
$node->append_conf('postgresql.conf', 'sqsbridge.max_queues_per_role = 0');
$node->reload;
state_is('role2', 'state', 'polling', 'without the limit it runs again');

$node->stop;
check_log($node, qr/out of background worker slots/, qr/ERROR:  role "app" has 2/, qr/\] 028_fair_shares\.pl ERROR:  canceling statement due to lock timeout/, qr/ERROR:  invalid value for option "concurrency"/);
done_testing();
