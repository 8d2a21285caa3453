# SqsOutbox.pm: rows of an outbox that is sent by a test's server.
package SqsOutbox;

use strict;
use warnings;

use Test::More;
use SqsTest;

our $tables = 'sqsbridge_internal';

sub new
{
	my ($class, $sqs, $node) = @_;
	return bless { sqs => $sqs, node => $node }, $class;
}

# n rows, "PREFIX:1" and so on, in one transaction.
sub enqueue
{
	my ($self, $queue, $prefix, $n) = @_;
	return $self->{node}->safe_psql('postgres', "INSERT INTO sqs_outbox (queue, body)
		SELECT '$queue', '$prefix:' || i FROM generate_series(1, $n) i");
}

# Bodies of the messages with this prefix that SQS has.
sub arrived
{
	my ($self, $queue, $prefix) = @_;
	return grep { /^\Q$prefix\E:/ } map { $_->{body} } @{ $self->{sqs}->messages($queue) };
}

# All of them, each once.
sub arrived_are
{
	my ($self, $queue, $prefix, $n, $name) = @_;
	my @got = sort { (split /:/, $a)[1] <=> (split /:/, $b)[1] } $self->arrived($queue, $prefix);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join(',', @got), join(',', map { "$prefix:$_" } 1 .. $n), $name);
}

sub stat_is
{
	my ($self, $queue, $columns, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return query_is($self->{node}, "SELECT $columns FROM sqs_stats_outbox WHERE queue = '$queue'", $expected, $name, timeout => 120);
}

sub rows_are
{
	my ($self, $queue, $n, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return query_is($self->{node}, "SELECT count(*) FROM $tables.outbox_rows WHERE queue = '$queue'", $n, $name, timeout => 120);
}

# How many lines of the log are like this.
sub lines_like
{
	my ($self, $pattern) = @_;
	return scalar(() = log_text($self->{node}) =~ /LOG:  sqsbridge [^\n]*$pattern/g);
}

sub worker
{
	my ($self) = @_;
	return $self->{node}->safe_psql('postgres', "SELECT pid FROM sqs_stats_workers WHERE kind = 'database worker'");
}

1;
