# Messages that are not handled any more: each is kept, once, with its error; SQS
# has it until that is durable.  What people do with them then.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my @queues = qw(work plain raw wrapped locked to_queue to_fifo dead);
my $sqs = start_sqs(queues => [ 'short,VisibilityTimeout=3600,MessageRetentionPeriod=600', (map { "$_,VisibilityTimeout=3600" } @queues),
	map { "$_.fifo,VisibilityTimeout=3600" } qw(work dead) ]);
my $node = new_node('main');
my $tmp = PostgreSQL::Test::Utils::tempdir();
setup_database($node, $sqs);

# A body is SQL that the handler runs.  What it did before is in "done".
my $objects = <<'EOQ';
CREATE TABLE done (n serial, queue text, message_id text, body text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO done (queue, message_id, body) VALUES (m.queue, m.message_id, m.body);
  EXECUTE m.body;
END $$;
EOQ
$node->safe_psql('postgres', $objects);
sub register
{
	my ($queue, %options) = @_;
	$options{retry_delay} ||= "'0'";
	my $options = join '', map { ", $_ => $options{$_}" } sort keys %options;
	return $node->safe_psql('postgres', "SELECT sqs_register_queue('$queue', server => 'aws', handler => 'handle'$options)");
}
register('work', max_attempts => 3);
register('plain', max_attempts => 1, exactly_once => 'false');
register('work.fifo', max_attempts => 2);
register('locked', max_attempts => 1);

sub dead
{
	my ($id, $columns) = @_;
	return "SELECT $columns FROM sqs_dead_letters WHERE message_id = '$id'";
}

# ---- after max_attempts, and by a verdict

{
	my ($id) = $sqs->send_messages('work', { MessageBody => 'SELECT 1/0',
			MessageAttributes => { a => { DataType => 'String', StringValue => 'b' } } });
	query_is($node, dead($id, 'queue, queue_owner, state, body, attributes, attempts, receive_count BETWEEN 1 AND 3, reason, sqlstate, message, route, raw'),
		'work|postgres|dead|SELECT 1/0|{"a": "b"}|3|t|max_attempts|22012|division by zero||', 'after three attempts a message is dead');
	is( $node->safe_psql('postgres', dead($id, q{context ~ 'SQL (expression|statement) "SELECT 1/0"', sent_at <= died_at + interval '1 min',
				first_received_at IS NOT NULL, resolved_at IS NULL, resolved_by IS NULL, redriven_as IS NULL, system_attributes ? 'SenderId', handler_pid > 0})),
		't|t|t|t|t|t|t|t', 'with all that is known about it');
	query_is($node, "SELECT dead_letters, acked, failed FROM sqs_stats WHERE queue = 'work'", '1|1|2', 'counted, and acknowledged');
	is($node->safe_psql('postgres', "SELECT count(*), max(attempt) FROM sqs_failures WHERE message_id = '$id'"), '3|3', 'each attempt is a failure');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM done'), '0', 'what the handler did is rolled back');
	is($node->safe_psql('postgres', "SELECT count(*) FROM sqsbridge_internal.inbox WHERE message_key = '$id'"), '1',
		'the message is known to be done with');
	is($node->safe_psql('postgres', "SELECT died_at = oldest_dead_letter_at FROM sqs_stats s JOIN sqs_dead_letters d USING (queue)"), 't',
		'sqs_stats has its age');
	$sqs->is_empty('work');
}
{
	my ($id) = $sqs->send_messages('work', q{SELECT sqs_dead_letter('not ours')});
	query_is($node, dead($id, 'attempts, reason, sqlstate, message'), '1|verdict|SQ002|not ours', 'the handler says so');
	is($node->safe_psql('postgres', "SELECT sqlstate, message, action FROM sqs_failures WHERE message_id = '$id'"), 'SQ002|not ours|dead_letter',
		'which is a failure, too');
	$sqs->is_empty('work');
}

# ---- sent again

$node->safe_psql('postgres', "UPDATE sqsbridge_internal.queues SET enabled = enabled");
{
	my ($id) = $sqs->send_messages('work', 'INSERT INTO later VALUES (1)');
	query_is($node, dead($id, 'state, sqlstate'), 'dead|42P01', 'a table is missing');
	$node->safe_psql('postgres', 'CREATE TABLE later (n int)');
	like($node->safe_psql('postgres', "SELECT sqs_redrive(id) FROM sqs_dead_letters WHERE message_id = '$id'"), qr/^\d+$/, 'sent again');
	query_is($node, 'SELECT count(*) FROM later', '1', 'and handled');
	is($node->safe_psql('postgres', dead($id, 'state, resolved_by, redriven_as > 0')), 'redriven|postgres|t', 'it is known what has become of it');
	my $new = $node->safe_psql('postgres', "SELECT message_id FROM done WHERE body LIKE 'INSERT INTO later%'");
	isnt($new, $id, 'the message has another id');
	is($node->safe_psql('postgres', "SELECT sqs_redrive(id) IS NULL FROM sqs_dead_letters WHERE message_id = '$id'"), 't', 'it is not sent twice');
	# its attempts begin anew
	$node->safe_psql('postgres', 'DROP TABLE later');
	my ($again) = $sqs->send_messages('work', 'INSERT INTO later VALUES (2)');
	query_is($node, dead($again, 'attempts'), '3', 'dead once more');
	$node->safe_psql('postgres', "SELECT sqs_redrive(id) FROM sqs_dead_letters WHERE message_id = '$again'");
	query_is($node, "SELECT count(*), min(attempts) FROM sqs_dead_letters WHERE body = 'INSERT INTO later VALUES (2)'", '2|3',
		'a message that was sent again has all its attempts');
	$sqs->is_empty('work');
}

# Two sessions: who comes second waits, and sends nothing; unless the first has
# changed its mind.
foreach my $end ('COMMIT', 'ROLLBACK')
{
	my ($id) = $sqs->send_messages('plain', "SELECT 'no number $end'::int");
	query_is($node, dead($id, 'state'), 'dead', "two sessions, $end: a dead letter");
	my $redrive = "SELECT sqs_redrive(id) IS NOT NULL FROM sqs_dead_letters WHERE message_id = '$id'";
	$node->safe_psql('postgres', "SELECT sqs_disable_queue('plain')");
	my $first = $node->background_psql('postgres', on_error_stop => 1);
	my $second = $node->background_psql('postgres', on_error_stop => 1);
	is($first->query_safe("BEGIN; $redrive"), 't', "two sessions, $end: the first sends it");
	$second->query_until(qr/start/, "\\echo start\n$redrive;\n\\echo the end\n");
	query_true($node, "EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%sqs_redrive%')",
		"two sessions, $end: the second waits");
	$first->query_safe($end);
	like($second->query_until(qr/the end/, ''), $end eq 'COMMIT' ? qr/^f$/m : qr/^t$/m, "two sessions, $end: one of them sends it");
	is($node->safe_psql('postgres', "SELECT count(*) FROM sqs_outbox WHERE body LIKE '%no number $end%'"), '1', "two sessions, $end: once");
	is($node->safe_psql('postgres', dead($id, 'state')), 'redriven', "two sessions, $end: which is known");
	$_->quit foreach ($first, $second);
	$node->safe_psql('postgres', "SELECT sqs_enable_queue('plain')");
	query_is($node, "SELECT count(*) FROM sqs_dead_letters WHERE state = 'dead' AND body LIKE '%no number $end%'", '1', "two sessions, $end: it is dead again");
}

# ---- FIFO: the group goes on; sent again, it comes last

{
	my @ids = $sqs->send_messages('work.fifo',
		map { +{ MessageBody => $_ == 2 ? q{SELECT 1/(SELECT count(*) FROM done WHERE queue = 'work.fifo' AND body = 'SELECT 3')} : "SELECT $_",
				MessageGroupId => 'g', MessageDeduplicationId => "d$_" } } 1 .. 3);
	query_is($node, dead($ids[1], 'group_id, deduplication_id, sequence_number > 0, attempts'), 'g|d2|t|2', 'FIFO: a dead letter');
	query_is($node, "SELECT string_agg(body, ',' ORDER BY n) FROM done WHERE queue = 'work.fifo'", 'SELECT 1,SELECT 3', 'FIFO: its group goes on');
	# SQS would take the old deduplication id for a copy
	$node->safe_psql('postgres', "SELECT sqs_redrive(id) FROM sqs_dead_letters WHERE message_id = '$ids[1]'");
	query_is($node, "SELECT string_agg(left(body, 8), ',' ORDER BY n) FROM done WHERE queue = 'work.fifo'", 'SELECT 1,SELECT 3,SELECT 1', 'FIFO: sent again, it comes last');
	$sqs->is_empty('work.fifo');
}

# ---- what SQS is about to delete (before its clock is advanced)

register('short', dead_letter => "'table'", retry_delay => 'NULL');
{
	my ($soon, $later) = $sqs->send_messages('short', q{SELECT sqs_retry('10 min', 'much later')}, q{SELECT sqs_retry('1 min', 'later')});
	query_is($node, dead($soon, 'reason, sqlstate, detail, attempts'), 'expiring|SQ105|The last error was SQ001: much later|1',
		'a message that SQS would delete before its next attempt is dead');
	query_is($node, "SELECT action, sqlstate FROM sqs_failures WHERE message_id = '$later'", 'retry|SQ001', 'another is tried again');
	is($node->safe_psql('postgres', dead($later, 'count(*)')), '0', 'and is not dead');
}

# ---- all kinds of messages

register('wrapped', max_attempts => 1, unwrap => "'auto'");
{
	my $inner = q{SELECT 1/0 -- inner};
	my $outer = JSON::PP->new->canonical->encode({ Type => 'Notification', MessageId => 'x', TopicArn => 'arn:aws:sns:us-east-1:1:t', Message => $inner });
	my ($id) = $sqs->send_messages('wrapped', $outer);
	query_is($node, dead($id, "body, envelope ->> 'kind', sqlstate"), "$outer|sns|22012", 'kept in its envelope');
	my ($large) = $sqs->send_messages('wrapped', 'SELECT 1/0 --' . 'x' x (1024 * 1024 - 13));
	query_is($node, dead($large, 'length(body), sqlstate'), (1024 * 1024) . '|22012', 'a body of 1 MiB');
	is($node->safe_psql('postgres', "SELECT sqs_redrive(id) > 0 FROM sqs_dead_letters WHERE message_id = '$large'"), 't', 'can be sent again');
	query_is($node, "SELECT count(*) FROM sqs_dead_letters WHERE length(body) = 1024 * 1024", '2', 'and arrives');
	# a poll that is open already may get the first one unharmed
	my $fault = $sqs->fault(kind => 'bad_md5', action => 'ReceiveMessage', queue => 'wrapped');
	$sqs->send_messages('wrapped', "SELECT 7/0 -- $_") foreach 1 .. 2;
	query_true($node, "EXISTS (SELECT FROM sqs_dead_letters WHERE sqlstate = 'XX001' AND body LIKE 'SELECT 7/0%')", 'a damaged message');
	$sqs->clear_faults($fault);
	$sqs->is_empty('wrapped');
}

# ---- without exactly_once: the end is remembered all the same

{
	my $fault = $sqs->fault(kind => 'error', action => 'DeleteMessageBatch', status => 503, queue => 'plain');
	my ($id) = $sqs->send_messages('plain', 'SELECT 2/0');
	query_is($node, dead($id, 'count(*)'), '1', 'a dead letter whose deletion fails');
	$sqs->advance(3700);
	query_true($node, "(SELECT duplicates > 0 FROM sqs_stats WHERE queue = 'plain')", 'comes back');
	$sqs->clear_faults($fault);
	$sqs->advance(3700);
	$sqs->is_empty('plain');
	is($node->safe_psql('postgres', dead($id, 'count(*)')), '1', 'and is kept once');
}

# ---- what cannot be written has not ended

foreach my $case (
	[ 'locked', 'LOCK TABLE sqsbridge_internal.dead_letters IN SHARE MODE', 'SELECT', 'canceling statement due to lock timeout' ],
	[ 'refused', 'SELECT', 'ALTER TABLE sqsbridge_internal.dead_letters ADD CONSTRAINT full_disk CHECK (false) NOT VALID', 'constraint "full_disk"' ])
{
	my ($name, $lock, $change, $error) = @$case;
	my $session = $node->background_psql('postgres');
	$node->safe_psql('postgres', $change);
	$session->query_safe("BEGIN; $lock");
	$node->safe_psql('postgres', 'SELECT sqs_stats_reset()');
	my ($id) = $sqs->send_messages('locked', "SELECT 3/0 -- $name");
	query_true($node, "(SELECT failed > 1 AND dead_letters = 0 AND acked = 0 AND last_error LIKE '%$error%' FROM sqs_stats WHERE queue = 'locked')",
		"$name: a dead letter that cannot be written is a failure");
	is($node->safe_psql('postgres', "SELECT count(*) FROM sqsbridge_internal.inbox WHERE message_key = '$id'"), '0', "$name: and leaves nothing behind");
	$session->query_safe('ROLLBACK');
	$session->quit;
	$node->safe_psql('postgres', 'ALTER TABLE sqsbridge_internal.dead_letters DROP CONSTRAINT IF EXISTS full_disk');
	query_is($node, dead($id, 'count(*), min(reason)'), '1|max_attempts', "$name: it is dead when it comes back");
	$sqs->is_empty('locked');
}

# ---- to a queue

$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE collected (n serial, queue text, body text, attributes jsonb, group_id text, deduplication_id text);
CREATE FUNCTION collect(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO collected (queue, body, attributes, group_id, deduplication_id) VALUES (m.queue, m.body, m.attributes, m.group_id, m.deduplication_id) $$;
SELECT sqs_register_queue(q, server => 'aws', handler => 'collect') FROM unnest('{dead,dead.fifo}'::text[]) q;
EOQ
register('to_queue', max_attempts => 1, dead_letter => "'queue'", dead_letter_queue => "'dead'");
register('to_fifo', max_attempts => 1, dead_letter => "'queue'", dead_letter_queue => "'dead.fifo'");
{
	my %own = (a => { DataType => 'String', StringValue => 'b' });
	my ($id) = $sqs->send_messages('to_queue', { MessageBody => "DO 'BEGIN RAISE E''control \\x01 character''; END'", MessageAttributes => {%own} });
	query_is($node, q{SELECT jsonb_pretty(attributes) FROM collected WHERE queue = 'dead'}, <<"EOJ" =~ s/\n\z//r, 'to a queue: sent, with the reason');
{
    "a": "b",
    "sqsbridge-error-queue": "to_queue",
    "sqsbridge-error-reason": "max_attempts",
    "sqsbridge-error-message": "control   character",
    "sqsbridge-error-attempts": "1",
    "sqsbridge-error-sqlstate": "P0001",
    "sqsbridge-error-message-id": "$id"
}
EOJ
	query_is($node, "SELECT dead_letters, acked FROM sqs_stats WHERE queue = 'to_queue'", '1|1', 'to a queue: counted');
	is($node->safe_psql('postgres', dead($id, 'count(*)')), '0', 'to a queue: there is no row');

	# no room: ten attributes, and 1 MiB
	$sqs->send_messages('to_queue', { MessageBody => 'SELECT 4/0', MessageAttributes => { map { ("a$_" => $own{a}) } 1 .. 10 } });
	$sqs->send_messages('to_queue', 'SELECT 1/0 --' . 'x' x (1024 * 1024 - 13));
	query_is($node, q{SELECT length(body), (SELECT count(*) FROM jsonb_object_keys(attributes)) FROM collected WHERE queue = 'dead' AND body LIKE 'SELECT%' ORDER BY 1},
		"10|10\n1048576|0", 'to a queue: messages without room');
	query_is($node, "SELECT dead_letters, acked FROM sqs_stats WHERE queue = 'to_queue'", '3|3', 'to a queue: counted, too');

	my ($single) = $sqs->send_messages('to_fifo', 'SELECT 5/0');
	query_is($node, q{SELECT body, group_id, deduplication_id FROM collected WHERE queue = 'dead.fifo'}, "SELECT 5/0|$single|$single", 'to a FIFO queue: a group of its own');

	# the queue is gone: the message stays with SQS
	$node->safe_psql('postgres', "SELECT sqs_unregister_queue('dead'); SELECT sqs_stats_reset()");
	my ($left) = $sqs->send_messages('to_queue', 'SELECT 6/0');
	query_true($node, q{(SELECT failed > 0 AND dead_letters = 0 AND acked = 0 AND last_error LIKE '%queue "dead" does not exist%' FROM sqs_stats WHERE queue = 'to_queue')},
		'to a queue that is gone: the message has not ended');
	$node->safe_psql('postgres', "SELECT sqs_alter_queue('to_queue', dead_letter => 'table')");
	query_is($node, dead($left, 'sqlstate'), '22012', 'to a queue that is gone: unless it need not go there');
	$sqs->is_empty('to_queue');
}

# ---- retention: from when somebody has dealt with it

$node->safe_psql('postgres', <<'EOQ');
SELECT sqs_discard_dead_letter(id) FROM sqs_dead_letters WHERE sqlstate = 'SQ002';
UPDATE sqsbridge_internal.dead_letters SET died_at = died_at - interval '10 years';
UPDATE sqsbridge_internal.dead_letters SET resolved_at = resolved_at - interval '30 days' WHERE state = 'discarded';
EOQ
{
	my $old = $node->safe_psql('postgres', "SELECT count(*) FROM sqs_dead_letters WHERE resolved_at < now() - interval '29 days'");
	my $all = $node->safe_psql('postgres', 'SELECT count(*) FROM sqs_dead_letters');
	cmp_ok($old, '>', 0, 'retention: there are old ones');
	$node->restart;
	query_is($node, 'SELECT count(*) FROM sqs_dead_letters', $all - $old, 'retention: which are deleted, and nothing else');
}

# ---- a copy of the database

{
	my $rows = $node->safe_psql('postgres', 'SELECT count(*) FROM sqs_dead_letters');
	$node->command_ok([ 'pg_dump', '-Fc', '-f', "$tmp/dump", $node->connstr('postgres') ], 'dump');
	$node->safe_psql('postgres', 'CREATE DATABASE copy');
	$node->command_ok([ 'pg_restore', '-d', $node->connstr('copy'), "$tmp/dump" ], 'restore');
	is($node->safe_psql('copy', 'SELECT count(*) FROM sqs_dead_letters'), $rows, 'a copy has the dead letters');
	$node->safe_psql('copy', "UPDATE sqsbridge_internal.dead_letters SET queue_owner_oid = 4294967294; SELECT sqs_adopt_queues('discard')");
	is($node->safe_psql('copy', "SELECT count(DISTINCT queue_owner_oid), min(queue_owner_oid::regrole::text) FROM sqsbridge_internal.dead_letters
		WHERE queue IN (SELECT name FROM sqs_queues)"), '1|postgres', 'they belong to who has the name there');
	is($node->safe_psql('copy', "SELECT count(sqs_redrive(id)) FROM sqs_dead_letters WHERE state = 'dead' AND queue = 'plain'"),
		$node->safe_psql('copy', "SELECT count(*) FROM sqs_outbox"), 'and can be sent from there');
	$node->safe_psql('postgres', 'DROP DATABASE copy (FORCE)');
}

# ---- another encoding

$node->safe_psql('postgres', "CREATE DATABASE latin ENCODING LATIN1 LOCALE 'C' TEMPLATE template0");
setup_database($node, $sqs, dbname => 'latin');
$node->safe_psql('latin', "$objects SELECT sqs_register_queue('raw', server => 'aws', handler => 'handle', retry_delay => '0', max_attempts => 2);
	SELECT sqs_enqueue('raw', 'x', deliver_at => '2100-01-01')");
{
	my ($id) = $sqs->send_messages('raw', { MessageBody => qq{SELECT "\x{1F600}\t\\" -- \x{e9}},
			MessageAttributes => { n => { DataType => 'String', StringValue => "\x{4e2d}" } } });
	query_is($node, dead($id, 'sqlstate, body IS NULL, attributes IS NULL, raw IS NOT NULL, attempts'), '22P05|t|t|t|2', 'LATIN1: what it cannot represent is kept',
		dbname => 'latin');
	my $raw = $node->safe_psql('latin', dead($id, "encode(raw, 'hex')"));
	my $message = JSON::PP->new->utf8->decode(pack('H*', $raw));
	is($message->{Body}, qq{SELECT "\x{1F600}\t\\" -- \x{e9}}, 'LATIN1: with its body');
	is($message->{MessageAttributes}{n}{StringValue}, "\x{4e2d}", 'LATIN1: and its attributes');
	my ($rc, undef, $stderr) = $node->psql('latin', "SELECT sqs_redrive(id) FROM sqs_dead_letters WHERE message_id = '$id'");
	like($stderr, qr/cannot be redriven.*encoding of the database cannot represent/s, 'LATIN1: it cannot be sent from there');
	my ($accent) = $sqs->send_messages('raw', "SELECT 1/0 -- \x{e9}");
	query_is($node, dead($accent, "ascii(right(body, 1)), raw IS NULL"), '233|t', 'LATIN1: what it can represent is text', dbname => 'latin');
	$sqs->is_empty('raw');
}

$node->stop;
check_log($node, qr/\] 049_dead_letters\.pl /, qr/canceling statement due to lock timeout/, qr/constraint "full_disk"/, qr/queue "dead" does not exist/);
$sqs->stop_sqs;
done_testing();
