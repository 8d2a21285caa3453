# The relay of the outbox is killed between sending and deleting, servers are
# killed under load, and a chain of two servers is.  Every committed message
# has its effect exactly once, those of a FIFO group in the order of commits,
# and what was rolled back or lost with a crash was never sent.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};
my $rounds = $long ? 20 : 3;
my $groups = 5;
my $left = 'SELECT (SELECT count(*) FROM sqsbridge_internal.outbox_rows), (SELECT count(*) FROM sqsbridge_internal.outbox_batches),
	(SELECT count(*) FROM sqs_outbox_failures)';
my $tmp = PostgreSQL::Test::Utils::tempdir();

# Every transaction of a writer takes its group's next number, so that those of
# a group commit one after the other, and writes down what it sends.
my $objects = <<'EOQ';
CREATE TABLE turn (g int PRIMARY KEY, n int NOT NULL);
CREATE TABLE journal (queue text, group_id text, body text);
CREATE FUNCTION put(q text, grp text, body text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO journal VALUES (q, grp, body);
  PERFORM sqs_enqueue(q, body, group_id => grp);
END $$;
EOQ
$objects .= "INSERT INTO turn SELECT g, 0 FROM generate_series(1, $groups) g;\n";

# Writers are clients of pgbench, and end when they are told to or with their
# server.  Returns their IPC::Run handle.
my $nscripts = 0;

sub start_writers
{
	my ($node, $script, @options) = @_;
	my $file = "$tmp/writer" . ++$nscripts . '.sql';

	append_to_file($file, $script);
	return IPC::Run::start(
		[
			'pgbench', '-n', '-c', '4', '-R', '150', '-t', '1000000', '-f', $file, @options,
			'-h', $node->host, '-p', $node->port, 'postgres'
		],
		'<', \undef, '>', "$file.out", '2>', "$file.err");
}

sub stop_writers
{
	my ($writers) = @_;
	$writers->kill_kill(grace => 10);
	return;
}

# Those whose server is gone.
sub writers_end
{
	my ($writers) = @_;
	eval { $writers->finish };
	return;
}

sub crashes
{
	my ($node) = @_;
	my $n = () = log_text($node) =~ /all server processes terminated; reinitializing/g;
	return $n;
}

# All of their processes at once, so that nobody can tidy up.
sub kill_servers
{
	my ($name, @nodes) = @_;
	my @pids;

	foreach my $node (@nodes)
	{
		my $pid = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];

		# (nobody may see another one's end)
		kill('STOP', $pid);
		kill('KILL', grep { $_ != $pid } SqsTest::server_processes($node));
		$node->kill9;
		push @pids, $pid;
	}
	poll_until(sub { !kill(0, @pids) && !grep { SqsTest::server_processes($_) } @nodes },
		"$name: all processes are gone");
	return;
}

sub database_worker
{
	my ($node) = @_;
	my (undef, $pid) = try_psql($node, 'postgres',
		q{SELECT pid FROM sqs_stats_workers WHERE kind = 'database worker' AND state <> 'starting'});
	return $pid;
}

sub sent
{
	my ($sqs, $queue) = @_;
	return $sqs->stats($queue)->{sent};
}

# SQS has taken more messages than it had when this was called.
sub more_is_sent
{
	my ($sqs, $name, @queues) = @_;
	my %before = map { $_ => sent($sqs, $_) } @queues;

	return poll_until(sub { !grep { sent($sqs, $_) < $before{$_} + 50 } @queues }, $name);
}

# From now on SQS takes messages of these queues, but says so only after a
# while.  Waits for that to happen, and returns the faults.
sub answers_are_late
{
	my ($sqs, $name, $ms, @queues) = @_;
	my @ids = map { $sqs->fault(kind => 'latency', ms => $ms, action => 'SendMessageBatch', queue => $_) } @queues;

	poll_until(
		sub {
			my %fired = map { $_->{id} => $_->{fired} } @{ $sqs->faults };
			return !grep { !$fired{$_} } @ids;
		},
		"$name: SQS has taken messages, and not said so");
	return @ids;
}

# Hold up the relay until there is WAL that nobody has flushed, and so would be
# lost if the server died now.
sub commits_are_lost
{
	my ($node, $name) = @_;
	my $pid = database_worker($node);

	return poll_until(
		sub {
			# (it may have something locked that the writers need)
			kill('STOP', $pid);
			foreach (1 .. 20)
			{
				return 1
				  if $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn() > 30000') eq 't';
			}
			kill('CONT', $pid);
			return;
		},
		"$name: commits are not durable");
}

# ---- the relay is killed between sending and deleting

{
	my @queues = ('std', 'ord.fifo');
	my $sqs = start_sqs(queues => [ map { "$_,VisibilityTimeout=3" } @queues ]);
	my $node = new_node('main', conf => "restart_after_crash = on\n");

	setup_database($node, $sqs);
	$node->safe_psql('postgres', <<"EOQ");
$objects
CREATE TABLE got (id bigint GENERATED ALWAYS AS IDENTITY, queue text, group_id text, body text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS \$\$
  INSERT INTO got (queue, group_id, body) VALUES (m.queue, m.group_id, m.body) \$\$;
SELECT sqs_register_queue('std', server => 'aws', handler => 'handle', concurrency => 2);
SELECT sqs_register_queue('ord.fifo', server => 'aws', handler => 'handle', concurrency => 2);
EOQ

	my $script = <<'EOQ';
\set g random(1, 5)
\set r random(1, 10)
BEGIN;
UPDATE turn SET n = n + 1 WHERE g = :g RETURNING n \gset
SELECT put('std', NULL, :g || '/' || :n || '/a');
SELECT put('ord.fifo', 'g' || :g, :n::text);
SAVEPOINT a;
SELECT put('std', NULL, 'rolled back'), put('ord.fifo', 'g' || :g, 'rolled back');
ROLLBACK TO a;
SELECT put('std', NULL, :g || '/' || :n || '/b');
\if :r = 1
ROLLBACK;
\else
COMMIT;
\endif
EOQ

	my $all_had_their_effect = sub {
		my ($name) = @_;

		query_is($node, $left, '0|0|0', "$name: nothing is left in the outbox", timeout => 120);
		$sqs->is_empty($_, "$name: all of $_ is done", 120) foreach @queues;
		is( $node->safe_psql('postgres', q{SELECT count(*) FROM
				(SELECT queue, group_id, body, count(*) FROM got GROUP BY 1, 2, 3) g
				FULL JOIN (SELECT queue, group_id, body, count(*) FROM journal GROUP BY 1, 2, 3) j
				ON (g.queue, g.body) = (j.queue, j.body) AND g.group_id IS NOT DISTINCT FROM j.group_id
				WHERE g.count IS DISTINCT FROM 1 OR j.count IS DISTINCT FROM 1}),
			'0', "$name: what was committed had its effect exactly once, and nothing else had any");
		is( $node->safe_psql('postgres', q{SELECT count(*) FROM
				(SELECT body::int AS n, row_number() OVER (PARTITION BY group_id ORDER BY id) AS place
				FROM got WHERE queue = 'ord.fifo') x WHERE n <> place}),
			'0', "$name: FIFO groups in the order of the commits, without gaps");
		return;
	};
	my $rows = sub {
		return { map { split /\|/ } split /\n/, $node->safe_psql('postgres', 'SELECT queue, count(*) FROM journal GROUP BY 1') };
	};

	my $expired = 0;
	foreach my $round (1 .. $rounds)
	{
		my $name = "relay killed, $round";
		my $before = crashes($node);
		my $writers = start_writers($node, $script);

		more_is_sent($sqs, "$name: under load", @queues);
		$sqs->fault(kind => 'lose_reply', action => 'SendMessageBatch', queue => $_, count => 2)
		  foreach $round % 2 ? () : @queues;
		my $pid = poll_until(sub { database_worker($node) }, "$name: there is a relay");

		answers_are_late($sqs, $name, 15000, @queues);
		if ($round % 3 == 2)
		{
			# longer than SQS remembers the deduplication ids of FIFO queues
			$sqs->advance(301);
			$expired++;
		}
		kill('KILL', $pid);
		$sqs->clear_faults;
		poll_until(sub { crashes($node) > $before }, "$name: takes the server down");
		writers_end($writers);
		query_is($node, 'SELECT true', 't', "$name: the server is back");
	}
	$all_had_their_effect->('relay killed');

	my $committed = $rows->();
	my %s = map { $_ => $sqs->stats($_) } @queues;
	note("$_: $committed->{$_} rows, sent $s{$_}{sent}, deduplicated $s{$_}{deduplicated}") foreach @queues;
	cmp_ok($committed->{$_}, '>', 20 * $rounds, "$_: there was load") foreach @queues;
	cmp_ok($s{std}{sent}, '>=', $committed->{std} + $rounds, 'each kill had the relay send something again');
	cmp_ok($s{'ord.fifo'}{deduplicated}, '>=', $rounds - $expired, 'FIFO queues recognise what is sent again');
	cmp_ok($s{'ord.fifo'}{sent}, '>=', $committed->{'ord.fifo'} + $expired, 'unless they have forgotten it, and the inbox does');
	is("$s{$_}{deleted} $s{$_}{visible}", "$s{$_}{sent} 0", "SQS's books of $_: all sent, all deleted") foreach @queues;

	# ---- it is asked to leave

	my %before = map { $_ => $sqs->stats($_) } @queues;
	my $crashes = crashes($node);
	my $writers = start_writers($node, $script);

	# (often enough that a back-off, which doubles each time, would be noticed)
	foreach my $round (1 .. ($long ? 20 : 8))
	{
		my $name = "relay terminated, $round";

		my $pid = poll_until(sub { database_worker($node) }, "$name: there is a relay");
		my @faults = answers_are_late($sqs, $name, 400, @queues);
		kill('TERM', $pid);
		poll_until(sub { my $now = database_worker($node); $now && $now != $pid }, "$name: another one is there");
		$sqs->clear_faults($_) foreach @faults;
		more_is_sent($sqs, "$name: which sends", @queues);
	}
	stop_writers($writers);
	$all_had_their_effect->('relay terminated');
	is(crashes($node), $crashes, 'relay terminated: the server went on');

	# the same at a fast stop of the server
	foreach my $round (1 .. $rounds / 3)
	{
		my $name = "server stopped, $round";

		$writers = start_writers($node, $script);
		more_is_sent($sqs, "$name: under load", @queues);
		my @faults = answers_are_late($sqs, $name, 400, @queues);
		$node->stop('fast');
		$sqs->clear_faults($_) foreach @faults;
		writers_end($writers);
		$node->start;
	}
	$all_had_their_effect->('server stopped');

	my $now = $rows->();
	foreach my $queue (@queues)
	{
		my $s = $sqs->stats($queue);
		is( join(' ', $s->{sent} - $before{$queue}{sent}, $s->{deduplicated} - $before{$queue}{deduplicated}),
			join(' ', $now->{$queue} - $committed->{$queue}, 0), "$queue: a relay that leaves sends nothing twice");
	}
	is($node->safe_psql('postgres', 'SELECT count(*) FROM sqs_failures'), '0', 'no failures');

	$node->stop;
	$sqs->stop_sqs;
	check_log(
		$node,
		qr/FATAL:  the database system is (?:starting up|not yet accepting|in recovery|shutting down)/,
		qr/WARNING:  terminating connection because of crash of another server process/,
		qr/FATAL:  terminating connection due to administrator command/,
		qr/FATAL:  connection to client lost/,
		qr/FATAL:  terminating background worker "sqsbridge handler worker" due to administrator command/,
		qr/background worker "sqsbridge handler worker" \(PID \d+\) exited with exit code 1$/,
		qr/background worker "sqsbridge database worker" \(PID \d+\) was terminated by signal 9: Killed/);
}

# ---- what a crash takes has not been sent

# Nobody waits for his commit to be durable, and nobody flushes WAL but the
# relay, which is held up in every third round; no handlers, so SQS keeps all
# that it was sent.
{
	my @queues = ('kept', 'kept.fifo');
	my $sqs = start_sqs(queues => \@queues);
	my $node = new_node('async', conf => <<'EOC');
synchronous_commit = off
wal_writer_delay = 10s
wal_buffers = 16MB
EOC

	setup_database($node, $sqs);
	$node->safe_psql('postgres', "SET synchronous_commit = on; $objects
		SELECT sqs_register_queue(q, server => 'aws') FROM unnest(ARRAY['kept', 'kept.fifo']) q");

	# a number or id may come again after a crash, so each body has its own
	my $script = <<'EOQ';
\set g random(1, 5)
BEGIN;
UPDATE turn SET n = n + 1 WHERE g = :g RETURNING n \gset
SELECT put('kept', NULL, gen_random_uuid()::text);
SELECT put('kept.fifo', 'g' || :g, :n || ' ' || gen_random_uuid());
COMMIT;
EOQ

	# body => number of times, and of each group the bodies in order of arrival
	my $taken = sub {
		my ($queue) = @_;
		my (%times, %groups);

		foreach (@{ $sqs->messages($queue) })
		{
			$times{ $_->{body} }++;
			push @{ $groups{ $_->{group_id} || '' } }, $_->{body};
		}
		return (\%times, \%groups);
	};
	my $committed = sub {
		my ($queue) = @_;
		return map { $_ => 1 } split /\n/, $node->safe_psql('postgres', "SELECT body FROM journal WHERE queue = '$queue'");
	};
	my $no_ghosts = sub {
		my ($name) = @_;

		foreach my $queue (@queues)
		{
			my ($times) = $taken->($queue);
			my %rows = $committed->($queue);
			my @ghosts = grep { !$rows{$_} } keys %$times;
			is(scalar(@ghosts), 0, "$name: nothing is in $queue whose transaction is lost")
			  or diag("@ghosts[0 .. ($#ghosts < 4 ? $#ghosts : 4)]");
		}
		return;
	};

	my ($finished, $lost, $survived) = (0, 0, 0);
	foreach my $round (1 .. $rounds)
	{
		my $name = "crash, $round";
		my $log = "$tmp/log$round";
		my $writers = start_writers($node, $script, '-l', "--log-prefix=$log", '-R', '500');

		more_is_sent($sqs, "$name: under load", @queues);
		answers_are_late($sqs, $name, 15000, @queues) if $round % 2;
		commits_are_lost($node, $name) if $round % 3 == 2;
		kill_servers($name, $node);
		writers_end($writers);
		$sqs->clear_faults;
		$node->start;
		$no_ghosts->($name);
		$finished = () = join('', map { slurp_file($_) } glob("$log*")) =~ /\n/g;
		$survived = $node->safe_psql('postgres', "SELECT count(*) FROM journal WHERE queue = 'kept'") - $survived;
		note("$name: of $finished transactions that were said to be committed $survived are there");
		$lost += $finished - $survived if $finished > $survived;
		$survived = $node->safe_psql('postgres', "SELECT count(*) FROM journal WHERE queue = 'kept'");
	}
	cmp_ok($lost, '>', 0, 'crash: transactions were lost');

	# VACUUM has frozen what is not durable, so that nothing tells any more
	# up to where WAL must be flushed
	{
		my $name = 'crash after VACUUM (FREEZE)';

		query_is($node, $left, '0|0|0', "$name: nothing else is to be sent", timeout => 120);
		my $before = sent($sqs, 'kept');
		my $pid = database_worker($node);
		poll_until(
			sub {
				kill('STOP', $pid);
				return 1
				  if $node->safe_psql('postgres', "SELECT backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity WHERE pid = $pid") eq 't'
				  && $node->safe_psql('postgres', <<'EOQ') =~ /t\|t$/;
SELECT put('kept', NULL, gen_random_uuid()::text) FROM generate_series(1, 5);
SELECT pg_current_wal_insert_lsn() AS lsn \gset
VACUUM (FREEZE) sqsbridge_internal.outbox_batches;
SELECT bool_and(age(relfrozenxid) < age(b.xmin)), pg_current_wal_flush_lsn() < :'lsn'
FROM pg_class c, sqsbridge_internal.outbox_batches b WHERE c.oid = 'sqsbridge_internal.outbox_batches'::regclass;
EOQ
				kill('CONT', $pid);
				return;
			},
			"$name: rows that are frozen, and not durable");
		kill('CONT', $pid);
		poll_until(sub { sent($sqs, 'kept') > $before }, "$name: they are sent");
		kill_servers($name, $node);
		$node->start;
		$no_ghosts->($name);
	}
	query_is($node, $left, '0|0|0', 'crash: nothing is left in the outbox', timeout => 120);
	$no_ghosts->('crash, in the end');
	foreach my $queue (@queues)
	{
		my ($times, $order) = $taken->($queue);
		my %rows = $committed->($queue);
		my $stats = $sqs->stats($queue);

		is(scalar(grep { !$times->{$_} } keys %rows), 0, "$queue: all that is committed is sent");
		note("$queue: " . keys(%rows) . " rows, sent $stats->{sent}, deduplicated $stats->{deduplicated}");
		next if $queue eq 'kept';
		is(scalar(grep { $_ > 1 } values %$times), 0, "$queue: once");

		my @wrong;
		foreach my $bodies (values %$order)
		{
			my $n = 0;
			push @wrong, grep { (split / /)[0] != ++$n } @$bodies;
		}
		is(scalar(@wrong), 0, "$queue: in the order of the commits, without gaps") or diag($wrong[0]);
	}
	$node->stop;
	$sqs->stop_sqs;
	check_log(
		$node,
		qr/FATAL:  the database system is (?:starting up|not yet accepting|shutting down)/,
		qr/FATAL:  terminating connection due to administrator command/);
}

# ---- two servers send to each other, and are killed on the way

{
	my $messages = $long ? 10_000 : 1000;
	my $kills = $long ? 9 : 3;
	my @queues = ('there', 'back');
	my $sqs = start_sqs(queues => [ map { "$_,VisibilityTimeout=3" } @queues ]);
	my ($here, $far) = map { new_node($_, conf => "sqsbridge.failure_retention = 1d\n") } 'here', 'far';

	foreach ($here, $far)
	{
		setup_database($_, $sqs);
		$_->safe_psql('postgres', 'CREATE TABLE effect (body text); CREATE TABLE source (body text)');
	}
	$here->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION note_down(m sqs_message) RETURNS void LANGUAGE sql AS 'INSERT INTO effect VALUES (m.body)';
SELECT sqs_register_queue('there', server => 'aws');
SELECT sqs_register_queue('back', server => 'aws', handler => 'note_down', concurrency => 2);
EOQ
	$far->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION pass_on(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO effect VALUES (m.body);
  IF m.body::int % 50 = 0 AND m.receive_count = 1 THEN
    PERFORM sqs_enqueue('back', 'failed ' || m.body);
    RAISE EXCEPTION 'not the first time';
  END IF;
  PERFORM sqs_enqueue('back', m.body);
END $$;
SELECT sqs_register_queue('back', server => 'aws');
SELECT sqs_register_queue('there', server => 'aws', handler => 'pass_on', concurrency => 2, retry_delay => '1 s');
EOQ
	my $done = sub { $sqs->stats('back')->{deleted} };
	my $fed = 0;

	$sqs->fault(kind => 'latency', ms => 100, action => 'SendMessageBatch');
	foreach my $round (1 .. $kills)
	{
		my @victims = $round % 3 == 1 ? $far : $round % 3 == 2 ? $here : ($far, $here);
		my $name = "chain, $round, kill -9 of " . join(' and ', map { $_->name } @victims);
		my $before = $done->();
		my $until = int($messages * $round / $kills);

		# many transactions, some of them with many messages
		while ($fed < $until)
		{
			my $first = $fed + 1;
			$fed += 1 + int(rand(60));
			$fed = $until if $fed > $until;
			$here->safe_psql('postgres', "WITH s AS (INSERT INTO source SELECT generate_series($first, $fed) RETURNING body)
				SELECT count(sqs_enqueue('there', body)) FROM s");
		}
		poll_until(sub { $done->() > $before }, "$name: messages are on the way");
		kill_servers($name, @victims);
		$_->start foreach @victims;
	}
	foreach my $node ($here, $far)
	{
		my $name = $node->name;

		query_true($node, "SELECT count(*) >= $messages FROM effect", "chain, $name: all has had its effect", timeout => 120);
		query_is($node, $left, '0|0|0', "chain, $name: nothing is left in the outbox");
	}
	$sqs->is_empty($_, "chain: nothing is left in $_") foreach @queues;
	foreach my $node ($here, $far)
	{
		is( $node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT body), min(body::int), max(body::int) FROM effect'),
			"$messages|$messages|1|$messages", 'chain, ' . $node->name . ': once, and nothing else had any');
	}
	is($here->safe_psql('postgres', 'SELECT count(*) FROM source'), $messages, 'chain: as many as were sent');
	is($here->safe_psql('postgres', 'SELECT count(*) FROM sqs_failures'), 0, 'chain, here: no failures');
	is( $far->safe_psql('postgres', "SELECT count(*) > 0, count(*) FILTER (WHERE message <> 'not the first time') FROM sqs_failures"),
		't|0', 'chain, far: those that were meant to fail did, and no other');
	foreach my $queue (@queues)
	{
		my $s = $sqs->stats($queue);
		note("$queue: sent $s->{sent}, delivered $s->{received}");
		is("$s->{visible} $s->{in_flight} $s->{deleted}", "0 0 $s->{sent}", "SQS's books of $queue: all sent, all deleted");
		cmp_ok($s->{sent}, '>=', $messages, "$queue: each was sent");
	}

	foreach my $node ($here, $far)
	{
		$node->stop;
		check_log(
			$node,
			qr/ERROR:  not the first time/,
			qr/FATAL:  the database system is (?:starting up|not yet accepting|shutting down)/,
			qr/FATAL:  terminating connection due to administrator command/);
	}
	$sqs->stop_sqs;
}

done_testing();
