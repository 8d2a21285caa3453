# What roles without much privilege try against the bridge: to become somebody
# else, to stop it, to have it talk to the wrong host or run the wrong function.  An honest role, "app", has a queue that is received from and
# one that is sent to all the while: after each attack, and while it goes on,
# everybody is who he was, each of app's messages has been handled once, and
# each row of its outbox has been sent once.
#
#   nobody_  may connect, and has a schema of his own
#   low      the same, and USAGE on the foreign server
#   dbo      owns the database
#   pw       member of pg_write_all_data
#   pwr      of pg_read_all_data too: may lock rows
#   pm       member of pg_maintain (17 and later)
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SqsTest;

need_sqsd();

# who has which keys, and nobody else's are taken
our $sqs = start_sqs(
	args => [
		'--access-key', 'AKIDAPP', '--secret-key', 'hush-of-app', '--access-key', 'AKIDLOW', '--secret-key', 'hush-of-low',
		'--access-key', 'AKIDENV', '--secret-key', 'hush-of-env', map { ('--queue', $_) } (
			'dead', 'orders,VisibilityTimeout=30,dlq=dead:1', 'billing', 'refused', 'parked', 'spare', 'ticker', 'bound',
			'moved', 'forged', 'boss')
	]);
my $evil = start_sqs(queues => [ 'moved', 'orders', 'billing' ]);
# what the environment of a database server in a container may have
$ENV{AWS_ACCESS_KEY_ID} = 'AKIDENV';
$ENV{AWS_SECRET_ACCESS_KEY} = 'hush-of-env';
my $node = new_node('main', conf => "max_worker_processes = 60\nsqsbridge.max_workers = 60\n");
my $major = (split /\./, $node->safe_psql('postgres', "SHOW server_version_num") / 10000)[0];
my $super = $node->safe_psql('postgres', 'SELECT rolname FROM pg_roles WHERE oid = 10');
my @attackers = ('nobody_', 'low', 'dbo', 'pw', 'pwr', $major >= 17 ? 'pm' : ());
my $endpoint = $sqs->endpoint;

sub as
{
	my ($role, $query, %o) = @_;
	return $node->safe_psql($o{dbname} || 'postgres', $query, extra_params => [ '-U', $role ]);
}

sub super
{
	my ($query, $db) = @_;
	return $node->safe_psql($db || 'postgres', $query);
}

# As a careful user would set keys, without a word in the log.
sub with_keys
{
	my ($query) = @_;
	local $ENV{PGOPTIONS} = '-c log_min_messages=panic -c log_min_error_statement=panic';
	return super($query);
}

# Runs each statement by itself, and returns their errors, '' for none, with
# the SQLSTATE first.  What has to wait for a lock fails for that.
sub attempts
{
	my ($role, @statements) = @_;
	my $sql = "\\set VERBOSITY verbose\nSET client_min_messages = error; SET lock_timeout = '100ms';\n";
	my @errors = ('') x @statements;

	$sql .= "\\warn attempt $_\n$statements[$_];\n" foreach 0 .. $#statements;
	my (undef, undef, $stderr) =
	  $node->psql('postgres', $sql, extra_params => [ '-U', $role ], on_error_stop => 0, timeout => 600);
	my $current;
	foreach my $line (split /\n/, $stderr)
	{
		$current = $1 if $line =~ /^attempt (\d+)$/;
		$errors[$current] ||= $1 if defined $current && $line =~ /(?:ERROR|FATAL):  (.*)/;
		die "$role: $line" if $line =~ /connection to server was lost/;
	}
	die "$role: $stderr" unless defined $current && $current == $#statements;
	return @errors;
}

# One statement that must be refused, for the reason that is given.
sub refused
{
	my ($role, $query, $pattern, $name) = @_;
	my ($error) = attempts($role, $query);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return like($error, $pattern, "$role: $name: refused");
}

# ---- the world

$node->safe_psql('postgres', <<EOQ);
CREATE EXTENSION sqsbridge;
CREATE SERVER aws FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '$endpoint');
CREATE ROLE app LOGIN;
CREATE SCHEMA app AUTHORIZATION app;
ALTER ROLE app SET search_path = app, public;
CREATE ROLE nobody_ LOGIN;
CREATE ROLE low LOGIN;
CREATE ROLE dbo LOGIN;
CREATE ROLE pw LOGIN IN ROLE pg_write_all_data;
CREATE ROLE pwr LOGIN IN ROLE pg_write_all_data, pg_read_all_data;
CREATE ROLE boss LOGIN SUPERUSER;
ALTER DATABASE postgres OWNER TO dbo;
GRANT USAGE ON FOREIGN SERVER aws TO app, low;
EOQ
super('CREATE ROLE pm LOGIN IN ROLE pg_maintain') if $major >= 17;
foreach my $role (@attackers)
{
	super(<<EOQ);
CREATE SCHEMA $role AUTHORIZATION $role;
GRANT USAGE ON SCHEMA $role TO PUBLIC;
SET ROLE $role;
CREATE TABLE $role.ran (what text, who text DEFAULT session_user || '/' || current_user);
GRANT INSERT ON $role.ran TO PUBLIC;
CREATE TABLE $role.mine (x int);
CREATE TABLE $role.parted (x int) PARTITION BY LIST (x);
-- what each of them would like to have run
CREATE FUNCTION $role.climb(what text) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
  INSERT INTO $role.ran VALUES (what);
  EXECUTE 'ALTER ROLE $role SUPERUSER';
EXCEPTION WHEN insufficient_privilege THEN
  INSERT INTO $role.ran VALUES (what);
END \$\$;
CREATE FUNCTION $role.climb_trigger() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
  PERFORM $role.climb(TG_OP || ' ' || TG_TABLE_NAME);
  RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END \$\$;
CREATE FUNCTION $role.evil(m sqs_message) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
  PERFORM $role.climb('message ' || m.body);
END \$\$;
EOQ
}
with_keys(<<EOQ);
CREATE USER MAPPING FOR app SERVER aws OPTIONS (access_key_id 'AKIDAPP', secret_access_key 'hush-of-app');
CREATE USER MAPPING FOR boss SERVER aws OPTIONS (access_key_id 'AKIDAPP', secret_access_key 'hush-of-app');
CREATE USER MAPPING FOR low SERVER aws OPTIONS (access_key_id 'AKIDLOW', secret_access_key 'hush-of-low');
EOQ
as('app', <<'EOQ');
CREATE TABLE got (body text, message_id text, who text DEFAULT session_user || '/' || current_user);
CREATE FUNCTION handle(m sqs_message) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF m.body LIKE 'poison%' THEN
    RAISE 'this one is poison: %', m.body;
  END IF;
  IF m.body LIKE 'wait%' THEN
    PERFORM pg_advisory_xact_lock_shared(1);
  END IF;
  INSERT INTO app.got VALUES (m.body, m.message_id);
  PERFORM public.sqs_enqueue('billing', 'from ' || m.body);
END $$;
SELECT sqs_register_queue('orders', server => 'aws', handler => 'handle', concurrency => 2, wait_time => '1 s',
	retry_delay => '0 s');
SELECT sqs_register_queue('ticker', server => 'aws', handler => 'handle', wait_time => '1 s');
SELECT sqs_register_queue(q, server => 'aws') FROM unnest(ARRAY['billing', 'refused', 'parked']) q;
SELECT sqs_disable_queue('parked');
INSERT INTO sqs_outbox (queue, body) SELECT 'parked', 'parked ' || i FROM generate_series(1, 2) i;
SELECT sqs_enqueue('parked', 'parked for long', delay => '1 year');
EOQ
$sqs->fault(kind => 'entry_fail', action => 'SendMessageBatch', queue => 'refused',
	code => 'InvalidMessageContents', message => 'not this', sender_fault => JSON::PP::true());

# Who everybody is and what he may do, and whose and how the extension's objects
# are, as one text.
sub powers
{
	return super(<<'EOQ');
SELECT classid::regclass || ' ' || pg_describe_object(classid, objid, 0) || ': ' ||
	COALESCE(c.relacl, n.nspacl, p.proacl, w.fdwacl)::text || ' ' ||
	concat_ws(' ', c.relowner, c.relrowsecurity, c.relreplident, c.relhasrules, c.relhastriggers, c.reloptions, n.nspowner,
		p.proowner, p.prosecdef, p.proconfig, w.fdwowner)
FROM pg_depend d
LEFT JOIN pg_class c ON c.oid = objid AND classid = 'pg_class'::regclass
LEFT JOIN pg_namespace n ON n.oid = objid AND classid = 'pg_namespace'::regclass
LEFT JOIN pg_proc p ON p.oid = objid AND classid = 'pg_proc'::regclass
LEFT JOIN pg_foreign_data_wrapper w ON w.oid = objid AND classid = 'pg_foreign_data_wrapper'::regclass
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'sqsbridge')
UNION ALL
SELECT concat_ws(' ', srvname, srvowner, srvacl, srvoptions) FROM pg_foreign_server
UNION ALL
SELECT concat_ws(' ', rolname, CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
	CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolreplication THEN 'REPLICATION' END,
	CASE WHEN rolbypassrls THEN 'BYPASSRLS' END,
	(SELECT string_agg(roleid::regrole::text, ' ' ORDER BY roleid) FROM pg_auth_members m WHERE member = r.oid))
FROM pg_roles r WHERE rolname !~ '^pg_' ORDER BY 1
EOQ
}
my $powers = powers();

# Nobody has more power than before, and nothing of an attacker's has run.
# Should it be otherwise, that is mended, for the sake of the tests to come.
sub nobody_climbed
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my %before = map { $_ => 1 } split /\n/, $powers;
	my %after = map { $_ => 1 } split /\n/, powers();
	is(join("\n", (map { "gone: $_" } grep { !$after{$_} } sort keys %before),
			(map { "new: $_" } grep { !$before{$_} } sort keys %after)), '', "$name: everybody is who he was");
	is(super(join(' UNION ALL ', map { "SELECT '$_: ' || what || ' as ' || who FROM $_.ran" } @attackers)),
		'', "$name: nothing of an attacker's has been run by anybody else");
	super(join(' ', map { "ALTER ROLE $_ NOSUPERUSER; TRUNCATE $_.ran;" } @attackers));
	return;
}

# Messages of app's, those that are received and those that are sent, with
# failures of both kinds among them.
my %sent;
my $rounds = 0;

sub traffic_goes_on
{
	my ($name, $timeout) = @_;
	my $r = 'round ' . ++$rounds;
	my $rows = 15;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$sqs->fill('orders', 4, body => "$r, {i}", start => 1);
	$sqs->fill('orders', 1, body => "poison $r");
	my (undef, undef, $stderr) = $node->psql('postgres', <<EOQ, extra_params => [ '-U', 'app' ]);
SET statement_timeout = '10s';
INSERT INTO sqs_outbox (queue, body)
SELECT CASE WHEN i = 4 THEN 'refused' ELSE 'billing' END, '$r, row ' || i FROM generate_series(1, $rows) i
EOQ
	unlike($stderr, qr/ERROR|FATAL/, "$name: the outbox takes rows");
	$sent{$_} = 1 foreach (map({ "from $r, $_" } 1 .. 4), map({ "$r, row $_" } grep { $_ != 4 } 1 .. $rows));
	# (what is locked may be a view that is read here)
	my @soon = (timeout => $timeout || 60);
	my $set = "SET statement_timeout = '5s';";
	query_is($node, "$set SELECT count(*) FROM app.got WHERE body LIKE '$r, %'", '4', "$name: messages are handled", @soon);
	query_is($node, "$set SELECT count(*) >= 1 FROM sqs_failures WHERE message = 'this one is poison: poison $r'", 't',
		"$name: one that fails is written down", @soon);
	query_is($node, "$set SELECT count(*) FROM sqs_outbox_failures WHERE body = '$r, row 4'", '1',
		"$name: so is one that cannot be sent", @soon);
	query_is($node, "$set SELECT waiting, error_since IS NULL FROM sqs_stats_outbox WHERE queue = 'billing'", '0|t',
		"$name: all others are sent", @soon);
	books_are_right("$name: each once");
	return;
}

# What has been sent up to now, and what has been handled, by whom.
sub books_are_right
{
	my ($name) = @_;
	my (%times, @wrong);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$times{$_}++ foreach map { $_->{body} } @{ $sqs->messages('billing') };
	foreach my $body (sort keys %{ { %sent, %times } })
	{
		my $n = $times{$body} || 0;
		my $expected = exists $sent{$body} ? $sent{$body} : 0;
		next if !defined $expected ? $n <= 1 : $n == $expected;
		push @wrong, "$body: $n times";
		# known from now on, be it that it comes late
		$sent{$body} = $n || undef;
	}
	is(join("\n", @wrong[ 0 .. ($#wrong < 9 ? $#wrong : 9) ]), '', "$name, at SQS");
	is( super("SELECT body, count(*), string_agg(DISTINCT who, ' ') FROM app.got
			GROUP BY 1 HAVING count(*) <> 1 OR min(who) <> 'app/app' OR max(who) <> 'app/app'"),
		'', "$name, in effect");
	return;
}

traffic_goes_on('in peace');

# Everything of the extension's that has a row in pg_class and can be named.
my %relkind = map { split /\|/ } split /\n/, super(<<'EOQ');
SELECT format('%I.%I', nspname, relname), relkind FROM pg_depend d
JOIN pg_class c ON c.oid = d.objid JOIN pg_namespace n ON n.oid = relnamespace
WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_extension'::regclass AND deptype = 'e'
AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'sqsbridge') AND relkind IN ('r', 'v', 'S')
EOQ
my @relations = sort keys %relkind;
my @tables = grep { $relkind{$_} eq 'r' } @relations;
my @internal = grep { /^sqsbridge_internal\./ } @tables;
cmp_ok(scalar(@tables), '>=', 6, 'the extension has tables');
is("@tables", "@internal", 'all of which are hidden');
my $queues = 'sqsbridge_internal.queues';

# The contents of the tables, but for what the workers do by themselves: each
# minute there may be a new mark, but a queue's first one stays for long.
sub contents
{
	my %of = map { $_ => $_ } @tables;
	my $marks = 'sqsbridge_internal.inbox_marks';
	$of{$marks} = "(SELECT DISTINCT ON (queue_id) * FROM $marks ORDER BY queue_id, at)";
	return super(join(' UNION ALL ',
		map { "SELECT '$_ ' || count(*) || ' ' || md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM $of{$_} t" }
		  @tables));
}
query_is($node, 'SELECT count(DISTINCT queue_id) FROM sqsbridge_internal.inbox_marks', '2',
	'each queue that is received from has its first mark');

# ---- rows: each way to write, for each relation and each role

# the first column of each
my %column = map { split /\|/ } split /\n/, super('SELECT attrelid::regclass, attname FROM pg_attribute WHERE attnum = 1
	AND attrelid = ANY (ARRAY[' . join(', ', map { "'$_'::regclass" } @relations) . '])');
$column{$_} ||= $column{s/^public\.//r} foreach @relations;

sub writes
{
	my ($r) = @_;
	my $column = $column{$r};
	return (
		"INSERT INTO $r OVERRIDING SYSTEM VALUE SELECT (NULL::$r).*",
		"INSERT INTO $r DEFAULT VALUES",
		"INSERT INTO $r OVERRIDING SYSTEM VALUE SELECT * FROM $r",
		"INSERT INTO $r OVERRIDING SYSTEM VALUE SELECT (NULL::$r).* ON CONFLICT DO NOTHING",
		"UPDATE $r SET $column = DEFAULT",
		"UPDATE $r SET $column = $column",
		"WITH w AS (DELETE FROM $r RETURNING 1) SELECT count(*) FROM w",
		"DELETE FROM $r",
		"TRUNCATE $r",
		"TRUNCATE $r CASCADE",
		"COPY $r ($column) FROM stdin;\n1\n\\.\nSELECT",
		"MERGE INTO $r t USING (VALUES (1)) v ON true WHEN MATCHED THEN DELETE",
		"SELECT setval('$r', 1)",
	);
}

# The extension's own checks stand behind INSERTs into the outbox, which
# everybody may try.
sub rows_are_safe
{
	my ($role, $name) = @_;
	my @statements = map { writes($_) } grep { $_ ne 'public.sqs_outbox' } @relations;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	@statements = grep { !/setval/ || $relkind{/'(.*)'/ ? $1 : ''} eq 'S' } @statements;
	# to change or to copy nothing is not refused
	foreach my $table (split /\n/, super(join(' UNION ALL ', map { "SELECT '$_' WHERE NOT EXISTS (SELECT FROM $_)" } @tables)))
	{
		@statements = grep { !/^(?:UPDATE|DELETE|MERGE|WITH) .*\Q$table\E|FROM \Q$table\E/ || /SELECT \(NULL/ } @statements;
	}
	my $before = contents();
	# (rolled back, so that one that succeeds does not spoil the other tests)
	my @errors = attempts($role, map { "BEGIN; $_; ROLLBACK" } @statements);
	my @bad = map { "$statements[$_]: " . ($errors[$_] || 'done') }
	  grep { $errors[$_] eq '' || $errors[$_] =~ /^(?:55P03|23|57|XX)/ } 0 .. $#errors;
	is(join("\n", @bad), '', "$role$name: nothing can be written");
	is(contents(), $before, "$role$name: nor has it been");
	return;
}

rows_are_safe($_, '') foreach @attackers;
nobody_climbed('rows');

# ... such as the row that made a superuser of a member of pg_write_all_data
my ($error) = attempts('pw',
	"UPDATE $queues SET owner = '$super', handler = 'pw.evil' WHERE name = 'orders'");
like($error, qr/can be changed only by extension sqsbridge|permission denied/, 'pw: a queue of a superuser, with a handler of his own: refused');
# the workers look at the queues again
as('app', "SELECT sqs_alter_queue('parked', batch_size => 9)");
seconds_pass($node, 2, 'they have done so');
$sqs->fill('orders', 1, body => 'after that');
$sqs->is_empty('orders');
nobody_climbed('another owner and handler');
is(super("SELECT who FROM app.got WHERE body = 'after that'"), 'app/app', 'it is as it was');
$sent{'from after that'} = 1;
super("UPDATE $queues SET owner = 'app', handler = 'app.handle' WHERE name = 'orders'") if $error eq '';

# ... or the sequences, which no trigger can guard: there is none
is(scalar(grep { $relkind{$_} eq 'S' } @relations), 0, 'pw: there is no sequence to be set');

# ---- locks that nobody can be kept from asking for

my @modes =
  ('ACCESS SHARE', 'ROW SHARE', 'ROW EXCLUSIVE', 'SHARE UPDATE EXCLUSIVE', 'SHARE', 'SHARE ROW EXCLUSIVE', 'EXCLUSIVE',
	'ACCESS EXCLUSIVE');

# Statements that want a lock on a relation.
sub lockers
{
	my ($role, $r) = @_;
	my $column = $column{$r};
	my $call = 'EXECUTE FUNCTION suppress_redundant_updates_trigger()';
	my $kind = { r => 'TABLE', v => 'VIEW', S => 'SEQUENCE' }->{ $relkind{$r} };
	return (
		(map { "BEGIN; LOCK TABLE $r IN $_ MODE; ROLLBACK" } @modes),
		"BEGIN; LOCK TABLE ONLY $r; ROLLBACK",
		"DO 'BEGIN LOCK TABLE $r; END'",
		"CREATE TRIGGER att AFTER INSERT ON $r FOR EACH STATEMENT $call",
		"CREATE TRIGGER aaa INSTEAD OF INSERT ON $r FOR EACH ROW $call",
		"CREATE OR REPLACE TRIGGER sqs_outbox_insert INSTEAD OF INSERT ON $r FOR EACH ROW $call",
		"DO 'BEGIN CREATE TRIGGER att AFTER INSERT ON $r FOR EACH STATEMENT $call; END'",
		"CREATE CONSTRAINT TRIGGER att AFTER INSERT ON $r FOR EACH ROW $call",
		"CREATE CONSTRAINT TRIGGER att AFTER INSERT ON $role.mine FROM $r FOR EACH ROW $call",
		"DROP TRIGGER sqs_outbox_insert ON $r",
		"ALTER TRIGGER sqs_outbox_insert ON $r RENAME TO x",
		"CREATE RULE att AS ON INSERT TO $r DO ALSO NOTHING",
		"CREATE OR REPLACE RULE \"_RETURN\" AS ON SELECT TO $r DO INSTEAD SELECT 1",
		"DROP RULE \"_RETURN\" ON $r",
		"ALTER RULE \"_RETURN\" ON $r RENAME TO x",
		"CREATE TABLE $role.fk1 (x int REFERENCES $r)",
		"CREATE TABLE $role.fk1 (x int REFERENCES $r ($column))",
		"CREATE TABLE $role.fk2 (x int, FOREIGN KEY (x) REFERENCES $r ($column))",
		"CREATE TEMP TABLE fk3 (x int REFERENCES $r)",
		"CREATE SCHEMA att CREATE TABLE fk4 (x int REFERENCES $r)",
		"CREATE SCHEMA AUTHORIZATION $role CREATE TABLE fk4 (x int REFERENCES $r)",
		"ALTER TABLE $role.mine ADD FOREIGN KEY (x) REFERENCES $r",
		"ALTER TABLE $role.mine ADD FOREIGN KEY (x) REFERENCES $r NOT VALID",
		"ALTER TABLE $role.mine ADD COLUMN y int REFERENCES $r",
		"CREATE TABLE $role.part PARTITION OF $r DEFAULT",
		"CREATE TABLE $role.part PARTITION OF $role.parted DEFAULT PARTITION BY LIST (x)",
		"ALTER TABLE $role.parted ATTACH PARTITION $r DEFAULT",
		"ALTER TABLE $r ATTACH PARTITION $role.mine DEFAULT",
		"ALTER TABLE $role.parted DETACH PARTITION $r",
		"ALTER TABLE $role.parted DETACH PARTITION $r CONCURRENTLY",
		"ALTER TABLE $role.parted DETACH PARTITION $r FINALIZE",
		"ALTER TABLE $r DETACH PARTITION $role.mine",
		"CREATE TABLE $role.inh () INHERITS ($r)",
		"ALTER TABLE $role.mine INHERIT $r",
		"ALTER TABLE $role.mine NO INHERIT $r",
		"ALTER TABLE $r INHERIT $role.mine",
		"CREATE TABLE $role.alike (LIKE $r INCLUDING ALL); DROP TABLE $role.alike",
		"CREATE INDEX ON $r ($column)",
		"CREATE INDEX CONCURRENTLY ON $r ($column)",
		"CREATE POLICY att ON $r",
		"CREATE STATISTICS $role.att ON (1), (2) FROM $r",
		"CREATE PUBLICATION att FOR TABLE $r",
		"ALTER TABLE $r ADD COLUMN x int",
		"ALTER TABLE $r DISABLE TRIGGER ALL",
		"ALTER TABLE $r ENABLE REPLICA TRIGGER ALL",
		"ALTER TABLE $r ENABLE ROW LEVEL SECURITY",
		"ALTER TABLE $r SET SCHEMA $role",
		"ALTER TABLE $r OWNER TO $role",
		"ALTER TABLE $r RENAME TO x",
		"ALTER TABLE $r SET (fillfactor = 50)",
		"ALTER TABLE $r REPLICA IDENTITY NOTHING",
		"ALTER TABLE $r SET UNLOGGED",
		"ALTER VIEW $r SET (security_barrier = off)",
		"ALTER VIEW $r SET (security_invoker = on)",
		"ALTER SEQUENCE $r RESTART",
		"CREATE OR REPLACE VIEW $r AS SELECT 1",
		"DROP $kind $r",
		"DROP $kind $r CASCADE",
		"REINDEX TABLE $r",
		"REINDEX TABLE CONCURRENTLY $r",
		"CLUSTER $r",
		($major >= 19 ? "REPACK $r" : ()),
		"VACUUM $r",
		"VACUUM FULL $r",
		"ANALYZE $r",
		"REFRESH MATERIALIZED VIEW $r",
		"COMMENT ON $kind $r IS ''",
		"GRANT ALL ON $r TO $role",
		"REVOKE ALL ON $r FROM app",
		"BEGIN; SELECT 1 FROM $r FOR UPDATE; ROLLBACK",
		"ALTER EXTENSION sqsbridge DROP $kind $r",
		"SELECT pg_catalog.pg_relation_size('$r')",
		"SELECT pg_stat_reset_single_table_counters('$r'::regclass)",
	);
}

my @in_general = (
	"DROP EXTENSION sqsbridge",
	"DROP EXTENSION sqsbridge CASCADE",
	"ALTER EXTENSION sqsbridge SET SCHEMA app",
	"ALTER EXTENSION sqsbridge UPDATE",
	"DROP SCHEMA sqsbridge_internal CASCADE",
	"ALTER SCHEMA sqsbridge_internal RENAME TO x",
	"CREATE TABLE sqsbridge_internal.x ()",
	"REINDEX SCHEMA sqsbridge_internal",
	"CREATE PUBLICATION att FOR ALL TABLES",
	"CREATE PUBLICATION att FOR TABLES IN SCHEMA sqsbridge_internal",
	"DROP OWNED BY $super",
	"REASSIGN OWNED BY $super TO CURRENT_ROLE",
	"DROP FUNCTION sqs_enqueue",
	"ALTER FUNCTION sqs_outbox_retry SECURITY DEFINER",
	"ALTER TYPE sqs_message DROP ATTRIBUTE body",
	"DROP FOREIGN DATA WRAPPER sqsbridge CASCADE",
	"ALTER DEFAULT PRIVILEGES FOR ROLE $super GRANT ALL ON TABLES TO PUBLIC",
	"ALTER SERVER aws OPTIONS (SET endpoint '" . $evil->endpoint . "')",
	"ALTER SERVER aws OWNER TO CURRENT_ROLE",
	"ALTER SERVER aws RENAME TO x",
	"DROP SERVER aws CASCADE",
	"CREATE SERVER mine FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1')",
	"ALTER USER MAPPING FOR app SERVER aws OPTIONS (SET secret_access_key 'x')",
	"DROP USER MAPPING FOR app SERVER aws",
	"CREATE USER MAPPING FOR PUBLIC SERVER aws OPTIONS (access_key_id 'x', secret_access_key 'y')",
	"SELECT sqs_adopt_queues('discard')",
	"SELECT sqs_adopt_queues('send')",
	"SELECT sqs_unregister_queue('orders')",
	"SELECT sqs_alter_queue('orders', handler => 'evil')",
	"SELECT sqs_alter_queue('orders')",
	"SELECT sqs_disable_queue('orders')",
	"SELECT sqs_enable_queue('parked')",
	"SELECT sqs_stats_reset()",
	"SELECT sqs_outbox_retry(id) FROM (SELECT 1::bigint AS id) x",
	"SELECT sqs_outbox_discard(id) FROM (SELECT 1::bigint AS id) x",
	"SELECT sqs_add_route('orders', 'key', 'evil')",
	"SELECT sqs_drop_route('orders', 'key')",
	"SELECT sqs_redrive(id) FROM (SELECT 1::bigint AS id) x",
	"SELECT sqs_discard_dead_letter(id) FROM (SELECT 1::bigint AS id) x",
	"SELECT sqs_deliver('orders', 'forged')",
	"SELECT sqs_release_group('orders', 'g')",
	"SET sqsbridge.databases = ''",
	"SET sqsbridge.ca_file = '/tmp/x'",
	"ALTER SYSTEM SET sqsbridge.databases = ''",
	"ALTER DATABASE postgres SET sqsbridge.databases = ''",
	"SET ROLE app",
	"SET SESSION AUTHORIZATION $super",
	"SELECT pg_terminate_backend(pid) FROM sqs_stats_workers WHERE kind <> 'handler worker'",
	"SELECT pg_cancel_backend(pid) FROM sqs_stats_workers WHERE kind <> 'handler worker'",
);

# What waits for its lock when an owner of the database, or of the power to
# maintain all that is in it, does what PostgreSQL allows him to do even without
# naming a table (doc/security.md).
my %his = (
	dbo => qr/^VACUUM FULL/,
	pm => qr/^(?:VACUUM FULL|REINDEX SCHEMA)/);
# and where waiting is not for a table lock of ours
my $allowed = qr/^(?:BEGIN; LOCK TABLE \S+ IN (?:ACCESS SHARE|ROW SHARE|ROW EXCLUSIVE) MODE|SELECT pg_catalog\.pg_relation_size|CREATE TABLE \w+\.alike|BEGIN; SELECT 1 FROM \S+ FOR UPDATE|CREATE TABLE \S+ PARTITION OF \w+\.parted|GRANT|REVOKE|ALTER FUNCTION|VACUUM|ANALYZE)/;

sub nothing_waits
{
	my ($role, $name) = @_;
	my @statements = ((map { lockers($role, $_) } @relations), @in_general);
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my @errors = attempts($role, @statements);
	my @waited = map { "$statements[$_]: $errors[$_]" }
	  grep { $errors[$_] =~ /^(?:55P03|57|XX|40)/ && !($his{$role} && $statements[$_] =~ $his{$role}) } 0 .. $#errors;
	is(join("\n", @waited), '', "$role$name: no statement waits for a lock on what is the extension's");
	my @done = map { $statements[$_] } grep { $errors[$_] eq '' && $statements[$_] !~ $allowed } 0 .. $#errors;
	is(join("\n", @done), '', "$role$name: nor does one succeed that should not");
	return;
}

# Somebody writes all of them, and takes long.
sub with_a_long_writer
{
	my ($sub) = @_;
	my $writer = $node->background_psql('postgres', on_error_stop => 1, timeout => 3000);
	$writer->query_safe('BEGIN; LOCK TABLE ' . join(', ', grep { $relkind{$_} ne 'S' } @relations)
		  . ' IN ROW EXCLUSIVE MODE');
	$sub->();
	$writer->query_safe('COMMIT');
	$writer->quit;
	return;
}

with_a_long_writer(sub { nothing_waits($_, '') foreach @attackers });
nobody_climbed('statements of all kinds');

my $observer = $node->background_psql('postgres', on_error_stop => 1, timeout => 3000);

# Takes whatever lock it can get, and keeps it.
sub with_all_locks_of
{
	my ($role, $sub) = @_;
	my $holder = $node->background_psql('postgres', on_error_stop => 1, extra_params => [ '-U', $role ]);
	my $modes = join(', ', map { "'$_'" } reverse @modes);
	my $relations = join(', ', map { "'$_'" } grep { $relkind{$_} ne 'S' } @relations);
	$holder->query_safe(<<EOQ);
SET client_min_messages = error;
BEGIN;
DO \$\$
DECLARE
  r text;
  m text;
BEGIN
  FOREACH r IN ARRAY ARRAY[$relations] LOOP
    FOREACH m IN ARRAY ARRAY[$modes] LOOP
      BEGIN
        EXECUTE format('LOCK TABLE %s IN %s MODE NOWAIT', r, m);
        EXIT;
      EXCEPTION WHEN OTHERS THEN
      END;
    END LOOP;
  END LOOP;
END \$\$;
EOQ
	# (no new session might be possible)
	my $strong = $observer->query_safe("SELECT string_agg(relation::regclass || ' ' || mode, ', ')
		FROM pg_locks l JOIN pg_stat_get_activity(NULL) a USING (pid)
		WHERE a.state = 'idle in transaction' AND relation IS NOT NULL
		AND mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')");
	# (the modules of 16's betas leave the end of the line)
	$strong =~ s/\s+\z//;
	if (is($strong, '', "$role: has no lock that keeps others from writing")
		|| $strong !~ /pg_/)
	{
		$sub->();
	}
	$holder->query_safe('ROLLBACK');
	$holder->quit;
	return;
}

foreach my $role (@attackers)
{
	with_all_locks_of($role, sub { traffic_goes_on("$role holds what locks it can get", 20) });
	books_are_right("$role lets go");
}

# ---- rows of the outbox that are locked while they are under way

{
	# SQS has them at once, but does not say so yet
	my $fault = $sqs->fault(kind => 'latency', ms => 10_000, action => 'SendMessageBatch', queue => 'billing');
	my $holder = $node->background_psql('postgres', extra_params => [ '-U', 'pwr' ]);
	my $array = join(', ', map { "'$_'" } @tables);
	as('app', "INSERT INTO sqs_outbox (queue, body) SELECT 'billing', 'locked ' || i FROM generate_series(1, 30) i");
	$sent{"locked $_"} = 1 foreach 1 .. 30;
	query_is($node, "SELECT in_flight > 0 FROM sqs_stats_outbox WHERE queue = 'billing'", 't', 'rows are under way');
	# one that PostgreSQL refuses is one less
	$holder->query_safe(<<EOQ);
BEGIN;
DO \$\$
DECLARE
  r text;
BEGIN
  FOREACH r IN ARRAY ARRAY[$array] LOOP
    BEGIN
      EXECUTE format('SELECT 1 FROM %s FOR UPDATE', r);
    EXCEPTION WHEN OTHERS THEN
    END;
  END LOOP;
END \$\$;
EOQ
	my $locked = "1 FROM sqsbridge_internal.outbox_rows WHERE body LIKE 'locked %'";
	is(super("SELECT (SELECT count(*) FROM (SELECT $locked) x), (SELECT count(*) FROM (SELECT $locked FOR UPDATE SKIP LOCKED) x)"),
		'30|0', 'somebody has locked them');
	poll_until(sub { $sqs->stats('billing')->{sent} >= 0 && (grep { $_->{body} eq 'locked 30' } @{ $sqs->messages('billing') }) },
		'SQS has them');
	$sqs->clear_faults($fault);
	seconds_pass($node, 6, 'for a while');
	books_are_right('rows that somebody has locked are not sent again');
	query_is($node, "SELECT state IN ('idle', 'sending', 'backing off') FROM sqs_stats_outbox WHERE queue = 'billing'",
		't', 'the view can be read');
	# the others go on
	as('app', "SELECT sqs_enqueue('billing', 'beside them')");
	$sent{'beside them'} = 1;
	poll_until(sub { grep { $_->{body} eq 'beside them' } @{ $sqs->messages('billing') } },
		'others are sent meanwhile', 30);
	$holder->query_safe('ROLLBACK');
	$holder->quit;
	traffic_goes_on('rows are free again');
}

# ---- what a careless administrator grants

foreach my $what ('TABLES', 'SEQUENCES', 'FUNCTIONS')
{
	super("GRANT ALL ON ALL $what IN SCHEMA public TO low, nobody_");
}
$powers = powers();
foreach my $role ('low', 'nobody_')
{
	my $name = ' with GRANT ALL ON ALL TABLES';
	rows_are_safe($role, $name);
	with_a_long_writer(
		sub {
			my @statements = grep { !/stats_reset/ } ((map { lockers($role, $_) } @relations), @in_general);
			my @errors = attempts($role, @statements);
			my @bad = map { "$statements[$_]: " . ($errors[$_] || 'done') }
			  grep { $errors[$_] =~ /^(?:55P03|57|XX)/ || $errors[$_] eq '' && $statements[$_] !~ $allowed } 0 .. $#errors;
			is(join("\n", @bad), '', "$role$name: nothing waits for a lock or succeeds");
		});
	with_all_locks_of($role, sub { traffic_goes_on("$role holds what locks it can get,$name", 20) });
	nobody_climbed("$role$name");
}
foreach my $what ('TABLES', 'SEQUENCES', 'FUNCTIONS')
{
	super("REVOKE ALL ON ALL $what IN SCHEMA public FROM low, nobody_");
}
$powers = powers();

# ... even on what he has been told to leave alone
super(<<'EOQ');
GRANT ALL ON SCHEMA sqsbridge_internal TO low;
GRANT ALL ON ALL TABLES IN SCHEMA sqsbridge_internal TO low;
GRANT ALL ON ALL SEQUENCES IN SCHEMA sqsbridge_internal TO low;
EOQ
{
	my $name = ' with GRANT ALL on the internal tables';
	my $before = contents();
	my @statements = grep { !/setval|^TRUNCATE/ } map { writes($_) } @internal;
	my @errors = attempts('low', @statements);
	my @bad = map { $statements[$_] } grep { $errors[$_] eq '' && $statements[$_] !~ /^COPY|^WITH/ } 0 .. $#errors;
	# (a DELETE or UPDATE that finds no row is not refused)
	is(contents(), $before, "low$name: nothing is written") or diag(join "\n", @bad);
	with_a_long_writer(
		sub {
			my @lockers = grep { !/ALTER TABLE \S+ DETACH/ } map { lockers('low', $_) } @internal;
			my @errors = attempts('low', @lockers);
			my @waited = map { "$lockers[$_]: $errors[$_]" } grep { $errors[$_] =~ /^55P03/ } 0 .. $#errors;
			is(join("\n", @waited), '', "low$name: no statement waits for a lock");
		});
	with_all_locks_of('low', sub { traffic_goes_on("low$name", 20) });
	super(<<'EOQ');
REVOKE ALL ON ALL SEQUENCES IN SCHEMA sqsbridge_internal FROM low;
REVOKE ALL ON ALL TABLES IN SCHEMA sqsbridge_internal FROM low;
REVOKE ALL ON SCHEMA sqsbridge_internal FROM low;
EOQ
	nobody_climbed("low$name");
}

# ---- triggers, policies and rules that have come to be there nevertheless

super("UPDATE sqsbridge_internal.failures SET failed_at = failed_at - interval '30 days'");
foreach my $table (@internal)
{
	super(<<EOQ);
CREATE TRIGGER aaa_row BEFORE INSERT OR UPDATE OR DELETE ON $table FOR EACH ROW EXECUTE FUNCTION low.climb_trigger();
CREATE TRIGGER zzz_row AFTER INSERT OR UPDATE OR DELETE ON $table FOR EACH ROW EXECUTE FUNCTION low.climb_trigger();
CREATE TRIGGER aaa BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON $table EXECUTE FUNCTION low.climb_trigger();
CREATE TRIGGER zzz AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON $table EXECUTE FUNCTION low.climb_trigger();
ALTER TABLE $table ENABLE ALWAYS TRIGGER aaa_row;
ALTER TABLE $table ENABLE ALWAYS TRIGGER zzz_row;
ALTER TABLE $table ENABLE ALWAYS TRIGGER aaa;
ALTER TABLE $table ENABLE ALWAYS TRIGGER zzz;
CREATE POLICY none ON $table USING (low.climb('policy') IS NULL);
ALTER TABLE $table ENABLE ROW LEVEL SECURITY;
ALTER TABLE $table FORCE ROW LEVEL SECURITY;
EOQ
}
as('app', <<'EOQ');
SELECT sqs_register_queue('spare', server => 'aws');
SELECT sqs_alter_queue('spare', concurrency => 2);
SELECT sqs_enqueue('spare', 'x', delay => '1 hour');
SELECT sqs_unregister_queue('spare');
EOQ
traffic_goes_on('foreign triggers and policies');
as('app', "SELECT sqs_outbox_retry(id) FROM (SELECT max(id) AS id FROM sqs_outbox_failures) x");
as('app', "SELECT sqs_outbox_discard(id) FROM (SELECT max(id) AS id FROM sqs_outbox_failures) x");
# old rows are cleared away
$observer->quit;
$node->restart;
query_is($node, "SELECT count(*) FROM sqs_failures WHERE failed_at < now() - interval '10 days'", '0',
	'old failures are cleared away', timeout => 100);
query_is($node, "SELECT remark ~ 'aaa_row' AND remark ~ 'none' FROM sqs_stats_workers
	WHERE kind = 'database worker' AND database = 'postgres'", 't', 'the view tells of triggers and policies');
foreach my $table (@internal)
{
	super("DROP TRIGGER $_ ON $table") foreach ('aaa_row', 'zzz_row', 'aaa', 'zzz');
	super("ALTER TABLE $table NO FORCE ROW LEVEL SECURITY; ALTER TABLE $table DISABLE ROW LEVEL SECURITY;
		DROP POLICY none ON $table");
}
nobody_climbed('foreign triggers and policies');

# ---- what the owner of a database can set

as('dbo', <<'EOQ');
CREATE FUNCTION dbo.eq(int, int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN PERFORM dbo.climb(''operator''); RETURN true; END';
CREATE OPERATOR dbo.= (LEFTARG = int, RIGHTARG = int, FUNCTION = dbo.eq);
CREATE FUNCTION dbo.eq(text, text) RETURNS bool LANGUAGE plpgsql AS 'BEGIN PERFORM dbo.climb(''operator''); RETURN true; END';
CREATE OPERATOR dbo.= (LEFTARG = text, RIGHTARG = text, FUNCTION = dbo.eq);
CREATE FUNCTION dbo.now() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN PERFORM dbo.climb(''now()''); RETURN pg_catalog.now(); END';
CREATE FUNCTION dbo.count(int) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN PERFORM dbo.climb(''count()''); RETURN 1; END';
CREATE DOMAIN dbo.text AS pg_catalog.text CHECK (dbo.climb('domain') IS NULL);
CREATE VIEW dbo.pg_extension AS SELECT * FROM pg_catalog.pg_extension WHERE dbo.climb('view') IS NULL;
CREATE VIEW dbo.pg_foreign_server AS SELECT * FROM pg_catalog.pg_foreign_server WHERE dbo.climb('view') IS NULL;
CREATE VIEW dbo.sqs_queues AS SELECT * FROM public.sqs_queues WHERE dbo.climb('view') IS NULL;
EOQ
my %default = map { split /\|/, $_, 2 } split /\n/, super('SELECT lower(name), reset_val FROM pg_settings');
foreach my $settings (
	['role = dbo'],
	['search_path = dbo, pg_catalog, public'],
	[
		"statement_timeout = '1ms'", "lock_timeout = '1ms'", "idle_in_transaction_session_timeout = '1ms'",
		"idle_session_timeout = '1ms'", "transaction_timeout = '1ms'"
	],
	[
		'default_transaction_read_only = on', "default_transaction_isolation = 'serializable'",
		'default_transaction_deferrable = on', 'row_security = off', "client_encoding = 'LATIN1'",
		"DateStyle = 'German, DMY'", "IntervalStyle = 'sql_standard'", "TimeZone = 'Asia/Tokyo'",
		'standard_conforming_strings = off', 'synchronous_commit = off', "default_table_access_method = 'nothing'",
		"default_tablespace = 'nothing'", "local_preload_libraries = 'nothing'", "work_mem = '64kB'",
		'check_function_bodies = off', 'enable_indexscan = off', 'enable_seqscan = off', 'session_replication_role = replica',
		"session_preload_libraries = 'nothing'", "sqsbridge.databases = 'nothing'", "sqsbridge.shutdown_timeout = '1d'"
	])
{
	my $name = "dbo: ALTER DATABASE SET $settings->[0]";
	my (@options, @set);
	foreach my $setting (@$settings)
	{
		my ($parameter) = $setting =~ /^([\w.]+)/;
		my $default = $default{ lc($parameter) };
		local $ENV{PGOPTIONS} = join(' ', @options);
		my ($error) = attempts('dbo', "ALTER DATABASE postgres SET $setting");
		next if $error ne '';
		$default = 'none' if $parameter eq 'role';
		$default = 'public' if $parameter eq 'search_path';
		push @set, $parameter;
		# He may well do that to sessions, and handlers are like them.  Here it
		# is the other processes' turn.
		push @options, "-c $parameter=" . ($default =~ s/([ \\])/\\$1/gr);
		$ENV{PGOPTIONS} = join(' ', @options);
		super("ALTER ROLE app SET $parameter = " . SqsTest::sql_literal($default)) if $parameter ne 'role';
	}
	local $ENV{PGOPTIONS} = join(' ', @options);
	cmp_ok(scalar(@set), '>=', 1, "$name: has an effect");
	note("set: @set");
	$node->restart;
	traffic_goes_on($name, 40);
	nobody_climbed($name);
	attempts('dbo', map { "ALTER DATABASE postgres RESET $_" } @set);
	super("ALTER ROLE app RESET $_") foreach @set;
	super('ALTER ROLE app SET search_path = app, public');
}

# ---- names that come to mean something else

# The queue is in trouble, and its owner can see what has changed.
sub stopped
{
	my ($queue, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	query_is($node, "SELECT state, last_error ~ '$pattern' FROM sqs_stats WHERE queue = '$queue'", 'error|t',
		"$name: the queue stops and says why")
	  or diag(super("SELECT state, last_error FROM sqs_stats WHERE queue = '$queue'"));
	return;
}

my $nbound = 0;

sub send_bound
{
	$sqs->fill('bound', 2, body => 'bound {i}', start => $nbound + 1);
	$nbound += 2;
	return;
}

sub bound_are_handled
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	query_is($node, "SELECT count(*), count(DISTINCT body) FROM app.got WHERE body LIKE 'bound %'", "$nbound|$nbound",
		"$name: messages are handled once");
	return;
}

super('CREATE SCHEMA shared; GRANT ALL ON SCHEMA shared TO PUBLIC');
my $honest_function = <<'EOQ';
CREATE FUNCTION shared.h(m sqs_message) RETURNS void LANGUAGE sql AS
  'INSERT INTO app.got VALUES (m.body, m.message_id)';
EOQ
my $evil_function = <<'EOQ';
CREATE FUNCTION shared.h(m sqs_message) RETURNS void LANGUAGE sql AS
  'SELECT low.climb(''handler '' || m.body)';
EOQ
as('app', "$honest_function SELECT sqs_register_queue('bound', server => 'aws', handler => 'shared.h', wait_time => '1 s')");
send_bound();
bound_are_handled('a handler in a schema that is open to all');

foreach my $case (
	[ 'dropped', 'DROP FUNCTION shared.h(sqs_message)', $honest_function ],
	[ 'renamed', 'ALTER FUNCTION shared.h(sqs_message) RENAME TO h2', 'ALTER FUNCTION shared.h2(sqs_message) RENAME TO h' ])
{
	my ($how, $away, $back) = @$case;
	my $name = "a handler is $how, and made anew by somebody else";
	# at once, as far as the workers can see
	as('app', $away);
	as('low', $evil_function);
	send_bound();
	stopped('bound', 'shared\.h|handler', $name);
	nobody_climbed($name);
	as('low', 'DROP FUNCTION shared.h(sqs_message)');
	as('app', "$back; SELECT sqs_alter_queue('bound')");
	bound_are_handled("$name: confirmed");
}
# whose owner may do with it as he likes from now on
as('app', 'ALTER FUNCTION shared.h(sqs_message) OWNER TO app');
super('ALTER FUNCTION shared.h(sqs_message) OWNER TO low');
as('low', $evil_function =~ s/CREATE/CREATE OR REPLACE/r);
send_bound();
stopped('bound', 'low', 'a handler is given to somebody else');
nobody_climbed('a handler is given to somebody else');
# (at once with its contents, which is app's from then on)
super('BEGIN; ALTER FUNCTION shared.h(sqs_message) OWNER TO app; SET ROLE app; '
	  . ($honest_function =~ s/CREATE/CREATE OR REPLACE/r) . '; COMMIT');
as('app', "SELECT sqs_alter_queue('bound')");
bound_are_handled('and back');
as('app', $honest_function =~ s/CREATE/CREATE OR REPLACE/r);
send_bound();
bound_are_handled('a handler is replaced by its owner');
nobody_climbed('handlers');

# A right that the owner of a queue loses.
foreach my $case (
	[ 'EXECUTE', 'REVOKE EXECUTE ON FUNCTION app.h3(sqs_message) FROM temp', 'GRANT EXECUTE ON FUNCTION app.h3(sqs_message) TO temp' ],
	[ 'USAGE', 'REVOKE USAGE ON FOREIGN SERVER aws FROM temp', 'GRANT USAGE ON FOREIGN SERVER aws TO temp' ],
	$major < 17 ? [ 'LOGIN', 'ALTER ROLE temp NOLOGIN', 'ALTER ROLE temp LOGIN' ] : ())
{
	my ($what, $take, $give) = @$case;
	if (super("SELECT to_regrole('temp') IS NULL") eq 't')
	{
		super(<<'EOQ');
CREATE ROLE temp LOGIN;
GRANT USAGE ON FOREIGN SERVER aws TO temp;
GRANT USAGE ON SCHEMA app TO temp;
GRANT INSERT ON app.got TO temp;
CREATE FUNCTION app.h3(m sqs_message) RETURNS void LANGUAGE sql AS
  'INSERT INTO app.got VALUES (m.body, m.message_id, ''app/app'')';
REVOKE ALL ON FUNCTION app.h3(sqs_message) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.h3(sqs_message) TO temp;
EOQ
		with_keys("CREATE USER MAPPING FOR temp SERVER aws OPTIONS (access_key_id 'AKIDAPP', secret_access_key 'hush-of-app')");
		as('temp', "SELECT sqs_register_queue('temp', server => 'aws', handler => 'app.h3', queue_name => 'spare', wait_time => '1 s')");
	}
	$sqs->fill('spare', 1, body => "$what is there");
	query_is($node, "SELECT count(*) FROM app.got WHERE body = '$what is there'", '1', "$what is there: handled");
	super($take);
	stopped('temp', '.', "$what is taken away");
	$sqs->fill('spare', 1, body => "$what is gone");
	seconds_pass($node, 3, "$what is gone: time passes");
	is(super("SELECT count(*) FROM app.got WHERE body = '$what is gone'"), '0', "$what is gone: not handled");
	super($give);
	query_is($node, "SELECT count(*) FROM app.got WHERE body = '$what is gone'", '1', "$what is given back: handled");
}

# The owner is dropped, and the number is somebody else's.
{
	my $name = 'the owner is dropped, and another role has the number';
	super("SELECT sqs_disable_queue('temp')");
	my $oid = super("SELECT 'temp'::regrole::oid");
	super('DROP OWNED BY temp; DROP ROLE temp');
	super("CREATE ROLE mallory SUPERUSER LOGIN; SET allow_system_table_mods = on;
		UPDATE pg_authid SET oid = $oid WHERE rolname = 'mallory'");
	with_keys("CREATE USER MAPPING FOR PUBLIC SERVER aws OPTIONS (access_key_id 'AKIDAPP', secret_access_key 'hush-of-app')");
	$sqs->fill('spare', 1, body => 'for mallory');
	$node->psql('postgres', "SELECT sqs_enable_queue('temp')");
	stopped('temp', 'temp|mallory|role|owner', $name);
	refused('app', "SELECT sqs_alter_queue('temp')", qr/^42501/, 'confirming it');
	seconds_pass($node, 3, "$name: time passes");
	is(super("SELECT count(*) FROM app.got WHERE body = 'for mallory'"), '0', "$name: no message is handled");
	super("SELECT sqs_unregister_queue('temp'); DROP USER MAPPING FOR PUBLIC SERVER aws; DROP ROLE mallory");
}

# A superuser is one no more.
super(<<EOQ);
CREATE FUNCTION app.up(m sqs_message) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
  INSERT INTO app.got VALUES (m.body, m.message_id);
  IF m.body = 'down' THEN
    BEGIN
      EXECUTE 'SET SESSION AUTHORIZATION $super';
      EXECUTE 'ALTER ROLE boss SUPERUSER';
    EXCEPTION WHEN insufficient_privilege THEN
      NULL;
    END;
  END IF;
END \$\$;
GRANT ALL ON SCHEMA app TO boss;
GRANT INSERT ON app.got TO boss;
GRANT USAGE ON FOREIGN SERVER aws TO boss;
EOQ
$node->psql('postgres', "SELECT sqs_register_queue('boss', server => 'aws', handler => 'app.up', wait_time => '1 s')",
	extra_params => [ '-U', 'boss' ]);
$sqs->fill('boss', 1, body => 'up');
query_is($node, "SELECT who FROM app.got WHERE body = 'up'", 'boss/boss', 'a superuser handles messages');
super('ALTER ROLE boss NOSUPERUSER');
$powers = powers();
$sqs->fill('boss', 1, body => 'down');
query_is($node, "SELECT count(*) FROM app.got WHERE body = 'down'", '1', 'as a superuser no more');
nobody_climbed('a superuser is one no more');
super("SELECT sqs_unregister_queue('boss'); DELETE FROM app.got WHERE body IN ('up', 'down')");

# ---- a server that is renamed, and replaced

super(<<EOQ);
CREATE ROLE carrier LOGIN;
GRANT USAGE ON FOREIGN DATA WRAPPER sqsbridge TO carrier, low;
SET ROLE carrier;
CREATE SERVER moved FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '$endpoint');
GRANT USAGE ON FOREIGN SERVER moved TO app;
EOQ
with_keys("CREATE USER MAPPING FOR app SERVER moved OPTIONS (access_key_id 'AKIDAPP', secret_access_key 'hush-of-app')");
as('app', <<'EOQ');
SELECT sqs_register_queue('moved', server => 'moved');
SELECT sqs_disable_queue('moved');
SELECT sqs_enqueue('moved', 'secret ' || i) FROM generate_series(1, 5) i;
EOQ
as('carrier', 'ALTER SERVER moved RENAME TO removed');
as('low', "CREATE SERVER moved FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '" . $evil->endpoint . "');
	GRANT USAGE ON FOREIGN SERVER moved TO PUBLIC;
	CREATE USER MAPPING FOR PUBLIC SERVER moved OPTIONS (access_key_id 'x', secret_access_key 'y')");
$node->psql('postgres', "SELECT sqs_enable_queue('moved')", extra_params => [ '-U', 'app' ]);
query_is($node, "SELECT last_error ~ 'moved' FROM sqs_stats_outbox WHERE queue = 'moved'", 't',
	'a server is renamed and replaced: the queue says why it stops');
$node->psql('postgres', "SELECT sqs_send('moved', 'secret too')", extra_params => [ '-U', 'app' ]);
seconds_pass($node, 3, 'a server is renamed and replaced: time passes');
is($evil->stats('moved')->{sent}, 0, 'nothing has arrived there');
is(super("SELECT count(*) FROM sqs_outbox WHERE queue = 'moved'"), '5', 'the rows wait');
as('low', 'DROP SERVER moved CASCADE');
as('carrier', 'ALTER SERVER removed RENAME TO moved');
as('app', "SELECT sqs_alter_queue('moved'); SELECT sqs_enable_queue('moved')");
query_is($node, "SELECT count(*) FROM sqs_outbox WHERE queue = 'moved'", '0', 'it is back: the rows are sent');
is($sqs->stats('moved')->{sent}, 5, 'once, to where they belong');
super('ALTER SERVER moved OWNER TO low');
as('low', "ALTER SERVER moved OPTIONS (SET endpoint '" . $evil->endpoint . "')");
as('app', "SELECT sqs_enqueue('moved', 'secret 6')");
seconds_pass($node, 3, 'a server is given to somebody else: time passes');
is($evil->stats('moved')->{sent}, 0, 'a server is given to somebody else: nothing arrives there');
super('DROP SERVER moved CASCADE; REVOKE USAGE ON FOREIGN DATA WRAPPER sqsbridge FROM low');
$powers = powers();

# ---- whose keys

as('low', "SELECT sqs_register_queue('spare', server => 'aws')");
is(as('low', "SELECT sqs_send('spare', 'with keys of mine') <> ''"), 't', 'low: sends with keys of its own');
my $spare = $sqs->stats('spare')->{sent};
attempts('low', 'DROP USER MAPPING FOR low SERVER aws');
refused('low', "SELECT sqs_send('spare', 'with whose keys?')", qr/^(?:28000|42704|42501).*user mapping/,
	'sending without a mapping, with keys in the environment');
as('low', "SELECT sqs_enqueue('spare', 'with whose keys?')");
query_is($node, "SELECT waiting, state, last_error ~ 'user mapping' FROM sqs_stats_outbox WHERE queue = 'spare'", '1|error|t',
	'nor is the outbox sent');
attempts('low', "SELECT sqs_register_queue('thief', server => 'aws', handler => 'low.evil',
	queue_name => '$endpoint/000000000000/orders', wait_time => '1 s')");
traffic_goes_on('low: a queue by its URL');
seconds_pass($node, 3, 'low: a queue by its URL: time passes');
nobody_climbed('low: a queue by its URL');
is($sqs->stats('spare')->{sent}, $spare, 'nothing has been sent with the keys of the environment');
refused('low', "ALTER SERVER aws OPTIONS (ADD credentials 'environment')", qr/^42501/, 'the keys of the environment');
refused('carrier', "CREATE SERVER greedy FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', credentials 'environment')",
	qr/^42501|superuser/, 'a server with the keys of the environment');
as('carrier', "CREATE SERVER greedy FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1')");
refused('carrier', "ALTER SERVER greedy OPTIONS (ADD credentials 'environment')", qr/^42501|superuser/,
	'the keys of the environment for his server');
my ($bad) = attempts($super, "ALTER SERVER greedy OPTIONS (ADD credentials 'everything')");
like($bad, qr/credentials/, 'another value for the option credentials is refused');
# given on purpose; but not to be taken elsewhere
super("CREATE SERVER ambient FOREIGN DATA WRAPPER sqsbridge
	OPTIONS (region 'us-east-1', endpoint '$endpoint', credentials 'environment');
	GRANT USAGE ON FOREIGN SERVER ambient TO low");
as('low', "SELECT sqs_register_queue('ambient', server => 'ambient', queue_name => 'spare')");
is(as('low', "SELECT sqs_send('ambient', 'with keys that are lent') <> ''"), 't', 'a superuser can lend the keys of the environment');
super('ALTER SERVER ambient OWNER TO carrier');
refused('carrier', "ALTER SERVER ambient OPTIONS (SET endpoint '" . $evil->endpoint . "')", qr/^42501|superuser/,
	'taking them elsewhere');
super("SELECT sqs_unregister_queue(name) FROM sqs_queues WHERE name IN ('thief', 'ambient', 'spare');
	DROP SERVER ambient CASCADE; DROP SERVER greedy CASCADE");
$powers = powers();

# ---- a sender who knows the ids of others' messages

{
	my $open = start_sqs(queues => [ 'source', 'forged,VisibilityTimeout=5' ]);
	super("CREATE SERVER open FOREIGN DATA WRAPPER sqsbridge OPTIONS (region 'us-east-1', endpoint '" . $open->endpoint . "');
		CREATE USER MAPPING FOR app SERVER open OPTIONS (access_key_id 'x', secret_access_key 'y');
		GRANT USAGE ON FOREIGN SERVER open TO app");
	as('app', <<'EOQ');
SELECT sqs_register_queue('source', server => 'open');
SELECT sqs_enqueue('source', 'genuine', attributes => '{"kind": "order"}');
SELECT sqs_register_queue('forged', server => 'open', handler => 'shared.h', wait_time => '1 s', enabled => false);
EOQ
	query_is($node, "SELECT count(*) FROM sqs_outbox WHERE queue = 'source'", '0', 'a row is sent');
	my ($genuine) = @{ $open->call('ReceiveMessage',
		{ QueueUrl => $open->url('source'), MessageAttributeNames => ['All'], VisibilityTimeout => 0 })->{Messages} };
	my %attributes = %{ $genuine->{MessageAttributes} };
	ok($attributes{'sqsbridge-id'}, 'it has an id of its own');
	my $send = sub {
		my ($body, %a) = @_;
		return ($open->send_messages('forged', { MessageBody => $body, %a ? (MessageAttributes => \%a) : () }))[0];
	};
	my $string = sub { return { DataType => 'String', StringValue => $_[0] } };
	# before and after the one that it belongs to
	$send->('forged before', %attributes);
	$send->('genuine', %attributes);
	$send->('forged after', %attributes);
	$send->('genuine', %attributes, kind => $string->('another order'));
	$send->('genuine', 'sqsbridge-id' => $attributes{'sqsbridge-id'});
	my $id = $send->('by its id');
	$send->('forged id of SQS', 'sqsbridge-id' => $string->($id));
	$send->('forged id of SQS, again', 'sqsbridge-id' => $string->($id));
	my $n = 8;
	$send->("odd $_", 'sqsbridge-id' => $string->($_)), $n++
	  foreach (' ', 'x' x 300, "'; DROP TABLE", '00000000-0000-0000-0000-000000000000', "$id$id", '%', "\x{e9}");
	as('app', "SELECT sqs_enable_queue('forged')");
	query_is($node, "SELECT count(*) FROM app.got WHERE body ~ '^(forged|genuine|by its|odd)'", $n,
		'no message is taken for another because of what its sender says')
	  or diag(super("SELECT body FROM app.got WHERE body ~ '^(forged|genuine|by its|odd)'"));
	$open->is_empty('forged', 'all are deleted');
	# a second copy of the same
	$send->('genuine', %attributes);
	$open->is_empty('forged', 'a copy of what an outbox sent is deleted');
	is(super("SELECT count(*) FROM app.got WHERE body ~ '^(forged|genuine|by its|odd)'"), $n, 'and not handled again');
	super("DELETE FROM app.got WHERE body ~ '^(forged|genuine|by its|odd)'; SELECT sqs_unregister_queue(q) FROM unnest(ARRAY['source', 'forged']) q;
		DROP SERVER open CASCADE");
	$powers = powers();
}
refused($_, 'SELECT token FROM sqs_outbox_failures', qr/^42703|^42501/, 'the ids of messages') foreach ('low', 'nobody_', 'app');

# ---- secrets, and what others may see

foreach my $role (@attackers)
{
	my $all = '';
	as($role, "CREATE TABLE $role.leaked (what text, line text); GRANT ALL ON $role.leaked TO PUBLIC;
		CREATE FUNCTION $role.leak(what text, line text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
		\$\$ BEGIN INSERT INTO $role.leaked VALUES (what, line); RETURN true; END \$\$");
	foreach my $view (grep { $relkind{$_} eq 'v' } @relations)
	{
		# functions that see more than they should would be called for it
		my (undef, $out) = $node->psql('postgres', <<"EOQ", extra_params => [ '-U', $role ]);
SELECT count(*) FROM $view;
SELECT * FROM $view v WHERE $role.leak('$view', v::text);
SELECT count(*) FROM $role.leaked WHERE what = '$view';
EOQ
		my ($seen, $leaked) = (split /\n/, $out)[ 0, -1 ];
		is($leaked, $seen, "$role: no function sees more rows of $view");
		$all .= $out;
	}
	foreach my $query ('SELECT * FROM pg_user_mappings', 'SELECT * FROM pg_stat_activity', 'SELECT * FROM pg_settings',
		'SELECT * FROM pg_foreign_server', 'SELECT * FROM pg_locks',
		# (by PostgreSQL's own rules)
		$role eq 'pwr' ? () : 'SELECT * FROM pg_user_mapping',
		'SELECT * FROM sqs_get_queues()', 'SELECT * FROM sqs_get_failures()', 'SELECT * FROM sqs_get_outbox_failures()',
		'SELECT * FROM sqs_get_outbox()', 'SELECT * FROM sqs_get_dead_letters()', 'SELECT * FROM sqs_get_routes()')
	{
		my (undef, $out, $stderr) = $node->psql('postgres', $query, extra_params => [ '-U', $role ]);
		$all .= "$out$stderr";
	}
	unlike($all, qr/hush-of-/, "$role: sees nobody's keys");
	# it is their right to read, or their own
	next if $role eq 'pwr';
	unlike($all, qr/parked \d/, "$role: sees no rows of the outbox");
	unlike($all, qr/this one is poison/, "$role: nor failures");
	is(as($role, 'SELECT count(last_error) FROM sqs_stats'), '0', "$role: nor errors");
}

# ---- what is not the attacker's

foreach my $role ('nobody_', 'pw', 'dbo')
{
	foreach my $query (
		"INSERT INTO sqs_outbox (queue, body) VALUES ('billing', 'forged')",
		"COPY sqs_outbox (queue, body) FROM stdin;\nbilling\tforged\n\\.\nSELECT",
		"SELECT sqs_enqueue('billing', 'forged')",
		"SELECT sqs_send('billing', 'forged')",
		"SELECT * FROM sqs_send_batch('billing', ARRAY[sqs_outgoing('forged')])",
		"SELECT sqs_register_queue('x', server => 'aws')")
	{
		refused($role, $query, qr/^42501/, $query);
	}
	my $id = super('SELECT max(id) FROM sqs_outbox_failures');
	refused($role, "SELECT sqs_outbox_retry($id)", qr/^(?:42501|42704|02000|P0002)/, 'sqs_outbox_retry()');
	refused($role, "SELECT sqs_outbox_discard($id)", qr/^(?:42501|42704|02000|P0002)/, 'sqs_outbox_discard()');
}
my %given = (id => '1', enqueued_by => "'app'", enqueued_at => 'now()');
refused('low', "INSERT INTO sqs_outbox (queue, body, $_) VALUES ('billing', 'forged', $given{$_})", qr/$_/, "giving the column $_")
  foreach sort keys %given;
foreach my $option (
	"endpoint 'http://127.1:1'", "endpoint 'http://127.0.0.1.evil.example'", "endpoint 'http://user@127.0.0.1'",
	"endpoint 'http://127.0.0.1\@evil.example'", "endpoint 'http://169.254.169.254'", "endpoint 'file:///etc/passwd'",
	"endpoint 'ftp://127.0.0.1'", "endpoint E'https://x\\r\\nHost: y'", "endpoint 'https://x y'", "endpoint ''",
	"region E'us-east-1\\r\\nX: y'", "region 'us-east-1/../x'", "nothing 'x'", "access_key_id 'x'")
{
	my ($error) = attempts('carrier', "CREATE SERVER bad FOREIGN DATA WRAPPER sqsbridge OPTIONS ($option)");
	isnt($error, '', "a server with $option: refused");
}
foreach my $option ("access_key_id E'x\\r\\nX: y', secret_access_key 'y'", "access_key_id 'x', secret_access_key E'y\\n'",
	"access_key_id 'x', secret_access_key 'y', session_token E't\\r\\nX: y'", "access_key_id 'x'", "region 'us-east-1'")
{
	my ($error) = attempts($super, "CREATE USER MAPPING FOR dbo SERVER aws OPTIONS ($option)");
	isnt($error, '', "a mapping with $option: refused");
}
# the host is the server's, whatever a queue's URL says
refused('app', "SELECT sqs_register_queue('elsewhere', server => 'aws', queue_name => '" . $evil->endpoint . "/000000000000/billing')",
	qr/^22023: invalid value for option "queue_name"/, 'the URL of another host');
as('app', "SELECT sqs_register_queue('elsewhere', server => 'aws', queue_name => 'https://sqs.us-east-1.amazonaws.com/000000000000/billing')");
$node->psql('postgres', "SELECT sqs_send('elsewhere', 'to whom?')", extra_params => [ '-U', 'app' ]);
is($evil->stats('billing')->{sent}, 0, "a queue's URL does not choose the host");
ok(scalar(grep { $_->{body} eq 'to whom?' } @{ $sqs->messages('billing') }), "but the server's endpoint");
$sent{'to whom?'} = () = grep { $_->{body} eq 'to whom?' } @{ $sqs->messages('billing') };
as('app', "SELECT sqs_unregister_queue('elsewhere')");
foreach my $role ('nobody_', 'low')
{
	attempts($role, "SELECT sqsbridge_fdw_validator(ARRAY['credentials=environment'], 'pg_foreign_server'::regclass)",
		"SELECT sqsbridge_fdw_validator(ARRAY['x'], 0)", "SELECT sqsbridge_fdw_validator(ARRAY[NULL], 1417)",
		"SELECT sqsbridge_fdw_validator(ARRAY[ARRAY['endpoint=x']], 1417)");
}
traffic_goes_on('in the end');
nobody_climbed('in the end');
is(super("SELECT count(*) FROM sqs_outbox WHERE queue = 'parked'"), '3', 'rows of a queue that is disabled are still there');

$node->stop;
my $log = log_text($node);
unlike($log, qr/hush-of-/, 'no key is in the log');
unlike($log, qr/terminated by signal|exited with exit code [^01]/, 'no process has ended badly');
check_log($node, qr/permission denied to set role "dbo"/, qr/invalid value for parameter "default_table(?:space|_access_method)": "nothing"/,
	qr/\] 030_privileges\.pl (?:ERROR|FATAL|WARNING):/, qr/this one is poison/, qr/canceling autovacuum task$/);

# ---- objects that are there before the extension

{
	my $name = 'before CREATE EXTENSION';
	$node->start;
	super('CREATE DATABASE before OWNER dbo');
	super(<<'EOQ', 'before');
CREATE SCHEMA dbo AUTHORIZATION dbo;
GRANT ALL ON SCHEMA public TO PUBLIC;
SET ROLE dbo;
CREATE SCHEMA sqsbridge_internal;
GRANT ALL ON SCHEMA sqsbridge_internal TO PUBLIC;
EOQ
	my (undef, undef, $stderr) = $node->psql('before', 'CREATE EXTENSION sqsbridge');
	like($stderr, qr/schema "sqsbridge_internal" already exists/, "$name: a schema that is there is not taken over");
	super('DROP SCHEMA sqsbridge_internal', 'before');
	super(<<'EOQ', 'before');
SET ROLE dbo;
CREATE TABLE dbo.ran (what text);
GRANT ALL ON SCHEMA dbo TO PUBLIC;
GRANT INSERT ON dbo.ran TO PUBLIC;
CREATE FUNCTION dbo.climb(what text) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO dbo.ran VALUES (what);
  EXECUTE 'ALTER ROLE dbo SUPERUSER';
  RETURN true;
EXCEPTION WHEN insufficient_privilege THEN
  RETURN true;
END $$;
CREATE FUNCTION public.format(text, text, text) RETURNS text LANGUAGE sql AS 'SELECT dbo.climb(''format'')::text';
CREATE FUNCTION public.quote_ident(text) RETURNS text LANGUAGE sql AS 'SELECT dbo.climb(''quote_ident'')::text';
CREATE FUNCTION public.octet_length(text) RETURNS int LANGUAGE sql AS 'SELECT dbo.climb(''octet_length'')::int';
CREATE FUNCTION public.eq(text, text) RETURNS bool LANGUAGE sql AS 'SELECT dbo.climb(''='')';
CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.eq);
CREATE FUNCTION public.eq(int, int) RETURNS bool LANGUAGE sql AS 'SELECT dbo.climb(''='')';
CREATE OPERATOR public.= (LEFTARG = int, RIGHTARG = int, FUNCTION = public.eq);
CREATE DOMAIN public."interval" AS text CHECK (dbo.climb('interval'));
CREATE DOMAIN public.timestamptz AS text CHECK (dbo.climb('timestamptz'));
CREATE DOMAIN public."text" AS pg_catalog.text CHECK (dbo.climb('text'));
CREATE DOMAIN public."bigint" AS pg_catalog.int8 CHECK (dbo.climb('bigint'));
CREATE DOMAIN public.jsonb AS pg_catalog.jsonb CHECK (dbo.climb('jsonb'));
EOQ
	# what an administrator does who wants low to see everything
	super('ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO low; ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO low;
		ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO low; ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO low;
		ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO low', 'before');
	super('SET search_path = public, pg_catalog; CREATE EXTENSION sqsbridge', 'before');
	nobody_climbed($name);
	is(super('SELECT * FROM dbo.ran', 'before'), '', "$name: nothing of somebody else's has run");
	is( super(<<'EOQ', 'before'), '', "$name: default privileges give nobody anything of the extension's");
SELECT format('%s: %s', pg_describe_object(classid, objid, 0), privilege_type)
FROM pg_depend d
LEFT JOIN pg_class c ON c.oid = objid AND classid = 'pg_class'::regclass
LEFT JOIN pg_namespace n ON n.oid = objid AND classid = 'pg_namespace'::regclass
CROSS JOIN LATERAL aclexplode(COALESCE(relacl, nspacl)) a
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND grantee = 'low'::regrole
EOQ
	my (undef, undef, $error) = $node->psql('before', "SELECT sqs_adopt_queues('discard')", extra_params => [ '-U', 'low' ]);
	like($error, qr/ERROR:.*(?:superuser|permission denied)/, "$name: sqs_adopt_queues() is for superusers, whoever may execute it");
	$node->stop;
}
$sqs->stop_sqs;
done_testing();
