# send.pl: the measurements of send.sh, which starts the servers and calls this
# with the file that holds sqsd's port and PostgreSQL's directory.  Perl's core
# modules only.  See README.md for what is measured and how.
use strict;
use warnings;

use FindBin;
use Time::HiRes qw(time usleep);

use lib $FindBin::Bin;
use Bench;

my ($portfile, $pgdir, $tls_portfile) = @ARGV;
my $rows = $ENV{ROWS};
my $runs = $ENV{RUNS};
my $quick = $ENV{QUICK};
my $minutes = $ENV{MINUTES};
my $peer_loops = $ENV{PEER_LOOPS} || 4;
my @schemes = qw(http https);
my %only = map { $_ => 1 } split /,/, $ENV{ONLY};
my $pace_rate = 100;
my $pace_seconds = $quick ? 5 : 20;

begin_bench($portfile, $pgdir, $quick ? 120 : 600);
my %endpoints = (http => $endpoint, https => 'https://127.0.0.1:' . read_port($tls_portfile));

sub setup
{
	sql(<<"EOQ");
SET client_min_messages = error;
CREATE EXTENSION sqsbridge;
CREATE TABLE plain (queue text NOT NULL, body text NOT NULL CHECK (octet_length(body) BETWEEN 1 AND 1048576),
  attributes jsonb, group_id text, deduplication_id text, deliver_at timestamptz, system_attributes jsonb,
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, enqueued_at timestamptz NOT NULL DEFAULT now(),
  enqueued_by text NOT NULL DEFAULT current_user);
EOQ
	foreach my $scheme (@schemes)
	{
		sql(<<"EOQ");
CREATE SERVER $scheme FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '$endpoints{$scheme}');
CREATE USER MAPPING FOR PUBLIC SERVER $scheme OPTIONS (access_key_id 'KEY', secret_access_key 'SECRET');
DO 'BEGIN PERFORM sqs_register_queue(''${scheme}_'' || q, server => ''$scheme'', queue_name => q)
	FROM unnest(ARRAY[''out'', ''out.fifo'']) q; END';
EOQ
	}
	sql("DO 'BEGIN PERFORM sqs_register_queue(q, server => ''http'', queue_name => ''out'') FROM unnest(ARRAY[''out'', ''off'']) q; END'");
	sql("DO 'BEGIN PERFORM sqs_disable_queue(''off''); END'");
	return;
}

# sqsd keeps what it gets; a full queue would make it slower from run to run.
sub empty_queue
{
	admin('POST', 'reset');
	return;
}

# How many rows of the queue were sent: a counter, which costs nothing to read.
sub sent
{
	my ($queue) = @_;
	return sql("SELECT sent FROM sqs_get_queue_stats() s JOIN sqs_queues q USING (queue_id) WHERE name = '$queue'") || 0;
}

sub wait_sent
{
	my ($queue, $n) = @_;
	wait_until(sub { sent($queue) >= $n }, "$n rows sent");
	return;
}

# A full outbox: rows wait while the queue is disabled, then go.
sub drain
{
	my ($case, $scheme) = @_;
	my $sqs_queue = $case->{groups} ? 'out.fifo' : 'out';
	my $queue = "${scheme}_$sqs_queue";
	my $n = $case->{rows};
	my $group = $case->{groups} ? "'g' || i % $case->{groups}" : 'NULL';

	$endpoint = $endpoints{$scheme};
	empty_queue();
	admin('POST', 'fault', { kind => 'latency', ms => $case->{latency}, action => 'SendMessageBatch' })
	  if $case->{latency} > 0;
	sql(sprintf q{SELECT sqs_alter_queue('%s', group_batch_size => %d, enabled => false)}, $queue, $case->{group_batch} || 1);
	sql("INSERT INTO sqs_outbox (queue, body, group_id)
		SELECT '$queue', '{\"order\": ' || i || ', \"item\": \"tea\", \"price\": 4.20}', $group FROM generate_series(1, $n) i");
	sql('CHECKPOINT');
	my $before = sent($queue);
	my $cpu = server_cpu();
	my $start = time();
	sql("SELECT sqs_enable_queue('$queue')");
	wait_sent($queue, $before + $n);
	my $seconds = time() - $start;
	wait_until(sub { sql("SELECT count(*) FROM sqs_outbox WHERE queue = '$queue'") == 0 }, 'rows deleted');
	$cpu = server_cpu() - $cpu;
	my $books = books($sqs_queue);
	$endpoint = $endpoints{http};
	die "SQS has $books->{sent} messages, not $n\n" if $books->{sent} != $n;
	return { rate => $n / $seconds, cpu => $cpu / $n, calls => api_calls($books) / $n };
}

# The same by the peer, from a plain table.
sub drain_by_peer
{
	my ($latency, $n) = @_;
	empty_queue();
	admin('POST', 'fault', { kind => 'latency', ms => $latency, action => 'SendMessageBatch' })
	  if $latency > 0;
	sql('TRUNCATE plain');
	sql("INSERT INTO plain (queue, body)
		SELECT 'out', '{\"order\": ' || i || ', \"item\": \"tea\", \"price\": 4.20}' FROM generate_series(1, $n) i");
	sql('VACUUM ANALYZE plain');
	sql('CHECKPOINT');
	my $cpu = server_cpu();
	my (undef, undef, @before) = times;
	my ($node) = glob "$ENV{WORK}/../peer/node_modules/node-linux-*/bin/node";
	$node = 'node' unless defined $node;
	local %ENV = (%ENV, ENDPOINT => $endpoint, QUEUE => 'out', LOOPS => $peer_loops, PGHOST => "$pgdir/socket",
		PGUSER => 'postgres', PGDATABASE => 'bench', NODE_ENV => 'production');
	open my $peer, '-|', $node, "$ENV{WORK}/../peer/send.mjs" or die "$node: $!";
	my $seconds = do { local $/; <$peer> };
	close $peer or die "the peer failed\n";
	$cpu = server_cpu() - $cpu;
	my (undef, undef, @after) = times;
	$cpu += 1e6 * ($after[0] + $after[1] - $before[0] - $before[1]);
	my $books = books('out');
	die "SQS has $books->{sent} messages, not $n\n" if $books->{sent} != $n;
	return { rate => $n / $seconds, cpu => $cpu / $n, calls => api_calls($books) / $n };
}

sub pgbench
{
	my ($script, @options) = @_;
	my $file = "$ENV{WORK}/bench.sql";
	open my $f, '>', $file or die "$file: $!";
	print $f $script;
	close $f;
	open my $p, '-|', "$ENV{PGBIN}/pgbench", '-h', "$pgdir/socket", '-U', 'postgres', '-n',
	  @options, '-f', $file, 'bench'
	  or die "pgbench: $!";
	my $out = do { local $/; <$p> };
	close $p or die "pgbench failed\n";
	$out =~ /tps = ([0-9.]+)/ or die "pgbench: $out\n";
	return $1;
}

# From just before COMMIT to arrival: the body is the time of the INSERT, which
# is all that the transaction does.
sub latency
{
	empty_queue();
	pgbench("INSERT INTO sqs_outbox (queue, body) VALUES ('out', (extract(epoch FROM clock_timestamp()) * 1000)::text);\n",
		'-R', $pace_rate, '-T', $pace_seconds, '-c', 2);
	my $messages;
	wait_until(sub { sql('SELECT count(*) FROM sqs_outbox') == 0 }, 'rows sent');
	$messages = admin('GET', 'messages?queue=out');
	$messages = $messages->{messages} if ref $messages eq 'HASH';
	# sqsd's times are whole milliseconds, rounded down: half a one is added
	my @ms = sort { $a <=> $b } map { $_->{sent_ms} + 0.5 - $_->{body} } @$messages;
	return { n => scalar(@ms), p50 => $ms[ $#ms * 0.5 ], p99 => $ms[ $#ms * 0.99 ], max => $ms[-1],
		calls => api_calls(books('out')) / @ms };
}

# Rows/s, minute by minute, while another session holds a snapshot.
sub held
{
	my @rates;
	my $seconds = $quick ? 5 : 60;
	open my $holder, '|-', "$ENV{PGBIN}/psql", '-h', "$pgdir/socket", '-U', 'postgres', '-Xq', '-o', '/dev/null', 'bench'
	  or die "psql: $!";
	$holder->autoflush(1);
	print $holder "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT count(*) FROM pg_class;\n";
	wait_until(sub { sql("SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND backend_xmin IS NOT NULL") >= 1 },
		'the snapshot');
	foreach my $minute (1 .. $minutes)
	{
		my $n = 0;
		my $start = time();
		while (time() - $start < $seconds)
		{
			empty_queue();
			my $before = sent('out');
			# transactions of all sizes: one of 20,000 rows, 1,000 of one
			sql("INSERT INTO sqs_outbox (queue, body) SELECT 'out', 'row ' || i FROM generate_series(1, 20000) i");
			sql("DO 'BEGIN FOR i IN 1 .. 1000 LOOP INSERT INTO sqs_outbox (queue, body) VALUES (''out'', ''row'' || i); COMMIT; END LOOP; END'");
			wait_sent('out', $before + 21000);
			$n += 21000;
		}
		push @rates, $n / (time() - $start);
	}
	my $dead = sql("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'outbox_rows'");
	close $holder;
	return (\@rates, $dead);
}

setup();
print "\n", sql('SELECT version()') =~ s/ on .*//r, ', ', machine(), "\n";
printf "%s rows a drain, medians of %d run%s\n", thousands($rows), $runs, $runs == 1 ? '' : 's';

# One line of the table of drains; returns the medians.
sub print_drains
{
	my ($name, @r) = @_;
	my @rates = sort { $a <=> $b } map { $_->{rate} } @r;
	my %m = map { my $k = $_; ($k => median(map { $_->{$k} } @r)) } qw(rate calls cpu);
	printf "%-40s %10s %22s %10.3f %10.1f\n", $name, thousands($m{rate}),
	  '(' . thousands($rates[0]) . ' - ' . thousands($rates[-1]) . ')', $m{calls}, $m{cpu};
	return \%m;
}

if ($only{drain})
{
	my @cases = (
		{ name => 'SQS answers at once', latency => 0, rows => $rows, rate => 60000, calls => 0.11, peer => 1 },
		{ name => 'SQS answers after 20 ms', latency => 20, rows => $rows, rate => 60000, calls => 0.11, peer => 1 },
		{ name => 'SQS answers after 100 ms', latency => 100, rows => $rows, rate => 25000, calls => 0.11, peer => 1 },
		{ name => 'FIFO, 100 groups, at once', latency => 0, groups => 100, rows => $rows },
		{ name => 'FIFO, 1 group, at once', latency => 0, groups => 1, rows => $rows / 10, rate => 3000 },
		{ name => 'FIFO, 1 group, batches of 10, at once', latency => 0, groups => 1, group_batch => 10, rows => $rows / 10 },
	);
	printf "\n%-40s %10s %22s %10s %10s\n", 'draining a full outbox', 'rows/s', '(from - to)', 'calls/row', 'CPU µs/row';
	foreach my $case (@cases)
	{
		my (%r, %m);
		foreach (1 .. $runs)
		{
			push @{ $r{$_} }, drain($case, $_) foreach @schemes;
			push @{ $r{peer} }, drain_by_peer($case->{latency}, $rows / 20) if $case->{peer} && $ENV{PEER};
		}
		$m{$_} = print_drains("$case->{name}, $_", @{ $r{$_} }) foreach grep { $r{$_} } @schemes, 'peer';
		foreach my $scheme (@schemes)
		{
			target("rows/s, $case->{name}, $scheme", $m{$scheme}{rate}, '>=', $case->{rate}) if $case->{rate};
			target("API calls per row, $case->{name}, $scheme", $m{$scheme}{calls}, '<=', $case->{calls}, '%.3f') if $case->{calls};
		}
		target("CPU, $case->{name}, https : http", $m{https}{cpu} / $m{http}{cpu}, '<=', 1.15, '%.2f');
	}
}

if ($only{latency})
{
	my @r = map { latency() } 1 .. $runs;
	my %m = map { my $k = $_; ($k => median(map { $_->{$k} } @r)) } qw(p50 p99 max calls);
	printf "\n%-40s %10s %10s %10s %10s\n", "INSERT to arrival, $pace_rate rows/s", 'p50 ms', 'p99 ms', 'worst ms', 'calls/row';
	printf "%-40s %10.2f %10.2f %10.2f %10.3f\n", 'single-row transactions', @m{qw(p50 p99 max calls)};
	target("p99 ms from INSERT to arrival at $pace_rate rows/s", $m{p99}, '<=', 10, '%.2f');
}

if ($only{insert})
{
	my $seconds = $quick ? 3 : 10;
	my (%one, %many);
	foreach (1 .. $runs)
	{
		# into a disabled queue: what the relay costs is measured above
		foreach my $table ('plain', 'sqs_outbox')
		{
			push @{ $one{$table} },
			  pgbench("INSERT INTO $table (queue, body) VALUES ('off', 'a message of some length');\n", '-T', $seconds, '-c', 1);
			my $n = 50000;
			my $start = time();
			sql("INSERT INTO $table (queue, body) SELECT 'off', 'a message of some length' FROM generate_series(1, $n)");
			push @{ $many{$table} }, $n / (time() - $start);
		}
	}
	printf "\n%-40s %14s %14s %10s\n", 'INSERT, rows/s', 'plain table', 'outbox', 'ratio';
	foreach ([ 'a transaction per row, one session', \%one, 0.8 ], [ 'one statement', \%many, 0.6 ])
	{
		my ($name, $rates, $limit) = @$_;
		my ($p, $o) = (median(@{ $rates->{plain} }), median(@{ $rates->{sqs_outbox} }));
		printf "%-40s %14s %14s %10.2f\n", $name, thousands($p), thousands($o), $o / $p;
		target("INSERT, $name, outbox : plain table", $o / $p, '>=', $limit, '%.2f');
	}
}

if ($only{send})
{
	my $seconds = $quick ? 3 : 10;
	my (@calls, @batches);
	foreach (1 .. $runs)
	{
		empty_queue();
		push @calls, pgbench("SELECT sqs_send('out', 'a message of some length');\n", '-T', $seconds, '-c', 1);
		my $n = 20000;
		my $start = time();
		my $ok = sql("SELECT count(message_id) FROM sqs_send_batch('out', ARRAY(SELECT sqs_outgoing('a message of some length')
			FROM generate_series(1, $n)))");
		die "$ok of $n messages sent\n" if $ok != $n;
		push @batches, $n / (time() - $start);
	}
	printf "\n%-40s %14s\n", 'from one session', 'messages/s';
	printf "%-40s %14s\n", 'sqs_send()', thousands(median(@calls));
	printf "%-40s %14s\n", 'sqs_send_batch()', thousands(median(@batches));
}

if ($only{held})
{
	my ($rates, $dead) = held();
	printf "\n%-40s %s\n", 'while a snapshot is held, rows/s in each ' . ($quick ? '5 s' : 'minute'),
	  join ' ', map { thousands($_) } @$rates;
	printf "%-40s %s\n", 'dead rows in the outbox at the end', thousands($dead);
	my ($slowest) = sort { $a <=> $b } @$rates;
	target('slowest part of the first, with a snapshot held, %', 100 * $slowest / $rates->[0], '>=', 80, '%.0f');
}

print_targets();
