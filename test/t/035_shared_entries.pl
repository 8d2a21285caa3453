# What databases, queues and processes share is enough for all of them, and
# what keeps one of them busy or broken is no trouble of the others.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my @out = map { "out$_" } 1 .. 8;
my $sqs = start_sqs(queues => [ 'work', 'other', 'ticker', 'late', 'spare', 'crowd,VisibilityTimeout=3600', @out ]);
my $functions = <<'EOQ';
CREATE TABLE got (body text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS 'INSERT INTO got VALUES (m.body)';
EOQ

sub register
{
	my ($queue) = @_;
	return "SELECT sqs_register_queue('$queue', server => 'aws', handler => 'handle');";
}

sub arrives
{
	my ($node, $db, $queue, $body, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$sqs->send_messages($queue, $body);
	query_is($node, "SELECT count(*) FROM got WHERE body = '$body'", '1', $name, dbname => $db);
	return;
}

# ---- entries of queues that stop running together

my $node = new_node('entries', conf => "sqsbridge.max_queues = 1\nautovacuum = off\n");
setup_database($node, $sqs);
$node->safe_psql('postgres', $functions . register('work') . q{SELECT sqs_register_queue('spare', server => 'aws')});
arrives($node, 'postgres', 'work', 'm1', 'a queue runs');
$node->safe_psql('postgres', q{SELECT sqs_send('spare', 'x')});
is($node->safe_psql('postgres', q{SELECT count(*) FROM sqs_get_queue_stats()}), '2', 'another sends: all entries are in use');
$node->safe_psql('postgres', q{SELECT sqs_register_queue('late', server => 'aws'); SELECT sqs_send('late', 'x')});
is($node->safe_psql('postgres', 'SELECT queue, state, sent FROM sqs_stats ORDER BY 1'), "late|send only|\nspare|send only|1\nwork|polling|0",
	'one more that sends has no counters, for now');
is($sqs->counts('late')->{visible}, 1, 'and sends');
$node->safe_psql('postgres', q{SELECT sqs_unregister_queue('late')});
$sqs->call('PurgeQueue', { QueueUrl => $sqs->url('late') });

# who watches them all day long needs no more memory for it
{
	my $watcher = $node->background_psql('postgres');
	my @views = split /\n/, $node->safe_psql('postgres',
		q{SELECT viewname FROM pg_views WHERE viewname LIKE 'sqs\_%' AND schemaname = 'public'});
	my $look = join('', map { "SELECT count(v) FROM $_ v WHERE v::text <> '';\n" } @views);
	my $memory = 'SELECT sum(used_bytes) FROM pg_backend_memory_contexts';
	my $pid = $watcher->query('SELECT pg_backend_pid()');
	$watcher->query($look x 10);
	$watcher->query($memory);
	my $before = $watcher->query($memory);
	my $private = private_memory($pid);
	$watcher->query($look x 10) foreach 1 .. 5;
	cmp_ok(scalar(@views), '>=', 8, 'there are views');
	cmp_ok($watcher->query($memory) - $before, '<', 16 * 1024, 'views: memory contexts do not grow');
	cmp_ok(private_memory($pid) - $private, '<', 1024, 'views: nor does the process');
	$watcher->quit;
}
$node->safe_psql('postgres', 'CREATE DATABASE b');
setup_database($node, $sqs, dbname => 'b');
$node->append_conf('postgresql.conf', q{sqsbridge.databases = 'b'});
$node->reload;
query_is($node, 'SELECT count(*) FROM sqs_get_workers() WHERE datid IS NOT NULL', '0', 'their database is not admitted any more');
# the launcher looks at what the database had, at the latest before it starts this
$node->safe_psql('b', $functions . register('other'));
arrives($node, 'b', 'other', 'm2', 'a queue of another database runs in its place');
$node->append_conf('postgresql.conf', q{sqsbridge.databases = '*'});
$node->reload;
query_is($node, q{SELECT state, last_error FROM sqs_stats WHERE queue = 'work'},
	'waiting for room|as many queues run as sqsbridge.max_queues allows', 'the first says that it has to wait');
$node->safe_psql('b', q{SELECT sqs_unregister_queue('other')});
arrives($node, 'postgres', 'work', 'm3', 'until the other is gone');
$node->stop;
check_log($node);

# ---- events that anybody can bring about

$node = new_node('events', conf => "autovacuum = off\n");
setup_database($node, $sqs);
$node->safe_psql('postgres', 'CREATE DATABASE quiet; CREATE ROLE nobody_ LOGIN');
setup_database($node, $sqs, dbname => 'quiet');
$node->safe_psql('quiet', $functions . register('other'));
arrives($node, 'quiet', 'other', 'm4', 'a queue runs');

# How often the queues of "quiet" have been read.
sub looks_of
{
	my ($view) = @_;
	return "SELECT sum(seq_scan + COALESCE(idx_scan, 0)) FROM $view WHERE schemaname = 'sqsbridge_internal' AND relname = 'queues'";
}

sub looks
{
	return $node->safe_psql('quiet', looks_of('pg_stat_all_tables'));
}

# When the database worker of "quiet" began to look, as it says in
# pg_stat_activity, is noted after each statement of somebody's.
$node->safe_psql($_, <<'EOQ') foreach qw(postgres quiet);
CREATE TABLE looks (began timestamptz PRIMARY KEY);
CREATE FUNCTION note_look() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$
  INSERT INTO public.looks SELECT query_start FROM pg_stat_activity
  WHERE backend_type = 'sqsbridge database worker' AND datname = 'quiet' ON CONFLICT DO NOTHING $$;
EOQ

# A statement a thousand times, each in a transaction of its own.  However quick
# they are, the worker looks five times a second at most, apart from what it does
# every ten seconds: so the fourth look is that much later than the first.
sub keeps_calm
{
	my ($db, $statement, $name, $least) = @_;
	$node->safe_psql($db, 'TRUNCATE looks; SELECT note_look()');
	$node->safe_psql($db, "SET client_min_messages = warning; SET SESSION AUTHORIZATION nobody_;\n" .
		"$statement;\nSELECT note_look();\n" x 1000);
	my ($looks, $early) = split /\|/, $node->safe_psql($db, <<'EOQ');
SELECT count(*), count(*) FILTER (WHERE began < before + '199 ms')
FROM (SELECT began, lag(began, 3) OVER (ORDER BY began) AS before FROM looks) l
EOQ
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($early, 0, "$name: the workers keep calm ($looks looks)");
	cmp_ok($looks, '>=', $least, "$name: but they look") if $least;
	return;
}

keeps_calm('postgres', q{ALTER ROLE nobody_ SET work_mem = '4MB'}, 'a role without privileges changes its settings', 2);
$node->safe_psql('quiet', 'GRANT USAGE ON FOREIGN SERVER aws TO nobody_');
keeps_calm('quiet', 'SET client_min_messages = error; GRANT USAGE ON FOREIGN SERVER aws TO nobody_', 'it grants what it may not');
$node->safe_psql('quiet', 'REVOKE USAGE ON FOREIGN SERVER aws FROM nobody_');
keeps_calm('quiet', 'DROP SERVER IF EXISTS nosuch', 'it drops a server that there is not');
keeps_calm('quiet', 'CREATE EXTENSION IF NOT EXISTS plpgsql', 'it creates an extension that there is');
keeps_calm('quiet', <<'EOQ', 'it may not create a server');
DO $$ BEGIN CREATE SERVER mine FOREIGN DATA WRAPPER sqsbridge; EXCEPTION WHEN insufficient_privilege THEN NULL; END $$
EOQ

# What does concern queues is acted on at once: a queue worker looks when there is
# news, and at no other time.  The database worker, which also does so every ten
# seconds, is stopped meanwhile; and what the session reads does not count.
$node->safe_psql('quiet', q{SELECT sqs_register_queue('ticker', server => 'aws', handler => 'handle');
	SELECT sqs_unregister_queue('other')});
query_is($node, q{SELECT queue, state FROM sqs_stats}, 'ticker|polling', 'a queue polls', dbname => 'quiet');
query_is($node, q{SELECT count(*) FROM sqs_stats_workers WHERE kind = 'queue worker'}, '1', 'alone', dbname => 'quiet');
my ($stopped) = split /\n/, $node->safe_psql('quiet', q{SELECT pid FROM sqs_stats_workers WHERE kind = 'database worker' AND database = 'quiet'});
kill('STOP', $stopped);
foreach my $change (
	q{CREATE SERVER aws2 FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1')},
	q{CREATE USER MAPPING FOR nobody_ SERVER aws2 OPTIONS (access_key_id 'a', secret_access_key 'b')},
	q{ALTER USER MAPPING FOR nobody_ SERVER aws2 OPTIONS (SET access_key_id 'c')},
	q{ALTER SERVER aws2 OPTIONS (SET region 'us-east-2')},
	q{ALTER SERVER aws2 OWNER TO nobody_},
	q{ALTER SERVER aws2 RENAME TO aws3},
	q{DROP USER MAPPING FOR nobody_ SERVER aws3},
	q{DROP OWNED BY nobody_},
	q{SELECT sqs_alter_queue('ticker', batch_size => 9)},
	# its owner confirms the queue: what was wrong with it may have ended just now
	q{SELECT sqs_alter_queue('ticker')})
{
	my $before = looks();
	my $own = (split /\n/, $node->safe_psql('quiet', "BEGIN; $change; " . looks_of('pg_stat_xact_all_tables') . '; COMMIT'))[-1];
	poll_until(sub { looks() > $before + $own }, "seen: $change");
}
kill('CONT', $stopped);
$node->safe_psql('quiet', 'CREATE FOREIGN DATA WRAPPER foreign_; GRANT USAGE ON FOREIGN DATA WRAPPER foreign_ TO nobody_');
keeps_calm('quiet', 'CREATE SERVER theirs FOREIGN DATA WRAPPER foreign_; DROP SERVER theirs', 'servers of another wrapper are none of its business');

# ---- a table that a person has to mend

$node->safe_psql('postgres', $functions . register('work'));
arrives($node, 'postgres', 'work', 'm5', 'a queue runs');
$node->safe_psql('postgres', 'ALTER TABLE sqsbridge_internal.failures RENAME TO away');
$node->safe_psql('postgres', register('late'));
arrives($node, 'postgres', 'late', 'm6', 'without one of the tables queues start that do not need it');
$node->safe_psql('postgres', 'ALTER TABLE sqsbridge_internal.away RENAME TO failures');
# few, but a server of 16 has more of its own and would not start with 64
my $files = $node->safe_psql('postgres', 'SHOW server_version_num') >= 160000 ? 68 : 64;
$node->stop;
check_log($node, qr/sqsbridge_internal\.failures|"failures"/, qr/WARNING:  no privileges were granted for "aws"/);

# ---- few descriptors

$node = new_node('descriptors', conf => "max_files_per_process = $files\nautovacuum = off\n");
setup_database($node, $sqs);
$node->safe_psql('postgres', join(';', map { "SELECT sqs_register_queue('$_', server => 'aws')" } @out));
my $worker = q{SELECT pid FROM sqs_stats_workers WHERE kind = 'database worker'};
query_is($node, "SELECT count(*) FROM ($worker) p", '1', 'there is a database worker');
my $pid = $node->safe_psql('postgres', $worker);
$sqs->fault(kind => 'latency', action => 'SendMessageBatch', ms => 300);
$node->safe_psql('postgres', q{INSERT INTO sqs_outbox (queue, body) SELECT 'out' || 1 + i % 8, 'm' || i FROM generate_series(1, 400) i});
query_is($node, 'SELECT count(*) FROM sqs_outbox', '0', 'with few descriptors the outbox is sent', timeout => 120);
is($node->safe_psql('postgres', $worker), $pid, 'by the worker that began it');

# more messages to be given back than there are descriptors for calls of ten
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE gate (n int);
CREATE FUNCTION wait(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  WHILE m.body LIKE 'held%' AND NOT EXISTS (SELECT FROM gate)
  LOOP
    PERFORM pg_sleep(0.05);
  END LOOP;
END $$;
SELECT sqs_register_queue('crowd', server => 'aws', handler => 'wait', wait_time => '1 s', concurrency => 12);
EOQ
$sqs->fill('crowd', 3000);
query_true($node, "(SELECT acked > 300 FROM sqs_stats WHERE queue = 'crowd')", 'with few descriptors messages are handled');
$sqs->fill('crowd', 2000, body => 'held {i}', start => 5000);
query_is($node, "SELECT count(*) FROM sqs_stats_in_flight WHERE queue = 'crowd' AND status = 'running' AND handler_pid IS NOT NULL",
	'12', 'then all handlers are stuck', timeout => 120);
my $waiting = $node->safe_psql('postgres', "SELECT count(*) FROM sqs_stats_in_flight WHERE queue = 'crowd' AND status = 'waiting'");
note("$waiting messages wait");
$node->safe_psql('postgres', "SELECT sqs_disable_queue('crowd')");
poll_until(sub { $sqs->stats('crowd')->{in_flight} <= 12 }, 'all that wait are given back') or diag(explain($sqs->stats('crowd')));
$node->safe_psql('postgres', "INSERT INTO gate VALUES (1); SELECT sqs_enable_queue('crowd')");
$sqs->is_empty('crowd', 'and handled in the end', 120);
$node->stop;
check_log($node);
done_testing();
