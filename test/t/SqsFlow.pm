# SqsFlow.pm: messages and rows that flow in all directions while a test does
# something to the tables of the extension, and the question whether all of them
# had their effect, once.
package SqsFlow;

use strict;
use warnings;

use JSON::PP;
use Test::More;
use SqsTest;

# The queues that it needs, for start_sqs().
sub queues
{
	return ('ticker', 'dead', 'in,VisibilityTimeout=20,dlq=dead:10', 'in.fifo,VisibilityTimeout=20', 'out', 'out.fifo', 'refused', 'held');
}

# new(sqs, node): the database has been set up.  A role "low" has a trigger
# function, and what it should not have run is in low.ran.
sub new
{
	my ($class, $sqs, $node) = @_;
	my $self = bless {
		sqs => $sqs,
		node => $node,
		messages => { in => 0, 'in.fifo' => 0 },
		rows => { out => 0, 'out.fifo' => 0, refused => 0 }
	}, $class;

	$node->safe_psql('postgres', <<'EOQ');
CREATE ROLE low LOGIN;
CREATE SCHEMA low AUTHORIZATION low;
GRANT USAGE ON SCHEMA low TO PUBLIC;
CREATE TABLE low.ran (what text, who text DEFAULT current_user);
GRANT INSERT ON low.ran TO PUBLIC;
ALTER TABLE low.ran OWNER TO low;
CREATE FUNCTION low.trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO low.ran VALUES (TG_OP || ' ' || TG_TABLE_NAME);
  RETURN NULL;
END $$;
ALTER FUNCTION low.trigger OWNER TO low;
CREATE TABLE got (id bigint GENERATED ALWAYS AS IDENTITY, queue text, body text, group_id text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF m.body LIKE 'poison%' THEN
    RAISE 'this one is poison: %', m.body;
  END IF;
  INSERT INTO got (queue, body, group_id) VALUES (m.queue, m.body, m.group_id);
  PERFORM sqs_enqueue('out', m.queue || ': ' || m.body);
END $$;
SELECT sqs_register_queue('ticker', server => 'aws', handler => 'handle', wait_time => '1 s');
SELECT sqs_register_queue(q, server => 'aws', handler => 'handle', concurrency => 2, wait_time => '1 s', retry_delay => '0 s')
FROM unnest(ARRAY['in', 'in.fifo']) q;
SELECT sqs_register_queue(q, server => 'aws') FROM unnest(ARRAY['out', 'out.fifo', 'refused', 'held']) q;
SELECT sqs_disable_queue('held');
INSERT INTO sqs_outbox (queue, body) SELECT 'held', 'held ' || i FROM generate_series(1, 3) i;
EOQ
	$sqs->fault(kind => 'entry_fail', action => 'SendMessageBatch', queue => 'refused',
		code => 'InvalidMessageContents', message => 'not this', sender_fault => JSON::PP::true());
	# requests are under way for a while, so that there is something to forget
	$self->{slow} = $sqs->fault(kind => 'latency', ms => 300, action => 'SendMessageBatch');

	$self->more;
	$self->all_is_done('in peace');
	$self->{workers} = $self->workers;
	return $self;
}

# The extension's tables.
sub tables
{
	my ($self) = @_;
	return split /\n/, $self->{node}->safe_psql('postgres', <<'EOQ');
SELECT format('%I.%I', nspname, relname) FROM pg_depend d
JOIN pg_class c ON c.oid = d.objid JOIN pg_namespace n ON n.oid = relnamespace
WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_extension'::regclass AND deptype = 'e' AND relkind = 'r'
ORDER BY 1
EOQ
}

# Some more messages to receive.
sub receive_more
{
	my ($self, $n) = @_;
	my $messages = $self->{messages};
	foreach my $queue (keys %$messages)
	{
		$self->{sqs}->fill($queue, $n, body => "$queue {i}", start => $messages->{$queue} + 1, groups => 4);
		$messages->{$queue} += $n;
	}
	return;
}

# Some more of everything.
sub more
{
	my ($self, $n) = @_;
	my $rows = $self->{rows};
	$n ||= 20;
	$self->receive_more($n);
	$self->{sqs}->fill('in', 1, body => 'poison');
	$self->{node}->safe_psql('postgres', <<EOQ);
INSERT INTO sqs_outbox (queue, body) SELECT 'out', 'row ' || i FROM generate_series($rows->{out} + 1, $rows->{out} + $n) i;
INSERT INTO sqs_outbox (queue, body, group_id, deliver_at)
SELECT 'out.fifo', i, 'g' || i % 4, CASE WHEN i % 7 = 0 THEN now() + interval '1 s' END
FROM generate_series($rows->{'out.fifo'} + 1, $rows->{'out.fifo'} + $n) i;
INSERT INTO sqs_outbox (queue, body) VALUES ('refused', 'refused'), ('refused', 'refused');
EOQ
	$rows->{out} += $n;
	$rows->{'out.fifo'} += $n;
	$rows->{refused} += 2;
	return;
}

# All that there is, and all of it once.
sub all_is_done
{
	my ($self, $name, %o) = @_;
	my ($sqs, $node, $messages, $rows) = @$self{qw(sqs node messages rows)};
	my $timeout = $o{timeout} || 90;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	foreach my $queue (sort keys %$messages)
	{
		query_is($node, "SELECT count(*), count(DISTINCT body) FROM got WHERE queue = '$queue'",
			"$messages->{$queue}|$messages->{$queue}", "$name: $queue: each message is handled once", timeout => $timeout);
	}
	query_is($node, "SELECT count(*) FROM sqs_outbox WHERE queue <> 'held'", '0', "$name: the outbox is sent", timeout => $timeout);
	my %times;
	$times{ $_->{body} }++ foreach @{ $sqs->messages('out') };
	my @expected = map({ "row $_" } 1 .. $rows->{out}),
	  map({ my $queue = $_; map { "$queue: $queue $_" } 1 .. $messages->{$queue} } keys %$messages);
	my @wrong = grep { ($times{$_} || 0) != 1 } (@expected, keys %times);
	is(join(', ', @wrong[ 0 .. ($#wrong < 9 ? $#wrong : 9) ]), '', "$name: each row once");
	my %fifo;
	push @{ $fifo{ $_ % 4 } }, $_ foreach map { $_->{body} } @{ $sqs->messages('out.fifo') };
	my @fifo = sort { $a <=> $b } map { @$_ } values %fifo;
	is("@fifo", join(' ', 1 .. $rows->{'out.fifo'}), "$name: and each of those in groups");
	query_is($node, "SELECT count(*) FROM sqs_outbox_failures WHERE queue = 'refused'", $rows->{refused},
		"$name: what is refused is kept", timeout => $timeout);
	is($node->safe_psql('postgres', 'SELECT * FROM low.ran'), '', "$name: nothing of a stranger's has run");
	return;
}

sub workers
{
	my ($self) = @_;
	return $self->{node}->safe_psql('postgres',
		"SELECT string_agg(pid::text, ',' ORDER BY pid) FROM sqs_stats_workers WHERE kind <> 'handler worker'");
}

sub workers_are_the_same
{
	my ($self, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($self->workers, $self->{workers}, "$name: no worker has been restarted");
}

1;
