# The outbox and trouble that is local: messages and groups that fail for
# themselves; queues, keys, endpoints and privileges that are mended.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};
my @queues = ('md5', 'md5.fifo', 'some', 'refused', 'groups.fifo', 'large.fifo', 'batched.fifo', 'moved', 'owned', 'owned.fifo');

our $sqs = start_sqs(queues => [@queues]);
my $other = start_sqs(queues => [ 'moved', 'moved.fifo' ]);
my $strict = start_sqs(args => [ '--access-key', 'AKIDTEST', '--secret-key', 'secret', '--queue', 'keys' ]);
my $node = new_node('main', conf => "max_worker_processes = 60\nsqsbridge.max_workers = 60\n");

setup_database($node, $sqs);
sub register
{
	my ($server, @queues) = @_;
	$node->safe_psql('postgres', "SELECT sqs_register_queue(q, server => '$server')
		FROM unnest('{" . join(',', @queues) . "}'::text[]) q");
	return;
}
register('aws', grep { !/moved|owned/ } @queues);

sub stat_is
{
	my ($queue, $columns, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return query_is($node, "SELECT $columns FROM sqs_stats_outbox WHERE queue = '$queue'",
		$expected, $name, timeout => 120);
}

# Rows in one transaction: n bodies, each with the group as its beginning.
sub enqueue
{
	my ($queue, $prefix, $n) = @_;
	my $group = $queue =~ /\.fifo$/ ? "'$prefix'" : 'NULL';
	$node->safe_psql('postgres', "INSERT INTO sqs_outbox (queue, body, group_id)
		SELECT '$queue', '$prefix:' || i, $group FROM generate_series(1, $n) i");
	return;
}

sub arrived
{
	my ($queue, $prefix, $server) = @_;
	return grep { /^\Q$prefix\E:/ } map { $_->{body} } @{ ($server || $sqs)->messages($queue) };
}

# n messages, once each, and in their order on FIFO queues.
sub arrived_are
{
	my ($queue, $prefix, $n, $name, $server) = @_;
	my @got = arrived($queue, $prefix, $server);
	@got = sort { (split /:/, $a)[1] <=> (split /:/, $b)[1] } @got if $queue !~ /\.fifo$/;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join(',', @got), join(',', map { "$prefix:$_" } 1 .. $n), $name);
}

sub lines_of
{
	my ($queue) = @_;
	return log_text($node) =~ /LOG:  (sqsbridge [^\n]* outbox to queue "\Q$queue\E".*)/g;
}

my $worker = $node->safe_psql('postgres',
	"SELECT pid, started_at FROM sqs_stats_workers WHERE kind = 'database worker'");

# ---- a reply with another MD5 ----

foreach my $queue ('md5', 'md5.fifo')
{
	my $fault = $sqs->fault(kind => 'bad_md5', action => 'SendMessageBatch', queue => $queue, count => 2);
	enqueue($queue, 'twice', 5);
	stat_is($queue, "waiting, sent, failed, consecutive_errors, last_error LIKE '%ChecksumMismatch%'",
		'0|5|0|0|t', "$queue: messages are sent again if SQS confirms something else");
	cmp_ok(scalar(arrived($queue, 'twice')), $queue =~ /fifo/ ? '==' : '>', 5,
		"$queue: SQS " . ($queue =~ /fifo/ ? 'knows them again' : 'has copies'));
}
# not for ever: each attempt is one more copy
my $fault = $sqs->fault(kind => 'bad_md5', action => 'SendMessageBatch', queue => 'md5');
enqueue('md5', 'always', 3);
stat_is('md5', 'waiting, failed', '0|3', 'a message that is never confirmed as it is is given up');
is( $node->safe_psql('postgres', "SELECT error_code, count(*) FROM sqs_outbox_failures GROUP BY 1"),
	'ChecksumMismatch|3', 'and kept');
is(scalar(arrived('md5', 'always')), 9, 'after three attempts');
$sqs->clear_faults($fault);
$node->safe_psql('postgres', 'SELECT sqs_outbox_retry(id) FROM sqs_outbox_failures');
stat_is('md5', 'waiting, sent, error_since IS NULL', '0|8|t', 'it can be sent again');
# a receiver that has had one of the copies need not be told
is(scalar(arrived('md5', 'always')), 12, 'as one more copy');
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE got (body text);
CREATE FUNCTION store(m sqs_message) RETURNS void LANGUAGE sql AS 'INSERT INTO got VALUES (m.body)';
SELECT sqs_alter_queue('md5', handler => 'store', wait_time => '1 s');
EOQ
$sqs->is_empty('md5', 'all are received');
is($node->safe_psql('postgres', "SELECT string_agg(body, ',' ORDER BY body) FROM got WHERE body LIKE 'always%'"),
	'always:1,always:2,always:3', 'and known to be the same');
$node->safe_psql('postgres', "SELECT sqs_alter_queue('md5', reset => ARRAY['handler', 'wait_time'])");

# ---- every third entry fails, for SQS's own reasons ----

my $n = $long ? 1000 : 200;

$fault = $sqs->fault(kind => 'entry_fail', action => 'SendMessageBatch', queue => 'some',
	code => 'InternalError', every => 3);
enqueue('some', 'm', $n);
stat_is('some', "waiting, sent, failed, state, last_error LIKE 'SendMessageBatch: InternalError: %'",
	"0|$n|0|idle|t", 'entries that fail now and then are sent in the end');
arrived_are('some', 'm', $n, 'each of them once');
my @lines = lines_of('some');
cmp_ok(scalar(@lines), '<=', 4, 'with few lines in the log') or diag(join "\n", @lines);
$sqs->clear_faults($fault);

# ---- SQS refuses messages, with and without saying why ----

foreach my $message ('no', '')
{
	$fault = $sqs->fault(kind => 'entry_fail', action => 'SendMessageBatch', queue => 'refused',
		code => 'InvalidMessageContents', message => $message, sender_fault => JSON::PP::true(), every => 5);
	enqueue('refused', "m$message", 20);
	stat_is('refused', 'waiting, consecutive_errors', '0|0', 'refused messages hold up nobody');
	my $reason = $message eq '' ? 'SQS gives no reason' : $message;
	is( $node->safe_psql('postgres', "SELECT count(*), min(error_code), min(error_message), max(error_message)
			FROM sqs_outbox_failures"), "4|InvalidMessageContents|$reason|$reason", 'and are kept with the reason');
	is(scalar(arrived('refused', "m$message")), 16, 'the others are sent');
	$node->safe_psql('postgres', 'SELECT sqs_outbox_discard(id) FROM sqs_outbox_failures');
	$sqs->clear_faults($fault);
}

# ---- a message group that fails ----

foreach my $case ([ 'groups.fifo', 30 ], [ 'large.fifo', $long ? 20_000 : 5_000 ])
{
	my ($queue, $n) = @$case;
	$fault = $sqs->fault(kind => 'entry_fail', action => 'SendMessageBatch', queue => $queue,
		group => 'bad', code => 'InternalError', message => 'not this');
	enqueue($queue, 'bad', $n);
	enqueue($queue, "good$_", 30) foreach 1 .. 5;
	stat_is($queue, 'waiting, sent', "$n|150", "$queue: one group waits, the others are sent");
	arrived_are($queue, "good$_", 30, "$queue: in order") foreach 1 .. 5;
	is(scalar(arrived($queue, 'bad')), 0, "$queue: of the group nothing passes what failed");
	stat_is($queue, "state, last_error, consecutive_errors > 1, next_attempt_at > last_error_at",
		'backing off|SendMessageBatch: InternalError: not this|t|t', "$queue: the view tells of it");
	enqueue($queue, 'late', 10);
	stat_is($queue, 'waiting, sent', "$n|160", "$queue: and those that come later");
	stat_is($queue, 'error_since IS NOT NULL', 't', "$queue: it is not well while one waits");
	$sqs->clear_faults($fault);
	next if $n > 100;
	stat_is($queue, 'waiting, state, error_since IS NULL', '0|idle|t', "$queue: it is sent when it can be");
	arrived_are($queue, 'bad', $n, "$queue: in order, too");
	@lines = lines_of($queue);
	is(scalar(@lines), 2, "$queue: two lines in the log") or diag(join "\n", @lines);
}

# ---- a group id that PostgreSQL has compressed names the same group ----

# of the entries that SQS gets the second fails, which is the group's first
$fault = $sqs->fault(kind => 'entry_fail', action => 'SendMessageBatch', queue => 'groups.fifo',
	code => 'InternalError', message => 'not now', every => 2);
$node->safe_psql('postgres', <<'EOQ');
BEGIN;
SELECT sqs_enqueue('groups.fifo', 'other:1', group_id => 'other');
SELECT sqs_enqueue('groups.fifo', 'zip:1', group_id => repeat('a', 100));
SELECT sqs_enqueue('groups.fifo', 'zip:2', group_id => repeat('a', 100), attributes => jsonb_build_object('random',
	(SELECT string_agg(chr(33 + (random() * 90)::integer), '') FROM generate_series(1, 1900))));
DO $$
BEGIN
	ASSERT (SELECT count(*) = 1 FROM sqsbridge_internal.outbox_rows WHERE pg_column_compression(group_id) IS NOT NULL);
END $$;
COMMIT;
EOQ
stat_is('groups.fifo', 'waiting', '0', 'messages of a group with a long id are sent');
arrived_are('groups.fifo', 'zip', 2, 'in order');
$sqs->clear_faults($fault);

# ---- several messages of a group in a request, where that is allowed ----

$node->safe_psql('postgres', "SELECT sqs_alter_queue('batched.fifo', group_batch_size => 10, enabled => false)");
enqueue('batched.fifo', 'ten', 30);
$node->safe_psql('postgres', "SELECT sqs_enable_queue('batched.fifo')");
stat_is('batched.fifo', 'waiting, sent', '0|30', 'ten of a group in a request: all are sent');
arrived_are('batched.fifo', 'ten', 30, 'ten of a group in a request: in order');
is($sqs->calls('batched.fifo', 'SendMessageBatch'), 3, 'ten of a group in a request: no more than are needed');

$node->safe_psql('postgres', "SELECT sqs_disable_queue('batched.fifo')");
enqueue('batched.fifo', 'some', 30);
# the fourth and the eighth entry of the first request
$fault = $sqs->fault(kind => 'entry_fail', action => 'SendMessageBatch', queue => 'batched.fifo',
	code => 'InternalError', message => 'not now', every => 4, count => 1);
$node->safe_psql('postgres', "SELECT sqs_enable_queue('batched.fifo')");
stat_is('batched.fifo', 'waiting, sent', '0|60', 'entries that fail: all are sent');
is(join(' ', map { s/some://r } arrived('batched.fifo', 'some')),
	join(' ', 1 .. 3, 5 .. 7, 9, 10, 4, 8, 11 .. 30),
	'entries that fail: overtaken by those of their request, and by no others');
$sqs->clear_faults($fault);
$node->safe_psql('postgres', "SELECT sqs_alter_queue('batched.fifo', reset => ARRAY['group_batch_size'])");
enqueue('batched.fifo', 'one', 3);
stat_is('batched.fifo', 'waiting, sent', '0|63', 'one of a group in a request again: all are sent');
is($sqs->calls('batched.fifo', 'SendMessageBatch'), 3 + 5 + 3, 'one of a group in a request again');

# ---- no such queue, for now ----

register('aws', 'late', 'late.fifo');
foreach my $queue ('late', 'late.fifo')
{
	enqueue($queue, 'm', 25);
	stat_is($queue, "waiting, failed, state, last_error ~ 'NonExistentQueue|QueueDoesNotExist', consecutive_errors >= 2",
		'25|0|backing off|t|t', "$queue: rows wait for a queue that is not there");
	$sqs->create_queue($queue);
	stat_is($queue, 'waiting, sent, error_since IS NULL', '0|25|t', "$queue: until it is");
	arrived_are($queue, 'm', 25, "$queue: all of them, once");
	# deleted while in use
	$sqs->call('DeleteQueue', { QueueUrl => $sqs->url($queue) });
	enqueue($queue, 'n', 25);
	stat_is($queue, 'waiting, state', '25|backing off', "$queue: it is deleted");
	$sqs->create_queue($queue);
	stat_is($queue, 'waiting, sent', '0|50', "$queue: and there again");
	arrived_are($queue, 'n', 25, "$queue: nothing is lost");
}

# ---- keys that are refused, and mended ----

add_server($node, 'keys', $strict->endpoint, key => 'wrong');
register('keys', 'keys');
enqueue('keys', 'm', 25);
stat_is('keys', "waiting, state, last_error ~ ': (SignatureDoesNotMatch|InvalidSignature)', consecutive_errors >= 4",
	'25|backing off|t|t', 'wrong keys');
my $next = $node->safe_psql('postgres', "SELECT next_attempt_at FROM sqs_stats_outbox WHERE queue = 'keys'");
$node->safe_psql('postgres', "ALTER USER MAPPING FOR PUBLIC SERVER keys OPTIONS (SET secret_access_key 'secret')");
stat_is('keys', 'waiting, sent, error_since IS NULL', '0|25|t', 'rows are sent once they are mended');
is( $node->safe_psql('postgres', "SELECT last_success_at < '$next' FROM sqs_stats_outbox WHERE queue = 'keys'"),
	't', 'at once, not when the back-off is over') if $next ne '';
arrived_are('keys', 'm', 25, 'all of them, once', $strict);
unlike(log_text($node), qr/secret_access_key|wrong'/, 'no key is in the log');

# ---- the endpoint changes while rows are under way ----

add_server($node, 'moves', $sqs->endpoint);
register('moves', 'moved');
# (forty requests, of which it makes four at first: there are always some left)
$fault = $sqs->fault(kind => 'latency', ms => 5000, action => 'SendMessageBatch', queue => 'moved');
enqueue('moved', 'm', 400);
stat_is('moved', 'in_flight > 0', 't', 'requests are under way');
$node->safe_psql('postgres', "ALTER SERVER moves OPTIONS (SET endpoint '" . $other->endpoint . "')");
stat_is('moved', 'waiting, sent', '0|400', 'the endpoint changes: all is sent');
my @here = arrived('moved', 'm');
my @there = arrived('moved', 'm', $other);
cmp_ok(scalar(@here), '>', 0, 'some to the old one');
cmp_ok(scalar(@there), '>', 0, 'some to the new one');
is(scalar(@here) + scalar(@there), 400, 'none twice');
# ... and back from one that does not answer
$sqs->clear_faults($fault);
$fault = $other->fault(kind => 'error', status => 503, code => 'ServiceUnavailable', queue => 'moved');
enqueue('moved', 'n', 30);
stat_is('moved', "state, waiting, consecutive_errors >= 4", 'backing off|30|t', 'the new endpoint fails');
$node->safe_psql('postgres', "ALTER SERVER moves OPTIONS (SET endpoint '" . $sqs->endpoint . "')");
stat_is('moved', 'waiting, sent, error_since IS NULL', '0|430|t', 'back to the old one');
arrived_are('moved', 'n', 30, 'which gets what waited');

# ---- the owner loses its privilege ----

$node->safe_psql('postgres', <<'EOQ');
CREATE ROLE owner LOGIN;
GRANT USAGE ON FOREIGN SERVER aws TO owner;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO owner;
SET ROLE owner;
SELECT sqs_register_queue('owned', server => 'aws');
EOQ
enqueue('owned', 'm', 5);
stat_is('owned', 'waiting, sent', '0|5', 'the owner may send');
$node->safe_psql('postgres', "SELECT sqs_disable_queue('owned')");
enqueue('owned', 'n', 25);
stat_is('owned', 'waiting, state', '25|disabled', 'a disabled queue');
$node->safe_psql('postgres', "REVOKE USAGE ON FOREIGN SERVER aws FROM owner; SELECT sqs_enable_queue('owned')");
stat_is('owned', 'waiting, state, last_error, next_attempt_at > last_error_at',
	'25|error|its owner, role "owner", has no USAGE privilege on server "aws"|t', 'without USAGE rows wait');
is($sqs->stats('owned')->{sent}, 5, 'and are not sent');
$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER aws TO owner');
stat_is('owned', 'waiting, sent, state, error_since IS NULL', '0|30|idle|t', 'until it is granted again');
@lines = lines_of('owned');
is(scalar(@lines), 2, 'two lines in the log') or diag(join "\n", @lines);

# ---- what is in hand is put down, and taken up again

foreach my $way (
	[ 'disabled', q{SELECT sqs_disable_queue('owned'), sqs_disable_queue('owned.fifo')}, q{SELECT sqs_enable_queue('owned'), sqs_enable_queue('owned.fifo')}, 'disabled',
		q{outbox_state = 'disabled'} ],
	[ 'without USAGE', 'REVOKE USAGE ON FOREIGN SERVER aws FROM owner', 'GRANT USAGE ON FOREIGN SERVER aws TO owner', 'error',
		q{outbox_last_error LIKE '%has no USAGE privilege%'} ])
{
	my ($name, $away, $back, $state, $noticed) = @$way;
	$node->safe_psql('postgres', q{SET ROLE owner; SELECT sqs_register_queue('owned.fifo', server => 'aws')}) if $name eq 'disabled';
	my $sent = $sqs->stats('owned')->{sent} + $sqs->stats('owned.fifo')->{sent};
	my @faults = map { $sqs->fault(kind => 'error', status => 503, code => 'ServiceUnavailable', action => 'SendMessageBatch', queue => $_) } ('owned', 'owned.fifo');
	# in transactions of their own, and one of several
	foreach my $i (1 .. 3)
	{
		enqueue($_, "$state-$i", $i) foreach ('owned', 'owned.fifo');
	}
	stat_is($_, 'waiting, state, consecutive_errors > 0', '6|backing off|t', "$_, $name: rows are in hand") foreach ('owned', 'owned.fifo');
	$node->safe_psql('postgres', $away);
	stat_is($_, 'waiting, state', "6|$state", "$_, $name: they wait") foreach ('owned', 'owned.fifo');
	# the relay has taken notice, too
	query_is($node, "SELECT count(*) FROM sqs_get_queue_stats() JOIN sqs_queues q USING (queue_id) WHERE q.owner = 'owner' AND $noticed",
		'2', "$name: the relay has taken notice");
	$sqs->clear_faults($_) foreach @faults;
	$node->safe_psql('postgres', $back);
	stat_is($_, 'waiting, state', '0|idle', "$_, $name: they are sent after all") foreach ('owned', 'owned.fifo');
	is($sqs->stats('owned')->{sent} + $sqs->stats('owned.fifo')->{sent} - $sent, 12, "$name: once each");
	query_is($node, 'SELECT count(*) FROM sqsbridge_internal.outbox_batches b JOIN sqs_queues q USING (queue_id) WHERE q.owner = \'owner\'',
		'0', "$name: nothing is left");
}

is( $node->safe_psql('postgres', "SELECT pid, started_at FROM sqs_stats_workers WHERE kind = 'database worker'"),
	$worker, 'the database worker is still the same');
$node->stop;
check_log($node);
$_->stop_sqs foreach ($sqs, $other, $strict);
done_testing();
