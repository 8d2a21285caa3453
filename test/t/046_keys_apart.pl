# Keys that processes share, and what they do not share: the trouble of a single
# process, a server's old endpoint, and keys for which there is no room.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my @sqs_args = ('--access-key', 'AKIDTEST000000000001', '--secret-key', 'secret', '--queue', 'q');
my $sqs = start_sqs(args => \@sqs_args);
my $elsewhere = start_sqs(args => \@sqs_args);
my $endpoint = $sqs->endpoint;
my $role = 'arn:aws:iam::000000000000:role';
my $library = preloadable('cancel_at');
my $cancel_at = PostgreSQL::Test::Utils::tempdir() . '/cancel_at';
my %env = (
	AWS_ACCESS_KEY_ID => 'AKIDTEST000000000001',
	AWS_SECRET_ACCESS_KEY => 'secret',
	AWS_ENDPOINT_URL => $endpoint,
	AWS_EC2_METADATA_SERVICE_ENDPOINT => $endpoint,
	AWS_CONTAINER_CREDENTIALS_FULL_URI => "$endpoint/v1/credentials",
	defined $library ? (LD_PRELOAD => $library, CANCEL_AT => $cancel_at) : (),
);
my $node = new_node('main', env => \%env, conf => "sqsbridge.max_credentials = 8\n");
$node->safe_psql('postgres', <<'EOQ');
CREATE EXTENSION sqsbridge;
CREATE TABLE got (body text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS 'INSERT INTO got VALUES (m.body)';
EOQ

sub shown
{
	my ($server, $what) = @_;
	return $node->safe_psql('postgres', "SELECT $what FROM sqs_stats_credentials WHERE server = '$server'");
}

# A server with an identity of its own, and a queue of the same name.
sub fresh
{
	my ($name, $options, $more) = @_;
	$options ||= "credentials 'environment', role_arn '$role/$name'";
	$node->safe_psql('postgres', <<EOQ);
CREATE SERVER $name FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', $options);
SELECT sqs_register_queue('$name', server => '$name', queue_name => 'q'@{[ $more ? ", $more" : '' ]});
EOQ
	return;
}

# Goes on with a session until it has done this.  Returns what it says.
sub ask
{
	my ($session, $sql) = @_;
	@$session{qw(out err)} = ('', '');
	$session->{in} .= "$sql\n\\echo done\n";
	IPC::Run::pump($session->{harness}) until $session->{out} =~ s/^done\n\z//m;
	return $session->{out};
}

# What a statement says that fails.
sub error_of
{
	my ($sql) = @_;
	my (undef, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	return $err;
}

# ---- the endpoint and the keys are those of one version of the server

# A session has read the old one when it stops at the body of its message, which
# is in another table.
$node->safe_psql('postgres', <<EOQ);
CREATE SERVER moved FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '@{[ $elsewhere->endpoint ]}');
SELECT sqs_register_queue('moved', server => 'moved', queue_name => 'q');
CREATE TABLE bodies (body text);
ALTER TABLE bodies ALTER body SET STORAGE EXTERNAL;
INSERT INTO bodies SELECT repeat('x', 10000);
EOQ
my $toast = $node->safe_psql('postgres', q{SELECT i.indexrelid::regclass FROM pg_class c JOIN pg_index i ON i.indrelid = c.reltoastrelid WHERE c.oid = 'bodies'::regclass});
my $holder = open_session($node, "BEGIN; REINDEX INDEX $toast;", 'an index is locked');
my %sender = (out => '', err => '');
$sender{psql} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "SELECT sqs_send('moved', body) <> '' FROM bodies" ],
	'<', \undef, '>', \$sender{out}, '2>', \$sender{err});
query_is($node, q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT sqs_send(%' AND wait_event_type = 'Lock'}, '1', 'a session that sends has to wait');
$node->safe_psql('postgres', "ALTER SERVER moved OPTIONS (SET endpoint '$endpoint', ADD credentials 'environment')");
close_session($holder);
$sender{psql}->finish;
is($sender{out} . $sender{err}, "t\n", 'it sends with the keys that the server has by now');
is($sqs->stats('q')->{sent}, 1, 'to where it is by now');
is_deeply($elsewhere->stats->{calls}, {}, 'and nothing to where it was before');

# ---- what a single process lacks is not a failure for others

SKIP:
{
	skip 'no prlimit', 6 if system('prlimit --version >/dev/null 2>&1') != 0;
	my $there = $elsewhere->endpoint;
	fresh('poor', "credentials 'environment', role_arn '$role/poor', endpoint '$there', sts_endpoint '$there'");

	# it has all that it needs, but a connection
	$elsewhere->fault(kind => 'blackhole', action => 'AssumeRole');
	my $poor = open_session($node, '\set ON_ERROR_STOP 0', 'a session');
	my $pid = ask($poor, "SELECT pg_backend_pid(); SET statement_timeout = '1s'; SELECT sqs_send('poor', 'x'); RESET statement_timeout;") + 0;
	like($poor->{err}, qr/canceling statement due to statement timeout/, 'that has fetched no keys yet');
	$elsewhere->clear_faults;
	is(system("prlimit --pid $pid --nofile=8:"), 0, 'and can open no file any more');
	ask($poor, "SELECT sqs_send('poor', 'x');");
	like($poor->{err}, qr/ERROR: .*(?:Too many open files|[Dd]escriptors|out of memory|NoResources)/, 'cannot do it');
	is(shown('poor', 'state, last_error'), 'not used|', 'others know nothing of that');
	is($node->safe_psql('postgres', "SELECT sqs_send('poor', 'y') <> ''"), 't', 'and fetch them');
	close_session($poor, '');
}

# ---- keys for which there is no room, and an interrupt just then

fresh("full$_") foreach 1 .. 9;

# As many identities as there is room for.  The log tells of the next one, once.
sub fill_up
{
	local %ENV = (%ENV, %env);
	$node->restart;
	return $node->safe_psql('postgres', join '', map { "SELECT sqs_send('full$_', 'x') <> '';" } 1 .. 8);
}

# A session is canceled when it has the right to fetch keys, and has not begun.
# If it kept that, it would have to wait for itself for ten seconds.  True if it
# does not; a busy machine may need more than one try.
sub is_interrupted
{
	fill_up();
	append_to_file($cancel_at, 'has no room for more temporary keys');
	my $session = open_session($node, '\set ON_ERROR_STOP 0', 'a session for which there is no room');
	ask($session, "SELECT sqs_send('full9', 'x');");
	like($session->{err}, qr/ERROR:  canceling statement due to user request/, 'is canceled');
	my $out = ask($session, "SET statement_timeout = '9s'; SELECT sqs_send('full9', 'x') <> '';");
	close_session($session, '');
	return $out eq "t\n";
}

SKIP:
{
	skip 'no way to interrupt a process when it writes to the log', 1 if !defined $library;
	my $tries = 0;
	my $fetches = 0;
	$fetches = is_interrupted() while !$fetches && $tries++ < 3;
	ok($fetches, 'its next statement fetches them');
}

is(fill_up(), join("\n", ('t') x 8), 'as many as there is room for');
is($node->safe_psql('postgres', "SELECT sqs_send('full9', 'x') <> ''"), 't', 'another session fetches its own');
is($node->safe_psql('postgres', q{SELECT DISTINCT state FROM sqs_stats_credentials WHERE server IN ('full1', 'full8')}), 'ready', 'the view shows those that are shared');
is(shown('full9', 'state, key_id, fetches, last_error'), 'not shared|||', 'and that there is no room for others');

# ---- errors name the call that failed

{
	local %ENV = (%ENV, %env);
	$node->restart;
}
$sqs->admin('POST', 'identity', { roles => [ { arn => "$role/nobody" } ] });
fresh('denied', undef, q{handler => 'handle', wait_time => '1 s'});
my $denied = qr{AssumeRole of $role/denied at $endpoint: User: \S+ is not authorized};
like(error_of("SELECT sqs_send('denied', 'x')"), qr{ERROR:  28000: could not send to queue "denied": $denied.*\nDETAIL:  Getting keys: AccessDenied\. The message has not been sent\.},
	'a session: it was not SQS');
query_true($node, "(SELECT last_error ~ '^getting keys: AccessDenied: AssumeRole of $role/denied at ' FROM sqs_stats WHERE queue = 'denied')", 'a queue worker');
$node->safe_psql('postgres', "SELECT sqs_enqueue('denied', 'from the outbox')");
query_true($node, "(SELECT last_error ~ '^getting keys: AccessDenied: AssumeRole of $role/denied at ' FROM sqs_stats_outbox WHERE queue = 'denied')", 'the relay');
$sqs->admin('POST', 'identity', { roles => undef, container_token => 'another' });
fresh('container', "credentials 'container'");
like(error_of("SELECT sqs_send('container', 'x')"), qr{ERROR:  28000: .*container credentials at $endpoint.*\nDETAIL:  Getting keys: }, 'the container');
$sqs->fault(kind => 'error', status => 403, body => '', action => 'MetadataToken');
fresh('machine', "credentials 'instance_metadata'");
like(error_of("SELECT sqs_send('machine', 'x')"), qr{ERROR:  .*instance metadata at $endpoint.*\nDETAIL:  Getting keys: }, 'instance metadata');
$sqs->clear_faults;

$node->stop;
check_log($node, qr/046_keys_apart\.pl (?:ERROR|WARNING):  /);
done_testing();
