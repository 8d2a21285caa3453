# Error rules: what an error of a handler leads to.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my @queues = qw(rules other);
my $sqs = start_sqs(queues => [ (map { "$_,VisibilityTimeout=3600" } @queues), 'rules.fifo,VisibilityTimeout=3600' ]);
my $node = new_node('main');
setup_database($node, $sqs);

# A body is SQL that the handler runs; runs are counted outside of the transaction.
$node->safe_psql('postgres', <<'EOQ');
CREATE TABLE done (n serial, queue text, body text, receive_count int, attempt int);
CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
INSERT INTO late VALUES (1);
CREATE SEQUENCE runs;
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM nextval('runs');
  EXECUTE m.body;
  INSERT INTO done (queue, body, receive_count, attempt) VALUES (m.queue, m.body, m.receive_count, m.attempt);
END $$;
CREATE FUNCTION fails(code text, times int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF currval('runs') <= times THEN
    RAISE 'failed' USING ERRCODE = code;
  END IF;
END $$;
EOQ
$node->safe_psql('postgres', "SELECT sqs_register_queue('$_', server => 'aws', handler => 'handle', retry_delay => '1 h')")
  foreach @queues, 'rules.fifo';

sub failures
{
	my ($id) = @_;
	return "SELECT sqlstate, action, attempt FROM sqs_failures WHERE message_id = '$id' ORDER BY failed_at";
}

sub send_sql
{
	my ($queue, $body) = @_;
	$node->safe_psql('postgres', "TRUNCATE done; SELECT setval('runs', 1, false)");
	return ($sqs->send_messages($queue, $body))[0];
}

# ---- retry_now

foreach my $code ('40001', '40P01', '55P03')
{
	my $before = $node->safe_psql('postgres', "SELECT retried_now FROM sqs_stats WHERE queue = 'rules'");
	my $id = send_sql('rules', "SELECT fails('$code', 3)");
	query_is($node, 'SELECT receive_count, attempt FROM done', '1|1', "$code: tried again at once");
	is($node->safe_psql('postgres', failures($id)), '', "$code: not recorded as a failure");
	is($node->safe_psql('postgres', "SELECT retried_now - $before FROM sqs_stats WHERE queue = 'rules'"), '3',
		"$code: but counted");
	$id = send_sql('rules', "SELECT fails('$code', 1000000)");
	query_is($node, failures($id), "$code|retry|1", "$code: a failure after four runs, charged once");
	is($node->safe_psql('postgres', 'SELECT last_value FROM runs'), '4', "$code: not more than four");
}

# ---- rules of the queue and of all, exact or not

$node->safe_psql('postgres', <<'EOQ');
SELECT sqs_set_error_rule('rules', '23', 'discard'), sqs_set_error_rule('rules', '23514', 'dead_letter'),
       sqs_set_error_rule(NULL, '23502', 'dead_letter'), sqs_set_error_rule('rules', 'P0001', 'retry', '2 h'),
       sqs_set_error_rule('rules', '22', 'retry_now', '3 h')
EOQ
foreach my $case (
	[ 'rules', '23505', '23505|discard|1' ],
	[ 'rules', '23514', '23514|dead_letter|1' ],
	[ 'rules', '23502', '23502|dead_letter|1' ],
	[ 'rules', 'P0002', 'P0002|retry|1' ],
	[ 'other', '23505', '23505|retry|1' ],
	[ 'other', '23502', '23502|dead_letter|1' ])
{
	my ($queue, $code, $expected) = @$case;
	my $id = send_sql($queue, "SELECT fails('$code', 1000000)");
	query_is($node, failures($id), $expected, "$queue, $code: $expected");
	is($node->safe_psql('postgres', 'SELECT last_value FROM runs'), '1', 'after one run');
	next unless $expected =~ /dead_letter/;
	is($node->safe_psql('postgres', "SELECT reason, sqlstate FROM sqs_dead_letters WHERE message_id = '$id'"),
		"rule|$code", 'there is a dead letter');
}
query_is($node, "SELECT discarded, dead_letters FROM sqs_stats WHERE queue = 'rules'", '1|2', 'ends are counted');
foreach my $case ([ 'P0001', '02:00:00', 1 ], [ '22012', '03:00:00', 4 ])
{
	my ($code, $delay, $runs) = @$case;
	my $id = send_sql('rules', "SELECT fails('$code', 1000000)");
	query_is($node, failures($id), "$code|retry|1", "$code: retried");
	is($node->safe_psql('postgres', 'SELECT last_value FROM runs'), $runs, "$code: after $runs runs");
	is( $node->safe_psql('postgres', "SELECT retry_at - failed_at BETWEEN interval '$delay' * 0.79 AND interval '$delay' * 1.01
			FROM sqs_failures WHERE message_id = '$id'"), 't', "$code: with the rule's delay, less the jitter");
}

# ---- errors of the COMMIT

{
	my $id = send_sql('rules', 'INSERT INTO late VALUES (1)');
	query_is($node, failures($id), '23505|discard|1', 'a constraint that fails at COMMIT is an error like any other');
	$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION late_fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM fails('40001', 2); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION late_fails();
EOQ
	$id = send_sql('rules', 'INSERT INTO late VALUES (2)');
	query_is($node, 'SELECT body FROM done', 'INSERT INTO late VALUES (2)', 'so is one by a deferred trigger');
	is($node->safe_psql('postgres', failures($id)), '', 'which is tried again at once');
}

# ---- no rule for verdicts, but for errors that look like them

$node->safe_psql('postgres', "SELECT sqs_set_error_rule('rules', 'default', 'discard')");
{
	my $id = send_sql('rules', q{SELECT sqs_retry('1 h')});
	query_is($node, failures($id), 'SQ001|retry|1', 'a verdict is no matter of rules');
	$id = send_sql('rules', "SELECT fails('SQ001', 1)");
	query_is($node, failures($id), 'SQ001|discard|1', 'an error with its SQLSTATE is');
	$id = send_sql('rules', "SELECT fails('40001', 1)");
	query_is($node, failures($id), '40001|discard|1', 'a rule for default replaces the built-in ones');
}

# ---- rules are changed while the queue works

$node->safe_psql('postgres', "SELECT sqs_set_error_rule('rules', 'default', NULL)");
{
	my $id = send_sql('rules', "SELECT fails('P0003', 1)");
	query_is($node, failures($id), 'P0003|retry|1', 'a rule that is removed does not apply to the next message');
	$node->safe_psql('postgres', "BEGIN; SELECT sqs_set_error_rule('rules', 'P0003', 'discard'); ROLLBACK");
	$id = send_sql('rules', "SELECT fails('P0003', 1)");
	query_is($node, failures($id), 'P0003|retry|1', 'nor one that was rolled back');
	$node->safe_psql('postgres', "SELECT sqs_set_error_rule('rules', 'P0003', 'discard')");
	$id = send_sql('rules', "SELECT fails('P0003', 1)");
	query_is($node, failures($id), 'P0003|discard|1', 'one that is committed does');
}

# ---- FIFO: a group goes on after an end by a rule, in order

$node->safe_psql('postgres', "SELECT sqs_set_error_rule('rules.fifo', 'P0001', 'discard'), sqs_set_error_rule('rules.fifo', 'P0002', 'dead_letter')");
{
	my @bodies = ('SELECT 1', q{SELECT fails('P0001', 1000000)}, 'SELECT 2', q{SELECT fails('P0002', 1000000)},
		q{SELECT fails('40001', 6)}, 'SELECT 3');
	$node->safe_psql('postgres', "TRUNCATE done; SELECT setval('runs', 1, false)");
	$sqs->send_messages('rules.fifo',
		map { +{ MessageBody => $bodies[$_], MessageGroupId => 'g', MessageDeduplicationId => "d$_" } } 0 .. $#bodies);
	query_is($node, "SELECT string_agg(body, '; ' ORDER BY n) FROM done",
		"SELECT 1; SELECT 2; SELECT fails('40001', 6); SELECT 3", 'FIFO: discard, dead letter, and retry_now keep the order');
	$sqs->is_empty('rules.fifo');
	is($sqs->stats('rules.fifo')->{received}, scalar(@bodies), 'FIFO: each is received once');
}

check_log($node);
done_testing();
