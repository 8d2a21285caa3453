# SqsLoad.pm: three queues under load, for tests of what must not lose or repeat
# a message: so much is sent that something happens in the midst of the work, and
# SQS's books are compared with the effects.
package SqsLoad;

use strict;
use warnings;

use List::Util qw(sum);
use Test::More;
use SqsTest;

my @queues = ('load', 'other', 'ordered.fifo');

sub queues
{
	return @queues;
}

# The table and the handler of a database, and who owns the queues.
our $objects = <<'EOQ';
CREATE TABLE got (id bigserial, queue text, message_id text, body text, group_id text, sequence_number numeric, db oid);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got (queue, message_id, body, group_id, sequence_number, db)
  SELECT m.queue, m.message_id, m.body, m.group_id, m.sequence_number, oid
  FROM pg_database WHERE datname = current_database();
  PERFORM pg_sleep(0.002);
END $$;
EOQ

# new(sqs, node): the queues run in the database "postgres", which has been set
# up.  Their owner commits asynchronously, so a crash takes what nobody has
# flushed.
sub new
{
	my ($class, $sqs, $node) = @_;
	my $self = bless { sqs => $sqs, node => $node, sent => { map { $_ => 0 } @queues } }, $class;

	$node->safe_psql('postgres', <<"EOQ");
CREATE ROLE worker LOGIN;
ALTER ROLE worker SET synchronous_commit = off;
GRANT CREATE ON SCHEMA public TO worker;
GRANT USAGE ON FOREIGN SERVER aws TO worker;
SET SESSION AUTHORIZATION worker;
$objects
SELECT sqs_register_queue('load', server => 'aws', handler => 'handle', concurrency => 3);
SELECT sqs_register_queue('other', server => 'aws', handler => 'handle');
SELECT sqs_register_queue('ordered.fifo', server => 'aws', handler => 'handle', concurrency => 2);
EOQ
	return $self;
}

# So many more for the first queue, and fewer for the others.
sub feed
{
	my ($self, $load) = @_;
	my $sent = $self->{sent};
	my %count = (load => $load, other => int($load / 4), 'ordered.fifo' => int($load / 8));

	foreach my $queue (@queues)
	{
		$self->{sqs}->fill($queue, $count{$queue}, body => "$queue {i}", start => $sent->{$queue} + 1,
			$queue =~ /fifo/ ? (groups => 7) : ());
		$sent->{$queue} += $count{$queue};
	}
	return;
}

sub deleted
{
	my ($self) = @_;
	my $all = $self->{sqs}->stats->{queues};
	return sum(map { $all->{$_}{deleted} } @queues);
}

sub total
{
	my ($self) = @_;
	return sum(values %{ $self->{sent} });
}

# Some of the work that there is, up to nearly all of it, is done.
sub wait_for_some_work
{
	my ($self, $name) = @_;
	my $done = $self->deleted;
	my $goal = $done + 1 + int(rand(0.7) * ($self->total - $done));
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll_until(sub { $self->deleted >= $goal }, "$name: $goal messages are done");
	return;
}

# What is deleted had its effect, and nothing had it twice.
sub all_agree
{
	my ($self, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$self->{sqs}->books_agree($_, $self->{node}, "$name: $_") foreach @queues;
	return;
}

# All is done, sooner or later.
sub all_done
{
	my ($self, $name) = @_;
	my $sent = $self->{sent};
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$self->{sqs}->is_empty($_, "$name: all of $_ is done", 120) foreach @queues;
	$self->all_agree($name);
	is( $self->{node}->safe_psql('postgres',
			q{SELECT queue, count(*), count(DISTINCT body) FROM got WHERE queue IN ('load', 'other', 'ordered.fifo') GROUP BY 1 ORDER BY 1}),
		join("\n", map { "$_|$sent->{$_}|$sent->{$_}" } sort @queues),
		"$name: each message had its effect once");
	return;
}

sub in_order
{
	my ($self) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is( $self->{node}->safe_psql('postgres', q{SELECT count(*) FROM
			(SELECT sequence_number, lag(sequence_number) OVER (PARTITION BY group_id ORDER BY id) AS before
			FROM got WHERE queue = 'ordered.fifo') x WHERE sequence_number <= before}),
		'0', 'FIFO groups were handled in order through all of this');
}

# How often the server has gone down and come back by itself.
sub crashes
{
	my ($self) = @_;
	my $n = () = log_text($self->{node}) =~ /all server processes terminated; reinitializing/g;
	return $n;
}

1;
