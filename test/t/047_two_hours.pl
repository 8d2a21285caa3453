# Two hours of a server whose keys come from instance metadata and by assumed
# roles: they are renewed again and again under load, renewing them fails for a
# while, and instance metadata is out of order for an hour.  Nobody notices.
#
# The time of day is shifted for the server and for sqsd, so that it is later at
# once.  Leases are long enough for that.  Of keys, sqsd believes in their end by a
# clock of its own, which nothing shifts: as AWS accepts those of instance
# metadata when it could not renew them.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};
my $life = $long ? 70 : 16;    # seconds, of the keys in the second hour
my $rounds = $long ? 3 : 1;    # renewals before one that fails, and in the end
my @feeders = 1 .. ($long ? 8 : 3);

my $library = preloadable('shifted_clock') or plan skip_all => 'no way to shift the clock';
my $clock = PostgreSQL::Test::Utils::tempdir() . '/clock';
my $shift = 0;

# The time of day goes on by so many seconds.
sub later
{
	my ($seconds) = @_;
	$shift += $seconds;
	open(my $file, -e $clock ? '+<' : '>', $clock) or die "$clock: $!";
	syswrite($file, pack('q', $shift)) == 8 or die "$clock: $!";
	close($file);
	return;
}

later(0);
my %preload = (LD_PRELOAD => $library, SHIFTED_CLOCK => $clock);
my $sqs;
{
	local %ENV = (%ENV, %preload);
	# what was signed just before the time was shifted must be accepted, too
	$sqs = start_sqs(args => [ '--access-key', 'AKIDTEST000000000001', '--secret-key', 'secret', '--skew-limit', '7200',
		map { ('--queue', $_) } qw(machine role later late-machine late-later) ]);
}
my $endpoint = $sqs->endpoint;
my $role = 'arn:aws:iam::000000000000:role';
my $node = new_node('main', conf => <<EOC, env => {
max_worker_processes = 80
sqsbridge.max_workers = 64
sqsbridge.handler_idle_timeout = '1h'
max_connections = 60
EOC
	%preload,
	AWS_ACCESS_KEY_ID => 'AKIDTEST000000000001',
	AWS_SECRET_ACCESS_KEY => 'secret',
	AWS_ENDPOINT_URL => $endpoint,
	AWS_EC2_METADATA_SERVICE_ENDPOINT => $endpoint,
});

# Each of them is used with keys of its own.
my %options = (
	machine => "credentials 'instance_metadata'",
	role => "credentials 'environment', role_arn '$role/role'",
	later => "credentials 'environment', role_arn '$role/later'",
);
$node->safe_psql('postgres', <<'EOQ');
CREATE EXTENSION sqsbridge;
CREATE TABLE got (queue text, message_id text, body text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO got VALUES (m.queue, m.message_id, m.body);
  PERFORM pg_sleep(0.05);
END $$;
CREATE TABLE feeding (go boolean);
INSERT INTO feeding VALUES (true);
CREATE TABLE fed (body text);
-- sends, now and from the outbox, until it is told to stop
CREATE PROCEDURE feed(who text) LANGUAGE plpgsql AS $$
DECLARE
  n int := 0;
  q text;
BEGIN
  WHILE (SELECT go FROM feeding) LOOP
    n := n + 1;
    FOREACH q IN ARRAY ARRAY['machine', 'role'] LOOP
      INSERT INTO fed VALUES (format('%s %s %s sent', q, who, n)), (format('%s %s %s queued', q, who, n));
      PERFORM sqs_send(q, format('%s %s %s sent', q, who, n));
      PERFORM sqs_enqueue(q, format('%s %s %s queued', q, who, n));
    END LOOP;
    COMMIT;
    PERFORM pg_sleep(0.05);
  END LOOP;
END $$;
EOQ
$node->safe_psql('postgres', "CREATE SERVER $_ FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', $options{$_})") foreach sort keys %options;

# A queue worker is a process that renews keys in good time.
sub register
{
	my ($name, $server, $more) = @_;
	$node->safe_psql('postgres', "SELECT sqs_register_queue('$name', server => '$server', visibility_timeout => '12 h'" . ($more ? ", $more" : '') . ')');
	return;
}

$sqs->admin('POST', 'identity', { life => 3600 });
my $handled = q{handler => 'handle', wait_time => '1 s', concurrency => };
register('later', 'later');
register($_, $_, $handled . 15) foreach qw(machine role);

sub shown
{
	my ($server, $what) = @_;
	return $node->safe_psql('postgres', "SELECT $what FROM sqs_stats_credentials WHERE server = '$server'");
}

sub shows
{
	my ($server, $what, $name, $timeout) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return query_is($node, "SELECT $what FROM sqs_stats_credentials WHERE server = '$server'", 't', "$server: $name", timeout => $timeout || 180);
}

# How often keys were given to each.
sub granted
{
	my %granted = (machine => 0, role => 0, later => 0);
	foreach my $g (@{ $sqs->admin('GET', 'identity')->{granted} })
	{
		$granted{machine} = $g->{calls} if $g->{action} eq 'MetadataKeys';
		$granted{$1} = $g->{calls} if $g->{action} eq 'AssumeRole' && $g->{identity} =~ m{role/(role|later)$};
	}
	return \%granted;
}

# Messages of each kind that are sent from now on arrive.
sub goes_on
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $sent = $node->safe_psql('postgres', 'SELECT count(*) FROM fed');
	query_true($node, "(SELECT count(*) FROM got) > $sent", "$name: messages sent since then are handled", timeout => 180);
	return;
}

# ---- the first hour: keys that live for an hour, and a load

is($node->safe_psql('postgres', "SELECT sqs_send('later', 'first') <> ''"), 't', 'a session that sends once');
my @sessions;
foreach my $n (@feeders)
{
	my %s = (out => '', err => '');
	$s{psql} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', "CALL feed('$n')" ],
		'<', \undef, '>', \$s{out}, '2>', \$s{err});
	push @sessions, \%s;
}
$sqs->fill($_, 1000, body => "$_ {i} filled") foreach qw(machine role);
$node->safe_psql('postgres', "INSERT INTO fed SELECT format('%s %s filled', q, i) FROM unnest(ARRAY['machine', 'role']) q, generate_series(1, 1000) i");
goes_on('in the beginning');
query_is($node, "SELECT count(*) FROM sqs_stats_workers WHERE kind = 'handler worker'", '30', 'by 30 handlers');
is_deeply(granted(), { machine => 1, role => 1, later => 1 }, 'each identity is asked for once');

# at its end: both are to be renewed, and neither can
my $outage = $sqs->fault(kind => 'blackhole', action => 'MetadataToken');
$sqs->fault(kind => 'error', status => 500, body => '', action => 'AssumeRole', queue => "$role/later", count => 2);
$sqs->admin('POST', 'identity', { life => $life });
later(3600 - 290);
register('late-machine', 'machine', $handled . 1);
register('late-later', 'later', $handled . 1);
shows('machine', 'stale_since IS NOT NULL', 'cannot be renewed any more');
shows('later', 'stale_since IS NOT NULL', 'cannot be renewed for a moment');
shows('role', 'fetches = 2', 'is renewed in good time') if $long;
goes_on('an outage begins');

# ---- an hour of it

later(3600);
is($node->safe_psql('postgres', "SELECT sqs_send('later', 'second') <> ''"), 't', 'keys that could not be renewed, and have ended now, are renewed at once');
shows('machine', "expires_at < now() - '54 min'::interval AND state = 'ready' AND stale_since IS NOT NULL", 'keys that ended long ago are used on');
shows('role', "expires_at BETWEEN now() AND now() + '${\ ($life + 1)} s'", "has keys that live for $life s");
goes_on('an hour later');

# ---- meanwhile, others are renewed all the time, but for once

sub renewed
{
	my ($times, $name) = @_;
	my $n = shown('role', 'fetches') + $times;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return shows('role', "fetches >= $n", $name, 60 + $life * $times);
}

renewed($rounds, 'is renewed');
$sqs->fault(kind => 'error', status => 500, body => '', action => 'AssumeRole', queue => "$role/role", count => $long ? 4 : 2);
shows('role', 'stale_since IS NOT NULL', 'cannot be renewed for a while', 60 + $life);
shows('role', 'stale_since IS NULL', 'is renewed again', 60 + $life);
renewed($rounds, 'is renewed on') if $long;
goes_on('all the time');
is($sqs->stats->{auth_failures}, 0, 'nobody has used keys that SQS does not accept any more');

# ---- the outage is over

$sqs->clear_faults($outage);
shows('machine', 'stale_since IS NULL', 'is renewed by itself', 900) if $long;

# SQS would say so
my $before = granted();
$sqs->admin('POST', 'identity', { revoke => JSON::PP::true });
shows('machine', "stale_since IS NULL AND expires_at BETWEEN now() AND now() + '${\ ($life + 1)} s'", 'has new keys when the old ones are refused');
goes_on('the outage is over');
cmp_ok($sqs->stats->{auth_failures}, '>', 0, 'sqsd refuses keys that have ended');
cmp_ok(granted()->{machine}, '>', $before->{machine}, 'there were others for them');
if ($long)
{
	my $n = shown('machine', 'fetches') + $rounds;
	shows('machine', "fetches >= $n", 'is renewed again and again', 60 + 4 * $life);
}

# ---- the books

$node->safe_psql('postgres', 'UPDATE feeding SET go = false');
foreach my $s (@sessions)
{
	eval { $s->{psql}->finish };
	is($s->{out} . $s->{err}, '', 'a session that has sent all the time met no error');
}
query_is($node, 'SELECT sum(waiting), sum(failed) FROM sqs_stats_outbox', '0|0', 'all of the outbox is sent');
$sqs->is_empty($_, "$_: everything is handled", 300) foreach qw(machine role);
$sqs->books_agree($_, $node, $_) foreach qw(machine role);
is($node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT body FROM fed EXCEPT ALL SELECT body FROM got) x}), '0', 'every message was handled');
is($node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT body FROM got EXCEPT ALL SELECT body FROM fed)x}), '0', 'none was handled twice');
note($node->safe_psql('postgres', 'SELECT count(*) FROM fed') . ' messages');
is($node->safe_psql('postgres', 'SELECT sum(failed), sum(lost), sum(poll_failures), sum(delete_failures), sum(send_failures), sum(released), count(error_since) FROM sqs_stats'), '0|0|0|0|0|0|0',
	'nothing has failed');
my %fetches = map { $_ => shown($_, 'fetches') } keys %options;
is_deeply(granted(), \%fetches, 'one call each time, whoever needed the keys');
note(explain(\%fetches));

$node->stop;
my $log = log_text($node);
unlike($log, qr/sqsbridge queue "[^"]*": (?!is polling)|The queue's state is|cannot send from the outbox/, 'no queue has been in trouble');
check_log($node);
done_testing();
