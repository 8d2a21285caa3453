# A role that takes more than its share: of queues, of workers, of requests that
# are never answered.  The queues of others work on.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $sqs = start_sqs(queues => [ 'ticker', 'honest', 'second', 'greedy,VisibilityTimeout=600', 'honest-out' ]);
# a server with few descriptors
my ($soft) = map { /(\d+|unlimited)/ ? $1 : () } grep { /Max open files/ } split /\n/, slurp_file("/proc/$$/limits");
system('prlimit', '--pid', $$, '--nofile=300:') == 0 or die 'prlimit failed';
my $node = new_node('small', conf => "max_connections = 20\nmax_worker_processes = 16\nsqsbridge.max_queues = 12\nsqsbridge.max_workers = 40\nsqsbridge.handler_idle_timeout = '1s'\n");
system('prlimit', '--pid', $$, "--nofile=$soft:");
setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE ROLE low LOGIN;
CREATE ROLE app LOGIN;
CREATE DATABASE other;
GRANT USAGE ON FOREIGN SERVER aws TO app, low;
CREATE SCHEMA app AUTHORIZATION app;
CREATE SCHEMA low AUTHORIZATION low;
SET ROLE app;
CREATE TABLE app.got (body text);
CREATE FUNCTION app.handle(m sqs_message) RETURNS void LANGUAGE sql AS 'INSERT INTO app.got VALUES (m.body)';
SELECT sqs_register_queue('ticker', server => 'aws', handler => 'app.handle', wait_time => '1 s');
SELECT sqs_register_queue('honest-out', server => 'aws');
EOQ
my $mine = sub { return $node->safe_psql('postgres', $_[1], extra_params => [ '-U', $_[0] ]) };
query_is($node, "SELECT state FROM sqs_stats WHERE queue = 'ticker'", 'polling', 'a small server');

# queues that do nothing
$node->psql('postgres', <<'EOQ', extra_params => [ '-U', 'low' ]);
SELECT sqs_register_queue('idle' || i, server => 'aws', enabled => false) FROM generate_series(1, 40) i;
EOQ
$mine->('app', "SELECT sqs_register_queue('honest', server => 'aws', handler => 'app.handle', wait_time => '1 s')");
$sqs->fill('honest', 3, body => 'honest {i}');
query_is($node, 'SELECT count(*) FROM app.got', '3', "another role's disabled queues take nothing away");
setup_database($node, $sqs, dbname => 'other');
$node->safe_psql('other', "CREATE TABLE got (body text);
	CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS 'INSERT INTO got VALUES (m.body)';
	SELECT sqs_register_queue('second', server => 'aws', handler => 'handle', wait_time => '1 s')");
$sqs->fill('second', 3, body => 'second {i}');
query_is($node, 'SELECT count(*) FROM got', '3', 'nor in another database', dbname => 'other');
$mine->('low', "SELECT sqs_unregister_queue(name) FROM sqs_queues WHERE name LIKE 'idle%'");

# all the workers that there are
query_is($node, "SELECT count(*) FROM sqs_stats_workers WHERE kind = 'handler worker'", '0', 'handlers leave when idle');
$mine->('low', <<'EOQ');
CREATE FUNCTION low.sleeps(m sqs_message) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(3600)';
SELECT sqs_register_queue('greedy', server => 'aws', handler => 'low.sleeps', concurrency => 64, wait_time => '1 s');
EOQ
$sqs->fill('greedy', 64, body => 'greedy {i}');
query_is($node, "SELECT count(*) > 3 FROM sqs_stats_workers WHERE role = 'low'::regrole", 't', 'a role takes what workers it can');
seconds_pass($node, 3, 'and has them');
$sqs->fill('honest', 3, body => 'late {i}');
query_is($node, "SELECT count(*) FROM app.got WHERE body LIKE 'late %'", '3', "another queue has its first handler nevertheless");
$sqs->fill('second', 3, body => 'late {i}');
query_is($node, "SELECT count(*) FROM got WHERE body LIKE 'late %'", '3', 'and so has one in another database', dbname => 'other');
$mine->('low', "SELECT sqs_unregister_queue('greedy')");

# queues by the hundred whose server does not answer
my $workers = $node->safe_psql('postgres', "SELECT pid, started_at FROM sqs_stats_workers WHERE kind = 'database worker' ORDER BY 1");
$sqs->fault(kind => 'blackhole', action => 'SendMessageBatch', queue => "hole$_"), $sqs->create_queue("hole$_") foreach 1 .. 150;
$node->psql('postgres', <<"EOQ", extra_params => [ '-U', 'low' ]);
SELECT sqs_register_queue('hole' || i, server => 'aws', queue_name => '@{[$sqs->endpoint]}/000000000000/hole' || i) FROM generate_series(1, 150) i;
INSERT INTO sqs_outbox (queue, body) SELECT name, 'x' FROM sqs_queues WHERE name LIKE 'hole%';
EOQ
poll_until(sub { 10 < grep { $_->{fired} } @{ $sqs->faults } }, 'many queues wait for an answer');
foreach my $i (1 .. 5)
{
	$mine->('app', "SELECT sqs_enqueue('honest-out', 'row $i')");
	query_is($node, "SELECT waiting FROM sqs_stats_outbox WHERE queue = 'honest-out'", '0', "row $i of another role is sent");
	seconds_pass($node, 2, "after row $i");
}
is($sqs->stats('honest-out')->{sent}, 5, 'each once');
is( $node->safe_psql('postgres', "SELECT pid, started_at FROM sqs_stats_workers WHERE kind = 'database worker' ORDER BY 1"),
	$workers, 'the database workers are still the same');
$node->stop;
check_log($node, qr/\] 036_greedy_role\.pl (?:ERROR|FATAL|WARNING):/, qr/canceling statement due to user request/,
	qr/WARNING:  .*(?:out of background worker slots|worker)/);
done_testing();
