# What the bridge costs and what it must never do: processes, memory, calls of
# many idle queues; nothing that grows with the number of messages; no snapshot
# while idle; no secret anywhere.
use strict;
use warnings;

use List::Util qw(max);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};

# queues of the first database, databases with a queue each, at how many
# messages the processes are measured, and how many come while hands are full
my ($queues, $databases, $from, $to, $burst) = $long ? (50, 20, 30_000, 540_000, 10_000) : (12, 4, 6_000, 28_000, 2_000);

# Of a burst so many are in hand at once, whatever the pace: the table of
# messages grows with it, and so many that are finished do not stop receives.
my $in_hand = 1000;

# kB of a process's own memory, at most: idle, and more after so many messages
my $idle_limit = 6 * 1024;
my $growth_limit = $long ? 1024 : 512;

# A queue worker keeps its connections to SQS, of which there may be a third of
# max_files_per_process (1000), besides what any process has open; how many come
# together in a burst is chance.  Each has some 65 kB.
my $connection = 100;
my $files_limit = 333 + 20;

my $secret = 'hush-secret-key-0815';
my $wrong = 'hush-wrong-key-0816';
my $token = 'hush-session-token-0817';
my @keys = ('--access-key', 'AKIDGOOD', '--secret-key', $secret, '--session-token', $token);
my @idle = map { "idle$_" } 1 .. $queues;
my @bases = map { "base$_" } 1 .. $databases;
my @ill = qw(denied mismatch wrong failing batch);
my $sqs = start_sqs(args => [ @keys, map { ('--queue', $_) } 'busy', @idle, @bases, @ill ]);
my $node = new_node('main', conf => <<'EOC');
max_worker_processes = 250
sqsbridge.max_workers = 250
max_connections = 120
sqsbridge.shutdown_timeout = '1h'
EOC
my $endpoint = $sqs->endpoint;

# A careful user does not have keys logged.
sub quietly
{
	my ($db, $query) = @_;
	local $ENV{PGOPTIONS} = '-c log_min_messages=panic -c log_min_error_statement=panic';
	return $node->safe_psql($db, $query);
}

sub prepare
{
	my ($db) = @_;
	$node->safe_psql($db, <<EOQ);
CREATE EXTENSION sqsbridge;
CREATE SERVER aws FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '$endpoint');
CREATE TABLE got (body text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS 'INSERT INTO got VALUES (m.body)';
CREATE FUNCTION fail(m sqs_message) RETURNS void LANGUAGE plpgsql AS \$\$
  BEGIN RAISE 'failed with % %', m.body, (SELECT count(umoptions) FROM pg_user_mappings); END \$\$;
EOQ
	quietly($db, "CREATE USER MAPPING FOR PUBLIC SERVER aws
		OPTIONS (access_key_id 'AKIDGOOD', secret_access_key '$secret', session_token '$token')");
	return;
}

# Shows a few lines if there are any.
sub no_secret
{
	my ($text, $name) = @_;
	my @lines = grep { /hush-|Signature=[0-9a-f]/ } split /\n/, $text;
	splice(@lines, 5) if @lines > 5;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join("\n", @lines), '', $name);
}

# kind => [pid, ...]
sub processes
{
	my %pids;
	push @{ $pids{ $_->[0] } }, $_->[1] foreach map { [ split /\|/ ] } split /\n/,
	  $node->safe_psql('postgres', 'SELECT kind, pid FROM sqs_stats_workers');
	return \%pids;
}

sub open_polls
{
	my ($stats) = @_;
	return scalar(grep { $_->{open_polls} >= 1 } values %{ $stats->{queues} });
}

# ---- many queues, most of them idle

prepare('postgres');
$node->safe_psql('postgres', join(';', map { "SELECT sqs_register_queue('$_', server => 'aws', handler => 'handle')" } 'busy', @idle));
foreach my $db (@bases)
{
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	prepare($db);
	$node->safe_psql($db, "SELECT sqs_register_queue('$db', server => 'aws', handler => 'handle')");
}
my $all = 1 + $queues + $databases;
poll_until(sub { open_polls($sqs->stats) == $all }, "$all queues in " . (1 + $databases) . ' databases poll', 120);

stop_ok($node, 'all stop');
poll_until(sub { open_polls($sqs->stats) == 0 }, 'SQS sees all polls end');
my $books = $sqs->stats->{queues};
is(join(' ', grep { $books->{$_}{calls}{ReceiveMessage} == $books->{$_}{empty_receives} } 'busy', @idle, @bases),
	'', 'which were given up: of each queue there is one that was not answered');
$node->start;
poll_until(sub { open_polls($sqs->stats) == $all }, 'after a start all poll', 120);
my $before = $books;
$books = $sqs->stats->{queues};
is(join(' ', grep { $books->{$_}{calls}{GetQueueUrl} != $before->{$_}{calls}{GetQueueUrl} + 1 } 'busy', @idle, @bases),
	'', 'each at the first attempt');
query_is($node, 'SELECT kind, count(*) FROM sqs_stats_workers GROUP BY 1 ORDER BY 1',
	sprintf("database worker|%d\nlauncher|1\nqueue worker|%d", 1 + $databases, $all),
	'one process for each idle queue, one for each database, one launcher');

# No transaction of the bridge's lasts, no idle process holds back vacuum.
my $samples = 0;
my @held;

sub sample_activity
{
	push @held, grep { $_ ne '' } split /\n/, $node->safe_psql('postgres', <<'EOQ');
SELECT a.backend_type, a.state, a.xact_start, a.backend_xid, a.backend_xmin, a.query
FROM pg_stat_activity a LEFT JOIN sqs_stats_workers w USING (pid)
WHERE a.backend_type LIKE 'sqsbridge%' AND w.queue IS DISTINCT FROM 'busy' AND
  (a.xact_start < now() - interval '5 s' OR
   a.backend_type NOT IN ('sqsbridge database worker', 'sqsbridge launcher') AND
   (a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL OR a.xact_start IS NOT NULL))
EOQ
	$samples++;
	return;
}

# The idle queues have their first poll open.  What they do from here on, while
# the busy one works, is looked at in the end.
my %first_poll = map { $_ => ($sqs->call_times($_, 'ReceiveMessage'))[-1] } @idle, @bases;

# ---- memory of idle processes

my $workers = processes();
my $sum = 0;
my $most = 0;
foreach my $pid (map { @$_ } values %$workers)
{
	my $memory = private_memory($pid);
	$sum += $memory;
	$most = $memory if $memory > $most;
}
my $n = map { @$_ } values %$workers;
note(sprintf('%d processes with %d kB of their own, %d kB each, %d at most', $n, $sum, $sum / $n, $most));
cmp_ok($most, '<', $idle_limit, "no process has more than $idle_limit kB of its own ($most)");
cmp_ok($sum / $n, '<', 0.75 * $idle_limit, sprintf('and three quarters of that on average (%d)', $sum / $n));

# ---- nothing grows with the messages

sub measure
{
	my %result;
	my $workers = $node->safe_psql('postgres', q{SELECT kind, pid FROM sqs_stats_workers
		WHERE database IS NULL OR database = 'postgres' AND (queue IS NULL OR queue = 'busy')});
	foreach (split /\n/, $workers)
	{
		my ($kind, $pid) = split /\|/;
		$result{$kind} = { pid => $pid, memory => private_memory($pid), files => open_files($pid) };
	}
	return \%result;
}

sub handled
{
	my ($count, $name) = @_;
	poll_until(
		sub {
			sample_activity();
			return $sqs->stats('busy')->{deleted} >= $count;
		},
		$name, 1200);
	return;
}

# What a queue worker takes from malloc depends on how many messages and calls
# it has had at a time.  That is bounded, but how soon it comes to the bound is
# a matter of its pace; and what malloc has once got it keeps.  So each
# measurement comes after a burst that fills the table of messages in hand, the
# first one after as many as it takes to have touched nearly all that malloc
# keeps.  A leak shows all the more: it does not vanish in what is free.
my $done = 0;

sub handle_burst
{
	my $in_flight = q{SELECT in_flight FROM sqs_stats WHERE queue = 'busy'};
	my $id = $sqs->fault(kind => 'latency', action => 'DeleteMessageBatch', queue => 'busy', ms => 10_000);

	$sqs->fill('busy', $burst, body => '{i}', start => $done + 1);
	$done += $burst;
	query_true($node, "($in_flight) >= $in_hand", "$in_hand messages are in hand at once");
	$sqs->clear_faults($id);
	handled($done, "$done messages");
	query_is($node, $in_flight, '0', 'and none is');
	return;
}

# How much more a process has, and what its additional connections account for.
sub growth
{
	my ($kind, $before, $after) = @_;
	my ($b, $a) = ($before->{$kind}, $after->{$kind});
	my $more = $kind eq 'queue worker' ? max(0, $a->{files} - $b->{files}) * $connection : 0;
	return $a->{memory} - $b->{memory} - $more;
}

handle_burst() while $done < $from;
my $first = measure();
my $after = $first;
$before = undef;

# On a slow machine a burst may meet more calls at a time than any before it.
# That comes once; what leaks does so each time.
foreach my $try (1 .. 3)
{
	my $end = $done + $to - $from;

	$before = $after;
	while ($done < $end - $burst)
	{
		my $left = $end - $burst - $done;
		my $more = $left > 100_000 ? 100_000 : $left;
		$sqs->fill('busy', $more, body => '{i}', start => $done + 1);
		$done += $more;
		handled($done, "$done messages");
		my $now = measure()->{'queue worker'};
		note("queue worker: $now->{memory} kB, $now->{files} files");
	}
	handle_burst();
	$after = measure();
	last unless grep { !$after->{$_} || growth($_, $before, $after) > $growth_limit } keys %$before;
}
is(join(',', sort keys %$after), 'database worker,handler worker,launcher,queue worker', 'there is one process of each kind');
foreach my $kind (sort keys %$first)
{
	my ($f, $b, $a) = ($first->{$kind}, $before->{$kind}, $after->{$kind});
	is($a->{pid}, $f->{pid}, "$kind: the same process after $done messages as after $from");
	if ($kind eq 'queue worker')
	{
		cmp_ok($a->{files}, '<=', $files_limit, "$kind: its open files are bounded ($f->{files}, $a->{files})");
	}
	else
	{
		cmp_ok($a->{files} - $f->{files}, '<=', 4, "$kind: its open files are flat ($f->{files}, $a->{files})");
	}
	cmp_ok(growth($kind, $before, $after), '<=', $growth_limit,
		sprintf('%s: so is its memory (%d, %d kB)', $kind, $b->{memory}, $a->{memory}));
}
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT body) FROM got'), "$done|$done", 'each message had its effect once');

# ---- an idle queue makes at most 180 calls an hour

foreach my $queue (@idle, @bases)
{
	my @polls;
	poll_until(
		sub {
			sample_activity();
			@polls = $sqs->call_times($queue, 'ReceiveMessage', $first_poll{$queue} - 1);
			return @polls > 1;
		},
		"$queue: has begun another poll");
	calls_apart(\@polls, 20_000, "$queue: no sooner than after 20 seconds, or 180 an hour", from_reply => 1);
}
my $later = $sqs->stats->{queues};
foreach my $queue (@idle, @bases)
{
	my %calls = %{ $later->{$queue}{calls} };
	my %calls_before = %{ $books->{$queue}{calls} };
	delete @$_{'ReceiveMessage'} foreach \%calls, \%calls_before;
	is_deeply(\%calls, \%calls_before, "$queue: makes no other call");
}
is(scalar(grep { $sqs->stats($_)->{max_open_polls} > 1 } @idle, @bases), 0, 'and has no more than one open at a time');
is(join("\n", @held), '', "idle processes hold no transaction, snapshot or transaction id ($samples looks)");
# (its handler may have left by now)
query_is($node, q{SELECT count(*) > 0, count(backend_xmin), count(backend_xid), count(xact_start) FROM pg_stat_activity
	JOIN sqs_stats_workers USING (pid) WHERE queue = 'busy'}, 't|0|0|0', 'nor do those of the busy queue when it is done');

# ---- secrets, when things go wrong

# not before: half a million messages would be a gigabyte of log
$node->append_conf('postgresql.conf', "log_min_messages = debug5\nlog_error_verbosity = verbose\n");
$node->reload;
query_is($node, 'SHOW log_min_messages', 'debug5', 'everything is logged from now on');
$node->safe_psql('postgres', <<EOQ);
CREATE ROLE reader LOGIN;
CREATE ROLE stats LOGIN IN ROLE pg_read_all_stats;
CREATE ROLE plain LOGIN;
GRANT USAGE ON FOREIGN SERVER aws TO plain;
CREATE SERVER aws_wrong FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '$endpoint');
EOQ
quietly('postgres', "CREATE USER MAPPING FOR PUBLIC SERVER aws_wrong
	OPTIONS (access_key_id 'AKIDGOOD', secret_access_key '$wrong', session_token '$token')");

# AWS's texts for a bad signature may quote the request, its headers included.
my $echo = "The request signature we calculated does not match the signature you provided. The Canonical String for this request "
  . "should have been 'POST\n/\n\nhost:127.0.0.1\nx-amz-date:20250101T000000Z\nx-amz-security-token:$token\nx-amz-target:AmazonSQS'";
$sqs->fault(kind => 'error', action => 'ReceiveMessage', queue => 'mismatch', status => 403, code => 'SignatureDoesNotMatch', message => $echo);
$sqs->fault(kind => 'error', action => 'ReceiveMessage', queue => 'denied', status => 403, code => 'AccessDenied',
	message => "User with key AKIDGOOD, $secret and $token is not authorized");
$sqs->fault(kind => 'entry_fail', action => 'DeleteMessageBatch', queue => 'batch', count => 3, code => 'AccessDenied',
	message => "no delete with $token");
$node->safe_psql('postgres', <<'EOQ');
SELECT sqs_register_queue('denied', server => 'aws', handler => 'handle');
SELECT sqs_register_queue('mismatch', server => 'aws', handler => 'handle');
SELECT sqs_register_queue('wrong', server => 'aws_wrong', handler => 'handle');
SELECT sqs_register_queue('failing', server => 'aws', handler => 'fail');
SELECT sqs_register_queue('batch', server => 'aws', handler => 'handle');
EOQ
$sqs->fill('failing', 3, body => '{i}');
$sqs->fill('batch', 1, body => 'batch');
my %errors = (
	denied => 'AccessDenied',
	mismatch => 'InvalidSignature|SignatureDoesNotMatch',
	wrong => 'InvalidSignature|SignatureDoesNotMatch');
query_is($node, "SELECT last_error ~ '$errors{$_}' AND consecutive_errors > 1 FROM sqs_stats WHERE queue = '$_'", 't', "$_: fails again and again")
  foreach sort keys %errors;
query_is($node, q{SELECT count(DISTINCT message_id) FROM sqs_failures WHERE message LIKE 'failed with%'}, '3', 'handlers fail');
poll_until(sub { $sqs->stats('batch')->{deleted} == 1 }, 'deletes fail, until they do not');

# functions that are told nonsense
my $errors = '';
my @said = (
	q{SELECT sqs_register_queue('x', server => 'none')},
	q{SELECT sqs_register_queue('x', server => 'aws', wait_time => '1 h')},
	q{SELECT sqs_register_queue('x', server => 'aws', handler => 'none')},
	q{ALTER USER MAPPING FOR PUBLIC SERVER aws OPTIONS (ADD secret_access_key 'x')},
	q{ALTER USER MAPPING FOR PUBLIC SERVER aws OPTIONS (SET secret_access_key '')},
	q{ALTER USER MAPPING FOR PUBLIC SERVER aws OPTIONS (DROP secret_access_key)},
	q{ALTER USER MAPPING FOR PUBLIC SERVER aws OPTIONS (ADD nonsense 'x')},
	q{ALTER SERVER aws OPTIONS (ADD nonsense 'x')});
my $owner = $node->safe_psql('postgres', 'SELECT current_user');
my @views = qw(sqs_queues sqs_stats sqs_stats_workers sqs_stats_in_flight sqs_failures sqsbridge_internal.inbox pg_stat_activity pg_settings
  pg_foreign_server pg_file_settings pg_prepared_statements);
my $views = '';
foreach my $role ($owner, qw(plain stats reader))
{
	foreach my $query (map { "SELECT * FROM $_" } @views, $role eq $owner ? () : qw(pg_user_mapping pg_user_mappings))
	{
		my (undef, $out, $err) = $node->psql('postgres', $query, extra_params => [ '-U', $role ]);
		$views .= $out;
		$errors .= $err;
	}
	foreach my $query (@said)
	{
		my ($rc, undef, $err) = $node->psql('postgres', $query, extra_params => [ '-U', $role, '-v', 'VERBOSITY=verbose' ]);
		$errors .= $err;
	}
}
like($views, qr/The Canonical String for this request/, 'the views have the errors');
like($errors, qr/wait_time/, 'so have the error texts');
no_secret($views, 'no secret in any view, as owner or as another role');
no_secret($errors, 'no secret in any error text');

# command lines and environments of the processes
my $seen = '';
foreach my $pid (map { @$_ } values %{ processes() })
{
	foreach my $file ('cmdline', 'environ')
	{
		open(my $fh, '<', "/proc/$pid/$file") or next;
		local $/;
		$seen .= <$fh> // '';
		close($fh);
	}
}
like($seen, qr/sqsbridge queue worker/, 'processes have their titles');
no_secret($seen, 'with no secret');

stop_ok($node, 'all stop');
my $log = log_text($node);
ok($log =~ /DEBUG:/ && $log =~ /The Canonical String for this request/, 'the server log has everything');
no_secret($log, 'but no secret, not even at debug5, nor a signature');
check_log(
	$node, qr/failed with \d/, qr/permission denied|must be owner/, qr/does not exist/, qr/invalid value|invalid option|wait_time/,
	qr/option "\w+" /, qr/access_key/);
done_testing();
