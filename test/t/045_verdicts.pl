# Handlers say what becomes of their message: sqs_retry(), sqs_dead_letter() and
# sqs_discard().  Attempts are counted, and max_attempts ends a message.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

my @queues = qw(verdicts plain late locked);
my $sqs = start_sqs(queues => [ (map { "$_,VisibilityTimeout=3600" } @queues), 'verdicts.fifo,VisibilityTimeout=3600' ]);
my $node = new_node('main');
setup_database($node, $sqs);

# A body is SQL that the handler runs.  What it did before is in "done".
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE done (n serial, message_id text, body text, receive_count int);
CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION note(m sqs_message) RETURNS void LANGUAGE sql AS $$
  INSERT INTO done (message_id, body, receive_count) VALUES (m.message_id, m.body, m.receive_count) $$;
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM note(m);
  EXECUTE m.body;
END $$;
CREATE FUNCTION swallow(m text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE m;
EXCEPTION WHEN OTHERS THEN
  INSERT INTO done (body) VALUES ('swallowed');
END $$;
CREATE FUNCTION discard_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM sqs_discard('by a deferred trigger');
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER discards AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION discard_late();
EOQ
$node->safe_psql('postgres', "SELECT sqs_register_queue('verdicts', server => 'aws', handler => 'handle')");
$node->safe_psql('postgres', "SELECT sqs_register_queue('plain', server => 'aws', handler => 'handle', exactly_once => false)");
$node->safe_psql('postgres', "SELECT sqs_register_queue('verdicts.fifo', server => 'aws', handler => 'handle', concurrency => 2)");

sub failures
{
	my ($id) = @_;
	return "SELECT sqlstate, message, detail FROM sqs_failures WHERE message_id = '$id' ORDER BY failed_at";
}

# ---- discard

my $discarded = 0;
for my $case (
	[ q{SELECT sqs_discard('not for us')}, 'not for us' ],
	[ q{SELECT sqs_discard()}, 'the handler called sqs_discard()' ],
	[ q{SELECT sqs_discard(NULL)}, 'the handler called sqs_discard()' ],
	[ q{SELECT sqs_discard('%s 100 %')}, '%s 100 %' ],
	[ q{SELECT swallow('SELECT sqs_discard(''caught'')')}, 'caught' ],
	[ q{DO $$ BEGIN PERFORM swallow('SELECT sqs_discard(''first'')'); PERFORM swallow('SELECT sqs_retry()'); END $$}, 'first' ],
	[ q{DO $$ BEGIN PERFORM swallow('SELECT sqs_discard(''then fails'')'); PERFORM 1/0; END $$},
		'then fails', 'After that, the handler failed: division by zero' ],
	[ q{DO $$ BEGIN PERFORM swallow('SELECT sqs_discard(''then conflicts'')'); RAISE SQLSTATE '40001' USING MESSAGE = 'conflict'; END $$},
		'then conflicts', 'After that, the handler failed: conflict' ],
	[ q{INSERT INTO late VALUES (1)}, 'by a deferred trigger' ])
{
	my ($body, $reason, $detail) = @$case;
	my ($id) = $sqs->send_messages('verdicts', $body);
	query_is($node, failures($id), "SQ003|$reason|" . ($detail // ''), "discarded: $reason");
	query_is($node, "SELECT discarded, acked FROM sqs_stats WHERE queue = 'verdicts'",
		++$discarded . "|$discarded", 'counted, and acknowledged');
	is($node->safe_psql('postgres', "SELECT count(*) FROM done"), '0', 'what the handler did is rolled back');
	is($node->safe_psql('postgres', "SELECT count(*) FROM sqsbridge_internal.inbox WHERE message_key = '$id'"), '1',
		'the message is known to be done with');
}
is($node->safe_psql('postgres', "SELECT failed FROM sqs_stats WHERE queue = 'verdicts'"), '0', 'none of them has failed');
$sqs->is_empty('verdicts');

{
	my ($id) = $sqs->send_messages('plain', q{SELECT sqs_discard('without exactly_once')});
	query_is($node, failures($id), 'SQ003|without exactly_once|', 'discarded without exactly_once');
	query_is($node, "SELECT discarded, acked FROM sqs_stats WHERE queue = 'plain'", '1|1', 'and acknowledged');
	$sqs->is_empty('plain');
}

# ---- retry

{
	my ($id) = $sqs->send_messages('verdicts', <<'EOQ');
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM sqs_failures WHERE sqlstate = 'SQ001') THEN
    PERFORM swallow('SELECT sqs_retry(''0.2 s'', ''not yet'')');
  END IF;
END $$
EOQ
	query_is($node, "SELECT receive_count FROM done WHERE message_id = '$id'", '2', 'retried: delivered again long before its lease ends');
	is($node->safe_psql('postgres', failures($id)), 'SQ001|not yet|', 'retried: recorded with the reason');
	is($node->safe_psql('postgres', "SELECT count(*) FROM done WHERE body = 'swallowed'"), '0', 'retried: rolled back');
	query_is($node, "SELECT failed, discarded, acked FROM sqs_stats WHERE queue = 'verdicts'", "1|$discarded|" . ($discarded + 1),
		'retried: counted as failed');
}
{
	my ($id) = $sqs->send_messages('verdicts', q{SELECT sqs_retry('2 h')});
	query_is($node, failures($id), 'SQ001|the handler called sqs_retry()|', 'a long delay');
	poll_until(sub { my $c = $sqs->counts('verdicts'); $c->{in_flight} == 1 && $c->{visible} == 0 }, 'keeps the message back');
	# its visibility timeout of an hour would have ended
	$sqs->advance(3700);
	query_is($node, "SELECT in_flight FROM sqs_stats WHERE queue = 'verdicts'", '0', 'it is not in hand');
	is($sqs->counts('verdicts')->{visible}, 0, 'longer than its visibility timeout');
	$node->safe_psql('postgres', "SELECT sqs_alter_queue('verdicts', retry_delay => '0')");
	$sqs->advance(3700);
	query_is($node, "SELECT count(*) > 1 FROM sqs_failures WHERE message_id = '$id'", 't', 'then it is delivered again');
	$node->safe_psql('postgres', "SELECT sqs_alter_queue('verdicts', reset => ARRAY['retry_delay'])");
}

# ---- dead letters

{
	my $before = $node->safe_psql('postgres', "SELECT acked FROM sqs_stats WHERE queue = 'verdicts'");
	my ($id) = $sqs->send_messages('verdicts', q{SELECT sqs_dead_letter('no such customer')});
	query_is($node, "SELECT reason, sqlstate, message, attempts, receive_count, state FROM sqs_dead_letters WHERE message_id = '$id'",
		'verdict|SQ002|no such customer|1|1|dead', 'a dead letter, by verdict');
	query_is($node, "SELECT attempt, action, retry_at FROM sqs_failures WHERE message_id = '$id'", '1|dead_letter|',
		'its failure says what followed');
	query_is($node, "SELECT dead_letters, acked - $before FROM sqs_stats WHERE queue = 'verdicts'", '1|1', 'counted, and acknowledged');
	is($node->safe_psql('postgres', "SELECT count(*) FROM sqsbridge_internal.inbox WHERE message_key = '$id'"), '1',
		'the message is known to be done with');
	is($node->safe_psql('postgres', "SELECT count(*) FROM done WHERE message_id = '$id'"), '0', 'what the handler did is rolled back');
}

# ---- attempts

$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION fail(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  which text := format('%s/%s', m.attempt, m.receive_count);
BEGIN
  CASE m.body
    WHEN 'always' THEN RAISE EXCEPTION '%', which;
    WHEN 'not yet' THEN IF (SELECT count(*) FROM sqs_failures f WHERE f.message_id = m.message_id) < 4 THEN PERFORM sqs_retry('0', which, charge => false); END IF;
    WHEN 'dead' THEN IF m.receive_count < 5 THEN PERFORM sqs_dead_letter(which); END IF;
    WHEN 'kill' THEN PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(3600);
  END CASE;
END $$
EOQ
$node->safe_psql('postgres', "SELECT sqs_register_queue('late', server => 'aws', handler => 'fail', max_attempts => 3, retry_delay => '0')");
sub seen
{
	my ($id, $what) = @_;
	return "SELECT string_agg($what, ' ' ORDER BY failed_at) FROM sqs_failures WHERE message_id = '$id'";
}
sub is_done
{
	my ($id, $what) = @_;
	query_is($node, "SELECT count(*) FROM sqsbridge_internal.inbox WHERE message_key = '$id'", '1', $what);
	is($node->safe_psql('postgres', "SELECT count(*) FROM sqsbridge_internal.attempts WHERE message_id = '$id'"), '0',
		"$what: its attempts are forgotten");
}
{
	my ($id) = $sqs->send_messages('late', 'always');
	is_done($id, 'a message that always fails ends');
	is($node->safe_psql('postgres', "SELECT reason, sqlstate, message, attempts, receive_count FROM sqs_dead_letters WHERE message_id = '$id'"),
		'max_attempts|P0001|3/1|3|1', 'as a dead letter, at its first receive');
	is($node->safe_psql('postgres', seen($id, q(concat(message, ' ', attempt, ' ', action, ';')))),
		'1/1 1 retry; 2/1 2 retry; 3/1 3 dead_letter;', 'after max_attempts; the handler knows which attempt it is');
}
{
	my ($id) = $sqs->send_messages('late', 'not yet');
	is_done($id, 'retried without a charge');
	is($node->safe_psql('postgres', seen($id, 'message')), '1/1 1/1 1/1 1/1', 'these are no attempts');
	is($node->safe_psql('postgres', "SELECT DISTINCT attempt IS NULL FROM sqs_failures WHERE message_id = '$id'"), 't', 'and are recorded so');
}
{
	my ($id) = $sqs->send_messages('late', 'kill');
	is_done($id, 'a message that ends its handler worker');
	is($node->safe_psql('postgres', "SELECT reason, sqlstate, message, attempts FROM sqs_dead_letters WHERE message_id = '$id'"),
		'max_attempts|SQ103|handler worker exited while it handled the message|3', 'is a dead letter');
	is($node->safe_psql('postgres', seen($id, q(concat(attempt, ' ', action, ';')))),
		'1 killed; 2 killed; 3 killed;  dead_letter;', 'without a fourth run') or diag $node->safe_psql('postgres', seen($id, 'message'));
}
$node->safe_psql('postgres', "SELECT sqs_alter_queue('late', dead_letter => 'none', reset => ARRAY['max_attempts'])");
{
	my ($id) = $sqs->send_messages('late', 'dead');
	is_done($id, 'such a verdict without dead letters');
	is($node->safe_psql('postgres', seen($id, 'message')), '1/1 2/2 3/3 4/4', 'is a failure');
	is($node->safe_psql('postgres', "SELECT count(*) FROM sqs_dead_letters WHERE message_id = '$id'"), '0', 'and there is no dead letter');
}
$sqs->is_empty('late');

# ---- what is no verdict

for my $case (
	[ q{SELECT sqs_retry('-1 s')}, '22023|invalid delay for sqs_retry(): "-00:00:01"|The delay must be 0 to 12 hours.' ],
	[ q{SELECT sqs_retry('12:00:00.000001')}, '22023|invalid delay for sqs_retry(): "12:00:00.000001"|The delay must be 0 to 12 hours.' ],
	[ q{SELECT sqs_retry('1 month')}, '22023|invalid delay for sqs_retry(): "1 mon"|The delay must be 0 to 12 hours.' ],
	[ q{DO $$ BEGIN RAISE SQLSTATE 'SQ003' USING MESSAGE = 'from elsewhere'; END $$}, 'SQ003|from elsewhere|' ])
{
	my ($body, $expected) = @$case;
	my ($id) = $sqs->send_messages('verdicts', $body);
	query_is($node, failures($id), $expected, "an ordinary error: $expected");
}
is($node->safe_psql('postgres', "SELECT discarded FROM sqs_stats WHERE queue = 'verdicts'"), $discarded, 'nothing is discarded by them');
for my $call (q{sqs_discard('x')}, q{sqs_dead_letter('x')}, q{sqs_retry()})
{
	my ($code, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT $call");
	like($err, qr/ERROR:  55000: sqs_(discard|dead_letter|retry)\(\) can only be called by a handler/, "$call is for handlers only");
}

# a verdict is of one message: the next one in the same session is not concerned
{
	my ($id) = $sqs->send_messages('plain', 'SELECT 1');
	query_is($node, "SELECT count(*) FROM done WHERE message_id = '$id'", '1', 'the next message is handled');
}

# ---- FIFO: after a discard the group goes on, after a retry it waits

my @fifo = (q{SELECT sqs_discard('first')}, 'SELECT 2', q{SELECT sqs_retry('1 h', 'third')}, 'SELECT 4');
$sqs->send_messages('verdicts.fifo',
	map { +{ MessageBody => $fifo[$_], MessageGroupId => 'g', MessageDeduplicationId => "d$_" } } 0 .. $#fifo);
query_is($node, "SELECT string_agg(body, ',' ORDER BY n) FROM done WHERE body ~ '^SELECT [24]'", 'SELECT 2',
	'the group goes on after a discard');
query_is($node, "SELECT string_agg(message, ',' ORDER BY failed_at) FROM sqs_failures WHERE queue = 'verdicts.fifo'", 'first,third',
	'up to the message that is to be retried');
query_is($node, "SELECT in_flight, released >= 1 FROM sqs_stats WHERE queue = 'verdicts.fifo'", '0|t', 'the rest is given back');
is($node->safe_psql('postgres', "SELECT count(*) FROM done WHERE body = 'SELECT 4'"), '0', 'and not handled before it');

# ---- a discard that cannot be recorded is none

$node->safe_psql('postgres', "SELECT sqs_register_queue('locked', server => 'aws', handler => 'handle', retry_delay => '0')");
{
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN; LOCK TABLE sqsbridge_internal.failures IN SHARE MODE');
	my ($id) = $sqs->send_messages('locked', q{SELECT sqs_discard('while the table is locked')});
	query_true($node, "(SELECT failed > 0 AND discarded = 0 AND acked = 0 FROM sqs_stats WHERE queue = 'locked')",
		'a discard that cannot be recorded is a failure');
	is($node->safe_psql('postgres', "SELECT count(*) FROM sqsbridge_internal.inbox WHERE message_key = '$id'"), '0',
		'and leaves nothing behind');
	$session->query_safe('ROLLBACK');
	$session->quit;
	query_is($node, "SELECT discarded, acked FROM sqs_stats WHERE queue = 'locked'", '1|1', 'it is discarded when it comes back');
	$sqs->is_empty('locked');
}

# ---- a crash between the two transactions and the deletion: discarded once

{
	my $fault = $sqs->fault(kind => 'error', action => 'DeleteMessageBatch', status => 503);
	my ($id) = $sqs->send_messages('verdicts', q{SELECT sqs_discard('before a crash')});
	query_is($node, failures($id), 'SQ003|before a crash|', 'discarded before a crash');
	$node->safe_psql('postgres', 'CHECKPOINT');
	$node->stop('immediate');
	$sqs->clear_faults;
	$node->start;
	$sqs->advance(3700);
	query_is($node, "SELECT duplicates >= 1 FROM sqs_stats WHERE queue = 'verdicts'", 't', 'comes back as a duplicate');
	is($node->safe_psql('postgres', "SELECT count(*) FROM sqs_failures WHERE message_id = '$id'"), '1', 'and does not run again');
}

$node->stop;
my $reasons = join '|', map { quotemeta }
  'not for us', 'the handler called sqs_', '%s 100 %', 'caught', 'first', 'third', 'by a deferred trigger', 'without exactly_once',
  'not yet', 'invalid delay for sqs_retry()', 'from elsewhere', 'division by zero', 'conflict', 'before a crash',
  'while the table is locked', 'canceling statement due to lock timeout', 'sqs_discard() can only', 'sqs_dead_letter() can only', 'sqs_retry() can only';
check_log($node, qr/ERROR:  (?:$reasons)|queue "verdicts".*DeleteMessageBatch/,
	qr/FATAL:  terminating background worker "sqsbridge handler worker" due to administrator command/,
	qr/background worker "sqsbridge handler worker" \(PID \d+\) exited with exit code 1/);
done_testing();
