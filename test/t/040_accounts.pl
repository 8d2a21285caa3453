# Queues by name, URL and ARN, and those of other accounts.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

# two accounts, the same names of queues in both
my $ours = start_sqs(args => [ '--queue', 'q', '--queue', 'q.fifo' ]);
my $theirs = start_sqs(args => [ '--account', '111122223333', '--queue', 'q', '--queue', 'q.fifo', '--queue', 'out' ]);
my $endpoint = $theirs->endpoint;
my $serial = 0;
my $arn = 'arn:aws:sqs:us-east-1:111122223333';
my $node = new_node('main');
setup_database($node, $ours);
$node->safe_psql('postgres', <<EOQ);
CREATE SERVER there FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '$endpoint');
CREATE USER MAPPING FOR PUBLIC SERVER there OPTIONS (access_key_id 'AKIDTEST', secret_access_key 'secret');
CREATE TABLE got (queue text, body text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS 'INSERT INTO got VALUES (m.queue, m.body)';
SELECT sqs_register_queue('by_name', server => 'there', queue_name => 'q', handler => 'handle', wait_time => '1 s');
EOQ

sub arrives
{
	my ($sqs, $at_aws, $queue, $name) = @_;
	my $i = ++$serial;
	$sqs->fill($at_aws, 1, body => "m$i");
	query_is($node, "SELECT count(*) FROM got WHERE body = 'm$i' AND queue = '$queue'", '1', $name);
	return;
}

sub refused
{
	my ($sql, $pattern, $name) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $sql, on_error_stop => 0);
	like($err, $pattern, $name);
	return;
}

# ---- receiving

query_true($node, q{(SELECT last_error ~ '^GetQueueUrl: \S*(NonExistentQueue|QueueDoesNotExist)' FROM sqs_stats)},
	'a name is looked up in the account of the keys');
$node->safe_psql('postgres', "SELECT sqs_alter_queue('by_name', queue_name => '$arn:q')");
arrives($theirs, 'q', 'by_name', 'the ARN leads to the queue of another account');
query_is($node, 'SELECT state, error_since FROM sqs_stats', 'polling|', 'and the queue is well');
$node->safe_psql('postgres', "SELECT sqs_alter_queue('by_name', queue_name => '$endpoint/111122223333/q')");
arrives($theirs, 'q', 'by_name', 'so does the URL');
$node->safe_psql('postgres', "SELECT sqs_register_queue('ours', server => 'aws',
	queue_name => 'arn:aws:sqs:us-east-1:000000000000:q', handler => 'handle', wait_time => '1 s')");
arrives($ours, 'q', 'ours', 'an ARN of the own account');
refused("SELECT sqs_register_queue('twice', server => 'there', queue_name => '$arn:q', handler => 'handle')",
	qr/queue "$arn:q" of server "there" already has a handler\nDETAIL:  It is registered as "by_name"/, 'a queue by its URL and by its ARN is one');
refused("SELECT sqs_register_queue('fifo', server => 'there', queue_name => '$arn:q.fifo', handler => 'handle', batch_size => 11)",
	qr/invalid value for option "batch_size"/, 'other options are checked as before');
$node->safe_psql('postgres', "SELECT sqs_register_queue('fifo', server => 'there', queue_name => '$arn:q.fifo', handler => 'handle', wait_time => '1 s')");
arrives($theirs, 'q.fifo', 'fifo', 'a FIFO queue by its ARN');

# ---- sending

$node->safe_psql('postgres', "SELECT sqs_register_queue('out', server => 'there', queue_name => '$arn:out')");
like($node->safe_psql('postgres', "SELECT sqs_send('out', 'at once')"), qr/./, 'sqs_send() to an ARN');
$node->safe_psql('postgres', "SELECT sqs_send('out', 'again'); SELECT sqs_enqueue('out', 'later')");
poll_until(sub { @{ $theirs->messages('out') } == 3 }, 'the outbox, too');
is(join(' ', sort map { $_->{body} } @{ $theirs->messages('out') }), 'again at once later', 'all of them, once');
is(scalar @{ $ours->messages('q') } + 0, scalar grep({ $_->{state} eq 'deleted' } @{ $ours->messages('q') }), 'nothing waits in the queue of the same name here');
$node->safe_psql('postgres', "SELECT sqs_register_queue('nobody', server => 'there', queue_name => 'arn:aws:sqs:us-east-1:999999999999:out')");
refused("SELECT sqs_send('nobody', 'x')", qr/ERROR:  could not send to queue "nobody": .*\nDETAIL:  GetQueueUrl: \S*(?:NonExistentQueue|QueueDoesNotExist)/,
	'an account without such a queue');

# ---- the server is somewhere else since

$node->safe_psql('postgres', q{ALTER SERVER there OPTIONS (SET region 'eu-west-1')});
query_is($node, q{SELECT state, last_error FROM sqs_stats WHERE queue = 'fifo'},
	"backing off|GetQueueUrl: WrongRegion: the queue's ARN is of region us-east-1, but its server's is eu-west-1",
	'an ARN of another region than the server now has leads nowhere');
my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT sqs_send('out', 'x')");
like($err, qr/ERROR:  55000: could not send to queue "out": the queue's ARN is of region us-east-1, but its server's is eu-west-1\n/, 'sqs_send() says so');
$node->safe_psql('postgres', q{SELECT sqs_enqueue('out', 'waits')});
query_true($node, q{(SELECT last_error ~ 'WrongRegion' FROM sqs_stats_outbox WHERE queue = 'out')}, 'and the outbox');
$node->safe_psql('postgres', q{ALTER SERVER there OPTIONS (SET region 'us-east-1')});
arrives($theirs, 'q.fifo', 'fifo', 'back in its region, all is well');
poll_until(sub { grep { $_->{body} eq 'waits' } @{ $theirs->messages('out') } }, 'and what waited is sent', 60);

$node->stop;
check_log($node,
	qr/040_accounts\.pl ERROR:  (?:queue "\S+" of server "there" already has a handler|invalid value for option "batch_size": 11|could not send to queue "(?:nobody|out)": )/);
done_testing();
