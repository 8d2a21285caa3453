# The server stops, in all ways and at random moments, and is refused what it
# needs: worker slots, disk space for WAL, its database, its extension.  In
# all of this no message is deleted whose effect is missing, none has its
# effect twice, and the work goes on by itself as soon as it can.
use strict;
use warnings;

use File::Basename;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsLoad;
use SqsTest;

need_sqsd();

my $rounds = $ENV{SQSBRIDGE_LONG} ? 6 : 2;
my $batch = 800;
my $seed = $ENV{SQSBRIDGE_SEED} || (time() ^ $$) % 1_000_000;
srand($seed);
note("SQSBRIDGE_SEED=$seed");

my @queues = SqsLoad::queues();
my $sqs = start_sqs(queues =>
	  [ map { "$_,VisibilityTimeout=3" } @queues, 'moved1', map { "slot$_" } 1 .. 4 ]);

# a slow WAL writer, so that a crash takes what nobody has flushed
my $slow_wal = "wal_writer_delay = 10s\nrestart_after_crash = on\n";
sub shuffled
{
	my %place = map { $_ => rand() } @_;
	return sort { $place{$a} <=> $place{$b} } @_;
}

# a stop that waited for handlers that it need not wait for would not end before
# pg_ctl gives up
my $node = new_node('main', conf => $slow_wal . "sqsbridge.shutdown_timeout = '1h'\n");
setup_database($node, $sqs);
my $load = SqsLoad->new($sqs, $node);

# ---- stopped and started

foreach my $round (1 .. $rounds)
{
	foreach my $mode (shuffled(qw(fast smart immediate)))
	{
		my $name = "$mode stop $round";
		my $session;

		# every other time just after the start, when workers are on their way
		$load->feed($batch);
		$load->wait_for_some_work($name) if $round % 2;

		if ($mode eq 'smart' && $round % 2)
		{
			# somebody's session holds up a smart stop; the workers go on until then
			$session = open_session($node, 'SELECT 1;', "$name: a session is open");
			my $pg_ctl = IPC::Run::start(
				[ 'pg_ctl', '-D', $node->data_dir, '-m', 'smart', '-W', 'stop' ], '>', '/dev/null', '2>&1');
			$pg_ctl->finish;
			poll_until(sub { log_text($node) =~ /received smart shutdown request/ }, "$name: asked for");
			$load->feed($batch / 4);
			$load->wait_for_some_work("$name, with a session open");
			$load->feed($batch);
			close_session($session, '');
		}
		# when the session has ended, the server may be gone before it is asked again
		$session ? $node->stop($mode, fail_ok => 1) : stop_ok($node, "$name: it ends", $mode);
		note(sprintf('%s: %d of %d are deleted', $name, $load->deleted, $load->total));
		poll_until(sub { !SqsTest::server_processes($node) }, "$name: all processes are gone");
		poll_until(sub { !grep { $sqs->stats($_)->{open_polls} } @queues }, "$name: nobody polls");
		$node->start;
		$load->all_agree($name);
	}
}
$load->all_done('stopped and started');

$load->in_order;
is($node->safe_psql('postgres', 'SELECT count(*) FROM sqs_failures'), '0', 'no failures');

# ---- the disk is full

$node->append_conf('postgresql.conf', 'sqsbridge.shutdown_timeout = 5s');
$node->stop;

SKIP:
{
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $shim = "$dir/full_disk.so";
	my $flag = "$dir/flag";

	skip 'no way to let the disk be full', 1
	  unless $^O eq 'linux'
	  && eval {
		IPC::Run::run([ 'cc', '-shared', '-fPIC', '-o', $shim, dirname(__FILE__) . '/../lib/full_disk.c', '-ldl' ],
			'>', "$dir/cc.log", '2>&1');
	  };
	my %preload = (LD_PRELOAD => $shim, FULL_DISK => $flag);

	# for a moment: the server panics, and all comes back
	{
		local %ENV = (%ENV, %preload);
		$node->start;
	}
	foreach my $round (1 .. $rounds)
	{
		my $name = "no space for WAL, $round";
		my $before = $load->crashes;

		$load->feed($batch);
		$load->wait_for_some_work($name);
		append_to_file("$flag-once", '');
		poll_until(sub { $load->crashes > $before }, "$name: takes the server down");
		note('with ' . $load->deleted . ' of ' . $load->total . ' deleted');
		is($load->crashes, $before + 1, "$name: once");
		query_is($node, 'SELECT true', 't', "$name: the server is back");
		$load->all_agree($name);
	}
	my $panics = () = log_text($node) =~ /PANIC:  could not write to log file .*No space left on device/g;
	is($panics, $rounds, 'each time it was the disk');
	$load->all_done('no space for WAL');

	# for good: it stays down until there is space.  (Were it to restart by
	# itself, it might do so again and again, or wait for ever for a checkpointer
	# that died before the postmaster took notice of the recovery.)
	$load->feed($batch);
	$node->append_conf('postgresql.conf', 'restart_after_crash = off');
	{
		local %ENV = (%ENV, %preload);
		$node->restart;
	}
	$load->wait_for_some_work('no space for good');
	append_to_file("$flag-wal", '');
	poll_until(sub { !SqsTest::server_processes($node) }, 'no space for good: the server goes down and stays down');
	note('with ' . $load->deleted . ' of ' . $load->total . ' deleted');
	poll_until(sub { !grep { $sqs->stats($_)->{open_polls} } @queues }, 'no space for good: nobody polls');
	$node->kill9;    # only so that it is known to be down
	{
		local %ENV = (%ENV, %preload);
		is($node->start(fail_ok => 1), 0, 'no space for good: nor can it be started');
		unlink("$flag-wal");
		$node->start;
	}
	$load->all_agree('no space for good');
	$load->all_done('no space for good');

	# tables cannot grow: handlers fail, or wait because the inbox cannot grow; the
	# workers go on
	my $crashes = $load->crashes;
	my $pids = q{SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM sqs_stats_workers WHERE kind <> 'handler worker'};
	my $workers = $node->safe_psql('postgres', $pids);
	append_to_file("$flag-data", '');
	# their last pages may have room for some more, sqs_failures' included
	my $fed_until = sub {
		my ($condition) = @_;
		return 1 if $condition->();
		$load->feed($batch / 4) if grep { !$sqs->counts($_)->{visible} } @queues;
		return;
	};
	poll_until(
		sub {
			$fed_until->(sub {
				$node->safe_psql('postgres', q{SELECT bool_and(failed > 0 OR last_error ~ 'No space left on device') FROM sqs_stats}) eq 't';
			});
		},
		'no space for tables: handlers fail, or cannot even begin', 180);
	poll_until(
		sub { $fed_until->(sub { log_text($node) =~ /could not extend file "base.*No space left on device/ }) },
		'no space for tables: the log says why, as sqs_failures cannot grow either', 180);
	$load->all_agree('no space for tables');
	unlink("$flag-data");
	$load->all_done('no space for tables');
	is($load->crashes, $crashes, 'no space for tables: the server went on');
	is($node->safe_psql('postgres', $pids), $workers, 'no space for tables: so did the workers');

	is( $node->safe_psql('postgres', q{SELECT count(*) FROM sqs_failures WHERE sqlstate <> '53100'}),
		'0', 'no other failures');
	$node->stop;
}

# ---- its extension is changed or dropped, and is not after all

$node->start;

# pid of each worker but the handlers, which come and go
sub workers
{
	return $node->safe_psql('postgres', q{SELECT database, kind, queue, pid FROM sqs_stats_workers
		WHERE kind <> 'handler worker' ORDER BY 1, 2, 3});
}

sub all_work
{
	my ($name) = @_;
	return query_is($node, q{SELECT string_agg(state, ' ') FROM sqs_stats}, 'polling polling polling', "$name: all queues work");
}

# what a script of ALTER EXTENSION ... UPDATE might do; handlers wait for its
# locks, and meanwhile somebody changes a key
{
	my $name = 'ALTER EXTENSION rolled back';

	all_work($name);
	my $before = workers();
	$load->feed($batch);
	$load->wait_for_some_work($name);
	my $session = open_session($node, <<'EOQ', "$name: under way");
BEGIN;
ALTER EXTENSION sqsbridge UPDATE;
ALTER EXTENSION sqsbridge DROP TABLE sqsbridge_internal.inbox;
ALTER TABLE sqsbridge_internal.inbox ADD COLUMN more int;
ALTER EXTENSION sqsbridge ADD TABLE sqsbridge_internal.inbox;
LOCK TABLE sqsbridge_internal.queues;
EOQ
	$node->safe_psql('postgres', q{ALTER USER MAPPING FOR PUBLIC SERVER aws OPTIONS (SET secret_access_key 'secret')});
	$load->feed($batch / 4);
	my %expired = map { $_ => $sqs->stats($_)->{expired_leases} } @queues;
	my %renewed = map { $_ => $sqs->calls($_, 'ChangeMessageVisibilityBatch') } @queues;
	poll_until(
		sub { !grep { $sqs->calls($_, 'ChangeMessageVisibilityBatch') < $renewed{$_} + 4 } @queues },
		"$name: meanwhile leases are renewed");
	my $done = $load->deleted;
	close_session($session, 'ROLLBACK;');
	poll_until(sub { $load->deleted > $done }, "$name: the work goes on");
	note(join(', ', map { "$_: " . ($sqs->stats($_)->{expired_leases} - $expired{$_}) . ' leases ran out' } @queues));
	like(log_text($node), qr/queue "load" cannot read its configuration and goes on with the one it has: canceling statement due to lock timeout/,
		"$name: they could not read the new key, and went on");
	$load->all_agree($name);
	$load->all_done($name);
	is(workers(), $before, "$name: with the same workers");
}

foreach my $case (
	[ 'DROP EXTENSION rolled back', 'BEGIN; DROP EXTENSION sqsbridge CASCADE;', 'ROLLBACK;' ],
	[
		'DROP EXTENSION rolled back to a savepoint',
		'BEGIN; SAVEPOINT a; DROP EXTENSION sqsbridge CASCADE; ROLLBACK TO a;', 'COMMIT;'
	],
	[
		'DROP EXTENSION by a session that is terminated', 'BEGIN; DROP EXTENSION sqsbridge CASCADE;',
		'SELECT pg_terminate_backend(pg_backend_pid());'
	])
{
	my ($name, $sql, $end) = @$case;

	$load->feed($batch);
	$load->wait_for_some_work($name);
	my $session = open_session($node, "SET client_min_messages = warning; $sql", "$name: under way");
	poll_until(sub { !grep { $sqs->stats($_)->{open_polls} } @queues }, "$name: nobody polls");
	my $done = $load->deleted;
	$load->feed($batch / 4);
	close_session($session, $end);
	poll_until(sub { $load->deleted > $done }, "$name: the work goes on by itself");
	$load->all_agree($name);
	all_work($name);
}
$load->all_done('DROP EXTENSION');

# ---- databases are copied and renamed under load

my $app = 'app';
my $moved = 0;
$node->safe_psql('postgres', "CREATE DATABASE $app");
setup_database($node, $sqs, dbname => $app);
$node->safe_psql($app, "$SqsLoad::objects; SELECT sqs_register_queue('moved1', server => 'aws', handler => 'handle', concurrency => 2)");

# under load, what is done must leave work over
sub feed_moved
{
	my ($name) = @_;
	my $done = $sqs->stats('moved1')->{deleted};

	$sqs->fill('moved1', $batch / 2, body => 'moved {i}', start => $moved + 1);
	$moved += $batch / 2;
	poll_until(sub { $sqs->stats('moved1')->{deleted} > $done }, "$name: under load");
	return;
}

# Effects that happened in a database itself, and did not come with a copy.
sub moved_agree
{
	my ($name, @databases) = @_;
	my %effects;
	my $deleted = $sqs->messages('moved1', 'deleted');

	foreach my $db (@databases)
	{
		$effects{$_}++ foreach split /\n/, $node->safe_psql($db,
			q{SELECT message_id FROM got WHERE db = (SELECT oid FROM pg_database WHERE datname = current_database())});
	}
	is(scalar(grep { !$effects{ $_->{id} } } @$deleted), 0, "$name: no message is deleted that had no effect");
	is(scalar(grep { $_ > 1 } values %effects), 0, "$name: no message had its effect twice");
	return scalar(keys %effects);
}

# somebody else's: nobody has to stop
poll_until(sub { $sqs->stats('moved1')->{open_polls} >= 1 }, 'the database has a long poll open');
my $before = workers();
feed_moved('an unrelated database');
$node->safe_psql('postgres', $_)
  foreach 'CREATE DATABASE unrelated', 'ALTER DATABASE unrelated RENAME TO elsewhere', 'DROP DATABASE elsewhere';
is(workers(), $before, 'to make, rename and drop an unrelated database stops no worker');
moved_agree('an unrelated database', $app);

foreach my $case (
	[ 'RENAME rolled back', "BEGIN; ALTER DATABASE $app RENAME TO app2; ROLLBACK" ],
	[ 'RENAME', "ALTER DATABASE $app RENAME TO app2", 'app2' ],
	[ 'DROP DATABASE refused', 'BEGIN; DROP DATABASE app2; ROLLBACK' ])
{
	my ($name, $sql, $new) = @$case;

	feed_moved($name);
	# (psql goes on after an error)
	$node->psql('postgres', $sql, on_error_stop => 0);
	$app = $new if $new;
	my $done = $sqs->stats('moved1')->{deleted};
	feed_moved($name) if $done == $moved;
	poll_until(sub { $sqs->stats('moved1')->{deleted} > $done }, "$name: the work goes on");
	moved_agree($name, $app);
}

# the copy takes its share once it has been adopted; what was done before the
# copy is in both inboxes
feed_moved('CREATE DATABASE ... TEMPLATE');
$node->safe_psql('postgres', "CREATE DATABASE twin TEMPLATE $app");
$node->safe_psql('twin', "SELECT sqs_adopt_queues('send')");
feed_moved('CREATE DATABASE ... TEMPLATE');
moved_agree('CREATE DATABASE ... TEMPLATE', $app, 'twin');
$sqs->is_empty('moved1', 'CREATE DATABASE ... TEMPLATE: all is done');
is(moved_agree('databases, in sum', $app, 'twin'), $moved, 'databases, in sum: each message had its effect');
is($sqs->stats('moved1')->{deleted}, $moved, 'databases, in sum: all are deleted');

# a long poll of either does not hold up its end
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'moved1'}, 'polling', "$_ polls", dbname => $_) foreach 'twin', $app;
# (one that was just busy may have several)
my $polls = poll_until(sub { my $n = $sqs->stats('moved1')->{open_polls}; $n >= 2 && $n }, 'both have a long poll open', 180);
my $abandoned = $sqs->stats('moved1')->{abandoned_polls};
$node->safe_psql('postgres', 'DROP DATABASE twin');
poll_until(sub { $sqs->stats('moved1')->{abandoned_polls} > $abandoned }, 'DROP DATABASE does not wait for it');
poll_until(sub { $sqs->stats('moved1')->{open_polls} < $polls }, 'DROP DATABASE: its poll ends');
$node->safe_psql('postgres', "ALTER DATABASE $app RENAME TO app3");
feed_moved('after all of this');
$sqs->is_empty('moved1', 'after all of this: all is done');

is( $node->safe_psql('postgres', q{SELECT count(*) FROM sqs_failures WHERE sqlstate <> '53100'}),
	'0', 'no failures that a full disk does not explain');
is($node->safe_psql('app3', 'SELECT count(*) FROM sqs_failures'), '0', 'nor any in the database that was moved');
$node->stop;

# ---- too few worker slots

# the launcher, a database worker, and enough for one queue with one handler
my $small = new_node('small', conf => "max_worker_processes = 4\nmax_logical_replication_workers = 0\n");
my @slotted = map { "slot$_" } 1 .. 4;
my $per_queue = 60;

setup_database($small, $sqs);
$sqs->fill($_, $per_queue, body => "$_ {i}") foreach @slotted;
$small->safe_psql('postgres', <<"EOQ");
$SqsLoad::objects
SELECT sqs_register_queue('slot' || i, server => 'aws', handler => 'handle', wait_time => '1 s') FROM generate_series(1, 4) i;
EOQ

# The one queue that works, once the others have said that they wait.
sub the_working_one
{
	my ($waiting, $name) = @_;

	# (with a handler: a queue that finds none will wait, too)
	return poll_until(
		sub {
			my ($states, $queue) = split /\|/, $small->safe_psql('postgres', <<'EOQ');
SELECT string_agg(state, ', ' ORDER BY state),
	max(queue) FILTER (WHERE state = 'polling' AND
		EXISTS (SELECT FROM sqs_stats_workers w WHERE w.queue = s.queue AND w.kind = 'handler worker'))
FROM sqs_stats s WHERE state <> 'disabled'
EOQ
			return $states eq join(', ', 'polling', ('waiting for worker slot') x $waiting) && $queue;
		},
		"$name: one queue works, the others say what they wait for");
}

foreach my $waiting (reverse 0 .. 3)
{
	my $name = "short of slots, $waiting wait";
	my $queue = the_working_one($waiting, $name) or last;

	$sqs->is_empty($queue, "$name: $queue does its work");
	is($small->safe_psql('postgres', q{SELECT count(*) FROM sqs_stats WHERE state LIKE 'waiting%' AND last_error <> 'out of background worker slots'}),
		'0', "$name: last_error says why");
	# its slots are for somebody else
	$small->safe_psql('postgres', "SELECT sqs_disable_queue('$queue')");
}
foreach my $queue (@slotted)
{
	my $s = $sqs->stats($queue);

	$sqs->books_agree($queue, $small, $queue);
	is("$s->{sent} $s->{deleted}", "$per_queue $per_queue", "$queue: all sent, all deleted");
	note("$queue: $s->{redelivered} delivered again");
	cmp_ok($s->{redelivered}, '<=', $per_queue / 4, "$queue: while it waited it did not receive again and again");
}
my $warnings = () = log_text($small) =~ /out of background worker slots\n.*HINT:.*max_worker_processes/g;
is($warnings, 1, 'one warning, with a hint');

# with enough of them all work at the same time
$small->append_conf('postgresql.conf', 'max_worker_processes = 16');
$small->restart;
$small->safe_psql('postgres', 'SELECT sqs_enable_queue(name) FROM sqs_queues');
query_is($small, q{SELECT string_agg(state, ', ') FROM sqs_stats}, join(', ', ('polling') x 4),
	'with enough slots all queues work');
$sqs->fill($_, $per_queue, body => "$_ {i}", start => $per_queue + 1) foreach @slotted;
$sqs->is_empty($_, "$_: all is done") foreach @slotted;
is( $small->safe_psql('postgres', 'SELECT queue, count(*), count(DISTINCT body) FROM got GROUP BY 1 ORDER BY 1'),
	join("\n", map { "$_|" . join('|', (2 * $per_queue) x 2) } @slotted), 'each message had its effect once');
$small->stop;

# ---- no unexplained line

# (a handler worker that is on its way at a stop has nothing to finish)
check_log(
	$node,
	qr/FATAL:  the database system is (?:starting up|not yet accepting|in recovery mode|shutting down)/,
	qr/FATAL:  terminating background worker "sqsbridge handler worker" due to administrator command/,
	qr/background worker "sqsbridge handler worker" \(PID \d+\) exited with exit code 1$/,
	qr/No space left on device/,
	qr/ERROR:  DROP DATABASE cannot run inside a transaction block/,
	qr/ERROR:  canceling statement due to lock timeout/,    # the database worker
	qr/ERROR:  canceling autovacuum task$/,
	qr/FATAL:  terminating connection due to administrator command/,
	qr/LOG:  startup(?: process)? \(PID \d+\) exited with exit code 1$/,
	qr/ \(PID \d+\) was terminated by signal 6: Aborted$/,    # after a PANIC, of which only the disk's are allowed
	qr/terminating connection because of crash of another server process/);
check_log($small, qr/WARNING:  sqsbridge is out of background worker slots/);
done_testing();
