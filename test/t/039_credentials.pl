# Keys that are found or fetched: from each source, as whoever may use it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $sqs = start_sqs(
	args => [
		'--access-key', 'AKIDENVIRONMENT00001', '--secret-key', 'secret/of+environment',
		'--access-key', 'AKIDPROFILE000000001', '--secret-key', 'secret/of+profile',
		'--access-key', 'AKIDMAPPING000000001', '--secret-key', 'secret/of+mapping',
		map { ('--queue', $_) } qw(env web prof chain cont imds mapped region process rewritten)
	]);
my $endpoint = $sqs->endpoint;
my $dir = PostgreSQL::Test::Utils::tempdir();
my $role = 'arn:aws:iam::000000000000:role';
my $serial = 0;

sub put_file
{
	my ($name, $text) = @_;
	open(my $file, '>', "$dir/$name.new") or die $!;
	print $file $text;
	close($file);
	rename("$dir/$name.new", "$dir/$name") or die $!;
	return;
}

put_file('token', 'the-web-identity-token');
put_file('container-token', 'the-container-token');
put_file('config', <<EOC);
[profile direct]
aws_access_key_id = AKIDPROFILE000000001
aws_secret_access_key = secret/of+profile
[profile chained]
role_arn = $role/chained
source_profile = direct
external_id = the-external-id
role_session_name = chain
[profile run]
credential_process = $dir/program
EOC
put_file('credentials', '');
put_file('program', <<EOC);
#!/bin/sh
echo '{"Version": 1, "AccessKeyId": "AKIDPROFILE000000001", "SecretAccessKey": "secret/of+profile"}'
EOC
chmod(0755, "$dir/program");
$sqs->admin('POST', 'identity', { web_token => 'the-web-identity-token', container_token => 'the-container-token' });

# the environment of a server that could use everything
my $node = new_node('main',
	conf => "log_min_messages = debug1\nsqsbridge.handler_idle_timeout = '1h'\n",
	env => {
		AWS_ACCESS_KEY_ID => 'AKIDENVIRONMENT00001',
		AWS_SECRET_ACCESS_KEY => 'secret/of+environment',
		AWS_CONFIG_FILE => "$dir/config",
		AWS_SHARED_CREDENTIALS_FILE => "$dir/credentials",
		AWS_WEB_IDENTITY_TOKEN_FILE => "$dir/token",
		AWS_ROLE_ARN => "$role/web",
		AWS_CONTAINER_CREDENTIALS_FULL_URI => "$endpoint/v1/credentials",
		AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE => "$dir/container-token",
		AWS_EC2_METADATA_SERVICE_ENDPOINT => $endpoint,
		AWS_ENDPOINT_URL => $endpoint,
	});
$node->safe_psql('postgres', <<EOQ);
CREATE EXTENSION sqsbridge;
CREATE TABLE got (queue text, body text);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE sql AS 'INSERT INTO got VALUES (m.queue, m.body)';
CREATE ROLE app LOGIN;
CREATE ROLE owner LOGIN;
CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats;
EOQ

my %options = (
	env => "credentials 'environment'",
	web => "credentials 'web_identity'",
	prof => "credentials 'profile', profile 'direct'",
	chain => "credentials 'profile', profile 'chained'",
	cont => "credentials 'container'",
	imds => "credentials 'instance_metadata'",
	mapped => "role_arn '$role/mapped', external_id 'x-1', sts_endpoint '$endpoint', endpoint '$endpoint'",
);
foreach my $name (sort keys %options)
{
	$node->safe_psql('postgres', <<EOQ);
CREATE SERVER $name FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', $options{$name});
GRANT USAGE ON FOREIGN SERVER $name TO app;
EOQ
}
$node->safe_psql('postgres', <<EOQ);
CREATE USER MAPPING FOR PUBLIC SERVER mapped OPTIONS (access_key_id 'AKIDMAPPING000000001', secret_access_key 'secret/of+mapping');
EOQ
$node->safe_psql('postgres', "SELECT sqs_register_queue('$_', server => '$_', handler => 'handle', wait_time => '1 s')") foreach sort keys %options;

sub arrives
{
	my ($queue, $name) = @_;
	my $i = ++$serial;
	$sqs->fill($queue, 1, body => "m$i");
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return query_is($node, "SELECT count(*) FROM got WHERE body = 'm$i' AND queue = '$queue'", '1', $name, timeout => 120);
}

sub as_role
{
	my ($role, $sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $sql, extra_params => [ '-U', $role ]);
	return ($out, $err);
}

sub identity_calls
{
	my ($action) = @_;
	return $sqs->admin('GET', 'identity')->{calls}{$action} || 0;
}

# ---- each source: receiving, sending, and whose keys they were

my %who = (
	env => [ qr/the environment/, qr{user/AKIDENV} ],
	web => [ qr/web identity/, qr{assumed-role/web/} ],
	prof => [ qr/profile "direct" \(.*config:\d+\)/, qr{user/AKIDPROFILE} ],
	chain => [ qr/profile "direct" \(.*config:\d+\)/, qr{assumed-role/chained/chain} ],
	cont => [ qr/container credentials/, qr{assumed-role/container/} ],
	imds => [ qr/instance metadata/, qr{assumed-role/sqsd-instance/} ],
	mapped => [ qr/user mapping/, qr{assumed-role/mapped/} ],
);
foreach my $name (sort keys %options)
{
	arrives($name, "$name: a message is received");
	my ($out, $err) = as_role('app', "SELECT sqs_send('$name', 'by app') <> ''");
	is($out . $err, 't', "$name: a session sends");
	query_is($node, "SELECT count(*) FROM got WHERE body = 'by app' AND queue = '$name'", '1', "$name: which arrives");
	my ($who) = as_role('app', "SELECT source, arn, account FROM sqs_whoami('$name')");
	like($who, qr/^[^|]*$who{$name}[0]/, "$name: sqs_whoami() tells where the keys come from");
	like((split /\|/, $who)[1], $who{$name}[1], "$name: and whose they are");
	note($who);
}

# a queue worker, a handler's session, and two more sessions: one call for all
is_deeply(
	{ map { $_ => identity_calls($_) } qw(AssumeRole AssumeRoleWithWebIdentity ContainerCredentials MetadataKeys) },
	{ AssumeRole => 2, AssumeRoleWithWebIdentity => 1, ContainerCredentials => 1, MetadataKeys => 1 },
	'keys are fetched once for all processes');

# ---- what a view shows, and to whom

my $view = q{SELECT string_agg(format('%s:%s:%s:%s', server, state, length(key_id), fetches), ' ' ORDER BY server) FROM sqs_stats_credentials};
my $all = 'chain:ready:4:1 cont:ready:4:1 env:ready:: imds:ready:4:1 mapped:ready:4:1 prof:ready:: web:ready:4:1';
is($node->safe_psql('postgres', $view), $all, 'sqs_stats_credentials shows all servers');
is((as_role('watcher', $view))[0], $all, 'also to members of pg_read_all_stats');
is((as_role('app', $view))[0], '', 'others see nothing');
query_true($node, q{(SELECT bool_and(expires_at > now() + '50 min' AND refresh_at < expires_at - '5 min'::interval AND fetched_at <= now()
	AND stale_since IS NULL AND last_error IS NULL) FROM sqs_stats_credentials WHERE key_id IS NOT NULL)}, 'when keys are renewed');
query_is($node, q{SELECT assumed_role FROM sqs_stats_credentials WHERE server = 'mapped'}, "$role/mapped", 'which role is assumed');
unlike($node->safe_psql('postgres', 'SELECT * FROM sqs_stats_credentials'), qr{secret/of|the-web-identity|the-container|AKID|ASIA|the-external}, 'no secret, and no whole key id');
query_true($node, q{(SELECT count(*) = 1 FROM sqs_stats_credentials WHERE role = 0 OR role IS NULL AND server = 'mapped')}, "PUBLIC's mapping");

# ---- AWS refuses keys before their time: one refresh, one retry, no failure

$node->safe_psql('postgres', 'ALTER SYSTEM SET log_min_messages = debug5');
$node->reload;
$sqs->admin('POST', 'identity', { revoke => JSON::PP::true });
foreach my $name (qw(web chain cont imds mapped))
{
	arrives($name, "$name: receives with new keys");
	my ($out, $err) = as_role('app', "SELECT sqs_send('$name', 'again') <> ''");
	is($out . $err, 't', "$name: and sends");
}
query_is($node, $view, 'chain:ready:4:2 cont:ready:4:2 env:ready:: imds:ready:4:2 mapped:ready:4:2 prof:ready:: web:ready:4:2', 'one refresh each');
is_deeply(
	{ map { $_ => identity_calls($_) } qw(AssumeRole AssumeRoleWithWebIdentity ContainerCredentials MetadataKeys) },
	{ AssumeRole => 4, AssumeRoleWithWebIdentity => 2, ContainerCredentials => 2, MetadataKeys => 2 },
	'and one call');
query_is($node, 'SELECT sum(poll_failures + delete_failures + failed) FROM sqs_stats', '0', 'nothing has failed for it');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET log_min_messages');
$node->reload;

# ---- who may

sub refused
{
	my ($who, $sql, $pattern, $name) = @_;
	my ($out, $err) = as_role($who, "\\set VERBOSITY verbose\n$sql");
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return like($err, $pattern, $name);
}

$node->safe_psql('postgres', q{ALTER SERVER imds OWNER TO owner; SELECT sqs_alter_queue('imds')});
refused('owner', "ALTER SERVER imds OPTIONS (ADD endpoint 'https://sqs.example.com')", qr/ERROR:  42501: permission denied to set the options of a server with credentials 'instance_metadata'/,
	'the owner of a server does not say where the keys of the machine are sent to');
refused('owner', "ALTER SERVER imds OPTIONS (ADD sts_endpoint 'https://sts.example.com')", qr/ERROR:  42501/, 'nor does he for STS');
refused('owner', "ALTER SERVER imds OPTIONS (SET credentials 'web_identity')", qr/ERROR:  42501/, 'nor does he choose other keys');
is((as_role('owner', $view))[0], 'imds:ready:4:2', 'but he sees them');
foreach my $who (qw(app postgres))
{
	refused($who, "CREATE USER MAPPING FOR app SERVER imds OPTIONS (role_arn '$role/admin')", qr/option "access_key_id" is missing.*no role may assume what the database server itself may assume/s,
		"a mapping does not say what is assumed with the keys of the machine ($who)");
}
is((as_role('app', "CREATE USER MAPPING FOR app SERVER imds OPTIONS (access_key_id 'AKIDMAPPING000000001', secret_access_key 'secret/of+mapping')"))[1], '', 'keys of his own');
refused('app', "SELECT sqs_send('imds', 'x')", qr/two identities: the user mapping of role "app" for server "imds" has keys/, 'are not mixed with those of the machine');
refused('app', "SELECT sqs_whoami('imds')", qr/two identities/, 'and there is no answer to who he is');
$node->safe_psql('postgres', "DROP USER MAPPING FOR app SERVER imds; ALTER SERVER imds OPTIONS (ADD role_arn '$role/app')");
foreach my $sql ('', 'CREATE USER MAPPING FOR app SERVER imds', 'DROP USER MAPPING FOR app SERVER imds')
{
	is((as_role('app', $sql))[1], '', $sql) if $sql ne '';
	like((as_role('app', "SELECT arn FROM sqs_whoami('imds')"))[0], qr{assumed-role/app/}, 'a role does not leave the role of AWS that its server has');
}
$node->safe_psql('postgres', 'CREATE ROLE nobody LOGIN');
refused('nobody', "SELECT sqs_whoami('imds')", qr/ERROR:  42501: permission denied for foreign server imds/, 'sqs_whoami() needs USAGE');
refused('nobody', "SELECT sqs_whoami('nowhere')", qr/ERROR:  42704: server "nowhere" does not exist/, 'and a server');

# a misspelled option, in a statement that a function executes, which the context quotes
refused('app', <<'EOQ', qr/invalid option "secret_key"/, 'an option that does not exist');
DO $$
BEGIN
	EXECUTE format('CREATE USER MAPPING FOR app SERVER mapped OPTIONS (access_key_id %L, secret_key %L)', 'AKIDX', 'secret/of+context');
END $$
EOQ

# ---- a program only with a superuser's setting

$node->safe_psql('postgres', "CREATE SERVER process FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', credentials 'profile', profile 'run')");
refused('postgres', "SELECT sqs_whoami('process')", qr/credential_process.*sqsbridge\.allow_credential_process/s, 'credential_process is off');
$node->append_conf('postgresql.conf', 'sqsbridge.allow_credential_process = on');
$node->reload;
query_is($node, "SELECT arn FROM sqs_whoami('process')", 'arn:aws:iam::000000000000:user/AKIDPROFILE000000001', 'and works when it is allowed');

# ---- a file that somebody is writing: what is odd counts when it is seen twice

my $keys_of_file = "[rewritten]\naws_access_key_id = AKIDPROFILE000000001\naws_secret_access_key = secret/of+profile\n";
put_file('credentials', $keys_of_file);
$node->safe_psql('postgres', <<EOQ);
CREATE SERVER rewritten FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', credentials 'profile', profile 'rewritten');
SELECT sqs_register_queue('rewritten', server => 'rewritten', handler => 'handle', wait_time => '1 s');
EOQ
arrives('rewritten', 'keys of a file');
put_file('credentials', '');
my $empty_since = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
query_true($node, "(SELECT last_error ~ 'rewritten' AND error_since IS NOT NULL FROM sqs_stats WHERE queue = 'rewritten')", 'a file that stays empty is an error',
	timeout => 240);
query_true($node, "(SELECT error_since > '$empty_since'::timestamptz + '10 s' FROM sqs_stats WHERE queue = 'rewritten')", 'but not at once');
put_file('credentials', $keys_of_file);
arrives('rewritten', 'when it has keys again, it is well by itself');

# ---- region and endpoint

$node->safe_psql('postgres', <<EOQ);
CREATE SERVER region FOREIGN DATA WRAPPER sqsbridge OPTIONS (credentials 'instance_metadata');
SELECT sqs_register_queue('region', server => 'region', handler => 'handle', wait_time => '1 s');
EOQ
arrives('region', 'the region is asked of instance metadata, and the endpoint is that of the environment');
cmp_ok(identity_calls('MetadataRegion'), '>=', 1, 'it was');

$node->safe_psql('postgres', <<EOQ);
CREATE SERVER elsewhere FOREIGN DATA WRAPPER sqsbridge OPTIONS (endpoint 'http://127.0.0.1:9', region 'us-east-1');
CREATE USER MAPPING FOR PUBLIC SERVER elsewhere OPTIONS (access_key_id 'AKIDMAPPING000000001', secret_access_key 'secret/of+mapping');
SELECT sqs_register_queue('env2', server => 'elsewhere', queue_name => 'env');
EOQ
refused('postgres', "SELECT sqs_send('env2', 'x')", qr/ERROR:  08/, 'a server with keys of mappings does not follow the environment');

# ---- errors name the source, and say what to do

my $n = 0;

sub whoami_fails
{
	my ($options, $pattern, $name) = @_;
	my $server = 'bad' . ++$n;
	$node->safe_psql('postgres', "CREATE SERVER $server FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', $options)");
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return refused('postgres', "SELECT sqs_whoami('$server')", $pattern, $name);
}

whoami_fails("credentials 'profile', profile 'absent'", qr/ERROR:  55000: .*profile "absent"/, 'a profile that is not there');
whoami_fails("credentials 'web_identity', web_identity_token_file '$dir/absent', role_arn '$role/x'", qr{ERROR:  28000: .*$dir/absent.*No such file}, 'a token file that is not there');
$sqs->admin('POST', 'identity', { roles => [ map { { arn => "$role/$_" } } qw(web mapped chained) ] });
whoami_fails("credentials 'environment', role_arn '$role/forbidden'", qr{ERROR:  28000: .*role/forbidden}, 'a role that may not be assumed');
$sqs->admin('POST', 'identity', { roles => undef });
$sqs->fault(kind => 'error', action => 'AssumeRole', status => 500, body => '');
whoami_fails("credentials 'environment', role_arn '$role/later'", qr/ERROR:  08\w+: .*$role\/later|ERROR:  08\w+: .*STS/, 'STS out of order');
$sqs->clear_faults;
query_true($node, "(SELECT arn FROM sqs_whoami('bad$n')) ~ 'assumed-role/later/'", 'until it works again');
foreach my $kind ([ 'garbage', kind => 'garbage' ], [ 'a reply that is cut off', kind => 'truncate' ], [ '64 MiB', kind => 'huge' ],
	[ 'an HTTP error with a body', kind => 'error', status => 403, body => '<html>no</html>' ])
{
	my ($name, @fault) = @$kind;
	$sqs->fault(action => 'ContainerCredentials', @fault);
	whoami_fails("credentials 'container', role_arn '$role/x$n'", qr/ERROR:  (?:28000|08\w+): .*container/, "container: $name");
	$sqs->clear_faults;
}

# a queue says so, and heals by itself
put_file('token', 'not the token');
$node->safe_psql('postgres', <<EOQ);
CREATE SERVER late FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', credentials 'web_identity',
	web_identity_token_file '$dir/late', role_arn '$role/late');
SELECT sqs_disable_queue('process') WHERE false;
SELECT sqs_register_queue('late', server => 'late', queue_name => 'process', handler => 'handle', wait_time => '1 s');
EOQ
query_true($node, "(SELECT last_error ~ '$dir/late' AND state IN ('backing off', 'error') FROM sqs_stats WHERE queue = 'late')", 'last_error names the file');
query_true($node, "(SELECT last_error ~ '$dir/late' AND state = 'failed' FROM sqs_stats_credentials WHERE server = 'late')", 'so does sqs_stats_credentials');
put_file('late', 'the-web-identity-token');
$sqs->fill('process', 1, body => 'late');
query_is($node, "SELECT count(*) FROM got WHERE body = 'late'", '1', 'when it is there, the queue goes on by itself', timeout => 180);

$node->stop;
my $log = slurp_file($node->logfile);
unlike($log, qr{secret/of|the-web-identity|the-container-token|the-external}, 'no secret is in the log');
unlike($log, qr{[A-Za-z0-9/+]{200}}, 'nor is a session token');
check_log($node, qr/039_credentials\.pl ERROR:  /);
done_testing();
