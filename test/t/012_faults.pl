# SQS, the network, name service or the clock fail for a while: the queue
# worker lives on, asks seldom, says what is wrong, recovers by itself, and
# every message has its effect once.
#
# Each fault has a queue of its own, and all of them happen at the same time.
use strict;
use warnings;

use Cwd qw(abs_path);
use IO::Select;
use IO::Socket::INET;
use List::Util qw(min);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use POSIX ();
use Test::More;
use SqsTest;

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};
# a fault lasts so long and until so many polls have failed
my $seconds = $long ? 60 : 0;
my $failures = 3;
# leases that nobody renews outlast the time that the gates take to open on a
# busy machine
my $visibility = 30;
# ... and those of the queue whose messages cannot be deleted
my $entries_visibility = 20;

# What happens to the calls of a queue by means of sqsd, and the text that
# last_error then has.
my %fault = (
	denied => [ { kind => 'error', status => 403, code => 'AccessDenied' }, qr/: AccessDenied/ ],
	unavailable => [ { kind => 'error', status => 503, code => 'ServiceUnavailable' }, qr/: ServiceUnavailable: / ],
	throttled => [ { kind => 'error', status => 400, code => 'ThrottlingException' }, qr/: ThrottlingException: / ],
	'cut-short' => [ { kind => 'truncate', bytes => 1 }, qr/: Curl18: / ],
	garbage => [ { kind => 'garbage' }, qr/: InvalidReply: the reply is not what SQS sends/ ],
	noise => [ { kind => 'garbage', raw => JSON::PP::true() }, qr/: Curl\d+: / ],
	huge => [ { kind => 'huge', bytes => 64 * 1024 * 1024 + 1 }, qr/: Curl\d+: the reply is larger than \d+ bytes/ ]);
my @actions = qw(ReceiveMessage DeleteMessageBatch ChangeMessageVisibilityBatch);

# ... and what is done to its connections.
my %network = (refused => qr/: Curl7: /, silent => qr/: Curl(?:28|52|56): /);

my @by_sqs = sort keys %fault;
my @by_network = sort keys %network;
my @queues = (@by_sqs, @by_network);

# ---- a relay between the bridge and sqsd, which can go and can fall silent

my %relay;

sub start_relay
{
	my ($name, $port, $target) = @_;
	my $listener = IO::Socket::INET->new(
		Listen => 64,
		LocalAddr => '127.0.0.1',
		LocalPort => $port,
		ReuseAddr => 1) or die "cannot listen on $port: $!";
	my $pid = fork();
	die "fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		eval { relay($listener, $target) };
		POSIX::_exit(0);
	}
	close $listener;
	$relay{$name} = { pid => $pid, port => $port, target => $target };
	return;
}

# The relay's process.  SIGUSR1: accept, read, and answer nothing; SIGUSR2:
# be well again, without what was connected meanwhile.
sub relay
{
	my ($listener, $target) = @_;
	my $mute = 0;
	my %peer;
	my $select = IO::Select->new($listener);
	my $drop = sub {
		foreach my $socket (@_)
		{
			$select->remove($socket);
			delete $peer{$socket};
			close $socket;
		}
	};

	local $SIG{TERM} = 'DEFAULT';
	local $SIG{USR1} = sub { $mute = 1 };
	local $SIG{USR2} = sub { $mute = 2 };
	while (1)
	{
		if ($mute == 2)
		{
			$drop->($_) foreach grep { $_ != $listener } $select->handles;
			$mute = 0;
		}
		foreach my $from ($select->can_read(0.1))
		{
			if ($from == $listener)
			{
				my $client = $listener->accept or next;
				$select->add($client);
				next if $mute;
				my $server = IO::Socket::INET->new("127.0.0.1:$target");
				if (!$server)
				{
					$drop->($client);
					next;
				}
				$select->add($server);
				$peer{$client} = $server;
				$peer{$server} = $client;
				next;
			}
			next unless $select->exists($from);
			my $to = $peer{$from};
			my $n = sysread($from, my $data, 65536);
			if (!$n)
			{
				$drop->($from, $mute || !$to ? () : $to);
				next;
			}
			next if $mute || !$to;
			my $done = 0;
			while ($done < $n)
			{
				my $w = syswrite($to, $data, $n - $done, $done);
				last unless $w;
				$done += $w;
			}
		}
	}
}

sub stop_relay
{
	my ($name) = @_;
	my $pid = delete $relay{$name}{pid} or return;
	kill 'TERM', $pid;
	waitpid($pid, 0);
	return;
}

END
{
	my $status = $?;
	stop_relay($_) foreach keys %relay;
	$? = $status;
}

# ---- a name that takes as long to look up as a file exists

my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
my $hang = "$dir/hang";
my $shim = "$dir/lookup.so";

append_to_file("$dir/lookup.c", <<'EOC');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
			struct addrinfo **result)
{
	int			(*next) (const char *, const char *, const struct addrinfo *,
						 struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
	const char *file = getenv("LOOKUP_HANGS");

	if (node != NULL && file != NULL && strcmp(node, "sqs.test") == 0)
	{
		int			fd = open(getenv("LOOKUP_COUNT"), O_WRONLY | O_CREAT | O_APPEND, 0600);

		if (fd >= 0 && write(fd, ".", 1) == 1)
			close(fd);
		while (access(file, F_OK) == 0)
			usleep(20000);
		node = "127.0.0.1";
	}
	return next(node, service, hints, result);
}
EOC
my $output;
my $have_shim =
  eval { IPC::Run::run([ 'cc', '-shared', '-fPIC', '-o', $shim, "$dir/lookup.c", '-ldl' ], '>', \$output, '2>&1') };

# ---- servers

my $sqs = start_sqs(
	args => [
		'--queue', "entries,VisibilityTimeout=$entries_visibility",
		map { ('--queue', "$_,VisibilityTimeout=$visibility") } @queues, 'nowhere', 'wide', 'hasty'
	]);
my $clock = start_sqs(
	args => [
		'--access-key', 'AKIDTEST', '--secret-key', 'secret', '--skew-limit', 300,
		'--queue', "clock,VisibilityTimeout=$visibility"
	]);
start_relay($_, PostgreSQL::Test::Cluster::get_free_port(), $sqs->{port}) foreach @by_network;
my %lookup = $have_shim ? (LD_PRELOAD => $shim, LOOKUP_HANGS => $hang, LOOKUP_COUNT => "$dir/count") : ();
append_to_file($hang, '');
my $node = new_node('main',
	conf => "max_worker_processes = 100\nsqsbridge.max_workers = 100\nmax_connections = 150\n",
	env => \%lookup);

setup_database($node, $sqs);
add_server($node, $_, "http://127.0.0.1:$relay{$_}{port}") foreach @by_network;
add_server($node, 'clock', $clock->endpoint);
add_server($node, 'nowhere', "http://sqs.test:$sqs->{port}", options => "allow_http 'true'") if $have_shim;

$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (queue text, body text, message_id text);
CREATE TABLE gate (queue text PRIMARY KEY);
-- those that are held wait for the gate to be opened
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, m.body, m.message_id);
  WHILE m.body LIKE 'held%' AND m.receive_count = 1 AND
    NOT EXISTS (SELECT FROM gate WHERE queue = m.queue)
  LOOP
    PERFORM pg_sleep(0.05);
  END LOOP;
END $$;
EOQ

sub register
{
	my ($queue, $server, $options) = @_;
	$options ||= ', concurrency => 3';
	$node->safe_psql('postgres', "SELECT sqs_register_queue('$queue', server => '$server', handler => 'handle',
		wait_time => '1 s'$options)");
	return;
}

# Columns of the queue's row in sqs_stats.
sub stat_of
{
	my ($queue, $columns) = @_;
	return $node->safe_psql('postgres', "SELECT $columns FROM sqs_stats WHERE queue = '$queue'");
}

sub worker_of
{
	my ($queue) = @_;
	return $node->safe_psql('postgres',
		"SELECT pid, started_at FROM sqs_stats_workers WHERE kind = 'queue worker' AND queue = '$queue'");
}

# How often the rules have fired.
sub fired
{
	my (@ids) = @_;
	my %fired = map { $_->{id} => $_->{fired} } @{ $sqs->faults };
	my $sum = 0;
	$sum += $fired{$_} foreach @ids;
	return $sum;
}

# When the queue's latest poll came, as SQS knows.
sub last_poll
{
	my ($queue) = @_;
	my @polls = $sqs->call_times($queue, 'ReceiveMessage');
	return $polls[-1];
}

# Everything that was sent has had its effect, once, and SQS has nothing left.
sub done_once
{
	my ($queue, $count, $name, $server) = @_;
	$server ||= $sqs;
	$server->is_empty($queue, "$name: all messages are deleted", 120);
	is( $node->safe_psql('postgres', "SELECT count(*), count(DISTINCT message_id) FROM got WHERE queue = '$queue'"),
		"$count|$count", "$name: each of $count messages had its effect once");
	is($server->books_agree($queue, $node, $name, "SELECT message_id, md5(body) FROM got WHERE queue = '$queue'"),
		$count, "$name: SQS's books say so too");
	is($node->safe_psql('postgres', "SELECT count(*) FROM sqs_failures WHERE queue = '$queue'"),
		'0', "$name: no handler failed");
	query_is($node, "SELECT in_flight, state, consecutive_errors, error_since IS NULL FROM sqs_stats WHERE queue = '$queue'",
		'0|polling|0|t', "$name: all is well");
	return;
}

# ---- healthy

foreach my $queue (@queues, 'entries')
{
	register($queue, $network{$queue} ? $queue : 'aws');
	$sqs->fill($queue, 10, body => 'before {i}');
}
register('nowhere', 'nowhere') if $have_shim;
my %worker;
foreach my $queue (@queues, 'entries')
{
	$sqs->is_empty($queue, "$queue: works");
	$worker{$queue} = worker_of($queue);
	$sqs->fill($queue, 3, body => 'held {i}');
}
register('clock', 'clock');
$clock->fill('clock', 10, body => 'before {i}');
$clock->is_empty('clock', 'clock: works');
$worker{clock} = worker_of('clock');
foreach my $queue (@queues, 'entries')
{
	query_is($node, "SELECT count(*) FROM sqs_stats_in_flight WHERE queue = '$queue' AND status = 'running'", '3',
		"$queue: handlers are running");
}

# ---- all faults begin

my %rules;
my %poll_failures;
my %began;
my $offset = -s $node->logfile;
# no time is to be lost from here to the opening of the gates: leases run out
foreach my $queue (@queues)
{
	$poll_failures{$queue} = stat_of($queue, 'poll_failures');
}
foreach my $queue (@queues)
{
	next unless $fault{$queue};
	$rules{$queue} = [ map { $sqs->fault(%{ $fault{$queue}[0] }, action => $_, queue => $queue) } @actions ];
	$began{$queue} = last_poll($queue);
}
# polls are well, but no message can be deleted and no lease be renewed
$rules{entries} = [ map { $sqs->fault(kind => 'entry_fail', action => $_, queue => 'entries') } @actions[ 1, 2 ] ];
my $deletes_before = $sqs->calls('entries', 'DeleteMessageBatch');
my $delete_failures = stat_of('entries', 'delete_failures');
my $received = $sqs->stats('entries')->{received} - 3;
$sqs->fill('entries', 10, body => 'during {i}');
$node->safe_psql('postgres', "INSERT INTO gate VALUES ('entries')");
# SQS's clock is ten minutes off, and it accepts five
$clock->fault(kind => 'clock', seconds => 600);
$clock->fill('clock', 10, body => 'during {i}');
stop_relay('refused');
kill 'USR1', $relay{silent}{pid};
$node->safe_psql('postgres', "INSERT INTO gate SELECT unnest('{" . join(',', @queues) . "}'::text[])");
$sqs->fill($_, 10, body => 'during {i}') foreach @queues;

# the story as it is told while they last
my (%first, %failed_first, %calls_first);

sub tells
{
	my ($queue) = @_;
	my $pattern = $network{$queue} || $fault{$queue}[1];
	query_is($node, "SELECT count(*) FROM got WHERE queue = '$queue' AND body LIKE 'held%'", '3',
		"$queue: what was in hand is finished all the same");
	poll_until(
		sub { stat_of($queue, q{state || ' ' || last_error}) =~ /^backing off ReceiveMessage$pattern/ },
		"$queue: state and last_error tell the fault")
	  or diag(stat_of($queue, 'state, last_error'));
	($first{$queue}, $failed_first{$queue}, $calls_first{$queue}) =
	  split /\|/, stat_of($queue, 'error_since, poll_failures, receive_calls');
	return;
}
# a poll that is not answered takes eleven seconds to fail: that one is last
tells($_) foreach grep { $_ ne 'silent' } @queues;

query_true($node, q{(SELECT delete_failures >= 13 AND last_error LIKE 'DeleteMessageBatch: InternalError: %'
	AND state = 'polling' FROM sqs_stats WHERE queue = 'entries')}, 'entries: that messages cannot be deleted is told');
query_true($node, "(SELECT error_since <= now() - interval '$seconds s' FROM sqs_stats WHERE queue = 'entries')",
	'entries: it lasts', timeout => $seconds + 60);

# ---- they end; what they have cost until then

{
	# calls go on: what is an upper bound is read last
	my $errors = stat_of('entries', 'consecutive_errors');
	my $renewals = fired($rules{entries}[1]);
	my $calls = $sqs->calls('entries', 'DeleteMessageBatch') - $deletes_before;
	my $tries = stat_of('entries', 'delete_failures') - $delete_failures;
	my $deliveries = $sqs->stats('entries')->{received} - $received;
	my @lines = log_text($node, $offset) =~ /LOG:  sqsbridge queue "entries": (.*)/g;
	note("entries: $calls deletes, $tries tries for $deliveries deliveries, log lines " . @lines);
	# at growing intervals, for as long as a lease lasts
	cmp_ok($tries, '<=', 7 * $deliveries, 'entries: deletes are tried a bounded number of times');
	cmp_ok($calls, '<=', $tries, 'entries: in no more calls than that');
	cmp_ok($errors, '<=', $calls + $renewals, 'entries: consecutive_errors counts calls');
	is(scalar(@lines), 1, 'entries: one line in the log') or diag(join "\n", @lines);
	is( $node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT message_id) FROM got WHERE queue = 'entries'}),
		'23|23', 'entries: each message had its effect');
	is($sqs->stats('entries')->{deleted}, 10, "entries: SQS's books: none of these is deleted");
	$sqs->clear_faults($_) foreach @{ $rules{entries} };
}

foreach my $queue (@queues)
{
	tells($queue) if $queue eq 'silent';
	my $n = $poll_failures{$queue} + ($queue eq 'silent' ? 1 : $failures);
	query_true($node, "(SELECT poll_failures >= $n AND error_since <= now() - interval '$seconds s'
		FROM sqs_stats WHERE queue = '$queue')", "$queue: it lasts", timeout => $seconds + 60);
	my ($state, $error_since, $errors, $poll_failures, $next, $receive_calls, $step) =
	  split /\|/,
	  stat_of($queue, 'state, error_since, consecutive_errors, poll_failures, next_poll_at, receive_calls,
		extract(epoch FROM next_poll_at - last_error_at)');
	# SQS does not see polls that fail in the network: their own count since the
	# first failure was told, before which polls may still have succeeded
	my $polls = $fault{$queue} ? fired($rules{$queue}[0]) :
	  $failed_first{$queue} - $poll_failures{$queue} + $receive_calls - $calls_first{$queue};
	my $others = $fault{$queue} ? fired(@{ $rules{$queue} }[ 1, 2 ]) : 0;
	my $failed = $poll_failures - $poll_failures{$queue};

	is($error_since, $first{$queue}, "$queue: error_since is when it began");
	# single failures are retried at once: two in a row, and again if a poll that
	# was open when the fault began has ended well in between
	if ($fault{$queue})
	{
		pauses_grow(sub { $sqs->call_times($queue, 'ReceiveMessage', $began{$queue}) }, 4, 60, "$queue: no more polls than the back-off allows");
	}
	else
	{
		query_true($node, "(SELECT extract(epoch FROM next_poll_at - error_since) >=
			(SELECT COALESCE(sum(0.85 * least(0.5 * 2 ^ i, 60)), 0) FROM generate_series(0, $failed - 5) i)
			FROM sqs_stats WHERE queue = '$queue')", "$queue: no more polls than the back-off allows");
	}
	cmp_ok(abs($polls - $failed), '<=', 2, "$queue: poll_failures agrees with what SQS saw");
	cmp_ok($errors, '>=', $failed - 1, "$queue: consecutive_errors counts them");
	cmp_ok($others, '<=', 54, "$queue: deletes and heartbeats are tried a bounded number of times")
	  if $fault{$queue};
	cmp_ok($step, '<=', 1.14 * min(0.5 * 2**($failed - 1), 60) + 1, "$queue: next_poll_at is one step of the back-off away");
	my @lines = log_text($node, $offset) =~ /LOG:  sqsbridge queue "$queue": (\w+: \w+)/g;
	my %kinds = map { $_ => 1 } @lines;
	note("$queue: polls $polls, failed $failed, other calls $others, step $step, log lines " . @lines);
	is(scalar(@lines), scalar(keys %kinds), "$queue: the log has each kind of error once") or diag(join "\n", @lines);
	cmp_ok(scalar(@lines), '>=', 1, "$queue: and it has one");

	$poll_failures{$queue} = stat_of($queue, 'poll_failures');
	$sqs->clear_faults($_) foreach @{ $rules{$queue} || [] };
	start_relay($queue, $relay{$queue}{port}, $sqs->{port}) if $queue eq 'refused';
	kill 'USR2', $relay{$queue}{pid} if $queue eq 'silent';
}

# ---- name service hangs, from the start of the worker on

if ($have_shim)
{
	query_true($node, q{(SELECT poll_failures >= 2 AND state = 'backing off' AND error_since IS NOT NULL
		AND last_error LIKE 'GetQueueUrl: Curl28: Resolving timed out%' FROM sqs_stats WHERE queue = 'nowhere')},
		'nowhere: a name that is not found in time is told');
	query_true($node, "(SELECT error_since <= now() - interval '$seconds s' FROM sqs_stats WHERE queue = 'nowhere')",
		'nowhere: it lasts', timeout => $seconds + 60);
	$worker{nowhere} = worker_of('nowhere');
	my ($pid) = split /\|/, $worker{nowhere};
	my @threads = glob("/proc/$pid/task/*");
	my $lookups = -s "$dir/count";
	my $calls = stat_of('nowhere', 'other_calls');
	my $attempts = stat_of('nowhere', 'poll_failures') + 1;
	note("nowhere: $lookups lookups, $calls calls, $attempts attempts, threads " . @threads);
	backs_off($node, 'nowhere', 'nowhere: it is tried ever more seldom');
	cmp_ok($lookups, '<=', $attempts, 'nowhere: a lookup each time');
	cmp_ok($calls, '<=', $attempts, 'nowhere: and a call');
	cmp_ok(scalar(@threads), '<=', $lookups + 1, 'nowhere: nor threads that hang');
	$sqs->fill('nowhere', 10);
	unlink $hang;
	my $failed = stat_of('nowhere', 'poll_failures');
	query_is($node, q{SELECT state, consecutive_errors, error_since FROM sqs_stats WHERE queue = 'nowhere'}, 'polling|0|',
		'nowhere: it recovers by itself', timeout => 120);
	cmp_ok(stat_of('nowhere', 'poll_failures'), '<=', $failed + 1, 'nowhere: with the next call');
	done_once('nowhere', 10, 'nowhere');
	is(worker_of('nowhere'), $worker{nowhere}, 'nowhere: the queue worker is the one it was');
	poll_until(sub { @threads = glob("/proc/$pid/task/*"); @threads == 1 }, 'nowhere: its threads are gone');
}

# ---- a clock that is off is made up for

sub clock_is_made_up_for
{
	my ($name, $refused) = @_;
	my $receives = $clock->calls('clock', 'ReceiveMessage');
	poll_until(sub { $clock->calls('clock', 'ReceiveMessage') > $receives + 2 }, "clock: $name: polls go on");
	$clock->is_empty('clock', "clock: $name: messages are handled");
	# those that were under way together, each once
	my $before = $clock->stats->{auth_failures};
	cmp_ok($before, '>', $refused, "clock: $name: SQS refused calls");
	$receives = $clock->calls('clock', 'ReceiveMessage');
	poll_until(sub { $clock->calls('clock', 'ReceiveMessage') > $receives + 2 }, "clock: $name: polls still go on");
	is($clock->stats->{auth_failures}, $before, "clock: $name: and refuses none any more");
	is(stat_of('clock', 'state, poll_failures, delete_failures, error_since'), 'polling|0|0|',
		"clock: $name: without an error");
	return;
}
clock_is_made_up_for('ten minutes ahead', 0);
my $refused = $clock->stats->{auth_failures};
# (shifts add up; a call that met two changes would have failed rightly)
$clock->fault(kind => 'clock', seconds => -1200);
$clock->fill('clock', 10, body => 'behind {i}');
clock_is_made_up_for('ten minutes behind', $refused);

# ---- all recover

foreach my $queue (@queues)
{
	query_is($node, "SELECT state, consecutive_errors, error_since FROM sqs_stats WHERE queue = '$queue'", 'polling|0|',
		"$queue: it recovers by itself", timeout => 120);
	# but for one that was under way
	cmp_ok(stat_of($queue, 'poll_failures'), '<=', $poll_failures{$queue} + 1, "$queue: with the next poll");
	like(stat_of($queue, 'last_error'), $network{$queue} || $fault{$queue}[1], "$queue: last_error stays to be read");
}
# what came in replies that were spoilt comes again when its time is up
foreach my $queue (@queues)
{
	query_is($node, "SELECT in_flight FROM sqs_stats WHERE queue = '$queue'", '0', "$queue: nothing is in hand", timeout => 120);
}
$sqs->advance($visibility + 1);
foreach my $queue (@queues)
{
	done_once($queue, 23, $queue);
	is(worker_of($queue), $worker{$queue}, "$queue: the queue worker is the one it was");
}

done_once('entries', 23, 'entries');
is(worker_of('entries'), $worker{entries}, 'entries: the queue worker is the one it was');
$clock->clear_faults;
done_once('clock', 30, 'clock', $clock);
is(worker_of('clock'), $worker{clock}, 'clock: the queue worker is the one it was');

# ---- many polls that fail at once are one step of the back-off

register('wide', 'aws', ', concurrency => 16, batch_size => 1');
$sqs->fill('wide', 2000);
# so that they are open at the same time
my $latency = $sqs->fault(kind => 'latency', ms => 300, action => 'ReceiveMessage', queue => 'wide');
query_true($node, q{(SELECT received >= 200 FROM sqs_stats WHERE queue = 'wide')}, 'wide: it has as many polls as can be');
my $outage = $sqs->fault(kind => 'error', status => 503, action => 'ReceiveMessage', queue => 'wide');
query_true($node, q{(SELECT poll_failures >= 4 AND state = 'backing off' FROM sqs_stats WHERE queue = 'wide')}, 'wide: they fail');
my ($all, $steps, $pause) =
  split /\|/, stat_of('wide', 'poll_failures, consecutive_errors, extract(epoch FROM next_poll_at - last_error_at)');
cmp_ok($steps, '<', $all, 'wide: not one by one');
cmp_ok($pause, '<=', 1.14 * 0.5 * 2**($steps - 1) + 1, 'wide: and the pause is short');
$sqs->clear_faults($outage);
query_true($node, q{(SELECT state = 'polling' FROM sqs_stats WHERE queue = 'wide')}, 'wide: it recovers');
$sqs->clear_faults($latency);
done_once('wide', 2000, 'wide');

# ---- replies that are empty and come at once do not make it spin

register('hasty', 'aws');
query_true($node, q{(SELECT last_receive_at IS NOT NULL FROM sqs_stats WHERE queue = 'hasty')}, 'hasty: works');
foreach my $case ([ 'a server that does not hold polls open', 1 ], [ 'a wait_time of 0', 0 ])
{
	my ($name, $is_server) = @$case;
	my $empty;
	if ($is_server)
	{
		$empty = $sqs->fault(kind => 'error', status => 200, body => '{}', action => 'ReceiveMessage', queue => 'hasty');
	}
	else
	{
		$node->safe_psql('postgres', q{SELECT sqs_alter_queue('hasty', wait_time => '0 s')});
	}
	my $before = last_poll('hasty');
	my @polls;
	poll_until(sub { @polls = $sqs->call_times('hasty', 'ReceiveMessage', $before); @polls >= 6 }, "hasty: $name: polls go on");
	calls_apart(\@polls, 500, "hasty: $name: two a second");
	$sqs->clear_faults($empty) if $is_server;
}
$sqs->fill('hasty', 500);
done_once('hasty', 500, 'hasty');

# ---- a server that is told to stop while name service hangs

if ($have_shim)
{
	append_to_file($hang, '');
	$node->stop;
	unlink "$dir/count";
	{
		local %ENV = (%ENV, %lookup);
		$node->start;
	}
	poll_until(sub { -s "$dir/count" }, 'nowhere: a lookup hangs');
	ok($node->stop('fast', fail_ok => 1, timeout => 60), 'the server stops all the same');
	unlink $hang;
}
else
{
	$node->stop;
}
check_log($node);
done_testing();
