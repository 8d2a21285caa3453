# FIFO queues with on_dead_letter = park_group: after a dead letter nothing of its
# group is handled, until somebody has dealt with what is there.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $sqs = start_sqs(queues => ['park.fifo,VisibilityTimeout=5']);
my $node = new_node('main');
setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE ROLE other LOGIN;
CREATE TABLE done (n serial, group_id text, body text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF m.body LIKE '%bad' THEN
    RAISE 'bad';
  END IF;
  INSERT INTO done (group_id, body) VALUES (m.group_id, m.body);
END $$;
SELECT sqs_register_queue('park.fifo', server => 'aws', handler => 'handle', concurrency => 2, max_attempts => 1,
	on_dead_letter => 'park_group');
EOQ

my $n = 0;
sub send_all
{
	my ($group, @bodies) = @_;
	return $sqs->send_messages('park.fifo',
		map { +{ MessageBody => $_, MessageGroupId => $group, MessageDeduplicationId => 'd' . $n++ } } @bodies);
}

sub done
{
	my ($group) = @_;
	return "SELECT string_agg(body, ',' ORDER BY n) FROM done WHERE group_id = '$group'";
}

my $kept = q{SELECT string_agg(concat_ws(' ', body, state, reason, sqlstate, attempts), ',' ORDER BY sequence_number)
	FROM sqs_dead_letters WHERE group_id = 'g' AND resolved_at IS NULL};

# ---- parked

send_all('g', '1', '2 bad', '3', '4');
send_all('h', '1', '2');
query_is($node, $kept, '2 bad dead max_attempts P0001 1,3 parked parked SQ104 0,4 parked parked SQ104 0', 'what follows a dead letter is parked');
query_is($node, done('g'), '1', 'and not handled');
query_is($node, done('h'), '1,2', 'another group is handled');
is($node->safe_psql('postgres', 'SELECT queue, group_id, messages, dead_letter = (SELECT id FROM sqs_dead_letters WHERE body = \'2 bad\') FROM sqs_parked_groups'),
	'park.fifo|g|3|t', 'the group is shown');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sqs_parked_groups', extra_params => [ '-U', 'other' ]), '0', 'not to everybody');
is($node->safe_psql('postgres', 'SELECT count(*) FROM sqs_failures'), '1', 'what is not run does not fail');
$sqs->is_empty('park.fifo');

# it stays parked
$node->safe_psql('postgres', 'CHECKPOINT');
$node->stop('immediate');
$node->start;
send_all('g', '5', '6 bad');
query_is($node, $kept, '2 bad dead max_attempts P0001 1,3 parked parked SQ104 0,4 parked parked SQ104 0,5 parked parked SQ104 0,6 bad parked parked SQ104 0',
	'after a crash, too');
$sqs->is_empty('park.fifo');

# ---- it is not known whether it is

{
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN; LOCK TABLE sqsbridge_internal.parked_groups');
	send_all('g', '7');
	send_all('h', '3', '4');
	query_is($node, "SELECT state FROM sqs_stats", 'error', 'while the table is locked, nothing is handled');
	is($node->safe_psql('postgres', done('h')), '1,2', 'of no group');
	$session->query_safe('ROLLBACK');
	$session->quit;
	query_is($node, done('h'), '1,2,3,4', 'then all is, in order');
	query_is($node, "SELECT count(*) FROM sqs_dead_letters WHERE body = '7' AND state = 'parked'", '1', 'or parked');
}

# ---- what can be done with it

sub refused
{
	my ($query, $pattern, $name, @params) = @_;
	my (undef, undef, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose\n$query", @params ? (extra_params => \@params) : ());
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return like($stderr, $pattern, $name);
}
refused("SELECT sqs_redrive(id) FROM sqs_dead_letters WHERE body = '$_'", qr/55000: .*its message group is parked/, "$_ cannot be sent again")
  foreach ('2 bad', '3');
refused("SELECT sqs_release_group('park.fifo', 'h')", qr/42704: .*is not parked/, 'a group cannot be released that is not parked');
refused("SELECT sqs_release_group('park.fifo', NULL)", qr/22004:/, 'nor none');
refused("SELECT sqs_release_group('nowhere', 'g')", qr/42704: .*does not exist/, 'nor one of no queue');
refused("SELECT sqs_release_group('park.fifo', 'g')", qr/42501: .*must be owner/, 'nor by another role', '-U', 'other');
my $release = q{SELECT handled, remaining, (SELECT body FROM sqs_dead_letters WHERE id = failed_id), outcome, error FROM sqs_release_group('park.fifo', 'g'};
is($node->safe_psql('postgres', "$release)"), '0|6|2 bad|retry|P0001: bad', 'releasing it handles its messages, up to the first that fails');
is($node->safe_psql('postgres', done('g')), '1', 'and none after it');
$node->safe_psql('postgres', "SELECT sqs_discard_dead_letter(id) FROM sqs_dead_letters WHERE body = '2 bad'");
is($node->safe_psql('postgres', "BEGIN; $release); ROLLBACK;"), '3|2|6 bad|retry|P0001: bad', 'it can be rolled back');
is($node->safe_psql('postgres', "$release, 1)"), '1|4|||', 'not more than are asked for');
is($node->safe_psql('postgres', "$release)"), '2|2|6 bad|retry|P0001: bad', 'they are handled once');
is($node->safe_psql('postgres', done('g')), '1,3,4,5', 'in order');
is($node->safe_psql('postgres', "SELECT string_agg(body, ',' ORDER BY body) FROM sqs_dead_letters WHERE state = 'handled'"), '3,4,5', 'which is known');
is($node->safe_psql('postgres', 'SELECT group_id, messages FROM sqs_parked_groups'), 'g|2', 'the group is still parked');

# a message that comes while it is being released: parked before, or handled after
{
	my $session = $node->background_psql('postgres');
	$session->query_safe("BEGIN; SELECT sqs_discard_dead_letter(id) FROM sqs_dead_letters WHERE body = '6 bad'; SELECT sqs_release_group('park.fifo', 'g')");
	send_all('g', '8');
	query_true($node, "(SELECT in_flight > 0 OR failed > 1 FROM sqs_stats)", 'a message comes while the group is being released');
	$session->query_safe('COMMIT');
	$session->quit;
	query_is($node, done('g'), '1,3,4,5,7,8', 'and is handled when it has been');
	$sqs->is_empty('park.fifo');
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM sqs_parked_groups'), '0', 'it is not parked any more');

# parked again, and the option is changed; and the queue is unregistered
send_all('g', '9 bad', '10');
query_is($node, $kept, '9 bad dead max_attempts P0001 1,10 parked parked SQ104 0', 'parked again');
$node->safe_psql('postgres', "SELECT sqs_alter_queue('park.fifo', on_dead_letter => 'skip')");
send_all('g', '11');
query_is($node, done('g'), '1,3,4,5,7,8,11', 'without the option, messages are handled');
$node->safe_psql('postgres', "SELECT sqs_unregister_queue('park.fifo')");
is($node->safe_psql('postgres', 'SELECT count(*) FROM sqsbridge_internal.parked_groups'), '0', 'a queue that is unregistered has no parked groups');
is($node->safe_psql('postgres', "SELECT count(*) FROM sqs_dead_letters WHERE group_id = 'g' AND state IN ('dead', 'parked')"), '2', 'but its dead letters');

$node->stop;
check_log($node, qr/\] 054_parked_groups\.pl /, qr/ERROR:  canceling statement due to lock timeout/,
	qr/table "sqsbridge_internal.parked_groups" is locked|queue "park.fifo"/);
$sqs->stop_sqs;
done_testing();
