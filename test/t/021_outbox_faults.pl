# The outbox while SQS, the network or somebody in the database makes trouble:
# the database worker lives on, asks seldom, says what is wrong, recovers by
# itself, and every row is sent, in order where there is one.
#
# Each fault has two queues of its own, and all of them happen at the same
# time.  Each ends when it has lasted, so that the back-off stays short.
use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use List::Util qw(min sum);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};
# a fault lasts so long and until so many requests have failed
my $seconds = $long ? 60 : 0;
my $failures = 3;
my $groups = 3;
my $rows = 60;

# What happens to SendMessageBatch, the text that last_error then has, and
# whether SQS may have the messages all the same.
my %fault = (
	denied => [ { kind => 'error', status => 403, code => 'AccessDenied' }, qr/: AccessDenied/ ],
	unavailable => [ { kind => 'error', status => 503, code => 'ServiceUnavailable' }, qr/: ServiceUnavailable: / ],
	throttled => [ { kind => 'error', status => 400, code => 'ThrottlingException' }, qr/: ThrottlingException: / ],
	# somebody else answers: that says nothing about the messages
	proxy => [ { kind => 'error', status => 404, body => '<html>nobody home</html>' }, qr/: Http404: / ],
	'reset-before' => [ { kind => 'reset_before' }, qr/: Curl\d+: / ],
	'reset-after' => [ { kind => 'reset_after' }, qr/: Curl\d+: /, 1 ],
	'reply-lost' => [ { kind => 'lose_reply' }, qr/: Curl\d+: /, 1 ],
	'cut-short' => [ { kind => 'truncate', bytes => 1 }, qr/: Curl18: /, 1 ],
	garbage => [ { kind => 'garbage' }, qr/: InvalidReply: /, 1 ],
	noise => [ { kind => 'garbage', raw => JSON::PP::true() }, qr/: Curl\d+: /, 1 ],
	entries => [ { kind => 'entry_fail', code => 'InternalError', message => 'not now' }, qr/: InternalError: not now$/ ],
	mute => [ { kind => 'entry_fail', code => 'ServiceUnavailable', message => '' }, qr/: \S*ServiceUnavailable: / ],
	kms => [ { kind => 'entry_fail', code => 'KmsDisabled', message => 'key', sender_fault => JSON::PP::true() }, qr/: KMS\.DisabledException: key$/ ],
	silent => [ { kind => 'blackhole' }, qr/: Curl28: / ],
	refused => [ undef, qr/: Curl7: / ]);

my @names = ('silent', grep { $_ ne 'silent' } sort keys %fault);
my @queues = map { ($_, "$_.fifo") } @names;
my @twice = grep { $fault{$_}[2] } @names;

our $sqs = start_sqs(queues => [ @queues, 'healthy', 'healthy.fifo' ]);
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $gone = start_sqs(port => $port, queues => [ 'refused', 'refused.fifo' ]);
my $node = new_node('main', conf => "max_worker_processes = 60\nsqsbridge.max_workers = 60\n");

setup_database($node, $sqs);
add_server($node, 'refused', "http://127.0.0.1:$port");
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (queue text, body text, message_id text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO got VALUES (m.queue, m.body, m.message_id) $$;
EOQ

sub register
{
	my ($server, @queues) = @_;
	$node->safe_psql('postgres', "SELECT sqs_register_queue(q, server => '$server')
		FROM unnest('{" . join(',', @queues) . "}'::text[]) q");
	return;
}
register(/^refused/ ? 'refused' : 'aws', $_)
  foreach (@queues, 'healthy', 'healthy.fifo');

# Columns of the queue's row in sqs_stats_outbox.
sub stat_of
{
	my ($queue, $columns) = @_;
	return $node->safe_psql('postgres', "SELECT $columns FROM sqs_stats_outbox WHERE queue = '$queue'");
}

sub waiting_is
{
	my ($queue, $n, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return query_is($node, "SELECT waiting FROM sqs_stats_outbox WHERE queue = '$queue'",
		$n, $name, timeout => 180);
}

# So many rows, in transactions of twenty, in groups if there are any.
my %enqueued;

sub enqueue
{
	my ($queue, $count, %o) = @_;
	my $prefix = $o{group} || 'g';
	my $n = $o{group} ? 1 : $groups;
	my $group = $queue =~ /\.fifo$/ ? "'$prefix' || i % $n" : 'NULL';
	$group = "'$prefix'" if $o{group};
	my $from = $enqueued{$queue} || 0;
	my $sql = '';

	for (my $i = $from; $i < $from + $count; $i += $o{batch} || 20)
	{
		my $last = min($i + ($o{batch} || 20), $from + $count) - 1;
		$sql .= "INSERT INTO sqs_outbox (queue, body, group_id) SELECT '$queue', $group || ':' || i, $group
			FROM generate_series($i, $last) i;\n" =~ s/NULL \|\| ':' \|\| i/'m:' || i/r;
	}
	$node->safe_psql('postgres', $sql);
	$enqueued{$queue} += $count;
	return;
}

# The messages that SQS has, in the order of their arrival.
sub arrived
{
	my ($queue, $server) = @_;
	return map { $_->{body} } @{ ($server || $sqs)->messages($queue) };
}

# All of the queue's messages are there; those of a group in their order, none
# of them twice.
sub arrived_in_order
{
	my ($queue, $name, $server) = @_;
	my (%last, @wrong);
	my @bodies = arrived($queue, $server);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(scalar(@bodies), $enqueued{$queue}, "$name: every message is sent once");
	if ($queue =~ /\.fifo$/)
	{
		foreach (@bodies)
		{
			my ($group, $n) = /^(.+):(\d+)$/;
			push @wrong, $_ if defined $last{$group} && $last{$group} >= $n;
			$last{$group} = $n;
		}
		is(join(' ', @wrong), '', "$name: each group in its order");
	}
	else
	{
		is(scalar(keys %{ { map { $_ => 1 } @bodies } }), $enqueued{$queue}, "$name: all of them");
	}
	return;
}

sub fired
{
	my ($id) = @_;
	return (map { $_->{fired} } grep { $_->{id} == $id } @{ $sqs->faults })[0];
}

# What the log says of the queue's outbox.
sub lines_of
{
	my ($queue, $offset) = @_;
	return log_text($node, $offset) =~ /LOG:  (sqsbridge [^\n]* outbox to queue "\Q$queue\E".*)/g;
}

sub database_worker
{
	my ($db) = @_;
	$db ||= 'postgres';
	return $node->safe_psql('postgres',
		"SELECT pid, started_at FROM sqs_stats_workers WHERE kind = 'database worker' AND database = '$db'");
}

# ---- healthy ----

my $offset = -s $node->logfile;
enqueue($_, 6) foreach @queues;
query_is($node, 'SELECT sum(waiting) FROM sqs_stats_outbox', '0', 'all is well');
my $worker = database_worker();
like($worker, qr/^\d+\|/, 'there is a database worker');

# ---- all faults begin ----

my (%rule, %began, %first);
foreach my $queue (@queues)
{
	my ($name) = $queue =~ /^([^.]+)/;
	($began{$queue}) = reverse $sqs->call_times($queue, 'SendMessageBatch');
	$rule{$queue} = $sqs->fault(%{ $fault{$name}[0] }, action => 'SendMessageBatch', queue => $queue)
	  if $fault{$name}[0];
}
$gone->stop_sqs;
enqueue($_, $rows - 6) foreach @queues;

# one that is well is not held up by thirty that are not
enqueue($_, 500, batch => 500) foreach ('healthy', 'healthy.fifo');
waiting_is($_, 0, "$_: is sent meanwhile") foreach ('healthy', 'healthy.fifo');
ok(sum(map { stat_of($_, 'waiting') } @queues) >= 20 * ($rows - 6), 'while the others wait');
arrived_in_order($_, $_) foreach ('healthy', 'healthy.fifo');

# the story as it is told while they last
sub lasts
{
	my ($queue) = @_;
	my ($name) = $queue =~ /^([^.]+)/;
	my $pattern = $fault{$name}[1];
	my $n = $name eq 'silent' ? 1 : $failures;

	poll_until(
		sub { stat_of($queue, q{state || ' ' || last_error}) =~ /^backing off SendMessageBatch$pattern/ },
		"$queue: state and last_error tell the fault")
	  or diag(stat_of($queue, 'state, last_error'));
	$first{$queue} = stat_of($queue, 'error_since');
	query_true($node, "(SELECT consecutive_errors >= $n AND error_since <= now() - interval '$seconds s'
		FROM sqs_stats_outbox WHERE queue = '$queue')", "$queue: it lasts", timeout => $seconds + 60);
	query_true($node, "(SELECT next_attempt_at BETWEEN last_error_at + interval '0.2 s' AND last_error_at + interval '70 s'
		FROM sqs_stats_outbox WHERE queue = '$queue' AND state = 'backing off')",
		"$queue: next_attempt_at tells when it is tried again");

	# nothing is lost, and nothing is asked too often
	my ($waiting, $failed, $error_since, $errors) =
	  split /\|/, stat_of($queue, 'waiting, failed, error_since, consecutive_errors');
	is("$waiting|$failed|$error_since", ($rows - 6) . "|0|$first{$queue}", "$queue: all rows wait");
	# all that are allowed at once may have been under way when it began
	backs_off($node, $queue, "$queue: it is tried ever more seldom", view => 'sqs_stats_outbox', free => 6);
	return if !$rule{$queue};
	cmp_ok($errors, '<=', fired($rule{$queue}), "$queue: consecutive_errors counts requests");
	pauses_grow(sub { $sqs->call_times($queue, 'SendMessageBatch', $began{$queue}) }, 6, 60, "$queue: no more requests than the back-off allows")
	  if $name ne 'silent';
	return;
}

sub ends
{
	my ($queue) = @_;
	my @lines = lines_of($queue, $offset);
	$sqs->clear_faults($rule{$queue}) if $rule{$queue};
	is(scalar(@lines), 1, "$queue: one line in the log") or diag(join "\n", @lines);
	like($lines[0] || '', qr/cannot send from the outbox to queue "[^"]+": SendMessageBatch/, "$queue: that says what happens");
	return;
}

# requests that are not answered take twenty seconds to fail: those are last
foreach my $queue (grep { !/^silent/ } @queues)
{
	lasts($queue);
	ends($queue);
}
$gone = start_sqs(port => $port, queues => [ 'refused', 'refused.fifo' ]);
foreach my $queue (grep { /^silent/ } @queues)
{
	lasts($queue);
	ends($queue);
}

# ---- they are over ----

foreach my $queue (@queues)
{
	my ($name) = $queue =~ /^([^.]+)/;
	waiting_is($queue, 0, "$queue: everything is sent when it is over");
	query_is($node, "SELECT state, consecutive_errors, error_since IS NULL, next_attempt_at IS NULL, failed,
			last_error IS NOT NULL, sent FROM sqs_stats_outbox WHERE queue = '$queue'",
		"idle|0|t|t|0|t|$rows", "$queue: all is well, and the last error can still be read");
	my @lines = lines_of($queue, $offset);
	is(scalar(@lines), 2, "$queue: a line in the log says so") or diag(join "\n", @lines);
	is($lines[-1], qq(sqsbridge sends from the outbox to queue "$queue" again), "$queue: which");
	$enqueued{$queue} -= 6 if $name eq 'refused';
	arrived_in_order($queue, $queue, $name eq 'refused' ? $gone : $sqs)
	  if !$fault{$name}[2] || $queue =~ /\.fifo$/;
}
is(database_worker(), $worker, 'the database worker is still the same');

# those of which SQS got copies: sqsbridge recognises them
$node->safe_psql('postgres', "SELECT sqs_alter_queue(q, handler => 'handle')
	FROM unnest('{" . join(',', @twice) . "}'::text[]) q");
foreach my $queue (@twice)
{
	cmp_ok($sqs->stats($queue)->{sent}, '>', $rows, "$queue: SQS has got copies");
	$sqs->is_empty($queue, "$queue: all is received");
	is( $node->safe_psql('postgres', "SELECT count(*), count(DISTINCT body) FROM got WHERE queue = '$queue'"),
		"$rows|$rows", "$queue: each message had its effect once");
}

$node->stop;
check_log($node);
$sqs->stop_sqs;
$gone->stop_sqs;
done_testing();
