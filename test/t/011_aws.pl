# Keys, clocks, TLS and an SQS that is unwell.
use strict;
use warnings;

use Cwd qw(abs_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my @keys = ('--access-key', 'AKIDGOOD', '--secret-key', 'good/secret+key', '--access-key', 'AKIDENV', '--secret-key', 'environment');
my $sqs = start_sqs(args => [ @keys, '--queue', 'q', '--queue', 'codes' ]);
my $node = new_node('main');
my $handler = q{CREATE TABLE got (body text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS 'INSERT INTO got VALUES (m.body)'};

# fill() needs no signature, sending does
sub arrives
{
	my ($n, $queue, $name, $timeout) = @_;
	my $i = ++$main::serial;
	$sqs->fill($queue, 1, body => "m$i");
	query_is($n, "SELECT count(*) FROM got WHERE body = 'm$i'", '1', $name, timeout => $timeout || 60);
	return;
}

# How often a fault has happened, polls that wait included.
sub fired
{
	my ($id) = @_;
	my ($rule) = grep { $_->{id} == $id } @{ $sqs->faults };
	return $rule->{fired};
}

sub last_error_like
{
	my ($n, $pattern, $name) = @_;
	poll_until(
		sub { $n->safe_psql('postgres', 'SELECT last_error FROM sqs_stats WHERE error_since IS NOT NULL') =~ $pattern },
		$name)
	  or diag($n->safe_psql('postgres', 'SELECT state, last_error FROM sqs_stats'));
	return;
}

sub last_outbox_error_like
{
	my ($n, $pattern, $name) = @_;
	poll_until(
		sub { $n->safe_psql('postgres', q{SELECT last_error FROM sqs_stats_outbox WHERE queue = 'q'}) =~ $pattern }, $name);
	return;
}

# ---- a wrong key

setup_database($node, $sqs, user_mapping => 0);
$node->safe_psql('postgres', <<EOQ);
$handler;
CREATE USER MAPPING FOR CURRENT_USER SERVER aws OPTIONS (access_key_id 'AKIDGOOD', secret_access_key 'wrong-secret');
SELECT sqs_register_queue('q', server => 'aws', handler => 'handle', wait_time => '1 s');
EOQ
last_error_like($node, qr/InvalidSignature|SignatureDoesNotMatch/, 'a wrong secret: last_error has the code');
query_is($node, 'SELECT state FROM sqs_stats', 'backing off', 'state: backing off');
query_true($node, q{(SELECT error_since IS NOT NULL AND consecutive_errors > 0 AND next_poll_at > now()
	AND last_error !~ 'wrong-secret' FROM sqs_stats)}, 'the view tells since when and until when');
query_true($node, '(SELECT consecutive_errors FROM sqs_stats) >= 4', 'it is tried again');
backs_off($node, 'q', 'with growing delays');
my $refused = $sqs->stats->{auth_failures};
my $errors = $node->safe_psql('postgres', 'SELECT consecutive_errors FROM sqs_stats');
cmp_ok($refused, '<=', $errors + 1, 'by one call each, of which one may be under way');
$node->safe_psql('postgres', q{ALTER USER MAPPING FOR CURRENT_USER SERVER aws OPTIONS (SET secret_access_key 'good/secret+key')});
arrives($node, 'q', 'with the right secret it works soon');
query_is($node, 'SELECT state, error_since, consecutive_errors FROM sqs_stats', 'polling||0', 'and the queue is well');

$node->safe_psql('postgres', q{ALTER USER MAPPING FOR CURRENT_USER SERVER aws OPTIONS (SET access_key_id 'AKIDNOBODY')});
last_error_like($node, qr/InvalidClientTokenId|UnrecognizedClient/, 'an unknown key id');
$node->safe_psql('postgres', q{ALTER USER MAPPING FOR CURRENT_USER SERVER aws OPTIONS (SET access_key_id 'AKIDGOOD')});
arrives($node, 'q', 'and back');

# ---- no such queue at AWS, then it is created

$node->safe_psql('postgres', q{SELECT sqs_register_queue('later', server => 'aws')});
$node->safe_psql('postgres', q{SELECT sqs_unregister_queue('later')});

# ---- no keys at all

$node->safe_psql('postgres', 'DROP USER MAPPING FOR CURRENT_USER SERVER aws');
$node->restart;
last_error_like($node, qr/role "\w+" has no user mapping for server "aws", and the server's option credentials permits no other keys/,
	'without keys anywhere last_error names the role, the server and the ways out');
query_is($node, 'SELECT state FROM sqs_stats', 'error', 'state: error');
$node->safe_psql('postgres', q{SELECT sqs_enqueue('q', 'kept')});
last_outbox_error_like($node, qr/has no user mapping/, 'what is in the outbox waits, and says why');
$node->stop;

# ---- keys of the environment: for a server that a superuser has given them to

my $log_from = -s $node->logfile;
{
	local $ENV{AWS_ACCESS_KEY_ID} = 'AKIDENV';
	local $ENV{AWS_SECRET_ACCESS_KEY} = 'environment';
	$node->start;
}
my $refused = qr/role "\w+" has no user mapping for server "aws", and the server's option credentials permits no other keys/;
query_is($node, 'SELECT state FROM sqs_stats', 'error', 'keys in the environment are for no server that was not given them');
my ($rc, $out, $err) = $node->psql('postgres', q{SELECT sqs_send('q', 'x')});
like($err, qr/cannot send to queue "q": $refused/, 'sqs_send() refuses, too');
like($err, qr/HINT:  Run: CREATE USER MAPPING FOR \w+ SERVER aws OPTIONS .*ALTER SERVER aws OPTIONS \(ADD credentials 'auto'\)/, 'and tells both ways out');

last_outbox_error_like($node, $refused, 'and what waits in the outbox goes on to wait');

$node->safe_psql('postgres', q{CREATE ROLE owner LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER sqsbridge TO owner; CREATE ROLE low LOGIN;
	GRANT USAGE ON FOREIGN SERVER aws TO low; ALTER SERVER aws OWNER TO owner});
my $moved = qr/its server "aws" belonged to role "\w+", and now belongs to role "owner"; if this is intended, confirm it with sqs_alter_queue\(\)/;
last_error_like($node, $moved, 'a server that is given away is confirmed first');
last_outbox_error_like($node, $moved, 'for what is sent, too');
$node->safe_psql('postgres', q{SELECT sqs_alter_queue('q')});
last_error_like($node, $refused, 'when it is, what is still wrong is said again');
last_outbox_error_like($node, $refused, 'of what is sent, too');
sub as_role
{
	my ($role, $sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $sql, extra_params => [ '-U', $role ]);
	return $err;
}
my $superusers = qr/permission denied to set the options of a server with credentials 'environment'/;
like(as_role('owner', q{ALTER SERVER aws OPTIONS (ADD credentials 'environment')}), $superusers, "not even the server's owner takes them for himself");
like(as_role('owner', q{CREATE SERVER mine FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', credentials 'environment')}), $superusers, 'nor for a new server');
is(as_role('owner', q{CREATE SERVER mine FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', credentials 'mapping')}), '', 'the default is for everybody');
like(as_role('owner', q{ALTER SERVER mine OPTIONS (SET credentials 'sso')}), qr/invalid value for option "credentials": "sso".*must be mapping, auto, environment/s, 'other values are refused');

$node->safe_psql('postgres', q{ALTER SERVER aws OPTIONS (ADD credentials 'environment')});
arrives($node, 'q', 'a superuser lends the keys of the environment');
query_is($node, q{SELECT waiting FROM sqs_stats_outbox WHERE queue = 'q'}, '0', 'and the outbox goes on');
query_is($node, q{SELECT count(*) FROM got WHERE body = 'kept'}, '1', 'with what waited');
is(as_role('low', q{SELECT sqs_send('q', 'low')}), '', 'who has USAGE on the server sends with them');
query_is($node, q{SELECT count(*) FROM got WHERE body = 'low'}, '1', 'which arrives');
like(as_role('owner', q{ALTER SERVER aws OPTIONS (SET endpoint 'https://sqs.example.com')}), $superusers, 'nobody else says where they are sent to');
like(as_role('owner', q{ALTER SERVER aws OPTIONS (ADD allow_http 'true')}), $superusers, 'or how');
$node->safe_psql('postgres', q{CREATE USER MAPPING FOR low SERVER aws OPTIONS (access_key_id 'AKIDNOBODY', secret_access_key 'nobodys-secret')});
like(as_role('low', q{SELECT sqs_send('q', 'x')}), qr/two identities: the user mapping of role "low" for server "aws" has keys, and the server's option credentials is environment/,
	"a role's own keys are not silently taken, nor silently ignored");
$node->safe_psql('postgres', q{DROP USER MAPPING FOR low SERVER aws});
my $dump = $node->safe_psql('postgres', q{SELECT srvoptions FROM pg_foreign_server WHERE srvname = 'aws'});
like($dump, qr/credentials=environment/, 'the option is where pg_dump finds it');
is(as_role('owner', q{ALTER SERVER aws OPTIONS (DROP credentials)}), '', 'to take the option away is no privilege');
query_is($node, 'SELECT state FROM sqs_stats', 'error', 'without it and without a mapping: error again');
like(as_role('low', q{SELECT sqs_send('q', 'x')}), qr/role "low" has no user mapping/, 'also for a session');

# the queue and its outbox, in whichever order; by themselves, and no others
my $change = qr/LOG:  sqsbridge (cannot work on queue|cannot send from the outbox to queue|sends from the outbox to queue|queue) "q"(?:: | )(.*)/;
my $name_of = sub { my ($text) = @_; return $text =~ /^$refused$/ ? 'no mapping' : $text =~ /^$moved$/ ? 'moved' : $text };
# the last is logged when it is found, which the view tells of a moment earlier
poll_until(sub { 2 == (() = log_text($node, $log_from) =~ /LOG:  sqsbridge cannot work on queue "q": $refused/g) }, 'the log has it again');
is( join("\n", sort map { /$change/ ? "$1: " . $name_of->($2) : () } split /\n/, log_text($node, $log_from)),
	join("\n", sort('cannot work on queue: no mapping', 'cannot send from the outbox to queue: no mapping',
			'cannot work on queue: moved', 'cannot send from the outbox to queue: moved',
			'sends from the outbox to queue: again', 'queue: is polling', 'cannot work on queue: no mapping')),
	'the log has a line for each change of state');

# the keys are missing where the server is told to look
$node->safe_psql('postgres', q{ALTER SERVER aws OPTIONS (ADD credentials 'environment'); ALTER SERVER aws OWNER TO CURRENT_USER; SELECT sqs_alter_queue('q')});
$node->stop;
$node->start;
last_error_like($node, qr/environment.*AWS_ACCESS_KEY_ID/,
	'an environment without keys is an error, too');
query_is($node, 'SELECT state FROM sqs_stats', 'error', 'of that state');
$node->safe_psql('postgres', q{CREATE USER MAPPING FOR PUBLIC SERVER aws OPTIONS (access_key_id 'AKIDGOOD', secret_access_key 'good/secret+key')});
last_error_like($node, qr/two identities: /, 'nor do keys of a mapping make it good, silently');
$node->safe_psql('postgres', q{ALTER SERVER aws OPTIONS (DROP credentials)});
arrives($node, 'q', 'a user mapping for PUBLIC does, without the option');

# ---- SQS unwell: it recovers from everything, and nothing is lost

my @illness = (
	[ 'a 503', kind => 'error', status => 503, body => '<html>unavailable</html>' ],
	[ 'an empty 500', kind => 'error', status => 500, body => '' ],
	[ 'throttling', kind => 'error', status => 400, code => 'ThrottlingException' ],
	[ 'garbage', kind => 'garbage', nonempty => JSON::PP::true() ],
	[ 'a truncated reply', kind => 'truncate', nonempty => JSON::PP::true() ],
	[ 'a reset before', kind => 'reset_before' ],
	[ 'a reset after', kind => 'reset_after', nonempty => JSON::PP::true() ],
	[ 'a wrong checksum', kind => 'bad_md5', nonempty => JSON::PP::true() ],
	[ 'a huge reply', kind => 'huge', bytes => 80 * 1024 * 1024, nonempty => JSON::PP::true() ]);

foreach my $case (@illness)
{
	my ($name, %rule) = @$case;
	my $poll_failures = $node->safe_psql('postgres', 'SELECT poll_failures FROM sqs_stats');
	my $fault = $sqs->fault(action => 'ReceiveMessage', queue => 'q', count => 2, %rule);
	my $i = ++$main::serial;

	if ($rule{nonempty})
	{
		# a poll from before the fault returns with the first message; when
		# all that are open have met the fault, the second is sure to suffer
		$sqs->fill('q', 1, body => "before m$i");
		poll_until(
			sub { my $fired = fired($fault); $fired >= 1 && $sqs->stats('q')->{open_polls} <= $fired },
			"$name: polls have met it");
		my $received = $sqs->stats('q')->{received};
		$sqs->fill('q', 1, body => "m$i");
		poll_until(sub { $sqs->stats('q')->{received} > $received }, "$name: SQS is unwell");
	}
	else
	{
		$sqs->fill('q', 1, body => "before m$i");
		$sqs->fill('q', 1, body => "m$i");
		poll_until(sub { fired($fault) >= 2 }, "$name: SQS is unwell");
	}
	$sqs->clear_faults($fault);
	# a damaged message is that message's failure, not the poll's
	if ($name eq 'a wrong checksum')
	{
		query_true($node, q{(SELECT count(*) FROM sqs_failures WHERE message LIKE 'message is damaged: the MD5%') >= 1},
			"$name: it is noticed");
	}
	else
	{
		query_true($node, "(SELECT poll_failures FROM sqs_stats) > $poll_failures", "$name: it is noticed",
			timeout => 60);
	}
	# what a reply was lost of comes again when its visibility timeout is over
	$sqs->advance(31);
	query_is($node, "SELECT count(*), count(DISTINCT body) FROM got WHERE body LIKE '%m$i'", '2|2',
		"$name: it recovers, the messages are handled once");
}
query_is($node, 'SELECT state, consecutive_errors FROM sqs_stats', 'polling|0', 'all is well again');
$sqs->is_empty('q');

# one log line per change of state, not per event: an outage
my $fault = $sqs->fault(kind => 'error', status => 503, action => 'ReceiveMessage', queue => 'q');
my $offset = -s $node->logfile;
$sqs->fill('q', 1, body => 'outage');
query_true($node, '(SELECT consecutive_errors FROM sqs_stats) >= 4', 'an outage');
my @lines = grep { /queue "q"/ } split /\n/, log_text($node, $offset);
is(scalar(@lines), 1, 'has one line in the log') or diag(join "\n", @lines);
like($lines[0] || '', qr/InternalFailure|ServiceUnavailable/, 'which says what it is');
$sqs->clear_faults($fault);
query_is($node, q{SELECT count(*) FROM got WHERE body = 'outage'}, '1', 'it ends');

# ---- what SQS may say tomorrow: no message is lost by a code that is not known

$node->safe_psql('postgres', q{SELECT sqs_register_queue('codes', server => 'aws')});
foreach my $case (
	[ 'NotAuthorized', 400 ], [ 'SubscriptionRequiredException', 400 ], [ 'TokenRefreshRequired', 400 ],
	[ 'KmsSomethingNew', 400 ], [ 'ValidationException', 400 ], [ 'NeverHeardOf', 422 ], [ 'NeverHeardOf', 413 ])
{
	my ($code, $status) = @$case;
	my $body = ++$main::serial . " $code $status";
	my $fault = $sqs->fault(kind => 'error', status => $status, code => $code, action => 'SendMessageBatch', queue => 'codes');
	$node->safe_psql('postgres', "SELECT sqs_enqueue('codes', '$body ' || i) FROM generate_series(1, 3) i");
	poll_until(sub { fired($fault) >= 3 }, "status $status, $code: tried again and again");
	query_true($node, "(SELECT last_error LIKE '%: $code: %' FROM sqs_stats_outbox WHERE queue = 'codes')", "status $status, $code: which can be seen");
	$sqs->clear_faults($fault);
	poll_until(sub { (grep { $_->{body} =~ /^\Q$body\E / } @{ $sqs->messages('codes') }) == 3 }, "status $status, $code: all are sent in the end", 60);
}
my $unknown = $sqs->fault(kind => 'entry_fail', code => 'NeverHeardOf', message => 'no', sender_fault => JSON::PP::true(), action => 'SendMessageBatch', queue => 'codes');
$node->safe_psql('postgres', q{SELECT sqs_enqueue('codes', 'entry')});
poll_until(sub { fired($unknown) >= 2 }, 'an entry that fails by such a code: tried again');
$sqs->clear_faults($unknown);
poll_until(sub { grep { $_->{body} eq 'entry' } @{ $sqs->messages('codes') } }, 'and sent in the end', 60);
is($node->safe_psql('postgres', 'SELECT count(*) FROM sqs_outbox_failures'), '0', 'no message was given up');
$node->safe_psql('postgres', q{SELECT sqs_unregister_queue('codes')});

# ---- the clocks differ by more than SQS accepts: 15 minutes

$fault = $sqs->fault(kind => 'clock', seconds => 3600);
$node->restart;
arrives($node, 'q', 'a clock that is an hour off is made up for');
$sqs->clear_faults($fault);
$fault = $sqs->fault(kind => 'clock', seconds => -3600);
arrives($node, 'q', 'and when it jumps the other way');
$sqs->clear_faults($fault);
arrives($node, 'q', 'and back');
$node->stop;
$sqs->stop_sqs;

# ---- temporary keys

$sqs = start_sqs(args => [ @keys, '--session-token', 'the-token', '--queue', 'q' ]);
$node->start;
my $endpoint = $sqs->endpoint;
$node->safe_psql('postgres', qq{ALTER SERVER aws OPTIONS (SET endpoint '$endpoint')});
last_error_like($node, qr/\w+: /, 'without its session token a temporary key is refused');
$node->safe_psql('postgres', q{ALTER USER MAPPING FOR PUBLIC SERVER aws OPTIONS (ADD session_token 'the-token')});
arrives($node, 'q', 'with it, it is accepted');
$sqs->stop_sqs;

# ---- TLS

my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
my @openssl = ('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost',
	'-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', "$dir/key.pem", '-out', "$dir/cert.pem");
SKIP:
{
	my $out;
	skip 'no openssl', 4 unless eval { IPC::Run::run(\@openssl, '>', \$out, '2>&1') };
	chmod 0600, "$dir/key.pem";
	$sqs = start_sqs(
		scheme => 'https',
		args => [ '--tls-cert', "$dir/cert.pem", '--tls-key', "$dir/key.pem", '--queue', 'q' ]);
	$endpoint = $sqs->endpoint;
	$node->safe_psql('postgres', qq{ALTER SERVER aws OPTIONS (SET endpoint '$endpoint')});
	last_error_like($node, qr/certificate/i, 'a certificate that nobody vouches for is refused');
	is($sqs->stats('q')->{received}, 0, 'nothing was received');
	$node->append_conf('postgresql.conf', "sqsbridge.ca_file = '$dir/cert.pem'");
	$node->restart;
	arrives($node, 'q', 'sqsbridge.ca_file vouches for it');
	is($node->safe_psql('postgres', 'SELECT state FROM sqs_stats'), 'polling', 'all is well');
}

$node->stop;
unlike(slurp_file($node->logfile), qr{good/secret|wrong-secret|the-token}, 'no secret is in the log');
check_log($node, qr/011_aws\.pl ERROR:  permission denied to set the options of a server with credentials 'environment'$/,
	qr/011_aws\.pl ERROR:  invalid value for option "credentials": "sso"$/,
	qr/011_aws\.pl ERROR:  (?:cannot|could not) send to queue "q": (?:role "\w+" has no user mapping|two identities)/);
done_testing();
