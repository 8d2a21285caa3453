# Single calls fail while others succeed: the queue goes on, says nothing, and
# makes no more calls than it takes.  "backing off" is for an outage.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my @brown = qw(refused reset lost throttled entries);
my $sqs = start_sqs(queues => [ map { "$_,VisibilityTimeout=60" } @brown, qw(idle outage out_refused out_reset out_throttled ordered.fifo) ]);
my $node = new_node('main');

setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (queue text, body text, message_id text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS 'INSERT INTO got VALUES (m.queue, m.body, m.message_id)';
EOQ

sub register
{
	my ($queue) = @_;
	$node->safe_psql('postgres', "SELECT sqs_register_queue('$queue', server => 'aws', handler => 'handle', concurrency => 2)");
	return;
}

sub stat_of
{
	my ($queue, $columns) = @_;
	return $node->safe_psql('postgres', "SELECT $columns FROM sqs_stats WHERE queue = '$queue'");
}

# ---- some calls fail, never three in a row

my $count = 3000;
my %fault = (
	refused => { kind => 'error', status => 503, code => 'ServiceUnavailable' },
	reset => { kind => 'reset_before' },
	lost => { kind => 'lose_reply' },
	throttled => { kind => 'error', status => 400, code => 'ThrottlingException' });

foreach my $queue (@brown)
{
	$sqs->fill($queue, $count);
	foreach my $action ('ReceiveMessage', 'DeleteMessageBatch')
	{
		if ($queue eq 'entries')
		{
			# one of each of the first calls, so that none fails again and again
			$sqs->fault(kind => 'entry_fail', code => 'InternalError', every => 10, count => 20, action => $action,
				queue => $queue) if $action eq 'DeleteMessageBatch';
			next;
		}
		# the eighth, the sixteenth and so on
		$sqs->fault(%{ $fault{$queue} }, action => $action, queue => $queue, count => 1, skip => 7 * $_) foreach 1 .. 20;
	}
}
my $offset = -s $node->logfile;
register($_) foreach @brown;
foreach my $queue (@brown)
{
	# what was in a reply that is lost comes again when its time is up
	if ($queue eq 'lost')
	{
		poll_until(sub { $sqs->stats($queue)->{visible} == 0 }, "$queue: all are received");
		query_is($node, "SELECT in_flight FROM sqs_stats WHERE queue = '$queue'", '0', "$queue: and handled");
	}
}
$sqs->advance(61);
foreach my $queue (@brown)
{
	$sqs->is_empty($queue, "$queue: all messages are deleted", 120);
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT message_id) FROM got WHERE queue = '$queue'"),
		"$count|$count", "$queue: each had its effect once");
	$sqs->books_agree($queue, $node, $queue, "SELECT message_id, md5(body) FROM got WHERE queue = '$queue'");
	query_is($node, "SELECT state, consecutive_errors FROM sqs_stats WHERE queue = '$queue'", 'polling|0', "$queue: nothing is wrong");
	my ($poll_failures, $delete_failures) = split /\|/, stat_of($queue, 'poll_failures, delete_failures');
	cmp_ok($poll_failures, '>=', 10, "$queue: polls that failed are counted") if $queue ne 'entries';
	cmp_ok($delete_failures, '>=', 10, "$queue: entries that failed are counted") if $queue eq 'entries';
	my @lines = grep { !/is polling$/ } log_text($node, $offset) =~ /LOG:  sqsbridge queue "$queue".*/g;
	is(join("\n", @lines), '', "$queue: the log has nothing of it");
}
$sqs->clear_faults;

# ---- some requests of the outbox fail

my %out = (out_refused => 'refused', out_reset => 'reset', out_throttled => 'throttled', 'ordered.fifo' => 'refused');
foreach my $queue (sort keys %out)
{
	$node->safe_psql('postgres', "SELECT sqs_register_queue('$queue', server => 'aws')");
	$sqs->fault(%{ $fault{ $out{$queue} } }, action => 'SendMessageBatch', queue => $queue, count => 1, skip => 7 * $_) foreach 1 .. 20;
}
$offset = -s $node->logfile;
$node->safe_psql('postgres', "INSERT INTO sqs_outbox (queue, body, group_id)
	SELECT q, i, CASE WHEN q LIKE '%.fifo' THEN 'g' || i % 20 END
	FROM generate_series(1, $count) i, unnest('{" . join(',', keys %out) . "}'::text[]) q");
query_is($node, 'SELECT count(*) FROM sqs_outbox', '0', 'outbox: all is sent', timeout => 120);
foreach my $queue (sort keys %out)
{
	is($sqs->stats($queue)->{sent}, $count, "$queue: SQS has each message once");
	is($node->safe_psql('postgres', "SELECT consecutive_errors, last_error FROM sqs_stats_outbox WHERE queue = '$queue'"),
		'0|', "$queue: nothing is wrong");
}
cmp_ok(scalar(grep { $_->{fired} > 0 } @{ $sqs->faults }), '>=', 70, 'outbox: although requests failed');
is(join("\n", log_text($node, $offset) =~ /.*the outbox.*/g), '', 'outbox: the log has nothing of it');
$sqs->clear_faults;

# ---- one poll of an idle queue

register('idle');
poll_until(sub { $sqs->stats('idle')->{open_polls} == 1 }, 'idle: it polls');
$offset = -s $node->logfile;
$sqs->fault(kind => 'error', status => 503, action => 'ReceiveMessage', queue => 'idle', count => 2);
$sqs->fill('idle', 1);
$sqs->is_empty('idle');
query_is($node, q{SELECT poll_failures FROM sqs_stats WHERE queue = 'idle'}, '2', 'idle: two polls fail in a row');
$sqs->fill('idle', 1);
$sqs->is_empty('idle');
is(stat_of('idle', 'state, consecutive_errors, next_poll_at IS NULL'), 'polling|0|t', 'idle: that is no outage');
is(log_text($node, $offset) =~ /queue "idle"/ ? 1 : 0, 0, 'idle: and not told');

# ---- an outage is three in a row

register('outage');
poll_until(sub { $sqs->stats('outage')->{open_polls} == 1 }, 'outage: it polls');
$offset = -s $node->logfile;
my $fault = $sqs->fault(kind => 'error', status => 503, action => 'ReceiveMessage', queue => 'outage');
$sqs->fill('outage', 1);
query_is($node, q{SELECT state FROM sqs_stats WHERE queue = 'outage'}, 'backing off', 'outage: it backs off');
query_true($node, q{(SELECT consecutive_errors >= 3 FROM sqs_stats WHERE queue = 'outage')}, 'outage: and again');
backs_off($node, 'outage', 'outage: with growing delays');
my ($failures, $errors) = split /\|/, stat_of('outage', 'poll_failures, consecutive_errors');
cmp_ok($failures - $errors, '<=', 2, 'outage: two polls more than steps');
my @lines = log_text($node, $offset) =~ /LOG:  sqsbridge queue "outage".*/g;
is(scalar(@lines), 1, 'outage: the log has one line') or diag(join "\n", @lines);
$sqs->clear_faults($fault);
query_is($node, q{SELECT state, consecutive_errors FROM sqs_stats WHERE queue = 'outage'}, 'polling|0', 'outage: it recovers');

$node->stop;
check_log($node);
done_testing();
