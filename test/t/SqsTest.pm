# SqsTest.pm: what the TAP tests of sqsbridge have in common.
#
# The tests start PostgreSQL servers and SQS servers of their own and need
# nothing but what comes with PostgreSQL (PostgreSQL::Test::*), Perl's core
# and IPC::Run.  The extension must be installed and test/sqsd be built.
# initdb refuses to run as root, so the tests have to be run as somebody
# else.  From the top of the source tree:
#
#   PATH=$(pg_config --bindir):$PATH \
#   PG_REGRESS=$(dirname $(pg_config --pgxs))/../test/regress/pg_regress \
#   PERL5LIB=$(dirname $(pg_config --pgxs))/../test/perl:test/t \
#   TESTDIR=/tmp/sqsbridge-tap \
#   prove test/t
#
# Everything that the tests write, logs included, goes to $TESTDIR/tmp_check,
# which is made if it is not there.
#
# Optional:
#
#   SQSD                     path of sqsd, if it is not test/sqsd/sqsd
#   SQSBRIDGE_ENDPOINT_KIND  sqsd (the default) or fauxqs, which is somebody
#                            else's emulator of SQS; tests that need what only
#                            sqsd can do are skipped then
#   FAUXQS_DIR               directory that has node_modules/fauxqs
#   SQSBRIDGE_LONG           1: the long versions, of many minutes
package SqsTest;

use strict;
use warnings;

use Encode ();
use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename;
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use List::Util qw(min);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  start_sqs new_node setup_database poll_until try_psql query_is query_true
  check_log need_sqsd endpoint_kind backs_off pauses_grow calls_apart
  sql_literal log_text private_memory open_files seconds_pass stop_ok
  open_session close_session add_server preloadable
);

my $account = '000000000000';

# Since PostgreSQL 16 its modules look at two other variables.  They do so
# before a test's first statement, but after all modules have been read.
BEGIN
{
	if (defined $ENV{TESTDIR})
	{
		$ENV{TESTDATADIR} ||= "$ENV{TESTDIR}/tmp_check";
		$ENV{TESTLOGDIR} ||= "$ENV{TESTDIR}/tmp_check/log";
	}
}

# A killed SQS server must not kill the test.
$SIG{PIPE} = 'IGNORE';

sub endpoint_kind
{
	return $ENV{SQSBRIDGE_ENDPOINT_KIND} || 'sqsd';
}

# For test files that need what only sqsd can do.
sub need_sqsd
{
	plan skip_all => 'needs sqsd' if endpoint_kind() ne 'sqsd';
	return;
}

# ---- waiting ----

# Naps between two looks at something, longer and longer: each look takes a
# process or two, and other tests need the processors.
sub nap
{
	my ($looks) = @_;
	usleep($looks < 8 ? 20_000 * 1.4**$looks : 250_000);
	return;
}

# poll_until(sub { ... }, 'what for' [, seconds]): naps until the sub returns
# true; returns what it returned.  A failed test if the time is over.
sub poll_until
{
	my ($condition, $name, $timeout) = @_;
	my $until = time() + ($timeout || 60);
	my $looks = 0;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	while (1)
	{
		my $result = $condition->();
		if ($result)
		{
			pass($name);
			return $result;
		}
		last if time() > $until;
		nap($looks++);
	}
	fail("$name (timed out)");
	return;
}

# As psql of the node, if the server may be down: IPC::Run dies if a psql that
# cannot connect is gone before the query is written to it.
sub try_psql
{
	my ($node, $dbname, $query) = @_;
	my @answer = eval { $node->psql($dbname, $query, timeout => 60) };
	return @answer if $@ eq '';
	die $@ unless $@ =~ /Broken pipe/;
	return (2, '', $@);
}

# Asks a psql that stays; it is started if it is not there, or not any more.
# Returns output and errors, as try_psql does.
sub ask
{
	my ($session, $node, $dbname, $query) = @_;
	my $done = eval {
		$session->{timer} ||= IPC::Run::timeout(60);
		$session->{psql} ||= IPC::Run::start(
			[ 'psql', '-XAtq', '-d', $node->connstr($dbname) ],
			'<', \$session->{in}, '>', \$session->{out}, '2>', \$session->{err}, $session->{timer});
		$session->{timer}->start;
		@$session{qw(in out err)} = ("$query\n;\n\\echo :done\n\\warn :done\n", '', '');
		$session->{psql}->pump until $session->{out} =~ /^:done$/m && $session->{err} =~ /^:done$/m;
		1;
	};
	return map { s/\n?:done\n\z//r } @$session{qw(out err)} if $done;

	# the server is not there, or was not
	my $error = "$session->{err}$@";
	eval { $session->{psql}->kill_kill };
	delete $session->{psql};
	return ('', $error);
}

sub end_asking
{
	my ($session) = @_;
	my $psql = $session->{psql} or return;
	$session->{in} = "\\q\n";
	eval { $psql->finish };
	return;
}

# The query must yield what is expected, sooner or later.  The first looks are
# sessions of their own: most often they are enough.
sub query_is
{
	my ($node, $query, $expected, $name, %o) = @_;
	my $dbname = $o{dbname} || 'postgres';
	my $until = time() + ($o{timeout} || 60);
	my $looks = 0;
	my %session = (in => '', out => '', err => '');
	my ($got, $stderr);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	while (1)
	{
		(undef, $got, $stderr) = $looks < 3 ? try_psql($node, $dbname, $query) : (0, ask(\%session, $node, $dbname, $query));
		last if ($stderr || '') eq '' && $got eq $expected;
		last if time() > $until;
		nap($looks++);
	}
	end_asking(\%session);
	diag($stderr) if ($stderr || '') ne '';
	return is($got, $expected, $name);
}

sub query_true
{
	my ($node, $query, $name, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return query_is($node, "SELECT ($query)", 't', $name, %o);
}

# The queue 'ticker', with wait_time 1 s and no messages, must have polled so
# often that n seconds have passed since: time for what should not happen.
sub seconds_pass
{
	my ($node, $n, $name) = @_;
	my $calls = "SELECT receive_calls FROM sqs_stats WHERE queue = 'ticker'";
	my $before = $node->safe_psql('postgres', $calls) || 0;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return query_true($node, "($calls) > $before + $n", $name);
}

# What a timer keeps apart.  No test says how quick something has to be; but a
# timer is never early, whatever the load of the machine, and neither is a call
# that it starts.  So the times that the views and sqsd record say whether the
# server waited, without a look at the test's own clock.

# A queue in trouble asks again after half a second, one, two and so on (give
# or take an eighth): the view's own times say so.  With free => n, of the errors
# so many may be calls that were under way together.
sub backs_off
{
	my ($node, $queue, $name, %o) = @_;
	my $view = $o{view} || 'sqs_stats';
	my $free = $o{free} || 0;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $row = $node->safe_psql('postgres', <<EOQ);
SELECT extract(epoch FROM last_error_at - error_since) >=
	(SELECT COALESCE(sum(0.85 * least(0.5 * 2 ^ i, 60)), 0)
	 FROM generate_series(0, consecutive_errors - 2 - $free) i),
	error_since, last_error_at, consecutive_errors
FROM $view WHERE queue = '$queue'
EOQ
	return like($row, qr/^t\|.+\|.+\|/, $name);
}

# The same by SQS's books.  pauses_grow(sub, free, longest, name): the sub
# returns the times of calls, see call_times, while all of them fail.  At most
# "free" pauses are shorter, between calls that were under way together and
# those that a single failure does not stop.  Then, sooner or later, there have
# been two at least, and all were as they should be.
sub pauses_grow
{
	my ($calls, $free, $longest, $name) = @_;
	my @pauses;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $grow = sub {
		my @times = $calls->();
		@pauses = map { ($times[$_] - $times[ $_ - 1 ]) / 1000 } 1 .. $#times;
		foreach my $first (0 .. min($free, $#pauses - 1))
		{
			my $step = 0.5;
			my $short = 0;
			foreach my $pause (@pauses[ $first .. $#pauses ])
			{
				$short++ if $pause < 0.87 * $step - 0.002;
				$step = min(2 * $step, $longest);
			}
			return 1 if $short == 0;
		}
		return;
	};
	return poll_until($grow, $name) || diag("pauses of @pauses s");
}

# calls_apart(times, milliseconds, name [, from_reply => 1]): each call was
# begun so long after the one before it was begun.  One that was held up on its
# way to SQS may be followed too soon, but then not by two; unless the time
# counts from a reply.
sub calls_apart
{
	my ($times, $ms, $name, %o) = @_;
	my $less = $o{from_reply} ? 0 : 1;
	my @early;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	foreach my $to (1 + $less .. $#$times)
	{
		foreach my $from (0 .. $to - 1 - $less)
		{
			my $apart = $times->[$to] - $times->[$from];
			push @early, ($to - $from + 1) . " calls in $apart ms" if $apart < ($to - $from - $less) * $ms - 2;
		}
	}
	ok(@$times > 1 + $less && !@early, $name) or diag("early: @early; times: @$times");
	return;
}

# A session of psql that has said what it was told to and stays open, with the
# locks that it took.
sub open_session
{
	my ($node, $sql, $name) = @_;
	my $session = { in => "$sql\n\\echo ready\n", out => '', err => '' };
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$session->{harness} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres') ],
		'<', \$session->{in}, '>', \$session->{out}, '2>', \$session->{err},
		IPC::Run::timeout(2 * $PostgreSQL::Test::Utils::timeout_default));
	IPC::Run::pump($session->{harness}) until $session->{out} =~ /ready/ || $session->{err} =~ /ERROR|FATAL/;
	like($session->{out}, qr/ready/, $name) or diag($session->{err});
	return $session;
}

# Its last statements; by default it gives up what it has done.
sub close_session
{
	my ($session, $sql) = @_;
	$session->{in} .= ($sql // 'ROLLBACK;') . "\n\\q\n";
	eval { $session->{harness}->finish };    # it may have been terminated
	return;
}

sub sql_literal
{
	my ($text) = @_;
	$text =~ s/'/''/g;
	if ($text =~ /\\/)
	{
		$text =~ s/\\/\\\\/g;
		return "E'$text'";
	}
	return "'$text'";
}

# ---- PostgreSQL ----

# the superuser is not called as the user who runs the tests
$ENV{PGUSER} = 'postgres';

# how long pg_ctl waits; the modules of later versions say so themselves
$ENV{PGCTLTIMEOUT} ||= $PostgreSQL::Test::Utils::timeout_default;

# new_node(name [, conf => text, env => {}, init => [], start => 0]): a server
# with the extension loaded.  With force_initdb => 1 in "init" it is certain to
# have a system identifier of its own.
sub new_node
{
	my ($name, %o) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my %init = @{ $o{init} || [] };

	# see test/lib/initdb
	local $ENV{INITDB_TEMPLATES} = $init{force_initdb} ? '' : $ENV{INITDB_TEMPLATES} || '';

	# whoever runs the tests, and in whatever locale; PGUSER is set above
	$node->init(%init, extra => [ '-U', 'postgres', '-E', 'UTF8', '--locale=C.UTF-8' ]);
	$node->append_conf('postgresql.conf', <<EOC);
shared_preload_libraries = 'sqsbridge'
max_worker_processes = 32
log_statement = none
log_min_messages = info
EOC
	$node->append_conf('postgresql.conf', $o{conf}) if defined $o{conf};
	if (!exists $o{start} || $o{start})
	{
		local %ENV = (%ENV, %{ $o{env} || {} });
		$node->start;
	}
	return $node;
}

# The server stops.  How soon depends on the machine; so whoever asserts that it
# does not wait for something makes that last longer than pg_ctl waits, such as
# a handler that sleeps for an hour, or sqsbridge.shutdown_timeout = '1h'.
sub stop_ok
{
	my ($node, $name, $mode) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	ok($node->stop($mode || 'fast', fail_ok => 1), $name) or BAIL_OUT($node->name . ' does not stop');
	return;
}

# add_server(node, name, endpoint [, dbname => , key => , options => ]): a foreign
# server and, unless user_mapping is 0, keys for all.
sub add_server
{
	my ($node, $name, $endpoint, %o) = @_;
	my $db = $o{dbname} || 'postgres';
	my $key = $o{key} || 'secret';
	my $options = $o{options} ? ", $o{options}" : '';

	$node->safe_psql($db, <<EOQ);
CREATE SERVER $name FOREIGN DATA WRAPPER sqsbridge
  OPTIONS (region 'us-east-1', endpoint '$endpoint'$options);
EOQ
	$node->safe_psql($db, <<EOQ) if !exists $o{user_mapping} || $o{user_mapping};
CREATE USER MAPPING FOR PUBLIC SERVER $name
  OPTIONS (access_key_id 'AKIDTEST', secret_access_key '$key');
EOQ
	return;
}

# The extension, and a server "aws" (see add_server).
sub setup_database
{
	my ($node, $sqs, %o) = @_;
	$node->safe_psql($o{dbname} || 'postgres', 'CREATE EXTENSION sqsbridge');
	add_server($node, 'aws', $sqs->endpoint, %o);
	return;
}

sub log_text
{
	my ($node, $offset) = @_;
	return substr(slurp_file($node->logfile), $offset || 0);
}

# An unexplained line in a server log is a bug: every line of these kinds must
# match one of the patterns.
sub check_log
{
	my ($node, @allow) = @_;
	my @bad;

	# PostgreSQL's own launchers leave this way at every stop, and so does ours.
	push @allow, qr/background worker "[a-z ]+ launcher" \(PID \d+\) exited with exit code 1$/;

	# So does autovacuum.
	push @allow, qr/FATAL:  terminating autovacuum process due to administrator command$/;

	# A session of the test's own, whose psql has ended, may not have noticed yet
	# when the server is stopped next.
	push @allow, qr/\] \S+\.pl FATAL:  terminating connection due to administrator command$/;

	my @lines = split /\n/, slurp_file($node->logfile);
	foreach my $i (0 .. $#lines)
	{
		my $line = $lines[$i];
		next
		  unless $line =~ /^TRAP/
		  || $line =~ /^\S+ \S+ \S+ \[\d+\] (?:\S+ )?(?:PANIC|FATAL|ERROR|WARNING):  /
		  || $line =~ /\bLOG:  .*(?:exited with exit code|terminated by signal)/
		  || $line =~ /sqsbridge.*(?:leak|not closed)/;
		# Autovacuum makes way for whoever waits for a lock.  On a table of ours
		# that must not be a worker; a test that locks one says so.
		next
		  if $line =~ /ERROR:  canceling autovacuum task$/
		  && join(' ', grep { defined } @lines[ $i + 1, $i + 2 ]) !~ /sqsbridge_internal\./;
		push @bad, $line unless grep { $line =~ $_ } @allow;
	}
	splice(@bad, 20) if @bad > 20;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join("\n", @bad), '', $node->name . ': no unexpected line in the server log');
}

# Processes of the server, whether its postmaster lives or not: those that work
# in its data directory.
sub server_processes
{
	my ($node) = @_;
	my $dir = abs_path($node->data_dir);
	my @pids;

	foreach my $entry (glob('/proc/[0-9]*'))
	{
		my $cwd = readlink("$entry/cwd");
		push @pids, substr($entry, 6) if defined $cwd && $cwd eq $dir;
	}
	return @pids;
}

# What a process has in memory, in kB, without what it shares with others: the
# buffers it has touched so far say nothing.  undef: there is no such process.
sub private_memory
{
	my ($pid) = @_;
	open(my $status, '<', "/proc/$pid/status") or return;
	my %field = map { /^(\w+):\s+(\d+) kB/ ? ($1, $2) : () } <$status>;
	close($status);
	return $field{RssAnon};
}

# How many descriptors a process has open.
sub open_files
{
	my ($pid) = @_;
	opendir(my $dir, "/proc/$pid/fd") or return;
	my $n = grep { /^\d+$/ } readdir($dir);
	closedir($dir);
	return $n;
}

# preloadable('name'): a library for LD_PRELOAD, made of test/lib/name.c; undef if
# that cannot be done here.
sub preloadable
{
	my ($name) = @_;
	my $library = PostgreSQL::Test::Utils::tempdir() . "/$name.so";
	my $source = dirname(__FILE__) . "/../lib/$name.c";

	return if $^O ne 'linux';
	return eval { IPC::Run::run([ 'cc', '-shared', '-fPIC', '-O', '-o', $library, $source, '-ldl' ], '>', "$library.log", '2>&1') } ? $library : undef;
}

# ---- SQS ----

my @running;

# start_sqs([queues => ['name,Attr=Value', ...], args => [...], port => N]):
# an SQS server, of the kind that is asked for by the environment.
sub start_sqs
{
	my (%o) = @_;
	my $self = bless {
		kind => $o{kind} || endpoint_kind(),
		http => HTTP::Tiny->new(timeout => 60, verify_SSL => 0, keep_alive => 0),
		scheme => $o{scheme} || 'http',
	}, __PACKAGE__;
	my @command;
	my $portfile;
	my $dir = PostgreSQL::Test::Utils::tempdir();

	if ($self->{kind} eq 'sqsd')
	{
		my $program = $ENV{SQSD} || abs_path(dirname(__FILE__)) . '/../sqsd/sqsd';
		$portfile = "$dir/port";
		@command = ($program, '--quiet', '--no-cooldown', '--port', $o{port} || 0,
			'--port-file', $portfile, @{ $o{args} || [] });
	}
	else
	{
		my $where = $ENV{FAUXQS_DIR} or die 'FAUXQS_DIR is not set';
		$self->{port} = $o{port} || PostgreSQL::Test::Cluster::get_free_port();
		$ENV{FAUXQS_PORT} = $self->{port};
		$ENV{FAUXQS_LOGGER} = 'false';
		@command = ('node', "$where/node_modules/.bin/fauxqs");
	}
	$self->{log} = "$dir/sqs.log";
	$self->{harness} =
	  IPC::Run::start(\@command, '<', \undef, '>', $self->{log}, '2>&1');
	push @running, $self;

	my $until = time() + 60;
	while (time() < $until)
	{
		if (defined $portfile && -s $portfile)
		{
			$self->{port} = slurp_file($portfile) + 0;
		}
		if ($self->{port})
		{
			my $path = $self->{kind} eq 'sqsd' ? '/_sqsd/health' : '/health';
			my $reply = $self->{http}->get($self->endpoint . $path);
			last if $reply->{success};
		}
		usleep(50_000);
	}
	die "SQS server did not start: " . slurp_file($self->{log}) if time() >= $until;

	foreach my $queue (@{ $o{queues} || [] })
	{
		my ($name, @attributes) = split /,/, $queue;
		$self->create_queue($name, map { split /=/, $_, 2 } @attributes);
	}
	return $self;
}

sub endpoint
{
	my ($self) = @_;
	return "$self->{scheme}://127.0.0.1:$self->{port}";
}

sub stop_sqs
{
	my ($self) = @_;
	my $harness = delete $self->{harness} or return;
	$harness->kill_kill(grace => 5);
	return;
}

END
{
	my $status = $?;
	$_->stop_sqs foreach @running;
	$? = $status;
}

# A call of the SQS protocol; dies if it fails.
sub call
{
	my ($self, $action, $in) = @_;
	my $reply = $self->{http}->request(
		'POST',
		$self->endpoint . '/',
		{
			headers => {
				'Content-Type' => 'application/x-amz-json-1.0',
				'X-Amz-Target' => "AmazonSQS.$action",
				'Authorization' =>
				  'AWS4-HMAC-SHA256 Credential=AKIDTEST/20200101/us-east-1/sqs/aws4_request, '
				  . 'SignedHeaders=host, Signature=' . ('0' x 64),
			},
			content => JSON::PP->new->utf8->canonical->encode($in)
		});
	die "$action: $reply->{status} $reply->{content}" unless $reply->{success};
	return $reply->{content} eq '' ? {} : JSON::PP->new->utf8->decode($reply->{content});
}

sub url
{
	my ($self, $queue) = @_;
	$self->{urls}{$queue} ||=
	  $self->call('GetQueueUrl', { QueueName => $queue })->{QueueUrl};
	return $self->{urls}{$queue};
}

# Attributes are SQS's own, but dlq => NAME:COUNT stands for a RedrivePolicy.
sub create_queue
{
	my ($self, $name, %attributes) = @_;

	$attributes{FifoQueue} = 'true' if $name =~ /\.fifo$/;
	if (my $dlq = delete $attributes{dlq})
	{
		my ($target, $count) = split /:/, $dlq;
		$attributes{RedrivePolicy} = JSON::PP->new->canonical->encode(
			{
				deadLetterTargetArn => "arn:aws:sqs:us-east-1:$account:$target",
				maxReceiveCount => $count
			});
	}
	return $self->call('CreateQueue', { QueueName => $name, Attributes => \%attributes });
}

# send_messages(queue, ...): each a body or a hash of a SendMessageBatch entry,
# both in Perl's characters.  Returns the message ids.
sub send_messages
{
	my ($self, $queue, @messages) = @_;
	my @ids;
	my $n = 0;

	while (@messages)
	{
		my @entries;
		my $bytes = 0;

		while (@messages && @entries < 10)
		{
			my $m = ref $messages[0] ? $messages[0] : { MessageBody => $messages[0] };
			my $size = length(Encode::encode_utf8($m->{MessageBody})) + 2048;
			last if @entries && $bytes + $size > 1_000_000;
			$bytes += $size;
			push @entries, { Id => "e" . $n++, %$m, MessageBody => "$m->{MessageBody}" };
			shift @messages;
		}
		my $reply = $self->call('SendMessageBatch',
			{ QueueUrl => $self->url($queue), Entries => \@entries });
		die 'not all messages were accepted: ' . encode_json($reply->{Failed})
		  if @{ $reply->{Failed} || [] };
		my %id = map { $_->{Id} => $_->{MessageId} } @{ $reply->{Successful} };
		push @ids, map { $id{ $_->{Id} } } @entries;
	}
	return @ids;
}

# How many messages the queue has: visible, in_flight, delayed.
sub counts
{
	my ($self, $queue) = @_;

	if ($self->{kind} eq 'sqsd')
	{
		my $s = $self->stats($queue);
		return { map { $_ => $s->{$_} } qw(visible in_flight delayed) };
	}
	my $a = $self->call('GetQueueAttributes',
		{ QueueUrl => $self->url($queue), AttributeNames => ['All'] })->{Attributes};
	return {
		visible => $a->{ApproximateNumberOfMessages},
		in_flight => $a->{ApproximateNumberOfMessagesNotVisible},
		delayed => $a->{ApproximateNumberOfMessagesDelayed}
	};
}

# Nothing left of the queue's messages, sooner or later.
sub is_empty
{
	my ($self, $queue, $name, $timeout) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll_until(
		sub {
			my $c = $self->counts($queue);
			return $c->{visible} + $c->{in_flight} + $c->{delayed} == 0;
		},
		$name || "SQS has no message left in $queue",
		$timeout) or diag(explain($self->counts($queue)));
	return;
}

# ---- what only sqsd has ----

sub admin
{
	my ($self, $method, $path, $in) = @_;
	my $reply = $self->{http}->request($method, $self->endpoint . "/_sqsd/$path",
		defined $in ? { content => JSON::PP->new->utf8->encode($in) } : {});
	die "$method $path: $reply->{status} $reply->{content}" unless $reply->{success};
	return $reply->{content} eq '' ? {} : JSON::PP->new->utf8->decode($reply->{content});
}

sub fill
{
	my ($self, $queue, $count, %o) = @_;
	return $self->admin('POST', 'fill',
		{ queue => $queue, count => $count, body => '{i}', %o });
}

sub stats
{
	my ($self, $queue) = @_;
	my $all = $self->admin('GET', 'stats');
	return defined $queue ? $all->{queues}{$queue} : $all;
}

# Number of calls of an action for a queue.
sub calls
{
	my ($self, $queue, $action) = @_;
	return $self->stats($queue)->{calls}{$action} || 0;
}

# call_times(queue, action [, after]): when the latest calls of an action came,
# those that a fault answered included, in milliseconds of sqsd's own clock.
# With "after", only later ones.
sub call_times
{
	my ($self, $queue, $action, $after) = @_;
	return grep { !defined $after || $_ > $after } @{ $self->admin('GET', "calls?queue=$queue&action=$action") };
}

sub messages
{
	my ($self, $queue, $state) = @_;
	my $reply = $self->admin('GET',
		"messages?queue=$queue" . (defined $state ? "&state=$state" : ''));
	return ref $reply eq 'HASH' ? $reply->{messages} : $reply;
}

# books_agree(queue, node, name [, query]): what SQS was told to delete has had
# its effect, the right one, and nothing has had it twice.  The query yields
# the id of the message and the MD5 of the body of each effect.  May be asked
# at any time: SQS's books are read first.
sub books_agree
{
	my ($self, $queue, $node, $name, $query) = @_;
	my (%effects, @lost, @twice, @deleted);
	my $books = $self->{http}->get($self->endpoint . "/_sqsd/messages?queue=$queue&state=deleted");
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	# not parsed as JSON, as there may be a hundred thousand of them; within
	# strings quotes have a backslash before them
	die "books of $queue: $books->{status} $books->{content}" unless $books->{success};
	push @deleted, "$1|$2" while $books->{content} =~ /\{"id":"([^"]+)","body_md5":"([0-9a-f]{32})"/g;
	my $records = () = $books->{content} =~ /"state":"deleted"/g;
	die "books of $queue: $records records, " . @deleted . ' read' if $records != @deleted;

	$query ||= "SELECT message_id, md5(body) FROM got WHERE queue = '$queue'";
	$effects{$_}++ foreach split /\n/, $node->safe_psql('postgres', $query);
	@lost = grep { !$effects{$_} } @deleted;
	@twice = grep { $effects{$_} > 1 } keys %effects;
	is(scalar(@lost), 0, "$name: no message is deleted that had no effect")
	  or diag("lost: @lost[0 .. ($#lost < 9 ? $#lost : 9)]");
	is(scalar(@twice), 0, "$name: no message had its effect twice")
	  or diag("twice: @twice[0 .. ($#twice < 9 ? $#twice : 9)]");
	return scalar(@deleted);
}

sub fault
{
	my ($self, %rule) = @_;
	return $self->admin('POST', 'fault', \%rule)->{id};
}

# All rules, with how often they matched and fired.
sub faults
{
	my ($self) = @_;
	my $reply = $self->admin('GET', 'fault');
	return ref $reply eq 'HASH' ? $reply->{faults} : $reply;
}

sub clear_faults
{
	my ($self, $id) = @_;
	return $self->admin('DELETE', 'fault' . (defined $id ? "?id=$id" : ''));
}

sub advance
{
	my ($self, $seconds) = @_;
	return $self->admin('POST', 'advance', { seconds => $seconds });
}

# SenderId of the messages to come: who SQS says has sent them.
sub set_sender
{
	my ($self, $id) = @_;
	return $self->admin('POST', 'sender', { id => $id });
}

1;
