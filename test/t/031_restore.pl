# Copies of a database: by pg_dump and its many ways back, by CREATE DATABASE ...
# TEMPLATE, by logical replication.  Nothing is received or sent in a copy,
# during the restore or after it, until a superuser says by sqs_adopt_queues()
# what becomes of the rows that wait; then each of them is sent once, or none
# is, and what has been handled is remembered.
#
# The copies are made in a server that is busy with the original.  Before a copy
# is adopted, its foreign server is made to point to an SQS server of its own,
# so that it is seen who sends what; up to then it would meet the original's.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

my $long = $ENV{SQSBRIDGE_LONG};
my @queues = ('in,VisibilityTimeout=20', 'again,VisibilityTimeout=3', 'busy', 'held', 'held.fifo', 'timed', 'gone');
my $sqs = start_sqs(queues => [@queues]);
my $conf = "max_worker_processes = 60\nsqsbridge.max_workers = 60\nwal_level = logical\nmax_wal_senders = 10\nmax_replication_slots = 10\n";
our $node = new_node('main', conf => $conf);
my $tmp = PostgreSQL::Test::Utils::tempdir();
my $super = $node->safe_psql('postgres', 'SELECT rolname FROM pg_roles WHERE oid = 10');
my $major = (split /\./, $node->safe_psql('postgres', "SHOW server_version_num") / 10000)[0];

$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;

# ---- the original

sub roles
{
	my ($node) = @_;
	$node->safe_psql('postgres', <<'EOQ');
CREATE ROLE app LOGIN;
CREATE ROLE dbo LOGIN;
CREATE ROLE reader LOGIN IN ROLE pg_read_all_data;
CREATE ROLE pw LOGIN IN ROLE pg_write_all_data;
EOQ
	return;
}
roles($node);
$node->safe_psql('postgres', "CREATE ROLE gone LOGIN; CREATE DATABASE shop OWNER dbo");
setup_database($node, $sqs, dbname => 'shop');
setup_database($node, $sqs);
$node->safe_psql('postgres', <<'EOQ');
CREATE FUNCTION ticks(m sqs_message) RETURNS void LANGUAGE sql AS 'SELECT';
EOQ
$sqs->create_queue('ticker');
$node->safe_psql('postgres', "SELECT sqs_register_queue('ticker', server => 'aws', handler => 'ticks', wait_time => '1 s')");
$node->safe_psql('shop', <<'EOQ');
GRANT USAGE ON FOREIGN SERVER aws TO app, gone;
CREATE SCHEMA app AUTHORIZATION app;
GRANT USAGE ON SCHEMA app TO PUBLIC;
CREATE TABLE app.got (body text, queue text, message_id text, who text DEFAULT session_user);
-- keys, so that a restore has something to do after its data
INSERT INTO app.got SELECT i, 'filler', i FROM generate_series(1, 20000) i;
CREATE INDEX ON app.got (body);
CREATE INDEX ON app.got (queue, md5(body));
GRANT ALL ON app.got TO app, gone;
CREATE FUNCTION app.handle(m sqs_message) RETURNS void LANGUAGE sql
  BEGIN ATOMIC INSERT INTO app.got (body, queue, message_id) VALUES (m.body, m.queue, m.message_id); END;
SET ROLE app;
SELECT sqs_register_queue('in', server => 'aws', handler => 'app.handle', concurrency => 2, wait_time => '1 s',
  route_by => 'attribute:kind');
SELECT sqs_add_route('in', 'first kind', 'app.handle', '1 min'), sqs_add_route('in', 'second kind', 'app.handle');
SELECT sqs_register_queue('again', server => 'aws', handler => 'app.handle', wait_time => '1 s');
SELECT sqs_register_queue(q, server => 'aws') FROM unnest(ARRAY['busy', 'held', 'held.fifo', 'timed']) q;
SELECT sqs_disable_queue(q) FROM unnest(ARRAY['held', 'held.fifo', 'timed']) q;
RESET ROLE; SET ROLE gone;
SELECT sqs_register_queue('gone', server => 'aws', handler => 'app.handle', wait_time => '1 s');
RESET ROLE;
SELECT sqs_set_error_rule(NULL, '22', 'dead_letter'), sqs_set_error_rule('in', '23505', 'discard'),
       sqs_set_error_rule('in', 'default', 'retry', '1 min');
EOQ
my $rules = q{SELECT string_agg(concat_ws(' ', queue, sqlstate, action, delay, source), E'\n' ORDER BY queue, sqlstate)
	FROM sqs_error_rules WHERE source <> 'built-in' AND COALESCE(queue, 'in') = 'in'};
my $routes = q{SELECT string_agg(concat_ws(' ', queue, key, handler, handler_timeout, 'problem: ' || problem), E'\n' ORDER BY queue, key)
	FROM sqs_routes};
my $nrows = 25;
$node->safe_psql('shop', 'CREATE SEQUENCE numbers');
$node->safe_psql('shop', <<EOQ) foreach 1 .. 4;
INSERT INTO sqs_outbox (queue, body) SELECT 'held', 'held ' || gen_random_uuid() FROM generate_series(1, $nrows) i;
INSERT INTO sqs_outbox (queue, body, group_id)
SELECT 'held.fifo', g || ' ' || nextval('numbers'), 'g' || g
FROM generate_series(1, $nrows) i, generate_series(1, 3) g;
INSERT INTO sqs_outbox (queue, body, deliver_at)
SELECT 'timed', 'timed ' || gen_random_uuid(), now() + i * interval '1 s' FROM generate_series(-3, 25) i;
BEGIN;
SAVEPOINT s;
INSERT INTO sqs_outbox (queue, body) SELECT 'held', 'in a subtransaction ' || gen_random_uuid() FROM generate_series(1, 3);
SELECT sqs_enqueue('timed', 'in a subtransaction ' || gen_random_uuid(), delay => '20 s');
RELEASE s;
COMMIT;
EOQ

# Messages that have been handled, and not been deleted.
my $fault = $sqs->fault(kind => 'error', status => 503, code => 'ServiceUnavailable', action => 'DeleteMessageBatch',
	queue => 'again');
my @again = $sqs->send_messages('again', map { "again $_" } 1 .. 10);
query_is($node, "SELECT count(*) FROM app.got WHERE queue = 'again'", '10', 'messages are handled', dbname => 'shop');
$node->safe_psql('shop', "SELECT sqs_disable_queue('again')");
query_is($node, "SELECT count(*) FROM sqs_stats_workers WHERE queue = 'again'", '0', 'and not deleted', dbname => 'shop');
$sqs->clear_faults($fault);

# The owner of a queue is dropped.
my $gone = $node->safe_psql('postgres', "SELECT 'gone'::regrole::oid");
$node->safe_psql('shop', 'DROP OWNED BY gone; DROP ROLE gone');
$sqs->fill('gone', 1, body => 'for gone');

# ---- business

my $filled = 0;
my $writers;

sub start_business
{
	my $file = "$tmp/writer.sql";
	unlink $file;
	append_to_file($file, <<'EOQ');
\set n random(1, 5)
INSERT INTO sqs_outbox (queue, body) SELECT 'busy', 'busy ' || gen_random_uuid() FROM generate_series(1, :n);
EOQ
	$writers = IPC::Run::start(
		[ 'pgbench', '-n', '-c', '2', '-R', '40', '-T', '3600', '-f', $file, '-U', 'app', 'shop' ],
		'<', \undef, '>', "$tmp/writer.out", '2>', "$tmp/writer.err");
	return;
}

sub more_messages
{
	$sqs->fill('in', 20, body => 'in {i}', start => $filled + 1);
	$filled += 20;
	return;
}

sub stop_business
{
	# the signal that ends its time: a client that is killed may have been in the
	# middle of something, and the server's log would tell of a lost connection
	$writers->signal('ALRM');
	ok($writers->finish, 'no writer met an error') or diag(slurp_file("$tmp/writer.err"));
	undef $writers;
	return;
}

sub business_is_well
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	query_is($node, "SELECT count(*), count(DISTINCT body) FROM app.got WHERE queue = 'in'", "$filled|$filled",
		"$name: the original handles each message once", dbname => 'shop', timeout => 120);
	return;
}

# ---- copies

my $copies = 0;

# In a copy nothing happens.  One queue is disabled in the original and enabled
# in the copy: nobody but the copy would send its rows.
sub is_dormant
{
	my ($node, $db, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $got = "SELECT count(*) FROM app.got";
	my $rows = 'SELECT count(*), md5(string_agg(id || queue, chr(44) ORDER BY id)) FROM sqs_outbox';
	my $before = $node->safe_psql($db, $got);
	my $rows_before = $node->safe_psql($db, $rows);

	# what the copy's owners may try
	$node->psql(
		$db,
		join(';', map({ "SELECT sqs_enable_queue('$_')" } 'held', 'held.fifo', 'timed', 'again'),
			map({ "SELECT sqs_alter_queue('$_')" } 'in', 'busy', 'held', 'again')),
		extra_params => [ '-U', 'app' ], on_error_stop => 0);
	foreach my $role ('app', 'dbo', 'pw')
	{
		my (undef, undef, $stderr) =
		  $node->psql($db, "SELECT sqs_adopt_queues('send')", extra_params => [ '-U', $role ]);
		like($stderr, qr/permission denied|superuser/, "$name: $role cannot adopt its queues");
	}
	foreach my $call ("'all'", 'NULL', '', "'SEND'", "'send', true")
	{
		my (undef, undef, $stderr) = $node->psql($db, "SELECT sqs_adopt_queues($call)");
		like($stderr, qr/ERROR/, "$name: sqs_adopt_queues($call) is an error");
	}
	seconds_pass($main::node, 2, "$name: time passes");
	is($node->safe_psql($db, $got), $before, "$name: nothing is received");
	is($node->safe_psql($db, $rows), $rows_before, "$name: no row leaves the outbox");
	is($sqs->stats($_)->{sent}, 0, "$name: nothing is sent to $_") foreach ('held', 'held.fifo', 'timed');
	query_is($node, "SELECT count(*) FROM sqs_stats_workers WHERE database = '$db' AND kind <> 'database worker'",
		'0', "$name: no worker runs", dbname => $db);
	query_is($node, "SELECT string_agg(DISTINCT state || CASE WHEN last_error LIKE '%sqs\\_adopt\\_queues%' THEN ' and why' ELSE ' ' || COALESCE(last_error, 'no reason') END, ', ')
			FROM sqs_stats WHERE queue IN ('in', 'busy')", 'error and why', "$name: the view says why", dbname => $db);
	is( $node->safe_psql($db, "SELECT count(*) FROM sqs_outbox_failures"), '0', "$name: no row has failed");
	is( $node->safe_psql($db, $rules), $main::node->safe_psql('shop', $rules), "$name: the error rules are the same");
	is( $node->safe_psql($db, $routes), $main::node->safe_psql('shop', $routes), "$name: the routes are the same");
	my (undef, undef, $stderr) =
	  $node->psql($db, "SELECT sqs_send('busy', 'from a copy')", extra_params => [ '-U', 'app' ]);
	like($stderr, qr/ERROR:.*copy|adopt/s, "$name: nor can be sent by hand");
	is( $node->safe_psql($db, "SELECT sqs_enqueue('busy', 'stored in the copy, $db') > 0", extra_params => [ '-U', 'app' ]),
		't', "$name: the outbox takes rows");
	# they come after those of their group that were copied
	my $last = 1000000 + $copies;
	$node->safe_psql($db, "SELECT sqs_enqueue('held.fifo', g || ' $last', group_id => 'g' || g) FROM generate_series(1, 3) g",
		extra_params => [ '-U', 'app' ]);
	return;
}

# Adopts the copy, which from then on has an SQS server of its own, and works.
sub adopt
{
	my ($node, $db, $waiting, $name) = @_;
	my $own = start_sqs(queues => [@queues]);
	my $endpoint = $own->endpoint;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$node->safe_psql($db, "ALTER SERVER aws OPTIONS (SET endpoint '$endpoint')");
	my %expected = map { $_ => 1 } split /\n/, $node->safe_psql($db, "SELECT queue || ': ' || body FROM sqs_outbox");
	cmp_ok(scalar(keys %expected), '>=', 4 * (4 * $nrows + 29 + 3), "$name: rows wait");
	%expected = () if $waiting eq 'discard';

	$node->safe_psql($db, "SELECT sqs_adopt_queues('$waiting')");
	is($node->safe_psql($db, 'SELECT count(*) FROM sqs_queues WHERE enabled'), '0',
		"$name: nothing is taken from the original's queues") if $waiting eq 'discard';
	$node->safe_psql($db, "SELECT sqs_enable_queue(name) FROM sqs_queues WHERE owner = 'app'",
		extra_params => [ '-U', 'app' ]);
	is( $node->safe_psql($db, $routes), $main::node->safe_psql('shop', $routes), "$name: routes can be used");
	$own->fill('in', 10, body => 'adopted {i}');
	query_is($node, "SELECT count(*) FROM app.got WHERE body LIKE 'adopted %'", '10', "$name: messages are handled",
		dbname => $db, timeout => 90);
	query_is($node, 'SELECT count(*) FROM sqs_outbox', '0', "$name: no row is left", dbname => $db, timeout => 120);
	$node->safe_psql($db, "SELECT sqs_enqueue('busy', 'after all')", extra_params => [ '-U', 'app' ]);
	$expected{'busy: after all'} = 1;
	query_is($node, 'SELECT count(*) FROM sqs_outbox', '0', "$name: new ones are sent", dbname => $db);

	my (%times, @wrong);
	foreach my $queue (qw(busy held held.fifo timed))
	{
		$times{"$queue: $_->{body}"}++ foreach @{ $own->messages($queue) };
	}
	foreach my $row (sort keys %{ { %times, %expected } })
	{
		my $n = $times{$row} || 0;
		push @wrong, "$row: $n times" if $n != ($expected{$row} || 0);
	}
	is(scalar(@wrong), 0, "$name: each row is sent " . ($waiting eq 'send' ? 'once' : 'no more'))
	  or diag(join "\n", @wrong[ 0 .. ($#wrong < 9 ? $#wrong : 9) ]);
	foreach my $g (1 .. 3)
	{
		my @order = map { /^$g (\d+)$/ ? $1 : () } map { $_->{body} } @{ $own->messages('held.fifo') };
		is("@order", join(' ', sort { $a <=> $b } @order), "$name: group $g is in its order");
	}
	is( $node->safe_psql($db, 'SELECT count(*) FROM sqs_outbox_failures'), '0', "$name: no row has failed");
	is( $node->safe_psql($db, "SELECT count(*) FROM sqsbridge_internal.outbox_batches"), '0', "$name: nothing is left over");
	query_is($node, "SELECT string_agg(DISTINCT state, ', ') FROM sqs_stats WHERE queue IN ('in', 'again')", 'polling',
		"$name: it is like any other", dbname => $db);
	$own->stop_sqs;
	return;
}

sub drop_copy
{
	my ($db) = @_;
	$node->safe_psql('postgres', "DROP DATABASE $db");
	return;
}

# Programs of PostgreSQL's, which connect to the original's server.
sub shell_ok
{
	my ($command, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $status = system('bash', '-c', "set -o pipefail; ( $command ) >$tmp/out 2>&1");
	return is($status, 0, $name . ': ' . ($command =~ s/\Q$tmp\E\///gr)) || diag(slurp_file("$tmp/out"));
}

sub restored
{
	my ($name, @commands) = @_;
	my $db = 'copy' . ++$copies;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql('postgres', "CREATE DATABASE $db OWNER dbo");
	foreach my $command (@commands)
	{
		$command =~ s/COPY/$db/g;
		shell_ok($command, $name);
	}
	return $db;
}

start_business();

# ---- pg_dump and back

my $round = sub {
	my ($name, $waiting, @commands) = @_;
	more_messages();
	my $db = restored($name, @commands);
	is_dormant($node, $db, $name);
	adopt($node, $db, $waiting, $name);
	business_is_well($name);
	drop_copy($db);
	return;
};
my $dump = "pg_dump -Fc -f $tmp/dump -d shop";
my $dump_dir = "rm -rf $tmp/dir; pg_dump -Fd -j 3 -f $tmp/dir -d shop";

$round->('psql', 'send', "pg_dump -d shop > $tmp/sql && psql -X -v ON_ERROR_STOP=1 -d COPY -f $tmp/sql");
$round->('pg_restore -j', 'send', $dump, "pg_restore -j 4 -d COPY $tmp/dump");
$round->('a directory, pg_restore -j', 'discard', $dump_dir, "pg_restore -j 4 -d COPY $tmp/dir");
$round->('one transaction', 'discard', $dump, "pg_restore -1 -d COPY $tmp/dump");
$round->('INSERTs', 'send', "pg_dump --column-inserts --rows-per-insert=100 -d shop > $tmp/sql && psql -X -q -v ON_ERROR_STOP=1 -d COPY -f $tmp/sql");
$round->('data apart', 'send', $dump, "pg_restore --section=pre-data -d COPY $tmp/dump", "sleep 1",
	"pg_restore --section=data -d COPY $tmp/dump", "sleep 1", "pg_restore --section=post-data -j 4 -d COPY $tmp/dump");

# ... the guards stand afterwards
{
	my $name = '--data-only --disable-triggers';
	more_messages();
	my $db = restored($name, $dump, "pg_restore --schema-only -d COPY $tmp/dump",
		"pg_restore --data-only --disable-triggers -d COPY $tmp/dump");
	is_dormant($node, $db, $name);
	foreach my $statement (
		"UPDATE sqsbridge_internal.queues SET name = name",
		"DELETE FROM sqsbridge_internal.outbox_rows",
		"INSERT INTO sqsbridge_internal.inbox SELECT (NULL::sqsbridge_internal.inbox).*")
	{
		my (undef, undef, $stderr) = $node->psql($db, $statement, extra_params => [ '-U', 'pw' ]);
		like($stderr, qr/can be changed only by extension sqsbridge|permission denied/, "$name: pw: $statement: is refused");
	}
	adopt($node, $db, 'send', $name);
	drop_copy($db);
}

# ---- by roles that are no superusers

$round->('as pg_read_all_data', 'send', "pg_dump -U reader -d shop > $tmp/sql",
	"psql -X -q -d COPY -f $tmp/sql",
	# what only a superuser can dump
	q{psql -X -q -d COPY -c "ALTER USER MAPPING FOR PUBLIC SERVER aws OPTIONS (access_key_id 'AKIDTEST', secret_access_key 'secret')"});
{
	$node->safe_psql('postgres', 'CREATE DATABASE plain OWNER dbo');
	$node->safe_psql('plain', 'SET ROLE dbo; CREATE TABLE t (x int); INSERT INTO t VALUES (1)');
	command_ok([ 'pg_dump', '-U', 'dbo', '-f', "$tmp/sql", '-d', 'plain' ], 'an owner can dump his database');
	setup_database($node, $sqs, dbname => 'plain');
	$node->safe_psql('plain', <<'EOQ');
GRANT USAGE ON FOREIGN SERVER aws TO dbo;
SET ROLE dbo;
SELECT sqs_register_queue('held', server => 'aws');
SELECT sqs_disable_queue('held');
INSERT INTO sqs_outbox (queue, body) VALUES ('held', 'of the owner');
EOQ
	command_ok([ 'pg_dump', '-U', 'dbo', '-f', "$tmp/sql", '-d', 'plain' ], 'with the extension in it, too');
	like(slurp_file("$tmp/sql"), qr/of the owner/, 'with the rows that wait');
	$node->safe_psql('postgres', 'DROP DATABASE plain');
}

# ---- the tables' contents, into a database that works

foreach my $waiting ('discard', 'send')
{
	my $name = "rows come back, $waiting";
	my $own = start_sqs(queues => [ 'held', 'busy' ]);
	$node->safe_psql('postgres', 'CREATE DATABASE works OWNER dbo');
	setup_database($node, $own, dbname => 'works');
	$node->safe_psql('works', <<'EOQ');
SELECT sqs_register_queue(q, server => 'aws') FROM unnest(ARRAY['held', 'busy']) q;
SELECT sqs_disable_queue('held');
INSERT INTO sqs_outbox (queue, body) SELECT 'held', 'lost ' || i FROM generate_series(1, 3) i;
SELECT sqs_enqueue('held', 'lost 4', delay => '1 s');
EOQ
	shell_ok("pg_dump -Fc -f $tmp/rows -d works", $name);
	$node->safe_psql('works', "SELECT sqs_enable_queue('held')");
	query_is($node, "SELECT sent, waiting, scheduled FROM sqs_stats_outbox WHERE queue = 'held'", '4|0|0', "$name: rows are sent",
		dbname => 'works');
	shell_ok("pg_restore --data-only -t outbox_rows -t outbox_batches -d works $tmp/rows", $name);
	$node->safe_psql('works', "INSERT INTO sqs_outbox (queue, body) VALUES ('held', 'new')");
	query_is($node, "SELECT sent, waiting FROM sqs_stats_outbox WHERE queue = 'held'", '5|4', "$name: what is new is sent",
		dbname => 'works');
	my (undef, undef, $stderr) = $node->psql('works', "SELECT sqs_adopt_queues('$waiting')");
	like($stderr, $waiting eq 'send' ? qr/^$/ : qr/NOTICE:  discarded 4 messages of the outbox, and disabled 0 queues/,
		"$name: sqs_adopt_queues() says what it discards");
	$node->safe_psql('works', "SELECT sqs_enqueue('held', 'after')");
	query_is($node, "SELECT waiting, scheduled FROM sqs_stats_outbox WHERE queue = 'held'", '0|0', "$name: no row is left",
		dbname => 'works');
	is(join(', ', sort map { $_->{body} } @{ $own->messages('held') }),
		join(', ', 'after', (map { ("lost $_") x ($waiting eq 'send' ? 2 : 1) } 1 .. 4), 'new'),
		"$name: what was restored is " . ($waiting eq 'send' ? 'sent' : 'not sent') . ' again');
	$node->safe_psql('postgres', 'DROP DATABASE works');
	$own->stop_sqs;
}

# ---- back into the database that it came from

{
	my $name = 'pg_restore --clean';
	stop_business();
	more_messages();
	business_is_well($name);
	my $db = restored($name, $dump, "pg_restore -d COPY $tmp/dump");
	my $own = start_sqs(queues => [@queues]);
	$node->safe_psql($db, "ALTER SERVER aws OPTIONS (SET endpoint '" . $own->endpoint . "')");
	$node->safe_psql($db, "SELECT sqs_adopt_queues('discard'); SELECT sqs_enable_queue(name) FROM sqs_queues WHERE owner = 'app'");
	query_is($node, "SELECT state FROM sqs_stats WHERE queue = 'in'", 'polling', "$name: a database that works",
		dbname => $db);
	$own->stop_sqs;
	# (the rows are not those that are gone: they are the dump's)
	shell_ok("pg_restore --clean --if-exists -d $db $tmp/dump", $name);
	is_dormant($node, $db, $name);
	adopt($node, $db, 'send', $name);
	shell_ok("pg_restore --clean --create -d postgres $tmp/dump", 'pg_restore --clean --create');
	is_dormant($node, 'shop', '--create');
	$node->safe_psql('shop', "SELECT sqs_disable_queue(q) FROM unnest(ARRAY['held', 'held.fifo', 'timed', 'again']) q");
	$node->safe_psql('shop', "SELECT sqs_adopt_queues('send')");
	more_messages();
	business_is_well('--create, adopted');
	drop_copy($db);
}

# ---- CREATE DATABASE ... TEMPLATE

foreach my $strategy ('WAL_LOG', 'FILE_COPY')
{
	my $name = "TEMPLATE, $strategy";
	my $db = 'copy' . ++$copies;
	$node->safe_psql('postgres', "CREATE DATABASE $db OWNER dbo TEMPLATE shop STRATEGY $strategy");
	more_messages();
	is_dormant($node, $db, $name);
	adopt($node, $db, $strategy eq 'WAL_LOG' ? 'send' : 'discard', $name);
	business_is_well($name);
	drop_copy($db);
}

# ---- what was handled is remembered

{
	my $name = 'handled before';
	my $db = restored($name, $dump, "pg_restore -d COPY $tmp/dump");
	$sqs->advance(5);
	is($sqs->counts('again')->{visible}, 10, "$name: SQS has the messages still");
	$node->safe_psql($db, "SELECT sqs_disable_queue(name) FROM sqs_queues; SELECT sqs_adopt_queues('discard'); SELECT sqs_enable_queue('again')");
	$sqs->is_empty('again', "$name: they are deleted");
	is($node->safe_psql($db, "SELECT count(*) FROM app.got WHERE queue = 'again'"), '10', "$name: and not handled again");
	drop_copy($db);
}

# ---- another cluster, where names and numbers are other people's

{
	my $name = 'another cluster';
	my $other = new_node('other', conf => $conf, init => [ force_initdb => 1 ]);
	# so that no number is the same by accident
	$other->safe_psql('postgres', join(';', map { "CREATE ROLE r$_" } 1 .. 40));
	roles($other);
	# somebody else has the number of a role that was dropped
	my $has = $other->safe_psql('postgres', "SELECT rolname FROM pg_roles WHERE oid = $gone");
	$other->safe_psql('postgres', $has ne '' ? "ALTER ROLE $has RENAME TO mallory" : <<EOQ);
CREATE ROLE mallory;
SET allow_system_table_mods = on;
UPDATE pg_authid SET oid = $gone WHERE rolname = 'mallory';
EOQ
	$other->safe_psql('postgres', 'ALTER ROLE mallory SUPERUSER LOGIN; CREATE DATABASE shop OWNER dbo');
	shell_ok("pg_restore -j 2 -h " . $other->host . " -p " . $other->port . " -d shop $tmp/dump", "$name: pg_restore");
	is_dormant($other, 'shop', $name);
	adopt($other, 'shop', 'send', $name);
	query_is($other, "SELECT state, last_error ~ 'owner|role' FROM sqs_stats WHERE queue = 'gone'", 'error|t',
		"$name: the queue of a role that was dropped is nobody's", dbname => 'shop');
	is($other->safe_psql('shop', "SELECT count(*) FROM app.got WHERE queue = 'gone' OR who = 'mallory'"), '0',
		"$name: its handler has not been run by whoever has the number");
	$other->stop;
	check_log($other, qr/\] 031_restore\.pl ERROR:/, qr/\] pg_restore ERROR:/,
		qr/WARNING:  queue "gone" is adopted, but cannot work/);
}

# ---- pg_upgrade, if only to the same version

{
	my $name = 'pg_upgrade';
	my $own = start_sqs(queues => [ 'in,VisibilityTimeout=3', 'out', 'held', 'timed' ]);
	my $old = new_node('old', conf => $conf);
	roles($old);
	setup_database($old, $own);
	$old->safe_psql('postgres', <<'EOQ');
GRANT USAGE ON FOREIGN SERVER aws TO app;
CREATE SCHEMA app AUTHORIZATION app;
SET ROLE app;
CREATE TABLE app.got (body text);
CREATE FUNCTION app.handle(m sqs_message) RETURNS void LANGUAGE sql AS 'INSERT INTO app.got VALUES (m.body)';
SELECT sqs_register_queue('in', server => 'aws', handler => 'app.handle', wait_time => '1 s');
SELECT sqs_register_queue(q, server => 'aws') FROM unnest(ARRAY['out', 'held', 'timed']) q;
SELECT sqs_disable_queue('held');
INSERT INTO sqs_outbox (queue, body) SELECT 'held', 'held ' || i FROM generate_series(1, 5) i;
SELECT sqs_enqueue('timed', 'timed', delay => '1 s'), sqs_enqueue('timed', 'tomorrow', delay => '1 day');
EOQ
	my $fault = $own->fault(kind => 'error', status => 503, code => 'ServiceUnavailable', action => 'DeleteMessageBatch');
	$own->fill('in', 5, body => 'in {i}');
	query_is($old, 'SELECT count(*) FROM app.got', '5', "$name: messages are handled");
	query_is($old, "SELECT waiting, scheduled FROM sqs_stats_outbox WHERE queue = 'timed'", '0|1', "$name: and sent");
	$old->safe_psql('postgres', "SELECT sqs_disable_queue(q) FROM unnest(ARRAY['in', 'timed']) q; SELECT sqs_enqueue('timed', 'due')");
	query_is($old, "SELECT count(*) FROM sqs_stats_workers WHERE queue = 'in'", '0', "$name: and not deleted");
	$old->stop;
	$own->clear_faults($fault);

	my $new = new_node('new', conf => $conf, start => 0, init => [ force_initdb => 1 ]);
	my $bin = $new->config_data('--bindir');
	# a socket's path has to be short
	my $short = PostgreSQL::Test::Utils::tempdir_short();
	shell_ok("cd $tmp && pg_upgrade --no-sync -b $bin -B $bin -d " . $old->data_dir . ' -D ' . $new->data_dir
		  . " -s $short -p " . $old->port . ' -P ' . $new->port, $name);
	$new->start;
	$new->safe_psql('postgres', "SELECT sqs_enqueue('out', 'from the new one')", extra_params => [ '-U', 'app' ]);
	seconds_pass($node, 4, "$name: time passes");
	is($new->safe_psql('postgres', 'SELECT count(*) FROM sqs_outbox'), '8', "$name: the rows are there, and none is sent");
	query_is($new, "SELECT count(*) FROM sqs_stats WHERE last_error LIKE '%sqs\_adopt\_queues%'", '4', "$name: the view says why");
	$new->safe_psql('postgres', "SELECT sqs_adopt_queues('send')");
	$new->safe_psql('postgres', 'SELECT sqs_enable_queue(name) FROM sqs_queues', extra_params => [ '-U', 'app' ]);
	$own->fill('in', 3, body => 'later {i}');
	query_is($new, "SELECT count(*) FROM app.got WHERE body LIKE 'later %'", '3', "$name: messages are handled after it");
	$own->is_empty('in', "$name: those handled before are deleted");
	is($new->safe_psql('postgres', "SELECT count(*) FROM app.got WHERE body LIKE 'in %'"), '5', "$name: and not handled again");
	query_is($new, 'SELECT sum(waiting), sum(scheduled) FROM sqs_stats_outbox', '0|1', "$name: what waited is sent");
	is(join(', ', sort map { $_->{body} } map { @{ $own->messages($_) } } 'out', 'held', 'timed'),
		'due, from the new one, ' . join(', ', map { "held $_" } 1 .. 5) . ', timed', "$name: once");
	$new->stop;
	check_log($_, qr/\] 031_restore\.pl ERROR:/) foreach ($old, $new);
	$own->stop_sqs;
}

# ---- logical replication

{
	my $name = 'a subscriber';
	my $other = new_node('subscriber', conf => $conf, init => [ force_initdb => 1 ]);
	my $connection = sql_literal($node->connstr('shop'));
	roles($other);
	$other->safe_psql('postgres', 'CREATE DATABASE shop OWNER dbo');
	shell_ok("pg_restore --section=pre-data --section=post-data -h " . $other->host . " -p " . $other->port
		  . " -d shop $tmp/dump", "$name: has the same objects");
	$node->safe_psql('shop', 'CREATE PUBLICATION everything FOR ALL TABLES');
	$other->safe_psql('shop', "CREATE SUBSCRIPTION copy CONNECTION $connection PUBLICATION everything");
	query_is($other, "SELECT count(*) FROM app.got WHERE queue = 'in'", $filled, "$name: gets the data", dbname => 'shop',
		timeout => 120);
	more_messages();
	business_is_well($name);
	query_is($other, "SELECT count(*) FROM app.got WHERE queue = 'in'", $filled, "$name: and what comes later", dbname => 'shop');
	# a copy of a table that is interrupted may have lost its slot
	query_is($other, "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'", '0', "$name: all tables are copied",
		dbname => 'shop', timeout => 120);
	$other->restart;
	seconds_pass($node, 4, "$name: time passes");
	is($other->safe_psql('shop', "SELECT count(*) FROM sqs_stats_workers WHERE kind IN ('queue worker', 'handler worker')"),
		'0', "$name: receives nothing by itself");
	more_messages();
	business_is_well("$name, restarted");
	query_is($other, "SELECT count(*) FROM app.got WHERE queue = 'in'", $filled, "$name: and still gets what comes",
		dbname => 'shop');
	$other->safe_psql('shop', 'DROP SUBSCRIPTION copy');
	$node->safe_psql('shop', 'DROP PUBLICATION everything');
	$other->stop;
	check_log($other, qr/terminating logical replication worker/, qr/\] 031_restore\.pl ERROR:/,
		qr/background worker "logical replication/);
}

# ---- many times, for what depends on the moment

start_business();
foreach my $i (1 .. ($long ? 200 : 3))
{
	more_messages();
	my $name = "round $i";
	my $db = restored($name, "pg_dump -Fc -f $tmp/dump -d shop",
		$i % 2 ? "pg_restore -j 4 -d COPY $tmp/dump" : "pg_restore -f - $tmp/dump | psql -X -q -v ON_ERROR_STOP=1 -d COPY");
	is($sqs->stats($_)->{sent}, 0, "$name: nothing is sent to $_") foreach ('held', 'held.fifo', 'timed');
	adopt($node, $db, $i % 4 ? 'send' : 'discard', $name);
	business_is_well($name);
	drop_copy($db);
}
stop_business();

query_is($node, "SELECT count(*) FROM sqs_outbox WHERE queue = 'busy'", '0', 'the original sends all it has', dbname => 'shop',
	timeout => 120);
my %times;
$times{ $_->{body} }++ foreach @{ $sqs->messages('busy') };
my @twice = grep { $times{$_} > 1 } keys %times;
is(scalar(@twice), 0, 'once each') or diag("@twice[0 .. ($#twice < 9 ? $#twice : 9)]");
is( $node->safe_psql('shop', "SELECT count(*) FROM app.got WHERE queue = 'gone'"), '0', 'nothing is handled for a role that is gone');
$node->stop;
check_log($node, qr/FATAL:  role with OID \d+ does not exist/,    # a handler of a role that was dropped
	qr/"sqsbridge handler worker" \(PID \d+\) exited with exit code 1/, qr/\] 031_restore\.pl ERROR:/, qr/WARNING:  queue "gone" is adopted, but cannot work/, qr/\] psql ERROR:/, qr/\] pg_restore ERROR:/, qr/\] pgbench /,
	qr/terminating walsender|"logical replication/,
	# a subscription is dropped while its first data are copied
	qr/\] pg_\d+_sync_\d+_\d+ FATAL:  connection to client lost/);
$sqs->stop_sqs;
done_testing();
