# consume.pl: the measurements of consume.sh, which starts the servers and
# calls this with the file that holds sqsd's port and PostgreSQL's directory.
# Perl's core modules only.  See README.md for what is measured and how.
use strict;
use warnings;

use FindBin;
use IO::Socket::INET;
use List::Util qw(sum0 min max);
use POSIX qw(ceil);
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(time usleep);

use lib $FindBin::Bin;
use Bench;

my ($portfile, $pgdir) = @ARGV;
my $messages = $ENV{MESSAGES};
my $peer_messages = $ENV{PEER_MESSAGES};
my $runs = $ENV{RUNS};
my $with_peer = $ENV{PEER};
my $quick = $ENV{QUICK};
my $pace_seconds = $quick ? 5 : 20;
my $pace_rate = 100;
my $idle_polls = $quick ? 1 : 4;
my $many_queues = $ENV{QUEUES};
my %only = map { $_ => 1 } split /,/, $ENV{ONLY};
my %queue = (bridge => 'bridge', peer => 'peer');

# What the bridge drains: its name for the queue at this endpoint.
our $bridge_queue = 'bridge';
our $watch;    # called while something is awaited

# The peer's settings for a concurrency: connections in its pool, consumers
# in its process.
our $peer_consumers = $ENV{PEER_CONSUMERS} || 4;

begin_bench($portfile, $pgdir, $quick ? 120 : 600);
my $tls_endpoint = do
{
	open my $f, '<', "$portfile.tls" or die "$portfile.tls: $!";
	'https://127.0.0.1:' . (<$f> + 0);
};

# ---- the two consumers ----

my @peer_pids;

sub start_peer
{
	my ($concurrency) = @_;
	my $pid = fork();
	die "fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		my ($node) = glob "$ENV{WORK}/peer/node_modules/node-linux-*/bin/node";
		$node = 'node' unless defined $node;
		%ENV = (%ENV,
			ENDPOINT => $endpoint, QUEUE => $queue{peer}, CONSUMERS => $peer_consumers,
			POOL => $concurrency, PGHOST => "$pgdir/socket", PGUSER => 'app',
			PGDATABASE => 'bench', NODE_ENV => 'production');
		open STDOUT, '>>', "$ENV{WORK}/peer.log";
		open STDERR, '>&', \*STDOUT;
		exec $node, "$ENV{WORK}/peer/consume.mjs" or die "$node: $!";
	}
	@peer_pids = ($pid);
	if (open my $f, '>', "$ENV{WORK}/peer.pid") { print $f "$pid\n"; }
	return;
}

sub stop_peer
{
	foreach my $pid (@peer_pids)
	{
		kill 'TERM', $pid;
		waitpid $pid, 0;
	}
	unlink "$ENV{WORK}/peer.pid";
	@peer_pids = ();
	return;
}

END
{
	my $status = $?;
	stop_peer();
	$? = $status;
}

sub peer_cpu
{
	return process_cpu(map { read_stat($_) } @peer_pids);
}

sub start_bridge
{
	my ($concurrency, $exactly_once, $wait_time) = @_;
	sql(sprintf q{SELECT sqs_alter_queue('%s', concurrency => %d, exactly_once => %s, wait_time => '%s')},
		$bridge_queue, $concurrency, $exactly_once ? 'true' : 'false', $wait_time || '20 s');
	sql("SELECT sqs_enable_queue('$bridge_queue')");
	return;
}

# Until nothing of it is left: its processes' time must not count later.
sub stop_bridge
{
	sql("SELECT sqs_disable_queue('$bridge_queue')");
	wait_until(
		sub { sql(q{SELECT count(*) FROM sqs_stats_workers WHERE kind IN ('queue worker', 'handler worker')}) == 0 },
		'the queue worker leaves');
	return;
}

# ---- measurements ----

# With $bad_of, one of so many is a message that its handler discards.
our $bad_of;

sub fill
{
	my ($queue, $count, $body) = @_;
	if (!$bad_of)
	{
		admin('POST', 'fill', { queue => $queue, count => $count + 0, body => $body || '{i}' });
		return;
	}
	for (my $i = 0; $i < $count; $i += $bad_of)
	{
		admin('POST', 'fill', { queue => $queue, count => $bad_of - 1, body => '{i}', start => $i + 1 });
		admin('POST', 'fill', { queue => $queue, count => 1, body => 'bad {i}', start => $i + $bad_of });
	}
	return;
}

sub deleted
{
	my ($queue, $count) = @_;
	wait_until(sub { $watch->() if $watch; books($queue)->{deleted} >= $count },
		"$count messages deleted from queue $queue");
	return;
}

sub empty_tables
{
	sql('TRUNCATE seen, sqsbridge_internal.inbox');
	sql('CHECKPOINT');
	return;
}

# Every message has its row, once, and SQS has none left.
sub check_once
{
	my ($queue, $count) = @_;
	my ($rows, $distinct) = split ' ', sql('SELECT count(*), count(DISTINCT body) FROM seen');
	my $books = books($queue);
	my $left = $books->{visible} + $books->{in_flight} + $books->{delayed};

	my $effects = $bad_of ? $count - $count / $bad_of : $count;

	return $rows == $effects && $distinct == $effects && $books->{deleted} == $count && $left == 0
	  ? 'yes'
	  : "NO: $count messages, $rows rows, $distinct distinct, $left left";
}

# Call a function with the bridge and sqsd at the endpoint with TLS.
sub through_tls
{
	my ($function) = @_;
	local $Bench::endpoint = $tls_endpoint;    # Bench's own, of which ours is an alias
	local $bridge_queue = 'secure';
	return $function->();
}

our $body = '{i}';

# Drain a full queue.  $kind is bridge or peer.
sub drain
{
	my ($kind, $count, $concurrency, $exactly_once, @faults) = @_;
	my $queue = $queue{$kind};
	my %r;

	admin('POST', 'reset');
	if ($kind eq 'peer')
	{
		# its compiler is warm and its polls are open
		start_peer($concurrency);
		my $warm = min(2000, ceil($count / 5));
		fill($queue, $warm);
		deleted($queue, $warm);
		admin('POST', 'reset');
	}
	empty_tables();
	my $flushes = wal_flushes();
	my $server = server_cpu();
	my $client = peer_cpu();

	fill($queue, $count, $body);
	admin('POST', 'fault', { queue => $queue, %$_ }) foreach @faults;
	# a queue that is disabled stops when its last poll has ended
	start_bridge($concurrency, $exactly_once, '1 s') if $kind eq 'bridge';
	deleted($queue, $count);
	$r{server_cpu} = (server_cpu() - $server) / $count;
	$r{client_cpu} = (peer_cpu() - $client) / $count;
	$r{calls} = api_calls(books($queue)) / $count;
	$r{flushes} = (wal_flushes() - $flushes) / $count;
	$kind eq 'peer' ? stop_peer() : stop_bridge();

	my $seconds = sql(q{SELECT extract(epoch FROM max(t) - min(t))
		FROM (SELECT pg_xact_commit_timestamp(xmin) AS t FROM seen) s});
	$r{rate} = $count / max($seconds, 1e-6);
	$r{once} = check_once($queue, $count);
	return \%r;
}

sub medians
{
	my @results = @_;
	my %m;
	foreach my $key (keys %{ $results[0] })
	{
		if ($key eq 'once')
		{
			my ($bad) = grep { $_ ne 'yes' } map { $_->{once} } @results;
			$m{once} = defined $bad ? $bad : 'yes';
			next;
		}
		$m{$key} = median(map { $_->{$key} } @results);
	}
	$m{lowest} = min(map { $_->{rate} } @results) if exists $m{rate};
	$m{highest} = max(map { $_->{rate} } @results) if exists $m{rate};
	return \%m;
}

# Receive and delete calls per message while there is a backlog: from the time
# when a fifth is deleted until nine tenths are.  The handler takes so long (ms).
sub backlog_calls
{
	my ($ms, $concurrency) = @_;
	my $count = $ms == 0 ? 50_000 : max(100, min(20_000, $concurrency * 15_000 / $ms));

	admin('POST', 'reset');
	empty_tables();
	sql("SELECT sqs_alter_queue('bridge', handler => 'handle_$ms')");
	fill('bridge', $count);
	start_bridge($concurrency, 1);
	deleted('bridge', $count / 5);
	my $before = books('bridge');
	my $start = time();
	deleted('bridge', $count * 9 / 10);
	my $after = books('bridge');
	my $seconds = time() - $start;
	deleted('bridge', $count);
	stop_bridge();
	sql("SELECT sqs_alter_queue('bridge', handler => 'handle')");
	my $n = $after->{deleted} - $before->{deleted};
	return {
		calls => (api_calls($after) - api_calls($before)) / $n,
		rate => $n / $seconds,
		ideal => $ms > 0 ? $concurrency * 1000 / $ms : 0,
		in_flight => $after->{max_in_flight} };
}

# Sends at a constant pace; a late message does not delay the next.  The body
# is its number and the time just before its call, in µs.
sub paced_send
{
	my ($queue, $count) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port)
	  or die "sqsd: $!";
	setsockopt($socket, IPPROTO_TCP, TCP_NODELAY, 1);
	my $start = time() + 0.1;

	for my $i (1 .. $count)
	{
		my $at = $start + $i / $pace_rate;
		my $early = $at - time();
		usleep($early * 1e6) if $early > 0;

		my $body = sprintf '{"QueueUrl":"%s/000000000000/%s","MessageBody":"%d %.0f"}',
		  $endpoint, $queue, $i, time() * 1e6;
		syswrite $socket, "POST / HTTP/1.1\r\nHost: 127.0.0.1:$port\r\n"
		  . "Content-Type: application/x-amz-json-1.0\r\nX-Amz-Target: AmazonSQS.SendMessage\r\n"
		  . 'Authorization: AWS4-HMAC-SHA256 Credential=A/20200101/us-east-1/sqs/aws4_request, '
		  . 'SignedHeaders=host, Signature=' . ('0' x 64) . "\r\n"
		  . 'Content-Length: ' . length($body) . "\r\n\r\n$body";
		my $reply = '';
		until ($reply =~ /\r\n\r\n/
			&& $reply =~ /Content-Length: *(\d+)/i
			&& length($reply) - index($reply, "\r\n\r\n") - 4 >= $1)
		{
			sysread $socket, $reply, 65536, length $reply or die 'sqsd closed the connection';
		}
		die $reply unless $reply =~ m{^HTTP/1.1 200};
	}
	return;
}

sub latency
{
	my ($kind) = @_;
	my $queue = $queue{$kind};
	my $count = $pace_rate * $pace_seconds;
	my $warm = $pace_rate;
	my %r;

	admin('POST', 'reset');
	empty_tables();
	$kind eq 'peer' ? start_peer(4) : start_bridge(1, 1);
	paced_send($queue, $warm);
	deleted($queue, $warm);
	empty_tables();
	my $books = books($queue);
	my $server = server_cpu();
	paced_send($queue, $count);
	deleted($queue, $count + $warm);
	$r{server_cpu} = (server_cpu() - $server) / $count;
	$r{calls} = (api_calls(books($queue)) - api_calls($books)) / $count;
	$kind eq 'peer' ? stop_peer() : stop_bridge();

	($r{p50}, $r{p99}, $r{max}, my $rows, my $distinct) = split ' ', sql(q{
		SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY us) / 1000.0,
			percentile_disc(0.99) WITHIN GROUP (ORDER BY us) / 1000.0,
			max(us) / 1000.0, count(*), count(DISTINCT body)
		FROM (SELECT body, extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000
					- split_part(body, ' ', 2)::numeric AS us
			FROM seen) s});
	$r{once} = $rows == $count && $distinct == $count ? 'yes' : "NO: $count messages, $rows rows, $distinct distinct";
	return \%r;
}

# Calls an hour of idle queues with wait_time 20 s: from one ReceiveMessage to
# the $idle_polls-th after it.
sub idle
{
	my @kinds = @_;
	my (%from, %first, %result, %last);

	admin('POST', 'reset');
	start_bridge(1, 1) if grep { $_ eq 'bridge' } @kinds;
	# one consumer: what sqs-consumer needs at least
	local $peer_consumers = 1;
	start_peer(1) if grep { $_ eq 'peer' } @kinds;
	wait_until(
		sub {
			foreach my $kind (grep { !exists $result{$_} } @kinds)
			{
				my $books = books($queue{$kind});
				my $calls = api_calls($books);
				my $now = time();

				# a reply without a message has been seen: the start is over
				next if $books->{empty_receives} == 0;
				if (!exists $last{$kind})
				{
					$last{$kind} = $calls;
					next;
				}
				next if $calls == $last{$kind};
				$last{$kind} = $calls;
				if (!exists $from{$kind})
				{
					$from{$kind} = $now;
					$first{$kind} = $calls;
				}
				elsif ($calls >= $first{$kind} + $idle_polls)
				{
					# looks are 50 ms apart: more than a decimal cannot be told
					$result{$kind} = sprintf '%.1f',
					  ($calls - $first{$kind}) * 3600 / ($now - $from{$kind});
				}
			}
			return keys %result == @kinds;
		},
		'polls of an idle queue');
	stop_peer();
	stop_bridge() if grep { $_ eq 'bridge' } @kinds;
	return \%result;
}

# Which process works for the queue, and the memory of it with the most
# connections that it had meanwhile.
sub watch_memory
{
	my ($peak) = @_;
	my $pid;

	return sub {
		$pid ||= sql("SELECT max(pid) FROM sqs_stats_workers WHERE kind = 'queue worker'") or return;
		my $sockets = grep { defined $_ && /^socket:/ } map { readlink } glob "/proc/$pid/fd/*";
		@$peak = ($sockets, memory($pid)) if $sockets > $peak->[0];
	};
}

# An action of SQS for which sqsd has no admin call.
sub call_sqs
{
	my ($action, $in) = @_;
	my $reply = $http->request('POST', $endpoint, {
		headers => {
			'Content-Type' => 'application/x-amz-json-1.0',
			'X-Amz-Target' => "AmazonSQS.$action",
			Authorization => 'AWS4-HMAC-SHA256 Credential=A/20200101/us-east-1/sqs/aws4_request, '
			  . 'SignedHeaders=host, Signature=' . ('0' x 64) },
		content => $json->encode($in) });
	die "$action: $reply->{status} $reply->{content}" unless $reply->{success};
	return;
}

# Many queues, a fifth of which is busy.  $busy messages for each of these.
sub many
{
	my ($n, $busy) = @_;
	my $share = max(1, int($n / 5));
	my @names = map { "many$_" } 1 .. $n;
	my %r;
	# read without a parser, as it is long; no other queue has a message or a poll
	my $figures = sub {
		my ($what) = @_;
		return $http->get("$endpoint/_sqsd/stats")->{content} =~ /"$what": *(\d+)/g;
	};
	my $polling = sub { return $n == grep { $_ > 0 } $figures->('open_polls') };
	my $pids = sub { return split ' ', sql("SELECT string_agg(pid::text, ' ') FROM sqs_stats_workers WHERE kind = '$_[0]'"); };

	admin('POST', 'reset');
	empty_tables();
	call_sqs('CreateQueue', { QueueName => $_ }) foreach @names;
	sql("SET ROLE app; DO \$\$ BEGIN PERFORM sqs_register_queue('many' || i, 'aws', 'handle', enabled => false) FROM generate_series(1, $n) i; END \$\$");
	my $shared = memory_available();
	my $start = time();
	sql("SELECT count(sqs_enable_queue('many' || i)) FROM generate_series(1, $n) i");
	wait_until($polling, 'all queues poll');
	$r{start} = time() - $start;

	# handlers that were started exit, then nothing is left to do but to poll
	my @workers = $pids->('queue worker');
	my $cpu = server_cpu();
	$start = time();
	wait_until(sub { time() > $start + ($quick ? 5 : 20) }, 'time passes');
	$r{idle} = (server_cpu() - $cpu) / (time() - $start) / 1e4;
	$r{memory} = memory(@workers) / @workers;
	$r{fds} = max(map { my $pid = $_; scalar(my @all = glob "/proc/$pid/fd/*") } @workers);

	# starting the handlers is another matter
	my $first = 10;
	my $drained = sub { my ($count) = @_; wait_until(sub { sum0($figures->('deleted')) >= $count }, 'the busy queues are drained') };
	$cpu = server_cpu();
	fill($_, $first) foreach @names[ 0 .. $share - 1 ];
	$drained->($share * $first);
	$r{first} = (server_cpu() - $cpu) / $share / 1000;
	$cpu = server_cpu();
	$start = time();
	fill($_, $busy) foreach @names[ 0 .. $share - 1 ];
	$drained->($share * ($first + $busy));
	$r{rate} = $share * $busy / (time() - $start);
	$r{busy} = (server_cpu() - $cpu) / ($share * $busy);
	my @handlers = $pids->('handler worker');
	$r{handler_memory} = @handlers ? memory(@handlers) / @handlers : 0;
	$r{busy_memory} = memory(@workers) / @workers;
	$r{all_memory} = $shared - memory_available();
	$r{once} = sql('SELECT count(*) FROM seen') == $share * ($first + $busy) ? 'yes' : 'NO';

	foreach my $what ('stop', 'start')
	{
		$start = time();
		system("$ENV{PGBIN}/pg_ctl", '-s', '-D', "$pgdir/data", '-l', "$pgdir/log", '-w', '-t', 120,
			$what, $what eq 'stop' ? ('-m', 'fast') : ()) == 0
		  or die "pg_ctl $what";
		wait_until($polling, 'all queues poll again') if $what eq 'start';
		$r{"server_$what"} = time() - $start;
	}
	begin_bench($portfile, $pgdir, $quick ? 120 : 600);
	sql("SELECT count(sqs_unregister_queue('many' || i)) FROM generate_series(1, $n) i");
	return \%r;
}

sub memory_available
{
	open my $f, '<', '/proc/meminfo' or return 0;
	while (my $line = <$f>) { return $1 if $line =~ /^MemAvailable: +(\d+)/; }
	return 0;
}

# ---- the table ----

sub head
{
	my ($what) = @_;
	printf "\n%-36s %10s %17s %9s %9s %9s %9s  %s\n", $what, 'messages/s', '(from - to)', 'calls',
	  'flushes', 'server', 'client', 'exactly';
	printf "%-36s %10s %17s %9s %9s %9s %9s  %s\n", '', '', '', '/message', '/message',
	  'µs/mess.', 'µs/mess.', 'once';
	return;
}

sub row
{
	my ($name, $m) = @_;
	printf "%-36s %10s %17s %9.3f %9.4f %8s %8s  %s\n", $name, thousands($m->{rate}),
	  '(' . thousands($m->{lowest}) . ' - ' . thousands($m->{highest}) . ')',
	  $m->{calls}, $m->{flushes}, sprintf('%.1f', $m->{server_cpu}),
	  $m->{client_cpu} > 0 ? sprintf('%.1f', $m->{client_cpu}) : '-', $m->{once};
	return;
}


# Beside the figure what it ought to be; never a failure.
sub setup
{
	sql(<<EOQ);
CREATE EXTENSION sqsbridge;
CREATE ROLE app LOGIN;
GRANT CREATE ON SCHEMA public TO app;
CREATE SERVER aws FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '$endpoint');
GRANT USAGE ON FOREIGN SERVER aws TO app;
CREATE USER MAPPING FOR app SERVER aws OPTIONS (access_key_id 'BENCHKEY', secret_access_key 'benchsecret');
SET ROLE app;
CREATE TABLE seen (body text);
CREATE FUNCTION handle(msg sqs_message) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
    INSERT INTO seen (body) VALUES (msg.body);
END \$\$;
CREATE FUNCTION handle_0(msg sqs_message) RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen (body) VALUES (msg.body); END';
CREATE FUNCTION handle_1(msg sqs_message) RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen (body) VALUES (msg.body); PERFORM pg_sleep(0.001); END';
CREATE FUNCTION handle_20(msg sqs_message) RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen (body) VALUES (msg.body); PERFORM pg_sleep(0.02); END';
CREATE FUNCTION handle_200(msg sqs_message) RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen (body) VALUES (msg.body); PERFORM pg_sleep(0.2); END';
CREATE FUNCTION handle_batch(msgs sqs_message[]) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
    INSERT INTO seen (body) SELECT m.body FROM unnest(msgs) m;
    PERFORM sqs_discard() FROM unnest(msgs) m WHERE m.body LIKE 'bad%';
END \$\$;
CREATE FUNCTION handle_start(msg sqs_message) RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen (body) VALUES (left(msg.body, 20)); END';
RESET ROLE;
CREATE SERVER secure FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '$tls_endpoint');
GRANT USAGE ON FOREIGN SERVER secure TO app;
CREATE USER MAPPING FOR app SERVER secure OPTIONS (access_key_id 'BENCHKEY', secret_access_key 'benchsecret');
SET ROLE app;
DO 'BEGIN PERFORM sqs_register_queue(''bridge'', server => ''aws'', handler => ''handle'', enabled => false); END';
DO 'BEGIN PERFORM sqs_register_queue(''secure'', server => ''secure'', queue_name => ''bridge'', handler => ''handle'', enabled => false); END';
EOQ
	return;
}

setup();
print "\n", sql('SELECT version()') =~ s/ on .*//r, ', ', machine(), "\n";
printf "%s messages a drain (the peer: %s), medians of %d run%s\n",
  thousands($messages), thousands($peer_messages), $runs, $runs == 1 ? '' : 's';

my @settings;
foreach my $exactly_once (0, 1)
{
	push @settings, [ 'bridge', $_, $exactly_once ] foreach 1, 2, 4;
}
if ($with_peer) { push @settings, [ 'peer', $_, 0 ] foreach 1, 2, 4; }

my %result;
if ($only{drain})
{
	# by turns, so that what else the machine does meets all alike
	foreach my $run (1 .. $runs)
	{
		foreach my $s (@settings)
		{
			print STDERR "\r\e[Kdraining, run $run of $runs: @$s[0,1]" if -t STDERR;
			push @{ $result{"@$s"} },
			  drain($s->[0], $s->[0] eq 'peer' ? $peer_messages : $messages, $s->[1], $s->[2]);
		}
	}
	print STDERR "\r\e[K" if -t STDERR;

	my %m = map { $_ => medians(@{ $result{$_} }) } keys %result;
	head('draining a full queue');
	foreach my $s (@settings)
	{
		my ($kind, $concurrency, $exactly_once) = @$s;
		row($kind eq 'peer' ? "peer, $concurrency connection" . ($concurrency > 1 ? 's' : '')
			: "sqsbridge, exactly_once " . ($exactly_once ? 'on' : 'off') . ", concurrency $concurrency",
			$m{"@$s"});
	}
	my %best;
	foreach my $s (@settings)
	{
		my $kind = $s->[0] eq 'peer' ? 'peer' : $s->[2] ? 'on' : 'off';
		my $m = $m{"@$s"};
		$best{$kind} = $m if !$best{$kind} || $m->{rate} > $best{$kind}{rate};
	}
	if ($with_peer)
	{
		print "\n";
		foreach my $c (1, 2, 4)
		{
			printf "sqsbridge : peer at %d       messages/s %.1f (exactly_once off), %.1f (on)\n", $c,
			  map { $m{"bridge $c $_"}{rate} / $m{"peer $c 0"}{rate} } 0, 1;
		}
		printf "best : peer's best          messages/s %.1f (exactly_once off), %.1f (on)\n",
		  map { $best{$_}{rate} / $best{peer}{rate} } 'off', 'on';
	}
	target('messages/s, exactly_once off, best concurrency', $best{off}{rate}, '>=', 20000);
	target('messages/s, exactly_once on, best concurrency', $best{on}{rate}, '>=', 15000);
	target('API calls/message, greatest of all settings',
		max(map { $m{$_}{calls} } grep { /^bridge/ } keys %m), '<=', 0.22, '%.3f');
	target('server CPU µs/message, exactly_once off, concurrency 1',
		$m{'bridge 1 0'}{server_cpu}, '<=', 50, '%.1f');
	target('server CPU µs/message, exactly_once on, concurrency 1',
		$m{'bridge 1 1'}{server_cpu}, '<=', 50, '%.1f');
	target('messages/s : peer, exactly_once on, best of each',
		$best{on}{rate} / $best{peer}{rate}, '>=', 5, '%.1f') if $with_peer;
}

if ($only{batches})
{
	my @cases = map { my $size = $_; map { [ $size, $_ ] } 1, 2 } 10, 100, 1000;
	my (%m, %bad);
	my $count = ceil($messages / 1000) * 1000;

	sql("SELECT sqs_alter_queue('bridge', handler => 'handle_batch')");
	foreach my $run (1 .. $runs)
	{
		foreach my $case (@cases)
		{
			my ($size, $concurrency) = @$case;
			sql("SELECT sqs_alter_queue('bridge', handler_batch_size => $size)");
			push @{ $m{"@$case"} }, drain('bridge', $count, $concurrency, 1);
			local $bad_of = 1000;
			push @{ $bad{"@$case"} }, drain('bridge', $count, $concurrency, 1);
		}
	}
	sql("SELECT sqs_alter_queue('bridge', handler => 'handle')");
	head('batch handlers, exactly_once on');
	foreach my $case (@cases)
	{
		$_->{"@$case"} = medians(@{ $_->{"@$case"} }) foreach \%m, \%bad;
		row("$case->[0] messages, conc. $case->[1]", $m{"@$case"});
		row('  one in 1,000 is bad', $bad{"@$case"});
	}
	target('messages/s in batches of up to 1,000', max(map { $_->{rate} } values %m), '>=', 100000);
	target('server CPU µs/message in batches of 100', $m{'100 1'}{server_cpu}, '<=', 10, '%.1f');
	target("messages/s, one bad in 1,000 : none, @$_", $bad{"@$_"}{rate} / $m{"@$_"}{rate}, '>=', 0.67, '%.2f')
	  foreach @cases;
}

if ($only{distance})
{
	my @distances = (0, 20, 100);
	my %m;
	foreach my $run (1 .. $runs)
	{
		push @{ $m{$_} }, drain('bridge', $messages, 4, 1, $_ ? { kind => 'latency', ms => $_ } : ())
		  foreach @distances;
	}
	$m{$_} = medians(@{ $m{$_} }) foreach keys %m;
	head('SQS far away, exactly_once on, conc. 4');
	row("each request takes $_ ms", $m{$_}) foreach @distances;
	target('messages/s at 20 ms', $m{20}{rate}, '>=', 30000);
	target('messages/s at 100 ms', $m{100}{rate}, '>=', 12000);
	target("server CPU at $_ ms : at 0 ms", $m{$_}{server_cpu} / $m{0}{server_cpu}, '<=', 1.3, '%.2f') foreach 20, 100;
}

if ($only{tls})
{
	my (%m, %peak);
	foreach my $ms (0, 20, 100)
	{
		my @fault = $ms ? { kind => 'latency', ms => $ms } : ();
		foreach my $run (1 .. $runs)
		{
			foreach my $kind ('http', 'TLS')
			{
				local $watch = watch_memory($peak{"$kind $ms"} ||= [ 0, 0 ]);
				my $drain = sub { drain('bridge', $messages, 4, 1, @fault) };
				push @{ $m{"$kind $ms"} }, $kind eq 'TLS' ? through_tls($drain) : $drain->();
			}
		}
	}
	$m{$_} = medians(@{ $m{$_} }) foreach keys %m;
	head('http and TLS, exactly_once on, conc. 4');
	foreach my $ms (0, 20, 100)
	{
		row("$_, each request takes $ms ms", $m{"$_ $ms"}) foreach 'http', 'TLS';
	}
	printf "%-36s %d connections, %.1f MB\n", "queue worker, $_ ms", $peak{$_}[0], $peak{$_}[1] / 1024
	  foreach 'http 100', 'TLS 100';
	target("server CPU at $_ ms, TLS : http", $m{"TLS $_"}{server_cpu} / $m{"http $_"}{server_cpu}, '<=', 1.15, '%.2f')
	  foreach 0, 20, 100;
}

if ($only{bodies})
{
	my @sizes = (4_000, 60_000, 250_000);
	my $item = '{"id":"5f0c6f2e9a41","name":"steel cable, 40 m","price":1295},';
	my %m;

	sql("SELECT sqs_alter_queue('$_', handler => 'handle_start')") foreach 'bridge', 'secure';
	foreach my $run (1 .. $runs)
	{
		foreach my $size (@sizes)
		{
			local $body = '{i} ' . substr $item x ($size / length($item) + 1), 0, $size - 4;
			my $drain = sub { drain('bridge', min($messages, ceil(($quick ? 1e8 : 4e8) / $size)), 2, 1) };
			push @{ $m{"http $size"} }, $drain->();
			push @{ $m{"TLS $size"} }, through_tls($drain);
		}
	}
	sql("SELECT sqs_alter_queue('$_', handler => 'handle')") foreach 'bridge', 'secure';
	$m{$_} = medians(@{ $m{$_} }) foreach keys %m;
	head('large bodies, exactly_once on, conc. 2');
	foreach my $size (@sizes)
	{
		foreach my $kind ('http', 'TLS')
		{
			my $m = $m{"$kind $size"};
			row(sprintf('%s, %d kB: %d MB/s', $kind, $size / 1000, $m->{rate} * $size / 1e6), $m);
		}
	}
	target('MB/s, bodies of 250 kB', $m{'http 250000'}{rate} * 0.25, '>=', 250, '%.0f');
}

if ($only{failures})
{
	my @cases = (
		[ 'none', 0 ],
		[ '0.1 % answered 503', 0.9, { kind => 'error', status => 503, code => 'ServiceUnavailable', probability => 0.001 } ],
		[ '1 % answered 503', 0.8, { kind => 'error', status => 503, code => 'ServiceUnavailable', probability => 0.01 } ],
		[ '0.1 % of connections reset', 0.9, { kind => 'reset_before', probability => 0.001 } ],
		[ '1 % of connections reset', 0.8, { kind => 'reset_before', probability => 0.01 } ],
		[ '0.1 % of batch entries failed', 0.9, { kind => 'entry_fail', code => 'InternalError', every => 1000 } ],
		[ '1 % of batch entries failed', 0.8, { kind => 'entry_fail', code => 'InternalError', every => 100 } ]);
	foreach my $ms (0, 20)
	{
		my %m;
		foreach my $run (1 .. $runs)
		{
			push @{ $m{ $_->[0] } },
			  drain('bridge', $messages, 4, 1, @$_[ 2 .. $#$_ ], $ms ? { kind => 'latency', ms => $ms } : ())
			  foreach @cases;
		}
		$m{$_} = medians(@{ $m{$_} }) foreach keys %m;
		head("requests fail, each takes $ms ms");
		row($_->[0], $m{ $_->[0] }) foreach @cases;
		target("messages/s at $ms ms, $_->[0] : none", $m{ $_->[0] }{rate} / $m{none}{rate}, '>=', $_->[1], '%.2f')
		  foreach @cases[ 1 .. $#cases ];
	}
}

if ($only{calls})
{
	printf "\n%-36s %10s %10s %10s %10s\n", 'a backlog, exactly_once on', 'calls/m.', 'messages/s', 'ideal', 'in flight';
	foreach my $case (map { my $ms = $_; map { [ $ms, $_ ] } 1, 8, 32 } 0, 1, 20, 200)
	{
		my ($ms, $concurrency) = @$case;
		my $r = backlog_calls($ms, $concurrency);
		printf "%-36s %10.3f %10s %10s %10s\n", "handlers of $ms ms, concurrency $concurrency", $r->{calls},
		  thousands($r->{rate}), $r->{ideal} ? thousands($r->{ideal}) : '-', thousands($r->{in_flight});
		target("calls/message, $ms ms, concurrency $concurrency", $r->{calls}, '<=',
			$ms == 200 && $concurrency == 1 ? 0.45 : 0.22, '%.3f');
	}
}

if ($only{delay})
{
	# every flush of WAL takes 5 ms longer: a stand-in for a slow disk
	sql('ALTER SYSTEM SET commit_delay = 5000');
	sql('ALTER SYSTEM SET commit_siblings = 0');
	sql('SELECT pg_reload_conf()');
	my %m;
	foreach my $run (1 .. $runs)
	{
		push @{ $m{bridge} }, drain('bridge', ceil($messages / 5), 1, 1);
		push @{ $m{peer} }, drain('peer', ceil($peer_messages / 20), 1, 0) if $with_peer;
	}
	sql('ALTER SYSTEM RESET commit_delay');
	sql('ALTER SYSTEM RESET commit_siblings');
	sql('SELECT pg_reload_conf()');
	$m{$_} = medians(@{ $m{$_} }) foreach keys %m;
	head('a flush takes 5 ms longer');
	row('sqsbridge, exactly_once on, conc. 1', $m{bridge});
	row('peer, 1 connection', $m{peer}) if $with_peer;
	target('messages/s, concurrency 1, commit_delay = 5000', $m{bridge}{rate}, '>', 1000);
}

if ($only{latency})
{
	my %m;
	foreach my $run (1 .. $runs)
	{
		push @{ $m{$_} }, latency($_) foreach 'bridge', $with_peer ? 'peer' : ();
	}
	printf "\n%-36s %9s %9s %9s %9s %9s  %s\n", "sent to committed, $pace_rate messages/s", 'p50 ms',
	  'p99 ms', 'worst ms', 'calls/m.', 'µs/mess.', 'exactly once';
	foreach my $kind ('bridge', $with_peer ? 'peer' : ())
	{
		my $m = medians(@{ $m{$kind} });
		printf "%-36s %9.2f %9.2f %9.2f %9.3f %9.1f  %s\n",
		  $kind eq 'peer' ? 'peer, 4 connections' : 'sqsbridge, exactly_once on, conc. 1',
		  @$m{qw(p50 p99 max calls server_cpu once)};
		target("p99 ms from sent to committed at $pace_rate messages/s", $m->{p99}, '<=', 10, '%.2f')
		  if $kind eq 'bridge';
	}
}

if ($only{idle})
{
	my $calls = idle('bridge', $with_peer ? 'peer' : ());
	printf "\n%-36s %9s\n", 'idle queue, wait_time 20 s', 'calls/h';
	printf "%-36s %9.1f   (from %d polls)\n", 'sqsbridge', $calls->{bridge}, $idle_polls;
	printf "%-36s %9.1f   (one consumer; each other one as many again)\n", 'peer', $calls->{peer} if $with_peer;
	target('calls an hour of an idle queue', $calls->{bridge}, '<=', 180, '%.1f');
}

if ($only{many})
{
	my @sizes = (max(5, int($many_queues / 5)), $many_queues);
	my %m = map { $_ => many($_, max(20, int($messages / max(1, int($_ / 5))))) } @sizes;

	printf "\n%-36s %10s %10s\n", 'many queues, a fifth of them busy', map { thousands($_) } @sizes;
	foreach my $line (
		[ 'start: s until all poll', 'start', '%.1f' ],
		[ 'idle: server CPU, % of a processor', 'idle', '%.1f' ],
		[ 'idle: MB of a queue worker', 'memory', '%.2f', 1024 ],
		[ 'descriptors of a queue worker', 'fds', '%d' ],
		[ 'first 10 messages: CPU ms a queue', 'first', '%.1f' ],
		[ 'busy: messages/s', 'rate', '%.0f' ],
		[ 'busy: server CPU µs/message', 'busy', '%.1f' ],
		[ 'MB of a queue worker afterwards', 'busy_memory', '%.2f', 1024 ],
		[ 'MB of a handler worker afterwards', 'handler_memory', '%.2f', 1024 ],
		[ 'MB of the machine in all', 'all_memory', '%.0f', 1024 ],
		[ 'pg_ctl stop -m fast, s', 'server_stop', '%.1f' ],
		[ 'pg_ctl start, s until all poll', 'server_start', '%.1f' ],
		[ 'every message once', 'once', '%s' ])
	{
		my ($name, $key, $format, $unit) = @$line;
		printf "%-36s %10s %10s\n", $name,
		  map { sprintf $format, $unit ? $m{$_}{$key} / $unit : $m{$_}{$key} } @sizes;
	}
	target("server CPU/message with $sizes[1] : $sizes[0] queues", $m{ $sizes[1] }{busy} / $m{ $sizes[0] }{busy}, '<=', 1.5, '%.2f');
}

print_targets();
