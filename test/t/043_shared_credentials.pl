# Keys that processes share: one fetch for all, whatever happens to whoever
# fetches, and nothing fails while they are renewed.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;
use Time::HiRes qw(usleep);

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};
my $queues = $long ? 50 : 8;
my $sessions = $long ? 100 : 12;
my $life = $long ? 70 : 20;
my $sqs = start_sqs(args => [ '--access-key', 'AKIDTEST000000000001', '--secret-key', 'secret', map { ('--queue', "q$_") } 1 .. $queues ]);
my $endpoint = $sqs->endpoint;
my $role = 'arn:aws:iam::000000000000:role';
my %env = (
	AWS_ACCESS_KEY_ID => 'AKIDTEST000000000001',
	AWS_SECRET_ACCESS_KEY => 'secret',
	AWS_ENDPOINT_URL => $endpoint,
	AWS_EC2_METADATA_SERVICE_ENDPOINT => $endpoint,
);
my $node = new_node('main', env => \%env, conf => <<EOC);
max_worker_processes = 200
sqsbridge.max_workers = 160
max_connections = 150
sqsbridge.max_credentials = 16
restart_after_crash = on
EOC
$node->safe_psql('postgres', <<EOQ);
CREATE EXTENSION sqsbridge;
CREATE TABLE got (queue text, message_id text, body text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS 'INSERT INTO got VALUES (m.queue, m.message_id, m.body)';
CREATE SERVER aws FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', credentials 'environment', role_arn '$role/app');
EOQ

sub calls
{
	my ($action) = @_;
	return $sqs->admin('GET', 'identity')->{calls}{$action} || 0;
}

# of the one identity that is used
sub shown
{
	my ($what, $server) = @_;
	return $node->safe_psql('postgres', "SELECT $what FROM sqs_stats_credentials WHERE server = '" . ($server || 'aws') . "'");
}

sub fresh_server
{
	my ($name, $options) = @_;
	$node->safe_psql('postgres', <<EOQ);
CREATE SERVER $name FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', credentials 'environment', role_arn '$role/$name');
SELECT sqs_register_queue('$name', server => '$name', queue_name => 'q1');
EOQ
	return;
}

# A session that goes on in the background; returns what it printed.
sub start_session
{
	my ($sql) = @_;
	my %s = (in => "$sql\n\\q\n", out => '', err => '');
	$s{psql} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres') ],
		'<', \$s{in}, '>', \$s{out}, '2>', \$s{err}, IPC::Run::timeout(180));
	return \%s;
}

sub finish_session
{
	my ($s) = @_;
	eval { $s->{psql}->finish };
	return $s->{out} . $s->{err};
}

# ---- everybody at once, and nobody has keys

$node->safe_psql('postgres', join "\n",
	map { "SELECT sqs_register_queue('q$_', server => 'aws', handler => 'handle', wait_time => '1 s');" } 1 .. $queues);
my @all = map { start_session("SELECT sqs_send('q1', 'first $_') <> ''") } 1 .. $sessions;
is(join('', map { finish_session($_) } @all), "t\n" x $sessions, 'all sessions send');
query_is($node, "SELECT count(*) FROM got WHERE body LIKE 'first %'", $sessions, 'and all messages arrive');
query_is($node, "SELECT count(*) FROM sqs_stats WHERE state = 'polling'", $queues, 'all queues are well');
is(calls('AssumeRole'), 1, 'one call for all of them');
is(shown('fetches, state'), '1|ready', 'the view has it, too');

# ---- a role that has many identities of its own does not keep others from sharing theirs

$node->safe_psql('postgres', <<EOQ);
CREATE ROLE greedy LOGIN;
CREATE SERVER greedy FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '$endpoint', sts_endpoint '$endpoint');
GRANT USAGE ON FOREIGN SERVER greedy TO greedy;
CREATE USER MAPPING FOR greedy SERVER greedy OPTIONS (access_key_id 'AKIDTEST000000000001', secret_access_key 'secret',
	role_arn '$role/greedy', role_session_name 's0');
CREATE USER MAPPING FOR PUBLIC SERVER greedy OPTIONS (access_key_id 'AKIDTEST000000000001', secret_access_key 'secret',
	role_arn '$role/public');
EOQ
my (undef, $out, $err) = $node->psql('postgres', join("\n", map { "ALTER USER MAPPING FOR greedy SERVER greedy OPTIONS (SET role_session_name 's$_'); SELECT arn FROM sqs_whoami('greedy');" } 1 .. 20),
	extra_params => [ '-U', 'greedy' ]);
like($out, qr{/s1\n.*/s20$}s, 'a role with many identities');
fresh_server('modest');
is($node->safe_psql('postgres', "SELECT sqs_send('modest', 'x') <> ''"), 't', 'another');
is(shown('state, fetches', 'modest'), 'ready|1', 'has room');

# ---- refreshes under load

my $before = calls('AssumeRole');
my $others = $before - shown('fetches');
$sqs->admin('POST', 'identity', { life => $life, revoke => JSON::PP::true });
my $rounds = 0;
my $messages = $long ? 20 : 50;
do
{
	$rounds++;
	foreach my $q (1 .. $queues)
	{
		$sqs->fill("q$q", $messages, body => "r$rounds-{i}");
	}
	my @some = map { start_session("SELECT sqs_send('q$_', 'round $rounds') <> ''; SELECT sqs_enqueue('q$_', 'outbox $rounds') IS NOT NULL") } 1 .. 4;
	is(join('', map { finish_session($_) } @some), "t\nt\n" x 4, "round $rounds: sessions send");
	usleep($long ? 3_000_000 : 1_000_000);
} while (calls('AssumeRole') < $before + 4 && $rounds < 200);
cmp_ok(calls('AssumeRole'), '>=', $before + 4, 'keys were renewed again and again');
$sqs->admin('POST', 'identity', { life => 0 });
$sqs->is_empty("q$_", "q$_: everything was handled", 180) foreach 1 .. $queues;
foreach my $q (1 .. $queues)
{
	$sqs->books_agree("q$q", $node, "q$q");
}
query_is($node, 'SELECT sum(failed), sum(lost), sum(poll_failures), sum(delete_failures), sum(send_failures), sum(released) FROM sqs_stats', '0|0|0|0|0|0',
	'no failure, no lost lease, nothing released');
is(shown('fetches'), calls('AssumeRole') - $others, 'as many calls as refreshes');
is(shown('stale_since IS NULL'), 't', 'none has failed');

# ---- who fetches is stopped: the others wait for ten seconds at most

sub fetcher_of
{
	my ($name) = @_;
	my $session = start_session("SELECT pg_backend_pid(); SELECT sqs_send('$name', 'by the fetcher') <> ''");
	poll_until(sub { $session->{psql}->pump_nb; $session->{out} =~ /^\d+\n/ }, "$name: a session");
	poll_until(sub { $session->{psql}->pump_nb; shown('state', $name) eq 'fetching' }, "$name: fetches keys")
	  or BAIL_OUT('it does not');
	return ($session, $session->{out} =~ /^(\d+)\n/);
}

fresh_server('stopped');
my $rule = $sqs->fault(kind => 'latency', ms => 2000, action => 'AssumeRole');
my ($session, $pid) = fetcher_of('stopped');
kill 'STOP', $pid or die;
$sqs->clear_faults;
is($node->safe_psql('postgres', "SELECT sqs_send('stopped', 'by another') <> ''"), 't', 'another session fetches instead of one that is stopped');
is(shown('fetches', 'stopped'), '1', 'and its keys are there');
kill 'CONT', $pid or die;
like(finish_session($session), qr/^\d+\nt\n$/, 'the first goes on, and uses them');
is(shown('fetches', 'stopped'), '1', 'what it has fetched itself came too late');

# ---- it is canceled: the next one need not wait at all

fresh_server('canceled');
$sqs->fault(kind => 'blackhole', action => 'AssumeRole');
($session, $pid) = fetcher_of('canceled');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
like(finish_session($session), qr/ERROR:  57014/, 'a session that fetches can be canceled');
isnt(shown('state', 'canceled'), 'fetching', 'nobody fetches now');
$sqs->clear_faults;
is($node->safe_psql('postgres', "SELECT sqs_send('canceled', 'x') <> ''"), 't', 'the next one does');

# also by an exception that a function catches
fresh_server('caught');
$sqs->fault(kind => 'blackhole', action => 'AssumeRole');
$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION try(queue text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM sqs_send(queue, 'x');
	RETURN 'sent';
EXCEPTION WHEN query_canceled THEN
	RETURN (SELECT state FROM sqs_stats_credentials WHERE server = queue);
END $$
EOQ
is($node->safe_psql('postgres', "SET statement_timeout = '3s'; SELECT try('caught')"), 'not used', 'a subtransaction that is rolled back ends the fetch');
$sqs->clear_faults;

# ---- sessions that begin to fetch again and again, and are interrupted, keep nobody from fetching

my $held;
foreach my $try (1 .. 3)
{
	fresh_server("held$try");
	$sqs->fault(kind => 'blackhole', action => 'AssumeRole');
	foreach (1 .. 3)
	{
		($session, $pid) = fetcher_of("held$try");
		$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
		finish_session($session);
	}
	($session, $pid) = fetcher_of("held$try");
	$sqs->clear_faults;
	is($node->safe_psql('postgres', "SELECT sqs_send('held$try', 'x') <> ''"), 't', 'another session has got keys');
	# unless the machine is so slow that ten seconds are over
	$held = $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND state = 'active'");
	like(finish_session($session), qr/^\d+\nt\n$/, 'so has the one that was fetching, in the end');
	last if $held;
}
is($held, 1, 'it need not wait for the one that is fetching');

# ---- failures are shared, too

fresh_server('denied');
$sqs->admin('POST', 'identity', { roles => [ { arn => "$role/app" } ] });
# those of the others are renewed meanwhile, perhaps
my $denied = $sqs->fault(kind => 'latency', ms => 0, action => 'AssumeRole', queue => "$role/denied");
@all = map { start_session("SELECT sqs_send('denied', 'x')") } 1 .. $sessions;
my @errors = map { finish_session($_) } @all;
is(scalar(grep { /ERROR:  28000: .*role\/denied/ } @errors), $sessions, 'a role that may not be assumed: all sessions say so');
is((grep { $_->{id} == $denied } @{ $sqs->faults })[0]{matched}, 1, 'after one call');
$sqs->clear_faults($denied);
$sqs->admin('POST', 'identity', { roles => undef });

# ---- a source out of order: the keys that are there are used on

my $fetches = shown('fetches');
$sqs->admin('POST', 'identity', { life => 60, revoke => JSON::PP::true });
query_is($node, "SELECT fetches > $fetches AND expires_at < now() + '61 s' FROM sqs_stats_credentials WHERE server = 'aws'", 't', 'keys that live for a minute');
$sqs->fault(kind => 'error', status => 500, body => '', action => 'AssumeRole');
query_is($node, q{SELECT stale_since IS NOT NULL, state, last_error ~ 'role/app' FROM sqs_stats_credentials WHERE server = 'aws'}, 't|ready|t',
	'at half of that renewing them fails', timeout => 90);
is($node->safe_psql('postgres', "SELECT sqs_send('q1', 'with old keys') <> ''"), 't', 'they are used on');
$sqs->clear_faults;
query_is($node, q{SELECT stale_since IS NULL AND last_error IS NULL AND expires_at > now() + '30 s' FROM sqs_stats_credentials WHERE server = 'aws'}, 't',
	'until they can be renewed', timeout => 90);
query_is($node, "SELECT count(*) FROM got WHERE body = 'with old keys'", '1', 'nothing is lost');
query_is($node, 'SELECT sum(failed), sum(poll_failures), sum(delete_failures) FROM sqs_stats', '0|0|0', 'and nothing has failed');
my @renewed = slurp_file($node->logfile) =~ /LOG:  (sqsbridge could not renew the keys from the environment|sqsbridge has got keys from the environment again)/g;
is(scalar(@renewed), 2, 'the log has one line when it begins, and one when it ends') or diag("@renewed");
$sqs->admin('POST', 'identity', { life => 0 });

# instance metadata that cannot renew: its keys are used although they have expired
$sqs->admin('POST', 'identity', { metadata_age => 3600 });
$node->safe_psql('postgres', <<EOQ);
CREATE SERVER machine FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', credentials 'instance_metadata');
SELECT sqs_register_queue('machine', server => 'machine', queue_name => 'q1');
EOQ
is($node->safe_psql('postgres', "SELECT sqs_send('machine', 'x') <> ''"), 't', 'an outage of instance metadata: keys that have expired are used');
is(shown('expires_at < now(), refresh_at > now() + \'4 min\'::interval, stale_since IS NOT NULL', 'machine'), 't|t|t', 'and are to be renewed later');
$sqs->fault(kind => 'blackhole', action => 'MetadataToken');
is($node->safe_psql('postgres', "SELECT sqs_send('machine', 'x') <> ''"), 't', 'also when it does not answer at all');
$sqs->clear_faults;
$sqs->admin('POST', 'identity', { metadata_age => 0 });

# ---- nothing of what is dropped stays

query_true($node, '(SELECT count(*) FROM sqs_stats_credentials) >= 6', 'several servers have keys');
$node->safe_psql('postgres', q{SELECT sqs_unregister_queue(name) FROM sqs_queues WHERE name IN ('stopped', 'canceled'); DROP SERVER stopped; DROP SERVER canceled});
$node->safe_psql('postgres', "CREATE SERVER stopped FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', credentials 'environment', role_arn '$role/stopped')");
query_is($node, q{SELECT state, fetches FROM sqs_stats_credentials WHERE server = 'stopped'}, 'not used|', 'keys of a server that was dropped are wiped', timeout => 120);
is(shown('state'), 'ready', 'those of others are not');

# ---- more identities than there is room for

$node->safe_psql('postgres', join "\n", map { "CREATE SERVER s$_ FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', credentials 'environment', role_arn '$role/s$_');
	SELECT sqs_register_queue('s$_', server => 's$_', queue_name => 'q1');" } 1 .. 16);
is($node->safe_psql('postgres', join "\n", map { "SELECT sqs_send('s$_', 'x') <> '';" } 1 .. 16), join("\n", ('t') x 16), 'all of them can be used');
like(slurp_file($node->logfile), qr/WARNING:  sqsbridge has no room for more temporary keys/, 'the log says that there are more than can be shared');

# ---- who fetches is killed: PostgreSQL restarts, which costs one fetch

{
	local %ENV = (%ENV, %env);
	$node->restart;
}

# before that: a mapping that changes has the keys of idle mappings wiped, and no others
is($node->safe_psql('postgres', "SELECT sqs_send('modest', 'x') <> ''; SELECT arn ~ 'role/public/' FROM sqs_whoami('greedy')"), "t\nt", 'keys of a server and of a mapping');
$node->safe_psql('postgres', "ALTER USER MAPPING FOR greedy SERVER greedy OPTIONS (SET role_session_name 's0')");
query_is($node, "SELECT state FROM sqs_stats_credentials WHERE server = 'greedy' AND role IS NULL", 'not used', 'those of the mapping are wiped', timeout => 120);
is(shown('state, fetches', 'modest'), 'ready|1', 'those of the server are not');

fresh_server('killed');
$sqs->fault(kind => 'blackhole', action => 'AssumeRole');
($session, $pid) = fetcher_of('killed');
kill 'KILL', $pid or die;
finish_session($session);
$sqs->clear_faults;
query_is($node, "SELECT count(*) FROM sqs_stats WHERE state = 'polling'", $queues, 'after a kill all queues run again');
query_is($node, 'SELECT fetches FROM sqs_stats_credentials WHERE server = \'aws\'', '1', 'with keys that were fetched once');

$node->stop;
unlike(slurp_file($node->logfile), qr{[A-Za-z0-9/+]{200}}, 'no session token is in the log');
check_log($node, qr/WARNING:  sqsbridge has no room for more temporary keys/,
	qr/043_shared_credentials\.pl (?:ERROR|FATAL|WARNING):  /, qr/was terminated by signal 9/, qr/exited with exit code [12]$/,
	qr/(?:WARNING|FATAL):  (?:terminating connection|the database system)/);
done_testing();
